//! What applications and operators do with devices and seeds: register, ask for the first code, remove, make room, and
//! remove the seeds that are left over. All of it is the code of `shared`: `register`, `remove` and `make_room` run in
//! `script`, and an activation is the real settlement, which `activations` compares with the real `activate`.
//!
//! What reads, and then writes under the condition that nothing has changed, is two events. Seeds are not kept here except
//! for the question that matters: whether a device names one that was removed.

use shared::clock::Timestamp;
use shared::device::{Attempt, Device, NewSeed, Status};
use shared::names::WriteId;
use shared::settlement::Settlement;

use crate::model::{Protocol, auth_id};
use crate::part::Part;
use crate::script::Progress;
use crate::sealing::{is_refused, is_resealing};
use crate::state::{
    Action, Answer, Begun, Call, Desk, Event, Issued, Operation, Outcome, Phase, Purpose, Request, Seeds, State, Task,
    UseCase, Write,
};
use crate::{Invariant, Mutant, Setup};

impl Protocol {
    /// Which attempts of activations and events of registrations can come next.
    pub(crate) fn operators_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for seed in state.desk.unwanted.all() {
            actions.push(Action::Discard(seed));
        }
        for (number, request) in state.requests.iter().enumerate() {
            if let (Some(command), Phase::Awaited) = (self.setup.command_of(number), &request.phase) {
                // A command asks again when it has its answer, and ends with its success.
                let auth = self.setup.auths + command;
                let succeeded = state.ledger.successes.iter().any(|(_, _, of)| usize::from(*of) == auth);
                let earlier = state.requests.iter().enumerate().take(number);
                let mut own = earlier.filter(|(earlier, _)| self.setup.command_of(*earlier) == Some(command));
                if !succeeded && own.all(|(_, earlier)| matches!(earlier.phase, Phase::Ended(_))) {
                    self.attempts(state, number, actions);
                }
            }
        }
        for (number, task) in state.desk.tasks.iter().enumerate() {
            let mut push = |event| actions.push(Action::Task(number, event));
            if task.asks.is_some() {
                push(Event::Write);
                if task.lost {
                    push(Event::GiveUp);
                } else if self.may_be_lost(&state.desk, task) {
                    push(Event::Lose);
                }
            } else if !task.over && may_begin(task.use_case, state.table.as_deref()) {
                push(Event::Begin);
            }
            if task.stray.is_some() {
                push(Event::Stray);
            }
        }
    }

    /// Whether the answer to the write of a use case may be lost.
    ///
    /// One thing is left out, which no condition on an item that is gone can prevent: a new device whose answer is lost, that
    /// is removed, and that a late or repeated try of the same write then creates once more, without its seed. Registering
    /// it again gives it another one.
    fn may_be_lost(&self, desk: &Desk, task: &Task) -> bool {
        let creates = matches!(task.asks.as_deref(), Some(Write::Create(_)));
        self.setup.losses && !(creates && self.may_be_removed(desk))
    }

    /// Whether something may still remove the device.
    fn may_be_removed(&self, desk: &Desk) -> bool {
        let removes = |task: &Task| task.use_case != UseCase::Register && !(task.over && task.stray.is_none());
        self.setup.operations.contains(&Operation::Reregister) || desk.tasks.iter().any(removes)
    }

    /// An activation is of any seed that the command may have read as offered, and the code from any app.
    fn attempts(&self, state: &State, request: usize, actions: &mut Vec<Action>) {
        let now = self.setup.clock(request, state.moment);
        let offers = self.setup.offers(request).unwrap_or_default();
        for target in (0..=state.desk.created).filter(|target| self.is_still_offered(state, *target, now)) {
            for (offer, offered) in offers.iter().enumerate() {
                if offered.right.is_none_or(|(seed, _)| state.desk.shown.has(seed)) {
                    actions.push(Action::Activate { request, target, offer });
                }
            }
        }
    }

    /// Whether the device still waits for the first code of a seed, as a command asks before it decides.
    fn is_still_offered(&self, state: &State, target: u8, now: Timestamp) -> bool {
        let Some(device) = &state.table else { return false };
        if state.seed == target {
            return device.status != Status::Active;
        }
        state
            .desk
            .pending
            .is_some_and(|(seed, until)| seed == target && (until > now || self.mutant(Mutant::EndOfOfferNotChecked)))
    }

    /// A code is entered: the command reads the device, decides and holds a write.
    pub(crate) fn activate(&self, state: &mut State, number: usize, target: u8, offer: usize) -> Option<()> {
        let offered = *self.setup.offers(number)?.get(offer)?;
        let now = self.setup.clock(number, state.moment);
        let auth = self.setup.auths + self.setup.command_of(number)?;
        let table = Part::clone(state.table.as_ref()?);
        let expires_at = now.plus(Setup::AUTH_LIFE);
        *state.requests.get_mut(number)? = Request {
            auth: u8::try_from(auth).ok()?,
            issued: Some(Part::new(Issued {
                expires_at,
                snapshot: Part::clone(&table),
                seed: target,
                pending_sealed: state.desk.pending_sealed,
            })),
            offer: Some(offered),
            purpose: Purpose::Activation,
            now,
            ..Request::ended(Outcome::Refused)
        };
        let matched = if self.mutant(Mutant::CodeOfOldSeedActivates) {
            state.seed
        } else {
            target
        };
        let attempt = Attempt {
            auth_id: auth_id(auth),
            expires_at,
            write_id: WriteId::from_bytes([u8::try_from(number).ok()?; 16]),
            matches: offered.matches(matched, now),
        };
        let new = NewSeed {
            seed_ref: self.seed_ref(target)?,
            parameters: Setup::parameters(),
        };
        let mut seen = self.seen(Device::clone(&table), offered.steps().as_slice(), now);
        if let Some(mutant) = self.setup.mutant {
            mutant.seen_by_activation(&mut seen);
        }
        let settlement = Settlement::begin_activation(seen, new, attempt, now, &self.policy);
        if matches!(settlement, Settlement::Write(_)) && self.mutant(Mutant::OldSecretRemovedFirst) {
            self.discard_former(state, number)?;
        }
        self.follow(state, number, settlement)
    }

    /// The secret that an activation has replaced is to be removed, if there is one.
    pub(crate) fn discard_former(&self, state: &mut State, number: usize) -> Option<()> {
        let issued = state.requests.get(number)?.issued.as_ref()?;
        let former = self.number_of(&issued.snapshot)?;
        // A sealed one is gone with the write.
        if former != issued.seed && !self.setup.sealed {
            state.desk.unwanted.add(former);
        }
        Some(())
    }

    /// An activation whose write was not answered reads the device: the write may have activated it.
    pub(crate) fn activation_given_up(&self, state: &mut State, number: usize) -> Option<()> {
        let target = state.requests.get(number)?.issued.as_ref()?.seed;
        let active = state
            .table
            .as_ref()
            .is_some_and(|device| device.status == Status::Active);
        if active && state.seed == target {
            self.discard_former(state, number)?;
        }
        Some(())
    }

    pub(crate) fn discard(state: &mut State, seed: u8) {
        state.desk.unwanted.remove(seed);
        state.desk.removed.add(seed);
    }

    pub(crate) fn task(&self, state: &mut State, number: usize, event: Event) -> Option<()> {
        let task = state.desk.tasks.get_mut(number)?;
        match event {
            Event::Begin => self.begin(state, number),
            Event::Write => {
                let write = task.asks.take()?;
                let answer = self.store(state, &write)?;
                self.go_on(state, number, answer)
            }
            Event::Lose => {
                task.stray.clone_from(&task.asks);
                task.lost = true;
                Some(())
            }
            Event::Stray => {
                let write = task.stray.take()?;
                self.store(state, &write)?;
                Some(())
            }
            Event::GiveUp => {
                task.asks = None;
                self.go_on(state, number, Answer::Lost)
            }
        }
    }

    fn begin(&self, state: &mut State, number: usize) -> Option<()> {
        if is_resealing(state.desk.tasks.get(number)?) {
            return Self::begin_resealing(state, number);
        }
        let (read, at) = (state.item(), self.setup.time(state.moment));
        let desk = &mut state.desk;
        let task = desk.tasks.get_mut(number)?;
        let mut seed = 0;
        if task.use_case == UseCase::Register {
            desk.created += 1;
            seed = desk.created;
            if self.mutant(Mutant::FormerOfferRemovedFirst)
                && let Some((former, _)) = desk.pending
            {
                desk.unwanted.add(former);
            }
        }
        task.begun = Some(Part::new(Begun { read, seed, at }));
        self.until_it_writes(state, number)
    }

    fn go_on(&self, state: &mut State, number: usize, answer: Answer) -> Option<()> {
        let task = state.desk.tasks.get_mut(number)?;
        if is_resealing(task) {
            task.over = true;
            return Some(());
        }
        task.answers.push(answer);
        self.until_it_writes(state, number)
    }

    /// What it reads, it reads at once: a refused write changes nothing, so it might as well have been refused just before.
    fn until_it_writes(&self, state: &mut State, number: usize) -> Option<()> {
        let stored = state.item();
        let desk = &mut state.desk;
        let task = desk.tasks.get_mut(number)?;
        loop {
            match self.run(task)? {
                Progress::Asks(Call::Read) => task.answers.push(Answer::Is(stored.clone())),
                Progress::Asks(Call::Write(write)) => {
                    task.asks = Some(Part::new(write));
                    return Some(());
                }
                Progress::Ends(done, leftovers) => {
                    task.over = true;
                    if let (true, UseCase::Register, Some(begun)) = (done, task.use_case, &task.begun) {
                        desk.shown.add(begun.seed);
                    }
                    let kept = leftovers.kept.iter().map(|(seed, _)| seed);
                    let kept = kept.filter(|_| self.mutant(Mutant::UnansweredOfferRemoved));
                    for seed in leftovers.unwanted.iter().chain(kept) {
                        desk.unwanted.add(self.number_of_secret(seed)?);
                    }
                    return Some(());
                }
            }
        }
    }

    /// The table's part of a write.
    fn store(&self, state: &mut State, write: &Write) -> Option<Answer> {
        let mut item = state.item();
        let answer = self.make(&mut item, write)?;
        let removed = item.is_none();
        if let (true, Some(device)) = (removed, &state.table) {
            state.ledger.device_removed(device);
        }
        state.desk.pending = item.as_ref().and_then(|item| item.pending);
        state.desk.pending_sealed = item.as_ref().and_then(|item| item.pending_sealed);
        state.table = item.map(|item| item.device);
        if let Some(device) = &state.table {
            state.seed = self.number_of(device)?;
        }
        Some(answer)
    }

    /// A device is removed, with what it names.
    pub(crate) fn discard_all(&self, state: &mut State) {
        if self.setup.has_operators() {
            state.desk.unwanted.add(state.seed);
            state.desk.pending_sealed = None;
            if let Some((pending, _)) = state.desk.pending.take() {
                state.desk.unwanted.add(pending);
            }
        }
    }

    /// Drops what no longer matters: writes that the table will refuse, and seeds that nothing can name.
    pub(crate) fn forget_tasks(&self, state: &mut State) {
        let conditional = !matches!(
            self.setup.mutant,
            Some(Mutant::DeleteWithoutCondition | Mutant::EvictionWithoutCondition)
        );
        let mut named = Seeds::of(state.seed);
        if let Some((pending, _)) = state.desk.pending {
            named.add(pending);
        }
        for request in &state.requests {
            let writes = matches!(request.phase, Phase::Writing(_)) || request.stray.is_some();
            if let (true, true, Some(issued)) = (writes, request.activates(), &request.issued) {
                named.add(issued.seed);
            }
        }
        let table = state.table.as_ref();
        let pending_sealed = state.desk.pending_sealed;
        for task in &mut state.desk.tasks {
            let refused = task.stray.as_deref().is_some_and(|write| match (write, table) {
                // Nothing removes the device any more: see `may_be_lost`.
                (Write::Create(_), stored) => stored.is_some(),
                (_, None) => true,
                (Write::RemoveSeeded(seed), Some(stored)) => stored.seed_ref != *seed,
                (
                    Write::Reseed { held, .. } | Write::SetPending { held, .. } | Write::RemoveHeld(held),
                    Some(stored),
                ) => stored.seed_ref != held.seed_ref || stored.version > held.version,
                (Write::Reseal { held, .. }, Some(stored)) => is_refused(stored, pending_sealed, *held),
            });
            if refused && conditional {
                task.stray = None;
            }
            if task.over {
                task.answers.clear();
                if task.stray.is_none() {
                    task.begun = None;
                    task.lost = false;
                }
            }
            if let Some(begun) = &task.begun {
                named.add(begun.seed);
            }
        }
        let desk = &mut state.desk;
        for seeds in [&mut desk.unwanted, &mut desk.removed] {
            seeds.keep(named);
        }
    }

    /// Checks what an event did to the device's seed and status against the invariants.
    pub(crate) fn watch(before: &State, after: &mut State, action: Action) {
        if let (Some(was), None, Action::Task(number, _)) = (&before.table, &after.table, action) {
            let task = before.desk.tasks.get(number);
            let read = task.and_then(|task| task.begun.as_ref()?.read.as_ref());
            let anew = read.is_none_or(|read| Setup::registration_of(&read.device) != Setup::registration_of(was));
            let evicts = task.is_some_and(|task| task.use_case == UseCase::Evict);
            if anew || evicts && was.status != Status::ActivationRequired {
                after.ledger.broken.add(Invariant::OldSeedWorks);
            }
            if was.status == Status::Disabled {
                after.ledger.broken.add(Invariant::Revoked);
            }
        }
        let (Some(was), Some(is)) = (&before.table, after.table.clone()) else {
            return;
        };
        let broken = &mut after.ledger.broken;
        let by_operator = matches!(
            action,
            Action::Operate(Operation::SwapSeed | Operation::Disable | Operation::Enable)
        );
        // Until it is in use, an operator may give it another seed.
        let never_in_use = was.status == Status::ActivationRequired && is.status == was.status;
        let activated = after.ledger.activated != before.ledger.activated;
        let (swapped, changed) = (was.seed_ref != is.seed_ref, was.status != is.status);
        if (swapped || changed) && !(by_operator || never_in_use || activated) {
            broken.add(Invariant::Activated);
        }
        if was.status == Status::Active && is.status != Status::Active && !by_operator {
            broken.add(Invariant::OldSeedWorks);
        }
        let desk = &after.desk;
        let pending = desk.pending.map(|(pending, _)| pending);
        if desk.removed.has(after.seed) || pending.is_some_and(|pending| desk.removed.has(pending)) {
            broken.add(Invariant::SeedThere);
        }
    }
}

/// Whether a use case finds something to do.
fn may_begin(use_case: UseCase, device: Option<&Device>) -> bool {
    let status = device.map(|device| device.status);
    match use_case {
        UseCase::Register => status != Some(Status::Disabled),
        UseCase::Remove => status.is_some_and(|status| status != Status::Disabled),
        UseCase::Evict => status == Some(Status::ActivationRequired),
        UseCase::Reseal => status.is_some(),
    }
}

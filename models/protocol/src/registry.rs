//! What operators do with seeds: offer one, ask for its first code, and remove the secret of the one that it replaced.
//! A model of `register` and `activate` of `mfactl`; the decision and its recovery are the real ones.
//!
//! A command that reads, and then writes under the condition that nothing has changed, is two events. Secrets are not
//! kept here except for the question that matters: whether a device names one that was removed.

use shared::clock::Timestamp;
use shared::device::{Attempt, Device, NewSeed, Status};
use shared::names::WriteId;
use shared::settlement::Settlement;

use crate::model::{Protocol, auth_id};
use crate::part::Part;
use crate::state::{
    Action, Desk, Event, Issued, Operation, Outcome, Phase, Purpose, Registration, RegistrationPhase, RegistryWrite,
    Request, Seeds, State,
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
        let registers = state
            .table
            .as_ref()
            .is_some_and(|device| device.status != Status::Disabled);
        for (number, registration) in state.desk.registrations.iter().enumerate() {
            let mut push = |event| actions.push(Action::Registration(number, event));
            match registration.phase {
                RegistrationPhase::Awaited if registers => push(Event::Begin),
                RegistrationPhase::Offering(_) | RegistrationPhase::Swapping(_) => {
                    push(Event::Write);
                    if self.setup.losses && !registration.lost {
                        push(Event::Lose);
                    }
                    if registration.lost {
                        push(Event::GiveUp);
                    }
                }
                RegistrationPhase::Awaited | RegistrationPhase::Over => {}
            }
            if registration.stray.is_some() {
                push(Event::Stray);
            }
        }
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
        if former != issued.seed {
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

    pub(crate) fn registration(&self, state: &mut State, number: usize, event: Event) -> Option<()> {
        let registration = state.desk.registrations.get(number)?.clone();
        match (event, &registration.phase) {
            (Event::Begin, _) => self.begin_registration(state, number),
            (Event::Write, RegistrationPhase::Offering(write)) => {
                if self.offered(state, write)? {
                    self.go_on(state, number)
                } else {
                    Self::end_registration(state, number, Some(registration.seed))
                }
            }
            (Event::Write, RegistrationPhase::Swapping(write)) => {
                if self.swapped(state, write)? {
                    self.finish(state, number, write)
                } else {
                    Self::end_registration(state, number, None)
                }
            }
            (Event::Lose, RegistrationPhase::Offering(write) | RegistrationPhase::Swapping(write)) => {
                let registration = state.desk.registrations.get_mut(number)?;
                registration.stray = Some(Part::clone(write));
                registration.lost = true;
                Some(())
            }
            (Event::Stray, _) => {
                let write = state.desk.registrations.get_mut(number)?.stray.take()?;
                if write.pending.is_some() {
                    self.offered(state, &write)?;
                } else {
                    self.swapped(state, &write)?;
                }
                Some(())
            }
            (Event::GiveUp, RegistrationPhase::Offering(write)) => {
                let seed = registration.seed;
                if state.desk.pends(seed) || state.table.is_some() && state.seed == seed {
                    self.go_on(state, number)
                } else {
                    // A secret stays if the write that names it may still take effect.
                    let table = state.table.as_ref();
                    let may_come = table.is_some_and(|stored| self.condition(stored, &write.held));
                    let may_come = may_come && !self.mutant(Mutant::UnansweredOfferRemoved);
                    Self::end_registration(state, number, (!may_come).then_some(seed))
                }
            }
            (Event::GiveUp, RegistrationPhase::Swapping(write)) => {
                if state.table.is_some() && state.seed == registration.seed {
                    self.finish(state, number, write)
                } else {
                    Self::end_registration(state, number, None)
                }
            }
            _ => None,
        }
    }

    fn begin_registration(&self, state: &mut State, number: usize) -> Option<()> {
        let held = Part::clone(state.table.as_ref()?);
        state.desk.created += 1;
        let seed = state.desk.created;
        let status = if self.mutant(Mutant::OfferSuspends) {
            Status::ActivationRequired
        } else {
            held.status
        };
        let write = RegistryWrite {
            new: Device {
                version: held.version + 1,
                status,
                ..Device::clone(&held)
            },
            held,
            pending: Some((seed, self.setup.time(state.moment).plus(Setup::PENDING_LIFE))),
        };
        let former = state.desk.pending.map(|(former, _)| former);
        if let (Some(former), true) = (former, self.mutant(Mutant::FormerOfferRemovedFirst)) {
            state.desk.unwanted.add(former);
        }
        let registration = state.desk.registrations.get_mut(number)?;
        registration.seed = seed;
        registration.former = former;
        registration.phase = RegistrationPhase::Offering(Part::new(write));
        Some(())
    }

    /// The table's part of an offer; whether it is named, by this try or by one before.
    fn offered(&self, state: &mut State, write: &RegistryWrite) -> Option<bool> {
        let (seed, _) = write.pending?;
        if self.registry_write(state, write, |_| true) {
            return Some(true);
        }
        Some(state.table.is_some() && state.desk.pends(seed))
    }

    /// The table's part of a swap of a device that was never in use; whether it took effect, by this try or before.
    fn swapped(&self, state: &mut State, write: &RegistryWrite) -> Option<bool> {
        let seed = self.number_of(&write.new)?;
        if self.registry_write(state, write, |desk| desk.pends(seed)) {
            state.seed = seed;
            return Some(true);
        }
        Some(state.table.as_deref() == Some(&write.new))
    }

    fn registry_write(&self, state: &mut State, write: &RegistryWrite, condition: impl Fn(&Desk) -> bool) -> bool {
        let met = state
            .table
            .as_ref()
            .is_some_and(|stored| self.condition(stored, &write.held));
        if met && condition(&state.desk) {
            state.table = Some(Part::new(write.new.clone()));
            state.desk.pending = write.pending;
            return true;
        }
        false
    }

    /// The seed is named as pending.
    fn go_on(&self, state: &mut State, number: usize) -> Option<()> {
        let registration = state.desk.registrations.get_mut(number)?;
        let RegistrationPhase::Offering(write) = &registration.phase else {
            return None;
        };
        if let Some(former) = registration.former {
            state.desk.unwanted.add(former);
        }
        if write.held.status != Status::ActivationRequired {
            state.desk.shown.add(registration.seed);
            return Self::end_registration(state, number, None);
        }
        let held = Device {
            version: write.held.version + 1,
            ..Device::clone(&write.held)
        };
        let new = Device {
            version: held.version + 1,
            seed_ref: self.seed_ref(registration.seed)?,
            ..held.clone()
        };
        registration.phase = RegistrationPhase::Swapping(Part::new(RegistryWrite {
            held: Part::new(held),
            new,
            pending: None,
        }));
        registration.lost = false;
        Some(())
    }

    /// The seed is the device's own.
    fn finish(&self, state: &mut State, number: usize, write: &RegistryWrite) -> Option<()> {
        let seed = state.desk.registrations.get(number)?.seed;
        state.desk.shown.add(seed);
        let former = self.number_of(&write.held)?;
        Self::end_registration(state, number, Some(former))
    }

    fn end_registration(state: &mut State, number: usize, unwanted: Option<u8>) -> Option<()> {
        if let Some(seed) = unwanted {
            state.desk.unwanted.add(seed);
        }
        state.desk.registrations.get_mut(number)?.phase = RegistrationPhase::Over;
        Some(())
    }

    /// A device is removed, with what it names.
    pub(crate) fn discard_all(&self, state: &mut State) {
        if self.setup.has_operators() {
            state.desk.unwanted.add(state.seed);
            if let Some((pending, _)) = state.desk.pending.take() {
                state.desk.unwanted.add(pending);
            }
        }
    }

    /// Drops what no longer matters: writes that the table will refuse, and seeds that nothing can name.
    pub(crate) fn forget_registrations(state: &mut State) {
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
        for registration in &mut state.desk.registrations {
            let table = state.table.as_ref();
            let refused = |held: &Device| {
                table.is_none_or(|stored| stored.seed_ref != held.seed_ref || stored.version > held.version)
            };
            if registration.stray.as_ref().is_some_and(|write| refused(&write.held)) {
                registration.stray = None;
            }
            match registration.phase {
                RegistrationPhase::Over if registration.stray.is_none() => {
                    *registration = Registration::of(RegistrationPhase::Over);
                }
                RegistrationPhase::Awaited => {}
                _ => named.add(registration.seed),
            }
        }
        let desk = &mut state.desk;
        for seeds in [&mut desk.unwanted, &mut desk.removed] {
            seeds.keep(named);
        }
    }

    /// Checks what an event did to the device's seed and status against the invariants.
    pub(crate) fn watch(before: &State, after: &mut State, action: Action) {
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

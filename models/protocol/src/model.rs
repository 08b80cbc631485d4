//! The model: a table with one device, authIds with their snapshots, requests in progress, and a ledger of what was
//! promised to whom.
//!
//! A request reads its auth, decides and holds a write; none of that depends on anything that changes, so it is one event.
//! Its write is another, and so is a write whose answer is lost: it takes effect immediately, later, after its own
//! repetition, or never.

use shared::clock::Timestamp;
use shared::device::{Attempt, Auth, Decision, Device, Status, Verdict, decide};
use shared::names::{
    AuthId, DeviceKey, DeviceName, NameError, Owner, SealedId, SecretVersion, SeedRef, UserName, WriteId,
};
use shared::otp::{Matches, OfferKind, Step};
use shared::policy::Policy;
use shared::ports::Written;
use shared::settlement::{DeviceWrite, Settlement};
use stateright::{Model, Property};

use crate::part::Part;
use crate::state::{Action, Desk, Effect, Issued, Ledger, Operation, Outcome, Phase, Request, State};
use crate::{Invariant, Mutant, Setup};

/// The protocol in a setup.
#[derive(Debug, Clone)]
pub struct Protocol {
    pub(crate) setup: Setup,
    pub(crate) policy: Policy,
    pub(crate) key: DeviceKey,
    another: Owner,
    seeds: Vec<SeedRef>,
}

impl Protocol {
    /// In a setup.
    ///
    /// # Errors
    /// Never: the names are well formed.
    pub fn new(setup: Setup) -> Result<Self, NameError> {
        let sealed = setup.sealed;
        Ok(Self {
            setup,
            policy: Policy::standard(),
            key: DeviceKey {
                owner: Owner::parse("one")?,
                user: UserName::parse("user")?,
                device: DeviceName::parse("device")?,
            },
            another: Owner::parse("another")?,
            seeds: (0..8)
                .map(|number| {
                    if sealed {
                        return Ok(SeedRef::Sealed(SealedId::from_random_bytes([number; 16])));
                    }
                    SeedRef::new(&format!("seed/{number}"), &format!("version-{}", number + 1))
                })
                .collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn mutant(&self, mutant: Mutant) -> bool {
        self.setup.mutant == Some(mutant)
    }

    pub(crate) fn seed_ref(&self, seed: u8) -> Option<SeedRef> {
        self.seeds.get(usize::from(seed)).cloned()
    }

    pub(crate) fn number_of(&self, device: &Device) -> Option<u8> {
        self.number(&device.seed_ref)
    }

    pub(crate) fn number(&self, seed: &SeedRef) -> Option<u8> {
        let position = self.seeds.iter().position(|one| one == seed)?;
        u8::try_from(position).ok()
    }

    pub(crate) fn number_of_secret(&self, secret: &SecretVersion) -> Option<u8> {
        let position = self.seeds.iter().position(|one| one.secret() == Some(secret))?;
        u8::try_from(position).ok()
    }

    fn first_device(&self) -> Option<Device> {
        let now = self.setup.time(0);
        let used = self.policy.single_slack() + self.policy.refill();
        let left = self.policy.refill().saturating_mul(self.setup.singles_left);
        let registered = Device::registered(0, self.setup.first, self.seed_ref(0)?, Setup::parameters());
        Some(Device {
            sealed: self.seal(0),
            consecutive_failures: self.setup.failed_before,
            budget_at: now.plus(used).minus(left),
            ..registered
        })
    }

    pub(crate) fn act(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Issue(auth) => self.issue(state, auth),
            Action::Arrive { request, auth, offer } => self.arrive(state, request, auth, offer),
            Action::Activate { request, target, offer } => self.activate(state, request, target, offer),
            Action::Task(number, event) => self.task(state, number, event),
            Action::Discard(seed) => {
                Self::discard(state, seed);
                Some(())
            }
            Action::Write(number) => self.write(state, number),
            Action::Lose(number) => {
                let request = state.requests.get_mut(number)?;
                let Phase::Writing(write) = &request.phase else {
                    return None;
                };
                request.stray = Some(Part::clone(write));
                request.lost = true;
                Some(())
            }
            Action::Stray(number) => {
                let write = state.requests.get_mut(number)?.stray.take()?;
                self.deliver(state, number, &write)?;
                Some(())
            }
            Action::GiveUp(number) => {
                let outcome = match self.setup.mutant {
                    Some(Mutant::FaultIsWrongCode) => Outcome::Verdict(Verdict::Rejected),
                    _ => Outcome::Unavailable,
                };
                if state.requests.get(number)?.activates() {
                    self.activation_given_up(state, number)?;
                }
                self.end(state, number, outcome)
            }
            Action::Operate(operation) => self.operate(state, operation),
            Action::Register => {
                state.table = Some(Part::new(Device::registered(
                    0,
                    Status::Active,
                    self.seed_ref(state.seed)?,
                    Setup::parameters(),
                )));
                Some(())
            }
            Action::Tick => {
                state.moment += 1;
                Some(())
            }
            Action::SetBack => {
                state.latest = state.moment;
                state.moment = state.moment.checked_sub(1)?;
                state.set_back = true;
                Some(())
            }
        }
    }

    fn issue(&self, state: &mut State, auth: usize) -> Option<()> {
        let issued = Issued {
            expires_at: self.setup.time(state.moment).plus(Setup::AUTH_LIFE),
            snapshot: Part::clone(state.table.as_ref()?),
            seed: state.seed,
            pending_sealed: None,
        };
        *state.auths.get_mut(auth)? = Some(Part::new(issued));
        Some(())
    }

    fn arrive(&self, state: &mut State, number: usize, auth: usize, offer: usize) -> Option<()> {
        let issued = Part::clone(state.auths.get(auth)?.as_ref()?);
        let offered = *self.setup.requests.get(number)?.get(offer)?;
        let now = self.setup.clock(number, state.moment);
        *state.requests.get_mut(number)? = Request {
            auth: u8::try_from(auth).ok()?,
            issued: Some(Part::clone(&issued)),
            offer: Some(offered),
            now,
            ..Request::ended(Outcome::Refused)
        };
        let read = Auth {
            id: auth_id(auth),
            key: self.key.clone(),
            issued_at: issued.expires_at.minus(Setup::AUTH_LIFE),
            expires_at: issued.expires_at,
            device: Device::clone(&issued.snapshot),
        };
        let caller = if offered.foreign {
            &self.another
        } else {
            &self.key.owner
        };
        if !read.belongs_to(caller) && !self.mutant(Mutant::ClientNotCompared) {
            return Some(());
        }
        let writer = if self.mutant(Mutant::WriteIdByCaller) {
            auth
        } else {
            number
        };
        let attempt = Attempt {
            auth_id: read.id,
            expires_at: match self.setup.mutant {
                Some(Mutant::ExpiryByDeletionAlone) => Timestamp::from_millis(u64::MAX),
                _ => read.expires_at,
            },
            write_id: WriteId::from_bytes([u8::try_from(writer).ok()?; 16]),
            matches: offered.matches(issued.seed, now),
        };
        let snapshot = self.seen(read.device, offered.steps().as_slice(), now);
        let settlement = Settlement::begin(snapshot, attempt, now, &self.policy);
        if let (true, Settlement::Write(write)) = (self.mutant(Mutant::VerdictBeforeWrite), &settlement) {
            self.end(state, number, Outcome::Verdict(write.verdict()))?;
            state.requests.get_mut(number)?.stray = Some(Part::new(DeviceWrite::clone(write)));
            return Some(());
        }
        self.follow(state, number, settlement)
    }

    pub(crate) fn seen(&self, mut device: Device, offered: &[Step], now: Timestamp) -> Device {
        if let Some(mutant) = self.setup.mutant {
            mutant.seen(&mut device, offered, now);
        }
        device
    }

    pub(crate) fn follow(&self, state: &mut State, number: usize, settlement: Settlement) -> Option<()> {
        let outcome = match settlement {
            Settlement::Write(write) => {
                let request = state.requests.get_mut(number)?;
                request.phase = Phase::Writing(Part::new(*write));
                request.answered = false;
                return Some(());
            }
            Settlement::Verdict(verdict, _) => Outcome::Verdict(verdict),
            Settlement::Refused(_) | Settlement::AlreadyActive => Outcome::Refused,
            Settlement::Gone | Settlement::Superseded => Outcome::Revoked,
            Settlement::Contention => Outcome::Unavailable,
        };
        self.end(state, number, outcome)
    }

    fn write(&self, state: &mut State, number: usize) -> Option<()> {
        let request = state.requests.get_mut(number)?;
        let Phase::Writing(write) = request.phase.clone() else {
            return None;
        };
        request.answered = true;
        if self.mutant(Mutant::CounterByReadThenWrite) && write.verdict() != Verdict::Accepted {
            return self.count_by_read_then_write(state, number, &write);
        }
        let (now, offered, activates) = (request.now, request.offer?.steps(), request.activates());
        let written = match self.deliver(state, number, &write)? {
            Written::Yes => Written::Yes,
            Written::No(None) => Written::No(None),
            Written::NotPending => Written::NotPending,
            Written::No(Some(stored)) => {
                let mut seen = self.seen(*stored, &offered, now);
                if let Some(mutant) = self.setup.mutant {
                    mutant.seen_after_refusal(&mut seen, write.held());
                    if activates {
                        mutant.seen_by_activation(&mut seen);
                    }
                }
                Written::No(Some(Box::new(seen)))
            }
        };
        self.follow(state, number, DeviceWrite::clone(&write).after(written, &self.policy))
    }

    fn count_by_read_then_write(&self, state: &mut State, number: usize, write: &DeviceWrite) -> Option<()> {
        let request = state.requests.get_mut(number)?;
        let Some(read) = request.counts_on.take() else {
            request.counts_on.clone_from(&state.table);
            return Some(());
        };
        let counted = Device {
            version: read.version + 1,
            total_failures: read.total_failures + 1,
            ..Device::clone(&read)
        };
        state.table = Some(Part::new(counted));
        self.end(state, number, Outcome::Verdict(write.verdict()))
    }

    /// The table's part of a write: its condition, then all or nothing.
    fn deliver(&self, state: &mut State, number: usize, write: &DeviceWrite) -> Option<Written> {
        let Some(stored) = state.table.clone() else {
            return Some(Written::No(None));
        };
        let replacement = self.number_of(write.replacement())?;
        let swaps = write.replacement().seed_ref != write.held().seed_ref;
        let pends = match self.setup.mutant {
            Some(Mutant::PendingNotInCondition) => true,
            Some(Mutant::SwapWritesWhatItRead) => state.desk.pending.is_some(),
            _ => state.desk.pends(replacement),
        };
        if swaps && !pends && stored.seed_ref == write.held().seed_ref {
            return Some(Written::NotPending);
        }
        if !self.condition(&stored, write.held()) {
            return Some(Written::No(Some(Box::new(Device::clone(&stored)))));
        }
        let request = state.requests.get(number)?;
        let (kind, activates) = (request.offer?.kind, request.activates());
        let read = request.issued.as_ref()?.pending_sealed;
        let mut new = write.replacement().clone();
        new.sealed = self.sealed_after(state, swaps, new.sealed, read);
        if let Some(mutant) = self.setup.mutant {
            mutant.written(&mut new, write, kind, request.now);
            if activates {
                mutant.written_by_activation(&mut new, write);
            }
        }
        self.book(state, number, write.verdict(), &stored, &new)?;
        state.table = Some(Part::new(new));
        state.seed = replacement;
        if swaps {
            state.desk.pending = None;
            state.desk.pending_sealed = None;
        }
        Some(Written::Yes)
    }

    pub(crate) fn condition(&self, stored: &Device, held: &Device) -> bool {
        match self.setup.mutant {
            Some(mutant) => mutant.condition(stored, held),
            None => stored.version == held.version && stored.seed_ref == held.seed_ref,
        }
    }

    /// Enters a write that takes effect into the ledger, and checks it against the invariants.
    fn book(&self, state: &mut State, number: usize, verdict: Verdict, stored: &Device, new: &Device) -> Option<()> {
        let request = state.requests.get(number)?;
        let offer = request.offer?;
        let issued = Part::clone(request.issued.as_ref()?);
        let (auth, phase) = (request.auth, request.phase.clone());
        let broken = &mut state.ledger.broken;
        if offer.foreign {
            broken.add(Invariant::Isolated);
        }
        if request.now >= issued.expires_at {
            broken.add(Invariant::Expires);
        }
        let in_use =
            stored.status == Status::Active || request.activates() && stored.status == Status::ActivationRequired;
        if !in_use || stored.seed_ref != issued.snapshot.seed_ref {
            broken.add(Invariant::Revoked);
        }
        if self.opens_what_is_closed(request, verdict, stored, new) {
            broken.add(Invariant::LockHolds);
        }
        let own = usize::from(auth);
        let again = request.effect == Effect::Failure && state.ledger.last_writer == Some(number);
        if verdict != Verdict::Accepted && again {
            broken.add(Invariant::CountedOnce);
        }
        match (verdict, offer.kind) {
            (Verdict::Accepted, _) => {
                let steps = offer.steps();
                let earlier = state.ledger.successes.iter().filter(|(seed, ..)| *seed == issued.seed);
                for (_, used, _) in earlier {
                    if steps.iter().any(|step| used.contains(step)) {
                        broken.add(Invariant::StepOnce);
                    }
                    if steps.iter().min() <= used.iter().max() {
                        broken.add(Invariant::Forward);
                    }
                }
                if state.ledger.successes.iter().any(|(_, _, of)| *of == auth) {
                    broken.add(Invariant::AuthOnce);
                }
                // A code of no step, or of another seed, was accepted.
                if offer.right.is_none_or(|(seed, _)| seed != issued.seed) {
                    broken.add(Invariant::Counted);
                }
                // Reported otherwise before it took effect; a 503 promises nothing.
                if matches!(phase, Phase::Ended(outcome) if outcome != Outcome::Unavailable && outcome != Outcome::Verdict(verdict))
                {
                    broken.add(Invariant::Reported);
                }
                // Two operators may each enter a good code of one seed; the second finds the device active.
                let active = stored.status == Status::Active && self.number_of(stored)? == issued.seed;
                if request.activates() && !active {
                    if !self.may_activate(state, number, stored)? {
                        state.ledger.broken.add(Invariant::Activated);
                    }
                    state.ledger.activated.add(issued.seed);
                }
                state.ledger.successes.push((issued.seed, steps, auth));
                *state.ledger.singles.get_mut(own)? = 0;
                state.requests.get_mut(number)?.effect = Effect::Success;
            }
            (Verdict::Rejected | Verdict::Replayed, OfferKind::Single) => {
                *state.ledger.singles.get_mut(own)? += 1;
                if state.ledger.singles.iter().sum::<u32>() > state.ledger.singles_allowed {
                    broken.add(Invariant::Counted);
                }
            }
            (Verdict::Rejected | Verdict::Replayed, OfferKind::Pair) => {
                let opens = |device: &Device| device.single_codes_at(&self.policy);
                if opens(new) != opens(stored) {
                    broken.add(Invariant::OwnerGetsIn);
                }
            }
        }
        let effect = &mut state.requests.get_mut(number)?.effect;
        if verdict != Verdict::Accepted && *effect == Effect::None {
            *effect = Effect::Failure;
        }
        state.ledger.last_writer = Some(number);
        Some(())
    }

    /// Whether an attempt may activate a seed: the device still waits for it, and the code is one of its codes.
    fn may_activate(&self, state: &State, number: usize, stored: &Device) -> Option<bool> {
        let request = state.requests.get(number)?;
        let seed = request.issued.as_ref()?.seed;
        let waits = if self.number_of(stored)? == seed {
            stored.status == Status::ActivationRequired
        } else {
            let pending = state.desk.pending;
            pending.is_some_and(|(pending, until)| pending == seed && request.now < until)
        };
        let by_its_code = request.offer?.right.is_some_and(|(of, _)| of == seed);
        Some(waits && by_its_code && !state.ledger.activated.has(seed))
    }

    /// Whether a write passes the gate of single codes while it is closed, or opens a gate that only time, an operator or,
    /// of the ladder, a success opens.
    fn opens_what_is_closed(&self, request: &Request, verdict: Verdict, stored: &Device, new: &Device) -> bool {
        let single = request.offer.is_some_and(|offer| offer.kind == OfferKind::Single);
        let passes = single && !stored.single_codes_open(request.now, &self.policy);
        let opens = if verdict == Verdict::Accepted {
            let own = stored.failures_of(auth_id(usize::from(request.auth)));
            new.budget_at < stored.budget_at.minus(self.policy.refill().saturating_mul(own))
        } else {
            let never = Timestamp::from_millis(u64::MAX);
            let opening = |device: &Device| device.single_codes_at(&self.policy).unwrap_or(never);
            opening(new) < opening(stored)
        };
        passes || opens || new.pair_at < stored.pair_at
    }

    /// A request gets its answer.
    fn end(&self, state: &mut State, number: usize, outcome: Outcome) -> Option<()> {
        let counted = state.ledger.counted_before + state.table.as_ref().map_or(0, |device| device.total_failures);
        let request = state.requests.get_mut(number)?;
        request.phase = Phase::Ended(outcome);
        let broken = &mut state.ledger.broken;
        if matches!(outcome, Outcome::Verdict(_)) && !request.answered {
            broken.add(Invariant::NoVerdictFromFaults);
        }
        match outcome {
            Outcome::Verdict(Verdict::Accepted) if request.effect == Effect::Success => {}
            Outcome::Verdict(Verdict::Accepted) => broken.add(Invariant::Reported),
            Outcome::Verdict(Verdict::Rejected | Verdict::Replayed) => {
                state.ledger.wrong_given += 1;
                if state.ledger.wrong_given > counted {
                    broken.add(Invariant::Counted);
                }
                if request.effect == Effect::Success {
                    broken.add(Invariant::Reported);
                }
            }
            Outcome::Refused if request.effect == Effect::Success => broken.add(Invariant::Reported),
            Outcome::Refused | Outcome::Revoked | Outcome::Unavailable => {}
        }
        // The device would have had to be revoked after the success; and if it is now, it was.
        let device = state.table.as_ref();
        let issued = request.issued.as_ref()?;
        // An activation is superseded as soon as the device no longer waits for its seed.
        let same = if request.activates() {
            device.is_some_and(|device| match device.status {
                Status::ActivationRequired => state.seed == issued.seed,
                Status::Active => state.desk.pends(issued.seed),
                Status::Disabled => false,
            })
        } else {
            device.is_some_and(|device| device.seed_ref == issued.snapshot.seed_ref)
        };
        if outcome == Outcome::Revoked && same {
            broken.add(Invariant::Reported);
        }
        if outcome == Outcome::Verdict(Verdict::Accepted) && request.activates() {
            self.discard_former(state, number)?;
        }
        Some(())
    }

    fn operate(&self, state: &mut State, operation: Operation) -> Option<()> {
        state.operations.retain(|left| *left != operation);
        let device = Device::clone(state.table.as_ref()?);
        let version = device.version + 1;
        let changed = match operation {
            Operation::Reregister => {
                state.ledger.device_removed(&device);
                self.discard_all(state);
                state.desk.created += 1;
                state.seed = state.desk.created;
                state.desk.shown.add(state.seed);
                None
            }
            Operation::SwapSeed => {
                state.desk.created += 1;
                state.seed = state.desk.created;
                Some(Device {
                    version,
                    seed_ref: self.seed_ref(state.seed)?,
                    ..device
                })
            }
            Operation::Unlock => {
                // `mfactl unlock` opens so many of those that were used up.
                state.ledger.singles_allowed = state
                    .ledger
                    .singles_allowed
                    .max(state.ledger.singles.iter().sum::<u32>() + 6);
                Some(device.unlocked(self.setup.time(state.moment), &self.policy))
            }
            Operation::Disable => Some(Device {
                version,
                status: Status::Disabled,
                ..device
            }),
            Operation::Enable => Some(Device {
                version,
                status: Status::Active,
                ..device
            }),
        };
        state.table = changed.map(Part::new);
        Some(())
    }

    /// Drops what no longer matters, so that states which differ in nothing else are one.
    fn forget(&self, state: &mut State) {
        let conditional = !matches!(
            self.setup.mutant,
            Some(Mutant::NoVersionInCondition | Mutant::NoSeedInCondition | Mutant::SeedNotChecked)
        );
        let mut sign_ins = state.requests.iter().take(self.setup.requests.len());
        let awaited = sign_ins.any(|request| request.phase == Phase::Awaited);
        if !awaited {
            state.auths.clear();
        }
        for request in &mut state.requests {
            // Versions of one seed only grow, and no seed returns: such a write is refused whenever it arrives.
            let refused = |held: &Device| {
                state
                    .table
                    .as_ref()
                    .is_none_or(|stored| stored.seed_ref != held.seed_ref || stored.version > held.version)
            };
            if conditional && request.stray.as_ref().is_some_and(|write| refused(write.held())) {
                request.stray = None;
            }
            if matches!(request.phase, Phase::Ended(_)) && request.stray.is_none() {
                *request = Request::ended(Outcome::Refused);
            }
        }
        // It is needed only when a failure is counted again.
        let counted = |request: &Request| request.effect == Effect::Failure;
        if !state.requests.iter().any(counted) {
            state.ledger.last_writer = None;
        }
        if self.setup.has_operators() {
            self.forget_tasks(state);
        }
    }

    /// Whether nothing has changed that [`Self::owner_gets_in`] depends on. Most events change neither table nor time.
    fn same_for_owner(before: &State, after: &State) -> bool {
        let same_table = match (&before.table, &after.table) {
            (Some(before), Some(after)) => before.is(after),
            (None, None) => true,
            _ => false,
        };
        same_table && before.moment.max(before.latest) == after.moment.max(after.latest)
    }

    /// Whether an owner who starts now signs in with the next pair of codes.
    fn owner_gets_in(&self, state: &State) -> bool {
        let Some(device) = state.table.as_ref().filter(|device| device.status == Status::Active) else {
            return true;
        };
        let period = device.parameters.period;
        // A clock that was set back must catch up with what was written before; no attacker causes that.
        let now = self.setup.time(state.moment.max(state.latest));
        let fresh = Step::at(now, period).max(device.last_step.next());
        let now = now.max(fresh.start(period));
        let attempt = Attempt {
            auth_id: AuthId::from_bytes([0xee; 16]),
            expires_at: now.plus(Setup::AUTH_LIFE),
            write_id: WriteId::from_bytes([0xee; 16]),
            matches: Matches::new(OfferKind::Pair, [Some(fresh), None, None]),
        };
        let decision = decide(device, &attempt, now, &self.policy);
        matches!(
            decision,
            Decision::Write {
                verdict: Verdict::Accepted,
                ..
            }
        )
    }
}

pub(crate) fn auth_id(number: usize) -> AuthId {
    AuthId::from_bytes([u8::try_from(number).unwrap_or(u8::MAX); 16])
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let Some(device) = self.first_device() else {
            return Vec::new();
        };
        let mut state = State {
            moment: 0,
            latest: 0,
            set_back: false,
            table: Some(Part::new(device)),
            seed: 0,
            desk: Desk::of(&self.setup.use_cases),
            auths: vec![None; self.setup.auths],
            requests: vec![Request::awaited(); self.setup.requests.len() + self.setup.attempts()],
            operations: self.setup.operations.clone(),
            ledger: Ledger {
                singles: vec![0; self.setup.auths + self.setup.commands.len()],
                singles_allowed: self.setup.singles_left,
                ..Ledger::default()
            },
        };
        if !self.owner_gets_in(&state) {
            state.ledger.broken.add(Invariant::OwnerGetsIn);
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let over = |request: &Request| matches!(request.phase, Phase::Ended(_)) && request.stray.is_none();
        if state.requests.iter().all(over) && state.desk.over() {
            return;
        }
        let has = |status| state.table.as_ref().is_some_and(|device| device.status == status);
        let (active, disabled) = (has(Status::Active), has(Status::Disabled));
        // AuthIds are interchangeable, so they are issued in order.
        if let (true, Some(next)) = (active, state.auths.iter().position(Option::is_none)) {
            actions.push(Action::Issue(next));
        }
        let issued = state.auths.iter().flatten().count();
        for (number, request) in state.requests.iter().enumerate() {
            if request.phase == Phase::Awaited {
                let offers = self.setup.requests.get(number).map_or(0, Vec::len);
                let choices = (0..issued).flat_map(|auth| (0..offers).map(move |offer| (auth, offer)));
                actions.extend(choices.map(|(auth, offer)| Action::Arrive {
                    request: number,
                    auth,
                    offer,
                }));
            }
            if matches!(request.phase, Phase::Writing(_)) {
                actions.push(Action::Write(number));
                if self.setup.losses && !request.lost {
                    actions.push(Action::Lose(number));
                }
                if request.lost {
                    actions.push(Action::GiveUp(number));
                }
            }
            if request.stray.is_some() {
                actions.push(Action::Stray(number));
            }
        }
        if state.table.is_some() {
            let possible = |operation: &&Operation| match operation {
                Operation::Disable => active,
                Operation::Enable => disabled,
                Operation::Reregister | Operation::SwapSeed | Operation::Unlock => true,
            };
            let operations = state.operations.iter().filter(possible);
            actions.extend(operations.map(|operation| Action::Operate(*operation)));
        } else if self.setup.operations.contains(&Operation::Reregister) {
            actions.push(Action::Register);
        }
        if self.setup.has_operators() {
            self.operators_actions(state, actions);
        }
        if state.moment + 1 < self.setup.moments.len() {
            actions.push(Action::Tick);
        }
        if self.setup.clock_set_back && !state.set_back && state.moment > 0 {
            actions.push(Action::SetBack);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.act(&mut next, action)?;
        if !Self::same_for_owner(state, &next) && !self.owner_gets_in(&next) {
            next.ledger.broken.add(Invariant::OwnerGetsIn);
        }
        Self::watch(state, &mut next, action);
        self.watch_blobs(state, &mut next);
        self.forget(&mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn holds<const NUMBER: usize>(_: &Protocol, state: &State) -> bool {
            Invariant::ALL
                .get(NUMBER)
                .is_some_and(|invariant| !state.broken().has(*invariant))
        }
        let conditions: [fn(&Self, &State) -> bool; Invariant::ALL.len()] = [
            holds::<0>,
            holds::<1>,
            holds::<2>,
            holds::<3>,
            holds::<4>,
            holds::<5>,
            holds::<6>,
            holds::<7>,
            holds::<8>,
            holds::<9>,
            holds::<10>,
            holds::<11>,
            holds::<12>,
            holds::<13>,
            holds::<14>,
            holds::<15>,
        ];
        Invariant::ALL
            .into_iter()
            .zip(conditions)
            .map(|(invariant, condition)| Property::always(invariant.name(), condition))
            .collect()
    }
}

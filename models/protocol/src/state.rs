//! Everything that a state consists of, and the events that lead from one to the next. What they do is in `model` and
//! `registry`.

use shared::clock::Timestamp;
use shared::device::{Device, PendingSeed, Verdict};
use shared::names::SeedRef;
use shared::otp::Step;
use shared::policy::Policy;
use shared::settlement::DeviceWrite;

use crate::part::Part;
use crate::sealing::{Blob, Blobs};
use crate::{Broken, Offer};

/// What an operator does to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Removes it; it is registered again later, under another seed, and with the version that it began with: as if
    /// the random version had met an old one.
    Reregister,
    /// Gives it a new seed.
    SwapSeed,
    /// Unlocks it.
    Unlock,
    /// Disables it.
    Disable,
    /// Enables it again.
    Enable,
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Step 2 issues an authId, with a snapshot of the device.
    Issue(usize),
    /// A request arrives.
    Arrive {
        /// Which one.
        request: usize,
        /// Its authId.
        auth: usize,
        /// Which of its offers.
        offer: usize,
    },
    /// A code is entered that is to activate a seed.
    Activate {
        /// Which attempt.
        request: usize,
        /// The seed that is to come into use.
        target: u8,
        /// Which of its offers.
        offer: usize,
    },
    /// Something happens to a use case of registration.
    Task(usize, Event),
    /// A secret that a command no longer needs is removed.
    Discard(u8),
    /// A request's write reaches the table, and its answer arrives.
    Write(usize),
    /// A request's write is not answered in time. The SDK sends it again; the first may still take effect.
    Lose(usize),
    /// A write that was given up reaches the table after all.
    Stray(usize),
    /// A request whose write was not answered has no time left.
    GiveUp(usize),
    /// The operator acts.
    Operate(Operation),
    /// The device that an operator removed is registered again.
    Register,
    /// Time passes to the next moment.
    Tick,
    /// The clock is set back to the moment before.
    SetBack,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With a verdict.
    Verdict(Verdict),
    /// It was not evaluated, or another client sent it.
    Refused,
    /// The device was gone or had another seed.
    Revoked,
    /// A 503.
    Unavailable,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Awaited,
    Writing(Part<DeviceWrite>),
    Ended(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    SignIn,
    Activation,
}

/// What a request's writes did, including those whose answers were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    None,
    Failure,
    Success,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub(crate) auth: u8,
    pub(crate) issued: Option<Part<Issued>>,
    pub(crate) offer: Option<Offer>,
    pub(crate) purpose: Purpose,
    pub(crate) now: Timestamp,
    pub(crate) phase: Phase,
    /// A write whose answer was lost; `None` once it took effect.
    pub(crate) stray: Option<Part<DeviceWrite>>,
    pub(crate) lost: bool,
    /// The table has answered its last write.
    pub(crate) answered: bool,
    pub(crate) effect: Effect,
    /// What a mutant that counts without a condition has read.
    pub(crate) counts_on: Option<Part<Device>>,
}

impl Request {
    pub(crate) fn awaited() -> Self {
        Self {
            phase: Phase::Awaited,
            ..Self::ended(Outcome::Refused)
        }
    }

    pub(crate) fn activates(&self) -> bool {
        self.purpose == Purpose::Activation
    }

    /// A request that no longer matters.
    pub(crate) const fn ended(outcome: Outcome) -> Self {
        Self {
            auth: 0,
            issued: None,
            offer: None,
            purpose: Purpose::SignIn,
            now: Timestamp::EPOCH,
            phase: Phase::Ended(outcome),
            stray: None,
            lost: false,
            answered: false,
            effect: Effect::None,
            counts_on: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Issued {
    pub(crate) expires_at: Timestamp,
    pub(crate) snapshot: Part<Device>,
    /// The seed whose codes count: that of the snapshot, or the one that is to be activated.
    pub(crate) seed: u8,
    /// The pending seed itself, as an activation read it.
    pub(crate) pending_sealed: Option<Blob>,
}

/// What was promised and done, besides what the table holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Ledger {
    /// Every success that took effect: its seed, its steps, its authId.
    pub(crate) successes: Vec<(u8, Vec<Step>, u8)>,
    /// Wrong verdicts given.
    pub(crate) wrong_given: u64,
    /// Failures counted on devices that were removed.
    pub(crate) counted_before: u64,
    /// Wrong single codes of this device by authId, refunded ones removed.
    pub(crate) singles: Vec<u32>,
    /// Wrong single codes that the policy allows on this device.
    pub(crate) singles_allowed: u32,
    /// The request whose verdict took effect last.
    pub(crate) last_writer: Option<usize>,
    /// Seeds that an activation brought into use.
    pub(crate) activated: Seeds,
    pub(crate) broken: Broken,
}

impl Ledger {
    /// A device is gone; the next one of its name begins anew.
    pub(crate) fn device_removed(&mut self, device: &Device) {
        self.counted_before += device.total_failures;
        self.singles.fill(0);
        self.singles_allowed = Policy::MOST_CONSECUTIVE;
        self.last_writer = None;
    }
}

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub(crate) moment: usize,
    /// The moment before the clock was set back.
    pub(crate) latest: usize,
    pub(crate) set_back: bool,
    pub(crate) table: Option<Part<Device>>,
    /// The device's own seed.
    pub(crate) seed: u8,
    pub(crate) desk: Desk,
    pub(crate) auths: Vec<Option<Part<Issued>>>,
    pub(crate) requests: Vec<Request>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) ledger: Ledger,
}

impl State {
    /// The invariants that were broken on the way here.
    #[must_use]
    pub const fn broken(&self) -> Broken {
        self.ledger.broken
    }

    /// What the table holds.
    pub(crate) fn item(&self) -> Option<Item> {
        self.table.clone().map(|device| Item {
            device,
            pending: self.desk.pending,
            pending_sealed: self.desk.pending_sealed,
        })
    }

    /// How many successes have taken effect.
    #[must_use]
    pub const fn successes(&self) -> usize {
        self.ledger.successes.len()
    }

    /// Whether an activation has taken effect.
    #[must_use]
    pub fn activated(&self) -> bool {
        self.ledger.activated != Seeds::default()
    }
}

/// A use case of `shared::registration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UseCase {
    /// `register`: a device, another seed for one that was never active, or a pending seed for an active one.
    Register,
    /// `remove`.
    Remove,
    /// `make_room` for another device of the same user.
    Evict,
    /// Sealing the device's seeds again, under a newer key.
    Reseal,
}

/// What happens to a use case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// It reads the device; a registration has stored a new seed before.
    Begin,
    /// Its write reaches the table, and its answer arrives.
    Write,
    /// Its write is not answered in time. The SDK sends it again; the first may still take effect.
    Lose,
    /// A write that was given up reaches the table after all.
    Stray,
    /// It has no time left for its write.
    GiveUp,
}

/// Some of the seeds, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Seeds(u8);

impl Seeds {
    pub(crate) const fn of(seed: u8) -> Self {
        Self(1 << seed)
    }

    pub(crate) const fn add(&mut self, seed: u8) {
        self.0 |= Self::of(seed).0;
    }

    pub(crate) const fn has(self, seed: u8) -> bool {
        self.0 & Self::of(seed).0 != 0
    }

    pub(crate) const fn remove(&mut self, seed: u8) {
        self.0 &= !Self::of(seed).0;
    }

    pub(crate) const fn keep(&mut self, others: Self) {
        self.0 &= others.0;
    }

    pub(crate) fn all(self) -> impl Iterator<Item = u8> {
        (0..8).filter(move |seed| self.has(*seed))
    }
}

/// What operators have done and are doing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Desk {
    /// The pending seed of the device, and its end.
    pub(crate) pending: Option<(u8, Timestamp)>,
    /// The pending seed itself, if it is sealed.
    pub(crate) pending_sealed: Option<Blob>,
    /// The seed that was created last.
    pub(crate) created: u8,
    /// Seeds that are in an app.
    pub(crate) shown: Seeds,
    /// Seeds that a use case leaves behind, and is about to remove.
    pub(crate) unwanted: Seeds,
    pub(crate) removed: Seeds,
    pub(crate) tasks: Vec<Task>,
}

impl Desk {
    pub(crate) fn of(use_cases: &[UseCase]) -> Self {
        Self {
            pending: None,
            pending_sealed: None,
            created: 0,
            shown: Seeds::of(0),
            unwanted: Seeds::default(),
            removed: Seeds::default(),
            tasks: use_cases.iter().copied().map(Task::awaited).collect(),
        }
    }

    /// Whether no use case is on its way.
    pub(crate) fn over(&self) -> bool {
        let over = |task: &Task| task.over && task.stray.is_none();
        self.unwanted == Seeds::default() && self.tasks.iter().all(over)
    }

    pub(crate) fn pends(&self, seed: u8) -> bool {
        self.pending.is_some_and(|(pending, _)| pending == seed)
    }
}

/// A use case, as the answers that it got.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Task {
    pub(crate) use_case: UseCase,
    pub(crate) begun: Option<Part<Begun>>,
    pub(crate) answers: Vec<Answer>,
    /// The write that it waits for.
    pub(crate) asks: Option<Part<Write>>,
    pub(crate) stray: Option<Part<Write>>,
    pub(crate) lost: bool,
    pub(crate) over: bool,
}

impl Task {
    pub(crate) const fn awaited(use_case: UseCase) -> Self {
        Self {
            use_case,
            begun: None,
            answers: Vec::new(),
            asks: None,
            stray: None,
            lost: false,
            over: false,
        }
    }
}

/// How a use case began.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Begun {
    /// The device as it was read.
    pub(crate) read: Option<Item>,
    /// The new seed of a registration.
    pub(crate) seed: u8,
    pub(crate) at: Timestamp,
}

/// What the table holds of a device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Item {
    pub(crate) device: Part<Device>,
    /// The pending seed, and its end.
    pub(crate) pending: Option<(u8, Timestamp)>,
    /// The pending seed itself, if it is sealed.
    pub(crate) pending_sealed: Option<Blob>,
}

impl Item {
    pub(crate) fn of(device: Device) -> Self {
        Self {
            device: Part::new(device),
            pending: None,
            pending_sealed: None,
        }
    }
}

/// A call of the port `DeviceRegistry`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::large_enum_variant,
    reason = "a state has few, each behind a counted pointer"
)]
pub(crate) enum Call {
    Read,
    Write(Write),
}

/// A conditional write of the port `DeviceRegistry`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Write {
    Create(Device),
    Reseed { held: Device, new: Device },
    SetPending { held: Device, pending: PendingSeed },
    RemoveHeld(Device),
    RemoveSeeded(SeedRef),
    Reseal { held: Blobs, new: Blobs },
}

/// What a call of that port was answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// The write took effect.
    Yes,
    /// The removal took effect, on this device.
    Removed(Item),
    /// This is what is stored: what was read, or what the condition failed on.
    Is(Option<Item>),
    /// None came in time.
    Lost,
}

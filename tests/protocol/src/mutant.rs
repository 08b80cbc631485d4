//! The protocol with one thing wrong: what it sees, what it writes, on which condition, or when it answers.

use shared::clock::Timestamp;
use shared::device::{Accepted, Device, Verdict};
use shared::names::WriteId;
use shared::otp::{OfferKind, Step};
use shared::policy::Policy;
use shared::settlement::DeviceWrite;

use crate::{Invariant, Setup};

/// One fault of a protocol, each of which somebody has shipped or might think harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// The verdict is given, and then written.
    VerdictBeforeWrite,
    /// A wrong code is counted by a read and an unconditional write.
    CounterByReadThenWrite,
    /// The condition of the write does not compare the version.
    NoVersionInCondition,
    /// The condition of the write does not compare the seed.
    NoSeedInCondition,
    /// The write is named by an id that the caller chooses.
    WriteIdByCaller,
    /// A success is forgotten when its authId expires, on any clock.
    AcceptedDroppedAtExpiry,
    /// Any step but the last accepted one counts as unused.
    AnyUnusedStep,
    /// Used steps are forgotten when they leave the window.
    UsedStepsForgotten,
    /// Nothing but the deletion of its item ends an authId.
    ExpiryByDeletionAlone,
    /// A success clears the budget of single codes.
    SuccessClearsBudget,
    /// A wrong pair counts on the ladder of single codes.
    WrongPairExtendsLadder,
    /// A refused write is not looked at for this request's own success.
    OwnWriteNotRecognised,
    /// A store that does not answer is a wrong code.
    FaultIsWrongCode,
    /// Whose authId it is, nobody asks.
    ClientNotCompared,
    /// The status of the device is looked at in step 2 only.
    StatusNotLookedAt,
}

impl Mutant {
    /// Every mutant, an invariant that it must break, and a setup in which it does.
    #[must_use]
    pub fn all() -> [(Self, Invariant, Setup); 15] {
        [
            (Self::VerdictBeforeWrite, Invariant::Counted, Setup::crowded()),
            (Self::CounterByReadThenWrite, Invariant::Counted, Setup::guessed_at()),
            (Self::NoVersionInCondition, Invariant::StepOnce, Setup::crowded()),
            (Self::NoSeedInCondition, Invariant::Revoked, Setup::reregistered()),
            (Self::WriteIdByCaller, Invariant::Counted, Setup::guessed_at()),
            (Self::AcceptedDroppedAtExpiry, Invariant::AuthOnce, Setup::expiring()),
            (Self::AnyUnusedStep, Invariant::StepOnce, Setup::crowded()),
            (Self::UsedStepsForgotten, Invariant::Forward, Setup::expiring()),
            (Self::ExpiryByDeletionAlone, Invariant::Expires, Setup::expiring()),
            (Self::SuccessClearsBudget, Invariant::Counted, Setup::guessed_at()),
            (
                Self::WrongPairExtendsLadder,
                Invariant::OwnerGetsIn,
                Setup::guessed_at(),
            ),
            (Self::OwnWriteNotRecognised, Invariant::Reported, Setup::disabled()),
            (
                Self::FaultIsWrongCode,
                Invariant::NoVerdictFromFaults,
                Setup::disabled(),
            ),
            (
                Self::ClientNotCompared,
                Invariant::Isolated,
                Setup::shared_with_another_client(),
            ),
            (Self::StatusNotLookedAt, Invariant::Revoked, Setup::disabled()),
        ]
    }

    /// The state as the protocol sees it before it decides.
    pub(crate) fn seen(self, device: &mut Device, offered: &[Step], now: Timestamp) {
        let forgotten = Step::at(now, device.parameters.period).0.saturating_sub(2);
        match self {
            Self::AnyUnusedStep if !offered.contains(&device.last_step) => device.last_step = Step(0),
            Self::UsedStepsForgotten if device.last_step.0 < forgotten => device.last_step = Step(0),
            Self::StatusNotLookedAt => device.status = shared::device::Status::Active,
            _ => {}
        }
    }

    /// The state on which a write was refused, as the protocol sees it.
    pub(crate) fn seen_after_refusal(self, device: &mut Device) {
        if self == Self::OwnWriteNotRecognised {
            let another = WriteId::from_bytes([0xff; 16]);
            for entry in &mut device.accepted {
                entry.write_id = another;
            }
            device.last_write = None;
        }
    }

    /// The state as the protocol writes it.
    pub(crate) fn written(self, new: &mut Device, write: &DeviceWrite, kind: OfferKind, now: Timestamp) {
        match (self, write.verdict(), kind) {
            (Self::AcceptedDroppedAtExpiry, _, _) => new.accepted.retain(|entry: &Accepted| entry.expires_at > now),
            (Self::SuccessClearsBudget, Verdict::Accepted, _) => new.budget_at = Timestamp::EPOCH,
            (Self::WrongPairExtendsLadder, Verdict::Rejected, OfferKind::Pair) => {
                new.consecutive_failures += 1;
                new.not_before = now.plus(Policy::ladder(new.consecutive_failures));
            }
            _ => {}
        }
    }

    /// Whether the write is made on the stored state.
    pub(crate) fn condition(self, stored: &Device, held: &Device) -> bool {
        let version = stored.version == held.version || self == Self::NoVersionInCondition;
        let seed = stored.seed_ref == held.seed_ref || self == Self::NoSeedInCondition;
        version && seed
    }
}

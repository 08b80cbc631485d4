//! The protocol with one fault: in what it reads, what it writes, on which condition, or when it answers.

use shared::clock::Timestamp;
use shared::device::{Accepted, Device, Status, Verdict};
use shared::names::WriteId;
use shared::otp::{OfferKind, Step};
use shared::policy::Policy;
use shared::settlement::DeviceWrite;

use crate::{Invariant, Setup};

/// A fault that has been shipped somewhere, or that looks harmless.
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
    /// After a refused write, this request's own success is not recognised.
    OwnWriteNotRecognised,
    /// A store that does not answer is a wrong code.
    FaultIsWrongCode,
    /// An authId is accepted from any client.
    ClientNotCompared,
    /// The status of the device is checked in step 2 only.
    StatusNotChecked,
    /// The seed is checked neither in the condition of the write nor after its refusal.
    SeedNotChecked,
    /// The code that activates stays unused.
    ActivationCodeStaysUnused,
    /// A wrong code of an activation is not counted.
    ActivationNotCounted,
    /// After a refused write, this request's own failure is not recognised.
    OwnFailureNotRecognised,
    /// The code of an activation is compared with the seed that the device has.
    CodeOfOldSeedActivates,
    /// A pending seed is activated whenever its code comes.
    EndOfOfferNotChecked,
    /// The condition of the swap does not compare the pending seed.
    PendingNotInCondition,
    /// A swap writes the seed that was read, while any is pending.
    SwapWritesWhatItRead,
    /// A removal does not compare the seed, nor the status.
    DeleteWithoutCondition,
    /// The removal of an abandoned registration compares neither version nor seed.
    EvictionWithoutCondition,
    /// The old secret is removed, and then the seed is swapped.
    OldSecretRemovedFirst,
    /// A device that a new seed was offered to waits for its code, like one that is new.
    OfferSuspends,
    /// An activation passes the gates of single codes.
    ActivationSkipsGates,
    /// An activation takes a disabled device into use.
    ActivationOfDisabled,
    /// An activation leaves the status as it is.
    ActivationLeavesStatus,
    /// A wrong code of an activation opens the ladder.
    WrongActivationOpens,
    /// An activation forgives wrong pairs.
    ActivationForgivesPairs,
    /// The seed that was pending before is removed, and then another is offered.
    FormerOfferRemovedFirst,
    /// The secret of an offer that was not answered is removed, if the device does not name it yet.
    UnansweredOfferRemoved,
    /// A swap writes the sealed seed that was read, not the one that is pending.
    SwapWritesBlobItRead,
    /// A verdict writes the sealed seed that was read.
    VerdictWritesBlob,
    /// Sealing again does not compare what was read.
    ResealWithoutCondition,
}

impl Mutant {
    /// Every mutant, an invariant that it must break, and a setup in which it does.
    #[must_use]
    pub fn all() -> Vec<(Self, Invariant, Setup)> {
        let of_sign_ins = Self::of_sign_ins().into_iter();
        of_sign_ins.chain(Self::of_registrations()).collect()
    }

    fn of_sign_ins() -> [(Self, Invariant, Setup); 16] {
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
            (Self::StatusNotChecked, Invariant::Revoked, Setup::disabled()),
            (Self::SeedNotChecked, Invariant::Revoked, Setup::replaced()),
        ]
    }

    fn of_registrations() -> [(Self, Invariant, Setup); 24] {
        [
            (
                Self::ActivationCodeStaysUnused,
                Invariant::StepOnce,
                Setup::first_activated(),
            ),
            (Self::ActivationNotCounted, Invariant::Counted, Setup::first_activated()),
            (
                Self::OwnFailureNotRecognised,
                Invariant::CountedOnce,
                Setup::first_activated(),
            ),
            (Self::CodeOfOldSeedActivates, Invariant::Activated, Setup::replaced()),
            (
                Self::EndOfOfferNotChecked,
                Invariant::Activated,
                Setup::replaced_twice(),
            ),
            (
                Self::PendingNotInCondition,
                Invariant::Activated,
                Setup::replaced_twice(),
            ),
            (
                Self::SwapWritesWhatItRead,
                Invariant::SeedThere,
                Setup::replaced_twice(),
            ),
            (Self::DeleteWithoutCondition, Invariant::OldSeedWorks, Setup::removed()),
            (
                Self::DeleteWithoutCondition,
                Invariant::Revoked,
                Setup::removed_when_disabled(),
            ),
            (
                Self::EvictionWithoutCondition,
                Invariant::OldSeedWorks,
                Setup::evicted(),
            ),
            (Self::OldSecretRemovedFirst, Invariant::SeedThere, Setup::replaced()),
            (Self::OfferSuspends, Invariant::OldSeedWorks, Setup::replaced()),
            (
                Self::ActivationSkipsGates,
                Invariant::LockHolds,
                Setup::activated_when_closed(),
            ),
            (
                Self::ActivationOfDisabled,
                Invariant::Revoked,
                Setup::activated_when_closed(),
            ),
            (
                Self::ActivationLeavesStatus,
                Invariant::Activated,
                Setup::first_activated(),
            ),
            (
                Self::WrongActivationOpens,
                Invariant::LockHolds,
                Setup::activated_when_closed(),
            ),
            (
                Self::ActivationForgivesPairs,
                Invariant::LockHolds,
                Setup::activated_when_closed(),
            ),
            (Self::SuccessClearsBudget, Invariant::LockHolds, Setup::guessed_at()),
            (Self::OfferSuspends, Invariant::Activated, Setup::replaced()),
            (Self::UnansweredOfferRemoved, Invariant::SeedThere, Setup::replaced()),
            (
                Self::FormerOfferRemovedFirst,
                Invariant::SeedThere,
                Setup::replaced_twice(),
            ),
            (Self::SwapWritesBlobItRead, Invariant::Sealed, Setup::sealed_again()),
            (Self::VerdictWritesBlob, Invariant::Sealed, Setup::sealed_again()),
            (Self::ResealWithoutCondition, Invariant::Sealed, Setup::sealed_again()),
        ]
    }

    /// The state as the protocol sees it before it decides.
    pub(crate) fn seen(self, device: &mut Device, offered: &[Step], now: Timestamp) {
        let forgotten = Step::at(now, device.parameters.period).0.saturating_sub(2);
        match self {
            Self::AnyUnusedStep if !offered.contains(&device.last_step) => device.last_step = Step(0),
            Self::UsedStepsForgotten if device.last_step.0 < forgotten => device.last_step = Step(0),
            Self::StatusNotChecked => device.status = Status::Active,
            _ => {}
        }
    }

    /// The state on which a write was refused, as the protocol sees it.
    pub(crate) fn seen_after_refusal(self, device: &mut Device, held: &Device) {
        match self {
            Self::OwnWriteNotRecognised => {
                let another = WriteId::from_bytes([0xff; 16]);
                for entry in &mut device.accepted {
                    entry.write_id = another;
                }
                device.last_write = None;
            }
            Self::OwnFailureNotRecognised => device.last_write = None,
            Self::SeedNotChecked => device.seed_ref = held.seed_ref.clone(),
            _ => {}
        }
    }

    /// The state as an activation sees it before it decides.
    pub(crate) fn seen_by_activation(self, device: &mut Device) {
        match self {
            Self::ActivationSkipsGates => {
                device.consecutive_failures = 0;
                device.not_before = Timestamp::EPOCH;
                device.budget_at = Timestamp::EPOCH;
            }
            Self::ActivationOfDisabled if device.status == Status::Disabled => {
                device.status = Status::ActivationRequired;
            }
            _ => {}
        }
    }

    /// The state as an activation writes it.
    pub(crate) fn written_by_activation(self, new: &mut Device, write: &DeviceWrite) {
        match (self, write.verdict()) {
            (Self::ActivationCodeStaysUnused, Verdict::Accepted) => new.last_step = write.held().last_step,
            (Self::ActivationLeavesStatus, Verdict::Accepted) => new.status = write.held().status,
            (Self::ActivationForgivesPairs, Verdict::Accepted) => new.pair_at = Timestamp::EPOCH,
            (Self::WrongActivationOpens, Verdict::Rejected | Verdict::Replayed) => {
                new.consecutive_failures = 0;
                new.not_before = Timestamp::EPOCH;
                new.budget_at = Timestamp::EPOCH;
            }
            (Self::ActivationNotCounted, Verdict::Rejected | Verdict::Replayed) => {
                *new = Device {
                    version: new.version,
                    last_write: new.last_write,
                    ..write.held().clone()
                };
            }
            _ => {}
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
        let seed = stored.seed_ref == held.seed_ref || matches!(self, Self::NoSeedInCondition | Self::SeedNotChecked);
        version && seed
    }
}

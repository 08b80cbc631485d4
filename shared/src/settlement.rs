//! From an attempt to its verdict: decide, write, and what a refused write means. Pure except for [`settle`]: the caller
//! makes the writes and reports their outcomes.
//!
//! This is the only path to a verdict, for the function and for the models that check the protocol.

use crate::clock::Timestamp;
use crate::device::{Attempt, Decision, Device, NewSeed, Refusal, Status, Verdict, decide, decide_activation};
use crate::error::StoreError;
use crate::names::DeviceKey;
use crate::policy::Policy;
use crate::ports::{DeviceStore, Written};

/// How often an attempt is decided at most: on the snapshot, and twice more on what others wrote in between.
pub const MOST_DECISIONS: u8 = 3;

/// The state of an attempt between its first decision and its end.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and a box would be one more allocation"
)]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// This write has to be made; without it there is no verdict.
    Write(Box<DeviceWrite>),
    /// The verdict, counted by a write that took effect, and the state that the write left.
    Verdict(Verdict, Device),
    /// The attempt was not evaluated; nothing was written.
    Refused(Refusal),
    /// The device was removed.
    Gone,
    /// The device has another seed, or another one is pending: codes of this one do not count.
    Superseded,
    /// An activation of a seed that the device is active with: its code is not evaluated, so that a repeated one is
    /// harmless.
    AlreadyActive,
    /// Others wrote first [`MOST_DECISIONS`] times; there is no verdict.
    Contention,
}

/// A write of a device, on the condition that version and seed are still those of `held`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceWrite {
    held: Device,
    new: Device,
    verdict: Verdict,
    case: Case,
    decisions: u8,
}

/// What does not change between decisions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Case {
    attempt: Attempt,
    now: Timestamp,
    /// For an activation: the seed to put into use.
    seed: Option<NewSeed>,
}

impl Settlement {
    /// Decides about an attempt on the snapshot that came with its auth. `now` is the one clock reading of the request,
    /// the same that the matches were made with.
    #[must_use]
    pub fn begin(snapshot: Device, attempt: Attempt, now: Timestamp, policy: &Policy) -> Self {
        let seed = None;
        Self::decided(snapshot, Case { attempt, now, seed }, 1, policy)
    }

    /// Decides about the first code of a seed on a device as it was read; see [`decide_activation`].
    #[must_use]
    pub fn begin_activation(device: Device, seed: NewSeed, attempt: Attempt, now: Timestamp, policy: &Policy) -> Self {
        let seed = Some(seed);
        Self::decided(device, Case { attempt, now, seed }, 1, policy)
    }

    fn decided(held: Device, case: Case, decisions: u8, policy: &Policy) -> Self {
        if case.is_done_in(&held) {
            return Self::AlreadyActive;
        }
        let decision = match &case.seed {
            None => decide(&held, &case.attempt, case.now, policy),
            Some(seed) => decide_activation(&held, seed, &case.attempt, case.now, policy),
        };
        match decision {
            Decision::Refuse(refusal) => Self::Refused(refusal),
            Decision::Write { verdict, device } => Self::Write(Box::new(DeviceWrite {
                held,
                new: device,
                verdict,
                case,
                decisions,
            })),
        }
    }
}

impl Case {
    /// Whether this is an activation that a device has behind it.
    fn is_done_in(&self, device: &Device) -> bool {
        let seed = self.seed.as_ref();
        device.status == Status::Active && seed.is_some_and(|seed| seed.seed_ref == device.seed_ref)
    }
}

impl DeviceWrite {
    /// The state that the decision was made on.
    #[must_use]
    pub const fn held(&self) -> &Device {
        &self.held
    }

    /// The state to write.
    #[must_use]
    pub const fn replacement(&self) -> &Device {
        &self.new
    }

    /// The verdict that the write stands for.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The time of the successful use, if it is one.
    #[must_use]
    pub fn used_at(&self) -> Option<Timestamp> {
        (self.verdict == Verdict::Accepted).then_some(self.case.now)
    }

    /// Continues with the outcome of the write.
    #[must_use]
    pub fn after(self, written: Written, policy: &Policy) -> Settlement {
        let stored = match written {
            Written::Yes => return Settlement::Verdict(self.verdict, self.new),
            Written::No(None) => return Settlement::Gone,
            Written::NotPending => return Settlement::Superseded,
            Written::No(Some(stored)) => *stored,
        };
        let attempt = &self.case.attempt;
        if let Some(verdict) = stored.verdict_of(attempt.auth_id, attempt.write_id) {
            // The write had taken effect before, and its response was lost.
            Settlement::Verdict(verdict, stored)
        } else if self.case.is_done_in(&stored) {
            Settlement::AlreadyActive
        } else if stored.seed_ref != self.held.seed_ref {
            Settlement::Superseded
        } else if self.decisions >= MOST_DECISIONS {
            Settlement::Contention
        } else {
            // Not known here is which seed is pending: of an activation that was superseded since, a wrong code is counted,
            // which is the safe side, and the write of a right one is refused.
            Settlement::decided(stored, self.case, self.decisions + 1, policy)
        }
    }
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled {
    /// The attempt was not evaluated.
    #[error("the attempt was not evaluated")]
    Refused(Refusal),
    /// The device was removed.
    #[error("the device was removed")]
    Gone,
    /// The device has another seed.
    #[error("the device has another seed")]
    Superseded,
    /// The device is active with the seed that is to be activated.
    #[error("the device is active with this seed")]
    AlreadyActive,
    /// Others wrote first too often.
    #[error("others wrote first {MOST_DECISIONS} times")]
    Contention,
    /// The store failed; the write may have taken effect.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the writes until the attempt has ended; returns the verdict and the state that its write left.
///
/// # Errors
/// [`Unsettled`].
pub async fn settle(
    devices: &impl DeviceStore,
    key: &DeviceKey,
    begun: Settlement,
    policy: &Policy,
) -> Result<(Verdict, Device), Unsettled> {
    let mut settlement = begun;
    loop {
        settlement = match settlement {
            Settlement::Write(write) => {
                let replace = devices.replace(key, write.held(), write.replacement(), write.used_at());
                let written = replace.await?;
                write.after(written, policy)
            }
            Settlement::Verdict(verdict, device) => return Ok((verdict, device)),
            Settlement::Refused(refusal) => return Err(Unsettled::Refused(refusal)),
            Settlement::Gone => return Err(Unsettled::Gone),
            Settlement::Superseded => return Err(Unsettled::Superseded),
            Settlement::AlreadyActive => return Err(Unsettled::AlreadyActive),
            Settlement::Contention => return Err(Unsettled::Contention),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{AuthId, NameError, SeedRef, WriteId};
    use crate::otp::{Matches, OfferKind, OtpParameters, Step};

    const NOW: Timestamp = Timestamp::from_secs(1_795_575_600);

    fn device(version: u64) -> Result<Device, NameError> {
        let seed = SeedRef::new("mfa/seed/00", "1")?;
        Ok(Device::registered(
            version,
            Status::Active,
            seed,
            OtpParameters::default(),
        ))
    }

    fn attempt(step: Option<Step>) -> Attempt {
        Attempt {
            auth_id: AuthId::from_bytes([1; 16]),
            expires_at: NOW.plus(std::time::Duration::from_mins(5)),
            write_id: WriteId::from_bytes([2; 16]),
            matches: Matches::new(OfferKind::Single, [step, None, None]),
        }
    }

    fn begin(step: Option<Step>) -> Result<Settlement, NameError> {
        Ok(Settlement::begin(device(1)?, attempt(step), NOW, &Policy::standard()))
    }

    fn write(settlement: Settlement) -> Option<DeviceWrite> {
        match settlement {
            Settlement::Write(write) => Some(*write),
            _ => None,
        }
    }

    #[test]
    fn a_verdict_comes_after_its_write() -> Result<(), NameError> {
        for (step, verdict) in [(Some(Step(9)), Verdict::Accepted), (None, Verdict::Rejected)] {
            let write = write(begin(step)?).ok_or(NameError::Character)?;
            assert_eq!((write.held(), write.verdict()), (&device(1)?, verdict));
            assert_eq!(write.used_at(), step.map(|_| NOW));
            let new = write.replacement().clone();
            let settled = write.after(Written::Yes, &Policy::standard());
            assert_eq!(settled, Settlement::Verdict(verdict, new));
        }
        Ok(())
    }

    #[test]
    fn what_others_wrote_is_decided_on_twice_and_then_there_is_no_verdict() -> Result<(), NameError> {
        let mut settlement = begin(None)?;
        for version in 2..5 {
            let Some(write) = write(settlement.clone()) else { break };
            assert_eq!(write.held().version, version - 1);
            settlement = write.after(Written::No(Some(Box::new(device(version)?))), &Policy::standard());
        }
        assert_eq!(settlement, Settlement::Contention);
        Ok(())
    }

    #[test]
    fn a_refused_write_that_took_effect_before_gives_its_verdict() -> Result<(), NameError> {
        let write = write(begin(Some(Step(9)))?).ok_or(NameError::Character)?;
        let own = write.replacement().clone();
        let reseeded = Device {
            seed_ref: SeedRef::new("mfa/seed/01", "1")?,
            ..own.clone()
        };
        // Even if the seed was changed right after it (I4).
        for stored in [own, reseeded] {
            let settled = write
                .clone()
                .after(Written::No(Some(Box::new(stored.clone()))), &Policy::standard());
            assert_eq!(settled, Settlement::Verdict(Verdict::Accepted, stored));
        }
        Ok(())
    }

    #[test]
    fn a_device_that_is_gone_or_has_another_seed_or_is_disabled_gives_none() -> Result<(), NameError> {
        let after = |stored: Option<Device>| -> Result<Settlement, NameError> {
            let write = write(begin(Some(Step(9)))?).ok_or(NameError::Character)?;
            Ok(write.after(Written::No(stored.map(Box::new)), &Policy::standard()))
        };
        let reseeded = Device {
            seed_ref: SeedRef::new("mfa/seed/01", "1")?,
            ..device(1)?
        };
        let disabled = Device {
            status: Status::Disabled,
            ..device(2)?
        };
        assert_eq!(after(None)?, Settlement::Gone);
        assert_eq!(after(Some(reseeded))?, Settlement::Superseded);
        assert_eq!(after(Some(disabled))?, Settlement::Refused(Refusal::Disabled));
        Ok(())
    }

    #[test]
    fn an_activation_goes_on_after_another_write() -> Result<(), NameError> {
        let waiting = |version| -> Result<Device, NameError> {
            Ok(Device {
                status: Status::ActivationRequired,
                ..device(version)?
            })
        };
        let seed = NewSeed {
            seed_ref: SeedRef::new("mfa/seed/01", "1")?,
            parameters: OtpParameters::default(),
        };
        let policy = Policy::standard();
        let begun = Settlement::begin_activation(waiting(1)?, seed.clone(), attempt(Some(Step(9))), NOW, &policy);
        let write = write(begun).ok_or(NameError::Character)?;
        let again = write.after(Written::No(Some(Box::new(waiting(2)?))), &policy);
        let Settlement::Write(write) = again else {
            return Err(NameError::Character);
        };
        assert_eq!(
            (write.held().version, &write.replacement().seed_ref),
            (2, &seed.seed_ref)
        );
        assert_eq!(write.replacement().status, Status::Active);
        Ok(())
    }
}

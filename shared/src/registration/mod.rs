//! Registering, activating, listing and removing devices, over ports: for `manage-devices`, `mfactl` and the model alike.
//!
//! A seed is stored before the write that names it, and removed only when nothing names it any more. What is to be removed
//! is collected in [`Leftovers`]; the caller removes it when it has answered for the rest.

mod activation;
mod removal;
mod room;
mod write;

pub use activation::{Activated, Activation, NotActivated, activate};
pub use removal::{NotRemoved, remove};
pub use room::{Limits, make_room, user_devices};
pub use write::{
    NotRegistered, NotStored, RegisterRequest, RegistrationRefusal, RegistrationWrite, StoredSeed, plan, register,
    require_registrable, store_seed,
};

use crate::device::{Device, DeviceRecord};
use crate::error::StoreError;
use crate::names::{SecretVersion, SeedRef};

/// Secrets that a use case leaves behind. A sealed seed leaves nothing: it goes with its device.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// No device names them any more, and no write that does can take effect.
    pub unwanted: Vec<SecretVersion>,
    /// A secret that a write may still name, and why that is not known. The doctor removes it when no device does.
    pub kept: Option<(SecretVersion, KeptBecause)>,
}

impl Leftovers {
    /// No device names these seeds any more.
    pub fn add<'a>(&mut self, seeds: impl IntoIterator<Item = &'a SeedRef>) {
        let secrets = seeds.into_iter().filter_map(SeedRef::secret);
        self.unwanted.extend(secrets.cloned());
    }

    fn keep(&mut self, seed: &SeedRef, why: KeptBecause) {
        self.kept = seed.secret().map(|secret| (secret.clone(), why));
    }
}

/// Why it is not known whether a seed is named.
#[derive(Debug, thiserror::Error)]
pub enum KeptBecause {
    /// The write was not answered, and would still take effect.
    #[error("the write that names it may still take effect")]
    WriteMayTakeEffect,
    /// The device cannot be read.
    #[error("cannot read whether the device names it")]
    Unreadable(#[source] StoreError),
}

/// Whether a conditional write that was never answered would still take effect on what is stored now. `held` is what it
/// was made on; `None` if it was to create the device.
#[must_use]
pub fn may_still_take_effect(held: Option<&Device>, stored: Option<&DeviceRecord>) -> bool {
    match (held, stored) {
        (None, None) => true,
        (Some(held), Some(stored)) => stored.device.version == held.version && stored.device.seed_ref == held.seed_ref,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::device::{RegisteredBy, Status};
    use crate::names::{DeviceKey, DeviceName, NameError, Owner, UserName};
    use crate::otp::OtpParameters;

    fn record(change: fn(&mut Device)) -> Result<DeviceRecord, NameError> {
        let seed = SeedRef::new("mfa/seed/a", "1")?;
        let mut device = Device::registered(7, Status::Active, seed, OtpParameters::default());
        change(&mut device);
        Ok(DeviceRecord {
            key: DeviceKey {
                owner: Owner::parse("shop")?,
                user: UserName::parse("alice")?,
                device: DeviceName::parse("phone")?,
            },
            device,
            pending: None,
            created_at: Timestamp::EPOCH,
            by: RegisteredBy::Operator,
            activate_by: None,
            last_used_at: None,
        })
    }

    #[test]
    fn a_write_that_was_not_answered_may_take_effect_on_the_version_and_seed_that_it_was_made_on()
    -> Result<(), NameError> {
        let held = record(|_| ())?;
        let other_version = record(|device| device.version += 1)?;
        let mut other_seed = held.clone();
        other_seed.device.seed_ref = SeedRef::new("mfa/seed/b", "1")?;
        // Counters alone are never written without a new version.
        let other_counters = record(|device| device.total_failures += 1)?;
        for (held, stored, expected) in [
            (None, None, true),
            (None, Some(&held), false),
            (Some(&held.device), None, false),
            (Some(&held.device), Some(&held), true),
            (Some(&held.device), Some(&other_counters), true),
            (Some(&held.device), Some(&other_version), false),
            (Some(&held.device), Some(&other_seed), false),
        ] {
            assert_eq!(may_still_take_effect(held, stored), expected, "{stored:?}");
        }
        Ok(())
    }
}

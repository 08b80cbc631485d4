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
    NotRegistered, NotStored, RegisterRequest, RegistrationRefusal, RegistrationWrite, plan, register, store_seed,
};

use crate::device::{Device, DeviceRecord};
use crate::error::StoreError;
use crate::names::SeedRef;

/// Seeds that a use case leaves behind.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// No device names them any more, and no write that does can take effect.
    pub unwanted: Vec<SeedRef>,
    /// A seed that a write may still name, and why that is not known. The doctor removes it when no device does.
    pub kept: Option<(SeedRef, KeptBecause)>,
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

//! What a sign-in needs from outside, and how atomic each part must be.
//!
//! A port that fails returns a [`StoreError`]; it never turns a failure into an answer. What registration and operators
//! need besides is in [`registry`] and [`operator`], behind features: a function cannot even name what its role may not
//! do.

use std::future::Future;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::device::{Auth, Device};
use crate::error::StoreError;
use crate::names::{AuthId, DeviceKey};
use crate::otp::Seed;

#[cfg(feature = "operator")]
pub mod operator;
#[cfg(feature = "registry")]
pub mod registry;

/// What became of an item that was to be stored under a free key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is stored: written now, or by an earlier try of this same call whose response was lost.
    Yes,
    /// Another item has the key; nothing was written.
    Taken,
}

/// The store of auths.
pub trait AuthStore: Send + Sync {
    /// Stores an auth if its id is free, in one conditional write. If the id is taken by an auth of the same owner,
    /// device and time of issue, that one was this call's own repeated write.
    ///
    /// # Errors
    /// [`StoreError`]; the auth may be stored anyway, which does no harm.
    fn create(&self, auth: &Auth) -> impl Future<Output = Result<Stored, StoreError>> + Send;

    /// Reads an auth and sees every write acknowledged before. Expired ones may still be found.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, id: AuthId) -> impl Future<Output = Result<Option<Auth>, StoreError>> + Send;
}

/// What became of a conditional write of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It took effect, exactly once.
    Yes,
    /// The condition failed on this state, or there is no device. The last try wrote nothing; an earlier try of this
    /// call may have, see [`Device::verdict_of`].
    No(Option<Box<Device>>),
    /// It was to swap in a seed that is not pending any more, on a device that still has its own.
    NotPending,
}

/// The store of devices, as a sign-in uses it.
pub trait DeviceStore: Send + Sync {
    /// Reads a device and sees every write acknowledged before.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, key: &DeviceKey) -> impl Future<Output = Result<Option<Device>, StoreError>> + Send;

    /// Writes `new` if the device still has the version and the seed of `held`, in one conditional write that returns
    /// the state that it failed on. `used_at` is the time of a successful use, if this is one.
    ///
    /// If `new` has another seed, that one must be the pending seed too; the same write ends its being pending. A sealed
    /// seed is moved by the store, and never written from `new`.
    ///
    /// # Errors
    /// [`StoreError`]; the write may have taken effect anyway, so no verdict can be given.
    fn replace(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        used_at: Option<Timestamp>,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;
}

/// The store of seeds, as a sign-in uses it.
pub trait SeedStore: Send + Sync {
    /// Reads or opens a device's seed and checks that it was made for the device's parameters, and a sealed one for the
    /// device. What a secret's version names never changes, so it may come from memory.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read, opened, parsed or used.
    fn get(&self, key: &DeviceKey, device: &Device) -> impl Future<Output = Result<Arc<Seed>, StoreError>> + Send;
}

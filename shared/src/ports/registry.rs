//! What registration needs besides a sign-in: storing, listing and removing the devices and seeds of a user.
//!
//! Nothing here reads a whole table or deletes a seed for good.

use std::future::Future;

use super::{DeviceStore, SeedStore, Stored, Written};
use crate::clock::Timestamp;
use crate::device::{Device, DeviceRecord, PendingSeed, RegisteredBy, Registration};
use crate::error::StoreError;
use crate::names::{AuthId, DeviceKey, Owner, SealedId, SecretVersion, SeedRef, UserName};
use crate::otp::Seed;
use crate::registration::Activation;
use crate::sealed::{SealedSeed, SeedStorage};

/// An item that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unreadable {
    /// The device that it is of, unless even that cannot be read.
    pub key: Option<DeviceKey>,
    /// Why it cannot be read.
    pub error: StoreError,
}

/// Some of the devices that were asked for.
#[derive(Debug)]
pub struct DevicePage {
    /// Each device, or why it cannot be read. May be empty although more follow.
    pub records: Vec<Result<DeviceRecord, Unreadable>>,
    /// The next page begins after this key; `None` at the end.
    pub next: Option<DeviceKey>,
}

/// The store of devices, as registration uses it.
pub trait DeviceRegistry: DeviceStore {
    /// Reads everything stored about a device and sees every write acknowledged before.
    ///
    /// # Errors
    /// [`StoreError`].
    fn record(&self, key: &DeviceKey) -> impl Future<Output = Result<Option<DeviceRecord>, StoreError>> + Send;

    /// Reads at most `limit` devices of a user, after a key, and sees every write of them acknowledged before. A device
    /// that exists throughout is on exactly one page.
    ///
    /// # Errors
    /// [`StoreError`] if nothing can be read.
    fn user_page(
        &self,
        owner: &Owner,
        user: &UserName,
        after: Option<&DeviceKey>,
        limit: u16,
    ) -> impl Future<Output = Result<DevicePage, StoreError>> + Send;

    /// Stores a new device unless one has its key, in one conditional write.
    ///
    /// # Errors
    /// [`StoreError`]; the device may be stored anyway.
    fn register(
        &self,
        key: &DeviceKey,
        device: &Device,
        registration: &Registration,
    ) -> impl Future<Output = Result<Stored, StoreError>> + Send;

    /// Gives a device that was never active another seed, if it still has the version and the seed of `held`; nothing is
    /// pending after it. One conditional write.
    ///
    /// # Errors
    /// [`StoreError`]; the device may have the seed anyway.
    fn reseed(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        by: RegisteredBy,
        activate_by: Option<Timestamp>,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;

    /// Sets the pending seed, replacing an earlier one, if the device still has the version and the seed of `held`; the
    /// version goes up by one. One conditional write.
    ///
    /// # Errors
    /// [`StoreError`]; the seed may be pending anyway.
    fn set_pending_seed(
        &self,
        key: &DeviceKey,
        held: &Device,
        pending: &PendingSeed,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;

    /// Removes a device if it still has the version and the seed of `held`, in one conditional write. `No(None)` is also
    /// the answer to this call's own repeated write: either way it is gone.
    ///
    /// # Errors
    /// [`StoreError`]; the device may be gone anyway.
    fn remove_held(&self, key: &DeviceKey, held: &Device) -> impl Future<Output = Result<Written, StoreError>> + Send;

    /// Removes a device that is not disabled if it still has this seed, whatever its version, in one conditional write.
    ///
    /// # Errors
    /// [`StoreError`]; the device may be gone anyway.
    fn remove_seeded(
        &self,
        key: &DeviceKey,
        seed: &SeedRef,
    ) -> impl Future<Output = Result<Removed, StoreError>> + Send;
}

/// What became of a conditional removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// It took effect, on this device.
    Yes(Box<DeviceRecord>),
    /// The condition failed on this device, or there is none. An earlier try of this call may have taken effect.
    No(Option<Box<DeviceRecord>>),
}

/// The store of activations.
pub trait ActivationStore: Send + Sync {
    /// Stores an activation if its id is free, in one conditional write. If the id is taken by an activation of the same
    /// device and time of issue, that one was this call's own repeated write.
    ///
    /// # Errors
    /// [`StoreError`]; the activation may be stored anyway, which does no harm.
    fn create(&self, activation: &Activation) -> impl Future<Output = Result<Stored, StoreError>> + Send;

    /// Reads an activation and sees every write acknowledged before. Expired ones may still be found, and no auth ever
    /// is.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, id: AuthId) -> impl Future<Output = Result<Option<Activation>, StoreError>> + Send;
}

/// The store of seeds, as registration uses it.
pub trait SeedRegistry: SeedStore {
    /// Where new seeds are kept.
    fn storage(&self) -> SeedStorage;

    /// Reads or opens a seed of a device with the parameters that it was stored with; a secret never from memory. `None` if
    /// that version of a secret does not exist or was removed.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read, opened or parsed.
    fn read(
        &self,
        key: &DeviceKey,
        seed: &SeedRef,
        sealed: Option<&SealedSeed>,
    ) -> impl Future<Output = Result<Option<Seed>, StoreError>> + Send;

    /// Seals a seed for a device, under the current key of the key ring. Stores nothing.
    ///
    /// # Errors
    /// [`StoreError`] if the key ring cannot be read.
    fn seal(
        &self,
        key: &DeviceKey,
        id: SealedId,
        seed: &Seed,
    ) -> impl Future<Output = Result<SealedSeed, StoreError>> + Send;

    /// Stores a seed in a secret with a new name.
    ///
    /// # Errors
    /// [`StoreError`]; the seed may be stored anyway.
    fn create(&self, name: &str, seed: &Seed) -> impl Future<Output = Result<SecretVersion, StoreError>> + Send;

    /// Removes a secret, every version of its name, if it exists. It can be restored for 30 days.
    ///
    /// # Errors
    /// [`StoreError`]; the secret may be gone anyway.
    fn remove(&self, seed: &SecretVersion) -> impl Future<Output = Result<(), StoreError>> + Send;
}

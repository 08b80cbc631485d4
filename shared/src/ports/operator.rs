//! What only an operator's tool may do: read whole tables, delete for good, restore.

use std::future::Future;

use super::Written;
use super::registry::{DevicePage, DeviceRegistry, SeedRegistry};
use crate::clock::Timestamp;
use crate::device::DeviceRecord;
use crate::error::StoreError;
use crate::names::{DeviceKey, Owner, SecretVersion, UserName};
use crate::registration::StoredSeed;
use crate::sealed::{KeyId, NewKey};

/// Which devices to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceFilter {
    /// All of them; reads the whole table.
    All,
    /// Those of an owner; reads the whole table.
    Owner(Owner),
    /// Those of a user; reads only them.
    User(Owner, UserName),
}

/// The store of devices, as an operator uses it.
pub trait DeviceInventory: DeviceRegistry {
    /// As [`DeviceRegistry::user_page`], for any filter.
    ///
    /// # Errors
    /// [`StoreError`] if nothing can be read.
    fn page(
        &self,
        filter: &DeviceFilter,
        after: Option<&DeviceKey>,
        limit: u16,
    ) -> impl Future<Output = Result<DevicePage, StoreError>> + Send;

    /// Removes a device whatever its state, even one that cannot be read, and returns what it was.
    ///
    /// # Errors
    /// [`StoreError`]; the device may be gone anyway.
    fn remove(&self, key: &DeviceKey) -> impl Future<Output = Result<Option<DeviceRecord>, StoreError>> + Send;

    /// Writes the sealed seeds of `new`, its own and the pending one, if the device still has the seed and the sealed seeds
    /// of `held`, in one conditional write. It changes nothing else, not even the version: sign-ins are not disturbed.
    ///
    /// # Errors
    /// [`StoreError`]; the seeds may be written anyway.
    fn reseal(
        &self,
        held: &DeviceRecord,
        new: &DeviceRecord,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;

    /// Says that a device's seed is elsewhere, if the device still has the version, the seed and the pending seed of `held`;
    /// the version goes up by one, and nothing is pending after it. One conditional write.
    ///
    /// # Errors
    /// [`StoreError`]; the seed may be moved anyway.
    fn move_seed(
        &self,
        held: &DeviceRecord,
        new: &StoredSeed,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;
}

/// What is known of a stored seed without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedSummary {
    /// Its name.
    pub name: String,
    /// The versions of it that can be read.
    pub versions: Vec<String>,
    /// When it was created, by the store's clock, in whole seconds.
    pub created_at: Timestamp,
    /// Whether it was removed and can still be restored.
    pub removed: bool,
}

/// Some of the seeds.
#[derive(Debug)]
pub struct SeedPage {
    /// The seeds. May be empty although more follow.
    pub seeds: Vec<SeedSummary>,
    /// The next page begins here; `None` at the end.
    pub next: Option<String>,
}

/// The store of seeds, as an operator uses it.
pub trait SeedInventory: SeedRegistry {
    /// Lists some of the seeds whose names begin with a prefix, removed ones included, from where the page before says.
    /// Writes of the last minutes may be missing.
    ///
    /// # Errors
    /// [`StoreError`].
    fn page(&self, prefix: &str, after: Option<&str>) -> impl Future<Output = Result<SeedPage, StoreError>> + Send;

    /// What is known of a seed; `None` if no seed has this name. Does not read the seed.
    ///
    /// # Errors
    /// [`StoreError`].
    fn describe(&self, name: &str) -> impl Future<Output = Result<Option<SeedSummary>, StoreError>> + Send;

    /// Deletes a secret, every version of its name, for good, if it exists.
    ///
    /// # Errors
    /// [`StoreError`]; the secret may be gone anyway.
    fn purge(&self, seed: &SecretVersion) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Restores a seed that was removed but not purged. One that was not removed stays as it is.
    ///
    /// # Errors
    /// [`StoreError`], also if it cannot be restored any more; it may be restored anyway.
    fn restore(&self, name: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What is known of the key ring besides its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRingSummary {
    /// The key that seals.
    pub current: KeyId,
    /// The other keys, the newest first.
    pub previous: Vec<KeyId>,
    /// The version of its secret.
    pub version: String,
    /// When that version was created, by the store's clock, in whole seconds.
    pub created_at: Timestamp,
}

impl KeyRingSummary {
    /// Whether it has a key.
    #[must_use]
    pub fn has(&self, key: KeyId) -> bool {
        self.current == key || self.previous.contains(&key)
    }
}

/// What became of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotated {
    /// The ring has this new key, which seals from now on.
    Yes(KeyId),
    /// Another rotation came first; nothing was changed.
    No,
}

/// The key ring, as an operator uses it.
pub trait KeyRingStore: Send + Sync {
    /// Reads the key ring, never from memory.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or is not one.
    fn read_key_ring(&self) -> impl Future<Output = Result<KeyRingSummary, StoreError>> + Send;

    /// When the ring's secret was changed last, by the store's clock, in whole seconds: not before the version of `held` became
    /// the current one, however long after its creation that was. `None` if another one is current.
    ///
    /// # Errors
    /// [`StoreError`].
    fn key_ring_changed_at(
        &self,
        held: &KeyRingSummary,
    ) -> impl Future<Output = Result<Option<Timestamp>, StoreError>> + Send;

    /// Adds a key, which seals from now on, if the ring still has the version of `held`. The key that sealed before stays
    /// in the ring.
    ///
    /// # Errors
    /// [`StoreError`]; the ring may have the new key anyway.
    fn rotate_key_ring(
        &self,
        held: &KeyRingSummary,
        new: &NewKey,
    ) -> impl Future<Output = Result<Rotated, StoreError>> + Send;
}

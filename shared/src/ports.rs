//! What the service needs from outside, and how atomic each part must be.
//!
//! A port that fails says so with a [`StoreError`]; it never turns a failure into an answer.

use std::future::Future;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::device::{Auth, Device, DeviceRecord, PendingSeed};
use crate::error::{RandomError, StoreError};
use crate::names::{AuthId, ClientId, DeviceKey, SeedRef, UserName};
use crate::otp::Seed;

/// What became of an auth that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is there: written now, or by an earlier try of this very call whose response was lost.
    Yes,
    /// Its id belongs to another auth; nothing was written.
    Taken,
}

/// Where auths are.
pub trait AuthStore: Send + Sync {
    /// Stores an auth if its id is free, in one conditional write. If the id is taken by an auth of the same client,
    /// device and time of issue, that one was this call's own repeated write.
    ///
    /// # Errors
    /// [`StoreError`]; the auth may be stored nevertheless, which harms nobody.
    fn create(&self, auth: &Auth) -> impl Future<Output = Result<Stored, StoreError>> + Send;

    /// Reads an auth; every write that was acknowledged before is seen. Expired ones may still be found.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, id: AuthId) -> impl Future<Output = Result<Option<Auth>, StoreError>> + Send;
}

/// What became of a write of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It took effect, exactly once.
    Yes,
    /// The device was another by then, and is now this one; or there is none. Nothing was written by the last try;
    /// an earlier try of this call may have been, see [`Device::verdict_of`].
    No(Option<Box<Device>>),
}

/// Where devices are.
pub trait DeviceStore: Send + Sync {
    /// Reads a device; every write that was acknowledged before is seen.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, key: &DeviceKey) -> impl Future<Output = Result<Option<Device>, StoreError>> + Send;

    /// Writes `new` if the device still has the version and the seed of `held`, in one conditional write that returns
    /// the state that it failed on. `used_at` is when the device was used successfully, if it was.
    ///
    /// If `new` has another seed, that one must be the pending seed too, and is not pending any more: one write swaps
    /// them.
    ///
    /// # Errors
    /// [`StoreError`]; the write may have taken effect nevertheless, so no verdict can be given.
    fn replace(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        used_at: Option<Timestamp>,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;
}

/// Which devices are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// All of them; reads the whole table.
    All,
    /// Those of a client; reads the whole table.
    Client(ClientId),
    /// Those of a user; reads only them.
    User(ClientId, UserName),
}

/// Some of the devices that were asked for.
#[derive(Debug)]
pub struct Page {
    /// Each device, or why it cannot be read. There may be none although more follow.
    pub records: Vec<Result<DeviceRecord, StoreError>>,
    /// Where the next page begins: after this key. `None` at the end.
    pub next: Option<DeviceKey>,
}

/// Where devices come from and go to; no function of the API may do this.
pub trait DeviceRegistry: DeviceStore {
    /// Reads all that is known of a device; every write that was acknowledged before is seen.
    ///
    /// # Errors
    /// [`StoreError`].
    fn record(&self, key: &DeviceKey) -> impl Future<Output = Result<Option<DeviceRecord>, StoreError>> + Send;

    /// Reads at most `most` devices after a key; every write of them that was acknowledged before is seen. A device
    /// that is there throughout is on exactly one page.
    ///
    /// # Errors
    /// [`StoreError`] if nothing can be read.
    fn page(
        &self,
        of: &Of,
        after: Option<&DeviceKey>,
        most: u16,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send;

    /// Names a pending seed, over one that was named before, if the device still has the version and the seed of `held`;
    /// the version is one more then. One conditional write.
    ///
    /// # Errors
    /// [`StoreError`]; the seed may be named nevertheless.
    fn offer_seed(
        &self,
        key: &DeviceKey,
        held: &Device,
        pending: &PendingSeed,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;

    /// Stores a new device unless there is one by that name, in one conditional write.
    ///
    /// # Errors
    /// [`StoreError`]; the device may be stored nevertheless.
    fn register(
        &self,
        key: &DeviceKey,
        device: &Device,
        created_at: Timestamp,
    ) -> impl Future<Output = Result<Stored, StoreError>> + Send;

    /// Removes a device, if it is there, and says what it was, so that its seeds are known.
    ///
    /// # Errors
    /// [`StoreError`]; the device may be gone nevertheless.
    fn remove(&self, key: &DeviceKey) -> impl Future<Output = Result<Option<DeviceRecord>, StoreError>> + Send;

    /// Removes a device if it still has the version and the seed of `held`, in one conditional write. `No(None)` is also
    /// the answer to this call's own repeated write: either way it is gone.
    ///
    /// # Errors
    /// [`StoreError`]; the device may be gone nevertheless.
    fn remove_held(&self, key: &DeviceKey, held: &Device) -> impl Future<Output = Result<Written, StoreError>> + Send;
}

/// Where seeds are.
pub trait SeedStore: Send + Sync {
    /// Reads a seed and checks that it is made for `device`'s parameters. What a version names never changes, so it
    /// may come from memory.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read, parsed or used.
    fn get(&self, device: &Device) -> impl Future<Output = Result<Arc<Seed>, StoreError>> + Send;
}

/// How a seed is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Removal {
    /// The store can bring it back for 30 days.
    Recoverable,
    /// For good.
    AtOnce,
}

/// A seed without itself: what is known of where it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedListed {
    /// Its name.
    pub name: String,
    /// The versions of it that can be read.
    pub versions: Vec<String>,
    /// When it was created, by the store's clock, in whole seconds.
    pub created_at: Timestamp,
    /// Whether it was removed, and can be brought back.
    pub removed: bool,
}

/// Some of the seeds.
#[derive(Debug)]
pub struct SeedPage {
    /// The seeds. There may be none although more follow.
    pub seeds: Vec<SeedListed>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// Where seeds come from and go to; no function of the API may do this.
pub trait SeedRegistry: SeedStore {
    /// Reads a seed with the parameters that it was stored with, never from memory; `None` if there is none by that
    /// name and version, or if it was removed.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read or parsed.
    fn read(&self, seed: &SeedRef) -> impl Future<Output = Result<Option<Seed>, StoreError>> + Send;

    /// Stores a seed under a new name.
    ///
    /// # Errors
    /// [`StoreError`]; the seed may be stored nevertheless.
    fn create(&self, name: &str, seed: &Seed) -> impl Future<Output = Result<SeedRef, StoreError>> + Send;

    /// Removes a seed, if it is there: every version of its name.
    ///
    /// # Errors
    /// [`StoreError`]; the seed may be gone nevertheless.
    fn remove(&self, seed: &SeedRef, how: Removal) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Lists some of the seeds whose names begin with a prefix, those that can be brought back included, from where a page
    /// says that the next one begins. Writes of the last minutes may not be seen.
    ///
    /// # Errors
    /// [`StoreError`].
    fn page(&self, prefix: &str, after: Option<&str>) -> impl Future<Output = Result<SeedPage, StoreError>> + Send;

    /// What is known of a seed by its name; `None` if there is none. Does not read the seed.
    ///
    /// # Errors
    /// [`StoreError`].
    fn describe(&self, name: &str) -> impl Future<Output = Result<Option<SeedListed>, StoreError>> + Send;

    /// Brings back a seed that was removed recoverably. One that is there stays as it is.
    ///
    /// # Errors
    /// [`StoreError`], also if it cannot be brought back any more; it may be back nevertheless.
    fn restore(&self, name: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Where randomness comes from: a cryptographic generator.
pub trait Random: Send + Sync {
    /// Sixteen random bytes.
    ///
    /// # Errors
    /// [`RandomError`] if the generator fails.
    fn sixteen_bytes(&self) -> Result<[u8; 16], RandomError>;
}

impl<R: Random + ?Sized> Random for Arc<R> {
    fn sixteen_bytes(&self) -> Result<[u8; 16], RandomError> {
        (**self).sixteen_bytes()
    }
}

//! Stores in memory, as atomic as the ports promise, that fail on demand.
//!
//! Every call yields before it takes effect and again before its answer arrives, so that concurrent requests interleave
//! as they do over a network.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::device::{Accepted, Auth, Device, DeviceRecord, PendingSeed, RegisteredBy, Registration, Status};
use crate::error::{NoCredentials, StoreError, Throttled};
use crate::names::{AuthId, DeviceKey, Owner, SealedId, SecretVersion, SeedRef, UserName};
use crate::otp::Seed;
use crate::ports::operator::{
    DeviceFilter, DeviceInventory, KeyRingStore, KeyRingSummary, Rotated, SeedInventory, SeedPage, SeedSummary,
};
use crate::ports::registry::{ActivationStore, DevicePage, DeviceRegistry, Removed, SeedRegistry, Unreadable};
use crate::ports::{AuthStore, DeviceStore, SeedStore, Stored, Written};
use crate::registration::{Activation, StoredSeed as NewPlace};
use crate::sealed::{KeyId, NewKey, SealedSeed, SeedStorage};

const STORE: &str = "memory";
/// Seeds on one page: few, so that tests see several pages.
const PAGE: usize = 3;

/// A call of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `get` of any store.
    Get,
    /// `create` of auths, activations or seeds.
    Create,
    /// `replace` of devices.
    Replace,
    /// `register` of devices.
    Register,
    /// `remove`, `remove_held` or `remove_seeded` of devices, `remove` of seeds.
    Remove,
    /// `purge` of seeds.
    Purge,
    /// `record` of devices.
    Record,
    /// `user_page` or `page` of devices, `page` of seeds.
    Page,
    /// `set_pending_seed` of devices.
    SetPendingSeed,
    /// `reseed` of devices.
    Reseed,
    /// `read` of seeds.
    Read,
    /// `seal` of seeds.
    Seal,
    /// `describe` of seeds.
    Describe,
    /// `restore` of seeds.
    Restore,
    /// `reseal` of devices.
    Reseal,
    /// `move_seed` of devices.
    MoveSeed,
    /// `read_key_ring` of seeds.
    ReadKeyRing,
    /// `key_ring_changed_at` of seeds.
    KeyRingChangedAt,
    /// `rotate_key_ring` of seeds.
    RotateKeyRing,
}

impl Op {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Register => "register",
            Self::Remove => "remove",
            Self::Purge => "purge",
            Self::Record => "record",
            Self::Page => "page",
            Self::SetPendingSeed => "set_pending_seed",
            Self::Reseed => "reseed",
            Self::Read => "read",
            Self::Seal => "seal",
            Self::Describe => "describe",
            Self::Restore => "restore",
            Self::Reseal => "reseal",
            Self::MoveSeed => "move_seed",
            Self::ReadKeyRing => "read_key_ring",
            Self::KeyRingChangedAt => "key_ring_changed_at",
            Self::RotateKeyRing => "rotate_key_ring",
        }
    }
}

/// How one call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It fails and has no effect.
    Before,
    /// It fails but has its effect.
    After,
    /// It has no effect, and the store asks for a slower pace.
    Throttled,
    /// It has no effect: the credentials expired.
    Expired,
    /// It has its effect, its response is lost, and the same call is repeated, as the SDK does: a conditional write then
    /// fails on its own success. Other calls may come in between. Counted as one call.
    LostThenRepeated,
    /// It is never answered and has no effect.
    Hang,
    /// It is never answered but has its effect.
    HangAfter,
}

fn because(op: Op, source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable {
        store: STORE,
        operation: op.as_str(),
        source: Box::new(source),
    }
}

type Hook = Arc<dyn Fn(Op) + Send + Sync>;

/// The connection to a store: counts calls, and makes them fail.
#[derive(Default)]
struct Wire {
    calls: HashMap<Op, usize>,
    faults: HashMap<Op, VecDeque<Option<Fault>>>,
    hook: Option<Hook>,
}

struct State<T> {
    wire: Wire,
    items: T,
}

/// A store's state, shared by its clones.
struct Shared<T>(Arc<Mutex<State<T>>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Default> Default for Shared<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            wire: Wire::default(),
            items: T::default(),
        })))
    }
}

impl<T: Send> Shared<T> {
    fn with<R>(&self, act: impl FnOnce(&mut State<T>) -> R) -> R {
        // A test that panicked elsewhere must not fail this one with a second reason.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn items<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        self.with(|state| act(&mut state.items))
    }

    fn inject_after(&self, calls: usize, op: Op, fault: Fault) {
        let turns = std::iter::repeat_n(None, calls).chain([Some(fault)]);
        self.with(|state| state.wire.faults.entry(op).or_default().extend(turns));
    }

    fn inject(&self, op: Op, fault: Fault) {
        self.inject_after(0, op, fault);
    }

    fn calls(&self, op: Op) -> usize {
        self.with(|state| state.wire.calls.get(&op).copied().unwrap_or_default())
    }

    fn all_calls(&self) -> usize {
        self.with(|state| state.wire.calls.values().sum())
    }

    /// One call: `effect` is the atomic part, and is made twice if the call is repeated.
    async fn call<R: Send>(&self, op: Op, mut effect: impl FnMut(&mut T) -> R + Send) -> Result<R, StoreError> {
        let (fault, hook) = self.with(|state| {
            *state.wire.calls.entry(op).or_default() += 1;
            let fault = state.wire.faults.get_mut(&op).and_then(VecDeque::pop_front).flatten();
            (fault, state.wire.hook.clone())
        });
        // Not under the lock: a hook may change what is stored.
        if let Some(hook) = hook {
            hook(op);
        }
        tokio::task::yield_now().await;
        let answer = match fault {
            None => self.items(&mut effect),
            Some(Fault::Before) => return Err(unavailable(op.as_str(), "an injected fault before the effect")),
            Some(Fault::Throttled) => {
                let source = Throttled("an injected fault: slower".to_owned());
                return Err(because(op, source));
            }
            Some(Fault::Expired) => {
                let source = NoCredentials("an injected fault: expired".to_owned());
                return Err(because(op, source));
            }
            Some(Fault::After) => {
                self.items(&mut effect);
                return Err(unavailable(op.as_str(), "an injected fault after the effect"));
            }
            Some(Fault::LostThenRepeated) => {
                self.items(&mut effect);
                tokio::task::yield_now().await;
                self.items(&mut effect)
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::HangAfter) => {
                self.items(&mut effect);
                std::future::pending().await
            }
        };
        tokio::task::yield_now().await;
        Ok(answer)
    }
}

fn unavailable(operation: &'static str, what: &'static str) -> StoreError {
    StoreError::Unavailable {
        store: STORE,
        operation,
        source: what.into(),
    }
}

const fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt { store: STORE, what }
}

/// Tables hold whole seconds where the core says so; a caller that relies on more fails here too.
const fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_secs(time.as_secs())
}

fn as_table_holds(device: &Device) -> Device {
    let whole = |entry: &Accepted| Accepted {
        expires_at: whole_seconds(entry.expires_at),
        ..*entry
    };
    Device {
        accepted: device.accepted.iter().map(whole).collect(),
        ..device.clone()
    }
}

/// Auths in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryAuths(Shared<HashMap<AuthId, Auth>>);

impl MemoryAuths {
    /// Makes a later call fail; several faults for one kind of call apply in turn.
    pub fn inject(&self, op: Op, fault: Fault) {
        self.0.inject(op, fault);
    }

    /// Makes a call fail after some that succeed.
    pub fn inject_after(&self, calls: usize, op: Op, fault: Fault) {
        self.0.inject_after(calls, op, fault);
    }

    /// How many calls of a kind there were.
    #[must_use]
    pub fn calls(&self, op: Op) -> usize {
        self.0.calls(op)
    }

    /// How many calls there were.
    #[must_use]
    pub fn all_calls(&self) -> usize {
        self.0.all_calls()
    }

    /// The auth with this id, without a call.
    #[must_use]
    pub fn peek(&self, id: AuthId) -> Option<Auth> {
        self.0.items(|auths| auths.get(&id).cloned())
    }

    /// Stores an auth, overwriting any other, without a call.
    pub fn put(&self, auth: &Auth) {
        self.0.items(|auths| auths.insert(auth.id, as_stored(auth)));
    }

    /// How many are stored.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.items(|auths| auths.len())
    }
}

impl fmt::Debug for MemoryAuths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryAuths").finish_non_exhaustive()
    }
}

fn as_stored(auth: &Auth) -> Auth {
    Auth {
        issued_at: whole_seconds(auth.issued_at),
        expires_at: whole_seconds(auth.expires_at),
        device: as_table_holds(&auth.device),
        ..auth.clone()
    }
}

impl AuthStore for MemoryAuths {
    async fn create(&self, auth: &Auth) -> Result<Stored, StoreError> {
        let create = |auths: &mut HashMap<AuthId, Auth>| {
            let own = |taken: &Auth| taken.key == auth.key && taken.issued_at == auth.issued_at;
            match auths.get(&auth.id) {
                Some(taken) if own(taken) => Stored::Yes,
                Some(_) => Stored::Taken,
                None => {
                    auths.insert(auth.id, as_stored(auth));
                    Stored::Yes
                }
            }
        };
        self.0.call(Op::Create, create).await
    }

    async fn get(&self, id: AuthId) -> Result<Option<Auth>, StoreError> {
        self.0.call(Op::Get, |auths| auths.get(&id).cloned()).await
    }
}

/// Activations in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryActivations(Shared<HashMap<AuthId, Activation>>);

impl MemoryActivations {
    /// Makes a later call fail; several faults for one kind of call apply in turn.
    pub fn inject(&self, op: Op, fault: Fault) {
        self.0.inject(op, fault);
    }

    /// How many calls there were.
    #[must_use]
    pub fn all_calls(&self) -> usize {
        self.0.all_calls()
    }

    /// Stores an activation, overwriting any other, without a call.
    pub fn put(&self, activation: &Activation) {
        self.0
            .items(|activations| activations.insert(activation.id, activation.clone()));
    }

    /// How many are stored.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.items(|activations| activations.len())
    }
}

impl fmt::Debug for MemoryActivations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryActivations").finish_non_exhaustive()
    }
}

impl ActivationStore for MemoryActivations {
    async fn create(&self, activation: &Activation) -> Result<Stored, StoreError> {
        let create = |activations: &mut HashMap<AuthId, Activation>| {
            let stored = Activation {
                issued_at: whole_seconds(activation.issued_at),
                expires_at: whole_seconds(activation.expires_at),
                ..activation.clone()
            };
            match activations.get(&activation.id) {
                Some(taken) if taken.key == stored.key && taken.issued_at == stored.issued_at => Stored::Yes,
                Some(_) => Stored::Taken,
                None => {
                    activations.insert(activation.id, stored);
                    Stored::Yes
                }
            }
        };
        self.0.call(Op::Create, create).await
    }

    async fn get(&self, id: AuthId) -> Result<Option<Activation>, StoreError> {
        self.0.call(Op::Get, |activations| activations.get(&id).cloned()).await
    }
}

#[derive(Debug, Clone)]
struct StoredDevice {
    device: Device,
    pending: Option<PendingSeed>,
    registration: Registration,
    last_used_at: Option<Timestamp>,
    unreadable: bool,
}

impl StoredDevice {
    fn new(device: &Device, registration: &Registration) -> Self {
        Self {
            device: as_table_holds(device),
            pending: None,
            registration: Registration {
                created_at: whole_seconds(registration.created_at),
                activate_by: registration.activate_by.map(whole_seconds),
                ..*registration
            },
            last_used_at: None,
            unreadable: false,
        }
    }

    fn record(&self, key: &DeviceKey) -> DeviceRecord {
        DeviceRecord {
            key: key.clone(),
            device: self.device.clone(),
            pending: self.pending.clone(),
            created_at: self.registration.created_at,
            by: self.registration.by,
            activate_by: self.registration.activate_by,
            last_used_at: self.last_used_at,
        }
    }

    /// What a call reads.
    fn read(&self, key: &DeviceKey) -> Result<DeviceRecord, StoreError> {
        if self.unreadable {
            return Err(corrupt("an item without a version"));
        }
        Ok(self.record(key))
    }

    fn is(&self, held: &Device) -> bool {
        self.device.version == held.version && self.device.seed_ref == held.seed_ref
    }

    fn pends(&self, seed: &SeedRef) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.seed_ref == *seed)
    }
}

type Devices = HashMap<DeviceKey, StoredDevice>;

/// Devices in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryDevices(Shared<Devices>);

impl MemoryDevices {
    /// Runs a hook before each call from now on, such as a concurrent write of another request. The hook may use a clone
    /// of this store, without a call.
    pub fn before_each(&self, hook: impl Fn(Op) + Send + Sync + 'static) {
        self.0.with(|state| state.wire.hook = Some(Arc::new(hook)));
    }

    /// Makes a later call fail; several faults for one kind of call apply in turn.
    pub fn inject(&self, op: Op, fault: Fault) {
        self.0.inject(op, fault);
    }

    /// Makes a call fail after some that succeed.
    pub fn inject_after(&self, calls: usize, op: Op, fault: Fault) {
        self.0.inject_after(calls, op, fault);
    }

    /// How many calls of a kind there were.
    #[must_use]
    pub fn calls(&self, op: Op) -> usize {
        self.0.calls(op)
    }

    /// How many calls there were.
    #[must_use]
    pub fn all_calls(&self) -> usize {
        self.0.all_calls()
    }

    /// The device with this key, without a call.
    #[must_use]
    pub fn peek(&self, key: &DeviceKey) -> Option<Device> {
        self.0
            .items(|devices| devices.get(key).map(|stored| stored.device.clone()))
    }

    /// Stores a device, overwriting any other, without a call.
    pub fn put(&self, key: &DeviceKey, device: &Device) {
        let stored = StoredDevice::new(device, &Registration::by_operator(Timestamp::EPOCH));
        self.0.items(|devices| devices.insert(key.clone(), stored));
    }

    /// Stores a pending seed of a device, without a call.
    pub fn put_pending(&self, key: &DeviceKey, pending: PendingSeed) {
        self.0.items(|devices| {
            if let Some(stored) = devices.get_mut(key) {
                stored.pending = Some(pending);
            }
        });
    }

    /// Makes every call that reads a device fail, as if its item were damaged.
    pub fn make_unreadable(&self, key: &DeviceKey) {
        self.0.items(|devices| {
            if let Some(stored) = devices.get_mut(key) {
                stored.unreadable = true;
            }
        });
    }

    /// Replaces a device that is held, keeping what is stored beside its state, without a call.
    pub fn swap_seed(&self, key: &DeviceKey, held: &Device, new: &Device) {
        self.0.items(|devices| {
            if let Some(stored) = devices.get_mut(key).filter(|stored| stored.is(held)) {
                stored.device = as_table_holds(new);
            }
        });
    }

    /// Removes a device, if it exists, without a call.
    pub fn take(&self, key: &DeviceKey) {
        self.0.items(|devices| drop(devices.remove(key)));
    }

    /// Everything stored about a device, without a call.
    #[must_use]
    pub fn peek_record(&self, key: &DeviceKey) -> Option<DeviceRecord> {
        self.0
            .items(|devices| devices.get(key).map(|stored| stored.record(key)))
    }

    /// Every device, without a call.
    #[must_use]
    pub fn all(&self) -> Vec<DeviceRecord> {
        self.0
            .items(|devices| devices.iter().map(|(key, stored)| stored.record(key)).collect())
    }

    /// When a device was registered, whole seconds.
    #[must_use]
    pub fn created_at(&self, key: &DeviceKey) -> Option<Timestamp> {
        self.0
            .items(|devices| devices.get(key).map(|stored| stored.registration.created_at))
    }

    /// When a device was last used successfully, whole seconds.
    #[must_use]
    pub fn last_used_at(&self, key: &DeviceKey) -> Option<Timestamp> {
        self.0
            .items(|devices| devices.get(key).and_then(|stored| stored.last_used_at))
    }

    /// How many are stored.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.items(|devices| devices.len())
    }
}

impl fmt::Debug for MemoryDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDevices").finish_non_exhaustive()
    }
}

impl DeviceStore for MemoryDevices {
    async fn get(&self, key: &DeviceKey) -> Result<Option<Device>, StoreError> {
        let get = |devices: &mut Devices| devices.get(key).map(|stored| stored.read(key)).transpose();
        Ok(self.0.call(Op::Get, get).await??.map(|record| record.device))
    }

    async fn replace(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        used_at: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        let replace = |devices: &mut Devices| {
            let Some(stored) = devices.get_mut(key) else {
                return Written::No(None);
            };
            let swaps = new.seed_ref != held.seed_ref;
            if swaps && stored.device.seed_ref == held.seed_ref && !stored.pends(&new.seed_ref) {
                return Written::NotPending;
            }
            if !stored.is(held) {
                return Written::No(Some(Box::new(stored.device.clone())));
            }
            // What is pending is moved, and what the device has stays: no sealed seed is written from `new`.
            let sealed = if swaps {
                stored.pending.take().and_then(|pending| pending.sealed)
            } else {
                stored.device.sealed.clone()
            };
            if new.status == Status::Active {
                stored.registration.activate_by = None;
            }
            stored.device = Device {
                sealed,
                ..as_table_holds(new)
            };
            stored.last_used_at = used_at.map(whole_seconds).or(stored.last_used_at);
            Written::Yes
        };
        self.0.call(Op::Replace, replace).await
    }
}

fn sort_key(key: &DeviceKey) -> (String, String) {
    let partition = format!("{}#{}", key.owner.as_str(), key.user.as_str());
    (partition, key.device.as_str().to_owned())
}

fn device_page(devices: &Devices, filter: &DeviceFilter, after: Option<&DeviceKey>, limit: u16) -> DevicePage {
    let wanted = |key: &DeviceKey| match filter {
        DeviceFilter::All => true,
        DeviceFilter::Owner(owner) => key.owner == *owner,
        DeviceFilter::User(owner, user) => key.owner == *owner && key.user == *user,
    };
    let mut all: Vec<&DeviceKey> = devices.keys().collect();
    all.sort_by_cached_key(|key| sort_key(key));
    // As in a scan, items that are filtered out count towards the limit.
    let scanned: Vec<&DeviceKey> = all
        .into_iter()
        .filter(|key| after.is_none_or(|after| sort_key(key) > sort_key(after)))
        .take(limit.into())
        .collect();
    let next = (scanned.len() == usize::from(limit)).then(|| scanned.last().copied().cloned());
    DevicePage {
        records: scanned
            .iter()
            .filter(|key| wanted(key))
            .filter_map(|key| {
                let unreadable = |error| Unreadable {
                    key: Some((*key).clone()),
                    error,
                };
                devices.get(*key).map(|stored| stored.read(key).map_err(unreadable))
            })
            .collect(),
        next: next.flatten(),
    }
}

impl DeviceRegistry for MemoryDevices {
    async fn record(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        let record = |devices: &mut Devices| devices.get(key).map(|stored| stored.read(key)).transpose();
        self.0.call(Op::Record, record).await?
    }

    async fn user_page(
        &self,
        owner: &Owner,
        user: &UserName,
        after: Option<&DeviceKey>,
        limit: u16,
    ) -> Result<DevicePage, StoreError> {
        let filter = DeviceFilter::User(owner.clone(), user.clone());
        let page = |devices: &mut Devices| device_page(devices, &filter, after, limit);
        self.0.call(Op::Page, page).await
    }

    async fn set_pending_seed(
        &self,
        key: &DeviceKey,
        held: &Device,
        pending: &PendingSeed,
    ) -> Result<Written, StoreError> {
        let offer = |devices: &mut Devices| match devices.get_mut(key) {
            None => Written::No(None),
            // A seed's name is random: that it is pending can only be this call's own repeated write.
            Some(stored) if stored.pends(&pending.seed_ref) => Written::Yes,
            Some(stored) if !stored.is(held) => Written::No(Some(Box::new(stored.device.clone()))),
            Some(stored) => {
                stored.device.version = stored.device.version.saturating_add(1);
                stored.pending = Some(PendingSeed {
                    until: whole_seconds(pending.until),
                    ..pending.clone()
                });
                Written::Yes
            }
        };
        self.0.call(Op::SetPendingSeed, offer).await
    }

    async fn register(
        &self,
        key: &DeviceKey,
        device: &Device,
        registration: &Registration,
    ) -> Result<Stored, StoreError> {
        let register = |devices: &mut Devices| match devices.get(key) {
            // The random version tells this call's own repeated write from another registration.
            Some(stored) if stored.device == *device => Stored::Yes,
            Some(_) => Stored::Taken,
            None => {
                devices.insert(key.clone(), StoredDevice::new(device, registration));
                Stored::Yes
            }
        };
        self.0.call(Op::Register, register).await
    }

    async fn reseed(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        by: RegisteredBy,
        activate_by: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        let reseed = |devices: &mut Devices| match devices.get_mut(key) {
            None => Written::No(None),
            // A seed's name is random: that the device has it can only be this call's own repeated write.
            Some(stored) if stored.device.seed_ref == new.seed_ref => Written::Yes,
            Some(stored) if !stored.is(held) || stored.device.status != Status::ActivationRequired => {
                Written::No(Some(Box::new(stored.device.clone())))
            }
            Some(stored) => {
                stored.device = as_table_holds(new);
                stored.pending = None;
                stored.registration.by = by;
                stored.registration.activate_by = activate_by.map(whole_seconds);
                Written::Yes
            }
        };
        self.0.call(Op::Reseed, reseed).await
    }

    async fn remove_seeded(&self, key: &DeviceKey, seed: &SeedRef) -> Result<Removed, StoreError> {
        let remove = |devices: &mut Devices| match devices.get(key).map(|stored| stored.record(key)) {
            None => Removed::No(None),
            Some(record) if record.device.seed_ref != *seed || record.device.status == Status::Disabled => {
                Removed::No(Some(Box::new(record)))
            }
            Some(record) => {
                devices.remove(key);
                Removed::Yes(Box::new(record))
            }
        };
        self.0.call(Op::Remove, remove).await
    }

    async fn remove_held(&self, key: &DeviceKey, held: &Device) -> Result<Written, StoreError> {
        let remove = |devices: &mut Devices| match devices.get(key) {
            None => Written::No(None),
            Some(stored) if !stored.is(held) => Written::No(Some(Box::new(stored.device.clone()))),
            Some(_) => {
                devices.remove(key);
                Written::Yes
            }
        };
        self.0.call(Op::Remove, remove).await
    }
}

impl DeviceInventory for MemoryDevices {
    async fn page(
        &self,
        filter: &DeviceFilter,
        after: Option<&DeviceKey>,
        limit: u16,
    ) -> Result<DevicePage, StoreError> {
        let page = |devices: &mut Devices| device_page(devices, filter, after, limit);
        self.0.call(Op::Page, page).await
    }

    async fn remove(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        let remove = |devices: &mut Devices| devices.remove(key).map(|stored| stored.read(key)).transpose();
        self.0.call(Op::Remove, remove).await?
    }

    async fn reseal(&self, held: &DeviceRecord, new: &DeviceRecord) -> Result<Written, StoreError> {
        let reseal = |devices: &mut Devices| {
            let Some(stored) = devices.get_mut(&held.key) else {
                return Written::No(None);
            };
            let record = stored.record(&held.key);
            let is = |other: &DeviceRecord| {
                record.device.sealed == other.device.sealed && record.pending_sealed() == other.pending_sealed()
            };
            // Every sealed seed is another one: that the device has it can only be this call's own repeated write.
            if is(new) {
                return Written::Yes;
            }
            if record.device.seed_ref != held.device.seed_ref || !is(held) {
                return Written::No(Some(Box::new(record.device)));
            }
            stored.device.sealed.clone_from(&new.device.sealed);
            if let Some(pending) = &mut stored.pending {
                pending.sealed = new.pending_sealed().cloned();
            }
            Written::Yes
        };
        self.0.call(Op::Reseal, reseal).await
    }

    async fn move_seed(&self, held: &DeviceRecord, new: &NewPlace) -> Result<Written, StoreError> {
        let pending = |pending: &Option<PendingSeed>| pending.as_ref().map(|pending| pending.seed_ref.clone());
        let move_seed = |devices: &mut Devices| match devices.get_mut(&held.key) {
            None => Written::No(None),
            // A seed's name is random: that the device has it can only be this call's own repeated write.
            Some(stored) if stored.device.seed_ref == new.seed_ref => Written::Yes,
            Some(stored) if !stored.is(&held.device) || pending(&stored.pending) != pending(&held.pending) => {
                Written::No(Some(Box::new(stored.device.clone())))
            }
            Some(stored) => {
                stored.device.version = stored.device.version.saturating_add(1);
                stored.device.seed_ref.clone_from(&new.seed_ref);
                stored.device.sealed.clone_from(&new.sealed);
                stored.pending = None;
                Written::Yes
            }
        };
        self.0.call(Op::MoveSeed, move_seed).await
    }
}

#[derive(Debug)]
struct StoredSeed {
    version: String,
    seed: Arc<Seed>,
    created_at: Timestamp,
    removed: bool,
}

impl StoredSeed {
    fn listed(&self, name: &str) -> SeedSummary {
        SeedSummary {
            name: name.to_owned(),
            versions: vec![self.version.clone()],
            created_at: self.created_at,
            removed: self.removed,
        }
    }
}

/// What a sealed seed of the memory stands for: it is only a number.
#[derive(Debug)]
struct Sealed {
    key: DeviceKey,
    id: SealedId,
    seed: Arc<Seed>,
}

#[derive(Debug, Default)]
struct Seeds {
    by_name: BTreeMap<String, StoredSeed>,
    versions: u64,
    now: Timestamp,
    storage: SeedStorage,
    sealed: HashMap<SealedSeed, Sealed>,
    /// The current key of the key ring; the others are all below.
    key: u8,
    /// The version of the key ring, and when it was created.
    ring: (String, Timestamp),
    /// How long after that it became the current one.
    held_up: Duration,
}

impl Seeds {
    fn new_version(&mut self) -> String {
        self.versions += 1;
        format!("version-{}", self.versions)
    }

    fn at(&self, seed: &SecretVersion) -> Option<&StoredSeed> {
        self.by_name
            .get(seed.name())
            .filter(|stored| !stored.removed && stored.version == seed.version())
    }

    fn stored(
        &self,
        key: &DeviceKey,
        seed: &SeedRef,
        sealed: Option<&SealedSeed>,
    ) -> Result<Option<&Arc<Seed>>, StoreError> {
        let id = match seed {
            SeedRef::Secret(secret) => return Ok(self.at(secret).map(|stored| &stored.seed)),
            SeedRef::Sealed(id) => id,
        };
        let found = sealed.and_then(|sealed| self.sealed.get(sealed));
        let own = found.filter(|sealed| sealed.key == *key && sealed.id == *id);
        Ok(Some(&own.ok_or(corrupt("a sealed seed that does not open"))?.seed))
    }

    fn find(&self, key: &DeviceKey, device: &Device) -> Result<Arc<Seed>, StoreError> {
        let stored = self
            .stored(key, &device.seed_ref, device.sealed.as_ref())?
            .ok_or_else(|| unavailable("get", "there is no such seed"))?;
        if stored.parameters() == device.parameters {
            Ok(Arc::clone(stored))
        } else {
            Err(corrupt("a seed that is made for other parameters than its device's"))
        }
    }

    fn seal(&mut self, key: &DeviceKey, id: SealedId, seed: &Seed) -> Result<SealedSeed, StoreError> {
        self.versions += 1;
        let number = self.versions.to_be_bytes();
        let bytes = [SealedSeed::FORMAT, 0, 0, 0, self.key].into_iter().chain(number);
        let sealed = SealedSeed::from_bytes(bytes.collect());
        self.put_blob(key, id, &sealed, seed)?;
        Ok(sealed)
    }

    fn put_blob(&mut self, key: &DeviceKey, id: SealedId, sealed: &SealedSeed, seed: &Seed) -> Result<(), StoreError> {
        let stands_for = Sealed {
            key: key.clone(),
            id,
            seed: Arc::new(copy_of(seed)?),
        };
        self.sealed.insert(sealed.clone(), stands_for);
        Ok(())
    }

    fn key_ring(&self) -> KeyRingSummary {
        KeyRingSummary {
            current: memory_key(self.key),
            previous: (0..self.key).rev().map(memory_key).collect(),
            version: self.ring.0.clone(),
            created_at: self.ring.1,
        }
    }

    fn rotate(&mut self, version: String) {
        self.key = self.key.saturating_add(1);
        self.ring = (version, self.now);
    }

    fn create(&mut self, name: &str, version: &str, seed: &Seed) -> Result<SecretVersion, StoreError> {
        match self.by_name.get(name) {
            // The version is drawn once per call, so this is the call's own repeated write.
            Some(stored) if stored.version == version => {}
            // A removed name is blocked too, as long as it can be recovered.
            Some(_) => return Err(unavailable("create", "the name of the seed is taken")),
            None => {
                let stored = StoredSeed {
                    version: version.to_owned(),
                    seed: Arc::new(copy_of(seed)?),
                    created_at: self.now,
                    removed: false,
                };
                self.by_name.insert(name.to_owned(), stored);
            }
        }
        SecretVersion::new(name, version).map_err(|_| corrupt("a seed's name or version"))
    }
}

const fn memory_key(number: u8) -> KeyId {
    KeyId([0, 0, 0, number])
}

fn copy_of(seed: &Seed) -> Result<Seed, StoreError> {
    Seed::from_base32(&seed.to_base32(), seed.parameters()).map_err(|_| corrupt("a seed that cannot be written"))
}

/// Seeds in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemorySeeds(Shared<Seeds>);

impl MemorySeeds {
    /// Makes a later call fail; several faults for one kind of call apply in turn.
    pub fn inject(&self, op: Op, fault: Fault) {
        self.0.inject(op, fault);
    }

    /// Makes a call fail after some that succeed.
    pub fn inject_after(&self, calls: usize, op: Op, fault: Fault) {
        self.0.inject_after(calls, op, fault);
    }

    /// How many calls of a kind there were.
    #[must_use]
    pub fn calls(&self, op: Op) -> usize {
        self.0.calls(op)
    }

    /// How many calls there were.
    #[must_use]
    pub fn all_calls(&self) -> usize {
        self.0.all_calls()
    }

    /// As [`MemoryDevices::before_each`].
    pub fn before_each(&self, hook: impl Fn(Op) + Send + Sync + 'static) {
        self.0.with(|state| state.wire.hook = Some(Arc::new(hook)));
    }

    /// Stores a seed under a new name, without a call.
    ///
    /// # Errors
    /// [`StoreError`] if the name is taken, or is not one that a [`SeedRef`] can have.
    pub fn put(&self, name: &str, seed: &Seed) -> Result<SeedRef, StoreError> {
        self.0.items(|seeds| {
            let version = seeds.new_version();
            seeds.create(name, &version, seed).map(SeedRef::Secret)
        })
    }

    /// Sets the store's clock, which dates seeds created later.
    pub fn set_time(&self, now: Timestamp) {
        self.0.items(|seeds| seeds.now = whole_seconds(now));
    }

    /// How new seeds are kept from now on.
    pub fn keep(&self, storage: SeedStorage) {
        self.0.items(|seeds| seeds.storage = storage);
    }

    /// Seals with another key from now on, as after a rotation of the key ring.
    pub fn rotate(&self) {
        self.0.items(|seeds| {
            let version = seeds.new_version();
            seeds.rotate(version);
        });
    }

    /// As if the version of the key ring had become the current one so long after it was created.
    pub fn hold_up_swap(&self, by: Duration) {
        self.0.items(|seeds| seeds.held_up = by);
    }

    /// The seed of a device, without a call; `None` if it cannot be read or opened.
    #[must_use]
    pub fn seed_of(&self, key: &DeviceKey, device: &Device) -> Option<Arc<Seed>> {
        self.0.items(|seeds| seeds.find(key, device).ok())
    }

    /// Makes a sealed seed one that does not open, as if the key ring had lost its key.
    pub fn lose(&self, sealed: &SealedSeed) {
        self.0.items(|seeds| seeds.sealed.remove(sealed));
    }

    /// Makes a blob stand for a seed of a device, without a call.
    ///
    /// # Errors
    /// [`StoreError`] if the seed cannot be copied.
    pub fn put_blob(&self, key: &DeviceKey, id: SealedId, sealed: &SealedSeed, seed: &Seed) -> Result<(), StoreError> {
        self.0.items(|seeds| seeds.put_blob(key, id, sealed, seed))
    }

    /// Seals a seed for a device, without a call.
    ///
    /// # Errors
    /// [`StoreError`] if the seed cannot be copied.
    pub fn put_sealed(&self, key: &DeviceKey, id: SealedId, seed: &Seed) -> Result<SealedSeed, StoreError> {
        self.0.items(|seeds| seeds.seal(key, id, seed))
    }

    /// Whether a secret can be read, without a call. A sealed seed is in none.
    #[must_use]
    pub fn has(&self, seed: &SeedRef) -> bool {
        let secret = seed.secret();
        self.0
            .items(|seeds| secret.is_some_and(|secret| seeds.at(secret).is_some()))
    }

    /// Whether a seed can be read or opened for a device, without a call.
    #[must_use]
    pub fn has_for(&self, key: &DeviceKey, seed: &SeedRef, sealed: Option<&SealedSeed>) -> bool {
        self.0
            .items(|seeds| matches!(seeds.stored(key, seed, sealed), Ok(Some(_))))
    }

    /// How many secrets can be read.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0
            .items(|seeds| seeds.by_name.values().filter(|stored| !stored.removed).count())
    }
}

impl fmt::Debug for MemorySeeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySeeds").finish_non_exhaustive()
    }
}

impl SeedStore for MemorySeeds {
    async fn get(&self, key: &DeviceKey, device: &Device) -> Result<Arc<Seed>, StoreError> {
        self.0.call(Op::Get, |seeds| seeds.find(key, device)).await?
    }
}

impl SeedRegistry for MemorySeeds {
    async fn create(&self, name: &str, seed: &Seed) -> Result<SecretVersion, StoreError> {
        let version = self.0.items(Seeds::new_version);
        self.0
            .call(Op::Create, |seeds| seeds.create(name, &version, seed))
            .await?
    }

    fn storage(&self) -> SeedStorage {
        self.0.items(|seeds| seeds.storage)
    }

    async fn read(
        &self,
        key: &DeviceKey,
        seed: &SeedRef,
        sealed: Option<&SealedSeed>,
    ) -> Result<Option<Seed>, StoreError> {
        let read = |seeds: &mut Seeds| {
            let stored = seeds.stored(key, seed, sealed)?;
            stored.map(|stored| copy_of(stored)).transpose()
        };
        self.0.call(Op::Read, read).await?
    }

    async fn seal(&self, key: &DeviceKey, id: SealedId, seed: &Seed) -> Result<SealedSeed, StoreError> {
        self.0.call(Op::Seal, |seeds| seeds.seal(key, id, seed)).await?
    }

    async fn remove(&self, seed: &SecretVersion) -> Result<(), StoreError> {
        let remove = |seeds: &mut Seeds| {
            if let Some(stored) = seeds.by_name.get_mut(seed.name()) {
                stored.removed = true;
            }
        };
        self.0.call(Op::Remove, remove).await
    }
}

impl SeedInventory for MemorySeeds {
    async fn purge(&self, seed: &SecretVersion) -> Result<(), StoreError> {
        let purge = |seeds: &mut Seeds| drop(seeds.by_name.remove(seed.name()));
        self.0.call(Op::Purge, purge).await
    }

    async fn page(&self, prefix: &str, after: Option<&str>) -> Result<SeedPage, StoreError> {
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let page = |seeds: &mut Seeds| {
            let mut found = seeds.by_name.range::<str, _>((start, Bound::Unbounded));
            let mut found = found.by_ref().take_while(|(name, _)| name.starts_with(prefix));
            let page: Vec<SeedSummary> = found
                .by_ref()
                .take(PAGE)
                .map(|(name, seed)| seed.listed(name))
                .collect();
            SeedPage {
                next: found.next().and(page.last()).map(|last| last.name.clone()),
                seeds: page,
            }
        };
        self.0.call(Op::Page, page).await
    }

    async fn describe(&self, name: &str) -> Result<Option<SeedSummary>, StoreError> {
        let describe = |seeds: &mut Seeds| seeds.by_name.get(name).map(|seed| seed.listed(name));
        self.0.call(Op::Describe, describe).await
    }

    async fn restore(&self, name: &str) -> Result<(), StoreError> {
        let restore = |seeds: &mut Seeds| match seeds.by_name.get_mut(name) {
            Some(stored) => {
                stored.removed = false;
                Ok(())
            }
            None => Err(unavailable("restore", "there is no such seed")),
        };
        self.0.call(Op::Restore, restore).await?
    }
}

impl KeyRingStore for MemorySeeds {
    async fn read_key_ring(&self) -> Result<KeyRingSummary, StoreError> {
        self.0.call(Op::ReadKeyRing, |seeds| seeds.key_ring()).await
    }

    async fn key_ring_changed_at(&self, held: &KeyRingSummary) -> Result<Option<Timestamp>, StoreError> {
        let changed_at = |seeds: &mut Seeds| {
            let (version, created_at) = &seeds.ring;
            (*version == held.version).then(|| created_at.plus(seeds.held_up))
        };
        self.0.call(Op::KeyRingChangedAt, changed_at).await
    }

    async fn rotate_key_ring(&self, held: &KeyRingSummary, new: &NewKey) -> Result<Rotated, StoreError> {
        let rotate = |seeds: &mut Seeds| {
            // The version is drawn once per call, so this is the call's own repeated write.
            if seeds.ring.0 == new.version() {
                return Rotated::Yes(memory_key(seeds.key));
            }
            if seeds.ring.0 != held.version {
                return Rotated::No;
            }
            seeds.rotate(new.version());
            Rotated::Yes(memory_key(seeds.key))
        };
        self.0.call(Op::RotateKeyRing, rotate).await
    }
}

#[cfg(test)]
mod tests;

//! Devices in memory that others change at chosen moments, or whose items cannot be read.

use std::sync::atomic::{AtomicUsize, Ordering};

use shared::clock::Timestamp;
use shared::device::{Device, DeviceRecord, PendingSeed, RegisteredBy, Registration};
use shared::error::StoreError;
use shared::names::{DeviceKey, Owner, SeedRef, UserName};
use shared::ports::operator::{DeviceFilter, DeviceInventory};
use shared::ports::registry::{DevicePage, DeviceRegistry, Removed, Unreadable};
use shared::ports::{DeviceStore, Stored, Written};
use shared::testing::memory::MemoryDevices;

/// The moment before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum Before {
    /// The first page of the scan with this number, counted from 0.
    Scan(usize),
    Read,
    Removal,
}

pub(in crate::commands) struct HookedDevices<F> {
    devices: MemoryDevices,
    scans: AtomicUsize,
    hook: F,
    /// The device whose item cannot be read.
    unreadable: Option<DeviceKey>,
}

impl HookedDevices<fn(Before)> {
    /// Devices of which one cannot be read.
    pub(in crate::commands) fn unreadable(devices: MemoryDevices, key: &DeviceKey) -> Self {
        Self {
            unreadable: Some(key.clone()),
            ..Self::new(devices, |_| ())
        }
    }
}

impl<F: Fn(Before) + Send + Sync> HookedDevices<F> {
    /// Devices whose `hook` runs before calls.
    pub(in crate::commands) fn new(devices: MemoryDevices, hook: F) -> Self {
        Self {
            devices,
            scans: AtomicUsize::new(0),
            hook,
            unreadable: None,
        }
    }

    fn if_readable<T>(&self, key: &DeviceKey, found: T) -> Result<T, StoreError> {
        if self.unreadable.as_ref() == Some(key) {
            return Err(StoreError::Corrupt {
                store: "memory",
                what: "an item without a version",
            });
        }
        Ok(found)
    }

    fn if_found<T>(&self, key: &DeviceKey, found: Option<T>) -> Result<Option<T>, StoreError> {
        found.map(|found| self.if_readable(key, found)).transpose()
    }
}

impl<F: Fn(Before) + Send + Sync> DeviceStore for HookedDevices<F> {
    async fn get(&self, key: &DeviceKey) -> Result<Option<Device>, StoreError> {
        self.if_found(key, self.devices.get(key).await?)
    }

    async fn replace(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        used_at: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        self.devices.replace(key, held, new, used_at).await
    }
}

impl<F: Fn(Before) + Send + Sync> DeviceRegistry for HookedDevices<F> {
    async fn record(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        (self.hook)(Before::Read);
        self.if_found(key, self.devices.record(key).await?)
    }

    async fn user_page(
        &self,
        owner: &Owner,
        user: &UserName,
        after: Option<&DeviceKey>,
        limit: u16,
    ) -> Result<DevicePage, StoreError> {
        self.devices.user_page(owner, user, after, limit).await
    }

    async fn set_pending_seed(
        &self,
        key: &DeviceKey,
        held: &Device,
        pending: &PendingSeed,
    ) -> Result<Written, StoreError> {
        self.devices.set_pending_seed(key, held, pending).await
    }

    async fn register(
        &self,
        key: &DeviceKey,
        device: &Device,
        registration: &Registration,
    ) -> Result<Stored, StoreError> {
        self.devices.register(key, device, registration).await
    }

    async fn reseed(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        by: RegisteredBy,
        activate_by: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        self.devices.reseed(key, held, new, by, activate_by).await
    }

    async fn remove_seeded(&self, key: &DeviceKey, seed: &SeedRef) -> Result<Removed, StoreError> {
        self.devices.remove_seeded(key, seed).await
    }

    async fn remove_held(&self, key: &DeviceKey, held: &Device) -> Result<Written, StoreError> {
        (self.hook)(Before::Removal);
        self.devices.remove_held(key, held).await
    }
}

impl<F: Fn(Before) + Send + Sync> DeviceInventory for HookedDevices<F> {
    async fn page(
        &self,
        filter: &DeviceFilter,
        after: Option<&DeviceKey>,
        limit: u16,
    ) -> Result<DevicePage, StoreError> {
        if after.is_none() {
            (self.hook)(Before::Scan(self.scans.fetch_add(1, Ordering::Relaxed)));
        }
        let page = self.devices.page(filter, after, limit).await?;
        let readable = |record: DeviceRecord| {
            let key = record.key.clone();
            self.if_readable(&key, record)
                .map_err(|error| Unreadable { key: Some(key), error })
        };
        Ok(DevicePage {
            records: page
                .records
                .into_iter()
                .map(|record| record.and_then(readable))
                .collect(),
            next: page.next,
        })
    }

    async fn remove(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        (self.hook)(Before::Removal);
        self.if_found(key, self.devices.remove(key).await?)
    }
}

//! Compares all devices with all secrets.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result};
use shared::clock::Clock;
use shared::device::DeviceRecord;
use shared::names::{SecretVersion, SeedRef};
use shared::ports::operator::{
    DeviceFilter, DeviceInventory, KeyRingStore, KeyRingSummary, SeedInventory, SeedSummary,
};

use super::report::{Absence, BrokenDevice, Orphans, is_expired, is_young};
use crate::commands::doctor::deployment::{Doctor, Stores};
use crate::commands::text::name_of;
use crate::ports::clients::ClientRegistry;
use crate::ports::stack::Inspector;
use crate::terminal::Terminal;

/// The random part of a seed's name, in hexadecimal digits.
const DIGITS: usize = 32;

/// Why a seed is not where it should be, if so. A removed secret may be listed without its versions.
fn absence(listed: Option<&SeedSummary>, seed: &SecretVersion) -> Option<Absence> {
    let Some(listed) = listed else {
        return Some(Absence::Gone);
    };
    let versions = &listed.versions;
    let has_version = versions.iter().any(|version| version == seed.version());
    match listed.removed {
        true if has_version || versions.is_empty() => Some(Absence::Removed),
        false if has_version => None,
        _ => Some(Absence::OtherVersion),
    }
}

/// The names of a device's secrets.
pub(super) fn names_of(record: &DeviceRecord) -> impl Iterator<Item = String> {
    let secrets = record.seeds().filter_map(SeedRef::secret);
    secrets.map(|secret| secret.name().to_owned())
}

impl<D: DeviceInventory, S: SeedInventory> Stores<D, S> {
    async fn list_seeds(&self) -> Result<HashMap<String, SeedSummary>> {
        let (mut all, mut after) = (HashMap::new(), None);
        loop {
            let page = self.seeds.page(&self.prefix, after.as_deref()).await;
            let page = page.context("cannot list the secrets")?;
            all.extend(page.seeds.into_iter().map(|seed| (seed.name.clone(), seed)));
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Calls `each` for every device. Returns how many items could not be read.
    pub(super) async fn for_each_device(&self, page: u16, mut each: impl FnMut(DeviceRecord)) -> Result<usize> {
        let (mut after, mut unreadable) = (None, 0);
        loop {
            let page = self.devices.page(&DeviceFilter::All, after.as_ref(), page).await;
            let page = page.context("cannot read the table of devices")?;
            for record in page.records {
                match record {
                    Ok(record) => each(record),
                    Err(_) => unreadable += 1,
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(unreadable);
            }
        }
    }

    /// Looks a seed up by its name.
    pub(super) async fn look_up(&self, seed: &SecretVersion) -> Result<Option<Absence>> {
        if !seed.name().starts_with(&self.prefix) {
            return Ok(Some(Absence::OutsidePrefix));
        }
        let described = self.seeds.describe(seed.name()).await;
        let described = described.with_context(|| format!("cannot describe the secret {}", seed.name()))?;
        Ok(absence(described.as_ref(), seed))
    }

    /// Reads a device again.
    pub(super) async fn read_again(&self, device: &DeviceRecord) -> Result<Option<DeviceRecord>> {
        let record = self.devices.record(&device.key).await;
        record.with_context(|| format!("cannot read the device {}", name_of(&device.key)))
    }

    /// Checks again a device that seemed to lack a secret.
    async fn confirm(&self, suspect: &DeviceRecord, found: &mut Orphans, named: &mut HashSet<String>) -> Result<()> {
        let Some(record) = self.read_again(suspect).await? else {
            found.devices -= 1;
            return Ok(());
        };
        named.extend(names_of(&record));
        let broken = |seed: &SecretVersion, pending: bool, absence: Absence| BrokenDevice {
            record: record.clone(),
            seed: seed.clone(),
            pending,
            absence,
        };
        match record.device.seed_ref.secret() {
            None => drop(found.add_if_it_opens(&record)),
            Some(own) => match self.look_up(own).await? {
                Some(absence) => found.broken.push(broken(own, false, absence)),
                None => found.complete += 1,
            },
        }
        // An expired pending seed is of no use any more, wherever it is.
        if let Some(pending) = record.waiting_seed(found.now)
            && let Some(secret) = pending.seed_ref.secret()
            && let Some(absence) = self.look_up(secret).await?
        {
            found.broken.push(broken(secret, true, absence));
        }
        Ok(())
    }
}

impl<I, P, D, S, C, T> Doctor<I, P, D, S, C, T>
where
    I: Inspector,
    P: ClientRegistry,
    D: DeviceInventory,
    S: SeedInventory + KeyRingStore,
    C: Clock,
    T: Terminal,
{
    /// Compares all devices with all secrets.
    pub(in crate::commands::doctor) async fn find_orphans(
        &mut self,
        stores: &Stores<D, S>,
        ring: Option<KeyRingSummary>,
        page: u16,
    ) -> Result<Orphans> {
        self.terminal
            .note("Reading the whole table of devices, and listing all secrets of the stack.")?;
        // Before the devices: see the module.
        let listed = stores.list_seeds().await?;
        let mut found = Orphans {
            now: self.now(),
            seeds: listed.values().filter(|seed| !seed.removed).count(),
            ring,
            ..Orphans::default()
        };
        let (mut named, mut suspects) = (HashSet::new(), Vec::new());
        found.unreadable = stores
            .for_each_device(page, |record| {
                found.devices += 1;
                found.count_keys(&record);
                let is_absent = |secret: &SecretVersion| absence(listed.get(secret.name()), secret).is_some();
                named.extend(names_of(&record));
                if record.seeds().filter_map(SeedRef::secret).any(is_absent) {
                    suspects.push(record);
                } else if found.add_if_it_opens(&record) && is_expired(&record, found.now) {
                    found.expired.push(record);
                }
            })
            .await?;
        for suspect in suspects {
            stores.confirm(&suspect, &mut found, &mut named).await?;
        }
        for seed in listed.into_values() {
            let random = seed.name.strip_prefix(&stores.prefix).unwrap_or_default();
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if seed.removed || named.contains(&seed.name) {
                continue;
            }
            if random.len() != DIGITS || !random.bytes().all(is_digit) {
                found.foreign += 1;
            } else if is_young(seed.created_at, found.now) {
                found.young += 1;
            } else if self.stack.created_at.is_some_and(|created| seed.created_at < created) {
                found.predating.push(seed.name);
            } else {
                found.unnamed.push(seed.name);
            }
        }
        found.expired.sort_by_key(|record| record.activate_by);
        found.unnamed.sort();
        found.predating.sort();
        found
            .broken
            .sort_by(|one, other| one.seed.name().cmp(other.seed.name()));
        Ok(found)
    }
}

//! `remove`: the device, then its seeds.

use anyhow::{Result, anyhow};
use shared::clock::Clock;
use shared::device::DeviceRecord;
use shared::error::StoreError;
use shared::names::{DeviceKey, SecretVersion, SeedRef};
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;

use super::admin::{DeviceAdmin, Removal};
use crate::commands::text::name_of;
use crate::terminal::Terminal;

/// How to find the secrets of an item that cannot be read.
const FIND_SECRETS: &str = "`mfactl doctor` finds secrets that no device names";

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Removes a device, then its seeds in the way of `how`. Can be repeated: a device that does not exist is no error.
    ///
    /// An item that cannot be read is removed too, or its name would be taken forever; its secrets are unknown then.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn remove(&mut self, key: &DeviceKey, how: Removal) -> Result<()> {
        let known = match self.find(key).await {
            Ok(Some(record)) => Some(record),
            Ok(None) => {
                let text = format!("There is no device {}; nothing was removed.", name_of(key));
                return Ok(self.terminal.say(&text)?);
            }
            Err(error) => match error.downcast_ref() {
                Some(StoreError::Corrupt { what, .. }) => {
                    // Before anything is done: once the item is gone, nothing else points to its secrets.
                    self.terminal.note(&format!(
                        "The item of the device {} cannot be read ({what}), so the secrets that it names stay: once it is \
                         removed, {FIND_SECRETS}.",
                        name_of(key)
                    ))?;
                    None
                }
                _ => return Err(error),
            },
        };
        self.confirm(&format!("Remove the device {}? This cannot be undone.", name_of(key)))?;
        let removed = match self.devices.remove(key).await {
            Ok(removed) => removed,
            // It may be gone anyway. For an item that cannot be read, this is the answer even to a successful removal.
            Err(error) => {
                if !matches!(self.devices.record(key).await, Ok(None)) {
                    let seeds = known.iter().flat_map(DeviceRecord::seeds).filter_map(SeedRef::secret);
                    let seeds: Vec<&str> = seeds.map(SecretVersion::name).collect();
                    let left = match (&known, seeds.is_empty()) {
                        (None, _) => format!("; if it is gone then, {FIND_SECRETS}"),
                        (Some(_), false) => format!("; if it is gone then, remove {} too", seeds.join(" and ")),
                        (Some(_), true) => String::new(),
                    };
                    let what = format!("cannot remove the device {}: run it again{left}", name_of(key));
                    return Err(anyhow!(error).context(what));
                }
                None
            }
        };
        self.left_behind |= known.is_none() && removed.is_none();
        // Those of both: a repeated call's answer has none, and new ones may have come between read and removal.
        let mut seeds: Vec<SecretVersion> = Vec::new();
        let named = known.iter().chain(&removed).flat_map(DeviceRecord::seeds);
        for seed in named.filter_map(SeedRef::secret) {
            if !seeds.contains(seed) {
                seeds.push(seed.clone());
            }
        }
        for seed in &seeds {
            self.discard(seed, how).await?;
        }
        Ok(self.terminal.say(&format!("The device {} is removed.", name_of(key)))?)
    }
}

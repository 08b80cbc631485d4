//! Fixes orphans: restores secrets that devices name, removes devices whose secret is gone or that were not activated in
//! time, removes secrets that no device names.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use shared::clock::{Clock, Timestamp};
use shared::device::DeviceRecord;
use shared::names::{SecretVersion, SeedRef};
use shared::ports::Written;
use shared::ports::operator::{DeviceInventory, KeyRingStore, SeedInventory};

use super::compare::names_of;
use super::report::{Absence, BrokenDevice, Orphans};
use crate::commands::confirm::confirm;
use crate::commands::doctor::deployment::{Doctor, Place, Stores};
use crate::commands::doctor::finding::{Finding, Part};
use crate::commands::pace::{Delay, Pace};
use crate::commands::text::{count, name_of, options_for};
use crate::ports::clients::ClientRegistry;
use crate::ports::stack::Inspector;
use crate::terminal::Terminal;

/// What became of a device that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeviceRemoval {
    Removed,
    /// The device has its secret, or another one.
    NotNeeded,
    /// A new seed waits for its first code.
    AwaitsActivation,
    /// Someone else wrote the device.
    Conflict,
}

impl<D: DeviceInventory, S: SeedInventory> Stores<D, S> {
    /// Restores a secret if its device still names it. Returns whether it did.
    async fn restore(&self, device: &BrokenDevice) -> Result<bool> {
        let record = self.read_again(&device.record).await?;
        if !record.is_some_and(|record| record.seeds().any(|seed| seed.secret() == Some(&device.seed))) {
            return Ok(false);
        }
        self.seeds.restore(device.seed.name()).await?;
        Ok(true)
    }

    /// Removes a device whose secret is gone, if that is still so and no new seed waits for its first code.
    async fn remove_dead(&self, device: &BrokenDevice, now: Timestamp) -> Result<DeviceRemoval> {
        let Some(record) = self.read_again(&device.record).await? else {
            return Ok(DeviceRemoval::Removed);
        };
        if record.device.seed_ref.secret() != Some(&device.seed)
            || self.look_up(&device.seed).await? != Some(Absence::Gone)
        {
            return Ok(DeviceRemoval::NotNeeded);
        }
        if let Some(pending) = record.waiting_seed(now) {
            let is_there = match pending.seed_ref.secret() {
                Some(secret) => self.look_up(secret).await?.is_none(),
                None => true,
            };
            if is_there {
                return Ok(DeviceRemoval::AwaitsActivation);
            }
        }
        match self.devices.remove_held(&record.key, &record.device).await? {
            Written::Yes | Written::No(None) => Ok(DeviceRemoval::Removed),
            Written::No(Some(stored)) if stored.seed_ref.secret() != Some(&device.seed) => Ok(DeviceRemoval::NotNeeded),
            Written::No(Some(_)) | Written::NotPending => Ok(DeviceRemoval::Conflict),
        }
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
    /// Fixes what can be fixed, and returns what is left.
    pub(in crate::commands::doctor) async fn fix(
        &mut self,
        stores: &Stores<D, S>,
        mut orphans: Orphans,
        page_size: u16,
        delay: &impl Delay,
    ) -> Result<Vec<Finding>> {
        let program = self.program.clone();
        let left = |orphans: &Orphans| orphans.findings(&program, usize::MAX);
        let refusal = self.refuse_unsettled();
        if let Some(refusal) = refusal.or_else(|| orphans.refusal(&stores.table, &stores.prefix)) {
            return Ok(left(&orphans).into_iter().chain([refusal]).collect());
        }
        self.ask(stores, &orphans)?;
        let (mut failed, pace) = (Vec::new(), Pace::default());
        for device in std::mem::take(&mut orphans.broken) {
            if let Some(kept) = self
                .fix_device(stores, device, &mut orphans, &pace, delay, &mut failed)
                .await?
            {
                orphans.broken.push(kept);
            }
        }
        for record in std::mem::take(&mut orphans.expired) {
            pace.keep(&self.clock, delay).await;
            match self.remove_expired(stores, &record, &mut orphans).await {
                Ok(()) => {}
                Err(error) => {
                    failed.push(Finding::not_fixed(&error));
                    orphans.expired.push(record);
                }
            }
        }
        let unnamed = std::mem::take(&mut orphans.unnamed);
        let before = unnamed.len();
        orphans.unnamed = self
            .remove_unnamed(stores, unnamed, page_size, &pace, delay, &mut failed)
            .await?;
        orphans.seeds -= before - orphans.unnamed.len();
        Ok(left(&orphans).into_iter().chain(failed).collect())
    }

    /// Fixes a device; returns it if it is still broken.
    async fn fix_device(
        &mut self,
        stores: &Stores<D, S>,
        device: BrokenDevice,
        orphans: &mut Orphans,
        pace: &Pace,
        delay: &impl Delay,
        failed: &mut Vec<Finding>,
    ) -> Result<Option<BrokenDevice>> {
        let name = name_of(&device.record.key);
        if device.is_restorable() {
            pace.keep(&self.clock, delay).await;
            let text = match stores.restore(&device).await {
                Ok(true) => {
                    orphans.seeds += 1;
                    format!("The device {name} has its secret again.")
                }
                Ok(false) => format!("The device {name} does not need that secret any more."),
                Err(error) => {
                    failed.push(Finding::not_fixed(&error));
                    return Ok(Some(device));
                }
            };
            self.terminal.note(&text)?;
            return Ok(None);
        }
        if !device.is_dead(orphans.now) {
            return Ok(Some(device));
        }
        match stores.remove_dead(&device, orphans.now).await {
            Ok(DeviceRemoval::Removed) => {
                orphans.devices -= 1;
                self.terminal.note(&format!("The device {name} is removed."))?;
            }
            Ok(DeviceRemoval::NotNeeded) => self.terminal.note(&format!("The device {name} has its secret."))?,
            Ok(DeviceRemoval::AwaitsActivation) => {
                let text = format!("the device {name} has a new seed that waits for its first code");
                let remedy = format!("{} device activate {}", self.program, options_for(&device.record.key));
                failed.push(Finding::problem(Part::Orphans, text, remedy));
            }
            Ok(DeviceRemoval::Conflict) => return Ok(Some(device)),
            Err(error) => {
                failed.push(Finding::not_fixed(&error));
                return Ok(Some(device));
            }
        }
        Ok(None)
    }

    /// Removes a device that was not activated in time, unless it was written since; then its seeds, which nothing names any
    /// more. If that fails, the next run finds them.
    async fn remove_expired(
        &mut self,
        stores: &Stores<D, S>,
        record: &DeviceRecord,
        orphans: &mut Orphans,
    ) -> Result<()> {
        let name = name_of(&record.key);
        let removed = stores.devices.remove_held(&record.key, &record.device).await;
        let removed = removed.with_context(|| format!("cannot remove the device {name}"))?;
        if !matches!(removed, Written::Yes | Written::No(None)) {
            let text = format!("The device {name} is in use after all, or was registered again.");
            return Ok(self.terminal.note(&text)?);
        }
        orphans.devices -= 1;
        orphans.complete -= 1;
        self.terminal.note(&format!("The device {name} is removed."))?;
        for seed in record.seeds().filter_map(SeedRef::secret) {
            match stores.seeds.remove(seed).await {
                Ok(()) => orphans.seeds -= 1,
                Err(_) => orphans.unnamed.push(seed.name().to_owned()),
            }
        }
        Ok(())
    }

    /// A stack that is being changed or deleted is left alone.
    fn refuse_unsettled(&self) -> Option<Finding> {
        let settled = [
            "CREATE_COMPLETE",
            "UPDATE_COMPLETE",
            "IMPORT_COMPLETE",
            "UPDATE_ROLLBACK_COMPLETE",
        ];
        let status = self.stack.status.as_str();
        (self.place == Place::Aws && !settled.contains(&status)).then(|| {
            let text = format!("nothing was fixed: the stack is in the state {status}");
            Finding::problem(Part::Orphans, text, "see above, and fix the stack first")
        })
    }

    /// Asks once about everything that is about to be done.
    fn ask(&mut self, stores: &Stores<D, S>, orphans: &Orphans) -> Result<()> {
        let dead: Vec<&BrokenDevice> = orphans
            .broken
            .iter()
            .filter(|device| device.is_dead(orphans.now))
            .collect();
        let dead_records = dead.iter().map(|device| &device.record);
        for record in dead_records.chain(&orphans.expired) {
            let text = format!("To be removed: the device {}.", name_of(&record.key));
            self.terminal.note(&text)?;
        }
        let restorable = orphans.broken.iter().filter(|device| device.is_restorable()).count();
        let mut parts = Vec::new();
        if restorable > 0 {
            parts.push(format!("restore {}", count(restorable, "secret")));
        }
        if !orphans.unnamed.is_empty() {
            let secrets = count(orphans.unnamed.len(), "secret");
            parts.push(format!(
                "remove {secrets} that no device names (each can be restored for 30 days)"
            ));
        }
        if !dead.is_empty() {
            let devices = count(dead.len(), "device");
            parts.push(format!("remove {devices} whose secret is gone, which cannot be undone"));
        }
        if !orphans.expired.is_empty() {
            let devices = count(orphans.expired.len(), "device");
            parts.push(format!(
                "remove {devices} not activated in time, with the secrets, which cannot be undone"
            ));
        }
        let question = format!(
            "Stack {}, table {}: {}?",
            self.stack.name,
            stores.table,
            parts.join("; ")
        );
        confirm(&mut self.terminal, self.yes, &question)
    }

    /// Removes secrets that no device names. All devices are read again first: the question may have been open for long.
    /// Returns the secrets that are left.
    async fn remove_unnamed(
        &mut self,
        stores: &Stores<D, S>,
        mut unnamed: Vec<String>,
        page_size: u16,
        pace: &Pace,
        delay: &impl Delay,
        failed: &mut Vec<Finding>,
    ) -> Result<Vec<String>> {
        if unnamed.is_empty() {
            return Ok(unnamed);
        }
        let mut named = HashSet::new();
        let unreadable = stores
            .for_each_device(page_size, |record| {
                named.extend(names_of(&record));
            })
            .await?;
        if unreadable > 0 {
            let text = format!(
                "no secret was removed: {} cannot be read any more",
                count(unreadable, "item")
            );
            failed.push(Finding::problem(
                Part::Orphans,
                text,
                "run it again, and follow what it says about them",
            ));
            return Ok(unnamed);
        }
        unnamed.retain(|name| !named.contains(name));
        let (mut done, mut left) = (0, Vec::new());
        for name in unnamed {
            pace.keep(&self.clock, delay).await;
            // Its version is unknown, and removing it needs none.
            let outcome = match SecretVersion::new(&name, "unknown") {
                Ok(seed) => {
                    let removed = stores.seeds.remove(&seed).await;
                    removed.map_err(anyhow::Error::new)
                }
                Err(error) => Err(anyhow::Error::new(error)),
            };
            match outcome {
                Ok(()) => done += 1,
                Err(error) => {
                    failed.push(Finding::not_fixed(&error));
                    left.push(name);
                }
            }
        }
        self.terminal.note(&format!(
            "{} removed; each can be restored for 30 days.",
            count(done, "secret")
        ))?;
        Ok(left)
    }
}

//! `seeds move`: gives devices the same seeds in another place, sealed beside them or in secrets of their own.
//!
//! The new place exists before the device names it, and the old one is removed after that. A move that is run again makes a
//! new secret and never uses one that an interrupted run left behind.

use anyhow::Result;
use shared::clock::{Clock, Timestamp};
use shared::device::{DeviceRecord, RegisteredBy, Status};
use shared::error::StoreError;
use shared::names::{DeviceKey, SecretVersion, SeedRef};
use shared::otp::Seed;
use shared::ports::Written;
use shared::ports::operator::{DeviceFilter, DeviceInventory, SeedInventory};
use shared::random::Random;
use shared::registration::{KeptBecause, Leftovers, NotStored, StoredSeed, may_still_take_effect, store_seed};
use shared::sealed::SeedStorage;

use crate::commands::device::{DeviceAdmin, ListRequest, Removal, discard, kept_note, require_readable};
use crate::commands::pace::{Delay, Pace, backoff};
use crate::commands::sweep::{Counts, Report, Shared, Swept, failed, require_finished, sweep};
use crate::commands::text::{count, name_of, options_for};
use crate::terminal::Terminal;
use crate::usage::Usage;

#[cfg(test)]
mod tests;

/// What `seeds move` was asked for.
#[derive(Debug, Clone, Copy)]
pub struct MoveRequest {
    /// Whether to report only.
    pub dry_run: bool,
    /// Devices that are read at a time.
    pub page: u16,
}

/// What is to be done with a device.
enum Need {
    Move,
    Nothing,
    /// Not now, and why.
    Skip(String),
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Moves the seeds of all devices to where the store keeps new ones. Can be repeated, also beside itself and beside
    /// sign-ins.
    ///
    /// # Errors
    /// If a seed was not moved; the others are.
    pub async fn move_seeds(&mut self, request: &MoveRequest, delay: &impl Delay) -> Result<()> {
        let prefix = self.seed_prefix.clone();
        let prefix = prefix.ok_or_else(|| Usage("SEED_PREFIX is not set".to_owned()))?;
        let to = self.seeds.storage();
        let (mut to_do, mut all, mut waiting) = (0, 0, Vec::new());
        let list = ListRequest {
            filter: DeviceFilter::All,
            json: false,
            page: request.page,
        };
        let now = self.clock.now();
        let unreadable = self
            .for_each_device(&list, |_, record| {
                all += 1;
                match need(&record, to, now) {
                    Need::Move => to_do += 1,
                    Need::Skip(why) => waiting.push(why),
                    Need::Nothing => {}
                }
                Ok(())
            })
            .await?;
        let where_to = match to {
            SeedStorage::Sealed => "sealed beside its device, under the key ring",
            SeedStorage::Secrets => "in a secret of its own",
        };
        let text = match to_do {
            0 => format!("None of {} to move now", count(all, "device")),
            _ => format!(
                "{} of {all} to move: each seed will be {where_to}",
                count(to_do, "device")
            ),
        };
        let text = format!("{text}. {} cannot be moved now", waiting.len());
        if request.dry_run || to_do == 0 {
            self.terminal.say(&format!("{text}."))?;
            for why in &waiting {
                self.terminal.note(&format!("Not now: {why}."))?;
            }
            require_readable(unreadable)?;
            let skipped = if request.dry_run { 0 } else { waiting.len() };
            return require_finished(&Counts {
                skipped,
                ..Counts::default()
            });
        }
        self.confirm(&format!(
            "{text}. Authentications that are under way with a moved device have to be started again. Move them?"
        ))?;
        let mover = Mover {
            shared: Shared {
                devices: &self.devices,
                clock: &self.clock,
                delay,
                pace: Pace::default(),
            },
            seeds: &self.seeds,
            random: &self.random,
            prefix: &prefix,
            to,
        };
        let counts = sweep(
            &self.devices,
            &self.clock,
            &mut self.terminal,
            (request.page, all),
            |record| mover.device(record),
        )
        .await?;
        self.left_behind |= counts.left_behind;
        self.terminal.say(&format!(
            "{} moved, {} not in need of it, {} changed concurrently and read again, {} skipped, {} cannot be read, {} failed.",
            count(counts.changed, "device"),
            counts.unchanged + counts.gone,
            counts.again,
            counts.skipped,
            counts.broken,
            counts.failed
        ))?;
        require_finished(&counts)
    }
}

const fn storage_of(seed: &SeedRef) -> SeedStorage {
    match seed {
        SeedRef::Secret(_) => SeedStorage::Secrets,
        SeedRef::Sealed(_) => SeedStorage::Sealed,
    }
}

fn need(record: &DeviceRecord, to: SeedStorage, now: Timestamp) -> Need {
    let name = || name_of(&record.key);
    if record.seeds().all(|seed| storage_of(seed) == to) {
        return Need::Nothing;
    }
    // One that waited for too long is forgotten by the move of the device's own seed, wherever that is.
    if let Some(pending) = record.waiting_seed(now) {
        return Need::Skip(format!(
            "a new seed of the device {} waits for its first code until {}",
            name(),
            pending.until.rfc3339()
        ));
    }
    let by_a_user = record.by == RegisteredBy::Http && record.activate_by.is_some_and(|until| until > now);
    if record.device.status == Status::ActivationRequired && by_a_user {
        return Need::Skip(format!(
            "a user may be activating the device {} until {}",
            name(),
            record.activate_by.map(Timestamp::rfc3339).unwrap_or_default()
        ));
    }
    Need::Move
}

struct Mover<'a, D, S, C, R, W> {
    shared: Shared<'a, D, C, W>,
    seeds: &'a S,
    random: &'a R,
    prefix: &'a str,
    to: SeedStorage,
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, W: Delay> Mover<'_, D, S, C, R, W> {
    async fn device(&self, record: DeviceRecord) -> Report {
        let mut left = Vec::new();
        let try_device = async |record: &DeviceRecord| self.try_device(record, &mut left).await;
        let (swept, again) = self.shared.until_undisturbed(record, try_device).await;
        Report { swept, again, left }
    }

    /// `None` if others wrote first.
    async fn try_device(&self, record: &DeviceRecord, left: &mut Vec<String>) -> Option<Swept> {
        match need(record, self.to, self.shared.clock.now()) {
            Need::Nothing => return Some(Swept::Unchanged),
            Need::Skip(why) => return Some(Swept::Skipped(why)),
            Need::Move => {}
        }
        let key = &record.key;
        let seed = match self.seed(record).await {
            Ok(seed) => seed,
            Err(problem) => return Some(problem),
        };
        let new = match self.store(key, &seed, left).await {
            Ok(new) => new,
            Err(error) => return Some(Swept::Failed(format!("the device {}: {error}", name_of(key)))),
        };
        let shared = &self.shared;
        let written = shared.call(|| shared.devices.move_seed(record, &new)).await;
        let (unwanted, tried) = match written {
            Ok(Written::Yes) => (record.seeds().collect(), Some(Swept::Changed)),
            Ok(Written::No(None)) => (vec![&new.seed_ref], Some(Swept::Gone)),
            Ok(Written::No(Some(_)) | Written::NotPending) => (vec![&new.seed_ref], None),
            Err(error) => match shared.read_again(key).await {
                // It took effect.
                Ok(Some(now)) if now.device.seed_ref == new.seed_ref => {
                    (record.seeds().collect(), Some(Swept::Changed))
                }
                Ok(Some(now)) if may_still_take_effect(Some(&record.device), Some(&now)) => {
                    left.extend(keep(&new.seed_ref, &KeptBecause::WriteMayTakeEffect));
                    return Some(failed(key, &error));
                }
                Ok(_) => (vec![&new.seed_ref], Some(failed(key, &error))),
                Err(unreadable) => {
                    left.extend(keep(&new.seed_ref, &KeptBecause::Unreadable(unreadable)));
                    return Some(failed(key, &error));
                }
            },
        };
        for secret in unwanted.into_iter().filter_map(SeedRef::secret) {
            // As many may be deleted a second as created.
            shared.pace.keep(shared.clock, shared.delay).await;
            left.extend(discard(self.seeds, secret, Removal::Recoverable).await);
        }
        tried
    }

    /// The seed of a device, or why it cannot be moved.
    async fn seed(&self, record: &DeviceRecord) -> Result<Seed, Swept> {
        let (key, device) = (&record.key, &record.device);
        let read = self
            .shared
            .call(|| self.seeds.read(key, &device.seed_ref, device.sealed.as_ref()));
        let problem = match read.await {
            Ok(Some(seed)) if seed.parameters() == device.parameters => return Ok(seed),
            Ok(Some(_)) => "was made for other parameters than its device's",
            Ok(None) => "does not exist",
            Err(StoreError::Corrupt { what, .. }) => what,
            Err(error) => return Err(failed(key, &error)),
        };
        Err(Swept::Broken(format!(
            "the seed of the device {} cannot be used ({problem}): `mfactl device check {}` says what to do",
            name_of(key),
            options_for(key)
        )))
    }

    async fn store(&self, key: &DeviceKey, seed: &Seed, left: &mut Vec<String>) -> Result<StoredSeed, String> {
        let Shared { clock, delay, pace, .. } = &self.shared;
        let (mut leftovers, mut waits) = (Leftovers::default(), backoff());
        let stored = loop {
            match self.to {
                SeedStorage::Secrets => pace.keep(*clock, *delay).await,
                SeedStorage::Sealed => pace.resume(*clock, *delay).await,
            }
            match store_seed(self.seeds, self.random, self.prefix, key, seed, &mut leftovers).await {
                Ok(stored) => break Ok(stored),
                Err(error) => match (&error, waits.next()) {
                    (NotStored::Store(store), Some(wait)) if store.is_throttled() => pace.pause(*clock, wait),
                    _ => break Err(shared::error::chain(&error)),
                },
            }
        };
        for secret in &leftovers.unwanted {
            left.extend(discard(self.seeds, secret, Removal::Recoverable).await);
        }
        stored
    }
}

fn keep(seed: &SeedRef, why: &KeptBecause) -> Option<String> {
    seed.secret().map(|secret: &SecretVersion| kept_note(secret, why))
}

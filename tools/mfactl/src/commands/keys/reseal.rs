//! `keys reseal`: seals every seed that is under an older key of the key ring under the current one.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use shared::clock::Clock;
use shared::device::DeviceRecord;
use shared::error::StoreError;
use shared::names::SeedRef;
use shared::ports::Written;
use shared::ports::operator::{DeviceInventory, KeyRingStore, KeyRingSummary, SeedInventory};
use shared::random::Random;
use shared::sealed::{KeyId, SealedSeed, time_in_memory};

use super::census::keys_of;
use crate::commands::device::{DeviceAdmin, require_readable};
use crate::commands::pace::{Delay, Pace};
use crate::commands::sweep::{Report, Shared, Swept, failed, require_finished, sweep};
use crate::commands::text::{count, name_of, options_for, under};
use crate::terminal::Terminal;

/// What clocks differ by, and how long a function may take to read the ring.
const MARGIN: Duration = Duration::from_mins(1);

/// What `keys reseal` was asked for.
#[derive(Debug, Clone, Copy)]
pub struct ResealRequest {
    /// How long the functions may keep a seed in memory.
    pub seed_cache: Duration,
    /// Whether to wait until all functions have the key ring.
    pub wait: bool,
    /// Whether to report only.
    pub dry_run: bool,
    /// Devices that are read at a time.
    pub page: u16,
}

/// How long after a change of the ring a function may still have the one before.
pub(super) fn time_in_caches(seed_cache: Duration) -> Duration {
    time_in_memory(seed_cache) + MARGIN
}

impl<D, S, C, R, T> DeviceAdmin<D, S, C, R, T>
where
    D: DeviceInventory,
    S: SeedInventory + KeyRingStore,
    C: Clock,
    R: Random,
    T: Terminal,
{
    /// Seals seeds again. Can be repeated, also beside itself and beside sign-ins.
    ///
    /// # Errors
    /// If functions may not have the key ring yet, or if a seed was not sealed again; the others are.
    pub async fn reseal(&mut self, request: &ResealRequest, delay: &impl Delay) -> Result<()> {
        let ring = self.ring_that_functions_have(request, delay).await?;
        let current = ring.current;
        let (census, unreadable) = self.census(request.page).await?;
        let to_do: usize = census
            .by_key
            .iter()
            .filter(|(key, _)| **key != Some(current))
            .map(|(_, devices)| devices)
            .sum();
        let done = census.by_key.get(&Some(current)).copied().unwrap_or_default();
        let text = format!(
            "{} sealed under another key than {current}, {done} under it",
            count(to_do, "device")
        );
        if request.dry_run || to_do == 0 {
            self.terminal.say(&format!("{text}."))?;
            return require_readable(unreadable);
        }
        self.confirm(&format!("{text}. Seal the seeds again under {current}?"))?;
        let reseal = Reseal {
            shared: Shared {
                devices: &self.devices,
                clock: &self.clock,
                delay,
                pace: Pace::default(),
            },
            seeds: &self.seeds,
            current,
        };
        let all = census.devices;
        let counts = sweep(
            &self.devices,
            &self.clock,
            &mut self.terminal,
            (request.page, all),
            |record| reseal.device(record),
        )
        .await?;
        self.terminal.say(&format!(
            "{} sealed again under {current}, {} not in need of it, {} changed concurrently and read again, {} cannot be opened or \
             read, {} failed.",
            count(counts.changed, "device"),
            counts.unchanged + counts.gone,
            counts.again,
            counts.broken,
            counts.failed
        ))?;
        require_finished(&counts)
    }

    /// The key ring, once no function can have the one before.
    async fn ring_that_functions_have(
        &mut self,
        request: &ResealRequest,
        delay: &impl Delay,
    ) -> Result<KeyRingSummary> {
        loop {
            let ring = self.key_ring().await?;
            // Not from the creation of its version: a rotation may have been held up before it made that the current one.
            let changed = self.seeds.key_ring_changed_at(&ring).await;
            let changed = changed.context("cannot read when the key ring was changed last")?;
            let changed = changed
                .ok_or_else(|| anyhow!("the key ring was rotated concurrently: run it again; nothing was changed"))?;
            let from = changed.plus(time_in_caches(request.seed_cache));
            let now = self.clock.now();
            if from <= now || request.dry_run {
                return Ok(ring);
            }
            let why = format!(
                "the key ring was changed at {}, and functions may have the one before in memory until {}",
                changed.rfc3339(),
                from.rfc3339()
            );
            if !request.wait {
                bail!("{why}: run it again from then on, or with --wait; nothing was changed");
            }
            self.terminal.note(&format!("Waiting: {why}."))?;
            delay
                .wait(Duration::from_millis(from.as_millis() - now.as_millis()))
                .await;
        }
    }
}

struct Reseal<'a, D, S, C, W> {
    shared: Shared<'a, D, C, W>,
    seeds: &'a S,
    current: KeyId,
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, W: Delay> Reseal<'_, D, S, C, W> {
    async fn device(&self, record: DeviceRecord) -> Report {
        let try_device = async |record: &DeviceRecord| {
            let swept = self.try_device(record).await;
            swept.unwrap_or_else(|error| Some(failed(&record.key, &error)))
        };
        let (swept, again) = self.shared.until_undisturbed(record, try_device).await;
        Report { again, ..swept.into() }
    }

    /// `None` if others wrote first.
    async fn try_device(&self, record: &DeviceRecord) -> Result<Option<Swept>, StoreError> {
        let now = self.shared.clock.now();
        if keys_of(record, now).iter().all(|key| *key == Some(self.current)) {
            return Ok(Some(Swept::Unchanged));
        }
        let mut new = record.clone();
        let own = self.seal_again(record, &record.device.seed_ref, new.device.sealed.as_mut());
        if let Some(problem) = own.await? {
            return Ok(Some(problem));
        }
        if let Some(pending) = new.pending.as_mut().filter(|pending| pending.waits_at(now)) {
            let problem = self.seal_again(record, &pending.seed_ref, pending.sealed.as_mut());
            if let Some(problem) = problem.await? {
                return Ok(Some(problem));
            }
        }
        let written = self.shared.call(|| self.shared.devices.reseal(record, &new)).await?;
        Ok(match written {
            Written::Yes => Some(Swept::Changed),
            Written::No(None) => Some(Swept::Gone),
            Written::No(Some(_)) | Written::NotPending => None,
        })
    }

    /// Seals one seed of a device under the current key, if it is under another one. Returns why it cannot.
    async fn seal_again(
        &self,
        record: &DeviceRecord,
        seed_ref: &SeedRef,
        sealed: Option<&mut SealedSeed>,
    ) -> Result<Option<Swept>, StoreError> {
        let (SeedRef::Sealed(id), Some(sealed)) = (seed_ref, sealed) else {
            return Ok(None);
        };
        if sealed.key_id() == Some(self.current) {
            return Ok(None);
        }
        let key = &record.key;
        let opened = self.shared.call(|| self.seeds.read(key, seed_ref, Some(sealed)));
        let seed = match opened.await {
            Ok(Some(seed)) => seed,
            Ok(None) => return Ok(Some(Swept::Gone)),
            Err(StoreError::Corrupt { what, .. }) => {
                let (name, under) = (name_of(key), under(sealed.key_id()));
                return Ok(Some(Swept::Broken(format!(
                    "the seed of the device {name} is sealed {under} and cannot be opened ({what}); `mfactl device check {}` says \
                     what to do",
                    options_for(key)
                ))));
            }
            Err(error) => return Err(error),
        };
        let again = self.shared.call(|| self.seeds.seal(key, *id, &seed)).await?;
        if again.key_id() != Some(self.current) {
            let error = anyhow!("the key ring was rotated concurrently: run it again, as soon as that key may be used");
            return Ok(Some(Swept::Stop(error)));
        }
        *sealed = again;
        Ok(None)
    }
}

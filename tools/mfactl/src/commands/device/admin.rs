//! What the commands for devices share: reading and changing a device, and storing one with its seed.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use shared::clock::Clock;
use shared::device::{Device, DeviceRecord, NewSeed, RegisteredBy, Status};
use shared::names::{DeviceKey, SecretVersion};
use shared::otp::Seed;
use shared::policy::Policy;
use shared::ports::Written;
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;
use shared::registration::{
    KeptBecause, Leftovers, NotRegistered, NotStored, RegisterRequest, StoredSeed, register, store_seed,
};

use crate::commands::confirm::confirm;
use crate::commands::text::{name_of, options_for};
use crate::terminal::Terminal;
use crate::usage::Usage;

/// How a seed is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It can be restored for 30 days.
    Recoverable,
    /// It cannot be restored.
    ForGood,
}

/// How a device is registered with a seed.
#[derive(Debug)]
pub(super) struct Terms {
    /// The status of a device that was never active.
    pub(super) status: Status,
    /// Whether an active device gets a new seed.
    pub(super) replace: bool,
    /// How long the seed of an active device waits for its first code.
    pub(super) pending_for: Duration,
    /// How long a device that was never active is kept from cleaning up.
    pub(super) activate_within: Duration,
}

/// How often a change is tried while others write the same device.
const MOST_TRIES: u8 = 5;

/// Carries out the commands for devices.
#[derive(Debug)]
pub struct DeviceAdmin<D, S, C, R, T> {
    pub devices: D,
    pub seeds: S,
    pub clock: C,
    /// The generator of seeds and of their names.
    pub random: R,
    pub terminal: T,
    /// The deployment's rate limit.
    pub policy: Policy,
    /// What the names of new seeds begin with; only commands that create one need it.
    pub seed_prefix: Option<String>,
    /// Whether every question is answered with yes.
    pub yes: bool,
    /// Whether a secret was left behind that the operator has to remove; the notes name it.
    pub left_behind: bool,
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    pub(super) async fn find(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>> {
        find(&self.devices, key).await
    }

    pub(super) async fn require(&self, key: &DeviceKey) -> Result<DeviceRecord> {
        self.find(key).await?.ok_or_else(|| no_such_device(key))
    }

    pub(in crate::commands) fn confirm(&mut self, question: &str) -> Result<()> {
        confirm(&mut self.terminal, self.yes, question)
    }

    /// Changes a device. `change` is called again if others wrote the device in between; it returns `None` if there is
    /// nothing to change. Returns whether the device was changed.
    pub(super) async fn change(
        &self,
        key: &DeviceKey,
        change: impl Fn(&Device) -> Result<Option<Device>>,
    ) -> Result<bool> {
        let held = self.require(key).await?.device;
        self.change_held(key, held, change).await
    }

    /// As [`Self::change`], of a device that was read before. The version goes up by one, or to that of the new state.
    pub(super) async fn change_held(
        &self,
        key: &DeviceKey,
        mut held: Device,
        change: impl Fn(&Device) -> Result<Option<Device>>,
    ) -> Result<bool> {
        for _ in 0..MOST_TRIES {
            let Some(new) = change(&held)? else { return Ok(false) };
            let new = Device {
                version: new.version.max(held.version.saturating_add(1)),
                ..new
            };
            let written = self.devices.replace(key, &held, &new, None).await;
            let written = written.with_context(|| {
                format!(
                    "cannot write the device {}; it may have been changed anyway: run it again",
                    name_of(key)
                )
            })?;
            match written {
                Written::Yes => return Ok(true),
                // This call's own first try, whose answer was lost.
                Written::No(Some(stored)) if *stored == new => return Ok(true),
                Written::No(Some(stored)) => held = *stored,
                Written::No(None) | Written::NotPending => return Err(no_such_device(key)),
            }
        }
        bail!(
            "the device {} was changed by others {MOST_TRIES} times at the same moment: run it again",
            name_of(key)
        )
    }

    /// Removes a seed that no device names any more. A failure does not end the command: it is reported, and remembered.
    pub(super) async fn discard(&mut self, seed: &SecretVersion, how: Removal) -> Result<()> {
        let left = discard(&self.seeds, seed, how).await;
        self.report_left_behind(left)
    }

    fn report_left_behind(&mut self, notes: impl IntoIterator<Item = String>) -> Result<()> {
        for note in notes {
            self.left_behind = true;
            self.terminal.note(&note)?;
        }
        Ok(())
    }

    /// Stores a seed and registers a device with it, which was read before. Removes the seeds that the device does not name
    /// any more.
    pub(super) async fn store(
        &mut self,
        key: &DeviceKey,
        stored: Option<DeviceRecord>,
        seed: &Seed,
        terms: &Terms,
    ) -> Result<NewSeed> {
        let registrar = Registrar {
            devices: &self.devices,
            seeds: &self.seeds,
            clock: &self.clock,
            random: &self.random,
            seed_prefix: self.seed_prefix.as_deref(),
        };
        let (outcome, left) = registrar.store(key, stored, seed, terms).await;
        self.report_left_behind(left)?;
        outcome
    }
}

/// The record of a device.
pub(super) async fn find(devices: &impl DeviceInventory, key: &DeviceKey) -> Result<Option<DeviceRecord>> {
    let record = devices.record(key).await;
    record.with_context(|| format!("cannot read the device {}; nothing was changed", name_of(key)))
}

/// Stores devices with their seeds, several at a time if need be: it has no terminal.
#[derive(Debug)]
pub(super) struct Registrar<'a, D, S, C, R> {
    pub(super) devices: &'a D,
    pub(super) seeds: &'a S,
    pub(super) clock: &'a C,
    pub(super) random: &'a R,
    pub(super) seed_prefix: Option<&'a str>,
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random> Registrar<'_, D, S, C, R> {
    /// Stores a seed and registers a device with it, which was read before. Removes the seeds that the device does not name
    /// any more, and returns what to report of those that are left.
    pub(super) async fn store(
        &self,
        key: &DeviceKey,
        stored: Option<DeviceRecord>,
        seed: &Seed,
        terms: &Terms,
    ) -> (Result<NewSeed>, Vec<String>) {
        let mut leftovers = Leftovers::default();
        let outcome = self.store_with(key, stored, seed, terms, &mut leftovers).await;
        let mut left = Vec::new();
        // None of them was ever in use.
        for seed in &leftovers.unwanted {
            left.extend(discard(self.seeds, seed, Removal::ForGood).await);
        }
        // A device that works must have its secret: docs/decisions/0010.
        left.extend(leftovers.kept.map(|(seed, why)| kept_note(&seed, &why)));
        (outcome, left)
    }

    async fn store_with(
        &self,
        key: &DeviceKey,
        stored: Option<DeviceRecord>,
        seed: &Seed,
        terms: &Terms,
        leftovers: &mut Leftovers,
    ) -> Result<NewSeed> {
        let prefix = self
            .seed_prefix
            .ok_or_else(|| Usage("SEED_PREFIX is not set".to_owned()))?;
        let version = RegisterRequest::random_version(self.random)?;
        let stored_seed = store_seed(self.seeds, self.random, prefix, key, seed, leftovers).await;
        let StoredSeed { seed_ref, sealed } = stored_seed.map_err(|error| match error {
            NotStored::Random(error) => anyhow!(error),
            NotStored::Store(error) => anyhow!(error).context("cannot store the seed; no device was changed"),
        })?;
        let now = self.clock.now();
        let request = RegisterRequest {
            key: key.clone(),
            seed: NewSeed {
                seed_ref,
                parameters: seed.parameters(),
            },
            sealed,
            replace: terms.replace,
            status: terms.status,
            by: RegisteredBy::Operator,
            version,
            now,
            pending_until: now.plus(terms.pending_for),
            activate_within: terms.activate_within,
        };
        match register(self.devices, stored, &request, leftovers).await {
            Ok(()) => Ok(request.seed),
            Err(NotRegistered::Store(error)) => {
                Err(anyhow!(error).context(format!("cannot write the device {}", name_of(key))))
            }
            // It was not so when it was read.
            Err(NotRegistered::Refused(_) | NotRegistered::Contention) => Err(anyhow!(
                "the device {} was changed concurrently: run it again",
                name_of(key)
            )),
        }
    }
}

/// Removes a seed that no device names any more. Returns what to report if it could not.
pub(in crate::commands) async fn discard(
    seeds: &impl SeedInventory,
    seed: &SecretVersion,
    how: Removal,
) -> Option<String> {
    let removed = match how {
        Removal::Recoverable => seeds.remove(seed).await,
        Removal::ForGood => seeds.purge(seed).await,
    };
    removed.err().map(|error| {
        format!(
            "The secret {name} could not be removed ({error}). No device names it any more; remove it with: aws \
             secretsmanager delete-secret --secret-id {name}",
            name = seed.name(),
        )
    })
}

/// What to say of a secret that a write may still name.
pub(in crate::commands) fn kept_note(seed: &SecretVersion, why: &KeptBecause) -> String {
    format!(
        "The secret {} was not removed: {}. If no device names it in an hour, `mfactl doctor --fix` removes it.",
        seed.name(),
        shared::error::chain(why)
    )
}

fn no_such_device(key: &DeviceKey) -> anyhow::Error {
    anyhow!(
        "there is no device {}: `mfactl device list` lists all; names are case-sensitive",
        name_of(key)
    )
}

/// The error for a device that is disabled.
pub(super) fn disabled(key: &DeviceKey) -> anyhow::Error {
    anyhow!(
        "the device {} is disabled: enable it first with `mfactl device enable {options}`, or remove it",
        name_of(key),
        options = options_for(key)
    )
}

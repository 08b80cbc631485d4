//! What the commands for devices share: reading and changing a device, and storing one with its seed.

use anyhow::{Context as _, Result, anyhow, bail};
use shared::clock::Clock;
use shared::device::{Device, DeviceRecord, RegisteredBy, Registration, Status};
use shared::names::{DeviceKey, SeedRef, seed_name};
use shared::otp::{OtpParameters, Seed};
use shared::policy::Policy;
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::ports::{Stored, Written};
use shared::random::Random;
use zeroize::Zeroizing;

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
        let record = self.devices.record(key).await;
        record.with_context(|| format!("cannot read the device {}; nothing was changed", name_of(key)))
    }

    pub(super) async fn require(&self, key: &DeviceKey) -> Result<DeviceRecord> {
        self.find(key).await?.ok_or_else(|| no_such_device(key))
    }

    pub(super) fn confirm(&mut self, question: &str) -> Result<()> {
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

    pub(super) fn new_seed(&self, parameters: OtpParameters) -> Result<Seed> {
        let mut bytes = Zeroizing::new([0; 20]);
        for chunk in bytes.chunks_mut(16) {
            let fresh = Zeroizing::new(self.random.sixteen_bytes()?);
            for (to, from) in chunk.iter_mut().zip(fresh.iter()) {
                *to = *from;
            }
        }
        Ok(Seed::from_bytes(bytes.as_slice(), parameters)?)
    }

    /// Stores a seed under a new name.
    pub(super) async fn create_seed(&mut self, seed: &Seed) -> Result<SeedRef> {
        let prefix = self.seed_prefix.as_deref();
        let prefix = prefix.ok_or_else(|| Usage("SEED_PREFIX is not set".to_owned()))?;
        let name = seed_name(prefix, self.random.sixteen_bytes()?);
        let error = match self.seeds.create(&name, seed).await {
            Ok(seed_ref) => return Ok(seed_ref),
            Err(error) => error,
        };
        // It may be stored anyway, and no device names it. Its version is unknown, and removing it needs none.
        if !error.is_throttled()
            && let Ok(seed_ref) = SeedRef::new(&name, "unknown")
        {
            self.discard(&seed_ref, Removal::ForGood).await?;
        }
        Err(anyhow!(error).context("cannot store the seed; no device was changed"))
    }

    /// Removes a seed that no device names any more. A failure does not end the command: it is reported, and remembered.
    pub(super) async fn discard(&mut self, seed: &SeedRef, how: Removal) -> Result<()> {
        let removed = match how {
            Removal::Recoverable => self.seeds.remove(seed).await,
            Removal::ForGood => self.seeds.purge(seed).await,
        };
        if let Err(error) = removed {
            self.left_behind = true;
            self.terminal.note(&format!(
                "The secret {name} could not be removed ({error}). No device names it any more; remove it with: aws \
                 secretsmanager delete-secret --secret-id {name}",
                name = seed.name(),
            ))?;
        }
        Ok(())
    }

    /// After a write failed that names a seed and was made on `held` (or on no device): whether the device names the seed
    /// anyway. If it does not, and the write cannot take effect any more, the seed is removed. Otherwise it stays, since a
    /// device that works must have its secret: docs/decisions/0010.
    pub(super) async fn names_or_discard(
        &mut self,
        key: &DeviceKey,
        held: Option<&Device>,
        seed: &SeedRef,
    ) -> Result<bool> {
        let why = match self.devices.record(key).await {
            Ok(Some(record)) if record.seeds().any(|named| named == seed) => return Ok(true),
            Ok(record) if may_still_take_effect(held, record.as_ref()) => {
                "the write that names it may still take effect".to_owned()
            }
            Ok(_) => {
                self.discard(seed, Removal::ForGood).await?;
                return Ok(false);
            }
            Err(error) => format!("cannot read whether the device names it ({error})"),
        };
        self.left_behind = true;
        self.terminal.note(&format!(
            "The secret {} was not removed: {why}. If no device names it in an hour, `mfactl doctor --fix` removes it.",
            seed.name()
        ))?;
        Ok(false)
    }

    /// Stores a new device with a new seed; `None` if there already is a device with that name.
    pub(super) async fn store_new(&mut self, key: &DeviceKey, seed: &Seed, status: Status) -> Result<Option<SeedRef>> {
        let seed_ref = self.create_seed(seed).await?;
        let outcome = self.store_device(key, &seed_ref, seed.parameters(), status).await;
        match outcome {
            Ok(Stored::Yes) => Ok(Some(seed_ref)),
            Ok(Stored::Taken) => {
                self.discard(&seed_ref, Removal::ForGood).await?;
                Ok(None)
            }
            Err(error) if self.names_or_discard(key, None, &seed_ref).await? => {
                drop(error);
                Ok(Some(seed_ref))
            }
            Err(error) => Err(error.context(format!("cannot store the device {}", name_of(key)))),
        }
    }

    async fn store_device(
        &self,
        key: &DeviceKey,
        seed_ref: &SeedRef,
        parameters: OtpParameters,
        status: Status,
    ) -> Result<Stored> {
        // A random version tells this call's own repeated write from another registration; half the range is left to
        // count up.
        let random = u128::from_be_bytes(self.random.sixteen_bytes()?);
        let version = u64::try_from(random >> 65)?;
        let device = Device::registered(version, status, seed_ref.clone(), parameters);
        let registration = Registration {
            created_at: self.clock.now(),
            by: RegisteredBy::Operator,
            activate_by: None,
        };
        Ok(self.devices.register(key, &device, &registration).await?)
    }
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

/// Whether a conditional write that was never answered would still take effect on what is stored now.
pub(super) fn may_still_take_effect(held: Option<&Device>, stored: Option<&DeviceRecord>) -> bool {
    match (held, stored) {
        (None, None) => true,
        (Some(held), Some(stored)) => stored.device.version == held.version && stored.device.seed_ref == held.seed_ref,
        _ => false,
    }
}

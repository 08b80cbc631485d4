//! The commands, over ports: stores, clock, randomness and a terminal come in, so that every point at which one can fail
//! is a test.
//!
//! What holds at each of them: a secret is written before the device that names it, and a device stops naming a secret
//! before that is removed. A device that works has its secret, and what is left over is a secret that nothing names.

use anyhow::{Context as _, Result, anyhow, bail};
use shared::clock::Clock;
use shared::device::{Device, DeviceRecord, Status};
use shared::names::{DeviceKey, SeedRef, seed_name};
use shared::otp::{OtpParameters, Seed};
use shared::policy::Policy;
use shared::ports::{DeviceRegistry, Random, Removal, SeedRegistry, Stored, Written};
use zeroize::Zeroizing;

use crate::terminal::Terminal;

mod change;
mod client;
mod doctor;
mod files;
mod import;
mod look;
mod register;

pub use change::Removing;
pub use client::{ClientDesk, Rotating, SecretTo};
pub use doctor::{Doctor, Examining, Finding, Part, State, Stores, stack_by_name, stack_with_resources};
pub use files::existing;
pub use import::{Importing, Patience};
pub use look::{Checking, Listing};
pub use register::Registering;

/// How often a change is tried on what others wrote meanwhile.
const MOST_TRIES: u8 = 5;

/// Where commands are carried out.
#[derive(Debug)]
pub struct Desk<D, S, C, R, T> {
    /// The devices.
    pub devices: D,
    /// Their seeds.
    pub seeds: S,
    /// The time.
    pub clock: C,
    /// The generator of seeds and names.
    pub random: R,
    /// The person.
    pub terminal: T,
    /// How guesses are rationed: the deployment's.
    pub policy: Policy,
    /// What the names of seeds begin with.
    pub seed_prefix: String,
    /// Whether everything that would be asked is answered with yes.
    pub yes: bool,
    /// Whether something was left behind that somebody has to remove; what, the notes say.
    pub left_behind: bool,
}

/// A device as a person names it.
fn shown(key: &DeviceKey) -> String {
    format!(
        "{} of {} (client {})",
        key.device.as_str(),
        key.user.as_str(),
        key.client.as_str()
    )
}

/// The options that name a device, to be copied into a shell.
fn options_of(key: &DeviceKey) -> String {
    let quoted = |name: &str| format!("'{}'", name.replace('\'', "'\\''"));
    format!(
        "--client {} --user {} --device {}",
        quoted(key.client.as_str()),
        quoted(key.user.as_str()),
        quoted(key.device.as_str())
    )
}

fn no_such_device(key: &DeviceKey) -> anyhow::Error {
    anyhow!(
        "there is no device {}: `mfactl device list` shows what there is, and names are compared with their case",
        shown(key)
    )
}

impl<D: DeviceRegistry, S: SeedRegistry, C: Clock, R: Random, T: Terminal> Desk<D, S, C, R, T> {
    async fn record(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>> {
        let record = self.devices.record(key).await;
        record.with_context(|| format!("cannot read the device {}; nothing was changed", shown(key)))
    }

    async fn existing(&self, key: &DeviceKey) -> Result<DeviceRecord> {
        self.record(key).await?.ok_or_else(|| no_such_device(key))
    }

    /// Whether to go on with what cannot be undone.
    fn confirmed(&mut self, question: &str) -> Result<()> {
        confirmed(&mut self.terminal, self.yes, question)
    }

    /// Writes a change of what is there. `change` is asked again about what others wrote meanwhile; `None` if there is
    /// nothing to change.
    async fn change(&self, key: &DeviceKey, change: impl Fn(&Device) -> Result<Option<Device>>) -> Result<bool> {
        let mut held = self.existing(key).await?.device;
        for _ in 0..MOST_TRIES {
            let Some(new) = change(&held)? else { return Ok(false) };
            let new = Device {
                version: held.version.saturating_add(1),
                ..new
            };
            let written = self.devices.replace(key, &held, &new, None).await;
            let written = written.with_context(|| {
                format!(
                    "cannot write the device {}; it may be changed nevertheless: run it again",
                    shown(key)
                )
            })?;
            match written {
                Written::Yes => return Ok(true),
                // An earlier try of this very call: its response was lost.
                Written::No(Some(stored)) if *stored == new => return Ok(true),
                Written::No(Some(stored)) => held = *stored,
                Written::No(None) => return Err(no_such_device(key)),
            }
        }
        bail!(
            "others wrote the device {} {MOST_TRIES} times meanwhile: run it again",
            shown(key)
        )
    }

    fn new_seed(&self, parameters: OtpParameters) -> Result<Seed> {
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
    async fn create_seed(&mut self, seed: &Seed) -> Result<SeedRef> {
        let name = seed_name(&self.seed_prefix, self.random.sixteen_bytes()?);
        let error = match self.seeds.create(&name, seed).await {
            Ok(seed_ref) => return Ok(seed_ref),
            Err(error) => error,
        };
        // It may be stored nevertheless, and nothing names it. Its version is not known, and does not matter here.
        if !error.is_throttled()
            && let Ok(seed_ref) = SeedRef::new(&name, "unknown")
        {
            self.discard(&seed_ref, Removal::AtOnce).await?;
        }
        Err(anyhow!(error).context("cannot store the seed; no device was changed"))
    }

    /// Removes a seed that nothing names any more. A failure does not end the command; it is said, and remembered.
    async fn discard(&mut self, seed: &SeedRef, how: Removal) -> Result<()> {
        if let Err(error) = self.seeds.remove(seed, how).await {
            self.left_behind = true;
            self.terminal.note(&format!(
                "The secret {name} could not be removed ({error}), and no device names it any more. Remove it with: aws \
                 secretsmanager delete-secret --secret-id {name}",
                name = seed.name(),
            ))?;
        }
        Ok(())
    }

    /// After a write that names a seed, was made on `held` (or on no device), and failed: whether the device names the seed.
    /// If it does not, and the write cannot take effect any more either, the seed is removed. Otherwise it stays, since a
    /// device that works must have its secret: docs/decisions/0010.
    async fn names_or_discard(&mut self, key: &DeviceKey, held: Option<&Device>, seed: &SeedRef) -> Result<bool> {
        let why = match self.devices.record(key).await {
            Ok(Some(record)) if record.seeds().any(|named| named == seed) => return Ok(true),
            Ok(record) if may_still_come(held, record.as_ref()) => "the write that names it may still come".to_owned(),
            Ok(_) => {
                self.discard(seed, Removal::AtOnce).await?;
                return Ok(false);
            }
            Err(error) => format!("whether the device names it could not be read ({error})"),
        };
        self.left_behind = true;
        self.terminal.note(&format!(
            "The secret {} was not removed: {why}. If no device names it in an hour, `mfactl doctor --fix` removes it.",
            seed.name()
        ))?;
        Ok(false)
    }

    /// Stores a new device with a seed of its own; `None` if there is one by that name.
    async fn store_new(&mut self, key: &DeviceKey, seed: &Seed, status: Status) -> Result<Option<SeedRef>> {
        let seed_ref = self.create_seed(seed).await?;
        let outcome = self.store_device(key, &seed_ref, seed.parameters(), status).await;
        match outcome {
            Ok(Stored::Yes) => Ok(Some(seed_ref)),
            Ok(Stored::Taken) => {
                self.discard(&seed_ref, Removal::AtOnce).await?;
                Ok(None)
            }
            Err(error) if self.names_or_discard(key, None, &seed_ref).await? => {
                drop(error);
                Ok(Some(seed_ref))
            }
            Err(error) => Err(error.context(format!("cannot store the device {}", shown(key)))),
        }
    }

    async fn store_device(
        &self,
        key: &DeviceKey,
        seed_ref: &SeedRef,
        parameters: OtpParameters,
        status: Status,
    ) -> Result<Stored> {
        let [high, ..] = split(self.random.sixteen_bytes()?);
        let device = Device::registered(high >> 1, status, seed_ref.clone(), parameters);
        Ok(self.devices.register(key, &device, self.clock.now()).await?)
    }
}

/// Whether a conditional write, of which no try was answered, would still take effect on what is there now.
fn may_still_come(held: Option<&Device>, there: Option<&DeviceRecord>) -> bool {
    match (held, there) {
        (None, None) => true,
        (Some(held), Some(there)) => there.device.version == held.version && there.device.seed_ref == held.seed_ref,
        _ => false,
    }
}

fn confirmed(terminal: &mut impl Terminal, yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let answer = terminal.ask(&format!("{question} [y/N]"))?;
    match answer.as_deref().map(String::as_str) {
        Some("y" | "Y" | "yes" | "Yes" | "YES") => Ok(()),
        Some(_) => bail!("not confirmed; nothing was changed"),
        None => bail!("nobody confirmed it; nothing was changed: give --yes in a script"),
    }
}

fn split(bytes: [u8; 16]) -> [u64; 2] {
    let whole = u128::from_be_bytes(bytes);
    [whole >> 64, whole & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or_default())
}

#[cfg(test)]
mod tests;

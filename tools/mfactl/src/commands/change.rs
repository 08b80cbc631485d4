//! `disable`, `enable`, `unlock` and `remove`: conditional writes on what is there, and the end of a device.

use anyhow::{Result, anyhow, bail};
use shared::clock::{Clock, Timestamp};
use shared::device::{Device, DeviceRecord, Status};
use shared::error::StoreError;
use shared::names::{DeviceKey, SeedRef};
use shared::ports::{DeviceRegistry, Random, Removal, SeedRegistry};

use super::{Desk, options_of, shown};
use crate::terminal::Terminal;

/// Where the secrets of an item are found that nobody could read.
const FINDS_THEM: &str = "`mfactl doctor` finds secrets that no device names";

/// How a device is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removing {
    /// Its seed can be brought back for 30 days.
    Recoverably,
    /// Its seed is gone at once.
    ForGood,
}

impl<D: DeviceRegistry, S: SeedRegistry, C: Clock, R: Random, T: Terminal> Desk<D, S, C, R, T> {
    /// Takes a device out of use.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn disable(&mut self, key: &DeviceKey) -> Result<()> {
        let changed = self
            .change(key, |held| match held.status {
                Status::Active => Ok(Some(Device {
                    status: Status::Disabled,
                    ..held.clone()
                })),
                Status::Disabled => Ok(None),
                // Enabled again, it would be active without a first code.
                Status::ActivationRequired => bail!(
                    "the device {} is not in use yet: leave it, or remove it with `mfactl device remove {}`",
                    shown(key),
                    options_of(key)
                ),
            })
            .await?;
        let text = if changed {
            "is disabled. Both steps refuse it from now on, authentications that were started before included."
        } else {
            "was disabled already."
        };
        Ok(self.terminal.say(&format!("The device {} {text}", shown(key)))?)
    }

    /// Takes a disabled device into use again.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn enable(&mut self, key: &DeviceKey) -> Result<()> {
        let changed = self
            .change(key, |held| match held.status {
                Status::Disabled => Ok(Some(Device {
                    status: Status::Active,
                    ..held.clone()
                })),
                Status::Active => Ok(None),
                Status::ActivationRequired => bail!(
                    "the device {} was never in use: `mfactl device activate {}` asks for its first code",
                    shown(key),
                    options_of(key)
                ),
            })
            .await?;
        let text = if changed {
            "is active again."
        } else {
            "was active already."
        };
        Ok(self.terminal.say(&format!("The device {} {text}", shown(key)))?)
    }

    /// Opens single codes after wrong ones, with six of them in the budget; with `reset_budget` all of it.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn unlock(&mut self, key: &DeviceKey, reset_budget: bool) -> Result<()> {
        if reset_budget {
            self.existing(key).await?;
            let burst = self.policy.burst();
            self.confirmed(&format!(
                "This allows whoever guesses another {burst} wrong codes at once, {:.1e} of an attacker's year. Two codes in a \
                 row get the owner in without it. Reset the budget of {}?",
                3e-6 * f64::from(burst),
                shown(key)
            ))?;
        }
        let (now, policy) = (self.clock.now(), self.policy);
        let changed = self
            .change(key, |held| {
                let mut new = held.unlocked(now, &policy);
                if reset_budget {
                    new.budget_at = Timestamp::EPOCH;
                    new.pair_at = Timestamp::EPOCH;
                }
                let same = Device {
                    version: held.version,
                    ..new.clone()
                } == *held;
                Ok((!same).then_some(new))
            })
            .await?;
        let text = if changed {
            "is unlocked: single codes are looked at again. It is felt from the next authentication on (step 2): one that was \
             started before keeps asking for two codes."
        } else {
            "has nothing to unlock: single codes are looked at."
        };
        Ok(self.terminal.say(&format!("The device {} {text}", shown(key)))?)
    }

    /// Removes a device, then its seeds. Repeatable: a device that is gone is no error.
    ///
    /// An item that cannot be read is removed too, or its name would be taken for ever. Nobody knows its secrets then.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn remove(&mut self, key: &DeviceKey, how: Removing) -> Result<()> {
        let known = match self.record(key).await {
            Ok(Some(record)) => Some(record),
            Ok(None) => {
                let text = format!("There is no device {}; nothing was removed.", shown(key));
                return Ok(self.terminal.say(&text)?);
            }
            Err(error) => match error.downcast_ref() {
                Some(StoreError::Corrupt { what, .. }) => {
                    // Said before anything is done: once the item is gone, nothing else tells of them.
                    self.terminal.note(&format!(
                        "The item of the device {} cannot be read ({what}), so the secrets that it names stay: when it is gone, \
                         {FINDS_THEM}.",
                        shown(key)
                    ))?;
                    None
                }
                _ => return Err(error),
            },
        };
        self.confirmed(&format!("Remove the device {}? This cannot be undone.", shown(key)))?;
        let removed = match self.devices.remove(key).await {
            Ok(removed) => removed,
            // It may be gone nevertheless, and then its seeds are named by nothing. Of an item that cannot be read, this is
            // the answer when it was removed.
            Err(error) => {
                if !matches!(self.devices.record(key).await, Ok(None)) {
                    let seeds: Vec<&str> = known.iter().flat_map(DeviceRecord::seeds).map(SeedRef::name).collect();
                    let left = if seeds.is_empty() {
                        FINDS_THEM.to_owned()
                    } else {
                        format!("what is left is {}", seeds.join(" and "))
                    };
                    let what = format!(
                        "cannot remove the device {}: run it again; if it is gone then, {left}",
                        shown(key)
                    );
                    return Err(anyhow!(error).context(what));
                }
                None
            }
        };
        self.left_behind |= known.is_none() && removed.is_none();
        // Both: of a repeated call the second answer has nothing, and between read and removal there may be new ones.
        let mut seeds: Vec<SeedRef> = Vec::new();
        for seed in known.iter().chain(&removed).flat_map(DeviceRecord::seeds) {
            if !seeds.contains(seed) {
                seeds.push(seed.clone());
            }
        }
        let how = match how {
            Removing::Recoverably => Removal::Recoverable,
            Removing::ForGood => Removal::AtOnce,
        };
        for seed in &seeds {
            self.discard(seed, how).await?;
        }
        Ok(self.terminal.say(&format!("The device {} is removed.", shown(key)))?)
    }
}

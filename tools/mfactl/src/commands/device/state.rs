//! `disable`, `enable` and `unlock`: conditional writes on what is stored.

use anyhow::{Result, bail};
use shared::clock::{Clock, Timestamp};
use shared::device::{Device, Status};
use shared::names::DeviceKey;
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;

use super::admin::DeviceAdmin;
use crate::commands::text::{name_of, options_for};
use crate::terminal::Terminal;

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Disables a device.
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
                    "the device {} is not active yet: leave it, or remove it with `mfactl device remove {}`",
                    name_of(key),
                    options_for(key)
                ),
            })
            .await?;
        let text = if changed {
            "is disabled. Both steps refuse it from now on, for authentications that are under way too."
        } else {
            "was already disabled."
        };
        Ok(self.terminal.say(&format!("The device {} {text}", name_of(key)))?)
    }

    /// Enables a disabled device.
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
                    "the device {} was never active: `mfactl device activate {}` asks for its first code",
                    name_of(key),
                    options_for(key)
                ),
            })
            .await?;
        let text = if changed {
            "is active again."
        } else {
            "was already active."
        };
        Ok(self.terminal.say(&format!("The device {} {text}", name_of(key)))?)
    }

    /// Allows single codes again after wrong ones, with six of them in the budget; with `reset_budget`, all of it.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn unlock(&mut self, key: &DeviceKey, reset_budget: bool) -> Result<()> {
        if reset_budget {
            self.require(key).await?;
            let burst = self.policy.burst();
            self.confirm(&format!(
                "This allows an attacker {burst} more wrong codes immediately: a chance of {:.1e} to guess a code of 6 digits. Two \
                 codes in a row let the owner in without it. Reset the budget of {}?",
                3e-6 * f64::from(burst),
                name_of(key)
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
            "is unlocked: it accepts single codes again. This takes effect with the next authentication (step 2); one that is \
             under way still needs two codes."
        } else {
            "is not locked: it accepts single codes."
        };
        Ok(self.terminal.say(&format!("The device {} {text}", name_of(key)))?)
    }
}

//! `check`: whether a device can work.

use anyhow::{Result, bail};
use serde_json::json;
use shared::clock::Clock;
use shared::names::{DeviceKey, SeedRef};
use shared::otp::Seed;
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;
use subtle::ConstantTimeEq as _;

use super::admin::DeviceAdmin;
use super::describe;
use crate::commands::text::{count, name_of};
use crate::formats::encodings::bits_of;
use crate::formats::import_file::STRONG_BITS;
use crate::terminal::Terminal;

/// What `check` was asked for.
#[derive(Debug)]
pub struct CheckRequest {
    pub key: DeviceKey,
    pub json: bool,
    /// The seed that the device should have.
    pub expected: Option<Seed>,
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Checks a device: its item, its secret, and what an authentication would need now.
    ///
    /// # Errors
    /// If something is wrong with it.
    pub async fn check(&mut self, request: &CheckRequest) -> Result<()> {
        let record = self.require(&request.key).await?;
        let mut problems = Vec::new();
        let mut found = vec!["The item is complete.".to_owned()];
        match self.read_seed(&record.device.seed_ref).await {
            Ok(seed) => {
                let bits = bits_of(&seed);
                found.push(format!("The secret holds a seed of {bits} bits."));
                if seed.parameters() != record.device.parameters {
                    problems.push(format!(
                        "the secret is for {}, the item for {}: every authentication gets 503; register the device with \
                         --replace",
                        describe::parameters(seed.parameters()),
                        describe::parameters(record.device.parameters)
                    ));
                }
                if bits < STRONG_BITS {
                    found.push(format!(
                        "The seed has fewer than {STRONG_BITS} bits: give the user a new one (--replace)."
                    ));
                }
                if let Some(expected) = &request.expected {
                    if bool::from(seed.to_base32().as_bytes().ct_eq(expected.to_base32().as_bytes())) {
                        found.push("The seed is the same as in the file.".to_owned());
                    } else {
                        problems.push("the seed differs from the one in the file".to_owned());
                    }
                }
            }
            Err(problem) => problems.push(problem),
        }
        let now = self.clock.now();
        if let Some(pending) = &record.pending {
            let until = pending.until.rfc3339();
            if pending.until <= now {
                found.push(format!(
                    "A new seed waited for its first code until {until}; the next --replace removes it."
                ));
            } else {
                match self.read_seed(&pending.seed_ref).await {
                    Ok(_) => found.push(format!("A new seed waits for its first code until {until}.")),
                    Err(problem) => problems.push(format!("new seed: {problem}")),
                }
            }
        }
        let outlook = describe::outlook(&record.device, now, &self.policy);
        if request.json {
            let device = describe::json(&record);
            let value = json!({ "device": device, "found": found, "problems": problems, "now": outlook });
            self.terminal.say(&format!("{value:#}"))?;
        } else {
            for line in &found {
                self.terminal.say(line)?;
            }
            for problem in &problems {
                self.terminal.say(&format!("Problem: {problem}."))?;
            }
            self.terminal.say(&format!("Now: {outlook}."))?;
        }
        if problems.is_empty() {
            return Ok(());
        }
        let problems = count(problems.len(), "problem");
        bail!("the device {} does not work: {problems} found", name_of(&request.key))
    }

    /// A seed, or what is wrong with it and what to do.
    async fn read_seed(&self, seed: &SeedRef) -> Result<Seed, String> {
        let name = seed.name();
        match self.seeds.read(seed).await {
            Ok(Some(seed)) => Ok(seed),
            Ok(None) => Err(format!(
                "the secret {name} does not exist: within 30 days of its removal, aws secretsmanager restore-secret \
                 --secret-id {name}; later, register the device with --replace"
            )),
            Err(error) => Err(format!(
                "the secret {name} cannot be read: {}",
                shared::error::chain(&error)
            )),
        }
    }
}

//! `check`: whether a device can work.

use anyhow::{Result, bail};
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::device::DeviceRecord;
use shared::error::StoreError;
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
    /// Whether to ask for two consecutive codes, and tell how far the token's clock is off.
    pub codes: bool,
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Checks a device: its item, its secret, with `codes` the clock of its token, and what an authentication would need now.
    ///
    /// # Errors
    /// If something is wrong with it.
    pub async fn check(&mut self, request: &CheckRequest) -> Result<()> {
        let mut record = self.require(&request.key).await?;
        let mut problems = Vec::new();
        let mut found = vec!["The item is complete.".to_owned()];
        // What was measured; the inner one is `None` if the codes are not of this seed.
        let mut drift: Option<Option<Value>> = None;
        match self.read_seed(&record, &record.device.seed_ref).await {
            Ok(seed) => {
                let bits = bits_of(&seed);
                found.push(
                    match describe::key_of(&record.device.seed_ref, record.device.sealed.as_ref()) {
                        None => format!("The secret holds a seed of {bits} bits."),
                        Some(key) => format!("The seed of {bits} bits is sealed under key {key}."),
                    },
                );
                if seed.parameters() != record.device.parameters {
                    problems.push(format!(
                        "the seed is for {}, the item for {}: every authentication gets 503; register the device with \
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
                if request.codes && seed.parameters() == record.device.parameters {
                    let measured = self.measure_drift(&record, &seed).await?;
                    match measured.finding() {
                        Ok(fine) => found.push(fine),
                        Err(problem) => problems.push(problem),
                    }
                    drift = Some(measured.json());
                    record.device = measured.device;
                }
            }
            Err(problem) => problems.push(problem),
        }
        if request.codes && drift.is_none() {
            self.terminal
                .note("No codes were asked for: the problem with the seed comes first.")?;
        }
        let now = self.clock.now();
        // It does not keep the device's own seed from working.
        let mut new_seed = None;
        if let Some(pending) = &record.pending {
            let until = pending.until.rfc3339();
            if pending.waits_at(now) {
                match self.read_seed(&record, &pending.seed_ref).await {
                    Ok(_) => found.push(format!("A new seed waits for its first code until {until}.")),
                    Err(problem) => new_seed = Some(format!("new seed: {problem}")),
                }
            } else {
                found.push(format!(
                    "A new seed waited for its first code until {until}; the next --replace removes it."
                ));
            }
        }
        let conclusion = if problems.is_empty() {
            describe::outlook(&record.device, now, &self.policy)
        } else {
            "authentications fail until every problem is solved".to_owned()
        };
        let all: Vec<&String> = problems.iter().chain(&new_seed).collect();
        if request.json {
            let device = describe::json(&record);
            let value = json!({ "device": device, "found": found, "problems": all, "drift": drift.flatten(), "now": conclusion });
            self.terminal.print(&format!("{value:#}"))?;
        } else {
            for line in &found {
                self.terminal.say(line)?;
            }
            for problem in &all {
                self.terminal.say(&format!("Problem: {problem}."))?;
            }
            self.terminal.say(&format!("Now: {conclusion}."))?;
        }
        let what = match (problems.is_empty(), &new_seed) {
            (true, None) => return Ok(()),
            (true, Some(_)) => "works, but its new seed does not",
            (false, _) => "does not work",
        };
        bail!(
            "the device {} {what}: {} found",
            name_of(&request.key),
            count(all.len(), "problem")
        )
    }

    /// A seed of a device, or what is wrong with it and what to do.
    async fn read_seed(&self, record: &DeviceRecord, seed: &SeedRef) -> Result<Seed, String> {
        let sealed = record.sealed(seed);
        let read = self.seeds.read(&record.key, seed, sealed).await;
        let unreadable = |error| shared::error::chain(&error);
        match (seed, read) {
            (_, Ok(Some(seed))) => Ok(seed),
            (SeedRef::Secret(secret), Ok(None)) => {
                let name = secret.name();
                Err(format!(
                    "the secret {name} does not exist: within 30 days of its removal, aws secretsmanager restore-secret \
                     --secret-id {name}; later, register the device with --replace"
                ))
            }
            (SeedRef::Secret(secret), Err(error)) => Err(format!(
                "the secret {} cannot be read: {}",
                secret.name(),
                unreadable(error)
            )),
            (SeedRef::Sealed(_), Err(error @ StoreError::Unavailable { .. })) => Err(format!(
                "the seed, {}, cannot be opened: {}; nothing is known about it",
                describe::seed(seed, sealed),
                unreadable(error)
            )),
            (SeedRef::Sealed(_), read) => Err(format!(
                "the seed, {}, cannot be opened: {}; if the key ring does not have that key, restore the key ring; otherwise \
                 register the device with --replace",
                describe::seed(seed, sealed),
                read.err().map(unreadable).unwrap_or_default()
            )),
        }
    }
}

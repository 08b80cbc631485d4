//! `list`, `show`, `export` and `check`: what there is, for people and for scripts. No seed is ever part of it.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use shared::clock::{Clock, Timestamp};
use shared::device::{Device, DeviceRecord, Status};
use shared::names::{DeviceKey, SeedRef};
use shared::otp::{OtpParameters, Seed};
use shared::policy::Policy;
use shared::ports::{DeviceRegistry, Of, Random, SeedRegistry};
use shared::telemetry::rfc3339;
use subtle::ConstantTimeEq as _;
use unicode_width::UnicodeWidthStr as _;

use super::{Desk, options_of, shown};
use crate::encodings::bits_of;
use crate::import::STRONG_BITS;
use crate::terminal::Terminal;

/// What is listed, and how.
#[derive(Debug)]
pub struct Listing {
    /// Which devices.
    pub of: Of,
    /// For scripts.
    pub json: bool,
    /// Devices that are read at once.
    pub page: u16,
}

/// What is checked, and how.
#[derive(Debug)]
pub struct Checking {
    /// Which device.
    pub key: DeviceKey,
    /// For scripts.
    pub json: bool,
    /// The seed that it should have.
    pub expected: Option<Seed>,
}

impl<D: DeviceRegistry, S: SeedRegistry, C: Clock, R: Random, T: Terminal> Desk<D, S, C, R, T> {
    /// Lists devices, sorted by their names.
    ///
    /// # Errors
    /// If the table cannot be read, or an item in it; the others are listed then.
    pub async fn list(&mut self, what: &Listing) -> Result<()> {
        let mut all = Vec::new();
        let unreadable = self.every(what, |_, record| {
            all.push(record);
            Ok(())
        });
        let unreadable = unreadable.await?;
        all.sort_by(|one, other| names(&one.key).cmp(&names(&other.key)));
        if what.json {
            let all: Vec<Value> = all.iter().map(json_of).collect();
            self.terminal.say(&format!("{:#}", Value::from(all)))?;
        } else {
            self.terminal.say(&table(&all))?;
        }
        complete(unreadable)
    }

    /// Writes what is known of every device as JSON, one in a line, in the order of the table.
    ///
    /// # Errors
    /// As [`Desk::list`].
    pub async fn export(&mut self, what: &Listing) -> Result<()> {
        let say = |terminal: &mut T, record: DeviceRecord| Ok(terminal.say(&json_of(&record).to_string())?);
        let unreadable = self.every(what, say).await?;
        complete(unreadable)
    }

    /// Goes through all pages; says how many items could not be read.
    async fn every(
        &mut self,
        what: &Listing,
        mut each: impl FnMut(&mut T, DeviceRecord) -> Result<()>,
    ) -> Result<usize> {
        if !matches!(what.of, Of::User(..)) {
            self.terminal
                .note("This reads the whole table: with --user only what is asked for.")?;
        }
        let (mut after, mut unreadable) = (None, 0);
        loop {
            let page = self.devices.page(&what.of, after.as_ref(), what.page).await;
            let page = page.context("cannot read the table of devices")?;
            for record in page.records {
                match record {
                    Ok(record) => each(&mut self.terminal, record)?,
                    Err(error) => {
                        unreadable += 1;
                        self.terminal.note(&format!("An item is left out: {error}."))?;
                    }
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(unreadable),
            }
        }
    }

    /// Shows all that is known of a device.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub async fn show_device(&mut self, key: &DeviceKey, json: bool) -> Result<()> {
        let record = self.existing(key).await?;
        let now = self.clock.now();
        if json {
            let mut value = json_of(&record);
            if let Some(members) = value.as_object_mut() {
                members.insert(
                    "now".to_owned(),
                    what_would_happen(&record.device, now, &self.policy).into(),
                );
            }
            return Ok(self.terminal.say(&format!("{value:#}"))?);
        }
        let device = &record.device;
        let last_used = record.last_used_at.map_or("never".to_owned(), rfc3339);
        let pending = record.pending.as_ref().map_or("none".to_owned(), |pending| {
            format!("{}, until {}", pending.seed_ref.name(), rfc3339(pending.until))
        });
        let lines = [
            ("client", record.key.client.as_str().to_owned()),
            ("user", record.key.user.as_str().to_owned()),
            ("device", record.key.device.as_str().to_owned()),
            ("status", device.status.as_str().to_owned()),
            ("codes", codes_of(device.parameters)),
            ("seed", device.seed_ref.name().to_owned()),
            ("new seed", pending),
            ("registered", rfc3339(record.created_at)),
            ("last used", last_used),
            (
                "wrong codes",
                format!(
                    "{} in a row, {} ever",
                    device.consecutive_failures, device.total_failures
                ),
            ),
            ("now", what_would_happen(device, now, &self.policy)),
        ];
        let lines = lines.map(|(name, value)| format!("{name:<12}{value}"));
        Ok(self.terminal.say(&lines.join("\n"))?)
    }

    /// Checks that a device can work: its item, its secret, and what would happen now.
    ///
    /// # Errors
    /// If something is wrong with it.
    pub async fn check(&mut self, what: &Checking) -> Result<()> {
        let record = self.existing(&what.key).await?;
        let mut problems = Vec::new();
        let mut found = vec!["The item is complete.".to_owned()];
        match self.seed_of(&record.device.seed_ref).await {
            Ok(seed) => {
                let bits = bits_of(&seed);
                found.push(format!("The secret holds a seed of {bits} bits."));
                if seed.parameters() != record.device.parameters {
                    problems.push(format!(
                        "the secret is for {}, the item for {}: every sign-in gets 503; register the device with --replace",
                        codes_of(seed.parameters()),
                        codes_of(record.device.parameters)
                    ));
                }
                if bits < STRONG_BITS {
                    found.push(format!(
                        "It has fewer than {STRONG_BITS} bits: give the user a new one (--replace)."
                    ));
                }
                if let Some(expected) = &what.expected {
                    if bool::from(seed.to_base32().as_bytes().ct_eq(expected.to_base32().as_bytes())) {
                        found.push("It is the one in the file.".to_owned());
                    } else {
                        problems.push("the seed is another than the one in the file".to_owned());
                    }
                }
            }
            Err(problem) => problems.push(problem),
        }
        let now = self.clock.now();
        if let Some(pending) = &record.pending {
            let until = rfc3339(pending.until);
            if pending.until <= now {
                found.push(format!(
                    "A new seed waited for its first code until {until}; the next --replace removes it."
                ));
            } else {
                match self.seed_of(&pending.seed_ref).await {
                    Ok(_) => found.push(format!("A new seed waits for its first code until {until}.")),
                    Err(problem) => problems.push(format!("of the new seed, {problem}")),
                }
            }
        }
        let happens = what_would_happen(&record.device, now, &self.policy);
        if what.json {
            let value = json!({ "device": json_of(&record), "found": found, "problems": problems, "now": happens });
            self.terminal.say(&format!("{value:#}"))?;
        } else {
            for line in &found {
                self.terminal.say(line)?;
            }
            for problem in &problems {
                self.terminal.say(&format!("Problem: {problem}."))?;
            }
            self.terminal.say(&format!("Now: {happens}."))?;
        }
        if problems.is_empty() {
            Ok(())
        } else {
            bail!(
                "the device {} does not work: {} found",
                shown(&what.key),
                count(problems.len(), "problem")
            )
        }
    }

    /// A seed, or what is wrong with it and what to do.
    async fn seed_of(&self, seed: &SeedRef) -> Result<Seed, String> {
        let name = seed.name();
        match self.seeds.read(seed).await {
            Ok(Some(seed)) => Ok(seed),
            Ok(None) => Err(format!(
                "the secret {name} is not there: within 30 days of its removal, aws secretsmanager restore-secret --secret-id \
                 {name}; later, register the device with --replace"
            )),
            Err(error) => Err(format!(
                "the secret {name} cannot be read: {}",
                shared::error::chain(&error)
            )),
        }
    }
}

pub(super) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn complete(unreadable: usize) -> Result<()> {
    if unreadable == 0 {
        Ok(())
    } else {
        bail!(
            "{} could not be read: `mfactl device check` says more about one by its name",
            count(unreadable, "item")
        )
    }
}

fn names(key: &DeviceKey) -> [&str; 3] {
    [key.client.as_str(), key.user.as_str(), key.device.as_str()]
}

fn codes_of(parameters: OtpParameters) -> String {
    format!(
        "{}, {} digits, {} s",
        parameters.algorithm.as_str(),
        parameters.digits.count(),
        parameters.period.seconds()
    )
}

fn what_would_happen(device: &Device, now: Timestamp, policy: &Policy) -> String {
    match device.status {
        Status::ActivationRequired => {
            return "step 2 answers 423 DEVICE_NOT_ACTIVE until `mfactl device activate` has seen the first code"
                .to_owned();
        }
        Status::Disabled => return "step 2 answers 423 DEVICE_DISABLED until `mfactl device enable`".to_owned(),
        Status::Active => {}
    }
    let singles = match device.single_codes_at(policy) {
        Some(opens) if opens <= now => "one code is enough".to_owned(),
        Some(opens) => format!("two codes in a row are required, until {} or an unlock", rfc3339(opens)),
        None => "two codes in a row are required, until they succeed once or an unlock".to_owned(),
    };
    match device.pairs_at(policy) {
        opens if opens <= now => singles,
        opens => format!("{singles}; no pairs are looked at for {} s", opens.seconds_from(now)),
    }
}

/// What is known of a device, for scripts; the seed is only named.
fn json_of(record: &DeviceRecord) -> Value {
    let device = &record.device;
    json!({
        "clientId": record.key.client.as_str(),
        "userName": record.key.user.as_str(),
        "deviceName": record.key.device.as_str(),
        "status": device.status.as_str(),
        "algorithm": device.parameters.algorithm.as_str(),
        "digits": device.parameters.digits.count(),
        "period": device.parameters.period.seconds(),
        "seedRef": device.seed_ref.to_string(),
        "pendingSeedRef": record.pending.as_ref().map(|pending| pending.seed_ref.to_string()),
        "pendingUntil": record.pending.as_ref().map(|pending| rfc3339(pending.until)),
        "createdAt": rfc3339(record.created_at),
        "lastUsedAt": record.last_used_at.map(rfc3339),
        "consecutiveFailures": device.consecutive_failures,
        "totalFailures": device.total_failures,
    })
}

fn table(all: &[DeviceRecord]) -> String {
    const HEAD: [&str; 8] = [
        "CLIENT",
        "USER",
        "DEVICE",
        "STATUS",
        "CODES",
        "REGISTERED",
        "LAST USED",
        "WRONG",
    ];
    let rows: Vec<[String; 8]> = [HEAD.map(str::to_owned)]
        .into_iter()
        .chain(all.iter().map(|record| {
            let device = &record.device;
            [
                record.key.client.as_str().to_owned(),
                record.key.user.as_str().to_owned(),
                record.key.device.as_str().to_owned(),
                device.status.as_str().to_owned(),
                codes_of(device.parameters),
                rfc3339(record.created_at),
                record.last_used_at.map_or("never".to_owned(), rfc3339),
                format!("{}/{}", device.consecutive_failures, device.total_failures),
            ]
        }))
        .collect();
    format!("{}\n{}", aligned(&rows), count(all.len(), "device"))
}

/// Rows in columns that are as wide as they must be.
pub(super) fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    let lines = rows.iter().map(|row| {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(cell.width()))))
            .collect();
        cells.join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a person types to see more of a device.
pub(super) fn check_command(key: &DeviceKey) -> String {
    format!("mfactl device check {}", options_of(key))
}

//! `import`: the devices of a file, several at a time, at a common pace that the stores can take. What is said of the rows has
//! the order of the file.
//!
//! Can be repeated: devices that already have the seed of their row are skipped, so the next run finishes what an interrupted
//! one began, and there is no other state to keep. A device that waits for its first code gets the seed of its row; any other
//! device is never changed.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::stream::{self, StreamExt as _};
use shared::clock::Clock;
use shared::device::{DeviceRecord, Status};
use shared::error::StoreError;
use shared::names::{DeviceKey, Owner};
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;
use shared::sealed::SeedStorage;
use subtle::ConstantTimeEq as _;

use super::admin::{DeviceAdmin, Registrar, Terms, disabled, find};
use super::describe::check_command;
use crate::commands::pace::{Delay, Pace, backoff};
use crate::commands::text::{name_of, options_for};
use crate::formats::import_file::{self, ImportFile, ImportOptions, Row, RowError};
use crate::terminal::Terminal;
use crate::usage::Usage;

/// Consecutive rows that the store may fail; then the rows are not the reason.
const MOST_FAILURES: usize = 5;
/// The device is active at once, so nothing waits.
const TERMS: Terms = Terms {
    status: Status::Active,
    replace: false,
    pending_for: Duration::ZERO,
    activate_within: Duration::ZERO,
};

/// What `import` was asked for.
#[derive(Debug)]
pub struct ImportRequest<'a> {
    /// Whom the devices belong to.
    pub owner: Owner,
    pub options: ImportOptions<'a>,
    /// Whether to report only.
    pub dry_run: bool,
    /// How many rows at a time.
    pub parallel: usize,
}

enum RowOutcome {
    Imported,
    /// In place of a seed that waited for its first code.
    TookOver,
    AlreadyImported,
    /// The device stays as it is. Says nothing about the store.
    Refused(anyhow::Error),
}

/// What became of a row of the file.
enum Report {
    /// The row cannot be used.
    Invalid(RowError),
    /// The import was stopped before.
    NotAttempted,
    Attempted {
        row: Row,
        outcome: Result<RowOutcome>,
        /// What to say of secrets that were left behind.
        left: Vec<String>,
    },
}

/// Why no further row begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Failures,
    Credentials,
    /// No report can be written any more.
    Output,
}

#[derive(Default)]
struct Counts {
    imported: usize,
    existing: usize,
    failed: usize,
    not_attempted: usize,
    consecutive_failures: usize,
}

impl Counts {
    fn add(&mut self, report: &Report) {
        match report {
            Report::NotAttempted => self.not_attempted += 1,
            Report::Invalid(_) => self.failed += 1,
            Report::Attempted { outcome, .. } => {
                self.consecutive_failures = if outcome.is_err() {
                    self.consecutive_failures + 1
                } else {
                    0
                };
                match outcome {
                    Ok(RowOutcome::Imported | RowOutcome::TookOver) => self.imported += 1,
                    Ok(RowOutcome::AlreadyImported) => self.existing += 1,
                    Ok(RowOutcome::Refused(_)) | Err(_) => self.failed += 1,
                }
            }
        }
    }
}

/// What all rows of an import share.
struct Rows<'a, D, S, C, R, W> {
    registrar: Registrar<'a, D, S, C, R>,
    request: &'a ImportRequest<'a>,
    pace: Pace,
    delay: &'a W,
    stop: Cell<Option<Stop>>,
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Imports a file and reports every row.
    ///
    /// # Errors
    /// If the file cannot be read, or if a row failed; the others are imported.
    pub async fn import(&mut self, file: &[u8], request: &ImportRequest<'_>, delay: &impl Delay) -> Result<()> {
        let ImportFile { rows, notes } = import_file::read(file, &request.options)?;
        for note in notes {
            self.terminal.note(&note)?;
        }
        let (all, began) = (rows.len(), self.clock.now());
        let shared = Rows {
            registrar: Registrar {
                devices: &self.devices,
                seeds: &self.seeds,
                clock: &self.clock,
                random: &self.random,
                seed_prefix: self.seed_prefix.as_deref(),
            },
            request,
            pace: Pace::default(),
            delay,
            stop: Cell::new(None),
        };
        let (mut counts, mut done, mut output) = (Counts::default(), 0, Ok(()));
        let mut reports = stream::iter(rows)
            .map(|row| shared.import(row))
            .buffered(request.parallel);
        // To its end, also after a stop: no row is given up between its secret and its device.
        while let Some(report) = reports.next().await {
            counts.add(&report);
            if counts.consecutive_failures == MOST_FAILURES {
                shared.stop(Stop::Failures);
            }
            if !matches!(report, Report::NotAttempted) {
                done += 1;
            }
            if output.is_ok() {
                let elapsed = Duration::from_millis(self.clock.now().as_millis().saturating_sub(began.as_millis()));
                output = say(&mut self.terminal, &report, request.dry_run)
                    .and_then(|()| Ok(self.terminal.progress(done, all, elapsed)?));
            }
            if let Report::Attempted { left, .. } = report {
                self.left_behind |= !left.is_empty();
            }
            if output.is_err() {
                shared.stop(Stop::Output);
            }
        }
        output?;
        finish(&mut self.terminal, &counts, all, request.dry_run, shared.stop.get())
    }
}

/// Says what became of a row.
fn say(terminal: &mut impl Terminal, report: &Report, dry_run: bool) -> Result<()> {
    let (row, outcome) = match report {
        Report::NotAttempted => return Ok(()),
        Report::Invalid(error) => return Ok(terminal.say(&error.to_string())?),
        Report::Attempted { row, outcome, left } => {
            for note in left {
                terminal.note(note)?;
            }
            (row, outcome)
        }
    };
    let imported = if dry_run { "would be imported" } else { "imported" };
    let text = match outcome {
        Ok(RowOutcome::Imported) => imported.to_owned(),
        Ok(RowOutcome::TookOver) => format!("{imported} over a registration that was not finished"),
        Ok(RowOutcome::AlreadyImported) => "already imported, skipped".to_owned(),
        Ok(RowOutcome::Refused(error)) | Err(error) => format!("failed: {error:#}"),
    };
    let weak = if row.is_weak() { " (weak seed)" } else { "" };
    let notes = row.notes.iter().map(|note| format!(". {}", note.trim_end_matches('.')));
    Ok(terminal.say(&format!(
        "row {} ({}): {} / {}{weak}: {text}{}",
        row.number,
        row.place,
        row.user.as_str(),
        row.device.as_str(),
        notes.collect::<String>()
    ))?)
}

/// Says what became of the file.
fn finish(terminal: &mut impl Terminal, counts: &Counts, all: usize, dry_run: bool, stop: Option<Stop>) -> Result<()> {
    let Counts {
        imported,
        existing,
        failed,
        not_attempted,
        ..
    } = counts;
    let verb = if dry_run { "would be imported" } else { "imported" };
    let skipped = match not_attempted {
        0 => String::new(),
        rows => format!(", {rows} not attempted"),
    };
    terminal.say(&format!(
        "{imported} {verb}, {existing} already imported, {failed} failed{skipped}, of {all} rows."
    ))?;
    match stop {
        Some(Stop::Credentials) => Err(Usage(format!(
            "Stopping: AWS no longer accepts these credentials; they have probably expired. {} of {all} rows are imported, \
             {not_attempted} not attempted. Get new credentials (with single sign-on: aws sso login) and run the same command \
             again: devices already imported are skipped",
            imported + existing
        ))
        .into()),
        Some(Stop::Failures) => bail!(
            "Stopping after {MOST_FAILURES} consecutive failures: the store is probably unavailable. {not_attempted} of {all} \
             rows not attempted; run again, devices already imported are skipped"
        ),
        _ if *failed > 0 => {
            bail!("{failed} of {all} rows failed: fix them and run again; devices already imported are skipped")
        }
        _ => Ok(()),
    }
}

/// Whether a store failed a row in this way.
fn is_because(error: &anyhow::Error, way: impl Fn(&StoreError) -> bool) -> bool {
    error.chain().any(|cause| cause.downcast_ref().is_some_and(&way))
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, W: Delay> Rows<'_, D, S, C, R, W> {
    /// Lets no further row begin. The first reason is the one to report.
    fn stop(&self, why: Stop) {
        self.stop.set(self.stop.get().or(Some(why)));
    }

    async fn import(&self, row: Result<Row, RowError>) -> Report {
        if self.stop.get().is_some() {
            return Report::NotAttempted;
        }
        let row = match row {
            Ok(row) => row,
            Err(error) => return Report::Invalid(error),
        };
        let key = DeviceKey {
            owner: self.request.owner.clone(),
            user: row.user.clone(),
            device: row.device.clone(),
        };
        let mut left = Vec::new();
        let outcome = self.import_device(&key, &row, &mut left).await;
        // Now, not when the row's turn to be reported comes.
        if outcome
            .as_ref()
            .is_err_and(|error| is_because(error, StoreError::lacks_credentials))
        {
            self.stop(Stop::Credentials);
        }
        Report::Attempted { row, outcome, left }
    }

    /// Tries a row until the stores accept it, or fail it for another reason than throttling.
    async fn import_device(&self, key: &DeviceKey, row: &Row, left: &mut Vec<String>) -> Result<RowOutcome> {
        let mut waits = backoff();
        loop {
            self.pace.resume(self.registrar.clock, self.delay).await;
            let error = match self.try_device(key, row, left).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            let again = is_because(&error, StoreError::is_throttled) && self.stop.get().is_none();
            match waits.next().filter(|_| again) {
                // The store has one limit for all rows.
                Some(wait) => self.pace.pause(self.registrar.clock, wait),
                None => return Err(error),
            }
        }
    }

    async fn try_device(&self, key: &DeviceKey, row: &Row, left: &mut Vec<String>) -> Result<RowOutcome> {
        let unfinished = match find(self.registrar.devices, key).await? {
            None => None,
            Some(record) => match record.device.status {
                Status::Active => return self.compare(&record, row).await,
                Status::Disabled => return Ok(RowOutcome::Refused(disabled(key))),
                Status::ActivationRequired => Some(record),
            },
        };
        let outcome = if unfinished.is_some() {
            RowOutcome::TookOver
        } else {
            RowOutcome::Imported
        };
        if self.request.dry_run {
            return Ok(outcome);
        }
        // Only secrets have a limit.
        if self.registrar.seeds.storage() == SeedStorage::Secrets {
            self.pace.keep(self.registrar.clock, self.delay).await;
        }
        let (stored, unremoved) = self.registrar.store(key, unfinished, &row.seed, &TERMS).await;
        left.extend(unremoved);
        stored.map(|_| outcome)
    }

    /// Whether an active device already has the seed of its row.
    async fn compare(&self, record: &DeviceRecord, row: &Row) -> Result<RowOutcome> {
        let key = &record.key;
        let DeviceRecord { device, .. } = record;
        let stored = self
            .registrar
            .seeds
            .read(key, &device.seed_ref, device.sealed.as_ref())
            .await;
        let stored = stored.with_context(|| format!("cannot compare the seed of the device {}", name_of(key)))?;
        let remedy = format!(
            "to give it the seed of the file, remove it with `mfactl device remove {options}` and import again; to give it a \
             new one, `mfactl device register --replace {options}`",
            options = options_for(key)
        );
        let problem = match &stored {
            None => {
                return Ok(RowOutcome::Refused(anyhow!(
                    "the device {} is already active, and its secret does not exist: `{}` says what to do",
                    name_of(key),
                    check_command(key)
                )));
            }
            Some(stored) if !bool::from(stored.to_base32().as_bytes().ct_eq(row.seed.to_base32().as_bytes())) => {
                "is already active with another seed"
            }
            Some(stored) if [record.device.parameters, stored.parameters()] != [row.parameters(); 2] => {
                "is already active with the same seed and another algorithm, number of digits or period"
            }
            Some(_) => return Ok(RowOutcome::AlreadyImported),
        };
        Ok(RowOutcome::Refused(anyhow!(
            "the device {} {problem}: {remedy}",
            name_of(key)
        )))
    }
}

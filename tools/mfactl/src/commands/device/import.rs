//! `import`: the devices of a file, one after the other, at a pace that the stores can take.
//!
//! Can be repeated: devices that already have the seed of their row are skipped, so the next run finishes what an interrupted
//! one began, and there is no other state to keep. A device that waits for its first code gets the seed of its row; any other
//! device is never changed.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use shared::clock::Clock;
use shared::device::{DeviceRecord, Status};
use shared::error::StoreError;
use shared::names::{DeviceKey, Owner};
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;
use subtle::ConstantTimeEq as _;

use super::admin::{DeviceAdmin, Terms, disabled};
use super::describe::check_command;
use crate::commands::pace::{Delay, Pace};
use crate::commands::text::{name_of, options_for};
use crate::formats::import_file::{self, ImportFile, ImportOptions, Row};
use crate::terminal::Terminal;

/// Waits before a row that was throttled is tried again.
const BACKOFF_SECONDS: [u64; 6] = [1, 2, 4, 8, 16, 30];
/// Rows that the store may fail one after the other; then the rows are not the reason.
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
}

enum RowOutcome {
    Imported,
    /// In place of a seed that waited for its first code.
    TookOver,
    AlreadyImported,
    /// The device stays as it is. Says nothing about the store.
    Refused(anyhow::Error),
}

#[derive(Default)]
struct Counts {
    imported: usize,
    existing: usize,
    failed: usize,
}

/// What all rows of an import share.
struct ImportState<'a, W> {
    dry_run: bool,
    pace: Pace,
    delay: &'a W,
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
        let all = rows.len();
        let mut state = ImportState {
            dry_run: request.dry_run,
            pace: Pace::default(),
            delay,
        };
        let (mut counts, mut consecutive_failures) = (Counts::default(), 0);
        for (done, row) in rows.into_iter().enumerate() {
            self.terminal.progress(done, all)?;
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    counts.failed += 1;
                    self.terminal.say(&error.to_string())?;
                    continue;
                }
            };
            let key = DeviceKey {
                owner: request.owner.clone(),
                user: row.user.clone(),
                device: row.device.clone(),
            };
            let outcome = self.import_row(&key, &row, &mut state).await;
            self.report(&row, &outcome, request.dry_run)?;
            consecutive_failures = if outcome.is_err() { consecutive_failures + 1 } else { 0 };
            match outcome {
                Ok(RowOutcome::Imported | RowOutcome::TookOver) => counts.imported += 1,
                Ok(RowOutcome::AlreadyImported) => counts.existing += 1,
                Ok(RowOutcome::Refused(_)) | Err(_) => counts.failed += 1,
            }
            if consecutive_failures == MOST_FAILURES {
                bail!(
                    "Stopping after {MOST_FAILURES} consecutive failures: the store is probably unavailable. {} of {all} rows \
                     not attempted; run again, devices already imported are skipped",
                    all - done - 1
                );
            }
        }
        self.terminal.progress(all, all)?;
        let verb = if request.dry_run {
            "would be imported"
        } else {
            "imported"
        };
        let Counts {
            imported,
            existing,
            failed,
        } = counts;
        let summary = format!("{imported} {verb}, {existing} already imported, {failed} failed, of {all} rows.");
        self.terminal.say(&summary)?;
        if failed > 0 {
            bail!("{failed} of {all} rows failed: fix them and run again; devices already imported are skipped");
        }
        Ok(())
    }

    fn report(&mut self, row: &Row, outcome: &Result<RowOutcome>, dry_run: bool) -> Result<()> {
        let imported = if dry_run { "would be imported" } else { "imported" };
        let text = match outcome {
            Ok(RowOutcome::Imported) => imported.to_owned(),
            Ok(RowOutcome::TookOver) => format!("{imported} over a registration that was not finished"),
            Ok(RowOutcome::AlreadyImported) => "already imported, skipped".to_owned(),
            Ok(RowOutcome::Refused(error)) | Err(error) => format!("failed: {error:#}"),
        };
        let weak = if row.is_weak() { " (weak seed)" } else { "" };
        let notes = row.notes.iter().map(|note| format!(". {}", note.trim_end_matches('.')));
        Ok(self.terminal.say(&format!(
            "row {} ({}): {} / {}{weak}: {text}{}",
            row.number,
            row.place,
            row.user.as_str(),
            row.device.as_str(),
            notes.collect::<String>()
        ))?)
    }

    /// Tries a row until the stores accept it, or fail it for another reason than throttling.
    async fn import_row<W: Delay>(
        &mut self,
        key: &DeviceKey,
        row: &Row,
        state: &mut ImportState<'_, W>,
    ) -> Result<RowOutcome> {
        let mut waits = BACKOFF_SECONDS.into_iter().map(Duration::from_secs);
        loop {
            let error = match self.try_row(key, row, state).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            let throttled = error
                .chain()
                .any(|cause| cause.downcast_ref().is_some_and(StoreError::is_throttled));
            match waits.next().filter(|_| throttled) {
                Some(wait) => state.delay.wait(wait).await,
                None => return Err(error),
            }
        }
    }

    async fn try_row<W: Delay>(
        &mut self,
        key: &DeviceKey,
        row: &Row,
        state: &mut ImportState<'_, W>,
    ) -> Result<RowOutcome> {
        let unfinished = match self.find(key).await? {
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
        if state.dry_run {
            return Ok(outcome);
        }
        state.pace.keep(&self.clock, state.delay).await;
        self.store(key, unfinished, &row.seed, &TERMS).await?;
        Ok(outcome)
    }

    /// Whether an active device already has the seed of its row.
    async fn compare(&self, record: &DeviceRecord, row: &Row) -> Result<RowOutcome> {
        let key = &record.key;
        let DeviceRecord { device, .. } = record;
        let stored = self.seeds.read(key, &device.seed_ref, device.sealed.as_ref()).await;
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

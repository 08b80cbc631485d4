//! `import`: the devices of a file, one after the other, at a pace that the stores can take.
//!
//! Can be repeated: existing devices are skipped, so the next run finishes what an interrupted one began, and there is no
//! other state to keep.

use std::time::Duration;

use anyhow::{Result, bail};
use shared::clock::Clock;
use shared::device::Status;
use shared::error::StoreError;
use shared::names::{ClientId, DeviceKey};
use shared::ports::{DeviceRegistry, Random, SeedRegistry};

use super::admin::DeviceAdmin;
use super::describe::check_command;
use crate::commands::pace::{Delay, Pace};
use crate::formats::import_file::{self, ImportOptions, Row};
use crate::terminal::Terminal;

/// Waits before a row that was throttled is tried again.
const BACKOFF_SECONDS: [u64; 6] = [1, 2, 4, 8, 16, 30];
/// Rows that the store may fail one after the other; then the rows are not the reason.
const MOST_FAILURES: usize = 5;

/// What `import` was asked for.
#[derive(Debug)]
pub struct ImportRequest<'a> {
    /// The client that the devices belong to.
    pub client: ClientId,
    pub options: ImportOptions<'a>,
    /// Whether to report only.
    pub dry_run: bool,
}

enum RowOutcome {
    Imported,
    AlreadyExists,
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

impl<D: DeviceRegistry, S: SeedRegistry, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Imports a file and reports every row.
    ///
    /// # Errors
    /// If the file cannot be read, or if a row failed; the others are imported.
    pub async fn import(&mut self, file: &[u8], request: &ImportRequest<'_>, delay: &impl Delay) -> Result<()> {
        let rows = import_file::read(file, &request.options)?;
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
                client: request.client.clone(),
                user: row.user.clone(),
                device: row.device.clone(),
            };
            let outcome = self.import_row(&key, &row, &mut state).await;
            self.report(&row, &key, &outcome, request.dry_run)?;
            consecutive_failures = if outcome.is_err() { consecutive_failures + 1 } else { 0 };
            match outcome {
                Ok(RowOutcome::Imported) => counts.imported += 1,
                Ok(RowOutcome::AlreadyExists) => counts.existing += 1,
                Err(_) => counts.failed += 1,
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
        let summary = format!("{imported} {verb}, {existing} already exist, {failed} failed, of {all} rows.");
        self.terminal.say(&summary)?;
        if failed > 0 {
            bail!("{failed} of {all} rows failed: fix them in the file and run again; existing devices are skipped");
        }
        Ok(())
    }

    fn report(&mut self, row: &Row, key: &DeviceKey, outcome: &Result<RowOutcome>, dry_run: bool) -> Result<()> {
        let text = match outcome {
            Ok(RowOutcome::Imported) if dry_run => "would be imported".to_owned(),
            Ok(RowOutcome::Imported) => "imported".to_owned(),
            Ok(RowOutcome::AlreadyExists) => {
                format!(
                    "already exists, skipped; `{} --seed-file FILE` compares the seeds",
                    check_command(key)
                )
            }
            Err(error) => format!("failed: {error:#}"),
        };
        let weak = if row.is_weak() { " (weak seed)" } else { "" };
        Ok(self.terminal.say(&format!(
            "row {} ({}): {} / {}{weak}: {text}",
            row.number,
            row.place,
            row.user.as_str(),
            row.device.as_str()
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
        if self.find(key).await?.is_some() {
            return Ok(RowOutcome::AlreadyExists);
        }
        if state.dry_run {
            return Ok(RowOutcome::Imported);
        }
        state.pace.keep(&self.clock, state.delay).await;
        let stored = self.store_new(key, &row.seed, Status::Active).await?;
        Ok(if stored.is_some() {
            RowOutcome::Imported
        } else {
            RowOutcome::AlreadyExists
        })
    }
}

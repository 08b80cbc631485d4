//! `import`: the devices of a file, one after the other, at a pace that the stores take.
//!
//! Repeatable: what is there is skipped, so a run that was cut short is finished by the next one, and there is no other
//! state to keep.

use std::time::Duration;

use anyhow::{Result, bail};
use shared::clock::{Clock, Timestamp};
use shared::device::Status;
use shared::error::StoreError;
use shared::names::{ClientId, DeviceKey};
use shared::ports::{DeviceRegistry, Random, SeedRegistry};

use super::Desk;
use super::look::check_command;
use crate::import::{self, ImportOptions, Row};
use crate::terminal::Terminal;

/// Secrets that are written in a second at most: Secrets Manager takes 50 in an account and region.
const A_SECOND: u32 = 40;
/// Waits before a row that was throttled is tried again.
const BACK_OFF_SECONDS: [u64; 6] = [1, 2, 4, 8, 16, 30];
/// Rows in a row that a store fails; then it is no matter of rows.
const MOST_FAILURES: usize = 5;

/// Waits.
pub trait Patience {
    /// Lets time pass.
    fn pause(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// How a file is imported.
#[derive(Debug)]
pub struct Importing<'a> {
    /// Whose devices they are.
    pub client: ClientId,
    /// How it is read.
    pub options: ImportOptions<'a>,
    /// Whether nothing is written.
    pub dry_run: bool,
}

/// What became of a row.
enum Became {
    Imported,
    ThereAlready,
}

#[derive(Default)]
struct Counts {
    imported: usize,
    there: usize,
    failed: usize,
}

impl<D: DeviceRegistry, S: SeedRegistry, C: Clock, R: Random, T: Terminal> Desk<D, S, C, R, T> {
    /// Imports a file; every row is reported.
    ///
    /// # Errors
    /// If the file cannot be read, or a row of it failed. The others are imported then.
    pub async fn import(&mut self, file: &[u8], what: &Importing<'_>, patience: &impl Patience) -> Result<()> {
        let rows = import::read(file, &what.options)?;
        let all = rows.len();
        let (mut counts, mut pace, mut failures) = (Counts::default(), Pace::default(), 0);
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
                client: what.client.clone(),
                user: row.user.clone(),
                device: row.device.clone(),
            };
            let outcome = self.import_row(&key, &row, what.dry_run, &mut pace, patience).await;
            let text = match &outcome {
                Ok(Became::Imported) if what.dry_run => "would be imported".to_owned(),
                Ok(Became::Imported) => "imported".to_owned(),
                Ok(Became::ThereAlready) => {
                    format!("is there already, skipped; `{}` compares seeds", check_command(&key))
                }
                Err(error) => format!("failed: {error:#}"),
            };
            let weak = if row.is_weak() { " (a weak seed)" } else { "" };
            self.terminal.say(&format!(
                "row {} ({}): {} / {}{weak}: {text}",
                row.number,
                row.place,
                row.user.as_str(),
                row.device.as_str()
            ))?;
            failures = if outcome.is_err() { failures + 1 } else { 0 };
            match outcome {
                Ok(Became::Imported) => counts.imported += 1,
                Ok(Became::ThereAlready) => counts.there += 1,
                Err(_) => counts.failed += 1,
            }
            if failures == MOST_FAILURES {
                bail!(
                    "{MOST_FAILURES} rows in a row failed, so this is no matter of rows: {} of {all} rows were not tried. Run it \
                     again when the stores can be reached; what is there is skipped",
                    all - done - 1
                );
            }
        }
        self.terminal.progress(all, all)?;
        let verb = if what.dry_run { "would be imported" } else { "imported" };
        let Counts {
            imported,
            there,
            failed,
        } = counts;
        let summary = format!("{imported} {verb}, {there} there already, {failed} failed, of {all} rows.");
        self.terminal.say(&summary)?;
        if failed > 0 {
            bail!("{failed} of {all} rows failed: mend them in the file and run it again; what is there is skipped");
        }
        Ok(())
    }

    /// Tries a row until the stores take it, or fail it for another reason than its pace.
    async fn import_row(
        &mut self,
        key: &DeviceKey,
        row: &Row,
        dry_run: bool,
        pace: &mut Pace,
        patience: &impl Patience,
    ) -> Result<Became> {
        let mut waits = BACK_OFF_SECONDS.into_iter().map(Duration::from_secs);
        loop {
            let error = match self.try_row(key, row, dry_run, pace, patience).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            let throttled = error
                .chain()
                .any(|cause| cause.downcast_ref().is_some_and(StoreError::is_throttled));
            match waits.next().filter(|_| throttled) {
                Some(wait) => patience.pause(wait).await,
                None => return Err(error),
            }
        }
    }

    async fn try_row(
        &mut self,
        key: &DeviceKey,
        row: &Row,
        dry_run: bool,
        pace: &mut Pace,
        patience: &impl Patience,
    ) -> Result<Became> {
        if self.record(key).await?.is_some() {
            return Ok(Became::ThereAlready);
        }
        if dry_run {
            return Ok(Became::Imported);
        }
        pace.keep(&self.clock, patience).await;
        let stored = self.store_new(key, &row.seed, Status::Active).await?;
        Ok(if stored.is_some() {
            Became::Imported
        } else {
            Became::ThereAlready
        })
    }
}

/// When the next secret may be written.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: Timestamp,
}

impl Pace {
    pub(super) async fn keep(&mut self, clock: &impl Clock, patience: &impl Patience) {
        let now = clock.now();
        if self.next > now {
            let wait = self.next.as_millis() - now.as_millis();
            // A clock that was set back is no reason to wait for long.
            patience
                .pause(Duration::from_millis(wait).min(Duration::from_secs(1)))
                .await;
        }
        self.next = self.next.max(now).plus(Duration::from_secs(1) / A_SECOND);
    }
}

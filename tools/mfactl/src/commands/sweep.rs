//! Goes through the whole table of devices, several devices at a time, and counts what became of them.
//!
//! What has begun with a device is never given up: a stop only keeps others from beginning.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::stream::{self, StreamExt as _};
use shared::clock::Clock;
use shared::device::DeviceRecord;
use shared::error::StoreError;
use shared::names::DeviceKey;
use shared::ports::operator::{DeviceFilter, DeviceInventory};

use super::device::name_unreadable;
use super::pace::{Delay, Pace, backoff};
use super::text::{count, name_of};
use crate::terminal::Terminal;

/// Devices that are changed at the same time.
const PARALLEL: usize = 8;
/// Consecutive devices that the store may fail; then the devices are not the reason.
const MOST_FAILURES: usize = 5;
/// How often a device is read again while others write it.
const MOST_TRIES: usize = 5;

/// What became of a device.
#[derive(Debug)]
pub(super) enum Swept {
    Changed,
    /// There was nothing to change.
    Unchanged,
    /// It was removed concurrently.
    Gone,
    /// It stays as it is for now: why, and what to do.
    Skipped(String),
    /// It cannot be changed: its seed is missing, or does not open.
    Broken(String),
    /// The store failed, or others wrote the device too often.
    Failed(String),
    /// Nothing else may be changed either.
    Stop(anyhow::Error),
    NotAttempted,
}

/// What became of all devices.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) changed: usize,
    pub(super) unchanged: usize,
    pub(super) gone: usize,
    pub(super) skipped: usize,
    pub(super) broken: usize,
    pub(super) failed: usize,
    /// How often a device was read again since others wrote it first.
    pub(super) again: usize,
    /// Whether a secret was left behind; the notes name it.
    pub(super) left_behind: bool,
}

impl Counts {
    pub(super) const fn unfinished(&self) -> usize {
        self.skipped + self.broken + self.failed
    }
}

/// One device, and what else is to be said of it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) swept: Swept,
    /// How often it was read again since others wrote it first.
    pub(super) again: usize,
    /// What to say of secrets that were left behind.
    pub(super) left: Vec<String>,
}

impl From<Swept> for Report {
    fn from(swept: Swept) -> Self {
        Self {
            swept,
            again: 0,
            left: Vec::new(),
        }
    }
}

/// Calls `work` for every device. `all` is how many there are about.
///
/// # Errors
/// If the table cannot be read, or if the sweep was stopped; the counts are said before.
pub(super) async fn sweep<W: Future<Output = Report>>(
    devices: &impl DeviceInventory,
    clock: &impl Clock,
    terminal: &mut impl Terminal,
    (page, all): (u16, usize),
    work: impl Fn(DeviceRecord) -> W,
) -> Result<Counts> {
    let (mut counts, mut done, mut consecutive_failures, mut after) = (Counts::default(), 0, 0, None);
    let start = clock.now().as_millis();
    let stopped = Cell::new(false);
    loop {
        let read = devices.page(&DeviceFilter::All, after.as_ref(), page).await;
        let read = read.with_context(|| {
            let changed = count(counts.changed, "device");
            format!("cannot read the table of devices; {changed} changed, perhaps not all: run it again")
        })?;
        let (stopped, work) = (&stopped, &work);
        let begin = async |record| match record {
            _ if stopped.get() => Report::from(Swept::NotAttempted),
            Ok(record) => work(record).await,
            Err(error) => Swept::Broken(name_unreadable(&error)).into(),
        };
        let mut reports = stream::iter(read.records).map(begin).buffered(PARALLEL);
        let mut outcome = Ok(());
        while let Some(Report { swept, again, left }) = reports.next().await {
            done += 1;
            counts.again += again;
            counts.left_behind |= !left.is_empty();
            consecutive_failures = match &swept {
                Swept::Failed(_) => consecutive_failures + 1,
                _ => 0,
            };
            let (counted, note) = match swept {
                Swept::Changed => (Some(&mut counts.changed), None),
                Swept::Unchanged => (Some(&mut counts.unchanged), None),
                Swept::Gone => (Some(&mut counts.gone), None),
                Swept::Skipped(why) => (Some(&mut counts.skipped), Some(why)),
                Swept::Broken(why) => (Some(&mut counts.broken), Some(why)),
                Swept::Failed(why) => (Some(&mut counts.failed), Some(why)),
                Swept::NotAttempted => (None, None),
                Swept::Stop(error) => {
                    outcome = outcome.and(Err(error));
                    (None, None)
                }
            };
            if let Some(counted) = counted {
                *counted += 1;
            }
            if outcome.is_ok() && consecutive_failures == MOST_FAILURES {
                outcome = Err(anyhow::anyhow!(
                    "stopping after {MOST_FAILURES} consecutive failures: the store is probably unavailable. {} changed, not all: \
                     run it again",
                    count(counts.changed, "device")
                ));
            }
            let mut notes = note.map(|why| format!("Not changed: {why}.")).into_iter().chain(left);
            let said = notes.try_for_each(|note| terminal.note(&note));
            let said = said.and_then(|()| {
                let elapsed = Duration::from_millis(clock.now().as_millis().saturating_sub(start));
                terminal.progress(done, all.max(done), elapsed)
            });
            outcome = outcome.and(said.map_err(Into::into));
            stopped.set(outcome.is_err());
        }
        drop(reports);
        outcome?;
        match read.next {
            Some(next) => after = Some(next),
            None => return Ok(counts),
        }
    }
}

/// Fails if devices were left out.
pub(super) fn require_finished(counts: &Counts) -> Result<()> {
    if counts.unfinished() > 0 {
        bail!(
            "{} not changed: follow the notes above and run it again; what is done is skipped",
            count(counts.unfinished(), "device")
        );
    }
    Ok(())
}

/// What the work on all devices shares.
#[derive(Debug)]
pub(super) struct Shared<'a, D, C, W> {
    pub(super) devices: &'a D,
    pub(super) clock: &'a C,
    pub(super) delay: &'a W,
    pub(super) pace: Pace,
}

impl<D: DeviceInventory, C: Clock, W: Delay> Shared<'_, D, C, W> {
    /// Makes a call again as long as the store asks for a slower pace; then all calls pause.
    pub(super) async fn call<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let mut waits = backoff();
        loop {
            self.pace.resume(self.clock, self.delay).await;
            match call().await {
                Err(error) if error.is_throttled() => match waits.next() {
                    Some(wait) => self.pace.pause(self.clock, wait),
                    None => return Err(error),
                },
                answer => return answer,
            }
        }
    }

    pub(super) async fn read_again(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        self.call(|| self.devices.record(key)).await
    }

    /// Tries a device, and again as long as others write it first, which is `None`. Returns how often that was, too.
    pub(super) async fn until_undisturbed(
        &self,
        mut record: DeviceRecord,
        mut try_device: impl AsyncFnMut(&DeviceRecord) -> Option<Swept>,
    ) -> (Swept, usize) {
        for again in 0..MOST_TRIES {
            if let Some(swept) = try_device(&record).await {
                return (swept, again);
            }
            record = match self.read_again(&record.key).await {
                Ok(Some(stored)) => stored,
                Ok(None) => return (Swept::Gone, again + 1),
                Err(error) => return (failed(&record.key, &error), again + 1),
            };
        }
        let name = name_of(&record.key);
        let swept = Swept::Failed(format!("the device {name} was changed by others {MOST_TRIES} times"));
        (swept, MOST_TRIES)
    }
}

/// The store failed with a device.
pub(super) fn failed(key: &DeviceKey, error: &StoreError) -> Swept {
    let error = shared::error::chain(error);
    Swept::Failed(format!("the device {}: {error}", name_of(key)))
}

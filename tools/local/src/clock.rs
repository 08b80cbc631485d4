//! The clock that everything in a stack reads: the machine's, moved by an offset, or one that stands still.
//!
//! Tests move it instead of waiting. A data directory keeps the offset across restarts.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::clock::{Clock, SystemClock, Timestamp};

use crate::files::DataDir;

const FILE: &str = "clock-offset-millis";

/// A clock that can be moved.
#[derive(Debug)]
pub struct LocalClock {
    base: Base,
    offset_millis: AtomicI64,
    data_dir: Option<Arc<DataDir>>,
    moving: Mutex<()>,
}

#[derive(Debug)]
enum Base {
    Machine,
    Still(Timestamp),
}

impl LocalClock {
    fn new(base: Base) -> Self {
        Self {
            base,
            offset_millis: AtomicI64::new(0),
            data_dir: None,
            moving: Mutex::new(()),
        }
    }

    /// The machine's clock, at first without an offset.
    #[must_use]
    pub fn running() -> Self {
        Self::new(Base::Machine)
    }

    /// A clock that moves only when it is told to.
    #[must_use]
    pub fn still(at: Timestamp) -> Self {
        Self::new(Base::Still(at))
    }

    /// The machine's clock with the offset in a data directory, which keeps it.
    ///
    /// # Errors
    /// If the offset cannot be read.
    pub fn kept_in(data_dir: &Arc<DataDir>) -> Result<Self> {
        let offset = match data_dir.read(FILE)? {
            Some(text) => text.trim().parse().with_context(|| format!("{FILE} is not a number"))?,
            None => 0,
        };
        Ok(Self {
            offset_millis: AtomicI64::new(offset),
            data_dir: Some(Arc::clone(data_dir)),
            ..Self::new(Base::Machine)
        })
    }

    /// Moves the clock into the future.
    ///
    /// # Errors
    /// If the offset cannot be written.
    pub fn advance(&self, by: Duration) -> Result<()> {
        self.shift(i64::try_from(by.as_millis())?)
    }

    /// Moves the clock into the past.
    ///
    /// # Errors
    /// If the offset cannot be written.
    pub fn step_back(&self, by: Duration) -> Result<()> {
        self.shift(-i64::try_from(by.as_millis())?)
    }

    /// Moves the clock by seconds, forwards or backwards.
    ///
    /// # Errors
    /// If the offset cannot be written.
    pub fn advance_seconds(&self, seconds: i64) -> Result<()> {
        self.shift(seconds.checked_mul(1_000).context("too many seconds")?)
    }

    /// The offset in seconds, rounded towards zero.
    #[must_use]
    pub fn offset_seconds(&self) -> i64 {
        self.offset_millis.load(Ordering::SeqCst) / 1_000
    }

    fn shift(&self, millis: i64) -> Result<()> {
        // Two concurrent moves must not leave the smaller offset in the file.
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = self
            .offset_millis
            .load(Ordering::SeqCst)
            .checked_add(millis)
            .context("too many seconds")?;
        if let Some(data_dir) = &self.data_dir {
            data_dir.write(FILE, offset.to_string().as_bytes())?;
        }
        self.offset_millis.store(offset, Ordering::SeqCst);
        Ok(())
    }
}

impl Clock for LocalClock {
    fn now(&self) -> Timestamp {
        let base = match self.base {
            Base::Machine => SystemClock.now(),
            Base::Still(at) => at,
        };
        let offset = self.offset_millis.load(Ordering::SeqCst);
        let distance = Duration::from_millis(offset.unsigned_abs());
        if offset < 0 {
            base.minus(distance)
        } else {
            base.plus(distance)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_still_clock_moves_only_when_it_is_told_to() -> Result<()> {
        let clock = LocalClock::still(Timestamp::from_secs(1_000));
        assert_eq!(clock.now(), Timestamp::from_secs(1_000));
        clock.advance(Duration::from_mins(1))?;
        assert_eq!((clock.now(), clock.offset_seconds()), (Timestamp::from_secs(1_060), 60));
        clock.advance_seconds(-90)?;
        assert_eq!((clock.now(), clock.offset_seconds()), (Timestamp::from_secs(970), -30));
        clock.step_back(Duration::from_secs(5_000))?;
        assert_eq!(clock.now(), Timestamp::EPOCH);
        Ok(())
    }

    #[test]
    fn the_offset_is_kept_across_restarts() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let data_dir = DataDir::open(folder.path())?;
        LocalClock::kept_in(&data_dir)?.advance_seconds(-7)?;
        assert_eq!(LocalClock::kept_in(&data_dir)?.offset_seconds(), -7);
        Ok(())
    }

    #[test]
    fn a_move_that_overflows_is_refused() {
        assert!(LocalClock::running().advance_seconds(i64::MAX).is_err());
    }
}

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
/// The last millisecond of the year 9999, where RFC 3339 ends.
const LATEST_MILLIS: i64 = 253_402_300_799_999;

/// The clock would leave the years that can be written in RFC 3339 and as a Unix time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the clock cannot be moved before the year 1970 or beyond the year 9999")]
pub(crate) struct OutOfRange;

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
    /// If it would leave the years 1970 to 9999, or if the offset cannot be written.
    pub fn advance(&self, by: Duration) -> Result<()> {
        self.shift(i64::try_from(by.as_millis()).map_err(|_| OutOfRange)?)
    }

    /// Moves the clock into the past.
    ///
    /// # Errors
    /// If it would leave the years 1970 to 9999, or if the offset cannot be written.
    pub fn step_back(&self, by: Duration) -> Result<()> {
        self.shift(-i64::try_from(by.as_millis()).map_err(|_| OutOfRange)?)
    }

    /// Moves the clock by seconds, forwards or backwards.
    ///
    /// # Errors
    /// If it would leave the years 1970 to 9999, or if the offset cannot be written.
    pub fn advance_seconds(&self, seconds: i64) -> Result<()> {
        self.shift(seconds.checked_mul(1_000).ok_or(OutOfRange)?)
    }

    /// The offset in seconds, rounded towards zero.
    #[must_use]
    pub fn offset_seconds(&self) -> i64 {
        self.offset_millis.load(Ordering::SeqCst) / 1_000
    }

    /// Whether the clock shows a year from 1970 to 9999 with an offset.
    fn is_in_range(&self, offset_millis: i64) -> bool {
        let base = i64::try_from(self.base().as_millis()).ok();
        let moved = base.and_then(|base| base.checked_add(offset_millis));
        moved.is_some_and(|moved| (0..=LATEST_MILLIS).contains(&moved))
    }

    fn base(&self) -> Timestamp {
        match self.base {
            Base::Machine => SystemClock.now(),
            Base::Still(at) => at,
        }
    }

    fn shift(&self, millis: i64) -> Result<()> {
        // Two concurrent moves must not leave the smaller offset in the file.
        let _moving = self.moving.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = self.offset_millis.load(Ordering::SeqCst).checked_add(millis);
        let offset = offset.filter(|offset| self.is_in_range(*offset)).ok_or(OutOfRange)?;
        if let Some(data_dir) = &self.data_dir {
            data_dir.write(FILE, offset.to_string().as_bytes())?;
        }
        self.offset_millis.store(offset, Ordering::SeqCst);
        Ok(())
    }
}

impl Clock for LocalClock {
    fn now(&self) -> Timestamp {
        let (base, offset) = (self.base(), self.offset_millis.load(Ordering::SeqCst));
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
        clock.step_back(Duration::from_secs(970))?;
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
    fn a_move_out_of_the_years_1970_to_9999_is_refused_and_changes_nothing() -> Result<()> {
        let to_the_end = 253_402_300_799;
        let clock = LocalClock::still(Timestamp::from_millis(1_000_999));
        for seconds in [
            -1_001,
            to_the_end - 999,
            i64::MAX / 1_000,
            i64::MIN / 1_000,
            i64::MAX,
            i64::MIN,
        ] {
            let refused = clock.advance_seconds(seconds).err();
            let refused = refused.and_then(|error| error.downcast_ref().copied());
            assert_eq!((refused, clock.offset_seconds()), (Some(OutOfRange), 0), "{seconds}");
        }
        for huge in [Duration::MAX, Duration::from_millis(i64::MAX.unsigned_abs())] {
            assert!(clock.advance(huge).is_err() && clock.step_back(huge).is_err());
        }
        clock.advance_seconds(to_the_end - 1_000)?;
        assert_eq!(clock.now().rfc3339_millis(), "9999-12-31T23:59:59.999Z");
        clock.advance_seconds(-to_the_end)?;
        assert_eq!(clock.now().as_millis(), 999);
        Ok(())
    }
}

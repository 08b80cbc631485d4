//! A clock that stands still until it is moved.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};

/// A clock that only a test moves. Share it as an `Arc`.
#[derive(Debug)]
pub struct ManualClock {
    millis: AtomicU64,
    reads: AtomicUsize,
}

impl ManualClock {
    /// A clock that stands at a time.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self {
            millis: AtomicU64::new(now.as_millis()),
            reads: AtomicUsize::new(0),
        }
    }

    /// Moves it forward.
    pub fn advance(&self, duration: Duration) {
        self.set(self.time().plus(duration));
    }

    /// Moves it to a time, which may be in the past: real clocks are set back too.
    pub fn set(&self, now: Timestamp) {
        self.millis.store(now.as_millis(), Ordering::SeqCst);
    }

    /// How often it was read through [`Clock`]. A request that reads it twice may see it step in between.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.millis.load(Ordering::SeqCst))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.time()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_clock_moves_only_by_hand_and_counts_who_looks() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(100)));
        assert_eq!(
            (clock.now(), clock.now()),
            (Timestamp::from_secs(100), Timestamp::from_secs(100))
        );
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(clock.now(), Timestamp::from_millis(101_500));
        clock.set(Timestamp::from_secs(7));
        assert_eq!(clock.now(), Timestamp::from_secs(7));
        assert_eq!(clock.reads(), 4);
    }
}

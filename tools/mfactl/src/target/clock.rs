//! The clock that codes are made by: this machine's, or the local stack's, which can be moved.

use std::time::Duration;

use shared::clock::{Clock, SystemClock, Timestamp};

/// This machine's clock, with an offset.
#[derive(Debug, Clone, Copy, Default)]
pub struct StackClock {
    ahead: Duration,
    behind: Duration,
}

impl StackClock {
    /// This machine's clock, moved by so many seconds.
    #[must_use]
    pub fn offset_by(seconds: i64) -> Self {
        let offset = Duration::from_secs(seconds.unsigned_abs());
        let (ahead, behind) = if seconds < 0 {
            (Duration::ZERO, offset)
        } else {
            (offset, Duration::ZERO)
        };
        Self { ahead, behind }
    }
}

impl Clock for StackClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(self.ahead).minus(self.behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_moved_in_both_directions() {
        for seconds in [0, 90_000, -90_000] {
            let before = SystemClock.now();
            let now = StackClock::offset_by(seconds).now();
            let after = SystemClock.now();
            let moved = |time: Timestamp| time.as_millis().saturating_add_signed(seconds * 1_000);
            assert!((moved(before)..=moved(after)).contains(&now.as_millis()), "{seconds}");
        }
    }
}

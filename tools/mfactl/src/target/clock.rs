//! The clock of the deployment: the store's on AWS, and the local stack's, which can be moved. Never this machine's alone: a
//! laptop that is a day ahead would close a device for a day.

use std::time::Duration;

use shared::clock::{Clock, SystemClock, Timestamp};

use crate::ports::stack::ClockOffset;

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

    /// The store's clock, given how far this machine's clock is from it.
    #[must_use]
    pub fn of_store(machine: ClockOffset) -> Self {
        let (ahead, behind) = match machine {
            ClockOffset::Unmeasurable => (0, 0),
            ClockOffset::Behind(millis) => (millis, 0),
            ClockOffset::Ahead(millis) => (0, millis),
        };
        Self {
            ahead: Duration::from_millis(ahead),
            behind: Duration::from_millis(behind),
        }
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
    fn the_stores_time_replaces_that_of_a_machine_which_is_ahead_or_behind() {
        let day = 86_400_000;
        for (machine, moved) in [
            (ClockOffset::Ahead(day), -86_400_000),
            (ClockOffset::Behind(day), 86_400_000),
            (ClockOffset::Unmeasurable, 0),
        ] {
            let before = SystemClock.now();
            let now = StackClock::of_store(machine).now();
            let after = SystemClock.now();
            let store = |time: Timestamp| time.as_millis().saturating_add_signed(moved);
            assert!((store(before)..=store(after)).contains(&now.as_millis()), "{machine:?}");
        }
    }

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

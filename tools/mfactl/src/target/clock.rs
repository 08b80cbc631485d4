//! The clock of the deployment: the store's, which can be moved on the local stack. Never this machine's alone: a laptop that is a
//! day ahead would close a device for a day.

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

    /// How far it is ahead of this machine's clock, in seconds, rounded away from zero: an answer of the store tells at least how
    /// far.
    pub(super) fn offset_seconds(self) -> i64 {
        let seconds = |duration: Duration| i64::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX);
        seconds(self.ahead) - seconds(self.behind)
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
            (ClockOffset::Ahead(day), -86_400_000_i64),
            (ClockOffset::Behind(day), 86_400_000),
            (ClockOffset::Behind(day - 999), 86_399_001),
            (ClockOffset::Unmeasurable, 0),
        ] {
            let clock = StackClock::of_store(machine);
            assert_eq!(clock.offset_seconds(), (moved + moved.signum() * 999) / 1_000);
            let before = SystemClock.now();
            let now = clock.now();
            let after = SystemClock.now();
            let store = |time: Timestamp| time.as_millis().saturating_add_signed(moved);
            assert!((store(before)..=store(after)).contains(&now.as_millis()), "{machine:?}");
        }
    }
}

//! Points in time, and the only read of the wall clock.
//!
//! Everything below a `main` takes `now` as an argument or a [`Clock`]; the linter forbids other reads.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time: milliseconds since the Unix epoch, UTC, without leap seconds. Arithmetic saturates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch: a gate that is set to it is open.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// From seconds since the Unix epoch.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000
    }

    /// This point moved into the future.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This point moved into the past, at most to the epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// RFC 3339, UTC, whole seconds, rounded down. After the year 9999, where the format ends, it is the epoch.
    #[must_use]
    pub fn rfc3339(self) -> String {
        i64::try_from(self.as_secs())
            .ok()
            .and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
            .format(&Rfc3339)
            .unwrap_or_default()
    }

    /// RFC 3339, UTC, always with three digits of milliseconds, so that log lines sort as text.
    #[must_use]
    pub fn rfc3339_millis(self) -> String {
        format!(
            "{}.{:03}Z",
            self.rfc3339().trim_end_matches('Z'),
            self.as_millis() % 1_000
        )
    }

    /// Whole seconds from `now` to this point, rounded up; 0 if it has passed. What `Retry-After` carries.
    #[must_use]
    pub const fn seconds_from(self, now: Self) -> u64 {
        self.0.saturating_sub(now.0).div_ceil(1_000)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the only wall-clock read of the service")]
    fn now(&self) -> Timestamp {
        since_epoch(SystemTime::now())
    }
}

/// A clock before 1970 reads as 1970: every stored step is later, so every code is refused.
fn since_epoch(time: SystemTime) -> Timestamp {
    Timestamp(millis(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_never_negative() {
        let now = Timestamp::from_millis(10_500);
        assert_eq!(Timestamp::from_millis(10_501).seconds_from(now), 1);
        assert_eq!(Timestamp::from_millis(12_500).seconds_from(now), 2);
        assert_eq!(Timestamp::from_millis(12_501).seconds_from(now), 3);
        assert_eq!(Timestamp::from_millis(10_500).seconds_from(now), 0);
        assert_eq!(Timestamp::EPOCH.seconds_from(now), 0);
    }

    #[test]
    fn a_clock_before_1970_reads_as_1970() {
        for before in [
            Duration::from_nanos(1),
            Duration::from_secs(1),
            Duration::from_hours(24),
        ] {
            assert_eq!(since_epoch(UNIX_EPOCH - before), Timestamp::EPOCH);
        }
        assert_eq!(since_epoch(UNIX_EPOCH), Timestamp::EPOCH);
        assert_eq!(since_epoch(UNIX_EPOCH + Duration::from_micros(1_999)).as_millis(), 1);
    }

    #[test]
    fn times_are_written_in_utc() {
        let time = Timestamp::from_millis(1_764_039_600_042);
        assert_eq!(time.rfc3339(), "2025-11-25T03:00:00Z");
        assert_eq!(time.rfc3339_millis(), "2025-11-25T03:00:00.042Z");
        assert_eq!(Timestamp::from_millis(u64::MAX).rfc3339(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Timestamp::from_secs(1).minus(Duration::from_secs(2)), Timestamp::EPOCH);
        assert_eq!(
            Timestamp::from_millis(u64::MAX).plus(Duration::MAX).as_millis(),
            u64::MAX
        );
    }
}

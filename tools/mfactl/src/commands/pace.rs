//! The pace at which secrets are written, common to all that write them at the same time.

use std::cell::Cell;
use std::time::Duration;

use shared::clock::{Clock, Timestamp};

/// Secrets Manager takes 50 writes a second in an account and region; this leaves some for others.
const WRITES_PER_SECOND: u32 = 40;
/// The longest wait for a turn, and the longest pause. Longer ones were set before the clock was set back.
const LONGEST_TURN: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Pauses, of all callers, before a call that was throttled is made again.
const BACKOFF_SECONDS: [u64; 6] = [1, 2, 4, 8, 16, 30];

/// How long to pause after each call that was throttled.
pub(super) fn backoff() -> impl Iterator<Item = Duration> {
    BACKOFF_SECONDS.into_iter().map(Duration::from_secs)
}

/// Lets time pass.
pub trait Delay {
    /// Returns after `duration`.
    fn wait(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// When the next secret may be written.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: Cell<Timestamp>,
    paused_until: Cell<Timestamp>,
}

impl Pace {
    /// Waits until the next secret may be written.
    pub(super) async fn keep(&self, clock: &impl Clock, delay: &impl Delay) {
        // A pause may begin while this waits for its turn.
        loop {
            self.resume(clock, delay).await;
            let now = clock.now();
            let wait = until(self.next.get(), now, LONGEST_TURN);
            self.next
                .set(now.plus(wait + Duration::from_secs(1) / WRITES_PER_SECOND));
            if !wait.is_zero() {
                delay.wait(wait).await;
            }
            if self.pause_left(clock).is_zero() {
                return;
            }
        }
    }

    /// Lets no secret be written for a while: the store asked for a slower pace.
    pub(super) fn pause(&self, clock: &impl Clock, duration: Duration) {
        let pause = duration.min(LONGEST_PAUSE).max(self.pause_left(clock));
        self.paused_until.set(clock.now().plus(pause));
    }

    /// Waits until a pause is over.
    pub(super) async fn resume(&self, clock: &impl Clock, delay: &impl Delay) {
        loop {
            let left = self.pause_left(clock);
            if left.is_zero() {
                return;
            }
            delay.wait(left).await;
        }
    }

    fn pause_left(&self, clock: &impl Clock) -> Duration {
        until(self.paused_until.get(), clock.now(), LONGEST_PAUSE)
    }
}

/// How long it is until a time. Nothing if it is further away than it can be.
fn until(time: Timestamp, now: Timestamp, longest: Duration) -> Duration {
    let millis = time.as_millis().saturating_sub(now.as_millis());
    let wait = Duration::from_millis(millis);
    if wait > longest { Duration::ZERO } else { wait }
}

#[cfg(test)]
mod tests {
    use shared::testing::clock::ManualClock;

    use super::*;

    /// Remembers the last wait, and lets no time pass.
    #[derive(Default)]
    struct Waits(std::sync::Mutex<Vec<Duration>>);

    impl Delay for Waits {
        async fn wait(&self, duration: Duration) {
            if let Ok(mut waits) = self.0.lock() {
                waits.push(duration);
            }
        }
    }

    #[tokio::test]
    async fn turns_of_concurrent_writers_follow_each_other_and_a_clock_that_is_set_back_holds_none_up() {
        let (pace, clock, waits) = (
            Pace::default(),
            ManualClock::at(Timestamp::from_secs(100_000)),
            Waits::default(),
        );
        for _ in 0..3 {
            pace.keep(&clock, &waits).await;
        }
        pace.pause(&clock, Duration::from_secs(20));
        clock.set(Timestamp::from_secs(1));
        pace.keep(&clock, &waits).await;
        pace.resume(&clock, &waits).await;
        let waits = waits.0.into_inner().unwrap_or_default();
        assert_eq!(waits, [25, 50].map(Duration::from_millis));
    }
}

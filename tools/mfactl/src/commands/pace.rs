//! The pace at which secrets are written.

use std::time::Duration;

use shared::clock::{Clock, Timestamp};

/// Secrets Manager takes 50 writes a second in an account and region; this leaves some for others.
const WRITES_PER_SECOND: u32 = 40;

/// Lets time pass.
pub trait Delay {
    /// Returns after `duration`.
    fn wait(&self, duration: Duration) -> impl Future<Output = ()> + Send;
}

/// When the next secret may be written.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: Timestamp,
}

impl Pace {
    /// Waits until the next secret may be written.
    pub(super) async fn keep(&mut self, clock: &impl Clock, delay: &impl Delay) {
        let now = clock.now();
        if self.next > now {
            let wait = Duration::from_millis(self.next.as_millis() - now.as_millis());
            // Not longer, even if the clock was set back.
            delay.wait(wait.min(Duration::from_secs(1))).await;
        }
        self.next = self.next.max(now).plus(Duration::from_secs(1) / WRITES_PER_SECOND);
    }
}

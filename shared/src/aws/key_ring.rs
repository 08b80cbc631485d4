//! The key ring in memory: read at start, again when it is old, and at once when a seed names a key that it lacks.
//!
//! A ring is never wrong, only old, since keys are added and never taken away. So an old one serves on for a while if it
//! cannot be read again.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::sealing::KeyRing;
use super::seeds::{corrupt, unavailable};
use crate::clock::{Clock, Timestamp};
use crate::error::StoreError;
use crate::sealed::KeyId;

/// How long a ring is kept where seeds are not.
const DEFAULT_KEEP: Duration = Duration::from_mins(5);
/// How much longer an old ring serves if it cannot be read again.
const GRACE: Duration = Duration::from_hours(1);
/// Between two reads that an unknown key, or a failure before, asks for.
const BETWEEN_READS: Duration = Duration::from_secs(10);
/// How long a request waits for a newer ring when it has an old one: less than its deadline by two writes of a device.
const WAIT_FOR_NEWER: Duration = Duration::from_millis(700);

#[derive(Debug)]
struct Held {
    ring: Arc<KeyRing>,
    read_at: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// When a read was begun last.
    tried_at: Option<Timestamp>,
}

/// The secret that is the key ring, and its keys in memory.
#[derive(Debug)]
pub(super) struct CachedKeyRing<C> {
    client: Client,
    secret: String,
    clock: C,
    keep_for: Duration,
    /// Held while the ring is read, so that of concurrent requests one reads.
    state: Mutex<State>,
}

impl<C: Clock> CachedKeyRing<C> {
    /// With the time that seeds may stay in memory; zero does not apply to the ring.
    pub(super) fn new(client: &Client, secret: String, clock: C, seeds_for: Duration) -> Self {
        let keep_for = if seeds_for.is_zero() { DEFAULT_KEEP } else { seeds_for };
        Self {
            client: client.clone(),
            secret,
            clock,
            keep_for,
            state: Mutex::default(),
        }
    }

    /// The secret.
    #[cfg(feature = "operator")]
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// The ring as it was not long ago.
    pub(super) async fn newest(&self) -> Result<Arc<KeyRing>, StoreError> {
        self.ring(|_| true).await
    }

    /// A ring to open a seed with: it has this key, unless it was read again and has it no more than before.
    pub(super) async fn with_key(&self, id: KeyId) -> Result<Arc<KeyRing>, StoreError> {
        self.ring(|ring| ring.has(id)).await
    }

    async fn ring(&self, suits: impl Fn(&KeyRing) -> bool + Send) -> Result<Arc<KeyRing>, StoreError> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        // In the future, if the clock was set back: that makes no ring unusable.
        let serves = |held: &Held| now < held.read_at.plus(self.keep_for + GRACE);
        if let Some(held) = &state.held {
            let is_new = is_within(held.read_at, self.keep_for, now);
            let was_tried = |at| is_within(at, BETWEEN_READS, now);
            if is_new && suits(&held.ring) || serves(held) && state.tried_at.is_some_and(was_tried) {
                return Ok(Arc::clone(&held.ring));
            }
        }
        state.tried_at = Some(now);
        let read = self.read(state.held.is_some()).await;
        match (read, &state.held) {
            (Err(_), Some(held)) if serves(held) => Ok(Arc::clone(&held.ring)),
            (Err(error), _) => Err(error),
            (Ok(ring), _) => {
                let ring = Arc::new(ring);
                state.held = Some(Held {
                    ring: Arc::clone(&ring),
                    read_at: now,
                });
                Ok(ring)
            }
        }
    }

    async fn read(&self, has_old: bool) -> Result<KeyRing, StoreError> {
        // Boxed, since it is rarely made: the SDK's futures are tens of kilobytes.
        let read = Box::pin(self.client.get_secret_value().secret_id(&self.secret).send());
        let found = if has_old {
            timeout(WAIT_FOR_NEWER, read)
                .await
                .map_err(|elapsed| StoreError::Unavailable {
                    store: "secretsmanager",
                    operation: "GetSecretValue key ring",
                    source: Box::new(elapsed),
                })?
        } else {
            read.await
        };
        let found = found.map_err(|error| unavailable("GetSecretValue key ring", &error))?;
        let text = found.secret_string.map(Zeroizing::new);
        KeyRing::parse(&text.ok_or(corrupt("a key ring without text"))?)
    }
}

/// Whether a time is at most this long ago. One in the future is not: the clock was set back.
fn is_within(then: Timestamp, duration: Duration, now: Timestamp) -> bool {
    then <= now && now < then.plus(duration)
}

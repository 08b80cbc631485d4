//! The key ring in memory: read at start, again when it is old, and at once when a seed names a key that it lacks.
//!
//! A ring is never wrong, only old, since keys are added and never taken away. So an old one serves on for a while if it
//! cannot be read again.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::sealing::KeyRing;
use super::seeds::{STORE, corrupt, unavailable};
use crate::clock::{Clock, Timestamp};
use crate::error::StoreError;
use crate::sealed::{KeyId, time_in_memory};

/// How much longer an old ring serves if it cannot be read again.
const GRACE: Duration = Duration::from_hours(1);
/// Between two reads that an unknown key, or a failure before, asks for.
const BETWEEN_READS: Duration = Duration::from_secs(10);
/// How long a request waits for a newer ring when it has an old one: what is left of its deadline is enough for the rest.
const WAIT_FOR_NEWER: Duration = Duration::from_millis(700);

const READ: &str = "GetSecretValue key ring";

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

/// The ring, and when it has to be read.
#[derive(Debug)]
struct KeyRingCache {
    keep_for: Duration,
    /// Held while the ring is read, so that of concurrent requests one reads.
    state: Mutex<State>,
}

impl KeyRingCache {
    /// With the time that seeds may stay in memory.
    fn new(seeds_for: Duration) -> Self {
        Self {
            keep_for: time_in_memory(seeds_for),
            state: Mutex::default(),
        }
    }

    /// The ring in memory if it is new and suits, or was to be read just before; otherwise as `read` finds it. `read` learns
    /// whether there is an old one.
    async fn get_or_read(
        &self,
        now: impl FnOnce() -> Timestamp,
        suits: impl FnOnce(&KeyRing) -> bool,
        read: impl AsyncFnOnce(bool) -> Result<KeyRing, StoreError>,
    ) -> Result<Arc<KeyRing>, StoreError> {
        let mut state = self.state.lock().await;
        let now = now();
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
        let read = read(state.held.is_some()).await;
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
}

/// Whether a time is at most this long ago. One in the future is not: the clock was set back.
fn is_within(then: Timestamp, duration: Duration, now: Timestamp) -> bool {
    then <= now && now < then.plus(duration)
}

/// The secret that is the key ring, and its keys in memory.
#[derive(Debug)]
pub(super) struct CachedKeyRing<C> {
    client: Client,
    secret: String,
    clock: C,
    cache: KeyRingCache,
}

impl<C: Clock> CachedKeyRing<C> {
    pub(super) fn new(client: &Client, secret: String, clock: C, seeds_for: Duration) -> Self {
        Self {
            client: client.clone(),
            secret,
            clock,
            cache: KeyRingCache::new(seeds_for),
        }
    }

    /// The secret.
    #[cfg(feature = "operator")]
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// Reads the secret.
    pub(super) async fn fetch(&self) -> Result<GetSecretValueOutput, StoreError> {
        // Boxed, since it is rarely made: the SDK's futures are tens of kilobytes.
        let read = Box::pin(self.client.get_secret_value().secret_id(&self.secret).send()).await;
        read.map_err(|error| unavailable(READ, &error))
    }

    /// The ring as it was not long ago.
    pub(super) async fn newest(&self) -> Result<Arc<KeyRing>, StoreError> {
        self.ring(|_| true).await
    }

    /// A ring to open a seed with: it has this key, unless it was read again and still lacks it.
    pub(super) async fn with_key(&self, id: KeyId) -> Result<Arc<KeyRing>, StoreError> {
        self.ring(|ring| ring.has(id)).await
    }

    async fn ring(&self, suits: impl FnOnce(&KeyRing) -> bool) -> Result<Arc<KeyRing>, StoreError> {
        let read = async |has_old| self.read(has_old).await;
        self.cache.get_or_read(|| self.clock.now(), suits, read).await
    }

    async fn read(&self, has_old: bool) -> Result<KeyRing, StoreError> {
        let found = if has_old {
            timeout(WAIT_FOR_NEWER, self.fetch())
                .await
                .map_err(|elapsed| StoreError::Unavailable {
                    store: STORE,
                    operation: READ,
                    source: Box::new(elapsed),
                })?
        } else {
            self.fetch().await
        };
        KeyRing::parse(&text_of(found?.secret_string)?)
    }
}

/// The text of the ring's secret.
pub(super) fn text_of(secret_string: Option<String>) -> Result<Zeroizing<String>, StoreError> {
    let text = secret_string.map(Zeroizing::new);
    text.ok_or(corrupt("a key ring without text"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::error::Error;

    use super::*;

    type Outcome = Result<(), Box<dyn Error>>;

    const READ_AT: Timestamp = Timestamp::from_secs(1_800_000_000);
    const KEEP_FOR: Duration = Duration::from_mins(5);
    const SECOND: Duration = Duration::from_secs(1);

    /// A ring with this many keys.
    fn ring(keys: u8) -> Result<KeyRing, StoreError> {
        let key = |number: u8| format!("{number:064}");
        let previous: Vec<String> = (1..keys).map(key).collect();
        KeyRing::parse(&serde_json::json!({ "format": 1, "previous": previous, "current": key(keys) }).to_string())
    }

    /// A cache over a store that has a ring with some keys, or fails.
    struct World {
        cache: KeyRingCache,
        stored: Cell<Option<u8>>,
        reads: Cell<u32>,
    }

    impl World {
        fn new(seeds_for: Duration) -> Self {
            Self {
                cache: KeyRingCache::new(seeds_for),
                stored: Cell::new(Some(1)),
                reads: Cell::new(0),
            }
        }

        /// How many keys the ring has that a request gets, and how often the store was asked.
        async fn get(&self, now: Timestamp, suits: impl FnOnce(&KeyRing) -> bool) -> (Option<usize>, u32) {
            let read = async |_| {
                self.reads.set(self.reads.get() + 1);
                self.stored.get().map_or(Err(corrupt("an injected fault")), ring)
            };
            let got = self.cache.get_or_read(|| now, suits, read).await;
            (got.ok().map(|ring| 1 + ring.previous().count()), self.reads.take())
        }

        async fn newest(&self, now: Timestamp) -> (Option<usize>, u32) {
            self.get(now, |_| true).await
        }
    }

    #[tokio::test]
    async fn a_ring_stays_in_memory_for_its_time() {
        for (seeds_for, keep_for) in [(KEEP_FOR * 2, KEEP_FOR * 2), (Duration::ZERO, KEEP_FOR)] {
            let world = World::new(seeds_for);
            assert_eq!(world.newest(READ_AT).await, (Some(1), 1));
            world.stored.set(Some(2));
            let end = READ_AT.plus(keep_for);
            assert_eq!(world.newest(end.minus(SECOND)).await, (Some(1), 0));
            assert_eq!(world.newest(end).await, (Some(2), 1));
        }
    }

    #[tokio::test]
    async fn an_old_ring_serves_for_an_hour_more_and_the_store_is_asked_every_ten_seconds() {
        let world = World::new(KEEP_FOR);
        world.newest(READ_AT).await;
        world.stored.set(None);
        let end = READ_AT.plus(KEEP_FOR);
        assert_eq!(world.newest(end).await, (Some(1), 1));
        assert_eq!(world.newest(end.plus(SECOND * 9)).await, (Some(1), 0));
        assert_eq!(world.newest(end.plus(SECOND * 10)).await, (Some(1), 1));
        assert_eq!(world.newest(end.plus(GRACE).minus(SECOND)).await, (Some(1), 1));
        for _ in 0..2 {
            assert_eq!(
                world.newest(end.plus(GRACE)).await,
                (None, 1),
                "and then every request asks"
            );
        }
        world.stored.set(Some(2));
        assert_eq!(world.newest(end.plus(GRACE)).await, (Some(2), 1));
    }

    #[tokio::test]
    async fn an_unknown_key_is_looked_for_at_once_but_not_by_a_flood() -> Outcome {
        let world = World::new(KEEP_FOR);
        let new_key = ring(2)?.current();
        let wants_new = |ring: &KeyRing| ring.has(new_key);
        let now = READ_AT.plus(SECOND * 60);
        world.newest(READ_AT).await;
        world.stored.set(Some(2));
        assert_eq!(world.get(now, wants_new).await, (Some(2), 1), "a ring one version old");

        let wants_another = |_: &KeyRing| false;
        for _ in 0..100 {
            assert_eq!(world.get(now.plus(SECOND), wants_another).await, (Some(2), 0));
        }
        assert_eq!(world.get(now.plus(SECOND * 10), wants_another).await, (Some(2), 1));
        assert_eq!(
            world.get(now.minus(SECOND), wants_another).await,
            (Some(2), 1),
            "a last read in the future counts as none"
        );
        assert_eq!(world.get(now.minus(SECOND), wants_another).await, (Some(2), 0));
        Ok(())
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_makes_no_ring_unusable() {
        let world = World::new(KEEP_FOR);
        world.newest(READ_AT).await;
        world.stored.set(None);
        let before = READ_AT.minus(GRACE);
        assert_eq!(world.newest(before).await, (Some(1), 1));
        assert_eq!(world.newest(before.plus(SECOND)).await, (Some(1), 0));
    }

    #[tokio::test]
    async fn without_any_ring_every_request_asks() {
        let world = World::new(KEEP_FOR);
        world.stored.set(None);
        for _ in 0..3 {
            assert_eq!(world.newest(READ_AT).await, (None, 1));
        }
    }
}

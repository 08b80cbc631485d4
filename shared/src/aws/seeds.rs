//! Seeds: each in a secret of its own and cached in memory, or sealed beside its device under a key of the key ring.
//!
//! What a name and a version id refer to never changes, so a cached seed is never wrong; the time limit only bounds how
//! long it stays in memory. Whether a device may still use it is decided by the device's write. A seed that was opened is
//! not cached.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::{GetSecretValueError, GetSecretValueOutput};
#[cfg(feature = "registry")]
use aws_sdk_secretsmanager::types::Tag;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::key_ring::CachedKeyRing;
use super::sdk;
use crate::clock::{Clock, Timestamp};
use crate::device::Device;
use crate::error::StoreError;
use crate::names::{DeviceKey, SealedId, SecretVersion, SeedRef};
use crate::otp::{Algorithm, Digits, OtpParameters, Period, Seed};
use crate::ports::SeedStore;
use crate::sealed::SealedSeed;
#[cfg(feature = "registry")]
use crate::sealed::SeedStorage;

pub(super) const STORE: &str = "secretsmanager";
/// The most seeds kept in memory; some 300 bytes each.
const MOST_CACHED: usize = 1_000;

/// A secret's text: `{"seed": "<base32>", "algorithm": "SHA1", "digits": 6, "period": 30}`.
///
/// It borrows, so that no copy of the seed is left behind.
#[derive(Serialize, Deserialize)]
pub(super) struct SecretText<'a> {
    pub(super) seed: &'a str,
    pub(super) algorithm: &'a str,
    pub(super) digits: u64,
    pub(super) period: u64,
}

impl SecretText<'_> {
    pub(super) fn read(text: &str) -> Option<Seed> {
        let text: SecretText<'_> = serde_json::from_str(text).ok()?;
        let parameters = OtpParameters {
            algorithm: Algorithm::parse(text.algorithm)?,
            digits: Digits::from_count(text.digits)?,
            period: Period::from_seconds(text.period)?,
        };
        Seed::from_base32(text.seed, parameters).ok()
    }
}

#[derive(Debug, Clone)]
struct Cached {
    seed: Arc<Seed>,
    read_at: Timestamp,
}

/// Seeds in memory: at most [`MOST_CACHED`], each for a limited time.
#[derive(Debug)]
struct SeedCache {
    seeds: Cache<SecretVersion, Cached>,
    keep_for: Duration,
}

impl SeedCache {
    fn new(keep_for: Duration) -> Self {
        Self {
            seeds: Cache::new(MOST_CACHED),
            keep_for,
        }
    }

    /// The seed, read if it is not in memory. Of concurrent requests one reads; if it fails, the next one tries.
    async fn get_or_read<F: Future<Output = Result<Seed, StoreError>>>(
        &self,
        secret: &SecretVersion,
        now: Timestamp,
        read: impl FnOnce() -> F,
    ) -> Result<Arc<Seed>, StoreError> {
        // All stale ones, not only the one asked for: none stays longer because its user does not come back.
        self.seeds.retain(|_, cached| !self.is_stale(cached, now));
        let read = async {
            // Boxed only if there is something to read: the SDK's futures are tens of kilobytes.
            Box::pin(read()).await.map(|seed| Cached {
                seed: Arc::new(seed),
                read_at: now,
            })
        };
        let cached = self.seeds.get_or_insert_async(secret, read).await?;
        Ok(cached.seed)
    }

    fn is_stale(&self, cached: &Cached, now: Timestamp) -> bool {
        // A clock that was set back must not keep a seed for longer.
        now < cached.read_at || now >= cached.read_at.plus(self.keep_for)
    }
}

/// The seeds of all devices.
#[derive(Debug)]
pub struct SecretsManagerSeeds<C> {
    pub(super) client: Client,
    clock: C,
    cache: SeedCache,
    key_ring: Option<CachedKeyRing<C>>,
    #[cfg(feature = "registry")]
    pub(super) kms_key: Option<String>,
    #[cfg(feature = "registry")]
    pub(super) storage: SeedStorage,
    #[cfg(feature = "registry")]
    pub(super) tags: Option<Vec<Tag>>,
}

impl<C: Clock + Clone> SecretsManagerSeeds<C> {
    /// With a clock, how long a seed may stay in memory, and the secret that is the key ring. Without a key ring, a sealed
    /// seed is an error.
    #[must_use]
    pub fn new(client: &Client, clock: C, cache_for: Duration, key_ring: Option<String>) -> Self {
        let key_ring = key_ring.map(|secret| CachedKeyRing::new(client, secret, clock.clone(), cache_for));
        Self {
            client: client.clone(),
            clock,
            cache: SeedCache::new(cache_for),
            key_ring,
            #[cfg(feature = "registry")]
            kms_key: None,
            #[cfg(feature = "registry")]
            storage: SeedStorage::Secrets,
            #[cfg(feature = "registry")]
            tags: None,
        }
    }
}

impl<C: Clock> SecretsManagerSeeds<C> {
    /// Opens a connection by reading the key ring. If that fails, it is read when it is needed.
    pub async fn warm_up(&self) {
        if let Some(ring) = &self.key_ring {
            let _ = ring.newest().await;
        }
    }

    pub(super) fn key_ring(&self) -> Result<&CachedKeyRing<C>, StoreError> {
        self.key_ring
            .as_ref()
            .ok_or(corrupt("no key ring is configured, and a seed is sealed"))
    }

    pub(super) async fn open(
        &self,
        key: &DeviceKey,
        id: SealedId,
        sealed: Option<&SealedSeed>,
    ) -> Result<Seed, StoreError> {
        let sealed = sealed.ok_or(corrupt("a sealed seed without its blob"))?;
        let key_id = sealed.key_id().ok_or(corrupt("a sealed seed of another format"))?;
        let ring = self.key_ring()?.with_key(key_id).await?;
        ring.open(key, id, sealed)
    }

    async fn read(&self, secret: &SecretVersion) -> Result<Seed, StoreError> {
        let found = self.get_value(secret).await;
        seed_in(found.map_err(|error| unavailable("GetSecretValue", &error))?)
    }

    pub(super) async fn get_value(
        &self,
        secret: &SecretVersion,
    ) -> Result<GetSecretValueOutput, SdkError<GetSecretValueError>> {
        self.client
            .get_secret_value()
            .secret_id(secret.name())
            .version_id(secret.version())
            .send()
            .await
    }
}

impl<C: Clock> SeedStore for SecretsManagerSeeds<C> {
    async fn get(&self, key: &DeviceKey, device: &Device) -> Result<Arc<Seed>, StoreError> {
        let seed = match &device.seed_ref {
            SeedRef::Sealed(id) => Arc::new(self.open(key, *id, device.sealed.as_ref()).await?),
            SeedRef::Secret(secret) => {
                let now = self.clock.now();
                self.cache.get_or_read(secret, now, || self.read(secret)).await?
            }
        };
        if seed.parameters() == device.parameters {
            Ok(seed)
        } else {
            Err(corrupt("a seed made for other parameters than its device's"))
        }
    }
}

pub(super) fn seed_in(found: GetSecretValueOutput) -> Result<Seed, StoreError> {
    let text = found
        .secret_string
        .map(Zeroizing::new)
        .ok_or(corrupt("a secret without text"))?;
    SecretText::read(&text).ok_or(corrupt("a secret that is not a seed"))
}

pub(super) fn unavailable<E: ProvideErrorMetadata + Error + 'static>(
    operation: &'static str,
    error: &SdkError<E>,
) -> StoreError {
    sdk::unavailable(STORE, operation, error)
}

pub(super) const fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt { store: STORE, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    const READ_AT: Timestamp = Timestamp::from_secs(1_800_000_000);
    const KEEP_FOR: Duration = Duration::from_mins(5);
    const MILLISECOND: Duration = Duration::from_millis(1);

    type Outcome = Result<(), Box<dyn Error>>;

    /// Gets a seed; whether it had to be read.
    async fn had_to_be_read(cache: &SeedCache, number: usize, now: Timestamp) -> Result<bool, Box<dyn Error>> {
        let mut was_read = false;
        let read = async || {
            was_read = true;
            Seed::from_base32(SEED, OtpParameters::default()).map_err(|_| corrupt("a seed"))
        };
        let seed_ref = SeedRef::new(&format!("mfa/seed/{number}"), "1")?;
        cache
            .get_or_read(seed_ref.secret().ok_or("no secret")?, now, read)
            .await?;
        Ok(was_read)
    }

    #[tokio::test]
    async fn a_seed_stays_in_memory_for_its_time_and_not_longer() -> Outcome {
        let cache = SeedCache::new(KEEP_FOR);
        let end = READ_AT.plus(KEEP_FOR);
        assert!(had_to_be_read(&cache, 1, READ_AT).await?);
        assert!(!had_to_be_read(&cache, 1, end.minus(MILLISECOND)).await?);
        assert!(
            had_to_be_read(&cache, 1, end).await?,
            "a use does not make it stay longer"
        );
        assert!(
            had_to_be_read(&cache, 1, end.minus(MILLISECOND)).await?,
            "the clock was set back"
        );
        Ok(())
    }

    #[tokio::test]
    async fn seeds_of_users_who_do_not_come_back_leave_memory_on_time_too() -> Outcome {
        let cache = SeedCache::new(KEEP_FOR);
        let end = READ_AT.plus(KEEP_FOR);
        for number in 0..10 {
            had_to_be_read(&cache, number, READ_AT).await?;
        }
        had_to_be_read(&cache, 10, end.minus(MILLISECOND)).await?;
        assert_eq!(cache.seeds.len(), 11);
        had_to_be_read(&cache, 10, end).await?;
        assert_eq!(cache.seeds.len(), 1, "only the one that was read later");
        Ok(())
    }

    #[tokio::test]
    async fn at_most_a_thousand_seeds_are_in_memory() -> Outcome {
        let cache = SeedCache::new(KEEP_FOR);
        for number in 0..1_500 {
            had_to_be_read(&cache, number, READ_AT).await?;
        }
        assert!((500..=1_000).contains(&cache.seeds.len()), "{}", cache.seeds.len());
        Ok(())
    }

    fn read(text: &str) -> Option<OtpParameters> {
        SecretText::read(text).map(|seed| seed.parameters())
    }

    #[test]
    fn a_secret_is_read_as_documented() {
        let text = format!("{{\"seed\": \"{SEED}\", \"algorithm\": \"SHA1\", \"digits\": 6, \"period\": 30}}");
        assert_eq!(read(&text), Some(OtpParameters::default()));
    }

    #[test]
    fn a_secret_that_says_anything_else_is_not_a_seed() {
        for text in [
            "",
            "{}",
            SEED,
            "{\"seed\": \"GEZDGNBVGY3TQOJQ\", \"algorithm\": \"SHA1\", \"digits\": 6}",
            "{\"seed\": \"1\", \"algorithm\": \"SHA1\", \"digits\": 6, \"period\": 30}",
            "{\"seed\": \"GEZDGNBV\", \"algorithm\": \"SHA1\", \"digits\": 6, \"period\": 30}",
            "{\"seed\": \"GEZDGNBVGY3TQOJQ\", \"algorithm\": \"MD5\", \"digits\": 6, \"period\": 30}",
            "{\"seed\": \"GEZDGNBVGY3TQOJQ\", \"algorithm\": \"SHA1\", \"digits\": 7, \"period\": 30}",
            "{\"seed\": \"GEZDGNBVGY3TQOJQ\", \"algorithm\": \"SHA1\", \"digits\": 6, \"period\": 0}",
            "{\"seed\": \"GEZDGNBVGY3TQOJQ\", \"algorithm\": \"SHA1\", \"digits\": \"6\", \"period\": 30}",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}

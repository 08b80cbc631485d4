//! Seeds in Secrets Manager, one secret each, cached in memory.
//!
//! What a name and a version id refer to never changes, so a cached seed is never wrong; the time limit only bounds how
//! long it stays in memory. Whether a device may still use it is decided by the device's write.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::{GetSecretValueError, GetSecretValueOutput};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::sdk;
use crate::clock::{Clock, Timestamp};
use crate::device::Device;
use crate::error::StoreError;
use crate::names::SeedRef;
use crate::otp::{Algorithm, Digits, OtpParameters, Period, Seed};
use crate::ports::SeedStore;

const STORE: &str = "secretsmanager";
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

/// The secrets of all devices.
#[derive(Debug)]
pub struct SecretsManagerSeeds<C> {
    pub(super) client: Client,
    clock: C,
    cache_for: Duration,
    cache: Cache<SeedRef, Cached>,
    #[cfg(feature = "registry")]
    pub(super) kms_key: Option<String>,
}

impl<C: Clock> SecretsManagerSeeds<C> {
    /// With a clock, and how long a seed may stay in memory.
    #[must_use]
    pub fn new(client: &Client, clock: C, cache_for: Duration) -> Self {
        Self {
            client: client.clone(),
            clock,
            cache_for,
            cache: Cache::new(MOST_CACHED),
            #[cfg(feature = "registry")]
            kms_key: None,
        }
    }

    /// Opens a connection by reading a secret that does not exist. Its result does not matter.
    pub async fn warm_up(&self, prefix: &str) {
        let _ = self
            .client
            .get_secret_value()
            .secret_id(format!("{prefix}/seed/none"))
            .send()
            .await;
    }

    async fn read(&self, seed_ref: &SeedRef) -> Result<Cached, StoreError> {
        let read_at = self.clock.now();
        let found = self.get_value(seed_ref).await;
        let found = found.map_err(|error| unavailable("GetSecretValue", &error))?;
        Ok(Cached {
            seed: Arc::new(seed_in(found)?),
            read_at,
        })
    }

    pub(super) async fn get_value(
        &self,
        seed_ref: &SeedRef,
    ) -> Result<GetSecretValueOutput, SdkError<GetSecretValueError>> {
        self.client
            .get_secret_value()
            .secret_id(seed_ref.name())
            .version_id(seed_ref.version())
            .send()
            .await
    }

    fn is_stale(&self, cached: &Cached) -> bool {
        let now = self.clock.now();
        // A clock that was set back must not keep a seed for longer.
        now < cached.read_at || now >= cached.read_at.plus(self.cache_for)
    }
}

impl<C: Clock> SeedStore for SecretsManagerSeeds<C> {
    async fn get(&self, device: &Device) -> Result<Arc<Seed>, StoreError> {
        let seed_ref = &device.seed_ref;
        // All stale ones, not only the one asked for: none stays longer because its user does not come back.
        self.cache.retain(|_, cached| !self.is_stale(cached));
        // Of concurrent requests one reads; if it fails, the next one tries.
        let cached = self.cache.get_or_insert_async(seed_ref, self.read(seed_ref)).await?;
        if cached.seed.parameters() == device.parameters {
            Ok(cached.seed)
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

//! Seeds in Secrets Manager, one secret each, and in memory for a while.
//!
//! What a name and a version id stand for never changes, so a cached seed is never wrong; the time limit only bounds
//! how long it stays in memory. Whether a device may still use it is decided by the device's write.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::delete_secret::DeleteSecretError;
use aws_sdk_secretsmanager::operation::describe_secret::{DescribeSecretError, DescribeSecretOutput};
use aws_sdk_secretsmanager::operation::get_secret_value::{GetSecretValueError, GetSecretValueOutput};
use aws_sdk_secretsmanager::primitives::DateTime;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, SecretListEntry};
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::sdk::said;
use crate::clock::{Clock, Timestamp};
use crate::device::Device;
use crate::error::StoreError;
use crate::names::SeedRef;
use crate::otp::{Algorithm, Digits, OtpParameters, Period, Seed};
use crate::ports::{Removal, SeedListed, SeedPage, SeedRegistry, SeedStore};

const STORE: &str = "secretsmanager";
/// Seeds that stay in memory at most; some 300 bytes each.
const MOST_CACHED: usize = 1_000;
/// The most that Secrets Manager lists at once.
const PAGE: i32 = 100;

/// A secret's text: `{"seed": "<base32>", "algorithm": "SHA1", "digits": 6, "period": 30}`.
///
/// It borrows, so that no copy of the seed is left behind.
#[derive(Serialize, Deserialize)]
struct SecretText<'a> {
    seed: &'a str,
    algorithm: &'a str,
    digits: u64,
    period: u64,
}

impl SecretText<'_> {
    fn read(text: &str) -> Option<Seed> {
        let text: SecretText<'_> = serde_json::from_str(text).ok()?;
        let parameters = OtpParameters {
            algorithm: Algorithm::parse(text.algorithm)?,
            digits: Digits::from_count(text.digits)?,
            period: Period::from_seconds(text.period)?,
        };
        Seed::from_base32(text.seed, parameters).ok()
    }

    fn write(seed: &Seed) -> Option<Zeroizing<String>> {
        let parameters = seed.parameters();
        let text = SecretText {
            seed: &seed.to_base32(),
            algorithm: parameters.algorithm.as_str(),
            digits: parameters.digits.count().into(),
            period: parameters.period.seconds(),
        };
        serde_json::to_string(&text).ok().map(Zeroizing::new)
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
    client: Client,
    clock: C,
    cache_for: Duration,
    cache: Cache<SeedRef, Cached>,
    kms_key: Option<String>,
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
            kms_key: None,
        }
    }

    /// New seeds are encrypted with a KMS key of the account's own, or without one with `aws/secretsmanager`.
    #[must_use]
    pub fn encrypted_with(self, kms_key: Option<String>) -> Self {
        Self { kms_key, ..self }
    }

    /// Opens a connection by reading a secret that is not there. It does not matter whether it succeeds.
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

    async fn get_value(&self, seed_ref: &SeedRef) -> Result<GetSecretValueOutput, SdkError<GetSecretValueError>> {
        self.client
            .get_secret_value()
            .secret_id(seed_ref.name())
            .version_id(seed_ref.version())
            .send()
            .await
    }

    async fn deleted(&self, seed: &SeedRef) -> Result<bool, StoreError> {
        let describe = self.client.describe_secret().secret_id(seed.name()).send();
        let described = describe.await.map_err(|error| unavailable("DescribeSecret", &error))?;
        Ok(described.deleted_date.is_some())
    }

    fn stale(&self, cached: &Cached) -> bool {
        let now = self.clock.now();
        // A clock that was set back must not keep a seed for longer.
        now < cached.read_at || now >= cached.read_at.plus(self.cache_for)
    }
}

impl<C: Clock> SeedStore for SecretsManagerSeeds<C> {
    async fn get(&self, device: &Device) -> Result<Arc<Seed>, StoreError> {
        let seed_ref = &device.seed_ref;
        // All of them, not only the one that is asked for: none stays longer because its user does not come back.
        self.cache.retain(|_, cached| !self.stale(cached));
        // Of several requests at once, one reads; if it fails, the next one tries.
        let cached = self.cache.get_or_insert_async(seed_ref, self.read(seed_ref)).await?;
        if cached.seed.parameters() == device.parameters {
            Ok(cached.seed)
        } else {
            Err(corrupt("a seed that is made for other parameters than its device's"))
        }
    }
}

impl<C: Clock> SeedRegistry for SecretsManagerSeeds<C> {
    async fn read(&self, seed: &SeedRef) -> Result<Option<Seed>, StoreError> {
        let error = match self.get_value(seed).await {
            Ok(found) => return seed_in(found).map(Some),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(GetSecretValueError::ResourceNotFoundException(_)) => Ok(None),
            // What a secret that was deleted before answers, among others.
            Some(GetSecretValueError::InvalidRequestException(_)) if self.deleted(seed).await? => Ok(None),
            _ => Err(unavailable("GetSecretValue", &error)),
        }
    }

    async fn create(&self, name: &str, seed: &Seed) -> Result<SeedRef, StoreError> {
        let text = SecretText::write(seed).ok_or(corrupt("a seed that cannot be written"))?;
        let create = self
            .client
            .create_secret()
            .name(name)
            .secret_string(text.as_str())
            .set_kms_key_id(self.kms_key.clone())
            .send();
        let created = create.await.map_err(|error| unavailable("CreateSecret", &error))?;
        let version = created.version_id.ok_or(corrupt("a secret without a version id"))?;
        SeedRef::new(name, &version).map_err(|_| corrupt("a secret's name or version id"))
    }

    async fn remove(&self, seed: &SeedRef, how: Removal) -> Result<(), StoreError> {
        let delete = self.client.delete_secret().secret_id(seed.name());
        let delete = match how {
            Removal::Recoverable => delete.recovery_window_in_days(30),
            Removal::AtOnce => delete.force_delete_without_recovery(true),
        };
        let Err(error) = delete.send().await else {
            return Ok(());
        };
        match error.as_service_error() {
            Some(DeleteSecretError::ResourceNotFoundException(_)) => Ok(()),
            // What a secret that was deleted before answers, among others.
            Some(DeleteSecretError::InvalidRequestException(_)) if self.deleted(seed).await? => Ok(()),
            _ => Err(unavailable("DeleteSecret", &error)),
        }
    }

    async fn page(&self, prefix: &str, after: Option<&str>) -> Result<SeedPage, StoreError> {
        // It compares beginnings; an emulator takes any part of a name. What is listed may be removed, so this looks again.
        let names = Filter::builder().key(FilterNameStringType::Name).values(prefix).build();
        let list = self
            .client
            .list_secrets()
            .filters(names)
            .include_planned_deletion(true)
            .max_results(PAGE)
            .set_next_token(after.map(str::to_owned))
            .send();
        let listed = list.await.map_err(|error| unavailable("ListSecrets", &error))?;
        let of_prefix = |entry: &&SecretListEntry| entry.name().is_none_or(|name| name.starts_with(prefix));
        let seeds = listed.secret_list().iter().filter(of_prefix).map(listed_in);
        let seeds = seeds.collect::<Result<_, _>>()?;
        Ok(SeedPage {
            seeds,
            next: listed.next_token,
        })
    }

    async fn describe(&self, name: &str) -> Result<Option<SeedListed>, StoreError> {
        let error = match self.client.describe_secret().secret_id(name).send().await {
            Ok(described) => return described_in(name, &described).map(Some),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(DescribeSecretError::ResourceNotFoundException(_)) => Ok(None),
            _ => Err(unavailable("DescribeSecret", &error)),
        }
    }

    async fn restore(&self, name: &str) -> Result<(), StoreError> {
        let restored = self.client.restore_secret().secret_id(name).send().await;
        match restored {
            Ok(_) => Ok(()),
            Err(error) => Err(unavailable("RestoreSecret", &error)),
        }
    }
}

fn listed_in(entry: &SecretListEntry) -> Result<SeedListed, StoreError> {
    Ok(SeedListed {
        name: entry.name().ok_or(corrupt("a secret without a name"))?.to_owned(),
        versions: with_stages(entry.secret_versions_to_stages()),
        created_at: time(entry.created_date()).ok_or(corrupt("a secret without a date"))?,
        removed: entry.deleted_date().is_some(),
    })
}

fn described_in(name: &str, described: &DescribeSecretOutput) -> Result<SeedListed, StoreError> {
    Ok(SeedListed {
        name: name.to_owned(),
        versions: with_stages(described.version_ids_to_stages()),
        created_at: time(described.created_date()).ok_or(corrupt("a secret without a date"))?,
        removed: described.deleted_date().is_some(),
    })
}

/// A version without a stage is one that Secrets Manager may delete at any time.
fn with_stages(versions: Option<&HashMap<String, Vec<String>>>) -> Vec<String> {
    let kept = versions.into_iter().flatten().filter(|(_, stages)| !stages.is_empty());
    kept.map(|(version, _)| version.clone()).collect()
}

fn time(date: Option<&DateTime>) -> Option<Timestamp> {
    u64::try_from(date?.secs()).ok().map(Timestamp::from_secs)
}

fn seed_in(found: GetSecretValueOutput) -> Result<Seed, StoreError> {
    let text = found
        .secret_string
        .map(Zeroizing::new)
        .ok_or(corrupt("a secret without text"))?;
    SecretText::read(&text).ok_or(corrupt("a secret that is not a seed"))
}

fn unavailable<E: ProvideErrorMetadata + Error + 'static>(operation: &'static str, error: &SdkError<E>) -> StoreError {
    StoreError::Unavailable {
        store: STORE,
        operation,
        source: said(error),
    }
}

const fn corrupt(what: &'static str) -> StoreError {
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
    fn what_is_written_is_what_is_read() -> Result<(), crate::otp::SeedError> {
        for algorithm in Algorithm::ALL {
            let parameters = OtpParameters {
                algorithm,
                digits: Digits::Eight,
                period: Period::Sixty,
            };
            let text = SecretText::write(&Seed::from_base32(SEED, parameters)?);
            assert_eq!(text.as_deref().map(|text| read(text)), Some(Some(parameters)));
        }
        Ok(())
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

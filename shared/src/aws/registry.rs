//! What registration does with devices and seeds, besides what a sign-in does.

use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;
use aws_sdk_secretsmanager::operation::delete_secret::DeleteSecretError;
use aws_sdk_secretsmanager::operation::delete_secret::builders::DeleteSecretFluentBuilder;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use zeroize::Zeroizing;

use super::conditional::{Outcome, unavailable};
use super::devices::{DynamoDevices, IF_HELD};
use super::items::{self, CREATED_AT, Item, PENDING_SEED_REF, PENDING_UNTIL, PK, SEED_REF, VERSION};
use super::seeds::{self, SecretText, SecretsManagerSeeds};
use crate::clock::{Clock, Timestamp};
use crate::device::{Device, DeviceRecord, PendingSeed};
use crate::error::StoreError;
use crate::names::{ClientId, DeviceKey, SeedRef, UserName};
use crate::otp::Seed;
use crate::ports::registry::{DevicePage, DeviceRegistry, SeedRegistry, Unreadable};
use crate::ports::{Stored, Written};

/// How long a removed seed can be restored; the longest that Secrets Manager offers.
const RECOVERY_DAYS: i64 = 30;

/// What `Query` and `Scan` return: items, and the key of the last one if more follow.
pub(super) fn device_page(items: Option<Vec<Item>>, last: Option<&Item>) -> Result<DevicePage, StoreError> {
    let record = |item: &Item| {
        items::read_record(item).map_err(|error| Unreadable {
            key: items::read_device_key(item).ok(),
            error,
        })
    };
    Ok(DevicePage {
        records: items.unwrap_or_default().iter().map(record).collect(),
        next: last.map(items::read_device_key).transpose()?,
    })
}

/// Where a page begins.
pub(super) fn start_key(after: Option<&DeviceKey>) -> Option<Item> {
    after.map(items::key_item)
}

impl DeviceRegistry for DynamoDevices {
    async fn record(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        self.item(key).await?.as_ref().map(items::read_record).transpose()
    }

    async fn user_page(
        &self,
        client: &ClientId,
        user: &UserName,
        after: Option<&DeviceKey>,
        limit: u16,
    ) -> Result<DevicePage, StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", items::text(items::user_partition(client, user)))
            .set_exclusive_start_key(start_key(after))
            .limit(limit.into())
            .consistent_read(true)
            .send();
        let found = query.await.map_err(|error| unavailable("Query devices", &error))?;
        device_page(found.items, found.last_evaluated_key.as_ref())
    }

    async fn register(&self, key: &DeviceKey, device: &Device, created_at: Timestamp) -> Result<Stored, StoreError> {
        let mut item = items::device(device);
        item.extend(items::key_item(key));
        item.insert(CREATED_AT.to_owned(), items::number(created_at.as_secs()));
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send();
        match Outcome::new("PutItem devices", put.await)?.written()? {
            Written::Yes => Ok(Stored::Yes),
            // The random version tells this call's own repeated write from another registration.
            Written::No(Some(stored)) if *stored == *device => Ok(Stored::Yes),
            Written::No(_) => Ok(Stored::Taken),
        }
    }

    async fn set_pending_seed(
        &self,
        key: &DeviceKey,
        held: &Device,
        pending: &PendingSeed,
    ) -> Result<Written, StoreError> {
        let [(pk, pk_value), (sk, sk_value)] = items::device_key(key);
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(pk, pk_value)
            .key(sk, sk_value)
            .condition_expression(IF_HELD)
            .update_expression(
                "SET #version = :version, #pendingSeedRef = :pendingSeedRef, #pendingUntil = :pendingUntil",
            )
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_names("#seedRef", SEED_REF)
            .expression_attribute_names("#pendingSeedRef", PENDING_SEED_REF)
            .expression_attribute_names("#pendingUntil", PENDING_UNTIL)
            .expression_attribute_values(":heldVersion", items::number(held.version))
            .expression_attribute_values(":heldSeedRef", items::text(held.seed_ref.to_string()))
            .expression_attribute_values(":version", items::number(held.version.saturating_add(1)))
            .expression_attribute_values(":pendingSeedRef", items::text(pending.seed_ref.to_string()))
            .expression_attribute_values(":pendingUntil", items::number(pending.until.as_secs()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let stored = match Outcome::new("UpdateItem devices", update.send().await)? {
            Outcome::Done => return Ok(Written::Yes),
            Outcome::Refused(None) => return Ok(Written::No(None)),
            Outcome::Refused(Some(stored)) => stored,
        };
        let record = items::read_record(&stored)?;
        // A seed's name is random: that it is pending can only be this call's own repeated write.
        let own = record.pending.is_some_and(|named| named.seed_ref == pending.seed_ref);
        Ok(if own {
            Written::Yes
        } else {
            Written::No(Some(Box::new(record.device)))
        })
    }

    async fn remove_held(&self, key: &DeviceKey, held: &Device) -> Result<Written, StoreError> {
        let [(pk, pk_value), (sk, sk_value)] = items::device_key(key);
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(pk, pk_value)
            .key(sk, sk_value)
            .condition_expression(IF_HELD)
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_names("#seedRef", SEED_REF)
            .expression_attribute_values(":heldVersion", items::number(held.version))
            .expression_attribute_values(":heldSeedRef", items::text(held.seed_ref.to_string()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send();
        Outcome::new("DeleteItem devices", delete.await)?.written()
    }
}

impl SecretText<'_> {
    pub(super) fn write(seed: &Seed) -> Option<Zeroizing<String>> {
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

impl<C: Clock> SecretsManagerSeeds<C> {
    /// New seeds are encrypted with this KMS key of the account, or without one with `aws/secretsmanager`.
    #[must_use]
    pub fn encrypted_with(mut self, kms_key: Option<String>) -> Self {
        self.kms_key = kms_key;
        self
    }

    /// Whether a secret was deleted before.
    async fn is_deleted(&self, seed: &SeedRef) -> Result<bool, StoreError> {
        let describe = self.client.describe_secret().secret_id(seed.name()).send();
        let described = describe
            .await
            .map_err(|error| seeds::unavailable("DescribeSecret", &error))?;
        Ok(described.deleted_date.is_some())
    }

    /// Sends a deletion; a secret that does not exist any more is no error.
    pub(super) async fn delete(&self, seed: &SeedRef, delete: DeleteSecretFluentBuilder) -> Result<(), StoreError> {
        let Err(error) = delete.secret_id(seed.name()).send().await else {
            return Ok(());
        };
        match error.as_service_error() {
            Some(DeleteSecretError::ResourceNotFoundException(_)) => Ok(()),
            // One cause among others: the secret was deleted before.
            Some(DeleteSecretError::InvalidRequestException(_)) if self.is_deleted(seed).await? => Ok(()),
            _ => Err(seeds::unavailable("DeleteSecret", &error)),
        }
    }
}

impl<C: Clock> SeedRegistry for SecretsManagerSeeds<C> {
    async fn read(&self, seed: &SeedRef) -> Result<Option<Seed>, StoreError> {
        let error = match self.get_value(seed).await {
            Ok(found) => return seeds::seed_in(found).map(Some),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(GetSecretValueError::ResourceNotFoundException(_)) => Ok(None),
            // One cause among others: the secret was deleted before.
            Some(GetSecretValueError::InvalidRequestException(_)) if self.is_deleted(seed).await? => Ok(None),
            _ => Err(seeds::unavailable("GetSecretValue", &error)),
        }
    }

    async fn create(&self, name: &str, seed: &Seed) -> Result<SeedRef, StoreError> {
        let text = SecretText::write(seed).ok_or(seeds::corrupt("a seed that cannot be written"))?;
        let create = self
            .client
            .create_secret()
            .name(name)
            .secret_string(text.as_str())
            .set_kms_key_id(self.kms_key.clone())
            .send();
        let created = create
            .await
            .map_err(|error| seeds::unavailable("CreateSecret", &error))?;
        let version = created
            .version_id
            .ok_or(seeds::corrupt("a secret without a version id"))?;
        SeedRef::new(name, &version).map_err(|_| seeds::corrupt("a secret's name or version id"))
    }

    async fn remove(&self, seed: &SeedRef) -> Result<(), StoreError> {
        let delete = self.client.delete_secret().recovery_window_in_days(RECOVERY_DAYS);
        self.delete(seed, delete).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otp::{Algorithm, Digits, OtpParameters, Period};

    #[test]
    fn a_secret_is_read_as_it_was_written() -> Result<(), crate::otp::SeedError> {
        for algorithm in Algorithm::ALL {
            let parameters = OtpParameters {
                algorithm,
                digits: Digits::Eight,
                period: Period::Sixty,
            };
            let text = SecretText::write(&Seed::from_base32("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", parameters)?);
            assert_eq!(
                text.as_deref()
                    .map(|text| SecretText::read(text).map(|seed| seed.parameters())),
                Some(Some(parameters))
            );
        }
        Ok(())
    }
}

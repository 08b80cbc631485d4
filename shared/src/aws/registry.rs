//! What registration does with devices and seeds, besides what a sign-in does.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};
use aws_sdk_secretsmanager::operation::delete_secret::DeleteSecretError;
use aws_sdk_secretsmanager::operation::delete_secret::builders::DeleteSecretFluentBuilder;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use aws_sdk_secretsmanager::types::Tag;
use zeroize::Zeroizing;

use super::attributes::{Item, corrupt, number, text};
use super::auths::DynamoAuths;
use super::conditional::{Outcome, unavailable};
use super::devices::{DynamoDevices, if_held, names_seed};
use super::items::{
    self, ACTIVATE_BY, PENDING_SEALED, PENDING_SEED_REF, PENDING_UNTIL, PK, SEALED, SEED_REF, STATUS, VERSION,
};
use super::seeds::{self, SecretText, SecretsManagerSeeds};
use crate::clock::{Clock, Timestamp};
use crate::device::{Device, DeviceRecord, PendingSeed, RegisteredBy, Registration, Status};
use crate::error::StoreError;
use crate::names::{AuthId, DeviceKey, Owner, SealedId, SecretVersion, SeedRef, UserName};
use crate::otp::Seed;
use crate::ports::registry::{ActivationStore, DevicePage, DeviceRegistry, Removed, SeedRegistry, Unreadable};
use crate::ports::{Stored, Written};
use crate::registration::Activation;
use crate::sealed::{SealedSeed, SeedStorage};

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
        owner: &Owner,
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
            .expression_attribute_values(":pk", text(items::user_partition(owner, user)))
            .set_exclusive_start_key(start_key(after))
            .limit(limit.into())
            .consistent_read(true)
            .send();
        let found = query.await.map_err(|error| unavailable("Query devices", &error))?;
        device_page(found.items, found.last_evaluated_key.as_ref())
    }

    async fn register(
        &self,
        key: &DeviceKey,
        device: &Device,
        registration: &Registration,
    ) -> Result<Stored, StoreError> {
        let item = items::registered(key, device, registration);
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
            Written::No(_) | Written::NotPending => Ok(Stored::Taken),
        }
    }

    async fn reseed(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        by: RegisteredBy,
        activate_by: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        let mut attributes = items::device(new);
        attributes.extend(items::registered_by(by, activate_by));
        let mut removed = vec![PENDING_SEED_REF, PENDING_UNTIL, PENDING_SEALED];
        if activate_by.is_none() {
            removed.push(ACTIVATE_BY);
        }
        if new.sealed.is_none() {
            removed.push(SEALED);
        }
        match self.update_if(key, if_held(held), attributes, None, &removed).await? {
            // A seed's name is random: that the device has it can only be this call's own repeated write.
            Outcome::Refused(Some(stored)) if names_seed(&stored, SEED_REF, &new.seed_ref) => Ok(Written::Yes),
            outcome => outcome.written(),
        }
    }

    async fn remove_seeded(&self, key: &DeviceKey, seed: &SeedRef) -> Result<Removed, StoreError> {
        let [(pk, pk_value), (sk, sk_value)] = items::device_key(key);
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(pk, pk_value)
            .key(sk, sk_value)
            .condition_expression("#seedRef = :seedRef AND #status <> :disabled")
            .expression_attribute_names("#seedRef", SEED_REF)
            .expression_attribute_names("#status", STATUS)
            .expression_attribute_values(":seedRef", text(seed.to_string()))
            .expression_attribute_values(":disabled", text(Status::Disabled.as_str()))
            .return_values(ReturnValue::AllOld)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let removed = delete.as_ref().ok().and_then(|output| output.attributes.clone());
        let record = |item: &Item| items::read_record(item).map(Box::new);
        Ok(match Outcome::new("DeleteItem devices", delete)? {
            Outcome::Done => {
                let removed = removed.ok_or(corrupt("no item with a successful removal"))?;
                Removed::Yes(record(&removed)?)
            }
            Outcome::Refused(stored) => Removed::No(stored.as_ref().map(record).transpose()?),
        })
    }

    async fn set_pending_seed(
        &self,
        key: &DeviceKey,
        held: &Device,
        pending: &PendingSeed,
    ) -> Result<Written, StoreError> {
        let set = items::pending(held.version.saturating_add(1), pending);
        // An earlier pending seed may have been sealed.
        let removed: &[_] = if pending.sealed.is_none() {
            &[PENDING_SEALED]
        } else {
            &[]
        };
        let stored = match self.update_if(key, if_held(held), set, None, removed).await? {
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
            .condition_expression("#version = :version AND #seedRef = :seedRef")
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_names("#seedRef", SEED_REF)
            .expression_attribute_values(":version", number(held.version))
            .expression_attribute_values(":seedRef", text(held.seed_ref.to_string()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send();
        Outcome::new("DeleteItem devices", delete.await)?.written()
    }
}

impl ActivationStore for DynamoAuths {
    async fn create(&self, activation: &Activation) -> Result<Stored, StoreError> {
        let item = items::activation(activation);
        let Some(taken) = self.put_new(item).await? else {
            return Ok(Stored::Yes);
        };
        let taken = items::read_activation(&taken)?;
        // This call's own repeated write: its response was lost.
        let own = taken.key == activation.key && taken.issued_at == activation.issued_at;
        Ok(if own { Stored::Yes } else { Stored::Taken })
    }

    async fn get(&self, id: AuthId) -> Result<Option<Activation>, StoreError> {
        let found = self.item(items::activation_key(id)).await?;
        found.as_ref().map(items::read_activation).transpose()
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

    /// How new seeds are kept.
    #[must_use]
    pub const fn keeping(mut self, storage: SeedStorage) -> Self {
        self.storage = storage;
        self
    }

    /// New seeds have these tags.
    #[must_use]
    pub fn tagged_with(mut self, tags: &BTreeMap<String, String>) -> Self {
        let tags = tags
            .iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build());
        self.tags = Some(tags.collect::<Vec<_>>()).filter(|tags| !tags.is_empty());
        self
    }

    /// Whether a secret was deleted before.
    async fn is_deleted(&self, seed: &SecretVersion) -> Result<bool, StoreError> {
        let describe = self.client.describe_secret().secret_id(seed.name()).send();
        let described = describe
            .await
            .map_err(|error| seeds::unavailable("DescribeSecret", &error))?;
        Ok(described.deleted_date.is_some())
    }

    /// Sends a deletion; a secret that does not exist any more is no error.
    pub(super) async fn delete(
        &self,
        seed: &SecretVersion,
        delete: DeleteSecretFluentBuilder,
    ) -> Result<(), StoreError> {
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
    fn storage(&self) -> SeedStorage {
        self.storage
    }

    async fn read(
        &self,
        key: &DeviceKey,
        seed: &SeedRef,
        sealed: Option<&SealedSeed>,
    ) -> Result<Option<Seed>, StoreError> {
        let seed = match seed {
            SeedRef::Sealed(id) => return self.open(key, *id, sealed).await.map(Some),
            SeedRef::Secret(seed) => seed,
        };
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

    async fn seal(&self, key: &DeviceKey, id: SealedId, seed: &Seed) -> Result<SealedSeed, StoreError> {
        let ring = self.key_ring()?.newest().await?;
        ring.seal(key, id, seed)
    }

    async fn create(&self, name: &str, seed: &Seed) -> Result<SecretVersion, StoreError> {
        let text = SecretText::write(seed).ok_or(seeds::corrupt("a seed that cannot be written"))?;
        let create = self
            .client
            .create_secret()
            .name(name)
            .secret_string(text.as_str())
            .set_kms_key_id(self.kms_key.clone())
            .set_tags(self.tags.clone())
            .send();
        let created = create
            .await
            .map_err(|error| seeds::unavailable("CreateSecret", &error))?;
        let version = created
            .version_id
            .ok_or(seeds::corrupt("a secret without a version id"))?;
        SecretVersion::new(name, &version).map_err(|_| seeds::corrupt("a secret's name or version id"))
    }

    async fn remove(&self, seed: &SecretVersion) -> Result<(), StoreError> {
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

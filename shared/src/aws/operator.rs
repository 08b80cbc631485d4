//! What an operator's tool does with devices and seeds, besides what registration does.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::ReturnValue;
use aws_sdk_secretsmanager::operation::describe_secret::{DescribeSecretError, DescribeSecretOutput};
use aws_sdk_secretsmanager::primitives::DateTime;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, SecretListEntry};

use super::attributes::{item, number, text};
use super::conditional::{Outcome, unavailable};
use super::devices::{DynamoDevices, if_held, names_seed};
use super::items::{self, PENDING_SEALED, PENDING_SEED_REF, PENDING_UNTIL, PK, SEALED, SEED_REF, VERSION};
use super::registry::{device_page, start_key};
use super::seeds::{self, SecretsManagerSeeds, corrupt};
use crate::clock::{Clock, Timestamp};
use crate::device::DeviceRecord;
use crate::error::StoreError;
use crate::names::{DeviceKey, SecretVersion};
use crate::ports::Written;
use crate::ports::operator::{DeviceFilter, DeviceInventory, SeedInventory, SeedPage, SeedSummary};
use crate::ports::registry::{DevicePage, DeviceRegistry as _};
use crate::registration::StoredSeed;

/// The most that Secrets Manager lists in one call.
const LONGEST_LIST: i32 = 100;

impl DeviceInventory for DynamoDevices {
    async fn page(
        &self,
        filter: &DeviceFilter,
        after: Option<&DeviceKey>,
        limit: u16,
    ) -> Result<DevicePage, StoreError> {
        let prefix = match filter {
            DeviceFilter::User(owner, user) => return self.user_page(owner, user, after, limit).await,
            DeviceFilter::Owner(owner) => Some(items::owner_prefix(owner)),
            DeviceFilter::All => None,
        };
        let mut scan = self
            .client
            .scan()
            .table_name(&self.table)
            .set_exclusive_start_key(start_key(after))
            .limit(limit.into())
            .consistent_read(true);
        if let Some(prefix) = prefix {
            scan = scan
                .filter_expression("begins_with(#pk, :prefix)")
                .expression_attribute_names("#pk", PK)
                .expression_attribute_values(":prefix", text(prefix));
        }
        let found = scan.send().await.map_err(|error| unavailable("Scan devices", &error))?;
        device_page(found.items, found.last_evaluated_key.as_ref())
    }

    async fn remove(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        let [(pk, pk_value), (sk, sk_value)] = items::device_key(key);
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(pk, pk_value)
            .key(sk, sk_value)
            .return_values(ReturnValue::AllOld)
            .send();
        let removed = delete
            .await
            .map_err(|error| unavailable("DeleteItem devices", &error))?;
        removed.attributes.as_ref().map(items::read_record).transpose()
    }

    async fn reseal(&self, held: &DeviceRecord, new: &DeviceRecord) -> Result<Written, StoreError> {
        let conditions = [
            (SEED_REF, Some(text(held.device.seed_ref.to_string()))),
            (SEALED, held.device.sealed.as_ref().map(items::blob)),
            (PENDING_SEALED, held.pending_sealed().map(items::blob)),
        ];
        let own = items::sealed(SEALED, new.device.sealed.as_ref());
        let pending = items::sealed(PENDING_SEALED, new.pending_sealed());
        let set = own.into_iter().chain(pending);
        let stored = match self.update_if(&held.key, conditions, set, None, &[]).await? {
            Outcome::Done => return Ok(Written::Yes),
            Outcome::Refused(None) => return Ok(Written::No(None)),
            Outcome::Refused(Some(stored)) => items::read_record(&stored)?,
        };
        // Sealed with random nonces: that the device has it can only be this call's own repeated write.
        let own = stored.device.sealed == new.device.sealed && stored.pending_sealed() == new.pending_sealed();
        Ok(if own {
            Written::Yes
        } else {
            Written::No(Some(Box::new(stored.device)))
        })
    }

    async fn move_seed(&self, held: &DeviceRecord, new: &StoredSeed) -> Result<Written, StoreError> {
        let pending = held.pending.as_ref().map(|pending| text(pending.seed_ref.to_string()));
        let conditions = if_held(&held.device).into_iter().chain([(PENDING_SEED_REF, pending)]);
        let mut set = item([
            (VERSION, number(held.device.version.saturating_add(1))),
            (SEED_REF, text(new.seed_ref.to_string())),
        ]);
        set.extend(items::sealed(SEALED, new.sealed.as_ref()));
        let mut removed = vec![PENDING_SEED_REF, PENDING_UNTIL, PENDING_SEALED];
        if new.sealed.is_none() {
            removed.push(SEALED);
        }
        match self.update_if(&held.key, conditions, set, None, &removed).await? {
            // A seed's name is random: that the device has it can only be this call's own repeated write.
            Outcome::Refused(Some(stored)) if names_seed(&stored, SEED_REF, &new.seed_ref) => Ok(Written::Yes),
            outcome => outcome.written(),
        }
    }
}

impl<C: Clock> SeedInventory for SecretsManagerSeeds<C> {
    async fn page(&self, prefix: &str, after: Option<&str>) -> Result<SeedPage, StoreError> {
        // The filter compares beginnings on AWS, but any part of a name in emulators, so names are compared here again.
        let names = Filter::builder().key(FilterNameStringType::Name).values(prefix).build();
        let list = self
            .client
            .list_secrets()
            .filters(names)
            .include_planned_deletion(true)
            .max_results(LONGEST_LIST)
            .set_next_token(after.map(str::to_owned))
            .send();
        let listed = list.await.map_err(|error| seeds::unavailable("ListSecrets", &error))?;
        let has_prefix = |entry: &&SecretListEntry| entry.name().is_none_or(|name| name.starts_with(prefix));
        let seeds = listed.secret_list().iter().filter(has_prefix).map(list_entry);
        let seeds = seeds.collect::<Result<_, _>>()?;
        Ok(SeedPage {
            seeds,
            next: listed.next_token,
        })
    }

    async fn describe(&self, name: &str) -> Result<Option<SeedSummary>, StoreError> {
        let error = match self.client.describe_secret().secret_id(name).send().await {
            Ok(found) => return description(name, &found).map(Some),
            Err(error) => error,
        };
        match error.as_service_error() {
            Some(DescribeSecretError::ResourceNotFoundException(_)) => Ok(None),
            _ => Err(seeds::unavailable("DescribeSecret", &error)),
        }
    }

    async fn purge(&self, seed: &SecretVersion) -> Result<(), StoreError> {
        let delete = self.client.delete_secret().force_delete_without_recovery(true);
        self.delete(seed, delete).await
    }

    async fn restore(&self, name: &str) -> Result<(), StoreError> {
        let restored = self.client.restore_secret().secret_id(name).send().await;
        match restored {
            Ok(_) => Ok(()),
            Err(error) => Err(seeds::unavailable("RestoreSecret", &error)),
        }
    }
}

fn list_entry(entry: &SecretListEntry) -> Result<SeedSummary, StoreError> {
    Ok(SeedSummary {
        name: entry.name().ok_or(corrupt("a secret without a name"))?.to_owned(),
        versions: readable_versions(entry.secret_versions_to_stages()),
        created_at: whole_seconds(entry.created_date()).ok_or(corrupt("a secret without a date"))?,
        removed: entry.deleted_date().is_some(),
    })
}

fn description(name: &str, described: &DescribeSecretOutput) -> Result<SeedSummary, StoreError> {
    Ok(SeedSummary {
        name: name.to_owned(),
        versions: readable_versions(described.version_ids_to_stages()),
        created_at: whole_seconds(described.created_date()).ok_or(corrupt("a secret without a date"))?,
        removed: described.deleted_date().is_some(),
    })
}

/// Those with a staging label; Secrets Manager may delete the others at any time.
fn readable_versions(versions: Option<&HashMap<String, Vec<String>>>) -> Vec<String> {
    let labelled = versions.into_iter().flatten().filter(|(_, stages)| !stages.is_empty());
    labelled.map(|(version, _)| version.clone()).collect()
}

pub(super) fn whole_seconds(date: Option<&DateTime>) -> Option<Timestamp> {
    u64::try_from(date?.secs()).ok().map(Timestamp::from_secs)
}

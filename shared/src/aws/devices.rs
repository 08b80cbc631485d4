//! Devices in `DynamoDB`: one item each, every change a conditional write on version and seed.

use std::error::Error;
use std::fmt::Write as _;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{ReturnValue, ReturnValuesOnConditionCheckFailure};

use super::items::{
    self, CREATED_AT, Item, LAST_USED_AT, LAST_WRITE, PENDING_SEED_REF, PENDING_UNTIL, PK, SEED_REF, VERSION,
};
use super::sdk::said;
use crate::clock::Timestamp;
use crate::device::{Device, DeviceRecord, PendingSeed};
use crate::error::StoreError;
use crate::names::{ClientId, DeviceKey, DeviceName, UserName};
use crate::ports::{DeviceRegistry, DeviceStore, Of, Page, Stored, Written};

pub(super) const STORE: &str = "dynamodb";

pub(super) fn unavailable<E: ProvideErrorMetadata + Error + 'static>(
    operation: &'static str,
    error: &SdkError<E>,
) -> StoreError {
    StoreError::Unavailable {
        store: STORE,
        operation,
        source: said(error),
    }
}

/// The table of devices.
#[derive(Debug, Clone)]
pub struct DynamoDevices {
    client: Client,
    table: String,
}

impl DynamoDevices {
    /// The table by a name.
    #[must_use]
    pub fn new(client: &Client, table: String) -> Self {
        Self {
            client: client.clone(),
            table,
        }
    }

    /// Opens a connection by reading an item that is not there. It does not matter whether it succeeds.
    pub async fn warm_up(&self) {
        let names = (ClientId::parse("-"), UserName::parse("-"), DeviceName::parse("-"));
        if let (Ok(client), Ok(user), Ok(device)) = names {
            let _ = self.get(&DeviceKey { client, user, device }).await;
        }
    }
}

impl DeviceStore for DynamoDevices {
    async fn get(&self, key: &DeviceKey) -> Result<Option<Device>, StoreError> {
        self.item(key).await?.as_ref().map(items::read_device).transpose()
    }

    async fn replace(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        used_at: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        let [(pk, pk_value), (sk, sk_value)] = items::device_key(key);
        let swaps = new.seed_ref != held.seed_ref;
        let mut attributes = items::device(new);
        if let Some(used_at) = used_at {
            attributes.insert(LAST_USED_AT.to_owned(), items::number(used_at.as_secs()));
        }
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(pk, pk_value)
            .key(sk, sk_value)
            .condition_expression(if swaps { IF_HELD_AND_PENDING } else { IF_HELD })
            .expression_attribute_values(":heldVersion", items::number(held.version))
            .expression_attribute_values(":heldSeedRef", items::text(held.seed_ref.to_string()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        // Several attribute names are reserved words, so all go by placeholders: `#version = :version`.
        let mut assignments = String::from("SET ");
        for (position, (name, value)) in attributes.into_iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            // Writing to a string does not fail.
            let _ = write!(assignments, "{separator}#{name} = :{name}");
            update = update
                .expression_attribute_values(format!(":{name}"), value)
                .expression_attribute_names(format!("#{name}"), name);
        }
        let without_last_write = new.last_write.is_none().then_some(LAST_WRITE);
        let not_pending = swaps.then_some([PENDING_SEED_REF, PENDING_UNTIL]);
        let removed = without_last_write.into_iter().chain(not_pending.into_iter().flatten());
        for (position, name) in removed.enumerate() {
            let separator = if position == 0 { " REMOVE " } else { ", " };
            let _ = write!(assignments, "{separator}#{name}");
            update = update.expression_attribute_names(format!("#{name}"), name);
        }
        let Err(error) = update.update_expression(assignments).send().await else {
            return Ok(Written::Yes);
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => not_written(failed.item.as_ref()),
            _ => Err(unavailable("UpdateItem devices", &error)),
        }
    }
}

/// What a write means whose condition was not met: what is there instead.
fn not_written(found: Option<&Item>) -> Result<Written, StoreError> {
    let stored = found.map(items::read_device).transpose()?;
    Ok(Written::No(stored.map(Box::new)))
}

/// What every write needs: the state that was read, by its version and its seed.
const IF_HELD: &str = "#version = :heldVersion AND #seedRef = :heldSeedRef";
/// And what a new seed needs: that it is the pending one.
const IF_HELD_AND_PENDING: &str = "#version = :heldVersion AND #seedRef = :heldSeedRef AND #pendingSeedRef = :seedRef";

impl DynamoDevices {
    async fn item(&self, key: &DeviceKey) -> Result<Option<Item>, StoreError> {
        let [(pk, pk_value), (sk, sk_value)] = items::device_key(key);
        let get = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(pk, pk_value)
            .key(sk, sk_value)
            .consistent_read(true)
            .send();
        let found = get.await.map_err(|error| unavailable("GetItem devices", &error))?;
        Ok(found.item)
    }

    async fn query(
        &self,
        partition: String,
        start: Option<Item>,
        most: u16,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("#pk = :pk")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_values(":pk", items::text(partition))
            .set_exclusive_start_key(start)
            .limit(most.into())
            .consistent_read(true);
        let found = query
            .send()
            .await
            .map_err(|error| unavailable("Query devices", &error))?;
        Ok((found.items.unwrap_or_default(), found.last_evaluated_key))
    }

    async fn scan(
        &self,
        prefix: Option<String>,
        start: Option<Item>,
        most: u16,
    ) -> Result<(Vec<Item>, Option<Item>), StoreError> {
        let mut scan = self
            .client
            .scan()
            .table_name(&self.table)
            .set_exclusive_start_key(start)
            .limit(most.into())
            .consistent_read(true);
        if let Some(prefix) = prefix {
            scan = scan
                .filter_expression("begins_with(#pk, :prefix)")
                .expression_attribute_names("#pk", PK)
                .expression_attribute_values(":prefix", items::text(prefix));
        }
        let found = scan.send().await.map_err(|error| unavailable("Scan devices", &error))?;
        Ok((found.items.unwrap_or_default(), found.last_evaluated_key))
    }
}

impl DeviceRegistry for DynamoDevices {
    async fn record(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        self.item(key).await?.as_ref().map(items::read_record).transpose()
    }

    async fn page(&self, of: &Of, after: Option<&DeviceKey>, most: u16) -> Result<Page, StoreError> {
        let start = after.map(|key| {
            items::device_key(key)
                .map(|(name, value)| (name.to_owned(), value))
                .into()
        });
        let (found, last) = match of {
            Of::All => self.scan(None, start, most).await?,
            Of::Client(client) => self.scan(Some(items::of_client(client)), start, most).await?,
            Of::User(client, user) => self.query(items::of_user(client, user), start, most).await?,
        };
        Ok(Page {
            records: found.iter().map(items::read_record).collect(),
            next: last.as_ref().map(items::read_device_key).transpose()?,
        })
    }

    async fn offer_seed(&self, key: &DeviceKey, held: &Device, pending: &PendingSeed) -> Result<Written, StoreError> {
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
        let Err(error) = update.send().await else {
            return Ok(Written::Yes);
        };
        let stored = match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => failed.item.as_ref(),
            _ => return Err(unavailable("UpdateItem devices", &error)),
        };
        let Some(stored) = stored else {
            return Ok(Written::No(None));
        };
        let record = items::read_record(stored)?;
        // A seed's name is random: that it is pending can only be this call's own repeated write.
        let own = record.pending.is_some_and(|named| named.seed_ref == pending.seed_ref);
        Ok(if own {
            Written::Yes
        } else {
            Written::No(Some(Box::new(record.device)))
        })
    }

    async fn register(&self, key: &DeviceKey, device: &Device, created_at: Timestamp) -> Result<Stored, StoreError> {
        let mut item = items::device(device);
        item.extend(items::device_key(key).map(|(name, value)| (name.to_owned(), value)));
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
        let Err(error) = put.await else {
            return Ok(Stored::Yes);
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                // The random version tells this call's own repeated write from another registration.
                let stored = failed.item.as_ref().map(items::read_device).transpose()?;
                Ok(if stored.as_ref() == Some(device) {
                    Stored::Yes
                } else {
                    Stored::Taken
                })
            }
            _ => Err(unavailable("PutItem devices", &error)),
        }
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
        let Err(error) = delete.await else {
            return Ok(Written::Yes);
        };
        match error.as_service_error() {
            Some(DeleteItemError::ConditionalCheckFailedException(failed)) => not_written(failed.item.as_ref()),
            _ => Err(unavailable("DeleteItem devices", &error)),
        }
    }
}

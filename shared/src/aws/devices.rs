//! Devices in `DynamoDB`: one item each, every change a conditional write on version and seed.

use std::error::Error;
use std::fmt::Write as _;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;

use super::items::{self, CREATED_AT, LAST_USED_AT, LAST_WRITE, PK};
use super::sdk::SdkMessage;
use crate::clock::Timestamp;
use crate::device::Device;
use crate::error::StoreError;
use crate::names::{ClientId, DeviceKey, DeviceName, UserName};
use crate::ports::{DeviceRegistry, DeviceStore, Stored, Written};

pub(super) const STORE: &str = "dynamodb";

pub(super) fn unavailable<E: ProvideErrorMetadata + Error + 'static>(
    operation: &'static str,
    error: &SdkError<E>,
) -> StoreError {
    StoreError::Unavailable {
        store: STORE,
        operation,
        source: Box::new(SdkMessage::of(error)),
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
        found.item.as_ref().map(items::read_device).transpose()
    }

    async fn replace(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        used_at: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        let [(pk, pk_value), (sk, sk_value)] = items::device_key(key);
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
            .condition_expression("#version = :heldVersion AND #seedRef = :heldSeedRef")
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
        if new.last_write.is_none() {
            let _ = write!(assignments, " REMOVE #{LAST_WRITE}");
            update = update.expression_attribute_names(format!("#{LAST_WRITE}"), LAST_WRITE);
        }
        let Err(error) = update.update_expression(assignments).send().await else {
            return Ok(Written::Yes);
        };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                let stored = failed.item.as_ref().map(items::read_device).transpose()?;
                Ok(Written::No(stored.map(Box::new)))
            }
            _ => Err(unavailable("UpdateItem devices", &error)),
        }
    }
}

impl DeviceRegistry for DynamoDevices {
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

    async fn remove(&self, key: &DeviceKey) -> Result<(), StoreError> {
        let [(pk, pk_value), (sk, sk_value)] = items::device_key(key);
        let delete = self
            .client
            .delete_item()
            .table_name(&self.table)
            .key(pk, pk_value)
            .key(sk, sk_value)
            .send();
        delete
            .await
            .map(|_| ())
            .map_err(|error| unavailable("DeleteItem devices", &error))
    }
}

//! Devices in `DynamoDB`: one item each, every change a conditional write on version and seed.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::ReturnValuesOnConditionCheckFailure;

use super::attributes::{Item, number, text};
use super::conditional::{Outcome, unavailable};
use super::items::{self, LAST_USED_AT, PENDING_SEED_REF, PENDING_UNTIL, SEED_REF};
use crate::clock::Timestamp;
use crate::device::Device;
use crate::error::StoreError;
use crate::names::{ClientId, DeviceKey, DeviceName, UserName};
use crate::ports::{DeviceStore, Written};

/// What every write needs: the state that was read, by its version and its seed.
pub(super) const IF_HELD: &str = "#version = :heldVersion AND #seedRef = :heldSeedRef";
/// And what a new seed needs: that it is the pending one.
const IF_HELD_AND_PENDING: &str = "#version = :heldVersion AND #seedRef = :heldSeedRef AND #pendingSeedRef = :seedRef";

/// The table of devices.
#[derive(Debug, Clone)]
pub struct DynamoDevices {
    pub(super) client: Client,
    pub(super) table: String,
}

impl DynamoDevices {
    /// The table with this name.
    #[must_use]
    pub fn new(client: &Client, table: String) -> Self {
        Self {
            client: client.clone(),
            table,
        }
    }

    /// Opens a connection by reading an item that does not exist. Its result does not matter.
    pub async fn warm_up(&self) {
        let names = (ClientId::parse("-"), UserName::parse("-"), DeviceName::parse("-"));
        if let (Ok(client), Ok(user), Ok(device)) = names {
            let _ = self.get(&DeviceKey { client, user, device }).await;
        }
    }

    pub(super) async fn item(&self, key: &DeviceKey) -> Result<Option<Item>, StoreError> {
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
        let mut attributes = items::changing(new);
        let identity = items::identity(new);
        if identity != items::identity(held) {
            attributes.extend(identity);
        }
        if let Some(used_at) = used_at {
            attributes.insert(LAST_USED_AT.to_owned(), number(used_at.as_secs()));
        }
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(pk, pk_value)
            .key(sk, sk_value)
            .condition_expression(if swaps { IF_HELD_AND_PENDING } else { IF_HELD })
            .expression_attribute_names("#seedRef", SEED_REF)
            .expression_attribute_values(":heldVersion", number(held.version))
            .expression_attribute_values(":heldSeedRef", text(held.seed_ref.to_string()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        // Several attribute names are reserved words, so all go by placeholders: `#version = :version`.
        let mut assignments = Vec::with_capacity(attributes.len());
        for (name, value) in attributes {
            assignments.push(format!("#{name} = :{name}"));
            update = update
                .expression_attribute_values(format!(":{name}"), value)
                .expression_attribute_names(format!("#{name}"), name);
        }
        let mut expression = format!("SET {}", assignments.join(", "));
        if swaps {
            expression.push_str(" REMOVE #pendingSeedRef, #pendingUntil");
            update = update
                .expression_attribute_names("#pendingSeedRef", PENDING_SEED_REF)
                .expression_attribute_names("#pendingUntil", PENDING_UNTIL);
        }
        let written = update.update_expression(expression).send().await;
        Outcome::new("UpdateItem devices", written)?.written()
    }
}

//! Devices in `DynamoDB`: one item each, every change a conditional write on version and seed.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};

use super::attributes::{Item, number, text};
use super::conditional::{Outcome, unavailable};
use super::items::{
    self, ACTIVATE_BY, LAST_USED_AT, PENDING_SEALED, PENDING_SEED_REF, PENDING_UNTIL, SEALED, SEED_REF, VERSION,
};
use crate::clock::Timestamp;
use crate::device::{Device, Status};
use crate::error::StoreError;
use crate::names::{ClientId, DeviceKey, DeviceName, SeedRef, UserName};
use crate::ports::{DeviceStore, Written};

/// What a write needs: that an attribute has this value, or that there is none.
pub(super) type Condition = (&'static str, Option<AttributeValue>);

/// What every write of a state needs: the state that was read, by its version and its seed.
pub(super) fn if_held(held: &Device) -> [Condition; 2] {
    [
        (VERSION, Some(number(held.version))),
        (SEED_REF, Some(text(held.seed_ref.to_string()))),
    ]
}

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
            let _ = self
                .get(&DeviceKey {
                    owner: client.into(),
                    user,
                    device,
                })
                .await;
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

impl DynamoDevices {
    /// Sets, moves (from one name to another) and removes attributes of a device that meets the conditions, at least one.
    pub(super) async fn update_if(
        &self,
        key: &DeviceKey,
        conditions: impl IntoIterator<Item = Condition> + Send,
        set: impl IntoIterator<Item = (String, AttributeValue)> + Send,
        moved: Option<(&str, &str)>,
        removed: &[&str],
    ) -> Result<Outcome, StoreError> {
        let [(pk, pk_value), (sk, sk_value)] = items::device_key(key);
        let update = self.client.update_item().table_name(&self.table);
        let mut update = update.key(pk, pk_value).key(sk, sk_value);
        // Several attribute names are reserved words, so all go by placeholders: `#version = :version`.
        let mut needed = Vec::new();
        for (name, value) in conditions {
            update = update.expression_attribute_names(format!("#{name}"), name);
            needed.push(match value {
                None => format!("attribute_not_exists(#{name})"),
                Some(value) => {
                    update = update.expression_attribute_values(format!(":held_{name}"), value);
                    format!("#{name} = :held_{name}")
                }
            });
        }
        let mut assignments = Vec::new();
        for (name, value) in set {
            assignments.push(format!("#{name} = :{name}"));
            update = update
                .expression_attribute_values(format!(":{name}"), value)
                .expression_attribute_names(format!("#{name}"), name);
        }
        if let Some((from, to)) = moved {
            assignments.push(format!("#{to} = #{from}"));
            update = update.expression_attribute_names(format!("#{to}"), to);
        }
        let mut expression = format!("SET {}", assignments.join(", "));
        let removed = removed.iter().copied().chain(moved.map(|(from, _)| from));
        for (position, name) in removed.enumerate() {
            expression.push_str(if position == 0 { " REMOVE #" } else { ", #" });
            expression.push_str(name);
            update = update.expression_attribute_names(format!("#{name}"), name);
        }
        let update = update
            .update_expression(expression)
            .condition_expression(needed.join(" AND "))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send();
        Outcome::new("UpdateItem devices", update.await)
    }
}

/// Whether an item names this seed in an attribute.
pub(super) fn names_seed(item: &Item, attribute: &str, seed: &SeedRef) -> bool {
    let stored = item.get(attribute).and_then(|value| value.as_s().ok());
    stored.is_some_and(|stored| *stored == seed.to_string())
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
        let swaps = new.seed_ref != held.seed_ref;
        let mut attributes = items::changing(new);
        let identity = items::identity(new);
        if identity != items::identity(held) {
            attributes.extend(identity);
        }
        if let Some(used_at) = used_at {
            attributes.insert(LAST_USED_AT.to_owned(), number(used_at.as_secs()));
        }
        // An activation ends the time that the device had for it; a swap, that its seed is pending.
        let mut removed = Vec::new();
        if held.status == Status::ActivationRequired && new.status != held.status {
            removed.push(ACTIVATE_BY);
        }
        let mut moved = None;
        if swaps {
            removed.extend([PENDING_SEED_REF, PENDING_UNTIL]);
            match (&new.seed_ref, &held.seed_ref) {
                (SeedRef::Sealed(_), _) => moved = Some((PENDING_SEALED, SEALED)),
                (SeedRef::Secret(_), SeedRef::Sealed(_)) => removed.push(SEALED),
                (SeedRef::Secret(_), SeedRef::Secret(_)) => {}
            }
        }
        // A new seed must be the pending one too.
        let pending = swaps.then(|| (PENDING_SEED_REF, Some(text(new.seed_ref.to_string()))));
        let conditions = if_held(held).into_iter().chain(pending);
        match self.update_if(key, conditions, attributes, moved, &removed).await? {
            Outcome::Refused(Some(stored))
                if swaps
                    && names_seed(&stored, SEED_REF, &held.seed_ref)
                    && !names_seed(&stored, PENDING_SEED_REF, &new.seed_ref) =>
            {
                Ok(Written::NotPending)
            }
            outcome => outcome.written(),
        }
    }
}

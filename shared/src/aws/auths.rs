//! Auths in `DynamoDB`: one item each, written once, deleted by TTL some time after it expired.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};

use super::attributes::{Item, corrupt, text};
use super::conditional::{Outcome, unavailable};
use super::items::{self, PK};
use crate::device::Auth;
use crate::error::StoreError;
use crate::names::AuthId;
use crate::ports::{AuthStore, Stored};

/// The table of auths.
#[derive(Debug, Clone)]
pub struct DynamoAuths {
    client: Client,
    table: String,
}

impl DynamoAuths {
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
        let _ = AuthStore::get(self, AuthId::from_bytes([0; 16])).await;
    }

    /// Puts an item under a free key; what is there if it is taken.
    pub(super) async fn put_new(&self, item: Item) -> Result<Option<Item>, StoreError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send();
        match Outcome::new("PutItem auths", put.await)? {
            Outcome::Done => Ok(None),
            Outcome::Refused(item) => item.map(Some).ok_or(corrupt("no item with a failed condition")),
        }
    }

    pub(super) async fn item(&self, pk: AttributeValue) -> Result<Option<Item>, StoreError> {
        let get = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(PK, pk)
            .consistent_read(true)
            .send();
        let found = get.await.map_err(|error| unavailable("GetItem auths", &error))?;
        Ok(found.item)
    }
}

impl AuthStore for DynamoAuths {
    async fn create(&self, auth: &Auth) -> Result<Stored, StoreError> {
        let Some(taken) = self.put_new(items::auth(auth)).await? else {
            return Ok(Stored::Yes);
        };
        let taken = items::read_auth(&taken)?;
        // This call's own repeated write: its response was lost.
        let own = taken.key == auth.key && taken.issued_at == auth.issued_at;
        Ok(if own { Stored::Yes } else { Stored::Taken })
    }

    async fn get(&self, id: AuthId) -> Result<Option<Auth>, StoreError> {
        let found = self.item(text(id.to_string())).await?;
        found.as_ref().map(items::read_auth).transpose()
    }
}

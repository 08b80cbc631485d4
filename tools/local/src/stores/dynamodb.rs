//! `DynamoDB` on one machine: the database, in memory or in a file, and the template's tables.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TimeToLiveSpecification,
};
use shared::clock::Clock as _;

use crate::clock::LocalClock;
use crate::files::{DataDir, create_private};
use crate::template::Table;

const DATABASE_FILE: &str = "dynamodb.sqlite";

/// The stack's clock for the database, which needs it only to decide what a TTL sweep deletes.
struct StoreClock(Arc<LocalClock>);

impl dynoxide::storage_backend::Clock for StoreClock {
    fn now_unix_secs(&self) -> u64 {
        self.0.now().as_secs()
    }

    fn now_unix_secs_f64(&self) -> f64 {
        Duration::from_millis(self.0.now().as_millis()).as_secs_f64()
    }
}

pub(super) fn open(data_dir: Option<&Arc<DataDir>>, clock: &Arc<LocalClock>) -> Result<dynoxide::Database> {
    let database = match data_dir {
        Some(data_dir) => {
            let path = data_dir.path_of(DATABASE_FILE);
            // SQLite gives its other files the permissions of this one.
            create_private(&path)?;
            dynoxide::Database::new(path.to_str().context("the data directory's name is not Unicode")?)
        }
        None => dynoxide::Database::memory_with_clock(Arc::new(StoreClock(Arc::clone(clock)))),
    };
    database.map_err(|error| anyhow!("DynamoDB does not start: {error}"))
}

pub(super) async fn create_tables(client: &Client, tables: &[Table]) -> Result<()> {
    for table in tables {
        let attributes = table.attribute_definitions.iter().map(|attribute| {
            AttributeDefinition::builder()
                .attribute_name(&attribute.attribute_name)
                .attribute_type(ScalarAttributeType::from(attribute.attribute_type.as_str()))
                .build()
        });
        let key = table.key_schema.iter().map(|element| {
            KeySchemaElement::builder()
                .attribute_name(&element.attribute_name)
                .key_type(KeyType::from(element.key_type.as_str()))
                .build()
        });
        let create = client
            .create_table()
            .table_name(&table.name)
            .billing_mode(BillingMode::PayPerRequest)
            .set_attribute_definitions(Some(attributes.collect::<Result<_, _>>()?))
            .set_key_schema(Some(key.collect::<Result<_, _>>()?));
        match create.send().await {
            Ok(_) => {}
            // It is in the data directory.
            Err(SdkError::ServiceError(error))
                if matches!(error.err(), CreateTableError::ResourceInUseException(_)) =>
            {
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot create the table {}", table.name)),
        }
        if let Some(attribute) = table.ttl_attribute() {
            let ttl = TimeToLiveSpecification::builder()
                .attribute_name(attribute)
                .enabled(true)
                .build()?;
            client
                .update_time_to_live()
                .table_name(&table.name)
                .time_to_live_specification(ttl)
                .send()
                .await?;
        }
    }
    Ok(())
}

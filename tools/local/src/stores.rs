//! `DynamoDB` and Secrets Manager on one machine, in memory or in a data directory, with the template's tables.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TimeToLiveSpecification,
};
use shared::aws::sdk::Clients;

use crate::clock::{LocalClock, StoreClock};
use crate::files::{DataDir, create_private};
use crate::host::{Host, bind};
use crate::secrets_front;
use crate::template::{OF_THIS_CHECKOUT, Table, Template};

const DATABASE_FILE: &str = "dynamodb.sqlite";

/// Both stores, each with an HTTP endpoint on loopback. They can outlive the stacks that use them.
pub struct Stores {
    dynamodb_url: String,
    secrets_manager_url: String,
    database: dynoxide::Database,
    host: Host,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            dynamodb_url,
            secrets_manager_url,
            database: _,
            host: _,
        } = self;
        f.debug_struct("Stores")
            .field("dynamodb_url", dynamodb_url)
            .field("secrets_manager_url", secrets_manager_url)
            .finish_non_exhaustive()
    }
}

impl Stores {
    /// Starts both with empty tables, or with what the data directory holds. The clock only decides what
    /// [`Stores::sweep_expired`] deletes; `DynamoDB` in a file takes the machine's clock for that.
    ///
    /// # Errors
    /// If a store does not start or a table cannot be created.
    pub async fn start(data_dir: Option<Arc<DataDir>>, clock: &Arc<LocalClock>) -> Result<Self> {
        let template = Template::parse(OF_THIS_CHECKOUT)?;
        let host = Host::new("local-stores")?;
        let database = open_database(data_dir.as_ref(), clock)?;

        let (listener, port) = bind(0)?;
        let dynamodb_url = format!("http://127.0.0.1:{port}");
        let (stopped, served) = (host.stopped(), database.clone());
        host.serve(listener, |listener| async move {
            // It ends only on `stopped`.
            let _ = dynoxide::server::serve_with_shutdown(listener, served, stopped).await;
        })?;

        let (listener, port) = bind(0)?;
        let secrets_manager_url = format!("http://127.0.0.1:{port}");
        host.serve_router(listener, secrets_front::router(data_dir).await?)?;

        let clients = Clients::of_local_stores(&dynamodb_url, &secrets_manager_url);
        host.run(async move { create_tables(&clients.dynamodb, &template.tables).await })
            .await?;
        Ok(Self {
            dynamodb_url,
            secrets_manager_url,
            database,
            host,
        })
    }

    /// Where `DynamoDB` listens.
    #[must_use]
    pub fn dynamodb_url(&self) -> &str {
        &self.dynamodb_url
    }

    /// Where Secrets Manager listens.
    #[must_use]
    pub fn secrets_manager_url(&self) -> &str {
        &self.secrets_manager_url
    }

    /// Deletes expired items, as TTL does at some time within days, and says how many. Nothing else ever does.
    ///
    /// # Errors
    /// If the database fails.
    pub fn sweep_expired(&self) -> Result<usize> {
        self.database
            .sweep_ttl()
            .map_err(|error| anyhow!("the sweep failed: {error}"))
    }

    /// Stops both; nothing of them is left running. A second call does nothing.
    pub async fn shutdown(&self) {
        self.host.shutdown().await;
    }
}

fn open_database(data_dir: Option<&Arc<DataDir>>, clock: &Arc<LocalClock>) -> Result<dynoxide::Database> {
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

async fn create_tables(client: &Client, tables: &[Table]) -> Result<()> {
    for table in tables {
        let attributes = table.attributes.iter().map(|(name, kind)| {
            let kind = ScalarAttributeType::from(kind.as_str());
            AttributeDefinition::builder()
                .attribute_name(name)
                .attribute_type(kind)
                .build()
        });
        let key = table.key.iter().map(|(name, role)| {
            KeySchemaElement::builder()
                .attribute_name(name)
                .key_type(KeyType::from(role.as_str()))
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
            // The data directory has it.
            Err(SdkError::ServiceError(error))
                if matches!(error.err(), CreateTableError::ResourceInUseException(_)) =>
            {
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot create the table {}", table.name)),
        }
        if let Some(attribute) = &table.ttl_attribute {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn clients(stores: &Stores) -> Clients {
        Clients::of_local_stores(stores.dynamodb_url(), stores.secrets_manager_url())
    }

    #[tokio::test]
    async fn tables_and_secrets_outlive_a_restart() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let clock = Arc::new(LocalClock::running());
        let version = {
            let stores = Stores::start(Some(DataDir::open(folder.path())?), &clock).await?;
            let Clients {
                dynamodb,
                secrets_manager,
            } = clients(&stores);
            let created = secrets_manager
                .create_secret()
                .name("mfa/seed/00")
                .secret_string("a seed")
                .send()
                .await?;
            secrets_manager
                .create_secret()
                .name("mfa/seed/01")
                .secret_string("another")
                .send()
                .await?;
            secrets_manager.delete_secret().secret_id("mfa/seed/01").send().await?;
            let key = aws_sdk_dynamodb::types::AttributeValue::S("an auth".to_owned());
            dynamodb.put_item().table_name("Auths").item("pk", key).send().await?;
            stores.shutdown().await;
            created.version_id.context("no version")?
        };

        for entry in std::fs::read_dir(folder.path())? {
            let entry = entry?;
            let mode = entry.metadata()?.permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", entry.path().display());
        }

        let stores = Stores::start(Some(DataDir::open(folder.path())?), &clock).await?;
        let Clients {
            dynamodb,
            secrets_manager,
        } = clients(&stores);
        let found = secrets_manager
            .get_secret_value()
            .secret_id("mfa/seed/00")
            .version_id(version)
            .send()
            .await?;
        assert_eq!(found.secret_string.as_deref(), Some("a seed"));
        let gone = secrets_manager.get_secret_value().secret_id("mfa/seed/01").send().await;
        assert!(gone.is_err_and(|error| error.into_service_error().is_invalid_request_exception()));
        let key = aws_sdk_dynamodb::types::AttributeValue::S("an auth".to_owned());
        assert!(
            dynamodb
                .get_item()
                .table_name("Auths")
                .key("pk", key)
                .send()
                .await?
                .item
                .is_some()
        );
        stores.shutdown().await;
        Ok(())
    }

    #[tokio::test]
    async fn a_damaged_file_of_secrets_is_not_overwritten() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let data_dir = DataDir::open(folder.path())?;
        data_dir.write("secrets.json", b"{")?;
        let error = Stores::start(Some(Arc::clone(&data_dir)), &Arc::new(LocalClock::running()))
            .await
            .err();
        assert!(error.is_some_and(|error| error.to_string().contains("damaged")));
        assert_eq!(data_dir.read("secrets.json")?.as_deref().map(String::as_str), Some("{"));
        Ok(())
    }

    #[tokio::test]
    async fn a_sweep_deletes_by_the_stacks_clock() -> Result<()> {
        let clock = Arc::new(LocalClock::still(shared::clock::Timestamp::from_secs(1_800_000_000)));
        let stores = Stores::start(None, &clock).await?;
        let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
        let expiry = aws_sdk_dynamodb::types::AttributeValue::N("1800000300".to_owned());
        let put = clients(&stores)
            .dynamodb
            .put_item()
            .table_name("Auths")
            .item("pk", text("a"))
            .item("expiresAt", expiry);
        put.send().await?;
        assert_eq!(stores.sweep_expired()?, 0);
        clock.advance_seconds(301)?;
        assert_eq!(stores.sweep_expired()?, 1);
        stores.shutdown().await;
        Ok(())
    }

    #[tokio::test]
    async fn nothing_listens_after_a_shutdown() -> Result<()> {
        let stores = Stores::start(None, &Arc::new(LocalClock::running())).await?;
        stores.shutdown().await;
        for url in [stores.dynamodb_url(), stores.secrets_manager_url()] {
            let address = url.trim_start_matches("http://");
            assert!(std::net::TcpStream::connect(address).is_err(), "{address}");
        }
        stores.shutdown().await;
        Ok(())
    }
}

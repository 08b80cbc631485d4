//! `DynamoDB` and Secrets Manager on one machine, in memory or in a data directory, and the devices in them.

pub(crate) mod devices;
mod dynamodb;
mod front;
pub(crate) mod samples;
mod secret_list;
pub(crate) mod secrets_manager;
mod version_stages;

use std::fmt;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use shared::aws::sdk::{Clients, Endpoints, Limits};

use crate::clock::LocalClock;
use crate::files::DataDir;
use crate::host::{Host, bind};
use crate::template::Template;

/// Both stores, each with an HTTP endpoint on loopback. They can outlive the stacks that use them.
pub struct Stores {
    dynamodb_url: String,
    dated_dynamodb_url: String,
    secrets_manager_url: String,
    database: dynoxide::Database,
    host: Host,
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores")
            .field("dynamodb_url", &self.dynamodb_url)
            .field("secrets_manager_url", &self.secrets_manager_url)
            .finish_non_exhaustive()
    }
}

impl Stores {
    /// Starts both with empty tables, or with the content of the data directory. The clock decides what
    /// [`Stores::sweep_expired`] deletes, unless the database is in a file, and is the `Date` of answers.
    ///
    /// # Errors
    /// If a store does not start or a table cannot be created.
    pub async fn start(data_dir: Option<Arc<DataDir>>, clock: &Arc<LocalClock>) -> Result<Self> {
        let template = Template::get()?;
        let host = Host::new("local-stores", clock)?;
        let database = dynamodb::open(data_dir.as_ref(), clock)?;

        let (listener, port) = bind(0)?;
        let dynamodb_url = format!("http://127.0.0.1:{port}");
        let (stopped, served) = (host.stopped(), database.clone());
        host.serve(listener, |listener| async move {
            // It ends only on `stopped`.
            let _ = dynoxide::server::serve_with_shutdown(listener, served, stopped).await;
        })?;

        let (listener, port) = bind(0)?;
        let dated_dynamodb_url = format!("http://127.0.0.1:{port}");
        host.serve_router(listener, front::router(&dynamodb_url)?)?;

        let (listener, port) = bind(0)?;
        let secrets_manager_url = format!("http://127.0.0.1:{port}");
        host.serve_router(listener, secrets_manager::router(data_dir).await?)?;

        let clients = clients(&dynamodb_url, &secrets_manager_url, Limits::OPERATOR);
        host.run(async move {
            dynamodb::create_tables(&clients.dynamodb, &template.tables).await?;
            secrets_manager::create_key_ring(&clients.secrets_manager).await
        })
        .await?;
        Ok(Self {
            dynamodb_url,
            dated_dynamodb_url,
            secrets_manager_url,
            database,
            host,
        })
    }

    /// Clients of these stores, more patient than those of the functions: what prepares and checks a test must not fail on a
    /// busy machine.
    #[must_use]
    pub fn clients(&self) -> Clients {
        clients(&self.dynamodb_url, &self.secrets_manager_url, Limits::OPERATOR)
    }

    /// The endpoint of `DynamoDB`, whose answers have the machine's time as their `Date`.
    #[must_use]
    pub fn dynamodb_url(&self) -> &str {
        &self.dynamodb_url
    }

    /// Another endpoint of the same, for programs that read the time from its answers: their `Date` is the stack's time.
    #[must_use]
    pub fn dated_dynamodb_url(&self) -> &str {
        &self.dated_dynamodb_url
    }

    /// The endpoint of Secrets Manager.
    #[must_use]
    pub fn secrets_manager_url(&self) -> &str {
        &self.secrets_manager_url
    }

    /// Deletes expired items and returns how many, as TTL does within days. Nothing else deletes them.
    ///
    /// # Errors
    /// If the database fails.
    pub fn sweep_expired(&self) -> Result<usize> {
        self.database
            .sweep_ttl()
            .map_err(|error| anyhow!("the sweep failed: {error}"))
    }

    /// Stops both. A second call does nothing.
    pub async fn shutdown(&self) {
        self.host.shutdown().await;
    }
}

/// Clients of stores on this machine.
pub(crate) fn clients(dynamodb_url: &str, secrets_manager_url: &str, limits: Limits) -> Clients {
    Clients::new(Endpoints::local(dynamodb_url, secrets_manager_url), limits)
}

#[cfg(test)]
mod tests;

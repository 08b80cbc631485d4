//! The local stack, by the file that it writes about itself.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use shared::config;
use shared::names::ClientId;
use zeroize::Zeroizing;

use crate::ports::stack::DeployedStack;
use crate::usage::Usage;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LocalStack {
    #[serde(default = "local")]
    stack_name: String,
    pub(super) token_url: String,
    pub(super) user_pool_id: String,
    pub(super) cognito_url: String,
    pub(super) dynamodb_url: String,
    pub(super) secrets_manager_url: String,
    clients: Vec<LocalClient>,
    pub(super) settings: HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LocalClient {
    client_id: String,
}

fn local() -> String {
    "local".to_owned()
}

impl LocalStack {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Usage`] if it does not exist.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).map(Zeroizing::new).map_err(|_| {
            Usage(format!(
                "no local stack is running: {} does not exist; start one with cargo run -p local",
                file.display()
            ))
        })?;
        serde_json::from_str(&text).with_context(|| format!("{} does not describe a local stack", file.display()))
    }

    /// The client that commands use unless another one is named.
    pub(super) fn first_client(&self) -> Option<ClientId> {
        let first = self.clients.first()?;
        ClientId::parse(&first.client_id).ok()
    }

    /// The names that the doctor needs, as the outputs of a stack.
    pub(super) fn as_deployed(&self) -> DeployedStack {
        let setting = |name: &str| self.settings.get(name).cloned();
        let outputs = [
            ("AuthsTable", setting(config::AUTHS_TABLE)),
            ("DevicesTable", setting(config::DEVICES_TABLE)),
            ("SeedPrefix", setting(config::SEED_PREFIX)),
            ("KeyRing", setting(config::KEY_RING)),
            ("UserPoolId", Some(self.user_pool_id.clone())),
        ];
        DeployedStack {
            name: self.stack_name.clone(),
            status: "LOCAL".to_owned(),
            created_at: None,
            outputs: outputs
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)))
                .collect(),
            parameters: setting(config::SEED_STORAGE)
                .map(|storage| ("SeedStorage".to_owned(), storage))
                .into_iter()
                .collect(),
            resources: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_that_is_not_running_is_a_usage_error() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let error = LocalStack::read(&folder.path().join("stack.json"))
            .err()
            .context("an error")?;
        assert!(error.is::<Usage>());
        Ok(())
    }
}

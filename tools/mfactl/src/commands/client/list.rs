//! `list`: the clients of the pool, without their secrets.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use shared::ports::operator::DeviceInventory;

use super::admin::{ClientAdmin, cannot_read};
use crate::commands::text::{count, table};
use crate::ports::clients::{ClientDetails, ClientRegistry, ClientSummary, SecretInfo};
use crate::terminal::Terminal;

type Row = (ClientSummary, ClientDetails, Vec<SecretInfo>);

impl<P: ClientRegistry, D: DeviceInventory, T: Terminal> ClientAdmin<P, D, T> {
    /// Lists all clients, sorted by name.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn list(&mut self, json: bool) -> Result<()> {
        let mut all = self.all().await?;
        all.sort_by(|one, other| (&one.name, one.id.as_str()).cmp(&(&other.name, other.id.as_str())));
        let mut rows = Vec::new();
        for client in all {
            let details = self.clients.describe(&client.id).await;
            // One that was removed in between is left out.
            let Some(details) = details.with_context(|| cannot_read(&client))? else {
                continue;
            };
            let secrets = if details.secret.is_some() {
                self.secrets(&client).await?
            } else {
                Vec::new()
            };
            rows.push((client, details, secrets));
        }
        let written = if json {
            let all = rows.iter().map(json_of).collect::<Value>();
            self.terminal.print(&format!("{all:#}"))
        } else {
            self.terminal.say(&text_of(&rows))
        };
        Ok(written?)
    }
}

fn json_of((client, details, secrets): &Row) -> Value {
    let secrets = secrets
        .iter()
        .map(|secret| json!({ "createdAt": secret.created_at.rfc3339() }));
    json!({
        "clientId": client.id.as_str(),
        "clientName": client.name,
        "scopes": details.scopes,
        "createdAt": details.created_at.rfc3339(),
        "secrets": secrets.collect::<Value>(),
    })
}

fn text_of(rows: &[Row]) -> String {
    let head = ["NAME", "CLIENT", "SCOPES", "CREATED", "SECRETS"].map(str::to_owned);
    let lines = rows.iter().map(|(client, details, secrets)| {
        [
            client.name.clone(),
            client.id.as_str().to_owned(),
            details.scopes.join(" "),
            details.created_at.rfc3339(),
            secrets.len().to_string(),
        ]
    });
    let all: Vec<[String; 5]> = [head].into_iter().chain(lines).collect();
    format!("{}\n{}", table(&all), count(rows.len(), "client"))
}

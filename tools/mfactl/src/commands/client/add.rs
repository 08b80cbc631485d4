//! `add`: a new client with a secret.

use anyhow::{Context as _, Result, anyhow, bail};
use shared::ports::operator::DeviceInventory;

use super::admin::{ClientAdmin, SecretOutput, name_of};
use crate::commands::text::quoted;
use crate::ports::clients::{ClientName, ClientRegistry, ClientSummary, NewClient, Scope};
use crate::terminal::Terminal;

impl<P: ClientRegistry, D: DeviceInventory, T: Terminal> ClientAdmin<P, D, T> {
    /// Creates a client, and says how it gets tokens.
    ///
    /// # Errors
    /// If the name is taken, otherwise with what to do about it.
    pub async fn add(&mut self, name: &ClientName, scopes: &[Scope], output: &SecretOutput) -> Result<()> {
        let file = self.open_output(output)?;
        let token_url = self.clients.token_url().await;
        let token_url = token_url.context("cannot find the token endpoint; nothing was created")?;
        if let Some(existing) = self.named(name).await? {
            bail!(
                "there already is a client {}: choose another name. If an earlier `add` was interrupted, its secret is unknown: \
                 `mfactl client rotate {}` gives it a new one",
                name_of(&existing),
                existing.id.as_str()
            );
        }
        let NewClient { id, secret } = match self.clients.create(name, scopes).await {
            Ok(created) => created,
            Err(error) => self.created_anyway(name, error.into()).await?,
        };
        let handed_over = match secret {
            Some(secret) => self.hand_over(&secret, file),
            None => Err(anyhow!("Cognito did not return it")),
        };
        handed_over.with_context(|| {
            format!(
                "the client {} was created, but its secret could not be handed over: `mfactl client rotate {1} …`, then `mfactl \
                 client rotate {1} --finish`",
                name.as_str(),
                id.as_str()
            )
        })?;
        let scopes: Vec<String> = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        self.explain_tokens(&id, output, &token_url, &scopes)?;
        let text = format!(
            "To register devices for it: mfactl device register --client {} --user … --device …",
            id.as_str()
        );
        Ok(self.terminal.say(&text)?)
    }

    async fn named(&self, name: &ClientName) -> Result<Option<ClientSummary>> {
        let all = self.all().await?;
        Ok(all.into_iter().find(|client| client.name == name.as_str()))
    }

    /// After a creation that failed: it may have taken effect, and the client's secret can still be read.
    async fn created_anyway(&self, name: &ClientName, error: anyhow::Error) -> Result<NewClient> {
        match self.named(name).await {
            Ok(Some(client)) => {
                let details = self.clients.describe(&client.id).await.ok().flatten();
                Ok(NewClient {
                    id: client.id,
                    secret: details.and_then(|details| details.secret),
                })
            }
            Ok(None) => Err(error.context("cannot create the client; nothing was created")),
            Err(_) => Err(error.context(format!(
                "cannot create the client, and it may exist anyway: see `mfactl client list`; if it does, `mfactl client rotate \
                 {}` gives it a secret that you know",
                quoted(name.as_str())
            ))),
        }
    }
}

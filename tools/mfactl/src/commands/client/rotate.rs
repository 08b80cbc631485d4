//! `rotate`: a second secret, then the end of the first one.

use anyhow::{Context as _, Result, anyhow, bail};
use shared::ports::operator::DeviceInventory;

use super::admin::{ClientAdmin, SecretOutput, cannot_read, name_of, no_such_client};
use crate::commands::confirm::confirm;
use crate::ports::clients::{ClientRegistry, ClientSummary, SecretInfo};
use crate::terminal::Terminal;

/// A step of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// Adds a second secret; both are valid.
    Begin(SecretOutput),
    /// Deletes the older one.
    Finish,
    /// Deletes the newer one.
    Undo,
}

impl<P: ClientRegistry, D: DeviceInventory, T: Terminal> ClientAdmin<P, D, T> {
    /// Carries out a step of a rotation.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn rotate(&mut self, name_or_id: &str, step: &Rotation) -> Result<()> {
        let client = self.find(name_or_id).await?.ok_or_else(|| no_such_client(name_or_id))?;
        let mut secrets = self.secrets(&client).await?;
        secrets.sort_by_key(|secret| secret.created_at);
        match step {
            Rotation::Begin(output) => self.begin(&client, &secrets, output).await,
            Rotation::Finish | Rotation::Undo => self.end(&client, &secrets, *step == Rotation::Finish).await,
        }
    }

    async fn begin(&mut self, client: &ClientSummary, secrets: &[SecretInfo], output: &SecretOutput) -> Result<()> {
        match secrets {
            [] => bail!("the client {} has no secret to rotate", name_of(client)),
            [_] => {}
            [older, newer, ..] => bail!(
                "the client {0} already has two secrets, of {1} and {2}: if the application uses the newer one, `mfactl client \
                 rotate {3} --finish` deletes the older one; if the newer one was lost, --undo deletes it",
                name_of(client),
                older.created_at.rfc3339(),
                newer.created_at.rfc3339(),
                client.id.as_str()
            ),
        }
        let file = self.open_output(output)?;
        let token_url = self.clients.token_url().await;
        let token_url = token_url.context("cannot find the token endpoint; nothing was changed")?;
        let details = self.clients.describe(&client.id).await;
        let details = details.with_context(|| cannot_read(client))?;
        let scopes = details.ok_or_else(|| no_such_client(client.id.as_str()))?.scopes;
        let added = match self.clients.add_secret(&client.id).await {
            Ok(added) => added,
            Err(error) => {
                self.delete_others(client, secrets).await?;
                return Err(anyhow!(error).context("cannot add a secret; the client is unchanged: run it again"));
            }
        };
        if let Err(error) = self.hand_over(&added.value, file) {
            self.delete(client, &added.id).await?;
            return Err(error.context("the new secret could not be handed over, and was deleted again"));
        }
        self.explain_tokens(&client.id, output, &token_url, &scopes)?;
        Ok(self.terminal.say(&format!(
            "Both secrets are valid now. Give the new one to the application and check that it gets tokens, then run: mfactl \
             client rotate {} --finish",
            client.id.as_str()
        ))?)
    }

    /// Deletes a secret that was added although the answer was lost: its value is unknown.
    async fn delete_others(&self, client: &ClientSummary, before: &[SecretInfo]) -> Result<()> {
        let now = self.secrets(client).await.with_context(|| undo(client))?;
        for secret in now
            .iter()
            .filter(|secret| before.iter().all(|known| known.id != secret.id))
        {
            self.delete(client, &secret.id).await?;
        }
        Ok(())
    }

    async fn delete(&self, client: &ClientSummary, secret: &str) -> Result<()> {
        let removed = self.clients.remove_secret(&client.id, secret).await;
        removed.with_context(|| undo(client))
    }

    async fn end(&mut self, client: &ClientSummary, secrets: &[SecretInfo], finish: bool) -> Result<()> {
        let (goes, stays) = match secrets {
            [older, newer] if older.created_at == newer.created_at => bail!(
                "both secrets of {} have the same date, so it is unclear which one is older",
                name_of(client)
            ),
            [older, newer] if finish => (older, newer),
            [older, newer] => (newer, older),
            _ => {
                let text = format!(
                    "The client {} has no second secret; nothing was changed.",
                    name_of(client)
                );
                return Ok(self.terminal.say(&text)?);
            }
        };
        let (gone, kept) = (goes.created_at.rfc3339(), stays.created_at.rfc3339());
        let question = format!(
            "Delete the secret of {gone} of {}? Applications that still use it get no more tokens. The secret of {kept} stays.",
            name_of(client)
        );
        confirm(&mut self.terminal, self.yes, &question)?;
        if let Err(error) = self.clients.remove_secret(&client.id, &goes.id).await {
            // It may be gone anyway.
            let now = self.clients.secrets(&client.id).await;
            if !now.is_ok_and(|now| now.iter().all(|secret| secret.id != goes.id)) {
                let what = format!(
                    "cannot delete the secret of {gone} of {}: run it again",
                    name_of(client)
                );
                return Err(anyhow!(error).context(what));
            }
        }
        Ok(self.terminal.say(&format!(
            "The secret of {gone} is deleted; {} has only the one of {kept} now.",
            name_of(client)
        ))?)
    }
}

fn undo(client: &ClientSummary) -> String {
    format!(
        "the client {} may have a second secret whose value was lost: `mfactl client rotate {} --undo` deletes it",
        name_of(client),
        client.id.as_str()
    )
}

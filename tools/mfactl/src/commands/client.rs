//! `client add`, `list`, `rotate` and `remove`: applications with credentials, over a user pool.
//!
//! A client's id stays over a rotation, since devices belong to it. A secret is only ever in the file or on the terminal
//! that was asked for. A secret whose value was lost on the way is deleted, never taken for the one that is in use.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};
use shared::names::ClientId;
use shared::ports::{DeviceRegistry, Of};
use shared::telemetry::rfc3339;

use super::{confirmed, files, look};
use crate::clients::{ClientName, ClientRegistry, Described, Listed, Scope, SecretListed};
use crate::target::Usage;
use crate::terminal::Terminal;

/// Devices that are read at once.
const PAGE: u16 = 500;

/// Where clients are looked after.
#[derive(Debug)]
pub struct ClientDesk<P, D, T> {
    /// The clients.
    pub clients: P,
    /// The devices that belong to them; only a removal looks at them.
    pub devices: Option<D>,
    /// The person.
    pub terminal: T,
    /// Whether everything that would be asked is answered with yes.
    pub yes: bool,
}

/// Where a secret goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretTo {
    /// Into a file that only its owner can read, and nothing else in it.
    File(PathBuf),
    /// Onto the terminal, once.
    Terminal,
}

/// A part of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotating {
    /// A second secret; both are valid.
    Begin(SecretTo),
    /// The older one is deleted.
    Finish,
    /// The newer one is deleted.
    Undo,
}

/// A client as a person names it.
fn shown(client: &Listed) -> String {
    format!("{} ({})", client.name, client.id.as_str())
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A command that gets a token, and shows the secret to no list of processes: `printf` is a part of the shell.
fn curl(id: &ClientId, secret: &SecretTo, token_url: &str, scopes: &[String]) -> String {
    let asks = format!(
        "-d grant_type=client_credentials --data-urlencode {} {}",
        quoted(&format!("scope={}", scopes.join(" "))),
        quoted(token_url)
    );
    let id = id.as_str();
    match secret {
        SecretTo::File(path) => {
            let path = quoted(&path.display().to_string());
            format!("printf 'user = \"%s:%s\"' {id} \"$(cat {path})\" | curl -sS -K - {asks}")
        }
        // It asks for the secret.
        SecretTo::Terminal => format!("curl -sS -u {id} {asks}"),
    }
}

impl<P: ClientRegistry, D: DeviceRegistry, T: Terminal> ClientDesk<P, D, T> {
    /// Creates a client, and says how it gets tokens.
    ///
    /// # Errors
    /// If there is one by that name, otherwise with what to do about it.
    pub async fn add(&mut self, name: &ClientName, scopes: &[Scope], secret_to: &SecretTo) -> Result<()> {
        self.prepare(secret_to)?;
        let token_url = self.clients.token_url().await;
        let token_url = token_url.context("cannot find out where tokens are given; nothing was created")?;
        if let Some(there) = self.by_name(name).await?.first() {
            bail!(
                "there is a client {} already: choose another name. If an earlier add was cut short, its secret is not known: \
                 `mfactl client rotate {}` gives it another one",
                shown(there),
                there.id.as_str()
            );
        }
        let (id, secret) = match self.clients.create(name, scopes).await {
            Ok(created) => (created.id, created.secret),
            Err(error) => self.created_nevertheless(name, error.into()).await?,
        };
        let delivered = match secret {
            Some(secret) => self.deliver(&secret, secret_to),
            None => Err(anyhow!("Cognito did not say it")),
        };
        delivered.with_context(|| {
            format!(
                "the client {} is created, but its secret could not be handed over: `mfactl client rotate {1} …`, then \
                 `mfactl client rotate {1} --finish`",
                name.as_str(),
                id.as_str()
            )
        })?;
        let scopes: Vec<String> = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        self.tell(&id, secret_to, &token_url, &scopes)?;
        let text = format!(
            "Devices are registered for it with: mfactl device register --client {} --user … --device …",
            id.as_str()
        );
        Ok(self.terminal.say(&text)?)
    }

    /// Lists all clients of the pool, sorted by name, without their secrets.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn list(&mut self, json: bool) -> Result<()> {
        let mut all = self.all().await?;
        all.sort_by(|one, other| (&one.name, one.id.as_str()).cmp(&(&other.name, other.id.as_str())));
        let mut rows = Vec::new();
        for client in all {
            let described = self.clients.describe(&client.id).await;
            // One that was removed meanwhile is none.
            let Some(described) = described.with_context(|| cannot_read(&client))? else {
                continue;
            };
            let secrets = if described.secret.is_some() {
                self.secrets(&client).await?
            } else {
                Vec::new()
            };
            rows.push((client, described, secrets));
        }
        let text = if json {
            format!("{:#}", rows.iter().map(json_of).collect::<Value>())
        } else {
            table(&rows)
        };
        Ok(self.terminal.say(&text)?)
    }

    /// Gives a client a second secret, or ends that by deleting one of the two.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn rotate(&mut self, which: &str, how: &Rotating) -> Result<()> {
        let client = self.resolved(which).await?.ok_or_else(|| no_such_client(which))?;
        let mut secrets = self.secrets(&client).await?;
        secrets.sort_by_key(|secret| secret.created_at);
        match how {
            Rotating::Begin(secret_to) => self.begin(&client, &secrets, secret_to).await,
            Rotating::Finish | Rotating::Undo => self.end(&client, &secrets, *how == Rotating::Finish).await,
        }
    }

    /// Removes a client. Repeatable: one that is gone is no error.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn remove(&mut self, which: &str, with_devices_left: bool) -> Result<()> {
        let Some(client) = self.resolved(which).await? else {
            return Ok(self
                .terminal
                .say(&format!("There is no client {which}; nothing was removed."))?);
        };
        if !with_devices_left {
            self.refuse_if_it_has_devices(&client).await?;
        }
        let question = format!(
            "Remove the client {}? Its devices, if there are any, can never be used again: a new client has a new id. Tokens \
             that it has live up to an hour longer.",
            shown(&client)
        );
        confirmed(&mut self.terminal, self.yes, &question)?;
        if let Err(error) = self.clients.remove(&client.id).await {
            // It may be gone nevertheless.
            if !matches!(self.clients.describe(&client.id).await, Ok(None)) {
                return Err(
                    anyhow!(error).context(format!("cannot remove the client {}: run it again", shown(&client)))
                );
            }
        }
        Ok(self
            .terminal
            .say(&format!("The client {} is removed.", shown(&client)))?)
    }

    async fn all(&self) -> Result<Vec<Listed>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.clients.page(after.as_deref()).await;
            let page = page.context("cannot read the clients of the user pool")?;
            all.extend(page.clients);
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(all),
            }
        }
    }

    async fn by_name(&self, name: &ClientName) -> Result<Vec<Listed>> {
        let mut all = self.all().await?;
        all.retain(|client| client.name == name.as_str());
        Ok(all)
    }

    /// The client with this id, or else with this name.
    async fn resolved(&self, which: &str) -> Result<Option<Listed>> {
        let all = self.all().await?;
        if let Some(client) = all.iter().find(|client| client.id.as_str() == which) {
            return Ok(Some(client.clone()));
        }
        let mut named: Vec<Listed> = all.into_iter().filter(|client| client.name == which).collect();
        if named.len() > 1 {
            let ids: Vec<&str> = named.iter().map(|client| client.id.as_str()).collect();
            return Err(Usage(format!(
                "there are several clients {which}: say which by its id, {}",
                ids.join(" or ")
            ))
            .into());
        }
        Ok(named.pop())
    }

    async fn secrets(&self, client: &Listed) -> Result<Vec<SecretListed>> {
        let secrets = self.clients.secrets(&client.id).await;
        secrets.with_context(|| cannot_read(client))
    }

    /// Finds out early what would be too late once there is a secret.
    fn prepare(&self, secret_to: &SecretTo) -> Result<()> {
        if let SecretTo::File(path) = secret_to {
            if !self.yes {
                files::existing(path)?;
            }
            files::writable(path)?;
        }
        Ok(())
    }

    fn deliver(&mut self, secret: &str, secret_to: &SecretTo) -> Result<()> {
        match secret_to {
            SecretTo::File(path) => files::write(path, secret.as_bytes(), self.yes),
            SecretTo::Terminal => Ok(self.terminal.say(&format!("secret      {secret}"))?),
        }
    }

    fn tell(&mut self, id: &ClientId, secret_to: &SecretTo, token_url: &str, scopes: &[String]) -> Result<()> {
        let place = match secret_to {
            SecretTo::File(path) => format!("in {}, readable only by you", path.display()),
            SecretTo::Terminal => "above, shown only now".to_owned(),
        };
        let text = format!(
            "client id   {}\nits secret  {place}\ntoken URL   {token_url}\nscopes      {}\n\nA token:\n{}\n",
            id.as_str(),
            scopes.join(" "),
            curl(id, secret_to, token_url, scopes)
        );
        Ok(self.terminal.say(&text)?)
    }

    /// After a creation that failed: it may have taken effect, and then the client's secret can still be asked for.
    async fn created_nevertheless(
        &self,
        name: &ClientName,
        error: anyhow::Error,
    ) -> Result<(ClientId, Option<zeroize::Zeroizing<String>>)> {
        let found = self.by_name(name).await.map(|mut found| found.pop());
        match found {
            Ok(Some(client)) => {
                let described = self.clients.describe(&client.id).await.ok().flatten();
                Ok((client.id, described.and_then(|described| described.secret)))
            }
            Ok(None) => Err(error.context("cannot create the client; nothing was created")),
            Err(_) => Err(error.context(format!(
                "cannot create the client, and it may be there nevertheless: `mfactl client list`; if it is, `mfactl client \
                 rotate {}` gives it a secret that you know",
                quoted(name.as_str())
            ))),
        }
    }

    async fn begin(&mut self, client: &Listed, secrets: &[SecretListed], secret_to: &SecretTo) -> Result<()> {
        match secrets {
            [] => bail!(
                "the client {} has no secret, so it cannot have another one",
                shown(client)
            ),
            [_] => {}
            [older, newer, ..] => bail!(
                "the client {0} has two secrets already, of {1} and {2}: if the application uses the newer one, `mfactl client \
                 rotate {3} --finish` deletes the older; if the newer one was lost, --undo deletes it",
                shown(client),
                rfc3339(older.created_at),
                rfc3339(newer.created_at),
                client.id.as_str()
            ),
        }
        self.prepare(secret_to)?;
        let (token_url, described) = (self.clients.token_url().await, self.clients.describe(&client.id).await);
        let token_url = token_url.context("cannot find out where tokens are given; nothing was changed")?;
        let scopes = described.with_context(|| cannot_read(client))?;
        let scopes = scopes.ok_or_else(|| no_such_client(client.id.as_str()))?.scopes;
        let added = match self.clients.add_secret(&client.id).await {
            Ok(added) => added,
            Err(error) => {
                let before: Vec<&str> = secrets.iter().map(|secret| secret.id.as_str()).collect();
                self.forget_new_secrets(client, &before).await?;
                return Err(anyhow!(error).context("cannot add a secret; the client is as it was: run it again"));
            }
        };
        if let Err(error) = self.deliver(&added.value, secret_to) {
            self.forget(client, &added.id).await?;
            return Err(error.context("the new secret could not be handed over, and is deleted again"));
        }
        self.tell(&client.id, secret_to, &token_url, &scopes)?;
        Ok(self.terminal.say(&format!(
            "Both secrets are valid now. Give the new one to the application, see that it gets tokens, then: mfactl client rotate \
             {} --finish",
            client.id.as_str()
        ))?)
    }

    /// A secret that was added although the answer was lost: nobody knows its value.
    async fn forget_new_secrets(&self, client: &Listed, before: &[&str]) -> Result<()> {
        let now = self.secrets(client).await.with_context(|| undo(client))?;
        for secret in now.iter().filter(|secret| !before.contains(&secret.id.as_str())) {
            self.forget(client, &secret.id).await?;
        }
        Ok(())
    }

    async fn forget(&self, client: &Listed, secret: &str) -> Result<()> {
        let removed = self.clients.remove_secret(&client.id, secret).await;
        removed.with_context(|| undo(client))
    }

    async fn end(&mut self, client: &Listed, secrets: &[SecretListed], finish: bool) -> Result<()> {
        let (goes, stays) = match secrets {
            [older, newer] if older.created_at == newer.created_at => bail!(
                "both secrets of {} have the same date, so it cannot be told which is the older one",
                shown(client)
            ),
            [older, newer] if finish => (older, newer),
            [older, newer] => (newer, older),
            _ => {
                let text = format!(
                    "The client {} has no second secret; nothing was changed.",
                    shown(client)
                );
                return Ok(self.terminal.say(&text)?);
            }
        };
        let (gone, kept) = (rfc3339(goes.created_at), rfc3339(stays.created_at));
        let question = format!(
            "Delete the secret of {gone} of {}? Whoever still uses it gets no more tokens. The one of {kept} stays.",
            shown(client)
        );
        confirmed(&mut self.terminal, self.yes, &question)?;
        if let Err(error) = self.clients.remove_secret(&client.id, &goes.id).await {
            // It may be gone nevertheless.
            let now = self.clients.secrets(&client.id).await;
            if !now.is_ok_and(|now| now.iter().all(|secret| secret.id != goes.id)) {
                let what = format!("cannot delete the secret of {gone} of {}: run it again", shown(client));
                return Err(anyhow!(error).context(what));
            }
        }
        Ok(self.terminal.say(&format!(
            "The secret of {gone} is deleted; the one of {kept} is the only one of {}.",
            shown(client)
        ))?)
    }

    async fn refuse_if_it_has_devices(&mut self, client: &Listed) -> Result<()> {
        let Some(devices) = &self.devices else {
            return Err(Usage(
                "DEVICES_TABLE is not set, so it cannot be seen whether the client has devices: give --devices-table or the \
                 variable, or --with-devices-left"
                    .to_owned(),
            )
            .into());
        };
        self.terminal
            .note("This reads the table of devices until there is one of the client.")?;
        let (of, mut after) = (Of::Client(client.id.clone()), None);
        loop {
            let page = devices.page(&of, after.as_ref(), PAGE).await;
            let page = page.context("cannot read the table of devices; nothing was removed")?;
            if !page.records.is_empty() {
                bail!(
                    "the client {} has devices, which could never be used again: `mfactl device list --client {}` shows them. \
                     Remove them first, or give --with-devices-left",
                    shown(client),
                    client.id.as_str()
                );
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

fn no_such_client(which: &str) -> anyhow::Error {
    anyhow!("there is no client {which}: `mfactl client list` shows what there is")
}

fn cannot_read(client: &Listed) -> String {
    format!("cannot read the client {}; nothing was changed", shown(client))
}

fn undo(client: &Listed) -> String {
    format!(
        "the client {} may have a second secret that nobody knows: `mfactl client rotate {} --undo` deletes it",
        shown(client),
        client.id.as_str()
    )
}

type Row = (Listed, Described, Vec<SecretListed>);

fn json_of((client, described, secrets): &Row) -> Value {
    let secrets = secrets
        .iter()
        .map(|secret| json!({ "createdAt": rfc3339(secret.created_at) }));
    json!({
        "clientId": client.id.as_str(),
        "clientName": client.name,
        "scopes": described.scopes,
        "createdAt": rfc3339(described.created_at),
        "secrets": secrets.collect::<Value>(),
    })
}

fn table(rows: &[Row]) -> String {
    let head = ["NAME", "CLIENT", "SCOPES", "CREATED", "SECRETS"].map(str::to_owned);
    let rows: Vec<[String; 5]> = rows
        .iter()
        .map(|(client, described, secrets)| {
            [
                client.name.clone(),
                client.id.as_str().to_owned(),
                described.scopes.join(" "),
                rfc3339(described.created_at),
                secrets.len().to_string(),
            ]
        })
        .collect();
    let total = look::count(rows.len(), "client");
    let all: Vec<[String; 5]> = [head].into_iter().chain(rows).collect();
    format!("{}\n{total}", look::aligned(&all))
}

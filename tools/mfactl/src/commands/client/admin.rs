//! What the commands for clients share: finding a client, and handing over a secret.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use shared::names::{ClientId, ClientOwners};
use shared::ports::operator::DeviceInventory;
use zeroize::Zeroizing;

use crate::commands::output_file::OutputFile;
use crate::commands::text::quoted;
use crate::ports::clients::{ClientRegistry, ClientSummary, SecretInfo};
use crate::terminal::Terminal;
use crate::usage::Usage;

/// Carries out the commands for clients.
#[derive(Debug)]
pub struct ClientAdmin<P, D, T> {
    pub clients: P,
    /// The devices that they use; only `remove` reads them.
    pub devices: Option<D>,
    /// Whose devices they are.
    pub owners: ClientOwners,
    pub terminal: T,
    /// Whether every question is answered with yes.
    pub yes: bool,
}

/// Where a secret goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretOutput {
    /// Into a file that only its owner can read and that has nothing else in it.
    File(PathBuf),
    /// Onto the terminal, once.
    Terminal,
}

impl<P: ClientRegistry, D: DeviceInventory, T: Terminal> ClientAdmin<P, D, T> {
    /// All clients of the pool.
    pub(super) async fn all(&self) -> Result<Vec<ClientSummary>> {
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

    /// The client with this id, or else with this name.
    pub(super) async fn find(&self, name_or_id: &str) -> Result<Option<ClientSummary>> {
        let all = self.all().await?;
        if let Some(client) = all.iter().find(|client| client.id.as_str() == name_or_id) {
            return Ok(Some(client.clone()));
        }
        let mut named: Vec<ClientSummary> = all.into_iter().filter(|client| client.name == name_or_id).collect();
        if named.len() > 1 {
            let ids: Vec<&str> = named.iter().map(|client| client.id.as_str()).collect();
            return Err(Usage(format!(
                "several clients are named {name_or_id}: give the id, {}",
                ids.join(" or ")
            ))
            .into());
        }
        Ok(named.pop())
    }

    pub(super) async fn secrets(&self, client: &ClientSummary) -> Result<Vec<SecretInfo>> {
        let secrets = self.clients.secrets(&client.id).await;
        secrets.with_context(|| cannot_read(client))
    }

    /// Opens the file for a secret, before there is one; `None` for the terminal.
    pub(super) fn open_output(&self, output: &SecretOutput) -> Result<Option<OutputFile>> {
        match output {
            SecretOutput::File(path) => OutputFile::open(path, self.yes).map(Some),
            SecretOutput::Terminal => Ok(None),
        }
    }

    pub(super) fn hand_over(&mut self, secret: &str, file: Option<OutputFile>) -> Result<()> {
        match file {
            Some(file) => file.write(secret.as_bytes()),
            None => Ok(self.terminal.print(&Zeroizing::new(format!("secret      {secret}")))?),
        }
    }

    /// Says how the client gets tokens.
    pub(super) fn explain_tokens(
        &mut self,
        id: &ClientId,
        output: &SecretOutput,
        token_url: &str,
        scopes: &[String],
    ) -> Result<()> {
        let place = match output {
            SecretOutput::File(path) => format!("in {}, readable only by you", path.display()),
            SecretOutput::Terminal => "above, shown only once".to_owned(),
        };
        let text = format!(
            "client id   {}\nits secret  {place}\ntoken URL   {token_url}\nscopes      {}\n\nTo get a token:\n{}\n",
            id.as_str(),
            scopes.join(" "),
            token_command(id, output, token_url, scopes)
        );
        Ok(self.terminal.say(&text)?)
    }
}

/// A command that gets a token. The secret appears in no list of processes: `printf` is a shell built-in.
fn token_command(id: &ClientId, output: &SecretOutput, token_url: &str, scopes: &[String]) -> String {
    // Only the local stack has no TLS. It is reached without a proxy, whatever the environment names.
    let without_proxy = if token_url.starts_with("http://") {
        "--noproxy '*' "
    } else {
        ""
    };
    let request = format!(
        "{without_proxy}-d grant_type=client_credentials --data-urlencode {} {}",
        quoted(&format!("scope={}", scopes.join(" "))),
        quoted(token_url)
    );
    let id = id.as_str();
    match output {
        SecretOutput::File(path) => {
            let path = quoted(&path.display().to_string());
            format!("printf 'user = \"%s:%s\"' {id} \"$(cat {path})\" | curl -sS -K - {request}")
        }
        // curl asks for the secret.
        SecretOutput::Terminal => format!("curl -sS -u {id} {request}"),
    }
}

/// A client as an operator names it.
pub(super) fn name_of(client: &ClientSummary) -> String {
    format!("{} ({})", client.name, client.id.as_str())
}

pub(super) fn no_such_client(name_or_id: &str) -> anyhow::Error {
    anyhow!("there is no client {name_or_id}: `mfactl client list` lists all")
}

pub(super) fn cannot_read(client: &ClientSummary) -> String {
    format!("cannot read the client {}; nothing was changed", name_of(client))
}

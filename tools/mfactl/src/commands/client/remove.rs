//! `remove`: the end of a client.

use anyhow::{Context as _, Result, anyhow, bail};
use shared::ports::operator::{DeviceFilter, DeviceInventory};

use super::admin::{ClientAdmin, name_of};
use crate::commands::confirm::confirm;
use crate::commands::text::quoted;
use crate::ports::clients::{ClientRegistry, ClientSummary};
use crate::terminal::Terminal;
use crate::usage::Usage;

/// Devices that are read at a time.
const PAGE: u16 = 500;

impl<P: ClientRegistry, D: DeviceInventory, T: Terminal> ClientAdmin<P, D, T> {
    /// Removes a client. Can be repeated: one that does not exist is no error.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn remove(&mut self, name_or_id: &str, with_devices_left: bool) -> Result<()> {
        let Some(client) = self.find(name_or_id).await? else {
            let text = format!("There is no client {name_or_id}; nothing was removed.");
            return Ok(self.terminal.say(&text)?);
        };
        if !with_devices_left {
            self.require_no_devices_left(&client).await?;
        }
        let question = format!(
            "Remove the client {}? A new client has a new id, so it does not act for the devices of this one. Its tokens stay \
             valid for up to an hour.",
            name_of(&client)
        );
        confirm(&mut self.terminal, self.yes, &question)?;
        if let Err(error) = self.clients.remove(&client.id).await {
            // It may be gone anyway.
            if !matches!(self.clients.describe(&client.id).await, Ok(None)) {
                let what = format!("cannot remove the client {}: run it again", name_of(&client));
                return Err(anyhow!(error).context(what));
            }
        }
        let text = format!("The client {} is removed.", name_of(&client));
        Ok(self.terminal.say(&text)?)
    }

    async fn require_no_devices_left(&mut self, client: &ClientSummary) -> Result<()> {
        let owner = self.owners.owner_of(&client.id);
        let others = self.all().await?.into_iter().filter(|other| other.id != client.id);
        if others.into_iter().any(|other| self.owners.owner_of(&other.id) == owner) {
            return Ok(());
        }
        let Some(devices) = &self.devices else {
            return Err(Usage(
                "DEVICES_TABLE is not set, so it is unknown whether the client has devices: give --devices-table, the variable, \
                 or --with-devices-left"
                    .to_owned(),
            )
            .into());
        };
        self.terminal
            .note("Looking for devices of the client; this may read the whole table.")?;
        let (filter, mut after) = (DeviceFilter::Owner(owner.clone()), None);
        loop {
            let page = devices.page(&filter, after.as_ref(), PAGE).await;
            let page = page.context("cannot read the table of devices; nothing was removed")?;
            if !page.records.is_empty() {
                bail!(
                    "the client {} has devices that no other client acts for: `mfactl device list --owner {owner}` lists them. \
                     Remove them first, let another client act for {owner} (ClientOwners), or give --with-devices-left",
                    name_of(client),
                    owner = quoted(owner.as_str())
                );
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

//! `keys list`: the keys of the key ring, by their ids.

use anyhow::{Context as _, Result};
use serde_json::json;
use shared::clock::Clock;
use shared::ports::operator::{DeviceFilter, DeviceInventory, KeyRingStore, KeyRingSummary, SeedInventory};
use shared::random::Random;
use shared::sealed::KeyId;

use super::census::Census;
use crate::commands::device::{DeviceAdmin, ListRequest, require_readable};
use crate::commands::text::{count, table};
use crate::terminal::Terminal;

/// What `keys list` was asked for.
#[derive(Debug, Clone, Copy)]
pub struct ListKeysRequest {
    /// Whether to count the devices of each key, which reads the whole table.
    pub count: bool,
    pub json: bool,
    /// Devices that are read at a time.
    pub page: u16,
}

/// A key of the ring, or one that devices need and the ring lacks.
struct Row {
    id: String,
    state: &'static str,
    since: Option<String>,
    devices: Option<usize>,
}

impl<D, S, C, R, T> DeviceAdmin<D, S, C, R, T>
where
    D: DeviceInventory,
    S: SeedInventory + KeyRingStore,
    C: Clock,
    R: Random,
    T: Terminal,
{
    /// Lists the keys of the key ring, the newest first.
    ///
    /// # Errors
    /// If the key ring cannot be read, or the table; or if items of it were left out.
    pub async fn list_keys(&mut self, request: &ListKeysRequest) -> Result<()> {
        let ring = self.key_ring().await?;
        let census = if request.count {
            Some(self.census(request.page).await?)
        } else {
            None
        };
        let rows = rows(&ring, census.as_ref().map(|(census, _)| census));
        if request.json {
            let keys = rows
                .iter()
                .map(|row| json!({ "id": row.id, "state": row.state, "since": row.since, "devices": row.devices }));
            let in_secrets = census.as_ref().map(|(census, _)| census.in_secrets);
            let value = json!({ "keys": keys.collect::<Vec<_>>(), "devicesWithSecrets": in_secrets });
            self.terminal.print(&format!("{value:#}"))?;
        } else {
            self.terminal.say(&text_of(&rows))?;
            if let Some((census, _)) = &census {
                let devices = count(census.in_secrets, "device");
                self.terminal.say(&format!("{devices} with a secret, under no key."))?;
            }
        }
        require_readable(census.map_or(0, |(_, unreadable)| unreadable))
    }

    pub(in crate::commands) async fn key_ring(&self) -> Result<KeyRingSummary> {
        self.seeds.read_key_ring().await.context("cannot read the key ring")
    }

    /// Counts the seeds of all devices. Returns the items that cannot be read too.
    pub(in crate::commands) async fn census(&mut self, page: u16) -> Result<(Census, usize)> {
        let request = ListRequest {
            filter: DeviceFilter::All,
            json: false,
            page,
        };
        let (mut census, now) = (Census::default(), self.clock.now());
        let unreadable = self
            .for_each_device(&request, |_, record| {
                census.add(&record, now);
                Ok(())
            })
            .await?;
        Ok((census, unreadable))
    }
}

fn rows(ring: &KeyRingSummary, census: Option<&Census>) -> Vec<Row> {
    let devices = |key: KeyId| census.map(|census| census.by_key.get(&Some(key)).copied().unwrap_or_default());
    let of_ring = |key: KeyId, state, since| Row {
        id: key.to_string(),
        state,
        since,
        devices: devices(key),
    };
    let mut rows = vec![of_ring(ring.current, "current", Some(ring.created_at.rfc3339()))];
    rows.extend(ring.previous.iter().map(|key| of_ring(*key, "previous", None)));
    let needed = census.into_iter().flat_map(|census| &census.by_key);
    let lacking = needed.filter(|(key, _)| key.is_none_or(|key| !ring.has(key)));
    rows.extend(lacking.map(|(key, devices)| Row {
        id: key.map_or("unknown".to_owned(), |key| key.to_string()),
        state: "missing",
        since: None,
        devices: Some(*devices),
    }));
    rows
}

fn text_of(rows: &[Row]) -> String {
    let head = ["KEY", "STATE", "SEALS SINCE", "DEVICES"].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        [
            row.id.clone(),
            row.state.to_owned(),
            row.since.clone().unwrap_or_default(),
            row.devices.map(|devices| devices.to_string()).unwrap_or_default(),
        ]
    });
    table(&[head].into_iter().chain(cells).collect::<Vec<_>>())
}

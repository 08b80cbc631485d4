//! `list`: the devices of an owner, of a user, or all.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use shared::clock::{Clock, Timestamp};
use shared::device::DeviceRecord;
use shared::names::DeviceKey;
use shared::ports::operator::{DeviceFilter, DeviceInventory, SeedInventory};
use shared::ports::registry::Unreadable;
use shared::random::Random;

use super::admin::DeviceAdmin;
use super::describe;
use crate::commands::text::{count, name_of, table};
use crate::terminal::Terminal;

/// What `list` and `export` were asked for.
#[derive(Debug)]
pub struct ListRequest {
    pub filter: DeviceFilter,
    /// Of `list`; an export always is.
    pub json: bool,
    /// Devices that are read at a time.
    pub page: u16,
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Lists devices, sorted by their names.
    ///
    /// # Errors
    /// If the table, or an item of it, cannot be read; the other items are listed.
    pub async fn list(&mut self, request: &ListRequest) -> Result<()> {
        let mut all = Vec::new();
        let unreadable = self.for_each_device(request, |_, record| {
            all.push(record);
            Ok(())
        });
        let unreadable = unreadable.await?;
        all.sort_by(|one, other| names(&one.key).cmp(&names(&other.key)));
        if request.json {
            let all: Vec<Value> = all.iter().map(describe::json).collect();
            self.terminal.print(&format!("{:#}", Value::from(all)))?;
        } else {
            self.terminal.say(&rows(&all))?;
        }
        require_readable(unreadable)
    }

    /// Calls `each` for every device, page by page. Returns how many items could not be read.
    pub(in crate::commands) async fn for_each_device(
        &mut self,
        request: &ListRequest,
        mut each: impl FnMut(&mut T, DeviceRecord) -> Result<()>,
    ) -> Result<usize> {
        if !matches!(request.filter, DeviceFilter::User(..)) {
            self.terminal.note(
                "This reads the whole table. With --client or --owner, and --user, only that user's devices are read.",
            )?;
        }
        let (mut after, mut unreadable) = (None, 0);
        loop {
            let page = self.devices.page(&request.filter, after.as_ref(), request.page).await;
            let page = page.context("cannot read the table of devices")?;
            for record in page.records {
                match record {
                    Ok(record) => each(&mut self.terminal, record)?,
                    Err(error) => {
                        unreadable += 1;
                        self.terminal
                            .note(&format!("Skipping an item: {}.", name_unreadable(&error)))?;
                    }
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(unreadable),
            }
        }
    }
}

/// Which item cannot be read, and why.
pub(in crate::commands) fn name_unreadable(Unreadable { key, error }: &Unreadable) -> String {
    match key {
        Some(key) => format!("the device {} cannot be read: {error}", name_of(key)),
        None => format!("not even the key of an item can be read: {error}"),
    }
}

/// Fails if items were skipped.
pub(in crate::commands) fn require_readable(unreadable: usize) -> Result<()> {
    if unreadable > 0 {
        bail!(
            "{} could not be read: `mfactl device check` says more about a single device",
            count(unreadable, "item")
        );
    }
    Ok(())
}

fn names(key: &DeviceKey) -> [&str; 3] {
    [key.owner.as_str(), key.user.as_str(), key.device.as_str()]
}

fn rows(all: &[DeviceRecord]) -> String {
    const HEAD: [&str; 9] = [
        "OWNER",
        "USER",
        "DEVICE",
        "STATUS",
        "CODES",
        "REGISTERED",
        "BY",
        "LAST USED",
        "WRONG",
    ];
    let row = |record: &DeviceRecord| {
        let device = &record.device;
        let [owner, user, name] = names(&record.key).map(str::to_owned);
        [
            owner,
            user,
            name,
            device.status.as_str().to_owned(),
            describe::parameters(device.parameters),
            record.created_at.rfc3339(),
            record.by.as_str().to_owned(),
            record.last_used_at.map_or("never".to_owned(), Timestamp::rfc3339),
            format!("{}/{}", device.consecutive_failures, device.total_failures),
        ]
    };
    let head = [HEAD.map(str::to_owned)].into_iter();
    let rows: Vec<[String; 9]> = head.chain(all.iter().map(row)).collect();
    format!("{}\n{}", table(&rows), count(all.len(), "device"))
}

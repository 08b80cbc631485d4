//! `export`: all that is known of devices but their seeds, as JSON lines.

use anyhow::Result;
use shared::clock::Clock;
use shared::device::DeviceRecord;
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;

use super::admin::DeviceAdmin;
use super::describe;
use super::list::{ListRequest, require_readable};
use crate::terminal::Terminal;

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Writes every device as JSON, one per line, in the order of the table.
    ///
    /// # Errors
    /// As [`DeviceAdmin::list`].
    pub async fn export(&mut self, request: &ListRequest) -> Result<()> {
        let write = |terminal: &mut T, record: DeviceRecord| Ok(terminal.print(&describe::json(&record).to_string())?);
        let unreadable = self.for_each_device(request, write).await?;
        require_readable(unreadable)
    }
}

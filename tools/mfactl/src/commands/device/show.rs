//! `show`: all that is known of a device but its seed.

use anyhow::Result;
use shared::clock::{Clock, Timestamp};
use shared::names::DeviceKey;
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;

use super::admin::DeviceAdmin;
use super::describe;
use crate::terminal::Terminal;

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Shows a device.
    ///
    /// # Errors
    /// If it does not exist or cannot be read.
    pub async fn show(&mut self, key: &DeviceKey, json: bool) -> Result<()> {
        let record = self.require(key).await?;
        let device = &record.device;
        let outlook = describe::outlook(device, self.clock.now(), &self.policy);
        if json {
            let mut value = describe::json(&record);
            if let Some(members) = value.as_object_mut() {
                members.insert("now".to_owned(), outlook.into());
            }
            return Ok(self.terminal.print(&format!("{value:#}"))?);
        }
        let pending = record.pending.as_ref().map_or("none".to_owned(), |pending| {
            let seed = describe::seed(&pending.seed_ref, pending.sealed.as_ref());
            format!("{seed}, until {}", pending.until.rfc3339())
        });
        let failures = format!(
            "{} consecutive, {} in total",
            device.consecutive_failures, device.total_failures
        );
        let lines = [
            ("owner", record.key.owner.as_str().to_owned()),
            ("user", record.key.user.as_str().to_owned()),
            ("device", record.key.device.as_str().to_owned()),
            ("status", device.status.as_str().to_owned()),
            ("codes", describe::parameters(device.parameters)),
            ("seed", describe::seed(&device.seed_ref, device.sealed.as_ref())),
            ("new seed", pending),
            (
                "registered",
                format!("{} by {}", record.created_at.rfc3339(), record.by.as_str()),
            ),
            (
                "kept until",
                record.activate_by.map_or("removed".to_owned(), Timestamp::rfc3339),
            ),
            (
                "last used",
                record.last_used_at.map_or("never".to_owned(), Timestamp::rfc3339),
            ),
            ("wrong codes", failures),
            ("now", outlook),
        ];
        let lines = lines.map(|(name, value)| format!("{name:<12}{value}"));
        Ok(self.terminal.say(&lines.join("\n"))?)
    }
}

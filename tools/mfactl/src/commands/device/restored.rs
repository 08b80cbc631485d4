//! `restored`: moves the versions of a restored table past all that was issued before, since a version must never repeat.
//!
//! An authId remembers its device as it was, and writes only if the version is still the same. A restored device has an
//! earlier version, and sign-ins would bring it to that of the authId again: the write would then undo what they counted.

use anyhow::{Context as _, Result, anyhow, bail};
use shared::clock::Clock;
use shared::device::Device;
use shared::names::DeviceKey;
use shared::ports::operator::{DeviceFilter, DeviceInventory, SeedInventory};
use shared::random::Random;

use super::admin::DeviceAdmin;
use super::list::name_unreadable;
use crate::commands::text::count;
use crate::terminal::Terminal;

/// More writes than one device gets within the 35 days that can be restored: a thousand a second.
const FEWEST_VERSIONS: u64 = 1 << 32;
/// Devices that the store may fail one after the other; then it is the store.
const MOST_FAILURES: usize = 5;

const QUESTION: &str = "Move the version of every device in this table forward? Do it after the table was restored from a \
                        backup, before traffic returns.";

const WHAT_REMAINS: &str = "Before traffic returns:
* Wait until AuthLifeSeconds (at most 10 minutes) have passed since the last authentication was started before the restore.
  Until then its authId, or a code that was used after the backup, could succeed once more: the restored devices do not
  remember it.
* Devices that were disabled or removed, and seeds that were replaced, after the backup are back as they were. Disable,
  remove and replace them again; `mfactl doctor` finds devices whose secret was removed.";

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Moves the version of every device forward, reading `page` devices at a time. Can be repeated, also after it was
    /// interrupted: a device that is moved twice is as safe.
    ///
    /// # Errors
    /// If the table cannot be read, or if a device was not moved; the others are.
    pub async fn restored(&mut self, page: u16) -> Result<()> {
        self.confirm(QUESTION)?;
        let (mut moved, mut failed, mut consecutive_failures, mut after) = (0, 0, 0, None);
        loop {
            let read = self.devices.page(&DeviceFilter::All, after.as_ref(), page).await;
            let read = read.with_context(|| {
                let moved = count(moved, "device");
                format!("cannot read the table of devices; {moved} moved forward, not all: run it again")
            })?;
            for record in read.records {
                let outcome = match record {
                    Ok(record) => self.move_forward(&record.key, record.device).await,
                    Err(error) => {
                        failed += 1;
                        self.terminal
                            .note(&format!("Not moved: {}.", name_unreadable(&error)))?;
                        continue;
                    }
                };
                match outcome {
                    Ok(()) => (moved, consecutive_failures) = (moved + 1, 0),
                    Err(error) => {
                        (failed, consecutive_failures) = (failed + 1, consecutive_failures + 1);
                        self.terminal.note(&format!("Not moved: {error:#}."))?;
                    }
                }
                if consecutive_failures == MOST_FAILURES {
                    bail!(
                        "stopping after {MOST_FAILURES} consecutive failures: the store is probably unavailable. {} moved \
                         forward, not all: run it again before traffic returns",
                        count(moved, "device")
                    );
                }
            }
            match read.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        if moved + failed == 0 {
            bail!("there is no device in this table: is it the restored one? --devices-table names another");
        }
        self.terminal
            .say(&format!("{} moved forward.", count(moved, "device")))?;
        if failed > 0 {
            bail!(
                "{} not moved: run it again before traffic returns, after `mfactl device remove` of those that cannot be read",
                count(failed, "device")
            );
        }
        Ok(self.terminal.say(WHAT_REMAINS)?)
    }

    async fn move_forward(&self, key: &DeviceKey, device: Device) -> Result<()> {
        let changed = self.change_held(key, device, |held| {
            // A fixed number would give the same versions again when the same backup is restored twice.
            let below_2_to_48 = u64::try_from(u128::from_be_bytes(self.random.sixteen_bytes()?) >> 80)?;
            let version = held.version.checked_add(FEWEST_VERSIONS + below_2_to_48);
            Ok(Some(Device {
                version: version.ok_or_else(|| anyhow!("its version cannot grow: remove and register the device"))?,
                ..held.clone()
            }))
        });
        changed.await.map(drop)
    }
}

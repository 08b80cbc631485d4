//! Removing a device, on the condition of its seed: sign-ins do not disturb it, and a late or repeated removal never hits
//! a device that was registered again.

use super::Leftovers;
use crate::device::{Device, DeviceRecord, Status};
use crate::error::StoreError;
use crate::names::DeviceKey;
use crate::ports::registry::{DeviceRegistry, Removed};

/// How often a removal is tried while the seed changes.
const MOST_TRIES: u8 = 3;
/// More writes than one device can have had in the time of a call.
const MOST_WRITES: u64 = 1 << 32;

/// Why a device was not removed.
#[derive(Debug, thiserror::Error)]
pub enum NotRemoved {
    /// There is none.
    #[error("there is no such device")]
    Absent,
    /// An operator disabled it.
    #[error("the device is disabled")]
    Disabled,
    /// Its seed was changed each time.
    #[error("others wrote first {MOST_TRIES} times")]
    Contention,
    /// The store failed; the device may be gone.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Removes a device that is not disabled. What it named is among the leftovers.
///
/// # Errors
/// [`NotRemoved`].
pub async fn remove(
    devices: &impl DeviceRegistry,
    key: &DeviceKey,
    leftovers: &mut Leftovers,
) -> Result<(), NotRemoved> {
    let mut record = devices.record(key).await?.ok_or(NotRemoved::Absent)?;
    for _ in 0..MOST_TRIES {
        if record.device.status == Status::Disabled {
            return Err(NotRemoved::Disabled);
        }
        let stored = match devices.remove_seeded(key, &record.device.seed_ref).await? {
            Removed::Yes(removed) => {
                leftovers.add(removed.seeds());
                return Ok(());
            }
            Removed::No(stored) => stored,
        };
        match stored {
            Some(stored) if is_same_registration(&record, &stored) => record = *stored,
            // Gone, by an earlier try of this call or by another one; what is there now was registered since.
            _ => {
                leftovers.add(record.seeds());
                return Ok(());
            }
        }
    }
    Err(NotRemoved::Contention)
}

/// Whether a later state is of the same registration, and not of a device that was registered again by the same name: that
/// one has another random version.
fn is_same_registration(earlier: &DeviceRecord, later: &DeviceRecord) -> bool {
    earlier.created_at == later.created_at && is_counted_from(earlier.device.version, &later.device)
}

/// Whether a device has a version that counts on from another one: each registration begins with a random one.
pub(super) fn is_counted_from(version: u64, later: &Device) -> bool {
    let writes = later.version.checked_sub(version);
    writes.is_some_and(|writes| writes < MOST_WRITES)
}

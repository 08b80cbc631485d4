//! The one write that registers a device, or a new seed for it.

use std::time::Duration;

use super::{KeptBecause, Leftovers, may_still_take_effect};
use crate::clock::Timestamp;
use crate::device::{Device, DeviceRecord, NewSeed, PendingSeed, RegisteredBy, Registration, Status};
use crate::error::{RandomError, StoreError};
use crate::names::{DeviceKey, SeedRef, seed_name};
use crate::otp::Seed;
use crate::ports::registry::{DeviceRegistry, SeedRegistry};
use crate::ports::{Stored, Written};
use crate::random::Random;

/// How often a registration is tried while others write the same device.
const MOST_TRIES: u8 = 3;

/// What is to be registered. The seed is stored already.
#[derive(Debug, Clone)]
pub struct RegisterRequest {
    /// The device.
    pub key: DeviceKey,
    /// Its seed.
    pub seed: NewSeed,
    /// Whether an active device gets a new seed.
    pub replace: bool,
    /// The status of a new device: active only for imports.
    pub status: Status,
    /// Who registers it.
    pub by: RegisteredBy,
    /// The version of a new device: random, see [`RegisterRequest::random_version`].
    pub version: u64,
    /// The time.
    pub now: Timestamp,
    /// Until when the seed of an active device waits for its first code.
    pub pending_until: Timestamp,
    /// How long a device that was never active is kept from cleaning up.
    pub activate_within: Duration,
}

impl RegisterRequest {
    /// A random version tells a call's own repeated write from another registration, and a write for an earlier device of
    /// the same name never matches it. Half of the range is left to count up.
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn random_version(random: &impl Random) -> Result<u64, RandomError> {
        let [a, b, c, d, e, f, g, h, ..] = random.sixteen_bytes()?;
        Ok(u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1)
    }

    fn activate_by(&self) -> Option<Timestamp> {
        (self.status == Status::ActivationRequired).then(|| self.now.plus(self.activate_within))
    }
}

/// Why a device is not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationRefusal {
    /// It is active, and is not to be replaced.
    Exists,
    /// An operator disabled it.
    Disabled,
    /// The user has too many devices.
    TooManyDevices,
}

/// The write that registers a device as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationWrite {
    /// A new device.
    Create(Device),
    /// Another seed for a device that was never active.
    Reseed {
        /// The device as it was read.
        held: Device,
        /// The device with the new seed.
        new: Device,
    },
    /// A pending seed for an active device, which keeps working.
    SetPending {
        /// The device as it was read.
        held: Device,
        /// The new seed.
        pending: PendingSeed,
    },
}

impl RegistrationWrite {
    /// What the write is made on; `None` for a new device.
    #[must_use]
    pub const fn held(&self) -> Option<&Device> {
        match self {
            Self::Create(_) => None,
            Self::Reseed { held, .. } | Self::SetPending { held, .. } => Some(held),
        }
    }
}

/// What registers a device, given what is stored.
///
/// # Errors
/// [`RegistrationRefusal`].
pub fn plan(
    stored: Option<&DeviceRecord>,
    request: &RegisterRequest,
) -> Result<RegistrationWrite, RegistrationRefusal> {
    let Some(DeviceRecord { device: held, .. }) = stored else {
        let NewSeed { seed_ref, parameters } = request.seed.clone();
        let device = Device::registered(request.version, request.status, seed_ref, parameters);
        return Ok(RegistrationWrite::Create(device));
    };
    let held = held.clone();
    match held.status {
        Status::ActivationRequired => {
            let version = held.version.saturating_add(1);
            let NewSeed { seed_ref, parameters } = request.seed.clone();
            let new = match request.status {
                // Wrong codes of the unfinished registration do not count against a seed that is in use at once.
                Status::Active => Device::registered(version, Status::Active, seed_ref, parameters),
                Status::ActivationRequired | Status::Disabled => Device {
                    version,
                    seed_ref,
                    parameters,
                    ..held.clone()
                },
            };
            Ok(RegistrationWrite::Reseed { held, new })
        }
        Status::Active if request.replace => Ok(RegistrationWrite::SetPending {
            held,
            pending: PendingSeed {
                seed_ref: request.seed.seed_ref.clone(),
                until: request.pending_until,
            },
        }),
        Status::Active => Err(RegistrationRefusal::Exists),
        Status::Disabled => Err(RegistrationRefusal::Disabled),
    }
}

/// Why a device was not registered.
#[derive(Debug, thiserror::Error)]
pub enum NotRegistered {
    /// It may not be.
    #[error("the device may not be registered")]
    Refused(RegistrationRefusal),
    /// Others wrote first each time.
    #[error("others wrote first {MOST_TRIES} times")]
    Contention,
    /// The store failed, and the device does not have the seed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Registers a device, or a new seed for it, in one conditional write on what is stored: the device is read again after a
/// write that others forestalled.
///
/// # Errors
/// [`NotRegistered`]; the new seed is among the leftovers then.
pub async fn register(
    devices: &impl DeviceRegistry,
    stored: Option<DeviceRecord>,
    request: &RegisterRequest,
    leftovers: &mut Leftovers,
) -> Result<(), NotRegistered> {
    let seed = &request.seed.seed_ref;
    let mut stored = stored;
    for _ in 0..MOST_TRIES {
        let write = match plan(stored.as_ref(), request) {
            Ok(write) => write,
            Err(refusal) => {
                leftovers.unwanted.push(seed.clone());
                return Err(NotRegistered::Refused(refusal));
            }
        };
        let written = match make(devices, request, &write).await {
            Ok(written) => written,
            Err(error) => {
                if !names_seed(devices, &request.key, write.held(), seed, leftovers).await {
                    return Err(error.into());
                }
                true
            }
        };
        if written {
            let former = stored.iter().flat_map(DeviceRecord::seeds);
            // An active device keeps its own.
            let own = matches!(write, RegistrationWrite::SetPending { .. })
                .then(|| write.held())
                .flatten();
            let former = former.filter(|former| own.is_none_or(|own| own.seed_ref != **former) && *former != seed);
            leftovers.unwanted.extend(former.cloned());
            return Ok(());
        }
        stored = match devices.record(&request.key).await {
            Ok(stored) => stored,
            Err(error) => {
                leftovers.unwanted.push(seed.clone());
                return Err(error.into());
            }
        };
    }
    leftovers.unwanted.push(seed.clone());
    Err(NotRegistered::Contention)
}

/// Makes the write; whether it took effect.
async fn make(
    devices: &impl DeviceRegistry,
    request: &RegisterRequest,
    write: &RegistrationWrite,
) -> Result<bool, StoreError> {
    let key = &request.key;
    let written = match write {
        RegistrationWrite::Create(device) => {
            let registration = Registration {
                created_at: request.now,
                by: request.by,
                activate_by: request.activate_by(),
            };
            return Ok(devices.register(key, device, &registration).await? == Stored::Yes);
        }
        RegistrationWrite::Reseed { held, new } => {
            devices
                .reseed(key, held, new, request.by, request.activate_by())
                .await?
        }
        RegistrationWrite::SetPending { held, pending } => devices.set_pending_seed(key, held, pending).await?,
    };
    Ok(written == Written::Yes)
}

/// After a write that names a seed was not answered: whether the device names the seed anyway. If it does not, and the
/// write can no longer take effect, the seed is unwanted. Otherwise it stays, since a device must have its seed.
async fn names_seed(
    devices: &impl DeviceRegistry,
    key: &DeviceKey,
    held: Option<&Device>,
    seed: &SeedRef,
    leftovers: &mut Leftovers,
) -> bool {
    let why = match devices.record(key).await {
        Ok(Some(record)) if record.seeds().any(|named| named == seed) => return true,
        Ok(record) if may_still_take_effect(held, record.as_ref()) => KeptBecause::WriteMayTakeEffect,
        Ok(_) => {
            leftovers.unwanted.push(seed.clone());
            return false;
        }
        Err(error) => KeptBecause::Unreadable(error),
    };
    leftovers.kept = Some((seed.clone(), why));
    false
}

/// Why a seed was not stored.
#[derive(Debug, thiserror::Error)]
pub enum NotStored {
    /// The generator failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores a seed under a new random name.
///
/// # Errors
/// [`NotStored`]; the seed may be stored anyway, and is among the leftovers then.
pub async fn store_seed(
    seeds: &impl SeedRegistry,
    random: &impl Random,
    prefix: &str,
    seed: &Seed,
    leftovers: &mut Leftovers,
) -> Result<SeedRef, NotStored> {
    let name = seed_name(prefix, random.sixteen_bytes()?);
    let error = match seeds.create(&name, seed).await {
        Ok(seed_ref) => return Ok(seed_ref),
        Err(error) => error,
    };
    // Its version is unknown, and removing it needs none.
    if !error.is_throttled()
        && let Ok(seed_ref) = SeedRef::new(&name, "unknown")
    {
        leftovers.unwanted.push(seed_ref);
    }
    Err(error.into())
}

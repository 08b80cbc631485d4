//! The one write that registers a device, or a new seed for it.

use std::time::Duration;

use super::removal::is_counted_from;
use super::{KeptBecause, Leftovers, may_still_take_effect};
use crate::clock::Timestamp;
use crate::device::{Device, DeviceRecord, NewSeed, PendingSeed, RegisteredBy, Registration, Status};
use crate::error::{RandomError, StoreError};
use crate::names::{DeviceKey, SealedId, SecretVersion, SeedRef, seed_name};
use crate::otp::Seed;
use crate::ports::registry::{DeviceRegistry, SeedRegistry};
use crate::ports::{Stored, Written};
use crate::random::Random;
use crate::sealed::{SealedSeed, SeedStorage};

/// How often a registration is tried while others write the same device.
const MOST_TRIES: u8 = 3;

/// What is to be registered. The seed is stored already.
#[derive(Debug, Clone)]
pub struct RegisterRequest {
    /// The device.
    pub key: DeviceKey,
    /// Its seed.
    pub seed: NewSeed,
    /// The seed itself, if it is sealed.
    pub sealed: Option<SealedSeed>,
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
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(random.sixteen_bytes()?) {
            *to = from;
        }
        Ok(u64::from_be_bytes(bytes) >> 1)
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

/// Whether a device as it is stored may be registered.
///
/// # Errors
/// [`RegistrationRefusal`].
pub fn require_registrable(stored: Option<&DeviceRecord>, replace: bool) -> Result<(), RegistrationRefusal> {
    match stored.map(|record| record.device.status) {
        None | Some(Status::ActivationRequired) => Ok(()),
        Some(Status::Active) if replace => Ok(()),
        Some(Status::Active) => Err(RegistrationRefusal::Exists),
        Some(Status::Disabled) => Err(RegistrationRefusal::Disabled),
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
    require_registrable(stored, request.replace)?;
    let Some(DeviceRecord { device: held, .. }) = stored else {
        let NewSeed { seed_ref, parameters } = request.seed.clone();
        return Ok(RegistrationWrite::Create(Device {
            sealed: request.sealed.clone(),
            ..Device::registered(request.version, request.status, seed_ref, parameters)
        }));
    };
    let held = held.clone();
    match held.status {
        Status::ActivationRequired => {
            let version = held.version.saturating_add(1);
            let NewSeed { seed_ref, parameters } = request.seed.clone();
            let sealed = request.sealed.clone();
            let new = match request.status {
                // Wrong codes of the unfinished registration do not count against a seed that is in use at once.
                Status::Active => Device {
                    sealed,
                    ..Device::registered(version, Status::Active, seed_ref, parameters)
                },
                Status::ActivationRequired | Status::Disabled => Device {
                    version,
                    seed_ref,
                    sealed,
                    parameters,
                    ..held.clone()
                },
            };
            Ok(RegistrationWrite::Reseed { held, new })
        }
        Status::Active | Status::Disabled => Ok(RegistrationWrite::SetPending {
            held,
            pending: PendingSeed {
                seed_ref: request.seed.seed_ref.clone(),
                sealed: request.sealed.clone(),
                until: request.pending_until,
            },
        }),
    }
}

/// Why a device was not registered.
#[derive(Debug, thiserror::Error)]
pub enum NotRegistered {
    /// It may not be.
    #[error("the device may not be registered")]
    Refused(RegistrationRefusal),
    /// Others wrote first, each time or so that the seed must not be used any more.
    #[error("others wrote first")]
    Contention,
    /// The store failed, and the device does not have the seed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Registers a device, or a new seed for it, in one conditional write on what is stored: the device is read again after a
/// write that others forestalled, and the write made again unless an earlier try of it may have been superseded.
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
                leftovers.add([seed]);
                return Err(NotRegistered::Refused(refusal));
            }
        };
        let mut written = make(devices, request, &write).await;
        let mut now = None;
        if matches!(written, Ok(false)) {
            written = devices.record(&request.key).await.map(|record| {
                now = record;
                // An earlier try of the write may have taken effect.
                now.iter().flat_map(DeviceRecord::seeds).any(|named| named == seed)
            });
        }
        match written {
            Ok(true) => {}
            // The write would still take effect, late.
            Ok(false) if stored.is_none() && now.is_none() => {
                leftovers.keep(seed, KeptBecause::WriteMayTakeEffect);
                return Err(NotRegistered::Contention);
            }
            Ok(false) if may_be_superseded(stored.as_ref(), request.version, now.as_ref()) => break,
            Ok(false) => {
                stored = now;
                continue;
            }
            Err(error) => {
                if !names_seed(devices, &request.key, write.held(), seed, leftovers).await {
                    return Err(error.into());
                }
            }
        }
        // An active device keeps its own.
        let own = match &write {
            RegistrationWrite::SetPending { held, .. } => Some(&held.seed_ref),
            RegistrationWrite::Create(_) | RegistrationWrite::Reseed { .. } => None,
        };
        let former = stored.iter().flat_map(DeviceRecord::seeds);
        let former = former.filter(|former| *former != seed && Some(*former) != own);
        leftovers.add(former);
        return Ok(());
    }
    leftovers.add([seed]);
    Err(NotRegistered::Contention)
}

/// After a refused write: whether an earlier try of it may have taken effect, and another registration or a removal then
/// ended it, and removes its seed. Such a seed must not be named again. `planned_on` is what the write was made on, `version`
/// the one of a new device.
fn may_be_superseded(planned_on: Option<&DeviceRecord>, version: u64, stored: Option<&DeviceRecord>) -> bool {
    match (planned_on, stored) {
        (_, None) => true,
        // A device that counts on from this version began as this one.
        (None, Some(stored)) => is_counted_from(version, &stored.device),
        // One write came since, and that was not this one: the device does not name its seed.
        (Some(read), Some(stored)) => {
            stored.device.version != read.device.version.saturating_add(1) && !stored.seeds().eq(read.seeds())
        }
    }
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
            leftovers.add([seed]);
            return false;
        }
        Err(error) => KeptBecause::Unreadable(error),
    };
    leftovers.keep(seed, why);
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

/// A seed that is stored for a device, or sealed to be stored beside it.
#[derive(Debug, Clone)]
pub struct StoredSeed {
    /// Where it is.
    pub seed_ref: SeedRef,
    /// The seed itself, if it is sealed.
    pub sealed: Option<SealedSeed>,
}

/// Stores a seed in a secret with a new random name, or seals it for its device, as the store keeps new seeds.
///
/// # Errors
/// [`NotStored`]; a secret may be stored anyway, and is among the leftovers then.
pub async fn store_seed(
    seeds: &impl SeedRegistry,
    random: &impl Random,
    prefix: &str,
    key: &DeviceKey,
    seed: &Seed,
    leftovers: &mut Leftovers,
) -> Result<StoredSeed, NotStored> {
    let drawn = random.sixteen_bytes()?;
    if seeds.storage() == SeedStorage::Sealed {
        let id = SealedId::from_random_bytes(drawn);
        let sealed = Some(seeds.seal(key, id, seed).await?);
        let seed_ref = SeedRef::Sealed(id);
        return Ok(StoredSeed { seed_ref, sealed });
    }
    let name = seed_name(prefix, drawn);
    let error = match seeds.create(&name, seed).await {
        Ok(secret) => {
            return Ok(StoredSeed {
                seed_ref: SeedRef::Secret(secret),
                sealed: None,
            });
        }
        Err(error) => error,
    };
    // Its version is unknown, and removing it needs none.
    if !error.is_throttled()
        && let Ok(secret) = SecretVersion::new(&name, "unknown")
    {
        leftovers.unwanted.push(secret);
    }
    Err(error.into())
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use tokio::task::yield_now;

    use super::*;
    use crate::names::{DeviceName, Owner, UserName};
    use crate::otp::OtpParameters;
    use crate::testing::memory::{Fault, MemoryDevices, Op};

    const NOW: Timestamp = Timestamp::from_secs(1_795_575_600);

    fn secret(number: u8) -> Result<SecretVersion, Box<dyn Error>> {
        Ok(SecretVersion::new(&format!("mfa/seed/{number}"), "1")?)
    }

    fn seed(number: u8) -> Result<SeedRef, Box<dyn Error>> {
        secret(number).map(SeedRef::Secret)
    }

    fn request() -> Result<RegisterRequest, Box<dyn Error>> {
        Ok(RegisterRequest {
            key: DeviceKey {
                owner: Owner::parse("client")?,
                user: UserName::parse("user")?,
                device: DeviceName::parse("phone")?,
            },
            seed: NewSeed {
                seed_ref: seed(1)?,
                parameters: OtpParameters::default(),
            },
            sealed: None,
            replace: true,
            status: Status::ActivationRequired,
            by: RegisteredBy::Http,
            version: 1 << 50,
            now: NOW,
            pending_until: NOW.plus(Duration::from_mins(10)),
            activate_within: Duration::from_hours(24),
        })
    }

    /// Registers; between the first try of the write, whose answer is lost, and the second one the device changes.
    async fn register_twice(
        devices: &MemoryDevices,
        op: Op,
        change: impl FnOnce(&mut Device) + Send,
    ) -> Result<(Result<(), NotRegistered>, Leftovers), Box<dyn Error>> {
        let request = request()?;
        let stored = devices.peek_record(&request.key);
        devices.inject(op, Fault::LostThenRepeated);
        let mut leftovers = Leftovers::default();
        let (registered, ()) = tokio::join!(
            biased;
            register(devices, stored, &request, &mut leftovers),
            async {
                let has_it = |held: &Device| held.seed_ref == request.seed.seed_ref;
                let held = loop {
                    match devices.peek(&request.key).filter(has_it) {
                        Some(held) => break held,
                        None => yield_now().await,
                    }
                };
                let mut new = held.clone();
                change(&mut new);
                devices.swap_seed(&request.key, &held, &new);
            }
        );
        Ok((registered, leftovers))
    }

    #[tokio::test]
    async fn a_seed_that_was_named_and_superseded_is_not_named_again() -> Result<(), Box<dyn Error>> {
        let (key, another) = (request()?.key, seed(2)?);
        for op in [Op::Register, Op::Reseed] {
            let devices = MemoryDevices::default();
            if op == Op::Reseed {
                let device = Device::registered(7, Status::ActivationRequired, seed(0)?, OtpParameters::default());
                devices.put(&key, &device);
            }
            let (registered, leftovers) = register_twice(&devices, op, |device| {
                device.version += 1;
                device.seed_ref = another.clone();
            })
            .await?;
            // The other registration removes it.
            assert!(
                matches!(registered, Err(NotRegistered::Contention)),
                "{op:?}: {registered:?}"
            );
            assert_eq!(leftovers.unwanted, [secret(1)?], "{op:?}");
            assert_eq!(devices.peek(&key).map(|device| device.seed_ref), Some(another.clone()));
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_registration_that_took_effect_keeps_its_seed_whatever_came_after_it() -> Result<(), Box<dyn Error>> {
        let devices = MemoryDevices::default();
        let (registered, leftovers) = register_twice(&devices, Op::Register, |device| {
            device.version += 1;
            device.status = Status::Disabled;
        })
        .await?;
        assert!(registered.is_ok(), "{registered:?}");
        assert_eq!(leftovers.unwanted, []);
        Ok(())
    }
}

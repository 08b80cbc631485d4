//! Devices in the stores: registered without the steps that a person takes, removed, and their codes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shared::aws::auths::DynamoAuths;
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::Clients;
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::{Clock as _, Timestamp};
use shared::device::{Device, Registration, Status};
use shared::names::{DeviceKey, DeviceName, Owner, SeedRef, UserName};
use shared::otp::{OtpCode, OtpParameters, Seed, Step};
use shared::ports::operator::DeviceInventory as _;
use shared::ports::registry::{DeviceRegistry as _, SeedRegistry as _};
use shared::ports::{DeviceStore as _, SeedStore as _, Stored};
use shared::random::SystemRandom;
use shared::registration::{Leftovers, StoredSeed, store_seed};
use shared::sealed::SeedStorage;

use super::secrets_manager::KEY_RING;
use crate::clock::LocalClock;
use crate::random;

/// The table of auths, as the template names it.
pub(crate) const AUTHS_TABLE: &str = "Auths";
/// The table of devices, as the template names it.
pub(crate) const DEVICES_TABLE: &str = "Devices";
/// The beginning of all names of seeds.
pub(crate) const SEED_PREFIX: &str = "mfa";
/// The demo's user.
pub const DEMO_USER: &str = "demouser";
/// The demo's device.
pub const DEMO_DEVICE: &str = "mydevice";

/// A device and the seed that its user's app would have.
#[derive(Debug, Clone)]
pub struct Registered {
    /// Identifies the device.
    pub key: DeviceKey,
    /// The state when it was registered or found.
    pub device: Device,
    /// Generates the codes.
    pub seed: Arc<Seed>,
}

/// The codes that a device's app shows now and next.
#[derive(Debug, Clone)]
pub struct Codes {
    current: OtpCode,
    next: OtpCode,
}

impl Codes {
    /// The codes of a seed at a time.
    pub(crate) fn at(seed: &Seed, now: Timestamp) -> Self {
        let step = Step::at(now, seed.parameters().period);
        Self {
            current: seed.code(step),
            next: seed.code(step.next()),
        }
    }

    /// The code of this step, for `otp`.
    #[must_use]
    pub fn single(&self) -> &str {
        self.current.reveal()
    }

    /// The codes of this step and the next one, for `otps`.
    #[must_use]
    pub fn pair(&self) -> [&str; 2] {
        [self.current.reveal(), self.next.reveal()]
    }
}

/// The key of a device.
///
/// # Errors
/// If a name is invalid.
pub fn device_key(owner: impl Into<Owner>, user: &str, device: &str) -> Result<DeviceKey> {
    Ok(DeviceKey {
        owner: owner.into(),
        user: UserName::parse(user)?,
        device: DeviceName::parse(device)?,
    })
}

/// The stores as an operator reaches them: directly, with nothing kept in memory.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) auths: DynamoAuths,
    pub(crate) devices: DynamoDevices,
    pub(crate) seeds: SecretsManagerSeeds<Arc<LocalClock>>,
    pub(crate) clock: Arc<LocalClock>,
}

impl Registry {
    /// With where new seeds are kept.
    pub(crate) fn new(clients: &Clients, clock: &Arc<LocalClock>, storage: SeedStorage) -> Self {
        let (clock_of_seeds, key_ring) = (Arc::clone(clock), Some(KEY_RING.to_owned()));
        let seeds = SecretsManagerSeeds::new(&clients.secrets_manager, clock_of_seeds, Duration::ZERO, key_ring);
        Self {
            auths: DynamoAuths::new(&clients.dynamodb, AUTHS_TABLE.to_owned()),
            devices: DynamoDevices::new(&clients.dynamodb, DEVICES_TABLE.to_owned()),
            seeds: seeds.keeping(storage),
            clock: Arc::clone(clock),
        }
    }

    /// Registers a device; `None` if it exists.
    pub(crate) async fn register(
        &self,
        key: &DeviceKey,
        seed: Seed,
        state: impl FnOnce(&mut Device),
    ) -> Result<Option<Registered>> {
        let mut leftovers = Leftovers::default();
        let StoredSeed { seed_ref, sealed } =
            store_seed(&self.seeds, &SystemRandom, SEED_PREFIX, key, &seed, &mut leftovers).await?;
        let version = u64::from_be_bytes(*random::bytes()?) >> 1;
        let mut device = Device {
            sealed,
            ..Device::registered(version, Status::Active, seed_ref, seed.parameters())
        };
        state(&mut device);
        match self
            .devices
            .register(key, &device, &Registration::by_operator(self.clock.now()))
            .await?
        {
            Stored::Yes => Ok(Some(Registered {
                key: key.clone(),
                device,
                seed: Arc::new(seed),
            })),
            Stored::Taken => {
                self.remove_seed(&device.seed_ref).await?;
                Ok(None)
            }
        }
    }

    /// A registered device with its seed.
    pub(crate) async fn find(&self, key: &DeviceKey) -> Result<Option<Registered>> {
        let Some(device) = self.devices.get(key).await? else {
            return Ok(None);
        };
        let seed = self.seeds.get(key, &device).await?;
        Ok(Some(Registered {
            key: key.clone(),
            device,
            seed,
        }))
    }

    /// Removes a device and its seed, if it exists.
    pub(crate) async fn remove(&self, key: &DeviceKey) -> Result<()> {
        if let Some(device) = self.devices.get(key).await? {
            self.devices.remove(key).await?;
            self.remove_seed(&device.seed_ref).await?;
        }
        Ok(())
    }

    async fn remove_seed(&self, seed: &SeedRef) -> Result<()> {
        if let Some(secret) = seed.secret() {
            self.seeds.remove(secret).await?;
        }
        Ok(())
    }

    /// The current codes of a device, used or not.
    pub(crate) async fn codes(&self, key: &DeviceKey) -> Result<Option<Codes>> {
        let found = self.find(key).await?;
        Ok(found.map(|found| Codes::at(&found.seed, self.clock.now())))
    }
}

/// A seed of 160 bits (RFC 4226, section 4, R6).
pub(crate) fn new_seed(parameters: OtpParameters) -> Result<Seed> {
    Ok(Seed::from_bytes(random::bytes::<20>()?.as_slice(), parameters)?)
}

/// The demo's device: the existing one, or a new one with the given or a new seed.
pub(crate) async fn demo_device(registry: &Registry, key: &DeviceKey, seed: Option<Seed>) -> Result<Registered> {
    if let Some(found) = registry.find(key).await? {
        if seed.is_some_and(|seed| *seed.to_base32() != *found.seed.to_base32()) {
            bail!("the demo device already exists with another seed; omit --seed-file, or use a new data directory");
        }
        return Ok(found);
    }
    let seed = seed.map_or_else(|| new_seed(OtpParameters::default()), Ok)?;
    registry
        .register(key, seed, |_| {})
        .await?
        .context("the demo device was registered concurrently")
}

//! The local stack's stores, with TLS in front of them, and what the functions are called with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use local::{Options, Stack};
use serde_json::{Value, json};
use shared::aws::auths::DynamoAuths;
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::{Clients, Endpoints, Limits};
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::{Clock as _, SystemClock, Timestamp};
use shared::config::{AUTHS_TABLE, DEVICES_TABLE, KEY_RING, SEED_PREFIX, SEED_STORAGE};
use shared::device::{Auth, Device, Registration, Status};
use shared::names::{AuthId, DeviceKey, DeviceName, Owner, SealedId, SeedRef, UserName, seed_name};
use shared::otp::{OtpParameters, Seed, Step};
use shared::ports::registry::{DeviceRegistry as _, SeedRegistry as _};
use shared::ports::{AuthStore as _, DeviceStore as _, Stored};
use shared::random::{Random as _, SystemRandom};
use shared::sealed::{SealedSeed, SeedStorage};

use crate::edge::Edge;
use crate::subjects::Kind;
use crate::tls::Fronts;

const INIT_AUTH: &str = include_str!("../../events/init-auth.json");
const VALIDATE_OTP: &str = include_str!("../../events/validate-otp-wrong-code.json");
const REGISTER: &str = include_str!("../../events/manage-devices-register.json");

/// The variable from which glibc takes settings of its heap.
const HEAP: &str = "GLIBC_TUNABLES";

/// What the functions have in it on Lambda.
fn heap_settings() -> Result<String> {
    let settings = format!("/Globals/Function/Environment/Variables/{HEAP}");
    let template = local::template::document()?;
    let found = template.pointer(&settings).and_then(Value::as_str);
    Ok(found
        .with_context(|| format!("template.yaml has no {HEAP}"))?
        .to_owned())
}

/// A separate client, so that no other device is touched.
const CLIENT: &str = "measured-client";
const DEVICE: &str = "mydevice";

/// Running stores, and how functions reach them.
pub(crate) struct World {
    stack: Stack,
    fronts: Fronts,
    edge: Edge,
    counting_fronts: Fronts,
    /// What this project's functions get.
    environment: BTreeMap<String, String>,
    /// The same, if they keep new seeds sealed.
    sealing_environment: BTreeMap<String, String>,
    pub(crate) stores: Stores,
    users: AtomicUsize,
}

/// The stores as an operator reaches them.
pub(crate) struct Stores {
    owner: Owner,
    devices: DynamoDevices,
    auths: DynamoAuths,
    seeds: SecretsManagerSeeds<SystemClock>,
    seed_prefix: String,
    /// The seed of every device.
    seed: Seed,
    /// One secret for all devices of [`World::samples`]: it is in memory after the first call, as on Lambda for a user who
    /// signs in again.
    seed_ref: SeedRef,
}

/// A new user with an active device and an open authId.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) user: String,
    pub(crate) auth_id: String,
}

impl World {
    async fn start() -> Result<Self> {
        let stack = Stack::start(Options::default()).await?;
        let of_stores = stack.environment();
        let edge = Edge::start(of_stores).await?;
        let fronts = Fronts::start(of_stores).await?;
        let mut environment = fronts.environment().clone();
        environment.insert(HEAP.to_owned(), heap_settings()?);
        let mut sealing_environment = environment.clone();
        sealing_environment.insert(SEED_STORAGE.to_owned(), SeedStorage::Sealed.as_str().to_owned());
        Ok(Self {
            fronts,
            environment,
            sealing_environment,
            counting_fronts: Fronts::start(edge.environment()).await?,
            edge,
            stores: Stores::open(of_stores, Owner::parse(CLIENT)?, SystemRandom.sixteen_bytes()?).await?,
            users: AtomicUsize::new(0),
            stack,
        })
    }

    /// Does something with new stores.
    pub(crate) async fn with<T>(work: impl AsyncFnOnce(&Self) -> Result<T>) -> Result<T> {
        let world = Self::start().await?;
        let outcome = work(&world).await;
        world.stack.shutdown().await;
        outcome
    }

    /// What a measured process gets.
    pub(crate) fn environment(&self, kind: Kind) -> &BTreeMap<String, String> {
        match kind {
            Kind::Rust => &self.environment,
            Kind::Sealed => &self.sealing_environment,
            _ => self.fronts.environment(),
        }
    }

    /// What a process gets whose calls are counted, and where they are.
    pub(crate) const fn counting(&self) -> (&BTreeMap<String, String>, &Edge) {
        (self.counting_fronts.environment(), &self.edge)
    }

    /// New users, since a code counts once per device. The authIds are open for an hour: no measurement takes longer.
    pub(crate) async fn samples(&self, kind: Kind, how_many: usize) -> Result<Vec<Sample>> {
        let mut samples = Vec::with_capacity(how_many);
        for _ in 0..how_many {
            let user = format!("user-{}", self.users.fetch_add(1, Ordering::Relaxed));
            let device = match kind {
                Kind::Sealed => self.stores.register(&user, SeedStorage::Sealed).await?,
                _ => {
                    self.stores
                        .register_with(&user, self.stores.seed_ref.clone(), None)
                        .await?
                }
            };
            let auth_id = self.stores.start(&user, device).await?.to_string();
            samples.push(Sample { user, auth_id });
        }
        Ok(samples)
    }
}

impl Stores {
    /// Those that an environment names, for the devices of an owner, which all have the same seed.
    pub(crate) async fn open(environment: &BTreeMap<String, String>, owner: Owner, seed: [u8; 16]) -> Result<Self> {
        let setting = |name: &str| environment.get(name).with_context(|| format!("{name} is not set"));
        let endpoints = Endpoints::local(
            setting("AWS_ENDPOINT_URL_DYNAMODB")?,
            setting("AWS_ENDPOINT_URL_SECRETS_MANAGER")?,
        );
        let clients = Clients::new(endpoints, Limits::OPERATOR);
        let key_ring = Some(setting(KEY_RING)?.clone());
        let seeds = SecretsManagerSeeds::new(&clients.secrets_manager, SystemClock, Duration::ZERO, key_ring);
        let seed = Seed::from_bytes(&seed, OtpParameters::default())?;
        let seed_prefix = setting(SEED_PREFIX)?.clone();
        let name = seed_name(&seed_prefix, SystemRandom.sixteen_bytes()?);
        Ok(Self {
            owner,
            devices: DynamoDevices::new(&clients.dynamodb, setting(DEVICES_TABLE)?.clone()),
            auths: DynamoAuths::new(&clients.dynamodb, setting(AUTHS_TABLE)?.clone()),
            seed_ref: SeedRef::Secret(seeds.create(&name, &seed).await?),
            seeds,
            seed_prefix,
            seed,
        })
    }

    fn key(&self, user: &str) -> Result<DeviceKey> {
        Ok(DeviceKey {
            owner: self.owner.clone(),
            user: UserName::parse(user)?,
            device: DeviceName::parse(DEVICE)?,
        })
    }

    /// An active device of a new user, with a seed of its own.
    pub(crate) async fn register(&self, user: &str, storage: SeedStorage) -> Result<Device> {
        let random = SystemRandom.sixteen_bytes()?;
        let (seed_ref, sealed) = match storage {
            SeedStorage::Secrets => {
                let name = seed_name(&self.seed_prefix, random);
                (SeedRef::Secret(self.seeds.create(&name, &self.seed).await?), None)
            }
            SeedStorage::Sealed => {
                let id = SealedId::from_random_bytes(random);
                let sealed = self.seeds.seal(&self.key(user)?, id, &self.seed).await?;
                (SeedRef::Sealed(id), Some(sealed))
            }
        };
        self.register_with(user, seed_ref, sealed).await
    }

    async fn register_with(&self, user: &str, seed_ref: SeedRef, sealed: Option<SealedSeed>) -> Result<Device> {
        let device = Device {
            sealed,
            ..Device::registered(1, Status::Active, seed_ref, self.seed.parameters())
        };
        let registration = Registration::by_operator(Timestamp::from_secs(SystemClock.now().as_secs()));
        let registered = self.devices.register(&self.key(user)?, &device, &registration).await?;
        ensure!(registered == Stored::Yes, "{user} is taken");
        Ok(device)
    }

    async fn start(&self, user: &str, device: Device) -> Result<AuthId> {
        let issued_at = Timestamp::from_secs(SystemClock.now().as_secs());
        let auth = Auth {
            id: AuthId::from_random_bytes(SystemRandom.sixteen_bytes()?),
            key: self.key(user)?,
            issued_at,
            expires_at: issued_at.plus(Duration::from_hours(1)),
            device,
        };
        ensure!(self.auths.create(&auth).await? == Stored::Yes, "an authId is taken");
        Ok(auth.id)
    }

    /// The device of a user, as the store has it.
    pub(crate) async fn device(&self, user: &str) -> Result<Device> {
        let device = self.devices.get(&self.key(user)?).await?;
        device.with_context(|| format!("{user} has no device"))
    }

    /// The code of a step near the current one.
    pub(crate) fn code(&self, steps_later: i64) -> String {
        let now = Step::at(SystemClock.now(), self.seed.parameters().period);
        let code = self.seed.code(Step(now.0.saturating_add_signed(steps_later)));
        code.reveal().to_owned()
    }
}

/// Step 2 for a user.
pub(crate) fn init_auth_event(user: &str) -> Result<String> {
    let body = json!({ "userName": user, "deviceName": DEVICE, "deviceType": "TOTP" });
    event(INIT_AUTH, &body, &[])
}

/// Step 3 with a body.
pub(crate) fn validate_otp_event(auth_id: &str, body: &Value) -> Result<String> {
    event(VALIDATE_OTP, body, &[("authId", auth_id)])
}

/// A registration of a device that its user does not have yet.
pub(crate) fn register_event(user: &str) -> Result<String> {
    let body = json!({ "deviceName": "phone", "deviceType": "TOTP" });
    event(REGISTER, &body, &[("userName", user)])
}

fn event(sample: &str, body: &Value, path_parameters: &[(&str, &str)]) -> Result<String> {
    let mut event: Value = serde_json::from_str(sample)?;
    let mut set = |pointer: &str, value: String| -> Result<()> {
        *event
            .pointer_mut(pointer)
            .with_context(|| format!("no {pointer} in the sample event"))? = value.into();
        Ok(())
    };
    set("/requestContext/authorizer/claims/client_id", CLIENT.to_owned())?;
    set("/body", body.to_string())?;
    for (name, value) in path_parameters {
        set(&format!("/pathParameters/{name}"), (*value).to_owned())?;
    }
    Ok(event.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_events_take_the_ids_of_a_measurement() -> Result<()> {
        let made: Value = serde_json::from_str(&validate_otp_event("an-auth", &json!({ "otp": "1" }))?)?;
        let found = [
            "/requestContext/authorizer/claims/client_id",
            "/pathParameters/authId",
            "/body",
        ]
        .map(|pointer| made.pointer(pointer).and_then(Value::as_str));
        assert_eq!(found, [Some(CLIENT), Some("an-auth"), Some(r#"{"otp":"1"}"#)]);
        Ok(())
    }
}

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
use shared::config::{AUTHS_TABLE, DEVICES_TABLE, SEED_PREFIX};
use shared::device::{Auth, Device, Registration, Status};
use shared::names::{AuthId, DeviceKey, DeviceName, Owner, SeedRef, UserName, seed_name};
use shared::otp::{OtpParameters, Seed, Step};
use shared::ports::registry::{DeviceRegistry as _, SeedRegistry as _};
use shared::ports::{AuthStore as _, DeviceStore as _, Stored};
use shared::random::{Random as _, SystemRandom};

use crate::edge::Edge;
use crate::tls::Fronts;

const INIT_AUTH: &str = include_str!("../../events/init-auth.json");
const VALIDATE_OTP: &str = include_str!("../../events/validate-otp-wrong-code.json");
const REGISTER: &str = include_str!("../../events/manage-devices-register.json");

/// A separate client, so that no other device is touched.
const CLIENT: &str = "measured-client";
const DEVICE: &str = "mydevice";

/// Running stores, and how functions reach them.
pub(crate) struct World {
    stack: Stack,
    fronts: Fronts,
    edge: Edge,
    counting_fronts: Fronts,
    devices: DynamoDevices,
    auths: DynamoAuths,
    /// All devices share a seed, which is in memory after the first call, as on Lambda for a user who signs in again.
    seed: Seed,
    seed_ref: SeedRef,
    users: AtomicUsize,
}

/// A new user with an active device and an open authId.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) user: String,
    pub(crate) auth_id: String,
}

impl World {
    pub(crate) async fn start() -> Result<Self> {
        let stack = Stack::start(Options::default()).await?;
        let environment = stack.environment();
        let edge = Edge::start(environment).await?;
        let setting = |name: &str| environment.get(name).with_context(|| format!("{name} is not set"));
        let endpoints = Endpoints::local(
            setting("AWS_ENDPOINT_URL_DYNAMODB")?,
            setting("AWS_ENDPOINT_URL_SECRETS_MANAGER")?,
        );
        let clients = Clients::new(endpoints, Limits::OPERATOR);
        let seeds = SecretsManagerSeeds::new(&clients.secrets_manager, SystemClock, Duration::ZERO, None);
        let seed = Seed::from_bytes(&SystemRandom.sixteen_bytes()?, OtpParameters::default())?;
        let name = seed_name(setting(SEED_PREFIX)?, SystemRandom.sixteen_bytes()?);
        let seed_ref = SeedRef::Secret(seeds.create(&name, &seed).await?);
        Ok(Self {
            fronts: Fronts::start(environment).await?,
            counting_fronts: Fronts::start(edge.environment()).await?,
            edge,
            devices: DynamoDevices::new(&clients.dynamodb, setting(DEVICES_TABLE)?.clone()),
            auths: DynamoAuths::new(&clients.dynamodb, setting(AUTHS_TABLE)?.clone()),
            seed,
            seed_ref,
            users: AtomicUsize::new(0),
            stack,
        })
    }

    pub(crate) async fn shutdown(self) {
        self.stack.shutdown().await;
    }

    /// What a measured process gets.
    pub(crate) const fn environment(&self) -> &BTreeMap<String, String> {
        self.fronts.environment()
    }

    /// What a process gets whose calls are counted, and where they are.
    pub(crate) const fn counting(&self) -> (&BTreeMap<String, String>, &Edge) {
        (self.counting_fronts.environment(), &self.edge)
    }

    /// New users, since a code counts once per device. The authIds are open for an hour: no measurement takes longer.
    pub(crate) async fn samples(&self, how_many: usize) -> Result<Vec<Sample>> {
        let mut samples = Vec::with_capacity(how_many);
        for _ in 0..how_many {
            let user = format!("user-{}", self.users.fetch_add(1, Ordering::Relaxed));
            let key = key(&user)?;
            let device = Device::registered(1, Status::Active, self.seed_ref.clone(), self.seed.parameters());
            let issued_at = Timestamp::from_secs(SystemClock.now().as_secs());
            let registration = Registration::by_operator(issued_at);
            let registered = self.devices.register(&key, &device, &registration).await?;
            let auth = Auth {
                id: AuthId::from_random_bytes(SystemRandom.sixteen_bytes()?),
                key,
                issued_at,
                expires_at: issued_at.plus(Duration::from_hours(1)),
                device,
            };
            let created = self.auths.create(&auth).await?;
            ensure!((registered, created) == (Stored::Yes, Stored::Yes), "{user} is taken");
            let auth_id = auth.id.to_string();
            samples.push(Sample { user, auth_id });
        }
        Ok(samples)
    }

    /// The device of a user, as the store has it.
    pub(crate) async fn device(&self, user: &str) -> Result<Device> {
        let device = self.devices.get(&key(user)?).await?;
        device.with_context(|| format!("{user} has no device"))
    }

    /// The code of a step near the current one.
    pub(crate) fn code(&self, steps_later: i64) -> String {
        let now = Step::at(SystemClock.now(), self.seed.parameters().period);
        let code = self.seed.code(Step(now.0.saturating_add_signed(steps_later)));
        code.reveal().to_owned()
    }
}

fn key(user: &str) -> Result<DeviceKey> {
    Ok(DeviceKey {
        owner: Owner::parse(CLIENT)?,
        user: UserName::parse(user)?,
        device: DeviceName::parse(DEVICE)?,
    })
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

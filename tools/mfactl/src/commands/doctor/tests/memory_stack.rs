//! A healthy stack in memory, and its doctor.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::clock::Timestamp;
use shared::device::{Device, Status};
use shared::names::{DeviceKey, SecretVersion, SeedRef, UserName, seed_name};
use shared::otp::{OtpParameters, Seed};
use shared::testing::clock::ManualClock;
use shared::testing::memory::{MemoryDevices, MemorySeeds};

use crate::commands::Delay;
use crate::commands::doctor::{Doctor, DoctorOptions, Place, Stores};
use crate::commands::testing::pool::MemoryPool;
use crate::commands::testing::world::{Reply, TestTerminal, World};
use crate::ports::stack::{
    Alarm, ApiAccess, Authorizer, ClockOffset, DeployedStack, InspectError, Inspector, Method, Resource, Table,
    UserPool,
};

/// A stack in memory, and the call that fails.
#[derive(Debug, Clone)]
pub(super) struct MemoryInspector {
    pub(super) auths: Option<Table>,
    pub(super) devices: Option<Table>,
    pub(super) api_access: Option<ApiAccess>,
    pub(super) status: u16,
    pub(super) user_pool: Option<UserPool>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) clock_offset: Option<ClockOffset>,
    pub(super) fails: &'static str,
}

impl MemoryInspector {
    pub(super) fn healthy() -> Self {
        let table = |key: &[&str], ttl: Option<&str>| Table {
            active: true,
            key: key.iter().map(|part| (*part).to_owned()).collect(),
            ttl: ttl.map(str::to_owned),
            backups: Some(true),
            protected: true,
        };
        let method = |path: &str| Method {
            verb: "POST".to_owned(),
            path: path.to_owned(),
            authorization: "COGNITO_USER_POOLS".to_owned(),
            authorizer: Some("a1".to_owned()),
            scopes: vec!["mfa/authenticate".to_owned()],
        };
        Self {
            auths: Some(table(&["pk"], Some("expiresAt"))),
            devices: Some(table(&["pk", "sk"], None)),
            api_access: Some(ApiAccess {
                authorizers: vec![Authorizer {
                    id: "a1".to_owned(),
                    kind: "COGNITO_USER_POOLS".to_owned(),
                    pools: vec!["arn:aws:cognito-idp:eu-west-1:1:userpool/eu-west-1_pool".to_owned()],
                }],
                methods: vec![
                    method("/deviceAuthentications"),
                    method("/deviceAuthentications/{authId}"),
                ],
            }),
            status: 401,
            user_pool: Some(UserPool {
                protected: true,
                scopes: vec!["mfa/authenticate".to_owned()],
            }),
            alarms: ALARMS.map(alarm).to_vec(),
            clock_offset: Some(ClockOffset::Unmeasurable),
            fails: "",
        }
    }

    fn answer<T: Clone>(&self, call: &'static str, answer: &T) -> Result<T, InspectError> {
        if self.fails == call {
            let reason = "AccessDenied".to_owned();
            return Err(InspectError { call, reason });
        }
        Ok(answer.clone())
    }
}

pub(super) const ALARMS: [&str; 8] = [
    "FailuresAlarm",
    "InitAuthErrorsAlarm",
    "ValidateOtpErrorsAlarm",
    "WrongPairsAlarm",
    "GatedAlarm",
    "SeedFailuresAlarm",
    "LatencyAlarm",
    "ThrottlesAlarm",
];

pub(super) fn alarm(logical: &str) -> Alarm {
    Alarm {
        name: format!("mfa-{logical}"),
        actions_enabled: true,
        actions: vec!["arn:aws:sns:eu-west-1:1:topic".to_owned()],
        in_alarm: false,
    }
}

impl Inspector for MemoryInspector {
    async fn stack(&self, name: &str) -> Result<Option<DeployedStack>, InspectError> {
        let without = |stack| DeployedStack {
            resources: Vec::new(),
            ..stack
        };
        self.answer("stack", &(name == "mfa").then(stack).map(without))
    }

    async fn resources(&self, _name: &str) -> Result<Vec<Resource>, InspectError> {
        self.answer("resources", &stack().resources)
    }

    async fn table(&self, name: &str) -> Result<Option<Table>, InspectError> {
        let (call, table) = if name == "Auths-1" {
            ("auths", &self.auths)
        } else {
            ("devices", &self.devices)
        };
        self.answer(call, table)
    }

    async fn api_access(&self, _api: &str) -> Result<Option<ApiAccess>, InspectError> {
        self.answer("access", &self.api_access)
    }

    async fn status_without_token(&self, _verb: &str, _url: &str) -> Result<u16, InspectError> {
        self.answer("status", &self.status)
    }

    async fn user_pool(&self, _id: &str, _server: &str) -> Result<Option<UserPool>, InspectError> {
        self.answer("pool", &self.user_pool)
    }

    async fn alarms(&self, names: &[String]) -> Result<Vec<Alarm>, InspectError> {
        let known = self.alarms.iter().filter(|alarm| names.contains(&alarm.name));
        self.answer("alarms", &known.cloned().collect())
    }

    fn clock_offset(&self) -> Option<ClockOffset> {
        self.clock_offset
    }
}

pub(super) fn stack() -> DeployedStack {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let alarms = ALARMS.map(|logical| Resource {
        logical_id: logical.to_owned(),
        physical_id: format!("mfa-{logical}"),
    });
    let others = [("Api", "abc"), ("Devices", "Devices-1"), ("UserPool", "pool-1")].map(|resource| {
        let (logical_id, physical_id) = owned(resource);
        Resource {
            logical_id,
            physical_id,
        }
    });
    DeployedStack {
        name: "mfa".to_owned(),
        status: "UPDATE_COMPLETE".to_owned(),
        created_at: Some(Timestamp::EPOCH),
        outputs: HashMap::from(
            [
                ("ApiUrl", "https://api/v1"),
                ("TokenUrl", "https://tokens/oauth2/token"),
                ("UserPoolId", "eu-west-1_pool"),
                ("AuthsTable", "Auths-1"),
                ("DevicesTable", "Devices-1"),
                ("SeedPrefix", "mfa/seed/"),
                ("KeyRing", "KeyRing-1"),
            ]
            .map(owned),
        ),
        parameters: HashMap::from([("Protect", "true"), ("Watch", "true")].map(owned)),
        resources: alarms.into_iter().chain(others).collect(),
    }
}

pub(super) type MemoryDoctor =
    Doctor<MemoryInspector, MemoryPool, MemoryDevices, MemorySeeds, Arc<ManualClock>, TestTerminal>;

pub(super) fn doctor(world: &World, replies: impl IntoIterator<Item = Reply>) -> MemoryDoctor {
    let clients = MemoryPool::default();
    for name in ["one", "two", "three"] {
        clients.put(name);
    }
    let admin = world.admin(replies);
    Doctor {
        stack: stack(),
        inspector: MemoryInspector::healthy(),
        clients,
        stores: Some(stores_of(admin.devices, admin.seeds)),
        clock: admin.clock,
        terminal: admin.terminal,
        yes: false,
        program: "mfactl --stack mfa".to_owned(),
        api_url: None,
        place: Place::Aws,
    }
}

pub(super) fn stores_of<D>(devices: D, seeds: MemorySeeds) -> Stores<D, MemorySeeds> {
    Stores {
        devices,
        seeds,
        table: "Devices-1".to_owned(),
        prefix: "mfa/seed/".to_owned(),
        has_key_ring: true,
    }
}

pub(super) const CHECK: DoctorOptions = DoctorOptions {
    fix: false,
    json: false,
    page: 2,
};

pub(super) const FIX: DoctorOptions = DoctorOptions { fix: true, ..CHECK };

pub(super) struct NoDelay;

impl Delay for NoDelay {
    async fn wait(&self, _duration: Duration) {}
}

/// Whether there is no problem, and the output.
pub(super) async fn check(doctor: &mut MemoryDoctor) -> (bool, String) {
    let outcome = doctor.examine(&CHECK, &NoDelay).await;
    (outcome.is_ok(), std::mem::take(&mut doctor.terminal.output))
}

/// Stores a device with its seed.
pub(super) fn put(world: &World, user: &str, number: u8) -> Result<(DeviceKey, SecretVersion)> {
    let key = DeviceKey {
        user: UserName::parse(user)?,
        ..world.key.clone()
    };
    let seed = Seed::from_bytes(&[number; 20], OtpParameters::default())?;
    let seed_ref = world.seeds.put(&seed_name("mfa", [number; 16]), &seed)?;
    let device = Device::registered(
        number.into(),
        Status::Active,
        seed_ref.clone(),
        OtpParameters::default(),
    );
    world.devices.put(&key, &device);
    Ok((key, secret_of(&seed_ref)?))
}

/// Stores a seed that no device names.
pub(super) fn put_unnamed(world: &World, number: u8) -> Result<SecretVersion> {
    let seed = Seed::from_bytes(&[number; 20], OtpParameters::default())?;
    secret_of(&world.seeds.put(&seed_name("mfa", [number; 16]), &seed)?)
}

fn secret_of(seed: &SeedRef) -> Result<SecretVersion> {
    seed.secret().cloned().context("sealed")
}

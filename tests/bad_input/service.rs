//! Both endpoints over stores in memory with one device and one auth, run as Lambda runs them: from a payload to the
//! answer for the gateway.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use init_auth::InitAuth;
use serde::Deserialize as _;
use shared::clock::Timestamp;
use shared::config::{self, InitAuthConfig, ValidateOtpConfig};
use shared::device::{Accepted, Auth, Device, Failing, Status};
use shared::http::event::{self, Event};
use shared::names::{AuthId, DeviceKey, DeviceName, Owner, UserName, WriteId};
use shared::otp::{OtpParameters, Seed, Step};
use shared::testing::clock::ManualClock;
use shared::testing::log::MemoryLog;
use shared::testing::memory::{MemoryAuths, MemoryDevices, MemorySeeds};
use shared::testing::random::SequenceRandom;
use validate_otp::ValidateOtp;

use crate::answer::Answer;

/// The client that the device belongs to.
pub(crate) const CLIENT: &str = "client-one";
/// Another client.
pub(crate) const OTHER_CLIENT: &str = "client-two";
/// The user of the device in NFC, in NFD, and in a third form.
pub(crate) const USERS: [&str; 3] = [
    "Zo\u{eb} \u{1fa} \u{ac01}",
    "Zoe\u{308} A\u{30a}\u{301} \u{1100}\u{1161}\u{11a8}",
    "Zoe\u{308} \u{212b}\u{301} \u{ac00}\u{11a8}",
];
/// The device's name in NFC and in NFD.
pub(crate) const DEVICES: [&str; 2] = ["appare\u{ef}l+1@example.com", "apparei\u{308}l+1@example.com"];
/// The beginning of a time step.
const NOW: Timestamp = Timestamp::from_secs(1_795_575_600);
const SEED: &[u8] = b"12345678901234567890";
const FAILURES_BEFORE: u64 = 3;

/// Which endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `POST /deviceAuthentications`.
    Start,
    /// `POST /deviceAuthentications/{authId}`.
    Code,
}

/// The state before a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Expired,
    Foreign,
    Unknown,
    Used,
    Exhausted,
    SingleCodesGated,
    PairsGated,
    Disabled,
    NotActive,
    DeviceGone,
}

pub(crate) struct Service {
    init_auth: InitAuth<MemoryAuths, MemoryDevices, Arc<ManualClock>, SequenceRandom, MemoryLog>,
    validate_otp: ValidateOtp<MemoryAuths, MemoryDevices, MemorySeeds, Arc<ManualClock>, SequenceRandom, MemoryLog>,
    auths: MemoryAuths,
    devices: MemoryDevices,
    seeds: MemorySeeds,
    key: DeviceKey,
    pub(crate) log: MemoryLog,
}

/// What a request may change.
#[derive(Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) device: Option<Device>,
    pub(crate) auths: usize,
}

static SETTINGS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    [
        (config::AUTHS_TABLE, "auths"),
        (config::DEVICES_TABLE, "devices"),
        (config::SEED_PREFIX, "mfa"),
        (config::DEVICE_HASH_KEY, "0123456789abcdef"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
});

/// The authId that is there.
pub(crate) fn auth_id() -> AuthId {
    AuthId::from_random_bytes([0xab; 16])
}

fn step(ahead: i64) -> Step {
    let now = Step::at(NOW, OtpParameters::default().period);
    Step(now.0.saturating_add_signed(ahead))
}

fn seed() -> Result<Seed> {
    Ok(Seed::from_bytes(SEED, OtpParameters::default())?)
}

/// The codes of the steps from two before the current one to two after it. The one before the current step was used.
pub(crate) static CODES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let codes = seed().map(|seed| {
        (-2..=2)
            .map(|ahead| seed.code(step(ahead)).reveal().to_owned())
            .collect()
    });
    codes.unwrap_or_default()
});

/// The code of a step near the current one.
pub(crate) fn code(ahead: i64) -> &'static str {
    let code = usize::try_from(ahead + 2).ok().and_then(|index| CODES.get(index));
    code.map_or("", String::as_str)
}

impl Service {
    pub(crate) fn new(state: State) -> Result<Self> {
        let key = DeviceKey {
            owner: Owner::parse(CLIENT)?,
            user: UserName::parse(USERS[0])?,
            device: DeviceName::parse(DEVICES[0])?,
        };
        let (auths, devices, seeds) = (MemoryAuths::default(), MemoryDevices::default(), MemorySeeds::default());
        let seed_ref = seeds.put("mfa/seed/one", &seed()?)?;
        let mut device = Device::registered(7, Status::Active, seed_ref, OtpParameters::default());
        device.last_step = step(-1);
        device.total_failures = FAILURES_BEFORE;
        let mut auth = Auth {
            id: auth_id(),
            key: key.clone(),
            issued_at: NOW,
            expires_at: NOW.plus(Duration::from_mins(5)),
            device: device.clone(),
        };
        match state {
            State::Open | State::Unknown | State::DeviceGone => {}
            State::Expired => auth.expires_at = NOW,
            State::Foreign => auth.key.owner = Owner::parse(OTHER_CLIENT)?,
            State::Used => device.accepted.push(Accepted {
                auth_id: auth.id,
                write_id: WriteId::from_bytes([1; 16]),
                expires_at: auth.expires_at,
            }),
            State::Exhausted => device.failing.push(Failing {
                auth_id: auth.id,
                count: 5,
            }),
            State::SingleCodesGated => device.not_before = NOW.plus(Duration::from_secs(30)),
            State::PairsGated => device.pair_at = NOW.plus(Duration::from_hours(1)),
            State::Disabled => device.status = Status::Disabled,
            State::NotActive => device.status = Status::ActivationRequired,
        }
        auth.device = device.clone();
        if state != State::DeviceGone {
            devices.put(&key, &device);
        }
        if state != State::Unknown {
            auths.put(&auth);
        }
        let (clock, log) = (Arc::new(ManualClock::at(NOW)), MemoryLog::default());
        Ok(Self {
            init_auth: InitAuth::new(
                auths.clone(),
                devices.clone(),
                &InitAuthConfig::read(&*SETTINGS)?,
                Arc::clone(&clock),
                SequenceRandom::from_start(1),
                log.clone(),
            ),
            validate_otp: ValidateOtp::new(
                auths.clone(),
                devices.clone(),
                seeds.clone(),
                &ValidateOtpConfig::read(&*SETTINGS)?,
                clock,
                SequenceRandom::from_start(2),
                log.clone(),
            ),
            auths,
            devices,
            seeds,
            key,
            log,
        })
    }

    pub(crate) fn stored(&self) -> Stored {
        Stored {
            device: self.devices.peek(&self.key),
            auths: self.auths.count(),
        }
    }

    /// How often a store was called.
    pub(crate) fn calls(&self) -> usize {
        self.auths.all_calls() + self.devices.all_calls() + self.seeds.all_calls()
    }

    /// Hands a payload to a function as the runtime does.
    pub(crate) async fn invoke(&self, operation: Operation, payload: &[u8]) -> Result<Answer> {
        let event =
            Event::deserialize(&mut serde_json::Deserializer::from_slice(payload)).context("the invocation failed")?;
        let response = match operation {
            Operation::Start => self.init_auth.handle(event).await,
            Operation::Code => self.validate_otp.handle(event).await,
        };
        Answer::read(&event::into_proxy_response(response))
    }
}

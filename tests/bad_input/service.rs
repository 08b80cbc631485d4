//! All endpoints over stores in memory with one device, one auth and one activation, run as Lambda runs them: from a payload to the
//! answer for the gateway.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use init_auth::InitAuth;
use manage_devices::ManageDevices;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize as _;
use shared::clock::Timestamp;
use shared::config::{self, InitAuthConfig, ManageDevicesConfig, ValidateOtpConfig};
use shared::device::{Accepted, Auth, Device, DeviceRecord, Failing, NewSeed, PendingSeed, Status};
use shared::http::event::{self, Event};
use shared::names::{AuthId, DeviceKey, DeviceName, Owner, UserName, WriteId};
use shared::otp::{OtpParameters, Seed, Step};
use shared::registration::Activation;
use shared::testing::clock::ManualClock;
use shared::testing::log::MemoryLog;
use shared::testing::memory::{MemoryActivations, MemoryAuths, MemoryDevices, MemorySeeds};
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

/// An operation of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Start,
    Code,
    Register,
    Activate,
    List,
    Remove,
}

impl Operation {
    pub(crate) const ALL: [Self; 6] = [
        Self::Start,
        Self::Code,
        Self::Register,
        Self::Activate,
        Self::List,
        Self::Remove,
    ];

    pub(crate) const fn route(self) -> (&'static str, &'static str) {
        match self {
            Self::Start => ("POST", "/deviceAuthentications"),
            Self::Code => ("POST", "/deviceAuthentications/{authId}"),
            Self::Register => ("POST", "/users/{userName}/mfadevices"),
            Self::Activate => ("POST", "/users/{userName}/mfadevices/{authId}"),
            Self::List => ("GET", "/users/{userName}/mfadevices"),
            Self::Remove => ("DELETE", "/users/{userName}/mfadevices/TOTP/{deviceName}"),
        }
    }

    /// Whether it is one of `manage-devices`, which has several.
    pub(crate) const fn manages(self) -> bool {
        !matches!(self, Self::Start | Self::Code)
    }

    pub(crate) const fn reads_body(self) -> bool {
        !matches!(self, Self::List | Self::Remove)
    }

    /// The scope that it needs, and the one of the others.
    pub(crate) const fn scopes(self) -> (&'static str, &'static str) {
        if self.manages() {
            ("mfa/devices", "mfa/authenticate")
        } else {
            ("mfa/authenticate", "mfa/devices")
        }
    }
}

/// The state before a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Expired,
    Foreign,
    Unknown,
    /// Of the auth; of an activation, that its seed is already in use.
    Used,
    Superseded,
    Exhausted,
    SingleCodesGated,
    PairsGated,
    Disabled,
    NotActive,
    DeviceGone,
    /// The user has as many devices as are allowed, besides this one.
    TooManyDevices,
}

pub(crate) struct Service {
    init_auth: InitAuth<MemoryAuths, MemoryDevices, Arc<ManualClock>, SequenceRandom, MemoryLog>,
    validate_otp: ValidateOtp<MemoryAuths, MemoryDevices, MemorySeeds, Arc<ManualClock>, SequenceRandom, MemoryLog>,
    manage_devices:
        ManageDevices<MemoryActivations, MemoryDevices, MemorySeeds, Arc<ManualClock>, SequenceRandom, MemoryLog>,
    auths: MemoryAuths,
    activations: MemoryActivations,
    devices: MemoryDevices,
    seeds: MemorySeeds,
    key: DeviceKey,
    pub(crate) state: State,
    pub(crate) log: MemoryLog,
}

/// What a request may change.
#[derive(Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) device: Option<Device>,
    pub(crate) devices: Vec<DeviceRecord>,
    pub(crate) auths: usize,
    pub(crate) activations: usize,
    pub(crate) seeds: usize,
}

static SETTINGS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    [
        (config::AUTHS_TABLE, "auths"),
        (config::DEVICES_TABLE, "devices"),
        (config::SEED_PREFIX, "mfa"),
        (config::KEY_RING, "mfa-key-ring"),
        (config::DEVICE_HASH_KEY, "0123456789abcdef"),
        (config::ISSUER, "Example"),
        (config::DEVICES_PER_USER, "2"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
});

/// A name as it is sent in a path.
pub(crate) fn in_path(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

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
        let activations = MemoryActivations::default();
        let (clock, log) = (Arc::new(ManualClock::at(NOW)), MemoryLog::default());
        let service = Self {
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
                Arc::clone(&clock),
                SequenceRandom::from_start(2),
                log.clone(),
            ),
            manage_devices: ManageDevices::new(
                activations.clone(),
                devices.clone(),
                seeds.clone(),
                &ManageDevicesConfig::read(&*SETTINGS)?,
                clock,
                SequenceRandom::from_start(3),
                log.clone(),
            ),
            auths,
            activations,
            devices,
            seeds,
            key,
            state,
            log,
        };
        service.store()?;
        Ok(service)
    }

    /// Stores what there is in the state.
    fn store(&self) -> Result<()> {
        let Self {
            auths,
            activations,
            devices,
            seeds,
            key,
            state,
            ..
        } = self;
        let state = *state;
        let seed_ref = seeds.put("mfa/seed/one", &seed()?)?;
        let pending = seeds.put("mfa/seed/pending", &seed()?)?;
        let other = seeds.put("mfa/seed/other", &seed()?)?;
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
        // Its seed has the same codes as that of the device, and waits beside it.
        let mut first_seed = pending.clone();
        match state {
            State::Open | State::Unknown | State::DeviceGone | State::Superseded => {}
            State::TooManyDevices => {
                let more = Device::registered(7, Status::Active, other.clone(), OtpParameters::default());
                for name in ["one", "two"] {
                    let device = DeviceName::parse(name)?;
                    devices.put(&DeviceKey { device, ..key.clone() }, &more);
                }
            }
            State::Expired => auth.expires_at = NOW,
            State::Foreign => auth.key.owner = Owner::parse(OTHER_CLIENT)?,
            State::Used => {
                first_seed = device.seed_ref.clone();
                device.accepted.push(Accepted {
                    auth_id: auth.id,
                    write_id: WriteId::from_bytes([1; 16]),
                    expires_at: auth.expires_at,
                });
            }
            State::Exhausted => device.failing.push(Failing {
                auth_id: auth.id,
                count: 5,
            }),
            State::SingleCodesGated => device.not_before = NOW.plus(Duration::from_secs(30)),
            State::PairsGated => device.pair_at = NOW.plus(Duration::from_hours(1)),
            State::Disabled => device.status = Status::Disabled,
            State::NotActive => {
                first_seed = device.seed_ref.clone();
                device.status = Status::ActivationRequired;
            }
        }
        auth.device = device.clone();
        if state == State::Superseded {
            auth.device.seed_ref = other.clone();
            first_seed = other;
        }
        let activation = Activation {
            id: auth.id,
            key: auth.key.clone(),
            seed: NewSeed {
                seed_ref: first_seed,
                parameters: OtpParameters::default(),
            },
            issued_at: auth.issued_at,
            expires_at: auth.expires_at,
        };
        if state != State::DeviceGone {
            devices.put(key, &device);
            if device.status == Status::Active {
                let until = NOW.plus(Duration::from_mins(5));
                devices.put_pending(
                    key,
                    PendingSeed {
                        seed_ref: pending,
                        sealed: None,
                        until,
                    },
                );
            }
        }
        if state != State::Unknown {
            auths.put(&auth);
            activations.put(&activation);
        }
        Ok(())
    }

    pub(crate) fn stored(&self) -> Stored {
        Stored {
            device: self.devices.peek(&self.key),
            devices: self.devices.all(),
            auths: self.auths.count(),
            activations: self.activations.count(),
            seeds: self.seeds.count(),
        }
    }

    /// Whether every seed that a device names exists.
    pub(crate) fn has_seeds(&self) -> bool {
        let devices = self.devices.all();
        devices
            .iter()
            .flat_map(DeviceRecord::seeds)
            .all(|seed| self.seeds.has(seed))
    }

    /// How often a store was called.
    pub(crate) fn calls(&self) -> usize {
        self.auths.all_calls() + self.activations.all_calls() + self.devices.all_calls() + self.seeds.all_calls()
    }

    /// Hands a payload to a function as the runtime does.
    pub(crate) async fn invoke(&self, operation: Operation, payload: &[u8]) -> Result<Answer> {
        let event =
            Event::deserialize(&mut serde_json::Deserializer::from_slice(payload)).context("the invocation failed")?;
        let response = match operation {
            Operation::Start => self.init_auth.handle(event).await,
            Operation::Code => self.validate_otp.handle(event).await,
            _ => self.manage_devices.handle(event).await,
        };
        Answer::read(&event::into_proxy_response(response))
    }
}

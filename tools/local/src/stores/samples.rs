//! The devices of the sample events under `events/`, in every state that an answer depends on, each with an authId that
//! always exists.
//!
//! They belong to separate clients without credentials, so the gateway never reaches them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::clock::{Clock as _, Timestamp};
use shared::device::{Accepted, Auth, Device, Failing, Status};
use shared::names::{AuthId, ClientId, SeedRef, WriteId};
use shared::otp::OtpParameters;
use shared::policy::Policy;
use shared::ports::AuthStore as _;

use super::devices::{DEMO_DEVICE, DEMO_USER, Registry, device_key, new_seed};

/// The client of the sample events.
pub(crate) const CLIENT: &str = "sample-client";
const OTHER_CLIENT: &str = "other-sample-client";
/// Longer than an authId of the service lives and any gate stays closed: the events are tried by hand.
const LONG: Duration = Duration::from_hours(24);

/// A device in a particular state, with an authId.
struct Sample {
    client: &'static str,
    device: &'static str,
    auth: u8,
    /// Changes the device to this state, given its authId and the time.
    state: fn(&mut Device, AuthId, Timestamp),
}

const SAMPLES: [Sample; 10] = [
    Sample {
        client: CLIENT,
        device: DEMO_DEVICE,
        auth: 1,
        state: |_, _, _| {},
    },
    Sample {
        client: CLIENT,
        device: "expired",
        auth: 2,
        state: |_, _, _| {},
    },
    Sample {
        client: CLIENT,
        device: "used",
        auth: 3,
        state: |device, auth_id, now| {
            let write_id = WriteId::from_bytes([3; 16]);
            device.accepted.push(Accepted {
                auth_id,
                write_id,
                expires_at: now.plus(LONG),
            });
        },
    },
    Sample {
        client: CLIENT,
        device: "exhausted",
        auth: 4,
        state: |device, auth_id, _| {
            let count = Policy::OWN_ATTEMPTS;
            device.failing.push(Failing { auth_id, count });
        },
    },
    Sample {
        client: CLIENT,
        device: "gated",
        auth: 5,
        state: |device, _, now| device.not_before = now.plus(LONG),
    },
    Sample {
        client: CLIENT,
        device: "flooded",
        auth: 6,
        state: |device, _, now| device.pair_at = now.plus(LONG),
    },
    Sample {
        client: CLIENT,
        device: "disabled",
        auth: 7,
        state: |device, _, _| device.status = Status::Disabled,
    },
    Sample {
        client: CLIENT,
        device: "registered-again",
        auth: 8,
        state: |_, _, _| {},
    },
    Sample {
        client: OTHER_CLIENT,
        device: DEMO_DEVICE,
        auth: 9,
        state: |_, _, _| {},
    },
    Sample {
        client: CLIENT,
        device: "not-activated",
        auth: 10,
        state: |device, _, _| device.status = Status::ActivationRequired,
    },
];

/// The authId `00000000-0000-4000-8000-` and the number.
pub(crate) fn auth_id(number: u8) -> AuthId {
    AuthId::from_bytes([0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, number])
}

/// Stores the sample devices and authIds; those of an earlier start stay as they are.
pub(crate) async fn register(registry: &Registry) -> Result<()> {
    let issued_at = Timestamp::from_secs(registry.clock.now().as_secs());
    for sample in &SAMPLES {
        let key = device_key(&ClientId::parse(sample.client)?, DEMO_USER, sample.device)?;
        let id = auth_id(sample.auth);
        let seed = new_seed(OtpParameters::default())?;
        let registered = registry
            .register(&key, seed, |device| (sample.state)(device, id, issued_at))
            .await?;
        let mut device = match registered {
            Some(registered) => registered.device,
            None => {
                registry
                    .find(&key)
                    .await?
                    .context("a sample device has disappeared")?
                    .device
            }
        };
        let expires_at = if sample.device == "expired" {
            issued_at
        } else {
            issued_at.plus(LONG)
        };
        if sample.device == "registered-again" {
            // The snapshot is from before, with a seed that no longer exists.
            device.seed_ref = SeedRef::new("mfa/seed/former", "none")?;
        }
        let auth = Auth {
            id,
            key,
            issued_at,
            expires_at,
            device,
        };
        // It may exist from an earlier start.
        registry.auths.create(&auth).await?;
    }
    Ok(())
}

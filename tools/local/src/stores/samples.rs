//! The devices of the sample events under `events/`, in every state that an answer depends on, with authIds of sign-ins and
//! of registrations that always exist.
//!
//! They belong to separate clients without credentials, so the gateway never reaches them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::clock::{Clock as _, Timestamp};
use shared::device::{Accepted, Auth, Device, Failing, NewSeed, Status};
use shared::names::{AuthId, ClientId, SeedRef, WriteId};
use shared::otp::OtpParameters;
use shared::policy::Policy;
use shared::ports::AuthStore;
use shared::ports::registry::ActivationStore;
use shared::registration::Activation;

use super::devices::{DEMO_DEVICE, DEMO_USER, Registry, device_key, new_seed};

/// The client of the sample events.
pub(crate) const CLIENT: &str = "sample-client";
/// Whose devices wait for their first code.
pub(crate) const ACTIVATING: &str = "activating";
/// One of these devices.
pub(crate) const WAITING: &str = "waiting";
const OTHER_CLIENT: &str = "other-sample-client";
/// Longer than an authId of the service lives and any gate stays closed: the events are tried by hand.
const LONG: Duration = Duration::from_hours(24);

/// Changes a device to a state, given the authId that names it and the time.
type State = fn(&mut Device, AuthId, Timestamp);

/// A device in a particular state.
struct Sample {
    client: &'static str,
    user: &'static str,
    device: &'static str,
    status: Status,
    named_by: NamedBy,
    state: State,
}

/// The number of the authId that names a device, and the kind of that authId.
#[derive(Clone, Copy)]
enum NamedBy {
    SignIn(u8),
    Registration(u8),
    Nothing,
}

const SAMPLES: [Sample; 21] = [
    signing_in(1, DEMO_DEVICE, as_registered),
    signing_in(2, EXPIRED, as_registered),
    signing_in(3, "used", |device, auth_id, now| {
        let write_id = WriteId::from_bytes([3; 16]);
        device.accepted.push(Accepted {
            auth_id,
            write_id,
            expires_at: now.plus(LONG),
        });
    }),
    signing_in(4, "exhausted", exhausted),
    signing_in(5, "gated", gated),
    signing_in(6, "flooded", flooded),
    Sample {
        status: Status::Disabled,
        ..signing_in(7, "disabled", as_registered)
    },
    signing_in(8, REGISTERED_AGAIN, as_registered),
    Sample {
        client: OTHER_CLIENT,
        ..signing_in(9, DEMO_DEVICE, as_registered)
    },
    Sample {
        status: Status::ActivationRequired,
        ..signing_in(10, "not-activated", as_registered)
    },
    activating(11, WAITING, as_registered),
    activating(12, EXPIRED, as_registered),
    activating(13, "exhausted", exhausted),
    activating(14, "gated", gated),
    activating(15, "flooded", flooded),
    activating(16, REGISTERED_AGAIN, as_registered),
    Sample {
        status: Status::Active,
        ..activating(17, "active", as_registered)
    },
    Sample {
        status: Status::Disabled,
        ..activating(18, "disabled", as_registered)
    },
    Sample {
        client: OTHER_CLIENT,
        ..activating(19, WAITING, as_registered)
    },
    managed("owner"),
    managed("leaving"),
];

const EXPIRED: &str = "expired";
const REGISTERED_AGAIN: &str = "registered-again";

const fn signing_in(auth: u8, device: &'static str, state: State) -> Sample {
    Sample {
        client: CLIENT,
        user: DEMO_USER,
        device,
        status: Status::Active,
        named_by: NamedBy::SignIn(auth),
        state,
    }
}

const fn activating(auth: u8, device: &'static str, state: State) -> Sample {
    Sample {
        user: ACTIVATING,
        status: Status::ActivationRequired,
        named_by: NamedBy::Registration(auth),
        ..signing_in(auth, device, state)
    }
}

const fn managed(user: &'static str) -> Sample {
    Sample {
        user,
        named_by: NamedBy::Nothing,
        ..signing_in(0, "phone", as_registered)
    }
}

fn as_registered(_: &mut Device, _: AuthId, _: Timestamp) {}

fn exhausted(device: &mut Device, auth_id: AuthId, _: Timestamp) {
    let count = Policy::OWN_ATTEMPTS;
    device.failing.push(Failing { auth_id, count });
}

fn gated(device: &mut Device, _: AuthId, now: Timestamp) {
    device.not_before = now.plus(LONG);
}

fn flooded(device: &mut Device, _: AuthId, now: Timestamp) {
    device.pair_at = now.plus(LONG);
}

/// The authId `00000000-0000-4000-8000-` and the number in hexadecimal digits that are all decimal ones.
pub(crate) fn auth_id(number: u8) -> AuthId {
    let digits = number / 10 * 16 + number % 10;
    AuthId::from_bytes([0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, digits])
}

/// Stores the sample devices and authIds; those of an earlier start stay as they are.
pub(crate) async fn register(registry: &Registry) -> Result<()> {
    let issued_at = Timestamp::from_secs(registry.clock.now().as_secs());
    for sample in &SAMPLES {
        let key = device_key(&ClientId::parse(sample.client)?, sample.user, sample.device)?;
        let (NamedBy::SignIn(number) | NamedBy::Registration(number)) = sample.named_by else {
            registry
                .register(&key, new_seed(OtpParameters::default())?, |_| {})
                .await?;
            continue;
        };
        let id = auth_id(number);
        let registered = registry
            .register(&key, new_seed(OtpParameters::default())?, |device| {
                device.status = sample.status;
                (sample.state)(device, id, issued_at);
            })
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
        let expires_at = if sample.device == EXPIRED {
            issued_at
        } else {
            issued_at.plus(LONG)
        };
        if sample.device == REGISTERED_AGAIN {
            // The authId is from before, with a seed that no longer exists.
            device.seed_ref = SeedRef::new("mfa/seed/former", "none")?;
            device.sealed = None;
        }
        // The authId may exist from an earlier start.
        if matches!(sample.named_by, NamedBy::SignIn(_)) {
            let auth = Auth {
                id,
                key,
                issued_at,
                expires_at,
                device,
            };
            AuthStore::create(&registry.auths, &auth).await?;
        } else {
            let activation = Activation {
                id,
                key,
                seed: NewSeed {
                    seed_ref: device.seed_ref,
                    parameters: device.parameters,
                },
                issued_at,
                expires_at,
            };
            ActivationStore::create(&registry.auths, &activation).await?;
        }
    }
    Ok(())
}

//! What the sample events under `events/` name: a device of a client of their own, and an authId that is always there.
//!
//! The client has no credentials, so nothing of it can be reached through the gateway.

use std::time::Duration;

use anyhow::Result;
use shared::clock::{Clock as _, Timestamp};
use shared::device::Auth;
use shared::names::{AuthId, ClientId};
use shared::ports::AuthStore as _;

use crate::registry::{Registry, demo_device, device_key};
use crate::stack::{DEMO_DEVICE, DEMO_USER};

const CLIENT: &str = "sample-client";
/// `00000000-0000-4000-8000-000000000001`
const AUTH_ID: [u8; 16] = [0, 0, 0, 0, 0, 0, 0x40, 0, 0x80, 0, 0, 0, 0, 0, 0, 1];
/// Far longer than an authId of the service lives: the events are tried by hand.
const AUTH_LIFE: Duration = Duration::from_hours(24);

/// Puts them into new stores; those of an earlier start stay as they are.
pub(crate) async fn put(registry: &Registry) -> Result<()> {
    let key = device_key(&ClientId::parse(CLIENT)?, DEMO_USER, DEMO_DEVICE)?;
    let device = demo_device(registry, &key, None).await?.device;
    let issued_at = Timestamp::from_secs(registry.clock.now().as_secs());
    let expires_at = issued_at.plus(AUTH_LIFE);
    let auth = Auth {
        id: AuthId::from_bytes(AUTH_ID),
        key,
        issued_at,
        expires_at,
        device,
    };
    registry.auths.create(&auth).await?;
    Ok(())
}

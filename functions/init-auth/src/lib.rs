//! Step 2, `POST /deviceAuthentications`: one read of the device, one write of the auth.
//!
//! Every outcome of the endpoint is on this page. It never refuses because of guesses: step 3 decides that, on the device
//! itself.

use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::aws::auths::DynamoAuths;
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::Clients;
use shared::clock::{Clock, Timestamp};
use shared::config::InitAuthConfig;
use shared::device::{Auth, Device, Status};
use shared::http::body::Members;
use shared::http::error::{Code, Failure};
use shared::http::response::Success;
use shared::http::{ApiRequest, Boundary, Endpoint, Event, Notes, caller};
use shared::names::{AuthId, ClientOwners, DeviceKey, DeviceName, Owner, UserName};
use shared::policy::Policy;
use shared::ports::{AuthStore, DeviceStore, Stored};
use shared::random::Random;
use shared::telemetry::{DeviceHasher, RequestLog};

/// An authId lives for at least this many periods of its device, so that its user sees several codes.
const FEWEST_PERIODS: u32 = 4;

/// The endpoint over its ports.
#[derive(Debug)]
pub struct InitAuth<A, D, C, R, L> {
    auths: A,
    devices: D,
    random: R,
    boundary: Boundary<C, L>,
    auth_life: Duration,
    policy: Policy,
    owners: ClientOwners,
}

/// The endpoint as it runs on Lambda.
pub type OnAws<C, R, L> = InitAuth<DynamoAuths, DynamoDevices, C, R, L>;

impl<C: Clock, R: Random, L: RequestLog> OnAws<C, R, L> {
    /// Over the tables that the settings name.
    pub fn on_aws(config: &InitAuthConfig, clients: &Clients, clock: C, random: R, log: L) -> Self {
        let auths = DynamoAuths::new(&clients.dynamodb, config.service.auths_table.clone());
        let devices = DynamoDevices::new(&clients.dynamodb, config.service.devices_table.clone());
        Self::new(auths, devices, config, clock, random, log)
    }

    /// Opens the connections that a request needs. On Lambda, start-up has a full CPU and the first call does not.
    pub async fn warm_up(&self) {
        self.devices.warm_up().await;
    }
}

impl<A: AuthStore, D: DeviceStore, C: Clock, R: Random, L: RequestLog> InitAuth<A, D, C, R, L> {
    /// Over any ports.
    pub fn new(auths: A, devices: D, config: &InitAuthConfig, clock: C, random: R, log: L) -> Self {
        let hasher = DeviceHasher::new(config.service.device_hash_key.as_bytes());
        Self {
            auths,
            devices,
            random,
            boundary: Boundary::new(clock, log, hasher),
            auth_life: config.auth_life,
            policy: config.service.policy,
            owners: config.service.client_owners.clone(),
        }
    }

    /// Answers an event; it never fails as an invocation.
    pub async fn handle(&self, event: Event) -> Response<Body> {
        self.boundary.serve(self, event).await
    }

    async fn issue(&self, key: DeviceKey, device: Device, now: Timestamp) -> Result<Auth, Failure> {
        let period = Duration::from_secs(device.parameters.period.seconds());
        let issued_at = Timestamp::from_secs(now.as_secs());
        let expires_at = issued_at.plus(self.auth_life.max(period * FEWEST_PERIODS));
        let id = AuthId::from_random_bytes(self.random.sixteen_bytes()?);
        let mut auth = Auth {
            id,
            key,
            issued_at,
            expires_at,
            device,
        };
        if self.auths.create(&auth).await? == Stored::Taken {
            auth.id = AuthId::from_random_bytes(self.random.sixteen_bytes()?);
            if self.auths.create(&auth).await? == Stored::Taken {
                // A working generator does not repeat itself twice.
                return Err(Failure::new(Code::InternalError, "auth_id_taken_twice"));
            }
        }
        Ok(auth)
    }
}

impl<A: AuthStore, D: DeviceStore, C: Clock, R: Random, L: RequestLog> Endpoint for InitAuth<A, D, C, R, L> {
    const FUNCTION: &'static str = "init-auth";

    async fn answer(&self, request: &ApiRequest, now: Timestamp, notes: &mut Notes) -> Result<Success, Failure> {
        let client = request.caller.client(caller::SCOPE)?;
        notes.client = Some(client.clone());
        let called_path = request.caller.path()?;
        let key = device_key(&request.http, self.owners.owner_of(&client))?;
        notes.device = Some(key.clone());
        let device = self
            .devices
            .get(&key)
            .await?
            .ok_or(Failure::new(Code::DeviceNotFound, "no_device"))?;
        match device.status {
            Status::Active => {}
            Status::Disabled => return Err(Failure::new(Code::DeviceDisabled, "disabled")),
            Status::ActivationRequired => return Err(Failure::new(Code::DeviceNotActive, "not_active")),
        }
        let two_codes_required = !device.single_codes_open(now, &self.policy);
        let auth = self.issue(key, device, now).await?;
        created(&auth, called_path, two_codes_required)
    }
}

fn device_key(request: &Request, owner: Owner) -> Result<DeviceKey, Failure> {
    const USER_NAME: &str = "userName must be a string of 1 to 128 characters, without control characters and without \
                             white space at either end";
    const DEVICE_NAME: &str = "deviceName must be a string of 1 to 64 characters, without control characters and \
                               without white space at either end";
    let members = Members::read(request)?;
    let user: String = members.required("userName", USER_NAME)?;
    let device: String = members.required("deviceName", DEVICE_NAME)?;
    members.device_type(true)?;
    Ok(DeviceKey {
        owner,
        user: UserName::parse(&user).map_err(|_| Failure::invalid(USER_NAME))?,
        device: DeviceName::parse(&device).map_err(|_| Failure::invalid(DEVICE_NAME))?,
    })
}

/// Existing clients parse this strictly: exactly these members, in this order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    auth_id: String,
    status: &'static str,
    message: &'static str,
}

fn created(auth: &Auth, called_path: &str, two_codes_required: bool) -> Result<Success, Failure> {
    let auth_id = auth.id.to_string();
    let location = format!("{}/{auth_id}", called_path.trim_end_matches('/'));
    let body = Created {
        auth_id,
        status: "SUCCESS",
        message: "Please get the OTP from registered device to authenticate",
    };
    let reason = if two_codes_required {
        "started_two_codes_required"
    } else {
        "started"
    };
    let success = Success::json(StatusCode::CREATED, &body, reason)?
        .with_header("location", &location)?
        .with_header("auth-expires-at", &auth.expires_at.rfc3339())?;
    if two_codes_required {
        success.with_header("auth-codes-required", "2")
    } else {
        Ok(success)
    }
}

#[cfg(test)]
mod tests;

//! Step 3, `POST /deviceAuthentications/{authId}`: one read of the auth, one conditional write of the device.
//!
//! Every outcome of the endpoint is on this page. `shared::device::decide` evaluates an attempt, and `shared::settlement`
//! gives its verdict only after the write that counts it took effect.

use std::sync::Arc;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde::Serialize;
use shared::aws::auths::DynamoAuths;
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::Clients;
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::{Clock, Timestamp};
use shared::config::ValidateOtpConfig;
use shared::device::{Attempt, Auth, Device, Verdict, admit};
use shared::error::StoreError;
use shared::http::body::Members;
use shared::http::error::{Code, Failure};
use shared::http::response::Success;
use shared::http::{ApiRequest, Boundary, Endpoint, Event, Notes, caller, path};
use shared::names::{AuthId, ClientOwners, Owner, WriteId};
use shared::otp::{OfferKind, Seed};
use shared::policy::Policy;
use shared::ports::{AuthStore, DeviceStore, SeedStore};
use shared::random::Random;
use shared::settlement::{Settlement, Unsettled, settle};
use shared::telemetry::{DeviceHasher, RequestLog};

/// The endpoint over its ports.
#[derive(Debug)]
pub struct ValidateOtp<A, D, S, C, R, L> {
    auths: A,
    devices: D,
    seeds: S,
    random: R,
    boundary: Boundary<C, L>,
    policy: Policy,
    owners: ClientOwners,
}

/// The endpoint as it runs on Lambda.
pub type OnAws<C, R, L> = ValidateOtp<DynamoAuths, DynamoDevices, SecretsManagerSeeds<C>, C, R, L>;

impl<C: Clock + Clone, R: Random, L: RequestLog> OnAws<C, R, L> {
    /// Over the tables and secrets that the settings name.
    pub fn on_aws(config: &ValidateOtpConfig, clients: &Clients, clock: C, random: R, log: L) -> Self {
        let auths = DynamoAuths::new(&clients.dynamodb, config.service.auths_table.clone());
        let devices = DynamoDevices::new(&clients.dynamodb, config.service.devices_table.clone());
        let seeds = SecretsManagerSeeds::new(
            &clients.secrets_manager,
            clock.clone(),
            config.seed_cache,
            Some(config.key_ring.clone()),
        );
        Self::new(auths, devices, seeds, config, clock, random, log)
    }

    /// Opens the connections that a request needs, and reads the key ring. On Lambda, start-up has a full CPU and the first
    /// call does not.
    pub async fn warm_up(&self) {
        tokio::join!(self.auths.warm_up(), self.seeds.warm_up());
    }
}

impl<A: AuthStore, D: DeviceStore, S: SeedStore, C: Clock, R: Random, L: RequestLog> ValidateOtp<A, D, S, C, R, L> {
    /// Over any ports.
    pub fn new(auths: A, devices: D, seeds: S, config: &ValidateOtpConfig, clock: C, random: R, log: L) -> Self {
        let hasher = DeviceHasher::new(config.service.device_hash_key.as_bytes());
        Self {
            auths,
            devices,
            seeds,
            random,
            boundary: Boundary::new(clock, log, hasher),
            policy: config.service.policy,
            owners: config.service.client_owners.clone(),
        }
    }

    /// Answers an event; it never fails as an invocation.
    pub async fn handle(&self, event: Event) -> Response<Body> {
        self.boundary.serve(self, event).await
    }

    async fn auth(&self, request: &Request, owner: &Owner) -> Result<Auth, Failure> {
        let not_found = |reason| Failure::new(Code::AuthNotFound, reason);
        let id = path::parameter(request, "authId").and_then(AuthId::parse);
        let id = id.ok_or_else(|| not_found("malformed"))?;
        let auth = self.auths.get(id).await?.ok_or_else(|| not_found("unknown"))?;
        // For another owner it does not exist: the same answer, the same calls.
        if auth.belongs_to(owner) {
            Ok(auth)
        } else {
            Err(not_found("foreign"))
        }
    }

    /// Makes the writes until the attempt has ended; returns the verdict and the state that its write left.
    async fn settle(&self, auth: &Auth, attempt: Attempt, now: Timestamp) -> Result<(Verdict, Device), Failure> {
        let begun = Settlement::begin(auth.device.clone(), attempt, now, &self.policy);
        settle(&self.devices, &auth.key, begun, &self.policy)
            .await
            .map_err(|unsettled| match unsettled {
                Unsettled::Refused(refusal) => Failure::refused(refusal, now),
                Unsettled::Gone => Failure::new(Code::AuthNotFound, "device_gone"),
                Unsettled::Superseded => Failure::new(Code::AuthSuperseded, "superseded"),
                // Only an activation ends so.
                Unsettled::Contention | Unsettled::AlreadyActive => Failure::unavailable("contention", None),
                Unsettled::Store(error) => error.into(),
            })
    }

    /// The seed of the snapshot. If it cannot be read, the device may be gone, have another seed, or have the same one sealed
    /// under another key: the only read of the device.
    async fn seed(&self, auth: &Auth) -> Result<Arc<Seed>, Failure> {
        let error = match self.seeds.get(&auth.key, &auth.device).await {
            Ok(seed) => return Ok(seed),
            Err(error) => error,
        };
        let device = self.devices.get(&auth.key).await?;
        let device = device.ok_or_else(|| Failure::new(Code::AuthNotFound, "device_gone"))?;
        if device.seed_ref != auth.device.seed_ref {
            return Err(Failure::new(Code::AuthSuperseded, "superseded"));
        }
        if device.sealed != auth.device.sealed {
            return self.seeds.get(&auth.key, &device).await.map_err(unavailable);
        }
        Err(unavailable(error))
    }
}

impl<A: AuthStore, D: DeviceStore, S: SeedStore, C: Clock, R: Random, L: RequestLog> Endpoint
    for ValidateOtp<A, D, S, C, R, L>
{
    const FUNCTION: &'static str = "validate-otp";

    async fn answer(&self, request: &ApiRequest, now: Timestamp, notes: &mut Notes) -> Result<Success, Failure> {
        let client = request.caller.client(caller::SCOPE)?;
        notes.client = Some(client.clone());
        let members = Members::read(&request.http)?;
        members.device_type(false)?;
        let offer = members.offer()?;
        let auth = self.auth(&request.http, &self.owners.owner_of(&client)).await?;
        notes.device = Some(auth.key.clone());
        // A gate that refuses on the snapshot answers without the seed and without a further call.
        admit(&auth.device, auth.id, auth.expires_at, offer.kind(), now, &self.policy)
            .map_err(|refusal| Failure::refused(refusal, now))?;
        let seed = self.seed(&auth).await?;
        let attempt = Attempt {
            auth_id: auth.id,
            expires_at: auth.expires_at,
            write_id: WriteId::from_bytes(self.random.sixteen_bytes()?),
            matches: seed.matches(&offer, now),
        };
        let (verdict, device) = self.settle(&auth, attempt, now).await?;
        match verdict {
            Verdict::Accepted => validated(offer.kind()),
            wrong => {
                let period = device.parameters.period;
                let failure = Failure::wrong(wrong, offer.kind(), &device, period, auth.id, now, &self.policy);
                Err(failure)
            }
        }
    }
}

/// Of its own reason, whatever the cause: it has its own alarm.
fn unavailable(error: StoreError) -> Failure {
    Failure {
        reason: "seed_unavailable",
        ..Failure::from(error)
    }
}

/// Existing clients parse this strictly: exactly these members, in this order.
#[derive(Serialize)]
struct Validated {
    status: &'static str,
    message: &'static str,
}

fn validated(kind: OfferKind) -> Result<Success, Failure> {
    let body = Validated {
        status: "SUCCESS",
        message: "OTP has been validated successfully",
    };
    let reason = match kind {
        OfferKind::Single => "single_code",
        OfferKind::Pair => "two_codes",
    };
    Success::json(StatusCode::OK, &body, reason)
}

#[cfg(test)]
mod tests;

//! Registration over HTTP, below `/users/{userName}/mfadevices`: a user registers, activates, lists and removes devices.
//!
//! Every outcome of the four operations is on this page and in `body`. What happens is in `shared::registration`, which the
//! operator's command line uses too. A seed is stored before the authId, and the authId before the write of the device,
//! which alone decides; what is not needed any more is removed in the time that is left, and never changes the answer.

mod body;

use std::time::Duration;

use lambda_http::http::{Method, StatusCode};
use lambda_http::{Body, RequestExt as _, Response};
use shared::aws::auths::DynamoAuths;
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::Clients;
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::{Clock, Timestamp};
use shared::config::ManageDevicesConfig;
use shared::device::{NewSeed, RegisteredBy, Status, Verdict};
use shared::http::body::Members;
use shared::http::error::{Code, Failure};
use shared::http::response::Success;
use shared::http::{ApiRequest, Boundary, Endpoint, Event, Notes, caller, path};
use shared::names::{AuthId, ClientOwners, DeviceKey, Owner, UserName, WriteId};
use shared::otp::Seed;
use shared::otpauth::{self, Issuer};
use shared::policy::Policy;
use shared::ports::Stored;
use shared::ports::registry::{ActivationStore, DeviceRegistry, SeedRegistry};
use shared::random::Random;
use shared::registration::{
    Activated, Activation, Leftovers, Limits, NotActivated, NotRegistered, NotRemoved, NotStored, RegisterRequest,
    RegistrationRefusal, activate, make_room, register, remove, require_registrable, store_seed, user_devices,
};
use shared::telemetry::{DeviceHasher, RequestLog};
use tokio::time::{Instant, timeout_at};

use body::{ListedDevice, Registered, RegistrationBody};

/// An application's registration is removed if it is not activated within this time.
const ACTIVATE_WITHIN: Duration = Duration::from_hours(24);
/// Kept of a request's time for its answer, when what is left is used to remove seeds.
const TIME_TO_ANSWER: Duration = Duration::from_millis(200);

/// The endpoint over its ports.
#[derive(Debug)]
pub struct ManageDevices<V, D, S, C, R, L> {
    activations: V,
    devices: D,
    seeds: S,
    random: R,
    boundary: Boundary<C, L>,
    policy: Policy,
    owners: ClientOwners,
    limits: Limits,
    seed_prefix: String,
    issuer: Issuer,
    life: Duration,
}

/// The endpoint as it runs on Lambda.
pub type OnAws<C, R, L> = ManageDevices<DynamoAuths, DynamoDevices, SecretsManagerSeeds<C>, C, R, L>;

impl<C: Clock + Clone, R: Random, L: RequestLog> OnAws<C, R, L> {
    /// Over the tables and secrets that the settings name.
    pub fn on_aws(config: &ManageDevicesConfig, clients: &Clients, clock: C, random: R, log: L) -> Self {
        let activations = DynamoAuths::new(&clients.dynamodb, config.service.auths_table.clone());
        let devices = DynamoDevices::new(&clients.dynamodb, config.service.devices_table.clone());
        // No secret is read twice here: the time is that of the key ring.
        let key_ring = Some(config.key_ring.clone());
        let seeds = SecretsManagerSeeds::new(&clients.secrets_manager, clock.clone(), config.seed_cache, key_ring)
            .encrypted_with(config.seed_key.clone())
            .tagged_with(&config.seed_tags)
            .keeping(config.seed_storage);
        Self::new(activations, devices, seeds, config, clock, random, log)
    }

    /// Opens the connections that a request needs. On Lambda, start-up has a full CPU and the first call does not.
    pub async fn warm_up(&self) {
        tokio::join!(self.devices.warm_up(), self.seeds.warm_up());
    }
}

impl<V, D, S, C, R, L> ManageDevices<V, D, S, C, R, L>
where
    V: ActivationStore,
    D: DeviceRegistry,
    S: SeedRegistry,
    C: Clock,
    R: Random,
    L: RequestLog,
{
    /// Over any ports.
    pub fn new(
        activations: V,
        devices: D,
        seeds: S,
        config: &ManageDevicesConfig,
        clock: C,
        random: R,
        log: L,
    ) -> Self {
        let hasher = DeviceHasher::new(config.service.device_hash_key.as_bytes());
        Self {
            activations,
            devices,
            seeds,
            random,
            boundary: Boundary::new(clock, log, hasher),
            policy: config.service.policy,
            owners: config.service.client_owners.clone(),
            limits: config.limits,
            seed_prefix: config.seed_prefix.clone(),
            issuer: config.issuer.clone(),
            life: config.registration_life,
        }
    }

    /// Answers an event; it never fails as an invocation.
    pub async fn handle(&self, event: Event) -> Response<Body> {
        self.boundary.serve(self, event).await
    }

    /// `POST /users/{userName}/mfadevices`
    async fn register(
        &self,
        request: &ApiRequest,
        owner: Owner,
        user: UserName,
        now: Timestamp,
        notes: &mut Notes,
        leftovers: &mut Leftovers,
    ) -> Result<Success, Failure> {
        let called_path = request.caller.path()?;
        let wanted = RegistrationBody::read(&Members::read(&request.http)?)?;
        let key = DeviceKey {
            owner,
            user,
            device: wanted.device,
        };
        notes.device = Some(key.clone());
        let all = user_devices(&self.devices, &key.owner, &key.user).await?;
        let stored = all.iter().find(|record| record.key == key).cloned();
        // Before anything is stored.
        require_registrable(stored.as_ref(), wanted.replace).map_err(refused)?;
        let replaces = stored
            .as_ref()
            .is_some_and(|record| record.device.status == Status::Active);
        make_room(&self.devices, &key, &all, self.limits, leftovers)
            .await
            .map_err(not_registered)?;

        let version = RegisterRequest::random_version(&self.random)?;
        let seed = Seed::generate(&self.random, wanted.parameters)?;
        let issuer = wanted.issuer.as_ref().unwrap_or(&self.issuer);
        let uri = otpauth::build(issuer, &key.user, &key.device, &seed);
        let stored_seed = store_seed(&self.seeds, &self.random, &self.seed_prefix, &key, &seed, leftovers)
            .await
            .map_err(|error| match error {
                NotStored::Random(error) => Failure::from(error),
                NotStored::Store(error) => error.into(),
            })?;
        let seed_to_activate = NewSeed {
            seed_ref: stored_seed.seed_ref,
            parameters: wanted.parameters,
        };
        let activation = match self.issue(&key, &seed_to_activate, now).await {
            Ok(activation) => activation,
            Err(failure) => {
                // No device names it yet.
                leftovers.add([&seed_to_activate.seed_ref]);
                return Err(failure);
            }
        };
        let write = RegisterRequest {
            key: key.clone(),
            seed: seed_to_activate,
            sealed: stored_seed.sealed,
            replace: wanted.replace,
            status: Status::ActivationRequired,
            by: RegisteredBy::Http,
            version,
            now,
            pending_until: activation.expires_at,
            activate_within: ACTIVATE_WITHIN,
        };
        register(&self.devices, stored, &write, leftovers)
            .await
            .map_err(not_registered)?;
        let auth_id = activation.id.to_string();
        let location = format!("{}/{auth_id}", called_path.trim_end_matches('/'));
        let body = Registered::new(&auth_id, &key.device, &seed, &uri);
        let reason = if replaces {
            "replacement_registered"
        } else {
            "registered"
        };
        Success::json(StatusCode::CREATED, &body, reason)?
            .with_header("location", &location)?
            .with_header("auth-expires-at", &activation.expires_at.rfc3339())
    }

    async fn issue(&self, key: &DeviceKey, seed: &NewSeed, now: Timestamp) -> Result<Activation, Failure> {
        let issued_at = Timestamp::from_secs(now.as_secs());
        let mut activation = Activation {
            id: AuthId::from_random_bytes(self.random.sixteen_bytes()?),
            key: key.clone(),
            seed: seed.clone(),
            issued_at,
            expires_at: issued_at.plus(self.life),
        };
        if self.activations.create(&activation).await? == Stored::Taken {
            activation.id = AuthId::from_random_bytes(self.random.sixteen_bytes()?);
            if self.activations.create(&activation).await? == Stored::Taken {
                // A working generator does not repeat itself twice.
                return Err(Failure::new(Code::InternalError, "auth_id_taken_twice"));
            }
        }
        Ok(activation)
    }

    /// `POST /users/{userName}/mfadevices/{authId}`
    async fn activate(
        &self,
        request: &ApiRequest,
        owner: &Owner,
        user: &UserName,
        now: Timestamp,
        notes: &mut Notes,
        leftovers: &mut Leftovers,
    ) -> Result<Success, Failure> {
        let members = Members::read(&request.http)?;
        members.device_type(false)?;
        let offer = members.offer()?;
        let activation = self.activation(request, owner, user).await?;
        notes.device = Some(activation.key.clone());
        if activation.expires_at <= now {
            return Err(Failure::new(Code::AuthExpired, "expired"));
        }
        let write_id = WriteId::from_bytes(self.random.sixteen_bytes()?);
        let activated = activate(
            &self.devices,
            &self.seeds,
            &activation,
            &offer,
            write_id,
            now,
            &self.policy,
            Some(self.limits),
            leftovers,
        )
        .await
        .map_err(|error| not_activated(error, now))?;
        match activated {
            Activated::AlreadyActive => body::active(&activation.key.device, "already_active"),
            Activated::Verdict {
                verdict: Verdict::Accepted,
                replaces,
                ..
            } => body::active(&activation.key.device, if replaces { "replaced" } else { "activated" }),
            Activated::Verdict {
                verdict,
                device,
                seconds_late,
                ..
            } => {
                let failure = Failure::wrong(
                    verdict,
                    offer.kind(),
                    &device,
                    activation.seed.parameters.period,
                    activation.id,
                    now,
                    &self.policy,
                );
                Err(Failure {
                    clock_off_seconds: seconds_late.and_then(|late| i64::try_from(late).ok()).map(|late| -late),
                    ..failure
                })
            }
        }
    }

    async fn activation(&self, request: &ApiRequest, owner: &Owner, user: &UserName) -> Result<Activation, Failure> {
        let not_found = |reason| Failure::new(Code::AuthNotFound, reason);
        let id = path::parameter(&request.http, "authId").and_then(AuthId::parse);
        let id = id.ok_or_else(|| not_found("malformed"))?;
        let activation = self.activations.get(id).await?.ok_or_else(|| not_found("unknown"))?;
        // For another owner or another user it does not exist: the same answer, the same calls.
        if activation.key.owner == *owner && activation.key.user == *user {
            Ok(activation)
        } else {
            Err(not_found("foreign"))
        }
    }

    /// `GET /users/{userName}/mfadevices`
    async fn list(&self, request: &ApiRequest, owner: &Owner, user: &UserName) -> Result<Success, Failure> {
        let query = request.http.query_string_parameters();
        let mut types = query.all("type").unwrap_or_default().into_iter();
        if !types.all(|wanted| wanted.eq_ignore_ascii_case("TOTP")) {
            return Err(Failure::invalid("type must be TOTP"));
        }
        let devices = user_devices(&self.devices, owner, user).await?;
        let listed: Vec<_> = devices.iter().map(ListedDevice::new).collect();
        Success::json(StatusCode::OK, &listed, "listed")
    }

    /// `DELETE /users/{userName}/mfadevices/TOTP/{deviceName}`
    async fn remove(&self, key: &DeviceKey, leftovers: &mut Leftovers) -> Result<Success, Failure> {
        match remove(&self.devices, key, leftovers).await {
            Ok(()) => Ok(Success::no_content("removed")),
            Err(NotRemoved::Absent) => Err(Failure::new(Code::DeviceNotFound, "no_device")),
            Err(NotRemoved::Disabled) => Err(Failure::new(Code::DeviceDisabled, "disabled")),
            Err(NotRemoved::Contention) => Err(Failure::unavailable("contention", None)),
            Err(NotRemoved::Store(error)) => Err(error.into()),
        }
    }

    /// Removes what nothing names any more, in the time that is left. What stays behind is found by the doctor.
    async fn clean_up(&self, leftovers: Leftovers, deadline: Instant) {
        let removals = async {
            for seed in &leftovers.unwanted {
                let _ = self.seeds.remove(seed).await;
            }
        };
        let until = deadline.checked_sub(TIME_TO_ANSWER).unwrap_or(deadline);
        let _ = timeout_at(until, removals).await;
    }
}

impl<V, D, S, C, R, L> Endpoint for ManageDevices<V, D, S, C, R, L>
where
    V: ActivationStore,
    D: DeviceRegistry,
    S: SeedRegistry,
    C: Clock,
    R: Random,
    L: RequestLog,
{
    const FUNCTION: &'static str = "manage-devices";

    async fn answer(&self, request: &ApiRequest, now: Timestamp, notes: &mut Notes) -> Result<Success, Failure> {
        let client = request.caller.client(caller::DEVICES_SCOPE)?;
        notes.client = Some(client.clone());
        let owner = self.owners.owner_of(&client);
        let user = path::user_name(&request.http)?;
        let mut leftovers = Leftovers::default();
        let has = |name| path::parameter(&request.http, name).is_some();
        let answer = match (request.method.as_ref(), has("authId"), has("deviceName")) {
            (Some(&Method::POST), false, false) => {
                self.register(request, owner, user, now, notes, &mut leftovers).await
            }
            (Some(&Method::POST), true, false) => {
                self.activate(request, &owner, &user, now, notes, &mut leftovers).await
            }
            (Some(&Method::GET), false, false) => self.list(request, &owner, &user).await,
            (Some(&Method::DELETE), false, true) => {
                let device = path::device_name(&request.http)?;
                let key = DeviceKey { owner, user, device };
                notes.device = Some(key.clone());
                self.remove(&key, &mut leftovers).await
            }
            _ => Err(Failure::new(Code::NotFound, "no_route")),
        };
        self.clean_up(leftovers, request.deadline).await;
        answer
    }
}

fn refused(refusal: RegistrationRefusal) -> Failure {
    match refusal {
        RegistrationRefusal::Exists => Failure::new(Code::DeviceExists, "device_exists"),
        RegistrationRefusal::Disabled => Failure::new(Code::DeviceDisabled, "disabled"),
        RegistrationRefusal::TooManyDevices => Failure::new(Code::TooManyDevices, "too_many_devices"),
    }
}

fn not_registered(error: NotRegistered) -> Failure {
    match error {
        NotRegistered::Refused(refusal) => refused(refusal),
        NotRegistered::Contention => Failure::unavailable("contention", None),
        NotRegistered::Store(error) => error.into(),
    }
}

fn not_activated(error: NotActivated, now: Timestamp) -> Failure {
    match error {
        NotActivated::Gone => Failure::new(Code::AuthNotFound, "device_gone"),
        NotActivated::Superseded => Failure::new(Code::AuthSuperseded, "superseded"),
        NotActivated::TooLate(_) => Failure::new(Code::AuthExpired, "expired"),
        NotActivated::TooManyDevices => refused(RegistrationRefusal::TooManyDevices),
        NotActivated::Refused(refusal) => Failure::refused(refusal, now),
        NotActivated::NoSeed { error, .. } => {
            Failure::unavailable("seed_unavailable", error.map(|error| Box::new(error).into()))
        }
        NotActivated::Contention => Failure::unavailable("contention", None),
        NotActivated::Store(error) => error.into(),
    }
}

#[cfg(test)]
mod tests;

//! What the page reads besides the API: the client's credentials, the state of a device, its QR code, the log. None of it
//! is in the access log, since the page polls.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn, map_response};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shared::clock::{Clock as _, Timestamp};
use shared::device::DeviceRecord;
use shared::names::SeedRef;
use shared::otp::{Seed, Step};
use shared::otpauth::{self, Issuer};
use shared::policy::Policy;
use shared::ports::registry::{DeviceRegistry as _, SeedRegistry as _};

use super::protect;
use crate::cognito::client::Client;
use crate::cognito::token::TOKEN_PATH;
use crate::gateway::log::Log;
use crate::stack::local_api::{DeviceQuery, LocalApi, Problem, require_local_caller};
use crate::stores::devices::{Codes, DEMO_DEVICE, DEMO_USER};

pub(crate) struct Api {
    pub(crate) local: Arc<LocalApi>,
    pub(crate) log: Arc<Log>,
    pub(crate) client: Client,
    pub(crate) stage: String,
    pub(crate) policy: Policy,
    pub(crate) issuer: Issuer,
}

pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/_local/stack", get(stack))
        .route("/_local/device", get(device))
        .route("/_local/qr", get(qr))
        .route("/_local/log", get(log))
        .layer(from_fn(require_local_caller))
        .layer(map_response(protect))
        .with_state(Arc::new(api))
}

async fn stack(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(json!({
        "apiPath": format!("/{}", api.stage), "tokenPath": TOKEN_PATH,
        "clientId": api.client.id().as_str(), "clientSecret": api.client.secret(),
        "demo": { "userName": DEMO_USER, "deviceName": DEMO_DEVICE },
    }))
}

/// A device with its own seed, and the one that waits to replace it.
struct Found {
    record: DeviceRecord,
    seed: Seed,
    pending: Option<Seed>,
}

impl Api {
    /// `None` if the device does not exist.
    async fn find(&self, query: Result<Query<DeviceQuery>, QueryRejection>) -> Result<Option<Found>, Problem> {
        let unreadable = |_| Problem::unreadable();
        let (key, registry) = (self.local.key(query)?, &self.local.registry);
        let Some(record) = registry.devices.record(&key).await.map_err(unreadable)? else {
            return Ok(None);
        };
        // A device that was removed concurrently has no seed any more.
        let read = async |seed| registry.seeds.read(&key, seed, record.sealed(seed)).await;
        let Some(seed) = read(&record.device.seed_ref).await.map_err(unreadable)? else {
            return Ok(None);
        };
        let now = self.local.clock.now();
        let pending = match record.waiting_seed(now) {
            Some(pending) => read(&pending.seed_ref).await.map_err(unreadable)?,
            None => None,
        };
        Ok(Some(Found { record, seed, pending }))
    }
}

/// The page asks for devices that do not exist yet, which is no error.
async fn device(
    State(api): State<Arc<Api>>,
    query: Result<Query<DeviceQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let (found, now) = (api.find(query).await?, api.local.clock.now());
    let device = found.map(|found| describe(&found, now, &api.policy));
    let offset = api.local.clock.offset_seconds();
    Ok(Json(
        json!({ "now": now.rfc3339_millis(), "offsetSeconds": offset, "device": device }),
    ))
}

fn describe(found: &Found, now: Timestamp, policy: &Policy) -> Value {
    let Found { record, seed, pending } = found;
    let (device, period) = (&record.device, record.device.parameters.period);
    let codes = |seed: &Seed| {
        let codes = Codes::at(seed, now);
        json!({ "otp": codes.single(), "otps": codes.pair(), "periodSeconds": seed.parameters().period.seconds() })
    };
    json!({
        "status": device.status.as_str(),
        "consecutiveFailures": device.consecutive_failures,
        "totalFailures": device.total_failures,
        "singleCodesOpen": device.single_codes_open(now, policy),
        "singleCodesAt": device.single_codes_at(policy).map(Timestamp::rfc3339),
        "pairsAt": device.pairs_at(policy).rfc3339(),
        "budget": policy.burst(),
        "budgetLeft": budget_left(device.budget_at, now, policy),
        "step": Step::at(now, period).0,
        "lastStep": device.last_step.0,
        // Changes with every seed, and tells nothing about it.
        "seed": record.seeds().map(SeedRef::to_string).collect::<Vec<_>>().join(" "),
        "codes": codes(seed),
        "pendingCodes": pending.as_ref().map(codes),
    })
}

/// Wrong single codes that the budget allows now.
fn budget_left(budget_at: Timestamp, now: Timestamp, policy: &Policy) -> u64 {
    let debt = budget_at.seconds_from(now);
    u64::from(policy.burst()).saturating_sub(debt.div_ceil(policy.refill().as_secs()))
}

/// The QR code of the seed that an app has to scan next: the one that waits, otherwise the device's own.
async fn qr(
    State(api): State<Arc<Api>>,
    query: Result<Query<DeviceQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Problem> {
    let found = api.find(query).await?.ok_or_else(Problem::no_such_device)?;
    let (key, seed) = (&found.record.key, found.pending.as_ref().unwrap_or(&found.seed));
    let uri = otpauth::build(&api.issuer, &key.user, &key.device, seed);
    // The longest names fit only with less error correction.
    let code = QrCode::new(uri.as_bytes())
        .or_else(|_| QrCode::with_error_correction_level(uri.as_bytes(), EcLevel::L))
        .map_err(|_| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the names are too long for a QR code"))?;
    let picture = code.render::<svg::Color>().build();
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], picture))
}

#[derive(Deserialize)]
struct LogQuery {
    after: u64,
}

/// The lines after a number, and the number of the last one.
async fn log(
    State(api): State<Arc<Api>>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(LogQuery { after }) = query.map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "send after, the number of the last line that you have, or 0",
        )
    })?;
    let (last, lines) = api.log.lines_after(after);
    let lines: Vec<Box<RawValue>> = lines
        .into_iter()
        .filter_map(|line| RawValue::from_string(line).ok())
        .collect();
    Ok(Json(json!({ "last": last, "lines": lines })))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_budget_counts_wrong_codes_until_they_are_refilled() {
        let (policy, now) = (Policy::standard(), Timestamp::from_secs(1_800_000_000));
        let left = |debt: Duration| budget_left(now.plus(debt), now, &policy);
        for (debt, expected) in [
            (Duration::ZERO, 20),
            (Duration::from_secs(1), 19),
            (policy.refill(), 19),
            (policy.refill() * 20, 0),
            (policy.refill() * 21, 0),
        ] {
            assert_eq!(left(debt), expected, "{debt:?}");
        }
    }
}

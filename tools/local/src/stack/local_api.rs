//! `/_local/*`, which exists only in this tool: a test clock, and the codes that an authenticator app would show.
//!
//! Only programs on this machine can reach it, and in a browser only the page of this tool: a page that points its own
//! name at loopback still sends that name as `Host`, and one that calls this address has another `Origin`.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::clock::Clock as _;
use shared::names::{ClientId, ClientOwners, DeviceKey};

use crate::clock::{LocalClock, OutOfRange};
use crate::stores::devices::{Registry, device_key};

pub(crate) const CLOCK_PATH: &str = "/_local/clock";
pub(crate) const CODE_PATH: &str = "/_local/code";

pub(crate) struct LocalApi {
    pub(crate) clock: Arc<LocalClock>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) first_client: ClientId,
    pub(crate) owners: ClientOwners,
}

pub(crate) fn router(api: Arc<LocalApi>) -> Router {
    Router::new()
        .route(CLOCK_PATH, post(move_clock))
        .route(CODE_PATH, get(code))
        .layer(from_fn(require_local_caller))
        .with_state(api)
}

/// Refuses requests that a page of another site makes in a browser, whether or not it could read the answer.
pub(crate) async fn require_local_caller(request: Request, next: Next) -> Result<Response, Problem> {
    require_local_host(request.headers())?;
    if is_from_another_site(request.headers()) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "only this tool's own page may call this from a browser",
        ));
    }
    Ok(next.run(request).await)
}

pub(crate) fn require_local_host(headers: &HeaderMap) -> Result<(), Problem> {
    if has_local_host(headers) {
        Ok(())
    } else {
        Err(Problem::new(StatusCode::FORBIDDEN, "use 127.0.0.1 or localhost"))
    }
}

/// Browsers say where a request comes from. Programs do not, and are trusted as this machine's.
fn is_from_another_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    // `none` is a person who typed the address.
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let origin = text(header::ORIGIN);
    site.is_some_and(|site| !matches!(site, "same-origin" | "none"))
        || origin.is_some_and(|origin| origin.strip_prefix("http://") != Some(host))
}

fn has_local_host(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost")
}

/// An error of these endpoints, which say it in their own words.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    text: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    pub(crate) fn no_such_device() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no such device")
    }

    pub(crate) fn unreadable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "cannot read the device or its seed")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.text }))).into_response()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClockMove {
    advance_seconds: i64,
}

async fn move_clock(State(api): State<Arc<LocalApi>>, body: axum::body::Bytes) -> Result<Json<Value>, Problem> {
    // Whatever the content type, so that a plain `curl -d` works.
    let ClockMove { advance_seconds } = serde_json::from_slice(&body)
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "send {\"advanceSeconds\": 60}, a whole number"))?;
    if let Err(error) = api.clock.advance_seconds(advance_seconds) {
        return Err(match error.downcast_ref::<OutOfRange>() {
            Some(error) => Problem::new(StatusCode::BAD_REQUEST, format!("{error}; send fewer seconds")),
            None => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "cannot keep the clock's offset in the data directory",
            ),
        });
    }
    let now = api.clock.now().rfc3339_millis();
    Ok(Json(json!({ "now": now, "offsetSeconds": api.clock.offset_seconds() })))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeviceQuery {
    user_name: String,
    device_name: String,
    client_id: Option<String>,
}

impl LocalApi {
    /// The device that a query names; without a client, the first one's.
    pub(crate) fn key(&self, query: Result<Query<DeviceQuery>, QueryRejection>) -> Result<DeviceKey, Problem> {
        let key = query.ok().and_then(|Query(query)| {
            let client = match query.client_id {
                Some(id) => ClientId::parse(&id).ok()?,
                None => self.first_client.clone(),
            };
            device_key(self.owners.owner_of(&client), &query.user_name, &query.device_name).ok()
        });
        key.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "send userName and deviceName of a device"))
    }
}

async fn code(
    State(api): State<Arc<LocalApi>>,
    query: Result<Query<DeviceQuery>, QueryRejection>,
) -> Result<impl IntoResponse, Problem> {
    let codes = api.registry.codes(&api.key(query)?).await;
    let codes = codes
        .map_err(|_| Problem::unreadable())?
        .ok_or_else(Problem::no_such_device)?;
    let answer = json!({ "otp": codes.single(), "otps": codes.pair() });
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(answer)))
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;

    #[test]
    fn a_foreign_host_name_is_refused() -> Result<()> {
        for (host, expected) in [
            ("127.0.0.1:3000", true),
            ("localhost", true),
            ("localhost:1", true),
            ("evil.example:3000", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse()?)]);
            assert_eq!(has_local_host(&headers), expected, "{host}");
        }
        assert!(!has_local_host(&HeaderMap::new()));
        Ok(())
    }

    #[test]
    fn a_page_of_another_site_is_refused() -> Result<()> {
        for (name, value, expected) in [
            ("accept", "*/*", false),
            ("sec-fetch-site", "none", false),
            ("sec-fetch-site", "same-origin", false),
            ("sec-fetch-site", "same-site", true), // another port of this machine
            ("sec-fetch-site", "cross-site", true),
            ("origin", "http://127.0.0.1:3000", false),
            ("origin", "http://127.0.0.1:3001", true),
            ("origin", "http://evil.example", true),
            ("origin", "null", true),
        ] {
            let mut headers = HeaderMap::from_iter([(header::HOST, "127.0.0.1:3000".parse()?)]);
            headers.insert(name, value.parse()?);
            assert_eq!(is_from_another_site(&headers), expected, "{name}: {value}");
        }
        Ok(())
    }
}

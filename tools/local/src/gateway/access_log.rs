//! One log line for each request that no function has logged.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use shared::clock::Clock as _;

use super::ids::EXTENDED_REQUEST_ID;
use super::log::{AccessLine, Log};
use crate::clock::LocalClock;

/// Attached to an answer: the route, as the template or this tool has it.
#[derive(Debug, Clone)]
pub(crate) struct Resource(pub(crate) String);

/// Attached to an answer: it is a function's, which has logged it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnsweredByFunction;

/// Methods that are logged; any other is text that a caller made up.
const METHODS: [Method; 7] = [
    Method::DELETE,
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::POST,
    Method::PUT,
];

#[derive(Clone)]
pub(crate) struct AccessLog {
    pub(crate) clock: Arc<LocalClock>,
    pub(crate) log: Arc<Log>,
    /// Paths without parameters that are served beside the API.
    pub(crate) known_paths: &'static [&'static str],
}

pub(crate) async fn write(State(access): State<AccessLog>, request: Request, next: Next) -> Response {
    let now = access.clock.now();
    let method = request.method().clone();
    let known_path = access.known_paths.iter().find(|path| **path == request.uri().path());
    let response = next.run(request).await;
    if response.extensions().get::<AnsweredByFunction>().is_none() {
        let resource = response
            .extensions()
            .get::<Resource>()
            .map(|resource| resource.0.as_str());
        access.log.access(&AccessLine {
            timestamp: now.rfc3339_millis(),
            message: "access",
            trace_id: response
                .headers()
                .get(EXTENDED_REQUEST_ID)
                .and_then(|id| id.to_str().ok()),
            method: METHODS
                .iter()
                .find(|known| **known == method)
                .map_or("-", Method::as_str),
            resource: resource.or(known_path.copied()).unwrap_or("-"),
            status: response.status().as_u16(),
        });
    }
    response
}

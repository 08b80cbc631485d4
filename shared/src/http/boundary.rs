//! What every function does around an endpoint: one clock reading, one deadline, one log line, and an answer in every
//! case.
//!
//! An invocation never fails: an error would become API Gateway's own 502. A panic costs one request.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use lambda_http::{Body, Response};
use tokio::time::{Instant, timeout_at};

use super::error::{Code, Failure};
use super::event::{ApiRequest, Event};
use super::response::Success;
use crate::clock::{Clock, Timestamp};
use crate::names::{ClientId, DeviceKey};
use crate::telemetry::calls::{self, Calls, Service};
use crate::telemetry::{DeviceHasher, Level, RequestLine, RequestLog};

/// How long a request may take in the function: a hang anywhere is a 503 well within 3 s.
pub const DEADLINE: Duration = Duration::from_millis(2_500);

/// What an endpoint finds out about a request, for the log.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// The client, once it is known.
    pub client: Option<ClientId>,
    /// The device, once it is known. Only a hash of it is logged.
    pub device: Option<DeviceKey>,
}

/// One operation of the API.
pub trait Endpoint: Send + Sync {
    /// The name of the function, for the log.
    const FUNCTION: &'static str;

    /// Answers a request at a time. What it finds out for the log goes into `notes`, even if it never finishes.
    fn answer(
        &self,
        request: &ApiRequest,
        now: Timestamp,
        notes: &mut Notes,
    ) -> impl Future<Output = Result<Success, Failure>> + Send;
}

/// What surrounds an endpoint.
#[derive(Debug)]
pub struct Boundary<C, L> {
    clock: C,
    log: L,
    hasher: DeviceHasher,
}

impl<C: Clock, L: RequestLog> Boundary<C, L> {
    /// With a clock and a log.
    pub const fn new(clock: C, log: L, hasher: DeviceHasher) -> Self {
        Self { clock, log, hasher }
    }

    /// Answers an event, whatever it is and whatever the endpoint does.
    pub async fn serve<E: Endpoint>(&self, endpoint: &E, event: Event) -> Response<Body> {
        let started = Instant::now();
        let deadline = started + DEADLINE;
        let now = self.clock.now();
        let calls = Arc::new(Calls::default());
        let mut trace_id = String::new();
        let mut notes = Notes::default();
        // Boxed before anything is put around it: the SDK's futures are tens of kilobytes, and would be copied from frame to
        // frame.
        let work = Box::pin(async {
            let request = event.read(deadline)?;
            request.caller.trace_id().clone_into(&mut trace_id);
            endpoint.answer(&request, now, &mut notes).await
        });
        let work = calls::counted(Arc::clone(&calls), work);
        let answer = match timeout_at(deadline, AssertUnwindSafe(work).catch_unwind()).await {
            Ok(Ok(answer)) => answer,
            // The panic's payload may quote a code, so it is dropped; the hook of `telemetry` prints the place.
            Ok(Err(_panic)) => Err(Failure::new(Code::InternalError, "panic")),
            Err(_elapsed) => Err(Failure::unavailable("deadline", None)),
        };
        let mut line = RequestLine {
            timestamp: now.rfc3339_millis(),
            level: Level::Info,
            message: "request",
            trace_id,
            function: E::FUNCTION,
            version: env!("CARGO_PKG_VERSION"),
            client_id: notes.client.map(|client| client.as_str().to_owned()),
            device: notes.device.map(|key| self.hasher.hash(&key)),
            status: 0,
            outcome: "SUCCESS",
            reason: "",
            duration_ms: milliseconds(started.elapsed()),
            dynamodb_calls: calls.to(Service::DynamoDb),
            secrets_manager_calls: calls.to(Service::SecretsManager),
            error: None,
        };
        let response = match answer {
            Ok(success) => {
                line.reason = success.reason;
                success.into_response()
            }
            Err(failure) => {
                line.level = failure.code.level();
                line.outcome = failure.code.as_str();
                line.reason = failure.reason;
                line.error = failure.operator_text();
                failure.to_response(&line.trace_id, now)
            }
        };
        line.status = response.status().as_u16();
        self.log.write(&line);
        response
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

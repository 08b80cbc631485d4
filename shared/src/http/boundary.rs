//! What both functions do around an endpoint: one clock reading, one deadline, one log line, and an answer whatever
//! happens.
//!
//! An invocation never fails: an error would become API Gateway's own 502. A panic costs one request.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use lambda_http::{Body, Request, Response};
use tokio::time::{Instant, timeout};

use super::error::{Code, Failure};
use super::response::{self, Success};
use super::{caller, event};
use crate::clock::{Clock, Timestamp};
use crate::telemetry::calls::{self, Calls, Service};
use crate::telemetry::{DeviceHasher, Level, Notes, RequestLine, RequestLog, rfc3339_millis};

/// How long a request may take in the function: a hang anywhere is a 503 well within 3 s.
pub const DEADLINE: Duration = Duration::from_millis(2_500);

/// One operation of the API.
pub trait Endpoint: Send + Sync {
    /// The name of the function, for the log.
    const FUNCTION: &'static str;

    /// Answers a request at a time. What it finds out about the caller goes into `notes`, also if it never finishes.
    fn answer(
        &self,
        request: &Request,
        now: Timestamp,
        notes: &mut Notes,
    ) -> impl Future<Output = Result<Success, Failure>> + Send;
}

/// What surrounds an endpoint.
#[derive(Debug)]
pub struct Boundary<C, L> {
    clock: C,
    log: L,
    /// Turns devices into words for the log.
    pub hasher: DeviceHasher,
}

impl<C: Clock, L: RequestLog> Boundary<C, L> {
    /// With a clock and a log.
    pub const fn new(clock: C, log: L, hasher: DeviceHasher) -> Self {
        Self { clock, log, hasher }
    }

    /// Answers a request, whatever the endpoint does.
    pub async fn serve<E: Endpoint>(&self, endpoint: &E, request: &Request) -> Response<Body> {
        let started = Instant::now();
        let now = self.clock.now();
        let trace_id = caller::trace_id(request);
        let calls = Arc::new(Calls::default());
        let mut notes = Notes::default();
        // Boxed: the SDK's futures are tens of kilobytes, and would be copied from frame to frame.
        let work = Box::pin(calls::counted(Arc::clone(&calls), async {
            event::must_be_one(request)?;
            endpoint.answer(request, now, &mut notes).await
        }));
        let answer = match timeout(DEADLINE, AssertUnwindSafe(work).catch_unwind()).await {
            Ok(Ok(answer)) => answer,
            // What it panicked with may quote a code, so it is dropped; the hook of `telemetry` prints the place.
            Ok(Err(_panic)) => Err(Failure::new(Code::InternalError, "panic")),
            Err(_elapsed) => Err(Failure::unavailable("deadline", None)),
        };
        let mut line = RequestLine {
            timestamp: rfc3339_millis(now),
            level: Level::Info,
            message: "request",
            trace_id,
            function: E::FUNCTION,
            client_id: notes.client.map(|client| client.as_str().to_owned()),
            device: notes.device,
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
                response::of_success(success)
            }
            Err(failure) => {
                line.level = failure.code.level();
                line.outcome = failure.code.as_str();
                line.reason = failure.reason;
                line.error = failure.operator_text();
                response::of_failure(&failure, &line.trace_id, now)
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

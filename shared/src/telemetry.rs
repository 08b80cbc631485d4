//! The one log line of a request, and what libraries have to say.
//!
//! A [`RequestLine`] has fields and fixed words only: never a request, a claims map, a name of a person, a code, a
//! seed or a token. Libraries are heard from warnings upwards: below that, they print requests and responses.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::names::{ClientId, DeviceKey};

/// How much an operator should care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// As it should be, wrong codes included.
    Info,
    /// The client sent something that it should not.
    Warn,
    /// The service could not do its work.
    Error,
}

/// What is logged about a request, once, when its answer is known.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestLine {
    /// The one clock reading of the request, RFC 3339, UTC, milliseconds.
    pub timestamp: String,
    /// How much an operator should care.
    pub level: Level,
    /// Always `request`: what tells this line from a library's.
    pub message: &'static str,
    /// API Gateway's extended request id, which the client sees as `traceId`.
    pub trace_id: String,
    /// `init-auth` or `validate-otp`.
    pub function: &'static str,
    /// The client, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The keyed hash of the device, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The HTTP status.
    pub status: u16,
    /// `SUCCESS`, or the code of the error.
    pub outcome: &'static str,
    /// Why, in one of a fixed set of words; finer than the outcome, and not for the client.
    pub reason: &'static str,
    /// From the request's arrival in the function to its answer, in milliseconds.
    pub duration_ms: f64,
    /// Calls sent to `DynamoDB`, repetitions by the SDK included.
    pub dynamodb_calls: u32,
    /// Calls sent to Secrets Manager, repetitions by the SDK included.
    pub secrets_manager_calls: u32,
    /// What failed, for the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where request lines go.
pub trait RequestLog: Send + Sync {
    /// Writes one line.
    fn write(&self, line: &RequestLine);
}

impl<L: RequestLog + ?Sized> RequestLog for Arc<L> {
    fn write(&self, line: &RequestLine) {
        (**self).write(line);
    }
}

/// Standard output, from where Lambda takes log lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct StdoutLog;

impl RequestLog for StdoutLog {
    fn write(&self, line: &RequestLine) {
        if let Ok(mut json) = serde_json::to_vec(line) {
            json.push(b'\n');
            // Nobody is left to tell if standard output is gone, and the answer must not suffer from it.
            let _ = std::io::stdout().lock().write_all(&json);
        }
    }
}

/// Turns a device into the word that stands for it in the log: the same device always gives the same word, and without
/// the key nobody can tell whose it is.
#[derive(Clone)]
pub struct DeviceHasher(Hmac<sha2::Sha256>);

impl DeviceHasher {
    /// With a key of any length (RFC 2104); a short one protects little.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        // HMAC takes keys of any length, so this never fails; an all-zero key would still hash.
        Self(
            Hmac::new_from_slice(key)
                .unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<sha2::Sha256>>::default())),
        )
    }

    /// The first 16 hex digits of HMAC-SHA-256 over client, user and device.
    #[must_use]
    pub fn hash(&self, key: &DeviceKey) -> String {
        let mut mac = self.0.clone();
        for part in [key.client.as_str(), key.user.as_str(), key.device.as_str()] {
            // The length before each part keeps ("ab", "c") and ("a", "bc") apart.
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        data_encoding::HEXLOWER.encode(digest.get(..8).unwrap_or_default())
    }
}

impl fmt::Debug for DeviceHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceHasher(…)")
    }
}

/// What a request's endpoint finds out about its caller, for the log.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// The client, once it is known.
    pub client: Option<ClientId>,
    /// The hash of the device, once it is known.
    pub device: Option<String>,
}

/// A time as RFC 3339, UTC, whole seconds.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    // Past the year 9999 the format ends; such a clock is broken, and shows as the epoch.
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// A time as RFC 3339, UTC, always with three digits of milliseconds: lines sort as text.
#[must_use]
pub fn rfc3339_millis(time: Timestamp) -> String {
    format!(
        "{}.{:03}Z",
        rfc3339(time).trim_end_matches('Z'),
        time.as_millis() % 1_000
    )
}

/// Prints what libraries warn of, and where something panicked, as JSON lines on standard output. Call once, first thing
/// in `main`.
pub fn listen_to_libraries() {
    // A second call changes nothing: the first subscriber stays.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_timer(ClockTimer)
        .with_max_level(tracing::Level::WARN)
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Never the message: it may quote what it failed on, a name or a code.
        tracing::error!(place, "a panic");
    }));
}

struct ClockTimer;

impl FormatTime for ClockTimer {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&rfc3339_millis(SystemClock.now()))
    }
}

/// The calls that a request sends to AWS, counted where the SDK sends them.
pub mod calls {
    use std::future::Future;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Which service is called.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Service {
        /// `DynamoDB`.
        DynamoDb,
        /// Secrets Manager.
        SecretsManager,
    }

    /// The calls of one request so far.
    #[derive(Debug, Default)]
    pub struct Calls {
        dynamodb: AtomicU32,
        secrets_manager: AtomicU32,
    }

    tokio::task_local! {
        static CALLS: Arc<Calls>;
    }

    impl Calls {
        /// How many went to a service.
        #[must_use]
        pub fn to(&self, service: Service) -> u32 {
            self.counter(service).load(Ordering::Relaxed)
        }

        fn counter(&self, service: Service) -> &AtomicU32 {
            match service {
                Service::DynamoDb => &self.dynamodb,
                Service::SecretsManager => &self.secrets_manager,
            }
        }
    }

    /// Runs a request's work with its calls counted in `calls`.
    pub async fn counted<T>(calls: Arc<Calls>, work: impl Future<Output = T>) -> T {
        CALLS.scope(calls, work).await
    }

    /// Counts one call for the request that is running; outside of one, nothing is counted.
    pub fn count(service: Service) {
        let _ = CALLS.try_with(|calls| calls.counter(service).fetch_add(1, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{DeviceName, NameError, UserName};

    fn key(client: &str, user: &str, device: &str) -> Result<DeviceKey, NameError> {
        Ok(DeviceKey {
            client: ClientId::parse(client)?,
            user: UserName::parse(user)?,
            device: DeviceName::parse(device)?,
        })
    }

    #[test]
    fn a_request_line_has_exactly_the_documented_fields() -> Result<(), serde_json::Error> {
        let line = RequestLine {
            timestamp: rfc3339_millis(Timestamp::from_millis(1_764_039_600_042)),
            level: Level::Info,
            message: "request",
            trace_id: "trace".to_owned(),
            function: "validate-otp",
            client_id: Some("client".to_owned()),
            device: Some("0011223344556677".to_owned()),
            status: 422,
            outcome: "OTP_REJECTED",
            reason: "wrong_code",
            duration_ms: 1.25,
            dynamodb_calls: 2,
            secrets_manager_calls: 0,
            error: None,
        };
        assert_eq!(
            serde_json::to_string(&line)?,
            "{\"timestamp\":\"2025-11-25T03:00:00.042Z\",\"level\":\"INFO\",\"message\":\"request\",\
             \"traceId\":\"trace\",\"function\":\"validate-otp\",\"clientId\":\"client\",\
             \"device\":\"0011223344556677\",\"status\":422,\"outcome\":\"OTP_REJECTED\",\"reason\":\"wrong_code\",\
             \"durationMs\":1.25,\"dynamodbCalls\":2,\"secretsManagerCalls\":0}"
        );
        Ok(())
    }

    #[test]
    fn the_hash_of_a_device_depends_on_the_key_and_on_every_part() -> Result<(), NameError> {
        let hasher = DeviceHasher::new(b"0123456789abcdef");
        let base = hasher.hash(&key("client", "ab", "c")?);
        assert_eq!(base.len(), 16);
        assert_eq!(base, hasher.hash(&key("client", "ab", "c")?));
        for other in [
            key("client", "a", "bc")?,
            key("clientab", "c", "c")?,
            key("client", "ab", "d")?,
        ] {
            assert_ne!(base, hasher.hash(&other));
        }
        assert_ne!(
            base,
            DeviceHasher::new(b"another key here").hash(&key("client", "ab", "c")?)
        );
        Ok(())
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(
            rfc3339(Timestamp::from_millis(1_764_039_600_999)),
            "2025-11-25T03:00:00Z"
        );
        assert_eq!(rfc3339(Timestamp::from_millis(u64::MAX)), "1970-01-01T00:00:00Z");
    }
}

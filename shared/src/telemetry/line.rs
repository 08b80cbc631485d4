//! The one log line of a request.

use std::io::Write as _;
use std::sync::Arc;

use serde::Serialize;

/// How urgent a line is for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// Normal operation, wrong codes included.
    Info,
    /// Something that a correct deployment never lets through.
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
    /// How urgent the line is for an operator.
    pub level: Level,
    /// Always `request`, which distinguishes this line from a library's.
    pub message: &'static str,
    /// API Gateway's extended request id, which the client sees as `traceId`.
    pub trace_id: String,
    /// The name of the function's binary.
    pub function: &'static str,
    /// The release that the function was built from.
    pub version: &'static str,
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
    /// Why, as one of a fixed set of words; finer than the outcome, and not for the client.
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

/// The destination of request lines.
pub trait RequestLog: Send + Sync {
    /// Writes one line.
    fn write(&self, line: &RequestLine);
}

impl<L: RequestLog + ?Sized> RequestLog for Arc<L> {
    fn write(&self, line: &RequestLine) {
        (**self).write(line);
    }
}

/// Standard output, where Lambda collects log lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct StdoutLog;

impl RequestLog for StdoutLog {
    fn write(&self, line: &RequestLine) {
        if let Ok(mut json) = serde_json::to_vec(line) {
            json.push(b'\n');
            // No one can be told if standard output is closed, and the answer must not depend on it.
            let _ = std::io::stdout().lock().write_all(&json);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn a_request_line_has_exactly_the_documented_fields() -> Result<(), serde_json::Error> {
        let line = RequestLine {
            timestamp: Timestamp::from_millis(1_764_039_600_042).rfc3339_millis(),
            level: Level::Info,
            message: "request",
            trace_id: "trace".to_owned(),
            function: "validate-otp",
            version: "1.2.3",
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
             \"traceId\":\"trace\",\"function\":\"validate-otp\",\"version\":\"1.2.3\",\"clientId\":\"client\",\
             \"device\":\"0011223344556677\",\"status\":422,\"outcome\":\"OTP_REJECTED\",\"reason\":\"wrong_code\",\
             \"durationMs\":1.25,\"dynamodbCalls\":2,\"secretsManagerCalls\":0}"
        );
        Ok(())
    }
}

//! Answers: the headers of every one, and the body of an error.

use lambda_http::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use lambda_http::http::{HeaderValue, StatusCode};
use lambda_http::{Body, Response};
use serde::Serialize;

use super::error::{Code, Failure};
use crate::clock::Timestamp;

/// A successful answer of an endpoint. Its body may hold a new seed, so its `Debug` does not show it.
pub struct Success {
    /// The HTTP status.
    pub status: StatusCode,
    /// The JSON body; empty for none.
    pub body: String,
    /// Headers besides those of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Why, in one word, for the log.
    pub reason: &'static str,
}

impl Success {
    /// An answer with a JSON body.
    ///
    /// # Errors
    /// [`Failure`] (500) if the body cannot be written as JSON.
    pub fn json(status: StatusCode, body: &impl Serialize, reason: &'static str) -> Result<Self, Failure> {
        let body = json(body)?;
        Ok(Self {
            status,
            body,
            headers: Vec::new(),
            reason,
        })
    }

    /// An answer without a body.
    #[must_use]
    pub const fn no_content(reason: &'static str) -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            body: String::new(),
            headers: Vec::new(),
            reason,
        }
    }

    /// With one more header.
    ///
    /// # Errors
    /// [`Failure`] (500) if the value is not valid in a header.
    pub fn with_header(mut self, name: &'static str, value: &str) -> Result<Self, Failure> {
        let value = HeaderValue::from_str(value).map_err(|error| internal(Box::new(error)))?;
        self.headers.push((HeaderName::from_static(name), value));
        Ok(self)
    }

    /// The answer to the client.
    #[must_use]
    pub fn into_response(self) -> Response<Body> {
        let mut response = answer(self.status, self.body);
        response.headers_mut().extend(self.headers);
        response
    }
}

impl std::fmt::Debug for Success {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, reason, .. } = self;
        f.debug_struct("Success")
            .field("status", status)
            .field("reason", reason)
            .finish_non_exhaustive()
    }
}

/// The body of every error; members that do not apply are left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    status: &'static str,
    code: &'static str,
    message: &'static str,
    trace_id: &'a str,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    codes_required: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts_remaining: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    single_codes_after_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_off_seconds: Option<i64>,
}

impl Failure {
    /// The answer to the client.
    #[must_use]
    pub fn to_response(&self, trace_id: &str, now: Timestamp) -> Response<Body> {
        let body = ErrorBody {
            status: "FAILED",
            code: self.code.as_str(),
            message: self.message,
            trace_id,
            timestamp: now.rfc3339(),
            codes_required: self.codes_required,
            attempts_remaining: self.attempts_remaining,
            retry_after_seconds: self.retry_after_seconds,
            single_codes_after_seconds: self.single_codes_after_seconds,
            clock_off_seconds: self.clock_off_seconds,
        };
        let mut response = answer(self.code.status(), json(&body).unwrap_or_default());
        let headers = response.headers_mut();
        if let (Code::TooManyAttempts | Code::ServiceUnavailable, Some(seconds)) = (self.code, self.retry_after_seconds)
        {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn answer(status: StatusCode, body: String) -> Response<Body> {
    let has_body = !body.is_empty();
    let mut response = Response::new(if has_body { Body::from(body) } else { Body::Empty });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if has_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn json(body: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(body).map_err(|error| internal(Box::new(error)))
}

fn internal(source: Box<dyn std::error::Error + Send + Sync>) -> Failure {
    Failure {
        source: Some(source),
        ..Failure::new(Code::InternalError, "answer_not_writable")
    }
}

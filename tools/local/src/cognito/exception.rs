//! Requests, answers and errors of AWS's JSON 1.1 protocol.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// An error of a service, by AWS's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) status: StatusCode,
    pub(crate) name: &'static str,
    pub(crate) message: String,
}

impl Exception {
    pub(crate) fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            name,
            message: message.into(),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterException", message)
    }
}

pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Exception> {
    serde_json::from_slice(body).map_err(|_| Exception::new("SerializationException", "The request is not valid."))
}

pub(crate) fn respond(answer: Result<Value, Exception>) -> Response {
    let (status, answer) = match answer {
        Ok(answer) => (StatusCode::OK, answer),
        Err(Exception { status, name, message }) => (status, json!({ "__type": name, "message": message })),
    };
    let mut response = (status, Json(answer)).into_response();
    let json_1_1 = HeaderValue::from_static("application/x-amz-json-1.1");
    response.headers_mut().insert(header::CONTENT_TYPE, json_1_1);
    response
}

/// A time in the protocol's form: seconds with a fraction.
pub(crate) fn seconds(millis: u64) -> Value {
    std::time::Duration::from_millis(millis).as_secs_f64().into()
}

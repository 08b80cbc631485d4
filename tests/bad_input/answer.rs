//! What must be true of every answer, whatever was sent.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use lambda_http::aws_lambda_events::apigw::ApiGatewayProxyResponse;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::runner::MARKER;
use crate::service::{Operation, Service, Stored};

/// Codes and their statuses as `api.md` lists them: those that input alone can cause.
pub(crate) const CODES: [(&str, u64); 17] = [
    ("INVALID_REQUEST", 400),
    ("UNAUTHORIZED", 401),
    ("FORBIDDEN", 403),
    ("DEVICE_NOT_FOUND", 404),
    ("AUTH_NOT_FOUND", 404),
    ("AUTH_ALREADY_USED", 409),
    ("AUTH_ATTEMPTS_EXHAUSTED", 409),
    ("AUTH_SUPERSEDED", 409),
    ("AUTH_EXPIRED", 410),
    ("PAYLOAD_TOO_LARGE", 413),
    ("UNSUPPORTED_MEDIA_TYPE", 415),
    ("OTP_REJECTED", 422),
    ("OTP_REPLAYED", 422),
    ("TWO_CODES_REQUIRED", 422),
    ("DEVICE_DISABLED", 423),
    ("DEVICE_NOT_ACTIVE", 423),
    ("TOO_MANY_ATTEMPTS", 429),
];
/// What a message of a 400 may name.
const TO_FIX: [&str; 7] = [
    "userName",
    "deviceName",
    "deviceType",
    "otp",
    "body",
    "path",
    "REST API",
];
const ALWAYS: [(&str, &str); 3] = [
    ("content-type", "application/json"),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
];

/// The form that the gateway expects.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Form {
    status_code: u64,
    headers: Map<String, Value>,
    multi_value_headers: BTreeMap<String, Vec<String>>,
    body: String,
    is_base64_encoded: bool,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    headers: BTreeMap<String, Vec<String>>,
    body: Map<String, Value>,
    whole: String,
}

impl Answer {
    pub(crate) fn read(answer: &ApiGatewayProxyResponse) -> Result<Self> {
        let whole = serde_json::to_string(answer)?;
        let Form {
            status_code,
            headers,
            multi_value_headers,
            body,
            is_base64_encoded,
        } = serde_json::from_str(&whole)?;
        ensure!(headers.is_empty() && !is_base64_encoded, "not for the gateway: {whole}");
        Ok(Self {
            status: status_code,
            headers: multi_value_headers,
            body: serde_json::from_str(&body).with_context(|| format!("not a JSON object: {whole}"))?,
            whole,
        })
    }

    /// The code of an error, otherwise `SUCCESS`.
    pub(crate) fn code(&self) -> &str {
        let name = if self.status < 300 { "status" } else { "code" };
        self.text(name)
    }

    pub(crate) fn message(&self) -> &str {
        self.text("message")
    }

    fn text(&self, member: &str) -> &str {
        self.body.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        match self.headers.get(name)?.as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }

    /// Documented members, headers and codes only.
    pub(crate) fn is_documented(&self, operation: Operation) -> Result<()> {
        ensure!(self.status < 500, "input alone: {self:?}");
        for (name, value) in ALWAYS {
            ensure!(self.header(name) == Some(value), "{name}: {self:?}");
        }
        let mut members: Vec<&str> = self.body.keys().map(String::as_str).collect();
        members.sort_unstable();
        let more = match (operation, self.status) {
            (Operation::Start, 201) => {
                ensure!(members == ["authId", "message", "status"], "{self:?}");
                ensure!(self.text("status") == "SUCCESS", "{self:?}");
                let location = self.header("location").context("no location")?;
                ensure!(location.ends_with(&format!("/{}", self.text("authId"))), "{self:?}");
                vec!["location", "auth-expires-at", "auth-codes-required"]
            }
            (Operation::Code, 200) => {
                ensure!(members == ["message", "status"], "{self:?}");
                ensure!(self.text("status") == "SUCCESS", "{self:?}");
                vec![]
            }
            (_, 400..) => {
                self.is_documented_error()?;
                vec!["www-authenticate", "retry-after"]
            }
            _ => bail!("no such status here: {self:?}"),
        };
        for name in self.headers.keys() {
            let always = ALWAYS.iter().any(|(always, _)| always == name);
            ensure!(always || more.contains(&name.as_str()), "{name}: {self:?}");
        }
        Ok(())
    }

    fn is_documented_error(&self) -> Result<()> {
        ensure!(CODES.contains(&(self.code(), self.status)), "{self:?}");
        ensure!(self.text("status") == "FAILED", "{self:?}");
        let number = |name: &str| self.body.get(name).map(Value::is_u64);
        let (codes, attempts) = (number("codesRequired"), number("attemptsRemaining"));
        let (retry, single) = (number("retryAfterSeconds"), number("singleCodesAfterSeconds"));
        let numbers = [codes, attempts, retry, single];
        ensure!(!numbers.contains(&Some(false)), "{self:?}");
        ensure!(codes.is_some() == (self.status == 422), "{self:?}");
        ensure!(attempts.is_none() || self.status == 422, "{self:?}");
        ensure!(
            retry.is_none() || matches!(self.code(), "OTP_REPLAYED" | "TOO_MANY_ATTEMPTS"),
            "{self:?}"
        );
        ensure!(single.is_none() || self.code() == "TWO_CODES_REQUIRED", "{self:?}");
        for name in ["message", "traceId", "timestamp"] {
            ensure!(self.body.get(name).is_some_and(Value::is_string), "{name}: {self:?}");
        }
        ensure!(self.body.len() == 5 + numbers.iter().flatten().count(), "{self:?}");
        ensure!(self.header("retry-after").is_some() == (self.status == 429), "{self:?}");
        ensure!(
            (self.header("www-authenticate") == Some("Bearer")) == (self.status == 401),
            "{self:?}"
        );
        let names_what_to_fix = TO_FIX.iter().any(|name| self.message().contains(name));
        ensure!(self.status != 400 || names_what_to_fix, "{self:?}");
        Ok(())
    }

    /// Every verdict was counted, once, and nothing else changed a counter.
    fn was_counted(&self, operation: Operation, before: &Stored, after: &Stored) -> Result<()> {
        let failures = |stored: &Stored| stored.device.as_ref().map(|device| device.total_failures);
        let verdict = matches!(self.code(), "OTP_REJECTED" | "OTP_REPLAYED");
        let accepted = operation == Operation::Code && self.status == 200;
        if verdict {
            ensure!(
                failures(after) == failures(before).map(|count| count + 1),
                "not counted once: {self:?}"
            );
        } else if accepted {
            ensure!(failures(after) == failures(before), "{self:?}");
            ensure!(after.device != before.device, "accepted without a write: {self:?}");
        } else {
            ensure!(after.device == before.device, "the device changed: {self:?}");
        }
        let issued = usize::from(operation == Operation::Start && self.status == 201);
        ensure!(after.auths == before.auths + issued, "{self:?}");
        Ok(())
    }

    fn was_logged(&self, service: &Service) -> Result<()> {
        match service.log.lines().as_slice() {
            [line] => {
                ensure!(
                    u64::from(line.status) == self.status && line.outcome == self.code(),
                    "{line:?}"
                );
                Ok(())
            }
            lines => bail!("{} log lines", lines.len()),
        }
    }

    /// Nothing that was sent is in the answer or in the log.
    pub(crate) fn echoes_nothing(&self, log: &str) -> Result<()> {
        ensure!(!self.whole.contains(MARKER.as_str()), "an echo: {self:?}");
        ensure!(!log.contains(MARKER.as_str()), "an echo in the log: {log}");
        Ok(())
    }

    /// All of these checks, for the only request of a service.
    pub(crate) fn is_sound(&self, operation: Operation, service: &Service, before: &Stored) -> Result<()> {
        self.is_documented(operation)?;
        self.was_counted(operation, before, &service.stored())?;
        self.was_logged(service)
    }
}

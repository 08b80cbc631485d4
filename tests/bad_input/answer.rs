//! What must be true of every answer, whatever was sent.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use lambda_http::aws_lambda_events::apigw::ApiGatewayProxyResponse;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::runner::MARKER;
use crate::service::{Operation, Service, State, Stored};

/// Codes and their statuses as `api.md` lists them: those that input alone can cause.
pub(crate) const CODES: [(&str, u64); 20] = [
    ("INVALID_REQUEST", 400),
    ("UNAUTHORIZED", 401),
    ("FORBIDDEN", 403),
    ("DEVICE_NOT_FOUND", 404),
    ("AUTH_NOT_FOUND", 404),
    ("NOT_FOUND", 404),
    ("AUTH_ALREADY_USED", 409),
    ("AUTH_ATTEMPTS_EXHAUSTED", 409),
    ("AUTH_SUPERSEDED", 409),
    ("DEVICE_EXISTS", 409),
    ("TOO_MANY_DEVICES", 409),
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
const TO_FIX: [&str; 13] = [
    "userName",
    "deviceName",
    "deviceType",
    "otp",
    "issuer",
    "algorithm",
    "digits",
    "period",
    "replace",
    "type",
    "body",
    "path",
    "REST API",
];
const ALWAYS: [(&str, &str); 2] = [("cache-control", "no-store"), ("x-content-type-options", "nosniff")];

/// Members of the answer to a registration, and of a device in a list.
const REGISTERED: [&str; 7] = [
    "authId",
    "deviceName",
    "deviceType",
    "message",
    "registrationUri",
    "secret",
    "status",
];
const LISTED: [&str; 4] = ["createdAt", "deviceName", "deviceType", "status"];

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

/// The names of an object's members, sorted.
fn members(object: &Value) -> Vec<&str> {
    let members = object.as_object().into_iter().flat_map(Map::keys);
    let mut members: Vec<_> = members.map(String::as_str).collect();
    members.sort_unstable();
    members
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    headers: BTreeMap<String, Vec<String>>,
    /// Null if there is none.
    body: Value,
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
            body: match body.as_str() {
                "" => Value::Null,
                body => serde_json::from_str(body).with_context(|| format!("not JSON: {whole}"))?,
            },
            whole,
        })
    }

    /// The code of an error, otherwise `SUCCESS`.
    pub(crate) fn code(&self) -> &str {
        if self.status < 300 {
            "SUCCESS"
        } else {
            self.text("code")
        }
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
        let content_type = (!self.body.is_null()).then_some("application/json");
        ensure!(self.header("content-type") == content_type, "{self:?}");
        let members = members(&self.body);
        let more = match (operation, self.status) {
            (Operation::Start | Operation::Register, 201) => {
                if operation == Operation::Start {
                    ensure!(members == ["authId", "message", "status"], "{self:?}");
                    ensure!(self.text("status") == "SUCCESS", "{self:?}");
                } else {
                    ensure!(members == REGISTERED, "{self:?}");
                    ensure!(self.text("status") == "ACTIVATION_REQUIRED", "{self:?}");
                }
                let location = self.header("location").context("no location")?;
                ensure!(location.ends_with(&format!("/{}", self.text("authId"))), "{self:?}");
                vec!["location", "auth-expires-at", "auth-codes-required"]
            }
            (Operation::Code | Operation::Activate, 200) => {
                let status = if operation == Operation::Code {
                    "SUCCESS"
                } else {
                    "ACTIVE"
                };
                ensure!(members == ["message", "status"], "{self:?}");
                ensure!(self.text("status") == status, "{self:?}");
                vec![]
            }
            (Operation::List, 200) => {
                for device in self.body.as_array().with_context(|| format!("{self:?}"))? {
                    // None was used before.
                    ensure!(self::members(device) == LISTED, "{self:?}");
                }
                vec![]
            }
            (Operation::Remove, 204) => {
                ensure!(self.body.is_null(), "{self:?}");
                vec![]
            }
            (_, 400..) => {
                self.is_documented_error(operation)?;
                vec!["www-authenticate", "retry-after"]
            }
            _ => bail!("no such status here: {self:?}"),
        };
        for name in self.headers.keys() {
            let always = name == "content-type" || ALWAYS.iter().any(|(always, _)| always == name);
            ensure!(always || more.contains(&name.as_str()), "{name}: {self:?}");
        }
        Ok(())
    }

    fn is_documented_error(&self, operation: Operation) -> Result<()> {
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
        let late = self.body.get("clockOffSeconds");
        let diagnosed = operation == Operation::Activate && self.code() == "OTP_REJECTED";
        ensure!(
            late.is_none_or(|late| diagnosed && late.as_i64().is_some_and(|late| late < 0)),
            "{self:?}"
        );
        for name in ["message", "traceId", "timestamp"] {
            ensure!(self.body.get(name).is_some_and(Value::is_string), "{name}: {self:?}");
        }
        let optional = numbers.iter().flatten().count() + usize::from(late.is_some());
        ensure!(members(&self.body).len() == 5 + optional, "{self:?}");
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
    /// One device changes at most, and only by a verdict, a registration or a removal.
    fn was_counted(&self, operation: Operation, service: &Service, before: &Stored) -> Result<()> {
        let after = &service.stored();
        let failures = |stored: &Stored| stored.device.as_ref().map(|device| device.total_failures);
        let verdict = matches!(self.code(), "OTP_REJECTED" | "OTP_REPLAYED");
        let (removed, registered) = (
            self.status == 204,
            operation == Operation::Register && self.status == 201,
        );
        if removed {
            ensure!(after.device.is_none() && before.device.is_some(), "{self:?}");
        } else if before.device.is_some() {
            let counted = failures(before).map(|count| count + u64::from(verdict));
            ensure!(failures(after) == counted, "not counted once: {self:?}");
        }
        let accepted = match operation {
            Operation::Code => self.status == 200,
            // If its seed is in use, no code is evaluated.
            Operation::Activate => self.status == 200 && service.state != State::Used,
            _ => false,
        };
        let added = after.devices.iter().filter(|device| !before.devices.contains(device));
        let missing = before.devices.iter().filter(|device| !after.devices.contains(device));
        let (added, missing) = (added.count(), missing.count());
        let expected = match (removed, registered) {
            (true, _) => added == 0 && missing == 1,
            (_, true) => added == 1 && missing <= 1,
            _ => added == missing && added == usize::from(verdict || accepted),
        };
        ensure!(expected, "{added} written, {missing} overwritten: {self:?}");
        let issued = usize::from(operation == Operation::Start && self.status == 201);
        ensure!(after.auths == before.auths + issued, "{self:?}");
        ensure!(
            after.activations == before.activations + usize::from(registered),
            "{self:?}"
        );
        let kept_seeds = removed || registered || accepted || after.seeds == before.seeds;
        ensure!(kept_seeds && service.has_seeds(), "{self:?}");
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

    /// Nothing that was sent is in the answer or in the log; the answer to a registration shows what is registered.
    pub(crate) fn echoes_nothing(&self, operation: Operation, log: &str) -> Result<()> {
        let shows_names = operation == Operation::Register && self.status == 201;
        ensure!(
            shows_names || !self.whole.contains(MARKER.as_str()),
            "an echo: {self:?}"
        );
        for shown in ["secret", "registrationUri", "authId"].map(|name| self.text(name)) {
            ensure!(shown.is_empty() || !log.contains(shown), "{shown} in the log: {log}");
        }
        ensure!(!log.contains(MARKER.as_str()), "an echo in the log: {log}");
        Ok(())
    }

    /// All of these checks, for the only request of a service.
    pub(crate) fn is_sound(&self, operation: Operation, service: &Service, before: &Stored) -> Result<()> {
        self.is_documented(operation)?;
        self.was_counted(operation, service, before)?;
        self.was_logged(service)
    }
}

//! Every error that a client can see: its status, its code, its fixed text.
//!
//! What a client reads and what an operator reads are different fields of a [`Failure`]; the second never reaches the
//! first.

use std::error::Error;

use lambda_http::http::StatusCode;

use crate::error::{RandomError, StoreError, chain};
use crate::telemetry::Level;

/// The codes of the wire contract. A new one exists only where a client would act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request is malformed.
    InvalidRequest,
    /// The body is too long.
    PayloadTooLarge,
    /// The body is not announced as JSON.
    UnsupportedMediaType,
    /// The request reached the function without a client.
    Unauthorized,
    /// The token lacks the scope.
    Forbidden,
    /// No such device.
    DeviceNotFound,
    /// No such authId, or another client's.
    AuthNotFound,
    /// No such route.
    NotFound,
    /// Registration: the device is active.
    DeviceExists,
    /// Registration: the user has too many devices.
    TooManyDevices,
    /// The authId has succeeded before.
    AuthAlreadyUsed,
    /// The authId had its wrong codes.
    AuthAttemptsExhausted,
    /// The device has a new seed.
    AuthSuperseded,
    /// The authId has expired.
    AuthExpired,
    /// The code or the pair is wrong.
    OtpRejected,
    /// The code, or a later one, was used before.
    OtpReplayed,
    /// Single codes are refused now.
    TwoCodesRequired,
    /// An operator disabled the device.
    DeviceDisabled,
    /// The device's registration is not finished.
    DeviceNotActive,
    /// Pairs came too fast.
    TooManyAttempts,
    /// A fault of the service.
    InternalError,
    /// A store failed; no verdict can be given.
    ServiceUnavailable,
}

impl Code {
    /// Every code that a function sends.
    pub const ALL: [Self; 22] = [
        Self::InvalidRequest,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::Unauthorized,
        Self::Forbidden,
        Self::DeviceNotFound,
        Self::AuthNotFound,
        Self::NotFound,
        Self::DeviceExists,
        Self::TooManyDevices,
        Self::AuthAlreadyUsed,
        Self::AuthAttemptsExhausted,
        Self::AuthSuperseded,
        Self::AuthExpired,
        Self::OtpRejected,
        Self::OtpReplayed,
        Self::TwoCodesRequired,
        Self::DeviceDisabled,
        Self::DeviceNotActive,
        Self::TooManyAttempts,
        Self::InternalError,
        Self::ServiceUnavailable,
    ];

    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::InvalidRequest => (S::BAD_REQUEST, "INVALID_REQUEST", "The request is not valid"),
            Self::PayloadTooLarge => (
                S::PAYLOAD_TOO_LARGE,
                "PAYLOAD_TOO_LARGE",
                "The body is longer than 8192 bytes",
            ),
            Self::UnsupportedMediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
                "Send the body as application/json",
            ),
            Self::Unauthorized => (
                S::UNAUTHORIZED,
                "UNAUTHORIZED",
                "Send a valid access token as a bearer token",
            ),
            Self::Forbidden => (
                S::FORBIDDEN,
                "FORBIDDEN",
                "The access token lacks the scope that this route needs",
            ),
            Self::DeviceNotFound => (
                S::NOT_FOUND,
                "DEVICE_NOT_FOUND",
                "The user has no device with this name",
            ),
            Self::AuthNotFound => (S::NOT_FOUND, "AUTH_NOT_FOUND", "No authentication has this authId"),
            Self::NotFound => (S::NOT_FOUND, "NOT_FOUND", "No such route"),
            Self::DeviceExists => (
                S::CONFLICT,
                "DEVICE_EXISTS",
                "The user has an active device with this name; use another name, or replace",
            ),
            Self::TooManyDevices => (
                S::CONFLICT,
                "TOO_MANY_DEVICES",
                "The user has too many devices; remove one first",
            ),
            Self::AuthAlreadyUsed => (
                S::CONFLICT,
                "AUTH_ALREADY_USED",
                "This authentication has already been used; start a new one",
            ),
            Self::AuthAttemptsExhausted => (
                S::CONFLICT,
                "AUTH_ATTEMPTS_EXHAUSTED",
                "Too many wrong codes for this authentication; start a new one",
            ),
            Self::AuthSuperseded => (
                S::CONFLICT,
                "AUTH_SUPERSEDED",
                "The device has been registered again; start a new authentication",
            ),
            Self::AuthExpired => (
                S::GONE,
                "AUTH_EXPIRED",
                "This authentication has expired; start a new one",
            ),
            Self::OtpRejected => (S::UNPROCESSABLE_ENTITY, "OTP_REJECTED", "The code is not valid"),
            Self::OtpReplayed => (
                S::UNPROCESSABLE_ENTITY,
                "OTP_REPLAYED",
                "This code, or a later one, was used before",
            ),
            Self::TwoCodesRequired => (
                S::UNPROCESSABLE_ENTITY,
                "TWO_CODES_REQUIRED",
                "Too many wrong codes: send two consecutive codes in otps",
            ),
            Self::DeviceDisabled => (S::LOCKED, "DEVICE_DISABLED", "The device is disabled; ask an operator"),
            Self::DeviceNotActive => (
                S::LOCKED,
                "DEVICE_NOT_ACTIVE",
                "The registration of the device is not finished; ask an operator",
            ),
            Self::TooManyAttempts => (
                S::TOO_MANY_REQUESTS,
                "TOO_MANY_ATTEMPTS",
                "Too many wrong pairs of codes; try again later",
            ),
            Self::InternalError => (S::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "Internal error; try again"),
            Self::ServiceUnavailable => (
                S::SERVICE_UNAVAILABLE,
                "SERVICE_UNAVAILABLE",
                "Temporarily unavailable; try again",
            ),
        }
    }

    /// The HTTP status: it alone tells a client what to do next.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        self.row().0
    }

    /// The code on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The text for people.
    #[must_use]
    pub const fn message(self) -> &'static str {
        self.row().2
    }

    /// How much an operator should care.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::InternalError | Self::ServiceUnavailable => Level::Error,
            // The gateway lets neither through: if one is seen, the deployment is wrong.
            Self::Unauthorized | Self::Forbidden => Level::Warn,
            _ => Level::Info,
        }
    }
}

/// How long a client should wait after a 503, in seconds.
const RETRY_AFTER_UNAVAILABLE: u64 = 1;

/// An answer that is not a success.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub code: Code,
    /// The text for people: the code's own, or a more helpful fixed one.
    pub message: &'static str,
    /// How many new codes to ask the user for.
    pub codes_required: Option<u8>,
    /// Single codes that the authId has left.
    pub attempts_remaining: Option<u32>,
    /// Seconds to wait; with 429 and 503 also a header.
    pub retry_after_seconds: Option<u64>,
    /// Seconds until single codes are evaluated again.
    pub single_codes_after_seconds: Option<u64>,
    /// Activation: by how many seconds the clock of the user's device may be off; negative if it is behind.
    pub clock_off_seconds: Option<i64>,
    /// Why, in one word, for the log.
    pub reason: &'static str,
    /// What failed, for the operator.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure with its code's own text; `reason` is for the log.
    #[must_use]
    pub const fn new(code: Code, reason: &'static str) -> Self {
        Self {
            code,
            message: code.message(),
            codes_required: None,
            attempts_remaining: None,
            retry_after_seconds: None,
            single_codes_after_seconds: None,
            clock_off_seconds: None,
            reason,
            source: None,
        }
    }

    /// A malformed request; the fixed text names what to fix and echoes nothing.
    #[must_use]
    pub fn invalid(message: &'static str) -> Self {
        Self {
            message,
            ..Self::new(Code::InvalidRequest, "invalid_request")
        }
    }

    /// No verdict can be given.
    #[must_use]
    pub fn unavailable(reason: &'static str, source: Option<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            retry_after_seconds: Some(RETRY_AFTER_UNAVAILABLE),
            source,
            ..Self::new(Code::ServiceUnavailable, reason)
        }
    }

    /// What an operator reads: the whole chain of errors.
    #[must_use]
    pub fn operator_text(&self) -> Option<String> {
        Some(chain(self.source.as_deref()?))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let reason = match error {
            StoreError::Unavailable { .. } => "store_unavailable",
            StoreError::Corrupt { .. } => "store_corrupt",
        };
        Self::unavailable(reason, Some(Box::new(error)))
    }
}

impl From<RandomError> for Failure {
    fn from(error: RandomError) -> Self {
        Self {
            source: Some(Box::new(error)),
            ..Self::new(Code::InternalError, "random_failed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_is_a_503_and_only_the_operator_reads_why() {
        let failure = Failure::from(StoreError::Unavailable {
            store: "dynamodb",
            operation: "GetItem auths",
            source: "throttled".into(),
        });
        assert_eq!(
            (failure.code, failure.reason),
            (Code::ServiceUnavailable, "store_unavailable")
        );
        assert_eq!(failure.message, Code::ServiceUnavailable.message());
        assert_eq!(
            failure.operator_text().as_deref(),
            Some("dynamodb is unavailable (GetItem auths): throttled")
        );
        let failure = Failure::from(StoreError::Corrupt {
            store: "dynamodb",
            what: "status",
        });
        assert_eq!(
            (failure.code, failure.reason),
            (Code::ServiceUnavailable, "store_corrupt")
        );
        assert_eq!(failure.code.level(), Level::Error);
    }

    #[test]
    fn a_line_is_as_urgent_as_its_status_says() {
        for code in Code::ALL {
            let level = match code.status().as_u16() {
                500.. => Level::Error,
                401 | 403 => Level::Warn,
                _ => Level::Info,
            };
            assert_eq!(code.level(), level, "{code:?}");
        }
    }
}

//! What the operations read and write as JSON.

use lambda_http::http::StatusCode;
use serde::Serialize;
use shared::clock::Timestamp;
use shared::device::DeviceRecord;
use shared::http::body::Members;
use shared::http::error::Failure;
use shared::http::path;
use shared::http::response::Success;
use shared::names::DeviceName;
use shared::otp::{Algorithm, Digits, OtpParameters, Period, Seed};
use shared::otpauth::Issuer;
use zeroize::Zeroizing;

const DEVICE_NAME: &str = "deviceName must be a string of 1 to 64 characters, without control characters and without white \
                           space at either end, and neither . nor ..";
const ISSUER: &str = "issuer must be a string of 1 to 64 characters, without colons and control characters and without white \
                      space at either end";
const ALGORITHM: &str = "algorithm must be SHA1, SHA256 or SHA512";
const DIGITS: &str = "digits must be the number 6 or 8";
const PERIOD: &str = "period must be the number 30 or 60";
const REPLACE: &str = "replace must be true or false";

/// What a registration asks for.
pub(crate) struct RegistrationBody {
    pub(crate) device: DeviceName,
    pub(crate) issuer: Option<Issuer>,
    pub(crate) parameters: OtpParameters,
    pub(crate) replace: bool,
}

impl RegistrationBody {
    pub(crate) fn read(members: &Members<'_>) -> Result<Self, Failure> {
        members.device_type(true)?;
        let device: String = members.required("deviceName", DEVICE_NAME)?;
        let issuer = members.optional::<String>("issuer", ISSUER)?;
        let algorithm = members.optional::<String>("algorithm", ALGORITHM)?;
        let digits = members.optional("digits", DIGITS)?;
        let period = members.optional("period", PERIOD)?;
        let defaults = OtpParameters::default();
        Ok(Self {
            device: DeviceName::parse(&device)
                .ok()
                .filter(|device| path::can_stand_in_path(device.as_str()))
                .ok_or_else(|| Failure::invalid(DEVICE_NAME))?,
            issuer: parsed(issuer, ISSUER, |raw| Issuer::parse(&raw).ok())?,
            parameters: OtpParameters {
                algorithm: parsed(algorithm, ALGORITHM, |raw| Algorithm::parse(&raw))?.unwrap_or(defaults.algorithm),
                digits: parsed(digits, DIGITS, Digits::from_count)?.unwrap_or(defaults.digits),
                period: parsed(period, PERIOD, Period::from_seconds)?.unwrap_or(defaults.period),
            },
            replace: members.optional("replace", REPLACE)?.unwrap_or(false),
        })
    }
}

fn parsed<T, U>(
    raw: Option<T>,
    expected: &'static str,
    parse: impl FnOnce(T) -> Option<U>,
) -> Result<Option<U>, Failure> {
    raw.map(|raw| parse(raw).ok_or_else(|| Failure::invalid(expected)))
        .transpose()
}

/// Exactly these members, in this order. The seed is in it: it has no `Debug`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Registered<'a> {
    auth_id: &'a str,
    device_type: &'static str,
    status: &'static str,
    message: &'static str,
    device_name: &'a str,
    secret: Zeroizing<String>,
    registration_uri: &'a str,
}

impl<'a> Registered<'a> {
    pub(crate) fn new(auth_id: &'a str, device: &'a DeviceName, seed: &Seed, uri: &'a str) -> Self {
        Self {
            auth_id,
            device_type: "TOTP",
            status: "ACTIVATION_REQUIRED",
            message: "Scan registrationUri with an authenticator app, then activate the device with its first OTP",
            device_name: device.as_str(),
            secret: seed.to_base32(),
            registration_uri: uri,
        }
    }
}

/// Exactly these members, in this order.
#[derive(Serialize)]
struct Active<'a> {
    status: &'static str,
    message: &'a str,
}

pub(crate) fn active(device: &DeviceName, reason: &'static str) -> Result<Success, Failure> {
    let body = Active {
        status: "ACTIVE",
        message: device.as_str(),
    };
    Success::json(StatusCode::OK, &body, reason)
}

/// One device of a list; never with a seed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListedDevice<'a> {
    device_type: &'static str,
    status: &'static str,
    device_name: &'a str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<String>,
}

impl<'a> ListedDevice<'a> {
    pub(crate) fn new(record: &'a DeviceRecord) -> Self {
        Self {
            device_type: "TOTP",
            status: record.device.status.as_str(),
            device_name: record.key.device.as_str(),
            created_at: record.created_at.rfc3339(),
            last_used_at: record.last_used_at.map(Timestamp::rfc3339),
        }
    }
}

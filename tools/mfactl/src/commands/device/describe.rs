//! A device in words and as JSON. Never its seed.

use serde_json::{Value, json};
use shared::clock::Timestamp;
use shared::device::{Device, DeviceRecord, Status};
use shared::names::{DeviceKey, SeedRef};
use shared::otp::OtpParameters;
use shared::policy::Policy;
use shared::sealed::SealedSeed;

use crate::commands::text::{options_for, under};

pub(super) fn parameters(parameters: OtpParameters) -> String {
    format!(
        "{}, {} digits, {} s",
        parameters.algorithm.as_str(),
        parameters.digits.count(),
        parameters.period.seconds()
    )
}

/// What an authentication with the device would need now.
pub(super) fn outlook(device: &Device, now: Timestamp, policy: &Policy) -> String {
    match device.status {
        Status::ActivationRequired => {
            return "step 2 answers 423 DEVICE_NOT_ACTIVE until `mfactl device activate` accepts the first code"
                .to_owned();
        }
        Status::Disabled => return "step 2 answers 423 DEVICE_DISABLED until `mfactl device enable`".to_owned(),
        Status::Active => {}
    }
    let singles = match device.single_codes_at(policy) {
        Some(opens) if opens <= now => "one code is enough".to_owned(),
        Some(opens) => format!(
            "two consecutive codes are required until {} or an unlock",
            opens.rfc3339()
        ),
        None => "two consecutive codes are required until they succeed once or an unlock".to_owned(),
    };
    match device.pairs_at(policy) {
        opens if opens <= now => singles,
        opens => format!(
            "{singles}; pairs of codes are refused for {} s",
            opens.seconds_from(now)
        ),
    }
}

/// Where a seed is: the name of its secret, or the key that it is sealed under.
pub(in crate::commands) fn seed(seed: &SeedRef, sealed: Option<&SealedSeed>) -> String {
    match seed {
        SeedRef::Secret(secret) => secret.name().to_owned(),
        SeedRef::Sealed(_) => format!("sealed {}", under(sealed.and_then(SealedSeed::key_id))),
    }
}

/// The key that a seed is sealed under; `None` of one in a secret.
pub(super) fn key_of(seed: &SeedRef, sealed: Option<&SealedSeed>) -> Option<String> {
    let key = sealed.and_then(SealedSeed::key_id);
    match seed {
        SeedRef::Secret(_) => None,
        SeedRef::Sealed(_) => Some(key.map_or("of an unknown format".to_owned(), |key| key.to_string())),
    }
}

pub(super) fn json(record: &DeviceRecord) -> Value {
    let device = &record.device;
    json!({
        "owner": record.key.owner.as_str(),
        "userName": record.key.user.as_str(),
        "deviceName": record.key.device.as_str(),
        "status": device.status.as_str(),
        "algorithm": device.parameters.algorithm.as_str(),
        "digits": device.parameters.digits.count(),
        "period": device.parameters.period.seconds(),
        "seedRef": device.seed_ref.to_string(),
        "seedStorage": if device.sealed.is_some() { "sealed" } else { "secret" },
        "sealedUnder": key_of(&device.seed_ref, device.sealed.as_ref()),
        "pendingSeedRef": record.pending.as_ref().map(|pending| pending.seed_ref.to_string()),
        "pendingUntil": record.pending.as_ref().map(|pending| pending.until.rfc3339()),
        "registeredBy": record.by.as_str(),
        "activateBy": record.activate_by.map(Timestamp::rfc3339),
        "createdAt": record.created_at.rfc3339(),
        "lastUsedAt": record.last_used_at.map(Timestamp::rfc3339),
        "consecutiveFailures": device.consecutive_failures,
        "totalFailures": device.total_failures,
    })
}

/// The command that shows more of a device.
pub(super) fn check_command(key: &DeviceKey) -> String {
    format!("mfactl device check {}", options_for(key))
}

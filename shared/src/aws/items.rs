//! Items as the tables hold them: attribute names, and both directions of every value.
//!
//! An item that this service cannot have written is [`StoreError::Corrupt`]: no verdict is given on a guess.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::clock::Timestamp;
use crate::device::{Accepted, Auth, Device, Failing, LastWrite, Status, Verdict};
#[cfg(feature = "registry")]
use crate::device::{DeviceRecord, PendingSeed};
use crate::error::StoreError;
use crate::names::{AuthId, ClientId, DeviceKey, DeviceName, SeedRef, UserName, WriteId};
use crate::otp::{Algorithm, Digits, OtpParameters, Period, Step};

pub(super) const STORE: &str = "dynamodb";

pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) const PK: &str = "pk";
const SK: &str = "sk";
pub(super) const VERSION: &str = "version";
pub(super) const SEED_REF: &str = "seedRef";
pub(super) const PENDING_SEED_REF: &str = "pendingSeedRef";
pub(super) const PENDING_UNTIL: &str = "pendingUntil";
#[cfg(feature = "registry")]
pub(super) const CREATED_AT: &str = "createdAt";
pub(super) const LAST_USED_AT: &str = "lastUsedAt";
const STATUS: &str = "status";
const ALGORITHM: &str = "algorithm";
const DIGITS: &str = "digits";
const PERIOD: &str = "period";
const LAST_STEP: &str = "lastStep";
const ACCEPTED: &str = "accepted";
const FAILING: &str = "failing";
pub(super) const LAST_WRITE: &str = "lastWrite";
const CONSECUTIVE_FAILURES: &str = "consecutiveFailures";
const TOTAL_FAILURES: &str = "totalFailures";
const NOT_BEFORE: &str = "notBefore";
const BUDGET_AT: &str = "budgetAt";
const PAIR_AT: &str = "pairAt";
const AUTH_ID: &str = "authId";
const WRITE_ID: &str = "writeId";
const EXPIRES_AT: &str = "expiresAt";
const COUNT: &str = "count";
const VERDICT: &str = "verdict";
const CLIENT_ID: &str = "clientId";
const USER_NAME: &str = "userName";
const DEVICE_NAME: &str = "deviceName";
const ISSUED_AT: &str = "issuedAt";
const DEVICE: &str = "device";

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl Into<u64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

fn bytes(value: &[u8; 16]) -> AttributeValue {
    AttributeValue::B(Blob::new(value.as_slice()))
}

fn map<const N: usize>(members: [(&str, AttributeValue); N]) -> AttributeValue {
    AttributeValue::M(item(members))
}

fn item<const N: usize>(members: [(&str, AttributeValue); N]) -> Item {
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Between client and user in a key. No client id has it, so that the client's part ends at the first.
const AFTER_CLIENT: char = '#';

/// What the keys of a client's devices begin with.
pub(super) fn client_prefix(client: &ClientId) -> String {
    format!("{}{AFTER_CLIENT}", client.as_str())
}

/// The partition of a user's devices.
pub(super) fn user_partition(client: &ClientId, user: &UserName) -> String {
    format!("{}{}", client_prefix(client), user.as_str())
}

/// The key of a device's item.
pub(super) fn device_key(key: &DeviceKey) -> [(&'static str, AttributeValue); 2] {
    [
        (PK, text(user_partition(&key.client, &key.user))),
        (SK, text(key.device.as_str())),
    ]
}

/// The key of a device's item, as an item.
#[cfg(feature = "registry")]
pub(super) fn key_item(key: &DeviceKey) -> Item {
    item(device_key(key))
}

/// The device that a key names.
#[cfg(feature = "registry")]
pub(super) fn read_device_key(item: &Item) -> Result<DeviceKey, StoreError> {
    let attributes = Attributes(item);
    let (client, user) = attributes.text(PK)?.split_once(AFTER_CLIENT).ok_or(corrupt(PK))?;
    Ok(DeviceKey {
        client: ClientId::parse(client).map_err(|_| corrupt(PK))?,
        user: UserName::parse(user).map_err(|_| corrupt(PK))?,
        device: attributes.parsed(SK, |raw| DeviceName::parse(raw).ok())?,
    })
}

/// Everything in a device's item.
#[cfg(feature = "registry")]
pub(super) fn read_record(item: &Item) -> Result<DeviceRecord, StoreError> {
    let attributes = Attributes(item);
    let pending = match (item.contains_key(PENDING_SEED_REF), item.contains_key(PENDING_UNTIL)) {
        (false, false) => None,
        _ => Some(PendingSeed {
            seed_ref: attributes.parsed(PENDING_SEED_REF, |raw| SeedRef::parse(raw).ok())?,
            until: attributes.seconds(PENDING_UNTIL)?,
        }),
    };
    Ok(DeviceRecord {
        key: read_device_key(item)?,
        device: read_device(item)?,
        pending,
        created_at: attributes.seconds(CREATED_AT)?,
        last_used_at: match item.get(LAST_USED_AT) {
            Some(_) => Some(attributes.seconds(LAST_USED_AT)?),
            None => None,
        },
    })
}

/// Everything of a device that a verdict depends on.
pub(super) fn device(device: &Device) -> Item {
    let accepted = device.accepted.iter().map(|entry| {
        map([
            (AUTH_ID, bytes(entry.auth_id.as_bytes())),
            (WRITE_ID, bytes(entry.write_id.as_bytes())),
            (EXPIRES_AT, number(entry.expires_at.as_secs())),
        ])
    });
    let failing = device
        .failing
        .iter()
        .map(|entry| map([(AUTH_ID, bytes(entry.auth_id.as_bytes())), (COUNT, number(entry.count))]));
    let mut attributes = item([
        (VERSION, number(device.version)),
        (STATUS, text(device.status.as_str())),
        (SEED_REF, text(device.seed_ref.to_string())),
        (ALGORITHM, text(device.parameters.algorithm.as_str())),
        (DIGITS, number(device.parameters.digits.count())),
        (PERIOD, number(device.parameters.period.seconds())),
        (LAST_STEP, number(device.last_step.0)),
        (ACCEPTED, AttributeValue::L(accepted.collect())),
        (FAILING, AttributeValue::L(failing.collect())),
        (CONSECUTIVE_FAILURES, number(device.consecutive_failures)),
        (TOTAL_FAILURES, number(device.total_failures)),
        (NOT_BEFORE, number(device.not_before.as_millis())),
        (BUDGET_AT, number(device.budget_at.as_millis())),
        (PAIR_AT, number(device.pair_at.as_millis())),
    ]);
    if let Some(last) = device.last_write {
        let last = map([
            (WRITE_ID, bytes(last.write_id.as_bytes())),
            (AUTH_ID, bytes(last.auth_id.as_bytes())),
            (VERDICT, text(last.verdict.as_str())),
        ]);
        attributes.insert(LAST_WRITE.to_owned(), last);
    }
    attributes
}

/// An auth with its snapshot of the device.
pub(super) fn auth(auth: &Auth) -> Item {
    item([
        (PK, text(auth.id.to_string())),
        (CLIENT_ID, text(auth.key.client.as_str())),
        (USER_NAME, text(auth.key.user.as_str())),
        (DEVICE_NAME, text(auth.key.device.as_str())),
        (ISSUED_AT, number(auth.issued_at.as_secs())),
        (EXPIRES_AT, number(auth.expires_at.as_secs())),
        (DEVICE, AttributeValue::M(device(&auth.device))),
    ])
}

pub(super) const fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt { store: STORE, what }
}

/// Reads attributes by name; what is missing or of another type is named in the error.
struct Attributes<'a>(&'a Item);

impl<'a> Attributes<'a> {
    fn of(value: &'a AttributeValue, name: &'static str) -> Result<Self, StoreError> {
        value.as_m().map(Self).map_err(|_| corrupt(name))
    }

    fn get(&self, name: &'static str) -> Result<&'a AttributeValue, StoreError> {
        self.0.get(name).ok_or(corrupt(name))
    }

    fn text(&self, name: &'static str) -> Result<&'a str, StoreError> {
        self.get(name)?.as_s().map(String::as_str).map_err(|_| corrupt(name))
    }

    fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        let digits = self.get(name)?.as_n().map_err(|_| corrupt(name))?;
        digits.parse().map_err(|_| corrupt(name))
    }

    fn seconds(&self, name: &'static str) -> Result<Timestamp, StoreError> {
        self.number(name).map(Timestamp::from_secs)
    }

    fn millis(&self, name: &'static str) -> Result<Timestamp, StoreError> {
        self.number(name).map(Timestamp::from_millis)
    }

    fn bytes(&self, name: &'static str) -> Result<[u8; 16], StoreError> {
        let blob = self.get(name)?.as_b().map_err(|_| corrupt(name))?;
        blob.as_ref().try_into().map_err(|_| corrupt(name))
    }

    fn auth_id(&self) -> Result<AuthId, StoreError> {
        self.bytes(AUTH_ID).map(AuthId::from_bytes)
    }

    fn write_id(&self) -> Result<WriteId, StoreError> {
        self.bytes(WRITE_ID).map(WriteId::from_bytes)
    }

    fn parsed<T>(&self, name: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, StoreError> {
        parse(self.text(name)?).ok_or(corrupt(name))
    }

    fn list<T>(
        &self,
        name: &'static str,
        read: impl Fn(&Attributes<'a>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let entries = self.get(name)?.as_l().map_err(|_| corrupt(name))?;
        entries
            .iter()
            .map(|entry| read(&Attributes::of(entry, name)?))
            .collect()
    }
}

/// The device that an item, or the snapshot in an auth's item, describes. Attributes that are no part of its state
/// (keys, dates, a pending replacement) are ignored.
pub(super) fn read_device(item: &Item) -> Result<Device, StoreError> {
    let attributes = Attributes(item);
    let last_write = |last: &Attributes<'_>| {
        let verdict = last.parsed(VERDICT, Verdict::parse)?;
        Ok(LastWrite {
            write_id: last.write_id()?,
            auth_id: last.auth_id()?,
            verdict,
        })
    };
    Ok(Device {
        version: attributes.number(VERSION)?,
        status: attributes.parsed(STATUS, Status::parse)?,
        seed_ref: attributes.parsed(SEED_REF, |raw| SeedRef::parse(raw).ok())?,
        parameters: OtpParameters {
            algorithm: attributes.parsed(ALGORITHM, Algorithm::parse)?,
            digits: Digits::from_count(attributes.number(DIGITS)?).ok_or(corrupt(DIGITS))?,
            period: Period::from_seconds(attributes.number(PERIOD)?).ok_or(corrupt(PERIOD))?,
        },
        last_step: Step(attributes.number(LAST_STEP)?),
        accepted: attributes.list(ACCEPTED, |entry| {
            Ok(Accepted {
                auth_id: entry.auth_id()?,
                write_id: entry.write_id()?,
                expires_at: entry.seconds(EXPIRES_AT)?,
            })
        })?,
        failing: attributes.list(FAILING, |entry| {
            Ok(Failing {
                auth_id: entry.auth_id()?,
                count: entry.number(COUNT)?,
            })
        })?,
        last_write: match item.get(LAST_WRITE) {
            Some(last) => Some(last_write(&Attributes::of(last, LAST_WRITE)?)?),
            None => None,
        },
        consecutive_failures: attributes.number(CONSECUTIVE_FAILURES)?,
        total_failures: attributes.number(TOTAL_FAILURES)?,
        not_before: attributes.millis(NOT_BEFORE)?,
        budget_at: attributes.millis(BUDGET_AT)?,
        pair_at: attributes.millis(PAIR_AT)?,
    })
}

/// The auth that an item describes.
pub(super) fn read_auth(item: &Item) -> Result<Auth, StoreError> {
    let attributes = Attributes(item);
    let snapshot = attributes.get(DEVICE)?.as_m().map_err(|_| corrupt(DEVICE))?;
    Ok(Auth {
        id: attributes.parsed(PK, AuthId::parse)?,
        key: DeviceKey {
            client: attributes.parsed(CLIENT_ID, |raw| ClientId::parse(raw).ok())?,
            user: attributes.parsed(USER_NAME, |raw| UserName::parse(raw).ok())?,
            device: attributes.parsed(DEVICE_NAME, |raw| DeviceName::parse(raw).ok())?,
        },
        issued_at: attributes.seconds(ISSUED_AT)?,
        expires_at: attributes.seconds(EXPIRES_AT)?,
        device: read_device(snapshot)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full_device() -> Result<Device, crate::names::NameError> {
        let auth_id = AuthId::from_random_bytes([7; 16]);
        let write_id = WriteId::from_bytes([9; 16]);
        Ok(Device {
            version: (1 << 63) - 1,
            status: Status::Active,
            seed_ref: SeedRef::new("mfa/seed/00ff", "version")?,
            parameters: OtpParameters::default(),
            last_step: Step(58_800_000),
            accepted: vec![Accepted {
                auth_id,
                write_id,
                expires_at: Timestamp::from_secs(1_800_000_000),
            }],
            failing: vec![Failing { auth_id, count: 3 }],
            last_write: Some(LastWrite {
                write_id,
                auth_id,
                verdict: Verdict::Replayed,
            }),
            consecutive_failures: 4,
            total_failures: 1 << 40,
            not_before: Timestamp::from_millis(1),
            budget_at: Timestamp::from_millis(2),
            pair_at: Timestamp::from_millis(3),
        })
    }

    #[test]
    fn a_device_survives_its_item() -> Result<(), Box<dyn std::error::Error>> {
        let full = full_device()?;
        assert_eq!(read_device(&device(&full))?, full);
        let fresh = Device {
            last_write: None,
            accepted: Vec::new(),
            failing: Vec::new(),
            ..full
        };
        assert_eq!(read_device(&device(&fresh))?, fresh);
        Ok(())
    }

    #[test]
    fn a_record_with_half_of_a_pending_seed_is_corrupt() -> Result<(), Box<dyn std::error::Error>> {
        let key = DeviceKey {
            client: ClientId::parse("shop")?,
            user: UserName::parse("a#b")?,
            device: DeviceName::parse("phone")?,
        };
        let mut item = device(&full_device()?);
        item.extend(device_key(&key).map(|(name, value)| (name.to_owned(), value)));
        item.insert(CREATED_AT.to_owned(), number(7_u64));
        let record = read_record(&item)?;
        assert_eq!((&record.key, record.pending, record.last_used_at), (&key, None, None));
        item.insert(PENDING_SEED_REF.to_owned(), text("mfa/seed/01#v"));
        assert!(matches!(read_record(&item), Err(StoreError::Corrupt { .. })));
        item.insert(PENDING_UNTIL.to_owned(), number(9_u64));
        let pending = PendingSeed {
            seed_ref: SeedRef::new("mfa/seed/01", "v")?,
            until: Timestamp::from_secs(9),
        };
        assert_eq!(read_record(&item)?.pending, Some(pending));
        assert_eq!(read_device(&item)?, full_device()?, "it is no part of the state");
        item.remove(PENDING_SEED_REF);
        assert!(matches!(read_record(&item), Err(StoreError::Corrupt { .. })));
        Ok(())
    }

    #[test]
    fn an_item_without_one_of_its_attributes_is_corrupt_and_never_a_default() -> Result<(), crate::names::NameError> {
        let whole = device(&full_device()?);
        for name in whole.keys().filter(|name| *name != LAST_WRITE) {
            let mut item = whole.clone();
            item.remove(name);
            assert!(
                matches!(read_device(&item), Err(StoreError::Corrupt { .. })),
                "{name} is missing"
            );
            item.insert(name.clone(), AttributeValue::Bool(true));
            assert!(
                matches!(read_device(&item), Err(StoreError::Corrupt { .. })),
                "{name} has another type"
            );
        }
        let mut item = whole;
        item.insert(LAST_WRITE.to_owned(), AttributeValue::Bool(true));
        assert!(matches!(read_device(&item), Err(StoreError::Corrupt { .. })));
        Ok(())
    }
}

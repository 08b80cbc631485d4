//! Items as the tables hold them: keys, attribute names, and both directions of every value. The map `state` is in [`state`].
//!
//! An item that this service cannot have written is [`StoreError::Corrupt`]: no verdict is given on a guess.

use aws_sdk_dynamodb::types::AttributeValue;

use super::attributes::{Attributes, Item, corrupt, item, number, text};
use super::state::{self, STATE};
use crate::device::{Auth, Device, Status};
#[cfg(feature = "registry")]
use crate::device::{DeviceRecord, PendingSeed};
use crate::error::StoreError;
use crate::names::{AuthId, ClientId, DeviceKey, DeviceName, SeedRef, UserName};
use crate::otp::{Algorithm, Digits, OtpParameters, Period};

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
const EXPIRES_AT: &str = "expiresAt";
const CLIENT_ID: &str = "clientId";
const USER_NAME: &str = "userName";
const DEVICE_NAME: &str = "deviceName";
const ISSUED_AT: &str = "issuedAt";
const DEVICE: &str = "device";

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
    let mut attributes = changing(device);
    attributes.extend(identity(device));
    attributes
}

/// What every write of a device changes.
pub(super) fn changing(device: &Device) -> Item {
    item([(VERSION, number(device.version)), (STATE, state::write(device))])
}

/// What an activation or an operator changes, and a sign-in never.
pub(super) fn identity(device: &Device) -> Item {
    item([
        (STATUS, text(device.status.as_str())),
        (SEED_REF, text(device.seed_ref.to_string())),
        (ALGORITHM, text(device.parameters.algorithm.as_str())),
        (DIGITS, number(device.parameters.digits.count())),
        (PERIOD, number(device.parameters.period.seconds())),
    ])
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

/// The device that an item, or the snapshot in an auth's item, describes. Attributes that are no part of its state
/// (keys, dates, a pending replacement) are ignored.
pub(super) fn read_device(item: &Item) -> Result<Device, StoreError> {
    let attributes = Attributes(item);
    let registered = Device::registered(
        attributes.number(VERSION)?,
        attributes.parsed(STATUS, Status::parse)?,
        attributes.parsed(SEED_REF, |raw| SeedRef::parse(raw).ok())?,
        OtpParameters {
            algorithm: attributes.parsed(ALGORITHM, Algorithm::parse)?,
            digits: Digits::from_count(attributes.number(DIGITS)?).ok_or(corrupt(DIGITS))?,
            period: Period::from_seconds(attributes.number(PERIOD)?).ok_or(corrupt(PERIOD))?,
        },
    );
    state::read(attributes.get(STATE)?, registered)
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
    use crate::clock::Timestamp;

    fn full_device() -> Result<Device, crate::names::NameError> {
        Ok(Device {
            last_step: crate::otp::Step(58_800_000),
            ..Device::registered(
                (1 << 63) - 1,
                Status::Active,
                SeedRef::new("mfa/seed/00ff", "version")?,
                OtpParameters::default(),
            )
        })
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
        for name in whole.keys() {
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
        Ok(())
    }
}

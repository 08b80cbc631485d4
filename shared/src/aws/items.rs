//! Items as the tables hold them: keys, attribute names, and both directions of every value. The map `state` is in [`state`].
//!
//! An item that this service cannot have written is [`StoreError::Corrupt`]: no verdict is given on a guess.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use super::attributes::{Attributes, Item, corrupt, item, number, text};
use super::state::{self, STATE};
#[cfg(feature = "registry")]
use crate::clock::Timestamp;
use crate::device::{Auth, Device, Status};
#[cfg(feature = "registry")]
use crate::device::{DeviceRecord, NewSeed, PendingSeed, RegisteredBy, Registration};
use crate::error::StoreError;
use crate::names::{AuthId, DeviceKey, DeviceName, Owner, SeedRef, UserName};
use crate::otp::{Algorithm, Digits, OtpParameters, Period};
#[cfg(feature = "registry")]
use crate::registration::Activation;
use crate::sealed::SealedSeed;

pub(super) const PK: &str = "pk";
const SK: &str = "sk";
pub(super) const VERSION: &str = "version";
pub(super) const SEED_REF: &str = "seedRef";
pub(super) const PENDING_SEED_REF: &str = "pendingSeedRef";
pub(super) const PENDING_UNTIL: &str = "pendingUntil";
pub(super) const SEALED: &str = "sealed";
pub(super) const PENDING_SEALED: &str = "pendingSealed";
#[cfg(feature = "registry")]
pub(super) const CREATED_AT: &str = "createdAt";
pub(super) const LAST_USED_AT: &str = "lastUsedAt";
pub(super) const ACTIVATE_BY: &str = "activateBy";
#[cfg(feature = "registry")]
pub(super) const REGISTERED_BY: &str = "registeredBy";
pub(super) const STATUS: &str = "status";
const ALGORITHM: &str = "algorithm";
const DIGITS: &str = "digits";
const PERIOD: &str = "period";
const EXPIRES_AT: &str = "expiresAt";
const OWNER: &str = "owner";
const USER_NAME: &str = "userName";
const DEVICE_NAME: &str = "deviceName";
const ISSUED_AT: &str = "issuedAt";
const DEVICE: &str = "device";
#[cfg(feature = "registry")]
const ACTIVATION_PREFIX: &str = "activation/";

/// Between owner and user in a key. No owner has it, so that the owner's part ends at the first.
const AFTER_OWNER: char = '#';

/// What the keys of an owner's devices begin with.
pub(super) fn owner_prefix(owner: &Owner) -> String {
    format!("{}{AFTER_OWNER}", owner.as_str())
}

/// The partition of a user's devices.
pub(super) fn user_partition(owner: &Owner, user: &UserName) -> String {
    format!("{}{}", owner_prefix(owner), user.as_str())
}

/// The key of a device's item.
pub(super) fn device_key(key: &DeviceKey) -> [(&'static str, AttributeValue); 2] {
    [
        (PK, text(user_partition(&key.owner, &key.user))),
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
    let (owner, user) = attributes.text(PK)?.split_once(AFTER_OWNER).ok_or(corrupt(PK))?;
    Ok(DeviceKey {
        owner: Owner::parse(owner).map_err(|_| corrupt(PK))?,
        user: UserName::parse(user).map_err(|_| corrupt(PK))?,
        device: attributes.parsed(SK, |raw| DeviceName::parse(raw).ok())?,
    })
}

/// Everything in a device's item.
#[cfg(feature = "registry")]
pub(super) fn read_record(item: &Item) -> Result<DeviceRecord, StoreError> {
    let attributes = Attributes(item);
    let optional_seconds = |name| {
        let found = item.contains_key(name).then(|| attributes.seconds(name));
        found.transpose()
    };
    let has = |name| item.contains_key(name);
    let pending = if has(PENDING_SEED_REF) || has(PENDING_UNTIL) || has(PENDING_SEALED) {
        let seed_ref = attributes.parsed(PENDING_SEED_REF, |raw| SeedRef::parse(raw).ok())?;
        Some(PendingSeed {
            sealed: read_sealed(&attributes, &seed_ref, PENDING_SEALED)?,
            seed_ref,
            until: attributes.seconds(PENDING_UNTIL)?,
        })
    } else {
        None
    };
    Ok(DeviceRecord {
        key: read_device_key(item)?,
        device: read_device(item)?,
        pending,
        created_at: attributes.seconds(CREATED_AT)?,
        by: attributes.parsed(REGISTERED_BY, RegisteredBy::parse)?,
        activate_by: optional_seconds(ACTIVATE_BY)?,
        last_used_at: optional_seconds(LAST_USED_AT)?,
    })
}

/// A new device.
#[cfg(feature = "registry")]
pub(super) fn registered(key: &DeviceKey, new: &Device, registration: &Registration) -> Item {
    let mut attributes = device(new);
    attributes.extend(key_item(key));
    attributes.extend(registered_by(registration.by, registration.activate_by));
    attributes.insert(CREATED_AT.to_owned(), number(registration.created_at.as_secs()));
    attributes
}

/// Who registered a device, and until when it is to be activated.
#[cfg(feature = "registry")]
pub(super) fn registered_by(by: RegisteredBy, activate_by: Option<Timestamp>) -> Item {
    let mut attributes = item([(REGISTERED_BY, text(by.as_str()))]);
    if let Some(activate_by) = activate_by {
        attributes.insert(ACTIVATE_BY.to_owned(), number(activate_by.as_secs()));
    }
    attributes
}

/// A pending seed, and the version of the write that sets it.
#[cfg(feature = "registry")]
pub(super) fn pending(version: u64, pending: &PendingSeed) -> Item {
    let mut attributes = item([
        (VERSION, number(version)),
        (PENDING_SEED_REF, text(pending.seed_ref.to_string())),
        (PENDING_UNTIL, number(pending.until.as_secs())),
    ]);
    attributes.extend(sealed(PENDING_SEALED, pending.sealed.as_ref()));
    attributes
}

/// The key of an activation's item: of a kind of its own, which no authId of a sign-in can name.
#[cfg(feature = "registry")]
pub(super) fn activation_key(id: AuthId) -> AttributeValue {
    text(format!("{ACTIVATION_PREFIX}{id}"))
}

/// An activation.
#[cfg(feature = "registry")]
pub(super) fn activation(activation: &Activation) -> Item {
    let NewSeed { seed_ref, parameters } = &activation.seed;
    let mut attributes = item([
        (PK, activation_key(activation.id)),
        (OWNER, text(activation.key.owner.as_str())),
        (USER_NAME, text(activation.key.user.as_str())),
        (DEVICE_NAME, text(activation.key.device.as_str())),
        (ISSUED_AT, number(activation.issued_at.as_secs())),
        (EXPIRES_AT, number(activation.expires_at.as_secs())),
    ]);
    attributes.extend(seed_attributes(seed_ref, *parameters));
    attributes
}

/// The activation that an item describes.
#[cfg(feature = "registry")]
pub(super) fn read_activation(item: &Item) -> Result<Activation, StoreError> {
    let attributes = Attributes(item);
    let id = |raw: &str| AuthId::parse(raw.strip_prefix(ACTIVATION_PREFIX)?);
    let (seed_ref, parameters) = read_seed_attributes(&attributes)?;
    Ok(Activation {
        id: attributes.parsed(PK, id)?,
        key: read_owner_and_names(&attributes)?,
        seed: NewSeed { seed_ref, parameters },
        issued_at: attributes.seconds(ISSUED_AT)?,
        expires_at: attributes.seconds(EXPIRES_AT)?,
    })
}

/// Everything that a sign-in needs of a device: what a verdict depends on, and its seed if that is sealed.
pub(super) fn device(device: &Device) -> Item {
    let mut attributes = changing(device);
    attributes.extend(identity(device));
    attributes.extend(sealed(SEALED, device.sealed.as_ref()));
    attributes
}

/// A sealed seed under this name, if there is one.
pub(super) fn sealed(name: &str, seed: Option<&SealedSeed>) -> Option<(String, AttributeValue)> {
    seed.map(|seed| (name.to_owned(), blob(seed)))
}

pub(super) fn blob(seed: &SealedSeed) -> AttributeValue {
    AttributeValue::B(Blob::new(seed.as_bytes()))
}

/// The sealed seed beside a reference: there is one exactly if the reference is of one.
fn read_sealed(
    attributes: &Attributes<'_>,
    seed_ref: &SeedRef,
    name: &'static str,
) -> Result<Option<SealedSeed>, StoreError> {
    match (seed_ref, attributes.0.contains_key(name)) {
        (SeedRef::Secret(_), false) => Ok(None),
        (SeedRef::Secret(_), true) => Err(corrupt(name)),
        (SeedRef::Sealed(_), _) => {
            let blob = attributes.get(name)?.as_b().map_err(|_| corrupt(name))?;
            Ok(Some(SealedSeed::from_bytes(blob.as_ref().to_vec())))
        }
    }
}

/// What every write of a device changes.
pub(super) fn changing(device: &Device) -> Item {
    item([(VERSION, number(device.version)), (STATE, state::write(device))])
}

/// What an activation or an operator changes, and a sign-in never.
pub(super) fn identity(device: &Device) -> Item {
    let mut attributes = seed_attributes(&device.seed_ref, device.parameters);
    attributes.insert(STATUS.to_owned(), text(device.status.as_str()));
    attributes
}

fn seed_attributes(seed_ref: &SeedRef, parameters: OtpParameters) -> Item {
    item([
        (SEED_REF, text(seed_ref.to_string())),
        (ALGORITHM, text(parameters.algorithm.as_str())),
        (DIGITS, number(parameters.digits.count())),
        (PERIOD, number(parameters.period.seconds())),
    ])
}

fn read_seed_attributes(attributes: &Attributes<'_>) -> Result<(SeedRef, OtpParameters), StoreError> {
    let parameters = OtpParameters {
        algorithm: attributes.parsed(ALGORITHM, Algorithm::parse)?,
        digits: Digits::from_count(attributes.number(DIGITS)?).ok_or(corrupt(DIGITS))?,
        period: Period::from_seconds(attributes.number(PERIOD)?).ok_or(corrupt(PERIOD))?,
    };
    Ok((attributes.parsed(SEED_REF, |raw| SeedRef::parse(raw).ok())?, parameters))
}

/// An auth with its snapshot of the device.
pub(super) fn auth(auth: &Auth) -> Item {
    item([
        (PK, text(auth.id.to_string())),
        (OWNER, text(auth.key.owner.as_str())),
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
    let (seed_ref, parameters) = read_seed_attributes(&attributes)?;
    let sealed = read_sealed(&attributes, &seed_ref, SEALED)?;
    let registered = Device::registered(
        attributes.number(VERSION)?,
        attributes.parsed(STATUS, Status::parse)?,
        seed_ref,
        parameters,
    );
    state::read(attributes.get(STATE)?, Device { sealed, ..registered })
}

fn read_owner_and_names(attributes: &Attributes<'_>) -> Result<DeviceKey, StoreError> {
    Ok(DeviceKey {
        owner: attributes.parsed(OWNER, |raw| Owner::parse(raw).ok())?,
        user: attributes.parsed(USER_NAME, |raw| UserName::parse(raw).ok())?,
        device: attributes.parsed(DEVICE_NAME, |raw| DeviceName::parse(raw).ok())?,
    })
}

/// The auth that an item describes.
pub(super) fn read_auth(item: &Item) -> Result<Auth, StoreError> {
    let attributes = Attributes(item);
    let snapshot = attributes.get(DEVICE)?.as_m().map_err(|_| corrupt(DEVICE))?;
    Ok(Auth {
        id: attributes.parsed(PK, AuthId::parse)?,
        key: read_owner_and_names(&attributes)?,
        issued_at: attributes.seconds(ISSUED_AT)?,
        expires_at: attributes.seconds(EXPIRES_AT)?,
        device: read_device(snapshot)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[cfg(feature = "registry")]
    #[test]
    fn a_record_with_half_of_a_pending_seed_is_corrupt() -> Result<(), Box<dyn std::error::Error>> {
        let key = DeviceKey {
            owner: Owner::parse("shop")?,
            user: UserName::parse("a#b")?,
            device: DeviceName::parse("phone")?,
        };
        let mut item = device(&full_device()?);
        item.extend(device_key(&key).map(|(name, value)| (name.to_owned(), value)));
        item.insert(CREATED_AT.to_owned(), number(7_u64));
        item.insert(REGISTERED_BY.to_owned(), text("http"));
        let record = read_record(&item)?;
        assert_eq!((&record.key, record.pending, record.last_used_at), (&key, None, None));
        item.insert(PENDING_SEED_REF.to_owned(), text("mfa/seed/01#v"));
        assert!(matches!(read_record(&item), Err(StoreError::Corrupt { .. })));
        item.insert(PENDING_UNTIL.to_owned(), number(9_u64));
        let pending = PendingSeed {
            seed_ref: SeedRef::new("mfa/seed/01", "v")?,
            sealed: None,
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

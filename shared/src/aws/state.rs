//! The map `state` of a device's item: all that only verdicts change, read and written whole.
//!
//! A member that is missing, or a format that is not known, makes the item corrupt and is never a default: an absent
//! `lastStep` read as 0 would accept used codes. Members that this release does not know are carried along, so that an
//! older and a newer release can serve one device in turns.

use aws_sdk_dynamodb::types::AttributeValue;

use super::attributes::{Attributes, bytes, corrupt, item, map, number, put_down_all, text};
use crate::device::{Accepted, Device, Failing, LastWrite, Verdict};
use crate::error::StoreError;
use crate::names::{AuthId, WriteId};
use crate::otp::Step;

pub(super) const STATE: &str = "state";
const FORMAT: &str = "format";
const LAST_STEP: &str = "lastStep";
const ACCEPTED: &str = "accepted";
const FAILING: &str = "failing";
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
const LAST_WRITE: &str = "lastWrite";

/// The only format so far. A change that an older release must not ignore is a new one, in two releases: the first reads
/// both, the second writes it.
const FORMAT_1: u64 = 1;

const MEMBERS: [&str; 10] = [
    FORMAT,
    LAST_STEP,
    ACCEPTED,
    FAILING,
    LAST_WRITE,
    CONSECUTIVE_FAILURES,
    TOTAL_FAILURES,
    NOT_BEFORE,
    BUDGET_AT,
    PAIR_AT,
];

pub(super) fn write(device: &Device) -> AttributeValue {
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
    let last_write = device.last_write.map_or(AttributeValue::Null(true), |last| {
        map([
            (WRITE_ID, bytes(last.write_id.as_bytes())),
            (AUTH_ID, bytes(last.auth_id.as_bytes())),
            (VERDICT, text(last.verdict.as_str())),
        ])
    });
    let mut members = put_down_all(&device.carried);
    members.extend(item([
        (FORMAT, number(FORMAT_1)),
        (LAST_STEP, number(device.last_step.0)),
        (ACCEPTED, AttributeValue::L(accepted.collect())),
        (FAILING, AttributeValue::L(failing.collect())),
        (LAST_WRITE, last_write),
        (CONSECUTIVE_FAILURES, number(device.consecutive_failures)),
        (TOTAL_FAILURES, number(device.total_failures)),
        (NOT_BEFORE, number(device.not_before.as_millis())),
        (BUDGET_AT, number(device.budget_at.as_millis())),
        (PAIR_AT, number(device.pair_at.as_millis())),
    ]));
    AttributeValue::M(members)
}

/// The registered device with this state.
pub(super) fn read(value: &AttributeValue, registered: Device) -> Result<Device, StoreError> {
    let state = Attributes::of(value, STATE)?;
    if state.number::<u64>(FORMAT)? != FORMAT_1 {
        return Err(corrupt(FORMAT));
    }
    Ok(Device {
        last_step: Step(state.number(LAST_STEP)?),
        accepted: state.list(ACCEPTED, 3, |entry| {
            Ok(Accepted {
                auth_id: auth_id(entry)?,
                write_id: write_id(entry)?,
                expires_at: entry.seconds(EXPIRES_AT)?,
            })
        })?,
        failing: state.list(FAILING, 2, |entry| {
            Ok(Failing {
                auth_id: auth_id(entry)?,
                count: entry.number(COUNT)?,
            })
        })?,
        last_write: match state.get(LAST_WRITE)? {
            AttributeValue::Null(true) => None,
            last => Some(last_write(&Attributes::exactly(last, LAST_WRITE, 3)?)?),
        },
        consecutive_failures: state.number(CONSECUTIVE_FAILURES)?,
        total_failures: state.number(TOTAL_FAILURES)?,
        not_before: state.millis(NOT_BEFORE)?,
        budget_at: state.millis(BUDGET_AT)?,
        pair_at: state.millis(PAIR_AT)?,
        carried: state.others(&MEMBERS)?,
        ..registered
    })
}

fn last_write(last: &Attributes<'_>) -> Result<LastWrite, StoreError> {
    Ok(LastWrite {
        write_id: write_id(last)?,
        auth_id: auth_id(last)?,
        verdict: last.parsed(VERDICT, Verdict::parse)?,
    })
}

fn auth_id(entry: &Attributes<'_>) -> Result<AuthId, StoreError> {
    entry.bytes(AUTH_ID).map(AuthId::from_bytes)
}

fn write_id(entry: &Attributes<'_>) -> Result<WriteId, StoreError> {
    entry.bytes(WRITE_ID).map(WriteId::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::attributes::Item;
    use crate::clock::Timestamp;
    use crate::device::Status;
    use crate::names::{NameError, SeedRef};
    use crate::otp::OtpParameters;

    fn registered() -> Result<Device, NameError> {
        let seed_ref = SeedRef::new("mfa/seed/00ff", "version")?;
        Ok(Device::registered(
            1,
            Status::Active,
            seed_ref,
            OtpParameters::default(),
        ))
    }

    fn full_state() -> Result<Item, NameError> {
        let (auth_id, write_id) = (AuthId::from_bytes([7; 16]), WriteId::from_bytes([9; 16]));
        let device = Device {
            accepted: vec![Accepted {
                auth_id,
                write_id,
                expires_at: Timestamp::from_secs(1),
            }],
            failing: vec![Failing { auth_id, count: 3 }],
            last_write: Some(LastWrite {
                write_id,
                auth_id,
                verdict: Verdict::Replayed,
            }),
            ..registered()?
        };
        let AttributeValue::M(state) = write(&device) else {
            return Err(NameError::Character);
        };
        Ok(state)
    }

    fn is_corrupt(state: &Item) -> Result<bool, NameError> {
        let read = read(&AttributeValue::M(state.clone()), registered()?);
        Ok(matches!(read, Err(StoreError::Corrupt { .. })))
    }

    #[test]
    fn a_state_without_one_of_its_members_is_corrupt_and_never_a_default() -> Result<(), NameError> {
        let whole = full_state()?;
        assert!(!is_corrupt(&whole)?);
        assert_eq!(whole.len(), MEMBERS.len());
        for name in MEMBERS {
            let mut state = whole.clone();
            state.remove(name);
            assert!(is_corrupt(&state)?, "{name} is missing");
            state.insert(name.to_owned(), AttributeValue::Bool(true));
            assert!(is_corrupt(&state)?, "{name} has another type");
        }
        Ok(())
    }

    #[test]
    fn a_format_that_is_not_known_is_corrupt() -> Result<(), NameError> {
        let mut state = full_state()?;
        for format in [0_u64, 2, u64::MAX] {
            state.insert(FORMAT.to_owned(), number(format));
            assert!(is_corrupt(&state)?, "{format}");
        }
        Ok(())
    }

    #[test]
    fn an_entry_with_one_member_more_or_less_is_corrupt() -> Result<(), NameError> {
        let whole = full_state()?;
        let change = |name: &str, change: &dyn Fn(&mut Item)| {
            let mut state = whole.clone();
            match state.get_mut(name) {
                Some(AttributeValue::L(entries)) => {
                    if let Some(AttributeValue::M(entry)) = entries.first_mut() {
                        change(entry);
                    }
                }
                Some(AttributeValue::M(entry)) => change(entry),
                _ => {}
            }
            is_corrupt(&state)
        };
        for name in [ACCEPTED, FAILING, LAST_WRITE] {
            assert!(!change(name, &|_| ())?, "{name}");
            assert!(change(name, &|entry| drop(entry.remove(AUTH_ID)))?, "{name}");
            assert!(
                change(name, &|entry| drop(entry.insert("later".to_owned(), number(1_u64))))?,
                "{name}"
            );
        }
        Ok(())
    }

    #[test]
    fn a_member_that_cannot_be_carried_along_is_corrupt() -> Result<(), NameError> {
        let mut state = full_state()?;
        state.insert("later".to_owned(), AttributeValue::Ss(vec!["a".to_owned()]));
        assert!(is_corrupt(&state)?);
        Ok(())
    }
}

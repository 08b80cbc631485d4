//! How many devices a user may have.

use super::{Leftovers, NotRegistered, RegistrationRefusal};
use crate::clock::Timestamp;
use crate::device::{DeviceRecord, RegisteredBy, Status};
use crate::error::StoreError;
use crate::names::{DeviceKey, Owner, UserName};
use crate::ports::Written;
use crate::ports::registry::DeviceRegistry;

/// Devices read with one call.
const PAGE: u16 = 1_000;
/// Abandoned registrations removed with one call: more than are added, so that any number of them ends.
const MOST_REMOVED: usize = 5;

/// How many devices a user may have. Concurrent calls may exceed it by a few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Active or disabled ones.
    pub devices: usize,
    /// Those that were never active.
    pub unfinished: usize,
}

impl Limits {
    /// Whether the user of these devices may have this one in use besides the others.
    #[must_use]
    pub fn allow_one_more(&self, devices: &[DeviceRecord], key: &DeviceKey) -> bool {
        let in_use = devices
            .iter()
            .filter(|record| record.key != *key && record.device.status != Status::ActivationRequired);
        in_use.count() < self.devices
    }
}

/// Every device of a user, by name.
///
/// # Errors
/// [`StoreError`], also if one of them cannot be read.
pub async fn user_devices(
    devices: &impl DeviceRegistry,
    owner: &Owner,
    user: &UserName,
) -> Result<Vec<DeviceRecord>, StoreError> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = devices.user_page(owner, user, after.as_ref(), PAGE).await?;
        for record in page.records {
            all.push(record.map_err(|unreadable| unreadable.error)?);
        }
        after = page.next;
        if after.is_none() {
            all.sort_by(|one, other| one.key.device.as_str().cmp(other.key.device.as_str()));
            return Ok(all);
        }
    }
}

/// Makes room for a device among those of its user: an abandoned registration over HTTP gives way to a further one.
///
/// # Errors
/// [`NotRegistered`] if the user has too many, or the store fails.
pub async fn make_room(
    devices: &impl DeviceRegistry,
    key: &DeviceKey,
    all: &[DeviceRecord],
    limits: Limits,
    leftovers: &mut Leftovers,
) -> Result<(), NotRegistered> {
    let own = all.iter().find(|record| record.key == *key);
    if own.is_some_and(|record| record.device.status != Status::ActivationRequired) {
        return Ok(());
    }
    if !limits.allow_one_more(all, key) {
        return Err(NotRegistered::Refused(RegistrationRefusal::TooManyDevices));
    }
    let unfinished = all
        .iter()
        .filter(|record| record.device.status == Status::ActivationRequired);
    let too_many = (unfinished.clone().count() + 1).saturating_sub(limits.unfinished);
    if own.is_some() || too_many == 0 {
        return Ok(());
    }
    let mut abandoned: Vec<_> = unfinished.filter(|record| record.by == RegisteredBy::Http).collect();
    abandoned.sort_by_key(|record| record.activate_by.unwrap_or(Timestamp::EPOCH));
    let (wanted, candidates) = (too_many.min(MOST_REMOVED), abandoned.len());
    let mut gone = 0;
    for record in abandoned {
        if gone == wanted {
            break;
        }
        match devices.remove_held(&record.key, &record.device).await? {
            Written::Yes => {
                leftovers.add(record.seeds());
                gone += 1;
            }
            // Someone else removed it, and its seed.
            Written::No(None) => gone += 1,
            // It was activated.
            Written::No(Some(stored)) if stored.status != Status::ActivationRequired => gone += 1,
            // It was registered again.
            Written::No(Some(_)) | Written::NotPending => {}
        }
    }
    match (gone, candidates) {
        (0, 0) => Err(NotRegistered::Refused(RegistrationRefusal::TooManyDevices)),
        (0, _) => Err(NotRegistered::Contention),
        _ => Ok(()),
    }
}

//! The first code of a seed, which puts it into use.

use super::Leftovers;
use super::room::{Limits, user_devices};
use crate::clock::Timestamp;
use crate::device::{Attempt, Device, DeviceRecord, NewSeed, Refusal, Status, Verdict, admit_activation};
use crate::error::StoreError;
use crate::names::{AuthId, DeviceKey, SeedRef, WriteId};
use crate::otp::{Offer, Seed};
use crate::policy::Policy;
use crate::ports::registry::{DeviceRegistry, SeedRegistry};
use crate::settlement::{Settlement, Unsettled, settle};

/// What the authId of an activation refers to. Over HTTP it is stored, under a key of its own kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// The authId.
    pub id: AuthId,
    /// The device.
    pub key: DeviceKey,
    /// The seed that its first code puts into use.
    pub seed: NewSeed,
    /// When it was issued; whole seconds.
    pub issued_at: Timestamp,
    /// When it expires; whole seconds.
    pub expires_at: Timestamp,
}

/// What an activation came to.
#[derive(Debug)]
pub enum Activated {
    /// A code was evaluated.
    Verdict {
        /// What it was.
        verdict: Verdict,
        /// The state that the write left.
        device: Box<Device>,
        /// Whether it was accepted and replaces another seed.
        replaces: bool,
        /// How many seconds ago the code was right, if it was wrong now, the user's clock being behind by that much; see
        /// [`crate::otp::Seed::seconds_late`].
        seconds_late: Option<u64>,
    },
    /// The device is active with this very seed: no code was evaluated.
    AlreadyActive,
}

/// Why no code was evaluated.
#[derive(Debug, thiserror::Error)]
pub enum NotActivated {
    /// The device was removed.
    #[error("the device was removed")]
    Gone,
    /// The device does not wait for this seed's first code any more.
    #[error("the device has another seed")]
    Superseded,
    /// The seed waited for too long.
    #[error("the seed waited for its first code until {}", .0.rfc3339())]
    TooLate(Timestamp),
    /// The user has too many devices.
    #[error("the user has too many devices")]
    TooManyDevices,
    /// The attempt was not evaluated.
    #[error("the attempt was not evaluated")]
    Refused(Refusal),
    /// The seed of a device that waits for it does not exist, cannot be read, or was made for other parameters.
    #[error("the seed {seed} does not exist or cannot be used")]
    NoSeed {
        /// Which seed.
        seed: SeedRef,
        /// Why it cannot be read.
        #[source]
        error: Option<StoreError>,
    },
    /// Others wrote first too often.
    #[error("others wrote first too often")]
    Contention,
    /// The store failed, and the device does not have the seed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Evaluates the first code of a seed on the device as it is now, never on a snapshot, and through the same counted
/// decision as one of a sign-in. The seed that it replaces is among the leftovers.
///
/// # Errors
/// [`NotActivated`].
#[expect(
    clippy::too_many_arguments,
    reason = "each is another kind of thing, and none has a default"
)]
pub async fn activate(
    devices: &impl DeviceRegistry,
    seeds: &impl SeedRegistry,
    activation: &Activation,
    offer: &Offer,
    write_id: WriteId,
    now: Timestamp,
    policy: &Policy,
    limits: Option<Limits>,
    leftovers: &mut Leftovers,
) -> Result<Activated, NotActivated> {
    let Activation { key, seed: new, .. } = activation;
    let record = devices.record(key).await?.ok_or(NotActivated::Gone)?;
    if is_active_with(&record, &new.seed_ref) {
        return Ok(Activated::AlreadyActive);
    }
    require_waiting(&record, &new.seed_ref, now)?;
    if let (Status::ActivationRequired, Some(limits)) = (record.device.status, limits) {
        let all = user_devices(devices, &key.owner, &key.user).await?;
        // It may have been activated since it was read.
        if all
            .iter()
            .any(|other| other.key == *key && is_active_with(other, &new.seed_ref))
        {
            return Ok(Activated::AlreadyActive);
        }
        if !limits.allow_one_more(&all, key) {
            return Err(NotActivated::TooManyDevices);
        }
    }
    let id = activation.id;
    // A gate that refuses answers without the seed.
    admit_activation(&record.device, id, activation.expires_at, offer.kind(), now, policy)
        .map_err(NotActivated::Refused)?;
    let (record, seed) = with_seed(devices, seeds, activation, record, now).await?;
    let Some(seed) = seed else {
        return Ok(Activated::AlreadyActive);
    };
    let attempt = Attempt {
        auth_id: id,
        expires_at: activation.expires_at,
        write_id,
        matches: seed.matches(offer, now),
    };
    let former = record.device.seed_ref.clone();
    let begun = Settlement::begin_activation(record.device, new.clone(), attempt, now, policy);
    match settle(devices, key, begun, policy).await {
        Ok((verdict, device)) => {
            let replaces = verdict == Verdict::Accepted && former != new.seed_ref;
            if replaces {
                leftovers.add([&former]);
            }
            let seconds_late = match (verdict, offer) {
                (Verdict::Rejected, Offer::Single(code)) => seed.seconds_late(code, now),
                _ => None,
            };
            Ok(Activated::Verdict {
                verdict,
                device: Box::new(device),
                replaces,
                seconds_late,
            })
        }
        Err(Unsettled::AlreadyActive) => Ok(Activated::AlreadyActive),
        Err(Unsettled::Refused(refusal)) => Err(NotActivated::Refused(refusal)),
        Err(Unsettled::Gone) => Err(NotActivated::Gone),
        Err(Unsettled::Superseded) => Err(NotActivated::Superseded),
        Err(Unsettled::Contention) => Err(NotActivated::Contention),
        Err(Unsettled::Store(error)) => {
            // The write may have taken effect anyway.
            let stored = devices.record(key).await.ok().flatten();
            if stored.is_some_and(|stored| is_active_with(&stored, &new.seed_ref)) {
                if former != new.seed_ref {
                    leftovers.add([&former]);
                }
                return Ok(Activated::AlreadyActive);
            }
            Err(error.into())
        }
    }
}

/// The seed that an activation is of, and the device as it was read with it; none if the device was activated in the
/// meantime.
async fn with_seed(
    devices: &impl DeviceRegistry,
    seeds: &impl SeedRegistry,
    activation: &Activation,
    record: DeviceRecord,
    now: Timestamp,
) -> Result<(DeviceRecord, Option<Seed>), NotActivated> {
    let Activation { key, seed: new, .. } = activation;
    let read = async |sealed| seeds.read(key, &new.seed_ref, sealed).await;
    let sealed = record.sealed(&new.seed_ref);
    let mut unusable = match read(sealed).await {
        Ok(Some(seed)) if seed.parameters() == new.parameters => return Ok((record, Some(seed))),
        unusable => unusable.err(),
    };
    // Whoever registered or removed the device since may have removed its seed.
    let again = devices.record(key).await?.ok_or(NotActivated::Gone)?;
    if is_active_with(&again, &new.seed_ref) {
        return Ok((again, None));
    }
    require_waiting(&again, &new.seed_ref, now)?;
    let resealed = again.sealed(&new.seed_ref);
    if resealed.is_some() && resealed != sealed {
        match read(resealed).await {
            Ok(Some(seed)) if seed.parameters() == new.parameters => return Ok((again, Some(seed))),
            still_unusable => unusable = still_unusable.err(),
        }
    }
    Err(NotActivated::NoSeed {
        seed: new.seed_ref.clone(),
        error: unusable,
    })
}

fn is_active_with(record: &DeviceRecord, seed: &SeedRef) -> bool {
    record.device.status == Status::Active && record.device.seed_ref == *seed
}

/// Fails unless the device waits for the first code of this seed.
fn require_waiting(record: &DeviceRecord, seed: &SeedRef, now: Timestamp) -> Result<(), NotActivated> {
    let device = &record.device;
    match device.status {
        Status::Disabled => Err(NotActivated::Refused(Refusal::Disabled)),
        Status::ActivationRequired if device.seed_ref == *seed => Ok(()),
        Status::ActivationRequired => Err(NotActivated::Superseded),
        Status::Active => match record.pending.as_ref().filter(|pending| pending.seed_ref == *seed) {
            Some(pending) if pending.waits_at(now) => Ok(()),
            Some(pending) => Err(NotActivated::TooLate(pending.until)),
            None => Err(NotActivated::Superseded),
        },
    }
}

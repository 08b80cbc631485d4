//! How many devices have their seed in a secret, and how many under each key of the key ring.

use std::collections::{BTreeMap, BTreeSet};

use shared::clock::Timestamp;
use shared::device::DeviceRecord;
use shared::names::SeedRef;
use shared::ports::operator::KeyRingSummary;
use shared::sealed::{KeyId, SealedSeed};

use crate::commands::text::{count, under};

/// Devices by where their seeds are. One whose new seed waits may count twice.
#[derive(Debug, Default)]
pub(in crate::commands) struct Census {
    pub(super) devices: usize,
    pub(super) in_secrets: usize,
    /// `None` stands for an unknown format.
    pub(super) by_key: BTreeMap<Option<KeyId>, usize>,
}

/// The keys that a device needs: those that its seeds are sealed under, but for a new seed that has waited for too long. `None`
/// for an unknown format.
pub(in crate::commands) fn keys_of(record: &DeviceRecord, now: Timestamp) -> BTreeSet<Option<KeyId>> {
    let own = record.device.sealed.as_ref();
    let pending = record.waiting_seed(now).and_then(|pending| pending.sealed.as_ref());
    own.into_iter().chain(pending).map(SealedSeed::key_id).collect()
}

impl Census {
    pub(in crate::commands) fn add(&mut self, record: &DeviceRecord, now: Timestamp) {
        self.devices += 1;
        let in_secrets = record.seeds().any(|seed| matches!(seed, SeedRef::Secret(_)));
        self.in_secrets += usize::from(in_secrets);
        for key in keys_of(record, now) {
            *self.by_key.entry(key).or_default() += 1;
        }
    }

    pub(in crate::commands) fn has_sealed(&self) -> bool {
        !self.by_key.is_empty()
    }

    /// In one line.
    pub(in crate::commands) fn text(&self, ring: Option<&KeyRingSummary>) -> String {
        let parts = self.by_key.iter().map(|(key, devices)| {
            let is_current = ring.is_some_and(|ring| Some(ring.current) == *key);
            let current = if is_current { " (current)" } else { "" };
            format!(", {} sealed {}{current}", count(*devices, "device"), under(*key))
        });
        let in_secrets = count(self.in_secrets, "device");
        format!("{in_secrets} with a secret{}", parts.collect::<String>())
    }
}

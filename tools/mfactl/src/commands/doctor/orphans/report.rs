//! Orphans as findings. Without I/O.

use std::time::Duration;

use shared::clock::Timestamp;
use shared::device::{DeviceRecord, Status};
use shared::names::{DeviceKey, SecretVersion, SeedRef};
use shared::ports::operator::KeyRingSummary;
use shared::sealed::{KeyId, SealedSeed};

use crate::commands::doctor::finding::{Finding, Part};
use crate::commands::keys::{Census, keys_of};
use crate::commands::text::{count, name_of, options_for, under};

const PART: Part = Part::Orphans;
/// A device or secret that is younger may be part of a running command, or not visible everywhere in AWS yet.
pub(in crate::commands::doctor) const GRACE_PERIOD: Duration = Duration::from_hours(1);

/// Why a device's secret is not where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// It was removed, and can be restored.
    Removed,
    /// The secret has other versions. The device's own may still be readable, and may go at any time.
    OtherVersion,
    /// Its name does not begin with the stack's prefix, so no function may read it.
    OutsidePrefix,
    /// The secret does not exist.
    Gone,
}

/// A device, and a seed that it names and that is missing.
#[derive(Debug)]
pub(super) struct BrokenDevice {
    pub(super) record: DeviceRecord,
    pub(super) seed: SecretVersion,
    /// Whether the seed waits for its first code; the device works without it.
    pub(super) pending: bool,
    pub(super) absence: Absence,
}

impl BrokenDevice {
    pub(super) fn is_restorable(&self) -> bool {
        self.absence == Absence::Removed
    }

    /// Whether only the item is left. A disabled device is kept: someone set it aside.
    pub(super) fn is_dead(&self, now: Timestamp) -> bool {
        self.absence == Absence::Gone
            && !self.pending
            && self.record.device.status != Status::Disabled
            && !is_young(self.record.created_at, now)
    }

    fn finding(&self, program: &str, now: Timestamp) -> Finding {
        let (key, name) = (&self.record.key, self.seed.name());
        let device = name_of(key);
        let secret = if self.pending { "new secret" } else { "secret" };
        let options = options_for(key);
        let again = match self.record.device.status {
            Status::Active => format!("{program} device register {options} --replace"),
            Status::ActivationRequired => format!("{program} device register {options}"),
            Status::Disabled => format!("{program} device remove {options}"),
        };
        match self.absence {
            Absence::Removed => Finding::problem(
                PART,
                format!("the {secret} of the device {device} was removed"),
                format!("--fix, or aws secretsmanager restore-secret --secret-id {name}"),
            ),
            Absence::OtherVersion => Finding::problem(
                PART,
                format!(
                    "the {secret} of the device {device} has other versions: the device's own may disappear at any time"
                ),
                format!(
                    "aws secretsmanager update-secret-version-stage --secret-id {name} --version-stage device \
                     --move-to-version-id {}; if that version is gone, {again}",
                    self.seed.version()
                ),
            ),
            Absence::OutsidePrefix => Finding::problem(
                PART,
                format!("the device {device} names a secret of another stack, {name}, which no function may read"),
                again,
            ),
            Absence::Gone if !self.pending && is_young(self.record.created_at, now) => Finding::notice(
                PART,
                format!(
                    "the secret of the device {device} is not visible, and the device is less than an hour old: check again later"
                ),
            ),
            Absence::Gone => {
                let effect = match (self.pending, self.record.device.status) {
                    (true, _) => "; the old one works",
                    (false, Status::Active) => ": correct codes get 503",
                    (false, _) => "",
                };
                let or_fix = if self.is_dead(now) {
                    ", or --fix, which removes the device"
                } else {
                    ""
                };
                let text = format!("the {secret} of the device {device} is gone{effect}");
                Finding::problem(PART, text, format!("{again}{or_fix}"))
            }
        }
    }
}

/// What a comparison of devices and secrets found.
#[derive(Debug, Default)]
pub(in crate::commands::doctor) struct Orphans {
    pub(super) now: Timestamp,
    pub(super) devices: usize,
    /// Devices that have their secret.
    pub(super) complete: usize,
    /// Items that could not be read: what they name is unknown.
    pub(super) unreadable: usize,
    pub(super) seeds: usize,
    /// Seeds that no device names, old enough.
    pub(super) unnamed: Vec<String>,
    /// The same, but older than the stack.
    pub(super) predating: Vec<String>,
    /// Seeds that no device names yet.
    pub(super) young: usize,
    /// Secrets under the prefix whose names are not those of seeds.
    pub(super) foreign: usize,
    pub(super) broken: Vec<BrokenDevice>,
    /// Devices that were never active, whose time to become so is over.
    pub(super) expired: Vec<DeviceRecord>,
    /// `None` if it cannot be read.
    pub(super) ring: Option<KeyRingSummary>,
    pub(super) census: Census,
    /// Devices with a seed sealed under a key that the ring lacks. They stay: the ring may come back.
    pub(super) lacking: Vec<(DeviceKey, Option<KeyId>)>,
}

/// Whether a device was never active, and its time to become so is over. The time may be an hour and the device new.
pub(super) fn is_expired(record: &DeviceRecord, now: Timestamp) -> bool {
    record.device.status == Status::ActivationRequired
        && record.activate_by.is_some_and(|until| until <= now)
        && !is_young(record.created_at, now)
}

impl Orphans {
    /// Counts the kinds of seeds that a device has.
    pub(super) fn count_keys(&mut self, record: &DeviceRecord) {
        self.census.add(record, self.now);
        if let Some(ring) = &self.ring {
            let lacking = keys_of(record, self.now).into_iter();
            let lacking = lacking.filter(|key| key.is_none_or(|key| !ring.has(key)));
            self.lacking.extend(lacking.map(|key| (record.key.clone(), key)));
        }
    }

    /// Counts a device that has its secret, or whose seed is sealed under a key of the ring. Returns whether it does.
    pub(super) fn add_if_it_opens(&mut self, record: &DeviceRecord) -> bool {
        let ring = self.ring.as_ref();
        let key = record.device.sealed.as_ref().and_then(SealedSeed::key_id);
        let opens = match record.device.seed_ref {
            SeedRef::Secret(_) => true,
            SeedRef::Sealed(_) => ring.zip(key).is_some_and(|(ring, key)| ring.has(key)),
        };
        self.complete += usize::from(opens);
        opens
    }

    /// Whether there is anything that `--fix` may fix.
    pub(in crate::commands::doctor) fn is_fixable(&self) -> bool {
        let mut broken = self.broken.iter();
        !self.unnamed.is_empty()
            || !self.expired.is_empty()
            || broken.any(|device| device.is_restorable() || device.is_dead(self.now))
    }

    /// The findings, at most so many of a kind.
    pub(in crate::commands::doctor) fn findings(&self, program: &str, most: usize) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.unreadable > 0 {
            let text = format!(
                "{} cannot be read, so what they name is unknown",
                count(self.unreadable, "item")
            );
            let remedy = format!("{program} device list shows which; {program} device remove removes one");
            findings.push(Finding::problem(PART, text, remedy));
        }
        let by_hand = |name: &String| format!("aws secretsmanager delete-secret --secret-id {name}");
        let unnamed = self.unnamed.iter().map(|name| {
            let text = format!("no device names the secret {name}");
            Finding::problem(PART, text, format!("--fix, or {}", by_hand(name)))
        });
        findings.extend(capped(PART, unnamed, most, "more secrets that no device names"));
        let predating = self.predating.iter().map(|name| {
            let text = format!("no device names the secret {name}, which is older than the stack");
            let remedy = "if an earlier stack left a table of devices that names it, keep it; otherwise";
            Finding::problem(PART, text, format!("{remedy} {}", by_hand(name)))
        });
        findings.extend(capped(
            PART,
            predating,
            most,
            "more secrets that are older than the stack",
        ));
        let broken = self.broken.iter().map(|device| device.finding(program, self.now));
        findings.extend(capped(PART, broken, most, "more devices without their secret"));
        let expired = self.expired.iter().map(|record| {
            let until = record.activate_by.map(Timestamp::rfc3339).unwrap_or_default();
            let text = format!("the device {} was not activated by {until}", name_of(&record.key));
            let options = options_for(&record.key);
            let remedy = format!("--fix, or {program} device remove {options}; {program} device activate still works");
            Finding::notice(PART, text).with_remedy(remedy)
        });
        findings.extend(capped(
            PART,
            expired,
            most,
            "more devices that were not activated in time",
        ));
        if self.young > 0 {
            let text = format!(
                "no device names {} of the last hour: a registration may be under way",
                count(self.young, "secret")
            );
            findings.push(Finding::notice(PART, text));
        }
        if self.foreign > 0 {
            let text = format!(
                "{} under the prefix without the name of a seed: left alone",
                count(self.foreign, "secret")
            );
            findings.push(Finding::notice(PART, text));
        }
        if findings.is_empty() {
            let (devices, seeds) = (count(self.devices, "device"), count(self.seeds, "secret"));
            let text = if self.census.has_sealed() {
                format!("{devices}, {seeds}: no secret is missing, and each has its device")
            } else {
                format!("{devices}, {seeds}: each device has its own, and each secret its device")
            };
            findings.push(Finding::ok(PART, text));
        }
        findings.extend(self.key_findings(program, most));
        findings
    }

    /// Which seeds are sealed, and devices whose seed no key of the ring opens.
    fn key_findings(&self, program: &str, most: usize) -> Vec<Finding> {
        let lacking = self.lacking.iter().map(|(device, key)| {
            let lacks = key.map_or("", |_| ", which the key ring lacks");
            let remedy = format!(
                "restore the key ring with that key (docs/operations.md, Sealed seeds); if it is lost, {program} device \
                 register {} --replace",
                options_for(device)
            );
            let text = format!("the seed of the device {} is sealed {}{lacks}", name_of(device), under(*key));
            Finding::problem(Part::Keys, text, remedy)
        });
        let mut findings = capped(Part::Keys, lacking, most, "more devices whose seed no key opens");
        if self.census.has_sealed() {
            let mut text = self.census.text(self.ring.as_ref());
            if self.ring.is_none() {
                text.push_str("; not checked whether they open, since the key ring cannot be read");
            }
            findings.push(Finding::notice(Part::Keys, text));
        }
        findings
    }

    /// Why nothing may be fixed, if so. `table` and `prefix` are where devices and secrets were read.
    pub(super) fn refusal(&self, table: &str, prefix: &str) -> Option<Finding> {
        let dead = self.broken.iter().filter(|device| device.is_dead(self.now)).count();
        let refuse = |why: String| Finding::problem(PART, format!("nothing was fixed: {why}"), "see above");
        if self.unreadable > 0 && !self.unnamed.is_empty() {
            return Some(refuse(format!(
                "{} cannot be read, and may name any of the secrets that look like orphans",
                count(self.unreadable, "item")
            )));
        }
        (self.complete == 0 && dead.max(self.unnamed.len()) > 1).then(|| {
            let none = format!("not one device of the table {table} has a secret under {prefix}");
            refuse(if self.census.has_sealed() {
                format!(
                    "{none} or a seed that the key ring opens: restore the key ring, or its right to be read, first, unless this is \
                     the wrong table or prefix"
                )
            } else {
                format!(
                    "{none}, so this is probably the wrong table or prefix, or an empty table that replaced another"
                )
            })
        })
    }
}

/// The first ones, and how many more there are.
fn capped(part: Part, all: impl ExactSizeIterator<Item = Finding>, most: usize, more: &str) -> Vec<Finding> {
    let number = all.len();
    let mut shown: Vec<Finding> = all.take(most).collect();
    if number > most {
        let text = format!("{} {more}", number - most);
        shown.push(if shown.iter().any(Finding::is_problem) {
            Finding::problem(part, text, "--json lists all")
        } else {
            Finding::notice(part, text).with_remedy("--json lists all")
        });
    }
    shown
}

pub(super) fn is_young(created_at: Timestamp, now: Timestamp) -> bool {
    created_at.plus(GRACE_PERIOD) > now
}

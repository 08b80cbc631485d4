//! Secrets that no device names, and devices whose secret is not there: what a command that was cut short, or a hand,
//! left behind.
//!
//! Secrets are listed before devices are read, and a secret is created before the device that names it: a secret that was
//! listed, is old enough, and is named by no device that was read after it, is named by none. A list of secrets may be
//! minutes old, so each device that seems to lack its secret is read again, and its secret asked for by name.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use shared::clock::Clock;
use shared::device::{Device, DeviceRecord, Status};
use shared::names::SeedRef;
use shared::ports::{DeviceRegistry, Of, Random, Removal, SeedListed, SeedRegistry, Written};

use super::{Doctor, Finding, Part};
use crate::clients::ClientRegistry;
use crate::commands::import::Pace;
use crate::commands::look::count;
use crate::commands::{Patience, confirmed, options_of, shown};
use crate::deployed::Inspector;
use crate::terminal::Terminal;

/// How old a secret is at least before nobody is about to name it: a registration names it in seconds.
pub(in crate::commands) const YOUNG: Duration = Duration::from_hours(1);

/// Where a device's secret is, if not where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// It was removed, and can be brought back.
    Removed,
    /// It is gone for good, or its version is.
    Gone,
}

/// A device that lacks its secret.
#[derive(Debug)]
struct Lacking {
    record: DeviceRecord,
    missing: Missing,
}

impl Lacking {
    fn name(&self) -> &str {
        self.record.device.seed_ref.name()
    }

    fn finding(&self) -> Finding {
        let key = &self.record.key;
        let (says, mend) = match self.missing {
            Missing::Removed => (
                format!("the secret of the device {} was removed by hand", shown(key)),
                format!(
                    "--fix, or aws secretsmanager restore-secret --secret-id {}",
                    self.name()
                ),
            ),
            Missing::Gone => {
                let anew = match self.record.device.status {
                    Status::Active => format!("mfactl device register {} --replace", options_of(key)),
                    Status::ActivationRequired => format!("mfactl device register {}", options_of(key)),
                    Status::Disabled => format!("mfactl device remove {}", options_of(key)),
                };
                (
                    format!("the secret of the device {} is gone: right codes get 503", shown(key)),
                    format!("{anew}, or --fix, which removes the device"),
                )
            }
        };
        Finding::problem(Part::Orphans, says, mend)
    }
}

/// What was found.
#[derive(Debug)]
pub(super) struct Orphans {
    devices: usize,
    /// Devices that have their secret.
    whole: usize,
    /// Items that could not be read: what they name is not known.
    unreadable: usize,
    seeds: usize,
    /// Seeds that nothing names, old enough.
    unnamed: Vec<String>,
    /// Seeds that nothing names yet.
    young: usize,
    lacking: Vec<Lacking>,
    /// Devices that work, and whose new seed is not there.
    pending: Vec<DeviceRecord>,
}

impl Orphans {
    /// Whether there is anything to mend.
    pub(super) fn are_there(&self) -> bool {
        !self.unnamed.is_empty() || !self.lacking.is_empty()
    }

    pub(super) fn findings(&self, most: usize) -> Vec<Finding> {
        const PART: Part = Part::Orphans;
        let mut findings = Vec::new();
        if self.unreadable > 0 {
            let says = format!(
                "{} cannot be read, so what they name is not known",
                count(self.unreadable, "item")
            );
            let mend = "mfactl device list says which; mfactl device remove gets rid of one";
            findings.push(Finding::problem(PART, says, mend));
        }
        let unnamed = self.unnamed.iter().map(|name| {
            let mend = format!("--fix, or aws secretsmanager delete-secret --secret-id {name}");
            Finding::problem(PART, format!("no device names the secret {name}"), mend)
        });
        findings.extend(capped(
            unnamed,
            self.unnamed.len(),
            most,
            "more secrets that no device names",
        ));
        let lacking = self.lacking.iter().map(Lacking::finding);
        findings.extend(capped(
            lacking,
            self.lacking.len(),
            most,
            "more devices that lack their secret",
        ));
        let pending = self.pending.iter().map(|record| {
            let says = format!(
                "the new seed of the device {} is not there; the old one works",
                shown(&record.key)
            );
            let mend = format!("mfactl device register {} --replace", options_of(&record.key));
            Finding::problem(PART, says, mend)
        });
        findings.extend(capped(
            pending,
            self.pending.len(),
            most,
            "more devices whose new seed is not there",
        ));
        if self.young > 0 {
            let says = format!(
                "no device names {} of the last hour: a registration may be under way",
                count(self.young, "secret")
            );
            findings.push(Finding::notice(PART, says));
        }
        if findings.is_empty() {
            let (devices, seeds) = (count(self.devices, "device"), count(self.seeds, "secret"));
            let says = format!("{devices}, {seeds}: each device has its own, and each secret its device");
            findings.push(Finding::well(PART, says));
        }
        findings
    }
}

/// The first ones, and how many there are besides.
fn capped(all: impl Iterator<Item = Finding>, number: usize, most: usize, besides: &str) -> Vec<Finding> {
    let mut shown: Vec<Finding> = all.take(most).collect();
    if number > most {
        let says = format!("{} {besides}", number - most);
        shown.push(Finding::problem(Part::Orphans, says, "--json lists all"));
    }
    shown
}

impl<I, P, D, S, C, R, T> Doctor<I, P, D, S, C, R, T>
where
    I: Inspector,
    P: ClientRegistry,
    D: DeviceRegistry,
    S: SeedRegistry,
    C: Clock,
    R: Random,
    T: Terminal,
{
    /// Compares all devices with all secrets.
    pub(super) async fn orphans(&mut self, page: u16) -> Result<Orphans> {
        self.desk
            .terminal
            .note("This reads the whole table of devices, and lists all secrets of the stack.")?;
        // First, and then the devices: see above.
        let listed = self.listed().await?;
        let now = self.now();
        let mut found = Orphans {
            devices: 0,
            whole: 0,
            unreadable: 0,
            seeds: listed.values().filter(|seed| !seed.removed).count(),
            unnamed: Vec::new(),
            young: 0,
            lacking: Vec::new(),
            pending: Vec::new(),
        };
        let (mut named, mut suspects) = (HashSet::new(), Vec::new());
        found.unreadable = self
            .every_device(page, |record| {
                found.devices += 1;
                let missing = |seed: &SeedRef| where_is(listed.get(seed.name()), seed).is_some();
                named.extend(record.seeds().map(|seed| seed.name().to_owned()));
                if record.seeds().any(missing) {
                    suspects.push(record);
                } else {
                    found.whole += 1;
                }
            })
            .await?;
        for suspect in suspects {
            self.confirm(suspect, &mut found, &mut named).await?;
        }
        for seed in listed.into_values() {
            if seed.removed || named.contains(&seed.name) {
                continue;
            }
            if seed.created_at.plus(YOUNG) > now {
                found.young += 1;
            } else {
                found.unnamed.push(seed.name);
            }
        }
        found.unnamed.sort();
        found.lacking.sort_by(|one, other| one.name().cmp(other.name()));
        Ok(found)
    }

    async fn listed(&self) -> Result<HashMap<String, SeedListed>> {
        // As `seed_name` makes them: another stack's prefix may begin with this one's.
        let prefix = format!("{}/seed/", self.desk.seed_prefix);
        let (mut all, mut after) = (HashMap::new(), None);
        loop {
            let page = self.desk.seeds.page(&prefix, after.as_deref()).await;
            let page = page.context("cannot list the secrets")?;
            all.extend(page.seeds.into_iter().map(|seed| (seed.name.clone(), seed)));
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Goes through all devices; says how many items could not be read.
    async fn every_device(&self, page: u16, mut each: impl FnMut(DeviceRecord)) -> Result<usize> {
        let (mut after, mut unreadable) = (None, 0);
        loop {
            let page = self.desk.devices.page(&Of::All, after.as_ref(), page).await;
            let page = page.context("cannot read the table of devices")?;
            for record in page.records {
                match record {
                    Ok(record) => each(record),
                    Err(_) => unreadable += 1,
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(unreadable);
            }
        }
    }

    /// Looks again at a device that seemed to lack a secret.
    async fn confirm(&self, suspect: DeviceRecord, found: &mut Orphans, named: &mut HashSet<String>) -> Result<()> {
        let record = self.desk.devices.record(&suspect.key).await;
        let record = record.with_context(|| format!("cannot read the device {}", shown(&suspect.key)))?;
        let Some(record) = record else {
            found.devices -= 1;
            return Ok(());
        };
        named.extend(record.seeds().map(|seed| seed.name().to_owned()));
        if let Some(missing) = self.ask_where(&record.device.seed_ref).await? {
            found.lacking.push(Lacking { record, missing });
            return Ok(());
        }
        if let Some(pending) = &record.pending
            && self.ask_where(&pending.seed_ref).await?.is_some()
        {
            found.pending.push(record);
        }
        found.whole += 1;
        Ok(())
    }

    async fn ask_where(&self, seed: &SeedRef) -> Result<Option<Missing>> {
        let described = self.desk.seeds.describe(seed.name()).await;
        let described = described.with_context(|| format!("cannot look at the secret {}", seed.name()))?;
        Ok(where_is(described.as_ref(), seed))
    }

    /// Mends what was found, and says what is left.
    pub(super) async fn mend(
        &mut self,
        mut orphans: Orphans,
        page: u16,
        patience: &impl Patience,
    ) -> Result<Vec<Finding>> {
        let (removed, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut orphans.lacking)
            .into_iter()
            .partition(|device| device.missing == Missing::Removed);
        if !orphans.unnamed.is_empty() && orphans.unreadable > 0 {
            bail!(
                "nothing was mended: {} cannot be read, and may name any of the secrets that look like orphans",
                count(orphans.unreadable, "item")
            );
        }
        if gone.len() > 1 && orphans.whole == 0 {
            bail!(
                "nothing was mended: not one of {} has its secret, so it is more likely that the wrong place is looked at \
                 (region, endpoint, prefix {})",
                count(orphans.devices, "device"),
                self.desk.seed_prefix
            );
        }
        let question = format!(
            "Remove {} that no device names (each can be brought back for 30 days), bring back {}, and remove {} whose secret \
             is gone?",
            count(orphans.unnamed.len(), "secret"),
            count(removed.len(), "secret"),
            count(gone.len(), "device")
        );
        confirmed(&mut self.desk.terminal, self.desk.yes, &question)?;
        let mut left = Vec::new();
        let mut pace = Pace::default();
        for device in &removed {
            pace.keep(&self.desk.clock, patience).await;
            match self.desk.seeds.restore(device.name()).await {
                Ok(()) => self.said(&format!(
                    "The device {} has its secret again.",
                    shown(&device.record.key)
                ))?,
                Err(error) => left.push(Finding::not_looked_at(Part::Orphans, &error)),
            }
        }
        for device in gone {
            left.extend(self.remove_lacking(&device.record).await?);
        }
        left.extend(self.remove_unnamed(orphans.unnamed, page, &mut pace, patience).await?);
        Ok(left)
    }

    async fn remove_lacking(&mut self, record: &DeviceRecord) -> Result<Option<Finding>> {
        let (key, held) = (&record.key, &record.device);
        // A new seed that waits for its first code makes the device whole.
        if let Some(pending) = &record.pending
            && pending.until > self.now()
            && self.ask_where(&pending.seed_ref).await?.is_none()
        {
            let says = format!("the device {} has a new seed that waits for its first code", shown(key));
            let mend = format!("mfactl device activate {}", options_of(key));
            return Ok(Some(Finding::problem(Part::Orphans, says, mend)));
        }
        Ok(match self.desk.devices.remove_held(key, held).await {
            Ok(Written::Yes | Written::No(None)) => {
                if let Some(pending) = &record.pending {
                    self.desk.discard(&pending.seed_ref, Removal::Recoverable).await?;
                }
                self.said(&format!("The device {} is removed.", shown(key)))?;
                None
            }
            Ok(Written::No(Some(stored))) => {
                let says = format!("the device {} was changed meanwhile, and is left as it is", shown(key));
                Some(changed_meanwhile(&stored, held, says))
            }
            Err(error) => Some(Finding::not_looked_at(Part::Orphans, &error)),
        })
    }

    /// A person may have thought for long about the question, so all devices are read again before.
    async fn remove_unnamed(
        &mut self,
        mut unnamed: Vec<String>,
        page: u16,
        pace: &mut Pace,
        patience: &impl Patience,
    ) -> Result<Vec<Finding>> {
        if unnamed.is_empty() {
            return Ok(Vec::new());
        }
        let mut named = HashSet::new();
        let unreadable = self
            .every_device(page, |record| {
                named.extend(record.seeds().map(|seed| seed.name().to_owned()))
            })
            .await?;
        if unreadable > 0 {
            bail!(
                "no secret was removed: {} cannot be read any more",
                count(unreadable, "item")
            );
        }
        unnamed.retain(|name| !named.contains(name));
        let (mut done, mut left) = (0, Vec::new());
        for name in unnamed {
            pace.keep(&self.desk.clock, patience).await;
            // Its version is not known, and does not matter here.
            let outcome = match SeedRef::new(&name, "unknown") {
                Ok(seed) => self
                    .desk
                    .seeds
                    .remove(&seed, Removal::Recoverable)
                    .await
                    .map_err(anyhow::Error::new),
                Err(error) => Err(anyhow::Error::new(error)),
            };
            match outcome {
                Ok(()) => done += 1,
                Err(error) => left.push(Finding::not_looked_at(Part::Orphans, error.as_ref())),
            }
        }
        self.said(&format!(
            "{} removed; for 30 days each can be restored.",
            count(done, "secret")
        ))?;
        Ok(left)
    }

    fn said(&mut self, text: &str) -> Result<()> {
        // What scripts read is one JSON value, and this comes after it.
        Ok(self.desk.terminal.note(text)?)
    }
}

fn changed_meanwhile(stored: &Device, held: &Device, says: String) -> Finding {
    if stored.seed_ref == held.seed_ref {
        Finding::problem(Part::Orphans, says, "run it again")
    } else {
        Finding::notice(Part::Orphans, says)
    }
}

/// Where a seed is, if it cannot be read. Of one that was removed, the versions may not be said.
fn where_is(listed: Option<&SeedListed>, seed: &SeedRef) -> Option<Missing> {
    let Some(listed) = listed else {
        return Some(Missing::Gone);
    };
    let has_version = listed.versions.iter().any(|version| version == seed.version());
    match (listed.removed, has_version) {
        (false, true) => None,
        (true, _) if has_version || listed.versions.is_empty() => Some(Missing::Removed),
        _ => Some(Missing::Gone),
    }
}

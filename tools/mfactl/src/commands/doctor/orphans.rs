//! Secrets that no device names, and devices whose secret is not there: what a command that was cut short, or a hand,
//! left behind.
//!
//! Secrets are listed before devices are read, and a secret is created before the device that names it: a secret that was
//! listed, is old enough, and is named by no device that was read after it, is named by none. What is listed or described
//! may be minutes old, so what seems to be missing is asked for by name, what is young is left alone, and before
//! anything is changed it is looked at once more. What `--fix` cannot be sure of, it leaves.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::clock::{Clock, Timestamp};
use shared::device::{DeviceRecord, Status};
use shared::names::SeedRef;
use shared::ports::{DeviceRegistry, Of, Removal, SeedListed, SeedRegistry, Written};

use super::{Doctor, Finding, Part, Stores};
use crate::clients::ClientRegistry;
use crate::commands::import::Pace;
use crate::commands::look::count;
use crate::commands::{Patience, confirmed, options_of, shown};
use crate::deployed::Inspector;
use crate::terminal::Terminal;

/// How old a secret or a device is at least before nobody is at work on it, and all of AWS knows of it.
pub(in crate::commands) const YOUNG: Duration = Duration::from_hours(1);
/// The random part of a seed's name, in hexadecimal digits.
const DIGITS: usize = 32;

/// Where a seed is, if not where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// It was removed, and can be brought back.
    Removed,
    /// There is a secret by its name, with other versions. This one may be readable still, and may go at any time.
    OtherVersion,
    /// Its name is not under the stack's prefix, and no function may read it.
    Elsewhere,
    /// There is none by its name.
    Gone,
}

/// A seed that a device names and that is not there.
#[derive(Debug)]
struct Lacking {
    record: DeviceRecord,
    seed: SeedRef,
    /// Whether it only waits for its first code; the device works without it.
    pending: bool,
    missing: Missing,
}

impl Lacking {
    fn restorable(&self) -> bool {
        self.missing == Missing::Removed
    }

    /// Whether nothing but the item is left. A disabled device is kept: somebody put it aside.
    fn dead(&self, now: Timestamp) -> bool {
        self.missing == Missing::Gone
            && !self.pending
            && self.record.device.status != Status::Disabled
            && !is_young(self.record.created_at, now)
    }

    fn finding(&self, program: &str, now: Timestamp) -> Finding {
        const PART: Part = Part::Orphans;
        let (key, name) = (&self.record.key, self.seed.name());
        let device = shown(key);
        let whose = if self.pending { "new secret" } else { "secret" };
        let options = options_of(key);
        let anew = match self.record.device.status {
            Status::Active => format!("{program} device register {options} --replace"),
            Status::ActivationRequired => format!("{program} device register {options}"),
            Status::Disabled => format!("{program} device remove {options}"),
        };
        match self.missing {
            Missing::Removed => Finding::problem(
                PART,
                format!("the {whose} of the device {device} was removed"),
                format!("--fix, or aws secretsmanager restore-secret --secret-id {name}"),
            ),
            Missing::OtherVersion => Finding::problem(
                PART,
                format!(
                    "the {whose} of the device {device} has other values: the device's own may be gone at any time"
                ),
                format!(
                    "aws secretsmanager update-secret-version-stage --secret-id {name} --version-stage device \
                     --move-to-version-id {}; if it is gone, {anew}",
                    self.seed.version()
                ),
            ),
            Missing::Elsewhere => Finding::problem(
                PART,
                format!("the device {device} names a secret of another stack, {name}, which no function may read"),
                anew,
            ),
            Missing::Gone if !self.pending && is_young(self.record.created_at, now) => Finding::notice(
                PART,
                format!(
                    "the secret of the device {device} cannot be seen yet, and the device is not an hour old: look again"
                ),
            ),
            Missing::Gone => {
                let effect = match (self.pending, self.record.device.status) {
                    (true, _) => "; the old one works",
                    (false, Status::Active) => ": right codes get 503",
                    (false, _) => "",
                };
                let or_fix = if self.dead(now) {
                    ", or --fix, which removes the device"
                } else {
                    ""
                };
                let says = format!("the {whose} of the device {device} is gone{effect}");
                Finding::problem(PART, says, format!("{anew}{or_fix}"))
            }
        }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    now: Timestamp,
    devices: usize,
    /// Devices that have their secret.
    whole: usize,
    /// Items that could not be read: what they name is not known.
    unreadable: usize,
    seeds: usize,
    /// Seeds that nothing names, old enough.
    unnamed: Vec<String>,
    /// The same, but older than the stack.
    earlier: Vec<String>,
    /// Seeds that nothing names yet.
    young: usize,
    /// Secrets under the prefix that this project did not make.
    foreign: usize,
    lacking: Vec<Lacking>,
}

impl Orphans {
    /// Whether there is anything that can be mended.
    pub(super) fn can_be_mended(&self) -> bool {
        let mut lacking = self.lacking.iter();
        !self.unnamed.is_empty() || lacking.any(|device| device.restorable() || device.dead(self.now))
    }

    pub(super) fn findings(&self, program: &str, most: usize) -> Vec<Finding> {
        const PART: Part = Part::Orphans;
        let mut findings = Vec::new();
        if self.unreadable > 0 {
            let says = format!(
                "{} cannot be read, so what they name is not known",
                count(self.unreadable, "item")
            );
            let mend = format!("{program} device list says which; {program} device remove gets rid of one");
            findings.push(Finding::problem(PART, says, mend));
        }
        let by_hand = |name: &String| format!("aws secretsmanager delete-secret --secret-id {name}");
        let unnamed = self.unnamed.iter().map(|name| {
            let says = format!("no device names the secret {name}");
            Finding::problem(PART, says, format!("--fix, or {}", by_hand(name)))
        });
        findings.extend(capped(
            unnamed,
            self.unnamed.len(),
            most,
            "more secrets that no device names",
        ));
        let earlier = self.earlier.iter().map(|name| {
            let says = format!("no device names the secret {name}, which is older than the stack");
            let mend =
                "is there a table of devices of an earlier stack by this name? Then its devices need it; if not, ";
            Finding::problem(PART, says, format!("{mend}{}", by_hand(name)))
        });
        findings.extend(capped(
            earlier,
            self.earlier.len(),
            most,
            "more secrets that are older than the stack",
        ));
        let lacking = self.lacking.iter().map(|device| device.finding(program, self.now));
        findings.extend(capped(
            lacking,
            self.lacking.len(),
            most,
            "more devices that lack their secret",
        ));
        if self.young > 0 {
            let says = format!(
                "no device names {} of the last hour: a registration may be under way",
                count(self.young, "secret")
            );
            findings.push(Finding::notice(PART, says));
        }
        if self.foreign > 0 {
            let says = format!(
                "{} under the prefix is no seed by its name, and is left alone",
                count(self.foreign, "secret")
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

    /// Why nothing may be mended, if so.
    fn refusal(&self, stores: &Stores<impl Sized, impl Sized>) -> Option<Finding> {
        let dead = self.lacking.iter().filter(|device| device.dead(self.now)).count();
        let refused = |why: String| Finding::problem(Part::Orphans, format!("nothing was mended: {why}"), "see above");
        if self.unreadable > 0 && !self.unnamed.is_empty() {
            return Some(refused(format!(
                "{} cannot be read, and may name any of the secrets that look like orphans",
                count(self.unreadable, "item")
            )));
        }
        (self.whole == 0 && dead.max(self.unnamed.len()) > 1).then(|| {
            refused(format!(
                "not one device of the table {} has a secret under {}, so it is more likely that the wrong place is looked at, or \
                 an empty table that took the place of another",
                stores.table, stores.prefix
            ))
        })
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

fn is_young(created_at: Timestamp, now: Timestamp) -> bool {
    created_at.plus(YOUNG) > now
}

/// Where a seed is, if not where it should be. Of one that was removed, the versions may not be said.
fn where_is(listed: Option<&SeedListed>, seed: &SeedRef) -> Option<Missing> {
    let Some(listed) = listed else {
        return Some(Missing::Gone);
    };
    let versions = &listed.versions;
    let has_version = versions.iter().any(|version| version == seed.version());
    match listed.removed {
        true if has_version || versions.is_empty() => Some(Missing::Removed),
        false if has_version => None,
        _ => Some(Missing::OtherVersion),
    }
}

impl<D: DeviceRegistry, S: SeedRegistry> Stores<D, S> {
    async fn listed(&self) -> Result<HashMap<String, SeedListed>> {
        let (mut all, mut after) = (HashMap::new(), None);
        loop {
            let page = self.seeds.page(&self.prefix, after.as_deref()).await;
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
            let page = self.devices.page(&Of::All, after.as_ref(), page).await;
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

    async fn ask_where(&self, seed: &SeedRef) -> Result<Option<Missing>> {
        if !seed.name().starts_with(&self.prefix) {
            return Ok(Some(Missing::Elsewhere));
        }
        let described = self.seeds.describe(seed.name()).await;
        let described = described.with_context(|| format!("cannot look at the secret {}", seed.name()))?;
        Ok(where_is(described.as_ref(), seed))
    }

    async fn record(&self, of: &DeviceRecord) -> Result<Option<DeviceRecord>> {
        let record = self.devices.record(&of.key).await;
        record.with_context(|| format!("cannot read the device {}", shown(&of.key)))
    }

    /// Looks again at a device that seemed to lack a secret.
    async fn confirm(&self, suspect: &DeviceRecord, found: &mut Orphans, named: &mut HashSet<String>) -> Result<()> {
        let Some(record) = self.record(suspect).await? else {
            found.devices -= 1;
            return Ok(());
        };
        named.extend(record.seeds().map(|seed| seed.name().to_owned()));
        let own = self.ask_where(&record.device.seed_ref).await?;
        // A new seed whose time is over is of no use any more, wherever it is.
        let waiting = record.pending.as_ref().filter(|pending| pending.until > found.now);
        let waiting = waiting.map(|pending| pending.seed_ref.clone());
        let of_waiting = match &waiting {
            Some(seed) => self.ask_where(seed).await?,
            None => None,
        };
        if own.is_none() {
            found.whole += 1;
        }
        let lacking = |seed: SeedRef, pending: bool, missing: Missing| Lacking {
            record: record.clone(),
            seed,
            pending,
            missing,
        };
        found
            .lacking
            .extend(own.map(|missing| lacking(record.device.seed_ref.clone(), false, missing)));
        let of_waiting = waiting.zip(of_waiting);
        found
            .lacking
            .extend(of_waiting.map(|(seed, missing)| lacking(seed, true, missing)));
        Ok(())
    }

    /// Brings a secret back, if its device still names it. Says whether it did.
    async fn restore(&self, device: &Lacking) -> Result<bool> {
        let record = self.record(&device.record).await?;
        if !record.is_some_and(|record| record.seeds().any(|seed| *seed == device.seed)) {
            return Ok(false);
        }
        self.seeds.restore(device.seed.name()).await?;
        Ok(true)
    }

    /// Removes a device whose secret is gone, if that is still so; a new seed that waits for its first code makes it whole.
    async fn remove_dead(&self, device: &Lacking, now: Timestamp) -> Result<Removed> {
        let Some(record) = self.record(&device.record).await? else {
            return Ok(Removed::Yes);
        };
        if record.device.seed_ref != device.seed || self.ask_where(&device.seed).await? != Some(Missing::Gone) {
            return Ok(Removed::NotNeeded);
        }
        if let Some(pending) = record.pending.as_ref().filter(|pending| pending.until > now)
            && self.ask_where(&pending.seed_ref).await?.is_none()
        {
            return Ok(Removed::Waits);
        }
        match self.devices.remove_held(&record.key, &record.device).await? {
            Written::Yes | Written::No(None) => Ok(Removed::Yes),
            Written::No(Some(stored)) if stored.seed_ref != device.seed => Ok(Removed::NotNeeded),
            Written::No(Some(_)) => Ok(Removed::WrittenMeanwhile),
        }
    }
}

/// What became of a device that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removed {
    Yes,
    /// It has its secret, or another one.
    NotNeeded,
    Waits,
    WrittenMeanwhile,
}

impl<I, P, D, S, C, T> Doctor<I, P, D, S, C, T>
where
    I: Inspector,
    P: ClientRegistry,
    D: DeviceRegistry,
    S: SeedRegistry,
    C: Clock,
    T: Terminal,
{
    /// Compares all devices with all secrets.
    pub(super) async fn orphans(&mut self, stores: &Stores<D, S>, page: u16) -> Result<Orphans> {
        self.terminal
            .note("This reads the whole table of devices, and lists all secrets of the stack.")?;
        // First, and then the devices: see above.
        let listed = stores.listed().await?;
        let mut found = Orphans {
            now: self.now(),
            seeds: listed.values().filter(|seed| !seed.removed).count(),
            ..Orphans::default()
        };
        let (mut named, mut suspects) = (HashSet::new(), Vec::new());
        found.unreadable = stores
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
            stores.confirm(&suspect, &mut found, &mut named).await?;
        }
        for seed in listed.into_values() {
            let random = seed.name.strip_prefix(&stores.prefix).unwrap_or_default();
            let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if seed.removed || named.contains(&seed.name) {
                continue;
            }
            if random.len() != DIGITS || !random.bytes().all(is_digit) {
                found.foreign += 1;
            } else if is_young(seed.created_at, found.now) {
                found.young += 1;
            } else if self.stack.created_at.is_some_and(|created| seed.created_at < created) {
                found.earlier.push(seed.name);
            } else {
                found.unnamed.push(seed.name);
            }
        }
        found.unnamed.sort();
        found.earlier.sort();
        found
            .lacking
            .sort_by(|one, other| one.seed.name().cmp(other.seed.name()));
        Ok(found)
    }

    /// Mends what can be mended, and says what is left.
    pub(super) async fn mend(
        &mut self,
        stores: &Stores<D, S>,
        mut orphans: Orphans,
        page: u16,
        patience: &impl Patience,
    ) -> Result<Vec<Finding>> {
        let (program, now) = (self.program.clone(), orphans.now);
        let left = |orphans: &Orphans| orphans.findings(&program, usize::MAX);
        if let Some(refusal) = self.is_not_settled().or_else(|| orphans.refusal(stores)) {
            return Ok(left(&orphans).into_iter().chain([refusal]).collect());
        }
        self.ask(stores, &orphans)?;
        let mut failed = Vec::new();
        let mut rhythm = Pace::default();
        let mut kept = Vec::new();
        for device in std::mem::take(&mut orphans.lacking) {
            let name = shown(&device.record.key);
            if device.restorable() {
                rhythm.keep(&self.clock, patience).await;
                match stores.restore(&device).await {
                    Ok(true) => {
                        orphans.seeds += 1;
                        self.terminal
                            .note(&format!("The device {name} has its secret again."))?;
                    }
                    Ok(false) => self
                        .terminal
                        .note(&format!("The device {name} needs that secret no more."))?,
                    Err(error) => {
                        failed.push(Finding::not_mended(&error));
                        kept.push(device);
                    }
                }
            } else if device.dead(now) {
                match stores.remove_dead(&device, now).await {
                    Ok(Removed::Yes) => {
                        orphans.devices -= 1;
                        self.terminal.note(&format!("The device {name} is removed."))?;
                    }
                    Ok(Removed::NotNeeded) => self.terminal.note(&format!("The device {name} has its secret."))?,
                    Ok(Removed::Waits) => {
                        let says = format!("the device {name} has a new seed that waits for its first code");
                        let mend = format!("{program} device activate {}", options_of(&device.record.key));
                        failed.push(Finding::problem(Part::Orphans, says, mend));
                    }
                    Ok(Removed::WrittenMeanwhile) => kept.push(device),
                    Err(error) => {
                        failed.push(Finding::not_mended(&error));
                        kept.push(device);
                    }
                }
            } else {
                kept.push(device);
            }
        }
        orphans.lacking = kept;
        let unnamed = std::mem::take(&mut orphans.unnamed);
        let before = unnamed.len();
        orphans.unnamed = self
            .remove_unnamed(stores, unnamed, page, &mut rhythm, patience, &mut failed)
            .await?;
        orphans.seeds -= before - orphans.unnamed.len();
        Ok(left(&orphans).into_iter().chain(failed).collect())
    }

    /// A stack that is being changed or deleted is left alone.
    fn is_not_settled(&self) -> Option<Finding> {
        let settled = [
            "CREATE_COMPLETE",
            "UPDATE_COMPLETE",
            "IMPORT_COMPLETE",
            "UPDATE_ROLLBACK_COMPLETE",
        ];
        let status = self.stack.status.as_str();
        (!settled.contains(&status)).then(|| {
            let says = format!("nothing was mended: the stack is in the state {status}");
            Finding::problem(Part::Orphans, says, "see above, and mend the stack first")
        })
    }

    /// Asks, once, about all that is about to be done.
    fn ask(&mut self, stores: &Stores<D, S>, orphans: &Orphans) -> Result<()> {
        let dead: Vec<&Lacking> = orphans
            .lacking
            .iter()
            .filter(|device| device.dead(orphans.now))
            .collect();
        for device in &dead {
            let text = format!("To be removed: the device {}.", shown(&device.record.key));
            self.terminal.note(&text)?;
        }
        let restorable = orphans.lacking.iter().filter(|device| device.restorable()).count();
        let mut parts = Vec::new();
        if restorable > 0 {
            parts.push(format!("bring back {}", count(restorable, "secret")));
        }
        if !orphans.unnamed.is_empty() {
            let secrets = count(orphans.unnamed.len(), "secret");
            parts.push(format!(
                "remove {secrets} that no device names (each can be restored for 30 days)"
            ));
        }
        if !dead.is_empty() {
            let devices = count(dead.len(), "device");
            parts.push(format!("remove {devices} whose secret is gone, which cannot be undone"));
        }
        let question = format!(
            "Stack {}, table {}: {}?",
            self.stack.name,
            stores.table,
            parts.join("; ")
        );
        confirmed(&mut self.terminal, self.yes, &question)
    }

    /// A person may have thought for long about the question, so all devices are read again before. Gives back what is left.
    async fn remove_unnamed(
        &mut self,
        stores: &Stores<D, S>,
        mut unnamed: Vec<String>,
        page: u16,
        rhythm: &mut Pace,
        patience: &impl Patience,
        failed: &mut Vec<Finding>,
    ) -> Result<Vec<String>> {
        if unnamed.is_empty() {
            return Ok(unnamed);
        }
        let mut named = HashSet::new();
        let unreadable = stores
            .every_device(page, |record| {
                named.extend(record.seeds().map(|seed| seed.name().to_owned()));
            })
            .await?;
        if unreadable > 0 {
            let says = format!(
                "no secret was removed: {} cannot be read any more",
                count(unreadable, "item")
            );
            failed.push(Finding::problem(
                Part::Orphans,
                says,
                "run it again, and see what it says of them",
            ));
            return Ok(unnamed);
        }
        unnamed.retain(|name| !named.contains(name));
        let (mut done, mut left) = (0, Vec::new());
        for name in unnamed {
            rhythm.keep(&self.clock, patience).await;
            // Its version is not known, and does not matter here.
            let outcome = match SeedRef::new(&name, "unknown") {
                Ok(seed) => {
                    let removed = stores.seeds.remove(&seed, Removal::Recoverable).await;
                    removed.map_err(anyhow::Error::new)
                }
                Err(error) => Err(anyhow::Error::new(error)),
            };
            match outcome {
                Ok(()) => done += 1,
                Err(error) => {
                    failed.push(Finding::not_mended(&error));
                    left.push(name);
                }
            }
        }
        self.terminal.note(&format!(
            "{} removed; for 30 days each can be restored.",
            count(done, "secret")
        ))?;
        Ok(left)
    }
}

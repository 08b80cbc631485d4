//! `register` and `activate`: a new seed for a new device, or for one that is to be replaced, and the first code of it.
//!
//! A seed is in use from its first good code on, and that code goes through the same counted decision as a sign-in.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use shared::clock::{Clock, Timestamp};
use shared::device::{Attempt, Device, DeviceRecord, NewSeed, PendingSeed, Refusal, Status, Verdict};
use shared::names::{AuthId, DeviceKey, SeedRef, WriteId};
use shared::otp::{Algorithm, Digits, Offer, OtpCode, OtpParameters, Period, Seed, Step};
use shared::policy::Policy;
use shared::ports::{DeviceRegistry, Random, Removal, SeedRegistry, Written};
use shared::settlement::{Settlement, Unsettled, settle};
use shared::telemetry::rfc3339;

use super::{Desk, existing, files, options_of, shown};
use crate::otpauth::{self, Issuer};
use crate::qr::Qr;
use crate::terminal::Terminal;

/// How far a phone's clock may be off to be recognised: every time zone.
const FARTHEST: Duration = Duration::from_hours(14);
/// How long an authId of an activation lives; it is never stored.
const AUTH_LIFE: Duration = Duration::from_mins(5);
/// Lines that are read before the command gives up, those that are no codes included.
const MOST_LINES: u8 = 12;

/// What is registered.
#[derive(Debug)]
pub struct Registering {
    /// Which device.
    pub key: DeviceKey,
    /// Who the app says that it is from.
    pub issuer: Issuer,
    /// How codes are made.
    pub parameters: OtpParameters,
    /// Whether the seed of an active device is replaced.
    pub replace: bool,
    /// How long a replacement waits for its first code.
    pub pending_for: Duration,
    /// Whether the first code is asked for.
    pub activate: bool,
    /// Where the QR code goes as PNG.
    pub png: Option<PathBuf>,
    /// Where the QR code goes as SVG.
    pub svg: Option<PathBuf>,
}

impl<D: DeviceRegistry, S: SeedRegistry, C: Clock, R: Random, T: Terminal> Desk<D, S, C, R, T> {
    /// Registers a device, or a new seed for it.
    ///
    /// # Errors
    /// With what to do about it. What the command has written by then is finished or replaced by the next one.
    pub async fn register(&mut self, what: &Registering) -> Result<()> {
        for path in [&what.png, &what.svg].into_iter().flatten() {
            if !self.yes {
                existing(path)?;
            }
        }
        let found = self.record(&what.key).await?;
        if let Some(record) = &found {
            may_register(record, what)?;
        }
        for warning in warnings(what.parameters) {
            self.terminal.note(warning)?;
        }
        let seed = self.new_seed(what.parameters)?;
        // Before anything is stored: a URI that does not say what it should would be of no use to anyone.
        let uri = otpauth::build(&what.issuer, &what.key.user, &what.key.device, &seed)?;
        let seed_ref = match found {
            None => self
                .store_new(&what.key, &seed, Status::ActivationRequired)
                .await?
                .ok_or_else(|| anyhow!("somebody registered the device {} meanwhile", shown(&what.key)))?,
            Some(record) => self.store_over(&record, &seed, what).await?,
        };
        self.show(what, &uri)?;
        if what.activate {
            let new = NewSeed {
                seed_ref,
                parameters: what.parameters,
            };
            self.activate_with(&what.key, new, &seed).await
        } else {
            self.terminal.note(&format!(
                "It is not in use until `mfactl device activate {}` has seen its first code.",
                options_of(&what.key)
            ))?;
            Ok(())
        }
    }

    /// A new seed for a device that is there: pending for an active one; in the place of the old one for a device that
    /// was never in use.
    async fn store_over(&mut self, record: &DeviceRecord, seed: &Seed, what: &Registering) -> Result<SeedRef> {
        let (key, held) = (&record.key, &record.device);
        let seed_ref = self.create_seed(seed).await?;
        let pending = PendingSeed {
            seed_ref: seed_ref.clone(),
            until: self.clock.now().plus(what.pending_for),
        };
        let changed_meanwhile = || anyhow!("the device {} was changed meanwhile: run it again", shown(key));
        let offered = match self.devices.offer_seed(key, held, &pending).await {
            Ok(Written::Yes) => Ok(()),
            Ok(Written::No(_)) => {
                self.discard(&seed_ref, Removal::AtOnce).await?;
                Err(changed_meanwhile())
            }
            Err(_) if self.names_or_discard(key, Some(held), &seed_ref).await? => Ok(()),
            Err(error) => Err(anyhow!(error).context(format!("cannot write the device {}", shown(key)))),
        };
        offered?;
        // The seed that was pending before was never in use, and the device does not name it any more.
        if let Some(former) = &record.pending {
            self.discard(&former.seed_ref, Removal::AtOnce).await?;
        }
        if held.status == Status::ActivationRequired {
            let held = Device {
                version: held.version.saturating_add(1),
                ..held.clone()
            };
            let new = Device {
                version: held.version.saturating_add(1),
                seed_ref: seed_ref.clone(),
                parameters: what.parameters,
                ..held.clone()
            };
            match self.devices.replace(key, &held, &new, None).await {
                Ok(Written::Yes) => {}
                Ok(Written::No(Some(stored))) if *stored == new => {}
                Ok(Written::No(_)) => return Err(changed_meanwhile()),
                Err(error) => {
                    let record = self.devices.record(key).await.ok().flatten();
                    if record.is_none_or(|record| record.device.seed_ref != seed_ref) {
                        let what = format!("cannot write the device {}: run it again", shown(key));
                        return Err(anyhow!(error).context(what));
                    }
                }
            }
            self.discard(&held.seed_ref, Removal::AtOnce).await?;
        }
        Ok(seed_ref)
    }

    /// Shows the seed, the only time.
    fn show(&mut self, what: &Registering, uri: &str) -> Result<()> {
        let qr = match Qr::of(uri) {
            Ok(qr) => Some(qr),
            Err(error) => {
                self.terminal
                    .note(&format!("No QR code: {error}. Enter the URI by hand."))?;
                None
            }
        };
        self.terminal
            .note("Scan this with the authenticator app. It is the secret of the device, and shown only now.")?;
        if let Some(qr) = &qr {
            self.terminal.say(&qr.lines(self.terminal.has_colours()))?;
        }
        self.terminal.say(uri)?;
        if let Some(qr) = &qr {
            if let Some(path) = &what.png {
                files::write(path, &qr.png()?, self.yes)?;
            }
            if let Some(path) = &what.svg {
                files::write(path, qr.svg().as_bytes(), self.yes)?;
            }
        }
        Ok(())
    }

    /// Asks for the first code of a device that waits for it.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn activate(&mut self, key: &DeviceKey) -> Result<()> {
        let DeviceRecord { device, pending, .. } = self.existing(key).await?;
        let seed_ref = match (device.status, pending) {
            (Status::Disabled, _) => return Err(disabled(key)),
            (Status::ActivationRequired, _) => device.seed_ref,
            (Status::Active, None) => {
                self.terminal
                    .say(&format!("The device {} is active already.", shown(key)))?;
                return Ok(());
            }
            (Status::Active, Some(pending)) if pending.until <= self.clock.now() => {
                return Err(too_late(key, pending.until));
            }
            (Status::Active, Some(pending)) => pending.seed_ref,
        };
        let seed = self.seeds.read(&seed_ref).await.context("cannot read the seed")?;
        let seed = seed.ok_or_else(|| {
            anyhow!(
                "the secret {} is not there: register the device again, which replaces it",
                seed_ref.name()
            )
        })?;
        let parameters = seed.parameters();
        self.activate_with(key, NewSeed { seed_ref, parameters }, &seed).await
    }

    pub(super) async fn activate_with(&mut self, key: &DeviceKey, new: NewSeed, seed: &Seed) -> Result<()> {
        let unfinished = || format!("not activated: `mfactl device activate {}` goes on", options_of(key));
        let exhausted = || {
            let wrong = Policy::OWN_ATTEMPTS;
            format!(
                "{wrong} wrong codes: is the right entry of the app shown? {}",
                unfinished()
            )
        };
        let auth_id = AuthId::from_random_bytes(self.random.sixteen_bytes()?);
        let mut two_codes = false;
        for _ in 0..MOST_LINES {
            let Some(offer) = self.offer(two_codes)? else {
                bail!("no code was entered, so the device is {}", unfinished());
            };
            let Ok(offer) = offer else {
                self.terminal.note("A code has 6 or 8 digits.")?;
                continue;
            };
            let record = self.existing(key).await?;
            let now = self.clock.now();
            is_still_offered(&record, &new.seed_ref, now)?;
            let attempt = Attempt {
                auth_id,
                expires_at: now.plus(AUTH_LIFE),
                write_id: WriteId::from_bytes(self.random.sixteen_bytes()?),
                matches: seed.matches(&offer, now),
            };
            let former = record.device.seed_ref.clone();
            let begun = Settlement::begin_activation(record.device, new.clone(), attempt, now, &self.policy);
            match settle(&self.devices, key, begun, &self.policy).await {
                Ok((Verdict::Accepted, _)) => return self.activated(key, &former, &new).await,
                Ok((verdict, device)) => {
                    self.wrong(verdict, seed, &offer, now)?;
                    if device.attempts_left(auth_id) == 0 {
                        bail!(exhausted());
                    }
                    two_codes = !device.single_codes_open(now, &self.policy);
                }
                Err(Unsettled::Refused(Refusal::TwoCodesRequired { .. })) => two_codes = true,
                Err(Unsettled::Refused(Refusal::TooManyPairs { pairs_at })) => bail!(
                    "too many wrong pairs of codes: wait {} s; {}",
                    pairs_at.seconds_from(now),
                    unfinished()
                ),
                Err(Unsettled::Refused(Refusal::Exhausted)) => bail!(exhausted()),
                Err(Unsettled::Refused(Refusal::Disabled)) => return Err(disabled(key)),
                Err(Unsettled::Gone) => bail!("the device {} was removed meanwhile", shown(key)),
                Err(Unsettled::Store(error)) => {
                    // The write may have taken effect nevertheless: the device says so.
                    let record = self.devices.record(key).await.ok().flatten();
                    let active = record.is_some_and(|record| {
                        record.device.status == Status::Active && record.device.seed_ref == new.seed_ref
                    });
                    if active {
                        return self.activated(key, &former, &new).await;
                    }
                    return Err(anyhow!(error).context(unfinished()));
                }
                Err(
                    unsettled @ (Unsettled::Superseded
                    | Unsettled::Contention
                    | Unsettled::Refused(Refusal::Expired | Refusal::AlreadyUsed | Refusal::NotActive)),
                ) => return Err(anyhow!(unsettled).context(unfinished())),
            }
        }
        bail!("{}", unfinished())
    }

    async fn activated(&mut self, key: &DeviceKey, former: &SeedRef, new: &NewSeed) -> Result<()> {
        self.terminal.say(&format!(
            "The device {} is active. That code is used; the next one signs in.",
            shown(key)
        ))?;
        if *former != new.seed_ref {
            self.discard(former, Removal::Recoverable).await?;
        }
        Ok(())
    }

    /// What was typed: one code, or two in a row. `None` if there is nobody, or nothing was typed.
    fn offer(&mut self, two_codes: bool) -> Result<Option<Result<Offer, shared::otp::NotACode>>> {
        if two_codes {
            self.terminal
                .note("Two codes in a row are needed now: the one that is shown, and the one after it.")?;
        }
        let first = if two_codes {
            "First code:"
        } else {
            "Code that the app shows:"
        };
        let Some(first) = self.terminal.ask(first)?.filter(|line| !line.trim().is_empty()) else {
            return Ok(None);
        };
        let first = OtpCode::parse(first.trim());
        if !two_codes {
            return Ok(Some(first.map(Offer::Single)));
        }
        let Some(second) = self
            .terminal
            .ask("The code after it:")?
            .filter(|line| !line.trim().is_empty())
        else {
            return Ok(None);
        };
        let second = OtpCode::parse(second.trim());
        Ok(Some(first.and_then(|first| Ok(Offer::Pair(first, second?)))))
    }

    fn wrong(&mut self, verdict: Verdict, seed: &Seed, offer: &Offer, now: Timestamp) -> Result<()> {
        let text = match (verdict, clock_off_by(seed, offer, now)) {
            (Verdict::Replayed, _) => "That code was used already. Wait for the next one.".to_owned(),
            (_, Some(off)) => format!(
                "That code was wrong now, and right {off}: the phone's clock is off by that much. Switch on automatic date \
                 and time there (in Google Authenticator: Settings, Time correction), and enter a new code."
            ),
            _ => "That code is wrong. Wait for the next one.".to_owned(),
        };
        Ok(self.terminal.note(&text)?)
    }
}

fn may_register(record: &DeviceRecord, what: &Registering) -> Result<()> {
    match record.device.status {
        Status::ActivationRequired => Ok(()),
        Status::Active if what.replace => Ok(()),
        Status::Active => bail!(
            "the device {} is active already: --replace gives it a new seed, and the old one works until the first good code",
            shown(&record.key)
        ),
        Status::Disabled => Err(disabled(&record.key)),
    }
}

fn disabled(key: &DeviceKey) -> anyhow::Error {
    anyhow!("the device {} is disabled: enable it first, or remove it", shown(key))
}

fn too_late(key: &DeviceKey, until: Timestamp) -> anyhow::Error {
    anyhow!(
        "the new seed of the device {} waited for its first code until {}: register it with --replace again",
        shown(key),
        rfc3339(until)
    )
}

/// Whether the device still waits for the first code of a seed.
fn is_still_offered(record: &DeviceRecord, seed: &SeedRef, now: Timestamp) -> Result<()> {
    if record.device.seed_ref == *seed {
        return match record.device.status {
            Status::Active => bail!("the device {} was activated meanwhile", shown(&record.key)),
            Status::ActivationRequired | Status::Disabled => Ok(()),
        };
    }
    match record.pending.as_ref().filter(|pending| pending.seed_ref == *seed) {
        Some(pending) if pending.until > now => Ok(()),
        Some(pending) => Err(too_late(&record.key, pending.until)),
        None => bail!(
            "another registration of the device {} replaced this one",
            shown(&record.key)
        ),
    }
}

/// Which apps ignore what is not the default.
fn warnings(parameters: OtpParameters) -> impl Iterator<Item = &'static str> {
    let OtpParameters {
        algorithm,
        digits,
        period,
    } = parameters;
    [
        (algorithm != Algorithm::Sha1).then_some(
            "Warning: some apps ignore the algorithm and make SHA-1 codes, which never work: Microsoft Authenticator, \
             older versions of Google Authenticator. The first code shows whether the user's app is one.",
        ),
        (digits != Digits::Six).then_some(
            "Warning: some apps ignore the digits and show 6, which never work: Microsoft Authenticator, older versions \
             of Google Authenticator. The first code shows whether the user's app is one.",
        ),
        (period != Period::Thirty).then_some(
            "Warning: some apps ignore the period and change codes every 30 seconds, which never work: Google \
             Authenticator, Microsoft Authenticator. The first code shows whether the user's app is one.",
        ),
    ]
    .into_iter()
    .flatten()
}

/// When a wrong single code was or will be right, from now: the nearest time at which it is.
fn clock_off_by(seed: &Seed, offer: &Offer, now: Timestamp) -> Option<String> {
    let Offer::Single(code) = offer else { return None };
    let period = seed.parameters().period;
    let step = Step::at(now, period).0;
    let farthest = FARTHEST.as_secs() / period.seconds();
    let is_right = |step: u64| seed.code(Step(step)).reveal() == code.reveal();
    (2..=farthest).find_map(|distance| {
        let ago = step.checked_sub(distance).is_some_and(&is_right);
        let ahead = is_right(step + distance);
        let minutes = (distance * period.seconds()).div_ceil(60);
        let time = match (minutes / 60, minutes % 60) {
            (0, minutes) => format!("{minutes} min"),
            (hours, minutes) => format!("{hours} h {minutes} min"),
        };
        match (ago, ahead) {
            (true, _) => Some(format!("{time} ago")),
            (_, true) => Some(format!("in {time}")),
            _ => None,
        }
    })
}

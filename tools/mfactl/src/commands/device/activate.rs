//! `activate`: the first code of a new seed.
//!
//! A seed is in use from its first correct code on, and that code goes through the same counted decision as one of an
//! authentication.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use shared::clock::{Clock, Timestamp};
use shared::device::{Attempt, DeviceRecord, NewSeed, Refusal, Status, Verdict};
use shared::names::{AuthId, DeviceKey, SeedRef, WriteId};
use shared::otp::{NotACode, Offer, OtpCode, Seed, Step};
use shared::policy::Policy;
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;
use shared::settlement::{Settlement, Unsettled, settle};

use super::admin::{DeviceAdmin, Removal, disabled};
use crate::commands::text::{name_of, options_for};
use crate::terminal::Terminal;

/// How far a phone's clock may be off to be recognised: every time zone.
const MOST_CLOCK_ERROR: Duration = Duration::from_hours(14);
/// How long an authId of an activation lives; it is never stored.
pub(super) const AUTH_LIFE: Duration = Duration::from_mins(5);
/// Lines that are read before the command gives up, including those that are not codes.
const MOST_LINES: u8 = 12;

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Asks for the first code of a seed that waits for it.
    ///
    /// # Errors
    /// With what to do about it.
    pub async fn activate(&mut self, key: &DeviceKey) -> Result<()> {
        let DeviceRecord { device, pending, .. } = self.require(key).await?;
        let seed_ref = match (device.status, pending) {
            (Status::Disabled, _) => return Err(disabled(key)),
            (Status::ActivationRequired, _) => device.seed_ref,
            (Status::Active, None) => {
                self.terminal
                    .say(&format!("The device {} is already active.", name_of(key)))?;
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
                "the secret {} does not exist: register the device again, which replaces it",
                seed_ref.name()
            )
        })?;
        let parameters = seed.parameters();
        self.activate_with(key, NewSeed { seed_ref, parameters }, &seed).await
    }

    pub(super) async fn activate_with(&mut self, key: &DeviceKey, new: NewSeed, seed: &Seed) -> Result<()> {
        let unfinished = || {
            format!(
                "not activated: continue with `mfactl device activate {}`",
                options_for(key)
            )
        };
        let exhausted = || {
            let wrong = Policy::OWN_ATTEMPTS;
            format!(
                "{wrong} wrong codes: does the app show the right entry? {}",
                unfinished()
            )
        };
        let auth_id = AuthId::from_random_bytes(self.random.sixteen_bytes()?);
        let mut two_codes = false;
        for _ in 0..MOST_LINES {
            let Some(offer) = self.read_codes(two_codes)? else {
                bail!("no code was entered: {}", unfinished());
            };
            let Ok(offer) = offer else {
                self.terminal.note("A code has 6 or 8 digits.")?;
                continue;
            };
            let record = self.require(key).await?;
            let now = self.clock.now();
            require_offered(&record, &new.seed_ref, now)?;
            let attempt = Attempt {
                auth_id,
                expires_at: now.plus(AUTH_LIFE),
                write_id: WriteId::from_bytes(self.random.sixteen_bytes()?),
                matches: seed.matches(&offer, now),
            };
            let former = record.device.seed_ref.clone();
            let begun = Settlement::begin_activation(record.device, new.clone(), attempt, now, &self.policy);
            match settle(&self.devices, key, begun, &self.policy).await {
                Ok((Verdict::Accepted, _)) => return self.finish_activation(key, &former, &new).await,
                Ok((verdict, device)) => {
                    self.explain(verdict, seed, &offer, now)?;
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
                Err(Unsettled::AlreadyActive) => return self.finish_activation(key, &former, &new).await,
                Err(Unsettled::Gone) => bail!("the device {} was removed concurrently", name_of(key)),
                Err(Unsettled::Store(error)) => {
                    // The write may have taken effect anyway.
                    let record = self.devices.record(key).await.ok().flatten();
                    let active = record.is_some_and(|record| {
                        record.device.status == Status::Active && record.device.seed_ref == new.seed_ref
                    });
                    if active {
                        return self.finish_activation(key, &former, &new).await;
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

    async fn finish_activation(&mut self, key: &DeviceKey, former: &SeedRef, new: &NewSeed) -> Result<()> {
        self.terminal.say(&format!(
            "The device {} is active. That code is used up; authenticate with the next one.",
            name_of(key)
        ))?;
        if *former != new.seed_ref {
            self.discard(former, Removal::Recoverable).await?;
        }
        Ok(())
    }

    /// Asks for one code, or for two in a row. `None` if nothing was entered.
    fn read_codes(&mut self, two_codes: bool) -> Result<Option<Result<Offer, NotACode>>> {
        if !two_codes {
            let code = self.read_code("Code that the app shows:")?;
            return Ok(code.map(|code| code.map(Offer::Single)));
        }
        self.terminal
            .note("Two codes in a row are needed now: the one that the app shows, and the next one.")?;
        let Some(first) = self.read_code("First code:")? else {
            return Ok(None);
        };
        let second = self.read_code("Next code:")?;
        Ok(second.map(|second| Ok(Offer::Pair(first?, second?))))
    }

    pub(super) fn read_code(&mut self, question: &str) -> Result<Option<Result<OtpCode, NotACode>>> {
        let line = self.terminal.ask(question)?.filter(|line| !line.trim().is_empty());
        Ok(line.map(|line| OtpCode::parse(line.trim())))
    }

    fn explain(&mut self, verdict: Verdict, seed: &Seed, offer: &Offer, now: Timestamp) -> Result<()> {
        let text = match (verdict, clock_error(seed, offer, now)) {
            (Verdict::Replayed, _) => "That code has been used already. Wait for the next one.".to_owned(),
            (_, Some(error)) => format!(
                "That code is not valid now, but {error}: the phone's clock is off by that much. Switch on automatic date and \
                 time there (in Google Authenticator: Settings, Time correction), and enter a new code."
            ),
            _ => "That code is wrong. Wait for the next one.".to_owned(),
        };
        Ok(self.terminal.note(&text)?)
    }
}

fn too_late(key: &DeviceKey, until: Timestamp) -> anyhow::Error {
    anyhow!(
        "the new seed of the device {} waited for its first code until {}: register it with --replace again",
        name_of(key),
        until.rfc3339()
    )
}

/// Fails unless the device still waits for the first code of this seed.
fn require_offered(record: &DeviceRecord, seed: &SeedRef, now: Timestamp) -> Result<()> {
    if record.device.seed_ref == *seed {
        return match record.device.status {
            Status::Active => bail!("the device {} was activated concurrently", name_of(&record.key)),
            Status::ActivationRequired | Status::Disabled => Ok(()),
        };
    }
    match record.pending.as_ref().filter(|pending| pending.seed_ref == *seed) {
        Some(pending) if pending.until > now => Ok(()),
        Some(pending) => Err(too_late(&record.key, pending.until)),
        None => bail!(
            "another registration of the device {} replaced this one",
            name_of(&record.key)
        ),
    }
}

/// When a wrong single code was or will be valid: the nearest time at which it is.
fn clock_error(seed: &Seed, offer: &Offer, now: Timestamp) -> Option<String> {
    let Offer::Single(code) = offer else { return None };
    let period = seed.parameters().period;
    let step = Step::at(now, period).0;
    let farthest = MOST_CLOCK_ERROR.as_secs() / period.seconds();
    let is_valid = |step: u64| seed.code(Step(step)).reveal() == code.reveal();
    (2..=farthest).find_map(|distance| {
        let before = step.checked_sub(distance).is_some_and(&is_valid);
        let after = is_valid(step + distance);
        let minutes = (distance * period.seconds()).div_ceil(60);
        let time = match (minutes / 60, minutes % 60) {
            (0, minutes) => format!("{minutes} min"),
            (hours, minutes) => format!("{hours} h {minutes} min"),
        };
        match (before, after) {
            (true, _) => Some(format!("was {time} ago")),
            (_, true) => Some(format!("will be in {time}")),
            _ => None,
        }
    })
}

//! `activate`: the first code of a new seed.
//!
//! A seed is in use from its first correct code on, and that code goes through the same counted decision as one of an
//! authentication.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use shared::clock::{Clock, Timestamp};
use shared::device::{NewSeed, Refusal, Status, Verdict};
use shared::names::{AuthId, DeviceKey, SeedRef, WriteId};
use shared::otp::{NotACode, Offer, OtpCode};
use shared::policy::Policy;
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;
use shared::registration::{Activated, Activation, Leftovers, NotActivated, activate};

use super::admin::{DeviceAdmin, Removal, disabled};
use crate::commands::text::{name_of, options_for};
use crate::terminal::Terminal;

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
        let record = self.require(key).await?;
        let seed_ref = match (record.device.status, &record.pending) {
            (Status::Disabled, _) => return Err(disabled(key)),
            (Status::ActivationRequired, _) => &record.device.seed_ref,
            (Status::Active, None) => {
                self.terminal
                    .say(&format!("The device {} is already active.", name_of(key)))?;
                return Ok(());
            }
            (Status::Active, Some(pending)) if !pending.waits_at(self.clock.now()) => {
                return Err(too_late(key, pending.until));
            }
            (Status::Active, Some(pending)) => &pending.seed_ref,
        };
        let seed = self.seeds.read(key, seed_ref, record.sealed(seed_ref)).await;
        let seed = seed.context("cannot read the seed")?;
        let new = NewSeed {
            seed_ref: seed_ref.clone(),
            parameters: seed.ok_or_else(|| no_seed(seed_ref))?.parameters(),
        };
        self.activate_with(key, &new).await
    }

    pub(super) async fn activate_with(&mut self, key: &DeviceKey, new: &NewSeed) -> Result<()> {
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
        let id = AuthId::from_random_bytes(self.random.sixteen_bytes()?);
        let mut two_codes = false;
        for _ in 0..MOST_LINES {
            let Some(offer) = self.read_codes(two_codes)? else {
                bail!("no code was entered: {}", unfinished());
            };
            let Ok(offer) = offer else {
                self.terminal.note("A code has 6 or 8 digits.")?;
                continue;
            };
            let write_id = WriteId::from_bytes(self.random.sixteen_bytes()?);
            let now = self.clock.now();
            let activation = Activation {
                id,
                key: key.clone(),
                seed: new.clone(),
                issued_at: now,
                expires_at: now.plus(AUTH_LIFE),
            };
            let mut leftovers = Leftovers::default();
            let activated = activate(
                &self.devices,
                &self.seeds,
                &activation,
                &offer,
                write_id,
                now,
                &self.policy,
                None,
                &mut leftovers,
            );
            match activated.await {
                Ok(
                    Activated::AlreadyActive
                    | Activated::Verdict {
                        verdict: Verdict::Accepted,
                        ..
                    },
                ) => return self.finish_activation(key, &leftovers).await,
                Ok(Activated::Verdict {
                    verdict,
                    device,
                    seconds_late,
                    ..
                }) => {
                    self.explain(verdict, seconds_late)?;
                    if device.attempts_left(id) == 0 {
                        bail!(exhausted());
                    }
                    two_codes = !device.single_codes_open(now, &self.policy);
                }
                Err(NotActivated::Refused(Refusal::TwoCodesRequired { .. })) => two_codes = true,
                Err(NotActivated::Refused(Refusal::TooManyPairs { pairs_at })) => bail!(
                    "too many wrong pairs of codes: wait {} s; {}",
                    pairs_at.seconds_from(now),
                    unfinished()
                ),
                Err(NotActivated::Refused(Refusal::Exhausted)) => bail!(exhausted()),
                Err(NotActivated::Refused(Refusal::Disabled)) => return Err(disabled(key)),
                Err(NotActivated::Gone) => bail!("the device {} was removed concurrently", name_of(key)),
                Err(NotActivated::Superseded) => {
                    bail!("another registration of the device {} replaced this one", name_of(key))
                }
                Err(NotActivated::TooLate(until)) => return Err(too_late(key, until)),
                Err(NotActivated::NoSeed { seed, error: None }) => return Err(no_seed(&seed)),
                Err(NotActivated::NoSeed { error: Some(error), .. } | NotActivated::Store(error)) => {
                    return Err(anyhow!(error).context(unfinished()));
                }
                Err(
                    error @ (NotActivated::Contention
                    | NotActivated::TooManyDevices
                    | NotActivated::Refused(Refusal::Expired | Refusal::AlreadyUsed | Refusal::NotActive)),
                ) => return Err(anyhow!(error).context(unfinished())),
            }
        }
        bail!("{}", unfinished())
    }

    async fn finish_activation(&mut self, key: &DeviceKey, leftovers: &Leftovers) -> Result<()> {
        self.terminal.say(&format!(
            "The device {} is active. That code is used up; authenticate with the next one.",
            name_of(key)
        ))?;
        for seed in &leftovers.unwanted {
            self.discard(seed, Removal::Recoverable).await?;
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

    fn explain(&mut self, verdict: Verdict, seconds_late: Option<u64>) -> Result<()> {
        let text = match (verdict, seconds_late) {
            (Verdict::Replayed, _) => "That code has been used already. Wait for the next one.".to_owned(),
            (_, Some(seconds)) => {
                let minutes = seconds.div_ceil(60);
                let time = match (minutes / 60, minutes % 60) {
                    (0, minutes) => format!("{minutes} min"),
                    (hours, minutes) => format!("{hours} h {minutes} min"),
                };
                format!(
                    "That code is not valid now, but was {time} ago: the phone's clock may be behind by that much. Switch on \
                     automatic date and time there (in Google Authenticator: Settings, Time correction), and enter a new code."
                )
            }
            _ => "That code is wrong. Wait for the next one.".to_owned(),
        };
        Ok(self.terminal.note(&text)?)
    }
}

fn no_seed(seed: &SeedRef) -> anyhow::Error {
    match seed {
        SeedRef::Secret(secret) => anyhow!(
            "the secret {} does not exist: register the device again, which replaces it",
            secret.name()
        ),
        SeedRef::Sealed(_) => {
            anyhow!("the sealed seed cannot be used: register the device again, which replaces it")
        }
    }
}

fn too_late(key: &DeviceKey, until: Timestamp) -> anyhow::Error {
    anyhow!(
        "the new seed of the device {} waited for its first code until {}: register it with --replace again",
        name_of(key),
        until.rfc3339()
    )
}

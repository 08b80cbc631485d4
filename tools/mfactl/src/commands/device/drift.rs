//! `check --codes`: how far a token's clock is off, by two consecutive codes.
//!
//! The pair goes through the counted decision of an authentication before anything is said about it, or this would be a way
//! around the rate limit of pairs. One that an authentication would accept is used up, since it was shown here; any other
//! counts as a wrong pair. A step outside the window is never used up: a token that is ahead would be refused until then.

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};
use shared::clock::{Clock, Timestamp};
use shared::device::{Attempt, Device, DeviceRecord, Refusal, Status, Verdict};
use shared::names::{AuthId, DeviceKey, WriteId};
use shared::otp::{Offer, OtpCode, Period, Seed, Step};
use shared::policy::Policy;
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;
use shared::settlement::{Settlement, Unsettled, settle};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::activate::AUTH_LIFE;
use super::admin::{DeviceAdmin, disabled};
use crate::commands::text::{name_of, options_for};
use crate::terminal::Terminal;

/// How far a token's clock may be off to be recognised, in steps.
const FARTHEST: i64 = 50;
/// How far it may be off to sign in (RFC 6238, section 5.2), in steps.
const WINDOW: i64 = 1;

/// What two codes said.
#[derive(Debug)]
pub(super) struct Measured {
    /// How many steps the token is ahead; negative if it is behind. `None` if the pair was not found.
    steps: Option<i64>,
    period: Period,
    verdict: Verdict,
    /// The device after the attempt.
    pub(super) device: Device,
}

impl Measured {
    /// What it means for authentications; as an error if they cannot succeed.
    pub(super) fn finding(&self) -> Result<String, String> {
        let Some(steps) = self.steps else {
            let minutes = FARTHEST.unsigned_abs() * self.period.seconds() / 60;
            return Err(format!(
                "the two codes are not consecutive codes of this seed within {FARTHEST} steps ({minutes} min) of now: they are \
                 mistyped, another token's, or the token's clock is further off"
            ));
        };
        let distance = steps.unsigned_abs();
        let seconds = distance * self.period.seconds();
        let token = match steps {
            0 => "is right (0 steps, 0 s)".to_owned(),
            _ => format!(
                "is {distance} step{} ({seconds} s) {}",
                if distance == 1 { "" } else { "s" },
                if steps < 0 { "behind" } else { "ahead" }
            ),
        };
        if !is_inside(steps) {
            return Err(format!(
                "the token's clock {token}, outside the window of {WINDOW} step each way, so its codes never sign in: replace \
                 the token; on a phone, switch on automatic date and time"
            ));
        }
        let used = match self.verdict {
            Verdict::Accepted => "The two codes are used up.",
            Verdict::Rejected | Verdict::Replayed => "At least one of the two codes had been used before.",
        };
        let edge = if distance == 0 {
            ""
        } else {
            " A token whose clock drifts will leave the window: replace it soon."
        };
        Ok(format!(
            "The token's clock {token}, inside the window of {WINDOW} step each way, so its codes sign in.{edge} {used}"
        ))
    }

    /// For scripts; `None` if the pair was not found.
    pub(super) fn json(&self) -> Option<Value> {
        let period = i64::try_from(self.period.seconds()).ok()?;
        self.steps
            .map(|steps| json!({ "steps": steps, "seconds": steps * period, "inWindow": is_inside(steps) }))
    }
}

fn is_inside(steps: i64) -> bool {
    (-WINDOW..=WINDOW).contains(&steps)
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Asks for two consecutive codes, and compares them with those that the seed has around now.
    pub(super) async fn measure_drift(&mut self, record: &DeviceRecord, seed: &Seed) -> Result<Measured> {
        let key = &record.key;
        require_open(key, &record.device, self.clock.now(), &self.policy)?;
        self.terminal
            .note("Two codes in a row are needed: the one that the token shows, and the next one.")?;
        let codes = (self.read_code("First code:")?, self.read_code("Next code:")?);
        let (Some(earlier), Some(later)) = codes else {
            bail!("no code was entered; nothing was counted");
        };
        let (Ok(earlier), Ok(later)) = (earlier, later) else {
            bail!("a code has 6 or 8 digits; nothing was counted: run it again");
        };
        // Entering them took its time.
        let device = self.require(key).await?.device;
        if device.seed_ref != record.device.seed_ref {
            bail!(
                "the seed of the device {} was replaced concurrently: run it again",
                name_of(key)
            );
        }
        let now = self.clock.now();
        let period = seed.parameters().period;
        let steps = steps_off(seed, [&earlier, &later], now);
        let attempt = Attempt {
            auth_id: AuthId::from_random_bytes(self.random.sixteen_bytes()?),
            expires_at: now.plus(AUTH_LIFE),
            write_id: WriteId::from_bytes(self.random.sixteen_bytes()?),
            matches: seed.matches(&Offer::Pair(earlier, later), now),
        };
        let begun = Settlement::begin(device, attempt, now, &self.policy);
        match settle(&self.devices, key, begun, &self.policy).await {
            Ok((verdict, device)) => Ok(Measured {
                steps,
                period,
                verdict,
                device,
            }),
            Err(Unsettled::Refused(Refusal::TooManyPairs { pairs_at })) => Err(too_many_pairs(key, pairs_at, now)),
            Err(Unsettled::Refused(Refusal::Disabled)) => Err(disabled(key)),
            Err(unsettled) => Err(anyhow!(unsettled).context(format!(
                "the two codes of the device {} could not be counted, so nothing is said about them: run it again",
                name_of(key)
            ))),
        }
    }
}

/// Fails, before codes are asked for, if a pair would not be evaluated.
fn require_open(key: &DeviceKey, device: &Device, now: Timestamp, policy: &Policy) -> Result<()> {
    match device.status {
        Status::Active => {}
        Status::Disabled => return Err(disabled(key)),
        Status::ActivationRequired => bail!(
            "the device {} waits for its first code: `mfactl device activate {}` asks for it, and tells how far the clock is \
             behind",
            name_of(key),
            options_for(key)
        ),
    }
    match device.pairs_at(policy) {
        opens if opens <= now => Ok(()),
        opens => Err(too_many_pairs(key, opens, now)),
    }
}

fn too_many_pairs(key: &DeviceKey, pairs_at: Timestamp, now: Timestamp) -> anyhow::Error {
    anyhow!(
        "too many wrong pairs of codes for the device {}: the next one is evaluated in {} s, at {}; nothing was counted",
        name_of(key),
        pairs_at.seconds_from(now),
        pairs_at.rfc3339()
    )
}

/// How many steps the seed's own pair is away from the one that is expected now, whose later code is of the step now. Every
/// candidate is compared, in constant time, and none ends the search early; the nearest counts.
fn steps_off(seed: &Seed, [earlier, later]: [&OtpCode; 2], now: Timestamp) -> Option<i64> {
    let offered = joined(earlier, later);
    let step = Step::at(now, seed.parameters().period).0;
    let (mut found, mut off) = (Choice::from(0), 0);
    for candidate in (0..=FARTHEST).rev().flat_map(|distance| [-distance, distance]) {
        // Near the epoch there are fewer steps in the past.
        let Some(first) = step.checked_add_signed(candidate - 1).map(Step) else {
            continue;
        };
        let same = offered.ct_eq(&joined(&seed.code(first), &seed.code(first.next())));
        off.conditional_assign(&candidate, same);
        found |= same;
    }
    bool::from(found).then_some(off)
}

fn joined(earlier: &OtpCode, later: &OtpCode) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([earlier.reveal().as_bytes(), later.reveal().as_bytes()].concat())
}

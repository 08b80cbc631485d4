//! One device, its owner and an attacker who holds the first factor, on a clock that jumps from event to event.
//!
//! Every attempt goes through the service's own `admit` and `decide`; no gate is repeated here. Without a seed, only the
//! window of steps is. A wrong code is never right by chance: the odds follow from the number of guesses.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use shared::clock::Timestamp;
use shared::device::{Attempt, Decision, Device, Refusal, Status, Verdict, admit, decide};
use shared::names::{AuthId, SeedRef, WriteId};
use shared::otp::{CANDIDATES, Matches, OfferKind, OtpParameters, Period, Step};
use shared::policy::Policy;

/// A midnight.
pub(super) const START: Timestamp = Timestamp::from_secs(1_799_971_200);
pub(super) const DAY: Duration = Duration::from_hours(24);
/// How long people take to read and type a code.
const TYPING: Duration = Duration::from_secs(5);
/// How long a request takes to reach the service.
const TRANSIT_MILLIS: std::ops::RangeInclusive<u64> = 20..=200;
/// When people sign in: from 7 to 23.
const MORNING: Duration = Duration::from_hours(7);
const WAKING_MILLIS: u64 = 16 * 3_600_000;
/// More guesses than any policy lets through in one moment.
const MOST_AT_ONCE: u32 = 200;
/// How long an authId lives by default.
const AUTH_LIFE: Duration = Duration::from_mins(5);
const PERIOD: Period = Period::Thirty;

/// How an attacker sends pairs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Flood {
    /// One at the very moment that a pair is evaluated again.
    Timed,
    /// So many per `PAIR_GAP` on average, at moments independent of the openings.
    Untimed(u32),
}

/// An owner, and the client that they sign in through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    /// Mistyped codes in a hundred.
    pub(super) errors_percent: u32,
    /// Whether the client keeps the authId after a 422, as the API asks it to.
    pub(super) keeps_auth_id: bool,
    /// Otherwise the device has a lock and nothing else.
    pub(super) sends_pairs: bool,
    /// After this long, a sign-in is given up.
    pub(super) patience: Duration,
}

impl Owner {
    /// Types without errors, through a client that does as documented.
    pub(super) const FLAWLESS: Self = Self {
        errors_percent: 0,
        keeps_auth_id: true,
        sends_pairs: true,
        patience: Duration::from_mins(10),
    };
}

/// How one sign-in went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SignIn {
    /// Codes that were typed.
    pub(super) codes: u32,
    /// Whether two consecutive codes were asked for.
    pub(super) asked_for_two: bool,
    /// Whether a pair was answered with 429.
    pub(super) told_to_wait: bool,
    /// From the start to the success; `None` if it was given up.
    pub(super) waited: Option<Duration>,
}

/// A code that was typed: the step that the app showed, and whether it was typed as shown.
#[derive(Debug, Clone, Copy)]
struct Typed {
    step: Step,
    right: bool,
}

/// An authId as its owner's client knows it, and the snapshot that step 3 starts from.
struct Started {
    auth_id: AuthId,
    expires_at: Timestamp,
    snapshot: Device,
}

/// The answer to an attempt.
enum Answer {
    Refused(Refusal),
    Given(Verdict),
}

/// One device, with its owner and its attacker.
pub(super) struct Simulation {
    policy: Policy,
    device: Device,
    now: Timestamp,
    random: fastrand::Rng,
    ids: u64,
    guesses_single_codes: bool,
    flood: Option<Flood>,
    /// The next pair of an untimed flood.
    next_untimed: Timestamp,
    /// Single codes of the attacker that were evaluated.
    pub(super) single_guesses: u64,
    /// Pairs of the attacker that were evaluated.
    pub(super) pair_guesses: u64,
}

impl Simulation {
    /// A device that was never used, at [`START`].
    pub(super) fn new(policy: Policy, seed: u64) -> Result<Self> {
        let seed_ref = SeedRef::new("simulated", "1")?;
        Ok(Self {
            policy,
            device: Device::registered(0, Status::Active, seed_ref, OtpParameters::default()),
            now: START,
            random: fastrand::Rng::with_seed(seed),
            ids: 0,
            guesses_single_codes: false,
            flood: None,
            next_untimed: START,
            single_guesses: 0,
            pair_guesses: 0,
        })
    }

    /// Adds an attacker who is first at every opening for single codes.
    pub(super) fn under_attack(self) -> Self {
        Self {
            guesses_single_codes: true,
            ..self
        }
    }

    /// Lets the attacker send pairs from `from` on, beginning with all those that may come at once.
    pub(super) fn flood(&mut self, flood: Flood, from: Timestamp) -> Result<()> {
        self.pass_until(from)?;
        for _ in 0..Policy::PAIR_BURST {
            self.guess(OfferKind::Pair);
        }
        self.flood = Some(flood);
        self.next_untimed = self.now;
        Ok(())
    }

    /// Ends the flood of pairs.
    pub(super) fn drain(&mut self) {
        self.flood = None;
    }

    /// The moments of a day at which an owner signs in.
    pub(super) fn sign_in_times(&mut self, day: u32, how_many: u32) -> Vec<Timestamp> {
        let morning = START.plus(DAY.saturating_mul(day)).plus(MORNING);
        let mut times: Vec<_> = (0..how_many)
            .map(|_| morning.plus(Duration::from_millis(self.random.u64(0..WAKING_MILLIS))))
            .collect();
        times.sort_unstable();
        times
    }

    /// Lets time pass, and the attacker act in it: they are first at every opening until then.
    pub(super) fn pass_until(&mut self, until: Timestamp) -> Result<()> {
        let mut at_once = 0;
        while let Some((at, kind)) = self.next_guess().filter(|(at, _)| *at <= until) {
            at_once = if at == self.now { at_once + 1 } else { 0 };
            ensure!(at_once <= MOST_AT_ONCE, "nothing limits the guesses");
            self.now = at;
            let evaluated = self.guess(kind);
            match (kind, self.flood) {
                (OfferKind::Pair, Some(Flood::Untimed(per_gap))) => {
                    self.next_untimed = at.plus(self.random_pause(self.policy.pair_gap() / per_gap));
                }
                _ => ensure!(evaluated, "the guess at an opening was not evaluated"),
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn next_guess(&self) -> Option<(Timestamp, OfferKind)> {
        let single = self
            .guesses_single_codes
            .then(|| self.device.single_codes_at(&self.policy))
            .flatten();
        let pair = self.flood.map(|flood| match flood {
            Flood::Timed => self.device.pairs_at(&self.policy),
            Flood::Untimed(_) => self.next_untimed,
        });
        [(single, OfferKind::Single), (pair, OfferKind::Pair)]
            .into_iter()
            .filter_map(|(at, kind)| Some((at?.max(self.now), kind)))
            .min_by_key(|(at, _)| *at)
    }

    /// The time between two arrivals of a Poisson process, in whole milliseconds: rounded, it is the same on every machine.
    fn random_pause(&mut self, mean: Duration) -> Duration {
        let pause = mean.mul_f64(-(1.0 - self.random.f64()).ln());
        Duration::from_secs_f64((pause.as_secs_f64() * 1_000.0).round() / 1_000.0)
    }

    /// Sends a wrong code or pair with a new authId, and tells whether it was evaluated.
    fn guess(&mut self, kind: OfferKind) -> bool {
        let attempt = Attempt {
            auth_id: AuthId::from_random_bytes(self.next_id()),
            expires_at: self.now.plus(AUTH_LIFE),
            write_id: WriteId::from_bytes(self.next_id()),
            matches: Matches::new(kind, [None; CANDIDATES]),
        };
        let Decision::Write { device, .. } = decide(&self.device, &attempt, self.now, &self.policy) else {
            return false;
        };
        self.device = device;
        match kind {
            OfferKind::Single => self.single_guesses += 1,
            OfferKind::Pair => self.pair_guesses += 1,
        }
        true
    }

    /// One sign-in, with as many codes as it takes.
    pub(super) fn sign_in(&mut self, owner: Owner, at: Timestamp) -> Result<SignIn> {
        self.pass_until(at)?;
        let begun = self.now;
        let mut sign_in = SignIn::default();
        let mut auth = self.start();
        // `Auth-Codes-Required`, and `codesRequired` after a 422.
        let mut two_required = self.two_required();
        // A single code that was not evaluated may be the first of the two.
        let mut first = None;
        // A pair that was answered with 429 is sent again.
        let mut waiting: Option<(Typed, bool)> = None;
        let end = begun.plus(owner.patience);
        while self.now < end {
            let answer = if !two_required {
                let code = self.type_code(owner, &mut sign_in);
                self.pass_until(self.now.plus(TYPING))?;
                let answer = self.send(&auth, OfferKind::Single, code.right.then_some(code.step));
                if matches!(answer, Answer::Refused(Refusal::TwoCodesRequired { .. })) {
                    first = Some(code);
                }
                answer
            } else if owner.sends_pairs {
                sign_in.asked_for_two = true;
                let (earlier, right) = match waiting.take() {
                    Some(pair) => pair,
                    None => self.type_pair(owner, first.take(), &mut sign_in)?,
                };
                let answer = self.send(&auth, OfferKind::Pair, right.then_some(earlier.step));
                if matches!(answer, Answer::Refused(Refusal::TooManyPairs { .. })) {
                    waiting = Some((earlier, right));
                }
                answer
            } else {
                sign_in.asked_for_two = true;
                let Some(opens) = self.device.single_codes_at(&self.policy) else {
                    break;
                };
                self.wait_for(opens.min(end))?;
                auth = self.start();
                two_required = self.two_required();
                continue;
            };
            two_required = match answer {
                Answer::Given(Verdict::Accepted) => {
                    let waited = self.now.as_millis() - begun.as_millis();
                    sign_in.waited = Some(Duration::from_millis(waited));
                    return Ok(sign_in);
                }
                Answer::Given(verdict) => {
                    if verdict == Verdict::Replayed {
                        self.wait_for(self.device.last_step.next().start(PERIOD))?;
                    }
                    if !owner.keeps_auth_id || self.device.attempts_left(auth.auth_id) == 0 {
                        auth = self.start();
                    }
                    self.two_required()
                }
                Answer::Refused(Refusal::TwoCodesRequired { .. }) => true,
                Answer::Refused(Refusal::TooManyPairs { pairs_at }) => {
                    sign_in.told_to_wait = true;
                    self.wait_for(pairs_at)?;
                    let step = Step::at(self.now, PERIOD);
                    waiting = waiting.filter(|(earlier, _)| earlier.step.0 + 2 >= step.0);
                    true
                }
                Answer::Refused(Refusal::Expired | Refusal::Exhausted) => {
                    auth = self.start();
                    two_required
                }
                Answer::Refused(refusal) => bail!("an owner must never be refused with {refusal:?}"),
            };
        }
        Ok(sign_in)
    }

    fn two_required(&self) -> bool {
        !self.device.single_codes_open(self.now, &self.policy)
    }

    /// Waits as a client does: whole seconds, rounded up, and the transit to the service. Without the latter an owner
    /// would always hit a gap of whole seconds at the same point.
    fn wait_for(&mut self, at: Timestamp) -> Result<()> {
        let transit = Duration::from_millis(self.random.u64(TRANSIT_MILLIS));
        self.pass_until(self.now.plus(Duration::from_secs(at.seconds_from(self.now)) + transit))
    }

    /// The code that the app shows now.
    fn type_code(&mut self, owner: Owner, sign_in: &mut SignIn) -> Typed {
        sign_in.codes += 1;
        Typed {
            step: Step::at(self.now, PERIOD),
            right: self.random.u32(0..100) >= owner.errors_percent,
        }
    }

    /// Two consecutive codes: the earlier one, and whether both are right. Takes until the app shows the later one.
    fn type_pair(&mut self, owner: Owner, first: Option<Typed>, sign_in: &mut SignIn) -> Result<(Typed, bool)> {
        // The next code may have passed too.
        let first = first.filter(|code| code.step.0 + 1 >= Step::at(self.now, PERIOD).0);
        let earlier = match first {
            Some(code) => code,
            None => self.type_code(owner, sign_in),
        };
        self.pass_until(earlier.step.next().start(PERIOD))?;
        let later = self.type_code(owner, sign_in);
        self.pass_until(self.now.plus(TYPING))?;
        Ok((earlier, earlier.right && later.right))
    }

    /// Step 2.
    fn start(&mut self) -> Started {
        Started {
            auth_id: AuthId::from_random_bytes(self.next_id()),
            expires_at: self.now.plus(AUTH_LIFE),
            snapshot: self.device.clone(),
        }
    }

    /// Step 3. A gate may refuse on the snapshot; the decision is made on the current state.
    fn send(&mut self, auth: &Started, kind: OfferKind, step: Option<Step>) -> Answer {
        let (id, expires_at) = (auth.auth_id, auth.expires_at);
        if let Err(refusal) = admit(&auth.snapshot, id, expires_at, kind, self.now, &self.policy) {
            return Answer::Refused(refusal);
        }
        let attempt = Attempt {
            auth_id: id,
            expires_at,
            write_id: WriteId::from_bytes(self.next_id()),
            matches: matches(kind, step, self.now),
        };
        match decide(&self.device, &attempt, self.now, &self.policy) {
            Decision::Refuse(refusal) => Answer::Refused(refusal),
            Decision::Write { verdict, device } => {
                self.device = device;
                Answer::Given(verdict)
            }
        }
    }

    fn next_id(&mut self) -> [u8; 16] {
        self.ids += 1;
        u128::from(self.ids).to_be_bytes()
    }
}

/// The result of `Seed::matches` for the right code or pair of a step: no match outside the window.
fn matches(kind: OfferKind, right: Option<Step>, now: Timestamp) -> Matches {
    let back = match kind {
        OfferKind::Single => 1,
        OfferKind::Pair => 2,
    };
    let oldest = Step::at(now, PERIOD).0 - back;
    Matches::new(
        kind,
        [0, 1, 2].map(|forward| right.filter(|step| step.0 == oldest + forward)),
    )
}

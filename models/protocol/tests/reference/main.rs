//! Two implementations of the decision, one of them written from the documents alone, get the same random states and
//! attempts and must give the same answers and write the same states.
//!
//! `PROPTEST_CASES` sets how many, `PROPTEST_RNG_SEED` the seed.

mod documented;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use documented::{Answer, Call, HOUR, Id, Item, Millis, No, Numbers, Purpose, SECOND, STANDARD, STRICT, Seed};
use proptest::test_runner::{Config, RngSeed, contextualize_config};
use shared::clock::Timestamp;
use shared::device::{
    Accepted, Attempt, Decision, Device, Failing, LastWrite, NewSeed, Refusal, Status, Verdict, admit, decide,
    decide_activation,
};
use shared::names::{AuthId, NameError, SeedRef, WriteId};
use shared::otp::{Algorithm, CANDIDATES, Digits, Matches, OfferKind, OtpParameters, Period, Step};
use shared::policy::{Policy, PolicyError};

const CASES: u32 = 100_000;
/// Every answer and every special case occurs at least once in so many cases, or the generator is at fault.
const RAREST: u32 = 2_000;

/// What the two implementations are given.
struct Case {
    policy: (Policy, Numbers),
    device: Device,
    attempt: Attempt,
    /// What is in `attempt.matches`.
    steps: [Option<Step>; CANDIDATES],
    now: Timestamp,
    new_seed: NewSeed,
}

/// Random cases, close to every limit.
struct Cases {
    random: fastrand::Rng,
    policies: [(Policy, Numbers); 3],
    seeds: [NewSeed; 3],
    writes: u128,
}

impl Cases {
    fn new(seed: u64) -> Result<Self, Box<dyn std::error::Error>> {
        let custom = Numbers {
            burst: 6,
            refill: 72 * HOUR,
            pair_gap: 5 * SECOND,
        };
        Ok(Self {
            random: fastrand::Rng::with_seed(seed),
            policies: [
                (Policy::standard(), STANDARD),
                (Policy::strict(), STRICT),
                (custom_policy(custom)?, custom),
            ],
            seeds: seeds()?,
            writes: 0,
        })
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> Option<T> {
        let choice = self.random.usize(..choices.len());
        choices.get(choice).cloned()
    }

    fn once_in(&mut self, times: u32) -> bool {
        self.random.u32(..times) == 0
    }

    fn time(&mut self) -> Timestamp {
        // One in twenty is in the first hours of the clock, where no subtraction may go below zero.
        let (first, last) = if self.once_in(20) {
            (0, 100_000_000)
        } else {
            (1_764_000_000_000, 1_796_000_000_000)
        };
        Timestamp::from_millis(self.random.u64(first..last))
    }

    /// A time at, just before, or around `limit`.
    fn near(&mut self, limit: Millis, spread: Millis) -> Timestamp {
        let by = match self.random.u8(..6) {
            0 => 0,
            1 => 1,
            2 => -1,
            _ => self.random.i128(-spread..=spread),
        };
        stamp(limit + by)
    }

    fn auth(&mut self) -> AuthId {
        AuthId::from_random_bytes([self.random.u8(..7); 16])
    }

    /// Never the same one twice.
    fn write(&mut self) -> WriteId {
        self.writes += 1;
        WriteId::from_bytes(self.writes.to_be_bytes())
    }

    fn device(&mut self, now: Timestamp, numbers: Numbers) -> Option<Device> {
        let status = match self.random.u8(..8) {
            0 => Status::Disabled,
            1 | 2 => Status::ActivationRequired,
            _ => Status::Active,
        };
        let seed = self.one_of(&self.seeds.clone())?;
        let version = self.random.u64(..1 << 63);
        let mut device = Device::registered(version, status, seed.seed_ref, seed.parameters);
        if self.once_in(20) {
            return Some(device);
        }
        let millis = i128::from(now.as_millis());
        let step = Step::at(now, device.parameters.period).0;
        device.last_step = Step((step + self.random.u64(..8)).saturating_sub(5));
        for _ in 0..self.random.u8(..4) {
            let past = Accepted {
                auth_id: self.auth(),
                write_id: self.write(),
                expires_at: self.near(millis - 120 * SECOND, 400 * SECOND),
            };
            if device.accepted.iter().all(|other| other.auth_id != past.auth_id) {
                device.accepted.push(past);
            }
        }
        for _ in 0..self.random.usize(..=Policy::REMEMBERED_FAILING) {
            let one = Failing {
                auth_id: self.auth(),
                count: self.random.u32(1..=5),
            };
            if device.failing.iter().all(|other| other.auth_id != one.auth_id) {
                device.failing.push(one);
            }
        }
        if !self.once_in(4) {
            device.last_write = Some(LastWrite {
                write_id: self.write(),
                auth_id: self.auth(),
                verdict: self.one_of(&Verdict::ALL)?,
            });
        }
        device.consecutive_failures = match self.random.u8(..4) {
            0 => self.random.u32(..=100),
            1 => self.random.u32(97..=101),
            _ => self.random.u32(..=12),
        };
        device.total_failures = u64::from(device.consecutive_failures) + self.random.u64(..1_000);
        device.not_before = self.near(millis - 30 * SECOND, 60 * SECOND);
        if self.once_in(8) {
            device.not_before = self.near(millis, 0);
        }
        let slack = numbers.refill * (numbers.burst - 1);
        device.budget_at = match self.random.u8(..4) {
            0 => self.near(millis + slack, numbers.refill),
            1 => self.near(millis, numbers.refill),
            _ => self.near(millis + slack / 2, slack / 2),
        };
        let slack = numbers.pair_gap * 9;
        device.pair_at = match self.random.u8(..4) {
            0 => self.near(millis + slack, numbers.pair_gap),
            1 => self.near(millis, numbers.pair_gap),
            _ => self.near(millis, slack),
        };
        Some(device)
    }

    fn attempt(&mut self, now: Timestamp, device: &Device, seed: &NewSeed) -> (Attempt, [Option<Step>; CANDIDATES]) {
        let kind = if self.random.bool() {
            OfferKind::Single
        } else {
            OfferKind::Pair
        };
        // Of the device's own seed or of the new one.
        let parameters = if self.random.bool() {
            device.parameters
        } else {
            seed.parameters
        };
        let first = Step::at(now, parameters.period).0 + u64::from(kind == OfferKind::Single);
        let mut steps = [None; CANDIDATES];
        for (number, step) in (0..).zip(&mut steps) {
            let candidate = (first + number).checked_sub(2).map(Step);
            *step = candidate.filter(|_| self.random.bool());
        }
        if self.once_in(4) {
            steps = [None; CANDIDATES];
        }
        let expires_at = if self.once_in(10) {
            self.near(i128::from(now.as_millis()), SECOND)
        } else {
            now.plus(Duration::from_secs(self.random.u64(1..600)))
        };
        let attempt = Attempt {
            auth_id: self.auth(),
            expires_at,
            write_id: self.write(),
            matches: Matches::new(kind, steps),
        };
        (attempt, steps)
    }

    /// Another case, on a random state, or a little later on the state that the previous one left.
    fn next(&mut self, before: Option<(Case, Device)>) -> Option<Case> {
        let goes_on = before.filter(|_| self.random.bool());
        let (policy, device, now) = if let Some((case, device)) = goes_on {
            let later = self.one_of(&[0, SECOND, 30 * SECOND, HOUR, case.policy.1.refill])?;
            let now = stamp(i128::from(case.now.as_millis()) + later);
            (case.policy, device, now)
        } else {
            let (policy, now) = (self.one_of(&self.policies.clone())?, self.time());
            (policy, self.device(now, policy.1)?, now)
        };
        let new_seed = self.one_of(&self.seeds.clone())?;
        let (attempt, steps) = self.attempt(now, &device, &new_seed);
        Some(Case {
            policy,
            device,
            attempt,
            steps,
            now,
            new_seed,
        })
    }
}

fn custom_policy(numbers: Numbers) -> Result<Policy, PolicyError> {
    let small = |number: i128| u32::try_from(number).unwrap_or_default();
    Policy::custom(
        small(numbers.burst),
        small(numbers.refill / HOUR),
        small(numbers.pair_gap / SECOND),
    )
}

/// One seed of 60 seconds and two of 30, all different.
fn seeds() -> Result<[NewSeed; 3], NameError> {
    let seed = |name: &str, algorithm, digits, period| -> Result<NewSeed, NameError> {
        Ok(NewSeed {
            seed_ref: SeedRef::new(name, "1")?,
            parameters: OtpParameters {
                algorithm,
                digits,
                period,
            },
        })
    };
    Ok([
        seed("one", Algorithm::Sha1, Digits::Six, Period::Thirty)?,
        seed("two", Algorithm::Sha256, Digits::Eight, Period::Thirty)?,
        seed("three", Algorithm::Sha512, Digits::Six, Period::Sixty)?,
    ])
}

fn stamp(millis: Millis) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis.max(0)).unwrap_or(u64::MAX))
}

fn millis(time: Timestamp) -> Millis {
    Millis::from(time.as_millis())
}

fn auth(id: AuthId) -> Id {
    Id::from_be_bytes(*id.as_bytes())
}

fn write(id: WriteId) -> Id {
    Id::from_be_bytes(*id.as_bytes())
}

fn verdict(verdict: Verdict) -> documented::Verdict {
    match verdict {
        Verdict::Accepted => documented::Verdict::Right,
        Verdict::Replayed => documented::Verdict::Replayed,
        Verdict::Rejected => documented::Verdict::Wrong,
    }
}

fn seed(seed_ref: &SeedRef, parameters: OtpParameters) -> Seed {
    Seed {
        name: seed_ref.to_string(),
        algorithm: parameters.algorithm.as_str(),
        digits: parameters.digits.count(),
        period: parameters.period.seconds().into(),
    }
}

fn item(device: &Device) -> Item {
    // Whole: a new member of a device has to be compared too.
    let Device {
        version,
        status,
        seed_ref,
        parameters,
        last_step,
        accepted,
        failing,
        last_write,
        consecutive_failures,
        total_failures,
        not_before,
        budget_at,
        pair_at,
        // No part of a decision.
        sealed: _,
        carried: _,
    } = device;
    Item {
        version: (*version).into(),
        status: match status {
            Status::ActivationRequired => documented::Status::Waiting,
            Status::Active => documented::Status::Active,
            Status::Disabled => documented::Status::Disabled,
        },
        seed: seed(seed_ref, *parameters),
        last_step: last_step.0.into(),
        accepted: accepted
            .iter()
            .map(|past| (auth(past.auth_id), write(past.write_id), millis(past.expires_at)))
            .collect(),
        failing: failing
            .iter()
            .map(|one| (auth(one.auth_id), one.count.into()))
            .collect(),
        last_write: last_write
            .as_ref()
            .map(|last| (write(last.write_id), auth(last.auth_id), verdict(last.verdict))),
        in_a_row: (*consecutive_failures).into(),
        ever: (*total_failures).into(),
        not_before: millis(*not_before),
        budget_at: millis(*budget_at),
        pair_at: millis(*pair_at),
    }
}

fn no(refusal: Refusal) -> No {
    match refusal {
        Refusal::Expired => No::Expired,
        Refusal::AlreadyUsed => No::AlreadyUsed,
        Refusal::Disabled => No::Disabled,
        Refusal::NotActive => No::NotActive,
        Refusal::Exhausted => No::Exhausted,
        Refusal::TwoCodesRequired { single_codes_at } => No::TwoCodes(single_codes_at.map(millis)),
        Refusal::TooManyPairs { pairs_at } => No::TooFast(millis(pairs_at)),
    }
}

fn told(decision: &Decision) -> Answer {
    match decision {
        Decision::Refuse(refusal) => Answer::Refused(no(*refusal)),
        Decision::Write { verdict: given, device } => Answer::Written(verdict(*given), Box::new(item(device))),
    }
}

fn call(case: &Case) -> Call {
    Call {
        now: millis(case.now),
        auth: auth(case.attempt.auth_id),
        expires: millis(case.attempt.expires_at),
        write: write(case.attempt.write_id),
        pair: case.attempt.matches.kind() == OfferKind::Pair,
        steps: case.steps.iter().flatten().map(|step| step.0.into()).collect(),
    }
}

/// What happened how often.
#[derive(Default)]
struct Seen(BTreeMap<String, u32>);

impl Seen {
    fn count(&mut self, what: String) {
        *self.0.entry(what).or_default() += 1;
    }

    fn answer(&mut self, of: &str, offered: &str, given: &Answer) {
        match given {
            Answer::Refused(No::TwoCodes(None)) => self.count(format!("{of}: two codes, for good")),
            Answer::Refused(No::TwoCodes(Some(_))) => self.count(format!("{of}: two codes, for now")),
            Answer::Refused(No::TooFast(_)) => self.count(format!("{of}: pairs too fast")),
            Answer::Refused(other) => self.count(format!("{of}: {other:?}, {offered}")),
            Answer::Written(verdict, _) => self.count(format!("{of}: {verdict:?}, {offered}")),
        }
    }

    /// What occurred less than `least` times.
    fn rarer_than(mut self, least: u32) -> BTreeMap<String, u32> {
        for of in ["sign-in", "activation"] {
            for answer in ANSWERS {
                if of == "sign-in" || !answer.starts_with("NotActive") {
                    self.0.entry(format!("{of}: {answer}")).or_default();
                }
            }
        }
        self.0.retain(|_, times| *times < least);
        self.0
    }

    /// Cases that a generator could miss although it reaches every answer.
    fn special(&mut self, call: &Call, policy: Numbers, before: &Item, after: &Item) {
        let own = |item: &Item| item.failing.iter().any(|one| one.0 == call.auth);
        let singles = before.budget_at - (policy.burst - 1) * policy.refill;
        let pairs = before.pair_at - 9 * policy.pair_gap;
        let right = matches!(after.last_write, Some((_, _, documented::Verdict::Right)));
        let specials = [
            ("a refund", right && own(before)),
            (
                "a refund down to the epoch",
                right && own(before) && after.budget_at == 0,
            ),
            (
                "a success is forgotten",
                after.accepted.len() < before.accepted.len() + usize::from(right),
            ),
            (
                "a failing authId is forgotten",
                !right && before.failing.len() == 4 && !own(before) && own(after),
            ),
            ("the fifth in a row", after.in_a_row == 5),
            ("the longest wait", !right && after.in_a_row > 12),
            ("the hundredth in a row", after.in_a_row == 100),
            (
                "at the first millisecond of the ladder",
                call.now == before.not_before && !call.pair,
            ),
            (
                "at the first millisecond of the budget",
                call.now == singles && !call.pair,
            ),
            ("at the first millisecond of pairs", call.now == pairs && call.pair),
            ("a new seed", before.seed != after.seed),
            ("a new seed of another period", before.seed.period != after.seed.period),
            ("a lower step, of a new seed", after.last_step < before.last_step),
        ];
        for (what, happened) in specials {
            *self.0.entry(what.to_owned()).or_default() += u32::from(happened);
        }
    }
}

/// Every answer to a sign-in and to an activation, except that an activation is for a device that is not active yet.
const ANSWERS: [&str; 18] = [
    "Expired, single",
    "Expired, pair",
    "AlreadyUsed, single",
    "AlreadyUsed, pair",
    "Disabled, single",
    "Disabled, pair",
    "NotActive, single",
    "NotActive, pair",
    "Exhausted, single",
    "Exhausted, pair",
    "two codes, for good",
    "two codes, for now",
    "pairs too fast",
    "Right, single",
    "Right, pair",
    "Replayed, single",
    "Wrong, single",
    "Wrong, pair",
];

#[test]
fn a_second_implementation_from_the_documents_decides_the_same() -> Result<(), Box<dyn std::error::Error>> {
    let own = Config {
        cases: CASES,
        rng_seed: RngSeed::Fixed(1),
        ..Config::default()
    };
    let config = contextualize_config(own);
    let RngSeed::Fixed(number) = config.rng_seed else {
        return Err("PROPTEST_RNG_SEED has to be a number".into());
    };
    let (mut cases, mut seen, mut before) = (Cases::new(number)?, Seen::default(), None);
    for _ in 0..config.cases {
        let case = cases.next(before.take()).ok_or("no case")?;
        let (policy, numbers) = &case.policy;
        let (call, device) = (call(&case), item(&case.device));
        let offered = if call.pair { "pair" } else { "single" };

        let kind = case.attempt.matches.kind();
        let admitted = admit(
            &case.device,
            case.attempt.auth_id,
            case.attempt.expires_at,
            kind,
            case.now,
            policy,
        );
        let refusal = documented::refusal(&device, &call, Purpose::SignIn, *numbers);
        assert_eq!(admitted.err().map(no), refusal, "admit: {call:?} on {device:?}");

        let sign_in = decide(&case.device, &case.attempt, case.now, policy);
        let expected = documented::answer(&device, &call, Purpose::SignIn, *numbers);
        assert_eq!(told(&sign_in), expected, "a sign-in: {call:?} on {device:?}");
        seen.answer("sign-in", offered, &expected);

        let new = seed(&case.new_seed.seed_ref, case.new_seed.parameters);
        let purpose = Purpose::Activation(&new);
        let activation = decide_activation(&case.device, &case.new_seed, &case.attempt, case.now, policy);
        let activated = documented::answer(&device, &call, purpose, *numbers);
        assert_eq!(
            told(&activation),
            activated,
            "an activation of {new:?}: {call:?} on {device:?}"
        );
        seen.answer("activation", offered, &activated);

        for answer in [&expected, &activated] {
            if let Answer::Written(_, after) = answer {
                seen.special(&call, *numbers, &device, after);
            }
        }
        before = match (sign_in, activation) {
            (Decision::Write { device, .. }, _) | (_, Decision::Write { device, .. }) => Some((case, device)),
            _ => None,
        };
    }
    // If standard error is gone, there is no one to tell.
    let _ = writeln!(std::io::stderr(), "{} cases, seed {number}: {:?}", config.cases, seen.0);
    let rare = seen.rarer_than(config.cases / RAREST);
    assert!(rare.is_empty(), "hardly tried: {rare:?}");
    Ok(())
}

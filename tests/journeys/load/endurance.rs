//! The endpoints in this process, over stores in memory that fail at random: many concurrent requests, round after
//! round, and every write accounted for. The same seed gives the same run.
//!
//! `FAULTED_OPERATIONS` sets how many requests meet a fault, `FAULTS_SEED` the seed; `tests/long-run` runs a million.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acceptance::Outcome;
use anyhow::{Context as _, Result, anyhow, ensure};
use futures_util::future::join_all;
use init_auth::InitAuth;
use serde_json::Value;
use shared::clock::{Clock as _, Timestamp};
use shared::config::{self, Environment, InitAuthConfig, Source as _, ValidateOtpConfig};
use shared::device::{Auth, Device, Status};
use shared::error::{RandomError, StoreError};
use shared::names::{AuthId, DeviceKey, DeviceName, Owner, UserName, WriteId};
use shared::otp::{Digits, OfferKind, OtpParameters, Seed, Step};
use shared::policy::Policy;
use shared::ports::{AuthStore, DeviceStore, SeedStore, Stored, Written};
use shared::random::Random;
use shared::telemetry::{RequestLine, RequestLog};
use shared::testing::clock::ManualClock;
use shared::testing::events::Event;
use shared::testing::memory::{Fault, MemoryAuths, MemoryDevices, MemorySeeds, Op};
use shared::testing::random::SequenceRandom;
use tokio::time::Instant;
use validate_otp::ValidateOtp;

use super::offer::Offer;

const CLIENT: &str = "client-one";
/// The beginning of a step.
const NOW: Timestamp = Timestamp::from_secs(1_795_575_600);
const FAULTS: [Fault; 5] = [
    Fault::Before,
    Fault::After,
    Fault::LostThenRepeated,
    Fault::Hang,
    Fault::HangAfter,
];
/// Faults before the call takes effect.
const BEFORE: [Fault; 2] = [Fault::Before, Fault::Hang];
/// The longest that a request may take. The time is the paused runtime's.
const LIMIT: Duration = Duration::from_secs(3);
/// Rounds of each device: by then its single codes are used up.
const ROUNDS: u64 = 12;

/// Randomness that a seed decides.
#[derive(Debug)]
struct Dice(SequenceRandom);

impl Dice {
    fn seeded(seed: u64) -> Self {
        Self(SequenceRandom::from_start(seed))
    }

    fn roll(&self) -> u64 {
        let bytes = self.0.sixteen_bytes().unwrap_or_default();
        u64::try_from(u128::from_be_bytes(bytes) >> 64).unwrap_or_default()
    }

    fn below(&self, end: u64) -> u64 {
        self.roll().checked_rem(end).unwrap_or_default()
    }

    fn choose<T: Copy>(&self, items: &[T]) -> Result<T> {
        let index = self.below(u64::try_from(items.len())?);
        items
            .get(usize::try_from(index)?)
            .copied()
            .context("nothing to choose from")
    }
}

/// What is recorded about one request besides its answer.
#[derive(Debug, Default)]
struct Record {
    faults: Vec<(Op, Fault)>,
    write_id: Option<WriteId>,
    reason: &'static str,
}

tokio::task_local! {
    /// The record of the request that is being answered.
    static RECORD: Arc<Mutex<Record>>;
}

fn note(act: impl FnOnce(&mut Record)) {
    RECORD.with(|record| act(&mut record.lock().unwrap_or_else(PoisonError::into_inner)));
}

/// Which calls fail, and how.
#[derive(Debug)]
struct FaultPlan {
    dice: Dice,
    /// How many of a hundred calls fail in this round, and with which faults.
    round: Mutex<(u64, &'static [Fault])>,
}

impl FaultPlan {
    /// Lets other requests run first, and may make the next call fail. Returns whether it is a write of the device whose
    /// answer is lost, to be repeated some time later, as the SDK does.
    async fn before_call(&self, op: Op, inject: impl FnOnce(Op, Fault)) -> bool {
        self.others_first(3).await;
        let (percent, faults) = *self.round.lock().unwrap_or_else(PoisonError::into_inner);
        if self.dice.below(100) >= percent {
            return false;
        }
        let Ok(fault) = self.dice.choose(faults) else {
            return false;
        };
        note(|record| record.faults.push((op, fault)));
        if (op, fault) == (Op::Replace, Fault::LostThenRepeated) {
            return true;
        }
        inject(op, fault);
        false
    }

    async fn others_first(&self, most: u64) {
        for _ in 0..self.dice.below(most) {
            tokio::task::yield_now().await;
        }
    }
}

/// A store that fails by the plan. The in-memory stores know no delay of a random length before a call.
#[derive(Debug)]
struct Faulty<S> {
    store: S,
    plan: Arc<FaultPlan>,
}

impl AuthStore for Faulty<MemoryAuths> {
    async fn create(&self, auth: &Auth) -> Result<Stored, StoreError> {
        let inject = |op, fault| self.store.inject(op, fault);
        self.plan.before_call(Op::Create, inject).await;
        self.store.create(auth).await
    }

    async fn get(&self, id: AuthId) -> Result<Option<Auth>, StoreError> {
        let inject = |op, fault| self.store.inject(op, fault);
        self.plan.before_call(Op::Get, inject).await;
        self.store.get(id).await
    }
}

impl DeviceStore for Faulty<MemoryDevices> {
    async fn get(&self, key: &DeviceKey) -> Result<Option<Device>, StoreError> {
        let inject = |op, fault| self.store.inject(op, fault);
        self.plan.before_call(Op::Get, inject).await;
        self.store.get(key).await
    }

    async fn replace(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        used_at: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        let inject = |op, fault| self.store.inject(op, fault);
        if self.plan.before_call(Op::Replace, inject).await {
            let _lost = self.store.replace(key, held, new, used_at).await;
            self.plan.others_first(12).await;
        }
        self.store.replace(key, held, new, used_at).await
    }
}

impl SeedStore for Faulty<MemorySeeds> {
    async fn get(&self, key: &DeviceKey, device: &Device) -> Result<Arc<Seed>, StoreError> {
        let inject = |op, fault| self.store.inject(op, fault);
        self.plan.before_call(Op::Get, inject).await;
        self.store.get(key, device).await
    }
}

/// Records which request drew which write id.
#[derive(Debug)]
struct NotedRandom(SequenceRandom);

impl Random for NotedRandom {
    fn sixteen_bytes(&self) -> Result<[u8; 16], RandomError> {
        let bytes = self.0.sixteen_bytes()?;
        note(|record| record.write_id = Some(WriteId::from_bytes(bytes)));
        Ok(bytes)
    }
}

/// Records why a request was answered as it was.
#[derive(Debug)]
struct NotedLog;

impl RequestLog for NotedLog {
    fn write(&self, line: &RequestLine) {
        note(|record| record.reason = line.reason);
    }
}

/// The attempts to choose from.
const OFFERS: [Offer; 12] = [
    Offer::Single(-1),
    Offer::Single(0),
    Offer::Single(0),
    Offer::Single(1),
    Offer::Pair(-2),
    Offer::Pair(-1),
    Offer::Pair(0),
    Offer::Pair(0),
    Offer::WrongSingle,
    Offer::WrongSingle,
    Offer::WrongPair,
    Offer::WrongPair,
];

/// One request and its answer.
#[derive(Debug)]
struct Reply {
    /// `None` for step 2.
    attempt: Option<(AuthId, Offer)>,
    status: u16,
    code: String,
    issued: Option<AuthId>,
    record: Record,
    took: Duration,
}

impl Reply {
    fn is_wrong(&self) -> bool {
        matches!(self.code.as_str(), "OTP_REJECTED" | "OTP_REPLAYED")
    }

    /// Whether a call failed for good, and not only until it was repeated.
    fn failed(&self) -> bool {
        self.record
            .faults
            .iter()
            .any(|(_, fault)| *fault != Fault::LostThenRepeated)
    }

    /// Whether a write of the device may have taken effect without an answer.
    fn wrote_unanswered(&self) -> bool {
        let unanswered = [Fault::After, Fault::HangAfter];
        let mut faults = self.record.faults.iter();
        faults.any(|(op, fault)| *op == Op::Replace && unanswered.contains(fault))
    }
}

/// What happened in a run.
#[derive(Default)]
struct Counts {
    devices: u64,
    requests: u64,
    with_faults: u64,
    faults: u64,
    successes: u64,
    successes_unreported: u64,
    wrong_verdicts: u64,
    counted_without_verdict: u64,
    by_code: BTreeMap<(u16, String), u64>,
    fingerprint: DefaultHasher,
}

type StepTwo = InitAuth<Faulty<MemoryAuths>, Faulty<MemoryDevices>, Arc<ManualClock>, NotedRandom, NotedLog>;
type StepThree = ValidateOtp<
    Faulty<MemoryAuths>,
    Faulty<MemoryDevices>,
    Faulty<MemorySeeds>,
    Arc<ManualClock>,
    NotedRandom,
    NotedLog,
>;

/// One device, its stores, and the endpoints that use them.
struct Run {
    dice: Dice,
    plan: Arc<FaultPlan>,
    clock: Arc<ManualClock>,
    auths: MemoryAuths,
    devices: MemoryDevices,
    key: DeviceKey,
    seed: Seed,
    step_two: StepTwo,
    step_three: StepThree,
    /// Parsed from their events once: parsing takes most of the time of a request to stores in memory.
    succeeded: HashSet<AuthId>,
}

impl Run {
    fn begin(seed: u64) -> Result<Self> {
        let dice = Dice::seeded(seed);
        let settings: BTreeMap<String, String> = [
            (config::AUTHS_TABLE, "auths"),
            (config::DEVICES_TABLE, "devices"),
            (config::SEED_PREFIX, "mfa"),
            (config::KEY_RING, "mfa-key-ring"),
            (config::DEVICE_HASH_KEY, "0123456789abcdef"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let parameters = OtpParameters {
            digits: Digits::Eight,
            ..OtpParameters::default()
        };
        let otp_seed = Seed::from_bytes(b"12345678901234567890", parameters)?;
        let (auths, devices, seeds) = (MemoryAuths::default(), MemoryDevices::default(), MemorySeeds::default());
        let key = DeviceKey {
            owner: Owner::parse(CLIENT)?,
            user: UserName::parse("demouser")?,
            device: DeviceName::parse("mydevice")?,
        };
        let seed_ref = seeds.put("mfa/seed/one", &otp_seed)?;
        // With failures in its past, so that the gates are close.
        let device = Device {
            consecutive_failures: u32::try_from(dice.below(6))?,
            budget_at: NOW.plus(Duration::from_hours(36 * dice.below(20))),
            pair_at: NOW.plus(Duration::from_secs(dice.below(60))),
            ..Device::registered(7, Status::Active, seed_ref, parameters)
        };
        devices.put(&key, &device);
        let plan = Arc::new(FaultPlan {
            dice: Dice::seeded(dice.roll()),
            round: Mutex::new((0, &FAULTS)),
        });
        let clock = Arc::new(ManualClock::at(NOW));
        let step_two = InitAuth::new(
            faulty(&auths, &plan),
            faulty(&devices, &plan),
            &InitAuthConfig::read(&settings)?,
            Arc::clone(&clock),
            NotedRandom(SequenceRandom::from_start(dice.roll())),
            NotedLog,
        );
        let step_three = ValidateOtp::new(
            faulty(&auths, &plan),
            faulty(&devices, &plan),
            faulty(&seeds, &plan),
            &ValidateOtpConfig::read(&settings)?,
            Arc::clone(&clock),
            NotedRandom(SequenceRandom::from_start(dice.roll())),
            NotedLog,
        );
        Ok(Self {
            dice,
            plan,
            clock,
            auths,
            devices,
            key,
            seed: otp_seed,
            step_two,
            step_three,
            succeeded: HashSet::new(),
        })
    }

    fn now(&self) -> Step {
        Step::at(self.clock.now(), self.seed.parameters().period)
    }

    fn code(&self, ahead: i64) -> String {
        let step = Step(self.now().0.saturating_add_signed(ahead));
        self.seed.code(step).reveal().to_owned()
    }

    /// Advances the clock to a time at which no two nearby steps have the same code, and returns a wrong code.
    fn advance(&self) -> Result<String> {
        self.clock.advance(Duration::from_secs(
            self.dice.choose(&[0, 0, 1, 30, 30, 30, 60, 60, 90, 300])?,
        ));
        loop {
            let near: HashSet<String> = (-4..=4).map(|ahead| self.code(ahead)).collect();
            if near.len() == 9 {
                let mut codes = (0..).map(|number| format!("{number:08}"));
                return codes.find(|code| !near.contains(code)).context("no wrong code");
            }
            self.clock.advance(Duration::from_secs(30));
        }
    }

    async fn start(&self) -> Result<Reply> {
        self.send(None, Event::init_auth(CLIENT)).await
    }

    async fn attempt(&self, auth_id: AuthId, offer: Offer, wrong: &str) -> Result<Reply> {
        let event = Event::validate_otp(CLIENT, &auth_id);
        let event = match offer {
            Offer::Single(step) => event.otp(&self.code(step)),
            Offer::Pair(step) => event.otps(&self.code(step), &self.code(step + 1)),
            Offer::WrongSingle => event.otp(wrong),
            // Half of it right.
            Offer::WrongPair => event.otps(wrong, &self.code(0)),
        };
        self.send(Some((auth_id, offer)), event).await
    }

    async fn send(&self, attempt: Option<(AuthId, Offer)>, event: Event) -> Result<Reply> {
        let record = Arc::default();
        let answer = async {
            match attempt {
                None => self.step_two.handle(event.payload()).await,
                Some(_) => self.step_three.handle(event.payload()).await,
            }
        };
        let started = Instant::now();
        let response = RECORD.scope(Arc::clone(&record), answer).await;
        let took = started.elapsed();
        let body: Value = serde_json::from_slice(response.body())?;
        let member = |name| body.get(name).and_then(Value::as_str);
        let record = std::mem::take(&mut *record.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Reply {
            attempt,
            status: response.status().as_u16(),
            code: member("code").unwrap_or_default().to_owned(),
            issued: member("authId").and_then(AuthId::parse),
            record,
            took,
        })
    }

    fn device(&self) -> Result<Device> {
        self.devices.peek(&self.key).context("the device is gone")
    }

    async fn rounds(mut self, counts: &mut Counts) -> Outcome {
        let mut open = Vec::new();
        for _ in 0..ROUNDS {
            let wrong = self.advance()?;
            let faults = self
                .dice
                .choose(&[&FAULTS[..], &FAULTS[..], &FAULTS[..], &BEFORE[..]])?;
            let percent = self.dice.choose(&[0, 5, 15, 15, 30, 60])?;
            *self.plan.round.lock().unwrap_or_else(PoisonError::into_inner) = (percent, faults);
            let mut attempts = Vec::new();
            for _ in 0..self.dice.choose(&[2, 4, 6, 8, 16])? {
                if let Ok(auth_id) = self.dice.choose(&open) {
                    attempts.push((auth_id, self.dice.choose(&OFFERS)?));
                }
            }
            let before = self.device()?;
            let starts = join_all((0..2).map(|_| self.start()));
            let attempts = attempts
                .iter()
                .map(|&(auth_id, offer)| self.attempt(auth_id, offer, &wrong));
            let (starts, attempts) = tokio::join!(starts, join_all(attempts));
            let replies = starts.into_iter().chain(attempts).collect::<Result<Vec<_>>>()?;
            self.check(&before, &replies, counts)?;
            open.extend(replies.iter().filter_map(|reply| reply.issued));
            open.drain(..open.len().saturating_sub(6));
        }
        Ok(())
    }

    fn check(&mut self, before: &Device, replies: &[Reply], counts: &mut Counts) -> Outcome {
        let after = self.device()?;
        for reply in replies {
            self.check_answer(reply)?;
            counts.add(reply);
        }
        let new = |write_id| before.accepted.iter().all(|entry| entry.write_id != write_id);
        let new: Vec<_> = after.accepted.iter().filter(|entry| new(entry.write_id)).collect();
        let mut last_step = before.last_step;
        for success in &new {
            ensure!(self.succeeded.insert(success.auth_id), "an authId succeeded twice");
            let writer = |reply: &&Reply| reply.record.write_id == Some(success.write_id);
            let writer = replies.iter().find(writer).context("a success that no request wrote")?;
            let Some((auth_id, Offer::Single(_) | Offer::Pair(_))) = writer.attempt else {
                return Err(anyhow!("a wrong code was accepted"));
            };
            ensure!(auth_id == success.auth_id, "a success of another authId");
            let (first, last) = self.steps(writer).context("a wrong code was accepted")?;
            ensure!(first > last_step, "a step was accepted twice");
            last_step = last;
            let reported = writer.status == 200 || writer.status == 503 && writer.wrote_unanswered();
            ensure!(reported, "a success that was not reported to its writer: {writer:?}");
            counts.successes += 1;
            counts.successes_unreported += u64::from(writer.status == 503);
        }
        ensure!(after.last_step == last_step, "a step that no success used");
        for reply in replies.iter().filter(|reply| reply.status == 200) {
            let written = new
                .iter()
                .any(|success| Some(success.write_id) == reply.record.write_id);
            ensure!(written, "a success that was not written: {reply:?}");
        }

        let counted = after.total_failures - before.total_failures;
        let writes = after.version - before.version;
        ensure!(
            writes == counted + u64::try_from(new.len())?,
            "{writes} writes, {counted} counted"
        );
        let wrong = u64::try_from(replies.iter().filter(|reply| reply.is_wrong()).count())?;
        let mut faults = replies.iter().flat_map(|reply| &reply.record.faults);
        let unsure = |(op, fault): &&(Op, Fault)| *op == Op::Replace && !BEFORE.contains(fault);
        let unsure = u64::try_from(faults.by_ref().filter(unsure).count())?;
        ensure!(wrong <= counted, "{wrong} wrong verdicts, {counted} counted");
        ensure!(
            counted <= wrong + unsure,
            "{counted} counted, {wrong} wrong verdicts, {unsure} unsure writes"
        );
        counts.wrong_verdicts += wrong;
        counts.counted_without_verdict += counted - wrong;

        let now = self.clock.now();
        let verdicts = |kind| {
            let of_kind =
                |reply: &&Reply| reply.is_wrong() && reply.attempt.is_some_and(|(_, offer)| offer.kind() == kind);
            replies.iter().filter(of_kind).count()
        };
        let policy = Policy::standard();
        let singles = match before.consecutive_failures {
            // A success opens single codes for more.
            _ if !new.is_empty() => 100,
            _ if !before.single_codes_open(now, &policy) => 0,
            failures => 5_usize.saturating_sub(usize::try_from(failures)?).max(1),
        };
        ensure!(verdicts(OfferKind::Single) <= singles, "more single codes than allowed");
        let room = now
            .plus(policy.pair_slack())
            .as_millis()
            .checked_sub(before.pair_at.max(now).as_millis());
        let pairs = room.map_or(0, |room| 1 + u128::from(room) / policy.pair_gap().as_millis());
        let pairs = usize::try_from(pairs)?;
        ensure!(verdicts(OfferKind::Pair) <= pairs, "more pairs than allowed");
        Ok(())
    }

    fn steps(&self, reply: &Reply) -> Option<(Step, Step)> {
        let step = |ahead| Step(self.now().0.saturating_add_signed(ahead));
        let (first, last) = reply.attempt?.1.steps()?;
        Some((step(first), step(last)))
    }

    fn check_answer(&self, reply: &Reply) -> Outcome {
        ensure!(reply.took < LIMIT, "it took {:?}: {reply:?}", reply.took);
        let statuses: &[u16] = match reply.attempt {
            None => &[201, 503],
            Some(_) => &[200, 409, 410, 422, 429, 503],
        };
        ensure!(statuses.contains(&reply.status), "{reply:?}");
        if reply.failed() {
            ensure!(reply.status == 503, "an answer despite a failure: {reply:?}");
        } else {
            let given_up = reply.status == 503 && reply.record.reason != "contention";
            ensure!(!given_up, "a failure without a fault: {reply:?}");
        }
        if let Some(auth_id) = reply.issued {
            ensure!(self.auths.peek(auth_id).is_some(), "an authId that was not stored");
        }
        Ok(())
    }
}

fn faulty<S: Clone>(store: &S, plan: &Arc<FaultPlan>) -> Faulty<S> {
    Faulty {
        store: store.clone(),
        plan: Arc::clone(plan),
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>9} devices", self.devices)?;
        writeln!(f, "{:>9} requests, up to 18 of them concurrent", self.requests)?;
        writeln!(
            f,
            "{:>9} of them met a fault, {} faults in all",
            self.with_faults, self.faults
        )?;
        writeln!(f, "{:>9} successes were written", self.successes)?;
        writeln!(f, "{:>9} of them were a 503 to their writer", self.successes_unreported)?;
        writeln!(f, "{:>9} wrong verdicts were given", self.wrong_verdicts)?;
        writeln!(
            f,
            "{:>9} more were counted after a lost answer",
            self.counted_without_verdict
        )?;
        for ((status, code), count) in &self.by_code {
            writeln!(f, "{count:>9} {status} {code}")?;
        }
        write!(f, "{:016x} is the fingerprint of the run", self.fingerprint.finish())
    }
}

impl Counts {
    fn add(&mut self, reply: &Reply) {
        let faults = reply.record.faults.len();
        self.requests += 1;
        self.with_faults += u64::from(faults > 0);
        self.faults += u64::try_from(faults).unwrap_or_default();
        *self.by_code.entry((reply.status, reply.code.clone())).or_default() += 1;
        (reply.status, &reply.code, &reply.record.write_id, reply.took).hash(&mut self.fingerprint);
    }
}

fn setting(name: &str, default: u64) -> Result<u64> {
    let given = Environment.get(name).map(|value| value.parse());
    Ok(given.transpose().context("not a number")?.unwrap_or(default))
}

async fn run(seed: u64, operations: u64) -> Result<Counts> {
    let (seeds, mut counts) = (Dice::seeded(seed), Counts::default());
    while counts.with_faults < operations {
        let device = seeds.roll();
        let what = || format!("FAULTS_SEED={seed}, device {device:#x}");
        Run::begin(device)?.rounds(&mut counts).await.with_context(what)?;
        counts.devices += 1;
    }
    Ok(counts)
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_every_success_is_told_nothing_is_accepted_twice_and_no_guess_is_uncounted() -> Outcome {
    let (seed, operations) = (setting("FAULTS_SEED", 1)?, setting("FAULTED_OPERATIONS", 5_000)?);
    let counts = run(seed, operations).await?;
    eprintln!("FAULTS_SEED={seed} FAULTED_OPERATIONS={operations}\n{counts}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_run() -> Outcome {
    let fingerprint = async |seed| anyhow::Ok(run(seed, 500).await?.fingerprint.finish());
    assert_eq!(fingerprint(1).await?, fingerprint(1).await?);
    assert_ne!(fingerprint(1).await?, fingerprint(2).await?);
    Ok(())
}

//! The endpoints in this process, over stores in memory that fail by a seed's chance: many requests at once, round after
//! round, every write accounted for. The same seed is the same run.
//!
//! `FAULTED_OPERATIONS` takes more, `FAULTS_SEED` others; `tests/long-run` takes a million.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acceptance::Outcome;
use anyhow::{Context as _, Result, anyhow, ensure};
use futures_util::future::join_all;
use init_auth::InitAuth;
use lambda_http::{Request, RequestExt as _};
use serde_json::{Value, json};
use shared::clock::{Clock as _, Timestamp};
use shared::config::{self, Environment, InitAuthConfig, Source as _, ValidateOtpConfig};
use shared::device::{Auth, Device, Status};
use shared::error::{RandomError, StoreError};
use shared::http::event;
use shared::names::{AuthId, ClientId, DeviceKey, DeviceName, UserName, WriteId};
use shared::otp::{Digits, OfferKind, OtpParameters, Seed, Step};
use shared::policy::Policy;
use shared::ports::{AuthStore, DeviceStore, Random, SeedStore, Stored, Written};
use shared::telemetry::{RequestLine, RequestLog};
use shared::testing::clock::ManualClock;
use shared::testing::events::Event;
use shared::testing::memory::{Fault, MemoryAuths, MemoryDevices, MemorySeeds, Op};
use shared::testing::random::SequenceRandom;
use tokio::time::Instant;
use validate_otp::ValidateOtp;

use crate::offers::Offer;

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
/// Those without an effect.
const BEFORE: [Fault; 2] = [Fault::Before, Fault::Hang];
/// The most that a request takes, in time that passes only while nothing else can.
const LIMIT: Duration = Duration::from_secs(3);
/// A device lives so many rounds: by then its single codes are used up.
const ROUNDS: u64 = 12;

/// Chance that is the same in every run.
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

    fn one_of<T: Copy>(&self, things: &[T]) -> Result<T> {
        let index = self.below(u64::try_from(things.len())?);
        things
            .get(usize::try_from(index)?)
            .copied()
            .context("nothing to choose")
    }
}

/// What is known about one request besides its answer.
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

/// How often stores fail now, of a hundred calls, and how.
#[derive(Debug)]
struct Weather {
    dice: Dice,
    now: Mutex<(u64, &'static [Fault])>,
}

impl Weather {
    /// Lets others go first, and perhaps makes the call fail that comes next. Says whether it is a write of the device
    /// whose answer is lost, to be repeated as the SDK does, some time later.
    async fn strike(&self, op: Op, inject: impl FnOnce(Op, Fault)) -> bool {
        self.others_first(3).await;
        let (percent, faults) = *self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if self.dice.below(100) >= percent {
            return false;
        }
        let Ok(fault) = self.dice.one_of(faults) else {
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

/// A store in this weather.
#[derive(Debug)]
struct Outdoors<S> {
    store: S,
    weather: Arc<Weather>,
}

impl AuthStore for Outdoors<MemoryAuths> {
    async fn create(&self, auth: &Auth) -> Result<Stored, StoreError> {
        let inject = |op, fault| self.store.inject(op, fault);
        self.weather.strike(Op::Create, inject).await;
        self.store.create(auth).await
    }

    async fn get(&self, id: AuthId) -> Result<Option<Auth>, StoreError> {
        let inject = |op, fault| self.store.inject(op, fault);
        self.weather.strike(Op::Get, inject).await;
        self.store.get(id).await
    }
}

impl DeviceStore for Outdoors<MemoryDevices> {
    async fn get(&self, key: &DeviceKey) -> Result<Option<Device>, StoreError> {
        let inject = |op, fault| self.store.inject(op, fault);
        self.weather.strike(Op::Get, inject).await;
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
        if self.weather.strike(Op::Replace, inject).await {
            let _lost = self.store.replace(key, held, new, used_at).await;
            self.weather.others_first(12).await;
        }
        self.store.replace(key, held, new, used_at).await
    }
}

impl SeedStore for Outdoors<MemorySeeds> {
    async fn get(&self, device: &Device) -> Result<Arc<Seed>, StoreError> {
        let inject = |op, fault| self.store.inject(op, fault);
        self.weather.strike(Op::Get, inject).await;
        self.store.get(device).await
    }
}

/// Notes which request drew which write id.
#[derive(Debug)]
struct NotedRandom(SequenceRandom);

impl Random for NotedRandom {
    fn sixteen_bytes(&self) -> Result<[u8; 16], RandomError> {
        let bytes = self.0.sixteen_bytes()?;
        note(|record| record.write_id = Some(WriteId::from_bytes(bytes)));
        Ok(bytes)
    }
}

/// Notes why a request was answered as it was.
#[derive(Debug)]
struct NotedLog;

impl RequestLog for NotedLog {
    fn write(&self, line: &RequestLine) {
        note(|record| record.reason = line.reason);
    }
}

/// What an attempt is drawn from.
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

/// One request, and what came of it.
#[derive(Debug)]
struct Told {
    /// None: step 2.
    attempt: Option<(AuthId, Offer)>,
    status: u16,
    code: String,
    issued: Option<AuthId>,
    record: Record,
    took: Duration,
}

impl Told {
    fn is_wrong(&self) -> bool {
        matches!(self.code.as_str(), "OTP_REJECTED" | "OTP_REPLAYED")
    }

    /// Whether a call failed for good: all do but those that are repeated.
    fn failed(&self) -> bool {
        self.record
            .faults
            .iter()
            .any(|(_, fault)| *fault != Fault::LostThenRepeated)
    }

    /// Whether a write of the device may have had an effect that nobody knew of.
    fn wrote_unseen(&self) -> bool {
        let unseen = [Fault::After, Fault::HangAfter];
        let mut faults = self.record.faults.iter();
        faults.any(|(op, fault)| *op == Op::Replace && unseen.contains(fault))
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
    successes_not_told: u64,
    wrong_verdicts: u64,
    counted_without_verdict: u64,
    by_code: BTreeMap<(u16, String), u64>,
    fingerprint: DefaultHasher,
}

type StepTwo = InitAuth<Outdoors<MemoryAuths>, Outdoors<MemoryDevices>, Arc<ManualClock>, NotedRandom, NotedLog>;
type StepThree = ValidateOtp<
    Outdoors<MemoryAuths>,
    Outdoors<MemoryDevices>,
    Outdoors<MemorySeeds>,
    Arc<ManualClock>,
    NotedRandom,
    NotedLog,
>;

/// A device and everything around it.
struct Life {
    dice: Dice,
    weather: Arc<Weather>,
    clock: Arc<ManualClock>,
    auths: MemoryAuths,
    devices: MemoryDevices,
    key: DeviceKey,
    seed: Seed,
    step_two: StepTwo,
    step_three: StepThree,
    /// Read from their events once: reading is most of the time of a request that meets only memory.
    step_two_request: Request,
    step_three_request: Request,
    succeeded: HashSet<AuthId>,
}

impl Life {
    fn begin(seed: u64) -> Result<Self> {
        let dice = Dice::seeded(seed);
        let settings: BTreeMap<String, String> = [
            (config::AUTHS_TABLE, "auths"),
            (config::DEVICES_TABLE, "devices"),
            (config::SEED_PREFIX, "mfa"),
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
            client: ClientId::parse(CLIENT)?,
            user: UserName::parse("demouser")?,
            device: DeviceName::parse("mydevice")?,
        };
        let seed_ref = seeds.put("mfa/seed/one", &otp_seed)?;
        // With a past, so that the gates are near.
        let device = Device {
            consecutive_failures: u32::try_from(dice.below(6))?,
            budget_at: NOW.plus(Duration::from_hours(36 * dice.below(20))),
            pair_at: NOW.plus(Duration::from_secs(dice.below(60))),
            ..Device::registered(7, Status::Active, seed_ref, parameters)
        };
        devices.put(&key, &device);
        let weather = Arc::new(Weather {
            dice: Dice::seeded(dice.roll()),
            now: Mutex::new((0, &FAULTS)),
        });
        let clock = Arc::new(ManualClock::at(NOW));
        let step_two = InitAuth::new(
            outdoors(&auths, &weather),
            outdoors(&devices, &weather),
            &InitAuthConfig::read(&settings)?,
            Arc::clone(&clock),
            NotedRandom(SequenceRandom::from_start(dice.roll())),
            NotedLog,
        );
        let step_three = ValidateOtp::new(
            outdoors(&auths, &weather),
            outdoors(&devices, &weather),
            outdoors(&seeds, &weather),
            &ValidateOtpConfig::read(&settings)?,
            Arc::clone(&clock),
            NotedRandom(SequenceRandom::from_start(dice.roll())),
            NotedLog,
        );
        Ok(Self {
            dice,
            weather,
            clock,
            auths,
            devices,
            key,
            seed: otp_seed,
            step_two,
            step_three,
            step_two_request: event::request(&Event::init_auth(CLIENT).json()),
            step_three_request: event::request(&Event::validate_otp(CLIENT, "").json()),
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

    /// Moves on, to a time whose steps near now all have codes of their own.
    fn move_on(&self) -> Result<String> {
        self.clock.advance(Duration::from_secs(
            self.dice.one_of(&[0, 0, 1, 30, 30, 30, 60, 60, 90, 300])?,
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

    async fn start(&self) -> Result<Told> {
        self.told(None, self.step_two_request.clone()).await
    }

    async fn attempt(&self, auth_id: AuthId, offer: Offer, wrong: &str) -> Result<Told> {
        let body = match offer {
            Offer::Single(step) => json!({ "otp": self.code(step) }),
            Offer::Pair(step) => json!({ "otps": [self.code(step), self.code(step + 1)] }),
            Offer::WrongSingle => json!({ "otp": wrong }),
            // Half of it right.
            Offer::WrongPair => json!({ "otps": [wrong, &self.code(0)] }),
        };
        let path = HashMap::from([("authId".to_owned(), auth_id.to_string())]);
        let mut request = self.step_three_request.clone().with_path_parameters(path);
        *request.body_mut() = body.to_string().into();
        self.told(Some((auth_id, offer)), request).await
    }

    async fn told(&self, attempt: Option<(AuthId, Offer)>, request: Request) -> Result<Told> {
        let record = Arc::default();
        let answer = async {
            match attempt {
                None => self.step_two.handle(request).await,
                Some(_) => self.step_three.handle(request).await,
            }
        };
        let started = Instant::now();
        let response = RECORD.scope(Arc::clone(&record), answer).await;
        let took = started.elapsed();
        let body: Value = serde_json::from_slice(response.body())?;
        let member = |name| body.get(name).and_then(Value::as_str);
        let record = std::mem::take(&mut *record.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Told {
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

    async fn live(mut self, counts: &mut Counts) -> Outcome {
        let mut open = Vec::new();
        for _ in 0..ROUNDS {
            let wrong = self.move_on()?;
            let faults = self
                .dice
                .one_of(&[&FAULTS[..], &FAULTS[..], &FAULTS[..], &BEFORE[..]])?;
            let percent = self.dice.one_of(&[0, 5, 15, 15, 30, 60])?;
            *self.weather.now.lock().unwrap_or_else(PoisonError::into_inner) = (percent, faults);
            let mut attempts = Vec::new();
            for _ in 0..self.dice.one_of(&[2, 4, 6, 8, 16])? {
                if let Ok(auth_id) = self.dice.one_of(&open) {
                    attempts.push((auth_id, self.dice.one_of(&OFFERS)?));
                }
            }
            let before = self.device()?;
            let starts = join_all((0..2).map(|_| self.start()));
            let attempts = attempts
                .iter()
                .map(|&(auth_id, offer)| self.attempt(auth_id, offer, &wrong));
            let (starts, attempts) = tokio::join!(starts, join_all(attempts));
            let told = starts.into_iter().chain(attempts).collect::<Result<Vec<_>>>()?;
            self.check(&before, &told, counts)?;
            open.extend(told.iter().filter_map(|told| told.issued));
            open.drain(..open.len().saturating_sub(6));
        }
        Ok(())
    }

    fn check(&mut self, before: &Device, told: &[Told], counts: &mut Counts) -> Outcome {
        let after = self.device()?;
        for told in told {
            self.check_answer(told)?;
            counts.add(told);
        }
        let new = |write_id| before.accepted.iter().all(|entry| entry.write_id != write_id);
        let new: Vec<_> = after.accepted.iter().filter(|entry| new(entry.write_id)).collect();
        let mut last_step = before.last_step;
        for success in &new {
            ensure!(self.succeeded.insert(success.auth_id), "an authId succeeded twice");
            let writer = |told: &&Told| told.record.write_id == Some(success.write_id);
            let writer = told.iter().find(writer).context("a success that nobody wrote")?;
            let Some((auth_id, Offer::Single(_) | Offer::Pair(_))) = writer.attempt else {
                return Err(anyhow!("a wrong code was accepted"));
            };
            ensure!(auth_id == success.auth_id, "a success of another authId");
            let (first, last) = self.steps(writer).context("a wrong code was accepted")?;
            ensure!(first > last_step, "a step was accepted twice");
            last_step = last;
            let reported = writer.status == 200 || writer.status == 503 && writer.wrote_unseen();
            ensure!(reported, "a success that its writer was not told: {writer:?}");
            counts.successes += 1;
            counts.successes_not_told += u64::from(writer.status == 503);
        }
        ensure!(after.last_step == last_step, "a step that no success used");
        for told in told.iter().filter(|told| told.status == 200) {
            let written = new.iter().any(|success| Some(success.write_id) == told.record.write_id);
            ensure!(written, "a success that was not written: {told:?}");
        }

        let counted = after.total_failures - before.total_failures;
        let writes = after.version - before.version;
        ensure!(
            writes == counted + u64::try_from(new.len())?,
            "{writes} writes, {counted} counted"
        );
        let wrong = u64::try_from(told.iter().filter(|told| told.is_wrong()).count())?;
        let mut faults = told.iter().flat_map(|told| &told.record.faults);
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
            let of_kind = |told: &&Told| told.is_wrong() && told.attempt.is_some_and(|(_, offer)| offer.kind() == kind);
            told.iter().filter(of_kind).count()
        };
        let policy = Policy::standard();
        let singles = match before.consecutive_failures {
            // A success opens the way for more.
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

    fn steps(&self, told: &Told) -> Option<(Step, Step)> {
        let step = |ahead| Step(self.now().0.saturating_add_signed(ahead));
        let (first, last) = told.attempt?.1.steps()?;
        Some((step(first), step(last)))
    }

    fn check_answer(&self, told: &Told) -> Outcome {
        ensure!(told.took < LIMIT, "it took {:?}: {told:?}", told.took);
        let statuses: &[u16] = match told.attempt {
            None => &[201, 503],
            Some(_) => &[200, 409, 410, 422, 429, 503],
        };
        ensure!(statuses.contains(&told.status), "{told:?}");
        if told.failed() {
            ensure!(told.status == 503, "an answer in spite of a failure: {told:?}");
        } else {
            let given_up = told.status == 503 && told.record.reason != "contention";
            ensure!(!given_up, "a failure without a fault: {told:?}");
        }
        if let Some(auth_id) = told.issued {
            ensure!(self.auths.peek(auth_id).is_some(), "an authId that was not stored");
        }
        Ok(())
    }
}

fn outdoors<S: Clone>(store: &S, weather: &Arc<Weather>) -> Outdoors<S> {
    Outdoors {
        store: store.clone(),
        weather: Arc::clone(weather),
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>9} devices", self.devices)?;
        writeln!(f, "{:>9} requests, each one of up to 18 at once", self.requests)?;
        writeln!(
            f,
            "{:>9} of them met a fault, {} faults in all",
            self.with_faults, self.faults
        )?;
        writeln!(f, "{:>9} successes were written", self.successes)?;
        writeln!(f, "{:>9} of them were a 503 to their writer", self.successes_not_told)?;
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
    fn add(&mut self, told: &Told) {
        let faults = told.record.faults.len();
        self.requests += 1;
        self.with_faults += u64::from(faults > 0);
        self.faults += u64::try_from(faults).unwrap_or_default();
        *self.by_code.entry((told.status, told.code.clone())).or_default() += 1;
        (told.status, &told.code, &told.record.write_id, told.took).hash(&mut self.fingerprint);
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
        Life::begin(device)?.live(&mut counts).await.with_context(what)?;
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

//! The service under load, in steps of virtual time: the gateway's throttles, Lambda's environments with the seeds in their
//! memory, the calls of both steps to the stores with the SDK's repetitions, and the quotas of AWS.
//!
//! Arrivals are drawn. Whatever happens to the requests of one instant is their expected value, a fraction of them, so that
//! 50,000 a second cost no more than ten. No I/O and no clock.

use std::collections::{BTreeMap, VecDeque};

use shared::sealed::SeedStorage;

/// Seconds of one step.
const TICK: f64 = 0.005;

// ---- Assumptions ----
/// Ticks from an event to the first call of a store: the functions' own computing at 256 MB. docs/performance.md measured
/// 6 and 7.5 ms for whole calls on a whole processor; with the calls below a step takes the 15 ms that docs/operations.md
/// calculates with.
const OWN_TICKS: usize = 1;
/// Ticks more for a new environment: INIT is 10 ms in docs/performance.md, the rest is Lambda's.
const COLD_TICKS: usize = 40;
/// How long both steps of an authentication take, one of them in a new environment.
pub(super) const SECONDS_AT_START: f64 = 0.25;
/// Ticks that a call takes, and how many of the calls: means of 6 and 17 ms.
const DYNAMODB: [(usize, f64); 4] = [(1, 0.93), (2, 0.05), (5, 0.015), (10, 0.005)];
const SECRETS_MANAGER: [(usize, f64); 4] = [(2, 0.6), (4, 0.3), (8, 0.08), (20, 0.02)];
/// Ticks from the answer of step 2 to the code of step 3.
const TYPING_TICKS: usize = 2_000;
/// Within this time a table whose capacity is used up gets twice as much (`DynamoDB`, its page on warm
/// throughput: double the previous peak within 30 minutes). Grown evenly; in practice it may be faster.
const DOUBLING_SECONDS: f64 = 1_800.0;

// ---- The code of this service ----
/// `shared::aws::sdk`: three tries; the first repetition after up to 25 ms, the second after up to 50.
const BACKOFF_TICKS: [usize; 2] = [5, 10];
/// `shared::aws::seeds`, and the default of `SeedCacheSeconds`.
const MOST_CACHED: f64 = 1_000.0;
pub(super) const CACHE_SECONDS: f64 = 300.0;

// ---- Fixed quotas of AWS ----
/// New environments of a function: 1,000 at once and 100 a second, each also for ten requests a second (Lambda, "Lambda
/// scaling behavior").
pub(super) const NEW_AT_ONCE: f64 = 1_000.0;
pub(super) const NEW_PER_SECOND: f64 = 100.0;
/// Requests a second for each concurrent execution of the quota (Lambda, "Lambda quotas", synchronous invocation; read in
/// summaries of that page, and "Lambda scaling behavior" has the same ratio).
pub(super) const REQUESTS_PER_EXECUTION: f64 = 10.0;

/// What may refuse an authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Limit {
    Tokens,
    Method,
    Account,
    Requests,
    Executions,
    Scaling,
    WarmTable,
    Table,
    SecretReads,
}

/// What account and stack allow, per second unless it says otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quotas {
    pub(super) tokens: f64,
    /// Each method: `RequestsPerSecond`, `RequestBurst`.
    pub(super) method: f64,
    pub(super) method_burst: f64,
    pub(super) account: f64,
    pub(super) account_burst: f64,
    /// Concurrent executions of all functions, at any time.
    pub(super) executions: f64,
    /// What a table can do at once.
    pub(super) warm_writes: f64,
    pub(super) warm_reads: f64,
    /// What a table may ever do, reads and writes each.
    pub(super) table: f64,
    pub(super) secret_reads: f64,
}

impl Quotas {
    pub(super) const DEFAULT: Self = Self {
        tokens: 150.0, // Cognito, "Quotas in Amazon Cognito", ClientAuthentication; the number is not confirmed
        method: 100.0, // template.yaml
        method_burst: 200.0, // template.yaml
        account: 10_000.0, // API Gateway, "Amazon API Gateway quotas"; 2,500 in some regions
        account_burst: 5_000.0, // the same; AWS sets it, half of the rate
        executions: 1_000.0, // Lambda, "Lambda quotas"; fewer in new accounts
        warm_writes: 4_000.0, // DynamoDB, "DynamoDB on-demand capacity mode"
        warm_reads: 12_000.0, // the same
        table: 40_000.0, // DynamoDB, "Quotas in Amazon DynamoDB"
        secret_reads: 10_000.0, // Secrets Manager, "AWS Secrets Manager quotas": with DescribeSecret, not adjustable
    };
    /// The concurrent executions of some new accounts. AWS says "reduced"; the number is not confirmed.
    pub(super) const NEW_ACCOUNT: Self = Self {
        executions: 10.0,
        ..Self::DEFAULT
    };
}

/// Who signs in, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Authentications a second, from [`Load::ramp`] seconds after the first.
    pub(super) rate: f64,
    pub(super) ramp: f64,
    pub(super) seconds: f64,
    pub(super) devices: f64,
    pub(super) seeds: SeedStorage,
    /// Whether applications get a token for each authentication instead of one an hour.
    pub(super) token_each: bool,
}

/// What became of the authentications.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) arrived: f64,
    pub(super) served: f64,
    pub(super) refused: BTreeMap<Limit, f64>,
    /// Those served in each second.
    pub(super) per_second: Vec<f64>,
    /// Environments of `validate-otp`.
    pub(super) environments: f64,
    /// Answers in the last third of the time, and those of them that had the seed in memory.
    answers: f64,
    found: f64,
}

impl Report {
    pub(super) fn refused_share(&self) -> f64 {
        self.refused.values().sum::<f64>() / self.arrived.max(1.0)
    }

    /// The limit that refused most.
    pub(super) fn worst(&self) -> Option<Limit> {
        let worst = self.refused.iter().max_by(|one, other| one.1.total_cmp(other.1));
        worst.map(|(limit, _)| *limit)
    }

    /// How often a seed was in memory.
    pub(super) fn hit_share(&self) -> f64 {
        self.found / self.answers.max(f64::MIN_POSITIVE)
    }

    fn refuse(&mut self, limit: Limit, amount: f64) {
        if amount > 0.0 {
            *self.refused.entry(limit).or_default() += amount;
        }
    }
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    capacity: f64,
    tokens: f64,
}

impl Bucket {
    const fn full(rate: f64, capacity: f64) -> Self {
        Self {
            rate,
            capacity,
            tokens: capacity,
        }
    }

    /// One with what a second brings, for the quotas whose burst AWS does not state.
    const fn of_a_second(rate: f64) -> Self {
        Self::full(rate, rate)
    }

    fn refill(&mut self) {
        self.tokens = self.capacity.min(self.tokens + self.rate * TICK);
    }

    fn take(&mut self, wanted: f64) -> f64 {
        let granted = wanted.min(self.tokens);
        self.tokens -= granted;
        granted
    }

    /// The part of two demands that it has for both.
    fn share(&mut self, wanted: [f64; 2]) -> [f64; 2] {
        let all = wanted.iter().sum::<f64>();
        let part = if all > 0.0 { self.take(all) / all } else { 0.0 };
        wanted.map(|amount| amount * part)
    }
}

/// Reads or writes of a table.
#[derive(Debug)]
struct Throughput {
    now: Bucket,
    most: f64,
}

impl Throughput {
    const fn new(warm: f64, most: f64) -> Self {
        Self {
            now: Bucket::of_a_second(warm.min(most)),
            most,
        }
    }

    fn take(&mut self, wanted: f64) -> (f64, Limit) {
        let granted = self.now.take(wanted);
        if self.now.rate >= self.most {
            return (granted, Limit::Table);
        }
        if granted < wanted {
            let grown = self.now.rate * (TICK / DOUBLING_SECONDS).exp2();
            self.now.rate = grown.min(self.most);
            self.now.capacity = self.now.rate;
        }
        (granted, Limit::WarmTable)
    }
}

/// The environments of one function.
#[derive(Debug)]
struct Function {
    environments: f64,
    busy: f64,
    /// What Lambda has scaled to: environments, or tens of requests a second, whichever is more.
    units: f64,
    requests: f64,
    growth: Bucket,
}

impl Function {
    const fn new() -> Self {
        Self {
            environments: 0.0,
            busy: 0.0,
            units: 0.0,
            requests: 0.0,
            growth: Bucket::full(NEW_PER_SECOND, NEW_AT_ONCE),
        }
    }

    fn refill(&mut self) {
        self.growth.refill();
        let a_second = self.units * REQUESTS_PER_EXECUTION;
        self.requests = a_second.min(self.requests + a_second * TICK);
    }

    fn grow(&mut self, wanted: f64) {
        let grown = self.growth.take(wanted.max(0.0));
        self.units += grown;
        self.requests += grown * REQUESTS_PER_EXECUTION;
    }

    /// How many of the requests find an environment, and how many get a new one.
    fn admit(&mut self, wanted: f64) -> [f64; 2] {
        self.grow((wanted - self.requests) / REQUESTS_PER_EXECUTION);
        let admitted = wanted.min(self.requests);
        let idle = self.environments - self.busy;
        let wanted_new = (admitted - idle).max(0.0);
        self.grow(wanted_new - (self.units - self.environments));
        let new = wanted_new.min(self.units - self.environments);
        let found = admitted - wanted_new;
        self.requests -= found + new;
        self.environments += new;
        self.busy += found + new;
        [found, new]
    }
}

/// The calls of the stores in their order, and the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    ReadDevice,
    WriteAuth,
    Started,
    ReadAuth,
    ReadSeed,
    WriteDevice,
    Answered,
}

#[derive(Debug)]
struct Service {
    load: Load,
    report: Report,
    tokens: Bucket,
    methods: [Bucket; 2],
    account: Bucket,
    requests: Bucket,
    executions: f64,
    start: Function,
    answer: Function,
    read_device: Throughput,
    write_device: Throughput,
    read_auth: Throughput,
    write_auth: Throughput,
    read_seed: Bucket,
    /// Seeds in the memory of all environments together.
    in_memory: f64,
    /// What happens in each of the next ticks: calls, by how often they were refused.
    due: VecDeque<BTreeMap<(Call, usize), f64>>,
    typing: VecDeque<f64>,
}

/// Lets the authentications of a load arrive and waits for the last of them.
pub(super) fn run(quotas: &Quotas, load: Load) -> Report {
    let method = || Bucket::full(quotas.method, quotas.method_burst);
    let reads = || Throughput::new(quotas.warm_reads, quotas.table);
    let writes = || Throughput::new(quotas.warm_writes, quotas.table);
    let mut service = Service {
        load,
        report: Report::default(),
        tokens: Bucket::of_a_second(quotas.tokens),
        methods: [method(), method()],
        account: Bucket::full(quotas.account, quotas.account_burst),
        requests: Bucket::of_a_second(quotas.executions * REQUESTS_PER_EXECUTION),
        executions: quotas.executions,
        start: Function::new(),
        answer: Function::new(),
        read_device: reads(),
        write_device: writes(),
        read_auth: reads(),
        write_auth: writes(),
        read_seed: Bucket::of_a_second(quotas.secret_reads),
        in_memory: 0.0,
        due: VecDeque::from(vec![BTreeMap::new(); 64]),
        typing: VecDeque::from(vec![0.0; TYPING_TICKS]),
    };
    let mut random = fastrand::Rng::with_seed(1);
    let mut time = 0.0;
    while time < load.seconds {
        let rate = load.rate * (time / load.ramp.max(TICK)).min(1.0);
        service.tick(time, poisson(&mut random, rate * TICK));
        time += TICK;
    }
    while service.has_work() {
        service.tick(time, 0.0);
        time += TICK;
    }
    service.report.environments = service.answer.environments;
    service.report
}

impl Service {
    fn has_work(&self) -> bool {
        self.typing.iter().any(|amount| *amount > 0.0) || self.due.iter().any(|calls| !calls.is_empty())
    }

    fn tick(&mut self, time: f64, arrivals: f64) {
        self.refill();
        self.report.arrived += arrivals;
        let mut started = arrivals;
        if self.load.token_each {
            started = self.tokens.take(arrivals);
            self.report.refuse(Limit::Tokens, arrivals - started);
        }
        let answers = self.typing.pop_front().unwrap_or_default();
        self.typing.push_back(0.0);
        let due = self.due.pop_front().unwrap_or_default();
        self.due.push_back(BTreeMap::new());
        let passed = self.pass_gateway([started, answers]);
        self.invoke(passed);
        let served = self.report.served;
        for ((call, tries), amount) in due {
            self.make(call, tries, amount, time);
        }
        if time < self.load.seconds {
            let second = self.report.per_second.len();
            #[expect(clippy::cast_precision_loss, reason = "a number of seconds")]
            if time >= second as f64 {
                self.report.per_second.push(0.0);
            }
            if let Some(last) = self.report.per_second.last_mut() {
                *last += self.report.served - served;
            }
        }
    }

    fn refill(&mut self) {
        self.methods.iter_mut().for_each(Bucket::refill);
        for bucket in [
            &mut self.tokens,
            &mut self.account,
            &mut self.requests,
            &mut self.read_seed,
        ] {
            bucket.refill();
        }
        for table in [
            &mut self.read_device,
            &mut self.write_device,
            &mut self.read_auth,
            &mut self.write_auth,
        ] {
            table.now.refill();
        }
        self.start.refill();
        self.answer.refill();
        self.in_memory -= self.in_memory * TICK / CACHE_SECONDS;
    }

    fn pass_gateway(&mut self, wanted: [f64; 2]) -> [f64; 2] {
        let [start, answer] = &mut self.methods;
        let by_method = [start.take(wanted[0]), answer.take(wanted[1])];
        let by_account = self.account.share(by_method);
        let total = |amounts: [f64; 2]| amounts.iter().sum::<f64>();
        self.report.refuse(Limit::Method, total(wanted) - total(by_method));
        self.report.refuse(Limit::Account, total(by_method) - total(by_account));
        by_account
    }

    fn invoke(&mut self, wanted: [f64; 2]) {
        let admitted = self.requests.share(wanted);
        self.report.refuse(
            Limit::Requests,
            wanted.iter().sum::<f64>() - admitted.iter().sum::<f64>(),
        );
        let mut free = (self.executions - self.start.busy - self.answer.busy).max(0.0);
        for (wanted, first) in admitted.into_iter().zip([Call::ReadDevice, Call::ReadAuth]) {
            let fitting = wanted.min(free);
            self.report.refuse(Limit::Executions, wanted - fitting);
            free -= fitting;
            let [found, new] = self.function_of(first).admit(fitting);
            self.report.refuse(Limit::Scaling, fitting - found - new);
            self.schedule(OWN_TICKS, (first, 0), found);
            self.schedule(OWN_TICKS + COLD_TICKS, (first, 0), new);
        }
    }

    const fn function_of(&mut self, call: Call) -> &mut Function {
        match call {
            Call::ReadDevice | Call::WriteAuth | Call::Started => &mut self.start,
            Call::ReadAuth | Call::ReadSeed | Call::WriteDevice | Call::Answered => &mut self.answer,
        }
    }

    fn schedule(&mut self, ticks: usize, call: (Call, usize), amount: f64) {
        if amount > 0.0
            && let Some(calls) = self.due.get_mut(ticks - 1)
        {
            *calls.entry(call).or_default() += amount;
        }
    }

    fn schedule_all(&mut self, ticks: &[(usize, f64)], call: Call, amount: f64) {
        for (ticks, share) in ticks {
            self.schedule(*ticks, (call, 0), amount * share);
        }
    }

    /// A call, and what comes after it.
    fn make(&mut self, call: Call, tries: usize, wanted: f64, time: f64) {
        let (granted, limit) = match call {
            Call::ReadDevice => self.read_device.take(wanted),
            Call::WriteAuth => self.write_auth.take(wanted),
            Call::ReadAuth => self.read_auth.take(wanted),
            Call::ReadSeed => (self.read_seed.take(wanted), Limit::SecretReads),
            Call::WriteDevice => self.write_device.take(wanted),
            Call::Started => {
                self.start.busy -= wanted;
                if let Some(last) = self.typing.back_mut() {
                    *last += wanted;
                }
                return;
            }
            Call::Answered => {
                self.answer.busy -= wanted;
                self.report.served += wanted;
                return;
            }
        };
        match call {
            Call::ReadDevice => self.schedule_all(&DYNAMODB, Call::WriteAuth, granted),
            Call::WriteAuth => self.schedule_all(&DYNAMODB, Call::Started, granted),
            Call::ReadAuth => {
                let found = granted * self.found_share();
                if time > self.load.seconds * 2.0 / 3.0 {
                    self.report.answers += granted;
                    self.report.found += found;
                }
                self.schedule_all(&DYNAMODB, Call::WriteDevice, found);
                self.schedule_all(&DYNAMODB, Call::ReadSeed, granted - found);
            }
            Call::ReadSeed => {
                self.in_memory = (self.in_memory + granted).min(MOST_CACHED * self.answer.environments);
                self.schedule_all(&SECRETS_MANAGER, Call::WriteDevice, granted);
            }
            Call::WriteDevice => self.schedule_all(&DYNAMODB, Call::Answered, granted),
            Call::Started | Call::Answered => {}
        }
        let refused = wanted - granted;
        if let Some(most) = BACKOFF_TICKS.get(tries) {
            #[expect(clippy::cast_precision_loss, reason = "a few ticks")]
            let each = refused / *most as f64;
            (1..=*most).for_each(|ticks| self.schedule(ticks, (call, tries + 1), each));
        } else {
            self.function_of(call).busy -= refused;
            self.report.refuse(limit, refused);
        }
    }

    /// How many of the seeds are in memory: devices sign in in any order, and their requests find any environment.
    fn found_share(&self) -> f64 {
        match self.load.seeds {
            SeedStorage::Sealed => 1.0,
            SeedStorage::Secrets => (self.in_memory / (self.answer.environments.max(1.0) * self.load.devices)).min(1.0),
        }
    }
}

/// How many arrive: a Poisson distribution, beyond 30 as good as a normal one.
fn poisson(random: &mut fastrand::Rng, mean: f64) -> f64 {
    if mean > 30.0 {
        let angle = std::f64::consts::TAU * random.f64();
        let deviation = (-2.0 * (1.0 - random.f64()).ln()).sqrt() * angle.cos();
        return (mean + mean.sqrt() * deviation).round().max(0.0);
    }
    let (least, mut product, mut number) = ((-mean).exp(), random.f64(), 0.0);
    while product > least {
        product *= random.f64();
        number += 1.0;
    }
    number
}

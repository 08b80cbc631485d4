//! `cargo run -p bench -- load`: the local stack, built in release mode and with 100,000 devices, under wrk. Writes the tables
//! under "Load" in docs/performance.md.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;
use shared::clock::{Clock as _, SystemClock};
use shared::names::Owner;
use shared::otp::{OtpParameters, Step};
use shared::random::{Random as _, SystemRandom};
use shared::sealed::SeedStorage;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::process::{memory_kib, signal};
use crate::report::{number, replace, tenths, when_and_where};
use crate::subjects::{cargo_build, which};
use crate::world::Stores;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/load.lua");
const DEVICES: usize = 100_000;
/// Fewer than the functions keep seeds in memory.
const FEW: usize = 900;
const WRITERS: usize = 16;
const CONNECTIONS: [usize; 5] = [1, 4, 16, 64, 256];
/// With as many connections as keep both processors of a small machine busy.
const USUAL: usize = 16;
const STEP_2: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_mins(10);
/// Longer than anything here takes if it goes on.
const PATIENCE: Duration = Duration::from_mins(15);

/// Starts the stack, fills it, and measures it.
pub(crate) async fn run() -> Result<()> {
    let built = cargo_build(&["local"])?;
    let program = built.get("local").context("cargo did not build local")?;
    let folder = tempfile::tempdir()?;
    let seed = SystemRandom.sixteen_bytes()?;
    let mut stack = Local::start(program, &folder, seed).await?;

    crate::say("devices");
    let started = SystemClock.now();
    stack.register("secret-", DEVICES, SeedStorage::Secrets).await?;
    stack.register("sealed-", FEW, SeedStorage::Sealed).await?;
    let filled_in = Duration::from_millis(SystemClock.now().as_millis() - started.as_millis());

    let mut by_connections = Vec::new();
    // A code counts once for each device, so each turn has its own.
    let each = DEVICES / CONNECTIONS.len();
    for (turn, connections) in CONNECTIONS.into_iter().enumerate() {
        crate::say(&format!("{connections} connections"));
        let users = users("secret-", turn * each, (turn + 1) * each);
        let start = stack.wrk(Mode::Start, users, connections, STEP_2, each).await?;
        let validate = stack.validate(users, connections, 0).await?;
        by_connections.push((connections, start, validate));
    }
    crate::say("seeds in memory, and not");
    // Nothing is in memory after a start.
    stack.stop()?;
    stack = Local::start(program, &folder, seed).await?;
    let by_seed = by_seed(&stack).await?;
    crate::say("ten minutes");
    let (long, memory_kib) = stack.for_long().await?;
    let results = Results {
        filled_in,
        by_connections,
        by_seed,
        long,
        memory_kib,
    };
    replace("docs/performance.md", " -- load", &results.to_string())
}

/// Step 3 by where the seed is, just after a start.
async fn by_seed(stack: &Local) -> Result<Vec<(&'static str, Answers)>> {
    let (few, others) = (users("secret-", 0, FEW), users("secret-", FEW, 2 * FEW));
    let mut measured = Vec::new();
    // The same devices, with a code of a later step each time. After the second beginning, the code before is new as well.
    stack.begin_of_step().await?;
    stack.begin_of_step().await?;
    for (what, users, steps_later) in [
        ("read: it was not in memory", few, -1),
        ("in memory", few, 0),
        ("in memory, again", few, 1),
        ("read, and another one left memory for it", others, 0),
        ("sealed beside the device", users("sealed-", 0, FEW), 0),
    ] {
        stack.wrk(Mode::Start, users, USUAL, PATIENCE, FEW).await?;
        measured.push((what, stack.validate(users, USUAL, steps_later).await?));
    }
    Ok(measured)
}

/// A range of users.
#[derive(Debug, Clone, Copy)]
struct Users {
    prefix: &'static str,
    first: usize,
    end: usize,
}

const fn users(prefix: &'static str, first: usize, end: usize) -> Users {
    Users { prefix, first, end }
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    /// Step 2; leaves the authIds in a file.
    Start,
    /// Step 3 with these authIds.
    Validate,
    /// Step 3 with every authId as soon as it is there.
    Both,
}

/// What wrk reports.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Answers {
    requests: u64,
    errors: u64,
    microseconds: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

struct Results {
    filled_in: Duration,
    by_connections: Vec<(usize, Answers, Answers)>,
    by_seed: Vec<(&'static str, Answers)>,
    long: Answers,
    memory_kib: Vec<u64>,
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}. {DEVICES} devices with a secret each, stored in {} s; no answer was unexpected.\n",
            when_and_where(),
            self.filled_in.as_secs()
        )?;
        writeln!(f, "| connections | step 2 | | step 3 | |\n|---|---|---|---|---|")?;
        for (connections, start, validate) in &self.by_connections {
            let (start_rate, validate_rate) = (start.a_second(), validate.a_second());
            writeln!(
                f,
                "| {connections} | {start_rate} a second | {start} | {validate_rate} a second | {validate} |"
            )?;
        }
        writeln!(
            f,
            "\n| step 3 with {USUAL} connections, {FEW} calls; the seed was | |\n|---|---|"
        )?;
        for (what, answers) in &self.by_seed {
            writeln!(f, "| {what} | {answers} |")?;
        }
        let minutes = self.long.microseconds / 60_000_000;
        write!(
            f,
            "\n**{minutes} minutes** with {USUAL} connections, a step 3 for every step 2: {} requests, {} a second, {}. Memory of the \
             process, stores included, at the beginning and after each minute: ",
            self.long.requests,
            self.long.a_second(),
            self.long
        )?;
        let memory: Vec<String> = self.memory_kib.iter().map(|kib| tenths(*kib, 1_024)).collect();
        write!(f, "{} MiB.", memory.join(", "))
    }
}

impl Answers {
    fn a_second(&self) -> u64 {
        (self.requests * 1_000_000)
            .checked_div(self.microseconds)
            .unwrap_or_default()
    }
}

/// Latencies.
impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, max] = [self.p50, self.p90, self.p99, self.max]
            .map(Duration::from_micros)
            .map(number);
        write!(f, "{p50} ms, p90 {p90}, p99 {p99}, longest {max}")
    }
}

/// The local stack as a process, with its files in a folder.
struct Local {
    child: Child,
    folder: PathBuf,
    api_path: String,
    origin: String,
    stores: Arc<Stores>,
}

impl Local {
    async fn start(program: &Path, folder: &TempDir, seed: [u8; 16]) -> Result<Self> {
        let folder = folder.path().to_owned();
        let child = Command::new(program)
            .args(["--port", "0", "--data-dir", "data"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let description = folder.join(".local/stack.json");
        timeout(PATIENCE, until(|| description.exists()))
            .await
            .context("the local stack does not start")?;
        let description: Value = serde_json::from_slice(&fs::read(description)?)?;
        let text = |pointer: &str| {
            let found = description.pointer(pointer).and_then(Value::as_str);
            anyhow::Ok(
                found
                    .with_context(|| format!("no {pointer} in .local/stack.json"))?
                    .to_owned(),
            )
        };
        let client = text("/clients/0/clientId")?;
        let grant = [("grant_type", "client_credentials"), ("scope", "mfa/authenticate")];
        let http = reqwest::Client::builder().no_proxy().build()?;
        let request = http.post(text("/tokenUrl")?).form(&grant);
        let request = request.basic_auth(&client, Some(text("/clients/0/clientSecret")?));
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        let token = answer.get("access_token").and_then(Value::as_str).context("no token")?;
        fs::write(folder.join("token"), token)?;

        let mut environment: BTreeMap<String, String> = BTreeMap::new();
        for line in fs::read_to_string(folder.join(".local/env"))?.lines() {
            if let Some((name, value)) = line.split_once('=') {
                environment.insert(name.to_owned(), value.to_owned());
            }
        }
        let api = reqwest::Url::parse(&text("/apiUrl")?)?;
        Ok(Self {
            child,
            folder,
            api_path: api.path().to_owned(),
            origin: api.origin().ascii_serialization(),
            stores: Arc::new(Stores::open(&environment, Owner::parse(&client)?, seed).await?),
        })
    }

    fn stop(&mut self) -> Result<()> {
        signal(self.child.id(), Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    async fn register(&self, prefix: &'static str, devices: usize, storage: SeedStorage) -> Result<()> {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let stores = Arc::clone(&self.stores);
            writers.spawn(async move {
                for number in (writer..devices).step_by(WRITERS) {
                    stores.register(&format!("{prefix}{number}"), storage).await?;
                }
                anyhow::Ok(())
            });
        }
        writers.join_all().await.into_iter().collect()
    }

    /// Waits until the current step has most of its time left.
    async fn begin_of_step(&self) -> Result<()> {
        let period = OtpParameters::default().period;
        let now = Step::at(SystemClock.now(), period);
        timeout(PATIENCE, until(|| Step::at(SystemClock.now(), period) != now))
            .await
            .context("the clock stands still")
    }

    /// Step 3 with the authIds of step 2, until there are none left.
    async fn validate(&self, users: Users, connections: usize, steps_later: i64) -> Result<Answers> {
        self.write_code(steps_later)?;
        self.wrk(Mode::Validate, users, connections, PATIENCE, 0).await
    }

    fn write_code(&self, steps_later: i64) -> Result<()> {
        let new = self.folder.join("code.new");
        fs::write(&new, self.stores.code(steps_later))?;
        Ok(fs::rename(new, self.folder.join("code"))?)
    }

    async fn wrk(&self, mode: Mode, users: Users, connections: usize, time: Duration, limit: usize) -> Result<Answers> {
        let mut wrk = tokio::process::Command::new(which("wrk")?);
        let mode = match mode {
            Mode::Start => "start",
            Mode::Validate => "validate",
            Mode::Both => "both",
        };
        wrk.args(["--threads", "1", "--timeout", "10", "--script", SCRIPT, "--connections"])
            .arg(connections.to_string())
            .arg("--duration")
            .arg(time.as_secs().to_string())
            .arg(&self.origin)
            .env("FOLDER", &self.folder)
            .env("API_PATH", &self.api_path)
            .env("MODE", mode)
            .env("USERS", users.prefix)
            .env("FIRST", users.first.to_string())
            .env("LAST", (users.end - 1).to_string())
            .env("LIMIT", limit.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let finished = self.folder.join("finished");
        // That of the run before.
        let _ = fs::remove_file(&finished);
        let wrk = wrk.spawn()?;
        let process = wrk.id().context("wrk has ended")?;
        let interrupt = async {
            until(|| finished.exists()).await;
            // It would sleep until the end of its time, although its thread has stopped.
            signal(process, Signal::INT)?;
            std::future::pending::<Result<_>>().await
        };
        let output = tokio::select! {
            output = wrk.wait_with_output() => output?,
            failed = interrupt => failed?,
        };
        let text = String::from_utf8(output.stdout)?;
        let report = text.lines().find(|line| line.starts_with('{'));
        let problems = String::from_utf8_lossy(&output.stderr);
        let report = report.with_context(|| format!("wrk reported nothing: {text}{problems}"))?;
        let answers: Answers = serde_json::from_str(report)?;
        let first = problems.lines().next().unwrap_or("no connection, or no answer");
        ensure!(
            answers.errors == 0,
            "{} answers were not as expected: {first}",
            answers.errors
        );
        Ok(answers)
    }

    /// Both steps for ten minutes, and the memory meanwhile, in KiB.
    async fn for_long(&self) -> Result<(Answers, Vec<u64>)> {
        // The first ones have just used a code.
        let users = users("secret-", 2 * FEW, DEVICES);
        let pid = self.child.id();
        let mut memory = Vec::new();
        self.write_code(0)?;
        let observe = async {
            loop {
                memory.push(memory_kib(pid, "VmRSS:")?);
                for _ in 0..60 {
                    self.write_code(0)?;
                    pause(Duration::from_secs(1)).await;
                }
            }
        };
        let answers = tokio::select! {
            answers = self.wrk(Mode::Both, users, USUAL, LONG, 0) => answers?,
            failed = observe => return failed,
        };
        Ok((answers, memory))
    }
}

/// Looks again and again.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        pause(Duration::from_millis(20)).await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what another process does is seen when it is looked at"
)]
async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

impl Drop for Local {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

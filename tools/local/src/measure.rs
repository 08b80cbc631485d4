//! What the functions cost: both release binaries under a stand-in for Lambda's runtime API, against the local stores.
//!
//! Times are those of this machine, from outside the process: INIT is the time from its start until it asks for work, a
//! call the time from the event to the answer, with what the stores take of it. The way to them is loopback without
//! TLS, so INIT lacks the handshakes that it has on Lambda.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as Parameter, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::Clients;
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::{Clock as _, SystemClock};
use shared::config::{DEVICES_TABLE, SEED_PREFIX, SystemRandom};
use shared::device::{Device, Status};
use shared::names::{ClientId, DeviceKey, DeviceName, UserName, seed_name};
use shared::otp::{OtpParameters, Seed, Step};
use shared::ports::{DeviceRegistry as _, Random as _, SeedRegistry as _, Stored};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const INIT_AUTH: &str = include_str!("../../../events/init-auth.json");
const VALIDATE_OTP: &str = include_str!("../../../events/validate-otp-wrong-code.json");

/// A client of its own, so that nobody's devices are touched.
const CLIENT: &str = "measured-client";
const DEVICE: &str = "mydevice";
const MEMORY_MB: &str = "256";
/// Far above anything that is measured: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Fresh processes of each function, each with one call.
    pub starts: usize,
    /// Calls of each function after the first, in the last of those processes.
    pub warm_calls: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            starts: 15,
            warm_calls: 200,
        }
    }
}

/// The least, the median and the most of some times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// The shortest.
    pub least: Duration,
    /// The one in the middle.
    pub median: Duration,
    /// The longest.
    pub most: Duration,
}

impl Spread {
    /// `None` if there are no times.
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        Some(Self {
            least: *times.first()?,
            median: *times.get(times.len() / 2)?,
            most: *times.last()?,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, least, most] = [self.median, self.least, self.most].map(|time| time.as_secs_f64() * 1_000.0);
        write!(f, "{median:.1} ms ({least:.1}–{most:.1})")
    }
}

/// What one function costs.
#[derive(Debug, Clone)]
pub struct Cost {
    /// The function.
    pub function: &'static str,
    /// Size of its binary, in bytes.
    pub binary_bytes: u64,
    /// From the start of the process until it asks for work.
    pub init: Spread,
    /// The first call of a process.
    pub first_call: Spread,
    /// The calls after it.
    pub warm_call: Spread,
    /// The most memory that the process with the warm calls ever held, in KiB.
    pub peak_kib: u64,
}

/// What both functions cost. Its `Display` is a Markdown table.
#[derive(Debug, Clone)]
pub struct Report {
    /// How much was measured.
    pub plan: Plan,
    /// One entry per function.
    pub costs: Vec<Cost>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| function | binary | INIT | first call | warm call | peak memory |\n|---|---|---|---|---|---|"
        )?;
        for Cost {
            function,
            binary_bytes,
            init,
            first_call,
            warm_call,
            peak_kib,
        } in &self.costs
        {
            let (binary, peak) = (tenths(*binary_bytes, 1_000_000), tenths(*peak_kib, 1_024));
            writeln!(
                f,
                "| `{function}` | {binary} MB | {init} | {first_call} | {warm_call} | {peak} MiB |"
            )?;
        }
        let Plan { starts, warm_calls } = self.plan;
        write!(
            f,
            "\nMedians (least–most) of {starts} starts and {warm_calls} warm calls, the local stack's stores included."
        )
    }
}

/// `amount / unit` with one digit after the point, rounded.
fn tenths(amount: u64, unit: u64) -> String {
    let tenths = (amount * 10 + unit / 2) / unit;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Builds both functions in release mode and measures them against running stores. `environment` is what `.local/env`
/// holds: endpoints, region, credentials and the functions' settings.
///
/// # Errors
/// If something cannot be built, started, read or stored, or if an answer is not a success.
pub async fn measure(environment: &BTreeMap<String, String>, plan: Plan) -> anyhow::Result<Report> {
    let binaries = tokio::task::spawn_blocking(build).await??;
    let subject = |function, status| {
        let binary = binaries
            .get(function)
            .with_context(|| format!("cargo built no {function}"))?;
        anyhow::Ok(Subject {
            function,
            binary,
            status,
            environment,
            plan,
        })
    };
    let seed = register_users(environment, plan.starts + plan.warm_calls).await?;

    let (init_auth, answers) = subject("init-auth", 201)?.run(init_auth_event).await?;
    let auth_id = |number: usize| answers.get(number)?.get("authId")?.as_str();
    let event = |number| validate_otp_event(auth_id(number).context("no authId")?, &seed);
    let (validate_otp, _) = subject("validate-otp", 200)?.run(event).await?;
    Ok(Report {
        plan,
        costs: vec![init_auth, validate_otp],
    })
}

/// Builds both binaries as they are deployed, and says where they are.
fn build() -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let built = Command::new("cargo")
        .args([
            "build",
            "--release",
            "-p",
            "init-auth",
            "-p",
            "validate-otp",
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(WORKSPACE)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo")?;
    ensure!(built.status.success(), "cargo build: {}", built.status);
    let messages = String::from_utf8(built.stdout)?;
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages.filter_map(|message| executable(&message)).collect())
}

fn executable(message: &Value) -> Option<(String, PathBuf)> {
    let name = message.pointer("/target/name")?.as_str()?;
    Some((name.to_owned(), message.get("executable")?.as_str()?.into()))
}

/// Users with a device each, since a code counts once per device. Their devices share a seed, which is in memory after
/// the first call as it is on Lambda for a user who signs in again.
async fn register_users(environment: &BTreeMap<String, String>, how_many: usize) -> anyhow::Result<Seed> {
    let setting = |name: &str| environment.get(name).with_context(|| format!("{name} is not set"));
    let clients = Clients::of_local_stores(
        setting("AWS_ENDPOINT_URL_DYNAMODB")?,
        setting("AWS_ENDPOINT_URL_SECRETS_MANAGER")?,
    );
    let seeds = SecretsManagerSeeds::new(&clients.secrets_manager, SystemClock, Duration::ZERO);
    let devices = DynamoDevices::new(&clients.dynamodb, setting(DEVICES_TABLE)?.clone());

    let parameters = OtpParameters::default();
    let seed = Seed::from_bytes(&SystemRandom.sixteen_bytes()?, parameters)?;
    let seed_ref = seeds
        .create(&seed_name(setting(SEED_PREFIX)?, SystemRandom.sixteen_bytes()?), &seed)
        .await?;
    let device = Device::registered(1, Status::Active, seed_ref, parameters);
    for number in 0..how_many {
        let user = UserName::parse(&user(number))?;
        let key = DeviceKey {
            client: ClientId::parse(CLIENT)?,
            user,
            device: DeviceName::parse(DEVICE)?,
        };
        let stored = devices.register(&key, &device, SystemClock.now()).await?;
        ensure!(
            stored == Stored::Yes,
            "the devices of an earlier measurement are still there"
        );
    }
    Ok(seed)
}

fn init_auth_event(number: usize) -> anyhow::Result<String> {
    let body = json!({ "userName": user(number), "deviceName": DEVICE, "deviceType": "TOTP" });
    event(INIT_AUTH, &body, None)
}

fn validate_otp_event(auth_id: &str, seed: &Seed) -> anyhow::Result<String> {
    let now = Step::at(SystemClock.now(), seed.parameters().period);
    event(VALIDATE_OTP, &json!({ "otp": seed.code(now).reveal() }), Some(auth_id))
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

fn event(sample: &str, body: &Value, auth_id: Option<&str>) -> anyhow::Result<String> {
    let mut event: Value = serde_json::from_str(sample)?;
    let mut set = |pointer: &str, value: String| -> anyhow::Result<()> {
        *event
            .pointer_mut(pointer)
            .with_context(|| format!("no {pointer} in the sample event"))? = value.into();
        Ok(())
    };
    set("/requestContext/authorizer/claims/client_id", CLIENT.to_owned())?;
    set("/body", body.to_string())?;
    if let Some(auth_id) = auth_id {
        set("/pathParameters/authId", auth_id.to_owned())?;
    }
    Ok(event.to_string())
}

/// A function to be measured, and the status that each of its answers must have.
struct Subject<'a> {
    function: &'static str,
    binary: &'a Path,
    status: u16,
    environment: &'a BTreeMap<String, String>,
    plan: Plan,
}

impl Subject<'_> {
    /// Starts and calls the function as planned, with the events of the numbers from 0; gives the bodies of its answers
    /// too.
    async fn run(&self, event: impl Fn(usize) -> anyhow::Result<String>) -> anyhow::Result<(Cost, Vec<Value>)> {
        let Self {
            function,
            status,
            plan: Plan { starts, warm_calls },
            ..
        } = *self;
        let mut bodies = Vec::with_capacity(starts + warm_calls);
        let (mut inits, mut first_calls, mut warm) = (Vec::new(), Vec::new(), Vec::new());
        let mut peak_kib = 0;
        for start in 0..starts {
            let (mut process, init) = Process::start(self.binary, function, self.environment).await?;
            inits.push(init);
            let (time, body) = process.call(event(start)?, status).await?;
            first_calls.push(time);
            bodies.push(body);
            if start + 1 == starts {
                for number in starts..starts + warm_calls {
                    let (time, body) = process.call(event(number)?, status).await?;
                    warm.push(time);
                    bodies.push(body);
                }
                peak_kib = process.peak_kib()?;
            }
        }
        let spread = |times| Spread::of(times).context("nothing was measured");
        let cost = Cost {
            function,
            binary_bytes: std::fs::metadata(self.binary)?.len(),
            init: spread(inits)?,
            first_call: spread(first_calls)?,
            warm_call: spread(warm)?,
            peak_kib,
        };
        Ok((cost, bodies))
    }
}

/// A function's process and the runtime API that it works for. Both end with this value.
struct Process {
    child: Child,
    server: JoinHandle<std::io::Result<()>>,
    events: mpsc::UnboundedSender<String>,
    steps: mpsc::UnboundedReceiver<Happened>,
}

impl Process {
    /// Starts a process, waits until it asks for work, and says how long that took.
    async fn start(
        binary: &Path,
        function: &str,
        environment: &BTreeMap<String, String>,
    ) -> anyhow::Result<(Self, Duration)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (events, to_give) = mpsc::unbounded_channel();
        let (happened, steps) = mpsc::unbounded_channel();
        let api = runtime_api(RuntimeApi {
            to_give: Mutex::new(to_give),
            happened,
        });
        let server = tokio::spawn(async move { axum::serve(listener, api).await });

        let mut command = Command::new(binary);
        command
            .env_clear()
            .envs(environment)
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", function)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY_MB)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let started = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("{function} cannot be started"))?;
        let mut process = Self {
            child,
            server,
            events,
            steps,
        };
        let asked = match process.step().await? {
            Happened::Asked(at) => at,
            other => bail!("{function} did not ask for work: {other:?}"),
        };
        Ok((process, asked.duration_since(started)))
    }

    /// Gives the process an event; says how long the answer took, and its body.
    async fn call(&mut self, event: String, status: u16) -> anyhow::Result<(Duration, Value)> {
        self.events.send(event)?;
        let (given, answered, answer) = match (self.step().await?, self.step().await?) {
            (Happened::Given(given), Happened::Answered(answered, answer)) => (given, answered, answer),
            other => bail!("no answer to an event: {other:?}"),
        };
        // A call is over when the process asks for the next one.
        ensure!(
            matches!(self.step().await?, Happened::Asked(_)),
            "the process did not ask for more work"
        );
        let answer: Value = serde_json::from_slice(&answer)?;
        let body = answer
            .get("body")
            .and_then(Value::as_str)
            .context("an answer without a body")?;
        ensure!(
            answer.get("statusCode").and_then(Value::as_u64) == Some(status.into()),
            "not {status}: {body}"
        );
        Ok((answered.duration_since(given), serde_json::from_str(body)?))
    }

    async fn step(&mut self) -> anyhow::Result<Happened> {
        let step = tokio::time::timeout(PATIENCE, self.steps.recv())
            .await
            .context("the process does nothing")?;
        match step.context("the runtime API ended")? {
            Happened::Failed(report) => bail!("the function failed: {report}"),
            step => Ok(step),
        }
    }

    /// The most memory that the process held at any time so far (`VmHWM`, see `man 5 proc`).
    fn peak_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        peak_kib(&status).context("no VmHWM in /proc/PID/status")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.server.abort();
    }
}

fn peak_kib(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    value.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// What a process did at the runtime API, and when.
#[derive(Debug)]
enum Happened {
    Asked(Instant),
    Given(Instant),
    Answered(Instant, Bytes),
    Failed(String),
}

/// Lambda's runtime API for one process: one event at a time.
struct RuntimeApi {
    to_give: Mutex<mpsc::UnboundedReceiver<String>>,
    happened: mpsc::UnboundedSender<Happened>,
}

impl RuntimeApi {
    fn say(&self, happened: Happened) {
        // Nobody listens any more when a measurement was given up.
        let _ = self.happened.send(happened);
    }
}

fn runtime_api(api: RuntimeApi) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(failure))
        .route("/2018-06-01/runtime/init/error", post(failure))
        .with_state(Arc::new(api))
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> Response {
    api.say(Happened::Asked(Instant::now()));
    let Some(event) = api.to_give.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let deadline = SystemClock.now().plus(PATIENCE);
    let headers = [
        (
            "lambda-runtime-aws-request-id",
            "00000000-0000-4000-8000-000000000000".to_owned(),
        ),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:123456789012:function:measured".to_owned(),
        ),
        (
            "lambda-runtime-trace-id",
            "Root=1-00000000-000000000000000000000000;Sampled=0".to_owned(),
        ),
    ];
    api.say(Happened::Given(Instant::now()));
    (headers, event).into_response()
}

async fn response(State(api): State<Arc<RuntimeApi>>, Parameter(_id): Parameter<String>, body: Bytes) -> StatusCode {
    api.say(Happened::Answered(Instant::now(), body));
    StatusCode::ACCEPTED
}

async fn failure(State(api): State<Arc<RuntimeApi>>, body: String) -> StatusCode {
    api.say(Happened::Failed(body));
    StatusCode::ACCEPTED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(millis: &[u64]) -> Option<Spread> {
        Spread::of(millis.iter().copied().map(Duration::from_millis).collect())
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(spread(&[]), None);
        let shown = spread(&[30, 10, 20]).map(|spread| spread.to_string());
        assert_eq!(shown.as_deref(), Some("20.0 ms (10.0–30.0)"));
    }

    #[test]
    fn sizes_are_rounded_to_one_digit() {
        assert_eq!(tenths(7_949_999, 1_000_000), "7.9");
        assert_eq!(tenths(7_950_000, 1_000_000), "8.0");
    }

    #[test]
    fn the_peak_memory_is_read_from_the_status_of_a_process() {
        assert_eq!(
            peak_kib("Name:\tx\nVmPeak:\t   99 kB\nVmHWM:\t    8432 kB\n"),
            Some(8_432)
        );
        assert_eq!(peak_kib("Name:\tx\n"), None);
    }

    #[test]
    fn the_sample_events_take_the_ids_of_a_measurement() -> anyhow::Result<()> {
        let made: Value = serde_json::from_str(&event(VALIDATE_OTP, &json!({ "otp": "1" }), Some("an-auth"))?)?;
        let found = [
            "/requestContext/authorizer/claims/client_id",
            "/pathParameters/authId",
            "/body",
        ]
        .map(|pointer| made.pointer(pointer).and_then(Value::as_str));
        assert_eq!(found, [Some(CLIENT), Some("an-auth"), Some(r#"{"otp":"1"}"#)]);
        Ok(())
    }
}

//! A function's process under a stand-in for Lambda's runtime API: one event at a time, with the moment of each step.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as Parameter, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use shared::clock::{Clock as _, SystemClock};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::machine::{Quota, spawn};

const MEMORY_MB: &str = "256";
/// Far longer than any call, also under the smallest quota; a process that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(2);

/// How a function is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// Program and arguments.
    pub(crate) command: Vec<OsString>,
    pub(crate) folder: PathBuf,
}

/// An answer of a function.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// From the event to the answer.
    pub(crate) took: Duration,
    pub(crate) status: u64,
    pub(crate) body: Value,
}

/// A function's process and its runtime API. Both end when this value is dropped.
pub(crate) struct Process {
    child: Child,
    server: JoinHandle<std::io::Result<()>>,
    events: mpsc::UnboundedSender<String>,
    steps: mpsc::UnboundedReceiver<Progress>,
}

impl Process {
    /// Starts a process and waits until it asks for work; returns how long that took.
    pub(crate) async fn start(
        launch: &Launch,
        environment: &BTreeMap<String, String>,
        quota: Option<&Quota>,
    ) -> Result<(Self, Duration)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (events, pending) = mpsc::unbounded_channel();
        let (progress, steps) = mpsc::unbounded_channel();
        let api = runtime_api(RuntimeApi {
            pending: Mutex::new(pending),
            progress,
        });
        let server = tokio::spawn(async move { axum::serve(listener, api).await });

        let (program, arguments) = launch.command.split_first().context("an empty command")?;
        let region = environment.get("AWS_REGION").context("AWS_REGION is not set")?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(&launch.folder)
            .env_clear()
            .envs(environment)
            .env("AWS_DEFAULT_REGION", region)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "measured")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEMORY_MB)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let started = Instant::now();
        let child = spawn(&mut command, quota)?;
        let mut process = Self {
            child,
            server,
            events,
            steps,
        };
        let asked = match process.step().await? {
            Progress::Asked(at) => at,
            other => bail!("it did not ask for work: {other:?}"),
        };
        Ok((process, asked.duration_since(started)))
    }

    /// Hands the process an event.
    pub(crate) async fn call(&mut self, event: String) -> Result<Answer> {
        self.events.send(event)?;
        let (given, answered, answer) = match (self.step().await?, self.step().await?) {
            (Progress::Given(given), Progress::Answered(answered, answer)) => (given, answered, answer),
            other => bail!("the event was not answered: {other:?}"),
        };
        // A call is over when the process asks for the next one.
        ensure!(
            matches!(self.step().await?, Progress::Asked(_)),
            "the process did not ask for more work"
        );
        let answer: Value = serde_json::from_slice(&answer)?;
        let body = answer.get("body").and_then(Value::as_str);
        let body = body.context("an answer without a body")?;
        Ok(Answer {
            took: answered.duration_since(given),
            status: answer.get("statusCode").and_then(Value::as_u64).unwrap_or_default(),
            body: serde_json::from_str(body)?,
        })
    }

    /// Hands the process an event that must be answered with a status.
    pub(crate) async fn expect(&mut self, event: String, status: u64) -> Result<Answer> {
        let answer = self.call(event).await?;
        ensure!(
            answer.status == status,
            "the status is {} instead of {status}: {}",
            answer.status,
            answer.body
        );
        Ok(answer)
    }

    async fn step(&mut self) -> Result<Progress> {
        let step = tokio::time::timeout(PATIENCE, self.steps.recv())
            .await
            .context("the process does not respond")?;
        match step.context("the runtime API ended")? {
            Progress::Failed(report) => bail!("the function failed: {report}"),
            step => Ok(step),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The peak memory of the process so far (`VmHWM`, see `man 5 proc`).
    pub(crate) fn peak_kib(&self) -> Result<u64> {
        memory_kib(self.child.id(), "VmHWM:")
    }

    /// The computing time of the process so far, of all threads that have not ended.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may end in between.
            let times = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += times.split(' ').next().and_then(|time| time.parse().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Ends the process as Lambda does, so that what observes it can write its report.
    pub(crate) async fn end(mut self) -> Result<()> {
        signal(self.child.id(), Signal::TERM)?;
        tokio::task::spawn_blocking(move || self.child.wait().map(drop)).await??;
        Ok(())
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

pub(crate) fn signal(process: u32, signal: Signal) -> Result<()> {
    let process = Pid::from_raw(i32::try_from(process)?).context("no process")?;
    Ok(kill_process(process, signal)?)
}

/// A figure of a process's memory (`man 5 proc`): `VmRSS:`, now, or `VmHWM:`, its peak.
pub(crate) fn memory_kib(process: u32, what: &'static str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    kib_in(&status, what).with_context(|| format!("no {what} in /proc/PID/status"))
}

fn kib_in(status: &str, what: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(what))?;
    value.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// A step of a process at the runtime API, and when it happened.
#[derive(Debug)]
enum Progress {
    Asked(Instant),
    Given(Instant),
    Answered(Instant, Bytes),
    Failed(String),
}

/// Lambda's runtime API for one process.
struct RuntimeApi {
    pending: Mutex<mpsc::UnboundedReceiver<String>>,
    progress: mpsc::UnboundedSender<Progress>,
}

impl RuntimeApi {
    fn report(&self, progress: Progress) {
        // The receiver is gone once a measurement has failed.
        let _ = self.progress.send(progress);
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
    api.report(Progress::Asked(Instant::now()));
    let Some(event) = api.pending.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let deadline = SystemClock.now().plus(PATIENCE);
    let headers = [
        ("content-type", "application/json".to_owned()),
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
    api.report(Progress::Given(Instant::now()));
    (headers, event).into_response()
}

async fn response(State(api): State<Arc<RuntimeApi>>, Parameter(_id): Parameter<String>, body: Bytes) -> StatusCode {
    api.report(Progress::Answered(Instant::now(), body));
    StatusCode::ACCEPTED
}

async fn failure(State(api): State<Arc<RuntimeApi>>, body: String) -> StatusCode {
    api.report(Progress::Failed(body));
    StatusCode::ACCEPTED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_memory_is_read_from_the_status_of_a_process() {
        let status = "Name:\tx\nVmPeak:\t   99 kB\nVmHWM:\t    8432 kB\n";
        assert_eq!(kib_in(status, "VmHWM:"), Some(8_432));
        assert_eq!(kib_in(status, "VmRSS:"), None);
    }
}

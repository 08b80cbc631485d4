//! A proxy between the SDK and a store: counts every call by name, and makes those fail that it is told to.
//!
//! A call's name is its operation and its table, such as `GetItem Auths`, or its operation alone. What goes wrong is a
//! [`Fault`], and when it does is a [`Rule`].

use std::collections::BTreeMap;
use std::error::Error as _;
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use shared::ports::Random as _;
use shared::testing::random::SequenceRandom;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed; the store never sees the call.
    Close,
    /// The connection is reset; the store never sees the call.
    Reset,
    /// It is never answered; the store never sees it.
    Hang,
    /// It is answered with a 500; the store never sees it.
    Error,
    /// It is answered as the store does when it throttles; the store never sees it.
    Throttle,
    /// The store does it, and the connection is closed before the answer.
    CloseAfter,
    /// The store does it, and the connection is reset before the answer.
    ResetAfter,
    /// The store does it, and no answer comes.
    HangAfter,
    /// The store does it, and a 500 is the answer.
    ErrorAfter,
    /// The store does it, and the connection is closed in the middle of the answer's body.
    Truncate,
    /// The store does it, and the answer is half of its JSON, as if that were all.
    CutJson,
}

impl Fault {
    /// Those that come before the call has an effect.
    pub const BEFORE: [Self; 5] = [Self::Close, Self::Reset, Self::Hang, Self::Error, Self::Throttle];
    /// Those that come after the call had its effect.
    pub const AFTER: [Self; 6] = [
        Self::CloseAfter,
        Self::ResetAfter,
        Self::HangAfter,
        Self::ErrorAfter,
        Self::Truncate,
        Self::CutJson,
    ];
}

/// When a call goes wrong.
#[derive(Debug)]
pub enum Rule {
    /// The first time; repeated, it goes through.
    First(Fault),
    /// Every time.
    Always(Fault),
    /// By chance.
    Chance(Chance),
}

/// Chance that is the same in every run: what becomes of the n-th call depends on the seed alone.
#[derive(Debug)]
pub struct Chance {
    random: SequenceRandom,
    percent: u8,
    faults: Vec<Fault>,
}

impl Chance {
    /// So many of a hundred calls get one of these faults.
    #[must_use]
    pub fn new(seed: u64, percent: u8, faults: &[Fault]) -> Self {
        Self {
            random: SequenceRandom::from_start(seed),
            percent,
            faults: faults.to_vec(),
        }
    }

    fn next(&self) -> Option<Fault> {
        let [whether, which, ..] = self.random.sixteen_bytes().ok()?;
        let hit = u32::from(whether) * 100 < u32::from(self.percent) * 256;
        let faults = self.faults.iter().cycle().skip(which.into());
        faults.copied().next().filter(|_| hit)
    }
}

#[derive(Debug, Default)]
struct State {
    calls: BTreeMap<String, usize>,
    rules: BTreeMap<String, Rule>,
    faults: usize,
}

#[derive(Debug)]
struct Shared {
    backend: String,
    client: reqwest::Client,
    state: Mutex<State>,
}

/// The proxy in front of one store.
#[derive(Debug)]
pub struct StoreProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinSet<()>>,
    stopped: Option<TcpSocket>,
}

impl StoreProxy {
    /// Starts in front of a store.
    ///
    /// # Errors
    /// If no port can be opened.
    pub async fn start(backend: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let shared = Shared {
            backend: backend.to_owned(),
            client: reqwest::Client::builder().no_proxy().build()?,
            state: Mutex::default(),
        };
        let mut proxy = Self {
            address: listener.local_addr()?,
            shared: Arc::new(shared),
            serving: None,
            stopped: None,
        };
        proxy.serve(listener);
        Ok(proxy)
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Says when the calls by a name go wrong from now on, and how.
    pub fn set(&self, call: &str, rule: Rule) {
        self.shared.with(|state| state.rules.insert(call.to_owned(), rule));
    }

    /// Lets every call through from now on.
    pub fn clear(&self) {
        self.shared.with(|state| state.rules.clear());
    }

    /// How many calls went wrong so far.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.shared.with(|state| state.faults)
    }

    /// The calls that arrived since the last time this was asked, by name.
    #[must_use]
    pub fn take_calls(&self) -> Vec<(String, usize)> {
        self.shared
            .with(|state| std::mem::take(&mut state.calls).into_iter().collect())
    }

    /// Stops listening and closes every connection, as a store that is down. The port stays taken, so that nobody else
    /// gets it meanwhile.
    ///
    /// # Errors
    /// If the port is lost.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut serving) = self.serving.take() {
            serving.shutdown().await;
        }
        let socket = TcpSocket::new_v4()?;
        // Connections of before may still be in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        self.stopped = Some(socket);
        Ok(())
    }

    /// Listens again where it did before.
    ///
    /// # Errors
    /// If it was not stopped.
    pub fn start_again(&mut self) -> Result<()> {
        let listener = self.stopped.take().context("it was not stopped")?.listen(64)?;
        self.serve(listener);
        Ok(())
    }

    fn serve(&mut self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // Connections belong to this task, so they end with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                connections.spawn(async move { serve(stream, &shared).await });
            }
        });
        self.serving = Some(serving);
    }
}

/// How a connection ends instead of an answer.
#[derive(Debug, thiserror::Error)]
enum Break {
    #[error("closed")]
    Close,
    #[error("reset")]
    Reset,
    #[error("truncated")]
    Truncate(Response<Bytes>),
}

async fn serve(stream: TcpStream, shared: &Shared) {
    let service = service_fn(|request| {
        Box::pin(async move {
            let answer = answer(shared, request).await;
            answer.map_err(|error| error.downcast().unwrap_or(Break::Close))
        })
    });
    let mut connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let mut stream = connection.into_parts().io.into_inner();
    let error = ended.err();
    match error.as_ref().and_then(|error| error.source()?.downcast_ref()) {
        None | Some(Break::Close) => {}
        // Nobody is told if it fails: the test that asked for it sees no fault.
        Some(Break::Reset) => drop(stream.set_zero_linger()),
        Some(Break::Truncate(whole)) => drop(stream.write_all(&truncated(whole)).await),
    }
}

fn truncated(whole: &Response<Bytes>) -> Vec<u8> {
    let (status, body) = (whole.status(), whole.body());
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n");
    let length = format!("content-length: {}\r\n\r\n", body.len() + 1);
    [head.as_bytes(), length.as_bytes(), &half(body)].concat()
}

fn half(body: &Bytes) -> Bytes {
    body.slice(..body.len() / 2)
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn arrived(&self, call: &str) -> Option<Fault> {
        self.with(|state| {
            *state.calls.entry(call.to_owned()).or_default() += 1;
            let fault = match state.rules.get(call)? {
                Rule::First(fault) | Rule::Always(fault) => *fault,
                Rule::Chance(chance) => chance.next()?,
            };
            if matches!(state.rules.get(call), Some(Rule::First(_))) {
                state.rules.remove(call);
            }
            state.faults += 1;
            Some(fault)
        })
    }

    async fn forward(&self, request: reqwest::Request) -> Result<Response<Bytes>> {
        let answer = self.client.execute(request).await?;
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            response = response.header(name, value);
        }
        Ok(response.body(answer.bytes().await?)?)
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let target = parts.headers.get("x-amz-target").context("no target")?.to_str()?;
    let (service, operation) = target.rsplit_once('.').context("no operation")?;
    let service = Service::of(service);
    let sent = serde_json::from_slice::<serde_json::Value>(&body)?;
    let table = sent.get("TableName").cloned();
    // A read that may miss an acknowledged write is another call: the store on this machine never shows the difference.
    let stale = operation == "GetItem" && sent.get("ConsistentRead") != Some(&true.into());
    let operation = if stale { "stale GetItem" } else { operation };
    let call = match table.as_ref().and_then(|table| table.as_str()) {
        Some(table) => format!("{operation} {table}"),
        None => operation.to_owned(),
    };
    let fault = shared.arrived(&call);
    match fault {
        Some(Fault::Close) => return Err(Break::Close.into()),
        Some(Fault::Reset) => return Err(Break::Reset.into()),
        Some(Fault::Hang) => return pending().await,
        Some(Fault::Error) => return service.error(),
        Some(Fault::Throttle) => return service.throttled(),
        _ => {}
    }
    let url = format!("{}{}", shared.backend, parts.uri);
    let mut headers: HeaderMap = parts.headers;
    headers.remove("host");
    let request = shared.client.request(parts.method, url).headers(headers).body(body);
    let mut response = shared.forward(request.build()?).await?;
    match fault {
        Some(Fault::CloseAfter) => return Err(Break::Close.into()),
        Some(Fault::ResetAfter) => return Err(Break::Reset.into()),
        Some(Fault::HangAfter) => return pending().await,
        Some(Fault::ErrorAfter) => return service.error(),
        Some(Fault::Truncate) => return Err(Break::Truncate(response).into()),
        Some(Fault::CutJson) => {
            response.headers_mut().remove(CONTENT_LENGTH);
            *response.body_mut() = half(response.body());
        }
        _ => {}
    }
    Ok(response.map(Full::new))
}

/// Whose errors are imitated.
#[derive(Debug, Clone, Copy)]
enum Service {
    DynamoDb,
    SecretsManager,
}

impl Service {
    fn of(target: &str) -> Self {
        if target.starts_with("DynamoDB") {
            Self::DynamoDb
        } else {
            Self::SecretsManager
        }
    }

    fn error(self) -> Result<Response<Full<Bytes>>> {
        let kind = match self {
            Self::DynamoDb => "com.amazonaws.dynamodb.v20120810#InternalServerError",
            Self::SecretsManager => "InternalServiceError",
        };
        self.says(StatusCode::INTERNAL_SERVER_ERROR, kind)
    }

    fn throttled(self) -> Result<Response<Full<Bytes>>> {
        let kind = match self {
            Self::DynamoDb => "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
            Self::SecretsManager => "ThrottlingException",
        };
        self.says(StatusCode::BAD_REQUEST, kind)
    }

    fn says(self, status: StatusCode, kind: &str) -> Result<Response<Full<Bytes>>> {
        let content_type = match self {
            Self::DynamoDb => "application/x-amz-json-1.0",
            Self::SecretsManager => "application/x-amz-json-1.1",
        };
        let body = serde_json::json!({ "__type": kind, "message": "an injected fault" });
        let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
        Ok(response.body(Full::from(body.to_string()))?)
    }
}

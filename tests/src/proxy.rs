//! A proxy between the SDK and a store: counts and records every call, and makes those fail that a test names.
//!
//! A call's name is its operation and its table, such as `GetItem Auths`, or its operation alone. What goes wrong is a
//! [`Fault`], and when it does is a [`Rule`]; an answer can also be forged.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt;
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use shared::random::Random as _;
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
    /// It is never answered; the store sees it when [`StoreProxy::release`] lets it through, as from a frozen function.
    Hold,
    /// It is answered with a 500; the store never sees it.
    Error,
    /// It is answered as the store answers when it throttles; the store never sees it.
    Throttle,
    /// The store handles it, and the connection is closed before the answer.
    CloseAfter,
    /// The store handles it, and the connection is reset before the answer.
    ResetAfter,
    /// The store handles it, and no answer comes.
    HangAfter,
    /// The store handles it, and a 500 is the answer.
    ErrorAfter,
    /// The store handles it, and the connection is closed in the middle of the answer's body.
    Truncate,
    /// The store handles it, and the answer is half of its JSON, with a matching length.
    CutJson,
}

impl Fault {
    /// Faults before the call takes effect.
    pub const BEFORE: [Self; 5] = [Self::Close, Self::Reset, Self::Hang, Self::Error, Self::Throttle];
    /// Faults after the call has taken effect.
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
    /// The first time; a retry goes through.
    First(Fault),
    /// Every time.
    Always(Fault),
    /// By chance.
    Chance(Chance),
}

/// Chance that is the same in every run: what happens to the n-th call depends on the seed alone.
#[derive(Debug)]
pub struct Chance {
    random: SequenceRandom,
    percent: u8,
    faults: Vec<Fault>,
}

impl Chance {
    /// `percent` of the calls get one of these faults.
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

/// A call and the store's answer. It holds whatever they held, so there is no `Debug`.
#[derive(Clone)]
pub struct Exchange {
    /// The operation, such as `GetItem`.
    pub operation: String,
    /// The body of the call.
    pub sent: Bytes,
    /// The status of the answer.
    pub status: u16,
    /// The body of the answer.
    pub answered: Bytes,
}

impl Exchange {
    /// The body of the call as JSON.
    ///
    /// # Errors
    /// If it is not JSON.
    pub fn sent_json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.sent)?)
    }
}

/// A status and a body in place of the store's answer, or nothing to let that through.
type Forge = Box<dyn Fn(&Exchange) -> Option<(u16, Vec<u8>)> + Send + Sync>;

#[derive(Default)]
struct State {
    calls: BTreeMap<String, usize>,
    exchanges: Vec<Exchange>,
    held: Vec<(String, reqwest::RequestBuilder, Bytes)>,
    rules: BTreeMap<String, Rule>,
    forge: Option<Forge>,
    faults: usize,
}

struct Shared {
    backend: String,
    client: reqwest::Client,
    state: Mutex<State>,
}

/// The proxy in front of one store.
pub struct StoreProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinSet<()>>,
    stopped: Option<TcpSocket>,
}

impl fmt::Debug for StoreProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreProxy")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
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

    /// Makes the calls of a name go wrong from now on.
    pub fn set(&self, call: &str, rule: Rule) {
        self.shared.with(|state| state.rules.insert(call.to_owned(), rule));
    }

    /// Answers in place of the store from now on, whenever `forge` returns an answer.
    pub fn forge(&self, forge: impl Fn(&Exchange) -> Option<(u16, Vec<u8>)> + Send + Sync + 'static) {
        self.shared.with(|state| state.forge = Some(Box::new(forge)));
    }

    /// Lets every call and every answer through from now on.
    pub fn clear(&self) {
        self.shared.with(|state| {
            state.rules.clear();
            state.forge = None;
        });
    }

    /// Lets the calls that were held back through to the store, and returns the statuses of its answers.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn release(&self) -> Result<Vec<u16>> {
        let mut statuses = Vec::new();
        for (operation, request, sent) in self.shared.with(|state| std::mem::take(&mut state.held)) {
            let answer = self.shared.forward(operation, request, sent).await?;
            statuses.push(answer.status().as_u16());
        }
        Ok(statuses)
    }

    /// How many calls went wrong so far.
    #[must_use]
    pub fn faults(&self) -> usize {
        self.shared.with(|state| state.faults)
    }

    /// The calls that arrived since the last time, by name.
    #[must_use]
    pub fn take_calls(&self) -> Vec<(String, usize)> {
        self.shared
            .with(|state| std::mem::take(&mut state.calls).into_iter().collect())
    }

    /// The calls that the store has answered since the last time, in their order.
    #[must_use]
    pub fn take_exchanges(&self) -> Vec<Exchange> {
        self.shared.with(|state| std::mem::take(&mut state.exchanges))
    }

    /// Stops listening and closes every connection, like a store that is down. The port stays taken, so that no other
    /// process gets it until [`Self::start_again`].
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
        // If it fails, the test that asked for it sees no fault.
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

    /// What the store answers, which is recorded, or what is forged in its place.
    async fn forward(
        &self,
        operation: String,
        request: reqwest::RequestBuilder,
        sent: Bytes,
    ) -> Result<Response<Bytes>> {
        let answer = request.body(sent.clone()).send().await?;
        let headers = answer.headers().clone();
        let exchange = Exchange {
            operation,
            sent,
            status: answer.status().as_u16(),
            answered: answer.bytes().await?,
        };
        let mut response = Response::builder();
        let forged = self.with(|state| state.forge.as_ref().and_then(|forge| forge(&exchange)));
        let response = if let Some((status, body)) = forged {
            // Neither the length nor the checksum of the store's answer.
            for name in ["content-type", "x-amzn-requestid"] {
                if let Some(value) = headers.get(name) {
                    response = response.header(name, value);
                }
            }
            response.status(status).body(body.into())?
        } else {
            for (name, value) in &headers {
                response = response.header(name, value);
            }
            response.status(exchange.status).body(exchange.answered.clone())?
        };
        self.with(|state| state.exchanges.push(exchange));
        Ok(response)
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (mut parts, body) = request.into_parts();
    let sent = body.collect().await?.to_bytes();
    let target = parts.headers.get("x-amz-target").context("no target")?.to_str()?;
    let (service, operation) = target.rsplit_once('.').context("no operation")?;
    let (service, operation) = (Service::of(service), operation.to_owned());
    let fault = shared.arrived(&call_name(&operation, &serde_json::from_slice(&sent)?));
    match fault {
        Some(Fault::Close) => return Err(Break::Close.into()),
        Some(Fault::Reset) => return Err(Break::Reset.into()),
        Some(Fault::Hang) => return pending().await,
        Some(Fault::Error) => return service.error(),
        Some(Fault::Throttle) => return service.throttled(),
        _ => {}
    }
    parts.headers.remove(HOST);
    let url = format!("{}{}", shared.backend, parts.uri);
    let request = shared.client.request(parts.method, url).headers(parts.headers);
    if fault == Some(Fault::Hold) {
        shared.with(|state| state.held.push((operation, request, sent)));
        return pending().await;
    }
    let mut response = shared.forward(operation, request, sent).await?;
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

fn call_name(operation: &str, sent: &Value) -> String {
    // A read that may miss an acknowledged write is another call: the store on this machine never shows the difference.
    let stale = operation == "GetItem" && sent.get("ConsistentRead") != Some(&true.into());
    let operation = if stale { "stale GetItem" } else { operation };
    match sent.get("TableName").and_then(Value::as_str) {
        Some(table) => format!("{operation} {table}"),
        None => operation.to_owned(),
    }
}

/// The service whose errors are imitated.
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
        self.error_response(StatusCode::INTERNAL_SERVER_ERROR, kind)
    }

    fn throttled(self) -> Result<Response<Full<Bytes>>> {
        let kind = match self {
            Self::DynamoDb => "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
            Self::SecretsManager => "ThrottlingException",
        };
        self.error_response(StatusCode::BAD_REQUEST, kind)
    }

    fn error_response(self, status: StatusCode, kind: &str) -> Result<Response<Full<Bytes>>> {
        let content_type = match self {
            Self::DynamoDb => "application/x-amz-json-1.0",
            Self::SecretsManager => "application/x-amz-json-1.1",
        };
        let body = json!({ "__type": kind, "message": "an injected fault" });
        let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
        Ok(response.body(Full::from(body.to_string()))?)
    }
}

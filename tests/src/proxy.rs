//! A proxy between the SDK and a store: counts every call by name, and drops, holds or loses those that it is told to.
//!
//! A call's name is its operation and its table, such as `GetItem Auths`, or its operation alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// It goes through.
    Pass,
    /// The connection is closed; the store never sees it.
    Drop,
    /// It is never answered; the store never sees it.
    Hang,
    /// As `Hang`, the first time; repeated, it goes through.
    HangFirst,
    /// The store does it, and the connection is closed before the answer, the first time; repeated, it goes through.
    LoseFirstAnswer,
}

#[derive(Debug, Default)]
struct State {
    calls: BTreeMap<String, usize>,
    rules: BTreeMap<String, Behaviour>,
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

    /// Says what becomes of the calls by a name from now on.
    pub fn set(&self, call: &str, behaviour: Behaviour) {
        self.shared.with(|state| state.rules.insert(call.to_owned(), behaviour));
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
                connections.spawn(async move {
                    let service = service_fn(|request| answer(&shared, request));
                    // A dropped call ends its connection with an error, which is the point.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        self.serving = Some(serving);
    }
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn arrived(&self, call: &str) -> Behaviour {
        self.with(|state| {
            *state.calls.entry(call.to_owned()).or_default() += 1;
            match state.rules.get_mut(call) {
                Some(rule @ (Behaviour::LoseFirstAnswer | Behaviour::HangFirst)) => {
                    std::mem::replace(rule, Behaviour::Pass)
                }
                Some(rule) => *rule,
                None => Behaviour::Pass,
            }
        })
    }

    async fn forward(&self, request: reqwest::Request) -> Result<Response<Full<Bytes>>> {
        let answer = self.client.execute(request).await?;
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            response = response.header(name, value);
        }
        Ok(response.body(Full::new(answer.bytes().await?))?)
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let target = parts.headers.get("x-amz-target").context("no target")?.to_str()?;
    let operation = target.rsplit('.').next().unwrap_or_default();
    let sent = serde_json::from_slice::<serde_json::Value>(&body)?;
    let table = sent.get("TableName").cloned();
    // A read that may miss an acknowledged write is another call: the store on this machine never shows the difference.
    let stale = operation == "GetItem" && sent.get("ConsistentRead") != Some(&true.into());
    let operation = if stale { "stale GetItem" } else { operation };
    let call = match table.as_ref().and_then(|table| table.as_str()) {
        Some(table) => format!("{operation} {table}"),
        None => operation.to_owned(),
    };
    let behaviour = shared.arrived(&call);
    match behaviour {
        Behaviour::Drop => anyhow::bail!("dropped"),
        Behaviour::Hang | Behaviour::HangFirst => std::future::pending().await,
        Behaviour::Pass | Behaviour::LoseFirstAnswer => {}
    }
    let mut headers = parts.headers;
    headers.remove("host");
    let url = format!("{}{}", shared.backend, parts.uri);
    let request = shared
        .client
        .request(parts.method, url)
        .headers(headers)
        .body(body)
        .build()?;
    let response = shared.forward(request).await?;
    anyhow::ensure!(behaviour != Behaviour::LoseFirstAnswer, "lost");
    Ok(response)
}

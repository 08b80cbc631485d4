//! A tap between the SDK and a store: keeps the calls that passed by, and answers in the store's place if it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A call and its answer. It holds whatever they held, so there is no `Debug`.
#[derive(Clone)]
pub struct Passed {
    /// The operation, such as `GetItem`.
    pub operation: String,
    /// The body of the call.
    pub sent: Bytes,
    /// The status of the answer.
    pub status: u16,
    /// The body of the answer.
    pub answered: Bytes,
}

impl Passed {
    /// The body of the call as JSON.
    ///
    /// # Errors
    /// If it is none.
    pub fn sent_json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.sent)?)
    }
}

/// What is answered in the place of a store: a status and a body, or nothing to let the store's answer through.
type Forge = Box<dyn Fn(&Passed) -> Option<(u16, Vec<u8>)> + Send + Sync>;

#[derive(Default)]
struct State {
    passed: Vec<Passed>,
    forge: Option<Forge>,
}

struct Shared {
    backend: String,
    client: reqwest::Client,
    state: Mutex<State>,
}

/// The tap in front of one store.
pub struct Tap {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Tap {
    /// Starts in front of a store.
    ///
    /// # Errors
    /// If no port can be opened.
    pub async fn start(backend: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let shared = Arc::new(Shared {
            backend: backend.to_owned(),
            client: reqwest::Client::builder().no_proxy().build()?,
            state: Mutex::default(),
        });
        let (address, served) = (listener.local_addr()?, Arc::clone(&shared));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&served);
                connections.spawn(async move {
                    let service = service_fn(|request| shared.pass(request));
                    // A connection that ends with an error ends all the same.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(Self {
            address,
            shared,
            _serving: serving,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The calls that passed by since the last time this was asked, in their order.
    #[must_use]
    pub fn take(&self) -> Vec<Passed> {
        std::mem::take(&mut self.state().passed)
    }

    /// Answers in the place of the store from now on, whenever there is something to answer.
    pub fn forge(&self, forge: impl Fn(&Passed) -> Option<(u16, Vec<u8>)> + Send + Sync + 'static) {
        self.state().forge = Some(Box::new(forge));
    }

    /// Lets every answer through from now on.
    pub fn let_through(&self) {
        self.state().forge = None;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    async fn pass(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
        let (parts, body) = request.into_parts();
        let sent = body.collect().await?.to_bytes();
        let target = parts.headers.get("x-amz-target").context("no target")?.to_str()?;
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let mut headers = parts.headers;
        headers.remove("host");
        let url = format!("{}{}", self.backend, parts.uri);
        let request = self.client.request(parts.method, url).headers(headers);
        let answer = request.body(sent.clone()).send().await?;
        let mut response = Response::builder();
        for name in ["content-type", "x-amzn-requestid"] {
            response = answer
                .headers()
                .get(name)
                .into_iter()
                .fold(response, |response, value| response.header(name, value));
        }
        let passed = Passed {
            operation,
            sent,
            status: answer.status().as_u16(),
            answered: answer.bytes().await?,
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let forged = state.forge.as_ref().and_then(|forge| forge(&passed));
        let (status, body) = forged.unwrap_or_else(|| (passed.status, passed.answered.to_vec()));
        state.passed.push(passed);
        Ok(response.status(status).body(Full::new(body.into()))?)
    }
}

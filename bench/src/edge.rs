//! Counts what reaches the stores: a plain HTTP proxy in front of each, which asks `DynamoDB` for the capacity that every
//! call consumes. Only for counting: the figures of time are taken without it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::tls::STORES;

/// A call of a store.
#[derive(Debug, Clone)]
pub(crate) struct StoreCall {
    /// Such as `GetItem`.
    pub(crate) operation: String,
    /// Bytes of both bodies.
    pub(crate) bytes: usize,
    pub(crate) capacity_units: f64,
}

/// The proxies. They end when this value is dropped.
#[derive(Debug)]
pub(crate) struct Edge {
    environment: BTreeMap<String, String>,
    calls: Arc<Mutex<Vec<StoreCall>>>,
    _serving: JoinSet<std::io::Result<()>>,
}

impl Edge {
    /// Starts a proxy before each store that `environment` names.
    pub(crate) async fn start(environment: &BTreeMap<String, String>) -> Result<Self> {
        let mut environment = environment.clone();
        let (calls, http) = (Arc::default(), reqwest::Client::builder().no_proxy().build()?);
        let mut serving = JoinSet::new();
        for name in STORES {
            let url = environment
                .get_mut(name)
                .with_context(|| format!("{name} is not set"))?;
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let store = std::mem::replace(url, format!("http://{}", listener.local_addr()?));
            let proxy = Proxy {
                store,
                http: http.clone(),
                calls: Arc::clone(&calls),
            };
            let router = Router::new().fallback(forward).with_state(proxy);
            serving.spawn(async move { axum::serve(listener, router).await });
        }
        Ok(Self {
            environment,
            calls,
            _serving: serving,
        })
    }

    /// What the functions get, so that they reach the stores through the proxies.
    pub(crate) const fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// The calls since the last time.
    pub(crate) fn take(&self) -> Vec<StoreCall> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Clone)]
struct Proxy {
    store: String,
    http: reqwest::Client,
    calls: Arc<Mutex<Vec<StoreCall>>>,
}

async fn forward(State(proxy): State<Proxy>, headers: HeaderMap, body: Bytes) -> Response {
    match proxy.forward(headers, body).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

impl Proxy {
    async fn forward(&self, mut headers: HeaderMap, body: Bytes) -> Result<Response> {
        let target = headers.get("x-amz-target").context("no x-amz-target")?.to_str()?;
        let (service, operation) = target.rsplit_once('.').context("an unknown x-amz-target")?;
        let operation = operation.to_owned();
        let sent = if service.starts_with("DynamoDB") {
            let mut members: Map<String, Value> = serde_json::from_slice(&body)?;
            members.insert("ReturnConsumedCapacity".to_owned(), "TOTAL".into());
            serde_json::to_vec(&members)?.into()
        } else {
            body.clone()
        };
        headers.remove("content-length");
        headers.remove("host");
        let answer = self.http.post(&self.store).headers(headers).body(sent).send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let answer = answer.bytes().await?;
        let members: Option<Value> = serde_json::from_slice(&answer).ok();
        let capacity = members
            .as_ref()
            .and_then(|members| members.pointer("/ConsumedCapacity/CapacityUnits"));
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(StoreCall {
                operation,
                bytes: body.len() + answer.len(),
                capacity_units: capacity.and_then(Value::as_f64).unwrap_or_default(),
            });
        Ok((status, headers, answer).into_response())
    }
}

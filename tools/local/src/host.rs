//! Servers on loopback in a separate runtime: stopping it ends every connection, whatever it was waiting for, and nothing
//! depends on the runtime of the test that uses it. The `Date` of every answer is the stack's time.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response_with_state;
use axum::response::Response;
use shared::clock::Clock as _;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::LocalClock;

/// How long running requests may take when the servers stop.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Running {
    runtime: Runtime,
    servers: Vec<JoinHandle<()>>,
}

/// Servers and their runtime.
#[derive(Debug)]
pub(crate) struct Host {
    handle: Handle,
    stop: watch::Sender<bool>,
    running: Mutex<Option<Running>>,
    clock: Arc<LocalClock>,
}

/// Opens a port on loopback; 0 takes a free one.
pub(crate) fn bind(port: u16) -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

impl Host {
    pub(crate) fn new(name: &str, clock: &Arc<LocalClock>) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(name)
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            stop: watch::Sender::new(false),
            running: Mutex::new(Some(Running {
                runtime,
                servers: Vec::new(),
            })),
            clock: Arc::clone(clock),
        })
    }

    /// Resolves when the servers must stop.
    pub(crate) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.subscribe();
        async move {
            // An error means that the host is gone, which is a stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// Serves until the host stops. `server` gets the listener and is expected to end when [`Host::stopped`] resolves.
    pub(crate) fn serve<F>(
        &self,
        listener: TcpListener,
        server: impl FnOnce(tokio::net::TcpListener) -> F,
    ) -> Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = running.as_mut().context("the host has stopped")?;
        let listener = {
            let _inside = running.runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let server = running.runtime.spawn(server(listener));
        running.servers.push(server);
        Ok(())
    }

    /// Serves a router until the host stops.
    pub(crate) fn serve_router(&self, listener: TcpListener, router: Router) -> Result<()> {
        let stopped = self.stopped();
        let router = router.layer(map_response_with_state(Arc::clone(&self.clock), set_date));
        self.serve(listener, |listener| async move {
            // It ends only on `stopped`; errors of single connections do not end it.
            let _ = axum::serve(listener, router).with_graceful_shutdown(stopped).await;
        })
    }

    /// Runs a future in the host's runtime.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.handle
            .spawn(work)
            .await
            .context("a task of the local stack failed")?
    }

    /// Lets running requests finish, within limits, and stops everything. A second call does nothing.
    pub(crate) async fn shutdown(&self) {
        self.stop.send_replace(true);
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { runtime, servers }) = running else {
            return;
        };
        // A runtime may only be waited for where blocking is allowed.
        let stopping = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                let finished = async {
                    for server in servers {
                        let _ = server.await;
                    }
                };
                let _ = tokio::time::timeout(GRACE, finished).await;
            });
            runtime.shutdown_timeout(GRACE);
        });
        let _ = stopping.await;
    }
}

/// Clients compare their clock with it. Without it the server would set the machine's time.
async fn set_date(State(clock): State<Arc<LocalClock>>, mut response: Response) -> Response {
    let now = i64::try_from(clock.now().as_secs()).unwrap_or(i64::MAX);
    let date = DateTime::from_secs(now).fmt(DateTimeFormat::HttpDate).ok();
    if let Some(date) = date.and_then(|date| HeaderValue::try_from(date).ok()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

impl Drop for Host {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.runtime.shutdown_background();
        }
    }
}

//! The calls that a request sends to AWS, counted where the SDK sends them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Which service is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `DynamoDB`.
    DynamoDb,
    /// Secrets Manager.
    SecretsManager,
}

/// The calls of one request so far.
#[derive(Debug, Default)]
pub struct Calls {
    dynamodb: AtomicU32,
    secrets_manager: AtomicU32,
}

tokio::task_local! {
    static CALLS: Arc<Calls>;
}

impl Calls {
    /// How many went to a service.
    #[must_use]
    pub fn to(&self, service: Service) -> u32 {
        self.counter(service).load(Ordering::Relaxed)
    }

    fn counter(&self, service: Service) -> &AtomicU32 {
        match service {
            Service::DynamoDb => &self.dynamodb,
            Service::SecretsManager => &self.secrets_manager,
        }
    }
}

/// Runs a request's work with its calls counted in `calls`.
pub fn counted<T>(calls: Arc<Calls>, work: impl Future<Output = T>) -> impl Future<Output = T> {
    CALLS.scope(calls, work)
}

/// Counts one call for the request that is running; outside of one, nothing is counted.
pub fn count(service: Service) {
    let _ = CALLS.try_with(|calls| calls.counter(service).fetch_add(1, Ordering::Relaxed));
}

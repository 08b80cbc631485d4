//! How a stack is started.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::otp::Seed;

use crate::clock::LocalClock;
use crate::cognito::identity::Identity;
use crate::files::DataDir;
use crate::gateway::log::LogTo;
use crate::stores::Stores;

/// How a stack is started. The default is for tests: everything new, in memory, on free ports.
#[derive(Debug, Default)]
pub struct Options {
    /// The port of the API; 0 takes a free one.
    pub port: u16,
    /// Keeps tables, secrets, clients, signing key and clock offset across restarts.
    pub data_dir: Option<Arc<DataDir>>,
    /// The clock; otherwise the machine's, with the offset from the data directory.
    pub clock: Option<Arc<LocalClock>>,
    /// Running stores, which keep running when the stack stops; otherwise new ones.
    pub stores: Option<Arc<Stores>>,
    /// Clients and keys of another stack; otherwise those of the data directory, or new ones.
    pub identity: Option<Identity>,
    /// The functions' endpoint of `DynamoDB`, such as a proxy that injects faults; otherwise the store itself.
    pub functions_dynamodb_url: Option<String>,
    /// The functions' endpoint of Secrets Manager; otherwise the store itself.
    pub functions_secrets_manager_url: Option<String>,
    /// Settings of the functions that differ from the local ones, such as `GUESS_POLICY`; see `shared::config`.
    pub settings: BTreeMap<String, String>,
    /// Which owner's devices a client uses instead of its own, as `CLIENT_OWNERS`; `first` and `second` stand for the ids of the
    /// two clients, which are new with every stack.
    pub client_owners: Option<String>,
    /// The seed of the demo's device; otherwise a new one.
    pub demo_seed: Option<Seed>,
    /// Where log lines go.
    pub log_to: LogTo,
}

/// The port of the API is in use.
#[derive(Debug, thiserror::Error)]
#[error("port {0} is in use; choose another one with --port, or 0 for a free one")]
pub struct PortTaken(pub u16);

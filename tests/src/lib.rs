//! The set-up of the tests: a whole stack whose clock stands still, an HTTP client that uses it as a client of the API
//! does, proxies in front of its stores, and a search for secrets in what was written.

mod contract;
mod proxy;
mod sample_events;
mod secrets;
mod world;

pub use contract::{Contract, Operation, Promise};
pub use proxy::{Chance, Exchange, Fault, Rule, StoreProxy};
pub use sample_events::SampleEvent;
pub use secrets::{Found, Searcher, Secrets};
pub use world::{Answer, Outcome, World, WorldOptions, demo_names, names};

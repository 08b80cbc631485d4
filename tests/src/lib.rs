//! What the journeys are made of: a whole stack whose clock stands still, an HTTP client that asks it what a client
//! of the API would, a proxy in front of its stores that counts calls and makes them fail, a tap that shows them, and a
//! searcher for secrets in what was written.

mod proxy;
mod secrets;
mod tap;
mod world;

pub use proxy::{Chance, Fault, Rule, StoreProxy};
pub use secrets::{Found, Searcher, Secrets};
pub use tap::{Passed, Tap};
pub use world::{Answer, Outcome, World, WorldOptions, demo_names, names};

//! What the journeys are made of: a whole stack whose clock stands still, an HTTP client that asks it what a client
//! of the API would, and a proxy in front of its stores that counts calls and makes them fail.

mod proxy;
mod world;

pub use proxy::{Chance, Fault, Rule, StoreProxy};
pub use world::{Answer, Outcome, World, WorldOptions};

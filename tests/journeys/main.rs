//! What clients, attackers and operators do, over HTTP, against the whole service on this machine.

mod budget;
mod contracts;
mod endurance;
mod errors;
mod events;
mod guessing;
mod isolation;
mod lifecycle;
mod races;
mod replay;
mod seeds;
mod steps;
mod store_faults;
mod template;

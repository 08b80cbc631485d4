//! What clients, attackers and operators do, over HTTP, against the whole service on this machine.

mod budget;
mod contracts;
mod endurance;
mod errors;
mod events;
mod guessing;
mod isolation;
mod leaks;
mod lifecycle;
mod lockout;
mod offers;
mod pairs;
mod races;
mod replay;
mod sameness;
mod seeds;
mod steps;
mod store_faults;

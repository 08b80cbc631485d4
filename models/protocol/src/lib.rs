//! The protocol as a state machine: the real `decide`, settlement and registration, between a table that compares versions,
//! a network that loses answers, clocks that differ, and an operator.
//!
//! [`Protocol`] is a model that a checker explores in every order of events, or a test in random ones. Each
//! [`Mutant`] is the same protocol with one line of its reasoning left out, which the checker must notice.

#[cfg(test)]
mod activations;
mod invariant;
mod model;
mod mutant;
mod part;
mod registry;
mod script;
mod sealing;
mod setup;
mod state;

pub use invariant::{Broken, Invariant};
pub use model::Protocol;
pub use mutant::Mutant;
pub use setup::{Offer, Setup};
pub use state::{Action, Event, Operation, Outcome, State, UseCase};

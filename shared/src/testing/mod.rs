//! What tests stand in place of the world: a clock that is moved by hand, stores in memory that fail on demand, a log
//! that is read back, events as API Gateway sends them, and the suites that every implementation of a port passes.
//!
//! No wall clock, no randomness, no network, no waiting.

pub mod clock;
pub mod contracts;
pub mod events;
pub mod log;
pub mod memory;
pub mod random;

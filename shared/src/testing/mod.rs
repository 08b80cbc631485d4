//! Test doubles for everything outside: a clock moved by hand, stores in memory that fail on demand, a log that can be
//! read, events as API Gateway sends them, and the suites that every implementation of a port must pass.
//!
//! No wall clock, no randomness, no network, no waiting.

pub mod clock;
pub mod contracts;
pub mod events;
pub mod log;
pub mod memory;
pub mod random;

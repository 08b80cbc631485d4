//! Bad input: generated and collected requests for both endpoints, in process over stores in memory, and a few over
//! HTTP. Nothing that a client sends gets a 5xx, a panic, an uncounted guess, or an echo of itself.
//!
//! The long run, a million requests and half as many events:
//! `PROPTEST_CASES=500000 cargo test --release -p acceptance --test bad_input`. A run prints its seed, and
//! `PROPTEST_RNG_SEED` repeats it.

mod answer;
mod corpus;
mod events;
mod expected;
mod requests;
mod run;
mod sent;
mod service;
mod wire;

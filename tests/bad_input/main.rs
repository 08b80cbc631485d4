//! Bad input: generated and collected requests for both endpoints, in process over stores in memory, and a few over
//! HTTP. Nothing that a client sends gets a 5xx, a panic, an uncounted guess, or an echo of itself.
//!
//! `PROPTEST_CASES` takes more, `PROPTEST_RNG_SEED` others; `tests/long-run` takes a million.

mod answer;
mod corpus;
mod events;
mod expected;
mod generated;
mod raw_http;
mod request;
mod runner;
mod service;

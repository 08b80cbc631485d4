//! Bad input: generated and collected requests for every operation, in process over stores in memory, and a few over
//! HTTP. Nothing that a client sends causes a 5xx, a panic, an uncounted guess, or an echo.
//!
//! `PROPTEST_CASES` sets how many, `PROPTEST_RNG_SEED` the seed; `tests/long-run` runs a million.

mod answer;
mod corpus;
mod events;
mod expected;
mod generated;
mod raw_http;
mod request;
mod runner;
mod service;

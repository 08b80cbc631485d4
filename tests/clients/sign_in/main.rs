//! The Rust program of `docs/clients.md`, compiled with this workspace. `tests/clients/run` compares the two and runs it.

#![expect(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "an application of its own, not part of the service"
)]

include!("sign_in.rs");

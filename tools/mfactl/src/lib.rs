//! The operator's command line: registers, imports and manages devices, and the clients that they belong to.
//!
//! [`formats`] are pure: bytes and strings in, typed values and typed errors out. [`commands`] work over ports: those of
//! `shared`, and those of [`ports`], whose adapters are in [`aws`] because no function may have them. [`cli`] and
//! [`target`] are what the program puts around them. No error and no `Debug` shows what was read: it may be a seed.

pub mod aws;
pub mod cli;
pub mod commands;
pub mod formats;
pub mod ports;
pub mod target;
pub mod terminal;
pub mod usage;

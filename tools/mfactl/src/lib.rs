//! The operator's command line: registers, imports and looks after devices, and the clients that they belong to.
//!
//! The formats that seeds travel in ([`otpauth`], [`migration`], [`csv`], [`pskc`]; [`import`] tells them apart) and their
//! picture ([`qr`]) are pure: bytes and strings in, typed values and typed errors out. [`commands`] work over ports,
//! of which those of [`clients`] and [`deployed`] have their adapters here ([`cognito`], [`aws_inspector`]), since no function
//! may have them;
//! [`cli`], [`target`] and [`terminal`] are what the program puts around them. No error and no `Debug` shows what was read:
//! it may be a seed.

pub mod aws_inspector;
pub mod cli;
pub mod clients;
pub mod cognito;
pub mod commands;
pub mod csv;
pub mod deployed;
pub mod encodings;
pub mod import;
pub mod migration;
pub mod otpauth;
pub mod parameters;
pub mod pskc;
pub mod qr;
pub mod target;
pub mod terminal;

//! The operator's command line: registers, imports and looks after devices.
//!
//! What is here so far reads and writes the formats that seeds travel in ([`otpauth`], [`migration`], [`csv`],
//! [`pskc`]; [`import`] tells them apart). All of it is pure: bytes and strings in, typed values and typed errors out,
//! no I/O, no clock, no environment. No error and no `Debug` shows what was read: it may be a seed.

pub mod csv;
pub mod encodings;
pub mod import;
pub mod migration;
pub mod otpauth;
pub mod parameters;
pub mod pskc;

//! The formats that seeds travel in, and the QR code that shows one. Without I/O, clock or randomness.
//!
//! [`import_file`] recognises the format of a file. No error and no `Debug` shows what was read.

pub mod csv;
pub mod encodings;
pub mod import_file;
pub mod migration;
pub mod otpauth;
pub mod parameters;
pub mod pskc;
pub mod qr;

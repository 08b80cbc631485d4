//! The protocol of one-time-code authentication, and the adapters that the functions are built from.
//!
//! The core ([`clock`], [`random`], [`names`], [`otp`], [`device`], [`settlement`], [`policy`], `registration`, [`sealed`], [`ports`], [`error`]) has no
//! I/O, no environment, no HTTP and no SDK: it compiles with `--no-default-features`. The adapters (`config`, `telemetry`,
//! `http`, `aws`, `testing`) are behind features and depend on the core, never the other way round.

#![warn(missing_docs)]

pub mod clock;
pub mod device;
pub mod error;
pub mod names;
pub mod otp;
#[cfg(feature = "registry")]
pub mod otpauth;
pub mod policy;
pub mod ports;
pub mod random;
#[cfg(feature = "registry")]
pub mod registration;
pub mod sealed;
pub mod settlement;

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;

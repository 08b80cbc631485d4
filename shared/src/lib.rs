//! What both functions are made of.
//!
//! The core ([`clock`], [`names`], [`otp`], [`device`], [`settlement`], [`policy`], [`ports`], [`error`]) has no I/O, no
//! clock, no environment, no HTTP and no SDK: it compiles with `--no-default-features`. The adapters stand behind
//! features and point inward: `config`, `telemetry`, `http`, `aws`, `testing`.

pub mod clock;
pub mod device;
pub mod error;
pub mod names;
pub mod otp;
pub mod policy;
pub mod ports;
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

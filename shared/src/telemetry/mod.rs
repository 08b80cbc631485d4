//! The log: one line per request, and the warnings of libraries.
//!
//! A [`RequestLine`] has fields and fixed words only: never a request, a claims map, a person's name, a code, a seed or a
//! token. Libraries log from warnings upwards: below that, they print requests and responses.

pub mod calls;
mod device_hash;
mod line;
mod subscriber;

pub use device_hash::DeviceHasher;
pub use line::{Level, RequestLine, RequestLog, StdoutLog};
pub use subscriber::log_libraries;

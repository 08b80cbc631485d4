//! The service on one machine: embedded stores, token endpoint, gateway, functions, test clock.
//!
//! Everything listens on 127.0.0.1 and nowhere else. As a program it is for trying things out, as a library it is the
//! harness of the acceptance tests: [`Stack::start`] brings up a whole one, any number side by side. Nothing here is
//! deployed.

mod access;
mod authorizer;
mod clock;
mod cognito;
pub mod control_plane;
pub mod demo;
mod event;
mod exception;
mod files;
mod functions;
mod gateway;
mod host;
mod identity;
mod local_api;
mod log;
pub mod measure;
pub mod odds;
mod pool;
mod random;
mod registry;
pub mod sample_event;
mod samples;
mod secrets_front;
mod secrets_list;
mod signing;
mod stack;
mod stores;
mod template;
mod token;
pub mod usage;

pub use clock::LocalClock;
pub use files::DataDir;
pub use identity::{Client, Identity};
pub use log::LogTo;
pub use registry::{Codes, Registered, device_key};
pub use stack::{DEMO_DEVICE, DEMO_USER, Options, PortTaken, Stack};
pub use stores::Stores;
pub use template::Function;
pub use token::Claims;

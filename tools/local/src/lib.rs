//! The service on one machine: embedded stores, token endpoint, gateway, functions, test clock, a page to try it.
//!
//! Everything listens on 127.0.0.1 and nowhere else. As a program it is for trying things out, as a library it is the
//! harness of the acceptance tests: [`Stack::start`] brings up a complete stack, any number of them side by side. Nothing
//! here is deployed.

mod clock;
mod cognito;
pub mod demo;
mod files;
mod gateway;
mod host;
mod page;
mod random;
mod stack;
mod stores;
pub mod template;

pub use clock::LocalClock;
pub use cognito::client::Client;
pub use cognito::identity::Identity;
pub use cognito::token::Claims;
pub use demo::{sample_event, usage};
pub use files::DataDir;
pub use gateway::log::LogTo;
pub use stack::{Options, PortTaken, Stack};
pub use stores::Stores;
pub use stores::devices::{Codes, DEMO_DEVICE, DEMO_USER, Registered, device_key};
pub use stores::secrets_manager::KEY_RING;
pub use template::Function;

//! Cognito on one machine: the token endpoint, the user pool with its clients, and the calls that manage them.
//!
//! Nothing here knows the gateway or the stores.

pub(crate) mod client;
pub(crate) mod control;
pub(crate) mod exception;
pub(crate) mod identity;
mod pool;
mod signing;
pub(crate) mod token;

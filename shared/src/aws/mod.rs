//! The ports on AWS: `DynamoDB` for auths and devices, Secrets Manager for seeds.
//!
//! Failures are told apart by the SDK's types, never by their text. `items` says what an item looks like, `sealing` what a
//! sealed seed is; `registry` and `operator` do what a sign-in never needs.

mod attributes;
pub mod auths;
mod conditional;
pub mod devices;
mod items;
mod key_ring;
#[cfg(feature = "operator")]
mod operator;
#[cfg(feature = "registry")]
mod registry;
#[cfg(feature = "operator")]
mod rotation;
pub mod sdk;
pub mod sealing;
pub mod seeds;
mod state;

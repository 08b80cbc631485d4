//! The ports on AWS: `DynamoDB` for auths and devices, Secrets Manager for seeds.
//!
//! Failures are told apart by the SDK's types, never by their text; what an item must look like is in `items`.

pub mod auths;
pub mod devices;
mod items;
pub mod sdk;
pub mod seeds;

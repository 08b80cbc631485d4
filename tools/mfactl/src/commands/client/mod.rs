//! The commands for clients: applications with credentials, in a user pool.
//!
//! A client keeps its id when its secret is rotated, since devices belong to the id. A secret is written only to the file or
//! terminal that was asked for. A secret whose value was lost on the way is deleted.

mod add;
mod admin;
mod list;
mod remove;
mod rotate;

#[cfg(test)]
mod tests;

pub use admin::{ClientAdmin, SecretOutput};
pub use rotate::Rotation;

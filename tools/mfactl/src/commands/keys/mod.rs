//! The commands for the key ring, under whose keys seeds are sealed.
//!
//! A key is only ever added: backups and slow writers still need the old ones. Seeds are sealed again in place, so a sign-in
//! neither waits nor fails for it.

mod census;
mod list;
mod reseal;
mod rotate;

#[cfg(test)]
mod tests;

pub(super) use census::{Census, keys_of};
pub use list::ListKeysRequest;
pub use reseal::ResealRequest;
pub use rotate::RotateRequest;

//! The commands for devices, one file each; `disable`, `enable` and `unlock` share one.

mod activate;
mod admin;
mod check;
mod describe;
mod drift;
mod export;
mod import;
mod list;
mod register;
mod remove;
mod restored;
mod show;
mod state;

#[cfg(test)]
mod tests;

pub use admin::{DeviceAdmin, Removal};
pub(super) use admin::{discard, kept_note};
pub use check::CheckRequest;
pub use import::ImportRequest;
pub use list::ListRequest;
pub(super) use list::{name_unreadable, require_readable};
pub use register::RegisterRequest;

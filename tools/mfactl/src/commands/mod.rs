//! The commands, over ports: stores, clock, randomness and terminal come in, so that tests can make each of them fail at
//! every call.
//!
//! What holds at each of these points: a secret is written before the device that names it, and a device stops naming a
//! secret before that is removed. A device that works has its secret; all that can be left over is a secret that no device
//! names.

pub mod client;
pub mod device;
pub mod doctor;
pub mod keys;
pub mod seeds;

mod confirm;
mod output_file;
mod pace;
mod sweep;
mod text;

#[cfg(test)]
mod testing;

pub use pace::Delay;

//! `doctor`: checks a deployment, says what is wrong and how to fix it, and fixes orphaned secrets and devices.
//!
//! What could not be checked is a problem, never ok. `checks` decides what is wrong, without I/O; `orphans` compares
//! devices and secrets.

mod checks;
mod deployment;
mod examine;
mod finding;
mod orphans;
mod stack;

#[cfg(test)]
mod tests;

pub use deployment::{Doctor, Place, Stores};
pub use examine::DoctorOptions;
pub use stack::{stack_by_name, stack_with_resources};

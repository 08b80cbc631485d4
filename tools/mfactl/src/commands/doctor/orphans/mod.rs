//! Secrets that no device names, and devices whose secret is missing: what an interrupted command, or a change by hand, left
//! behind.
//!
//! Secrets are listed before devices are read, and a secret is created before the device that names it: a secret that was
//! listed, is old enough, and is named by no device that was read after it, is an orphan. Listings may be minutes old, so a
//! secret that seems to be missing is looked up by its name, young ones are left alone, and everything is checked again
//! right before it is changed. What `--fix` cannot be sure of, it leaves.

mod compare;
mod fix;
mod report;

#[cfg(test)]
pub(super) use report::GRACE_PERIOD;

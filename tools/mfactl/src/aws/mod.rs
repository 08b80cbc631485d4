//! AWS behind the ports of this crate, through its SDK.

pub mod clients;
mod clock;
pub mod inspect;

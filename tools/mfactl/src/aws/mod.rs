//! AWS behind the ports of this crate, through its SDK.

pub mod clients;
pub mod clock;
pub mod inspect;

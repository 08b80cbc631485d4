//! What the tests of the commands share: stores and a user pool in memory that fail on demand, and a terminal with prepared
//! answers.

pub(super) mod pool;
pub(super) mod world;

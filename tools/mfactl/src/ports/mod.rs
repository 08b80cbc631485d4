//! What only an operator's commands need from outside, beside the ports of `shared`. No SDK here.

pub mod clients;
pub mod stack;

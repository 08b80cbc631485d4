//! The doctor over ports in memory.

mod concurrency;
mod examine;
mod memory_stack;
mod orphans;

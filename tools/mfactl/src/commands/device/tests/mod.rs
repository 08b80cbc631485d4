//! The commands for devices, over stores in memory.

mod check;
mod import;
mod list;
mod register;
mod remove;
mod restored;
mod state;

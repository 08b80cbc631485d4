//! The command line: what can be typed, and which command runs.

mod arguments;
mod dispatch;
mod input;
mod manual;

pub use arguments::Arguments;
pub use dispatch::run;
pub use manual::parse;

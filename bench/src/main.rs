//! `cargo run -p measure`: what the functions cost. Builds both in release mode, runs the binaries under a stand-in for
//! Lambda's runtime API against the local stores, and prints a Markdown table.
//!
//! Times are those of this machine, from outside the process: INIT is the time from its start until it asks for work, a
//! call the time from the event to the answer, stores included. The stores are reached over TLS, as on Lambda, and over
//! loopback, unlike there.

mod measurement;
mod process;
mod report;
mod tls;

use std::io::Write as _;

use anyhow::Result;
use local::{Options, Stack};

use report::Plan;

#[tokio::main]
async fn main() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let outcome = measurement::measure(stack.environment(), Plan::DEFAULT).await;
    stack.shutdown().await;
    writeln!(std::io::stdout(), "{}", outcome?)?;
    Ok(())
}

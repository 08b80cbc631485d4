//! `cargo run -p odds`: the table of `docs/security.md`, for any policy.

use std::io::Write as _;

use anyhow::Result;
use clap::Parser;
use odds::Options;

/// Simulate a year of guessing, and owners with typing errors, with the service's own decision, and print a Markdown table.
///
/// Takes some seconds.
#[derive(Parser)]
#[command(name = "odds")]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> Result<()> {
    let report = odds::simulate(&Arguments::parse().options)?;
    write!(std::io::stdout(), "{report}")?;
    Ok(())
}

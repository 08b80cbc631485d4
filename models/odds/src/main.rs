//! `cargo run -p odds`: the table and the plot of `docs/security.md`, for any policy.

use std::io::Write as _;

use anyhow::Result;
use clap::Parser;
use odds::{Options, Plot};

/// Simulate a year of guessing, and owners with typing errors, with the service's own decision, and print a Markdown table.
///
/// Takes some seconds.
#[derive(Parser)]
#[command(name = "odds")]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Draw the attacker's year and the owner's sign-ins as an SVG image instead.
    #[arg(long)]
    svg: bool,
}

fn main() -> Result<()> {
    let Arguments { options, svg } = Arguments::parse();
    let report = odds::simulate(&options)?;
    let mut out = std::io::stdout();
    if svg {
        write!(out, "{}", Plot(&report))?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}

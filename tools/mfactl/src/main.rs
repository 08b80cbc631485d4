//! `mfactl`: reads the command line, runs the command, and turns its outcome into an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use mfactl::cli;
use mfactl::terminal::{is_output_closed, visible_lines};
use mfactl::usage::Usage;

/// As a shell reports programs that a closed pipe ended: 128 and the number of the signal SIGPIPE.
const OUTPUT_CLOSED: u8 = 141;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match cli::run(&cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if is_output_closed(&error) => ExitCode::from(OUTPUT_CLOSED),
        Err(error) => {
            // Nothing can be done if even this cannot be written.
            let _ = writeln!(std::io::stderr(), "mfactl: {}", visible_lines(&format!("{error:#}")));
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

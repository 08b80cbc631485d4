//! `mfactl`: reads the command line, runs the command, and turns its outcome into an exit code.

use std::io::Write as _;
use std::process::ExitCode;

use mfactl::cli;
use mfactl::usage::Usage;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match cli::run(&cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing can be done if even this cannot be written.
            let _ = writeln!(std::io::stderr(), "mfactl: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

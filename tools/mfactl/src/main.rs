//! `mfactl`: takes the command line, opens the stack that it names, and carries the command out.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser as _;
use mfactl::cli::{self, Arguments, Command, DoctorArguments};
use mfactl::commands::Patience;
use mfactl::target::{self, Settings, Usage};
use mfactl::terminal::Console;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing can be done if even this cannot be written.
            let _ = writeln!(std::io::stderr(), "mfactl: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// What was given, and what the stack says that was named.
async fn settings(arguments: &Arguments) -> Result<Settings> {
    let mut settings = arguments.settings();
    if let Some(name) = arguments.stack()? {
        settings.add_stack(&target::deployed_stack(name).await?);
    }
    Ok(settings)
}

/// Whether nothing was left behind.
async fn run(arguments: &Arguments) -> Result<bool> {
    arguments.stack()?;
    let command = match &arguments.command {
        Command::Device(command) => command,
        Command::Doctor(given) => return doctor(arguments, given).await,
        Command::Client(given) => {
            let (settings, token_url) = (settings(arguments).await?, given.token_url.clone());
            let mut desk = match &arguments.local {
                Some(file) => target::local_pool(file, token_url, Console::default(), arguments.yes)?,
                None => target::pool(&settings, token_url, Console::default(), arguments.yes).await?,
            };
            given.command.run(&mut desk).await?;
            return Ok(true);
        }
        Command::Completions { shell } => return print(&cli::completions(*shell)),
        Command::Man { directory: None } => return print(&cli::manual()?),
        Command::Man {
            directory: Some(directory),
        } => {
            cli::manuals(directory)?;
            return Ok(true);
        }
    };
    let mut target = match &arguments.local {
        Some(file) => target::local(file, Console::default(), arguments.yes).await?,
        None => target::deployment(&settings(arguments).await?, Console::default(), arguments.yes).await?,
    };
    command.run(&mut target.desk, target.client.as_ref(), &Waits).await?;
    Ok(!target.desk.left_behind)
}

async fn doctor(arguments: &Arguments, given: &DoctorArguments) -> Result<bool> {
    let token_url = given.token_url.clone();
    let mut doctor = if let Some(file) = &arguments.local {
        target::local_doctor(file, token_url, Console::default(), arguments.yes).await?
    } else {
        let (settings, name) = (arguments.settings(), arguments.stack()?);
        target::doctor(&settings, name, token_url, Console::default(), arguments.yes).await?
    };
    doctor.api_url.clone_from(&given.api_url);
    doctor.examine(&given.examining(), &Waits).await?;
    Ok(true)
}

fn print(text: &[u8]) -> Result<bool> {
    std::io::stdout().write_all(text)?;
    Ok(true)
}

/// Waits as long as it is told.
struct Waits;

impl Patience for Waits {
    async fn pause(&self, duration: Duration) {
        // Only a pace is kept here; nothing waits for something to happen.
        let _ = tokio::time::timeout(duration, std::future::pending::<()>()).await;
    }
}

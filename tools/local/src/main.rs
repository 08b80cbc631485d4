//! `cargo run -p local`: starts the service on this machine, prints how to use it, and serves until it is stopped.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use futures_util::future::select_all;
use local::usage::{self, LocalFiles};
use local::{DataDir, LogTo, Options, PortTaken, Stack, demo, sample_event};
use shared::config;
use shared::otp::{OtpParameters, Seed};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

const LOCAL_FILES: &str = ".local";

/// Run the service on this machine: stores, tokens, gateway, functions. Everything listens on 127.0.0.1.
#[derive(Parser)]
#[command(name = "local", args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Serve the API on this port; 0 takes a free one.
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Keep tables, secrets, clients, signing key and clock offset in this directory, across restarts; otherwise in memory only.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Read the demo device's seed in base32 from this file, `-` for standard input; otherwise generate one.
    #[arg(long, value_name = "FILE")]
    seed_file: Option<PathBuf>,
    /// Let clients use the devices of an owner instead of their own: clientId=owner pairs between commas; `first` and `second`
    /// stand for the stack's two clients.
    #[arg(long, value_name = "PAIRS")]
    client_owners: Option<String>,
    /// Keep new seeds in secrets of their own, or sealed beside their devices.
    #[arg(long, value_name = "WHERE", default_value = "secrets", value_parser = ["secrets", "sealed"])]
    seed_storage: String,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Perform the three steps once against a new stack; exit with 0 only if every answer is as documented.
    Demo {
        /// Instead register a device over HTTP, activate it, sign in with it, replace it and remove it.
        #[arg(long)]
        register: bool,
        /// Keep new seeds in secrets of their own, or sealed beside their devices.
        #[arg(long, value_name = "WHERE", default_value = "secrets", value_parser = ["secrets", "sealed"])]
        seed_storage: String,
    },
    /// Print an event for `cargo lambda invoke` with a code that is valid now on the running stack.
    Event {
        #[command(subcommand)]
        function: EventFor,
    },
}

#[derive(Subcommand)]
enum EventFor {
    /// Step 3 for the device of the sample events.
    ValidateOtp {
        /// Use an authId that `init-auth` returned for it; otherwise the one that always exists.
        #[arg(long)]
        auth_id: Option<String>,
        /// Send two consecutive codes instead of one.
        #[arg(long)]
        pair: bool,
    },
    /// The first code of a device of the sample events that waits for it, which activates the device.
    ManageDevices,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Some(Command::Demo { register, seed_storage }) => run_demo(register, &seed_storage).await,
        Some(Command::Event { function }) => print_event(function).await,
        None => serve(&arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing can be done if even this cannot be written.
            let _ = writeln!(io::stderr(), "local: {error:#}");
            ExitCode::from(if error.is::<PortTaken>() { 2 } else { 1 })
        }
    }
}

async fn run_demo(register: bool, storage: &str) -> Result<()> {
    let stack = Stack::start(Options {
        settings: seed_storage(storage),
        ..Options::default()
    })
    .await?;
    let outcome = if register {
        demo::run_registration(&stack, &mut io::stdout()).await
    } else {
        demo::run(&stack, &mut io::stdout()).await
    };
    stack.shutdown().await;
    outcome
}

async fn print_event(function: EventFor) -> Result<()> {
    let origin = usage::running_origin(Path::new(LOCAL_FILES))?;
    let event = match function {
        EventFor::ValidateOtp { auth_id, pair } => {
            sample_event::validate_otp(&origin, auth_id.as_deref(), pair).await?
        }
        EventFor::ManageDevices => sample_event::manage_devices(&origin).await?,
    };
    write!(io::stdout(), "{}", *event)?;
    Ok(())
}

async fn serve(arguments: &Arguments) -> Result<()> {
    // From the beginning: no signal may end this process while its files are there.
    let signals = [
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
    ];
    let mut signals = signals.into_iter().map(signal).collect::<io::Result<Vec<_>>>()?;
    let stopped = select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv())));
    let stack = Stack::start(Options {
        port: arguments.port,
        data_dir: arguments.data_dir.as_deref().map(DataDir::open).transpose()?,
        client_owners: arguments.client_owners.clone(),
        settings: seed_storage(&arguments.seed_storage),
        demo_seed: arguments.seed_file.as_deref().map(read_seed).transpose()?,
        log_to: LogTo::StandardOutput,
        ..Options::default()
    })
    .await?;
    let outcome = until(stopped, &stack).await;
    stack.shutdown().await;
    outcome
}

fn seed_storage(storage: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(config::SEED_STORAGE.to_owned(), storage.to_owned())])
}

async fn until(stopped: impl Future, stack: &Stack) -> Result<()> {
    let files = LocalFiles::write(Path::new(LOCAL_FILES), stack)?;
    writeln!(
        io::stdout(),
        "The API is running at {}. Press Ctrl-C to stop it.\n\
         Open {}/ in a browser to try it, with a QR code, a test clock and an attacker.\n\
         .local/stack.json has all URLs and credentials, .local/env is for cargo lambda watch --env-file.\n\
         Or copy into a shell:\n\n{}",
        stack.api_url(),
        stack.origin(),
        *usage::commands(stack)
    )?;
    stopped.await;
    files.remove()
}

fn read_seed(path: &Path) -> Result<Seed> {
    let mut text = Zeroizing::new(String::new());
    if path == Path::new("-") {
        io::stdin().read_to_string(&mut text)?;
    } else {
        *text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Seed::from_base32(text.trim(), OtpParameters::default())
        .with_context(|| format!("{} has no valid seed", path.display()))
}

//! The command line: what is typed, and which command it is.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use shared::clock::Clock;
use shared::config;
use shared::names::{ClientId, DeviceKey, DeviceName, UserName};
use shared::otp::{Algorithm, Digits, OtpParameters, Period, Seed};
use shared::ports::{DeviceRegistry, Of, Random, SeedRegistry};
use zeroize::Zeroizing;

use crate::clients::{ClientName, ClientRegistry, Scope};
use crate::commands::{
    Checking, ClientDesk, Desk, Examining, Importing, Listing, Patience, Registering, Removing, Rotating, SecretTo,
};
use crate::encodings::seed_from_base32;
use crate::import::ImportOptions;
use crate::otpauth::Issuer;
use crate::parameters;
use crate::pskc::PskcOptions;
use crate::target::{SEED_KEY, Settings, USER_POOL_ID, Usage};
use crate::terminal::Terminal;

/// Devices that are read at once: less than a megabyte, the most that a page of `DynamoDB` has.
const PAGE: u16 = 500;
const LOCAL_FILE: &str = ".local/stack.json";

/// Registers, imports and looks after the devices of an MFA service, and the clients that they belong to.
///
/// Ends with 0 if all was done, with 1 if something failed, with 2 if the command line is wrong. Every command can be
/// repeated: it finishes what an earlier one began.
#[derive(Debug, Parser)]
#[command(name = "mfactl", version, arg_required_else_help = true)]
pub struct Arguments {
    /// Works on the local stack, which `cargo run -p local` starts; FILE is what it writes about itself.
    #[arg(long, global = true, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = LOCAL_FILE)]
    pub local: Option<PathBuf>,
    /// Answers every question with yes, and overwrites files.
    #[arg(long, short, global = true)]
    pub yes: bool,
    #[command(flatten)]
    deployment: Deployment,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which deployment: its stack, or the settings of its functions. Region and credentials are those of every AWS tool.
#[derive(Debug, Args)]
#[command(next_help_heading = "Deployment (each setting also by the variable of the function)")]
struct Deployment {
    /// The stack, by its name: what is not given below is what its outputs and parameters say.
    #[arg(long, global = true, value_name = "NAME")]
    stack: Option<String>,
    /// The table of devices [variable: `DEVICES_TABLE`].
    #[arg(long, global = true, value_name = "NAME")]
    devices_table: Option<String>,
    /// What the names of seeds begin with [variable: `SEED_PREFIX`].
    #[arg(long, global = true, value_name = "PREFIX")]
    seed_prefix: Option<String>,
    /// The KMS key that new seeds are encrypted with, if the stack has one (`SeedKey`) [variable: `SEED_KEY`].
    #[arg(long, global = true, value_name = "ARN")]
    seed_key: Option<String>,
    /// How guesses are rationed: standard, strict or custom [variable: `GUESS_POLICY`].
    #[arg(long, global = true, value_name = "POLICY")]
    policy: Option<String>,
    /// With custom, wrong single codes at once [variable: `GUESS_BURST`].
    #[arg(long, global = true, value_name = "CODES")]
    policy_burst: Option<String>,
    /// With custom, hours until one more is allowed [variable: `GUESS_REFILL_HOURS`].
    #[arg(long, global = true, value_name = "HOURS")]
    policy_refill_hours: Option<String>,
    /// With custom, seconds between wrong pairs [variable: `GUESS_PAIR_GAP_SECONDS`].
    #[arg(long, global = true, value_name = "SECONDS")]
    policy_pair_gap_seconds: Option<String>,
}

/// A family of commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Devices: what users authenticate with.
    #[command(subcommand)]
    Device(Box<DeviceCommand>),
    /// Clients: applications with credentials.
    Client(ClientArguments),
    /// Looks at a deployed stack (--stack), says what is wrong with it and how to mend it.
    ///
    /// Tables, who is let in, clients, alarms, this machine's clock, and whether each device has its secret and each secret its
    /// device. Ends with 1 if there is a problem. Changes nothing without --fix.
    Doctor(DoctorArguments),
    /// Prints completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page, or with a directory writes those of all commands into it.
    Man {
        /// Where the pages go.
        directory: Option<PathBuf>,
    },
}

/// A device, by its names.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// The client that the device belongs to, by its id; with --local, the first one if it is not given.
    #[arg(long)]
    client: Option<String>,
    /// Who holds the device.
    #[arg(long, value_parser = UserName::parse)]
    user: UserName,
    /// Its name.
    #[arg(long, value_parser = DeviceName::parse)]
    device: DeviceName,
}

/// Devices, by whom they belong to.
#[derive(Debug, Args)]
pub struct Selection {
    /// Only the devices of this client, by its id.
    #[arg(long)]
    client: Option<String>,
    /// Only the devices of this user; the client is needed too.
    #[arg(long, value_parser = UserName::parse)]
    user: Option<UserName>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AlgorithmName {
    /// What every app supports.
    Sha1,
    /// Not in every app.
    Sha256,
    /// Not in every app.
    Sha512,
}

/// What is done with devices.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Registers a device: shows its seed as QR code and URI, and asks for the first code.
    Register(RegisterArguments),
    /// Asks for the first code of a device that waits for it.
    Activate {
        /// Which device.
        #[command(flatten)]
        which: Which,
    },
    /// Lists devices.
    List {
        /// Which devices.
        #[command(flatten)]
        selection: Selection,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// Shows a device.
    Show {
        /// Which device.
        #[command(flatten)]
        which: Which,
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// Takes a device out of use.
    Disable {
        /// Which device.
        #[command(flatten)]
        which: Which,
    },
    /// Takes a disabled device into use again.
    Enable {
        /// Which device.
        #[command(flatten)]
        which: Which,
    },
    /// Opens single codes after too many wrong ones. Two codes in a row work without it.
    Unlock {
        /// Which device.
        #[command(flatten)]
        which: Which,
        /// Forgets all wrong codes, not only as many as the user needs now.
        #[arg(long)]
        reset_budget: bool,
    },
    /// Removes a device, then its secret.
    Remove {
        /// Which device.
        #[command(flatten)]
        which: Which,
        /// Removes the secret for good; otherwise it can be restored for 30 days.
        #[arg(long)]
        now: bool,
    },
    /// Imports devices: otpauth:// URIs, an authenticator's export, CSV (user,device,seed) or PSKC.
    Import(ImportArguments),
    /// Writes what is known of devices as JSON, one in a line. Never seeds.
    Export {
        /// Which devices.
        #[command(flatten)]
        selection: Selection,
    },
    /// Checks that a device can work: its item, its secret, and what would happen now.
    Check {
        /// Which device.
        #[command(flatten)]
        which: Which,
        /// For scripts.
        #[arg(long)]
        json: bool,
        /// A file with the seed that it should have in base32, - for standard input.
        #[arg(long, value_name = "FILE")]
        seed_file: Option<PathBuf>,
    },
}

/// Which user pool, and what is done with its clients.
#[derive(Debug, Args)]
pub struct ClientArguments {
    /// The user pool [variable: `USER_POOL_ID`].
    #[arg(long, global = true, value_name = "ID")]
    user_pool: Option<String>,
    /// Where tokens are given; otherwise the pool's own domain.
    #[arg(long, global = true, value_name = "URL")]
    pub token_url: Option<String>,
    /// What is done.
    #[command(subcommand)]
    pub command: ClientCommand,
}

/// How a stack is looked at.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Mends orphans, and asks first: removes secrets that no device names (each can be brought back for 30 days), brings back
    /// secrets that devices name, and removes devices whose secret is gone for good.
    #[arg(long)]
    fix: bool,
    /// For scripts.
    #[arg(long)]
    json: bool,
    /// Where the API is called, if it has a domain of its own; otherwise the stack's output `ApiUrl`.
    #[arg(long, value_name = "URL")]
    pub api_url: Option<String>,
    /// Where tokens are given; otherwise the pool's own domain.
    #[arg(long, value_name = "URL")]
    pub token_url: Option<String>,
}

impl DoctorArguments {
    /// How.
    #[must_use]
    pub fn examining(&self) -> Examining {
        Examining {
            fix: self.fix,
            json: self.json,
            page: PAGE,
        }
    }
}

/// Where a secret goes: never into the list of processes, a log or another file.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SecretArguments {
    /// Writes the secret, and nothing else, into a file that only you can read.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Shows the secret on the terminal, once.
    #[arg(long)]
    show_secret: bool,
}

/// How a secret is replaced.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct RotateArguments {
    /// Writes the new secret, and nothing else, into a file that only you can read.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Shows the new secret on the terminal, once.
    #[arg(long)]
    show_secret: bool,
    /// Deletes the older one of two secrets.
    #[arg(long)]
    finish: bool,
    /// Deletes the newer one of two secrets.
    #[arg(long)]
    undo: bool,
}

/// What is done with clients.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Creates a client, and says how it gets tokens.
    Add {
        /// Its name.
        #[arg(value_parser = ClientName::parse)]
        name: ClientName,
        /// What it may ask for.
        #[arg(long, value_name = "SCOPE", value_delimiter = ',', default_value = "mfa/authenticate", value_parser = Scope::parse)]
        scopes: Vec<Scope>,
        /// Where its secret goes.
        #[command(flatten)]
        secret: SecretArguments,
    },
    /// Lists the clients of the user pool. Never secrets.
    List {
        /// For scripts.
        #[arg(long)]
        json: bool,
    },
    /// Gives a client a second secret; with --finish, when the application uses it, deletes the first. The id stays.
    Rotate {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        client: String,
        /// Which part of it.
        #[command(flatten)]
        rotation: RotateArguments,
    },
    /// Removes a client.
    Remove {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        client: String,
        /// Also if it has devices, which can never be used again.
        #[arg(long)]
        with_devices_left: bool,
    },
}

/// How a device is registered.
#[derive(Debug, Args)]
pub struct RegisterArguments {
    /// Which device.
    #[command(flatten)]
    which: Which,
    /// What the app shows above the code.
    #[arg(long, default_value = "MFA", value_parser = Issuer::parse)]
    issuer: Issuer,
    /// The hash.
    #[arg(long, default_value = "sha1", ignore_case = true)]
    algorithm: AlgorithmName,
    /// Digits of a code: 6 or 8.
    #[arg(long, default_value = "6", value_parser = |raw: &str| parameters::digits(raw).ok_or("6 or 8"))]
    digits: Digits,
    /// Seconds that a code is shown: 30 or 60.
    #[arg(long, default_value = "30", value_parser = |raw: &str| parameters::period(raw).ok_or("30 or 60"))]
    period: Period,
    /// Gives an active device a new seed. The old one works until the first good code of the new one.
    #[arg(long)]
    replace: bool,
    /// With --replace, how long the new seed waits for its first code.
    #[arg(long, default_value = "60", value_name = "MINUTES", value_parser = clap::value_parser!(u16).range(1..=10_080))]
    pending_minutes: u16,
    /// Does not ask for the first code: `device activate` does.
    #[arg(long)]
    no_activate: bool,
    /// Writes the QR code as PNG, readable only by you.
    #[arg(long, value_name = "FILE")]
    png: Option<PathBuf>,
    /// Writes the QR code as SVG, readable only by you.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// How a file is imported.
#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The file, - for standard input.
    file: PathBuf,
    /// The client that the devices belong to, by its id; with --local, the first one if it is not given.
    #[arg(long)]
    client: Option<String>,
    /// The device of rows that name none.
    #[arg(long, value_parser = DeviceName::parse)]
    device: Option<DeviceName>,
    /// Says what would be done with each row, and writes nothing.
    #[arg(long)]
    dry_run: bool,
    /// Takes seeds of 80 to 127 bits.
    #[arg(long)]
    allow_weak_seeds: bool,
    /// The pre-shared key of a PSKC file, in hexadecimal digits, - for standard input.
    #[arg(long, value_name = "FILE")]
    pre_shared_key_file: Option<PathBuf>,
    /// Takes PSKC keys with a start or an end, which the service does not keep.
    #[arg(long)]
    allow_dated_keys: bool,
}

impl Arguments {
    /// The stack that was named.
    ///
    /// # Errors
    /// [`Usage`] if the local stack was named too.
    pub fn stack(&self) -> Result<Option<&str>, Usage> {
        // The parser does not hold global options against each other if one comes before the command and one after it.
        if self.local.is_some() && self.deployment.stack.is_some() {
            return Err(Usage(
                "--local and --stack name two stacks: give one of them".to_owned(),
            ));
        }
        Ok(self.deployment.stack.as_deref())
    }

    /// The settings that were given.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        let given = &self.deployment;
        for (name, value) in [
            (config::DEVICES_TABLE, &given.devices_table),
            (config::SEED_PREFIX, &given.seed_prefix),
            (SEED_KEY, &given.seed_key),
            (config::GUESS_POLICY, &given.policy),
            (config::GUESS_BURST, &given.policy_burst),
            (config::GUESS_REFILL_HOURS, &given.policy_refill_hours),
            (config::GUESS_PAIR_GAP_SECONDS, &given.policy_pair_gap_seconds),
        ] {
            settings.add(name, value.clone());
        }
        if let Command::Client(given) = &self.command {
            settings.add(USER_POOL_ID, given.user_pool.clone());
        }
        settings
    }
}

/// The completions for a shell.
#[must_use]
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "mfactl", &mut text);
    text
}

/// The manual page of the program.
///
/// # Errors
/// Never: it is written into memory.
pub fn manual() -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Arguments::command()).render(&mut text)?;
    Ok(text)
}

/// Writes the manual pages of all commands.
///
/// # Errors
/// If they cannot be written.
pub fn manuals(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Arguments::command(), directory)
}

fn client(given: Option<&str>, default: Option<&ClientId>) -> Result<ClientId, Usage> {
    match (given, default) {
        (Some(raw), _) => ClientId::parse(raw).map_err(|error| Usage(format!("--client is not a client id: {error}"))),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => Err(Usage(
            "say whose devices they are with --client and the client's id".to_owned(),
        )),
    }
}

impl Which {
    fn key(&self, default: Option<&ClientId>) -> Result<DeviceKey, Usage> {
        Ok(DeviceKey {
            client: client(self.client.as_deref(), default)?,
            user: self.user.clone(),
            device: self.device.clone(),
        })
    }
}

impl Selection {
    fn of(&self, default: Option<&ClientId>) -> Result<Of, Usage> {
        match (&self.client, &self.user) {
            (None, None) => Ok(Of::All),
            (Some(raw), None) => Ok(Of::Client(client(Some(raw), None)?)),
            (raw, Some(user)) => Ok(Of::User(client(raw.as_deref(), default)?, user.clone())),
        }
    }
}

/// The content of a file, or of standard input.
fn content(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    const ROOM: usize = 1024 * 1024;
    let mut content = Zeroizing::new(Vec::with_capacity(ROOM));
    if path == Path::new("-") {
        std::io::stdin()
            .read_to_end(&mut content)
            .context("cannot read standard input")?;
    } else {
        let read = std::fs::read(path).map(Zeroizing::new);
        content = read.map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?;
    }
    Ok(content)
}

fn seed_in(path: &Path) -> Result<Seed> {
    let content = content(path)?;
    let text = str::from_utf8(&content).map_err(|_| Usage(format!("{} is not base32", path.display())))?;
    let seed = seed_from_base32(text.trim(), OtpParameters::default());
    Ok(seed.map_err(|error| Usage(format!("{} has no seed: {error}", path.display())))?)
}

fn pre_shared_key(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let content = content(path)?;
    let mut digits = Zeroizing::new(Vec::with_capacity(content.len()));
    digits.extend(content.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let key = data_encoding::HEXLOWER_PERMISSIVE.decode(&digits).map(Zeroizing::new);
    Ok(key.map_err(|_| Usage(format!("{} is not a key in hexadecimal digits", path.display())))?)
}

impl DeviceCommand {
    /// Carries it out. `default` is the client that is meant if none is given.
    ///
    /// # Errors
    /// [`Usage`] if the command line is wrong, otherwise what failed.
    pub async fn run<D: DeviceRegistry, S: SeedRegistry, C: Clock, R: Random, T: Terminal>(
        &self,
        desk: &mut Desk<D, S, C, R, T>,
        default: Option<&ClientId>,
        patience: &impl Patience,
    ) -> Result<()> {
        match self {
            Self::Register(given) => desk.register(&given.registering(default)?).await,
            Self::Activate { which } => desk.activate(&which.key(default)?).await,
            Self::List { selection, json } => {
                let (of, json) = (selection.of(default)?, *json);
                desk.list(&Listing { of, json, page: PAGE }).await
            }
            Self::Show { which, json } => desk.show_device(&which.key(default)?, *json).await,
            Self::Disable { which } => desk.disable(&which.key(default)?).await,
            Self::Enable { which } => desk.enable(&which.key(default)?).await,
            Self::Unlock { which, reset_budget } => desk.unlock(&which.key(default)?, *reset_budget).await,
            Self::Remove { which, now } => {
                let how = if *now { Removing::ForGood } else { Removing::Recoverably };
                desk.remove(&which.key(default)?, how).await
            }
            Self::Import(given) => given.run(desk, default, patience).await,
            Self::Export { selection } => {
                let of = selection.of(default)?;
                let json = true;
                desk.export(&Listing { of, json, page: PAGE }).await
            }
            Self::Check { which, json, seed_file } => {
                let checking = Checking {
                    key: which.key(default)?,
                    json: *json,
                    expected: seed_file.as_deref().map(seed_in).transpose()?,
                };
                desk.check(&checking).await
            }
        }
    }
}

fn secret_to(file: Option<&PathBuf>) -> SecretTo {
    file.map_or(SecretTo::Terminal, |path| SecretTo::File(path.clone()))
}

impl ClientCommand {
    /// Carries it out.
    ///
    /// # Errors
    /// [`Usage`] if the command line is wrong, otherwise what failed.
    pub async fn run<P: ClientRegistry, D: DeviceRegistry, T: Terminal>(
        &self,
        desk: &mut ClientDesk<P, D, T>,
    ) -> Result<()> {
        match self {
            Self::Add { name, scopes, secret } => desk.add(name, scopes, &secret_to(secret.secret_file.as_ref())).await,
            Self::List { json } => desk.list(*json).await,
            Self::Rotate { client, rotation } => {
                let how = if rotation.finish {
                    Rotating::Finish
                } else if rotation.undo {
                    Rotating::Undo
                } else {
                    Rotating::Begin(secret_to(rotation.secret_file.as_ref()))
                };
                desk.rotate(client, &how).await
            }
            Self::Remove {
                client,
                with_devices_left,
            } => desk.remove(client, *with_devices_left).await,
        }
    }
}

impl RegisterArguments {
    fn registering(&self, default: Option<&ClientId>) -> Result<Registering, Usage> {
        Ok(Registering {
            key: self.which.key(default)?,
            issuer: self.issuer.clone(),
            parameters: OtpParameters {
                algorithm: match self.algorithm {
                    AlgorithmName::Sha1 => Algorithm::Sha1,
                    AlgorithmName::Sha256 => Algorithm::Sha256,
                    AlgorithmName::Sha512 => Algorithm::Sha512,
                },
                digits: self.digits,
                period: self.period,
            },
            replace: self.replace,
            pending_for: Duration::from_mins(self.pending_minutes.into()),
            activate: !self.no_activate,
            png: self.png.clone(),
            svg: self.svg.clone(),
        })
    }
}

impl ImportArguments {
    async fn run<D: DeviceRegistry, S: SeedRegistry, C: Clock, R: Random, T: Terminal>(
        &self,
        desk: &mut Desk<D, S, C, R, T>,
        default: Option<&ClientId>,
        patience: &impl Patience,
    ) -> Result<()> {
        let client = client(self.client.as_deref(), default)?;
        let key = self.pre_shared_key_file.as_deref().map(pre_shared_key).transpose()?;
        let file = content(&self.file)?;
        let importing = Importing {
            client,
            options: ImportOptions {
                device: self.device.clone(),
                allow_weak_seeds: self.allow_weak_seeds,
                pskc: PskcOptions {
                    key: key.as_deref().map(Vec::as_slice),
                    allow_dated_keys: self.allow_dated_keys,
                },
            },
            dry_run: self.dry_run,
        };
        desk.import(&file, &importing, patience).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_option_takes_a_seed_a_code_or_a_key_itself() {
        fn options(command: &clap::Command, all: &mut Vec<String>) {
            all.extend(
                command
                    .get_arguments()
                    .map(|argument| argument.get_id().as_str().to_owned()),
            );
            command.get_subcommands().for_each(|command| options(command, all));
        }
        let mut all = Vec::new();
        options(&Arguments::command(), &mut all);
        assert!(all.contains(&"pre_shared_key_file".to_owned()));
        for name in all {
            let secret = ["seed", "secret", "code", "otp", "key"]
                .iter()
                .any(|word| name.contains(word));
            assert!(
                !secret
                    || name.ends_with("_file")
                    || [
                        "seed_prefix",
                        "seed_key",
                        "allow_weak_seeds",
                        "allow_dated_keys",
                        "show_secret"
                    ]
                    .contains(&&*name),
                "{name}"
            );
        }
    }

    #[test]
    fn completions_and_manual_know_the_commands() -> Result<()> {
        for text in [
            completions(clap_complete::Shell::Bash),
            completions(clap_complete::Shell::Zsh),
        ] {
            assert!(String::from_utf8(text)?.contains("reset-budget"));
        }
        let folder = tempfile::tempdir()?;
        manuals(folder.path())?;
        assert!(folder.path().join("mfactl-device-register.1").exists());
        assert!(String::from_utf8(manual()?)?.contains("mfactl"));
        Ok(())
    }

    #[test]
    fn a_user_without_a_client_is_refused_unless_there_is_one_to_take() -> Result<()> {
        let arguments = Arguments::try_parse_from(["mfactl", "device", "list", "--user", "alice"])?;
        let Command::Device(command) = arguments.command else {
            anyhow::bail!("no device command")
        };
        let DeviceCommand::List { selection, .. } = *command else {
            anyhow::bail!("no list")
        };
        assert!(selection.of(None).is_err());
        let shop = ClientId::parse("shop")?;
        assert_eq!(
            selection.of(Some(&shop))?,
            Of::User(shop.clone(), UserName::parse("alice")?)
        );
        Ok(())
    }
}

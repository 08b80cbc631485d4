//! Opens the target, and runs the command.

use std::io::stdout;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use shared::clock::Clock;
use shared::otp::{Algorithm, OtpParameters};
use shared::ports::operator::{DeviceInventory, KeyRingStore, SeedInventory};
use shared::random::Random;
use shared::sealed::SeedStorage;

use super::arguments::{
    AlgorithmName, Arguments, ClientCommand, Command, DeviceCommand, DoctorArguments, ImportArguments, KeysCommand,
    RegisterArguments, SeedsCommand, StorageName,
};
use super::input::Owners;
use super::{input, manual};
use crate::commands::Delay;
use crate::commands::client::{ClientAdmin, Rotation, SecretOutput};
use crate::commands::device::{CheckRequest, DeviceAdmin, ImportRequest, ListRequest, RegisterRequest, Removal};
use crate::commands::doctor::DoctorOptions;
use crate::commands::keys::{ListKeysRequest, ResealRequest, RotateRequest};
use crate::commands::seeds::MoveRequest;
use crate::formats::import_file::ImportOptions;
use crate::formats::pskc::PskcOptions;
use crate::ports::clients::ClientRegistry;
use crate::target::{Deployment, Needs, Settings, Target, explain_credentials};
use crate::terminal::{Console, Terminal, write_all};
use crate::usage::Usage;

/// Devices that are read at a time: less than a megabyte, the most that a page of `DynamoDB` has.
const PAGE: u16 = 500;

/// Runs a command. Returns whether nothing was left behind.
///
/// # Errors
/// [`Usage`] if the command line is wrong, otherwise what failed.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let deployment = arguments.deployment()?;
    let outcome = run_on(&deployment, &arguments.command).await;
    match deployment {
        Deployment::Local(_) => outcome,
        Deployment::Aws { .. } => outcome.map_err(explain_credentials),
    }
}

async fn run_on(deployment: &Deployment, command: &Command) -> Result<bool> {
    match command {
        Command::Device(command) => {
            if matches!(deployment, Deployment::Aws { .. }) {
                command.require_owner()?;
            }
            let needs = Needs::Stores(command.required_settings());
            let target = Target::open(deployment, command.settings(), needs).await?;
            let mut admin = target.device_admin(Console::default(), command.yes())?;
            if let Some(note) = target.clock_note() {
                admin.terminal.note(&note)?;
            }
            let owners = Owners {
                of_clients: target.client_owners()?,
                default: target.default_client(),
            };
            command.run(&mut admin, &owners, &TokioDelay).await?;
            return Ok(!admin.left_behind);
        }
        Command::Keys(command) => {
            let needs = Needs::Stores(command.required_settings());
            let target = Target::open(deployment, command.settings(), needs).await?;
            let mut admin = target.device_admin(Console::default(), command.yes())?;
            if let Some(note) = target.clock_note() {
                admin.terminal.note(&note)?;
            }
            command.run(&mut admin, target.seed_cache()?, &TokioDelay).await?;
        }
        Command::Seeds(SeedsCommand::Move {
            to,
            dry_run,
            confirmation,
            ..
        }) => {
            let Command::Seeds(command) = command else {
                return Ok(true);
            };
            let needs = Needs::Stores(SeedsCommand::REQUIRED_SETTINGS);
            let target = Target::open(deployment, command.settings(), needs).await?;
            let mut admin = target.device_admin(Console::default(), confirmation.yes)?;
            admin.seeds = admin.seeds.keeping(match to {
                StorageName::Sealed => SeedStorage::Sealed,
                StorageName::Secrets => SeedStorage::Secrets,
            });
            let request = MoveRequest {
                dry_run: *dry_run,
                page: PAGE,
            };
            admin.move_seeds(&request, &TokioDelay).await?;
            return Ok(!admin.left_behind);
        }
        Command::Client(command) => {
            let target = Target::open(deployment, command.settings(), Needs::UserPool).await?;
            let mut admin = target.client_admin(command.token_url(), Console::default(), command.yes())?;
            command.run(&mut admin).await?;
        }
        Command::Doctor(given) => examine(deployment, given).await?,
        Command::Completions { shell } => write_all(stdout(), &manual::completions(*shell))?,
        Command::Man { directory } => match directory {
            Some(directory) => manual::write_manuals(directory)?,
            None => write_all(stdout(), &manual::manual()?)?,
        },
    }
    Ok(true)
}

async fn examine(deployment: &Deployment, given: &DoctorArguments) -> Result<()> {
    let target = Target::open(deployment, Settings::default(), Needs::Stack).await?;
    let mut doctor = target.doctor(
        given.token.token_url.clone(),
        Console::default(),
        given.confirmation.yes,
    )?;
    doctor.api_url.clone_from(&given.api_url);
    let options = DoctorOptions {
        fix: given.fix,
        json: given.json,
        page: PAGE,
    };
    doctor.examine(&options, &TokioDelay).await
}

struct TokioDelay;

impl Delay for TokioDelay {
    async fn wait(&self, duration: Duration) {
        // This keeps a pace; nothing waits for an event.
        let _ = tokio::time::timeout(duration, std::future::pending::<()>()).await;
    }
}

impl Arguments {
    fn deployment(&self) -> Result<Deployment, Usage> {
        match (&self.local, &self.stack) {
            // clap does not check conflicts of global options on both sides of the command.
            (Some(_), Some(_)) => Err(Usage("give --local or --stack, not both".to_owned())),
            (Some(file), None) => Ok(Deployment::Local(file.clone())),
            (None, stack) => Ok(Deployment::Aws { stack: stack.clone() }),
        }
    }
}

impl DeviceCommand {
    async fn run<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal>(
        &self,
        admin: &mut DeviceAdmin<D, S, C, R, T>,
        owners: &Owners,
        delay: &impl Delay,
    ) -> Result<()> {
        match self {
            Self::Register(given) => admin.register(&given.request(owners)?).await,
            Self::Activate { device, .. } => admin.activate(&device.key(owners)?).await,
            Self::List { filter, json, .. } => {
                let (filter, json) = (filter.filter(owners)?, *json);
                let request = ListRequest {
                    filter,
                    json,
                    page: PAGE,
                };
                admin.list(&request).await
            }
            Self::Show { device, json, .. } => admin.show(&device.key(owners)?, *json).await,
            Self::Disable { device, .. } => admin.disable(&device.key(owners)?).await,
            Self::Enable { device, .. } => admin.enable(&device.key(owners)?).await,
            Self::Unlock {
                device, reset_budget, ..
            } => admin.unlock(&device.key(owners)?, *reset_budget).await,
            Self::Remove { device, now, .. } => {
                let how = if *now { Removal::ForGood } else { Removal::Recoverable };
                admin.remove(&device.key(owners)?, how).await
            }
            Self::Import(given) => given.run(admin, owners, delay).await,
            Self::Export { filter, .. } => {
                let (filter, json) = (filter.filter(owners)?, true);
                let request = ListRequest {
                    filter,
                    json,
                    page: PAGE,
                };
                admin.export(&request).await
            }
            Self::Restored { .. } => admin.restored(PAGE).await,
            Self::Check {
                device,
                json,
                seed_file,
                codes,
                ..
            } => {
                let request = CheckRequest {
                    key: device.key(owners)?,
                    json: *json,
                    expected: seed_file.as_deref().map(input::seed).transpose()?,
                    codes: *codes,
                };
                admin.check(&request).await
            }
        }
    }
}

impl KeysCommand {
    async fn run<D: DeviceInventory, S: SeedInventory + KeyRingStore, C: Clock, R: Random, T: Terminal>(
        &self,
        admin: &mut DeviceAdmin<D, S, C, R, T>,
        seed_cache: Duration,
        delay: &impl Delay,
    ) -> Result<()> {
        match self {
            Self::List { count, json, .. } => {
                let request = ListKeysRequest {
                    count: *count,
                    json: *json,
                    page: PAGE,
                };
                admin.list_keys(&request).await
            }
            Self::Rotate { dry_run, .. } => {
                let request = RotateRequest {
                    seed_cache,
                    dry_run: *dry_run,
                };
                admin.rotate_keys(&request).await
            }
            Self::Reseal { wait, dry_run, .. } => {
                let request = ResealRequest {
                    seed_cache,
                    wait: *wait,
                    dry_run: *dry_run,
                    page: PAGE,
                };
                admin.reseal(&request, delay).await
            }
        }
    }
}

impl RegisterArguments {
    fn request(&self, owners: &Owners) -> Result<RegisterRequest, Usage> {
        Ok(RegisterRequest {
            key: self.device.key(owners)?,
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
            activate_within: self.activate_within,
            activate: !self.no_activate,
            png: self.png.clone(),
            svg: self.svg.clone(),
        })
    }
}

impl ImportArguments {
    async fn run<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal>(
        &self,
        admin: &mut DeviceAdmin<D, S, C, R, T>,
        owners: &Owners,
        delay: &impl Delay,
    ) -> Result<()> {
        let owner = self.owner.resolve(owners)?;
        let key = self
            .pre_shared_key_file
            .as_deref()
            .map(input::pre_shared_key)
            .transpose()?;
        let users = self.users.as_deref().map(input::users).transpose()?;
        let file = input::content(&self.file)?;
        let request = ImportRequest {
            owner,
            options: ImportOptions {
                device: self.device.clone(),
                device_from_issuer: self.device_from.is_some(),
                users,
                allow_weak_seeds: self.allow_weak_seeds,
                pskc: PskcOptions {
                    key: key.as_deref().map(Vec::as_slice),
                    allow_dated_keys: self.allow_dated_keys,
                },
            },
            dry_run: self.dry_run,
            parallel: self.parallel.into(),
        };
        admin.import(&file, &request, delay).await
    }
}

fn output(file: Option<&Path>) -> SecretOutput {
    file.map_or(SecretOutput::Terminal, |path| SecretOutput::File(path.to_owned()))
}

impl ClientCommand {
    async fn run<P: ClientRegistry, D: DeviceInventory, T: Terminal>(
        &self,
        admin: &mut ClientAdmin<P, D, T>,
    ) -> Result<()> {
        match self {
            Self::Add {
                name, scopes, secret, ..
            } => admin.add(name, scopes, &output(secret.secret_file.as_deref())).await,
            Self::List { json, .. } => admin.list(*json).await,
            Self::Rotate { client, rotation, .. } => {
                let step = if rotation.finish {
                    Rotation::Finish
                } else if rotation.undo {
                    Rotation::Undo
                } else {
                    Rotation::Begin(output(rotation.secret_file.as_deref()))
                };
                admin.rotate(client, &step).await
            }
            Self::Remove {
                client,
                with_devices_left,
                ..
            } => admin.remove(client, *with_devices_left).await,
        }
    }
}

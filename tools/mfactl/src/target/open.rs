//! Opens the deployment that the command line names, and connects the commands to it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::{Clients, Endpoints, Limits};
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::SystemClock;
use shared::config;
use shared::names::{ClientId, ClientOwners};
use shared::random::SystemRandom;
use shared::sealed::SeedStorage;

use super::clock::StackClock;
use super::credentials::aws_clients;
use super::local_stack::LocalStack;
use super::settings::{Setting, Settings, without_seed};
use crate::aws::clients::CognitoClients;
use crate::aws::clock::store_clock_offset;
use crate::aws::inspect::{AwsInspector, LocalEndpoints};
use crate::commands::client::ClientAdmin;
use crate::commands::device::DeviceAdmin;
use crate::commands::doctor::{Doctor, Place, Stores, stack_by_name, stack_with_resources};
use crate::ports::stack::{ClockOffset, DeployedStack};
use crate::usage::Usage;

/// The deployment that a command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deployment {
    /// The local stack, by the file that it writes about itself.
    Local(PathBuf),
    /// Region and credentials of the environment; settings of a stack, if one is named.
    Aws { stack: Option<String> },
}

/// What a command needs of its target.
#[derive(Debug, Clone, Copy)]
pub enum Needs {
    /// The stores of devices and seeds, and these settings.
    Stores(&'static [Setting]),
    /// The user pool.
    UserPool,
    /// All that the doctor checks.
    Stack,
}

/// A deployment whose settings are known.
#[derive(Debug)]
pub struct Target {
    clients: Clients,
    settings: Settings,
    /// For the doctor: the stack with its resources, and the inspector that read it, which knows AWS's clock.
    stack: Option<(DeployedStack, AwsInspector)>,
    local: Option<LocalStack>,
    clock: StackClock,
    /// This machine's clock compared with the store's.
    machine_clock: ClockOffset,
}

type AwsDoctor<T> = Doctor<AwsInspector, CognitoClients, DynamoDevices, SecretsManagerSeeds<StackClock>, StackClock, T>;
type AwsDeviceAdmin<T> = DeviceAdmin<DynamoDevices, SecretsManagerSeeds<StackClock>, StackClock, SystemRandom, T>;

impl Target {
    /// Opens a deployment for a command. `options` are the settings of the command line.
    ///
    /// # Errors
    /// [`Usage`] if a setting is missing, otherwise why the stack cannot be read.
    pub async fn open(deployment: &Deployment, options: Settings, needs: Needs) -> Result<Self> {
        match deployment {
            Deployment::Local(file) => {
                let local = LocalStack::read(file)?;
                let stores = Endpoints::local(&local.dynamodb_url, &local.secrets_manager_url);
                let clients = Clients::new(stores, Limits::OPERATOR);
                let endpoints = LocalEndpoints {
                    dynamodb: &local.dynamodb_url,
                    cognito: &local.cognito_url,
                };
                let inspector = AwsInspector::new(&clients.config, StackClock::default(), Some(endpoints));
                let settings = Settings::from_values(local.settings.clone());
                let offset = match needs {
                    // The user pool does not depend on the clock.
                    Needs::UserPool => ClockOffset::Unmeasurable,
                    Needs::Stores(_) | Needs::Stack => store_clock(&clients, &settings)
                        .await
                        .context("the local stack does not answer: is it still running?")?,
                };
                Ok(Self {
                    settings,
                    stack: matches!(needs, Needs::Stack).then(|| (local.as_deployed(), inspector)),
                    clients,
                    local: Some(local),
                    clock: StackClock::of_store(offset),
                    // That a test clock was moved is no news.
                    machine_clock: ClockOffset::Unmeasurable,
                })
            }
            Deployment::Aws { stack } => Self::open_aws(stack.as_deref(), options, needs).await,
        }
    }

    async fn open_aws(name: Option<&str>, mut settings: Settings, needs: Needs) -> Result<Self> {
        let Some(name) = name else {
            // Before the SDK looks for a region.
            require(&settings, needs)?;
            let clients = aws_clients().await?;
            let machine_clock = machine_clock(&clients, &settings, needs).await?;
            return Ok(Self::on_aws(clients, settings, None, machine_clock));
        };
        let clients = aws_clients().await?;
        let inspector = AwsInspector::new(&clients.config, StackClock::default(), None);
        let stack = if matches!(needs, Needs::Stack) {
            let stack = stack_with_resources(&inspector, name).await?;
            Some((stack, inspector))
        } else {
            settings.add_stack(&stack_by_name(&inspector, name).await?);
            require(&settings, needs)?;
            None
        };
        let machine_clock = machine_clock(&clients, &settings, needs).await?;
        Ok(Self::on_aws(clients, settings, stack, machine_clock))
    }

    fn on_aws(
        clients: Clients,
        settings: Settings,
        stack: Option<(DeployedStack, AwsInspector)>,
        machine_clock: ClockOffset,
    ) -> Self {
        Self {
            clients,
            settings,
            stack,
            local: None,
            clock: StackClock::of_store(machine_clock),
            machine_clock,
        }
    }

    /// The client whose devices a command means unless it names another one.
    #[must_use]
    pub fn default_client(&self) -> Option<ClientId> {
        self.local.as_ref().and_then(LocalStack::first_client)
    }

    /// Which owner each client acts for.
    ///
    /// # Errors
    /// [`Usage`] if the setting is invalid.
    pub fn client_owners(&self) -> Result<ClientOwners> {
        Ok(config::client_owners(&self.settings).map_err(|error| Usage(shared::error::chain(&error)))?)
    }

    /// What to say about this machine's clock: it differs from the store's by more than two seconds.
    #[must_use]
    pub fn clock_note(&self) -> Option<String> {
        let (millis, direction) = match self.machine_clock {
            ClockOffset::Unmeasurable => return None,
            ClockOffset::Behind(millis) => (millis, "behind"),
            ClockOffset::Ahead(millis) => (millis, "ahead of"),
        };
        (millis > 2_000).then(|| {
            format!(
                "This machine's clock is {} s {direction} the store's. The store's time is used.",
                millis.div_ceil(1_000)
            )
        })
    }

    /// How long the functions may keep a seed in memory.
    ///
    /// # Errors
    /// [`Usage`] if the setting is invalid.
    pub fn seed_cache(&self) -> Result<Duration> {
        Ok(config::seed_cache(&self.settings).map_err(|error| Usage(shared::error::chain(&error)))?)
    }

    /// The commands for devices, their seeds and the key ring.
    ///
    /// # Errors
    /// [`Usage`] if a setting is missing or invalid.
    pub fn device_admin<T>(&self, terminal: T, yes: bool) -> Result<AwsDeviceAdmin<T>> {
        let invalid = |error| Usage(shared::error::chain(&error));
        let policy = config::policy(&self.settings).map_err(invalid)?;
        let tags = config::seed_tags(&self.settings).map_err(invalid)?;
        let storage = config::seed_storage(&self.settings).map_err(invalid)?;
        let key_ring = match storage {
            SeedStorage::Sealed => Some(self.settings.require(Setting::KEY_RING)?),
            SeedStorage::Secrets => self.settings.get(Setting::KEY_RING),
        };
        let (clients, clock) = (&self.clients, self.clock);
        let seeds = SecretsManagerSeeds::new(&clients.secrets_manager, clock, Duration::ZERO, key_ring);
        let seed_prefix = self.settings.get(Setting::SEED_PREFIX);
        Ok(DeviceAdmin {
            devices: DynamoDevices::new(&clients.dynamodb, self.settings.require(Setting::DEVICES_TABLE)?),
            seeds: seeds
                .keeping(storage)
                .encrypted_with(self.settings.get(Setting::SEED_KEY))
                .tagged_with(&tags),
            clock,
            random: SystemRandom,
            terminal,
            policy,
            seed_prefix: seed_prefix.map(|prefix| without_seed(&prefix).to_owned()),
            yes,
            left_behind: false,
        })
    }

    /// The commands for clients. The table of devices is opened if its name is known.
    ///
    /// # Errors
    /// [`Usage`] if the user pool is not known, or the owners are invalid.
    pub fn client_admin<T>(
        &self,
        token_url: Option<String>,
        terminal: T,
        yes: bool,
    ) -> Result<ClientAdmin<CognitoClients, DynamoDevices, T>> {
        let pool = match &self.local {
            Some(local) => local.user_pool_id.clone(),
            None => self.settings.require(Setting::USER_POOL_ID)?,
        };
        let table = self.settings.get(Setting::DEVICES_TABLE);
        Ok(ClientAdmin {
            clients: self.cognito(pool, token_url),
            devices: table.map(|table| DynamoDevices::new(&self.clients.dynamodb, table)),
            owners: self.client_owners()?,
            terminal,
            yes,
        })
    }

    fn cognito(&self, pool: String, token_url: Option<String>) -> CognitoClients {
        match &self.local {
            Some(local) => CognitoClients::new(
                &self.clients.config,
                Some(&local.cognito_url),
                pool,
                token_url.or_else(|| Some(local.token_url.clone())),
            ),
            None => CognitoClients::new(&self.clients.config, None, pool, token_url),
        }
    }

    /// The doctor. All that it checks and fixes is what the stack says is its own.
    ///
    /// # Errors
    /// If the target was not opened with [`Needs::Stack`].
    pub fn doctor<T>(mut self, token_url: Option<String>, terminal: T, yes: bool) -> Result<AwsDoctor<T>> {
        let (stack, inspector) = self.stack.take().context("the target was opened without its stack")?;
        let pool = stack.outputs.get("UserPoolId").cloned().unwrap_or_default();
        Ok(Doctor {
            inspector,
            clients: self.cognito(pool, token_url),
            stores: self.doctor_stores(&stack),
            clock: self.clock,
            terminal,
            yes,
            program: match self.local {
                Some(_) => "mfactl --local".to_owned(),
                None => format!("mfactl --stack {}", stack.name),
            },
            api_url: None,
            place: match self.local {
                Some(_) => Place::Local {
                    clock_offset_seconds: self.clock.offset_seconds(),
                },
                None => Place::Aws,
            },
            stack,
        })
    }

    /// Where devices and their seeds are, if the stack says so.
    fn doctor_stores(&self, stack: &DeployedStack) -> Option<Stores<DynamoDevices, SecretsManagerSeeds<StackClock>>> {
        let output = |name: &str| stack.outputs.get(name).filter(|value| !value.is_empty());
        let (table, seed_prefix) = output("DevicesTable").zip(output("SeedPrefix"))?;
        let clients = &self.clients;
        Some(Stores {
            devices: DynamoDevices::new(&clients.dynamodb, table.clone()),
            seeds: SecretsManagerSeeds::new(
                &clients.secrets_manager,
                self.clock,
                Duration::ZERO,
                output("KeyRing").cloned(),
            ),
            has_key_ring: output("KeyRing").is_some(),
            table: table.clone(),
            // With the slash: another stack's prefix may begin with this one's.
            prefix: format!("{}/seed/", without_seed(seed_prefix)),
        })
    }
}

/// A command that works on the stores goes by their clock, since what it writes is compared with the clock of the functions.
async fn machine_clock(clients: &Clients, settings: &Settings, needs: Needs) -> Result<ClockOffset> {
    match needs {
        Needs::Stores(_) => store_clock(clients, settings).await,
        // The doctor corrects this machine's clock itself, by what its inspector has read.
        Needs::UserPool | Needs::Stack => Ok(ClockOffset::Unmeasurable),
    }
}

async fn store_clock(clients: &Clients, settings: &Settings) -> Result<ClockOffset> {
    let table = settings.require(Setting::DEVICES_TABLE)?;
    let offset = store_clock_offset(&clients.dynamodb, table, SystemClock).await;
    offset.map_err(|reason| anyhow!("cannot read the time of DynamoDB: {reason}"))
}

/// Checks that the settings that a command needs are present.
fn require(settings: &Settings, needs: Needs) -> Result<()> {
    let names: &[Setting] = match needs {
        Needs::Stores(names) => names,
        Needs::UserPool => &[Setting::USER_POOL_ID],
        Needs::Stack => {
            return Err(Usage("give --stack NAME, or --local for the local stack".to_owned()).into());
        }
    };
    for name in names {
        settings.require(*name)?;
    }
    if names.contains(&Setting::GUESS_POLICY) {
        config::policy(settings).map_err(|error| Usage(shared::error::chain(&error)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shared::clock::Clock as _;

    use super::*;

    fn target(machine_clock: ClockOffset) -> Target {
        let table = Some("Devices".to_owned());
        let policy = Some("strict".to_owned());
        Target::on_aws(
            Clients::new(
                Endpoints::local("http://127.0.0.1:9", "http://127.0.0.1:9"),
                Limits::OPERATOR,
            ),
            Settings::from_options([(Setting::DEVICES_TABLE, &table), (Setting::GUESS_POLICY, &policy)]),
            None,
            machine_clock,
        )
    }

    #[test]
    fn devices_are_managed_by_the_stores_clock_and_a_difference_is_reported() -> Result<()> {
        let day = 86_400_000;
        for (machine, expected, note) in [
            (
                ClockOffset::Ahead(day),
                -86_400_000,
                Some("86400 s ahead of the store's"),
            ),
            (ClockOffset::Behind(2_001), 2_001, Some("3 s behind the store's")),
            (ClockOffset::Behind(2_000), 2_000, None),
            (ClockOffset::Unmeasurable, 0, None),
        ] {
            let target = target(machine);
            let before = SystemClock.now();
            let now = target.device_admin((), true)?.clock.now();
            let after = SystemClock.now();
            let store = |time: shared::clock::Timestamp| time.as_millis().saturating_add_signed(expected);
            assert!((store(before)..=store(after)).contains(&now.as_millis()), "{machine:?}");
            let text = target.clock_note().unwrap_or_default();
            assert!(note.map_or(text.is_empty(), |note| text.contains(note)), "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_command_that_decides_needs_the_policy_of_the_deployment() {
        let table = ("DEVICES_TABLE".to_owned(), "Devices".to_owned());
        let without = Settings::from_values([table].into());
        let needs = Needs::Stores(&[Setting::DEVICES_TABLE, Setting::GUESS_POLICY]);
        let error = require(&without, needs).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("GUESS_POLICY") && text.contains("--policy")));
    }
}

//! Where the commands work: a deployment, by its settings and the AWS credentials of the environment, or the local stack,
//! by the file that it writes about itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::json;
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::Clients;
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::{Clock, SystemClock, Timestamp};
use shared::config::{self, ConfigError, Environment, Source, SystemRandom};
use shared::names::ClientId;
use zeroize::Zeroizing;

use crate::aws_inspector::{AwsInspector, LocalEndpoints};
use crate::cognito::CognitoClients;
use crate::commands::{ClientDesk, Desk, Doctor, Stores, stack_by_name, stack_with_resources};
use crate::deployed::DeployedStack;

/// The command line, or what it stands for, cannot be carried out as it is. The program ends with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The key that new seeds are encrypted with: the stack's parameter `SeedKey`.
pub const SEED_KEY: &str = "SEED_KEY";
/// The user pool that clients are in: the stack's output `UserPoolId`.
pub const USER_POOL_ID: &str = "USER_POOL_ID";

/// The clock of a stack: the machine's, or the local stack's, which can be moved.
#[derive(Debug, Clone, Copy, Default)]
pub struct StackClock {
    ahead: Duration,
    behind: Duration,
}

impl StackClock {
    /// So many seconds from the machine's clock.
    #[must_use]
    pub fn offset_by(seconds: i64) -> Self {
        let offset = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 {
            Self {
                behind: offset,
                ..Self::default()
            }
        } else {
            Self {
                ahead: offset,
                ..Self::default()
            }
        }
    }
}

impl Clock for StackClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(self.ahead).minus(self.behind)
    }
}

/// The settings of the functions, as options of the command line give them; what is not given comes from the environment.
#[derive(Debug, Default)]
pub struct Settings(HashMap<String, String>);

impl Settings {
    /// Adds what was given.
    pub fn add(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// What a stack says of itself, where nothing was given.
    pub fn add_stack(&mut self, stack: &DeployedStack) {
        let outputs = [
            (config::DEVICES_TABLE, "DevicesTable"),
            (config::SEED_PREFIX, "SeedPrefix"),
            (USER_POOL_ID, "UserPoolId"),
        ];
        let parameters = [
            (config::GUESS_POLICY, "GuessPolicy"),
            (config::GUESS_BURST, "GuessBurst"),
            (config::GUESS_REFILL_HOURS, "GuessRefillHours"),
            (config::GUESS_PAIR_GAP_SECONDS, "GuessPairGapSeconds"),
            (SEED_KEY, "SeedKey"),
        ];
        let outputs = outputs.map(|(name, output)| (name, stack.outputs.get(output)));
        let parameters = parameters.map(|(name, parameter)| (name, stack.parameters.get(parameter)));
        for (name, value) in outputs.into_iter().chain(parameters) {
            if let Some(value) = value {
                self.0.entry(name.to_owned()).or_insert_with(|| value.clone());
            }
        }
    }

    fn required(&self, source: &impl Source, name: &'static str, option: &str) -> Result<String> {
        let value = self.0.get(name).cloned().or_else(|| source.get(name));
        Ok(value.filter(|value| !value.is_empty()).ok_or_else(|| {
            Usage(format!(
                "{name} is not set: give --stack and the stack's name, {option}, or the variable as the function has it, or \
                 --local for the local stack"
            ))
        })?)
    }
}

/// Options first, then the environment.
struct Both<'a>(&'a Settings);

impl Source for Both<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.0.0.get(name).cloned().or_else(|| Environment.get(name))
    }
}

/// A stack that commands can be carried out on.
#[derive(Debug)]
pub struct Target<T> {
    /// Where they are carried out.
    pub desk: Desk<DynamoDevices, SecretsManagerSeeds<StackClock>, StackClock, SystemRandom, T>,
    /// Whose devices are meant if nothing else is said.
    pub client: Option<ClientId>,
}

/// What the local stack says about itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LocalStack {
    api_url: String,
    token_url: String,
    user_pool_id: String,
    stack_name: String,
    control_plane_url: String,
    cognito_url: String,
    dynamodb_url: String,
    secrets_manager_url: String,
    clients: Vec<LocalClient>,
    settings: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LocalClient {
    client_id: String,
}

impl LocalStack {
    fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).map(Zeroizing::new).map_err(|_| {
            let file: PathBuf = file.to_owned();
            Usage(format!(
                "no local stack runs here: {} is not there; start one with cargo run -p local",
                file.display()
            ))
        })?;
        serde_json::from_str(&text).with_context(|| format!("{} is not of a local stack", file.display()))
    }

    fn setting(&self, file: &Path, name: &'static str) -> Result<String> {
        let value = self.settings.get(name).cloned();
        value.with_context(|| format!("{} has no {name}", file.display()))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LocalTime {
    offset_seconds: i64,
}

/// Opens the deployment that the settings name.
///
/// # Errors
/// [`Usage`] if a setting is missing or refused.
pub async fn deployment<T>(settings: &Settings, terminal: T, yes: bool) -> Result<Target<T>> {
    let table = settings.required(&Environment, config::DEVICES_TABLE, "--devices-table")?;
    let seed_prefix = prefix(&settings.required(&Environment, config::SEED_PREFIX, "--seed-prefix")?);
    let policy = config::policy(&Both(settings)).map_err(|error| refused(&error))?;
    let seed_key = Both(settings).get(SEED_KEY).filter(|key| !key.is_empty());
    let clients = Clients::for_an_operator().await;
    Ok(Target {
        desk: Desk {
            devices: DynamoDevices::new(&clients.dynamodb, table),
            seeds: SecretsManagerSeeds::new(&clients.secrets_manager, StackClock::default(), Duration::ZERO)
                .encrypted_with(seed_key),
            clock: StackClock::default(),
            random: SystemRandom,
            terminal,
            policy,
            seed_prefix,
            yes,
            left_behind: false,
        },
        client: None,
    })
}

/// Opens the local stack that wrote a file.
///
/// # Errors
/// [`Usage`] if there is no such file, or whatever is wrong with it.
pub async fn local<T>(file: &Path, terminal: T, yes: bool) -> Result<Target<T>> {
    let stack = LocalStack::read(file)?;
    let setting = |name: &'static str| stack.setting(file, name);
    let clients = Clients::of_local_stores_for_an_operator(&stack.dynamodb_url, &stack.secrets_manager_url);
    let clock = local_clock(&stack.api_url).await?;
    Ok(Target {
        desk: Desk {
            devices: DynamoDevices::new(&clients.dynamodb, setting(config::DEVICES_TABLE)?),
            seeds: SecretsManagerSeeds::new(&clients.secrets_manager, clock, Duration::ZERO),
            clock,
            random: SystemRandom,
            terminal,
            policy: config::policy(&stack.settings).map_err(|error| refused(&error))?,
            seed_prefix: setting(config::SEED_PREFIX)?,
            yes,
            left_behind: false,
        },
        client: stack
            .clients
            .first()
            .and_then(|client| ClientId::parse(&client.client_id).ok()),
    })
}

/// Opens the user pool that the settings name. The table of devices is opened if it is named.
///
/// # Errors
/// [`Usage`] if no pool is named.
pub async fn pool<T>(
    settings: &Settings,
    token_url: Option<String>,
    terminal: T,
    yes: bool,
) -> Result<ClientDesk<CognitoClients, DynamoDevices, T>> {
    let pool = Both(settings).get(USER_POOL_ID).filter(|pool| !pool.is_empty());
    let pool = pool.ok_or_else(|| {
        Usage(format!(
            "{USER_POOL_ID} is not set: give --stack and the stack's name, --user-pool or the variable, or --local for the \
             local stack"
        ))
    })?;
    let shared = Clients::settings_of_an_operator().await;
    let table = Both(settings)
        .get(config::DEVICES_TABLE)
        .filter(|table| !table.is_empty());
    let devices = table.map(|table| DynamoDevices::new(&Clients::with(&shared).dynamodb, table));
    Ok(ClientDesk {
        clients: CognitoClients::new(&shared, None, pool, token_url),
        devices,
        terminal,
        yes,
    })
}

/// Opens the user pool of the local stack that wrote a file.
///
/// # Errors
/// [`Usage`] if there is no such file, or whatever is wrong with it.
pub fn local_pool<T>(
    file: &Path,
    token_url: Option<String>,
    terminal: T,
    yes: bool,
) -> Result<ClientDesk<CognitoClients, DynamoDevices, T>> {
    let stack = LocalStack::read(file)?;
    let clients = Clients::of_local_stores_for_an_operator(&stack.dynamodb_url, &stack.secrets_manager_url);
    let devices = DynamoDevices::new(&clients.dynamodb, stack.setting(file, config::DEVICES_TABLE)?);
    let shared = Clients::settings_of_local_stores();
    Ok(ClientDesk {
        clients: CognitoClients::new(
            &shared,
            Some(&stack.cognito_url),
            stack.user_pool_id,
            token_url.or(Some(stack.token_url)),
        ),
        devices: Some(devices),
        terminal,
        yes,
    })
}

/// A deployment with all that it is looked at with.
pub type TargetDoctor<T> =
    Doctor<AwsInspector, CognitoClients, DynamoDevices, SecretsManagerSeeds<StackClock>, StackClock, T>;

/// Reads what a stack says of itself, by its name.
///
/// # Errors
/// If it is not there or cannot be read.
pub async fn deployed_stack(name: &str) -> Result<DeployedStack> {
    let shared = Clients::settings_of_an_operator().await;
    stack_by_name(&AwsInspector::new(&shared, StackClock::default(), None), name).await
}

/// Opens a stack by its name, to look at it. All that it is looked at with is what the stack says: what is mended must be
/// its own.
///
/// # Errors
/// [`Usage`] if no stack is named, or a setting is given beside it; or whatever is wrong with it.
pub async fn doctor<T>(
    settings: &Settings,
    name: Option<&str>,
    token_url: Option<String>,
    terminal: T,
    yes: bool,
) -> Result<TargetDoctor<T>> {
    if !settings.0.is_empty() {
        let text = "doctor looks where the stack says: leave out the other options of a deployment";
        return Err(Usage(text.to_owned()).into());
    }
    let name =
        name.ok_or_else(|| Usage("give --stack and the stack's name, or --local for the local stack".to_owned()))?;
    let shared = Clients::settings_of_an_operator().await;
    let inspector = AwsInspector::new(&shared, StackClock::default(), None);
    let stack = stack_with_resources(&inspector, name).await?;
    let pool = stack.outputs.get("UserPoolId").cloned().unwrap_or_default();
    Ok(Doctor {
        stores: stores(&stack, &Clients::with(&shared), StackClock::default()),
        stack,
        inspector,
        clients: CognitoClients::new(&shared, None, pool, token_url),
        clock: StackClock::default(),
        terminal,
        yes,
        program: format!("mfactl --stack {name}"),
        api_url: None,
        local: false,
    })
}

/// Opens the local stack that wrote a file, to look at it.
///
/// # Errors
/// [`Usage`] if there is no such file, or whatever is wrong with it.
pub async fn local_doctor<T>(
    file: &Path,
    token_url: Option<String>,
    terminal: T,
    yes: bool,
) -> Result<TargetDoctor<T>> {
    let local = LocalStack::read(file)?;
    let clock = local_clock(&local.api_url).await?;
    let shared = Clients::settings_of_local_stores();
    let endpoints = LocalEndpoints {
        control_plane: &local.control_plane_url,
        dynamodb: &local.dynamodb_url,
        cognito: &local.cognito_url,
    };
    let inspector = AwsInspector::new(&shared, clock, Some(endpoints));
    let stack = stack_with_resources(&inspector, &local.stack_name).await?;
    let clients = Clients::of_local_stores_for_an_operator(&local.dynamodb_url, &local.secrets_manager_url);
    let token_url = token_url.or(Some(local.token_url));
    Ok(Doctor {
        stores: stores(&stack, &clients, clock),
        stack,
        inspector,
        clients: CognitoClients::new(&shared, Some(&local.cognito_url), local.user_pool_id, token_url),
        clock,
        terminal,
        yes,
        program: "mfactl --local".to_owned(),
        api_url: None,
        local: true,
    })
}

/// Where devices and their seeds are, if the stack says so.
fn stores(
    stack: &DeployedStack,
    clients: &Clients,
    clock: StackClock,
) -> Option<Stores<DynamoDevices, SecretsManagerSeeds<StackClock>>> {
    let output = |name: &str| stack.outputs.get(name).filter(|value| !value.is_empty());
    let (table, seed_prefix) = output("DevicesTable").zip(output("SeedPrefix"))?;
    Some(Stores {
        devices: DynamoDevices::new(&clients.dynamodb, table.clone()),
        seeds: SecretsManagerSeeds::new(&clients.secrets_manager, clock, Duration::ZERO),
        table: table.clone(),
        // With the slash: another stack's prefix may begin with this one's.
        prefix: format!("{}/seed/", prefix(seed_prefix)),
    })
}

/// The prefix as the function has it; the stack's output `SeedPrefix` has it with what follows in a name.
fn prefix(raw: &str) -> String {
    let raw = raw.trim_end_matches('/');
    raw.strip_suffix("/seed").unwrap_or(raw).to_owned()
}

fn refused(error: &ConfigError) -> Usage {
    Usage(shared::error::chain(error))
}

/// The stack's clock may have been moved; codes are made by it.
async fn local_clock(api_url: &str) -> Result<StackClock> {
    let origin = api_url.rsplit_once('/').map_or(api_url, |(origin, _stage)| origin);
    // It is on this machine, whatever proxies the environment names.
    let http = reqwest::Client::builder().no_proxy().build()?;
    let asked = http
        .post(format!("{origin}/_local/clock"))
        .json(&json!({ "advanceSeconds": 0 }));
    let time: LocalTime = asked
        .send()
        .await
        .context("the local stack does not answer: is it still running?")?
        .json()
        .await?;
    Ok(StackClock::offset_by(time.offset_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_clock_is_off_by_that_much_in_both_directions() {
        for seconds in [0, 90_000, -90_000] {
            let (before, now, after) = (
                SystemClock.now(),
                StackClock::offset_by(seconds).now(),
                SystemClock.now(),
            );
            let moved = |time: Timestamp| time.as_millis().saturating_add_signed(seconds * 1_000);
            assert!((moved(before)..=moved(after)).contains(&now.as_millis()), "{seconds}");
        }
    }

    #[test]
    fn a_prefix_is_taken_from_the_function_and_from_the_stacks_output() {
        for raw in ["mfa", "mfa/", "mfa/seed", "mfa/seed/"] {
            assert_eq!(prefix(raw), "mfa", "{raw}");
        }
        assert_eq!(prefix("seed"), "seed");
    }

    #[test]
    fn a_missing_setting_is_named_with_its_option() {
        let error = Settings::default().required(
            &HashMap::<String, String>::new(),
            config::DEVICES_TABLE,
            "--devices-table",
        );
        let text = error.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(
            text.contains("DEVICES_TABLE") && text.contains("--devices-table"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_stack_that_does_not_run_is_a_matter_of_usage() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let error = local(&folder.path().join("stack.json"), (), false)
            .await
            .err()
            .context("an error")?;
        assert!(error.is::<Usage>());
        Ok(())
    }
}

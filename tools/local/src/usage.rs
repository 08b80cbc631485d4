//! What a person needs to use a running stack: commands to copy, and the files under `.local`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;
use shared::config;
use zeroize::Zeroizing;

use crate::files::{create_private_dir, write_private};
use crate::stack::{DEMO_DEVICE, DEMO_USER, Stack};

/// The three steps as shell commands with real values. They need `curl` and `sed`.
#[must_use]
pub fn commands(stack: &Stack) -> Zeroizing<String> {
    let [client, _] = stack.clients();
    let (api, origin) = (stack.api_url(), stack.origin());
    let member = |name: &str| format!("sed -n 's/.*\"{name}\":\"\\([^\"]*\\)\".*/\\1/p'");
    Zeroizing::new(format!(
        "\
# 1. An access token for the first client
TOKEN=$(curl -sS -u '{id}:{secret}' -d grant_type=client_credentials -d scope=mfa/authenticate \\
  {token_url} | {access_token})

# 2. Start an authentication of {DEMO_USER} with {DEMO_DEVICE}
ANSWER=$(curl -sS -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\
  -d '{{\"userName\":\"{DEMO_USER}\",\"deviceName\":\"{DEMO_DEVICE}\",\"deviceType\":\"TOTP\"}}' \\
  {api}/deviceAuthentications); echo \"$ANSWER\"
AUTH_ID=$(echo \"$ANSWER\" | {auth_id})

# 3. Ask the app for the code, and post it
CODE=$(curl -sS '{origin}/_local/code?userName={DEMO_USER}&deviceName={DEMO_DEVICE}' | {otp})
curl -sS -w '\\n' -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\
  -d \"{{\\\"otp\\\":\\\"$CODE\\\"}}\" \"{api}/deviceAuthentications/$AUTH_ID\"

# A code works once. The next one is there in up to 30 seconds, or at once:
curl -sS -w '\\n' -d '{{\"advanceSeconds\":30}}' {origin}/_local/clock
",
        id = client.id().as_str(),
        secret = client.secret(),
        token_url = stack.token_url(),
        access_token = member("access_token"),
        auth_id = member("authId"),
        otp = member("otp"),
    ))
}

/// The files that tell other programs about a running stack. They hold secrets: 0600 in a directory of 0700.
#[derive(Debug)]
pub struct LocalFiles(PathBuf);

impl LocalFiles {
    /// Writes `stack.json` and `env` into a directory, which belongs to this tool.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(directory: &Path, stack: &Stack) -> Result<Self> {
        create_private_dir(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot change the mode of {}", directory.display()))?;
        let files = Self(directory.to_owned());
        write_private(&files.env(), environment(stack).as_bytes())?;
        // Last, since it says that the stack is ready.
        write_private(&files.stack(), description(stack).as_bytes())?;
        Ok(files)
    }

    fn stack(&self) -> PathBuf {
        self.0.join("stack.json")
    }

    fn env(&self) -> PathBuf {
        self.0.join("env")
    }

    /// Removes both files.
    ///
    /// # Errors
    /// If one is there and cannot be removed.
    pub fn remove(&self) -> Result<()> {
        for path in [self.stack(), self.env()] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The address of the stack that runs now, as its files say.
///
/// # Errors
/// If there are no files, since no stack runs here.
pub fn running_origin(directory: &Path) -> Result<String> {
    let path = LocalFiles(directory.to_owned()).stack();
    let text = fs::read(&path).with_context(|| {
        format!(
            "no stack runs here: {} is not there; start one with cargo run -p local",
            path.display()
        )
    })?;
    let description: serde_json::Value = serde_json::from_slice(&Zeroizing::new(text))?;
    let api = description.get("apiUrl").and_then(serde_json::Value::as_str);
    let origin = api
        .and_then(|api| api.rsplit_once('/'))
        .map(|(origin, _stage)| origin.to_owned());
    origin.context("the file of the running stack has no apiUrl")
}

fn description(stack: &Stack) -> Zeroizing<String> {
    let clients = stack
        .clients()
        .map(|client| json!({ "clientId": client.id().as_str(), "clientSecret": client.secret() }));
    let seed = stack.demo().seed.to_base32();
    let description = json!({
        "stackName": stack.stack_name(),
        "apiUrl": stack.api_url(),
        "tokenUrl": stack.token_url(),
        "jwksUrl": stack.jwks_url(),
        "clients": clients,
        "userPoolId": stack.user_pool_id(),
        "cognitoUrl": stack.cognito_url(),
        "controlPlaneUrl": stack.control_plane_url(),
        "dynamodbUrl": stack.stores().dynamodb_url(),
        "secretsManagerUrl": stack.stores().secrets_manager_url(),
        "settings": settings_of_devices(stack),
        "demo": { "userName": DEMO_USER, "deviceName": DEMO_DEVICE, "seedBase32": *seed },
    });
    Zeroizing::new(format!("{description:#}\n"))
}

/// The settings that decide about devices, for tools that look after them.
fn settings_of_devices(stack: &Stack) -> BTreeMap<&str, &str> {
    const NAMES: [&str; 7] = [
        config::AUTHS_TABLE,
        config::DEVICES_TABLE,
        config::SEED_PREFIX,
        config::GUESS_POLICY,
        config::GUESS_BURST,
        config::GUESS_REFILL_HOURS,
        config::GUESS_PAIR_GAP_SECONDS,
    ];
    let of = |name| stack.environment().get(name).map(|value| (name, value.as_str()));
    NAMES.into_iter().filter_map(of).collect()
}

/// Lines for `cargo lambda watch --env-file`.
fn environment(stack: &Stack) -> Zeroizing<String> {
    let lines = stack
        .environment()
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"));
    Zeroizing::new(lines.collect())
}

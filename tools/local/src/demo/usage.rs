//! How to use a running stack: commands to copy, and the files under `.local`.

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
use crate::stack::Stack;
use crate::stores::devices::{DEMO_DEVICE, DEMO_USER};

/// The three steps as shell commands with real values. They need `curl` and `sed`, and work where a proxy is set.
#[must_use]
pub fn commands(stack: &Stack) -> Zeroizing<String> {
    let [client, _] = stack.clients();
    let (api, origin) = (stack.api_url(), stack.origin());
    let member = |name: &str| format!("sed -n 's/.*\"{name}\":\"\\([^\"]*\\)\".*/\\1/p'");
    Zeroizing::new(format!(
        "\
# 1. An access token for the first client
TOKEN=$(curl --noproxy '*' -sS -u '{id}:{secret}' -d grant_type=client_credentials -d scope=mfa/authenticate \\
  {token_url} | {access_token})

# 2. Start an authentication of {DEMO_USER} with {DEMO_DEVICE}
ANSWER=$(curl --noproxy '*' -sS -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\
  -d '{{\"userName\":\"{DEMO_USER}\",\"deviceName\":\"{DEMO_DEVICE}\",\"deviceType\":\"TOTP\"}}' \\
  {api}/deviceAuthentications); echo \"$ANSWER\"
AUTH_ID=$(echo \"$ANSWER\" | {auth_id})

# 3. Send the code that the app shows
CODE=$(curl --noproxy '*' -sS '{origin}/_local/code?userName={DEMO_USER}&deviceName={DEMO_DEVICE}' | {otp})
curl --noproxy '*' -sS -w '\\n' -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' \\
  -d \"{{\\\"otp\\\":\\\"$CODE\\\"}}\" \"{api}/deviceAuthentications/$AUTH_ID\"

# A code works once. Wait up to 30 seconds for the next one, or move the clock:
curl --noproxy '*' -sS -w '\\n' -d '{{\"advanceSeconds\":30}}' {origin}/_local/clock
",
        id = client.id().as_str(),
        secret = client.secret(),
        token_url = stack.token_url(),
        access_token = member("access_token"),
        auth_id = member("authId"),
        otp = member("otp"),
    ))
}

/// The files that tell other programs about a running stack. They hold secrets: mode 0600 in a directory of mode 0700. Dropped,
/// it removes them. It has no `Debug`, which would show them.
#[must_use = "dropped, it removes the files"]
pub struct LocalFiles([(PathBuf, Zeroizing<String>); 2]);

impl LocalFiles {
    /// Writes `stack.json` and `env` into a directory, which belongs to this tool.
    ///
    /// # Errors
    /// If they cannot be written; none is left then.
    pub fn write(directory: &Path, stack: &Stack) -> Result<Self> {
        create_private_dir(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot change the mode of {}", directory.display()))?;
        let files = Self([
            (directory.join("env"), environment(stack)),
            // Last, since its existence means that the stack is ready.
            (stack_file(directory), description(stack)),
        ]);
        for (path, content) in &files.0 {
            write_private(path, content.as_bytes())?;
        }
        Ok(files)
    }

    /// Removes what it wrote. What another stack has written over it stays.
    ///
    /// # Errors
    /// If a file cannot be read or removed.
    pub fn remove(&self) -> Result<()> {
        let [env, stack] = self.0.each_ref().map(|(path, content)| remove_if_same(path, content));
        stack.and(env)
    }
}

impl Drop for LocalFiles {
    fn drop(&mut self) {
        // Whoever wants to know whether it fails calls `remove`.
        let _ = self.remove();
    }
}

fn remove_if_same(path: &Path, content: &str) -> Result<()> {
    match fs::read(path).map(Zeroizing::new) {
        Ok(found) if *found == content.as_bytes() => fs::remove_file(path),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .with_context(|| format!("cannot remove {}", path.display()))
}

fn stack_file(directory: &Path) -> PathBuf {
    directory.join("stack.json")
}

/// The origin of the running stack, from its files.
///
/// # Errors
/// If there are no files, since no stack runs here.
pub fn running_origin(directory: &Path) -> Result<String> {
    let path = stack_file(directory);
    let text = fs::read(&path).with_context(|| {
        format!(
            "no local stack is running here (cannot read {}); start one with cargo run -p local",
            path.display()
        )
    })?;
    let description: serde_json::Value = serde_json::from_slice(&Zeroizing::new(text))?;
    let api = description.get("apiUrl").and_then(serde_json::Value::as_str);
    let origin = api
        .and_then(|api| api.rsplit_once('/'))
        .map(|(origin, _stage)| origin.to_owned());
    origin.with_context(|| format!("{} has no apiUrl", path.display()))
}

fn description(stack: &Stack) -> Zeroizing<String> {
    let clients = stack
        .clients()
        .map(|client| json!({ "clientId": client.id().as_str(), "clientSecret": client.secret() }));
    let seed = stack.demo().seed.to_base32();
    let description = json!({
        "apiUrl": stack.api_url(),
        "tokenUrl": stack.token_url(),
        "jwksUrl": stack.jwks_url(),
        "clients": clients,
        "userPoolId": stack.user_pool_id(),
        "cognitoUrl": stack.cognito_url(),
        "dynamodbUrl": stack.stores().dated_dynamodb_url(),
        "secretsManagerUrl": stack.stores().secrets_manager_url(),
        "settings": device_settings(stack),
        "demo": { "userName": DEMO_USER, "deviceName": DEMO_DEVICE, "seedBase32": *seed },
    });
    Zeroizing::new(format!("{description:#}\n"))
}

/// The settings that tools for operators need.
fn device_settings(stack: &Stack) -> BTreeMap<&str, &str> {
    const NAMES: [&str; 11] = [
        config::AUTHS_TABLE,
        config::DEVICES_TABLE,
        config::SEED_PREFIX,
        config::SEED_STORAGE,
        config::SEED_CACHE_SECONDS,
        config::SEED_TAGS,
        config::KEY_RING,
        config::GUESS_POLICY,
        config::GUESS_BURST,
        config::GUESS_REFILL_HOURS,
        config::GUESS_PAIR_GAP_SECONDS,
    ];
    let setting = |name| Some((name, stack.environment().get(name)?.as_str()));
    NAMES.into_iter().filter_map(setting).collect()
}

/// Lines for `cargo lambda watch --env-file`.
fn environment(stack: &Stack) -> Zeroizing<String> {
    let stores = stack.stores();
    let lines = stack.environment().iter().map(|(name, value)| {
        let value = if value == stores.dynamodb_url() {
            stores.dated_dynamodb_url()
        } else {
            value
        };
        format!("{name}={value}\n")
    });
    Zeroizing::new(lines.collect())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::stack::Options;

    #[tokio::test]
    async fn the_printed_commands_work_where_a_proxy_is_set() -> Result<()> {
        let stack = Stack::start(Options::default()).await?;
        let run = |script: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]);
            // Nothing listens there.
            shell.envs(["http_proxy", "all_proxy"].map(|name| (name, "http://127.0.0.1:9")));
            shell.output()
        };
        // Without curl there is nothing to try.
        if run("command -v curl")?.status.success() {
            let output = run(&commands(&stack))?;
            let shown = String::from_utf8(output.stdout)?;
            for answer in ["Please get the OTP", "OTP has been validated", "\"offsetSeconds\":30"] {
                assert!(
                    shown.contains(answer),
                    "{answer}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
        stack.shutdown().await;
        Ok(())
    }
}

//! One measurement: builds the binaries, registers devices, and calls each function as planned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::{Clients, Endpoints, Limits};
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::{Clock as _, SystemClock};
use shared::config::{DEVICES_TABLE, SEED_PREFIX};
use shared::device::{Device, Registration, Status};
use shared::names::{DeviceKey, DeviceName, Owner, UserName, seed_name};
use shared::otp::{OtpParameters, Seed, Step};
use shared::ports::Stored;
use shared::ports::registry::{DeviceRegistry as _, SeedRegistry as _};
use shared::random::{Random as _, SystemRandom};

use crate::process::Process;
use crate::report::{Cost, Plan, Report, Spread};
use crate::tls::Fronts;

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const INIT_AUTH: &str = include_str!("../../events/init-auth.json");
const VALIDATE_OTP: &str = include_str!("../../events/validate-otp-wrong-code.json");
const REGISTER: &str = include_str!("../../events/manage-devices-register.json");

/// A separate client, so that no other device is touched.
const CLIENT: &str = "measured-client";
const DEVICE: &str = "mydevice";

/// Builds the functions in release mode and measures them against running stores, which they reach over TLS. `environment`
/// has what `.local/env` has: endpoints, region, credentials and the functions' settings.
pub(crate) async fn measure(environment: &BTreeMap<String, String>, plan: Plan) -> Result<Report> {
    let binaries = tokio::task::spawn_blocking(build).await??;
    let fronts = Fronts::start(environment).await?;
    let subject = |function, status| {
        let binary = binaries
            .get(function)
            .with_context(|| format!("cargo did not build {function}"))?;
        anyhow::Ok(Subject {
            function,
            binary,
            status,
            environment: fronts.environment(),
            plan,
        })
    };
    let seed = register_users(environment, plan.starts + plan.warm_calls).await?;

    let (init_auth, answers) = subject("init-auth", 201)?.run(init_auth_event).await?;
    let auth_id = |number: usize| answers.get(number)?.get("authId")?.as_str();
    let event = |number| validate_otp_event(auth_id(number).context("no authId")?, &seed);
    let (validate_otp, _) = subject("validate-otp", 200)?.run(event).await?;
    let (manage_devices, _) = subject("manage-devices", 201)?.run(register_event).await?;
    Ok(Report {
        plan,
        costs: vec![init_auth, validate_otp, manage_devices],
    })
}

/// Builds the binaries as they are deployed; returns their paths by name.
fn build() -> Result<BTreeMap<String, PathBuf>> {
    let built = Command::new("cargo")
        .args([
            "build",
            "--release",
            "-p",
            "init-auth",
            "-p",
            "validate-otp",
            "-p",
            "manage-devices",
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(WORKSPACE)
        .stderr(Stdio::inherit())
        .output()
        .context("cargo")?;
    ensure!(built.status.success(), "cargo build: {}", built.status);
    let messages = String::from_utf8(built.stdout)?;
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages.filter_map(|message| executable(&message)).collect())
}

fn executable(message: &Value) -> Option<(String, PathBuf)> {
    let name = message.pointer("/target/name")?.as_str()?;
    Some((name.to_owned(), message.get("executable")?.as_str()?.into()))
}

/// Users with a device each, since a code counts once per device. The devices share a seed, which is in memory after the
/// first call, as on Lambda for a user who signs in again.
async fn register_users(environment: &BTreeMap<String, String>, how_many: usize) -> Result<Seed> {
    let setting = |name: &str| environment.get(name).with_context(|| format!("{name} is not set"));
    let endpoints = Endpoints::local(
        setting("AWS_ENDPOINT_URL_DYNAMODB")?,
        setting("AWS_ENDPOINT_URL_SECRETS_MANAGER")?,
    );
    let clients = Clients::new(endpoints, Limits::REQUEST);
    let seeds = SecretsManagerSeeds::new(&clients.secrets_manager, SystemClock, Duration::ZERO);
    let devices = DynamoDevices::new(&clients.dynamodb, setting(DEVICES_TABLE)?.clone());

    let parameters = OtpParameters::default();
    let seed = Seed::from_bytes(&SystemRandom.sixteen_bytes()?, parameters)?;
    let seed_ref = seeds
        .create(&seed_name(setting(SEED_PREFIX)?, SystemRandom.sixteen_bytes()?), &seed)
        .await?;
    let device = Device::registered(1, Status::Active, seed_ref, parameters);
    for number in 0..how_many {
        let user = UserName::parse(&user(number))?;
        let key = DeviceKey {
            owner: Owner::parse(CLIENT)?,
            user,
            device: DeviceName::parse(DEVICE)?,
        };
        let stored = devices
            .register(&key, &device, &Registration::by_operator(SystemClock.now()))
            .await?;
        ensure!(
            stored == Stored::Yes,
            "the devices of an earlier measurement still exist"
        );
    }
    Ok(seed)
}

fn init_auth_event(number: usize) -> Result<String> {
    let body = json!({ "userName": user(number), "deviceName": DEVICE, "deviceType": "TOTP" });
    event(INIT_AUTH, &body, &[])
}

fn validate_otp_event(auth_id: &str, seed: &Seed) -> Result<String> {
    let now = Step::at(SystemClock.now(), seed.parameters().period);
    let body = json!({ "otp": seed.code(now).reveal() });
    event(VALIDATE_OTP, &body, &[("authId", auth_id)])
}

/// A registration of a device that its user does not have yet.
fn register_event(number: usize) -> Result<String> {
    let body = json!({ "deviceName": "phone", "deviceType": "TOTP" });
    event(REGISTER, &body, &[("userName", &user(number))])
}

fn user(number: usize) -> String {
    format!("user-{number}")
}

fn event(sample: &str, body: &Value, path_parameters: &[(&str, &str)]) -> Result<String> {
    let mut event: Value = serde_json::from_str(sample)?;
    let mut set = |pointer: &str, value: String| -> Result<()> {
        *event
            .pointer_mut(pointer)
            .with_context(|| format!("no {pointer} in the sample event"))? = value.into();
        Ok(())
    };
    set("/requestContext/authorizer/claims/client_id", CLIENT.to_owned())?;
    set("/body", body.to_string())?;
    for (name, value) in path_parameters {
        set(&format!("/pathParameters/{name}"), (*value).to_owned())?;
    }
    Ok(event.to_string())
}

/// A function to measure, and the status that each of its answers must have.
struct Subject<'a> {
    function: &'static str,
    binary: &'a Path,
    status: u16,
    environment: &'a BTreeMap<String, String>,
    plan: Plan,
}

impl Subject<'_> {
    /// Starts and calls the function as planned, with the events numbered from 0; returns the bodies of its answers too.
    async fn run(&self, event: impl Fn(usize) -> Result<String>) -> Result<(Cost, Vec<Value>)> {
        let Self {
            function,
            status,
            plan: Plan { starts, warm_calls },
            ..
        } = *self;
        let mut bodies = Vec::with_capacity(starts + warm_calls);
        let (mut inits, mut first_calls, mut warm) = (Vec::new(), Vec::new(), Vec::new());
        let mut peak_kib = 0;
        for start in 0..starts {
            let (mut process, init) = Process::start(self.binary, function, self.environment).await?;
            inits.push(init);
            let (time, body) = process.call(event(start)?, status).await?;
            first_calls.push(time);
            bodies.push(body);
            if start + 1 == starts {
                for number in starts..starts + warm_calls {
                    let (time, body) = process.call(event(number)?, status).await?;
                    warm.push(time);
                    bodies.push(body);
                }
                peak_kib = process.peak_kib()?;
            }
        }
        let spread = |times| Spread::new(times).context("nothing was measured");
        let cost = Cost {
            function,
            binary_bytes: std::fs::metadata(self.binary)?.len(),
            init: spread(inits)?,
            first_call: spread(first_calls)?,
            warm_call: spread(warm)?,
            peak_kib,
        };
        Ok((cost, bodies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_events_take_the_ids_of_a_measurement() -> Result<()> {
        let made: Value =
            serde_json::from_str(&event(VALIDATE_OTP, &json!({ "otp": "1" }), &[("authId", "an-auth")])?)?;
        let found = [
            "/requestContext/authorizer/claims/client_id",
            "/pathParameters/authId",
            "/body",
        ]
        .map(|pointer| made.pointer(pointer).and_then(Value::as_str));
        assert_eq!(found, [Some(CLIENT), Some("an-auth"), Some(r#"{"otp":"1"}"#)]);
        Ok(())
    }
}

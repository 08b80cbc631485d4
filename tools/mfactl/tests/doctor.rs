//! `mfactl doctor` on the local stack: through the SDK's own clients, over HTTP, with the program as it is run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use acceptance::{Outcome, World, WorldOptions};
use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::types::{AttributeValue, TimeToLiveSpecification};
use local::usage::LocalFiles;
use mfactl::aws_inspector::{AwsInspector, LocalEndpoints};
use mfactl::deployed::{ClockFound, Inspector as _};
use mfactl::target::StackClock;
use serde_json::Value;
use shared::aws::sdk::Clients;
use shared::names::seed_name;
use shared::otp::{OtpParameters, Seed};
use shared::ports::{DeviceRegistry as _, Removal, SeedRegistry as _};

/// A stack, and the folder that the program finds it in.
struct Practice {
    world: World,
    folder: tempfile::TempDir,
}

impl Practice {
    async fn open() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let world = World::with(WorldOptions {
            running: true,
            ..WorldOptions::default()
        });
        let world = world.await?;
        LocalFiles::write(&folder.path().join(".local"), &world.stack)?;
        Ok(Self { world, folder })
    }

    /// Runs the program with nothing in its environment; exit code, output, notes.
    async fn run(&self, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
        let folder: &Path = self.folder.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mfactl"));
        command.current_dir(folder).env_clear().args(["--local", "doctor"]);
        command.args(arguments).stdin(Stdio::null());
        // The stack has its own threads, but the test's client does not.
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }

    /// What is wrong: part and what is said of it.
    async fn problems(&self) -> Result<Vec<(String, String)>> {
        let (code, said, noted) = self.run(&["--json"]).await?;
        let value: Value = serde_json::from_str(&said).with_context(|| noted.clone())?;
        let text = |finding: &Value, member: &str| {
            let text = finding.get(member).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let findings = value.get("findings").and_then(Value::as_array).context("no findings")?;
        let problems: Vec<_> = findings
            .iter()
            .filter(|finding| text(finding, "state") == "problem")
            .map(|finding| (text(finding, "part"), text(finding, "says")))
            .collect();
        assert_eq!(code, Some(i32::from(!problems.is_empty())), "{noted}");
        Ok(problems)
    }

    /// The one thing that is wrong.
    async fn problem(&self) -> Result<String> {
        let problems = self.problems().await?;
        let [(_, says)] = problems.as_slice() else {
            anyhow::bail!("not one problem: {problems:?}")
        };
        Ok(says.clone())
    }

    async fn is_well(&self) -> Outcome {
        let problems = self.problems().await?;
        anyhow::ensure!(problems.is_empty(), "{problems:?}");
        Ok(())
    }

    fn clients(&self) -> Clients {
        let stores = self.world.stack.stores();
        Clients::of_local_stores(stores.dynamodb_url(), stores.secrets_manager_url())
    }
}

fn a_seed(number: u8) -> Result<Seed> {
    Ok(Seed::from_bytes(&[number; 20], OtpParameters::default())?)
}

#[tokio::test]
async fn a_stack_as_it_starts_is_well_in_every_part() -> Outcome {
    let practice = Practice::open().await?;
    let (code, said, noted) = practice.run(&[]).await?;
    assert_eq!(code, Some(0), "{said}{noted}");
    for line in [
        "ok      stack    mfa: CREATE_COMPLETE",
        "notice  stack    a trial stack",
        "ok      tables   Auths: authIds are deleted by expiresAt",
        "ok      tables   Devices: has no backups, which a store on one machine never has",
        "ok      api      2 methods take tokens of the stack's user pool with mfa/authenticate",
        "ok      api      refuses a POST /deviceAuthentications without a token (401)",
        "ok      api      refuses a POST /deviceAuthentications/00000000-0000-0000-0000-000000000000 without a token (401)",
        "ok      clients  2 clients may ask for mfa/authenticate",
        "notice  alarms   not looked at: nothing watches a stack on one machine",
        "ok      clock    this machine's clock is right",
        "ok      orphans  11 devices, 11 secrets: each device has its own, and each secret its device",
    ] {
        assert!(said.lines().any(|said| said.starts_with(line)), "{line}\n{said}");
    }
    // A stack whose clock was moved is no stack whose clock is wrong.
    practice.world.advance(Duration::from_hours(30))?;
    practice.is_well().await?;
    practice.world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_is_changed_by_hand_is_found() -> Outcome {
    let practice = Practice::open().await?;
    let plane = practice.world.stack.control_plane();
    let before = plane.deployed();
    let restore = || plane.change(|deployed| *deployed = before.clone());

    plane.change(|deployed| deployed.methods[0].authorization_scopes.clear());
    assert!(practice.problem().await?.contains("asks for no scope"));
    restore();
    plane.change(|deployed| deployed.methods[1].authorization_type = "NONE".to_owned());
    assert!(
        practice
            .problem()
            .await?
            .contains("{authId} is not authorized by Cognito but by NONE")
    );
    restore();
    plane.change(|deployed| {
        deployed.authorizers[0].provider_arns = vec!["arn:aws:cognito-idp:us-east-1:1:userpool/other".to_owned()];
    });
    let problems = practice.problems().await?;
    assert!(
        problems.len() == 2 && problems.iter().all(|(_, says)| says.contains("another user pool")),
        "{problems:?}"
    );
    restore();
    // More than a page of what API Gateway gives.
    plane.change(|deployed| {
        let method = deployed.methods[0].clone();
        for number in 0..5 {
            let path = format!("/backdoor{number}");
            deployed.methods.push(local::control_plane::Method {
                path,
                authorization_type: "NONE".to_owned(),
                ..method.clone()
            });
        }
    });
    assert_eq!(practice.problems().await?.len(), 5);
    restore();
    plane.change(|deployed| deployed.status = "ROLLBACK_FAILED".to_owned());
    assert!(practice.problem().await?.contains("ROLLBACK_FAILED"));
    restore();
    plane.change(|deployed| drop(deployed.outputs.remove("DevicesTable")));
    assert!(practice.problem().await?.contains("has no output DevicesTable"));
    restore();
    plane.change(|deployed| drop(deployed.outputs.remove("AuthsTable")));
    assert!(practice.problem().await?.contains("has no output AuthsTable"));
    restore();

    let dynamodb = practice.clients().dynamodb;
    let ttl = async |on: bool| {
        let specification = TimeToLiveSpecification::builder()
            .attribute_name("expiresAt")
            .enabled(on)
            .build()?;
        let update = dynamodb.update_time_to_live().table_name("Auths");
        update.time_to_live_specification(specification).send().await?;
        anyhow::Ok(())
    };
    ttl(false).await?;
    assert!(
        practice
            .problem()
            .await?
            .contains("Auths keeps every authId for ever: TTL is off")
    );
    ttl(true).await?;
    practice.is_well().await?;
    dynamodb.delete_table().table_name("Auths").send().await?;
    assert!(practice.problem().await?.contains("Auths is not there"));
    practice.world.end().await;
    Ok(())
}

#[tokio::test]
async fn orphans_are_found_both_ways_and_mended_and_the_device_signs_in_again() -> Outcome {
    let mut practice = Practice::open().await?;
    let seeds = practice.world.stack.seeds();
    // More than a page of secrets.
    let mut unnamed = Vec::new();
    for number in 0..120 {
        unnamed.push(seeds.create(&seed_name("mfa", [number; 16]), &a_seed(number)?).await?);
    }
    let other = seeds.create("mfa-dev/seed/00", &a_seed(1)?).await?;
    // Nothing is an orphan in its first hour.
    practice.is_well().await?;
    let dead = practice.world.register("bob", "phone").await?;
    practice.world.advance(Duration::from_hours(2))?;
    practice.world.renew_token()?;
    let world = &practice.world;
    let seeds = world.stack.seeds();
    let demo = world.device().await?;
    seeds.remove(&demo.seed_ref, Removal::Recoverable).await?;
    let lost = world.device_of(&dead.key).await?.seed_ref;
    seeds.remove(&lost, Removal::AtOnce).await?;
    world.register("carol", "phone").await?;

    world
        .start_and_send(&world.code(0))
        .await?
        .expect(503, "SERVICE_UNAVAILABLE")?;
    let problems = practice.problems().await?;
    assert_eq!(problems.len(), 122, "{problems:?}");
    assert!(problems.iter().all(|(part, _)| part == "orphans"));
    let (code, _, noted) = practice.run(&["--fix"]).await?;
    assert!(code == Some(1) && noted.contains("give --yes in a script"), "{noted}");
    assert_eq!(practice.problems().await?.len(), 122);

    let (code, said, noted) = practice.run(&["--fix", "--yes"]).await?;
    assert_eq!(code, Some(0), "{said}{noted}");
    assert!(
        noted.contains("120 secrets removed; for 30 days each can be restored"),
        "{noted}"
    );
    practice.is_well().await?;
    world.start_and_send(&world.code(0)).await?.success(200)?;
    assert!(world.stack.devices().record(&dead.key).await?.is_none());
    assert!(seeds.read(&other).await?.is_some(), "another stack's secret");
    let first = &unnamed[0];
    assert!(seeds.read(first).await?.is_none());
    seeds.restore(first.name()).await?;
    assert!(seeds.read(first).await?.is_some());
    practice.world.end().await;
    Ok(())
}

#[tokio::test]
async fn nothing_is_removed_while_an_item_cannot_be_read() -> Outcome {
    let practice = Practice::open().await?;
    let seeds = practice.world.stack.seeds();
    let unnamed = seeds.create(&seed_name("mfa", [1; 16]), &a_seed(1)?).await?;
    practice.world.advance(Duration::from_hours(2))?;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = practice.clients().dynamodb.put_item().table_name("Devices");
    put.item("pk", text("shop#alice"))
        .item("sk", text("phone"))
        .send()
        .await?;
    let problems = practice.problems().await?;
    assert!(
        problems.iter().any(|(_, says)| says.contains("1 item cannot be read")),
        "{problems:?}"
    );
    let (code, said, _) = practice.run(&["--fix", "--yes"]).await?;
    assert!(
        code == Some(1) && said.contains("nothing was mended: 1 item cannot be read"),
        "{said}"
    );
    assert!(seeds.read(&unnamed).await?.is_some());
    practice.world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_clock_that_is_off_is_measured_by_the_answers() -> Outcome {
    let practice = Practice::open().await?;
    let stack = &practice.world.stack;
    let endpoints = LocalEndpoints {
        control_plane: stack.control_plane_url(),
        dynamodb: stack.stores().dynamodb_url(),
        cognito: stack.cognito_url(),
    };
    let settings = Clients::settings_of_local_stores();
    let look = async |seconds: i64, name: &str| {
        let inspector = AwsInspector::new(&settings, StackClock::offset_by(seconds), Some(endpoints));
        assert_eq!(inspector.clock(), None);
        let found = inspector.stack(name).await?;
        anyhow::Ok((found.is_some(), inspector.clock()))
    };
    assert_eq!(look(0, "mfa").await?, (true, Some(ClockFound::Right)));
    // A refusal has a date too.
    assert_eq!(look(0, "mfb").await?, (false, Some(ClockFound::Right)));
    let (_, ahead) = look(100, "mfa").await?;
    let (_, behind) = look(-100, "mfa").await?;
    let Some((ClockFound::Ahead(ahead), ClockFound::Behind(behind))) = ahead.zip(behind) else {
        anyhow::bail!("{ahead:?} {behind:?}")
    };
    // At least so much, by what the network and whole seconds may explain.
    for millis in [ahead, behind] {
        assert!((1..=100_000).contains(&millis), "{millis}");
    }
    practice.world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_stack_that_is_not_named_or_not_there_is_said_to_be() -> Outcome {
    let practice = Practice::open().await?;
    let (code, _, noted) = practice.run(&["--stack", "mfa"]).await?;
    assert!(code == Some(2) && noted.contains("--local"), "{noted}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mfactl"));
    command.current_dir(practice.folder.path()).env_clear().arg("doctor");
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let noted = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && noted.contains("--stack"), "{noted}");

    practice
        .world
        .stack
        .control_plane()
        .change(|deployed| deployed.stack_name = "other".to_owned());
    let (code, _, noted) = practice.run(&[]).await?;
    assert!(code == Some(1) && noted.contains("there is no stack mfa"), "{noted}");
    practice.world.end().await;
    Ok(())
}

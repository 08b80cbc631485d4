//! `mfactl doctor` on the local stack: the program itself, through the SDK, over HTTP.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use acceptance::{Outcome, World, WorldOptions};
use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::types::{AttributeValue, TimeToLiveSpecification};
use local::usage::LocalFiles;
use serde_json::Value;
use shared::aws::sdk::Clients;
use shared::names::{SecretVersion, seed_name};
use shared::otp::{OtpParameters, Seed};
use shared::ports::operator::SeedInventory;
use shared::ports::registry::{DeviceRegistry as _, SeedRegistry as _};

/// A running stack, and the folder that the program finds it in.
struct DoctorSession {
    world: World,
    folder: tempfile::TempDir,
    _files: LocalFiles,
}

impl DoctorSession {
    async fn open() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let world = World::with(WorldOptions {
            running: true,
            ..WorldOptions::default()
        });
        let world = world.await?;
        let files = LocalFiles::write(&folder.path().join(".local"), &world.stack)?;
        Ok(Self {
            world,
            folder,
            _files: files,
        })
    }

    /// Runs the program with an empty environment. Returns exit code, standard output and standard error.
    async fn run(&self, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
        let folder: &Path = self.folder.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mfactl"));
        command.current_dir(folder).env_clear().args(["--local", "doctor"]);
        command.args(arguments).stdin(Stdio::null());
        // The stack has its own threads, but the test's HTTP client does not.
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
    }

    /// The problems: part and text.
    async fn problems(&self) -> Result<Vec<(String, String)>> {
        let (code, output, notes) = self.run(&["--json"]).await?;
        let value: Value = serde_json::from_str(&output).with_context(|| notes.clone())?;
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
        assert_eq!(code, Some(i32::from(!problems.is_empty())), "{notes}");
        Ok(problems)
    }

    /// The only problem.
    async fn problem(&self) -> Result<String> {
        let problems = self.problems().await?;
        let [(_, says)] = problems.as_slice() else {
            anyhow::bail!("not one problem: {problems:?}")
        };
        Ok(says.clone())
    }

    async fn require_healthy(&self) -> Outcome {
        let problems = self.problems().await?;
        anyhow::ensure!(problems.is_empty(), "{problems:?}");
        Ok(())
    }

    fn clients(&self) -> Clients {
        let stores = self.world.stack.stores();
        stores.clients()
    }
}

fn a_seed(number: u8) -> Result<Seed> {
    Ok(Seed::from_bytes(&[number; 20], OtpParameters::default())?)
}

#[tokio::test]
async fn a_new_stack_is_healthy_and_what_it_lacks_is_reported() -> Outcome {
    let session = DoctorSession::open().await?;
    let (code, output, notes) = session.run(&[]).await?;
    assert_eq!(code, Some(0), "{output}{notes}");
    for line in [
        "notice  stack    not checked: the local stack is not deployed by CloudFormation",
        "ok      tables   Auths: authIds are deleted by expiresAt",
        "ok      tables   Devices: no backups, as always on the local stack",
        "notice  api      not checked: the local stack has no API Gateway",
        "ok      clients  2 clients may request mfa/authenticate",
        "notice  alarms   not checked: the local stack has no alarms",
        "ok      clock    the local stack's clock agrees with this machine's",
        "ok      orphans  22 devices, 22 secrets: each device has its own, and each secret its device",
    ] {
        assert!(output.lines().any(|shown| shown.starts_with(line)), "{line}\n{output}");
    }
    // Moving the local clock is not a problem.
    session.world.advance(Duration::from_hours(30))?;
    session.require_healthy().await?;
    session.world.end().await;
    Ok(())
}

#[tokio::test]
async fn changes_of_the_tables_are_found() -> Outcome {
    let session = DoctorSession::open().await?;
    let dynamodb = session.clients().dynamodb;
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
        session
            .problem()
            .await?
            .contains("Auths keeps every authId forever: TTL is off")
    );
    ttl(true).await?;
    session.require_healthy().await?;
    dynamodb.delete_table().table_name("Auths").send().await?;
    assert!(session.problem().await?.contains("Auths does not exist"));
    session.world.end().await;
    Ok(())
}

#[tokio::test]
async fn orphans_of_both_kinds_are_fixed_and_the_device_authenticates_again() -> Outcome {
    let mut session = DoctorSession::open().await?;
    let seeds = session.world.stack.seeds();
    // More than a page of secrets.
    let mut unnamed = Vec::new();
    for number in 0..120 {
        unnamed.push(seeds.create(&seed_name("mfa", [number; 16]), &a_seed(number)?).await?);
    }
    let other = seeds.create("mfa-dev/seed/00", &a_seed(1)?).await?;
    // Nothing is an orphan in its first hour.
    session.require_healthy().await?;
    let dead = session.world.register("bob", "phone").await?;
    session.world.advance(Duration::from_hours(2))?;
    session.world.renew_token()?;
    let world = &session.world;
    let seeds = world.stack.seeds();
    let demo = world.device().await?;
    seeds.remove(demo.seed_ref.secret().context("sealed")?).await?;
    let lost = world.device_of(&dead.key).await?.seed_ref;
    seeds.purge(lost.secret().context("sealed")?).await?;
    world.register("carol", "phone").await?;

    world
        .start_and_send(&world.code(0))
        .await?
        .expect(503, "SERVICE_UNAVAILABLE")?;
    let problems = session.problems().await?;
    assert_eq!(problems.len(), 122, "{problems:?}");
    assert!(problems.iter().all(|(part, _)| part == "orphans"));
    let (code, _, notes) = session.run(&["--fix"]).await?;
    assert!(code == Some(1) && notes.contains("In a script, give --yes"), "{notes}");
    assert_eq!(session.problems().await?.len(), 122);

    let (code, output, notes) = session.run(&["--fix", "--yes"]).await?;
    assert_eq!(code, Some(0), "{output}{notes}");
    assert!(
        notes.contains("120 secrets removed; each can be restored for 30 days"),
        "{notes}"
    );
    session.require_healthy().await?;
    world.start_and_send(&world.code(0)).await?.success(200)?;
    assert!(world.stack.devices().record(&dead.key).await?.is_none());
    assert!(is_there(seeds, &other).await?, "another stack's secret");
    let first = &unnamed[0];
    assert!(!is_there(seeds, first).await?);
    seeds.restore(first.name()).await?;
    assert!(is_there(seeds, first).await?);
    session.world.end().await;
    Ok(())
}

#[tokio::test]
async fn nothing_is_removed_while_an_item_cannot_be_read() -> Outcome {
    let session = DoctorSession::open().await?;
    let seeds = session.world.stack.seeds();
    let unnamed = seeds.create(&seed_name("mfa", [1; 16]), &a_seed(1)?).await?;
    session.world.advance(Duration::from_hours(2))?;
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = session.clients().dynamodb.put_item().table_name("Devices");
    put.item("pk", text("shop#alice"))
        .item("sk", text("phone"))
        .send()
        .await?;
    let problems = session.problems().await?;
    assert!(
        problems.iter().any(|(_, says)| says.contains("1 item cannot be read")),
        "{problems:?}"
    );
    let (code, output, _) = session.run(&["--fix", "--yes"]).await?;
    assert!(
        code == Some(1) && output.contains("nothing was fixed: 1 item cannot be read"),
        "{output}"
    );
    assert!(is_there(seeds, &unnamed).await?);
    session.world.end().await;
    Ok(())
}

/// Whether a secret can be read.
async fn is_there(seeds: &impl SeedInventory, secret: &SecretVersion) -> Result<bool> {
    let described = seeds.describe(secret.name()).await?;
    Ok(described.is_some_and(|secret| !secret.removed))
}

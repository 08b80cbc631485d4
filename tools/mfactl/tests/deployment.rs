//! The program on a deployment that is named by settings, as on AWS. Its stores, those of a local stack, have another time than
//! this machine.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use acceptance::{Outcome, World, WorldOptions};
use anyhow::{Context as _, Result};
use local::{DEMO_DEVICE, DEMO_USER};
use shared::clock::Clock as _;
use shared::config;
use shared::policy::Policy;
use shared::ports::operator::{DeviceFilter, DeviceInventory as _};

const DAY: Duration = Duration::from_hours(24);

/// Runs a command for the demo's device. Returns its exit code, and what it wrote to standard error.
fn run(
    settings: &BTreeMap<String, String>,
    client: &str,
    arguments: &[&str],
    input: &str,
) -> Result<(Option<i32>, String)> {
    let device = ["--user", DEMO_USER, "--device", DEMO_DEVICE];
    run_any(settings, client, &[arguments, &device].concat(), input)
}

/// As [`run`], for a command that names no device.
fn run_any(
    settings: &BTreeMap<String, String>,
    client: &str,
    arguments: &[&str],
    input: &str,
) -> Result<(Option<i32>, String)> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mfactl"))
        .env_clear()
        .envs(settings)
        .arg("device")
        .args(arguments)
        .args(["--client", client])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // It may end before it reads.
    let _ = program.stdin.take().context("no input")?.write_all(input.as_bytes());
    let output = program.wait_with_output()?;
    Ok((output.status.code(), String::from_utf8(output.stderr)?))
}

async fn world() -> Result<(World, BTreeMap<String, String>)> {
    let world = World::with(WorldOptions {
        running: true,
        ..WorldOptions::default()
    })
    .await?;
    let mut settings = world.stack.environment().clone();
    let stores = world.stack.stores().dated_dynamodb_url();
    settings.insert("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), stores.to_owned());
    settings.insert(config::GUESS_POLICY.to_owned(), "standard".to_owned());
    Ok((world, settings))
}

#[tokio::test]
async fn wrong_codes_on_a_laptop_that_is_a_day_ahead_do_not_keep_the_owner_out() -> Outcome {
    let (world, settings) = world().await?;
    world.stack.step_back(DAY)?;
    let client = world.client().as_str();
    let (code, notes) = run(&settings, client, &["register", "--replace", "--no-activate"], "")?;
    assert_eq!(code, Some(0), "{notes}");
    // Only two codes are evaluated now: a wrong pair closes pairs, too, for as long as its time is ahead.
    world.change(|device| device.consecutive_failures = 100).await?;
    let (code, notes) = run(&settings, client, &["activate"], "111111\n123456\n654321\n")?;
    assert_eq!(code, Some(1), "{notes}");
    assert!(
        notes.contains(" s ahead of the store's. The store's time is used."),
        "{notes}"
    );
    assert_eq!(world.device().await?.total_failures, 1);
    let auth_id = world.start().await?;
    let pair = (world.code(0), world.code(1));
    world.otps(&auth_id, &pair.0, &pair.1).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_new_seed_has_the_tags_that_were_given() -> Outcome {
    let (world, settings) = world().await?;
    let command = ["register", "--replace", "--no-activate", "--seed-tags", "team=identity"];
    let (code, notes) = run(&settings, world.client().as_str(), &command, "")?;
    assert_eq!(code, Some(0), "{notes}");
    let expected = [("team".to_owned(), "identity".to_owned())];
    assert_eq!(world.tags().await?, expected.into());
    world.end().await;
    Ok(())
}

/// Credentials that are renewed before every call, a dozen times.
const RENEWED_CREDENTIALS: &str = r#"
echo >>USES
[ $(wc -l <USES) -le 12 ] || exit 3
cat <<JSON
{
    "Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b", "SessionToken": "c",
    "Expiration": "$(date -u -d '+5 seconds' +%FT%TZ)"
}
JSON
"#;

#[tokio::test]
async fn an_import_whose_credentials_are_not_renewed_stops_and_the_next_run_continues() -> Outcome {
    const ROWS: usize = 30;
    let (world, mut settings) = world().await?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (process, uses) = (path("credentials"), path("uses"));
    let script = RENEWED_CREDENTIALS.replace("USES", &uses);
    std::fs::write(&process, script)?;
    std::fs::write(
        path("config"),
        format!("[default]\ncredential_process = /bin/sh {process}\n"),
    )?;
    settings.insert("AWS_CONFIG_FILE".to_owned(), path("config"));
    settings.insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    settings.remove("AWS_ACCESS_KEY_ID");
    settings.remove("AWS_SECRET_ACCESS_KEY");
    let rows: Vec<String> = (0..ROWS)
        .map(|number| format!("user {number},phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n"))
        .collect();
    std::fs::write(path("rows.csv"), format!("user,device,seed\n{}", rows.concat()))?;

    let import = ["import", &path("rows.csv")];
    let (code, notes) = run_any(&settings, world.client().as_str(), &import, "")?;
    assert_eq!(code, Some(2), "{notes}");
    assert!(notes.contains("run the same command again"), "{notes}");
    let filter = DeviceFilter::Owner(world.client().into());
    let imported = || async { anyhow::Ok(world.stack.devices().page(&filter, None, 100).await?.records.len() - 1) };
    let first = imported().await?;
    assert!((1..ROWS).contains(&first), "{first}");

    settings.insert("AWS_ACCESS_KEY_ID".to_owned(), "a".to_owned());
    settings.insert("AWS_SECRET_ACCESS_KEY".to_owned(), "b".to_owned());
    let (code, notes) = run_any(&settings, world.client().as_str(), &import, "")?;
    assert_eq!((code, imported().await?), (Some(0), ROWS), "{notes}");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn unlock_on_a_laptop_that_is_a_month_behind_is_no_full_reset() -> Outcome {
    let (world, settings) = world().await?;
    world.advance(30 * DAY)?;
    let (before, policy) = (world.stack.clock().now(), Policy::standard());
    let used_up = before.plus(policy.refill() * 20);
    world.change(|device| device.budget_at = used_up).await?;
    let (code, notes) = run(&settings, world.client().as_str(), &["unlock"], "")?;
    assert_eq!(code, Some(0), "{notes}");
    assert!(
        notes.contains(" s behind the store's. The store's time is used."),
        "{notes}"
    );
    // Six single codes: 14 of 20 stay used up.
    let budget_at = world.device().await?.budget_at;
    let expected = before.plus(policy.refill() * 14);
    let near = expected.minus(Duration::from_mins(5))..=expected.plus(Duration::from_mins(5));
    assert!(near.contains(&budget_at), "{budget_at:?} is not near {expected:?}");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn no_command_that_decides_assumes_a_policy() -> Outcome {
    let (world, mut settings) = world().await?;
    settings.remove(config::GUESS_POLICY);
    let before = world.device().await?;
    for command in [
        &["register", "--replace"][..],
        &["activate"],
        &["show"],
        &["unlock"],
        &["check"],
    ] {
        let (code, notes) = run(&settings, world.client().as_str(), command, "")?;
        assert_eq!(code, Some(2), "{command:?}: {notes}");
        assert!(notes.contains("GUESS_POLICY is not set"), "{command:?}: {notes}");
    }
    assert_eq!(world.device().await?, before);
    world.end().await;
    Ok(())
}

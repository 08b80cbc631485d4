//! The commands against the local stack: what they write is what the service reads, over HTTP.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use acceptance::{Outcome, World};
use anyhow::{Context as _, Result};
use local::LocalClock;
use mfactl::commands::{Desk, Importing, Listing, Patience, Registering, Removing};
use mfactl::import::ImportOptions;
use mfactl::otpauth::{self, Issuer};
use mfactl::terminal::Terminal;
use serde_json::Value;
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::Clients;
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::Clock as _;
use shared::config::{Environment, Source as _, SystemRandom};
use shared::device::Status;
use shared::names::{ClientId, DeviceKey, DeviceName, UserName};
use shared::otp::{Algorithm, Digits, OtpParameters, Period, Seed, Step};
use shared::policy::Policy;
use shared::ports::{DeviceRegistry as _, Of, SeedRegistry as _};
use zeroize::Zeroizing;

/// A person with an app: scans what is shown, and types the codes of steps that are so far from now.
struct Person {
    clock: Arc<LocalClock>,
    codes: VecDeque<i64>,
    said: String,
}

fn seed_in(said: &str) -> Result<Seed> {
    let uri = said
        .lines()
        .rfind(|line| line.starts_with("otpauth://"))
        .context("no URI")?;
    Ok(otpauth::parse(uri)?.seed)
}

fn code(clock: &LocalClock, seed: &Seed, ahead: i64) -> String {
    let step = Step::at(clock.now(), seed.parameters().period);
    seed.code(Step(step.0.saturating_add_signed(ahead))).reveal().to_owned()
}

impl Terminal for Person {
    fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.said.push_str(text);
        self.said.push('\n');
        Ok(())
    }

    fn note(&mut self, _text: &str) -> std::io::Result<()> {
        Ok(())
    }

    fn progress(&mut self, _done: usize, _all: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn ask(&mut self, _question: &str) -> std::io::Result<Option<Zeroizing<String>>> {
        let reply = self.codes.pop_front().zip(seed_in(&self.said).ok());
        Ok(reply.map(|(ahead, seed)| Zeroizing::new(code(&self.clock, &seed, ahead))))
    }

    fn has_colours(&self) -> bool {
        false
    }
}

type StackDesk = Desk<DynamoDevices, SecretsManagerSeeds<Arc<LocalClock>>, Arc<LocalClock>, SystemRandom, Person>;

fn desk(world: &World, codes: &[i64]) -> StackDesk {
    let stores = world.stack.stores();
    let clients = Clients::of_local_stores_for_an_operator(stores.dynamodb_url(), stores.secrets_manager_url());
    let clock = world.stack.clock();
    Desk {
        devices: world.stack.devices().clone(),
        seeds: SecretsManagerSeeds::new(&clients.secrets_manager, Arc::clone(clock), Duration::ZERO),
        clock: Arc::clone(clock),
        random: SystemRandom,
        terminal: Person {
            clock: Arc::clone(clock),
            codes: codes.iter().copied().collect(),
            said: String::new(),
        },
        policy: Policy::standard(),
        seed_prefix: "mfa".to_owned(),
        yes: true,
        left_behind: false,
    }
}

fn key(world: &World, user: &str) -> Result<DeviceKey> {
    Ok(DeviceKey {
        client: world.client().clone(),
        user: UserName::parse(user)?,
        device: DeviceName::parse("my phone")?,
    })
}

fn registering(key: &DeviceKey) -> Result<Registering> {
    Ok(Registering {
        key: key.clone(),
        issuer: Issuer::parse("ACME")?,
        parameters: OtpParameters::default(),
        replace: false,
        pending_for: Duration::from_hours(1),
        activate: true,
        png: None,
        svg: None,
    })
}

#[tokio::test]
async fn a_registered_device_signs_in_and_its_activation_code_does_not() -> Outcome {
    let world = World::new().await?;
    let longest = "\u{65e5}".repeat(UserName::LONGEST);
    for user in [
        "alice",
        "me+tag@example.com",
        "a b:c&d#e/f%20",
        "\u{5c71}\u{7530}",
        &longest,
    ] {
        let key = key(&world, user)?;
        let mut desk = desk(&world, &[0]);
        desk.register(&registering(&key)?).await?;
        let seed = seed_in(&desk.terminal.said)?;
        let auth_id = world.start_with(user, "my phone").await?;
        let used = code(world.stack.clock(), &seed, 0);
        world.otp(&auth_id, &used).await?.expect(422, "OTP_REPLAYED")?;
        let next = code(world.stack.clock(), &seed, 1);
        world.otp(&auth_id, &next).await?.success(200)?;
        assert!(!desk.left_behind);
        world.advance(Duration::from_mins(2))?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_device_that_waits_starts_nothing_and_its_wrong_codes_are_counted() -> Outcome {
    let world = World::new().await?;
    let key = key(&world, "alice")?;
    // An hour off: wrong, like any other wrong code.
    let mut desk = desk(&world, &[120, 121, 122]);
    assert!(desk.register(&registering(&key)?).await.is_err());
    let device = world.device_of(&key).await?;
    assert_eq!((device.status, device.total_failures), (Status::ActivationRequired, 3));
    world
        .try_start_with("alice", "my phone")
        .await?
        .expect(423, "DEVICE_NOT_ACTIVE")?;
    desk.terminal.codes.push_back(0);
    desk.activate(&key).await?;
    let device = world.device_of(&key).await?;
    assert_eq!((device.status, device.consecutive_failures), (Status::Active, 0));
    assert_eq!(device.total_failures, 3);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_replaced_seed_works_until_the_first_good_code_of_the_new_one() -> Outcome {
    let world = World::new().await?;
    let key = key(&world, "alice")?;
    let mut desk = desk(&world, &[0]);
    desk.register(&registering(&key)?).await?;
    let old = seed_in(&desk.terminal.said)?;
    let old_ref = world.device_of(&key).await?.seed_ref;
    for parameters in [
        OtpParameters::default(),
        OtpParameters {
            algorithm: Algorithm::Sha256,
            digits: Digits::Eight,
            period: Period::Sixty,
        },
    ] {
        world.advance(Duration::from_mins(2))?;
        desk.register(&Registering {
            activate: false,
            replace: true,
            parameters,
            ..registering(&key)?
        })
        .await?;
        let auth_id = world.start_with("alice", "my phone").await?;
        let signs_in = code(world.stack.clock(), &old, 0);
        world.otp(&auth_id, &signs_in).await?.success(200)?;
    }
    world.advance(Duration::from_mins(2))?;
    let open = world.start_with("alice", "my phone").await?;
    desk.terminal.codes.push_back(0);
    desk.activate(&key).await?;
    let new = seed_in(&desk.terminal.said)?;
    world
        .otp(&open, &code(world.stack.clock(), &old, 1))
        .await?
        .expect(409, "AUTH_SUPERSEDED")?;
    let auth_id = world.start_with("alice", "my phone").await?;
    world
        .otp(&auth_id, &code(world.stack.clock(), &new, 1))
        .await?
        .success(200)?;
    let record = world.stack.devices().record(&key).await?.context("no device")?;
    assert_eq!((record.pending, record.device.parameters.period), (None, Period::Sixty));
    assert!(desk.seeds.read(&old_ref).await?.is_none(), "the old secret is gone");
    assert!(!desk.left_behind);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_removed_device_is_refused_and_its_name_is_free_at_once() -> Outcome {
    let world = World::new().await?;
    let key = key(&world, "alice")?;
    for how in [Removing::Recoverably, Removing::ForGood] {
        let mut desk = desk(&world, &[0]);
        desk.register(&registering(&key)?).await?;
        let seed = seed_in(&desk.terminal.said)?;
        let open = world.start_with("alice", "my phone").await?;
        desk.remove(&key, how).await?;
        world
            .otp(&open, &code(world.stack.clock(), &seed, 1))
            .await?
            .expect(404, "AUTH_NOT_FOUND")?;
        desk.remove(&key, how).await?;
        assert!(!desk.left_behind);
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_disabled_device_is_refused_and_an_enabled_one_is_not_and_an_unlock_is_felt_from_step_2_on() -> Outcome {
    let world = World::new().await?;
    let key = world.stack.demo().key.clone();
    let mut desk = desk(&world, &[]);
    let open = world.start().await?;
    desk.disable(&key).await?;
    world.otp(&open, &world.code(0)).await?.expect(423, "DEVICE_DISABLED")?;
    desk.enable(&key).await?;
    world.change(|device| device.consecutive_failures = 100).await?;
    let locked = world.start().await?;
    world
        .otp(&locked, &world.code(0))
        .await?
        .expect(422, "TWO_CODES_REQUIRED")?;
    desk.unlock(&key, false).await?;
    world
        .otp(&locked, &world.code(0))
        .await?
        .expect(422, "TWO_CODES_REQUIRED")?;
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

struct Moves(Arc<LocalClock>);

impl Patience for Moves {
    async fn pause(&self, duration: Duration) {
        // Only a clock that is kept in a file can fail.
        let _ = self.0.advance(duration);
    }
}

/// A file of so many rows.
fn csv_of(rows: usize) -> String {
    let row = |number| format!("user {number},phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n");
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("user,device,seed\n{}", rows.concat())
}

/// The keys of the devices that an export names.
fn exported(said: &str) -> Result<Vec<DeviceKey>> {
    let key = |line| {
        let device: Value = serde_json::from_str(line)?;
        let member = |name| device.get(name).and_then(Value::as_str).context("no such member");
        anyhow::Ok(DeviceKey {
            client: ClientId::parse(member("clientId")?)?,
            user: UserName::parse(member("userName")?)?,
            device: DeviceName::parse(member("deviceName")?)?,
        })
    };
    said.lines().map(key).collect()
}

#[tokio::test]
async fn hundreds_are_imported_at_a_pace_listed_in_pages_sign_in_and_are_removed_without_a_trace() -> Outcome {
    // A debug build takes some 60 ms of processor time a device, and more with every one; IMPORTED_DEVICES takes others.
    let given = Environment.get("IMPORTED_DEVICES").map(|value| value.parse());
    let many: usize = given.transpose()?.unwrap_or(250);
    let world = World::new().await?;
    let file = csv_of(many);
    let importing = Importing {
        client: world.client().clone(),
        options: ImportOptions::default(),
        dry_run: false,
    };
    let patience = Moves(Arc::clone(world.stack.clock()));
    let mut desk = desk(&world, &[]);
    // The demo's device of this client, and samples of others.
    let before = world.stack.devices().page(&Of::All, None, 100).await?;
    let there_before = before.records.len();
    let began = world.stack.clock().now();
    desk.import(file.as_bytes(), &importing, &patience).await?;
    let took = world.stack.clock().now().as_millis() - began.as_millis();
    assert_eq!(took, u64::try_from(many - 1)? * 25);
    desk.import(file.as_bytes(), &importing, &patience).await?;
    assert!(
        desk.terminal
            .said
            .contains(&format!("0 imported, {many} there already"))
    );
    for (of, page, expected) in [
        (Of::User(world.client().clone(), UserName::parse("user 7")?), 1, 1),
        (Of::Client(world.client().clone()), 40, many + 1),
        (Of::All, 100, many + there_before),
    ] {
        desk.terminal.said.clear();
        desk.export(&Listing { of, json: true, page }).await?;
        let listed: HashSet<DeviceKey> = exported(&desk.terminal.said)?.into_iter().collect();
        assert_eq!((listed.len(), desk.terminal.said.lines().count()), (expected, expected));
    }
    let seed = Seed::from_base32("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", OtpParameters::default())?;
    let auth_id = world.start_with("user 7", "phone").await?;
    world
        .otp(&auth_id, &code(world.stack.clock(), &seed, 0))
        .await?
        .success(200)?;

    for key in exported(&std::mem::take(&mut desk.terminal.said))? {
        desk.remove(&key, Removing::ForGood).await?;
    }
    assert!(!desk.left_behind);
    let devices = world.stack.devices().page(&Of::All, None, 10).await?;
    assert!(devices.records.is_empty() && devices.next.is_none());
    let stores = world.stack.stores();
    let secrets = Clients::of_local_stores(stores.dynamodb_url(), stores.secrets_manager_url()).secrets_manager;
    let left = secrets.list_secrets().include_planned_deletion(true).send().await?;
    assert_eq!(left.secret_list().len(), 0);
    world.end().await;
    Ok(())
}

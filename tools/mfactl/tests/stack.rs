//! The commands on the local stack: the service reads what they write, over HTTP.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use acceptance::{Fault, Outcome, Rule, StoreProxy, World, WorldOptions};
use anyhow::{Context as _, Result};
use local::LocalClock;
use mfactl::commands::Delay;
use mfactl::commands::device::{DeviceAdmin, ImportRequest, ListRequest, RegisterRequest, Removal};
use mfactl::commands::keys::{ResealRequest, RotateRequest};
use mfactl::commands::seeds::MoveRequest;
use mfactl::formats::import_file::ImportOptions;
use mfactl::formats::otpauth;
use mfactl::terminal::Terminal;
use serde_json::{Value, json};
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::{Clients, Endpoints, Limits};
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::Clock as _;
use shared::config::{Environment, Source as _};
use shared::device::Status;
use shared::names::{DeviceKey, DeviceName, Owner, UserName};
use shared::otp::{Algorithm, Digits, OtpParameters, Period, Seed, Step};
use shared::otpauth::Issuer;
use shared::policy::Policy;
use shared::ports::operator::{DeviceFilter, DeviceInventory as _, KeyRingStore as _};
use shared::ports::registry::{DeviceRegistry as _, SeedRegistry as _};
use shared::random::SystemRandom;
use shared::sealed::SeedStorage;
use zeroize::Zeroizing;

/// A user with an app: scans the code that is shown, and types the codes of steps that are so far from now.
struct User {
    clock: Arc<LocalClock>,
    codes: VecDeque<i64>,
    output: String,
}

fn seed_in(output: &str) -> Result<Seed> {
    let uri = output
        .lines()
        .rfind(|line| line.starts_with("otpauth://"))
        .context("no URI")?;
    Ok(otpauth::parse(uri)?.seed)
}

fn code(clock: &LocalClock, seed: &Seed, ahead: i64) -> String {
    let step = Step::at(clock.now(), seed.parameters().period);
    seed.code(Step(step.0.saturating_add_signed(ahead))).reveal().to_owned()
}

impl Terminal for User {
    fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.output.push_str(text);
        self.output.push('\n');
        Ok(())
    }

    fn print(&mut self, text: &str) -> std::io::Result<()> {
        self.say(text)
    }

    fn note(&mut self, _text: &str) -> std::io::Result<()> {
        Ok(())
    }

    fn progress(&mut self, _done: usize, _all: usize, _elapsed: Duration) -> std::io::Result<()> {
        Ok(())
    }

    fn ask(&mut self, _question: &str) -> std::io::Result<Option<Zeroizing<String>>> {
        let reply = self.codes.pop_front().zip(seed_in(&self.output).ok());
        Ok(reply.map(|(ahead, seed)| Zeroizing::new(code(&self.clock, &seed, ahead))))
    }

    fn has_colours(&self) -> bool {
        false
    }

    fn columns(&self) -> Option<usize> {
        None
    }
}

type StackAdmin = DeviceAdmin<DynamoDevices, SecretsManagerSeeds<Arc<LocalClock>>, Arc<LocalClock>, SystemRandom, User>;

fn admin(world: &World, codes: &[i64]) -> StackAdmin {
    admin_through(world, world.stack.stores().secrets_manager_url(), codes)
}

fn admin_through(world: &World, secrets_manager_url: &str, codes: &[i64]) -> StackAdmin {
    let stores = world.stack.stores();
    let clients = Clients::new(
        Endpoints::local(stores.dynamodb_url(), secrets_manager_url),
        Limits::OPERATOR,
    );
    let clock = world.stack.clock();
    DeviceAdmin {
        devices: world.stack.devices().clone(),
        seeds: SecretsManagerSeeds::new(
            &clients.secrets_manager,
            Arc::clone(clock),
            Duration::ZERO,
            Some("mfa-key-ring".to_owned()),
        ),
        clock: Arc::clone(clock),
        random: SystemRandom,
        terminal: User {
            clock: Arc::clone(clock),
            codes: codes.iter().copied().collect(),
            output: String::new(),
        },
        policy: Policy::standard(),
        seed_prefix: Some("mfa".to_owned()),
        yes: true,
        left_behind: false,
    }
}

fn key(world: &World, user: &str) -> Result<DeviceKey> {
    Ok(DeviceKey {
        owner: world.client().into(),
        user: UserName::parse(user)?,
        device: DeviceName::parse("my phone")?,
    })
}

fn request(key: &DeviceKey) -> Result<RegisterRequest> {
    Ok(RegisterRequest {
        key: key.clone(),
        issuer: Issuer::parse("ACME")?,
        parameters: OtpParameters::default(),
        replace: false,
        pending_for: Duration::from_hours(1),
        activate_within: Duration::from_hours(24),
        activate: true,
        png: None,
        svg: None,
    })
}

#[tokio::test]
async fn a_registered_device_authenticates_but_not_with_its_activation_code() -> Outcome {
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
        let mut admin = admin(&world, &[0]);
        admin.register(&request(&key)?).await?;
        let seed = seed_in(&admin.terminal.output)?;
        let auth_id = world.start_with(user, "my phone").await?;
        let used = code(world.stack.clock(), &seed, 0);
        world.otp(&auth_id, &used).await?.expect(422, "OTP_REPLAYED")?;
        let next = code(world.stack.clock(), &seed, 1);
        world.otp(&auth_id, &next).await?.success(200)?;
        assert!(!admin.left_behind);
        world.advance(Duration::from_mins(2))?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_device_that_waits_for_its_first_code_is_refused_and_its_wrong_codes_are_counted() -> Outcome {
    let world = World::new().await?;
    let key = key(&world, "alice")?;
    // An hour off: wrong, like any other wrong code.
    let mut admin = admin(&world, &[120, 121, 122]);
    assert!(admin.register(&request(&key)?).await.is_err());
    let device = world.device_of(&key).await?;
    assert_eq!((device.status, device.total_failures), (Status::ActivationRequired, 3));
    world
        .try_start_with("alice", "my phone")
        .await?
        .expect(423, "DEVICE_NOT_ACTIVE")?;
    admin.terminal.codes.push_back(0);
    admin.activate(&key).await?;
    let device = world.device_of(&key).await?;
    assert_eq!((device.status, device.consecutive_failures), (Status::Active, 0));
    assert_eq!(device.total_failures, 3);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_replaced_seed_works_until_the_first_correct_code_of_the_new_one() -> Outcome {
    let world = World::new().await?;
    let key = key(&world, "alice")?;
    let mut admin = admin(&world, &[0]);
    admin.register(&request(&key)?).await?;
    let old = seed_in(&admin.terminal.output)?;
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
        admin
            .register(&RegisterRequest {
                activate: false,
                replace: true,
                parameters,
                ..request(&key)?
            })
            .await?;
        let auth_id = world.start_with("alice", "my phone").await?;
        let current = code(world.stack.clock(), &old, 0);
        world.otp(&auth_id, &current).await?.success(200)?;
    }
    world.advance(Duration::from_mins(2))?;
    let open = world.start_with("alice", "my phone").await?;
    admin.terminal.codes.push_back(0);
    admin.activate(&key).await?;
    let new = seed_in(&admin.terminal.output)?;
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
    assert!(
        admin.seeds.read(&key, &old_ref, None).await?.is_none(),
        "the old secret is gone"
    );
    assert!(!admin.left_behind);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_removed_device_is_refused_and_its_name_is_free() -> Outcome {
    let world = World::new().await?;
    let key = key(&world, "alice")?;
    for how in [Removal::Recoverable, Removal::ForGood] {
        let mut admin = admin(&world, &[0]);
        admin.register(&request(&key)?).await?;
        let seed = seed_in(&admin.terminal.output)?;
        let open = world.start_with("alice", "my phone").await?;
        admin.remove(&key, how).await?;
        world
            .otp(&open, &code(world.stack.clock(), &seed, 1))
            .await?
            .expect(404, "AUTH_NOT_FOUND")?;
        admin.remove(&key, how).await?;
        assert!(!admin.left_behind);
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn disable_enable_and_unlock_take_effect_over_http() -> Outcome {
    let world = World::new().await?;
    let key = world.stack.demo().key.clone();
    let mut admin = admin(&world, &[]);
    let open = world.start().await?;
    admin.disable(&key).await?;
    world.otp(&open, &world.code(0)).await?.expect(423, "DEVICE_DISABLED")?;
    admin.enable(&key).await?;
    world.change(|device| device.consecutive_failures = 100).await?;
    let locked = world.start().await?;
    world
        .otp(&locked, &world.code(0))
        .await?
        .expect(422, "TWO_CODES_REQUIRED")?;
    admin.unlock(&key, false).await?;
    world
        .otp(&locked, &world.code(0))
        .await?
        .expect(422, "TWO_CODES_REQUIRED")?;
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

struct ClockDelay(Arc<LocalClock>);

impl Delay for ClockDelay {
    async fn wait(&self, duration: Duration) {
        // Moving a clock that is not kept in a file does not fail.
        let _ = self.0.advance(duration);
    }
}

/// A file with so many rows.
fn csv_of(rows: usize) -> String {
    let row = |number| format!("user {number},phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n");
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("user,device,seed\n{}", rows.concat())
}

/// The keys of the devices in an export.
fn exported(output: &str) -> Result<Vec<DeviceKey>> {
    let key = |line| {
        let device: Value = serde_json::from_str(line)?;
        let member = |name| device.get(name).and_then(Value::as_str).context("no such member");
        anyhow::Ok(DeviceKey {
            owner: Owner::parse(member("owner")?)?,
            user: UserName::parse(member("userName")?)?,
            device: DeviceName::parse(member("deviceName")?)?,
        })
    };
    output.lines().map(key).collect()
}

#[tokio::test]
async fn hundreds_of_devices_are_imported_listed_in_pages_and_removed_without_a_trace() -> Outcome {
    // A debug build takes about 40 ms of processor time for a device.
    let given = Environment.get("IMPORTED_DEVICES").map(|value| value.parse());
    let many: usize = given.transpose()?.unwrap_or(250);
    let world = World::new().await?;
    let file = csv_of(many);
    let import = ImportRequest {
        owner: world.client().into(),
        options: ImportOptions::default(),
        dry_run: false,
        parallel: 8,
    };
    let delay = ClockDelay(Arc::clone(world.stack.clock()));
    let mut admin = admin(&world, &[]);
    // The demo's device of this client, and samples of others.
    let before = world.stack.devices().page(&DeviceFilter::All, None, 100).await?;
    let there_before = before.records.len();
    let began = world.stack.clock().now();
    admin.import(file.as_bytes(), &import, &delay).await?;
    let took = world.stack.clock().now().as_millis() - began.as_millis();
    assert_eq!(took, u64::try_from(many - 1)? * 25);
    admin.import(file.as_bytes(), &import, &delay).await?;
    assert!(
        admin
            .terminal
            .output
            .contains(&format!("0 imported, {many} already imported"))
    );
    for (filter, page, expected) in [
        (
            DeviceFilter::User(world.client().into(), UserName::parse("user 7")?),
            1,
            1,
        ),
        (DeviceFilter::Owner(world.client().into()), 40, many + 1),
        (DeviceFilter::All, 100, many + there_before),
    ] {
        admin.terminal.output.clear();
        admin
            .export(&ListRequest {
                filter,
                json: true,
                page,
            })
            .await?;
        let listed: HashSet<DeviceKey> = exported(&admin.terminal.output)?.into_iter().collect();
        assert_eq!(
            (listed.len(), admin.terminal.output.lines().count()),
            (expected, expected)
        );
    }
    let seed = Seed::from_base32("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", OtpParameters::default())?;
    let auth_id = world.start_with("user 7", "phone").await?;
    world
        .otp(&auth_id, &code(world.stack.clock(), &seed, 0))
        .await?
        .success(200)?;

    for key in exported(&std::mem::take(&mut admin.terminal.output))? {
        admin.remove(&key, Removal::ForGood).await?;
    }
    assert!(!admin.left_behind);
    let devices = world.stack.devices().page(&DeviceFilter::All, None, 10).await?;
    assert!(devices.records.is_empty() && devices.next.is_none());
    let stores = world.stack.stores();
    let secrets = stores.clients().secrets_manager;
    let left = secrets.list_secrets().include_planned_deletion(true).send().await?;
    let names = left.secret_list().iter().filter_map(|secret| secret.name());
    assert_eq!(names.collect::<Vec<_>>(), ["mfa-key-ring"]);
    world.end().await;
    Ok(())
}

/// Signs a user in with the next code.
async fn sign_in(world: &World, user: &str, seed: &Seed) -> Outcome {
    world.advance(Duration::from_mins(2))?;
    let auth_id = world.start_with(user, "my phone").await?;
    let otp = code(world.stack.clock(), seed, 0);
    world.otp(&auth_id, &otp).await?.success(200)?;
    Ok(())
}

#[tokio::test]
async fn users_sign_in_while_seeds_are_moved_rotated_and_sealed_again_and_moved_back() -> Outcome {
    const USERS: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];
    // The store dates the key ring by the machine's clock.
    let world = World::with(WorldOptions {
        running: true,
        ..WorldOptions::default()
    })
    .await?;
    let mut seeds = Vec::new();
    for user in USERS {
        let mut admin = admin(&world, &[0]);
        admin.register(&request(&key(&world, user)?)?).await?;
        seeds.push(seed_in(&admin.terminal.output)?);
    }
    let everyone = async || -> Outcome {
        for (user, seed) in USERS.into_iter().zip(&seeds) {
            sign_in(&world, user, seed).await?;
        }
        Ok(())
    };
    let delay = ClockDelay(Arc::clone(world.stack.clock()));
    let moving = MoveRequest {
        dry_run: false,
        page: 2,
    };
    let resealing = ResealRequest {
        seed_cache: Duration::from_mins(5),
        wait: false,
        dry_run: false,
        page: 2,
    };
    let rotating = RotateRequest {
        seed_cache: Duration::from_mins(5),
        dry_run: false,
    };
    world.advance(Duration::from_mins(2))?;
    let open = world.start_with("alice", "my phone").await?;

    let mut to_sealed = admin(&world, &[]);
    to_sealed.seeds = to_sealed.seeds.keeping(SeedStorage::Sealed);
    to_sealed.move_seeds(&moving, &delay).await?;
    world
        .otp(&open, &code(world.stack.clock(), seeds.first().context("a seed")?, 0))
        .await?
        .expect(409, "AUTH_SUPERSEDED")?;
    everyone().await?;

    let mut ring = admin(&world, &[]);
    let before = ring.seeds.read_key_ring().await?;
    ring.rotate_keys(&rotating).await?;
    let rotated = ring.seeds.read_key_ring().await?;
    let changed = ring.seeds.key_ring_changed_at(&rotated).await?.context("not current")?;
    let ready = changed.plus(Duration::from_mins(6));
    world.advance(Duration::from_secs(ready.seconds_from(world.stack.clock().now())))?;
    let open = world.start_with("bob", "my phone").await?;
    ring.reseal(&resealing, &delay).await?;
    let after = ring.seeds.read_key_ring().await?;
    assert_eq!(after.previous, [before.current]);
    for user in USERS {
        let device = world.device_of(&key(&world, user)?).await?;
        assert_eq!(device.sealed.and_then(|sealed| sealed.key_id()), Some(after.current));
    }
    // It was issued before, with the seed as it was sealed then.
    let bob = seeds.get(1).context("a seed")?;
    let otp = code(world.stack.clock(), bob, 0);
    world.otp(&open, &otp).await?.success(200)?;
    everyone().await?;

    let mut to_secrets = admin(&world, &[]);
    to_secrets.move_seeds(&moving, &delay).await?;
    everyone().await?;
    assert!(!to_sealed.left_behind && !to_secrets.left_behind);
    world.end().await;
    Ok(())
}

const ROTATING: RotateRequest = RotateRequest {
    seed_cache: Duration::ZERO,
    dry_run: false,
};

#[tokio::test]
async fn a_rotation_survives_lost_answers_and_nothing_is_current_before_the_swap() -> Outcome {
    let world = World::new().await?;
    let proxy = StoreProxy::start(world.stack.stores().secrets_manager_url()).await?;
    let direct = admin(&world, &[]);
    let mut before = direct.seeds.read_key_ring().await?;
    for call in ["GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage"] {
        for fault in [Fault::Close, Fault::CloseAfter, Fault::Throttle, Fault::ErrorAfter] {
            proxy.set(call, Rule::First(fault));
            let mut admin = admin_through(&world, &proxy.url(), &[]);
            admin.rotate_keys(&ROTATING).await?;
            let after = direct.seeds.read_key_ring().await?;
            let others: Vec<_> = [before.current].into_iter().chain(before.previous).collect();
            assert_eq!(after.previous, others, "{fault:?} of {call}");
            before = after;
        }
    }
    world.end().await;
    Ok(())
}

/// More of them than a secret may have labels.
#[tokio::test]
async fn rotations_that_are_cut_short_leave_one_label_and_of_their_late_swaps_one_takes_effect() -> Outcome {
    const ROTATIONS: usize = 25;
    let world = World::new().await?;
    let proxy = StoreProxy::start(world.stack.stores().secrets_manager_url()).await?;
    let direct = admin(&world, &[]);
    let before = direct.seeds.read_key_ring().await?;
    proxy.set("UpdateSecretVersionStage", Rule::Always(Fault::Error));
    for _ in 0..ROTATIONS {
        let mut admin = admin_through(&world, &proxy.url(), &[]);
        assert!(admin.rotate_keys(&ROTATING).await.is_err());
    }
    // A new text is stored, but not the current one.
    assert_eq!(direct.seeds.read_key_ring().await?, before);
    let puts = proxy.take_exchanges().into_iter();
    let texts = puts.filter(|call| call.operation == "PutSecretValue").map(|call| {
        let sent = call.sent_json()?;
        assert_eq!(sent["VersionStages"], json!(["rotation"]));
        Ok(sent["ClientRequestToken"].as_str().context("no version")?.to_owned())
    });
    let texts: BTreeSet<String> = texts.collect::<Result<_>>()?;
    assert_eq!(texts.len(), ROTATIONS);

    let stores = world.stack.stores();
    let clients = Clients::new(
        Endpoints::local(stores.dynamodb_url(), stores.secrets_manager_url()),
        Limits::OPERATOR,
    );
    let secrets = clients.secrets_manager;
    let described = secrets.describe_secret().secret_id("mfa-key-ring").send().await?;
    let labels = described.version_ids_to_stages.into_iter().flatten();
    let mut labels: Vec<String> = labels.flat_map(|(_, labels)| labels).collect();
    labels.sort();
    assert_eq!(labels, ["AWSCURRENT", "rotation"]);
    // They were held up on the way.
    let mut swapped = 0;
    for text in texts {
        let swap = secrets.update_secret_version_stage().secret_id("mfa-key-ring");
        let swap = swap.version_stage("AWSCURRENT").remove_from_version_id(&before.version);
        swapped += usize::from(swap.move_to_version_id(text).send().await.is_ok());
    }
    let after = direct.seeds.read_key_ring().await?;
    assert_eq!((swapped, after.previous), (1, vec![before.current]));
    proxy.set("UpdateSecretVersionStage", Rule::First(Fault::CloseAfter));
    admin_through(&world, &proxy.url(), &[]).rotate_keys(&ROTATING).await?;
    assert_eq!(
        direct.seeds.read_key_ring().await?.previous,
        [after.current, before.current]
    );
    world.end().await;
    Ok(())
}

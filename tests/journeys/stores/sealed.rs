//! Sealed seeds: what an authentication calls, what a lost or old key ring does, and that resealing and moving beside
//! sign-ins loses no device and accepts nothing twice.

use std::collections::BTreeMap;
use std::time::Duration;

use acceptance::{Answer, Outcome, StoreProxy, World, WorldOptions};
use anyhow::{Context as _, Result, ensure};
use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use local::{KEY_RING, Registered};
use serde_json::{Value, json};
use shared::aws::sdk::{Clients, Endpoints, Limits};
use shared::aws::sealing::KeyRing;
use shared::aws::seeds::SecretsManagerSeeds;
use shared::config::{self, ValidateOtpConfig};
use shared::device::{Device, DeviceRecord};
use shared::names::{AuthId, SealedId, SeedRef};
use shared::otp::OtpParameters;
use shared::ports::Written;
use shared::ports::operator::DeviceInventory as _;
use shared::ports::registry::{DeviceRegistry as _, SeedRegistry as _};
use shared::random::SystemRandom;
use shared::registration::StoredSeed;
use shared::telemetry::StdoutLog;
use shared::testing::events::Event;
use validate_otp::ValidateOtp;

use super::budget::{ONE_WRITE_UNIT, item_size};

async fn sealed_world() -> Result<World> {
    let settings = BTreeMap::from([(config::SEED_STORAGE.to_owned(), "sealed".to_owned())]);
    World::with(WorldOptions {
        proxies: true,
        settings,
        ..WorldOptions::default()
    })
    .await
}

fn calls(world: &World) -> Vec<String> {
    let calls = world.take_calls().into_iter();
    calls.map(|(call, count)| format!("{call} ×{count}")).collect()
}

async fn ring_text(world: &World) -> Result<String> {
    let get = world.store_clients().secrets_manager.get_secret_value();
    let found = get.secret_id(KEY_RING).send().await?;
    found.secret_string.context("the key ring has no text")
}

async fn write_ring(world: &World, text: &str) -> Outcome {
    let put = world.store_clients().secrets_manager.put_secret_value();
    put.secret_id(KEY_RING).secret_string(text).send().await?;
    Ok(())
}

/// Adds a key, as a rotation does.
async fn rotate(world: &World, key: char) -> Outcome {
    let ring: Value = serde_json::from_str(&ring_text(world).await?)?;
    let former = ring.get("previous").and_then(Value::as_array).context("no list")?;
    let previous: Vec<_> = ring.get("current").into_iter().chain(former).collect();
    let current = key.to_string().repeat(64);
    write_ring(
        world,
        &json!({ "format": 1, "previous": previous, "current": current }).to_string(),
    )
    .await
}

/// The seeds as an operator reaches them, with the key ring as it is now.
fn seeds(world: &World) -> SecretsManagerSeeds<std::sync::Arc<local::LocalClock>> {
    let (client, clock) = (world.store_clients().secrets_manager, world.stack.clock());
    SecretsManagerSeeds::new(&client, clock.clone(), Duration::ZERO, Some(KEY_RING.to_owned()))
}

/// Seals a device's seed again, under the current key.
async fn reseal(world: &World, device: &Registered) -> Result<Written> {
    let record = world
        .stack
        .devices()
        .record(&device.key)
        .await?
        .context("the device is gone")?;
    let SeedRef::Sealed(id) = record.device.seed_ref else {
        return Ok(Written::NotPending);
    };
    let sealed = Some(seeds(world).seal(&device.key, id, &device.seed).await?);
    let new = DeviceRecord {
        device: Device {
            sealed,
            ..record.device.clone()
        },
        ..record.clone()
    };
    Ok(world.stack.devices().reseal(&record, &new).await?)
}

#[tokio::test]
async fn step_3_with_a_sealed_seed_makes_two_calls_whether_the_function_is_cold_or_warm() -> Outcome {
    let world = sealed_world().await?;
    let proxies: Vec<String> = world.proxies().map(StoreProxy::url).collect();
    let [dynamodb, secrets_manager] = proxies.as_slice() else {
        anyhow::bail!("there are no proxies")
    };
    // A new function, which starts as on Lambda.
    let clients = Clients::new(Endpoints::local(dynamodb, secrets_manager), Limits::REQUEST);
    let settings = ValidateOtpConfig::read(world.stack.environment())?;
    let function = ValidateOtp::on_aws(
        &settings,
        &clients,
        world.stack.clock().clone(),
        SystemRandom,
        StdoutLog,
    );
    let auth_id = AuthId::parse(&world.start().await?).context("no authId")?;
    let _ = calls(&world);
    function.warm_up().await;
    let mut warm_up = calls(&world);
    warm_up.sort();
    assert_eq!(
        warm_up,
        ["GetItem Auths ×1", "GetSecretValue ×1"],
        "the ring is its warm-up call"
    );
    for (code, status) in [(world.wrong_code()?, 422), (world.code(0), 200)] {
        let event = Event::validate_otp(world.client().as_str(), &auth_id).otp(&code);
        assert_eq!(function.handle(event.payload()).await.status(), status);
        let twice = if status == 200 { 2 } else { 1 };
        let update = format!("UpdateItem Devices ×{twice}");
        assert_eq!(
            calls(&world),
            ["GetItem Auths ×1".to_owned(), update],
            "the snapshot is stale the second time"
        );
    }
    world.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sign_ins_succeed_while_secrets_manager_is_down_past_the_time_of_the_ring() -> Outcome {
    let mut world = sealed_world().await?;
    let names: Vec<String> = (0..50).map(|number| format!("phone {number}")).collect();
    let devices = try_join_all(names.iter().map(|name| world.register("alice", name))).await?;
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world.advance(Duration::from_mins(20))?;
    world.secrets_manager.as_mut().context("no proxy")?.stop().await?;
    let sign_in = async |device: &Registered| {
        let auth_id = world.start_with("alice", device.key.device.as_str()).await?;
        world.otp(&auth_id, &world.code_of(device, 0)).await?.success(200)
    };
    // At once, but not so many that the machine is what is tested.
    let sign_ins = iter(devices.iter().map(sign_in)).buffer_unordered(8);
    sign_ins.try_collect::<Vec<()>>().await?;
    // An hour later, nothing opens, and nothing is a verdict.
    world.advance(Duration::from_hours(2))?;
    world.renew_token()?;
    let device = devices.first().context("no device")?;
    let auth_id = world.start_with("alice", device.key.device.as_str()).await?;
    let refused = world.otp(&auth_id, &world.code_of(device, 0)).await?;
    refused.expect(503, "SERVICE_UNAVAILABLE")?;
    world.secrets_manager.as_mut().context("no proxy")?.start_again()?;
    world.otp(&auth_id, &world.code_of(device, 0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_function_with_a_ring_one_version_old_opens_what_the_next_key_sealed() -> Outcome {
    let world = sealed_world().await?;
    world.start_and_send(&world.code(0)).await?.success(200)?;
    rotate(&world, 'b').await?;
    world.advance(Duration::from_secs(30))?;
    assert_eq!(reseal(&world, world.stack.demo()).await?, Written::Yes);
    let auth_id = world.start().await?;
    let _ = calls(&world);
    world.otp(&auth_id, &world.code(0)).await?.success(200)?;
    assert!(
        calls(&world).contains(&"GetSecretValue ×1".to_owned()),
        "the ring was read at once"
    );

    // A flood of seeds under a key that no ring has makes one read in ten seconds.
    let mut held = world.device().await?;
    let foreign = KeyRing::parse(&json!({ "format": 1, "previous": [], "current": "x".repeat(64) }).to_string())?;
    let SeedRef::Sealed(id) = held.seed_ref else {
        anyhow::bail!("the seed is in a secret")
    };
    let key = &world.stack.demo().key;
    held.sealed = Some(foreign.seal(key, id, &world.stack.demo().seed)?);
    let record = world.stack.devices().record(key).await?.context("no device")?;
    let new = DeviceRecord {
        device: held,
        ..record.clone()
    };
    assert_eq!(world.stack.devices().reseal(&record, &new).await?, Written::Yes);
    world.advance(Duration::from_secs(30))?;
    let auth_id = world.start().await?;
    let _ = calls(&world);
    for _ in 0..20 {
        let answer = world.otp(&auth_id, &world.code(0)).await?;
        answer.expect(503, "SERVICE_UNAVAILABLE")?;
    }
    let reads = calls(&world)
        .into_iter()
        .find(|call| call.starts_with("GetSecretValue"));
    assert_eq!(reads.as_deref(), Some("GetSecretValue ×1"));
    assert_eq!(world.device().await?.total_failures, 0, "no verdict");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_ring_that_is_missing_cut_empty_or_of_a_later_format_gives_no_verdict_and_registers_nothing() -> Outcome {
    let world = sealed_world().await?;
    let whole = ring_text(&world).await?;
    let cut = whole.get(..whole.len() - 1).context("an empty ring")?.to_owned();
    let later = whole.replace("\"format\":1", "\"format\":2");
    let auth_id = world.start().await?;
    for text in [cut, "-".to_owned(), later] {
        write_ring(&world, &text).await?;
        world.stack.cold_start()?;
        let answer = world.otp(&auth_id, &world.code(0)).await?;
        answer.expect(503, "SERVICE_UNAVAILABLE")?;
        register(&world, "another").await?.expect(503, "SERVICE_UNAVAILABLE")?;
    }
    let delete = world
        .store_clients()
        .secrets_manager
        .delete_secret()
        .secret_id(KEY_RING);
    delete.send().await?;
    world.stack.cold_start()?;
    world
        .otp(&auth_id, &world.code(0))
        .await?
        .expect(503, "SERVICE_UNAVAILABLE")?;
    let restore = world
        .store_clients()
        .secrets_manager
        .restore_secret()
        .secret_id(KEY_RING);
    restore.send().await?;
    write_ring(&world, &whole).await?;
    world.otp(&auth_id, &world.code(0)).await?.success(200)?;
    for line in world.stack.log_lines() {
        let keys: Value = serde_json::from_str(&whole)?;
        ensure!(
            !line.contains(keys["current"].as_str().context("no key")?),
            "a key in the log"
        );
    }
    world.end().await;
    Ok(())
}

async fn register(world: &World, device: &str) -> Result<Answer> {
    let request = world.request(reqwest::Method::POST, "/users/alice/mfadevices");
    let body = json!({ "deviceType": "TOTP", "deviceName": device });
    world.send(request.bearer_auth(world.token()).json(&body)).await
}

#[tokio::test]
async fn a_pending_sealed_seed_fits_into_one_write_unit_too() -> Outcome {
    let world = sealed_world().await?;
    let (user, device) = ("u".repeat(32), "d".repeat(32));
    let key = local::device_key(world.client(), &user, &device)?;
    let seed = shared::otp::Seed::from_bytes(&[7; 32], OtpParameters::default())?;
    let registered = world.stack.register(&key, seed, shared::device::Status::Active).await?;
    for _ in 0..3 {
        let auth_id = world.start_with(&user, &device).await?;
        world
            .otp(&auth_id, &world.code_of(&registered, 0))
            .await?
            .success(200)?;
        world.advance(Duration::from_secs(30))?;
    }
    let held = world.device_of(&key).await?;
    let id = SealedId::from_random_bytes([9; 16]);
    let pending = shared::device::PendingSeed {
        seed_ref: SeedRef::Sealed(id),
        sealed: Some(seeds(&world).seal(&key, id, &registered.seed).await?),
        until: shared::clock::Timestamp::from_secs(1_900_000_000),
    };
    let offered = world.stack.devices().set_pending_seed(&key, &held, &pending).await?;
    assert_eq!((offered, held.accepted.len()), (Written::Yes, 3));
    let auth_id = world.start_with(&user, &device).await?;
    let get = world.store_clients().dynamodb.get_item().table_name("Auths");
    let auth = get.key("pk", AttributeValue::S(auth_id)).send().await?.item;
    let auth: BTreeMap<_, _> = auth.context("no auth")?.into_iter().collect();
    for (what, item) in [("device", world.item_of(&key).await?), ("auth", auth)] {
        let bytes = item_size(&item);
        assert!((600..=ONE_WRITE_UNIT).contains(&bytes), "{what}: {bytes} bytes");
    }
    world.end().await;
    Ok(())
}

/// The written form of a sealed seed is none to a release that knows secrets only: it looked for this separator.
#[tokio::test]
async fn a_release_that_knows_secrets_only_cannot_mistake_a_sealed_seed_for_one() -> Outcome {
    let world = sealed_world().await?;
    let item = world.item_of(&world.stack.demo().key).await?;
    let seed_ref = item.get("seedRef").and_then(|value| value.as_s().ok());
    assert!(seed_ref.is_some_and(|text| text.starts_with("sealed/") && !text.contains('#')));
    // The other half of an item that such a release could write: a blob beside a secret is no verdict either.
    let client = world.store_clients().dynamodb;
    let demo = &world.stack.demo().key;
    let pk = format!("{}#{}", demo.owner.as_str(), demo.user.as_str());
    let update = client
        .update_item()
        .table_name("Devices")
        .key("pk", AttributeValue::S(pk));
    let update = update.key("sk", AttributeValue::S(demo.device.as_str().to_owned()));
    let secret = AttributeValue::S("mfa/seed/00#1".to_owned());
    let auth_id = world.start().await?;
    let update = update.update_expression("SET seedRef = :secret");
    update.expression_attribute_values(":secret", secret).send().await?;
    world.try_start().await?.expect(503, "SERVICE_UNAVAILABLE")?;
    world
        .otp(&auth_id, &world.code(0))
        .await?
        .expect(503, "SERVICE_UNAVAILABLE")?;
    world.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resealing_and_moving_beside_fifty_sign_ins_loses_no_device_and_accepts_nothing_twice() -> Outcome {
    let world = sealed_world().await?;
    let mut devices = Vec::new();
    for number in 0..10 {
        devices.push(world.register("alice", &format!("phone {number}")).await?);
    }
    for (round, key) in ['c', 'd', 'e'].into_iter().enumerate() {
        rotate(&world, key).await?;
        world.advance(Duration::from_secs(30))?;
        // Five sign-ins with one code at each device, and beside them a reseal and, in one round, a move.
        let sign_in = async |device: &Registered| {
            let started = world.try_start_with("alice", device.key.device.as_str()).await?;
            if started.status != 201 {
                return Ok::<_, anyhow::Error>(started);
            }
            let auth_id = started.member("authId").as_str().unwrap_or_default().to_owned();
            world.otp(&auth_id, &world.code_of(device, 0)).await
        };
        let operate = async |device: &Registered| {
            for _ in 0..3 {
                reseal(&world, device).await?;
            }
            if round == 1 {
                move_seed(&world, device).await?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let sign_ins = join_all(
            devices
                .iter()
                .flat_map(|device| (0..5).map(move |_| device))
                .map(sign_in),
        );
        let (answers, operated) = tokio::join!(sign_ins, join_all(devices.iter().map(operate)));
        for outcome in operated {
            outcome?;
        }
        for (number, answers) in answers.chunks(5).enumerate() {
            let mut accepted = 0;
            for answer in answers {
                let answer = answer.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
                let known = matches!(answer.status, 200 | 409 | 422 | 503);
                ensure!(known, "{} {}", answer.status, answer.text);
                accepted += usize::from(answer.status == 200);
            }
            ensure!(accepted <= 1, "device {number} accepted a code {accepted} times");
        }
        // Each device still signs in with its next code.
        world.advance(Duration::from_secs(30))?;
        for device in &devices {
            let auth_id = world.start_with("alice", device.key.device.as_str()).await?;
            let answer = world.otp(&auth_id, &world.code_of(device, 0)).await?;
            answer.success(200).with_context(|| format!("round {round}"))?;
        }
    }
    world.end().await;
    Ok(())
}

/// Moves a seed to the other kind, as `mfactl seeds move` does, until no one writes in between.
async fn move_seed(world: &World, device: &Registered) -> Outcome {
    let (devices, seeds) = (world.stack.devices(), seeds(world));
    for number in 0..20_u8 {
        let record = devices.record(&device.key).await?.context("the device is gone")?;
        let new = match record.device.seed_ref {
            SeedRef::Secret(_) => return Ok(()),
            SeedRef::Sealed(id) => {
                let name = shared::names::seed_name("mfa", [number ^ id.as_bytes()[0]; 16]);
                let name = format!("{name}{}", device.key.device.as_str().replace(' ', ""));
                let secret = seeds.create(&name, &device.seed).await?;
                StoredSeed {
                    seed_ref: SeedRef::Secret(secret),
                    sealed: None,
                }
            }
        };
        if devices.move_seed(&record, &new).await? == Written::Yes {
            return Ok(());
        }
    }
    anyhow::bail!("others wrote first each time")
}

//! Registration over stores in memory: every answer, every fault, every race.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use futures_util::future::join_all;
use lambda_http::http::HeaderMap;
use serde_json::{Value, json};
use shared::config;
use shared::device::Device;
use shared::names::{DeviceName, Owner, SeedRef};
use shared::otp::{Algorithm, Digits, OtpParameters, Period, Step};
use shared::sealed::SeedStorage;
use shared::testing::clock::ManualClock;
use shared::testing::events::Event;
use shared::testing::log::MemoryLog;
use shared::testing::memory::{Fault, MemoryActivations, MemoryDevices, MemorySeeds, Op};
use shared::testing::random::SequenceRandom;

use super::*;

type Outcome = Result<(), Box<dyn Error>>;
type Function =
    ManageDevices<MemoryActivations, MemoryDevices, MemorySeeds, Arc<ManualClock>, SequenceRandom, MemoryLog>;

const CLIENT: &str = "client-one";
const USER: &str = "demouser";
const NOW: Timestamp = Timestamp::from_secs(1_795_575_600);
const EVERY_FAULT: [Fault; 6] = [
    Fault::Before,
    Fault::After,
    Fault::Throttled,
    Fault::LostThenRepeated,
    Fault::Hang,
    Fault::HangAfter,
];

struct World {
    activations: MemoryActivations,
    devices: MemoryDevices,
    seeds: MemorySeeds,
    clock: Arc<ManualClock>,
    log: MemoryLog,
    function: Function,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    body: String,
    headers: HeaderMap,
}

impl Answer {
    fn member(&self, name: &str) -> Value {
        let body = serde_json::from_str::<Value>(&self.body).unwrap_or_default();
        body.get(name).cloned().unwrap_or_default()
    }

    fn text(&self, name: &str) -> String {
        self.member(name).as_str().unwrap_or_default().to_owned()
    }

    fn outcome(&self) -> (u16, String) {
        (self.status, self.text("code"))
    }

    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    /// The seed that the answer to a registration shows.
    fn seed(&self) -> Result<Seed, Box<dyn Error>> {
        Ok(Seed::from_base32(&self.text("secret"), OtpParameters::default())?)
    }
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn every_storage<T: Copy, const N: usize>(others: [T; N]) -> impl Iterator<Item = (SeedStorage, T)> {
    let each = move |storage| others.into_iter().map(move |other| (storage, other));
    SeedStorage::ALL.into_iter().flat_map(each)
}

fn settings(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
    let base = [
        (config::AUTHS_TABLE, "auths"),
        (config::DEVICES_TABLE, "devices"),
        (config::DEVICE_HASH_KEY, "0123456789abcdef"),
        (config::SEED_PREFIX, "mfa"),
        (config::KEY_RING, "mfa-key-ring"),
        (config::ISSUER, "Example Bank"),
    ];
    let all = base.iter().chain(changes);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

impl World {
    fn new() -> Result<Self, Box<dyn Error>> {
        Self::with(&[])
    }

    fn with(changes: &[(&str, &str)]) -> Result<Self, Box<dyn Error>> {
        let (activations, devices, seeds) = Default::default();
        let (clock, log) = (Arc::new(ManualClock::at(NOW)), MemoryLog::default());
        let config = ManageDevicesConfig::read(&settings(changes))?;
        let seeds: MemorySeeds = seeds;
        seeds.keep(config.seed_storage);
        let function = ManageDevices::new(
            MemoryActivations::clone(&activations),
            MemoryDevices::clone(&devices),
            seeds.clone(),
            &config,
            Arc::clone(&clock),
            SequenceRandom::from_start(1),
            log.clone(),
        );
        Ok(Self {
            activations,
            devices,
            seeds,
            clock,
            log,
            function,
        })
    }

    fn keeping(storage: SeedStorage) -> Result<Self, Box<dyn Error>> {
        Self::with(&[(config::SEED_STORAGE, storage.as_str())])
    }

    async fn send(&self, event: &Event) -> Result<Answer, Box<dyn Error>> {
        let (parts, body) = self.function.handle(event.payload()).await.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            body: String::from_utf8(body.to_vec())?,
            headers: parts.headers,
        })
    }

    async fn register(&self, device: &str) -> Result<Answer, Box<dyn Error>> {
        self.send(&Event::register_device(CLIENT, USER).device(device)).await
    }

    async fn replace(&self) -> Result<Answer, Box<dyn Error>> {
        self.send(&Event::register_device(CLIENT, USER).member("replace", true))
            .await
    }

    async fn activate(&self, registered: &Answer, steps: i64) -> Result<Answer, Box<dyn Error>> {
        let step = Step::at(self.clock.now(), Period::Thirty)
            .0
            .saturating_add_signed(steps);
        let code = registered.seed()?.code(Step(step));
        self.activate_with(registered, code.reveal()).await
    }

    async fn activate_with(&self, registered: &Answer, code: &str) -> Result<Answer, Box<dyn Error>> {
        let event = Event::activate_device(CLIENT, USER, &registered.text("authId"));
        self.send(&event.otp(code)).await
    }

    /// A fault that the call before did not meet costs a second try.
    async fn activate_after_fault(&self, registered: &Answer) -> Result<Answer, Box<dyn Error>> {
        tokio::time::pause();
        let answer = self.activate(registered, 0).await?;
        tokio::time::resume();
        if answer.status == 503 {
            self.activate(registered, 0).await
        } else {
            Ok(answer)
        }
    }

    async fn active(&self, device: &str) -> Result<Answer, Box<dyn Error>> {
        let registered = self.register(device).await?;
        assert_eq!(self.activate(&registered, 0).await?.status, 200);
        Ok(registered)
    }

    async fn remove(&self, device: &str) -> Result<Answer, Box<dyn Error>> {
        self.send(&Event::remove_device(CLIENT, USER, device)).await
    }

    fn key(device: &str) -> Result<DeviceKey, Box<dyn Error>> {
        Ok(DeviceKey {
            owner: Owner::parse(CLIENT)?,
            user: UserName::parse(USER)?,
            device: DeviceName::parse(device)?,
        })
    }

    fn device(&self, device: &str) -> Result<Device, Box<dyn Error>> {
        self.devices.peek(&Self::key(device)?).ok_or_else(|| "no device".into())
    }

    fn change(&self, change: impl FnOnce(&mut Device)) -> Outcome {
        let mut device = self.device("mydevice")?;
        change(&mut device);
        self.devices.put(&Self::key("mydevice")?, &device);
        Ok(())
    }

    fn reasons(&self) -> Vec<String> {
        self.log
            .lines()
            .into_iter()
            .map(|line| line.reason.to_owned())
            .collect()
    }

    /// Every device has the seeds that it names.
    fn require_seeds(&self) -> Outcome {
        for record in self.devices.all() {
            for seed in record.seeds() {
                if !self.seeds.has_for(&record.key, seed, record.sealed(seed)) {
                    return Err("a device names a seed that does not exist".into());
                }
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_device_is_registered_activated_replaced_listed_and_removed() -> Outcome {
    let world = World::new()?;
    let registered = world.register("my phone").await?;
    assert_eq!(registered.status, 201);
    let (auth_id, secret) = (registered.text("authId"), registered.text("secret"));
    let uri = format!(
        "otpauth://totp/Example%20Bank:demouser%20%28my%20phone%29?secret={secret}&issuer=Example%20Bank&algorithm=SHA1&digits=6&period=30"
    );
    let message = "Scan registrationUri with an authenticator app, then activate the device with its first OTP";
    assert_eq!(
        registered.body,
        format!(
            r#"{{"authId":"{auth_id}","deviceType":"TOTP","status":"ACTIVATION_REQUIRED","message":"{message}","deviceName":"my phone","secret":"{secret}","registrationUri":"{uri}"}}"#
        )
    );
    let path = format!("/v1/users/{USER}/mfadevices/{auth_id}");
    assert_eq!(registered.header("location"), path);
    assert_eq!(
        registered.header("auth-expires-at"),
        NOW.plus(Duration::from_mins(10)).rfc3339()
    );

    world.activate_with(&registered, "000000").await.map(|answer| {
        assert_eq!(answer.outcome(), code(422, "OTP_REJECTED"));
        assert_eq!(
            (answer.member("codesRequired"), answer.member("attemptsRemaining")),
            (json!(1), json!(4))
        );
    })?;
    let activated = world.activate(&registered, 0).await?;
    assert_eq!(
        (activated.status, activated.body.as_str()),
        (200, r#"{"status":"ACTIVE","message":"my phone"}"#)
    );
    assert_eq!(
        world.device("my phone")?.last_step,
        Step::at(NOW, Period::Thirty),
        "its code is used up"
    );

    let list = world
        .send(&Event::list_devices(CLIENT, USER).query("type", "totp"))
        .await?;
    let at = NOW.rfc3339();
    assert_eq!(
        list.body,
        format!(
            r#"[{{"deviceType":"TOTP","status":"ACTIVE","deviceName":"my phone","createdAt":"{at}","lastUsedAt":"{at}"}}]"#
        )
    );
    let removed = world.remove("my%20phone").await?;
    assert_eq!(
        (removed.status, removed.body.as_str(), removed.header("content-type")),
        (204, "", "")
    );
    assert_eq!(removed.header("cache-control"), "no-store");
    assert_eq!(
        world.remove("my%20phone").await?.outcome(),
        code(404, "DEVICE_NOT_FOUND")
    );
    assert_eq!(world.send(&Event::list_devices(CLIENT, USER)).await?.body, "[]");
    assert_eq!(world.seeds.count(), 0);
    assert_eq!(
        world.reasons(),
        [
            "registered",
            "wrong_code",
            "activated",
            "listed",
            "removed",
            "no_device",
            "listed"
        ]
    );
    Ok(())
}

#[tokio::test]
async fn the_old_seed_works_until_the_first_code_of_the_new_one_and_the_limits_go_on() -> Outcome {
    let world = World::new()?;
    let first = world.active("mydevice").await?;
    world.change(|device| device.total_failures = 7)?;
    let old = world.device("mydevice")?;
    let second = world.replace().await?;
    assert_eq!(second.status, 201);
    let waiting = world.device("mydevice")?;
    assert_eq!((waiting.status, &waiting.seed_ref), (Status::Active, &old.seed_ref));
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(world.activate(&second, 0).await?.status, 200);
    let new = world.device("mydevice")?;
    assert_ne!(new.seed_ref, old.seed_ref);
    assert_eq!((new.total_failures, new.status), (7, Status::Active));
    assert!(!world.seeds.has(&old.seed_ref), "the former seed is removed");
    world.require_seeds()?;
    // The first registration's authId still names the first seed.
    assert_eq!(world.activate(&first, 0).await?.outcome(), code(409, "AUTH_SUPERSEDED"));
    assert_eq!(
        world.reasons(),
        [
            "registered",
            "activated",
            "replacement_registered",
            "replaced",
            "superseded"
        ]
    );
    Ok(())
}

#[tokio::test]
async fn an_active_device_is_never_overwritten_by_a_start() -> Outcome {
    let world = World::new()?;
    world.active("mydevice").await?;
    let (device, seeds) = (world.device("mydevice")?, world.seeds.count());
    assert_eq!(world.register("mydevice").await?.outcome(), code(409, "DEVICE_EXISTS"));
    world.change(|device| device.status = Status::Disabled)?;
    for answer in [
        world.register("mydevice").await?,
        world.replace().await?,
        world.remove("mydevice").await?,
    ] {
        assert_eq!(answer.outcome(), code(423, "DEVICE_DISABLED"));
    }
    assert_eq!(world.device("mydevice")?.seed_ref, device.seed_ref);
    assert_eq!(
        (world.seeds.count(), world.activations.all_calls()),
        (seeds, 2),
        "nothing was stored"
    );
    Ok(())
}

#[tokio::test]
async fn registering_again_supersedes_what_was_not_activated() -> Outcome {
    let world = World::new()?;
    let first = world.register("mydevice").await?;
    let second = world.register("mydevice").await?;
    assert_eq!((first.status, second.status, world.seeds.count()), (201, 201, 1));
    assert_eq!(world.activate(&first, 0).await?.outcome(), code(409, "AUTH_SUPERSEDED"));
    assert_eq!(world.activate(&second, 0).await?.status, 200);
    // And so does a second replacement.
    let third = world.replace().await?;
    let fourth = world.replace().await?;
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(world.activate(&third, 0).await?.outcome(), code(409, "AUTH_SUPERSEDED"));
    assert_eq!(world.activate(&fourth, 0).await?.status, 200);
    assert_eq!(world.seeds.count(), 1);
    Ok(())
}

#[tokio::test]
async fn an_activation_that_is_repeated_evaluates_no_code() -> Outcome {
    let world = World::new()?;
    let registered = world.register("mydevice").await?;
    let all = join_all((0..30).map(|_| world.activate(&registered, 0))).await;
    for answer in all {
        assert_eq!(answer?.status, 200);
    }
    let device = world.device("mydevice")?;
    assert_eq!((device.total_failures, device.accepted.len()), (0, 1));
    // Whatever the code is.
    assert_eq!(world.activate_with(&registered, "000000").await?.status, 200);
    assert_eq!(world.device("mydevice")?, device);
    world.clock.advance(Duration::from_secs(30));
    let replacement = world.replace().await?;
    for answer in join_all((0..30).map(|_| world.activate(&replacement, 0))).await {
        assert_eq!(answer?.status, 200);
    }
    assert_eq!(world.device("mydevice")?.total_failures, 0);
    world.require_seeds()
}

#[tokio::test]
async fn a_double_click_at_the_limit_is_no_device_too_many() -> Outcome {
    let world = World::with(&[(config::DEVICES_PER_USER, "1")])?;
    let registered = world.register("mydevice").await?;
    for answer in join_all((0..30).map(|_| world.activate(&registered, 0))).await {
        assert_eq!(answer?.status, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_seed_that_is_gone_is_a_503_unless_its_device_is_too() -> Outcome {
    let world = World::new()?;
    let registered = world.register("mydevice").await?;
    let seed = world.device("mydevice")?.seed_ref;
    SeedRegistry::remove(&world.seeds, seed.secret().ok_or("no secret")?).await?;
    let answer = world.activate(&registered, 0).await?;
    assert_eq!(answer.outcome(), code(503, "SERVICE_UNAVAILABLE"));
    assert_eq!(world.reasons().last().map(String::as_str), Some("seed_unavailable"));
    // Someone registers it again, or removes it, between both reads of the device.
    let key = World::key("mydevice")?;
    let again = Device {
        version: 1,
        seed_ref: SeedRef::new("mfa/seed/again", "v")?,
        ..world.device("mydevice")?
    };
    for (changed, outcome) in [(Some(again), (409, "AUTH_SUPERSEDED")), (None, (404, "AUTH_NOT_FOUND"))] {
        let before = world.device("mydevice")?;
        let (devices, held) = (world.devices.clone(), key.clone());
        let reads = std::sync::atomic::AtomicUsize::new(0);
        world.devices.before_each(move |op| {
            let second = op == Op::Record && reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1;
            match &changed {
                Some(changed) if second => devices.put(&held, changed),
                None if second => devices.take(&held),
                _ => {}
            }
        });
        assert_eq!(
            world.activate(&registered, 0).await?.outcome(),
            code(outcome.0, outcome.1)
        );
        world.devices.before_each(|_| ());
        world.devices.put(&key, &before);
    }
    Ok(())
}

#[tokio::test]
async fn of_fifty_registrations_of_a_name_exactly_one_can_be_activated() -> Outcome {
    let world = World::new()?;
    let all = join_all((0..50).map(|_| world.register("mydevice"))).await;
    let all = all.into_iter().collect::<Result<Vec<_>, _>>()?;
    let good: Vec<_> = all.iter().filter(|answer| answer.status == 201).collect();
    assert!(!good.is_empty());
    for answer in &all {
        assert!(matches!(answer.status, 201 | 503), "{answer:?}");
    }
    let (mut activated, mut superseded) = (0, 0);
    for registered in good {
        match world.activate(registered, 0).await?.outcome() {
            (200, _) => activated += 1,
            (409, code) if code == "AUTH_SUPERSEDED" => superseded += 1,
            other => return Err(format!("{other:?}").into()),
        }
    }
    assert_eq!(activated, 1, "{superseded} were superseded");
    world.require_seeds()?;
    assert_eq!(world.seeds.count(), 1, "no seed is left behind");
    Ok(())
}

#[tokio::test]
async fn an_activation_is_limited_like_a_sign_in() -> Outcome {
    let world = World::new()?;
    let registered = world.register("mydevice").await?;
    for left in (0..5).rev() {
        let answer = world.activate_with(&registered, "000000").await?;
        assert_eq!(
            (answer.outcome(), answer.member("attemptsRemaining")),
            (code(422, "OTP_REJECTED"), json!(left))
        );
    }
    assert_eq!(
        world.activate(&registered, 0).await?.outcome(),
        code(409, "AUTH_ATTEMPTS_EXHAUSTED")
    );
    // Registering again does not open the gate of single codes.
    let again = world.register("mydevice").await?;
    let gated = world.activate(&again, 0).await?;
    assert_eq!(gated.outcome(), code(422, "TWO_CODES_REQUIRED"));
    assert_eq!(world.seeds.calls(Op::Read), 5, "a gate that refuses reads no seed");
    let step = Step::at(world.clock.now(), Period::Thirty);
    let seed = again.seed()?;
    let (now, next) = (seed.code(step), seed.code(step.next()));
    let event = Event::activate_device(CLIENT, USER, &again.text("authId"));
    let pair = world.send(&event.otps(now.reveal(), next.reveal())).await?;
    assert_eq!(pair.status, 200);
    assert_eq!(world.device("mydevice")?.last_step, step.next());
    Ok(())
}

#[tokio::test]
async fn a_phone_that_is_behind_is_told_so_and_nothing_else_is_told() -> Outcome {
    let period: i64 = 30;
    for (steps, told) in [
        (-1_680, Some(-1_680 * period)),
        (-1_681, None),
        (-100, Some(-100 * period)),
        (-3, Some(-3 * period)),
        (-2, None),
        (2, None),
        (3, None),
        (120, None),
        (1_680, None),
    ] {
        let world = World::new()?;
        let registered = world.register("mydevice").await?;
        let answer = world.activate(&registered, steps).await?;
        assert_eq!(answer.outcome(), code(422, "OTP_REJECTED"), "{steps}");
        assert_eq!(answer.member("clockOffSeconds").as_i64(), told, "{steps}");
    }
    let world = World::new()?;
    let registered = world.register("mydevice").await?;
    let seed = registered.seed()?;
    let step = Step::at(NOW, Period::Thirty).0;
    let (earlier, later) = (seed.code(Step(step - 10)), seed.code(Step(step - 9)));
    let event = Event::activate_device(CLIENT, USER, &registered.text("authId"));
    let pair = world.send(&event.otps(earlier.reveal(), later.reveal())).await?;
    assert_eq!((pair.status, pair.member("clockOffSeconds")), (422, Value::Null));
    Ok(())
}

#[tokio::test]
async fn an_auth_id_belongs_to_its_user_and_client_and_expires() -> Outcome {
    let world = World::new()?;
    let registered = world.register("mydevice").await?;
    let auth_id = registered.text("authId");
    for event in [
        Event::activate_device(CLIENT, "other", &auth_id),
        Event::activate_device("client-two", USER, &auth_id),
        Event::activate_device(CLIENT, USER, "none"),
        Event::activate_device(CLIENT, USER, "0063f27c-787b-4046-8b8e-a75e241b5ea6"),
    ] {
        assert_eq!(
            world.send(&event.otp("123456")).await?.outcome(),
            code(404, "AUTH_NOT_FOUND")
        );
    }
    assert_eq!(world.device("mydevice")?.total_failures, 0);
    world.clock.advance(Duration::from_mins(10));
    assert_eq!(
        world.activate(&registered, 0).await?.outcome(),
        code(410, "AUTH_EXPIRED")
    );
    // Another client has devices of its own.
    assert_eq!(world.send(&Event::list_devices("client-two", USER)).await?.body, "[]");
    let foreign = Event::remove_device("client-two", USER, "mydevice");
    assert_eq!(world.send(&foreign).await?.outcome(), code(404, "DEVICE_NOT_FOUND"));
    Ok(())
}

#[tokio::test]
async fn a_user_has_ten_devices_and_abandoned_registrations_give_way() -> Outcome {
    let world = World::new()?;
    let mut registered = Vec::new();
    for number in 0..5 {
        registered.push(world.register(&format!("abandoned {number}")).await?);
        world.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(world.register("further").await?.status, 201);
    assert!(world.device("abandoned 0").is_err(), "the oldest gave way");
    assert_eq!((world.devices.count(), world.seeds.count()), (5, 5));
    // One that is registered again is not the oldest any more, and needs no room.
    assert_eq!(world.register("abandoned 1").await?.status, 201);
    assert_eq!(world.devices.count(), 5);
    world.clock.advance(Duration::from_secs(1));
    world.register("one more").await?;
    assert!(world.device("abandoned 1").is_ok() && world.device("abandoned 2").is_err());

    for number in 0..10 {
        world.clock.advance(Duration::from_secs(30));
        world.active(&format!("device {number}")).await?;
    }
    let last = world.register("device 10").await?;
    assert_eq!(last.outcome(), code(409, "TOO_MANY_DEVICES"));
    // What was registered before the limit was reached is not activated beyond it.
    let waiting = world.devices.all().into_iter();
    let waiting = waiting
        .filter(|record| record.device.status == Status::ActivationRequired)
        .count();
    assert!(waiting > 0);
    world.clock.advance(Duration::from_secs(30));
    let replaced = Event::register_device(CLIENT, USER)
        .device("device 3")
        .member("replace", true);
    assert_eq!(world.send(&replaced).await?.status, 201, "a replacement needs no room");
    world.require_seeds()
}

#[tokio::test]
async fn an_activation_checks_the_limit_again() -> Outcome {
    let world = World::with(&[(config::DEVICES_PER_USER, "1")])?;
    let first = world.register("first").await?;
    let second = world.register("second").await?;
    assert_eq!(world.activate(&first, 0).await?.status, 200);
    assert_eq!(
        world.activate(&second, 0).await?.outcome(),
        code(409, "TOO_MANY_DEVICES")
    );
    assert_eq!(world.register("third").await?.outcome(), code(409, "TOO_MANY_DEVICES"));
    assert_eq!(world.remove("first").await?.status, 204);
    world.clock.advance(Duration::from_secs(30));
    assert_eq!(world.activate(&second, 0).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn what_an_operator_registered_does_not_give_way() -> Outcome {
    let world = World::with(&[(config::UNFINISHED_PER_USER, "1")])?;
    let seed = SeedRef::new("mfa/seed/operator", "v")?;
    let device = Device::registered(1, Status::ActivationRequired, seed, OtpParameters::default());
    world.devices.put(&World::key("phone")?, &device);
    assert_eq!(world.register("tablet").await?.outcome(), code(409, "TOO_MANY_DEVICES"));
    assert_eq!((world.device("phone")?, world.seeds.count()), (device, 0));
    Ok(())
}

#[tokio::test]
async fn a_failed_registration_leaves_no_device_without_its_seed_and_no_active_one_without_work() -> Outcome {
    for (storage, replaces) in every_storage([false, true]) {
        for fault in EVERY_FAULT {
            for (op, at_activations) in [
                (Op::Page, false),
                (Op::Record, false),
                (Op::Create, false),
                (Op::Create, true),
                (Op::Seal, false),
                (Op::Register, false),
                (Op::Reseed, false),
                (Op::SetPendingSeed, false),
                (Op::Remove, false),
            ] {
                let world = World::keeping(storage)?;
                if replaces {
                    world.active("mydevice").await?;
                } else {
                    // So that there is something to re-seed.
                    world.register("mydevice").await?;
                }
                let before = world.device("mydevice")?;
                if at_activations {
                    world.activations.inject(op, fault);
                } else {
                    world.devices.inject(op, fault);
                    world.seeds.inject(op, fault);
                }
                tokio::time::pause();
                let answer = if replaces {
                    world.replace().await?
                } else {
                    world.register("mydevice").await?
                };
                tokio::time::resume();
                let what = format!("{storage:?} {op:?} {at_activations} {fault:?} {replaces}: {answer:?}");
                assert!(matches!(answer.status, 201 | 503), "{what}");
                world.require_seeds().map_err(|error| format!("{what}: {error}"))?;
                let after = world.device("mydevice")?;
                if replaces {
                    assert_eq!(
                        (after.status, &after.seed_ref),
                        (Status::Active, &before.seed_ref),
                        "{what}"
                    );
                }
                if answer.status == 201 {
                    world.clock.advance(Duration::from_secs(30));
                    assert_eq!(world.activate_after_fault(&answer).await?.status, 200, "{what}");
                }
                // What is left behind can be repeated, and is not named by any device.
                world.clock.advance(Duration::from_secs(30));
                tokio::time::pause();
                let mut again = world.replace().await?;
                if again.status == 503 {
                    again = world.replace().await?;
                }
                tokio::time::resume();
                assert_eq!(again.status, 201, "{what}");
                world.clock.advance(Duration::from_secs(30));
                assert_eq!(world.activate_after_fault(&again).await?.status, 200, "{what}");
                world.require_seeds()?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_failed_activation_is_a_503_and_can_be_repeated() -> Outcome {
    for (storage, replaces) in every_storage([false, true]) {
        for fault in EVERY_FAULT {
            for op in [Op::Get, Op::Record, Op::Read, Op::Replace, Op::Remove, Op::Page] {
                let world = World::keeping(storage)?;
                let mut registered = world.register("mydevice").await?;
                if replaces {
                    world.activate(&registered, 0).await?;
                    world.clock.advance(Duration::from_secs(30));
                    registered = world.replace().await?;
                }
                world.activations.inject(op, fault);
                world.devices.inject(op, fault);
                world.seeds.inject(op, fault);
                tokio::time::pause();
                let answer = world.activate(&registered, 0).await?;
                tokio::time::resume();
                let what = format!("{storage:?} {op:?} {fault:?} {replaces}: {answer:?}");
                assert!(matches!(answer.status, 200 | 503), "{what}");
                assert_eq!(world.activate(&registered, 0).await?.status, 200, "{what}");
                assert_eq!(world.device("mydevice")?.total_failures, 0, "{what}");
                world.require_seeds().map_err(|error| format!("{what}: {error}"))?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_item_that_cannot_be_read_is_a_503_for_its_user_until_an_operator_removes_it() -> Outcome {
    let world = World::new()?;
    world.active("broken").await?;
    world.active("phone").await?;
    let waiting = world.register("tablet").await?;
    world.devices.make_unreadable(&World::key("broken")?);
    let (devices, seeds) = (world.devices.all().len(), world.seeds.count());
    for answer in [
        world.register("further").await?,
        world.send(&Event::list_devices(CLIENT, USER)).await?,
        world.activate(&waiting, 0).await?,
        world.remove("broken").await?,
    ] {
        assert_eq!(answer.outcome(), code(503, "SERVICE_UNAVAILABLE"));
    }
    assert_eq!((world.devices.count(), world.seeds.count()), (devices, seeds));
    // It is not read for these.
    assert_eq!(world.remove("phone").await?.status, 204);
    let other = Event::register_device(CLIENT, "other");
    assert_eq!(world.send(&other).await?.status, 201);
    world.devices.take(&World::key("broken")?);
    assert_eq!(world.activate(&waiting, 0).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_removal_never_hits_what_was_registered_since() -> Outcome {
    let world = World::new()?;
    world.active("mydevice").await?;
    // The removal took effect, its answer was lost, and the name was registered again before it is repeated.
    let (devices, key) = (world.devices.clone(), World::key("mydevice")?);
    let successor = Device::registered(
        1,
        Status::Active,
        SeedRef::new("mfa/seed/successor", "v")?,
        OtpParameters::default(),
    );
    let late = successor.clone();
    world.devices.before_each(move |op| {
        if op == Op::Remove {
            devices.put(&key, &late);
        }
    });
    assert_eq!(world.remove("mydevice").await?.status, 204);
    assert_eq!(world.device("mydevice")?, successor);
    Ok(())
}

#[tokio::test]
async fn a_removal_goes_on_with_a_seed_that_was_activated_in_between() -> Outcome {
    let world = World::new()?;
    world.active("mydevice").await?;
    let before = world.device("mydevice")?;
    let swapped = Device {
        version: before.version + 1,
        seed_ref: SeedRef::new("mfa/seed/swapped", "v")?,
        ..before
    };
    let (devices, key) = (world.devices.clone(), World::key("mydevice")?);
    let (created, once) = (
        world.devices.created_at(&key),
        std::sync::atomic::AtomicBool::new(false),
    );
    assert_eq!(created, Some(NOW));
    // The swap keeps the record: the device is the same registration.
    let held = world.device("mydevice")?;
    world.devices.before_each(move |op| {
        if op == Op::Remove && !once.swap(true, std::sync::atomic::Ordering::Relaxed) {
            devices.swap_seed(&key, &held, &swapped);
        }
    });
    assert_eq!(world.remove("mydevice").await?.status, 204);
    assert!(world.device("mydevice").is_err());
    Ok(())
}

#[tokio::test]
async fn removing_seeds_that_hang_does_not_change_the_answer() -> Outcome {
    let world = World::new()?;
    world.active("mydevice").await?;
    world.clock.advance(Duration::from_secs(30));
    let registered = world.replace().await?;
    world.seeds.inject(Op::Remove, Fault::Hang);
    tokio::time::pause();
    let started = Instant::now();
    assert_eq!(world.activate(&registered, 0).await?.status, 200);
    assert!(started.elapsed() < Duration::from_millis(2_500));
    Ok(())
}

#[tokio::test]
async fn bad_input_is_refused_and_names_what_to_fix() -> Outcome {
    let world = World::new()?;
    let register = || Event::register_device(CLIENT, USER);
    for (event, names) in [
        (register().without("deviceName"), "deviceName"),
        (register().device(" x"), "deviceName"),
        (register().device(".."), "deviceName"),
        (register().without("deviceType"), "deviceType"),
        (register().device_type("SMS"), "deviceType"),
        (register().member("issuer", "a:b"), "issuer"),
        (register().member("issuer", 1), "issuer"),
        (register().member("algorithm", "MD5"), "algorithm"),
        (register().member("digits", 7), "digits"),
        (register().member("digits", "6"), "digits"),
        (register().member("period", 45), "period"),
        (register().member("replace", "yes"), "replace"),
        (register().member("replace", Value::Null), "replace"),
        (register().no_body(), "body"),
        (Event::register_device(CLIENT, "%c3%28"), "userName"),
        (Event::register_device(CLIENT, ".."), "userName"),
        (Event::list_devices(CLIENT, "%00"), "userName"),
        (Event::list_devices(CLIENT, USER).query("type", "SMS"), "type"),
        (Event::remove_device(CLIENT, USER, "%2e%2e"), "deviceName"),
        (Event::activate_device(CLIENT, USER, "x"), "otp"),
        (Event::activate_device(CLIENT, USER, "x").member("otp", 123_456), "otp"),
    ] {
        let answer = world.send(&event).await?;
        assert_eq!(answer.outcome(), code(400, "INVALID_REQUEST"), "{names}");
        assert!(answer.text("message").contains(names), "{answer:?}");
    }
    let unknown = Event::list_devices(CLIENT, USER).method("PATCH");
    assert_eq!(world.send(&unknown).await?.outcome(), code(404, "NOT_FOUND"));
    for event in [
        register(),
        Event::list_devices(CLIENT, USER),
        Event::remove_device(CLIENT, USER, "x"),
    ] {
        let scope = event.clone().scope("mfa/authenticate");
        assert_eq!(world.send(&scope).await?.outcome(), code(403, "FORBIDDEN"));
        assert_eq!(
            world.send(&event.without_authorizer()).await?.outcome(),
            code(401, "UNAUTHORIZED")
        );
    }
    assert_eq!((world.devices.all_calls(), world.seeds.all_calls()), (0, 0));
    Ok(())
}

#[tokio::test]
async fn parameters_of_a_registration_are_used() -> Outcome {
    let world = World::new()?;
    let event = Event::register_device(CLIENT, USER)
        .member("issuer", "Shop")
        .member("algorithm", "SHA256")
        .member("digits", 8)
        .member("period", 60);
    let answer = world.send(&event).await?;
    let uri = answer.text("registrationUri");
    assert!(
        uri.ends_with("&issuer=Shop&algorithm=SHA256&digits=8&period=60"),
        "{uri}"
    );
    let parameters = OtpParameters {
        algorithm: Algorithm::Sha256,
        digits: Digits::Eight,
        period: Period::Sixty,
    };
    assert_eq!(world.device("mydevice")?.parameters, parameters);
    let seed = Seed::from_base32(&answer.text("secret"), parameters)?;
    let code = seed.code(Step::at(NOW, Period::Sixty));
    assert_eq!(world.activate_with(&answer, code.reveal()).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn the_wait_after_a_replayed_first_code_is_that_of_the_new_period() -> Outcome {
    let world = World::new()?;
    world.active("mydevice").await?;
    world.clock.advance(Duration::from_secs(10));
    let event = Event::register_device(CLIENT, USER)
        .member("replace", true)
        .member("period", 60);
    let registered = world.send(&event).await?;
    let parameters = OtpParameters {
        period: Period::Sixty,
        ..OtpParameters::default()
    };
    let seed = Seed::from_base32(&registered.text("secret"), parameters)?;
    let code_now = seed.code(Step::at(NOW, Period::Sixty));
    let answer = world.activate_with(&registered, code_now.reveal()).await?;
    assert_eq!(
        (answer.outcome(), answer.member("retryAfterSeconds")),
        (code(422, "OTP_REPLAYED"), json!(50))
    );
    Ok(())
}

#[tokio::test]
async fn a_seed_with_other_parameters_than_were_registered_activates_nothing() -> Outcome {
    let world = World::new()?;
    let registered = world.register("mydevice").await?;
    let id = AuthId::parse(&registered.text("authId")).ok_or("no authId")?;
    let mut activation = world.activations.get(id).await?.ok_or("no activation")?;
    activation.seed.parameters.period = Period::Sixty;
    world.activations.put(&activation);
    let answer = world.activate(&registered, 0).await?;
    assert_eq!(answer.outcome(), code(503, "SERVICE_UNAVAILABLE"));
    assert_eq!(world.reasons().last().map(String::as_str), Some("seed_unavailable"));
    assert_eq!(world.device("mydevice")?.status, Status::ActivationRequired);
    Ok(())
}

#[tokio::test]
async fn many_abandoned_registrations_of_before_the_limit_do_not_block_a_user() -> Outcome {
    let world = World::new()?;
    for number in 0..5_000 {
        let seed = SeedRef::new(&format!("mfa/seed/{number}"), "v")?;
        let device = Device::registered(number, Status::ActivationRequired, seed, OtpParameters::default());
        let registration = shared::device::Registration {
            created_at: NOW,
            by: RegisteredBy::Http,
            activate_by: Some(NOW),
        };
        let key = World::key(&format!("abandoned {number}"))?;
        world.devices.register(&key, &device, &registration).await?;
    }
    assert_eq!(world.register("mydevice").await?.status, 201);
    assert_eq!(
        world.devices.count(),
        4_996,
        "several give way, so that they come to an end"
    );
    let list = world.send(&Event::list_devices(CLIENT, USER)).await?;
    assert_eq!(list.status, 200);
    Ok(())
}

#[test]
fn more_devices_than_the_policy_allows_for_are_refused_at_start() {
    let read = |changes: &[(&str, &str)]| ManageDevicesConfig::read(&settings(changes)).map(|_| ());
    assert!(read(&[]).is_ok());
    let error = read(&[(config::DEVICES_PER_USER, "12")])
        .err()
        .map(|error| error.to_string());
    assert!(error.is_some_and(|error| error.contains("DEVICES_PER_USER")));
    assert!(read(&[(config::DEVICES_PER_USER, "50"), (config::GUESS_POLICY, "strict")]).is_ok());
}

#[tokio::test]
async fn nothing_secret_is_logged_or_shown_by_debug() -> Outcome {
    let world = World::new()?;
    let registered = world.register("mydevice").await?;
    let log = format!("{:?}", world.log.lines());
    let (secret, uri) = (registered.text("secret"), registered.text("registrationUri"));
    assert!(!secret.is_empty() && !log.contains(&secret) && !log.contains("otpauth"));
    let success = Success::json(
        StatusCode::CREATED,
        &json!({ "secret": secret, "uri": uri }),
        "registered",
    );
    let debug = format!("{success:?} {:?}", world.function);
    assert!(!debug.contains(&secret) && !debug.contains("otpauth"), "{debug}");
    Ok(())
}

#[tokio::test]
async fn a_sealed_seed_lies_beside_its_device_and_in_no_secret() -> Outcome {
    let world = World::keeping(SeedStorage::Sealed)?;
    let registered = world.active("mydevice").await?;
    let first = world.device("mydevice")?;
    assert!(first.seed_ref.secret().is_none() && first.sealed.is_some());
    world.clock.advance(Duration::from_secs(30));
    let replacement = world.replace().await?;
    let record = world.devices.peek_record(&World::key("mydevice")?).ok_or("no device")?;
    let pending = record.pending.clone().ok_or("nothing is pending")?;
    assert_eq!(
        record.device.sealed, first.sealed,
        "the device keeps its own until then"
    );
    assert_eq!(world.activate(&replacement, 0).await?.status, 200);
    assert_eq!(world.activate(&registered, 0).await?.status, 409);
    let second = world.device("mydevice")?;
    assert_eq!((second.sealed, second.seed_ref), (pending.sealed, pending.seed_ref));
    assert_eq!(world.remove("mydevice").await?.status, 204);
    assert_eq!(
        (
            world.seeds.count(),
            world.seeds.calls(Op::Create),
            world.seeds.calls(Op::Remove)
        ),
        (0, 0, 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_device_changes_from_one_kind_of_seed_to_the_other() -> Outcome {
    for kinds in [
        [SeedStorage::Secrets, SeedStorage::Sealed],
        [SeedStorage::Sealed, SeedStorage::Secrets],
    ] {
        let world = World::new()?;
        let [before, after] = kinds;
        world.seeds.keep(before);
        world.active("mydevice").await?;
        world.seeds.keep(after);
        world.clock.advance(Duration::from_secs(30));
        let replacement = world.replace().await?;
        assert_eq!(world.activate(&replacement, 0).await?.status, 200, "{kinds:?}");
        let device = world.device("mydevice")?;
        assert_eq!(device.sealed.is_some(), after == SeedStorage::Sealed, "{kinds:?}");
        assert_eq!(
            world.seeds.count(),
            usize::from(after == SeedStorage::Secrets),
            "{kinds:?}"
        );
        world.require_seeds()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_seed_that_was_sealed_again_since_the_device_was_read_is_activated() -> Outcome {
    for lost_for_good in [false, true] {
        let world = World::keeping(SeedStorage::Sealed)?;
        let registered = world.register("mydevice").await?;
        let (device, key) = (world.device("mydevice")?, World::key("mydevice")?);
        let old = device.sealed.clone().ok_or("the seed is not sealed")?;
        let SeedRef::Sealed(id) = device.seed_ref else {
            return Err("the seed is in a secret".into());
        };
        let again = world.seeds.put_sealed(&key, id, &registered.seed()?)?;
        // The key ring of this instance has the newer key only.
        world.seeds.lose(&old);
        let (devices, reads) = (world.devices.clone(), std::sync::atomic::AtomicUsize::new(0));
        world.devices.before_each(move |op| {
            if op == Op::Record && reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 && !lost_for_good {
                let sealed = Some(again.clone());
                devices.put(
                    &key,
                    &Device {
                        sealed,
                        ..device.clone()
                    },
                );
            }
        });
        let answer = world.activate(&registered, 0).await?;
        let expected = if lost_for_good { 503 } else { 200 };
        assert_eq!(answer.status, expected, "{answer:?}");
    }
    Ok(())
}

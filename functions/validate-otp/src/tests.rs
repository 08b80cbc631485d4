//! Step 3 over stores in memory: every answer, every fault, every way in which two requests meet.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::Value;
use shared::config;
use shared::device::Status;
use shared::names::{DeviceKey, DeviceName, Owner, SealedId, SeedRef, UserName};
use shared::otp::{OtpParameters, Step};
use shared::sealed::SealedSeed;
use shared::telemetry::Level;
use shared::testing::clock::ManualClock;
use shared::testing::events::Event;
use shared::testing::log::MemoryLog;
use shared::testing::memory::{Fault, MemoryAuths, MemoryDevices, MemorySeeds, Op};
use shared::testing::random::SequenceRandom;

use super::*;

type Outcome = Result<(), Box<dyn Error>>;
type Memory = ValidateOtp<MemoryAuths, MemoryDevices, MemorySeeds, Arc<ManualClock>, SequenceRandom, MemoryLog>;

const CLIENT: &str = "client-one";
/// The beginning of a step.
const NOW: Timestamp = Timestamp::from_millis(1_795_575_600_000);

struct World {
    auths: MemoryAuths,
    devices: MemoryDevices,
    seeds: MemorySeeds,
    clock: Arc<ManualClock>,
    log: MemoryLog,
    key: DeviceKey,
    seed: Seed,
    endpoint: Memory,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
    text: String,
    retry_after: Option<String>,
}

impl Answer {
    fn code(&self) -> &str {
        self.body.get("code").and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.body.get(name).and_then(Value::as_u64)
    }

    fn is(&self, status: u16, code: &str) -> bool {
        (self.status, self.code()) == (status, code)
    }
}

impl World {
    fn new() -> Result<Self, Box<dyn Error>> {
        Self::with_policy("standard")
    }

    fn with_policy(policy: &str) -> Result<Self, Box<dyn Error>> {
        let key = DeviceKey {
            owner: Owner::parse(CLIENT)?,
            user: UserName::parse("demouser")?,
            device: DeviceName::parse("mydevice")?,
        };
        let seed = Seed::from_bytes(b"12345678901234567890", OtpParameters::default())?;
        let (auths, devices, seeds) = (MemoryAuths::default(), MemoryDevices::default(), MemorySeeds::default());
        devices.put(&key, &fresh(seeds.put("mfa/seed/one", &seed)?));
        let settings: BTreeMap<String, String> = [
            (config::AUTHS_TABLE, "auths"),
            (config::DEVICES_TABLE, "devices"),
            (config::SEED_PREFIX, "mfa"),
            (config::KEY_RING, "mfa-key-ring"),
            (config::DEVICE_HASH_KEY, "0123456789abcdef"),
            (config::GUESS_POLICY, policy),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let config = ValidateOtpConfig::read(&settings)?;
        let (clock, log) = (Arc::new(ManualClock::at(NOW)), MemoryLog::default());
        let endpoint = ValidateOtp::new(
            auths.clone(),
            devices.clone(),
            seeds.clone(),
            &config,
            Arc::clone(&clock),
            SequenceRandom::from_start(1),
            log.clone(),
        );
        Ok(Self {
            auths,
            devices,
            seeds,
            clock,
            log,
            key,
            seed,
            endpoint,
        })
    }

    /// Step 2: an authId with a snapshot of the device as it is now.
    fn start(&self, number: u8) -> Result<AuthId, Box<dyn Error>> {
        let id = AuthId::from_random_bytes([number; 16]);
        let issued_at = self.clock.now();
        let auth = Auth {
            id,
            key: self.key.clone(),
            issued_at,
            expires_at: issued_at.plus(Duration::from_mins(5)),
            device: self.device()?,
        };
        self.auths.put(&auth);
        Ok(id)
    }

    fn device(&self) -> Result<Device, Box<dyn Error>> {
        Ok(self.devices.peek(&self.key).ok_or("the device is gone")?)
    }

    fn change(&self, change: impl FnOnce(&mut Device)) -> Outcome {
        let mut device = self.device()?;
        change(&mut device);
        device.version += 1;
        self.devices.put(&self.key, &device);
        Ok(())
    }

    /// The code of the step that is `ahead` of the one now.
    fn code(&self, ahead: i64) -> String {
        let now = Step::at(self.clock.now(), OtpParameters::default().period);
        self.seed
            .code(Step(now.0.saturating_add_signed(ahead)))
            .reveal()
            .to_owned()
    }

    /// A code that no step near the present has.
    fn wrong_code(&self) -> Result<String, Box<dyn Error>> {
        let near: Vec<String> = (-5..=5).map(|ahead| self.code(ahead)).collect();
        let mut codes = (0..100).map(|number| format!("{number:06}"));
        Ok(codes.find(|code| !near.contains(code)).ok_or("no wrong code")?)
    }

    async fn send(&self, event: &Event) -> Result<Answer, Box<dyn Error>> {
        let response = self.endpoint.handle(event.payload()).await;
        let retry_after = response
            .headers()
            .get("retry-after")
            .map(|value| value.to_str().map(str::to_owned));
        let text = String::from_utf8(response.body().to_vec())?;
        Ok(Answer {
            status: response.status().as_u16(),
            body: serde_json::from_str(&text)?,
            text,
            retry_after: retry_after.transpose()?,
        })
    }

    async fn otp(&self, id: AuthId, code: &str) -> Result<Answer, Box<dyn Error>> {
        self.send(&Event::validate_otp(CLIENT, &id).otp(code)).await
    }

    async fn otps(&self, id: AuthId, earlier: &str, later: &str) -> Result<Answer, Box<dyn Error>> {
        self.send(&Event::validate_otp(CLIENT, &id).otps(earlier, later)).await
    }

    fn last_level(&self) -> Option<Level> {
        self.log.lines().pop().map(|line| line.level)
    }

    fn calls(&self) -> [usize; 3] {
        [self.auths.all_calls(), self.devices.all_calls(), self.seeds.all_calls()]
    }
}

fn fresh(seed_ref: SeedRef) -> Device {
    Device::registered(7, Status::Active, seed_ref, OtpParameters::default())
}

#[tokio::test]
async fn a_right_code_is_accepted_with_exactly_the_documented_answer() -> Outcome {
    let world = World::new()?;
    let answer = world.otp(world.start(1)?, &world.code(0)).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.text,
        "{\"status\":\"SUCCESS\",\"message\":\"OTP has been validated successfully\"}"
    );
    assert_eq!(world.devices.last_used_at(&world.key), Some(NOW));
    Ok(())
}

#[tokio::test]
async fn a_pair_is_accepted_at_any_time_and_uses_both_its_steps() -> Outcome {
    let world = World::new()?;
    assert_eq!(
        world
            .otps(world.start(1)?, &world.code(0), &world.code(1))
            .await?
            .status,
        200
    );
    assert!(
        world
            .otp(world.start(2)?, &world.code(1))
            .await?
            .is(422, "OTP_REPLAYED")
    );
    Ok(())
}

#[tokio::test]
async fn a_code_cannot_be_used_twice_however_it_is_written() -> Outcome {
    let world = World::new()?;
    let code = world.code(0);
    let (first, last) = code.split_at(3);
    let open_before = world.start(9)?;
    assert_eq!(world.otp(world.start(1)?, &code).await?.status, 200);
    assert!(world.otp(open_before, &code).await?.is(422, "OTP_REPLAYED"));
    for (number, again) in [
        format!("{first} {last}"),
        format!("{first}-{last}"),
        format!(" {code} "),
    ]
    .iter()
    .enumerate()
    {
        let answer = world.otp(world.start(u8::try_from(number)? + 2)?, again).await?;
        assert!(answer.is(422, "OTP_REPLAYED"), "{answer:?}");
        assert_eq!(
            (answer.number("retryAfterSeconds"), answer.number("codesRequired")),
            (Some(30), Some(1))
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_older_code_of_the_window_is_a_replay_after_the_newer_one() -> Outcome {
    let world = World::new()?;
    assert_eq!(world.otp(world.start(1)?, &world.code(0)).await?.status, 200);
    assert!(
        world
            .otp(world.start(2)?, &world.code(-1))
            .await?
            .is(422, "OTP_REPLAYED")
    );
    Ok(())
}

#[tokio::test]
async fn an_auth_succeeds_once() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    assert_eq!(world.otp(id, &world.code(0)).await?.status, 200);
    let (before, calls) = (world.device()?, world.calls());
    assert!(world.otp(id, &world.code(1)).await?.is(409, "AUTH_ALREADY_USED"));
    assert_eq!(world.device()?, before);
    assert_eq!(
        world.calls(),
        [calls[0] + 1, calls[1] + 1, calls[2] + 1],
        "one refused write"
    );
    Ok(())
}

#[tokio::test]
async fn five_wrong_codes_close_single_codes_but_not_pairs() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    let wrong = world.wrong_code()?;
    for left in (0..5).rev() {
        let answer = world.otp(id, &wrong).await?;
        assert!(answer.is(422, "OTP_REJECTED"), "{answer:?}");
        assert_eq!(answer.number("attemptsRemaining"), Some(left));
        assert_eq!(answer.number("codesRequired"), Some(if left == 0 { 2 } else { 1 }));
    }
    assert!(world.otp(id, &world.code(0)).await?.is(409, "AUTH_ATTEMPTS_EXHAUSTED"));
    let next = world.start(2)?;
    let before = world.device()?;
    let gated = world.otp(next, &world.code(0)).await?;
    assert!(gated.is(422, "TWO_CODES_REQUIRED"), "{gated:?}");
    assert_eq!(
        (gated.number("codesRequired"), gated.number("singleCodesAfterSeconds")),
        (Some(2), Some(30))
    );
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(
        world.otp(next, &world.code(0)).await?.number("singleCodesAfterSeconds"),
        Some(20)
    );
    assert_eq!(
        world.device()?,
        before,
        "the right single code was neither evaluated nor consumed"
    );
    assert_eq!(world.otps(next, &world.code(0), &world.code(1)).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_gated_attempt_makes_one_call_on_a_fresh_snapshot_and_one_refused_write_on_a_stale_one() -> Outcome {
    let world = World::new()?;
    let stale = world.start(1)?;
    world.change(|device| device.not_before = NOW.plus(Duration::from_mins(1)))?;
    let fresh = world.start(2)?;
    let before = world.device()?;
    assert!(world.otp(fresh, &world.code(0)).await?.is(422, "TWO_CODES_REQUIRED"));
    assert_eq!(world.calls(), [1, 0, 0]);
    assert!(world.otp(stale, &world.code(0)).await?.is(422, "TWO_CODES_REQUIRED"));
    assert_eq!(world.calls(), [2, 1, 1]);
    assert_eq!(world.device()?, before);
    Ok(())
}

#[tokio::test]
async fn after_a_hundred_wrong_codes_only_two_codes_open_single_codes_again() -> Outcome {
    let world = World::new()?;
    world.change(|device| device.consecutive_failures = Policy::MOST_CONSECUTIVE)?;
    let id = world.start(1)?;
    let gated = world.otp(id, &world.code(0)).await?;
    assert!(gated.is(422, "TWO_CODES_REQUIRED"));
    assert_eq!(
        gated.number("singleCodesAfterSeconds"),
        None,
        "time alone does not open them"
    );
    assert_eq!(world.otps(id, &world.code(0), &world.code(1)).await?.status, 200);
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(world.otp(world.start(2)?, &world.code(0)).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn wrong_pairs_are_slowed_down_and_tell_nothing_about_a_half() -> Outcome {
    let world = World::new()?;
    let wrong = world.wrong_code()?;
    let id = world.start(1)?;
    let (now, next) = (world.code(0), world.code(1));
    let mut texts = Vec::new();
    for (earlier, later) in [(&now, &wrong), (&wrong, &next), (&wrong, &wrong), (&next, &now)] {
        let answer = world.otps(id, earlier, later).await?;
        assert!(answer.is(422, "OTP_REJECTED"));
        texts.push(answer.text);
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    for _ in 4..10 {
        assert!(world.otps(id, &wrong, &wrong).await?.is(422, "OTP_REJECTED"));
    }
    let before = world.device()?;
    let refused = world.otps(world.start(2)?, &now, &next).await?;
    assert!(refused.is(429, "TOO_MANY_ATTEMPTS"), "{refused:?}");
    assert_eq!(
        (refused.retry_after.as_deref(), refused.number("retryAfterSeconds")),
        (Some("1"), Some(1))
    );
    assert_eq!(world.device()?, before);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.otps(world.start(3)?, &now, &next).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn unknown_malformed_and_foreign_auths_are_indistinguishable() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    let code = world.code(0);
    let before = world.device()?;
    let foreign = world.send(&Event::validate_otp("client-two", &id).otp(&code)).await?;
    let unknown = world.otp(AuthId::from_random_bytes([99; 16]), &code).await?;
    let malformed = world.send(&Event::validate_otp(CLIENT, "nonsense").otp(&code)).await?;
    assert!(foreign.is(404, "AUTH_NOT_FOUND"), "{foreign:?}");
    assert_eq!((&foreign.text, &foreign.text), (&unknown.text, &malformed.text));
    assert_eq!(
        world.calls(),
        [2, 0, 0],
        "the foreign and the unknown one made the same calls"
    );
    assert_eq!(world.device()?, before);
    assert_eq!(world.otp(id, &code).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn an_auth_expires_at_its_second_although_its_item_is_still_there() -> Outcome {
    let world = World::new()?;
    let (one, two) = (world.start(1)?, world.start(2)?);
    world.clock.set(NOW.plus(Duration::from_millis(299_999)));
    assert_eq!(world.otp(one, &world.code(0)).await?.status, 200);
    world.clock.set(NOW.plus(Duration::from_mins(5)));
    assert!(world.otp(two, &world.code(0)).await?.is(410, "AUTH_EXPIRED"));
    Ok(())
}

#[tokio::test]
async fn bad_input_is_a_400_that_names_what_to_fix_and_is_not_counted() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    let before = world.device()?;
    let event = || Event::validate_otp(CLIENT, &id);
    let six = || Value::from("123456");
    for (event, names) in [
        (event(), "either otp or otps"),
        (event().otp("123456").otps("123456", "123456"), "either otp or otps"),
        (event().member("otp", 123_456), "otp must be a string"),
        (event().member("otp", Value::Null), "otp must be a string"),
        (event().otp("12345"), "6 or 8 digits"),
        (event().otp("1234567"), "6 or 8 digits"),
        (event().otp("123456789"), "6 or 8 digits"),
        (
            event().otp("\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}"),
            "6 or 8 digits",
        ),
        (event().otp("123\u{a0}456"), "6 or 8 digits"),
        (event().otp("12345\n6"), "6 or 8 digits"),
        (event().member("otps", Value::Null), "otps must be an array of two"),
        (
            event().member("otps", Vec::<Value>::new()),
            "otps must be an array of two",
        ),
        (event().member("otps", vec![six()]), "otps must be an array of two"),
        (
            event().member("otps", vec![six(), six(), six()]),
            "otps must be an array of two",
        ),
        (
            event().member("otps", vec![six(), Value::from(123_456)]),
            "otps must be an array of two",
        ),
        (event().otps("123456", "12345"), "otps must be an array of two"),
        (event().member("otps", "123456"), "otps must be an array of two"),
        (event().otp("123456").member("deviceType", "SMS"), "deviceType"),
        (
            event().raw_body("{\"otp\":\"123456\",\"otp\":\"123456\"}"),
            "repeated members",
        ),
    ] {
        let answer = world.send(&event).await?;
        assert!(answer.is(400, "INVALID_REQUEST"), "{answer:?}");
        let message = answer.body.get("message").and_then(Value::as_str).unwrap_or_default();
        assert!(message.contains(names), "{message} says {names}");
    }
    assert_eq!(world.device()?, before);
    assert_eq!(world.calls(), [0, 0, 0]);
    Ok(())
}

#[tokio::test]
async fn a_code_of_another_length_is_a_wrong_code() -> Outcome {
    let world = World::new()?;
    let answer = world.otp(world.start(1)?, &format!("00{}", world.code(0))).await?;
    assert!(answer.is(422, "OTP_REJECTED"));
    assert_eq!(world.device()?.consecutive_failures, 1);
    Ok(())
}

#[tokio::test]
async fn right_wrong_and_replayed_codes_make_the_same_calls() -> Outcome {
    let world = World::new()?;
    let mut calls = Vec::new();
    for (number, code) in [world.code(0), world.wrong_code()?, world.code(0)].iter().enumerate() {
        let id = world.start(u8::try_from(number)?)?;
        let before = world.calls();
        world.otp(id, code).await?;
        calls.push([0, 1, 2].map(|port| world.calls()[port] - before[port]));
    }
    assert_eq!(calls, [[1, 1, 1]; 3]);
    Ok(())
}

#[tokio::test]
async fn one_event_sent_twice_is_counted_twice() -> Outcome {
    let world = World::new()?;
    let event = Event::validate_otp(CLIENT, &world.start(1)?)
        .otp(&world.wrong_code()?)
        .request_id("chosen-by-the-caller");
    for count in 1..=3 {
        assert!(world.send(&event).await?.is(422, "OTP_REJECTED"));
        assert_eq!(world.device()?.total_failures, count);
    }
    Ok(())
}

#[tokio::test]
async fn a_success_whose_response_was_lost_is_reported() -> Outcome {
    let world = World::new()?;
    world.devices.inject(Op::Replace, Fault::LostThenRepeated);
    assert_eq!(world.otp(world.start(1)?, &world.code(0)).await?.status, 200);
    assert_eq!(world.device()?.accepted.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_wrong_code_whose_response_was_lost_is_counted_once() -> Outcome {
    let world = World::new()?;
    world.devices.inject(Op::Replace, Fault::LostThenRepeated);
    let answer = world.otp(world.start(1)?, &world.wrong_code()?).await?;
    assert!(answer.is(422, "OTP_REJECTED"));
    assert_eq!(
        (answer.number("attemptsRemaining"), world.device()?.total_failures),
        (Some(4), 1)
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_hangs_is_a_503_that_counts_nothing() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    let before = world.device()?;
    for fault in [Fault::Before, Fault::Hang] {
        for port in 0..3 {
            match port {
                0 => world.auths.inject(Op::Get, fault),
                1 => world.seeds.inject(Op::Get, fault),
                _ => world.devices.inject(Op::Replace, fault),
            }
            let started = tokio::time::Instant::now();
            let answer = world.otp(id, &world.code(0)).await?;
            assert!(answer.is(503, "SERVICE_UNAVAILABLE"), "{answer:?}");
            assert_eq!(answer.retry_after.as_deref(), Some("1"));
            assert!(started.elapsed() <= Duration::from_secs(3));
            assert_eq!(world.device()?, before, "{fault:?} at port {port}");
        }
    }
    assert_eq!(world.otp(id, &world.code(0)).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_write_that_took_effect_before_its_error_gives_no_verdict() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    world.devices.inject(Op::Replace, Fault::After);
    assert!(world.otp(id, &world.code(0)).await?.is(503, "SERVICE_UNAVAILABLE"));
    assert!(
        world.otp(id, &world.code(0)).await?.is(409, "AUTH_ALREADY_USED"),
        "409 never means signed in"
    );
    Ok(())
}

#[tokio::test]
async fn an_unreadable_seed_is_distinguished_from_a_removed_or_reseeded_device() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    world.seeds.inject(Op::Get, Fault::Before);
    assert!(world.otp(id, &world.code(0)).await?.is(503, "SERVICE_UNAVAILABLE"));
    assert_eq!(
        world.log.lines().pop().map(|line| line.reason),
        Some("seed_unavailable")
    );

    world.change(|device| device.seed_ref = SeedRef::new("mfa/seed/two", "v").unwrap_or(device.seed_ref.clone()))?;
    world.seeds.inject(Op::Get, Fault::Before);
    assert!(world.otp(id, &world.code(0)).await?.is(409, "AUTH_SUPERSEDED"));

    world.devices.take(&world.key);
    world.seeds.inject(Op::Get, Fault::Before);
    assert!(world.otp(id, &world.code(0)).await?.is(404, "AUTH_NOT_FOUND"));
    Ok(())
}

/// Gives the device a sealed seed: the one that it had.
fn seal(world: &World) -> Result<SealedSeed, Box<dyn Error>> {
    let id = SealedId::from_random_bytes([5; 16]);
    let blob = world.seeds.put_sealed(&world.key, id, &world.seed)?;
    world.change(|device| {
        device.seed_ref = SeedRef::Sealed(id);
        device.sealed = Some(blob.clone());
    })?;
    Ok(blob)
}

#[tokio::test]
async fn a_sealed_seed_is_used_from_the_snapshot_and_no_verdict_writes_it() -> Outcome {
    let world = World::new()?;
    let blob = seal(&world)?;
    let id = world.start(1)?;
    // Sealed again since: the old blob opens, and the new one stays.
    let SeedRef::Sealed(seed) = world.device()?.seed_ref else {
        return Err("the seed is in a secret".into());
    };
    let again = world.seeds.put_sealed(&world.key, seed, &world.seed)?;
    let resealed = Device {
        sealed: Some(again.clone()),
        ..world.device()?
    };
    world.devices.put(&world.key, &resealed);
    let wrong = world.otp(id, &world.wrong_code()?).await?;
    assert!(wrong.is(422, "OTP_REJECTED"), "{wrong:?}");
    assert_eq!(world.otp(id, &world.code(0)).await?.status, 200);
    assert_eq!(world.device()?.sealed, Some(again));
    assert_ne!(world.device()?.sealed, Some(blob));
    assert_eq!(world.devices.calls(Op::Get), 0);
    Ok(())
}

#[tokio::test]
async fn a_snapshot_whose_blob_does_not_open_is_followed_by_what_the_device_has_now() -> Outcome {
    let world = World::new()?;
    let old = seal(&world)?;
    let id = world.start(1)?;
    world.seeds.lose(&old);
    let answer = world.otp(id, &world.code(0)).await?;
    assert!(answer.is(503, "SERVICE_UNAVAILABLE"), "{answer:?}");
    assert_eq!(
        world.log.lines().pop().map(|line| line.reason),
        Some("seed_unavailable")
    );
    assert_eq!(world.device()?.total_failures, 0, "no verdict");

    let SeedRef::Sealed(seed) = world.device()?.seed_ref else {
        return Err("the seed is in a secret".into());
    };
    let again = world.seeds.put_sealed(&world.key, seed, &world.seed)?;
    let resealed = Device {
        sealed: Some(again),
        ..world.device()?
    };
    world.devices.put(&world.key, &resealed);
    assert_eq!(world.otp(id, &world.code(0)).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_sealed_seed_of_another_device_or_another_id_gives_no_verdict() -> Outcome {
    let world = World::new()?;
    let blob = seal(&world)?;
    // Whoever can write the table points the device at a blob that is his own, or one of another device.
    let other = DeviceKey {
        user: UserName::parse("attacker")?,
        ..world.key.clone()
    };
    let SeedRef::Sealed(id) = world.device()?.seed_ref else {
        return Err("the seed is in a secret".into());
    };
    let foreign = world.seeds.put_sealed(&other, id, &world.seed)?;
    let other_id = SeedRef::Sealed(SealedId::from_random_bytes([6; 16]));
    for (number, (seed_ref, sealed)) in (1..).zip([(SeedRef::Sealed(id), foreign), (other_id, blob)]) {
        world.change(|device| {
            device.seed_ref = seed_ref;
            device.sealed = Some(sealed);
        })?;
        let answer = world.otp(world.start(number)?, &world.code(0)).await?;
        assert!(answer.is(503, "SERVICE_UNAVAILABLE"), "{answer:?}");
        assert_eq!(
            world.log.lines().pop().map(|line| line.reason),
            Some("seed_unavailable")
        );
    }
    Ok(())
}

#[tokio::test]
async fn another_version_of_the_same_secret_is_another_seed() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    let other = SeedRef::new(
        world.device()?.seed_ref.secret().ok_or("no secret")?.name(),
        "another-version",
    )?;
    world.change(|device| device.seed_ref = other)?;
    world.seeds.inject(Op::Get, Fault::Before);
    let answer = world.otp(id, &world.code(0)).await?;
    assert!(answer.is(409, "AUTH_SUPERSEDED"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_device_that_was_disabled_removed_or_given_a_new_seed_is_refused_at_once() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    world.change(|device| device.status = Status::Disabled)?;
    assert!(world.otp(id, &world.code(0)).await?.is(423, "DEVICE_DISABLED"));

    let (device, other) = (
        world.device()?,
        Seed::from_bytes(b"09876543210987654321", OtpParameters::default())?,
    );
    let again = Device {
        version: device.version,
        ..fresh(world.seeds.put("mfa/seed/two", &other)?)
    };
    world.devices.put(&world.key, &again);
    assert!(world.otp(id, &world.code(0)).await?.is(409, "AUTH_SUPERSEDED"));
    assert_eq!(world.device()?, again);

    world.devices.take(&world.key);
    assert!(world.otp(id, &world.code(0)).await?.is(404, "AUTH_NOT_FOUND"));
    Ok(())
}

#[tokio::test]
async fn thirty_parallel_requests_with_one_code_have_one_success() -> Outcome {
    for same_auth in [false, true] {
        let world = World::new()?;
        let code = world.code(0);
        let ids = (0..30).map(|number| world.start(if same_auth { 0 } else { number }));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let answers = futures_util::future::join_all(ids.iter().map(|id| world.otp(*id, &code))).await;
        let answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        assert_eq!(
            answers.iter().filter(|answer| answer.status == 200).count(),
            1,
            "{answers:?}"
        );
        let wrong = answers.iter().filter(|answer| answer.is(422, "OTP_REPLAYED")).count();
        assert_eq!(
            world.device()?.total_failures,
            u64::try_from(wrong)?,
            "every wrong verdict was counted"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_hundred_parallel_wrong_codes_get_no_more_verdicts_than_the_policy_allows() -> Outcome {
    let world = World::new()?;
    let wrong = world.wrong_code()?;
    let ids = (0..100)
        .map(|number| world.start(number))
        .collect::<Result<Vec<_>, _>>()?;
    let mut rejected = 0;
    // Waves, so that those who lost a race come again.
    for _ in 0..5 {
        let answers = futures_util::future::join_all(ids.iter().map(|id| world.otp(*id, &wrong))).await;
        for answer in answers {
            rejected += u64::from(answer?.is(422, "OTP_REJECTED"));
        }
    }
    assert_eq!(rejected, 5, "then the ladder stands at 30 s");
    assert_eq!(world.device()?.total_failures, rejected);
    Ok(())
}

#[tokio::test]
async fn a_request_reads_the_clock_once_and_logs_neither_code_nor_name() -> Outcome {
    let world = World::new()?;
    let (id, code) = (world.start(1)?, world.code(0));
    let reads = world.clock.reads();
    world.otp(id, &code).await?;
    assert_eq!(world.clock.reads(), reads + 1);
    let lines = world.log.lines();
    let [line] = lines.as_slice() else {
        return Err("not one line".into());
    };
    assert_eq!(
        (line.function, line.outcome, line.reason),
        ("validate-otp", "SUCCESS", "single_code")
    );
    assert_eq!(line.device.as_ref().map(String::len), Some(16));
    let printed = world.log.printed();
    for secret in [code.as_str(), "demouser", "mydevice", &id.to_string()] {
        assert!(!printed.contains(secret), "{printed}");
    }
    Ok(())
}

#[tokio::test]
async fn an_attempt_is_decided_three_times_and_then_given_up_uncounted() -> Outcome {
    for (rivals, status, writes) in [(0, 200, 1), (2, 200, 3), (3, 503, 3)] {
        let world = World::new()?;
        let (id, code) = (world.start(1)?, world.code(0));
        // Another request writes just before each of the first writes.
        let (devices, key, left) = (world.devices.clone(), world.key.clone(), AtomicUsize::new(rivals));
        world.devices.before_each(move |op| {
            let another_writes = || left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
            if let (Op::Replace, Some(mut device)) = (op, devices.peek(&key))
                && another_writes()
            {
                device.version += 1;
                devices.put(&key, &device);
            }
        });
        let answer = world.otp(id, &code).await?;
        assert_eq!(answer.status, status, "{rivals} rivals");
        assert_eq!(world.devices.calls(Op::Replace), writes, "{rivals} rivals");
        assert_eq!(world.device()?.accepted.len(), usize::from(status == 200));
        assert_eq!(answer.retry_after.is_some(), status == 503);
    }
    Ok(())
}

#[tokio::test]
async fn only_a_success_is_a_use_of_the_device() -> Outcome {
    let world = World::new()?;
    let code = world.code(0);
    assert_eq!(world.otp(world.start(1)?, &code).await?.status, 200);
    world.clock.advance(Duration::from_secs(5));
    let (replayed, wrong) = (world.otp(world.start(2)?, &code).await?, world.wrong_code()?);
    assert!(replayed.is(422, "OTP_REPLAYED"));
    assert_eq!(
        replayed.retry_after, None,
        "the member says it; the header is of 429 and 503"
    );
    assert!(world.otp(world.start(3)?, &wrong).await?.is(422, "OTP_REJECTED"));
    assert!(
        world
            .otps(world.start(4)?, &wrong, &wrong)
            .await?
            .is(422, "OTP_REJECTED")
    );
    assert_eq!(world.devices.last_used_at(&world.key), Some(NOW));
    Ok(())
}

#[tokio::test]
async fn a_wrong_pair_says_how_many_codes_to_ask_for_and_no_attempts() -> Outcome {
    let world = World::new()?;
    let (id, wrong) = (world.start(1)?, world.wrong_code()?);
    let answer = world.otps(id, &wrong, &wrong).await?;
    assert_eq!(
        (answer.number("codesRequired"), answer.body.get("attemptsRemaining")),
        (Some(1), None)
    );
    Ok(())
}

#[tokio::test]
async fn a_replayed_code_says_what_the_auth_has_left() -> Outcome {
    let world = World::new()?;
    assert_eq!(world.otp(world.start(1)?, &world.code(0)).await?.status, 200);
    let answer = world.otp(world.start(2)?, &world.code(0)).await?;
    assert_eq!(
        (answer.number("attemptsRemaining"), answer.number("codesRequired")),
        (Some(4), Some(1))
    );
    Ok(())
}

#[tokio::test]
async fn a_replayed_code_says_when_the_app_shows_the_first_code_that_is_not_used_up() -> Outcome {
    let world = World::new()?;
    // A phone that is a step ahead: the code after the one that the clock is at is used up, too.
    let ahead = world.code(1);
    assert_eq!(world.otp(world.start(1)?, &ahead).await?.status, 200);
    world.clock.advance(Duration::from_secs(12));
    for code in [ahead, world.code(0), world.code(-1)] {
        let answer = world.otp(world.start(2)?, &code).await?;
        assert!(answer.is(422, "OTP_REPLAYED"), "{answer:?}");
        assert_eq!(answer.number("retryAfterSeconds"), Some(48));
    }
    Ok(())
}

#[tokio::test]
async fn a_clock_before_every_used_step_accepts_no_code() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    assert_eq!(world.otp(id, &world.code(0)).await?.status, 200);
    world.clock.set(Timestamp::EPOCH);
    let next = world.start(2)?;
    for ahead in [0, 1] {
        let answer = world.otp(next, &world.code(ahead)).await?;
        assert!(answer.is(422, "OTP_REPLAYED"), "{answer:?}");
    }
    assert!(
        world
            .otps(next, &world.code(0), &world.code(1))
            .await?
            .is(422, "OTP_REJECTED")
    );
    Ok(())
}

#[tokio::test]
async fn a_seed_and_a_device_that_cannot_be_read_are_a_503() -> Outcome {
    let world = World::new()?;
    let (id, before) = (world.start(1)?, world.device()?);
    world.seeds.inject(Op::Get, Fault::Before);
    world.devices.inject(Op::Get, Fault::Before);
    let answer = world.otp(id, &world.code(0)).await?;
    assert!(answer.is(503, "SERVICE_UNAVAILABLE"), "{answer:?}");
    assert_eq!((world.device()?, world.devices.calls(Op::Replace)), (before, 0));
    assert_eq!(world.last_level(), Some(Level::Error), "an operator is told");
    Ok(())
}

#[tokio::test]
async fn without_a_write_id_of_its_own_nothing_is_decided() -> Outcome {
    let world = World::new()?;
    let (id, before) = (world.start(1)?, world.device()?);
    let endpoint = ValidateOtp {
        auths: world.auths.clone(),
        devices: world.devices.clone(),
        seeds: world.seeds.clone(),
        random: shared::testing::random::FailingRandom,
        boundary: Boundary::new(Arc::clone(&world.clock), world.log.clone(), DeviceHasher::new(b"key")),
        owners: ClientOwners::default(),
        policy: Policy::standard(),
    };
    let event = Event::validate_otp(CLIENT, &id).otp(&world.code(0));
    let response = endpoint.handle(event.payload()).await;
    assert_eq!(response.status().as_u16(), 500);
    assert_eq!((world.device()?, world.devices.calls(Op::Replace)), (before, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_write_that_takes_effect_after_the_deadline_is_counted_and_gives_no_verdict() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    world.devices.inject(Op::Replace, Fault::HangAfter);
    let started = tokio::time::Instant::now();
    assert!(
        world
            .otp(id, &world.wrong_code()?)
            .await?
            .is(503, "SERVICE_UNAVAILABLE")
    );
    assert_eq!(started.elapsed().as_millis(), 2_500, "the deadline");
    assert_eq!(world.device()?.total_failures, 1);
    Ok(())
}

#[tokio::test]
async fn guesses_are_limited_as_configured() -> Outcome {
    for (policy, gap) in [("standard", "1"), ("strict", "10")] {
        let world = World::with_policy(policy)?;
        let (id, wrong) = (world.start(1)?, world.wrong_code()?);
        for _ in 0..Policy::PAIR_BURST {
            assert!(world.otps(id, &wrong, &wrong).await?.is(422, "OTP_REJECTED"));
        }
        let refused = world.otps(id, &wrong, &wrong).await?;
        assert!(refused.is(429, "TOO_MANY_ATTEMPTS"));
        assert_eq!(refused.retry_after.as_deref(), Some(gap), "{policy}");
    }
    Ok(())
}

#[tokio::test]
async fn a_device_that_lost_its_activation_is_refused_at_once() -> Outcome {
    let world = World::new()?;
    let id = world.start(1)?;
    world.change(|device| device.status = Status::ActivationRequired)?;
    let answer = world.otp(id, &world.code(0)).await?;
    assert!(answer.is(423, "DEVICE_NOT_ACTIVE"), "{answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_caller_that_the_gateway_did_not_name_is_a_401() -> Outcome {
    let world = World::new()?;
    let (id, code) = (world.start(1)?, world.code(0));
    let event = || Event::validate_otp(CLIENT, &id).otp(&code);
    for event in [
        event().without_authorizer(),
        event().without_claim("client_id"),
        event().claim("client_id", 7),
        event().claim("client_id", ""),
        event().claim("client_id", format!("{CLIENT}#")),
    ] {
        assert!(world.send(&event).await?.is(401, "UNAUTHORIZED"));
        assert_eq!(world.last_level(), Some(Level::Warn));
    }
    for scope in [
        "",
        "mfa/authenticated",
        "mfa",
        "mfa/authenticate,openid",
        "MFA/AUTHENTICATE",
    ] {
        assert!(world.send(&event().scope(scope)).await?.is(403, "FORBIDDEN"), "{scope}");
        assert_eq!(
            world.last_level(),
            Some(Level::Warn),
            "the deployment is wrong: {scope}"
        );
    }
    assert_eq!(world.calls(), [0, 0, 0]);
    Ok(())
}

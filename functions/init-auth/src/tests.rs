//! Step 2 over stores in memory: every answer, every fault.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use lambda_http::http::HeaderMap;
use serde_json::Value;
use shared::config;
use shared::names::SeedRef;
use shared::otp::{OtpParameters, Period};
use shared::testing::clock::ManualClock;
use shared::testing::events::Event;
use shared::testing::log::MemoryLog;
use shared::testing::memory::{Fault, MemoryAuths, MemoryDevices, Op};
use shared::testing::random::{FailingRandom, SequenceRandom};

use super::*;

type Outcome = Result<(), Box<dyn Error>>;

const CLIENT: &str = "client-one";
const NOW: Timestamp = Timestamp::from_millis(1_795_575_600_250);

struct World {
    auths: MemoryAuths,
    devices: MemoryDevices,
    clock: Arc<ManualClock>,
    log: MemoryLog,
    key: DeviceKey,
    auth_life: &'static str,
    policy: &'static str,
}

struct Answer {
    status: u16,
    body: String,
    headers: HeaderMap,
}

impl Answer {
    fn member(&self, name: &str) -> Option<Value> {
        serde_json::from_str::<Value>(&self.body).ok()?.get(name).cloned()
    }

    fn code(&self) -> String {
        self.member("code")
            .and_then(|code| code.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl World {
    fn new() -> Result<Self, Box<dyn Error>> {
        let key = DeviceKey {
            owner: Owner::parse(CLIENT)?,
            user: UserName::parse("demouser")?,
            device: DeviceName::parse("mydevice")?,
        };
        let devices = MemoryDevices::default();
        devices.put(&key, &device()?);
        let clock = Arc::new(ManualClock::at(NOW));
        Ok(Self {
            auths: MemoryAuths::default(),
            devices,
            clock,
            log: MemoryLog::default(),
            key,
            auth_life: "300",
            policy: "standard",
        })
    }

    fn endpoint<R: Random>(&self, random: R) -> Result<impl Endpoint + Handle, Box<dyn Error>> {
        let settings: BTreeMap<String, String> = [
            (config::AUTHS_TABLE, "auths"),
            (config::DEVICES_TABLE, "devices"),
            (config::DEVICE_HASH_KEY, "0123456789abcdef"),
            (config::AUTH_LIFE_SECONDS, self.auth_life),
            (config::GUESS_POLICY, self.policy),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let config = InitAuthConfig::read(&settings)?;
        let (auths, devices) = (self.auths.clone(), self.devices.clone());
        Ok(InitAuth::new(
            auths,
            devices,
            &config,
            Arc::clone(&self.clock),
            random,
            self.log.clone(),
        ))
    }

    async fn send(&self, event: &Event) -> Result<Answer, Box<dyn Error>> {
        let endpoint = self.endpoint(SequenceRandom::from_start(1))?;
        answer_of(endpoint.handle_event(event).await)
    }

    fn change(&self, change: impl FnOnce(&mut Device)) -> Outcome {
        let mut device = device()?;
        change(&mut device);
        self.devices.put(&self.key, &device);
        Ok(())
    }
}

/// `handle` without naming the five type parameters.
trait Handle {
    async fn handle_event(&self, event: &Event) -> Response<Body>;
}

impl<A: AuthStore, D: DeviceStore, C: Clock, R: Random, L: RequestLog> Handle for InitAuth<A, D, C, R, L> {
    async fn handle_event(&self, event: &Event) -> Response<Body> {
        self.handle(event.payload()).await
    }
}

fn answer_of(response: Response<Body>) -> Result<Answer, Box<dyn Error>> {
    let (parts, body) = response.into_parts();
    Ok(Answer {
        status: parts.status.as_u16(),
        body: String::from_utf8(body.to_vec())?,
        headers: parts.headers,
    })
}

fn device() -> Result<Device, Box<dyn Error>> {
    Ok(Device::registered(
        7,
        Status::Active,
        SeedRef::new("mfa/seed/00ff", "version")?,
        OtpParameters::default(),
    ))
}

#[tokio::test]
async fn an_auth_is_started_with_exactly_the_documented_answer() -> Outcome {
    let world = World::new()?;
    let answer = world.send(&Event::init_auth(CLIENT)).await?;
    let auth_id = answer
        .member("authId")
        .and_then(|id| id.as_str().map(str::to_owned))
        .unwrap_or_default();
    assert_eq!(answer.status, 201);
    assert_eq!(
        answer.body,
        format!(
            "{{\"authId\":\"{auth_id}\",\"status\":\"SUCCESS\",\
             \"message\":\"Please get the OTP from registered device to authenticate\"}}"
        )
    );
    assert_eq!(
        answer.header("location"),
        format!("/v1/deviceAuthentications/{auth_id}")
    );
    assert_eq!(answer.header("auth-expires-at"), "2026-11-25T03:05:00Z");
    assert_eq!(answer.header("auth-codes-required"), "");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    let stored = world
        .auths
        .peek(AuthId::parse(&auth_id).ok_or("no authId")?)
        .ok_or("not stored")?;
    assert_eq!(stored.key, world.key);
    assert_eq!(Some(stored.device), world.devices.peek(&world.key));
    assert_eq!((world.devices.all_calls(), world.auths.all_calls()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn an_auth_lives_at_least_four_periods_of_its_device() -> Outcome {
    let world = World {
        auth_life: "180",
        ..World::new()?
    };
    assert_eq!(
        world.send(&Event::init_auth(CLIENT)).await?.header("auth-expires-at"),
        "2026-11-25T03:03:00Z"
    );
    world.change(|device| device.parameters.period = Period::Sixty)?;
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(
        world.send(&Event::init_auth(CLIENT)).await?.header("auth-expires-at"),
        "2026-11-25T03:04:01Z"
    );
    Ok(())
}

#[tokio::test]
async fn step_2_says_that_two_codes_are_required_and_never_refuses() -> Outcome {
    let world = World::new()?;
    let in_a_second = NOW.plus(Duration::from_secs(1));
    world.change(|device| device.not_before = in_a_second)?;
    let answer = world.send(&Event::init_auth(CLIENT)).await?;
    assert_eq!((answer.status, answer.header("auth-codes-required")), (201, "2"));
    world.change(|device| device.consecutive_failures = Policy::MOST_CONSECUTIVE)?;
    let answer = world.send(&Event::init_auth(CLIENT)).await?;
    assert_eq!((answer.status, answer.header("auth-codes-required")), (201, "2"));
    Ok(())
}

#[tokio::test]
async fn a_device_that_cannot_be_used_starts_nothing() -> Outcome {
    let world = World::new()?;
    for (status, expected) in [
        (Status::Disabled, "DEVICE_DISABLED"),
        (Status::ActivationRequired, "DEVICE_NOT_ACTIVE"),
    ] {
        world.change(|device| device.status = status)?;
        let answer = world.send(&Event::init_auth(CLIENT)).await?;
        assert_eq!((answer.status, answer.code().as_str()), (423, expected));
    }
    for event in [
        Event::init_auth(CLIENT).user("other"),
        Event::init_auth(CLIENT).device("other"),
    ] {
        let answer = world.send(&event).await?;
        assert_eq!((answer.status, answer.code().as_str()), (404, "DEVICE_NOT_FOUND"));
    }
    assert_eq!(world.auths.all_calls(), 0);
    Ok(())
}

#[tokio::test]
async fn another_clients_device_does_not_exist() -> Outcome {
    let world = World::new()?;
    let answer = world.send(&Event::init_auth("client-two")).await?;
    assert_eq!((answer.status, answer.code().as_str()), (404, "DEVICE_NOT_FOUND"));
    Ok(())
}

#[tokio::test]
async fn a_name_is_one_name_in_both_unicode_forms() -> Outcome {
    let world = World::new()?;
    let key = DeviceKey {
        user: UserName::parse("Jos\u{e9}")?,
        ..world.key.clone()
    };
    world.devices.put(&key, &device()?);
    let answer = world.send(&Event::init_auth(CLIENT).user("Jose\u{301}")).await?;
    assert_eq!(answer.status, 201);
    Ok(())
}

#[tokio::test]
async fn a_malformed_request_is_refused_with_what_to_fix_and_reaches_no_store() -> Outcome {
    let world = World::new()?;
    let event = || Event::init_auth(CLIENT);
    for (event, status, code, names) in [
        (event().without("userName"), 400, "INVALID_REQUEST", "userName"),
        (event().member("userName", 7), 400, "INVALID_REQUEST", "userName"),
        (event().user(""), 400, "INVALID_REQUEST", "userName"),
        (event().user(" padded"), 400, "INVALID_REQUEST", "userName"),
        (event().user(&"x".repeat(129)), 400, "INVALID_REQUEST", "userName"),
        (event().without("deviceName"), 400, "INVALID_REQUEST", "deviceName"),
        (event().device("a\u{0}b"), 400, "INVALID_REQUEST", "deviceName"),
        (event().without("deviceType"), 400, "INVALID_REQUEST", "deviceType"),
        (event().device_type("SMS"), 400, "INVALID_REQUEST", "deviceType"),
        (event().raw_body("{"), 400, "INVALID_REQUEST", "JSON"),
        (event().no_body(), 400, "INVALID_REQUEST", "JSON"),
        (event().raw_body(vec![b' '; 8_193]), 413, "PAYLOAD_TOO_LARGE", "8192"),
        (
            event().content_type("text/plain"),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            "application/json",
        ),
        (event().without_authorizer(), 401, "UNAUTHORIZED", "token"),
        (event().without_claim("client_id"), 401, "UNAUTHORIZED", "token"),
        (event().scope("mfa/other"), 403, "FORBIDDEN", "mfa/authenticate"),
    ] {
        let answer = world.send(&event).await?;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{names}");
        let message = answer.member("message").unwrap_or_default();
        assert!(
            message.as_str().is_some_and(|message| message.contains(names)),
            "{message} names {names}"
        );
        assert_eq!(answer.member("traceId"), Some(Event::TRACE_ID.into()));
        assert_eq!(answer.member("timestamp"), Some("2026-11-25T03:00:00Z".into()));
        assert_eq!(
            answer.header("www-authenticate"),
            if status == 401 { "Bearer" } else { "" }
        );
    }
    assert_eq!((world.devices.all_calls(), world.auths.all_calls()), (0, 0));
    Ok(())
}

#[tokio::test]
async fn bodies_come_in_base64_in_any_case_of_the_type_and_without_a_type() -> Outcome {
    let world = World::new()?;
    let event = || Event::init_auth(CLIENT);
    for event in [
        event().base64(),
        event().content_type("Application/JSON; charset=utf-8"),
        event().no_content_type(),
        event().device_type("totp"),
        event().member("unknown", Value::Null),
        event().scope("openid mfa/authenticate"),
    ] {
        // The same generator each time: its first authId is taken, so each start also draws its second.
        assert_eq!(world.send(&event).await?.status, 201);
    }
    Ok(())
}

#[tokio::test]
async fn a_taken_auth_id_is_drawn_again_once() -> Outcome {
    let world = World::new()?;
    world.send(&Event::init_auth(CLIENT)).await?;
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.send(&Event::init_auth(CLIENT)).await?.status, 201);
    assert_eq!((world.auths.count(), world.auths.calls(Op::Create)), (2, 3));
    world.clock.advance(Duration::from_secs(1));
    let answer = world.send(&Event::init_auth(CLIENT)).await?;
    assert_eq!((answer.status, answer.code().as_str()), (500, "INTERNAL_ERROR"));
    assert_eq!(world.auths.count(), 2);
    Ok(())
}

#[tokio::test]
async fn a_repeated_own_write_is_a_success() -> Outcome {
    let world = World::new()?;
    world.auths.inject(Op::Create, Fault::LostThenRepeated);
    assert_eq!(world.send(&Event::init_auth(CLIENT)).await?.status, 201);
    assert_eq!(world.auths.count(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_hangs_is_a_503_and_works_again_afterwards() -> Outcome {
    let world = World::new()?;
    for fault in [Fault::Before, Fault::Hang] {
        for at_devices in [true, false] {
            if at_devices {
                world.devices.inject(Op::Get, fault);
            } else {
                world.auths.inject(Op::Create, fault);
            }
            let started = tokio::time::Instant::now();
            let answer = world.send(&Event::init_auth(CLIENT)).await?;
            assert_eq!((answer.status, answer.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
            assert_eq!(answer.header("retry-after"), "1");
            assert!(started.elapsed() <= Duration::from_secs(3));
        }
    }
    assert_eq!(world.auths.count(), 0);
    assert_eq!(world.send(&Event::init_auth(CLIENT)).await?.status, 201);
    Ok(())
}

#[tokio::test]
async fn a_generator_that_fails_is_a_500() -> Outcome {
    let world = World::new()?;
    let endpoint = world.endpoint(FailingRandom)?;
    let answer = answer_of(endpoint.handle_event(&Event::init_auth(CLIENT)).await)?;
    assert_eq!((answer.status, answer.code().as_str()), (500, "INTERNAL_ERROR"));
    assert_eq!(world.auths.count(), 0);
    Ok(())
}

struct PanickingRandom;

impl Random for PanickingRandom {
    fn sixteen_bytes(&self) -> Result<[u8; 16], shared::error::RandomError> {
        std::panic::panic_any("a planted panic")
    }
}

#[tokio::test]
async fn a_panic_costs_one_request() -> Outcome {
    let world = World::new()?;
    let endpoint = world.endpoint(PanickingRandom)?;
    let answer = answer_of(endpoint.handle_event(&Event::init_auth(CLIENT)).await)?;
    assert_eq!((answer.status, answer.code().as_str()), (500, "INTERNAL_ERROR"));
    let line = world.log.lines().pop().ok_or("nothing logged")?;
    assert_eq!((line.reason, line.error), ("panic", None));
    Ok(())
}

#[tokio::test]
async fn a_request_reads_the_clock_once_and_logs_one_line_without_names() -> Outcome {
    let world = World::new()?;
    world.send(&Event::init_auth(CLIENT)).await?;
    assert_eq!(world.clock.reads(), 1);
    let lines = world.log.lines();
    let [line] = lines.as_slice() else {
        return Err("not one line".into());
    };
    assert_eq!(
        (line.function, line.status, line.outcome, line.reason),
        ("init-auth", 201, "SUCCESS", "started")
    );
    assert_eq!(
        (line.client_id.as_deref(), line.trace_id.as_str()),
        (Some(CLIENT), Event::TRACE_ID)
    );
    assert_eq!(line.timestamp, "2026-11-25T03:00:00.250Z");
    let printed = world.log.printed();
    assert!(
        !printed.contains("demouser") && !printed.contains("mydevice"),
        "{printed}"
    );
    Ok(())
}

#[tokio::test]
async fn how_many_codes_are_required_depends_on_the_configured_policy() -> Outcome {
    // Standard allows a debt of 19 times 36 hours, strict one of 9 times 20 days.
    for (policy, header) in [("standard", "2"), ("strict", "")] {
        let world = World {
            policy,
            ..World::new()?
        };
        world.change(|device| device.budget_at = NOW.plus(Duration::from_hours(1_000)))?;
        let answer = world.send(&Event::init_auth(CLIENT)).await?;
        assert_eq!(
            (answer.status, answer.header("auth-codes-required")),
            (201, header),
            "{policy}"
        );
    }
    Ok(())
}

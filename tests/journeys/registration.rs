//! Users set up their own devices: registration over HTTP against the whole service.

use std::time::Duration;

use acceptance::{Answer, Fault, Outcome, Rule, StoreProxy, World, WorldOptions};
use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use shared::config;
use shared::otp::{OtpParameters, Period, Seed, Step};

/// A user as a path and as step 2 names them.
const USER: (&str, &str) = ("me%2Btag@example.com", "me+tag@example.com");

fn require(status: u16, answer: &Answer) -> Outcome {
    anyhow::ensure!(
        answer.status == status,
        "expected {status}, got {} {}",
        answer.status,
        answer.text
    );
    Ok(())
}

/// The operations of a user's devices, with the token of one client.
struct Devices<'a> {
    world: &'a World,
    token: String,
    user: (&'a str, &'a str),
}

impl<'a> Devices<'a> {
    fn new(world: &'a World) -> Self {
        let token = world.token().to_owned();
        let user = USER;
        Self { world, token, user }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let path = format!("/users/{}/mfadevices{path}", self.user.0);
        let request = self.world.request(method, &path);
        let request = request.bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        self.world.send(request).await
    }

    async fn register(&self, device: &str, replace: bool) -> Result<Answer> {
        let body = json!({ "deviceType": "TOTP", "deviceName": device, "replace": replace });
        self.send(Method::POST, "", Some(body)).await
    }

    async fn activate(&self, registered: &Answer, code: &str) -> Result<Answer> {
        // As a client does it: at the path that the answer names.
        let path = registered.header("location").to_owned();
        let url = format!("{}{path}", self.world.stack.origin());
        let request = self.world.at(Method::POST, &url).bearer_auth(&self.token);
        self.world.send(request.json(&json!({ "otp": code }))).await
    }

    async fn list(&self) -> Result<Answer> {
        self.send(Method::GET, "", None).await
    }

    async fn remove(&self, device: &str) -> Result<Answer> {
        self.send(Method::DELETE, &format!("/TOTP/{device}"), None).await
    }

    fn code(&self, registered: &Answer, ahead: i64) -> Result<String> {
        let secret = registered.member("secret");
        let seed = Seed::from_base32(secret.as_str().context("no secret")?, OtpParameters::default())?;
        let step = Step::at(shared::clock::Clock::now(&**self.world.stack.clock()), Period::Thirty);
        let step = Step(step.0.saturating_add_signed(ahead));
        Ok(seed.code(step).reveal().to_owned())
    }

    async fn sign_in(&self, registered: &Answer) -> Result<Answer> {
        let auth_id = self.world.start_with(self.user.1, "phone").await?;
        self.world.otp(&auth_id, &self.code(registered, 0)?).await
    }
}

#[tokio::test]
async fn a_user_registers_signs_in_replaces_and_removes_a_device() -> Outcome {
    let world = World::new().await?;
    let devices = Devices::new(&world);
    assert_eq!(devices.list().await?.text, "[]");
    let first = devices.register("phone", false).await?;
    require(201, &first)?;
    let not_active = world.try_start_with(USER.1, "phone").await?;
    not_active.expect(423, "DEVICE_NOT_ACTIVE")?;
    devices
        .activate(&first, &devices.code(&first, 40)?)
        .await?
        .expect(422, "OTP_REJECTED")?;
    require(200, &devices.activate(&first, &devices.code(&first, 0)?).await?)?;
    let used = devices.sign_in(&first).await?;
    used.expect(422, "OTP_REPLAYED")?;
    world.advance(Duration::from_secs(30))?;
    devices.sign_in(&first).await?.success(200)?;

    devices.register("phone", false).await?.expect(409, "DEVICE_EXISTS")?;
    let second = devices.register("phone", true).await?;
    require(201, &second)?;
    world.advance(Duration::from_secs(30))?;
    devices.sign_in(&first).await?.success(200)?;
    world.advance(Duration::from_secs(30))?;
    require(200, &devices.activate(&second, &devices.code(&second, 0)?).await?)?;
    world.advance(Duration::from_secs(30))?;
    devices.sign_in(&first).await?.expect(422, "OTP_REJECTED")?;
    devices.sign_in(&second).await?.success(200)?;

    let listed: Value = serde_json::from_str(&devices.list().await?.text)?;
    assert_eq!(
        (
            &listed[0]["deviceName"],
            &listed[0]["status"],
            listed.as_array().map(Vec::len)
        ),
        (&json!("phone"), &json!("ACTIVE"), Some(1))
    );
    let removed = devices.remove("phone").await?;
    assert_eq!((removed.status, removed.text.as_str()), (204, ""));
    devices.remove("phone").await?.expect(404, "DEVICE_NOT_FOUND")?;
    let gone = world.try_start_with(USER.1, "phone").await?;
    gone.expect(404, "DEVICE_NOT_FOUND")?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_new_seed_has_the_tags_of_the_settings() -> Outcome {
    let world = World::with(WorldOptions {
        settings: [(config::SEED_TAGS.to_owned(), "team=identity,stage=".to_owned())].into(),
        ..WorldOptions::default()
    })
    .await?;
    require(201, &Devices::new(&world).register("phone", false).await?)?;
    let expected = [("stage", ""), ("team", "identity")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(world.tags().await?, expected.into());
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn clients_of_one_owner_share_its_devices_each_with_its_own_scope() -> Outcome {
    let world = World::with(WorldOptions {
        client_owners: Some("first=bank,second=bank".to_owned()),
        ..WorldOptions::default()
    })
    .await?;
    let [sign_in, settings] = world.stack.clients();
    let token = |client: &local::Client, scope: &str| -> Result<String> {
        let mut claims = world.stack.claims(client)?;
        claims.scope = scope.to_owned();
        Ok(world.stack.sign(&claims)?.to_string())
    };
    let devices = Devices {
        world: &world,
        token: token(settings, "mfa/devices")?,
        user: USER,
    };
    let registered = devices.register("phone", false).await?;
    require(201, &registered)?;
    require(
        200,
        &devices.activate(&registered, &devices.code(&registered, 0)?).await?,
    )?;
    world.advance(Duration::from_secs(30))?;
    let names = json!({ "userName": USER.1, "deviceName": "phone", "deviceType": "TOTP" });
    let sign_in = token(sign_in, "mfa/authenticate")?;
    let started = world.init_auth(&sign_in, &names).await?;
    let auth_id = started.member("authId").as_str().context("no authId")?.to_owned();
    let body = json!({ "otp": devices.code(&registered, 0)? });
    world.validate_otp(&sign_in, &auth_id, &body).await?.success(200)?;

    // Each scope is refused on the routes of the other.
    let refused = Devices {
        world: &world,
        token: sign_in.clone(),
        user: USER,
    };
    for answer in [
        refused.list().await?,
        refused.register("phone", true).await?,
        refused.remove("phone").await?,
        world.init_auth(&devices.token, &names).await?,
    ] {
        answer.expect(403, "FORBIDDEN")?;
    }
    // A third client sees nothing of it.
    let mut claims = world.stack.claims(settings)?;
    claims.client_id = "stranger".to_owned();
    let stranger = Devices {
        world: &world,
        token: world.stack.sign(&claims)?.to_string(),
        user: USER,
    };
    assert_eq!(stranger.list().await?.text, "[]");
    stranger.remove("phone").await?.expect(404, "DEVICE_NOT_FOUND")?;
    let again = devices.register("phone", true).await?;
    stranger
        .activate(&again, "123456")
        .await?
        .expect(404, "AUTH_NOT_FOUND")?;
    world
        .init_auth(&stranger.token, &names)
        .await?
        .expect(404, "DEVICE_NOT_FOUND")?;
    world.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_parallel_registrations_of_a_name_at_most_one_can_be_activated() -> Outcome {
    let world = World::new().await?;
    let devices = Devices::new(&world);
    let all = try_join_all((0..50).map(|_| devices.register("phone", false))).await?;
    let mut outcomes = Vec::new();
    for registered in all.iter().filter(|answer| answer.status == 201) {
        outcomes.push(devices.activate(registered, &devices.code(registered, 0)?).await?);
    }
    for answer in all.iter().filter(|answer| answer.status != 201) {
        answer.expect(503, "SERVICE_UNAVAILABLE")?;
    }
    let activated = outcomes.iter().filter(|answer| answer.status == 200).count();
    // One that ran out of time may have been the last to write: its authId is the one, and no client has it.
    let out_of_time = outcomes.len() < all.len();
    assert!(activated == 1 || activated == 0 && out_of_time, "{activated}");
    for answer in outcomes.iter().filter(|answer| answer.status != 200) {
        answer.expect(409, "AUTH_SUPERSEDED")?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_double_click_activates_once_and_counts_nothing() -> Outcome {
    let world = World::new().await?;
    let devices = Devices::new(&world);
    for replace in [false, true] {
        let registered = devices.register("phone", replace).await?;
        let code = devices.code(&registered, 0)?;
        for answer in try_join_all((0..30).map(|_| devices.activate(&registered, &code))).await? {
            require(200, &answer)?;
        }
        world.advance(Duration::from_secs(30))?;
        devices.sign_in(&registered).await?.success(200)?;
        world.advance(Duration::from_secs(30))?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_name_in_a_path_is_the_same_user_as_in_json() -> Outcome {
    let world = World::new().await?;
    let longest = "x".repeat(128);
    for (sent, name) in [
        ("a%2Fb", "a/b"),
        ("a%2Bb", "a+b"),
        ("%25", "%"),
        ("a%252Fb", "a%2Fb"),
        ("%C3%BC", "\u{fc}"),
        ("u%cc%88", "u\u{308}"),
        ("..%2F", "../"),
        ("...", "..."),
        (&longest, &longest),
    ] {
        let devices = Devices {
            user: (sent, name),
            ..Devices::new(&world)
        };
        let answers = async {
            assert_eq!(devices.list().await?.text, "[]");
            let registered = devices.register("phone", false).await?;
            require(201, &registered)?;
            require(
                200,
                &devices.activate(&registered, &devices.code(&registered, 0)?).await?,
            )?;
            world.advance(Duration::from_secs(30))?;
            devices.sign_in(&registered).await?.success(200)?;
            require(204, &devices.remove("phone").await?)
        };
        answers.await.with_context(|| sent.to_owned())?;
    }
    // A plus is a plus, and a device is decoded as a user is.
    let plus = Devices {
        user: ("a+b", "a+b"),
        ..Devices::new(&world)
    };
    require(201, &plus.register("my/phone 100%", false).await?)?;
    let escaped = Devices {
        user: ("a%2Bb", "a+b"),
        ..Devices::new(&world)
    };
    escaped.remove("my/phone%20100%25").await?.expect(404, "NOT_FOUND")?;
    require(204, &escaped.remove("my%2Fphone%20100%25").await?)?;
    world.end().await;
    Ok(())
}

fn dynamodb(world: &World) -> Result<&StoreProxy> {
    world.dynamodb.as_ref().context("no proxy")
}

/// A registration that was activated, and a time step later.
async fn activated(devices: &Devices<'_>, replace: bool) -> Result<Answer> {
    let registered = devices.register("phone", replace).await?;
    require(201, &registered)?;
    require(
        200,
        &devices.activate(&registered, &devices.code(&registered, 0)?).await?,
    )?;
    devices.world.advance(Duration::from_secs(30))?;
    Ok(registered)
}

#[tokio::test]
async fn a_removal_that_was_held_back_does_not_remove_what_was_registered_since() -> Outcome {
    let world = World::with_proxies().await?;
    let devices = Devices::new(&world);
    activated(&devices, false).await?;
    dynamodb(&world)?.set("DeleteItem Devices", Rule::Always(Fault::Hold));
    devices.remove("phone").await?.expect(503, "SERVICE_UNAVAILABLE")?;
    dynamodb(&world)?.clear();
    require(204, &devices.remove("phone").await?)?;
    let again = activated(&devices, false).await?;
    world.advance(Duration::from_mins(14))?;
    let held = dynamodb(&world)?.release().await?;
    assert!(!held.is_empty() && held.iter().all(|status| *status == 400), "{held:?}");
    devices.sign_in(&again).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_activation_that_was_held_back_is_refused_once_it_is_superseded() -> Outcome {
    let world = World::with_proxies().await?;
    let devices = Devices::new(&world);
    let first = activated(&devices, false).await?;
    for superseded in [true, false] {
        let late = devices.register("phone", true).await?;
        dynamodb(&world)?.set("UpdateItem Devices", Rule::Always(Fault::Hold));
        let unanswered = devices.activate(&late, &devices.code(&late, 0)?).await?;
        unanswered.expect(503, "SERVICE_UNAVAILABLE")?;
        dynamodb(&world)?.clear();
        if superseded {
            require(201, &devices.register("phone", true).await?)?;
        }
        world.advance(Duration::from_mins(14))?;
        let held = dynamodb(&world)?.release().await?;
        let took_effect = held.iter().filter(|status| **status == 200).count();
        assert_eq!(took_effect, usize::from(!superseded), "{held:?}");
        // Whatever came of it, its authId is over, and one seed works.
        let code = devices.code(&late, 0)?;
        devices.activate(&late, &code).await?.expect(410, "AUTH_EXPIRED")?;
        let (works, refused) = if superseded { (&first, &late) } else { (&late, &first) };
        devices.sign_in(refused).await?.expect(422, "OTP_REJECTED")?;
        devices.sign_in(works).await?.success(200)?;
        world.advance(Duration::from_secs(30))?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_sign_in_that_was_held_back_signs_no_one_in_and_uses_its_code_up_at_most() -> Outcome {
    let world = World::with_proxies().await?;
    for others_wrote in [true, false] {
        let auth_id = world.start().await?;
        let code = world.code(0);
        dynamodb(&world)?.set("UpdateItem Devices", Rule::Always(Fault::Hold));
        world.otp(&auth_id, &code).await?.expect(503, "SERVICE_UNAVAILABLE")?;
        dynamodb(&world)?.clear();
        if others_wrote {
            // The same code on another authId: it counts once.
            world.start_and_send(&code).await?.success(200)?;
        }
        world.advance(Duration::from_mins(14))?;
        let before = world.device().await?;
        let held = dynamodb(&world)?.release().await?;
        let took_effect = held.iter().filter(|status| **status == 200).count();
        assert_eq!(took_effect, usize::from(!others_wrote), "{held:?}");
        assert_eq!(world.device().await?.version, before.version + u64::from(!others_wrote));
        world.otp(&auth_id, &world.code(0)).await?.expect(410, "AUTH_EXPIRED")?;
        world.start_and_send(&world.code(0)).await?.success(200)?;
        assert_eq!(world.device().await?.total_failures, 0);
        world.advance(Duration::from_secs(30))?;
    }
    world.end().await;
    Ok(())
}

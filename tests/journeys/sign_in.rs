//! The three steps as a client takes them.

use acceptance::{Outcome, World, demo_names};
use anyhow::Context as _;
use local::{DEMO_DEVICE, DEMO_USER};
use reqwest::Method;
use serde_json::json;
use shared::otp::{Algorithm, Digits, OtpParameters, Period};

#[tokio::test]
async fn a_client_gets_a_token_starts_an_authentication_and_validates_a_code() -> Outcome {
    let world = World::new().await?;
    let [client, _] = world.stack.clients();
    let request = world
        .at(Method::POST, &world.stack.token_url())
        .basic_auth(client.id().as_str(), Some(client.secret()))
        .form(&[("grant_type", "client_credentials"), ("scope", "mfa/authenticate")]);
    let answer = world.send(request).await?;
    assert_eq!((answer.status, answer.member("token_type")), (200, json!("Bearer")));
    let token = answer.member("access_token").as_str().context("no token")?.to_owned();

    let started = world.init_auth(&token, &demo_names()).await?;
    let auth_id = started.member("authId").as_str().context("no authId")?.to_owned();
    assert_eq!(started.status, 201);
    assert_eq!(
        started.text,
        format!(
            "{{\"authId\":\"{auth_id}\",\"status\":\"SUCCESS\",\
             \"message\":\"Please get the OTP from registered device to authenticate\"}}"
        )
    );
    assert_eq!(started.header("auth-expires-at"), "2026-11-25T03:05:00Z");
    assert_eq!(
        started.header("location"),
        format!("/v1/deviceAuthentications/{auth_id}")
    );

    // The code goes to the address in the answer.
    let url = format!("{}{}", world.stack.origin(), started.header("location"));
    let request = world
        .at(Method::POST, &url)
        .bearer_auth(&token)
        .json(&json!({ "otp": world.code(0) }));
    let validated = world.send(request).await?;
    assert_eq!(validated.status, 200);
    assert_eq!(
        validated.text,
        "{\"status\":\"SUCCESS\",\"message\":\"OTP has been validated successfully\"}"
    );
    for answer in [started, validated] {
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn every_kind_of_device_signs_in() -> Outcome {
    let world = World::new().await?;
    for (position, algorithm) in Algorithm::ALL.into_iter().enumerate() {
        for (digits, period) in [(Digits::Six, Period::Sixty), (Digits::Eight, Period::Thirty)] {
            let parameters = OtpParameters {
                algorithm,
                digits,
                period,
            };
            let name = format!("device {position} {}", digits.count());
            let device = world
                .stack
                .register_device(world.client(), DEMO_USER, &name, parameters)
                .await?;
            let auth_id = world.start_with(DEMO_USER, &name).await?;
            world.otp(&auth_id, &world.code_of(&device, 0)).await?.success(200)?;
        }
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_name_may_have_any_characters() -> Outcome {
    let world = World::new().await?;
    for user in [
        "me+tag@example.com",
        "a b",
        "a#b",
        "a/b%2Fc",
        "\u{65e5}\u{672c}\u{8a9e}",
        "\u{1f511} key",
        "quote\"back\\",
        &"x".repeat(128),
    ] {
        let device = world.register(user, "the phone").await?;
        let auth_id = world.start_with(user, "the phone").await?;
        world.otp(&auth_id, &world.code_of(&device, 0)).await?.success(200)?;
    }
    let device = world.register("Jos\u{e9}", "phone").await?;
    let auth_id = world.start_with("Jose\u{301}", "phone").await?;
    world.otp(&auth_id, &world.code_of(&device, 0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_request_logs_one_line_without_names_codes_or_tokens() -> Outcome {
    let world = World::new().await?;
    let (auth_id, code) = (world.start().await?, world.code(0));
    world.otp(&auth_id, &code).await?.success(200)?;
    let lines = world.stack.log_lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, function) in lines.iter().zip(["init-auth", "validate-otp"]) {
        let parsed: serde_json::Value = serde_json::from_str(line)?;
        assert_eq!(parsed["function"], function);
        assert_eq!(parsed["outcome"], "SUCCESS");
        assert_eq!(parsed["dynamodbCalls"], 2);
    }
    let seed = world.stack.demo().seed.to_base32();
    let [client, _] = world.stack.clients();
    let everything = [lines, world.stack.access_lines()].concat().join("\n");
    for secret in [
        &code,
        &auth_id,
        world.token(),
        seed.as_str(),
        client.secret(),
        DEMO_USER,
        DEMO_DEVICE,
    ] {
        assert!(!everything.contains(secret), "{everything}");
    }
    world.end().await;
    Ok(())
}

//! Every row of the error table, and what every error has in common. Rows of guessing and faults have their own pages.

use acceptance::{Answer, Outcome, World, demo_names};
use anyhow::Result;
use local::Claims;
use reqwest::Method;
use serde_json::{Value, json};

fn common(answer: &Answer, from_gateway: bool) -> Outcome {
    let mut members = answer.members();
    members.sort_unstable();
    let mut expected = vec!["code", "message", "status", "traceId"];
    if !from_gateway {
        expected.push("timestamp");
        expected.sort_unstable();
    }
    anyhow::ensure!(members == expected, "{}", answer.text);
    assert_eq!(answer.member("status"), "FAILED");
    assert!(
        answer.member("traceId").as_str().is_some_and(|id| !id.is_empty()),
        "{}",
        answer.text
    );
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    Ok(())
}

#[tokio::test]
async fn a_malformed_start_says_what_to_fix_and_echoes_nothing() -> Outcome {
    let world = World::new().await?;
    for (member, value) in [
        ("userName", Value::Null),
        ("userName", json!(31_337)),
        ("userName", json!("")),
        ("userName", json!(" echoed-input")),
        ("userName", json!("echoed-input\u{7}")),
        ("userName", json!("echoed-input".repeat(20))),
        ("deviceName", json!(["echoed-input"])),
        ("deviceName", json!("echoed-input ")),
        ("deviceType", json!("echoed-input")),
        ("deviceType", Value::Null),
    ] {
        let mut body = demo_names();
        body[member] = value;
        let answer = world.init_auth(world.token(), &body).await?;
        answer.expect(400, "INVALID_REQUEST")?;
        common(&answer, false)?;
        assert!(
            answer
                .member("message")
                .as_str()
                .is_some_and(|text| text.contains(member)),
            "{}",
            answer.text
        );
        assert!(
            !answer.text.contains("echoed-input") && !answer.text.contains("31337"),
            "{}",
            answer.text
        );
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn bodies_of_a_wrong_form_are_refused_at_both_steps() -> Outcome {
    let world = World::new().await?;
    let step_3 = format!("/deviceAuthentications/{}", world.start().await?);
    for path in ["/deviceAuthentications", &step_3] {
        let send = |content_type: Option<&'static str>, body: Vec<u8>| {
            let request = world.request(Method::POST, path).bearer_auth(world.token()).body(body);
            world.send(match content_type {
                Some(content_type) => request.header("content-type", content_type),
                None => request,
            })
        };
        let json_type = Some("application/json");
        for body in [&b""[..], b"[]", b"{", b"\xff", b"{\"a\":1,\"a\":1}", b"{} {}"] {
            let answer = send(json_type, body.to_vec()).await?;
            answer.expect(400, "INVALID_REQUEST")?;
            common(&answer, false)?;
        }
        let answer = send(json_type, vec![b' '; 8_193]).await?;
        answer.expect(413, "PAYLOAD_TOO_LARGE")?;
        common(&answer, false)?;
        let answer = send(Some("text/plain"), b"{}".to_vec()).await?;
        answer.expect(415, "UNSUPPORTED_MEDIA_TYPE")?;
        common(&answer, false)?;
        send(None, b"{}".to_vec()).await?.expect(400, "INVALID_REQUEST")?;
    }
    assert_eq!(world.device().await?.total_failures, 0);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_code_of_a_wrong_form_is_a_400_and_not_a_guess() -> Outcome {
    let world = World::new().await?;
    let auth_id = world.start().await?;
    for body in [
        json!({}),
        json!({ "otp": null }),
        json!({ "otp": 12_345 }),
        json!({ "otp": 523_471 }),
        json!({ "otp": "" }),
        json!({ "otp": "12345" }),
        json!({ "otp": "1234567" }),
        json!({ "otp": "\u{ff11}\u{ff12}\u{ff13}\u{ff14}\u{ff15}\u{ff16}" }),
        json!({ "otps": [] }),
        json!({ "otps": ["123456"] }),
        json!({ "otps": ["123456", null] }),
        json!({ "otp": "123456", "otps": ["123456", "123456"] }),
        json!({ "otp": "123456", "deviceType": "SMS" }),
    ] {
        let answer = world.validate_otp(world.token(), &auth_id, &body).await?;
        answer.expect(400, "INVALID_REQUEST")?;
        common(&answer, false)?;
    }
    assert_eq!(world.device().await?.total_failures, 0);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn without_a_valid_token_there_is_nothing_but_a_401() -> Outcome {
    let world = World::new().await?;
    let [client, _] = world.stack.clients();
    let good = world.stack.claims(client)?;
    let stranger = World::new().await?;
    let [stranger_client, _] = stranger.stack.clients();
    let mut foreign = stranger.stack.claims(stranger_client)?;
    foreign.client_id.clone_from(&good.client_id);
    foreign.iss.clone_from(&good.iss);
    let mut tampered = world.token().to_owned();
    tampered.truncate(tampered.len() - 4);
    for token in [
        String::new(),
        "nonsense".to_owned(),
        tampered,
        stranger.stack.sign(&foreign)?.to_string(),
        world
            .stack
            .sign(&Claims {
                exp: good.iat - 1,
                ..good.clone()
            })?
            .to_string(),
        world
            .stack
            .sign(&Claims {
                iss: "https://example.com/pool".to_owned(),
                ..good.clone()
            })?
            .to_string(),
        world
            .stack
            .sign(&Claims {
                token_use: "id".to_owned(),
                ..good.clone()
            })?
            .to_string(),
    ] {
        let answer = world.init_auth(&token, &demo_names()).await?;
        answer.expect(401, "UNAUTHORIZED")?;
        common(&answer, true)?;
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let request = world
        .request(Method::POST, "/deviceAuthentications")
        .json(&demo_names());
    world.send(request).await?.expect(401, "UNAUTHORIZED")?;
    stranger.end().await;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_token_without_the_scope_is_a_403() -> Outcome {
    let world = World::new().await?;
    let [client, _] = world.stack.clients();
    let claims = Claims {
        scope: "mfa/other openid".to_owned(),
        ..world.stack.claims(client)?
    };
    let answer = world.init_auth(&world.stack.sign(&claims)?, &demo_names()).await?;
    answer.expect(403, "FORBIDDEN")?;
    common(&answer, true)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn there_are_two_routes_and_no_others() -> Outcome {
    let world = World::new().await?;
    for (method, path) in [
        (Method::GET, "/deviceAuthentications"),
        (Method::PUT, "/deviceAuthentications/x"),
        (Method::POST, "/"),
        (Method::POST, "/deviceAuthentications/x/y"),
        (Method::POST, "/deviceauthentications"),
    ] {
        let request = world
            .request(method.clone(), path)
            .bearer_auth(world.token())
            .json(&demo_names());
        let answer = world.send(request).await?;
        answer.expect(404, "NOT_FOUND")?;
        common(&answer, true)?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn what_does_not_exist_is_a_404() -> Outcome {
    let world = World::new().await?;
    for (member, name) in [("userName", "nobody"), ("deviceName", "nothing")] {
        let mut body = demo_names();
        body[member] = json!(name);
        let answer = world.init_auth(world.token(), &body).await?;
        answer.expect(404, "DEVICE_NOT_FOUND")?;
        common(&answer, false)?;
    }
    for auth_id in [
        world.unknown_auth_id(),
        "x".to_owned(),
        "%00".to_owned(),
        world.unknown_auth_id().replace('-', ""),
    ] {
        let answer = world.otp(&auth_id, "123456").await?;
        answer.expect(404, "AUTH_NOT_FOUND")?;
        common(&answer, false)?;
    }
    world.end().await;
    Ok(())
}

async fn token_error(world: &World, form: &[(&str, &str)], secret: &str) -> Result<(u16, Value)> {
    let [client, _] = world.stack.clients();
    let request = world
        .at(Method::POST, &world.stack.token_url())
        .basic_auth(client.id().as_str(), Some(secret));
    let answer = world.send(request.form(form)).await?;
    Ok((answer.status, answer.member("error")))
}

#[tokio::test]
async fn the_token_endpoint_refuses_as_cognitos_does() -> Outcome {
    let world = World::new().await?;
    let [client, _] = world.stack.clients();
    let good = ("grant_type", "client_credentials");
    let secret = client.secret();
    assert_eq!(
        token_error(&world, &[good], "wrong").await?,
        (400, json!("invalid_client"))
    );
    assert_eq!(
        token_error(&world, &[good, ("scope", "mfa/nothing")], secret).await?,
        (400, json!("invalid_scope"))
    );
    assert_eq!(
        token_error(&world, &[("grant_type", "password")], secret).await?,
        (400, json!("unsupported_grant_type"))
    );
    assert_eq!(token_error(&world, &[], secret).await?, (400, json!("invalid_request")));
    world.end().await;
    Ok(())
}

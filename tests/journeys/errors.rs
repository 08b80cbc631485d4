//! What every error has in common, what the gateway refuses, and the token endpoint. Errors of a code are in `attacks`,
//! those of a failing store in `stores`.

use acceptance::{Answer, Outcome, World, demo_names};
use anyhow::Result;
use local::Claims;
use reqwest::Method;
use serde_json::{Value, json};

/// Checks what every error has in common.
fn is_an_error(answer: &Answer, from_gateway: bool) -> Outcome {
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
async fn a_malformed_body_is_refused_at_both_steps() -> Outcome {
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
            is_an_error(&answer, false)?;
        }
        let answer = send(json_type, vec![b' '; 8_193]).await?;
        answer.expect(413, "PAYLOAD_TOO_LARGE")?;
        is_an_error(&answer, false)?;
        let answer = send(Some("text/plain"), b"{}".to_vec()).await?;
        answer.expect(415, "UNSUPPORTED_MEDIA_TYPE")?;
        is_an_error(&answer, false)?;
        send(None, b"{}".to_vec()).await?.expect(400, "INVALID_REQUEST")?;
    }
    assert_eq!(world.device().await?.total_failures, 0);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_request_without_a_valid_token_is_a_401() -> Outcome {
    let world = World::new().await?;
    let [client, _] = world.stack.clients();
    let good = world.stack.claims(client)?;
    let other = World::new().await?;
    let [other_client, _] = other.stack.clients();
    let mut foreign = other.stack.claims(other_client)?;
    foreign.client_id.clone_from(&good.client_id);
    foreign.iss.clone_from(&good.iss);
    let mut tampered = world.token().to_owned();
    tampered.truncate(tampered.len() - 4);
    for token in [
        String::new(),
        "nonsense".to_owned(),
        tampered,
        other.stack.sign(&foreign)?.to_string(),
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
        is_an_error(&answer, true)?;
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let request = world
        .request(Method::POST, "/deviceAuthentications")
        .json(&demo_names());
    world.send(request).await?.expect(401, "UNAUTHORIZED")?;
    other.end().await;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_gateway_renames_a_header_of_a_401_that_a_function_sends() -> Outcome {
    let world = World::new().await?;
    let [client, _] = world.stack.clients();
    // The authorizer does not ask for a client; only a user pool of another kind issues such a token.
    let mut claims = serde_json::to_value(world.stack.claims(client)?)?;
    claims.as_object_mut().map(|claims| claims.remove("client_id"));
    let answer = world.init_auth(&world.stack.sign(&claims)?, &demo_names()).await?;
    answer.expect(401, "UNAUTHORIZED")?;
    is_an_error(&answer, false)?;
    let header = |name| answer.header(name);
    assert_eq!(
        (header("www-authenticate"), header("x-amzn-remapped-www-authenticate")),
        ("", "Bearer")
    );
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
    is_an_error(&answer, true)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn any_other_route_is_a_404() -> Outcome {
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
        is_an_error(&answer, true)?;
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
async fn the_token_endpoint_gives_the_errors_of_cognito() -> Outcome {
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

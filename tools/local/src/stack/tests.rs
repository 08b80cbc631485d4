use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client as Http, Response as HttpResponse};
use serde_json::{Value, json};
use shared::clock::Timestamp;
use shared::ports::DeviceStore as _;

use super::*;
use crate::files::DataDir;

fn http() -> Result<Http> {
    Ok(Http::builder().no_proxy().build()?)
}

async fn start(stack: &Stack, token: &str, body: &Value) -> Result<(u16, Value)> {
    post(stack, "/deviceAuthentications", token, body).await
}

async fn post(stack: &Stack, path: &str, token: &str, body: &Value) -> Result<(u16, Value)> {
    let request = http()?
        .post(format!("{}{path}", stack.api_url()))
        .bearer_auth(token)
        .json(body);
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.json().await?))
}

fn demo_device_names() -> Value {
    json!({ "userName": DEMO_USER, "deviceName": DEMO_DEVICE, "deviceType": "TOTP" })
}

/// Step 2 and step 3 with a valid code.
async fn sign_in(stack: &Stack, key: &DeviceKey, client: &Client) -> Result<u16> {
    let token = stack.token(client)?;
    let who = json!({ "userName": key.user.as_str(), "deviceName": key.device.as_str(), "deviceType": "totp" });
    let (status, started) = start(stack, &token, &who).await?;
    ensure!(status == 201, "{status} {started}");
    let path = format!(
        "/deviceAuthentications/{}",
        started["authId"].as_str().context("no authId")?
    );
    let code = stack.code(key).await?;
    Ok(post(stack, &path, &token, &json!({ "otp": code.single() })).await?.0)
}

#[tokio::test]
async fn a_refusal_of_the_gateway_has_our_body_and_headers() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let [client, _] = stack.clients();
    let url = format!("{}/deviceAuthentications", stack.api_url());
    let (valid, claims) = (stack.token(client)?, stack.claims(client)?);
    let expired = stack.sign(&Claims {
        exp: claims.iat,
        ..claims.clone()
    })?;
    let other_scope = stack.sign(&Claims {
        scope: "mfa/other".to_owned(),
        ..claims
    })?;
    let long = vec![b' '; 10 * 1_024 * 1_024 + 1];
    let post = |token: &str| http().map(|http| http.post(&url).bearer_auth(token).body("{}"));
    for (request, status, code) in [
        (http()?.post(&url), 401, "UNAUTHORIZED"),
        (post("x")?, 401, "UNAUTHORIZED"),
        (post(&expired)?, 401, "UNAUTHORIZED"),
        (post(&other_scope)?, 403, "FORBIDDEN"),
        (http()?.get(&url).bearer_auth(&*valid), 404, "NOT_FOUND"),
        (http()?.post(stack.origin()), 404, "NOT_FOUND"),
        (post(&valid)?.body(long), 413, "PAYLOAD_TOO_LARGE"),
    ] {
        let response: HttpResponse = request.send().await?;
        let headers = response.headers().clone();
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        assert_eq!(
            (response.status().as_u16(), header("content-type")),
            (status, Some("application/json")),
            "{code}"
        );
        assert_eq!(header("cache-control"), Some("no-store"), "{code}");
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "{code}");
        assert_eq!(
            header("www-authenticate"),
            (status == 401).then_some("Bearer"),
            "{code}"
        );
        let body: Value = response.json().await?;
        let trace_id = header("x-amz-apigw-id").context("no id")?;
        let (outcome, message) = (&body["status"], &body["message"]);
        let expected = json!({ "status": outcome, "code": code, "message": message, "traceId": trace_id });
        assert_eq!((&body, outcome.as_str()), (&expected, Some("FAILED")));
    }
    assert!(stack.log_lines().is_empty(), "no function was called");
    assert_eq!(stack.access_lines().len(), 7);
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_token_from_the_token_endpoint_opens_the_api() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let [client, _] = stack.clients();
    let request = http()?
        .post(stack.token_url())
        .form(&[("grant_type", "client_credentials")]);
    let response = request
        .basic_auth(client.id().as_str(), Some(client.secret()))
        .send()
        .await?;
    assert_eq!(response.headers()["cache-control"], "no-store");
    let answer: Value = response.json().await?;
    let token = answer["access_token"].as_str().context("no token")?;
    assert_eq!(start(&stack, token, &demo_device_names()).await?.0, 201);

    let wrong = http()?
        .post(stack.token_url())
        .form(&[("grant_type", "client_credentials")]);
    let wrong = wrong.basic_auth(client.id().as_str(), Some("wrong")).send().await?;
    assert_eq!(
        (wrong.status().as_u16(), wrong.text().await?),
        (400, "{\"error\":\"invalid_client\"}".to_owned())
    );
    let no_form = http()?.post(stack.token_url()).body("{}").send().await?;
    assert_eq!(
        (no_form.status().as_u16(), no_form.text().await?),
        (400, "{\"error\":\"invalid_request\"}".to_owned())
    );

    let keys: Value = http()?.get(stack.jwks_url()).send().await?.json().await?;
    let below_the_issuer = format!("{}/.well-known/jwks.json", stack.claims(client)?.iss);
    assert_eq!(http()?.get(below_the_issuer).send().await?.json::<Value>().await?, keys);
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn the_clock_and_the_codes_are_available_over_http() -> Result<()> {
    let clock = Arc::new(LocalClock::still(Timestamp::from_secs(1_800_000_000)));
    let stack = Stack::start(Options {
        clock: Some(clock),
        ..Options::default()
    })
    .await?;
    let (clock_url, code_url) = (
        format!("{}/_local/clock", stack.origin()),
        format!("{}/_local/code", stack.origin()),
    );
    let before = stack.code(&stack.demo().key).await?;
    for (seconds, now, offset) in [
        (60, "2027-01-15T08:01:00.000Z", 60),
        (-90, "2027-01-15T07:59:30.000Z", -30),
    ] {
        let moved = http()?
            .post(&clock_url)
            .json(&json!({ "advanceSeconds": seconds }))
            .send()
            .await?;
        assert_eq!(
            moved.json::<Value>().await?,
            json!({ "now": now, "offsetSeconds": offset })
        );
    }
    let query = [("userName", DEMO_USER), ("deviceName", DEMO_DEVICE)];
    let code_url = reqwest::Url::parse_with_params(&code_url, query)?;
    let codes: Value = http()?.get(code_url.clone()).send().await?.json().await?;
    let demo = stack.code(&stack.demo().key).await?;
    assert_eq!(codes, json!({ "otp": demo.single(), "otps": demo.pair() }));
    assert_eq!(demo.pair()[1], before.single(), "one step back");

    let [_, second] = stack.clients();
    let other = reqwest::Url::parse_with_params(code_url.as_str(), [("clientId", second.id().as_str())])?;
    assert_eq!(http()?.get(other).send().await?.status().as_u16(), 404);
    for (body, fix) in [
        ("", "a whole number"),
        ("{}", "a whole number"),
        ("{\"advanceSeconds\":null}", "a whole number"),
        ("{\"advanceSeconds\":1.5}", "a whole number"),
        ("{\"advanceSeconds\":1e3}", "a whole number"),
        ("{\"advanceSeconds\":\"60\"}", "a whole number"),
        ("{\"advanceSeconds\":60,\"to\":1}", "a whole number"),
        ("{\"advanceSeconds\":99999999999999999999}", "a whole number"),
        ("{\"advanceSeconds\":9223372036854775807}", "send fewer seconds"),
        ("{\"advanceSeconds\":-9223372036854775808}", "send fewer seconds"),
        ("{\"advanceSeconds\":253402300799}", "send fewer seconds"),
        ("{\"advanceSeconds\":-1800000000}", "send fewer seconds"),
    ] {
        let bad = http()?.post(&clock_url).body(body).send().await?;
        let status = bad.status().as_u16();
        let error = bad.json::<Value>().await?["error"].to_string();
        assert!(status == 400 && error.contains(fix), "{body}: {status} {error}");
    }
    assert_eq!(stack.clock().offset_seconds(), -30);
    let foreign = http()?.get(code_url).header("host", "evil.example").send().await?;
    assert_eq!(foreign.status().as_u16(), 403);
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_stack_continues_from_its_data_directory() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let open = || -> Result<Options> {
        Ok(Options {
            data_dir: Some(DataDir::open(folder.path())?),
            ..Options::default()
        })
    };
    let stack = Stack::start(open()?).await?;
    stack.advance(Duration::from_hours(24))?;
    let (key, seed) = (stack.demo().key.clone(), stack.demo().seed.to_base32());
    let credentials = stack
        .clients()
        .map(|client| (client.id().clone(), client.secret().to_owned()));
    assert_eq!(sign_in(&stack, &key, stack.clients()[0]).await?, 200);
    stack.shutdown().await;

    let stack = Stack::start(open()?).await?;
    assert_eq!(stack.clock().offset_seconds(), 86_400);
    assert_eq!(
        stack
            .clients()
            .map(|client| (client.id().clone(), client.secret().to_owned())),
        credentials
    );
    assert_eq!((&stack.demo().key, stack.demo().seed.to_base32()), (&key, seed));
    assert!(
        stack.demo().device.last_step.0 > 0,
        "the code from before the restart is remembered"
    );
    stack.advance(Duration::from_mins(1))?;
    assert_eq!(sign_in(&stack, &key, stack.clients()[0]).await?, 200);
    stack.shutdown().await;

    let other_seed = Some(new_seed(OtpParameters::default())?);
    let refused = Stack::start(Options {
        demo_seed: other_seed,
        ..open()?
    })
    .await;
    assert!(refused.is_err_and(|error| error.to_string().contains("another seed")));
    Ok(())
}

#[tokio::test]
async fn a_stack_can_replace_another_on_the_same_stores() -> Result<()> {
    let clock = Arc::new(LocalClock::still(Timestamp::from_secs(1_800_000_000)));
    let stores = Arc::new(Stores::start(None, &clock).await?);
    let identity = Identity::generate()?;
    let options = || Options {
        clock: Some(Arc::clone(&clock)),
        stores: Some(Arc::clone(&stores)),
        identity: Some(identity.clone()),
        ..Options::default()
    };
    let (one, two) = (Stack::start(options()).await?, Stack::start(options()).await?);
    let key = one.demo().key.clone();
    assert_eq!(sign_in(&one, &key, one.clients()[0]).await?, 200);
    assert_eq!(sign_in(&two, &key, two.clients()[0]).await?, 422, "the code is used");
    one.shutdown().await;
    two.advance(Duration::from_secs(30))?;
    assert_eq!(sign_in(&two, &key, two.clients()[0]).await?, 200);
    two.shutdown().await;
    stores.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn functions_can_use_other_endpoints_and_be_restarted() -> Result<()> {
    // Nothing listens there.
    let (listener, port) = bind(0)?;
    drop(listener);
    let functions_dynamodb_url = Some(format!("http://127.0.0.1:{port}"));
    let stack = Stack::start(Options {
        functions_dynamodb_url,
        ..Options::default()
    })
    .await?;
    let token = stack.token(stack.clients()[0])?;
    let (status, body) = start(&stack, &token, &demo_device_names()).await?;
    assert_eq!((status, &body["code"]), (503, &json!("SERVICE_UNAVAILABLE")));
    assert!(
        stack.devices().get(&stack.demo().key).await?.is_some(),
        "the stack itself reaches the store"
    );
    stack.shutdown().await;

    let stack = Stack::start(Options::default()).await?;
    assert_eq!(sign_in(&stack, &stack.demo().key, stack.clients()[0]).await?, 200);
    stack.cold_start()?;
    stack.advance(Duration::from_secs(30))?;
    assert_eq!(sign_in(&stack, &stack.demo().key, stack.clients()[0]).await?, 200);
    let reads_of_the_seed = stack
        .log_lines()
        .iter()
        .filter(|line| line.contains("\"secretsManagerCalls\":1"))
        .count();
    assert_eq!(reads_of_the_seed, 2, "one for each start");
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn devices_can_be_registered_and_removed() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let [_, client] = stack.clients();
    let parameters = OtpParameters {
        digits: shared::otp::Digits::Eight,
        ..OtpParameters::default()
    };
    let registered = stack
        .register_device(client.id(), "me+tag@example.com", "phone", parameters)
        .await?;
    assert!(
        stack
            .register_device(client.id(), "me+tag@example.com", "phone", parameters)
            .await
            .is_err()
    );
    assert_eq!(stack.code(&registered.key).await?.single().len(), 8);
    assert_eq!(sign_in(&stack, &registered.key, client).await?, 200);
    stack.remove_device(&registered.key).await?;
    assert!(stack.code(&registered.key).await.is_err());
    // Names of seeds are random, so the block of the old name does not matter.
    stack
        .register_device(client.id(), "me+tag@example.com", "phone", parameters)
        .await?;
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn an_event_can_bypass_the_gateway() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let claims = json!({ "client_id": stack.clients()[0].id().as_str(), "scope": "mfa/authenticate" });
    let event = json!({
        "resource": "/deviceAuthentications", "path": "/deviceAuthentications", "httpMethod": "POST",
        "headers": {}, "multiValueHeaders": {}, "body": demo_device_names().to_string(), "isBase64Encoded": false,
        "requestContext": {
            "httpMethod": "POST", "stage": "v1", "path": "/v1/deviceAuthentications", "extendedRequestId": "x",
            "identity": {}, "authorizer": { "claims": claims },
        },
    });
    let response = stack.invoke(Function::InitAuth, &event.to_string()).await?;
    assert_eq!(response.status().as_u16(), 201);
    for other in ["{}", "[]", "null", "not JSON"] {
        assert_eq!(stack.invoke(Function::InitAuth, other).await?.status().as_u16(), 400);
    }
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_reported() -> Result<()> {
    let (_listener, port) = bind(0)?;
    let error = Stack::start(Options {
        port,
        ..Options::default()
    })
    .await
    .err()
    .context("it started")?;
    assert_eq!(error.downcast_ref::<PortTaken>().map(|taken| taken.0), Some(port));
    Ok(())
}

#[tokio::test]
async fn a_shutdown_ends_even_a_request_that_never_ends() -> Result<()> {
    use std::io::Write as _;

    let stack = Stack::start(Options::default()).await?;
    let address = stack.origin().trim_start_matches("http://").to_owned();
    let mut half = TcpStream::connect(&address)?;
    half.write_all(b"POST /v1/deviceAuthentications HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\n")?;
    stack.shutdown().await;
    assert!(TcpStream::connect(&address).is_err());
    let mut rest = Vec::new();
    let ended = std::io::Read::read_to_end(&mut half, &mut rest);
    assert!(
        ended.is_err() || rest.is_empty(),
        "the connection was closed without an answer"
    );
    Ok(())
}

#[tokio::test]
async fn secrets_are_not_in_debug_output() -> Result<()> {
    let stack = Stack::start(Options::default()).await?;
    let shown = format!(
        "{stack:?} {:?} {:?}",
        stack.demo(),
        stack.code(&stack.demo().key).await?
    );
    for secret in [
        stack.clients()[0].secret(),
        &stack.demo().seed.to_base32(),
        stack.code(&stack.demo().key).await?.single(),
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn the_sdk_can_describe_the_pool() -> Result<()> {
    use aws_sdk_cognitoidentityprovider::types::{DeletionProtectionType, OAuthFlowType};

    let stack = Stack::start(Options::default()).await?;
    let settings = aws_sdk_cognitoidentityprovider::config::Builder::from(&stack.stores().clients().config)
        .endpoint_url(stack.cognito_url());
    let cognito = aws_sdk_cognitoidentityprovider::Client::from_conf(settings.build());

    let described = cognito
        .describe_user_pool()
        .user_pool_id(stack.user_pool_id())
        .send()
        .await?;
    let pool = described.user_pool().context("no pool")?;
    assert_eq!(pool.id(), Some(stack.user_pool_id()));
    assert_eq!(pool.deletion_protection(), Some(&DeletionProtectionType::Inactive));
    let own_arn = format!(
        "arn:aws:cognito-idp:us-east-1:123456789012:userpool/{}",
        stack.user_pool_id()
    );
    assert_eq!(pool.arn(), Some(own_arn.as_str()));

    let server = |identifier: &str| {
        let request = cognito.describe_resource_server().user_pool_id(stack.user_pool_id());
        request.identifier(identifier).send()
    };
    let described = server("mfa").await?;
    let described = described.resource_server().context("no resource server")?;
    assert_eq!(
        (described.identifier(), described.user_pool_id()),
        (Some("mfa"), Some(stack.user_pool_id()))
    );
    let scopes: Vec<_> = described
        .scopes()
        .iter()
        .map(|scope| format!("mfa/{}", scope.scope_name()))
        .collect();
    assert_eq!(scopes, ["mfa/authenticate", "mfa/devices"]);
    let none = server("other").await.err().context("another resource server")?;
    assert!(none.into_service_error().is_resource_not_found_exception());

    for own in stack.clients() {
        let request = cognito.describe_user_pool_client().user_pool_id(stack.user_pool_id());
        let described = request.client_id(own.id().as_str()).send().await?;
        let client = described.user_pool_client().context("no client")?;
        assert_eq!(client.allowed_o_auth_flows(), [OAuthFlowType::ClientCredentials]);
        assert_eq!(client.allowed_o_auth_flows_user_pool_client(), Some(true));
        assert_eq!(client.allowed_o_auth_scopes(), scopes);
    }
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn every_answer_of_every_server_has_the_date_of_the_stacks_clock() -> Result<()> {
    let options = Options {
        clock: Some(Arc::new(LocalClock::still(Timestamp::from_secs(1_800_000_000)))),
        ..Options::default()
    };
    let stack = Stack::start(options).await?;
    let stores = stack.stores();
    let api = format!("{}/deviceAuthentications", stack.api_url());
    for expected in ["Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 09:00:00 GMT"] {
        // Errors have one too.
        for url in [
            stack.cognito_url(),
            stores.dated_dynamodb_url(),
            stores.secrets_manager_url(),
        ] {
            for request in [http()?.post(url).body("{"), http()?.get(url)] {
                assert_eq!(request.send().await?.headers()["date"], expected, "{url}");
            }
        }
        let target = "AWSCognitoIdentityProviderService.DescribeUserPool";
        let pool = json!({ "UserPoolId": stack.user_pool_id() });
        let described = http()?
            .post(stack.cognito_url())
            .header("x-amz-target", target)
            .json(&pool);
        let described = described.send().await?.error_for_status()?;
        assert_eq!(described.headers()["date"], expected);
        assert_eq!(http()?.post(&api).send().await?.headers()["date"], expected);
        stack.advance(Duration::from_hours(1))?;
    }
    stack.shutdown().await;
    Ok(())
}

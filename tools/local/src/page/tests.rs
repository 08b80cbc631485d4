use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use reqwest::{Client as Http, RequestBuilder, Response as HttpResponse};
use serde_json::{Value, json};
use shared::clock::Timestamp;

use super::{CONTENT_POLICY, FILES};
use crate::stores::devices::{DEMO_DEVICE, DEMO_USER};
use crate::{LocalClock, Options, Stack};

const READS: [&str; 4] = [
    "/_local/stack",
    "/_local/device?userName=demouser&deviceName=mydevice",
    "/_local/qr?userName=demouser&deviceName=mydevice",
    "/_local/log?after=0",
];

/// A stack whose clock stands still.
async fn start() -> Result<Stack> {
    let clock = Some(Arc::new(LocalClock::still(Timestamp::from_secs(1_800_000_000))));
    Stack::start(Options {
        clock,
        ..Options::default()
    })
    .await
}

fn get(stack: &Stack, path: &str) -> Result<RequestBuilder> {
    Ok(Http::builder()
        .no_proxy()
        .build()?
        .get(format!("{}{path}", stack.origin())))
}

async fn read(stack: &Stack, path: &str) -> Result<Value> {
    Ok(get(stack, path)?.send().await?.error_for_status()?.json().await?)
}

/// Step 2, then step 3 with a body.
async fn attempt(stack: &Stack, body: &Value) -> Result<u16> {
    let http = Http::builder().no_proxy().build()?;
    let token = stack.token(stack.clients()[0])?;
    let url = format!("{}/deviceAuthentications", stack.api_url());
    let names = json!({ "userName": DEMO_USER, "deviceName": DEMO_DEVICE, "deviceType": "TOTP" });
    let started: Value = http
        .post(&url)
        .bearer_auth(&*token)
        .json(&names)
        .send()
        .await?
        .json()
        .await?;
    let auth_id = started["authId"].as_str().context("no authId")?;
    let sent = http.post(format!("{url}/{auth_id}")).bearer_auth(&*token).json(body);
    Ok(sent.send().await?.status().as_u16())
}

fn header<'a>(response: &'a HttpResponse, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

#[tokio::test]
async fn every_answer_for_the_page_has_a_strict_policy_and_no_other_site_gets_it() -> Result<()> {
    let stack = start().await?;
    let files = FILES.map(|(path, ..)| path);
    for path in files.into_iter().chain(READS) {
        let answer = get(&stack, path)?.send().await?;
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        for (name, value) in [
            ("content-security-policy", CONTENT_POLICY),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(header(&answer, name), Some(value), "{path}");
        }
        assert_eq!(header(&answer, "access-control-allow-origin"), None, "{path}");
        let foreign = get(&stack, path)?.header("host", "evil.example").send().await?;
        assert_eq!(foreign.status().as_u16(), 403, "{path}");
    }
    for path in READS {
        let other_site = get(&stack, path)?.header("sec-fetch-site", "cross-site").send().await?;
        assert_eq!(other_site.status().as_u16(), 403, "{path}");
    }
    let clock = Http::builder()
        .no_proxy()
        .build()?
        .post(format!("{}/_local/clock", stack.origin()));
    let moved = clock
        .header("origin", "http://evil.example")
        .body("{\"advanceSeconds\":60}");
    assert_eq!(
        (moved.send().await?.status().as_u16(), stack.clock().offset_seconds()),
        (403, 0)
    );
    assert!(!CONTENT_POLICY.contains("unsafe"));
    assert_eq!(
        stack.access_lines().len(),
        1,
        "the move of the clock; the page polls, and is not logged"
    );
    stack.shutdown().await;
    Ok(())
}

#[test]
fn every_file_that_the_page_names_is_served() {
    let named = FILES.iter().flat_map(|(_, _, content)| content.split('"'));
    let named: HashSet<String> = named
        .filter_map(|text| {
            text.strip_prefix("./")
                .map(|name| format!("/page/{name}"))
                .or_else(|| text.starts_with("/page/").then(|| text.to_owned()))
        })
        .collect();
    let served = FILES
        .iter()
        .map(|(path, ..)| (*path).to_owned())
        .filter(|path| path != "/");
    assert_eq!(named, served.collect());
}

#[tokio::test]
async fn the_state_of_a_device_is_that_of_the_store() -> Result<()> {
    let stack = start().await?;
    let before = read(&stack, READS[1]).await?;
    assert_eq!(
        (&before["now"], &before["offsetSeconds"]),
        (&json!("2027-01-15T08:00:00.000Z"), &json!(0))
    );
    let codes = stack.code(&stack.demo().key).await?;
    assert_eq!(
        before["device"]["codes"],
        json!({ "otp": codes.single(), "otps": codes.pair(), "periodSeconds": 30 })
    );
    assert_eq!(attempt(&stack, &json!({ "otp": codes.single() })).await?, 200);
    for _ in 0..5 {
        assert_eq!(attempt(&stack, &json!({ "otp": codes.single() })).await?, 422);
    }
    let mut device = read(&stack, READS[1]).await?["device"].take();
    let seed = device["seed"].take();
    assert_eq!(seed, before["device"]["seed"]);
    let expected = json!({
        "status": "ACTIVE", "consecutiveFailures": 5, "totalFailures": 5, "singleCodesOpen": false,
        "singleCodesAt": "2027-01-15T08:00:30Z", "pairsAt": "1970-01-01T00:00:00Z", "budget": 20, "budgetLeft": 15,
        "step": 60_000_000, "lastStep": 60_000_000, "seed": null, "codes": before["device"]["codes"],
        "pendingCodes": null,
    });
    assert_eq!(device, expected);

    let log = read(&stack, READS[3]).await?;
    assert_eq!(
        (&log["last"], &log["lines"][11]["outcome"]),
        (&json!(12), &json!("OTP_REPLAYED"))
    );
    assert_eq!(
        read(&stack, "/_local/log?after=12").await?,
        json!({ "last": 12, "lines": [] })
    );
    let unknown = read(&stack, "/_local/device?userName=demouser&deviceName=other").await?;
    assert_eq!(unknown["device"], Value::Null);
    stack.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn the_page_gets_credentials_that_work() -> Result<()> {
    let stack = start().await?;
    let description = read(&stack, READS[0]).await?;
    let [client, _] = stack.clients();
    let demo = json!({ "userName": DEMO_USER, "deviceName": DEMO_DEVICE });
    let expected = json!({
        "apiPath": "/v1", "tokenPath": "/oauth2/token", "clientId": client.id().as_str(), "clientSecret": client.secret(),
        "demo": demo,
    });
    assert_eq!(description, expected);
    stack.shutdown().await;
    Ok(())
}

/// What an independent decoder reads in the picture, in which a module is `M{x} {y}h8v8H{x}V{y}`.
fn decode(picture: &str) -> Result<String> {
    let (_, path) = picture.split_once(" d=\"M").context("no path")?;
    let (path, _) = path.split_once('"').context("no end")?;
    let corners: HashSet<&str> = path.split('M').filter_map(|module| module.split('h').next()).collect();
    let (_, side) = picture.split_once(" width=\"").context("no width")?;
    let side: usize = side.split('"').next().context("no width")?.parse()?;
    let is_dark = |x: usize, y: usize| corners.contains(format!("{} {}", x / 8 * 8, y / 8 * 8).as_str());
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(side, side, |x, y| if is_dark(x, y) { 0 } else { 255 });
    let (_, text) = image.detect_grids().first().context("no code")?.decode()?;
    Ok(text)
}

#[tokio::test]
async fn the_qr_code_is_that_of_the_seed_to_scan_next() -> Result<()> {
    let stack = start().await?;
    let picture =
        async || Ok::<_, anyhow::Error>(get(&stack, READS[2])?.send().await?.error_for_status()?.text().await?);
    let uri = decode(&picture().await?)?;
    let own = format!(
        "otpauth://totp/Local:demouser%20%28mydevice%29?secret={}&issuer=Local&algorithm=SHA1&digits=6&period=30",
        *stack.demo().seed.to_base32()
    );
    assert_eq!(uri, own);

    // A replacement waits: the app has to scan it, and both seeds have codes.
    let http = Http::builder().no_proxy().build()?;
    let request = http.post(format!("{}/users/{DEMO_USER}/mfadevices", stack.api_url()));
    let body = json!({ "deviceType": "TOTP", "deviceName": DEMO_DEVICE, "replace": true });
    let request = request.bearer_auth(&*stack.token(stack.clients()[0])?).json(&body);
    let registered: Value = request.send().await?.error_for_status()?.json().await?;
    assert_eq!(registered["registrationUri"], decode(&picture().await?)?);
    let device = read(&stack, READS[1]).await?["device"].take();
    let single = stack.code(&stack.demo().key).await?.single().to_owned();
    assert_eq!(device["codes"]["otp"], single);
    assert_ne!(device["pendingCodes"]["otps"], device["codes"]["otps"]);
    stack.advance(std::time::Duration::from_mins(11))?;
    assert_eq!(decode(&picture().await?)?, own, "the replacement expired");

    let unknown = get(&stack, "/_local/qr?userName=demouser&deviceName=other")?
        .send()
        .await?;
    assert_eq!(unknown.status().as_u16(), 404);
    stack.shutdown().await;
    Ok(())
}

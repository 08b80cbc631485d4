//! Raw bytes over a connection to the local gateway: what the gateway refuses, and what reaches a function.

use acceptance::{Outcome, World};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::runner::MARKER;

const NAMES: &str = r#"{"userName":"demouser","deviceName":"mydevice","deviceType":"TOTP"}"#;

/// The answer. The status is 0 if the connection was closed without one.
#[derive(Debug)]
struct RawAnswer {
    status: u16,
    head: String,
    body: String,
}

/// Sends bytes as they are, and reads until the connection is closed. If `more` is false, it first closes its own
/// direction.
async fn exchange(world: &World, bytes: &[u8], more: bool) -> Result<RawAnswer> {
    let address = world.stack.origin().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(address).await?;
    // A server that refuses early may close before it has read everything.
    let _ = connection.write_all(bytes).await;
    if !more {
        connection.shutdown().await?;
    }
    let mut read = Vec::new();
    let _ = connection.read_to_end(&mut read).await;
    let text = String::from_utf8(read)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).map(str::parse).transpose()?;
    Ok(RawAnswer {
        status: status.unwrap_or_default(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

fn head(world: &World, line: &str, more: &str) -> Vec<u8> {
    let (token, marker) = (world.token(), MARKER.as_str());
    format!("{line}\r\nauthorization: Bearer {token}\r\nconnection: close\r\nx-marker: {marker}\r\n{more}\r\n\r\n")
        .into()
}

fn post(world: &World, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let more = format!("host: localhost\r\ncontent-length: {}{headers}", body.len());
    [head(world, &format!("POST {path} HTTP/1.1"), &more), body.to_vec()].concat()
}

fn parse_answer(answer: &RawAnswer) -> Result<Option<Value>> {
    ensure!(answer.status < 500, "{answer:?}");
    ensure!(
        !answer.head.contains(&MARKER.to_ascii_lowercase()),
        "an echo: {answer:?}"
    );
    ensure!(!answer.body.contains(MARKER.as_str()), "an echo: {answer:?}");
    if !answer.head.contains("content-type: application/json") {
        // Refused by the HTTP library, before the gateway.
        ensure!(
            answer.body.is_empty() && matches!(answer.status, 0 | 400 | 431),
            "{answer:?}"
        );
        return Ok(None);
    }
    ensure!(answer.head.contains("cache-control: no-store"), "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).with_context(|| format!("{answer:?}"))?;
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    if answer.status < 400 {
        ensure!(text("status") == Some("SUCCESS"), "{answer:?}");
    } else {
        ensure!(text("status") == Some("FAILED"), "{answer:?}");
        ensure!(text("code").is_some() && text("traceId").is_some(), "{answer:?}");
    }
    Ok(Some(body))
}

const START: &str = "/v1/deviceAuthentications";

/// A description, the bytes, whether the connection stays open for more, and the right statuses. 0 is a closed
/// connection, which may come before the answer to a long head could be read.
type Case<'a> = (&'a str, Vec<u8>, bool, &'a [u16]);

async fn are_refused(world: &World, cases: Vec<Case<'_>>) -> Outcome {
    for (what, bytes, more, statuses) in cases {
        let answer = exchange(world, &bytes, more).await?;
        parse_answer(&answer).with_context(|| what.to_owned())?;
        ensure!(statuses.contains(&answer.status), "{what}: {answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_does_no_harm() -> Outcome {
    let world = World::new().await?;
    let line = &format!("POST {START} HTTP/1.1");
    let with = |more: &str, body: &str| [head(&world, line, more), body.as_bytes().to_vec()].concat();
    let length = |lengths: &str| with(&format!("host: x\r\ncontent-length: {lengths}"), NAMES);
    let coded = |coding: &str, body: &str| with(&format!("host: x\r\ntransfer-encoding: {coding}"), body);
    let whole = format!("{:x}\r\n{NAMES}\r\n0\r\n\r\n", NAMES.len());
    let cases: Vec<Case<'_>> = vec![
        ("nothing", vec![], false, &[0]),
        ("a longer length than the body", length("500"), false, &[400]),
        ("a length that is not a number", length("ten"), true, &[400]),
        ("a negative length", length("-1"), true, &[400]),
        (
            "a length beyond any number",
            length("99999999999999999999"),
            true,
            &[400],
        ),
        ("two lengths", length("3\r\ncontent-length: 4"), true, &[400]),
        ("a shorter length", length("3"), true, &[400]),
        (
            "a chunk size that is not a number",
            coded("chunked", "zz\r\n{}\r\n0\r\n\r\n"),
            true,
            &[400],
        ),
        (
            "a last chunk that never comes",
            coded("chunked", "2\r\n{}\r\n"),
            false,
            &[400],
        ),
        ("a chunk without its end", coded("chunked", "5\r\n{}"), false, &[400]),
        ("chunks of names", coded("chunked", &whole), true, &[201]),
        ("an unknown coding", coded("rot13", NAMES), true, &[400]),
        (
            "a length and chunks",
            coded("chunked\r\ncontent-length: 5", &whole),
            true,
            &[201],
        ),
    ];
    are_refused(&world, cases).await?;
    is_unharmed(world, 0).await
}

#[tokio::test]
async fn a_malformed_http_head_does_no_harm() -> Outcome {
    let world = World::new().await?;
    let starting = |line: &str| head(&world, line, "host: x");
    let with = |more: &str| head(&world, &format!("POST {START} HTTP/1.1"), &format!("host: x\r\n{more}"));
    let long = "x".repeat(1_000_000);
    let many = "x: y\r\n".repeat(500);
    let cases: Vec<Case<'_>> = vec![
        ("garbage", b"\x16\x03\x01\x02\0\x01\0\xff\r\n\r\n".into(), true, &[400]),
        (
            "a long line",
            starting(&format!("POST {START}?{long} HTTP/1.1")),
            true,
            &[0, 431],
        ),
        ("a long header", with(&format!("x: {long}")), true, &[0, 431]),
        ("many headers", with(&format!("{many}x: y")), true, &[0, 431]),
        ("a header without a colon", with("broken"), true, &[400]),
        ("an invalid header name", with("b\u{e9}: y"), true, &[400]),
        ("a folded header", with("x: y\r\n z"), true, &[400]),
        (
            "no such version",
            starting(&format!("POST {START} HTTP/7.1")),
            true,
            &[400],
        ),
        (
            "an old version",
            starting(&format!("POST {START} HTTP/1.0")),
            true,
            &[400],
        ),
        (
            "no host",
            head(&world, &format!("POST {START} HTTP/1.1"), "accept: */*"),
            true,
            &[400],
        ),
        ("no path", starting("POST * HTTP/1.1"), true, &[400, 404]),
        ("spaces", starting(&format!("POST {START} x HTTP/1.1")), true, &[400]),
        (
            "an invalid method",
            starting(&format!("P@ST {START} HTTP/1.1")),
            true,
            &[400, 404],
        ),
    ];
    are_refused(&world, cases).await?;
    is_unharmed(world, 0).await
}

const JSON: &str = "\r\ncontent-type: application/json";

async fn gets(world: &World, path: &str, headers: &str, body: &[u8], status: u16, code: &str) -> Outcome {
    let answer = exchange(world, &post(world, path, headers, body), true).await?;
    let body = parse_answer(&answer)
        .with_context(|| path.to_owned())?
        .unwrap_or_default();
    let same = answer.status == status && body.get("code").and_then(Value::as_str).unwrap_or_default() == code;
    ensure!(same, "{path}{headers}: expected {status} {code}, got {answer:?}");
    Ok(())
}

#[tokio::test]
async fn a_start_gets_its_documented_answer() -> Outcome {
    let world = World::new().await?;
    let marker = MARKER.as_str();
    let huge = vec![b' '; 10 * 1_024 * 1_024 + 1];
    let named = |more: &str| NAMES.replace('}', &format!(",{more}}}")).into_bytes();
    let two_types = format!("{JSON}\r\ncontent-type: text/plain");
    for (headers, body, status, code) in [
        (JSON, NAMES.into(), 201, ""),
        ("", NAMES.into(), 201, ""),
        (
            "\r\nx-forwarded-proto: 1 2\r\nx-forwarded-host: [",
            NAMES.into(),
            201,
            "",
        ),
        (JSON, named(&format!("\"{marker}\":\"{marker}\"")), 201, ""),
        (JSON, named("\"x\":\"\\ud800\""), 201, ""),
        (
            "\r\ncontent-type: text/plain",
            NAMES.into(),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (&two_types, NAMES.into(), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (JSON, b"".into(), 400, "INVALID_REQUEST"),
        (JSON, b"{\"userName\":\"\xff\"}".into(), 400, "INVALID_REQUEST"),
        (JSON, b"\xff\xfe".into(), 400, "INVALID_REQUEST"),
        (JSON, marker.into(), 400, "INVALID_REQUEST"),
        (JSON, vec![b' '; 8_193], 413, "PAYLOAD_TOO_LARGE"),
        (JSON, huge, 413, "PAYLOAD_TOO_LARGE"),
    ] {
        gets(&world, START, headers, &body, status, code).await?;
    }
    for path in [
        "/v1/deviceAuthentications?%zz=%&=&&x=%ff",
        "/v1/deviceAuthentications/",
        "http://x/v1/deviceAuthentications",
    ] {
        gets(&world, path, JSON, NAMES.as_bytes(), 201, "").await?;
    }
    for path in [
        "/v1/../v1/deviceAuthentications",
        "/v1/%64eviceAuthentications",
        "/%zz",
        "//",
    ] {
        gets(&world, path, JSON, NAMES.as_bytes(), 404, "NOT_FOUND").await?;
    }
    for host in ["[:a b", "\u{e9}", "a b", "http://x", ""] {
        let more = format!("host: {host}\r\ncontent-length: {}", NAMES.len());
        let bytes = [head(&world, &format!("POST {START} HTTP/1.1"), &more), NAMES.into()].concat();
        let answer = exchange(&world, &bytes, true).await?;
        parse_answer(&answer)?;
        ensure!(matches!(answer.status, 201 | 400), "{host}: {answer:?}");
    }
    is_unharmed(world, 0).await
}

#[tokio::test]
async fn an_attempt_gets_its_documented_answer() -> Outcome {
    let world = World::new().await?;
    let wrong = format!("{{\"otp\":\"{}\"}}", world.wrong_code()?);
    for path in ["..", "%2e%2e%2f%00%ff%zz", "a+b@example.com", MARKER.as_str()] {
        let path = format!("{START}/{path}");
        gets(&world, &path, JSON, wrong.as_bytes(), 404, "AUTH_NOT_FOUND").await?;
    }
    let path = format!("{START}/{}", world.start().await?);
    for (body, status, code) in [
        ("{\"otp\":123456}", 400, "INVALID_REQUEST"),
        (
            "{\"otp\":\"\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}\"}",
            400,
            "INVALID_REQUEST",
        ),
        ("{\"otp\":\"12\u{a0}3456\"}", 400, "INVALID_REQUEST"),
        (&wrong, 422, "OTP_REJECTED"),
    ] {
        gets(&world, &path, JSON, body.as_bytes(), status, code).await?;
    }
    is_unharmed(world, 1).await
}

/// Checks that nothing of it was logged, nothing else was counted, and a right code is still right.
async fn is_unharmed(world: World, failures: u64) -> Outcome {
    for line in [world.stack.log_lines(), world.stack.access_lines()].concat() {
        ensure!(!line.contains(MARKER.as_str()), "an echo in the log: {line}");
        let line: Value = serde_json::from_str(&line)?;
        let status = line.get("status").and_then(Value::as_u64);
        ensure!(status.is_some_and(|status| status < 500), "{line}");
    }
    assert_eq!(world.device().await?.total_failures, failures);
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_path_without_a_name_is_refused() -> Outcome {
    let world = World::new().await?;
    let long = "x".repeat(129);
    let refused = [
        "%c3%28", "%2e%2e", "%2E", ".", "..", "%00", "a%0Ab", "%", "%zz", "%20a", &long,
    ];
    let list = |user: &str, statuses: &'static [u16]| -> Case<'static> {
        let line = format!("GET /v1/users/{user}/mfadevices HTTP/1.1");
        ("a user", head(&world, &line, "host: x"), true, statuses)
    };
    let remove = |device: &str, statuses: &'static [u16]| -> Case<'static> {
        let line = format!("DELETE /v1/users/a/mfadevices/TOTP/{device} HTTP/1.1");
        ("a device", head(&world, &line, "host: x"), true, statuses)
    };
    let mut cases: Vec<_> = refused.iter().map(|name| list(name, &[400])).collect();
    cases.extend(refused.iter().map(|name| remove(name, &[400])));
    // The gateway has no such route.
    cases.extend([
        list("", &[404]),
        list("a/b", &[404]),
        remove("", &[404]),
        remove("a/b", &[404]),
    ]);
    are_refused(&world, cases).await?;
    is_unharmed(world, 0).await
}

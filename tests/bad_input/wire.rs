//! Bytes over a connection to the local gateway: what API Gateway refuses itself, and what reaches a function.

use acceptance::{Outcome, World};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::run::MARKER;

const NAMES: &str = r#"{"userName":"demouser","deviceName":"mydevice","deviceType":"TOTP"}"#;

/// What comes back: a status, 0 if the connection was closed without one, and a body.
#[derive(Debug)]
struct Back {
    status: u16,
    head: String,
    body: String,
}

/// Sends bytes as they are, and reads until the connection is closed. `more` is false if the sender says that nothing
/// more will come.
async fn exchange(world: &World, bytes: &[u8], more: bool) -> Result<Back> {
    let address = world.stack.origin().trim_start_matches("http://").to_owned();
    let mut connection = TcpStream::connect(address).await?;
    // What refuses early may close before it has read everything.
    let _ = connection.write_all(bytes).await;
    if !more {
        connection.shutdown().await?;
    }
    let mut read = Vec::new();
    let _ = connection.read_to_end(&mut read).await;
    let text = String::from_utf8(read)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status = head.split(' ').nth(1).map(str::parse).transpose()?;
    Ok(Back {
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

fn is_ours(back: &Back) -> Result<Option<Value>> {
    ensure!(back.status < 500, "{back:?}");
    ensure!(!back.head.contains(&MARKER.to_ascii_lowercase()), "an echo: {back:?}");
    ensure!(!back.body.contains(MARKER.as_str()), "an echo: {back:?}");
    if !back.head.contains("content-type: application/json") {
        // The HTTP library's own refusal, before the gateway.
        ensure!(back.body.is_empty() && matches!(back.status, 0 | 400 | 431), "{back:?}");
        return Ok(None);
    }
    ensure!(back.head.contains("cache-control: no-store"), "{back:?}");
    let body: Value = serde_json::from_str(&back.body).with_context(|| format!("{back:?}"))?;
    let failed = back.status >= 400;
    ensure!(body["status"] == if failed { "FAILED" } else { "SUCCESS" }, "{back:?}");
    ensure!(
        !failed || (body["code"].is_string() && body["traceId"].is_string()),
        "{back:?}"
    );
    Ok(Some(body))
}

const START: &str = "/v1/deviceAuthentications";

#[tokio::test]
async fn requests_that_are_no_http_are_refused_and_do_no_harm() -> Outcome {
    let world = World::new().await?;
    let line = &format!("POST {START} HTTP/1.1");
    let chunked = "host: localhost\r\ntransfer-encoding: chunked";
    let with = |more: &str, body: &str| [head(&world, line, more), body.as_bytes().to_vec()].concat();
    let long = "x".repeat(1_000_000);
    let many = "x: y\r\n".repeat(500);
    let length = NAMES.len();
    for (what, bytes, more, statuses) in [
        (
            "garbage",
            b"\x16\x03\x01\x02\0\x01\0\xff\r\n\r\n".to_vec(),
            true,
            &[0, 400][..],
        ),
        ("nothing", vec![], false, &[0]),
        (
            "a longer length than the body",
            with("host: x\r\ncontent-length: 500", NAMES),
            false,
            &[0, 400],
        ),
        (
            "a length that is no number",
            with("host: x\r\ncontent-length: ten", NAMES),
            true,
            &[0, 400],
        ),
        (
            "a negative length",
            with("host: x\r\ncontent-length: -1", NAMES),
            true,
            &[0, 400],
        ),
        (
            "a length beyond any number",
            with("host: x\r\ncontent-length: 99999999999999999999", NAMES),
            true,
            &[0, 400],
        ),
        (
            "two lengths",
            with("host: x\r\ncontent-length: 3\r\ncontent-length: 4", NAMES),
            true,
            &[0, 400],
        ),
        (
            "a shorter length",
            with("host: x\r\ncontent-length: 3", NAMES),
            true,
            &[400],
        ),
        (
            "a chunk size that is no number",
            with(chunked, "zz\r\n{}\r\n0\r\n\r\n"),
            true,
            &[0, 400],
        ),
        (
            "a last chunk that never comes",
            with(chunked, "2\r\n{}\r\n"),
            false,
            &[0, 400],
        ),
        ("a chunk without its end", with(chunked, "5\r\n{}"), false, &[0, 400]),
        (
            "chunks of names",
            with(chunked, &format!("{length:x}\r\n{NAMES}\r\n0\r\n\r\n")),
            true,
            &[201],
        ),
        (
            "an unknown coding",
            with("host: x\r\ntransfer-encoding: rot13", NAMES),
            true,
            &[0, 400],
        ),
        (
            "a length and chunks",
            with(
                &format!("{chunked}\r\ncontent-length: 5"),
                &format!("{length:x}\r\n{NAMES}\r\n0\r\n\r\n"),
            ),
            true,
            &[0, 400, 201],
        ),
        (
            "a long line",
            head(&world, &format!("POST {START}?{long} HTTP/1.1"), "host: x"),
            true,
            &[0, 400, 414, 431],
        ),
        (
            "a long header",
            with(&format!("host: x\r\nx: {long}"), ""),
            true,
            &[0, 400, 431],
        ),
        (
            "many headers",
            with(&format!("host: x\r\n{many}x: y"), ""),
            true,
            &[0, 400, 431],
        ),
        (
            "a header without a colon",
            with("host: x\r\nbroken", ""),
            true,
            &[0, 400],
        ),
        (
            "a header name that is none",
            with("host: x\r\nb\u{e9}: y", ""),
            true,
            &[0, 400],
        ),
        ("a folded header", with("host: x\r\nx: y\r\n z", ""), true, &[0, 400]),
        (
            "no such version",
            head(&world, &format!("POST {START} HTTP/7.1"), "host: x"),
            true,
            &[0, 400],
        ),
        (
            "an old version",
            head(&world, &format!("POST {START} HTTP/1.0"), "host: x"),
            true,
            &[400],
        ),
        ("no host", head(&world, line, "accept: */*"), true, &[400]),
        (
            "no path",
            head(&world, "POST * HTTP/1.1", "host: x"),
            true,
            &[0, 400, 404],
        ),
        (
            "spaces",
            head(&world, &format!("POST {START} x HTTP/1.1"), "host: x"),
            true,
            &[0, 400],
        ),
        (
            "a method that is none",
            head(&world, &format!("P@ST {START} HTTP/1.1"), "host: x"),
            true,
            &[0, 400, 404],
        ),
    ] {
        let back = exchange(&world, &bytes, more).await?;
        is_ours(&back).with_context(|| what.to_owned())?;
        ensure!(statuses.contains(&back.status), "{what}: {back:?}");
    }
    is_as_before(world, 0).await
}

#[tokio::test]
async fn requests_that_are_http_get_their_documented_answer() -> Outcome {
    let world = World::new().await?;
    let id = world.start().await?;
    let step_3 = format!("{START}/{id}");
    let marker = MARKER.as_str();
    let json = "\r\ncontent-type: application/json";
    let huge = vec![b' '; 10 * 1_024 * 1_024 + 1];
    let names = |member: &str| format!("{{\"userName\":\"demouser\",\"deviceName\":\"mydevice\",{member}}}");
    let wrong = format!("{{\"otp\":\"{}\"}}", world.wrong_code()?);
    let surrogate = names("\"deviceType\":\"TOTP\",\"x\":\"\\ud800\"");
    let unknown = names(&format!("\"deviceType\":\"TOTP\",\"{marker}\":\"{marker}\""));
    for (path, headers, body, status, code) in [
        (START, json, NAMES.as_bytes(), 201, ""),
        (START, "", NAMES.as_bytes(), 201, ""),
        (
            START,
            "\r\nx-forwarded-proto: 1 2\r\nx-forwarded-host: [",
            NAMES.as_bytes(),
            201,
            "",
        ),
        (START, json, unknown.as_bytes(), 201, ""),
        (START, json, surrogate.as_bytes(), 201, ""),
        (
            START,
            "\r\ncontent-type: text/plain",
            NAMES.as_bytes(),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (
            START,
            "\r\ncontent-type: application/json\r\ncontent-type: text/plain",
            NAMES.as_bytes(),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        (START, json, b"", 400, "INVALID_REQUEST"),
        (START, json, b"{\"userName\":\"\xff\"}", 400, "INVALID_REQUEST"),
        (START, json, b"\xff\xfe", 400, "INVALID_REQUEST"),
        (START, json, marker.as_bytes(), 400, "INVALID_REQUEST"),
        (START, json, &huge[..8_193], 413, "PAYLOAD_TOO_LARGE"),
        (START, json, &huge, 413, "PAYLOAD_TOO_LARGE"),
        (
            "/v1/deviceAuthentications?%zz=%&=&&x=%ff",
            json,
            NAMES.as_bytes(),
            201,
            "",
        ),
        ("/v1/deviceAuthentications/", json, NAMES.as_bytes(), 201, ""),
        (
            "http://elsewhere.example/v1/deviceAuthentications",
            json,
            NAMES.as_bytes(),
            201,
            "",
        ),
        (
            "/v1/../v1/deviceAuthentications",
            json,
            NAMES.as_bytes(),
            404,
            "NOT_FOUND",
        ),
        ("/v1/%64eviceAuthentications", json, NAMES.as_bytes(), 404, "NOT_FOUND"),
        (
            "/v1/deviceAuthentications/..",
            json,
            wrong.as_bytes(),
            404,
            "AUTH_NOT_FOUND",
        ),
        (
            "/v1/deviceAuthentications/%2e%2e%2f%00%ff%zz",
            json,
            wrong.as_bytes(),
            404,
            "AUTH_NOT_FOUND",
        ),
        (
            "/v1/deviceAuthentications/a+b@example.com",
            json,
            wrong.as_bytes(),
            404,
            "AUTH_NOT_FOUND",
        ),
        (&step_3, json, b"{\"otp\":123456}", 400, "INVALID_REQUEST"),
        (
            &step_3,
            json,
            "{\"otp\":\"\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}\"}".as_bytes(),
            400,
            "INVALID_REQUEST",
        ),
        (&step_3, json, wrong.as_bytes(), 422, "OTP_REJECTED"),
    ] {
        let back = exchange(&world, &post(&world, path, headers, body), true).await?;
        let body = is_ours(&back).with_context(|| path.to_owned())?.unwrap_or_default();
        let same = back.status == status && body["code"].as_str().unwrap_or_default() == code;
        ensure!(same, "{path}{headers}: expected {status} {code}, got {back:?}");
    }
    for host in ["[:a b", "\u{e9}", "a b", "http://x", ""] {
        let more = format!("host: {host}\r\ncontent-length: {}", NAMES.len());
        let bytes = [head(&world, &format!("POST {START} HTTP/1.1"), &more), NAMES.into()].concat();
        let back = exchange(&world, &bytes, true).await?;
        is_ours(&back)?;
        ensure!(matches!(back.status, 201 | 400), "{host}: {back:?}");
    }
    is_as_before(world, 1).await
}

/// Nothing of it was logged, nothing else was counted, and a right code is still right.
async fn is_as_before(world: World, failures: u64) -> Outcome {
    for line in [world.stack.log_lines(), world.stack.access_lines()].concat() {
        ensure!(!line.contains(MARKER.as_str()), "an echo in the log: {line}");
        let status = serde_json::from_str::<Value>(&line)?["status"].as_u64();
        ensure!(status.is_some_and(|status| status < 500), "{line}");
    }
    assert_eq!(world.device().await?.total_failures, failures);
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

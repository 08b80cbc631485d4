//! A store that fails is a 503 of the function, before the gateway gives up, and never a verdict. Nothing is counted unless the
//! store did it, and the service works again when the store does.

use std::io::ErrorKind;
use std::time::Duration;

use acceptance::{Answer, Fault, Outcome, Rule, StoreProxy, World};
use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn dynamodb(world: &World) -> Result<&StoreProxy> {
    world.dynamodb.as_ref().context("no proxy")
}

fn secrets_manager(world: &World) -> Result<&StoreProxy> {
    world.secrets_manager.as_ref().context("no proxy")
}

async fn unavailable(answer: impl Future<Output = Result<Answer>>) -> Outcome {
    let answer = answer.await?;
    answer.expect(503, "SERVICE_UNAVAILABLE")?;
    assert_eq!(
        (answer.header("retry-after"), answer.member("retryAfterSeconds")),
        ("1", json!(1))
    );
    // Only a function sends the time. How long it waits is tested where a clock can be stopped.
    anyhow::ensure!(
        answer.member("timestamp").is_string(),
        "the gateway gave up: {}",
        answer.text
    );
    Ok(())
}

async fn read_from(proxy: &StoreProxy) -> Result<std::io::Result<Vec<u8>>> {
    let address = proxy.url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).await?;
    let head = "POST / HTTP/1.1\r\nhost: store\r\nx-amz-target: DynamoDB_20120810.GetItem\r\n";
    let body = "{\"ConsistentRead\":true}";
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    Ok(stream.read_to_end(&mut read).await.map(|_| read))
}

#[tokio::test]
async fn a_connection_is_closed_reset_or_cut_by_its_fault() -> Outcome {
    let world = World::new().await?;
    let proxy = StoreProxy::start(world.stack.stores().dynamodb_url()).await?;
    for fault in [Fault::Close, Fault::CloseAfter] {
        proxy.set("GetItem", Rule::Always(fault));
        assert!(read_from(&proxy).await??.is_empty(), "{fault:?}");
    }
    for fault in [Fault::Reset, Fault::ResetAfter] {
        proxy.set("GetItem", Rule::Always(fault));
        let error = read_from(&proxy).await?.err().map(|error| error.kind());
        assert_eq!(error, Some(ErrorKind::ConnectionReset), "{fault:?}");
    }
    proxy.set("GetItem", Rule::Always(Fault::Truncate));
    let cut = String::from_utf8(read_from(&proxy).await??)?;
    let (head, body) = cut.split_once("\r\n\r\n").context("no body")?;
    let (_, announced) = head.split_once("content-length: ").context("no length")?;
    assert!(!body.is_empty() && body.len() < announced.parse()?, "{cut}");
    assert_eq!(proxy.faults(), 5);
    world.end().await;
    Ok(())
}

async fn step_2_without(fault: Fault) -> Outcome {
    let world = World::with_proxies().await?;
    for call in ["GetItem Devices", "PutItem Auths"] {
        dynamodb(&world)?.set(call, Rule::Always(fault));
        let what = || format!("{fault:?} at {call}");
        unavailable(world.try_start()).await.with_context(what)?;
        dynamodb(&world)?.clear();
    }
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

async fn step_3_without(fault: Fault) -> Outcome {
    let world = World::with_proxies().await?;
    let before = world.device().await?;
    let mut last = String::new();
    for (proxy, call) in [
        (secrets_manager(&world)?, "GetSecretValue"),
        (dynamodb(&world)?, "GetItem Auths"),
        (dynamodb(&world)?, "UpdateItem Devices"),
    ] {
        world.stack.cold_start()?;
        proxy.set(call, Rule::Always(fault));
        let what = || format!("{fault:?} at {call}");
        for code in [world.wrong_code()?, world.code(0)] {
            last = world.start().await?;
            unavailable(world.otp(&last, &code)).await.with_context(what)?;
        }
        proxy.clear();
        if call == "UpdateItem Devices" && Fault::AFTER.contains(&fault) {
            break;
        }
        assert_eq!(world.device().await?, before, "{}", what());
    }
    let device = world.device().await?;
    if device == before {
        world.otp(&last, &world.code(0)).await?.success(200)?;
    } else {
        // Neither got an answer; each was written once, however often it was repeated.
        assert_eq!(device.version - before.version, 2, "{fault:?}");
        assert_eq!((device.total_failures, device.accepted.len()), (1, 1), "{fault:?}");
        let again = world.otp(&last, &world.code(1)).await?;
        again.expect(409, "AUTH_ALREADY_USED")?;
        world.start_and_send(&world.code(1)).await?.success(200)?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_with_a_call_of_step_2_is_a_503() -> Outcome {
    try_join_all(Fault::BEFORE.into_iter().chain(Fault::AFTER).map(step_2_without)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_with_a_call_of_step_3_is_a_503_and_changes_nothing_unless_the_store_did_it() -> Outcome {
    try_join_all(Fault::BEFORE.into_iter().chain(Fault::AFTER).map(step_3_without)).await?;
    Ok(())
}

#[tokio::test]
async fn a_call_that_fails_once_is_retried_and_its_attempt_is_decided_once() -> Outcome {
    let world = World::with_proxies().await?;
    for call in [
        "GetItem Devices",
        "PutItem Auths",
        "GetItem Auths",
        "GetSecretValue",
        "UpdateItem Devices",
    ] {
        for fault in Fault::BEFORE.into_iter().chain(Fault::AFTER) {
            // The SDK does not retry an answer that arrived whole and cannot be parsed: a 503.
            if fault == Fault::CutJson {
                continue;
            }
            world.stack.cold_start()?;
            world.advance(Duration::from_secs(30))?;
            let before = world.device().await?;
            for proxy in [dynamodb(&world)?, secrets_manager(&world)?] {
                proxy.set(call, Rule::First(fault));
            }
            let met = || world.proxies().map(StoreProxy::faults).sum::<usize>();
            let met_before = met();
            let answer = world.start_and_send(&world.code(0)).await?;
            answer.success(200).with_context(|| format!("{fault:?} at {call}"))?;
            assert_eq!(met() - met_before, 1, "{fault:?} at {call}");
            for proxy in [dynamodb(&world)?, secrets_manager(&world)?] {
                proxy.clear();
            }
            let device = world.device().await?;
            let written = (device.version - before.version, device.total_failures);
            assert_eq!(written, (1, 0), "{fault:?} at {call}");
        }
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn stopped_stores_are_a_503_and_work_again_without_a_restart_of_the_service() -> Outcome {
    let mut world = World::with_proxies().await?;
    let auth_id = world.start().await?;
    let before = world.device().await?;

    let mut store = world.secrets_manager.take().context("no proxy")?;
    store.stop().await?;
    unavailable(world.otp(&auth_id, &world.code(0))).await?;
    store.start_again()?;
    world.secrets_manager = Some(store);

    let mut store = world.dynamodb.take().context("no proxy")?;
    store.stop().await?;
    unavailable(world.try_start()).await?;
    unavailable(world.otp(&auth_id, &world.code(0))).await?;
    store.start_again()?;
    world.dynamodb = Some(store);

    assert_eq!(world.device().await?, before);
    world.otp(&auth_id, &world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_wrong_code_whose_answer_was_lost_between_sdk_and_store_is_counted_once() -> Outcome {
    let world = World::with_proxies().await?;
    let auth_id = world.start().await?;
    dynamodb(&world)?.set("UpdateItem Devices", Rule::First(Fault::CloseAfter));
    let answer = world.otp(&auth_id, &world.wrong_code()?).await?;
    answer.expect(422, "OTP_REJECTED")?;
    assert_eq!(
        (answer.member("attemptsRemaining"), world.device().await?.total_failures),
        (json!(4), 1)
    );
    world.end().await;
    Ok(())
}

//! A store that fails is a 503 within 3 s: never a verdict, nothing counted, and all is well when it is back.

use std::time::{Duration, Instant};

use acceptance::{Answer, Behaviour, Outcome, StoreProxy, World};
use anyhow::{Context as _, Result};
use serde_json::json;

/// The most that a client waits for an answer.
const LIMIT: Duration = Duration::from_secs(3);

fn dynamodb(world: &World) -> Result<&StoreProxy> {
    world.dynamodb.as_ref().context("no proxy")
}

fn secrets_manager(world: &World) -> Result<&StoreProxy> {
    world.secrets_manager.as_ref().context("no proxy")
}

async fn unavailable(answer: impl Future<Output = Result<Answer>>) -> Outcome {
    let started = Instant::now();
    let answer = answer.await?;
    answer.expect(503, "SERVICE_UNAVAILABLE")?;
    assert_eq!(
        (answer.header("retry-after"), answer.member("retryAfterSeconds")),
        ("1", json!(1))
    );
    anyhow::ensure!(started.elapsed() < LIMIT, "it took {:?}", started.elapsed());
    Ok(())
}

fn names() -> serde_json::Value {
    json!({ "userName": "demouser", "deviceName": "mydevice", "deviceType": "TOTP" })
}

#[tokio::test]
async fn a_call_of_step_2_that_is_dropped_or_never_answered_is_a_503() -> Outcome {
    let world = World::with_proxies().await?;
    for behaviour in [Behaviour::Drop, Behaviour::Hang] {
        for call in ["GetItem Devices", "PutItem Auths"] {
            dynamodb(&world)?.set(call, behaviour);
            unavailable(world.init_auth(world.token(), &names())).await?;
            dynamodb(&world)?.set(call, Behaviour::Pass);
        }
    }
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_call_of_step_3_that_is_dropped_or_never_answered_is_a_503_and_changes_nothing() -> Outcome {
    let world = World::with_proxies().await?;
    let auth_id = world.start().await?;
    let before = world.device().await?;
    for behaviour in [Behaviour::Drop, Behaviour::Hang] {
        for (proxy, call) in [
            (dynamodb(&world)?, "GetItem Auths"),
            (dynamodb(&world)?, "UpdateItem Devices"),
            (secrets_manager(&world)?, "GetSecretValue"),
        ] {
            world.stack.cold_start()?;
            proxy.set(call, behaviour);
            for code in [world.code(0), world.wrong_code()?] {
                unavailable(world.otp(&auth_id, &code)).await?;
            }
            proxy.set(call, Behaviour::Pass);
            assert_eq!(world.device().await?, before, "{behaviour:?} at {call}");
        }
    }
    world.otp(&auth_id, &world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn stores_that_are_stopped_are_a_503_and_work_again_without_a_restart_of_the_service() -> Outcome {
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
    unavailable(world.init_auth(world.token(), &names())).await?;
    unavailable(world.otp(&auth_id, &world.code(0))).await?;
    store.start_again()?;
    world.dynamodb = Some(store);

    assert_eq!(world.device().await?, before);
    world.otp(&auth_id, &world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_success_whose_answer_was_lost_between_sdk_and_store_is_reported_once() -> Outcome {
    let world = World::with_proxies().await?;
    for call in ["PutItem Auths", "UpdateItem Devices"] {
        dynamodb(&world)?.set(call, Behaviour::LoseFirstAnswer);
    }
    world.start_and_send(&world.code(0)).await?.success(200)?;
    let device = world.device().await?;
    assert_eq!((device.accepted.len(), device.total_failures), (1, 0));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_wrong_code_whose_answer_was_lost_between_sdk_and_store_is_counted_once() -> Outcome {
    let world = World::with_proxies().await?;
    let auth_id = world.start().await?;
    dynamodb(&world)?.set("UpdateItem Devices", Behaviour::LoseFirstAnswer);
    let answer = world.otp(&auth_id, &world.wrong_code()?).await?;
    answer.expect(422, "OTP_REJECTED")?;
    assert_eq!(
        (answer.member("attemptsRemaining"), world.device().await?.total_failures),
        (json!(4), 1)
    );
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_call_that_hangs_once_is_given_up_and_repeated_within_the_deadline() -> Outcome {
    let world = World::with_proxies().await?;
    for call in [
        "GetItem Devices",
        "PutItem Auths",
        "GetItem Auths",
        "UpdateItem Devices",
    ] {
        dynamodb(&world)?.set(call, Behaviour::HangFirst);
        world.advance(Duration::from_mins(1))?;
        let started = Instant::now();
        world.start_and_send(&world.code(0)).await?.success(200)?;
        anyhow::ensure!(started.elapsed() >= Duration::from_millis(500), "{call} did not hang");
    }
    world.end().await;
    Ok(())
}

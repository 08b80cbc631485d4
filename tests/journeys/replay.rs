//! A time step is accepted at most once per device: over authIds, spellings, races and restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use acceptance::{Answer, Outcome, World, WorldOptions};
use anyhow::Result;
use futures_util::future::join_all;
use local::DataDir;

#[tokio::test]
async fn the_same_code_is_refused_the_second_time_however_it_is_written() -> Outcome {
    let world = World::new().await?;
    let code = world.code(0);
    world.start_and_send(&code).await?.success(200)?;
    let (first, last) = code.split_at(3);
    for again in [
        code.clone(),
        format!("{first} {last}"),
        format!("{first}-{last}"),
        format!("  {code}--"),
    ] {
        let answer = world.start_and_send(&again).await?;
        answer.expect(422, "OTP_REPLAYED")?;
        assert_eq!(answer.member("retryAfterSeconds"), 30);
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_older_code_of_the_window_does_not_work_after_the_newer_one() -> Outcome {
    let world = World::new().await?;
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world
        .start_and_send(&world.code(-1))
        .await?
        .expect(422, "OTP_REPLAYED")?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn one_code_does_not_serve_two_open_authentications() -> Outcome {
    let world = World::new().await?;
    let (a, b) = (world.start().await?, world.start().await?);
    world.otp(&a, &world.code(0)).await?.success(200)?;
    world.otp(&b, &world.code(0)).await?.expect(422, "OTP_REPLAYED")?;
    world.advance(Duration::from_secs(30))?;
    world.otp(&b, &world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn no_code_comes_back_when_a_clock_is_set_back() -> Outcome {
    let world = World::new().await?;
    let code = world.code(0);
    world.start_and_send(&code).await?.success(200)?;
    world.advance(Duration::from_mins(3))?;
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world.stack.step_back(Duration::from_mins(3))?;
    world.start_and_send(&code).await?.expect(422, "OTP_REPLAYED")?;
    world.end().await;
    Ok(())
}

async fn in_parallel(world: &World, auth_ids: &[String], code: &str) -> Result<Vec<Answer>> {
    join_all(auth_ids.iter().map(|auth_id| world.otp(auth_id, code)))
        .await
        .into_iter()
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_parallel_validations_of_one_code_have_one_success() -> Outcome {
    let world = World::new().await?;
    let mut many = Vec::new();
    for _ in 0..30 {
        many.push(world.start().await?);
    }
    let one = vec![world.start().await?; 30];
    for auth_ids in [many, one] {
        let before = world.device().await?.total_failures;
        let answers = in_parallel(&world, &auth_ids, &world.code(0)).await?;
        let mut outcomes = BTreeMap::new();
        for answer in &answers {
            *outcomes.entry((answer.status, answer.code())).or_insert(0_u64) += 1;
        }
        assert_eq!(outcomes.get(&(200, String::new())), Some(&1), "{outcomes:?}");
        let rejected = outcomes
            .get(&(422, "OTP_REPLAYED".to_owned()))
            .copied()
            .unwrap_or_default();
        assert_eq!(
            world.device().await?.total_failures - before,
            rejected,
            "each was counted: {outcomes:?}"
        );
        world.advance(Duration::from_mins(2))?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_used_code_is_still_used_after_a_restart_with_a_data_directory() -> Outcome {
    let directory = tempfile::tempdir()?;
    let data_dir = directory.path().join("data");
    let open = || -> Result<WorldOptions> {
        Ok(WorldOptions {
            data_dir: Some(DataDir::open(&data_dir)?),
            ..WorldOptions::default()
        })
    };
    let world = World::with(open()?).await?;
    let (code, open_auth) = (world.code(0), world.start().await?);
    world.start_and_send(&code).await?.success(200)?;
    let token = world.token().to_owned();
    world.end().await;

    let world = World::with(open()?).await?;
    assert_eq!(world.code(0), code, "the same device with the same seed");
    world.start_and_send(&code).await?.expect(422, "OTP_REPLAYED")?;
    world.otp(&open_auth, &code).await?.expect(422, "OTP_REPLAYED")?;
    world.advance(Duration::from_secs(30))?;
    world.otp(&open_auth, &world.code(0)).await?.success(200)?;
    assert_ne!(world.token(), token);
    world.end().await;
    Ok(())
}

//! A time step is accepted at most once per device: for every authId and spelling, whatever the clock says, and across
//! restarts. Concurrent requests are in `load/races.rs`.

use std::time::Duration;

use acceptance::{Outcome, World, WorldOptions};
use anyhow::Result;
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

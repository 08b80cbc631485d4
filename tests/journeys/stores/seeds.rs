//! How long a seed stays in memory, and how often it is read.

use std::collections::BTreeMap;
use std::time::Duration;

use acceptance::{Outcome, World, WorldOptions};
use futures_util::future::join_all;
use shared::config;

/// How often the seed was read since the last time.
fn reads(world: &World) -> usize {
    let calls = world.take_calls().into_iter();
    calls
        .filter(|(call, _)| call == "GetSecretValue")
        .map(|(_, count)| count)
        .sum()
}

#[tokio::test]
async fn a_seed_is_read_again_when_its_time_in_memory_is_over_and_not_before() -> Outcome {
    for (setting, seconds) in [(None, 300), (Some("60"), 60)] {
        let settings = setting.map(|value| (config::SEED_CACHE_SECONDS.to_owned(), value.to_owned()));
        let world = World::with(WorldOptions {
            proxies: true,
            settings: settings.into_iter().collect::<BTreeMap<_, _>>(),
            ..WorldOptions::default()
        })
        .await?;
        let wrong = world.wrong_code()?;
        // Pairs: single codes would be refused before the seed is needed.
        let send_wrong_pair = async || {
            let answer = world.otps(&world.start().await?, &wrong, &wrong).await?;
            answer.expect(422, "OTP_REJECTED")
        };
        send_wrong_pair().await?;
        assert_eq!(reads(&world), 1);
        world.advance(Duration::from_millis(seconds * 1_000 - 1))?;
        send_wrong_pair().await?;
        assert_eq!(reads(&world), 0, "within {seconds} s");
        world.advance(Duration::from_millis(1))?;
        send_wrong_pair().await?;
        assert_eq!(reads(&world), 1, "after {seconds} s");
        world.stack.step_back(Duration::from_secs(1))?;
        send_wrong_pair().await?;
        assert_eq!(
            reads(&world),
            1,
            "a clock that is set back does not keep a seed for longer"
        );
        world.end().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_concurrent_requests_reads_the_seed() -> Outcome {
    let world = World::with_proxies().await?;
    let mut auth_ids = Vec::new();
    for _ in 0..20 {
        auth_ids.push(world.start().await?);
    }
    world.stack.cold_start()?;
    let _ = reads(&world);
    let wrong = world.wrong_code()?;
    for answer in join_all(auth_ids.iter().map(|auth_id| world.otp(auth_id, &wrong))).await {
        answer?;
    }
    assert_eq!(reads(&world), 1);
    world.end().await;
    Ok(())
}

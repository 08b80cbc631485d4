//! How long a seed stays in memory, and how often it is read.

use std::collections::BTreeMap;
use std::time::Duration;

use acceptance::{Outcome, World, WorldOptions};
use anyhow::Context as _;
use futures_util::future::join_all;
use shared::config;

/// How often the seed was read since the last time this was asked.
fn reads(world: &World) -> usize {
    let proxy = world.secrets_manager.as_ref();
    proxy.map_or(0, |proxy| proxy.take_calls().into_iter().map(|(_, count)| count).sum())
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
        // Pairs: the gate of single codes would answer before the seed is asked for.
        let sent = async || {
            let answer = world.otps(&world.start().await?, &wrong, &wrong).await?;
            answer.expect(422, "OTP_REJECTED")
        };
        sent().await?;
        assert_eq!(reads(&world), 1);
        world.advance(Duration::from_millis(seconds * 1_000 - 1))?;
        sent().await?;
        assert_eq!(reads(&world), 0, "within {seconds} s");
        world.advance(Duration::from_millis(1))?;
        sent().await?;
        assert_eq!(reads(&world), 1, "after {seconds} s");
        world.stack.step_back(Duration::from_secs(1))?;
        sent().await?;
        assert_eq!(reads(&world), 1, "a clock that was set back keeps no seed for longer");
        world.end().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_requests_at_once_one_reads_the_seed() -> Outcome {
    let world = World::with_proxies().await?;
    let mut auth_ids = Vec::new();
    for _ in 0..20 {
        auth_ids.push(world.start().await?);
    }
    world.stack.cold_start()?;
    reads(&world);
    let wrong = world.wrong_code()?;
    for answer in join_all(auth_ids.iter().map(|auth_id| world.otp(auth_id, &wrong))).await {
        answer?;
    }
    assert_eq!(reads(&world), 1);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_table_says_when_a_device_was_used_and_only_successes_are_uses() -> Outcome {
    let world = World::new().await?;
    let stores = world.stack.stores();
    let client =
        shared::aws::sdk::Clients::of_local_stores(stores.dynamodb_url(), stores.secrets_manager_url()).dynamodb;
    let last_used = async || -> anyhow::Result<Option<String>> {
        use aws_sdk_dynamodb::types::AttributeValue::S;
        let get = client.get_item().table_name("Devices");
        let get = get.key("pk", S(format!("{}#demouser", world.client().as_str())));
        let item = get
            .key("sk", S("mydevice".to_owned()))
            .send()
            .await?
            .item
            .context("no item")?;
        Ok(item.get("lastUsedAt").and_then(|value| value.as_n().ok().cloned()))
    };
    let wrong = world.wrong_code()?;
    world.start_and_send(&wrong).await?.expect(422, "OTP_REJECTED")?;
    assert_eq!(last_used().await?, None);
    world.start_and_send(&world.code(0)).await?.success(200)?;
    assert_eq!(last_used().await?.as_deref(), Some("1795575600"));
    world.advance(Duration::from_secs(5))?;
    world
        .start_and_send(&world.code(0))
        .await?
        .expect(422, "OTP_REPLAYED")?;
    assert_eq!(last_used().await?.as_deref(), Some("1795575600"));
    world.end().await;
    Ok(())
}

//! Two consecutive codes: nothing tells which half of a wrong pair is right, and wrong pairs are rate-limited.

use std::collections::BTreeMap;
use std::time::Duration;

use acceptance::{Outcome, World, WorldOptions};
use anyhow::Context as _;
use serde_json::{Value, json};
use shared::config;
use shared::device::{Device, LastWrite};
use shared::names::{AuthId, WriteId};

/// Everything that a wrong pair causes.
#[derive(Debug, PartialEq)]
struct Effects {
    answer: (u16, BTreeMap<String, String>, Value),
    calls: Vec<(String, usize)>,
    /// Of each call: the operation, the lengths of both bodies, and the status.
    exchanges: Vec<(String, usize, usize, u16)>,
    device: Device,
    line: [Value; 4],
}

#[tokio::test]
async fn nothing_tells_which_half_of_a_pair_is_right() -> Outcome {
    let world = World::with_proxies().await?;
    let wrong = world.wrong_code()?;
    let [before, now, next] = [-1, 0, 1].map(|ahead| world.code(ahead));
    // The seed is in memory, and one code is used, so that a replayed half is among them.
    world.start_and_send(&before).await?.success(200)?;
    let base = world.device().await?;
    let mut all = Vec::new();
    for (earlier, later) in [
        (&wrong, &wrong),
        (&now, &wrong),
        (&wrong, &next),
        (&wrong, &now),
        (&next, &wrong),
        (&next, &now),
        (&now, &now),
        (&before, &wrong),
        (&before, &now),
        (&before, &next),
    ] {
        // Each on the same state.
        let restored = |device: &mut Device| {
            let version = device.version;
            *device = Device {
                version,
                ..base.clone()
            };
        };
        world.change(restored).await?;
        let auth_id = world.start().await?;
        let version = world.device().await?.version;
        let _ = (world.take_exchanges(), world.take_calls());
        let answer = world.otps(&auth_id, earlier, later).await?.comparable();
        let last: Value = serde_json::from_str(world.stack.log_lines().last().context("no line")?)?;
        let device = world.device().await?;
        assert_eq!(device.version, version + 1, "one write");
        all.push(Effects {
            answer,
            calls: world.take_calls(),
            exchanges: world
                .take_exchanges()
                .into_iter()
                .map(|call| (call.operation, call.sent.len(), call.answered.len(), call.status))
                .collect(),
            device: Device {
                version: 0,
                last_write: device.last_write.map(|last| LastWrite {
                    auth_id: AuthId::from_random_bytes([0; 16]),
                    write_id: WriteId::from_bytes([0; 16]),
                    ..last
                }),
                ..device
            },
            line: ["level", "reason", "dynamodbCalls", "secretsManagerCalls"].map(|field| last[field].clone()),
        });
    }
    let first = all.first().context("no pair")?;
    assert_eq!((first.answer.0, first.calls.len()), (422, 2));
    for (position, other) in all.iter().enumerate() {
        assert_eq!(other, first, "pair {position}");
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_flood_of_pairs_is_told_how_long_to_wait_and_closes_nothing_else() -> Outcome {
    for (policy, gap) in [("standard", 1), ("strict", 10)] {
        let world = World::with(WorldOptions {
            settings: [(config::GUESS_POLICY.to_owned(), policy.to_owned())].into(),
            ..WorldOptions::default()
        })
        .await?;
        let wrong = world.wrong_code()?;
        for _ in 0..10 {
            let answer = world.otps(&world.start().await?, &wrong, &wrong).await?;
            answer.expect(422, "OTP_REJECTED")?;
        }
        let auth_id = world.start().await?;
        let before = world.item_of(&world.stack.demo().key).await?;
        for left in (1..=gap).rev() {
            // The right pair too: it is neither evaluated nor used up.
            for (earlier, later) in [(wrong.clone(), wrong.clone()), (world.code(0), world.code(1))] {
                let answer = world.otps(&auth_id, &earlier, &later).await?;
                answer.expect(429, "TOO_MANY_ATTEMPTS")?;
                assert_eq!(
                    (answer.header("retry-after"), answer.member("retryAfterSeconds")),
                    (left.to_string().as_str(), json!(left))
                );
            }
            let started = world.try_start().await?;
            started.success(201)?;
            assert_eq!(started.header("auth-codes-required"), "", "step 2 does not mention it");
            world.advance(Duration::from_secs(1))?;
        }
        assert_eq!(world.item_of(&world.stack.demo().key).await?, before);
        world
            .otps(&auth_id, &world.code(0), &world.code(1))
            .await?
            .success(200)?;
        world.end().await;
    }
    Ok(())
}

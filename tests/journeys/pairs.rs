//! Two codes in a row: which ones are right, that nothing tells about a half, and how fast they may come.

use std::collections::BTreeMap;
use std::time::Duration;

use acceptance::{Outcome, World, WorldOptions};
use anyhow::Context as _;
use serde_json::{Value, json};
use shared::clock::Clock as _;
use shared::config;
use shared::device::{Device, LastWrite};
use shared::names::{AuthId, WriteId};
use shared::otp::{OtpParameters, Period, Seed, Step};

#[tokio::test]
async fn a_pair_with_a_code_that_was_used_is_rejected_whichever_half_it_is() -> Outcome {
    for (used, earlier) in [(0, -2), (0, -1), (0, 0), (-1, -1), (-1, -2), (1, 0), (1, -1)] {
        let world = World::new().await?;
        world.start_and_send(&world.code(used)).await?.success(200)?;
        let auth_id = world.start().await?;
        world
            .otps(&auth_id, &world.code(earlier), &world.code(earlier + 1))
            .await?
            .expect(422, "OTP_REJECTED")?;
        // The next two that nobody used are right.
        world.advance(Duration::from_mins(1))?;
        world
            .otps(&auth_id, &world.code(0), &world.code(1))
            .await?
            .success(200)?;
        world.end().await;
    }
    Ok(())
}

/// The seed of the test vectors of RFC 6238, and a step after the beginning of every world whose code is that of the
/// next step too. One step in a million is.
const TWINS: (&[u8], u64) = (b"12345678901234567890", 62_075_368);

#[tokio::test]
async fn the_same_code_twice_is_wrong_unless_two_codes_in_a_row_are_the_same() -> Outcome {
    let mut world = World::with(WorldOptions {
        demo_seed: Some(Seed::from_bytes(TWINS.0, OtpParameters::default())?),
        ..WorldOptions::default()
    })
    .await?;
    for ahead in [-2, -1, 0, 1] {
        let (code, next) = (world.code(ahead), world.code(ahead + 1));
        assert_ne!(code, next);
        let answer = world.otps(&world.start().await?, &code, &code).await?;
        answer.expect(422, "OTP_REJECTED")?;
    }
    let twins = Step(TWINS.1).start(Period::Thirty).as_millis();
    let until = Duration::from_millis(twins - world.stack.clock().now().as_millis());
    world.advance(until)?;
    world.renew_token()?;
    assert_eq!(world.code(0), world.code(1));
    world
        .otps(&world.start().await?, &world.code(0), &world.code(0))
        .await?
        .success(200)?;
    assert_eq!(world.device().await?.last_step, Step(TWINS.1 + 1), "both are used up");
    world
        .start_and_send(&world.code(1))
        .await?
        .expect(422, "OTP_REPLAYED")?;
    world.end().await;
    Ok(())
}

/// Everything that a wrong pair leaves behind.
#[derive(Debug, PartialEq)]
struct Left {
    seen: (u16, BTreeMap<String, String>, Value),
    calls: Vec<(String, usize)>,
    /// Of each call: the operation, the lengths of both bodies, and the status.
    passed: Vec<(String, usize, usize, u16)>,
    device: Device,
    line: [Value; 4],
}

#[tokio::test]
async fn nothing_tells_which_half_of_a_pair_is_right() -> Outcome {
    let world = World::with(WorldOptions {
        proxies: true,
        taps: true,
        ..WorldOptions::default()
    })
    .await?;
    let (proxy, [tap, _]) = (
        world.dynamodb.as_ref().context("no proxy")?,
        world.taps.as_ref().context("no taps")?,
    );
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
        let _ = (tap.take(), proxy.take_calls());
        let seen = world.otps(&auth_id, earlier, later).await?.seen();
        let last: Value = serde_json::from_str(world.stack.log_lines().last().context("no line")?)?;
        let device = world.device().await?;
        assert_eq!(device.version, version + 1, "one write");
        all.push(Left {
            seen,
            calls: proxy.take_calls(),
            passed: tap
                .take()
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
    let first = all.first().context("none")?;
    assert_eq!((first.seen.0, first.calls.len()), (422, 2));
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
            // The right pair too: it is neither looked at nor used.
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
            assert_eq!(started.header("auth-codes-required"), "", "step 2 knows nothing of it");
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

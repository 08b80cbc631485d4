//! Whatever an attacker sends, the owner signs in with two consecutive codes, is told when one is enough again, and pays
//! only for their own mistakes.

use std::time::Duration;

use acceptance::{Answer, Outcome, World};
use anyhow::{Context as _, Result};
use local::Function;
use serde_json::{Value, json};
use shared::clock::{Clock as _, Timestamp};
use shared::device::Device;
use shared::policy::Policy;
use shared::testing::events::Event;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
/// How long single codes are refused after the fifth consecutive wrong one, and after each further one, in seconds.
const LADDER: [u64; 11] = [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600, 3_600];

async fn start(world: &World) -> Result<Answer> {
    let started = world.try_start().await?;
    started.success(201)?;
    Ok(started)
}

/// Lets time pass. Tokens live for an hour, so it takes a new one.
fn wait(world: &mut World, time: Duration) -> Outcome {
    world.advance(time)?;
    world.renew_token()
}

async fn wrong_single(world: &World) -> Result<Answer> {
    let answer = world.start_and_send(&world.wrong_code()?).await?;
    answer.expect(422, "OTP_REJECTED")?;
    Ok(answer)
}

/// The answer to a gated single code: how many codes to send, and when one is enough again.
async fn gated(world: &World) -> Result<(Value, Value)> {
    let answer = world.start_and_send(&world.code(0)).await?;
    answer.expect(422, "TWO_CODES_REQUIRED")?;
    Ok((answer.member("codesRequired"), answer.member("singleCodesAfterSeconds")))
}

#[tokio::test]
async fn the_seconds_until_single_codes_fall_as_time_passes_and_then_the_same_code_is_accepted() -> Outcome {
    let world = World::new().await?;
    for _ in 0..5 {
        wrong_single(&world).await?;
    }
    let (auth_id, code) = (world.start().await?, world.code(1));
    let mut passed = Duration::ZERO;
    for (at, told) in [
        (0, 30),
        (1, 30),
        (1_000, 29),
        (1_001, 29),
        (15_000, 15),
        (29_000, 1),
        (29_999, 1),
    ] {
        let at = Duration::from_millis(at);
        world.advance(at.saturating_sub(passed))?;
        passed = at;
        let answer = world.otp(&auth_id, &code).await?;
        answer.expect(422, "TWO_CODES_REQUIRED")?;
        assert_eq!(answer.member("singleCodesAfterSeconds"), told, "after {at:?}");
        assert_eq!(answer.member("codesRequired"), 2);
        assert_eq!(answer.header("retry-after"), "", "two codes need no wait");
    }
    world.advance(MILLISECOND)?;
    world.otp(&auth_id, &code).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn each_wrong_code_more_closes_single_codes_for_twice_as_long_up_to_an_hour() -> Outcome {
    let mut world = World::new().await?;
    for _ in 0..4 {
        assert_eq!(wrong_single(&world).await?.member("codesRequired"), 1);
    }
    for seconds in LADDER {
        assert_eq!(wrong_single(&world).await?.member("codesRequired"), 2, "{seconds} s");
        assert_eq!(gated(&world).await?, (json!(2), json!(seconds)));
        wait(&mut world, Duration::from_millis(seconds * 1_000 - 1))?;
        assert_eq!(gated(&world).await?, (json!(2), json!(1)), "{seconds} s");
        world.advance(MILLISECOND)?;
    }
    world.start_and_send(&world.code(0)).await?.success(200)?;
    // A success starts it from the beginning.
    wait(&mut world, SECOND * 60)?;
    for codes in [1, 1, 1, 1, 2] {
        assert_eq!(wrong_single(&world).await?.member("codesRequired"), codes);
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn every_422_says_how_many_codes_to_ask_for_after_its_own_write() -> Outcome {
    let world = World::new().await?;
    let (used, wrong) = (world.code(0), world.wrong_code()?);
    world.start_and_send(&used).await?.success(200)?;
    // Failures before, and the codes to ask for after one more with one code, or with two.
    for (before, after_single, after_pair) in [(0, 1, 1), (3, 1, 1), (4, 2, 1), (9, 2, 1), (99, 2, 1)] {
        for (code, name) in [(&wrong, "OTP_REJECTED"), (&used, "OTP_REPLAYED")] {
            world.change(|device| open_with(device, before)).await?;
            let answer = world.start_and_send(code).await?;
            answer.expect(422, name)?;
            assert_eq!(answer.member("codesRequired"), after_single, "{name} after {before}");
        }
        world.change(|device| open_with(device, before)).await?;
        let answer = world.otps(&world.start().await?, &wrong, &wrong).await?;
        answer.expect(422, "OTP_REJECTED")?;
        assert_eq!(answer.member("codesRequired"), after_pair, "a pair after {before}");
        assert_eq!(
            answer.member("attemptsRemaining"),
            Value::Null,
            "pairs do not count on an authId"
        );
    }
    for closed in CLOSED {
        world.change(|device| closed.0(device, NOW_MILLIS)).await?;
        assert_eq!(gated(&world).await?, (json!(2), json!(closed.1)), "{}", closed.2);
        let answer = world.otps(&world.start().await?, &wrong, &wrong).await?;
        assert_eq!(answer.member("codesRequired"), 2, "{}", closed.2);
    }
    world.end().await;
    Ok(())
}

fn open_with(device: &mut Device, consecutive_failures: u32) {
    device.consecutive_failures = consecutive_failures;
    device.not_before = Timestamp::EPOCH;
    device.budget_at = Timestamp::EPOCH;
    device.pair_at = Timestamp::EPOCH;
}

/// When every world starts.
const NOW_MILLIS: u64 = 1_795_575_600_000;

/// A way to close single codes: how, for how many seconds, and its name.
type Closed = (fn(&mut Device, u64), Option<u64>, &'static str);

const CLOSED: [Closed; 3] = [
    (
        |device, now| {
            open_with(device, 5);
            device.not_before = Timestamp::from_millis(now).plus(SECOND * 30);
        },
        Some(30),
        "the ladder",
    ),
    (
        |device, now| {
            let policy = Policy::standard();
            let full = policy.single_slack() + policy.refill();
            open_with(device, 0);
            device.budget_at = Timestamp::from_millis(now).plus(full);
        },
        Some(36 * 3_600),
        "the budget",
    ),
    (|device, _| open_with(device, 100), None, "a hundred consecutive"),
];

#[tokio::test]
async fn step_2_asks_for_two_codes_while_single_codes_are_closed_and_at_no_other_time() -> Outcome {
    let mut world = World::new().await?;
    let asks =
        async |world: &World| -> Result<String> { Ok(start(world).await?.header("auth-codes-required").to_owned()) };
    assert_eq!(asks(&world).await?, "");
    for (close, seconds, name) in CLOSED {
        let now = world.stack.clock().now().as_millis();
        world.change(|device| close(device, now)).await?;
        assert_eq!(asks(&world).await?, "2", "{name}");
        if let Some(seconds) = seconds {
            wait(&mut world, Duration::from_millis(seconds * 1_000 - 1))?;
            assert_eq!(asks(&world).await?, "2", "{name}");
            world.advance(MILLISECOND)?;
            assert_eq!(asks(&world).await?, "", "{name}");
        } else {
            wait(&mut world, Duration::from_hours(10_000))?;
            assert_eq!(asks(&world).await?, "2", "{name}");
        }
    }
    let started = start(&world).await?;
    let auth_id = started.member("authId").as_str().context("no authId")?.to_owned();
    world
        .otps(&auth_id, &world.code(0), &world.code(1))
        .await?
        .success(200)?;
    assert_eq!(asks(&world).await?, "", "two codes opened them");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn two_codes_in_a_row_let_the_owner_in_after_every_wrong_code_of_an_attack_up_to_the_hundredth() -> Outcome {
    let mut world = World::new().await?;
    for failures in 1..=100 {
        wrong_single(&world).await?;
        let attacked = world.device().await?;
        assert_eq!(attacked.consecutive_failures, failures);
        let open = attacked.single_codes_open(world.stack.clock().now(), &Policy::standard());
        assert_eq!(open, failures < 5, "after {failures}");
        let auth_id = world.start().await?;
        if !open {
            let answer = world.otp(&auth_id, &world.code(0)).await?;
            answer.expect(422, "TWO_CODES_REQUIRED")?;
            let ends = answer.member("singleCodesAfterSeconds") != Value::Null;
            assert_eq!(ends, failures < 100, "after {failures}");
            assert_eq!(
                world.device().await?,
                attacked,
                "neither evaluated, nor counted, nor used up"
            );
        }
        // The code that was refused is the first of the two.
        world
            .otps(&auth_id, &world.code(0), &world.code(1))
            .await?
            .success(200)?;
        let after = world.device().await?;
        let open = after.single_codes_open(world.stack.clock().now(), &Policy::standard());
        assert_eq!(
            open,
            failures < 20,
            "a success clears the consecutive failures and not the budget"
        );

        // As if the owner had not signed in: the attack goes on as soon as single codes are open.
        world
            .change(|device| {
                *device = Device {
                    version: device.version,
                    ..attacked.clone()
                };
            })
            .await?;
        if let Some(opens) = attacked.single_codes_at(&Policy::standard()) {
            let until = Duration::from_millis(opens.as_millis())
                .saturating_sub(Duration::from_millis(world.stack.clock().now().as_millis()));
            wait(&mut world, until)?;
        }
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_success_gives_back_its_own_typos_and_not_those_in_between() -> Outcome {
    let refill = Policy::standard().refill();
    for two_codes in [false, true] {
        let world = World::new().await?;
        let (wrong, now) = (world.wrong_code()?, world.stack.clock().now());
        let (mine, theirs) = (world.start().await?, world.start().await?);
        for auth_id in [&theirs, &mine, &theirs, &mine] {
            world.otp(auth_id, &wrong).await?.expect(422, "OTP_REJECTED")?;
            for pairs_with in [&mine, &theirs] {
                let answer = world.otps(pairs_with, &wrong, &wrong).await?;
                answer.expect(422, "OTP_REJECTED")?;
            }
        }
        assert_eq!(world.device().await?.budget_at, now.plus(refill * 4));
        if two_codes {
            world.otps(&mine, &world.code(0), &world.code(1)).await?.success(200)?;
        } else {
            world.otp(&mine, &world.code(0)).await?.success(200)?;
        }
        let device = world.device().await?;
        assert_eq!(device.budget_at, now.plus(refill * 2), "only mine are given back");
        assert_eq!(device.failing.iter().map(|entry| entry.count).collect::<Vec<_>>(), [2]);

        // Only once, and only to this authId.
        world.advance(Duration::from_mins(1))?;
        world.start_and_send(&world.code(0)).await?.success(200)?;
        assert_eq!(world.device().await?.budget_at, now.plus(refill * 2));
        world.end().await;
    }
    Ok(())
}

#[tokio::test]
async fn wrong_codes_with_other_auth_ids_take_no_attempt_from_mine() -> Outcome {
    // Typos of mine, then other authIds' wrong codes within the life of an authId: the device remembers four authIds.
    for (typos, others) in [(4, 1), (4, 3), (1, 6), (0, 7)] {
        let world = World::new().await?;
        let (mine, wrong) = (world.start().await?, world.wrong_code()?);
        for left in (0..5).rev().take(typos) {
            let answer = world.otp(&mine, &wrong).await?;
            assert_eq!((answer.status, answer.member("attemptsRemaining")), (422, json!(left)));
        }
        for _ in 0..others {
            wrong_single(&world).await?;
            let opens = world.device().await?.not_before.as_millis();
            let until = opens.saturating_sub(world.stack.clock().now().as_millis());
            world.advance(Duration::from_millis(until))?;
        }
        let answer = world.otp(&mine, &world.code(-1)).await?;
        assert_eq!(answer.status, 200, "{typos}, {others}: {}", answer.text);
        world.end().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_gated_attempt_leaves_the_item_as_it_is_with_one_refused_write_at_most() -> Outcome {
    type Gate = (fn(&mut Device, u64), bool, u16);
    let pairs: Gate = (
        |device, now| {
            let full = Policy::standard().pair_slack() + SECOND;
            device.pair_at = Timestamp::from_millis(now).plus(full);
        },
        true,
        429,
    );
    let singles = CLOSED.map(|(close, _, _)| -> Gate { (close, false, 422) });
    let world = World::with_proxies().await?;
    let key = &world.stack.demo().key;
    for (close, two_codes, status) in singles.into_iter().chain([pairs]) {
        world.change(|device| open_with(device, 0)).await?;
        let stale = world.start().await?;
        world.change(|device| close(device, NOW_MILLIS)).await?;
        let fresh = world.start().await?;
        world.stack.cold_start()?;
        let before = world.item_of(key).await?;
        let _ = world.take_calls();
        for (auth_id, calls) in [
            (&fresh, &[("GetItem Auths".to_owned(), 1)][..]),
            (
                &stale,
                &[("GetItem Auths".to_owned(), 1), ("UpdateItem Devices".to_owned(), 1)],
            ),
        ] {
            // Right or wrong makes no difference.
            for codes in [
                [world.code(0), world.code(1)],
                [world.wrong_code()?, world.wrong_code()?],
            ] {
                let [code, next] = &codes;
                let answer = if two_codes {
                    world.otps(auth_id, code, next).await?
                } else {
                    world.otp(auth_id, code).await?
                };
                assert_eq!(answer.status, status);
                let mut made = world.take_calls();
                if *auth_id == stale {
                    made.retain(|(call, _)| call != "GetSecretValue");
                }
                assert_eq!(made, calls, "no seed is read to refuse");
                assert_eq!(world.item_of(key).await?, before);
            }
        }
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_limit_does_not_depend_on_addresses() -> Outcome {
    let world = World::new().await?;
    let (auth_id, wrong) = (world.start().await?, world.wrong_code()?);
    for number in 0..5 {
        let event = Event::validate_otp(world.client().as_str(), &auth_id).otp(&wrong);
        let event = match number {
            0 => event.without_header("X-Forwarded-For"),
            number => event.header("X-Forwarded-For", &format!("192.0.2.{number}")),
        };
        assert_eq!(world.invoke(Function::ValidateOtp, &event.json()).await?.0, 422);
    }
    world.start_and_send(&wrong).await?.expect(422, "TWO_CODES_REQUIRED")?;
    world.end().await;
    Ok(())
}

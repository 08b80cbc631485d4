//! Guesses are rationed on the device, and two codes in a row always let the owner in.

use std::time::Duration;

use acceptance::{Outcome, World};
use futures_util::future::join_all;
use local::Function;
use serde_json::json;
use shared::clock::Clock as _;
use shared::testing::events::Event;

#[tokio::test]
async fn any_six_digits_are_refused() -> Outcome {
    let world = World::new().await?;
    let near: Vec<String> = (-1..=1).map(|ahead| world.code(ahead)).collect();
    for guess in ["000000", "123456"]
        .into_iter()
        .filter(|guess| !near.iter().any(|code| code == guess))
    {
        world.start_and_send(guess).await?.expect(422, "OTP_REJECTED")?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn after_five_wrong_codes_a_right_one_is_not_looked_at_and_two_in_a_row_sign_in_at_once() -> Outcome {
    let world = World::new().await?;
    let (auth_id, wrong) = (world.start().await?, world.wrong_code()?);
    for (codes_required, remaining) in [(1, 4), (1, 3), (1, 2), (1, 1), (2, 0)] {
        let answer = world.otp(&auth_id, &wrong).await?;
        answer.expect(422, "OTP_REJECTED")?;
        assert_eq!(answer.member("codesRequired"), codes_required);
        assert_eq!(answer.member("attemptsRemaining"), remaining);
    }
    let started = world.try_start().await?;
    started.success(201)?;
    assert_eq!(started.header("auth-codes-required"), "2");
    let fresh = started.member("authId").as_str().unwrap_or_default().to_owned();

    let before = world.device().await?;
    let gated = world.otp(&fresh, &world.code(0)).await?;
    gated.expect(422, "TWO_CODES_REQUIRED")?;
    assert_eq!(
        (gated.member("codesRequired"), gated.member("singleCodesAfterSeconds")),
        (json!(2), json!(30))
    );
    world.advance(Duration::from_secs(12))?;
    assert_eq!(
        world
            .otp(&fresh, &world.code(0))
            .await?
            .member("singleCodesAfterSeconds"),
        18
    );
    assert_eq!(world.device().await?, before);

    world.otps(&fresh, &world.code(0), &world.code(1)).await?.success(200)?;
    world.advance(Duration::from_mins(1))?;
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_limit_is_the_devices_and_not_each_authentications() -> Outcome {
    let world = World::new().await?;
    let wrong = world.wrong_code()?;
    let mut verdicts = 0;
    for _ in 0..10 {
        let auth_id = world.start().await?;
        for _ in 0..5 {
            verdicts += u32::from(world.otp(&auth_id, &wrong).await?.code() == "OTP_REJECTED");
        }
    }
    assert_eq!(verdicts, 5);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_limit_has_nothing_to_do_with_addresses() -> Outcome {
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

#[tokio::test]
async fn a_right_code_that_was_refused_unseen_is_accepted_when_single_codes_are_open_again() -> Outcome {
    let world = World::new().await?;
    let auth_id = world.start().await?;
    let opens = world.stack.clock().now().plus(Duration::from_secs(10));
    world.change(|device| device.not_before = opens).await?;
    let code = world.code(0);
    world.otp(&auth_id, &code).await?.expect(422, "TWO_CODES_REQUIRED")?;
    world.advance(Duration::from_secs(10))?;
    world.otp(&auth_id, &code).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn an_authentication_is_dead_after_its_five_wrong_codes() -> Outcome {
    let world = World::new().await?;
    let (auth_id, wrong) = (world.start().await?, world.wrong_code()?);
    for _ in 0..5 {
        world.otp(&auth_id, &wrong).await?.expect(422, "OTP_REJECTED")?;
    }
    world
        .otps(&auth_id, &world.code(0), &world.code(1))
        .await?
        .expect(409, "AUTH_ATTEMPTS_EXHAUSTED")?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn someone_elses_wrong_codes_do_not_kill_my_authentication() -> Outcome {
    let world = World::new().await?;
    let (mine, theirs, wrong) = (world.start().await?, world.start().await?, world.wrong_code()?);
    for _ in 0..5 {
        world.otp(&theirs, &wrong).await?.expect(422, "OTP_REJECTED")?;
    }
    world.otps(&mine, &world.code(0), &world.code(1)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_owners_typos_are_refunded_and_nobody_elses() -> Outcome {
    let world = World::new().await?;
    let wrong = world.wrong_code()?;
    world.start_and_send(&wrong).await?.expect(422, "OTP_REJECTED")?;
    let of_others = world.device().await?.budget_at;
    let mine = world.start().await?;
    for _ in 0..2 {
        world.otp(&mine, &wrong).await?.expect(422, "OTP_REJECTED")?;
        world.otps(&mine, &wrong, &wrong).await?.expect(422, "OTP_REJECTED")?;
    }
    world.otp(&mine, &world.code(0)).await?.success(200)?;
    let device = world.device().await?;
    assert_eq!((device.budget_at, device.consecutive_failures), (of_others, 0));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn one_event_sent_twice_is_counted_twice() -> Outcome {
    let world = World::new().await?;
    let (auth_id, wrong) = (world.start().await?, world.wrong_code()?);
    let event = Event::validate_otp(world.client().as_str(), &auth_id)
        .otp(&wrong)
        .request_id("one-request-id")
        .json();
    for count in [1, 2] {
        let (status, _) = world.invoke(Function::ValidateOtp, &event).await?;
        assert_eq!((status, world.device().await?.total_failures), (422, count));
    }
    world.end().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_parallel_wrong_codes_get_no_more_verdicts_than_the_policy_allows() -> Outcome {
    let world = World::new().await?;
    let wrong = world.wrong_code()?;
    let mut auth_ids = Vec::new();
    for _ in 0..20 {
        auth_ids.push(world.start().await?);
    }
    let mut verdicts = 0;
    // Those who lose a race get no verdict and come again.
    for _ in 0..5 {
        for answer in join_all(auth_ids.iter().map(|auth_id| world.otp(auth_id, &wrong))).await {
            verdicts += u64::from(answer?.code() == "OTP_REJECTED");
        }
    }
    let device = world.device().await?;
    assert_eq!((verdicts, device.total_failures), (5, 5));
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn pairs_are_accepted_in_a_window_of_three_and_in_their_order_only() -> Outcome {
    for (earlier, later, right) in [
        (-3, -2, false),
        (-2, -1, true),
        (-1, 0, true),
        (0, 1, true),
        (1, 2, false),
        (1, 0, false),
        (-1, 1, false),
    ] {
        let world = World::new().await?;
        let answer = world
            .otps(&world.start().await?, &world.code(earlier), &world.code(later))
            .await?;
        if right {
            answer.success(200)?;
        } else {
            answer.expect(422, "OTP_REJECTED")?;
        }
        assert_eq!(
            world.device().await?.total_failures,
            u64::from(!right),
            "({earlier}, {later})"
        );
        world.end().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_half_replayed_pair_is_rejected_like_any_other() -> Outcome {
    let world = World::new().await?;
    world.start_and_send(&world.code(0)).await?.success(200)?;
    let auth_id = world.start().await?;
    let half = world.otps(&auth_id, &world.code(0), &world.code(1)).await?;
    half.expect(422, "OTP_REJECTED")?;
    let wrong = world.otps(&auth_id, &world.wrong_code()?, &world.wrong_code()?).await?;
    assert_eq!(
        (half.members(), half.member("message")),
        (wrong.members(), wrong.member("message"))
    );
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_flood_of_pairs_is_slowed_down_and_never_reaches_step_2() -> Outcome {
    let world = World::new().await?;
    let (auth_id, wrong) = (world.start().await?, world.wrong_code()?);
    for _ in 0..10 {
        world
            .otps(&auth_id, &wrong, &wrong)
            .await?
            .expect(422, "OTP_REJECTED")?;
    }
    let flooded = world.otps(&auth_id, &wrong, &wrong).await?;
    flooded.expect(429, "TOO_MANY_ATTEMPTS")?;
    assert_eq!(
        (flooded.header("retry-after"), flooded.member("retryAfterSeconds")),
        ("1", json!(1))
    );
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_device_with_a_leading_zero_never_accepts_the_code_without_it() -> Outcome {
    let world = World::new().await?;
    while !world.code(0).starts_with('0') {
        world.advance(Duration::from_secs(30))?;
    }
    let mut world = world;
    world.renew_token()?;
    let (auth_id, code) = (world.start().await?, world.code(0));
    let short = code.trim_start_matches('0');
    let as_number = json!({ "otp": short.parse::<u32>()? });
    world.otp(&auth_id, short).await?.expect(400, "INVALID_REQUEST")?;
    world
        .validate_otp(world.token(), &auth_id, &as_number)
        .await?
        .expect(400, "INVALID_REQUEST")?;
    assert_eq!(world.device().await?.total_failures, 0);
    world.otp(&auth_id, &code).await?.success(200)?;
    world.end().await;
    Ok(())
}

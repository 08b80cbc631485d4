//! Another client can neither use, see nor influence an authId or a device.

use acceptance::{Outcome, World, demo_names};
use local::DEMO_DEVICE;
use serde_json::json;
use shared::otp::OtpParameters;

#[tokio::test]
async fn the_auth_id_of_one_client_does_not_exist_for_the_other() -> Outcome {
    let world = World::new().await?;
    let (auth_id, other) = (world.start().await?, world.other_token()?);
    let before = world.device().await?;
    let body = json!({ "otp": world.code(0) });
    let foreign = world.validate_otp(&other, &auth_id, &body).await?;
    foreign.expect(404, "AUTH_NOT_FOUND")?;
    assert_eq!(world.device().await?, before);

    let unknown = world.validate_otp(&other, &world.unknown_auth_id(), &body).await?;
    let malformed = world.validate_otp(&other, "not-an-auth-id", &body).await?;
    for answer in [&unknown, &malformed] {
        assert_eq!((answer.status, answer.members()), (foreign.status, foreign.members()));
        assert_eq!(answer.member("message"), foreign.member("message"));
        let names = |answer: &acceptance::Answer| answer.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(answer), names(&foreign));
    }
    world.otp(&auth_id, &world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_same_names_under_two_clients_are_two_devices() -> Outcome {
    let world = World::new().await?;
    let other = world.other_token()?;
    let names = demo_names();
    world.init_auth(&other, &names).await?.expect(404, "DEVICE_NOT_FOUND")?;

    let [_, second] = world.stack.clients();
    let theirs = world
        .stack
        .register_device(second.id(), "demouser", "mydevice", OtpParameters::default())
        .await?;
    let started = world.init_auth(&other, &names).await?;
    started.success(201)?;
    let auth_id = started.member("authId").as_str().unwrap_or_default().to_owned();
    if world.code(0) != world.code_of(&theirs, 0) {
        let mine = json!({ "otp": world.code(0) });
        world
            .validate_otp(&other, &auth_id, &mine)
            .await?
            .expect(422, "OTP_REJECTED")?;
    }
    let right = json!({ "otp": world.code_of(&theirs, 0) });
    world.validate_otp(&other, &auth_id, &right).await?.success(200)?;
    assert_eq!(world.device().await?.total_failures, 0);
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn one_device_of_three_under_attack_leaves_the_others_as_they_were() -> Outcome {
    let world = World::new().await?;
    let wrong = world.wrong_code()?;
    // One of the same user, one by the same name.
    let others = [
        world.register("demouser", "second").await?,
        world.register("another", "mydevice").await?,
    ];
    let items = async || -> anyhow::Result<_> {
        Ok([
            world.item_of(&others[0].key).await?,
            world.item_of(&others[1].key).await?,
        ])
    };
    let before = items().await?;
    let auth_id = world.start().await?;
    for _ in 0..5 {
        world.otp(&auth_id, &wrong).await?.expect(422, "OTP_REJECTED")?;
    }
    for _ in 0..12 {
        let auth_id = world.start().await?;
        world.otp(&auth_id, &wrong).await?.expect(422, "TWO_CODES_REQUIRED")?;
        world.otps(&auth_id, &wrong, &wrong).await?;
    }
    assert_eq!(items().await?, before);
    for other in &others {
        let (user, device) = (other.key.user.as_str(), other.key.device.as_str());
        let started = world.try_start_with(user, device).await?;
        assert_eq!(started.header("auth-codes-required"), "");
        let auth_id = started.member("authId").as_str().unwrap_or_default().to_owned();
        let answer = world.otp(&auth_id, &wrong).await?;
        assert_eq!((answer.status, answer.member("attemptsRemaining")), (422, json!(4)));
        world.otp(&auth_id, &world.code_of(other, 0)).await?.success(200)?;
    }
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn names_that_differ_in_case_are_different_names() -> Outcome {
    let world = World::new().await?;
    world
        .try_start_with("DEMOUSER", DEMO_DEVICE)
        .await?
        .expect(404, "DEVICE_NOT_FOUND")?;
    world.end().await;
    Ok(())
}

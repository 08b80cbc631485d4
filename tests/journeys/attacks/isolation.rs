//! Clients and devices do not affect each other. That another client's authId does not exist is in
//! `indistinguishable.rs`.

use acceptance::{Outcome, World, demo_names};
use serde_json::json;
use shared::otp::OtpParameters;

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
    // One of the same user, one with the same name.
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

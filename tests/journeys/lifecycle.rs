//! An authId until it expires and is deleted, and a device that is disabled, removed, or registered again.

use std::time::Duration;

use acceptance::{Outcome, World};
use shared::device::Status;
use shared::names::AuthId;
use shared::otp::OtpParameters;
use shared::ports::AuthStore as _;

#[tokio::test]
async fn an_authentication_expires_while_its_item_is_still_in_the_table() -> Outcome {
    let world = World::new().await?;
    let (early, late) = (world.start().await?, world.start().await?);
    world.advance(Duration::from_millis(299_999))?;
    world.otp(&early, &world.code(0)).await?.success(200)?;
    world.advance(Duration::from_millis(1))?;
    world.otp(&late, &world.code(1)).await?.expect(410, "AUTH_EXPIRED")?;
    let id = AuthId::parse(&late).ok_or_else(|| anyhow::anyhow!("no authId"))?;
    assert!(
        world.stack.auths().get(id).await?.is_some(),
        "it was refused because it has expired, not because it was deleted"
    );
    world.advance(Duration::from_secs(1))?;
    assert!(world.stack.stores().sweep_expired()? >= 2);
    world.otp(&late, &world.code(1)).await?.expect(404, "AUTH_NOT_FOUND")?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_disabled_device_is_refused_at_both_steps_and_works_when_enabled() -> Outcome {
    let world = World::new().await?;
    let auth_id = world.start().await?;
    world.change(|device| device.status = Status::Disabled).await?;
    world
        .otp(&auth_id, &world.code(0))
        .await?
        .expect(423, "DEVICE_DISABLED")?;
    world.try_start().await?.expect(423, "DEVICE_DISABLED")?;
    world.change(|device| device.status = Status::Active).await?;
    world.otp(&auth_id, &world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_device_registered_again_refuses_every_code_and_auth_id_of_its_former_life() -> Outcome {
    for cold in [false, true] {
        let world = World::new().await?;
        let (used, open) = (world.start().await?, world.start().await?);
        world.otp(&used, &world.code(0)).await?.success(200)?;
        let key = world.stack.demo().key.clone();
        world.stack.remove_device(&key).await?;
        if cold {
            // Without the cache, only the missing secret shows it.
            world.stack.cold_start()?;
        }
        world.otp(&open, &world.code(1)).await?.expect(404, "AUTH_NOT_FOUND")?;
        world.try_start().await?.expect(404, "DEVICE_NOT_FOUND")?;

        let again = world
            .stack
            .register_device(&key.owner, "demouser", "mydevice", OtpParameters::default())
            .await?;
        for auth_id in [&open, &used] {
            for code in [world.code(1), world.code_of(&again, 0)] {
                world.otp(auth_id, &code).await?.expect(409, "AUTH_SUPERSEDED")?;
            }
        }
        assert_eq!(
            world.device().await?,
            again.device,
            "no attempt was counted on the new device"
        );
        if (-1..=1).all(|ahead| world.code(1) != world.code_of(&again, ahead)) {
            world
                .start_and_send(&world.code(1))
                .await?
                .expect(422, "OTP_REJECTED")?;
        }
        world.start_and_send(&world.code_of(&again, 0)).await?.success(200)?;
        world.end().await;
    }
    Ok(())
}

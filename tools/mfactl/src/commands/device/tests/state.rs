//! `disable`, `enable`, `unlock`.

use std::cell::Cell;
use std::time::Duration;

use anyhow::Result;
use shared::clock::{Clock as _, Timestamp};
use shared::device::{Device, Status};
use shared::policy::Policy;
use shared::testing::memory::{Fault, Op};

use crate::commands::testing::world::{World, at_every_point, error_text, text};

#[tokio::test]
async fn an_interrupted_change_can_be_repeated() -> Result<()> {
    let status = |world: &World| world.record().map(|record| record.device.status).ok();
    let points = at_every_point(
        World::active,
        async |world, admin| admin.disable(&world.key).await,
        &[],
        |world| status(world) == Some(Status::Disabled),
    )
    .await?;
    assert!(points > 10, "{points}");
    let disabled = async || {
        let world = World::active().await?;
        world.admin([]).disable(&world.key).await?;
        Ok(world)
    };
    at_every_point(
        disabled,
        async |world, admin| admin.enable(&world.key).await,
        &[],
        |world| status(world) == Some(Status::Active),
    )
    .await?;
    let locked = async || {
        let world = World::active().await?;
        world.set(|device| device.consecutive_failures = 100)?;
        Ok(world)
    };
    at_every_point(
        locked,
        async |world, admin| admin.unlock(&world.key, false).await,
        &[],
        |world| {
            world
                .record()
                .is_ok_and(|record| record.device.consecutive_failures == 0)
        },
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_device_that_waits_for_its_first_code_is_neither_disabled_nor_enabled() -> Result<()> {
    let world = World::waiting().await?;
    let before = world.record()?;
    let error = error_text(world.admin([]).disable(&world.key).await);
    assert!(error.contains("not active yet"), "{error}");
    let error = error_text(world.admin([]).enable(&world.key).await);
    assert!(error.contains("mfactl device activate"), "{error}");
    assert_eq!(world.record()?, before);
    Ok(())
}

#[tokio::test]
async fn a_change_that_changes_nothing_is_reported_and_not_written() -> Result<()> {
    let world = World::active().await?;
    let before = world.record()?;
    let mut admin = world.admin([]);
    admin.enable(&world.key).await?;
    admin.unlock(&world.key, false).await?;
    assert!(admin.terminal.output.contains("already active") && admin.terminal.output.contains("is not locked"));
    assert_eq!(world.record()?, before);
    admin.disable(&world.key).await?;
    admin.disable(&world.key).await?;
    assert!(admin.terminal.output.contains("already disabled"));
    Ok(())
}

#[tokio::test]
async fn a_change_is_tried_five_times_while_others_write_the_device() -> Result<()> {
    for (times, succeeds) in [(4, true), (5, false)] {
        let world = World::active().await?;
        let left = Cell::new(times);
        let outcome = world
            .admin([])
            .change(&world.key, |held| {
                if left.get() > 0 {
                    left.set(left.get() - 1);
                    world.set(|device| device.total_failures += 1)?;
                }
                Ok(Some(Device {
                    status: Status::Disabled,
                    ..held.clone()
                }))
            })
            .await;
        let device = world.record()?.device;
        assert_eq!(outcome.is_ok(), succeeds, "{times}");
        assert_eq!(
            (device.status == Status::Disabled, device.total_failures),
            (succeeds, times)
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_unlock_leaves_six_codes_and_a_reset_asks_first() -> Result<()> {
    let world = World::active().await?;
    let now = world.clock.now();
    let far = now.plus(Duration::from_hours(2_000));
    let lock = |device: &mut Device| {
        device.consecutive_failures = 100;
        device.budget_at = far;
        device.pair_at = far;
    };
    world.set(lock)?;
    let locked = world.record()?.device;
    let mut admin = world.admin([]);
    admin.unlock(&world.key, false).await?;
    assert_eq!(world.record()?.device, locked.unlocked(now, &Policy::standard()));
    assert!(admin.terminal.output.contains("step 2") && admin.terminal.questions.is_empty());

    world.set(lock)?;
    for replies in [vec![], vec![text("n")], vec![text("")]] {
        let before = world.record()?;
        let error = error_text(world.admin(replies).unlock(&world.key, true).await);
        assert!(error.contains("nothing was changed"), "{error}");
        assert_eq!(world.record()?, before);
    }
    world.admin([text("y")]).unlock(&world.key, true).await?;
    let device = world.record()?.device;
    assert_eq!(
        (device.budget_at, device.pair_at, device.consecutive_failures),
        (Timestamp::EPOCH, Timestamp::EPOCH, 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_device_that_does_not_exist_is_named_in_the_error() -> Result<()> {
    let world = World::new()?;
    let key = &world.key;
    for error in [
        error_text(world.admin([]).activate(key).await),
        error_text(world.admin([]).disable(key).await),
        error_text(world.admin([]).enable(key).await),
        error_text(world.admin([]).unlock(key, true).await),
        error_text(world.admin([]).show(key, false).await),
    ] {
        assert!(error.contains("my phone of me+tag@example.com (owner shop)"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_recognised() -> Result<()> {
    let world = World::active().await?;
    world.devices.inject(Op::Replace, Fault::LostThenRepeated);
    let (before, version) = (world.devices.calls(Op::Replace), world.record()?.device.version);
    let mut admin = world.admin([]);
    admin.disable(&world.key).await?;
    assert!(
        admin.terminal.output.contains("is disabled"),
        "{}",
        admin.terminal.output
    );
    assert_eq!(world.devices.calls(Op::Replace), before + 1);
    assert_eq!(world.record()?.device.version, version + 1);
    Ok(())
}

//! `remove`.

use anyhow::Result;
use shared::device::Status;
use shared::testing::memory::{Fault, Op};

use crate::commands::device::{RegisterRequest, Removal};
use crate::commands::testing::world::{
    FAULTS, MemoryAdmin, Reply, World, at_every_point, error_text, text, until_it_hangs,
};

#[tokio::test]
async fn an_interrupted_removal_can_be_repeated() -> Result<()> {
    let points = at_every_point(
        World::active,
        async |world, admin| admin.remove(&world.key, Removal::ForGood).await,
        &[text("y")],
        |world| world.devices.count() == 0,
    )
    .await?;
    assert!(points > 15, "{points}");
    Ok(())
}

#[tokio::test]
async fn a_removal_asks_first_removes_both_seeds_and_can_be_repeated() -> Result<()> {
    let world = World::active().await?;
    world
        .admin([])
        .register(&RegisterRequest {
            activate: false,
            ..world.replacement()?
        })
        .await?;
    assert_eq!(world.seeds.count(), 2);
    let error = error_text(world.admin([text("no")]).remove(&world.key, Removal::Recoverable).await);
    assert!(error.contains("nothing was changed"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.count()), (1, 2));
    world
        .admin([text("y")])
        .remove(&world.key, Removal::Recoverable)
        .await?;
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 0));
    let mut admin = world.admin([]);
    admin.remove(&world.key, Removal::ForGood).await?;
    assert!(admin.terminal.output.contains("There is no device"));
    // The name is free again.
    world.admin([Reply::Code(0)]).register(&world.request()?).await?;
    assert_eq!(world.record()?.device.status, Status::Active);
    Ok(())
}

#[tokio::test]
async fn a_removal_whose_answer_was_lost_still_removes_the_secret() -> Result<()> {
    for fault in [Fault::After, Fault::LostThenRepeated] {
        let world = World::active().await?;
        world.devices.inject(Op::Remove, fault);
        world.admin([text("y")]).remove(&world.key, Removal::ForGood).await?;
        assert_eq!((world.devices.count(), world.seeds.count()), (0, 0), "{fault:?}");
    }
    Ok(())
}

/// Commands on a device that cannot be read.
fn unreadable_admin(world: &World, reply: &str) -> MemoryAdmin {
    world.devices.make_unreadable(&world.key);
    world.admin([text(reply)])
}

#[tokio::test]
async fn an_interrupted_removal_of_an_unreadable_item_can_be_repeated() -> Result<()> {
    // After the removal it is read again, because the answer is that it could not be read.
    for (op, calls) in [(Op::Record, 0), (Op::Remove, 0), (Op::Record, 1)] {
        for fault in FAULTS {
            let when = format!("{fault:?} of {op:?} after {calls}");
            let world = World::active().await?;
            world.devices.inject_after(calls, op, fault);
            let mut admin = unreadable_admin(&world, "y");
            let outcome = until_it_hangs(admin.remove(&world.key, Removal::ForGood)).await;
            world.assert_safe(&when);
            let gone = world.devices.count() == 0;
            let reports_secrets = admin.terminal.notes.contains("mfactl doctor");
            assert!(!gone || reports_secrets, "it does not report its secrets, {when}");
            assert_eq!(matches!(outcome, Some(Ok(()))), admin.left_behind, "{when}");
            assert!(gone || !admin.left_behind, "it still exists, {when}");

            // Run again, it finishes.
            let mut admin = unreadable_admin(&world, "y");
            admin.remove(&world.key, Removal::ForGood).await?;
            assert_eq!((world.devices.count(), world.seeds.count()), (0, 1), "{when}");
            assert_eq!(admin.left_behind, !gone, "{when}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_unreadable_item_is_removed_after_a_question_and_its_secrets_are_left_to_the_doctor() -> Result<()> {
    let world = World::active().await?;
    let mut admin = unreadable_admin(&world, "no");
    let error = error_text(admin.remove(&world.key, Removal::ForGood).await);
    assert!(error.contains("nothing was changed"), "{error}");
    assert_eq!((world.devices.count(), admin.left_behind), (1, false));

    let mut admin = unreadable_admin(&world, "y");
    admin.remove(&world.key, Removal::ForGood).await?;
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 1));
    assert!(admin.left_behind, "its secret has to be found");
    let noted = &admin.terminal.notes;
    assert!(
        noted.contains("an item without a version") && noted.contains("mfactl doctor"),
        "{noted}"
    );
    assert!(
        admin.terminal.output.contains("is removed"),
        "{}",
        admin.terminal.output
    );
    Ok(())
}

#[tokio::test]
async fn a_failed_removal_of_an_unreadable_item_is_an_error() -> Result<()> {
    let world = World::active().await?;
    world.devices.inject(Op::Remove, Fault::Before);
    let mut admin = unreadable_admin(&world, "y");
    let error = error_text(admin.remove(&world.key, Removal::ForGood).await);
    assert!(
        error.contains("run it again") && error.contains("mfactl doctor"),
        "{error}"
    );
    assert_eq!((world.devices.count(), admin.left_behind), (1, false));
    Ok(())
}

#[tokio::test]
async fn an_unavailable_store_is_not_an_unreadable_item_and_nothing_is_removed() -> Result<()> {
    let world = World::active().await?;
    world.devices.inject(Op::Record, Fault::Before);
    let mut admin = world.admin([text("y")]);
    let error = error_text(admin.remove(&world.key, Removal::ForGood).await);
    assert!(error.contains("nothing was changed"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.count()), (1, 1));
    Ok(())
}

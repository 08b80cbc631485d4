//! `disable`, `enable`, `unlock`, `remove`.

use shared::device::PendingSeed;
use shared::error::StoreError;
use shared::ports::{DeviceStore, Page};

use super::*;

#[tokio::test]
async fn a_removal_is_cut_short_anywhere_and_can_be_repeated() -> Result<()> {
    let points = at_every_point(
        World::active,
        async |world, desk| desk.remove(&world.key, Removing::ForGood).await,
        &[text("y")],
        |world| world.devices.count() == 0,
    )
    .await?;
    assert!(points > 15, "{points}");
    Ok(())
}

#[tokio::test]
async fn a_change_is_cut_short_anywhere_and_can_be_repeated() -> Result<()> {
    let status = |world: &World| world.record().map(|record| record.device.status).ok();
    let points = at_every_point(
        World::active,
        async |world, desk| desk.disable(&world.key).await,
        &[],
        |world| status(world) == Some(Status::Disabled),
    )
    .await?;
    assert!(points > 10, "{points}");
    let disabled = async || {
        let world = World::active().await?;
        world.desk([]).disable(&world.key).await?;
        Ok(world)
    };
    at_every_point(
        disabled,
        async |world, desk| desk.enable(&world.key).await,
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
        async |world, desk| desk.unlock(&world.key, false).await,
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
async fn a_device_that_waits_is_neither_disabled_nor_enabled() -> Result<()> {
    let world = World::waiting().await?;
    let before = world.record()?;
    let error = told(world.desk([]).disable(&world.key).await);
    assert!(error.contains("not in use yet"), "{error}");
    let error = told(world.desk([]).enable(&world.key).await);
    assert!(error.contains("mfactl device activate"), "{error}");
    assert_eq!(world.record()?, before);
    Ok(())
}

#[tokio::test]
async fn what_is_so_already_is_said_and_not_written() -> Result<()> {
    let world = World::active().await?;
    let before = world.record()?;
    let mut desk = world.desk([]);
    desk.enable(&world.key).await?;
    desk.unlock(&world.key, false).await?;
    assert!(desk.terminal.said.contains("active already") && desk.terminal.said.contains("nothing to unlock"));
    assert_eq!(world.record()?, before);
    desk.disable(&world.key).await?;
    desk.disable(&world.key).await?;
    assert!(desk.terminal.said.contains("disabled already"));
    Ok(())
}

#[tokio::test]
async fn a_change_is_made_on_what_others_wrote_meanwhile_and_given_up_after_five_tries() -> Result<()> {
    for (times, succeeds) in [(4, true), (5, false)] {
        let world = World::active().await?;
        let left = std::cell::Cell::new(times);
        let outcome = world
            .desk([])
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
    let far = now.plus(std::time::Duration::from_hours(2_000));
    let lock = |device: &mut Device| {
        device.consecutive_failures = 100;
        device.budget_at = far;
        device.pair_at = far;
    };
    world.set(lock)?;
    let locked = world.record()?.device;
    let mut desk = world.desk([]);
    desk.unlock(&world.key, false).await?;
    assert_eq!(world.record()?.device, locked.unlocked(now, &Policy::standard()));
    assert!(desk.terminal.said.contains("step 2") && desk.terminal.asked.is_empty());

    world.set(lock)?;
    for replies in [vec![], vec![text("n")], vec![text("")]] {
        let before = world.record()?;
        let error = told(world.desk(replies).unlock(&world.key, true).await);
        assert!(error.contains("nothing was changed"), "{error}");
        assert_eq!(world.record()?, before);
    }
    world.desk([text("y")]).unlock(&world.key, true).await?;
    let device = world.record()?.device;
    assert_eq!(
        (device.budget_at, device.pair_at, device.consecutive_failures),
        (Timestamp::EPOCH, Timestamp::EPOCH, 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_removal_asks_takes_both_seeds_and_can_be_repeated() -> Result<()> {
    let world = World::active().await?;
    world
        .desk([])
        .register(&Registering {
            activate: false,
            ..world.replacing()?
        })
        .await?;
    assert_eq!(world.seeds.count(), 2);
    let error = told(world.desk([text("no")]).remove(&world.key, Removing::Recoverably).await);
    assert!(error.contains("nothing was changed"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.count()), (1, 2));
    world
        .desk([text("y")])
        .remove(&world.key, Removing::Recoverably)
        .await?;
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 0));
    let mut desk = world.desk([]);
    desk.remove(&world.key, Removing::ForGood).await?;
    assert!(desk.terminal.said.contains("There is no device"));
    // The name is free at once.
    world.desk([Reply::Code(0)]).register(&world.registering()?).await?;
    assert_eq!(world.record()?.device.status, Status::Active);
    Ok(())
}

#[tokio::test]
async fn a_device_that_is_not_there_is_named_in_the_error() -> Result<()> {
    let world = World::new()?;
    let key = &world.key;
    for error in [
        told(world.desk([]).activate(key).await),
        told(world.desk([]).disable(key).await),
        told(world.desk([]).enable(key).await),
        told(world.desk([]).unlock(key, true).await),
        told(world.desk([]).show_device(key, false).await),
    ] {
        assert!(
            error.contains("my phone of me+tag@example.com (client shop)"),
            "{error}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_recognised_as_made() -> Result<()> {
    let world = World::active().await?;
    world.devices.inject(Op::Replace, Fault::LostThenRepeated);
    let (before, version) = (world.devices.calls(Op::Replace), world.record()?.device.version);
    let mut desk = world.desk([]);
    desk.disable(&world.key).await?;
    assert!(desk.terminal.said.contains("is disabled"), "{}", desk.terminal.said);
    assert_eq!(world.devices.calls(Op::Replace), before + 1);
    assert_eq!(world.record()?.device.version, version + 1);
    Ok(())
}

#[tokio::test]
async fn a_removal_whose_answer_was_lost_goes_on_with_the_secret() -> Result<()> {
    for fault in [Fault::After, Fault::LostThenRepeated] {
        let world = World::active().await?;
        world.devices.inject(Op::Remove, fault);
        world.desk([text("y")]).remove(&world.key, Removing::ForGood).await?;
        assert_eq!((world.devices.count(), world.seeds.count()), (0, 0), "{fault:?}");
    }
    Ok(())
}

/// Devices whose items nobody can read, as in a table that somebody else wrote to. What is not there, is not there.
struct Damaged(MemoryDevices);

impl Damaged {
    fn unreadable<T>(found: Option<T>) -> Result<Option<T>, StoreError> {
        match found {
            None => Ok(None),
            Some(_found) => Err(StoreError::Corrupt {
                store: "memory",
                what: "an item without a version",
            }),
        }
    }
}

impl DeviceStore for Damaged {
    async fn get(&self, key: &DeviceKey) -> Result<Option<Device>, StoreError> {
        Self::unreadable(self.0.get(key).await?)
    }

    async fn replace(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        used_at: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        self.0.replace(key, held, new, used_at).await
    }
}

impl DeviceRegistry for Damaged {
    async fn record(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        Self::unreadable(self.0.record(key).await?)
    }

    async fn page(&self, of: &Of, after: Option<&DeviceKey>, most: u16) -> Result<Page, StoreError> {
        self.0.page(of, after, most).await
    }

    async fn offer_seed(&self, key: &DeviceKey, held: &Device, pending: &PendingSeed) -> Result<Written, StoreError> {
        self.0.offer_seed(key, held, pending).await
    }

    async fn register(&self, key: &DeviceKey, device: &Device, created_at: Timestamp) -> Result<Stored, StoreError> {
        self.0.register(key, device, created_at).await
    }

    async fn remove(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        Self::unreadable(DeviceRegistry::remove(&self.0, key).await?)
    }

    async fn remove_held(&self, key: &DeviceKey, held: &Device) -> Result<Written, StoreError> {
        self.0.remove_held(key, held).await
    }
}

/// A desk whose devices cannot be read.
fn damaged_desk(
    world: &World,
    reply: &str,
) -> Desk<Damaged, MemorySeeds, Arc<ManualClock>, Arc<SequenceRandom>, Person> {
    let desk = world.desk([text(reply)]);
    Desk {
        devices: Damaged(desk.devices),
        seeds: desk.seeds,
        clock: desk.clock,
        random: desk.random,
        terminal: desk.terminal,
        policy: desk.policy,
        seed_prefix: desk.seed_prefix,
        yes: desk.yes,
        left_behind: desk.left_behind,
    }
}

#[tokio::test]
async fn a_removal_of_an_item_that_cannot_be_read_is_cut_short_anywhere_and_can_be_repeated() -> Result<()> {
    // Removed, it is read again: the answer of the removal is that it could not be read.
    for (op, calls) in [(Op::Record, 0), (Op::Remove, 0), (Op::Record, 1)] {
        for fault in FAULTS {
            let when = format!("{fault:?} of {op:?} after {calls}");
            let world = World::active().await?;
            world.devices.inject_after(calls, op, fault);
            let mut desk = damaged_desk(&world, "y");
            let outcome = until_it_hangs(desk.remove(&world.key, Removing::ForGood)).await;
            world.assert_safe(&when);
            let gone = world.devices.count() == 0;
            let told_of_secrets = desk.terminal.noted.contains("mfactl doctor");
            assert!(!gone || told_of_secrets, "nothing was said about its secrets, {when}");
            assert_eq!(matches!(outcome, Some(Ok(()))), desk.left_behind, "{when}");
            assert!(gone || !desk.left_behind, "it is there still, {when}");

            // Run again, it finishes the job.
            let mut desk = damaged_desk(&world, "y");
            desk.remove(&world.key, Removing::ForGood).await?;
            assert_eq!((world.devices.count(), world.seeds.count()), (0, 1), "{when}");
            assert_eq!(desk.left_behind, !gone, "{when}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_item_that_cannot_be_read_is_removed_after_a_question_and_its_secrets_are_left_to_the_doctor() -> Result<()>
{
    let world = World::active().await?;
    let mut desk = damaged_desk(&world, "no");
    let error = told(desk.remove(&world.key, Removing::ForGood).await);
    assert!(error.contains("nothing was changed"), "{error}");
    assert_eq!((world.devices.count(), desk.left_behind), (1, false));

    let mut desk = damaged_desk(&world, "y");
    desk.remove(&world.key, Removing::ForGood).await?;
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 1));
    assert!(desk.left_behind, "somebody has to look for its secret");
    let noted = &desk.terminal.noted;
    assert!(
        noted.contains("an item without a version") && noted.contains("mfactl doctor"),
        "{noted}"
    );
    assert!(desk.terminal.said.contains("is removed"), "{}", desk.terminal.said);
    Ok(())
}

#[tokio::test]
async fn an_item_that_cannot_be_read_and_stays_is_no_removal() -> Result<()> {
    let world = World::active().await?;
    world.devices.inject(Op::Remove, Fault::Before);
    let mut desk = damaged_desk(&world, "y");
    let error = told(desk.remove(&world.key, Removing::ForGood).await);
    assert!(
        error.contains("run it again") && error.contains("mfactl doctor"),
        "{error}"
    );
    assert_eq!((world.devices.count(), desk.left_behind), (1, false));
    Ok(())
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_no_damage_and_nothing_is_removed() -> Result<()> {
    let world = World::active().await?;
    world.devices.inject(Op::Record, Fault::Before);
    let mut desk = world.desk([text("y")]);
    let error = told(desk.remove(&world.key, Removing::ForGood).await);
    assert!(error.contains("nothing was changed"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.count()), (1, 1));
    Ok(())
}

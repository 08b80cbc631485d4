//! Moving seeds over stores in memory: interrupted at every call, beside itself, and beside others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::clock::Clock as _;
use shared::device::{Device, Status};
use shared::names::{DeviceKey, SeedRef};
use shared::otp::{OtpParameters, Seed, Step};
use shared::ports::operator::SeedInventory as _;
use shared::ports::registry::SeedRegistry as _;
use shared::sealed::SeedStorage;
use shared::testing::memory::{Fault, Op};

use super::{MoveRequest, storage_of};
use crate::commands::testing::world::{MemoryAdmin, MovingClock, NOW, World, at_every_point, error_text, text};

const MOVE: MoveRequest = MoveRequest {
    dry_run: false,
    page: 2,
};

async fn move_seeds(world: &World, admin: &mut MemoryAdmin, to: SeedStorage) -> Result<()> {
    admin.seeds.keep(to);
    admin.yes = true;
    admin.move_seeds(&MOVE, &MovingClock(Arc::clone(&world.clock))).await
}

/// Devices of both kinds.
async fn world() -> Result<World> {
    let world = World::new()?;
    for (number, storage) in (1..).zip([
        SeedStorage::Sealed,
        SeedStorage::Secrets,
        SeedStorage::Secrets,
        SeedStorage::Sealed,
        SeedStorage::Secrets,
    ]) {
        world.put_device(&format!("user {number}"), number, storage).await?;
    }
    Ok(world)
}

/// And new seeds that waited for too long, in the other place than the devices' own.
async fn world_with_expired() -> Result<World> {
    let world = world().await?;
    for (number, storage) in [(1, SeedStorage::Secrets), (2, SeedStorage::Sealed)] {
        let key = user(&world, number)?;
        world.put_pending(&key, 10 + number, storage, NOW).await?;
    }
    Ok(world)
}

fn has_pending(world: &World) -> bool {
    world.devices.all().iter().any(|record| record.pending.is_some())
}

fn user(world: &World, number: u8) -> Result<DeviceKey> {
    let mut all = world.devices.all().into_iter().map(|record| record.key);
    all.find(|key| key.user.as_str() == format!("user {number}"))
        .context("no user")
}

/// The seed of each user.
fn seeds(world: &World) -> BTreeMap<String, Option<String>> {
    let all = world.devices.all().into_iter().map(|record| {
        let seed = world.seeds.seed_of(&record.key, &record.device);
        let seed = seed.map(|seed| seed.to_base32().to_string());
        (record.key.user.as_str().to_owned(), seed)
    });
    all.collect()
}

fn is_moved(world: &World, to: SeedStorage) -> bool {
    let all = world.devices.all();
    all.iter().all(|record| storage_of(&record.device.seed_ref) == to)
}

#[tokio::test]
async fn seeds_move_there_and_back_and_old_secrets_can_be_restored() -> Result<()> {
    let world = world().await?;
    let (before, held) = (seeds(&world), world.devices.all());
    let mut admin = world.admin([text("n")]);
    admin.seeds.keep(SeedStorage::Sealed);
    let dry_run = MoveRequest { dry_run: true, ..MOVE };
    admin
        .move_seeds(&dry_run, &MovingClock(Arc::clone(&world.clock)))
        .await?;
    assert!(
        admin.terminal.output.contains("3 devices of 5 to move"),
        "{}",
        admin.terminal.output
    );
    assert!(
        admin
            .move_seeds(&MOVE, &MovingClock(Arc::clone(&world.clock)))
            .await
            .is_err()
    );
    assert_eq!(world.devices.all(), held);

    for (to, moved, secrets) in [(SeedStorage::Sealed, 3, 0), (SeedStorage::Secrets, 5, 5)] {
        let held = world.devices.all();
        let mut admin = world.admin([]);
        move_seeds(&world, &mut admin, to).await?;
        let output = &admin.terminal.output;
        assert!(
            output.contains(&format!("{moved} devices moved, {} not in need", 5 - moved)),
            "{output}"
        );
        assert!(is_moved(&world, to));
        assert_eq!(
            (seeds(&world), world.seeds.count(), world.orphans()),
            (before.clone(), secrets, 0)
        );
        for record in held {
            let now = world.devices.peek(&record.key).context("gone")?;
            let was_moved = storage_of(&record.device.seed_ref) != to;
            assert_eq!(now.version, record.device.version + u64::from(was_moved));
            assert_eq!(now.sealed.is_some(), to == SeedStorage::Sealed);
            if let Some(secret) = record.device.seed_ref.secret() {
                world.seeds.restore(secret.name()).await?;
                world.seeds.remove(secret).await?;
            }
        }
    }
    let calls = world.devices.calls(Op::MoveSeed);
    move_seeds(&world, &mut world.admin([]), SeedStorage::Secrets).await?;
    assert_eq!(world.devices.calls(Op::MoveSeed), calls, "nothing is left to do");
    Ok(())
}

#[tokio::test]
async fn a_move_can_be_cut_short_at_every_call() -> Result<()> {
    let world = world_with_expired;
    let expected = seeds(&world().await?);
    for to in SeedStorage::ALL {
        let points = at_every_point(
            world,
            async |world, admin| move_seeds(world, admin, to).await,
            &[],
            |world| is_moved(world, to) && seeds(world) == expected && !has_pending(world),
        )
        .await?;
        assert!(points > 70, "{points}");
    }
    Ok(())
}

#[tokio::test]
async fn two_moves_at_once_leave_every_device_with_its_seed_and_no_secret_behind() -> Result<()> {
    for to in SeedStorage::ALL {
        let world = world().await?;
        let before = seeds(&world);
        let (mut one, mut other) = (world.admin([]), world.admin([]));
        let (one, other) = tokio::join!(move_seeds(&world, &mut one, to), move_seeds(&world, &mut other, to));
        assert_eq!((error_text(one), error_text(other)), (String::new(), String::new()));
        assert!(is_moved(&world, to) && world.orphans() == 0);
        assert_eq!(seeds(&world), before);
    }
    Ok(())
}

#[tokio::test]
async fn a_device_whose_new_seed_waits_is_skipped_until_that_is_over() -> Result<()> {
    let world = world().await?;
    let (pending, key) = (NOW.plus(Duration::from_mins(1)), user(&world, 2)?);
    let offered = world.put_pending(&key, 12, SeedStorage::Secrets, pending).await?;
    let mut admin = world.admin([]);
    let error = error_text(move_seeds(&world, &mut admin, SeedStorage::Sealed).await);
    assert!(error.contains("1 device not changed"), "{error}");
    assert!(
        admin
            .terminal
            .notes
            .contains("a new seed of the device my phone of user 2")
            && admin.terminal.output.contains("2 devices moved")
            && admin.terminal.output.contains("1 skipped"),
        "{}",
        admin.terminal.notes
    );
    assert!(world.seeds.has(&offered));

    world.clock.set(pending);
    let before = seeds(&world);
    move_seeds(&world, &mut world.admin([]), SeedStorage::Sealed).await?;
    assert!(is_moved(&world, SeedStorage::Sealed) && !world.seeds.has(&offered));
    assert_eq!((seeds(&world), world.orphans()), (before, 0));
    assert_eq!(world.devices.peek_record(&key).and_then(|record| record.pending), None);
    Ok(())
}

#[tokio::test]
async fn a_new_seed_that_waited_for_too_long_is_forgotten_wherever_it_is() -> Result<()> {
    for to in SeedStorage::ALL {
        let world = world_with_expired().await?;
        let before = seeds(&world);
        move_seeds(&world, &mut world.admin([]), to).await?;
        assert!(is_moved(&world, to) && !has_pending(&world));
        assert_eq!((seeds(&world), world.orphans()), (before, 0));
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_asked_if_no_device_can_be_moved_now() -> Result<()> {
    let world = World::new()?;
    let key = world.put_device("user 1", 1, SeedStorage::Secrets).await?;
    let until = NOW.plus(Duration::from_mins(1));
    world.put_pending(&key, 11, SeedStorage::Secrets, until).await?;
    let held = world.devices.all();
    for dry_run in [true, false] {
        let mut admin = world.admin([]);
        admin.seeds.keep(SeedStorage::Sealed);
        let request = MoveRequest { dry_run, ..MOVE };
        let delay = MovingClock(Arc::clone(&world.clock));
        let error = error_text(admin.move_seeds(&request, &delay).await);
        assert_eq!(error.contains("1 device not changed"), !dry_run, "{error}");
        let (output, notes) = (&admin.terminal.output, &admin.terminal.notes);
        assert_eq!(output, "None of 1 device to move now. 1 cannot be moved now.\n");
        assert!(notes.contains("a new seed of the device my phone of user 1"), "{notes}");
        assert!(admin.terminal.questions.is_empty());
    }
    assert_eq!(world.devices.all(), held);
    Ok(())
}

#[tokio::test]
async fn a_device_that_a_user_may_be_activating_is_skipped() -> Result<()> {
    use shared::device::{RegisteredBy, Registration};
    use shared::ports::registry::DeviceRegistry as _;
    for (by, skipped) in [(RegisteredBy::Http, true), (RegisteredBy::Operator, false)] {
        let world = World::new()?;
        let key = world.put_device("user 1", 1, SeedStorage::Secrets).await?;
        let device = Device {
            status: Status::ActivationRequired,
            ..world.devices.peek(&key).context("gone")?
        };
        world.devices.take(&key);
        let registration = Registration {
            created_at: NOW,
            by,
            activate_by: Some(NOW.plus(Duration::from_mins(1))),
        };
        world.devices.register(&key, &device, &registration).await?;
        let outcome = move_seeds(&world, &mut world.admin([]), SeedStorage::Sealed).await;
        assert_eq!(
            (outcome.is_err(), is_moved(&world, SeedStorage::Sealed)),
            (skipped, !skipped)
        );
        world.clock.advance(Duration::from_mins(1));
        move_seeds(&world, &mut world.admin([]), SeedStorage::Sealed).await?;
        assert!(is_moved(&world, SeedStorage::Sealed));
    }
    Ok(())
}

/// Moves to sealed; just before the first write of a device, someone else acts.
async fn move_beside(
    world: &World,
    act: impl Fn(&World) -> Result<()> + Send + Sync + 'static,
) -> Result<(String, MemoryAdmin)> {
    let (others, done) = (world.clone(), AtomicBool::new(false));
    world.devices.before_each(move |op| {
        if op == Op::MoveSeed && !done.swap(true, Ordering::SeqCst) {
            act(&others).unwrap_or_else(|error| unreachable!("{error}"));
        }
    });
    let mut admin = world.admin([]);
    let error = error_text(move_seeds(world, &mut admin, SeedStorage::Sealed).await);
    Ok((error, admin))
}

#[tokio::test]
async fn a_sign_in_beside_a_move_is_kept_and_the_device_is_read_again() -> Result<()> {
    let world = world().await?;
    let before = seeds(&world);
    let (error, admin) = move_beside(&world, |world| {
        let key = user(world, 2)?;
        let held = world.devices.peek(&key).context("gone")?;
        let new = Device {
            version: held.version + 1,
            last_step: Step(77),
            ..held.clone()
        };
        world.devices.swap_seed(&key, &held, &new);
        Ok(())
    })
    .await?;
    assert_eq!(error, "");
    let device = world.devices.peek(&user(&world, 2)?).context("gone")?;
    assert_eq!(device.last_step, Step(77));
    assert!(is_moved(&world, SeedStorage::Sealed) && seeds(&world) == before && world.orphans() == 0);
    assert!(
        admin.terminal.output.contains("1 changed concurrently"),
        "{}",
        admin.terminal.output
    );
    Ok(())
}

#[tokio::test]
async fn a_seed_that_is_offered_beside_a_move_is_not_lost() -> Result<()> {
    let world = world().await?;
    let key = user(&world, 2)?;
    // The offer is stored before, so that the hook needs no call; without a new version, so that only it is in the way.
    let offered = world
        .put_pending(&key, 12, SeedStorage::Secrets, NOW.plus(Duration::from_mins(1)))
        .await?;
    let offer = world
        .devices
        .peek_record(&key)
        .and_then(|record| record.pending)
        .context("no offer")?;
    let device = world.devices.peek(&key).context("gone")?;
    world.devices.put(&key, &device);
    let (error, _) = move_beside(&world, move |world| {
        world.devices.put_pending(&user(world, 2)?, offer.clone());
        Ok(())
    })
    .await?;
    assert!(error.contains("1 device not changed"), "{error}");
    let record = world.devices.peek_record(&key).context("gone")?;
    assert_eq!(record.pending.map(|pending| pending.seed_ref), Some(offered.clone()));
    assert!(record.device == device && world.seeds.has(&offered) && world.seeds.has(&device.seed_ref));
    assert_eq!(world.orphans(), 0);
    Ok(())
}

#[tokio::test]
async fn a_device_that_is_removed_or_registered_again_beside_a_move_is_left_as_it_is() -> Result<()> {
    for again in [false, true] {
        let world = world().await?;
        let new_seed = world.put_device("user 9", 9, SeedStorage::Secrets).await?;
        let other = world.devices.peek(&new_seed).context("gone")?;
        world.devices.take(&new_seed);
        let expected = other.seed_ref.clone();
        let (error, _) = move_beside(&world, move |world| {
            let key = user(world, 2)?;
            world.devices.take(&key);
            if again {
                world.devices.put(&key, &other);
            }
            Ok(())
        })
        .await?;
        assert_eq!(error, "");
        if again {
            // It is moved too, since its seed is in a secret.
            let key = user(&world, 2)?;
            let device = world.devices.peek(&key).context("gone")?;
            let seed = world.seeds.seed_of(&key, &device).context("no seed")?;
            let expected = Seed::from_bytes(&[9; 20], OtpParameters::default())?;
            assert_eq!(*seed.to_base32(), *expected.to_base32());
        } else {
            assert!(user(&world, 2).is_err() && world.seeds.has(&expected));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_of_a_move_that_may_still_take_effect_is_kept_and_named() -> Result<()> {
    let world = world().await?;
    world.devices.inject(Op::MoveSeed, Fault::Before);
    let mut admin = world.admin([]);
    let outcome = move_seeds(&world, &mut admin, SeedStorage::Secrets).await;
    assert!(outcome.is_err() && admin.left_behind);
    assert_eq!(world.orphans(), 1);
    assert!(
        admin.terminal.notes.contains("was not removed"),
        "{}",
        admin.terminal.notes
    );
    Ok(())
}

#[tokio::test]
async fn a_seed_that_cannot_be_used_is_named_and_the_others_move() -> Result<()> {
    let world = world().await?;
    let key = user(&world, 3)?;
    let device = world.devices.peek(&key).context("gone")?;
    world
        .seeds
        .remove(device.seed_ref.secret().context("not a secret")?)
        .await?;
    let mut admin = world.admin([]);
    let error = error_text(move_seeds(&world, &mut admin, SeedStorage::Sealed).await);
    assert!(error.contains("1 device not changed"), "{error}");
    let notes = &admin.terminal.notes;
    assert!(
        notes.contains("my phone of user 3") && notes.contains("does not exist"),
        "{notes}"
    );
    assert_eq!(world.devices.peek(&key), Some(device));
    let moved = world
        .devices
        .all()
        .into_iter()
        .filter(|record| matches!(record.device.seed_ref, SeedRef::Sealed(_)));
    assert_eq!(moved.count(), 4);
    Ok(())
}

#[tokio::test]
async fn secrets_are_created_at_the_pace_of_an_import() -> Result<()> {
    let world = World::new()?;
    for number in 0..100 {
        world
            .put_device(&format!("user {number}"), number, SeedStorage::Sealed)
            .await?;
    }
    world.seeds.inject_after(10, Op::Create, Fault::Throttled);
    move_seeds(&world, &mut world.admin([]), SeedStorage::Secrets).await?;
    assert!(is_moved(&world, SeedStorage::Secrets) && world.orphans() == 0);
    let took = world.clock.now().as_millis() - NOW.as_millis();
    // 100 at 40 a second, and a second for the one that was throttled.
    assert!((3_400..3_800).contains(&took), "{took}");
    Ok(())
}

//! Fixes while others write, and fixes that are interrupted.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use shared::device::{Device, Status};
use shared::names::SeedRef;
use shared::otp::{OtpParameters, Seed};
use shared::ports::operator::SeedInventory as _;
use shared::ports::registry::SeedRegistry as _;
use shared::testing::memory::Op;

use super::memory_stack::{FIX, NoDelay, doctor, put, put_unnamed};
use crate::commands::testing::world::{OPS, World, error_text, points_since, until_it_hangs};

/// Fixes while others change devices before calls. Returns the error.
async fn fix_with_hook(world: &World, hook: impl Fn(Op) + Send + Sync + 'static) -> String {
    let mut doctor = doctor(world, []);
    doctor.yes = true;
    world.devices.before_each(hook);
    error_text(doctor.examine(&FIX, &NoDelay).await)
}

#[tokio::test]
async fn a_secret_is_not_restored_for_a_device_that_no_longer_names_it() -> Result<()> {
    for gone in [true, false] {
        let world = World::new()?;
        put(&world, "alice", 1)?;
        let (key, removed) = put(&world, "bob", 2)?;
        world.seeds.remove(&removed).await?;
        let reads = AtomicUsize::new(0);
        let (others, key) = (world.clone(), key.clone());
        let hook = move |op| {
            // The first read confirms the finding, the second one precedes the change.
            if op == Op::Record && reads.fetch_add(1, Ordering::Relaxed) == 1 {
                others.devices.take(&key);
                if !gone {
                    put(&others, "bob", 3).unwrap_or_else(|_| unreachable!("a device"));
                }
            }
        };
        let error = fix_with_hook(&world, hook).await;
        assert_eq!(error, "");
        assert!(!world.has(&removed));
    }
    Ok(())
}

#[tokio::test]
async fn a_device_whose_secret_reappears_is_not_removed() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (key, gone) = put(&world, "bob", 2)?;
    world.seeds.purge(&gone).await?;
    let reads = AtomicUsize::new(0);
    let others = world.clone();
    let hook = move |op| {
        if op == Op::Record && reads.fetch_add(1, Ordering::Relaxed) == 1 {
            let seed = Seed::from_bytes(&[2; 20], OtpParameters::default());
            let seed = seed.unwrap_or_else(|_| unreachable!("a seed"));
            others
                .seeds
                .put(gone.name(), &seed)
                .unwrap_or_else(|_| unreachable!("a secret"));
        }
    };
    fix_with_hook(&world, hook).await;
    assert!(world.devices.peek(&key).is_some());
    Ok(())
}

#[tokio::test]
async fn a_device_that_was_registered_again_is_not_removed() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (key, gone) = put(&world, "bob", 2)?;
    world.seeds.purge(&gone).await?;
    let others = world.clone();
    let register_again = move |op| {
        if op == Op::Remove {
            put(&others, "bob", 3).unwrap_or_else(|_| unreachable!("a device"));
        }
    };
    let error = fix_with_hook(&world, register_again).await;
    assert_eq!(error, "");
    let device = world.devices.peek(&key).context("the new device is gone")?;
    assert!(device.seed_ref.secret() != Some(&gone) && world.seeds.has(&device.seed_ref));
    Ok(())
}

#[tokio::test]
async fn a_device_that_was_written_concurrently_is_left_for_the_next_run() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (key, gone) = put(&world, "bob", 2)?;
    world.seeds.purge(&gone).await?;
    let (others, written_key) = (world.devices.clone(), key.clone());
    let written = move |op| {
        if op == Op::Remove {
            let mut device = others.peek(&written_key).unwrap_or_else(|| unreachable!("a device"));
            device.version += 1;
            others.put(&written_key, &device);
        }
    };
    let error = fix_with_hook(&world, written).await;
    assert!(
        error.contains("1 problem") && world.devices.peek(&key).is_some(),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn an_expired_device_that_is_activated_or_registered_again_during_the_fix_keeps_its_secret() -> Result<()> {
    for registered_again in [false, true] {
        let world = World::waiting().await?;
        put(&world, "alice", 1)?;
        world.clock.advance(world.request()?.activate_within);
        let others = world.clone();
        let written = move |op| {
            if op == Op::Remove {
                if registered_again {
                    put(&others, others.key.user.as_str(), 9).unwrap_or_else(|_| unreachable!("a device"));
                } else {
                    let active = others.set(|device| device.status = Status::Active);
                    active.unwrap_or_else(|_| unreachable!("a device"));
                }
            }
        };
        let error = fix_with_hook(&world, written).await;
        assert_eq!(error, "");
        assert!(world.has(&world.secret()?));
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_that_a_device_names_by_the_time_of_the_answer_is_not_removed() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let late = put_unnamed(&world, 2)?;
    let never = put_unnamed(&world, 3)?;
    let (others, scans, seed) = (world.clone(), AtomicUsize::new(0), late.clone());
    let named = move |op| {
        if op == Op::Page && scans.fetch_add(1, Ordering::Relaxed) == 1 {
            let device = Device::registered(
                7,
                Status::Active,
                SeedRef::Secret(seed.clone()),
                OtpParameters::default(),
            );
            others.devices.put(&others.key, &device);
        }
    };
    let error = fix_with_hook(&world, named).await;
    assert_eq!(error, "");
    assert!(world.has(&late) && !world.has(&never));
    Ok(())
}

#[tokio::test]
async fn a_device_whose_secret_is_not_listed_yet_is_complete() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    // Between the listing of the secrets and the scan of the devices.
    let (others, scans) = (world.clone(), AtomicUsize::new(0));
    let registered = move |op| {
        if op == Op::Page && scans.fetch_add(1, Ordering::Relaxed) == 0 {
            put(&others, "bob", 2).unwrap_or_else(|_| unreachable!("a device"));
        }
    };
    let error = fix_with_hook(&world, registered).await;
    assert_eq!(error, "");
    assert_eq!((world.devices.count(), world.seeds.count()), (2, 2));
    Ok(())
}

#[tokio::test]
async fn an_interrupted_fix_does_no_harm_and_is_finished_by_the_next_run() -> Result<()> {
    let prepare = async || {
        let world = World::new()?;
        put(&world, "alice", 1)?;
        let (_, removed) = put(&world, "bob", 2)?;
        let (_, gone) = put(&world, "carol", 3)?;
        put_unnamed(&world, 4)?;
        put_unnamed(&world, 5)?;
        world.seeds.remove(&removed).await?;
        world.seeds.purge(&gone).await?;
        anyhow::Ok(world)
    };
    let fix = async |world: &World| {
        let mut doctor = doctor(world, []);
        doctor.yes = true;
        until_it_hangs(doctor.examine(&FIX, &NoDelay)).await
    };
    let world = prepare().await?;
    let before = OPS.map(|op| world.calls(op));
    assert!(matches!(fix(&world).await, Some(Ok(()))));
    let mut points = 0;
    for point in points_since(before, &world) {
        let world = prepare().await?;
        let when = world.interrupt(point);
        let outcome = fix(&world).await;
        points += 1;
        let complete = |world: &World| {
            world
                .devices
                .all()
                .iter()
                .filter(|record| world.seeds.has(&record.device.seed_ref))
                .count()
        };
        assert!(complete(&world) >= 1, "{when}");
        if matches!(outcome, Some(Ok(()))) {
            assert_eq!(
                (world.devices.count(), complete(&world), world.orphans()),
                (2, 2, 0),
                "{when}"
            );
        }
        assert!(matches!(fix(&world).await, Some(Ok(()))), "{when}");
        assert_eq!(
            (world.devices.count(), complete(&world), world.orphans()),
            (2, 2, 0),
            "{when}"
        );
    }
    assert!(points >= 60, "{points}");
    Ok(())
}

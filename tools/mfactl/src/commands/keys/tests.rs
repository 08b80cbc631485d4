//! The commands for the key ring over stores in memory: interrupted at every call, beside themselves, and beside others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use shared::clock::Clock as _;
use shared::device::{Device, DeviceRecord, PendingSeed};
use shared::names::DeviceKey;
use shared::otp::{OtpParameters, Seed, Step};
use shared::ports::operator::KeyRingStore as _;
use shared::sealed::{KeyId, SealedSeed, SeedStorage};
use shared::testing::memory::{Fault, Op};

use super::{ListKeysRequest, ResealRequest, RotateRequest, keys_of};
use crate::commands::testing::world::{MemoryAdmin, MovingClock, NOW, World, at_every_point, error_text, text};

const RESEAL: ResealRequest = ResealRequest {
    seed_cache: Duration::from_mins(5),
    wait: false,
    dry_run: false,
    page: 2,
};
const ROTATE: RotateRequest = RotateRequest {
    seed_cache: Duration::from_mins(5),
    dry_run: false,
};

async fn reseal(world: &World, admin: &mut MemoryAdmin, request: &ResealRequest) -> Result<()> {
    admin.yes = true;
    admin.reseal(request, &MovingClock(Arc::clone(&world.clock))).await
}

/// Devices of every kind, then a rotation long ago.
async fn world() -> Result<World> {
    let world = World::new()?;
    for (number, storage) in (1..).zip([
        SeedStorage::Sealed,
        SeedStorage::Secrets,
        SeedStorage::Sealed,
        SeedStorage::Secrets,
        SeedStorage::Sealed,
    ]) {
        world.put_device(&format!("user {number}"), number, storage).await?;
    }
    let key = |number| user(&world, number);
    let until = NOW.plus(Duration::from_hours(24));
    world.put_pending(&key(1)?, 11, SeedStorage::Sealed, until).await?;
    world.put_pending(&key(3)?, 13, SeedStorage::Secrets, until).await?;
    world.put_pending(&key(4)?, 14, SeedStorage::Sealed, until).await?;
    world.seeds.rotate();
    Ok(world)
}

fn user(world: &World, number: u8) -> Result<DeviceKey> {
    let all = world.devices.all().into_iter().map(|record| record.key);
    let name = format!("user {number}");
    all.into_iter().find(|key| key.user.as_str() == name).context("no user")
}

/// Everything of the devices but their sealed seeds, and the seeds themselves.
fn essence(world: &World) -> BTreeMap<String, (DeviceRecord, Vec<String>)> {
    let all = world.devices.all().into_iter().map(|mut record| {
        let own = world.seeds.seed_of(&record.key, &record.device);
        let pending = record.pending.as_mut().and_then(|pending| {
            let device = Device {
                seed_ref: pending.seed_ref.clone(),
                sealed: pending.sealed.take(),
                ..record.device.clone()
            };
            world.seeds.seed_of(&record.key, &device)
        });
        record.device.sealed = None;
        let seeds = own.iter().chain(&pending).map(|seed| seed.to_base32().to_string());
        let seeds = seeds.collect();
        (record.key.user.as_str().to_owned(), (record, seeds))
    });
    all.collect()
}

/// Whether all sealed seeds are under the current key.
fn is_resealed(world: &World, key: u8) -> bool {
    let all = world.devices.all();
    all.iter()
        .flat_map(|record| keys_of(record, NOW))
        .all(|found| found == Some(KeyId([0, 0, 0, key])))
}

#[tokio::test]
async fn a_rotation_adds_a_key_and_the_others_stay() -> Result<()> {
    let world = world().await?;
    world.seeds.set_time(NOW);
    let before = world.seeds.read_key_ring().await?;
    let mut refusing = world.admin([text("n")]);
    assert!(refusing.rotate_keys(&ROTATE).await.is_err());
    let dry_run = RotateRequest {
        dry_run: true,
        ..ROTATE
    };
    world.admin([]).rotate_keys(&dry_run).await?;
    assert_eq!(world.seeds.read_key_ring().await?, before);

    let mut admin = world.admin([text("y")]);
    admin.rotate_keys(&ROTATE).await?;
    let after = world.seeds.read_key_ring().await?;
    let mut expected = vec![before.current];
    expected.extend(&before.previous);
    assert!(!before.has(after.current) && after.previous == expected);
    let ready = NOW.plus(Duration::from_mins(6)).rfc3339();
    assert!(
        admin.terminal.output.contains(&format!("Key {}", after.current)) && admin.terminal.output.contains(&ready),
        "{}",
        admin.terminal.output
    );
    Ok(())
}

#[tokio::test]
async fn of_two_rotations_at_once_one_is_refused_and_no_key_is_lost() -> Result<()> {
    let world = world().await?;
    let before = world.seeds.read_key_ring().await?;
    let (mut one, mut other) = (world.admin([text("y")]), world.admin([text("y")]));
    let (one, other) = tokio::join!(one.rotate_keys(&ROTATE), other.rotate_keys(&ROTATE));
    let errors = [error_text(one), error_text(other)];
    let refused = errors.iter().filter(|error| error.contains("rotated concurrently"));
    assert!(refused.count() == 1 && errors.contains(&String::new()), "{errors:?}");
    let after = world.seeds.read_key_ring().await?;
    assert_eq!(after.previous.len(), before.previous.len() + 1);
    assert!(after.has(before.current));
    Ok(())
}

#[tokio::test]
async fn a_rotation_can_be_cut_short_at_every_call() -> Result<()> {
    let points = at_every_point(
        world,
        async |_, admin| admin.rotate_keys(&ROTATE).await,
        &[text("y")],
        // The one that `world` made, and this one; or one more after a lost answer.
        |world| is_resealed(world, 0) && world.devices.count() == 5,
    )
    .await?;
    assert_eq!(points, 12);
    Ok(())
}

#[tokio::test]
async fn seeds_are_sealed_again_and_nothing_else_changes() -> Result<()> {
    for page in [1, 2, 100] {
        let world = world().await?;
        let before = essence(&world);
        let mut admin = world.admin([]);
        reseal(
            &world,
            &mut admin,
            &ResealRequest {
                dry_run: true,
                ..RESEAL
            },
        )
        .await?;
        assert!(is_resealed(&world, 0));
        assert!(
            admin
                .terminal
                .output
                .contains("4 devices sealed under another key than 00000001, 0 under it"),
            "{}",
            admin.terminal.output
        );
        reseal(&world, &mut admin, &ResealRequest { page, ..RESEAL }).await?;
        assert!(is_resealed(&world, 1));
        assert_eq!(essence(&world), before);
        assert!(
            admin
                .terminal
                .output
                .contains("4 devices sealed again under 00000001, 1 not in need of it"),
            "{}",
            admin.terminal.output
        );
        let last = admin.terminal.progress.last();
        assert!(matches!(last, Some((5, 5, _))), "{last:?}");

        let calls = world.devices.calls(Op::Reseal);
        reseal(&world, &mut admin, &RESEAL).await?;
        assert_eq!(world.devices.calls(Op::Reseal), calls, "nothing is left to do");
    }
    Ok(())
}

#[tokio::test]
async fn a_reseal_can_be_cut_short_at_every_call() -> Result<()> {
    let expected = essence(&world().await?);
    let points = at_every_point(
        world,
        async |world, admin| reseal(world, admin, &RESEAL).await,
        &[],
        |world| is_resealed(world, 1) && essence(world) == expected,
    )
    .await?;
    assert!(points > 80, "{points}");
    Ok(())
}

#[tokio::test]
async fn a_reseal_before_all_functions_have_the_ring_is_refused_or_waits() -> Result<()> {
    for (cache, wait) in [(300, 360), (0, 360), (1, 61), (3_600, 3_660)] {
        let world = world().await?;
        world.seeds.set_time(NOW);
        world.seeds.rotate();
        let request = ResealRequest {
            seed_cache: Duration::from_secs(cache),
            ..RESEAL
        };
        let ready = NOW.plus(Duration::from_secs(wait));
        world.clock.set(ready.minus(Duration::from_secs(1)));
        let mut admin = world.admin([]);
        let error = error_text(reseal(&world, &mut admin, &request).await);
        assert!(error.contains(&ready.rfc3339()) && error.contains("--wait"), "{error}");
        assert!(is_resealed(&world, 0));

        reseal(&world, &mut admin, &ResealRequest { wait: true, ..request }).await?;
        assert!(is_resealed(&world, 2) && world.clock.now() == ready);
        assert!(admin.terminal.notes.contains("Waiting"), "{}", admin.terminal.notes);
    }
    Ok(())
}

#[tokio::test]
async fn a_reseal_counts_from_when_the_ring_became_current_however_long_the_rotation_was_held_up() -> Result<()> {
    let world = world().await?;
    world.seeds.set_time(NOW);
    world.seeds.rotate();
    world.seeds.hold_up_swap(Duration::from_hours(1));
    let ready = NOW.plus(Duration::from_mins(66));
    world.clock.set(ready.minus(Duration::from_secs(1)));
    let error = error_text(reseal(&world, &mut world.admin([]), &RESEAL).await);
    assert!(error.contains(&ready.rfc3339()) && is_resealed(&world, 0), "{error}");
    world.clock.set(ready);
    reseal(&world, &mut world.admin([]), &RESEAL).await?;
    assert!(is_resealed(&world, 2));

    // One that became current after the ring was read.
    let others = world.clone();
    world.seeds.before_each(move |op| {
        if op == Op::KeyRingChangedAt {
            others.seeds.rotate();
        }
    });
    let error = error_text(reseal(&world, &mut world.admin([]), &RESEAL).await);
    assert!(error.contains("the key ring was rotated concurrently"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_new_seed_that_waited_for_too_long_needs_no_key_and_is_not_sealed_again() -> Result<()> {
    let world = world().await?;
    let key = user(&world, 1)?;
    let foreign = SealedSeed::from_bytes(vec![1, 0xaa, 0xbb, 0xcc, 0xdd, 1]);
    let record = world.devices.peek_record(&key).context("gone")?;
    let expired = PendingSeed {
        sealed: Some(foreign),
        until: NOW,
        ..record.pending.context("nothing pends")?
    };
    world.devices.put_pending(&key, expired.clone());
    reseal(&world, &mut world.admin([]), &RESEAL).await?;
    assert!(is_resealed(&world, 1));
    let record = world.devices.peek_record(&key).context("gone")?;
    assert_eq!(record.pending, Some(expired.clone()));
    let list = ListKeysRequest {
        count: true,
        json: false,
        page: 2,
    };
    let mut admin = world.admin([]);
    admin.list_keys(&list).await?;
    let output = &admin.terminal.output;
    assert!(!output.contains("aabbccdd"), "{output}");

    // As long as it waits, it does.
    let waits = PendingSeed {
        until: NOW.plus(Duration::from_secs(1)),
        ..expired
    };
    world.devices.put_pending(&key, waits);
    let mut admin = world.admin([]);
    admin.list_keys(&list).await?;
    assert!(admin.terminal.output.contains("aabbccdd"), "{}", admin.terminal.output);
    assert!(reseal(&world, &mut world.admin([]), &RESEAL).await.is_err());
    Ok(())
}

#[tokio::test]
async fn two_reseals_at_once_leave_every_device_with_its_seed() -> Result<()> {
    let world = world().await?;
    let before = essence(&world);
    let (mut one, mut other) = (world.admin([]), world.admin([]));
    let (one, other) = tokio::join!(reseal(&world, &mut one, &RESEAL), reseal(&world, &mut other, &RESEAL));
    assert_eq!((error_text(one), error_text(other)), (String::new(), String::new()));
    assert!(is_resealed(&world, 1));
    assert_eq!(essence(&world), before);
    Ok(())
}

/// Reseals; just before the first write of a device, someone else acts.
async fn reseal_beside(
    world: &World,
    act: impl Fn(&World) -> Result<()> + Send + Sync + 'static,
) -> Result<MemoryAdmin> {
    let (others, done) = (world.clone(), AtomicBool::new(false));
    world.devices.before_each(move |op| {
        if op == Op::Reseal && !done.swap(true, Ordering::SeqCst) {
            act(&others).unwrap_or_else(|error| unreachable!("{error}"));
        }
    });
    let mut admin = world.admin([]);
    reseal(world, &mut admin, &RESEAL).await?;
    assert!(is_resealed(world, 1));
    Ok(admin)
}

#[tokio::test]
async fn a_sign_in_beside_a_reseal_is_kept() -> Result<()> {
    let world = world().await?;
    let admin = reseal_beside(&world, |world| {
        for record in world.devices.all() {
            let new = Device {
                version: record.device.version + 1,
                last_step: Step(77),
                ..record.device.clone()
            };
            world.devices.swap_seed(&record.key, &record.device, &new);
        }
        Ok(())
    })
    .await?;
    assert!(
        world
            .devices
            .all()
            .iter()
            .all(|record| record.device.last_step == Step(77))
    );
    assert!(
        admin.terminal.output.contains("0 changed concurrently"),
        "it does not conflict"
    );
    Ok(())
}

#[tokio::test]
async fn a_seed_that_was_replaced_beside_a_reseal_is_not_brought_back() -> Result<()> {
    let world = world().await?;
    // The pending seed is swapped in, as an activation does.
    let admin = reseal_beside(&world, |world| {
        let record = world.devices.peek_record(&user(world, 1)?).context("gone")?;
        let pending = record.pending.context("nothing pends")?;
        let new = Device {
            seed_ref: pending.seed_ref,
            sealed: pending.sealed,
            ..record.device.clone()
        };
        world.devices.put(&record.key, &new);
        Ok(())
    })
    .await?;
    let key = user(&world, 1)?;
    let device = world.devices.peek(&key).context("gone")?;
    let seed = world.seeds.seed_of(&key, &device).context("it does not open")?;
    let pending = Seed::from_bytes(&[11; 20], OtpParameters::default())?;
    assert_eq!(*seed.to_base32(), *pending.to_base32());
    assert!(
        admin.terminal.output.contains("1 changed concurrently"),
        "{}",
        admin.terminal.output
    );
    Ok(())
}

#[tokio::test]
async fn a_rotation_beside_a_reseal_stops_it() -> Result<()> {
    let world = world().await?;
    let before = essence(&world);
    let (others, done) = (world.clone(), AtomicBool::new(false));
    world.devices.before_each(move |op| {
        if op == Op::Reseal && !done.swap(true, Ordering::SeqCst) {
            others.seeds.rotate();
        }
    });
    let mut admin = world.admin([]);
    let error = error_text(reseal(&world, &mut admin, &RESEAL).await);
    assert!(error.contains("the key ring was rotated concurrently"), "{error}");
    assert_eq!(essence(&world), before);
    world.devices.before_each(|_| ());
    reseal(&world, &mut world.admin([]), &RESEAL).await?;
    assert!(is_resealed(&world, 2));
    Ok(())
}

#[tokio::test]
async fn a_seed_that_does_not_open_is_named_and_stays_and_the_others_are_sealed_again() -> Result<()> {
    let world = world().await?;
    let key = user(&world, 3)?;
    let foreign = SealedSeed::from_bytes(vec![1, 0xaa, 0xbb, 0xcc, 0xdd, 1]);
    let held = world.devices.peek(&key).context("gone")?;
    let damaged = Device {
        sealed: Some(foreign),
        ..held.clone()
    };
    world.devices.swap_seed(&key, &held, &damaged);
    let mut admin = world.admin([]);
    let error = error_text(reseal(&world, &mut admin, &RESEAL).await);
    assert!(error.contains("1 device not changed"), "{error}");
    let (notes, output) = (&admin.terminal.notes, &admin.terminal.output);
    for words in [
        "my phone of user 3 (owner shop)",
        "under key aabbccdd",
        "mfactl device check",
    ] {
        assert!(notes.contains(words), "{notes}");
    }
    assert!(
        output.contains("3 devices sealed again") && output.contains("1 cannot be opened or read"),
        "{output}"
    );
    assert_eq!(world.devices.peek(&key), Some(damaged));

    let mut admin = world.admin([]);
    let list = ListKeysRequest {
        count: true,
        json: false,
        page: 2,
    };
    admin.list_keys(&list).await?;
    let rows: Vec<Vec<&str>> = admin
        .terminal
        .output
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(
        rows.contains(&vec!["00000001", "current", "1970-01-01T00:00:00Z", "3"]),
        "{rows:?}"
    );
    assert!(rows.contains(&vec!["00000000", "previous", "0"]), "{rows:?}");
    assert!(rows.contains(&vec!["aabbccdd", "missing", "1"]), "{rows:?}");
    let mut admin = world.admin([]);
    admin.list_keys(&ListKeysRequest { json: true, ..list }).await?;
    let value: Value = serde_json::from_str(&admin.terminal.output)?;
    assert_eq!(
        (&value["keys"][0]["id"], &value["devicesWithSecrets"]),
        (&"00000001".into(), &3.into())
    );
    Ok(())
}

#[tokio::test]
async fn a_reseal_slows_down_when_the_store_asks_for_it_and_stops_when_it_fails() -> Result<()> {
    let world = world().await?;
    world.devices.inject(Op::Reseal, Fault::Throttled);
    reseal(&world, &mut world.admin([]), &RESEAL).await?;
    assert!(is_resealed(&world, 1) && world.clock.now() == NOW.plus(Duration::from_secs(1)));

    for number in 20..40 {
        world
            .put_device(&format!("user {number}"), number, SeedStorage::Sealed)
            .await?;
        world.devices.inject(Op::Reseal, Fault::Before);
    }
    world.seeds.rotate();
    let error = error_text(reseal(&world, &mut world.admin([]), &RESEAL).await);
    assert!(error.contains("stopping after 5 consecutive failures"), "{error}");
    Ok(())
}

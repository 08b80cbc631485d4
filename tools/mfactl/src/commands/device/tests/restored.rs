//! `restored`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::clock::Clock as _;
use shared::device::{Attempt, Device, PendingSeed, Status, Verdict};
use shared::names::{AuthId, DeviceKey, DeviceName, SeedRef, WriteId};
use shared::otp::{Matches, OfferKind, Step};
use shared::policy::Policy;
use shared::ports::registry::DeviceRegistry as _;
use shared::settlement::{Settlement, settle};
use shared::testing::memory::{Fault, Op};

use crate::commands::testing::world::{FAULTS, World, error_text, text, until_it_hangs};

const DEVICES: usize = 7;

/// Devices of every status, some with a pending seed.
async fn world() -> Result<World> {
    let world = World::active().await?;
    let device = world.record()?.device;
    for number in 1..DEVICES {
        let (key, status) = (key(&world, number)?, Status::ALL[number % 3]);
        world.devices.put(
            &key,
            &Device {
                status,
                ..device.clone()
            },
        );
    }
    let pending = PendingSeed {
        seed_ref: SeedRef::new("mfa/seed/01", "1")?,
        sealed: None,
        until: world.clock.now(),
    };
    world.devices.set_pending_seed(&world.key, &device, &pending).await?;
    Ok(world)
}

fn key(world: &World, number: usize) -> Result<DeviceKey> {
    Ok(DeviceKey {
        device: DeviceName::parse(&format!("phone {number}"))?,
        ..world.key.clone()
    })
}

fn versions(world: &World) -> BTreeMap<String, u64> {
    let all = world.devices.all().into_iter();
    all.map(|record| (record.key.device.as_str().to_owned(), record.device.version))
        .collect()
}

#[tokio::test]
async fn every_device_moves_past_all_versions_of_before_and_nothing_else_changes() -> Result<()> {
    for page in [1, 3, 7, 100] {
        let world = world().await?;
        let (before, held) = (versions(&world), world.devices.all());
        let mut admin = world.admin([text("y")]);
        admin.restored(page).await?;
        let mut steps = HashSet::new();
        for (name, version) in versions(&world) {
            let step = version - before[&name];
            assert!((1 << 32..(1 << 32) + (1 << 48)).contains(&step), "{step}");
            assert!(steps.insert(step), "the steps are random");
        }
        for record in held {
            let mut now = world.devices.peek_record(&record.key).context("a device is gone")?;
            now.device.version = record.device.version;
            assert_eq!(now, record);
        }
        let said = &admin.terminal.output;
        assert!(
            said.contains("7 devices moved forward") && said.contains("AuthLifeSeconds"),
            "{said}"
        );
        assert!(
            said.contains("disabled") && said.contains("seeds that were replaced"),
            "{said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_same_backup_restored_twice_gets_other_versions() -> Result<()> {
    let world = world().await?;
    let backup = world.record()?.device;
    let mut seen = HashSet::new();
    for _ in 0..3 {
        world.devices.put(&world.key, &backup);
        world.admin([text("y")]).restored(100).await?;
        assert!(seen.insert(world.record()?.device.version));
    }
    Ok(())
}

#[tokio::test]
async fn it_asks_first_and_a_table_without_devices_is_an_error() -> Result<()> {
    let world = world().await?;
    let before = versions(&world);
    for reply in [vec![], vec![text("no")]] {
        let error = error_text(world.admin(reply).restored(100).await);
        assert!(error.contains("nothing was changed"), "{error}");
        assert_eq!(versions(&world), before);
    }
    let error = error_text(World::new()?.admin([text("y")]).restored(100).await);
    assert!(error.contains("is it the restored one?"), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_interrupted_run_claims_no_success_and_the_next_one_moves_all() -> Result<()> {
    for (op, most) in [(Op::Page, 4), (Op::Replace, DEVICES)] {
        for (fault, calls) in FAULTS
            .into_iter()
            .flat_map(|fault| (0..most).map(move |calls| (fault, calls)))
        {
            let world = world().await?;
            let before = versions(&world);
            world.devices.inject_after(calls, op, fault);
            let mut admin = world.admin([text("y")]);
            let outcome = until_it_hangs(admin.restored(2)).await;
            let all_moved = versions(&world).iter().all(|(name, version)| version > &before[name]);
            let claims_success =
                matches!(outcome, Some(Ok(()))) || admin.terminal.output.contains("Before traffic returns");
            assert!(all_moved || !claims_success, "{fault:?} of {op:?} after {calls}");
            world.admin([text("y")]).restored(2).await?;
            assert!(versions(&world).iter().all(|(name, version)| version > &before[name]));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_move_whose_answer_was_lost_is_recognised() -> Result<()> {
    let world = world().await?;
    world.devices.inject(Op::Replace, Fault::LostThenRepeated);
    let before = world.devices.calls(Op::Replace);
    world.admin([text("y")]).restored(100).await?;
    assert_eq!(world.devices.calls(Op::Replace), before + DEVICES);
    Ok(())
}

#[tokio::test]
async fn a_device_that_others_write_concurrently_keeps_what_they_wrote() -> Result<()> {
    let world = world().await?;
    let (devices, key, once) = (world.devices.clone(), world.key.clone(), Mutex::new(true));
    world.devices.before_each(move |op| {
        let first = op == Op::Replace && once.lock().is_ok_and(|mut once| std::mem::take(&mut *once));
        if let Some(device) = devices.peek(&key).filter(|_| first) {
            let (version, total_failures) = (device.version + 1, device.total_failures + 1);
            devices.put(
                &key,
                &Device {
                    version,
                    total_failures,
                    ..device
                },
            );
        }
    });
    let before = world.record()?.device;
    world.admin([text("y")]).restored(100).await?;
    let device = world.record()?.device;
    assert_eq!(device.total_failures, before.total_failures + 1);
    assert!(device.version > before.version + (1 << 32));
    Ok(())
}

#[tokio::test]
async fn an_unreadable_item_is_named_and_the_others_are_moved() -> Result<()> {
    let world = world().await?;
    let before = versions(&world);
    let unreadable = key(&world, 3)?;
    world.devices.make_unreadable(&unreadable);
    let mut admin = world.admin([text("y")]);
    let error = error_text(admin.restored(2).await);
    assert!(error.contains("1 device not moved: run it again"), "{error}");
    let (notes, said) = (&admin.terminal.notes, &admin.terminal.output);
    assert!(
        notes.contains("the device phone 3 of me+tag@example.com (owner shop) cannot be read"),
        "{notes}"
    );
    assert!(
        said.contains("6 devices moved forward") && !said.contains("Before traffic returns"),
        "{said}"
    );
    let moved = versions(&world)
        .into_iter()
        .filter(|(name, version)| version > &before[name]);
    assert_eq!(moved.count(), DEVICES - 1);
    Ok(())
}

#[tokio::test]
async fn a_store_that_fails_every_write_ends_it_early() -> Result<()> {
    let world = world().await?;
    for _ in 0..DEVICES {
        world.devices.inject(Op::Replace, Fault::Before);
    }
    let error = error_text(world.admin([text("y")]).restored(100).await);
    assert!(error.contains("after 5 consecutive failures"), "{error}");
    Ok(())
}

/// What an open authId of before the restore does to the restored device, after sign-ins brought that to the version which
/// the authId remembers.
async fn write_of_before(moved_forward: bool) -> Result<(u64, Device, Device)> {
    let world = World::active().await?;
    let backup = world.record()?.device;
    let attempt = |number: u8, step: Option<u64>| Attempt {
        auth_id: AuthId::from_bytes([number; 16]),
        expires_at: world.clock.now().plus(Duration::from_mins(5)),
        write_id: WriteId::from_bytes([number; 16]),
        matches: Matches::new(OfferKind::Single, [step.map(Step), None, None]),
    };
    let (now, policy) = (world.clock.now(), Policy::standard());
    let sign_in = async |snapshot: Device, attempt: Attempt| -> Result<(Verdict, Device)> {
        let begun = Settlement::begin(snapshot, attempt, now, &policy);
        Ok(settle(&world.devices, &world.key, begun, &policy).await?)
    };
    let step = backup.last_step.0;
    // After the backup: two sign-ins, and an authId that stays open.
    sign_in(backup.clone(), attempt(1, Some(step + 1))).await?;
    let (_, snapshot) = sign_in(world.record()?.device, attempt(2, None)).await?;

    world.devices.put(&world.key, &backup);
    if moved_forward {
        world.admin([text("y")]).restored(100).await?;
    }
    // After the restore: two sign-ins, the second with a code that the snapshot does not know to be used.
    for (number, used) in [(3, step + 2), (4, step + 3)] {
        sign_in(world.record()?.device, attempt(number, Some(used))).await?;
    }
    let restored = world.record()?.device;
    let refused = world.devices.calls(Op::Replace);
    // The code of that step once more, with the authId of before.
    let (_, left) = sign_in(snapshot, attempt(5, Some(step + 3))).await?;
    let writes = u64::try_from(world.devices.calls(Op::Replace) - refused)?;
    Ok((writes, restored, left))
}

#[tokio::test]
async fn a_snapshot_of_before_a_restore_overwrites_it_unless_the_versions_were_moved() -> Result<()> {
    let accepted = |device: &Device| device.last_write.map(|last| last.verdict) == Some(Verdict::Accepted);
    let (writes, restored, left) = write_of_before(false).await?;
    assert_eq!(writes, 1, "without the command its first write is accepted");
    assert!(
        accepted(&left) && left.last_step == restored.last_step,
        "a used code was accepted"
    );

    let (writes, restored, left) = write_of_before(true).await?;
    assert_eq!(writes, 2, "its first write is refused");
    assert!(
        !accepted(&left) && left.accepted == restored.accepted,
        "the used code was not"
    );
    Ok(())
}

//! Orphans: what is reported, what is fixed, and what is left alone.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use shared::clock::Timestamp;
use shared::device::{Device, PendingSeed, RegisteredBy, Registration, Status};
use shared::names::{DeviceKey, SecretVersion, SeedRef, UserName};
use shared::otp::{OtpParameters, Seed};
use shared::ports::operator::SeedInventory as _;
use shared::ports::registry::{DeviceRegistry as _, SeedRegistry as _};
use shared::sealed::{SealedSeed, SeedStorage};
use shared::testing::memory::{Fault, Op};

use super::memory_stack::{CHECK, FIX, NoDelay, check, doctor, put, put_unnamed};
use crate::commands::device::RegisterRequest;
use crate::commands::doctor::DoctorOptions;
use crate::commands::doctor::orphans::GRACE_PERIOD;
use crate::commands::testing::world::{NOW, World, error_text, text};
use crate::ports::stack::ClockOffset;

#[tokio::test]
async fn scripts_read_every_finding_as_json() -> Result<()> {
    let world = World::new()?;
    let many = 30;
    for number in 0..many {
        put_unnamed(&world, number)?;
    }
    let mut doctor = doctor(&world, []);
    let outcome = doctor.examine(&DoctorOptions { json: true, ..CHECK }, &NoDelay).await;
    assert!(outcome.is_err());
    let output = std::mem::take(&mut doctor.terminal.output);
    let value: Value = serde_json::from_str(&output)?;
    assert_eq!(
        (&value["stack"], &value["status"]),
        (&"mfa".into(), &"UPDATE_COMPLETE".into())
    );
    let findings = value["findings"].as_array().context("no findings")?;
    let orphans: Vec<&Value> = findings.iter().filter(|finding| finding["part"] == "orphans").collect();
    assert_eq!(orphans.len(), usize::from(many));
    assert!(
        orphans
            .iter()
            .all(|finding| finding["state"] == "problem" && finding["mend"].is_string())
    );
    // A person sees some of them, and how many more there are.
    let (_, output) = check(&mut doctor).await;
    assert_eq!(output.matches("no device names the secret").count(), 20);
    assert!(
        output.contains("10 more secrets that no device names") && output.contains("--json"),
        "{output}"
    );
    Ok(())
}

#[tokio::test]
async fn orphans_are_reported_and_nothing_is_changed_without_fix() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (_, removed) = put(&world, "bob", 2)?;
    let (_, gone) = put(&world, "carol's", 3)?;
    let unnamed = put_unnamed(&world, 4)?;
    world.seeds.remove(&removed).await?;
    world.seeds.purge(&gone).await?;
    let mut doctor = doctor(&world, []);
    let (healthy, output) = check(&mut doctor).await;
    assert!(!healthy);
    for words in [
        format!("no device names the secret {}", unnamed.name()),
        format!("delete-secret --secret-id {}", unnamed.name()),
        "the secret of the device my phone of bob (owner shop) was removed".to_owned(),
        format!("restore-secret --secret-id {}", removed.name()),
        "the secret of the device my phone of carol's (owner shop) is gone".to_owned(),
        "mfactl --stack mfa device register --owner 'shop' --user 'carol'\\''s' --device 'my phone' --replace"
            .to_owned(),
    ] {
        assert!(output.contains(&words), "{words}\n{output}");
    }
    assert_eq!((world.devices.count(), world.seeds.count()), (3, 2));
    assert!(doctor.terminal.questions.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_fix_asks_once_and_then_fixes_all_orphans() -> Result<()> {
    let world = World::new()?;
    let (kept, _) = put(&world, "alice", 1)?;
    let (restored, removed) = put(&world, "bob", 2)?;
    let (dead, gone) = put(&world, "carol", 3)?;
    let unnamed = put_unnamed(&world, 4)?;
    world.seeds.remove(&removed).await?;
    world.seeds.purge(&gone).await?;

    let mut refusing = doctor(&world, [text("n")]);
    let refused = error_text(refusing.examine(&FIX, &NoDelay).await);
    assert!(refused.contains("not confirmed; nothing was changed"), "{refused}");
    assert_eq!((world.devices.count(), world.seeds.count()), (3, 2));

    let mut doctor = doctor(&world, [text("y")]);
    doctor.examine(&FIX, &NoDelay).await?;
    let [question] = doctor.terminal.questions.as_slice() else {
        panic!("{:?}", doctor.terminal.questions)
    };
    for part in [
        "Stack mfa, table Devices-1: restore 1 secret;",
        "remove 1 secret that no device names (each can be restored for 30 days);",
        "remove 1 device whose secret is gone, which cannot be undone?",
    ] {
        assert!(question.contains(part), "{question}");
    }
    assert!(
        doctor
            .terminal
            .notes
            .contains("To be removed: the device my phone of carol (owner shop).")
    );
    assert!(world.has(&removed) && !world.has(&unnamed));
    assert!(world.devices.peek(&dead).is_none());
    assert!(world.devices.peek(&kept).is_some() && world.devices.peek(&restored).is_some());
    // It can be restored.
    world.seeds.restore(unnamed.name()).await?;
    world.seeds.remove(&unnamed).await?;
    let (healthy, output) = check(&mut doctor).await;
    assert!(healthy && output.contains("2 devices, 2 secrets"), "{output}");
    Ok(())
}

#[tokio::test]
async fn a_young_secret_is_left_alone() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    world.seeds.set_time(NOW);
    let young = put_unnamed(&world, 2)?;
    world.clock.advance(GRACE_PERIOD.saturating_sub(Duration::from_secs(1)));
    let mut doctor = doctor(&world, []);
    doctor.examine(&FIX, &NoDelay).await?;
    let output = &doctor.terminal.output;
    assert!(output.contains("no device names 1 secret of the last hour"), "{output}");
    assert!(world.has(&young));
    // An offset of the clock makes it neither older nor younger.
    doctor.yes = true;
    world.clock.advance(Duration::from_secs(10));
    doctor.inspector.clock_offset = Some(ClockOffset::Ahead(9_001));
    assert!(doctor.examine(&FIX, &NoDelay).await.is_err(), "the clock is wrong");
    assert!(world.has(&young));
    world.clock.set(NOW);
    doctor.inspector.clock_offset = Some(ClockOffset::Behind(3_599_000));
    assert!(doctor.examine(&FIX, &NoDelay).await.is_err(), "the clock is wrong");
    assert!(world.has(&young));
    world.clock.set(NOW.plus(GRACE_PERIOD));
    doctor.inspector.clock_offset = Some(ClockOffset::Unmeasurable);
    doctor.examine(&FIX, &NoDelay).await?;
    assert!(!world.has(&young));
    Ok(())
}

#[tokio::test]
async fn a_pending_seed_is_no_orphan_and_other_prefixes_are_ignored() -> Result<()> {
    let world = World::active().await?;
    let mut admin = world.admin([]);
    admin
        .register(&RegisterRequest {
            activate: false,
            pending_for: Duration::from_hours(24),
            ..world.replacement()?
        })
        .await?;
    let seed = Seed::from_bytes(&[9; 20], OtpParameters::default())?;
    let others = [
        "mfa-dev/seed/00000000000000000000000000000000",
        "mfa/other",
        "mfa/seedling/1",
    ];
    for name in others {
        world.seeds.put(name, &seed)?;
    }
    world.clock.advance(GRACE_PERIOD * 2);
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    doctor.examine(&FIX, &NoDelay).await?;
    assert_eq!(world.seeds.count(), 2 + others.len());
    let record = world.record()?;
    assert!(record.seeds().all(|seed| world.seeds.has(seed)));

    let pending = record.pending.context("no pending seed")?;
    let secret = pending.seed_ref.secret().context("sealed")?;
    world.seeds.purge(secret).await?;
    let asked = doctor.terminal.questions.len();
    assert!(doctor.examine(&FIX, &NoDelay).await.is_err());
    let output = std::mem::take(&mut doctor.terminal.output);
    assert!(
        output.contains("the old one works") && doctor.terminal.questions.len() == asked,
        "{output}"
    );
    // An expired pending seed is of no use, so its absence is not reported.
    world.clock.advance(Duration::from_hours(24));
    let (healthy, output) = check(&mut doctor).await;
    assert!(healthy, "{output}");
    Ok(())
}

#[tokio::test]
async fn a_device_without_its_secret_but_with_a_pending_one_is_left_to_its_activation() -> Result<()> {
    let world = World::active().await?;
    put(&world, "alice", 1)?;
    world
        .admin([])
        .register(&RegisterRequest {
            activate: false,
            pending_for: Duration::from_hours(24),
            ..world.replacement()?
        })
        .await?;
    world.seeds.purge(&world.secret()?).await?;
    world.clock.advance(Duration::from_hours(2));
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    let left = error_text(doctor.examine(&FIX, &NoDelay).await);
    assert!(left.contains("1 problem") && world.record().is_ok(), "{left}");
    let output = &doctor.terminal.output;
    assert!(
        output.contains("has a new seed that waits for its first code") && output.contains("device activate"),
        "{output}"
    );
    // Once that has expired, the device is removed; the next run removes the secret that it named.
    world.clock.advance(Duration::from_hours(24));
    doctor.examine(&FIX, &NoDelay).await?;
    assert!(world.record().is_err());
    doctor.examine(&FIX, &NoDelay).await?;
    assert_eq!(world.seeds.count(), 1);
    Ok(())
}

#[tokio::test]
async fn nothing_is_fixed_if_table_or_prefix_seem_wrong() -> Result<()> {
    // Devices without secrets, secrets without devices, and both.
    for (lost, unnamed) in [(2, 0), (0, 2), (1, 2), (2, 1)] {
        let world = World::new()?;
        for number in 0..lost {
            let (_, seed) = put(&world, &format!("user{number}"), number)?;
            world.seeds.purge(&seed).await?;
        }
        for number in 0..unnamed {
            put_unnamed(&world, 100 + number)?;
        }
        let mut doctor = doctor(&world, []);
        doctor.yes = true;
        assert!(doctor.examine(&FIX, &NoDelay).await.is_err());
        let output = &doctor.terminal.output;
        assert!(
            output.contains("nothing was fixed: not one device of the table Devices-1"),
            "{output}"
        );
        let left = (world.devices.count(), world.seeds.count());
        assert_eq!(left, (usize::from(lost), usize::from(unnamed)));
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_fixed_while_the_stack_is_being_changed() -> Result<()> {
    for status in ["UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "ROLLBACK_COMPLETE"] {
        let world = World::new()?;
        put(&world, "alice", 1)?;
        put_unnamed(&world, 2)?;
        let mut doctor = doctor(&world, []);
        doctor.yes = true;
        status.clone_into(&mut doctor.stack.status);
        assert!(doctor.examine(&FIX, &NoDelay).await.is_err());
        let output = &doctor.terminal.output;
        assert!(output.contains("nothing was fixed: the stack is in the state") && output.contains("no device names"));
        assert_eq!(world.seeds.count(), 2);
    }
    Ok(())
}

#[tokio::test]
async fn secrets_older_than_the_stack_or_with_other_names_are_left_alone() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let hour = |hours| NOW.minus(Duration::from_hours(hours));
    world.seeds.set_time(hour(10));
    let earlier = put_unnamed(&world, 2)?;
    world.seeds.set_time(hour(8));
    let own = put_unnamed(&world, 3)?;
    let seed = Seed::from_bytes(&[9; 20], OtpParameters::default())?;
    let by_hand = [
        "mfa/seed/by-hand".to_owned(),
        format!("mfa/seed/{}", "F".repeat(32)),
        format!("mfa/seed/{}", "f".repeat(33)),
    ];
    for name in &by_hand {
        world.seeds.put(name, &seed)?;
    }
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    doctor.stack.created_at = Some(hour(9));
    let error = error_text(doctor.examine(&FIX, &NoDelay).await);
    assert!(error.contains("1 problem"), "{error}");
    let output = &doctor.terminal.output;
    let of_earlier = format!(
        "no device names the secret {}, which is older than the stack",
        earlier.name()
    );
    assert!(
        output.contains(&of_earlier) && output.contains("3 secrets under the prefix"),
        "{output}"
    );
    assert!(!world.has(&own) && world.has(&earlier));
    assert_eq!(world.seeds.count(), 2 + by_hand.len());
    Ok(())
}

#[tokio::test]
async fn a_device_whose_secret_is_elsewhere_is_reported_and_left() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (other_version, own) = put(&world, "bob", 2)?;
    let (elsewhere, _) = put(&world, "carol", 3)?;
    let (disabled, gone) = put(&world, "dave", 4)?;
    let naming = |key: &DeviceKey, seed_ref: SeedRef, status: Status| {
        let device = Device::registered(9, status, seed_ref, OtpParameters::default());
        world.devices.put(key, &device);
    };
    naming(&other_version, SeedRef::new(own.name(), "another")?, Status::Active);
    let seed = Seed::from_bytes(&[5; 20], OtpParameters::default())?;
    let of_another_stack = world
        .seeds
        .put("mfa-dev/seed/00000000000000000000000000000000", &seed)?;
    naming(&elsewhere, of_another_stack, Status::Active);
    let (removed_with_others, removed) = put(&world, "erin", 6)?;
    naming(
        &removed_with_others,
        SeedRef::new(removed.name(), "another")?,
        Status::Active,
    );
    world.seeds.remove(&removed).await?;
    world.seeds.purge(&gone).await?;
    naming(&disabled, SeedRef::Secret(gone), Status::Disabled);
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    let error = error_text(doctor.examine(&FIX, &NoDelay).await);
    // carol's old secret is not named any more, and is removed.
    assert!(error.contains("4 problems") && world.seeds.count() == 3, "{error}");
    assert_eq!(world.devices.count(), 5);
    let output = &doctor.terminal.output;
    for words in [
        "of bob (owner shop) has other versions",
        "of erin (owner shop) has other versions",
        "update-secret-version-stage --secret-id",
        "of carol (owner shop) names a secret of another stack",
        "of dave (owner shop) is gone\n",
        "mfactl --stack mfa device remove --owner 'shop' --user 'dave'",
    ] {
        assert!(output.contains(words), "{words}\n{output}");
    }
    Ok(())
}

#[tokio::test]
async fn a_young_device_is_left_alone() -> Result<()> {
    let world = World::active().await?;
    put(&world, "alice", 1)?;
    world.seeds.purge(&world.secret()?).await?;
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    doctor.examine(&FIX, &NoDelay).await?;
    assert!(
        world.record().is_ok()
            && doctor
                .terminal
                .output
                .contains("less than an hour old: check again later")
    );
    world.clock.advance(GRACE_PERIOD);
    doctor.examine(&FIX, &NoDelay).await?;
    assert!(world.record().is_err());
    Ok(())
}

/// Stores a device that has to be activated until then.
async fn put_waiting(
    world: &World,
    user: &str,
    number: u8,
    activate_by: Timestamp,
) -> Result<(DeviceKey, SecretVersion)> {
    let (key, seed_ref) = put(world, user, number)?;
    world.devices.take(&key);
    let device = Device::registered(
        number.into(),
        Status::ActivationRequired,
        SeedRef::Secret(seed_ref.clone()),
        OtpParameters::default(),
    );
    let registration = Registration {
        created_at: NOW,
        by: RegisteredBy::Http,
        activate_by: Some(activate_by),
    };
    world.devices.register(&key, &device, &registration).await?;
    Ok((key, seed_ref))
}

#[tokio::test]
async fn devices_that_were_not_activated_in_time_are_removed_with_their_secrets() -> Result<()> {
    let world = World::new()?;
    let (active, _) = put(&world, "alice", 1)?;
    let (expired, seed) = put_waiting(&world, "bob", 2, NOW.plus(GRACE_PERIOD)).await?;
    let (in_time, _) = put_waiting(&world, "carol", 3, NOW.plus(GRACE_PERIOD * 2)).await?;
    world
        .clock
        .advance(GRACE_PERIOD.saturating_sub(Duration::from_millis(1)));
    let mut doctor = doctor(&world, [text("y")]);
    doctor.examine(&FIX, &NoDelay).await?;
    assert!(doctor.terminal.questions.is_empty() && world.devices.count() == 3);
    world.clock.advance(Duration::from_millis(1));
    // It is reported, and no problem of the deployment.
    let (healthy, output) = check(&mut doctor).await;
    assert!(
        healthy
            && output.contains("the device my phone of bob (owner shop) was not activated by")
            && output.contains("device remove --owner 'shop' --user 'bob'"),
        "{output}"
    );
    doctor.examine(&FIX, &NoDelay).await?;
    let [question] = doctor.terminal.questions.as_slice() else {
        panic!("{:?}", doctor.terminal.questions)
    };
    assert!(question.contains("remove 1 device not activated in time"), "{question}");
    assert!(
        doctor
            .terminal
            .notes
            .contains("To be removed: the device my phone of bob")
    );
    assert!(world.devices.peek(&expired).is_none() && !world.has(&seed));
    assert!(world.devices.peek(&active).is_some() && world.devices.peek(&in_time).is_some());
    assert!(
        doctor
            .terminal
            .output
            .ends_with("2 devices, 2 secrets: each device has its own, and each secret its device\n")
    );
    Ok(())
}

#[tokio::test]
async fn a_device_of_the_last_hour_is_kept_although_its_time_is_over() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    put_waiting(&world, "bob", 2, NOW.plus(GRACE_PERIOD / 2)).await?;
    world
        .clock
        .advance(GRACE_PERIOD.saturating_sub(Duration::from_millis(1)));
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    doctor.examine(&FIX, &NoDelay).await?;
    assert_eq!(world.devices.count(), 2);
    Ok(())
}

#[tokio::test]
async fn an_expired_device_is_removed_however_the_removal_is_interrupted() -> Result<()> {
    for (op, fault) in [Fault::Before, Fault::After, Fault::LostThenRepeated]
        .into_iter()
        .flat_map(|fault| [(true, fault), (false, fault)])
    {
        let world = World::new()?;
        put(&world, "alice", 1)?;
        put_waiting(&world, "bob", 2, NOW.plus(GRACE_PERIOD)).await?;
        world.clock.advance(GRACE_PERIOD);
        if op {
            world.devices.inject(Op::Remove, fault);
        } else {
            world.seeds.inject(Op::Remove, fault);
        }
        let mut doctor = doctor(&world, []);
        doctor.yes = true;
        let first = doctor.examine(&FIX, &NoDelay).await;
        assert_eq!(first.is_err(), fault != Fault::LostThenRepeated && op, "{fault:?}");
        world.assert_safe("after an interrupted fix");
        doctor.examine(&FIX, &NoDelay).await?;
        assert_eq!((world.devices.count(), world.seeds.count()), (1, 1), "{fault:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_failed_fix_is_reported_and_remains_a_problem() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (_, removed) = put(&world, "bob", 2)?;
    let (_, gone) = put(&world, "carol", 3)?;
    let unnamed = put_unnamed(&world, 4)?;
    world.seeds.remove(&removed).await?;
    world.seeds.purge(&gone).await?;
    for json in [false, true] {
        world.seeds.inject(Op::Restore, Fault::Before);
        world.seeds.inject(Op::Remove, Fault::Before);
        world.devices.inject(Op::Remove, Fault::Before);
        let mut doctor = doctor(&world, []);
        doctor.yes = true;
        let error = error_text(doctor.examine(&DoctorOptions { json, ..FIX }, &NoDelay).await);
        assert!(error.contains("6 problems"), "{error}");
        let output = &doctor.terminal.output;
        assert_eq!(output.matches("not fixed: ").count(), 3, "{output}");
        let times = if json { 1 } else { 2 };
        assert_eq!(
            output
                .matches(&format!("no device names the secret {}", unnamed.name()))
                .count(),
            times
        );
        if json {
            serde_json::from_str::<Value>(output)?;
        }
    }
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    doctor.examine(&FIX, &NoDelay).await?;
    assert!(
        doctor
            .terminal
            .output
            .ends_with("2 devices, 2 secrets: each device has its own, and each secret its device\n")
    );
    Ok(())
}

#[tokio::test]
async fn seeds_are_counted_by_key_and_a_device_whose_key_is_missing_is_named_and_stays() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    world.put_device("bob", 2, SeedStorage::Sealed).await?;
    world.seeds.rotate();
    world.put_device("carol", 3, SeedStorage::Sealed).await?;
    let mut doctor = doctor(&world, []);
    let (healthy, output) = check(&mut doctor).await;
    assert!(healthy, "{output}");
    for words in [
        "the key ring has 2 keys; 00000001 seals since",
        "1 device with a secret, 1 device sealed under key 00000000, 1 device sealed under key 00000001 (current)",
        "3 devices, 1 secret: no secret is missing, and each has its device",
    ] {
        assert!(output.contains(words), "{output}");
    }

    let sealed = SealedSeed::from_bytes(vec![1, 0xaa, 0xbb, 0xcc, 0xdd, 7]);
    let lost = world.put_device("dave", 4, SeedStorage::Sealed).await?;
    let held = world.devices.peek(&lost).context("gone")?;
    for status in Status::ALL {
        let device = Device {
            sealed: Some(sealed.clone()),
            status,
            ..held.clone()
        };
        world.devices.take(&lost);
        let registration = Registration {
            activate_by: Some(NOW),
            ..Registration::by_operator(Timestamp::EPOCH)
        };
        world.devices.register(&lost, &device, &registration).await?;
        // Something else is fixed.
        let unnamed = put_unnamed(&world, 50)?;
        doctor.yes = true;
        world.clock.advance(Duration::from_hours(2));
        assert!(doctor.examine(&FIX, &NoDelay).await.is_err());
        let output = std::mem::take(&mut doctor.terminal.output);
        for words in [
            "PROBLEM keys     the seed of the device my phone of dave (owner shop) is sealed under key aabbccdd, which the key \
             ring lacks",
            "fix: restore the key ring with that key",
        ] {
            assert!(output.contains(words), "{output}");
        }
        assert!(world.devices.peek(&lost).is_some() && !world.has(&unnamed));
        world.seeds.purge(&unnamed).await?;
    }
    Ok(())
}

#[tokio::test]
async fn devices_whose_key_is_missing_are_counted_as_a_problem_of_keys_and_one_that_waited_for_too_long_is_none()
-> Result<()> {
    let world = World::new()?;
    let sealed = SealedSeed::from_bytes(vec![1, 0xaa, 0xbb, 0xcc, 0xdd, 7]);
    let key = world.put_device("alice", 1, SeedStorage::Sealed).await?;
    let put_pending = async |until| -> Result<()> {
        world.put_pending(&key, 2, SeedStorage::Sealed, until).await?;
        let record = world.devices.peek_record(&key).context("gone")?;
        let pending = PendingSeed {
            sealed: Some(sealed.clone()),
            ..record.pending.context("nothing pends")?
        };
        world.devices.put_pending(&key, pending);
        Ok(())
    };
    put_pending(NOW).await?;
    let mut doctor = doctor(&world, []);
    let (healthy, output) = check(&mut doctor).await;
    assert!(healthy && !output.contains("aabbccdd"), "{output}");
    put_pending(NOW.plus(Duration::from_hours(1))).await?;
    let (healthy, output) = check(&mut doctor).await;
    assert!(!healthy && output.contains("under key aabbccdd"), "{output}");

    let held = world.devices.peek(&key).context("gone")?;
    for number in 10..30 {
        let other = DeviceKey {
            user: UserName::parse(&format!("user {number}"))?,
            ..key.clone()
        };
        let device = Device {
            sealed: Some(sealed.clone()),
            ..held.clone()
        };
        world.devices.put(&other, &device);
    }
    let (_, output) = check(&mut doctor).await;
    let words = "PROBLEM keys     1 more devices whose seed no key opens";
    assert!(output.contains(words), "{output}");
    Ok(())
}

#[tokio::test]
async fn with_an_unreadable_key_ring_nothing_is_said_about_what_the_sealed_devices_are() -> Result<()> {
    let world = World::new()?;
    world.put_device("alice", 1, SeedStorage::Sealed).await?;
    let unnamed = [put_unnamed(&world, 50)?, put_unnamed(&world, 51)?];
    world.seeds.inject(Op::ReadKeyRing, Fault::Before);
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    assert!(doctor.examine(&FIX, &NoDelay).await.is_err());
    let output = std::mem::take(&mut doctor.terminal.output);
    for words in [
        "1 device sealed under key 00000000; not checked whether they open, since the key ring cannot be read",
        "nothing was fixed: not one device of the table Devices-1 has a secret under mfa/seed/ or a seed that the key ring \
         opens: restore the key ring",
    ] {
        assert!(output.contains(words), "{output}");
    }
    assert!(!output.contains("empty table"), "{output}");
    assert!(unnamed.iter().all(|secret| world.has(secret)));
    // It was unreadable for a moment only.
    doctor.examine(&FIX, &NoDelay).await?;
    assert!(!unnamed.iter().any(|secret| world.has(secret)));
    Ok(())
}

#[tokio::test]
async fn without_the_key_ring_no_sealed_device_is_removed_and_the_problem_is_named() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let key = world.put_device("bob", 2, SeedStorage::Sealed).await?;
    let waiting = Device {
        status: Status::ActivationRequired,
        ..world.devices.peek(&key).context("gone")?
    };
    world.devices.take(&key);
    let registration = Registration {
        activate_by: Some(Timestamp::EPOCH),
        ..Registration::by_operator(Timestamp::EPOCH)
    };
    world.devices.register(&key, &waiting, &registration).await?;
    world.seeds.inject(Op::ReadKeyRing, Fault::Before);
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    assert!(doctor.examine(&FIX, &NoDelay).await.is_err());
    let output = std::mem::take(&mut doctor.terminal.output);
    assert!(output.contains("PROBLEM keys     not checked"), "{output}");
    assert!(world.devices.peek(&key).is_some());

    if let Some(stores) = &mut doctor.stores {
        stores.has_key_ring = false;
    }
    let sealed = ("SeedStorage".to_owned(), "sealed".to_owned());
    doctor.stack.parameters.extend([sealed]);
    let (healthy, output) = check(&mut doctor).await;
    let words = "SeedStorage is sealed, and the stack has no key ring";
    assert!(!healthy && output.contains(words), "{output}");
    Ok(())
}

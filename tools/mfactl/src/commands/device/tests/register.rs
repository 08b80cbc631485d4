//! `register` and `activate`.

use super::*;

#[tokio::test]
async fn a_registration_is_cut_short_anywhere_without_harm() -> Result<()> {
    let points = at_every_point(
        async || World::new(),
        async |world, desk| desk.register(&world.registering()?).await,
        &[Reply::Code(0)],
        World::is_active,
    )
    .await?;
    assert!(points > 20, "{points}");
    Ok(())
}

#[tokio::test]
async fn an_unfinished_registration_is_replaced_and_that_is_cut_short_anywhere_without_harm() -> Result<()> {
    let points = at_every_point(
        World::waiting,
        async |world, desk| desk.register(&world.registering()?).await,
        &[Reply::Code(0)],
        World::is_active,
    )
    .await?;
    assert!(points > 30, "{points}");
    Ok(())
}

#[tokio::test]
async fn a_replacement_is_cut_short_anywhere_and_one_of_both_seeds_always_works() -> Result<()> {
    let first = World::active().await?.record()?.device.seed_ref;
    let points = at_every_point(
        World::active,
        async |world, desk| desk.register(&world.replacing()?).await,
        &[Reply::Code(0)],
        |world| {
            world
                .record()
                .is_ok_and(|record| record.device.status == Status::Active && record.device.seed_ref != first)
        },
    )
    .await?;
    assert!(points > 30, "{points}");
    Ok(())
}

#[tokio::test]
async fn the_first_code_activates_and_is_used() -> Result<()> {
    let world = World::new()?;
    let mut desk = world.desk([Reply::Code(0)]);
    desk.register(&world.registering()?).await?;
    let record = world.record()?;
    assert_eq!(record.device.status, Status::Active);
    assert_eq!(record.device.last_step, Step::at(NOW, Period::Thirty));
    assert_eq!(
        (record.created_at, record.last_used_at, record.pending),
        (NOW, Some(NOW), None)
    );
    assert_eq!(record.device.parameters, OtpParameters::default());
    let seed = desk.terminal.seed().context("no URI")?;
    assert_eq!(crate::encodings::bits_of(&seed), 160);
    let stored = SeedRegistry::read(&world.seeds, &record.device.seed_ref)
        .await?
        .context("no seed")?;
    assert_eq!(*stored.to_base32(), *seed.to_base32());
    assert!(desk.terminal.said.contains('\u{2588}'), "a QR code is drawn");
    assert!(desk.terminal.said.contains("is active"));
    assert!(!desk.left_behind && world.orphans() == 0);
    Ok(())
}

#[tokio::test]
async fn every_seed_and_every_name_of_one_is_new() -> Result<()> {
    let world = World::new()?;
    let mut seen = std::collections::HashSet::new();
    for number in 0..20 {
        let key = DeviceKey {
            device: DeviceName::parse(&format!("phone {number}"))?,
            ..world.key.clone()
        };
        let registering = Registering {
            key: key.clone(),
            activate: false,
            ..world.registering()?
        };
        let mut desk = world.desk([]);
        desk.register(&registering).await?;
        let uri_seed = desk.terminal.seed().context("no URI")?.to_base32().to_string();
        assert!(seen.insert(uri_seed));
        let device = world.devices.peek(&key).context("no device")?;
        assert!(seen.insert(device.seed_ref.name().to_owned()) && seen.insert(device.version.to_string()));
        assert!(device.version < 1 << 63);
    }
    Ok(())
}

#[tokio::test]
async fn without_activation_the_device_waits_and_activate_finishes_it() -> Result<()> {
    let world = World::new()?;
    let registering = Registering {
        activate: false,
        ..world.registering()?
    };
    let mut desk = world.desk([]);
    desk.register(&registering).await?;
    assert_eq!(world.record()?.device.status, Status::ActivationRequired);
    assert!(desk.terminal.asked.is_empty() && desk.terminal.noted.contains("mfactl device activate"));
    let uri = desk.terminal.said.clone();
    let mut desk = world.desk([Reply::Code(0)]);
    desk.terminal.said = uri;
    desk.activate(&world.key).await?;
    assert_eq!(world.record()?.device.status, Status::Active);
    let mut desk = world.desk([]);
    desk.activate(&world.key).await?;
    assert!(desk.terminal.said.contains("active already"));
    Ok(())
}

#[tokio::test]
async fn wrong_codes_of_an_activation_are_counted_and_five_end_it() -> Result<()> {
    let world = World::new()?;
    let error = told(world.desk(vec![Reply::Wrong; 5]).register(&world.registering()?).await);
    assert!(
        error.contains("5 wrong codes") && error.contains("mfactl device activate"),
        "{error}"
    );
    let device = world.record()?.device;
    assert_eq!((device.status, device.total_failures), (Status::ActivationRequired, 5));
    assert_eq!(device.consecutive_failures, 5);
    Ok(())
}

#[tokio::test]
async fn after_too_many_wrong_codes_two_in_a_row_activate() -> Result<()> {
    let world = World::waiting().await?;
    world.set(|device| device.consecutive_failures = 100)?;
    let replies = [Reply::Code(0), Reply::Code(0), Reply::Code(1)];
    let mut desk = world.desk(replies);
    desk.register(&world.registering()?).await?;
    assert_eq!(world.record()?.device.status, Status::Active);
    assert!(desk.terminal.noted.contains("Two codes in a row"));
    assert_eq!(desk.terminal.asked.len(), 3);
    Ok(())
}

#[tokio::test]
async fn what_is_no_code_is_not_counted_and_a_line_without_any_ends_it() -> Result<()> {
    let world = World::new()?;
    let mut desk = world.desk([text("12345"), text("hello"), text("")]);
    let error = told(desk.register(&world.registering()?).await);
    assert!(error.contains("no code was entered"), "{error}");
    let device = world.record()?.device;
    assert_eq!((device.status, device.total_failures), (Status::ActivationRequired, 0));
    let error = told(world.desk([]).activate(&world.key).await);
    assert!(error.contains("no code was entered"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_code_of_another_time_says_how_far_the_clock_is_off() -> Result<()> {
    for (ahead, expected) in [
        (-2, Some("1 min ago")),
        (-7, Some("4 min ago")),
        (20, Some("in 10 min")),
        (-120, Some("1 h 0 min ago")),
        (14 * 120, Some("in 14 h 0 min")),
        (14 * 120 + 1, None),
    ] {
        let world = World::new()?;
        let mut desk = world.desk([Reply::Code(ahead), Reply::Code(0)]);
        desk.register(&world.registering()?).await?;
        let noted = &desk.terminal.noted;
        match expected {
            Some(expected) => assert!(noted.contains(expected), "{ahead}: {noted}"),
            None => assert!(noted.contains("That code is wrong"), "{ahead}: {noted}"),
        }
        assert_eq!(world.record()?.device.total_failures, 1, "it is counted");
    }
    Ok(())
}

#[tokio::test]
async fn an_active_device_is_not_registered_again_without_being_told() -> Result<()> {
    let world = World::active().await?;
    let before = world.record()?;
    let error = told(world.desk([]).register(&world.registering()?).await);
    assert!(error.contains("--replace"), "{error}");
    assert_eq!((world.record()?, world.seeds.count()), (before, 1));
    world.desk([]).disable(&world.key).await?;
    let error = told(world.desk([]).register(&world.replacing()?).await);
    assert!(error.contains("is disabled"), "{error}");
    assert_eq!(world.seeds.count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_replacement_waits_for_its_first_code_and_the_old_seed_stays_until_then() -> Result<()> {
    let world = World::active().await?;
    let old = world.record()?.device;
    let sha256 = OtpParameters {
        algorithm: Algorithm::Sha256,
        digits: Digits::Eight,
        period: Period::Sixty,
    };
    let replacing = Registering {
        activate: false,
        parameters: sha256,
        ..world.replacing()?
    };
    let mut desk = world.desk([]);
    desk.register(&replacing).await?;
    for app in ["the algorithm", "the digits", "the period"] {
        assert!(desk.terminal.noted.contains(app), "{app}");
    }
    let record = world.record()?;
    assert_eq!(
        (&record.device.seed_ref, record.device.status),
        (&old.seed_ref, Status::Active)
    );
    let pending = record.pending.clone().context("nothing is pending")?;
    assert_eq!(
        pending.until,
        world.clock.now().plus(std::time::Duration::from_hours(1))
    );
    assert!(world.seeds.has(&old.seed_ref) && world.seeds.has(&pending.seed_ref));

    let uri = desk.terminal.said.clone();
    let mut desk = world.desk([Reply::Code(0)]);
    desk.terminal.said.clone_from(&uri);
    desk.activate(&world.key).await?;
    let record = world.record()?;
    assert_eq!((&record.device.seed_ref, &record.pending), (&pending.seed_ref, &None));
    assert_eq!(record.device.parameters, sha256);
    assert!(!world.seeds.has(&old.seed_ref) && world.orphans() == 0);
    Ok(())
}

#[tokio::test]
async fn a_replacement_that_nobody_finished_expires_and_the_next_one_removes_its_secret() -> Result<()> {
    let world = World::active().await?;
    let waiting = Registering {
        activate: false,
        ..world.replacing()?
    };
    let mut desk = world.desk([]);
    desk.register(&waiting).await?;
    let first = world.record()?.pending.context("nothing is pending")?.seed_ref;
    let uri = desk.terminal.said.clone();
    world.clock.advance(std::time::Duration::from_hours(1));
    let mut desk = world.desk([Reply::Code(0)]);
    desk.terminal.said = uri;
    let error = told(desk.activate(&world.key).await);
    assert!(error.contains("--replace"), "{error}");
    assert!(desk.terminal.asked.is_empty(), "no code is asked for in vain");
    world.desk([]).register(&waiting).await?;
    assert!(!world.seeds.has(&first));
    assert_eq!((world.seeds.count(), world.orphans()), (2, 0));
    Ok(())
}

#[tokio::test]
async fn a_code_of_a_registration_that_another_one_replaced_activates_nothing() -> Result<()> {
    let world = World::active().await?;
    let mut desk = world.desk([]);
    let waiting = Registering {
        activate: false,
        ..world.replacing()?
    };
    desk.register(&waiting).await?;
    let seed = desk.terminal.seed().context("no URI")?;
    let seed_ref = world.record()?.pending.context("nothing is pending")?.seed_ref;
    world.desk([]).register(&waiting).await?;
    let mut desk = world.desk([Reply::Text(
        seed.code(Step::at(world.clock.now(), Period::Thirty))
            .reveal()
            .to_owned(),
    )]);
    let new = shared::device::NewSeed {
        seed_ref,
        parameters: seed.parameters(),
    };
    let error = told(desk.activate_with(&world.key, new, &seed).await);
    assert!(error.contains("replaced this one"), "{error}");
    assert_eq!(world.record()?.device.total_failures, 0);
    Ok(())
}

#[tokio::test]
async fn a_picture_is_not_written_over_another_file_and_nothing_is_stored_then() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (png, svg) = (folder.path().join("code.png"), folder.path().join("code.svg"));
    std::fs::write(&png, b"mine")?;
    let world = World::new()?;
    let registering = Registering {
        activate: false,
        png: Some(png.clone()),
        svg: Some(svg.clone()),
        ..world.registering()?
    };
    let error = told(world.desk([]).register(&registering).await);
    assert!(error.contains("--yes"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 0));
    let mut desk = world.desk([]);
    desk.yes = true;
    desk.register(&registering).await?;
    assert!(std::fs::read(&png)?.starts_with(b"\x89PNG") && std::fs::read(&svg)?.starts_with(b"<svg"));
    Ok(())
}

#[tokio::test]
async fn of_two_registrations_at_once_one_wins_and_the_other_leaves_nothing() -> Result<()> {
    let world = World::new()?;
    let registering = Registering {
        activate: false,
        ..world.registering()?
    };
    let (mut one, mut other) = (world.desk([]), world.desk([]));
    let (first, second) = tokio::join!(one.register(&registering), other.register(&registering));
    let errors = [told(first), told(second)];
    assert!(errors.iter().any(String::is_empty), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("meanwhile")), "{errors:?}");
    assert_eq!((world.seeds.count(), world.orphans()), (1, 0));

    // The same for a seed that is to replace one.
    let world = World::active().await?;
    let replacing = Registering {
        activate: false,
        ..world.replacing()?
    };
    let (mut one, mut other) = (world.desk([]), world.desk([]));
    let (first, second) = tokio::join!(one.register(&replacing), other.register(&replacing));
    let errors = [told(first), told(second)];
    assert!(errors.iter().any(String::is_empty), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("meanwhile")), "{errors:?}");
    assert_eq!((world.seeds.count(), world.orphans()), (2, 0));
    Ok(())
}

#[tokio::test]
async fn an_activation_while_the_device_is_registered_again_is_not_undone() -> Result<()> {
    let world = World::waiting().await?;
    let mut desk = world.desk([]);
    // It becomes active between the read and the write.
    let active = async {
        while world.seeds.calls(Op::Create) < 2 {
            tokio::task::yield_now().await;
        }
        world.set(|device| device.status = Status::Active)
    };
    let registering = world.registering()?;
    let (outcome, active) = tokio::join!(desk.register(&registering), active);
    active?;
    let error = told(outcome);
    assert!(error.contains("changed meanwhile"), "{error}");
    let record = world.record()?;
    assert_eq!(
        (record.device.status, world.seeds.has(&record.device.seed_ref)),
        (Status::Active, true)
    );
    assert_eq!(world.orphans(), 0);
    Ok(())
}

#[tokio::test]
async fn a_replacement_that_expires_while_the_code_is_typed_is_not_activated() -> Result<()> {
    let world = World::active().await?;
    let old = world.record()?.device;
    let replacing = Registering {
        pending_for: std::time::Duration::ZERO,
        ..world.replacing()?
    };
    let error = told(world.desk([Reply::Code(0)]).register(&replacing).await);
    assert!(error.contains("waited for its first code until"), "{error}");
    let device = world.record()?.device;
    assert_eq!((device.seed_ref, device.total_failures), (old.seed_ref, 0));
    Ok(())
}

#[tokio::test]
async fn an_activation_whose_answer_was_lost_is_recognised() -> Result<()> {
    for fault in [Fault::After, Fault::LostThenRepeated] {
        let world = World::active().await?;
        world.devices.inject(Op::Replace, fault);
        let mut desk = world.desk([Reply::Code(0)]);
        desk.register(&world.replacing()?).await?;
        assert!(desk.terminal.said.contains("is active"), "{fault:?}");
        assert_eq!((world.seeds.count(), world.orphans(), desk.left_behind), (1, 0, false));
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_code_that_closes_single_codes_is_followed_by_a_question_for_two() -> Result<()> {
    let world = World::waiting().await?;
    world.set(|device| device.consecutive_failures = 99)?;
    let mut desk = world.desk([Reply::Wrong, Reply::Code(0), Reply::Code(1)]);
    desk.register(&world.registering()?).await?;
    assert_eq!(
        desk.terminal.asked,
        ["Code that the app shows:", "First code:", "The code after it:"]
    );
    Ok(())
}

#[tokio::test]
async fn a_secret_stays_while_the_write_that_names_it_may_still_come() -> Result<()> {
    // No try was answered, and by what is read nothing was written: it may be under way.
    let world = World::new()?;
    world.devices.inject(Op::Register, Fault::Before);
    let mut desk = world.desk([]);
    assert!(desk.register(&world.registering()?).await.is_err());
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 1));
    assert!(desk.left_behind && desk.terminal.noted.contains("mfactl doctor --fix"));

    let world = World::active().await?;
    world.devices.inject(Op::Offer, Fault::Before);
    let mut desk = world.desk([]);
    assert!(desk.register(&world.replacing()?).await.is_err());
    assert_eq!(world.seeds.count(), 2);
    assert!(desk.left_behind && desk.terminal.noted.contains("may still come"));
    Ok(())
}

#[tokio::test]
async fn a_secret_is_removed_when_the_write_that_names_it_cannot_come_any_more() -> Result<()> {
    let held = World::active().await?.record()?;
    let with = |change: fn(&mut Device)| {
        let mut record = held.clone();
        change(&mut record.device);
        record
    };
    let other_seed = SeedRef::new("mfa/seed/other", "1")?;
    let device = &held.device;
    assert!(may_still_come(None, None) && may_still_come(Some(device), Some(&held)));
    // Counters alone do not change what it was made on, and are never written without the version.
    assert!(may_still_come(
        Some(device),
        Some(&with(|device| device.total_failures += 1))
    ));
    assert!(!may_still_come(None, Some(&held)) && !may_still_come(Some(device), None));
    assert!(!may_still_come(Some(device), Some(&with(|device| device.version += 1))));
    let mut other = held.clone();
    other.device.seed_ref = other_seed;
    assert!(!may_still_come(Some(device), Some(&other)));
    Ok(())
}

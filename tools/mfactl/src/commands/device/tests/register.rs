//! `register` and `activate`.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::clock::Clock as _;
use shared::device::{NewSeed, RegisteredBy, Status};
use shared::names::{DeviceKey, DeviceName, UserName};
use shared::otp::{Algorithm, Digits, OtpParameters, Period, Step};
use shared::otpauth::Issuer;
use shared::testing::memory::{Fault, Op};

use crate::commands::device::RegisterRequest;
use crate::commands::testing::world::{NOW, Reply, World, at_every_point, error_text, text};
use crate::formats::encodings::bits_of;

#[tokio::test]
async fn an_interrupted_registration_does_no_harm_and_can_be_repeated() -> Result<()> {
    let points = at_every_point(
        async || World::new(),
        async |world, admin| admin.register(&world.request()?).await,
        &[Reply::Code(0)],
        World::is_active,
    )
    .await?;
    assert!(points > 20, "{points}");
    Ok(())
}

#[tokio::test]
async fn an_interrupted_replacement_of_an_unfinished_registration_does_no_harm() -> Result<()> {
    let points = at_every_point(
        World::waiting,
        async |world, admin| admin.register(&world.request()?).await,
        &[Reply::Code(0)],
        World::is_active,
    )
    .await?;
    assert!(points > 30, "{points}");
    Ok(())
}

#[tokio::test]
async fn an_interrupted_replacement_leaves_one_of_both_seeds_working() -> Result<()> {
    let first = World::active().await?.record()?.device.seed_ref;
    let points = at_every_point(
        World::active,
        async |world, admin| admin.register(&world.replacement()?).await,
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
async fn the_first_code_activates_and_is_used_up() -> Result<()> {
    let world = World::new()?;
    let mut admin = world.admin([Reply::Code(0)]);
    admin.register(&world.request()?).await?;
    let record = world.record()?;
    assert_eq!(record.device.status, Status::Active);
    assert_eq!(record.device.last_step, Step::at(NOW, Period::Thirty));
    assert_eq!(
        (record.created_at, record.last_used_at, record.pending),
        (NOW, Some(NOW), None)
    );
    assert_eq!(record.device.parameters, OtpParameters::default());
    let seed = admin.terminal.seed().context("no URI")?;
    assert_eq!(bits_of(&seed), 160);
    assert_eq!(*world.seed()?.to_base32(), *seed.to_base32());
    assert!(admin.terminal.output.contains('\u{2588}'), "a QR code is drawn");
    assert!(admin.terminal.output.contains("is active"));
    assert!(!admin.left_behind && world.orphans() == 0);
    Ok(())
}

#[tokio::test]
async fn every_seed_and_every_name_of_one_is_new() -> Result<()> {
    let world = World::new()?;
    let mut all = HashSet::new();
    for number in 0..20 {
        let key = DeviceKey {
            device: DeviceName::parse(&format!("phone {number}"))?,
            ..world.key.clone()
        };
        let request = RegisterRequest {
            key: key.clone(),
            activate: false,
            ..world.request()?
        };
        let mut admin = world.admin([]);
        admin.register(&request).await?;
        let uri_seed = admin.terminal.seed().context("no URI")?.to_base32().to_string();
        assert!(all.insert(uri_seed));
        let device = world.devices.peek(&key).context("no device")?;
        assert!(all.insert(device.seed_ref.to_string()) && all.insert(device.version.to_string()));
        assert!(device.version < 1 << 63);
    }
    Ok(())
}

#[tokio::test]
async fn without_activation_the_device_waits_and_activate_finishes_it() -> Result<()> {
    let world = World::new()?;
    let request = RegisterRequest {
        activate: false,
        ..world.request()?
    };
    let mut admin = world.admin([]);
    admin.register(&request).await?;
    let record = world.record()?;
    assert_eq!(record.device.status, Status::ActivationRequired);
    let kept_until = NOW.plus(request.activate_within);
    assert_eq!(
        (record.by, record.activate_by),
        (RegisteredBy::Operator, Some(kept_until))
    );
    assert!(admin.terminal.questions.is_empty() && admin.terminal.notes.contains("mfactl device activate"));
    let uri = admin.terminal.output.clone();
    let mut admin = world.admin([Reply::Code(0)]);
    admin.terminal.output = uri;
    admin.activate(&world.key).await?;
    assert_eq!(world.record()?.device.status, Status::Active);
    let mut admin = world.admin([]);
    admin.activate(&world.key).await?;
    assert!(admin.terminal.output.contains("already active"));
    Ok(())
}

#[tokio::test]
async fn wrong_codes_of_an_activation_are_counted_and_five_end_it() -> Result<()> {
    let world = World::new()?;
    let error = error_text(world.admin(vec![Reply::Wrong; 5]).register(&world.request()?).await);
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
    let mut admin = world.admin(replies);
    admin.register(&world.request()?).await?;
    assert_eq!(world.record()?.device.status, Status::Active);
    assert!(admin.terminal.notes.contains("Two codes in a row"));
    assert_eq!(admin.terminal.questions.len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_line_without_a_code_is_not_counted_and_an_empty_one_ends_the_command() -> Result<()> {
    let world = World::new()?;
    let mut admin = world.admin([text("12345"), text("hello"), text("")]);
    let error = error_text(admin.register(&world.request()?).await);
    assert!(error.contains("no code was entered"), "{error}");
    let device = world.record()?.device;
    assert_eq!((device.status, device.total_failures), (Status::ActivationRequired, 0));
    let error = error_text(world.admin([]).activate(&world.key).await);
    assert!(error.contains("no code was entered"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_code_of_an_earlier_time_shows_how_far_the_clock_is_behind() -> Result<()> {
    for (ahead, expected) in [
        // Half of a pair is not told, nor is the future.
        (-2, None),
        (-3, Some("was 2 min ago")),
        (-7, Some("4 min ago")),
        (-120, Some("1 h 0 min ago")),
        (-14 * 120, Some("14 h 0 min ago")),
        (-14 * 120 - 1, None),
        (20, None),
    ] {
        let world = World::new()?;
        let mut admin = world.admin([Reply::Code(ahead), Reply::Code(0)]);
        admin.register(&world.request()?).await?;
        let noted = &admin.terminal.notes;
        match expected {
            Some(expected) => assert!(noted.contains(expected), "{ahead}: {noted}"),
            None => assert!(noted.contains("That code is wrong"), "{ahead}: {noted}"),
        }
        assert_eq!(world.record()?.device.total_failures, 1, "it is counted");
    }
    Ok(())
}

#[tokio::test]
async fn an_active_device_is_registered_again_only_with_replace() -> Result<()> {
    let world = World::active().await?;
    let before = world.record()?;
    let error = error_text(world.admin([]).register(&world.request()?).await);
    assert!(error.contains("--replace"), "{error}");
    assert_eq!((world.record()?, world.seeds.count()), (before, 1));
    world.admin([]).disable(&world.key).await?;
    let error = error_text(world.admin([]).register(&world.replacement()?).await);
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
    let replacement = RegisterRequest {
        activate: false,
        parameters: sha256,
        ..world.replacement()?
    };
    let mut admin = world.admin([]);
    admin.register(&replacement).await?;
    for app in ["the algorithm", "the digits", "the period"] {
        assert!(admin.terminal.notes.contains(app), "{app}");
    }
    let record = world.record()?;
    assert_eq!(
        (&record.device.seed_ref, record.device.status),
        (&old.seed_ref, Status::Active)
    );
    let pending = record.pending.clone().context("nothing is pending")?;
    assert_eq!(pending.until, world.clock.now().plus(Duration::from_hours(1)));
    assert!(world.seeds.has(&old.seed_ref) && world.seeds.has(&pending.seed_ref));

    let uri = admin.terminal.output.clone();
    let mut admin = world.admin([Reply::Code(0)]);
    admin.terminal.output.clone_from(&uri);
    admin.activate(&world.key).await?;
    let record = world.record()?;
    assert_eq!((&record.device.seed_ref, &record.pending), (&pending.seed_ref, &None));
    assert_eq!(record.device.parameters, sha256);
    assert!(!world.seeds.has(&old.seed_ref) && world.orphans() == 0);
    Ok(())
}

#[tokio::test]
async fn an_unfinished_replacement_expires_and_the_next_one_removes_its_secret() -> Result<()> {
    let world = World::active().await?;
    let waiting = RegisterRequest {
        activate: false,
        ..world.replacement()?
    };
    let mut admin = world.admin([]);
    admin.register(&waiting).await?;
    let first = world.record()?.pending.context("nothing is pending")?.seed_ref;
    let uri = admin.terminal.output.clone();
    world.clock.advance(Duration::from_hours(1));
    let mut admin = world.admin([Reply::Code(0)]);
    admin.terminal.output = uri;
    let error = error_text(admin.activate(&world.key).await);
    assert!(error.contains("--replace"), "{error}");
    assert!(admin.terminal.questions.is_empty(), "it does not ask for a code");
    world.admin([]).register(&waiting).await?;
    assert!(!world.seeds.has(&first));
    assert_eq!((world.seeds.count(), world.orphans()), (2, 0));
    Ok(())
}

#[tokio::test]
async fn a_code_of_a_superseded_registration_activates_nothing() -> Result<()> {
    let world = World::active().await?;
    let mut admin = world.admin([]);
    let waiting = RegisterRequest {
        activate: false,
        ..world.replacement()?
    };
    admin.register(&waiting).await?;
    let seed = admin.terminal.seed().context("no URI")?;
    let seed_ref = world.record()?.pending.context("nothing is pending")?.seed_ref;
    world.admin([]).register(&waiting).await?;
    let mut admin = world.admin([Reply::Text(
        seed.code(Step::at(world.clock.now(), Period::Thirty))
            .reveal()
            .to_owned(),
    )]);
    let new = NewSeed {
        seed_ref,
        parameters: seed.parameters(),
    };
    let error = error_text(admin.activate_with(&world.key, &new).await);
    assert!(error.contains("replaced this one"), "{error}");
    assert_eq!(world.record()?.device.total_failures, 0);
    Ok(())
}

#[tokio::test]
async fn a_picture_does_not_overwrite_an_existing_file_and_nothing_is_stored() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (png, svg) = (folder.path().join("code.png"), folder.path().join("code.svg"));
    std::fs::write(&png, b"mine")?;
    let world = World::new()?;
    let request = RegisterRequest {
        activate: false,
        png: Some(png.clone()),
        svg: Some(svg.clone()),
        ..world.request()?
    };
    let error = error_text(world.admin([]).register(&request).await);
    assert!(error.contains("--yes"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 0));
    let mut admin = world.admin([]);
    admin.yes = true;
    admin.register(&request).await?;
    assert!(std::fs::read(&png)?.starts_with(b"\x89PNG") && std::fs::read(&svg)?.starts_with(b"<?xml"));
    Ok(())
}

#[tokio::test]
async fn nothing_is_stored_unless_every_picture_can_be_written() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (good, bad) = (folder.path().join("code"), folder.path().join("no/code"));
    let (good, bad) = (Some(good), Some(bad));
    for (png, svg, expected) in [
        (good.clone(), bad.clone(), "no/code"),
        (bad, good.clone(), "no/code"),
        (good.clone(), good.clone(), "the same file"),
    ] {
        let world = World::new()?;
        let request = RegisterRequest {
            png,
            svg,
            ..world.request()?
        };
        let error = error_text(world.admin([]).register(&request).await);
        assert!(error.contains(expected), "{error}");
        assert_eq!((world.devices.all_calls(), world.seeds.all_calls()), (0, 0));
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "no empty file is left");
    }

    let world = World::new()?;
    let request = |world: &World| -> Result<RegisterRequest> {
        Ok(RegisterRequest {
            activate: false,
            png: good.clone(),
            ..world.request()?
        })
    };
    world.seeds.inject(Op::Create, Fault::Before);
    assert!(world.admin([]).register(&request(&world)?).await.is_err());
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "no empty file is left");
    let longest = DeviceKey {
        user: UserName::parse(&"\u{1f511}".repeat(UserName::LONGEST))?,
        device: DeviceName::parse(&"\u{1f511}".repeat(DeviceName::LONGEST))?,
        ..world.key.clone()
    };
    let too_long = RegisterRequest {
        issuer: Issuer::parse(&"\u{1f511}".repeat(32))?,
        key: longest,
        ..request(&world)?
    };
    let error = error_text(world.admin([]).register(&too_long).await);
    assert!(error.contains("no picture can be drawn"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 0));
    // What cannot be shown any more is in the file.
    let mut admin = world.admin([]);
    admin.terminal.closed = true;
    assert!(admin.register(&request(&world)?).await.is_err());
    assert!(std::fs::read(folder.path().join("code"))?.starts_with(b"\x89PNG"));
    Ok(())
}

#[tokio::test]
async fn a_qr_code_is_printed_only_where_it_fits() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (columns, png, printed, noted) in [
        (None, None, true, ""),
        (Some(80), None, true, ""),
        (Some(40), None, false, "run it again with --png FILE"),
        (Some(40), Some(folder.path().join("code")), false, "It is in the file"),
    ] {
        let world = World::new()?;
        let request = RegisterRequest {
            activate: false,
            png,
            ..world.request()?
        };
        let mut admin = world.admin([]);
        admin.terminal.columns = columns;
        admin.register(&request).await?;
        let (output, notes) = (&admin.terminal.output, &admin.terminal.notes);
        assert_eq!(output.contains('\u{2588}'), printed, "{columns:?}");
        assert!(
            notes.contains(noted) && notes.contains("No QR code") != printed,
            "{notes}"
        );
        assert!(output.contains("otpauth://"), "the URI is always there");
        let widest = output
            .lines()
            .filter(|line| !line.starts_with("otpauth"))
            .map(|line| line.chars().count());
        assert!(columns.is_none_or(|columns| widest.max() <= Some(columns)));
    }
    Ok(())
}

#[tokio::test]
async fn of_two_concurrent_registrations_one_seed_remains_and_the_other_is_removed() -> Result<()> {
    for (world, replace, seeds) in [(World::new()?, false, 1), (World::active().await?, true, 2)] {
        let request = RegisterRequest {
            activate: false,
            replace,
            ..world.request()?
        };
        let (mut one, mut other) = (world.admin([]), world.admin([]));
        let (first, second) = tokio::join!(one.register(&request), other.register(&request));
        first.and(second)?;
        assert_eq!((world.seeds.count(), world.orphans()), (seeds, 0));
        let mut active = 0;
        for shown in [one.terminal.output, other.terminal.output] {
            let mut admin = world.admin([Reply::Code(0)]);
            admin.terminal.output = shown;
            // The code of a seed that was superseded is wrong, or the device is active already.
            let _ = admin.activate(&world.key).await;
            active += admin.terminal.output.matches("That code is used up").count();
        }
        assert_eq!(active, 1);
    }
    Ok(())
}

#[tokio::test]
async fn an_activation_during_another_registration_is_not_undone() -> Result<()> {
    let world = World::waiting().await?;
    let mut admin = world.admin([]);
    // It becomes active between the read and the write.
    let active = async {
        while world.seeds.calls(Op::Create) < 2 {
            tokio::task::yield_now().await;
        }
        world.set(|device| device.status = Status::Active)
    };
    let request = world.request()?;
    let (outcome, active) = tokio::join!(admin.register(&request), active);
    active?;
    let error = error_text(outcome);
    assert!(error.contains("changed concurrently"), "{error}");
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
    let replacement = RegisterRequest {
        pending_for: Duration::ZERO,
        ..world.replacement()?
    };
    let error = error_text(world.admin([Reply::Code(0)]).register(&replacement).await);
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
        let mut admin = world.admin([Reply::Code(0)]);
        admin.register(&world.replacement()?).await?;
        assert!(admin.terminal.output.contains("is active"), "{fault:?}");
        assert_eq!((world.seeds.count(), world.orphans(), admin.left_behind), (1, 0, false));
    }
    Ok(())
}

#[tokio::test]
async fn after_a_wrong_code_that_locks_the_device_two_codes_are_asked_for() -> Result<()> {
    let world = World::waiting().await?;
    world.set(|device| device.consecutive_failures = 99)?;
    let mut admin = world.admin([Reply::Wrong, Reply::Code(0), Reply::Code(1)]);
    admin.register(&world.request()?).await?;
    assert_eq!(
        admin.terminal.questions,
        ["Code that the app shows:", "First code:", "Next code:"]
    );
    Ok(())
}

#[tokio::test]
async fn a_secret_stays_while_the_write_that_names_it_may_still_take_effect() -> Result<()> {
    // The write was never answered, and is not visible: it may still be under way.
    let world = World::new()?;
    world.devices.inject(Op::Register, Fault::Before);
    let mut admin = world.admin([]);
    assert!(admin.register(&world.request()?).await.is_err());
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 1));
    assert!(admin.left_behind && admin.terminal.notes.contains("mfactl doctor --fix"));

    let world = World::active().await?;
    world.devices.inject(Op::SetPendingSeed, Fault::Before);
    let mut admin = world.admin([]);
    assert!(admin.register(&world.replacement()?).await.is_err());
    assert_eq!(world.seeds.count(), 2);
    assert!(admin.left_behind && admin.terminal.notes.contains("may still take effect"));
    Ok(())
}

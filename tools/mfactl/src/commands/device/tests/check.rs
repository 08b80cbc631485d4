//! `check`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use shared::clock::Clock as _;
use shared::device::Status;
use shared::otp::{Digits, OtpParameters, Period, Seed, Step};
use shared::policy::Policy;
use shared::ports::registry::SeedRegistry;
use shared::testing::memory::{Fault, Op};

use crate::commands::device::{CheckRequest, RegisterRequest};
use crate::commands::testing::world::{MemoryAdmin, NOW, World, error_text, text};

#[tokio::test]
async fn a_check_reports_what_is_wrong_and_what_is_needed_now() -> Result<()> {
    let world = World::active().await?;
    let device = world.record()?.device;
    let checked = async |expected: Option<Seed>| {
        let mut admin = world.admin([]);
        let key = world.key.clone();
        let checking = CheckRequest {
            key,
            json: false,
            expected,
            codes: false,
        };
        let outcome = error_text(admin.check(&checking).await);
        (admin.terminal.output, outcome)
    };
    let (output, error) = checked(None).await;
    assert!(
        output.contains("one code is enough") && error.is_empty(),
        "{output}{error}"
    );
    let secret = world.secret()?;
    let stored = world.seeds.read(&world.key, &device.seed_ref, None).await?;
    let (output, error) = checked(stored).await;
    assert!(
        output.contains("the same as in the file") && error.is_empty(),
        "{output}{error}"
    );
    let (output, error) = checked(Some(Seed::from_bytes(&[1; 20], OtpParameters::default())?)).await;
    assert!(
        output.contains("differs from the one in the file") && error.contains("1 problem"),
        "{output}{error}"
    );

    world.set(|device| device.consecutive_failures = 100)?;
    assert!(
        checked(None)
            .await
            .0
            .contains("two consecutive codes are required until they succeed")
    );
    world.set(|device| {
        device.consecutive_failures = 7;
        device.not_before = NOW.plus(Duration::from_hours(1));
        device.pair_at = NOW.plus(Duration::from_hours(1));
    })?;
    let output = checked(None).await.0;
    assert!(
        output.contains("until 2026-11-25T04:00:00Z") && output.contains("pairs of codes are refused"),
        "{output}"
    );
    world.set(|device| device.status = Status::Disabled)?;
    assert!(checked(None).await.0.contains("423 DEVICE_DISABLED"));
    world.set(|device| device.status = Status::ActivationRequired)?;
    assert!(checked(None).await.0.contains("423 DEVICE_NOT_ACTIVE"));
    world.set(|device| device.parameters.digits = Digits::Eight)?;
    let (output, error) = checked(None).await;
    assert!(
        output.contains("the seed is for SHA1, 6 digits, 30 s") && !error.is_empty(),
        "{output}{error}"
    );
    SeedRegistry::remove(&world.seeds, &secret).await?;
    world.set(|device| {
        device.status = Status::Active;
        device.consecutive_failures = 0;
    })?;
    let (output, error) = checked(None).await;
    assert!(
        output.contains("restore-secret") && error.contains("does not work"),
        "{output}{error}"
    );
    assert!(
        output.contains("Now: authentications fail") && !output.contains("one code"),
        "{output}"
    );
    Ok(())
}

#[tokio::test]
async fn a_new_seed_that_is_missing_does_not_make_the_device_one_that_fails() -> Result<()> {
    let world = World::active().await?;
    let request = RegisterRequest {
        activate: false,
        ..world.replacement()?
    };
    world.admin([]).register(&request).await?;
    let pending = world.record()?.pending.context("no pending seed")?.seed_ref;
    SeedRegistry::remove(&world.seeds, pending.secret().context("sealed")?).await?;
    let mut admin = world.admin([]);
    let error = error_text(admin.check(&checking(&world, false)).await);
    let output = &admin.terminal.output;
    assert!(error.contains("works, but its new seed does not"), "{error}");
    assert!(
        output.contains("Problem: new seed") && output.contains("Now: one code is enough"),
        "{output}"
    );
    Ok(())
}

fn checking(world: &World, json: bool) -> CheckRequest {
    CheckRequest {
        key: world.key.clone(),
        json,
        expected: None,
        codes: false,
    }
}

/// What a check says about two codes of the device's seed, so many steps from now.
async fn check_codes(world: &World, codes: [i64; 2]) -> Result<(MemoryAdmin, String)> {
    let seed = world.seed()?;
    let step = Step::at(world.clock.now(), seed.parameters().period).0;
    let codes = codes.map(|ahead| text(seed.code(Step(step.saturating_add_signed(ahead))).reveal()));
    let mut admin = world.admin(codes);
    let request = CheckRequest {
        codes: true,
        ..checking(world, true)
    };
    let error = error_text(admin.check(&request).await);
    Ok((admin, error))
}

#[tokio::test]
async fn two_codes_show_how_far_the_clock_of_a_token_is_off_and_what_that_means() -> Result<()> {
    for (ahead, expected, is_fine) in [
        (0, "is right (0 steps, 0 s)", true),
        (-1, "is 1 step (30 s) behind", true),
        (1, "is 1 step (30 s) ahead", true),
        (-2, "is 2 steps (60 s) behind", false),
        (2, "is 2 steps (60 s) ahead", false),
        (3, "is 3 steps (90 s) ahead", false),
        (-50, "is 50 steps (1500 s) behind", false),
        (50, "is 50 steps (1500 s) ahead", false),
        (51, "within 50 steps (25 min)", false),
        (-51, "within 50 steps (25 min)", false),
    ] {
        let world = World::active().await?;
        let before = world.record()?.device;
        let (admin, error) = check_codes(&world, [ahead - 1, ahead]).await?;
        let said: Value = serde_json::from_str(&admin.terminal.output)?;
        assert!(admin.terminal.output.contains(expected), "{ahead}: {said}");
        assert_eq!(error.is_empty(), is_fine, "{ahead}: {error}");
        let drift = (ahead.abs() <= 50).then(|| json!({ "steps": ahead, "seconds": ahead * 30, "inWindow": is_fine }));
        assert_eq!(said["drift"], drift.unwrap_or_default());
        assert_eq!(said["now"] == "one code is enough", is_fine, "{said}");

        // Counted as in an authentication, and a step outside the window is not used up.
        let (device, now) = (world.record()?.device, world.clock.now());
        let step = Step::at(now, Period::Thirty).0.saturating_add_signed(ahead);
        if is_fine {
            assert_eq!(
                (device.last_step, device.pair_at),
                (Step(step), before.pair_at),
                "{ahead}"
            );
        } else {
            assert_eq!(device.last_step, before.last_step, "{ahead}");
            assert_eq!(device.pair_at, now.plus(Policy::standard().pair_gap()), "{ahead}");
            assert_eq!(device.total_failures, before.total_failures + 1, "{ahead}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn codes_that_are_not_consecutive_or_not_in_order_are_not_found() -> Result<()> {
    for codes in [[0, 0], [1, 0], [-2, 0], [5, 7]] {
        let world = World::active().await?;
        let (admin, error) = check_codes(&world, codes).await?;
        assert!(
            admin.terminal.output.contains("not consecutive codes of this seed"),
            "{codes:?}"
        );
        assert!(error.contains("does not work"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_pair_that_was_used_is_recognised_and_counts_as_a_wrong_one() -> Result<()> {
    let world = World::active().await?;
    assert!(check_codes(&world, [-1, 0]).await?.1.is_empty());
    let used = world.record()?.device;
    let (admin, error) = check_codes(&world, [-1, 0]).await?;
    assert!(
        admin.terminal.output.contains("had been used before") && error.is_empty(),
        "{error}"
    );
    let device = world.record()?.device;
    assert_eq!(
        (device.last_step, device.total_failures),
        (used.last_step, used.total_failures + 1)
    );
    Ok(())
}

#[tokio::test]
async fn no_codes_are_asked_for_without_the_secret() -> Result<()> {
    let world = World::active().await?;
    SeedRegistry::remove(&world.seeds, &world.secret()?).await?;
    let before = world.record()?;
    let mut admin = world.admin([text("123456"), text("123456")]);
    let request = CheckRequest {
        codes: true,
        ..checking(&world, false)
    };
    let error = error_text(admin.check(&request).await);
    assert!(
        error.contains("does not work") && admin.terminal.questions.is_empty(),
        "{error}"
    );
    assert!(admin.terminal.notes.contains("No codes were asked for"));
    assert_eq!(world.record()?, before);
    Ok(())
}

#[tokio::test]
async fn pairs_are_rate_limited_and_the_error_says_until_when() -> Result<()> {
    let world = World::active().await?;
    for _ in 0..Policy::PAIR_BURST {
        assert!(check_codes(&world, [4, 5]).await?.1.contains("does not work"));
    }
    let before = world.record()?;
    let (admin, error) = check_codes(&world, [4, 5]).await?;
    assert!(error.contains("evaluated in 1 s, at 2026-11-25T03:02:01Z"), "{error}");
    assert!(admin.terminal.questions.is_empty() && admin.terminal.output.is_empty());
    assert_eq!(world.record()?, before);
    world.clock.advance(Duration::from_secs(1));
    assert!(check_codes(&world, [-1, 0]).await?.1.is_empty());
    Ok(())
}

#[tokio::test]
async fn nothing_is_said_about_codes_that_were_not_counted() -> Result<()> {
    for fault in [Fault::Before, Fault::After] {
        let world = World::active().await?;
        world.devices.inject(Op::Replace, fault);
        let (admin, error) = check_codes(&world, [4, 5]).await?;
        assert!(error.contains("nothing is said about them"), "{error}");
        assert!(admin.terminal.output.is_empty());
    }
    let world = World::active().await?;
    world.set(|device| device.status = Status::Disabled)?;
    let (admin, error) = check_codes(&world, [-1, 0]).await?;
    assert!(
        error.contains("is disabled") && admin.terminal.questions.is_empty(),
        "{error}"
    );
    let world = World::active().await?;
    let before = world.record()?;
    for replies in [vec![], vec![text("123456")], vec![text("hello"), text("123456")]] {
        let request = CheckRequest {
            codes: true,
            ..checking(&world, false)
        };
        let error = error_text(world.admin(replies).check(&request).await);
        assert!(error.contains("nothing was counted"), "{error}");
    }
    assert_eq!(world.record()?, before);
    Ok(())
}

//! `check`.

use std::time::Duration;

use anyhow::Result;
use shared::device::Status;
use shared::otp::{Digits, OtpParameters, Seed};
use shared::ports::registry::SeedRegistry;

use crate::commands::device::CheckRequest;
use crate::commands::testing::world::{NOW, World, error_text};

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
        };
        let outcome = error_text(admin.check(&checking).await);
        (admin.terminal.output, outcome)
    };
    let (output, error) = checked(None).await;
    assert!(
        output.contains("one code is enough") && error.is_empty(),
        "{output}{error}"
    );
    let stored = SeedRegistry::read(&world.seeds, &device.seed_ref).await?;
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
        output.contains("the secret is for SHA1, 6 digits, 30 s") && !error.is_empty(),
        "{output}{error}"
    );
    SeedRegistry::remove(&world.seeds, &device.seed_ref).await?;
    let (output, error) = checked(None).await;
    assert!(
        output.contains("restore-secret") && error.contains("does not work"),
        "{output}{error}"
    );
    Ok(())
}

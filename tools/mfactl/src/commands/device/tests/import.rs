//! `import`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::clock::Clock as _;
use shared::device::Status;
use shared::names::Owner;
use shared::ports::operator::DeviceFilter;
use shared::ports::registry::SeedRegistry as _;
use shared::testing::clock::ManualClock;
use shared::testing::memory::{Fault, Op};

use crate::commands::Delay;
use crate::commands::device::{ImportRequest, ListRequest, Removal};
use crate::commands::testing::world::{NOW, World, at_every_point, error_text, text, until_it_hangs};
use crate::formats::import_file::ImportOptions;
use crate::usage::Usage;

struct ClockDelay(Arc<ManualClock>);

impl Delay for ClockDelay {
    async fn wait(&self, duration: Duration) {
        self.0.advance(duration);
    }
}

/// Lets the time of the runtime pass, which jumps when nothing else can be done, so that rows really wait for each other.
struct RuntimeDelay {
    clock: Arc<ManualClock>,
    began: tokio::time::Instant,
}

impl Delay for RuntimeDelay {
    async fn wait(&self, duration: Duration) {
        let _ = tokio::time::timeout(duration, std::future::pending::<()>()).await;
        self.clock.set(NOW.plus(self.began.elapsed()));
    }
}

const CSV: &str =
    "user,device,seed\nalice,phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\nbob,phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJR\n";

fn import_request() -> Result<ImportRequest<'static>> {
    Ok(ImportRequest {
        owner: Owner::parse("shop")?,
        options: ImportOptions::default(),
        dry_run: false,
        parallel: 8,
    })
}

#[tokio::test]
async fn an_interrupted_import_is_finished_by_the_next_run() -> Result<()> {
    let points = at_every_point(
        async || World::new(),
        async |world, admin| {
            admin
                .import(
                    CSV.as_bytes(),
                    &import_request()?,
                    &ClockDelay(Arc::clone(&world.clock)),
                )
                .await
        },
        &[],
        |world| {
            let all = world.devices.all();
            all.len() == 2 && all.iter().all(|record| record.device.status == Status::Active)
        },
    )
    .await?;
    assert!(points > 30, "{points}");
    Ok(())
}

/// A row for the device of the world, with a seed and more columns.
fn row_for(world: &World, seed: &str, digits: &str) -> String {
    let (user, device) = (world.key.user.as_str(), world.key.device.as_str());
    format!("user,device,seed,digits\n{user},{device},{seed},{digits}\n")
}

const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

#[tokio::test]
async fn an_import_takes_over_a_registration_that_was_not_finished_wherever_it_is_interrupted() -> Result<()> {
    let points = at_every_point(
        async || {
            let world = World::waiting().await?;
            // Wrong codes of the registration are no matter of the new seed.
            world.set(|device| device.consecutive_failures = 9)?;
            Ok(world)
        },
        async |world, admin| {
            let file = row_for(world, SEED, "8");
            let delay = ClockDelay(Arc::clone(&world.clock));
            admin.import(file.as_bytes(), &import_request()?, &delay).await
        },
        &[],
        |world| {
            world.record().is_ok_and(|record| {
                record.device.status == Status::Active
                    && record.pending.is_none()
                    && record.device.consecutive_failures == 0
                    && record.device.parameters.digits.count() == 8
            })
        },
    )
    .await?;
    assert!(points > 20, "{points}");
    Ok(())
}

#[tokio::test]
async fn a_device_in_use_keeps_its_seed_and_a_row_with_another_one_fails() -> Result<()> {
    let delay = |world: &World| ClockDelay(Arc::clone(&world.clock));
    let world = World::active().await?;
    let record = world.record()?;
    let own = world.seed()?.to_base32();
    for (seed, digits, expected) in [
        (own.as_str(), "6", ""),
        (
            SEED,
            "6",
            "is already active with another seed: to give it the seed of the file, remove it",
        ),
        (
            own.as_str(),
            "8",
            "is already active with the same seed and another algorithm",
        ),
    ] {
        for dry_run in [true, false] {
            let mut admin = world.admin([]);
            let request = ImportRequest {
                dry_run,
                ..import_request()?
            };
            let file = row_for(&world, seed, digits);
            let error = error_text(admin.import(file.as_bytes(), &request, &delay(&world)).await);
            assert_eq!(error.is_empty(), expected.is_empty(), "{error}");
            let shown = admin.terminal.output;
            assert!(shown.contains(expected), "{shown}");
            assert_eq!(shown.contains("1 already imported"), expected.is_empty(), "{shown}");
            assert!(!shown.contains(seed), "{shown}");
        }
    }
    for (change, expected) in [
        (Status::Disabled, "mfactl device enable"),
        (Status::Active, "its secret does not exist"),
    ] {
        world.set(|device| device.status = change)?;
        if change == Status::Active {
            world.seeds.remove(&world.secret()?).await?;
        }
        let mut admin = world.admin([]);
        let file = row_for(&world, &own, "6");
        let error = error_text(admin.import(file.as_bytes(), &import_request()?, &delay(&world)).await);
        assert!(
            !error.is_empty() && admin.terminal.output.contains(expected),
            "{}",
            admin.terminal.output
        );
    }
    assert_eq!(
        (world.record()?.device.seed_ref, world.devices.count()),
        (record.device.seed_ref, 1)
    );
    Ok(())
}

#[tokio::test]
async fn rows_that_differ_from_their_devices_do_not_end_the_import() -> Result<()> {
    let world = World::new()?;
    let delay = ClockDelay(Arc::clone(&world.clock));
    let file = csv_of(20);
    world
        .admin([])
        .import(file.as_bytes(), &import_request()?, &delay)
        .await?;
    let other = file.replace(SEED, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJR");
    let error = error_text(
        world
            .admin([])
            .import(other.as_bytes(), &import_request()?, &delay)
            .await,
    );
    assert!(error.contains("20 of 20 rows failed"), "{error}");
    Ok(())
}

#[tokio::test]
async fn what_a_file_leaves_open_is_told_and_a_file_without_rows_fails() -> Result<()> {
    let world = World::new()?;
    let delay = ClockDelay(Arc::clone(&world.clock));
    let mut admin = world.admin([]);
    let file = "user,device,seed\n#a,b,c\na,b,abcdef234567abcdef23456723456723\n";
    admin.import(file.as_bytes(), &import_request()?, &delay).await?;
    assert!(
        admin.terminal.notes.contains("Line 2 begins with #"),
        "{}",
        admin.terminal.notes
    );
    assert!(
        admin.terminal.output.contains("imported. Its seed was read as base32"),
        "{}",
        admin.terminal.output
    );
    let error = error_text(admin.import(b"user,device,seed\n", &import_request()?, &delay).await);
    assert!(error.contains("no rows under it"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_dry_run_reports_every_row_and_writes_nothing() -> Result<()> {
    let world = World::new()?;
    let file = format!("{CSV}carol,phone,GEZDGNBVGY3TQOJQ\nalice,phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n");
    let dry = ImportRequest {
        dry_run: true,
        ..import_request()?
    };
    let patience = ClockDelay(Arc::clone(&world.clock));
    let mut admin = world.admin([]);
    let error = error_text(admin.import(file.as_bytes(), &dry, &patience).await);
    assert!(error.contains("2 of 4 rows failed"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.all_calls()), (0, 0));
    let lines: Vec<&str> = admin.terminal.output.lines().collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0], "row 1 (line 2): alice / phone: would be imported");
    assert!(
        lines[2].contains("80 bits") && lines[3].contains("already in line 2"),
        "{lines:?}"
    );

    let mut admin = world.admin([]);
    let error = error_text(admin.import(file.as_bytes(), &import_request()?, &patience).await);
    assert!(error.contains("2 of 4 rows failed"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.count()), (2, 2));
    let mut admin = world.admin([]);
    admin.import(CSV.as_bytes(), &import_request()?, &patience).await?;
    assert!(
        admin
            .terminal
            .output
            .contains("0 imported, 2 already imported, 0 failed, of 2 rows.")
    );
    assert_eq!(world.seeds.count(), 2);
    let shown = admin.terminal.output + &admin.terminal.notes;
    assert!(!shown.contains("GEZDGNBV"));
    Ok(())
}

/// A file with so many rows.
fn csv_of(rows: usize) -> String {
    let row = |number| format!("user {number},phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n");
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("user,device,seed\n{}", rows.concat())
}

#[tokio::test]
async fn at_most_forty_secrets_are_written_in_a_second() -> Result<()> {
    let world = World::new()?;
    let file = csv_of(200);
    let mut admin = world.admin([]);
    admin
        .import(
            file.as_bytes(),
            &import_request()?,
            &ClockDelay(Arc::clone(&world.clock)),
        )
        .await?;
    assert_eq!(world.devices.count(), 200);
    assert_eq!(world.clock.now(), NOW.plus(Duration::from_millis(199 * 25)));
    let all = Duration::from_millis(199 * 25);
    assert_eq!(admin.terminal.progress.last(), Some(&(200, 200, all)));
    Ok(())
}

#[tokio::test]
async fn a_throttled_row_waits_longer_every_time() -> Result<()> {
    let world = World::new()?;
    for _ in 0..3 {
        world.seeds.inject(Op::Create, Fault::Throttled);
    }
    world.devices.inject(Op::Register, Fault::Throttled);
    let mut admin = world.admin([]);
    let one_at_a_time = ImportRequest {
        parallel: 1,
        ..import_request()?
    };
    admin
        .import(CSV.as_bytes(), &one_at_a_time, &ClockDelay(Arc::clone(&world.clock)))
        .await?;
    // An earlier try of the throttled registration may still be under way: its secret stays, and is reported.
    assert_eq!((world.devices.count(), world.orphans()), (2, 1));
    assert!(admin.left_behind && admin.terminal.notes.matches("was not removed").count() == 1);
    assert!(world.clock.now() >= NOW.plus(Duration::from_secs(1 + 2 + 4 + 8)));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_throttled_row_slows_all_others_down() -> Result<()> {
    let world = World::new()?;
    world.seeds.inject(Op::Create, Fault::Throttled);
    let times = Arc::new(Mutex::new(Vec::new()));
    let (seen, clock) = (Arc::clone(&times), Arc::clone(&world.clock));
    world.devices.before_each(move |op| {
        if op == Op::Register {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(clock.now().as_millis() - NOW.as_millis());
        }
    });
    let delay = RuntimeDelay {
        clock: Arc::clone(&world.clock),
        began: tokio::time::Instant::now(),
    };
    let mut admin = world.admin([]);
    admin.import(csv_of(20).as_bytes(), &import_request()?, &delay).await?;
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    let expected: Vec<u64> = (0..20).map(|turn| 1_000 + turn * 25).collect();
    assert_eq!(*times, expected);
    Ok(())
}

#[tokio::test]
async fn as_many_rows_are_under_way_as_was_asked_for() -> Result<()> {
    for parallel in [1, 3, 8] {
        let world = World::new()?;
        // The first row never ends, and no report comes before its own.
        world.seeds.inject(Op::Create, Fault::Hang);
        let delay = ClockDelay(Arc::clone(&world.clock));
        let request = ImportRequest {
            parallel,
            ..import_request()?
        };
        let (mut admin, file) = (world.admin([]), csv_of(20));
        let outcome = until_it_hangs(admin.import(file.as_bytes(), &request, &delay)).await;
        assert!(outcome.is_none() && admin.terminal.output.is_empty());
        assert_eq!(world.devices.count(), parallel - 1);
    }
    Ok(())
}

#[tokio::test]
async fn rows_are_reported_in_the_order_of_the_file() -> Result<()> {
    let world = World::new()?;
    world.seeds.inject(Op::Create, Fault::Throttled);
    let delay = ClockDelay(Arc::clone(&world.clock));
    let mut admin = world.admin([]);
    admin.import(csv_of(20).as_bytes(), &import_request()?, &delay).await?;
    let rows: Vec<&str> = admin
        .terminal
        .output
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    let expected: Vec<String> = (1..=20).map(|number| number.to_string()).collect();
    assert_eq!(rows.get(..20).context("too few")?, expected);
    Ok(())
}

#[tokio::test]
async fn credentials_that_expire_stop_the_import_and_the_next_run_continues() -> Result<()> {
    let world = World::new()?;
    let delay = ClockDelay(Arc::clone(&world.clock));
    let file = csv_of(100);
    world.seeds.inject_after(20, Op::Create, Fault::Expired);
    let mut admin = world.admin([]);
    let outcome = admin.import(file.as_bytes(), &import_request()?, &delay).await;
    assert!(outcome.as_ref().is_err_and(anyhow::Error::is::<Usage>));
    let error = error_text(outcome);
    // The row that failed, and the seven others that were under way, which were not given up.
    let stored = world.devices.count();
    assert!((20..28).contains(&stored) && world.orphans() == 0, "{stored}");
    let left = 100 - stored - 1;
    for expected in [
        format!("{stored} of 100 rows are imported, {left} not attempted"),
        "aws sso login".to_owned(),
    ] {
        assert!(error.contains(&expected), "{error}");
    }
    let summary = format!("{stored} imported, 0 already imported, 1 failed, {left} not attempted, of 100 rows.");
    assert_eq!(admin.terminal.output.lines().last(), Some(&*summary));

    let mut admin = world.admin([]);
    admin.import(file.as_bytes(), &import_request()?, &delay).await?;
    let summary = format!(
        "{} imported, {stored} already imported, 0 failed, of 100 rows.",
        left + 1
    );
    assert_eq!(admin.terminal.output.lines().last(), Some(&*summary));
    Ok(())
}

#[tokio::test]
async fn rows_under_way_end_when_no_one_reads_the_report_any_more() -> Result<()> {
    let world = World::new()?;
    let delay = ClockDelay(Arc::clone(&world.clock));
    // The first row is reported while others are between their secret and their device.
    let mut admin = world.admin([]);
    admin.import(csv_of(1).as_bytes(), &import_request()?, &delay).await?;
    admin.terminal.closed = true;
    let outcome = admin.import(csv_of(20).as_bytes(), &import_request()?, &delay).await;
    assert!(outcome.is_err());
    let stored = world.devices.count();
    assert!((2..=8).contains(&stored) && world.orphans() == 0, "{stored}");
    Ok(())
}

#[tokio::test]
async fn five_consecutive_failures_end_the_import_and_four_do_not() -> Result<()> {
    let file = csv_of(20);
    let one_at_a_time = ImportRequest {
        parallel: 1,
        ..import_request()?
    };
    for (failing, stored, expected) in [(4, 16, "4 of 20 rows failed"), (5, 0, "15 of 20 rows not attempted")] {
        let world = World::new()?;
        for _ in 0..failing {
            world.seeds.inject(Op::Create, Fault::Before);
        }
        let error = error_text(
            world
                .admin([])
                .import(file.as_bytes(), &one_at_a_time, &ClockDelay(Arc::clone(&world.clock)))
                .await,
        );
        assert!(error.contains(expected), "{error}");
        assert_eq!(world.devices.count(), stored);
    }
    Ok(())
}

#[tokio::test]
async fn ten_thousand_devices_are_imported_listed_and_removed() -> Result<()> {
    const MANY: usize = 10_000;
    let world = World::new()?;
    let file = csv_of(MANY);
    let patience = ClockDelay(Arc::clone(&world.clock));
    world
        .admin([])
        .import(file.as_bytes(), &import_request()?, &patience)
        .await?;
    let took = world.clock.now().as_millis() - NOW.as_millis();
    assert_eq!(took, u64::try_from(MANY - 1)? * 25, "four minutes and ten seconds");
    let mut admin = world.admin([]);
    let listing = ListRequest {
        filter: DeviceFilter::Owner(Owner::parse("shop")?),
        json: true,
        page: 500,
    };
    admin.export(&listing).await?;
    assert_eq!(admin.terminal.output.lines().count(), MANY);
    for record in world.devices.all() {
        let mut admin = world.admin([text("y")]);
        admin.remove(&record.key, Removal::ForGood).await?;
    }
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 0));
    Ok(())
}

//! `import`.

use super::*;

struct Moves(Arc<ManualClock>);

impl Patience for Moves {
    async fn pause(&self, duration: std::time::Duration) {
        self.0.advance(duration);
    }
}

const CSV: &str =
    "user,device,seed\nalice,phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\nbob,phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJR\n";

fn importing() -> Result<Importing<'static>> {
    Ok(Importing {
        client: ClientId::parse("shop")?,
        options: ImportOptions::default(),
        dry_run: false,
    })
}

#[tokio::test]
async fn an_import_is_cut_short_anywhere_and_finished_by_the_next_run() -> Result<()> {
    let points = at_every_point(
        async || World::new(),
        async |world, desk| {
            desk.import(CSV.as_bytes(), &importing()?, &Moves(Arc::clone(&world.clock)))
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

#[tokio::test]
async fn a_dry_run_reports_every_row_and_writes_nothing() -> Result<()> {
    let world = World::new()?;
    let file = format!("{CSV}carol,phone,GEZDGNBVGY3TQOJQ\nalice,phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n");
    let dry = Importing {
        dry_run: true,
        ..importing()?
    };
    let patience = Moves(Arc::clone(&world.clock));
    let mut desk = world.desk([]);
    let error = told(desk.import(file.as_bytes(), &dry, &patience).await);
    assert!(error.contains("2 of 4 rows failed"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.all_calls()), (0, 0));
    let lines: Vec<&str> = desk.terminal.said.lines().collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0], "row 1 (line 2): alice / phone: would be imported");
    assert!(
        lines[2].contains("80 bits") && lines[3].contains("already"),
        "{lines:?}"
    );

    let mut desk = world.desk([]);
    let error = told(desk.import(file.as_bytes(), &importing()?, &patience).await);
    assert!(error.contains("2 of 4 rows failed"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.count()), (2, 2));
    let mut desk = world.desk([]);
    desk.import(CSV.as_bytes(), &importing()?, &patience).await?;
    assert!(
        desk.terminal
            .said
            .contains("0 imported, 2 there already, 0 failed, of 2 rows.")
    );
    assert_eq!(world.seeds.count(), 2);
    let shown = desk.terminal.said + &desk.terminal.noted;
    assert!(!shown.contains("GEZDGNBV"));
    Ok(())
}

/// A file of so many rows.
fn csv_of(rows: usize) -> String {
    let row = |number| format!("user {number},phone,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n");
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("user,device,seed\n{}", rows.concat())
}

#[tokio::test]
async fn at_most_forty_secrets_are_written_in_a_second() -> Result<()> {
    let world = World::new()?;
    let file = csv_of(200);
    let mut desk = world.desk([]);
    desk.import(file.as_bytes(), &importing()?, &Moves(Arc::clone(&world.clock)))
        .await?;
    assert_eq!(world.devices.count(), 200);
    assert_eq!(world.clock.now(), NOW.plus(std::time::Duration::from_millis(199 * 25)));
    assert_eq!(desk.terminal.progress.last(), Some(&(200, 200)));
    Ok(())
}

#[tokio::test]
async fn a_row_that_is_throttled_waits_longer_every_time() -> Result<()> {
    let world = World::new()?;
    for _ in 0..3 {
        world.seeds.inject(Op::Create, Fault::Throttled);
    }
    world.devices.inject(Op::Register, Fault::Throttled);
    let mut desk = world.desk([]);
    desk.import(CSV.as_bytes(), &importing()?, &Moves(Arc::clone(&world.clock)))
        .await?;
    // Before the throttled try of a registration there may have been one that is under way: its secret stays, and that is said.
    assert_eq!((world.devices.count(), world.orphans()), (2, 1));
    assert!(desk.left_behind && desk.terminal.noted.matches("was not removed").count() == 1);
    assert!(world.clock.now() >= NOW.plus(std::time::Duration::from_secs(1 + 2 + 4 + 8)));
    Ok(())
}

#[tokio::test]
async fn a_store_that_fails_five_rows_in_a_row_ends_the_import_and_one_that_fails_a_row_does_not() -> Result<()> {
    let file = csv_of(20);
    for (failing, stored, expected) in [(4, 16, "4 of 20 rows failed"), (5, 0, "15 of 20 rows were not tried")] {
        let world = World::new()?;
        for _ in 0..failing {
            world.seeds.inject(Op::Create, Fault::Before);
        }
        let error = told(
            world
                .desk([])
                .import(file.as_bytes(), &importing()?, &Moves(Arc::clone(&world.clock)))
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
    let patience = Moves(Arc::clone(&world.clock));
    world.desk([]).import(file.as_bytes(), &importing()?, &patience).await?;
    let took = world.clock.now().as_millis() - NOW.as_millis();
    assert_eq!(took, u64::try_from(MANY - 1)? * 25, "four minutes and ten seconds");
    let mut desk = world.desk([]);
    let listing = Listing {
        of: Of::Client(ClientId::parse("shop")?),
        json: true,
        page: 500,
    };
    desk.export(&listing).await?;
    assert_eq!(desk.terminal.said.lines().count(), MANY);
    for record in world.devices.all() {
        let mut desk = world.desk([text("y")]);
        desk.remove(&record.key, Removing::ForGood).await?;
    }
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 0));
    Ok(())
}

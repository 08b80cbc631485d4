//! Every command over stores in memory, and every command cut short at every call of a store.

use std::collections::VecDeque;
use std::sync::Arc;

use shared::clock::Timestamp;
use shared::names::{ClientId, DeviceName, UserName};
use shared::otp::{Algorithm, Digits, Period, Step};
use shared::ports::Of;
use shared::testing::clock::ManualClock;
use shared::testing::memory::{Fault, MemoryDevices, MemorySeeds, Op};
use shared::testing::random::SequenceRandom;

use super::*;
use crate::import::ImportOptions;
use crate::otpauth::{self, Issuer};

/// The beginning of a step.
const NOW: Timestamp = Timestamp::from_secs(1_795_575_600);
const FAULTS: [Fault; 6] = [
    Fault::Before,
    Fault::After,
    Fault::Throttled,
    Fault::LostThenRepeated,
    Fault::Hang,
    Fault::HangAfter,
];

/// What the person answers.
#[derive(Debug, Clone)]
enum Reply {
    Text(String),
    /// The code of the seed that was shown last, of the step that is so far from now.
    Code(i64),
    /// A code that is never right near now.
    Wrong,
}

fn text(reply: &str) -> Reply {
    Reply::Text(reply.to_owned())
}

#[derive(Debug)]
struct Person {
    clock: Arc<ManualClock>,
    replies: VecDeque<Reply>,
    said: String,
    noted: String,
    asked: Vec<String>,
    progress: Vec<(usize, usize)>,
}

impl Person {
    fn seed(&self) -> Option<Seed> {
        let uri = self.said.lines().rfind(|line| line.starts_with("otpauth://"))?;
        Some(otpauth::parse(uri).ok()?.seed)
    }

    fn code(&self, ahead: i64) -> Option<String> {
        let seed = self.seed()?;
        let step = Step::at(self.clock.now(), seed.parameters().period);
        Some(seed.code(Step(step.0.saturating_add_signed(ahead))).reveal().to_owned())
    }
}

impl Terminal for Person {
    fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.said.push_str(text);
        self.said.push('\n');
        Ok(())
    }

    fn note(&mut self, text: &str) -> std::io::Result<()> {
        self.noted.push_str(text);
        self.noted.push('\n');
        Ok(())
    }

    fn progress(&mut self, done: usize, all: usize) -> std::io::Result<()> {
        self.progress.push((done, all));
        Ok(())
    }

    fn ask(&mut self, question: &str) -> std::io::Result<Option<Zeroizing<String>>> {
        self.asked.push(question.to_owned());
        let reply = match self.replies.pop_front() {
            None => None,
            Some(Reply::Text(text)) => Some(text),
            Some(Reply::Code(ahead)) => self.code(ahead),
            Some(Reply::Wrong) => {
                let near: Vec<_> = (-1_700..1_700).filter_map(|ahead| self.code(ahead)).collect();
                (0..100_000)
                    .map(|number| format!("{number:06}"))
                    .find(|code| !near.contains(code))
            }
        };
        Ok(reply.map(Zeroizing::new))
    }

    fn has_colours(&self) -> bool {
        false
    }
}

type MemoryDesk = Desk<MemoryDevices, MemorySeeds, Arc<ManualClock>, Arc<SequenceRandom>, Person>;

struct World {
    devices: MemoryDevices,
    seeds: MemorySeeds,
    clock: Arc<ManualClock>,
    random: Arc<SequenceRandom>,
    key: DeviceKey,
}

impl World {
    fn new() -> Result<Self> {
        Ok(Self {
            devices: MemoryDevices::default(),
            seeds: MemorySeeds::default(),
            clock: Arc::new(ManualClock::at(NOW)),
            random: Arc::new(SequenceRandom::from_start(1)),
            key: DeviceKey {
                client: ClientId::parse("shop")?,
                user: UserName::parse("me+tag@example.com")?,
                device: DeviceName::parse("my phone")?,
            },
        })
    }

    fn desk(&self, replies: impl IntoIterator<Item = Reply>) -> MemoryDesk {
        Desk {
            devices: self.devices.clone(),
            seeds: self.seeds.clone(),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            terminal: Person {
                clock: Arc::clone(&self.clock),
                replies: replies.into_iter().collect(),
                said: String::new(),
                noted: String::new(),
                asked: Vec::new(),
                progress: Vec::new(),
            },
            policy: Policy::standard(),
            seed_prefix: "mfa".to_owned(),
            yes: false,
            left_behind: false,
        }
    }

    fn registering(&self) -> Result<Registering> {
        Ok(Registering {
            key: self.key.clone(),
            issuer: Issuer::parse("ACME")?,
            parameters: OtpParameters::default(),
            replace: false,
            pending_for: std::time::Duration::from_hours(1),
            activate: true,
            png: None,
            svg: None,
        })
    }

    fn replacing(&self) -> Result<Registering> {
        Ok(Registering {
            replace: true,
            ..self.registering()?
        })
    }

    async fn active() -> Result<Self> {
        let world = Self::new()?;
        world.desk([Reply::Code(0)]).register(&world.registering()?).await?;
        world.clock.advance(std::time::Duration::from_mins(2));
        Ok(world)
    }

    async fn waiting() -> Result<Self> {
        let world = Self::new()?;
        let registering = Registering {
            activate: false,
            ..world.registering()?
        };
        world.desk([]).register(&registering).await?;
        Ok(world)
    }

    fn record(&self) -> Result<DeviceRecord> {
        self.devices.peek_record(&self.key).context("the device is gone")
    }

    fn set(&self, change: impl FnOnce(&mut Device)) -> Result<()> {
        let mut device = self.record()?.device;
        change(&mut device);
        device.version += 1;
        self.devices.put(&self.key, &device);
        Ok(())
    }

    fn calls(&self, (of, op): (Store, Op)) -> usize {
        match of {
            Store::Devices => self.devices.calls(op),
            Store::Seeds => self.seeds.calls(op),
        }
    }

    /// Seeds that nothing names.
    fn orphans(&self) -> usize {
        let all = self.devices.all();
        let named = all
            .iter()
            .flat_map(DeviceRecord::seeds)
            .filter(|seed| self.seeds.has(seed))
            .count();
        self.seeds.count() - named
    }

    /// What must hold wherever a command was cut short.
    fn assert_safe(&self, when: &str) {
        for record in self.devices.all() {
            assert!(
                self.seeds.has(&record.device.seed_ref),
                "a device without its secret, {when}"
            );
        }
        assert!(
            self.orphans() <= 1,
            "{} secrets that nothing names, {when}",
            self.orphans()
        );
    }
}

/// Drives a command until it ends or is never answered, as if the program was killed then.
async fn until_it_hangs<T>(command: impl Future<Output = T>) -> Option<T> {
    let mut command = std::pin::pin!(command);
    for _ in 0..2_000 {
        tokio::select! {
            biased;
            outcome = &mut command => return Some(outcome),
            () = tokio::task::yield_now() => {}
        }
    }
    None
}

fn told(outcome: Result<()>) -> String {
    outcome.err().map(|error| format!("{error:#}")).unwrap_or_default()
}

#[derive(Debug, Clone, Copy)]
enum Store {
    Devices,
    Seeds,
}

/// Every call that a command makes.
const OPS: [(Store, Op); 9] = [
    (Store::Devices, Op::Record),
    (Store::Devices, Op::Register),
    (Store::Devices, Op::Offer),
    (Store::Devices, Op::Replace),
    (Store::Devices, Op::Remove),
    (Store::Devices, Op::Get),
    (Store::Seeds, Op::Create),
    (Store::Seeds, Op::Read),
    (Store::Seeds, Op::Remove),
];

/// Cuts a command short at every call of a store in every way, and runs it again.
async fn at_every_point<F: Future<Output = Result<World>>>(
    prepare: impl Fn() -> F,
    command: impl AsyncFn(&World, &mut MemoryDesk) -> Result<()>,
    replies: &[Reply],
    is_done: impl Fn(&World) -> bool,
) -> Result<usize> {
    // How often each call is made when all goes well.
    let world = prepare().await?;
    let before = OPS.map(|op| world.calls(op));
    command(&world, &mut world.desk(replies.to_vec())).await?;
    let after = OPS.map(|op| world.calls(op));
    let made = OPS.into_iter().zip(before.into_iter().zip(after));
    let mut points = 0;
    for ((of, op), (before, after)) in made {
        for (fault, calls) in FAULTS
            .into_iter()
            .flat_map(|fault| (0..after - before).map(move |calls| (fault, calls)))
        {
            let world = prepare().await?;
            match of {
                Store::Devices => world.devices.inject_after(calls, op, fault),
                Store::Seeds => world.seeds.inject_after(calls, op, fault),
            }
            let when = format!("{fault:?} of {op:?} of {of:?} after {calls}");
            let mut desk = world.desk(replies.to_vec());
            let outcome = until_it_hangs(command(&world, &mut desk)).await;
            points += 1;
            world.assert_safe(&when);
            let quiet = matches!(outcome, Some(Ok(()))) && !desk.left_behind;
            assert!(!quiet || is_done(&world), "it says that all is well, {when}");
            assert!(
                world.orphans() == 0 || !quiet,
                "nothing was said about a secret that is left over, {when}"
            );
            let known_orphans = world.orphans();

            // Run again, it finishes the job.
            world.clock.advance(std::time::Duration::from_mins(2));
            let mut desk = world.desk(replies.to_vec());
            let again = told(command(&world, &mut desk).await);
            assert!(is_done(&world), "{again}: {when}");
            world.assert_safe(&when);
            assert!(
                world.orphans() <= known_orphans,
                "running it again leaves more over, {when}"
            );
        }
    }
    Ok(points)
}

#[tokio::test]
async fn a_registration_is_cut_short_anywhere_without_harm() -> Result<()> {
    let points = at_every_point(
        async || World::new(),
        async |world, desk| desk.register(&world.registering()?).await,
        &[Reply::Code(0)],
        |world| {
            world
                .record()
                .is_ok_and(|record| record.device.status == Status::Active)
        },
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
        |world| {
            world
                .record()
                .is_ok_and(|record| record.device.status == Status::Active)
        },
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
async fn a_removal_is_cut_short_anywhere_and_can_be_repeated() -> Result<()> {
    let points = at_every_point(
        World::active,
        async |world, desk| desk.remove(&world.key, Removing::ForGood).await,
        &[text("y")],
        |world| world.devices.count() == 0,
    )
    .await?;
    assert!(points > 15, "{points}");
    Ok(())
}

#[tokio::test]
async fn a_change_is_cut_short_anywhere_and_can_be_repeated() -> Result<()> {
    let status = |world: &World| world.record().map(|record| record.device.status).ok();
    let points = at_every_point(
        World::active,
        async |world, desk| desk.disable(&world.key).await,
        &[],
        |world| status(world) == Some(Status::Disabled),
    )
    .await?;
    assert!(points > 10, "{points}");
    let disabled = async || {
        let world = World::active().await?;
        world.desk([]).disable(&world.key).await?;
        Ok(world)
    };
    at_every_point(
        disabled,
        async |world, desk| desk.enable(&world.key).await,
        &[],
        |world| status(world) == Some(Status::Active),
    )
    .await?;
    let locked = async || {
        let world = World::active().await?;
        world.set(|device| device.consecutive_failures = 100)?;
        Ok(world)
    };
    at_every_point(
        locked,
        async |world, desk| desk.unlock(&world.key, false).await,
        &[],
        |world| {
            world
                .record()
                .is_ok_and(|record| record.device.consecutive_failures == 0)
        },
    )
    .await?;
    Ok(())
}

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
async fn a_device_that_waits_is_neither_disabled_nor_enabled() -> Result<()> {
    let world = World::waiting().await?;
    let before = world.record()?;
    let error = told(world.desk([]).disable(&world.key).await);
    assert!(error.contains("not in use yet"), "{error}");
    let error = told(world.desk([]).enable(&world.key).await);
    assert!(error.contains("mfactl device activate"), "{error}");
    assert_eq!(world.record()?, before);
    Ok(())
}

#[tokio::test]
async fn what_is_so_already_is_said_and_not_written() -> Result<()> {
    let world = World::active().await?;
    let before = world.record()?;
    let mut desk = world.desk([]);
    desk.enable(&world.key).await?;
    desk.unlock(&world.key, false).await?;
    assert!(desk.terminal.said.contains("active already") && desk.terminal.said.contains("nothing to unlock"));
    assert_eq!(world.record()?, before);
    desk.disable(&world.key).await?;
    desk.disable(&world.key).await?;
    assert!(desk.terminal.said.contains("disabled already"));
    Ok(())
}

#[tokio::test]
async fn a_change_is_made_on_what_others_wrote_meanwhile_and_given_up_after_five_tries() -> Result<()> {
    for (times, succeeds) in [(4, true), (5, false)] {
        let world = World::active().await?;
        let left = std::cell::Cell::new(times);
        let outcome = world
            .desk([])
            .change(&world.key, |held| {
                if left.get() > 0 {
                    left.set(left.get() - 1);
                    world.set(|device| device.total_failures += 1)?;
                }
                Ok(Some(Device {
                    status: Status::Disabled,
                    ..held.clone()
                }))
            })
            .await;
        let device = world.record()?.device;
        assert_eq!(outcome.is_ok(), succeeds, "{times}");
        assert_eq!(
            (device.status == Status::Disabled, device.total_failures),
            (succeeds, times)
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_unlock_leaves_six_codes_and_a_reset_asks_first() -> Result<()> {
    let world = World::active().await?;
    let now = world.clock.now();
    let far = now.plus(std::time::Duration::from_hours(2_000));
    let lock = |device: &mut Device| {
        device.consecutive_failures = 100;
        device.budget_at = far;
        device.pair_at = far;
    };
    world.set(lock)?;
    let locked = world.record()?.device;
    let mut desk = world.desk([]);
    desk.unlock(&world.key, false).await?;
    assert_eq!(world.record()?.device, locked.unlocked(now, &Policy::standard()));
    assert!(desk.terminal.said.contains("step 2") && desk.terminal.asked.is_empty());

    world.set(lock)?;
    for replies in [vec![], vec![text("n")], vec![text("")]] {
        let before = world.record()?;
        let error = told(world.desk(replies).unlock(&world.key, true).await);
        assert!(error.contains("nothing was changed"), "{error}");
        assert_eq!(world.record()?, before);
    }
    world.desk([text("y")]).unlock(&world.key, true).await?;
    let device = world.record()?.device;
    assert_eq!(
        (device.budget_at, device.pair_at, device.consecutive_failures),
        (Timestamp::EPOCH, Timestamp::EPOCH, 0)
    );
    Ok(())
}

#[tokio::test]
async fn a_removal_asks_takes_both_seeds_and_can_be_repeated() -> Result<()> {
    let world = World::active().await?;
    world
        .desk([])
        .register(&Registering {
            activate: false,
            ..world.replacing()?
        })
        .await?;
    assert_eq!(world.seeds.count(), 2);
    let error = told(world.desk([text("no")]).remove(&world.key, Removing::Recoverably).await);
    assert!(error.contains("nothing was changed"), "{error}");
    assert_eq!((world.devices.count(), world.seeds.count()), (1, 2));
    world
        .desk([text("y")])
        .remove(&world.key, Removing::Recoverably)
        .await?;
    assert_eq!((world.devices.count(), world.seeds.count()), (0, 0));
    let mut desk = world.desk([]);
    desk.remove(&world.key, Removing::ForGood).await?;
    assert!(desk.terminal.said.contains("There is no device"));
    // The name is free at once.
    world.desk([Reply::Code(0)]).register(&world.registering()?).await?;
    assert_eq!(world.record()?.device.status, Status::Active);
    Ok(())
}

#[tokio::test]
async fn a_device_that_is_not_there_is_named_in_the_error() -> Result<()> {
    let world = World::new()?;
    let key = &world.key;
    for error in [
        told(world.desk([]).activate(key).await),
        told(world.desk([]).disable(key).await),
        told(world.desk([]).enable(key).await),
        told(world.desk([]).unlock(key, true).await),
        told(world.desk([]).show_device(key, false).await),
    ] {
        assert!(
            error.contains("my phone of me+tag@example.com (client shop)"),
            "{error}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_list_has_every_device_once_however_long_its_pages_are() -> Result<()> {
    let world = World::new()?;
    let device = World::active().await?.record()?.device;
    for number in 0..300 {
        let key = DeviceKey {
            client: ClientId::parse(if number % 3 == 0 { "bank" } else { "shop" })?,
            user: UserName::parse(&format!("user {}", number % 50))?,
            device: DeviceName::parse(&format!("phone {number}"))?,
        };
        world.devices.put(&key, &device);
    }
    let (shop, user) = (ClientId::parse("shop")?, UserName::parse("user 7")?);
    for page in [1, 7, 300, 1_000] {
        for (of, expected) in [
            (Of::All, 300),
            (Of::Client(shop.clone()), 200),
            (Of::User(shop.clone(), user.clone()), 4),
        ] {
            let mut desk = world.desk([]);
            let listing = Listing {
                of: of.clone(),
                json: true,
                page,
            };
            desk.list(&listing).await?;
            let listed: Vec<serde_json::Value> = serde_json::from_str(&desk.terminal.said)?;
            let names: std::collections::HashSet<String> = listed.iter().map(ToString::to_string).collect();
            assert_eq!(
                (listed.len(), names.len()),
                (expected, expected),
                "{of:?} in pages of {page}"
            );
            assert_eq!(desk.terminal.noted.contains("whole table"), !matches!(of, Of::User(..)));
            let mut desk = world.desk([]);
            desk.export(&listing).await?;
            assert_eq!(desk.terminal.said.lines().count(), expected);
        }
    }
    let mut desk = world.desk([]);
    desk.list(&Listing {
        of: Of::User(shop, user),
        json: false,
        page: 2,
    })
    .await?;
    assert_eq!(desk.terminal.said.lines().count(), 1 + 4 + 1, "{}", desk.terminal.said);
    assert!(desk.terminal.said.starts_with("CLIENT") && desk.terminal.said.ends_with("4 devices\n"));
    Ok(())
}

#[tokio::test]
async fn what_is_shown_of_a_device_is_never_its_seed() -> Result<()> {
    let world = World::active().await?;
    let seed_ref = world.record()?.device.seed_ref;
    let seed = SeedRegistry::read(&world.seeds, &seed_ref)
        .await?
        .context("no seed")?
        .to_base32();
    let mut desk = world.desk([]);
    for json in [false, true] {
        desk.show_device(&world.key, json).await?;
        let expected = None;
        let key = world.key.clone();
        desk.check(&Checking { key, json, expected }).await?;
        desk.list(&Listing {
            of: Of::All,
            json,
            page: 10,
        })
        .await?;
    }
    let shown = desk.terminal.said + &desk.terminal.noted;
    assert!(shown.contains("my phone") && shown.contains(seed_ref.name()));
    assert!(!shown.contains(seed.as_str()));
    Ok(())
}

#[tokio::test]
async fn a_check_says_what_is_wrong_and_what_would_happen_now() -> Result<()> {
    let world = World::active().await?;
    let device = world.record()?.device;
    let checked = async |expected: Option<Seed>| {
        let mut desk = world.desk([]);
        let key = world.key.clone();
        let checking = Checking {
            key,
            json: false,
            expected,
        };
        let outcome = told(desk.check(&checking).await);
        (desk.terminal.said, outcome)
    };
    let (said, error) = checked(None).await;
    assert!(said.contains("one code is enough") && error.is_empty(), "{said}{error}");
    let stored = SeedRegistry::read(&world.seeds, &device.seed_ref).await?;
    let (said, error) = checked(stored).await;
    assert!(
        said.contains("the one in the file") && error.is_empty(),
        "{said}{error}"
    );
    let (said, error) = checked(Some(Seed::from_bytes(&[1; 20], OtpParameters::default())?)).await;
    assert!(
        said.contains("another than the one in the file") && error.contains("1 problem"),
        "{said}{error}"
    );

    world.set(|device| device.consecutive_failures = 100)?;
    assert!(
        checked(None)
            .await
            .0
            .contains("two codes in a row are required, until they succeed")
    );
    world.set(|device| {
        device.consecutive_failures = 7;
        device.not_before = NOW.plus(std::time::Duration::from_hours(1));
        device.pair_at = NOW.plus(std::time::Duration::from_hours(1));
    })?;
    let said = checked(None).await.0;
    assert!(
        said.contains("until 2026-11-25T04:00:00Z") && said.contains("no pairs"),
        "{said}"
    );
    world.set(|device| device.status = Status::Disabled)?;
    assert!(checked(None).await.0.contains("423 DEVICE_DISABLED"));
    world.set(|device| device.status = Status::ActivationRequired)?;
    assert!(checked(None).await.0.contains("423 DEVICE_NOT_ACTIVE"));
    world.set(|device| device.parameters.digits = Digits::Eight)?;
    let (said, error) = checked(None).await;
    assert!(
        said.contains("the secret is for SHA1, 6 digits, 30 s") && !error.is_empty(),
        "{said}{error}"
    );
    SeedRegistry::remove(&world.seeds, &device.seed_ref, Removal::Recoverable).await?;
    let (said, error) = checked(None).await;
    assert!(
        said.contains("restore-secret") && error.contains("does not work"),
        "{said}{error}"
    );
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
    world
        .desk([])
        .import(CSV.as_bytes(), &importing()?, &Moves(Arc::clone(&world.clock)))
        .await?;
    assert_eq!((world.devices.count(), world.orphans()), (2, 0));
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

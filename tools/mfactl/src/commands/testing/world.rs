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

mod change;
mod client;
mod doctor;
mod import;
mod look;
mod register;

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

    fn is_active(&self) -> bool {
        self.record().is_ok_and(|record| record.device.status == Status::Active)
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

    /// Makes a command fail at a point; says when that is.
    fn cut_short(&self, (of, op, calls, fault): Point) -> String {
        match of {
            Store::Devices => self.devices.inject_after(calls, op, fault),
            Store::Seeds => self.seeds.inject_after(calls, op, fault),
        }
        format!("{fault:?} of {op:?} of {of:?} after {calls}")
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
const OPS: [(Store, Op); 12] = [
    (Store::Devices, Op::Record),
    (Store::Devices, Op::Register),
    (Store::Devices, Op::Offer),
    (Store::Devices, Op::Replace),
    (Store::Devices, Op::Remove),
    (Store::Devices, Op::Get),
    (Store::Seeds, Op::Create),
    (Store::Seeds, Op::Read),
    (Store::Seeds, Op::Remove),
    (Store::Seeds, Op::Page),
    (Store::Seeds, Op::Describe),
    (Store::Seeds, Op::Restore),
];

/// Where a command is cut short: at which call, after how many of its kind, and how.
type Point = (Store, Op, usize, Fault);

/// Every point of a command that ran in a world, by the calls that it made.
fn points_since<const KINDS: usize>(before: [usize; KINDS], world: &World) -> Vec<Point> {
    let made = OPS
        .into_iter()
        .zip(before)
        .map(|(op, before)| (op, world.calls(op) - before));
    made.flat_map(|((of, op), made)| {
        let ways = FAULTS.into_iter();
        ways.flat_map(move |fault| (0..made).map(move |calls| (of, op, calls, fault)))
    })
    .collect()
}

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
    let mut points = 0;
    for point in points_since(before, &world) {
        let world = prepare().await?;
        let when = world.cut_short(point);
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
    Ok(points)
}

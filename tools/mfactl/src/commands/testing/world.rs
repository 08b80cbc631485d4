//! Commands for devices over stores in memory, and interrupted at every call of a store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::clock::{Clock as _, Timestamp};
use shared::device::{Device, DeviceRecord, PendingSeed, Status};
use shared::names::{DeviceKey, DeviceName, Owner, SecretVersion, SeedRef, UserName};
use shared::otp::{OtpParameters, Seed, Step};
use shared::otpauth::Issuer;
use shared::policy::Policy;
use shared::ports::registry::SeedRegistry as _;
use shared::registration::{Leftovers, StoredSeed, store_seed};
use shared::sealed::SeedStorage;
use shared::testing::clock::ManualClock;
use shared::testing::memory::{Fault, MemoryDevices, MemorySeeds, Op};
use shared::testing::random::SequenceRandom;

use zeroize::Zeroizing;

use crate::commands::Delay;
use crate::commands::device::{DeviceAdmin, RegisterRequest};
use crate::formats::otpauth;
use crate::terminal::{Terminal, visible_lines};

/// The beginning of a step.
pub(in crate::commands) const NOW: Timestamp = Timestamp::from_secs(1_795_575_600);
pub(in crate::commands) const FAULTS: [Fault; 6] = [
    Fault::Before,
    Fault::After,
    Fault::Throttled,
    Fault::LostThenRepeated,
    Fault::Hang,
    Fault::HangAfter,
];

/// An answer to a question.
#[derive(Debug, Clone)]
pub(in crate::commands) enum Reply {
    Text(String),
    /// The code of the seed that was shown last, so many steps from now.
    Code(i64),
    /// A code that is not valid at any time near now.
    Wrong,
}

pub(in crate::commands) fn text(reply: &str) -> Reply {
    Reply::Text(reply.to_owned())
}

#[derive(Debug)]
pub(in crate::commands) struct TestTerminal {
    clock: Arc<ManualClock>,
    replies: VecDeque<Reply>,
    pub(in crate::commands) output: String,
    pub(in crate::commands) notes: String,
    pub(in crate::commands) questions: Vec<String>,
    pub(in crate::commands) progress: Vec<(usize, usize, Duration)>,
    pub(in crate::commands) columns: Option<usize>,
    /// Whether no one reads the output any more.
    pub(in crate::commands) closed: bool,
}

impl TestTerminal {
    pub(in crate::commands) fn seed(&self) -> Option<Seed> {
        let uri = self.output.lines().rfind(|line| line.starts_with("otpauth://"))?;
        Some(otpauth::parse(uri).ok()?.seed)
    }

    fn code(&self, ahead: i64) -> Option<String> {
        let seed = self.seed()?;
        let step = Step::at(self.clock.now(), seed.parameters().period);
        Some(seed.code(Step(step.0.saturating_add_signed(ahead))).reveal().to_owned())
    }
}

impl Terminal for TestTerminal {
    fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.print(&visible_lines(text))
    }

    fn print(&mut self, text: &str) -> std::io::Result<()> {
        if self.closed {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        self.output.push_str(text);
        self.output.push('\n');
        Ok(())
    }

    fn note(&mut self, text: &str) -> std::io::Result<()> {
        self.notes.push_str(text);
        self.notes.push('\n');
        Ok(())
    }

    fn progress(&mut self, done: usize, all: usize, elapsed: Duration) -> std::io::Result<()> {
        self.progress.push((done, all, elapsed));
        Ok(())
    }

    fn ask(&mut self, question: &str) -> std::io::Result<Option<Zeroizing<String>>> {
        self.questions.push(question.to_owned());
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

    fn columns(&self) -> Option<usize> {
        self.columns
    }
}

pub(in crate::commands) type MemoryAdmin =
    DeviceAdmin<MemoryDevices, MemorySeeds, Arc<ManualClock>, Arc<SequenceRandom>, TestTerminal>;

/// Clones share everything.
#[derive(Clone)]
pub(in crate::commands) struct World {
    pub(in crate::commands) devices: MemoryDevices,
    pub(in crate::commands) seeds: MemorySeeds,
    pub(in crate::commands) clock: Arc<ManualClock>,
    random: Arc<SequenceRandom>,
    pub(in crate::commands) key: DeviceKey,
}

impl World {
    pub(in crate::commands) fn new() -> Result<Self> {
        Ok(Self {
            devices: MemoryDevices::default(),
            seeds: MemorySeeds::default(),
            clock: Arc::new(ManualClock::at(NOW)),
            random: Arc::new(SequenceRandom::from_start(1)),
            key: DeviceKey {
                owner: Owner::parse("shop")?,
                user: UserName::parse("me+tag@example.com")?,
                device: DeviceName::parse("my phone")?,
            },
        })
    }

    pub(in crate::commands) fn admin(&self, replies: impl IntoIterator<Item = Reply>) -> MemoryAdmin {
        DeviceAdmin {
            devices: self.devices.clone(),
            seeds: self.seeds.clone(),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            terminal: TestTerminal {
                clock: Arc::clone(&self.clock),
                replies: replies.into_iter().collect(),
                output: String::new(),
                notes: String::new(),
                questions: Vec::new(),
                progress: Vec::new(),
                columns: None,
                closed: false,
            },
            policy: Policy::standard(),
            seed_prefix: Some("mfa".to_owned()),
            yes: false,
            left_behind: false,
        }
    }

    /// A request to register the device.
    pub(in crate::commands) fn request(&self) -> Result<RegisterRequest> {
        Ok(RegisterRequest {
            key: self.key.clone(),
            issuer: Issuer::parse("ACME")?,
            parameters: OtpParameters::default(),
            replace: false,
            pending_for: Duration::from_hours(1),
            activate_within: Duration::from_hours(7 * 24),
            activate: true,
            png: None,
            svg: None,
        })
    }

    /// A request to replace its seed.
    pub(in crate::commands) fn replacement(&self) -> Result<RegisterRequest> {
        Ok(RegisterRequest {
            replace: true,
            ..self.request()?
        })
    }

    /// With an active device.
    pub(in crate::commands) async fn active() -> Result<Self> {
        let world = Self::new()?;
        world.admin([Reply::Code(0)]).register(&world.request()?).await?;
        world.clock.advance(Duration::from_mins(2));
        Ok(world)
    }

    /// With a device that waits for its first code.
    pub(in crate::commands) async fn waiting() -> Result<Self> {
        let world = Self::new()?;
        let request = RegisterRequest {
            activate: false,
            ..world.request()?
        };
        world.admin([]).register(&request).await?;
        Ok(world)
    }

    /// Stores an active device of a user, with its seed in this place; each number gives another seed.
    pub(in crate::commands) async fn put_device(
        &self,
        user: &str,
        number: u8,
        storage: SeedStorage,
    ) -> Result<DeviceKey> {
        let key = DeviceKey {
            user: UserName::parse(user)?,
            ..self.key.clone()
        };
        let StoredSeed { seed_ref, sealed } = self.store_seed(&key, number, storage).await?;
        let device = Device {
            sealed,
            ..Device::registered(number.into(), Status::Active, seed_ref, OtpParameters::default())
        };
        self.devices.put(&key, &device);
        Ok(key)
    }

    /// Gives a device a new seed that waits for its first code.
    pub(in crate::commands) async fn put_pending(
        &self,
        key: &DeviceKey,
        number: u8,
        storage: SeedStorage,
        until: Timestamp,
    ) -> Result<SeedRef> {
        let StoredSeed { seed_ref, sealed } = self.store_seed(key, number, storage).await?;
        self.devices.put_pending(
            key,
            PendingSeed {
                seed_ref: seed_ref.clone(),
                sealed,
                until,
            },
        );
        Ok(seed_ref)
    }

    async fn store_seed(&self, key: &DeviceKey, number: u8, storage: SeedStorage) -> Result<StoredSeed> {
        let seed = Seed::from_bytes(&[number; 20], OtpParameters::default())?;
        let before = self.seeds.storage();
        self.seeds.keep(storage);
        let stored = store_seed(&self.seeds, &self.random, "mfa", key, &seed, &mut Leftovers::default()).await;
        self.seeds.keep(before);
        Ok(stored?)
    }

    /// The seed of the device, as it is stored.
    pub(in crate::commands) fn seed(&self) -> Result<Arc<Seed>> {
        let device = self.record()?.device;
        self.seeds.seed_of(&self.key, &device).context("no seed")
    }

    /// The secret that the device's seed is in.
    pub(in crate::commands) fn secret(&self) -> Result<SecretVersion> {
        let seed_ref = self.record()?.device.seed_ref;
        seed_ref.secret().cloned().context("the seed is sealed")
    }

    /// Whether a secret can be read, without a call.
    pub(in crate::commands) fn has(&self, secret: &SecretVersion) -> bool {
        self.seeds.has(&SeedRef::Secret(secret.clone()))
    }

    pub(in crate::commands) fn record(&self) -> Result<DeviceRecord> {
        self.devices.peek_record(&self.key).context("the device is gone")
    }

    pub(in crate::commands) fn is_active(&self) -> bool {
        self.record().is_ok_and(|record| record.device.status == Status::Active)
    }

    pub(in crate::commands) fn set(&self, change: impl FnOnce(&mut Device)) -> Result<()> {
        let mut device = self.record()?.device;
        change(&mut device);
        device.version += 1;
        self.devices.put(&self.key, &device);
        Ok(())
    }

    pub(in crate::commands) fn calls(&self, (of, op): (Store, Op)) -> usize {
        match of {
            Store::Devices => self.devices.calls(op),
            Store::Seeds => self.seeds.calls(op),
        }
    }

    /// Makes a command fail at a point; returns a description of it.
    pub(in crate::commands) fn interrupt(&self, (of, op, calls, fault): Point) -> String {
        match of {
            Store::Devices => self.devices.inject_after(calls, op, fault),
            Store::Seeds => self.seeds.inject_after(calls, op, fault),
        }
        format!("{fault:?} of {op:?} of {of:?} after {calls}")
    }

    /// Seeds that no device names.
    pub(in crate::commands) fn orphans(&self) -> usize {
        let all = self.devices.all();
        let named = all
            .iter()
            .flat_map(DeviceRecord::seeds)
            .filter(|seed| self.seeds.has(seed))
            .count();
        self.seeds.count() - named
    }

    /// What must hold wherever a command was interrupted.
    pub(in crate::commands) fn assert_safe(&self, when: &str) {
        for record in self.devices.all() {
            assert!(
                self.seeds.seed_of(&record.key, &record.device).is_some(),
                "a device without its seed, {when}"
            );
        }
        assert!(self.orphans() <= 1, "{} orphaned secrets, {when}", self.orphans());
    }
}

/// Waits by moving the clock.
pub(in crate::commands) struct MovingClock(pub(in crate::commands) Arc<ManualClock>);

impl Delay for MovingClock {
    async fn wait(&self, duration: Duration) {
        self.0.advance(duration);
    }
}

/// Runs a command until it ends or waits forever, as if the program was killed.
pub(in crate::commands) async fn until_it_hangs<T>(command: impl Future<Output = T>) -> Option<T> {
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

/// The error of a command; empty if it succeeded.
pub(in crate::commands) fn error_text(outcome: Result<()>) -> String {
    outcome.err().map(|error| format!("{error:#}")).unwrap_or_default()
}

#[derive(Debug, Clone, Copy)]
pub(in crate::commands) enum Store {
    Devices,
    Seeds,
}

/// Every call that a command may make.
pub(in crate::commands) const OPS: [(Store, Op); 21] = [
    (Store::Devices, Op::Record),
    (Store::Devices, Op::Register),
    (Store::Devices, Op::Reseed),
    (Store::Devices, Op::SetPendingSeed),
    (Store::Devices, Op::Replace),
    (Store::Devices, Op::Remove),
    (Store::Devices, Op::Get),
    (Store::Seeds, Op::Create),
    (Store::Seeds, Op::Read),
    (Store::Seeds, Op::Remove),
    (Store::Seeds, Op::Purge),
    (Store::Seeds, Op::Page),
    (Store::Seeds, Op::Describe),
    (Store::Seeds, Op::Restore),
    (Store::Devices, Op::Page),
    (Store::Devices, Op::Reseal),
    (Store::Devices, Op::MoveSeed),
    (Store::Seeds, Op::Seal),
    (Store::Seeds, Op::ReadKeyRing),
    (Store::Seeds, Op::KeyRingChangedAt),
    (Store::Seeds, Op::RotateKeyRing),
];

/// Where a command is interrupted: at which call, after how many of the same kind, and how.
pub(in crate::commands) type Point = (Store, Op, usize, Fault);

/// Every point of a command, by the calls that it made since `before`.
pub(in crate::commands) fn points_since<const KINDS: usize>(before: [usize; KINDS], world: &World) -> Vec<Point> {
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

/// Interrupts a command at every call of a store in every way, and runs it again. Returns the number of points.
pub(in crate::commands) async fn at_every_point<F: Future<Output = Result<World>>>(
    prepare: impl Fn() -> F,
    command: impl AsyncFn(&World, &mut MemoryAdmin) -> Result<()>,
    replies: &[Reply],
    is_done: impl Fn(&World) -> bool,
) -> Result<usize> {
    // How often each call is made without a fault.
    let world = prepare().await?;
    let before = OPS.map(|op| world.calls(op));
    command(&world, &mut world.admin(replies.to_vec())).await?;
    let mut points = 0;
    for point in points_since(before, &world) {
        let world = prepare().await?;
        let when = world.interrupt(point);
        let mut admin = world.admin(replies.to_vec());
        let outcome = until_it_hangs(command(&world, &mut admin)).await;
        points += 1;
        world.assert_safe(&when);
        let all_is_well = matches!(outcome, Some(Ok(()))) && !admin.left_behind;
        assert!(!all_is_well || is_done(&world), "it claims success, {when}");
        assert!(
            world.orphans() == 0 || !all_is_well,
            "it does not report the secret that is left over, {when}"
        );
        let known_orphans = world.orphans();

        // Run again, it finishes.
        world.clock.advance(Duration::from_mins(2));
        let mut admin = world.admin(replies.to_vec());
        let again = error_text(command(&world, &mut admin).await);
        assert!(is_done(&world), "{again}: {when}");
        world.assert_safe(&when);
        assert!(
            world.orphans() <= known_orphans,
            "running it again leaves more orphans, {when}"
        );
    }
    Ok(points)
}

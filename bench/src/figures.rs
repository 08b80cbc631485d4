//! The measurement: every subject in turns, so that whatever else the machine does meets all of them alike.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, Result};

use crate::machine::{Quota, spawn};
use crate::process::{Launch, Process};
use crate::subjects::{Kind, Subject, Task, run, which};
use crate::world::World;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Fresh processes of each subject, each with one call.
    pub(crate) starts: usize,
    /// Fresh processes of each subject with many calls.
    pub(crate) rounds: usize,
    /// Calls of those that are not measured: just-in-time compilers and caches get used to the work.
    pub(crate) unmeasured: usize,
    pub(crate) calls: usize,
    /// Fresh processes under each quota.
    pub(crate) quota_starts: usize,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        starts: 15,
        rounds: 9,
        unmeasured: 60,
        calls: 120,
        quota_starts: 5,
    };
    pub(crate) const QUICK: Self = Self {
        starts: 3,
        rounds: 2,
        unmeasured: 10,
        calls: 20,
        quota_starts: 1,
    };
}

/// Median, 99th percentile, and how far apart the medians of the rounds are (for starts, the starts themselves).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Times {
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
    pub(crate) least: Duration,
    pub(crate) most: Duration,
}

impl Times {
    /// `None` if there are no times.
    pub(crate) fn of(rounds: &[Vec<Duration>]) -> Option<Self> {
        let medians = rounds.iter().filter_map(|round| percentile(round.clone(), 50));
        let (least, most) = (medians.clone().min()?, medians.max()?);
        let all = rounds.concat();
        Some(Self {
            median: percentile(all.clone(), 50)?,
            p99: percentile(all, 99)?,
            least,
            most,
        })
    }

    fn of_starts(starts: &[Duration]) -> Option<Self> {
        Self::of(&starts.iter().map(|start| vec![*start]).collect::<Vec<_>>())
    }
}

/// The smallest time that this share of the times does not exceed.
fn percentile(mut times: Vec<Duration>, percent: usize) -> Option<Duration> {
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100);
    times.get(rank.checked_sub(1)?).copied()
}

/// The figures of one subject.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// From the start of the process until it asks for work.
    pub(crate) init: Times,
    pub(crate) first_call: Times,
    pub(crate) warm_call: Times,
    /// Computing time of a warm call; its rounds are the processes.
    pub(crate) cpu: Times,
    pub(crate) peak_kib: u64,
    pub(crate) bytes: u64,
    pub(crate) zipped_bytes: u64,
    /// INIT and first call together, by memory size.
    pub(crate) under_quota: BTreeMap<u32, Times>,
}

/// What has been taken so far of one subject.
#[derive(Debug, Default)]
struct Taken {
    inits: Vec<Duration>,
    first_calls: Vec<Duration>,
    warm_calls: Vec<Vec<Duration>>,
    cpu: Vec<Duration>,
    peak_kib: u64,
    under_quota: BTreeMap<u32, Vec<Duration>>,
}

pub(crate) type ByKindAndTask<T> = BTreeMap<(Kind, Task), T>;

/// Measures all subjects. Without control groups, the figures under quotas are missing.
///
/// The stores are new for every round: they become slower with what they hold, which would meet those that come later.
pub(crate) async fn measure(subjects: &[Subject], plan: Plan) -> Result<ByKindAndTask<Figures>> {
    let mut taken: Vec<Taken> = subjects.iter().map(|_| Taken::default()).collect();
    crate::say("starts");
    World::with(async |world| {
        for _ in 0..plan.starts {
            for (subject, taken) in subjects.iter().zip(&mut taken) {
                let (init, first_call) = start(world, subject, None).await?;
                taken.inits.push(init);
                taken.first_calls.push(first_call);
            }
        }
        Ok(())
    })
    .await?;
    crate::say("warm calls");
    for _ in 0..plan.rounds {
        World::with(async |world| {
            for (subject, taken) in subjects.iter().zip(&mut taken) {
                warm(world, subject, plan, taken).await?;
            }
            Ok(())
        })
        .await?;
    }
    for memory_mb in MEMORY_SIZES {
        crate::say(&format!("a processor's share of {memory_mb} MB"));
        let quota = match Quota::new(memory_mb) {
            Ok(quota) => quota,
            Err(error) => {
                crate::say(&format!("left out: {error:#}"));
                break;
            }
        };
        // Step 3 only: at the smallest share a start takes many seconds in some languages.
        let step_3 = |subject: &Subject| matches!(subject.task, Task::ValidateOtp | Task::Constant);
        World::with(async |world| {
            for _ in 0..plan.quota_starts {
                for (subject, taken) in subjects.iter().zip(&mut taken).filter(|(subject, _)| step_3(subject)) {
                    let (init, first_call) = start(world, subject, Some(&quota)).await?;
                    taken.under_quota.entry(memory_mb).or_default().push(init + first_call);
                }
            }
            Ok(())
        })
        .await?;
    }
    subjects
        .iter()
        .zip(taken)
        .map(|(subject, taken)| Ok(((subject.kind, subject.task), figures(subject, taken)?)))
        .collect()
}

/// The memory sizes whose share of a processor is measured.
pub(crate) const MEMORY_SIZES: [u32; 4] = [128, 256, 512, crate::machine::WHOLE_PROCESSOR_MB];

fn figures(subject: &Subject, taken: Taken) -> Result<Figures> {
    let measured = "nothing was measured";
    let cpu = taken.cpu.into_iter().map(|time| vec![time]).collect::<Vec<_>>();
    let quotas = taken.under_quota.into_iter();
    Ok(Figures {
        init: Times::of_starts(&taken.inits).context(measured)?,
        first_call: Times::of_starts(&taken.first_calls).context(measured)?,
        warm_call: Times::of(&taken.warm_calls).context(measured)?,
        cpu: Times::of(&cpu).context(measured)?,
        peak_kib: taken.peak_kib,
        bytes: subject.bytes()?,
        zipped_bytes: subject.zipped_bytes()?,
        under_quota: quotas
            .filter_map(|(size, times)| Some((size, Times::of_starts(&times)?)))
            .collect(),
    })
}

async fn start(world: &World, subject: &Subject, quota: Option<&Quota>) -> Result<(Duration, Duration)> {
    let samples = world.samples(subject.kind, 1).await?;
    let sample = samples.first().context("no sample")?;
    let (mut process, init) = Process::start(&subject.launch, world.environment(subject.kind), quota).await?;
    let (event, status) = subject.task.event(world, sample)?;
    Ok((init, process.expect(event, status).await?.took))
}

async fn warm(world: &World, subject: &Subject, plan: Plan, taken: &mut Taken) -> Result<()> {
    let samples = world.samples(subject.kind, plan.unmeasured + plan.calls).await?;
    let (unmeasured, measured) = samples.split_at(plan.unmeasured);
    let (mut process, _) = Process::start(&subject.launch, world.environment(subject.kind), None).await?;
    for sample in unmeasured {
        let (event, status) = subject.task.event(world, sample)?;
        process.expect(event, status).await?;
    }
    let (mut times, before) = (Vec::with_capacity(plan.calls), process.cpu_time()?);
    for sample in measured {
        let (event, status) = subject.task.event(world, sample)?;
        times.push(process.expect(event, status).await?.took);
    }
    let spent = process.cpu_time()?.saturating_sub(before);
    taken.cpu.push(spent / u32::try_from(plan.calls)?);
    taken.warm_calls.push(times);
    taken.peak_kib = taken.peak_kib.max(process.peak_kib()?);
    Ok(())
}

/// How long it takes to open a sealed seed.
pub(crate) fn opening(subjects: &[Subject]) -> Result<Duration> {
    let floor = subjects.iter().find(|subject| subject.kind == Kind::TwoCalls);
    let beside = floor.and_then(|floor| floor.deployed.first());
    let program = beside.context("no floor was built")?.with_file_name("opening-a-seed");
    let child = spawn(Command::new(program).stdout(Stdio::piped()), None)?;
    let printed = String::from_utf8(child.wait_with_output()?.stdout)?;
    Ok(Duration::from_nanos(printed.trim().parse()?))
}

/// Calls under `callgrind` before those that are counted, and those.
const UNCOUNTED: usize = 10;
const COUNTED: usize = 50;
/// Under `callgrind` the first calls of a process are slow enough to run into the limits of time.
const MOST_TOO_LATE: usize = 20;

/// Instructions of a warm call.
pub(crate) async fn instructions(world: &World, subject: &Subject) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("callgrind.out");
    let mut command = vec![which("valgrind")?, "--quiet".into(), "--tool=callgrind".into()];
    command.push(format!("--callgrind-out-file={}", report.display()).into());
    command.extend(subject.launch.command.iter().cloned());
    let launch = Launch {
        command,
        folder: subject.launch.folder.clone(),
    };
    let (mut process, _) = Process::start(&launch, world.environment(subject.kind), None).await?;
    for _ in 0..MOST_TOO_LATE {
        let samples = world.samples(subject.kind, 1).await?;
        let (event, status) = subject.task.event(world, samples.first().context("no sample")?)?;
        if process.call(event).await?.status == status {
            break;
        }
    }
    let samples = world.samples(subject.kind, UNCOUNTED + COUNTED).await?;
    for (number, sample) in samples.iter().enumerate() {
        if number == UNCOUNTED {
            let mut control = Command::new("callgrind_control");
            control.arg("--zero").arg(process.id().to_string());
            tokio::task::spawn_blocking(move || run(&mut control)).await??;
        }
        let (event, status) = subject.task.event(world, sample)?;
        process.expect(event, status).await?;
    }
    process.end().await?;
    Ok(total(&report)? / u64::try_from(COUNTED)?)
}

/// The sum of a report of `callgrind`.
fn total(report: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(report)?;
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.ok_or_else(|| io::Error::other("callgrind reported no totals"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_times_that_were_taken() {
        assert_eq!(percentile(Vec::new(), 50), None);
        let hundred = millis(&(1..=100).rev().collect::<Vec<_>>());
        assert_eq!(percentile(hundred.clone(), 50), Some(Duration::from_millis(50)));
        assert_eq!(percentile(hundred, 99), Some(Duration::from_millis(99)));
        assert_eq!(percentile(millis(&[7]), 99), Some(Duration::from_millis(7)));
    }

    #[test]
    fn the_spread_is_that_of_the_rounds_and_not_of_their_worst_calls() {
        let times = Times::of(&[millis(&[1, 2, 900]), millis(&[3, 4, 5])]);
        let expected = [3, 900, 2, 4].map(Duration::from_millis);
        let found = times.map(|times| [times.median, times.p99, times.least, times.most]);
        assert_eq!(found, Some(expected));
    }
}

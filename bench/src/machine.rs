//! Processors and quotas: the measured process has one processor for itself, the stores and this program have the others;
//! and it may get a share of it only, as Lambda gives by memory size.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};

/// The processors of this program; the measured processes have the last one.
static PROCESSORS: OnceLock<(CpuSet, CpuSet)> = OnceLock::new();

/// Leaves the last processor to the measured processes. For the first thread, before there are others.
pub(crate) fn pin() -> Result<()> {
    let all = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu));
    let last = last.context("no processor")?;
    let (mut own, mut measured) = (all, CpuSet::new());
    measured.set(last);
    if all.count() > 1 {
        own.unset(last);
    }
    sched_setaffinity(None, &own)?;
    let _ = PROCESSORS.set((own, measured));
    Ok(())
}

/// Starts a process on the processor of the measured ones, with a quota if there is one.
pub(crate) fn spawn(command: &mut Command, quota: Option<&Quota>) -> Result<Child> {
    // A process inherits the processors and the group of the thread that starts it.
    let processors = PROCESSORS.get();
    if let Some((_, measured)) = processors {
        sched_setaffinity(None, measured)?;
    }
    let entered = quota.map_or(Ok(()), Quota::enter);
    let child = entered.and_then(|()| command.spawn());
    let left = quota.map_or(Ok(()), Quota::leave);
    if let Some((own, _)) = processors {
        sched_setaffinity(None, own)?;
    }
    left?;
    child.with_context(|| format!("{} cannot be started", command.get_program().display()))
}

const CPU_GROUPS: &str = "/sys/fs/cgroup/cpu";
/// The share of a processor is given anew after each period; Lambda's is said to be 20 ms.
const PERIOD: Duration = Duration::from_millis(20);
/// With this memory size a function has a whole processor.
pub(crate) const WHOLE_PROCESSOR_MB: u32 = 1_769;

/// A control group (version 1) with the share of a processor that a memory size gives on Lambda.
#[derive(Debug)]
pub(crate) struct Quota(PathBuf);

impl Quota {
    /// # Errors
    /// If control groups of version 1 are not there or may not be written.
    pub(crate) fn new(memory_mb: u32) -> Result<Self> {
        let path = Path::new(CPU_GROUPS).join(format!("bench-{}-{memory_mb}", std::process::id()));
        fs::create_dir(&path).with_context(|| {
            format!("{CPU_GROUPS} is not writable: figures under quotas need root and control groups of version 1")
        })?;
        let group = Self(path);
        let period = u32::try_from(PERIOD.as_micros())?;
        let quota = period * memory_mb / WHOLE_PROCESSOR_MB;
        fs::write(group.0.join("cpu.cfs_period_us"), period.to_string())?;
        fs::write(group.0.join("cpu.cfs_quota_us"), quota.to_string())?;
        Ok(group)
    }

    fn enter(&self) -> io::Result<()> {
        join(&self.0)
    }

    #[expect(clippy::unused_self, reason = "the counterpart of enter")]
    fn leave(&self) -> io::Result<()> {
        join(Path::new(CPU_GROUPS))
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // The processes in it have ended; if one has not, the group stays, and a later run has another one.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Moves this thread to a group.
fn join(group: &Path) -> io::Result<()> {
    fs::write(group.join("tasks"), gettid().as_raw_nonzero().to_string())
}

/// What the figures depend on: processor, kernel, compiler and interpreters.
pub(crate) fn description() -> String {
    let first_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        Some(
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .next()?
                .trim()
                .to_owned(),
        )
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models = cpuinfo.lines().filter(|line| line.starts_with("model name"));
    let processor = models
        .clone()
        .find_map(|line| Some(line.split_once(':')?.1.trim().to_owned()));
    let processors = models.count();
    let versions = [
        first_line("uname", &["-srm"]),
        first_line("rustc", &["--version"]),
        first_line("python3", &["--version"]),
        first_line("node", &["--version"]).map(|version| format!("Node.js {version}")),
    ];
    let versions = versions.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let processor = processor.unwrap_or_else(|| "an unknown processor".to_owned());
    format!("{processor}, {processors} processors, {versions}")
}

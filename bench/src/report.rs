//! The figures as Markdown: for docs/performance.md, between two marks, and the short table of README.md.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use shared::clock::{Clock as _, SystemClock};

use crate::figures::{ByKindAndTask, Figures, MEMORY_SIZES, Plan, Times};
use crate::machine::{self, WHOLE_PROCESSOR_MB};
use crate::rightness::StoreCost;
use crate::subjects::{Kind, Task, WORKSPACE};

/// Before what a command writes, with the rest of the command.
fn begin(command: &str) -> String {
    format!("<!-- Written by `cargo run -p bench{command}`: -->")
}
const END: &str = "<!-- until here -->";

/// All figures of one run.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) plan: Plan,
    pub(crate) figures: ByKindAndTask<Figures>,
    pub(crate) opening: Duration,
    pub(crate) costs: BTreeMap<Kind, BTreeMap<Task, StoreCost>>,
    pub(crate) instructions: ByKindAndTask<u64>,
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}.\n", when_and_where())?;
        self.goals(f)?;
        self.times(f, "Step 3, `validate-otp`", Task::ValidateOtp)?;
        self.times(f, "Step 2, `init-auth`", Task::InitAuth)?;
        self.times(f, "A registration, `manage-devices`", Task::Register)?;
        self.quotas(f)?;
        self.sizes(f)?;
        self.stores(f)?;
        self.instruction_counts(f)?;
        let Plan {
            starts,
            rounds,
            unmeasured,
            calls,
            quota_starts,
        } = self.plan;
        write!(
            f,
            "INIT and first call: medians of {starts} starts (least–most). Warm: medians and 99th percentiles of {rounds} processes \
             with {calls} calls each, after {unmeasured} that are not measured; in brackets the medians of the single processes \
             (least–most). Shares of a processor: medians of {quota_starts} starts."
        )
    }
}

impl Results {
    /// Writes the tables into the documents.
    pub(crate) fn write(&self) -> Result<()> {
        replace("docs/performance.md", "", &self.to_string())?;
        replace("README.md", "", &self.short()?)
    }

    fn of(&self, kind: Kind, task: Task) -> Option<&Figures> {
        self.figures.get(&(kind, task))
    }

    fn times(&self, f: &mut fmt::Formatter<'_>, title: &str, task: Task) -> fmt::Result {
        writeln!(f, "### {title}\n")?;
        writeln!(
            f,
            "| | INIT | first call | warm call | computing time of a warm call | peak memory |\n|---|---|---|---|---|---|"
        )?;
        for ((kind, measured), figures) in &self.figures {
            if *measured == task || (*measured == Task::Constant && task == Task::ValidateOtp) {
                let Figures {
                    init,
                    first_call,
                    warm_call,
                    cpu,
                    peak_kib,
                    ..
                } = figures;
                writeln!(
                    f,
                    "| {} | {} | {} | {} | {} | {} MiB |",
                    kind.name(),
                    of_starts(init),
                    of_starts(first_call),
                    of_rounds(warm_call),
                    of_starts(cpu),
                    tenths(*peak_kib, 1_024)
                )?;
            }
        }
        writeln!(f)
    }

    fn quotas(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### INIT and the first call, by the share of a processor\n")?;
        if self.figures.values().all(|figures| figures.under_quota.is_empty()) {
            return writeln!(f, "Not measured: it needs root and control groups of version 1.\n");
        }
        let columns = MEMORY_SIZES.map(|size| format!(" {size} MB |")).concat();
        writeln!(f, "| step 3 |{columns}\n|---|{}", "---|".repeat(MEMORY_SIZES.len()))?;
        let measured = self
            .figures
            .iter()
            .filter(|(_, figures)| !figures.under_quota.is_empty());
        for ((kind, _), figures) in measured {
            write!(f, "| {} |", kind.name())?;
            for size in MEMORY_SIZES {
                let shown = figures
                    .under_quota
                    .get(&size)
                    .map_or_else(|| "–".to_owned(), |times| ms(times.median));
                write!(f, " {shown} |")?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "\nA memory size gives its part of {WHOLE_PROCESSOR_MB} MB, a whole processor, in periods of 20 ms. On Lambda INIT has a whole \
             processor at every size; here it has not.\n"
        )
    }

    fn sizes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### Sizes\n\n| function | | unpacked | zip |\n|---|---|---|---|")?;
        // The same programs serve both kinds of seeds.
        for ((kind, task), figures) in self.figures.iter().filter(|((kind, _), _)| *kind != Kind::Sealed) {
            let (bytes, zipped) = (
                tenths(figures.bytes, 1_000_000),
                tenths(figures.zipped_bytes, 1_000_000),
            );
            writeln!(
                f,
                "| {} | {} | {bytes} MB | {zipped} MB |",
                task_name(*task),
                kind.name()
            )?;
        }
        writeln!(
            f,
            "\nOf Python and Node.js without interpreter and runtime client, of Python with its SDK.\n"
        )
    }

    fn stores(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "### What a sign-in costs at the stores\n\n| | calls of step 2 | calls of step 3 | bytes of both | read units | write units |\n\
             |---|---|---|---|---|---|"
        )?;
        for (kind, costs) in &self.costs {
            let calls = |task| {
                let calls = costs
                    .get(&task)
                    .map(|cost| cost.calls.keys().cloned().collect::<Vec<_>>());
                calls.unwrap_or_default().join(", ")
            };
            let bytes: usize = costs.values().map(|cost| cost.bytes).sum();
            let read: f64 = costs.values().map(|cost| cost.read_units).sum();
            let write: f64 = costs.values().map(|cost| cost.write_units).sum();
            let (step_2, step_3) = (calls(Task::InitAuth), calls(Task::ValidateOtp));
            writeln!(
                f,
                "| {} | {step_2} | {step_3} | {bytes} | {read} | {write} |",
                kind.name()
            )?;
        }
        writeln!(
            f,
            "\nCounted in front of the stores, bodies of requests and answers, with the seed in memory: a cold `validate-otp` makes one \
             GetSecretValue more.\n"
        )
    }

    fn instruction_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "### Instructions of a warm call\n\n| function | | instructions |\n|---|---|---|"
        )?;
        for ((kind, task), instructions) in &self.instructions {
            writeln!(
                f,
                "| {} | {} | {} thousand |",
                task_name(*task),
                kind.name(),
                (instructions + 500) / 1_000
            )?;
        }
        writeln!(
            f,
            "\nCounted by `valgrind --tool=callgrind`, without the kernel's. Opening a sealed seed takes {:.1} µs.\n",
            self.opening.as_secs_f64() * 1e6
        )
    }

    /// The goals of the project as ratios within this run, so that they mean the same on every machine.
    fn goals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "### Goals\n\n| `validate-otp` against | goal | measured | |\n|---|---|---|---|"
        )?;
        for Goal { what, most, ratio } in self.all_goals() {
            let met = if ratio <= most { "met" } else { "**missed**" };
            writeln!(
                f,
                "| {what} | ≤ {} | {} | {met} |",
                shown_ratio(most),
                shown_ratio(ratio)
            )?;
        }
        writeln!(f)
    }

    fn all_goals(&self) -> Vec<Goal> {
        let own = self.of(Kind::Rust, Task::ValidateOtp);
        let ratio = |other: Kind, figure: fn(&Figures) -> Option<f64>| {
            Some(figure(own?)? / figure(self.of(other, Task::ValidateOtp)?)?)
        };
        // Against the best of the peers: the highest of the ratios.
        let worst = |figure: fn(&Figures) -> Option<f64>| {
            let ratios = Kind::PEERS.into_iter().filter_map(|peer| ratio(peer, figure));
            ratios.max_by(f64::total_cmp)
        };
        let init = |figures: &Figures| Some(figures.init.median.as_secs_f64());
        let cpu = |figures: &Figures| Some(figures.cpu.median.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a memory size is far below 2⁵²")]
        let memory = |figures: &Figures| Some(figures.peak_kib as f64);
        let at_128 = |figures: &Figures| Some(figures.under_quota.get(&128)?.median.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a file's size is far below 2⁵²")]
        let zip = own.map(|figures| figures.zipped_bytes as f64 / 4e6);
        [
            ("INIT: the floor of two calls", 1.3, ratio(Kind::TwoCalls, init)),
            ("INIT: the better of Python and Node.js", 1.0 / 20.0, worst(init)),
            (
                "INIT and first call at 128 MB: the better of Python and Node.js",
                1.0 / 8.0,
                worst(at_128),
            ),
            (
                "computing time of a warm call: the floor of two calls",
                1.15,
                ratio(Kind::TwoCalls, cpu),
            ),
            (
                "computing time of a warm call: the better of Python and Node.js",
                1.0 / 5.0,
                worst(cpu),
            ),
            (
                "peak memory: the leaner of Python and Node.js",
                1.0 / 4.0,
                worst(memory),
            ),
            ("zip: 4 MB", 1.0, zip),
        ]
        .into_iter()
        .filter_map(|(what, most, ratio)| {
            Some(Goal {
                what,
                most,
                ratio: ratio?,
            })
        })
        .collect()
    }

    /// The table of README.md.
    fn short(&self) -> Result<String> {
        let mut text = String::from(
            "| step 3, TLS to stores on loopback | INIT | INIT and first call at 128 MB | warm call | computing time | memory |\n\
             |---|---|---|---|---|---|\n",
        );
        for kind in [Kind::Rust, Kind::Node, Kind::Python] {
            let figures = self.of(kind, Task::ValidateOtp).context("no figures")?;
            let at_128 = figures
                .under_quota
                .get(&128)
                .map_or_else(|| "–".to_owned(), |times| ms(times.median));
            writeln!(
                text,
                "| {} | {} | {at_128} | {} | {} | {} MiB |",
                kind.name(),
                ms(figures.init.median),
                ms(figures.warm_call.median),
                ms(figures.cpu.median),
                tenths(figures.peak_kib, 1_024)
            )?;
        }
        Ok(text.trim_end().to_owned())
    }
}

/// The date, and what the figures depend on.
pub(crate) fn when_and_where() -> String {
    let today = SystemClock.now().rfc3339();
    format!("{}, {}", today.get(..10).unwrap_or_default(), machine::description())
}

/// What the ratio of a figure to another one is, and what it may be.
struct Goal {
    what: &'static str,
    most: f64,
    ratio: f64,
}

fn shown_ratio(ratio: f64) -> String {
    if ratio < 0.5 {
        format!("1/{:.1}", 1.0 / ratio).replace(".0", "")
    } else {
        format!("{ratio:.2}")
    }
}

const fn task_name(task: Task) -> &'static str {
    match task {
        Task::InitAuth => "`init-auth`",
        Task::ValidateOtp => "`validate-otp`",
        Task::Register => "`manage-devices`",
        Task::Constant => "any",
    }
}

fn of_starts(times: &Times) -> String {
    let [least, most] = [times.least, times.most].map(number);
    format!("{} ({least}–{most})", ms(times.median))
}

fn of_rounds(times: &Times) -> String {
    let [p99, least, most] = [times.p99, times.least, times.most].map(number);
    format!("{}, p99 {p99} ({least}–{most})", ms(times.median))
}

fn ms(time: Duration) -> String {
    format!("{} ms", number(time))
}

/// Milliseconds with two or three digits that count.
pub(crate) fn number(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1_000.0;
    match millis {
        ..3.0 => format!("{millis:.2}"),
        ..100.0 => format!("{millis:.1}"),
        _ => format!("{millis:.0}"),
    }
}

/// `amount / unit` with one digit after the point, rounded.
pub(crate) fn tenths(amount: u64, unit: u64) -> String {
    let tenths = (amount * 10 + unit / 2) / unit;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Replaces what is between the marks of a document that are for `cargo run -p bench` with the rest of a command.
pub(crate) fn replace(document: &str, command: &str, content: &str) -> Result<()> {
    let path = Path::new(WORKSPACE).join(document);
    let text = std::fs::read_to_string(&path).with_context(|| document.to_owned())?;
    let begin = begin(command);
    let replaced = between_marks(&text, &begin, content)
        .with_context(|| format!("{document} has no line {begin} before a line {END}"))?;
    Ok(std::fs::write(path, replaced)?)
}

fn between_marks(text: &str, begin: &str, content: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{begin}\n\n{content}\n\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_what_counts() {
        let shown = [
            Duration::from_micros(1_234),
            Duration::from_micros(12_345),
            Duration::from_micros(1_234_567),
        ];
        assert_eq!(shown.map(number), ["1.23", "12.3", "1235"]);
        assert_eq!(
            (tenths(7_949_999, 1_000_000), tenths(7_950_000, 1_000_000)),
            ("7.9".to_owned(), "8.0".to_owned())
        );
        assert_eq!([1.3, 0.05, 0.032].map(shown_ratio), ["1.30", "1/20", "1/31.2"]);
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let [first, second] = ["", " -- load"].map(begin);
        let text = format!("a\n{first}\nfirst\n{END}\nb\n{second}\nold\n{END}\nc");
        let replaced = format!("a\n{first}\nfirst\n{END}\nb\n{second}\n\nnew\n\n{END}\nc");
        assert_eq!(between_marks(&text, &second, "new"), Some(replaced));
        assert_eq!(between_marks("a", &first, "new"), None);
    }
}

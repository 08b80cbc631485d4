//! What CI compares with bench/baseline.json: instructions, sizes, crates and calls, none of which depends on how fast the
//! machine is. A time never fails a build. The functions are those that are deployed, since another linker makes others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::rightness;
use crate::subjects::{Subject, Task, WORKSPACE};
use crate::world::World;
use crate::{figures, print};

const FILE: &str = "bench/baseline.json";
/// How much more than the baseline is too much, in percent.
const ALLOWED: u64 = 5;

/// Figures by function, and by what they count.
type Baseline = BTreeMap<String, BTreeMap<String, u64>>;

/// Compares the functions with the baseline, or writes it.
pub(crate) async fn check(world: &World, functions: &[Subject], write: bool) -> Result<()> {
    let found = count(world, functions).await?;
    let path = Path::new(WORKSPACE).join(FILE);
    if write {
        return Ok(std::fs::write(path, serde_json::to_string_pretty(&found)? + "\n")?);
    }
    let text = std::fs::read_to_string(path).with_context(|| FILE)?;
    let baseline: Baseline = serde_json::from_str(&text).with_context(|| FILE)?;
    let (table, grown) = compare(&baseline, &found);
    print(&table)?;
    ensure!(
        grown.is_empty(),
        "grown by more than {ALLOWED} % over {FILE}: {}. Find out why; if it is worth it, write the new baseline with \
         `cargo run -p bench -- check --functions target/functions --write` and say so in the commit",
        grown.join(", ")
    );
    Ok(())
}

async fn count(world: &World, functions: &[Subject]) -> Result<Baseline> {
    let find = |task| {
        let found = functions.iter().find(|subject| subject.task == task);
        found.context("a function is missing")
    };
    let costs = rightness::check(world, [find(Task::InitAuth)?, find(Task::ValidateOtp)?]).await?;
    let mut found = Baseline::new();
    for (task, name) in [
        (Task::InitAuth, "init-auth"),
        (Task::ValidateOtp, "validate-otp"),
        (Task::Register, "manage-devices"),
    ] {
        let function = find(task)?;
        let mut figures = BTreeMap::from([
            ("binary bytes".to_owned(), function.bytes()?),
            ("crates".to_owned(), crates(name)?),
        ]);
        if let Some(cost) = costs.get(&task) {
            figures.insert("store calls".to_owned(), cost.how_many());
            let instructions = figures::instructions(world, function).await?;
            figures.insert("instructions of a warm call".to_owned(), instructions);
        }
        found.insert(name.to_owned(), figures);
    }
    Ok(found)
}

/// How many crates a function is made of.
fn crates(function: &str) -> Result<u64> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "tree",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--no-dedupe",
        "--package",
        function,
    ]);
    let output = cargo.current_dir(WORKSPACE).output().context("cargo tree")?;
    ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let crates: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.get(..line.find(" (").unwrap_or(line.len())))
        .collect();
    Ok(u64::try_from(crates.len())?)
}

/// A table of both, and what has grown by too much.
fn compare(baseline: &Baseline, found: &Baseline) -> (String, Vec<String>) {
    let (mut lines, mut grown) = (Vec::new(), Vec::new());
    for (function, figures) in found {
        for (what, now) in figures {
            let before = baseline.get(function).and_then(|figures| figures.get(what)).copied();
            let too_much = before.is_none_or(|before| now * 100 > before * (100 + ALLOWED));
            let shown = before.map_or_else(|| "nothing".to_owned(), |before| before.to_string());
            lines.push(format!("{function}, {what}: {now} (baseline {shown})"));
            if too_much {
                grown.push(format!("{what} of {function}"));
            }
        }
    }
    (lines.join("\n"), grown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(calls: u64) -> Baseline {
        BTreeMap::from([("f".to_owned(), BTreeMap::from([("calls".to_owned(), calls)]))])
    }

    #[test]
    fn five_percent_more_is_allowed_and_what_the_baseline_does_not_have_is_not() {
        let grown = |before: &Baseline, now| compare(before, &baseline(now)).1;
        assert!(grown(&baseline(100), 105).is_empty());
        assert!(grown(&baseline(100), 10).is_empty());
        assert_eq!(grown(&baseline(100), 106), ["calls of f"]);
        assert_eq!(grown(&baseline(2), 3), ["calls of f"]);
        assert_eq!(grown(&Baseline::new(), 1), ["calls of f"]);
    }
}

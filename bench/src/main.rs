//! `cargo run -p bench`: what the functions cost, beside the same service in other languages and beside floors. It builds
//! all of them, makes sure that each gives right answers, measures them in turns, and writes docs/performance.md.
//!
//! Times are those of this machine, from outside the process: INIT is the time from its start until it asks for work, a
//! call the time from the event to the answer, stores included. The stores are reached over TLS, as on Lambda, and over
//! loopback, unlike there. `cargo run -p bench -- check` is for CI: it compares what does not depend on the machine with
//! bench/baseline.json.

mod baseline;
mod edge;
mod figures;
mod load;
mod machine;
mod process;
mod report;
mod rightness;
mod scale;
mod subjects;
mod tls;
mod world;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use figures::{ByKindAndTask, Plan};
use report::Results;
use rightness::StoreCost;
use subjects::{Kind, Subject, Task};
use world::World;

/// Measure what the functions cost and simulate growth; write docs/performance.md and docs/scale.md
#[derive(Debug, Parser)]
struct Arguments {
    /// Measure little, and print the figures instead of writing them
    #[arg(long)]
    quick: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fail if the functions cost more than bench/baseline.json allows
    Check {
        /// A folder with the functions as they are deployed; tests/deploy/run leaves them in target/functions
        #[arg(long, value_name = "DIR")]
        functions: PathBuf,
        /// Write what was found to bench/baseline.json
        #[arg(long)]
        write: bool,
    },
    /// Measure the local stack under wrk for 20 minutes; write "Load" in docs/performance.md
    Load,
    /// Simulate growth: which quota ends first, and what it costs; write docs/scale.md and its plots
    Scale,
}

fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments {
            command: Some(Command::Check { functions, write }),
            ..
        } => {
            let subjects = subjects::functions(Some(&functions))?;
            run(World::with(async |world| {
                baseline::check(world, &subjects, write).await
            }))
        }
        Arguments {
            command: Some(Command::Load),
            ..
        } => tokio::runtime::Runtime::new()?.block_on(load::run()),
        Arguments {
            command: Some(Command::Scale),
            ..
        } => scale::write(),
        Arguments { quick, command: None } => {
            let subjects = build()?;
            let plan = if quick { Plan::QUICK } else { Plan::FULL };
            let results = run(measure(&subjects, plan))?;
            if quick {
                print(&results.to_string())
            } else {
                results.write()?;
                say("growth");
                scale::write()
            }
        }
    }
}

/// Builds everything; the installation of the peers waits for the network where the compiler does not.
fn build() -> Result<Vec<Subject>> {
    say("builds");
    let (functions, peers) = std::thread::scope(|scope| {
        let peers = scope.spawn(subjects::peers);
        (subjects::functions(None), peers.join())
    });
    let mut subjects = functions?;
    subjects.extend(peers.map_err(|_| anyhow::anyhow!("the installation of the peers panicked"))??);
    Ok(subjects)
}

/// Runs something on the processors that the measured processes do not have.
fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    machine::pin()?;
    tokio::runtime::Runtime::new()?.block_on(work)
}

async fn measure(subjects: &[Subject], plan: Plan) -> Result<Results> {
    let (costs, instructions) = World::with(async |world| count(world, subjects).await).await?;
    let figures = figures::measure(subjects, plan).await?;
    Ok(Results {
        plan,
        figures,
        opening: figures::opening(subjects)?,
        costs,
        instructions,
    })
}

type Counted = (BTreeMap<Kind, BTreeMap<Task, StoreCost>>, ByKindAndTask<u64>);

/// Makes sure that every answer is right; counts what does not depend on the machine's speed.
async fn count(world: &World, subjects: &[Subject]) -> Result<Counted> {
    let find = |kind, task| {
        let found = subjects
            .iter()
            .find(|subject| (subject.kind, subject.task) == (kind, task));
        found.with_context(|| format!("{} is missing", kind.name()))
    };
    let mut costs = BTreeMap::new();
    for kind in [Kind::Rust].into_iter().chain(Kind::PEERS) {
        say(&format!("answers: {}", kind.name()));
        let steps = [find(kind, Task::InitAuth)?, find(kind, Task::ValidateOtp)?];
        costs.insert(kind, rightness::check(world, steps).await?);
    }
    let mut instructions: ByKindAndTask<u64> = BTreeMap::new();
    for (kind, task) in [
        (Kind::Rust, Task::InitAuth),
        (Kind::Rust, Task::ValidateOtp),
        (Kind::Sealed, Task::ValidateOtp),
        (Kind::TwoCalls, Task::ValidateOtp),
    ] {
        say(&format!("instructions: {}, {task:?}", kind.name()));
        let counted = figures::instructions(world, find(kind, task)?).await?;
        instructions.insert((kind, task), counted);
    }
    Ok((costs, instructions))
}

/// What is going on, for whoever waits.
fn say(what: &str) {
    // Without a terminal there is no one to tell.
    let _ = writeln!(std::io::stderr(), "bench: {what}");
}

fn print(text: &str) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

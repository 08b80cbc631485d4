//! Runs a property: how many cases, and which seed, which is always printed.

use std::fmt::Debug;
use std::io::Write as _;
use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use shared::config::{Environment, Source as _};
use shared::random::{Random as _, SystemRandom};

/// Cases of each property, unless `PROPTEST_CASES` sets another number. A case is two requests, to two operations, or one
/// event.
pub(crate) const CASES: u32 = 5_000;

static SEED: LazyLock<Option<u64>> = LazyLock::new(|| match Environment.get("PROPTEST_RNG_SEED") {
    Some(given) => given.parse().ok(),
    None => SystemRandom
        .sixteen_bytes()
        .ok()
        .and_then(|bytes| bytes.first_chunk().copied())
        .map(u64::from_le_bytes),
});

/// Is in everything that is sent and must not be in anything that is returned. Depends on the seed.
pub(crate) static MARKER: LazyLock<String> = LazyLock::new(|| format!("zq{:016x}", SEED.unwrap_or_default()));

/// Prints a line past the test harness, which hides the output of a test that passes.
pub(crate) fn print_line(line: &str) -> Result<()> {
    Ok(writeln!(std::io::stderr(), "{line}")?)
}

/// Checks a property for generated cases, and returns how many there were.
pub(crate) fn check_property<S: Strategy>(
    property: &str,
    cases: &S,
    test: impl Fn(&tokio::runtime::Runtime, S::Value) -> Result<()>,
) -> Result<u32>
where
    S::Value: Debug,
{
    let seed = SEED.context("no seed")?;
    let count = match Environment.get("PROPTEST_CASES") {
        Some(given) => given.parse().context("PROPTEST_CASES is not a number")?,
        None => CASES,
    };
    let config = Config {
        cases: count,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    };
    print_line(&format!("{property}: {count} cases, PROPTEST_RNG_SEED={seed}"))?;
    let runtime = runtime()?;
    TestRunner::new(config)
        .run(cases, |case| {
            test(&runtime, case).map_err(|error| TestCaseError::fail(format!("{error:#}")))
        })
        .map_err(|error| anyhow::anyhow!("{property}, PROPTEST_RNG_SEED={seed}: {error}"))?;
    Ok(count)
}

/// A runtime whose time stands still while there is work, so that no request on a slow machine misses its deadline.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    Ok(runtime.enable_time().start_paused(true).build()?)
}

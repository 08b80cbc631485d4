use std::sync::OnceLock;

use anyhow::{Context as _, ensure};
use clap::Parser;

use super::*;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn options(arguments: &[&str]) -> Result<Options> {
    Ok(Arguments::try_parse_from([&["odds"], arguments].concat())?.options)
}

/// The report without options, simulated once for all tests.
fn report() -> Result<&'static Report> {
    static REPORT: OnceLock<Result<Report, String>> = OnceLock::new();
    REPORT
        .get_or_init(|| {
            let report = options(&[]).and_then(|options| simulate(&options));
            report.map_err(|error| format!("{error:#}"))
        })
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn preset(name: &str) -> Result<&'static Figures> {
    let figures = report()?.figures.iter().find(|figures| figures.name == name);
    figures.with_context(|| format!("no {name}"))
}

/// The presets, and policies from the ends of the ranges.
fn policies() -> Result<Vec<Policy>> {
    let mut policies = vec![Policy::standard(), Policy::strict()];
    for (burst, refill_hours, pair_gap_seconds) in [(6, 1_440, 60), (50, 1_440, 1), (6, 3, 1), (50, 3, 60)] {
        policies.push(Policy::custom(burst, refill_hours, pair_gap_seconds)?);
    }
    Ok(policies)
}

#[test]
fn a_year_of_guesses_pairs_included_is_worth_less_than_the_presets_promise() -> Result<()> {
    for (name, promise) in [("standard", 1e-3), ("strict", 1e-4)] {
        let figures = preset(name)?;
        for guesses in [figures.idle, figures.daily] {
            let odds = guesses.odds(6);
            assert!(odds < promise, "{name}: {odds}");
            assert!(guesses.single > 0 && guesses.pairs > 0, "{name}: {guesses:?}");
            assert!(guesses.odds(8) < odds / 90.0, "{name}");
        }
        assert!(figures.daily.odds(6) <= figures.policy.odds_of_a_year(), "{name}");
        assert!(figures.daily.odds(6) > 0.95 * figures.policy.odds_of_a_year(), "{name}");
    }
    Ok(())
}

#[test]
fn the_guesses_of_a_year_reach_the_bound_and_never_pass_it() -> Result<()> {
    let year = u64::from(HOURS);
    for policy in policies()? {
        let refill = policy.refill().as_secs() / 3_600;
        let single = u64::from(policy.burst()) + year / refill;
        let pairs = u64::from(Policy::PAIR_BURST) + year * 3_600 / policy.pair_gap().as_secs();
        let guesses = attacked(policy, Owner::FLAWLESS, 1)?.guesses();
        for (guessed, bound) in [(guesses.single, single), (pairs_of_a_year(policy, 2)?, pairs)] {
            assert!(guessed <= bound, "{policy:?}: {guessed} of {bound}");
            assert!(guessed * 100 >= bound * 95, "{policy:?}: {guessed} of {bound}");
        }
        // Nothing resets the count of consecutive failures.
        assert_eq!(
            single_guesses_on_idle(policy)?,
            single.min(u64::from(Policy::MOST_CONSECUTIVE)),
            "{policy:?}"
        );
    }
    Ok(())
}

#[test]
fn the_hours_of_a_flood_that_are_not_simulated_are_like_the_last_one_that_is() -> Result<()> {
    for policy in policies()? {
        assert_eq!(pairs_of_a_year(policy, 2)?, pairs_of_a_year(policy, 12)?, "{policy:?}");
    }
    Ok(())
}

#[test]
fn an_owner_under_attack_on_single_codes_signs_in_within_two_codes_every_day_of_the_year() -> Result<()> {
    for policy in policies()? {
        for seed in 1..=3 {
            let owner = attacked(policy, Owner::FLAWLESS, seed)?.sign_ins;
            assert_eq!(
                (owner.all, owner.within_two_codes, owner.late),
                (DAYS, DAYS, 0),
                "{policy:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn an_owner_under_attack_is_kept_out_by_a_lock_alone() -> Result<()> {
    for name in ["standard", "strict"] {
        let owner = preset(name)?.lock_alone.sign_ins;
        assert_eq!((owner.all, owner.within_two_codes), (DAYS, 0), "{name}");
    }
    Ok(())
}

#[test]
fn only_a_flood_of_pairs_that_is_kept_up_and_timed_keeps_an_owner_out() -> Result<()> {
    for name in ["standard", "strict"] {
        let [pairs_alone, untimed, _, timed] = preset(name)?.floods;
        assert_eq!(
            (pairs_alone.all, pairs_alone.within_two_codes, pairs_alone.told_to_wait),
            (DAYS, DAYS, 0),
            "{name}"
        );
        assert_eq!(
            (untimed.all, untimed.within_two_codes, untimed.late),
            (DAYS, DAYS, 0),
            "{name}"
        );
        assert_eq!((timed.all, timed.given_up), (DAYS, DAYS), "{name}");
    }
    Ok(())
}

#[test]
fn an_owner_whose_client_keeps_the_auth_id_is_hardly_ever_asked_for_two_codes() -> Result<()> {
    for name in ["standard", "strict"] {
        let [five, fifteen, ..] = preset(name)?.typists;
        for (typist, one_in) in [(five, 1_000), (fifteen, 200)] {
            assert!(
                typist.all > 50_000 && typist.longest > Duration::ZERO,
                "{name}: {typist:?}"
            );
            assert_eq!(typist.given_up, 0, "{name}: {typist:?}");
            assert!(typist.asked_for_two * one_in < typist.all, "{name}: {typist:?}");
        }
    }
    // The promise rests on the refund: without it, the simulation shows that the promise is broken.
    let [_, _, five, fifteen] = preset("strict")?.typists;
    assert!(five.asked_for_two * 2 > five.all && fifteen.asked_for_two > five.asked_for_two);
    Ok(())
}

#[test]
fn the_table_in_the_docs_is_what_the_command_prints() -> Result<()> {
    let printed = report()?.to_string();
    ensure!(
        include_str!("../../../docs/security.md").contains(&printed),
        "docs/security.md must contain the output of `cargo run -p odds`:\n{printed}"
    );
    Ok(())
}

#[test]
fn the_plot_in_the_docs_is_what_the_command_draws() -> Result<()> {
    ensure!(
        include_str!("../../../docs/odds.svg") == Plot(report()?).to_string(),
        "docs/odds.svg must be the output of `cargo run -p odds -- --svg`"
    );
    Ok(())
}

#[test]
fn a_policy_is_a_preset_or_a_custom_one_that_the_service_accepts() -> Result<()> {
    let read = |arguments: &[&str]| options(arguments)?.policies();
    let presets = [("standard", Policy::standard()), ("strict", Policy::strict())];
    assert_eq!(read(&[])?, presets);
    assert_eq!(read(&["--policy", "strict"])?, [("strict", Policy::strict())]);
    let numbers = |burst| ["--burst", burst, "--refill-hours", "480", "--pair-gap-seconds", "10"];
    assert_eq!(read(&numbers("10"))?, [("custom", Policy::strict())]);
    for refused in [
        &numbers("51")[..],
        &["--policy", "oops"],
        &["--policy", "custom"],
        &["--burst", "10"],
        &[
            "--policy",
            "strict",
            "--burst",
            "10",
            "--refill-hours",
            "480",
            "--pair-gap-seconds",
            "10",
        ],
    ] {
        assert!(read(refused).is_err(), "{refused:?}");
    }
    Ok(())
}

#[test]
fn numbers_are_written_for_people() {
    assert_eq!([8.846e-4, 3e-6, 0.012].map(odds), ["8.8·10⁻⁴", "3.0·10⁻⁶", "1.2·10⁻²"]);
    assert_eq!(
        [1, 999, 1_000, 31_536_009].map(thousands),
        ["1", "999", "1,000", "31,536,009"]
    );
}

#[test]
fn the_probability_of_many_guesses_is_that_of_at_least_one_right_one() {
    let near = |guesses: Guesses, expected: f64| {
        let odds = guesses.odds(6);
        assert!((odds / expected - 1.0).abs() < 1e-6, "{odds} is not {expected}");
    };
    near(Guesses { single: 1, pairs: 0 }, 3e-6);
    near(Guesses { single: 0, pairs: 1 }, 3e-12);
    // 1 − (1 − 3·10⁻⁶)^1,000,000 = 1 − e⁻³, nearly.
    near(
        Guesses {
            single: 1_000_000,
            pairs: 0,
        },
        0.950_213_155_6,
    );
}

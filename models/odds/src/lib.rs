//! What guessing is worth, and what it costs an owner: a year at a time, simulated with the service's own decision.
//!
//! Only the core of `shared` is used: no store, no HTTP, no clock. The table is `docs/security.md`'s: the same options
//! print the same bytes, and so is its plot. Guesses that were evaluated are counted; no code is ever right by chance here.

mod plot;
mod simulation;

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use shared::policy::Policy;

pub use plot::Plot;
use simulation::{DAY, Flood, Owner, START, SignIn, Simulation};

const DAYS: u32 = 365;
const HOURS: u32 = DAYS * 24;
const HOUR: Duration = Duration::from_hours(1);
const INSTANT: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_mins(2);
/// How much of a flood precedes a sign-in: in n gaps, an untimed one strays by √n slots, and there are ten.
const LEAD_IN_GAPS: u32 = 100;
/// Errors in a hundred codes, and whether the client keeps its authId.
const TYPISTS: [(u32, bool); 4] = [(5, true), (15, true), (5, false), (15, false)];

/// A policy that the service has by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// The default of the service.
    Standard,
    /// Fewer guesses, longer waits.
    Strict,
}

impl Preset {
    fn named(self) -> (&'static str, Policy) {
        match self {
            Self::Standard => ("standard", Policy::standard()),
            Self::Strict => ("strict", Policy::strict()),
        }
    }
}

/// What is simulated.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Simulate one preset instead of both.
    #[arg(long, conflicts_with_all = ["burst", "refill_hours", "pair_gap_seconds"])]
    policy: Option<Preset>,
    /// Simulate a custom policy: wrong single codes that may come at once, 6–50.
    #[arg(long, value_name = "N", requires_all = ["refill_hours", "pair_gap_seconds"])]
    burst: Option<u32>,
    /// Allow one more wrong single code after this many hours, 1–1440.
    #[arg(long, value_name = "N", requires = "burst")]
    refill_hours: Option<u32>,
    /// Allow one more wrong pair after this many seconds, 1–60.
    #[arg(long, value_name = "N", requires = "burst")]
    pair_gap_seconds: Option<u32>,
    /// Let the owner with typing errors sign in this often a day.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    sign_ins_per_day: u32,
    /// Simulate this many years of each owner with typing errors, one after the other on one device; more take longer.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    owner_years: u32,
    /// Simulate this many hours of the flood of pairs pair by pair; the last one stands for the rest of the year. 8760 is
    /// the whole year: 31.5 million decisions with `standard`, a minute more.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=i64::from(HOURS)))]
    pair_hours: u32,
    /// Seed the pseudo-random generator.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Options {
    fn policies(&self) -> Result<Vec<(&'static str, Policy)>> {
        if let (Some(burst), Some(refill_hours), Some(pair_gap_seconds)) =
            (self.burst, self.refill_hours, self.pair_gap_seconds)
        {
            return Ok(vec![("custom", Policy::custom(burst, refill_hours, pair_gap_seconds)?)]);
        }
        Ok(match self.policy {
            Some(preset) => vec![preset.named()],
            None => vec![Preset::Standard.named(), Preset::Strict.named()],
        })
    }
}

/// The guesses of an attacker that were evaluated in a year.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Guesses {
    single: u64,
    pairs: u64,
}

impl Guesses {
    /// The probability that at least one was right: three codes of all, and three pairs of all, are right at any time.
    #[expect(clippy::cast_precision_loss, reason = "far fewer guesses than 2⁵³")]
    fn odds(self, digits: i32) -> f64 {
        let all_wrong = |guesses: u64, right: f64| guesses as f64 * (-right).ln_1p();
        let codes = 10_f64.powi(digits);
        let wrong = all_wrong(self.single, 3.0 / codes) + all_wrong(self.pairs, 3.0 / (codes * codes));
        -wrong.exp_m1()
    }
}

/// Outcomes of sign-ins, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SignIns {
    all: u32,
    within_two_codes: u32,
    asked_for_two: u32,
    told_to_wait: u32,
    late: u32,
    given_up: u32,
    longest: Duration,
}

impl SignIns {
    fn add(&mut self, sign_in: SignIn) {
        let waited = sign_in.waited;
        self.all += 1;
        self.within_two_codes += u32::from(waited.is_some() && sign_in.codes <= 2);
        self.asked_for_two += u32::from(sign_in.asked_for_two);
        self.told_to_wait += u32::from(sign_in.told_to_wait);
        self.late += u32::from(waited.is_none_or(|waited| waited > LATE));
        self.given_up += u32::from(waited.is_none());
        self.longest = self.longest.max(waited.unwrap_or_default());
    }
}

/// A year of an attacker on single codes, and of the owner's sign-ins, one a day.
#[derive(Debug, Clone, Default)]
struct Year {
    /// Guesses until the end of each day's sign-in, and of the year.
    guesses_by_day: Vec<u64>,
    sign_ins: SignIns,
}

impl Year {
    fn guesses(&self) -> Guesses {
        Guesses {
            single: self.guesses_by_day.last().copied().unwrap_or_default(),
            pairs: 0,
        }
    }
}

/// The figures of one policy.
#[derive(Debug, Clone)]
struct Figures {
    name: &'static str,
    policy: Policy,
    idle: Guesses,
    daily: Guesses,
    attacked: Year,
    lock_alone: Year,
    floods: [SignIns; 4],
    typists: [SignIns; 4],
}

impl Figures {
    fn simulate(name: &'static str, policy: Policy, options: &Options) -> Result<Self> {
        let pairs = pairs_of_a_year(policy, options.pair_hours)?;
        let attacked_owner = attacked(policy, Owner::FLAWLESS, options.seed)?;
        let without_pairs = Owner {
            sends_pairs: false,
            // All day.
            patience: DAY,
            ..Owner::FLAWLESS
        };
        let mut floods = [SignIns::default(); 4];
        for (sign_ins, (flood, single_codes_too)) in floods.iter_mut().zip([
            (Flood::Timed, false),
            (Flood::Untimed(1), true),
            (Flood::Untimed(10), true),
            (Flood::Timed, true),
        ]) {
            *sign_ins = flooded(policy, flood, single_codes_too, options.seed)?;
        }
        let mut typists = [SignIns::default(); 4];
        for (sign_ins, (errors_percent, keeps_auth_id)) in typists.iter_mut().zip(TYPISTS) {
            let owner = Owner {
                errors_percent,
                keeps_auth_id,
                ..Owner::FLAWLESS
            };
            *sign_ins = alone(policy, owner, options)?;
        }
        Ok(Self {
            name,
            policy,
            idle: Guesses {
                single: single_guesses_on_idle(policy)?,
                pairs,
            },
            daily: Guesses {
                pairs,
                ..attacked_owner.guesses()
            },
            attacked: attacked_owner,
            lock_alone: attacked(policy, without_pairs, options.seed)?,
            floods,
            typists,
        })
    }
}

/// An attacker on single codes, and an owner who never signs in.
fn single_guesses_on_idle(policy: Policy) -> Result<u64> {
    let mut simulation = Simulation::new(policy, 0)?.under_attack();
    simulation.pass_until(START.plus(DAY * DAYS).minus(INSTANT))?;
    Ok(simulation.single_guesses)
}

/// An attacker on single codes, and an owner who signs in once a day.
fn attacked(policy: Policy, owner: Owner, seed: u64) -> Result<Year> {
    let mut simulation = Simulation::new(policy, seed)?.under_attack();
    let mut year = Year::default();
    for day in 0..DAYS {
        for at in simulation.sign_in_times(day, 1) {
            year.sign_ins.add(simulation.sign_in(owner, at)?);
        }
        year.guesses_by_day.push(simulation.single_guesses);
    }
    simulation.pass_until(START.plus(DAY * DAYS).minus(INSTANT))?;
    year.guesses_by_day.push(simulation.single_guesses);
    Ok(year)
}

/// Pairs that are evaluated if one comes at every opening.
///
/// A wrong pair changes nothing but the rate and a count, so from the second hour on every hour is like the one before.
/// That is the only reason why fewer hours than a year are simulated.
fn pairs_of_a_year(policy: Policy, hours: u32) -> Result<u64> {
    let mut simulation = Simulation::new(policy, 0)?;
    simulation.flood(Flood::Timed, START)?;
    let mut before = 0;
    for hour in 1..=hours {
        before = simulation.pair_guesses;
        simulation.pass_until(START.plus(HOUR * hour).minus(INSTANT))?;
    }
    let last_hour = simulation.pair_guesses - before;
    Ok(simulation.pair_guesses + last_hour * u64::from(HOURS - hours))
}

/// An owner who signs in once a day under a flood of pairs.
///
/// The flood lasts from [`LEAD_IN_GAPS`] before a sign-in until its end: its effect is gone after ten gaps.
/// The attacker on single codes never pauses.
fn flooded(policy: Policy, flood: Flood, single_codes_too: bool, seed: u64) -> Result<SignIns> {
    let simulation = Simulation::new(policy, seed)?;
    let mut simulation = if single_codes_too {
        simulation.under_attack()
    } else {
        simulation
    };
    let mut sign_ins = SignIns::default();
    for day in 0..DAYS {
        for at in simulation.sign_in_times(day, 1) {
            simulation.flood(flood, at.minus(policy.pair_gap() * LEAD_IN_GAPS))?;
            sign_ins.add(simulation.sign_in(Owner::FLAWLESS, at)?);
            simulation.drain();
        }
    }
    Ok(sign_ins)
}

/// An owner with typing errors, and no attacker. All years are on one device, so that none begins with a fresh budget.
fn alone(policy: Policy, owner: Owner, options: &Options) -> Result<SignIns> {
    let mut simulation = Simulation::new(policy, options.seed)?;
    let mut sign_ins = SignIns::default();
    for day in 0..DAYS * options.owner_years {
        for at in simulation.sign_in_times(day, options.sign_ins_per_day) {
            sign_ins.add(simulation.sign_in(owner, at)?);
        }
    }
    Ok(sign_ins)
}

/// The figures of one or more policies. Its `Display` is a Markdown table, [`Plot`] an image.
#[derive(Debug, Clone)]
pub struct Report {
    options: Options,
    figures: Vec<Figures>,
}

/// Simulates all policies that the options ask for.
///
/// # Errors
/// If the custom policy is invalid, or an attempt gets an answer that the protocol does not have.
pub fn simulate(options: &Options) -> Result<Report> {
    let figures = options
        .policies()?
        .into_iter()
        .map(|(name, policy)| Figures::simulate(name, policy, options))
        .collect::<Result<_>>()?;
    Ok(Report {
        options: options.clone(),
        figures,
    })
}

impl Report {
    fn heading(&self, f: &mut fmt::Formatter<'_>, what: &str) -> fmt::Result {
        self.row(f, &format!("**{what}**"), |_| String::new())
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, what: &str, cell: impl Fn(&Figures) -> String) -> fmt::Result {
        write!(f, "| {what} |")?;
        for figures in &self.figures {
            write!(f, " {} |", cell(figures))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worth = |guesses: Guesses| {
            format!(
                "{}: {}",
                thousands(guesses.single + guesses.pairs),
                odds(guesses.odds(6))
            )
        };
        let singles = |guesses: Guesses| Guesses { pairs: 0, ..guesses };
        let pairs = |guesses: Guesses| Guesses { single: 0, ..guesses };

        self.row(f, "policy", |figures| format!("`{}`", figures.name))?;
        writeln!(f, "|---|{}", "---|".repeat(self.figures.len()))?;
        self.row(f, "BURST, REFILL, PAIR_GAP", |Figures { policy, .. }| {
            let hours = policy.refill().as_secs() / 3_600;
            format!("{}, {hours} h, {} s", policy.burst(), policy.pair_gap().as_secs())
        })?;

        self.heading(
            f,
            "The attacker's year: guesses evaluated, and the probability that at least one is right",
        )?;
        self.row(f, "single codes, the owner does nothing", |figures| {
            worth(singles(figures.idle))
        })?;
        self.row(f, "single codes, the owner signs in once a day", |figures| {
            worth(singles(figures.daily))
        })?;
        self.row(f, "pairs", |figures| worth(pairs(figures.daily)))?;
        self.row(f, "both, the owner does nothing", |figures| odds(figures.idle.odds(6)))?;
        self.row(f, "both, the owner signs in once a day", |figures| {
            odds(figures.daily.odds(6))
        })?;
        self.row(f, "the same by the formula", |figures| {
            odds(figures.policy.odds_of_a_year())
        })?;
        self.row(f, "the same with 8 digits", |figures| odds(figures.daily.odds(8)))?;

        self.heading(f, "Under that attack on single codes, an owner signs in once a day")?;
        self.row(f, "signed in within two codes", |figures| {
            days(figures.attacked.sign_ins.within_two_codes, figures.attacked.sign_ins)
        })?;
        self.row(f, "later than 2 min", |figures| {
            days(figures.attacked.sign_ins.late, figures.attacked.sign_ins)
        })?;
        self.row(f, "longest wait", |figures| {
            format!("{} s", figures.attacked.sign_ins.longest.as_secs_f64().ceil())
        })?;
        self.row(f, "a lock alone, without pairs: not signed in all day", |figures| {
            let owner = figures.lock_alone.sign_ins;
            days(owner.given_up, owner)
        })?;
        self.row(f, "– and the attacker's year", |figures| {
            worth(figures.lock_alone.guesses())
        })?;

        let units = "told to wait / later than 2 min / not signed in after 10 min";
        self.heading(
            f,
            &format!("Under a flood of pairs, an owner signs in once a day: {units}"),
        )?;
        for (index, what) in [
            "a pair at every opening, single codes left alone",
            "single codes, and one pair a PAIR_GAP, untimed",
            "single codes, and ten pairs a PAIR_GAP, untimed",
            "single codes, and a pair at every opening",
        ]
        .into_iter()
        .enumerate()
        {
            self.row(f, what, |figures| {
                figures.floods.get(index).map(hindered).unwrap_or_default()
            })?;
        }

        self.heading(
            f,
            "Without an attacker, an owner mistypes codes: sign-ins that were asked for two codes",
        )?;
        for (index, (errors, keeps)) in TYPISTS.into_iter().enumerate() {
            let client = if keeps {
                "keeps the authId"
            } else {
                "starts again at step 2"
            };
            let what = format!("{errors} % mistyped, after a 422 the client {client}");
            self.row(f, &what, |figures| {
                figures.typists.get(index).map(asked_for_two).unwrap_or_default()
            })?;
        }

        let Options {
            sign_ins_per_day,
            owner_years,
            seed,
            ..
        } = self.options;
        writeln!(
            f,
            "\nThe formula, for 6 digits: `3·10⁻⁶·(BURST + 8760 h/REFILL) + 3·10⁻¹²·(10 + 1 year/PAIR_GAP)`.\n\n\
             {DAYS} days; 6 digits unless it says otherwise; the attacker is first at every opening. Owners who mistype: \
             {sign_ins_per_day} sign-ins a day, {owner_years} years. Seed {seed}."
        )
    }
}

fn days(some: u32, sign_ins: SignIns) -> String {
    format!("{some} of {}", sign_ins.all)
}

fn hindered(sign_ins: &SignIns) -> String {
    let SignIns {
        all,
        told_to_wait,
        late,
        given_up,
        ..
    } = sign_ins;
    format!("{told_to_wait} / {late} / {given_up} of {all}")
}

fn asked_for_two(sign_ins: &SignIns) -> String {
    let (some, all) = (sign_ins.asked_for_two, sign_ins.all);
    let percent = 100.0 * f64::from(some) / f64::from(all);
    format!(
        "{percent:.3} % ({} of {})",
        thousands(some.into()),
        thousands(all.into())
    )
}

/// With two digits: `8.8·10⁻⁴`.
fn odds(probability: f64) -> String {
    let scientific = format!("{probability:.1e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let raised: String = exponent
        .chars()
        .map(|c| {
            c.to_digit(10)
                .and_then(|digit| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(digit as usize))
                .unwrap_or('⁻')
        })
        .collect();
    format!("{mantissa}·10{raised}")
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let first = (digits.len() - 1) % 3 + 1;
    let (head, tail) = digits.split_at(first);
    let groups = tail.as_bytes().chunks(3).map(String::from_utf8_lossy);
    groups.fold(head.to_owned(), |text, group| text + "," + &group)
}

#[cfg(test)]
mod tests;

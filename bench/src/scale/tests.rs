//! What must hold whatever the numbers are, and the numbers that can be calculated by hand.

use super::*;

const OPERATIONS: &str = include_str!("../../../docs/operations.md");
const TEMPLATE: &str = include_str!("../../../template.yaml");
const SEEDS: &str = include_str!("../../../shared/src/aws/seeds.rs");
const SDK: &str = include_str!("../../../shared/src/aws/sdk.rs");

const UNLIMITED: Quotas = Quotas {
    tokens: 1e9,
    method: 1e9,
    method_burst: 1e9,
    account: 1e9,
    account_burst: 1e9,
    executions: 1e9,
    warm_writes: 1e9,
    warm_reads: 1e9,
    table: 1e9,
    secret_reads: 1e9,
};

fn nearly(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= expected * tolerance
}

#[test]
fn every_authentication_is_served_or_refused_by_a_limit() {
    let slow = Quotas {
        method: 1e9,
        method_burst: 1e9,
        ..Quotas::DEFAULT
    };
    for quotas in [Quotas::DEFAULT, Quotas::NEW_ACCOUNT, slow] {
        for rate in RATES {
            let report = run(&quotas, step(rate));
            let ended = report.served + report.refused.values().sum::<f64>();
            assert!(nearly(ended, report.arrived, 1e-9), "{report:?}");
            assert!(nearly(report.arrived, rate * 60.0, 0.1), "{}", report.arrived);
        }
    }
}

#[test]
fn a_throttle_lets_through_its_burst_and_its_rate_and_no_more() {
    let most = Quotas::DEFAULT.method_burst + Quotas::DEFAULT.method * 60.1;
    let served = run(&Quotas::DEFAULT, step(1_000.0)).served;
    assert!(served <= most && nearly(served, most, 0.01), "{served} of {most}");
}

/// Only the quota that a limit is named for.
fn only(limit: Limit) -> Quotas {
    let [default, mut quotas] = [Quotas::DEFAULT, UNLIMITED];
    match limit {
        Limit::Tokens => quotas.tokens = default.tokens,
        Limit::Method => (quotas.method, quotas.method_burst) = (default.method, default.method_burst),
        Limit::Account => (quotas.account, quotas.account_burst) = (default.account, default.account_burst),
        Limit::Requests | Limit::Executions => quotas.executions = default.executions,
        Limit::Scaling => {}
        Limit::WarmTable => (quotas.warm_writes, quotas.warm_reads) = (default.warm_writes, default.warm_reads),
        Limit::Table => quotas.table = default.table,
        Limit::SecretReads => quotas.secret_reads = default.secret_reads,
    }
    quotas
}

#[test]
fn each_limit_alone_begins_where_arithmetic_says() {
    for (limit, ceiling) in ceilings(&Quotas::DEFAULT) {
        if limit == Limit::Scaling {
            continue; // It has a test of its own: it grows.
        }
        let load = |part: f64| Load {
            rate: ceiling * part,
            ramp: 60.0,
            seconds: 100.0,
            devices: 1e12,
            token_each: limit == Limit::Tokens,
            ..step(0.0)
        };
        let below = run(&only(limit), load(0.9));
        assert!(below.refused_share() < NEGLIGIBLE, "{limit:?}: {:?}", below.refused);
        let above = run(&only(limit), load(1.05));
        assert_eq!(above.worst(), Some(limit));
        let served = above.per_second[90..].iter().sum::<f64>() / 10.0;
        assert!(nearly(served, ceiling, 0.06), "{limit:?}: {served} of {ceiling}");
    }
}

#[test]
fn lambda_grows_by_ten_thousand_requests_at_once_and_a_thousand_a_second() {
    let load = Load {
        seeds: SeedStorage::Sealed,
        ..step(50_000.0)
    };
    let report = run(&UNLIMITED, load);
    assert_eq!(report.refused.keys().collect::<Vec<_>>(), [&Limit::Scaling]);
    // Who is answered at 30 s began at 20 s.
    for second in [20, 30] {
        let started = 10_000.0 + 1_000.0 * f64::from(second - 10);
        let served = report.per_second[usize::try_from(second).expect("a second")];
        assert!(nearly(served, started, 0.07), "{served} of {started}");
    }
    let slower = Load {
        ramp: 63.0,
        seconds: 123.0,
        ..load
    };
    assert!(run(&UNLIMITED, slower).refused_share() < NEGLIGIBLE);
}

#[test]
fn the_first_limit_is_the_lowest() {
    for (quotas, rates) in [
        (Quotas::DEFAULT, [10.0, 1_000.0, 50_000.0]),
        (Quotas::NEW_ACCOUNT, [10.0, 20.0, 90.0]),
    ] {
        for rate in rates {
            let within = ceilings(&quotas)
                .into_iter()
                .filter(|(limit, ceiling)| *limit != Limit::Tokens && *ceiling < rate);
            let lowest = within
                .min_by(|one, other| one.1.total_cmp(&other.1))
                .map(|(limit, _)| limit);
            let (broken, _, _) = broken_in_order(quotas, step(rate)).expect("an end");
            assert_eq!(broken.first().map(|first| first.limit), lowest, "{rate}");
        }
    }
    let (broken, _, _) = broken_in_order(
        Quotas::DEFAULT,
        Load {
            token_each: true,
            ..step(1_000.0)
        },
    )
    .expect("an end");
    let limits: Vec<_> = broken.iter().map(|broken| broken.limit).collect();
    assert_eq!(limits, [Limit::Tokens, Limit::Method]);
}

#[test]
fn raising_the_limit_that_refuses_most_never_lowers_what_is_served() {
    for rate in [300.0, 6_000.0, 50_000.0] {
        let (broken, _, _) = broken_in_order(Quotas::DEFAULT, step(rate)).expect("an end");
        for pair in broken.windows(2) {
            assert!(pair[1].share <= pair[0].share + NEGLIGIBLE, "{pair:?}");
        }
    }
}

#[test]
fn raising_for_a_small_load_lowers_no_quota() {
    let (mut quotas, mut load) = (Quotas::DEFAULT, step(1.0));
    for (limit, _) in ceilings(&Quotas::DEFAULT) {
        raise(limit, &mut quotas, &mut load);
    }
    let written = |quotas: &Quotas| format!("{quotas:?}");
    assert!(
        written(&quotas).contains("warm_writes: 40000.0"),
        "the tables were warmed: {quotas:?}"
    );
    quotas.warm_writes = Quotas::DEFAULT.warm_writes;
    quotas.warm_reads = Quotas::DEFAULT.warm_reads;
    assert_eq!(written(&quotas), written(&Quotas::DEFAULT));
}

#[test]
fn seeds_are_found_in_memory_as_often_as_their_time_and_the_environments_allow() {
    let load = Load {
        devices: 1_000.0,
        ramp: 300.0,
        seconds: 1_200.0,
        ..step(20.0)
    };
    let report = run(&UNLIMITED, load);
    // A seed stays for a time from when it was read, so a device reads it once in that time and in its own interval.
    let again = load.rate / load.devices * CACHE_SECONDS / report.environments;
    let (found, expected) = (report.hit_share(), again / (1.0 + again));
    assert!(
        nearly(found, expected, 0.05),
        "{found}, {expected}, {}",
        report.environments
    );

    let sealed = Load {
        seeds: SeedStorage::Sealed,
        ..load
    };
    assert!(nearly(run(&UNLIMITED, sealed).hit_share(), 1.0, 1e-9));
}

#[test]
fn a_load_has_the_same_outcome_every_time() {
    let report = || format!("{:?}", run(&Quotas::DEFAULT, step(1_000.0)));
    assert_eq!(report(), report());
}

#[test]
fn costs_are_those_of_the_operators_document() {
    let row = |name: &str, amount: f64| {
        let starts = format!("| {name} |");
        let mut rows = OPERATIONS.lines().rev().filter(|line| line.starts_with(&starts));
        rows.next()
            .is_some_and(|line| line.ends_with(&format!("| {amount:.2} |")))
    };
    for (name, amount) in cost::PER_MILLION {
        assert!(row(name, amount), "{name}: {amount}");
    }
    let total: f64 = cost::PER_MILLION.iter().map(|(_, amount)| amount).sum();
    assert!(OPERATIONS.contains(&format!("| | | **{total:.2}** |")));
    for devices in [1e3, 1e5, 1e7] {
        let row = cost_row(devices);
        assert!(OPERATIONS.contains(&row), "{row}");
    }
}

#[test]
fn the_model_has_the_settings_of_template_and_code() {
    let default = |parameter: &str| -> f64 {
        let (_, rest) = TEMPLATE.split_once(&format!("\n  {parameter}:\n")).expect(parameter);
        let (_, rest) = rest.split_once("Default: ").expect(parameter);
        rest.lines()
            .next()
            .and_then(|number| number.parse().ok())
            .expect(parameter)
    };
    let of_template = ["RequestsPerSecond", "RequestBurst", "SeedCacheSeconds"].map(default);
    let [rate, burst, seconds] = of_template;
    assert!(nearly(rate, Quotas::DEFAULT.method, 0.0) && nearly(burst, Quotas::DEFAULT.method_burst, 0.0));
    assert!(nearly(seconds, CACHE_SECONDS, 0.0));
    assert!(SEEDS.contains("const MOST_CACHED: usize = 1_000;"));
    assert!(SDK.contains("const FIRST_BACKOFF: Duration = Duration::from_millis(25);\nconst TRIES: u32 = 3;"));
}

#[test]
fn numbers_are_written_as_people_read_them() {
    let written = [0.5, 999.0, 40_000.0, 2_200_000.0, 2.2e9].map(count);
    assert_eq!(written, ["0.5", "999", "40,000", "2.2 M", "2,200 M"]);
    assert_eq!(
        [0.0, 0.001, 0.5, 500.0].map(percent),
        ["0.0 %", "0.1 %", "50 %", "50,000 %"]
    );
    let rounded = [50.0, 62_500.0, 1_250.0].map(|number| count(rounded_up(number)));
    assert_eq!(rounded, ["50", "63,000", "1,300"]);
}

//! What the service meets when it grows, simulated: which quota ends first, what to set, what it costs. It writes
//! docs/scale.md and its plots, the same with every run.

mod cost;
mod model;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write as _};
use std::path::Path;

use anyhow::{Result, ensure};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use shared::sealed::SeedStorage;

use crate::report::replace;
use crate::subjects::WORKSPACE;
use cost::{SIGN_INS, month};
use model::{
    CACHE_SECONDS, Limit, Load, NEW_AT_ONCE, NEW_PER_SECOND, Quotas, REQUESTS_PER_EXECUTION, SECONDS_AT_START, run,
};

/// Authentications a second.
const RATES: [f64; 3] = [10.0, 1_000.0, 50_000.0];
const DEVICES: [f64; 6] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8];
/// A share below which nothing counts as refused.
const NEGLIGIBLE: f64 = 0.001;

/// Simulates, and writes docs/scale.md and its plots.
pub(crate) fn write() -> Result<()> {
    let mut text = String::new();
    first_limits(&mut text)?;
    costs(&mut text)?;
    seeds_in_memory(&mut text)?;
    ceilings_table(&mut text)?;
    replace("docs/scale.md", " -- scale", text.trim_end())?;
    plot_refused()?;
    plot_burst()?;
    plot_costs()
}

/// From zero to a rate at once, for a minute, by so many devices that seeds are not in memory.
const fn step(rate: f64) -> Load {
    Load {
        rate,
        ramp: 0.0,
        seconds: 60.0,
        devices: cost::MOST_SECRETS,
        seeds: SeedStorage::Secrets,
        token_each: false,
    }
}

/// A quota, the share that it refused, and what was set because of it.
#[derive(Debug)]
struct Broken {
    limit: Limit,
    share: f64,
    set: String,
}

/// Raises what refuses most until nothing does.
fn broken_in_order(mut quotas: Quotas, mut load: Load) -> Result<(Vec<Broken>, Quotas, Load)> {
    let mut broken: Vec<Broken> = Vec::new();
    loop {
        let report = run(&quotas, load);
        let share = report.refused_share();
        match report.worst() {
            Some(limit) if share > NEGLIGIBLE => {
                let raised = broken.iter().any(|before| before.limit == limit);
                ensure!(
                    !raised,
                    "{limit:?} still refuses {share} of {load:?} after it was raised: {quotas:?}"
                );
                let set = raise(limit, &mut quotas, &mut load);
                broken.push(Broken { limit, share, set });
            }
            _ => return Ok((broken, quotas, load)),
        }
    }
}

/// Raises one limit to a quarter more than the load needs, never lowers one, and says how.
fn raise(limit: Limit, quotas: &mut Quotas, load: &mut Load) -> String {
    let needed = |units: f64| rounded_up(1.25 * units);
    match limit {
        Limit::Tokens => {
            load.token_each = false;
            "applications keep their token".to_owned()
        }
        Limit::Method => {
            quotas.method = needed(load.rate).max(quotas.method);
            quotas.method_burst = quotas.method.min(5_000.0).max(quotas.method_burst);
            let [rate, burst] = [quotas.method, quotas.method_burst].map(count);
            let largest = if quotas.method > 10_000.0 {
                "; first raise its `MaxValue` in `template.yaml`"
            } else {
                ""
            };
            format!("`RequestsPerSecond` {rate}, `RequestBurst` {burst}{largest}")
        }
        Limit::Account => {
            quotas.account = needed(2.0 * load.rate).max(quotas.account);
            quotas.account_burst = quotas.account / 2.0;
            format!("API Gateway, throttle rate of the account: {}", count(quotas.account))
        }
        Limit::Requests | Limit::Executions => {
            quotas.executions =
                needed(load.rate * SECONDS_AT_START.max(2.0 / REQUESTS_PER_EXECUTION)).max(Quotas::DEFAULT.executions);
            format!("Lambda, concurrent executions: {}", count(quotas.executions))
        }
        Limit::Scaling => {
            load.ramp = needed(load.rate / REQUESTS_PER_EXECUTION / NEW_PER_SECOND);
            load.seconds += load.ramp;
            format!("fixed: let the load grow over {} s or more", count(load.ramp))
        }
        Limit::WarmTable => {
            quotas.warm_writes = needed(load.rate).max(quotas.warm_writes);
            quotas.warm_reads = quotas.warm_writes.max(quotas.warm_reads);
            let [reads, writes] = [quotas.warm_reads, quotas.warm_writes].map(|units| count(units.min(quotas.table)));
            format!("warm throughput of both tables: {reads} reads, {writes} writes")
        }
        Limit::Table => {
            quotas.table = needed(load.rate).max(quotas.table);
            quotas.warm_reads = quotas.table;
            quotas.warm_writes = quotas.table;
            let units = count(quotas.table);
            format!("DynamoDB, table-level read and write throughput: {units}, and warm both tables to it")
        }
        Limit::SecretReads => {
            load.seeds = SeedStorage::Sealed;
            "fixed: `SeedStorage` `sealed`, and `mfactl seeds move --to sealed`".to_owned()
        }
    }
}

/// What a limit is called, and what is seen when it refuses.
const fn description(limit: Limit) -> (&'static str, &'static str) {
    const GATEWAY: &str = "429 `TOO_MANY_REQUESTS`; `THROTTLED` in the access log; alarm Throttles";
    const LAMBDA: &str = "503 from the gateway; no line of a function; alarm Throttles";
    const TABLE: &str = "503 after three tries, `store_unavailable`; alarm Failures";
    const SECRETS: &str = "503 after three tries, `seed_unavailable`; alarms Seed failures and Failures";
    match limit {
        Limit::Tokens => (
            "Cognito's token endpoint, if every authentication gets a token",
            "429 from the token endpoint",
        ),
        Limit::Method => ("the stack's throttle of each method", GATEWAY),
        Limit::Account => ("the gateway's throttle of the account", GATEWAY),
        Limit::Requests => (
            "Lambda, ten requests a second for each concurrent execution of the quota",
            LAMBDA,
        ),
        Limit::Executions => ("Lambda, concurrent executions", LAMBDA),
        Limit::Scaling => ("Lambda, new environments of one function", LAMBDA),
        Limit::WarmTable => ("DynamoDB, what a table has warm", TABLE),
        Limit::Table => ("DynamoDB, throughput of a table", TABLE),
        Limit::SecretReads => ("Secrets Manager, reads", SECRETS),
    }
}

fn first_limits(text: &mut String) -> Result<()> {
    writeln!(
        text,
        "## What breaks first\n\nFrom no traffic to the rate at once, a secret for each device, everything as deployed. Below each limit is the \
         one that comes next when it is raised.\n\n\
         | authentications a second | limit | refused | what is seen | what to set or request |\n|---|---|---|---|---|"
    )?;
    for (account, quotas, rates) in [
        ("", Quotas::DEFAULT, RATES.as_slice()),
        (", new account", Quotas::NEW_ACCOUNT, &[10.0, 100.0]),
    ] {
        for rate in rates.iter().copied() {
            let (broken, _, _) = broken_in_order(quotas, step(rate))?;
            let mut label = format!("**{}**{account}", count(rate));
            for Broken { limit, share, set } in &broken {
                let ((name, symptom), share) = (description(*limit), percent(*share));
                writeln!(text, "| {label} | {name} | {share} | {symptom} | {set} |")?;
                label.clear();
            }
            writeln!(text, "| {label} | none | – | everything is served | – |")?;
        }
    }
    Ok(writeln!(
        text,
        "\n![Share of authentications that are refused](scale-refused.svg)\n"
    )?)
}

/// Authentications a second that each limit alone allows; of new environments, those of the first second.
fn ceilings(quotas: &Quotas) -> [(Limit, f64); 8] {
    [
        (Limit::Method, quotas.method),
        (Limit::Tokens, quotas.tokens),
        (Limit::WarmTable, quotas.warm_writes.min(quotas.warm_reads)),
        (Limit::Account, quotas.account / 2.0),
        (Limit::Requests, quotas.executions * REQUESTS_PER_EXECUTION / 2.0),
        (Limit::Scaling, NEW_AT_ONCE * REQUESTS_PER_EXECUTION),
        (Limit::SecretReads, quotas.secret_reads),
        (Limit::Table, quotas.table),
    ]
}

fn ceilings_table(text: &mut String) -> fmt::Result {
    let columns = RATES.map(|rate| format!(" used at {} |", count(rate))).concat();
    writeln!(
        text,
        "## Each limit alone\n\n| limit | authentications a second, by default |{columns}\n|---|---|{}",
        "---|".repeat(RATES.len())
    )?;
    for (limit, ceiling) in ceilings(&Quotas::DEFAULT) {
        let used = RATES.map(|rate| format!(" {} |", percent(rate / ceiling))).concat();
        writeln!(text, "| {} | {} |{used}", description(limit).0, count(ceiling))?;
    }
    writeln!(
        text,
        "\nIn a new account with ten concurrent executions, Lambda's requests end at {}.\n\n\
         ![Authentications served in each second after a start from zero](scale-burst.svg)",
        count(Quotas::NEW_ACCOUNT.executions * REQUESTS_PER_EXECUTION / 2.0)
    )
}

fn costs(text: &mut String) -> fmt::Result {
    writeln!(
        text,
        "## What it costs\n\nUS dollars a month, secrets + authentications, with {SIGN_INS} authentications for each device and without \
         tokens; the prices are those of [operations.md](operations.md#costs).\n\n\
         | devices | authentications | a secret each | sealed |\n|---|---|---|---|"
    )?;
    for devices in DEVICES {
        writeln!(text, "{}", cost_row(devices))?;
    }
    writeln!(text, "\n![Cost a month](scale-cost.svg)\n")
}

fn cost_row(devices: f64) -> String {
    let cell = |seeds| {
        month(devices, seeds).map_or_else(
            || format!("not possible: {} secrets a region", count(cost::MOST_SECRETS)),
            |month| {
                let rounded = if month.authentications < 10.0 {
                    format!("{:.2}", month.authentications)
                } else {
                    count(month.authentications.round())
                };
                let cents = format!("{:.2}", month.secrets.fract());
                format!(
                    "{}{} + {rounded}",
                    count(month.secrets.trunc()),
                    cents.trim_start_matches('0')
                )
            },
        )
    };
    let [secrets, sealed] = SeedStorage::ALL.map(cell);
    format!(
        "| {} | {} | {secrets} | {sealed} |",
        count(devices),
        count(devices * SIGN_INS)
    )
}

fn seeds_in_memory(text: &mut String) -> fmt::Result {
    const SIGN_INS_A_DAY: [f64; 3] = [1.0, 24.0, 288.0];
    let columns = SIGN_INS_A_DAY.map(|number| format!(" {number} a day |")).concat();
    writeln!(
        text,
        "## Seeds in memory\n\nHow often `validate-otp` has a seed in memory that is in a secret of its own, and in how many environments it \
         runs, by how often each device signs in:\n\n| devices |{columns}\n|---|{}",
        "---|".repeat(SIGN_INS_A_DAY.len())
    )?;
    for devices in [1e3, 1e5, cost::MOST_SECRETS] {
        let cells = SIGN_INS_A_DAY.map(|number| {
            let (mut quotas, mut load) = (Quotas::DEFAULT, step(devices * number / 86_400.0));
            load.devices = devices;
            load.ramp = CACHE_SECONDS;
            load.seconds = 3.0 * CACHE_SECONDS;
            raise(Limit::Method, &mut quotas, &mut load);
            let report = run(&quotas, load);
            let environments = report.environments.ceil().max(1.0);
            format!(" {}, {environments} |", percent(report.hit_share()))
        });
        writeln!(text, "| {} |{}", count(devices), cells.concat())?;
    }
    writeln!(text)
}

/// A number with two digits that count, not below it.
fn rounded_up(number: f64) -> f64 {
    let unit = 10_f64.powf((number.log10().floor() - 1.0).max(0.0));
    (number / unit).ceil() * unit
}

/// `1,000`, `2.2 M`.
fn count(number: f64) -> String {
    if number >= 1e6 {
        let tenths = (number / 1e5).round();
        return format!("{} M", grouped(tenths / 10.0));
    }
    grouped(number)
}

fn grouped(number: f64) -> String {
    let text = number.to_string();
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        percent @ ..0.95 => format!("{percent:.1} %"),
        percent => format!("{} %", count(percent.round())),
    }
}

type Line = (&'static str, Vec<(f64, f64)>);

fn plot_refused() -> Result<()> {
    let rates: Vec<f64> = (4..=20).map(|quarter| 10_f64.powf(f64::from(quarter) / 4.0)).collect();
    let line = |refused: &dyn Fn(f64) -> f64| rates.iter().map(|rate| (*rate, refused(*rate) * 100.0)).collect();
    let raised = |rate: f64, limits: &[Limit]| {
        let (mut quotas, mut load) = (Quotas::DEFAULT, step(rate));
        for limit in limits {
            raise(*limit, &mut quotas, &mut load);
        }
        run(&quotas, load).refused_share()
    };
    let own = [Limit::Method];
    let lambda = [Limit::Method, Limit::Account, Limit::Requests];
    let tables = [Limit::Method, Limit::Account, Limit::Requests, Limit::Table];
    let all = [
        Limit::Method,
        Limit::Account,
        Limit::Requests,
        Limit::Table,
        Limit::SecretReads,
        Limit::Scaling,
    ];
    let lines = [
        ("as deployed", line(&|rate| raised(rate, &[]))),
        ("+ the stack's throttle", line(&|rate| raised(rate, &own))),
        ("+ gateway, Lambda", line(&|rate| raised(rate, &lambda))),
        ("+ both tables", line(&|rate| raised(rate, &tables))),
        ("+ sealed, slower start", line(&|rate| raised(rate, &all))),
    ];
    let labels = ["authentications a second, from zero at once", "refused, %"];
    let legend = SeriesLabelPosition::Coordinate(252, 100);
    draw(
        "scale-refused.svg",
        labels,
        legend,
        (10.0..1e5).log_scale(),
        0.0..100.0,
        &lines,
    )
}

fn plot_burst() -> Result<()> {
    let rate = 50_000.0;
    let (_, quotas, grown) = broken_in_order(Quotas::DEFAULT, step(rate))?;
    let cold = Quotas {
        warm_writes: Quotas::DEFAULT.warm_writes,
        warm_reads: Quotas::DEFAULT.warm_reads,
        ..quotas
    };
    let line = |quotas: &Quotas, ramp: f64| -> Vec<(f64, f64)> {
        let load = Load {
            ramp,
            seconds: 120.0,
            ..grown
        };
        let seconds = (0..).map(f64::from);
        seconds.zip(run(quotas, load).per_second).collect()
    };
    let lines = [
        ("grown over a minute", line(&quotas, grown.ramp)),
        ("at once", line(&quotas, 0.0)),
        ("at once, tables not warmed", line(&cold, 0.0)),
    ];
    let labels = ["seconds after the first", "authentications served a second"];
    draw(
        "scale-burst.svg",
        labels,
        SeriesLabelPosition::UpperLeft,
        0.0..120.0,
        0.0..rate * 1.1,
        &lines,
    )
}

fn plot_costs() -> Result<()> {
    let line = |seeds| -> Vec<(f64, f64)> {
        let devices = (12..=32).map(|quarter| 10_f64.powf(f64::from(quarter) / 4.0));
        let most = std::iter::once(cost::MOST_SECRETS - 1.0);
        let mut points: Vec<(f64, f64)> = devices
            .chain(most)
            .filter_map(|devices| {
                let month = month(devices, seeds)?;
                Some((devices, month.secrets + month.authentications))
            })
            .collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        points
    };
    let lines = [
        ("a secret each, up to 500,000", line(SeedStorage::Secrets)),
        ("sealed seeds", line(SeedStorage::Sealed)),
    ];
    let labels = ["devices", "US dollars a month"];
    draw(
        "scale-cost.svg",
        labels,
        SeriesLabelPosition::UpperLeft,
        (1e3..1e8).log_scale(),
        (0.1..1e6).log_scale(),
        &lines,
    )
}

/// Colours that differ in brightness too.
const COLOURS: [RGBColor; 5] = [
    RGBColor(188, 76, 0),
    RGBColor(9, 105, 218),
    RGBColor(26, 127, 55),
    RGBColor(130, 80, 223),
    RGBColor(31, 35, 40),
];

fn draw<X, Y>(file: &str, labels: [&str; 2], legend: SeriesLabelPosition, x: X, y: Y, lines: &[Line]) -> Result<()>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (760, 420)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .margin_right(40)
            .x_label_area_size(48)
            .y_label_area_size(76)
            .build_cartesian_2d(x, y)?;
        let [x_label, y_label] = labels;
        chart
            .configure_mesh()
            .x_desc(x_label)
            .y_desc(y_label)
            .x_label_formatter(&|value| count(*value))
            .y_label_formatter(&|value| count(*value))
            .max_light_lines(1)
            .label_style(("sans-serif", 14))
            .draw()?;
        for ((name, points), colour) in lines.iter().zip(COLOURS) {
            let series = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            chart
                .draw_series(series)?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(legend)
            .background_style(WHITE.mix(0.9))
            .label_font(("sans-serif", 14))
            .draw()?;
        area.present()?;
    }
    Ok(std::fs::write(Path::new(WORKSPACE).join("docs").join(file), svg)?)
}

//! The figures, and their Markdown table.

use std::fmt;
use std::time::Duration;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Fresh processes of each function, each with one call.
    pub(crate) starts: usize,
    /// Calls of each function after the first, in the last of those processes.
    pub(crate) warm_calls: usize,
}

impl Plan {
    pub(crate) const DEFAULT: Self = Self {
        starts: 15,
        warm_calls: 200,
    };
}

/// The shortest, the median and the longest of some times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) least: Duration,
    pub(crate) median: Duration,
    pub(crate) most: Duration,
}

impl Spread {
    /// `None` if there are no times.
    pub(crate) fn new(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        Some(Self {
            least: *times.first()?,
            median: *times.get(times.len() / 2)?,
            most: *times.last()?,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, least, most] = [self.median, self.least, self.most].map(|time| time.as_secs_f64() * 1_000.0);
        write!(f, "{median:.1} ms ({least:.1}–{most:.1})")
    }
}

/// The cost of one function.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    pub(crate) function: &'static str,
    pub(crate) binary_bytes: u64,
    /// From the start of the process until it asks for work.
    pub(crate) init: Spread,
    /// The first call of a process.
    pub(crate) first_call: Spread,
    /// The calls after it.
    pub(crate) warm_call: Spread,
    /// Peak memory of the process with the warm calls.
    pub(crate) peak_kib: u64,
}

/// The costs of the functions. Its `Display` is a Markdown table.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) plan: Plan,
    pub(crate) costs: Vec<Cost>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| function | binary | INIT | first call | warm call | peak memory |\n|---|---|---|---|---|---|"
        )?;
        for Cost {
            function,
            binary_bytes,
            init,
            first_call,
            warm_call,
            peak_kib,
        } in &self.costs
        {
            let (binary, peak) = (tenths(*binary_bytes, 1_000_000), tenths(*peak_kib, 1_024));
            writeln!(
                f,
                "| `{function}` | {binary} MB | {init} | {first_call} | {warm_call} | {peak} MiB |"
            )?;
        }
        let Plan { starts, warm_calls } = self.plan;
        write!(
            f,
            "\nMedians (least–most) of {starts} starts and {warm_calls} warm calls, the local stack's stores and TLS to them included."
        )
    }
}

/// `amount / unit` with one digit after the point, rounded.
fn tenths(amount: u64, unit: u64) -> String {
    let tenths = (amount * 10 + unit / 2) / unit;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(millis: &[u64]) -> Option<Spread> {
        Spread::new(millis.iter().copied().map(Duration::from_millis).collect())
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(spread(&[]), None);
        let shown = spread(&[30, 10, 20]).map(|spread| spread.to_string());
        assert_eq!(shown.as_deref(), Some("20.0 ms (10.0–30.0)"));
    }

    #[test]
    fn sizes_are_rounded_to_one_digit() {
        assert_eq!(tenths(7_949_999, 1_000_000), "7.9");
        assert_eq!(tenths(7_950_000, 1_000_000), "8.0");
    }
}

//! The plot of `docs/security.md`: what a year of guessing is worth under each policy and under a lock alone, and on how
//! many days the owner signs in under that attack. One SVG image without fonts or scripts of its own, for light and dark pages.

use std::fmt;

use super::{DAYS, Figures, Guesses, Report, SignIns, Year};

const WIDTH: f64 = 760.0;
/// The area of the curves.
const LEFT: f64 = 76.0;
const TOP: f64 = 72.0;
const CURVES_WIDTH: f64 = 420.0;
const CURVES_HEIGHT: f64 = 220.0;
/// The bars, below: one row for each curve, and for what remains.
const BARS_TOP: f64 = TOP + CURVES_HEIGHT + 92.0;
const BARS_LEFT: f64 = 292.0;
const BARS_WIDTH: f64 = 380.0;
const ROW: f64 = 28.0;
const BAR: f64 = 16.0;
/// Names of curves end at the same distance at least.
const LABEL_GAP: f64 = 18.0;
/// Classes of the style sheet, one for each curve and its bar.
const COLORS: [&str; 4] = ["c0", "c1", "c2", "c3"];

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:13px;fill:#1f2328}\
.title{font-size:15px;font-weight:600}.note{fill:#59636e;font-size:12px}.end{text-anchor:end}.middle{text-anchor:middle}\
.page{fill:#fff}.grid{stroke:#d1d9e0;stroke-width:1}.rest{fill:#d1d9e0}path{fill:none;stroke-width:2}\
path.c0{stroke:#0969da}path.c1{stroke:#1a7f37}path.c2{stroke:#bc4c00}path.c3{stroke:#8250df}\
rect.c0{fill:#0969da}rect.c1{fill:#1a7f37}rect.c2{fill:#bc4c00}rect.c3{fill:#8250df}\
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.note{fill:#9198a1}.page{fill:#0d1117}.grid{stroke:#3d444d}.rest{fill:#3d444d}\
path.c0{stroke:#4493f8}path.c1{stroke:#3fb950}path.c2{stroke:#db6d28}path.c3{stroke:#ab7df8}\
rect.c0{fill:#4493f8}rect.c1{fill:#3fb950}rect.c2{fill:#db6d28}rect.c3{fill:#ab7df8}}";

/// A curve above, and its bar below.
struct Course<'a> {
    name: String,
    color: &'static str,
    /// The probability that a guess was right by the end of each day.
    odds: Vec<f64>,
    sign_ins: &'a SignIns,
}

/// The plot of a report, written by its `Display`.
#[derive(Debug)]
pub struct Plot<'a>(pub &'a Report);

impl fmt::Display for Plot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Report { figures, .. }) = self;
        let with_pairs = figures.iter().map(|figures| {
            let odds = odds_by_day(&figures.attacked, figures.daily.pairs);
            (figures.name.to_owned(), odds, &figures.attacked.sign_ins)
        });
        let lock_alone = figures.iter().map(|figures| {
            let name = format!("{}, a lock alone", figures.name);
            (name, odds_by_day(&figures.lock_alone, 0), &figures.lock_alone.sign_ins)
        });
        let courses: Vec<Course<'_>> = with_pairs
            .chain(lock_alone)
            .zip(COLORS)
            .map(|((name, odds, sign_ins), color)| Course {
                name,
                color,
                odds,
                sign_ins,
            })
            .collect();

        let rows = u32::try_from(courses.len() + figures.len()).unwrap_or(u32::MAX);
        let height = BARS_TOP + ROW * f64::from(rows) + 44.0;
        writeln!(
            f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             role=\"img\" aria-labelledby=\"title desc\">\n\
             <title id=\"title\">A year of guessing, and the owner's sign-ins under it</title>"
        )?;
        f.write_str("<desc id=\"desc\">The probability that at least one guess was right after a year:")?;
        for course in &courses {
            write!(f, " {} {};", course.name, super::odds(course.last()))?;
        }
        f.write_str(" days on which the owner signed in within two codes:")?;
        for course in &courses {
            let SignIns {
                all, within_two_codes, ..
            } = course.sign_ins;
            write!(f, " {} {within_two_codes} of {all};", course.name)?;
        }
        f.write_str(" and while pairs are guessed at every opening as well:")?;
        for Figures {
            name,
            floods: [.., timed],
            ..
        } in figures
        {
            write!(f, " {name} {} of {};", timed.within_two_codes, timed.all)?;
        }
        writeln!(
            f,
            "</desc>\n<style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>"
        )?;
        curves(f, &courses)?;
        bars(f, &courses, figures, height)?;
        writeln!(f, "</svg>")
    }
}

impl Course<'_> {
    fn last(&self) -> f64 {
        self.odds.last().copied().unwrap_or_default()
    }
}

/// Wrong pairs are evaluated evenly over the year.
fn odds_by_day(year: &Year, pairs_of_a_year: u64) -> Vec<f64> {
    let days = year.guesses_by_day.iter().zip(1..);
    days.map(|(single, day)| {
        let pairs = pairs_of_a_year * u64::from(DAYS.min(day)) / u64::from(DAYS);
        Guesses { single: *single, pairs }.odds(6)
    })
    .collect()
}

fn curves(f: &mut fmt::Formatter<'_>, courses: &[Course<'_>]) -> fmt::Result {
    let bottom = TOP + CURVES_HEIGHT;
    // A scale of whole units of the power of ten below the highest curve.
    let highest = courses.iter().map(Course::last).fold(f64::MIN_POSITIVE, f64::max);
    let unit = 10_f64.powf(highest.log10().floor());
    let units = (highest / unit).ceil();
    let y = |odds: f64| bottom - CURVES_HEIGHT * odds / (unit * units);
    let x = |day: u32| LEFT + CURVES_WIDTH * f64::from(day) / f64::from(DAYS);

    writeln!(
        f,
        "<text class=\"title\" x=\"20\" y=\"30\">The attacker's year: probability that at least one guess was right</text>\n\
         <text class=\"note\" x=\"20\" y=\"50\">Single codes at every opening, and pairs as well; the owner signs in once a day. 6 digits.</text>"
    )?;
    let mut grid = 0.0;
    while grid <= units {
        let (line, label) = (
            y(unit * grid),
            if grid == 0.0 {
                "0".to_owned()
            } else {
                super::odds(unit * grid)
            },
        );
        writeln!(
            f,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{line:.1}\" x2=\"{:.1}\" y2=\"{line:.1}\"/>\
             <text class=\"note end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
            LEFT + CURVES_WIDTH,
            LEFT - 6.0,
            line + 4.0
        )?;
        grid += if units > 5.0 { 2.0 } else { 1.0 };
    }
    for day in [0, 91, 182, 273, 365] {
        writeln!(
            f,
            "<text class=\"note middle\" x=\"{:.1}\" y=\"{:.1}\">day {day}</text>",
            x(day),
            bottom + 20.0
        )?;
    }
    for course in courses {
        write!(f, "<path class=\"{}\" d=\"M{LEFT} {bottom}", course.color)?;
        for (odds, day) in course.odds.iter().zip(1..) {
            write!(f, "L{:.1} {:.1}", x(DAYS.min(day)), y(*odds))?;
        }
        writeln!(f, "\"/>")?;
    }
    // Names at the ends of the curves, from the lowest up, none on another.
    let mut by_height: Vec<&Course<'_>> = courses.iter().collect();
    by_height.sort_by(|a, b| a.last().total_cmp(&b.last()));
    let mut ceiling = f64::MAX;
    for course in by_height {
        let at = (y(course.last()) + 4.0).min(ceiling - LABEL_GAP);
        ceiling = at;
        writeln!(
            f,
            "<rect class=\"{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\"/><text x=\"{:.1}\" y=\"{at:.1}\">{}: {}</text>",
            course.color,
            LEFT + CURVES_WIDTH + 10.0,
            at - 9.0,
            LEFT + CURVES_WIDTH + 26.0,
            course.name,
            super::odds(course.last())
        )?;
    }
    Ok(())
}

fn bars(f: &mut fmt::Formatter<'_>, courses: &[Course<'_>], figures: &[Figures], height: f64) -> fmt::Result {
    writeln!(
        f,
        "<text class=\"title\" x=\"20\" y=\"{:.1}\">The owner while single codes are guessed: days with a sign-in within two codes</text>",
        BARS_TOP - 24.0
    )?;
    let mut top = BARS_TOP;
    for course in courses {
        bar(f, top, &course.name, course.color, course.sign_ins)?;
        top += ROW;
    }
    for (figures, course) in figures.iter().zip(courses) {
        let [.., timed] = &figures.floods;
        let name = format!("{}, and pairs at every opening", course.name);
        bar(f, top, &name, course.color, timed)?;
        top += ROW;
    }
    writeln!(
        f,
        "<text class=\"note\" x=\"20\" y=\"{:.1}\">Pairs at every opening are what remains: a flood that is kept up, timed, and alarmed.</text>",
        height - 18.0
    )
}

fn bar(f: &mut fmt::Formatter<'_>, top: f64, name: &str, color: &str, sign_ins: &SignIns) -> fmt::Result {
    let SignIns {
        all, within_two_codes, ..
    } = *sign_ins;
    let filled = BARS_WIDTH * f64::from(within_two_codes) / f64::from(all.max(1));
    writeln!(
        f,
        "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>\
         <rect class=\"rest\" x=\"{BARS_LEFT}\" y=\"{top}\" width=\"{BARS_WIDTH}\" height=\"{BAR}\"/>\
         <rect class=\"{color}\" x=\"{BARS_LEFT}\" y=\"{top}\" width=\"{filled:.1}\" height=\"{BAR}\"/>\
         <text class=\"note\" x=\"{:.1}\" y=\"{:.1}\">{within_two_codes} of {all}</text>",
        BARS_LEFT - 10.0,
        top + 13.0,
        BARS_LEFT + BARS_WIDTH + 8.0,
        top + 13.0
    )
}

//! The limits on guessing: every number of the throttle, its range, and an attacker's odds in a year.
//!
//! Parsed and range-checked once, at start; the service does not start with a policy that is too weak.

use std::time::Duration;

/// Why a policy was refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// The burst is outside 6–50 codes.
    #[error("the burst must be 6 to 50 codes")]
    Burst,
    /// The refill is outside 1–1,440 hours.
    #[error("the refill must be 1 to 1440 hours")]
    Refill,
    /// The gap between pairs is outside 1–60 seconds.
    #[error("the gap between pairs must be 1 to 60 seconds")]
    PairGap,
    /// A year of guessing would succeed too often.
    #[error("an attacker's year would succeed with {0:.1e}, more than 1e-2: lower the burst or raise the refill")]
    TooWeak(f64),
}

/// The limits on guessing one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    burst: u32,
    refill: Duration,
    pair_gap: Duration,
}

impl Policy {
    /// Wrong single codes after which an authId is exhausted.
    pub const OWN_ATTEMPTS: u32 = 5;
    /// Consecutive wrong single codes after which single codes are refused until two consecutive codes succeed or an
    /// operator unlocks the device (NIST SP 800-63B-4, section 3.2.2).
    pub const MOST_CONSECUTIVE: u32 = 100;
    /// The burst of wrong pairs.
    pub const PAIR_BURST: u32 = 10;
    /// How many authIds a device remembers the failures of.
    pub const REMEMBERED_FAILING: usize = 4;
    /// How long a success is remembered after its authId has expired, since clocks differ.
    pub const ACCEPTED_GRACE: Duration = Duration::from_mins(2);

    const FREE_FAILURES: u32 = 5;
    const LADDER_FIRST: Duration = Duration::from_secs(30);
    const LADDER_LAST: Duration = Duration::from_hours(1);
    const HOURS_A_YEAR: f64 = 8_760.0;
    /// Three of the million codes of 6 digits are right at any time, and three of the 10¹² pairs.
    const ODDS_OF_A_SINGLE: f64 = 3e-6;
    const ODDS_OF_A_PAIR: f64 = 3e-12;
    pub(crate) const MOST_A_YEAR: f64 = 1e-2;

    /// The default: an attacker succeeds within a year with a probability below 10⁻³ (6 digits).
    #[must_use]
    pub const fn standard() -> Self {
        Self {
            burst: 20,
            refill: Duration::from_hours(36),
            pair_gap: Duration::from_secs(1),
        }
    }

    /// An attacker succeeds within a year with a probability below 10⁻⁴ (6 digits).
    #[must_use]
    pub const fn strict() -> Self {
        Self {
            burst: 10,
            refill: Duration::from_hours(480),
            pair_gap: Duration::from_secs(10),
        }
    }

    /// A custom policy: a burst of `burst` wrong single codes (6–50), one more every `refill_hours` (1–1,440), and in the
    /// long run one wrong pair every `pair_gap_seconds` (1–60).
    ///
    /// # Errors
    /// [`PolicyError`] if a number is out of its range, or [`Policy::odds_of_a_year`] is above 10⁻².
    pub fn custom(burst: u32, refill_hours: u32, pair_gap_seconds: u32) -> Result<Self, PolicyError> {
        if !(6..=50).contains(&burst) {
            return Err(PolicyError::Burst);
        }
        if !(1..=1_440).contains(&refill_hours) {
            return Err(PolicyError::Refill);
        }
        if !(1..=60).contains(&pair_gap_seconds) {
            return Err(PolicyError::PairGap);
        }
        let policy = Self {
            burst,
            refill: Duration::from_hours(u64::from(refill_hours)),
            pair_gap: Duration::from_secs(u64::from(pair_gap_seconds)),
        };
        let odds = policy.odds_of_a_year();
        if odds > Self::MOST_A_YEAR {
            Err(PolicyError::TooWeak(odds))
        } else {
            Ok(policy)
        }
    }

    /// An upper bound of the probability that a year of guessing at the full rate succeeds against 6 digits.
    #[must_use]
    pub fn odds_of_a_year(&self) -> f64 {
        let year = Self::HOURS_A_YEAR * 3_600.0;
        Self::ODDS_OF_A_SINGLE * (f64::from(self.burst) + year / self.refill.as_secs_f64())
            + Self::ODDS_OF_A_PAIR * (f64::from(Self::PAIR_BURST) + year / self.pair_gap.as_secs_f64())
    }

    /// The burst of wrong single codes.
    #[must_use]
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// How long it takes until one more wrong single code is allowed.
    #[must_use]
    pub const fn refill(&self) -> Duration {
        self.refill
    }

    /// How far the budget of single codes may run ahead of the clock before single codes are refused.
    #[must_use]
    pub const fn single_slack(&self) -> Duration {
        self.refill.saturating_mul(self.burst - 1)
    }

    /// The debt that remains after an operator's unlock, which leaves a burst of six single codes.
    #[must_use]
    pub const fn unlocked_debt(&self) -> Duration {
        self.refill.saturating_mul(self.burst - 6)
    }

    /// How long it takes until one more wrong pair is allowed.
    #[must_use]
    pub const fn pair_gap(&self) -> Duration {
        self.pair_gap
    }

    /// How far the rate of pairs may run ahead of the clock before pairs are refused.
    #[must_use]
    pub const fn pair_slack(&self) -> Duration {
        self.pair_gap.saturating_mul(Self::PAIR_BURST - 1)
    }

    /// How long single codes are refused after `consecutive` wrong ones: not at all up to four, then 30 s, 60 s, … at most
    /// 1 h.
    #[must_use]
    pub const fn ladder(consecutive: u32) -> Duration {
        if consecutive < Self::FREE_FAILURES {
            return Duration::ZERO;
        }
        let doublings = consecutive - Self::FREE_FAILURES;
        // 30 s · 2⁷ is more than an hour.
        if doublings >= 7 {
            Self::LADDER_LAST
        } else {
            Self::LADDER_FIRST.saturating_mul(1 << doublings)
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::standard()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_keep_the_odds_of_a_year_below_their_bounds() {
        assert!(
            Policy::standard().odds_of_a_year() < 1e-3,
            "{}",
            Policy::standard().odds_of_a_year()
        );
        assert!(
            Policy::strict().odds_of_a_year() < 1e-4,
            "{}",
            Policy::strict().odds_of_a_year()
        );
    }

    #[test]
    fn single_codes_and_pairs_both_count_in_the_odds_of_a_year() {
        // 3e-6 · (20 + 8760/36) + 3e-12 · (10 + 31,536,000/1), and 3e-6 · (10 + 8760/480) + 3e-12 · (10 + 31,536,000/10).
        for (policy, odds) in [(Policy::standard(), 8.846_080_3e-4), (Policy::strict(), 9.421_083e-5)] {
            assert!(
                (policy.odds_of_a_year() - odds).abs() < 1e-9,
                "{}",
                policy.odds_of_a_year()
            );
        }
    }

    #[test]
    fn a_custom_policy_is_checked_at_every_end_of_its_ranges() {
        assert_eq!(Policy::custom(20, 36, 1), Ok(Policy::standard()));
        assert_eq!(Policy::custom(10, 480, 10), Ok(Policy::strict()));
        assert_eq!(Policy::custom(5, 36, 1), Err(PolicyError::Burst));
        assert!(Policy::custom(6, 36, 1).is_ok());
        assert!(Policy::custom(50, 36, 1).is_ok());
        assert_eq!(Policy::custom(51, 36, 1), Err(PolicyError::Burst));
        assert_eq!(Policy::custom(20, 0, 1), Err(PolicyError::Refill));
        assert!(Policy::custom(20, 1_440, 1).is_ok());
        assert_eq!(Policy::custom(20, 1_441, 1), Err(PolicyError::Refill));
        assert_eq!(Policy::custom(20, 36, 0), Err(PolicyError::PairGap));
        assert!(Policy::custom(20, 36, 60).is_ok());
        assert_eq!(Policy::custom(20, 36, 61), Err(PolicyError::PairGap));
    }

    #[test]
    fn a_policy_that_is_too_weak_is_refused() {
        assert!(matches!(Policy::custom(50, 1, 1), Err(PolicyError::TooWeak(odds)) if odds > 1e-2));
        assert!(Policy::custom(50, 3, 1).is_ok());
        assert!(matches!(Policy::custom(50, 2, 1), Err(PolicyError::TooWeak(_))));
    }

    #[test]
    fn the_ladder_doubles_from_30_seconds_to_an_hour() {
        let seconds: Vec<u64> = (0..=14).map(|k| Policy::ladder(k).as_secs()).collect();
        assert_eq!(
            seconds,
            [0, 0, 0, 0, 0, 30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]
        );
        assert_eq!(Policy::ladder(u32::MAX).as_secs(), 3_600);
    }
}

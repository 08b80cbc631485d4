//! Randomness that is the same in every run, and a generator that fails.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::RandomError;
use crate::random::Random;

/// Values that look random, are never the same within a run, and are the same in every run from the same start.
#[derive(Debug)]
pub struct SequenceRandom(AtomicU64);

impl SequenceRandom {
    /// The golden ratio as a 64-bit fraction: what `SplitMix64` adds from one value to the next.
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

    /// The sequence of a start.
    #[must_use]
    pub const fn from_start(start: u64) -> Self {
        Self(AtomicU64::new(start))
    }

    fn sixty_four_bits(&self) -> u64 {
        // SplitMix64, a bijection of a counter: no two values are the same.
        let mut z = self
            .0
            .fetch_add(Self::GAMMA, Ordering::SeqCst)
            .wrapping_add(Self::GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Random for SequenceRandom {
    fn sixteen_bytes(&self) -> Result<[u8; 16], RandomError> {
        let (high, low) = (self.sixty_four_bits(), self.sixty_four_bits());
        Ok((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

/// A generator that always fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct FailingRandom;

impl Random for FailingRandom {
    fn sixteen_bytes(&self) -> Result<[u8; 16], RandomError> {
        Err(RandomError("an injected fault".into()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_sequence_repeats_in_every_run_and_never_within_one() -> Result<(), RandomError> {
        let (one, same, other) = (
            SequenceRandom::from_start(1),
            SequenceRandom::from_start(1),
            SequenceRandom::from_start(2),
        );
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            let value = one.sixteen_bytes()?;
            assert_eq!(value, same.sixteen_bytes()?);
            assert_ne!(value, other.sixteen_bytes()?);
            assert!(seen.insert(value));
        }
        assert!(FailingRandom.sixteen_bytes().is_err());
        Ok(())
    }
}

//! What an attempt sends, by which steps its codes are of.

use shared::otp::OfferKind;

/// What one attempt offers; steps are counted from the one now.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Offer {
    Single(i64),
    Pair(i64),
    WrongSingle,
    WrongPair,
}

impl Offer {
    pub(crate) const fn kind(self) -> OfferKind {
        match self {
            Self::Single(_) | Self::WrongSingle => OfferKind::Single,
            Self::Pair(_) | Self::WrongPair => OfferKind::Pair,
        }
    }

    /// The first and the last step that accepting it uses.
    pub(crate) const fn steps(self) -> Option<(i64, i64)> {
        match self {
            Self::Single(step) => Some((step, step)),
            Self::Pair(step) => Some((step, step + 1)),
            Self::WrongSingle | Self::WrongPair => None,
        }
    }
}

//! What an attempt sends: one code or two, named by their time steps.

use shared::otp::OfferKind;

/// One attempt's codes. Steps are relative to the current one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Offer {
    Single(i64),
    Pair(i64),
    WrongSingle,
    WrongPair,
}

impl Offer {
    pub(super) const fn kind(self) -> OfferKind {
        match self {
            Self::Single(_) | Self::WrongSingle => OfferKind::Single,
            Self::Pair(_) | Self::WrongPair => OfferKind::Pair,
        }
    }

    /// The first and the last step that are used up if it is accepted.
    pub(super) const fn steps(self) -> Option<(i64, i64)> {
        match self {
            Self::Single(step) => Some((step, step)),
            Self::Pair(step) => Some((step, step + 1)),
            Self::WrongSingle | Self::WrongPair => None,
        }
    }
}

//! What must hold, whatever happens and in whatever order.

/// The invariants of the protocol, by their numbers in `docs/security.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Invariant {
    /// I1: a step is accepted at most once per device.
    StepOnce,
    /// I2: an authId succeeds at most once.
    AuthOnce,
    /// I3: every wrong verdict was counted before it was given, and there are no more than the policy allows.
    Counted,
    /// I4: a success that was written is reported to the request that wrote it, and no other success is.
    Reported,
    /// I5: an operation that failed in a store gives no verdict.
    NoVerdictFromFaults,
    /// I6: another client can neither use nor influence an authId or a device.
    Isolated,
    /// I7: only a step above every accepted one is accepted, whatever the clocks say.
    Forward,
    /// I8: a device that was removed, disabled or given a new seed is refused, whatever was issued before.
    Revoked,
    /// I9: a right pair lets the owner in, and wrong pairs do not delay single codes.
    OwnerGetsIn,
    /// An authId is worth nothing from its expiry on.
    Expires,
    /// I10: a seed comes into use by a right code of it, while the device waits for it, before it expires, and once.
    Activated,
    /// I11: a wrong code is counted once; twice only if its answer was lost and others wrote in between.
    CountedOnce,
    /// I12: no device names a seed that was removed.
    SeedThere,
    /// I13: a device in use stays in use, with the seed that it has, until another is activated.
    OldSeedWorks,
    /// I14: neither a sign-in nor an activation passes or opens what is closed to it.
    LockHolds,
    /// I15: a sealed seed always opens, and one that was sealed again stays so.
    Sealed,
}

impl Invariant {
    /// Every invariant.
    pub const ALL: [Self; 16] = [
        Self::StepOnce,
        Self::AuthOnce,
        Self::Counted,
        Self::Reported,
        Self::NoVerdictFromFaults,
        Self::Isolated,
        Self::Forward,
        Self::Revoked,
        Self::OwnerGetsIn,
        Self::Expires,
        Self::Activated,
        Self::CountedOnce,
        Self::SeedThere,
        Self::OldSeedWorks,
        Self::LockHolds,
        Self::Sealed,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StepOnce => "I1 a step is accepted once",
            Self::AuthOnce => "I2 an authId succeeds once",
            Self::Counted => "I3 wrong verdicts are counted first, and bounded",
            Self::Reported => "I4 a written success is reported to its writer",
            Self::NoVerdictFromFaults => "I5 a fault gives no verdict",
            Self::Isolated => "I6 another client has no influence",
            Self::Forward => "I7 only a higher step is accepted",
            Self::Revoked => "I8 a revoked device is refused",
            Self::OwnerGetsIn => "I9 the owner gets in",
            Self::Expires => "an authId expires",
            Self::Activated => "I10 a seed comes into use by its code, in its time, once",
            Self::CountedOnce => "I11 a wrong code is counted once",
            Self::SeedThere => "I12 a device names no seed that was removed",
            Self::OldSeedWorks => "I13 the old seed works until the swap",
            Self::LockHolds => "I14 what is closed stays closed",
            Self::Sealed => "I15 a sealed seed opens",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The invariants that were broken on the way to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Broken(u16);

impl Broken {
    pub(crate) const fn add(&mut self, invariant: Invariant) {
        self.0 |= invariant.bit();
    }

    /// Whether an invariant was broken.
    #[must_use]
    pub const fn has(self, invariant: Invariant) -> bool {
        self.0 & invariant.bit() != 0
    }

    /// Every invariant that was broken.
    #[must_use]
    pub fn all(self) -> Vec<Invariant> {
        Invariant::ALL
            .into_iter()
            .filter(|invariant| self.has(*invariant))
            .collect()
    }
}

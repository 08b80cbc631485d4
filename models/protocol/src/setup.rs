//! What happens in a model: how many requests, with which codes, when, and what operators do concurrently.

use std::time::Duration;

use shared::clock::Timestamp;
use shared::device::{Device, Status};
use shared::otp::{Matches, OfferKind, OtpParameters, Step};

use crate::{Mutant, Operation, UseCase};

/// What a request may offer. Steps are counted from the one at the first moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Offer {
    /// One code or two.
    pub kind: OfferKind,
    /// The seed of the code and its step (of a pair the earlier one); `None` is a code that no step has.
    pub right: Option<(u8, i64)>,
    /// It comes from another client.
    pub foreign: bool,
}

impl Offer {
    /// The right single code of a step of the first seed.
    #[must_use]
    pub const fn single(ahead: i64) -> Self {
        Self::of(OfferKind::Single, Some((0, ahead)))
    }

    /// The right pair that begins with a step of the first seed.
    #[must_use]
    pub const fn pair(ahead: i64) -> Self {
        Self::of(OfferKind::Pair, Some((0, ahead)))
    }

    /// A wrong code or pair.
    #[must_use]
    pub const fn wrong(kind: OfferKind) -> Self {
        Self::of(kind, None)
    }

    const fn of(kind: OfferKind, right: Option<(u8, i64)>) -> Self {
        Self {
            kind,
            right,
            foreign: false,
        }
    }

    /// The same with the second seed.
    #[must_use]
    pub const fn of_second_seed(self) -> Self {
        self.of_seed(1)
    }

    /// The same with the seed that was created as number `number`, from 0.
    const fn of_seed(self, number: u8) -> Self {
        match self.right {
            Some((_, ahead)) => Self {
                right: Some((number, ahead)),
                ..self
            },
            None => self,
        }
    }

    /// The same by another client.
    #[must_use]
    pub const fn by_another_client(self) -> Self {
        Self { foreign: true, ..self }
    }

    /// The steps that it would use up.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let Some((_, ahead)) = self.right else {
            return Vec::new();
        };
        let first = Setup::step(ahead);
        match self.kind {
            OfferKind::Single => vec![first],
            OfferKind::Pair => vec![first, first.next()],
        }
    }

    /// What it matches with a seed at a time: the window of `shared::otp::Seed::matches`.
    pub(crate) fn matches(&self, seed: u8, now: Timestamp) -> Matches {
        let back = match self.kind {
            OfferKind::Single => 1,
            OfferKind::Pair => 2,
        };
        let earliest = Step::at(now, Setup::parameters().period).0 - back;
        let step = self
            .right
            .filter(|(of, _)| *of == seed)
            .map(|(_, ahead)| Setup::step(ahead))
            .filter(|step| (earliest..earliest + 3).contains(&step.0));
        Matches::new(self.kind, [step, None, None])
    }
}

const WRONG: Offer = Offer::wrong(OfferKind::Single);
const WRONG_PAIR: Offer = Offer::wrong(OfferKind::Pair);

/// A model's extent.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Requests of step 3: what each may offer. It chooses one of them and its authId when it arrives; every second one
    /// arrives at an instance whose clock is ahead.
    pub requests: Vec<Vec<Offer>>,
    /// Commands that ask for the first code of a seed: what each of their attempts may offer, one after another
    /// until one is right. Each command has an authId of its own.
    pub commands: Vec<Vec<Vec<Offer>>>,
    /// Use cases of registration, by an application or an operator, each once, at any moment.
    pub use_cases: Vec<UseCase>,
    /// Whether the device was in use at the first moment.
    pub first: Status,
    /// How many `authId`s; each is issued at any moment.
    pub auths: usize,
    /// The moments that the clock goes through, from the first one, which begins a step.
    pub moments: Vec<Duration>,
    /// Whether the clock is set back once.
    pub clock_set_back: bool,
    /// Whether one answer of a store may be lost per request, or come late.
    pub losses: bool,
    /// What an operator does, each once, at any moment.
    pub operations: Vec<Operation>,
    /// Consecutive wrong single codes before the first moment; the ladder has passed.
    pub failed_before: u32,
    /// Wrong single codes that the budget has left at the first moment.
    pub singles_left: u32,
    /// Whether seeds are sealed beside their devices.
    pub sealed: bool,
    /// The fault of the protocol, if it has one.
    pub mutant: Option<Mutant>,
}

impl Setup {
    /// How long an authId lives.
    pub(crate) const AUTH_LIFE: Duration = Duration::from_mins(2);
    /// How far the faster of two clocks is ahead.
    pub(crate) const CLOCKS_APART: Duration = Duration::from_secs(1);
    /// How long a pending seed waits for its first code.
    pub(crate) const PENDING_LIFE: Duration = Duration::from_mins(1);
    const VERSIONS: u32 = 40;
    const FIRST_STEP: u64 = 1_000_000;

    /// Setups that are small enough to be explored to their end. Together they have everything that the protocol guards
    /// against.
    #[must_use]
    pub fn all() -> [(&'static str, Self); 18] {
        [
            (
                "one device is unlocked, given a new seed and registered again",
                Self::operated_on(),
            ),
            ("four requests for three steps", Self::crowded()),
            ("guesses at the end of the budget, beside the owner", Self::guessed_at()),
            ("the device is disabled", Self::disabled()),
            (
                "codes of both seeds of a device that is registered again",
                Self::reregistered(),
            ),
            ("authIds expire, and the clock is set back", Self::expiring()),
            ("another client has the authId", Self::shared_with_another_client()),
            (
                "a new device is activated by two operators concurrently",
                Self::first_activated(),
            ),
            ("a new seed is activated while the old one is used", Self::replaced()),
            (
                "two operators offer a seed each, and time passes",
                Self::replaced_twice(),
            ),
            (
                "a new device is registered again while it is activated",
                Self::replaced_unused(),
            ),
            (
                "a device is locked and disabled while a new seed is activated",
                Self::activated_when_closed(),
            ),
            ("two register the same device at once", Self::registered_at_once()),
            ("a device is removed, and two register another", Self::removed()),
            (
                "a device is removed while it is disabled and given a new seed",
                Self::removed_when_disabled(),
            ),
            (
                "a device that was never in use gives way to another one",
                Self::evicted(),
            ),
            (
                "seeds are sealed again twice while a new one is activated",
                Self::sealed_again(),
            ),
            (
                "a seed is sealed again while its device is removed and registered",
                Self::sealed_and_removed(),
            ),
        ]
    }

    /// At one moment, when one of two clocks that are a second apart shows the next step.
    fn of(requests: &[&[Offer]]) -> Self {
        Self {
            requests: requests.iter().map(|offers| offers.to_vec()).collect(),
            commands: Vec::new(),
            use_cases: Vec::new(),
            first: Status::Active,
            auths: 2,
            moments: vec![Duration::from_secs(29)],
            clock_set_back: false,
            losses: true,
            operations: Vec::new(),
            failed_before: 0,
            singles_left: 2,
            sealed: false,
            mutant: None,
        }
    }

    /// A single code, a pair and a guess, and an operator who does what operators do.
    #[must_use]
    pub fn operated_on() -> Self {
        Self {
            operations: vec![Operation::Reregister, Operation::SwapSeed, Operation::Unlock],
            ..Self::of(&[&[Offer::single(0)], &[Offer::pair(0)], &[WRONG]])
        }
    }

    /// Four requests for three steps.
    #[must_use]
    pub fn crowded() -> Self {
        Self {
            losses: false,
            moments: [0, 29].map(Duration::from_secs).to_vec(),
            ..Self::of(&[
                &[Offer::single(0), WRONG],
                &[Offer::single(0)],
                &[Offer::pair(0)],
                &[Offer::single(1)],
            ])
        }
    }

    /// One more wrong code ends the budget and begins the ladder.
    #[must_use]
    pub fn guessed_at() -> Self {
        Self {
            failed_before: 4,
            singles_left: 1,
            operations: vec![Operation::Unlock],
            ..Self::of(&[&[WRONG, WRONG_PAIR], &[WRONG, Offer::pair(0)], &[WRONG]])
        }
    }

    /// An operator disables the device.
    #[must_use]
    pub fn disabled() -> Self {
        Self {
            operations: vec![Operation::Disable],
            ..Self::of(&[&[Offer::single(0), WRONG], &[Offer::pair(0)], &[Offer::single(1)]])
        }
    }

    /// Codes of both seeds, before and after.
    #[must_use]
    pub fn reregistered() -> Self {
        Self {
            operations: vec![Operation::Reregister],
            ..Self::of(&[
                &[Offer::single(0), WRONG],
                &[Offer::single(0).of_second_seed()],
                &[Offer::pair(0), Offer::pair(0).of_second_seed()],
            ])
        }
    }

    /// The slower clock is at the last second of an authId, then past all that is remembered of it, then set back.
    #[must_use]
    pub fn expiring() -> Self {
        Self {
            moments: [0, 119, 241].map(Duration::from_secs).to_vec(),
            clock_set_back: true,
            losses: false,
            ..Self::of(&[
                &[Offer::single(0)],
                &[Offer::single(4), Offer::single(8)],
                &[Offer::single(4)],
                &[Offer::single(5)],
            ])
        }
    }

    /// Another client knows the authId, and the code.
    #[must_use]
    pub fn shared_with_another_client() -> Self {
        Self::of(&[
            &[Offer::single(0).by_another_client(), WRONG.by_another_client()],
            &[Offer::pair(0).by_another_client(), Offer::pair(0)],
            &[Offer::single(0)],
        ])
    }

    /// Two operators ask for the first code, and its owner signs in with it, or with the next one.
    #[must_use]
    pub fn first_activated() -> Self {
        Self {
            commands: vec![
                vec![vec![Offer::single(0), WRONG], vec![Offer::single(1)]],
                vec![vec![Offer::pair(1), WRONG]],
            ],
            first: Status::ActivationRequired,
            auths: 1,
            operations: vec![Operation::Unlock],
            ..Self::of(&[&[Offer::single(0), Offer::single(1)]])
        }
    }

    /// A new seed is offered and activated, with codes of both, while there are sign-ins with codes of both.
    #[must_use]
    pub fn replaced() -> Self {
        let new = Offer::single(0).of_second_seed();
        Self {
            commands: vec![vec![vec![new, Offer::single(0), WRONG]]],
            use_cases: vec![UseCase::Register],
            ..Self::of(&[&[Offer::single(0), new], &[Offer::pair(0)]])
        }
    }

    /// The first new seed is at its end at the second moment, or it is replaced by another one.
    #[must_use]
    pub fn replaced_twice() -> Self {
        let (first, second) = (Offer::single(1).of_seed(1), Offer::single(1).of_seed(2));
        Self {
            commands: vec![vec![vec![first, second]]],
            use_cases: vec![UseCase::Register; 2],
            auths: 1,
            moments: [0, 60].map(Duration::from_secs).to_vec(),
            ..Self::of(&[&[Offer::single(1)]])
        }
    }

    /// A device that was never in use is registered again while the first registration is being finished.
    #[must_use]
    pub fn replaced_unused() -> Self {
        Self {
            commands: vec![
                vec![vec![Offer::single(0), WRONG]],
                vec![vec![Offer::pair(0).of_second_seed(), Offer::single(1)]],
            ],
            use_cases: vec![UseCase::Register],
            first: Status::ActivationRequired,
            auths: 1,
            ..Self::of(&[&[Offer::single(0), Offer::single(1).of_second_seed()]])
        }
    }

    /// One more wrong code closes single codes, an operator opens them, and others disable the device and remove it.
    #[must_use]
    pub fn activated_when_closed() -> Self {
        let (single, pair) = (Offer::single(0).of_second_seed(), Offer::pair(0).of_second_seed());
        Self {
            commands: vec![vec![vec![WRONG, WRONG_PAIR], vec![single, pair]]],
            use_cases: vec![UseCase::Register],
            auths: 1,
            losses: false,
            operations: vec![
                Operation::Unlock,
                Operation::Disable,
                Operation::Enable,
                Operation::Reregister,
            ],
            failed_before: 4,
            singles_left: 1,
            ..Self::of(&[&[WRONG, Offer::single(0)]])
        }
    }

    /// A device in use is removed, and two register another.
    #[must_use]
    pub fn removed() -> Self {
        let second = Offer::single(0).of_second_seed();
        Self {
            commands: vec![vec![vec![second, Offer::single(0).of_seed(2)]]],
            use_cases: vec![UseCase::Remove, UseCase::Register, UseCase::Register],
            auths: 0,
            ..Self::of(&[])
        }
    }

    /// Two register a device anew that was never in use, and both registrations are activated.
    #[must_use]
    pub fn registered_at_once() -> Self {
        Self {
            commands: vec![
                vec![vec![Offer::single(0), Offer::single(0).of_second_seed()]],
                vec![vec![Offer::pair(0).of_seed(2), WRONG]],
            ],
            use_cases: vec![UseCase::Register; 2],
            first: Status::ActivationRequired,
            auths: 0,
            ..Self::of(&[])
        }
    }

    /// A device in use is removed while it is disabled and given a new seed.
    #[must_use]
    pub fn removed_when_disabled() -> Self {
        Self {
            commands: vec![vec![vec![Offer::single(0).of_second_seed()]]],
            use_cases: vec![UseCase::Remove, UseCase::Register],
            auths: 1,
            operations: vec![Operation::Disable, Operation::Enable],
            ..Self::of(&[&[Offer::single(0), WRONG]])
        }
    }

    /// A device that was never in use gives way to another one, while it is activated and registered again.
    #[must_use]
    pub fn evicted() -> Self {
        Self {
            commands: vec![
                vec![vec![Offer::single(0), WRONG]],
                vec![vec![Offer::pair(0).of_second_seed()]],
            ],
            use_cases: vec![UseCase::Evict, UseCase::Register],
            first: Status::ActivationRequired,
            auths: 1,
            ..Self::of(&[&[Offer::single(1), Offer::single(1).of_second_seed()]])
        }
    }

    /// A new seed is offered and activated beside a sign-in, while two commands seal the seeds again, each under a newer key.
    #[must_use]
    pub fn sealed_again() -> Self {
        let new = Offer::single(0).of_second_seed();
        Self {
            commands: vec![vec![vec![new, WRONG]]],
            use_cases: vec![UseCase::Register, UseCase::Reseal, UseCase::Reseal],
            sealed: true,
            auths: 1,
            ..Self::of(&[&[Offer::single(0), WRONG]])
        }
    }

    /// A device is removed, late or more than once, and registered, while its seed is sealed again.
    #[must_use]
    pub fn sealed_and_removed() -> Self {
        let new = Offer::single(0).of_second_seed();
        Self {
            commands: vec![vec![vec![new]]],
            use_cases: vec![UseCase::Remove, UseCase::Register, UseCase::Reseal],
            sealed: true,
            auths: 0,
            ..Self::of(&[])
        }
    }

    /// Too large to be explored, with everything that operators do to seeds: for random orders of events.
    #[must_use]
    pub fn large_with_operators() -> Self {
        let codes = [Offer::single(0), Offer::single(1), Offer::pair(1)];
        let right = (0..3).flat_map(|seed| codes.map(|code| code.of_seed(seed)));
        let offers: Vec<Offer> = right.chain([WRONG, WRONG_PAIR]).collect();
        Self {
            requests: vec![offers.clone(); 4],
            commands: vec![vec![offers; 4]; 2],
            use_cases: vec![
                UseCase::Register,
                UseCase::Register,
                UseCase::Register,
                UseCase::Remove,
                UseCase::Remove,
                UseCase::Evict,
            ],
            auths: 3,
            moments: [0, 29, 31, 61].map(Duration::from_secs).to_vec(),
            clock_set_back: true,
            operations: vec![Operation::Unlock, Operation::Disable, Operation::Enable],
            failed_before: 2,
            singles_left: 6,
            ..Self::of(&[])
        }
    }

    /// The same with a device that was never in use.
    #[must_use]
    pub fn of_new_device(self) -> Self {
        Self {
            first: Status::ActivationRequired,
            ..self
        }
    }

    /// Too large to be explored: for random orders of events.
    #[must_use]
    pub fn large() -> Self {
        let offers = [-1, 0, 1, 4, 5]
            .into_iter()
            .flat_map(|ahead| [Offer::single(ahead), Offer::pair(ahead)])
            .chain([WRONG, WRONG, WRONG_PAIR])
            .chain([Offer::single(0).of_second_seed(), Offer::pair(4).of_second_seed()])
            .chain([Offer::single(1).by_another_client(), WRONG.by_another_client()])
            .collect();
        Self {
            commands: Vec::new(),
            use_cases: Vec::new(),
            first: Status::Active,
            // Fewer than the wrong pairs that are allowed at a time.
            requests: vec![offers; 8],
            auths: 5,
            moments: [0, 29, 31, 119, 120, 150, 241].map(Duration::from_secs).to_vec(),
            clock_set_back: true,
            losses: true,
            operations: vec![
                Operation::Unlock,
                Operation::SwapSeed,
                Operation::Reregister,
                Operation::Disable,
            ],
            failed_before: 3,
            singles_left: 4,
            sealed: false,
            mutant: None,
        }
    }

    /// The same with a fault.
    #[must_use]
    pub fn with(self, mutant: Mutant) -> Self {
        Self {
            mutant: Some(mutant),
            ..self
        }
    }

    /// How many attempts of activations there may be. They are numbered after the requests of step 3.
    pub(crate) fn attempts(&self) -> usize {
        self.commands.iter().map(Vec::len).sum()
    }

    pub(crate) fn has_operators(&self) -> bool {
        !self.use_cases.is_empty() || !self.commands.is_empty()
    }

    /// The command of an attempt.
    pub(crate) fn command_of(&self, number: usize) -> Option<usize> {
        let attempt = number.checked_sub(self.requests.len())?;
        let commands = self.commands.iter().enumerate();
        let mut attempts = commands.flat_map(|(command, attempts)| attempts.iter().map(move |_| command));
        attempts.nth(attempt)
    }

    /// The offers that a request or an attempt chooses from.
    pub(crate) fn offers(&self, number: usize) -> Option<&[Offer]> {
        let attempts = self.commands.iter().flatten();
        self.requests.iter().chain(attempts).nth(number).map(Vec::as_slice)
    }

    /// The version that a registration begins with: as far from that of every other one as a random one.
    pub(crate) fn first_version(seed: u8) -> u64 {
        u64::from(seed) << Self::VERSIONS
    }

    /// Which registration a device is of.
    pub(crate) const fn registration_of(device: &Device) -> u64 {
        device.version >> Self::VERSIONS
    }

    pub(crate) fn parameters() -> OtpParameters {
        OtpParameters::default()
    }

    pub(crate) fn step(ahead: i64) -> Step {
        Step(Self::FIRST_STEP.saturating_add_signed(ahead))
    }

    /// The time that the clock of a request's instance shows at a moment.
    pub(crate) fn clock(&self, request: usize, moment: usize) -> Timestamp {
        let time = self.time(moment);
        if request % 2 == 1 {
            time.plus(Self::CLOCKS_APART)
        } else {
            time
        }
    }

    pub(crate) fn time(&self, moment: usize) -> Timestamp {
        let first = Self::step(0).start(Self::parameters().period);
        first.plus(self.moments.get(moment).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use shared::otp::{Offer as Offered, Seed, SeedError};

    use super::*;

    #[test]
    fn an_offer_matches_what_its_codes_match() -> Result<(), SeedError> {
        let setup = Setup::operated_on();
        let seed = Seed::from_bytes(b"12345678901234567890", Setup::parameters())?;
        let moments = [0, 29, 30].map(|seconds| setup.time(0).plus(Duration::from_secs(seconds)));
        for (now, ahead) in moments
            .into_iter()
            .flat_map(|now| (-4..=4).map(move |ahead| (now, ahead)))
        {
            let first = Setup::step(ahead);
            let (code, next) = (seed.code(first), seed.code(first.next()));
            for (offer, offered) in [
                (Offer::single(ahead), Offered::Single(code.clone())),
                (Offer::pair(ahead), Offered::Pair(code, next)),
            ] {
                let (model, real) = (offer.matches(0, now), seed.matches(&offered, now));
                let none = Step(0);
                assert_eq!(model.highest_above(none), real.highest_above(none), "{offer:?}");
            }
        }
        Ok(())
    }
}

//! Codes, seeds, and which time steps a code matches (RFC 6238 over RFC 4226, through `totp-rs`).
//!
//! Nothing here decides: a match is only a fact about a code and a seed. Whether it counts is up to `device::decide`.

use std::fmt::{self, Write as _};

use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::clock::Timestamp;
use crate::error::RandomError;
use crate::random::Random;

/// The hash under the HMAC (RFC 6238, section 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// HMAC-SHA-1, which every authenticator app supports.
    #[default]
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha512];

    /// The written form, as in `otpauth://` URIs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    /// From the written form.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == raw)
    }

    const fn to_library(self) -> totp_rs::Algorithm {
        match self {
            Self::Sha1 => totp_rs::Algorithm::SHA1,
            Self::Sha256 => totp_rs::Algorithm::SHA256,
            Self::Sha512 => totp_rs::Algorithm::SHA512,
        }
    }
}

/// How many digits a code has (RFC 4226, section 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Digits {
    /// 6 digits, which every authenticator app supports.
    #[default]
    Six,
    /// 8 digits.
    Eight,
}

impl Digits {
    /// The number.
    #[must_use]
    pub const fn count(self) -> u8 {
        match self {
            Self::Six => 6,
            Self::Eight => 8,
        }
    }

    /// From the number.
    #[must_use]
    pub const fn from_count(count: u64) -> Option<Self> {
        match count {
            6 => Some(Self::Six),
            8 => Some(Self::Eight),
            _ => None,
        }
    }
}

/// How long a time step lasts (RFC 6238, section 4.1, *X*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Period {
    /// 30 seconds, which every authenticator app supports.
    #[default]
    Thirty,
    /// 60 seconds.
    Sixty,
}

impl Period {
    /// The length in seconds.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Thirty => 30,
            Self::Sixty => 60,
        }
    }

    /// From the length in seconds.
    #[must_use]
    pub const fn from_seconds(seconds: u64) -> Option<Self> {
        match seconds {
            30 => Some(Self::Thirty),
            60 => Some(Self::Sixty),
            _ => None,
        }
    }
}

/// How codes are made from a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct OtpParameters {
    /// The hash.
    pub algorithm: Algorithm,
    /// The digits of a code.
    pub digits: Digits,
    /// The length of a step.
    pub period: Period,
}

/// A time step: how many periods have passed since the Unix epoch (RFC 6238, section 4.2, *T*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Step(pub u64);

impl Step {
    /// The step at a time.
    #[must_use]
    pub const fn at(now: Timestamp, period: Period) -> Self {
        Self(now.as_secs() / period.seconds())
    }

    /// When the step begins.
    #[must_use]
    pub const fn start(self, period: Period) -> Timestamp {
        Timestamp::from_secs(self.0.saturating_mul(period.seconds()))
    }

    /// The step after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The most digits that a code can have.
const LONGEST: usize = 8;
/// How far a user's clock may be behind to be recognised: every time zone.
const MOST_SECONDS_LATE: u64 = 14 * 3_600;

/// A code that a user typed: 6 or 8 ASCII digits. Its `Debug` does not show it; its memory is cleared on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct OtpCode(String);

/// Why something is not a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code is 6 or 8 ASCII digits; spaces and hyphens between them are removed")]
pub struct NotACode;

impl OtpCode {
    /// From the typed text. ASCII spaces and hyphens are removed, once, before anything else reads it.
    ///
    /// # Errors
    /// [`NotACode`] unless 6 or 8 ASCII digits remain.
    pub fn parse(raw: &str) -> Result<Self, NotACode> {
        // Full capacity from the start: a buffer that grows would leave copies behind.
        let mut digits = Self(String::with_capacity(LONGEST));
        for character in raw.chars().filter(|character| !matches!(character, ' ' | '-')) {
            if !character.is_ascii_digit() || digits.0.len() == LONGEST {
                return Err(NotACode);
            }
            digits.0.push(character);
        }
        if matches!(digits.0.len(), 6 | LONGEST) {
            Ok(digits)
        } else {
            Err(NotACode)
        }
    }

    fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for OtpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtpCode(…)")
    }
}

/// What a user typed: one code, or two consecutive codes with the earlier first.
#[derive(Debug, Clone)]
pub enum Offer {
    /// `otp`.
    Single(OtpCode),
    /// `otps`.
    Pair(OtpCode, OtpCode),
}

impl Offer {
    /// Whether it is one code or two.
    #[must_use]
    pub const fn kind(&self) -> OfferKind {
        match self {
            Self::Single(_) => OfferKind::Single,
            Self::Pair(..) => OfferKind::Pair,
        }
    }
}

/// Whether an offer is one code or two consecutive ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfferKind {
    /// One code.
    Single,
    /// Two consecutive codes.
    Pair,
}

/// How many candidates every offer is compared with: three for a single code (one step of clock drift each way, RFC
/// 6238, section 5.2), three for a pair.
pub const CANDIDATES: usize = 3;

/// Which steps an offer matches. Of a pair, the steps are those of its earlier code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Matches {
    kind: OfferKind,
    steps: [Option<Step>; CANDIDATES],
}

impl Matches {
    /// From steps that matched, for tests and models without a seed.
    #[must_use]
    pub const fn new(kind: OfferKind, steps: [Option<Step>; CANDIDATES]) -> Self {
        Self { kind, steps }
    }

    /// Whether it was one code or two.
    #[must_use]
    pub const fn kind(&self) -> OfferKind {
        self.kind
    }

    /// The highest match above `last`, as the last step that accepting it uses: of a pair the later one.
    ///
    /// Both steps of a pair must be unused, so its earlier one is compared.
    #[must_use]
    pub fn highest_above(&self, last: Step) -> Option<Step> {
        let lowest_step = self.steps.iter().flatten().filter(|step| **step > last).max()?;
        Some(match self.kind {
            OfferKind::Single => *lowest_step,
            OfferKind::Pair => lowest_step.next(),
        })
    }

    /// Whether anything matched at all.
    #[must_use]
    pub fn any(&self) -> bool {
        self.steps.iter().any(Option::is_some)
    }
}

/// Why a seed cannot be used. The text is for the operator and holds nothing of the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// Not base32 (RFC 4648, section 6).
    #[error("the seed is not base32")]
    NotBase32,
    /// Fewer than 80 or more than 1,024 bits.
    #[error("the seed has fewer than 80 or more than 1,024 bits")]
    Length,
}

/// The secret that an authenticator app and this service share, ready to make codes.
///
/// It has no `Display` and no `Serialize`; its `Debug` does not show it; its memory is cleared on drop.
pub struct Seed {
    totp: totp_rs::Totp,
    parameters: OtpParameters,
}

impl Seed {
    /// The fewest accepted. New seeds have 160 bits (RFC 4226, section 4, R6); fewer than 128 come only from an import with
    /// an explicit option.
    const FEWEST_BYTES: usize = 10;
    const MOST_BYTES: usize = 128;

    /// From raw bytes.
    ///
    /// # Errors
    /// [`SeedError::Length`].
    pub fn from_bytes(bytes: &[u8], parameters: OtpParameters) -> Result<Self, SeedError> {
        if !(Self::FEWEST_BYTES..=Self::MOST_BYTES).contains(&bytes.len()) {
            return Err(SeedError::Length);
        }
        // `build` would refuse seeds under 128 bits; length, digits and period are checked by the types here.
        let totp = totp_rs::Builder::new()
            .with_algorithm(parameters.algorithm.to_library())
            .with_digits(parameters.digits.count())
            .with_step_duration(parameters.period.seconds())
            .with_secret(totp_rs::Secret::new(bytes.into()))
            .build_noncompliant();
        Ok(Self { totp, parameters })
    }

    /// A new seed of 160 bits (RFC 4226, section 4, R6).
    ///
    /// # Errors
    /// [`RandomError`].
    pub fn generate(random: &impl Random, parameters: OtpParameters) -> Result<Self, RandomError> {
        let mut bytes = Zeroizing::new([0; 20]);
        for chunk in bytes.chunks_mut(16) {
            let fresh = Zeroizing::new(random.sixteen_bytes()?);
            for (to, from) in chunk.iter_mut().zip(fresh.iter()) {
                *to = *from;
            }
        }
        Self::from_bytes(bytes.as_slice(), parameters).map_err(|error| RandomError(Box::new(error)))
    }

    /// From base32; case, spaces, hyphens and padding do not matter.
    ///
    /// # Errors
    /// [`SeedError`].
    pub fn from_base32(raw: &str, parameters: OtpParameters) -> Result<Self, SeedError> {
        let mut letters = Zeroizing::new(String::with_capacity(raw.len()));
        letters.extend(
            raw.trim_end_matches(['=', ' ', '-'])
                .chars()
                .filter(|c| !matches!(c, ' ' | '-'))
                .map(|c| c.to_ascii_uppercase()),
        );
        let bytes = data_encoding::BASE32_NOPAD
            .decode(letters.as_bytes())
            .map_err(|_| SeedError::NotBase32)?;
        Self::from_bytes(&Zeroizing::new(bytes), parameters)
    }

    /// How codes are made from it.
    #[must_use]
    pub const fn parameters(&self) -> OtpParameters {
        self.parameters
    }

    /// Base32 in upper case without padding, as it is stored.
    #[must_use]
    pub fn to_base32(&self) -> Zeroizing<String> {
        Zeroizing::new(data_encoding::BASE32_NOPAD.encode(self.totp.secret().as_bytes()))
    }

    /// The raw bytes, to be sealed.
    #[cfg(feature = "aws")]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.totp.secret().as_bytes()
    }

    /// The code of a step.
    #[must_use]
    pub fn code(&self, step: Step) -> OtpCode {
        let seconds = step.0.saturating_mul(self.parameters.period.seconds());
        let mut code = OtpCode(String::with_capacity(LONGEST));
        // Writing to a string does not fail.
        let _ = write!(code.0, "{}", self.totp.generate(seconds));
        code
    }

    /// Which steps an offer matches at a time.
    ///
    /// A single code is compared with the steps n−1, n, n+1 (n the step now); a pair with the pairs that begin at
    /// n−2, n−1, n, each as one string, so that nothing is revealed about one half. Every candidate is compared, in
    /// constant time, and none ends the search early.
    #[must_use]
    pub fn matches(&self, offer: &Offer, now: Timestamp) -> Matches {
        let step = Step::at(now, self.parameters.period).0;
        let back = match offer.kind() {
            OfferKind::Single => 1,
            OfferKind::Pair => 2,
        };
        // Near the epoch there are fewer steps in the past.
        let candidates: [Option<Step>; CANDIDATES] =
            [0, 1, 2].map(|forward: u64| (step + forward).checked_sub(back).map(Step));
        let offered = match offer {
            Offer::Single(code) => joined(code, None),
            Offer::Pair(earlier, later) => joined(earlier, Some(later)),
        };
        let steps = candidates.map(|candidate| {
            let candidate = candidate?;
            let right = match offer.kind() {
                OfferKind::Single => joined(&self.code(candidate), None),
                OfferKind::Pair => joined(&self.code(candidate), Some(&self.code(candidate.next()))),
            };
            bool::from(offered.ct_eq(&right)).then_some(candidate)
        });
        Matches {
            kind: offer.kind(),
            steps,
        }
    }
}

impl Seed {
    /// How many seconds ago a code was right that is wrong now: from three steps to 14 hours, which is every time zone.
    /// `None` if it never was. Of several times, the last.
    ///
    /// Never the step just before the window, which is half of a pair, and never the future, which would give a guesser a
    /// code. Every candidate is compared, in constant time, and none ends the search early.
    #[must_use]
    pub fn seconds_late(&self, code: &OtpCode, now: Timestamp) -> Option<u64> {
        const FIRST: u64 = 3;
        let period = self.parameters.period;
        let step = Step::at(now, period).0;
        let offered = joined(code, None);
        let was_right = |steps: u64| {
            let candidate = Step(step.checked_sub(steps)?);
            bool::from(offered.ct_eq(&joined(&self.code(candidate), None))).then_some(steps)
        };
        let farthest = MOST_SECONDS_LATE / period.seconds();
        let last = (FIRST..=farthest)
            .rev()
            .fold(None, |last, steps| was_right(steps).or(last));
        last.map(|steps| steps * period.seconds())
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seed")
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

/// Codes as they are compared. Callers see only that they can be compared in constant time: there is no `==` to use by
/// mistake, and no bytes.
struct Joined(Zeroizing<Vec<u8>>);

impl ConstantTimeEq for Joined {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

fn joined(first: &OtpCode, second: Option<&OtpCode>) -> impl ConstantTimeEq + use<> {
    let mut whole = Zeroizing::new(Vec::with_capacity(2 * LONGEST));
    whole.extend_from_slice(first.as_bytes());
    whole.extend_from_slice(second.map_or(&[], OtpCode::as_bytes));
    Joined(whole)
}

impl OtpCode {
    /// The digits, for the one place that shows a code to a person: a tool on a developer's own machine.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests;

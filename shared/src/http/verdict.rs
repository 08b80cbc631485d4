//! What a code comes to on the wire, at a sign-in and at an activation alike.

use super::body::Members;
use super::error::{Code, Failure};
use crate::clock::Timestamp;
use crate::device::{Device, Refusal, Verdict};
use crate::names::AuthId;
use crate::otp::{Offer, OfferKind, OtpCode, Period};
use crate::policy::Policy;

/// A typed code; cleared on drop.
type Typed = zeroize::Zeroizing<String>;

impl Members<'_> {
    /// The `otp` or `otps` of a body.
    ///
    /// # Errors
    /// [`Failure`] (400), which is no guess and is not counted.
    pub fn offer(&self) -> Result<Offer, Failure> {
        const EITHER: &str = "Send either otp or otps";
        const OTP: &str = "otp must be a string of 6 or 8 digits; spaces and hyphens between them are ignored";
        const OTPS: &str = "otps must be an array of two strings of 6 or 8 digits each, the earlier code first; spaces and \
                            hyphens between digits are ignored";
        let code = |raw: &str, expected| OtpCode::parse(raw).map_err(|_| Failure::invalid(expected));
        match (
            self.optional::<Typed>("otp", OTP)?,
            self.optional::<[Typed; 2]>("otps", OTPS)?,
        ) {
            (Some(otp), None) => Ok(Offer::Single(code(&otp, OTP)?)),
            (None, Some([earlier, later])) => Ok(Offer::Pair(code(&earlier, OTPS)?, code(&later, OTPS)?)),
            (Some(_), Some(_)) | (None, None) => Err(Failure::invalid(EITHER)),
        }
    }
}

impl Failure {
    /// The answer to an attempt that was not evaluated.
    #[must_use]
    pub fn refused(refusal: Refusal, now: Timestamp) -> Self {
        match refusal {
            Refusal::Expired => Self::new(Code::AuthExpired, "expired"),
            Refusal::AlreadyUsed => Self::new(Code::AuthAlreadyUsed, "already_used"),
            Refusal::Disabled => Self::new(Code::DeviceDisabled, "disabled"),
            Refusal::NotActive => Self::new(Code::DeviceNotActive, "not_active"),
            Refusal::Exhausted => Self::new(Code::AuthAttemptsExhausted, "exhausted"),
            Refusal::TwoCodesRequired { single_codes_at } => Self {
                codes_required: Some(2),
                single_codes_after_seconds: single_codes_at.map(|opens| opens.seconds_from(now)),
                ..Self::new(Code::TwoCodesRequired, "single_codes_gated")
            },
            Refusal::TooManyPairs { pairs_at } => Self {
                retry_after_seconds: Some(pairs_at.seconds_from(now)),
                ..Self::new(Code::TooManyAttempts, "pairs_gated")
            },
        }
    }

    /// The answer to an attempt that was not accepted; `device` is the state that its write left, `period` that of the seed
    /// whose codes were sent.
    #[must_use]
    pub fn wrong(
        verdict: Verdict,
        kind: OfferKind,
        device: &Device,
        period: Period,
        auth_id: AuthId,
        now: Timestamp,
        policy: &Policy,
    ) -> Self {
        let wrong = |code, reason| Self {
            codes_required: Some(if device.single_codes_open(now, policy) { 1 } else { 2 }),
            attempts_remaining: (kind == OfferKind::Single).then(|| device.attempts_left(auth_id)),
            ..Self::new(code, reason)
        };
        match (verdict, kind) {
            (Verdict::Replayed, _) => Self {
                retry_after_seconds: Some(device.used_until(period).seconds_from(now)),
                ..wrong(Code::OtpReplayed, "replayed")
            },
            (_, OfferKind::Single) => wrong(Code::OtpRejected, "wrong_code"),
            (_, OfferKind::Pair) => wrong(Code::OtpRejected, "wrong_pair"),
        }
    }
}

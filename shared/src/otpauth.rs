//! The `otpauth://totp/…` URI of a new seed, for an authenticator app (the Key URI Format of Google Authenticator's wiki).
//!
//! The label is `issuer:user (device)`. Every part is percent-encoded (RFC 3986, section 2.1) down to the unreserved
//! characters (section 2.3), a space as `%20`; the only raw colon is the one between issuer and account. Apps split the
//! decoded label at its first colon, so an issuer has none ([`Issuer`]); a user name may have some: pyotp and Google
//! Authenticator show it whole; Aegis, when there are several, shows the whole label as the account, and the codes stay
//! right. The device is in the account because apps that keep one entry per issuer and account (Microsoft's) replace
//! the entry of a user's first device with that of the second otherwise.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::names::{DeviceName, UserName};
use crate::otp::{OtpParameters, Seed};

/// Everything but the unreserved characters (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The issuer that an authenticator app shows: 1–64 characters after NFC, without a colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer(String);

/// Why an issuer was refused. Holds nothing of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssuerError {
    /// Empty, or too long.
    #[error("an issuer has 1 to 64 characters")]
    Length,
    /// Apps split the label at the first colon.
    #[error("an issuer must not have a colon: authenticator apps would cut it there")]
    Colon,
    /// Control characters, or white space around it.
    #[error("an issuer must not have control characters or outer white space")]
    Character,
}

impl Issuer {
    /// The most characters that an issuer may have.
    pub const LONGEST: usize = 64;

    /// Normalises and checks an issuer.
    ///
    /// # Errors
    /// [`IssuerError`].
    pub fn parse(raw: &str) -> Result<Self, IssuerError> {
        let issuer: String = raw.nfc().collect();
        if issuer.is_empty() || issuer.chars().count() > Self::LONGEST {
            return Err(IssuerError::Length);
        }
        if issuer.contains(':') {
            return Err(IssuerError::Colon);
        }
        if issuer.chars().any(char::is_control) || issuer.trim() != issuer {
            return Err(IssuerError::Character);
        }
        Ok(Self(issuer))
    }

    /// The issuer in NFC.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an app shows for a device: `user (device)`.
#[must_use]
pub fn account_of(user: &UserName, device: &DeviceName) -> String {
    format!("{} ({})", user.as_str(), device.as_str())
}

/// The URI of a seed. It holds the seed: show it once, to the user alone.
#[must_use]
pub fn build(issuer: &Issuer, user: &UserName, device: &DeviceName, seed: &Seed) -> Zeroizing<String> {
    const REST: usize = "otpauth://totp/:?secret=&issuer=&algorithm=SHA512&digits=8&period=60".len();
    let account = account_of(user, device);
    let secret = seed.to_base32();
    let OtpParameters {
        algorithm,
        digits,
        period,
    } = seed.parameters();
    let encoded = |part| utf8_percent_encode(part, ENCODED);
    // Of its final size: a buffer that grows leaves copies behind.
    let longest = REST + 3 * (2 * issuer.as_str().len() + account.len()) + secret.len();
    let mut uri = Zeroizing::new(String::with_capacity(longest));
    // Writing to a string does not fail.
    let _ = write!(
        uri,
        "otpauth://totp/{}:{}?secret={}&issuer={}&algorithm={}&digits={}&period={}",
        encoded(issuer.as_str()),
        encoded(&account),
        secret.as_str(),
        encoded(issuer.as_str()),
        algorithm.as_str(),
        digits.count(),
        period.seconds(),
    );
    uri
}

//! Reads `otpauth://totp/…` URIs (the Key URI Format of Google Authenticator's wiki) from the exports of other systems.
//! `shared::otpauth` writes them.

use std::fmt;

use percent_encoding::percent_decode_str;
use shared::otp::{OtpParameters, Seed};
use zeroize::Zeroizing;

use super::encodings::{SeedTextError, looks_hexadecimal, seed_from_base32};
use super::parameters::{self, or_default, shown_name};

/// The parameters that are read.
const READ: [&str; 5] = ["secret", "issuer", "algorithm", "digits", "period"];
/// The parameters that only concern what an app shows: of `FreeOTP` (`image`, `color`, `lock`), Stratum (`icon`), andOTP
/// (`tags`, `thumbnail`), Ente (`codeDisplay`), privacyIDEA (`creator`). In lower case.
const DISPLAY_ONLY: [&str; 8] = [
    "image",
    "color",
    "lock",
    "icon",
    "tags",
    "thumbnail",
    "codedisplay",
    "creator",
];
/// The most bytes of a URI that is read: three times that of the longest names.
pub const LONGEST: usize = 16 * 1024;

/// Why a URI was refused. Holds nothing of the input but the name of an unknown parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme.
    #[error("this is not an otpauth:// URI")]
    Scheme,
    /// More than [`LONGEST`] bytes.
    #[error("the URI is too long")]
    Length,
    /// HOTP (RFC 4226).
    #[error("the URI is for counter-based codes (hotp); only time-based codes (totp) are supported")]
    CounterBased,
    /// Neither `totp` nor `hotp`.
    #[error("the URI is not for time-based codes: it must begin with otpauth://totp/")]
    Type,
    /// In a line of its own it would be read, here it would be part of a name.
    #[error("another otpauth:// URI follows in the same line: put each in a line of its own")]
    Second,
    /// What follows a raw `#` belongs to neither label nor parameters.
    #[error("the URI has a raw #: write it as %23")]
    Fragment,
    /// A `%` without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("the URI is not percent-encoded UTF-8: write a % of a name as %25")]
    Encoding,
    /// A control character, raw or decoded.
    #[error("the URI has a control character")]
    Control,
    /// No `secret`.
    #[error("the URI has no secret")]
    NoSecret,
    /// The same parameter twice: readers differ in which one they use.
    #[error("the URI has the same parameter twice")]
    Repeated,
    /// Not SHA1, SHA256 or SHA512.
    #[error("the URI's algorithm must be SHA1, SHA256 or SHA512")]
    Algorithm,
    /// Not 6 or 8.
    #[error("the URI's digits must be 6 or 8")]
    Digits,
    /// Not 30 or 60.
    #[error("the URI's period must be 30 or 60 seconds")]
    Period,
    /// Neither read nor known to be for display only.
    #[error("the URI's parameter {name} is unknown and may change the codes: remove it only if it does not")]
    Unknown { name: String },
    /// `&amp;` between the parameters.
    #[error("the URI is escaped for HTML, so its parameter {name} is unknown: write each &amp; as &")]
    Html { name: String },
    /// The secret.
    #[error(transparent)]
    Seed(#[from] SeedTextError),
    /// Issuer and account cannot be told apart for certain.
    #[error("it is unclear which part of the label is the account: import a CSV file that names the user")]
    Label,
}

/// The two names in an account that [`shared::otpauth::account_of`] wrote: the device is in the parentheses that close at the end.
///
/// Exact for every user name, and for every device name with balanced parentheses. `None` if there are none.
#[must_use]
pub fn names_in(account: &str) -> Option<(&str, &str)> {
    let inner = account.strip_suffix(')')?;
    let mut depth = 0_usize;
    for (at, character) in inner.char_indices().rev() {
        match character {
            ')' => depth += 1,
            '(' if depth > 0 => depth -= 1,
            '(' => {
                let user = inner.get(..at)?.strip_suffix(' ')?;
                let device = inner.get(at + 1..)?;
                return (!user.is_empty() && !device.is_empty()).then_some((user, device));
            }
            _ => {}
        }
    }
    None
}

/// A parsed URI. Its `Debug` shows only the parameters.
pub struct OtpauthUri {
    label: Label,
    issuer: Option<String>,
    /// The seed, with algorithm, digits and period.
    pub seed: Seed,
    /// Whether the secret would be a seed in hexadecimal digits as well.
    pub looks_hexadecimal: bool,
}

impl OtpauthUri {
    /// The issuer: the parameter, or the part of the label before its colon.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref().or(self.label.issuer.as_deref())
    }

    /// The account of the label.
    ///
    /// # Errors
    /// [`UriError::Label`]: the issuers of label and parameter differ, or a colon may belong to the account. A wrong
    /// guess would give one user's seed to another user.
    pub fn account(&self) -> Result<&str, UriError> {
        self.label.account(self.issuer.as_deref())
    }
}

impl fmt::Debug for OtpauthUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtpauthUri")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// A label, decoded.
pub(super) struct Label {
    /// The part before the first raw colon.
    issuer: Option<String>,
    /// The part after it, or all of the label.
    rest: String,
}

impl Label {
    /// A label that was decoded already: which colons were raw is unknown.
    pub(super) const fn from_text(text: String) -> Self {
        Self {
            issuer: None,
            rest: text,
        }
    }

    fn from_uri(raw: &str) -> Result<Self, UriError> {
        let (issuer, rest) = raw
            .split_once(':')
            .map_or((None, raw), |(issuer, rest)| (Some(issuer), rest));
        Ok(Self {
            issuer: issuer
                .map(|issuer| decode(issuer, ' '))
                .transpose()?
                .map(|issuer| issuer.trim().to_owned())
                .filter(|issuer| !issuer.is_empty()),
            // The format allows spaces before the account.
            rest: decode(rest, '+')?.trim_start_matches(' ').to_owned(),
        })
    }

    /// The account; see [`OtpauthUri::account`].
    pub(super) fn account(&self, parameter: Option<&str>) -> Result<&str, UriError> {
        let account = match (&self.issuer, parameter) {
            (Some(issuer), Some(parameter)) if issuer != parameter => return Err(UriError::Label),
            (Some(_), _) => &self.rest,
            (None, parameter) => {
                let after_issuer = parameter
                    .and_then(|parameter| self.rest.strip_prefix(parameter))
                    .and_then(|rest| rest.strip_prefix(':'));
                match after_issuer {
                    Some(account) => account.trim_start_matches(' '),
                    None if self.rest.contains(':') => return Err(UriError::Label),
                    None => &self.rest,
                }
            }
        };
        Ok(account)
    }
}

/// Reads a URI.
///
/// Names of parameters are case-insensitive. A parameter that is neither read nor known to be for display only refuses the
/// URI: an encoder, an offset or another spelling of algorithm, digits or period would make codes that never work.
///
/// # Errors
/// [`UriError`].
pub fn parse(raw: &str) -> Result<OtpauthUri, UriError> {
    const SCHEME: &str = "otpauth://";
    if raw.len() > LONGEST {
        return Err(UriError::Length);
    }
    if raw.chars().any(char::is_control) {
        return Err(UriError::Control);
    }
    let rest = after_prefix(raw, SCHEME).ok_or(UriError::Scheme)?;
    if rest.split(' ').any(|word| after_prefix(word, SCHEME).is_some()) {
        return Err(UriError::Second);
    }
    if rest.contains('#') {
        return Err(UriError::Fragment);
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (kind, label) = path.split_once('/').unwrap_or((path, ""));
    if kind.eq_ignore_ascii_case("hotp") {
        return Err(UriError::CounterBased);
    }
    if !kind.eq_ignore_ascii_case("totp") {
        return Err(UriError::Type);
    }
    let label = Label::from_uri(label)?;
    let query = Query::read(query)?;
    let of = OtpParameters {
        algorithm: or_default(query.value("algorithm"), parameters::algorithm).ok_or(UriError::Algorithm)?,
        digits: or_default(query.value("digits"), parameters::digits).ok_or(UriError::Digits)?,
        period: or_default(query.value("period"), parameters::period).ok_or(UriError::Period)?,
    };
    let secret = query.value("secret").ok_or(UriError::NoSecret)?;
    Ok(OtpauthUri {
        label,
        issuer: query
            .value("issuer")
            .map(|issuer| issuer.trim().to_owned())
            .filter(|issuer| !issuer.is_empty()),
        seed: seed_from_base32(secret, of)?,
        looks_hexadecimal: looks_hexadecimal(secret),
    })
}

/// The text after an ASCII prefix of any case.
pub(super) fn after_prefix<'a>(raw: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = raw.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The known parameters, by their names in lower case. Values of display-only ones are left out.
struct Query(Vec<(Zeroizing<String>, Zeroizing<String>)>);

impl Query {
    fn read(raw: &str) -> Result<Self, UriError> {
        let mut query = Self(Vec::new());
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = decode(raw_name, ' ')?;
            let name = Zeroizing::new(decoded.trim().to_ascii_lowercase());
            // Libraries of Python and PHP write query strings as forms, and apps read them as forms.
            let value = if READ.contains(&name.as_str()) {
                decode(value, ' ')?
            } else if DISPLAY_ONLY.contains(&name.as_str()) {
                Zeroizing::default()
            } else {
                let shown = shown_name(decoded.trim());
                return Err(if name.starts_with("amp;") {
                    UriError::Html { name: shown }
                } else {
                    UriError::Unknown { name: shown }
                });
            };
            if query.value(&name).is_some() {
                return Err(UriError::Repeated);
            }
            query.0.push((name, value));
        }
        Ok(query)
    }

    fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known.as_str() == name)?;
        Some(value)
    }
}

/// Percent-decodes; `plus` replaces a raw `+`: with itself in a path, with a space in a form.
pub(super) fn decode(raw: &str, plus: char) -> Result<Zeroizing<String>, UriError> {
    let complete = raw.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    if !complete {
        return Err(UriError::Encoding);
    }
    // A raw `+` is replaced before `%2B` becomes one.
    let mut text = Zeroizing::new(String::with_capacity(raw.len()));
    text.extend(
        raw.chars()
            .map(|character| if character == '+' { plus } else { character }),
    );
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    bytes.extend(percent_decode_str(&text));
    let decoded = str::from_utf8(&bytes).map_err(|_| UriError::Encoding)?;
    if decoded.chars().any(char::is_control) {
        return Err(UriError::Control);
    }
    let mut whole = Zeroizing::new(String::with_capacity(decoded.len()));
    whole.push_str(decoded);
    Ok(whole)
}

#[cfg(test)]
mod tests;

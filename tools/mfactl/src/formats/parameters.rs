//! Algorithm, digits and period as other systems write them: accepted or refused, never ignored.
//!
//! Whatever else a format says about a seed, and is not read, refuses the seed by its name (`shown_name`).

use shared::otp::{Algorithm, Digits, Period};

/// An algorithm: `SHA1`, `sha-256`, `HmacSHA512` and the like.
///
/// The names are those of RFC 6238, section 1.2, of `otpauth://` URIs, and of the suites in PSKC.
#[must_use]
pub fn algorithm(raw: &str) -> Option<Algorithm> {
    let mut name: String = raw.trim().chars().filter(|c| !matches!(c, '-' | '_')).collect();
    name.make_ascii_uppercase();
    Algorithm::parse(name.strip_prefix("HMAC").unwrap_or(&name))
}

/// The number of digits: `6` or `8`.
#[must_use]
pub fn digits(raw: &str) -> Option<Digits> {
    number(raw).and_then(Digits::from_count)
}

/// The period in seconds: `30` or `60`.
#[must_use]
pub fn period(raw: &str) -> Option<Period> {
    number(raw).and_then(Period::from_seconds)
}

/// The value, or the default if there is none: every reader assumes SHA-1, 6 digits, 30 seconds.
pub(crate) fn or_default<T: Default>(raw: Option<&str>, read: impl Fn(&str) -> Option<T>) -> Option<T> {
    raw.map_or_else(|| Some(T::default()), read)
}

/// A whole number in ASCII digits; unlike `str::parse`, without a sign.
#[must_use]
pub fn number(raw: &str) -> Option<u64> {
    let raw = raw.trim();
    raw.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| raw.parse().ok())?
}

/// A name in a file that is not known, as an error shows it: in full if it has fewer characters than any seed, because a
/// file may be damaged in such a way that a seed stands where a name is expected.
pub(super) fn shown_name(name: &str) -> String {
    const FEWEST_OF_SEED: usize = 16;
    match name.chars().count() {
        0 => "(empty)".to_owned(),
        1..FEWEST_OF_SEED => name.escape_debug().to_string(),
        _ => "(too long to be shown)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_is_recognised_by_the_names_that_exporters_use() {
        for (raw, expected) in [
            ("SHA1", Some(Algorithm::Sha1)),
            ("sha1", Some(Algorithm::Sha1)),
            ("SHA-1", Some(Algorithm::Sha1)),
            ("HMAC-SHA1", Some(Algorithm::Sha1)),
            ("HmacSHA1", Some(Algorithm::Sha1)),
            (" SHA256 ", Some(Algorithm::Sha256)),
            ("HMAC-SHA-256", Some(Algorithm::Sha256)),
            ("hmac_sha512", Some(Algorithm::Sha512)),
            ("", None),
            ("HMAC", None),
            ("MD5", None),
            ("SHA224", None),
            ("SHA1SHA1", None),
            ("HMACHMACSHA1", None),
            ("OCRA-1:HOTP-SHA1-6:C-QN08-PSHA1", None),
        ] {
            assert_eq!(algorithm(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn a_name_that_may_be_a_seed_or_moves_the_cursor_is_not_shown_as_it_is() {
        for (name, shown) in [
            ("amp;digits", "amp;digits"),
            ("Gerät", "Gerät"),
            ("", "(empty)"),
            ("a\u{202e}b\n", "a\\u{202e}b\\n"),
            ("GEZDGNBVGY3TQOJ", "GEZDGNBVGY3TQOJ"),
            ("GEZDGNBVGY3TQOJQ", "(too long to be shown)"),
        ] {
            assert_eq!(shown_name(name), shown);
        }
    }

    #[test]
    fn digits_and_periods_are_plain_numbers_that_the_service_supports() {
        assert_eq!(digits("6"), Some(Digits::Six));
        assert_eq!(digits(" 8 "), Some(Digits::Eight));
        assert_eq!(period("30"), Some(Period::Thirty));
        assert_eq!(period("60"), Some(Period::Sixty));
        for raw in [
            "",
            " ",
            "+6",
            "-6",
            "6.0",
            "7",
            "5",
            "10",
            "٦",
            "six",
            "0x6",
            "99999999999999999999999",
        ] {
            assert_eq!(digits(raw), None, "{raw:?}");
        }
        for raw in ["", "+30", "30s", "15", "0", "-30", "90"] {
            assert_eq!(period(raw), None, "{raw:?}");
        }
    }
}

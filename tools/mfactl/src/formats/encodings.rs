//! Base32, hexadecimal digits and base64 (RFC 4648) as other systems write them, decoded into memory that is cleared.
//!
//! Only imports are lenient: a seed that was read is written in its one canonical form (`Seed::to_base32`), and
//! `Seed::from_base32` stays strict.

use data_encoding::{Encoding, Specification};
use shared::otp::{OtpParameters, Seed, SeedError};
use zeroize::Zeroizing;

/// The input is not in the encoding. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid encoding")]
pub struct InvalidEncoding;

/// Why a text is no seed. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeedTextError {
    /// Not base32, and [`looks_hexadecimal`].
    #[error(
        "the seed is not base32 but looks hexadecimal: `mfactl device import` reads such a seed from a CSV file with a column \
         seedHex"
    )]
    LooksHexadecimal,
    /// Expected hexadecimal digits.
    #[error("the seed is not hexadecimal, two digits for each byte")]
    NotHexadecimal,
    #[error(transparent)]
    Seed(#[from] SeedError),
}

/// Whether a text can be a seed in hexadecimal digits. Base32 of random bytes that looks so as well is rare: one of ten
/// million with 80 bits.
#[must_use]
pub fn looks_hexadecimal(raw: &str) -> bool {
    const FEWEST_DIGITS: usize = 20;
    let digits = || raw.chars().filter(|c| !matches!(c, ' ' | '-' | ':'));
    let count = digits().count();
    count >= FEWEST_DIGITS && count % 2 == 0 && digits().all(|c| c.is_ascii_hexdigit())
}

/// A seed from hexadecimal digits of either case; spaces, hyphens and colons do not matter.
///
/// # Errors
/// [`SeedTextError`].
pub fn seed_from_hexadecimal(raw: &str, parameters: OtpParameters) -> Result<Seed, SeedTextError> {
    let mut digits = Specification::new();
    digits.symbols.push_str("0123456789abcdef");
    digits.translate.from.push_str("ABCDEF");
    digits.translate.to.push_str("abcdef");
    digits.ignore.push_str(" -:");
    let bytes = decode(raw, digits.encoding().ok()).map_err(|InvalidEncoding| SeedTextError::NotHexadecimal)?;
    Ok(Seed::from_bytes(&bytes, parameters)?)
}

/// A seed from base32 (RFC 4648, section 6): case, spaces, hyphens and padding at the end do not matter.
///
/// Bits after the last whole byte do not matter either. RFC 4648, section 3.5, lets a decoder refuse them if they are
/// not zero; exporters that draw random letters write such seeds, and the apps that make the codes drop the bits
/// (Google Authenticator's `Base32String`, Aegis, Python's `base64.b32decode` under pyotp). A length that no encoder
/// writes (1, 3 or 6 letters after a multiple of 8) is refused: apps differ there, and a letter may be missing.
///
/// # Errors
/// [`SeedTextError`].
pub fn seed_from_base32(raw: &str, parameters: OtpParameters) -> Result<Seed, SeedTextError> {
    let mut alphabet = Specification::new();
    alphabet.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
    alphabet.translate.from.push_str("abcdefghijklmnopqrstuvwxyz");
    alphabet.translate.to.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    alphabet.ignore.push_str(" -");
    alphabet.check_trailing_bits = false;
    let letters = raw.trim_end_matches(['=', ' ', '-']);
    match decode(letters, alphabet.encoding().ok()) {
        Ok(bytes) => Ok(Seed::from_bytes(&bytes, parameters)?),
        Err(InvalidEncoding) if looks_hexadecimal(raw) => Err(SeedTextError::LooksHexadecimal),
        Err(InvalidEncoding) => Err(SeedError::NotBase32.into()),
    }
}

/// Bytes from base64 in either alphabet (RFC 4648, sections 4 and 5); white space and padding at the end do not matter.
///
/// # Errors
/// [`InvalidEncoding`].
pub fn bytes_from_base64(raw: &str) -> Result<Zeroizing<Vec<u8>>, InvalidEncoding> {
    let mut alphabet = Specification::new();
    alphabet
        .symbols
        .push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    alphabet.translate.from.push_str("-_");
    alphabet.translate.to.push_str("+/");
    alphabet.ignore.push_str(" \t\r\n");
    let letters = raw.trim_end_matches(['=', ' ', '\t', '\r', '\n']);
    decode(letters, alphabet.encoding().ok())
}

/// Into one buffer of its final size: on an error, `Encoding::decode` would drop what it has read without clearing it.
fn decode(letters: &str, encoding: Option<Encoding>) -> Result<Zeroizing<Vec<u8>>, InvalidEncoding> {
    let encoding = encoding.ok_or(InvalidEncoding)?;
    let longest = encoding.decode_len(letters.len()).or_else(|_| {
        // Characters that are ignored make a length that no encoder writes.
        encoding.decode_len(letters.len().next_multiple_of(8))
    });
    let mut bytes = Zeroizing::new(vec![0; longest.map_err(|_| InvalidEncoding)?]);
    let length = encoding
        .decode_mut(letters.as_bytes(), &mut bytes)
        .map_err(|_| InvalidEncoding)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// The length of a seed in bits.
#[must_use]
pub fn bits_of(seed: &Seed) -> usize {
    seed.to_base32().len() * 5 / 8 * 8
}

#[cfg(test)]
mod tests;

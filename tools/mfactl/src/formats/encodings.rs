//! Base32 and base64 (RFC 4648) as other systems write them, decoded into memory that is cleared.
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

/// A seed from base32 (RFC 4648, section 6): case, spaces, hyphens and padding at the end do not matter.
///
/// Bits after the last whole byte do not matter either. RFC 4648, section 3.5, lets a decoder refuse them if they are
/// not zero; exporters that draw random letters write such seeds, and the apps that make the codes drop the bits
/// (Google Authenticator's `Base32String`, Aegis, Python's `base64.b32decode` under pyotp). A length that no encoder
/// writes (1, 3 or 6 letters after a multiple of 8) is refused: apps differ there, and a letter may be missing.
///
/// # Errors
/// [`SeedError`].
pub fn seed_from_base32(raw: &str, parameters: OtpParameters) -> Result<Seed, SeedError> {
    let mut alphabet = Specification::new();
    alphabet.symbols.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
    alphabet.translate.from.push_str("abcdefghijklmnopqrstuvwxyz");
    alphabet.translate.to.push_str("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    alphabet.ignore.push_str(" -");
    alphabet.check_trailing_bits = false;
    let letters = raw.trim_end_matches(['=', ' ', '-']);
    let bytes = decode(letters, alphabet.encoding().ok()).map_err(|InvalidEncoding| SeedError::NotBase32)?;
    Seed::from_bytes(&bytes, parameters)
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

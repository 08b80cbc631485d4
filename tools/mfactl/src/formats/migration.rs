//! Google Authenticator's export, `otpauth-migration://offline?data=…`: base64 of a protobuf `MigrationPayload`, in as
//! many parts as the app showed QR codes.
//!
//! The format has no public specification; the fields here are those that the app writes and that the importers of other
//! apps read (Aegis, `FreeOTP+`, 2FAS). An entry that cannot be used is an error of that entry, not of the export.

use std::collections::BTreeSet;
use std::fmt;

use prost::Message as _;
use shared::otp::{Algorithm, Digits, OtpParameters, Period, Seed, SeedError};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::encodings::bytes_from_base64;
use super::otpauth::{Label, UriError, after_prefix, decode};

/// The beginning of such a URI.
pub const PREFIX: &str = "otpauth-migration://";
/// The most bytes of a URI that is read: many times as many as a QR code holds.
pub const LONGEST: usize = 256 * 1024;
/// The most parts that an export may have.
pub const MOST_PARTS: u32 = 1_000;

#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct Payload {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Parameters>,
    #[prost(int32, tag = "2")]
    version: i32,
    #[prost(int32, tag = "3")]
    batch_size: i32,
    #[prost(int32, tag = "4")]
    batch_index: i32,
    #[prost(int32, tag = "5")]
    batch_id: i32,
}

// prost reads the bytes of a field into one allocation, which is cleared here.
#[derive(Clone, PartialEq, prost::Message, Zeroize, ZeroizeOnDrop)]
#[prost(skip_debug)]
struct Parameters {
    #[prost(bytes = "vec", tag = "1")]
    secret: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    issuer: String,
    #[prost(int32, tag = "4")]
    algorithm: i32,
    #[prost(int32, tag = "5")]
    digits: i32,
    #[prost(int32, tag = "6")]
    kind: i32,
}

/// Why a URI of an export was refused. Holds nothing of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// Another URI.
    #[error("this is not an otpauth-migration://offline URI with data")]
    Scheme,
    /// More than [`LONGEST`] bytes.
    #[error("the URI is too long")]
    Length,
    /// The data is not base64 of such a message.
    #[error("the data of the export is damaged: export again, and copy the whole URI")]
    Damaged,
    /// An unknown version.
    #[error("the export has a newer version than this program supports")]
    Version,
    /// A part with a number outside its batch.
    #[error("the part numbers of the export are inconsistent")]
    Batch,
}

/// Why an entry of an export cannot be used. Holds nothing of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// HOTP (RFC 4226).
    #[error("the entry is for counter-based codes (HOTP); only time-based codes are supported")]
    CounterBased,
    /// Neither HOTP nor TOTP.
    #[error("the entry does not say whether it is for time-based codes")]
    Type,
    /// MD5, unspecified or unknown.
    #[error("the entry's algorithm must be SHA1, SHA256 or SHA512")]
    Algorithm,
    /// Unspecified or unknown.
    #[error("the entry's digits must be 6 or 8")]
    Digits,
    /// The seed.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// Issuer and account cannot be told apart for certain, or the name has a control character.
    #[error("it is unclear which part of the entry's name is the account: import a CSV file that names the user")]
    Name,
}

/// An entry of an export.
pub struct Entry {
    pub account: String,
    pub issuer: Option<String>,
    /// The seed. Its period is always 30 seconds: the export has no field for it.
    pub seed: Seed,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// One URI of an export.
#[derive(Debug)]
pub struct Part {
    batch_id: i32,
    size: u32,
    index: u32,
    /// The entries, in order.
    pub entries: Vec<Result<Entry, EntryError>>,
}

impl Part {
    /// The number that the parts of one export share; `None` if this part is the whole export.
    #[must_use]
    pub const fn batch_id(&self) -> Option<i32> {
        if self.size > 1 { Some(self.batch_id) } else { None }
    }
}

/// Reads one URI of an export.
///
/// # Errors
/// [`MigrationError`].
pub fn parse(raw: &str) -> Result<Part, MigrationError> {
    if raw.len() > LONGEST {
        return Err(MigrationError::Length);
    }
    let rest = after_prefix(raw, PREFIX).ok_or(MigrationError::Scheme)?;
    let (host, query) = rest.split_once('?').ok_or(MigrationError::Scheme)?;
    if !host.trim_end_matches('/').eq_ignore_ascii_case("offline") {
        return Err(MigrationError::Scheme);
    }
    let mut data = query.split('&').filter_map(|pair| pair.strip_prefix("data="));
    let (Some(encoded), None) = (data.next(), data.next()) else {
        return Err(MigrationError::Scheme);
    };
    // A raw `+` is a digit of base64, not a space.
    let encoded = decode(encoded, '+').map_err(|_| MigrationError::Damaged)?;
    let bytes = bytes_from_base64(&encoded).map_err(|_| MigrationError::Damaged)?;
    let payload = Payload::decode(bytes.as_slice()).map_err(|_| MigrationError::Damaged)?;
    if !(0..=2).contains(&payload.version) {
        return Err(MigrationError::Version);
    }
    // Other apps that write this format omit the numbers of a single part.
    let size = u32::try_from(payload.batch_size.max(1)).map_err(|_| MigrationError::Batch)?;
    let index = u32::try_from(payload.batch_index).map_err(|_| MigrationError::Batch)?;
    if payload.batch_size < 0 || size > MOST_PARTS || index >= size {
        return Err(MigrationError::Batch);
    }
    Ok(Part {
        batch_id: payload.batch_id,
        size,
        index,
        entries: payload.entries.iter().map(read_entry).collect(),
    })
}

fn read_entry(entry: &Parameters) -> Result<Entry, EntryError> {
    match entry.kind {
        1 => return Err(EntryError::CounterBased),
        2 => {}
        _ => return Err(EntryError::Type),
    }
    let parameters = OtpParameters {
        algorithm: match entry.algorithm {
            1 => Algorithm::Sha1,
            2 => Algorithm::Sha256,
            3 => Algorithm::Sha512,
            _ => return Err(EntryError::Algorithm),
        },
        digits: match entry.digits {
            1 => Digits::Six,
            2 => Digits::Eight,
            _ => return Err(EntryError::Digits),
        },
        period: Period::Thirty,
    };
    if entry.name.chars().chain(entry.issuer.chars()).any(char::is_control) {
        return Err(EntryError::Name);
    }
    let issuer = Some(entry.issuer.trim()).filter(|issuer| !issuer.is_empty());
    let label = Label::from_text(entry.name.clone());
    let account = label
        .account(issuer)
        .map_err(|_: UriError| EntryError::Name)?
        .to_owned();
    Ok(Entry {
        account,
        issuer: issuer.map(str::to_owned),
        seed: Seed::from_bytes(&entry.secret, parameters)?,
    })
}

/// Why a part cannot be added to an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// A part of another export.
    #[error("this part belongs to another export than the parts before it")]
    Foreign,
    /// The same part again.
    #[error("part {number} of this export occurs twice")]
    Repeated {
        /// Counted from 1.
        number: u32,
    },
}

/// The parts of one export that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    id: i32,
    size: u32,
    read: BTreeSet<u32>,
}

impl Batch {
    /// Begins with one part.
    #[must_use]
    pub fn new(part: &Part) -> Self {
        Self {
            id: part.batch_id,
            size: part.size,
            read: BTreeSet::from([part.index]),
        }
    }

    /// Adds a part.
    ///
    /// # Errors
    /// [`PartError`].
    pub fn add(&mut self, part: &Part) -> Result<(), PartError> {
        if self.id != part.batch_id || self.size != part.size {
            return Err(PartError::Foreign);
        }
        if self.read.insert(part.index) {
            Ok(())
        } else {
            Err(PartError::Repeated { number: part.index + 1 })
        }
    }

    /// The number of parts that the export has.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// The parts that are missing, counted from 1.
    #[must_use]
    pub fn missing(&self) -> Vec<u32> {
        (0..self.size)
            .filter(|index| !self.read.contains(index))
            .map(|index| index + 1)
            .collect()
    }
}

#[cfg(test)]
mod tests;

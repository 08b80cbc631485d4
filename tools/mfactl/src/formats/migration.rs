//! Google Authenticator's export, `otpauth-migration://offline?data=…`: base64 of a protobuf `MigrationPayload`, in as
//! many parts as the app showed QR codes.
//!
//! The format has no public specification; the fields here are those that the app writes and that the importers of other
//! apps read (Aegis, `FreeOTP+`, 2FAS). An entry that cannot be used is an error of that entry, not of the export. The reader
//! of protobuf is here because libraries drop fields that they do not know, which may be parameters of a seed.

use std::collections::BTreeSet;
use std::fmt;

use shared::otp::{Algorithm, Digits, OtpParameters, Period, Seed, SeedError};

use super::encodings::bytes_from_base64;
use super::otpauth::{Label, UriError, after_prefix, decode};

/// The beginning of such a URI.
pub const PREFIX: &str = "otpauth-migration://";
/// The most bytes of a URI that is read: many times as many as a QR code holds.
pub const LONGEST: usize = 256 * 1024;
/// The most parts that an export may have.
pub const MOST_PARTS: u32 = 1_000;

/// The value of a field (protobuf's encoding of messages).
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The message is cut or damaged.
struct Damaged;

impl From<Damaged> for MigrationError {
    fn from(Damaged: Damaged) -> Self {
        Self::Damaged
    }
}

impl From<Damaged> for EntryError {
    fn from(Damaged: Damaged) -> Self {
        Self::Damaged
    }
}

impl<'a> Value<'a> {
    /// The next field of a message: its number and value.
    fn read(message: &mut &'a [u8]) -> Result<(u64, Self), Damaged> {
        let tag = read_number(message)?;
        let value = match tag & 7 {
            0 => Self::Number(read_number(message)?),
            2 => {
                let length = usize::try_from(read_number(message)?).map_err(|_| Damaged)?;
                let (bytes, rest) = message.split_at_checked(length).ok_or(Damaged)?;
                *message = rest;
                Self::Bytes(bytes)
            }
            // No known field has another type.
            _ => return Err(Damaged),
        };
        Ok((tag >> 3, value))
    }

    const fn number(self) -> Result<u64, Damaged> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) => Err(Damaged),
        }
    }

    const fn bytes(self) -> Result<&'a [u8], Damaged> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(Damaged),
        }
    }
}

fn read_number(message: &mut &[u8]) -> Result<u64, Damaged> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().ok_or(Damaged)?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damaged)
}

/// The fields of a message by their numbers. One that occurs twice is damage: readers differ in which one they use.
struct Fields<'a, const MOST: usize>([Option<Value<'a>>; MOST]);

impl<'a, const MOST: usize> Fields<'a, MOST> {
    const fn new() -> Self {
        Self([None; MOST])
    }

    /// `false` if the field is unknown.
    fn add(&mut self, field: u64, value: Value<'a>) -> Result<bool, Damaged> {
        let place = usize::try_from(field).ok().and_then(|field| self.0.get_mut(field));
        match place.map(|place| place.replace(value)) {
            None => Ok(false),
            Some(None) => Ok(true),
            Some(Some(_)) => Err(Damaged),
        }
    }

    fn value(&self, field: usize) -> Option<Value<'a>> {
        self.0.get(field).copied().flatten()
    }

    /// The number in a field; 0 if it is missing.
    fn number(&self, field: usize) -> Result<u64, Damaged> {
        self.value(field).map_or(Ok(0), Value::number)
    }

    /// The bytes in a field; none if it is missing.
    fn bytes(&self, field: usize) -> Result<&'a [u8], Damaged> {
        self.value(field).map_or(Ok(&[]), Value::bytes)
    }
}

/// Why a URI of an export was refused. Holds nothing of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// Another URI, or another parameter than `data`.
    #[error("this is not an otpauth-migration://offline URI with data and nothing else")]
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
    /// Not known, and may change what the export means.
    #[error("the export has a field that this program does not know (number {field})")]
    UnknownField { field: u64 },
    /// A part with a number outside its batch.
    #[error("the part numbers of the export are inconsistent")]
    Batch,
    #[error("the export has no entries: export again, and copy the whole URI")]
    Empty,
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
    #[error("the entry is damaged, or has a field twice")]
    Damaged,
    /// Not known, and may change the codes.
    #[error("the entry has a field that this program does not know and that may change its codes (number {field})")]
    UnknownField { field: u64 },
    #[error("the entry's name or issuer is not UTF-8: import a CSV file that names the user")]
    NotUtf8,
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
    batch_id: u64,
    size: u32,
    index: u32,
    /// The entries, in order.
    pub entries: Vec<Result<Entry, EntryError>>,
    /// Whether the part ends before the number of parts, which the app writes after the entries: it may have had more.
    pub may_be_cut: bool,
}

impl Part {
    /// The number that the parts of one export share; `None` if this part is the whole export.
    #[must_use]
    pub const fn batch_id(&self) -> Option<u64> {
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
    let mut parameters = query.split('&').filter(|pair| !pair.is_empty());
    let (Some(data), None) = (parameters.next(), parameters.next()) else {
        return Err(MigrationError::Scheme);
    };
    let encoded = data.strip_prefix("data=").ok_or(MigrationError::Scheme)?;
    // A raw `+` is a digit of base64, not a space.
    let encoded = decode(encoded, '+').map_err(|_| MigrationError::Damaged)?;
    let bytes = bytes_from_base64(&encoded).map_err(|_| MigrationError::Damaged)?;
    read_part(&bytes)
}

/// Fields: 1 the entries, 2 the version, 3 the number of parts, 4 the number of this part from 0, 5 that of the export.
fn read_part(mut message: &[u8]) -> Result<Part, MigrationError> {
    let (mut entries, mut fields) = (Vec::new(), Fields::<6>::new());
    while !message.is_empty() {
        let (field, value) = Value::read(&mut message)?;
        if field == 1 {
            entries.push(read_entry(value.bytes()?));
        } else if field == 0 || !fields.add(field, value)? {
            return Err(MigrationError::UnknownField { field });
        }
    }
    if fields.number(2)? > 2 {
        return Err(MigrationError::Version);
    }
    let size = u32::try_from(fields.number(3)?).map_err(|_| MigrationError::Batch)?;
    let index = u32::try_from(fields.number(4)?).map_err(|_| MigrationError::Batch)?;
    if size > MOST_PARTS || index >= size.max(1) {
        return Err(MigrationError::Batch);
    }
    if entries.is_empty() {
        return Err(MigrationError::Empty);
    }
    Ok(Part {
        batch_id: fields.number(5)?,
        size: size.max(1),
        index,
        entries,
        may_be_cut: size == 0,
    })
}

/// Fields: 1 the seed, 2 the name, 3 the issuer, 4 the algorithm, 5 the digits, 6 the type; 7 the counter, which time-based codes
/// do not have, and 8 an id of the entry.
fn read_entry(mut message: &[u8]) -> Result<Entry, EntryError> {
    let mut fields = Fields::<9>::new();
    while !message.is_empty() {
        let (field, value) = Value::read(&mut message)?;
        if field == 0 || !fields.add(field, value)? {
            return Err(EntryError::UnknownField { field });
        }
    }
    match fields.number(6)? {
        1 => return Err(EntryError::CounterBased),
        2 => {}
        _ => return Err(EntryError::Type),
    }
    let parameters = OtpParameters {
        algorithm: match fields.number(4)? {
            1 => Algorithm::Sha1,
            2 => Algorithm::Sha256,
            3 => Algorithm::Sha512,
            _ => return Err(EntryError::Algorithm),
        },
        digits: match fields.number(5)? {
            1 => Digits::Six,
            2 => Digits::Eight,
            _ => return Err(EntryError::Digits),
        },
        period: Period::Thirty,
    };
    let text = |field| str::from_utf8(fields.bytes(field)?).map_err(|_| EntryError::NotUtf8);
    let (name, issuer) = (text(2)?, text(3)?);
    if name.chars().chain(issuer.chars()).any(char::is_control) {
        return Err(EntryError::Name);
    }
    let issuer = Some(issuer.trim()).filter(|issuer| !issuer.is_empty());
    let label = Label::from_text(name.to_owned());
    let account = label
        .account(issuer)
        .map_err(|_: UriError| EntryError::Name)?
        .to_owned();
    Ok(Entry {
        account,
        issuer: issuer.map(str::to_owned),
        seed: Seed::from_bytes(fields.bytes(1)?, parameters)?,
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
    id: u64,
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

//! One entry point for every format: it recognises the format of a file, and yields its rows in order.
//!
//! A row that cannot be used is an error of that row, with its number and what to fix; the others go on. No error shows
//! what was read.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;

use shared::names::{DeviceName, NameError, UserName};
use shared::otp::{OtpParameters, Seed};

use crate::csv::{self, CsvError, CsvRowError};
use crate::encodings::bits_of;
use crate::migration::{self, Batch, EntryError, MigrationError, Part, PartError};
use crate::otpauth::{self, UriError};
use crate::pskc::{self, KeyError, PskcError, PskcOptions};

/// The most bytes of a file: some hundred thousand rows.
pub const LARGEST_FILE: usize = 64 * 1024 * 1024;
/// Seeds with fewer bits need [`ImportOptions::allow_weak_seeds`] (RFC 4226, section 4, R6).
pub const STRONG_BITS: usize = 128;

/// What the operator decides.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions<'a> {
    /// The device of rows that name none. URIs and authenticator exports name a device only if this program wrote
    /// them (`user (device)`); with this the whole account is the user.
    pub device: Option<DeviceName>,
    /// Takes seeds of 80 to 127 bits. Fewer are never taken.
    pub allow_weak_seeds: bool,
    /// For PSKC.
    pub pskc: PskcOptions<'a>,
}

/// Where in the file a row is, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// A line.
    Line(usize),
    /// An entry of the authenticator export in a line.
    Entry {
        /// The line.
        line: usize,
        /// The entry in it.
        entry: usize,
    },
    /// A `KeyPackage` of PSKC.
    KeyPackage(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Entry { line, entry } => write!(f, "line {line}, entry {entry}"),
            Self::KeyPackage(package) => write!(f, "key package {package}"),
        }
    }
}

/// A device to import. Its `Debug` shows neither names nor seed.
pub struct Row {
    /// Which row of the file, counted from 1, rows with errors included: the same in every run over the same file.
    pub number: usize,
    /// Where it is.
    pub place: Place,
    /// Whose device.
    pub user: UserName,
    /// Its name.
    pub device: DeviceName,
    /// Who issued it, as the file has it: for a report only.
    pub issuer: Option<String>,
    /// The seed.
    pub seed: Seed,
}

impl Row {
    /// How codes are made from the seed.
    #[must_use]
    pub const fn parameters(&self) -> OtpParameters {
        self.seed.parameters()
    }

    /// Whether the seed has fewer bits than a new one may have.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        bits_of(&self.seed) < STRONG_BITS
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("number", &self.number)
            .field("place", &self.place)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// A row that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {number} ({place}): {problem}")]
pub struct RowError {
    /// As [`Row::number`].
    pub number: usize,
    /// Where it is.
    pub place: Place,
    /// What is wrong, and what to do.
    pub problem: Problem,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A line among URIs that is none.
    #[error("this line is neither an otpauth:// nor an otpauth-migration:// URI nor a comment (#)")]
    NotAUri,
    /// A URI.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// A URI of an authenticator export.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// An entry of an authenticator export.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// A part of an authenticator export. Its entries are not read.
    #[error("{0}: remove this line")]
    Part(#[from] PartError),
    /// Parts of the export that begins here are not in the file.
    #[error("of the {size} parts of the export that begins here are missing: {}", numbers(.missing))]
    PartsMissing {
        /// How many parts it has.
        size: u32,
        /// Which ones are missing, counted from 1.
        missing: Vec<u32>,
    },
    /// A row of a CSV file.
    #[error(transparent)]
    Csv(#[from] CsvRowError),
    /// A key of a PSKC file.
    #[error(transparent)]
    Pskc(#[from] KeyError),
    /// No user.
    #[error("the row names no user")]
    NoUser,
    /// No device.
    #[error("the row names no device: give one for all rows that name none")]
    NoDevice,
    /// The user's name.
    #[error("the user is not a name: {0}")]
    User(NameError),
    /// The device's name.
    #[error("the device is not a name: {0}")]
    Device(NameError),
    /// 80 to 127 bits.
    #[error("the seed has {bits} bits, fewer than {STRONG_BITS}: allow weak seeds, or give the user a new one")]
    WeakSeed {
        /// How many.
        bits: usize,
    },
    /// The same user and device again.
    #[error("the same user and device are in {first} already: give this device another name, or remove the row")]
    Repeated {
        /// Where it was first.
        first: Place,
    },
}

fn numbers(all: &[u32]) -> String {
    all.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// A file that cannot be read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Nothing in it but comments.
    #[error("the file is empty")]
    Empty,
    /// More than [`LARGEST_FILE`].
    #[error("the file has more than {} MiB: split it", LARGEST_FILE / 1024 / 1024)]
    Size,
    /// Not UTF-8 (RFC 3629).
    #[error("the file is not UTF-8 (line {line}): save it as UTF-8")]
    NotUtf8 {
        /// Where, counted from 1.
        line: usize,
    },
    /// None of the formats.
    #[error(
        "the file is none of: otpauth:// or otpauth-migration:// URIs, one in a line; CSV whose first line names the \
         columns (user,device,seed); PSKC (RFC 6030)"
    )]
    Format,
    /// CSV.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// PSKC.
    #[error(transparent)]
    Pskc(#[from] PskcError),
}

/// Reads a file.
///
/// # Errors
/// [`FileError`] if nothing in it can be read. A row that cannot be used is an `Err` in its place.
pub fn read(file: &[u8], options: &ImportOptions<'_>) -> Result<Vec<Result<Row, RowError>>, FileError> {
    if file.len() > LARGEST_FILE {
        return Err(FileError::Size);
    }
    let text = str::from_utf8(file).map_err(|error| {
        let before = file.get(..error.valid_up_to()).unwrap_or_default();
        FileError::NotUtf8 {
            line: before.split(|byte| *byte == b'\n').count(),
        }
    })?;
    // Spreadsheets write a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first_line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    let mut rows = Rows::new(options);
    let Some(first_line) = first_line else {
        return Err(FileError::Empty);
    };
    if text.trim_start().starts_with('<') {
        for (at, key) in pskc::parse(text.trim_start(), options.pskc)?.into_iter().enumerate() {
            rows.add(Place::KeyPackage(at + 1), key.map(Found::of_key).map_err(Problem::from));
        }
    } else if otpauth::after_prefix(first_line, "otpauth").is_some() {
        rows.add_uris(text);
    } else if csv::looks_like_csv(text) {
        for (line, row) in csv::parse(text)? {
            let found = row.map_err(Problem::from).and_then(Found::of_csv);
            rows.add(Place::Line(line), found);
        }
    } else {
        return Err(FileError::Format);
    }
    Ok(rows.all)
}

/// What a format found, before its names are checked.
struct Found {
    names: Names,
    issuer: Option<String>,
    seed: Seed,
}

enum Names {
    /// The format has a place for each.
    Given {
        user: Option<String>,
        device: Option<String>,
    },
    /// An account, as an app shows it.
    Account(String),
}

impl Found {
    fn of_key(key: pskc::Key) -> Self {
        Self {
            names: Names::Given {
                user: key.user,
                device: key.device,
            },
            issuer: key.issuer,
            seed: key.seed,
        }
    }

    fn of_entry(entry: migration::Entry) -> Self {
        Self {
            names: Names::Account(entry.account),
            issuer: entry.issuer,
            seed: entry.seed,
        }
    }

    fn of_uri(raw: &str) -> Result<Self, Problem> {
        let uri = otpauth::parse(raw)?;
        Ok(Self {
            names: Names::Account(uri.account()?.to_owned()),
            issuer: uri.issuer().map(str::to_owned),
            seed: uri.seed,
        })
    }

    /// Without `user` the URI's label names the user, and the device too if the row does not.
    fn of_csv(row: csv::CsvRow) -> Result<Self, Problem> {
        let names = match (row.user, row.device, row.account) {
            (None, None, Some(account)) => Names::Account(account?),
            (None, device, Some(account)) => Names::Given {
                user: Some(account?),
                device,
            },
            (user, device, _) => Names::Given { user, device },
        };
        Ok(Self {
            names,
            issuer: row.issuer,
            seed: row.seed,
        })
    }
}

struct Rows<'a> {
    options: &'a ImportOptions<'a>,
    all: Vec<Result<Row, RowError>>,
    places: HashMap<(UserName, DeviceName), Place>,
}

impl<'a> Rows<'a> {
    fn new(options: &'a ImportOptions<'a>) -> Self {
        Self {
            options,
            all: Vec::new(),
            places: HashMap::new(),
        }
    }

    fn add(&mut self, place: Place, found: Result<Found, Problem>) {
        let number = self.all.len() + 1;
        let row = found
            .and_then(|found| self.check(number, place, found))
            .map_err(|problem| RowError { number, place, problem });
        self.all.push(row);
    }

    fn check(&mut self, number: usize, place: Place, found: Found) -> Result<Row, Problem> {
        let (user, device) = self.names(&found.names)?;
        let bits = bits_of(&found.seed);
        if bits < STRONG_BITS && !self.options.allow_weak_seeds {
            return Err(Problem::WeakSeed { bits });
        }
        match self.places.entry((user.clone(), device.clone())) {
            Slot::Occupied(first) => return Err(Problem::Repeated { first: *first.get() }),
            Slot::Vacant(free) => free.insert(place),
        };
        Ok(Row {
            number,
            place,
            user,
            device,
            issuer: found.issuer,
            seed: found.seed,
        })
    }

    fn names(&self, names: &Names) -> Result<(UserName, DeviceName), Problem> {
        let (user, device) = match names {
            Names::Given { user, device } => (user.as_deref(), device.as_deref()),
            Names::Account(account) if self.options.device.is_some() => (Some(account.as_str()), None),
            Names::Account(account) => match otpauth::names_in(account) {
                Some((user, device)) => (Some(user), Some(device)),
                None => (Some(account.as_str()), None),
            },
        };
        let user = user.filter(|user| !user.is_empty()).ok_or(Problem::NoUser)?;
        let user = UserName::parse(user).map_err(Problem::User)?;
        let device = match (device, &self.options.device) {
            (Some(device), _) => DeviceName::parse(device).map_err(Problem::Device)?,
            (None, Some(device)) => device.clone(),
            (None, None) => return Err(Problem::NoDevice),
        };
        Ok((user, device))
    }

    fn add_uris(&mut self, text: &str) {
        let mut batches = HashMap::new();
        for (at, line) in text.lines().map(str::trim).enumerate() {
            let place = Place::Line(at + 1);
            if line.is_empty() || line.starts_with('#') {
            } else if otpauth::after_prefix(line, migration::PREFIX).is_some() {
                match migration::parse(line) {
                    Ok(part) => self.add_part(at + 1, part, &mut batches),
                    Err(error) => self.add(place, Err(error.into())),
                }
            } else if otpauth::after_prefix(line, "otpauth:").is_some() {
                self.add(place, Found::of_uri(line));
            } else {
                self.add(place, Err(Problem::NotAUri));
            }
        }
        let mut batches: Vec<(usize, Batch)> = batches.into_values().collect();
        batches.sort_unstable_by_key(|(line, _)| *line);
        for (line, batch) in batches {
            let missing = batch.missing();
            if !missing.is_empty() {
                let size = batch.size();
                self.add(Place::Line(line), Err(Problem::PartsMissing { size, missing }));
            }
        }
    }

    /// `batches` are the exports in several parts, by their number, with the line in which each begins.
    fn add_part(&mut self, line: usize, part: Part, batches: &mut HashMap<i32, (usize, Batch)>) {
        if let Some(id) = part.batch_id() {
            match batches.entry(id) {
                Slot::Vacant(free) => {
                    free.insert((line, Batch::of(&part)));
                }
                Slot::Occupied(mut slot) => {
                    if let Err(error) = slot.get_mut().1.add(&part) {
                        return self.add(Place::Line(line), Err(error.into()));
                    }
                }
            }
        }
        for (at, entry) in part.entries.into_iter().enumerate() {
            let place = Place::Entry { line, entry: at + 1 };
            self.add(place, entry.map(Found::of_entry).map_err(Problem::from));
        }
    }
}

#[cfg(test)]
mod tests;

//! One entry point for every format: recognises the format of a file, and returns its rows in order.
//!
//! A row that cannot be used is an error with its number and what to fix; it does not affect the others. No error shows what
//! was read but the name of what is unknown. A file without rows is an error too: nothing done is not done.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;

use shared::names::{DeviceName, NameError, UserName};
use shared::otp::{OtpParameters, Seed};

use super::csv::{self, CsvError, CsvRow, CsvRowError, Users};
use super::encodings::bits_of;
use super::migration::{self, Batch, Entry, EntryError, MigrationError, Part, PartError};
use super::otpauth::{self, UriError};
use super::pskc::{self, KeyError, PskcError, PskcOptions};

/// The most bytes of a file: several hundred thousand rows.
pub const LARGEST_FILE: usize = 64 * 1024 * 1024;
/// Seeds with fewer bits need [`ImportOptions::allow_weak_seeds`] (RFC 4226, section 4, R6).
pub const STRONG_BITS: usize = 128;

/// How a file is read.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions<'a> {
    /// The device of rows that name none. URIs and authenticator exports name a device only if this program wrote
    /// them (`user (device)`); if this is set, the whole account is the user.
    pub device: Option<DeviceName>,
    /// Whether accounts of URIs and authenticator exports have a device that is named after their issuer.
    pub device_from_issuer: bool,
    /// The users of PSKC keys that name none, by serial number.
    pub users: Option<Users>,
    /// Whether to accept seeds of 80 to 127 bits. Shorter ones are never accepted.
    pub allow_weak_seeds: bool,
    pub pskc: PskcOptions<'a>,
}

/// Where in the file a row is, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    Line(usize),
    /// An entry of the authenticator export in a line.
    Entry {
        line: usize,
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
    /// The number of the row, counted from 1 and including rows with errors: the same in every run over the same file.
    pub number: usize,
    pub place: Place,
    pub user: UserName,
    pub device: DeviceName,
    /// For a report only.
    pub issuer: Option<String>,
    pub seed: Seed,
    /// What the operator should know of the row; each a sentence.
    pub notes: Vec<String>,
}

/// What a file holds.
#[derive(Debug)]
pub struct ImportFile {
    /// At least one.
    pub rows: Vec<Result<Row, RowError>>,
    /// What the operator should know of the whole file; each a sentence.
    pub notes: Vec<String>,
}

impl Row {
    #[must_use]
    pub const fn parameters(&self) -> OtpParameters {
        self.seed.parameters()
    }

    /// Whether the seed has fewer bits than RFC 4226 requires.
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
    pub place: Place,
    pub problem: Problem,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("this line is neither an otpauth:// nor an otpauth-migration:// URI nor a comment (#)")]
    NotAUri,
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error(transparent)]
    Migration(#[from] MigrationError),
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The entries of such a part are not read.
    #[error("{0}: remove this line")]
    Part(#[from] PartError),
    #[error(
        "the export does not end as the app writes it, so entries after these {entries} may be missing: compare the number with \
         the app, and export again if it has more"
    )]
    MayBeCut { entries: usize },
    #[error("the export that begins here has {size} parts; missing: {}", numbers(.missing))]
    PartsMissing {
        size: u32,
        /// Counted from 1.
        missing: Vec<u32>,
    },
    #[error(transparent)]
    Csv(#[from] CsvRowError),
    #[error(transparent)]
    Pskc(#[from] KeyError),
    #[error("the row names no user")]
    NoUser,
    #[error(
        "the key names no user: list serial numbers and users in a CSV file (serial,user), and give it with --users"
    )]
    NoUserOfKey,
    #[error("the key names no user, and the list of --users does not have its serial number")]
    NotListed,
    #[error("the key names another user than the list of --users: correct one of them")]
    OtherUser,
    #[error(
        "the row names no device: give one for all such rows with --device, or name devices after issuers with --device-from issuer"
    )]
    NoDevice,
    #[error("the user's name is invalid: {0}")]
    User(NameError),
    #[error("the device's name is invalid: {0}")]
    Device(NameError),
    #[error("the seed has {bits} bits, fewer than {STRONG_BITS}: give --allow-weak-seeds, or give the user a new seed")]
    WeakSeed { bits: usize },
    #[error(
        "the same user and device are already in {first}: give this device another name, remove the row, or, if the issuers \
         differ, name the devices after them with --device-from issuer"
    )]
    Repeated { first: Place },
}

fn numbers(all: &[u32]) -> String {
    all.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// A file that cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("nothing to import: the file is empty, or has only comments")]
    Empty,
    #[error("nothing to import: the file has a CSV header and no rows under it")]
    NoRows,
    #[error("nothing to import: the key container has no KeyPackage")]
    NoKeys,
    #[error("--users is for PSKC files, whose keys have serial numbers, and the file is not PSKC")]
    NotPskc,
    /// More than [`LARGEST_FILE`].
    #[error("the file has more than {} MiB: split it", LARGEST_FILE / 1024 / 1024)]
    Size,
    #[error("the file is not UTF-8 (line {line}): save it as UTF-8")]
    NotUtf8 {
        /// Counted from 1.
        line: usize,
    },
    #[error(
        "the format of the file is unknown; supported are otpauth:// or otpauth-migration:// URIs, one per line; CSV whose \
         first line names the columns (user,device,seed); PSKC (RFC 6030)"
    )]
    Format,
    #[error(transparent)]
    Csv(#[from] CsvError),
    #[error(transparent)]
    Pskc(#[from] PskcError),
}

/// Reads a file.
///
/// # Errors
/// [`FileError`] if nothing in it can be read. A row that cannot be used is an `Err` in its place.
pub fn read(file: &[u8], options: &ImportOptions<'_>) -> Result<ImportFile, FileError> {
    let text = text_of(file)?;
    let first_line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    let mut rows = Rows::new(options);
    let Some(first_line) = first_line else {
        return Err(FileError::Empty);
    };
    let is_pskc = text.trim_start().starts_with('<');
    if options.users.is_some() && !is_pskc {
        return Err(FileError::NotPskc);
    }
    let mut notes = Vec::new();
    if is_pskc {
        let keys = pskc::parse(text.trim_start(), options.pskc)?;
        let serials = keys.iter().flatten().filter_map(|key| key.device.as_deref());
        match options.users.as_ref().map_or(0, |users| users.count_others(serials)) {
            0 => {}
            others => notes.push(format!(
                "Serial numbers of --users that no readable key of the file has: {others}."
            )),
        }
        for (at, key) in keys.into_iter().enumerate() {
            let found = key.map_err(Problem::from);
            rows.add(
                Place::KeyPackage(at + 1),
                found.and_then(|key| Candidate::from_key(key, options.users.as_ref())),
            );
        }
    } else if otpauth::after_prefix(first_line, "otpauth").is_some() {
        rows.add_uris(text);
    } else if csv::looks_like_csv(text) {
        let csv = csv::parse(text)?;
        for (line, row) in csv.rows {
            let found = row.map_err(Problem::from).and_then(Candidate::from_csv);
            rows.add(Place::Line(line), found);
        }
        notes.extend(csv.comments_like_rows.into_iter().map(|line| {
            format!(
                "Line {line} begins with #, so it is a comment and was not read. If it is a row, put its first field in quotes."
            )
        }));
    } else {
        return Err(FileError::Format);
    }
    match rows.all.is_empty() {
        true if is_pskc => Err(FileError::NoKeys),
        true => Err(FileError::NoRows),
        false => Ok(ImportFile { rows: rows.all, notes }),
    }
}

/// The text of a file, without the byte order mark that spreadsheets write.
///
/// # Errors
/// [`FileError`].
pub fn text_of(file: &[u8]) -> Result<&str, FileError> {
    if file.len() > LARGEST_FILE {
        return Err(FileError::Size);
    }
    let text = str::from_utf8(file).map_err(|error| {
        let before = file.get(..error.valid_up_to()).unwrap_or_default();
        FileError::NotUtf8 {
            line: before.split(|byte| *byte == b'\n').count(),
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// What a format has read, before its names are checked.
struct Candidate {
    names: Names,
    issuer: Option<String>,
    seed: Seed,
    looks_hexadecimal: bool,
    /// Steps that a token's clock was off.
    drift: i64,
}

enum Names {
    /// In fields of their own.
    Given {
        user: Option<String>,
        device: Option<String>,
    },
    /// An account, as an app shows it.
    Account(String),
}

impl Candidate {
    fn new(names: Names, issuer: Option<String>, seed: Seed) -> Self {
        Self {
            names,
            issuer,
            seed,
            looks_hexadecimal: false,
            drift: 0,
        }
    }

    fn from_key(key: pskc::Key, users: Option<&Users>) -> Result<Self, Problem> {
        let listed = users
            .zip(key.device.as_deref())
            .and_then(|(users, serial)| users.of(serial));
        let user = match (key.user, listed) {
            (Some(user), Some(listed)) if user != listed => return Err(Problem::OtherUser),
            (Some(user), _) => user,
            (None, Some(listed)) => listed.to_owned(),
            (None, None) if users.is_some() => return Err(Problem::NotListed),
            (None, None) => return Err(Problem::NoUserOfKey),
        };
        let names = Names::Given {
            user: Some(user),
            device: key.device,
        };
        Ok(Self {
            drift: key.drift,
            ..Self::new(names, key.issuer, key.seed)
        })
    }

    fn from_entry(entry: Entry) -> Self {
        Self::new(Names::Account(entry.account), entry.issuer, entry.seed)
    }

    fn from_uri(raw: &str) -> Result<Self, Problem> {
        let uri = otpauth::parse(raw)?;
        let names = Names::Account(uri.account()?.to_owned());
        Ok(Self {
            looks_hexadecimal: uri.looks_hexadecimal,
            ..Self::new(names, uri.issuer().map(str::to_owned), uri.seed)
        })
    }

    /// Without `user`, the label of the URI names the user, and also the device unless the row does.
    fn from_csv(row: CsvRow) -> Result<Self, Problem> {
        let names = match (row.user, row.device, row.account) {
            (None, None, Some(account)) => Names::Account(account?),
            (None, device, Some(account)) => Names::Given {
                user: Some(account?),
                device,
            },
            (user, device, _) => Names::Given { user, device },
        };
        Ok(Self {
            looks_hexadecimal: row.looks_hexadecimal,
            ..Self::new(names, row.issuer, row.seed)
        })
    }

    fn notes(&self) -> Vec<String> {
        let hexadecimal = self.looks_hexadecimal.then(|| {
            "Its seed was read as base32, and would be hexadecimal digits as well: if it is, the codes will be wrong; import it \
             from a CSV file with a column seedHex."
                .to_owned()
        });
        let drift = (self.drift != 0).then(|| {
            format!(
                "Its TimeDrift is {}: the token's clock was off by so many steps when the file was written, and one step is \
                 accepted; `mfactl device check --codes` tells the drift.",
                self.drift
            )
        });
        hexadecimal.into_iter().chain(drift).collect()
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

    fn add(&mut self, place: Place, found: Result<Candidate, Problem>) {
        let number = self.all.len() + 1;
        let row = found
            .and_then(|found| self.check(number, place, found))
            .map_err(|problem| RowError { number, place, problem });
        self.all.push(row);
    }

    fn check(&mut self, number: usize, place: Place, found: Candidate) -> Result<Row, Problem> {
        let (user, device) = self.names(&found)?;
        let notes = found.notes();
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
            notes,
        })
    }

    fn names(&self, found: &Candidate) -> Result<(UserName, DeviceName), Problem> {
        let issuer = found.issuer.as_deref().filter(|_| self.options.device_from_issuer);
        let of_issuer;
        let (user, device) = match &found.names {
            Names::Given { user, device } => (user.as_deref(), device.as_deref().or(issuer)),
            Names::Account(account) => match (otpauth::names_in(account), issuer) {
                (Some((user, device)), Some(issuer)) => {
                    of_issuer = format!("{issuer} {device}");
                    (Some(user), Some(of_issuer.as_str()))
                }
                (None, Some(issuer)) => (Some(account.as_str()), Some(issuer)),
                (Some((user, device)), None) if self.options.device.is_none() => (Some(user), Some(device)),
                _ => (Some(account.as_str()), None),
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
                self.add(place, Candidate::from_uri(line));
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

    /// `batches` holds the exports in several parts by their number, each with the line in which it begins.
    fn add_part(&mut self, line: usize, part: Part, batches: &mut HashMap<u64, (usize, Batch)>) {
        if let Some(id) = part.batch_id() {
            match batches.entry(id) {
                Slot::Vacant(free) => {
                    free.insert((line, Batch::new(&part)));
                }
                Slot::Occupied(mut slot) => {
                    if let Err(error) = slot.get_mut().1.add(&part) {
                        return self.add(Place::Line(line), Err(error.into()));
                    }
                }
            }
        }
        let (entries, may_be_cut) = (part.entries.len(), part.may_be_cut);
        for (at, entry) in part.entries.into_iter().enumerate() {
            let place = Place::Entry { line, entry: at + 1 };
            self.add(place, entry.map(Candidate::from_entry).map_err(Problem::from));
        }
        if may_be_cut {
            self.add(Place::Line(line), Err(Problem::MayBeCut { entries }));
        }
    }
}

#[cfg(test)]
mod tests;

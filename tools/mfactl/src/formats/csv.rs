//! CSV (RFC 4180) with a header: columns by name, in any order, as spreadsheets write them.
//!
//! `user`, `device`, and `seed` (base32), `seedHex` or `uri` (`otpauth://`); optionally `issuer`, `algorithm`, `digits`,
//! `period`. An unknown column is refused: it may be a typo of one that matters. Passed over are a first line `sep=;`, lines
//! that begin with `#`, rows without a value, and columns without name and value. The parser is `csv-core`, because the crate
//! `csv` has buffers that it does not clear.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use shared::otp::{OtpParameters, Seed};
use zeroize::Zeroizing;

use super::encodings::{SeedTextError, looks_hexadecimal, seed_from_base32, seed_from_hexadecimal};
use super::otpauth::{self, UriError};
use super::parameters::{self, shown_name};

/// The columns that a header may have, in lower case.
const COLUMNS: [&str; 9] = [
    "user",
    "device",
    "seed",
    "seedhex",
    "uri",
    "issuer",
    "algorithm",
    "digits",
    "period",
];
/// The columns of a list of users.
const USER_COLUMNS: [&str; 2] = ["serial", "user"];
/// The most fields that are read of a record.
const MOST_FIELDS: usize = 64;
const DELIMITERS: [u8; 3] = *b",;\t";

/// Why a file was refused. Holds nothing of the input but the name of an unknown column; without a header, the first line has
/// a seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    #[error("the file has no header: its first line names the columns, for example: user,device,seed")]
    NoHeader,
    #[error(
        "column {column} of the header, {name}, is unknown: remove it, or give it one of the names user, device, seed (base32), \
         seedHex, uri, issuer, algorithm, digits, period"
    )]
    UnknownColumn {
        /// Counted from 1.
        column: usize,
        name: String,
    },
    #[error("column {column} of the header occurs twice")]
    RepeatedColumn {
        /// Counted from 1.
        column: usize,
    },
    #[error("the header has no column seed, seedHex or uri")]
    NoSeedColumn,
    #[error("the header has no column user")]
    NoUserColumn,
}

/// Why a row was refused. Holds nothing of the input but what [`UriError`] does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvRowError {
    #[error(
        "expected {expected} fields as in the header, found {}: quote a field that has a delimiter in it, and close every \
         quote", .found.map_or("more".to_owned(), |found| found.to_string())
    )]
    Fields {
        expected: usize,
        /// `None` if there are more than any header can have, or a quote is not closed.
        found: Option<usize>,
    },
    #[error("the row has neither a seed nor a URI")]
    NoSeed,
    #[error("the row has more than one of seed, seedHex and uri: leave the others empty")]
    TwoSeeds,
    #[error("the row has a value in column {column}, which has no name")]
    Unnamed {
        /// Counted from 1.
        column: usize,
    },
    #[error("the algorithm must be SHA1, SHA256 or SHA512")]
    Algorithm,
    #[error("the digits must be 6 or 8")]
    Digits,
    #[error("the period must be 30 or 60 seconds")]
    Period,
    #[error(transparent)]
    Seed(#[from] SeedTextError),
    #[error(transparent)]
    Uri(#[from] UriError),
    #[error("issuer, algorithm, digits or period of the row differ from those of its URI")]
    Disagree,
    #[error("the issuer has a control character")]
    Issuer,
}

/// A row. Empty fields are `None`.
pub struct CsvRow {
    /// `user`.
    pub user: Option<String>,
    /// `device`.
    pub device: Option<String>,
    /// `issuer`, or the URI's.
    pub issuer: Option<String>,
    /// The account of the URI's label, for a row without `user`.
    pub account: Option<Result<String, UriError>>,
    /// The seed, with algorithm, digits and period.
    pub seed: Seed,
    /// Whether its base32 would be a seed in hexadecimal digits as well.
    pub looks_hexadecimal: bool,
}

impl fmt::Debug for CsvRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CsvRow")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// A row, and the line that it begins in, counted from 1.
pub type NumberedRow = (usize, Result<CsvRow, CsvRowError>);

/// The rows of a file.
#[derive(Debug)]
pub struct CsvRows {
    pub rows: Vec<NumberedRow>,
    /// The lines that begin with `#` and have as many fields as the header, counted from 1. They are not read.
    pub comments_like_rows: Vec<usize>,
}

/// Reads a file whose header shows the delimiter: comma, semicolon or tab.
///
/// # Errors
/// [`CsvError`].
pub fn parse(text: &str) -> Result<CsvRows, CsvError> {
    let (header, mut records) = Header::read(text, &COLUMNS)?;
    if !["seed", "seedhex", "uri"].iter().any(|name| header.has(name)) {
        return Err(CsvError::NoSeedColumn);
    }
    if !header.has("user") && !header.has("uri") {
        return Err(CsvError::NoUserColumn);
    }
    let mut rows = Vec::new();
    while let Some((line, row)) = records.next(&mut |record| (!record.is_blank()).then(|| header.row(record))) {
        rows.extend(row.map(|row| (line, row)));
    }
    let comments = records.comments.into_iter();
    let like_rows = comments.filter(|(_, fields)| *fields == header.columns.len());
    Ok(CsvRows {
        rows,
        comments_like_rows: like_rows.map(|(line, _)| line).collect(),
    })
}

/// Why a list of users was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    #[error("its first line must name the columns serial and user, and no others")]
    Header,
    #[error("line {line} must have a serial number and a user")]
    Row { line: usize },
    #[error("line {line} has the serial number of an earlier line")]
    Repeated { line: usize },
    #[error("it has no rows under its header")]
    Empty,
}

/// The users of serial numbers.
#[derive(Debug, Clone, Default)]
pub struct Users(HashMap<String, String>);

impl Users {
    /// Reads a CSV file with the columns `serial` and `user`.
    ///
    /// # Errors
    /// [`UsersError`].
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let (header, mut records) = Header::read(text, &USER_COLUMNS).map_err(|_| UsersError::Header)?;
        if !USER_COLUMNS.iter().all(|name| header.has(name)) {
            return Err(UsersError::Header);
        }
        let pair = |record: &Record<'_>| {
            let field = |name| header.field(record, name).map(|field| field.trim().to_owned());
            let whole = !record.damaged && record.fields.len() == header.columns.len();
            (!record.is_blank()).then(|| field("serial").zip(field("user")).filter(|_| whole))
        };
        let mut users = HashMap::new();
        while let Some((line, row)) = records.next(&mut |record| pair(record)) {
            let Some(row) = row else { continue };
            let (serial, user) = row.ok_or(UsersError::Row { line })?;
            match users.entry(serial) {
                Entry::Occupied(_) => return Err(UsersError::Repeated { line }),
                Entry::Vacant(free) => free.insert(user),
            };
        }
        if users.is_empty() {
            Err(UsersError::Empty)
        } else {
            Ok(Self(users))
        }
    }

    /// The user who has the token with a serial number.
    #[must_use]
    pub fn of(&self, serial: &str) -> Option<&str> {
        self.0.get(serial).map(String::as_str)
    }

    /// How many serial numbers are not among these.
    pub(super) fn count_others<'a>(&self, serials: impl Iterator<Item = &'a str>) -> usize {
        let serials: HashSet<&str> = serials.collect();
        self.0
            .keys()
            .filter(|serial| !serials.contains(serial.as_str()))
            .count()
    }
}

/// Whether the first line looks like a header, so that an error about it makes sense.
pub(super) fn looks_like_csv(text: &str) -> bool {
    let (delimiter, header) = preamble(text);
    delimiter.is_some()
        || DELIMITERS
            .iter()
            .any(|delimiter| known(header, *delimiter, &COLUMNS) > 0)
}

/// What precedes the header: blank lines, comments, and a line `sep=;`, as spreadsheets write it. Returns the delimiter that
/// it names, and the text from the header on.
fn preamble(text: &str) -> (Option<u8>, &str) {
    let (mut delimiter, mut rest) = (None, text.strip_prefix('\u{feff}').unwrap_or(text));
    while let Some(line) = rest.split_inclusive(['\r', '\n']).next() {
        let content = line.trim_end_matches(['\r', '\n']);
        let named = otpauth::after_prefix(content.trim_matches('"'), "sep=").map(str::as_bytes);
        match named {
            Some([named, ..]) if DELIMITERS.contains(named) => delimiter = Some(*named),
            _ if content.trim_start_matches('"').starts_with('#') => {}
            _ if content
                .chars()
                .all(|c| c.is_whitespace() || DELIMITERS.map(char::from).contains(&c)) => {}
            _ => break,
        }
        rest = rest.get(line.len()..).unwrap_or_default();
    }
    (delimiter, rest)
}

/// The names in the first line, in lower case.
fn names(text: &str, delimiter: u8) -> Vec<Zeroizing<String>> {
    let name = |raw: &&str| Zeroizing::new(raw.trim().to_ascii_lowercase());
    let first_line = text.split(['\r', '\n']).next().unwrap_or_default();
    let names = Records::new(first_line, delimiter).next(&mut |record| record.fields.iter().map(name).collect());
    names.map(|(_, names)| names).unwrap_or_default()
}

fn known(text: &str, delimiter: u8, columns: &[&str]) -> usize {
    let names = names(text, delimiter);
    names.iter().filter(|name| columns.contains(&name.as_str())).count()
}

struct Header {
    /// The known name of each column; `None` of one without a name.
    columns: Vec<Option<&'static str>>,
}

impl Header {
    /// Reads the header, and returns the records after it.
    fn read<'a>(text: &'a str, known_columns: &'static [&'static str]) -> Result<(Self, Records<'a>), CsvError> {
        let (given, rest) = preamble(text);
        let likely = || {
            let all = DELIMITERS.into_iter().rev();
            all.max_by_key(|delimiter| known(rest, *delimiter, known_columns))
        };
        let delimiter = given.or_else(likely).ok_or(CsvError::NoHeader)?;
        let mut columns = Vec::new();
        for (at, name) in names(rest, delimiter).iter().enumerate() {
            let column = at + 1;
            let known = known_columns.iter().find(|known| **known == name.as_str()).copied();
            if known.is_none() && !name.is_empty() {
                let name = shown_name(name);
                return Err(CsvError::UnknownColumn { column, name });
            }
            if known.is_some() && columns.contains(&known) {
                return Err(CsvError::RepeatedColumn { column });
            }
            columns.push(known);
        }
        if columns.iter().all(Option::is_none) {
            return Err(CsvError::NoHeader);
        }
        let mut records = Records::new(text, delimiter);
        records.advance(text.len() - rest.len());
        records.next(&mut |_| ());
        Ok((Self { columns }, records))
    }

    fn has(&self, name: &str) -> bool {
        self.columns.contains(&Some(name))
    }

    fn field<'a>(&self, record: &Record<'a>, name: &str) -> Option<&'a str> {
        let mut named = self.columns.iter().zip(&record.fields);
        let (_, field) = named.find(|(column, _)| **column == Some(name))?;
        (!field.trim().is_empty()).then_some(*field)
    }

    fn row(&self, record: &Record<'_>) -> Result<CsvRow, CsvRowError> {
        let expected = self.columns.len();
        if record.fields.len() != expected || record.damaged {
            let found = (!record.damaged).then_some(record.fields.len());
            return Err(CsvRowError::Fields { expected, found });
        }
        let unnamed = |(column, field): (&Option<_>, &&str)| column.is_none() && !field.trim().is_empty();
        if let Some(at) = self.columns.iter().zip(&record.fields).position(unnamed) {
            return Err(CsvRowError::Unnamed { column: at + 1 });
        }
        let field = |name: &str| self.field(record, name);
        let algorithm = field("algorithm").map(|raw| parameters::algorithm(raw).ok_or(CsvRowError::Algorithm));
        let digits = field("digits").map(|raw| parameters::digits(raw).ok_or(CsvRowError::Digits));
        let period = field("period").map(|raw| parameters::period(raw).ok_or(CsvRowError::Period));
        let (algorithm, digits, period) = (algorithm.transpose()?, digits.transpose()?, period.transpose()?);
        let issuer = field("issuer").map(str::trim);
        if issuer.is_some_and(|issuer| issuer.chars().any(char::is_control)) {
            return Err(CsvRowError::Issuer);
        }
        let (user, device) = (field("user").map(str::to_owned), field("device").map(str::to_owned));
        let parameters = OtpParameters {
            algorithm: algorithm.unwrap_or_default(),
            digits: digits.unwrap_or_default(),
            period: period.unwrap_or_default(),
        };
        match (field("seed"), field("seedhex"), field("uri")) {
            (None, None, None) => Err(CsvRowError::NoSeed),
            (None, None, Some(raw)) => {
                let uri = otpauth::parse(raw.trim())?;
                let of = uri.seed.parameters();
                let agree = algorithm.is_none_or(|algorithm| algorithm == of.algorithm)
                    && digits.is_none_or(|digits| digits == of.digits)
                    && period.is_none_or(|period| period == of.period)
                    && issuer.is_none_or(|issuer| uri.issuer().is_none_or(|of| of == issuer));
                if !agree {
                    return Err(CsvRowError::Disagree);
                }
                Ok(CsvRow {
                    user,
                    device,
                    issuer: issuer.or(uri.issuer()).map(str::to_owned),
                    account: Some(uri.account().map(str::to_owned)),
                    seed: uri.seed,
                    looks_hexadecimal: uri.looks_hexadecimal,
                })
            }
            (base32, hexadecimal, None) => {
                let seed = match (base32, hexadecimal) {
                    (Some(raw), None) => seed_from_base32(raw, parameters)?,
                    (None, Some(raw)) => seed_from_hexadecimal(raw, parameters)?,
                    _ => return Err(CsvRowError::TwoSeeds),
                };
                Ok(CsvRow {
                    user,
                    device,
                    issuer: issuer.map(str::to_owned),
                    account: None,
                    seed,
                    looks_hexadecimal: base32.is_some_and(looks_hexadecimal),
                })
            }
            _ => Err(CsvRowError::TwoSeeds),
        }
    }
}

/// A record, borrowed from the reader's buffer.
struct Record<'a> {
    fields: Vec<&'a str>,
    /// It has more fields than there is room for, or is not UTF-8.
    damaged: bool,
}

impl Record<'_> {
    /// Whether it has no value, or only a comment that a spreadsheet has put in quotes.
    fn is_blank(&self) -> bool {
        let mut filled = self
            .fields
            .iter()
            .enumerate()
            .filter(|(_, field)| !field.trim().is_empty());
        let only_comment = |(at, field): (usize, &&str)| at == 0 && field.starts_with('#');
        !self.damaged && filled.all(only_comment)
    }
}

/// Reads records one after the other into one buffer, which is cleared at the end.
struct Records<'a> {
    rest: &'a [u8],
    line: usize,
    reader: Reader,
    buffer: Zeroizing<Vec<u8>>,
    ends: [usize; MOST_FIELDS],
    delimiter: u8,
    /// Comments with values in more than one field: the line, and the number of fields.
    comments: Vec<(usize, usize)>,
}

impl<'a> Records<'a> {
    fn new(text: &'a str, delimiter: u8) -> Self {
        Self {
            rest: text.as_bytes(),
            line: 1,
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            // No record is longer than the file.
            buffer: Zeroizing::new(vec![0; text.len() + 1]),
            ends: [0; MOST_FIELDS],
            delimiter,
            comments: Vec::new(),
        }
    }

    /// Passes the next record to `read`; returns the line in which it began.
    fn next<T>(&mut self, read_record: &mut impl FnMut(&Record<'_>) -> T) -> Option<(usize, T)> {
        self.pass_over();
        let line = self.line;
        let (mut length, mut count, mut damaged) = (0, 0, false);
        loop {
            let output = self.buffer.get_mut(length..)?;
            let ends = self.ends.get_mut(count..)?;
            let (result, read, written, ended) = self.reader.read_record(self.rest, output, ends);
            self.advance(read);
            length += written;
            count += ended;
            match result {
                // It was given the whole file, so the next call returns its end.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    (length, count, damaged) = (0, 0, true);
                }
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return None,
            }
        }
        let mut begin = 0;
        let mut fields = Vec::with_capacity(count);
        for end in self.ends.get(..count)? {
            let field = self
                .buffer
                .get(begin..*end)
                .and_then(|field| str::from_utf8(field).ok());
            damaged |= field.is_none();
            fields.push(field.unwrap_or_default());
            begin = *end;
        }
        Some((line, read_record(&Record { fields, damaged })))
    }

    /// Passes over empty lines, which the parser would skip without counting them, and comments, in which a quote would
    /// begin a field.
    fn pass_over(&mut self) {
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        loop {
            let empty = self.rest.iter().take_while(|byte| is_end(byte)).count();
            self.advance(empty);
            if self.rest.first() != Some(&b'#') {
                return;
            }
            let comment = self.rest.split(is_end).next().unwrap_or_default();
            let fields = || comment.split(|byte| *byte == self.delimiter);
            if fields().filter(|field| !field.trim_ascii().is_empty()).count() > 1 {
                self.comments.push((self.line, fields().count()));
            }
            self.advance(comment.len());
        }
    }

    fn advance(&mut self, read: usize) {
        let (before, rest) = self.rest.split_at_checked(read).unwrap_or((self.rest, &[]));
        self.line += before.split(|byte| *byte == b'\n').skip(1).count();
        self.rest = rest;
    }
}

#[cfg(test)]
mod tests;

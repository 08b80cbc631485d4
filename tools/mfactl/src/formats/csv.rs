//! CSV (RFC 4180) with a header: columns by name, in any order.
//!
//! `user`, `device`, and `seed` (base32) or `uri` (`otpauth://`); optionally `issuer`, `algorithm`, `digits`, `period`.
//! An unknown column is refused: it may be a typo of one that matters. The parser is `csv-core`, because the crate `csv`
//! has buffers that it does not clear.

use std::fmt;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use shared::otp::{OtpParameters, Seed, SeedError};
use zeroize::Zeroizing;

use super::encodings::seed_from_base32;
use super::otpauth::{self, UriError};
use super::parameters;

/// The columns that a header may have.
pub const COLUMNS: [&str; 8] = [
    "user",
    "device",
    "seed",
    "uri",
    "issuer",
    "algorithm",
    "digits",
    "period",
];
const DELIMITERS: [u8; 3] = *b",;\t";

/// Why a file was refused. Holds nothing of the input: without a header, the first line has a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    #[error("the file has no header: its first line names the columns, for example: user,device,seed")]
    NoHeader,
    #[error(
        "column {column} of the header is unknown; the columns are user, device, seed or uri, issuer, algorithm, digits, \
         period"
    )]
    UnknownColumn {
        /// Counted from 1.
        column: usize,
    },
    #[error("column {column} of the header occurs twice")]
    RepeatedColumn {
        /// Counted from 1.
        column: usize,
    },
    #[error("the header has neither a column seed nor a column uri")]
    NoSeedColumn,
    #[error("the header has no column user")]
    NoUserColumn,
}

/// Why a row was refused. Holds nothing of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
    #[error("the row has a seed and a URI: leave one of them empty")]
    TwoSeeds,
    #[error("the algorithm must be SHA1, SHA256 or SHA512")]
    Algorithm,
    #[error("the digits must be 6 or 8")]
    Digits,
    #[error("the period must be 30 or 60 seconds")]
    Period,
    #[error(transparent)]
    Seed(#[from] SeedError),
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

/// Reads a file whose header shows the delimiter: comma, semicolon or tab.
///
/// # Errors
/// [`CsvError`].
pub fn parse(text: &str) -> Result<Vec<NumberedRow>, CsvError> {
    let header = Header::read(text)?;
    let mut records = Records::new(text, header.delimiter);
    records.next(&mut |_| ());
    let mut rows = Vec::new();
    while let Some(row) = records.next(&mut |record| header.row(record)) {
        rows.push(row);
    }
    Ok(rows)
}

/// Whether the first line looks like a header, so that an error about it makes sense.
pub(super) fn looks_like_csv(text: &str) -> bool {
    DELIMITERS.iter().any(|delimiter| Header::known(text, *delimiter) > 0)
}

struct Header {
    delimiter: u8,
    /// For each column, its place in [`COLUMNS`].
    columns: Vec<usize>,
}

impl Header {
    fn read(text: &str) -> Result<Self, CsvError> {
        let delimiter = DELIMITERS
            .into_iter()
            .rev()
            .max_by_key(|delimiter| Self::known(text, *delimiter))
            .ok_or(CsvError::NoHeader)?;
        let mut columns = Vec::new();
        for (at, name) in Self::names(text, delimiter).iter().enumerate() {
            let column = at + 1;
            let known = COLUMNS.iter().position(|known| *known == name.as_str());
            let known = known.ok_or(CsvError::UnknownColumn { column })?;
            if columns.contains(&known) {
                return Err(CsvError::RepeatedColumn { column });
            }
            columns.push(known);
        }
        let header = Self { delimiter, columns };
        if header.columns.is_empty() {
            return Err(CsvError::NoHeader);
        }
        match (header.has("seed"), header.has("uri"), header.has("user")) {
            (false, false, _) => Err(CsvError::NoSeedColumn),
            (_, false, false) => Err(CsvError::NoUserColumn),
            _ => Ok(header),
        }
    }

    fn names(text: &str, delimiter: u8) -> Vec<Zeroizing<String>> {
        let name = |raw: &&str| Zeroizing::new(raw.trim().to_ascii_lowercase());
        let mut names = Vec::new();
        let first_line = text.trim_start_matches(['\r', '\n']).lines().next().unwrap_or_default();
        Records::new(first_line, delimiter).next(&mut |record: &Record<'_>| {
            names = record.fields.iter().map(name).collect();
        });
        names
    }

    fn known(text: &str, delimiter: u8) -> usize {
        let names = Self::names(text, delimiter);
        names.iter().filter(|name| COLUMNS.contains(&name.as_str())).count()
    }

    fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|column| COLUMNS.get(*column) == Some(&name))
    }

    fn row(&self, record: &Record<'_>) -> Result<CsvRow, CsvRowError> {
        let expected = self.columns.len();
        if record.fields.len() != expected || record.damaged {
            let found = (!record.damaged).then_some(record.fields.len());
            return Err(CsvRowError::Fields { expected, found });
        }
        let field = |name: &str| {
            let named = self.columns.iter().zip(&record.fields);
            let (_, field) = named
                .into_iter()
                .find(|(column, _)| COLUMNS.get(**column) == Some(&name))?;
            (!field.trim().is_empty()).then_some(*field)
        };
        let algorithm = field("algorithm").map(|raw| parameters::algorithm(raw).ok_or(CsvRowError::Algorithm));
        let digits = field("digits").map(|raw| parameters::digits(raw).ok_or(CsvRowError::Digits));
        let period = field("period").map(|raw| parameters::period(raw).ok_or(CsvRowError::Period));
        let (algorithm, digits, period) = (algorithm.transpose()?, digits.transpose()?, period.transpose()?);
        let issuer = field("issuer").map(str::trim);
        if issuer.is_some_and(|issuer| issuer.chars().any(char::is_control)) {
            return Err(CsvRowError::Issuer);
        }
        let (seed, from_uri) = match (field("seed"), field("uri")) {
            (None, None) => return Err(CsvRowError::NoSeed),
            (Some(_), Some(_)) => return Err(CsvRowError::TwoSeeds),
            (Some(raw), None) => {
                let parameters = OtpParameters {
                    algorithm: algorithm.unwrap_or_default(),
                    digits: digits.unwrap_or_default(),
                    period: period.unwrap_or_default(),
                };
                (seed_from_base32(raw, parameters)?, None)
            }
            (None, Some(raw)) => {
                let uri = otpauth::parse(raw.trim())?;
                let of = uri.seed.parameters();
                let agree = algorithm.is_none_or(|algorithm| algorithm == of.algorithm)
                    && digits.is_none_or(|digits| digits == of.digits)
                    && period.is_none_or(|period| period == of.period)
                    && issuer.is_none_or(|issuer| uri.issuer().is_none_or(|of| of == issuer));
                if !agree {
                    return Err(CsvRowError::Disagree);
                }
                let account = uri.account().map(str::to_owned);
                let issuer = uri.issuer().map(str::to_owned);
                (uri.seed, Some((account, issuer)))
            }
        };
        let (account, uri_issuer) = from_uri.map_or((None, None), |(account, issuer)| (Some(account), issuer));
        Ok(CsvRow {
            user: field("user").map(str::to_owned),
            device: field("device").map(str::to_owned),
            issuer: issuer.map(str::to_owned).or(uri_issuer),
            account,
            seed,
        })
    }
}

/// A record, borrowed from the reader's buffer.
struct Record<'a> {
    fields: Vec<&'a str>,
    /// It has more fields than there is room for, or is not UTF-8.
    damaged: bool,
}

/// Reads records one after the other into one buffer, which is cleared at the end.
struct Records<'a> {
    rest: &'a [u8],
    line: usize,
    reader: Reader,
    buffer: Zeroizing<Vec<u8>>,
    ends: [usize; COLUMNS.len() + 1],
}

impl<'a> Records<'a> {
    fn new(text: &'a str, delimiter: u8) -> Self {
        Self {
            rest: text.as_bytes(),
            line: 1,
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            // No record is longer than the file.
            buffer: Zeroizing::new(vec![0; text.len() + 1]),
            ends: [0; COLUMNS.len() + 1],
        }
    }

    /// Passes the next record to `read`; returns the line in which it began.
    fn next<T>(&mut self, read_record: &mut impl FnMut(&Record<'_>) -> T) -> Option<(usize, T)> {
        // Empty lines, which the parser would skip without counting them.
        let empty = self
            .rest
            .iter()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        self.advance(empty);
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

    fn advance(&mut self, read: usize) {
        let (before, rest) = self.rest.split_at_checked(read).unwrap_or((self.rest, &[]));
        self.line += before.split(|byte| *byte == b'\n').skip(1).count();
        self.rest = rest;
    }
}

#[cfg(test)]
mod tests;

use anyhow::{Context as _, Result};
use proptest::prelude::*;
use shared::otp::{Algorithm, Digits, Period};

use super::*;

const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

fn rows(text: &str) -> Result<Vec<NumberedRow>> {
    parse(text).with_context(|| text.to_owned())
}

/// User and device of rows that were all read.
fn names(text: &str) -> Result<Vec<(Option<String>, Option<String>)>> {
    let names = |(line, row): NumberedRow| {
        let row = row.with_context(|| format!("line {line} of {text:?}"))?;
        assert_eq!(row.seed.to_base32().as_str(), SEED, "{text:?}");
        Ok((row.user, row.device))
    };
    rows(text)?.into_iter().map(names).collect()
}

const fn fields(found: Option<usize>) -> CsvRowError {
    let expected = COLUMNS.len();
    CsvRowError::Fields { expected, found }
}

fn problem(row: &str) -> Result<Option<CsvRowError>> {
    let text = format!("user,device,seed,uri,issuer,algorithm,digits,period\n{row}\n");
    let mut rows = rows(&text)?;
    assert_eq!(rows.len(), 1, "{row}");
    Ok(rows.pop().and_then(|(_, row)| row.err()))
}

#[test]
fn columns_are_found_by_name_in_any_order_and_with_any_delimiter() -> Result<()> {
    let expected = vec![(Some("alice".to_owned()), Some("phone".to_owned()))];
    for text in [
        format!("user,device,seed\nalice,phone,{SEED}\n"),
        format!("seed,device,user\n{SEED},phone,alice\n"),
        format!("user;device;seed\nalice;phone;{SEED}\n"),
        format!("user\tdevice\tseed\nalice\tphone\t{SEED}\n"),
        format!("user,device,seed\r\nalice,phone,{SEED}\r\n"),
        format!("user,device,seed\r\nalice,phone,{SEED}"),
        format!("\n\nuser,device,seed\n\nalice,phone,{SEED}\n\n"),
        format!("\u{feff}user,device,seed\nalice,phone,{SEED}\n"),
        format!(" User , DEVICE ,Seed\nalice,phone,{SEED}\n"),
        format!("\"user\",\"device\",\"seed\"\n\"alice\",\"phone\",\"{SEED}\"\n"),
        format!("user;device;issuer;seed\nalice;phone;\"a;b,c\";{SEED}\n"),
        format!("user,device,seed,issuer,algorithm,digits,period\nalice,phone,{SEED},,,,\n"),
        format!(
            "user,device,seed\nalice,phone,{}\n",
            "gezd gnbv gy3t qojq gezd gnbv gy3t qojq"
        ),
    ] {
        assert_eq!(names(&text)?, expected, "{text:?}");
    }
    Ok(())
}

#[test]
fn a_quoted_name_keeps_its_delimiters_and_quotes() -> Result<()> {
    let text = format!(
        "user,device,seed\n\"Doe, \"\"Jane\"\"\",\"a;b\",{SEED}\n日本,\"x\ty\",{SEED}\n a , b,{SEED}\n,,{SEED}\n"
    );
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(
        names(&text)?,
        [
            (some("Doe, \"Jane\""), some("a;b")),
            (some("日本"), some("x\ty")),
            // Never trimmed: names with outer white space are refused later.
            (some(" a "), some(" b")),
            (None, None),
        ]
    );
    Ok(())
}

#[test]
fn parameters_and_issuer_come_from_their_columns() -> Result<()> {
    let text =
        format!("user,device,seed,issuer,algorithm,digits,period\na,b,{SEED},ACME Inc,sha-256,8,60\nc,d,{SEED},,,,\n");
    let mut rows = rows(&text)?.into_iter().map(|(_, row)| row);
    let (first, second) = (rows.next().context("a row")??, rows.next().context("a row")??);
    assert_eq!(first.issuer.as_deref(), Some("ACME Inc"));
    assert_eq!(
        first.seed.parameters(),
        OtpParameters {
            algorithm: Algorithm::Sha256,
            digits: Digits::Eight,
            period: Period::Sixty,
        }
    );
    assert_eq!(second.issuer, None);
    assert_eq!(second.seed.parameters(), OtpParameters::default());
    Ok(())
}

#[test]
fn a_uri_has_its_own_parameters_and_the_row_must_agree() -> Result<()> {
    let uri = format!("otpauth://totp/ACME:alice?secret={SEED}&issuer=ACME&algorithm=SHA256");
    let text = format!("uri,user,device\n{uri},,\n{uri},bob,phone\n");
    let mut rows = rows(&text)?.into_iter().map(|(_, row)| row);
    let (first, second) = (rows.next().context("a row")??, rows.next().context("a row")??);
    assert_eq!((first.user, first.account), (None, Some(Ok("alice".to_owned()))));
    assert_eq!(first.issuer.as_deref(), Some("ACME"));
    assert_eq!(first.seed.parameters().algorithm, Algorithm::Sha256);
    assert_eq!(second.user.as_deref(), Some("bob"));
    for (row, expected) in [
        (format!("a,b,,{uri},,,,"), None),
        (format!("a,b,,{uri},ACME,SHA256,6,30"), None),
        (format!("a,b,,{uri},Other,,,"), Some(CsvRowError::Disagree)),
        (format!("a,b,,{uri},,SHA1,,"), Some(CsvRowError::Disagree)),
        (format!("a,b,,{uri},,,8,"), Some(CsvRowError::Disagree)),
        (format!("a,b,,{uri},,,,60"), Some(CsvRowError::Disagree)),
        (format!("a,b,{SEED},{uri},,,,"), Some(CsvRowError::TwoSeeds)),
        (
            "a,b,,otpauth://hotp/x?secret=AAAA,,,,".to_owned(),
            Some(CsvRowError::Uri(UriError::CounterBased)),
        ),
        ("a,b,,nonsense,,,,".to_owned(), Some(CsvRowError::Uri(UriError::Scheme))),
    ] {
        assert_eq!(problem(&row)?, expected, "{row}");
    }
    Ok(())
}

#[test]
fn an_unusable_row_has_a_reason() -> Result<()> {
    for (row, expected) in [
        ("a,b,,,,,,", CsvRowError::NoSeed),
        ("a,b, ,,,,,", CsvRowError::NoSeed),
        ("a,b,0189,,,,,", CsvRowError::Seed(SeedError::NotBase32)),
        ("a,b,GEZDGNBV,,,,,", CsvRowError::Seed(SeedError::Length)),
        ("a,b,GEZDGNBVGY3TQOJQ,,,MD5,,", CsvRowError::Algorithm),
        ("a,b,GEZDGNBVGY3TQOJQ,,,,7,", CsvRowError::Digits),
        ("a,b,GEZDGNBVGY3TQOJQ,,,,,45", CsvRowError::Period),
        ("a,b,GEZDGNBVGY3TQOJQ,,\"x\ny\",,,", CsvRowError::Issuer),
        ("a", fields(Some(1))),
        ("a,b,\"GEZDGNBVGY3TQOJQ,,,,,", fields(Some(3))),
    ] {
        assert_eq!(problem(row)?, Some(expected), "{row}");
    }
    for number in (1..=40).filter(|number| *number != COLUMNS.len()) {
        let row = vec!["GEZDGNBVGY3TQOJQ"; number].join(",");
        // More fields than any header has are not counted.
        let found = (number <= COLUMNS.len() + 1).then_some(number);
        assert_eq!(problem(&row)?, Some(fields(found)), "{number} fields");
    }
    let text = fields(Some(3)).to_string();
    assert!(
        text.starts_with("expected 8 fields as in the header, found 3"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_row_has_the_number_of_the_line_in_which_it_begins() -> Result<()> {
    let text = format!(
        "user,device,seed\r\n\r\na,b,{SEED}\r\n\"c\nd\",e,{SEED}\r\n\n\nbad\ntoo,many,,,,,,,,,,,,,,,\nf,g,{SEED}"
    );
    let lines: Vec<(usize, bool)> = rows(&text)?.iter().map(|(line, row)| (*line, row.is_ok())).collect();
    assert_eq!(lines, [(3, true), (4, true), (8, false), (9, false), (10, true)]);
    Ok(())
}

#[test]
fn a_wrong_header_is_refused_with_the_number_of_its_column() {
    for (text, expected) in [
        ("", CsvError::NoHeader),
        ("\n\n", CsvError::NoHeader),
        ("user,device,sed\n", CsvError::UnknownColumn { column: 3 }),
        ("user,device,seed,\n", CsvError::UnknownColumn { column: 4 }),
        ("user,device,seed,note\n", CsvError::UnknownColumn { column: 4 }),
        ("user,device,seed,User\n", CsvError::RepeatedColumn { column: 4 }),
        ("user,device\n", CsvError::NoSeedColumn),
        ("device,seed\n", CsvError::NoUserColumn),
        ("alice,phone,GEZDGNBVGY3TQOJQ\n", CsvError::UnknownColumn { column: 1 }),
        ("user,device;seed\n", CsvError::UnknownColumn { column: 2 }),
    ] {
        assert_eq!(parse(text).err(), Some(expected), "{text:?}");
        assert!(!expected.to_string().contains("GEZD"));
    }
    for text in [
        "uri\n",
        "uri,device\n",
        "user,uri\n",
        "user,seed\n",
        "user,device,seed,uri\n",
    ] {
        assert!(parse(text).is_ok_and(|rows| rows.is_empty()), "{text:?}");
    }
}

#[test]
fn debug_does_not_show_what_was_read() -> Result<()> {
    let rows = rows(&format!("user,device,seed,issuer\nMARK,MARK,{SEED},MARK\n"))?;
    let shown = format!("{rows:?}");
    assert!(!shown.contains("MARK") && !shown.contains("GEZD"), "{shown}");
    Ok(())
}

fn quoted(field: &str) -> String {
    format!("\"{}\"", field.replace('"', "\"\""))
}

proptest! {
    #[test]
    fn every_written_row_is_read_back(
        written in proptest::collection::vec(
            ("[^ ][ -~界\n,;\"]{0,20}", "\\PC{1,10}", proptest::collection::vec(any::<u8>(), 10..=64), any::<bool>()),
            0..10,
        ),
        delimiter in proptest::sample::select(vec![',', ';', '\t']),
        end in proptest::sample::select(vec!["\n", "\r\n"]),
    ) {
        let mut text = format!("device{delimiter}seed{delimiter}digits{delimiter}user{end}");
        for (user, device, seed, eight) in &written {
            let seed = data_encoding::BASE32.encode(seed);
            let digits = if *eight { "8" } else { "" };
            let (user, device) = (quoted(user), quoted(device));
            text += &[device.as_str(), &seed, digits, &user].join(&delimiter.to_string());
            text += end;
        }
        let read = parse(&text)?;
        prop_assert_eq!(read.len(), written.len());
        for ((_, read), (user, device, seed, eight)) in read.into_iter().zip(written) {
            let read = read?;
            let given = |name: String| (!name.trim().is_empty()).then_some(name);
            prop_assert_eq!(read.user, given(user));
            prop_assert_eq!(read.device, given(device));
            prop_assert_eq!(&*read.seed.to_base32(), &data_encoding::BASE32_NOPAD.encode(&seed));
            prop_assert_eq!(read.seed.parameters().digits.count() == 8, eight);
        }
    }

    #[test]
    fn no_input_makes_the_reader_panic(text: String, rows in "[a-c,;\"\r\n\t é]{0,200}") {
        let _ = parse(&text);
        let _ = parse(&format!("user,device,seed\n{text}"));
        let _ = parse(&format!("user;uri\n{rows}"));
        let _ = parse(&rows);
    }
}

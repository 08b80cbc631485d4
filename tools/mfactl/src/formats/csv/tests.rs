use anyhow::{Context as _, Result};
use proptest::prelude::*;
use shared::otp::{Algorithm, Digits, Period, SeedError};

use super::*;

const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

fn rows(text: &str) -> Result<Vec<NumberedRow>> {
    Ok(parse(text).with_context(|| text.to_owned())?.rows)
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
    CsvRowError::Fields { expected: 8, found }
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
fn what_spreadsheets_write_around_the_rows_is_passed_over() -> Result<()> {
    let expected = vec![(Some("alice".to_owned()), Some("phone".to_owned()))];
    for text in [
        format!("sep=;\nuser;device;seed\nalice;phone;{SEED}\n"),
        format!("\u{feff}sep=;\r\nuser;device;seed\r\nalice;phone;{SEED}\r\n"),
        format!("\"sep=,\"\nuser,device,seed\nalice,phone,{SEED}\n"),
        format!("SEP=\t\nuser\tdevice\tseed\nalice\tphone\t{SEED}\n"),
        format!("# exported\n\n,,\nuser,device,seed\n# it's \"here\", \"there\n,,\n  \nalice,phone,{SEED}\n,,\n\n"),
        format!("\"# a, b\",,\nuser,device,seed\n\"# c, d\",,\nalice,phone,{SEED}\n#\n,,,,,\n"),
        format!("user;device;seed\n;;\nalice;phone;{SEED}\n;\n"),
        format!("user,device,seed,,\nalice,phone,{SEED},,\n"),
    ] {
        assert_eq!(names(&text)?, expected, "{text:?}");
        assert!(parse(&text)?.comments_like_rows.is_empty(), "{text:?}");
    }
    let unnamed = rows(&format!("user,seed,\nalice,{SEED},\nalice,{SEED},SHA256\n"))?;
    let problems: Vec<_> = unnamed.into_iter().map(|(_, row)| row.err()).collect();
    assert_eq!(problems, [None, Some(CsvRowError::Unnamed { column: 3 })]);
    // A user whose name begins with # needs quotes, and a row without them is told.
    let text = format!("user,device,seed\n#alice,phone,{SEED}\n\"#alice\",phone,{SEED}\n# a, b\n");
    assert_eq!(names(&text)?, [(Some("#alice".to_owned()), Some("phone".to_owned()))]);
    assert_eq!(parse(&text)?.comments_like_rows, [2]);
    Ok(())
}

#[test]
fn a_seed_may_be_in_hexadecimal_digits_in_a_column_of_its_own() -> Result<()> {
    let digits = "3132333435363738393031323334353637383930";
    assert_eq!(
        names(&format!("user,seedHex\na,{digits}\n"))?,
        [(Some("a".to_owned()), None)]
    );
    assert_eq!(
        problem(&format!("a,b,{digits},,,,,"))?,
        Some(CsvRowError::Seed(SeedTextError::LooksHexadecimal))
    );
    let both = format!("user,seed,seedhex\na,{SEED},\na,,{digits}\na,{SEED},{digits}\na,,{SEED}\n");
    let problems: Vec<_> = rows(&both)?.into_iter().map(|(_, row)| row.err()).collect();
    assert_eq!(
        problems,
        [
            None,
            None,
            Some(CsvRowError::TwoSeeds),
            Some(CsvRowError::Seed(SeedTextError::NotHexadecimal))
        ]
    );
    let ambiguous = rows("user,seed\na,abcdef234567abcdef234567\n")?
        .pop()
        .context("a row")?;
    assert!(ambiguous.1?.looks_hexadecimal);
    Ok(())
}

#[test]
fn a_list_of_users_is_read_whole_or_not_at_all() -> Result<()> {
    let users = Users::parse("\u{feff}sep=;\nuser;serial\nalice; 0077 \n# x\n;\nbob;78\n")?;
    assert_eq!(
        (users.of("0077"), users.of("78"), users.of("77")),
        (Some("alice"), Some("bob"), None)
    );
    assert_eq!(users.count_others(["78", "99"].into_iter()), 1);
    for (text, expected) in [
        ("", UsersError::Header),
        ("77,alice\n", UsersError::Header),
        ("serial\n77\n", UsersError::Header),
        ("serial,user,device\n77,alice,x\n", UsersError::Header),
        ("serial,user\n", UsersError::Empty),
        ("serial,user\n77,\n", UsersError::Row { line: 2 }),
        ("serial,user\n77,a\n,b\n", UsersError::Row { line: 3 }),
        ("serial,user\n77,a,b\n", UsersError::Row { line: 2 }),
        ("serial,user\n77,a\n77,b\n", UsersError::Repeated { line: 3 }),
    ] {
        assert_eq!(Users::parse(text).err(), Some(expected), "{text:?}");
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
        ("a,b,0189,,,,,", CsvRowError::Seed(SeedError::NotBase32.into())),
        ("a,b,GEZDGNBV,,,,,", CsvRowError::Seed(SeedError::Length.into())),
        ("a,b,GEZDGNBVGY3TQOJQ,,,MD5,,", CsvRowError::Algorithm),
        ("a,b,GEZDGNBVGY3TQOJQ,,,,7,", CsvRowError::Digits),
        ("a,b,GEZDGNBVGY3TQOJQ,,,,,45", CsvRowError::Period),
        ("a,b,GEZDGNBVGY3TQOJQ,,\"x\ny\",,,", CsvRowError::Issuer),
        ("a", fields(Some(1))),
        ("a,b,\"GEZDGNBVGY3TQOJQ,,,,,", fields(Some(3))),
    ] {
        assert_eq!(problem(row)?, Some(expected), "{row}");
    }
    for number in (1..=140).filter(|number| *number != 8) {
        let row = vec!["GEZDGNBVGY3TQOJQ"; number].join(",");
        let found = (number <= MOST_FIELDS).then_some(number);
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
fn a_wrong_header_is_refused_with_the_number_and_name_of_its_column() {
    let unknown = |column, name: &str| CsvError::UnknownColumn {
        column,
        name: name.to_owned(),
    };
    for (text, expected) in [
        ("", CsvError::NoHeader),
        ("\n\n", CsvError::NoHeader),
        (",,\n;", CsvError::NoHeader),
        ("user,device,sed\n", unknown(3, "sed")),
        ("user,device,seed,hashalgo\n", unknown(4, "hashalgo")),
        ("user,device,seed,User\n", CsvError::RepeatedColumn { column: 4 }),
        ("user,device\n", CsvError::NoSeedColumn),
        ("device,seed\n", CsvError::NoUserColumn),
        ("alice,phone,GEZDGNBVGY3TQOJQ\n", unknown(1, "alice")),
        ("user,GEZDGNBVGY3TQOJQ\n", unknown(2, "(too long to be shown)")),
        ("user,device;seed\n", unknown(2, "device;seed")),
        ("sep=;\nuser,seed\n", unknown(1, "user,seed")),
    ] {
        assert_eq!(parse(text).err(), Some(expected), "{text:?}");
    }
    for text in [
        "uri\n",
        "uri,device\n",
        "user,uri\n",
        "user,seed\n",
        "user,device,seed,uri\n",
    ] {
        assert!(parse(text).is_ok_and(|csv| csv.rows.is_empty()), "{text:?}");
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
        let read = read.rows;
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
        let _ = Users::parse(&format!("serial,user\n{rows}"));
    }
}

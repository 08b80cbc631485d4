use anyhow::{Context as _, Result};
use proptest::prelude::*;
use shared::otpauth::{Issuer, build};

use super::*;

const STRONG: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
const WEAK: &str = "GEZDGNBVGY3TQOJQ";
/// Parts 1 and 3 of 3 of one export, with `alice` and `bob`; and an export in one part, with `carol`.
const PARTS: [&str; 2] = [
    "otpauth-migration://offline?data=CiMKFDEyMzQ1Njc4OTAxMjM0NTY3ODkwEgVhbGljZSABKAEwAhABGAMgACgJ",
    "otpauth-migration://offline?data=CiEKFDEyMzQ1Njc4OTAxMjM0NTY3ODkwEgNib2IgASgBMAIQARgDIAIoCQ%3D%3D",
];
const ALONE: &str = "otpauth-migration://offline?data=CiMKFDEyMzQ1Njc4OTAxMjM0NTY3ODkwEgVjYXJvbCABKAEwAhABGAEgACgJ";

fn with_device() -> Result<ImportOptions<'static>> {
    Ok(ImportOptions {
        device: Some(DeviceName::parse("app")?),
        ..ImportOptions::default()
    })
}

fn uri(user: &str, seed: &str) -> String {
    format!("otpauth://totp/ACME:{user}?secret={seed}&issuer=ACME")
}

/// Each row as `user/device`, or as its error.
fn report(file: &str, options: &ImportOptions<'_>) -> Result<Vec<String>> {
    let shown = |row| match row {
        Ok(Row { user, device, .. }) => format!("{}/{}", user.as_str(), device.as_str()),
        Err(error) => format!("{error}"),
    };
    Ok(read(file.as_bytes(), options)?.rows.into_iter().map(shown).collect())
}

fn problems(file: &str, options: &ImportOptions<'_>) -> Result<Vec<Option<Problem>>> {
    let rows = read(file.as_bytes(), options)?.rows;
    Ok(rows
        .into_iter()
        .map(|row| row.err().map(|error| error.problem))
        .collect())
}

#[test]
fn a_file_may_have_uris_exports_and_comments() -> Result<()> {
    let [first, third] = PARTS;
    let file = format!(
        "\u{feff}# exported\r\n\r\n  {}  \r\n{first}\r\n# more\r\n{ALONE}\r\n{}\r\n{third}\r\nnonsense\r\n",
        uri("dave", STRONG),
        uri("eve%20(phone)", STRONG),
    );
    assert_eq!(
        report(&file, &with_device()?)?,
        [
            "dave/app",
            "alice/app",
            "carol/app",
            "eve (phone)/app",
            "bob/app",
            "row 6 (line 9): this line is neither an otpauth:// nor an otpauth-migration:// URI nor a comment (#)",
            "row 7 (line 4): the export that begins here has 3 parts; missing: 2",
        ]
    );
    // Without a device, only URIs of this program name one.
    let problems = problems(&file, &ImportOptions::default())?;
    assert_eq!(problems.first(), Some(&Some(Problem::NoDevice)));
    assert_eq!(problems.get(3), Some(&None));
    Ok(())
}

#[test]
fn a_uri_of_this_program_is_imported_under_its_names() -> Result<()> {
    let (user, device) = (
        UserName::parse("urn:a (b) c@d/e")?,
        DeviceName::parse("my phone (old)")?,
    );
    let issuer = Issuer::parse("Big & Co")?;
    let seed = Seed::from_base32(STRONG, OtpParameters::default())?;
    let file = build(&issuer, &user, &device, &seed);
    let row = read(file.as_bytes(), &ImportOptions::default())?
        .rows
        .pop()
        .context("a row")??;
    assert_eq!((row.user, row.device), (user, device));
    assert_eq!(row.issuer.as_deref(), Some("Big & Co"));
    assert_eq!(row.seed.to_base32().as_str(), STRONG);
    Ok(())
}

#[test]
fn a_repeated_or_foreign_part_is_an_error_and_is_not_read() -> Result<()> {
    let [first, third] = PARTS;
    // The first part, but of 4.
    let other = first.replace("GAMgACgJ", "GAQgACgJ");
    let file = format!("{first}\n{first}\n{other}\n{third}\n");
    assert_eq!(
        problems(&file, &with_device()?)?,
        [
            None,
            Some(Problem::Part(PartError::Repeated { number: 1 })),
            Some(Problem::Part(PartError::Foreign)),
            None,
            Some(Problem::PartsMissing {
                size: 3,
                missing: vec![2],
            }),
        ]
    );
    Ok(())
}

#[test]
fn missing_parts_are_reported_in_the_order_of_the_file() -> Result<()> {
    // The last byte of a part is the number of its export.
    let part = |id: char| PARTS[0].trim_end_matches('J').to_owned() + &id.to_string();
    let file = "ZKYLXMWNVO".chars().map(part).collect::<Vec<_>>().join("\n");
    let missing = |row: Result<Row, RowError>| match row {
        Err(RowError {
            place: Place::Line(line),
            problem: Problem::PartsMissing { size: 3, missing },
            ..
        }) if missing == [2, 3] => Some(line),
        _ => None,
    };
    let rows = read(file.as_bytes(), &with_device()?)?.rows;
    let lines: Vec<usize> = rows.into_iter().filter_map(missing).collect();
    assert_eq!(lines, (1..=10).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn rows_are_numbered_in_order_with_their_place() -> Result<()> {
    let file = format!("user,device,seed\na,b,{STRONG}\n\nc,d,bad!\ne,f,{STRONG}\n");
    let rows = read(file.as_bytes(), &ImportOptions::default())?.rows;
    let numbers: Vec<(usize, Place)> = rows
        .iter()
        .map(|row| match row {
            Ok(row) => (row.number, row.place),
            Err(error) => (error.number, error.place),
        })
        .collect();
    assert_eq!(numbers, [(1, Place::Line(2)), (2, Place::Line(4)), (3, Place::Line(5))]);
    Ok(())
}

#[test]
fn the_same_user_and_device_twice_in_one_file_is_an_error_of_the_second() -> Result<()> {
    // One name in two encodings, as in NFC and NFD.
    let file = format!(
        "user,device,seed\nJos\u{e9},a,{STRONG}\nJose\u{301},a,{STRONG}\nJos\u{e9},b,{STRONG}\njos\u{e9},a,{STRONG}\n"
    );
    assert_eq!(
        problems(&file, &ImportOptions::default())?,
        [None, Some(Problem::Repeated { first: Place::Line(2) }), None, None]
    );
    // An unusable row does not occupy a name.
    let file = format!("user,device,seed\na,a,bad!\na,a,{WEAK}\na,a,{STRONG}\n");
    let problems = problems(&file, &ImportOptions::default())?;
    assert_eq!(
        problems.iter().map(Option::is_none).collect::<Vec<_>>(),
        [false, false, true]
    );
    Ok(())
}

#[test]
fn a_weak_seed_needs_a_flag_and_one_under_80_or_over_1024_bits_is_never_accepted() -> Result<()> {
    let of_bytes = |bytes: usize| data_encoding::BASE32_NOPAD.encode(&vec![7; bytes]);
    for (bytes, by_default, with_flag) in [
        (9, false, false),
        (10, false, true),
        (15, false, true),
        (16, true, true),
        (20, true, true),
        (128, true, true),
        (129, false, false),
    ] {
        let file = format!("user,device,seed\na,b,{}\n", of_bytes(bytes));
        for (allow_weak_seeds, expected) in [(false, by_default), (true, with_flag)] {
            let options = ImportOptions {
                allow_weak_seeds,
                ..ImportOptions::default()
            };
            let row = read(file.as_bytes(), &options)?.rows.pop().context("a row")?;
            assert_eq!(row.is_ok(), expected, "{bytes} bytes, {allow_weak_seeds}");
            assert!(row.is_err() || row?.is_weak() == (bytes < 16), "{bytes} bytes");
        }
    }
    let file = uri("a", WEAK);
    assert_eq!(
        problems(&file, &with_device()?)?,
        [Some(Problem::WeakSeed { bits: 80 })]
    );
    Ok(())
}

#[test]
fn names_are_checked_and_never_trimmed() -> Result<()> {
    let long = "a".repeat(129);
    for (row, expected) in [
        (format!(",b,{STRONG}"), Problem::NoUser),
        (format!("a,,{STRONG}"), Problem::NoDevice),
        (format!(" a,b,{STRONG}"), Problem::User(NameError::OuterWhiteSpace)),
        (format!("a,b ,{STRONG}"), Problem::Device(NameError::OuterWhiteSpace)),
        (format!("{long},b,{STRONG}"), Problem::User(NameError::Length)),
        (format!("a,{long},{STRONG}"), Problem::Device(NameError::Length)),
        (format!("\"a\nb\",b,{STRONG}"), Problem::User(NameError::Control)),
    ] {
        let file = format!("user,device,seed\n{row}\n");
        assert_eq!(problems(&file, &ImportOptions::default())?, [Some(expected)], "{row:?}");
    }
    // The device of the options is for rows that name none.
    let file = format!("user,device,seed\na,,{STRONG}\na,b,{STRONG}\n");
    assert_eq!(report(&file, &with_device()?)?, ["a/app", "a/b"]);
    let file = uri("", STRONG);
    assert_eq!(problems(&file, &with_device()?)?, [Some(Problem::NoUser)]);
    Ok(())
}

#[test]
fn a_csv_row_without_a_user_has_the_account_of_its_uri() -> Result<()> {
    let (ours, theirs) = (uri("alice%20(phone)", STRONG), uri("bob", STRONG));
    let unclear = format!("otpauth://totp/Other:x?secret={STRONG}&issuer=ACME");
    let file = format!("user,device,uri\n,,{ours}\n,tablet,{theirs}\ncarol,tablet,{unclear}\n,tablet,{unclear}\n");
    assert_eq!(
        report(&file, &ImportOptions::default())?,
        [
            "alice/phone",
            "bob/tablet",
            "carol/tablet",
            "row 4 (line 5): it is unclear which part of the label is the account: import a CSV file that names the user",
        ]
    );
    Ok(())
}

#[test]
fn pskc_is_recognised_by_its_first_character() -> Result<()> {
    let package = |user: &str, secret: &str| {
        format!(
            "<KeyPackage><DeviceInfo><SerialNo>77</SerialNo></DeviceInfo>\
             <Key Id='1' Algorithm='urn:ietf:params:xml:ns:keyprov:pskc:totp'><Issuer>ACME</Issuer>\
             <AlgorithmParameters><ResponseFormat Encoding='DECIMAL' Length='6'/></AlgorithmParameters>\
             <Data><Secret><PlainValue>{secret}</PlainValue></Secret></Data>{user}</Key></KeyPackage>"
        )
    };
    let secret = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=";
    let file = format!(
        "\u{feff}\r\n<KeyContainer Version='1.0' xmlns='urn:ietf:params:xml:ns:keyprov:pskc'>{}{}{}</KeyContainer>",
        package("<UserId>alice</UserId>", secret),
        package("", secret),
        package("<UserId>bob</UserId>", "AAAA"),
    );
    assert_eq!(
        report(&file, &with_device()?)?,
        [
            "alice/77",
            "row 2 (key package 2): the key names no user: list serial numbers and users in a CSV file (serial,user), and give it \
             with --users",
            "row 3 (key package 3): the seed has fewer than 80 or more than 1,024 bits",
        ]
    );
    Ok(())
}

/// A key container with keys of serial numbers and users.
fn container(keys: &[(&str, &str)]) -> String {
    let package = |(serial, user): &(&str, &str)| {
        let user = if user.is_empty() {
            String::new()
        } else {
            format!("<UserId>{user}</UserId>")
        };
        format!(
            "<KeyPackage><DeviceInfo><SerialNo>{serial}</SerialNo></DeviceInfo>\
             <Key Algorithm='urn:ietf:params:xml:ns:keyprov:pskc:totp'>\
             <AlgorithmParameters><ResponseFormat Encoding='DECIMAL' Length='6'/></AlgorithmParameters>\
             <Data><Secret><PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret>\
             <TimeDrift><PlainValue>-4</PlainValue></TimeDrift></Data>{user}</Key></KeyPackage>"
        )
    };
    let packages: String = keys.iter().map(package).collect();
    format!("<KeyContainer Version='1.0' xmlns='urn:ietf:params:xml:ns:keyprov:pskc'>{packages}</KeyContainer>")
}

#[test]
fn the_keys_of_a_maker_get_their_users_from_a_list() -> Result<()> {
    let options = ImportOptions {
        users: Some(Users::parse("serial,user\n77,alice\n78,bob\n80,carol\n99,dave\n")?),
        ..ImportOptions::default()
    };
    let file = container(&[("77", ""), ("78", "bob"), ("79", ""), ("80", "eve")]);
    assert_eq!(
        report(&file, &options)?,
        [
            "alice/77",
            "bob/78",
            "row 3 (key package 3): the key names no user, and the list of --users does not have its serial number",
            "row 4 (key package 4): the key names another user than the list of --users: correct one of them",
        ]
    );
    let notes = read(file.as_bytes(), &options)?.notes;
    assert_eq!(
        notes,
        ["Serial numbers of --users that no readable key of the file has: 1."]
    );
    let csv = format!("user,seed\na,{STRONG}\n");
    assert_eq!(read(csv.as_bytes(), &options).err(), Some(FileError::NotPskc));
    Ok(())
}

#[test]
fn the_same_account_under_two_issuers_is_told_apart_by_the_issuer() -> Result<()> {
    let by_issuer = ImportOptions {
        device_from_issuer: true,
        ..ImportOptions::default()
    };
    let file = [
        uri("alice", STRONG),
        uri("alice", STRONG).replace("ACME", "Other"),
        uri("alice%20(phone)", STRONG),
        uri("alice%20(phone)", STRONG).replace("ACME", "Other"),
        format!("otpauth://totp/alice?secret={STRONG}"),
    ];
    let file = file.join("\n");
    let expected = ["alice/ACME", "alice/Other", "alice/ACME phone", "alice/Other phone"];
    let rows = report(&file, &by_issuer)?;
    assert_eq!(rows.get(..4), Some(expected.map(str::to_owned).as_slice()));
    assert!(
        rows.iter().skip(4).all(|row| row.contains("--device-from issuer")),
        "{rows:?}"
    );
    let rows = report(&file, &with_device()?)?;
    assert!(
        rows.get(1).is_some_and(|row| row.contains("--device-from issuer")),
        "{rows:?}"
    );
    let both = ImportOptions {
        device_from_issuer: true,
        ..with_device()?
    };
    assert_eq!(report(&file, &both)?.pop().as_deref(), Some("alice/app"));
    Ok(())
}

#[test]
fn what_may_be_meant_otherwise_is_told_beside_the_row() -> Result<()> {
    const DIGITS: &str = "abcdef234567abcdef23456723456723";
    let notes = |file: &str| -> Result<String> {
        let row = read(file.as_bytes(), &with_device()?)?.rows.pop().context("a row")??;
        Ok(row.notes.join("\n"))
    };
    for file in [
        format!("user,seed\na,{DIGITS}\n"),
        format!("otpauth://totp/a?secret={DIGITS}"),
    ] {
        assert!(notes(&file)?.contains("seedHex"), "{file}");
    }
    for file in [
        uri("a", STRONG),
        format!("user,seedHex\na,{DIGITS}\n"),
        container(&[("1", "a")]).replace("-4", "0"),
    ] {
        assert_eq!(notes(&file)?, "", "{file}");
    }
    assert!(notes(&container(&[("1", "a")]))?.contains("TimeDrift is -4"));
    let file = format!("user,device,seed\n#a,b,{STRONG}\nc,d,{STRONG}\n");
    let notes = read(file.as_bytes(), &ImportOptions::default())?.notes;
    assert!(notes.iter().all(|note| note.starts_with("Line 2 begins with #")) && notes.len() == 1);
    Ok(())
}

#[test]
fn a_file_with_nothing_to_import_is_refused_and_says_what_was_looked_for() -> Result<()> {
    for (file, expected) in [
        ("user,device,seed\n", FileError::NoRows),
        ("sep=;\nuser;device;seed\n;;\n# x\n", FileError::NoRows),
        (&container(&[]), FileError::NoKeys),
    ] {
        let error = read(file.as_bytes(), &ImportOptions::default()).err();
        assert_eq!(error, Some(expected), "{file}");
    }
    let empty = report("otpauth-migration://offline?data=\n", &with_device()?)?;
    assert_eq!(
        empty,
        ["row 1 (line 1): the export has no entries: export again, and copy the whole URI"]
    );
    // Cut behind its only entry.
    let cut = format!("{}\n", ALONE.get(..ALONE.len() - 8).context("a URI")?);
    let rows = report(&cut, &with_device()?)?;
    assert_eq!(rows.first().map(String::as_str), Some("carol/app"));
    assert!(
        rows.get(1)
            .is_some_and(|row| row.contains("after these 1 may be missing")),
        "{rows:?}"
    );
    Ok(())
}

#[test]
fn a_file_of_an_unknown_format_is_refused() {
    let error = |file: &[u8]| read(file, &ImportOptions::default()).err();
    for empty in ["", "\u{feff}", " \r\n\r\n", "# nothing but this\n"] {
        assert_eq!(error(empty.as_bytes()), Some(FileError::Empty), "{empty:?}");
    }
    for unknown in [
        "hello",
        "alice,phone,GEZDGNBVGY3TQOJQ\n",
        "{\"a\":1}",
        "\0",
        "http://example.com",
    ] {
        assert_eq!(error(unknown.as_bytes()), Some(FileError::Format), "{unknown:?}");
    }
    assert_eq!(error(b"user,seed\na,b\n\xff\n"), Some(FileError::NotUtf8 { line: 3 }));
    assert_eq!(error(b"\xff\xfeu\0s\0e\0r\0"), Some(FileError::NotUtf8 { line: 1 }));
    assert_eq!(error(b"<a/>"), Some(FileError::Pskc(PskcError::NotAContainer)));
    assert_eq!(
        error(b"user,sed\n"),
        Some(FileError::Csv(CsvError::UnknownColumn {
            column: 2,
            name: "sed".to_owned()
        }))
    );
    assert_eq!(error(&vec![b'\n'; LARGEST_FILE + 1]), Some(FileError::Size));
}

#[test]
fn neither_debug_nor_errors_show_what_was_read() -> Result<()> {
    let file = format!(
        "user,device,seed\nMARK,MARK,{STRONG}\nMARK,MARK,{STRONG}\nMARK,MARK,MARK1\n MARK,MARK,{STRONG}\nMARK,b,{WEAK}\nMARK\n"
    );
    let rows = read(file.as_bytes(), &ImportOptions::default())?.rows;
    let shown = format!(
        "{rows:?} {}",
        report(&file, &ImportOptions::default())?.split_off(1).join("\n")
    );
    assert!(!shown.contains("MARK") && !shown.contains("GEZD"), "{shown}");
    Ok(())
}

proptest! {
    #[test]
    fn no_input_makes_the_import_panic(bytes: Vec<u8>, text: String) {
        let options = ImportOptions {
            pskc: PskcOptions { key: Some(&[7; 16]), allow_dated_keys: true },
            allow_weak_seeds: true,
            device_from_issuer: true,
            ..ImportOptions::default()
        };
        let _ = read(&bytes, &options);
        for head in ["", "otpauth://totp/", "otpauth-migration://offline?data=", "user,device,seed\n", "<", PARTS[0]] {
            let _ = read(format!("{head}{text}").as_bytes(), &options);
        }
    }

    #[test]
    fn a_file_has_a_row_for_each_line_whatever_its_content(lines in proptest::collection::vec("[a-z%:?&=#]{0,20}", 1..10)) {
        let file = format!("otpauth://totp/{}", lines.join("\notpauth://totp/"));
        let rows = read(file.as_bytes(), &ImportOptions::default())?.rows;
        prop_assert_eq!(rows.len(), lines.len());
    }
}

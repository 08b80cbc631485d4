use anyhow::{Context as _, Result};
use proptest::prelude::*;

use super::*;

fn entry(secret: &[u8], name: &str, issuer: &str) -> Parameters {
    Parameters {
        secret: secret.to_vec(),
        name: name.to_owned(),
        issuer: issuer.to_owned(),
        algorithm: 1,
        digits: 1,
        kind: 2,
    }
}

fn payload(entries: Vec<Parameters>) -> Payload {
    Payload {
        entries,
        version: 1,
        batch_size: 1,
        batch_index: 0,
        batch_id: -7,
    }
}

/// As the app writes it: standard base64, percent-encoded.
fn written(payload: &Payload) -> String {
    let data = data_encoding::BASE64.encode(&payload.encode_to_vec());
    let data = data.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("otpauth-migration://offline?data={data}")
}

fn part(payload: &Payload) -> Result<Part> {
    Ok(parse(&written(payload))?)
}

fn of_batch(id: i32, size: i32, index: i32) -> Result<Part> {
    part(&Payload {
        batch_size: size,
        batch_index: index,
        batch_id: id,
        ..payload(vec![])
    })
}

#[test]
fn an_export_of_the_app_is_read() -> Result<()> {
    // A sample that libraries for this format publish: algorithm and digits are unspecified.
    let raw = "otpauth-migration://offline?data=CjEKCkhlbGxvId6tvu8SGEV4YW1wbGU6YWxpY2VAZ29vZ2xlLmNvbRoHRXhhbXBsZTAC";
    let entry = parse(raw)?.entries.pop().context("an entry")?;
    assert_eq!(entry.err(), Some(EntryError::Algorithm));

    let secret = b"12345678901234567890";
    let export = part(&payload(vec![
        entry_of(2, 2, 2),
        super::tests::entry(secret, "Example:alice", "Example"),
    ]))?;
    let [first, second] = export.entries.as_slice() else {
        anyhow::bail!("two entries");
    };
    let first = first.as_ref().map_err(|error| *error)?;
    assert_eq!((first.account.as_str(), first.issuer.as_deref()), ("bob", None));
    assert_eq!(first.seed.parameters().algorithm, Algorithm::Sha256);
    assert_eq!(first.seed.parameters().digits, Digits::Eight);
    let second = second.as_ref().map_err(|error| *error)?;
    assert_eq!(
        (second.account.as_str(), second.issuer.as_deref()),
        ("alice", Some("Example"))
    );
    assert_eq!(second.seed.parameters(), OtpParameters::default());
    assert_eq!(second.seed.to_base32().as_str(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    Ok(())
}

fn entry_of(algorithm: i32, digits: i32, kind: i32) -> Parameters {
    let mut of = entry(b"12345678901234567890", "bob", "");
    (of.algorithm, of.digits, of.kind) = (algorithm, digits, kind);
    of
}

#[test]
fn an_unusable_entry_does_not_affect_the_others() -> Result<()> {
    let named = |name, issuer| entry(b"12345678901234567890", name, issuer);
    let cases = [
        (entry_of(1, 1, 1), Some(EntryError::CounterBased)),
        (entry_of(1, 1, 0), Some(EntryError::Type)),
        (entry_of(1, 1, 3), Some(EntryError::Type)),
        (entry_of(1, 1, -1), Some(EntryError::Type)),
        (entry_of(0, 1, 2), Some(EntryError::Algorithm)),
        (entry_of(4, 1, 2), Some(EntryError::Algorithm)),
        (entry_of(9, 1, 2), Some(EntryError::Algorithm)),
        (entry_of(1, 0, 2), Some(EntryError::Digits)),
        (entry_of(1, 3, 2), Some(EntryError::Digits)),
        (
            entry(b"123456789", "bob", ""),
            Some(EntryError::Seed(SeedError::Length)),
        ),
        (entry(&[1; 129], "bob", ""), Some(EntryError::Seed(SeedError::Length))),
        (entry(b"", "bob", ""), Some(EntryError::Seed(SeedError::Length))),
        (named("Other:bob", "Example"), Some(EntryError::Name)),
        (named("Example:bob", ""), Some(EntryError::Name)),
        (named("b\nob", ""), Some(EntryError::Name)),
        (named("bob", "Exam\u{1b}ple"), Some(EntryError::Name)),
        (named("Example: a:b", "Example"), None),
        (entry_of(1, 1, 2), None),
        (entry_of(3, 2, 2), None),
    ];
    let export = part(&payload(cases.iter().map(|(entry, _)| entry.clone()).collect()))?;
    assert_eq!(export.entries.len(), cases.len());
    for (at, (read, (_, expected))) in export.entries.into_iter().zip(cases).enumerate() {
        assert_eq!(read.err(), expected, "entry {at}");
    }
    Ok(())
}

#[test]
fn the_data_is_read_in_every_encoding_that_tools_use() -> Result<()> {
    let sent = payload(vec![entry(&[0xfb; 20], "???>>>", ""), entry(&[0xff; 20], "~~~", "")]);
    let bytes = sent.encode_to_vec();
    let standard = data_encoding::BASE64.encode(&bytes);
    assert!(standard.contains('+') && standard.contains('/'), "{standard}");
    let encoded = written(&sent);
    for raw in [
        encoded.clone(),
        encoded.replace("offline?", "offline/?"),
        encoded.replace("otpauth-migration://offline", "OTPAUTH-MIGRATION://Offline"),
        format!("{encoded}&other=1"),
        format!("otpauth-migration://offline?data={standard}"),
        format!("otpauth-migration://offline?data={}", standard.trim_end_matches('=')),
        format!(
            "otpauth-migration://offline?data={}",
            data_encoding::BASE64URL.encode(&bytes)
        ),
    ] {
        let read = parse(&raw).with_context(|| raw.clone())?;
        assert_eq!(read.entries.iter().filter(|entry| entry.is_ok()).count(), 2, "{raw}");
    }
    Ok(())
}

#[test]
fn anything_but_an_export_is_refused_with_a_reason() {
    let good = written(&payload(vec![]));
    let version = written(&Payload {
        version: 3,
        ..payload(vec![])
    });
    let cut = written(&payload(vec![entry(&[7; 20], "bob", "")]));
    for (raw, expected) in [
        ("", MigrationError::Scheme),
        ("otpauth://totp/x?secret=AAAA", MigrationError::Scheme),
        ("otpauth-migration://online?data=AA", MigrationError::Scheme),
        ("otpauth-migration://offline", MigrationError::Scheme),
        ("otpauth-migration://offline?dat=AA", MigrationError::Scheme),
        (&format!("{good}&data=AA"), MigrationError::Scheme),
        ("otpauth-migration://offline?data=A", MigrationError::Damaged),
        ("otpauth-migration://offline?data=%%%", MigrationError::Damaged),
        ("otpauth-migration://offline?data=%0A", MigrationError::Damaged),
        ("otpauth-migration://offline?data=____", MigrationError::Damaged),
        (&cut[..cut.len() / 2 / 4 * 4], MigrationError::Damaged),
        (&version, MigrationError::Version),
        (&"x".repeat(LONGEST + 1), MigrationError::Length),
    ] {
        assert_eq!(parse(raw).err(), Some(expected), "{raw:.60}");
    }
}

#[test]
fn inconsistent_part_numbers_are_refused() {
    for (size, index) in [
        (2, 2),
        (0, 1),
        (1, 1),
        (-1, 0),
        (2, -1),
        (1_001, 0),
        (i32::MAX, 0),
        (i32::MIN, 0),
    ] {
        let raw = written(&Payload {
            batch_size: size,
            batch_index: index,
            ..payload(vec![])
        });
        assert_eq!(parse(&raw).err(), Some(MigrationError::Batch), "part {index} of {size}");
    }
}

#[test]
fn missing_repeated_and_foreign_parts_are_detected() -> Result<()> {
    let mut batch = Batch::new(&of_batch(5, 4, 2)?);
    assert_eq!(batch.missing(), [1, 2, 4]);
    assert_eq!(batch.add(&of_batch(5, 4, 0)?), Ok(()));
    assert_eq!(batch.add(&of_batch(5, 4, 2)?), Err(PartError::Repeated { number: 3 }));
    assert_eq!(batch.add(&of_batch(6, 4, 1)?), Err(PartError::Foreign));
    assert_eq!(batch.add(&of_batch(5, 3, 1)?), Err(PartError::Foreign));
    assert_eq!(batch.missing(), [2, 4]);
    assert_eq!(batch.add(&of_batch(5, 4, 3)?), Ok(()));
    assert_eq!(batch.add(&of_batch(5, 4, 1)?), Ok(()));
    assert!(batch.missing().is_empty());
    assert_eq!(batch.size(), 4);
    Ok(())
}

#[test]
fn an_export_in_one_part_needs_no_numbers() -> Result<()> {
    let alone = of_batch(0, 0, 0)?;
    let batch = Batch::new(&alone);
    assert!(batch.missing().is_empty());
    // Two exports with the same made-up number are two exports.
    assert_eq!(alone.batch_id(), None);
    assert_eq!(of_batch(-7, 2, 1)?.batch_id(), Some(-7));
    Ok(())
}

#[test]
fn neither_debug_nor_errors_show_what_was_read() -> Result<()> {
    let export = part(&payload(vec![entry(b"MARKMARKMARKMARK", "MARK", "MARK")]))?;
    let shown = format!("{export:?}");
    assert!(!shown.contains("MARK") && !shown.contains("77, 65"), "{shown}");
    Ok(())
}

proptest! {
    #[test]
    fn every_export_is_read_back(
        entries in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 10..=128), "[^:\\p{Cc}]{1,40}", 1..=3_i32, 1..=2_i32),
            0..8,
        ),
        id: i32,
    ) {
        let sent: Vec<Parameters> = entries.iter().map(|(secret, name, algorithm, digits)| Parameters {
            secret: secret.clone(),
            name: name.clone(),
            issuer: String::new(),
            algorithm: *algorithm,
            digits: *digits,
            kind: 2,
        }).collect();
        let read = parse(&written(&Payload { batch_id: id, ..payload(sent) }))?;
        prop_assert_eq!(read.entries.len(), entries.len());
        for (read, (secret, name, algorithm, digits)) in read.entries.into_iter().zip(entries) {
            let read = read?;
            prop_assert_eq!(&*read.seed.to_base32(), &data_encoding::BASE32_NOPAD.encode(&secret));
            prop_assert_eq!(read.account, name);
            prop_assert_eq!(Algorithm::ALL.iter().position(|of| *of == read.seed.parameters().algorithm), usize::try_from(algorithm - 1).ok());
            prop_assert_eq!(read.seed.parameters().digits.count(), if digits == 1 { 6 } else { 8 });
        }
    }

    #[test]
    fn no_input_makes_the_reader_panic(bytes: Vec<u8>, raw: String) {
        let _ = parse(&raw);
        let _ = parse(&format!("otpauth-migration://offline?{raw}"));
        let _ = parse(&format!("otpauth-migration://offline?data={}", data_encoding::BASE64URL.encode(&bytes)));
    }
}

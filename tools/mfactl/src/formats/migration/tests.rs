use anyhow::{Context as _, Result};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Default)]
struct Parameters {
    secret: Vec<u8>,
    name: Vec<u8>,
    issuer: Vec<u8>,
    algorithm: i32,
    digits: i32,
    kind: i32,
    /// Further fields, encoded.
    more: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
struct Payload {
    entries: Vec<Parameters>,
    version: i32,
    batch_size: i32,
    batch_index: i32,
    batch_id: i32,
    /// Further fields, encoded.
    more: Vec<u8>,
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        bytes.push(if number == 0 { byte } else { byte | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

/// A field with a number; nothing if it is 0, as in proto3.
fn number(field: u64, value: i32) -> Vec<u8> {
    // A negative number has its sign in all 64 bits.
    let value = i64::from(value).cast_unsigned();
    let written = (value != 0).then(|| [varint(field << 3), varint(value)].concat());
    written.unwrap_or_default()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2), &varint(value.len() as u64), value].concat()
}

impl Parameters {
    fn encode(&self) -> Vec<u8> {
        [
            bytes(1, &self.secret),
            bytes(2, &self.name),
            bytes(3, &self.issuer),
            number(4, self.algorithm),
            number(5, self.digits),
            number(6, self.kind),
            self.more.clone(),
        ]
        .concat()
    }
}

impl Payload {
    fn encode(&self) -> Vec<u8> {
        let entries = self.entries.iter().map(|entry| bytes(1, &entry.encode()));
        let rest = [
            number(2, self.version),
            number(3, self.batch_size),
            number(4, self.batch_index),
            number(5, self.batch_id),
            self.more.clone(),
        ];
        entries.chain(rest).collect::<Vec<_>>().concat()
    }
}

fn entry(secret: &[u8], name: &str, issuer: &str) -> Parameters {
    Parameters {
        secret: secret.to_vec(),
        name: name.into(),
        issuer: issuer.into(),
        algorithm: 1,
        digits: 1,
        kind: 2,
        more: Vec::new(),
    }
}

fn payload(entries: Vec<Parameters>) -> Payload {
    Payload {
        entries,
        version: 1,
        batch_size: 1,
        batch_index: 0,
        batch_id: -7,
        more: Vec::new(),
    }
}

/// As the app writes it: standard base64, percent-encoded.
fn written(payload: &Payload) -> String {
    written_bytes(&payload.encode())
}

fn written_bytes(message: &[u8]) -> String {
    let data = data_encoding::BASE64.encode(message);
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
        ..payload(vec![entry(&[7; 20], "bob", "")])
    })
}

#[test]
fn an_export_of_the_app_is_read() -> Result<()> {
    // A sample that libraries for this format publish: algorithm and digits are unspecified.
    let raw = "otpauth-migration://offline?data=CjEKCkhlbGxvId6tvu8SGEV4YW1wbGU6YWxpY2VAZ29vZ2xlLmNvbRoHRXhhbXBsZTAC";
    let mut sample = parse(raw)?;
    let entry = sample.entries.pop().context("an entry")?;
    assert_eq!((entry.err(), sample.may_be_cut), (Some(EntryError::Algorithm), true));

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
    let with = |more| Parameters {
        more,
        ..named("bob", "")
    };
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
        (with(number(9, 1)), Some(EntryError::UnknownField { field: 9 })),
        (with(bytes(15, b"SHA256")), Some(EntryError::UnknownField { field: 15 })),
        (with(vec![0, 1]), Some(EntryError::UnknownField { field: 0 })),
        (with(number(4, 1)), Some(EntryError::Damaged)),
        (with(bytes(7, b"x")[..2].to_vec()), Some(EntryError::Damaged)),
        (with(vec![0x80; 11]), Some(EntryError::Damaged)),
        (
            Parameters {
                name: b"\xff".to_vec(),
                ..with(vec![])
            },
            Some(EntryError::NotUtf8),
        ),
        (
            Parameters {
                issuer: b"\xff".to_vec(),
                ..with(vec![])
            },
            Some(EntryError::NotUtf8),
        ),
        // What the app writes besides: a counter, and an id.
        (with([number(7, 3), bytes(8, b"id")].concat()), None),
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
    let bytes = sent.encode();
    let standard = data_encoding::BASE64.encode(&bytes);
    assert!(standard.contains('+') && standard.contains('/'), "{standard}");
    let encoded = written(&sent);
    for raw in [
        encoded.clone(),
        encoded.replace("offline?", "offline/?"),
        encoded.replace("otpauth-migration://offline", "OTPAUTH-MIGRATION://Offline"),
        format!("{encoded}&"),
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
    let good = written(&payload(vec![entry(&[7; 20], "bob", "")]));
    let version = written(&Payload {
        version: 3,
        ..payload(vec![])
    });
    let field = written(&Payload {
        more: number(6, 1),
        ..payload(vec![])
    });
    let empty = written(&payload(vec![]));
    let html = good.replace('?', "?a=b&amp;");
    let cut = written(&payload(vec![entry(&[7; 20], "bob", "")]));
    for (raw, expected) in [
        ("", MigrationError::Scheme),
        ("otpauth://totp/x?secret=AAAA", MigrationError::Scheme),
        ("otpauth-migration://online?data=AA", MigrationError::Scheme),
        ("otpauth-migration://offline", MigrationError::Scheme),
        ("otpauth-migration://offline?dat=AA", MigrationError::Scheme),
        (&format!("{good}&data=AA"), MigrationError::Scheme),
        (&format!("{good}&other=1"), MigrationError::Scheme),
        (&html, MigrationError::Scheme),
        ("otpauth-migration://offline?data=A", MigrationError::Damaged),
        ("otpauth-migration://offline?data=%%%", MigrationError::Damaged),
        ("otpauth-migration://offline?data=%0A", MigrationError::Damaged),
        ("otpauth-migration://offline?data=____", MigrationError::Damaged),
        (&cut[..cut.len() / 2 / 4 * 4], MigrationError::Damaged),
        ("otpauth-migration://offline?data=", MigrationError::Empty),
        (&empty, MigrationError::Empty),
        (&field, MigrationError::UnknownField { field: 6 }),
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
fn a_part_that_is_cut_anywhere_is_noticed() -> Result<()> {
    let bob = entry(&[7; 20], "bob", "");
    let sent = Payload {
        batch_size: 1,
        ..payload(vec![bob.clone(), bob.clone(), bob])
    };
    let message = sent.encode();
    // After the number of parts, only its own number and that of the export follow, which one part does not need.
    let end = message.len() - number(5, sent.batch_id).len();
    for length in 0..message.len() {
        let cut = parse(&written_bytes(message.get(..length).context("a part")?));
        let noticed = cut.as_ref().is_ok_and(|part| part.may_be_cut)
            || matches!(cut, Err(MigrationError::Damaged | MigrationError::Empty));
        assert_eq!(noticed, length != end, "{length} of {} bytes: {cut:?}", message.len());
    }
    assert!(!part(&sent)?.may_be_cut);
    Ok(())
}

#[test]
fn exports_in_one_part_are_exports_of_their_own() -> Result<()> {
    let alone = of_batch(1, 1, 0)?;
    let batch = Batch::new(&alone);
    assert!(batch.missing().is_empty());
    // Two exports with the same made-up number are two exports.
    assert_eq!(alone.batch_id(), None);
    assert_eq!(of_batch(7, 2, 1)?.batch_id(), Some(7));
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
            1..8,
        ),
        id: i32,
    ) {
        let sent: Vec<Parameters> = entries.iter().map(|(secret, name, algorithm, digits)| Parameters {
            secret: secret.clone(),
            name: name.clone().into(),
            algorithm: *algorithm,
            digits: *digits,
            kind: 2,
            ..Parameters::default()
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

use std::fmt::Debug;

use super::*;

/// The step that most tests are in the middle of.
const N: u64 = 60_000_000;

/// With the RFC's seed, the code of this step and the code of the next are the same six digits (found by search).
const TWIN: u64 = 62_075_368;

fn rfc_seed(algorithm: Algorithm, digits: Digits, period: Period) -> Result<Seed, SeedError> {
    // RFC 6238, errata 2866: the ASCII digits, repeated up to the length of the hash.
    let length = match algorithm {
        Algorithm::Sha1 => 20,
        Algorithm::Sha256 => 32,
        Algorithm::Sha512 => 64,
    };
    let bytes: Vec<u8> = b"1234567890".iter().copied().cycle().take(length).collect();
    Seed::from_bytes(
        &bytes,
        OtpParameters {
            algorithm,
            digits,
            period,
        },
    )
}

fn seed() -> Result<Seed, SeedError> {
    rfc_seed(Algorithm::Sha1, Digits::Six, Period::Thirty)
}

fn middle_of(step: u64) -> Timestamp {
    Timestamp::from_secs(step * 30 + 15)
}

fn single(seed: &Seed, step: u64) -> Offer {
    Offer::Single(seed.code(Step(step)))
}

fn pair(seed: &Seed, earlier: u64, later: u64) -> Offer {
    Offer::Pair(seed.code(Step(earlier)), seed.code(Step(later)))
}

/// The steps that an offer matches in the middle of step `n`.
fn matched(seed: &Seed, offer: &Offer, n: u64) -> Vec<u64> {
    let matches = seed.matches(offer, middle_of(n));
    assert_eq!(matches.kind(), offer.kind());
    assert_eq!(matches.any(), matches.steps.iter().any(Option::is_some));
    matches.steps.iter().flatten().map(|step| step.0).collect()
}

fn accepted(raw: &str) -> String {
    OtpCode::parse(raw).map_or_else(|_| format!("{raw:?} was refused"), |code| code.reveal().to_owned())
}

fn refused(raw: &str) -> bool {
    matches!(OtpCode::parse(raw), Err(NotACode))
}

#[test]
fn codes_are_those_of_rfc_6238_appendix_b() -> Result<(), SeedError> {
    let vectors = [
        (59, ["94287082", "46119246", "90693936"]),
        (1_111_111_109, ["07081804", "68084774", "25091201"]),
        (1_111_111_111, ["14050471", "67062674", "99943326"]),
        (1_234_567_890, ["89005924", "91819424", "93441116"]),
        (2_000_000_000, ["69279037", "90698825", "38618901"]),
        // The year 2603: more than 32 bits of seconds.
        (20_000_000_000, ["65353130", "77737706", "47863826"]),
    ];
    for (seconds, codes) in vectors {
        let now = Timestamp::from_secs(seconds);
        for (algorithm, code) in Algorithm::ALL.into_iter().zip(codes) {
            let seed = rfc_seed(algorithm, Digits::Eight, Period::Thirty)?;
            let step = Step::at(now, Period::Thirty);
            assert_eq!(seed.code(step).reveal(), code, "{algorithm:?} at {seconds}");
            let offer = Offer::Single(OtpCode::parse(code).expect("a code of the RFC"));
            assert_eq!(
                seed.matches(&offer, now).highest_above(Step(0)),
                Some(step),
                "{algorithm:?} at {seconds}"
            );
        }
    }
    Ok(())
}

#[test]
fn codes_are_those_of_rfc_4226_appendix_d() -> Result<(), SeedError> {
    let seed = seed()?;
    let codes = [
        "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489",
    ];
    for (step, code) in (0..).zip(codes) {
        assert_eq!(seed.code(Step(step)).reveal(), code, "counter {step}");
    }
    Ok(())
}

#[test]
fn a_step_is_the_counter_whatever_its_length() -> Result<(), SeedError> {
    let long = rfc_seed(Algorithm::Sha1, Digits::Six, Period::Sixty)?;
    assert_eq!(long.code(Step(7)).reveal(), "162583");
    assert_eq!(Step::at(Timestamp::from_millis(7 * 60_000), Period::Sixty), Step(7));
    assert_eq!(Step::at(Timestamp::from_millis(8 * 60_000 - 1), Period::Sixty), Step(7));
    assert_eq!(Step::at(Timestamp::from_millis(7 * 60_000), Period::Thirty), Step(14));
    assert_eq!(Step(7).start(Period::Sixty), Timestamp::from_secs(420));
    assert_eq!(Step(7).start(Period::Thirty), Timestamp::from_secs(210));

    let offer = Offer::Single(long.code(Step(6)));
    assert!(long.matches(&offer, Timestamp::from_millis(8 * 60_000 - 1)).any());
    assert!(!long.matches(&offer, Timestamp::from_millis(8 * 60_000)).any());
    Ok(())
}

#[test]
fn a_single_code_matches_one_step_around_now() -> Result<(), SeedError> {
    let seed = seed()?;
    for step in N - 1..=N + 1 {
        assert_eq!(matched(&seed, &single(&seed, step), N), [step]);
    }
    for step in [0, N - 3, N - 2, N + 2, N + 3] {
        assert_eq!(matched(&seed, &single(&seed, step), N), [0; 0], "{step}");
    }
    Ok(())
}

#[test]
fn the_window_moves_with_the_first_millisecond_of_a_step() -> Result<(), SeedError> {
    let seed = seed()?;
    let begins = Step(N).start(Period::Thirty);
    let before = Timestamp::from_millis(begins.as_millis() - 1);
    let (leaving, entering) = (single(&seed, N - 2), single(&seed, N + 1));
    assert!(seed.matches(&leaving, before).any() && !seed.matches(&leaving, begins).any());
    assert!(!seed.matches(&entering, before).any() && seed.matches(&entering, begins).any());
    let (leaving, entering) = (pair(&seed, N - 3, N - 2), pair(&seed, N, N + 1));
    assert!(seed.matches(&leaving, before).any() && !seed.matches(&leaving, begins).any());
    assert!(!seed.matches(&entering, before).any() && seed.matches(&entering, begins).any());
    Ok(())
}

#[test]
fn a_pair_matches_three_pairs_of_consecutive_steps() -> Result<(), SeedError> {
    let seed = seed()?;
    for earlier in N - 2..=N {
        assert_eq!(matched(&seed, &pair(&seed, earlier, earlier + 1), N), [earlier]);
    }
    for (earlier, later) in [
        // Too old, too new.
        (N - 4, N - 3),
        (N - 3, N - 2),
        (N + 1, N + 2),
        (N + 2, N + 3),
        // Reversed.
        (N - 1, N - 2),
        (N, N - 1),
        (N + 1, N),
        // Not consecutive.
        (N - 2, N),
        (N - 1, N + 1),
        (N - 2, N + 1),
        // The same code twice.
        (N - 1, N - 1),
        (N, N),
        (N + 1, N + 1),
        // One half is right.
        (N, 3),
        (3, N),
    ] {
        assert_eq!(
            matched(&seed, &pair(&seed, earlier, later), N),
            [0; 0],
            "{earlier}, {later}"
        );
    }
    Ok(())
}

#[test]
fn two_equal_codes_are_a_pair_if_their_steps_have_the_same_code() -> Result<(), SeedError> {
    let seed = seed()?;
    let (first, second) = (seed.code(Step(TWIN)), seed.code(Step(TWIN + 1)));
    assert_eq!(first.reveal(), second.reveal());
    assert_eq!(matched(&seed, &Offer::Pair(first.clone(), first), TWIN), [TWIN]);
    Ok(())
}

#[test]
fn a_code_that_two_steps_of_the_window_have_matches_both() -> Result<(), SeedError> {
    let seed = seed()?;
    assert_eq!(matched(&seed, &single(&seed, TWIN), TWIN), [TWIN, TWIN + 1]);
    let matches = seed.matches(&single(&seed, TWIN), middle_of(TWIN));
    assert_eq!(matches.highest_above(Step(TWIN - 1)), Some(Step(TWIN + 1)));
    assert_eq!(matches.highest_above(Step(TWIN)), Some(Step(TWIN + 1)));
    assert_eq!(matches.highest_above(Step(TWIN + 1)), None);
    Ok(())
}

#[test]
fn a_code_of_another_length_never_matches() -> Result<(), SeedError> {
    let six = seed()?;
    let eight = rfc_seed(Algorithm::Sha1, Digits::Eight, Period::Thirty)?;
    for step in N - 1..=N + 1 {
        let (short, long) = (six.code(Step(step)), eight.code(Step(step)));
        // RFC 4226, section 5.3: the shorter code is the end of the longer.
        assert!(long.reveal().ends_with(short.reveal()));
        assert_eq!(matched(&six, &Offer::Single(long.clone()), N), [0; 0]);
        assert_eq!(matched(&eight, &Offer::Single(short.clone()), N), [0; 0]);
    }
    let code = |seed: &Seed, step| seed.code(Step(step));
    for seed in [&six, &eight] {
        for offer in [
            Offer::Pair(code(&six, N), code(&eight, N + 1)),
            Offer::Pair(code(&eight, N), code(&six, N + 1)),
        ] {
            assert_eq!(matched(seed, &offer, N), [0; 0]);
        }
    }
    assert_eq!(matched(&six, &pair(&eight, N, N + 1), N), [0; 0]);
    assert_eq!(matched(&eight, &pair(&six, N, N + 1), N), [0; 0]);
    assert_eq!(matched(&eight, &pair(&eight, N, N + 1), N), [N]);
    Ok(())
}

#[test]
fn a_pair_is_not_tried_as_single_codes() -> Result<(), SeedError> {
    let seed = seed()?;
    let wrong = OtpCode::parse("000000").expect("six digits");
    for offer in [
        Offer::Pair(seed.code(Step(N)), wrong.clone()),
        Offer::Pair(wrong, seed.code(Step(N))),
    ] {
        assert_eq!(matched(&seed, &offer, N), [0; 0]);
    }
    Ok(())
}

#[test]
fn another_seed_algorithm_or_time_does_not_match() -> Result<(), SeedError> {
    let seed = seed()?;
    let other = Seed::from_bytes(&[7; 20], OtpParameters::default())?;
    let sha256 = rfc_seed(Algorithm::Sha256, Digits::Six, Period::Thirty)?;
    for stranger in [&other, &sha256] {
        assert_eq!(matched(stranger, &single(&seed, N), N), [0; 0]);
        assert_eq!(matched(stranger, &pair(&seed, N, N + 1), N), [0; 0]);
    }
    Ok(())
}

#[test]
fn near_the_epoch_there_are_fewer_steps_and_no_underflow() -> Result<(), SeedError> {
    let seed = seed()?;
    for n in 0..=3_u64 {
        for step in 0..=5 {
            let expected: &[u64] = if n.abs_diff(step) <= 1 { &[step] } else { &[] };
            assert_eq!(matched(&seed, &single(&seed, step), n), expected, "{step} at {n}");
            let expected: &[u64] = if step <= n && n - step <= 2 { &[step] } else { &[] };
            assert_eq!(
                matched(&seed, &pair(&seed, step, step + 1), n),
                expected,
                "{step} at {n}"
            );
        }
    }
    // Step 0 is never above the last step of a device, so it is never accepted.
    assert_eq!(
        seed.matches(&single(&seed, 0), Timestamp::EPOCH).highest_above(Step(0)),
        None
    );
    Ok(())
}

#[test]
fn the_end_of_time_is_no_panic() -> Result<(), SeedError> {
    let seed = seed()?;
    let end = Timestamp::from_millis(u64::MAX);
    let last = Step::at(end, Period::Thirty);
    assert!(seed.matches(&Offer::Single(seed.code(last)), end).any());
    assert!(
        seed.matches(&Offer::Pair(seed.code(last), seed.code(last.next())), end)
            .any()
    );
    assert_eq!(Step(u64::MAX).next(), Step(u64::MAX));
    let _ = seed.code(Step(u64::MAX));
    Ok(())
}

#[test]
fn of_several_matches_the_highest_above_the_last_step_counts() {
    let of = |kind, steps: [u64; 3]| Matches::new(kind, steps.map(|step| (step > 0).then_some(Step(step))));

    let matches = of(OfferKind::Single, [10, 11, 12]);
    assert_eq!(matches.highest_above(Step(0)), Some(Step(12)));
    assert_eq!(matches.highest_above(Step(11)), Some(Step(12)));
    assert_eq!(matches.highest_above(Step(12)), None);
    let matches = of(OfferKind::Single, [10, 0, 12]);
    assert_eq!(matches.highest_above(Step(10)), Some(Step(12)));
    let matches = of(OfferKind::Single, [10, 11, 0]);
    assert_eq!(matches.highest_above(Step(9)), Some(Step(11)));
    assert_eq!(of(OfferKind::Single, [0, 0, 0]).highest_above(Step(0)), None);

    // Of a pair the later step is used up, and the earlier one must be unused.
    let matches = of(OfferKind::Pair, [10, 0, 0]);
    assert_eq!(matches.highest_above(Step(9)), Some(Step(11)));
    assert_eq!(matches.highest_above(Step(10)), None);
    let matches = of(OfferKind::Pair, [10, 11, 12]);
    assert_eq!(matches.highest_above(Step(9)), Some(Step(13)));
    assert_eq!(matches.highest_above(Step(11)), Some(Step(13)));
    assert_eq!(matches.highest_above(Step(12)), None);

    assert!(of(OfferKind::Pair, [0, 0, 12]).any());
    assert!(!of(OfferKind::Pair, [0, 0, 0]).any());
}

#[test]
fn a_code_is_read_the_way_apps_show_it() {
    for raw in [
        "523471",
        "523 471",
        "523-471",
        " 523471 ",
        "5 2 3 4 7 1",
        "52-34-71",
        "-523471-",
        "523  471",
        "523 - 471",
    ] {
        assert_eq!(accepted(raw), "523471", "{raw:?}");
    }
    for raw in ["52347100", "5234 7100", "52-34-71-00", "523 471 00"] {
        assert_eq!(accepted(raw), "52347100", "{raw:?}");
    }
}

#[test]
fn leading_zeros_are_digits() {
    assert_eq!(accepted("012345"), "012345");
    assert_eq!(accepted("000 000"), "000000");
    assert_eq!(accepted("00000001"), "00000001");
    assert!(refused("12345"));
}

#[test]
fn only_six_or_eight_digits_are_a_code() {
    for count in 0..=40 {
        let digits = "5".repeat(count);
        assert_eq!(refused(&digits), !matches!(count, 6 | 8), "{count} digits");
        let spaced = digits.split("").collect::<Vec<_>>().join(" -");
        assert_eq!(
            refused(&spaced),
            !matches!(count, 6 | 8),
            "{count} digits with something between"
        );
    }
    for raw in ["", " ", "-", "------", "      "] {
        assert!(refused(raw), "{raw:?}");
    }
}

#[test]
fn no_other_character_is_part_of_a_code() {
    // Digits, spaces and controls of every script, and the blocks with everything that looks like a hyphen or a sign.
    let looks_like_one = |c: char| {
        let in_blocks = c < '\u{3200}' || ('\u{fe00}'..='\u{ffff}').contains(&c);
        in_blocks || c.is_numeric() || c.is_whitespace() || c.is_control()
    };
    let is_one = |c: char| c.is_ascii_digit() || matches!(c, ' ' | '-');
    for character in (char::MIN..=char::MAX).filter(|c| looks_like_one(*c) && !is_one(*c)) {
        let mut buffer = [0; 4];
        let character = &*character.encode_utf8(&mut buffer);
        for raw in [
            ["52347", character, ""],
            ["523", character, "471"],
            ["", character, "523471"],
        ] {
            assert!(refused(&raw.concat()), "{raw:?}");
        }
    }
    for raw in [
        "+12345",
        "+123456",
        "1e5000",
        "0x1234",
        "12345.",
        "NaN",
        "123456\0",
        "523471\n",
        "523\t471",
        "𝟓𝟐𝟑𝟒𝟕𝟏",
    ] {
        assert!(refused(raw), "{raw:?}");
    }
}

#[test]
fn a_seed_is_read_in_every_way_that_base32_is_written() {
    const WRITTEN: &str = "GEZDGNBVGY3TQOJQGEZDGNBV";
    let read = |raw: &str| Seed::from_base32(raw, OtpParameters::default()).map(|seed| seed.to_base32().to_string());
    for raw in [
        WRITTEN,
        "gezdgnbvgy3tqojqgezdgnbv",
        "GezdGnbvGy3tQojqGezdGnbv",
        "GEZD GNBV GY3T QOJQ GEZD GNBV",
        "gezd-gnbv-gy3t-qojq-gezd-gnbv",
        " GEZDGNBVGY3TQOJQGEZDGNBV ",
        "GEZDGNBVGY3TQOJQGEZDGNBV=",
        "GEZDGNBVGY3TQOJQGEZDGNBV======",
        "GEZD GNBV GY3T QOJQ GEZD GNBV ====== ",
        "GEZD GNBV GY3T QOJQ GEZD GNBV = = =",
    ] {
        assert_eq!(read(raw).as_deref(), Ok(WRITTEN), "{raw:?}");
    }
    assert_eq!(read("MZXW6YTBOI4DQMBRGI======").as_deref(), Ok("MZXW6YTBOI4DQMBRGI"));
    for raw in [
        "GEZDGNBVGY3TQOJQGEZDGNB1",
        "GEZDGNBVGY3TQOJQGEZDGNB0",
        "GEZDGNBVGY3TQOJQGEZDGNBé",
        "GEZDGNBV=GY3TQOJQGEZDGNBV",
        "GEZDGNBVGY3TQOJQG",
        "GEZDGNBV\nGY3TQOJQGEZDGNBV",
        "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBV",
    ] {
        assert_eq!(read(raw), Err(SeedError::NotBase32), "{raw:?}");
    }
}

#[test]
fn a_seed_has_80_to_1024_bits() {
    let of_length = |bytes| Seed::from_bytes(&vec![1; bytes], OtpParameters::default()).err();
    for bytes in [0, 1, 9, 129, 1_000] {
        assert_eq!(of_length(bytes), Some(SeedError::Length), "{bytes} bytes");
    }
    for bytes in [10, 11, 16, 20, 32, 64, 128] {
        assert_eq!(of_length(bytes), None, "{bytes} bytes");
    }
    let parse = |raw: &str| Seed::from_base32(raw, OtpParameters::default()).err();
    assert_eq!(parse("GEZDGNBVGY3TQOJQ"), None);
    assert_eq!(parse("GEZDGNBVGY3TQOI"), Some(SeedError::Length));
    for raw in ["", "=", "====", " - "] {
        assert_eq!(parse(raw), Some(SeedError::Length), "{raw:?}");
    }
}

#[test]
fn a_seed_survives_its_written_form() -> Result<(), SeedError> {
    for length in 10..=128_u8 {
        let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(151) ^ length).collect();
        for algorithm in Algorithm::ALL {
            for (digits, period) in [(Digits::Six, Period::Thirty), (Digits::Eight, Period::Sixty)] {
                let parameters = OtpParameters {
                    algorithm,
                    digits,
                    period,
                };
                let seed = Seed::from_bytes(&bytes, parameters)?;
                let written = seed.to_base32();
                assert!(
                    written
                        .bytes()
                        .all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte))
                );
                let read = Seed::from_base32(&written, parameters)?;
                assert_eq!(read.totp.secret().as_bytes(), bytes);
                assert_eq!(read.parameters(), parameters);
                assert_eq!(read.code(Step(N)).reveal(), seed.code(Step(N)).reveal());
                assert_eq!(read.code(Step(N)).reveal().len(), usize::from(digits.count()));
            }
        }
    }
    Ok(())
}

#[test]
fn debug_output_shows_neither_codes_nor_seeds() -> Result<(), SeedError> {
    let bytes = *b"not to be seen twice";
    let seed = Seed::from_bytes(&bytes, OtpParameters::default())?;
    let code = OtpCode::parse("523471").expect("six digits");
    let shown = |value: &dyn Debug| format!("{value:?} {value:#?}");
    let single = Offer::Single(code.clone());
    let pair = Offer::Pair(code.clone(), OtpCode::parse("00523471").expect("eight digits"));
    let base32 = seed.to_base32();
    for text in [
        shown(&code),
        shown(&single),
        shown(&pair),
        shown(&seed),
        shown(seed.totp.secret()),
        shown(&seed.totp),
        shown(&OtpCode::parse("523471x").err()),
        shown(&Seed::from_base32("not base32!", OtpParameters::default()).err()),
    ] {
        let digits: String = text.chars().filter(char::is_ascii_digit).collect();
        assert!(!digits.contains("523471"), "{text}");
        assert!(
            !text.contains(base32.as_str()) && !text.contains("not to be seen") && !text.contains("110, 111"),
            "{text}"
        );
    }
    assert_eq!(format!("{single:?}"), "Single(OtpCode(…))");
    assert_eq!(format!("{pair:?}"), "Pair(OtpCode(…), OtpCode(…))");
    Ok(())
}

#[test]
fn written_forms_of_the_parameters_are_read_back_and_nothing_else_is() {
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
    }
    for raw in ["", "sha1", "SHA-1", "SHA1 ", "MD5", "SHA224"] {
        assert_eq!(Algorithm::parse(raw), None, "{raw:?}");
    }
    assert_eq!(Digits::from_count(6).map(Digits::count), Some(6));
    assert_eq!(Digits::from_count(8).map(Digits::count), Some(8));
    for count in [0, 5, 7, 9, 262, u64::MAX] {
        assert_eq!(Digits::from_count(count), None, "{count}");
    }
    assert_eq!(Period::from_seconds(30).map(Period::seconds), Some(30));
    assert_eq!(Period::from_seconds(60).map(Period::seconds), Some(60));
    for seconds in [0, 1, 29, 31, 90, u64::MAX] {
        assert_eq!(Period::from_seconds(seconds), None, "{seconds}");
    }
}

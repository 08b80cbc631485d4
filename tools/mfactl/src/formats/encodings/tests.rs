use proptest::prelude::*;

use super::*;

fn base32(raw: &str) -> Result<String, SeedTextError> {
    seed_from_base32(raw, OtpParameters::default()).map(|seed| seed.to_base32().to_string())
}

#[test]
fn a_seed_is_read_however_base32_is_written_and_has_one_canonical_form() {
    const WRITTEN: &str = "GEZDGNBVGY3TQOJQGEZDGNBV";
    for raw in [
        WRITTEN,
        "gezdgnbvgy3tqojqgezdgnbv",
        "GEZD GNBV GY3T QOJQ GEZD GNBV",
        "gezd-gnbv-gy3t-qojq-gezd-gnbv",
        " GEZDGNBVGY3TQOJQGEZDGNBV ",
        "GEZDGNBVGY3TQOJQGEZDGNBV=",
        "GEZDGNBVGY3TQOJQGEZDGNBV======",
        "GEZD GNBV GY3T QOJQ GEZD GNBV = = =",
        "G EZDGNBVGY3TQOJQGEZDGNBV",
    ] {
        assert_eq!(base32(raw).as_deref(), Ok(WRITTEN), "{raw:?}");
    }
    for raw in [
        "GEZDGNBVGY3TQOJQGEZDGNB1",
        "GEZDGNBVGY3TQOJQGEZDGNB0",
        "GEZDGNBVGY3TQOJQGEZDGNBé",
        "GEZDGNBV=GY3TQOJQGEZDGNBV",
        "GEZDGNBV\nGY3TQOJQGEZDGNBV",
        "GEZDGNBV\tGY3TQOJQGEZDGNBV",
    ] {
        assert_eq!(base32(raw), Err(SeedError::NotBase32.into()), "{raw:?}");
    }
    for raw in ["", "=", " - ", "GEZDGNBVGY3TQOI"] {
        assert_eq!(base32(raw), Err(SeedError::Length.into()), "{raw:?}");
    }
}

#[test]
fn bits_after_the_last_byte_are_dropped_as_the_apps_drop_them() {
    // The last letters differ only in bits that belong to no byte.
    for (raw, canonical) in [
        ("GEZDGNBVGY3TQOJQGF", "GEZDGNBVGY3TQOJQGE"),
        ("GEZDGNBVGY3TQOJQGH", "GEZDGNBVGY3TQOJQGE"),
        ("GEZDGNBVGY3TQOJQGEZP", "GEZDGNBVGY3TQOJQGEZA"),
        ("GEZDGNBVGY3TQOJQGEZDH", "GEZDGNBVGY3TQOJQGEZDG"),
        ("GEZDGNBVGY3TQOJQGEZDGNH", "GEZDGNBVGY3TQOJQGEZDGNA"),
        ("gezd gnbv gy3t qojq gf======", "GEZDGNBVGY3TQOJQGE"),
    ] {
        assert_eq!(base32(raw).as_deref(), Ok(canonical), "{raw:?}");
    }
    // Outside an import they are still refused.
    let strict = Seed::from_base32("GEZDGNBVGY3TQOJQGF", OtpParameters::default());
    assert_eq!(strict.err(), Some(SeedError::NotBase32));
}

#[test]
fn hexadecimal_digits_are_read_however_they_are_written_and_named_where_base32_is_expected() {
    let hexadecimal = |raw: &str| {
        let seed = seed_from_hexadecimal(raw, OtpParameters::default())?;
        Ok::<_, SeedTextError>(seed.to_base32().to_string())
    };
    for raw in [
        "3132333435363738393031323334353637383930",
        "31 32 33 34 35 36 37 38 39 30 31 32 33 34 35 36 37 38 39 30",
        "31:32:33:34:35:36:37:38:39:30:31:32:33:34:35:36:37:38:39:30",
        " 31323334-35363738-39303132-33343536-37383930 ",
    ] {
        assert_eq!(
            hexadecimal(raw).as_deref(),
            Ok("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"),
            "{raw}"
        );
        assert_eq!(base32(raw), Err(SeedTextError::LooksHexadecimal), "{raw}");
    }
    assert_eq!(hexadecimal("ABCDEFabcdefABCDEFAB"), hexadecimal("abcdefabcdefabcdefab"));
    for raw in [
        "313",
        "31323334353637383930313",
        "0x31323334353637383930",
        "GEZDGNBVGY3TQOJQ",
    ] {
        assert_eq!(hexadecimal(raw), Err(SeedTextError::NotHexadecimal), "{raw}");
    }
    assert_eq!(hexadecimal("31323334"), Err(SeedError::Length.into()));
    // Legal base32 letters in a number of them that base32 never has.
    assert_eq!(base32(&"ab".repeat(19)), Err(SeedTextError::LooksHexadecimal));
    for (raw, looks) in [
        ("abcdef234567abcdef234567", true),
        ("ABCDEF234567ABCDEF234567", true),
        ("abcdef234567abcdef23456", false),
        ("abcdef234567abcdef", false),
        ("GEZDGNBVGY3TQOJQGEZDGNBV", false),
    ] {
        assert_eq!(looks_hexadecimal(raw), looks, "{raw}");
    }
}

#[test]
fn a_length_that_no_encoder_writes_is_refused() {
    for letters in 16..=40_usize {
        let raw = "A".repeat(letters);
        let refused = matches!(letters % 8, 1 | 3 | 6);
        assert_eq!(base32(&raw).is_err(), refused, "{letters} letters");
        let spaced = "A ".repeat(letters);
        assert_eq!(base32(&spaced).is_err(), refused, "{letters} letters with spaces");
    }
}

#[test]
fn base64_is_read_in_both_alphabets_with_or_without_padding_and_with_white_space() {
    for raw in ["+/8AAQ==", "-_8AAQ==", "+/8AAQ", " +/8A\r\n\tAQ == \n", "-_8A AQ"] {
        let bytes = bytes_from_base64(raw);
        assert_eq!(
            bytes.as_deref().map(Vec::as_slice),
            Ok([0xfb, 0xff, 0, 1].as_slice()),
            "{raw:?}"
        );
    }
    for raw in ["+/8AA", "+/8AAQ==AA", "+/8AAR==", "+/8A*Q==", "é"] {
        assert_eq!(bytes_from_base64(raw), Err(InvalidEncoding), "{raw:?}");
    }
}

#[test]
fn the_bits_of_a_seed_are_counted() -> Result<(), SeedError> {
    for bytes in 10..=128_usize {
        let seed = Seed::from_bytes(&vec![7; bytes], OtpParameters::default())?;
        assert_eq!(bits_of(&seed), bytes * 8);
    }
    Ok(())
}

proptest! {
    #[test]
    fn bytes_survive_base64(bytes: Vec<u8>, wrapped in 1..80_usize) {
        let written = data_encoding::BASE64.encode(&bytes);
        let lines: Vec<&str> = written.as_bytes().chunks(wrapped).filter_map(|line| str::from_utf8(line).ok()).collect();
        prop_assert_eq!(&*bytes_from_base64(&lines.join("\n"))?, &bytes);
        prop_assert_eq!(&*bytes_from_base64(&data_encoding::BASE64URL_NOPAD.encode(&bytes))?, &bytes);
    }

    #[test]
    fn no_input_makes_a_decoder_panic(raw: String) {
        let _ = (base32(&raw), bytes_from_base64(&raw), looks_hexadecimal(&raw));
        let _ = seed_from_hexadecimal(&raw, OtpParameters::default());
    }

    #[test]
    fn strict_and_lenient_readers_agree_on_what_both_accept(raw in "[A-Za-z2-7 =-]{0,60}") {
        let strict = Seed::from_base32(&raw, OtpParameters::default());
        if let Ok(strict) = strict {
            prop_assert_eq!(base32(&raw)?, strict.to_base32().to_string());
        }
    }
}

//! Vectors of RFC 8452, vectors of this project's own format that another implementation made, and what must not open.

use std::error::Error;

use aws_lc_rs::aead::{LessSafeKey, UnboundKey};
use data_encoding::HEXLOWER;

use super::*;
use crate::names::{DeviceName, Owner, UserName};

type Outcome = Result<(), Box<dyn Error>>;

const CURRENT: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ab";
const PREVIOUS: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZab";
const SEED: &[u8] = b"12345678901234567890";

fn ring_text(current: &str, previous: &[&str]) -> String {
    serde_json::json!({ "format": 1, "previous": previous, "current": current }).to_string()
}

fn key(owner: &str, user: &str, device: &str) -> Result<DeviceKey, Box<dyn Error>> {
    Ok(DeviceKey {
        owner: Owner::parse(owner)?,
        user: UserName::parse(user)?,
        device: DeviceName::parse(device)?,
    })
}

fn hex(digits: &str) -> Result<Vec<u8>, String> {
    HEXLOWER.decode(digits.as_bytes()).map_err(|error| error.to_string())
}

fn id() -> SealedId {
    SealedId::from_random_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
}

fn every_parameter() -> impl Iterator<Item = OtpParameters> {
    let digits = [Digits::Six, Digits::Eight];
    let periods = [Period::Thirty, Period::Sixty];
    Algorithm::ALL.into_iter().flat_map(move |algorithm| {
        digits.into_iter().flat_map(move |digits| {
            periods.into_iter().map(move |period| OtpParameters {
                algorithm,
                digits,
                period,
            })
        })
    })
}

/// RFC 8452, appendix C.2.
#[test]
fn the_cipher_is_that_of_rfc_8452() -> Outcome {
    for (plaintext, aad, result) in [
        ("", "", "07f5f4169bbf55a8400cd47ea6fd400f"),
        (
            "0100000000000000",
            "",
            "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28",
        ),
        (
            "0200000000000000",
            "01",
            "1de22967237a813291213f267e3b452f02d01ae33e4ec854",
        ),
    ] {
        let mut key = [0; 32];
        key[0] = 1;
        let mut nonce = [0; NONCE_LEN];
        nonce[0] = 3;
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &key)?);
        let mut text = hex(plaintext)?;
        let aad = Aad::from(hex(aad)?);
        cipher.seal_in_place_append_tag(Nonce::from(&nonce), aad, &mut text)?;
        assert_eq!(HEXLOWER.encode(&text), result, "{plaintext}");
    }
    Ok(())
}

/// Made with HKDF and AES-GCM-SIV of another library from what the module's documentation says.
#[test]
fn seeds_that_another_implementation_sealed_open() -> Outcome {
    let ring = KeyRing::parse(&ring_text(CURRENT, &[PREVIOUS]))?;
    let sha512 = OtpParameters {
        algorithm: Algorithm::Sha512,
        digits: Digits::Eight,
        period: Period::Sixty,
    };
    assert_eq!(ring.current().to_string(), "9eec4765");
    for (key_id, parameters, sealed) in [
        (
            "9eec4765",
            OtpParameters::default(),
            "019eec476507070707070707070707070765f816024f69e7b8b2826232d7c4e47fb1f1f4b4da214584964726e1004ea6fb209a104e8f235c",
        ),
        (
            "92031c55",
            sha512,
            "0192031c550909090909090909090909097ca8d6a22bf31dda9cd25df0eab01de89e6c4ac94478b7281174e8b6fb5dea4e7fefce87de3ee1",
        ),
    ] {
        let sealed = SealedSeed::from_bytes(hex(sealed)?);
        assert_eq!(sealed.key_id().map(|id| id.to_string()).as_deref(), Some(key_id));
        let opened = ring.open(&key("shop", "alice", "phone")?, id(), &sealed)?;
        assert_eq!((opened.as_bytes(), opened.parameters()), (SEED, parameters));
    }
    Ok(())
}

#[test]
fn a_seed_opens_as_it_was_sealed_and_no_two_blobs_are_the_same() -> Outcome {
    let (ring, device) = (
        KeyRing::parse(&ring_text(CURRENT, &[]))?,
        key("shop", "alice", "phone")?,
    );
    for (length, parameters) in [10_u8, 20, 32, 33, 128]
        .into_iter()
        .flat_map(|length| every_parameter().map(move |all| (length, all)))
    {
        let bytes: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(89)).collect();
        let seed = Seed::from_bytes(&bytes, parameters)?;
        let [one, other] = [ring.seal(&device, id(), &seed)?, ring.seal(&device, id(), &seed)?];
        assert_ne!(one, other, "the nonce is new each time");
        assert_eq!(one.as_bytes().len(), 36 + usize::from(length));
        for sealed in [one, other] {
            let opened = ring.open(&device, id(), &sealed)?;
            assert_eq!((opened.as_bytes(), opened.parameters()), (bytes.as_slice(), parameters));
        }
    }
    Ok(())
}

#[test]
fn a_blob_under_any_other_owner_user_device_or_id_does_not_open() -> Outcome {
    let ring = KeyRing::parse(&ring_text(CURRENT, &[]))?;
    let seed = Seed::from_bytes(SEED, OtpParameters::default())?;
    let sealed = ring.seal(&key("shop", "alice", "phone")?, id(), &seed)?;
    let other_id = SealedId::from_random_bytes([9; 16]);
    for (device, id) in [
        (key("shop2", "alice", "phone")?, id()),
        (key("shop", "alicf", "phone")?, id()),
        (key("shop", "alice", "phon")?, id()),
        // Without the lengths, these would be the same bytes.
        (key("shopa", "lice", "phone")?, id()),
        (key("shop", "alicep", "hone")?, id()),
        (key("shop", "alice", "phone")?, other_id),
    ] {
        let opened = ring.open(&device, id, &sealed);
        assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{device:?}");
    }
    Ok(())
}

#[test]
fn a_blob_that_was_changed_anywhere_or_cut_does_not_open() -> Outcome {
    let (ring, device) = (
        KeyRing::parse(&ring_text(CURRENT, &[PREVIOUS]))?,
        key("shop", "alice", "phone")?,
    );
    let sealed = ring.seal(&device, id(), &Seed::from_bytes(SEED, OtpParameters::default())?)?;
    let whole = sealed.as_bytes();
    for position in 0..whole.len() {
        let mut changed = whole.to_vec();
        changed[position] ^= 1;
        let shorter = whole[..position].to_vec();
        for bytes in [changed, shorter] {
            let opened = ring.open(&device, id(), &SealedSeed::from_bytes(bytes));
            assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{position}");
        }
    }
    Ok(())
}

#[test]
fn keys_of_a_ring_that_was_merged_or_made_anew_are_never_confused() -> Outcome {
    let device = key("shop", "alice", "phone")?;
    let seed = Seed::from_bytes(SEED, OtpParameters::default())?;
    let old = KeyRing::parse(&ring_text(PREVIOUS, &[]))?;
    let sealed = old.seal(&device, id(), &seed)?;
    let merged = KeyRing::parse(&ring_text(CURRENT, &[PREVIOUS]))?;
    assert_eq!(merged.open(&device, id(), &sealed)?.as_bytes(), SEED);
    assert!(merged.has(old.current()) && merged.current() != old.current());
    let made_anew = KeyRing::parse(&ring_text(CURRENT, &[]))?;
    let refused = made_anew
        .open(&device, id(), &sealed)
        .err()
        .map(|error| error.to_string());
    assert!(refused.is_some_and(|text| text.contains("does not have")));
    Ok(())
}

#[test]
fn a_ring_that_is_cut_empty_of_a_later_format_or_weak_is_invalid() {
    let whole = ring_text(CURRENT, &[PREVIOUS]);
    assert!(KeyRing::parse(&whole).is_ok());
    let longest_weak = &CURRENT[..SHORTEST_KEY - 1];
    let wrong = [
        String::new(),
        "{}".to_owned(),
        "{\"format\":1,\"previous\":[]}".to_owned(),
        whole.replace("\"format\":1", "\"format\":2"),
        whole.replace("\"format\":1", "\"format\":1,\"later\":1"),
        ring_text("", &[]),
        ring_text(longest_weak, &[]),
        ring_text(CURRENT, &[longest_weak]),
        ring_text(CURRENT, &[CURRENT]),
        ring_text(CURRENT, &[PREVIOUS, PREVIOUS]),
    ];
    let cut = (0..whole.len()).map(|length| whole[..length].to_owned());
    for text in wrong.into_iter().chain(cut) {
        let parsed = KeyRing::parse(&text);
        assert!(matches!(parsed, Err(StoreError::Corrupt { .. })), "{text}");
    }
}

#[test]
fn no_output_has_a_key_or_a_blob() -> Outcome {
    let ring = KeyRing::parse(&ring_text(CURRENT, &[]))?;
    let sealed = ring.seal(
        &key("shop", "alice", "phone")?,
        id(),
        &Seed::from_bytes(SEED, OtpParameters::default())?,
    )?;
    let shown = format!("{ring:?} {sealed:?}");
    assert_eq!(
        shown,
        "KeyRing { keys: [KeyId(9eec4765)], current: KeyId(9eec4765), .. } SealedSeed(…)"
    );
    Ok(())
}

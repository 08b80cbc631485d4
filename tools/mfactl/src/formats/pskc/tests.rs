use aes_kw::{KwAes128, KwpAes256};
use anyhow::{Context as _, Result};
use cbc::cipher::BlockModeEncrypt as _;
use cbc::cipher::block_padding::Pkcs7;
use proptest::prelude::*;
use shared::otp::{Algorithm, Digits, Period};

use super::*;

const FIGURE_2: &str = include_str!("rfc6030/figure2.xml");
const FIGURE_3: &str = include_str!("rfc6030/figure3.xml");
const FIGURE_4: &str = include_str!("rfc6030/figure4.xml");
const FIGURE_5: &str = include_str!("rfc6030/figure5.xml");
const FIGURE_6: &str = include_str!("rfc6030/figure6.xml");
const FIGURE_7: &str = include_str!("rfc6030/figure7.xml");
const FIGURE_8: &str = include_str!("rfc6030/figure8.xml");
const FIGURE_10: &str = include_str!("rfc6030/figure10.xml");

/// RFC 6030, section 6.1: the key of figure 6.
const KEY: [u8; 16] = [
    0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12,
];
/// `12345678901234567890`, the secret of the figures, and of RFC 6238.
const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
const PLAIN: &str = "<PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue>";
const SIX: &str = "<ResponseFormat Encoding='DECIMAL' Length='6'/>";

fn with_key(key: &[u8]) -> PskcOptions<'_> {
    PskcOptions {
        key: Some(key),
        allow_dated_keys: false,
    }
}

/// The figures are for counter-based codes; as time-based ones they test everything else.
fn time_based(figure: &str) -> String {
    figure.replace("keyprov:pskc:hotp", "keyprov:pskc:totp")
}

fn one(text: &str, options: PskcOptions<'_>) -> Result<Result<Key, KeyError>> {
    let mut keys = parse(text, options)?;
    assert_eq!(keys.len(), 1, "{text}");
    keys.pop().context("a key")
}

fn errors(text: &str, options: PskcOptions<'_>) -> Result<Vec<Option<KeyError>>> {
    Ok(parse(text, options)?.into_iter().map(Result::err).collect())
}

fn container(before: &str, package: &str) -> String {
    format!(
        "<?xml version='1.0' encoding='UTF-8'?><KeyContainer Version='1.0' xmlns='{PSKC}' xmlns:x='{XMLENC}' \
         xmlns:ds='http://www.w3.org/2000/09/xmldsig#'>{before}{package}</KeyContainer>"
    )
}

/// A document with one TOTP key.
fn document(algorithm_parameters: &str, data: &str, rest: &str) -> String {
    let key = format!(
        "<Key Id='1' Algorithm='{TOTP}'><AlgorithmParameters>{algorithm_parameters}</AlgorithmParameters>\
         <Data>{data}</Data>{rest}</Key>"
    );
    container("", &format!("<KeyPackage>{key}</KeyPackage>"))
}

fn plain(algorithm_parameters: &str, more_data: &str, rest: &str) -> String {
    document(
        algorithm_parameters,
        &format!("<Secret>{PLAIN}</Secret>{more_data}"),
        rest,
    )
}

fn encrypted(algorithm: &str, value: &str) -> String {
    format!(
        "<x:EncryptionMethod Algorithm='{algorithm}'/><x:CipherData><x:CipherValue>{value}</x:CipherValue></x:CipherData>"
    )
}

/// A document with one encrypted TOTP key, and a MAC if there is one.
fn locked(algorithm: &str, value: &str, mac_method: &str, mac: &str) -> String {
    let value = encrypted(algorithm, value);
    let mac = if mac.is_empty() {
        String::new()
    } else {
        format!("<ValueMAC>{mac}</ValueMAC>")
    };
    let data = format!("<Secret><EncryptedValue>{value}</EncryptedValue>{mac}</Secret>");
    let before = format!("<EncryptionKey><ds:KeyName>k</ds:KeyName></EncryptionKey>{mac_method}");
    document(SIX, &data, "").replace("<KeyPackage>", &format!("{before}<KeyPackage>"))
}

#[test]
fn the_plain_examples_of_the_rfc_are_read() -> Result<()> {
    let key = one(&time_based(FIGURE_3), PskcOptions::default())??;
    assert_eq!(key.user.as_deref(), Some("UID=jsmith,DC=example-bank,DC=net"));
    assert_eq!(key.device.as_deref(), Some("987654321"));
    assert_eq!(key.issuer.as_deref(), Some("Issuer"));
    assert_eq!(key.seed.to_base32().as_str(), SEED);
    let eight = OtpParameters {
        digits: Digits::Eight,
        ..OtpParameters::default()
    };
    assert_eq!(key.seed.parameters(), eight);
    // Without a user, the key has that of the device.
    let without = time_based(FIGURE_3).replace("<UserId>UID=jsmith,DC=example-bank,DC=net</UserId>", "");
    let key = one(&without, PskcOptions::default())??;
    assert_eq!(key.user.as_deref(), Some("DC=example-bank,DC=net"));

    let several = parse(
        &time_based(FIGURE_10),
        PskcOptions {
            key: None,
            allow_dated_keys: true,
        },
    )?;
    let devices: Vec<_> = several
        .into_iter()
        .map(|key| key.map(|key| key.device.unwrap_or_default()))
        .collect();
    assert_eq!(
        devices,
        ["654321", "123456", "9999999", "9999999"].map(|serial| Ok(serial.to_owned()))
    );
    Ok(())
}

#[test]
fn the_encrypted_example_of_the_rfc_is_read_only_with_its_key() -> Result<()> {
    let figure = time_based(FIGURE_6);
    let key = one(&figure, with_key(&KEY))??;
    assert_eq!(key.seed.to_base32().as_str(), SEED);
    assert_eq!(key.device.as_deref(), Some("987654321"));

    assert_eq!(parse(&figure, PskcOptions::default()).err(), Some(PskcError::NoKey));
    for length in [0, 15, 17, 24, 32] {
        assert_eq!(
            parse(&figure, with_key(&vec![1; length])).err(),
            Some(PskcError::WrongKey),
            "{length}"
        );
    }
    // A wrong key mostly shows in the padding of the MAC's key, and otherwise in the MAC.
    for byte in 0..=255 {
        match parse(&figure, with_key(&[byte; 16])) {
            Err(error) => assert_eq!(error, PskcError::WrongKey),
            Ok(keys) => assert!(keys.iter().all(|key| matches!(key, Err(KeyError::Altered)))),
        }
    }
    Ok(())
}

#[test]
fn a_value_that_was_altered_is_never_decrypted() -> Result<()> {
    let figure = time_based(FIGURE_6);
    for (was, is) in [
        // In the vector: the first byte of the secret would change, and the padding would be valid.
        ("AAECAwQFBgcI", "AQECAwQFBgcI"),
        ("IUqGv", "IUqGw"),
        ("Su+NvtQfmvfJ", "Sv+NvtQfmvfJ"),
        ("Su+NvtQfmvfJzF6bmQiJqoLRExc=", "Su+NvtQfmvfJzF6bmQ=="),
        ("Su+NvtQfmvfJzF6bmQiJqoLRExc=", ""),
    ] {
        assert!(figure.contains(was), "{was}");
        assert_eq!(
            errors(&figure.replace(was, is), with_key(&KEY))?,
            [Some(KeyError::Altered)],
            "{was}"
        );
    }
    let without = figure.replace(
        "<ValueMAC>Su+NvtQfmvfJzF6bmQiJqoLRExc=\n                    </ValueMAC>",
        "",
    );
    assert_eq!(errors(&without, with_key(&KEY))?, [Some(KeyError::NoMac)]);
    // A MAC without a MACMethod.
    let (before, rest) = figure.split_once("<MACMethod").context("a method")?;
    let (_, after) = rest.split_once("</MACMethod>").context("its end")?;
    assert_eq!(
        errors(&format!("{before}{after}"), with_key(&KEY))?,
        [Some(KeyError::NoMac)]
    );
    Ok(())
}

#[test]
fn every_cipher_and_mac_of_another_implementation_is_read() -> Result<()> {
    const CBC_256: &str = "yMnKy8zNzs/Q0dLT1NXW16l/BfPfAMxQ54eIpH8tm0NxG7f//X5zKLpi77iAP56c";
    const MAC_KEY: &str = "EBESExQVFhcYGRobHB0eH9wIIeBMp0mlFOAAAzNI6U3mj/t3Jj59SWqUvtZa94BBagkssu1amysnTgLkEOuT1A==";
    const CBC: &str = "http://www.w3.org/2001/04/xmlenc#aes256-cbc";
    // Made with Python's `cryptography`: keys 00 01 02 …, padding of random bytes but the last.
    let key: Vec<u8> = (0..32).collect();
    let method = |hash: &str| {
        let mac_key = encrypted(CBC, MAC_KEY);
        format!(
            "<MACMethod Algorithm='http://www.w3.org/2001/04/xmldsig-more#{hash}'><MACKey>{mac_key}</MACKey></MACMethod>"
        )
    };
    for (hash, mac) in [
        ("hmac-sha256", "TsdtKcVLgKhkC5XfKqxEN67sYGok/VMeaD7dNcbJxyI="),
        (
            "hmac-sha512",
            "3AsPocZBD0rsb/ExMNYyV1RQnGpQAhUyEf9yJRveT47dVG1F0mWO7+eH9A7IHQljtSpamhn/bzGynacmXcY1kA==",
        ),
    ] {
        let key = one(&locked(CBC, CBC_256, &method(hash), mac), with_key(&key))??;
        assert_eq!(key.seed.to_base32().as_str(), SEED, "{hash}");
    }
    for (algorithm, value, length, seed) in [
        // RFC 3394, section 4.1.
        (
            "http://www.w3.org/2001/04/xmlenc#kw-aes128",
            "H6aLCoEStEeu80vY+1p7gp0+hiNx0s/l",
            16,
            "AAISEM2EKVTHPCEZVK54ZXPO74",
        ),
        (
            "http://www.w3.org/2001/04/xmlenc#kw-aes256",
            "PyZAe0gDW+qhtJzc3HXIE94UCzmJiDthm5Xo3F+xlTehDFuLEXU+Cw==",
            32,
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA",
        ),
        (
            "http://www.w3.org/2009/xmlenc11#kw-aes-128-pad",
            "NVBt430dHkYU8R/ckxzqqoEL0uADnw/7k4xrS9RswSs=",
            16,
            SEED,
        ),
        (
            "http://www.w3.org/2009/xmlenc11#kw-aes-256-pad",
            "X3D7zxE1N/zMVnqeZpq20K3IoEfdU2O5z0XyD5IvssM=",
            32,
            SEED,
        ),
    ] {
        let right = key.get(..length).context("a key")?;
        let text = locked(algorithm, value, "", "");
        assert_eq!(
            one(&text, with_key(right))??.seed.to_base32().as_str(),
            seed,
            "{algorithm}"
        );
        assert_eq!(
            errors(&text, with_key(&vec![9; length]))?,
            [Some(KeyError::Altered)],
            "{algorithm}"
        );
        assert_eq!(
            errors(&text, with_key(&vec![9; 48 - length]))?,
            [Some(KeyError::KeyLength)],
            "{algorithm}"
        );
        let altered = locked(
            algorithm,
            &value.replacen(|c: char| c.is_ascii_lowercase(), "Z", 1),
            "",
            "",
        );
        assert_eq!(
            errors(&altered, with_key(right))?,
            [Some(KeyError::Altered)],
            "{algorithm}"
        );
        let cut = locked(algorithm, "AAAA", "", "");
        assert_eq!(errors(&cut, with_key(right))?, [Some(KeyError::Altered)], "{algorithm}");
    }
    Ok(())
}

#[test]
fn a_file_of_a_draft_without_a_mac_key_is_verified_with_the_encryption_key() -> Result<()> {
    let value = "AAECAwQFBgcICQoLDA0OD+cIHItlB3Wra1DUpxVvOx2lef1VmNPCMl8jwZqIUqGv";
    let method = "<MACMethod Algorithm='http://www.w3.org/2001/04/xmldsig-more#hmac-sha1'/>";
    let cbc = "http://www.w3.org/2001/04/xmlenc#aes128-cbc";
    let key = one(
        &locked(cbc, value, method, "N8Agsfe5A7WQFswmdvL/MHdd3y0="),
        with_key(&KEY),
    )??;
    assert_eq!(key.seed.to_base32().as_str(), SEED);
    let wrong = locked(cbc, value, method, "N8Agsfe5A7WQFswmdvL/MHdd3y4=");
    assert_eq!(errors(&wrong, with_key(&KEY))?, [Some(KeyError::Altered)]);
    Ok(())
}

#[test]
fn examples_of_the_rfc_with_restrictions_or_without_a_secret_are_refused() -> Result<()> {
    let plain = PskcOptions::default();
    for figure in [FIGURE_2, FIGURE_3, FIGURE_4] {
        assert_eq!(errors(figure, plain)?, [Some(KeyError::CounterBased)]);
    }
    assert_eq!(errors(FIGURE_6, with_key(&KEY))?, [Some(KeyError::CounterBased)]);
    assert_eq!(errors(&time_based(FIGURE_2), plain)?, [Some(KeyError::ResponseFormat)]);
    assert_eq!(errors(&time_based(FIGURE_4), plain)?, [Some(KeyError::NoSecret)]);
    // A PIN, and the key of the PIN.
    assert_eq!(
        errors(&time_based(FIGURE_5), plain)?,
        [Some(KeyError::Policy), Some(KeyError::Algorithm)]
    );
    assert_eq!(errors(&time_based(FIGURE_10), plain)?, vec![Some(KeyError::Dated); 4]);
    // A password, a certificate.
    for figure in [FIGURE_7, FIGURE_8] {
        assert_eq!(parse(figure, with_key(&KEY)).err(), Some(PskcError::KeyMethod));
    }
    Ok(())
}

#[test]
fn parameters_are_accepted_or_refused() -> Result<()> {
    let of = |algorithm: &str, data: &str| -> Result<_> {
        Ok(one(&plain(algorithm, data, ""), PskcOptions::default())?.map(|key| key.seed.parameters()))
    };
    let value = |name: &str, value: &str| format!("<{name}><PlainValue>{value}</PlainValue></{name}>");
    assert_eq!(of(SIX, "")?, Ok(OtpParameters::default()));
    for (suite, algorithm) in [
        ("HMAC-SHA1", Algorithm::Sha1),
        ("HMAC-SHA256", Algorithm::Sha256),
        ("SHA512", Algorithm::Sha512),
    ] {
        let format = "<ResponseFormat Encoding='DECIMAL' Length='8' CheckDigits='false'/>";
        let data =
            value("TimeInterval", "60") + &value("Time", "0") + &value("TimeDrift", " 0 ") + &value("Counter", "9");
        assert_eq!(
            of(&format!("<Suite>{suite}</Suite>{format}"), &data)?,
            Ok(OtpParameters {
                algorithm,
                digits: Digits::Eight,
                period: Period::Sixty,
            })
        );
    }
    for (algorithm, expected) in [
        ("", KeyError::ResponseFormat),
        (
            "<ResponseFormat Encoding='DECIMAL' Length='7'/>",
            KeyError::ResponseFormat,
        ),
        ("<ResponseFormat Encoding='DECIMAL'/>", KeyError::ResponseFormat),
        ("<ResponseFormat Length='6'/>", KeyError::ResponseFormat),
        (
            "<ResponseFormat Encoding='HEXADECIMAL' Length='6'/>",
            KeyError::ResponseFormat,
        ),
        (
            "<ResponseFormat Encoding='DECIMAL' Length='6' CheckDigits='true'/>",
            KeyError::ResponseFormat,
        ),
        (
            "<ResponseFormat Encoding='DECIMAL' Length='6' CheckDigit='1'/>",
            KeyError::ResponseFormat,
        ),
        (
            &SIX.repeat(2),
            KeyError::Malformed {
                element: "ResponseFormat",
            },
        ),
        (&format!("<Suite>MD5</Suite>{SIX}"), KeyError::Suite),
        (&format!("<Suite>OCRA-1:HOTP-SHA1-6:QN08</Suite>{SIX}"), KeyError::Suite),
        (
            &format!("<Suite><a/></Suite>{SIX}"),
            KeyError::Malformed { element: "Suite" },
        ),
        (
            &format!("<Suite hashalgo='sha256'>SHA256</Suite>{SIX}"),
            KeyError::Suite,
        ),
        (&format!("<Suite hashalgo='md5'/>{SIX}"), KeyError::Suite),
    ] {
        assert_eq!(of(algorithm, "")?, Err(expected), "{algorithm}");
    }
    for (data, expected) in [
        (value("TimeInterval", "15"), KeyError::TimeInterval),
        (value("TimeInterval", "-30"), KeyError::TimeInterval),
        (
            "<TimeInterval>60</TimeInterval>".to_owned(),
            KeyError::Malformed {
                element: "TimeInterval",
            },
        ),
        (
            value("TimeInterval", ""),
            KeyError::Malformed {
                element: "TimeInterval",
            },
        ),
        (
            value("TimeInterval", "30").repeat(2),
            KeyError::Malformed {
                element: "TimeInterval",
            },
        ),
        (value("Time", "1"), KeyError::Time),
        (value("TimeDrift", "x"), KeyError::Malformed { element: "TimeDrift" }),
        (
            format!("<Secret>{PLAIN}</Secret>"),
            KeyError::Malformed { element: "Secret" },
        ),
    ] {
        assert_eq!(of(SIX, &data)?, Err(expected), "{data}");
    }
    Ok(())
}

#[test]
fn whatever_is_not_known_refuses_the_key_and_is_named() -> Result<()> {
    let options = PskcOptions::default();
    let known = plain(
        SIX,
        "<TimeDrift><PlainValue>-3</PlainValue></TimeDrift>",
        "<FriendlyName xml:lang='en'>x</FriendlyName>",
    );
    assert_eq!(one(&known, options)??.drift, -3);
    let drift = "</Secret><TimeDrift>";
    for (was, is, named) in [
        (
            SIX,
            "<ResponseFormat Encoding='DECIMAL' Length='6' Format='x'/>",
            "attribute Format of ResponseFormat",
        ),
        (
            SIX,
            "<ResponseFormat Encoding='DECIMAL' Length='6' length='8'/>",
            "attribute length of ResponseFormat",
        ),
        (
            SIX,
            "<ResponseFormat Encoding='DECIMAL' Length='6' x:Length='8'/>",
            "attribute Length of ResponseFormat",
        ),
        (
            "<ResponseFormat",
            "<ChallengeFormat/><ResponseFormat",
            "element ChallengeFormat in AlgorithmParameters",
        ),
        (
            "<ResponseFormat",
            "<Suite xmlns='urn:other'>SHA256</Suite><ResponseFormat",
            "element Suite in AlgorithmParameters",
        ),
        (
            "<ResponseFormat",
            "<Suite alg='SHA256'/><ResponseFormat",
            "attribute alg of Suite",
        ),
        (
            "<ResponseFormat",
            "<Suite>SHA1<a/></Suite><ResponseFormat",
            "Suite is missing",
        ),
        (
            "<AlgorithmParameters>",
            "<AlgorithmParameters hash='SHA256'>",
            "attribute hash of AlgorithmParameters",
        ),
        (
            "<Data>",
            "<KeyProfileId>1</KeyProfileId><Data>",
            "element KeyProfileId in Key",
        ),
        ("<Data>", "<Extensions/><Data>", "element Extensions in Key"),
        ("<Data>", "<Data hashalgo='SHA256'>", "attribute hashalgo of Data"),
        (
            drift,
            "</Secret><Digits><PlainValue>8</PlainValue></Digits><TimeDrift>",
            "element Digits in Data",
        ),
        (drift, "</Secret><TimeDrift unit='s'>", "attribute unit of TimeDrift"),
        (
            "<PlainValue>-3",
            "<PlainValue unit='s'>-3",
            "attribute unit of PlainValue",
        ),
        (
            "<KeyPackage>",
            "<KeyPackage><KeyParameters/>",
            "element KeyParameters in KeyPackage",
        ),
        (
            "<KeyPackage>",
            "<KeyPackage><DeviceInfo><Period>60</Period></DeviceInfo>",
            "element Period in DeviceInfo",
        ),
    ] {
        assert!(known.contains(was), "{was}");
        let error = one(&known.replacen(was, is, 1), options)?.err().context(is)?;
        assert!(error.to_string().contains(named), "{is}: {error}");
    }
    Ok(())
}

#[test]
fn whatever_is_not_known_of_a_container_refuses_all_of_it() -> Result<()> {
    let (options, known) = (PskcOptions::default(), plain(SIX, "", ""));
    for (was, is, named) in [
        (
            "<KeyPackage>",
            "<TimeInterval/><KeyPackage>",
            "element TimeInterval in KeyContainer",
        ),
        (
            "<KeyContainer ",
            "<KeyContainer Digits='8' ",
            "attribute Digits of KeyContainer",
        ),
        (
            "<KeyPackage>",
            "<MACMethod><MACKeyReference/></MACMethod><KeyPackage>",
            "element MACKeyReference in MACMethod",
        ),
    ] {
        let error = parse(&known.replacen(was, is, 1), options).err().context(is)?;
        assert!(error.to_string().contains(named), "{is}: {error}");
    }
    Ok(())
}

#[test]
fn the_lower_case_export_of_privacyidea_is_read() -> Result<()> {
    let written = time_based(FIGURE_6)
        .replace(
            "<AlgorithmParameters>",
            "<AlgorithmParameters><Suite hashalgo=\"sha256\"></Suite>",
        )
        .replace(
            "<Data>",
            "<Data><Time><PlainValue>0</PlainValue></Time><TimeDrift><PlainValue>2</PlainValue></TimeDrift>",
        );
    // It writes every name in lower case, and no declaration.
    let (_, mut written) = written.split_once("?>").context("a declaration")?;
    let mut lower = String::new();
    while let Some((text, rest)) = written.split_once('<') {
        let (tag, rest) = rest.split_once('>').context("the end of a tag")?;
        let values = tag.split('"').enumerate();
        let tag: Vec<_> = values
            .map(|(at, part)| {
                if at % 2 == 0 {
                    part.to_lowercase()
                } else {
                    part.to_owned()
                }
            })
            .collect();
        lower.extend([text, "<", &tag.join("\""), ">"]);
        written = rest;
    }
    assert!(
        lower.contains("<keycontainer") && lower.contains("<xenc:ciphervalue>"),
        "{lower}"
    );
    let key = one(&lower, with_key(&KEY))??;
    assert_eq!(key.seed.to_base32().as_str(), SEED);
    assert_eq!(key.seed.parameters().algorithm, Algorithm::Sha256);
    assert_eq!((key.device.as_deref(), key.drift), (Some("987654321"), 2));
    Ok(())
}

#[test]
fn the_layout_of_a_draft_is_named() {
    let draft = |namespace: &str| {
        format!(
            "<KeyContainer Version='1.0' xmlns='{namespace}'><Device><Key KeyAlgorithm='{DRAFT_TOTP}' KeyId='1'>\
             <Usage OTP='true'><ResponseFormat Length='6' Format='DECIMAL'/></Usage></Key></Device></KeyContainer>"
        )
    };
    for namespace in [
        PSKC,
        "urn:ietf:params:xml:ns:keyprov:pskc:1.0",
        "urn:ietf:params:xml:ns:keyprov:container:1.0",
    ] {
        assert_eq!(
            parse(&draft(namespace), PskcOptions::default()).err(),
            Some(PskcError::Draft),
            "{namespace}"
        );
    }
}

#[test]
fn a_policy_is_enforced_or_the_key_is_refused() -> Result<()> {
    let dated = PskcOptions {
        key: None,
        allow_dated_keys: true,
    };
    let policy = |restrictions: &str| plain(SIX, "", &format!("<Policy>{restrictions}</Policy>"));
    let date = "<ExpiryDate>2037-12-31T00:00:00Z</ExpiryDate>";
    for restrictions in [
        "",
        "<KeyUsage>OTP</KeyUsage>",
        "<KeyUsage>CR</KeyUsage><KeyUsage>OTP</KeyUsage>",
    ] {
        assert_eq!(
            errors(&policy(restrictions), PskcOptions::default())?,
            [None],
            "{restrictions}"
        );
    }
    assert_eq!(errors(&policy(date), PskcOptions::default())?, [Some(KeyError::Dated)]);
    assert_eq!(errors(&policy(date), dated)?, [None]);
    for restrictions in [
        "<KeyUsage>CR</KeyUsage>",
        "<KeyUsage/>",
        "<KeyUsage Attempts='5'>OTP</KeyUsage>",
        "<PINPolicy MinLength='4'/>",
        "<NumberOfTransactions>5</NumberOfTransactions>",
        "<Extension/>",
        "<KeyUsage xmlns='urn:other'>OTP</KeyUsage>",
        &format!("{date}<PINPolicy/>"),
    ] {
        assert_eq!(
            errors(&policy(restrictions), dated)?,
            [Some(KeyError::Policy)],
            "{restrictions}"
        );
    }
    // The dates of a device identify it (section 4.3.1) and restrict nothing.
    let card = plain(SIX, "", "").replace("<KeyPackage>", &format!("<KeyPackage><DeviceInfo>{date}</DeviceInfo>"));
    assert_eq!(errors(&card, PskcOptions::default())?, [None]);
    Ok(())
}

#[test]
fn an_unusable_secret_does_not_affect_other_keys() -> Result<()> {
    let secret = |inner: &str| document(SIX, &format!("<Secret>{inner}</Secret>"), "");
    let malformed = || KeyError::Malformed { element: "Secret" };
    for (inner, expected) in [
        ("", malformed()),
        ("<PlainValue>%%%</PlainValue>", malformed()),
        (
            "<PlainValue><b/></PlainValue>",
            KeyError::Unknown {
                what: "the element b in PlainValue".to_owned(),
            },
        ),
        ("<PlainValue>MTIz<!-- -->NDU2</PlainValue>", malformed()),
        ("<PlainValue/>", KeyError::Seed(SeedError::Length)),
        ("<PlainValue>MTIzNA==</PlainValue>", KeyError::Seed(SeedError::Length)),
        (&format!("{PLAIN}<ValueMAC>AAAA</ValueMAC>"), malformed()),
        (&PLAIN.repeat(2), KeyError::Malformed { element: "PlainValue" }),
    ] {
        assert_eq!(
            errors(&secret(inner), PskcOptions::default())?,
            [Some(expected)],
            "{inner}"
        );
    }
    for (algorithm, value, expected) in [
        (
            "http://www.w3.org/2001/04/xmlenc#tripledes-cbc",
            "AAAA",
            KeyError::Cipher,
        ),
        ("", "AAAA", KeyError::Cipher),
        ("http://www.w3.org/2001/04/xmlenc#aes128-cbc", "AAAA", KeyError::NoMac),
        (
            "http://www.w3.org/2001/04/xmlenc#kw-aes128",
            "%",
            KeyError::Malformed { element: "CipherData" },
        ),
        (
            "http://www.w3.org/2001/04/xmlenc#kw-aes128",
            "<a/>",
            KeyError::Unknown {
                what: "the element a in CipherValue".to_owned(),
            },
        ),
        ("http://www.w3.org/2001/04/xmlenc#kw-aes128", "", KeyError::Altered),
    ] {
        assert_eq!(
            errors(&locked(algorithm, value, "", ""), with_key(&KEY))?,
            [Some(expected)],
            "{algorithm} {value}"
        );
    }
    let nothing = container("", "<KeyPackage/>");
    assert_eq!(
        errors(&nothing, PskcOptions::default())?,
        [Some(KeyError::Malformed { element: "Key" })]
    );
    let two = plain(SIX, "", "");
    let (before, rest) = two.split_once("<KeyPackage>").context("a package")?;
    let (package, _) = rest.split_once("</KeyPackage>").context("its end")?;
    let text = format!(
        "{before}<KeyPackage/><KeyPackage>{package}</KeyPackage><KeyPackage>{package}{package}</KeyPackage></KeyContainer>"
    );
    let malformed = || KeyError::Malformed { element: "Key" };
    assert_eq!(
        errors(&text, PskcOptions::default())?,
        [Some(malformed()), None, Some(malformed())]
    );
    Ok(())
}

#[test]
fn the_device_is_the_serial_number_or_else_the_id_of_the_key() -> Result<()> {
    let text = plain(SIX, "", "");
    assert_eq!(one(&text, PskcOptions::default())??.device.as_deref(), Some("1"));
    let with = |info: &str| text.replace("<KeyPackage>", &format!("<KeyPackage><DeviceInfo>{info}</DeviceInfo>"));
    let serial = one(&with("<SerialNo>\r\n 77&amp;78 </SerialNo>"), PskcOptions::default())??;
    assert_eq!(serial.device.as_deref(), Some("77&78"));
    assert_eq!(
        one(&with("<SerialNo/>"), PskcOptions::default())??.device.as_deref(),
        Some("1")
    );
    assert_eq!(errors(&text.replace(TOTP, DRAFT_TOTP), PskcOptions::default())?, [None]);
    let neither = text.replace("Id='1'", "");
    assert_eq!(one(&neither, PskcOptions::default())??.device, None);
    Ok(())
}

#[test]
fn anything_but_a_key_container_is_refused() {
    let error = |text: &str| parse(text, PskcOptions::default()).err();
    let whole = plain(SIX, "", "");
    assert_eq!(error(""), Some(PskcError::NotXml { line: 1 }));
    assert_eq!(error("<a>\n\n</b>"), Some(PskcError::NotXml { line: 3 }));
    assert_eq!(
        error(&whole.replace("</KeyContainer>", "")).map(|error| matches!(error, PskcError::NotXml { .. })),
        Some(true)
    );
    assert_eq!(error("<KeyContainer Version='1.0'/>"), Some(PskcError::NotAContainer));
    assert_eq!(
        error(&whole.replace("urn:ietf:params:xml:ns:keyprov:pskc'", "urn:other'")),
        Some(PskcError::NotAContainer)
    );
    assert_eq!(
        error(
            &whole
                .replace("Version='1.0'", "Version='2.0'")
                .replace("xml version='2.0'", "xml version='1.0'")
        ),
        Some(PskcError::Version)
    );
    assert_eq!(
        error(&format!("<KeyContainer xmlns='{PSKC}'/>")),
        Some(PskcError::Version)
    );
    let method = |method: &str| {
        let kw = "http://www.w3.org/2001/04/xmlenc#kw-aes128";
        parse(&locked(kw, "AAAA", method, ""), with_key(&KEY)).err()
    };
    for unknown in [
        "<MACMethod Algorithm='http://www.w3.org/2001/04/xmldsig-more#hmac-md5'/>",
        "<MACMethod/>",
        "<MACMethod Algorithm='http://www.w3.org/2000/09/xmldsig#hmac-sha1'><MACKey/></MACMethod>",
        "<MACMethod Algorithm='http://www.w3.org/2000/09/xmldsig#hmac-sha1'/><MACMethod/>",
    ] {
        assert_eq!(method(unknown), Some(PskcError::MacMethod), "{unknown}");
    }
}

#[test]
fn entities_and_document_types_are_refused() {
    let whole = plain(SIX, "", "");
    let with = |doctype: &str| whole.replacen("?>", &format!("?>{doctype}"), 1);
    for doctype in [
        "<!DOCTYPE KeyContainer>",
        "<!DOCTYPE KeyContainer []>",
        "<!DOCTYPE KeyContainer SYSTEM 'file:///etc/passwd'>",
        "<!DOCTYPE a [<!ENTITY x 'y'>]>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'http://example.com/'>]>",
    ] {
        assert_eq!(
            parse(&with(doctype), PskcOptions::default()).err(),
            Some(PskcError::DocumentType),
            "{doctype}"
        );
    }
    let entity = whole.replace(PLAIN, "<PlainValue>&x;</PlainValue>");
    assert!(matches!(
        parse(&entity, PskcOptions::default()),
        Err(PskcError::NotXml { .. })
    ));
}

#[test]
fn deep_or_wide_documents_exhaust_no_resource() {
    let deep = format!(
        "<KeyContainer Version='1.0' xmlns='{PSKC}'>{}{}</KeyContainer>",
        "<a>".repeat(200_000),
        "</a>".repeat(200_000)
    );
    assert!(matches!(
        parse(&deep, PskcOptions::default()),
        Err(PskcError::Unknown { .. })
    ));
    let wide = plain(SIX, "", &"<a/>".repeat(1_000));
    assert_eq!(with_container(&wide, 1_100, |_| Ok(())), Ok(()));
    assert_eq!(with_container(&wide, 1_000, |_| Ok(())), Err(PskcError::Size));
    // At the largest size of a file, each of these would take the parser minutes.
    let attributes = |count: usize| (0..count).map(|n| format!(" a{n}=''")).collect::<Vec<_>>().concat();
    let in_one = |count| plain(SIX, "", &format!("<a{}/>", attributes(count)));
    let nested = |depth: usize| {
        plain(
            SIX,
            "",
            &format!("{}{}", "<a b='>'>".repeat(depth), "</a>".repeat(depth)),
        )
    };
    let side_by_side = plain(SIX, "", &format!("<a{0}/><a{0}></a>", attributes(40)).repeat(100));
    for (text, expected) in [
        (in_one(40), None),
        (in_one(100_000), Some(PskcError::Attributes)),
        (nested(40), None),
        (nested(100_000), Some(PskcError::Attributes)),
        (side_by_side, None),
    ] {
        assert_eq!(parse(&text, PskcOptions::default()).err(), expected, "{text:.300}");
    }
}

#[test]
fn secrets_are_borrowed_from_the_text_that_is_cleared() -> Result<()> {
    let crlf = plain(SIX, "", "").replace("MTIzNDU2Nzg5", "\r\n  MTIzNDU2Nzg5\r\n  ");
    let borrowed = with_container(&crlf, MOST_NODES, |container| {
        let value = container.descendants().find(|node| node.has_tag_name("PlainValue"));
        let text = value
            .and_then(|value| value.first_child())
            .and_then(|text| text.text_storage());
        Ok(matches!(text, Some(roxmltree::StringStorage::Borrowed(_))))
    });
    assert_eq!(borrowed, Ok(true));
    assert_eq!(with_line_feeds(&crlf).as_str(), crlf.replace("\r\n", "\n"));
    assert_eq!(one(&crlf, PskcOptions::default())??.seed.to_base32().as_str(), SEED);
    Ok(())
}

#[test]
fn neither_debug_nor_errors_show_what_was_read() -> Result<()> {
    let text = plain(SIX, "", "<UserId>MARK</UserId>").replace("Id='1'", "Id='MARK'");
    let keys = parse(&text, PskcOptions::default())?;
    let shown = format!("{keys:?} {:?}", with_key(b"MARKMARKMARKMARK"));
    assert!(
        keys.iter().all(Result::is_ok) && !shown.contains("MARK") && !shown.contains("GEZD"),
        "{shown}"
    );
    assert!(!shown.contains("77, 65"), "{shown}");
    let error = parse("<MARK>&MARK;</MARK>", PskcOptions::default())
        .err()
        .context("an error")?;
    assert!(!format!("{error} {error:?}").contains("MARK"), "{error}");
    Ok(())
}

proptest! {
    #[test]
    fn every_encrypted_seed_is_read_back(
        seed in proptest::collection::vec(any::<u8>(), 10..=128),
        key: [u8; 32],
        mac_key in proptest::collection::vec(any::<u8>(), 16..=64),
        vector: [u8; 16],
    ) {
        let short = key.get(..16).unwrap_or_default();
        let encoded = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
        let cbc = |text: &[u8]| {
            let mut buffer = vec![0; text.len() + 16];
            let encrypted = cbc::Encryptor::<Aes128>::new_from_slices(short, &vector)
                .ok()
                .and_then(|cbc| cbc.encrypt_padded_b2b::<Pkcs7>(text, &mut buffer).map(<[u8]>::to_vec).ok());
            [vector.as_slice(), &encrypted.unwrap_or_default()].concat()
        };
        let value = cbc(&seed);
        let mac = Hmac::<Sha256>::new_from_slice(&mac_key)?.chain_update(&value).finalize().into_bytes();
        let aes128 = "http://www.w3.org/2001/04/xmlenc#aes128-cbc";
        let method = format!(
            "<MACMethod Algorithm='http://www.w3.org/2001/04/xmldsig-more#hmac-sha256'><MACKey>{}</MACKey></MACMethod>",
            encrypted(aes128, &encoded(&cbc(&mac_key)))
        );
        let written = data_encoding::BASE32_NOPAD.encode(&seed);
        let text = locked(aes128, &encoded(&value), &method, &encoded(&mac));
        let read = parse(&text, with_key(short))?.pop();
        prop_assert_eq!(read.and_then(Result::ok).map(|key| key.seed.to_base32().to_string()), Some(written.clone()));

        let mut buffer = vec![0; seed.len() + 16];
        let wrapped = KwpAes256::new_from_slice(&key)?.wrap_key(&seed, &mut buffer)?.to_vec();
        let text = locked("http://www.w3.org/2009/xmlenc11#kw-aes-256-pad", &encoded(&wrapped), "", "");
        let read = parse(&text, with_key(&key))?.pop();
        prop_assert_eq!(read.and_then(Result::ok).map(|key| key.seed.to_base32().to_string()), Some(written.clone()));

        let whole = seed.get(..seed.len() / 8 * 8).unwrap_or_default();
        if whole.len() >= 16 {
            let wrapped = KwAes128::new_from_slice(short)?.wrap_key(whole, &mut buffer)?.to_vec();
            let text = locked("http://www.w3.org/2001/04/xmlenc#kw-aes128", &encoded(&wrapped), "", "");
            let read = parse(&text, with_key(short))?.pop();
            let written = data_encoding::BASE32_NOPAD.encode(whole);
            prop_assert_eq!(read.and_then(Result::ok).map(|key| key.seed.to_base32().to_string()), Some(written));
        }
    }

    #[test]
    fn no_input_makes_the_reader_panic(text: String, at: prop::sample::Index, value: Vec<u8>) {
        let options = with_key(&KEY);
        let _ = parse(&text, options);
        let _ = parse(&plain(&text, &text, &text), options);
        let mut whole = time_based(FIGURE_6);
        let at = at.index(whole.len());
        if whole.is_char_boundary(at) {
            whole.insert_str(at, &text);
        }
        let _ = parse(&whole, options);
        let value = data_encoding::BASE64.encode(&value);
        for cipher in ["2001/04/xmlenc#aes128-cbc", "2001/04/xmlenc#kw-aes128", "2009/xmlenc11#kw-aes-128-pad"] {
            let cipher = format!("http://www.w3.org/{cipher}");
            let method = format!(
                "<MACMethod Algorithm='http://www.w3.org/2000/09/xmldsig#hmac-sha1'><MACKey>{}</MACKey></MACMethod>",
                encrypted(&cipher, &value)
            );
            let _ = parse(&locked(&cipher, &value, "", &value), options);
            let _ = parse(&locked(&cipher, &value, &method, &value), options);
        }
    }
}

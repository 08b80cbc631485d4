use anyhow::{Context as _, Result};
use proptest::prelude::*;
use shared::names::{DeviceName, UserName};
use shared::otp::{Algorithm, Digits, Period, SeedError};
use shared::otpauth::{Issuer, IssuerError, account_of, build};

use super::*;

const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// Names that are known to break URIs, and the longest ones.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "plain",
        "with space",
        "colon: in it",
        ":begins with one",
        "ends with one:",
        "me+tag@example.com",
        "a&b",
        "a#b",
        "a/b//c",
        "100%",
        "%41%3A%zz",
        "what?",
        "a=b&secret=AAAA",
        "a;b,c\"d'",
        "back\\slash",
        "日本語の名前",
        "👩‍👩‍👧‍👦 family",
        "שלום עולם",
        "مرحبا",
        "é",
        "-._~",
        "(in) parentheses",
        "(",
        ")",
        "a (b",
        "a) (b",
        "otpauth://totp/x:y?secret=AAAA",
        "<b>&amp;</b>",
        "\u{feff}marked",
        "\u{202e}turned",
    ]
    .map(str::to_owned)
    .into();
    for character in ["a", ":", "%", "界", "👍"] {
        names.extend([63, 64, 127, 128].map(|count| character.repeat(count)));
    }
    names
}

fn seed(parameters: OtpParameters) -> Result<Seed> {
    Ok(Seed::from_base32(SECRET, parameters)?)
}

fn all_parameters() -> impl Iterator<Item = OtpParameters> {
    let others = [(Digits::Six, Period::Thirty), (Digits::Eight, Period::Sixty)];
    Algorithm::ALL.into_iter().flat_map(move |algorithm| {
        others.map(|(digits, period)| OtpParameters {
            algorithm,
            digits,
            period,
        })
    })
}

fn error(raw: &str) -> Option<UriError> {
    parse(raw).err()
}

fn read(raw: &str) -> Result<(Option<String>, String)> {
    let uri = parse(raw)?;
    Ok((uri.issuer().map(str::to_owned), uri.account()?.to_owned()))
}

#[test]
fn a_uri_is_written_in_the_form_that_every_app_reads() -> Result<()> {
    let (user, device) = (UserName::parse("me+tag@example.com")?, DeviceName::parse("my phone")?);
    let uri = build(
        &Issuer::parse("Big & Co/Übung")?,
        &user,
        &device,
        &seed(OtpParameters::default())?,
    );
    assert_eq!(
        uri.as_str(),
        "otpauth://totp/Big%20%26%20Co%2F%C3%9Cbung:me%2Btag%40example.com%20%28my%20phone%29\
         ?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Big%20%26%20Co%2F%C3%9Cbung&algorithm=SHA1&digits=6&period=30"
    );
    let sixty = OtpParameters {
        algorithm: Algorithm::Sha512,
        digits: Digits::Eight,
        period: Period::Sixty,
    };
    let uri = build(&Issuer::parse("Big")?, &user, &device, &seed(sixty)?);
    assert!(
        uri.ends_with("&algorithm=SHA512&digits=8&period=60"),
        "{}",
        uri.as_str()
    );
    Ok(())
}

#[test]
fn every_name_survives_in_every_place() -> Result<()> {
    for name in names() {
        let user = UserName::parse(&name)?;
        let device: String = name.chars().take(DeviceName::LONGEST).collect();
        let device = DeviceName::parse(device.trim_end())?;
        let issuer: String = name.chars().filter(|c| *c != ':').take(Issuer::LONGEST).collect();
        let issuer = Issuer::parse(if issuer.is_empty() { "x" } else { issuer.trim() })?;
        for parameters in all_parameters() {
            let uri = build(&issuer, &user, &device, &seed(parameters)?);
            let head = uri.split_once('?').map_or("", |(head, _)| head);
            assert_eq!(head.matches(':').count(), 2, "of the scheme and of the label: {head}");
            assert!(
                uri.bytes().all(|byte| byte.is_ascii_graphic()) && !uri.contains('+'),
                "{}",
                uri.as_str()
            );
            let read = parse(&uri).with_context(|| name.clone())?;
            assert_eq!(read.issuer(), Some(issuer.as_str()));
            assert_eq!(read.account(), Ok(account_of(&user, &device).as_str()));
            assert_eq!(read.seed.parameters(), parameters);
            assert_eq!(read.seed.to_base32().as_str(), SECRET);
        }
    }
    Ok(())
}

#[test]
fn the_longest_names_fit_into_a_uri_that_is_read_and_into_a_qr_code() -> Result<()> {
    let user = UserName::parse(&"👍".repeat(UserName::LONGEST))?;
    let device = DeviceName::parse(&"👍".repeat(DeviceName::LONGEST))?;
    let issuer = Issuer::parse(&"👍".repeat(Issuer::LONGEST))?;
    let longest = Seed::from_bytes(&[0xa5; 128], OtpParameters::default())?;
    let uri = build(&issuer, &user, &device, &longest);
    assert!(uri.len() * 3 <= LONGEST, "{}", uri.len());
    // Version 40 holds 2,953 bytes at level L (ISO/IEC 18004): enough for every user and device, with an issuer of
    // 64 ASCII characters and a new seed.
    let uri = build(
        &Issuer::parse(&"i".repeat(64))?,
        &user,
        &device,
        &seed(OtpParameters::default())?,
    );
    assert!(uri.len() <= 2_953, "{}", uri.len());
    Ok(())
}

#[test]
fn the_buffer_of_a_uri_does_not_grow() -> Result<()> {
    let (user, device) = (UserName::parse("👍:👍")?, DeviceName::parse("((")?);
    let uri = build(&Issuer::parse("界")?, &user, &device, &seed(OtpParameters::default())?);
    let encoded_at_most = 3 * (2 * "界".len() + "👍:👍 ((()".len()) + SECRET.len();
    let rest = "otpauth://totp/:?secret=&issuer=&algorithm=SHA512&digits=8&period=60".len();
    assert_eq!(uri.capacity(), encoded_at_most + rest);
    Ok(())
}

#[test]
fn an_issuer_is_what_apps_can_show() {
    assert_eq!(Issuer::parse("Example: Bank").err(), Some(IssuerError::Colon));
    assert_eq!(Issuer::parse("").err(), Some(IssuerError::Length));
    assert_eq!(Issuer::parse(&"a".repeat(65)).err(), Some(IssuerError::Length));
    for raw in [" a", "a ", "a\u{a0}", "a\nb", "\u{7f}"] {
        assert_eq!(Issuer::parse(raw).err(), Some(IssuerError::Character), "{raw:?}");
    }
    assert_eq!(
        Issuer::parse("Cafe\u{301}")
            .map(|issuer| issuer.as_str().to_owned())
            .as_deref(),
        Ok("Café")
    );
    assert!(Issuer::parse(&"界".repeat(64)).is_ok());
}

#[test]
fn the_names_in_an_account_are_found_again() {
    for (account, names) in [
        ("alice (phone)", Some(("alice", "phone"))),
        ("alice (old) (phone)", Some(("alice (old)", "phone"))),
        ("alice (phone (new))", Some(("alice", "phone (new)"))),
        ("alice ( (phone)", Some(("alice (", "phone"))),
        ("a b@c (my phone)", Some(("a b@c", "my phone"))),
        ("alice", None),
        ("alice(phone)", None),
        ("alice ()", None),
        (" (phone)", None),
        ("(phone)", None),
        (")", None),
        ("alice phone)", None),
        ("alice (phone) ", None),
        ("", None),
    ] {
        assert_eq!(names_in(account), names, "{account:?}");
    }
}

#[test]
fn issuer_and_account_are_read_from_every_label_that_exporters_write() -> Result<()> {
    for (label, query, issuer, account) in [
        ("ACME:alice", "issuer=ACME", Some("ACME"), "alice"),
        ("ACME:alice", "", Some("ACME"), "alice"),
        ("ACME:%20%20alice", "issuer=ACME", Some("ACME"), "alice"),
        ("ACME%3Aalice", "issuer=ACME", Some("ACME"), "alice"),
        ("ACME%3A%20alice", "issuer=ACME", Some("ACME"), "alice"),
        ("ACME%20Inc:alice", "issuer=ACME+Inc", Some("ACME Inc"), "alice"),
        ("ACME%20Inc:alice", "issuer=ACME%20Inc", Some("ACME Inc"), "alice"),
        ("ACME Inc:alice", "issuer=ACME Inc", Some("ACME Inc"), "alice"),
        ("a%2Bb:me%2Btag", "issuer=a%2Bb", Some("a+b"), "me+tag"),
        (
            "ACME:me+tag@example.com",
            "issuer=ACME",
            Some("ACME"),
            "me+tag@example.com",
        ),
        ("alice", "issuer=ACME", Some("ACME"), "alice"),
        ("alice", "", None, "alice"),
        ("alice", "issuer=", None, "alice"),
        (":alice", "", None, "alice"),
        ("ACME:urn:alice", "issuer=ACME", Some("ACME"), "urn:alice"),
        ("ACME:urn%3Aalice", "issuer=ACME", Some("ACME"), "urn:alice"),
        ("ACME%3Aurn%3Aalice", "issuer=ACME", Some("ACME"), "urn:alice"),
        ("dir/alice", "issuer=ACME", Some("ACME"), "dir/alice"),
        ("名前", "issuer=会社", Some("会社"), "名前"),
        ("", "issuer=ACME", Some("ACME"), ""),
    ] {
        let raw = format!("otpauth://totp/{label}?secret={SECRET}&{query}");
        let (found_issuer, found_account) = read(&raw).with_context(|| raw.clone())?;
        assert_eq!(
            (found_issuer.as_deref(), found_account.as_str()),
            (issuer, account),
            "{raw}"
        );
    }
    Ok(())
}

#[test]
fn an_account_is_never_guessed() -> Result<()> {
    for label in [
        "Other:alice?issuer=ACME&",
        "Other%3Aalice?issuer=ACME&",
        "urn%3Aalice?issuer=ACME&",
        // An issuer by older versions of the format, an account with a colon by newer ones.
        "ACME%3Aalice?",
    ] {
        let raw = format!("otpauth://totp/{label}secret={SECRET}");
        let uri = parse(&raw)?;
        assert_eq!(uri.account(), Err(UriError::Label), "{raw}");
        // A row that names its user needs no label.
        assert_eq!(uri.seed.to_base32().as_str(), SECRET);
    }
    Ok(())
}

#[test]
fn algorithm_digits_and_period_are_accepted_or_refused() {
    let parameters =
        |query: &str| parse(&format!("otpauth://totp/x?secret={SECRET}{query}")).map(|uri| uri.seed.parameters());
    assert_eq!(parameters(""), Ok(OtpParameters::default()));
    for expected in all_parameters() {
        let (algorithm, digits, period) = (expected.algorithm, expected.digits.count(), expected.period.seconds());
        let algorithm = algorithm.as_str();
        assert_eq!(
            parameters(&format!("&algorithm={algorithm}&digits={digits}&period={period}")),
            Ok(expected)
        );
        let lower = algorithm.to_lowercase();
        assert_eq!(
            parameters(&format!("&PERIOD={period}&Digits={digits}&algorithm=hmac-{lower}")),
            Ok(expected)
        );
    }
    for (query, expected) in [
        ("&algorithm=MD5", UriError::Algorithm),
        ("&algorithm=SHA224", UriError::Algorithm),
        ("&algorithm=", UriError::Algorithm),
        ("&algorithm", UriError::Algorithm),
        ("&digits=7", UriError::Digits),
        ("&digits=", UriError::Digits),
        ("&digits=%2B6", UriError::Digits),
        ("&period=15", UriError::Period),
        ("&period=30s", UriError::Period),
        ("&period=0", UriError::Period),
        ("&digits=6&digits=6", UriError::Repeated),
        ("&Secret=AAAA", UriError::Repeated),
        ("&issuer=a&issuer=b", UriError::Repeated),
        ("&algorithm=SHA1&Algorithm=SHA256", UriError::Repeated),
        ("&period=30&period=60", UriError::Repeated),
        ("&image=a&Image=b", UriError::Repeated),
    ] {
        assert_eq!(parameters(query), Err(expected), "{query}");
    }
    for query in [
        "&image=https%3A%2F%2Fexample.com%2Fa.png",
        "&color=ff0000&lock=true&Icon=x&image=%",
        "&&&",
    ] {
        assert_eq!(parameters(query), Ok(OtpParameters::default()), "{query}");
    }
}

#[test]
fn an_unknown_parameter_refuses_the_uri_and_is_named() {
    for name in [
        "counter", "COUNTER", "encoder", "interval", "algo", "hashalgo", "t0", "offset", "pin", "x", "sha512",
    ] {
        let raw = format!("otpauth://totp/x?{name}=0&secret={SECRET}");
        let error = error(&raw).map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(&format!("parameter {name} is unknown")), "{error}");
    }
    let html = format!("otpauth://totp/x?secret={SECRET}&amp;issuer=X&amp;digits=8");
    let name = "amp;issuer".to_owned();
    assert_eq!(error(&html), Some(UriError::Html { name }));
    // What stands where a name is expected may be the seed.
    for query in [SECRET.to_owned(), format!("{SECRET}="), format!("secret:{SECRET}=")] {
        let error = error(&format!("otpauth://totp/x?{query}"));
        assert!(
            matches!(&error, Some(UriError::Unknown { .. })) && !format!("{error:?}").contains("GEZD"),
            "{error:?}"
        );
    }
}

#[test]
fn anything_but_a_totp_uri_is_refused_with_a_reason() {
    for (raw, expected) in [
        ("", UriError::Scheme),
        ("otpauth:", UriError::Scheme),
        ("http://totp/x?secret=GEZDGNBVGY3TQOJQ", UriError::Scheme),
        ("otpauth-migration://offline?data=AA", UriError::Scheme),
        (
            "otpauth://hotp/x?secret=GEZDGNBVGY3TQOJQ&counter=0",
            UriError::CounterBased,
        ),
        ("otpauth://HOTP/x?secret=GEZDGNBVGY3TQOJQ", UriError::CounterBased),
        ("otpauth://yaotp/x?secret=GEZDGNBVGY3TQOJQ", UriError::Type),
        ("otpauth:///x?secret=GEZDGNBVGY3TQOJQ", UriError::Type),
        ("otpauth://", UriError::Type),
        ("otpauth://totp", UriError::NoSecret),
        ("otpauth://totp/x", UriError::NoSecret),
        ("otpauth://totp/x?", UriError::NoSecret),
        ("otpauth://totp/x?secret=", UriError::Seed(SeedError::Length.into())),
        ("otpauth://totp/x?secret=A", UriError::Seed(SeedError::NotBase32.into())),
        (
            "otpauth://totp/x?secret=18901890",
            UriError::Seed(SeedError::NotBase32.into()),
        ),
        (
            "otpauth://totp/x?secret=GEZDGNBV",
            UriError::Seed(SeedError::Length.into()),
        ),
        (
            "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQ&issuer=b OTPAUTH://totp/b?secret=GEZDGNBVGY3TQOJQ",
            UriError::Second,
        ),
        ("otpauth://totp/a#b?secret=GEZDGNBVGY3TQOJQ", UriError::Fragment),
        ("otpauth://totp/a%?secret=GEZDGNBVGY3TQOJQ", UriError::Encoding),
        ("otpauth://totp/a%2?secret=GEZDGNBVGY3TQOJQ", UriError::Encoding),
        ("otpauth://totp/100%25%zz?secret=GEZDGNBVGY3TQOJQ", UriError::Encoding),
        ("otpauth://totp/%ff?secret=GEZDGNBVGY3TQOJQ", UriError::Encoding),
        ("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&issuer=%", UriError::Encoding),
        ("otpauth://totp/a%0Ab?secret=GEZDGNBVGY3TQOJQ", UriError::Control),
        ("otpauth://totp/a%1B%5B2J?secret=GEZDGNBVGY3TQOJQ", UriError::Control),
        ("otpauth://totp/a\tb?secret=GEZDGNBVGY3TQOJQ", UriError::Control),
        ("otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&issuer=%00", UriError::Control),
    ] {
        assert_eq!(error(raw), Some(expected), "{raw:?}");
    }
    let long = format!("otpauth://totp/{}?secret={SECRET}", "a".repeat(LONGEST));
    assert_eq!(error(&long), Some(UriError::Length));
}

#[test]
fn a_secret_is_read_however_it_is_written() -> Result<()> {
    for secret in [
        "gezdgnbvgy3tqojqgezdgnbvgy3tqojq",
        "GEZD+GNBV+GY3T+QOJQ+GEZD+GNBV+GY3T+QOJQ",
        "GEZD%20GNBV GY3T-QOJQ-GEZD-GNBV-GY3T-QOJQ",
        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ%3D%3D",
        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ===",
    ] {
        let uri = parse(&format!("OTPAUTH://TOTP/x?Secret={secret}"))?;
        assert_eq!(uri.seed.to_base32().as_str(), SECRET, "{secret}");
    }
    Ok(())
}

#[test]
fn neither_debug_nor_errors_show_what_was_read() -> Result<()> {
    let uri = parse(&format!("otpauth://totp/issuer:account?secret={SECRET}&issuer=issuer"))?;
    let shown = format!("{uri:?}");
    assert!(
        !shown.contains("account") && !shown.contains("issuer") && !shown.contains("GEZD"),
        "{shown}"
    );
    for raw in [
        "otpauth://totp/a?secret=MARK1MARK",
        "otpauth://totp/MARK%?secret=MARK",
        "otpauth://MARK/x",
    ] {
        let error = parse(raw).err().context(raw)?;
        assert!(!format!("{error} {error:?}").contains("MARK"), "{error}");
    }
    Ok(())
}

fn name(longest: usize) -> impl Strategy<Value = String> {
    let any = proptest::collection::vec(any::<char>(), 1..=longest).prop_map(|all| all.into_iter().collect::<String>());
    let awkward = proptest::string::string_regex(&format!("[ a-z:%+&#/?=@()\u{301}界👍]{{1,{longest}}}"));
    prop_oneof![
        any,
        awkward
            .into_iter()
            .next()
            .map_or_else(|| Just(String::new()).boxed(), Strategy::boxed)
    ]
}

proptest! {
    #[test]
    fn a_uri_with_any_names_is_read_back(
        user in name(UserName::LONGEST),
        device in name(DeviceName::LONGEST),
        issuer in name(Issuer::LONGEST),
        bytes in proptest::collection::vec(any::<u8>(), 10..=128),
    ) {
        let (user, device, issuer) = (UserName::parse(&user), DeviceName::parse(&device), Issuer::parse(&issuer));
        if let (Ok(user), Ok(device), Ok(issuer)) = (user, device, issuer) {
            let seed = Seed::from_bytes(&bytes, OtpParameters::default())?;
            let uri = build(&issuer, &user, &device, &seed);
            let read = parse(&uri)?;
            let account = read.account()?.to_owned();
            prop_assert_eq!(read.issuer(), Some(issuer.as_str()));
            prop_assert_eq!(&account, &account_of(&user, &device));
            prop_assert_eq!(&*read.seed.to_base32(), &*seed.to_base32());
            if !device.as_str().contains(['(', ')']) {
                prop_assert_eq!(names_in(&account), Some((user.as_str(), device.as_str())));
            }
        }
    }

    #[test]
    fn no_input_makes_the_reader_panic(tail: String, whole: String) {
        let _ = parse(&whole);
        let _ = names_in(&whole);
        for head in ["otpauth://totp/", "otpauth://totp/x?", "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQ&"] {
            if let Ok(uri) = parse(&format!("{head}{tail}")) {
                let _ = (uri.account(), uri.issuer());
            }
        }
    }
}

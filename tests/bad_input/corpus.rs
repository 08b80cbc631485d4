//! Collected input: every digit and space of Unicode, every limit, and what users of similar systems reported.

use std::iter::once;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use shared::testing::events::Event;

use crate::answer::Answer;
use crate::expected::WHITE_SPACE;
use crate::generated::{LOOKALIKES, other_ids};
use crate::request::LONGEST_BODY;
use crate::runner::runtime;
use crate::service::{CLIENT, DEVICES, Operation, Service, State, USERS, auth_id, code};

fn start() -> Event {
    Event::init_auth(CLIENT).user(USERS[0]).device(DEVICES[0])
}

fn attempt() -> Event {
    Event::validate_otp(CLIENT, &auth_id())
}

/// The answer of a new service to an event.
fn answer(operation: Operation, event: &Event) -> Result<Answer> {
    let service = Service::new(State::Open)?;
    let before = service.stored();
    let answer = runtime()?.block_on(service.invoke(operation, event.json().as_bytes()))?;
    answer.is_sound(operation, &service, &before)?;
    Ok(answer)
}

fn gets(operation: Operation, event: &Event, status: u64, code: &str, names: &str) -> Result<()> {
    let answer = answer(operation, event)?;
    let same = answer.status == status && answer.code() == code && answer.message().contains(names);
    ensure!(
        same,
        "{}: expected {status} {code} {names}, got {answer:?}",
        event.json()
    );
    Ok(())
}

fn starts(event: &Event) -> Result<()> {
    gets(Operation::Start, event, 201, "SUCCESS", "")
}

fn is_invalid_start(event: &Event, names: &str) -> Result<()> {
    gets(Operation::Start, event, 400, "INVALID_REQUEST", names)
}

fn is_invalid_attempt(event: &Event, names: &str) -> Result<()> {
    gets(Operation::Code, event, 400, "INVALID_REQUEST", names)
}

#[test]
fn only_the_ten_ascii_digits_are_digits() -> Result<()> {
    let (service, runtime) = (Service::new(State::Open)?, runtime()?);
    let before = service.stored();
    // All of Nd, and Nl and No with it.
    let digits: Vec<char> = (char::MIN..=char::MAX)
        .filter(|c| c.is_numeric() && !c.is_ascii_digit())
        .collect();
    ensure!(digits.len() > 1_500, "{} digits", digits.len());
    for digit in digits {
        let all: String = std::iter::repeat_n(digit, 6).collect();
        for typed in [all, format!("{digit}{}", code(0)), format!("{}{digit}", &code(0)[..5])] {
            let event = attempt().otp(&typed).json();
            let answer = runtime.block_on(service.invoke(Operation::Code, event.as_bytes()))?;
            ensure!(
                answer.status == 400 && answer.message().contains("otp"),
                "{digit:?}: {answer:?}"
            );
        }
    }
    ensure!(service.stored() == before, "an uncounted or a counted guess");
    Ok(())
}

#[test]
fn only_ascii_spaces_and_hyphens_are_ignored() -> Result<()> {
    for odd in WHITE_SPACE.into_iter().chain(LOOKALIKES).chain(once('-')) {
        let code = code(0);
        for place in [0, 3, 6] {
            let (before, after) = code.split_at(place);
            let event = attempt().otp(&format!("{before}{odd}{after}"));
            if matches!(odd, ' ' | '-') {
                gets(Operation::Code, &event, 200, "SUCCESS", "")?;
            } else {
                is_invalid_attempt(&event, "otp")?;
            }
        }
    }
    Ok(())
}

#[test]
fn white_space_around_a_name_is_refused_and_never_trimmed() -> Result<()> {
    for space in WHITE_SPACE {
        is_invalid_start(&start().user(&format!("{space}{}", USERS[0])), "userName")?;
        is_invalid_start(&start().user(&format!("{}{space}", USERS[0])), "userName")?;
        is_invalid_start(&start().device(&format!("{space}{}", DEVICES[0])), "deviceName")?;
        is_invalid_start(&start().device(&format!("{}{space}", DEVICES[0])), "deviceName")?;
        is_invalid_start(&start().user(&space.to_string()), "userName")?;
    }
    for invisible in ["\u{200b}", "\u{feff}", "\u{2060}", "\u{180e}"] {
        // It is part of the name, so this is another name.
        let event = start().user(&format!("{}{invisible}", USERS[0]));
        gets(Operation::Start, &event, 404, "DEVICE_NOT_FOUND", "")?;
    }
    Ok(())
}

#[test]
fn control_characters_are_refused_wherever_they_are() -> Result<()> {
    let controls = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}');
    for control in controls {
        is_invalid_start(&start().user(&format!("a{control}b")), "userName")?;
        is_invalid_start(&start().device(&format!("a{control}b")), "deviceName")?;
        is_invalid_start(&start().device_type(&format!("TOTP{control}")), "deviceType")?;
    }
    Ok(())
}

#[test]
fn a_name_is_the_same_name_in_every_normal_form() -> Result<()> {
    for user in USERS {
        for device in DEVICES {
            starts(&start().user(user).device(device))?;
        }
    }
    gets(
        Operation::Start,
        &start().user(&USERS[0].to_uppercase()),
        404,
        "DEVICE_NOT_FOUND",
        "",
    )
}

#[test]
fn limits_are_those_of_the_contract() -> Result<()> {
    // Each is one character in NFC.
    for unit in ["x", "\u{1f511}", "e\u{301}", "\u{1112}\u{1161}\u{11ab}", "\u{212b}"] {
        for (longest, is_user) in [(128, true), (64, false)] {
            let named = |count: usize| {
                let name = unit.repeat(count);
                if is_user {
                    start().user(&name)
                } else {
                    start().device(&name)
                }
            };
            gets(Operation::Start, &named(1), 404, "DEVICE_NOT_FOUND", "")?;
            gets(Operation::Start, &named(longest), 404, "DEVICE_NOT_FOUND", "")?;
            is_invalid_start(&named(longest + 1), if is_user { "userName" } else { "deviceName" })?;
            is_invalid_start(&named(0), if is_user { "userName" } else { "deviceName" })?;
        }
    }
    // Two characters in NFC, which does not compose it.
    gets(
        Operation::Start,
        &start().user(&"\u{958}".repeat(64)),
        404,
        "DEVICE_NOT_FOUND",
        "",
    )?;
    is_invalid_start(&start().user(&"\u{958}".repeat(65)), "userName")?;

    let body = json!({ "userName": USERS[0], "deviceName": DEVICES[0], "deviceType": "TOTP", "otp": code(0) });
    for base64 in [false, true] {
        for (length, fits) in [
            (LONGEST_BODY - 1, true),
            (LONGEST_BODY, true),
            (LONGEST_BODY + 1, false),
        ] {
            let mut bytes = body.to_string().into_bytes();
            bytes.resize(length, b' ');
            for (operation, event, status) in [(Operation::Start, start(), 201), (Operation::Code, attempt(), 200)] {
                let event = event.raw_body(bytes.clone());
                let event = if base64 { event.base64() } else { event };
                if fits {
                    gets(operation, &event, status, "SUCCESS", "")?;
                } else {
                    gets(operation, &event, 413, "PAYLOAD_TOO_LARGE", "8192 bytes")?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn an_auth_id_has_one_form() -> Result<()> {
    let unknown = answer(
        Operation::Code,
        &Event::validate_otp(CLIENT, "0063f27c-787b-4046-8b8e-a75e241b5ea6").otp(code(0)),
    )?;
    for id in other_ids() {
        let answer = answer(Operation::Code, &Event::validate_otp(CLIENT, &id).otp(code(0)))?;
        ensure!(
            (answer.status, answer.code(), answer.message()) == (404, "AUTH_NOT_FOUND", unknown.message()),
            "{id:?}: {answer:?}"
        );
    }
    let id = auth_id().to_string();
    for right in [id.clone(), id.to_uppercase()] {
        let event = Event::validate_otp(CLIENT, &right).otp(code(0));
        gets(Operation::Code, &event, 200, "SUCCESS", "")?;
    }
    Ok(())
}

#[test]
fn a_name_in_a_path_is_decoded_exactly_once() -> Result<()> {
    let (long, too_long) = ("x".repeat(64), "x".repeat(129));
    for (sent, name) in [
        ("a%2Fb", "a/b"),
        ("a%2fb", "a/b"),
        ("a%2Bb", "a+b"),
        ("a+b", "a+b"),
        ("%25", "%"),
        ("a%252Fb", "a%2Fb"),
        ("%C3%BC", "\u{fc}"),
        ("u%CC%88", "\u{fc}"),
        ("..%2F", "../"),
        ("a%3Fb%23c", "a?b#c"),
        (&long, &long),
    ] {
        let (service, runtime) = (Service::new(State::Open)?, runtime()?);
        let send = |operation, event: Event, status, code| {
            let before = service.stored();
            let answer = runtime.block_on(service.invoke(operation, event.json().as_bytes()))?;
            answer.is_documented(operation)?;
            ensure!((answer.status, answer.code()) == (status, code), "{sent}: {answer:?}");
            ensure!(answer.status < 300 || service.stored() == before, "{sent}: {answer:?}");
            anyhow::Ok(())
        };
        // The user and the device of the path are those that step 2 names in JSON.
        let register = Event::register_device(CLIENT, sent).device(name);
        let start = || Event::init_auth(CLIENT).user(name).device(name);
        let remove = || Event::remove_device(CLIENT, sent, sent);
        send(Operation::Register, register, 201, "SUCCESS")?;
        send(Operation::Start, start(), 423, "DEVICE_NOT_ACTIVE")?;
        send(Operation::Remove, remove(), 204, "SUCCESS")?;
        send(Operation::Start, start(), 404, "DEVICE_NOT_FOUND")?;
        send(Operation::Remove, remove(), 404, "DEVICE_NOT_FOUND")?;
    }
    for sent in [
        "", "%c3%28", "%2e%2e", "%2E", ".", "..", "%00", "a%0Ab", "%", "%2", "%zz", "%20a", "a%C2%A0", &too_long,
    ] {
        let user = "userName";
        let id = auth_id().to_string();
        let activate = Event::activate_device(CLIENT, sent, &id).otp(code(0));
        for (operation, event, names) in [
            (Operation::Register, Event::register_device(CLIENT, sent), user),
            (Operation::Activate, activate, user),
            (Operation::List, Event::list_devices(CLIENT, sent), user),
            (Operation::Remove, Event::remove_device(CLIENT, sent, "x"), user),
            (Operation::Remove, Event::remove_device(CLIENT, "x", sent), "deviceName"),
        ] {
            gets(operation, &event, 400, "INVALID_REQUEST", names).with_context(|| sent.to_owned())?;
        }
    }
    Ok(())
}

#[test]
fn a_code_is_a_string_of_six_or_eight_digits() -> Result<()> {
    let right = code(0);
    let number: u32 = right.parse()?;
    for wrong in [
        json!(number),
        json!(12345),
        json!("12345"),
        json!("1234567"),
        json!("123456789"),
        json!(""),
        json!(" - "),
        json!("+12345"),
        json!("12345e"),
        json!("0x1234"),
        json!("12.345"),
        json!("1e4567"),
        json!(null),
        json!(true),
        json!([right]),
        json!({ "otp": right }),
        json!("1".repeat(8_000)),
        json!(" ".repeat(8_000)),
    ] {
        is_invalid_attempt(&attempt().member("otp", wrong.clone()), "otp")?;
        is_invalid_attempt(&attempt().member("otps", json!([wrong, right])), "otps")?;
    }
    for guess in ["000000", "123456", "12345678", "0-0-0-0-0-0"] {
        gets(Operation::Code, &attempt().otp(guess), 422, "OTP_REJECTED", "")?;
    }
    Ok(())
}

#[test]
fn white_space_does_not_make_a_used_code_new() -> Result<()> {
    let used = code(-1);
    let (first, last) = used.split_at(3);
    for typed in [
        used.to_owned(),
        format!("{first} {last}"),
        format!("{first}-{last}"),
        format!(" {used}  "),
    ] {
        gets(Operation::Code, &attempt().otp(&typed), 422, "OTP_REPLAYED", "")?;
    }
    Ok(())
}

#[test]
fn a_request_has_one_code_or_two_and_nothing_else() -> Result<()> {
    let (one, two) = (code(0), code(1));
    for otps in [
        json!(null),
        json!([]),
        json!([one]),
        json!([one, two, one]),
        json!([[one, two]]),
        json!([one, null]),
        json!({ "0": one, "1": two }),
        json!(format!("{one}{two}")),
        json!(format!("{one},{two}")),
    ] {
        is_invalid_attempt(&attempt().member("otps", otps), "otps")?;
    }
    is_invalid_attempt(&attempt().otp(one).otps(one, two), "otp")?;
    is_invalid_attempt(&attempt(), "otp")?;
    is_invalid_attempt(&attempt().otp(one).device_type("HOTP"), "deviceType")?;
    gets(Operation::Code, &attempt().otps(one, two), 200, "SUCCESS", "")?;
    gets(Operation::Code, &attempt().otps(two, one), 422, "OTP_REJECTED", "")
}

#[test]
fn a_body_is_one_object_with_every_member_once() -> Result<()> {
    let deep = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
    let bodies: [Vec<u8>; 18] = [
        b"".into(),
        b"null".into(),
        b"[{}]".into(),
        b"\"{}\"".into(),
        b"{".into(),
        b"{} {}".into(),
        b"{}\0".into(),
        b"\xef\xbb\xbf{}".into(),
        b"\xff\xfe{\0}\0".into(),
        b"{\"x\":\"\xff\"}".into(),
        b"{\"x\":\"\xc0\xaf\"}".into(),
        b"{\"x\":\"\xed\xa0\x80\"}".into(),
        b"{\"x\":1,\"x\":1}".into(),
        b"{\"x\":1,\"\\u0078\":1}".into(),
        b"{\"\\ud800\":1}".into(),
        b"{'x':1}".into(),
        b"{\"x\":01}".into(),
        deep(4_000),
    ];
    for body in bodies {
        is_invalid_start(&start().raw_body(body.clone()), "body")?;
        is_invalid_attempt(&attempt().raw_body(body), "body")?;
    }
    for (name, value) in [
        ("userName", USERS[0]),
        ("deviceName", DEVICES[0]),
        ("deviceType", "TOTP"),
    ] {
        let twice = format!("{{\"{name}\":{0},\"{name}\":{0}}}", json!(value));
        is_invalid_start(&start().raw_body(twice), "body")?;
    }
    let twice = format!("{{\"otp\":\"{0}\",\"otp\":\"{0}\"}}", code(0));
    is_invalid_attempt(&attempt().raw_body(twice), "body")?;

    // Unknown members are ignored, whatever they are.
    for unknown in [
        deep(4_000),
        deep(128),
        b"1e999999".into(),
        b"9".repeat(4_000),
        b"\"\\ud800\"".into(),
    ] {
        let unknown = String::from_utf8(unknown)?;
        let with = |name: &str| format!("{{\"otp\":\"{}\",\"{name}\":{unknown}}}", code(0));
        gets(Operation::Code, &attempt().raw_body(with("x")), 200, "SUCCESS", "")?;
        is_invalid_attempt(&attempt().raw_body(with("otps")), "otp")?;
        is_invalid_attempt(&attempt().raw_body(with("deviceType")), "deviceType")?;
    }
    Ok(())
}

#[test]
fn the_message_names_the_member_that_is_missing_or_wrong() -> Result<()> {
    for name in ["userName", "deviceName", "deviceType"] {
        is_invalid_start(&start().without(name), name)?;
        for wrong in [json!(null), json!(7), json!(true), json!([]), json!({}), json!("")] {
            is_invalid_start(&start().member(name, wrong), name)?;
        }
        for lone in ["\\ud800", "\\udc00\\ud800", "a\\udfff"] {
            let mut body: Value = json!({ "userName": "x", "deviceName": "y", "deviceType": "TOTP" });
            body[name] = json!("LONE");
            let body = body.to_string().replace("LONE", lone);
            is_invalid_start(&start().raw_body(body), name)?;
        }
    }
    Ok(())
}

#[test]
fn headers_and_claims_of_any_kind_are_accepted_or_refused() -> Result<()> {
    let weird = [
        ("Host", "[:a b"),
        ("X-Forwarded-Proto", "1 \u{7f}"),
        ("\u{e9}", "\0"),
        ("", ""),
    ];
    for (name, value) in weird {
        starts(&start().header(name, value))?;
    }
    for (content_type, fits) in [
        ("application/json", true),
        ("Application/JSON; charset=UTF-8", true),
        ("application/json;charset=utf-16", true),
        ("text/json", false),
        ("application/json\u{0}", false),
        ("", false),
    ] {
        let event = start().content_type(content_type);
        if fits {
            starts(&event)?;
        } else {
            gets(
                Operation::Start,
                &event,
                415,
                "UNSUPPORTED_MEDIA_TYPE",
                "application/json",
            )?;
        }
    }
    starts(&start().no_content_type())?;
    for claim in [
        json!(null),
        json!(""),
        json!(7),
        json!([CLIENT]),
        json!({ "x": 1 }),
        json!("a#b"),
        json!("a b"),
    ] {
        gets(
            Operation::Start,
            &start().claim("client_id", claim.clone()),
            401,
            "UNAUTHORIZED",
            "token",
        )?;
        gets(
            Operation::Code,
            &attempt().otp(code(0)).claim("scope", claim),
            403,
            "FORBIDDEN",
            "scope",
        )?;
    }
    gets(
        Operation::Code,
        &attempt().otp(code(0)).without_authorizer(),
        401,
        "UNAUTHORIZED",
        "token",
    )?;
    let other = Event::init_auth("client-two").user(USERS[0]).device(DEVICES[0]);
    gets(Operation::Start, &other, 404, "DEVICE_NOT_FOUND", "").context("another client")
}

//! The answer that `api.md` promises to a request, from its parts. Written independently of the service, with literal
//! tables where the service uses a library.

use serde_json::Value;
use unicode_normalization::UnicodeNormalization as _;

use crate::request::{Body, Caller, Encoding, LONGEST_BODY, Segment, SentRequest, Val};
use crate::service::{DEVICES, Operation, State, USERS, code};

/// Code points with the property `White_Space` (Unicode 17, `PropList.txt`).
pub(crate) const WHITE_SPACE: [char; 25] = [
    '\t', '\n', '\u{b}', '\u{c}', '\r', ' ', '\u{85}', '\u{a0}', '\u{1680}', '\u{2000}', '\u{2001}', '\u{2002}',
    '\u{2003}', '\u{2004}', '\u{2005}', '\u{2006}', '\u{2007}', '\u{2008}', '\u{2009}', '\u{200a}', '\u{2028}',
    '\u{2029}', '\u{202f}', '\u{205f}', '\u{3000}',
];

/// A code, and one of the names that the message of a 400 must have; empty if any message will do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) code: &'static str,
    pub(crate) names: Vec<&'static str>,
}

fn plain(code: &'static str) -> Expected {
    Expected { code, names: vec![] }
}

fn invalid(names: &[&'static str]) -> Expected {
    Expected {
        code: "INVALID_REQUEST",
        names: names.to_vec(),
    }
}

/// The answer to a request; `None` if it depends on more than the request.
pub(crate) fn expected(sent: &SentRequest) -> Option<Expected> {
    if let Some(refused) = by_shared_rules(sent)? {
        return Some(refused);
    }
    if !sent.operation.reads_body() {
        return Some(without_body(sent));
    }
    let Body::Object(members, _) = &sent.body else {
        return None;
    };
    let member = |name: &str| {
        let mut values = members.iter().filter(|(key, _)| key.text() == Some(name));
        values.next().map(|(_, value)| value)
    };
    Some(match sent.operation {
        Operation::Start => start(sent, member("userName"), member("deviceName"), member("deviceType")),
        Operation::Register => register(sent, member),
        _ => offered(sent, member("otp"), member("otps"), member("deviceType")),
    })
}

/// A name in a path.
fn path_name(segment: &Segment, longest: usize) -> Option<String> {
    let text = segment.text.as_deref()?;
    name(text, longest).filter(|name| name != "." && name != "..")
}

/// What all endpoints refuse in the same way; `Some(None)` for what passes.
#[expect(clippy::option_option, reason = "unknown, refused and passed are three things")]
pub(crate) fn by_shared_rules(sent: &SentRequest) -> Option<Option<Expected>> {
    if sent.encoding == Encoding::ClaimedBase64 && !matches!(sent.body, Body::Missing) {
        // Bytes that are not text are sent as base64 anyway, and random ones may happen to be base64.
        let known = matches!(sent.body, Body::Object(..)) && String::from_utf8(sent.body.bytes()).is_ok();
        return known.then(|| Some(invalid(&["REST API"])));
    }
    match &sent.caller {
        Caller::Unknown(_) => return Some(Some(plain("UNAUTHORIZED"))),
        Caller::WithoutScope(_) | Caller::OtherScope => return Some(Some(plain("FORBIDDEN"))),
        Caller::Own | Caller::Other => {}
    }
    if sent.operation.manages() {
        if sent.path.none.is_some() || path_name(&sent.path.user, 128).is_none() {
            return Some(Some(invalid(&["path"])));
        }
        if sent.noise.method.is_some() {
            return Some(Some(plain("NOT_FOUND")));
        }
    }
    if !sent.operation.reads_body() {
        return Some(None);
    }
    if !sent.content_types.iter().all(is_json) {
        return Some(Some(plain("UNSUPPORTED_MEDIA_TYPE")));
    }
    if sent.body.bytes().len() > LONGEST_BODY {
        return Some(Some(plain("PAYLOAD_TOO_LARGE")));
    }
    let broken = match &sent.body {
        Body::Object(members, _) => is_broken(members),
        Body::Damaged(..) | Body::NotAnObject(_) | Body::Missing => true,
        Body::Wild(_) => return None,
    };
    Some(broken.then(|| invalid(&["body"])))
}

fn is_json(sent: &Value) -> bool {
    let Value::String(text) = sent else {
        return sent.is_null();
    };
    let media_type = text.split(';').next().unwrap_or_default();
    text.chars().all(|c| matches!(c, '\t' | ' '..='~'))
        && media_type
            .trim_matches([' ', '\t'])
            .eq_ignore_ascii_case("application/json")
}

fn is_broken(members: &[(Val, Val)]) -> bool {
    members.iter().enumerate().any(|(index, (name, value))| {
        let Some(text) = name.text() else { return true };
        let repeated = members
            .iter()
            .skip(index + 1)
            .any(|(other, _)| other.text() == Some(text));
        repeated || value.is_broken()
    })
}

fn is_totp(value: &Val) -> bool {
    value.text().is_some_and(|text| text.eq_ignore_ascii_case("TOTP"))
}

/// A name in NFC, if it is one.
fn name(text: &str, longest: usize) -> Option<String> {
    let name: String = text.nfc().collect();
    let outer = |c: Option<char>| c.is_none_or(|c| WHITE_SPACE.contains(&c));
    let control = |c: char| matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}');
    let refused = name.chars().count() > longest
        || outer(name.chars().next())
        || outer(name.chars().next_back())
        || name.chars().any(control);
    (!refused).then_some(name)
}

fn start(sent: &SentRequest, user: Option<&Val>, device: Option<&Val>, device_type: Option<&Val>) -> Expected {
    let user = user.and_then(Val::text).and_then(|text| name(text, 128));
    let device = device.and_then(Val::text).and_then(|text| name(text, 64));
    let mut wrong = Vec::new();
    if user.is_none() {
        wrong.push("userName");
    }
    if device.is_none() {
        wrong.push("deviceName");
    }
    if !device_type.is_some_and(is_totp) {
        wrong.push("deviceType");
    }
    if !wrong.is_empty() {
        return invalid(&wrong);
    }
    let named = user.as_deref() == Some(USERS[0]) && device.as_deref() == Some(DEVICES[0]);
    let own = matches!(sent.caller, Caller::Own);
    match sent.state {
        State::DeviceGone => plain("DEVICE_NOT_FOUND"),
        _ if !named || !own => plain("DEVICE_NOT_FOUND"),
        State::Disabled => plain("DEVICE_DISABLED"),
        State::NotActive => plain("DEVICE_NOT_ACTIVE"),
        _ => plain("SUCCESS"),
    }
}

/// A registration: whatever is not the device that is there is new.
fn register<'a>(sent: &SentRequest, member: impl Fn(&str) -> Option<&'a Val>) -> Expected {
    let device = member("deviceName").and_then(Val::text).and_then(|text| name(text, 64));
    let device = device.filter(|name| name != "." && name != "..");
    let issuer = |value: &Val| {
        let issuer = value.text().and_then(|text| name(text, 64));
        issuer.is_some_and(|issuer| !issuer.contains(':'))
    };
    let algorithm = |value: &Val| matches!(value.text(), Some("SHA1" | "SHA256" | "SHA512"));
    let json = |value: &Val, right: [&str; 2]| matches!(value, Val::Other(json) if right.contains(&json.as_str()));
    let optional = |name, is_right: &dyn Fn(&Val) -> bool| member(name).is_none_or(is_right);
    let wrong = [
        ("deviceType", !member("deviceType").is_some_and(is_totp)),
        ("deviceName", device.is_none()),
        ("issuer", !optional("issuer", &issuer)),
        ("algorithm", !optional("algorithm", &algorithm)),
        ("digits", !optional("digits", &|value| json(value, ["6", "8"]))),
        ("period", !optional("period", &|value| json(value, ["30", "60"]))),
        ("replace", !optional("replace", &|value| json(value, ["true", "false"]))),
    ];
    let wrong: Vec<_> = wrong
        .iter()
        .filter(|(_, wrong)| *wrong)
        .map(|(name, _)| *name)
        .collect();
    if !wrong.is_empty() {
        return invalid(&wrong);
    }
    let replace = member("replace").is_some_and(|value| json(value, ["true", "true"]));
    let own = is_own_user(sent);
    let named = own && device.as_deref() == Some(DEVICES[0]);
    plain(match sent.state {
        State::TooManyDevices if own && !named => "TOO_MANY_DEVICES",
        State::Disabled if named => "DEVICE_DISABLED",
        State::NotActive | State::DeviceGone => "SUCCESS",
        _ if named && !replace => "DEVICE_EXISTS",
        _ => "SUCCESS",
    })
}

fn without_body(sent: &SentRequest) -> Expected {
    if sent.operation == Operation::List {
        return if sent.noise.types.1 {
            plain("SUCCESS")
        } else {
            invalid(&["type"])
        };
    }
    let Some(device) = path_name(&sent.path.device, 64) else {
        return invalid(&["deviceName"]);
    };
    plain(match sent.state {
        State::DeviceGone => "DEVICE_NOT_FOUND",
        _ if !is_own_user(sent) || device != DEVICES[0] => "DEVICE_NOT_FOUND",
        State::Disabled => "DEVICE_DISABLED",
        _ => "SUCCESS",
    })
}

/// Whether the path names the user that is there, for the client of its device.
fn is_own_user(sent: &SentRequest) -> bool {
    matches!(sent.caller, Caller::Own) && path_name(&sent.path.user, 128).as_deref() == Some(USERS[0])
}

/// The digits of a code as it was typed, if it is a code.
fn digits(value: &Val) -> Option<String> {
    let typed = value.text()?;
    let digits: String = typed.chars().filter(|c| *c != ' ' && *c != '-').collect();
    (matches!(digits.len(), 6 | 8) && digits.chars().all(|c| "0123456789".contains(c))).then_some(digits)
}

fn offered(sent: &SentRequest, otp: Option<&Val>, otps: Option<&Val>, device_type: Option<&Val>) -> Expected {
    let codes: Option<Vec<String>> = match (otp, otps) {
        (Some(otp), None) => digits(otp).map(|code| vec![code]),
        (None, Some(Val::List(two))) if two.len() == 2 => two.iter().map(digits).collect(),
        _ => None,
    };
    let mut wrong = Vec::new();
    if codes.is_none() {
        wrong.push("otp");
    }
    if !device_type.is_none_or(is_totp) {
        wrong.push("deviceType");
    }
    let Some(codes) = codes.filter(|_| wrong.is_empty()) else {
        return invalid(&wrong);
    };
    let own = matches!(sent.caller, Caller::Own) == (sent.state != State::Foreign);
    let activates = sent.operation == Operation::Activate;
    let same_user = !activates || path_name(&sent.path.user, 128).as_deref() == Some(USERS[0]);
    let same_auth = sent.path.none.is_none() && sent.path.auth_id.1;
    if !same_auth || !same_user || !own || sent.state == State::Unknown {
        return plain("AUTH_NOT_FOUND");
    }
    let single = codes.len() == 1;
    match sent.state {
        State::Expired => plain("AUTH_EXPIRED"),
        // The seed is in use already: no code is evaluated.
        State::Used if activates => plain("SUCCESS"),
        State::Used => plain("AUTH_ALREADY_USED"),
        State::Superseded => plain("AUTH_SUPERSEDED"),
        State::Disabled => plain("DEVICE_DISABLED"),
        State::NotActive if !activates => plain("DEVICE_NOT_ACTIVE"),
        State::Exhausted => plain("AUTH_ATTEMPTS_EXHAUSTED"),
        State::SingleCodesGated if single => plain("TWO_CODES_REQUIRED"),
        State::PairsGated if !single => plain("TOO_MANY_ATTEMPTS"),
        // The auth of the other client has no device behind it.
        State::DeviceGone | State::Foreign => plain("AUTH_NOT_FOUND"),
        _ => verdict(&codes),
    }
}

/// The step before the current one was used.
fn verdict(codes: &[String]) -> Expected {
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    plain(match codes[..] {
        [one] if one == code(0) || one == code(1) => "SUCCESS",
        [one] if one == code(-1) => "OTP_REPLAYED",
        [earlier, later] if (earlier, later) == (code(0), code(1)) => "SUCCESS",
        _ => "OTP_REJECTED",
    })
}

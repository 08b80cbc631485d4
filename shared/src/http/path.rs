//! Names in a path. A REST API passes path parameters percent-encoded as they were sent; they are decoded here, exactly
//! once, and nowhere else.

use lambda_http::{Request, RequestExt as _};

use super::error::Failure;
use crate::names::{DeviceName, UserName};

/// A path parameter as it was sent.
#[must_use]
pub fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.path_parameters_ref()?.first(name)
}

/// The `userName` of a path.
///
/// # Errors
/// [`Failure`] (400) if it is not one.
pub fn user_name(request: &Request) -> Result<UserName, Failure> {
    name(request, "userName")
        .and_then(|name| UserName::parse(&name).ok())
        .ok_or_else(|| {
            Failure::invalid(
                "The path must have a userName of 1 to 128 characters in percent-encoded UTF-8, without control characters \
                 and without white space at either end",
            )
        })
}

/// The `deviceName` of a path.
///
/// # Errors
/// [`Failure`] (400) if it is not one.
pub fn device_name(request: &Request) -> Result<DeviceName, Failure> {
    name(request, "deviceName")
        .and_then(|name| DeviceName::parse(&name).ok())
        .ok_or_else(|| {
            Failure::invalid(
                "The path must have a deviceName of 1 to 64 characters in percent-encoded UTF-8, without control characters \
                 and without white space at either end",
            )
        })
}

/// Whether a name can stand in a path: clients and proxies resolve the segments `.` and `..` away, encoded or not, so that
/// the request would mean another path.
#[must_use]
pub fn can_stand_in_path(name: &str) -> bool {
    !matches!(name, "." | "..")
}

fn name(request: &Request, parameter_name: &str) -> Option<String> {
    decoded(parameter(request, parameter_name)?).filter(|name| can_stand_in_path(name))
}

/// Decodes a segment of a path (RFC 3986, section 2.1). A plus is a plus. `None` for a `%` without two hexadecimal digits,
/// or bytes that are not UTF-8.
fn decoded(raw: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            bytes.extend(data_encoding::HEXLOWER_PERMISSIVE.decode(digits).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn user(raw: &str) -> Option<String> {
        let parameters = HashMap::from([("userName".to_owned(), raw.to_owned())]);
        let request = Request::default().with_path_parameters(parameters);
        let name = user_name(&request).ok();
        name.map(|name| name.as_str().to_owned())
    }

    #[test]
    fn a_name_is_decoded_exactly_once() {
        let longest = "a".repeat(128);
        for (raw, name) in [
            ("a%2Fb", "a/b"),
            ("a%2fb", "a/b"),
            ("a%2Bb", "a+b"),
            ("a+b", "a+b"),
            ("%25", "%"),
            ("%2541", "%41"),
            ("%C3%BC", "\u{fc}"),
            ("\u{fc}", "\u{fc}"),
            ("me%2Btag%40example.com", "me+tag@example.com"),
            ("...", "..."),
            ("..%2F", "../"),
            (&longest, &longest),
        ] {
            assert_eq!(user(raw).as_deref(), Some(name), "{raw}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let too_long = "a".repeat(129);
        for raw in [
            "", "%", "%2", "%zz", "%%41", "%c3%28", "%ff", "%00", "a%0ab", ".", "..", "%2e%2e", "%2E", "%20a", "a%20",
            &too_long,
        ] {
            assert_eq!(user(raw), None, "{raw}");
        }
        assert!(user_name(&Request::default()).is_err(), "no parameter at all");
    }
}

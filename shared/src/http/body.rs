//! Bodies: a JSON object whose members are read one by one, each with its own error.
//!
//! The parser's message is never returned: it would quote the input.

use std::collections::BTreeMap;
use std::fmt;

use lambda_http::Request;
use lambda_http::http::HeaderValue;
use lambda_http::http::header::CONTENT_TYPE;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{Code, Failure};

/// The longest body accepted, in bytes.
pub const LONGEST: usize = 8_192;

/// The members of a JSON object, without repetitions.
#[derive(Debug)]
pub struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    /// Reads a request's body. A missing content type is read as JSON.
    ///
    /// # Errors
    /// [`Failure`]: 415 for another content type, 413 for more than [`LONGEST`] bytes, 400 for anything that is not
    /// a single JSON object without repeated members.
    pub fn read(request: &'a Request) -> Result<Self, Failure> {
        if !request.headers().get_all(CONTENT_TYPE).iter().all(is_json) {
            return Err(Failure::new(Code::UnsupportedMediaType, "content_type"));
        }
        Self::parse(request.body())
    }

    fn parse(body: &'a [u8]) -> Result<Self, Failure> {
        if body.len() > LONGEST {
            return Err(Failure::new(Code::PayloadTooLarge, "body_length"));
        }
        let mut parser = serde_json::Deserializer::from_slice(body);
        let members = parser
            .deserialize_map(Unrepeated)
            .and_then(|members| parser.end().map(|()| members));
        members
            .map(Self)
            .map_err(|_| Failure::invalid("The body must be a single JSON object in UTF-8 without repeated members"))
    }

    /// A member, if it is present.
    ///
    /// # Errors
    /// [`Failure`] (400) with `expected` as its text if it has another JSON type; `null` is one.
    pub fn optional<T: DeserializeOwned>(&self, name: &str, expected: &'static str) -> Result<Option<T>, Failure> {
        let value = self.0.get(name).map(|raw| serde_json::from_str(raw.get()));
        value.transpose().map_err(|_| Failure::invalid(expected))
    }

    /// A member that is required.
    ///
    /// # Errors
    /// [`Failure`] (400) with `expected` as its text if it is missing or has another JSON type.
    pub fn required<T: DeserializeOwned>(&self, name: &str, expected: &'static str) -> Result<T, Failure> {
        self.optional(name, expected)?.ok_or(Failure::invalid(expected))
    }

    /// Checks `deviceType`, which may only be `TOTP`, in either case.
    ///
    /// # Errors
    /// [`Failure`] (400) if it is something else, or if it is missing and `required`.
    pub fn device_type(&self, required: bool) -> Result<(), Failure> {
        const EXPECTED: &str = "deviceType must be the string TOTP";
        match self.optional::<String>("deviceType", EXPECTED)? {
            Some(given) if given.eq_ignore_ascii_case("TOTP") => Ok(()),
            None if !required => Ok(()),
            _ => Err(Failure::invalid(EXPECTED)),
        }
    }
}

fn is_json(content_type: &HeaderValue) -> bool {
    let media_type = content_type.to_str().ok().and_then(|value| value.split(';').next());
    media_type.is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case("application/json"))
}

struct Unrepeated;

impl<'de> Visitor<'de> for Unrepeated {
    type Value = BTreeMap<String, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is repeated"));
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &[u8], name: &str) -> Result<Option<String>, (u16, &'static str)> {
        Members::parse(body)
            .and_then(|members| members.optional(name, "text expected"))
            .map_err(|failure| (failure.code.status().as_u16(), failure.message))
    }

    #[test]
    fn unknown_members_are_ignored_whatever_they_hold() {
        let body = br#"{"a":"x","other":[1,{"b":null}],"huge":1e999999,"lone":"\ud800"}"#;
        assert_eq!(text(body, "a"), Ok(Some("x".to_owned())));
        assert_eq!(text(body, "missing"), Ok(None));
    }

    #[test]
    fn anything_but_a_single_object_without_repeated_members_is_refused() {
        let deep = [b"[".repeat(4_000), b"]".repeat(4_000)].concat();
        for body in [
            &b""[..],
            b"null",
            b"[]",
            b"\"x\"",
            b"{",
            br#"{"a":"x"} x"#,
            br#"{"a":"x"}{"a":"x"}"#,
            br#"{"a":"x","a":"x"}"#,
            br#"{"b":1,"a":"x","b":1}"#,
            br#"{"a":"x","\u0061":"y"}"#,
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
            br#"{"a":NaN}"#,
            &deep,
        ] {
            assert!(
                matches!(text(body, "a"), Err((400, _))),
                "{:?}",
                String::from_utf8_lossy(body)
            );
        }
    }

    #[test]
    fn a_member_of_another_type_is_refused_with_its_own_text() {
        for value in [
            "null",
            "1",
            "1e999",
            "true",
            "[]",
            "{}",
            "\"\\ud800\"",
            "\"\\udc00\\ud800\"",
        ] {
            let body = format!("{{\"a\":{value}}}");
            assert_eq!(text(body.as_bytes(), "a"), Err((400, "text expected")), "{value}");
        }
    }

    #[test]
    fn only_json_or_no_content_type_is_read() {
        let status = |content_type: Option<&str>| {
            let mut request = lambda_http::http::Request::builder();
            if let Some(content_type) = content_type {
                request = request.header(CONTENT_TYPE, content_type);
            }
            let request = request.body(lambda_http::Body::from("{}")).ok()?;
            Some(Members::read(&request).map_or_else(|failure| failure.code.status().as_u16(), |_| 200))
        };
        for read in [None, Some("application/json"), Some("APPLICATION/JSON ;charset=utf-8")] {
            assert_eq!(status(read), Some(200), "{read:?}");
        }
        for refused in [
            "",
            ";",
            "text/json",
            "application/jsonp",
            "application/json-patch+json",
            "application/json, text/html",
        ] {
            assert_eq!(status(Some(refused)), Some(415), "{refused:?}");
        }
    }

    #[test]
    fn a_body_has_at_most_8192_bytes() {
        let padded = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
        assert!(text(padded(LONGEST).as_bytes(), "a").is_ok());
        assert!(matches!(text(padded(LONGEST + 1).as_bytes(), "a"), Err((413, _))));
    }
}

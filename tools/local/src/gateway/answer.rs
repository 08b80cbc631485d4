//! A function's answer as API Gateway hands it on: some of its headers get another name, and some are dropped. The source
//! is the table in "Important notes" of the gateway's developer guide, for responses of a REST API's Lambda integration.

use axum::http::{HeaderMap, HeaderName, header};

const PREFIX: &str = "x-amzn-remapped-";

/// Headers that are renamed. The gateway also replaces the values of `Date` and `Server`, which no function sends.
static RENAMED: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    HeaderName::from_static("content-md5"),
    header::DATE,
    header::MAX_FORWARDS,
    header::SERVER,
    header::USER_AGENT,
    header::WWW_AUTHENTICATE,
];

static DROPPED: [HeaderName; 8] = [
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VIA,
];

/// The headers that a client gets of those that a function sent.
pub(super) fn headers(sent: &HeaderMap) -> HeaderMap {
    let kept = sent.iter().filter(|(name, _)| !DROPPED.contains(name));
    let named = kept.filter_map(|(name, value)| {
        let name = if RENAMED.contains(name) {
            format!("{PREFIX}{name}").parse().ok()?
        } else {
            name.clone()
        };
        Some((name, value.clone()))
    });
    let mut headers = HeaderMap::new();
    for (name, value) in named {
        headers.append(name, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;

    #[test]
    fn headers_are_renamed_dropped_or_handed_on() -> Result<()> {
        let mut sent = HeaderMap::new();
        for (name, value) in [
            ("WWW-Authenticate", "Bearer"),
            ("WWW-Authenticate", "Basic"),
            ("Date", "x"),
            ("Via", "x"),
            ("Transfer-Encoding", "chunked"),
            ("Retry-After", "1"),
            ("Location", "/x"),
            ("Set-Cookie", "a"),
            ("Set-Cookie", "b"),
        ] {
            sent.append(HeaderName::from_bytes(name.as_bytes())?, value.parse()?);
        }
        let seen = headers(&sent);
        let mut seen: Vec<_> = seen
            .iter()
            .map(|(name, value)| Ok((name.as_str(), value.to_str()?)))
            .collect::<Result<_>>()?;
        seen.sort_unstable();
        assert_eq!(
            seen,
            [
                ("location", "/x"),
                ("retry-after", "1"),
                ("set-cookie", "a"),
                ("set-cookie", "b"),
                ("x-amzn-remapped-date", "x"),
                ("x-amzn-remapped-www-authenticate", "Basic"),
                ("x-amzn-remapped-www-authenticate", "Bearer"),
            ]
        );
        Ok(())
    }
}

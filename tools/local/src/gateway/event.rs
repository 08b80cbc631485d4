//! The event that a function gets from API Gateway: a REST API's Lambda proxy integration, with a Cognito authorizer.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use axum::extract::Query;
use axum::http::{HeaderMap, header, request};
use data_encoding::BASE64;
use serde_json::{Map, Value, json};
use shared::clock::Timestamp;
use time::OffsetDateTime;

use super::ids::Ids;
use crate::cognito::identity::ACCOUNT_ID;
use crate::template::Route;

const API_ID: &str = "localapi00";

/// A request that has a route.
#[derive(Debug)]
pub(crate) struct Routed<'a> {
    pub(crate) route: &'a Route,
    pub(crate) stage: &'a str,
    /// The path below the stage, as it was sent.
    pub(crate) path: &'a str,
    /// Path parameters, percent-encoded as they were sent.
    pub(crate) parameters: BTreeMap<&'a str, &'a str>,
}

pub(crate) fn rest_event(
    head: &request::Parts,
    body: &[u8],
    routed: &Routed<'_>,
    claims: &Map<String, Value>,
    ids: &Ids,
    now: Timestamp,
) -> Result<Value> {
    let time = OffsetDateTime::from_unix_timestamp(i64::try_from(now.as_secs())?)?;
    let headers = headers(&head.headers);
    let query = query(head)?;
    let (body, is_base64) = match std::str::from_utf8(body) {
        Ok("") => (Value::Null, false),
        Ok(text) => (Value::from(text), false),
        Err(_) => (Value::from(BASE64.encode(body)), true),
    };
    let method = head.method.as_str();
    let host = single(&headers, "host");
    Ok(json!({
        "resource": routed.route.resource,
        "path": routed.path,
        "httpMethod": method,
        "headers": last_of_each(&headers),
        "multiValueHeaders": headers,
        "queryStringParameters": query.as_ref().map(last_of_each),
        "multiValueQueryStringParameters": query,
        "pathParameters": if routed.parameters.is_empty() { Value::Null } else { json!(routed.parameters) },
        "stageVariables": null,
        "requestContext": {
            "resourceId": "local0",
            "authorizer": { "claims": claims_as_text(claims)? },
            "resourcePath": routed.route.resource,
            "httpMethod": method,
            "extendedRequestId": ids.extended,
            "requestTime": request_time(time),
            "path": format!("/{}{}", routed.stage, routed.path),
            "accountId": ACCOUNT_ID,
            "protocol": "HTTP/1.1",
            "stage": routed.stage,
            "domainPrefix": "127",
            "requestTimeEpoch": now.as_millis(),
            "requestId": ids.request,
            "identity": {
                "cognitoIdentityPoolId": null,
                "accountId": null,
                "cognitoIdentityId": null,
                "caller": null,
                "sourceIp": "127.0.0.1",
                "principalOrgId": null,
                "accessKey": null,
                "cognitoAuthenticationType": null,
                "cognitoAuthenticationProvider": null,
                "userArn": null,
                "userAgent": single(&headers, "user-agent"),
                "user": null,
            },
            "domainName": host,
            "apiId": API_ID,
        },
        "body": body,
        "isBase64Encoded": is_base64,
    }))
}

type Multi = BTreeMap<String, Vec<String>>;

fn headers(sent: &HeaderMap) -> Multi {
    let mut headers = Multi::new();
    for (name, value) in sent {
        // The connection's own headers end at the gateway. Values that are not ASCII cannot be in an event.
        let own = [
            header::CONNECTION,
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::EXPECT,
        ];
        if let (false, Ok(value)) = (own.contains(name), value.to_str()) {
            headers.entry(name.to_string()).or_default().push(value.to_owned());
        }
    }
    headers
        .entry("x-forwarded-for".to_owned())
        .or_default()
        .push("127.0.0.1".to_owned());
    headers.insert("x-forwarded-proto".to_owned(), vec!["http".to_owned()]);
    headers
}

fn query(head: &request::Parts) -> Result<Option<Multi>> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&head.uri).context("the query cannot be read")?;
    let mut query = Multi::new();
    for (name, value) in pairs {
        query.entry(name).or_default().push(value);
    }
    Ok((!query.is_empty()).then_some(query))
}

fn last_of_each(multi: &Multi) -> BTreeMap<&str, &str> {
    multi
        .iter()
        .filter_map(|(name, values)| Some((name.as_str(), values.last()?.as_str())))
        .collect()
}

fn single<'a>(multi: &'a Multi, name: &str) -> Option<&'a str> {
    multi.get(name)?.last().map(String::as_str)
}

/// Claims are text; the times `exp` and `iat` are written out, while `auth_time` stays a number in text.
fn claims_as_text(claims: &Map<String, Value>) -> Result<BTreeMap<&str, String>> {
    let text = |(name, value): (&String, &Value)| -> Result<String> {
        Ok(match value {
            Value::String(text) => text.clone(),
            Value::Number(number) if matches!(name.as_str(), "exp" | "iat") => {
                let seconds = number.as_i64().context("a time that is not a whole number")?;
                date(OffsetDateTime::from_unix_timestamp(seconds)?)
            }
            other => other.to_string(),
        })
    };
    claims
        .iter()
        .map(|claim| Ok((claim.0.as_str(), text(claim)?)))
        .collect()
}

fn three_letters(name: &impl ToString) -> String {
    name.to_string().chars().take(3).collect()
}

/// Such as `Wed Nov 25 03:00:00 UTC 2026`.
fn date(time: OffsetDateTime) -> String {
    let (weekday, month) = (three_letters(&time.weekday()), three_letters(&time.month()));
    let (hour, minute, second) = time.to_hms();
    format!(
        "{weekday} {month} {:02} {hour:02}:{minute:02}:{second:02} UTC {}",
        time.day(),
        time.year()
    )
}

/// Such as `25/Nov/2026:03:00:00 +0000`.
fn request_time(time: OffsetDateTime) -> String {
    let (hour, minute, second) = time.to_hms();
    let month = three_letters(&time.month());
    format!(
        "{:02}/{month}/{}:{hour:02}:{minute:02}:{second:02} +0000",
        time.day(),
        time.year()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{Method, Request};
    use lambda_http::RequestExt as _;

    use super::*;
    use crate::template::Function;

    const NOW: Timestamp = Timestamp::from_millis(1_795_575_600_042);

    fn event(request: Request<&[u8]>, parameters: &[(&str, &str)]) -> Result<Value> {
        let route = Route {
            method: Method::POST,
            resource: "/deviceAuthentications/{authId}".to_owned(),
            scopes: Vec::new(),
            function: Function::ValidateOtp,
            timeout: Duration::from_secs(5),
        };
        let (head, body) = request.into_parts();
        let path = head.uri.path().strip_prefix("/v1").context("no stage")?;
        let routed = Routed {
            route: &route,
            stage: "v1",
            path,
            parameters: parameters.iter().copied().collect(),
        };
        let claims =
            json!({ "client_id": "me", "scope": "a b", "exp": 1_795_575_600, "iat": 0, "auth_time": 7, "version": 2 });
        let ids = Ids {
            request: "chosen".to_owned(),
            extended: "extended".to_owned(),
        };
        rest_event(
            &head,
            body,
            &routed,
            claims.as_object().context("no claims")?,
            &ids,
            NOW,
        )
    }

    fn post(uri: &str) -> axum::http::request::Builder {
        Request::post(uri).header("host", "127.0.0.1:3000")
    }

    #[test]
    fn an_event_is_as_api_gateway_makes_it() -> Result<()> {
        let request = post("/v1/deviceAuthentications/a%20b?x=1&x=%32&y=")
            .header("accept", "text/plain")
            .header("accept", "application/json")
            .header("content-length", "14")
            .body(&b"{\"otp\":\"1\xc3\xa9\"}"[..])?;
        let event = event(request, &[("authId", "a%20b")])?;
        assert_eq!(event["resource"], "/deviceAuthentications/{authId}");
        assert_eq!(event["path"], "/deviceAuthentications/a%20b");
        assert_eq!(event["httpMethod"], "POST");
        assert_eq!(event["pathParameters"], json!({ "authId": "a%20b" }));
        assert_eq!(event["queryStringParameters"], json!({ "x": "2", "y": "" }));
        assert_eq!(
            event["multiValueQueryStringParameters"],
            json!({ "x": ["1", "2"], "y": [""] })
        );
        assert_eq!(event["headers"]["accept"], "application/json");
        assert_eq!(
            event["multiValueHeaders"]["accept"],
            json!(["text/plain", "application/json"])
        );
        assert_eq!(event["headers"]["content-length"], Value::Null);
        assert_eq!(
            (&event["body"], &event["isBase64Encoded"]),
            (&json!("{\"otp\":\"1é\"}"), &json!(false))
        );
        let context = &event["requestContext"];
        assert_eq!(context["path"], "/v1/deviceAuthentications/a%20b");
        assert_eq!(
            (&context["requestId"], &context["extendedRequestId"]),
            (&json!("chosen"), &json!("extended"))
        );
        assert_eq!(
            (&context["stage"], &context["requestTimeEpoch"]),
            (&json!("v1"), &json!(1_795_575_600_042_u64))
        );
        assert_eq!(context["requestTime"], "25/Nov/2026:03:00:00 +0000");
        assert_eq!(
            context["authorizer"]["claims"],
            json!({
                "client_id": "me", "scope": "a b", "exp": "Wed Nov 25 03:00:00 UTC 2026",
                "iat": "Thu Jan 01 00:00:00 UTC 1970", "auth_time": "7", "version": "2",
            })
        );
        Ok(())
    }

    #[test]
    fn a_body_that_is_not_text_is_base64_and_no_body_is_null() -> Result<()> {
        let binary = event(post("/v1/deviceAuthentications/a").body(&b"\xff\x00"[..])?, &[])?;
        assert_eq!(
            (&binary["body"], &binary["isBase64Encoded"]),
            (&json!("/wA="), &json!(true))
        );
        let empty = event(post("/v1/deviceAuthentications/a").body(&b""[..])?, &[])?;
        assert_eq!(
            (&empty["body"], &empty["isBase64Encoded"]),
            (&Value::Null, &json!(false))
        );
        assert_eq!(
            (&empty["pathParameters"], &empty["queryStringParameters"]),
            (&Value::Null, &Value::Null)
        );
        Ok(())
    }

    #[test]
    fn the_functions_read_the_event() -> Result<()> {
        let request = post("/v1/deviceAuthentications/a%2Fb").body(&b"\xff"[..])?;
        let event = event(request, &[("authId", "a%2Fb")])?;
        let request = shared::http::Event::from_text(event.to_string()).read(tokio::time::Instant::now());
        let request = request.map_err(|failure| anyhow::anyhow!(failure.reason))?;
        assert_eq!(request.http.path_parameters().first("authId"), Some("a%2Fb"));
        assert_eq!(request.http.body().as_ref(), b"\xff");
        Ok(())
    }

    #[test]
    fn a_header_that_is_not_ascii_is_left_out() -> Result<()> {
        let value = axum::http::HeaderValue::from_bytes(b"caf\xe9")?;
        let event = event(
            post("/v1/deviceAuthentications/a")
                .header("x-name", value)
                .body(&b""[..])?,
            &[],
        )?;
        assert_eq!(event["headers"]["x-name"], Value::Null);
        Ok(())
    }
}

//! Events of a REST API (Lambda proxy integration) as requests, and answers as the gateway expects them.
//!
//! Own code, and total: `lambda_http`'s conversion refuses or panics on what a caller can put into a header, a query or
//! a body, before an endpoint sees it. Here only what an endpoint uses is read, and what is no such event is a
//! [`Failure`] like any other.

use std::collections::HashMap;

use lambda_http::aws_lambda_events::apigw::ApiGatewayProxyResponse;
use lambda_http::http::{HeaderMap, HeaderName, HeaderValue, Method};
use lambda_http::{Body, Request, RequestExt as _, Response};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::time::Instant;
use zeroize::{Zeroize as _, Zeroizing};

use super::caller::Caller;
use super::error::{Code, Failure};

/// The payload of an invocation, not read yet. Receiving it never fails, as that would fail the invocation. It is cleared when
/// it is dropped, and has no `Debug`, which would show a code.
#[derive(Clone)]
pub struct Event(Option<Zeroizing<Box<str>>>);

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_json(Box::<RawValue>::deserialize(deserializer)))
    }
}

/// A request of the API: the HTTP request, and its caller. Its body is cleared when it is dropped.
pub struct ApiRequest {
    /// Headers, path parameters and body.
    pub http: Request,
    /// The HTTP method, if the event has one.
    pub method: Option<Method>,
    /// What the gateway says about the caller.
    pub caller: Caller,
    /// When the request is given up.
    pub deadline: Instant,
}

impl Drop for ApiRequest {
    fn drop(&mut self) {
        match self.http.body_mut() {
            Body::Text(text) => text.zeroize(),
            Body::Binary(bytes) => bytes.zeroize(),
            _ => {}
        }
    }
}

impl Event {
    /// The payload as text; anything may be in it.
    #[must_use]
    pub fn from_text(payload: String) -> Self {
        Self::from_json(RawValue::from_string(payload))
    }

    fn from_json<E>(payload: Result<Box<RawValue>, E>) -> Self {
        Self(payload.ok().map(|payload| Zeroizing::new(payload.into())))
    }

    /// The request in it, to be answered before a deadline.
    ///
    /// # Errors
    /// [`Failure`] (400) if it is not an event of a REST API.
    pub fn read(self, deadline: Instant) -> Result<ApiRequest, Failure> {
        let read = |payload: &str| {
            // Serde reads a struct from an array, too.
            let object = payload.trim_ascii_start().starts_with('{');
            let event = object.then(|| serde_json::from_str::<ProxyEvent>(payload).ok());
            event.flatten()?.into_request(deadline)
        };
        self.0
            .as_deref()
            .and_then(|payload| read(payload))
            .ok_or_else(|| Failure {
                message: "Only events of an API Gateway REST API are supported",
                ..Failure::new(Code::InvalidRequest, "not_an_event")
            })
    }
}

/// An answer as the gateway expects it.
#[must_use]
pub fn into_proxy_response(response: Response<Body>) -> ApiGatewayProxyResponse {
    let (head, body) = response.into_parts();
    let mut answer = ApiGatewayProxyResponse::default();
    answer.status_code = head.status.as_u16().into();
    // Not in `headers` as well: the gateway would send them twice.
    answer.multi_value_headers = head.headers;
    answer.is_base64_encoded = matches!(body, Body::Binary(_));
    // Empty, it would be written as null, which the gateway's emulator does not take.
    answer.body = Some(match body {
        Body::Empty => Body::Text(String::new()),
        body => body,
    });
    answer
}

/// The members of an event that an endpoint depends on, each of any kind where a wrong one means that it is not there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProxyEvent {
    request_context: Map<String, Value>,
    #[serde(default)]
    headers: Value,
    #[serde(default)]
    multi_value_headers: Value,
    #[serde(default)]
    http_method: Value,
    #[serde(default)]
    path_parameters: Value,
    #[serde(default)]
    multi_value_query_string_parameters: Value,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
}

impl ProxyEvent {
    fn into_request(self, deadline: Instant) -> Option<ApiRequest> {
        let body = match (self.body, self.is_base64_encoded.unwrap_or_default()) {
            (None, _) => Body::Empty,
            (Some(text), false) => Body::Text(text),
            (Some(text), true) => {
                let text = Zeroizing::new(text);
                Body::Binary(data_encoding::BASE64.decode(text.as_bytes()).ok()?)
            }
        };
        let caller = Caller::read(self.request_context)?;
        let mut http = Request::new(body);
        *http.headers_mut() = headers(&self.multi_value_headers, &self.headers);
        let http = http.with_path_parameters(texts(self.path_parameters));
        Some(ApiRequest {
            http: http.with_query_string_parameters(lists(self.multi_value_query_string_parameters)),
            method: self.http_method.as_str().and_then(|method| method.parse().ok()),
            caller,
            deadline,
        })
    }
}

/// The gateway sends every header in both forms; the one with all values counts.
fn headers(many: &Value, single: &Value) -> HeaderMap {
    let sent = many
        .as_object()
        .filter(|many| !many.is_empty())
        .or_else(|| single.as_object());
    let mut headers = HeaderMap::new();
    for (name, values) in sent.into_iter().flatten() {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            continue;
        };
        let values = values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice);
        for value in values.iter().filter(|value| !value.is_null()) {
            // Kept as present, never dropped: a content type that cannot be read is not JSON.
            let unreadable = HeaderValue::from_static("");
            let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
            // More than fit: no one reads those.
            let _ = headers.try_append(name.clone(), value.unwrap_or(unreadable));
        }
    }
    headers
}

fn texts(object: Value) -> HashMap<String, String> {
    let Value::Object(members) = object else {
        return HashMap::new();
    };
    let text = |(name, value)| match value {
        Value::String(text) => Some((name, text)),
        _ => None,
    };
    members.into_iter().filter_map(text).collect()
}

fn lists(object: Value) -> HashMap<String, Vec<String>> {
    let Value::Object(members) = object else {
        return HashMap::new();
    };
    let list = |(name, value): (String, Value)| {
        let values = value.as_array()?.iter();
        // A value of another kind is kept, as one that no endpoint takes.
        let texts = values.map(|value| value.as_str().unwrap_or_default().to_owned());
        Some((name, texts.collect()))
    };
    members.into_iter().filter_map(list).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(members: &Value) -> Value {
        let mut event = json!({
            "requestContext": { "path": "/v1/x", "extendedRequestId": "id", "authorizer": { "claims": { "scope": "s" } } },
            "multiValueHeaders": { "Accept": ["a", "b"] },
            "headers": { "Accept": "b" },
            "pathParameters": { "authId": "a%20b" },
            "body": "{}",
            "isBase64Encoded": false,
        });
        for (name, value) in members.as_object().into_iter().flatten() {
            event[name] = value.clone();
        }
        event
    }

    fn read(members: &Value) -> Result<ApiRequest, Failure> {
        Event::from_text(event(members).to_string()).read(Instant::now())
    }

    fn values(request: &ApiRequest, name: &str) -> Vec<String> {
        let values = request.http.headers().get_all(name).into_iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    }

    #[test]
    fn an_event_is_read_as_it_is() -> Result<(), Failure> {
        let claims = json!({ "client_id": "shop", "scope": "mfa/other mfa/authenticate" });
        let context = json!({ "path": "/v1/x", "extendedRequestId": "id", "authorizer": { "claims": claims } });
        let request = read(&json!({ "requestContext": context }))?;
        assert_eq!(&request.http.body()[..], b"{}");
        assert_eq!(values(&request, "accept"), ["a", "b"]);
        assert_eq!(request.http.path_parameters().first("authId"), Some("a%20b"));
        assert_eq!((request.caller.trace_id(), request.caller.path()?), ("id", "/v1/x"));
        assert_eq!(request.caller.client("mfa/authenticate")?.as_str(), "shop");
        Ok(())
    }

    #[test]
    fn a_trace_id_is_never_one_that_a_caller_can_choose() -> Result<(), Failure> {
        let context = json!({ "path": "/v1/x", "requestId": "chosen", "extendedRequestId": null });
        let mut without = context.clone();
        without
            .as_object_mut()
            .map(|context| context.remove("extendedRequestId"));
        for context in [context, without] {
            assert_eq!(read(&json!({ "requestContext": context }))?.caller.trace_id(), "");
        }
        Ok(())
    }

    #[test]
    fn what_nothing_depends_on_does_not_matter() {
        for members in [
            json!({ "multiValueHeaders": { "Host": ["[:a b"], "X-Forwarded-Proto": ["1 \u{7f}"] } }),
            json!({ "multiValueHeaders": { "": ["x"], "a b": ["x"], "\u{e9}": ["x"], "x".repeat(70_000): ["x"] } }),
            json!({ "multiValueHeaders": 7, "headers": [] }),
            json!({ "httpMethod": "b\u{e4}d method", "path": 7, "resource": null, "stageVariables": "x" }),
            json!({ "queryStringParameters": { "\u{0}": "\u{0}" }, "multiValueQueryStringParameters": [1] }),
            json!({ "pathParameters": ["authId"] }),
        ] {
            assert!(read(&members).is_ok(), "{members}");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let with = |deep: &str| {
            format!(
                "{{\"x\":{deep},{}",
                event(&json!({})).to_string().trim_start_matches('{')
            )
        };
        assert!(Event::from_text(with(&deep)).read(Instant::now()).is_ok());
        assert!(Event::from_text(with("1e999999")).read(Instant::now()).is_ok());
    }

    #[test]
    fn more_headers_than_fit_are_left_out() -> Result<(), Failure> {
        let many: Map<_, _> = (0..40_000)
            .map(|number| (format!("x-{number}"), json!(["x"])))
            .collect();
        let request = read(&json!({ "multiValueHeaders": many }))?;
        assert!(request.http.headers().len() > 20_000);
        Ok(())
    }

    #[test]
    fn a_header_that_was_sent_is_never_missing() -> Result<(), Failure> {
        for (sent, seen) in [
            (json!(["a\nb"]), vec![""]),
            (json!([7]), vec![""]),
            (json!([["x"]]), vec![""]),
            (json!("x"), vec!["x"]),
            (json!(["x", "\u{e9}"]), vec!["x", "\u{e9}"]),
            (json!(null), vec![]),
            (json!([null]), vec![]),
            (json!([]), vec![]),
        ] {
            let request = read(&json!({ "multiValueHeaders": { "Content-Type": sent } }))?;
            assert_eq!(values(&request, "content-type"), seen, "{sent}");
        }
        Ok(())
    }

    #[test]
    fn without_headers_of_many_values_those_of_one_value_count() -> Result<(), Failure> {
        for none in [json!(null), json!({}), json!(7), json!([])] {
            let single = read(&json!({ "multiValueHeaders": none, "headers": { "Content-Type": "x" } }))?;
            assert_eq!(values(&single, "content-type"), ["x"], "{none}");
        }
        Ok(())
    }

    #[test]
    fn everything_but_an_event_of_a_rest_api_is_refused() {
        let http_api = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": "/", "headers": {}, "isBase64Encoded": false,
            "requestContext": { "http": { "method": "POST", "path": "/" }, "stage": "$default" },
        });
        for event in [
            String::new(),
            "{".to_owned(),
            "null".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            "\"ping\"".to_owned(),
            "7".to_owned(),
            json!({ "source": "warm-up" }).to_string(),
            http_api.to_string(),
            event(&json!({ "requestContext": null })).to_string(),
            event(&json!({ "requestContext": { "path": 7 } })).to_string(),
            event(&json!({ "requestContext": ["/v1/x", "id", { "claims": { "scope": "s" } }] })).to_string(),
            json!([{ "path": "/v1/x" }, {}, {}, {}, "{}", false]).to_string(),
            event(&json!({ "body": 7 })).to_string(),
            event(&json!({ "isBase64Encoded": "true" })).to_string(),
            event(&json!({ "isBase64Encoded": true })).to_string(),
            event(&json!({ "isBase64Encoded": true, "body": "e30" })).to_string(),
        ] {
            let failure = Event::from_text(event.clone()).read(Instant::now()).err();
            assert_eq!(
                failure.map(|failure| (failure.code, failure.reason)),
                Some((Code::InvalidRequest, "not_an_event")),
                "{event}"
            );
        }
    }

    #[test]
    fn receiving_a_payload_never_fails() -> Result<(), serde_json::Error> {
        for payload in [&b"{}"[..], b"", b"{", b"\xff", b"\"\xff\"", b"[1, 2"] {
            // As the runtime reads it.
            let event = Event::deserialize(&mut serde_json::Deserializer::from_slice(payload))?;
            assert!(event.read(Instant::now()).is_err());
        }
        let event: Event = serde_json::from_value(event(&json!({})))?;
        assert!(event.read(Instant::now()).is_ok());
        Ok(())
    }

    #[test]
    fn an_answer_has_the_form_that_the_gateway_expects() -> Result<(), Box<dyn std::error::Error>> {
        let response = Response::builder()
            .status(201)
            .header("location", "/x")
            .body(Body::from("{}"))?;
        assert_eq!(
            serde_json::to_value(into_proxy_response(response))?,
            json!({
                "statusCode": 201, "headers": {}, "multiValueHeaders": { "location": ["/x"] },
                "body": "{}", "isBase64Encoded": false,
            })
        );
        let without_body = serde_json::to_value(into_proxy_response(Response::new(Body::Empty)))?;
        assert_eq!(without_body["body"], "");
        Ok(())
    }
}

//! Events as API Gateway (REST, Cognito authorizer) sends them to a function.

use serde_json::{Map, Value, json};

/// An event under construction. Without changes it is one that the function answers with success, if its device, auth
/// and code are right.
#[derive(Debug, Clone)]
pub struct Event {
    resource: &'static str,
    path: String,
    parameters: Map<String, Value>,
    query: Map<String, Value>,
    method: String,
    headers: Vec<(String, String)>,
    claims: Map<String, Value>,
    authorizer: bool,
    request_id: String,
    trace_id: String,
    body: Body,
    base64: bool,
}

#[derive(Debug, Clone)]
enum Body {
    Members(Map<String, Value>),
    Bytes(Vec<u8>),
    Missing,
}

impl Event {
    /// The stage in the path that the client calls.
    pub const STAGE: &'static str = "v1";
    /// The scope that the two steps ask for.
    pub const SCOPE: &'static str = "mfa/authenticate";
    /// The scope that managing devices asks for.
    pub const DEVICES_SCOPE: &'static str = "mfa/devices";
    /// The extended request id of an event that sets no other: the `traceId` of an error.
    pub const TRACE_ID: &'static str = "JJfXmFH3FiAFXlg=";

    /// Step 2 of a client: `demouser`, `mydevice`, `TOTP`.
    #[must_use]
    pub fn init_auth(client_id: &str) -> Self {
        Self::new(
            client_id,
            "/deviceAuthentications",
            "/deviceAuthentications".to_owned(),
            &[],
        )
        .user("demouser")
        .device("mydevice")
        .device_type("TOTP")
    }

    /// Step 3 of a client on an authId, so far without a code. The authId stands in the path as it is given.
    #[must_use]
    pub fn validate_otp(client_id: &str, auth_id: &(impl ToString + ?Sized)) -> Self {
        let auth_id = auth_id.to_string();
        let path = format!("/deviceAuthentications/{auth_id}");
        Self::new(
            client_id,
            "/deviceAuthentications/{authId}",
            path,
            &[("authId", &auth_id)],
        )
    }

    /// Registers a device of a user: `mydevice`, `TOTP`. The name of the user stands in the path as it is given.
    #[must_use]
    pub fn register_device(client_id: &str, user: &str) -> Self {
        let path = format!("/users/{user}/mfadevices");
        Self::new(client_id, "/users/{userName}/mfadevices", path, &[("userName", user)])
            .scope(Self::DEVICES_SCOPE)
            .device("mydevice")
            .device_type("TOTP")
    }

    /// Activates what an authId of a registration names, so far without a code.
    #[must_use]
    pub fn activate_device(client_id: &str, user: &str, auth_id: &str) -> Self {
        let path = format!("/users/{user}/mfadevices/{auth_id}");
        let parameters = [("userName", user), ("authId", auth_id)];
        Self::new(client_id, "/users/{userName}/mfadevices/{authId}", path, &parameters).scope(Self::DEVICES_SCOPE)
    }

    /// Lists the devices of a user.
    #[must_use]
    pub fn list_devices(client_id: &str, user: &str) -> Self {
        let path = format!("/users/{user}/mfadevices");
        Self::new(client_id, "/users/{userName}/mfadevices", path, &[("userName", user)])
            .scope(Self::DEVICES_SCOPE)
            .method("GET")
            .no_body()
    }

    /// Removes a device of a user.
    #[must_use]
    pub fn remove_device(client_id: &str, user: &str, device: &str) -> Self {
        let path = format!("/users/{user}/mfadevices/TOTP/{device}");
        let parameters = [("userName", user), ("deviceName", device)];
        let resource = "/users/{userName}/mfadevices/TOTP/{deviceName}";
        Self::new(client_id, resource, path, &parameters)
            .scope(Self::DEVICES_SCOPE)
            .method("DELETE")
            .no_body()
    }

    fn new(client_id: &str, resource: &'static str, path: String, parameters: &[(&str, &str)]) -> Self {
        let claims = [
            ("sub", client_id),
            ("client_id", client_id),
            ("token_use", "access"),
            ("scope", Self::SCOPE),
            ("auth_time", "1795575600"),
            (
                "iss",
                "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_EXAMPLE",
            ),
            ("iat", "Wed Nov 25 03:00:00 UTC 2026"),
            ("exp", "Wed Nov 25 04:00:00 UTC 2026"),
            ("version", "2"),
            ("jti", "7a0c7a3e-3f5b-4a53-9a55-6f2a3b1d9c10"),
        ];
        let headers = [
            ("Accept", "application/json"),
            ("Authorization", "Bearer not.a.token"),
            ("Content-Type", "application/json"),
            ("Host", "api.example.com"),
            ("X-Forwarded-Proto", "https"),
        ];
        Self {
            resource,
            path,
            parameters: parameters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect(),
            query: Map::new(),
            method: "POST".to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            claims: claims
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect(),
            authorizer: true,
            request_id: "c6af9ac6-7b61-11e6-9a41-93e8deadbeef".to_owned(),
            trace_id: Self::TRACE_ID.to_owned(),
            body: Body::Members(Map::new()),
            base64: false,
        }
    }

    /// With a user name.
    #[must_use]
    pub fn user(self, name: &str) -> Self {
        self.member("userName", name)
    }

    /// With a device name.
    #[must_use]
    pub fn device(self, name: &str) -> Self {
        self.member("deviceName", name)
    }

    /// With a type of device.
    #[must_use]
    pub fn device_type(self, name: &str) -> Self {
        self.member("deviceType", name)
    }

    /// With one code.
    #[must_use]
    pub fn otp(self, code: &str) -> Self {
        self.member("otp", code)
    }

    /// With two consecutive codes.
    #[must_use]
    pub fn otps(self, earlier: &str, later: &str) -> Self {
        self.member("otps", json!([earlier, later]))
    }

    /// With a member of the body, of any JSON type.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        if !matches!(self.body, Body::Members(_)) {
            self.body = Body::Members(Map::new());
        }
        if let Body::Members(members) = &mut self.body {
            members.insert(name.to_owned(), value.into());
        }
        self
    }

    /// Without a member of the body.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        if let Body::Members(members) = &mut self.body {
            members.remove(name);
        }
        self
    }

    /// With a body of these very bytes. Bytes that are not UTF-8 go as base64.
    #[must_use]
    pub fn raw_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Bytes(body.into());
        self
    }

    /// Without a body.
    #[must_use]
    pub fn no_body(mut self) -> Self {
        self.body = Body::Missing;
        self
    }

    /// With its body in base64, as API Gateway sends what it takes for binary.
    #[must_use]
    pub fn base64(mut self) -> Self {
        self.base64 = true;
        self
    }

    /// With a content type.
    #[must_use]
    pub fn content_type(self, value: &str) -> Self {
        self.header("Content-Type", value)
    }

    /// Without a content type.
    #[must_use]
    pub fn no_content_type(self) -> Self {
        self.without_header("Content-Type")
    }

    /// With a header, spelled this way, in place of any of its name.
    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        let mut event = self.without_header(name);
        event.headers.push((name.to_owned(), value.to_owned()));
        event
    }

    /// Without a header.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(present, _)| !present.eq_ignore_ascii_case(name));
        self
    }

    /// With scopes in its token, separated by spaces.
    #[must_use]
    pub fn scope(self, scopes: &str) -> Self {
        self.claim("scope", scopes)
    }

    /// With a claim in its token, of any JSON type.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Without a claim.
    #[must_use]
    pub fn without_claim(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// As if the method had no authorizer.
    #[must_use]
    pub fn without_authorizer(mut self) -> Self {
        self.authorizer = false;
        self
    }

    /// With an extended request id, which an error names as `traceId`.
    #[must_use]
    pub fn trace_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.trace_id);
        self
    }

    /// With a request id, which the client of a REST API can choose.
    #[must_use]
    pub fn request_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.request_id);
        self
    }

    /// With a parameter in its query.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.insert(name.to_owned(), value.into());
        self
    }

    /// With another method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// With another path, without the stage.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// The event as a function receives it.
    #[must_use]
    pub fn payload(&self) -> crate::http::Event {
        crate::http::Event::from_text(self.json())
    }

    /// The event as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let (body, base64) = self.written_body();
        let headers: Map<_, _> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect();
        let many_headers: Map<_, _> = self
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), json!([value])))
            .collect();
        let many_values: Map<_, _> = self
            .query
            .iter()
            .map(|(name, value)| (name.clone(), json!([value])))
            .collect();
        let mut event = json!({
            "resource": self.resource,
            "path": self.path,
            "httpMethod": self.method,
            "headers": headers,
            "multiValueHeaders": many_headers,
            "queryStringParameters": unless_empty(self.query.clone()),
            "multiValueQueryStringParameters": unless_empty(many_values),
            "pathParameters": unless_empty(self.parameters.clone()),
            "stageVariables": null,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "a1b2c3d4e5",
                "domainName": "api.example.com",
                "domainPrefix": "api",
                "extendedRequestId": self.trace_id,
                "httpMethod": self.method,
                "identity": { "sourceIp": "192.0.2.10", "userAgent": "curl/8.5.0" },
                "path": format!("/{}{}", Self::STAGE, self.path),
                "protocol": "HTTP/1.1",
                "requestId": self.request_id,
                "requestTime": "25/Nov/2026:03:00:00 +0000",
                "requestTimeEpoch": 1_795_575_600_000_u64,
                "resourceId": "r1e2s3",
                "resourcePath": self.resource,
                "stage": Self::STAGE,
            },
            "body": body,
            "isBase64Encoded": base64,
        });
        if self.authorizer
            && let Some(Value::Object(context)) = event.get_mut("requestContext")
        {
            context.insert("authorizer".to_owned(), json!({ "claims": self.claims }));
        }
        event.to_string()
    }

    fn written_body(&self) -> (Option<String>, bool) {
        let bytes = match &self.body {
            Body::Members(members) => json!(members).to_string().into_bytes(),
            Body::Bytes(bytes) => bytes.clone(),
            Body::Missing => return (None, false),
        };
        match String::from_utf8(bytes) {
            Ok(text) if !self.base64 => (Some(text), false),
            Ok(text) => (Some(data_encoding::BASE64.encode(text.as_bytes())), true),
            Err(not_text) => (Some(data_encoding::BASE64.encode(not_text.as_bytes())), true),
        }
    }
}

/// What API Gateway sends for an object without members: null.
fn unless_empty(object: Map<String, Value>) -> Value {
    if object.is_empty() { Value::Null } else { object.into() }
}

#[cfg(test)]
mod tests {
    use lambda_http::RequestExt as _;

    use super::*;
    use crate::http::ApiRequest;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn request(event: &Event) -> Result<ApiRequest, &'static str> {
        event
            .payload()
            .read(tokio::time::Instant::now())
            .map_err(|failure| failure.reason)
    }

    #[test]
    fn an_event_is_read_as_the_gateways_own() -> Outcome {
        let init = request(&Event::init_auth("shop"))?;
        assert_eq!(init.caller.path().ok(), Some("/v1/deviceAuthentications"));
        assert_eq!(init.caller.trace_id(), Event::TRACE_ID);
        assert_eq!(
            init.caller
                .client(Event::SCOPE)
                .ok()
                .as_ref()
                .map(crate::names::ClientId::as_str),
            Some("shop")
        );
        let body: Value = serde_json::from_slice(init.http.body())?;
        assert_eq!(
            body,
            json!({ "userName": "demouser", "deviceName": "mydevice", "deviceType": "TOTP" })
        );

        let validate = request(&Event::validate_otp("shop", "a%20b").otp("523471").trace_id("x"))?;
        assert_eq!(validate.http.path_parameters().first("authId"), Some("a%20b"));
        assert_eq!(validate.caller.path().ok(), Some("/v1/deviceAuthentications/a%20b"));
        assert_eq!(validate.caller.trace_id(), "x");
        assert_eq!(&validate.http.body()[..], br#"{"otp":"523471"}"#);
        Ok(())
    }

    #[test]
    fn bodies_arrive_as_the_bytes_that_they_are() -> Outcome {
        let event = Event::validate_otp("shop", "id");
        for bytes in [&b""[..], b"{\"a\":1,\"a\":2}", b"\xff\xfe", "\u{1f511}".as_bytes()] {
            assert_eq!(&request(&event.clone().raw_body(bytes))?.http.body()[..], bytes);
            assert_eq!(
                &request(&event.clone().raw_body(bytes).base64())?.http.body()[..],
                bytes
            );
        }
        assert!(request(&event.clone().otp("1").no_body())?.http.body().is_empty());
        let event = event.otps("523471", "000001").member("more", 1).without("otp").base64();
        assert_eq!(
            serde_json::from_slice::<Value>(request(&event)?.http.body())?,
            json!({ "otps": ["523471", "000001"], "more": 1 })
        );
        Ok(())
    }

    #[test]
    fn headers_and_claims_can_be_changed_and_taken_away() -> Outcome {
        let event = Event::init_auth("shop").content_type("text/plain");
        let content_types: Vec<_> = request(&event)?
            .http
            .headers()
            .get_all("content-type")
            .iter()
            .cloned()
            .collect();
        assert_eq!(content_types, ["text/plain"]);
        assert!(
            request(&event.no_content_type())?
                .http
                .headers()
                .get("content-type")
                .is_none()
        );

        let status = |event: Event| -> Result<u16, &'static str> {
            let client = request(&event)?.caller.client(Event::SCOPE);
            Ok(client.err().map_or(200, |failure| failure.code.status().as_u16()))
        };
        let event = Event::init_auth("shop");
        assert_eq!(status(event.clone().scope("other/scope mfa/authenticate"))?, 200);
        assert_eq!(status(event.clone().scope("mfa/authenticate2"))?, 403);
        assert_eq!(status(event.clone().without_claim("scope"))?, 403);
        assert_eq!(status(event.clone().without_claim("client_id"))?, 401);
        assert_eq!(status(event.clone().claim("client_id", 7))?, 401);
        assert_eq!(status(event.without_authorizer())?, 401);
        Ok(())
    }
}

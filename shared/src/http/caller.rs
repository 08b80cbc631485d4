//! Who is calling, as API Gateway's request context says it. Unpacked once, when the event is read.

use serde_json::{Map, Value};

use super::error::{Code, Failure};
use crate::names::ClientId;

/// The scope of the two steps of an authentication.
pub const SCOPE: &str = "mfa/authenticate";
/// The scope of everything that manages the devices of users: as strong as the factor itself.
pub const DEVICES_SCOPE: &str = "mfa/devices";

/// What a request's context says about its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    path: String,
    trace_id: String,
    /// Claims of the access token that the gateway has verified.
    client_id: Option<String>,
    scope: Option<String>,
}

impl Caller {
    /// `None` if the context is not of a REST API: its path distinguishes it from everything else that invokes functions,
    /// since HTTP APIs and load balancers have none here.
    pub(super) fn read(mut context: Map<String, Value>) -> Option<Self> {
        let path = text(context.remove("path"))?;
        let trace_id = text(context.remove("extendedRequestId")).unwrap_or_default();
        let mut claims = members(members(context.remove("authorizer")).remove("claims"));
        Some(Self {
            path,
            trace_id,
            client_id: text(claims.remove("client_id")),
            scope: text(claims.remove("scope")),
        })
    }

    /// What a client can quote when it asks about a request: API Gateway's extended request id, which it also sees in
    /// `x-amz-apigw-id`. Never the request id, which a caller can choose.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }

    /// The path that the client called, with the stage.
    ///
    /// # Errors
    /// [`Failure`] (400) if it is not percent-encoded and could not be sent in a header.
    pub fn path(&self) -> Result<&str, Failure> {
        if self.path.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(&self.path)
        } else {
            Err(Failure::invalid("The path must be percent-encoded"))
        }
    }

    /// The client that the access token was issued to, if it has a scope.
    ///
    /// The gateway lets no request through without a token of this scope. It is checked again anyway: a method that lost
    /// its authorizer in a template would otherwise serve everyone.
    ///
    /// # Errors
    /// [`Failure`]: 401 if there is no client id, 403 if the scope is missing.
    pub fn client(&self, scope: &str) -> Result<ClientId, Failure> {
        let client = self.client_id.as_deref().and_then(|raw| ClientId::parse(raw).ok());
        let client = client.ok_or_else(|| Failure::new(Code::Unauthorized, "no_client"))?;
        let mut scopes = self.scope.as_deref().unwrap_or_default().split(' ');
        if scopes.any(|granted| granted == scope) {
            Ok(client)
        } else {
            Err(Failure {
                message: match scope {
                    DEVICES_SCOPE => "The access token needs the scope mfa/devices",
                    _ => "The access token needs the scope mfa/authenticate",
                },
                ..Failure::new(Code::Forbidden, "no_scope")
            })
        }
    }
}

fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn members(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn called(path: &str) -> Option<Caller> {
        Caller::read(members(Some(json!({ "path": path }))))
    }

    #[test]
    fn a_called_path_goes_into_a_header_only_if_it_is_percent_encoded() {
        for path in [
            "/",
            "/v1/deviceAuthentications",
            "/v1/a%20b%0d%0a",
            "/v1/~!*'();:@&=+$,[]",
        ] {
            let caller = called(path);
            assert_eq!(caller.as_ref().and_then(|caller| caller.path().ok()), Some(path));
        }
        for raw in [" ", "\t", "\r\n", "\0", "\u{1b}", "\u{7f}", "\u{85}", "\u{e9}"] {
            let path = format!("/v1/a{raw}b");
            let failure = called(&path).and_then(|caller| caller.path().err());
            assert_eq!(
                failure.map(|failure| (failure.code, failure.message)),
                Some((Code::InvalidRequest, "The path must be percent-encoded")),
                "{path:?}"
            );
        }
    }
}

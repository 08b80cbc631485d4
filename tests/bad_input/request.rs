//! A request in parts, so that what is wrong with each is known without parsing it.

use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use crate::runner::MARKER;
use crate::service::{CLIENT, OTHER_CLIENT, Operation, State};

/// The longest body that is read.
pub(crate) const LONGEST_BODY: usize = 8_192;

/// A value in a body, as JSON text.
#[derive(Debug, Clone)]
pub(crate) enum Val {
    /// A string.
    Text(String),
    /// A string with every character escaped.
    Escaped(String),
    /// An array.
    List(Vec<Val>),
    /// Any other JSON, strings that cannot be decoded among it.
    Other(String),
    /// Not JSON.
    Broken(Vec<u8>),
}

/// What a body is.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// An object with these members, and white space up to a length.
    Object(Vec<(Val, Val)>, usize),
    /// The same, damaged: whatever it held, it is not JSON any more.
    Damaged(Vec<(Val, Val)>, Damage),
    /// JSON other than an object.
    NotAnObject(String),
    /// Random bytes.
    Wild(Vec<u8>),
    /// None.
    Missing,
}

#[derive(Debug, Clone)]
pub(crate) enum Damage {
    /// Without its last bytes.
    Cut(usize),
    /// With something before it other than white space.
    Before(&'static str),
    /// With something after it other than white space.
    After(&'static str),
    /// With a byte that is never in UTF-8.
    Byte(usize, u8),
}

/// How a body is in the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As text where it is text.
    Text,
    /// As base64.
    Base64,
    /// As text that is declared to be base64.
    ClaimedBase64,
}

/// The caller according to the gateway.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// The client of the device.
    Own,
    /// Another client.
    Other,
    /// No client that can be identified, with this authorizer.
    Unknown(Value),
    /// The client of the device, with another scope.
    WithoutScope(Option<Value>),
    /// The client of the device, with the scope of the other operations.
    OtherScope,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct SentRequest {
    pub(crate) operation: Operation,
    pub(crate) state: State,
    pub(crate) caller: Caller,
    pub(crate) content_types: Vec<Value>,
    pub(crate) body: Body,
    pub(crate) encoding: Encoding,
    pub(crate) path: Path,
    pub(crate) noise: Noise,
}

/// The path parameters, of which each operation has those of its route.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub(crate) user: Segment,
    pub(crate) device: Segment,
    /// The authId, and whether it is that of the auth that is there.
    pub(crate) auth_id: (String, bool),
    /// In place of them all: no parameters.
    pub(crate) none: Option<Value>,
}

/// A part of a path as it is sent, and what it stands for if it is percent-encoded UTF-8.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) sent: String,
    pub(crate) text: Option<String>,
}

/// What the answer must not depend on.
#[derive(Debug, Clone)]
pub(crate) struct Noise {
    pub(crate) headers: Vec<(String, Value)>,
    pub(crate) content_type_name: &'static str,
    pub(crate) query: Value,
    /// The values of `type` in the query, and whether each is TOTP. Only a list reads it.
    pub(crate) types: (Value, bool),
    /// In place of the route's, which only `manage-devices` reads.
    pub(crate) method: Option<Value>,
    pub(crate) path: Value,
}

impl Val {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend(Value::from(text.as_str()).to_string().into_bytes()),
            Self::Escaped(text) => {
                out.push(b'"');
                for unit in text.encode_utf16() {
                    out.extend(format!("\\u{unit:04x}").into_bytes());
                }
                out.push(b'"');
            }
            Self::List(values) => {
                out.push(b'[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    value.write(out);
                }
                out.push(b']');
            }
            Self::Other(json) => out.extend(json.as_bytes()),
            Self::Broken(bytes) => out.extend(bytes),
        }
    }

    /// The string that it is, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Escaped(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        match self {
            Self::Broken(_) => true,
            Self::List(values) => values.iter().any(Self::is_broken),
            _ => false,
        }
    }
}

fn object(members: &[(Val, Val)]) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (index, (name, value)) in members.iter().enumerate() {
        if index > 0 {
            out.extend(b",\r\n\t ");
        }
        name.write(&mut out);
        out.push(b':');
        value.write(&mut out);
    }
    out.push(b'}');
    out
}

impl Body {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Object(members, length) => {
                let mut bytes = object(members);
                bytes.resize(bytes.len().max(*length), b' ');
                bytes
            }
            Self::Damaged(members, damage) => {
                let mut bytes = object(members);
                match damage {
                    Damage::Cut(last) => bytes.truncate(bytes.len().saturating_sub(1 + last % bytes.len())),
                    Damage::Before(text) => bytes = [text.as_bytes(), &bytes].concat(),
                    Damage::After(text) => bytes.extend(text.as_bytes()),
                    Damage::Byte(place, byte) => bytes.insert(place % bytes.len(), *byte),
                }
                bytes
            }
            Self::NotAnObject(json) => json.clone().into_bytes(),
            Self::Wild(bytes) => bytes.clone(),
            Self::Missing => Vec::new(),
        }
    }
}

impl Caller {
    fn authorizer(&self, operation: Operation) -> Value {
        let claims = |client: &str, scope: Option<Value>| {
            let own = [
                ("client_id", client.into()),
                ("sub", client.into()),
                ("token_use", "access".into()),
            ];
            let claims = own.into_iter().chain(scope.map(|scope| ("scope", scope)));
            let claims: Map<_, _> = claims.map(|(name, value)| (name.to_owned(), value)).collect();
            json!({ "claims": claims })
        };
        let (scope, other_scope) = operation.scopes();
        match self {
            Self::Own => claims(CLIENT, Some(format!("openid {scope}").into())),
            Self::Other => claims(OTHER_CLIENT, Some(scope.into())),
            Self::OtherScope => claims(CLIENT, Some(other_scope.into())),
            Self::Unknown(authorizer) => authorizer.clone(),
            Self::WithoutScope(scope) => claims(CLIENT, scope.clone()),
        }
    }
}

impl SentRequest {
    /// The event that API Gateway sends for it.
    pub(crate) fn event(&self) -> Value {
        let bytes = self.body.bytes();
        let base64 = |bytes: &[u8]| (Value::from(BASE64.encode(bytes)), true);
        let (body, is_base64) = match (&self.body, self.encoding, String::from_utf8(bytes)) {
            (Body::Missing, ..) => (Value::Null, false),
            (_, Encoding::Base64, Ok(text)) => base64(text.as_bytes()),
            (_, encoding, Ok(text)) => (Value::from(text), encoding == Encoding::ClaimedBase64),
            (_, _, Err(not_text)) => base64(not_text.as_bytes()),
        };
        let (mut many, mut single) = (Map::new(), Map::new());
        for (name, value) in &self.noise.headers {
            many.insert(name.clone(), json!([value]));
            single.insert(name.clone(), value.clone());
        }
        if let Some(last) = self.content_types.last() {
            let name = self.noise.content_type_name;
            many.insert(name.to_owned(), Value::from(self.content_types.clone()));
            single.insert(name.to_owned(), last.clone());
        }
        let (method, resource) = self.operation.route();
        let mut parameters = Map::new();
        for (name, value) in [
            ("userName", &self.path.user.sent),
            ("deviceName", &self.path.device.sent),
            ("authId", &self.path.auth_id.0),
        ] {
            if resource.contains(&format!("{{{name}}}")) {
                parameters.insert(name.to_owned(), value.as_str().into());
            }
        }
        json!({
            "resource": resource,
            "path": self.noise.path,
            "httpMethod": self.noise.method.clone().unwrap_or_else(|| method.into()),
            "headers": single,
            "multiValueHeaders": many,
            "queryStringParameters": self.noise.query,
            "multiValueQueryStringParameters": self.noise.types.0,
            "pathParameters": self.path.none.clone().unwrap_or_else(|| parameters.into()),
            "stageVariables": null,
            "requestContext": {
                "accountId": "123456789012",
                "authorizer": self.caller.authorizer(self.operation),
                "domainName": MARKER.as_str(),
                "extendedRequestId": "JJfXmFH3FiAFXlg=",
                "identity": { "sourceIp": "192.0.2.10", "userAgent": MARKER.as_str() },
                // Is in the location of an answer.
                "path": "/v1/called",
                "requestId": MARKER.as_str(),
                "stage": "v1",
            },
            "body": body,
            "isBase64Encoded": is_base64,
        })
    }
}

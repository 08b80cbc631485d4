//! The one reader of `template.yaml`: what the local stack needs of it (routes with scopes and functions, gateway
//! responses, tables, what a client of Cognito may do), and the whole document for tests and measurements.
//!
//! What runs here is what deploys, so nothing is guessed: a value that the stack needs and that is not literal (`!Ref`,
//! `!Sub`, …) is an error that names its place.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The template of this checkout.
const TEXT: &str = include_str!("../../../template.yaml");

static TEMPLATE: LazyLock<Result<Template>> = LazyLock::new(|| Template::parse(TEXT));

/// The template of this checkout as JSON, with the short forms of its functions written out: `!Ref X` is `{"Ref": "X"}`,
/// `!Sub X` is `{"Fn::Sub": "X"}`.
///
/// # Errors
/// If it is not YAML, or uses something that has no equivalent in JSON.
pub fn document() -> Result<Value> {
    yaml_to_json(TEXT).context("template.yaml")
}

/// A YAML file as JSON, with the short forms of `CloudFormation`'s functions written out.
///
/// # Errors
/// If it is not one YAML document, or uses something that has no equivalent in JSON.
pub fn yaml_to_json(text: &str) -> Result<Value> {
    let documents = Yaml::load_from_str(text).context("not YAML")?;
    let [document] = documents.as_slice() else {
        bail!("there must be one document")
    };
    node_to_json(document)
}

fn node_to_json(node: &Yaml<'_>) -> Result<Value> {
    Ok(match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::FloatingPoint(value)) => json!(value.into_inner()),
        Yaml::Value(Scalar::String(text)) => json!(text),
        Yaml::Sequence(items) => items.iter().map(node_to_json).collect::<Result<_>>()?,
        Yaml::Mapping(entries) => {
            let mut map = Map::new();
            for (name, value) in entries {
                let name = name.as_str().context("a key is not text")?;
                map.insert(name.to_owned(), node_to_json(value)?);
            }
            Value::Object(map)
        }
        Yaml::Tagged(tag, value) => {
            let function = match tag.suffix.as_str() {
                name @ ("Ref" | "Condition") => name.to_owned(),
                name => format!("Fn::{name}"),
            };
            json!({ function: node_to_json(value)? })
        }
        _ => bail!("there is an alias or a broken value"),
    })
}

/// A function of the service, by the name of its binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Function {
    /// Step 2.
    InitAuth,
    /// Step 3.
    ValidateOtp,
    /// Registration over HTTP, which runs here whatever `DeviceApi` says.
    ManageDevices,
}

/// A method of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) method: Method,
    /// The path as the template has it, such as `/deviceAuthentications/{authId}`.
    pub(crate) resource: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) function: Function,
    /// How long the function may run.
    pub(crate) timeout: Duration,
}

/// An answer of the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// With `$context.extendedRequestId` in it.
    pub(crate) body: String,
}

/// Why the gateway itself answers, in API Gateway's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    Unauthorized,
    AccessDenied,
    NoSuchRoute,
    RequestTooLarge,
    UnreadableRequest,
    Failure,
}

impl Refusal {
    const ALL: [Self; 6] = [
        Self::Unauthorized,
        Self::AccessDenied,
        Self::NoSuchRoute,
        Self::RequestTooLarge,
        Self::UnreadableRequest,
        Self::Failure,
    ];

    const fn response_type(self) -> &'static str {
        match self {
            Self::Unauthorized => "UNAUTHORIZED",
            Self::AccessDenied => "ACCESS_DENIED",
            Self::NoSuchRoute => "MISSING_AUTHENTICATION_TOKEN",
            Self::RequestTooLarge => "REQUEST_TOO_LARGE",
            Self::UnreadableRequest => "DEFAULT_4XX",
            Self::Failure => "DEFAULT_5XX",
        }
    }
}

/// A table, in the terms of `CreateTable`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Table {
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) attribute_definitions: Vec<Attribute>,
    pub(crate) key_schema: Vec<KeyElement>,
    time_to_live_specification: Option<TimeToLive>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Attribute {
    pub(crate) attribute_name: String,
    /// `S`, `N` or `B`.
    pub(crate) attribute_type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct KeyElement {
    pub(crate) attribute_name: String,
    /// `HASH` or `RANGE`.
    pub(crate) key_type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TimeToLive {
    attribute_name: String,
    enabled: bool,
}

impl Table {
    pub(crate) fn ttl_attribute(&self) -> Option<&str> {
        let ttl = self.time_to_live_specification.as_ref().filter(|ttl| ttl.enabled);
        ttl.map(|ttl| ttl.attribute_name.as_str())
    }
}

/// The resource server that defines the scopes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ResourceServer {
    pub(crate) identifier: String,
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
}

impl ResourceServer {
    fn scope_names(&self) -> Vec<String> {
        let names = self.scopes.iter();
        names
            .map(|scope| format!("{}/{}", self.identifier, scope.scope_name))
            .collect()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Scope {
    /// Without the identifier of the resource server.
    pub(crate) scope_name: String,
    pub(crate) scope_description: String,
}

/// The parts of the template that the local stack uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) stage: String,
    pub(crate) routes: Vec<Route>,
    pub(crate) responses: BTreeMap<Refusal, GatewayResponse>,
    pub(crate) tables: Vec<Table>,
    /// The scopes that clients may have; those of this stack have all of them, unlike the first client of a deployment.
    pub(crate) scopes: Vec<String>,
    pub(crate) resource_server: ResourceServer,
    pub(crate) token_life: Duration,
}

impl Template {
    /// The template of this checkout. It is read once.
    pub(crate) fn get() -> Result<&'static Self> {
        TEMPLATE.as_ref().map_err(|error| anyhow!("{error:#}"))
    }

    fn parse(text: &str) -> Result<Self> {
        let document: Document = read(&yaml_to_json(text).context("template.yaml")?, "template.yaml: ")?;
        let api: Api = document.only("AWS::Serverless::Api")?;
        let client: Client = document.only("AWS::Cognito::UserPoolClient")?;
        let mut routes = Vec::new();
        for (name, function) in document.resources::<ServerlessFunction>("AWS::Serverless::Function")? {
            let timeout = document.globals.function.timeout;
            routes.extend(function.routes(timeout, &api.auth.default_authorizer).context(name)?);
        }
        let mut responses = BTreeMap::new();
        for refusal in Refusal::ALL {
            let name = refusal.response_type();
            let response = api.gateway_responses.get(name);
            let response = response.with_context(|| format!("template.yaml: GatewayResponses has no {name}"))?;
            responses.insert(refusal, response.read().context(name)?);
        }
        let resource_server: ResourceServer = document.only("AWS::Cognito::UserPoolResourceServer")?;
        let tables = document.resources::<Resource<Table>>("AWS::DynamoDB::Table")?;
        let tables = tables.into_iter().map(|(name, table)| Table {
            name,
            ..table.properties
        });
        Ok(Self {
            stage: api.stage_name,
            routes,
            responses,
            tables: tables.collect(),
            scopes: resource_server.scope_names(),
            resource_server,
            token_life: client.token_validity_units.access_token.duration() * client.access_token_validity,
        })
    }

    /// The answer for a refusal. [`Template::parse`] makes sure that there is one for each.
    pub(crate) fn response(&self, refusal: Refusal) -> Option<&GatewayResponse> {
        self.responses.get(&refusal)
    }
}

/// Reads a part of the template; an error names the place, which begins with `at`.
fn read<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T> {
    serde_path_to_error::deserialize(value).map_err(|error| anyhow!("{at}{}: {}", error.path(), error.inner()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    globals: Globals,
    resources: BTreeMap<String, Value>,
}

impl Document {
    /// The resources of a type, by name.
    fn resources<T: DeserializeOwned>(&self, wanted: &str) -> Result<Vec<(String, T)>> {
        self.resources
            .iter()
            .filter(|(_, resource)| resource.get("Type").and_then(Value::as_str) == Some(wanted))
            .map(|(name, resource)| {
                Ok((
                    name.clone(),
                    read(resource, &format!("template.yaml: Resources.{name}."))?,
                ))
            })
            .collect()
    }

    /// The properties of the only resource of a type.
    fn only<T: DeserializeOwned>(&self, wanted: &str) -> Result<T> {
        let mut found = self.resources::<Resource<T>>(wanted)?;
        match (found.pop(), found.len()) {
            (Some((_, one)), 0) => Ok(one.properties),
            _ => bail!("template.yaml must have exactly one resource of type {wanted}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Globals {
    function: FunctionDefaults,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FunctionDefaults {
    timeout: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Resource<T> {
    properties: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Api {
    stage_name: String,
    auth: ApiAuth,
    gateway_responses: BTreeMap<String, WrittenResponse>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ApiAuth {
    default_authorizer: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenResponse {
    status_code: u16,
    response_parameters: ResponseParameters,
    response_templates: ResponseTemplates,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ResponseParameters {
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ResponseTemplates {
    #[serde(rename = "application/json")]
    json: String,
}

impl WrittenResponse {
    fn read(&self) -> Result<GatewayResponse> {
        let mut headers = Vec::new();
        for (name, value) in &self.response_parameters.headers {
            // A static value is written in single quotes; anything else would be a mapping expression.
            let value = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
            let value = value.with_context(|| format!("the header {name} is not a static value"))?;
            headers.push((name.parse()?, value.parse()?));
        }
        Ok(GatewayResponse {
            status: StatusCode::from_u16(self.status_code)?,
            headers,
            body: self.response_templates.json.clone(),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServerlessFunction {
    metadata: FunctionMetadata,
    properties: FunctionProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FunctionMetadata {
    build_properties: BuildProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BuildProperties {
    binary: Function,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FunctionProperties {
    timeout: Option<u32>,
    events: BTreeMap<String, Resource<ApiEvent>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ApiEvent {
    path: String,
    method: String,
    auth: EventAuth,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EventAuth {
    authorizer: Option<String>,
    authorization_scopes: Vec<String>,
}

impl ServerlessFunction {
    fn routes(self, default_timeout: u32, authorizer: &str) -> Result<Vec<Route>> {
        let timeout = self.properties.timeout.unwrap_or(default_timeout);
        let mut routes = Vec::new();
        for event in self.properties.events.into_values() {
            let ApiEvent { path, method, auth } = event.properties;
            if auth.authorizer.is_some_and(|own| own != authorizer) {
                bail!("{method} {path} must use the authorizer {authorizer}");
            }
            if auth.authorization_scopes.is_empty() {
                // A Cognito authorizer without scopes expects an ID token, which client credentials never give.
                bail!("{method} {path} needs a scope");
            }
            routes.push(Route {
                method: method.to_uppercase().parse()?,
                resource: path,
                scopes: auth.authorization_scopes,
                function: self.metadata.build_properties.binary,
                timeout: Duration::from_secs(timeout.into()),
            });
        }
        Ok(routes)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Client {
    access_token_validity: u32,
    token_validity_units: TokenValidityUnits,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TokenValidityUnits {
    access_token: TimeUnit,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum TimeUnit {
    Seconds,
    Minutes,
    Hours,
    Days,
}

impl TimeUnit {
    const fn duration(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Seconds => 1,
            Self::Minutes => 60,
            Self::Hours => 3_600,
            Self::Days => 86_400,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: (&str, &str)) -> String {
        let text = TEXT.replacen(change.0, change.1, 1);
        assert_ne!(text, TEXT, "{change:?}");
        Template::parse(&text).map_or_else(|error| format!("{error:#}"), |_| "accepted".to_owned())
    }

    #[test]
    fn the_template_says_what_is_served() -> Result<()> {
        let template = Template::get()?;
        let routes: Vec<_> = template
            .routes
            .iter()
            .map(|r| (r.method.as_str(), r.resource.as_str(), r.function))
            .collect();
        let devices = "/users/{userName}/mfadevices";
        let (activate, remove) = (
            format!("{devices}/{{authId}}"),
            format!("{devices}/TOTP/{{deviceName}}"),
        );
        assert_eq!(
            routes,
            [
                ("POST", "/deviceAuthentications", Function::InitAuth),
                ("POST", &*activate, Function::ManageDevices),
                ("GET", devices, Function::ManageDevices),
                ("POST", devices, Function::ManageDevices),
                ("DELETE", &*remove, Function::ManageDevices),
                ("POST", "/deviceAuthentications/{authId}", Function::ValidateOtp),
            ]
        );
        for route in &template.routes {
            let scope = match route.function {
                Function::ManageDevices => "mfa/devices",
                _ => "mfa/authenticate",
            };
            assert_eq!(
                (route.scopes.as_slice(), route.timeout.as_secs()),
                ([scope.to_owned()].as_slice(), 5)
            );
        }
        assert_eq!((template.stage.as_str(), template.token_life.as_secs()), ("v1", 3_600));
        assert_eq!(template.scopes, ["mfa/authenticate", "mfa/devices"]);
        let server = &template.resource_server;
        assert_eq!((server.identifier.as_str(), server.name.as_str()), ("mfa", "mfa"));
        Ok(())
    }

    #[test]
    fn the_template_says_what_is_stored() -> Result<()> {
        let described: Vec<_> = Template::get()?
            .tables
            .clone()
            .into_iter()
            .map(|table| {
                let ttl_attribute = table.ttl_attribute().map(ToOwned::to_owned);
                let attributes = table.attribute_definitions.into_iter();
                let attributes: Vec<_> = attributes.map(|a| (a.attribute_name, a.attribute_type)).collect();
                let key: Vec<_> = table
                    .key_schema
                    .into_iter()
                    .map(|k| (k.attribute_name, k.key_type))
                    .collect();
                (table.name, attributes, key, ttl_attribute)
            })
            .collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let auths = (
            "Auths".to_owned(),
            vec![pair("pk", "S")],
            vec![pair("pk", "HASH")],
            Some("expiresAt".to_owned()),
        );
        let devices = (
            "Devices".to_owned(),
            vec![pair("pk", "S"), pair("sk", "S")],
            vec![pair("pk", "HASH"), pair("sk", "RANGE")],
            None,
        );
        assert_eq!(described, [auths, devices]);
        Ok(())
    }

    #[test]
    fn tags_become_the_long_forms_of_functions() -> Result<()> {
        let text = "{ a: !Ref X, b: !GetAtt X.Arn, c: !If [Y, !Sub '${X}', ~], d: !Condition Z, e: 1.5 }";
        let expected = json!({
            "a": { "Ref": "X" }, "b": { "Fn::GetAtt": "X.Arn" },
            "c": { "Fn::If": ["Y", { "Fn::Sub": "${X}" }, null] }, "d": { "Condition": "Z" }, "e": 1.5,
        });
        assert_eq!(yaml_to_json(text)?, expected);
        for refused in ["", "a\n---\nb", "{ [1]: a }", "["] {
            assert!(yaml_to_json(refused).is_err(), "{refused}");
        }
        Ok(())
    }

    #[test]
    fn a_method_without_a_scope_or_with_another_authorizer_is_refused() {
        assert!(refused(("AuthorizationScopes: [mfa/authenticate]", "AuthorizationScopes: []")).contains("scope"));
        assert!(
            refused((
                "Authorizer: Cognito\n              Auth",
                "Authorizer: NONE\n              Auth"
            ))
            .contains("authorizer")
        );
        assert!(
            refused(("              AuthorizationScopes: [mfa/authenticate]\n", "")).contains("AuthorizationScopes")
        );
    }

    #[test]
    fn an_error_says_where_it_is() {
        let error = refused(("StageName: v1", "StageName: !Ref Stage"));
        assert!(
            error.contains("Resources.Api.Properties.StageName: invalid type"),
            "{error}"
        );
        assert!(refused(("        UNAUTHORIZED:", "        OTHER:")).contains("has no UNAUTHORIZED"));
        assert!(refused(("Binary: init-auth", "Binary: other")).contains("other"));
    }
}

//! What the local stack needs to know of `template.yaml`: routes with their scopes and functions, gateway responses,
//! tables, and what Cognito's client may do. What runs here is what deploys.
//!
//! These parts use none of the template language's functions (`!Ref`, `!Sub`, …). A value that is not literal is
//! refused rather than guessed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use saphyr::{LoadableYamlNode as _, Scalar, Yaml};

/// The template of this checkout.
pub(crate) const OF_THIS_CHECKOUT: &str = include_str!("../../../template.yaml");

/// A function of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Step 2.
    InitAuth,
    /// Step 3.
    ValidateOtp,
}

impl Function {
    fn of_binary(name: &str) -> Result<Self> {
        match name {
            "init-auth" => Ok(Self::InitAuth),
            "validate-otp" => Ok(Self::ValidateOtp),
            _ => bail!("no function is built from the binary {name}"),
        }
    }
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

/// An answer that the gateway itself gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GatewayResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// With `$context.extendedRequestId` in it.
    pub(crate) body: String,
}

/// Why the gateway answers itself, by API Gateway's names.
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

    pub(crate) const fn response_type(self) -> &'static str {
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

/// A table, in the words of `CreateTable`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Name and type (`S`, `N`, `B`).
    pub(crate) attributes: Vec<(String, String)>,
    /// Name and role (`HASH`, `RANGE`).
    pub(crate) key: Vec<(String, String)>,
    pub(crate) ttl_attribute: Option<String>,
}

/// What scopes belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResourceServer {
    pub(crate) identifier: String,
    pub(crate) name: String,
    /// Name, without the identifier before it, and description.
    pub(crate) scopes: Vec<(String, String)>,
}

/// What the template calls the things that there is one of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) api: String,
    pub(crate) authorizer: String,
    pub(crate) user_pool: String,
    pub(crate) resource_server: String,
    pub(crate) client: String,
}

/// The parts of the template that the local stack uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) stage: String,
    pub(crate) routes: Vec<Route>,
    pub(crate) responses: BTreeMap<Refusal, GatewayResponse>,
    pub(crate) tables: Vec<Table>,
    /// The scopes that clients may have.
    pub(crate) scopes: Vec<String>,
    pub(crate) resource_server: ResourceServer,
    pub(crate) token_life: Duration,
    pub(crate) names: Names,
    /// What parameters are if nothing else is said.
    pub(crate) defaults: BTreeMap<String, String>,
    /// The names of the outputs.
    pub(crate) outputs: Vec<String>,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let documents = Yaml::load_from_str(text).context("template.yaml is not YAML")?;
        let [document] = documents.as_slice() else {
            bail!("template.yaml must have one document")
        };
        let root = Node {
            at: "template.yaml".to_owned(),
            yaml: document,
        };
        let resources = root.get("Resources")?.entries()?;
        let of_type = |wanted: &str| -> Result<Vec<&(String, Node<'_>)>> {
            let mut found = Vec::new();
            for resource in &resources {
                if resource.1.get("Type")?.text()? == wanted {
                    found.push(resource);
                }
            }
            Ok(found)
        };
        let one_of_type = |wanted: &str| -> Result<&(String, Node<'_>)> {
            match of_type(wanted)?.as_slice() {
                [one] => Ok(*one),
                found => bail!("template.yaml has {} resources of type {wanted}, not one", found.len()),
            }
        };

        let (api_name, api) = one_of_type("AWS::Serverless::Api")?;
        let api = api.get("Properties")?;
        let authorizer = api.get("Auth")?.get("DefaultAuthorizer")?.text()?;
        let default_timeout = root.get("Globals")?.get("Function")?.get("Timeout")?.seconds()?;
        let mut routes = Vec::new();
        for (_, function) in of_type("AWS::Serverless::Function")? {
            routes.extend(routes_of(function, default_timeout, &authorizer)?);
        }

        let responses = api.get("GatewayResponses")?;
        let responses = Refusal::ALL
            .into_iter()
            .map(|refusal| Ok((refusal, gateway_response(&responses.get(refusal.response_type())?)?)))
            .collect::<Result<_>>()?;

        let tables = of_type("AWS::DynamoDB::Table")?
            .into_iter()
            .map(|(name, table)| table_of(name, table))
            .collect::<Result<_>>()?;

        let (client_name, client) = one_of_type("AWS::Cognito::UserPoolClient")?;
        let client = client.get("Properties")?;
        let (server_name, server) = one_of_type("AWS::Cognito::UserPoolResourceServer")?;
        let unit = match client.get("TokenValidityUnits")?.get("AccessToken")?.text()?.as_str() {
            "seconds" => 1,
            "minutes" => 60,
            "hours" => 3_600,
            "days" => 86_400,
            other => bail!("{other} is not a unit of token life"),
        };
        Ok(Self {
            stage: api.get("StageName")?.text()?,
            routes,
            responses,
            tables,
            scopes: client.get("AllowedOAuthScopes")?.texts()?,
            resource_server: resource_server(server)?,
            token_life: client.get("AccessTokenValidity")?.seconds()? * unit,
            names: Names {
                api: api_name.clone(),
                authorizer,
                user_pool: one_of_type("AWS::Cognito::UserPool")?.0.clone(),
                resource_server: server_name.clone(),
                client: client_name.clone(),
            },
            defaults: defaults(&root.get("Parameters")?)?,
            outputs: root
                .get("Outputs")?
                .entries()?
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
        })
    }

    /// The answer for a refusal. [`Template::parse`] has seen to it that there is one for each.
    pub(crate) fn response(&self, refusal: Refusal) -> Option<&GatewayResponse> {
        self.responses.get(&refusal)
    }
}

fn routes_of(function: &Node<'_>, default_timeout: Duration, authorizer: &str) -> Result<Vec<Route>> {
    let binary = function
        .get("Metadata")?
        .get("BuildProperties")?
        .get("Binary")?
        .text()?;
    let properties = function.get("Properties")?;
    let timeout = match properties.find("Timeout") {
        Some(timeout) => timeout.seconds()?,
        None => default_timeout,
    };
    let mut routes = Vec::new();
    for (_, event) in properties.get("Events")?.entries()? {
        if event.get("Type")?.text()? != "Api" {
            continue;
        }
        let event = event.get("Properties")?;
        let auth = event.get("Auth")?;
        if auth
            .find("Authorizer")
            .map(|own| own.text())
            .transpose()?
            .is_some_and(|own| own != authorizer)
        {
            bail!("{} must use the authorizer {authorizer}", auth.at);
        }
        let scopes = auth.get("AuthorizationScopes")?.texts()?;
        if scopes.is_empty() {
            // A Cognito authorizer without scopes expects an ID token, which client credentials never give.
            bail!("{} needs a scope", auth.at);
        }
        routes.push(Route {
            method: event.get("Method")?.text()?.to_uppercase().parse()?,
            resource: event.get("Path")?.text()?,
            scopes,
            function: Function::of_binary(&binary)?,
            timeout,
        });
    }
    Ok(routes)
}

fn gateway_response(node: &Node<'_>) -> Result<GatewayResponse> {
    let status = u16::try_from(node.get("StatusCode")?.integer()?)?;
    let mut headers = Vec::new();
    for (name, value) in node.get("ResponseParameters")?.get("Headers")?.entries()? {
        let value = value.text()?;
        // A static value is written in single quotes; anything else would be a mapping expression.
        let value = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
        let value = value.with_context(|| format!("{}: {name} is not a static value", node.at))?;
        headers.push((name.parse()?, value.parse()?));
    }
    let body = node.get("ResponseTemplates")?.get("application/json")?.text()?;
    Ok(GatewayResponse {
        status: StatusCode::from_u16(status)?,
        headers,
        body,
    })
}

fn table_of(name: &str, table: &Node<'_>) -> Result<Table> {
    let properties = table.get("Properties")?;
    let pairs = |list: &str, value: &str| -> Result<Vec<(String, String)>> {
        let pair = |item: &Node<'_>| Ok((item.get("AttributeName")?.text()?, item.get(value)?.text()?));
        properties.get(list)?.items()?.iter().map(pair).collect()
    };
    let ttl_attribute = match properties.find("TimeToLiveSpecification") {
        Some(ttl) if ttl.get("Enabled")?.boolean()? => Some(ttl.get("AttributeName")?.text()?),
        _ => None,
    };
    Ok(Table {
        name: name.to_owned(),
        attributes: pairs("AttributeDefinitions", "AttributeType")?,
        key: pairs("KeySchema", "KeyType")?,
        ttl_attribute,
    })
}

fn resource_server(node: &Node<'_>) -> Result<ResourceServer> {
    let properties = node.get("Properties")?;
    let scope = |scope: &Node<'_>| Ok((scope.get("ScopeName")?.text()?, scope.get("ScopeDescription")?.text()?));
    Ok(ResourceServer {
        identifier: properties.get("Identifier")?.text()?,
        name: properties.get("Name")?.text()?,
        scopes: properties
            .get("Scopes")?
            .items()?
            .iter()
            .map(scope)
            .collect::<Result<_>>()?,
    })
}

fn defaults(parameters: &Node<'_>) -> Result<BTreeMap<String, String>> {
    let mut defaults = BTreeMap::new();
    for (name, parameter) in parameters.entries()? {
        if let Some(default) = parameter.find("Default") {
            // CloudFormation's values are text, whatever the parameter's type.
            let value = default
                .integer()
                .map_or_else(|_| default.text(), |number| Ok(number.to_string()));
            defaults.insert(name, value?);
        }
    }
    Ok(defaults)
}

/// A node that knows where it is, so that errors can say so.
#[derive(Debug)]
struct Node<'a> {
    at: String,
    yaml: &'a Yaml<'a>,
}

impl<'a> Node<'a> {
    fn find(&self, name: &str) -> Option<Self> {
        let yaml = self.yaml.as_mapping_get(name)?;
        Some(Self {
            at: format!("{} / {name}", self.at),
            yaml,
        })
    }

    fn get(&self, name: &str) -> Result<Self> {
        self.find(name).with_context(|| format!("{} has no {name}", self.at))
    }

    fn entries(&self) -> Result<Vec<(String, Self)>> {
        let mapping = self
            .yaml
            .as_mapping()
            .with_context(|| format!("{} is not a mapping", self.at))?;
        let entry = |(name, yaml): (&'a Yaml<'a>, &'a Yaml<'a>)| {
            let name = name
                .as_str()
                .with_context(|| format!("{} has a key that is not text", self.at))?;
            Ok((
                name.to_owned(),
                Self {
                    at: format!("{} / {name}", self.at),
                    yaml,
                },
            ))
        };
        mapping.iter().map(entry).collect()
    }

    fn items(&self) -> Result<Vec<Self>> {
        let list = self
            .yaml
            .as_sequence()
            .with_context(|| format!("{} is not a list", self.at))?;
        Ok(list
            .iter()
            .enumerate()
            .map(|(i, yaml)| Self {
                at: format!("{} / {i}", self.at),
                yaml,
            })
            .collect())
    }

    fn texts(&self) -> Result<Vec<String>> {
        self.items()?.iter().map(Self::text).collect()
    }

    fn text(&self) -> Result<String> {
        // A tagged node, such as `!Ref X`, is not a `Value`.
        match self.yaml {
            Yaml::Value(Scalar::String(text)) => Ok(text.to_string()),
            _ => bail!("{} is not literal text", self.at),
        }
    }

    fn integer(&self) -> Result<i64> {
        match self.yaml {
            Yaml::Value(Scalar::Integer(number)) => Ok(*number),
            _ => bail!("{} is not a literal number", self.at),
        }
    }

    fn seconds(&self) -> Result<Duration> {
        let number = self.integer()?;
        Ok(Duration::from_secs(
            u64::try_from(number).with_context(|| format!("{} is negative", self.at))?,
        ))
    }

    fn boolean(&self) -> Result<bool> {
        match self.yaml {
            Yaml::Value(Scalar::Boolean(value)) => Ok(*value),
            _ => bail!("{} is not true or false", self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: (&str, &str)) -> String {
        let text = OF_THIS_CHECKOUT.replacen(change.0, change.1, 1);
        assert_ne!(text, OF_THIS_CHECKOUT, "{change:?}");
        Template::parse(&text).map_or_else(|error| format!("{error:#}"), |_| "accepted".to_owned())
    }

    #[test]
    fn the_template_says_what_is_served() -> Result<()> {
        let template = Template::parse(OF_THIS_CHECKOUT)?;
        let routes: Vec<_> = template
            .routes
            .iter()
            .map(|r| (r.method.as_str(), r.resource.as_str(), r.function))
            .collect();
        assert_eq!(
            routes,
            [
                ("POST", "/deviceAuthentications", Function::InitAuth),
                ("POST", "/deviceAuthentications/{authId}", Function::ValidateOtp),
            ]
        );
        for route in &template.routes {
            assert_eq!(
                (route.scopes.as_slice(), route.timeout.as_secs()),
                (["mfa/authenticate".to_owned()].as_slice(), 5)
            );
        }
        assert_eq!((template.stage.as_str(), template.token_life.as_secs()), ("v1", 3_600));
        assert_eq!(template.scopes, ["mfa/authenticate"]);
        let server = &template.resource_server;
        assert_eq!((server.identifier.as_str(), server.name.as_str()), ("mfa", "mfa"));
        let scopes = server
            .scopes
            .iter()
            .map(|(name, _)| format!("{}/{name}", server.identifier));
        assert_eq!(scopes.collect::<Vec<_>>(), template.scopes);
        Ok(())
    }

    #[test]
    fn the_template_says_what_is_stored() -> Result<()> {
        let template = Template::parse(OF_THIS_CHECKOUT)?;
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let auths = Table {
            name: "Auths".to_owned(),
            attributes: vec![pair("pk", "S")],
            key: vec![pair("pk", "HASH")],
            ttl_attribute: Some("expiresAt".to_owned()),
        };
        let devices = Table {
            name: "Devices".to_owned(),
            attributes: vec![pair("pk", "S"), pair("sk", "S")],
            key: vec![pair("pk", "HASH"), pair("sk", "RANGE")],
            ttl_attribute: None,
        };
        assert_eq!(template.tables, [auths, devices]);
        Ok(())
    }

    #[test]
    fn every_gateway_response_has_the_error_body_and_the_standard_headers() -> Result<()> {
        let documents = Yaml::load_from_str(OF_THIS_CHECKOUT)?;
        let root = Node {
            at: String::new(),
            yaml: documents.first().context("empty")?,
        };
        let responses = root
            .get("Resources")?
            .get("Api")?
            .get("Properties")?
            .get("GatewayResponses")?
            .entries()?;
        assert_eq!(responses.len(), 21);
        for (name, node) in responses {
            let response = gateway_response(&node)?;
            let header = |name: &str| {
                let found = response.headers.iter().find(|(n, _)| n.as_str() == name);
                found.and_then(|(_, value)| value.to_str().ok())
            };
            assert_eq!(header("cache-control"), Some("no-store"), "{name}");
            assert_eq!(header("x-content-type-options"), Some("nosniff"), "{name}");
            let status = response.status.as_u16();
            assert_eq!(
                header("www-authenticate"),
                (status == 401).then_some("Bearer"),
                "{name}"
            );
            assert_eq!(
                header("retry-after"),
                matches!(status, 429 | 503).then_some("1"),
                "{name}"
            );
            let body: BTreeMap<String, String> = serde_json::from_str(&response.body)?;
            let members: Vec<_> = body.keys().map(String::as_str).collect();
            assert_eq!(members, ["code", "message", "status", "traceId"], "{name}");
            assert_eq!(
                body.get("traceId").map(String::as_str),
                Some("$context.extendedRequestId"),
                "{name}"
            );
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
            error.contains("Resources / Api / Properties / StageName is not literal"),
            "{error}"
        );
        assert!(refused(("        UNAUTHORIZED:", "        OTHER:")).contains("has no UNAUTHORIZED"));
        assert!(refused(("Binary: init-auth", "Binary: other")).contains("other"));
    }
}

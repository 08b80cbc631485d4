//! What a deployed stack says of itself, on loopback: `CloudFormation`'s answers about the stack (Query protocol) and API
//! Gateway's about its API (REST JSON), as AWS's own tools ask for them.
//!
//! At first it says what really is here; a test may have it say something else. It is asked for descriptions only:
//! nothing here changes what the gateway does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use axum::extract::rejection::FormRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};
use shared::clock::{Clock as _, Timestamp};
use shared::config;

use crate::clock::LocalClock;
use crate::event::API_ID;
use crate::exception::Exception;
use crate::identity::{ACCOUNT_ID, Identity, REGION};
use crate::random;
use crate::registry::{AUTHS_TABLE, DEVICES_TABLE, SEED_PREFIX};
use crate::template::Template;

/// The most resources of a page of `CloudFormation`, far fewer than AWS's, so that whoever reads them has to turn pages.
const RESOURCES_OF_A_PAGE: usize = 3;
/// The same for API Gateway, if no smaller limit is asked for.
const ITEMS_OF_A_PAGE: usize = 2;
/// The highest limit that API Gateway takes.
const HIGHEST_LIMIT: usize = 500;
const XML_NAMESPACE: &str = "http://cloudformation.amazonaws.com/doc/2010-05-15/";
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// What a stack consists of, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// Its name.
    pub stack_name: String,
    /// Its ARN.
    pub stack_id: String,
    /// Such as `CREATE_COMPLETE`.
    pub status: String,
    /// When it and its resources were created.
    pub created: Timestamp,
    /// Values by the names of the template's outputs.
    pub outputs: BTreeMap<String, String>,
    /// Values by the names of the template's parameters.
    pub parameters: BTreeMap<String, String>,
    /// What it owns, in the order in which it is listed.
    pub resources: Vec<Resource>,
    /// The id of its API; of any other, API Gateway says that there is none.
    pub api_id: String,
    /// Who decides about callers of the API.
    pub authorizers: Vec<Authorizer>,
    /// What can be called.
    pub methods: Vec<Method>,
}

/// Something that a stack owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name in the template.
    pub logical_id: String,
    /// Its name in its own service.
    pub physical_id: String,
    /// Such as `AWS::DynamoDB::Table`.
    pub resource_type: String,
    /// Such as `CREATE_COMPLETE`.
    pub status: String,
}

/// An authorizer of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorizer {
    /// Its id, which methods refer to.
    pub id: String,
    /// Its name in the template.
    pub name: String,
    /// Such as `COGNITO_USER_POOLS`.
    pub authorizer_type: String,
    /// The ARNs of the user pools whose tokens it takes.
    pub provider_arns: Vec<String>,
}

/// A method of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// The path as the template has it, such as `/deviceAuthentications/{authId}`.
    pub path: String,
    /// Such as `POST`.
    pub http_method: String,
    /// `COGNITO_USER_POOLS`, or `NONE` if everybody may call it.
    pub authorization_type: String,
    /// Which authorizer decides.
    pub authorizer_id: Option<String>,
    /// Of these scopes, a token needs one.
    pub authorization_scopes: Vec<String>,
}

/// What is said is taken from these.
pub(crate) struct Here<'a> {
    pub(crate) template: &'a Template,
    pub(crate) identity: &'a Identity,
    /// The settings of the functions.
    pub(crate) environment: &'a BTreeMap<String, String>,
    pub(crate) api_url: String,
    pub(crate) token_url: String,
    pub(crate) now: Timestamp,
}

impl Deployed {
    pub(crate) fn of(here: &Here<'_>) -> Result<Self> {
        const COMPLETE: &str = "CREATE_COMPLETE";
        const OF_COGNITO: &str = "COGNITO_USER_POOLS";
        let Here { template, identity, .. } = here;
        let [first, _] = identity.clients();
        let outputs = [
            ("ApiUrl", here.api_url.as_str()),
            ("TokenUrl", here.token_url.as_str()),
            ("UserPoolId", identity.pool_id()),
            ("ClientId", first.id().as_str()),
            ("AuthsTable", AUTHS_TABLE),
            ("DevicesTable", DEVICES_TABLE),
            ("SeedPrefix", &format!("{SEED_PREFIX}/seed/")),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));

        let names = &template.names;
        let resources = [
            (AUTHS_TABLE, AUTHS_TABLE, "AWS::DynamoDB::Table"),
            (DEVICES_TABLE, DEVICES_TABLE, "AWS::DynamoDB::Table"),
            // What the SAM transform makes of it.
            (&names.api, API_ID, "AWS::ApiGateway::RestApi"),
            (&names.user_pool, identity.pool_id(), "AWS::Cognito::UserPool"),
            (
                &names.resource_server,
                &template.resource_server.identifier,
                "AWS::Cognito::UserPoolResourceServer",
            ),
            (&names.client, first.id().as_str(), "AWS::Cognito::UserPoolClient"),
        ]
        .map(|(logical_id, physical_id, resource_type)| Resource {
            logical_id: logical_id.to_owned(),
            physical_id: physical_id.to_owned(),
            resource_type: resource_type.to_owned(),
            status: COMPLETE.to_owned(),
        });

        let authorizer = Authorizer {
            id: word_of(&names.authorizer),
            name: names.authorizer.clone(),
            authorizer_type: OF_COGNITO.to_owned(),
            provider_arns: vec![identity.pool_arn()],
        };
        let method = |route: &crate::template::Route| Method {
            path: route.resource.clone(),
            http_method: route.method.to_string(),
            authorization_type: OF_COGNITO.to_owned(),
            authorizer_id: Some(authorizer.id.clone()),
            authorization_scopes: route.scopes.clone(),
        };
        Ok(Self {
            stack_name: SEED_PREFIX.to_owned(),
            stack_id: stack_id(SEED_PREFIX, identity.pool_id()),
            status: COMPLETE.to_owned(),
            created: here.now,
            outputs: outputs.into(),
            parameters: parameters(template, here.environment)?,
            resources: resources.into(),
            api_id: API_ID.to_owned(),
            methods: template.routes.iter().map(method).collect(),
            authorizers: vec![authorizer],
        })
    }
}

/// How guesses are rationed as the functions were told, or else as the template has it by default; the others as they
/// would have to be for what is here.
fn parameters(template: &Template, environment: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let told = [
        ("GuessPolicy", config::GUESS_POLICY),
        ("GuessBurst", config::GUESS_BURST),
        ("GuessRefillHours", config::GUESS_REFILL_HOURS),
        ("GuessPairGapSeconds", config::GUESS_PAIR_GAP_SECONDS),
    ];
    let given = [("Protect", "false"), ("Watch", "false"), ("SeedKey", "")];
    let mut parameters = BTreeMap::from(given.map(|(name, value)| (name.to_owned(), value.to_owned())));
    for (name, setting) in told {
        let value = environment.get(setting).or_else(|| template.defaults.get(name));
        let value = value.with_context(|| format!("the template has no default of {name}"))?;
        parameters.insert(name.to_owned(), value.clone());
    }
    Ok(parameters)
}

/// The same for the same pool, so that it outlives a restart with a data directory.
fn stack_id(name: &str, pool_id: &str) -> String {
    let hash = digest(&SHA256, pool_id.as_bytes());
    let bytes = hash.as_ref().first_chunk().copied().unwrap_or_default();
    let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
    format!(
        "arn:aws:cloudformation:{REGION}:{ACCOUNT_ID}:stack/{name}/{}",
        id.hyphenated()
    )
}

/// Ten letters and digits, as API Gateway names things, always the same for the same text.
fn word_of(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    HEXLOWER.encode(hash.as_ref().get(..5).unwrap_or_default())
}

/// What a stack says of itself.
#[derive(Debug)]
pub struct ControlPlane {
    deployed: Mutex<Deployed>,
    clock: Arc<LocalClock>,
    url: String,
}

impl ControlPlane {
    pub(crate) fn new(deployed: Deployed, clock: &Arc<LocalClock>, url: String) -> Self {
        Self {
            deployed: Mutex::new(deployed),
            clock: Arc::clone(clock),
            url,
        }
    }

    /// Where it is asked.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it says now.
    #[must_use]
    pub fn deployed(&self) -> Deployed {
        self.deployed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what it says from now on.
    pub fn change(&self, change: impl FnOnce(&mut Deployed)) {
        change(&mut self.deployed.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

pub(crate) fn router(control_plane: &Arc<ControlPlane>) -> Router {
    Router::new()
        .route("/", post(cloudformation))
        .route("/restapis/{id}/authorizers", get(authorizers))
        .route("/restapis/{id}/resources", get(api_resources))
        .fallback(async || {
            rest_json(Err(Exception::of(
                "BadRequestException",
                "The local stack does not serve that.",
            )))
        })
        .layer(map_response_with_state(Arc::clone(control_plane), dated))
        .with_state(Arc::clone(control_plane))
}

/// The stack's time instead of the machine's, which the server would put there.
async fn dated(State(control_plane): State<Arc<ControlPlane>>, mut response: Response) -> Response {
    let now = control_plane.clock.now().as_secs();
    let date = DateTime::from_secs(i64::try_from(now).unwrap_or(i64::MAX)).fmt(DateTimeFormat::HttpDate);
    if let Some(date) = date.ok().and_then(|date| HeaderValue::try_from(date).ok()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

/// A part of a list, and what the next one is asked for with.
struct Page<'a, T> {
    items: &'a [T],
    next: Option<&'a str>,
}

/// The part after the item that the last one ended with; `None` if there is no such item.
fn page<'a, T>(all: &'a [T], id: impl Fn(&'a T) -> &'a str, after: Option<&str>, most: usize) -> Option<Page<'a, T>> {
    let rest = match after {
        None => all,
        Some(after) => {
            let last = all.iter().position(|item| id(item) == after)?;
            all.get(last + 1..)?
        }
    };
    let (items, others) = rest.split_at_checked(most).unwrap_or((rest, &[]));
    let next = items.last().filter(|_| !others.is_empty()).map(id);
    Some(Page { items, next })
}

// CloudFormation

type Asked = BTreeMap<String, String>;

async fn cloudformation(
    State(control_plane): State<Arc<ControlPlane>>,
    asked: Result<Form<Asked>, FormRejection>,
) -> Response {
    let answer = match asked {
        Ok(Form(asked)) => control_plane.deployed().answer(&asked),
        Err(_) => Err(Exception::of("MalformedQueryString", "The request is not a form.")),
    };
    let id = random::uuid().unwrap_or_default();
    let (status, xml) = match answer {
        Ok((action, result)) => {
            let result = element(&format!("{action}Result"), &result);
            let metadata = element("ResponseMetadata", &text("RequestId", &id));
            let body = format!("{result}{metadata}");
            (StatusCode::OK, document(&format!("{action}Response"), &body))
        }
        Err(Exception { status, name, message }) => {
            let error = [text("Type", "Sender"), text("Code", name), text("Message", &message)].concat();
            let body = format!("{}{}", element("Error", &error), text("RequestId", &id));
            (status, document("ErrorResponse", &body))
        }
    };
    (status, [(header::CONTENT_TYPE, "text/xml")], xml).into_response()
}

impl Deployed {
    /// The action that was answered, and what is in its result.
    fn answer(&self, asked: &Asked) -> Result<(&'static str, String), Exception> {
        let stack = asked.get("StackName").map(String::as_str);
        let after = asked.get("NextToken").map(String::as_str);
        match asked.get("Action").map(String::as_str).unwrap_or_default() {
            "DescribeStacks" => {
                if let Some(stack) = stack {
                    self.must_be(stack)?;
                }
                if after.is_some() {
                    return Err(invalid("NextToken is not valid"));
                }
                Ok(("DescribeStacks", element("Stacks", &element("member", &self.stack()))))
            }
            "ListStackResources" => {
                self.must_be(stack.ok_or_else(|| invalid("StackName is missing"))?)?;
                let page = page(
                    &self.resources,
                    |resource| resource.logical_id.as_str(),
                    after,
                    RESOURCES_OF_A_PAGE,
                );
                let page = page.ok_or_else(|| invalid("NextToken is not valid"))?;
                let members: String = page.items.iter().map(|resource| self.summary(resource)).collect();
                let next = page.next.map(|next| text("NextToken", next)).unwrap_or_default();
                let result = format!("{}{next}", element("StackResourceSummaries", &members));
                Ok(("ListStackResources", result))
            }
            action => {
                let message = format!("Could not find operation {action} for version 2010-05-15");
                Err(Exception::of("InvalidAction", message))
            }
        }
    }

    /// A stack is asked for by its name or by its id.
    fn must_be(&self, stack: &str) -> Result<(), Exception> {
        if [&self.stack_name, &self.stack_id].into_iter().any(|own| own == stack) {
            return Ok(());
        }
        Err(invalid(format!("Stack with id {stack} does not exist")))
    }

    fn stack(&self) -> String {
        let pairs = |list: &str, key: &str, value: &str, values: &BTreeMap<String, String>| {
            let members = values.iter().map(|(name, held)| {
                let member = [text(key, name), text(value, held)].concat();
                element("member", &member)
            });
            element(list, &members.collect::<String>())
        };
        [
            text("StackName", &self.stack_name),
            text("StackId", &self.stack_id),
            text("StackStatus", &self.status),
            text("CreationTime", &iso_8601(self.created)),
            pairs("Outputs", "OutputKey", "OutputValue", &self.outputs),
            pairs("Parameters", "ParameterKey", "ParameterValue", &self.parameters),
        ]
        .concat()
    }

    fn summary(&self, resource: &Resource) -> String {
        let summary = [
            text("LogicalResourceId", &resource.logical_id),
            text("PhysicalResourceId", &resource.physical_id),
            text("ResourceType", &resource.resource_type),
            text("ResourceStatus", &resource.status),
            text("LastUpdatedTimestamp", &iso_8601(self.created)),
        ];
        element("member", &summary.concat())
    }
}

fn invalid(message: impl Into<String>) -> Exception {
    Exception::of("ValidationError", message)
}

fn iso_8601(at: Timestamp) -> String {
    let at = DateTime::from_millis(i64::try_from(at.as_millis()).unwrap_or(i64::MAX));
    at.fmt(DateTimeFormat::DateTime).unwrap_or_default()
}

fn document(name: &str, content: &str) -> String {
    format!("<{name} xmlns=\"{XML_NAMESPACE}\">{content}</{name}>")
}

/// An element that holds XML.
fn element(name: &str, content: &str) -> String {
    format!("<{name}>{content}</{name}>")
}

/// An element that holds text.
fn text(name: &str, text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // A reader would take line ends apart from these for line feeds.
            '\r' => escaped.push_str("&#13;"),
            other => escaped.push(other),
        }
    }
    element(name, &escaped)
}

// API Gateway

type Queries = Query<Vec<(String, String)>>;

async fn authorizers(
    State(control_plane): State<Arc<ControlPlane>>,
    Path(api): Path<String>,
    Query(queries): Queries,
) -> Response {
    let deployed = control_plane.deployed();
    rest_json(deployed.authorizers(&api, &queries))
}

async fn api_resources(
    State(control_plane): State<Arc<ControlPlane>>,
    Path(api): Path<String>,
    Query(queries): Queries,
) -> Response {
    let deployed = control_plane.deployed();
    rest_json(deployed.api_resources(&api, &queries))
}

/// An answer of the protocol REST JSON.
fn rest_json(answer: Result<Value, Exception>) -> Response {
    let id = [(REQUEST_ID, random::uuid().unwrap_or_default())];
    match answer {
        Ok(answer) => (id, Json(answer)).into_response(),
        Err(Exception { status, name, message }) => {
            (status, id, [(ERROR_TYPE, name)], Json(json!({ "message": message }))).into_response()
        }
    }
}

/// A path of the API; API Gateway has one for every part of a path, whether it can be called or not.
struct ApiResource {
    id: String,
    path: String,
}

impl Deployed {
    fn authorizers(&self, api: &str, queries: &[(String, String)]) -> Result<Value, Exception> {
        self.must_have(api)?;
        let authorizer = |authorizer: &Authorizer| {
            json!({
                "id": authorizer.id,
                "name": authorizer.name,
                "type": authorizer.authorizer_type,
                "providerARNs": authorizer.provider_arns,
                "authType": "cognito_user_pools",
                "identitySource": "method.request.header.Authorization",
            })
        };
        items(&self.authorizers, |item| &item.id, authorizer, queries)
    }

    fn api_resources(&self, api: &str, queries: &[(String, String)]) -> Result<Value, Exception> {
        self.must_have(api)?;
        let mut embedded = queries
            .iter()
            .filter(|(name, _)| name == "embed")
            .map(|(_, value)| value);
        let with_methods = match embedded.next().map(String::as_str) {
            None => false,
            Some("methods") => true,
            Some(other) => {
                let message = format!("The local stack does not embed {other}.");
                return Err(Exception::of("BadRequestException", message));
            }
        };
        let mut paths = BTreeSet::from(["/"]);
        for method in &self.methods {
            paths.extend(std::iter::successors(Some(method.path.as_str()), |path| parent(path)));
        }
        let resources: Vec<ApiResource> = paths
            .into_iter()
            .map(|path| ApiResource {
                id: word_of(path),
                path: path.to_owned(),
            })
            .collect();
        let described = |resource: &ApiResource| self.api_resource(resource, with_methods);
        items(&resources, |item| &item.id, described, queries)
    }

    fn api_resource(&self, resource: &ApiResource, with_methods: bool) -> Value {
        let mut described = Map::new();
        described.insert("id".to_owned(), resource.id.as_str().into());
        described.insert("path".to_owned(), resource.path.as_str().into());
        if let Some(parent) = parent(&resource.path) {
            let part = resource.path.rsplit('/').next().unwrap_or_default();
            described.insert("parentId".to_owned(), word_of(parent).into());
            described.insert("pathPart".to_owned(), part.into());
        }
        let methods = self.methods.iter().filter(|method| method.path == resource.path);
        let methods: Map<String, Value> = methods
            .map(|method| {
                // Otherwise they are named only.
                let described = if with_methods { method.described() } else { json!({}) };
                (method.http_method.clone(), described)
            })
            .collect();
        if !methods.is_empty() {
            described.insert("resourceMethods".to_owned(), methods.into());
        }
        described.into()
    }

    fn must_have(&self, api: &str) -> Result<(), Exception> {
        if self.api_id == api {
            return Ok(());
        }
        Err(Exception {
            status: StatusCode::NOT_FOUND,
            ..Exception::of(
                "NotFoundException",
                format!("Invalid API identifier specified {ACCOUNT_ID}:{api}"),
            )
        })
    }
}

impl Method {
    fn described(&self) -> Value {
        let mut described = json!({
            "httpMethod": self.http_method,
            "authorizationType": self.authorization_type,
            "apiKeyRequired": false,
        });
        if let Some(described) = described.as_object_mut() {
            // API Gateway leaves out what there is none of.
            let scopes = Some(&self.authorization_scopes).filter(|scopes| !scopes.is_empty());
            let optional = [
                ("authorizerId", self.authorizer_id.as_deref().map(Value::from)),
                ("authorizationScopes", scopes.map(|scopes| scopes.as_slice().into())),
            ];
            described.extend(
                optional
                    .into_iter()
                    .filter_map(|(name, value)| Some((name.to_owned(), value?))),
            );
        }
        described
    }
}

/// The path that a path is under; `None` for the root.
fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        ("", "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

/// The page of a list that was asked for, in API Gateway's form.
fn items<T>(
    all: &[T],
    id: impl Fn(&T) -> &String,
    described: impl Fn(&T) -> Value,
    queries: &[(String, String)],
) -> Result<Value, Exception> {
    let of = |wanted: &str| {
        let found = queries.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let most = match of("limit").map(str::parse) {
        None => ITEMS_OF_A_PAGE,
        Some(Ok(limit)) if (1..=HIGHEST_LIMIT).contains(&limit) => limit.min(ITEMS_OF_A_PAGE),
        Some(_) => return Err(Exception::of("BadRequestException", "Invalid limit specified")),
    };
    let page = page(all, |item| id(item).as_str(), of("position"), most);
    let page = page.ok_or_else(|| Exception::of("BadRequestException", "Invalid position specified"))?;
    let shown: Vec<Value> = page.items.iter().map(described).collect();
    Ok(match page.next {
        Some(next) => json!({ "item": shown, "position": next }),
        None => json!({ "item": shown }),
    })
}

#[cfg(test)]
mod tests;

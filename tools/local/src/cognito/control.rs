//! Cognito's calls that manage clients, on the clients of the token endpoint, and those that describe the pool and its
//! scopes (JSON 1.1).

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::clock::Clock as _;

use super::exception::{Exception, parse, respond, seconds};
use super::identity::Identity;
use super::pool::{PoolClient, Refusal, Secret};
use crate::clock::LocalClock;
use crate::template::ResourceServer;

const SERVICE: &str = "AWSCognitoIdentityProviderService.";
/// The most clients of a page, and the default.
const LARGEST_PAGE: usize = 60;

/// The user pool of a stack.
#[derive(Debug)]
pub(crate) struct Cognito {
    pub(crate) identity: Identity,
    pub(crate) clock: Arc<LocalClock>,
    pub(crate) scopes: Vec<String>,
    pub(crate) resource_server: ResourceServer,
}

impl From<Refusal> for Exception {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchClient => Self::new("ResourceNotFoundException", "User pool client does not exist."),
            Refusal::NoSuchSecret => Self::new("ResourceNotFoundException", "Client secret does not exist."),
            Refusal::TooManySecrets => Self::new("LimitExceededException", "A client has at most two secrets."),
            Refusal::LastSecret => Self::invalid("The last secret of a client cannot be deleted."),
            Refusal::OwnClient => Self::invalid("The local stack keeps its own two clients."),
            Refusal::Failed(error) => Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                name: "InternalErrorException",
                message: format!("The local stack failed: {error:#}."),
            },
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PoolRequest {
    user_pool_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateRequest {
    client_name: String,
    #[serde(default)]
    generate_secret: bool,
    #[serde(default, rename = "AllowedOAuthFlowsUserPoolClient")]
    allowed_flows_user_pool_client: bool,
    #[serde(default, rename = "AllowedOAuthFlows")]
    allowed_flows: Vec<String>,
    #[serde(default, rename = "AllowedOAuthScopes")]
    allowed_scopes: Vec<String>,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListRequest {
    max_results: Option<usize>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ClientRequest {
    client_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SecretRequest {
    client_id: String,
    client_secret_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ResourceServerRequest {
    identifier: String,
}

pub(crate) fn router(cognito: Arc<Cognito>) -> Router {
    Router::new().fallback(handle).with_state(cognito)
}

async fn handle(State(cognito): State<Arc<Cognito>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok())
        .and_then(|target| target.strip_prefix(SERVICE))
        .unwrap_or_default();
    respond(cognito.answer(target, &body))
}

impl Cognito {
    fn answer(&self, target: &str, body: &[u8]) -> Result<Value, Exception> {
        let request: PoolRequest = parse(body)?;
        if request.user_pool_id != self.identity.pool_id() {
            let message = format!("User pool {} does not exist.", request.user_pool_id);
            return Err(Exception::new("ResourceNotFoundException", message));
        }
        let pool = self.identity.pool();
        match target {
            "DescribeUserPool" => Ok(json!({ "UserPool": self.describe_pool() })),
            "DescribeResourceServer" => self.describe_resource_server(&parse(body)?),
            "CreateUserPoolClient" => self.create(parse(body)?),
            "DescribeUserPoolClient" => {
                let request: ClientRequest = parse(body)?;
                Ok(json!({ "UserPoolClient": self.describe(&pool.find(&request.client_id)?) }))
            }
            "ListUserPoolClients" => self.list(&parse(body)?),
            "DeleteUserPoolClient" => {
                let request: ClientRequest = parse(body)?;
                pool.remove(&request.client_id)?;
                Ok(json!({}))
            }
            "AddUserPoolClientSecret" => {
                let request: ClientRequest = parse(body)?;
                let secret = pool.add_secret(&request.client_id, self.clock.now())?;
                Ok(json!({ "ClientSecretDescriptor": {
                    "ClientSecretId": secret.id,
                    "ClientSecretValue": secret.value.as_str(),
                    "ClientSecretCreateDate": seconds(secret.created_at_millis),
                } }))
            }
            "ListUserPoolClientSecrets" => {
                let request: ClientRequest = parse(body)?;
                let client = pool.find(&request.client_id)?;
                let secrets: Vec<Value> = client.secrets.iter().map(describe_secret).collect();
                Ok(json!({ "ClientSecrets": secrets }))
            }
            "DeleteUserPoolClientSecret" => {
                let request: SecretRequest = parse(body)?;
                pool.remove_secret(&request.client_id, &request.client_secret_id)?;
                Ok(json!({}))
            }
            _ => Err(Exception::new(
                "UnknownOperationException",
                "The local stack does not have this operation.",
            )),
        }
    }

    fn describe_pool(&self) -> Value {
        // The stack's own clients are as old as the pool, and are never removed.
        let created = self
            .identity
            .pool()
            .all()
            .first()
            .map(|client| client.created_at_millis);
        json!({
            "Id": self.identity.pool_id(),
            "Arn": self.identity.pool_arn(),
            "Name": "mfa",
            "CreationDate": created.map(seconds),
            "LastModifiedDate": created.map(seconds),
            "AdminCreateUserConfig": { "AllowAdminCreateUserOnly": true },
            // As in a stack with Protect=false.
            "DeletionProtection": "INACTIVE",
        })
    }

    fn describe_resource_server(&self, request: &ResourceServerRequest) -> Result<Value, Exception> {
        let ResourceServer {
            identifier,
            name,
            scopes,
        } = &self.resource_server;
        if request.identifier != *identifier {
            return Err(Exception::new(
                "ResourceNotFoundException",
                "Resource server does not exist.",
            ));
        }
        Ok(json!({ "ResourceServer": {
            "UserPoolId": self.identity.pool_id(),
            "Identifier": identifier,
            "Name": name,
            "Scopes": scopes,
        } }))
    }

    fn create(&self, request: CreateRequest) -> Result<Value, Exception> {
        let for_applications = request.generate_secret
            && request.allowed_flows_user_pool_client
            && request.allowed_flows == ["client_credentials"]
            && !request.allowed_scopes.is_empty();
        if !for_applications {
            return Err(Exception::new(
                "InvalidOAuthFlowException",
                "The local stack has clients with a secret and client credentials only.",
            ));
        }
        if !is_client_name(&request.client_name) {
            return Err(Exception::invalid(
                "The client's name does not satisfy the constraints.",
            ));
        }
        if !request.allowed_scopes.iter().all(|scope| self.scopes.contains(scope)) {
            return Err(Exception::new("ScopeDoesNotExistException", "Invalid scope requested."));
        }
        let created = self.identity.pool().create(
            request.client_name,
            request.allowed_scopes,
            request.settings,
            self.clock.now(),
        )?;
        Ok(json!({ "UserPoolClient": self.describe(&created) }))
    }

    fn list(&self, request: &ListRequest) -> Result<Value, Exception> {
        let most = request.max_results.unwrap_or(LARGEST_PAGE);
        if !(1..=LARGEST_PAGE).contains(&most) {
            return Err(Exception::invalid("MaxResults must be between 1 and 60."));
        }
        let all = self.identity.pool().all();
        let start = match &request.next_token {
            None => 0,
            // The last client of the previous page; if it is gone, the list starts again.
            Some(token) => all
                .iter()
                .position(|client| client.id == *token)
                .map_or(0, |last| last + 1),
        };
        let page: Vec<&PoolClient> = all.iter().skip(start).take(most).collect();
        let more = all.len() > start + page.len();
        let next = page.last().filter(|_| more).map(|last| last.id.as_str());
        let shown: Vec<Value> = page
            .iter()
            .map(|client| json!({ "ClientId": client.id, "ClientName": client.name, "UserPoolId": self.identity.pool_id() }))
            .collect();
        Ok(match next {
            Some(next) => json!({ "UserPoolClients": shown, "NextToken": next }),
            None => json!({ "UserPoolClients": shown }),
        })
    }

    fn describe(&self, client: &PoolClient) -> Value {
        let mut described = client.settings.clone();
        let known = json!({
            "UserPoolId": self.identity.pool_id(),
            "ClientId": client.id,
            "ClientName": client.name,
            "ClientSecret": client.secrets.first().map(|secret| secret.value.as_str()),
            "CreationDate": seconds(client.created_at_millis),
            "LastModifiedDate": seconds(client.created_at_millis),
            "AllowedOAuthFlowsUserPoolClient": true,
            "AllowedOAuthFlows": ["client_credentials"],
            "AllowedOAuthScopes": client.scopes.as_ref().unwrap_or(&self.scopes),
        });
        if let Value::Object(known) = known {
            described.extend(known);
        }
        described.into()
    }
}

/// 1–128 letters, digits, spaces and some signs.
fn is_client_name(name: &str) -> bool {
    (1..=128).contains(&name.chars().count())
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || c.is_whitespace() || "_+=,.@-".contains(c))
}

fn describe_secret(secret: &Secret) -> Value {
    json!({ "ClientSecretId": secret.id, "ClientSecretCreateDate": seconds(secret.created_at_millis) })
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use shared::clock::Timestamp;

    use super::*;
    use crate::template::Scope;

    fn cognito() -> Result<Cognito> {
        Ok(Cognito {
            identity: Identity::generate()?,
            clock: Arc::new(LocalClock::still(Timestamp::from_secs(1_800_000_000))),
            scopes: vec!["mfa/authenticate".to_owned()],
            resource_server: ResourceServer {
                identifier: "mfa".to_owned(),
                name: "mfa".to_owned(),
                scopes: vec![Scope {
                    scope_name: "authenticate".to_owned(),
                    scope_description: "to authenticate".to_owned(),
                }],
            },
        })
    }

    fn call(cognito: &Cognito, target: &str, body: &Value) -> (u16, Value) {
        let mut body = body.clone();
        if let Value::Object(members) = &mut body
            && !members.contains_key("UserPoolId")
        {
            members.insert("UserPoolId".to_owned(), cognito.identity.pool_id().into());
        }
        match cognito.answer(target, body.to_string().as_bytes()) {
            Ok(answer) => (200, answer),
            Err(exception) => (exception.status.as_u16(), exception.name.into()),
        }
    }

    fn creation() -> Value {
        json!({
            "ClientName": "shop", "GenerateSecret": true, "AllowedOAuthFlowsUserPoolClient": true,
            "AllowedOAuthFlows": ["client_credentials"], "AllowedOAuthScopes": ["mfa/authenticate"],
            "AccessTokenValidity": 60, "TokenValidityUnits": { "AccessToken": "minutes" },
        })
    }

    #[test]
    fn a_client_is_described_by_what_it_was_created_with() -> Result<()> {
        let cognito = cognito()?;
        let (status, created) = call(&cognito, "CreateUserPoolClient", &creation());
        let client = &created["UserPoolClient"];
        assert_eq!((status, &client["AccessTokenValidity"]), (200, &60.into()));
        assert_eq!(client["CreationDate"], 1_800_000_000.0);
        let asked = json!({ "ClientId": client["ClientId"] });
        assert_eq!(call(&cognito, "DescribeUserPoolClient", &asked), (200, created));
        Ok(())
    }

    #[test]
    fn a_client_that_cognito_would_not_create_is_refused() -> Result<()> {
        let cognito = cognito()?;
        for (member, value, expected) in [
            ("GenerateSecret", json!(false), "InvalidOAuthFlowException"),
            (
                "AllowedOAuthFlowsUserPoolClient",
                json!(false),
                "InvalidOAuthFlowException",
            ),
            ("AllowedOAuthFlows", json!(["code"]), "InvalidOAuthFlowException"),
            ("AllowedOAuthScopes", json!(["mfa/other"]), "ScopeDoesNotExistException"),
            ("ClientName", json!(""), "InvalidParameterException"),
            ("ClientName", json!("a'b"), "InvalidParameterException"),
            ("ClientName", json!(1), "SerializationException"),
            ("UserPoolId", json!("us-east-1_other"), "ResourceNotFoundException"),
        ] {
            let mut asked = creation();
            if let Value::Object(members) = &mut asked {
                members.insert(member.to_owned(), value);
            }
            assert_eq!(
                call(&cognito, "CreateUserPoolClient", &asked),
                (400, expected.into()),
                "{member}"
            );
        }
        assert_eq!(cognito.identity.pool().all().len(), 2);
        Ok(())
    }

    #[test]
    fn a_client_has_one_or_two_secrets() -> Result<()> {
        let cognito = cognito()?;
        let (_, created) = call(&cognito, "CreateUserPoolClient", &creation());
        let id = &created["UserPoolClient"]["ClientId"];
        let asked = json!({ "ClientId": id });
        let (_, listed) = call(&cognito, "ListUserPoolClientSecrets", &asked);
        let last = json!({ "ClientId": id, "ClientSecretId": listed["ClientSecrets"][0]["ClientSecretId"] });
        assert_eq!(
            call(&cognito, "DeleteUserPoolClientSecret", &last),
            (400, "InvalidParameterException".into())
        );
        cognito.clock.advance_seconds(1)?;
        let (status, added) = call(&cognito, "AddUserPoolClientSecret", &asked);
        let value = added["ClientSecretDescriptor"]["ClientSecretValue"]
            .as_str()
            .unwrap_or_default();
        assert_eq!((status, value.len()), (200, 51));
        assert_eq!(
            call(&cognito, "AddUserPoolClientSecret", &asked),
            (400, "LimitExceededException".into())
        );
        let (_, listed) = call(&cognito, "ListUserPoolClientSecrets", &asked);
        assert_eq!(listed["ClientSecrets"].as_array().map(Vec::len), Some(2));
        assert!(!listed.to_string().contains(value), "a list has no secrets");
        assert_eq!(call(&cognito, "DeleteUserPoolClientSecret", &last).0, 200);
        assert_eq!(
            call(&cognito, "DeleteUserPoolClientSecret", &last),
            (400, "ResourceNotFoundException".into())
        );
        Ok(())
    }

    #[test]
    fn the_stacks_own_clients_cannot_be_removed_and_unknown_ones_are_not_found() -> Result<()> {
        let cognito = cognito()?;
        let [own, _] = cognito.identity.clients();
        for (target, id, expected) in [
            ("DeleteUserPoolClient", own.id().as_str(), "InvalidParameterException"),
            ("DeleteUserPoolClient", "unknown", "ResourceNotFoundException"),
            ("DescribeUserPoolClient", "unknown", "ResourceNotFoundException"),
            ("AddUserPoolClientSecret", "unknown", "ResourceNotFoundException"),
            ("ListUserPoolClientSecrets", "unknown", "ResourceNotFoundException"),
            ("AdminGetUser", "unknown", "UnknownOperationException"),
        ] {
            let asked = json!({ "ClientId": id });
            assert_eq!(call(&cognito, target, &asked), (400, expected.into()), "{target}");
        }
        for most in [0, 61] {
            let (_, name) = call(&cognito, "ListUserPoolClients", &json!({ "MaxResults": most }));
            assert_eq!(name, "InvalidParameterException");
        }
        Ok(())
    }
}

//! [`ClientRegistry`] over a user pool of Cognito.

use aws_sdk_cognitoidentityprovider::Client;
use aws_sdk_cognitoidentityprovider::config::Builder;
use aws_sdk_cognitoidentityprovider::config::retry::RetryConfig;
use aws_sdk_cognitoidentityprovider::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cognitoidentityprovider::primitives::DateTime;
use aws_sdk_cognitoidentityprovider::types::{OAuthFlowType, TimeUnitsType, TokenValidityUnitsType};
use shared::aws::sdk::SdkConfig;
use shared::clock::Timestamp;
use shared::error::chain;
use shared::names::ClientId;
use zeroize::Zeroizing;

use crate::ports::clients::{
    ClientDetails, ClientError, ClientName, ClientPage, ClientRegistry, ClientSummary, NewClient, NewSecret, Scope,
    SecretInfo,
};

/// The most clients that Cognito lists in one call.
const CLIENTS_PER_CALL: i32 = 60;
/// As `template.yaml` has it for the stack's first client.
const TOKEN_MINUTES: i32 = 60;

/// The clients of a user pool.
#[derive(Debug, Clone)]
pub struct CognitoClients {
    client: Client,
    pool: String,
    token_url: Option<String>,
}

impl CognitoClients {
    /// `endpoint` is that of the local stack; `token_url` replaces the endpoint of the pool's own domain.
    #[must_use]
    pub fn new(sdk: &SdkConfig, endpoint: Option<&str>, pool: String, token_url: Option<String>) -> Self {
        let mut builder = Builder::from(sdk);
        if let Some(endpoint) = endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        Self {
            client: Client::from_conf(builder.build()),
            pool,
            token_url,
        }
    }
}

/// A call that creates something is sent once: repeated, it would create two, and the first one would be unknown.
fn without_retries() -> Builder {
    Builder::default().retry_config(RetryConfig::disabled())
}

fn failed<E: ProvideErrorMetadata + std::error::Error + 'static, R: std::fmt::Debug + 'static>(
    error: &SdkError<E, R>,
) -> ClientError {
    let reason = chain(error);
    match error.code() {
        Some("ResourceNotFoundException") => ClientError::NotFound(reason),
        Some("LimitExceededException") => ClientError::LimitExceeded(reason),
        _ => ClientError::Other(reason),
    }
}

fn require<T>(member: Option<T>, name: &str) -> Result<T, ClientError> {
    member.ok_or_else(|| ClientError::Other(format!("Cognito's answer has no {name}")))
}

fn client_id(raw: Option<&str>) -> Result<ClientId, ClientError> {
    let id = ClientId::parse(require(raw, "ClientId")?).ok();
    require(id, "valid ClientId")
}

fn time(date: Option<&DateTime>) -> Timestamp {
    let millis = date.and_then(|date| date.to_millis().ok());
    Timestamp::from_millis(millis.and_then(|millis| u64::try_from(millis).ok()).unwrap_or_default())
}

/// The token endpoint of a domain of Cognito; the pool's id begins with its region.
fn hosted_token_url(pool: &str, domain: &str) -> String {
    let region = pool.split_once('_').map_or(pool, |(region, _)| region);
    format!("https://{domain}.auth.{region}.amazoncognito.com/oauth2/token")
}

impl ClientRegistry for CognitoClients {
    async fn token_url(&self) -> Result<String, ClientError> {
        if let Some(url) = &self.token_url {
            return Ok(url.clone());
        }
        let answer = self.client.describe_user_pool().user_pool_id(&self.pool).send().await;
        let answer = answer.map_err(|error| failed(&error))?;
        let pool = require(answer.user_pool(), "UserPool")?;
        match (pool.custom_domain(), pool.domain()) {
            (Some(domain), _) => Ok(format!("https://{domain}/oauth2/token")),
            (None, Some(domain)) => Ok(hosted_token_url(&self.pool, domain)),
            (None, None) => Err(ClientError::Other(
                "the user pool has no domain, so it issues no tokens: if the endpoint is elsewhere, give --token-url"
                    .to_owned(),
            )),
        }
    }

    async fn page(&self, after: Option<&str>) -> Result<ClientPage, ClientError> {
        let request = self.client.list_user_pool_clients().user_pool_id(&self.pool);
        let request = request
            .max_results(CLIENTS_PER_CALL)
            .set_next_token(after.map(str::to_owned));
        let answer = request.send().await.map_err(|error| failed(&error))?;
        let clients = answer.user_pool_clients().iter().map(|client| {
            Ok(ClientSummary {
                id: client_id(client.client_id())?,
                name: client.client_name().unwrap_or_default().to_owned(),
            })
        });
        Ok(ClientPage {
            clients: clients.collect::<Result<_, ClientError>>()?,
            next: answer.next_token().map(str::to_owned),
        })
    }

    async fn describe(&self, id: &ClientId) -> Result<Option<ClientDetails>, ClientError> {
        let request = self.client.describe_user_pool_client().user_pool_id(&self.pool);
        let answer = match request
            .client_id(id.as_str())
            .send()
            .await
            .map_err(|error| failed(&error))
        {
            Ok(answer) => answer,
            Err(ClientError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let client = require(answer.user_pool_client, "UserPoolClient")?;
        Ok(Some(ClientDetails {
            created_at: time(client.creation_date.as_ref()),
            scopes: client.allowed_o_auth_scopes.unwrap_or_default(),
            secret: client.client_secret.map(Zeroizing::new),
        }))
    }

    async fn create(&self, name: &ClientName, scopes: &[Scope]) -> Result<NewClient, ClientError> {
        let units = TokenValidityUnitsType::builder()
            .access_token(TimeUnitsType::Minutes)
            .build();
        let scopes = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        let request = self.client.create_user_pool_client().user_pool_id(&self.pool);
        let request = request
            .client_name(name.as_str())
            .generate_secret(true)
            .allowed_o_auth_flows_user_pool_client(true)
            .allowed_o_auth_flows(OAuthFlowType::ClientCredentials)
            .set_allowed_o_auth_scopes(Some(scopes))
            .access_token_validity(TOKEN_MINUTES)
            .token_validity_units(units)
            .enable_token_revocation(true);
        let answer = request.customize().config_override(without_retries()).send().await;
        let answer = answer.map_err(|error| failed(&error))?;
        let client = require(answer.user_pool_client, "UserPoolClient")?;
        Ok(NewClient {
            id: client_id(client.client_id())?,
            secret: client.client_secret.map(Zeroizing::new),
        })
    }

    async fn remove(&self, id: &ClientId) -> Result<(), ClientError> {
        let request = self.client.delete_user_pool_client().user_pool_id(&self.pool);
        match request
            .client_id(id.as_str())
            .send()
            .await
            .map_err(|error| failed(&error))
        {
            // This call's own first try.
            Ok(_) | Err(ClientError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn secrets(&self, id: &ClientId) -> Result<Vec<SecretInfo>, ClientError> {
        let request = self.client.list_user_pool_client_secrets().user_pool_id(&self.pool);
        // A client has two at most, so there are no pages.
        let answer = request
            .client_id(id.as_str())
            .send()
            .await
            .map_err(|error| failed(&error))?;
        let secrets = answer.client_secrets().iter().map(|secret| {
            Ok(SecretInfo {
                id: require(secret.client_secret_id(), "ClientSecretId")?.to_owned(),
                created_at: time(secret.client_secret_create_date()),
            })
        });
        secrets.collect()
    }

    async fn add_secret(&self, id: &ClientId) -> Result<NewSecret, ClientError> {
        let request = self.client.add_user_pool_client_secret().user_pool_id(&self.pool);
        let request = request
            .client_id(id.as_str())
            .customize()
            .config_override(without_retries());
        let answer = request.send().await.map_err(|error| failed(&error))?;
        let secret = require(answer.client_secret_descriptor, "ClientSecretDescriptor")?;
        let value = secret.client_secret_value.map(Zeroizing::new);
        Ok(NewSecret {
            id: require(secret.client_secret_id, "ClientSecretId")?,
            value: require(value, "ClientSecretValue")?,
        })
    }

    async fn remove_secret(&self, id: &ClientId, secret: &str) -> Result<(), ClientError> {
        let request = self.client.delete_user_pool_client_secret().user_pool_id(&self.pool);
        let request = request.client_id(id.as_str()).client_secret_id(secret);
        match request.send().await.map_err(|error| failed(&error)) {
            // This call's own first try.
            Ok(_) | Err(ClientError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pools_domain_is_in_the_pools_region() {
        assert_eq!(
            hosted_token_url("eu-central-1_abc", "mfa-1"),
            "https://mfa-1.auth.eu-central-1.amazoncognito.com/oauth2/token"
        );
    }
}

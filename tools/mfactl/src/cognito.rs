//! A user pool in Cognito as [`ClientRegistry`].

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

use crate::clients::{
    ClientError, ClientName, ClientPage, ClientRegistry, Created, Described, Listed, Scope, SecretAdded, SecretListed,
};

/// The most that Cognito gives at once.
const PAGE: i32 = 60;
/// As `template.yaml` has it for its own client.
const TOKEN_MINUTES: i32 = 60;

/// The clients of a user pool.
#[derive(Debug, Clone)]
pub struct CognitoClients {
    client: Client,
    pool: String,
    token_url: Option<String>,
}

impl CognitoClients {
    /// Of a pool. `endpoint` is given for a local stack; `token_url` if the pool's own domain is not what applications use.
    #[must_use]
    pub fn new(shared: &SdkConfig, endpoint: Option<&str>, pool: String, token_url: Option<String>) -> Self {
        let mut builder = Builder::from(shared);
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

/// A call that creates something is sent once: a repeated one would create two, and nobody would know the first.
fn once() -> Builder {
    Builder::default().retry_config(RetryConfig::disabled())
}

fn failed<E: ProvideErrorMetadata + std::error::Error + 'static, R: std::fmt::Debug + 'static>(
    error: &SdkError<E, R>,
) -> ClientError {
    let said = chain(error);
    match error.code() {
        Some("ResourceNotFoundException") => ClientError::NotFound(said),
        Some("LimitExceededException") => ClientError::LimitExceeded(said),
        _ => ClientError::Other(said),
    }
}

/// What an answer must have.
fn needed<T>(member: Option<T>, name: &str) -> Result<T, ClientError> {
    member.ok_or_else(|| ClientError::Other(format!("Cognito's answer has no {name}")))
}

fn client_id(raw: Option<&str>) -> Result<ClientId, ClientError> {
    let id = ClientId::parse(needed(raw, "ClientId")?).ok();
    needed(id, "ClientId that is one")
}

fn time(date: Option<&DateTime>) -> Timestamp {
    let millis = date.and_then(|date| date.to_millis().ok());
    Timestamp::from_millis(millis.and_then(|millis| u64::try_from(millis).ok()).unwrap_or_default())
}

/// A pool's id begins with its region.
fn hosted(pool: &str, domain: &str) -> String {
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
        let pool = needed(answer.user_pool(), "UserPool")?;
        match (pool.custom_domain(), pool.domain()) {
            (Some(domain), _) => Ok(format!("https://{domain}/oauth2/token")),
            (None, Some(domain)) => Ok(hosted(&self.pool, domain)),
            (None, None) => Err(ClientError::Other(
                "the user pool has no domain, so it gives no tokens: say where they are given with --token-url"
                    .to_owned(),
            )),
        }
    }

    async fn page(&self, after: Option<&str>) -> Result<ClientPage, ClientError> {
        let asked = self.client.list_user_pool_clients().user_pool_id(&self.pool);
        let asked = asked.max_results(PAGE).set_next_token(after.map(str::to_owned));
        let answer = asked.send().await.map_err(|error| failed(&error))?;
        let clients = answer.user_pool_clients().iter().map(|client| {
            Ok(Listed {
                id: client_id(client.client_id())?,
                name: client.client_name().unwrap_or_default().to_owned(),
            })
        });
        Ok(ClientPage {
            clients: clients.collect::<Result<_, ClientError>>()?,
            next: answer.next_token().map(str::to_owned),
        })
    }

    async fn describe(&self, id: &ClientId) -> Result<Option<Described>, ClientError> {
        let asked = self.client.describe_user_pool_client().user_pool_id(&self.pool);
        let answer = match asked
            .client_id(id.as_str())
            .send()
            .await
            .map_err(|error| failed(&error))
        {
            Ok(answer) => answer,
            Err(ClientError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let client = needed(answer.user_pool_client, "UserPoolClient")?;
        Ok(Some(Described {
            created_at: time(client.creation_date.as_ref()),
            scopes: client.allowed_o_auth_scopes.unwrap_or_default(),
            secret: client.client_secret.map(Zeroizing::new),
        }))
    }

    async fn create(&self, name: &ClientName, scopes: &[Scope]) -> Result<Created, ClientError> {
        let units = TokenValidityUnitsType::builder()
            .access_token(TimeUnitsType::Minutes)
            .build();
        let scopes = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        let asked = self.client.create_user_pool_client().user_pool_id(&self.pool);
        let asked = asked
            .client_name(name.as_str())
            .generate_secret(true)
            .allowed_o_auth_flows_user_pool_client(true)
            .allowed_o_auth_flows(OAuthFlowType::ClientCredentials)
            .set_allowed_o_auth_scopes(Some(scopes))
            .access_token_validity(TOKEN_MINUTES)
            .token_validity_units(units)
            .enable_token_revocation(true);
        let answer = asked.customize().config_override(once()).send().await;
        let answer = answer.map_err(|error| failed(&error))?;
        let client = needed(answer.user_pool_client, "UserPoolClient")?;
        Ok(Created {
            id: client_id(client.client_id())?,
            secret: client.client_secret.map(Zeroizing::new),
        })
    }

    async fn remove(&self, id: &ClientId) -> Result<(), ClientError> {
        let asked = self.client.delete_user_pool_client().user_pool_id(&self.pool);
        match asked
            .client_id(id.as_str())
            .send()
            .await
            .map_err(|error| failed(&error))
        {
            // An earlier try of this very call.
            Ok(_) | Err(ClientError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn secrets(&self, id: &ClientId) -> Result<Vec<SecretListed>, ClientError> {
        let asked = self.client.list_user_pool_client_secrets().user_pool_id(&self.pool);
        // There are two at most, so there are no pages.
        let answer = asked
            .client_id(id.as_str())
            .send()
            .await
            .map_err(|error| failed(&error))?;
        let secrets = answer.client_secrets().iter().map(|secret| {
            Ok(SecretListed {
                id: needed(secret.client_secret_id(), "ClientSecretId")?.to_owned(),
                created_at: time(secret.client_secret_create_date()),
            })
        });
        secrets.collect()
    }

    async fn add_secret(&self, id: &ClientId) -> Result<SecretAdded, ClientError> {
        let asked = self.client.add_user_pool_client_secret().user_pool_id(&self.pool);
        let asked = asked.client_id(id.as_str()).customize().config_override(once());
        let answer = asked.send().await.map_err(|error| failed(&error))?;
        let secret = needed(answer.client_secret_descriptor, "ClientSecretDescriptor")?;
        let value = secret.client_secret_value.map(Zeroizing::new);
        Ok(SecretAdded {
            id: needed(secret.client_secret_id, "ClientSecretId")?,
            value: needed(value, "ClientSecretValue")?,
        })
    }

    async fn remove_secret(&self, id: &ClientId, secret: &str) -> Result<(), ClientError> {
        let asked = self.client.delete_user_pool_client_secret().user_pool_id(&self.pool);
        let asked = asked.client_id(id.as_str()).client_secret_id(secret);
        match asked.send().await.map_err(|error| failed(&error)) {
            // An earlier try of this very call.
            Ok(_) | Err(ClientError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pools_domain_is_in_its_region() {
        assert_eq!(
            hosted("eu-central-1_abc", "mfa-1"),
            "https://mfa-1.auth.eu-central-1.amazoncognito.com/oauth2/token"
        );
    }
}

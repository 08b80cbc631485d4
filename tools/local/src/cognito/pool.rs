//! The clients of a stack's user pool as Cognito keeps them: each with at most two secrets, any of which gets tokens.
//!
//! A change is in the data directory before it is acknowledged.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::clock::Timestamp;
use shared::names::ClientId;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::client::Client;
use crate::files::DataDir;
use crate::random;

const FILE: &str = "clients.json";
const MOST_SECRETS: usize = 2;

/// A secret of a client.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Secret {
    pub(crate) id: String,
    pub(crate) created_at_millis: u64,
    pub(crate) value: Zeroizing<String>,
}

/// A client, with what it was created with.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PoolClient {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The scopes that it may request; `None` for all.
    pub(crate) scopes: Option<Vec<String>>,
    pub(crate) created_at_millis: u64,
    /// Oldest first.
    pub(crate) secrets: Vec<Secret>,
    /// Other members of the creation request, as Cognito names them.
    pub(crate) settings: Map<String, Value>,
}

/// A client that has shown its credentials.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) id: ClientId,
    /// The scopes that it may request; `None` for all.
    pub(crate) scopes: Option<Vec<String>>,
}

/// Why a request was refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    NoSuchClient,
    NoSuchSecret,
    TooManySecrets,
    LastSecret,
    OwnClient,
    Failed(anyhow::Error),
}

/// All clients of a stack.
pub(crate) struct Pool {
    clients: Mutex<Vec<PoolClient>>,
    /// They cannot be removed: the printed commands use them.
    own: [ClientId; 2],
    data_dir: Option<Arc<DataDir>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Pool {
    /// With the stack's own two clients, or with all clients in the data directory.
    pub(crate) fn new(own: [&Client; 2], data_dir: Option<&Arc<DataDir>>) -> Result<Self> {
        let kept = data_dir.map(|data_dir| data_dir.read(FILE)).transpose()?.flatten();
        let clients = match kept {
            // The parser's message could quote a secret.
            Some(text) => serde_json::from_str(&text).map_err(|_| anyhow!("{FILE} is damaged"))?,
            None => own
                .into_iter()
                .zip(["first", "second"])
                .map(|(client, name)| PoolClient {
                    secrets: vec![Secret::new(
                        client.id().as_str(),
                        client.secret().to_owned().into(),
                        Timestamp::EPOCH,
                    )],
                    id: client.id().as_str().to_owned(),
                    name: name.to_owned(),
                    scopes: None,
                    created_at_millis: 0,
                    settings: Map::new(),
                })
                .collect(),
        };
        Ok(Self {
            clients: Mutex::new(clients),
            own: own.map(|client| client.id().clone()),
            data_dir: data_dir.map(Arc::clone),
        })
    }

    /// Sets the creation time of the stack's own clients, unless they have one.
    pub(crate) fn set_creation_time(&self, now: Timestamp) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        for client in clients.iter_mut().filter(|client| client.created_at_millis == 0) {
            client.created_at_millis = now.as_millis();
            for secret in client.secrets.iter_mut().filter(|secret| secret.created_at_millis == 0) {
                secret.set_creation_time(&client.id, now);
            }
        }
    }

    /// All clients in the order of their creation.
    pub(crate) fn all(&self) -> Vec<PoolClient> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn find(&self, id: &str) -> Result<PoolClient, Refusal> {
        let client = self.all().into_iter().find(|client| client.id == id);
        client.ok_or(Refusal::NoSuchClient)
    }

    /// The client with these credentials. All secrets are compared, whichever it is.
    pub(crate) fn client_with(&self, id: &str, secret: &str) -> Option<Authenticated> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for client in clients.iter() {
            let known = |right: Choice, held: &Secret| right | held.value.as_bytes().ct_eq(secret.as_bytes());
            let right = client.secrets.iter().fold(Choice::from(0), known);
            if bool::from(right & client.id.as_bytes().ct_eq(id.as_bytes())) {
                found = Some(Authenticated {
                    id: ClientId::parse(&client.id).ok()?,
                    scopes: client.scopes.clone(),
                });
            }
        }
        found
    }

    pub(crate) fn create(
        &self,
        name: String,
        scopes: Vec<String>,
        settings: Map<String, Value>,
        now: Timestamp,
    ) -> Result<PoolClient, Refusal> {
        self.change(|clients| {
            let id = random::word(26).map_err(Refusal::Failed)?;
            let client = PoolClient {
                secrets: vec![Secret::generate(&id, now)?],
                id: (*id).clone(),
                name,
                scopes: Some(scopes),
                created_at_millis: now.as_millis(),
                settings,
            };
            clients.push(client.clone());
            Ok(client)
        })
    }

    pub(crate) fn remove(&self, id: &str) -> Result<(), Refusal> {
        if self.own.iter().any(|own| own.as_str() == id) {
            return Err(Refusal::OwnClient);
        }
        self.change(|clients| {
            let before = clients.len();
            clients.retain(|client| client.id != id);
            if clients.len() == before {
                Err(Refusal::NoSuchClient)
            } else {
                Ok(())
            }
        })
    }

    pub(crate) fn add_secret(&self, id: &str, now: Timestamp) -> Result<Secret, Refusal> {
        self.change_one(id, |client| {
            if client.secrets.len() >= MOST_SECRETS {
                return Err(Refusal::TooManySecrets);
            }
            let secret = Secret::generate(id, now)?;
            client.secrets.push(secret.clone());
            Ok(secret)
        })
    }

    pub(crate) fn remove_secret(&self, id: &str, secret_id: &str) -> Result<(), Refusal> {
        self.change_one(id, |client| {
            let place = client.secrets.iter().position(|secret| secret.id == secret_id);
            let place = place.ok_or(Refusal::NoSuchSecret)?;
            if client.secrets.len() == 1 {
                return Err(Refusal::LastSecret);
            }
            client.secrets.remove(place);
            Ok(())
        })
    }

    fn change_one<T>(
        &self,
        id: &str,
        change: impl FnOnce(&mut PoolClient) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        self.change(|clients| {
            let client = clients.iter_mut().find(|client| client.id == id);
            change(client.ok_or(Refusal::NoSuchClient)?)
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<PoolClient>) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = clients.clone();
        let outcome = change(&mut changed)?;
        if let Some(data_dir) = &self.data_dir {
            let text = serde_json::to_vec(&changed).map(Zeroizing::new);
            let text = text.map_err(|error| Refusal::Failed(error.into()))?;
            data_dir.write(FILE, &text).map_err(Refusal::Failed)?;
        }
        *clients = changed;
        Ok(outcome)
    }
}

impl Secret {
    fn generate(client: &str, now: Timestamp) -> Result<Self, Refusal> {
        let value = random::word(51).map_err(Refusal::Failed)?;
        Ok(Self::new(client, value, now))
    }

    fn new(client: &str, value: Zeroizing<String>, now: Timestamp) -> Self {
        let (id, created_at_millis) = (String::new(), 0);
        let mut secret = Self {
            id,
            created_at_millis,
            value,
        };
        secret.set_creation_time(client, now);
        secret
    }

    fn set_creation_time(&mut self, client: &str, now: Timestamp) {
        // In Cognito's form.
        self.id = format!("{client}--{}", now.as_millis());
        self.created_at_millis = now.as_millis();
    }
}

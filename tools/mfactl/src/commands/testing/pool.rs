//! A user pool in memory that fails on demand. Its pages hold two clients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::clock::Timestamp;
use shared::names::ClientId;
use zeroize::Zeroizing;

use crate::commands::testing::world::NOW;
use crate::ports::clients::{
    ClientDetails, ClientError, ClientName, ClientPage, ClientRegistry, ClientSummary, NewClient, NewSecret, Scope,
    SecretInfo,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::commands) enum Call {
    TokenUrl,
    Page,
    Describe,
    Create,
    Remove,
    Secrets,
    AddSecret,
    RemoveSecret,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum PoolFault {
    /// It has no effect.
    Before,
    /// It has its effect, and the answer is lost.
    After,
    /// It has no effect, and the program is killed.
    KilledBefore,
    /// It has its effect, and the program is killed.
    KilledAfter,
}

pub(in crate::commands) const POOL_FAULTS: [PoolFault; 4] = [
    PoolFault::Before,
    PoolFault::After,
    PoolFault::KilledBefore,
    PoolFault::KilledAfter,
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands) struct Held {
    id: ClientId,
    name: String,
    scopes: Vec<String>,
    /// Number and value.
    pub(in crate::commands) secrets: Vec<(u64, String)>,
}

#[derive(Debug, Default)]
pub(in crate::commands) struct State {
    pub(in crate::commands) clients: Vec<Held>,
    numbers: u64,
    pub(in crate::commands) calls: BTreeMap<Call, usize>,
    /// How many calls of the kind succeed before one fails.
    pub(in crate::commands) fault: Option<(usize, Call, PoolFault)>,
}

#[derive(Debug, Clone, Default)]
pub(in crate::commands) struct MemoryPool(Arc<Mutex<State>>);

impl MemoryPool {
    pub(in crate::commands) fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn call<T>(
        &self,
        call: Call,
        work: impl FnOnce(&mut State) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let (outcome, killed) = self.state(|state| {
            *state.calls.entry(call).or_default() += 1;
            let fault = match &mut state.fault {
                Some((0, at, fault)) if *at == call => Some(*fault),
                Some((left, at, _)) if *at == call => {
                    *left -= 1;
                    None
                }
                _ => None,
            };
            if fault.is_some() {
                state.fault = None;
            }
            let lost = || Err(ClientError::Other("no answer".to_owned()));
            match fault {
                None => (work(state), false),
                Some(PoolFault::Before) => (lost(), false),
                Some(PoolFault::KilledBefore) => (lost(), true),
                Some(fault @ (PoolFault::After | PoolFault::KilledAfter)) => {
                    let _ = work(state);
                    (lost(), fault == PoolFault::KilledAfter)
                }
            }
        });
        if killed {
            std::future::pending::<()>().await;
        }
        outcome
    }

    pub(in crate::commands) fn put(&self, name: &str) -> ClientId {
        self.put_with(name, "mfa/authenticate")
    }

    pub(in crate::commands) fn put_with(&self, name: &str, scope: &str) -> ClientId {
        self.state(|state| state.create(name, &[scope.to_owned()]).id)
    }

    /// The values of the secrets of the clients with this name.
    pub(in crate::commands) fn values(&self, name: &str) -> Vec<String> {
        self.state(|state| {
            let held = state.clients.iter().filter(|held| held.name == name);
            held.flat_map(|held| held.secrets.iter().map(|(_, value)| value.clone()))
                .collect()
        })
    }
}

impl State {
    fn create(&mut self, name: &str, scopes: &[String]) -> Held {
        self.numbers += 1;
        let id = ClientId::parse(&format!("id{}", self.numbers)).unwrap_or_else(|_| unreachable!("an id"));
        let held = Held {
            id,
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            secrets: vec![(self.numbers, format!("secret{}", self.numbers))],
        };
        self.clients.push(held.clone());
        held
    }

    pub(in crate::commands) fn find(&mut self, id: &ClientId) -> Result<&mut Held, ClientError> {
        let held = self.clients.iter_mut().find(|held| held.id == *id);
        held.ok_or_else(|| ClientError::NotFound("no client".to_owned()))
    }
}

fn created_at(number: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(number))
}

impl ClientRegistry for MemoryPool {
    async fn token_url(&self) -> Result<String, ClientError> {
        self.call(Call::TokenUrl, |_| Ok("https://tokens/oauth2/token".to_owned()))
            .await
    }

    async fn page(&self, after: Option<&str>) -> Result<ClientPage, ClientError> {
        let from: usize = after.and_then(|after| after.parse().ok()).unwrap_or_default();
        self.call(Call::Page, |state| {
            let listed = |held: &Held| ClientSummary {
                id: held.id.clone(),
                name: held.name.clone(),
            };
            Ok(ClientPage {
                clients: state.clients.iter().skip(from).take(2).map(listed).collect(),
                next: (state.clients.len() > from + 2).then(|| (from + 2).to_string()),
            })
        })
        .await
    }

    async fn describe(&self, id: &ClientId) -> Result<Option<ClientDetails>, ClientError> {
        self.call(Call::Describe, |state| {
            Ok(state.find(id).ok().map(|held| ClientDetails {
                scopes: held.scopes.clone(),
                created_at: NOW,
                secret: held.secrets.first().map(|(_, value)| Zeroizing::new(value.clone())),
            }))
        })
        .await
    }

    async fn create(&self, name: &ClientName, scopes: &[Scope]) -> Result<NewClient, ClientError> {
        let scopes: Vec<String> = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        self.call(Call::Create, |state| {
            let held = state.create(name.as_str(), &scopes);
            Ok(NewClient {
                id: held.id,
                secret: held.secrets.first().map(|(_, value)| Zeroizing::new(value.clone())),
            })
        })
        .await
    }

    async fn remove(&self, id: &ClientId) -> Result<(), ClientError> {
        self.call(Call::Remove, |state| {
            state.clients.retain(|held| held.id != *id);
            Ok(())
        })
        .await
    }

    async fn secrets(&self, id: &ClientId) -> Result<Vec<SecretInfo>, ClientError> {
        self.call(Call::Secrets, |state| {
            // The newest first: the order is not specified.
            let secrets = state.find(id)?.secrets.iter().rev();
            let listed = secrets.map(|(number, _)| SecretInfo {
                id: number.to_string(),
                created_at: created_at(*number),
            });
            Ok(listed.collect())
        })
        .await
    }

    async fn add_secret(&self, id: &ClientId) -> Result<NewSecret, ClientError> {
        self.call(Call::AddSecret, |state| {
            state.numbers += 1;
            let number = state.numbers;
            let held = state.find(id)?;
            if held.secrets.len() == 2 {
                return Err(ClientError::LimitExceeded("two".to_owned()));
            }
            held.secrets.push((number, format!("secret{number}")));
            Ok(NewSecret {
                id: number.to_string(),
                value: Zeroizing::new(format!("secret{number}")),
            })
        })
        .await
    }

    async fn remove_secret(&self, id: &ClientId, secret: &str) -> Result<(), ClientError> {
        self.call(Call::RemoveSecret, |state| {
            state
                .find(id)?
                .secrets
                .retain(|(number, _)| number.to_string() != secret);
            Ok(())
        })
        .await
    }
}

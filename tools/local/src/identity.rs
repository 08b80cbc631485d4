//! Who a stack is: its user pool, its two clients, its signing key, and the key of the log's device hashes.
//!
//! Random for each stack, kept in the data directory, or handed from one stack to the next.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::json;
use shared::names::ClientId;
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::files::DataDir;
use crate::random;
use crate::signing::SigningKey;

const FILE: &str = "identity.json";

/// An application with credentials. Its `Debug` does not show the secret.
#[derive(Clone)]
pub struct Client {
    id: ClientId,
    secret: Zeroizing<String>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Client {
    fn generate() -> Result<Self> {
        let id = ClientId::parse(&random::word(26)?).context("a client id that is none")?;
        Ok(Self {
            id,
            secret: random::word(51)?,
        })
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> &ClientId {
        &self.id
    }

    /// Its secret.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Whether these are its credentials. It takes the same time whatever is wrong with them.
    fn is(&self, id: &str, secret: &str) -> Choice {
        self.id.as_str().as_bytes().ct_eq(id.as_bytes()) & self.secret.as_bytes().ct_eq(secret.as_bytes())
    }
}

/// Who a stack is. Clones are the same identity.
#[derive(Debug, Clone)]
pub struct Identity(Arc<Parts>);

struct Parts {
    pool_id: String,
    first: Client,
    second: Client,
    signing_key: SigningKey,
    device_hash_key: Zeroizing<String>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("pool_id", &self.pool_id)
            .field("first", &self.first)
            .field("second", &self.second)
            .field("signing_key", &self.signing_key)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientFile {
    client_id: String,
    client_secret: Zeroizing<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityFile {
    pool_id: String,
    clients: [ClientFile; 2],
    signing_key: Zeroizing<String>,
    device_hash_key: Zeroizing<String>,
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// If the system's generator fails.
    pub fn generate() -> Result<Self> {
        Ok(Self(Arc::new(Parts {
            pool_id: format!("us-east-1_{}", *random::word(9)?),
            first: Client::generate()?,
            second: Client::generate()?,
            signing_key: SigningKey::generate()?,
            device_hash_key: random::word(43)?,
        })))
    }

    /// The one that a data directory holds, or a new one that it holds from now on.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn kept_in(data_dir: &DataDir) -> Result<Self> {
        if let Some(text) = data_dir.read(FILE)? {
            // The parser's message could quote a secret.
            return Self::read(&text).map_err(|_| anyhow!("{FILE} is damaged"));
        }
        let identity = Self::generate()?;
        data_dir.write(FILE, identity.written().as_bytes())?;
        Ok(identity)
    }

    fn read(text: &str) -> Result<Self> {
        let file: IdentityFile = serde_json::from_str(text)?;
        let [first, second] = file.clients.map(|client| -> Result<Client> {
            Ok(Client {
                id: ClientId::parse(&client.client_id)?,
                secret: client.client_secret,
            })
        });
        let signing_key = BASE64
            .decode(file.signing_key.as_bytes())
            .map_err(|_| anyhow!("not base64"))?;
        Ok(Self(Arc::new(Parts {
            pool_id: file.pool_id,
            first: first?,
            second: second?,
            signing_key: SigningKey::from_pkcs8(Zeroizing::new(signing_key))?,
            device_hash_key: file.device_hash_key,
        })))
    }

    fn written(&self) -> Zeroizing<String> {
        let clients = self
            .clients()
            .map(|client| json!({ "clientId": client.id.as_str(), "clientSecret": *client.secret }));
        let file = json!({
            "poolId": self.0.pool_id,
            "clients": clients,
            "signingKey": BASE64.encode(self.0.signing_key.pkcs8()),
            "deviceHashKey": *self.0.device_hash_key,
        });
        Zeroizing::new(file.to_string())
    }

    /// Both clients, the demo's first.
    #[must_use]
    pub fn clients(&self) -> [&Client; 2] {
        [&self.0.first, &self.0.second]
    }

    /// The client with these credentials.
    pub(crate) fn client_with(&self, id: &str, secret: &str) -> Option<&Client> {
        // Both are compared, whichever it is.
        let [first, second] = self.clients().map(|client| (client, client.is(id, secret)));
        [first, second]
            .into_iter()
            .find(|(_, right)| bool::from(*right))
            .map(|(client, _)| client)
    }

    pub(crate) fn pool_id(&self) -> &str {
        &self.0.pool_id
    }

    pub(crate) fn signing_key(&self) -> &SigningKey {
        &self.0.signing_key
    }

    pub(crate) fn device_hash_key(&self) -> &str {
        &self.0.device_hash_key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_outlives_a_restart() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let data_dir = DataDir::open(folder.path())?;
        let identity = Identity::kept_in(&data_dir)?;
        assert_eq!(Identity::kept_in(&data_dir)?.written(), identity.written());
        assert_ne!(Identity::generate()?.written(), identity.written());
        Ok(())
    }

    #[test]
    fn a_client_has_credentials_of_its_own() -> Result<()> {
        let identity = Identity::generate()?;
        let [first, second] = identity.clients();
        assert_eq!((first.id().as_str().len(), first.secret().len()), (26, 51));
        let found = |id: &Client, secret: &str| identity.client_with(id.id().as_str(), secret).map(Client::id);
        assert_eq!(found(first, first.secret()), Some(first.id()));
        assert_eq!(found(second, second.secret()), Some(second.id()));
        assert_eq!(found(first, second.secret()), None);
        assert_eq!(found(first, ""), None);
        Ok(())
    }

    #[test]
    fn secrets_are_not_in_debug_output() -> Result<()> {
        let identity = Identity::generate()?;
        let shown = format!("{identity:?}");
        for secret in [
            identity.0.first.secret(),
            identity.0.second.secret(),
            identity.device_hash_key(),
        ] {
            assert!(!shown.contains(secret));
        }
        assert!(!shown.contains(&BASE64.encode(identity.signing_key().pkcs8())));
        Ok(())
    }
}

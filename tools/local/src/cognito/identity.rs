//! The identity of a stack: its user pool with two clients that are always there, its signing key, and the key of the
//! log's device hashes.
//!
//! Random for each stack, kept in the data directory, or handed from one stack to the next.

use std::fmt;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::json;
use shared::names::ClientId;
use zeroize::Zeroizing;

use super::client::Client;
use super::pool::Pool;
use super::signing::SigningKey;
use crate::files::DataDir;
use crate::random;

const FILE: &str = "identity.json";
/// The account in the stack's ARNs and events.
pub(crate) const ACCOUNT_ID: &str = "123456789012";
/// The region of the stack.
pub(crate) const REGION: &str = "us-east-1";

/// The identity of a stack. Clones share it.
#[derive(Debug, Clone)]
pub struct Identity(Arc<Parts>);

struct Parts {
    pool_id: String,
    first: Client,
    second: Client,
    pool: Pool,
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
    /// A new identity.
    ///
    /// # Errors
    /// If the system's generator fails.
    pub fn generate() -> Result<Self> {
        let (first, second) = (Client::generate()?, Client::generate()?);
        Ok(Self(Arc::new(Parts {
            pool_id: format!("{REGION}_{}", *random::word(9)?),
            pool: Pool::new([&first, &second], None)?,
            first,
            second,
            signing_key: SigningKey::generate()?,
            device_hash_key: random::word(43)?,
        })))
    }

    /// The identity in a data directory, or a new one that is kept there.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn kept_in(data_dir: &Arc<DataDir>) -> Result<Self> {
        let text = if let Some(text) = data_dir.read(FILE)? {
            text
        } else {
            let written = Self::generate()?.written();
            data_dir.write(FILE, written.as_bytes())?;
            written
        };
        // The parser's message could quote a secret.
        Self::read(&text, data_dir).map_err(|_| anyhow!("{FILE} or the file of clients is damaged"))
    }

    fn read(text: &str, data_dir: &Arc<DataDir>) -> Result<Self> {
        let file: IdentityFile = serde_json::from_str(text)?;
        let [first, second] = file.clients.map(|client| -> Result<Client> {
            Ok(Client::new(ClientId::parse(&client.client_id)?, client.client_secret))
        });
        let (mut first, mut second) = (first?, second?);
        let pool = Pool::new([&first, &second], Some(data_dir))?;
        for client in [&mut first, &mut second] {
            // It may have got newer ones since.
            if let Some(newest) = pool
                .find(client.id().as_str())
                .ok()
                .and_then(|mut held| held.secrets.pop())
            {
                *client = Client::new(client.id().clone(), newest.value);
            }
        }
        let signing_key = BASE64
            .decode(file.signing_key.as_bytes())
            .map_err(|_| anyhow!("not base64"))?;
        Ok(Self(Arc::new(Parts {
            pool_id: file.pool_id,
            first,
            second,
            pool,
            signing_key: SigningKey::from_pkcs8(Zeroizing::new(signing_key))?,
            device_hash_key: file.device_hash_key,
        })))
    }

    fn written(&self) -> Zeroizing<String> {
        let clients = self
            .clients()
            .map(|client| json!({ "clientId": client.id().as_str(), "clientSecret": client.secret() }));
        let file = json!({
            "poolId": self.0.pool_id,
            "clients": clients,
            "signingKey": BASE64.encode(self.0.signing_key.pkcs8()),
            "deviceHashKey": *self.0.device_hash_key,
        });
        Zeroizing::new(file.to_string())
    }

    /// The two clients that are always there, the demo's first.
    #[must_use]
    pub fn clients(&self) -> [&Client; 2] {
        [&self.0.first, &self.0.second]
    }

    /// All clients of the pool, these two among them.
    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    pub(crate) fn pool_id(&self) -> &str {
        &self.0.pool_id
    }

    pub(crate) fn pool_arn(&self) -> String {
        format!("arn:aws:cognito-idp:{REGION}:{ACCOUNT_ID}:userpool/{}", self.0.pool_id)
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
    fn an_identity_is_kept_across_restarts() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let data_dir = DataDir::open(folder.path())?;
        let identity = Identity::kept_in(&data_dir)?;
        assert_eq!(Identity::kept_in(&data_dir)?.written(), identity.written());
        assert_ne!(Identity::generate()?.written(), identity.written());
        Ok(())
    }

    #[test]
    fn each_client_has_its_own_credentials() -> Result<()> {
        let identity = Identity::generate()?;
        let [first, second] = identity.clients();
        assert_eq!((first.id().as_str().len(), first.secret().len()), (26, 51));
        let found = |client: &Client, secret: &str| {
            let found = identity.pool().client_with(client.id().as_str(), secret);
            found.map(|found| found.id)
        };
        assert_eq!(found(first, first.secret()).as_ref(), Some(first.id()));
        assert_eq!(found(second, second.secret()).as_ref(), Some(second.id()));
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

//! An application with credentials.

use std::fmt;

use anyhow::Result;
use shared::names::ClientId;
use zeroize::Zeroizing;

use crate::random;

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
    pub(crate) const fn new(id: ClientId, secret: Zeroizing<String>) -> Self {
        Self { id, secret }
    }

    /// With an id and a secret in the form of Cognito's.
    pub(crate) fn generate() -> Result<Self> {
        Ok(Self::new(ClientId::parse(&random::word(26)?)?, random::word(51)?))
    }

    /// The id, which tokens name.
    #[must_use]
    pub const fn id(&self) -> &ClientId {
        &self.id
    }

    /// The newest secret.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

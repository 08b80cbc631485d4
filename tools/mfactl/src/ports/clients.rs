//! The port to the user pool that clients are in. [`crate::aws::clients`] implements it.

use std::fmt;

use shared::clock::Timestamp;
use shared::names::ClientId;
use zeroize::Zeroizing;

/// The name of a client, as Cognito accepts it: 1–128 letters and digits, spaces, and `_+=,.@-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName(String);

impl ClientName {
    /// Checks a name.
    ///
    /// # Errors
    /// What a name may be.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let fits = |c: char| c.is_ascii_alphanumeric() || " _+=,.@-".contains(c);
        if (1..=128).contains(&raw.len()) && raw.chars().all(fits) && raw.trim() == raw {
            Ok(Self(raw.to_owned()))
        } else {
            Err("a name has 1 to 128 letters, digits, inner spaces, and _ + = , . @ -")
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a client may do at a resource server, such as `mfa/authenticate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// Checks a scope. Quotes and backslashes are refused although Cognito accepts some of them: scopes go into commands
    /// that are copied into a shell.
    ///
    /// # Errors
    /// What a scope may be.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\".contains(&byte);
        if (1..=256).contains(&raw.len()) && raw.bytes().all(fits) {
            Ok(Self(raw.to_owned()))
        } else {
            Err("a scope is RESOURCE-SERVER/SCOPE, without spaces and quotes")
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A client as a list of the pool has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSummary {
    pub id: ClientId,
    /// Not unique in a pool.
    pub name: String,
}

/// Some of the clients.
#[derive(Debug)]
pub struct ClientPage {
    pub clients: Vec<ClientSummary>,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<String>,
}

/// The rest of what a pool knows of a client. Its `Debug` does not show the secret.
#[derive(Clone)]
pub struct ClientDetails {
    pub scopes: Vec<String>,
    pub created_at: Timestamp,
    pub secret: Option<Zeroizing<String>>,
}

impl fmt::Debug for ClientDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientDetails")
            .field("scopes", &self.scopes)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}

/// A client that was just created. Its `Debug` does not show the secret.
pub struct NewClient {
    pub id: ClientId,
    pub secret: Option<Zeroizing<String>>,
}

impl fmt::Debug for NewClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewClient")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Not secret itself.
    pub id: String,
    pub created_at: Timestamp,
}

/// A secret that was just added. Its `Debug` does not show the value.
pub struct NewSecret {
    pub id: String,
    pub value: Zeroizing<String>,
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewSecret")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Why a call of a user pool failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The pool, client or secret does not exist.
    #[error("it does not exist ({0})")]
    NotFound(String),
    /// A quota of the pool or of the client is used up.
    #[error("the limit is reached ({0})")]
    LimitExceeded(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A user pool, as the registry of clients.
///
/// A call that writes may have taken effect although it failed. The implementation repeats no call that creates something:
/// that would create two.
pub trait ClientRegistry: Send + Sync {
    /// The pool's token endpoint.
    ///
    /// # Errors
    /// [`ClientError`], also if it has none.
    fn token_url(&self) -> impl Future<Output = Result<String, ClientError>> + Send;

    /// Reads a page of clients: the first one, or the one after [`ClientPage::next`].
    ///
    /// # Errors
    /// [`ClientError`].
    fn page(&self, after: Option<&str>) -> impl Future<Output = Result<ClientPage, ClientError>> + Send;

    /// Reads the details of a client; `None` if it does not exist.
    ///
    /// # Errors
    /// [`ClientError`].
    fn describe(&self, id: &ClientId) -> impl Future<Output = Result<Option<ClientDetails>, ClientError>> + Send;

    /// Creates a client with a secret for client credentials, as the template creates the stack's first one.
    ///
    /// # Errors
    /// [`ClientError`].
    fn create(
        &self,
        name: &ClientName,
        scopes: &[Scope],
    ) -> impl Future<Output = Result<NewClient, ClientError>> + Send;

    /// Removes a client, if it exists.
    ///
    /// # Errors
    /// [`ClientError`].
    fn remove(&self, id: &ClientId) -> impl Future<Output = Result<(), ClientError>> + Send;

    /// Lists the secrets of a client, in no particular order.
    ///
    /// # Errors
    /// [`ClientError`].
    fn secrets(&self, id: &ClientId) -> impl Future<Output = Result<Vec<SecretInfo>, ClientError>> + Send;

    /// Adds a secret; the existing ones stay valid.
    ///
    /// # Errors
    /// [`ClientError`].
    fn add_secret(&self, id: &ClientId) -> impl Future<Output = Result<NewSecret, ClientError>> + Send;

    /// Removes a secret, if it exists.
    ///
    /// # Errors
    /// [`ClientError`].
    fn remove_secret(&self, id: &ClientId, secret: &str) -> impl Future<Output = Result<(), ClientError>> + Send;
}

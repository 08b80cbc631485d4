//! Where clients are looked after: the port to a user pool. [`crate::cognito`] implements it; nothing here knows the SDK.

use std::fmt;

use shared::clock::Timestamp;
use shared::names::ClientId;
use zeroize::Zeroizing;

/// The name of a client, as Cognito takes it: 1–128 letters and digits, spaces, and `_+=,.@-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName(String);

impl ClientName {
    /// Checks a name.
    ///
    /// # Errors
    /// With what a name may be.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let fits = |c: char| c.is_ascii_alphanumeric() || " _+=,.@-".contains(c);
        if (1..=128).contains(&raw.len()) && raw.chars().all(fits) && raw.trim() == raw {
            Ok(Self(raw.to_owned()))
        } else {
            Err("a name has 1 to 128 letters and digits, spaces inside, and _ + = , . @ -")
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A scope: what a client may do at a resource server, such as `mfa/authenticate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// Checks a scope. Quotes and backslashes are refused although Cognito takes some of them: scopes go into commands that
    /// are copied into a shell.
    ///
    /// # Errors
    /// With what a scope may be.
    pub fn parse(raw: &str) -> Result<Self, &'static str> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\".contains(&byte);
        if (1..=256).contains(&raw.len()) && raw.bytes().all(fits) {
            Ok(Self(raw.to_owned()))
        } else {
            Err("a scope is RESOURCE-SERVER/SCOPE, without spaces and quotes")
        }
    }

    /// The scope.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A client as a list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: ClientId,
    /// Its name; not unique in a pool.
    pub name: String,
}

/// Some of the clients.
#[derive(Debug)]
pub struct ClientPage {
    /// The clients.
    pub clients: Vec<Listed>,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<String>,
}

/// What is known of a client. Its `Debug` does not show the secret.
#[derive(Clone)]
pub struct Described {
    /// What it may ask for.
    pub scopes: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its secret, if it has one.
    pub secret: Option<Zeroizing<String>>,
}

impl fmt::Debug for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Described")
            .field("scopes", &self.scopes)
            .field("created_at", &self.created_at)
            .finish_non_exhaustive()
    }
}

/// A client that was created. Its `Debug` does not show the secret.
pub struct Created {
    /// Its id.
    pub id: ClientId,
    /// Its secret.
    pub secret: Option<Zeroizing<String>>,
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretListed {
    /// Its id, which is no secret.
    pub id: String,
    /// When it was added.
    pub created_at: Timestamp,
}

/// A secret that was added. Its `Debug` does not show the value.
pub struct SecretAdded {
    /// Its id.
    pub id: String,
    /// What the application sends.
    pub value: Zeroizing<String>,
}

impl fmt::Debug for SecretAdded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretAdded")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Why a user pool did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no such pool, client or secret.
    #[error("there is none by that id ({0})")]
    NotFound(String),
    /// There may be no more of them.
    #[error("there may be no more ({0})")]
    LimitExceeded(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// A user pool, as the place where clients are.
///
/// After an error of a call that writes, it may have taken effect nevertheless. No call that creates something is repeated
/// by the implementation: that would create two.
pub trait ClientRegistry: Send + Sync {
    /// Where the pool gives tokens.
    ///
    /// # Errors
    /// [`ClientError`], also if it gives none.
    fn token_url(&self) -> impl Future<Output = Result<String, ClientError>> + Send;

    /// Reads some clients, from where a page says that the next one begins.
    ///
    /// # Errors
    /// [`ClientError`].
    fn page(&self, after: Option<&str>) -> impl Future<Output = Result<ClientPage, ClientError>> + Send;

    /// Reads what is known of a client; `None` if it is not there.
    ///
    /// # Errors
    /// [`ClientError`].
    fn describe(&self, id: &ClientId) -> impl Future<Output = Result<Option<Described>, ClientError>> + Send;

    /// Creates a client with a secret for client credentials, as the stack's template creates its own.
    ///
    /// # Errors
    /// [`ClientError`].
    fn create(&self, name: &ClientName, scopes: &[Scope]) -> impl Future<Output = Result<Created, ClientError>> + Send;

    /// Removes a client, if it is there.
    ///
    /// # Errors
    /// [`ClientError`].
    fn remove(&self, id: &ClientId) -> impl Future<Output = Result<(), ClientError>> + Send;

    /// The secrets of a client.
    ///
    /// # Errors
    /// [`ClientError`].
    fn secrets(&self, id: &ClientId) -> impl Future<Output = Result<Vec<SecretListed>, ClientError>> + Send;

    /// Adds a secret; those that are there stay valid.
    ///
    /// # Errors
    /// [`ClientError`].
    fn add_secret(&self, id: &ClientId) -> impl Future<Output = Result<SecretAdded, ClientError>> + Send;

    /// Removes a secret, if it is there.
    ///
    /// # Errors
    /// [`ClientError`].
    fn remove_secret(&self, id: &ClientId, secret: &str) -> impl Future<Output = Result<(), ClientError>> + Send;
}

//! Errors of the core, as situations. Which status a client sees is decided in `http::error`.

use std::error::Error;

/// A store failed. Never a verdict: the caller gets a 503 and nothing was counted.
///
/// The text is for the operator; no client ever sees it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store could not be reached, did not answer in time, or refused.
    #[error("{store} is unavailable ({operation})")]
    Unavailable {
        /// The store, such as `dynamodb`.
        store: &'static str,
        /// The operation, such as `GetItem devices`.
        operation: &'static str,
        /// The SDK's error.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The store holds something that this service never wrote.
    #[error("{store} holds an unreadable value: {what}")]
    Corrupt {
        /// The store, such as `dynamodb`.
        store: &'static str,
        /// What is wrong with it, without the value.
        what: &'static str,
    },
}

/// The source of a [`StoreError::Unavailable`] if the store asked for a slower pace.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Throttled(pub String);

/// The source of a [`StoreError::Unavailable`] if the caller has no credentials, or the store takes them no more.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoCredentials(pub String);

impl StoreError {
    /// Whether the store asked for a slower pace: the same call may succeed later.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        matches!(self, Self::Unavailable { source, .. } if source.is::<Throttled>())
    }

    /// Whether the call failed for want of valid credentials: every other call will, too.
    #[must_use]
    pub fn lacks_credentials(&self) -> bool {
        matches!(self, Self::Unavailable { source, .. } if source.is::<NoCredentials>())
    }
}

/// The operating system's generator failed.
#[derive(Debug, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct RandomError(#[source] pub Box<dyn Error + Send + Sync>);

/// The messages of an error and of all its sources, for the operator. Never their `Debug`, which may show a raw
/// response, and with it a seed.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

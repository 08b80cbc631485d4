//! A deployed stack as its doctor sees it: the port, and what it returns. [`crate::aws::inspect`] implements it.

use std::collections::HashMap;

use shared::clock::Timestamp;

/// A stack of `CloudFormation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployedStack {
    pub name: String,
    /// In `CloudFormation`'s words, such as `UPDATE_COMPLETE`.
    pub status: String,
    /// `None` on the local stack, whose secrets may be older than its last start.
    pub created_at: Option<Timestamp>,
    /// By their names in the template.
    pub outputs: HashMap<String, String>,
    /// By their names in the template.
    pub parameters: HashMap<String, String>,
    /// Empty unless they were read: only the doctor needs them.
    pub resources: Vec<Resource>,
}

impl DeployedStack {
    /// The physical id of a resource of the template.
    #[must_use]
    pub fn physical_id(&self, logical_id: &str) -> Option<&str> {
        let found = self.resources.iter().find(|resource| resource.logical_id == logical_id);
        found.map(|resource| resource.physical_id.as_str())
    }

    /// Whether a Boolean parameter is `true`.
    #[must_use]
    pub fn is_on(&self, parameter: &str) -> bool {
        self.parameters.get(parameter).is_some_and(|value| value == "true")
    }
}

/// A resource of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub logical_id: String,
    pub physical_id: String,
}

/// A table of `DynamoDB`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Whether it takes requests.
    pub active: bool,
    /// The attributes of its key, the partition key first.
    pub key: Vec<String>,
    /// The TTL attribute, if TTL is on.
    pub ttl: Option<String>,
    /// Whether point-in-time recovery is on; `None` if the store has no backups at all, as the local one.
    pub backups: Option<bool>,
    /// Whether deletion protection is on.
    pub protected: bool,
}

/// An authorizer of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorizer {
    pub id: String,
    /// In API Gateway's words, such as `COGNITO_USER_POOLS`.
    pub kind: String,
    /// The ARNs of the user pools whose tokens it accepts.
    pub pools: Vec<String>,
}

/// A method of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Such as `POST`.
    pub verb: String,
    /// Such as `/deviceAuthentications/{authId}`.
    pub path: String,
    /// In API Gateway's words, such as `COGNITO_USER_POOLS` or `NONE`.
    pub authorization: String,
    /// The authorizer's id.
    pub authorizer: Option<String>,
    /// A token needs one of these scopes.
    pub scopes: Vec<String>,
}

/// Who may call the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiAccess {
    pub authorizers: Vec<Authorizer>,
    pub methods: Vec<Method>,
}

/// The user pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPool {
    /// Whether deletion protection is on.
    pub protected: bool,
    /// The scopes of its resource server, each with the server's name, such as `mfa/authenticate`.
    pub scopes: Vec<String>,
}

/// An alarm of `CloudWatch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    pub name: String,
    pub actions_enabled: bool,
    /// The ARNs of the topics that it notifies.
    pub actions: Vec<String>,
    /// Whether its state is `ALARM`.
    pub in_alarm: bool,
}

/// This machine's clock compared with AWS's, which is read from answers that have whole seconds and travel over a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockOffset {
    /// No difference can be measured.
    Unmeasurable,
    /// This machine's clock is at least so many milliseconds behind.
    Behind(u64),
    /// This machine's clock is at least so many milliseconds ahead.
    Ahead(u64),
}

/// A call failed. Holds nothing of the request or the answer but the error's code.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {reason}")]
pub struct InspectError {
    /// The call, as an IAM policy names its action.
    pub call: &'static str,
    pub reason: String,
}

/// Reads what is deployed, and changes nothing.
pub trait Inspector: Send + Sync {
    /// A stack without its resources; `None` if it does not exist.
    ///
    /// # Errors
    /// [`InspectError`].
    fn stack(&self, name: &str) -> impl Future<Output = Result<Option<DeployedStack>, InspectError>> + Send;

    /// The resources of a stack that exists.
    ///
    /// # Errors
    /// [`InspectError`].
    fn resources(&self, name: &str) -> impl Future<Output = Result<Vec<Resource>, InspectError>> + Send;

    /// A table; `None` if it does not exist.
    ///
    /// # Errors
    /// [`InspectError`].
    fn table(&self, name: &str) -> impl Future<Output = Result<Option<Table>, InspectError>> + Send;

    /// Who may call a REST API, by its id; `None` if it does not exist.
    ///
    /// # Errors
    /// [`InspectError`].
    fn api_access(&self, api: &str) -> impl Future<Output = Result<Option<ApiAccess>, InspectError>> + Send;

    /// The HTTP status of the answer to a request without a token and without a body.
    ///
    /// # Errors
    /// [`InspectError`] if there was no answer.
    fn status_without_token(&self, verb: &str, url: &str) -> impl Future<Output = Result<u16, InspectError>> + Send;

    /// A user pool by its id, with the scopes of one of its resource servers; `None` if it does not exist.
    ///
    /// # Errors
    /// [`InspectError`].
    fn user_pool(&self, id: &str, server: &str) -> impl Future<Output = Result<Option<UserPool>, InspectError>> + Send;

    /// The alarms with these names that exist.
    ///
    /// # Errors
    /// [`InspectError`].
    fn alarms(&self, names: &[String]) -> impl Future<Output = Result<Vec<Alarm>, InspectError>> + Send;

    /// The clock's offset by the last answer; `None` before the first one.
    fn clock_offset(&self) -> Option<ClockOffset>;
}

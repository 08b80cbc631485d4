//! What a deployed stack is found to consist of: the port that `doctor` looks through. [`crate::aws_inspector`] implements it;
//! nothing here knows an SDK.

use std::collections::HashMap;

use shared::clock::Timestamp;

/// A stack of `CloudFormation`, with what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployedStack {
    /// Its name.
    pub name: String,
    /// In `CloudFormation`'s words, such as `UPDATE_COMPLETE`.
    pub status: String,
    /// When it was created, if that says anything about what belongs to it: the stores of one machine are older at will.
    pub created_at: Option<Timestamp>,
    /// Its outputs, by their names in the template.
    pub outputs: HashMap<String, String>,
    /// Its parameters, by their names in the template.
    pub parameters: HashMap<String, String>,
    /// What it consists of, if that was asked for: settings are read without it.
    pub resources: Vec<Resource>,
}

impl DeployedStack {
    /// What the template's resource by a logical id is called in the account.
    #[must_use]
    pub fn physical(&self, logical: &str) -> Option<&str> {
        let found = self.resources.iter().find(|resource| resource.logical == logical);
        found.map(|resource| resource.physical.as_str())
    }

    /// Whether a parameter that is `true` or `false` is `true`.
    #[must_use]
    pub fn is_on(&self, parameter: &str) -> bool {
        self.parameters.get(parameter).is_some_and(|value| value == "true")
    }
}

/// A part of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its id in the template.
    pub logical: String,
    /// Its name or id in the account.
    pub physical: String,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFound {
    /// Whether it takes requests.
    pub active: bool,
    /// The attributes of its key, the partition's first.
    pub key: Vec<String>,
    /// The attribute whose time deletes items; `None` if nothing does.
    pub ttl: Option<String>,
    /// Whether it can be restored to a point in time; `None` if the store has no backups at all, as on one machine.
    pub backups: Option<bool>,
    /// Whether it is protected from deletion.
    pub protected: bool,
}

/// Who decides whom the API lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizerFound {
    /// Its id.
    pub id: String,
    /// In API Gateway's words, such as `COGNITO_USER_POOLS`.
    pub kind: String,
    /// The ARNs of the user pools whose tokens it takes.
    pub pools: Vec<String>,
}

/// A method of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodFound {
    /// Such as `POST`.
    pub verb: String,
    /// Such as `/deviceAuthentications/{authId}`.
    pub path: String,
    /// In API Gateway's words, such as `COGNITO_USER_POOLS` or `NONE`.
    pub authorization: String,
    /// The authorizer's id.
    pub authorizer: Option<String>,
    /// Scopes, any of which a token must have.
    pub scopes: Vec<String>,
}

/// Whom the API lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessFound {
    /// Its authorizers.
    pub authorizers: Vec<AuthorizerFound>,
    /// Its methods.
    pub methods: Vec<MethodFound>,
}

/// The user pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFound {
    /// Whether it is protected from deletion.
    pub protected: bool,
    /// The scopes of its resource server, each with the server's name, such as `mfa/authenticate`.
    pub scopes: Vec<String>,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmFound {
    /// Its name.
    pub name: String,
    /// Whether it does anything when it rings.
    pub actions_enabled: bool,
    /// Whom it tells.
    pub actions: Vec<String>,
    /// Whether it rings now.
    pub rings: bool,
}

/// A clock beside another one. The other one is read from answers that have whole seconds and come over a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockFound {
    /// No difference can be seen.
    Right,
    /// This machine's is at least so many milliseconds behind.
    Behind(u64),
    /// This machine's is at least so many milliseconds ahead.
    Ahead(u64),
}

/// A call failed; what it was and how, without what was asked or answered.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {said}")]
pub struct InspectError {
    /// The call, as a policy names its action.
    pub call: &'static str,
    /// What the SDK said of it.
    pub said: String,
}

/// Looks at what is deployed, and changes nothing.
pub trait Inspector: Send + Sync {
    /// A stack by its name, without its resources; `None` if there is none.
    ///
    /// # Errors
    /// [`InspectError`].
    fn stack(&self, name: &str) -> impl Future<Output = Result<Option<DeployedStack>, InspectError>> + Send;

    /// What a stack that is there consists of.
    ///
    /// # Errors
    /// [`InspectError`].
    fn resources(&self, name: &str) -> impl Future<Output = Result<Vec<Resource>, InspectError>> + Send;

    /// A table by its name; `None` if there is none.
    ///
    /// # Errors
    /// [`InspectError`].
    fn table(&self, name: &str) -> impl Future<Output = Result<Option<TableFound>, InspectError>> + Send;

    /// Whom a REST API lets in, by its id; `None` if there is none.
    ///
    /// # Errors
    /// [`InspectError`].
    fn access(&self, api: &str) -> impl Future<Output = Result<Option<AccessFound>, InspectError>> + Send;

    /// The HTTP status of the answer to a `POST` without a token and without a body.
    ///
    /// # Errors
    /// [`InspectError`] if there was no answer.
    fn status_without_token(&self, url: &str) -> impl Future<Output = Result<u16, InspectError>> + Send;

    /// A user pool by its id, with the resource server by a name; `None` if there is none.
    ///
    /// # Errors
    /// [`InspectError`].
    fn pool(&self, id: &str, server: &str) -> impl Future<Output = Result<Option<PoolFound>, InspectError>> + Send;

    /// Those of these alarms that there are.
    ///
    /// # Errors
    /// [`InspectError`].
    fn alarms(&self, names: &[String]) -> impl Future<Output = Result<Vec<AlarmFound>, InspectError>> + Send;

    /// This machine's clock beside the stack's, as the answers so far show it; `None` before the first one.
    fn clock(&self) -> Option<ClockFound>;
}

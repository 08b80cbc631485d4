//! The SDK's clients: one connection pool, short time limits, and the count of calls for the log.

use std::error::Error;
use std::fmt::Debug;
use std::time::Duration;

pub use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::retry::RetryPartition;
use aws_sdk_dynamodb::config::{ConfigBag, Credentials, Intercept, RuntimeComponents, SharedCredentialsProvider};
use aws_sdk_dynamodb::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls;

use crate::error::{Throttled, chain};
use crate::telemetry::calls;

/// How long a call may take. The SDK has no limit of its own.
#[derive(Clone, Copy)]
struct Limits {
    /// One try of one call.
    attempt: Duration,
    /// One call with its repetitions.
    call: Duration,
}

impl Limits {
    /// The request's deadline is a little longer.
    const OF_A_REQUEST: Self = Self {
        attempt: Duration::from_millis(500),
        call: Duration::from_secs(2),
    };
    const OF_AN_OPERATOR: Self = Self {
        attempt: Duration::from_secs(5),
        call: Duration::from_secs(15),
    };
}

/// The SDK's default of one second would cost a user the whole deadline.
const FIRST_BACKOFF: Duration = Duration::from_millis(25);
const TRIES: u32 = 3;

/// The clients of both services.
#[derive(Debug, Clone)]
pub struct Clients {
    /// `DynamoDB`.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Secrets Manager.
    pub secrets_manager: aws_sdk_secretsmanager::Client,
}

impl Clients {
    /// Clients with region, credentials and endpoints as the environment gives them.
    pub async fn from_environment() -> Self {
        Self::new(&limited(from_environment().await, Limits::OF_A_REQUEST), None)
    }

    /// The same for a person at a terminal: far from the region, and with nobody who waits for an answer.
    pub async fn for_an_operator() -> Self {
        Self::with(&Self::settings_of_an_operator().await)
    }

    /// Clients of settings that were read before, with their endpoints.
    #[must_use]
    pub fn with(settings: &SdkConfig) -> Self {
        Self::new(settings, None)
    }

    /// What the client of a further service is made of, for such a person.
    pub async fn settings_of_an_operator() -> SdkConfig {
        limited(from_environment().await, Limits::OF_AN_OPERATOR)
    }

    /// Clients of stores on this machine, with credentials that mean nothing.
    #[must_use]
    pub fn of_local_stores(dynamodb_url: &str, secrets_manager_url: &str) -> Self {
        let shared = limited(of_this_machine(), Limits::OF_A_REQUEST);
        Self::new(&shared, Some([dynamodb_url, secrets_manager_url]))
    }

    /// The same for a person at a terminal, who has long lists read.
    #[must_use]
    pub fn of_local_stores_for_an_operator(dynamodb_url: &str, secrets_manager_url: &str) -> Self {
        Self::new(
            &Self::settings_of_local_stores(),
            Some([dynamodb_url, secrets_manager_url]),
        )
    }

    /// What the client of a further service on this machine is made of.
    #[must_use]
    pub fn settings_of_local_stores() -> SdkConfig {
        limited(of_this_machine(), Limits::OF_AN_OPERATOR)
    }

    /// An endpoint that is not given stays what the environment says.
    fn new(shared: &SdkConfig, local_urls: Option<[&str; 2]>) -> Self {
        let mut dynamodb =
            aws_sdk_dynamodb::config::Builder::from(shared).interceptor(CountCalls(calls::Service::DynamoDb));
        let mut secrets_manager = aws_sdk_secretsmanager::config::Builder::from(shared)
            .interceptor(CountCalls(calls::Service::SecretsManager));
        if let Some([dynamodb_url, secrets_manager_url]) = local_urls {
            // The quota of repetitions is the process's, as on Lambda, where a process has one store of each kind; many
            // stores in one process must not use up each other's.
            let own_quota = || RetryPartition::custom("local stores").build();
            dynamodb = dynamodb.endpoint_url(dynamodb_url).retry_partition(own_quota());
            secrets_manager = secrets_manager
                .endpoint_url(secrets_manager_url)
                .retry_partition(own_quota());
        }
        Self {
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
            secrets_manager: aws_sdk_secretsmanager::Client::from_conf(secrets_manager.build()),
        }
    }
}

/// How long calls may take, and how often they are tried.
fn limited(shared: SdkConfig, limits: Limits) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(limits.attempt)
        .operation_timeout(limits.call)
        .build();
    // Standard, not adaptive: adaptive would slow every user while one device is attacked.
    let retries = RetryConfig::standard()
        .with_max_attempts(TRIES)
        .with_initial_backoff(FIRST_BACKOFF);
    let builder = shared.into_builder().timeout_config(timeouts);
    builder.retry_config(retries).build()
}

fn of_this_machine() -> SdkConfig {
    let credentials = Credentials::new("local", "local", None, None, "local stores");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(connection_pool())
        .build()
}

async fn from_environment() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(connection_pool())
        .load()
        .await
}

fn connection_pool() -> aws_sdk_dynamodb::config::SharedHttpClient {
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    aws_smithy_http_client::Builder::new()
        .tls_provider(provider)
        .build_https()
}

/// Counts every try that is sent, for the log line of the request that sent it.
#[derive(Debug)]
struct CountCalls(calls::Service);

impl Intercept for CountCalls {
    fn name(&self) -> &'static str {
        "CountCalls"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        calls::count(self.0);
        Ok(())
    }
}

/// What the SDK said, without what the store said: the text of a store's error may quote a call or an answer, and with
/// it a name or a seed. Of an error of a store, its code is kept; of any other, the messages of the whole chain. Never
/// the `Debug` of one, which would show the raw response.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct SdkMessage(String);

impl SdkMessage {
    pub(super) fn of<E, R>(error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
        R: Debug + 'static,
    {
        Self(match error.as_service_error() {
            Some(error) => format!("service error: {}", error.code().unwrap_or("an answer without a code")),
            None => chain(error),
        })
    }
}

/// The codes of a store that asks for a slower pace.
const THROTTLING: [&str; 5] = [
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "ProvisionedThroughputExceededException",
];

/// What goes under a store's error.
pub(super) fn said<E, R>(error: &SdkError<E, R>) -> Box<dyn Error + Send + Sync>
where
    E: ProvideErrorMetadata + Error + 'static,
    R: Debug + 'static,
{
    let message = SdkMessage::of(error);
    if error.code().is_some_and(|code| THROTTLING.contains(&code)) {
        Box::new(Throttled(message.0))
    } else {
        Box::new(message)
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_sdk_dynamodb::operation::get_item::GetItemError;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no answer")]
    struct NoAnswer {
        raw_response: &'static str,
    }

    #[test]
    fn the_sdks_messages_are_kept_and_neither_its_debug_output_nor_a_stores_text() {
        let error: SdkError<GetItemError, ()> = SdkError::timeout_error(NoAnswer { raw_response: "a seed" });
        let text = SdkMessage::of(&error).to_string();
        assert!(text.contains("no answer") && !text.contains("a seed"), "{text}");

        for (code, text) in [
            (Some("Throttled"), "service error: Throttled"),
            (None, "service error: an answer without a code"),
        ] {
            let mut metadata = ErrorMetadata::builder().message("a name");
            if let Some(code) = code {
                metadata = metadata.code(code);
            }
            let error = SdkError::service_error(GetItemError::generic(metadata.build()), "a name");
            let message = SdkMessage::of(&error);
            assert_eq!(message.to_string(), text);
            assert!(!format!("{message:?}").contains("a name"));
        }
    }
}

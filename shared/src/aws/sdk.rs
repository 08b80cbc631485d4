//! The SDK's clients: one connection pool, short time limits, and the count of calls for the log.

use std::error::Error;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::retry::RetryPartition;
use aws_sdk_dynamodb::config::{
    ConfigBag, Credentials, Intercept, RuntimeComponents, SharedCredentialsProvider, SharedInterceptor,
};
use aws_sdk_dynamodb::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};

use crate::config::AwsConfig;
use crate::error::{NoCredentials, StoreError, Throttled, chain};
use crate::telemetry::calls;

/// How long a call may take. The SDK has no limit of its own.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One try of one call.
    attempt: Duration,
    /// One call with its repetitions.
    call: Duration,
}

impl Limits {
    /// For a request: a little less than its deadline.
    pub const REQUEST: Self = Self {
        attempt: Duration::from_millis(500),
        call: Duration::from_secs(2),
    };
    /// For an operator's command: far from the region, long lists, and no user who waits.
    pub const OPERATOR: Self = Self {
        attempt: Duration::from_secs(5),
        call: Duration::from_secs(15),
    };
}

/// The SDK's default of one second would cost a user the whole deadline.
const FIRST_BACKOFF: Duration = Duration::from_millis(25);
const TRIES: u32 = 3;

/// Where the stores are, and the credentials for them.
#[derive(Debug, Clone)]
pub struct Endpoints {
    config: SdkConfig,
    /// Of `DynamoDB` and Secrets Manager, if they are not what `config` leads to.
    urls: [Option<String>; 2],
    /// Whether the clients have a quota of repetitions of their own, and not that of the process.
    own_quota: bool,
}

impl Endpoints {
    /// For a function: AWS, or wherever the settings point to, with the credentials that Lambda puts into the environment.
    #[must_use]
    pub fn for_function(settings: AwsConfig) -> Self {
        let trusted = trust_store(settings.certificates.as_deref(), Roots::Amazon);
        Self {
            config: SdkConfig::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .region(Region::new(settings.region))
                .use_fips(settings.fips)
                .use_dual_stack(settings.dual_stack)
                .credentials_provider(SharedCredentialsProvider::new(
                    EnvironmentVariableCredentialsProvider::new(),
                ))
                .http_client(connection_pool(trusted))
                .build(),
            urls: [settings.dynamodb_url, settings.secrets_manager_url],
            own_quota: false,
        }
    }

    /// For an operator's tool: AWS with region, credentials and endpoints as every AWS tool finds them, profiles and single
    /// sign-on included.
    pub async fn for_operator(certificates: Option<PathBuf>) -> Self {
        let trusted = trust_store(certificates.as_deref(), Roots::System);
        let loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(connection_pool(trusted));
        Self {
            config: loader.load().await,
            urls: [None, None],
            own_quota: false,
        }
    }

    /// Stores on this machine, with credentials that mean nothing.
    #[must_use]
    pub fn local(dynamodb_url: &str, secrets_manager_url: &str) -> Self {
        let credentials = Credentials::new("local", "local", None, None, "local stores");
        Self {
            config: SdkConfig::builder()
                .behavior_version(BehaviorVersion::v2026_01_12())
                .region(Region::from_static("us-east-1"))
                .credentials_provider(SharedCredentialsProvider::new(credentials))
                .http_client(connection_pool(TrustStore::default()))
                .build(),
            urls: [dynamodb_url, secrets_manager_url].map(|url| Some(url.to_owned())),
            own_quota: true,
        }
    }
}

/// The clients of both services.
#[derive(Debug, Clone)]
pub struct Clients {
    /// `DynamoDB`.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Secrets Manager.
    pub secrets_manager: aws_sdk_secretsmanager::Client,
    /// For clients of further services: region, credentials, limits and the connection pool of these two.
    pub config: SdkConfig,
}

impl Clients {
    /// Clients that share one connection pool.
    #[must_use]
    pub fn new(endpoints: Endpoints, limits: Limits) -> Self {
        let config = with_limits(endpoints.config, limits);
        let mut dynamodb = aws_sdk_dynamodb::config::Builder::from(&config);
        dynamodb.push_interceptor(count_calls(calls::Service::DynamoDb));
        let mut secrets_manager = aws_sdk_secretsmanager::config::Builder::from(&config);
        secrets_manager.push_interceptor(count_calls(calls::Service::SecretsManager));
        let [dynamodb_url, secrets_manager_url] = endpoints.urls;
        if let Some(url) = dynamodb_url {
            dynamodb = dynamodb.endpoint_url(url);
        }
        if let Some(url) = secrets_manager_url {
            secrets_manager = secrets_manager.endpoint_url(url);
        }
        if endpoints.own_quota {
            // The quota of repetitions belongs to the process, as on Lambda, where a process has one store of each kind;
            // many stores in one process must not use up each other's.
            let own_quota = || RetryPartition::custom("local stores").build();
            dynamodb = dynamodb.retry_partition(own_quota());
            secrets_manager = secrets_manager.retry_partition(own_quota());
        }
        Self {
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
            secrets_manager: aws_sdk_secretsmanager::Client::from_conf(secrets_manager.build()),
            config,
        }
    }
}

fn with_limits(config: SdkConfig, limits: Limits) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(limits.attempt)
        .operation_timeout(limits.call)
        .build();
    // Standard, not adaptive: adaptive would slow every user while one device is attacked.
    let retries = RetryConfig::standard()
        .with_max_attempts(TRIES)
        .with_initial_backoff(FIRST_BACKOFF);
    let builder = config.into_builder().timeout_config(timeouts);
    builder.retry_config(retries).build()
}

/// Which root certificates count if the environment names no file of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Roots {
    /// The five of Amazon Trust Services, which sign what AWS's endpoints show. They are part of the program, so a start reads
    /// five certificates and not the 140 of a system.
    Amazon,
    /// The system's.
    System,
}

const AMAZON_ROOTS: &str = include_str!("amazon-roots.pem");

/// The root certificates of a file that is named in the environment, or others. If the file cannot be read, as after a change
/// of the runtime's image, every call would fail: then Amazon's are used, and the log says so.
fn trust_store(named: Option<&Path>, otherwise: Roots) -> TrustStore {
    let unreadable = named.and_then(|file| Some((file, std::fs::File::open(file).err()?)));
    if let Some((file, error)) = &unreadable {
        tracing::error!(named = %file.display(), %error, "the file with root certificates cannot be read, and Amazon's are used instead: set SSL_CERT_FILE to another");
    }
    if unreadable.is_some() || named.is_none() && otherwise == Roots::Amazon {
        return TrustStore::empty().with_pem_certificate(AMAZON_ROOTS);
    }
    // Those of a file, too: the TLS library reads the same variable.
    TrustStore::default()
}

fn connection_pool(trusted: TrustStore) -> aws_sdk_dynamodb::config::SharedHttpClient {
    let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    // Building one does not fail in this version of the SDK; the default has the system's certificates.
    let context = TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .unwrap_or_default();
    aws_smithy_http_client::Builder::new()
        .tls_provider(provider)
        .tls_context(context)
        .build_https()
}

/// Counts every try that is sent, for the log line of the request that sent it.
#[derive(Debug)]
struct CountCalls(calls::Service);

/// Permanent: nothing turns it off, so the SDK need not ask before each of its twenty hooks.
fn count_calls(service: calls::Service) -> SharedInterceptor {
    SharedInterceptor::permanent(CountCalls(service))
}

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

/// An SDK error without the store's own text, which may quote a call or an answer and with it a name or a seed. Of a
/// service error only the code is kept; of any other, the messages of the whole chain. Never its `Debug`, which would
/// show the raw response.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SdkMessage(String);

impl SdkMessage {
    fn new<E, R>(error: &SdkError<E, R>) -> Self
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

/// The error codes that ask for a slower pace.
const THROTTLING: [&str; 5] = [
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "ProvisionedThroughputExceededException",
];

/// The error codes for credentials that expired or were deleted.
const NO_CREDENTIALS: [&str; 6] = [
    "ExpiredTokenException",
    "ExpiredToken",
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationTokenException",
];

/// How the SDK says that it could not get credentials: the messages of its `CredentialsError`.
pub const CREDENTIALS_ERRORS: [&str; 4] = [
    "credential provider was not",
    "credentials provider",
    "loading credentials",
    "credentials error",
];

/// A call of a store that failed, as the core sees it.
pub(super) fn unavailable<E, R>(store: &'static str, operation: &'static str, error: &SdkError<E, R>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
    R: Debug + 'static,
{
    let message = SdkMessage::new(error);
    let source: Box<dyn Error + Send + Sync> = match error.as_service_error().map(ProvideErrorMetadata::code) {
        Some(Some(code)) if THROTTLING.contains(&code) => Box::new(Throttled(message.0)),
        Some(Some(code)) if NO_CREDENTIALS.contains(&code) => Box::new(NoCredentials(message.0)),
        None if CREDENTIALS_ERRORS.iter().any(|text| message.0.contains(text)) => Box::new(NoCredentials(message.0)),
        _ => Box::new(message),
    };
    StoreError::Unavailable {
        store,
        operation,
        source,
    }
}

#[cfg(test)]
mod tests {
    use aws_config::retry::RetryMode;
    use aws_sdk_dynamodb::error::ErrorMetadata;
    use aws_sdk_dynamodb::operation::get_item::GetItemError;

    use tokio_rustls::rustls::RootCertStore;
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;

    use super::*;

    #[test]
    fn both_clients_try_three_times_at_most_and_end_before_the_deadline_of_a_request() {
        let millis = |number| Some(Duration::from_millis(number));
        let endpoints = || Endpoints::local("http://127.0.0.1:1", "http://127.0.0.1:1");
        for (limits, attempt, call) in [
            (Limits::REQUEST, millis(500), millis(2_000)),
            (Limits::OPERATOR, millis(5_000), millis(15_000)),
        ] {
            let clients = Clients::new(endpoints(), limits);
            let (dynamodb, secrets_manager) = (clients.dynamodb.config(), clients.secrets_manager.config());
            for retries in [
                clients.config.retry_config(),
                dynamodb.retry_config(),
                secrets_manager.retry_config(),
            ] {
                assert_eq!(retries.map(RetryConfig::max_attempts), Some(3));
                assert_eq!(retries.map(RetryConfig::mode), Some(RetryMode::Standard));
                assert_eq!(retries.map(RetryConfig::initial_backoff), millis(25));
            }
            for timeouts in [
                clients.config.timeout_config(),
                dynamodb.timeout_config(),
                secrets_manager.timeout_config(),
            ] {
                let set = timeouts.map(|limits| (limits.operation_attempt_timeout(), limits.operation_timeout()));
                assert_eq!(set, Some((attempt, call)));
            }
        }
    }

    #[test]
    fn a_function_uses_the_region_and_the_kind_of_endpoints_that_it_is_given() {
        let settings = AwsConfig {
            region: "us-gov-west-1".to_owned(),
            dynamodb_url: None,
            secrets_manager_url: None,
            fips: true,
            dual_stack: true,
            certificates: None,
        };
        let config = Clients::new(Endpoints::for_function(settings), Limits::REQUEST).config;
        assert_eq!(config.region(), Some(&Region::from_static("us-gov-west-1")));
        assert_eq!((config.use_fips(), config.use_dual_stack()), (Some(true), Some(true)));
        assert!(config.credentials_provider().is_some());
    }

    #[test]
    fn amazons_roots_replace_a_file_that_is_gone_and_the_systems_on_lambda() -> Result<(), Box<dyn Error>> {
        let trusted = |named: Option<&str>, otherwise| format!("{:?}", trust_store(named.map(Path::new), otherwise));
        let amazon = format!("{:?}", TrustStore::empty().with_pem_certificate(AMAZON_ROOTS));
        let system = format!("{:?}", TrustStore::default());
        let present = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for roots in [Roots::Amazon, Roots::System] {
            assert_eq!(trusted(Some("/nowhere"), roots), amazon);
            assert_eq!(trusted(Some(present), roots), system);
        }
        assert_eq!(trusted(None, Roots::Amazon), amazon);
        assert_eq!(trusted(None, Roots::System), system);

        // As the TLS library reads them; it panics at one that it cannot parse.
        let roots = CertificateDer::pem_slice_iter(AMAZON_ROOTS.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let mut store = RootCertStore::empty();
        assert_eq!(store.add_parsable_certificates(roots), (5, 0));
        Ok(())
    }

    #[derive(Debug, thiserror::Error)]
    #[error("no answer")]
    struct NoAnswer {
        raw_response: &'static str,
    }

    #[test]
    fn the_sdks_messages_are_kept_and_neither_its_debug_output_nor_a_stores_text() {
        let error: SdkError<GetItemError, ()> = SdkError::timeout_error(NoAnswer { raw_response: "a seed" });
        let text = SdkMessage::new(&error).to_string();
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
            let message = SdkMessage::new(&error);
            assert_eq!(message.to_string(), text);
            assert!(!format!("{message:?}").contains("a name"));
        }
    }

    #[test]
    fn throttling_and_credentials_that_expired_are_told_from_other_errors() {
        let service = |code: &str| {
            let metadata = ErrorMetadata::builder().code(code).build();
            let error: SdkError<GetItemError, &str> = SdkError::service_error(GetItemError::generic(metadata), "");
            unavailable("dynamodb", "GetItem", &error)
        };
        for (code, throttled, without_credentials) in [
            ("ThrottlingException", true, false),
            ("ExpiredTokenException", false, true),
            ("UnrecognizedClientException", false, true),
            ("AccessDeniedException", false, false),
        ] {
            let error = service(code);
            let found = (error.is_throttled(), error.lacks_credentials());
            assert_eq!(found, (throttled, without_credentials), "{code}");
        }
    }
}

//! A complete stack on one machine: stores, tokens, gateway, functions, test clock. Any number of them side by side.

mod environment;
pub(crate) mod local_api;
mod options;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use lambda_http::{Body, Response};
use serde::Serialize;
use shared::aws::auths::DynamoAuths;
use shared::aws::devices::DynamoDevices;
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::Clock as _;
use shared::config::ManageDevicesConfig;
use shared::device::Status;
use shared::http::Event;
use shared::names::{DeviceKey, Owner};
use shared::otp::{OtpParameters, Seed};
use zeroize::Zeroizing;

use crate::clock::LocalClock;
use crate::cognito::client::Client;
use crate::cognito::control::{self, Cognito};
use crate::cognito::identity::Identity;
use crate::cognito::token::{self, Claims, Issuer, KEY_SET_PATH, TOKEN_PATH};
use crate::gateway::access_log::{self, AccessLog};
use crate::gateway::authorizer::Authorizer;
use crate::gateway::functions::Functions;
use crate::gateway::log::Log;
use crate::gateway::{self, Gateway};
use crate::host::{Host, bind};
use crate::page;
use crate::stores::devices::{Codes, DEMO_DEVICE, DEMO_USER, Registered, Registry, demo_device, device_key, new_seed};
use crate::stores::{Stores, samples};
use crate::template::{Function, Template};

use local_api::{CLOCK_PATH, CODE_PATH, LocalApi};

pub use options::{Options, PortTaken};

/// A running stack.
pub struct Stack {
    host: Host,
    origin: String,
    cognito_url: String,
    template: &'static Template,
    identity: Identity,
    clock: Arc<LocalClock>,
    stores: Arc<Stores>,
    stores_are_own: bool,
    functions: Arc<Functions>,
    issuer: Arc<Issuer>,
    registry: Registry,
    environment: BTreeMap<String, String>,
    demo: Registered,
    log: Arc<Log>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack")
            .field("origin", &self.origin)
            .field("identity", &self.identity)
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// Starts everything; when it returns, requests are answered.
    ///
    /// # Errors
    /// [`PortTaken`] if the port is in use; otherwise the error of what did not start.
    pub async fn start(options: Options) -> Result<Self> {
        let template = Template::get()?;
        // First, so that nothing else is touched if the port is in use.
        let (listener, port) = bind(options.port).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => anyhow!(PortTaken(options.port)),
            _ => anyhow!(error).context("cannot open the port"),
        })?;
        let origin = format!("http://127.0.0.1:{port}");
        let clock = match (options.clock, &options.data_dir) {
            (Some(clock), _) => clock,
            (None, Some(data_dir)) => Arc::new(LocalClock::kept_in(data_dir)?),
            (None, None) => Arc::new(LocalClock::running()),
        };
        let identity = match (options.identity, &options.data_dir) {
            (Some(identity), _) => identity,
            (None, Some(data_dir)) => Identity::kept_in(data_dir)?,
            (None, None) => Identity::generate()?,
        };
        identity.pool().set_creation_time(clock.now());
        let stores_are_own = options.stores.is_none();
        let stores = match options.stores {
            Some(stores) => stores,
            None => Arc::new(Stores::start(options.data_dir, &clock).await?),
        };

        let log = Arc::new(Log::new(options.log_to));
        let environment =
            environment::environment(&identity, &stores, options.client_owners.as_deref(), options.settings);
        let settings = ManageDevicesConfig::read(&environment)?;
        let owners = &settings.service.client_owners;
        let functions = Arc::new(Functions::start(
            environment.clone(),
            options
                .functions_dynamodb_url
                .as_deref()
                .unwrap_or(stores.dynamodb_url()),
            options
                .functions_secrets_manager_url
                .as_deref()
                .unwrap_or(stores.secrets_manager_url()),
            Arc::clone(&clock),
            Arc::clone(&log),
        )?);

        let host = Host::new("local-stack", &clock)?;
        let [first, _] = identity.clients();
        let served_registry = Arc::new(Registry::new(&stores.clients(), &clock, settings.seed_storage));
        let key = device_key(owners.owner_of(first.id()), DEMO_USER, DEMO_DEVICE)?;
        let demo = host
            .run(first_devices(Arc::clone(&served_registry), key, options.demo_seed))
            .await?;

        let issuer = Arc::new(Issuer {
            url: format!("{origin}/{}", identity.pool_id()),
            identity: identity.clone(),
            clock: Arc::clone(&clock),
            scopes: template.scopes.clone(),
            token_life: template.token_life,
        });
        let cognito_url = serve_cognito(&host, &identity, &clock, template)?;
        let gateway = Gateway {
            template,
            authorizer: Authorizer {
                identity: identity.clone(),
                clock: Arc::clone(&clock),
                issuer_url: issuer.url.clone(),
            },
            functions: Arc::clone(&functions),
            clock: Arc::clone(&clock),
        };
        let local_api = LocalApi {
            clock: Arc::clone(&clock),
            registry: served_registry,
            first_client: first.id().clone(),
            owners: settings.service.client_owners,
        };
        let page_api = page::Api {
            local: Arc::new(local_api),
            log: Arc::clone(&log),
            client: first.clone(),
            stage: template.stage.clone(),
            policy: settings.service.policy,
            issuer: settings.issuer,
        };
        host.serve_router(listener, router(Arc::clone(&issuer), gateway, page_api))?;

        // Separate from the served one, whose connections belong to the host's runtime; these belong to the caller's.
        let registry = Registry::new(&stores.clients(), &clock, settings.seed_storage);
        Ok(Self {
            host,
            origin,
            cognito_url,
            template,
            identity,
            clock,
            stores,
            stores_are_own,
            functions,
            issuer,
            registry,
            environment,
            demo,
            log,
        })
    }

    /// Lets running requests finish, within limits, and stops everything that the stack started.
    pub async fn shutdown(self) {
        self.host.shutdown().await;
        if self.stores_are_own {
            self.stores.shutdown().await;
        }
    }

    /// Scheme, host and port, such as `http://127.0.0.1:3000`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// URL of the API with its stage; step 2 is `POST <this>/deviceAuthentications`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}/{}", self.origin, self.template.stage)
    }

    /// URL of the token endpoint.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("{}{TOKEN_PATH}", self.origin)
    }

    /// URL of the key set that verifies tokens.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}{KEY_SET_PATH}", self.origin)
    }

    /// Endpoint of Cognito's calls.
    #[must_use]
    pub fn cognito_url(&self) -> &str {
        &self.cognito_url
    }

    /// The user pool of the clients.
    #[must_use]
    pub fn user_pool_id(&self) -> &str {
        self.identity.pool_id()
    }

    /// The two clients that are always there, the demo's first.
    #[must_use]
    pub fn clients(&self) -> [&Client; 2] {
        self.identity.clients()
    }

    /// Clients and keys, for a stack that replaces this one.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The stores, which can outlive the stack.
    #[must_use]
    pub const fn stores(&self) -> &Arc<Stores> {
        &self.stores
    }

    /// The settings of the functions, and where the SDK finds the stores: the content of `.local/env`.
    #[must_use]
    pub const fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// The demo's device.
    #[must_use]
    pub const fn demo(&self) -> &Registered {
        &self.demo
    }

    /// The clock that everything in the stack reads.
    #[must_use]
    pub const fn clock(&self) -> &Arc<LocalClock> {
        &self.clock
    }

    /// Moves the clock into the future.
    ///
    /// # Errors
    /// If the offset cannot be kept.
    pub fn advance(&self, by: Duration) -> Result<()> {
        self.clock.advance(by)
    }

    /// Moves the clock into the past.
    ///
    /// # Errors
    /// If the offset cannot be kept.
    pub fn step_back(&self, by: Duration) -> Result<()> {
        self.clock.step_back(by)
    }

    /// The table of auths, reached directly.
    #[must_use]
    pub const fn auths(&self) -> &DynamoAuths {
        &self.registry.auths
    }

    /// The table of devices, reached directly.
    #[must_use]
    pub const fn devices(&self) -> &DynamoDevices {
        &self.registry.devices
    }

    /// The seeds, reached directly, with nothing kept in memory.
    #[must_use]
    pub const fn seeds(&self) -> &SecretsManagerSeeds<Arc<LocalClock>> {
        &self.registry.seeds
    }

    /// Registers an active device with a new seed.
    ///
    /// # Errors
    /// If a name is invalid, if the device exists, or if a store fails.
    pub async fn register_device(
        &self,
        owner: impl Into<Owner>,
        user: &str,
        device: &str,
        parameters: OtpParameters,
    ) -> Result<Registered> {
        self.register(&device_key(owner, user, device)?, new_seed(parameters)?, Status::Active)
            .await
    }

    /// Registers a device with a seed and a status.
    ///
    /// # Errors
    /// If the device exists, or if a store fails.
    pub async fn register(&self, key: &DeviceKey, seed: Seed, status: Status) -> Result<Registered> {
        let registered = self
            .registry
            .register(key, seed, |device| device.status = status)
            .await?;
        registered.ok_or_else(|| anyhow!("the device {key:?} already exists"))
    }

    /// Removes a device and its seed, if it exists.
    ///
    /// # Errors
    /// If a store fails.
    pub async fn remove_device(&self, key: &DeviceKey) -> Result<()> {
        self.registry.remove(key).await
    }

    /// The current codes of a device, used or not.
    ///
    /// # Errors
    /// If the device does not exist, or if a store fails.
    pub async fn code(&self, key: &DeviceKey) -> Result<Codes> {
        self.registry.codes(key).await?.ok_or_else(|| anyhow!("no such device"))
    }

    /// The claims of an access token issued to a client now, with every scope.
    ///
    /// # Errors
    /// If the system's generator fails.
    pub fn claims(&self, client: &Client) -> Result<Claims> {
        self.issuer.claims(client.id(), &self.issuer.scopes)
    }

    /// Signs claims, valid or not, with the key of this stack.
    ///
    /// # Errors
    /// If they cannot be written as JSON.
    pub fn sign(&self, claims: &impl Serialize) -> Result<Zeroizing<String>> {
        self.identity.signing_key().sign(claims)
    }

    /// An access token of a client, without HTTP.
    ///
    /// # Errors
    /// If the system's generator fails.
    pub fn token(&self, client: &Client) -> Result<Zeroizing<String>> {
        self.sign(&self.claims(client)?)
    }

    /// Hands an event to a function as Lambda does, bypassing the gateway.
    ///
    /// # Errors
    /// If the function panicked.
    pub async fn invoke(&self, function: Function, event: &str) -> Result<Response<Body>> {
        let (event, functions) = (Event::from_text(event.to_owned()), Arc::clone(&self.functions));
        self.host
            .run(async move { functions.call(function, event).await })
            .await
    }

    /// Replaces the functions by new instances, with new connections and nothing in memory.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub fn cold_start(&self) -> Result<()> {
        self.functions.cold_start()
    }

    /// The log lines of the functions, as JSON, one for each request. Kept only with [`crate::LogTo::Memory`].
    #[must_use]
    pub fn log_lines(&self) -> Vec<String> {
        self.log.function_lines()
    }

    /// The log lines about requests that reached no function. Kept only with [`crate::LogTo::Memory`].
    #[must_use]
    pub fn access_lines(&self) -> Vec<String> {
        self.log.access_lines()
    }
}

/// Everything on the port of the API. What the page reads is not in the access log, since it polls.
fn router(issuer: Arc<Issuer>, gateway: Gateway, page_api: page::Api) -> Router {
    let access_log = AccessLog {
        clock: Arc::clone(&gateway.clock),
        log: Arc::clone(&page_api.log),
        known_paths: &[TOKEN_PATH, KEY_SET_PATH, CLOCK_PATH, CODE_PATH],
    };
    Router::new()
        .merge(token::router(issuer))
        .merge(local_api::router(Arc::clone(&page_api.local)))
        .merge(gateway::router(Arc::new(gateway)))
        .layer(from_fn_with_state(access_log, access_log::write))
        .merge(page::router(page_api))
        .layer(from_fn(page::serve_files))
}

/// Cognito's calls, on a separate port, as AWS has a separate host for them.
fn serve_cognito(host: &Host, identity: &Identity, clock: &Arc<LocalClock>, template: &Template) -> Result<String> {
    let (listener, port) = bind(0)?;
    let cognito = Cognito {
        identity: identity.clone(),
        clock: Arc::clone(clock),
        scopes: template.scopes.clone(),
        resource_server: template.resource_server.clone(),
    };
    host.serve_router(listener, control::router(Arc::new(cognito)))?;
    Ok(format!("http://127.0.0.1:{port}"))
}

/// The devices that exist before the first request; those of an earlier start stay.
async fn first_devices(registry: Arc<Registry>, demo: DeviceKey, seed: Option<Seed>) -> Result<Registered> {
    samples::register(&registry).await?;
    demo_device(&registry, &demo, seed).await
}

#[cfg(test)]
mod tests;

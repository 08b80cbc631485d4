//! The whole service on one machine: stores, tokens, gateway, functions, test clock. Any number of them side by side.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use axum::Router;
use axum::middleware::from_fn_with_state;
use lambda_http::{Body, Response};
use serde::Serialize;
use shared::aws::auths::DynamoAuths;
use shared::aws::devices::DynamoDevices;
use shared::aws::sdk::Clients;
use shared::aws::seeds::SecretsManagerSeeds;
use shared::clock::Clock as _;
use shared::config;
use shared::device::Status;
use shared::names::{ClientId, DeviceKey};
use shared::otp::{OtpParameters, Seed};
use zeroize::Zeroizing;

use crate::access::{self, Access};
use crate::authorizer::Authorizer;
use crate::clock::LocalClock;
use crate::cognito::{self, Cognito};
use crate::control_plane::{self, ControlPlane, Deployed, Here};
use crate::files::DataDir;
use crate::functions::Functions;
use crate::gateway::{self, Gateway};
use crate::host::{Host, bind};
use crate::identity::{Client, Identity, REGION};
use crate::local_api::{self, CLOCK_PATH, CODE_PATH, LocalApi};
use crate::log::{Log, LogTo};
use crate::registry::{
    AUTHS_TABLE, Codes, DEVICES_TABLE, Registered, Registry, SEED_PREFIX, demo_device, device_key, new_seed,
};
use crate::samples;
use crate::stores::Stores;
use crate::template::{Function, OF_THIS_CHECKOUT, Template};
use crate::token::{self, Claims, Issuer, KEY_SET_PATH, TOKEN_PATH};

/// The demo's user.
pub const DEMO_USER: &str = "demouser";
/// The demo's device.
pub const DEMO_DEVICE: &str = "mydevice";

/// How a stack is started. The default is what tests need: everything new, in memory, on free ports.
#[derive(Debug, Default)]
pub struct Options {
    /// The port of the API; 0 takes a free one.
    pub port: u16,
    /// Keeps tables, secrets, clients, signing key and clock offset over a restart.
    pub data_dir: Option<Arc<DataDir>>,
    /// The time; otherwise the machine's clock, with the data directory's offset.
    pub clock: Option<Arc<LocalClock>>,
    /// Stores that were started before. They go on when the stack stops.
    pub stores: Option<Arc<Stores>>,
    /// Clients and keys of an earlier stack; otherwise the data directory's, or new ones.
    pub identity: Option<Identity>,
    /// Where the functions find `DynamoDB`, such as a proxy that injects faults; otherwise the store itself.
    pub functions_dynamodb_url: Option<String>,
    /// Where the functions find Secrets Manager; otherwise the store itself.
    pub functions_secrets_manager_url: Option<String>,
    /// Settings of the functions that differ from the local ones, such as `GUESS_POLICY`; see `shared::config`.
    pub settings: BTreeMap<String, String>,
    /// The seed of the demo's device; otherwise a new one.
    pub demo_seed: Option<Seed>,
    /// What becomes of log lines.
    pub log_to: LogTo,
}

/// The port is in use.
#[derive(Debug, thiserror::Error)]
#[error("port {0} is in use; choose another one with --port, or 0 for a free one")]
pub struct PortTaken(pub u16);

/// A running stack.
pub struct Stack {
    host: Host,
    origin: String,
    cognito_url: String,
    control_plane: Arc<ControlPlane>,
    template: Template,
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
    /// [`PortTaken`] if the port is in use; otherwise whatever did not start.
    pub async fn start(options: Options) -> Result<Self> {
        let template = Template::parse(OF_THIS_CHECKOUT)?;
        // First, so that nothing else is touched if another stack has it.
        let (listener, port) = bind(options.port).map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => anyhow!(PortTaken(options.port)),
            _ => anyhow!(error).context("the port cannot be opened"),
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
        identity.pool().date(clock.now());
        let stores_are_own = options.stores.is_none();
        let stores = match options.stores {
            Some(stores) => stores,
            None => Arc::new(Stores::start(options.data_dir, &clock).await?),
        };
        let clients = || Clients::of_local_stores(stores.dynamodb_url(), stores.secrets_manager_url());

        let log = Arc::new(Log::new(options.log_to));
        let environment = environment(&identity, &stores, options.settings);
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

        let host = Host::new("local-stack")?;
        let [first, _] = identity.clients();
        let served_registry = Arc::new(Registry::new(&clients(), &clock));
        let key = device_key(first.id(), DEMO_USER, DEMO_DEVICE)?;
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
        let cognito_url = serve_cognito(&host, &identity, &clock, &template)?;
        let control_plane = serve_control_plane(&host, &origin, &identity, &clock, &template, &environment)?;
        let gateway = Gateway {
            template: template.clone(),
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
        };
        let access = Access {
            clock: Arc::clone(&clock),
            log: Arc::clone(&log),
            known: &[TOKEN_PATH, KEY_SET_PATH, CLOCK_PATH, CODE_PATH],
        };
        let router = Router::new()
            .merge(token::router(Arc::clone(&issuer)))
            .merge(local_api::router(Arc::new(local_api)))
            .merge(gateway::router(Arc::new(gateway)))
            .layer(from_fn_with_state(access, access::log));
        host.serve_router(listener, router)?;

        // Not the one that is served: its connections belong to the host's runtime, these to the caller's.
        let registry = Registry::new(&clients(), &clock);
        Ok(Self {
            host,
            origin,
            cognito_url,
            control_plane,
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

    /// Lets requests that are under way finish, within reason, and stops everything that the stack started.
    pub async fn shutdown(self) {
        self.host.shutdown().await;
        if self.stores_are_own {
            self.stores.shutdown().await;
        }
    }

    /// Where everything is, such as `http://127.0.0.1:3000`.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The API with its stage; step 2 is `POST <this>/deviceAuthentications`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("{}/{}", self.origin, self.template.stage)
    }

    /// Where tokens are given.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("{}{TOKEN_PATH}", self.origin)
    }

    /// Where the keys are that verify tokens.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}{KEY_SET_PATH}", self.origin)
    }

    /// Where Cognito's calls about clients are answered.
    #[must_use]
    pub fn cognito_url(&self) -> &str {
        &self.cognito_url
    }

    /// Its name, as `CloudFormation` has it.
    #[must_use]
    pub const fn stack_name(&self) -> &'static str {
        SEED_PREFIX
    }

    /// Where the calls of `CloudFormation` and API Gateway are answered that say what a stack consists of.
    #[must_use]
    pub fn control_plane_url(&self) -> &str {
        self.control_plane.url()
    }

    /// What those calls say; it can be changed.
    #[must_use]
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control_plane
    }

    /// The user pool that clients are in.
    #[must_use]
    pub fn user_pool_id(&self) -> &str {
        self.identity.pool_id()
    }

    /// Its own two clients, the demo's first.
    #[must_use]
    pub fn clients(&self) -> [&Client; 2] {
        self.identity.clients()
    }

    /// Clients and keys, for a stack that takes this one's place.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The stores.
    #[must_use]
    pub const fn stores(&self) -> &Arc<Stores> {
        &self.stores
    }

    /// The settings of the functions, and where the SDK finds the stores: what `.local/env` holds.
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
    /// If a name is none, if there is a device by that name, or if a store fails.
    pub async fn register_device(
        &self,
        client: &ClientId,
        user: &str,
        device: &str,
        parameters: OtpParameters,
    ) -> Result<Registered> {
        self.register(
            &device_key(client, user, device)?,
            new_seed(parameters)?,
            Status::Active,
        )
        .await
    }

    /// Registers a device with a seed and a status.
    ///
    /// # Errors
    /// If there is a device by that name, or if a store fails.
    pub async fn register(&self, key: &DeviceKey, seed: Seed, status: Status) -> Result<Registered> {
        let registered = self
            .registry
            .register(key, seed, |device| device.status = status)
            .await?;
        registered.ok_or_else(|| anyhow!("there is a device by that name"))
    }

    /// Removes a device and its seed, if it is there.
    ///
    /// # Errors
    /// If a store fails.
    pub async fn remove_device(&self, key: &DeviceKey) -> Result<()> {
        self.registry.remove(key).await
    }

    /// The codes of a device now, whether they were used or not.
    ///
    /// # Errors
    /// If there is no such device, or if a store fails.
    pub async fn code(&self, key: &DeviceKey) -> Result<Codes> {
        self.registry.codes(key).await?.ok_or_else(|| anyhow!("no such device"))
    }

    /// The claims of an access token that is issued to a client now, with every scope.
    ///
    /// # Errors
    /// If the system's generator fails.
    pub fn claims(&self, client: &Client) -> Result<Claims> {
        self.issuer.claims(client.id(), &self.issuer.scopes)
    }

    /// Signs claims, right or wrong ones, with the key of this stack.
    ///
    /// # Errors
    /// If they are not JSON.
    pub fn sign(&self, claims: &impl Serialize) -> Result<Zeroizing<String>> {
        self.identity.signing_key().sign(claims)
    }

    /// An access token of a client, without going over HTTP.
    ///
    /// # Errors
    /// If the system's generator fails.
    pub fn token(&self, client: &Client) -> Result<Zeroizing<String>> {
        self.sign(&self.claims(client)?)
    }

    /// Hands an event to a function as Lambda does, past the gateway.
    ///
    /// # Errors
    /// If the function panicked.
    pub async fn invoke(&self, function: Function, event: &str) -> Result<Response<Body>> {
        let (request, functions) = (shared::http::event::request(event), Arc::clone(&self.functions));
        self.host
            .run(async move { functions.call(function, request).await })
            .await
    }

    /// Replaces the functions by new instances, with new connections and nothing in memory.
    ///
    /// # Errors
    /// If the settings are refused.
    pub fn cold_start(&self) -> Result<()> {
        self.functions.cold_start()
    }

    /// The lines that the functions logged, as JSON, one for each request. Kept only with [`LogTo::Memory`].
    #[must_use]
    pub fn log_lines(&self) -> Vec<String> {
        self.log.of_functions()
    }

    /// The lines about requests that no function saw. Kept only with [`LogTo::Memory`].
    #[must_use]
    pub fn access_lines(&self) -> Vec<String> {
        self.log.of_others()
    }
}

/// Cognito's calls, on a port of their own as in AWS they have a host of their own.
fn serve_cognito(host: &Host, identity: &Identity, clock: &Arc<LocalClock>, template: &Template) -> Result<String> {
    let (listener, port) = bind(0)?;
    let cognito = Cognito {
        identity: identity.clone(),
        clock: Arc::clone(clock),
        scopes: template.scopes.clone(),
        resource_server: template.resource_server.clone(),
    };
    host.serve_router(listener, cognito::router(Arc::new(cognito)))?;
    Ok(format!("http://127.0.0.1:{port}"))
}

/// What the stack says of itself, on a port of its own as well.
fn serve_control_plane(
    host: &Host,
    origin: &str,
    identity: &Identity,
    clock: &Arc<LocalClock>,
    template: &Template,
    environment: &BTreeMap<String, String>,
) -> Result<Arc<ControlPlane>> {
    let (listener, port) = bind(0)?;
    let deployed = Deployed::of(&Here {
        template,
        identity,
        environment,
        api_url: format!("{origin}/{}", template.stage),
        token_url: format!("{origin}{TOKEN_PATH}"),
        now: clock.now(),
    })?;
    let control_plane = ControlPlane::new(deployed, clock, format!("http://127.0.0.1:{port}"));
    let control_plane = Arc::new(control_plane);
    host.serve_router(listener, control_plane::router(&control_plane))?;
    Ok(control_plane)
}

/// Everything that is there before the first request; what an earlier start left in the stores stays.
async fn first_devices(registry: Arc<Registry>, demo: DeviceKey, seed: Option<Seed>) -> Result<Registered> {
    samples::put(&registry).await?;
    demo_device(&registry, &demo, seed).await
}

/// What the environment of the functions would be, and what the AWS SDK reads from it.
fn environment(identity: &Identity, stores: &Stores, settings: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let local = [
        (config::AUTHS_TABLE, AUTHS_TABLE),
        (config::DEVICES_TABLE, DEVICES_TABLE),
        (config::SEED_PREFIX, SEED_PREFIX),
        (config::DEVICE_HASH_KEY, identity.device_hash_key()),
        ("AWS_ENDPOINT_URL_DYNAMODB", stores.dynamodb_url()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", stores.secrets_manager_url()),
        ("AWS_REGION", REGION),
        // The stores take anything.
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
    ];
    let local = local
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    local.chain(settings).collect()
}

#[cfg(test)]
mod tests;

//! A stack whose clock stands still, and a client's view of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use local::{DEMO_DEVICE, DEMO_USER, DataDir, Function, LocalClock, LogTo, Options, Registered, Stack, Stores};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use shared::aws::sdk::Clients;
use shared::clock::{Clock as _, Timestamp};
use shared::config;
use shared::device::{Device, PendingSeed};
use shared::names::{AuthId, ClientId, DeviceKey};
use shared::otp::{OtpParameters, Seed, Step};
use shared::ports::registry::DeviceRegistry as _;
use shared::ports::{DeviceStore as _, Written};

use crate::{Contract, Exchange, Secrets, StoreProxy};

/// What a test returns.
pub type Outcome = Result<()>;

/// The beginning of a step, 2026-11-25T03:00:00Z.
const NOW: Timestamp = Timestamp::from_secs(1_795_575_600);

/// How a world differs from the usual one.
#[derive(Debug, Default)]
pub struct WorldOptions {
    /// Keeps everything across restarts.
    pub data_dir: Option<Arc<DataDir>>,
    /// Puts a proxy in front of each store.
    pub proxies: bool,
    /// Whether time passes, for a program that reads the system's clock; otherwise it stands still.
    pub running: bool,
    /// Settings of the functions.
    pub settings: BTreeMap<String, String>,
    /// Which owner's devices the two clients use, as [`Options::client_owners`].
    pub client_owners: Option<String>,
    /// The seed of the demo's device; otherwise a new one.
    pub demo_seed: Option<Seed>,
    /// Where log lines go.
    pub log_to: LogTo,
}

/// The body of step 2 for a device.
#[must_use]
pub fn names(user: &str, device: &str) -> Value {
    json!({ "userName": user, "deviceName": device, "deviceType": "TOTP" })
}

/// The body of step 2 for the demo's device.
#[must_use]
pub fn demo_names() -> Value {
    names(DEMO_USER, DEMO_DEVICE)
}

/// A stack, its proxies, and an HTTP client.
#[derive(Debug)]
pub struct World {
    /// The stack.
    pub stack: Stack,
    /// In front of `DynamoDB`, if proxies were asked for.
    pub dynamodb: Option<StoreProxy>,
    /// In front of Secrets Manager, if proxies were asked for.
    pub secrets_manager: Option<StoreProxy>,
    http: reqwest::Client,
    token: Token,
}

/// An access token. Its `Debug` does not show it.
struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
}

impl Answer {
    async fn of(response: reqwest::Response) -> Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self {
            status,
            headers,
            text: response.text().await?,
        })
    }

    /// A member of the JSON body, `null` if it is missing.
    #[must_use]
    pub fn member(&self, name: &str) -> Value {
        serde_json::from_str::<Value>(&self.text)
            .ok()
            .and_then(|body| body.get(name).cloned())
            .unwrap_or_default()
    }

    /// The names of the members of the JSON body.
    #[must_use]
    pub fn members(&self) -> Vec<String> {
        let body = serde_json::from_str::<serde_json::Map<String, Value>>(&self.text).unwrap_or_default();
        body.keys().cloned().collect()
    }

    /// The code of an error.
    #[must_use]
    pub fn code(&self) -> String {
        self.member("code").as_str().unwrap_or_default().to_owned()
    }

    /// A header, empty if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// All that a client can compare two answers by: status, headers and body, without the time and the ids of the
    /// request.
    #[must_use]
    pub fn comparable(&self) -> (u16, BTreeMap<String, String>, Value) {
        let varying = ["date", "x-amzn-requestid", "x-amz-apigw-id"];
        let headers = self.headers.keys().map(|name| {
            let value = if varying.contains(&name.as_str()) {
                ""
            } else {
                self.header(name.as_str())
            };
            (name.to_string(), value.to_owned())
        });
        let mut body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        for member in ["traceId", "timestamp"] {
            if let Some(value) = body.get_mut(member) {
                *value = Value::Null;
            }
        }
        (self.status, headers.collect(), body)
    }

    /// Checks status and code of an error.
    ///
    /// # Errors
    /// If it is something else.
    pub fn expect(&self, status: u16, code: &str) -> Result<()> {
        let same = self.status == status && self.code() == code;
        anyhow::ensure!(same, "expected {status} {code}, got {} {}", self.status, self.text);
        Ok(())
    }

    /// Checks that it is a success.
    ///
    /// # Errors
    /// If it is not.
    pub fn success(&self, status: u16) -> Result<()> {
        let same = self.status == status && self.member("status") == "SUCCESS";
        anyhow::ensure!(same, "expected {status}, got {} {}", self.status, self.text);
        Ok(())
    }
}

impl World {
    /// A world in memory.
    ///
    /// # Errors
    /// If the stack does not start.
    pub async fn new() -> Result<Self> {
        Self::with(WorldOptions::default()).await
    }

    /// A world in memory with a proxy in front of each store.
    ///
    /// # Errors
    /// If the stack does not start.
    pub async fn with_proxies() -> Result<Self> {
        Self::with(WorldOptions {
            proxies: true,
            ..WorldOptions::default()
        })
        .await
    }

    /// A world that differs from the usual one.
    ///
    /// # Errors
    /// If the stack does not start.
    pub async fn with(options: WorldOptions) -> Result<Self> {
        // Compiled here, so that no request waits for it.
        Contract::get()?;
        let clock = Arc::new(if options.running {
            LocalClock::running()
        } else {
            LocalClock::still(NOW)
        });
        let stores = Arc::new(Stores::start(options.data_dir.clone(), &clock).await?);
        let (mut dynamodb, mut secrets_manager) = (None, None);
        if options.proxies {
            dynamodb = Some(StoreProxy::start(stores.dynamodb_url()).await?);
            secrets_manager = Some(StoreProxy::start(stores.secrets_manager_url()).await?);
        }
        let stack = Stack::start(Options {
            clock: Some(clock),
            stores: Some(stores),
            identity: options.data_dir.as_ref().map(local::Identity::kept_in).transpose()?,
            functions_dynamodb_url: dynamodb.as_ref().map(StoreProxy::url),
            functions_secrets_manager_url: secrets_manager.as_ref().map(StoreProxy::url),
            settings: options.settings,
            client_owners: options.client_owners,
            demo_seed: options.demo_seed,
            log_to: options.log_to,
            ..Options::default()
        })
        .await?;
        let [first, _] = stack.clients();
        let token = Token(stack.token(first)?.to_string());
        Ok(Self {
            stack,
            dynamodb,
            secrets_manager,
            http: reqwest::Client::new(),
            token,
        })
    }

    /// Stops everything that it started, and checks that no log line has a secret.
    ///
    /// # Panics
    /// If one has.
    pub async fn end(self) {
        let lines = [self.stack.log_lines(), self.stack.access_lines()].concat();
        let searcher = self.secrets().searcher();
        assert!(searcher.is_ok(), "the secrets cannot be searched for");
        for line in &lines {
            let found = searcher.as_ref().map_or(Vec::new(), |searcher| searcher.find(line));
            assert!(found.is_empty(), "{found:?} in the log: {line}");
        }
        let stores = Arc::clone(self.stack.stores());
        self.stack.shutdown().await;
        stores.shutdown().await;
    }

    /// What must never be written: the codes of the demo's device around the present, its seed and its
    /// names, the token, and every secret of the stack.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        self.add_device(&mut secrets, self.stack.demo());
        secrets.add_token(&self.token.0);
        for client in self.stack.clients() {
            secrets.add("the secret of a client", client.secret());
        }
        if let Some(key) = self.stack.environment().get(config::DEVICE_HASH_KEY) {
            secrets.add("the key of the devices' hashes", key);
        }
        secrets
    }

    /// The codes of a device around the present, its seed and its names.
    pub fn add_device(&self, secrets: &mut Secrets, device: &Registered) {
        let seed = device.seed.to_base32();
        secrets.add("a seed in base32", seed.as_str());
        if let Ok(bytes) = data_encoding::BASE32_NOPAD.decode(seed.as_bytes()) {
            secrets.add("a seed", bytes);
        }
        for ahead in -20..=20 {
            secrets.add("a code", self.code_of(device, ahead));
        }
        secrets.add("the name of a user", device.key.user.as_str());
        secrets.add("the name of a device", device.key.device.as_str());
    }

    /// SDK clients of the stores themselves, past the proxies.
    #[must_use]
    pub fn store_clients(&self) -> Clients {
        let stores = self.stack.stores();
        stores.clients()
    }

    /// The proxies, if they were asked for.
    pub fn proxies(&self) -> impl Iterator<Item = &StoreProxy> {
        [&self.dynamodb, &self.secrets_manager].into_iter().flatten()
    }

    /// The calls of the functions since the last time, by name: those to `DynamoDB`, then those to Secrets Manager.
    #[must_use]
    pub fn take_calls(&self) -> Vec<(String, usize)> {
        self.proxies().flat_map(StoreProxy::take_calls).collect()
    }

    /// The calls that the stores have answered since the last time, in the same order.
    #[must_use]
    pub fn take_exchanges(&self) -> Vec<Exchange> {
        self.proxies().flat_map(StoreProxy::take_exchanges).collect()
    }

    /// The first client.
    #[must_use]
    pub fn client(&self) -> &ClientId {
        let [first, _] = self.stack.clients();
        first.id()
    }

    /// A token of the second client.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn other_token(&self) -> Result<String> {
        let [_, second] = self.stack.clients();
        Ok(self.stack.token(second)?.to_string())
    }

    /// A request to the API, with a path below the stage and without a token.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.stack.api_url()))
    }

    /// A request to another address of the stack.
    pub fn at(&self, method: reqwest::Method, url: &str) -> reqwest::RequestBuilder {
        self.http.request(method, url)
    }

    /// Sends a request. An answer of the API must be as `openapi.yaml` says.
    ///
    /// # Errors
    /// If no answer comes, or another one.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let (http, request) = request.build_split();
        let request = request?;
        let (method, url) = (request.method().clone(), request.url().clone());
        let answer = Answer::of(http.execute(request).await?).await?;
        if let Some(path) = url.as_str().strip_prefix(&self.stack.api_url()) {
            let path = path.split('?').next().unwrap_or_default();
            Contract::get()?.check(&method, path, &answer)?;
        }
        Ok(answer)
    }

    /// Step 2 with a body and a token.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn init_auth(&self, token: &str, body: &Value) -> Result<Answer> {
        let request = self
            .request(reqwest::Method::POST, "/deviceAuthentications")
            .bearer_auth(token)
            .json(body);
        self.send(request).await
    }

    /// Step 3 with a body and a token.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn validate_otp(&self, token: &str, auth_id: &str, body: &Value) -> Result<Answer> {
        let path = format!("/deviceAuthentications/{auth_id}");
        self.send(self.request(reqwest::Method::POST, &path).bearer_auth(token).json(body))
            .await
    }

    /// Step 2 of the first client with a device, whatever the answer.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn try_start_with(&self, user: &str, device: &str) -> Result<Answer> {
        self.init_auth(&self.token.0, &names(user, device)).await
    }

    /// Step 2 of the first client with the demo's device, whatever the answer.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn try_start(&self) -> Result<Answer> {
        self.try_start_with(DEMO_USER, DEMO_DEVICE).await
    }

    /// Starts an authentication of the first client with a device and returns its authId.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start_with(&self, user: &str, device: &str) -> Result<String> {
        let answer = self.try_start_with(user, device).await?;
        answer.success(201)?;
        Ok(answer.member("authId").as_str().context("no authId")?.to_owned())
    }

    /// Starts an authentication with the demo's device.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(&self) -> Result<String> {
        self.start_with(DEMO_USER, DEMO_DEVICE).await
    }

    /// Sends one code.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn otp(&self, auth_id: &str, code: &str) -> Result<Answer> {
        self.validate_otp(&self.token.0, auth_id, &json!({ "otp": code })).await
    }

    /// Sends two codes.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn otps(&self, auth_id: &str, earlier: &str, later: &str) -> Result<Answer> {
        self.validate_otp(&self.token.0, auth_id, &json!({ "otps": [earlier, later] }))
            .await
    }

    /// Starts an authentication with the demo's device and sends one code.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn start_and_send(&self, code: &str) -> Result<Answer> {
        self.otp(&self.start().await?, code).await
    }

    /// The token that the other methods use.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token.0
    }

    /// A new token, as after an hour.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn renew_token(&mut self) -> Outcome {
        let [first, _] = self.stack.clients();
        self.token = Token(self.stack.token(first)?.to_string());
        Ok(())
    }

    /// The code of the demo's device for the step that is `ahead` of the current one.
    #[must_use]
    pub fn code(&self, ahead: i64) -> String {
        self.code_of(self.stack.demo(), ahead)
    }

    /// The code of a device for the step that is `ahead` of the current one.
    #[must_use]
    pub fn code_of(&self, device: &Registered, ahead: i64) -> String {
        let now = Step::at(self.stack.clock().now(), device.seed.parameters().period);
        device
            .seed
            .code(Step(now.0.saturating_add_signed(ahead)))
            .reveal()
            .to_owned()
    }

    /// A code that no step near the present has.
    ///
    /// # Errors
    /// Never, since there are more codes than steps.
    pub fn wrong_code(&self) -> Result<String> {
        let near: Vec<String> = (-20..=20).map(|ahead| self.code(ahead)).collect();
        let digits = usize::from(self.stack.demo().seed.parameters().digits.count());
        let mut codes = (0..100).map(|number| format!("{number:0digits$}"));
        codes.find(|code| !near.contains(code)).context("no wrong code")
    }

    /// Moves the clock.
    ///
    /// # Errors
    /// If it cannot be moved.
    pub fn advance(&self, by: Duration) -> Outcome {
        self.stack.advance(by)
    }

    /// The demo's device as the table holds it.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn device(&self) -> Result<Device> {
        self.device_of(&self.stack.demo().key).await
    }

    /// A device as the table holds it.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn device_of(&self, key: &DeviceKey) -> Result<Device> {
        self.stack.devices().get(key).await?.context("the device is gone")
    }

    /// The item of a device as the table holds it.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn item_of(&self, key: &DeviceKey) -> Result<BTreeMap<String, AttributeValue>> {
        let client = self.store_clients().dynamodb;
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let pk = format!("{}#{}", key.owner.as_str(), key.user.as_str());
        let get = client.get_item().table_name("Devices").key("pk", text(&pk));
        let got = get
            .key("sk", text(key.device.as_str()))
            .consistent_read(true)
            .send()
            .await?;
        Ok(got.item.context("the device is gone")?.into_iter().collect())
    }

    /// Changes the demo's device as an operator would: one write on what is there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn change(&self, change: impl FnOnce(&mut Device)) -> Outcome {
        self.change_of(&self.stack.demo().key, change).await
    }

    /// Changes a device as an operator would: one write on what is there. A new seed is made pending first.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn change_of(&self, key: &DeviceKey, change: impl FnOnce(&mut Device)) -> Outcome {
        let mut held = self.device_of(key).await?;
        let mut new = held.clone();
        change(&mut new);
        if new.seed_ref != held.seed_ref {
            let pending = PendingSeed {
                seed_ref: new.seed_ref.clone(),
                sealed: None,
                until: self.stack.clock().now().plus(Duration::from_hours(1)),
            };
            let offered = self.stack.devices().set_pending_seed(key, &held, &pending).await?;
            anyhow::ensure!(offered == Written::Yes, "the device was changed concurrently");
            held.version += 1;
            new.version += 1;
        }
        new.version += 1;
        let written = self.stack.devices().replace(key, &held, &new, None).await?;
        anyhow::ensure!(written == Written::Yes, "the device was changed concurrently");
        Ok(())
    }

    /// Registers one more device of the first client.
    ///
    /// # Errors
    /// If it is there, or cannot be stored.
    pub async fn register(&self, user: &str, device: &str) -> Result<Registered> {
        self.stack
            .register_device(self.client(), user, device, OtpParameters::default())
            .await
    }

    /// The tags of all secrets, in the order of their keys.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn tags(&self) -> Result<BTreeMap<String, String>> {
        let listed = self.store_clients().secrets_manager.list_secrets().send().await?;
        let tags = listed.secret_list().iter().flat_map(|secret| secret.tags().iter());
        let tags = tags.map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned())));
        tags.collect::<Option<_>>().context("a tag without a key or a value")
    }

    /// A well-formed authId that was never issued.
    #[must_use]
    pub fn unknown_auth_id(&self) -> String {
        AuthId::from_random_bytes([0x5a; 16]).to_string()
    }

    /// Hands an event to a function as Lambda does.
    ///
    /// # Errors
    /// If the function panicked.
    pub async fn invoke(&self, function: Function, event: &str) -> Result<(u16, String)> {
        let response = self.stack.invoke(function, event).await?;
        Ok((response.status().as_u16(), String::from_utf8(response.body().to_vec())?))
    }
}

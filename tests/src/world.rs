//! A stack whose clock stands still, and a client's view of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use local::{DEMO_DEVICE, DEMO_USER, DataDir, Function, LocalClock, Options, Registered, Stack, Stores};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use shared::clock::{Clock as _, Timestamp};
use shared::device::Device;
use shared::names::{AuthId, ClientId, DeviceKey};
use shared::otp::{OtpParameters, Step};
use shared::ports::DeviceStore as _;

use crate::StoreProxy;

/// What a test returns.
pub type Outcome = Result<()>;

/// The beginning of a step, 2026-11-25T03:00:00Z.
const NOW: Timestamp = Timestamp::from_secs(1_795_575_600);

/// How a world differs from the usual one.
#[derive(Debug, Default)]
pub struct WorldOptions {
    /// Keeps everything over a restart.
    pub data_dir: Option<Arc<DataDir>>,
    /// Puts a proxy in front of each store.
    pub proxies: bool,
    /// Settings of the functions.
    pub settings: BTreeMap<String, String>,
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
    token: String,
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

    /// A member of the JSON body, `null` if there is none.
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

    /// A header, empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Checks status and code of an error.
    ///
    /// # Errors
    /// If it is another one.
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
        let clock = Arc::new(LocalClock::still(NOW));
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
            ..Options::default()
        })
        .await?;
        let [first, _] = stack.clients();
        let token = stack.token(first)?.to_string();
        Ok(Self {
            stack,
            dynamodb,
            secrets_manager,
            http: reqwest::Client::new(),
            token,
        })
    }

    /// Ends it; nothing of it is left running, and no code, seed, token or password of it is in anything logged.
    ///
    /// # Panics
    /// If one is.
    pub async fn end(self) {
        self.no_secret_was_logged();
        let stores = Arc::clone(self.stack.stores());
        self.stack.shutdown().await;
        stores.shutdown().await;
    }

    fn no_secret_was_logged(&self) {
        let [first, second] = self.stack.clients();
        let demo = self.stack.demo();
        let seed = demo.seed.to_base32();
        let texts = [self.token.as_str(), first.secret(), second.secret(), seed.as_str()];
        let codes: Vec<String> = (-20..=20).map(|ahead| self.code(ahead)).collect();
        for line in [self.stack.log_lines(), self.stack.access_lines()].concat() {
            // Whole words: six digits of a duration are no code.
            let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            let shown =
                texts.iter().any(|text| line.contains(text)) || words.any(|word| codes.iter().any(|code| code == word));
            assert!(!shown, "a secret in the log: {line}");
        }
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

    /// A request of the API, by method and path below the stage, without a token.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.stack.api_url()))
    }

    /// A request to another address of the stack.
    pub fn at(&self, method: reqwest::Method, url: &str) -> reqwest::RequestBuilder {
        self.http.request(method, url)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        Answer::of(request.send().await?).await
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

    /// Starts an authentication of the first client with a device, and says its authId.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start_with(&self, user: &str, device: &str) -> Result<String> {
        let body = json!({ "userName": user, "deviceName": device, "deviceType": "TOTP" });
        let answer = self.init_auth(&self.token, &body).await?;
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
        self.validate_otp(&self.token, auth_id, &json!({ "otp": code })).await
    }

    /// Sends two codes.
    ///
    /// # Errors
    /// If no answer comes.
    pub async fn otps(&self, auth_id: &str, earlier: &str, later: &str) -> Result<Answer> {
        self.validate_otp(&self.token, auth_id, &json!({ "otps": [earlier, later] }))
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
        &self.token
    }

    /// A new token, as after an hour.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn renew_token(&mut self) -> Outcome {
        let [first, _] = self.stack.clients();
        self.token = self.stack.token(first)?.to_string();
        Ok(())
    }

    /// The code of the demo's device, of the step that is `ahead` of the one now.
    #[must_use]
    pub fn code(&self, ahead: i64) -> String {
        self.code_of(self.stack.demo(), ahead)
    }

    /// The code of a device, of the step that is `ahead` of the one now.
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
        let mut codes = (0..100).map(|number| format!("{number:06}"));
        codes.find(|code| !near.contains(code)).context("no wrong code")
    }

    /// Moves the clock.
    ///
    /// # Errors
    /// If it cannot be moved.
    pub fn advance(&self, by: Duration) -> Outcome {
        self.stack.advance(by)
    }

    /// The demo's device as the table has it.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn device(&self) -> Result<Device> {
        self.device_of(&self.stack.demo().key).await
    }

    /// A device as the table has it.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn device_of(&self, key: &DeviceKey) -> Result<Device> {
        self.stack.devices().get(key).await?.context("the device is gone")
    }

    /// Changes the demo's device as an operator would: one write on what is there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn change(&self, change: impl FnOnce(&mut Device)) -> Outcome {
        let key = &self.stack.demo().key;
        let held = self.device().await?;
        let mut new = held.clone();
        change(&mut new);
        new.version += 1;
        let written = self.stack.devices().replace(key, &held, &new, None).await?;
        anyhow::ensure!(written == shared::ports::Written::Yes, "somebody else wrote");
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

    /// An authId that was never issued.
    #[must_use]
    pub fn unknown_auth_id(&self) -> String {
        AuthId::from_random_bytes([0x5a; 16]).to_string()
    }

    /// Hands an event to a function as Lambda does.
    ///
    /// # Errors
    /// If the event cannot be read.
    pub async fn invoke(&self, function: Function, event: &str) -> Result<(u16, String)> {
        let response = self.stack.invoke(function, event).await?;
        Ok((response.status().as_u16(), String::from_utf8(response.body().to_vec())?))
    }
}

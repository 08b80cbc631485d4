//! Every kind of request once, in its own process, so that its output is everything that the service writes.
//! `journeys/leaks.rs` searches it.
//!
//! `every-request shipped FILE` logs what the functions log; `every-request everything FILE` also writes whatever any
//! library logs to standard error. FILE gets every secret that was used. Codes have 8 digits, so that none occurs by
//! chance.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use acceptance::{Answer, Exchange, Fault, Outcome, Rule, Secrets, StoreProxy, World, WorldOptions, names};
use anyhow::{Context as _, Result};
use aws_sdk_dynamodb::types::AttributeValue;
use local::{LogTo, Registered};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};
use shared::aws::sdk::Clients;
use shared::clock::{Clock as _, SystemClock, Timestamp};
use shared::device::{Registration, Status};
use shared::http::error::Failure;
use shared::http::response::Success;
use shared::http::{ApiRequest, Boundary, Endpoint, Notes};
use shared::names::SeedRef;
use shared::otp::{Digits, OtpParameters, Period, Seed, Step};
use shared::ports::operator::DeviceInventory as _;
use shared::ports::registry::DeviceRegistry as _;
use shared::random::{Random as _, SystemRandom};
use shared::telemetry::{DeviceHasher, StdoutLog, log_libraries};
use shared::testing::events::Event;
use tracing_subscriber::fmt::format::FmtSpan;

const USER: &str = "Zo\u{eb} Quixote+otp@example.org";
const PHONE: &str = "Pocket Phone \u{2116}7 (old)";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, file] = arguments.as_slice() else {
        anyhow::bail!("usage: every-request shipped|everything FILE");
    };
    if mode == "everything" {
        listen_to_everything()?;
    }
    // With a subscriber already set, it only sets what a panic prints.
    log_libraries();
    let mut requests = Requests::begin().await?;
    requests.tokens().await?;
    requests.verdicts().await?;
    requests.gates().await?;
    requests.registrations().await?;
    requests.bad_input().await?;
    requests.unknown().await?;
    requests.states().await?;
    requests.damage().await?;
    requests.faults().await?;
    requests.panic().await;
    requests.planted();
    requests.end(file.as_ref()).await
}

/// Writes everything that is logged through `tracing`, new spans included, or through `log`.
fn listen_to_everything() -> Outcome {
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::NEW)
        .with_writer(std::io::stderr)
        .finish();
    tracing::subscriber::set_global_default(subscriber)?;
    log::set_logger(&Logger).map_err(|_| anyhow::anyhow!("there already is a logger"))?;
    log::set_max_level(log::LevelFilter::Trace);
    Ok(())
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = json!({ "target": record.target(), "message": record.args().to_string() });
        // If standard error is gone, there is no one to tell.
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    fn flush(&self) {}
}

fn text(answer: &Answer, name: &str) -> Result<String> {
    let member = answer.member(name);
    Ok(member.as_str().context("a text is missing")?.to_owned())
}

struct Requests {
    world: World,
    phone: Registered,
    secrets: Secrets,
}

fn eight_digits() -> OtpParameters {
    OtpParameters {
        digits: Digits::Eight,
        ..OtpParameters::default()
    }
}

impl Requests {
    async fn begin() -> Result<Self> {
        let world = World::with(WorldOptions {
            proxies: true,
            demo_seed: Some(Seed::from_bytes(&SystemRandom.sixteen_bytes()?, eight_digits())?),
            log_to: LogTo::StandardOutput,
            ..WorldOptions::default()
        })
        .await?;
        let phone = world
            .stack
            .register_device(world.client(), USER, PHONE, eight_digits())
            .await?;
        let mut secrets = world.secrets();
        world.add_device(&mut secrets, &phone);
        Ok(Self { world, phone, secrets })
    }

    /// A code of the phone, which is recorded as a secret.
    fn code(&mut self, ahead: i64) -> String {
        let code = self.world.code_of(&self.phone, ahead);
        self.secrets.add("a code", &code);
        code
    }

    /// A code that is right in eight hours.
    fn wrong(&mut self) -> String {
        self.code(1_000)
    }

    async fn start(&mut self) -> Result<String> {
        let auth_id = self.world.start_with(USER, PHONE).await?;
        self.secrets.add("an authId", &auth_id);
        Ok(auth_id)
    }

    async fn otp(&mut self, ahead: i64, status: u16) -> Outcome {
        let (auth_id, code) = (self.start().await?, self.code(ahead));
        self.send(&auth_id, &json!({ "otp": code }), status).await
    }

    async fn otps(&mut self, earlier: i64, later: i64, status: u16) -> Outcome {
        let (auth_id, codes) = (self.start().await?, [self.code(earlier), self.code(later)]);
        self.send(&auth_id, &json!({ "otps": codes }), status).await
    }

    async fn send(&self, auth_id: &str, body: &Value, status: u16) -> Outcome {
        let answer = self.world.validate_otp(self.world.token(), auth_id, body).await?;
        anyhow::ensure!(answer.status == status, "{status} expected: {}", answer.text);
        Ok(())
    }

    /// Lets time pass until every earlier code is out of the window, and opens every gate.
    async fn rest(&mut self) -> Outcome {
        self.world.advance(Duration::from_mins(3))?;
        self.world.renew_token()?;
        self.secrets.add_token(self.world.token());
        let open = |device: &mut shared::device::Device| {
            device.consecutive_failures = 0;
            device.not_before = Timestamp::EPOCH;
            device.budget_at = Timestamp::EPOCH;
            device.pair_at = Timestamp::EPOCH;
        };
        self.world.change_of(&self.phone.key, open).await
    }

    async fn tokens(&mut self) -> Outcome {
        let [client, other] = self.world.stack.clients();
        let (id, secret) = (client.id().as_str(), client.secret());
        let grant = ("grant_type", "client_credentials");
        let form = [
            grant,
            ("scope", "mfa/authenticate"),
            ("client_id", id),
            ("client_secret", secret),
        ];
        let url = self.world.stack.token_url();
        let post = || self.world.at(Method::POST, &url);
        for request in [
            post().basic_auth(id, Some(secret)).form(&[grant]),
            post().form(&form),
            post().basic_auth(id, Some(other.secret())).form(&[grant]),
            post().basic_auth(id, Some(secret)).form(&[("grant_type", secret)]),
            post()
                .basic_auth(id, Some(secret))
                .form(&[grant, ("scope", other.secret())]),
            post().bearer_auth(secret).body(secret.to_owned()),
            self.world
                .at(Method::GET, &format!("{url}?client_secret={secret}"))
                .form(&form),
        ] {
            let answer = self.world.send(request).await?;
            if let Some(token) = answer.member("access_token").as_str() {
                self.secrets.add_token(token);
            }
        }
        Ok(())
    }

    async fn verdicts(&mut self) -> Outcome {
        let (auth_id, wrong, right) = (self.start().await?, self.wrong(), self.code(0));
        self.send(&auth_id, &json!({ "otp": wrong }), 422).await?;
        let (first, last) = right.split_at(4);
        let typed = format!("{first} {last}");
        self.secrets.add("a code as it was typed", &typed);
        self.send(&auth_id, &json!({ "otp": typed }), 200).await?;
        self.send(&auth_id, &json!({ "otp": right }), 409).await?;
        self.otp(0, 422).await?;
        self.otp(-1, 422).await?;
        self.rest().await?;
        for (earlier, later) in [(0, 1_000), (1_000, 1), (1, 0), (-1, 1), (0, 0)] {
            self.otps(earlier, later, 422).await?;
        }
        self.otps(-1, 0, 200).await?;
        self.otps(0, 1, 422).await?;
        self.rest().await
    }

    async fn gates(&mut self) -> Outcome {
        let (auth_id, wrong) = (self.start().await?, self.wrong());
        for _ in 0..5 {
            self.send(&auth_id, &json!({ "otp": wrong }), 422).await?;
        }
        self.send(&auth_id, &json!({ "otp": wrong }), 409).await?;
        self.otp(0, 422).await?;
        self.otps(0, 1, 200).await?;
        self.rest().await?;
        for _ in 0..10 {
            self.otps(1_000, 1_001, 422).await?;
        }
        self.otps(0, 1, 429).await?;
        self.rest().await
    }

    /// A device's life over HTTP: its seed, its URI and its codes are secrets.
    async fn registrations(&mut self) -> Outcome {
        const TABLET: &str = "a tablet of someone";
        let encoded = |name| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
        let users = format!("/users/{}/mfadevices", encoded(USER));
        let named = json!({ "deviceType": "TOTP", "deviceName": TABLET, "replace": true });
        for _ in 0..2 {
            let answer = self.registration(Method::POST, &users, Some(&named), 201).await?;
            let (secret, uri) = (text(&answer, "secret")?, text(&answer, "registrationUri")?);
            self.secrets.add("a seed that was registered", &secret);
            self.secrets.add("a URI that was registered", &uri);
            let seed = Seed::from_base32(&secret, OtpParameters::default())?;
            let auth_id = text(&answer, "authId")?;
            self.secrets.add("an authId", &auth_id);
            let step = Step::at(self.world.stack.clock().now(), Period::Thirty);
            for (ahead, expected) in [(1_000, 422), (0, 200), (0, 200)] {
                let code = seed.code(Step(step.0 + ahead)).reveal().to_owned();
                self.secrets.add("a code", &code);
                let path = format!("{users}/{auth_id}");
                self.registration(Method::POST, &path, Some(&json!({ "otp": code })), expected)
                    .await?;
            }
            self.world.advance(Duration::from_secs(30))?;
        }
        for body in [
            json!({ "deviceType": USER }),
            json!({ "deviceType": "TOTP", "deviceName": [USER] }),
        ] {
            self.registration(Method::POST, &users, Some(&body), 400).await?;
        }
        self.registration(Method::GET, &users, None, 200).await?;
        let removal = format!("{users}/TOTP/{}", encoded(TABLET));
        self.registration(Method::DELETE, &removal, None, 204).await?;
        self.registration(Method::DELETE, &removal, None, 404).await?;
        Ok(())
    }

    async fn registration(&self, method: Method, path: &str, body: Option<&Value>, status: u16) -> Result<Answer> {
        let request = self.world.request(method, path).bearer_auth(self.world.token());
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = self.world.send(request).await?;
        // Its body may be a secret.
        anyhow::ensure!(answer.status == status, "{status} expected, got {}", answer.status);
        Ok(answer)
    }

    async fn bad_input(&mut self) -> Outcome {
        let (auth_id, code) = (self.start().await?, self.code(0));
        let number: u64 = code.parse()?;
        let names = names(USER, PHONE);
        for body in [
            format!("{{\"otp\":{number}}}"),
            format!("{{\"otp\":\"{code}0\"}}"),
            format!("{{\"otp\":\"{code}\",\"otp\":\"{code}\"}}"),
            format!("{{\"otps\":[\"{code}\"]}}"),
            format!("{{\"otps\":[\"{code}\",{number}]}}"),
            format!("{{\"otp\":[\"{code}\"]}}"),
            format!("{{\"{code}\":1}}"),
            format!("{{\"otp\":\"{code}"),
            format!("\"{code}\""),
            code.clone(),
            format!("{{\"otp\":\"{code}\",\"deviceType\":\"{code}\"}}"),
            format!("{{\"otp\":\"{code}\",\"pad\":\"{}\"}}", "x".repeat(9_000)),
            names.to_string().replace("TOTP", USER),
            names.to_string().replace(PHONE, &format!("{PHONE}\\n")),
            names.to_string().replace(USER, &USER.repeat(9)),
            names.to_string().replace(&format!("\"{USER}\""), "[1]"),
            names.to_string().replace('}', ","),
        ] {
            for path in ["/deviceAuthentications", &format!("/deviceAuthentications/{auth_id}")] {
                for content_type in ["application/json", "text/plain"] {
                    let request = self
                        .world
                        .request(Method::POST, path)
                        .bearer_auth(self.world.token())
                        .header("content-type", content_type)
                        .body(body.clone());
                    let answer = self.world.send(request).await?;
                    anyhow::ensure!((400..=415).contains(&answer.status), "{}", answer.text);
                }
            }
        }
        let token = self.world.token().to_owned();
        let [client, _] = self.world.stack.clients();
        for (path, authorization) in [
            (
                format!("/deviceAuthentications/{auth_id}?otp={code}"),
                format!("Bearer {token}x"),
            ),
            (format!("/deviceAuthentications/{code}"), format!("Basic {token}")),
            (format!("/{code}/{auth_id}"), format!("Bearer {token}")),
            (
                "/deviceAuthentications".to_owned(),
                format!("Bearer {}", client.secret()),
            ),
            (format!("/deviceAuthentications/{token}"), format!("Bearer {token}")),
        ] {
            for method in [Method::POST, Method::GET, Method::from_bytes(code.as_bytes())?] {
                let request = self.world.request(method, &path);
                let request = request
                    .header("authorization", &authorization)
                    .json(&json!({ "otp": code }));
                anyhow::ensure!(self.world.send(request).await?.status >= 400);
            }
        }
        // Past the gateway: events without a client, without a scope, and with names in place of ids.
        let event = || Event::validate_otp(self.world.client().as_str(), &auth_id).otp(&code);
        for event in [
            event().without_authorizer(),
            event().claim("client_id", USER),
            event().scope(&code),
            Event::validate_otp(USER, PHONE).otp(&code),
            Event::init_auth(self.world.client().as_str()).user(USER).scope(USER),
        ] {
            self.world.invoke(function_of(&event), &event.json()).await?;
        }
        let local = format!(
            "{}/_local/code?userName={USER}&deviceName={PHONE}",
            self.world.stack.origin()
        );
        let request = self.world.at(Method::GET, &local.replace('+', "%2B"));
        anyhow::ensure!(self.world.send(request).await?.status == 200);
        Ok(())
    }

    async fn unknown(&mut self) -> Outcome {
        let (auth_id, code) = (self.start().await?, self.code(0));
        let other = self.world.other_token()?;
        self.secrets.add_token(&other);
        let body = json!({ "otp": code });
        for (token, auth_id) in [
            (other.as_str(), auth_id.as_str()),
            (self.world.token(), &self.world.unknown_auth_id()),
            (self.world.token(), &code),
        ] {
            let answer = self.world.validate_otp(token, auth_id, &body).await?;
            answer.expect(404, "AUTH_NOT_FOUND")?;
        }
        let names = names(USER, PHONE);
        let answer = self.world.init_auth(&other, &names).await?;
        answer.expect(404, "DEVICE_NOT_FOUND")
    }

    async fn states(&mut self) -> Outcome {
        let (auth_id, code, key) = (self.start().await?, self.code(0), self.phone.key.clone());
        for status in [Status::Disabled, Status::ActivationRequired] {
            self.world.change_of(&key, |device| device.status = status).await?;
            self.send(&auth_id, &json!({ "otp": code }), 423).await?;
            let answer = self.world.try_start_with(USER, PHONE).await?;
            anyhow::ensure!(answer.status == 423, "{}", answer.text);
        }
        self.world
            .change_of(&key, |device| device.status = Status::Active)
            .await?;
        self.world.stack.remove_device(&key).await?;
        self.send(&auth_id, &json!({ "otp": code }), 404).await?;
        self.phone = self
            .world
            .stack
            .register_device(&key.owner, USER, PHONE, eight_digits())
            .await?;
        self.world.add_device(&mut self.secrets, &self.phone);
        self.send(&auth_id, &json!({ "otp": code }), 409).await?;
        let (auth_id, code) = (self.start().await?, self.code(0));
        self.world.advance(Duration::from_mins(5))?;
        self.send(&auth_id, &json!({ "otp": code }), 410).await?;
        self.rest().await
    }

    /// Items that this service never wrote, with seeds and codes where they do not belong.
    async fn damage(&mut self) -> Outcome {
        let Clients {
            dynamodb,
            secrets_manager,
            ..
        } = self.world.store_clients();
        let (key, seed) = (self.phone.key.clone(), self.phone.seed.to_base32());
        let intact = self.world.device_of(&key).await?;
        for (position, text) in [
            seed.to_string(),
            json!({ "seed": seed.as_str(), "algorithm": seed.as_str(), "digits": 8, "period": 30 }).to_string(),
            json!({ "seed": seed.as_str(), "algorithm": "SHA1", "digits": 6, "period": 30 }).to_string(),
            json!({ "seed": format!("{}1", seed.as_str()), "algorithm": "SHA1", "digits": 8, "period": 30 })
                .to_string(),
            json!({ "seed": [seed.as_str()] }).to_string(),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("mfa/seed/damaged{position}");
            let created = secrets_manager
                .create_secret()
                .name(&name)
                .secret_string(text)
                .send()
                .await?;
            let seed_ref = SeedRef::new(&name, created.version_id.as_deref().context("no version")?)?;
            self.world.change_of(&key, |device| device.seed_ref = seed_ref).await?;
            self.otp(0, 503).await?;
        }
        let auth_id = self.start().await?;
        let code = self.code(0);
        for (attribute, value) in [
            ("seedRef", AttributeValue::S(seed.to_string())),
            ("status", AttributeValue::S(USER.to_owned())),
            (
                "state",
                AttributeValue::M([("lastStep".to_owned(), AttributeValue::S(code.clone()))].into()),
            ),
            ("version", AttributeValue::S(code.clone())),
        ] {
            let update = dynamodb.update_item().table_name("Devices");
            let pk = format!("{}#{USER}", key.owner.as_str());
            update
                .key("pk", AttributeValue::S(pk))
                .key("sk", AttributeValue::S(PHONE.to_owned()))
                .update_expression("SET #name = :value")
                .expression_attribute_names("#name", attribute)
                .expression_attribute_values(":value", value)
                .send()
                .await?;
            let answer = self.world.try_start_with(USER, PHONE).await?;
            anyhow::ensure!(answer.status == 503, "{}", answer.text);
            let answer = self.world.otp(&auth_id, &code).await?;
            anyhow::ensure!(answer.status == 503, "{}", answer.text);
        }
        // It is removed although it cannot be read.
        anyhow::ensure!(self.world.stack.devices().remove(&key).await.is_err(), "it was read");
        let now = Timestamp::from_secs(1);
        self.world
            .stack
            .devices()
            .register(&key, &intact, &Registration::by_operator(now))
            .await?;
        self.rest().await
    }

    async fn faults(&mut self) -> Outcome {
        for call in CALLS {
            self.with_fault(|proxy| proxy.set(call, Rule::Always(Fault::Close)))
                .await?;
        }
        self.with_fault(|proxy| proxy.set("UpdateItem Devices", Rule::Always(Fault::Hang)))
            .await?;
        for forge in FORGES {
            self.with_fault(|proxy| proxy.forge(move |exchange| Some(forge(exchange))))
                .await?;
            let seeds_only =
                move |exchange: &Exchange| (exchange.operation == "GetSecretValue").then(|| forge(exchange));
            self.with_fault(|proxy| proxy.forge(seeds_only)).await?;
        }
        Ok(())
    }

    /// Both steps while the stores have a fault, whatever they answer.
    async fn with_fault(&mut self, fault: impl Fn(&StoreProxy)) -> Outcome {
        self.rest().await?;
        let (auth_id, right, wrong) = (self.start().await?, self.code(0), self.wrong());
        self.world.stack.cold_start()?;
        self.world.proxies().for_each(fault);
        self.world.try_start_with(USER, PHONE).await?;
        for code in [wrong, right] {
            self.world.otp(&auth_id, &code).await?;
        }
        self.world.proxies().for_each(StoreProxy::clear);
        Ok(())
    }

    async fn panic(&mut self) {
        let endpoint = Panicking(self.code(0));
        let hasher = DeviceHasher::new(b"0123456789abcdef");
        let boundary = Boundary::new(SystemClock, StdoutLog, hasher);
        boundary
            .serve(&endpoint, Event::init_auth("client").user(USER).payload())
            .await;
    }

    /// What the search must find: if it does not, finding nothing else proves nothing.
    fn planted(&mut self) {
        let planted = "a planted secret";
        self.secrets.add("planted", planted);
        let hexadecimal = data_encoding::HEXUPPER.encode(planted.as_bytes());
        tracing::error!(target: "a_library", hexadecimal, "logged at ERROR");
        tracing::warn!(target: "a_library", "logged at WARN");
        tracing::info!(target: "a_library", planted, "logged at INFO");
        tracing::debug!(target: "a_library", planted, "logged at DEBUG");
        tracing::trace!(target: "a_library", planted, "logged at TRACE");
        tracing::trace!(target: "shared::planted", hexadecimal, "logged by this project");
    }

    async fn end(self, file: &Path) -> Outcome {
        std::fs::write(file, self.secrets.to_lines())?;
        self.world.end().await;
        Ok(())
    }
}

fn function_of(event: &Event) -> local::Function {
    if event.json().contains("{authId}") {
        local::Function::ValidateOtp
    } else {
        local::Function::InitAuth
    }
}

/// An endpoint that panics as a careless line would: with a secret in its message.
struct Panicking(String);

impl Endpoint for Panicking {
    const FUNCTION: &'static str = "validate-otp";

    async fn answer(&self, _request: &ApiRequest, _now: Timestamp, _notes: &mut Notes) -> Result<Success, Failure> {
        let Self(code) = self;
        assert!(code.is_empty(), "{code} of {USER} is not empty");
        Err(Failure::unavailable("deadline", None))
    }
}

/// Every call that the functions make.
const CALLS: [&str; 5] = [
    "GetItem Devices",
    "PutItem Auths",
    "GetItem Auths",
    "UpdateItem Devices",
    "GetSecretValue",
];

type Forge = fn(&Exchange) -> (u16, Vec<u8>);

/// Answers that a store, or something in front of it, might give, each with as many secrets in it as possible.
const FORGES: [Forge; 12] = [
    |exchange| error(exchange, 400, "ValidationException"),
    |exchange| error(exchange, 400, "ProvisionedThroughputExceededException"),
    |exchange| error(exchange, 400, "ResourceNotFoundException"),
    |exchange| error(exchange, 400, "AccessDeniedException"),
    |exchange| error(exchange, 400, "ConditionalCheckFailedException"),
    |exchange| error(exchange, 400, "DecryptionFailure"),
    |exchange| error(exchange, 500, "InternalServerError"),
    |exchange| (503, exchange.answered.to_vec()),
    |exchange| (200, exchange.answered.slice(..exchange.answered.len() * 2 / 3).to_vec()),
    |exchange| replaced(exchange, "{\"S\":", "{\"N\":"),
    |exchange| replaced(exchange, "\"SecretString\":\"", "\"SecretString\":\"\\q"),
    |exchange| replaced(exchange, "\"", "'"),
];

/// An error that quotes the call and the answer.
fn error(exchange: &Exchange, status: u16, kind: &str) -> (u16, Vec<u8>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let message = format!("{} got {}", text(&exchange.sent), text(&exchange.answered));
    let body = json!({ "__type": format!("com.amazonaws#{kind}"), "message": message, "Message": message });
    (status, body.to_string().into_bytes())
}

fn replaced(exchange: &Exchange, from: &str, to: &str) -> (u16, Vec<u8>) {
    let text = String::from_utf8_lossy(&exchange.answered).replace(from, to);
    (exchange.status, text.into_bytes())
}

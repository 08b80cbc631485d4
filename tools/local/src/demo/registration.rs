//! A device's life over HTTP, once against a new stack: registered, activated, used, replaced and removed; shown and compared
//! with the documentation. The test clock moves between codes, since each works once.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::clock::Clock as _;
use shared::otp::{OtpParameters, Period, Seed, Step};
use zeroize::Zeroizing;

use super::{Demo, header, shortened, standard_headers};

const USER: &str = "newuser";
const DEVICE: &str = "phone";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RegisterAnswer {
    auth_id: String,
    device_type: String,
    status: String,
    message: String,
    device_name: String,
    secret: Zeroizing<String>,
    registration_uri: Zeroizing<String>,
}

struct Registered {
    path: String,
    seed: Seed,
}

impl<W: Write> Demo<'_, W> {
    /// The whole life, with a token of each scope.
    pub(super) async fn registration(&mut self) -> Result<()> {
        self.title("An access token to manage devices")?;
        let devices = self.token("mfa/devices").await?;
        self.title("An access token to authenticate")?;
        let sign_in = self.token("mfa/authenticate").await?;

        self.title(&format!("{USER} registers a device"))?;
        let first = self.register(&devices, false).await?;
        self.title("and activates it with the first code of the app")?;
        self.activate(&devices, &first).await?;
        self.next_code()?;
        self.sign_in(&sign_in, &first).await?;

        self.title("A new phone: the device gets a new seed, and the old one works until its first code")?;
        let second = self.register(&devices, true).await?;
        self.next_code()?;
        self.sign_in(&sign_in, &first).await?;
        self.next_code()?;
        self.title("The first code of the new seed")?;
        self.activate(&devices, &second).await?;
        self.next_code()?;
        self.sign_in(&sign_in, &second).await?;

        self.title("The devices of the user")?;
        let users = format!("{}/users/{USER}/mfadevices", self.stack.api_url());
        let (status, headers, body) = self.call(Method::GET, &users, &devices, None).await?;
        ensure!(status == 200, "the list must answer 200");
        standard_headers(&headers)?;
        let listed: Vec<Value> = serde_json::from_str(&body).context("the list must be an array")?;
        let is_active = |device: &Value| device.get("status").is_some_and(|status| status == "ACTIVE");
        ensure!(
            listed.len() == 1 && listed.iter().all(is_active),
            "the list must have one active device"
        );
        self.title("The device is removed")?;
        let (status, _, body) = self
            .call(Method::DELETE, &format!("{users}/TOTP/{DEVICE}"), &devices, None)
            .await?;
        ensure!(status == 204 && body.is_empty(), "the removal must answer 204");
        Ok(writeln!(self.out, "\nEverything succeeded as documented.")?)
    }

    async fn register(&mut self, token: &str, replace: bool) -> Result<Registered> {
        let url = format!("{}/users/{USER}/mfadevices", self.stack.api_url());
        let body = json!({ "deviceType": "TOTP", "deviceName": DEVICE, "replace": replace });
        let (status, headers, body) = self.silent_call(Method::POST, &url, token, Some(body)).await?;
        ensure!(status == 201, "a registration must answer 201, not {status}");
        standard_headers(&headers)?;
        let answer: RegisterAnswer = serde_json::from_str(&body).context("a registration must answer as documented")?;
        // The seed and its URI are secrets even here.
        let RegisterAnswer {
            auth_id,
            device_type,
            status,
            message,
            device_name,
            secret,
            registration_uri,
        } = answer;
        writeln!(
            self.out,
            "< {{\"authId\":\"{auth_id}\",\"deviceType\":\"{device_type}\",\"status\":\"{status}\",\"message\":\"{message}\",\
             \"deviceName\":\"{device_name}\",\"secret\":\"{}\",\"registrationUri\":\"{}\"}}",
            shortened(&secret),
            shortened(&registration_uri)
        )?;
        ensure!(
            status == "ACTIVATION_REQUIRED" && device_name == DEVICE,
            "the device must wait for its first code"
        );
        let path = header(&headers, "location").context("a registration must name the path of its activation")?;
        Ok(Registered {
            path: path.to_owned(),
            seed: Seed::from_base32(&secret, OtpParameters::default())?,
        })
    }

    fn code(&self, registered: &Registered) -> String {
        let step = Step::at(self.stack.clock().now(), Period::Thirty);
        registered.seed.code(step).reveal().to_owned()
    }

    async fn activate(&mut self, token: &str, registered: &Registered) -> Result<()> {
        let url = format!("{}{}", self.stack.origin(), registered.path);
        let body = json!({ "otp": self.code(registered) });
        let (status, headers, body) = self.call(Method::POST, &url, token, Some(body)).await?;
        ensure!(status == 200, "an activation must answer 200");
        standard_headers(&headers)?;
        let expected = format!("{{\"status\":\"ACTIVE\",\"message\":\"{DEVICE}\"}}");
        ensure!(*body == expected, "an activation must answer exactly: {expected}");
        Ok(())
    }

    async fn sign_in(&mut self, token: &str, registered: &Registered) -> Result<()> {
        self.title("A sign-in")?;
        let auth_id = self.start(token, USER, DEVICE).await?;
        let code = self.code(registered);
        self.validate(token, auth_id, &code).await
    }

    /// Moves the test clock to the app's next code.
    fn next_code(&self) -> Result<()> {
        self.stack.advance(Duration::from_secs(30))
    }
}

//! The three steps, or the life of a device, once against a new stack, shown and compared with the documentation.

mod registration;
pub mod sample_event;
pub mod usage;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::header::HeaderMap;
use reqwest::{Client as Http, Method, RequestBuilder};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::names::AuthId;
use zeroize::Zeroizing;

use crate::stack::Stack;
use crate::stores::devices::{DEMO_DEVICE, DEMO_USER};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenAnswer {
    access_token: Zeroizing<String>,
    expires_in: u64,
    token_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartAnswer {
    auth_id: String,
}

#[derive(Deserialize)]
struct CodeAnswer {
    otp: String,
}

/// Performs the three steps and shows request and answer of each, with token and secret shortened.
///
/// # Errors
/// If an answer differs from the documentation.
pub async fn run(stack: &Stack, out: &mut impl Write) -> Result<()> {
    let mut demo = Demo::new(stack, out)?;
    demo.title("Step 1: an access token")?;
    let token = demo.token("mfa/authenticate").await?;
    demo.title("Step 2: start an authentication")?;
    let auth_id = demo.start(&token, DEMO_USER, DEMO_DEVICE).await?;
    let code = demo.code_of_the_app().await?;
    demo.title("Step 3: send the code that the app shows")?;
    demo.validate(&token, auth_id, &code).await?;
    writeln!(demo.out, "\nAll three steps succeeded as documented.")?;
    Ok(())
}

/// Registers a device over HTTP, activates it, signs in, replaces it and removes it; shown as [`run`] does.
///
/// # Errors
/// If an answer differs from the documentation.
pub async fn run_registration(stack: &Stack, out: &mut impl Write) -> Result<()> {
    Demo::new(stack, out)?.registration().await
}

struct Demo<'a, W> {
    stack: &'a Stack,
    http: Http,
    out: &'a mut W,
    titles: usize,
}

impl<'a, W: Write> Demo<'a, W> {
    fn new(stack: &'a Stack, out: &'a mut W) -> Result<Self> {
        let http = Http::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        Ok(Self {
            stack,
            http,
            out,
            titles: 0,
        })
    }

    fn title(&mut self, text: &str) -> Result<()> {
        let separator = if self.titles == 0 { "" } else { "\n" };
        self.titles += 1;
        Ok(writeln!(self.out, "{separator}{text}")?)
    }

    async fn token(&mut self, scope: &str) -> Result<Zeroizing<String>> {
        let [client, _] = self.stack.clients();
        let url = self.stack.token_url();
        writeln!(self.out, "> POST {url}")?;
        writeln!(
            self.out,
            "> Authorization: Basic base64({}:{})",
            client.id().as_str(),
            shortened(client.secret())
        )?;
        writeln!(self.out, "> grant_type=client_credentials&scope={scope}")?;
        let form = [("grant_type", "client_credentials"), ("scope", scope)];
        let request = self
            .http
            .post(url)
            .basic_auth(client.id().as_str(), Some(client.secret()))
            .form(&form);
        let (status, _, body) = send(request).await?;
        // An answer without a token can be shown.
        let Ok(answer) = serde_json::from_str::<TokenAnswer>(&body) else {
            bail!(
                "the token endpoint must answer with a token, not with {status} {}",
                *body
            );
        };
        writeln!(
            self.out,
            "< {status}\n< access_token={} expires_in={} token_type={}",
            shortened(&answer.access_token),
            answer.expires_in,
            answer.token_type
        )?;
        ensure!(status == 200, "the token endpoint must answer 200");
        let kind = (answer.expires_in, answer.token_type.as_str());
        ensure!(
            kind == (3_600, "Bearer"),
            "the token endpoint must answer as Cognito does"
        );
        Ok(answer.access_token)
    }

    async fn start(&mut self, token: &str, user: &str, device: &str) -> Result<AuthId> {
        let url = format!("{}/deviceAuthentications", self.stack.api_url());
        let body = json!({ "userName": user, "deviceName": device, "deviceType": "TOTP" });
        let (status, headers, body) = self.call(Method::POST, &url, token, Some(body)).await?;
        ensure!(status == 201, "step 2 must answer 201");
        standard_headers(&headers)?;
        let answer: StartAnswer = serde_json::from_str(&body).context("step 2 must answer with an authId")?;
        let auth_id = AuthId::parse(&answer.auth_id).context("step 2 must answer with an authId")?;
        let expected = format!(
            "{{\"authId\":\"{auth_id}\",\"status\":\"SUCCESS\",\
             \"message\":\"Please get the OTP from registered device to authenticate\"}}"
        );
        ensure!(*body == expected, "step 2 must answer exactly: {expected}");
        let location = format!("/v1/deviceAuthentications/{auth_id}");
        ensure!(
            header(&headers, "location") == Some(&location),
            "step 2 must name the path of step 3 as Location"
        );
        ensure!(
            header(&headers, "auth-expires-at").is_some(),
            "step 2 must have Auth-Expires-At"
        );
        Ok(auth_id)
    }

    /// The current code of the demo's device.
    async fn code_of_the_app(&self) -> Result<String> {
        let url = format!(
            "{}/_local/code?userName={DEMO_USER}&deviceName={DEMO_DEVICE}",
            self.stack.origin()
        );
        let (_, _, code) = send(self.http.get(url)).await?;
        let code: CodeAnswer = serde_json::from_str(&code).context("the local stack returned no code")?;
        Ok(code.otp)
    }

    async fn validate(&mut self, token: &str, auth_id: AuthId, code: &str) -> Result<()> {
        let url = format!("{}/deviceAuthentications/{auth_id}", self.stack.api_url());
        let body = json!({ "otp": code });
        let (status, headers, body) = self.call(Method::POST, &url, token, Some(body)).await?;
        ensure!(status == 200, "step 3 must answer 200");
        standard_headers(&headers)?;
        let expected = "{\"status\":\"SUCCESS\",\"message\":\"OTP has been validated successfully\"}";
        ensure!(*body == expected, "step 3 must answer exactly: {expected}");
        Ok(())
    }

    /// Sends a request and shows it with its answer.
    async fn call(&mut self, method: Method, url: &str, token: &str, body: Option<Value>) -> Result<Answer> {
        let answer = self.silent_call(method, url, token, body).await?;
        if !answer.2.is_empty() {
            writeln!(self.out, "< {}", *answer.2)?;
        }
        Ok(answer)
    }

    /// As [`Demo::call`], without the body of the answer.
    async fn silent_call(&mut self, method: Method, url: &str, token: &str, body: Option<Value>) -> Result<Answer> {
        writeln!(
            self.out,
            "> {method} {url}\n> Authorization: Bearer {}",
            shortened(token)
        )?;
        let mut request = self.http.request(method, url).bearer_auth(token);
        if let Some(body) = body {
            let body = body.to_string();
            writeln!(self.out, "> Content-Type: application/json\n> {body}")?;
            request = request.header("content-type", "application/json").body(body);
        }
        let (status, headers, body) = send(request).await?;
        writeln!(self.out, "< {status}")?;
        for name in ["location", "auth-expires-at", "auth-codes-required"] {
            if let Some(value) = header(&headers, name) {
                writeln!(self.out, "< {name}: {value}")?;
            }
        }
        Ok((status, headers, body))
    }
}

type Answer = (u16, HeaderMap, Zeroizing<String>);

async fn send(request: RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok((status, headers, Zeroizing::new(response.text().await?)))
}

fn standard_headers(headers: &HeaderMap) -> Result<()> {
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        ensure!(
            header(headers, name) == Some(value),
            "the answer must have {name}: {value}"
        );
    }
    Ok(())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn shortened(secret: &str) -> String {
    format!("{}…", secret.chars().take(6).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::Options;

    #[tokio::test]
    async fn the_demo_succeeds_and_shows_no_secret() -> Result<()> {
        let stack = Stack::start(Options::default()).await?;
        let mut shown = Vec::new();
        run(&stack, &mut shown).await?;
        let shown = String::from_utf8(shown)?;
        assert!(!shown.contains(stack.clients()[0].secret()), "{shown}");
        assert_eq!(stack.log_lines().len(), 2);
        assert_eq!(stack.access_lines().len(), 2);
        stack.shutdown().await;
        Ok(())
    }

    #[tokio::test]
    async fn the_demo_of_registration_succeeds_and_shows_no_secret() -> Result<()> {
        let stack = Stack::start(Options {
            clock: Some(std::sync::Arc::new(crate::LocalClock::running())),
            ..Options::default()
        })
        .await?;
        let mut shown = Vec::new();
        run_registration(&stack, &mut shown).await?;
        let shown = String::from_utf8(shown)?;
        for secret in [stack.clients()[0].secret(), "otpauth://totp"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        stack.shutdown().await;
        Ok(())
    }
}

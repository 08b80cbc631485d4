//! The three steps once against a new stack, shown and compared with the documentation.

pub mod sample_event;
pub mod usage;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::header::HeaderMap;
use reqwest::{Client as Http, RequestBuilder};
use serde::Deserialize;
use serde_json::json;
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
    let http = Http::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let token = get_token(stack, &http, out).await?;
    let auth_id = start(stack, &http, &token, out).await?;
    validate(stack, &http, &token, auth_id, out).await?;
    writeln!(out, "\nAll three steps succeeded as documented.")?;
    Ok(())
}

async fn get_token(stack: &Stack, http: &Http, out: &mut impl Write) -> Result<Zeroizing<String>> {
    let [client, _] = stack.clients();
    let url = stack.token_url();
    writeln!(out, "Step 1: an access token\n> POST {url}")?;
    writeln!(
        out,
        "> Authorization: Basic base64({}:{})",
        client.id().as_str(),
        shortened(client.secret())
    )?;
    writeln!(out, "> grant_type=client_credentials&scope=mfa/authenticate")?;
    let form = [("grant_type", "client_credentials"), ("scope", "mfa/authenticate")];
    let request = http
        .post(url)
        .basic_auth(client.id().as_str(), Some(client.secret()))
        .form(&form);
    let (status, _, body) = send(request).await?;
    // An answer without a token can be shown.
    let Ok(answer) = serde_json::from_str::<TokenAnswer>(&body) else {
        bail!("step 1 must answer with a token, not with {status} {}", *body);
    };
    writeln!(
        out,
        "< {status}\n< access_token={} expires_in={} token_type={}",
        shortened(&answer.access_token),
        answer.expires_in,
        answer.token_type
    )?;
    ensure!(status == 200, "step 1 must answer 200");
    let kind = (answer.expires_in, answer.token_type.as_str());
    ensure!(kind == (3_600, "Bearer"), "step 1 must answer as Cognito does");
    Ok(answer.access_token)
}

async fn start(stack: &Stack, http: &Http, token: &str, out: &mut impl Write) -> Result<AuthId> {
    let url = format!("{}/deviceAuthentications", stack.api_url());
    let body = json!({ "userName": DEMO_USER, "deviceName": DEMO_DEVICE, "deviceType": "TOTP" }).to_string();
    writeln!(out, "\nStep 2: start an authentication")?;
    let (status, headers, body) = post(http, url, token, body, out).await?;
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

async fn validate(stack: &Stack, http: &Http, token: &str, auth_id: AuthId, out: &mut impl Write) -> Result<()> {
    let url = format!("{}/deviceAuthentications/{auth_id}", stack.api_url());
    let code = format!(
        "{}/_local/code?userName={DEMO_USER}&deviceName={DEMO_DEVICE}",
        stack.origin()
    );
    let (_, _, code) = send(http.get(code)).await?;
    let code: CodeAnswer = serde_json::from_str(&code).context("the local stack returned no code")?;
    writeln!(out, "\nStep 3: send the code that the app shows")?;
    let (status, headers, body) = post(http, url, token, json!({ "otp": code.otp }).to_string(), out).await?;
    ensure!(status == 200, "step 3 must answer 200");
    standard_headers(&headers)?;
    let expected = "{\"status\":\"SUCCESS\",\"message\":\"OTP has been validated successfully\"}";
    ensure!(*body == expected, "step 3 must answer exactly: {expected}");
    Ok(())
}

type Answer = (u16, HeaderMap, Zeroizing<String>);

async fn post(http: &Http, url: String, token: &str, body: String, out: &mut impl Write) -> Result<Answer> {
    writeln!(out, "> POST {url}\n> Authorization: Bearer {}", shortened(token))?;
    writeln!(out, "> Content-Type: application/json\n> {body}")?;
    let request = http
        .post(url)
        .bearer_auth(token)
        .header("content-type", "application/json")
        .body(body);
    let (status, headers, body) = send(request).await?;
    writeln!(out, "< {status}")?;
    for name in ["location", "auth-expires-at", "auth-codes-required"] {
        if let Some(value) = header(&headers, name) {
            writeln!(out, "< {name}: {value}")?;
        }
    }
    writeln!(out, "< {}", *body)?;
    Ok((status, headers, body))
}

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
}

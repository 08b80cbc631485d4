// cargo run -- USER DEVICE, with anyhow 1, fastrand 2, reqwest 0.13 (features form, json), serde_json 1, tokio 1 (feature full)
use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex;

enum Outcome {
    SignedIn,
    Ask(u64),
    StartAgain,
}

/// One for the whole process: it keeps the token, and until when.
struct Mfa {
    http: Client,
    api_url: String,
    token_url: String,
    client_id: String,
    client_secret: String,
    scope: &'static str,
    token: Mutex<Option<(String, Instant)>>,
}

impl Mfa {
    /// Step 2: the authId, and how many codes to ask for.
    async fn start(&self, user: &str, device: &str) -> Result<(String, u64)> {
        let body = json!({ "userName": user, "deviceName": device, "deviceType": "TOTP" });
        let (status, codes, answer) = self.post("/deviceAuthentications", &body).await?;
        match answer["authId"].as_str() {
            Some(auth_id) if status == StatusCode::CREATED => Ok((auth_id.to_owned(), codes)),
            _ => bail!("{status} {answer}"),
        }
    }

    /// Step 3: what to do now.
    async fn check(&self, auth_id: &str, codes: &[String]) -> Result<Outcome> {
        let body = match codes {
            [code] => json!({ "otp": code }),
            pair => json!({ "otps": pair }),
        };
        let (status, _, answer) = self.post(&format!("/deviceAuthentications/{auth_id}"), &body).await?;
        match status.as_u16() {
            200 => Ok(Outcome::SignedIn),
            409 | 410 => Ok(Outcome::StartAgain),
            422 if answer["attemptsRemaining"] == 0 => Ok(Outcome::StartAgain),
            422 => Ok(Outcome::Ask(
                answer["codesRequired"].as_u64().context("no codesRequired")?,
            )),
            _ => bail!("{status} {answer}"),
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<(StatusCode, u64, Value)> {
        let mut rejected = None;
        loop {
            let token = self.token(rejected.as_deref()).await?;
            let request = self
                .http
                .post(format!("{}{path}", self.api_url))
                .bearer_auth(&token)
                .json(body);
            match send(request).await? {
                (StatusCode::UNAUTHORIZED, ..) if rejected.is_none() => rejected = Some(token),
                answer => return Ok(answer),
            }
        }
    }

    /// Step 1, if there is no token, or it was rejected or is about to expire.
    async fn token(&self, rejected: Option<&str>) -> Result<String> {
        let mut kept = self.token.lock().await;
        if let Some((token, renew_at)) = &*kept
            && rejected != Some(token)
            && Instant::now() < *renew_at
        {
            return Ok(token.clone());
        }
        let form = [("grant_type", "client_credentials"), ("scope", self.scope)];
        let request = self
            .http
            .post(&self.token_url)
            .basic_auth(&self.client_id, Some(&self.client_secret))
            .form(&form);
        let (status, _, answer) = send(request).await?;
        let (Some(token), Some(seconds)) = (answer["access_token"].as_str(), answer["expires_in"].as_u64()) else {
            bail!("{status} {answer}");
        };
        *kept = Some((
            token.to_owned(),
            Instant::now() + Duration::from_secs(seconds.saturating_sub(60)),
        ));
        Ok(token.to_owned())
    }
}

/// Status, codes to ask for, and body of the answer. Sends the same request up to three times.
async fn send(request: RequestBuilder) -> Result<(StatusCode, u64, Value)> {
    let mut tries_left = 2;
    loop {
        let mut wait = 1;
        match request
            .try_clone()
            .context("a stream")?
            .timeout(Duration::from_secs(10))
            .send()
            .await
        {
            Ok(answer) => {
                let status = answer.status();
                let number = |name| answer.headers().get(name)?.to_str().ok()?.parse().ok();
                if tries_left == 0 || !matches!(status.as_u16(), 429 | 500 | 503 | 504) {
                    return Ok((status, number("Auth-Codes-Required").unwrap_or(1), answer.json().await?));
                }
                wait = number("Retry-After").unwrap_or(1);
            }
            Err(error) if tries_left == 0 => return Err(error.into()),
            Err(_) => {}
        }
        tries_left -= 1;
        tokio::time::sleep(Duration::from_millis(wait * 1000 + fastrand::u64(..1000))).await;
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let setting = |name| std::env::var(name).context(name);
    let mfa = Mfa {
        http: Client::new(),
        api_url: setting("MFA_API_URL")?,
        token_url: setting("MFA_TOKEN_URL")?,
        client_id: setting("MFA_CLIENT_ID")?,
        client_secret: setting("MFA_CLIENT_SECRET")?,
        scope: "mfa/authenticate",
        token: Mutex::default(),
    };
    let mut arguments = std::env::args().skip(1);
    let (user, device) = arguments.next().zip(arguments.next()).context("USER DEVICE")?;
    let (mut auth_id, mut count) = mfa.start(&user, &device).await?;
    loop {
        let mut codes = Vec::new();
        for prompt in ["Code: ", "Next code: "].into_iter().take(usize::try_from(count)?) {
            print!("{prompt}");
            std::io::stdout().flush()?;
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            codes.push(line.trim().to_owned());
        }
        match mfa.check(&auth_id, &codes).await? {
            Outcome::SignedIn => break,
            Outcome::Ask(number) => count = number,
            Outcome::StartAgain => (auth_id, count) = mfa.start(&user, &device).await?,
        }
    }
    println!("Signed in.");
    Ok(())
}

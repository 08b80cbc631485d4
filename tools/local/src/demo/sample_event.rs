//! Events with a valid code. A code in a file would expire, so they are made for the running stack.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use shared::names::AuthId;
use zeroize::Zeroizing;

use crate::stores::devices::{DEMO_DEVICE, DEMO_USER};
use crate::stores::samples::{ACTIVATING, CLIENT, WAITING, auth_id};

const VALIDATE: &str = include_str!("../../../../events/validate-otp-wrong-code.json");
const ACTIVATE: &str = include_str!("../../../../events/manage-devices-activate-wrong-code.json");

/// An event for `validate-otp` with the current code of the sample device on the stack at `origin`, or with two
/// consecutive ones. The authId is the one that always exists, unless another one is given.
///
/// # Errors
/// If the authId is malformed, or the stack does not answer.
pub async fn validate_otp(origin: &str, id: Option<&str>, pair: bool) -> Result<Zeroizing<String>> {
    let sample = auth_id(1);
    let id = match id {
        Some(raw) => AuthId::parse(raw).context("the authId is not a version 4 UUID")?,
        None => sample,
    };
    let body = current_code(origin, DEMO_USER, DEMO_DEVICE, pair).await?;
    fill_in(VALIDATE, &sample, &id, &body)
}

/// An event for `manage-devices` that activates a sample device on the stack at `origin` with its current code.
///
/// # Errors
/// If the stack does not answer.
pub async fn manage_devices(origin: &str) -> Result<Zeroizing<String>> {
    let body = current_code(origin, ACTIVATING, WAITING, false).await?;
    fill_in(ACTIVATE, &auth_id(11), &auth_id(11), &body)
}

async fn current_code(origin: &str, user: &str, device: &str, pair: bool) -> Result<Value> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{origin}/_local/code?clientId={CLIENT}&userName={user}&deviceName={device}");
    let response = http
        .get(url)
        .send()
        .await
        .context("the local stack does not answer; is it running?")?;
    ensure!(response.status().is_success(), "the local stack has no sample device");
    let codes: Value = response.json().await?;
    let name = if pair { "otps" } else { "otp" };
    let code = codes.get(name).context("the local stack gave no code")?;
    Ok(json!({ name: code }))
}

fn fill_in(template: &str, sample: &AuthId, id: &AuthId, body: &Value) -> Result<Zeroizing<String>> {
    let text = template.replace(&sample.to_string(), &id.to_string());
    let mut event: Value = serde_json::from_str(&text)?;
    *event.pointer_mut("/body").context("the sample event has no body")? = Value::from(body.to_string());
    Ok(Zeroizing::new(format!("{event:#}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_names_the_auth_id_and_holds_the_code() -> Result<()> {
        let id = AuthId::from_random_bytes([7; 16]);
        for (template, sample, path) in [
            (VALIDATE, 1, "/v1/deviceAuthentications"),
            (ACTIVATE, 11, "/v1/users/activating/mfadevices"),
        ] {
            let event = fill_in(template, &auth_id(sample), &id, &json!({ "otp": "123456" }))?;
            let event: Value = serde_json::from_str(&event)?;
            assert_eq!(event["pathParameters"]["authId"], id.to_string());
            assert_eq!(event["requestContext"]["path"], format!("{path}/{id}"));
            assert_eq!(event["body"], "{\"otp\":\"123456\"}");
        }
        Ok(())
    }
}

//! Events with a valid code. A code in a file would expire, so they are made for the running stack.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use shared::names::AuthId;
use zeroize::Zeroizing;

use crate::stores::devices::{DEMO_DEVICE, DEMO_USER};
use crate::stores::samples::{CLIENT, auth_id};

const TEMPLATE: &str = include_str!("../../../../events/validate-otp-wrong-code.json");

/// An event for `validate-otp` with the current code of the sample device on the stack at `origin`, or with two
/// consecutive ones. The authId is the one that always exists, unless another one is given.
///
/// # Errors
/// If the authId is malformed, or the stack does not answer.
pub async fn validate_otp(origin: &str, id: Option<&str>, pair: bool) -> Result<Zeroizing<String>> {
    let id = match id {
        Some(raw) => AuthId::parse(raw).context("the authId is not a version 4 UUID")?,
        None => auth_id(1),
    };
    let http = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{origin}/_local/code?clientId={CLIENT}&userName={DEMO_USER}&deviceName={DEMO_DEVICE}");
    let response = http
        .get(url)
        .send()
        .await
        .context("the local stack does not answer; is it running?")?;
    ensure!(response.status().is_success(), "the local stack has no sample device");
    let codes: Value = response.json().await?;
    let name = if pair { "otps" } else { "otp" };
    let code = codes.get(name).context("the local stack gave no code")?;
    fill_in(&id, &json!({ name: code }))
}

fn fill_in(id: &AuthId, body: &Value) -> Result<Zeroizing<String>> {
    let sample = auth_id(1).to_string();
    let mut event: Value = serde_json::from_str(&TEMPLATE.replace(&sample, &id.to_string()))?;
    *event.pointer_mut("/body").context("the sample event has no body")? = Value::from(body.to_string());
    Ok(Zeroizing::new(format!("{event:#}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_names_the_auth_id_and_holds_the_code() -> Result<()> {
        let id = AuthId::from_random_bytes([7; 16]);
        let event: Value = serde_json::from_str(&fill_in(&id, &json!({ "otp": "123456" }))?)?;
        assert_eq!(event["pathParameters"]["authId"], id.to_string());
        assert_eq!(
            event["requestContext"]["path"],
            format!("/v1/deviceAuthentications/{id}")
        );
        assert_eq!(event["body"], "{\"otp\":\"123456\"}");
        Ok(())
    }
}

//! The floor of step 3: its two calls of `DynamoDB` with the same items, and nothing else of the protocol.
//!
//! It is what the SDK's documentation shows: the default client, made once. Like the functions, it makes one call before it
//! asks for work, which opens the connection. It reads the auth of an event and writes the state in it back to the device.

use std::collections::HashMap;

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

type Item = HashMap<String, AttributeValue>;

struct Tables {
    auths: String,
    devices: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let config = aws_config::load_defaults(BehaviorVersion::v2026_01_12()).await;
    let client = &Client::new(&config);
    let tables = &Tables {
        auths: setting("AUTHS_TABLE")?,
        devices: setting("DEVICES_TABLE")?,
    };
    read(client, tables, "none").await?;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let id = event.payload.pointer("/pathParameters/authId").and_then(Value::as_str);
        let auth = read(client, tables, id.unwrap_or_default()).await?;
        write(client, tables, auth.unwrap_or_default()).await?;
        Ok::<_, Error>(json!({ "statusCode": 200, "headers": { "content-type": "application/json" }, "body": "{}" }))
    }))
    .await
}

#[expect(
    clippy::disallowed_methods,
    reason = "without shared, which would be more than the floor"
)]
fn setting(name: &str) -> Result<String, Error> {
    std::env::var(name).map_err(|_| Error::from(format!("{name} is not set")))
}

async fn read(client: &Client, tables: &Tables, auth_id: &str) -> Result<Option<Item>, Error> {
    let get = client.get_item().table_name(&tables.auths).consistent_read(true);
    Ok(get.key("pk", text(auth_id)).send().await?.item)
}

async fn write(client: &Client, tables: &Tables, mut auth: Item) -> Result<(), Error> {
    let (owner, user, device) = (
        taken(&mut auth, "owner")?,
        taken(&mut auth, "userName")?,
        taken(&mut auth, "deviceName")?,
    );
    let Some(AttributeValue::M(mut snapshot)) = auth.remove("device") else {
        return Err("the auth has no device".into());
    };
    let version = snapshot.remove("version").ok_or("the device has no version")?;
    let seed_ref = snapshot.remove("seedRef").ok_or("the device has no seed")?;
    let state = snapshot.remove("state").ok_or("the device has no state")?;
    let update = client.update_item().table_name(&tables.devices);
    update
        .key("pk", text(&format!("{owner}#{user}")))
        .key("sk", text(&device))
        .update_expression("SET #version = :version, #state = :state, #lastUsedAt = :lastUsedAt")
        .condition_expression("#version = :heldVersion AND #seedRef = :heldSeedRef")
        .expression_attribute_names("#version", "version")
        .expression_attribute_names("#state", "state")
        .expression_attribute_names("#lastUsedAt", "lastUsedAt")
        .expression_attribute_names("#seedRef", "seedRef")
        .expression_attribute_values(":version", version.clone())
        .expression_attribute_values(":heldVersion", version)
        .expression_attribute_values(":heldSeedRef", seed_ref)
        .expression_attribute_values(":state", state)
        .expression_attribute_values(":lastUsedAt", AttributeValue::N("1".to_owned()))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await?;
    Ok(())
}

fn taken(auth: &mut Item, name: &str) -> Result<String, Error> {
    match auth.remove(name) {
        Some(AttributeValue::S(value)) => Ok(value),
        _ => Err(Error::from(format!("the auth has no {name}"))),
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

//! The floor of step 3: its two calls of `DynamoDB`, and nothing else of the protocol.
//!
//! It is what the SDK's documentation shows: the default client, made once. Like the functions, it makes one call before it
//! asks for work, which opens the connection. The read names no item, and the write no condition that could fail, so an
//! event needs nothing but the name of a user.

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

/// The tables, as the stack names them.
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
    read(client, tables, "-").await?;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let body = event.payload.get("body").and_then(Value::as_str).unwrap_or_default();
        let body: Value = serde_json::from_str(body)?;
        let user = body.get("userName").and_then(Value::as_str).unwrap_or("nobody");
        read(client, tables, user).await?;
        write(client, tables, user).await?;
        Ok::<_, Error>(json!({ "statusCode": 200, "headers": { "content-type": "application/json" }, "body": "{}" }))
    }))
    .await
}

#[expect(clippy::disallowed_methods, reason = "without shared, which would be more than the floor")]
fn setting(name: &str) -> Result<String, Error> {
    std::env::var(name).map_err(|_| Error::from(format!("{name} is not set")))
}

async fn read(client: &Client, tables: &Tables, user: &str) -> Result<(), Error> {
    let get = client.get_item().table_name(&tables.auths).consistent_read(true);
    get.key("pk", text(user)).send().await?;
    Ok(())
}

async fn write(client: &Client, tables: &Tables, user: &str) -> Result<(), Error> {
    let update = client.update_item().table_name(&tables.devices);
    let update = update.key("pk", text(&format!("floor#{user}"))).key("sk", text("floor"));
    let update = update.update_expression("SET lastUsedAt = :now").condition_expression("attribute_not_exists(version)");
    update.expression_attribute_values(":now", AttributeValue::N("1".to_owned())).send().await?;
    Ok(())
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

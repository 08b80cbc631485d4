//! Two releases that share the tables during a canary deployment, and items that this release cannot read.

use std::collections::HashMap;

use acceptance::{Outcome, World};
use anyhow::Context as _;
use aws_sdk_dynamodb::types::AttributeValue;

/// A member that a later release adds to the state.
const LATER: &str = "laterMember";

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

/// Changes the demo's device beside the service, as a later release or damage would.
async fn write(world: &World, expression: &str, values: &[(&str, AttributeValue)]) -> Outcome {
    let key = &world.stack.demo().key;
    let client = world.store_clients().dynamodb;
    let mut update = client
        .update_item()
        .table_name("Devices")
        .key("pk", text(&format!("{}#{}", key.owner.as_str(), key.user.as_str())))
        .key("sk", text(key.device.as_str()))
        .update_expression(expression)
        .set_expression_attribute_names(expression.contains("#state").then(|| {
            let names = [("#state".to_owned(), "state".to_owned())];
            names.into()
        }));
    for (name, value) in values {
        update = update.expression_attribute_values(*name, value.clone());
    }
    update.send().await?;
    Ok(())
}

async fn later_release_writes(world: &World, value: u64) -> Outcome {
    let expression = format!("SET #state.{LATER} = :value ADD version :one");
    write(world, &expression, &[(":value", number(value)), (":one", number(1))]).await
}

async fn state(world: &World) -> anyhow::Result<HashMap<String, AttributeValue>> {
    let item = world.item_of(&world.stack.demo().key).await?;
    let state = item.get("state").context("no state")?;
    Ok(state.as_m().ok().context("no map")?.clone())
}

#[tokio::test]
async fn an_older_and_a_newer_release_serve_one_device_in_turns() -> Outcome {
    let world = World::new().await?;
    later_release_writes(&world, 1).await?;

    let auth_id = world.start().await?;
    let get = world.store_clients().dynamodb.get_item().table_name("Auths");
    let auth = get.key("pk", text(&auth_id)).send().await?.item.context("no auth")?;
    let snapshot = auth.get("device").and_then(|device| device.as_m().ok());
    let snapshot = snapshot.and_then(|device| device.get("state")?.as_m().ok());
    assert_eq!(snapshot.context("no snapshot")?.get(LATER), Some(&number(1)));

    let wrong = world.wrong_code()?;
    world.otp(&auth_id, &wrong).await?.expect(422, "OTP_REJECTED")?;
    assert_eq!(
        state(&world).await?.get(LATER),
        Some(&number(1)),
        "a wrong code keeps it"
    );

    // The snapshot of this authId is now stale in the member that this release does not know, too.
    later_release_writes(&world, 2).await?;
    let code = world.code(0);
    world.otp(&auth_id, &code).await?.success(200)?;
    let now = state(&world).await?;
    assert_eq!(now.get(LATER), Some(&number(2)), "a success keeps the newest");
    assert_ne!(now.get("lastStep"), Some(&number(0)));

    later_release_writes(&world, 3).await?;
    world.start_and_send(&code).await?.expect(422, "OTP_REPLAYED")?;
    world.change(|device| device.consecutive_failures = 0).await?;
    assert_eq!(
        state(&world).await?.get(LATER),
        Some(&number(3)),
        "an operator keeps it"
    );
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn a_state_that_this_release_cannot_read_gets_503_and_stays_as_it_is() -> Outcome {
    let world = World::new().await?;
    let whole = state(&world).await?;
    let without = |name: &str| {
        let mut state = whole.clone();
        state.remove(name);
        state
    };
    let mut next_format = whole.clone();
    next_format.insert("format".to_owned(), number(2));
    for damaged in [
        None,
        Some(without("lastStep")),
        Some(without("format")),
        Some(next_format),
    ] {
        let auth_id = world.start().await?;
        match damaged {
            Some(damaged) => write(&world, "SET #state = :state", &[(":state", AttributeValue::M(damaged))]).await?,
            None => write(&world, "REMOVE #state", &[]).await?,
        }
        // The snapshot of before is refused by its version, and what the table holds cannot be decided on.
        write(&world, "ADD version :one", &[(":one", number(1))]).await?;
        let before = world.item_of(&world.stack.demo().key).await?;
        world.try_start().await?.expect(503, "SERVICE_UNAVAILABLE")?;
        world
            .otp(&auth_id, &world.code(0))
            .await?
            .expect(503, "SERVICE_UNAVAILABLE")?;
        assert_eq!(world.item_of(&world.stack.demo().key).await?, before);
        write(
            &world,
            "SET #state = :state",
            &[(":state", AttributeValue::M(whole.clone()))],
        )
        .await?;
    }
    world.start_and_send(&world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

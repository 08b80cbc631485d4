//! What an authentication costs: calls of the stores' HTTP endpoints, and the size of both items. What a gated attempt
//! costs is in `attacks/lockout.rs`.

use std::time::Duration;

use acceptance::{Outcome, World};
use anyhow::Context as _;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};

/// The most bytes that one write unit pays for.
pub(super) const ONE_WRITE_UNIT: usize = 1_024;

fn calls(world: &World) -> String {
    let calls: Vec<_> = world
        .take_calls()
        .iter()
        .map(|(call, count)| format!("{call} ×{count}"))
        .collect();
    calls.join(", ")
}

#[tokio::test]
async fn every_kind_of_attempt_makes_the_calls_of_the_budget_and_no_more() -> Outcome {
    let world = World::with_proxies().await?;
    let wrong = world.wrong_code()?;
    let _ = calls(&world);
    let first = world.start().await?;
    assert_eq!(calls(&world), "GetItem Devices ×1, PutItem Auths ×1");

    world.otp(&first, &wrong).await?.expect(422, "OTP_REJECTED")?;
    assert_eq!(
        calls(&world),
        "GetItem Auths ×1, UpdateItem Devices ×1, GetSecretValue ×1",
        "the seed is read once"
    );
    world.otp(&first, &wrong).await?.expect(422, "OTP_REJECTED")?;
    assert_eq!(
        calls(&world),
        "GetItem Auths ×1, UpdateItem Devices ×2",
        "the snapshot is stale"
    );

    for (code, status) in [(wrong.clone(), 422), (world.code(0), 200), (world.code(0), 422)] {
        let auth_id = world.start().await?;
        let _ = calls(&world);
        assert_eq!(world.otp(&auth_id, &code).await?.status, status);
        assert_eq!(
            calls(&world),
            "GetItem Auths ×1, UpdateItem Devices ×1",
            "the same for a right, a wrong and a replayed code"
        );
    }
    world.end().await;
    Ok(())
}

/// The size that `DynamoDB` charges for: names and values in UTF-8; numbers two digits a byte, and one byte; lists and maps
/// three bytes, and one for each element.
fn size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(digits) => digits.trim_end_matches('0').len().div_ceil(2) + 1,
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::L(elements) => 3 + elements.iter().map(|element| 1 + size(element)).sum::<usize>(),
        AttributeValue::M(members) => {
            3 + members
                .iter()
                .map(|(name, value)| 1 + name.len() + size(value))
                .sum::<usize>()
        }
        _ => 1,
    }
}

/// The size of an item.
pub(super) fn item_size<'a>(item: impl IntoIterator<Item = (&'a String, &'a AttributeValue)>) -> usize {
    item.into_iter().map(|(name, value)| name.len() + size(value)).sum()
}

#[tokio::test]
async fn both_items_cost_one_write_unit_with_three_recent_successes_and_names_of_32_characters() -> Outcome {
    let world = World::new().await?;
    let (user, device) = ("u".repeat(32), "d".repeat(32));
    let registered = world.register(&user, &device).await?;
    let wrong = world.wrong_code()?;
    for round in 0..4 {
        for _ in 0..if round == 3 { 4 } else { 0 } {
            let auth_id = world.start_with(&user, &device).await?;
            world.otp(&auth_id, &wrong).await?.expect(422, "OTP_REJECTED")?;
        }
        if round < 3 {
            let auth_id = world.start_with(&user, &device).await?;
            world
                .otp(&auth_id, &world.code_of(&registered, 0))
                .await?
                .success(200)?;
            world.advance(Duration::from_secs(30))?;
        }
    }
    let last = world.start_with(&user, &device).await?;
    let state = world.device_of(&registered.key).await?;
    assert_eq!((state.accepted.len(), state.failing.len()), (3, 4));

    let client = world.store_clients().dynamodb;
    let text = |value: String| AttributeValue::S(value);
    let device_pk = format!("{}#{user}", world.client().as_str());
    for (table, key) in [
        ("Devices", vec![("pk", device_pk), ("sk", device.clone())]),
        ("Auths", vec![("pk", last.clone())]),
    ] {
        let mut get = client.get_item().table_name(table);
        for (name, value) in key {
            get = get.key(name, text(value));
        }
        let item = get.send().await?.item.context("no item")?;
        let bytes = item_size(&item);
        assert!(bytes <= ONE_WRITE_UNIT, "{table}: {bytes} bytes");
        let put = client.put_item().table_name(table).set_item(Some(item));
        let put = put
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send()
            .await?;
        let units = put.consumed_capacity.and_then(|consumed| consumed.capacity_units);
        assert_eq!(units, Some(1.0), "{table}");
    }
    world.end().await;
    Ok(())
}

//! What an attacker must not tell apart is the same: answers, headers, and the calls to the stores with their sizes,
//! which decide how long an answer takes.

use std::collections::BTreeSet;

use acceptance::{Answer, Exchange, Outcome, World};
use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// Calls by name, and each with its answer.
type Calls = (Vec<(String, usize)>, Vec<Exchange>);

fn take(world: &World) -> Calls {
    (world.take_calls(), world.take_exchanges())
}

fn names(call: &Exchange, member: &str) -> Result<BTreeSet<String>> {
    let sent = call.sent_json()?;
    let members = sent.get(member).and_then(Value::as_object).context("no such member")?;
    Ok(members.keys().cloned().collect())
}

/// The last write of a device among calls.
fn write(exchanges: &[Exchange]) -> Result<&Exchange> {
    let mut writes = exchanges.iter().filter(|call| call.operation == "UpdateItem");
    writes.next_back().context("no write")
}

#[tokio::test]
async fn a_wrong_a_replayed_and_a_right_code_make_the_same_calls_with_the_same_attributes() -> Outcome {
    let world = World::with_proxies().await?;
    let (wrong, used, right) = (world.wrong_code()?, world.code(-1), world.code(0));
    world.start_and_send(&used).await?.success(200)?;
    let base = world.device().await?;
    let mut all = Vec::new();
    for (code, status) in [(&wrong, 422), (&used, 422), (&right, 200)] {
        // Each on the same state.
        let restore = |device: &mut shared::device::Device| {
            let version = device.version;
            device.clone_from(&base);
            device.version = version;
        };
        world.change(restore).await?;
        let auth_id = world.start().await?;
        let _ = take(&world);
        assert_eq!(world.otp(&auth_id, code).await?.status, status);
        all.push(take(&world));
    }
    let [wrong, replayed, right] = all.as_slice() else {
        anyhow::bail!("not three");
    };
    assert_eq!(
        wrong.0,
        [("GetItem Auths".to_owned(), 1), ("UpdateItem Devices".to_owned(), 1)]
    );
    for other in [replayed, right] {
        assert_eq!(other.0, wrong.0);
        let order = |exchanges: &[Exchange]| exchanges.iter().map(|call| call.operation.clone()).collect::<Vec<_>>();
        assert_eq!(order(&other.1), order(&wrong.1));
        let reads = [&other.1, &wrong.1].map(|exchanges| exchanges.first().map(|call| (call.sent.len(), call.status)));
        assert_eq!(reads[0], reads[1], "the same read");
    }
    let [wrong, replayed, right] = [write(&wrong.1)?, write(&replayed.1)?, write(&right.1)?];
    for other in [replayed, right] {
        for member in [
            "ConditionExpression",
            "ReturnValuesOnConditionCheckFailure",
            "Key",
            "TableName",
        ] {
            let [one, another] = [wrong, other].map(|call| call.sent_json().map(|sent| sent.get(member).cloned()));
            assert_eq!(one?, another?, "{member}");
        }
        assert_eq!(
            (other.status, other.answered.len()),
            (wrong.status, wrong.answered.len())
        );
    }
    let attributes = "ExpressionAttributeNames";
    assert_eq!(names(replayed, attributes)?, names(wrong, attributes)?);
    let mut of_right = names(right, attributes)?;
    assert!(of_right.remove("#lastUsedAt"), "only a success is a use");
    assert_eq!(of_right, names(wrong, attributes)?);
    // A failure has one more of `failing`, a success one more of `accepted`: not a hundred bytes of a kilobyte.
    let lengths = [wrong, replayed, right].map(|call| call.sent.len());
    assert!(lengths[0].abs_diff(lengths[1]) <= 16, "{lengths:?}");
    assert!(lengths[0].abs_diff(lengths[2]) <= 200, "{lengths:?}");
    eprintln!("bytes of the write of a wrong, a replayed and a right code: {lengths:?}");
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn foreign_unknown_and_malformed_auth_ids_look_the_same() -> Outcome {
    let world = World::with_proxies().await?;
    let (auth_id, other) = (world.start().await?, world.other_token()?);
    let before = world.item_of(&world.stack.demo().key).await?;
    for body in [
        json!({ "otp": world.code(0) }),
        json!({ "otp": world.wrong_code()? }),
        json!({ "otps": [world.code(0), world.code(1)] }),
        json!({ "otps": [world.wrong_code()?, world.code(1)] }),
    ] {
        // With an empty cache: the seed is not read.
        world.stack.cold_start()?;
        let _ = take(&world);
        let mut seen = Vec::new();
        for auth_id in [&auth_id, &world.unknown_auth_id()] {
            let answer: Answer = world.validate_otp(&other, auth_id, &body).await?;
            answer.expect(404, "AUTH_NOT_FOUND")?;
            let (calls, exchanges) = take(&world);
            assert_eq!(calls, [("GetItem Auths".to_owned(), 1)]);
            let sent: Vec<_> = exchanges.iter().map(|call| call.sent.len()).collect();
            seen.push((answer.comparable(), sent));
        }
        assert_eq!(seen.first(), seen.last(), "a foreign and an unknown authId");
        let malformed = world.validate_otp(&other, "not-an-auth-id", &body).await?;
        assert_eq!(Some(&malformed.comparable()), seen.first().map(|(seen, _)| seen));
    }
    assert_eq!(world.item_of(&world.stack.demo().key).await?, before);

    // Step 2: another client's device, and a user who does not exist.
    let mut seen = Vec::new();
    for name in [local::DEMO_USER, "nobody00"] {
        let body = acceptance::names(name, local::DEMO_DEVICE);
        let _ = take(&world);
        let answer = world.init_auth(&other, &body).await?;
        answer.expect(404, "DEVICE_NOT_FOUND")?;
        let (calls, exchanges) = take(&world);
        let sizes: Vec<_> = exchanges
            .iter()
            .map(|call| (call.sent.len(), call.answered.len()))
            .collect();
        seen.push((answer.comparable(), calls, sizes));
    }
    assert_eq!(seen.first(), seen.last());
    // What the first client could do before, it still can.
    world.otp(&auth_id, &world.code(0)).await?.success(200)?;
    world.end().await;
    Ok(())
}

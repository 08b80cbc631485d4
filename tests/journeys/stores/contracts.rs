//! The suites that every implementation of a port must pass, for the AWS adapters on the local stores.

use acceptance::{Outcome, World};
use anyhow::anyhow;
use shared::testing::contracts::{auth_store_contract, device_store_contract, key_ring_contract, seed_store_contract};

#[tokio::test]
async fn auths_in_dynamodb_keep_the_contract() -> Outcome {
    let world = World::new().await?;
    auth_store_contract(world.stack.auths())
        .await
        .map_err(|error| anyhow!(error))?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn devices_in_dynamodb_keep_the_contract() -> Outcome {
    let world = World::new().await?;
    device_store_contract(world.stack.devices())
        .await
        .map_err(|error| anyhow!(error))?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn seeds_in_secrets_manager_keep_the_contract() -> Outcome {
    let world = World::new().await?;
    seed_store_contract(world.stack.seeds())
        .await
        .map_err(|error| anyhow!(error))?;
    world.end().await;
    Ok(())
}

#[tokio::test]
async fn the_key_ring_in_secrets_manager_keeps_the_contract() -> Outcome {
    let world = World::new().await?;
    key_ring_contract(world.stack.seeds())
        .await
        .map_err(|error| anyhow!(error))?;
    world.end().await;
    Ok(())
}

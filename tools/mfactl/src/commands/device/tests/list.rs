//! `list`, `export`, `show`.

use std::collections::HashSet;

use anyhow::Result;
use serde_json::Value;
use shared::names::{DeviceKey, DeviceName, Owner, UserName};
use shared::ports::operator::DeviceFilter;

use crate::commands::device::{CheckRequest, ListRequest};
use crate::commands::testing::world::World;

#[tokio::test]
async fn a_list_has_every_device_once_with_pages_of_any_length() -> Result<()> {
    let world = World::new()?;
    let device = World::active().await?.record()?.device;
    for number in 0..300 {
        let key = DeviceKey {
            owner: Owner::parse(if number % 3 == 0 { "bank" } else { "shop" })?,
            user: UserName::parse(&format!("user {}", number % 50))?,
            device: DeviceName::parse(&format!("phone {number}"))?,
        };
        world.devices.put(&key, &device);
    }
    let (shop, user) = (Owner::parse("shop")?, UserName::parse("user 7")?);
    for page in [1, 7, 300, 1_000] {
        for (filter, expected) in [
            (DeviceFilter::All, 300),
            (DeviceFilter::Owner(shop.clone()), 200),
            (DeviceFilter::User(shop.clone(), user.clone()), 4),
        ] {
            let mut admin = world.admin([]);
            let listing = ListRequest {
                filter: filter.clone(),
                json: true,
                page,
            };
            admin.list(&listing).await?;
            let listed: Vec<Value> = serde_json::from_str(&admin.terminal.output)?;
            let names: HashSet<String> = listed.iter().map(ToString::to_string).collect();
            assert_eq!(
                (listed.len(), names.len()),
                (expected, expected),
                "{filter:?} in pages of {page}"
            );
            assert_eq!(
                admin.terminal.notes.contains("whole table"),
                !matches!(filter, DeviceFilter::User(..))
            );
            let mut admin = world.admin([]);
            admin.export(&listing).await?;
            assert_eq!(admin.terminal.output.lines().count(), expected);
        }
    }
    let mut admin = world.admin([]);
    admin
        .list(&ListRequest {
            filter: DeviceFilter::User(shop, user),
            json: false,
            page: 2,
        })
        .await?;
    assert_eq!(
        admin.terminal.output.lines().count(),
        1 + 4 + 1,
        "{}",
        admin.terminal.output
    );
    assert!(admin.terminal.output.starts_with("OWNER") && admin.terminal.output.ends_with("4 devices\n"));
    Ok(())
}

#[tokio::test]
async fn no_command_shows_the_seed_of_a_device() -> Result<()> {
    let world = World::active().await?;
    let (secret, seed) = (world.secret()?, world.seed()?.to_base32());
    let mut admin = world.admin([]);
    for json in [false, true] {
        admin.show(&world.key, json).await?;
        let expected = None;
        let key = world.key.clone();
        let codes = false;
        let checking = CheckRequest {
            key,
            json,
            expected,
            codes,
        };
        admin.check(&checking).await?;
        admin
            .list(&ListRequest {
                filter: DeviceFilter::All,
                json,
                page: 10,
            })
            .await?;
    }
    let shown = admin.terminal.output + &admin.terminal.notes;
    assert!(shown.contains("my phone") && shown.contains(secret.name()));
    assert!(!shown.contains(seed.as_str()));
    Ok(())
}

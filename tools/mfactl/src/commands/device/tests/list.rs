//! `list`, `show`, `export`, `check`.

use super::*;
use crate::commands::look::aligned;

#[tokio::test]
async fn a_list_has_every_device_once_however_long_its_pages_are() -> Result<()> {
    let world = World::new()?;
    let device = World::active().await?.record()?.device;
    for number in 0..300 {
        let key = DeviceKey {
            client: ClientId::parse(if number % 3 == 0 { "bank" } else { "shop" })?,
            user: UserName::parse(&format!("user {}", number % 50))?,
            device: DeviceName::parse(&format!("phone {number}"))?,
        };
        world.devices.put(&key, &device);
    }
    let (shop, user) = (ClientId::parse("shop")?, UserName::parse("user 7")?);
    for page in [1, 7, 300, 1_000] {
        for (of, expected) in [
            (Of::All, 300),
            (Of::Client(shop.clone()), 200),
            (Of::User(shop.clone(), user.clone()), 4),
        ] {
            let mut desk = world.desk([]);
            let listing = Listing {
                of: of.clone(),
                json: true,
                page,
            };
            desk.list(&listing).await?;
            let listed: Vec<serde_json::Value> = serde_json::from_str(&desk.terminal.said)?;
            let names: std::collections::HashSet<String> = listed.iter().map(ToString::to_string).collect();
            assert_eq!(
                (listed.len(), names.len()),
                (expected, expected),
                "{of:?} in pages of {page}"
            );
            assert_eq!(desk.terminal.noted.contains("whole table"), !matches!(of, Of::User(..)));
            let mut desk = world.desk([]);
            desk.export(&listing).await?;
            assert_eq!(desk.terminal.said.lines().count(), expected);
        }
    }
    let mut desk = world.desk([]);
    desk.list(&Listing {
        of: Of::User(shop, user),
        json: false,
        page: 2,
    })
    .await?;
    assert_eq!(desk.terminal.said.lines().count(), 1 + 4 + 1, "{}", desk.terminal.said);
    assert!(desk.terminal.said.starts_with("CLIENT") && desk.terminal.said.ends_with("4 devices\n"));
    Ok(())
}

#[tokio::test]
async fn what_is_shown_of_a_device_is_never_its_seed() -> Result<()> {
    let world = World::active().await?;
    let seed_ref = world.record()?.device.seed_ref;
    let seed = SeedRegistry::read(&world.seeds, &seed_ref)
        .await?
        .context("no seed")?
        .to_base32();
    let mut desk = world.desk([]);
    for json in [false, true] {
        desk.show_device(&world.key, json).await?;
        let expected = None;
        let key = world.key.clone();
        desk.check(&Checking { key, json, expected }).await?;
        desk.list(&Listing {
            of: Of::All,
            json,
            page: 10,
        })
        .await?;
    }
    let shown = desk.terminal.said + &desk.terminal.noted;
    assert!(shown.contains("my phone") && shown.contains(seed_ref.name()));
    assert!(!shown.contains(seed.as_str()));
    Ok(())
}

#[tokio::test]
async fn a_check_says_what_is_wrong_and_what_would_happen_now() -> Result<()> {
    let world = World::active().await?;
    let device = world.record()?.device;
    let checked = async |expected: Option<Seed>| {
        let mut desk = world.desk([]);
        let key = world.key.clone();
        let checking = Checking {
            key,
            json: false,
            expected,
        };
        let outcome = told(desk.check(&checking).await);
        (desk.terminal.said, outcome)
    };
    let (said, error) = checked(None).await;
    assert!(said.contains("one code is enough") && error.is_empty(), "{said}{error}");
    let stored = SeedRegistry::read(&world.seeds, &device.seed_ref).await?;
    let (said, error) = checked(stored).await;
    assert!(
        said.contains("the one in the file") && error.is_empty(),
        "{said}{error}"
    );
    let (said, error) = checked(Some(Seed::from_bytes(&[1; 20], OtpParameters::default())?)).await;
    assert!(
        said.contains("another than the one in the file") && error.contains("1 problem"),
        "{said}{error}"
    );

    world.set(|device| device.consecutive_failures = 100)?;
    assert!(
        checked(None)
            .await
            .0
            .contains("two codes in a row are required, until they succeed")
    );
    world.set(|device| {
        device.consecutive_failures = 7;
        device.not_before = NOW.plus(std::time::Duration::from_hours(1));
        device.pair_at = NOW.plus(std::time::Duration::from_hours(1));
    })?;
    let said = checked(None).await.0;
    assert!(
        said.contains("until 2026-11-25T04:00:00Z") && said.contains("no pairs"),
        "{said}"
    );
    world.set(|device| device.status = Status::Disabled)?;
    assert!(checked(None).await.0.contains("423 DEVICE_DISABLED"));
    world.set(|device| device.status = Status::ActivationRequired)?;
    assert!(checked(None).await.0.contains("423 DEVICE_NOT_ACTIVE"));
    world.set(|device| device.parameters.digits = Digits::Eight)?;
    let (said, error) = checked(None).await;
    assert!(
        said.contains("the secret is for SHA1, 6 digits, 30 s") && !error.is_empty(),
        "{said}{error}"
    );
    SeedRegistry::remove(&world.seeds, &device.seed_ref, Removal::Recoverable).await?;
    let (said, error) = checked(None).await;
    assert!(
        said.contains("restore-secret") && error.contains("does not work"),
        "{said}{error}"
    );
    Ok(())
}

#[test]
fn columns_line_up_whatever_characters_a_name_has() {
    for (name, columns) in [
        ("alice", 5),
        ("\u{5c71}\u{7530}", 4),
        ("\u{5c71}\u{7530} \u{592a}\u{90ce}", 9),
        ("\u{ff21}\u{ff22}\u{3000}", 6),
        ("\u{ff71}\u{ff72}", 2),
        ("\u{d55c}\u{ae00}", 4),
        ("\u{1f511} key", 6),
        ("\u{915}\u{93f}", 2),
        ("m\u{fc}ller", 6),
        ("x\u{323}\u{302}", 1),
        ("a\u{200d}b", 2),
    ] {
        let rows = [[name, "after"], ["a name that is longer", "below"]].map(|row| row.map(str::to_owned));
        let text = aligned(&rows);
        let padding = text.lines().next().and_then(|line| line.strip_prefix(name));
        let padding = padding.map(|rest| rest.chars().take_while(|character| *character == ' ').count());
        assert_eq!(padding, Some("a name that is longer".len() + 2 - columns), "{text}");
    }
}

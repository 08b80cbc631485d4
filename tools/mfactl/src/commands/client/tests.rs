//! The commands for clients, over a user pool in memory, and interrupted at every call of it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Result, anyhow};
use serde_json::Value;
use shared::names::{ClientOwners, DeviceKey, Owner};
use shared::testing::memory::MemoryDevices;

use super::{ClientAdmin, Rotation, SecretOutput};
use crate::commands::device::RegisterRequest;
use crate::commands::testing::pool::{Call, MemoryPool, POOL_FAULTS, PoolFault};
use crate::commands::testing::world::{Reply, TestTerminal, World, error_text, text, until_it_hangs};
use crate::ports::clients::{ClientName, Scope};
use crate::usage::Usage;

type MemoryClientAdmin = ClientAdmin<MemoryPool, MemoryDevices, TestTerminal>;

fn admin(pool: &MemoryPool, replies: impl IntoIterator<Item = Reply>) -> Result<MemoryClientAdmin> {
    let world = World::new()?;
    let admin = world.admin(replies);
    Ok(ClientAdmin {
        clients: pool.clone(),
        devices: Some(admin.devices),
        owners: ClientOwners::default(),
        terminal: admin.terminal,
        yes: false,
    })
}

fn name(raw: &str) -> Result<ClientName> {
    ClientName::parse(raw).map_err(|error| anyhow!(error))
}

fn scopes() -> Result<Vec<Scope>> {
    Ok(vec![Scope::parse("mfa/authenticate").map_err(|error| anyhow!(error))?])
}

#[tokio::test]
async fn the_secret_of_a_new_client_is_only_in_the_file() -> Result<()> {
    let (pool, folder) = (MemoryPool::default(), tempfile::tempdir()?);
    let path = folder.path().join("it's");
    let mut admin = admin(&pool, [])?;
    let output = SecretOutput::File(path.clone());
    admin.add(&name("shop")?, &scopes()?, &output).await?;
    let secret = std::fs::read_to_string(&path)?;
    assert_eq!(pool.values("shop").concat(), secret);
    assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    let shown = &admin.terminal.output;
    assert!(!shown.contains(&secret) && !admin.terminal.notes.contains(&secret));
    for expected in [
        "id1",
        "https://tokens/oauth2/token",
        "curl -sS -K -",
        "it'\\''s",
        "mfactl device register",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }

    // A name is used once, and an existing file is not overwritten.
    let other = SecretOutput::File(folder.path().join("other"));
    let error = error_text(admin.add(&name("shop")?, &scopes()?, &other).await);
    assert!(error.contains("rotate id1"), "{error}");
    let error = error_text(admin.add(&name("bank")?, &scopes()?, &output).await);
    assert!(error.contains("already exists"), "{error}");
    let nowhere = SecretOutput::File(folder.path().join("no/folder"));
    assert!(admin.add(&name("bank")?, &scopes()?, &nowhere).await.is_err());
    assert_eq!(pool.state(|state| state.clients.len()), 1);
    Ok(())
}

#[tokio::test]
async fn a_secret_is_shown_once_if_requested() -> Result<()> {
    let pool = MemoryPool::default();
    let mut admin = admin(&pool, [])?;
    admin.add(&name("shop")?, &scopes()?, &SecretOutput::Terminal).await?;
    assert_eq!(
        admin.terminal.output.matches("secret1").count(),
        1,
        "{}",
        admin.terminal.output
    );
    assert!(admin.terminal.output.contains("curl -sS -u id1 -d"));
    Ok(())
}

#[tokio::test]
async fn a_list_has_all_pages_and_no_secrets() -> Result<()> {
    let pool = MemoryPool::default();
    for name in ["e", "d", "c", "b", "a"] {
        pool.put(name);
    }
    let mut admin = admin(&pool, [])?;
    admin.rotate("c", &Rotation::Begin(SecretOutput::Terminal)).await?;
    admin.terminal.output.clear();
    admin.list(false).await?;
    let lines: Vec<&str> = admin.terminal.output.lines().collect();
    assert_eq!(lines.len(), 7, "{lines:?}");
    assert!(
        lines.get(1).is_some_and(|line| line.starts_with("a     id5")),
        "{lines:?}"
    );
    assert!(lines.get(3).is_some_and(|line| line.ends_with('2')), "{lines:?}");
    admin.terminal.output.clear();
    admin.list(true).await?;
    assert!(!admin.terminal.output.contains("secret1") && !admin.terminal.output.contains("secret6"));
    let all: Value = serde_json::from_str(&admin.terminal.output)?;
    assert_eq!(all[2]["clientName"], "c");
    assert_eq!(all[2]["secrets"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[tokio::test]
async fn a_rotation_adds_a_secret_and_then_deletes_the_older_one() -> Result<()> {
    let (pool, folder) = (MemoryPool::default(), tempfile::tempdir()?);
    pool.put("bank");
    pool.put("shop");
    let path = folder.path().join("new");
    let begin = Rotation::Begin(SecretOutput::File(path.clone()));
    admin(&pool, [])?.rotate("shop", &begin).await?;
    assert_eq!(pool.values("shop"), ["secret2", "secret3"]);
    assert_eq!(std::fs::read_to_string(&path)?, "secret3");
    let error = error_text(
        admin(&pool, [])?
            .rotate("shop", &Rotation::Begin(SecretOutput::Terminal))
            .await,
    );
    assert!(error.contains("--finish") && error.contains("--undo"), "{error}");

    for replies in [vec![], vec![text("n")]] {
        let error = error_text(admin(&pool, replies)?.rotate("id2", &Rotation::Finish).await);
        assert!(error.contains("nothing was changed"), "{error}");
        assert_eq!(pool.values("shop").len(), 2);
    }
    admin(&pool, [text("y")])?.rotate("id2", &Rotation::Finish).await?;
    assert_eq!(pool.values("shop"), ["secret3"]);
    for how in [Rotation::Finish, Rotation::Undo] {
        let mut admin = admin(&pool, [])?;
        admin.rotate("id2", &how).await?;
        assert!(admin.terminal.output.contains("nothing was changed"));
    }
    admin(&pool, [])?
        .rotate("shop", &Rotation::Begin(SecretOutput::Terminal))
        .await?;
    admin(&pool, [text("y")])?.rotate("shop", &Rotation::Undo).await?;
    assert_eq!(pool.values("shop"), ["secret3"]);
    Ok(())
}

#[tokio::test]
async fn a_new_secret_that_cannot_be_written_is_deleted_again() -> Result<()> {
    let pool = MemoryPool::default();
    pool.put("shop");
    let mut admin = admin(&pool, [])?;
    admin.terminal.closed = true;
    let error = error_text(admin.rotate("shop", &Rotation::Begin(SecretOutput::Terminal)).await);
    assert!(error.contains("deleted again"), "{error}");
    assert_eq!(pool.values("shop"), ["secret1"]);
    Ok(())
}

#[tokio::test]
async fn a_failed_command_leaves_no_empty_file() -> Result<()> {
    let (pool, folder) = (MemoryPool::default(), tempfile::tempdir()?);
    pool.put("shop");
    let output = SecretOutput::File(folder.path().join("secret"));
    for call in [Call::Create, Call::AddSecret] {
        pool.state(|state| state.fault = Some((0, call, PoolFault::Before)));
        let outcome = match call {
            Call::Create => admin(&pool, [])?.add(&name("bank")?, &scopes()?, &output).await,
            _ => admin(&pool, [])?.rotate("shop", &Rotation::Begin(output.clone())).await,
        };
        assert!(outcome.is_err());
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "{call:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_and_an_ambiguous_name_are_errors() -> Result<()> {
    let pool = MemoryPool::default();
    pool.put("shop");
    pool.put("shop");
    let error = error_text(admin(&pool, [])?.rotate("bank", &Rotation::Finish).await);
    assert!(error.contains("no client bank"), "{error}");
    let outcome = admin(&pool, [])?.remove("shop", true).await;
    assert!(outcome.as_ref().is_err_and(anyhow::Error::is::<Usage>));
    assert!(error_text(outcome).contains("id1 or id2"));
    admin(&pool, [text("y")])?.remove("id2", true).await?;
    assert_eq!(pool.values("shop"), ["secret1"]);
    Ok(())
}

#[tokio::test]
async fn a_client_with_devices_is_removed_only_with_the_flag() -> Result<()> {
    let pool = MemoryPool::default();
    let id = pool.put("shop");
    let world = World::new()?;
    let key = DeviceKey {
        owner: id.into(),
        ..world.key.clone()
    };
    let request = RegisterRequest {
        key,
        activate: false,
        ..world.request()?
    };
    world.admin([]).register(&request).await?;
    let with_devices = |replies: Vec<Reply>| -> Result<MemoryClientAdmin> {
        Ok(ClientAdmin {
            devices: Some(world.devices.clone()),
            ..admin(&pool, replies)?
        })
    };
    let error = error_text(with_devices(vec![text("y")])?.remove("shop", false).await);
    assert!(error.contains("--with-devices-left"), "{error}");
    let blind = ClientAdmin {
        devices: None,
        ..with_devices(vec![text("y")])?
    }
    .remove("shop", false)
    .await;
    assert!(blind.is_err_and(|error| error.is::<Usage>()));
    let error = error_text(with_devices(vec![])?.remove("shop", true).await);
    assert!(error.contains("--yes"), "{error}");
    assert_eq!(pool.values("shop").len(), 1);
    with_devices(vec![text("y")])?.remove("shop", true).await?;
    let mut again = with_devices(vec![])?;
    again.remove("shop", false).await?;
    assert!(again.terminal.output.contains("nothing was removed"));
    Ok(())
}

#[tokio::test]
async fn a_client_is_removed_while_another_one_acts_for_its_devices() -> Result<()> {
    let pool = MemoryPool::default();
    let (settings, sign_in) = (pool.put("settings"), pool.put("sign-in"));
    pool.put("shop");
    let world = World::new()?;
    let owner = Owner::parse("bank")?;
    let request = RegisterRequest {
        key: DeviceKey {
            owner: owner.clone(),
            ..world.key.clone()
        },
        activate: false,
        ..world.request()?
    };
    world.admin([]).register(&request).await?;
    let owners = format!("{}=bank,{}=bank", settings.as_str(), sign_in.as_str());
    let with_owners = || -> Result<MemoryClientAdmin> {
        Ok(ClientAdmin {
            devices: Some(world.devices.clone()),
            owners: ClientOwners::parse(&owners)?,
            ..admin(&pool, [text("y")])?
        })
    };
    with_owners()?.remove("settings", false).await?;
    // The last one that acts for them.
    let error = error_text(with_owners()?.remove("sign-in", false).await);
    assert!(error.contains("mfactl device list --owner 'bank'"), "{error}");
    with_owners()?.remove("shop", false).await
}

/// Interrupts a command at every call in every way. Returns the number of points. `check` gets the outcome, `None` if the
/// program was killed.
async fn at_every_call(
    prepare: impl Fn(&MemoryPool),
    command: impl AsyncFn(&mut MemoryClientAdmin, &Path) -> Result<()>,
    check: impl AsyncFn(&MemoryPool, Option<Result<()>>, &Path, &str) -> Result<()>,
) -> Result<usize> {
    let (pool, folder) = (MemoryPool::default(), tempfile::tempdir()?);
    prepare(&pool);
    command(&mut admin(&pool, [text("y")])?, &folder.path().join("secret")).await?;
    let made = pool.state(|state| state.calls.clone());
    let mut points = 0;
    for (call, times) in made {
        for (fault, left) in POOL_FAULTS
            .into_iter()
            .flat_map(|fault| (0..times).map(move |left| (fault, left)))
        {
            let (pool, folder) = (MemoryPool::default(), tempfile::tempdir()?);
            prepare(&pool);
            pool.state(|state| state.fault = Some((left, call, fault)));
            let path = folder.path().join("secret");
            let mut admin = admin(&pool, [text("y")])?;
            let outcome = until_it_hangs(command(&mut admin, &path)).await;
            assert_eq!(pool.state(|state| state.fault), None, "{call:?} was made");
            if fault == PoolFault::After && [Call::Create, Call::Remove, Call::RemoveSecret].contains(&call) {
                assert!(matches!(outcome, Some(Ok(()))), "the effect is recognised: {call:?}");
            }
            check(&pool, outcome, &path, &format!("{fault:?} {call:?} after {left}")).await?;
            points += 1;
        }
    }
    Ok(points)
}

#[tokio::test]
async fn after_an_interrupted_addition_every_client_can_get_a_known_secret() -> Result<()> {
    let points = at_every_call(
        |pool| {
            pool.put("bank");
        },
        async |admin, path| {
            admin
                .add(&name("shop")?, &scopes()?, &SecretOutput::File(path.to_owned()))
                .await
        },
        async |pool, outcome, path, when| {
            if matches!(outcome, Some(Ok(()))) {
                assert_eq!(pool.values("shop"), [std::fs::read_to_string(path)?], "{when}");
                return Ok(());
            }
            assert!(!path.exists(), "{when}");
            let other = SecretOutput::File(path.with_extension("again"));
            if pool.values("shop").is_empty() {
                admin(pool, [])?.add(&name("shop")?, &scopes()?, &other).await?;
            } else {
                // As the error says.
                assert!(
                    error_text(admin(pool, [])?.add(&name("shop")?, &scopes()?, &other).await).contains("rotate id2")
                );
                admin(pool, [])?.rotate("id2", &Rotation::Begin(other)).await?;
                admin(pool, [text("y")])?.rotate("id2", &Rotation::Finish).await?;
            }
            let secret = std::fs::read_to_string(path.with_extension("again"))?;
            assert_eq!(pool.values("shop"), [secret], "{when}");
            Ok(())
        },
    )
    .await?;
    assert!(points >= 12, "{points}");
    Ok(())
}

#[tokio::test]
async fn an_interrupted_rotation_never_deletes_the_secret_in_use() -> Result<()> {
    let points = at_every_call(
        |pool| {
            pool.put("shop");
        },
        async |admin, path| {
            admin
                .rotate("shop", &Rotation::Begin(SecretOutput::File(path.to_owned())))
                .await
        },
        async |pool, outcome, path, when| {
            assert!(pool.values("shop").contains(&"secret1".to_owned()), "{when}");
            if matches!(outcome, Some(Ok(()))) {
                assert!(pool.values("shop").contains(&std::fs::read_to_string(path)?), "{when}");
                return Ok(());
            }
            let error = outcome.map(error_text);
            assert!(!path.exists(), "{when}");
            if pool.values("shop").len() == 2 {
                // Killed, or the error says what to do.
                assert!(error.is_none_or(|error| error.contains("--undo")), "{when}");
                admin(pool, [text("y")])?.rotate("shop", &Rotation::Undo).await?;
            }
            assert_eq!(pool.values("shop"), ["secret1"], "{when}");
            let begin = Rotation::Begin(SecretOutput::File(path.to_owned()));
            admin(pool, [])?.rotate("shop", &begin).await?;
            assert!(pool.values("shop").contains(&std::fs::read_to_string(path)?), "{when}");
            Ok(())
        },
    )
    .await?;
    assert!(points >= 20, "{points}");
    Ok(())
}

#[tokio::test]
async fn an_interrupted_end_of_a_rotation_is_finished_by_the_next_run() -> Result<()> {
    let points = at_every_call(
        |pool| {
            let id = pool.put("shop");
            pool.state(|state| {
                if let Ok(held) = state.find(&id) {
                    held.secrets.push((2, "secret2".to_owned()));
                }
            });
        },
        async |admin, _| admin.rotate("shop", &Rotation::Finish).await,
        async |pool, outcome, _, when| {
            if matches!(outcome, Some(Ok(()))) {
                assert_eq!(pool.values("shop"), ["secret2"], "{when}");
            }
            admin(pool, [text("y")])?.rotate("shop", &Rotation::Finish).await?;
            assert_eq!(pool.values("shop"), ["secret2"], "{when}");
            Ok(())
        },
    )
    .await?;
    assert!(points >= 12, "{points}");
    Ok(())
}

#[tokio::test]
async fn an_interrupted_removal_is_finished_by_the_next_run() -> Result<()> {
    let points = at_every_call(
        |pool| {
            pool.put("bank");
            pool.put("shop");
        },
        async |admin, _| admin.remove("shop", false).await,
        async |pool, outcome, _, when| {
            assert!(
                !matches!(outcome, Some(Ok(()))) || pool.values("shop").is_empty(),
                "{when}"
            );
            admin(pool, [text("y")])?.remove("shop", false).await?;
            assert!(pool.values("shop").is_empty(), "{when}");
            assert_eq!(pool.values("bank").len(), 1, "{when}");
            Ok(())
        },
    )
    .await?;
    assert!(points >= 8, "{points}");
    Ok(())
}

#[test]
fn names_and_scopes_that_cognito_or_a_shell_would_not_accept_are_refused() {
    for good in ["a", "My shop, 2nd=x@y.z-_+", &"x".repeat(128)] {
        assert!(ClientName::parse(good).is_ok(), "{good}");
    }
    for bad in ["", " a", "a ", "a'b", "a\nb", "\u{e4}", &"x".repeat(129)] {
        assert!(ClientName::parse(bad).is_err(), "{bad}");
    }
    assert!(Scope::parse("mfa/authenticate").is_ok());
    for bad in ["", "a b", "a'b", "a\"b", "a\\b"] {
        assert!(Scope::parse(bad).is_err(), "{bad}");
    }
}

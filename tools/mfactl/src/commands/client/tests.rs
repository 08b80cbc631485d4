//! Clients over a pool in memory, and every command cut short at every call of it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::*;
use crate::clients::{
    ClientError, ClientName, ClientPage, ClientRegistry, Created, Described, Listed, Scope, SecretAdded, SecretListed,
};
use crate::target::Usage;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    TokenUrl,
    Page,
    Describe,
    Create,
    Remove,
    Secrets,
    AddSecret,
    RemoveSecret,
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// It is not carried out.
    Before,
    /// It is carried out, and the answer is lost.
    After,
    /// It is not carried out, and the program is killed.
    KilledBefore,
    /// It is carried out, and the program is killed.
    KilledAfter,
}

const WRONG: [Wrong; 4] = [Wrong::Before, Wrong::After, Wrong::KilledBefore, Wrong::KilledAfter];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    id: ClientId,
    name: String,
    scopes: Vec<String>,
    /// Number and value.
    secrets: Vec<(u64, String)>,
}

#[derive(Debug, Default)]
struct Inside {
    clients: Vec<Held>,
    numbers: u64,
    calls: BTreeMap<Call, usize>,
    fault: Option<(usize, Call, Wrong)>,
}

/// Pages hold two clients.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryPool(Arc<Mutex<Inside>>);

impl MemoryPool {
    fn inside<T>(&self, work: impl FnOnce(&mut Inside) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn call<T>(
        &self,
        call: Call,
        work: impl FnOnce(&mut Inside) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let (outcome, killed) = self.inside(|inside| {
            *inside.calls.entry(call).or_default() += 1;
            let wrong = match &mut inside.fault {
                Some((0, at, wrong)) if *at == call => Some(*wrong),
                Some((left, at, _)) if *at == call => {
                    *left -= 1;
                    None
                }
                _ => None,
            };
            if wrong.is_some() {
                inside.fault = None;
            }
            let lost = || Err(ClientError::Other("no answer".to_owned()));
            match wrong {
                None => (work(inside), false),
                Some(Wrong::Before) => (lost(), false),
                Some(Wrong::KilledBefore) => (lost(), true),
                Some(wrong @ (Wrong::After | Wrong::KilledAfter)) => {
                    let _ = work(inside);
                    (lost(), wrong == Wrong::KilledAfter)
                }
            }
        });
        if killed {
            std::future::pending::<()>().await;
        }
        outcome
    }

    pub(super) fn put(&self, name: &str) -> ClientId {
        self.put_with(name, "mfa/authenticate")
    }

    pub(super) fn put_with(&self, name: &str, scope: &str) -> ClientId {
        self.inside(|inside| inside.create(name, &[scope.to_owned()]).id)
    }

    fn values(&self, name: &str) -> Vec<String> {
        self.inside(|inside| {
            let held = inside.clients.iter().filter(|held| held.name == name);
            held.flat_map(|held| held.secrets.iter().map(|(_, value)| value.clone()))
                .collect()
        })
    }
}

impl Inside {
    fn create(&mut self, name: &str, scopes: &[String]) -> Held {
        self.numbers += 1;
        let id = ClientId::parse(&format!("id{}", self.numbers)).unwrap_or_else(|_| unreachable!("an id"));
        let held = Held {
            id,
            name: name.to_owned(),
            scopes: scopes.to_vec(),
            secrets: vec![(self.numbers, format!("secret{}", self.numbers))],
        };
        self.clients.push(held.clone());
        held
    }

    fn one(&mut self, id: &ClientId) -> Result<&mut Held, ClientError> {
        let held = self.clients.iter_mut().find(|held| held.id == *id);
        held.ok_or_else(|| ClientError::NotFound("no client".to_owned()))
    }
}

fn when(number: u64) -> Timestamp {
    NOW.plus(std::time::Duration::from_secs(number))
}

impl ClientRegistry for MemoryPool {
    async fn token_url(&self) -> Result<String, ClientError> {
        self.call(Call::TokenUrl, |_| Ok("https://tokens/oauth2/token".to_owned()))
            .await
    }

    async fn page(&self, after: Option<&str>) -> Result<ClientPage, ClientError> {
        let from: usize = after.and_then(|after| after.parse().ok()).unwrap_or_default();
        self.call(Call::Page, |inside| {
            let listed = |held: &Held| Listed {
                id: held.id.clone(),
                name: held.name.clone(),
            };
            Ok(ClientPage {
                clients: inside.clients.iter().skip(from).take(2).map(listed).collect(),
                next: (inside.clients.len() > from + 2).then(|| (from + 2).to_string()),
            })
        })
        .await
    }

    async fn describe(&self, id: &ClientId) -> Result<Option<Described>, ClientError> {
        self.call(Call::Describe, |inside| {
            Ok(inside.one(id).ok().map(|held| Described {
                scopes: held.scopes.clone(),
                created_at: NOW,
                secret: held.secrets.first().map(|(_, value)| Zeroizing::new(value.clone())),
            }))
        })
        .await
    }

    async fn create(&self, name: &ClientName, scopes: &[Scope]) -> Result<Created, ClientError> {
        let scopes: Vec<String> = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
        self.call(Call::Create, |inside| {
            let held = inside.create(name.as_str(), &scopes);
            Ok(Created {
                id: held.id,
                secret: held.secrets.first().map(|(_, value)| Zeroizing::new(value.clone())),
            })
        })
        .await
    }

    async fn remove(&self, id: &ClientId) -> Result<(), ClientError> {
        self.call(Call::Remove, |inside| {
            inside.clients.retain(|held| held.id != *id);
            Ok(())
        })
        .await
    }

    async fn secrets(&self, id: &ClientId) -> Result<Vec<SecretListed>, ClientError> {
        self.call(Call::Secrets, |inside| {
            // The newest first: nothing says that they come in order.
            let secrets = inside.one(id)?.secrets.iter().rev();
            let listed = secrets.map(|(number, _)| SecretListed {
                id: number.to_string(),
                created_at: when(*number),
            });
            Ok(listed.collect())
        })
        .await
    }

    async fn add_secret(&self, id: &ClientId) -> Result<SecretAdded, ClientError> {
        self.call(Call::AddSecret, |inside| {
            inside.numbers += 1;
            let number = inside.numbers;
            let held = inside.one(id)?;
            if held.secrets.len() == 2 {
                return Err(ClientError::LimitExceeded("two".to_owned()));
            }
            held.secrets.push((number, format!("secret{number}")));
            Ok(SecretAdded {
                id: number.to_string(),
                value: Zeroizing::new(format!("secret{number}")),
            })
        })
        .await
    }

    async fn remove_secret(&self, id: &ClientId, secret: &str) -> Result<(), ClientError> {
        self.call(Call::RemoveSecret, |inside| {
            inside
                .one(id)?
                .secrets
                .retain(|(number, _)| number.to_string() != secret);
            Ok(())
        })
        .await
    }
}

type PoolDesk = ClientDesk<MemoryPool, MemoryDevices, Person>;

fn desk(pool: &MemoryPool, replies: impl IntoIterator<Item = Reply>) -> Result<PoolDesk> {
    let world = World::new()?;
    let desk = world.desk(replies);
    Ok(ClientDesk {
        clients: pool.clone(),
        devices: Some(desk.devices),
        terminal: desk.terminal,
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
async fn a_client_gets_its_secret_into_a_file_of_its_owner_and_nowhere_else() -> Result<()> {
    let (pool, folder) = (MemoryPool::default(), tempfile::tempdir()?);
    let path = folder.path().join("it's");
    let mut desk = desk(&pool, [])?;
    let secret_to = SecretTo::File(path.clone());
    desk.add(&name("shop")?, &scopes()?, &secret_to).await?;
    let secret = std::fs::read_to_string(&path)?;
    assert_eq!(pool.values("shop").concat(), secret);
    assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    let said = &desk.terminal.said;
    assert!(!said.contains(&secret) && !desk.terminal.noted.contains(&secret));
    for expected in [
        "id1",
        "https://tokens/oauth2/token",
        "curl -sS -K -",
        "it'\\''s",
        "mfactl device register",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }

    // A name is taken once, and a file is not written over.
    let other = SecretTo::File(folder.path().join("other"));
    let error = told(desk.add(&name("shop")?, &scopes()?, &other).await);
    assert!(error.contains("rotate id1"), "{error}");
    let error = told(desk.add(&name("bank")?, &scopes()?, &secret_to).await);
    assert!(error.contains("there already"), "{error}");
    let nowhere = SecretTo::File(folder.path().join("no/folder"));
    assert!(desk.add(&name("bank")?, &scopes()?, &nowhere).await.is_err());
    assert_eq!(pool.inside(|inside| inside.clients.len()), 1);
    Ok(())
}

#[tokio::test]
async fn a_secret_is_shown_once_if_that_was_asked_for() -> Result<()> {
    let pool = MemoryPool::default();
    let mut desk = desk(&pool, [])?;
    desk.add(&name("shop")?, &scopes()?, &SecretTo::Terminal).await?;
    assert_eq!(
        desk.terminal.said.matches("secret1").count(),
        1,
        "{}",
        desk.terminal.said
    );
    assert!(desk.terminal.said.contains("curl -sS -u id1 -d"));
    Ok(())
}

#[tokio::test]
async fn a_list_goes_through_all_pages_and_has_no_secrets() -> Result<()> {
    let pool = MemoryPool::default();
    for name in ["e", "d", "c", "b", "a"] {
        pool.put(name);
    }
    let mut desk = desk(&pool, [])?;
    desk.rotate("c", &Rotating::Begin(SecretTo::Terminal)).await?;
    desk.terminal.said.clear();
    desk.list(false).await?;
    let lines: Vec<&str> = desk.terminal.said.lines().collect();
    assert_eq!(lines.len(), 7, "{lines:?}");
    assert!(
        lines.get(1).is_some_and(|line| line.starts_with("a     id5")),
        "{lines:?}"
    );
    assert!(lines.get(3).is_some_and(|line| line.ends_with('2')), "{lines:?}");
    desk.terminal.said.clear();
    desk.list(true).await?;
    assert!(!desk.terminal.said.contains("secret1") && !desk.terminal.said.contains("secret6"));
    let all: Value = serde_json::from_str(&desk.terminal.said)?;
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
    let begin = Rotating::Begin(SecretTo::File(path.clone()));
    desk(&pool, [])?.rotate("shop", &begin).await?;
    assert_eq!(pool.values("shop"), ["secret2", "secret3"]);
    assert_eq!(std::fs::read_to_string(&path)?, "secret3");
    let error = told(
        desk(&pool, [])?
            .rotate("shop", &Rotating::Begin(SecretTo::Terminal))
            .await,
    );
    assert!(error.contains("--finish") && error.contains("--undo"), "{error}");

    for replies in [vec![], vec![text("n")]] {
        let error = told(desk(&pool, replies)?.rotate("id2", &Rotating::Finish).await);
        assert!(error.contains("nothing was changed"), "{error}");
        assert_eq!(pool.values("shop").len(), 2);
    }
    desk(&pool, [text("y")])?.rotate("id2", &Rotating::Finish).await?;
    assert_eq!(pool.values("shop"), ["secret3"]);
    for how in [Rotating::Finish, Rotating::Undo] {
        let mut desk = desk(&pool, [])?;
        desk.rotate("id2", &how).await?;
        assert!(desk.terminal.said.contains("nothing was changed"));
    }
    desk(&pool, [])?
        .rotate("shop", &Rotating::Begin(SecretTo::Terminal))
        .await?;
    desk(&pool, [text("y")])?.rotate("shop", &Rotating::Undo).await?;
    assert_eq!(pool.values("shop"), ["secret3"]);
    Ok(())
}

#[tokio::test]
async fn a_new_secret_that_cannot_be_written_is_deleted_again() -> Result<()> {
    let (pool, folder) = (MemoryPool::default(), tempfile::tempdir()?);
    pool.put("shop");
    let mut desk = desk(&pool, [])?;
    // A folder: found out only when the file is to take its name.
    desk.yes = true;
    let place = folder.path().join("taken");
    std::fs::create_dir(&place)?;
    let error = told(desk.rotate("shop", &Rotating::Begin(SecretTo::File(place))).await);
    assert!(error.contains("deleted again"), "{error}");
    assert_eq!(pool.values("shop"), ["secret1"]);
    Ok(())
}

#[tokio::test]
async fn a_client_that_is_not_there_and_a_name_that_two_have_are_named_in_the_error() -> Result<()> {
    let pool = MemoryPool::default();
    pool.put("shop");
    pool.put("shop");
    let error = told(desk(&pool, [])?.rotate("bank", &Rotating::Finish).await);
    assert!(error.contains("no client bank"), "{error}");
    let outcome = desk(&pool, [])?.remove("shop", true).await;
    assert!(outcome.as_ref().is_err_and(anyhow::Error::is::<Usage>));
    assert!(told(outcome).contains("id1 or id2"));
    desk(&pool, [text("y")])?.remove("id2", true).await?;
    assert_eq!(pool.values("shop"), ["secret1"]);
    Ok(())
}

#[tokio::test]
async fn a_client_with_devices_is_removed_only_if_that_is_said() -> Result<()> {
    let pool = MemoryPool::default();
    let id = pool.put("shop");
    let world = World::new()?;
    let key = DeviceKey {
        client: id,
        ..world.key.clone()
    };
    let registering = Registering {
        key,
        activate: false,
        ..world.registering()?
    };
    world.desk([]).register(&registering).await?;
    let with_devices = |replies: Vec<Reply>| -> Result<PoolDesk> {
        Ok(ClientDesk {
            devices: Some(world.devices.clone()),
            ..desk(&pool, replies)?
        })
    };
    let error = told(with_devices(vec![text("y")])?.remove("shop", false).await);
    assert!(error.contains("--with-devices-left"), "{error}");
    let blind = ClientDesk {
        devices: None,
        ..with_devices(vec![text("y")])?
    }
    .remove("shop", false)
    .await;
    assert!(blind.is_err_and(|error| error.is::<Usage>()));
    let error = told(with_devices(vec![])?.remove("shop", true).await);
    assert!(error.contains("--yes"), "{error}");
    assert_eq!(pool.values("shop").len(), 1);
    with_devices(vec![text("y")])?.remove("shop", true).await?;
    let mut again = with_devices(vec![])?;
    again.remove("shop", false).await?;
    assert!(again.terminal.said.contains("nothing was removed"));
    Ok(())
}

/// Cuts a command short at every call in every way, and says how often. `check` gets the outcome, `None` if it was killed.
async fn at_every_call(
    prepare: impl Fn(&MemoryPool),
    command: impl AsyncFn(&mut PoolDesk, &std::path::Path) -> Result<()>,
    check: impl AsyncFn(&MemoryPool, Option<Result<()>>, &std::path::Path, &str) -> Result<()>,
) -> Result<usize> {
    let (pool, folder) = (MemoryPool::default(), tempfile::tempdir()?);
    prepare(&pool);
    command(&mut desk(&pool, [text("y")])?, &folder.path().join("secret")).await?;
    let made = pool.inside(|inside| inside.calls.clone());
    let mut points = 0;
    for (call, times) in made {
        for (wrong, left) in WRONG
            .into_iter()
            .flat_map(|wrong| (0..times).map(move |left| (wrong, left)))
        {
            let (pool, folder) = (MemoryPool::default(), tempfile::tempdir()?);
            prepare(&pool);
            pool.inside(|inside| inside.fault = Some((left, call, wrong)));
            let path = folder.path().join("secret");
            let mut desk = desk(&pool, [text("y")])?;
            let outcome = until_it_hangs(command(&mut desk, &path)).await;
            assert_eq!(pool.inside(|inside| inside.fault), None, "{call:?} was made");
            if wrong == Wrong::After && [Call::Create, Call::Remove, Call::RemoveSecret].contains(&call) {
                assert!(matches!(outcome, Some(Ok(()))), "what was done is seen: {call:?}");
            }
            check(&pool, outcome, &path, &format!("{wrong:?} {call:?} after {left}")).await?;
            points += 1;
        }
    }
    Ok(points)
}

#[tokio::test]
async fn an_addition_that_was_cut_short_leaves_no_client_whose_secret_cannot_be_had() -> Result<()> {
    let points = at_every_call(
        |pool| {
            pool.put("bank");
        },
        async |desk, path| {
            desk.add(&name("shop")?, &scopes()?, &SecretTo::File(path.to_owned()))
                .await
        },
        async |pool, outcome, path, when| {
            if matches!(outcome, Some(Ok(()))) {
                assert_eq!(pool.values("shop"), [std::fs::read_to_string(path)?], "{when}");
                return Ok(());
            }
            assert!(!path.exists(), "{when}");
            let other = SecretTo::File(path.with_extension("again"));
            if pool.values("shop").is_empty() {
                desk(pool, [])?.add(&name("shop")?, &scopes()?, &other).await?;
            } else {
                // As the error says.
                assert!(told(desk(pool, [])?.add(&name("shop")?, &scopes()?, &other).await).contains("rotate id2"));
                desk(pool, [])?.rotate("id2", &Rotating::Begin(other)).await?;
                desk(pool, [text("y")])?.rotate("id2", &Rotating::Finish).await?;
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
async fn a_rotation_that_was_cut_short_never_costs_the_secret_that_is_in_use() -> Result<()> {
    let points = at_every_call(
        |pool| {
            pool.put("shop");
        },
        async |desk, path| {
            desk.rotate("shop", &Rotating::Begin(SecretTo::File(path.to_owned())))
                .await
        },
        async |pool, outcome, path, when| {
            assert!(pool.values("shop").contains(&"secret1".to_owned()), "{when}");
            if matches!(outcome, Some(Ok(()))) {
                assert!(pool.values("shop").contains(&std::fs::read_to_string(path)?), "{when}");
                return Ok(());
            }
            let error = outcome.map(told);
            assert!(!path.exists(), "{when}");
            if pool.values("shop").len() == 2 {
                // Killed, or it says what to do.
                assert!(error.is_none_or(|error| error.contains("--undo")), "{when}");
                desk(pool, [text("y")])?.rotate("shop", &Rotating::Undo).await?;
            }
            assert_eq!(pool.values("shop"), ["secret1"], "{when}");
            let begin = Rotating::Begin(SecretTo::File(path.to_owned()));
            desk(pool, [])?.rotate("shop", &begin).await?;
            assert!(pool.values("shop").contains(&std::fs::read_to_string(path)?), "{when}");
            Ok(())
        },
    )
    .await?;
    assert!(points >= 20, "{points}");
    Ok(())
}

#[tokio::test]
async fn a_rotation_is_finished_once_wherever_it_was_cut_short() -> Result<()> {
    let points = at_every_call(
        |pool| {
            let id = pool.put("shop");
            pool.inside(|inside| {
                if let Ok(held) = inside.one(&id) {
                    held.secrets.push((2, "secret2".to_owned()));
                }
            });
        },
        async |desk, _| desk.rotate("shop", &Rotating::Finish).await,
        async |pool, outcome, _, when| {
            if matches!(outcome, Some(Ok(()))) {
                assert_eq!(pool.values("shop"), ["secret2"], "{when}");
            }
            desk(pool, [text("y")])?.rotate("shop", &Rotating::Finish).await?;
            assert_eq!(pool.values("shop"), ["secret2"], "{when}");
            Ok(())
        },
    )
    .await?;
    assert!(points >= 12, "{points}");
    Ok(())
}

#[tokio::test]
async fn a_removal_is_finished_wherever_it_was_cut_short() -> Result<()> {
    let points = at_every_call(
        |pool| {
            pool.put("bank");
            pool.put("shop");
        },
        async |desk, _| desk.remove("shop", false).await,
        async |pool, outcome, _, when| {
            assert!(
                !matches!(outcome, Some(Ok(()))) || pool.values("shop").is_empty(),
                "{when}"
            );
            desk(pool, [text("y")])?.remove("shop", false).await?;
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
fn names_and_scopes_that_cognito_or_a_shell_would_not_take_are_refused() {
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

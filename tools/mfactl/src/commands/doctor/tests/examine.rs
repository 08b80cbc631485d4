//! `doctor` over ports in memory: what is wrong is found and named, orphans are mended, and nothing that is in use is
//! touched, wherever the command is cut short.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use shared::device::PendingSeed;
use shared::error::StoreError;
use shared::ports::{DeviceStore, Page, Removal, Written};

use super::client::MemoryPool;
use super::*;
use crate::commands::doctor::YOUNG;
use crate::deployed::{
    AccessFound, AlarmFound, AuthorizerFound, ClockFound, DeployedStack, InspectError, Inspector, MethodFound,
    PoolFound, Resource, TableFound,
};

/// What is found, and which calls fail.
#[derive(Debug, Clone)]
struct MemoryInspector {
    auths: Option<TableFound>,
    devices: Option<TableFound>,
    access: Option<AccessFound>,
    status: u16,
    pool: Option<PoolFound>,
    alarms: Vec<AlarmFound>,
    clock: Option<ClockFound>,
    fails: &'static str,
}

impl MemoryInspector {
    fn well() -> Self {
        let table = |key: &[&str], ttl: Option<&str>| TableFound {
            active: true,
            key: key.iter().map(|part| (*part).to_owned()).collect(),
            ttl: ttl.map(str::to_owned),
            backups: Some(true),
            protected: true,
        };
        let method = |path: &str| MethodFound {
            verb: "POST".to_owned(),
            path: path.to_owned(),
            authorization: "COGNITO_USER_POOLS".to_owned(),
            authorizer: Some("a1".to_owned()),
            scopes: vec!["mfa/authenticate".to_owned()],
        };
        Self {
            auths: Some(table(&["pk"], Some("expiresAt"))),
            devices: Some(table(&["pk", "sk"], None)),
            access: Some(AccessFound {
                authorizers: vec![AuthorizerFound {
                    id: "a1".to_owned(),
                    kind: "COGNITO_USER_POOLS".to_owned(),
                    pools: vec!["arn:aws:cognito-idp:eu-west-1:1:userpool/eu-west-1_pool".to_owned()],
                }],
                methods: vec![
                    method("/deviceAuthentications"),
                    method("/deviceAuthentications/{authId}"),
                ],
            }),
            status: 401,
            pool: Some(PoolFound {
                protected: true,
                scopes: vec!["mfa/authenticate".to_owned()],
            }),
            alarms: ALARMS.map(alarm).to_vec(),
            clock: Some(ClockFound::Right),
            fails: "",
        }
    }

    fn answer<T: Clone>(&self, call: &'static str, answer: &T) -> Result<T, InspectError> {
        if self.fails == call {
            let said = "AccessDenied".to_owned();
            return Err(InspectError { call, said });
        }
        Ok(answer.clone())
    }
}

const ALARMS: [&str; 8] = [
    "FailuresAlarm",
    "InitAuthErrorsAlarm",
    "ValidateOtpErrorsAlarm",
    "WrongPairsAlarm",
    "GatedAlarm",
    "SeedFailuresAlarm",
    "LatencyAlarm",
    "ThrottlesAlarm",
];

fn alarm(logical: &str) -> AlarmFound {
    AlarmFound {
        name: format!("mfa-{logical}"),
        actions_enabled: true,
        actions: vec!["arn:aws:sns:eu-west-1:1:topic".to_owned()],
        rings: false,
    }
}

impl Inspector for MemoryInspector {
    async fn stack(&self, name: &str) -> Result<Option<DeployedStack>, InspectError> {
        let without = |stack| DeployedStack {
            resources: Vec::new(),
            ..stack
        };
        self.answer("stack", &(name == "mfa").then(stack).map(without))
    }

    async fn resources(&self, _name: &str) -> Result<Vec<Resource>, InspectError> {
        self.answer("resources", &stack().resources)
    }

    async fn table(&self, name: &str) -> Result<Option<TableFound>, InspectError> {
        let (call, table) = if name == "Auths-1" {
            ("auths", &self.auths)
        } else {
            ("devices", &self.devices)
        };
        self.answer(call, table)
    }

    async fn access(&self, _api: &str) -> Result<Option<AccessFound>, InspectError> {
        self.answer("access", &self.access)
    }

    async fn status_without_token(&self, _api_url: &str) -> Result<u16, InspectError> {
        self.answer("status", &self.status)
    }

    async fn pool(&self, _id: &str, _server: &str) -> Result<Option<PoolFound>, InspectError> {
        self.answer("pool", &self.pool)
    }

    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmFound>, InspectError> {
        let known = self.alarms.iter().filter(|alarm| names.contains(&alarm.name));
        self.answer("alarms", &known.cloned().collect())
    }

    fn clock(&self) -> Option<ClockFound> {
        self.clock
    }
}

fn stack() -> DeployedStack {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let alarms = ALARMS.map(|logical| Resource {
        logical: logical.to_owned(),
        physical: format!("mfa-{logical}"),
    });
    let api = Resource {
        logical: "Api".to_owned(),
        physical: "abc".to_owned(),
    };
    DeployedStack {
        name: "mfa".to_owned(),
        status: "UPDATE_COMPLETE".to_owned(),
        created_at: Some(Timestamp::EPOCH),
        outputs: HashMap::from(
            [
                ("ApiUrl", "https://api/v1"),
                ("TokenUrl", "https://tokens/oauth2/token"),
                ("UserPoolId", "eu-west-1_pool"),
                ("AuthsTable", "Auths-1"),
                ("DevicesTable", "Devices-1"),
                ("SeedPrefix", "mfa/seed/"),
            ]
            .map(owned),
        ),
        parameters: HashMap::from([("Protect", "true"), ("Watch", "true")].map(owned)),
        resources: alarms.into_iter().chain([api]).collect(),
    }
}

type MemoryDoctor = Doctor<MemoryInspector, MemoryPool, MemoryDevices, MemorySeeds, Arc<ManualClock>, Person>;

fn doctor(world: &World, replies: impl IntoIterator<Item = Reply>) -> MemoryDoctor {
    let clients = MemoryPool::default();
    for name in ["one", "two", "three"] {
        clients.put(name);
    }
    let desk = world.desk(replies);
    Doctor {
        stack: stack(),
        inspector: MemoryInspector::well(),
        clients,
        stores: Some(stores_of(desk.devices, desk.seeds)),
        clock: desk.clock,
        terminal: desk.terminal,
        yes: false,
        program: "mfactl --stack mfa".to_owned(),
        api_url: None,
        local: false,
    }
}

fn stores_of<D>(devices: D, seeds: MemorySeeds) -> Stores<D, MemorySeeds> {
    Stores {
        devices,
        seeds,
        table: "Devices-1".to_owned(),
        prefix: "mfa/seed/".to_owned(),
    }
}

const LOOKING: Examining = Examining {
    fix: false,
    json: false,
    page: 2,
};
const FIXING: Examining = Examining { fix: true, ..LOOKING };

struct AtOnce;

impl Patience for AtOnce {
    async fn pause(&self, _duration: Duration) {}
}

/// Devices that somebody else changes when they are read from the first one again, and before one is removed.
struct Meanwhile<F> {
    devices: MemoryDevices,
    scans: AtomicUsize,
    happens: F,
}

/// Before what something happens meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Scanning(usize),
    Reading,
    Removing,
}

impl<F: Fn(When) + Send + Sync> DeviceStore for Meanwhile<F> {
    async fn get(&self, key: &DeviceKey) -> Result<Option<Device>, StoreError> {
        self.devices.get(key).await
    }

    async fn replace(
        &self,
        key: &DeviceKey,
        held: &Device,
        new: &Device,
        used_at: Option<Timestamp>,
    ) -> Result<Written, StoreError> {
        self.devices.replace(key, held, new, used_at).await
    }
}

impl<F: Fn(When) + Send + Sync> DeviceRegistry for Meanwhile<F> {
    async fn record(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        (self.happens)(When::Reading);
        self.devices.record(key).await
    }

    async fn page(&self, of: &Of, after: Option<&DeviceKey>, most: u16) -> Result<Page, StoreError> {
        if after.is_none() {
            (self.happens)(When::Scanning(self.scans.fetch_add(1, Ordering::Relaxed)));
        }
        self.devices.page(of, after, most).await
    }

    async fn offer_seed(&self, key: &DeviceKey, held: &Device, pending: &PendingSeed) -> Result<Written, StoreError> {
        self.devices.offer_seed(key, held, pending).await
    }

    async fn register(&self, key: &DeviceKey, device: &Device, created_at: Timestamp) -> Result<Stored, StoreError> {
        self.devices.register(key, device, created_at).await
    }

    async fn remove(&self, key: &DeviceKey) -> Result<Option<DeviceRecord>, StoreError> {
        (self.happens)(When::Removing);
        DeviceRegistry::remove(&self.devices, key).await
    }

    async fn remove_held(&self, key: &DeviceKey, held: &Device) -> Result<Written, StoreError> {
        (self.happens)(When::Removing);
        self.devices.remove_held(key, held).await
    }
}

/// Mends with somebody else at work; says what was told.
async fn fixed_meanwhile(world: &World, happens: impl Fn(When) + Send + Sync) -> String {
    let usual = doctor(world, []);
    let devices = Meanwhile {
        devices: world.devices.clone(),
        scans: AtomicUsize::new(0),
        happens,
    };
    let mut doctor = Doctor {
        stores: Some(stores_of(devices, world.seeds.clone())),
        stack: usual.stack,
        inspector: usual.inspector,
        clients: usual.clients,
        clock: usual.clock,
        terminal: usual.terminal,
        yes: true,
        program: usual.program,
        api_url: None,
        local: false,
    };
    told(doctor.examine(&FIXING, &AtOnce).await)
}

async fn looked_at(doctor: &mut MemoryDoctor) -> (bool, String) {
    let outcome = doctor.examine(&LOOKING, &AtOnce).await;
    (outcome.is_ok(), std::mem::take(&mut doctor.terminal.said))
}

/// A device with a seed of its own.
fn put(world: &World, user: &str, number: u8) -> Result<(DeviceKey, SeedRef)> {
    let key = DeviceKey {
        user: UserName::parse(user)?,
        ..world.key.clone()
    };
    let seed = Seed::from_bytes(&[number; 20], OtpParameters::default())?;
    let seed_ref = world.seeds.put(&seed_name("mfa", [number; 16]), &seed)?;
    let device = Device::registered(
        number.into(),
        Status::Active,
        seed_ref.clone(),
        OtpParameters::default(),
    );
    world.devices.put(&key, &device);
    Ok((key, seed_ref))
}

/// A seed that nothing names.
fn put_unnamed(world: &World, number: u8) -> Result<SeedRef> {
    let seed = Seed::from_bytes(&[number; 20], OtpParameters::default())?;
    Ok(world.seeds.put(&seed_name("mfa", [number; 16]), &seed)?)
}

#[tokio::test]
async fn a_stack_that_is_well_is_said_to_be() -> Result<()> {
    let world = World::new()?;
    for (user, number) in [("alice", 1), ("bob", 2), ("carol", 3), ("dave", 4), ("erin", 5)] {
        put(&world, user, number)?;
    }
    let mut doctor = doctor(&world, []);
    let (well, said) = looked_at(&mut doctor).await;
    assert!(well, "{said}");
    for line in [
        "ok      stack    mfa: UPDATE_COMPLETE",
        "ok      tables   Auths-1: authIds are deleted by expiresAt",
        "ok      tables   Devices-1: can be restored to a point in time",
        "ok      api      2 methods take tokens of the stack's user pool with mfa/authenticate",
        "ok      api      refuses a POST /deviceAuthentications without a token (401)",
        "ok      api      refuses a POST /deviceAuthentications/00000000-0000-0000-0000-000000000000 without a token (401)",
        "ok      clients  3 clients may ask for mfa/authenticate",
        "ok      alarms   8 alarms have a topic, and none rings",
        "ok      clock    this machine's clock is right",
        "ok      orphans  5 devices, 5 secrets: each device has its own, and each secret its device",
    ] {
        assert!(said.lines().any(|said| said.starts_with(line)), "{line}\n{said}");
    }
    assert!(!said.contains("PROBLEM") && !said.contains("notice"), "{said}");
    Ok(())
}

/// What is done to a stack that is well.
type Change<'a> = &'a dyn Fn(&mut MemoryDoctor);

/// Something that is wrong, and words that are said about it.
type Wrong = (fn(&mut MemoryDoctor), &'static str);

fn auths(doctor: &mut MemoryDoctor) -> &mut TableFound {
    doctor
        .inspector
        .auths
        .as_mut()
        .unwrap_or_else(|| unreachable!("a table"))
}

fn devices(doctor: &mut MemoryDoctor) -> &mut TableFound {
    doctor
        .inspector
        .devices
        .as_mut()
        .unwrap_or_else(|| unreachable!("a table"))
}

fn access(doctor: &mut MemoryDoctor) -> &mut AccessFound {
    doctor
        .inspector
        .access
        .as_mut()
        .unwrap_or_else(|| unreachable!("an API"))
}

fn pool(doctor: &mut MemoryDoctor) -> &mut PoolFound {
    doctor.inspector.pool.as_mut().unwrap_or_else(|| unreachable!("a pool"))
}

const WRONG: [Wrong; 42] = [
    (
        |it| it.stack.status = "ROLLBACK_COMPLETE".to_owned(),
        "describe-stack-events --stack-name mfa",
    ),
    (|it| it.stack.status = "DELETE_FAILED".to_owned(), "mfa: DELETE_FAILED"),
    (
        |it| drop(it.stack.outputs.remove("SeedPrefix")),
        "has no output SeedPrefix",
    ),
    (
        |it| it.stack.resources.retain(|one| one.logical != "Api"),
        "has no resource Api",
    ),
    (|it| it.inspector.auths = None, "Auths-1 is not there"),
    (|it| it.inspector.devices = None, "docs/operations.md, Restore"),
    (|it| auths(it).active = false, "Auths-1 takes no requests"),
    (|it| auths(it).key = vec!["id".to_owned()], "Auths-1 has the key id"),
    (|it| devices(it).key.reverse(), "Devices-1 has the key sk, pk"),
    (
        |it| auths(it).ttl = None,
        "--table-name Auths-1 --time-to-live-specification Enabled=true,AttributeName=expiresAt",
    ),
    (
        |it| auths(it).ttl = Some("issuedAt".to_owned()),
        "Enabled=false,AttributeName=issuedAt; when that is done",
    ),
    (
        |it| devices(it).ttl = Some("createdAt".to_owned()),
        "Devices-1 deletes devices by createdAt",
    ),
    (
        |it| devices(it).backups = Some(false),
        "update-continuous-backups --table-name Devices-1",
    ),
    (
        |it| devices(it).protected = false,
        "update-table --table-name Devices-1 --deletion-protection-enabled",
    ),
    (|it| it.inspector.access = None, "the API abc is not there"),
    (
        |it| drop(access(it).methods.pop()),
        "POST /deviceAuthentications/{authId} is not there",
    ),
    (
        |it| access(it).methods[0].authorization = "NONE".to_owned(),
        "POST /deviceAuthentications is not authorized by Cognito but by NONE",
    ),
    (
        |it| access(it).methods[1].authorizer = None,
        "{authId} is not authorized by Cognito",
    ),
    (
        |it| access(it).authorizers[0].kind = "TOKEN".to_owned(),
        "create-deployment --rest-api-id abc",
    ),
    (
        |it| access(it).authorizers[0].pools = Vec::new(),
        "tokens of another user pool",
    ),
    (
        |it| {
            access(it).authorizers[0]
                .pools
                .push("arn:aws:cognito-idp:eu-west-1:1:userpool/other".to_owned());
        },
        "tokens of another user pool",
    ),
    (|it| access(it).methods[0].scopes = Vec::new(), "asks for no scope"),
    (
        |it| access(it).methods[1].scopes.push("mfa/other".to_owned()),
        "takes the scopes mfa/authenticate, mfa/other",
    ),
    (
        |it| {
            let method = MethodFound {
                verb: "GET".to_owned(),
                authorization: "NONE".to_owned(),
                ..access(it).methods[0].clone()
            };
            access(it).methods.push(method);
        },
        "GET /deviceAuthentications is not authorized",
    ),
    (
        |it| it.inspector.status = 200,
        "answers 200 to a POST /deviceAuthentications without a token",
    ),
    (|it| it.inspector.status = 403, "--api-url"),
    (
        |it| it.inspector.pool = None,
        "the user pool eu-west-1_pool is not there",
    ),
    (
        |it| pool(it).scopes = vec!["mfa/other".to_owned()],
        "create-resource-server --user-pool-id eu-west-1_pool",
    ),
    (|it| pool(it).protected = false, "the user pool is not protected"),
    (
        |it| {
            it.clients = MemoryPool::default();
            it.clients.put_with("one", "mfa/other");
        },
        "no client may ask",
    ),
    (|it| drop(it.inspector.alarms.remove(0)), "FailuresAlarm is not there"),
    (|it| drop(it.inspector.alarms.remove(7)), "ThrottlesAlarm is not there"),
    (
        |it| it.stack.resources.retain(|one| one.logical != "GatedAlarm"),
        "GatedAlarm is not there",
    ),
    (
        |it| it.inspector.alarms[3].actions_enabled = false,
        "enable-alarm-actions --alarm-names mfa-WrongPairsAlarm",
    ),
    (
        |it| it.inspector.alarms[5].rings = true,
        "docs/operations.md, Alarms, Seed failures",
    ),
    (|it| it.inspector.alarms[1].actions.clear(), "1 alarm has no topic"),
    (
        |it| it.inspector.clock = Some(ClockFound::Behind(5_000)),
        "clock is 5.0 s behind AWS's",
    ),
    (
        |it| it.inspector.clock = Some(ClockFound::Ahead(62_345)),
        "clock is 62.3 s ahead of AWS's",
    ),
    (|it| it.inspector.clock = None, "no answer of AWS had a date"),
    (|it| it.inspector.fails = "auths", "not looked at: auths: AccessDenied"),
    (
        |it| it.inspector.fails = "status",
        "not looked at: status: AccessDenied",
    ),
    (
        |it| it.inspector.fails = "alarms",
        "not looked at: alarms: AccessDenied",
    ),
];

#[tokio::test]
async fn everything_that_is_wrong_is_a_problem_of_its_own_with_its_remedy() -> Result<()> {
    for (break_it, words) in WRONG {
        let world = World::new()?;
        put(&world, "alice", 1)?;
        let mut doctor = doctor(&world, []);
        break_it(&mut doctor);
        let outcome = told(doctor.examine(&LOOKING, &AtOnce).await);
        let said = &doctor.terminal.said;
        assert!(
            outcome.contains("the stack mfa is not well"),
            "{words}: {outcome}\n{said}"
        );
        assert!(said.contains(words), "{words}\n{said}");
        assert!(said.contains("PROBLEM") && said.contains("mend: "), "{words}\n{said}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_only_worth_knowing_is_no_problem() -> Result<()> {
    let trial = |it: &mut MemoryDoctor| drop(it.stack.parameters.insert("Protect".to_owned(), "false".to_owned()));
    let unwatched = |it: &mut MemoryDoctor| drop(it.stack.parameters.insert("Watch".to_owned(), "false".to_owned()));
    let worth_knowing: [(Change<'_>, &str); 9] = [
        (&trial, "Protect=false"),
        (&unwatched, "Watch=false"),
        (
            &|it| {
                trial(it);
                devices(it).protected = false;
                pool(it).protected = false;
            },
            "not protected from deletion",
        ),
        (
            &|it| {
                trial(it);
                it.inspector.alarms[0].actions.clear();
            },
            "1 alarm has no topic",
        ),
        (
            &|it| {
                unwatched(it);
                it.inspector.alarms.truncate(3);
            },
            "are not watched",
        ),
        (
            &|it| it.stack.status = "UPDATE_ROLLBACK_COMPLETE".to_owned(),
            "the last update failed and was undone",
        ),
        (
            &|it| it.stack.status = "UPDATE_IN_PROGRESS".to_owned(),
            "is being changed",
        ),
        (
            &|it| drop(it.clients.put_with("four", "mfa/other")),
            "3 clients may ask for mfa/authenticate; not so id4",
        ),
        (
            &|it| it.inspector.clock = Some(ClockFound::Ahead(4_999)),
            "clock is 4.9 s ahead",
        ),
    ];
    for (change, words) in worth_knowing {
        let world = World::new()?;
        put(&world, "alice", 1)?;
        let mut doctor = doctor(&world, []);
        change(&mut doctor);
        let (well, said) = looked_at(&mut doctor).await;
        assert!(well, "{words}\n{said}");
        let line = said.lines().find(|line| line.starts_with("notice"));
        assert!(line.is_some() && said.contains(words), "{words}\n{said}");
    }
    Ok(())
}

#[tokio::test]
async fn scripts_read_every_finding_as_json() -> Result<()> {
    let world = World::new()?;
    let many = 30;
    for number in 0..many {
        put_unnamed(&world, number)?;
    }
    let mut doctor = doctor(&world, []);
    let outcome = doctor.examine(&Examining { json: true, ..LOOKING }, &AtOnce).await;
    assert!(outcome.is_err());
    let said = std::mem::take(&mut doctor.terminal.said);
    let value: Value = serde_json::from_str(&said)?;
    assert_eq!(
        (&value["stack"], &value["status"]),
        (&"mfa".into(), &"UPDATE_COMPLETE".into())
    );
    let findings = value["findings"].as_array().context("no findings")?;
    let orphans: Vec<&Value> = findings.iter().filter(|finding| finding["part"] == "orphans").collect();
    assert_eq!(orphans.len(), usize::from(many));
    assert!(
        orphans
            .iter()
            .all(|finding| finding["state"] == "problem" && finding["mend"].is_string())
    );
    // A person is shown some of them, and how many more there are.
    let (_, said) = looked_at(&mut doctor).await;
    assert_eq!(said.matches("no device names the secret").count(), 20);
    assert!(
        said.contains("10 more secrets that no device names") && said.contains("--json"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn orphans_are_found_and_nothing_is_changed_without_fix() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (_, removed) = put(&world, "bob", 2)?;
    let (_, gone) = put(&world, "carol's", 3)?;
    let unnamed = put_unnamed(&world, 4)?;
    world.seeds.remove(&removed, Removal::Recoverable).await?;
    world.seeds.remove(&gone, Removal::AtOnce).await?;
    let mut doctor = doctor(&world, []);
    let (well, said) = looked_at(&mut doctor).await;
    assert!(!well);
    for words in [
        format!("no device names the secret {}", unnamed.name()),
        format!("delete-secret --secret-id {}", unnamed.name()),
        "the secret of the device my phone of bob (client shop) was removed".to_owned(),
        format!("restore-secret --secret-id {}", removed.name()),
        "the secret of the device my phone of carol's (client shop) is gone".to_owned(),
        "mfactl --stack mfa device register --client 'shop' --user 'carol'\\''s' --device 'my phone' --replace"
            .to_owned(),
    ] {
        assert!(said.contains(&words), "{words}\n{said}");
    }
    assert_eq!((world.devices.count(), world.seeds.count()), (3, 2));
    assert!(doctor.terminal.asked.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_fix_asks_once_and_then_mends_all_orphans() -> Result<()> {
    let world = World::new()?;
    let (kept, _) = put(&world, "alice", 1)?;
    let (restored, removed) = put(&world, "bob", 2)?;
    let (dead, gone) = put(&world, "carol", 3)?;
    let unnamed = put_unnamed(&world, 4)?;
    world.seeds.remove(&removed, Removal::Recoverable).await?;
    world.seeds.remove(&gone, Removal::AtOnce).await?;

    let mut refusing = doctor(&world, [text("n")]);
    let refused = told(refusing.examine(&FIXING, &AtOnce).await);
    assert!(refused.contains("not confirmed; nothing was changed"), "{refused}");
    assert_eq!((world.devices.count(), world.seeds.count()), (3, 2));

    let mut doctor = doctor(&world, [text("y")]);
    doctor.examine(&FIXING, &AtOnce).await?;
    let [question] = doctor.terminal.asked.as_slice() else {
        panic!("{:?}", doctor.terminal.asked)
    };
    for part in [
        "Stack mfa, table Devices-1: bring back 1 secret;",
        "remove 1 secret that no device names (each can be restored for 30 days);",
        "remove 1 device whose secret is gone, which cannot be undone?",
    ] {
        assert!(question.contains(part), "{question}");
    }
    assert!(
        doctor
            .terminal
            .noted
            .contains("To be removed: the device my phone of carol (client shop).")
    );
    assert!(world.seeds.has(&removed) && !world.seeds.has(&unnamed));
    assert!(world.devices.peek(&dead).is_none());
    assert!(world.devices.peek(&kept).is_some() && world.devices.peek(&restored).is_some());
    // It can be brought back, in case somebody knows better.
    world.seeds.restore(unnamed.name()).await?;
    world.seeds.remove(&unnamed, Removal::Recoverable).await?;
    let (well, said) = looked_at(&mut doctor).await;
    assert!(well && said.contains("2 devices, 2 secrets"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_secret_that_somebody_may_be_about_to_name_is_left_alone() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    world.seeds.set_time(NOW);
    let young = put_unnamed(&world, 2)?;
    world.clock.advance(YOUNG.saturating_sub(Duration::from_secs(1)));
    let mut doctor = doctor(&world, []);
    doctor.examine(&FIXING, &AtOnce).await?;
    let said = &doctor.terminal.said;
    assert!(said.contains("no device names 1 secret of the last hour"), "{said}");
    assert!(world.seeds.has(&young));
    // A clock that is ahead does not make it older, and one that is behind not younger.
    doctor.yes = true;
    world.clock.advance(Duration::from_secs(10));
    doctor.inspector.clock = Some(ClockFound::Ahead(9_001));
    assert!(doctor.examine(&FIXING, &AtOnce).await.is_err(), "the clock is wrong");
    assert!(world.seeds.has(&young));
    world.clock.set(NOW);
    doctor.inspector.clock = Some(ClockFound::Behind(3_599_000));
    assert!(doctor.examine(&FIXING, &AtOnce).await.is_err(), "the clock is wrong");
    assert!(world.seeds.has(&young));
    world.clock.set(NOW.plus(YOUNG));
    doctor.inspector.clock = Some(ClockFound::Right);
    doctor.examine(&FIXING, &AtOnce).await?;
    assert!(!world.seeds.has(&young));
    Ok(())
}

#[tokio::test]
async fn a_pending_seed_is_named_and_an_other_prefix_is_not_looked_at() -> Result<()> {
    let world = World::active().await?;
    let mut desk = world.desk([]);
    desk.register(&Registering {
        activate: false,
        pending_for: Duration::from_hours(24),
        ..world.replacing()?
    })
    .await?;
    let seed = Seed::from_bytes(&[9; 20], OtpParameters::default())?;
    let others = [
        "mfa-dev/seed/00000000000000000000000000000000",
        "mfa/other",
        "mfa/seedling/1",
    ];
    for name in others {
        world.seeds.put(name, &seed)?;
    }
    world.clock.advance(YOUNG * 2);
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    doctor.examine(&FIXING, &AtOnce).await?;
    assert_eq!(world.seeds.count(), 2 + others.len());
    let record = world.record()?;
    assert!(record.seeds().all(|seed| world.seeds.has(seed)));

    let pending = record.pending.context("no pending seed")?;
    world.seeds.remove(&pending.seed_ref, Removal::AtOnce).await?;
    let asked = doctor.terminal.asked.len();
    assert!(doctor.examine(&FIXING, &AtOnce).await.is_err());
    let said = std::mem::take(&mut doctor.terminal.said);
    assert!(
        said.contains("the old one works") && doctor.terminal.asked.len() == asked,
        "{said}"
    );
    // When its time is over, it is of no use to anyone, there or not.
    world.clock.advance(Duration::from_hours(24));
    let (well, said) = looked_at(&mut doctor).await;
    assert!(well, "{said}");
    Ok(())
}

#[tokio::test]
async fn a_device_without_its_secret_but_with_a_new_one_is_left_to_its_activation() -> Result<()> {
    let world = World::active().await?;
    put(&world, "alice", 1)?;
    world
        .desk([])
        .register(&Registering {
            activate: false,
            pending_for: Duration::from_hours(24),
            ..world.replacing()?
        })
        .await?;
    let seed_ref = world.record()?.device.seed_ref;
    world.seeds.remove(&seed_ref, Removal::AtOnce).await?;
    world.clock.advance(Duration::from_hours(2));
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    let left = told(doctor.examine(&FIXING, &AtOnce).await);
    assert!(left.contains("1 problem") && world.record().is_ok(), "{left}");
    let said = &doctor.terminal.said;
    assert!(
        said.contains("has a new seed that waits for its first code") && said.contains("device activate"),
        "{said}"
    );
    // When its time is over, so is the device's; the next run finds what it named.
    world.clock.advance(Duration::from_hours(24));
    doctor.examine(&FIXING, &AtOnce).await?;
    assert!(world.record().is_err());
    doctor.examine(&FIXING, &AtOnce).await?;
    assert_eq!(world.seeds.count(), 1);
    Ok(())
}

#[tokio::test]
async fn nothing_is_mended_if_it_looks_like_the_wrong_place() -> Result<()> {
    // Devices without secrets, secrets without devices, and both.
    for (lost, unnamed) in [(2, 0), (0, 2), (1, 2), (2, 1)] {
        let world = World::new()?;
        for number in 0..lost {
            let (_, seed) = put(&world, &format!("user{number}"), number)?;
            world.seeds.remove(&seed, Removal::AtOnce).await?;
        }
        for number in 0..unnamed {
            put_unnamed(&world, 100 + number)?;
        }
        let mut doctor = doctor(&world, []);
        doctor.yes = true;
        assert!(doctor.examine(&FIXING, &AtOnce).await.is_err());
        let said = &doctor.terminal.said;
        assert!(
            said.contains("nothing was mended: not one device of the table Devices-1"),
            "{said}"
        );
        let left = (world.devices.count(), world.seeds.count());
        assert_eq!(left, (usize::from(lost), usize::from(unnamed)));
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_mended_while_the_stack_is_not_settled() -> Result<()> {
    for status in ["UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "ROLLBACK_COMPLETE"] {
        let world = World::new()?;
        put(&world, "alice", 1)?;
        put_unnamed(&world, 2)?;
        let mut doctor = doctor(&world, []);
        doctor.yes = true;
        status.clone_into(&mut doctor.stack.status);
        assert!(doctor.examine(&FIXING, &AtOnce).await.is_err());
        let said = &doctor.terminal.said;
        assert!(said.contains("nothing was mended: the stack is in the state") && said.contains("no device names"));
        assert_eq!(world.seeds.count(), 2);
    }
    Ok(())
}

#[tokio::test]
async fn secrets_that_are_older_than_the_stack_or_no_seeds_by_name_are_left_alone() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let hour = |hours| NOW.minus(Duration::from_hours(hours));
    world.seeds.set_time(hour(10));
    let earlier = put_unnamed(&world, 2)?;
    world.seeds.set_time(hour(8));
    let own = put_unnamed(&world, 3)?;
    let seed = Seed::from_bytes(&[9; 20], OtpParameters::default())?;
    let by_hand = [
        "mfa/seed/by-hand".to_owned(),
        format!("mfa/seed/{}", "F".repeat(32)),
        format!("mfa/seed/{}", "f".repeat(33)),
    ];
    for name in &by_hand {
        world.seeds.put(name, &seed)?;
    }
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    doctor.stack.created_at = Some(hour(9));
    let told = told(doctor.examine(&FIXING, &AtOnce).await);
    assert!(told.contains("1 problem"), "{told}");
    let said = &doctor.terminal.said;
    let of_earlier = format!(
        "no device names the secret {}, which is older than the stack",
        earlier.name()
    );
    assert!(
        said.contains(&of_earlier) && said.contains("3 secrets under the prefix"),
        "{said}"
    );
    assert!(!world.seeds.has(&own) && world.seeds.has(&earlier));
    assert_eq!(world.seeds.count(), 2 + by_hand.len());
    Ok(())
}

#[tokio::test]
async fn a_device_whose_secret_is_there_in_another_form_is_told_of_and_left() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (other_version, own) = put(&world, "bob", 2)?;
    let (elsewhere, _) = put(&world, "carol", 3)?;
    let (disabled, gone) = put(&world, "dave", 4)?;
    let naming = |key: &DeviceKey, seed_ref: SeedRef, status: Status| {
        let device = Device::registered(9, status, seed_ref, OtpParameters::default());
        world.devices.put(key, &device);
    };
    naming(&other_version, SeedRef::new(own.name(), "another")?, Status::Active);
    let seed = Seed::from_bytes(&[5; 20], OtpParameters::default())?;
    let of_another_stack = world
        .seeds
        .put("mfa-dev/seed/00000000000000000000000000000000", &seed)?;
    naming(&elsewhere, of_another_stack, Status::Active);
    let (removed_with_others, removed) = put(&world, "erin", 6)?;
    naming(
        &removed_with_others,
        SeedRef::new(removed.name(), "another")?,
        Status::Active,
    );
    world.seeds.remove(&removed, Removal::Recoverable).await?;
    world.seeds.remove(&gone, Removal::AtOnce).await?;
    naming(&disabled, gone, Status::Disabled);
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    let told = told(doctor.examine(&FIXING, &AtOnce).await);
    // carol's own secret is not named any more, and that is mended.
    assert!(told.contains("4 problems") && world.seeds.count() == 3, "{told}");
    assert_eq!(world.devices.count(), 5);
    let said = &doctor.terminal.said;
    for words in [
        "of bob (client shop) has other values",
        "of erin (client shop) has other values",
        "update-secret-version-stage --secret-id",
        "of carol (client shop) names a secret of another stack",
        "of dave (client shop) is gone\n",
        "mfactl --stack mfa device remove --client 'shop' --user 'dave'",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_device_that_is_not_an_hour_old_is_left_alone() -> Result<()> {
    let world = World::active().await?;
    put(&world, "alice", 1)?;
    let seed_ref = world.record()?.device.seed_ref;
    world.seeds.remove(&seed_ref, Removal::AtOnce).await?;
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    doctor.examine(&FIXING, &AtOnce).await?;
    assert!(world.record().is_ok() && doctor.terminal.said.contains("not an hour old: look again"));
    world.clock.advance(YOUNG);
    doctor.examine(&FIXING, &AtOnce).await?;
    assert!(world.record().is_err());
    Ok(())
}

#[tokio::test]
async fn a_removed_secret_is_not_brought_back_for_a_device_that_is_gone_or_has_another_meanwhile() -> Result<()> {
    for gone in [true, false] {
        let world = World::new()?;
        put(&world, "alice", 1)?;
        let (key, removed) = put(&world, "bob", 2)?;
        world.seeds.remove(&removed, Removal::Recoverable).await?;
        let reads = AtomicUsize::new(0);
        let meanwhile = |when| {
            // It is read once to confirm, and once more before anything is done.
            if when == When::Reading && reads.fetch_add(1, Ordering::Relaxed) == 1 {
                world.devices.take(&key);
                if !gone {
                    put(&world, "bob", 3).unwrap_or_else(|_| unreachable!("a device"));
                }
            }
        };
        let told = fixed_meanwhile(&world, meanwhile).await;
        assert_eq!(told, "");
        assert!(!world.seeds.has(&removed));
    }
    Ok(())
}

#[tokio::test]
async fn a_device_whose_secret_is_seen_after_all_is_not_removed() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (key, gone) = put(&world, "bob", 2)?;
    world.seeds.remove(&gone, Removal::AtOnce).await?;
    let reads = AtomicUsize::new(0);
    let meanwhile = |when| {
        if when == When::Reading && reads.fetch_add(1, Ordering::Relaxed) == 1 {
            let seed = Seed::from_bytes(&[2; 20], OtpParameters::default());
            let seed = seed.unwrap_or_else(|_| unreachable!("a seed"));
            world
                .seeds
                .put(gone.name(), &seed)
                .unwrap_or_else(|_| unreachable!("a secret"));
        }
    };
    fixed_meanwhile(&world, meanwhile).await;
    assert!(world.devices.peek(&key).is_some());
    Ok(())
}

#[tokio::test]
async fn what_could_not_be_mended_is_said_and_stays_a_problem() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (_, removed) = put(&world, "bob", 2)?;
    let (_, gone) = put(&world, "carol", 3)?;
    let unnamed = put_unnamed(&world, 4)?;
    world.seeds.remove(&removed, Removal::Recoverable).await?;
    world.seeds.remove(&gone, Removal::AtOnce).await?;
    for json in [false, true] {
        world.seeds.inject(Op::Restore, Fault::Before);
        world.seeds.inject(Op::Remove, Fault::Before);
        world.devices.inject(Op::Remove, Fault::Before);
        let mut doctor = doctor(&world, []);
        doctor.yes = true;
        let told = told(doctor.examine(&Examining { json, ..FIXING }, &AtOnce).await);
        assert!(told.contains("6 problems"), "{told}");
        let said = &doctor.terminal.said;
        assert_eq!(said.matches("not mended: ").count(), 3, "{said}");
        let times = if json { 1 } else { 2 };
        assert_eq!(
            said.matches(&format!("no device names the secret {}", unnamed.name()))
                .count(),
            times
        );
        if json {
            serde_json::from_str::<Value>(said)?;
        }
    }
    let mut doctor = doctor(&world, []);
    doctor.yes = true;
    doctor.examine(&FIXING, &AtOnce).await?;
    assert!(
        doctor
            .terminal
            .said
            .ends_with("2 devices, 2 secrets: each device has its own, and each secret its device\n")
    );
    Ok(())
}

#[tokio::test]
async fn a_stack_that_does_not_say_where_devices_are_is_looked_at_all_the_same() -> Result<()> {
    let world = World::new()?;
    let mut doctor = doctor(&world, []);
    doctor.stack.outputs.remove("DevicesTable");
    doctor.stores = None;
    let told = told(doctor.examine(&FIXING, &AtOnce).await);
    let said = &doctor.terminal.said;
    assert!(
        told.contains("1 problem") && said.contains("has no output DevicesTable"),
        "{told}\n{said}"
    );
    assert!(said.contains("refuses a POST") && !said.contains("orphans"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_device_that_was_registered_anew_meanwhile_is_not_removed() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (key, gone) = put(&world, "bob", 2)?;
    world.seeds.remove(&gone, Removal::AtOnce).await?;
    let anew = |when| {
        if when == When::Removing {
            put(&world, "bob", 3).unwrap_or_else(|_| unreachable!("a device"));
        }
    };
    let told = fixed_meanwhile(&world, anew).await;
    assert_eq!(told, "");
    let device = world.devices.peek(&key).context("the new device is gone")?;
    assert!(device.seed_ref != gone && world.seeds.has(&device.seed_ref));
    Ok(())
}

#[tokio::test]
async fn a_device_that_is_still_the_same_but_was_written_meanwhile_is_left_for_the_next_run() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let (key, gone) = put(&world, "bob", 2)?;
    world.seeds.remove(&gone, Removal::AtOnce).await?;
    let written = |when| {
        if when == When::Removing {
            let mut device = world.devices.peek(&key).unwrap_or_else(|| unreachable!("a device"));
            device.version += 1;
            world.devices.put(&key, &device);
        }
    };
    let told = fixed_meanwhile(&world, written).await;
    assert!(
        told.contains("1 problem") && world.devices.peek(&key).is_some(),
        "{told}"
    );
    Ok(())
}

#[tokio::test]
async fn a_secret_that_a_device_came_to_name_while_the_person_thought_is_not_removed() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let late = put_unnamed(&world, 2)?;
    let never = put_unnamed(&world, 3)?;
    let named = |when| {
        if when == When::Scanning(1) {
            let device = Device::registered(7, Status::Active, late.clone(), OtpParameters::default());
            world.devices.put(&world.key, &device);
        }
    };
    let told = fixed_meanwhile(&world, named).await;
    assert_eq!(told, "");
    assert!(world.seeds.has(&late) && !world.seeds.has(&never));
    Ok(())
}

#[tokio::test]
async fn a_device_whose_secret_the_list_does_not_have_yet_is_whole() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    // After the secrets were listed, and before the devices are read.
    let registered = |when| {
        if when == When::Scanning(0) {
            put(&world, "bob", 2).unwrap_or_else(|_| unreachable!("a device"));
        }
    };
    let told = fixed_meanwhile(&world, registered).await;
    assert_eq!(told, "");
    assert_eq!((world.devices.count(), world.seeds.count()), (2, 2));
    Ok(())
}

#[tokio::test]
async fn a_fix_that_is_cut_short_leaves_nothing_worse_and_is_finished_by_the_next() -> Result<()> {
    let prepare = async || {
        let world = World::new()?;
        put(&world, "alice", 1)?;
        let (_, removed) = put(&world, "bob", 2)?;
        let (_, gone) = put(&world, "carol", 3)?;
        put_unnamed(&world, 4)?;
        put_unnamed(&world, 5)?;
        world.seeds.remove(&removed, Removal::Recoverable).await?;
        world.seeds.remove(&gone, Removal::AtOnce).await?;
        anyhow::Ok(world)
    };
    let fix = async |world: &World| {
        let mut doctor = doctor(world, []);
        doctor.yes = true;
        until_it_hangs(doctor.examine(&FIXING, &AtOnce)).await
    };
    let world = prepare().await?;
    let before = OPS.map(|op| world.calls(op));
    assert!(matches!(fix(&world).await, Some(Ok(()))));
    let mut points = 0;
    for point in points_since(before, &world) {
        let world = prepare().await?;
        let when = world.cut_short(point);
        let outcome = fix(&world).await;
        points += 1;
        let whole = |world: &World| {
            world
                .devices
                .all()
                .iter()
                .filter(|record| world.seeds.has(&record.device.seed_ref))
                .count()
        };
        assert!(whole(&world) >= 1, "{when}");
        if matches!(outcome, Some(Ok(()))) {
            assert_eq!(
                (world.devices.count(), whole(&world), world.orphans()),
                (2, 2, 0),
                "{when}"
            );
        }
        assert!(matches!(fix(&world).await, Some(Ok(()))), "{when}");
        assert_eq!(
            (world.devices.count(), whole(&world), world.orphans()),
            (2, 2, 0),
            "{when}"
        );
    }
    assert!(points >= 60, "{points}");
    Ok(())
}

#[tokio::test]
async fn a_stack_that_is_not_there_or_cannot_be_read_says_what_to_do() -> Result<()> {
    let mut inspector = MemoryInspector::well();
    assert_eq!(stack_by_name(&inspector, "mfa").await?.resources, []);
    assert_eq!(stack_with_resources(&inspector, "mfa").await?, stack());
    let told = |outcome: Result<DeployedStack>| outcome.err().map(|error| format!("{error:#}")).unwrap_or_default();
    let absent = told(stack_by_name(&inspector, "mfb").await);
    assert!(
        absent.contains("there is no stack mfb") && absent.contains("describe-stacks"),
        "{absent}"
    );
    inspector.fails = "resources";
    let failed = told(stack_with_resources(&inspector, "mfa").await);
    assert!(failed.contains("cannot read the stack mfa"), "{failed}");
    inspector.fails = "stack";
    inspector.clock = Some(ClockFound::Behind(600_000));
    let failed = told(stack_by_name(&inspector, "mfa").await);
    assert!(
        failed.contains("AccessDenied") && failed.contains("600 s behind"),
        "{failed}"
    );
    Ok(())
}

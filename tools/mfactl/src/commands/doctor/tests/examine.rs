//! Every part: healthy, wrong, and worth knowing.

use anyhow::{Context as _, Result};

use super::memory_stack::{CHECK, FIX, MemoryDoctor, MemoryInspector, NoDelay, alarm, check, doctor, put, stack};
use crate::commands::doctor::{Place, stack_by_name, stack_with_resources};
use crate::commands::testing::pool::MemoryPool;
use crate::commands::testing::world::{World, error_text};
use crate::ports::stack::{ApiAccess, ClockOffset, DeployedStack, Method, Resource, Table, UserPool};

#[tokio::test]
async fn a_healthy_stack_has_no_problem() -> Result<()> {
    let world = World::new()?;
    for (user, number) in [("alice", 1), ("bob", 2), ("carol", 3), ("dave", 4), ("erin", 5)] {
        put(&world, user, number)?;
    }
    let mut doctor = doctor(&world, []);
    let (healthy, output) = check(&mut doctor).await;
    assert!(healthy, "{output}");
    for line in [
        "ok      stack    mfa: UPDATE_COMPLETE",
        "ok      tables   Auths-1: authIds are deleted by expiresAt",
        "ok      tables   Devices-1: can be restored to a point in time",
        "ok      api      2 methods accept tokens of the stack's user pool with mfa/authenticate",
        "ok      api      refuses a POST /deviceAuthentications without a token (401)",
        "ok      api      refuses a POST /deviceAuthentications/00000000-0000-0000-0000-000000000000 without a token (401)",
        "ok      clients  3 clients may request mfa/authenticate",
        "ok      alarms   8 alarms have a topic, and none is in the state ALARM",
        "ok      clock    clock agrees with AWS (±1 s)",
        "ok      orphans  5 devices, 5 secrets: each device has its own, and each secret its device",
    ] {
        assert!(
            output.lines().any(|output| output.starts_with(line)),
            "{line}\n{output}"
        );
    }
    assert!(!output.contains("PROBLEM") && !output.contains("notice"), "{output}");
    Ok(())
}

#[tokio::test]
async fn every_route_but_removals_is_called_without_a_token() -> Result<()> {
    let world = World::new()?;
    let mut doctor = doctor(&world, []);
    doctor
        .stack
        .parameters
        .insert("DeviceApi".to_owned(), "true".to_owned());
    let (_, output) = check(&mut doctor).await;
    for call in [
        "POST /deviceAuthentications",
        "POST /deviceAuthentications/00000000-0000-0000-0000-000000000000",
        "POST /users/doctor/mfadevices",
        "GET /users/doctor/mfadevices",
        "POST /users/doctor/mfadevices/00000000-0000-0000-0000-000000000000",
    ] {
        assert!(
            output.contains(&format!("refuses a {call} without a token")),
            "{output}"
        );
    }
    assert_eq!(output.matches("without a token").count(), 5, "{output}");
    Ok(())
}

/// A change of a healthy stack.
type Change<'a> = &'a dyn Fn(&mut MemoryDoctor);

/// A fault, and words of its finding.
type FaultCase = (fn(&mut MemoryDoctor), &'static str);

fn auths(doctor: &mut MemoryDoctor) -> &mut Table {
    doctor
        .inspector
        .auths
        .as_mut()
        .unwrap_or_else(|| unreachable!("a table"))
}

fn devices(doctor: &mut MemoryDoctor) -> &mut Table {
    doctor
        .inspector
        .devices
        .as_mut()
        .unwrap_or_else(|| unreachable!("a table"))
}

fn access(doctor: &mut MemoryDoctor) -> &mut ApiAccess {
    doctor
        .inspector
        .api_access
        .as_mut()
        .unwrap_or_else(|| unreachable!("an API"))
}

fn pool(doctor: &mut MemoryDoctor) -> &mut UserPool {
    doctor
        .inspector
        .user_pool
        .as_mut()
        .unwrap_or_else(|| unreachable!("a pool"))
}

const FAULTS: [FaultCase; 43] = [
    (
        |it| it.stack.status = "ROLLBACK_FAILED".to_owned(),
        "update-table --table-name Devices-1 --no-deletion-protection-enabled; aws cloudformation delete-stack",
    ),
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
        |it| it.stack.resources.retain(|one| one.logical_id != "Api"),
        "has no resource Api",
    ),
    (|it| it.inspector.auths = None, "Auths-1 does not exist"),
    (|it| it.inspector.devices = None, "docs/operations.md, Restore"),
    (|it| auths(it).active = false, "Auths-1 does not accept requests"),
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
    (|it| it.inspector.api_access = None, "the API abc does not exist"),
    (
        |it| drop(access(it).methods.pop()),
        "POST /deviceAuthentications/{authId} does not exist",
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
    (|it| access(it).methods[0].scopes = Vec::new(), "requires no scope"),
    (
        |it| access(it).methods[1].scopes.push("mfa/other".to_owned()),
        "takes the scopes mfa/authenticate, mfa/other",
    ),
    (
        |it| {
            let method = Method {
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
        |it| it.inspector.user_pool = None,
        "the user pool eu-west-1_pool does not exist",
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
        "no client may request",
    ),
    (|it| drop(it.inspector.alarms.remove(0)), "FailuresAlarm does not exist"),
    (
        |it| drop(it.inspector.alarms.remove(7)),
        "ThrottlesAlarm does not exist",
    ),
    (
        |it| it.stack.resources.retain(|one| one.logical_id != "GatedAlarm"),
        "GatedAlarm does not exist",
    ),
    (
        |it| it.inspector.alarms[3].actions_enabled = false,
        "enable-alarm-actions --alarm-names mfa-WrongPairsAlarm",
    ),
    (
        |it| it.inspector.alarms[5].in_alarm = true,
        "docs/operations.md, Alarms, Seed failures",
    ),
    (|it| it.inspector.alarms[1].actions.clear(), "1 alarm has no topic"),
    (
        |it| it.inspector.clock_offset = Some(ClockOffset::Behind(5_000)),
        "clock is 5.0 s behind AWS's",
    ),
    (
        |it| it.inspector.clock_offset = Some(ClockOffset::Ahead(62_345)),
        "clock is 62.3 s ahead of AWS's",
    ),
    (|it| it.inspector.clock_offset = None, "no answer of AWS had a date"),
    (|it| it.inspector.fails = "auths", "not checked: auths: AccessDenied"),
    (|it| it.inspector.fails = "status", "not checked: status: AccessDenied"),
    (|it| it.inspector.fails = "alarms", "not checked: alarms: AccessDenied"),
];

#[tokio::test]
async fn every_fault_is_one_problem_with_its_remedy() -> Result<()> {
    for (break_it, words) in FAULTS {
        let world = World::new()?;
        put(&world, "alice", 1)?;
        let mut doctor = doctor(&world, []);
        break_it(&mut doctor);
        let outcome = error_text(doctor.examine(&CHECK, &NoDelay).await);
        let output = &doctor.terminal.output;
        assert!(
            outcome.contains("the stack mfa has 1 problem") || outcome.contains("the stack mfa has 2 problems"),
            "{words}: {outcome}\n{output}"
        );
        assert!(output.contains(words), "{words}\n{output}");
        assert!(
            output.contains("PROBLEM") && output.contains("fix: "),
            "{words}\n{output}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_notice_is_not_a_problem() -> Result<()> {
    let trial = |it: &mut MemoryDoctor| drop(it.stack.parameters.insert("Protect".to_owned(), "false".to_owned()));
    let unwatched = |it: &mut MemoryDoctor| drop(it.stack.parameters.insert("Watch".to_owned(), "false".to_owned()));
    let notices: [(Change<'_>, &str); 9] = [
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
            "have no alarms",
        ),
        (
            &|it| it.stack.status = "UPDATE_ROLLBACK_COMPLETE".to_owned(),
            "the last update failed and was rolled back",
        ),
        (
            &|it| it.stack.status = "UPDATE_IN_PROGRESS".to_owned(),
            "is being changed",
        ),
        (
            &|it| drop(it.clients.put_with("four", "mfa/other")),
            "3 clients may request mfa/authenticate; without it: id4",
        ),
        (
            &|it| it.inspector.clock_offset = Some(ClockOffset::Ahead(4_999)),
            "clock is 4.9 s ahead",
        ),
    ];
    for (change, words) in notices {
        let world = World::new()?;
        put(&world, "alice", 1)?;
        let mut doctor = doctor(&world, []);
        change(&mut doctor);
        let (healthy, output) = check(&mut doctor).await;
        assert!(healthy, "{words}\n{output}");
        let line = output.lines().find(|line| line.starts_with("notice"));
        assert!(line.is_some() && output.contains(words), "{words}\n{output}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stack_with_the_device_api_has_its_routes_scope_and_alarms() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    let mut doctor = doctor(&world, []);
    doctor
        .stack
        .parameters
        .insert("DeviceApi".to_owned(), "true".to_owned());
    doctor.clients.put_with("settings", "mfa/devices");
    let routes = [
        ("POST", "/users/{userName}/mfadevices"),
        ("GET", "/users/{userName}/mfadevices"),
        ("POST", "/users/{userName}/mfadevices/{authId}"),
        ("DELETE", "/users/{userName}/mfadevices/TOTP/{deviceName}"),
    ];
    let alarms = ["ManageDevicesErrorsAlarm", "DeviceChangesAlarm"];
    let (_, output) = check(&mut doctor).await;
    let missing = routes.iter().map(|(verb, path)| format!("{verb} {path}"));
    for missing in missing.chain(alarms.map(str::to_owned)) {
        assert!(
            output.contains(&format!("{missing} does not exist")),
            "{missing}\n{output}"
        );
    }
    assert!(output.contains("does not have the scope mfa/devices"), "{output}");
    assert_eq!(
        output.matches("PROBLEM").count(),
        routes.len() + alarms.len() + 1,
        "{output}"
    );

    let known = access(&mut doctor).methods.first().cloned().context("a method")?;
    access(&mut doctor).methods.extend(routes.map(|(verb, path)| Method {
        verb: verb.to_owned(),
        path: path.to_owned(),
        scopes: vec!["mfa/devices".to_owned()],
        ..known.clone()
    }));
    pool(&mut doctor).scopes.push("mfa/devices".to_owned());
    for logical in alarms {
        doctor.inspector.alarms.push(alarm(logical));
        doctor.stack.resources.push(Resource {
            logical_id: logical.to_owned(),
            physical_id: format!("mfa-{logical}"),
        });
    }
    let (healthy, output) = check(&mut doctor).await;
    assert!(healthy && !output.contains("notice"), "{output}");
    assert!(output.contains("with mfa/authenticate or mfa/devices"), "{output}");

    // Neither scope opens the routes of the other.
    for (index, scope) in [(1, "mfa/devices"), (2, "mfa/authenticate")] {
        let methods = &mut access(&mut doctor).methods;
        let method = methods.get_mut(index).context("a method")?;
        let own = std::mem::replace(&mut method.scopes, vec![scope.to_owned()]);
        let (healthy, output) = check(&mut doctor).await;
        assert!(
            !healthy && output.contains(&format!("takes the scopes {scope}")),
            "{output}"
        );
        access(&mut doctor).methods.get_mut(index).context("a method")?.scopes = own;
    }
    Ok(())
}

#[tokio::test]
async fn a_stack_without_the_name_of_its_table_is_still_checked() -> Result<()> {
    let world = World::new()?;
    let mut doctor = doctor(&world, []);
    doctor.stack.outputs.remove("DevicesTable");
    doctor.stores = None;
    let error = error_text(doctor.examine(&FIX, &NoDelay).await);
    let output = &doctor.terminal.output;
    assert!(
        error.contains("1 problem") && output.contains("has no output DevicesTable"),
        "{error}\n{output}"
    );
    assert!(
        output.contains("refuses a POST") && !output.contains("orphans"),
        "{output}"
    );
    Ok(())
}

#[tokio::test]
async fn the_error_for_an_unknown_or_unreadable_stack_says_what_to_do() -> Result<()> {
    let mut inspector = MemoryInspector::healthy();
    assert_eq!(stack_by_name(&inspector, "mfa").await?.resources, []);
    assert_eq!(stack_with_resources(&inspector, "mfa").await?, stack());
    let message = |outcome: Result<DeployedStack>| outcome.err().map(|error| format!("{error:#}")).unwrap_or_default();
    let absent = message(stack_by_name(&inspector, "mfb").await);
    assert!(
        absent.contains("there is no stack mfb") && absent.contains("describe-stacks"),
        "{absent}"
    );
    inspector.fails = "resources";
    let failed = message(stack_with_resources(&inspector, "mfa").await);
    assert!(failed.contains("cannot read the stack mfa"), "{failed}");
    inspector.fails = "stack";
    inspector.clock_offset = Some(ClockOffset::Behind(600_000));
    let failed = message(stack_by_name(&inspector, "mfa").await);
    assert!(
        failed.contains("AccessDenied") && failed.contains("600 s behind"),
        "{failed}"
    );
    Ok(())
}

#[tokio::test]
async fn on_the_local_stack_what_it_lacks_is_reported_as_not_checked() -> Result<()> {
    let world = World::new()?;
    put(&world, "alice", 1)?;
    for (clock_offset_seconds, clock) in [
        (0, "ok      clock    the local stack's clock agrees"),
        (-60, "notice  clock    the local stack's clock was moved back by 60 s"),
        (
            7_200,
            "notice  clock    the local stack's clock was moved forward by 7200 s",
        ),
    ] {
        let mut doctor = doctor(&world, []);
        doctor.place = Place::Local { clock_offset_seconds };
        doctor.stack.status = "LOCAL".to_owned();
        doctor.inspector.status = 500;
        doctor.inspector.alarms.clear();
        let (healthy, output) = check(&mut doctor).await;
        assert!(healthy, "{output}");
        for line in [
            "notice  stack    not checked",
            "notice  api      not checked",
            "notice  alarms   not checked",
            "ok      tables   Devices-1",
            "ok      clients  3 clients",
            clock,
            "ok      orphans  1 device, 1 secret",
        ] {
            assert!(output.lines().any(|shown| shown.starts_with(line)), "{line}\n{output}");
        }
    }
    Ok(())
}

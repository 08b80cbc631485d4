//! Decides what is wrong with each part but orphans. Without I/O: what was read comes in, findings go out.
//!
//! What is expected is what `template.yaml` deploys; a test compares the names.

use shared::error::StoreError;
use shared::names::ClientId;
use shared::ports::operator::KeyRingSummary;
use shared::sealed::SeedStorage;

use super::finding::{Finding, Part};
use crate::commands::text::count;
use crate::ports::clients::ClientError;
use crate::ports::stack::{Alarm, ApiAccess, ClockOffset, DeployedStack, Method, Table, UserPool};

pub(super) const AUTHS_TABLE: &str = "AuthsTable";
pub(super) const DEVICES_TABLE: &str = "DevicesTable";
pub(super) const API_URL: &str = "ApiUrl";
pub(super) const USER_POOL_ID: &str = "UserPoolId";
pub(super) const KEY_RING: &str = "KeyRing";
const OUTPUTS: [&str; 7] = [
    API_URL,
    "TokenUrl",
    USER_POOL_ID,
    AUTHS_TABLE,
    DEVICES_TABLE,
    "SeedPrefix",
    KEY_RING,
];
/// The TTL attribute of the table of auths.
const EXPIRES_AT: &str = "expiresAt";
/// The routes of the API, each with the scope that it takes.
const ROUTES: [(&str, &str, &str); 2] = [
    ("POST", "/deviceAuthentications", SCOPE),
    ("POST", "/deviceAuthentications/{authId}", SCOPE),
];
/// Those that it has with `DeviceApi`.
const DEVICE_ROUTES: [(&str, &str, &str); 4] = [
    ("POST", "/users/{userName}/mfadevices", DEVICES_SCOPE),
    ("GET", "/users/{userName}/mfadevices", DEVICES_SCOPE),
    ("POST", "/users/{userName}/mfadevices/{authId}", DEVICES_SCOPE),
    (
        "DELETE",
        "/users/{userName}/mfadevices/TOTP/{deviceName}",
        DEVICES_SCOPE,
    ),
];
const DEVICE_API: &str = "DeviceApi";
const WATCH: &str = "Watch";
const COGNITO: &str = "COGNITO_USER_POOLS";
pub(super) const SERVER: &str = "mfa";
const SCOPE: &str = "mfa/authenticate";
const DEVICES_SCOPE: &str = "mfa/devices";
/// How far the clock may be off without consequences: codes of the previous and next step are accepted too.
const CLOCK_TOLERANCE_MS: u64 = 5_000;
/// What cannot be measured: the answers have whole seconds.
const CLOCK_RESOLUTION_MS: u64 = 1_000;

/// The alarms of the template: logical id, row in `docs/operations.md`, the parameters without which it does not exist.
const ALARMS: [(&str, &str, &[&str]); 10] = [
    ("FailuresAlarm", "Failures", &[]),
    ("InitAuthErrorsAlarm", "Errors", &[]),
    ("ValidateOtpErrorsAlarm", "Errors", &[]),
    ("ManageDevicesErrorsAlarm", "Errors", &[DEVICE_API]),
    ("WrongPairsAlarm", "Wrong pairs", &[WATCH]),
    ("GatedAlarm", "Gated attempts", &[WATCH]),
    ("DeviceChangesAlarm", "Device changes", &[WATCH, DEVICE_API]),
    ("SeedFailuresAlarm", "Seed failures", &[WATCH]),
    ("LatencyAlarm", "Latency", &[WATCH]),
    ("ThrottlesAlarm", "Throttles", &[WATCH]),
];

/// What is protected from deletion stops the removal of a stack too, so that goes first.
fn remove_protected(stack: &DeployedStack) -> String {
    let mut commands = Vec::new();
    if let Some(pool) = stack.physical_id("UserPool") {
        commands.push(format!(
            "aws cognito-idp update-user-pool --user-pool-id {pool} --deletion-protection INACTIVE"
        ));
    }
    if let Some(table) = stack.physical_id("Devices") {
        commands.push(format!(
            "aws dynamodb update-table --table-name {table} --no-deletion-protection-enabled"
        ));
    }
    commands.push(format!("aws cloudformation delete-stack --stack-name {}", stack.name));
    format!(
        "{}; then deploy with Protect=false, and when that has succeeded with Protect=true",
        commands.join("; ")
    )
}

pub(super) fn stack(stack: &DeployedStack) -> Vec<Finding> {
    const PART: Part = Part::Stack;
    let (name, status) = (&stack.name, stack.status.as_str());
    let events = format!("aws cloudformation describe-stack-events --stack-name {name} shows what failed");
    let problem = |remedy: String| Finding::problem(PART, format!("{name}: {status}"), remedy);
    let mut findings = vec![match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" => Finding::ok(PART, format!("{name}: {status}")),
        "UPDATE_ROLLBACK_COMPLETE" => Finding::notice(
            PART,
            format!("{name}: the last update failed and was rolled back ({status})"),
        ),
        "CREATE_FAILED" | "ROLLBACK_COMPLETE" => problem(format!(
            "{events}; it was never in use: aws cloudformation delete-stack --stack-name {name}, then deploy again"
        )),
        "ROLLBACK_FAILED" => problem(format!("{events}; it was never in use: {}", remove_protected(stack))),
        "UPDATE_ROLLBACK_FAILED" => problem(format!(
            "{events}; then aws cloudformation continue-update-rollback --stack-name {name}"
        )),
        "DELETE_FAILED" | "DELETE_IN_PROGRESS" => problem(format!("{events}; the stack is being deleted")),
        _ if status.ends_with("_IN_PROGRESS") => Finding::notice(
            PART,
            format!("{name} is being changed ({status}): check again when that is over"),
        ),
        _ => problem(events),
    }];
    if !stack.is_on("Protect") {
        findings.push(Finding::notice(
            PART,
            "a trial stack: devices and clients are not protected from deletion (Protect=false)",
        ));
    }
    let missing = OUTPUTS
        .into_iter()
        .filter(|output| !stack.outputs.contains_key(*output));
    findings.extend(missing.map(|output| {
        let remedy = "is it a stack of this project's template.yaml? If it is of an older version, deploy again";
        Finding::problem(PART, format!("has no output {output}"), remedy)
    }));
    if stack.physical_id("Api").is_none() {
        let remedy = "is it a stack of this project's template.yaml?";
        findings.push(Finding::problem(PART, "has no resource Api", remedy));
    }
    findings
}

pub(super) fn table(stack: &DeployedStack, output: &str, name: &str, found: Option<&Table>) -> Vec<Finding> {
    const PART: Part = Part::Tables;
    let of_devices = output == DEVICES_TABLE;
    let Some(table) = found else {
        let remedy = if of_devices {
            "restore it under this name (docs/operations.md, Restore)".to_owned()
        } else {
            format!(
                "no one can authenticate: aws dynamodb create-table --table-name {name} --billing-mode PAY_PER_REQUEST \
                 --attribute-definitions AttributeName=pk,AttributeType=S --key-schema AttributeName=pk,KeyType=HASH, then run \
                 the doctor again"
            )
        };
        return vec![Finding::problem(PART, format!("{name} does not exist"), remedy)];
    };
    let mut findings = Vec::new();
    let mut problem = |text: String, remedy: String| findings.push(Finding::problem(PART, text, remedy));
    if !table.active {
        let remedy = format!("aws dynamodb describe-table --table-name {name} shows its status");
        problem(format!("{name} does not accept requests"), remedy);
    }
    let key: &[&str] = if of_devices { &["pk", "sk"] } else { &["pk"] };
    if table.key != key {
        let remedy = "no function works with it: find out who replaced the stack's own table (CloudTrail)";
        problem(
            format!("{name} has the key {}", table.key.join(", ")),
            remedy.to_owned(),
        );
    }
    let ttl = |on: bool, attribute: &str| {
        format!(
            "aws dynamodb update-time-to-live --table-name {name} --time-to-live-specification \
             Enabled={on},AttributeName={attribute}"
        )
    };
    let limit = "(refused for an hour after the last change)";
    match (of_devices, table.ttl.as_deref()) {
        (true, Some(attribute)) => problem(
            format!("{name} deletes devices by {attribute}"),
            format!("{} {limit}", ttl(false, attribute)),
        ),
        (false, None) => problem(
            format!("{name} keeps every authId forever: TTL is off"),
            format!("{} {limit}", ttl(true, EXPIRES_AT)),
        ),
        (false, Some(attribute)) if attribute != EXPIRES_AT => problem(
            format!("{name} deletes authIds by {attribute}, which they do not have"),
            format!(
                "{}; when that is done, {} {limit}",
                ttl(false, attribute),
                ttl(true, EXPIRES_AT)
            ),
        ),
        _ => {}
    }
    if of_devices {
        if table.backups == Some(false) {
            let remedy = format!(
                "aws dynamodb update-continuous-backups --table-name {name} --point-in-time-recovery-specification \
                 PointInTimeRecoveryEnabled=true"
            );
            problem(
                format!("{name} cannot be restored: point-in-time recovery is off"),
                remedy,
            );
        }
        if stack.is_on("Protect") && !table.protected {
            let remedy = format!("aws dynamodb update-table --table-name {name} --deletion-protection-enabled");
            problem(format!("{name} is not protected from deletion"), remedy);
        }
    }
    if findings.is_empty() {
        let text = match (of_devices, table.backups) {
            (false, _) => format!("{name}: authIds are deleted by {EXPIRES_AT}"),
            (true, Some(_)) => format!("{name}: can be restored to a point in time"),
            (true, None) => format!("{name}: no backups, as always on the local stack"),
        };
        findings.push(Finding::ok(PART, text));
    }
    findings
}

pub(super) fn api_access(stack: &DeployedStack, api: &str, found: Option<&ApiAccess>) -> Vec<Finding> {
    const PART: Part = Part::Api;
    let Some(found) = found else {
        let remedy = "no one can authenticate, and CloudFormation does not recreate what was deleted by hand: give the resource Api another \
                      logical id in template.yaml and deploy; it gets another URL. Do not delete the stack: its clients would be lost";
        return vec![Finding::problem(PART, format!("the API {api} does not exist"), remedy)];
    };
    let by_hand = format!(
        "restore it as template.yaml has it (API Gateway console, or aws apigateway), then aws apigateway create-deployment \
         --rest-api-id {api} --stage-name v1: CloudFormation does not undo changes by hand"
    );
    let own_pool = stack.outputs.get(USER_POOL_ID).map(|pool| format!(":userpool/{pool}"));
    let mut findings = Vec::new();
    let mut problem = |text: String| findings.push(Finding::problem(PART, text, by_hand.clone()));
    let routes: Vec<_> = routes_of(stack).collect();
    for (verb, path, _) in &routes {
        if !found
            .methods
            .iter()
            .any(|method| method.verb == *verb && method.path == *path)
        {
            problem(format!("{verb} {path} does not exist"));
        }
    }
    for Method {
        verb,
        path,
        authorization,
        authorizer,
        scopes,
    } in &found.methods
    {
        let authorizer = found
            .authorizers
            .iter()
            .find(|known| Some(&known.id) == authorizer.as_ref());
        let by_cognito = authorizer.filter(|known| known.kind == COGNITO && authorization == COGNITO);
        let Some(by_cognito) = by_cognito else {
            problem(format!(
                "{verb} {path} is not authorized by Cognito but by {authorization}"
            ));
            continue;
        };
        let of_own_pool = |pool: &String| own_pool.as_ref().is_some_and(|own| pool.ends_with(own));
        if by_cognito.pools.is_empty() || !by_cognito.pools.iter().all(of_own_pool) {
            problem(format!("{verb} {path} accepts tokens of another user pool"));
        }
        if scopes.is_empty() {
            problem(format!(
                "{verb} {path} requires no scope, so it expects ID tokens, which no client gets"
            ));
        } else if scopes.iter().any(|scope| scope != scope_of(verb, path)) {
            problem(format!("{verb} {path} takes the scopes {}", scopes.join(", ")));
        }
    }
    if findings.is_empty() {
        let mut scopes: Vec<&str> = routes.iter().map(|(_, _, scope)| *scope).collect();
        scopes.dedup();
        let text = format!(
            "{} accept tokens of the stack's user pool with {}",
            count(found.methods.len(), "method"),
            scopes.join(" or ")
        );
        findings.push(Finding::ok(PART, text));
    }
    findings
}

/// The routes that a stack has.
fn routes_of(stack: &DeployedStack) -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
    let with_devices = stack.is_on(DEVICE_API);
    let device_routes = DEVICE_ROUTES.iter().filter(move |_| with_devices);
    ROUTES.iter().chain(device_routes)
}

/// The scope that a method takes.
fn scope_of(verb: &str, path: &str) -> &'static str {
    let mut routes = ROUTES.iter().chain(&DEVICE_ROUTES);
    let route = routes.find(|route| (route.0, route.1) == (verb, path));
    route.map_or(SCOPE, |(_, _, scope)| scope)
}

/// The methods and paths that are called without a token, with an authId that cannot exist. Never a `DELETE`: another
/// service may answer there.
pub(super) fn calls_without_token(stack: &DeployedStack) -> impl Iterator<Item = (&'static str, String)> {
    let called = routes_of(stack).filter(|(verb, ..)| *verb != "DELETE");
    called.map(|(verb, path, _)| {
        let path = path.replace("{authId}", "00000000-0000-0000-0000-000000000000");
        (*verb, path.replace("{userName}", "doctor"))
    })
}

pub(super) fn status_without_token(verb: &str, path: &str, status: u16) -> Finding {
    const PART: Part = Part::Api;
    let text = format!("answers {status} to a {verb} {path} without a token, not 401");
    match status {
        401 => Finding::ok(PART, format!("refuses a {verb} {path} without a token (401)")),
        403 => Finding::problem(
            PART,
            text,
            "a firewall, or another API, answers there: give --api-url if the API has a custom domain",
        ),
        429 | 500..=599 => Finding::problem(PART, text, "run it again; if this persists, docs/operations.md, Alarms"),
        _ => Finding::problem(
            PART,
            text,
            "is it this API (--api-url if it has a custom domain)? If it is, the stage does not serve what is configured: find out who \
             deployed it (CloudTrail), and deploy it again (aws apigateway create-deployment)",
        ),
    }
}

pub(super) fn user_pool(stack: &DeployedStack, id: &str, found: Option<&UserPool>) -> Vec<Finding> {
    const PART: Part = Part::Clients;
    let Some(pool) = found else {
        let remedy = "every client is lost with it: deploy the stack again, and give each application a new client";
        return vec![Finding::problem(
            PART,
            format!("the user pool {id} does not exist"),
            remedy,
        )];
    };
    let mut findings = Vec::new();
    let of_devices = stack.is_on(DEVICE_API).then_some(DEVICES_SCOPE);
    for scope in [SCOPE].into_iter().chain(of_devices) {
        if pool.scopes.iter().any(|known| known == scope) {
            continue;
        }
        let name = scope.rsplit('/').next().unwrap_or(scope);
        let remedy = format!(
            "aws cognito-idp create-resource-server --user-pool-id {id} --identifier {SERVER} --name {SERVER} --scopes \
             ScopeName={name},ScopeDescription={name} (if it exists with other scopes, update-resource-server with all of \
             them and this one)"
        );
        let text = format!("the user pool does not have the scope {scope}");
        findings.push(Finding::problem(PART, text, remedy));
    }
    if stack.is_on("Protect") && !pool.protected {
        let remedy = "deploy with Protect=false, then with Protect=true: CloudFormation sets it only when it changes. The table of \
                      devices is not protected in between either";
        let text = "the user pool is not protected from deletion";
        findings.push(Finding::problem(PART, text, remedy));
    }
    findings
}

pub(super) fn no_token_url(error: &ClientError) -> Finding {
    let remedy = "aws cognito-idp create-user-pool-domain, or --token-url if the token endpoint is elsewhere";
    Finding::problem(Part::Clients, format!("no token endpoint: {error}"), remedy)
}

pub(super) fn clients(program: &str, clients: &[(ClientId, Vec<String>)]) -> Finding {
    let (with, without): (Vec<_>, Vec<_>) = clients
        .iter()
        .partition(|(_, scopes)| scopes.iter().any(|scope| scope == SCOPE));
    if with.is_empty() {
        let text = "no client may request the scope mfa/authenticate, so no one can authenticate";
        return Finding::problem(
            Part::Clients,
            text,
            format!("{program} client add NAME --secret-file FILE"),
        );
    }
    let text = format!("{} may request {SCOPE}", count(with.len(), "client"));
    // An application that only registers devices needs no other scope.
    let without: Vec<&str> = without
        .iter()
        .filter(|(_, scopes)| !scopes.iter().any(|scope| scope == DEVICES_SCOPE))
        .map(|(id, _)| id.as_str())
        .collect();
    if without.is_empty() {
        return Finding::ok(Part::Clients, text);
    }
    Finding::notice(Part::Clients, format!("{text}; without it: {}", without.join(", ")))
}

/// An alarm that should exist.
#[derive(Debug)]
pub(super) struct ExpectedAlarm {
    logical: &'static str,
    heading: &'static str,
    watched: bool,
    /// Its name in `CloudWatch`, if the stack has it.
    pub(super) name: Option<String>,
}

pub(super) fn expected_alarms(stack: &DeployedStack) -> Vec<ExpectedAlarm> {
    let expected = ALARMS
        .into_iter()
        .filter(|(_, _, parameters)| parameters.iter().all(|parameter| stack.is_on(parameter)));
    expected
        .map(|(logical, heading, parameters)| ExpectedAlarm {
            logical,
            heading,
            watched: parameters.contains(&WATCH),
            name: stack.physical_id(logical).map(str::to_owned),
        })
        .collect()
}

pub(super) fn alarms(stack: &DeployedStack, expected: &[ExpectedAlarm], found: &[Alarm]) -> Vec<Finding> {
    const PART: Part = Part::Alarms;
    let mut findings = Vec::new();
    let mut silent = 0;
    for ExpectedAlarm {
        logical,
        heading,
        watched,
        name,
    } in expected
    {
        let name = name.as_deref().unwrap_or_default();
        let Some(alarm) = found.iter().find(|alarm| alarm.name == name) else {
            let remedy = if *watched {
                "deploy with Watch=false, then with Watch=true: CloudFormation does not recreate what was deleted by hand"
            } else {
                "create it again with this name, as template.yaml has it: it is one of those that stop a rollout"
            };
            findings.push(Finding::problem(PART, format!("{logical} does not exist"), remedy));
            continue;
        };
        if !alarm.actions_enabled {
            let remedy = format!("aws cloudwatch enable-alarm-actions --alarm-names {name}");
            findings.push(Finding::problem(
                PART,
                format!("{logical} has its actions disabled"),
                remedy,
            ));
        }
        if alarm.in_alarm {
            let remedy = format!("docs/operations.md, Alarms, {heading}");
            findings.push(Finding::problem(
                PART,
                format!("{logical} is in the state ALARM"),
                remedy,
            ));
        }
        silent += usize::from(alarm.actions.is_empty());
    }
    if silent > 0 {
        let topic = stack
            .parameters
            .get("AlarmTopicArn")
            .is_some_and(|topic| !topic.is_empty());
        findings.push(if topic {
            let remedy =
                "deploy with AlarmTopicArn empty, then with the topic again: CloudFormation sets it only when it changes";
            Finding::problem(PART, format!("{} no action any more", has(silent)), remedy)
        } else if stack.is_on("Protect") {
            let remedy = "deploy with AlarmTopicArn=<the ARN of an SNS topic that someone reads>";
            Finding::problem(PART, format!("{} no topic (AlarmTopicArn is empty)", has(silent)), remedy)
        } else {
            Finding::notice(PART, format!("{} no topic (AlarmTopicArn is empty)", has(silent)))
        });
    }
    if !stack.is_on("Watch") {
        let text = "guessing, seed failures, latency and throttles have no alarms (Watch=false)";
        findings.push(Finding::notice(PART, text));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            PART,
            format!("{} a topic, and none is in the state ALARM", has(expected.len())),
        ));
    }
    findings
}

fn has(alarms: usize) -> String {
    format!(
        "{} {}",
        count(alarms, "alarm"),
        if alarms == 1 { "has" } else { "have" }
    )
}

/// The key ring; `None` if the stack does not say which secret it is.
pub(super) fn key_ring(stack: &DeployedStack, read: Option<&Result<KeyRingSummary, StoreError>>) -> Vec<Finding> {
    const PART: Part = Part::Keys;
    let seals = stack.parameters.get("SeedStorage").map(String::as_str) == Some(SeedStorage::Sealed.as_str());
    let finding = match read {
        None if seals => Finding::problem(
            PART,
            "SeedStorage is sealed, and the stack has no key ring: no device can be registered",
            "deploy the template of this release again",
        ),
        // Of a stack that is deployed, reported as a missing output.
        None => return Vec::new(),
        Some(Ok(ring)) => Finding::ok(
            PART,
            format!(
                "the key ring has {}; {} seals since {}",
                count(ring.previous.len() + 1, "key"),
                ring.current,
                ring.created_at.rfc3339()
            ),
        ),
        Some(Err(StoreError::Corrupt { what, .. })) => Finding::problem(
            PART,
            format!("the key ring is damaged: {what}"),
            "no sealed seed opens: restore the key ring (docs/operations.md, Sealed seeds)",
        ),
        Some(Err(error)) => Finding::not_checked(PART, error),
    };
    vec![finding]
}

pub(super) fn clock(offset: Option<ClockOffset>) -> Finding {
    const PART: Part = Part::Clock;
    let (millis, direction) = match offset {
        None => return Finding::problem(PART, "no answer of AWS had a date", "run it again"),
        Some(ClockOffset::Unmeasurable) => (0, ""),
        Some(ClockOffset::Behind(millis)) => (millis, "behind"),
        Some(ClockOffset::Ahead(millis)) => (millis, "ahead of"),
    };
    if millis < CLOCK_RESOLUTION_MS {
        return Finding::ok(PART, "clock agrees with AWS (±1 s)");
    }
    let (seconds, tenths) = (millis / 1_000, millis % 1_000 / 100);
    let text = format!("this machine's clock is {seconds}.{tenths} s {direction} AWS's");
    if millis < CLOCK_TOLERANCE_MS {
        return Finding::notice(PART, text);
    }
    Finding::problem(
        PART,
        text,
        "set it (NTP): `mfactl device activate` checks first codes by it",
    )
}

pub(super) fn local_clock(offset_seconds: i64) -> Finding {
    const PART: Part = Part::Clock;
    if offset_seconds == 0 {
        return Finding::ok(PART, "the local stack's clock agrees with this machine's");
    }
    let direction = if offset_seconds < 0 { "back" } else { "forward" };
    let seconds = offset_seconds.unsigned_abs();
    Finding::notice(
        PART,
        format!("the local stack's clock was moved {direction} by {seconds} s"),
    )
}

#[cfg(test)]
mod tests;

//! What is right and what is not, of everything but orphans. Pure: what was found comes in, findings go out.
//!
//! What is expected is `template.yaml`; a test compares the names.

use shared::names::ClientId;

use super::{Finding, Part, count};
use crate::clients::ClientError;
use crate::deployed::{AccessFound, AlarmFound, ClockFound, DeployedStack, MethodFound, PoolFound, TableFound};

pub(super) const AUTHS_TABLE: &str = "AuthsTable";
pub(super) const DEVICES_TABLE: &str = "DevicesTable";
pub(super) const API_URL: &str = "ApiUrl";
pub(super) const USER_POOL_ID: &str = "UserPoolId";
const OUTPUTS: [&str; 6] = [
    API_URL,
    "TokenUrl",
    USER_POOL_ID,
    AUTHS_TABLE,
    DEVICES_TABLE,
    "SeedPrefix",
];
/// The attribute by which authIds are deleted.
const EXPIRES_AT: &str = "expiresAt";
const ROUTES: [(&str, &str); 2] = [
    ("POST", "/deviceAuthentications"),
    ("POST", "/deviceAuthentications/{authId}"),
];
const COGNITO: &str = "COGNITO_USER_POOLS";
pub(super) const SERVER: &str = "mfa";
const SCOPE: &str = "mfa/authenticate";
/// What a clock may be off without being felt: codes of the step before and after are taken too.
const CLOCK_TOLERANCE_MS: u64 = 5_000;
/// What is not worth a word.
const CLOCK_IS_RIGHT_MS: u64 = 1_000;

/// An alarm of the template: its logical id, its row in `docs/operations.md`, whether it is only there with `Watch`.
const ALARMS: [(&str, &str, bool); 8] = [
    ("FailuresAlarm", "Failures", false),
    ("InitAuthErrorsAlarm", "Errors", false),
    ("ValidateOtpErrorsAlarm", "Errors", false),
    ("WrongPairsAlarm", "Wrong pairs", true),
    ("GatedAlarm", "Gated attempts", true),
    ("SeedFailuresAlarm", "Seed failures", true),
    ("LatencyAlarm", "Latency", true),
    ("ThrottlesAlarm", "Throttles", true),
];

pub(super) fn stack(stack: &DeployedStack) -> Vec<Finding> {
    const PART: Part = Part::Stack;
    let (name, status) = (&stack.name, stack.status.as_str());
    let events = format!("aws cloudformation describe-stack-events --stack-name {name} says what failed");
    let problem = |mend: String| Finding::problem(PART, format!("{name}: {status}"), mend);
    let mut findings = vec![match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" => Finding::well(PART, format!("{name}: {status}")),
        "UPDATE_ROLLBACK_COMPLETE" => Finding::notice(
            PART,
            format!("{name}: the last update failed and was undone ({status})"),
        ),
        "CREATE_FAILED" | "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" => problem(format!(
            "{events}; it was never in use: aws cloudformation delete-stack --stack-name {name}, then deploy again"
        )),
        "UPDATE_ROLLBACK_FAILED" => problem(format!(
            "{events}; then aws cloudformation continue-update-rollback --stack-name {name}"
        )),
        "DELETE_FAILED" | "DELETE_IN_PROGRESS" => problem(format!("{events}; somebody deletes this stack")),
        _ if status.ends_with("_IN_PROGRESS") => Finding::notice(
            PART,
            format!("{name} is being changed ({status}): look again when that is over"),
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
        let mend = "is it a stack of this project's template.yaml? If it is an older one, deploy again";
        Finding::problem(PART, format!("has no output {output}"), mend)
    }));
    if stack.physical("Api").is_none() {
        let mend = "is it a stack of this project's template.yaml?";
        findings.push(Finding::problem(PART, "has no resource Api", mend));
    }
    findings
}

pub(super) fn table(stack: &DeployedStack, output: &str, name: &str, found: Option<&TableFound>) -> Vec<Finding> {
    const PART: Part = Part::Tables;
    let of_devices = output == DEVICES_TABLE;
    let Some(table) = found else {
        let mend = if of_devices {
            "restore it, by this name (docs/operations.md, Restore)".to_owned()
        } else {
            format!(
                "nobody can sign in: aws dynamodb create-table --table-name {name} --billing-mode PAY_PER_REQUEST \
                 --attribute-definitions AttributeName=pk,AttributeType=S --key-schema AttributeName=pk,KeyType=HASH, then look \
                 again"
            )
        };
        return vec![Finding::problem(PART, format!("{name} is not there"), mend)];
    };
    let mut findings = Vec::new();
    let mut problem = |says: String, mend: String| findings.push(Finding::problem(PART, says, mend));
    if !table.active {
        let mend = format!("aws dynamodb describe-table --table-name {name} says what happens to it");
        problem(format!("{name} takes no requests"), mend);
    }
    let key: &[&str] = if of_devices { &["pk", "sk"] } else { &["pk"] };
    if table.key != key {
        let mend = "it is not a table of this service: nothing works on it";
        problem(format!("{name} has the key {}", table.key.join(", ")), mend.to_owned());
    }
    let ttl = |on: bool, attribute: &str| {
        format!(
            "aws dynamodb update-time-to-live --table-name {name} --time-to-live-specification \
             Enabled={on},AttributeName={attribute}"
        )
    };
    let patience = "(refused for an hour after the last change)";
    match (of_devices, table.ttl.as_deref()) {
        (true, Some(attribute)) => problem(
            format!("{name} deletes devices by {attribute}"),
            format!("{} {patience}", ttl(false, attribute)),
        ),
        (false, None) => problem(
            format!("{name} keeps every authId for ever: TTL is off"),
            format!("{} {patience}", ttl(true, EXPIRES_AT)),
        ),
        (false, Some(attribute)) if attribute != EXPIRES_AT => problem(
            format!("{name} deletes authIds by {attribute}, which they do not have"),
            format!(
                "{}; when that is done, {} {patience}",
                ttl(false, attribute),
                ttl(true, EXPIRES_AT)
            ),
        ),
        _ => {}
    }
    if of_devices {
        if table.backups == Some(false) {
            let mend = format!(
                "aws dynamodb update-continuous-backups --table-name {name} --point-in-time-recovery-specification \
                 PointInTimeRecoveryEnabled=true"
            );
            problem(
                format!("{name} cannot be restored: point-in-time recovery is off"),
                mend,
            );
        }
        if stack.is_on("Protect") && !table.protected {
            let mend = format!("aws dynamodb update-table --table-name {name} --deletion-protection-enabled");
            problem(format!("{name} is not protected from deletion"), mend);
        }
    }
    if findings.is_empty() {
        let says = match (of_devices, table.backups) {
            (false, _) => format!("{name}: authIds are deleted by {EXPIRES_AT}"),
            (true, Some(_)) => format!("{name}: can be restored to a point in time"),
            (true, None) => format!("{name}: has no backups, which a store on one machine never has"),
        };
        findings.push(Finding::well(PART, says));
    }
    findings
}

pub(super) fn access(stack: &DeployedStack, api: &str, found: Option<&AccessFound>) -> Vec<Finding> {
    const PART: Part = Part::Api;
    let Some(found) = found else {
        let mend = "nobody can sign in, and CloudFormation does not put back what was deleted by hand: give the resource Api another \
                    logical id in template.yaml and deploy; it gets another URL. Do not remove the stack: its clients go with it";
        return vec![Finding::problem(PART, format!("the API {api} is not there"), mend)];
    };
    let by_hand = format!(
        "put it back as template.yaml has it (API Gateway console, or aws apigateway), then aws apigateway create-deployment \
         --rest-api-id {api} --stage-name v1: CloudFormation does not undo what was changed by hand"
    );
    let own_pool = stack.outputs.get(USER_POOL_ID).map(|pool| format!(":userpool/{pool}"));
    let mut findings = Vec::new();
    let mut problem = |says: String| findings.push(Finding::problem(PART, says, by_hand.clone()));
    for (verb, path) in ROUTES {
        if !found
            .methods
            .iter()
            .any(|method| method.verb == verb && method.path == path)
        {
            problem(format!("{verb} {path} is not there"));
        }
    }
    for MethodFound {
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
            problem(format!(
                "{verb} {path} takes tokens of another user pool than the stack's"
            ));
        }
        if scopes.is_empty() {
            problem(format!(
                "{verb} {path} asks for no scope, so it expects ID tokens, which no client gets"
            ));
        } else if scopes.iter().any(|scope| scope != SCOPE) {
            problem(format!("{verb} {path} takes the scopes {}", scopes.join(", ")));
        }
    }
    if findings.is_empty() {
        let says = format!(
            "{} take tokens of the stack's user pool with {SCOPE}",
            count(found.methods.len(), "method")
        );
        findings.push(Finding::well(PART, says));
    }
    findings
}

/// Where the API is called from outside: both steps, with an authId that cannot be.
pub(super) const CALLED: [&str; 2] = [
    "/deviceAuthentications",
    "/deviceAuthentications/00000000-0000-0000-0000-000000000000",
];

pub(super) fn without_token(path: &str, status: u16) -> Finding {
    const PART: Part = Part::Api;
    let says = format!("answers {status} to a POST {path} without a token, not 401");
    match status {
        401 => Finding::well(PART, format!("refuses a POST {path} without a token (401)")),
        403 => Finding::problem(
            PART,
            says,
            "a firewall, or another API, answers there: give --api-url if the API has a domain of its own",
        ),
        429 | 500..=599 => Finding::problem(PART, says, "run it again; if it stays, docs/operations.md, Alarms"),
        _ => Finding::problem(
            PART,
            says,
            "is it this API (--api-url if it has a domain of its own)? If it is, the stage serves something else than what is \
             configured: find out who deployed it (CloudTrail), and deploy it anew (aws apigateway create-deployment)",
        ),
    }
}

pub(super) fn pool(stack: &DeployedStack, id: &str, found: Option<&PoolFound>) -> Vec<Finding> {
    const PART: Part = Part::Clients;
    let Some(pool) = found else {
        let mend = "every client is lost with it: deploy the stack anew, and give each application a new client";
        return vec![Finding::problem(PART, format!("the user pool {id} is not there"), mend)];
    };
    let mut findings = Vec::new();
    if !pool.scopes.iter().any(|scope| scope == SCOPE) {
        let mend = format!(
            "aws cognito-idp create-resource-server --user-pool-id {id} --identifier {SERVER} --name {SERVER} --scopes \
             ScopeName=authenticate,ScopeDescription=authenticate (if it is there with other scopes, update-resource-server with \
             all of them and this one)"
        );
        findings.push(Finding::problem(
            PART,
            format!("the user pool does not know the scope {SCOPE}"),
            mend,
        ));
    }
    if stack.is_on("Protect") && !pool.protected {
        let mend = "deploy with Protect=false, then with Protect=true: CloudFormation sets it when it changes. The table of \
                    devices is not protected in between either";
        let says = "the user pool is not protected from deletion";
        findings.push(Finding::problem(PART, says, mend));
    }
    findings
}

pub(super) fn no_token_url(error: &ClientError) -> Finding {
    let mend = "aws cognito-idp create-user-pool-domain, or --token-url if tokens are given elsewhere";
    Finding::problem(Part::Clients, format!("no tokens: {error}"), mend)
}

pub(super) fn clients(program: &str, clients: &[(ClientId, Vec<String>)]) -> Finding {
    let (with, without): (Vec<_>, Vec<_>) = clients
        .iter()
        .partition(|(_, scopes)| scopes.iter().any(|scope| scope == SCOPE));
    if with.is_empty() {
        let says = "no client may ask for the scope mfa/authenticate, so nobody can authenticate";
        return Finding::problem(
            Part::Clients,
            says,
            format!("{program} client add NAME --secret-file FILE"),
        );
    }
    let says = format!("{} may ask for {SCOPE}", count(with.len(), "client"));
    if without.is_empty() {
        return Finding::well(Part::Clients, says);
    }
    let without: Vec<&str> = without.iter().map(|(id, _)| id.as_str()).collect();
    Finding::notice(Part::Clients, format!("{says}; not so {}", without.join(", ")))
}

/// An alarm that should be there.
#[derive(Debug)]
pub(super) struct ExpectedAlarm {
    logical: &'static str,
    heading: &'static str,
    watched: bool,
    /// What it is called, if the stack has it.
    pub(super) name: Option<String>,
}

pub(super) fn expected_alarms(stack: &DeployedStack) -> Vec<ExpectedAlarm> {
    let watched = stack.is_on("Watch");
    let expected = ALARMS
        .into_iter()
        .filter(|(_, _, only_watched)| watched || !only_watched);
    expected
        .map(|(logical, heading, watched)| ExpectedAlarm {
            logical,
            heading,
            watched,
            name: stack.physical(logical).map(str::to_owned),
        })
        .collect()
}

pub(super) fn alarms(stack: &DeployedStack, expected: &[ExpectedAlarm], found: &[AlarmFound]) -> Vec<Finding> {
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
            let mend = if *watched {
                "deploy with Watch=false, then with Watch=true: CloudFormation does not put back what was deleted by hand"
            } else {
                "put it back by its name, as template.yaml has it: it is one of those that stop a rollout"
            };
            findings.push(Finding::problem(PART, format!("{logical} is not there"), mend));
            continue;
        };
        if !alarm.actions_enabled {
            let mend = format!("aws cloudwatch enable-alarm-actions --alarm-names {name}");
            findings.push(Finding::problem(PART, format!("{logical} is switched off"), mend));
        }
        if alarm.rings {
            let mend = format!("docs/operations.md, Alarms, {heading}");
            findings.push(Finding::problem(PART, format!("{logical} rings now"), mend));
        }
        silent += usize::from(alarm.actions.is_empty());
    }
    if silent > 0 {
        let topic = stack
            .parameters
            .get("AlarmTopicArn")
            .is_some_and(|topic| !topic.is_empty());
        findings.push(if topic {
            let mend =
                "deploy with AlarmTopicArn empty, then with the topic again: CloudFormation sets it when it changes";
            Finding::problem(PART, format!("{} no action any more", has(silent)), mend)
        } else if stack.is_on("Protect") {
            let mend = "deploy with AlarmTopicArn=<the ARN of an SNS topic that somebody reads>";
            Finding::problem(PART, format!("{} no topic: no AlarmTopicArn", has(silent)), mend)
        } else {
            Finding::notice(PART, format!("{} no topic: no AlarmTopicArn", has(silent)))
        });
    }
    if !stack.is_on("Watch") {
        let says = "guessing, seed failures, latency and throttles are not watched (Watch=false)";
        findings.push(Finding::notice(PART, says));
    }
    if findings.is_empty() {
        findings.push(Finding::well(
            PART,
            format!("{} a topic, and none rings", has(expected.len())),
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

pub(super) fn clock(found: Option<ClockFound>) -> Finding {
    const PART: Part = Part::Clock;
    let off = |millis: u64, how: &str| {
        let says = format!(
            "this machine's clock is {}.{} s {how} AWS's",
            millis / 1_000,
            millis % 1_000 / 100
        );
        if millis < CLOCK_TOLERANCE_MS {
            return Finding::notice(PART, says);
        }
        Finding::problem(PART, says, "set it (NTP): first codes of devices are decided by it")
    };
    match found {
        None => Finding::problem(PART, "no answer of AWS had a date", "run it again"),
        Some(ClockFound::Right | ClockFound::Behind(..CLOCK_IS_RIGHT_MS) | ClockFound::Ahead(..CLOCK_IS_RIGHT_MS)) => {
            Finding::well(
                PART,
                "this machine's clock is right, as far as answers with whole seconds show",
            )
        }
        Some(ClockFound::Behind(millis)) => off(millis, "behind"),
        Some(ClockFound::Ahead(millis)) => off(millis, "ahead of"),
    }
}

#[cfg(test)]
mod tests;

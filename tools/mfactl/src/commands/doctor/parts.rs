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
    let events = format!("aws cloudformation describe-stack-events --stack-name {name} says what failed; deploy again");
    let mut findings = vec![match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" => Finding::well(PART, format!("{name}: {status}")),
        "UPDATE_ROLLBACK_COMPLETE" => Finding::notice(
            PART,
            format!("{name}: the last update failed and was undone ({status})"),
        ),
        _ if status.ends_with("_IN_PROGRESS") => Finding::notice(
            PART,
            format!("{name} is being changed ({status}): look again when that is over"),
        ),
        _ => Finding::problem(PART, format!("{name}: {status}"), events),
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
            "restore it (docs/operations.md, Restore)"
        } else {
            "deploy under another stack name, or put the table back as template.yaml has it: nobody can sign in"
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
    match (of_devices, table.ttl.as_deref()) {
        (true, Some(attribute)) => problem(format!("{name} deletes devices by {attribute}"), ttl(false, attribute)),
        (false, None) => problem(
            format!("{name} keeps every authId for ever: TTL is off"),
            ttl(true, EXPIRES_AT),
        ),
        (false, Some(attribute)) if attribute != EXPIRES_AT => problem(
            format!("{name} deletes authIds by {attribute}, which they do not have"),
            format!(
                "{}; when that is done, {}",
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
        let mend = "nobody can sign in: remove the stack and deploy it again; devices and their secrets stay";
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

pub(super) fn without_token(status: u16) -> Finding {
    match status {
        401 => Finding::well(Part::Api, "refuses a call without a token (401)"),
        403 => Finding::problem(
            Part::Api,
            "refuses a call without a token with 403, which is not the gateway's own answer",
            "a firewall, or another API, answers there: give --api-url if the API has a domain of its own",
        ),
        _ => Finding::problem(
            Part::Api,
            format!("answers {status} to a call without a token, not 401"),
            "is it this API? If it is, what is deployed differs from what is configured: aws apigateway create-deployment; give \
             --api-url if the API has a domain of its own",
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
             ScopeName=authenticate,ScopeDescription=… (update-resource-server if it is there)"
        );
        findings.push(Finding::problem(
            PART,
            format!("the user pool does not know the scope {SCOPE}"),
            mend,
        ));
    }
    if stack.is_on("Protect") && !pool.protected {
        let mend = "deploy with Protect=false, then with Protect=true: CloudFormation sets it when it changes";
        let says = "the user pool is not protected from deletion";
        findings.push(Finding::problem(PART, says, mend));
    }
    findings
}

pub(super) fn no_token_url(error: &ClientError) -> Finding {
    let mend = "aws cognito-idp create-user-pool-domain, or --token-url if tokens are given elsewhere";
    Finding::problem(Part::Clients, format!("no tokens: {error}"), mend)
}

pub(super) fn clients(clients: &[(ClientId, Vec<String>)]) -> Finding {
    let (with, without): (Vec<_>, Vec<_>) = clients
        .iter()
        .partition(|(_, scopes)| scopes.iter().any(|scope| scope == SCOPE));
    if with.is_empty() {
        let says = "no client may ask for the scope mfa/authenticate, so nobody can authenticate";
        return Finding::problem(Part::Clients, says, "mfactl client add NAME --secret-file FILE");
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
                "put it back by its name, as template.yaml has it; without it no rollout is stopped"
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
        let says = format!("{} no one to tell: no AlarmTopicArn", has(silent));
        findings.push(if stack.is_on("Protect") {
            Finding::problem(
                PART,
                says,
                "deploy with AlarmTopicArn=<the ARN of an SNS topic that somebody reads>",
            )
        } else {
            Finding::notice(PART, says)
        });
    }
    if !stack.is_on("Watch") {
        let says = "guessing, seed failures, latency and throttles are not watched (Watch=false)";
        findings.push(Finding::notice(PART, says));
    }
    if findings.is_empty() {
        findings.push(Finding::well(
            PART,
            format!("{} somebody to tell, and none rings", has(expected.len())),
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
        Some(ClockFound::Right) => Finding::well(
            PART,
            "this machine's clock is right, as far as answers with whole seconds show",
        ),
        Some(ClockFound::Behind(millis)) => off(millis, "behind"),
        Some(ClockFound::Ahead(millis)) => off(millis, "ahead of"),
    }
}

#[cfg(test)]
mod tests;

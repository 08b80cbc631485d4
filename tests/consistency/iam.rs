//! The policies of `docs/iam`, which people paste: compared with the calls that the code makes and with what the template
//! creates. Nothing is called.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use acceptance::Outcome;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::documents::{files, root};

const OPERATIONS: &str = include_str!("../../docs/operations.md");
/// What AWS takes for a managed policy, without white space.
const LONGEST: usize = 6_144;
/// The policies of those who use `mfactl`.
const OPERATORS: [&str; 5] = [
    "operator-devices",
    "operator-keys",
    "operator-clients",
    "doctor",
    "doctor-fix",
];
/// Calls of the SDK in the code of `mfactl` and in the adapters that it uses, with the action that each needs.
const ACTIONS: [(&str, &str); 31] = [
    ("add_user_pool_client_secret", "cognito-idp:AddUserPoolClientSecret"),
    ("create_secret", "secretsmanager:CreateSecret"),
    ("create_user_pool_client", "cognito-idp:CreateUserPoolClient"),
    ("delete_item", "dynamodb:DeleteItem"),
    ("delete_secret", "secretsmanager:DeleteSecret"),
    ("delete_user_pool_client", "cognito-idp:DeleteUserPoolClient"),
    (
        "delete_user_pool_client_secret",
        "cognito-idp:DeleteUserPoolClientSecret",
    ),
    ("describe_alarms", "cloudwatch:DescribeAlarms"),
    ("describe_continuous_backups", "dynamodb:DescribeContinuousBackups"),
    ("describe_resource_server", "cognito-idp:DescribeResourceServer"),
    ("describe_secret", "secretsmanager:DescribeSecret"),
    ("describe_stacks", "cloudformation:DescribeStacks"),
    ("describe_table", "dynamodb:DescribeTable"),
    ("describe_time_to_live", "dynamodb:DescribeTimeToLive"),
    ("describe_user_pool", "cognito-idp:DescribeUserPool"),
    ("describe_user_pool_client", "cognito-idp:DescribeUserPoolClient"),
    ("get_authorizers", "apigateway:GET"),
    ("get_item", "dynamodb:GetItem"),
    ("get_resources", "apigateway:GET"),
    ("get_secret_value", "secretsmanager:GetSecretValue"),
    ("list_secrets", "secretsmanager:ListSecrets"),
    ("list_stack_resources", "cloudformation:ListStackResources"),
    ("list_user_pool_client_secrets", "cognito-idp:ListUserPoolClientSecrets"),
    ("list_user_pool_clients", "cognito-idp:ListUserPoolClients"),
    ("put_item", "dynamodb:PutItem"),
    ("put_secret_value", "secretsmanager:PutSecretValue"),
    ("query", "dynamodb:Query"),
    ("restore_secret", "secretsmanager:RestoreSecret"),
    ("scan", "dynamodb:Scan"),
    ("update_item", "dynamodb:UpdateItem"),
    ("update_secret_version_stage", "secretsmanager:UpdateSecretVersionStage"),
];
/// Methods that begin like calls of the SDK and are none.
const OTHERS: [&str; 10] = [
    "batch_id",
    "get_arguments",
    "get_id",
    "get_mut",
    "get_subcommands",
    "list_seeds",
    "tag_name",
    "get_matches",
    "get_or_init",
    "get_name",
];
/// How calls of the SDK begin.
const VERBS: [&str; 13] = [
    "add_",
    "batch_",
    "create_",
    "delete_",
    "describe_",
    "get_",
    "list_",
    "put_",
    "restore_",
    "tag_",
    "transact_",
    "untag_",
    "update_",
];

struct Policy {
    name: String,
    text: String,
    statements: Vec<Value>,
}

impl Policy {
    fn texts<'a>(statement: &'a Value, member: &str) -> Vec<&'a str> {
        match &statement[member] {
            Value::String(one) => vec![one],
            many => many
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect(),
        }
    }

    /// The actions of the statements with an effect.
    fn actions(&self, effect: &str) -> BTreeSet<&str> {
        let statements = self.statements.iter().filter(|statement| statement["Effect"] == effect);
        statements
            .flat_map(|statement| Self::texts(statement, "Action"))
            .collect()
    }
}

fn policies() -> Result<BTreeMap<String, Policy>> {
    let mut found = BTreeMap::new();
    for path in files(&root()?.join("docs/iam"), "json")? {
        let name = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .context("a name")?
            .to_owned();
        let text = fs::read_to_string(&path)?;
        let document: Value = serde_json::from_str(&text).with_context(|| name.clone())?;
        assert_eq!(document.pointer("/Version"), Some(&Value::from("2012-10-17")), "{name}");
        let statements = document
            .pointer("/Statement")
            .and_then(Value::as_array)
            .context("no statements")?
            .clone();
        found.insert(name.clone(), Policy { name, text, statements });
    }
    ensure!(found.len() == OPERATORS.len() + 2, "policies without a test");
    Ok(found)
}

fn policy<'a>(policies: &'a BTreeMap<String, Policy>, name: &str) -> Result<&'a Policy> {
    policies.get(name).with_context(|| format!("no docs/iam/{name}.json"))
}

/// The calls of the Rust files below a folder, its tests left out.
fn calls_below(folder: &str) -> Result<BTreeSet<String>> {
    let mut calls = BTreeSet::new();
    for path in files(&root()?.join(folder), "rs")? {
        let below = path.strip_prefix(root()?)?;
        // The last is the functions' own: no operator calls it.
        let left_out = ["tests", "tests.rs", "testing", "auths.rs"];
        if below.iter().any(|part| left_out.iter().any(|name| part == *name)) {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        for piece in text.split('.').skip(1) {
            let method = piece
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .next()
                .unwrap_or_default();
            let called = piece.get(method.len()..).is_some_and(|rest| rest.starts_with("()"));
            let like_a_call =
                method == "query" || method == "scan" || VERBS.iter().any(|verb| method.starts_with(verb));
            if called && like_a_call && !OTHERS.contains(&method) {
                calls.insert(method.to_owned());
            }
        }
    }
    Ok(calls)
}

#[test]
fn every_policy_can_be_pasted_and_is_documented() -> Outcome {
    for Policy { name, text, statements } in policies()?.values() {
        let length = text.chars().filter(|c| !c.is_whitespace()).count();
        assert!(length <= LONGEST, "{name}: {length}");
        let sids: BTreeSet<&str> = statements
            .iter()
            .filter_map(|statement| statement["Sid"].as_str())
            .collect();
        assert_eq!(sids.len(), statements.len(), "{name}");
        for statement in statements {
            let sid = &statement["Sid"];
            for action in Policy::texts(statement, "Action") {
                let (service, action) = action
                    .split_once(':')
                    .with_context(|| format!("{name} {sid}: {action}"))?;
                assert!(!service.contains('*') && action != "*", "{name} {sid}");
            }
            let resources = Policy::texts(statement, "Resource");
            assert!(!resources.is_empty(), "{name} {sid}");
            for resource in resources {
                assert!(
                    resource == "*" || resource.starts_with("arn:aws:"),
                    "{name} {sid}: {resource}"
                );
            }
        }
        assert!(
            OPERATIONS.contains(&format!("iam/{name}.json")),
            "docs/operations.md does not name {name}"
        );
    }
    Ok(())
}

#[test]
fn the_policies_of_operators_are_what_the_code_calls() -> Outcome {
    let mut calls = calls_below("tools/mfactl/src")?;
    calls.extend(calls_below("shared/src/aws")?);
    let known: BTreeMap<&str, &str> = ACTIONS.into_iter().collect();
    let listed: BTreeSet<String> = known.keys().map(ToString::to_string).collect();
    assert_eq!(calls, listed, "calls in the code, and those that have an action here");

    let policies = policies()?;
    let mut allowed = BTreeSet::new();
    for name in OPERATORS {
        allowed.extend(policy(&policies, name)?.actions("Allow"));
    }
    // `CreateSecret` with tags needs it.
    let tags = "secretsmanager:TagResource";
    assert_eq!(
        allowed,
        known.values().copied().chain([tags]).collect(),
        "docs/iam/operator-*.json and doctor*.json"
    );
    Ok(())
}

#[test]
fn only_those_who_register_devices_read_seeds_and_no_one_removes_them_for_good() -> Outcome {
    for (name, policy) in policies()? {
        let mut reads_seeds = false;
        let (mut removes, mut denies) = (false, false);
        for statement in &policy.statements {
            let of_seeds = Policy::texts(statement, "Resource")
                .iter()
                .any(|resource| resource.ends_with(":mfa/seed/*"));
            let actions = Policy::texts(statement, "Action");
            let allows = statement["Effect"] == "Allow" && of_seeds;
            reads_seeds |= allows && actions.contains(&"secretsmanager:GetSecretValue");
            removes |= allows && actions.contains(&"secretsmanager:DeleteSecret");
            denies |= statement["Effect"] == "Deny"
                && statement["Condition"]["Bool"]["secretsmanager:ForceDeleteWithoutRecovery"] == "true";
        }
        assert_eq!(reads_seeds, name == "operator-devices", "{name}");
        assert_eq!(removes, denies, "{name}");
        // Together with the table, the key ring is every sealed seed.
        let reads_keys = policy.statements.iter().any(|statement| {
            let of_keys = Policy::texts(statement, "Resource")
                .iter()
                .any(|resource| resource.ends_with(":KeyRing-*"));
            let reads = Policy::texts(statement, "Action").contains(&"secretsmanager:GetSecretValue");
            statement["Effect"] == "Allow" && of_keys && reads
        });
        let may = ["operator-devices", "operator-keys", "doctor"];
        assert_eq!(reads_keys, may.contains(&name.as_str()), "{name}");
    }
    let policies = policies()?;
    let denied = policy(&policies, "auditor")?.actions("Deny");
    for action in [
        "secretsmanager:GetSecretValue",
        "dynamodb:Scan",
        "cognito-idp:DescribeUserPoolClient",
    ] {
        assert!(denied.contains(action), "{action}");
    }
    Ok(())
}

#[test]
fn whoever_deploys_may_create_everything_in_the_template() -> Outcome {
    let template = local::template::document()?;
    let policies = policies()?;
    let allowed = policy(&policies, "deployer")?.actions("Allow");
    let resources = template["Resources"].as_object().context("no resources")?;
    // SAM adds these.
    let types = ["AWS::Lambda::Function", "AWS::CodeDeploy::DeploymentGroup"];
    let types: BTreeSet<&str> = resources
        .values()
        .filter_map(|resource| resource["Type"].as_str())
        .chain(types)
        .collect();
    for kind in types {
        let service = kind.split("::").nth(1).unwrap_or_default();
        let prefix = match service {
            "Serverless" => continue,
            "Cognito" => "cognito-idp",
            "WAFv2" => "wafv2",
            "IAM" | "DynamoDB" | "SecretsManager" | "CloudWatch" | "Logs" | "ApiGateway" | "Lambda" | "CodeDeploy" => {
                service
            }
            _ => anyhow::bail!("{kind}: which service is it?"),
        };
        let prefix = prefix.to_ascii_lowercase();
        let creates = ["Create", "Put", "POST", "Associate"].iter().any(|verb| {
            let action = format!("{prefix}:{verb}");
            allowed.iter().any(|allowed| allowed.starts_with(&action))
        });
        assert!(creates, "docs/iam/deployer.json cannot create {kind}");
    }
    // CloudFormation names a secret after its resource.
    for (name, resource) in resources {
        let needed = match resource["Type"].as_str() {
            Some("AWS::SecretsManager::Secret") => (name.as_str(), "secretsmanager:CreateSecret"),
            Some("AWS::SecretsManager::ResourcePolicy") => ("KeyRing", "secretsmanager:*ResourcePolicy"),
            _ => continue,
        };
        let granted = policy(&policies, "deployer")?.statements.iter().any(|statement| {
            let resources = Policy::texts(statement, "Resource");
            let names_it = resources.iter().any(|arn| arn.ends_with(&format!(":{}-*", needed.0)));
            statement["Effect"] == "Allow" && names_it && Policy::texts(statement, "Action").contains(&needed.1)
        });
        assert!(
            granted,
            "docs/iam/deployer.json does not allow {} of {}",
            needed.1, needed.0
        );
    }
    Ok(())
}

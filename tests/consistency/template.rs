//! `template.yaml` compared with the code: routes, permissions, names, ranges, answers.
//!
//! `tests/template/check` validates the template; these tests check that it deploys the right thing.

use std::collections::{BTreeMap, BTreeSet};

use acceptance::{Outcome, World};
use anyhow::{Context as _, Result, bail, ensure};
use local::template::document as template;
use serde_json::{Map, Value, json};
use shared::aws::sealing::KeyRing;
use shared::config::{self, ConfigError, InitAuthConfig, ManageDevicesConfig, ServiceConfig, ValidateOtpConfig};
use shared::http::caller::{DEVICES_SCOPE, SCOPE};
use shared::http::error::Code;
use shared::otpauth::Issuer;
use shared::policy::{Policy, PolicyError};

const OPERATIONS: &str = include_str!("../../docs/operations.md");
const ARCHITECTURE: &str = include_str!("../../docs/architecture.md");

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is not text"))
}

fn entries(value: &Value) -> Result<&Map<String, Value>> {
    value.as_object().with_context(|| format!("{value} is not a mapping"))
}

fn items(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().with_context(|| format!("{value} is not a list"))
}

/// One text, or a list of them.
fn texts(value: &Value) -> Result<Vec<String>> {
    match value {
        Value::String(one) => Ok(vec![one.clone()]),
        list => items(list)?.iter().map(|item| Ok(text(item)?.to_owned())).collect(),
    }
}

/// The value at a path; `null` if there is none.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or(&Value::Null)
}

/// Name and resource of every resource of a type.
fn of_type<'a>(template: &'a Value, wanted: &str) -> Result<Vec<(&'a str, &'a Value)>> {
    Ok(entries(at(template, "/Resources"))?
        .iter()
        .filter(|(_, resource)| at(resource, "/Type") == wanted)
        .map(|(name, resource)| (name.as_str(), resource))
        .collect())
}

/// The function that is built from a binary, by name and resource.
fn function<'a>(template: &'a Value, binary: &str) -> Result<(&'a str, &'a Value)> {
    of_type(template, "AWS::Serverless::Function")?
        .into_iter()
        .find(|(_, function)| at(function, "/Metadata/BuildProperties/Binary") == binary)
        .with_context(|| format!("no function is built from {binary}"))
}

/// Visits a value and everything in it, depth first.
fn walk<'a>(value: &'a Value, visit: &mut dyn FnMut(&'a Value)) {
    visit(value);
    match value {
        Value::Array(list) => list.iter().for_each(|item| walk(item, visit)),
        Value::Object(map) => map.values().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

/// The statements of a role by their Sid, conditional ones included.
fn statements<'a>(template: &'a Value, role: &str) -> Result<BTreeMap<&'a str, &'a Value>> {
    let mut found = BTreeMap::new();
    for policy in items(at(template, &format!("/Resources/{role}/Properties/Policies")))? {
        let mut statements = 0;
        walk(at(policy, "/PolicyDocument/Statement"), &mut |value| {
            if value.get("Action").is_some() {
                statements += 1;
                if let Some(sid) = at(value, "/Sid").as_str() {
                    found.insert(sid, value);
                }
            }
        });
        ensure!(
            statements == found.len(),
            "{role}: a statement has no Sid, or two have the same"
        );
    }
    Ok(found)
}

/// A text of API Gateway with its `$context` variables replaced, and the names of those variables.
fn fill_in(template: &str, value: impl Fn(&str) -> String) -> (String, BTreeSet<String>) {
    let mut pieces = template.split("$context.");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    let mut used = BTreeSet::new();
    for piece in pieces {
        let end = piece
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_'))
            .unwrap_or(piece.len());
        let (name, rest) = piece.split_at(end);
        text.push_str(&value(name));
        text.push_str(rest);
        used.insert(name.to_owned());
    }
    (text, used)
}

#[test]
fn the_api_has_these_methods_each_with_the_authorizer_and_its_scope() -> Outcome {
    let template = template()?;
    let mut methods = Vec::new();
    for (name, function) in of_type(&template, "AWS::Serverless::Function")? {
        for (_, event) in entries(&function["Properties"]["Events"])? {
            assert_eq!(
                (&event["Type"], &event["Properties"]["RestApiId"]),
                (&json!("Api"), &json!({ "Ref": "Api" })),
                "{name}"
            );
            let event = &event["Properties"];
            let binary = text(&function["Metadata"]["BuildProperties"]["Binary"])?;
            let scope = if binary == "manage-devices" {
                DEVICES_SCOPE
            } else {
                SCOPE
            };
            assert_eq!(
                event["Auth"],
                json!({ "Authorizer": "Cognito", "AuthorizationScopes": [scope] }),
                "{name}"
            );
            methods.push((text(&event["Method"])?, text(&event["Path"])?, binary));
        }
    }
    let mut expected = [
        ("POST", "/deviceAuthentications", "init-auth"),
        ("POST", "/deviceAuthentications/{authId}", "validate-otp"),
        ("POST", "/users/{userName}/mfadevices", "manage-devices"),
        ("POST", "/users/{userName}/mfadevices/{authId}", "manage-devices"),
        ("GET", "/users/{userName}/mfadevices", "manage-devices"),
        (
            "DELETE",
            "/users/{userName}/mfadevices/TOTP/{deviceName}",
            "manage-devices",
        ),
    ];
    // The order of a map depends on which crates are built together.
    methods.sort_unstable();
    expected.sort_unstable();
    assert_eq!(methods, expected);

    let apis = of_type(&template, "AWS::Serverless::Api")?;
    let [(name, api)] = apis.as_slice() else {
        bail!("{} APIs", apis.len())
    };
    assert_eq!(*name, "Api");
    let api = &api["Properties"];
    assert_eq!(api["AlwaysDeploy"], true);
    assert_eq!(
        api["Auth"],
        json!({
            "DefaultAuthorizer": "Cognito",
            "Authorizers": { "Cognito": { "UserPoolArn": { "Fn::GetAtt": "UserPool.Arn" } } },
        })
    );
    // Nothing else that could define a method.
    for name in ["DefinitionBody", "DefinitionUri", "Models", "Cors"] {
        assert!(api.get(name).is_none(), "{name}");
    }
    Ok(())
}

#[test]
fn clients_can_have_both_scopes_and_the_first_client_has_that_of_a_sign_in() -> Outcome {
    let template = template()?;
    let mut defined = Vec::new();
    for (_, server) in of_type(&template, "AWS::Cognito::UserPoolResourceServer")? {
        for scope in items(&server["Properties"]["Scopes"])? {
            defined.push(format!(
                "{}/{}",
                text(&server["Properties"]["Identifier"])?,
                text(&scope["ScopeName"])?
            ));
        }
    }
    assert_eq!(defined, [SCOPE, DEVICES_SCOPE]);
    for (name, client) in of_type(&template, "AWS::Cognito::UserPoolClient")? {
        let client = &client["Properties"];
        assert_eq!(client["AllowedOAuthScopes"], json!([SCOPE]), "{name}");
        assert_eq!(client["AllowedOAuthFlows"], json!(["client_credentials"]), "{name}");
        assert_eq!(client["GenerateSecret"], true, "{name}");
    }
    Ok(())
}

#[test]
fn each_function_has_its_own_role_with_exactly_the_actions_that_it_needs() -> Outcome {
    let template = template()?;
    let seeds = json!({ "Fn::Sub": "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:${AWS::StackName}/seed/*" });
    let ring = json!({ "Fn::If": ["HasOwnKeyRing", { "Ref": "KeyRing" }, { "Ref": "ExistingKeyRing" }] });
    let attribute = |name: &str| json!({ "Fn::GetAtt": name });
    let restored = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${ExistingDevicesTable}";
    let devices = json!({ "Fn::If": ["HasOwnDevicesTable", attribute("Devices.Arn"), { "Fn::Sub": restored }] });
    let logs = json!(["logs:CreateLogStream", "logs:PutLogEvents"]);
    let traces = json!(["xray:PutTraceSegments", "xray:PutTelemetryRecords"]);
    let init_auth = [
        ("CreateAuths", json!("dynamodb:PutItem"), attribute("Auths.Arn")),
        ("ReadDevices", json!("dynamodb:GetItem"), devices.clone()),
        ("Trace", traces.clone(), json!("*")),
        ("UseTableKey", json!("kms:Decrypt"), json!({ "Ref": "TableKey" })),
        ("WriteLog", logs.clone(), attribute("InitAuthLog.Arn")),
    ];
    let validate_otp = [
        ("DecideAboutDevices", json!("dynamodb:UpdateItem"), devices.clone()),
        ("DecryptSeeds", json!("kms:Decrypt"), json!({ "Ref": "SeedKey" })),
        (
            "ReadAuthsAndDevices",
            json!("dynamodb:GetItem"),
            json!([attribute("Auths.Arn"), devices.clone()]),
        ),
        ("ReadKeyRing", json!("secretsmanager:GetSecretValue"), ring.clone()),
        ("ReadSeeds", json!("secretsmanager:GetSecretValue"), seeds.clone()),
        ("Trace", traces.clone(), json!("*")),
        ("UseTableKey", json!("kms:Decrypt"), json!({ "Ref": "TableKey" })),
        ("WriteLog", logs.clone(), attribute("ValidateOtpLog.Arn")),
    ];
    let manage_devices = [
        (
            "CreateAndReadActivations",
            json!(["dynamodb:GetItem", "dynamodb:PutItem"]),
            attribute("Auths.Arn"),
        ),
        (
            "EncryptAndDecryptSeeds",
            json!(["kms:GenerateDataKey", "kms:Decrypt"]),
            json!({ "Ref": "SeedKey" }),
        ),
        (
            "KeepRemovedSeedsRecoverable",
            json!("secretsmanager:DeleteSecret"),
            seeds.clone(),
        ),
        (
            "ManageDevices",
            json!([
                "dynamodb:GetItem",
                "dynamodb:Query",
                "dynamodb:PutItem",
                "dynamodb:UpdateItem",
                "dynamodb:DeleteItem"
            ]),
            devices,
        ),
        (
            "ManageSeeds",
            json!([
                "secretsmanager:CreateSecret",
                "secretsmanager:TagResource",
                "secretsmanager:GetSecretValue",
                "secretsmanager:DescribeSecret",
                "secretsmanager:DeleteSecret"
            ]),
            seeds,
        ),
        ("ReadKeyRing", json!("secretsmanager:GetSecretValue"), ring),
        ("Trace", traces, json!("*")),
        ("UseTableKey", json!("kms:Decrypt"), json!({ "Ref": "TableKey" })),
        ("WriteLog", logs, attribute("ManageDevicesLog.Arn")),
    ];
    for (binary, role, expected) in [
        ("init-auth", "InitAuthRole", init_auth.as_slice()),
        ("validate-otp", "ValidateOtpRole", validate_otp.as_slice()),
        ("manage-devices", "ManageDevicesRole", manage_devices.as_slice()),
    ] {
        let (_, function) = function(&template, binary)?;
        assert_eq!(
            function["Properties"]["Role"],
            json!({ "Fn::GetAtt": format!("{role}.Arn") })
        );
        let found: Vec<_> = statements(&template, role)?
            .into_iter()
            .map(|(sid, statement)| (sid, statement["Action"].clone(), statement["Resource"].clone()))
            .collect();
        assert_eq!(found, expected, "{role}");
        for (sid, statement) in statements(&template, role)? {
            let denied = sid == "KeepRemovedSeedsRecoverable";
            assert_eq!(
                statement["Effect"],
                if denied { "Deny" } else { "Allow" },
                "{role} {sid}"
            );
        }
        let role = &template["Resources"][role]["Properties"];
        assert_eq!(
            role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"],
            json!({ "Service": "lambda.amazonaws.com" })
        );
        assert!(role.get("ManagedPolicyArns").is_none(), "{binary}");
    }
    Ok(())
}

#[test]
fn manage_devices_reaches_no_auth_of_a_sign_in_and_destroys_no_seed() -> Outcome {
    let template = template()?;
    let statements = statements(&template, "ManageDevicesRole")?;
    let condition = |sid: &str| Some(statements.get(sid)?["Condition"].clone());
    assert_eq!(
        condition("CreateAndReadActivations"),
        Some(json!({
            "ForAllValues:StringLike": { "dynamodb:LeadingKeys": ["activation/*"] },
            "Null": { "dynamodb:LeadingKeys": "false" },
        }))
    );
    assert_eq!(
        condition("KeepRemovedSeedsRecoverable"),
        Some(json!({ "Bool": { "secretsmanager:ForceDeleteWithoutRecovery": "true" } }))
    );
    Ok(())
}

#[test]
fn keys_open_only_through_the_service_whose_data_they_protect() -> Outcome {
    let template = template()?;
    for (role, sid, service) in [
        ("InitAuthRole", "UseTableKey", "dynamodb"),
        ("ValidateOtpRole", "UseTableKey", "dynamodb"),
        ("ValidateOtpRole", "DecryptSeeds", "secretsmanager"),
        ("ManageDevicesRole", "UseTableKey", "dynamodb"),
        ("ManageDevicesRole", "EncryptAndDecryptSeeds", "secretsmanager"),
    ] {
        let statements = statements(&template, role)?;
        let statement = statements.get(sid).with_context(|| format!("{role} has no {sid}"))?;
        assert_eq!(
            statement["Condition"]["StringEquals"]["kms:ViaService"],
            json!({ "Fn::Sub": format!("{service}.${{AWS::Region}}.${{AWS::URLSuffix}}") })
        );
    }
    Ok(())
}

/// `CloudFormation` writes the text of a generated secret anew when its block changes: over a ring that was rotated, which
/// would be the loss of every sealed seed.
#[test]
fn the_key_ring_is_generated_as_it_always_was_and_is_hard_to_lose() -> Outcome {
    let template = template()?;
    let ring = &template["Resources"]["KeyRing"];
    let generated = json!({
        "SecretStringTemplate": "{\"format\":1,\"previous\":[]}",
        "GenerateStringKey": "current",
        "PasswordLength": 64,
        "ExcludePunctuation": true,
    });
    assert_eq!(ring["Properties"]["GenerateSecretString"], generated);
    assert!(
        ring["Properties"].get("Name").is_none(),
        "a kept one would be in the way of the next stack"
    );
    for name in ["KeyRing", "KeyRingPolicy"] {
        let resource = &template["Resources"][name];
        let kept = [
            &resource["DeletionPolicy"],
            &resource["UpdateReplacePolicy"],
            &resource["Condition"],
        ];
        assert_eq!(kept, ["RetainExceptOnCreate", "Retain", "HasOwnKeyRing"], "{name}");
    }
    let policy = &template["Resources"]["KeyRingPolicy"]["Properties"];
    assert_eq!(policy["SecretId"], json!({ "Ref": "KeyRing" }));
    let statement = &policy["ResourcePolicy"]["Statement"][0];
    assert_eq!(
        (&statement["Effect"], &statement["Principal"]),
        (&json!("Deny"), &json!("*"))
    );
    assert_eq!(
        statement["Condition"],
        json!({ "Bool": { "secretsmanager:ForceDeleteWithoutRecovery": "true" } })
    );
    // What CloudFormation makes of the block is a ring: a key of that many letters and digits, as that member of the text.
    let generated = &ring["Properties"]["GenerateSecretString"];
    let made = generated["SecretStringTemplate"].as_str().context("no template")?;
    let mut made: serde_json::Map<String, Value> = serde_json::from_str(made)?;
    let length = usize::try_from(generated["PasswordLength"].as_u64().context("no length")?)?;
    let member = generated["GenerateStringKey"].as_str().context("no key")?;
    made.insert(
        member.to_owned(),
        "A1b2C3d4".chars().cycle().take(length).collect::<String>().into(),
    );
    KeyRing::parse(&Value::Object(made).to_string())?;
    Ok(())
}

#[test]
fn no_permission_has_a_wildcard_and_none_comes_from_a_policy_template() -> Outcome {
    let template = template()?;
    for (name, function) in of_type(&template, "AWS::Serverless::Function")? {
        assert!(function["Properties"].get("Policies").is_none(), "{name}");
    }
    assert!(template["Globals"]["Function"].get("Policies").is_none());
    let mut checked = 0;
    for (name, resource) in entries(&template["Resources"])? {
        let mut found = Vec::new();
        walk(resource, &mut |value| {
            if value.get("Effect").is_some() {
                found.push(value);
            }
        });
        for statement in found {
            let sid = statement["Sid"].as_str().unwrap_or_default();
            for action in texts(&statement["Action"])? {
                assert!(!action.contains('*'), "{name} {sid}: {action}");
            }
            walk(&statement["Resource"], &mut |value| {
                if let Some(resource) = value.as_str() {
                    checked += 1;
                    let allowed = !resource.contains('*')
                        || sid == "Trace"
                        || resource.strip_suffix("/seed/*").is_some_and(|rest| !rest.contains('*'));
                    assert!(allowed, "{name} {sid}: {resource}");
                }
            });
        }
    }
    assert!(checked >= 10, "{checked}");
    Ok(())
}

#[tokio::test]
async fn auths_and_activations_are_deleted_by_the_attribute_that_the_functions_write() -> Outcome {
    let template = template()?;
    let ttl = &template["Resources"]["Auths"]["Properties"]["TimeToLiveSpecification"];
    assert_eq!(ttl["Enabled"], true);
    let attribute = text(&ttl["AttributeName"])?;
    assert!(
        template["Resources"]["Devices"]["Properties"]
            .get("TimeToLiveSpecification")
            .is_none()
    );

    let world = World::new().await?;
    world.start().await?;
    let stores = world.stack.stores();
    let clients = stores.clients();
    let found = clients.dynamodb.scan().table_name("Auths").send().await?;
    // Those of registrations have keys of their own, which the role of manage-devices is limited to.
    let keys = found.items().iter().filter_map(|auth| auth.get("pk")?.as_s().ok());
    let (activations, auths): (Vec<_>, Vec<_>) = keys.partition(|key| key.starts_with("activation/"));
    assert!(!activations.is_empty() && !auths.is_empty());
    for auth in found.items() {
        // TTL needs a number of seconds.
        let at = auth
            .get(attribute)
            .and_then(|value| value.as_n().ok())
            .context("no such number")?;
        assert_eq!(at.len(), "1764039600".len(), "{at}");
    }
    world.end().await;
    Ok(())
}

#[test]
fn each_function_gets_exactly_the_variables_that_it_reads() -> Outcome {
    let template = template()?;
    for (binary, read) in [
        ("init-auth", InitAuthConfig::VARIABLES.as_slice()),
        ("validate-otp", ValidateOtpConfig::VARIABLES.as_slice()),
        ("manage-devices", ManageDevicesConfig::VARIABLES.as_slice()),
    ] {
        let (_, function) = function(&template, binary)?;
        let own = entries(&function["Properties"]["Environment"]["Variables"])?;
        let common = entries(&template["Globals"]["Function"]["Environment"]["Variables"])?;
        let (bundle, amazons_roots) = ("/etc/pki/tls/certs/ca-bundle.crt", json!({ "Ref": "AWS::NoValue" }));
        assert_eq!(
            common["SSL_CERT_FILE"],
            json!({ "Fn::If": ["InPartitionAws", amazons_roots, bundle] })
        );
        let mut set: BTreeSet<&str> = own.keys().chain(common.keys()).map(String::as_str).collect();
        // Libraries read these.
        for variable in ["SSL_CERT_FILE", "GLIBC_TUNABLES"] {
            assert!(set.remove(variable), "{binary}: {variable}");
        }
        let expected = ServiceConfig::VARIABLES.iter().chain(read).copied().collect();
        assert_eq!(set, expected, "{binary}");
    }
    Ok(())
}

/// Settings that every function accepts, with some changed.
fn settings(changes: &[(&str, String)]) -> BTreeMap<String, String> {
    let base = [
        (config::AUTHS_TABLE, "auths"),
        (config::DEVICES_TABLE, "devices"),
        (config::SEED_PREFIX, "mfa"),
        (config::KEY_RING, "mfa-key-ring"),
        (config::DEVICE_HASH_KEY, "0123456789abcdef"),
        (config::ISSUER, "MFA"),
    ];
    let mut source: BTreeMap<String, String> = base
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    source.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    source
}

/// Whether every function accepts these settings, each in its range; what is too weak together is a rule of its own.
fn accepted(changes: &[(&str, String)]) -> bool {
    let source = settings(changes);
    let together = |error| {
        matches!(
            error,
            ConfigError::TooManyDevices(_) | ConfigError::Policy(PolicyError::TooWeak(_))
        )
    };
    let refused = [
        InitAuthConfig::read(&source).err(),
        ValidateOtpConfig::read(&source).err(),
        ManageDevicesConfig::read(&source).err(),
    ];
    refused.into_iter().flatten().all(together)
}

/// The parameter that a variable is set to.
fn parameter_of<'a>(template: &'a Value, variable: &str) -> Result<&'a Value> {
    let mut found = Vec::new();
    let mut scopes = vec![at(template, "/Globals/Function")];
    for (_, function) in of_type(template, "AWS::Serverless::Function")? {
        scopes.push(at(function, "/Properties"));
    }
    for scope in scopes {
        if let Some(value) = scope.pointer(&format!("/Environment/Variables/{variable}/Ref")) {
            found.push(text(value)?);
        }
    }
    // Several functions may read one variable, each from the same parameter.
    found.dedup();
    match found.as_slice() {
        [one] => Ok(at(template, &format!("/Parameters/{one}"))),
        _ => bail!("{variable} is set {} times", found.len()),
    }
}

#[test]
fn the_template_accepts_exactly_the_numbers_that_the_code_accepts() -> Outcome {
    let template = template()?;
    let custom = [
        (config::GUESS_POLICY, "custom".to_owned()),
        (config::GUESS_BURST, "20".to_owned()),
        (config::GUESS_REFILL_HOURS, "36".to_owned()),
        (config::GUESS_PAIR_GAP_SECONDS, "1".to_owned()),
    ];
    for variable in [
        config::AUTH_LIFE_SECONDS,
        config::SEED_CACHE_SECONDS,
        config::GUESS_BURST,
        config::GUESS_REFILL_HOURS,
        config::GUESS_PAIR_GAP_SECONDS,
        config::DEVICES_PER_USER,
        config::UNFINISHED_PER_USER,
        config::REGISTRATION_LIFE_SECONDS,
    ] {
        let parameter = parameter_of(&template, variable)?;
        let number = |name: &str| {
            parameter[name]
                .as_i64()
                .with_context(|| format!("{variable} has no {name}"))
        };
        let (least, most) = (number("MinValue")?, number("MaxValue")?);
        let in_range = |value: i64| {
            let mut changes = custom.to_vec();
            changes.push((variable, value.to_string()));
            accepted(&changes)
        };
        assert!(in_range(least) && in_range(most), "{variable}: {least} to {most}");
        assert!(
            !in_range(least - 1) && !in_range(most + 1),
            "{variable}: not exactly {least} to {most}"
        );
        assert!((least..=most).contains(&number("Default")?), "{variable}");
    }

    let issuer = parameter_of(&template, config::ISSUER)?;
    assert_eq!(issuer["MaxLength"], json!(Issuer::LONGEST));
    assert!(accepted(&[(config::ISSUER, text(&issuer["Default"])?.to_owned())]));

    let policies = parameter_of(&template, config::GUESS_POLICY)?;
    for name in texts(&policies["AllowedValues"])? {
        let mut changes = custom.to_vec();
        changes.push((config::GUESS_POLICY, name.clone()));
        assert!(accepted(&changes), "{name}");
    }
    Ok(())
}

#[test]
fn the_template_has_the_defaults_of_the_code() -> Outcome {
    let template = template()?;
    let default = |variable| Ok::<_, anyhow::Error>(parameter_of(&template, variable)?["Default"].clone());
    let source = settings(&[]);
    let code = InitAuthConfig::read(&source)?;
    assert_eq!(default(config::AUTH_LIFE_SECONDS)?, json!(code.auth_life.as_secs()));
    assert_eq!(
        default(config::SEED_CACHE_SECONDS)?,
        json!(ValidateOtpConfig::read(&source)?.seed_cache.as_secs())
    );
    let devices = ManageDevicesConfig::read(&source)?;
    assert_eq!(default(config::DEVICES_PER_USER)?, json!(devices.limits.devices));
    assert_eq!(default(config::UNFINISHED_PER_USER)?, json!(devices.limits.unfinished));
    assert_eq!(
        default(config::REGISTRATION_LIFE_SECONDS)?,
        json!(devices.registration_life.as_secs())
    );
    assert_eq!(default(config::GUESS_POLICY)?, "standard");
    let number = |variable| -> Result<u32> { Ok(u32::try_from(default(variable)?.as_u64().context("no number")?)?) };
    let of_custom = Policy::custom(
        number(config::GUESS_BURST)?,
        number(config::GUESS_REFILL_HOURS)?,
        number(config::GUESS_PAIR_GAP_SECONDS)?,
    )?;
    assert_eq!(
        (of_custom, code.service.policy),
        (Policy::standard(), Policy::standard())
    );
    Ok(())
}

#[test]
fn every_gateway_response_has_the_error_body_and_the_standard_headers() -> Outcome {
    let template = template()?;
    let responses = entries(&template["Resources"]["Api"]["Properties"]["GatewayResponses"])?;
    assert!(responses.contains_key("DEFAULT_4XX") && responses.contains_key("DEFAULT_5XX"));
    assert_eq!(responses.len(), 21);
    for (name, response) in responses {
        let status = response["StatusCode"]
            .as_u64()
            .with_context(|| format!("{name} has no status"))?;
        let (body, used) = fill_in(text(&response["ResponseTemplates"]["application/json"])?, |_| {
            "JOxK_E8tIAMFQ9w=".to_owned()
        });
        // API Gateway's own messages repeat the request, quotes included; our text is fixed, and no caller can choose the id.
        assert_eq!(used, BTreeSet::from(["extendedRequestId".to_owned()]), "{name}");
        assert!(!body.contains('$') && !body.contains("#set"), "{name}");
        let body: BTreeMap<String, String> = serde_json::from_str(&body).with_context(|| format!("{name}: {body}"))?;
        let members: Vec<_> = body.keys().map(String::as_str).collect();
        assert_eq!(members, ["code", "message", "status", "traceId"], "{name}");
        assert_eq!(body["status"], "FAILED", "{name}");
        let headers = entries(&response["ResponseParameters"]["Headers"])?;
        let mut expected = BTreeMap::from([("Cache-Control", "'no-store'"), ("X-Content-Type-Options", "'nosniff'")]);
        match status {
            401 => expected.insert("WWW-Authenticate", "'Bearer'"),
            429 | 503 => expected.insert("Retry-After", "'1'"),
            _ => None,
        };
        assert_eq!(json!(headers), json!(expected), "{name}");
        assert_eq!(body["traceId"], "JOxK_E8tIAMFQ9w=", "{name}");
        // A code that functions send too has the same meaning there.
        if let Some(code) = Code::ALL.into_iter().find(|code| code.as_str() == body["code"]) {
            assert_eq!(u64::from(code.status().as_u16()), status, "{name}");
        } else {
            assert!(
                ["NOT_FOUND", "TOO_MANY_REQUESTS", "GATEWAY_TIMEOUT"].contains(&body["code"].as_str()),
                "{name}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_access_log_is_valid_json_whatever_is_missing_and_has_no_auth_id() -> Outcome {
    let template = template()?;
    let format = text(&template["Resources"]["Api"]["Properties"]["AccessLogSetting"]["Format"])?;
    let (_, used) = fill_in(format, |_| String::new());
    // A caller can put a quote into none of them, and none shows the request.
    for name in &used {
        let safe = [
            "requestTime",
            "extendedRequestId",
            "httpMethod",
            "resourcePath",
            "status",
            "error.responseType",
            "authorizer.claims.client_id",
            "identity.sourceIp",
            "responseLength",
            "responseLatency",
            "integrationLatency",
            "integration.status",
        ];
        assert!(safe.contains(&name.as_str()), "{name}");
    }
    for value in ["-", "", "200", "/deviceAuthentications/{authId}"] {
        let (line, _) = fill_in(format, |_| value.to_owned());
        let line: BTreeMap<String, String> = serde_json::from_str(&line).with_context(|| line.clone())?;
        assert_eq!(line.len(), used.len());
    }
    Ok(())
}

#[test]
fn no_content_of_a_request_is_traced_into_the_log() -> Outcome {
    let template = template()?;
    let all = items(&template["Resources"]["Api"]["Properties"]["MethodSettings"])?;
    for (index, settings) in all.iter().enumerate() {
        // The device routes have their own, without which they would have those of `*`, content traced or not.
        let (settings, rate, burst) = match settings["Fn::If"].as_array().map(Vec::as_slice) {
            None if index == 0 => (settings, "RequestsPerSecond", "RequestBurst"),
            Some([condition, settings, _]) if condition == "HasDeviceApi" => {
                (settings, "DeviceRequestsPerSecond", "DeviceRequestBurst")
            }
            _ => bail!("unexpected settings {settings}"),
        };
        assert_eq!(
            (&settings["DataTraceEnabled"], &settings["LoggingLevel"]),
            (&json!(false), &json!("OFF"))
        );
        assert_eq!(settings["ThrottlingRateLimit"], json!({ "Ref": rate }));
        assert_eq!(settings["ThrottlingBurstLimit"], json!({ "Ref": burst }));
    }
    for (name, log) in of_type(&template, "AWS::Logs::LogGroup")? {
        assert_eq!(
            log["Properties"]["RetentionInDays"],
            json!({ "Ref": "LogRetentionDays" }),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn metrics_count_reasons_that_the_service_logs() -> Outcome {
    let template = template()?;
    let listed = ARCHITECTURE.split("Reasons:").nth(1).context("no list of reasons")?;
    let listed = listed.split("\n\n").next().unwrap_or_default();
    let reasons: BTreeSet<&str> = listed.split('`').skip(1).step_by(2).collect();
    let mut used = BTreeSet::new();
    for (name, filter) in of_type(&template, "AWS::Logs::MetricFilter")? {
        let pattern = text(&filter["Properties"]["FilterPattern"])?;
        for term in pattern.trim_matches(['{', '}', ' ']).split(" || ") {
            if let Some(reason) = term.strip_prefix("$.reason = ") {
                used.insert(reason.trim_matches('"').to_owned());
            } else {
                assert_eq!(name, "GatewayThrottles", "{term}");
            }
        }
    }
    for (name, rule) in of_type(&template, "AWS::CloudWatch::InsightRule")? {
        let body = &rule["Properties"]["RuleBody"]["Fn::Sub"];
        // A first code counts on the device, too.
        let more = json!({ "Fn::If": ["HasDeviceApi", { "Fn::Sub": ",\"${ManageDevicesLog}\"" }, ""] });
        assert_eq!(body[1], json!({ "More": more }), "{name}");
        let body: Value = serde_json::from_str(&text(&body[0])?.replace("${More}", ""))?;
        assert_eq!(body["LogGroupNames"], json!(["${ValidateOtpLog}"]), "{name}");
        assert_eq!(body["Contribution"]["Keys"], json!(["$.device"]), "{name}");
        for filter in items(&body["Contribution"]["Filters"])? {
            assert_eq!(filter["Match"], "$.reason", "{name}");
            used.extend(texts(&filter["In"])?);
        }
    }
    for reason in &used {
        assert!(reasons.contains(reason.as_str()), "{reason}");
    }
    for reason in ["wrong_pair", "single_codes_gated", "pairs_gated", "seed_unavailable"] {
        assert!(used.contains(reason), "{reason}");
    }
    for reason in ["registered", "activated", "replaced", "removed"] {
        let pattern = text(&template["Resources"]["DeviceChanges"]["Properties"]["FilterPattern"])?;
        assert!(pattern.contains(&format!("$.reason = \"{reason}\"")), "{reason}");
    }
    let body = &template["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"];
    let widgets = &body[1]["DeviceWidgets"]["Fn::If"];
    for (index, count) in [(1, 7), (2, 5)] {
        let own = widgets[index]["Fn::Sub"].as_str().unwrap_or_default();
        let dashboard: Value = serde_json::from_str(&text(&body[0])?.replace("${DeviceWidgets}", own))?;
        assert_eq!(items(&dashboard["widgets"])?.len(), count);
    }
    Ok(())
}

#[test]
fn every_alarm_notifies_the_topic_and_those_that_stop_a_rollout_exist_with_their_function() -> Outcome {
    let template = template()?;
    let topic = json!({ "Fn::If": ["HasAlarmTopic", [{ "Ref": "AlarmTopicArn" }], { "Ref": "AWS::NoValue" }] });
    let alarms = of_type(&template, "AWS::CloudWatch::Alarm")?;
    for (name, alarm) in &alarms {
        assert_eq!(alarm["Properties"]["AlarmActions"], topic, "{name}");
        // Whoever is woken at night is told where to read on.
        let description = text(&alarm["Properties"]["AlarmDescription"])?;
        let (_, section) = description
            .split_once("docs/operations.md, ")
            .with_context(|| format!("{name}: {description}"))?;
        assert!(
            OPERATIONS.contains(&format!("| **{}** |", section.trim_end_matches('.'))),
            "{name}: {section}"
        );
    }
    for (name, function) in of_type(&template, "AWS::Serverless::Function")? {
        let properties = &function["Properties"];
        assert_eq!(
            (
                &properties["AutoPublishAlias"],
                &properties["AutoPublishAliasAllProperties"]
            ),
            (&json!("live"), &json!(true)),
            "{name}"
        );
        let stopping = items(&properties["DeploymentPreference"]["Alarms"])?;
        assert_eq!(stopping.len(), 2, "{name}");
        for alarm in stopping {
            let alarm = text(&alarm["Ref"])?;
            let (_, found) = alarms
                .iter()
                .find(|(other, _)| *other == alarm)
                .with_context(|| format!("no {alarm}"))?;
            let condition = found.get("Condition");
            assert!(condition.is_none() || condition == function.get("Condition"), "{alarm}");
        }
    }
    Ok(())
}

/// How long the value of a parameter can be.
fn longest_value(template: &Value, parameter: &str) -> usize {
    const KEY: &str = "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-1234abcd12ab34cd56ef1234567890ab";
    let parameter = at(template, &format!("/Parameters/{parameter}"));
    let length = |value: &Value| value.as_str().map_or_else(|| value.to_string().len(), str::len);
    let allowed = parameter["AllowedValues"].as_array().into_iter().flatten().map(length);
    let most = parameter["MaxLength"]
        .as_u64()
        .and_then(|most| usize::try_from(most).ok());
    let number = parameter.get("MaxValue").map(length);
    allowed.chain(most).chain(number).max().unwrap_or(KEY.len())
}

#[test]
fn a_parameter_that_changes_a_function_publishes_a_new_version() -> Outcome {
    let template = template()?;
    let globals = &template["Globals"]["Function"];
    for (name, function) in of_type(&template, "AWS::Serverless::Function")? {
        let own = &function["Properties"];
        let mut wanted = BTreeSet::new();
        let mut collect = |value: &Value| {
            walk(value, &mut |value| {
                let of_condition = value["Fn::If"][0].as_str().map(|name| &template["Conditions"][name]);
                for value in [Some(value), of_condition.map(|condition| &condition["Fn::Equals"][0])] {
                    let parameter = value.and_then(|value| value["Ref"].as_str()).unwrap_or_default();
                    if template["Parameters"].get(parameter).is_some() {
                        wanted.insert(parameter.to_owned());
                    }
                }
            });
        };
        // Reserved concurrency is not part of a version.
        for property in ["MemorySize", "Timeout", "Tracing", "Environment", "LoggingConfig"] {
            collect(&globals[property]);
            collect(&own[property]);
        }
        // Too long for a description: a revision stands for them.
        for long in ["ClientOwners", "ExistingDevicesTable"] {
            assert!(wanted.remove(long), "{name}: {long}");
        }
        assert_eq!(wanted.remove("SeedTags"), name == "ManageDevicesFunction");
        assert_eq!(wanted.remove("ExistingKeyRing"), name != "InitAuthFunction");
        wanted.insert("SettingsRevision".to_owned());
        let description = text(&own["VersionDescription"]["Fn::Sub"])?;
        let named: BTreeSet<String> = description
            .split("${")
            .skip(1)
            .filter_map(|piece| Some(piece.split_once('}')?.0.to_owned()))
            .collect();
        assert_eq!(named, wanted, "{name}");
        // Lambda takes 256 characters: with the longest value of each.
        let longest = named.iter().map(|name| (name, longest_value(&template, name)));
        let filled = longest.fold(description.to_owned(), |text, (name, value)| {
            text.replace(&format!("${{{name}}}"), &"x".repeat(value))
        });
        assert!(filled.len() <= 256, "{name}: {}", filled.len());
    }
    Ok(())
}

#[test]
fn outputs_never_show_a_secret() -> Outcome {
    let template = template()?;
    let names: Vec<_> = entries(&template["Outputs"])?.keys().collect();
    for needed in [
        "ApiUrl",
        "TokenUrl",
        "UserPoolId",
        "ClientId",
        "AuthsTable",
        "DevicesTable",
    ] {
        assert!(names.iter().any(|name| *name == needed), "{needed}");
    }
    walk(&template["Outputs"], &mut |value| {
        let text = value.as_str().unwrap_or_default();
        assert!(
            !text.contains("ClientSecret") && !text.contains("DeviceHashKey") && !text.contains("resolve:"),
            "{text}"
        );
    });
    Ok(())
}

#[test]
fn every_exception_from_a_rule_has_a_reason() -> Outcome {
    let template = template()?;
    let mut exceptions = 0;
    for (name, resource) in entries(&template["Resources"])? {
        let metadata = &resource["Metadata"];
        for skip in metadata["checkov"]["skip"].as_array().into_iter().flatten() {
            assert!(text(&skip["comment"])?.len() > 20, "{name} {skip}");
            exceptions += 1;
        }
        let lint = &metadata["cfn-lint"]["config"];
        for rule in lint["ignore_checks"].as_array().into_iter().flatten() {
            assert!(text(&lint["ignore_reasons"][text(rule)?])?.len() > 20, "{name} {rule}");
            exceptions += 1;
        }
    }
    assert!(exceptions > 0);
    Ok(())
}

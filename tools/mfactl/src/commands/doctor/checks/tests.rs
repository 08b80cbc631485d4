//! What is expected of a stack is what `template.yaml` makes.

use super::*;
use crate::ports::stack::Authorizer;

const TEMPLATE: &str = include_str!("../../../../../../template.yaml");
const OPERATIONS: &str = include_str!("../../../../../../docs/operations.md");

/// The template's entries of two spaces' depth, each with its lines.
fn entries(section: &str) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    let lines = TEMPLATE.lines().skip_while(|line| *line != section).skip(1);
    for line in lines.take_while(|line| line.is_empty() || line.starts_with(' ')) {
        match line.strip_prefix("  ").filter(|rest| !rest.starts_with([' ', '#'])) {
            Some(name) => all.push((name.trim_end_matches(':'), Vec::new())),
            None => {
                if let Some((_, lines)) = all.last_mut() {
                    lines.push(line.trim());
                }
            }
        }
    }
    all
}

#[test]
fn every_alarm_of_the_template_is_expected_under_its_condition() {
    let parameters = |lines: &[&str]| -> &[&str] {
        match lines.iter().find_map(|line| line.strip_prefix("Condition: ")) {
            None => &[],
            Some("Watched") => &["Watch"],
            Some("HasDeviceApi") => &["DeviceApi"],
            Some("WatchedDeviceApi") => &["Watch", "DeviceApi"],
            Some(_) => &["a condition that this test does not know"],
        }
    };
    let found: Vec<(&str, &[&str])> = entries("Resources:")
        .into_iter()
        .filter(|(_, lines)| lines.contains(&"Type: AWS::CloudWatch::Alarm"))
        .map(|(name, lines)| (name, parameters(&lines)))
        .collect();
    let expected = ALARMS.map(|(logical, _, parameters)| (logical, parameters));
    assert_eq!(found, expected);
    for (_, heading, _) in ALARMS {
        assert!(OPERATIONS.contains(&format!("| **{heading}** |")), "{heading}");
    }
}

#[test]
fn every_output_and_parameter_that_is_read_is_the_templates() {
    let outputs: Vec<&str> = entries("Outputs:").into_iter().map(|(name, _)| name).collect();
    for output in OUTPUTS {
        assert!(outputs.contains(&output), "{output}");
    }
    let parameters: Vec<&str> = entries("Parameters:").into_iter().map(|(name, _)| name).collect();
    for parameter in [
        "Protect",
        "Watch",
        "DeviceApi",
        "GuessPolicy",
        "GuessBurst",
        "GuessRefillHours",
        "GuessPairGapSeconds",
        "SeedKey",
        "AlarmTopicArn",
    ] {
        assert!(parameters.contains(&parameter), "{parameter}");
    }
}

#[test]
fn routes_scope_and_attributes_are_the_templates() {
    let resources = entries("Resources:");
    let has = |line: &str| resources.iter().filter(|(_, lines)| lines.contains(&line)).count();
    let lines: Vec<&str> = TEMPLATE.lines().map(str::trim).collect();
    for (routes, scope) in [
        (SIGN_IN_ROUTES.as_slice(), SCOPE),
        (DEVICE_ROUTES.as_slice(), DEVICES_SCOPE),
    ] {
        for (verb, path) in routes {
            let written = [format!("Path: {path}"), format!("Method: {verb}")];
            let found = lines.windows(2).filter(|pair| *pair == written).count();
            assert_eq!(found, 1, "{verb} {path}");
        }
        let scopes = format!("AuthorizationScopes: [{scope}]");
        assert_eq!(lines.iter().filter(|line| **line == scopes).count(), routes.len());
    }
    assert_eq!(has(&format!("Identifier: {SERVER}")), 1);
    assert_eq!(has(&format!("AttributeName: {EXPIRES_AT}")), 1);
    assert_eq!(has("StageName: v1"), 1);
}

#[test]
fn the_device_routes_and_their_scope_are_expected_with_device_api_only() {
    let route = |(verb, path): &(&str, &str), scope: &str| Method {
        verb: (*verb).to_owned(),
        path: (*path).to_owned(),
        authorization: COGNITO.to_owned(),
        authorizer: Some("a1".to_owned()),
        scopes: vec![scope.to_owned()],
    };
    let access = |device_scope: Option<&str>| ApiAccess {
        authorizers: vec![Authorizer {
            id: "a1".to_owned(),
            kind: COGNITO.to_owned(),
            pools: vec!["arn:aws:cognito-idp:eu-west-1:1:userpool/eu-west-1_pool".to_owned()],
        }],
        methods: SIGN_IN_ROUTES
            .iter()
            .map(|method| route(method, SCOPE))
            .chain(
                device_scope
                    .into_iter()
                    .flat_map(|scope| DEVICE_ROUTES.iter().map(move |method| route(method, scope))),
            )
            .collect(),
    };
    let problems = |device_api: &str, access: &ApiAccess, scopes: &[&str]| {
        let stack = DeployedStack {
            name: "mfa".to_owned(),
            status: "CREATE_COMPLETE".to_owned(),
            created_at: None,
            outputs: [(USER_POOL_ID.to_owned(), "eu-west-1_pool".to_owned())].into(),
            parameters: [("DeviceApi".to_owned(), device_api.to_owned())].into(),
            resources: Vec::new(),
        };
        let pool = UserPool {
            protected: true,
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        };
        let findings = api_access(&stack, "abc", Some(access));
        let problems = |findings: Vec<Finding>| findings.into_iter().filter(Finding::is_problem).count();
        (
            problems(findings),
            problems(user_pool(&stack, "eu-west-1_pool", Some(&pool))),
        )
    };
    assert_eq!(problems("false", &access(None), &[SCOPE]), (0, 0));
    assert_eq!(problems("true", &access(None), &[SCOPE]), (4, 1));
    assert_eq!(
        problems("true", &access(Some(DEVICES_SCOPE)), &[SCOPE, DEVICES_SCOPE]),
        (0, 0)
    );
    // Whoever may sign users in may not give them devices.
    assert_eq!(problems("true", &access(Some(SCOPE)), &[SCOPE, DEVICES_SCOPE]), (4, 0));
}

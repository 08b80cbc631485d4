//! What is expected of a stack is what `template.yaml` makes.

use super::*;

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
    let found: Vec<(&str, &[&str])> = entries("Resources:")
        .into_iter()
        .filter(|(_, lines)| lines.contains(&"Type: AWS::CloudWatch::Alarm"))
        .map(|(name, lines)| {
            let condition = lines.iter().find_map(|line| line.strip_prefix("Condition: "));
            let parameters: &[&str] = match condition {
                None => &[],
                Some("Watched") => &[WATCH],
                Some("HasDeviceApi") => &[DEVICE_API],
                Some("WatchedDeviceApi") => &[WATCH, DEVICE_API],
                Some(other) => panic!("{name}: {other}"),
            };
            (name, parameters)
        })
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
        WATCH,
        DEVICE_API,
        "ClientOwners",
        "GuessPolicy",
        "GuessBurst",
        "GuessRefillHours",
        "GuessPairGapSeconds",
        "SeedKey",
        "SeedTags",
        "AlarmTopicArn",
    ] {
        assert!(parameters.contains(&parameter), "{parameter}");
    }
}

#[test]
fn routes_scope_and_attributes_are_the_templates() {
    let resources = entries("Resources:");
    let has = |line: &str| resources.iter().filter(|(_, lines)| lines.contains(&line)).count();
    let lines: Vec<&str> = resources.iter().flat_map(|(_, lines)| lines.iter().copied()).collect();
    let is_route = |(verb, path, scope): &(&str, &str, &str)| {
        let route = [
            format!("Path: {path}"),
            format!("Method: {verb}"),
            "Auth:".to_owned(),
            "Authorizer: Cognito".to_owned(),
            format!("AuthorizationScopes: [{scope}]"),
        ];
        lines.windows(route.len()).any(|found| found == route)
    };
    for route in ROUTES.iter().chain(&DEVICE_ROUTES) {
        assert!(is_route(route), "{route:?}");
    }
    let all = lines
        .iter()
        .filter(|line| line.starts_with("AuthorizationScopes: "))
        .count();
    assert_eq!(all, ROUTES.len() + DEVICE_ROUTES.len());
    assert_eq!(has(&format!("Identifier: {SERVER}")), 1);
    assert_eq!(has(&format!("AttributeName: {EXPIRES_AT}")), 1);
    assert_eq!(has("StageName: v1"), 1);
}

//! The build settings that the service relies on.

use std::collections::BTreeMap;

use acceptance::Outcome;
use anyhow::Context as _;

const MANIFEST: &str = include_str!("../../Cargo.toml");

/// The settings of each build profile, by section.
fn profiles() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut profiles: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut section = "";
    for line in MANIFEST
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
    {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if section.starts_with("profile.") && !line.is_empty() {
            profiles.entry(section).or_default().push(line);
        }
    }
    profiles
}

#[test]
fn the_stack_says_the_version_that_the_functions_log() -> Outcome {
    let template = local::template::document()?;
    assert_eq!(template["Outputs"]["Version"]["Value"], env!("CARGO_PKG_VERSION"));
    Ok(())
}

#[test]
fn a_panic_unwinds_in_every_profile_so_that_it_costs_one_request_and_not_the_process() -> Outcome {
    let profiles = profiles();
    let release = profiles.get("profile.release").context("no release profile")?;
    assert!(release.contains(&r#"panic = "unwind""#), "{release:?}");
    for (name, settings) in &profiles {
        let own = settings.iter().filter(|setting| setting.starts_with("panic"));
        assert!(
            own.into_iter().all(|setting| *setting == r#"panic = "unwind""#),
            "{name}"
        );
    }
    Ok(())
}

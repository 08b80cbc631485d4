//! What the documents say, compared with the repository: links, commands, paths, tests, errors, settings, and the words
//! that readers see. Nothing is run but `cargo metadata`.

mod commands;
mod markdown;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use acceptance::Outcome;
use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use mfactl::cli::Arguments;
use serde_json::Value;
use shared::config::{InitAuthConfig, ServiceConfig, ValidateOtpConfig};
use shared::http::error::Code;

use commands::{cargo_fault, mfactl_fault, mfactl_name_fault, packages, recipes, words};
use markdown::{Document, blocks};
pub(crate) use markdown::{files, root};
use words::word_faults;

const API: &str = include_str!("../../docs/api.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const SECURITY: &str = include_str!("../../docs/security.md");
const TEMPLATE: &str = include_str!("../../template.yaml");

/// Files other than Markdown whose texts people read.
const OTHER_TEXTS: [&str; 9] = [
    "openapi.yaml",
    "template.yaml",
    "samconfig.toml",
    "justfile",
    ".github/ISSUE_TEMPLATE/bug.yml",
    ".github/ISSUE_TEMPLATE/config.yml",
    ".github/ISSUE_TEMPLATE/feature.yml",
    ".github/workflows/ci.yml",
    "docs/register.svg",
];

/// Folders and files of the repository; a span of code that begins with one of them is a path.
const TOP_LEVEL: [&str; 11] = [
    ".cargo/",
    ".ci/",
    ".github/",
    "bench/",
    "docs/",
    "events/",
    "functions/",
    "models/",
    "shared/",
    "tests/",
    "tools/",
];

/// Everything in Markdown.
fn documents() -> Result<Vec<Document>> {
    files(root()?, "md")?.into_iter().map(Document::read).collect()
}

fn report(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_link_and_anchor_exists() -> Outcome {
    let mut faults = Vec::new();
    for document in documents()? {
        for link in document.links() {
            if link.starts_with("https://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = document.path.parent().context("a file without a folder")?;
            let target = if path.is_empty() {
                document.path.clone()
            } else {
                folder.join(path)
            };
            let found = target.exists()
                && (anchor.is_empty() || Document::read(target).is_ok_and(|target| target.anchors().contains(anchor)));
            if !found {
                faults.push(format!("{}: {link}", document.name()?));
            }
        }
    }
    report(&faults);
    Ok(())
}

#[test]
fn every_command_exists_and_takes_its_arguments() -> Outcome {
    let (packages, recipes) = (packages()?, recipes()?);
    let mut faults = Vec::new();
    for document in documents()? {
        let complete = document.commands().into_iter().map(|command| (command, true));
        let named = document.spans().into_iter().map(|span| (span.to_owned(), false));
        for (command, in_block) in complete.chain(named) {
            let words = words(&command);
            let fault = match words.split_first() {
                Some((program, _)) if program == "cargo" => cargo_fault(&words, &packages)?,
                Some((program, arguments)) if program == "mfactl" && in_block => mfactl_fault(arguments),
                Some((program, arguments)) if program == "mfactl" => mfactl_name_fault(arguments),
                Some((program, arguments)) if program == "just" => arguments
                    .first()
                    .filter(|recipe| !recipes.contains(*recipe))
                    .map(|recipe| format!("no recipe {recipe}")),
                Some((family, _)) if ["device", "client", "doctor"].contains(&family.as_str()) => {
                    mfactl_name_fault(&words)
                }
                _ => None,
            };
            faults.extend(fault.map(|fault| format!("{}: {command}: {fault}", document.path.display())));
        }
    }
    // What a recipe passes on is not known here.
    for line in fs::read_to_string(root()?.join("justfile"))?.lines() {
        let own = line.split(" -- \"$@\"").next().unwrap_or_default().trim();
        if own.starts_with("cargo ") && !own.contains('$') {
            let fault = cargo_fault(&words(own), &packages)?;
            faults.extend(fault.map(|fault| format!("justfile: {own}: {fault}")));
        }
    }
    report(&faults);
    let all: usize = documents()?.iter().map(|document| document.commands().len()).sum();
    assert!(all > 40, "only {all} commands were found");
    Ok(())
}

#[test]
fn every_curl_command_for_the_local_stack_works_where_a_proxy_is_set() -> Outcome {
    let mut found = 0;
    for document in documents()? {
        for command in document.commands() {
            let words = words(&command);
            if words.first().is_some_and(|word| word == "curl") && command.contains("127.0.0.1") {
                found += 1;
                let around = words.iter().skip_while(|word| *word != "--noproxy").nth(1);
                assert_eq!(around.map(String::as_str), Some("*"), "{}: {command}", document.name()?);
            }
        }
    }
    assert!(found > 4, "only {found} were found");
    Ok(())
}

#[test]
fn every_path_exists() -> Outcome {
    let mut faults = Vec::new();
    for document in documents()? {
        let commands = document.commands();
        let words = commands.iter().flat_map(|command| words(command)).collect::<Vec<_>>();
        let spans = document.spans();
        for span in spans.iter().copied().chain(words.iter().map(String::as_str)) {
            let named = span.split(' ').next().unwrap_or_default();
            let extension = Path::new(named).extension().unwrap_or_default();
            let in_root = !named.contains('/') && (extension == "toml" || extension == "yaml");
            let is_path = (in_root || TOP_LEVEL.iter().any(|folder| named.starts_with(folder)))
                && !named.contains(['*', '…', '<', '{', '(']);
            if is_path && !root()?.join(named).exists() {
                faults.push(format!("{}: {named}", document.name()?));
            }
        }
    }
    report(&faults);
    Ok(())
}

/// Words in backquotes that are sentences: the names of tests.
fn cited_tests() -> impl Iterator<Item = &'static str> {
    let words = SECURITY.split('`').skip(1).step_by(2);
    words.filter(|word| word.matches('_').count() > 2 && !word.contains(|c: char| !c.is_ascii_lowercase() && c != '_'))
}

#[test]
fn every_test_that_the_security_page_cites_exists() -> Outcome {
    let mut code = String::new();
    for folder in ["functions", "models", "shared", "tests", "tools"] {
        let folder = root()?.join(folder);
        if folder.exists() {
            for file in files(&folder, "rs")? {
                code.push_str(&fs::read_to_string(file)?);
            }
        }
    }
    let missing: Vec<String> = cited_tests()
        .filter(|name| !code.contains(&format!("fn {name}(")))
        .map(str::to_owned)
        .collect();
    report(&missing);
    assert!(cited_tests().count() > 30, "the page cites hardly any test");
    Ok(())
}

/// The bodies of errors in a text, by code and message.
fn example_bodies(lines: impl Iterator<Item = String>) -> Result<BTreeSet<(String, String)>> {
    let mut found = BTreeSet::new();
    for line in lines {
        let body: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        let member = |name| body.get(name).and_then(Value::as_str).map(str::to_owned);
        found.extend(member("code").zip(member("message")));
    }
    Ok(found)
}

#[test]
fn every_error_has_its_section_and_an_example_with_its_message() -> Outcome {
    let examples = example_bodies(blocks(API, "json").into_iter())?;
    let sections: BTreeSet<&str> = API.lines().filter_map(|line| line.strip_prefix("#### ")).collect();
    // Of this code every message is another; the section lists them.
    let own = Code::ALL.iter().filter(|code| **code != Code::InvalidRequest);
    for code in own {
        let pair = (code.as_str().to_owned(), code.message().to_owned());
        assert!(examples.contains(&pair), "no example of {pair:?}");
    }
    let bodies = TEMPLATE
        .lines()
        .filter_map(|line| line.trim().strip_prefix("application/json: '"));
    let gateway = example_bodies(bodies.map(|body| body.trim_end_matches('\'').to_owned()))?;
    assert!(gateway.len() > 8, "{gateway:?}");
    for pair in &gateway {
        assert!(examples.contains(pair), "no example of {pair:?}");
    }
    let codes: BTreeSet<&str> = Code::ALL
        .iter()
        .map(|code| code.as_str())
        .chain(gateway.iter().map(|(code, _)| code.as_str()))
        .collect();
    assert_eq!(sections, codes);
    Ok(())
}

#[test]
fn every_section_of_an_error_names_its_status() {
    for code in Code::ALL {
        let section = API
            .split(&format!("#### {}\n", code.as_str()))
            .nth(1)
            .unwrap_or_default();
        let status = code.status().as_u16().to_string();
        assert!(section.trim_start().starts_with(&status), "{}", code.as_str());
    }
}

#[test]
fn every_setting_is_documented() {
    let parameters = TEMPLATE
        .lines()
        .skip_while(|line| *line != "Parameters:")
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with(' '))
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with([' ', '#'])))
        .filter_map(|line| line.strip_suffix(':'));
    let variables = ServiceConfig::VARIABLES
        .into_iter()
        .chain(InitAuthConfig::VARIABLES)
        .chain(ValidateOtpConfig::VARIABLES);
    let settings = OPERATIONS
        .split("\n## ")
        .find(|section| section.starts_with("Settings"));
    let settings = settings.unwrap_or_default();
    let mut number = 0;
    for name in parameters.chain(variables) {
        number += 1;
        assert!(settings.contains(&format!("`{name}`")), "{name}");
    }
    assert!(number > 30, "only {number} settings were found");
}

/// The lines of the long help of a command and of all below it.
fn help(command: &mut clap::Command, lines: &mut BTreeSet<String>) {
    let text = command.render_long_help().to_string();
    lines.extend(text.lines().map(str::to_owned));
    command
        .get_subcommands_mut()
        .for_each(|subcommand| help(subcommand, lines));
}

#[test]
fn what_people_read_is_plain_english() -> Outcome {
    let mut faults = Vec::new();
    for document in documents()? {
        faults.extend(word_faults(&document.name()?, &document.text));
    }
    for name in OTHER_TEXTS {
        faults.extend(word_faults(name, &fs::read_to_string(root()?.join(name))?));
    }
    let mut command = Arguments::command();
    command.build();
    let mut lines = BTreeSet::new();
    help(&mut command, &mut lines);
    assert!(lines.len() > 100, "hardly any help was found");
    for line in &lines {
        faults.extend(word_faults("mfactl --help", line));
    }
    report(&faults);
    Ok(())
}

#[test]
fn the_checks_find_faults() -> Outcome {
    assert_eq!(
        word_faults("x", "Nobody mends this. An amended commendation is fine.").len(),
        2
    );
    assert_eq!(word_faults("x", "Three in a row, not two codes in a row.").len(), 1);
    for right in [
        "device unlock --reset-budget",
        "--stack mfa doctor",
        "--local device remove",
        "client rotate shop --finish",
    ] {
        assert_eq!(mfactl_name_fault(&words(right)), None);
    }
    for wrong in ["device unlok", "device unlock --reset", "doctor --verbose", "devices"] {
        assert!(mfactl_name_fault(&words(wrong)).is_some(), "{wrong}");
    }
    assert!(mfactl_fault(&words("device show --user alice")).is_some());
    assert!(recipes()?.contains("test") && !recipes()?.contains("tests"));
    let packages = packages()?;
    let fault = |command: &str| cargo_fault(&words(command), &packages);
    assert_eq!(fault("cargo run -p local -- demo")?, None);
    assert_eq!(fault("cargo run -p local -- --port 0")?, None);
    assert!(fault("cargo run -p local -- demonstrate")?.is_some());
    assert!(fault("cargo run -p local -- --ports 0")?.is_some());
    assert!(fault("cargo run -p shared")?.is_some());
    assert!(fault("cargo test -p acceptance --test journey")?.is_some());
    assert!(fault("cargo run -p mfactl -- --local device lists")?.is_some());
    Ok(())
}

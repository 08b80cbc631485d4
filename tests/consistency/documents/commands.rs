//! Commands that documents show: cargo's against the workspace, `mfactl`'s against its command line, `just`'s against the
//! recipes. None is run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::CommandFactory as _;
use mfactl::cli::Arguments;
use serde::Deserialize;

use super::markdown::{files, root};

/// The words of a command, up to a redirection or a pipe. Quotes are taken off.
pub(super) fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in command.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if c.is_whitespace() => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            _ => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
        .into_iter()
        .take_while(|word| !matches!(word.as_str(), "|" | ">" | "&&" | "<"))
        .collect()
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A package of the workspace, as `cargo metadata` describes it.
#[derive(Deserialize)]
pub(super) struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// The packages by name.
pub(super) fn packages() -> Result<BTreeMap<String, Package>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root()?)
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let named = metadata
        .packages
        .into_iter()
        .map(|package| (package.name.clone(), package));
    Ok(named.collect())
}

impl Package {
    fn has(&self, kind: &str, name: Option<&str>) -> bool {
        self.targets
            .iter()
            .any(|target| target.kind.iter().any(|found| found == kind) && name.is_none_or(|name| target.name == name))
    }

    /// Whether a word is a subcommand or option of the program: a variant of an enum that derives `Subcommand`, or a field.
    /// The programs but `mfactl` have their command lines where no test can reach them.
    fn takes(&self, word: &str) -> Result<bool> {
        let code: String = files(&self.manifest_path.with_file_name("src"), "rs")?
            .iter()
            .map(fs::read_to_string)
            .collect::<std::io::Result<_>>()?;
        let names = |name: &str, ends: &[char]| {
            code.lines().any(|line| {
                let line = line
                    .trim_start()
                    .trim_start_matches("pub ")
                    .trim_start_matches("pub(crate) ");
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with(ends))
            })
        };
        if let Some(option) = word.strip_prefix("--") {
            return Ok(names(&option.replace('-', "_"), &[':']));
        }
        let mut variant = String::new();
        for part in word.split('-') {
            let mut letters = part.chars();
            variant.extend(letters.next().map(|first| first.to_ascii_uppercase()));
            variant.push_str(letters.as_str());
        }
        Ok(code.contains("Subcommand") && names(&variant, &[',', '(', ' ']))
    }
}

/// What is wrong with a command of cargo, if anything.
pub(super) fn cargo_fault(words: &[String], packages: &BTreeMap<String, Package>) -> Result<Option<String>> {
    let mut parts = words.splitn(2, |word| word == "--");
    let (own, passed) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let value = |option: &str| own.iter().skip_while(|word| *word != option).nth(1);
    let Some(name) = value("-p") else { return Ok(None) };
    let Some(package) = packages.get(name) else {
        return Ok(Some(format!("no package {name}")));
    };
    if let Some(test) = value("--test")
        && !package.has("test", Some(test))
    {
        return Ok(Some(format!("{name} has no test {test}")));
    }
    if own.get(1).is_none_or(|word| word != "run") {
        return Ok(None);
    }
    if !package.has("bin", None) {
        return Ok(Some(format!("{name} has no program")));
    }
    if name == "mfactl" {
        return Ok(mfactl_fault(passed));
    }
    let subcommand = passed.first().filter(|word| !word.starts_with('-'));
    for word in passed.iter().filter(|word| word.starts_with("--")).chain(subcommand) {
        if !package.takes(word)? {
            return Ok(Some(format!("{name} does not take {word}")));
        }
    }
    Ok(None)
}

/// What is wrong with the arguments of a complete command of `mfactl`, if anything.
pub(super) fn mfactl_fault(arguments: &[String]) -> Option<String> {
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    let all = std::iter::once("mfactl").chain(arguments.iter().map(String::as_str));
    let error = Arguments::command().try_get_matches_from(all).err()?;
    (!matches!(error.kind(), DisplayHelp | DisplayVersion)).then(|| error.to_string())
}

/// What is wrong with a command of `mfactl` that may be incomplete, as prose names it: an unknown subcommand or option.
pub(super) fn mfactl_name_fault(words: &[String]) -> Option<String> {
    let mut command = Arguments::command();
    command.build();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(option) = word.strip_prefix("--") {
            let name = option.split('=').next();
            let Some(argument) = command.get_arguments().find(|argument| argument.get_long() == name) else {
                return Some(format!("no option {word}"));
            };
            if argument.get_action().takes_values() && !argument.is_require_equals_set() {
                words.next();
            }
        } else if command.has_subcommands() {
            let Some(subcommand) = command.find_subcommand(word) else {
                return Some(format!("no command {word}"));
            };
            command = subcommand.clone();
        }
    }
    None
}

/// The names of the recipes.
pub(super) fn recipes() -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(root()?.join("justfile"))?;
    let heads = text
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()) && line.contains(':') && !line.contains(":="))
        .filter_map(|line| line.split([' ', ':']).next());
    Ok(heads.map(str::to_owned).collect())
}

//! What documents name is there.

use std::fs;
use std::path::{Path, PathBuf};

use acceptance::Outcome;
use anyhow::{Context as _, Result};

const SECURITY: &str = include_str!("../../docs/security.md");

fn checkout() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no checkout")
}

/// Every source file below a folder, build folders left out.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// Words in backquotes that are sentences: the names of tests.
fn named_tests() -> impl Iterator<Item = &'static str> {
    let words = SECURITY.split('`').skip(1).step_by(2);
    words.filter(|word| word.matches('_').count() > 2 && !word.contains(|c: char| !c.is_ascii_lowercase() && c != '_'))
}

#[test]
fn every_test_that_the_security_page_names_exists() -> Outcome {
    let mut files = Vec::new();
    for folder in ["shared", "functions", "tools", "models", "tests"] {
        sources(&checkout()?.join(folder), &mut files)?;
    }
    let code = files
        .iter()
        .map(fs::read_to_string)
        .collect::<std::io::Result<String>>()?;
    let missing: Vec<_> = named_tests()
        .filter(|name| !code.contains(&format!("fn {name}(")))
        .collect();
    assert!(missing.is_empty(), "no such tests: {missing:#?}");
    assert!(named_tests().count() > 30, "the page names hardly any test");
    Ok(())
}

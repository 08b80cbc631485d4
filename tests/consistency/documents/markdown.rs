//! Markdown files, as far as the checks read them: prose, inline code, links, headings, blocks of commands.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The root of the repository.
pub(crate) fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the package has no parent folder")
}

/// Every file below a folder with an extension, except in folders that a build or a tool makes.
pub(crate) fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let made = ["target", ".git", ".local", ".aws-sam"];
            if path.is_dir() {
                if !made.iter().any(|name| path.ends_with(name)) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A Markdown file.
pub(super) struct Document {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Document {
    pub(super) fn read(path: PathBuf) -> Result<Self> {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, text })
    }

    pub(super) fn name(&self) -> Result<String> {
        Ok(self.path.strip_prefix(root()?)?.display().to_string())
    }

    /// The lines outside fenced blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut fenced = false;
        self.text.lines().filter(move |line| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
    }

    /// Commands in blocks of shell, each on one line, without prompts and comments.
    pub(super) fn commands(&self) -> Vec<String> {
        blocks(&self.text, "sh")
            .iter()
            .flat_map(|block| commands(block))
            .collect()
    }

    /// Inline code, as it is written.
    pub(super) fn spans(&self) -> Vec<&str> {
        self.prose()
            .flat_map(|line| line.split('`').skip(1).step_by(2))
            .collect()
    }

    /// Targets of links and images.
    pub(super) fn links(&self) -> Vec<&str> {
        self.prose()
            .flat_map(|line| line.split("](").skip(1))
            .filter_map(|rest| rest.split(')').next())
            .collect()
    }

    /// The anchors of the headings, as the repository's host makes them.
    pub(super) fn anchors(&self) -> BTreeSet<String> {
        self.prose()
            .filter(|line| line.starts_with('#'))
            .map(|line| line.trim_start_matches('#').trim())
            .map(|heading| {
                heading
                    .to_lowercase()
                    .chars()
                    .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                    .map(|c| if c == ' ' { '-' } else { c })
                    .collect()
            })
            .collect()
    }
}

/// The contents of fenced blocks of a language.
pub(super) fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            match open.take() {
                Some((true, block)) => found.push(block),
                Some((false, _)) => {}
                None => open = Some((info.trim() == language, String::new())),
            }
        } else if let Some((_, block)) = &mut open {
            block.push_str(line);
            block.push('\n');
        }
    }
    found
}

fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    joined
        .lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

//! The sample events and the table of `events/README.md`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use local::Function;

/// A row of the table.
#[derive(Debug)]
pub struct SampleEvent {
    /// The name of the file.
    pub file: String,
    /// The function that it is for.
    pub function: Function,
    /// The status of the answer.
    pub status: u16,
    /// The code of the answer, if it is an error.
    pub code: Option<String>,
}

impl SampleEvent {
    /// The folder of the files.
    #[must_use]
    pub fn folder() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../events")
    }

    /// The rows of the table.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn table() -> Result<Vec<Self>> {
        let text = fs::read_to_string(Self::folder().join("README.md"))?;
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        rows.map(Self::parse).collect()
    }

    fn parse(row: &str) -> Result<Self> {
        let cells: Vec<&str> = row
            .split(" | ")
            .map(|cell| cell.trim_matches(|c| matches!(c, '`' | '|' | ' ')))
            .collect();
        let [file, function, _state, answer] = cells[..] else {
            anyhow::bail!("not four cells: {row}")
        };
        let (status, code) = answer
            .split_once(" `")
            .map_or((answer, None), |(status, code)| (status, Some(code)));
        let status = status.split(',').next().unwrap_or_default();
        Ok(Self {
            file: file.to_owned(),
            function: match function {
                "init-auth" => Function::InitAuth,
                "validate-otp" => Function::ValidateOtp,
                "manage-devices" => Function::ManageDevices,
                other => anyhow::bail!("unknown function: {other}"),
            },
            status: status.parse().with_context(|| format!("not a status: {answer}"))?,
            code: code.filter(|_| !status.starts_with('2')).map(str::to_owned),
        })
    }

    /// The event itself.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self) -> Result<String> {
        Ok(fs::read_to_string(Self::folder().join(&self.file))?)
    }
}

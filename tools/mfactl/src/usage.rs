//! The error of a command that cannot be carried out as it was given: the program exits with 2.

/// The command line, or the settings that it names, are wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

//! A log that tests can read.

use std::sync::{Arc, Mutex, PoisonError};

use crate::telemetry::{RequestLine, RequestLog};

/// Keeps every line. Clones write into the same log.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog(Arc<Mutex<Vec<RequestLine>>>);

impl MemoryLog {
    /// The lines so far, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<RequestLine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines so far as they are printed: JSON, one a line. For tests that look for what must not be in a log.
    #[must_use]
    pub fn printed(&self) -> String {
        self.lines()
            .iter()
            .filter_map(|line| serde_json::to_string(line).ok())
            .map(|line| line + "\n")
            .collect()
    }
}

impl RequestLog for MemoryLog {
    fn write(&self, line: &RequestLine) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
    }
}

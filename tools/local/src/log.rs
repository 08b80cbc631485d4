//! What a stack logs: one line per request. The functions' own lines are kept apart from those of everything else,
//! for tests to look at, and both can go to standard output.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use shared::telemetry::{RequestLine, RequestLog};

/// What becomes of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogTo {
    /// They are kept, for [`crate::Stack::log_lines`].
    #[default]
    Memory,
    /// They are printed and not kept.
    StandardOutput,
}

/// A request that no function saw: refused by the gateway, or not for it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccessLine<'a> {
    pub(crate) timestamp: String,
    pub(crate) message: &'static str,
    /// What the client sees as `traceId`, if the gateway answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace_id: Option<&'a str>,
    pub(crate) method: &'a str,
    /// The route as the template has it, never the path as it was sent.
    pub(crate) resource: &'a str,
    pub(crate) status: u16,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    to: LogTo,
    of_functions: Mutex<Vec<String>>,
    of_others: Mutex<Vec<String>>,
}

impl Log {
    pub(crate) fn new(to: LogTo) -> Self {
        Self { to, ..Self::default() }
    }

    pub(crate) fn of_functions(&self) -> Vec<String> {
        self.of_functions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn of_others(&self) -> Vec<String> {
        self.of_others.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn access(&self, line: &AccessLine<'_>) {
        self.add(&self.of_others, serde_json::to_string(line));
    }

    fn add(&self, kept: &Mutex<Vec<String>>, line: serde_json::Result<String>) {
        let Ok(line) = line else { return };
        match self.to {
            LogTo::Memory => kept.lock().unwrap_or_else(PoisonError::into_inner).push(line),
            // Nobody is left to tell if standard output is gone.
            LogTo::StandardOutput => {
                let _ = writeln!(std::io::stdout().lock(), "{line}");
            }
        }
    }
}

impl RequestLog for Log {
    fn write(&self, line: &RequestLine) {
        self.add(&self.of_functions, serde_json::to_string(line));
    }
}

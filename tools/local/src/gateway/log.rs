//! The log of a stack: one line per request. The functions' own lines are kept apart from all others for tests to check;
//! both can go to standard output instead.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use shared::telemetry::{RequestLine, RequestLog};

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogTo {
    /// Kept for [`crate::Stack::log_lines`].
    #[default]
    Memory,
    /// Printed, and not kept.
    StandardOutput,
}

/// A request that reached no function: refused by the gateway, or for another part of the stack.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccessLine<'a> {
    pub(crate) timestamp: String,
    pub(crate) message: &'static str,
    /// The client's `traceId`, if the gateway answered.
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
    function_lines: Mutex<Vec<String>>,
    access_lines: Mutex<Vec<String>>,
}

impl Log {
    pub(crate) fn new(to: LogTo) -> Self {
        Self { to, ..Self::default() }
    }

    pub(crate) fn function_lines(&self) -> Vec<String> {
        self.function_lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn access_lines(&self) -> Vec<String> {
        self.access_lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn access(&self, line: &AccessLine<'_>) {
        self.add(&self.access_lines, serde_json::to_string(line));
    }

    fn add(&self, kept: &Mutex<Vec<String>>, line: serde_json::Result<String>) {
        let Ok(line) = line else { return };
        match self.to {
            LogTo::Memory => kept.lock().unwrap_or_else(PoisonError::into_inner).push(line),
            // There is nowhere to report that standard output is gone.
            LogTo::StandardOutput => {
                let _ = writeln!(std::io::stdout().lock(), "{line}");
            }
        }
    }
}

impl RequestLog for Log {
    fn write(&self, line: &RequestLine) {
        self.add(&self.function_lines, serde_json::to_string(line));
    }
}

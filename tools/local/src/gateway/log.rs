//! The log of a stack: one line per request. The functions' own lines are kept apart from all others for tests to check;
//! both can go to standard output instead. The page shows the last lines of both.

use std::collections::VecDeque;
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

/// How many lines are kept for the page.
const RECENT: usize = 200;

#[derive(Debug, Default)]
struct Recent {
    written: u64,
    lines: VecDeque<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    to: LogTo,
    recent: Mutex<Recent>,
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

    /// The number of the last line, and the recent lines after one. A number from an earlier stack counts as 0.
    pub(crate) fn lines_after(&self, number: u64) -> (u64, Vec<String>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let new = recent.written.checked_sub(number).unwrap_or(recent.written);
        let new = usize::try_from(new).unwrap_or(usize::MAX);
        let known = recent.lines.len().saturating_sub(new);
        (recent.written, recent.lines.iter().skip(known).cloned().collect())
    }

    pub(crate) fn access(&self, line: &AccessLine<'_>) {
        self.add(&self.access_lines, serde_json::to_string(line));
    }

    fn keep_for_the_page(&self, line: String) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.written = recent.written.saturating_add(1);
        recent.lines.push_back(line);
        if recent.lines.len() > RECENT {
            recent.lines.pop_front();
        }
    }

    fn add(&self, kept: &Mutex<Vec<String>>, line: serde_json::Result<String>) {
        let Ok(line) = line else { return };
        self.keep_for_the_page(line.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_numbered() {
        let log = Log::new(LogTo::Memory);
        assert_eq!(log.lines_after(0), (0, vec![]));
        for number in 1..=RECENT + 3 {
            log.keep_for_the_page(number.to_string());
        }
        let last = u64::try_from(RECENT).unwrap_or(u64::MAX) + 3;
        let (written, lines) = log.lines_after(0);
        assert_eq!(
            (written, lines.len(), lines.first().map(String::as_str)),
            (last, RECENT, Some("4"))
        );
        assert_eq!(log.lines_after(last - 1), (last, vec!["203".to_owned()]));
        assert_eq!(log.lines_after(last), (last, vec![]));
        assert_eq!(log.lines_after(last + 1).1.len(), RECENT, "of an earlier stack");
    }
}

//! What libraries log through `tracing`, and panics.

use std::fmt;

use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::{Clock as _, SystemClock};

/// Prints warnings of libraries, and where a panic happened, as JSON lines on standard output. Call once, at the beginning
/// of `main`.
pub fn log_libraries() {
    // A second call changes nothing: the first subscriber stays.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_timer(ClockTimer)
        .with_max_level(tracing::Level::WARN)
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        // Never the message: it may quote what it failed on, a name or a code.
        tracing::error!(place, "a panic");
    }));
}

struct ClockTimer;

impl FormatTime for ClockTimer {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&SystemClock.now().rfc3339_millis())
    }
}

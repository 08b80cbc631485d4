//! The doctor, and the deployment that it examines.

use std::time::Duration;

use shared::clock::{Clock, Timestamp};

use crate::ports::stack::{ClockOffset, DeployedStack, Inspector};

/// Where a deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Aws,
    /// The local stack: no `CloudFormation`, no API Gateway, no alarms.
    Local {
        clock_offset_seconds: i64,
    },
}

/// Where devices and their seeds are, as the stack says.
#[derive(Debug)]
pub struct Stores<D, S> {
    pub devices: D,
    pub seeds: S,
    /// The name of the table of devices.
    pub table: String,
    /// What the names of seeds begin with, including the last slash.
    pub prefix: String,
    /// Whether the stack says which secret is its key ring.
    pub has_key_ring: bool,
}

/// A deployment, and what it is examined with.
#[derive(Debug)]
pub struct Doctor<I, P, D, S, C, T> {
    pub stack: DeployedStack,
    pub inspector: I,
    pub clients: P,
    /// `None` if the stack does not say where they are.
    pub stores: Option<Stores<D, S>>,
    pub clock: C,
    pub terminal: T,
    /// Whether every question is answered with yes.
    pub yes: bool,
    /// How this program is called for this stack, to be copied into a shell.
    pub program: String,
    /// Where the API is called, if not at the stack's output `ApiUrl`.
    pub api_url: Option<String>,
    pub place: Place,
}

impl<I: Inspector, P, D, S, C: Clock, T> Doctor<I, P, D, S, C, T> {
    /// The time by the clock that secrets are dated with.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        match self.inspector.clock_offset() {
            Some(ClockOffset::Behind(millis)) => now.plus(Duration::from_millis(millis)),
            Some(ClockOffset::Ahead(millis)) => now.minus(Duration::from_millis(millis)),
            Some(ClockOffset::Unmeasurable) | None => now,
        }
    }
}

//! What the doctor found: a part of the deployment, its state, and what to do.

use serde_json::{Value, json};

/// A part of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Stack,
    Tables,
    Api,
    Clients,
    Alarms,
    Clock,
    /// The key ring, and what is sealed under its keys.
    Keys,
    /// Devices and their secrets.
    Orphans,
}

impl Part {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stack => "stack",
            Self::Tables => "tables",
            Self::Api => "api",
            Self::Clients => "clients",
            Self::Alarms => "alarms",
            Self::Clock => "clock",
            Self::Keys => "keys",
            Self::Orphans => "orphans",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    /// Worth knowing.
    Notice,
    /// Wrong, or not checked.
    Problem,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Notice => "notice",
            Self::Problem => "PROBLEM",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    part: Part,
    state: State,
    text: String,
    remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(part: Part, text: impl Into<String>) -> Self {
        Self {
            part,
            state: State::Ok,
            text: text.into(),
            remedy: None,
        }
    }

    pub(super) fn notice(part: Part, text: impl Into<String>) -> Self {
        Self {
            state: State::Notice,
            ..Self::ok(part, text)
        }
    }

    pub(super) fn problem(part: Part, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            state: State::Problem,
            ..Self::ok(part, text).with_remedy(remedy)
        }
    }

    /// With what to do about it, if that is wanted.
    pub(super) fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    fn failed_call(part: Part, text: String) -> Self {
        let remedy = "run it again; if access was denied, allow that call in the IAM policy of whoever runs this";
        Self::problem(part, text, remedy)
    }

    /// A check that could not be made.
    pub(super) fn not_checked(part: Part, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::failed_call(part, format!("not checked: {}", shared::error::chain(error)))
    }

    /// An orphan that could not be fixed.
    pub(super) fn not_fixed(error: &anyhow::Error) -> Self {
        Self::failed_call(Part::Orphans, format!("not fixed: {error:#}"))
    }

    pub(super) fn is_problem(&self) -> bool {
        self.state == State::Problem
    }

    pub(super) fn lines(&self) -> String {
        let line = format!("{:<8}{:<9}{}", self.state.as_str(), self.part.as_str(), self.text);
        match &self.remedy {
            Some(remedy) => format!("{line}\n{:17}fix: {remedy}", ""),
            None => line,
        }
    }

    /// The names of the members are an interface of `--json`.
    pub(super) fn json(&self) -> Value {
        let state = self.state.as_str().to_lowercase();
        json!({ "part": self.part.as_str(), "state": state, "says": self.text, "mend": self.remedy })
    }
}

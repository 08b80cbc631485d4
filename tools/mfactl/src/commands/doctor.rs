//! `doctor`: looks at a deployed stack, says what is wrong with it and how to mend it, and mends orphans.
//!
//! What could not be looked at is a problem, never well. What is found is judged by [`parts`], which is pure; [`orphans`]
//! compares devices and secrets.

use anyhow::{Result, bail};
use serde_json::{Value, json};
use shared::clock::{Clock, Timestamp};
use shared::names::ClientId;
use shared::ports::{DeviceRegistry, SeedRegistry};

use super::Patience;
use super::look::count;
use crate::clients::{ClientError, ClientRegistry};
use crate::deployed::{ClockFound, DeployedStack, InspectError, Inspector};
use crate::terminal::Terminal;

mod orphans;
mod parts;

#[cfg(test)]
pub(super) use orphans::YOUNG;
use parts::{API_URL, AUTHS_TABLE, DEVICES_TABLE, USER_POOL_ID};

/// Lines of one kind that a person is shown; scripts get all.
const MOST_SHOWN: usize = 20;

/// A part of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The stack itself.
    Stack,
    /// Where auths and devices are.
    Tables,
    /// Whom the API lets in.
    Api,
    /// The user pool and who gets tokens.
    Clients,
    /// Who is told when something is wrong.
    Alarms,
    /// This machine's clock.
    Clock,
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
            Self::Orphans => "orphans",
        }
    }
}

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Well,
    /// Worth knowing.
    Notice,
    /// Not as it should be, or not looked at.
    Problem,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Notice => "notice",
            Self::Problem => "PROBLEM",
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub part: Part,
    /// How it is.
    pub state: State,
    /// What was found, in one sentence.
    pub says: String,
    /// What to do about it.
    pub mend: Option<String>,
}

impl Finding {
    fn well(part: Part, says: impl Into<String>) -> Self {
        Self {
            part,
            state: State::Well,
            says: says.into(),
            mend: None,
        }
    }

    fn notice(part: Part, says: impl Into<String>) -> Self {
        Self {
            state: State::Notice,
            ..Self::well(part, says)
        }
    }

    fn problem(part: Part, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            state: State::Problem,
            mend: Some(mend.into()),
            ..Self::well(part, says)
        }
    }

    /// A call failed.
    fn failed(part: Part, says: String) -> Self {
        let mend = "run it again; if the code says that access is denied, allow that call to whoever runs this";
        Self::problem(part, says, mend)
    }

    fn not_looked_at(part: Part, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::failed(part, format!("not looked at: {}", shared::error::chain(error)))
    }

    fn not_mended(error: &anyhow::Error) -> Self {
        Self::failed(Part::Orphans, format!("not mended: {error:#}"))
    }

    fn lines(&self) -> String {
        let line = format!("{:<8}{:<9}{}", self.state.as_str(), self.part.as_str(), self.says);
        match &self.mend {
            Some(mend) => format!("{line}\n{:17}mend: {mend}", ""),
            None => line,
        }
    }

    fn json(&self) -> Value {
        let state = self.state.as_str().to_lowercase();
        json!({ "part": self.part.as_str(), "state": state, "says": self.says, "mend": self.mend })
    }
}

/// How a deployment is examined.
#[derive(Debug, Clone, Copy)]
pub struct Examining {
    /// Whether orphans are mended.
    pub fix: bool,
    /// For scripts.
    pub json: bool,
    /// Devices that are read at once.
    pub page: u16,
}

/// Where devices and their seeds are, as the stack says.
#[derive(Debug)]
pub struct Stores<D, S> {
    /// The devices.
    pub devices: D,
    /// Their seeds.
    pub seeds: S,
    /// The table of devices, by its name.
    pub table: String,
    /// What the names of seeds begin with, to the last slash.
    pub prefix: String,
}

/// A deployment, and what it is looked at with.
#[derive(Debug)]
pub struct Doctor<I, P, D, S, C, T> {
    /// The stack.
    pub stack: DeployedStack,
    /// What AWS says of it.
    pub inspector: I,
    /// Its clients.
    pub clients: P,
    /// Its devices and their seeds; `None` if the stack does not say where they are.
    pub stores: Option<Stores<D, S>>,
    /// The time.
    pub clock: C,
    /// The person.
    pub terminal: T,
    /// Whether everything that would be asked is answered with yes.
    pub yes: bool,
    /// How this program is called for this stack, to be copied into a shell.
    pub program: String,
    /// Where the API is called, if not where the stack says.
    pub api_url: Option<String>,
    /// Whether it is the stack of one machine, which nothing watches.
    pub local: bool,
}

impl<I, P, D, S, C, T> Doctor<I, P, D, S, C, T>
where
    I: Inspector,
    P: ClientRegistry,
    D: DeviceRegistry,
    S: SeedRegistry,
    C: Clock,
    T: Terminal,
{
    /// Looks at everything, says what was found, mends orphans if that is asked for, and says what is left.
    ///
    /// # Errors
    /// If there is a problem, or one is left after mending.
    pub async fn examine(&mut self, what: &Examining, patience: &impl Patience) -> Result<()> {
        let mut findings = parts::stack(&self.stack);
        findings.extend(self.tables().await);
        findings.extend(self.api().await);
        findings.extend(self.clients().await);
        findings.extend(self.alarms().await);
        findings.push(parts::clock(self.inspector.clock()));
        // It comes back: what looks at it also speaks to the person.
        let stores = self.stores.take();
        let (of_stores, mended) = match &stores {
            Some(stores) => self.stores_and_mended(stores, what, &findings, patience).await?,
            // That they are missing was said of the stack.
            None => (Vec::new(), false),
        };
        self.stores = stores;
        if what.json || !mended {
            findings.extend(of_stores);
            self.report(&findings, what.json)?;
        } else {
            self.report(&of_stores, false)?;
            findings.extend(of_stores);
        }
        let problems = findings
            .iter()
            .filter(|finding| finding.state == State::Problem)
            .count();
        if problems > 0 {
            bail!(
                "the stack {} is not well: {}",
                self.stack.name,
                count(problems, "problem")
            );
        }
        Ok(())
    }

    /// What is found of orphans, or is left of them after mending, and whether anything was mended. A person is shown
    /// everything before the question.
    async fn stores_and_mended(
        &mut self,
        stores: &Stores<D, S>,
        what: &Examining,
        before: &[Finding],
        patience: &impl Patience,
    ) -> Result<(Vec<Finding>, bool)> {
        let found = match self.orphans(stores, what.page).await {
            Ok(found) => found,
            Err(error) => return Ok((vec![Finding::not_looked_at(Part::Orphans, error.as_ref())], false)),
        };
        let all = what.json || what.fix;
        let findings = found.findings(&self.program, if all { usize::MAX } else { MOST_SHOWN });
        if !what.fix || !found.can_be_mended() {
            return Ok((findings, false));
        }
        if !what.json {
            let shown: Vec<Finding> = before.iter().chain(&findings).cloned().collect();
            self.report(&shown, false)?;
        }
        Ok((self.mend(stores, found, what.page, patience).await?, true))
    }

    fn report(&mut self, findings: &[Finding], json: bool) -> Result<()> {
        let text = if json {
            let all: Vec<Value> = findings.iter().map(Finding::json).collect();
            format!(
                "{:#}",
                json!({ "stack": self.stack.name, "status": self.stack.status, "findings": all })
            )
        } else {
            findings.iter().map(Finding::lines).collect::<Vec<_>>().join("\n")
        };
        Ok(self.terminal.say(&text)?)
    }

    async fn tables(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for output in [AUTHS_TABLE, DEVICES_TABLE] {
            // That it is missing was said of the stack.
            if let Some(name) = self.stack.outputs.get(output) {
                match self.inspector.table(name).await {
                    Ok(found) => findings.extend(parts::table(&self.stack, output, name, found.as_ref())),
                    Err(error) => findings.push(Finding::not_looked_at(Part::Tables, &error)),
                }
            }
        }
        findings
    }

    async fn api(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(api) = self.stack.physical("Api") {
            match self.inspector.access(api).await {
                Ok(found) => findings.extend(parts::access(&self.stack, api, found.as_ref())),
                Err(error) => findings.push(Finding::not_looked_at(Part::Api, &error)),
            }
        }
        if let Some(url) = self.api_url.as_ref().or_else(|| self.stack.outputs.get(API_URL)) {
            for path in parts::CALLED {
                let url = format!("{}{path}", url.trim_end_matches('/'));
                findings.push(match self.inspector.status_without_token(&url).await {
                    Ok(status) => parts::without_token(path, status),
                    Err(error) => Finding::not_looked_at(Part::Api, &error),
                });
            }
        }
        findings
    }

    async fn clients(&self) -> Vec<Finding> {
        let Some(pool) = self.stack.outputs.get(USER_POOL_ID) else {
            return Vec::new();
        };
        let mut findings = match self.inspector.pool(pool, parts::SERVER).await {
            Ok(found) => parts::pool(&self.stack, pool, found.as_ref()),
            Err(error) => vec![Finding::not_looked_at(Part::Clients, &error)],
        };
        if let Err(error) = self.clients.token_url().await {
            findings.push(parts::no_token_url(&error));
        }
        findings.push(match self.scopes_of_clients().await {
            Ok(clients) => parts::clients(&self.program, &clients),
            Err(error) => Finding::not_looked_at(Part::Clients, &error),
        });
        findings
    }

    /// What each client may ask for.
    async fn scopes_of_clients(&self) -> Result<Vec<(ClientId, Vec<String>)>, ClientError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.clients.page(after.as_deref()).await?;
            for client in page.clients {
                // One that was removed meanwhile is none.
                if let Some(described) = self.clients.describe(&client.id).await? {
                    all.push((client.id, described.scopes));
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    async fn alarms(&self) -> Vec<Finding> {
        if self.local {
            return vec![Finding::notice(
                Part::Alarms,
                "not looked at: nothing watches a stack on one machine",
            )];
        }
        let expected = parts::expected_alarms(&self.stack);
        let names: Vec<String> = expected.iter().filter_map(|alarm| alarm.name.clone()).collect();
        match self.inspector.alarms(&names).await {
            Ok(found) => parts::alarms(&self.stack, &expected, &found),
            Err(error) => vec![Finding::not_looked_at(Part::Alarms, &error)],
        }
    }

    /// The time by the clock that secrets are dated with.
    fn now(&self) -> Timestamp {
        let (now, off) = (self.clock.now(), std::time::Duration::from_millis);
        match self.inspector.clock() {
            Some(ClockFound::Behind(millis)) => now.plus(off(millis)),
            Some(ClockFound::Ahead(millis)) => now.minus(off(millis)),
            Some(ClockFound::Right) | None => now,
        }
    }
}

/// The stack that a name was given for, or what to do if there is none.
///
/// # Errors
/// If it is not there or cannot be read.
pub async fn stack_by_name(inspector: &impl Inspector, name: &str) -> Result<DeployedStack> {
    match inspector
        .stack(name)
        .await
        .map_err(|error| unreadable(inspector, name, error))?
    {
        Some(stack) => Ok(stack),
        None => bail!(
            "there is no stack {name} in this account and region: aws cloudformation describe-stacks --query \
             'Stacks[].StackName' lists what there is"
        ),
    }
}

/// The same with what it consists of.
///
/// # Errors
/// If it is not there or cannot be read.
pub async fn stack_with_resources(inspector: &impl Inspector, name: &str) -> Result<DeployedStack> {
    let stack = stack_by_name(inspector, name).await?;
    let resources = inspector.resources(name).await;
    Ok(DeployedStack {
        resources: resources.map_err(|error| unreadable(inspector, name, error))?,
        ..stack
    })
}

/// A clock that is far off is a reason for which every call is refused.
fn unreadable(inspector: &impl Inspector, name: &str, error: InspectError) -> anyhow::Error {
    let off = match inspector.clock() {
        Some(ClockFound::Behind(millis)) => format!("; this machine's clock is {} s behind", millis / 1_000),
        Some(ClockFound::Ahead(millis)) => format!("; this machine's clock is {} s ahead", millis / 1_000),
        Some(ClockFound::Right) | None => String::new(),
    };
    anyhow::Error::new(error).context(format!("cannot read the stack {name}{off}"))
}

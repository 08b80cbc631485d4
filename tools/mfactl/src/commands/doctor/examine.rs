//! The examination: every part in turn, then orphans, then the fixes that were asked for.

use anyhow::{Result, bail};
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::names::ClientId;
use shared::ports::operator::{DeviceInventory, KeyRingStore, KeyRingSummary, SeedInventory};

use super::checks::{self, API_URL, AUTHS_TABLE, DEVICES_TABLE, USER_POOL_ID};
use super::deployment::{Doctor, Place, Stores};
use super::finding::{Finding, Part};
use crate::commands::pace::Delay;
use crate::commands::text::count;
use crate::ports::clients::{ClientError, ClientRegistry};
use crate::ports::stack::Inspector;
use crate::terminal::Terminal;

/// Findings of one kind that a person is shown; scripts get all.
const MOST_SHOWN: usize = 20;

/// How to examine.
#[derive(Debug, Clone, Copy)]
pub struct DoctorOptions {
    /// Whether to fix orphans.
    pub fix: bool,
    pub json: bool,
    /// Devices that are read at a time.
    pub page: u16,
}

impl<I, P, D, S, C, T> Doctor<I, P, D, S, C, T>
where
    I: Inspector,
    P: ClientRegistry,
    D: DeviceInventory,
    S: SeedInventory + KeyRingStore,
    C: Clock,
    T: Terminal,
{
    /// Checks every part, reports what was found, and fixes orphans if that was asked for.
    ///
    /// # Errors
    /// If there is a problem, or one is left after fixing.
    pub async fn examine(&mut self, options: &DoctorOptions, delay: &impl Delay) -> Result<()> {
        let mut findings = self.stack();
        findings.extend(self.tables().await);
        findings.extend(self.api().await);
        findings.extend(self.clients().await);
        findings.extend(self.alarms().await);
        findings.push(match self.place {
            Place::Aws => checks::clock(self.inspector.clock_offset()),
            Place::Local { clock_offset_seconds } => checks::local_clock(clock_offset_seconds),
        });
        // Taken out for the call, which needs the rest of `self` too.
        let stores = self.stores.take();
        let ring = match stores.as_ref().filter(|stores| stores.has_key_ring) {
            Some(stores) => Some(stores.seeds.read_key_ring().await),
            None => None,
        };
        findings.extend(checks::key_ring(&self.stack, ring.as_ref()));
        let ring = ring.and_then(Result::ok);
        let (orphans, fixed) = match &stores {
            Some(stores) => {
                self.orphans_after_fixes(stores, ring, options, &findings, delay)
                    .await?
            }
            // Reported as missing outputs of the stack.
            None => (Vec::new(), false),
        };
        self.stores = stores;
        if options.json || !fixed {
            findings.extend(orphans);
            self.report(&findings, options.json)?;
        } else {
            self.report(&orphans, false)?;
            findings.extend(orphans);
        }
        let problems = findings.iter().filter(|finding| finding.is_problem()).count();
        if problems > 0 {
            bail!("the stack {} has {}", self.stack.name, count(problems, "problem"));
        }
        Ok(())
    }

    /// The findings about orphans, after fixing them if that was asked for, and whether anything was fixed. A person sees
    /// all findings before the question.
    async fn orphans_after_fixes(
        &mut self,
        stores: &Stores<D, S>,
        ring: Option<KeyRingSummary>,
        options: &DoctorOptions,
        before: &[Finding],
        delay: &impl Delay,
    ) -> Result<(Vec<Finding>, bool)> {
        let found = match self.find_orphans(stores, ring, options.page).await {
            Ok(found) => found,
            Err(error) => return Ok((vec![Finding::not_checked(Part::Orphans, error.as_ref())], false)),
        };
        let all = options.json || options.fix;
        let findings = found.findings(&self.program, if all { usize::MAX } else { MOST_SHOWN });
        if !options.fix || !found.is_fixable() {
            return Ok((findings, false));
        }
        if !options.json {
            let shown: Vec<Finding> = before.iter().chain(&findings).cloned().collect();
            self.report(&shown, false)?;
        }
        Ok((self.fix(stores, found, options.page, delay).await?, true))
    }

    fn report(&mut self, findings: &[Finding], json: bool) -> Result<()> {
        let written = if json {
            let all: Vec<Value> = findings.iter().map(Finding::json).collect();
            let report = json!({ "stack": self.stack.name, "status": self.stack.status, "findings": all });
            self.terminal.print(&format!("{report:#}"))
        } else {
            let lines = findings.iter().map(Finding::lines).collect::<Vec<_>>();
            self.terminal.say(&lines.join("\n"))
        };
        Ok(written?)
    }

    fn is_local(&self) -> bool {
        self.place != Place::Aws
    }

    fn stack(&self) -> Vec<Finding> {
        if self.is_local() {
            return vec![Finding::notice(
                Part::Stack,
                "not checked: the local stack is not deployed by CloudFormation",
            )];
        }
        checks::stack(&self.stack)
    }

    async fn tables(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for output in [AUTHS_TABLE, DEVICES_TABLE] {
            // If it is missing, that is reported of the stack.
            if let Some(name) = self.stack.outputs.get(output) {
                match self.inspector.table(name).await {
                    Ok(found) => findings.extend(checks::table(&self.stack, output, name, found.as_ref())),
                    Err(error) => findings.push(Finding::not_checked(Part::Tables, &error)),
                }
            }
        }
        findings
    }

    async fn api(&self) -> Vec<Finding> {
        if self.is_local() {
            return vec![Finding::notice(
                Part::Api,
                "not checked: the local stack has no API Gateway",
            )];
        }
        let mut findings = Vec::new();
        if let Some(api) = self.stack.physical_id("Api") {
            match self.inspector.api_access(api).await {
                Ok(found) => findings.extend(checks::api_access(&self.stack, api, found.as_ref())),
                Err(error) => findings.push(Finding::not_checked(Part::Api, &error)),
            }
        }
        if let Some(url) = self.api_url.as_ref().or_else(|| self.stack.outputs.get(API_URL)) {
            for (verb, path) in checks::calls_without_token(&self.stack) {
                let url = format!("{}{path}", url.trim_end_matches('/'));
                findings.push(match self.inspector.status_without_token(verb, &url).await {
                    Ok(status) => checks::status_without_token(verb, &path, status),
                    Err(error) => Finding::not_checked(Part::Api, &error),
                });
            }
        }
        findings
    }

    async fn clients(&self) -> Vec<Finding> {
        let Some(pool) = self.stack.outputs.get(USER_POOL_ID) else {
            return Vec::new();
        };
        let mut findings = match self.inspector.user_pool(pool, checks::SERVER).await {
            Ok(found) => checks::user_pool(&self.stack, pool, found.as_ref()),
            Err(error) => vec![Finding::not_checked(Part::Clients, &error)],
        };
        if let Err(error) = self.clients.token_url().await {
            findings.push(checks::no_token_url(&error));
        }
        findings.push(match self.scopes_of_clients().await {
            Ok(clients) => checks::clients(&self.program, &clients),
            Err(error) => Finding::not_checked(Part::Clients, &error),
        });
        findings
    }

    async fn scopes_of_clients(&self) -> Result<Vec<(ClientId, Vec<String>)>, ClientError> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = self.clients.page(after.as_deref()).await?;
            for client in page.clients {
                // One that was removed in between is left out.
                if let Some(details) = self.clients.describe(&client.id).await? {
                    all.push((client.id, details.scopes));
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    async fn alarms(&self) -> Vec<Finding> {
        if self.is_local() {
            return vec![Finding::notice(
                Part::Alarms,
                "not checked: the local stack has no alarms",
            )];
        }
        let expected = checks::expected_alarms(&self.stack);
        let names: Vec<String> = expected.iter().filter_map(|alarm| alarm.name.clone()).collect();
        match self.inspector.alarms(&names).await {
            Ok(found) => checks::alarms(&self.stack, &expected, &found),
            Err(error) => vec![Finding::not_checked(Part::Alarms, &error)],
        }
    }
}

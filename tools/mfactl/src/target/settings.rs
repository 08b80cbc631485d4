//! The settings of a deployment, under the names that its functions read them by.

use std::collections::HashMap;

use anyhow::Result;
use shared::config::{self, Environment, Source};

use crate::ports::stack::DeployedStack;
use crate::usage::Usage;

/// A setting, and the option of the command line that sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The variable of the functions.
    pub name: &'static str,
    pub option: &'static str,
}

impl Setting {
    pub const DEVICES_TABLE: Self = Self::new(config::DEVICES_TABLE, "--devices-table");
    pub const SEED_PREFIX: Self = Self::new(config::SEED_PREFIX, "--seed-prefix");
    /// The KMS key that new seeds are encrypted with.
    pub const SEED_KEY: Self = Self::new("SEED_KEY", "--seed-key");
    pub const SEED_STORAGE: Self = Self::new(config::SEED_STORAGE, "--seed-storage");
    pub const SEED_CACHE_SECONDS: Self = Self::new(config::SEED_CACHE_SECONDS, "--seed-cache-seconds");
    pub const KEY_RING: Self = Self::new(config::KEY_RING, "--key-ring");
    pub const SEED_TAGS: Self = Self::new(config::SEED_TAGS, "--seed-tags");
    pub const GUESS_POLICY: Self = Self::new(config::GUESS_POLICY, "--policy");
    pub const GUESS_BURST: Self = Self::new(config::GUESS_BURST, "--policy-burst");
    pub const GUESS_REFILL_HOURS: Self = Self::new(config::GUESS_REFILL_HOURS, "--policy-refill-hours");
    pub const GUESS_PAIR_GAP_SECONDS: Self = Self::new(config::GUESS_PAIR_GAP_SECONDS, "--policy-pair-gap-seconds");
    pub const CLIENT_OWNERS: Self = Self::new(config::CLIENT_OWNERS, "--client-owners");
    pub const USER_POOL_ID: Self = Self::new("USER_POOL_ID", "--user-pool");

    const fn new(name: &'static str, option: &'static str) -> Self {
        Self { name, option }
    }
}

/// Settings by their names.
#[derive(Debug, Default)]
pub struct Settings {
    values: HashMap<String, String>,
    /// Whether what is not here comes from the environment.
    and_environment: bool,
}

impl Settings {
    /// The options of the command line; the environment has the rest.
    pub fn from_options<'a>(options: impl IntoIterator<Item = (Setting, &'a Option<String>)>) -> Self {
        let given = options.into_iter();
        let given = given.filter_map(|(setting, value)| Some((setting.name.to_owned(), value.clone()?)));
        Self {
            values: given.collect(),
            and_environment: true,
        }
    }

    /// Settings that are all known.
    pub(super) const fn from_values(values: HashMap<String, String>) -> Self {
        Self {
            values,
            and_environment: false,
        }
    }

    /// Adds the outputs and parameters of a stack, where no option was given.
    pub(super) fn add_stack(&mut self, stack: &DeployedStack) {
        let outputs = [
            (Setting::DEVICES_TABLE, "DevicesTable"),
            (Setting::SEED_PREFIX, "SeedPrefix"),
            (Setting::KEY_RING, "KeyRing"),
            (Setting::USER_POOL_ID, "UserPoolId"),
        ];
        let parameters = [
            (Setting::GUESS_POLICY, "GuessPolicy"),
            (Setting::GUESS_BURST, "GuessBurst"),
            (Setting::GUESS_REFILL_HOURS, "GuessRefillHours"),
            (Setting::GUESS_PAIR_GAP_SECONDS, "GuessPairGapSeconds"),
            (Setting::SEED_KEY, "SeedKey"),
            (Setting::SEED_STORAGE, "SeedStorage"),
            (Setting::SEED_CACHE_SECONDS, "SeedCacheSeconds"),
            (Setting::SEED_TAGS, "SeedTags"),
            (Setting::CLIENT_OWNERS, "ClientOwners"),
        ];
        let outputs = outputs.map(|(setting, name)| (setting, stack.outputs.get(name)));
        let parameters = parameters.map(|(setting, name)| (setting, stack.parameters.get(name)));
        for (setting, value) in outputs.into_iter().chain(parameters) {
            if let Some(value) = value {
                self.values
                    .entry(setting.name.to_owned())
                    .or_insert_with(|| value.clone());
            }
        }
    }

    /// The value of a setting, unless it is missing or empty.
    pub(super) fn get(&self, setting: Setting) -> Option<String> {
        Source::get(self, setting.name).filter(|value| !value.is_empty())
    }

    /// The value of a setting that the command needs.
    ///
    /// # Errors
    /// [`Usage`] if it is missing or empty.
    pub(super) fn require(&self, setting: Setting) -> Result<String> {
        let Setting { name, option } = setting;
        Ok(self.get(setting).ok_or_else(|| {
            Usage(format!(
                "{name} is not set: give --stack NAME, {option} or the variable {name}, or --local for the local stack"
            ))
        })?)
    }
}

impl Source for Settings {
    fn get(&self, name: &str) -> Option<String> {
        let value = self.values.get(name).cloned();
        value.or_else(|| self.and_environment.then(|| Environment.get(name))?)
    }
}

/// The prefix as the functions have it; the stack's output `SeedPrefix` has `/seed/` after it.
pub(super) fn without_seed(prefix: &str) -> &str {
    let prefix = prefix.trim_end_matches('/');
    prefix.strip_suffix("/seed").unwrap_or(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_same_from_a_function_and_from_an_output_of_the_stack() {
        for raw in ["mfa", "mfa/", "mfa/seed", "mfa/seed/"] {
            assert_eq!(without_seed(raw), "mfa", "{raw}");
        }
        assert_eq!(without_seed("seed"), "seed");
    }

    #[test]
    fn a_missing_setting_is_named_with_its_option() {
        let empty = Settings::from_values(HashMap::from([(config::DEVICES_TABLE.to_owned(), String::new())]));
        let error = empty.require(Setting::DEVICES_TABLE).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(
            text.contains("DEVICES_TABLE") && text.contains("--devices-table"),
            "{text}"
        );
    }

    #[test]
    fn an_option_takes_precedence_over_the_stack() {
        let given = Some("Mine".to_owned());
        let mut settings = Settings::from_options([(Setting::DEVICES_TABLE, &given), (Setting::SEED_KEY, &None)]);
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        settings.add_stack(&DeployedStack {
            name: "mfa".to_owned(),
            status: "CREATE_COMPLETE".to_owned(),
            created_at: None,
            outputs: HashMap::from([("DevicesTable", "Theirs"), ("SeedPrefix", "mfa/seed/")].map(owned)),
            parameters: HashMap::from([("SeedKey", ""), ("SeedTags", "team=a"), ("ClientOwners", "a=bank")].map(owned)),
            resources: Vec::new(),
        });
        assert_eq!(settings.get(Setting::DEVICES_TABLE).as_deref(), Some("Mine"));
        assert_eq!(settings.get(Setting::SEED_PREFIX).as_deref(), Some("mfa/seed/"));
        assert_eq!(settings.get(Setting::SEED_KEY), None);
        assert_eq!(settings.get(Setting::SEED_TAGS).as_deref(), Some("team=a"));
        assert_eq!(settings.get(Setting::CLIENT_OWNERS).as_deref(), Some("a=bank"));
    }
}

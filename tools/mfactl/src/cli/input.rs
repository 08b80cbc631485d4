//! Arguments that need more than parsing: files, standard input, the default client.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use shared::names::{ClientId, ClientOwners, DeviceKey, Owner};
use shared::otp::{OtpParameters, Seed};
use shared::ports::operator::DeviceFilter;
use zeroize::Zeroizing;

use super::arguments::{DeviceArguments, DeviceCommand, FilterArguments, OwnerArguments};
use crate::formats::csv::Users;
use crate::formats::encodings::seed_from_base32;
use crate::formats::import_file;
use crate::usage::Usage;

/// Whose devices are meant on a deployment.
#[derive(Debug, Default)]
pub(super) struct Owners {
    pub(super) of_clients: ClientOwners,
    /// The client that is meant unless another one is named.
    pub(super) default: Option<ClientId>,
}

impl DeviceCommand {
    /// Checks, before anything is asked over the network, that the device is named completely.
    ///
    /// # Errors
    /// [`Usage`] if neither owner nor client is given.
    pub(super) fn require_owner(&self) -> Result<(), Usage> {
        match self {
            Self::List { .. } | Self::Import(_) | Self::Export { .. } | Self::Restored { .. } => Ok(()),
            _ => self
                .owner()
                .map_or(Ok(()), |owner| owner.resolve(&Owners::default()).map(drop)),
        }
    }
}

impl OwnerArguments {
    /// The owner that was given, or that of the client.
    pub(super) fn resolve(&self, owners: &Owners) -> Result<Owner, Usage> {
        let client = self.client.as_ref().or(owners.default.as_ref());
        let owner = self.owner.clone();
        owner
            .or_else(|| client.map(|client| owners.of_clients.owner_of(client)))
            .ok_or_else(|| Usage("--client is missing: give the id of the client, or --owner".to_owned()))
    }

    const fn is_given(&self) -> bool {
        self.client.is_some() || self.owner.is_some()
    }
}

impl DeviceArguments {
    pub(super) fn key(&self, owners: &Owners) -> Result<DeviceKey, Usage> {
        Ok(DeviceKey {
            owner: self.owner.resolve(owners)?,
            user: self.user.clone(),
            device: self.device.clone(),
        })
    }
}

impl FilterArguments {
    pub(super) fn filter(&self, owners: &Owners) -> Result<DeviceFilter, Usage> {
        match &self.user {
            Some(user) => Ok(DeviceFilter::User(self.owner.resolve(owners)?, user.clone())),
            None if self.owner.is_given() => Ok(DeviceFilter::Owner(self.owner.resolve(owners)?)),
            None => Ok(DeviceFilter::All),
        }
    }
}

/// The content of a file, or of standard input.
pub(super) fn content(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    // A buffer that grows leaves copies behind.
    const CAPACITY: usize = 1024 * 1024;
    if path == Path::new("-") {
        let mut content = Zeroizing::new(Vec::with_capacity(CAPACITY));
        std::io::stdin()
            .read_to_end(&mut content)
            .context("cannot read standard input")?;
        return Ok(content);
    }
    let content = std::fs::read(path).map(Zeroizing::new);
    Ok(content.map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?)
}

/// The seed in a file, in base32.
pub(super) fn seed(path: &Path) -> Result<Seed> {
    let content = content(path)?;
    let text = str::from_utf8(&content).map_err(|_| Usage(format!("{} is not base32", path.display())))?;
    let seed = seed_from_base32(text.trim(), OtpParameters::default());
    Ok(seed.map_err(|error| Usage(format!("{} does not hold a seed: {error}", path.display())))?)
}

/// The users of serial numbers in a CSV file.
pub(super) fn users(path: &Path) -> Result<Users> {
    let content = content(path)?;
    let refused = |error: &dyn std::fmt::Display| Usage(format!("{} is not a list of users: {error}", path.display()));
    let text = import_file::text_of(&content).map_err(|error| refused(&error))?;
    Ok(Users::parse(text).map_err(|error| refused(&error))?)
}

/// The key in a file, in hexadecimal digits.
pub(super) fn pre_shared_key(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let content = content(path)?;
    let mut digits = Zeroizing::new(Vec::with_capacity(content.len()));
    digits.extend(content.iter().filter(|byte| !byte.is_ascii_whitespace()));
    let key = data_encoding::HEXLOWER_PERMISSIVE.decode(&digits).map(Zeroizing::new);
    Ok(key.map_err(|_| Usage(format!("{} does not hold a key in hexadecimal digits", path.display())))?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::arguments::{Arguments, Command};

    /// Of `device list` with these options.
    fn filter(options: &[&str], owners: &Owners) -> Result<DeviceFilter> {
        let line = ["mfactl", "device", "list"].iter().chain(options);
        let Command::Device(command) = Arguments::try_parse_from(line)?.command else {
            anyhow::bail!("another command");
        };
        let DeviceCommand::List { filter, .. } = *command else {
            anyhow::bail!("another command");
        };
        Ok(filter.filter(owners)?)
    }

    #[test]
    fn devices_are_those_of_the_owner_that_the_client_acts_for() -> Result<()> {
        let owners = Owners {
            of_clients: ClientOwners::parse("settings=bank,sign-in=bank")?,
            default: Some(ClientId::parse("sign-in")?),
        };
        let of = |owner: &str| Owner::parse(owner).map(DeviceFilter::Owner);
        assert_eq!(filter(&["--client", "settings"], &owners)?, of("bank")?);
        assert_eq!(filter(&["--client", "shop"], &owners)?, of("shop")?);
        assert_eq!(filter(&["--owner", "settings"], &owners)?, of("settings")?);
        assert!(filter(&["--owner", "bank", "--client", "shop"], &owners).is_err());
        assert!(filter(&["--client", "a#b"], &owners).is_err() && filter(&["--owner", "a#b"], &owners).is_err());
        assert_eq!(filter(&[], &owners)?, DeviceFilter::All);
        let alice = ["--user", "alice"];
        let expected = DeviceFilter::User(Owner::parse("bank")?, shared::names::UserName::parse("alice")?);
        assert_eq!(filter(&alice, &owners)?, expected);
        let error = filter(&alice, &Owners::default()).err();
        assert!(error.is_some_and(|error| error.to_string().contains("--client is missing")));
        Ok(())
    }

    #[test]
    fn a_time_to_activate_is_in_hours_or_days() {
        for (raw, hours) in [
            ("1h", Some(1)),
            ("36h", Some(36)),
            ("7d", Some(168)),
            ("365d", Some(8_760)),
            ("366d", None),
            ("0h", None),
            ("7", None),
            ("d", None),
            ("1.5d", None),
            ("99999999999999999999d", None),
            ("999999999999999999d", None),
        ] {
            let line = "mfactl device register --owner bank --user alice --device phone --activate-within";
            let parsed = Arguments::try_parse_from(line.split(' ').chain([raw]));
            let found = parsed.ok().and_then(|arguments| match arguments.command {
                Command::Device(command) => match *command {
                    DeviceCommand::Register(given) => Some(given.activate_within.as_secs() / 3_600),
                    _ => None,
                },
                _ => None,
            });
            assert_eq!(found, hours, "{raw}");
        }
    }
}

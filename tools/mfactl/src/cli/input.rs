//! Arguments that need more than parsing: files, standard input, the default client.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use shared::names::{ClientId, DeviceKey};
use shared::otp::{OtpParameters, Seed};
use shared::ports::operator::DeviceFilter;
use zeroize::Zeroizing;

use super::arguments::{DeviceArguments, DeviceCommand, FilterArguments};
use crate::formats::csv::Users;
use crate::formats::encodings::seed_from_base32;
use crate::formats::import_file;
use crate::usage::Usage;

/// The client that was given, or the default one.
pub(super) fn client(given: Option<&str>, default: Option<&ClientId>) -> Result<ClientId, Usage> {
    match (given, default) {
        (Some(raw), _) => ClientId::parse(raw).map_err(|error| Usage(format!("--client is not a client id: {error}"))),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => Err(Usage("--client is missing: give the id of the client".to_owned())),
    }
}

impl DeviceCommand {
    /// Checks, before anything is asked over the network, that the device is named completely. `default` is the client that a
    /// deployment has by itself.
    ///
    /// # Errors
    /// [`Usage`] if the client is missing or invalid.
    pub(super) fn require_client(&self, default: Option<&ClientId>) -> Result<(), Usage> {
        let device = match self {
            Self::Register(given) => &given.device,
            Self::Activate { device, .. }
            | Self::Show { device, .. }
            | Self::Disable { device, .. }
            | Self::Enable { device, .. }
            | Self::Unlock { device, .. }
            | Self::Remove { device, .. }
            | Self::Check { device, .. } => device,
            Self::List { .. } | Self::Import(_) | Self::Export { .. } | Self::Restored { .. } => return Ok(()),
        };
        device.key(default).map(drop)
    }
}

impl DeviceArguments {
    pub(super) fn key(&self, default: Option<&ClientId>) -> Result<DeviceKey, Usage> {
        Ok(DeviceKey {
            owner: client(self.client.as_deref(), default)?.into(),
            user: self.user.clone(),
            device: self.device.clone(),
        })
    }
}

impl FilterArguments {
    pub(super) fn filter(&self, default: Option<&ClientId>) -> Result<DeviceFilter, Usage> {
        match (&self.client, &self.user) {
            (None, None) => Ok(DeviceFilter::All),
            (Some(raw), None) => Ok(DeviceFilter::Owner(client(Some(raw), None)?.into())),
            (raw, Some(user)) => Ok(DeviceFilter::User(
                client(raw.as_deref(), default)?.into(),
                user.clone(),
            )),
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
    use shared::names::UserName;

    use super::*;

    #[test]
    fn a_user_without_a_client_is_refused_unless_there_is_a_default() -> Result<()> {
        let arguments = FilterArguments {
            client: None,
            user: Some(UserName::parse("alice")?),
        };
        assert!(arguments.filter(None).is_err());
        let shop = ClientId::parse("shop")?;
        let expected = DeviceFilter::User((&shop).into(), UserName::parse("alice")?);
        assert_eq!(arguments.filter(Some(&shop))?, expected);
        Ok(())
    }
}

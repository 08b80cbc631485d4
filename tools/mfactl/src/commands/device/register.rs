//! `register`: a new seed, for a new device or for one whose seed is to be replaced.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use shared::clock::Clock;
use shared::device::Status;
use shared::names::DeviceKey;
use shared::otp::{Algorithm, Digits, OtpParameters, Period, Seed};
use shared::otpauth::{self, Issuer};
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;
use shared::registration::{RegistrationRefusal, require_registrable};
use zeroize::Zeroizing;

use super::admin::{DeviceAdmin, Terms, disabled};
use crate::commands::output_file::OutputFile;
use crate::commands::text::{name_of, options_for};
use crate::formats::qr::{Qr, QrError};
use crate::terminal::Terminal;
use crate::usage::Usage;

/// What `register` was asked for.
#[derive(Debug)]
pub struct RegisterRequest {
    pub key: DeviceKey,
    /// What the app shows as the issuer.
    pub issuer: Issuer,
    pub parameters: OtpParameters,
    /// Whether an active device gets a new seed.
    pub replace: bool,
    /// How long a new seed waits for its first code.
    pub pending_for: Duration,
    /// How long a device that was never active is kept from cleaning up.
    pub activate_within: Duration,
    /// Whether to ask for the first code.
    pub activate: bool,
    /// Where to write the QR code as PNG.
    pub png: Option<PathBuf>,
    /// Where to write the QR code as SVG.
    pub svg: Option<PathBuf>,
}

impl<D: DeviceInventory, S: SeedInventory, C: Clock, R: Random, T: Terminal> DeviceAdmin<D, S, C, R, T> {
    /// Registers a device, or a new seed for it.
    ///
    /// # Errors
    /// With what to do about it. The next `register` finishes or replaces what this one has written.
    pub async fn register(&mut self, request: &RegisterRequest) -> Result<()> {
        let pictures = Pictures::open(request, self.yes)?;
        let found = self.find(&request.key).await?;
        require_registrable(found.as_ref(), request.replace).map_err(|refusal| refused(&request.key, refusal))?;
        for warning in warnings(request.parameters) {
            self.terminal.note(warning)?;
        }
        let seed = Seed::generate(&self.random, request.parameters)?;
        let uri = otpauth::build(&request.issuer, &request.key.user, &request.key.device, &seed);
        // Before anything is stored, since this may fail.
        let pictures = pictures.draw(&uri)?;
        let terms = Terms {
            status: Status::ActivationRequired,
            replace: request.replace,
            pending_for: request.pending_for,
            activate_within: request.activate_within,
        };
        let new = self.store(&request.key, found, &seed, &terms).await?;
        for (file, picture) in pictures {
            file.write(&picture)?;
        }
        self.show_seed(request, &uri)?;
        if request.activate {
            self.activate_with(&request.key, &new).await
        } else {
            self.terminal.note(&format!(
                "The seed is not in use until `mfactl device activate {}` accepts its first code.",
                options_for(&request.key)
            ))?;
            Ok(())
        }
    }

    /// Shows the seed, the only time.
    fn show_seed(&mut self, request: &RegisterRequest, uri: &str) -> Result<()> {
        let qr = match Qr::encode_within(uri, self.terminal.columns().unwrap_or(usize::MAX)) {
            Ok(qr) => Some(qr),
            Err(error) => {
                let instead = match error {
                    QrError::TooWide { .. } if request.png.is_some() || request.svg.is_some() => "It is in the file",
                    QrError::TooWide { .. } => {
                        "Enter the URI by hand, widen the terminal and run it again, or run it again with --png FILE"
                    }
                    QrError::TooLong | QrError::Picture => "Enter the URI by hand",
                };
                self.terminal.note(&format!("No QR code here: {error}. {instead}."))?;
                None
            }
        };
        self.terminal
            .note("Scan this with the authenticator app. It is the device's secret, and it is shown only once.")?;
        if let Some(qr) = &qr {
            self.terminal.print(&qr.text(self.terminal.has_colours()))?;
        }
        Ok(self.terminal.print(uri)?)
    }
}

/// The files for the QR code, open and empty.
struct Pictures {
    png: Option<OutputFile>,
    svg: Option<OutputFile>,
}

impl Pictures {
    fn open(request: &RegisterRequest, overwrite: bool) -> Result<Self> {
        if request.png.is_some() && request.png == request.svg {
            return Err(Usage("--png and --svg name the same file".to_owned()).into());
        }
        let open = |path: &Option<PathBuf>| {
            path.as_deref()
                .map(|path| OutputFile::open(path, overwrite))
                .transpose()
        };
        Ok(Self {
            png: open(&request.png)?,
            svg: open(&request.svg)?,
        })
    }

    /// What is to be written to each file.
    fn draw(self, uri: &str) -> Result<Vec<(OutputFile, Zeroizing<Vec<u8>>)>> {
        let mut drawn = Vec::new();
        if self.png.is_none() && self.svg.is_none() {
            return Ok(drawn);
        }
        let qr = Qr::encode(uri)
            .context("no picture can be drawn: choose a shorter --issuer, or leave out --png and --svg")?;
        if let Some(file) = self.png {
            drawn.push((file, qr.png()?));
        }
        if let Some(file) = self.svg {
            drawn.push((file, Zeroizing::new(qr.svg().as_bytes().to_vec())));
        }
        Ok(drawn)
    }
}

fn refused(key: &DeviceKey, refusal: RegistrationRefusal) -> anyhow::Error {
    match refusal {
        RegistrationRefusal::Disabled => disabled(key),
        // An operator has no limit of devices.
        RegistrationRefusal::Exists | RegistrationRefusal::TooManyDevices => anyhow!(
            "the device {} is already active: --replace gives it a new seed, and the old one works until the first correct code \
             of the new one",
            name_of(key)
        ),
    }
}

/// Which apps ignore parameters that are not the default.
fn warnings(parameters: OtpParameters) -> impl Iterator<Item = &'static str> {
    let OtpParameters {
        algorithm,
        digits,
        period,
    } = parameters;
    [
        (algorithm != Algorithm::Sha1).then_some(
            "Warning: some apps ignore the algorithm and show SHA-1 codes, which never work: Microsoft Authenticator, \
             older versions of Google Authenticator. The first code shows whether the user's app is one of them.",
        ),
        (digits != Digits::Six).then_some(
            "Warning: some apps ignore the digits and show 6, which never work: Microsoft Authenticator, older versions \
             of Google Authenticator. The first code shows whether the user's app is one of them.",
        ),
        (period != Period::Thirty).then_some(
            "Warning: some apps ignore the period and change codes every 30 seconds, which never work: Google \
             Authenticator, Microsoft Authenticator. The first code shows whether the user's app is one of them.",
        ),
    ]
    .into_iter()
    .flatten()
}

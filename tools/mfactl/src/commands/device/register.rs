//! `register`: a new seed, for a new device or for one whose seed is to be replaced.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use shared::clock::Clock;
use shared::device::{Device, DeviceRecord, NewSeed, PendingSeed, Status};
use shared::names::{DeviceKey, SeedRef};
use shared::otp::{Algorithm, Digits, OtpParameters, Period, Seed};
use shared::ports::Written;
use shared::ports::operator::{DeviceInventory, SeedInventory};
use shared::random::Random;
use zeroize::Zeroizing;

use super::admin::{DeviceAdmin, Removal, disabled};
use crate::commands::output_file::OutputFile;
use crate::commands::text::{name_of, options_for};
use crate::formats::otpauth::{self, Issuer};
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
        if let Some(record) = &found {
            require_registrable(record, request)?;
        }
        for warning in warnings(request.parameters) {
            self.terminal.note(warning)?;
        }
        let seed = self.new_seed(request.parameters)?;
        // Before anything is stored, since this may fail.
        let uri = otpauth::build(&request.issuer, &request.key.user, &request.key.device, &seed)?;
        let pictures = pictures.draw(&uri)?;
        let seed_ref = match found {
            None => self
                .store_new(&request.key, &seed, Status::ActivationRequired)
                .await?
                .ok_or_else(|| anyhow!("the device {} was registered concurrently", name_of(&request.key)))?,
            Some(record) => {
                let status = Status::ActivationRequired;
                self.store_over(&record, &seed, request.pending_for, status).await?
            }
        };
        for (file, picture) in pictures {
            file.write(&picture)?;
        }
        self.show_seed(request, &uri)?;
        if request.activate {
            let new = NewSeed {
                seed_ref,
                parameters: request.parameters,
            };
            self.activate_with(&request.key, new, &seed).await
        } else {
            self.terminal.note(&format!(
                "The seed is not in use until `mfactl device activate {}` accepts its first code.",
                options_for(&request.key)
            ))?;
            Ok(())
        }
    }

    /// Stores a new seed for an existing device: as pending for an active one; in place of the old one for a device that
    /// was never active, which then has a status as if it were new.
    pub(super) async fn store_over(
        &mut self,
        record: &DeviceRecord,
        seed: &Seed,
        pending_for: Duration,
        status: Status,
    ) -> Result<SeedRef> {
        let (key, held) = (&record.key, &record.device);
        let seed_ref = self.create_seed(seed).await?;
        let pending = PendingSeed {
            seed_ref: seed_ref.clone(),
            until: self.clock.now().plus(pending_for),
        };
        let conflict = || anyhow!("the device {} was changed concurrently: run it again", name_of(key));
        let offered = match self.devices.set_pending_seed(key, held, &pending).await {
            Ok(Written::Yes) => Ok(()),
            Ok(Written::No(_) | Written::NotPending) => {
                self.discard(&seed_ref, Removal::ForGood).await?;
                Err(conflict())
            }
            Err(_) if self.names_or_discard(key, Some(held), &seed_ref).await? => Ok(()),
            Err(error) => Err(anyhow!(error).context(format!("cannot write the device {}", name_of(key)))),
        };
        offered?;
        // The previous pending seed was never in use, and the device does not name it any more.
        if let Some(former) = &record.pending {
            self.discard(&former.seed_ref, Removal::ForGood).await?;
        }
        if held.status == Status::ActivationRequired {
            let held = Device {
                version: held.version.saturating_add(1),
                ..held.clone()
            };
            let version = held.version.saturating_add(1);
            let new = match status {
                // Wrong codes of the registration that was not finished do not count against the new seed.
                Status::Active => Device::registered(version, status, seed_ref.clone(), seed.parameters()),
                Status::ActivationRequired | Status::Disabled => Device {
                    version,
                    seed_ref: seed_ref.clone(),
                    parameters: seed.parameters(),
                    ..held.clone()
                },
            };
            match self.devices.replace(key, &held, &new, None).await {
                Ok(Written::Yes) => {}
                Ok(Written::No(Some(stored))) if *stored == new => {}
                Ok(Written::No(_) | Written::NotPending) => return Err(conflict()),
                Err(error) => {
                    let record = self.devices.record(key).await.ok().flatten();
                    if record.is_none_or(|record| record.device.seed_ref != seed_ref) {
                        let what = format!("cannot write the device {}: run it again", name_of(key));
                        return Err(anyhow!(error).context(what));
                    }
                }
            }
            self.discard(&held.seed_ref, Removal::ForGood).await?;
        }
        Ok(seed_ref)
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

fn require_registrable(record: &DeviceRecord, request: &RegisterRequest) -> Result<()> {
    match record.device.status {
        Status::ActivationRequired => Ok(()),
        Status::Active if request.replace => Ok(()),
        Status::Active => bail!(
            "the device {} is already active: --replace gives it a new seed, and the old one works until the first correct code \
             of the new one",
            name_of(&record.key)
        ),
        Status::Disabled => Err(disabled(&record.key)),
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

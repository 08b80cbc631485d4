//! The functions in this process, with the settings that they get from their environment on Lambda.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, Result};
use init_auth::InitAuth;
use lambda_http::{Body, Response};
use manage_devices::ManageDevices;
use shared::aws::sdk::Limits;
use shared::config::{InitAuthConfig, ManageDevicesConfig, ValidateOtpConfig};
use shared::http::Event;
use shared::random::SystemRandom;
use validate_otp::ValidateOtp;

use super::log::Log;
use crate::clock::LocalClock;
use crate::stores::clients;
use crate::template::Function;

type Clock = Arc<LocalClock>;

struct Instances {
    init_auth: init_auth::OnAws<Clock, SystemRandom, Arc<Log>>,
    validate_otp: validate_otp::OnAws<Clock, SystemRandom, Arc<Log>>,
    manage_devices: manage_devices::OnAws<Clock, SystemRandom, Arc<Log>>,
}

/// The functions, and how to start them again.
pub(crate) struct Functions {
    settings: BTreeMap<String, String>,
    dynamodb_url: String,
    secrets_manager_url: String,
    clock: Clock,
    log: Arc<Log>,
    running: RwLock<Arc<Instances>>,
}

impl Functions {
    pub(crate) fn start(
        settings: BTreeMap<String, String>,
        dynamodb_url: &str,
        secrets_manager_url: &str,
        clock: Clock,
        log: Arc<Log>,
    ) -> Result<Self> {
        let instances = Instances::start(&settings, dynamodb_url, secrets_manager_url, &clock, &log)?;
        Ok(Self {
            settings,
            dynamodb_url: dynamodb_url.to_owned(),
            secrets_manager_url: secrets_manager_url.to_owned(),
            clock,
            log,
            running: RwLock::new(Arc::new(instances)),
        })
    }

    /// Replaces the instances for all later requests: new connections, nothing in memory.
    pub(crate) fn cold_start(&self) -> Result<()> {
        let Self {
            settings,
            dynamodb_url,
            secrets_manager_url,
            clock,
            log,
            running,
        } = self;
        let instances = Instances::start(settings, dynamodb_url, secrets_manager_url, clock, log)?;
        *running.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(instances);
        Ok(())
    }

    /// Hands an event to a function, which continues even if the caller disconnects, as on Lambda.
    ///
    /// # Errors
    /// If the function panicked.
    pub(crate) async fn call(&self, function: Function, event: Event) -> Result<Response<Body>> {
        let instances = Arc::clone(&self.running.read().unwrap_or_else(PoisonError::into_inner));
        let work = async move {
            match function {
                Function::InitAuth => instances.init_auth.handle(event).await,
                Function::ValidateOtp => instances.validate_otp.handle(event).await,
                Function::ManageDevices => instances.manage_devices.handle(event).await,
            }
        };
        tokio::spawn(work).await.context("the function panicked")
    }
}

impl Instances {
    fn start(
        settings: &BTreeMap<String, String>,
        dynamodb_url: &str,
        secrets_manager_url: &str,
        clock: &Clock,
        log: &Arc<Log>,
    ) -> Result<Self> {
        let clients = clients(dynamodb_url, secrets_manager_url, Limits::REQUEST);
        let init_auth = InitAuthConfig::read(settings)?;
        let validate_otp = ValidateOtpConfig::read(settings)?;
        let manage_devices = ManageDevicesConfig::read(settings)?;
        let (clock, log) = (|| Arc::clone(clock), || Arc::clone(log));
        Ok(Self {
            init_auth: InitAuth::on_aws(&init_auth, &clients, clock(), SystemRandom, log()),
            validate_otp: ValidateOtp::on_aws(&validate_otp, &clients, clock(), SystemRandom, log()),
            manage_devices: ManageDevices::on_aws(&manage_devices, &clients, clock(), SystemRandom, log()),
        })
    }
}

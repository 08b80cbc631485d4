//! Composes `validate-otp` from the environment and serves it to Lambda.

use std::convert::Infallible;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use shared::aws::sdk::Clients;
use shared::clock::SystemClock;
use shared::config::{Environment, SystemRandom, ValidateOtpConfig};
use shared::http::event::{self, Event};
use shared::telemetry::{StdoutLog, listen_to_libraries};
use validate_otp::ValidateOtp;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    listen_to_libraries();
    let config = ValidateOtpConfig::read(&Environment)?;
    let clients = Clients::from_environment().await;
    let endpoint = &ValidateOtp::on_aws(&config, &clients, SystemClock, SystemRandom, StdoutLog);
    endpoint.warm_up(&config.seed_prefix).await;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Event>| async move {
        Ok::<_, Infallible>(event::answer(endpoint.handle(event.payload.into()).await))
    }))
    .await
}

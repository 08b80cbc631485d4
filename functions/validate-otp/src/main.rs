//! Composes `validate-otp` from the environment and serves it to Lambda.

use std::convert::Infallible;

use lambda_runtime::{Error, LambdaEvent, service_fn};
use shared::aws::sdk::{Clients, Endpoints, Limits};
use shared::clock::SystemClock;
use shared::config::{AwsConfig, Environment, ValidateOtpConfig};
use shared::http::event::{Event, into_proxy_response};
use shared::random::SystemRandom;
use shared::telemetry::{StdoutLog, log_libraries};
use validate_otp::ValidateOtp;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    log_libraries();
    let settings = ValidateOtpConfig::read(&Environment)?;
    let endpoints = Endpoints::for_function(AwsConfig::read(&Environment)?);
    let clients = Clients::new(endpoints, Limits::REQUEST);
    let endpoint = &ValidateOtp::on_aws(&settings, &clients, SystemClock, SystemRandom, StdoutLog);
    endpoint.warm_up().await;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Event>| async move {
        Ok::<_, Infallible>(into_proxy_response(endpoint.handle(event.payload).await))
    }))
    .await
}

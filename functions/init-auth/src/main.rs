//! Composes `init-auth` from the environment and serves it to Lambda.

use std::convert::Infallible;

use init_auth::InitAuth;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use shared::aws::sdk::Clients;
use shared::clock::SystemClock;
use shared::config::{Environment, InitAuthConfig, SystemRandom};
use shared::http::event::{self, Event};
use shared::telemetry::{StdoutLog, listen_to_libraries};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    listen_to_libraries();
    let config = InitAuthConfig::read(&Environment)?;
    let clients = Clients::from_environment().await;
    let endpoint = &InitAuth::on_aws(&config, &clients, SystemClock, SystemRandom, StdoutLog);
    endpoint.warm_up().await;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Event>| async move {
        Ok::<_, Infallible>(event::answer(endpoint.handle(event.payload.into()).await))
    }))
    .await
}

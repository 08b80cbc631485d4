//! Secrets Manager over HTTP: hands requests to the emulator, and keeps its state in a file after every change. Lists come
//! from `secret_list`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::create_secret::CreateSecretError;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Mutex;
use winterbaume_core::{MockRequest, MockService as _, StatefulService as _, default_account_id};
use winterbaume_secretsmanager::SecretsManagerService;
use zeroize::Zeroizing;

use super::{secret_list, version_stages};
use crate::cognito::exception::respond;
// The emulator takes the region from the host's name, and loopback has none: its default is this one.
use crate::cognito::identity::REGION;
use crate::files::DataDir;
use crate::random;

const FILE: &str = "secrets.json";
/// A secret has at most 65,536 bytes.
const LONGEST_BODY: usize = 256 * 1_024;
/// Operations that change nothing.
const READS: [&str; 6] = [
    "GetSecretValue",
    "BatchGetSecretValue",
    "DescribeSecret",
    "ListSecretVersionIds",
    "GetRandomPassword",
    "GetResourcePolicy",
];

/// The name of the key ring's secret. On AWS it has none of its own.
pub const KEY_RING: &str = "mfa-key-ring";

/// Makes the key ring as the template does: one key of 64 letters and digits. The one of an earlier start stays.
pub(super) async fn create_key_ring(client: &Client) -> Result<()> {
    // Of 256 values 62 times 4 are used, so that every character is equally likely.
    const CHARACTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut key = Zeroizing::new(String::with_capacity(64));
    while key.len() < 64 {
        let drawn = random::bytes::<64>()?;
        let fair = drawn.iter().filter(|byte| **byte < 248);
        let letters = fair.filter_map(|byte| CHARACTERS.get(usize::from(byte % 62)));
        let missing = 64 - key.len();
        key.extend(letters.take(missing).map(|letter| char::from(*letter)));
    }
    let text = Zeroizing::new(format!("{{\"format\":1,\"previous\":[],\"current\":\"{}\"}}", *key));
    let created = client
        .create_secret()
        .name(KEY_RING)
        .secret_string(text.as_str())
        .send()
        .await;
    match created {
        Ok(_) => Ok(()),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(CreateSecretError::is_resource_exists_exception) =>
        {
            Ok(())
        }
        Err(error) => Err(error).context("cannot create the key ring"),
    }
}

struct Front {
    service: SecretsManagerService,
    data_dir: Option<Arc<DataDir>>,
    /// One change at a time, so that the file has every change that was acknowledged.
    changing: Mutex<()>,
}

/// The emulator behind a router, with the secrets from the data directory.
pub(super) async fn router(data_dir: Option<Arc<DataDir>>) -> Result<Router> {
    let service = SecretsManagerService::new();
    if let Some(text) = data_dir
        .as_ref()
        .map(|data_dir| data_dir.read(FILE))
        .transpose()?
        .flatten()
    {
        let view = serde_json::from_str(&text).map_err(|_| anyhow::anyhow!("{FILE} is damaged"))?;
        service
            .restore(default_account_id(), REGION, view)
            .await
            .context("cannot restore the secrets")?;
    }
    let front = Front {
        service,
        data_dir,
        changing: Mutex::new(()),
    };
    Ok(Router::new().fallback(handle).with_state(Arc::new(front)))
}

async fn handle(State(front): State<Arc<Front>>, request: Request) -> Response {
    front.answer(request).await.unwrap_or_else(|_| {
        let error = "{\"__type\":\"InternalServiceError\",\"message\":\"An error occurred on the server side.\"}";
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "application/x-amz-json-1.1")],
            error,
        )
            .into_response()
    })
}

impl Front {
    async fn answer(&self, request: Request) -> Result<Response> {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, LONGEST_BODY).await?;
        let target = head
            .headers
            .get("x-amz-target")
            .and_then(|target| target.to_str().ok())
            .unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default();
        if operation == "ListSecrets" {
            let all = self.service.snapshot(default_account_id(), REGION).await;
            return Ok(respond(secret_list::page(&all, &body)));
        }
        let reads = READS.contains(&operation);
        let moves_label = operation == "UpdateSecretVersionStage";
        let request = MockRequest {
            method: head.method.to_string(),
            uri: head.uri.to_string(),
            headers: head.headers,
            body,
        };
        let answer = if reads {
            self.service.handle(request).await
        } else {
            let _changing = self.changing.lock().await;
            if moves_label {
                let all = self.service.snapshot(default_account_id(), REGION).await;
                if let Err(refusal) = version_stages::check(&all, &request.body) {
                    return Ok(respond(Err(refusal)));
                }
            }
            let answer = self.service.handle(request).await;
            // Nothing is acknowledged before it is on disk.
            self.save().await?;
            answer
        };
        let mut response = Response::new(Body::from(answer.body));
        *response.status_mut() = StatusCode::from_u16(answer.status)?;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    async fn save(&self) -> Result<()> {
        let Some(data_dir) = &self.data_dir else { return Ok(()) };
        let view = self.service.snapshot(default_account_id(), REGION).await;
        data_dir.write(FILE, &Zeroizing::new(serde_json::to_vec(&view)?))
    }
}

//! Secrets Manager over HTTP. Every secret has an emulator of its own, which copies all that it has at every call, and a file
//! of its own, which is written after every change: a call costs the same however many secrets there are. Lists come from
//! `secret_list`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::digest::{SHA256, digest};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::create_secret::CreateSecretError;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use data_encoding::HEXLOWER;
use serde_json::Value;
use shared::random::SystemRandom;
use shared::sealed::NewKey;
use winterbaume_core::{MockRequest, MockService as _, StatefulService as _, default_account_id};
use winterbaume_secretsmanager::views::SecretView;
use winterbaume_secretsmanager::{SecretsManagerService, SecretsmanagerStateView};
use zeroize::Zeroizing;

use super::secret_list::{Position, SecretList};
use super::version_stages;
use crate::cognito::exception::respond;
// The emulator takes the region from the host's name, and loopback has none: its default is this one.
use crate::cognito::identity::REGION;
use crate::files::DataDir;

/// How the names of files begin, before the hash of the secret's name.
const FILE: &str = "secret-";
/// Earlier versions kept all secrets in this one.
const FILE_OF_ALL: &str = "secrets.json";
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
    let key = NewKey::generate(&SystemRandom)?;
    let text = Zeroizing::new(format!(
        "{{\"format\":1,\"previous\":[],\"current\":\"{}\"}}",
        key.characters()
    ));
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

/// A secret's emulator, and its position in the list.
struct Held {
    service: Arc<SecretsManagerService>,
    position: Position,
}

#[derive(Default)]
struct Secrets {
    by_name: HashMap<String, Held>,
    list: SecretList,
}

struct Front {
    secrets: Mutex<Secrets>,
    data_dir: Option<Arc<DataDir>>,
    /// One change at a time, so that the files have every change that was acknowledged.
    changing: tokio::sync::Mutex<()>,
}

/// The emulators behind a router, with the secrets from the data directory.
pub(super) async fn router(data_dir: Option<Arc<DataDir>>) -> Result<Router> {
    let front = Front {
        secrets: Mutex::default(),
        data_dir,
        changing: tokio::sync::Mutex::default(),
    };
    if let Some(data_dir) = &front.data_dir {
        split_file_of_all(data_dir)?;
        for file in data_dir.names_with(FILE)? {
            for secret in read(data_dir, &file)? {
                let service = emulator_of([secret.clone()]).await?;
                let hold = front.secrets().hold(Arc::new(service), secret);
                hold.with_context(|| format!("{file} is damaged"))?;
            }
        }
    }
    Ok(Router::new().fallback(handle).with_state(Arc::new(front)))
}

fn split_file_of_all(data_dir: &DataDir) -> Result<()> {
    for secret in read(data_dir, FILE_OF_ALL)? {
        write(data_dir, &secret)?;
    }
    data_dir.remove(FILE_OF_ALL)
}

/// The secrets of a file; none if it does not exist.
fn read(data_dir: &DataDir, file: &str) -> Result<Vec<SecretView>> {
    let Some(text) = data_dir.read(file)? else {
        return Ok(Vec::new());
    };
    let state: SecretsmanagerStateView = serde_json::from_str(&text).map_err(|_| anyhow!("{file} is damaged"))?;
    Ok(state.secrets.into_values().collect())
}

fn write(data_dir: &DataDir, secret: &SecretView) -> Result<()> {
    let text = Zeroizing::new(serde_json::to_vec(&state_of([secret.clone()]))?);
    data_dir.write(&file_of(&secret.name), &text)
}

/// A secret's name may be longer than that of a file.
fn file_of(name: &str) -> String {
    format!(
        "{FILE}{}.json",
        HEXLOWER.encode(digest(&SHA256, name.as_bytes()).as_ref())
    )
}

fn state_of(secrets: impl IntoIterator<Item = SecretView>) -> SecretsmanagerStateView {
    let secrets = secrets.into_iter();
    SecretsmanagerStateView {
        secrets: secrets.map(|secret| (secret.name.clone(), secret)).collect(),
    }
}

async fn emulator_of(secrets: impl IntoIterator<Item = SecretView>) -> Result<SecretsManagerService> {
    let service = SecretsManagerService::new();
    let restored = service.restore(default_account_id(), REGION, state_of(secrets));
    restored.await.context("cannot restore the secrets")?;
    Ok(service)
}

/// The name of the secret that a request is about; it may be in an ARN, before a hyphen and six characters.
fn secret_name(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let id = body.get("SecretId").or_else(|| body.get("Name"))?.as_str()?;
    let of_arn = || id.strip_prefix("arn:")?.split_once(":secret:")?.1.rsplit_once('-');
    Some(of_arn().map_or(id, |(name, _)| name).to_owned())
}

impl Secrets {
    fn hold(&mut self, service: Arc<SecretsManagerService>, secret: SecretView) -> Option<()> {
        let name = secret.name.clone();
        let position = self.list.set(secret)?;
        self.by_name.insert(name, Held { service, position });
        Some(())
    }
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
            return Ok(respond(self.secrets().list.page(&body)));
        }
        let reads = READS.contains(&operation);
        let moves_label = operation == "UpdateSecretVersionStage";
        let name = secret_name(&body);
        let request = MockRequest {
            method: head.method.to_string(),
            uri: head.uri.to_string(),
            headers: head.headers,
            body,
        };
        let answer = match name {
            // It may be about several.
            None if reads => self.emulator_of_all().await?.handle(request).await,
            None => SecretsManagerService::new().handle(request).await,
            Some(name) if reads => self.emulator(&name).handle(request).await,
            Some(name) => {
                let _changing = self.changing.lock().await;
                let service = self.emulator(&name);
                if moves_label {
                    let secret = service.snapshot(default_account_id(), REGION).await;
                    if let Err(refusal) = version_stages::check(&secret, &request.body) {
                        return Ok(respond(Err(refusal)));
                    }
                }
                let answer = service.handle(request).await;
                // Nothing is acknowledged before it is on disk.
                self.save(&name, service).await?;
                answer
            }
        };
        let mut response = Response::new(Body::from(answer.body));
        *response.status_mut() = StatusCode::from_u16(answer.status)?;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The emulator of a secret; an empty one if it does not exist.
    fn emulator(&self, name: &str) -> Arc<SecretsManagerService> {
        let secrets = self.secrets();
        let held = secrets.by_name.get(name).map(|held| Arc::clone(&held.service));
        held.unwrap_or_default()
    }

    async fn emulator_of_all(&self) -> Result<SecretsManagerService> {
        let all: Vec<SecretView> = self.secrets().list.all().cloned().collect();
        emulator_of(all).await
    }

    /// Keeps what an emulator made of a secret.
    async fn save(&self, name: &str, service: Arc<SecretsManagerService>) -> Result<()> {
        let state = service.snapshot(default_account_id(), REGION).await;
        if let Some(secret) = state.secrets.into_values().next() {
            if let Some(data_dir) = &self.data_dir {
                write(data_dir, &secret)?;
            }
            return self.secrets().hold(service, secret).context("a secret without a time");
        }
        let removed = self.secrets().by_name.remove(name);
        if let Some(removed) = removed {
            if let Some(data_dir) = &self.data_dir {
                data_dir.remove(&file_of(name))?;
            }
            self.secrets().list.remove(&removed.position);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_secret_by_name_or_by_arn() {
        for (body, expected) in [
            (r#"{"Name":"mfa/seed/00"}"#, Some("mfa/seed/00")),
            (r#"{"SecretId":"mfa/seed/00","Name":"-"}"#, Some("mfa/seed/00")),
            (
                r#"{"SecretId":"arn:aws:secretsmanager:us-east-1:123456789012:secret:my-own-a1b2c3"}"#,
                Some("my-own"),
            ),
            ("{}", None),
            ("{", None),
        ] {
            assert_eq!(secret_name(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }
}

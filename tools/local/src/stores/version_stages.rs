//! What AWS refuses and the emulator lets pass: moving a staging label away from a version that does not have it, or to one
//! that does not exist. A rotation of the key ring relies on the refusal, which makes it a compare-and-swap.

use serde::Deserialize;
use winterbaume_secretsmanager::SecretsmanagerStateView;

use crate::cognito::exception::{Exception, parse};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MoveRequest {
    secret_id: String,
    version_stage: String,
    remove_from_version_id: Option<String>,
    move_to_version_id: Option<String>,
}

/// Whether `UpdateSecretVersionStage` is refused.
///
/// # Errors
/// The refusal.
pub(super) fn check(state: &SecretsmanagerStateView, body: &[u8]) -> Result<(), Exception> {
    let request: MoveRequest = parse(body)?;
    let mut secrets = state.secrets.values();
    let Some(secret) = secrets.find(|secret| [&secret.name, &secret.arn].contains(&&request.secret_id)) else {
        // The emulator knows what to answer.
        return Ok(());
    };
    if let Some(target) = &request.move_to_version_id
        && !secret.versions.contains_key(target)
    {
        return Err(Exception::new(
            "ResourceNotFoundException",
            "Secrets Manager can't find the specified secret version.",
        ));
    }
    let has_label = |version: &&winterbaume_secretsmanager::views::SecretVersionView| {
        version.version_stages.contains(&request.version_stage)
    };
    let holder = secret.versions.values().find(has_label);
    let holder = holder.map(|version| &version.version_id);
    if holder == request.remove_from_version_id.as_ref() || holder == request.move_to_version_id.as_ref() {
        return Ok(());
    }
    let label = &request.version_stage;
    Err(Exception::new(
        "InvalidParameterException",
        match holder {
            Some(holder) => format!(
                "The parameter RemoveFromVersionId can't be empty. Staging label {label} is currently attached to version \
                 {holder}, so you must explicitly reference that version in RemoveFromVersionId."
            ),
            None => format!("The staging label {label} is attached to no version, so it cannot be removed from one."),
        },
    ))
}

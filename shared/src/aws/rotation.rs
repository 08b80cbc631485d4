//! The key ring as an operator reads and rotates it.
//!
//! A rotation is a compare-and-swap: the new text is stored under a label of its own, and then `AWSCURRENT` moves to it from
//! the version that was read, which Secrets Manager refuses if the label is not there any more.

use std::collections::HashMap;

use aws_sdk_secretsmanager::operation::update_secret_version_stage::builders::UpdateSecretVersionStageFluentBuilder;
use zeroize::Zeroizing;

use super::key_ring::text_of;
use super::operator::whole_seconds;
use super::sealing::{self, KeyRing};
use super::seeds::{SecretsManagerSeeds, corrupt, unavailable};
use crate::clock::Clock;
use crate::error::StoreError;
use crate::ports::operator::{KeyRingStore, KeyRingSummary, Rotated};
use crate::sealed::NewKey;

const CURRENT: &str = "AWSCURRENT";
/// What the labels of rotations begin with.
const LABEL: &str = "rotation-";

/// The labels of each version.
type Labels = HashMap<String, Vec<String>>;

fn has_label(labels: &Labels, version: &str, label: &str) -> bool {
    labels
        .get(version)
        .is_some_and(|own| own.iter().any(|one| one == label))
}

impl<C: Clock> SecretsManagerSeeds<C> {
    async fn ring_and_text(&self) -> Result<(KeyRingSummary, Zeroizing<String>), StoreError> {
        let found = self.key_ring()?.fetch().await?;
        let text = text_of(found.secret_string)?;
        let ring = KeyRing::parse(&text)?;
        let summary = KeyRingSummary {
            current: ring.current(),
            previous: ring.previous().collect(),
            version: found.version_id.ok_or(corrupt("a key ring without a version id"))?,
            created_at: whole_seconds(found.created_date.as_ref()).ok_or(corrupt("a key ring without a date"))?,
        };
        Ok((summary, text))
    }

    async fn ring_labels(&self) -> Result<Labels, StoreError> {
        let read = self
            .client
            .describe_secret()
            .secret_id(self.key_ring()?.secret())
            .send();
        let found = read.await;
        let found = found.map_err(|error| unavailable("DescribeSecret key ring", &error))?;
        Ok(found.version_ids_to_stages.unwrap_or_default())
    }

    fn move_label(&self, label: &str, from: &str) -> Result<UpdateSecretVersionStageFluentBuilder, StoreError> {
        let update = self.client.update_secret_version_stage();
        let update = update.secret_id(self.key_ring()?.secret());
        Ok(update.version_stage(label).remove_from_version_id(from))
    }

    /// Takes the labels of rotations away, of which a secret has at most 20. What is left is taken by the next rotation.
    async fn remove_rotation_labels(&self, labels: &Labels) -> Result<(), StoreError> {
        for (version, own) in labels {
            for label in own.iter().filter(|label| label.starts_with(LABEL)) {
                let _ = self.move_label(label, version)?.send().await;
            }
        }
        Ok(())
    }
}

impl<C: Clock> KeyRingStore for SecretsManagerSeeds<C> {
    async fn read_key_ring(&self) -> Result<KeyRingSummary, StoreError> {
        self.ring_and_text().await.map(|(summary, _)| summary)
    }

    async fn rotate_key_ring(&self, held: &KeyRingSummary, new: &NewKey) -> Result<Rotated, StoreError> {
        let (read, text) = self.ring_and_text().await?;
        if read.version != held.version {
            return Ok(Rotated::No);
        }
        // Those of rotations that were cut short, or can only fail when this one has succeeded.
        let mut labels = self.ring_labels().await?;
        let (text, key) = sealing::with_new_key(&text, new.characters())?;
        let (version, label) = (new.version(), format!("{LABEL}{}", new.version()));
        let put = self
            .client
            .put_secret_value()
            .secret_id(self.key_ring()?.secret())
            .client_request_token(&version)
            // Without one, Secrets Manager would move `AWSCURRENT` at once, whatever has it.
            .version_stages(&label)
            .secret_string(text.as_str())
            .send();
        put.await
            .map_err(|error| unavailable("PutSecretValue key ring", &error))?;
        labels.entry(version.clone()).or_default().push(label);
        let swap = self.move_label(CURRENT, &held.version)?.move_to_version_id(&version);
        let rotated = match swap.send().await {
            Ok(_) => Rotated::Yes(key),
            Err(error) => {
                let error = unavailable("UpdateSecretVersionStage key ring", &error);
                // Refused, perhaps since an earlier try of it took effect; or not answered.
                let Ok(now) = self.ring_labels().await else {
                    return Err(error);
                };
                if has_label(&now, &version, CURRENT) {
                    Rotated::Yes(key)
                } else if has_label(&now, &held.version, CURRENT) {
                    return Err(error);
                } else {
                    Rotated::No
                }
            }
        };
        if rotated == Rotated::No {
            labels.retain(|of, _| *of == version);
        }
        self.remove_rotation_labels(&labels).await?;
        Ok(rotated)
    }
}

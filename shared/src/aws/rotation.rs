//! The key ring as an operator reads and rotates it.
//!
//! A rotation is a compare-and-swap: the new text is stored under a label of ours, and then `AWSCURRENT` moves to it from the
//! version that was read, which Secrets Manager refuses if the label is not there any more.

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::operation::update_secret_version_stage::UpdateSecretVersionStageError;
use zeroize::Zeroizing;

use super::key_ring::text_of;
use super::operator::whole_seconds;
use super::sealing::{self, KeyRing};
use super::seeds::{SecretsManagerSeeds, corrupt, unavailable};
use crate::clock::{Clock, Timestamp};
use crate::error::StoreError;
use crate::ports::operator::{KeyRingStore, KeyRingSummary, Rotated};
use crate::sealed::NewKey;

const CURRENT: &str = "AWSCURRENT";
/// What a new text is stored under. Always the same: a secret has at most 20 labels, and rotations that are cut short would
/// use them up. Of two rotations at once, the later takes it from the earlier, which does not need it to become current.
const LABEL: &str = "rotation";

fn is_current(ring: &DescribeSecretOutput, version: &str) -> bool {
    let labels = ring.version_ids_to_stages().and_then(|versions| versions.get(version));
    labels.is_some_and(|own| own.iter().any(|label| label == CURRENT))
}

/// When the secret was changed last; `None` if the version is not the current one.
fn changed_at(ring: &DescribeSecretOutput, version: &str) -> Result<Option<Timestamp>, StoreError> {
    if !is_current(ring, version) {
        return Ok(None);
    }
    let changed = whole_seconds(ring.last_changed_date());
    changed
        .map(Some)
        .ok_or(corrupt("a key ring without a date of its last change"))
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

    async fn ring_details(&self) -> Result<DescribeSecretOutput, StoreError> {
        let describe = self.client.describe_secret().secret_id(self.key_ring()?.secret());
        let described = describe.send().await;
        described.map_err(|error| unavailable("DescribeSecret key ring", &error))
    }
}

impl<C: Clock> KeyRingStore for SecretsManagerSeeds<C> {
    async fn read_key_ring(&self) -> Result<KeyRingSummary, StoreError> {
        self.ring_and_text().await.map(|(summary, _)| summary)
    }

    async fn key_ring_changed_at(&self, held: &KeyRingSummary) -> Result<Option<Timestamp>, StoreError> {
        changed_at(&self.ring_details().await?, &held.version)
    }

    async fn rotate_key_ring(&self, held: &KeyRingSummary, new: &NewKey) -> Result<Rotated, StoreError> {
        let (read, text) = self.ring_and_text().await?;
        if read.version != held.version {
            return Ok(Rotated::No);
        }
        let (text, key) = sealing::with_new_key(&text, new.characters())?;
        let (secret, version) = (self.key_ring()?.secret(), new.version());
        let put = self
            .client
            .put_secret_value()
            .secret_id(secret)
            .client_request_token(&version)
            // Without one, Secrets Manager would move `AWSCURRENT` at once, whatever has it.
            .version_stages(LABEL)
            .secret_string(text.as_str())
            .send();
        put.await
            .map_err(|error| unavailable("PutSecretValue key ring", &error))?;
        let swap = self
            .client
            .update_secret_version_stage()
            .secret_id(secret)
            .version_stage(CURRENT)
            .remove_from_version_id(&held.version)
            .move_to_version_id(&version)
            .send();
        let Err(error) = swap.await else {
            return Ok(Rotated::Yes(key));
        };
        // A later rotation took the label and Secrets Manager the version, which therefore never becomes current.
        let is_gone = matches!(
            error.as_service_error(),
            Some(UpdateSecretVersionStageError::ResourceNotFoundException(_))
        );
        let error = unavailable("UpdateSecretVersionStage key ring", &error);
        // Refused, perhaps since an earlier try of it took effect; or not answered.
        match self.ring_details().await {
            Ok(ring) if is_current(&ring, &version) => Ok(Rotated::Yes(key)),
            Ok(ring) if is_gone || !is_current(&ring, &held.version) => Ok(Rotated::No),
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_was_changed_when_its_secret_was_if_it_is_current() -> Result<(), StoreError> {
        let at = |seconds| aws_sdk_secretsmanager::primitives::DateTime::from_secs(seconds);
        // The version was created before, and became current when the label was moved, an hour later.
        let described = DescribeSecretOutput::builder()
            .created_date(at(1_000))
            .last_changed_date(at(4_600))
            .version_ids_to_stages("one", vec!["AWSPREVIOUS".to_owned()])
            .version_ids_to_stages("other", vec![LABEL.to_owned(), CURRENT.to_owned()])
            .build();
        assert_eq!(changed_at(&described, "other")?, Some(Timestamp::from_secs(4_600)));
        assert_eq!(
            (changed_at(&described, "one")?, changed_at(&described, "third")?),
            (None, None)
        );
        Ok(())
    }
}

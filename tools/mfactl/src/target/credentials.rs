//! What to set when the environment has no region or no credentials for AWS.

use anyhow::Result;
use shared::aws::sdk::{CREDENTIALS_ERRORS, Clients, Endpoints, Limits};
use shared::config::{Environment, certificate_file};

use crate::usage::Usage;

const NO_REGION: &str = "no AWS region: set AWS_REGION, or AWS_PROFILE to a profile with a region; for the local stack, give \
                         --local";

const NO_CREDENTIALS: &str = "no AWS credentials: set AWS_PROFILE to a profile with credentials (for single sign-on, first run: aws \
                              sso login), or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for the local stack, give --local";

/// The clients of AWS in the region of the environment.
///
/// # Errors
/// [`Usage`] if there is none.
pub(super) async fn aws_clients() -> Result<Clients> {
    let clients = Clients::new(
        Endpoints::for_operator(certificate_file(&Environment)).await,
        Limits::OPERATOR,
    );
    match clients.config.region() {
        Some(_) => Ok(clients),
        None => Err(Usage(NO_REGION.to_owned()).into()),
    }
}

/// Says what to set if a call failed for want of credentials.
#[must_use]
pub fn explain_credentials(error: anyhow::Error) -> anyhow::Error {
    // What the SDK says is all that is left of its error by now.
    let text = format!("{error:#}");
    if !CREDENTIALS_ERRORS.iter().any(|saying| text.contains(saying)) {
        return error;
    }
    let advice = Usage(NO_CREDENTIALS.to_owned());
    // The last place where the SDK looks is the metadata of an EC2 instance; that it is not one says nothing.
    if text.contains("no credentials found") || text.contains("IMDS") {
        advice.into()
    } else {
        error.context(advice)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn only_a_call_without_credentials_is_explained_and_its_reason_kept_if_it_says_more() {
        let set = "set AWS_PROFILE";
        for (text, expected, hidden) in [
            (
                "dispatch failure: other: the credential provider was not enabled: no credentials found in chain. Attempted: …",
                set,
                "Attempted",
            ),
            (
                "an error occurred while loading credentials: failed to load IMDS session token: IMDS is disabled",
                set,
                "IMDS",
            ),
            (
                "an error occurred while loading credentials: the process exited with 3",
                "exited with 3",
                "…",
            ),
            (
                "the credentials provider was not properly configured: a profile in a circle",
                set,
                "…",
            ),
            ("AccessDeniedException: not allowed", "not allowed", set),
            ("there is no device", "there is no device", set),
        ] {
            let explained = format!("{:#}", explain_credentials(anyhow!(text.to_owned())));
            assert!(
                explained.contains(expected) && !explained.contains(hidden),
                "{explained}"
            );
        }
    }
}

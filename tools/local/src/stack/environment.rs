//! The environment that the functions would have on Lambda.

use std::collections::BTreeMap;

use shared::config;

use crate::cognito::identity::{Identity, REGION};
use crate::stores::Stores;
use crate::stores::devices::{AUTHS_TABLE, DEVICES_TABLE, SEED_PREFIX};
use crate::stores::secrets_manager::KEY_RING;

/// The settings of the functions, and where the AWS SDK finds the stores.
pub(super) fn environment(
    identity: &Identity,
    stores: &Stores,
    client_owners: Option<&str>,
    settings: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let owners = client_owners.map(|owners| with_client_ids(owners, identity));
    let owners = owners.map(|owners| (config::CLIENT_OWNERS.to_owned(), owners));
    let local = [
        (config::AUTHS_TABLE, AUTHS_TABLE),
        (config::DEVICES_TABLE, DEVICES_TABLE),
        (config::SEED_PREFIX, SEED_PREFIX),
        (config::KEY_RING, KEY_RING),
        (config::ISSUER, "Local"), // no value has a space: `cargo lambda` would not read the file
        (config::DEVICE_HASH_KEY, identity.device_hash_key()),
        ("AWS_ENDPOINT_URL_DYNAMODB", stores.dynamodb_url()),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", stores.secrets_manager_url()),
        ("AWS_REGION", REGION),
        // The stores accept any credentials.
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
    ];
    let local = local
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    local.chain(owners).chain(settings).collect()
}

/// Owners of clients by their ids, where `first` and `second` stand for those of the stack.
fn with_client_ids(owners: &str, identity: &Identity) -> String {
    let [first, second] = identity.clients().map(|client| client.id().as_str());
    let named = |pair: &str| match pair.trim().split_once('=') {
        Some(("first", owner)) => format!("{first}={owner}"),
        Some(("second", owner)) => format!("{second}={owner}"),
        _ => pair.to_owned(),
    };
    owners.split(',').map(named).collect::<Vec<_>>().join(",")
}

//! `ListSecrets` as the SDK sees it.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::list_secrets::{ListSecretsError, ListSecretsOutput};
use aws_sdk_secretsmanager::types::{Filter as ListFilter, FilterNameStringType as Key};

use crate::clock::LocalClock;
use crate::files::DataDir;
use crate::stores::Stores;
use crate::stores::secrets_manager::KEY_RING;

/// Stores without any secret, even the key ring.
async fn stores(data_dir: Option<Arc<DataDir>>) -> Result<(Stores, Client)> {
    let stores = Stores::start(data_dir, &Arc::new(LocalClock::running())).await?;
    let client = stores.clients().secrets_manager;
    let ring = client.delete_secret().secret_id(KEY_RING);
    ring.force_delete_without_recovery(true).send().await?;
    Ok((stores, client))
}

async fn create(client: &Client, names: &[&str]) -> Result<()> {
    for name in names {
        client
            .create_secret()
            .name(*name)
            .secret_string("a seed")
            .send()
            .await?;
    }
    Ok(())
}

fn names(page: &ListSecretsOutput) -> Vec<&str> {
    page.secret_list().iter().filter_map(|secret| secret.name()).collect()
}

fn by(key: Key, values: &[&str]) -> ListFilter {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    ListFilter::builder().key(key).set_values(Some(values)).build()
}

#[tokio::test]
async fn secrets_come_in_pages_in_the_order_of_their_creation() -> Result<()> {
    let (stores, client) = stores(None).await?;
    create(&client, &["e", "b", "d", "a", "c"]).await?;
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = client
            .list_secrets()
            .max_results(2)
            .set_next_token(after)
            .send()
            .await?;
        pages.push(names(&page).concat());
        if pages.len() == 1 {
            // A secret that is created or removed between two pages does not move the others.
            let gone = client
                .delete_secret()
                .secret_id("b")
                .force_delete_without_recovery(true);
            gone.send().await?;
            create(&client, &["f"]).await?;
        }
        after = page.next_token;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, ["eb", "da", "cf"]);
    stores.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_page_has_a_hundred_secrets_at_most() -> Result<()> {
    let (stores, client) = stores(None).await?;
    let all: Vec<String> = (0..101).map(|number| format!("{number:03}")).collect();
    create(&client, &all.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let first = client.list_secrets().send().await?;
    assert_eq!((names(&first).len(), names(&first).last()), (100, Some(&"099")));
    let last = client.list_secrets().set_next_token(first.next_token).send().await?;
    assert_eq!((names(&last), last.next_token()), (vec!["100"], None));
    stores.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_filter_compares_prefixes_of_names_with_case() -> Result<()> {
    let (stores, client) = stores(None).await?;
    create(
        &client,
        &["mfa/seed/1", "MFA/seed/2", "other/mfa/seed/3", "mfa/key", "mfa/seed/4"],
    )
    .await?;
    for (filters, expected) in [
        (vec![by(Key::Name, &["mfa/seed/"])], vec!["mfa/seed/1", "mfa/seed/4"]),
        (
            vec![by(Key::Name, &["MFA/", "other"])],
            vec!["MFA/seed/2", "other/mfa/seed/3"],
        ),
        (
            vec![by(Key::Name, &["mfa"]), by(Key::Name, &["mfa/k", "MFA"])],
            vec!["mfa/key"],
        ),
        (vec![by(Key::Name, &["none"])], vec![]),
    ] {
        let page = client.list_secrets().set_filters(Some(filters)).send().await?;
        assert_eq!(names(&page), expected);
    }
    let filtered = client
        .list_secrets()
        .filters(by(Key::Name, &["mfa/seed/"]))
        .max_results(1);
    let first = filtered.clone().send().await?;
    let second = filtered.set_next_token(first.next_token).send().await?;
    assert_eq!((names(&second), second.next_token()), (vec!["mfa/seed/4"], None));
    stores.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn an_unsupported_request_is_refused_rather_than_ignored() -> Result<()> {
    let (stores, client) = stores(None).await?;
    create(&client, &["a"]).await?;
    let list = || client.list_secrets();
    let eleven = ["a"; 11];
    for (request, why) in [
        (list().max_results(0), "no page"),
        (list().max_results(101), "a long page"),
        (list().max_results(-1), "less than no page"),
        (list().filters(by(Key::Name, &["!a"])), "a negation"),
        (list().filters(by(Key::Name, &[])), "no value"),
        (list().filters(by(Key::Name, &eleven)), "too many values"),
        (list().filters(by(Key::TagKey, &["a"])), "another key"),
        (list().filters(by(Key::All, &["a"])), "any key"),
        (
            list().set_filters(Some(vec![by(Key::Name, &["a"]); 11])),
            "too many filters",
        ),
        (list().sort_order("desc".into()), "an order"),
    ] {
        let error = request.send().await.err().context(why)?.into_service_error();
        assert!(matches!(error, ListSecretsError::InvalidParameterException(_)), "{why}");
    }
    for token in ["", "x", "!", "bm9uZQ", "bm8gdGltZQ"] {
        let error = list().next_token(token).send().await.err().context(token)?;
        let error = error.into_service_error();
        assert!(
            matches!(error, ListSecretsError::InvalidNextTokenException(_)),
            "{token}"
        );
    }
    stores.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_planned_deletion_is_listed_on_request_and_can_be_cancelled_after_a_restart() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (first, client) = stores(Some(DataDir::open(folder.path())?)).await?;
    create(&client, &["a", "b"]).await?;
    let deleted = client.delete_secret().secret_id("a").recovery_window_in_days(7);
    deleted.send().await?;
    first.shutdown().await;
    drop(first);

    let (second, client) = stores(Some(DataDir::open(folder.path())?)).await?;
    assert_eq!(names(&client.list_secrets().send().await?), ["b"]);
    let planned = client.list_secrets().include_planned_deletion(true).send().await?;
    let dates: Vec<bool> = planned
        .secret_list()
        .iter()
        .map(|secret| secret.deleted_date().is_some())
        .collect();
    assert_eq!((names(&planned), dates), (vec!["a", "b"], vec![true, false]));
    let refused = client.get_secret_value().secret_id("a").send().await;
    assert!(refused.is_err_and(|error| error.into_service_error().is_invalid_request_exception()));
    client.restore_secret().secret_id("a").send().await?;
    second.shutdown().await;
    drop(second);

    let (third, client) = stores(Some(DataDir::open(folder.path())?)).await?;
    assert_eq!(names(&client.list_secrets().send().await?), ["a", "b"]);
    let value = client.get_secret_value().secret_id("a").send().await?;
    assert_eq!(value.secret_string(), Some("a seed"));
    third.shutdown().await;
    Ok(())
}

#[tokio::test]
async fn a_list_describes_a_secret_without_its_value() -> Result<()> {
    let (stores, client) = stores(None).await?;
    let tag = aws_sdk_secretsmanager::types::Tag::builder()
        .key("k")
        .value("v")
        .build();
    let created = client
        .create_secret()
        .name("a")
        .description("d")
        .secret_string("a seed")
        .tags(tag.clone());
    let created = created.send().await?;
    let page = client.list_secrets().send().await?;
    let entry = page.secret_list().first().context("nothing")?;
    assert_eq!((entry.arn(), entry.description()), (created.arn(), Some("d")));
    assert_eq!(entry.tags(), [tag]);
    let version = created.version_id().context("no version")?;
    let stages = entry
        .secret_versions_to_stages()
        .and_then(|versions| versions.get(version));
    assert_eq!(stages, Some(&vec!["AWSCURRENT".to_owned()]));
    assert!(
        entry
            .created_date()
            .is_some_and(|created| Some(created) == entry.last_changed_date())
    );
    assert!(!format!("{page:?}").contains("a seed"));
    stores.shutdown().await;
    Ok(())
}

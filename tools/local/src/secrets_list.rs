//! `ListSecrets`, which the emulator has without filters, pages and secrets whose deletion is planned. Pure: what there
//! is and what was asked for give the answer. What AWS could do and this cannot is refused rather than ignored.

use std::cmp::Ordering;

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use winterbaume_secretsmanager::SecretsmanagerStateView;
use winterbaume_secretsmanager::views::SecretView;

use crate::exception::{Exception, parsed, seconds};

/// The most secrets of a page, and how many they are if nothing is asked for.
const LARGEST_PAGE: usize = 100;
/// As many filters, and as many values of each, as AWS takes.
const MOST_FILTERS: usize = 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    #[serde(default)]
    filters: Vec<Filter>,
    max_results: Option<i64>,
    next_token: Option<String>,
    #[serde(default)]
    include_planned_deletion: bool,
    /// Such as `SortOrder`.
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    key: String,
    values: Vec<String>,
}

/// Where a secret stands in the list: by creation, then by name. A page token is the place of the last secret of the
/// page, so that what is created or removed between two pages moves nothing.
#[derive(PartialEq)]
struct Place<'a> {
    created: DateTime,
    name: &'a str,
}

impl Place<'_> {
    fn cmp(&self, other: &Place<'_>) -> Ordering {
        let by_creation = self.created.as_nanos().cmp(&other.created.as_nanos());
        by_creation.then_with(|| self.name.cmp(other.name))
    }
}

/// The page that was asked for.
pub(crate) fn page(held: &SecretsmanagerStateView, body: &[u8]) -> Result<Value, Exception> {
    let asked: List = parsed(body)?;
    if let Some(other) = asked.others.keys().next() {
        return Err(Exception::invalid(format!("The local stack does not serve {other}.")));
    }
    let most = match asked.max_results.map(usize::try_from) {
        None => LARGEST_PAGE,
        Some(Ok(most)) if (1..=LARGEST_PAGE).contains(&most) => most,
        Some(_) => return Err(Exception::invalid("MaxResults must be between 1 and 100.")),
    };
    let prefixes = prefixes(&asked.filters)?;
    let after = asked.next_token.as_deref().map(read_token).transpose()?;
    let after = after.as_ref().map(|(created, name)| Place {
        created: *created,
        name,
    });

    let mut found = Vec::new();
    for secret in held.secrets.values() {
        let planned = secret.deleted_date.is_some();
        let chosen = prefixes
            .iter()
            .all(|some| some.iter().any(|prefix| secret.name.starts_with(prefix)));
        if chosen && (!planned || asked.include_planned_deletion) {
            let place = Place {
                created: time(&secret.created_date)?,
                name: &secret.name,
            };
            if after.as_ref().is_none_or(|after| place.cmp(after).is_gt()) {
                found.push((place, secret));
            }
        }
    }
    found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let more = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| more).map(|(_, last)| token(last));
    let shown = found.iter().map(|(_, secret)| described(secret));
    let mut answer = json!({ "SecretList": shown.collect::<Result<Vec<_>, _>>()? });
    if let (Some(next), Some(answer)) = (next, answer.as_object_mut()) {
        answer.insert("NextToken".to_owned(), next.into());
    }
    Ok(answer)
}

/// What names have to begin with: with one of the values of every filter, capitals and all.
fn prefixes(filters: &[Filter]) -> Result<Vec<&[String]>, Exception> {
    if filters.len() > MOST_FILTERS {
        return Err(Exception::invalid("There are ten filters at most."));
    }
    filters.iter().map(prefixes_of).collect()
}

fn prefixes_of(Filter { key, values }: &Filter) -> Result<&[String], Exception> {
    if key != "name" {
        return Err(Exception::invalid(format!("The local stack does not filter by {key}.")));
    }
    if !(1..=MOST_FILTERS).contains(&values.len()) {
        return Err(Exception::invalid("A filter has one to ten values."));
    }
    if values.iter().any(|value| value.starts_with('!')) {
        return Err(Exception::invalid("The local stack does not negate filters."));
    }
    Ok(values)
}

fn token(last: &SecretView) -> String {
    BASE64URL_NOPAD.encode(format!("{} {}", last.created_date, last.name).as_bytes())
}

fn read_token(token: &str) -> Result<(DateTime, String), Exception> {
    let read = || {
        let text = String::from_utf8(BASE64URL_NOPAD.decode(token.as_bytes()).ok()?).ok()?;
        let (created, name) = text.split_once(' ')?;
        Some((time(created).ok()?, name.to_owned()))
    };
    read().ok_or_else(|| Exception::of("InvalidNextTokenException", "The NextToken is not valid."))
}

fn described(secret: &SecretView) -> Result<Value, Exception> {
    let mut entry = json!({
        "ARN": secret.arn,
        "Name": secret.name,
        "CreatedDate": date(&secret.created_date)?,
        "LastChangedDate": date(&secret.last_changed_date)?,
    });
    let versions = secret
        .versions
        .iter()
        .map(|(id, version)| (id.clone(), version.version_stages.clone().into()));
    let versions: Map<String, Value> = versions.collect();
    let tags = secret
        .tags
        .iter()
        .map(|(key, value)| json!({ "Key": key, "Value": value }));
    let tags: Vec<Value> = tags.collect();
    let deleted = secret.deleted_date.as_deref().map(date).transpose()?;
    let optional = [
        (
            "Description",
            Some(secret.description.as_str())
                .filter(|text| !text.is_empty())
                .map(Value::from),
        ),
        (
            "SecretVersionsToStages",
            Some(versions).filter(|versions| !versions.is_empty()).map(Value::from),
        ),
        ("Tags", Some(tags).filter(|tags| !tags.is_empty()).map(Value::from)),
        ("DeletedDate", deleted),
    ];
    if let Some(entry) = entry.as_object_mut() {
        entry.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?))),
        );
    }
    Ok(entry)
}

/// The emulator's times are text.
fn time(text: &str) -> Result<DateTime, Exception> {
    DateTime::from_str(text, DateTimeFormat::DateTimeWithOffset)
        .map_err(|_| Exception::of("InternalServiceError", "The local stack has a time that is none."))
}

fn date(text: &str) -> Result<Value, Exception> {
    let millis = time(text)?.to_millis().unwrap_or_default();
    Ok(seconds(u64::try_from(millis).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anyhow::{Context as _, Result};
    use aws_sdk_secretsmanager::Client;
    use aws_sdk_secretsmanager::operation::list_secrets::{ListSecretsError, ListSecretsOutput};
    use aws_sdk_secretsmanager::types::{Filter as Asked, FilterNameStringType as Key};
    use shared::aws::sdk::Clients;

    use super::*;
    use crate::clock::LocalClock;
    use crate::files::DataDir;
    use crate::stores::Stores;

    async fn stores(data_dir: Option<Arc<DataDir>>) -> Result<(Stores, Client)> {
        let stores = Stores::start(data_dir, &Arc::new(LocalClock::running())).await?;
        let clients = Clients::of_local_stores(stores.dynamodb_url(), stores.secrets_manager_url());
        Ok((stores, clients.secrets_manager))
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

    fn by(key: Key, values: &[&str]) -> Asked {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Asked::builder().key(key).set_values(Some(values)).build()
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
                // What goes or comes between two pages moves nothing.
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
    async fn a_filter_takes_what_names_begin_with_capitals_and_all() -> Result<()> {
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
    async fn what_is_not_supported_is_refused_rather_than_ignored() -> Result<()> {
        let (stores, client) = stores(None).await?;
        create(&client, &["a"]).await?;
        let list = || client.list_secrets();
        let eleven = ["a"; 11];
        for (asked, why) in [
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
            let error = asked.send().await.err().context(why)?.into_service_error();
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
    async fn a_planned_deletion_is_listed_if_asked_for_and_can_be_taken_back_after_a_restart() -> Result<()> {
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
    async fn a_list_says_what_a_secret_is_and_not_what_it_holds() -> Result<()> {
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

    #[test]
    fn of_one_moment_the_name_decides_and_no_page_loses_any() -> Result<()> {
        let secrets: Map<String, Value> = ["b", "c", "a"]
            .into_iter()
            .map(|name| {
                let (created, created_date) = ("2027-01-15T08:00:00.5+00:00", "created_date");
                let secret = json!({
                    "name": name, "arn": name, "description": "", created_date: created, "last_changed_date": created,
                });
                (name.to_owned(), secret)
            })
            .collect();
        let held: SecretsmanagerStateView = serde_json::from_value(json!({ "secrets": secrets }))?;
        let (mut asked, mut found) = (json!({ "MaxResults": 1 }), String::new());
        loop {
            let page = page(&held, asked.to_string().as_bytes()).map_err(|error| anyhow::anyhow!("{error:?}"))?;
            found += page["SecretList"][0]["Name"].as_str().unwrap_or_default();
            assert_eq!(page["SecretList"][0]["CreatedDate"], 1_800_000_000.5);
            let Some(next) = page.get("NextToken") else { break };
            asked["NextToken"] = next.clone();
        }
        assert_eq!(found, "abc");
        Ok(())
    }
}

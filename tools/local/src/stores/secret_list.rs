//! `ListSecrets`, which the emulator has without filters, pages and secrets whose deletion is planned. Pure: the state of
//! the emulator and the request give the answer. What only AWS supports is refused rather than ignored.

use std::cmp::Ordering;

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use winterbaume_secretsmanager::SecretsmanagerStateView;
use winterbaume_secretsmanager::views::SecretView;

use crate::cognito::exception::{Exception, parse, seconds};

/// The most secrets of a page, and the default.
const LARGEST_PAGE: usize = 100;
/// AWS's limit of filters, and of values of each.
const MOST_FILTERS: usize = 10;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListRequest {
    #[serde(default)]
    filters: Vec<Filter>,
    max_results: Option<i64>,
    next_token: Option<String>,
    #[serde(default)]
    include_planned_deletion: bool,
    /// Not supported, such as `SortOrder`.
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Filter {
    key: String,
    values: Vec<String>,
}

/// The position of a secret in the list: by creation, then by name. A page token is the position of the last secret of
/// the page, so that a secret that is created or removed between two pages does not move the others.
#[derive(PartialEq)]
struct Position<'a> {
    created: DateTime,
    name: &'a str,
}

impl Position<'_> {
    fn cmp(&self, other: &Position<'_>) -> Ordering {
        let by_creation = self.created.as_nanos().cmp(&other.created.as_nanos());
        by_creation.then_with(|| self.name.cmp(other.name))
    }
}

pub(super) fn page(state: &SecretsmanagerStateView, body: &[u8]) -> Result<Value, Exception> {
    let request: ListRequest = parse(body)?;
    if let Some(other) = request.others.keys().next() {
        return Err(Exception::invalid(format!("The local stack does not support {other}.")));
    }
    let most = match request.max_results.map(usize::try_from) {
        None => LARGEST_PAGE,
        Some(Ok(most)) if (1..=LARGEST_PAGE).contains(&most) => most,
        Some(_) => return Err(Exception::invalid("MaxResults must be between 1 and 100.")),
    };
    let prefixes = prefixes(&request.filters)?;
    let after = request.next_token.as_deref().map(read_token).transpose()?;
    let after = after.as_ref().map(|(created, name)| Position {
        created: *created,
        name,
    });

    let mut found = Vec::new();
    for secret in state.secrets.values() {
        let planned = secret.deleted_date.is_some();
        let chosen = prefixes
            .iter()
            .all(|some| some.iter().any(|prefix| secret.name.starts_with(prefix)));
        if chosen && (!planned || request.include_planned_deletion) {
            let position = Position {
                created: time(&secret.created_date)?,
                name: &secret.name,
            };
            if after.as_ref().is_none_or(|after| position.cmp(after).is_gt()) {
                found.push((position, secret));
            }
        }
    }
    found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let more = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| more).map(|(_, last)| token(last));
    let shown = found.iter().map(|(_, secret)| describe(secret));
    let mut answer = json!({ "SecretList": shown.collect::<Result<Vec<_>, _>>()? });
    if let (Some(next), Some(answer)) = (next, answer.as_object_mut()) {
        answer.insert("NextToken".to_owned(), next.into());
    }
    Ok(answer)
}

/// A name must begin with one of the values of every filter; case matters.
fn prefixes(filters: &[Filter]) -> Result<Vec<&[String]>, Exception> {
    if filters.len() > MOST_FILTERS {
        return Err(Exception::invalid("There are at most ten filters."));
    }
    filters.iter().map(filter_prefixes).collect()
}

fn filter_prefixes(Filter { key, values }: &Filter) -> Result<&[String], Exception> {
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
    read().ok_or_else(|| Exception::new("InvalidNextTokenException", "The NextToken is not valid."))
}

fn describe(secret: &SecretView) -> Result<Value, Exception> {
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
        .map_err(|_| Exception::new("InternalServiceError", "The local stack has an invalid time."))
}

fn date(text: &str) -> Result<Value, Exception> {
    let millis = time(text)?.to_millis().unwrap_or_default();
    Ok(seconds(u64::try_from(millis).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;

    #[test]
    fn secrets_of_the_same_moment_are_ordered_by_name_and_no_page_loses_one() -> Result<()> {
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
        let (mut request, mut found) = (json!({ "MaxResults": 1 }), String::new());
        loop {
            let page = page(&held, request.to_string().as_bytes()).map_err(|error| anyhow::anyhow!("{error:?}"))?;
            found += page["SecretList"][0]["Name"].as_str().unwrap_or_default();
            assert_eq!(page["SecretList"][0]["CreatedDate"], 1_800_000_000.5);
            let Some(next) = page.get("NextToken") else { break };
            request["NextToken"] = next.clone();
        }
        assert_eq!(found, "abc");
        Ok(())
    }
}

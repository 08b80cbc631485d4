//! `ListSecrets`, which the emulator has without filters, pages and secrets whose deletion is planned. Pure: the secrets and the
//! request give the answer. What only AWS supports is refused rather than ignored.

use std::collections::BTreeMap;
use std::ops::Bound;

use aws_sdk_dynamodb::primitives::{DateTime, DateTimeFormat};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
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

/// The position of a secret in the list: by creation in nanoseconds, then by name. A page token is the position of the last
/// secret of the page, so that a secret that is created or removed between two pages does not move the others.
pub(super) type Position = (i128, String);

/// All secrets in the order of the list.
#[derive(Default)]
pub(super) struct SecretList {
    secrets: BTreeMap<Position, SecretView>,
}

impl SecretList {
    /// Adds a secret, or changes it. Returns its position, unless it has no valid time of its creation.
    pub(super) fn set(&mut self, secret: SecretView) -> Option<Position> {
        let position = (time(&secret.created_date).ok()?.as_nanos(), secret.name.clone());
        self.secrets.insert(position.clone(), secret);
        Some(position)
    }

    pub(super) fn remove(&mut self, position: &Position) {
        self.secrets.remove(position);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &SecretView> {
        self.secrets.values()
    }

    pub(super) fn page(&self, body: &[u8]) -> Result<Value, Exception> {
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
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);

        let chosen = |secret: &&SecretView| {
            let named = prefixes
                .iter()
                .all(|some| some.iter().any(|prefix| secret.name.starts_with(prefix)));
            named && (secret.deleted_date.is_none() || request.include_planned_deletion)
        };
        let following = self.secrets.range((after, Bound::Unbounded)).map(|(_, secret)| secret);
        let mut found: Vec<_> = following.filter(chosen).take(most + 1).collect();
        let more = found.len() > most;
        found.truncate(most);
        let next = found.last().filter(|_| more).map(|last| token(last));
        let shown = found.into_iter().map(describe);
        let mut answer = json!({ "SecretList": shown.collect::<Result<Vec<_>, _>>()? });
        if let (Some(next), Some(answer)) = (next, answer.as_object_mut()) {
            answer.insert("NextToken".to_owned(), next.into());
        }
        Ok(answer)
    }
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

fn read_token(token: &str) -> Result<Position, Exception> {
    let read = || {
        let text = String::from_utf8(BASE64URL_NOPAD.decode(token.as_bytes()).ok()?).ok()?;
        let (created, name) = text.split_once(' ')?;
        Some((time(created).ok()?.as_nanos(), name.to_owned()))
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
        let mut held = SecretList::default();
        for name in ["b", "c", "a"] {
            let created = "2027-01-15T08:00:00.5+00:00";
            let secret = json!({
                "name": name, "arn": name, "description": "", "created_date": created, "last_changed_date": created,
            });
            assert!(held.set(serde_json::from_value(secret)?).is_some());
        }
        let (mut request, mut found) = (json!({ "MaxResults": 1 }), String::new());
        loop {
            let page = held.page(request.to_string().as_bytes());
            let page = page.map_err(|error| anyhow::anyhow!("{error:?}"))?;
            found += page["SecretList"][0]["Name"].as_str().unwrap_or_default();
            assert_eq!(page["SecretList"][0]["CreatedDate"], 1_800_000_000.5);
            let Some(next) = page.get("NextToken") else { break };
            request["NextToken"] = next.clone();
        }
        assert_eq!(found, "abc");
        Ok(())
    }
}

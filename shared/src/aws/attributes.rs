//! Values of attributes: made, read by name, and carried along unread.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::clock::Timestamp;
use crate::device::{Carried, CarriedValue};
use crate::error::StoreError;

pub(super) const STORE: &str = "dynamodb";

pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl Into<u64>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

pub(super) fn bytes(value: &[u8; 16]) -> AttributeValue {
    AttributeValue::B(Blob::new(value.as_slice()))
}

pub(super) fn map<const N: usize>(members: [(&str, AttributeValue); N]) -> AttributeValue {
    AttributeValue::M(item(members))
}

pub(super) fn item<const N: usize>(members: [(&str, AttributeValue); N]) -> Item {
    members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

pub(super) const fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt { store: STORE, what }
}

/// Reads attributes by name; what is missing or of another type is named in the error.
pub(super) struct Attributes<'a>(pub(super) &'a Item);

impl<'a> Attributes<'a> {
    pub(super) fn of(value: &'a AttributeValue, name: &'static str) -> Result<Self, StoreError> {
        value.as_m().map(Self).map_err(|_| corrupt(name))
    }

    pub(super) fn get(&self, name: &'static str) -> Result<&'a AttributeValue, StoreError> {
        self.0.get(name).ok_or(corrupt(name))
    }

    pub(super) fn text(&self, name: &'static str) -> Result<&'a str, StoreError> {
        self.get(name)?.as_s().map(String::as_str).map_err(|_| corrupt(name))
    }

    pub(super) fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, StoreError> {
        let digits = self.get(name)?.as_n().map_err(|_| corrupt(name))?;
        digits.parse().map_err(|_| corrupt(name))
    }

    pub(super) fn seconds(&self, name: &'static str) -> Result<Timestamp, StoreError> {
        self.number(name).map(Timestamp::from_secs)
    }

    pub(super) fn millis(&self, name: &'static str) -> Result<Timestamp, StoreError> {
        self.number(name).map(Timestamp::from_millis)
    }

    pub(super) fn bytes(&self, name: &'static str) -> Result<[u8; 16], StoreError> {
        let blob = self.get(name)?.as_b().map_err(|_| corrupt(name))?;
        blob.as_ref().try_into().map_err(|_| corrupt(name))
    }

    pub(super) fn parsed<T>(&self, name: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, StoreError> {
        parse(self.text(name)?).ok_or(corrupt(name))
    }

    pub(super) fn list<T>(
        &self,
        name: &'static str,
        members: usize,
        read: impl Fn(&Attributes<'a>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let entries = self.get(name)?.as_l().map_err(|_| corrupt(name))?;
        entries
            .iter()
            .map(|entry| read(&Attributes::exactly(entry, name, members)?))
            .collect()
    }

    /// The members of a map that has this many: one more would be lost with the next write.
    pub(super) fn exactly(value: &'a AttributeValue, name: &'static str, members: usize) -> Result<Self, StoreError> {
        let map = Self::of(value, name)?;
        if map.0.len() == members {
            Ok(map)
        } else {
            Err(corrupt(name))
        }
    }

    /// Every attribute but those with these names.
    pub(super) fn others(&self, known: &[&str]) -> Result<Carried, StoreError> {
        let unknown = self.0.iter().filter(|(name, _)| !known.contains(&name.as_str()));
        unknown.map(|(name, value)| Ok((name.clone(), carry(value)?))).collect()
    }
}

fn carry(value: &AttributeValue) -> Result<CarriedValue, StoreError> {
    Ok(match value {
        AttributeValue::Null(_) => CarriedValue::Null,
        AttributeValue::Bool(flag) => CarriedValue::Flag(*flag),
        AttributeValue::N(digits) => CarriedValue::Number(digits.clone()),
        AttributeValue::S(text) => CarriedValue::Text(text.clone()),
        AttributeValue::B(bytes) => CarriedValue::Bytes(bytes.as_ref().to_vec()),
        AttributeValue::L(values) => CarriedValue::List(values.iter().map(carry).collect::<Result<_, _>>()?),
        AttributeValue::M(members) => CarriedValue::Members(Attributes(members).others(&[])?),
        // Sets have no order to keep and are of no use here.
        _ => return Err(corrupt("an unknown member")),
    })
}

fn put_down(value: &CarriedValue) -> AttributeValue {
    match value {
        CarriedValue::Null => AttributeValue::Null(true),
        CarriedValue::Flag(flag) => AttributeValue::Bool(*flag),
        CarriedValue::Number(digits) => AttributeValue::N(digits.clone()),
        CarriedValue::Text(value) => text(value),
        CarriedValue::Bytes(bytes) => AttributeValue::B(Blob::new(bytes.as_slice())),
        CarriedValue::List(values) => AttributeValue::L(values.iter().map(put_down).collect()),
        CarriedValue::Members(members) => AttributeValue::M(put_down_all(members)),
    }
}

/// Values that were carried along, as they were read.
pub(super) fn put_down_all(carried: &Carried) -> Item {
    let values = carried.iter().map(|(name, value)| (name.clone(), put_down(value)));
    values.collect()
}

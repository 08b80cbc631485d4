//! The two ids of a request, in the terms of API Gateway.

use anyhow::Result;
use axum::http::{HeaderMap, HeaderName};

use crate::random;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub(crate) const EXTENDED_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-apigw-id");

#[derive(Debug)]
pub(crate) struct Ids {
    /// A caller can choose it, as at API Gateway.
    pub(crate) request: String,
    /// A caller cannot choose it; clients see it as `traceId`.
    pub(crate) extended: String,
}

impl Ids {
    pub(crate) fn generate(headers: &HeaderMap) -> Result<Self> {
        let chosen = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        Ok(Self {
            request: chosen.map_or_else(random::uuid, |id| Ok(id.to_owned()))?,
            extended: random::extended_request_id()?,
        })
    }
}

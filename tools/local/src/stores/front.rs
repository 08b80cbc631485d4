//! A way to the database with the stack's time as the `Date` of each answer: the database has a server of its own, which
//! sends the machine's. What the stack itself calls does not take this way.

use anyhow::Result;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use reqwest::Client;

/// `DynamoDB` accepts bodies up to 16 MB.
const LONGEST_BODY: usize = 16 * 1_024 * 1_024;

#[derive(Clone)]
struct Front {
    http: Client,
    database_url: String,
}

pub(super) fn router(database_url: &str) -> Result<Router> {
    let front = Front {
        http: Client::builder().no_proxy().build()?,
        database_url: database_url.to_owned(),
    };
    Ok(Router::new().fallback(forward).with_state(front))
}

async fn forward(State(front): State<Front>, request: Request) -> Response {
    let answer = front.answer(request).await;
    answer.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
}

impl Front {
    async fn answer(&self, request: Request) -> Result<Response> {
        let (head, body) = request.into_parts();
        let url = format!("{}{}", self.database_url, head.uri);
        let body = to_bytes(body, LONGEST_BODY).await?;
        let request = self.http.request(head.method, url).headers(head.headers).body(body);
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = Response::new(Body::from(answer.bytes().await?));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

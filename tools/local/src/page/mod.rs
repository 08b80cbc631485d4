//! The page to try the service, at `/`: its files, and what it reads besides the API.
//!
//! The files are part of the program, so the page works offline. Its policy lets it load and call nothing but this origin,
//! and run nothing that is not in these files.

mod api;

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::stack::local_api::require_local_host;

pub(crate) use api::{Api, router};

const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Path, type and content of every file.
const FILES: [(&str, &str, &str); 9] = [
    ("/", "text/html; charset=utf-8", include_str!("files/index.html")),
    (
        "/page/page.css",
        "text/css; charset=utf-8",
        include_str!("files/page.css"),
    ),
    ("/page/icon.svg", "image/svg+xml", include_str!("files/icon.svg")),
    ("/page/main.js", JAVASCRIPT, include_str!("files/main.js")),
    ("/page/client.js", JAVASCRIPT, include_str!("files/client.js")),
    ("/page/local.js", JAVASCRIPT, include_str!("files/local.js")),
    ("/page/owner.js", JAVASCRIPT, include_str!("files/owner.js")),
    ("/page/attacker.js", JAVASCRIPT, include_str!("files/attacker.js")),
    ("/page/view.js", JAVASCRIPT, include_str!("files/view.js")),
];
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Answers requests for the page's files. Every other request, one with another method too, is for the rest of the stack.
pub(crate) async fn serve_files(request: Request, next: Next) -> Response {
    let file = FILES
        .iter()
        .find(|(path, ..)| request.method() == Method::GET && *path == request.uri().path());
    let Some((_, content_type, content)) = file else {
        return next.run(request).await;
    };
    let answer = match require_local_host(request.headers()) {
        Err(refusal) => refusal.into_response(),
        Ok(()) => ([(CONTENT_TYPE, *content_type)], *content).into_response(),
    };
    protect(answer).await
}

/// The headers that keep other sites and caches away from an answer.
async fn protect(mut answer: Response) -> Response {
    let headers = [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    answer
        .headers_mut()
        .extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    answer
}

#[cfg(test)]
mod tests;

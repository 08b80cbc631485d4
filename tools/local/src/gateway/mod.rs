//! API Gateway on one machine: finds the route, asks the authorizer, calls the function, and answers itself where it
//! must, all as the template says.

pub(crate) mod access_log;
mod answer;
pub(crate) mod authorizer;
mod event;
pub(crate) mod functions;
mod ids;
pub(crate) mod log;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header, request};
use axum::response::Response;
use futures_util::StreamExt as _;
use shared::clock::Clock as _;
use shared::http::Event;

use crate::clock::LocalClock;
use crate::template::{Refusal, Template};

use access_log::{AnsweredByFunction, Resource};
use authorizer::Authorizer;
use event::{Routed, rest_event};
use functions::Functions;
use ids::{EXTENDED_REQUEST_ID, Ids, REQUEST_ID};

/// API Gateway's limit of a request's body.
const LONGEST_BODY: usize = 10 * 1_024 * 1_024;
/// How much is read of a longer one, so that its sender gets to read the answer.
const MOST_READ: usize = 4 * LONGEST_BODY;

pub(crate) struct Gateway {
    pub(crate) template: &'static Template,
    pub(crate) authorizer: Authorizer,
    pub(crate) functions: Arc<Functions>,
    pub(crate) clock: Arc<LocalClock>,
}

pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    Router::new().fallback(handle).with_state(gateway)
}

async fn handle(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(ids) = Ids::generate(&head.headers) else {
        return gateway.refuse(Refusal::Failure, "");
    };
    let routed = gateway.template.route(&head.method, head.uri.path());
    let mut response = match gateway.answer(&head, body, routed.as_ref(), &ids).await {
        Ok(response) => response,
        Err(refusal) => gateway.refuse(refusal, &ids.extended),
    };
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(&ids.request).map(|id| (REQUEST_ID, id)));
    headers.extend(HeaderValue::from_str(&ids.extended).map(|id| (EXTENDED_REQUEST_ID, id)));
    if let Some(routed) = routed {
        response
            .extensions_mut()
            .insert(Resource(routed.route.resource.clone()));
    }
    response
}

impl Gateway {
    async fn answer(
        &self,
        head: &request::Parts,
        body: Body,
        routed: Option<&Routed<'_>>,
        ids: &Ids,
    ) -> Result<Response, Refusal> {
        let body = read(body).await?;
        // A known path with another method is no route either.
        let routed = routed.ok_or(Refusal::NoSuchRoute)?;
        let claims = self.authorizer.authorize(&head.headers, &routed.route.scopes)?;
        let event = rest_event(head, &body, routed, &claims, ids, self.clock.now());
        let event = event.map_err(|_| Refusal::UnreadableRequest)?;
        let event = Event::from_text(event.to_string());
        let call = self.functions.call(routed.route.function, event);
        // A function that fails or runs out of time is API Gateway's 502, which the template has a response for.
        let answer = tokio::time::timeout(routed.route.timeout, call).await;
        let answer = answer.map_err(|_| Refusal::Failure)?.map_err(|_| Refusal::Failure)?;
        let mut response = answer.map(to_axum);
        *response.headers_mut() = answer::headers(response.headers());
        response.extensions_mut().insert(AnsweredByFunction);
        Ok(response)
    }

    fn refuse(&self, refusal: Refusal, trace_id: &str) -> Response {
        let mut response = Response::default();
        let Some(template) = self.template.response(refusal) else {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return response;
        };
        *response.status_mut() = template.status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().extend(template.headers.iter().cloned());
        *response.body_mut() = Body::from(template.body.replace("$context.extendedRequestId", trace_id));
        response
    }
}

fn to_axum(body: lambda_http::Body) -> Body {
    match body {
        lambda_http::Body::Text(text) => Body::from(text),
        lambda_http::Body::Binary(bytes) => Body::from(bytes),
        _ => Body::empty(),
    }
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    let mut chunks = body.into_data_stream();
    let (mut whole, mut length) = (Vec::new(), 0_usize);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Refusal::UnreadableRequest)?;
        length = length.saturating_add(chunk.len());
        if length <= LONGEST_BODY {
            whole.extend_from_slice(&chunk);
        } else if length > MOST_READ {
            break;
        }
    }
    if length <= LONGEST_BODY {
        Ok(whole.into())
    } else {
        Err(Refusal::RequestTooLarge)
    }
}

impl Template {
    /// The route of a request. A slash at the end of the path makes no difference, as at API Gateway's REST APIs.
    fn route<'a>(&'a self, method: &Method, sent: &'a str) -> Option<Routed<'a>> {
        let path = sent.strip_prefix('/')?.strip_prefix(self.stage.as_str())?;
        self.routes
            .iter()
            .filter(|route| route.method == *method)
            .find_map(|route| {
                let parameters = path_parameters(&route.resource, path.strip_suffix('/').unwrap_or(path))?;
                Some(Routed {
                    route,
                    stage: &self.stage,
                    path,
                    parameters,
                })
            })
    }
}

/// The parameters of a path, if it matches a resource. A parameter matches one segment that is not empty.
fn path_parameters<'a>(resource: &'a str, path: &'a str) -> Option<BTreeMap<&'a str, &'a str>> {
    let (wanted, sent): (Vec<_>, Vec<_>) = (resource.split('/').collect(), path.split('/').collect());
    if wanted.len() != sent.len() {
        return None;
    }
    let mut parameters = BTreeMap::new();
    for (wanted, sent) in wanted.into_iter().zip(sent) {
        match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) if !sent.is_empty() => {
                parameters.insert(name, sent);
            }
            None if wanted == sent => {}
            _ => return None,
        }
    }
    Some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Function;

    fn route(method: &str, path: &str) -> Result<Option<(Function, String, Vec<String>)>> {
        let template = Template::get()?;
        let routed = template.route(&method.parse()?, path);
        Ok(routed.map(|routed| {
            let parameters = routed.parameters.values().map(|value| (*value).to_owned()).collect();
            (routed.route.function, routed.path.to_owned(), parameters)
        }))
    }

    #[test]
    fn a_path_leads_to_its_function() -> Result<()> {
        let start = |path: &str| Some((Function::InitAuth, path.to_owned(), vec![]));
        assert_eq!(
            route("POST", "/v1/deviceAuthentications")?,
            start("/deviceAuthentications")
        );
        assert_eq!(
            route("POST", "/v1/deviceAuthentications/")?,
            start("/deviceAuthentications/")
        );
        let validate = |id: &str| {
            Some((
                Function::ValidateOtp,
                format!("/deviceAuthentications/{id}"),
                vec![id.to_owned()],
            ))
        };
        assert_eq!(route("POST", "/v1/deviceAuthentications/a%2Fb")?, validate("a%2Fb"));
        Ok(())
    }

    #[test]
    fn everything_else_has_no_route() -> Result<()> {
        for (method, path) in [
            ("GET", "/v1/deviceAuthentications"),
            ("OPTIONS", "/v1/deviceAuthentications"),
            ("POST", "/deviceAuthentications"),
            ("POST", "/v2/deviceAuthentications"),
            ("POST", "/v1deviceAuthentications"),
            ("POST", "/v1/DeviceAuthentications"),
            ("POST", "/v1/deviceAuthentications//"),
            ("POST", "/v1//deviceAuthentications"),
            ("POST", "/v1/deviceAuthentications/a/b"),
            ("POST", "/v1"),
            ("POST", "/"),
            ("POST", "*"),
        ] {
            assert_eq!(route(method, path)?, None, "{method} {path}");
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_body_of_ten_megabytes_is_the_longest() {
        let body = |length: usize| Body::from(vec![b'x'; length]);
        assert_eq!(read(body(LONGEST_BODY)).await.map(|body| body.len()), Ok(LONGEST_BODY));
        assert_eq!(read(body(LONGEST_BODY + 1)).await, Err(Refusal::RequestTooLarge));
    }
}

//! Who is calling: the client of the access token that the gateway has verified.

use lambda_http::Request;
use lambda_http::RequestExt as _;
use lambda_http::aws_lambda_events::apigw::ApiGatewayProxyRequestContext;
use lambda_http::request::RequestContext;

use super::error::{Code, Failure};
use crate::names::ClientId;

/// The scope that every method of the API asks for.
pub const SCOPE: &str = "mfa/authenticate";

/// The client that an access token was issued to.
///
/// The gateway lets no request through without a token of this scope. It is looked at again all the same: a method
/// that lost its authorizer in a template would otherwise serve everybody.
///
/// # Errors
/// [`Failure`]: 401 if there is no client id, 403 if the scope is missing.
pub fn client(request: &Request) -> Result<ClientId, Failure> {
    let unauthorized = || Failure::new(Code::Unauthorized, "no_client");
    let claims = context(request)
        .and_then(|context| context.authorizer.fields.get("claims"))
        .ok_or_else(unauthorized)?;
    let claim = |name| claims.get(name).and_then(|value| value.as_str());
    let client = claim("client_id")
        .and_then(|raw| ClientId::parse(raw).ok())
        .ok_or_else(unauthorized)?;
    if claim("scope")
        .unwrap_or_default()
        .split(' ')
        .any(|scope| scope == SCOPE)
    {
        Ok(client)
    } else {
        Err(Failure::new(Code::Forbidden, "no_scope"))
    }
}

/// What a client can name when it asks about a request: API Gateway's extended request id, also in `x-amz-apigw-id`.
/// Never the request id: a caller can choose that one.
#[must_use]
pub fn trace_id(request: &Request) -> String {
    context(request)
        .and_then(|context| context.other.get("extendedRequestId"))
        .and_then(|value| value.as_str())
        .unwrap_or_default()
        .to_owned()
}

/// The path that the client called, with the stage.
///
/// # Errors
/// [`Failure`] (400) if it could not stand in a header.
pub fn called_path(request: &Request) -> Result<&str, Failure> {
    context(request)
        .and_then(|context| context.path.as_deref())
        .filter(|path| path.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or(Failure::invalid("The path must be percent-encoded"))
}

fn context(request: &Request) -> Option<&ApiGatewayProxyRequestContext> {
    // The only kind that `event` makes.
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV1(context)) => Some(context),
        _ => None,
    }
}

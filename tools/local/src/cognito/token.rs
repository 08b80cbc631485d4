//! Step 1 on one machine: `/oauth2/token` for client credentials with Cognito's answers (RFC 6749, sections 4.4 and 5),
//! and the key set that verifies its tokens.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use data_encoding::BASE64;
use jsonwebtoken::jwk::JwkSet;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::clock::{Clock as _, Timestamp};
use shared::names::ClientId;
use zeroize::Zeroizing;

use super::identity::Identity;
use crate::clock::LocalClock;
use crate::random;

pub(crate) const TOKEN_PATH: &str = "/oauth2/token";
/// The path of the key set, below the origin and below the issuer.
pub(crate) const KEY_SET_PATH: &str = "/.well-known/jwks.json";

/// The claims of Cognito's access tokens for client credentials. Tests change a member and sign it with
/// [`crate::Stack::sign`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The client's id, since there is no user.
    pub sub: String,
    /// `access`.
    pub token_use: String,
    /// Scopes, separated by spaces.
    pub scope: String,
    /// When the client authenticated, in seconds since the epoch.
    pub auth_time: u64,
    /// URL of the user pool.
    pub iss: String,
    /// When it expires, in seconds since the epoch.
    pub exp: u64,
    /// When it was issued, in seconds since the epoch.
    pub iat: u64,
    /// 2.
    pub version: u32,
    /// Id of the token.
    pub jti: String,
    /// The client's id.
    pub client_id: String,
}

/// Issues tokens.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) identity: Identity,
    pub(crate) clock: Arc<LocalClock>,
    pub(crate) url: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) token_life: Duration,
}

impl Issuer {
    /// The claims of a token that is issued now.
    pub(crate) fn claims(&self, client: &ClientId, scopes: &[String]) -> Result<Claims> {
        let now: Timestamp = self.clock.now();
        Ok(Claims {
            sub: client.as_str().to_owned(),
            token_use: "access".to_owned(),
            scope: scopes.join(" "),
            auth_time: now.as_secs(),
            iss: self.url.clone(),
            exp: now.plus(self.token_life).as_secs(),
            iat: now.as_secs(),
            version: 2,
            jti: random::uuid()?,
            client_id: client.as_str().to_owned(),
        })
    }

    fn grant(&self, headers: &HeaderMap, form: &Fields) -> Result<Grant, Denial> {
        let grant_type = form.single("grant_type")?.ok_or(Denial::InvalidRequest)?;
        let (id, secret) = credentials(headers, form)?;
        let client = self.identity.pool().client_with(&id, &secret);
        let client = client.ok_or(Denial::InvalidClient)?;
        if grant_type != "client_credentials" {
            return Err(Denial::UnsupportedGrantType);
        }
        let allowed = client.scopes.as_ref().unwrap_or(&self.scopes);
        let scopes: Vec<String> = match form.single("scope")? {
            None | Some("") => allowed.clone(),
            Some(asked) => asked.split(' ').map(ToOwned::to_owned).collect(),
        };
        if !scopes.iter().all(|scope| allowed.contains(scope)) {
            return Err(Denial::InvalidScope);
        }
        let claims = self.claims(&client.id, &scopes).map_err(|_| Denial::Failed)?;
        let token = self.identity.signing_key().sign(&claims).map_err(|_| Denial::Failed)?;
        Ok(Grant {
            token,
            expires_in: self.token_life.as_secs(),
        })
    }
}

struct Grant {
    token: Zeroizing<String>,
    expires_in: u64,
}

/// Why no token is issued (RFC 6749, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Denial {
    InvalidRequest,
    InvalidClient,
    InvalidScope,
    UnsupportedGrantType,
    /// Not the client's fault.
    Failed,
}

impl Denial {
    const fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidScope => "invalid_scope",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::Failed => "server_error",
        }
    }
}

/// The fields of a form. They hold credentials, so there is no `Debug`.
#[derive(Deserialize)]
#[serde(transparent)]
struct Fields(Vec<(String, Zeroizing<String>)>);

impl Fields {
    /// The value of a field; no field may come twice (RFC 6749, section 3.2).
    fn single(&self, name: &str) -> Result<Option<&str>, Denial> {
        let mut values = self
            .0
            .iter()
            .filter(|(field, _)| field == name)
            .map(|(_, value)| value.as_str());
        let first = values.next();
        if values.next().is_some() {
            Err(Denial::InvalidRequest)
        } else {
            Ok(first)
        }
    }
}

type Credentials = (String, Zeroizing<String>);

/// From the `Authorization` header or from the form, but not from both (RFC 6749, section 2.3).
fn credentials(headers: &HeaderMap, form: &Fields) -> Result<Credentials, Denial> {
    let (id, secret) = (form.single("client_id")?, form.single("client_secret")?);
    let Some(header) = headers.get(header::AUTHORIZATION) else {
        let (id, secret) = id.zip(secret).ok_or(Denial::InvalidClient)?;
        return Ok((id.to_owned(), Zeroizing::new(secret.to_owned())));
    };
    if secret.is_some() {
        return Err(Denial::InvalidRequest);
    }
    let basic = header.to_str().ok().and_then(basic).ok_or(Denial::InvalidClient)?;
    // Many libraries repeat the id in the form; it must be the same then.
    if id.is_some_and(|id| id != basic.0) {
        Err(Denial::InvalidRequest)
    } else {
        Ok(basic)
    }
}

fn basic(header: &str) -> Option<Credentials> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(BASE64.decode(encoded.trim().as_bytes()).ok()?);
    let (id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((id.to_owned(), Zeroizing::new(secret.to_owned())))
}

pub(crate) fn router(issuer: Arc<Issuer>) -> Router {
    let below_the_issuer = format!("/{}{KEY_SET_PATH}", issuer.identity.pool_id());
    Router::new()
        .route(TOKEN_PATH, post(token))
        .route(KEY_SET_PATH, get(key_set))
        .route(&below_the_issuer, get(key_set))
        .with_state(issuer)
}

async fn token(
    State(issuer): State<Arc<Issuer>>,
    headers: HeaderMap,
    form: Result<Form<Fields>, FormRejection>,
) -> Response {
    let granted = form
        .map_err(|_| Denial::InvalidRequest)
        .and_then(|Form(form)| issuer.grant(&headers, &form));
    let no_store = [(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")];
    match granted {
        Ok(granted) => {
            let body =
                json!({ "access_token": *granted.token, "expires_in": granted.expires_in, "token_type": "Bearer" });
            (no_store, Json(body)).into_response()
        }
        Err(denied) => {
            let status = if denied == Denial::Failed {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                // Cognito answers 400 for a wrong secret too.
                StatusCode::BAD_REQUEST
            };
            (status, no_store, Json(json!({ "error": denied.code() }))).into_response()
        }
    }
}

async fn key_set(State(issuer): State<Arc<Issuer>>) -> Json<JwkSet> {
    Json(issuer.identity.signing_key().key_set())
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    fn issuer() -> Result<Issuer> {
        Ok(Issuer {
            identity: Identity::generate()?,
            clock: Arc::new(LocalClock::still(Timestamp::from_secs(1_800_000_000))),
            url: "http://issuer".to_owned(),
            scopes: vec!["mfa/authenticate".to_owned(), "mfa/other".to_owned()],
            token_life: Duration::from_hours(1),
        })
    }

    fn fields(form: &[(&str, &str)]) -> Fields {
        Fields(
            form.iter()
                .map(|(name, value)| ((*name).to_owned(), Zeroizing::new((*value).to_owned())))
                .collect(),
        )
    }

    fn with_basic(id: &str, secret: &str) -> Result<HeaderMap> {
        let value = format!("Basic {}", BASE64.encode(format!("{id}:{secret}").as_bytes()));
        Ok(HeaderMap::from_iter([(header::AUTHORIZATION, value.parse()?)]))
    }

    fn denied(issuer: &Issuer, headers: &HeaderMap, form: &[(&str, &str)]) -> Option<Denial> {
        issuer.grant(headers, &fields(form)).err()
    }

    const GRANT: (&str, &str) = ("grant_type", "client_credentials");

    #[test]
    fn a_token_has_cognitos_claims() -> Result<()> {
        let issuer = issuer()?;
        let [client, _] = issuer.identity.clients();
        let basic = with_basic(client.id().as_str(), client.secret())?;
        let granted = issuer
            .grant(&basic, &fields(&[GRANT]))
            .map_err(|denied| anyhow::anyhow!(denied.code()))?;
        assert_eq!(granted.expires_in, 3_600);
        let claims = issuer
            .identity
            .signing_key()
            .verify(&granted.token, "http://issuer")
            .context("no claims")?;
        let jti = claims["jti"].as_str().context("no jti")?;
        let expected = json!({
            "sub": client.id().as_str(), "token_use": "access", "scope": "mfa/authenticate mfa/other",
            "auth_time": 1_800_000_000, "iss": "http://issuer", "exp": 1_800_003_600, "iat": 1_800_000_000,
            "version": 2, "jti": jti, "client_id": client.id().as_str(),
        });
        assert_eq!(serde_json::Value::Object(claims.clone()), expected);
        Ok(())
    }

    #[test]
    fn credentials_may_come_in_the_form() -> Result<()> {
        let issuer = issuer()?;
        let [_, client] = issuer.identity.clients();
        let form = [
            GRANT,
            ("client_id", client.id().as_str()),
            ("client_secret", client.secret()),
        ];
        assert_eq!(denied(&issuer, &HeaderMap::new(), &form), None);
        Ok(())
    }

    #[test]
    fn wrong_credentials_are_an_invalid_client() -> Result<()> {
        let issuer = issuer()?;
        let [first, second] = issuer.identity.clients();
        let id = first.id().as_str();
        for headers in [
            HeaderMap::new(),
            with_basic(id, "")?,
            with_basic(id, second.secret())?,
            with_basic("", first.secret())?,
            HeaderMap::from_iter([(header::AUTHORIZATION, "Basic %".parse()?)]),
            HeaderMap::from_iter([(header::AUTHORIZATION, "Bearer x".parse()?)]),
        ] {
            assert_eq!(denied(&issuer, &headers, &[GRANT]), Some(Denial::InvalidClient));
        }
        let form = [GRANT, ("client_id", id), ("client_secret", second.secret())];
        assert_eq!(denied(&issuer, &HeaderMap::new(), &form), Some(Denial::InvalidClient));
        assert_eq!(
            denied(&issuer, &HeaderMap::new(), &[GRANT, ("client_id", id)]),
            Some(Denial::InvalidClient)
        );
        Ok(())
    }

    #[test]
    fn each_other_mistake_has_its_own_error() -> Result<()> {
        let issuer = issuer()?;
        let [first, second] = issuer.identity.clients();
        let basic = with_basic(first.id().as_str(), first.secret())?;
        for (form, expected) in [
            (&[][..], Denial::InvalidRequest),
            (&[GRANT, GRANT], Denial::InvalidRequest),
            (&[GRANT, ("client_secret", first.secret())], Denial::InvalidRequest),
            (&[GRANT, ("client_id", second.id().as_str())], Denial::InvalidRequest),
            (&[("grant_type", "password")], Denial::UnsupportedGrantType),
            (&[("grant_type", "CLIENT_CREDENTIALS")], Denial::UnsupportedGrantType),
            (&[GRANT, ("scope", "mfa/unknown")], Denial::InvalidScope),
            (
                &[GRANT, ("scope", "mfa/authenticate mfa/unknown")],
                Denial::InvalidScope,
            ),
        ] {
            assert_eq!(denied(&issuer, &basic, form), Some(expected));
        }
        assert_eq!(
            denied(&issuer, &basic, &[GRANT, ("client_id", first.id().as_str())]),
            None
        );
        assert_eq!(denied(&issuer, &basic, &[GRANT, ("scope", "mfa/other")]), None);
        Ok(())
    }
}

//! Who may call a method: the checks of a Cognito authorizer with scopes on an access token.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};
use shared::clock::Clock as _;

use crate::clock::LocalClock;
use crate::cognito::identity::Identity;
use crate::template::Refusal;

#[derive(Debug)]
pub(crate) struct Authorizer {
    pub(crate) identity: Identity,
    pub(crate) clock: Arc<LocalClock>,
    pub(crate) issuer_url: String,
}

impl Authorizer {
    /// The claims of the request's token, if it is a valid access token with one of the scopes.
    pub(crate) fn authorize(&self, headers: &HeaderMap, scopes: &[String]) -> Result<Map<String, Value>, Refusal> {
        let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.map(without_scheme).ok_or(Refusal::Unauthorized)?;
        let claims = self
            .identity
            .signing_key()
            .verify(token, &self.issuer_url)
            .ok_or(Refusal::Unauthorized)?;
        let expires_at = claims.get("exp").and_then(Value::as_u64).ok_or(Refusal::Unauthorized)?;
        let text = |name| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        if expires_at <= self.clock.now().as_secs() || text("token_use") != "access" {
            return Err(Refusal::Unauthorized);
        }
        if !text("scope")
            .split(' ')
            .any(|scope| scopes.iter().any(|wanted| wanted == scope))
        {
            return Err(Refusal::AccessDenied);
        }
        Ok(claims)
    }
}

/// A Cognito authorizer takes the bare token too.
fn without_scheme(value: &str) -> &str {
    let bearer = value
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    bearer.map_or(value, |(_, token)| token).trim()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::Result;
    use shared::clock::Timestamp;

    use super::*;
    use crate::cognito::token::{Claims, Issuer};

    const ISSUER: &str = "http://issuer";

    struct Fixture {
        authorizer: Authorizer,
        issuer: Issuer,
    }

    fn fixture() -> Result<Fixture> {
        let identity = Identity::generate()?;
        let clock = Arc::new(LocalClock::still(Timestamp::from_secs(1_800_000_000)));
        Ok(Fixture {
            authorizer: Authorizer {
                identity: identity.clone(),
                clock: Arc::clone(&clock),
                issuer_url: ISSUER.to_owned(),
            },
            issuer: Issuer {
                identity,
                clock,
                url: ISSUER.to_owned(),
                scopes: Vec::new(),
                token_life: Duration::from_hours(1),
            },
        })
    }

    impl Fixture {
        fn claims(&self) -> Result<Claims> {
            let [client, _] = self.issuer.identity.clients();
            self.issuer.claims(client.id(), &["mfa/authenticate".to_owned()])
        }

        fn outcome(&self, authorization: &str) -> Result<Option<Refusal>> {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse()?)]);
            Ok(self
                .authorizer
                .authorize(&headers, &["mfa/authenticate".to_owned()])
                .err())
        }

        fn outcome_with(&self, claims: &Claims) -> Result<Option<Refusal>> {
            self.outcome(&format!("Bearer {}", *self.issuer.identity.signing_key().sign(claims)?))
        }
    }

    #[test]
    fn an_access_token_with_the_scope_is_let_through() -> Result<()> {
        let fixture = fixture()?;
        let claims = fixture.claims()?;
        assert_eq!(fixture.outcome_with(&claims)?, None);
        let among_others = Claims {
            scope: "other/scope mfa/authenticate".to_owned(),
            ..claims.clone()
        };
        assert_eq!(fixture.outcome_with(&among_others)?, None);
        let token = fixture.issuer.identity.signing_key().sign(&claims)?;
        assert_eq!(fixture.outcome(&token)?, None);
        assert_eq!(fixture.outcome(&format!("bearer {}", *token))?, None);
        Ok(())
    }

    #[test]
    fn an_expired_token_is_refused_by_the_stacks_clock() -> Result<()> {
        let fixture = fixture()?;
        let claims = fixture.claims()?;
        fixture.authorizer.clock.advance_seconds(3_599)?;
        assert_eq!(fixture.outcome_with(&claims)?, None);
        fixture.authorizer.clock.advance_seconds(1)?;
        assert_eq!(fixture.outcome_with(&claims)?, Some(Refusal::Unauthorized));
        Ok(())
    }

    #[test]
    fn a_foreign_token_is_refused() -> Result<()> {
        let fixture = fixture()?;
        let claims = fixture.claims()?;
        let foreign = Identity::generate()?.signing_key().sign(&claims)?;
        assert_eq!(
            fixture.outcome(&format!("Bearer {}", *foreign))?,
            Some(Refusal::Unauthorized)
        );
        let other_issuer = Claims {
            iss: "http://other".to_owned(),
            ..claims.clone()
        };
        assert_eq!(fixture.outcome_with(&other_issuer)?, Some(Refusal::Unauthorized));
        let id_token = Claims {
            token_use: "id".to_owned(),
            ..claims
        };
        assert_eq!(fixture.outcome_with(&id_token)?, Some(Refusal::Unauthorized));
        Ok(())
    }

    #[test]
    fn a_token_that_was_tampered_with_is_refused() -> Result<()> {
        let fixture = fixture()?;
        let claims = fixture.claims()?;
        let key = fixture.issuer.identity.signing_key();
        let (one, other) = (
            key.sign(&claims)?,
            key.sign(&Claims {
                scope: String::new(),
                ..claims
            })?,
        );
        let parts = |token: &str| token.split('.').map(ToOwned::to_owned).collect::<Vec<_>>();
        let (one, other) = (parts(&one), parts(&other));
        let spliced = format!("Bearer {}.{}.{}", one[0], one[1], other[2]);
        assert_eq!(fixture.outcome(&spliced)?, Some(Refusal::Unauthorized));
        for broken in ["", "Bearer", "Bearer ", "Bearer x", "Basic eA==", "Bearer a.b.c"] {
            assert_eq!(fixture.outcome(broken)?, Some(Refusal::Unauthorized), "{broken}");
        }
        assert_eq!(
            fixture
                .authorizer
                .authorize(&HeaderMap::new(), &["mfa/authenticate".to_owned()])
                .err(),
            Some(Refusal::Unauthorized)
        );
        Ok(())
    }

    #[test]
    fn a_token_without_the_scope_is_denied_access() -> Result<()> {
        let fixture = fixture()?;
        let claims = fixture.claims()?;
        for scope in ["", "mfa/other", "mfa/authenticate2", "MFA/AUTHENTICATE"] {
            let claims = Claims {
                scope: scope.to_owned(),
                ..claims.clone()
            };
            assert_eq!(fixture.outcome_with(&claims)?, Some(Refusal::AccessDenied), "{scope}");
        }
        Ok(())
    }
}

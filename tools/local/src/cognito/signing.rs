//! The key that signs access tokens (RS256, RFC 7515 and RFC 7518), and the key set that verifies them (RFC 7517).

use std::fmt;

use anyhow::{Context as _, Result};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

/// A signing key. Its `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct SigningKey {
    pkcs8: Zeroizing<Vec<u8>>,
    signs: EncodingKey,
    verifies: DecodingKey,
    public: Jwk,
    id: String,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new RSA key of 2,048 bits. aws-lc takes a fraction of a second for one, even in a debug build.
    pub(crate) fn generate() -> Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).context("cannot generate an RSA key")?;
        let der: Pkcs8V1Der<'_> = pair.as_der().context("cannot encode the RSA key")?;
        Self::from_pkcs8(Zeroizing::new(der.as_ref().to_vec()))
    }

    pub(crate) fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self> {
        let signs = EncodingKey::from_rsa_der(inner_key(&pkcs8).context("not an RSA key of 2,048 bits")?);
        let mut public = Jwk::from_encoding_key(&signs, Algorithm::RS256)?;
        let id = public.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256)?;
        public.common.key_id = Some(id.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let verifies = DecodingKey::from_jwk(&public)?;
        Ok(Self {
            pkcs8,
            signs,
            verifies,
            public,
            id,
        })
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    pub(crate) fn key_set(&self) -> JwkSet {
        JwkSet {
            keys: vec![self.public.clone()],
        }
    }

    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<Zeroizing<String>> {
        // Cognito's header has these two members only.
        let header = Header {
            typ: None,
            kid: Some(self.id.clone()),
            ..Header::new(Algorithm::RS256)
        };
        Ok(Zeroizing::new(jsonwebtoken::encode(&header, claims, &self.signs)?))
    }

    /// The claims of a token, if this key signed it and it is the issuer's. Times are not checked.
    pub(crate) fn verify(&self, token: &str, issuer: &str) -> Option<Map<String, Value>> {
        if jsonwebtoken::decode_header(token).ok()?.kid.as_deref() != Some(&self.id) {
            return None;
        }
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.validate_aud = false;
        // The library would compare with the wall clock.
        validation.validate_exp = false;
        jsonwebtoken::decode(token, &self.verifies, &validation)
            .ok()
            .map(|token| token.claims)
    }
}

/// The `RSAPrivateKey` (RFC 8017) inside a PKCS #8 key (RFC 5958): jsonwebtoken takes only the former, and aws-lc writes
/// only the latter. With 2,048 bits, every length has two bytes.
fn inner_key(pkcs8: &[u8]) -> Option<&[u8]> {
    let inside = pkcs8.strip_prefix(&[0x30, 0x82])?.get(2..)?;
    let version_and_algorithm = b"\x02\x01\x00\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00".as_slice();
    inside
        .strip_prefix(version_and_algorithm)?
        .strip_prefix(&[0x04, 0x82])?
        .get(2..)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_survives_its_written_form_and_verifies_only_its_own_tokens() -> Result<()> {
        let key = SigningKey::generate()?;
        let token = key.sign(&json!({ "iss": "issuer", "sub": "a", "exp": 1 }))?;
        let read = SigningKey::from_pkcs8(Zeroizing::new(key.pkcs8().to_vec()))?;
        assert!(read.verify(&token, "issuer").is_some());
        assert!(read.verify(&token, "other").is_none());
        assert!(SigningKey::generate()?.verify(&token, "issuer").is_none());
        Ok(())
    }

    #[test]
    fn a_token_without_a_signature_or_with_another_algorithm_is_refused() -> Result<()> {
        let key = SigningKey::generate()?;
        let part = |value: &Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let claims = part(&json!({ "iss": "issuer", "sub": "a", "exp": 1 }));
        let unsigned = format!("{}.{claims}.", part(&json!({ "alg": "none", "kid": key.id })));
        assert!(key.verify(&unsigned, "issuer").is_none());
        // Signed with the public key as if it were a shared secret.
        let header = Header {
            kid: Some(key.id.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let shared = EncodingKey::from_secret(serde_json::to_string(&key.public)?.as_bytes());
        let confused = jsonwebtoken::encode(&header, &json!({ "iss": "issuer", "sub": "a", "exp": 1 }), &shared)?;
        assert!(key.verify(&confused, "issuer").is_none());
        for broken in ["", ".", "..", "a.b.c"] {
            assert!(key.verify(broken, "issuer").is_none(), "{broken}");
        }
        Ok(())
    }

    #[test]
    fn the_private_key_is_in_no_output() -> Result<()> {
        let key = SigningKey::generate()?;
        let members = serde_json::to_value(key.key_set())?;
        let members = members["keys"][0]
            .as_object()
            .context("no key")?
            .keys()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>();
        assert_eq!(
            members,
            ["alg", "e", "kid", "kty", "n", "use"].map(str::to_owned).into()
        );
        assert_eq!(format!("{key:?}"), format!("SigningKey {{ id: {:?}, .. }}", key.id));
        Ok(())
    }
}

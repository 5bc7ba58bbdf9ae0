//! JSON web tokens, as far as OAUTHBEARER needs them: unsecured, or signed with a key that both sides have.
//! Signatures with key pairs (RS256 and its kin) are not believed.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use kafka_wire::config::Secret;
use kafka_wire::security::ScramHash;
use serde::Deserialize;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) subject: String,
    pub(super) expires_unix_ms: i64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Payload {
    sub: String,
    /// Seconds since 1970; some issuers write fractions.
    exp: f64,
}

/// What a token claims, if it is to be believed now. With a key only tokens signed with it are.
pub(super) fn validate(token: &str, key: Option<&Secret>, now_unix_ms: i64) -> Option<Claims> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header: Header = serde_json::from_slice(&BASE64_URL.decode(header).ok()?).ok()?;
    let signature = Secret::from(BASE64_URL.decode(signature).ok()?);
    let expected = match (key, header.alg.as_str()) {
        (None, "none") => Secret::from(Vec::new()),
        (Some(key), "HS256") => {
            Secret::from(ScramHash::Sha256.hmac(key.expose(), signed.as_bytes()).to_vec())
        }
        (Some(key), "HS512") => {
            Secret::from(ScramHash::Sha512.hmac(key.expose(), signed.as_bytes()).to_vec())
        }
        _ => return None,
    };
    // `Secret` compares in constant time.
    if signature != expected {
        return None;
    }
    let payload: Payload = serde_json::from_slice(&BASE64_URL.decode(payload).ok()?).ok()?;
    let expires_unix_ms = (payload.exp * 1_000.0) as i64;
    (expires_unix_ms > now_unix_ms && !payload.sub.is_empty())
        .then_some(Claims { subject: payload.sub, expires_unix_ms })
}

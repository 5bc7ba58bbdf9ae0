//! JSON web tokens, as far as OAUTHBEARER needs them: unsecured, signed with a key that both sides have, or signed by
//! who issues them, whose public keys are known.
//!
//! What is asked of claims is what Kafka's `BrokerJwtValidator` asks, without its allowance for clocks that differ
//! (`sasl.oauthbearer.clock.skew.seconds`): tests have one clock.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use kafka_wire::config::Secret;
use kafka_wire::security::ScramHash;
use serde::Deserialize;

use super::jwks::Jwks;
use crate::options::SaslOptions;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) subject: String,
    pub(super) expires_unix_ms: i64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

/// Times are seconds since 1970; some issuers write fractions.
#[derive(Deserialize)]
struct Payload {
    sub: String,
    exp: f64,
    iat: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn contains(&self, wanted: &str) -> bool {
        match self {
            Self::One(one) => one == wanted,
            Self::Many(many) => many.iter().any(|it| it == wanted),
        }
    }
}

/// What a token claims, if it is to be believed now. With a key, or keys of who issues tokens, only tokens signed with
/// one are.
pub(super) fn validate(token: &str, options: &SaslOptions, jwks: &Jwks, now_unix_ms: i64) -> Option<Claims> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header: Header = serde_json::from_slice(&BASE64_URL.decode(header).ok()?).ok()?;
    let signature = BASE64_URL.decode(signature).ok()?;
    let is_signed = match (header.alg.as_str(), &options.oauth_key) {
        ("none", key) => key.is_none() && jwks.is_empty() && signature.is_empty(),
        ("HS256", Some(key)) => is_by(ScramHash::Sha256, key, signed, signature),
        ("HS512", Some(key)) => is_by(ScramHash::Sha512, key, signed, signature),
        (algorithm, _) => jwks.verify(algorithm, header.kid.as_deref(), signed.as_bytes(), &signature),
    };
    if !is_signed {
        return None;
    }
    let payload: Payload = serde_json::from_slice(&BASE64_URL.decode(payload).ok()?).ok()?;
    is_believed(&payload, options, jwks, now_unix_ms)
        .then(|| Claims { expires_unix_ms: unix_ms(payload.exp), subject: payload.sub })
}

fn is_by(hash: ScramHash, key: &Secret, signed: &str, signature: Vec<u8>) -> bool {
    // `Secret` compares in constant time.
    Secret::from(signature) == Secret::from(hash.hmac(key.expose(), signed.as_bytes()).to_vec())
}

fn is_believed(payload: &Payload, options: &SaslOptions, jwks: &Jwks, now_unix_ms: i64) -> bool {
    let audience = options.oauth_audience.as_deref();
    let issuer = options.oauth_issuer.as_deref();
    !payload.sub.is_empty()
        && unix_ms(payload.exp) > now_unix_ms
        && payload.nbf.is_none_or(|from| unix_ms(from) <= now_unix_ms)
        && (payload.iat.is_some() || jwks.is_empty())
        && audience.is_none_or(|wanted| payload.aud.as_ref().is_some_and(|said| said.contains(wanted)))
        && (issuer.is_none() || payload.iss.as_deref() == issuer)
}

fn unix_ms(seconds: f64) -> i64 {
    (seconds * 1_000.0) as i64
}

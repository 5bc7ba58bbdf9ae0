//! OAuth tokens: what a client reads in one, which is when it expires. Its signature is the broker's affair.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use super::Secret;
use crate::error::{Error, ErrorKind, Result};

/// Larger tokens are refused: the frames before authentication are no larger.
const TOKEN_MAX_BYTES: usize = 60 << 10;

/// An error repeats no more of a claim.
const CLAIM_MAX_CHARS: usize = 100;
const CLAIM_VALUES_MAX: usize = 8;

/// A token, checked for its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What is sent.
    pub text: Secret,
    /// Since the Unix epoch; `None` where the token does not say it (it may not be a JWT).
    pub expires_at: Option<Duration>,
}

impl Token {
    /// Reads a token, with blanks and line ends around it as files have them.
    ///
    /// # Errors
    /// `Authentication`, when it is empty, too large, or has characters that a token cannot have.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let text = text.trim_ascii();
        if text.is_empty() || text.len() > TOKEN_MAX_BYTES {
            return Err(broken(format!("it has {} bytes, allowed are 1 to {TOKEN_MAX_BYTES}", text.len())));
        }
        // RFC 6750, b64token; and so nothing that ends a field of the SASL message.
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(byte);
        if let Some(at) = text.iter().position(|byte| !allowed(byte)) {
            return Err(broken(format!("byte {at} is not a character of a token")));
        }
        Ok(Self { text: Secret::from(text.to_vec()), expires_at: expiry(text) })
    }

    /// A JWT without a signature (RFC 7519, `"alg":"none"`), for brokers that check none.
    pub fn unsecured(subject: &str, issued_at: Duration, lifetime: Duration) -> Self {
        let expires_at = issued_at + lifetime;
        let claims = serde_json::json!({
            "sub": subject,
            "iat": issued_at.as_secs_f64(),
            "exp": expires_at.as_secs_f64(),
        });
        let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        let text = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims.to_string()));
        Self { text: Secret::from(text), expires_at: Some(expires_at) }
    }

    /// Reads the answer of a token endpoint (RFC 6749, 5.1), which came at `now` since the Unix epoch.
    ///
    /// # Errors
    /// `Authentication`, when there is no access token in it.
    pub fn from_endpoint(answer: &[u8], now: Duration) -> Result<Self> {
        let answer: Value = serde_json::from_slice(answer)
            .map_err(|_| broken("the provider's answer is not JSON".to_owned()))?;
        let text = answer["access_token"].as_str();
        let text = text.ok_or_else(|| broken("the provider's answer has no access_token".to_owned()))?;
        let mut token = Self::parse(text.as_bytes())?;
        let told = answer["expires_in"].as_f64().and_then(seconds).map(|lifetime| now + lifetime);
        token.expires_at = token.expires_at.or(told);
        Ok(token)
    }
}

/// What an endpoint says of a refused request (RFC 6749, 5.2), as far as it can be shown.
pub fn endpoint_refusal(answer: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let code = answer["error"].as_str()?;
    let description = answer["error_description"].as_str().unwrap_or_default();
    let text = format!("{code} {description}");
    Some(text.trim().chars().filter(|c| !c.is_control()).take(200).collect())
}

/// What a JWT says of itself that a broker may not accept, for a person to compare: its signature is not in it.
pub fn describe(token: &[u8]) -> Option<String> {
    let claims = claims(token)?;
    let text = |value: &Value| value.as_str().map(|text| format!("{:?}", shorten(text)));
    let audience = match &claims["aud"] {
        Value::Array(all) => {
            all.iter().filter_map(text).take(CLAIM_VALUES_MAX).collect::<Vec<_>>().join(", ")
        }
        one => text(one).unwrap_or_default(),
    };
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let expiry = claims["exp"].as_f64().and_then(seconds);
    let expiry = expiry.map_or_else(|| "none".to_owned(), |at| at.as_secs().to_string());
    Some(format!(
        "issuer {}, audience {}, subject {}, exp {expiry}",
        or_none(text(&claims["iss"]).unwrap_or_default()),
        or_none(audience),
        or_none(text(&claims["sub"]).unwrap_or_default()),
    ))
}

fn shorten(text: &str) -> String {
    text.chars().take(CLAIM_MAX_CHARS).collect()
}

/// The claim `exp` of a JWT.
fn expiry(token: &[u8]) -> Option<Duration> {
    claims(token)?["exp"].as_f64().and_then(seconds)
}

fn claims(token: &[u8]) -> Option<Value> {
    let claims = token.split(|byte| *byte == b'.').nth(1)?;
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice(&claims).ok()
}

/// Seconds of a peer's: none that no clock will ever show.
fn seconds(number: f64) -> Option<Duration> {
    const LATEST: f64 = 1e12;
    (0.0..LATEST).contains(&number).then(|| Duration::from_secs_f64(number))
}

fn broken(why: String) -> Error {
    Error::new(ErrorKind::Authentication, format!("read an OAuth token: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"alg":"none"}`, `{"sub":"alice","exp":1700000000}`.
    const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6MTcwMDAwMDAwMH0.c2ln";

    #[test]
    fn a_jwt_tells_when_it_expires_and_others_do_not() {
        let token = Token::parse(format!(" {TOKEN}\n").as_bytes()).unwrap();
        assert_eq!(token.text, Secret::from(TOKEN));
        assert_eq!(token.expires_at, Some(Duration::from_secs(1_700_000_000)));
        for opaque in ["abc", "a.b.c", "a.eyJleHAiOi0xfQ.c", "a.eyJleHAiOjFlMzAwfQ.c", "..", "a.W10.c"] {
            assert_eq!(Token::parse(opaque.as_bytes()).unwrap().expires_at, None, "{opaque}");
        }
    }

    #[test]
    fn a_jwt_is_described_without_what_makes_it_good() {
        assert_eq!(
            describe(TOKEN.as_bytes()).as_deref(),
            Some(r#"issuer none, audience none, subject "alice", exp 1700000000"#)
        );
        let claims = serde_json::json!({ "iss": "i\u{1b}", "aud": ["a", 7, "b"], "exp": "soon" });
        let token = format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
        assert_eq!(
            describe(token.as_bytes()).as_deref(),
            Some(r#"issuer "i\u{1b}", audience "a", "b", subject none, exp none"#)
        );
        assert_eq!(describe(b"opaque"), None);
    }

    #[test]
    fn what_cannot_be_a_token_is_refused_without_repeating_it() {
        let large = "a".repeat(TOKEN_MAX_BYTES + 1);
        for text in ["", " \n", "canary canary", "canary\x01auth=x", "canary,", "canär", &large] {
            let error = Token::parse(text.as_bytes()).unwrap_err();
            assert!(
                error.kind() == ErrorKind::Authentication && !error.to_string().contains("canary"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_unsecured_token_is_read_back() {
        let token = Token::unsecured("al\"ice", Duration::from_secs(1000), Duration::from_secs(60));
        let again = Token::parse(token.text.expose()).unwrap();
        assert_eq!(again, token);
        assert_eq!(again.expires_at, Some(Duration::from_secs(1060)));
    }

    #[test]
    fn an_endpoint_answers_a_token_or_a_reason() {
        let now = Duration::from_secs(500);
        let token = Token::from_endpoint(br#"{"access_token":"opaque","expires_in":60}"#, now).unwrap();
        assert_eq!(token.expires_at, Some(Duration::from_secs(560)));
        for broken in ["", "[]", "{}", r#"{"access_token":7}"#, r#"{"access_token":"a b"}"#] {
            assert!(Token::from_endpoint(broken.as_bytes(), now).is_err(), "{broken}");
        }
        let refusal = br#"{"error":"invalid_client","error_description":"wrong\u0007 secret"}"#;
        assert_eq!(endpoint_refusal(refusal).as_deref(), Some("invalid_client wrong secret"));
        assert_eq!(endpoint_refusal(b"<html>"), None);
    }
}

//! An OpenID provider, asked by the grant `client_credentials` (RFC 6749, 4.4; KIP-768).

use std::fmt::Write as _;
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::super::http::{HttpClient, Method};
use super::unix_time;
use crate::config::ClientCredentials;
use crate::error::{Error, ErrorKind, Result};
use crate::security::Secret;
use crate::security::oauth::{Token, endpoint_refusal};
use crate::time::Rng;

/// How often a provider is asked for one token.
const ATTEMPTS_MAX: u32 = 5;
/// A token without a date is replaced after this.
const LIFETIME_IF_UNKNOWN: Duration = Duration::from_secs(300);

pub(super) struct Provider {
    config: ClientCredentials,
    https: HttpClient,
    /// Locked while a token is fetched: many connections need one fetch.
    kept: Mutex<Option<Kept>>,
    rng: StdMutex<Rng>,
}

struct Kept {
    token: Token,
    /// Since the Unix epoch, as a token counts.
    replace_at: Duration,
}

impl Provider {
    pub(super) fn new(config: &ClientCredentials) -> Result<Self> {
        let https = HttpClient::new(&config.tls, config.connect_timeout, config.read_timeout)?;
        let seed = unix_time().as_nanos() as u64;
        Ok(Self { config: config.clone(), https, kept: Mutex::new(None), rng: StdMutex::new(Rng::new(seed)) })
    }

    /// A token that is good now: the kept one for most of its lifetime, or a new one.
    pub(super) async fn current(&self) -> Result<Secret> {
        let mut kept = self.kept.lock().await;
        let now = unix_time();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.replace_at > now) {
            return Ok(kept.token.text.clone());
        }
        match self.fetch().await {
            Ok(token) => {
                let lifetime = token.expires_at.map_or(LIFETIME_IF_UNKNOWN, |at| at.saturating_sub(now));
                let replace_at = now + lifetime * self.config.refresh_permille.min(1000) / 1000;
                let text = token.text.clone();
                *kept = Some(Kept { token, replace_at });
                Ok(text)
            }
            Err(error) => match kept.as_ref() {
                Some(kept) if kept.token.expires_at.is_some_and(|at| at > unix_time()) => {
                    tracing::warn!(%error, "no new OAuth token; the old one is good for now");
                    Ok(kept.token.text.clone())
                }
                _ => Err(error),
            },
        }
    }

    /// Asks until there is an answer; whoever waits sets a limit to that.
    async fn fetch(&self) -> Result<Token> {
        let mut failures = 0;
        loop {
            let error = match self.ask().await {
                Err(error) if error.is_retriable() => error,
                result => return result,
            };
            failures += 1;
            if failures >= ATTEMPTS_MAX {
                return Err(error);
            }
            let pause = {
                let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
                self.config.retry_backoff.delay(failures, &mut rng)
            };
            tracing::debug!(%error, failures, "no OAuth token");
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask(&self) -> Result<Token> {
        let failed = |kind| Error::new(kind, format!("get an OAuth token from {}", self.config.endpoint));
        let mut body = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.config.scope {
            let _ = write!(body, "&scope={}", encode(scope));
        }
        let authorization = self.authorization();
        let headers = [
            ("authorization", authorization.as_str()),
            ("accept", "application/json"),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let answer = self.https.send(Method::POST, &self.config.endpoint, &headers, body.into()).await;
        let answer = answer.map_err(|cause| failed(cause.kind()).with_cause(cause))?;
        match answer.status {
            200 => Token::from_endpoint(&answer.body, unix_time())
                .map_err(|cause| failed(cause.kind()).with_cause(cause)),
            status => {
                let reason =
                    endpoint_refusal(&answer.body).map_or_else(String::new, |text| format!(" ({text})"));
                // Too many requests, or a fault of the provider's own, may pass.
                let passes = status == 429 || status >= 500;
                let kind = if passes { ErrorKind::Network } else { ErrorKind::Authentication };
                let cause = Error::new(kind, format!("it answers HTTP status {status}{reason}"));
                let error = failed(kind).with_cause(cause);
                Err(match status {
                    300..400 => error.with_hint("redirects are not followed: set the URL that it leads to"),
                    400 | 401 | 403 => {
                        error.with_hint("check sasl.oauthbearer.client.credentials.client.id and .secret")
                    }
                    404 | 405 => error.with_hint("check sasl.oauthbearer.token.endpoint.url"),
                    _ => error,
                })
            }
        }
    }

    /// Id and secret as RFC 7617 writes them.
    fn authorization(&self) -> Zeroizing<String> {
        let id = &self.config.client_id;
        let secret = String::from_utf8_lossy(self.config.client_secret.expose());
        let pair = Zeroizing::new(if self.config.urlencode {
            format!("{}:{}", encode(id), encode(&secret))
        } else {
            format!("{id}:{secret}")
        });
        Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())))
    }
}

/// `application/x-www-form-urlencoded`.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => {
                encoded.push(char::from(byte))
            }
            b' ' => encoded.push('+'),
            other => {
                let _ = write!(encoded, "%{other:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_encoded_as_forms_have_them() {
        assert_eq!(encode("api://kafka a+b=ü~"), "api%3A%2F%2Fkafka+a%2Bb%3D%C3%BC%7E");
    }
}

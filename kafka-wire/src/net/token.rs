//! OAuth tokens: fetched when they are needed, kept while they are good.

#[cfg(feature = "tls")]
mod provider;

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::config::TokenSource;
use crate::error::{Error, ErrorKind, Result};
use crate::security::Secret;
use crate::security::oauth::Token;

/// The tokens of a client, for all its connections.
pub(super) struct Tokens(Source);

enum Source {
    Read(TokenSource),
    #[cfg(feature = "tls")]
    Fetched(Box<provider::Provider>),
}

impl Tokens {
    pub(super) fn new(source: &TokenSource) -> Result<Self> {
        match source {
            #[cfg(feature = "tls")]
            TokenSource::ClientCredentials(config) => {
                Ok(Self(Source::Fetched(Box::new(provider::Provider::new(config)?))))
            }
            #[cfg(not(feature = "tls"))]
            TokenSource::ClientCredentials(_) => Err(Error::new(
                ErrorKind::Unsupported,
                "sasl.oauthbearer.token.endpoint.url: this build is without the feature `tls`",
            )),
            source => Ok(Self(Source::Read(source.clone()))),
        }
    }

    /// A token that is good now.
    pub(super) async fn current(&self) -> Result<Secret> {
        match &self.0 {
            Source::Read(TokenSource::File(path)) => read_file(path),
            Source::Read(TokenSource::Provider(provider)) => {
                let provider = provider.clone();
                let provided = tokio::task::spawn_blocking(move || provider.provide()).await;
                let provided = provided.map_err(|_| {
                    Error::new(ErrorKind::Authentication, "get a token from the application: it panicked")
                })?;
                Ok(Token::parse(provided?.expose())?.text)
            }
            Source::Read(TokenSource::Unsecured { subject, lifetime }) => {
                Ok(Token::unsecured(subject, unix_time(), *lifetime).text)
            }
            Source::Read(TokenSource::ClientCredentials(_)) => {
                Err(Error::new(ErrorKind::Config, "get a token: there is no provider"))
            }
            #[cfg(feature = "tls")]
            Source::Fetched(provider) => provider.current().await,
        }
    }
}

fn read_file(path: &Path) -> Result<Secret> {
    let failed =
        || Error::new(ErrorKind::Authentication, format!("sasl.oauthbearer.token.file={}", path.display()));
    let text = std::fs::read(path).map_err(|cause| failed().with_cause(cause))?;
    let token = Token::parse(&text).map_err(|cause| failed().with_cause(cause))?;
    if token.expires_at.is_some_and(|at| at <= unix_time()) {
        return Err(failed().with_hint("the token in it has expired; whoever writes the file must renew it"));
    }
    Ok(token.text)
}

#[allow(clippy::disallowed_methods, reason = "the rim reads the clock")]
fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

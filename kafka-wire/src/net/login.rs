//! Credentials for a connection: at hand, or fetched.

use std::sync::Arc;

use super::token::Tokens;
use crate::config::{Sasl, Security};
use crate::error::{Error, ErrorKind, Result};
use crate::security::Exchange;

/// Makes an exchange for each connection that has to say who it is.
#[derive(Clone)]
pub(super) struct Logins {
    sasl: Option<Sasl>,
    tokens: Option<Arc<Tokens>>,
}

impl Logins {
    pub(super) fn new(security: &Security) -> Result<Self> {
        let tokens = match &security.sasl {
            Some(Sasl::OauthBearer { tokens, .. }) => Some(Arc::new(Tokens::new(tokens)?)),
            _ => None,
        };
        Ok(Self { sasl: security.sasl.clone(), tokens })
    }

    /// Credentials for one exchange.
    pub(super) async fn exchange(self) -> Result<Exchange> {
        match &self.sasl {
            Some(Sasl::Plain { username, password }) => Ok(Exchange::plain(username, password)),
            Some(Sasl::Scram { hash, username, password, is_delegation_token }) => {
                let nonce: [u8; 24] = random_bytes()?;
                Ok(Exchange::scram(*hash, username, password.clone(), *is_delegation_token, &nonce))
            }
            Some(Sasl::OauthBearer { extensions, .. }) => match &self.tokens {
                Some(tokens) => Ok(Exchange::oauth_bearer(&tokens.current().await?, extensions)),
                None => Err(Error::new(ErrorKind::Config, "get a token: there is no source of tokens")),
            },
            None => Err(Error::new(ErrorKind::Config, "say who this is: the configuration is without SASL")),
        }
    }
}

/// Bytes that nobody can guess, from the operating system.
///
/// # Errors
/// `Config`, when it gives none.
pub(super) fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|cause| {
        Error::new(ErrorKind::Config, format!("get random bytes from the operating system: {cause}"))
    })?;
    Ok(bytes)
}

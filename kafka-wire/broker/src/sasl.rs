//! How clients prove who they are: the server's side of PLAIN, SCRAM and OAUTHBEARER, message by message.

pub(crate) mod jwks;
mod jwt;
mod scram;

use bytes::Bytes;
use kafka_wire::config::Secret;
use kafka_wire::security::{Mechanism, ScramHash};

use self::jwks::Jwks;
use self::scram::Scram;
use crate::options::SaslOptions;
use crate::tokens::Tokens;
use crate::users::Users;

/// What a client is told whose token is not believed, whatever is wrong with it: once as a challenge, and then as the
/// reason why it is refused.
const INVALID_TOKEN: &str = r#"{"status":"invalid_token"}"#;

/// What a broker knows about those who may come.
#[derive(Clone, Copy)]
pub(crate) struct Directory<'a> {
    pub(crate) options: &'a SaslOptions,
    /// The public keys of who issues tokens.
    pub(crate) jwks: &'a Jwks,
    pub(crate) users: &'a Users,
    pub(crate) tokens: &'a Tokens,
    /// The key of delegation tokens.
    pub(crate) identity: u64,
    pub(crate) now_unix_ms: i64,
}

/// Who a client has proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authenticated {
    /// Type and name: `User:alice`.
    pub(crate) principal: String,
    /// When its proof expires, where it does.
    pub(crate) expires_unix_ms: Option<i64>,
    /// Whether the proof was a delegation token.
    pub(crate) by_token: bool,
}

/// What follows from a client's message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Answer this, and wait for more.
    Challenge(Bytes),
    /// Answer this: the client is known now.
    Done(Bytes, Authenticated),
    /// It is not who it says; this is all that it is told.
    Refused(String),
}

/// One run of a mechanism.
#[derive(Debug)]
pub(crate) enum Exchange {
    Plain,
    Scram(Scram),
    OauthBearer {
        /// The token was refused; the client acknowledges that before it is told (RFC 7628).
        is_refused: bool,
    },
}

impl Exchange {
    /// Begins; `nonce` was never used before.
    pub(crate) fn new(mechanism: Mechanism, nonce: [u8; 16]) -> Option<Self> {
        match mechanism {
            Mechanism::Plain => Some(Self::Plain),
            Mechanism::ScramSha256 => Some(Self::Scram(Scram::new(ScramHash::Sha256, nonce))),
            Mechanism::ScramSha512 => Some(Self::Scram(Scram::new(ScramHash::Sha512, nonce))),
            Mechanism::OauthBearer => Some(Self::OauthBearer { is_refused: false }),
            _ => None,
        }
    }

    /// Takes the client's next message.
    pub(crate) fn step(&mut self, directory: Directory<'_>, message: &[u8]) -> Step {
        match self {
            Self::Plain => plain(directory, message),
            Self::Scram(scram) => scram.step(directory, message),
            Self::OauthBearer { is_refused } => oauth_bearer(directory, message, is_refused),
        }
    }
}

fn user(name: &str) -> Authenticated {
    Authenticated { principal: format!("User:{name}"), expires_unix_ms: None, by_token: false }
}

fn plain(directory: Directory<'_>, message: &[u8]) -> Step {
    let refused = || Step::Refused("Authentication failed: Invalid username or password".to_owned());
    let fields: Vec<&[u8]> = message.split(|byte| *byte == 0).collect();
    let [authorization, name, password] = fields[..] else {
        return Step::Refused("Invalid SASL/PLAIN response: expected 3 tokens".to_owned());
    };
    let Ok(name) = std::str::from_utf8(name) else { return refused() };
    if !authorization.is_empty() && authorization != name.as_bytes() {
        return Step::Refused(
            "Authentication failed: Client requested an authorization id that is different from username"
                .to_owned(),
        );
    }
    // `Secret` compares in constant time.
    let password = Secret::from(password.to_vec());
    match directory.options.users.iter().find(|(known, _)| known == name) {
        Some((_, known)) if *known == password => Step::Done(Bytes::new(), user(name)),
        _ => refused(),
    }
}

fn oauth_bearer(directory: Directory<'_>, message: &[u8], is_refused: &mut bool) -> Step {
    if std::mem::replace(is_refused, true) {
        return Step::Refused(INVALID_TOKEN.to_owned());
    }
    let token = std::str::from_utf8(message).ok().and_then(|text| {
        let fields = text.strip_prefix("n,")?.split('\x01');
        fields.skip(1).find_map(|field| field.strip_prefix("auth=Bearer "))
    });
    let Directory { options, jwks, now_unix_ms, .. } = directory;
    match token.and_then(|token| jwt::validate(token, options, jwks, now_unix_ms)) {
        Some(claims) => {
            *is_refused = false;
            let expires_unix_ms = Some(claims.expires_unix_ms);
            Step::Done(Bytes::new(), Authenticated { expires_unix_ms, ..user(&claims.subject) })
        }
        None => Step::Challenge(Bytes::from_static(INVALID_TOKEN.as_bytes())),
    }
}

#[cfg(test)]
mod tests;

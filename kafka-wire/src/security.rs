//! SASL: how a client proves who it is, as values without sockets, clock or randomness. Layer 4.
//!
//! An [`Exchange`] is one run of a mechanism: it gives the first message, and turns each message of the broker into
//! the next one. Nonces and tokens come in from outside.

mod exchange;
pub mod oauth;
pub mod scram;
mod secret;

pub use exchange::{Exchange, Step};
pub use scram::ScramHash;
pub use secret::Secret;

/// How a client proves who it is (`sasl.mechanism`). GSSAPI (Kerberos) is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mechanism {
    /// `PLAIN`: name and password as they are (RFC 4616).
    Plain,
    /// `SCRAM-SHA-256`: both sides prove that they know the password, and neither sends it (RFC 5802, 7677).
    ScramSha256,
    /// `SCRAM-SHA-512`.
    ScramSha512,
    /// `OAUTHBEARER`: a token that somebody else has signed (RFC 7628, KIP-255).
    OauthBearer,
}

impl Mechanism {
    /// All that are supported.
    pub const ALL: [Self; 4] = [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OauthBearer];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }

    /// The mechanism with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

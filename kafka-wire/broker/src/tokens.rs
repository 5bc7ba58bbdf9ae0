//! Delegation tokens (KIP-48): a user's right, lent out for a time.
//!
//! A token's HMAC is its password: HMAC-SHA-512 of its id under a key of the cluster.

use std::collections::BTreeMap;

use kafka_wire::security::ScramHash;
use serde::{Deserialize, Serialize};

/// Tokens kept at most.
pub(crate) const TOKENS_MAX: usize = 10_000;
/// `delegation.token.expiry.time.ms`: a day.
pub(crate) const EXPIRY_MS: i64 = 24 * 60 * 60 * 1_000;
/// `delegation.token.max.lifetime.ms`: a week.
pub(crate) const LIFETIME_MAX_MS: i64 = 7 * EXPIRY_MS;

/// One token. Principals have type and name: `User:alice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) requester: String,
    pub(crate) renewers: Vec<String>,
    pub(crate) issued_unix_ms: i64,
    pub(crate) expires_unix_ms: i64,
    pub(crate) ends_unix_ms: i64,
}

impl Token {
    /// Whether `principal` may renew and expire it.
    pub(crate) fn may_be_renewed_by(&self, principal: &str) -> bool {
        self.owner == principal || self.renewers.iter().any(|renewer| renewer == principal)
    }

    pub(crate) fn is_over(&self, now_unix_ms: i64) -> bool {
        self.expires_unix_ms <= now_unix_ms
    }
}

/// All tokens of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    by_id: BTreeMap<String, Token>,
}

impl Tokens {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Token> {
        self.by_id.values()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Token> {
        self.by_id.get(id)
    }

    pub(crate) fn put(&mut self, token: Token) {
        self.by_id.insert(token.id.clone(), token);
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.by_id.remove(id);
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// The password of the token `id` in the cluster with this secret.
pub(crate) fn hmac(secret: u64, id: &str) -> Vec<u8> {
    ScramHash::Sha512.hmac(&secret.to_be_bytes(), id.as_bytes()).to_vec()
}

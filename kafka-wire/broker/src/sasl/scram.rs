//! The server's side of SCRAM (RFC 5802), with users and with delegation tokens.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD as BASE64, BASE64_URL_SAFE_NO_PAD as BASE64_URL};
use bytes::Bytes;
use kafka_wire::security::ScramHash;
use kafka_wire::security::scram::{ScramCredential, unescape_name};

use super::{Authenticated, Directory, Step, user};
use crate::tokens;
use crate::users::{ITERATIONS, ScramKey};

/// One run of SCRAM.
#[derive(Debug)]
pub(crate) struct Scram {
    hash: ScramHash,
    nonce: [u8; 16],
    sent: Option<Box<Sent>>,
}

/// What was said so far.
#[derive(Debug)]
struct Sent {
    credential: ScramCredential,
    authenticated: Authenticated,
    /// The header that the client's last message repeats in base64.
    channel: String,
    nonce: String,
    /// The client's first message without header, and the server's.
    messages: String,
}

impl Scram {
    pub(super) fn new(hash: ScramHash, nonce: [u8; 16]) -> Self {
        Self { hash, nonce, sent: None }
    }

    pub(super) fn step(&mut self, directory: Directory<'_>, message: &[u8]) -> Step {
        let text = std::str::from_utf8(message).ok();
        let step = match self.sent.take() {
            None => text.and_then(|text| self.first(directory, text)),
            Some(sent) => text.and_then(|text| self.last(*sent, text)),
        };
        step.unwrap_or_else(|| {
            let mechanism = self.name();
            Step::Refused(format!(
                "Authentication failed during authentication due to invalid credentials with SASL mechanism {mechanism}"
            ))
        })
    }

    const fn name(&self) -> &'static str {
        match self.hash {
            ScramHash::Sha256 => "SCRAM-SHA-256",
            ScramHash::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// `client-first-message` to `server-first-message`.
    fn first(&mut self, directory: Directory<'_>, text: &str) -> Option<Step> {
        // Header: binding flag and authorization id. Channels are not bound.
        let mut parts = text.splitn(3, ',');
        let (flag, authorization, bare) = (parts.next()?, parts.next()?, parts.next()?);
        let mut fields = bare.split(',');
        let name = unescape_name(fields.next()?.strip_prefix("n=")?)?;
        let client_nonce = fields.next()?.strip_prefix("r=").filter(|nonce| !nonce.is_empty())?;
        let is_token = fields.any(|field| field == "tokenauth=true");
        if !matches!(flag, "n" | "y") || !(authorization.is_empty() || authorization == format!("a={name}")) {
            return None;
        }
        let (credential, authenticated) = self.find(directory, &name, is_token)?;
        let nonce = format!("{client_nonce}{}", BASE64_URL.encode(self.nonce));
        let salt = BASE64.encode(&credential.salt);
        let answer = format!("r={nonce},s={salt},i={}", credential.iterations);
        self.sent = Some(Box::new(Sent {
            credential,
            authenticated,
            channel: format!("{flag},{authorization},"),
            nonce,
            messages: format!("{bare},{answer}"),
        }));
        Some(Step::Challenge(Bytes::from(answer)))
    }

    fn find(
        &self,
        directory: Directory<'_>,
        name: &str,
        is_token: bool,
    ) -> Option<(ScramCredential, Authenticated)> {
        if !is_token {
            let mechanism = if self.hash == ScramHash::Sha256 { 1 } else { 2 };
            let key = ScramKey { user: name.to_owned(), mechanism };
            return Some((directory.users.scram(&key)?.to_credential(), user(name)));
        }
        let token = directory.tokens.get(name).filter(|token| !token.is_over(directory.now_unix_ms))?;
        let password = BASE64.encode(tokens::hmac(directory.identity, &token.id));
        let iterations = ITERATIONS.start().unsigned_abs();
        let credential =
            ScramCredential::new(self.hash, password.as_bytes(), self.nonce.to_vec(), iterations);
        let authenticated = Authenticated {
            principal: token.owner.clone(),
            expires_unix_ms: Some(token.expires_unix_ms),
            by_token: true,
        };
        Some((credential, authenticated))
    }

    /// `client-final-message` to `server-final-message`.
    fn last(&self, sent: Sent, text: &str) -> Option<Step> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut fields = without_proof.split(',');
        let channel = BASE64.decode(fields.next()?.strip_prefix("c=")?).ok()?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        if channel != sent.channel.as_bytes() || nonce != sent.nonce {
            return None;
        }
        let message = format!("{},{without_proof}", sent.messages);
        let proof = BASE64.decode(proof).ok()?;
        if !sent.credential.accepts(self.hash, message.as_bytes(), &proof) {
            return None;
        }
        let signature = sent.credential.server_signature(self.hash, message.as_bytes());
        let answer = format!("v={}", BASE64.encode(&*signature));
        Some(Step::Done(Bytes::from(answer), sent.authenticated))
    }
}

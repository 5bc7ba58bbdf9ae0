//! SASL on a connection: SaslHandshake names the mechanism, SaslAuthenticate carries its messages (KIP-152).

use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::messages::{ApiKey, SaslAuthenticateRequest, SaslHandshakeRequest, StrBytes};
use crate::protocol::request::{Plain, Request, Response};
use crate::security::{Exchange, Step};

/// One run of a mechanism over a connection. No mechanism has more than two messages of the broker: an exchange that
/// is fed more refuses them.
#[derive(Debug)]
pub(super) struct Authentication {
    exchange: Exchange,
}

/// What comes after an answer.
pub(super) enum Next {
    Ask(Box<dyn Request>),
    /// The broker is convinced, for this long if it says so (KIP-368).
    Done(Option<Duration>),
}

impl Authentication {
    pub(super) fn new(exchange: Exchange) -> Self {
        Self { exchange }
    }

    /// The first request. Version 0 of it would be followed by messages without headers, as before Kafka 1.0.
    pub(super) fn handshake(&self) -> Plain<SaslHandshakeRequest> {
        let mechanism = StrBytes::from_static_str(self.exchange.mechanism().name());
        Plain::in_versions(SaslHandshakeRequest::default().with_mechanism(mechanism), 1..=1)
    }

    pub(super) fn handle_response(&mut self, response: Response) -> Result<Next> {
        if response.api == ApiKey::SaslHandshake {
            self.check_handshake(response)?;
            return Ok(ask(self.exchange.first()));
        }
        let answer = response.decode::<SaslAuthenticateRequest>()?;
        if let Err(code) = ErrorCode::check(answer.error_code) {
            return Err(self.refused(code, answer.error_message.as_deref()));
        }
        match self.exchange.next(&answer.auth_bytes)? {
            Step::Send(message) => Ok(ask(message)),
            Step::Done => {
                let lifetime = u64::try_from(answer.session_lifetime_ms).ok().filter(|millis| *millis > 0);
                Ok(Next::Done(lifetime.map(Duration::from_millis)))
            }
        }
    }

    fn check_handshake(&self, response: Response) -> Result<()> {
        let answer = response.decode::<SaslHandshakeRequest>()?;
        let Err(code) = ErrorCode::check(answer.error_code) else { return Ok(()) };
        let error = Error::new(ErrorKind::Authentication, self.attempted());
        let error = error.with_cause(Error::broker(code, "the broker refuses the mechanism"));
        Err(match code {
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                let offered: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).take(16).collect();
                error.with_hint(format!(
                    "set sasl.mechanism to one that this listener has: {}",
                    offered.join(", ")
                ))
            }
            ErrorCode::ILLEGAL_SASL_STATE => {
                error.with_hint("this listener may be without SASL: set security.protocol=PLAINTEXT or SSL")
            }
            _ => error,
        })
    }

    fn refused(&self, code: ErrorCode, message: Option<&str>) -> Error {
        let text = match message {
            Some(message) => {
                let message: String = message.chars().filter(|c| !c.is_control()).take(300).collect();
                format!("{}: the broker says {message:?}", self.attempted())
            }
            None => self.attempted(),
        };
        // A broker that cannot answer now (SASL servers that ask elsewhere) may answer later.
        if code.is_retriable() {
            return Error::broker(code, text);
        }
        Error::new(ErrorKind::Authentication, text).with_hint(self.exchange.hint())
    }

    fn attempted(&self) -> String {
        format!("authenticate by {}", self.exchange.mechanism().name())
    }
}

fn ask(message: Bytes) -> Next {
    Next::Ask(Box::new(Plain::new(SaslAuthenticateRequest::default().with_auth_bytes(message))))
}

//! Which requests a connection may send before it has proved who it is, and after how long it has to again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::ApiKey;
use kafka_wire::security::Mechanism;

use super::{Cluster, ConnectionId, Now};
use crate::api::Context;
use crate::sasl::{Authenticated, Directory, Exchange, Step};

/// Bytes of a request before its client is known (`sasl.server.max.receive.size`).
const UNKNOWN_REQUEST_BYTES_MAX: usize = 512 * 1024;

/// How far a connection of a cluster with SASL has proved who it is.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// A run of a mechanism that is under way.
    exchange: Option<(Mechanism, Exchange)>,
    known: Option<Known>,
}

/// A client that has proved who it is.
#[derive(Debug)]
struct Known {
    mechanism: Mechanism,
    by_token: bool,
    /// From then on only authentication is served (KIP-368).
    expires: Option<Instant>,
}

impl Session {
    pub(super) fn may_ask_for_tokens(&self) -> bool {
        self.known.as_ref().is_some_and(|known| !known.by_token)
    }

    /// Whether a request may be served now.
    fn allows(&self, now: Instant, api: ApiKey) -> bool {
        match (&self.known, &self.exchange) {
            (_, Some(_)) => {
                matches!(api, ApiKey::SaslAuthenticate | ApiKey::SaslHandshake | ApiKey::ApiVersions)
            }
            (None, None) => matches!(api, ApiKey::SaslHandshake | ApiKey::ApiVersions),
            (Some(_), None) if api == ApiKey::SaslHandshake => true,
            (Some(known), None) => known.expires.is_none_or(|expires| now < expires),
        }
    }
}

/// Why a client is not who it says: the code, and what it is told.
type Refusal = (ErrorCode, String);

impl Cluster {
    /// The state that a new connection begins in.
    pub(super) fn new_session(&self) -> Option<Session> {
        self.options.sasl.as_ref().map(|_| Session::default())
    }

    /// Whether a request may be served on this connection now; if not, the connection is to be closed.
    pub(super) fn may_ask(&self, now: Now, connection: ConnectionId, api: ApiKey) -> bool {
        let session = self.connections.get(&connection).and_then(|it| it.session.as_ref());
        session.is_none_or(|session| session.allows(now.instant, api))
    }

    /// The largest request that a connection may send now, in bytes.
    pub fn request_bytes_max(&self, connection: ConnectionId) -> usize {
        let session = self.connections.get(&connection).and_then(|it| it.session.as_ref());
        if session.is_none_or(|session| session.known.is_some()) {
            self.options.request_bytes_max
        } else {
            self.options.request_bytes_max.min(UNKNOWN_REQUEST_BYTES_MAX)
        }
    }

    /// A client wants to prove who it is by this mechanism, which is offered.
    pub(crate) fn begin_authentication(
        &mut self,
        context: &Context,
        mechanism: Mechanism,
    ) -> Result<(), ErrorCode> {
        let nonce = self.unique_bytes();
        let session = self.session(context).ok_or(ErrorCode::ILLEGAL_SASL_STATE)?;
        // Who is known already may renew that, but not become somebody else by another way.
        if session.known.as_ref().is_some_and(|known| known.mechanism != mechanism) {
            return Err(ErrorCode::ILLEGAL_SASL_STATE);
        }
        let exchange = Exchange::new(mechanism, nonce).ok_or(ErrorCode::UNSUPPORTED_SASL_MECHANISM)?;
        session.exchange = Some((mechanism, exchange));
        Ok(())
    }

    fn session(&mut self, context: &Context) -> Option<&mut Session> {
        self.connections.get_mut(&context.connection)?.session.as_mut()
    }

    /// A client's next message; what to answer, and for how long it is known then.
    ///
    /// # Errors
    /// When it is not who it says.
    pub(crate) fn authenticate(
        &mut self,
        context: &Context,
        message: &[u8],
    ) -> Result<(Bytes, Option<Duration>), Refusal> {
        let illegal = || (ErrorCode::ILLEGAL_SASL_STATE, ErrorCode::ILLEGAL_SASL_STATE.message().to_owned());
        let (mechanism, mut exchange) =
            self.session(context).and_then(|session| session.exchange.take()).ok_or_else(illegal)?;
        let directory = Directory {
            options: self.options.sasl.as_ref().ok_or_else(illegal)?,
            jwks: &self.jwks,
            users: &self.users,
            tokens: &self.tokens,
            identity: self.identity(),
            now_unix_ms: context.now.unix_ms,
        };
        match exchange.step(directory, message) {
            Step::Challenge(answer) => {
                if let Some(session) = self.session(context) {
                    session.exchange = Some((mechanism, exchange));
                }
                Ok((answer, None))
            }
            Step::Done(answer, who) => Ok((answer, self.recognise(context, mechanism, &who)?)),
            Step::Refused(why) => Err((ErrorCode::SASL_AUTHENTICATION_FAILED, why)),
        }
    }

    /// From now on the connection is this principal's; for how long.
    fn recognise(
        &mut self,
        context: &Context,
        mechanism: Mechanism,
        who: &Authenticated,
    ) -> Result<Option<Duration>, Refusal> {
        let until_expiry = who
            .expires_unix_ms
            .map(|expires| Duration::from_millis(u64::try_from(expires - context.now.unix_ms).unwrap_or(0)));
        let longest = self.options.sasl.as_ref().and_then(|sasl| sasl.session_lifetime);
        let lifetime = [until_expiry, longest].into_iter().flatten().min();
        let Some(connection) = self.connections.get_mut(&context.connection) else { return Ok(lifetime) };
        let Some(session) = connection.session.as_mut() else { return Ok(lifetime) };
        if session.known.is_some() && *connection.principal != *who.principal {
            let why = format!(
                "Cannot change principals during re-authentication from {} to {}",
                connection.principal, who.principal
            );
            return Err((ErrorCode::SASL_AUTHENTICATION_FAILED, why));
        }
        connection.principal = Arc::from(who.principal.as_str());
        let expires = lifetime.map(|lifetime| context.now.instant + lifetime);
        session.known = Some(Known { mechanism, by_token: who.by_token, expires });
        Ok(lifetime)
    }

    /// Closes the connection of a request behind its answer.
    pub(crate) fn close_after_answer(&mut self, context: &Context) {
        if let Some(connection) = self.connections.get_mut(&context.connection) {
            connection.closes = true;
        }
    }
}

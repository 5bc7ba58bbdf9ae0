//! A client's connection: to which node, from where, and who it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::protocol::guard;
use kafka_wire::protocol::header::ReceivedRequest;
use kafka_wire::protocol::messages::ApiKey;

use super::authentication::Session;
use super::{Cluster, ConnectionId, Now};
use crate::api::Context;
use crate::faults::Injected;
use crate::quotas::{REQUEST_PERCENT, REQUEST_PERCENTAGE};

/// Who has not authenticated.
const ANONYMOUS: &str = "User:ANONYMOUS";

/// The other end of a connection, as the transport knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address; `127.0.0.1` by default.
    pub host: String,
    /// Who it is by its certificate, such as `User:CN=alice`; nobody by default.
    pub principal: Option<String>,
}

impl Default for Peer {
    fn default() -> Self {
        Self { host: "127.0.0.1".to_owned(), principal: None }
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) node: i32,
    host: Arc<str>,
    pub(super) principal: Arc<str>,
    /// How far it has proved who it is, where it has to.
    pub(super) session: Option<Session>,
    /// Whether it counts against its address's quota already: it does with its first request.
    is_counted: bool,
    /// To be closed behind the answer to the present request.
    pub(super) closes: bool,
    /// The pause that the answer to the present request asks for.
    throttle: Duration,
    /// Until then no request is handled (KIP-219).
    muted_until: Option<Instant>,
    /// Name and version of the client's software, where it has said so.
    pub(super) software: (String, String),
}

impl Connection {
    pub(super) fn new(node: i32, peer: Peer, session: Option<Session>) -> Self {
        Self {
            node,
            host: Arc::from(peer.host),
            principal: peer.principal.map_or_else(|| Arc::from(ANONYMOUS), Arc::from),
            session,
            is_counted: false,
            closes: false,
            throttle: Duration::ZERO,
            muted_until: None,
            software: Default::default(),
        }
    }
}

impl Cluster {
    /// Who asks what on `connection`, which is there.
    pub(super) fn context(
        &self,
        now: Now,
        connection: ConnectionId,
        request: &ReceivedRequest,
        injected: Option<Injected>,
    ) -> Option<Context> {
        let from = self.connections.get(&connection)?;
        Some(Context {
            now,
            node: from.node,
            connection,
            client_id: request.client_id.clone(),
            principal: Arc::clone(&from.principal),
            host: Arc::clone(&from.host),
            may_ask_for_tokens: from.session.as_ref().is_some_and(Session::may_ask_for_tokens),
            authorizer: Arc::clone(&self.authorizer),
            api: request.api,
            version: request.version,
            correlation_id: request.correlation_id,
            corrupts_records: false,
            injected,
        })
    }

    /// Counts what a request costs against the quota of who asked: beyond it, the answer asks for a pause.
    pub(crate) fn charge(&mut self, context: &Context, quota: &'static str, amount: f64) {
        let (user, client_id) = (context.user(), context.client_id.as_deref().unwrap_or_default());
        let pause = self.quotas.charge(context.now.instant, quota, user, client_id, amount);
        self.throttle(context, pause);
    }

    /// Counts the request itself; authenticating is free.
    pub(super) fn charge_request(&mut self, context: &Context) {
        if !matches!(context.api, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate) {
            self.charge(context, REQUEST_PERCENTAGE, REQUEST_PERCENT);
        }
    }

    /// Lets the answer to a request ask for a pause of at least this, and pauses the connection.
    pub(crate) fn throttle(&mut self, context: &Context, pause: Duration) {
        if let Some(connection) = self.connections.get_mut(&context.connection) {
            connection.throttle = connection.throttle.max(pause);
        }
    }

    /// The pause that the answer to a request asks for by now.
    pub(crate) fn pause_of(&self, context: &Context) -> Duration {
        self.connections.get(&context.connection).map_or(Duration::ZERO, |connection| connection.throttle)
    }

    /// Counts a connection, once; when it is closed if there are too many from its address.
    pub(super) fn refused_until(&mut self, now: Now, connection: ConnectionId) -> Option<Instant> {
        let connection = self.connections.get_mut(&connection)?;
        if std::mem::replace(&mut connection.is_counted, true) {
            return None;
        }
        let pause = self.quotas.connect(now.instant, &connection.host)?;
        tracing::info!(host = &*connection.host, "too many connections: the newest waits, and is closed");
        Some(now.instant + pause)
    }

    /// Until when a connection handles no request.
    pub(super) fn muted_until(&self, now: Now, connection: ConnectionId) -> Option<Instant> {
        self.connections.get(&connection)?.muted_until.filter(|until| *until > now.instant)
    }

    /// Writes the pause that was charged into an answer, and begins it: the answer goes out at once.
    pub(super) fn begin_pause(&mut self, now: Now, context: &Context, frame: &mut [Bytes]) {
        let Some(connection) = self.connections.get_mut(&context.connection) else { return };
        let pause = std::mem::take(&mut connection.throttle);
        if pause.is_zero() {
            return;
        }
        connection.muted_until = now.instant.checked_add(pause);
        if guard::begins_with_throttle_time(context.api, context.version) {
            let tags = usize::from(context.api.response_header_version(context.version) >= 1);
            overwrite(frame, LENGTH_AND_ID_BYTES + tags, &millis(pause).to_be_bytes());
        }
    }
}

/// What a frame begins with: its length and the correlation id.
const LENGTH_AND_ID_BYTES: usize = 8;

/// A pause as answers tell it.
pub(crate) fn millis(pause: Duration) -> i32 {
    i32::try_from(pause.as_millis()).unwrap_or(i32::MAX)
}

/// Changes a byte in the middle of an answer's body.
pub(super) fn corrupt(frame: &mut [Bytes]) {
    let bytes: usize = frame.iter().map(Bytes::len).sum();
    let at = LENGTH_AND_ID_BYTES + bytes.saturating_sub(LENGTH_AND_ID_BYTES) / 2;
    let mut left = at;
    let there = frame.iter().find_map(|piece| match piece.get(left) {
        Some(byte) => Some(*byte),
        None => {
            left -= piece.len();
            None
        }
    });
    if let Some(byte) = there {
        overwrite(frame, at, &[!byte]);
    }
}

/// Puts other bytes into a frame that comes in pieces.
pub(super) fn overwrite(frame: &mut [Bytes], mut at: usize, bytes: &[u8]) {
    let mut bytes = bytes.iter().peekable();
    for piece in frame {
        if bytes.peek().is_none() {
            return;
        }
        if at >= piece.len() {
            at -= piece.len();
            continue;
        }
        let mut copy = BytesMut::from(&piece[..]);
        for (place, byte) in copy[at..].iter_mut().zip(bytes.by_ref()) {
            *place = *byte;
        }
        at = 0;
        *piece = copy.freeze();
    }
}

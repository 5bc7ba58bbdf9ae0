//! A client's connection: to which node, from where, and who it is.

use std::sync::Arc;

use kafka_wire::protocol::header::ReceivedRequest;

use super::{Cluster, ConnectionId, Now};
use crate::api::Context;
use crate::faults::Injected;

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
    principal: Arc<str>,
}

impl Connection {
    pub(super) fn new(node: i32, peer: Peer) -> Self {
        let principal = peer.principal.map_or_else(|| Arc::from(ANONYMOUS), Arc::from);
        Self { node, host: Arc::from(peer.host), principal }
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
            authorizer: Arc::clone(&self.authorizer),
            api: request.api,
            version: request.version,
            correlation_id: request.correlation_id,
            injected,
        })
    }
}

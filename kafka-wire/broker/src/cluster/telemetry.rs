//! The cluster's part in clients' figures (KIP-714): who the clients are, and what they have pushed.

use bytes::Bytes;
use kafka_wire::Uuid;

use super::{Cluster, ConnectionId};

/// Pushes that are kept, the newest ones.
const PUSHES_MAX: usize = 1_000;

/// Figures that a client has pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushedMetrics {
    /// Its `client.id`.
    pub client_id: String,
    /// Its id for this purpose, as `client_instance_id` of the clients gives it.
    pub client_instance_id: Uuid,
    /// Whether the client has ended with it.
    pub is_last: bool,
    /// The figures: a `MetricsData` of OpenTelemetry's protocol (OTLP), as Protobuf.
    pub payload: Bytes,
}

impl Cluster {
    /// What clients have pushed, the oldest first; the newest thousand are kept. They push where
    /// [`Options::telemetry`](crate::Options::telemetry) is set, what is subscribed by resources of the type
    /// `client-metrics` (`IncrementalAlterConfigs`).
    ///
    /// ```
    /// # use tidewater_broker::{EmbeddedBroker, Options};
    /// let broker = EmbeddedBroker::start(Options { telemetry: true, ..Options::default() })?;
    /// let pushed = broker.control(|cluster, _| cluster.pushed_metrics());
    /// assert!(pushed.is_empty(), "nothing is subscribed");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pushed_metrics(&self) -> Vec<PushedMetrics> {
        self.metrics.iter().cloned().collect()
    }

    pub(crate) fn metrics(&self) -> impl Iterator<Item = &PushedMetrics> {
        self.metrics.iter()
    }

    pub(crate) fn keep_metrics(&mut self, pushed: PushedMetrics) {
        if self.metrics.len() == PUSHES_MAX {
            self.metrics.pop_front();
        }
        self.metrics.push_back(pushed);
    }

    /// Notes what a client says it is (`ApiVersions` from version 3).
    pub(crate) fn note_software(&mut self, connection: ConnectionId, name: &str, version: &str) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.software = (name.to_owned(), version.to_owned());
        }
    }

    /// Name and version of a client's software; empty where it did not say.
    pub(crate) fn software_of(&self, connection: ConnectionId) -> (&str, &str) {
        let found = self.connections.get(&connection);
        found.map_or(("", ""), |it| (it.software.0.as_str(), it.software.1.as_str()))
    }
}

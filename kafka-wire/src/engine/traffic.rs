//! What connections have carried, in all and by broker.

use std::collections::BTreeMap;
use std::time::Instant;

use super::pool::Endpoint;
use super::{Core, Role};
use crate::connection::Traffic;
use crate::metrics::{Groups, Report, Sink, ThrottleTime};

/// What the connections that are gone have carried, and how many there have been.
#[derive(Debug, Default)]
pub(super) struct Past {
    pub(super) dialled: u64,
    pub(super) ended: u64,
    traffic: BTreeMap<Endpoint, Traffic>,
}

impl Past {
    pub(super) fn add(&mut self, endpoint: Endpoint, traffic: &Traffic) {
        self.ended += 1;
        self.traffic.entry(endpoint).or_default().merge(traffic);
    }
}

impl Core {
    /// What connections have carried.
    pub(super) fn measure<R: Role>(&self, now: Instant, sink: &mut Sink<'_>) {
        let Groups { client, node } = R::METRIC_GROUPS;
        let pool = self.pool();
        let mut by_node = pool.past.traffic.clone();
        let links = pool.slots.iter().filter_map(|(key, slot)| Some((key.endpoint, slot.link.as_ref()?)));
        let mut open = 0u32;
        for (endpoint, link) in links {
            open += 1;
            by_node.entry(endpoint).or_default().merge(link.connection.traffic());
        }
        let mut all = Traffic::default();
        for (endpoint, traffic) in &by_node {
            all.merge(traffic);
            if let Endpoint::Broker(broker) = endpoint {
                let id = format!("node-{broker}");
                report(&mut Report::new(node, &[("node-id", &id)], sink), traffic, now);
            }
        }
        let mut client = Report::new(client, &[], sink);
        report(&mut client, &all, now);
        client.gauge("connection-count", f64::from(open));
        client.total("connection-creation-total", pool.past.dialled);
        client.total("connection-close-total", pool.past.ended);
        if let Some(ThrottleTime { group, average, max }) = R::THROTTLE_TIME {
            Report::new(group, &[], sink).recent(average, max, &self.throttle_time, now);
        }
    }
}

fn report(into: &mut Report<'_, '_>, traffic: &Traffic, now: Instant) {
    into.total("request-total", traffic.requests);
    into.total("response-total", traffic.responses);
    into.total("outgoing-byte-total", traffic.bytes_out);
    into.total("incoming-byte-total", traffic.bytes_in);
    into.recent("request-latency-avg", "request-latency-max", &traffic.latency, now);
}

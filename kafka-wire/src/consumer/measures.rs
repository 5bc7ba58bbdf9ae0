//! What a consumer counts, per batch.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use crate::metrics::{Report, Sink};

const GROUP: &str = "consumer-fetch-manager-metrics";
/// Of more partitions, only the largest lag is told: each is a series of its own wherever figures are kept.
pub(super) const LAGS_MAX: usize = 1000;

#[derive(Clone, Copy, Debug, Default)]
struct Consumed {
    records: u64,
    bytes: u64,
}

/// What has been handed out, by topic.
#[derive(Debug)]
pub(super) struct Measures {
    topics: HashMap<Arc<str>, Consumed>,
}

impl Measures {
    pub(super) fn new() -> Self {
        Self { topics: HashMap::new() }
    }

    /// A batch was handed out.
    pub(super) fn consumed(&mut self, topic: &Arc<str>, records: u64, bytes: u64) {
        let consumed = match self.topics.get_mut(topic) {
            Some(consumed) => consumed,
            None => self.topics.entry(Arc::clone(topic)).or_default(),
        };
        consumed.records += records;
        consumed.bytes += bytes;
    }

    pub(super) fn report(&self, sink: &mut Sink<'_>) {
        let mut all = Consumed::default();
        for (topic, consumed) in &self.topics {
            all.records += consumed.records;
            all.bytes += consumed.bytes;
            report(&mut Report::new(GROUP, &[("topic", topic)], sink), *consumed);
        }
        report(&mut Report::new(GROUP, &[], sink), all);
    }
}

fn report(into: &mut Report<'_, '_>, consumed: Consumed) {
    into.total("records-consumed-total", consumed.records);
    into.total("bytes-consumed-total", consumed.bytes);
}

/// How far the application is behind the ends of its partitions, in records.
pub(super) fn report_lags<'a>(lags: impl Iterator<Item = (&'a str, i32, i64)> + Clone, sink: &mut Sink<'_>) {
    if let Some(max) = lags.clone().map(|(_, _, lag)| lag).max() {
        Report::new(GROUP, &[], sink).gauge("records-lag-max", max as f64);
    }
    if lags.clone().count() <= LAGS_MAX {
        for (topic, partition, lag) in lags {
            let partition = partition.to_string();
            let labels = [("topic", topic), ("partition", partition.as_str())];
            Report::new(GROUP, &labels, sink).gauge("records-lag", lag as f64);
        }
    }
}

//! What a client counts about itself, under the names that users of Java's clients know. Layer 1.
//!
//! Machines count into plain fields, per batch and per request; who wants the figures asks for all of them at
//! once. With the feature `metrics` they are published once a second through the facade of the crate
//! `metrics`, so that any exporter (Prometheus, `StatsD` …) shows them: Java's
//! `producer-metrics:record-send-total` is `kafka.producer-metrics.record-send-total`, with Java's tags as labels
//! (`client-id`, `node-id`, `topic`, `partition`). For each `-total` there is a `-rate` per second. What a
//! client reads in all is `bytes-consumed-rate` of `consumer-fetch-manager-metrics`: R = N·S of its N partitions at
//! S bytes a second each; what it writes, W = M·T, is `byte-rate` of `producer-metrics`.
//!
//! Left out are Java's figures of its own threads and buffers that this client does not have.

use std::time::{Duration, Instant};

/// How long `-avg` and `-max` look back, at least: Java's `metrics.sample.window.ms`.
const WINDOW: Duration = Duration::from_secs(30);

/// One figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric<'a> {
    /// Java's group, as `producer-metrics`.
    pub group: &'static str,
    /// Java's name, as `record-send-total`.
    pub name: &'static str,
    /// Java's tags without `client-id`.
    pub labels: &'a [(&'static str, &'a str)],
    /// The figure.
    pub value: Value,
}

/// A figure's kind and value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// It only grows.
    Total(u64),
    /// It goes up and down.
    Gauge(f64),
}

/// Where figures go.
pub type Sink<'a> = dyn FnMut(Metric<'_>) + 'a;

/// The groups under which Java's clients of one kind have the figures of their connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// For all connections.
    pub client: &'static str,
    /// For those to one broker.
    pub node: &'static str,
}

/// Where Java's clients of one kind tell how long brokers ask to be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleTime {
    /// The group.
    pub group: &'static str,
    /// The average's name.
    pub average: &'static str,
    /// The largest one's name.
    pub max: &'static str,
}

/// Gives the figures of one group to a sink.
pub(crate) struct Report<'a, 'b> {
    group: &'static str,
    labels: &'a [(&'static str, &'a str)],
    sink: &'a mut Sink<'b>,
}

impl<'a, 'b> Report<'a, 'b> {
    pub(crate) fn new(
        group: &'static str,
        labels: &'a [(&'static str, &'a str)],
        sink: &'a mut Sink<'b>,
    ) -> Self {
        Self { group, labels, sink }
    }

    pub(crate) fn total(&mut self, name: &'static str, value: u64) {
        self.give(name, Value::Total(value));
    }

    pub(crate) fn gauge(&mut self, name: &'static str, value: f64) {
        self.give(name, Value::Gauge(value));
    }

    /// The average and the largest of late, when there was any.
    pub(crate) fn recent(&mut self, average: &'static str, max: &'static str, recent: &Recent, now: Instant) {
        if let Some((mean, largest)) = recent.look(now) {
            self.gauge(average, mean);
            self.gauge(max, largest);
        }
    }

    fn give(&mut self, name: &'static str, value: Value) {
        (self.sink)(Metric { group: self.group, name, labels: self.labels, value });
    }
}

/// Average and maximum over the last 30 to 60 seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    current: Option<Samples>,
    previous: Option<Samples>,
}

#[derive(Clone, Copy, Debug)]
struct Samples {
    since: Instant,
    count: u64,
    sum: f64,
    max: f64,
}

impl Recent {
    pub(crate) fn record(&mut self, now: Instant, value: f64) {
        if let Some(full) =
            self.current.take_if(|samples| now.saturating_duration_since(samples.since) >= WINDOW)
        {
            self.previous = Some(full);
        }
        let samples =
            self.current.get_or_insert(Samples { since: now, count: 0, sum: 0.0, max: f64::NEG_INFINITY });
        samples.count += 1;
        samples.sum += value;
        samples.max = samples.max.max(value);
    }

    /// Average and maximum, when something was recorded of late.
    fn look(&self, now: Instant) -> Option<(f64, f64)> {
        let fresh = |samples: &&Samples| now.saturating_duration_since(samples.since) < 2 * WINDOW;
        let all = || [&self.current, &self.previous].into_iter().flatten().filter(fresh);
        let count: u64 = all().map(|samples| samples.count).sum();
        let sum: f64 = all().map(|samples| samples.sum).sum();
        let max = all().map(|samples| samples.max).reduce(f64::max)?;
        Some((sum / count as f64, max))
    }

    /// Takes in what another has recorded.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.current, &other.current), (&mut self.previous, &other.previous)] {
            match (&mut *mine, theirs) {
                (Some(mine), Some(theirs)) => {
                    mine.since = mine.since.max(theirs.since);
                    mine.count += theirs.count;
                    mine.sum += theirs.sum;
                    mine.max = mine.max.max(theirs.max);
                }
                (None, Some(theirs)) => *mine = Some(*theirs),
                _ => {}
            }
        }
    }
}

/// In milliseconds, as Java has its times.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_of_late_and_forgets() {
        #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut recent = Recent::default();
        assert_eq!(recent.look(start), None);
        recent.record(at(0), 10.0);
        recent.record(at(29), 20.0);
        assert_eq!(recent.look(at(29)), Some((15.0, 20.0)));
        recent.record(at(31), 3.0);
        assert_eq!(recent.look(at(31)), Some((11.0, 20.0)));
        recent.record(at(62), 5.0);
        assert_eq!(recent.look(at(62)), Some((4.0, 5.0)));
        assert_eq!(recent.look(at(200)), None);
    }
}

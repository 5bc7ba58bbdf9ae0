//! Publishes a client's figures through the `metrics` facade.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Label};

use crate::metrics::{Metric, Value};

/// How often, while there is anything new.
const INTERVAL: Duration = Duration::from_secs(1);

type Key = (&'static str, &'static str, Vec<(&'static str, String)>);

enum Published {
    Total { total: Counter, rate: Gauge, value: u64 },
    Gauge(Gauge),
}

/// What has been published, and when to do so again.
pub(super) struct Publisher {
    client_id: String,
    figures: HashMap<Key, Published>,
    last: Option<Instant>,
    next: Option<Instant>,
}

impl Publisher {
    pub(super) fn new(client_id: &str) -> Self {
        Self { client_id: client_id.to_owned(), figures: HashMap::new(), last: None, next: None }
    }

    /// Something has happened that may change the figures.
    pub(super) fn touch(&mut self, now: impl FnOnce() -> Instant) {
        if self.next.is_none() {
            self.next = Some(now() + INTERVAL);
        }
    }

    /// When to publish.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Publishes what `measure` gives. A rate falls to zero a second after the last event: hence once more.
    pub(super) fn publish(&mut self, now: Instant, measure: impl FnOnce(&mut dyn FnMut(Metric<'_>))) {
        let seconds = self.last.map(|last| now.saturating_duration_since(last).as_secs_f64());
        let mut is_moving = false;
        let (figures, client_id) = (&mut self.figures, self.client_id.as_str());
        measure(&mut |metric| {
            let labels: Vec<(&str, String)> =
                metric.labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            let key = (metric.group, metric.name, labels);
            let published = figures.entry(key).or_insert_with(|| Published::new(&metric, client_id));
            is_moving |= published.update(metric.value, seconds);
        });
        self.last = Some(now);
        self.next = is_moving.then(|| now + INTERVAL);
    }
}

impl Published {
    fn new(metric: &Metric<'_>, client_id: &str) -> Self {
        let name = format!("kafka.{}.{}", metric.group, metric.name);
        let own = metric.labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned()));
        let labels: Vec<Label> =
            std::iter::once(Label::new("client-id", client_id.to_owned())).chain(own).collect();
        match metric.value {
            Value::Gauge(_) => Self::Gauge(metrics::gauge!(name, labels)),
            Value::Total(_) => {
                let rate = format!("{}-rate", name.strip_suffix("-total").unwrap_or(&name));
                Self::Total {
                    rate: metrics::gauge!(rate, labels.clone()),
                    total: metrics::counter!(name, labels),
                    value: 0,
                }
            }
        }
    }

    /// Whether it has changed.
    fn update(&mut self, new: Value, seconds: Option<f64>) -> bool {
        match (self, new) {
            (Self::Total { total, rate, value }, Value::Total(new)) => {
                let grown = new.saturating_sub(*value);
                total.absolute(new);
                if let Some(seconds) = seconds.filter(|seconds| *seconds > 0.0) {
                    rate.set(grown as f64 / seconds);
                }
                *value = new;
                grown > 0
            }
            (Self::Gauge(gauge), Value::Gauge(new)) => {
                gauge.set(new);
                false
            }
            _ => false,
        }
    }
}

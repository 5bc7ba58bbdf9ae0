//! Figures for the cluster's operators (KIP-714): a broker says which it wants and how often, and gets them.
//!
//! It goes along with what the client does anyway: nothing is dialled for it, and brokers without a receiver for
//! such figures do not offer the call.

mod otlp;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt as _};

use self::otlp::{Kind, Point};
use crate::error::{ErrorCode, Result};
use crate::metrics::{Metric, Sink, Value};
use crate::protocol::messages::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse, PushTelemetryRequest,
};
use crate::protocol::request::{Plain, Request, Response};
use crate::record::Compression;
use crate::time::Rng;
use crate::types::Codec;

/// After a refusal that says nothing about when to come again; Java's, too.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(300);
/// Brokers ask for at least 100 ms (`interval.ms`); a broken one shall not keep the client busy.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How long the last figures may take: an application that closes does not wait for them longer.
const LAST_PUSH_MAX: Duration = Duration::from_secs(1);

/// By name and labels.
type Totals = HashMap<(String, Vec<(String, String)>), u64>;

/// See the module.
#[derive(Debug)]
pub(super) struct Telemetry {
    instance: uuid::Uuid,
    subscription: Option<Subscription>,
    state: State,
    /// What was told last of each figure that only grows.
    told: Totals,
    told_at_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Asks for the subscription, when it is time and somebody can be asked.
    Ask {
        at: Instant,
    },
    Asked,
    Push {
        at: Instant,
    },
    Pushed,
    /// The last figures are on their way.
    Ending {
        until: Instant,
    },
    Off,
}

#[derive(Debug)]
struct Subscription {
    id: i32,
    interval: Duration,
    codec: Codec,
    max_bytes: usize,
    is_delta: bool,
    prefixes: Vec<String>,
}

impl Telemetry {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            instance: uuid::Uuid::nil(),
            subscription: None,
            state: State::Ask { at: now },
            told: HashMap::new(),
            told_at_ns: 0,
        }
    }

    /// What to ask now; the caller has somebody to ask.
    pub(super) fn ask(&mut self, now: Instant) -> Option<Box<dyn Request>> {
        match self.state {
            State::Ask { at } if at <= now => {}
            _ => return None,
        }
        self.state = State::Asked;
        let request = GetTelemetrySubscriptionsRequest::default().with_client_instance_id(self.instance);
        Some(Box::new(Plain::new(request)))
    }

    /// Whether it waits for nothing but somebody to ask.
    pub(super) fn wants_to_ask(&self, now: Instant) -> bool {
        matches!(self.state, State::Ask { at } if at <= now)
    }

    pub(super) fn wants_figures(&self, now: Instant) -> bool {
        matches!(self.state, State::Push { at } if at <= now)
    }

    /// When something is due. What waits for a connection is not: the connection brings it on.
    pub(super) fn poll_timeout(&self, is_waiting: bool) -> Option<Instant> {
        match self.state {
            State::Ask { at } if !is_waiting => Some(at),
            State::Push { at } => Some(at),
            State::Ending { until } => Some(until),
            _ => None,
        }
    }

    /// The figures, as the broker wants them; with `is_last` the client is about to close.
    pub(super) fn push(
        &mut self,
        now: Instant,
        time_ns: u64,
        resource: &[(&str, &str)],
        is_last: bool,
        measure: impl FnOnce(&mut Sink<'_>),
    ) -> Option<Box<dyn Request>> {
        let subscription = self.subscription.as_ref()?;
        let mut points = Vec::new();
        let (told, start_ns) = (&mut self.told, self.told_at_ns);
        measure(&mut |metric| points.extend(point(subscription, told, start_ns, metric)));
        self.told_at_ns = time_ns;
        let mut bytes = otlp::encode(&points, resource, time_ns);
        let compression = Compression::new(subscription.codec, None).unwrap_or(Compression::NONE);
        let codec = compression.apply(&mut bytes);
        let request = PushTelemetryRequest::default()
            .with_client_instance_id(self.instance)
            .with_subscription_id(subscription.id)
            .with_terminating(is_last)
            .with_compression_type(codec.to_attributes() as i8);
        let fits = bytes.len() <= subscription.max_bytes;
        if !fits {
            tracing::warn!(
                bytes = bytes.len(),
                limit = subscription.max_bytes,
                "too many figures for the broker"
            );
        }
        self.state = match (is_last, fits) {
            (true, true) => State::Ending { until: now + LAST_PUSH_MAX },
            (true, false) => State::Off,
            (false, true) => State::Pushed,
            (false, false) => State::Push { at: now + subscription.interval },
        };
        fits.then(|| Box::new(Plain::new(request.with_metrics(bytes.freeze()))) as Box<dyn Request>)
    }

    /// The client closes; whether there are last figures to be told.
    pub(super) fn end(&mut self, now: Instant) -> bool {
        match self.state {
            State::Push { .. } | State::Pushed => return true,
            State::Ending { until } if until > now => {}
            _ => self.state = State::Off,
        }
        false
    }

    /// Whether nothing is waited for any more, after [`end`](Self::end).
    pub(super) fn has_ended(&self) -> bool {
        self.state == State::Off
    }

    pub(super) fn answered(&mut self, now: Instant, result: Result<Response>, rng: &mut Rng) {
        match self.state {
            State::Asked => {
                let answer =
                    result.and_then(|response| response.decode::<GetTelemetrySubscriptionsRequest>());
                match answer {
                    Ok(answer) if answer.error_code == 0 => self.subscribed(now, answer, rng),
                    Ok(answer) => self.refused(now, answer.error_code),
                    Err(error) => self.unheard(now, &error),
                }
            }
            State::Pushed => {
                let answer = result.and_then(|response| response.decode::<PushTelemetryRequest>());
                match answer {
                    Ok(answer) if answer.error_code == 0 => {
                        let interval = self.interval();
                        self.state = State::Push { at: now + interval };
                    }
                    Ok(answer) => self.refused(now, answer.error_code),
                    Err(error) => self.unheard(now, &error),
                }
            }
            State::Ending { .. } => self.state = State::Off,
            State::Ask { .. } | State::Push { .. } | State::Off => {}
        }
    }

    fn interval(&self) -> Duration {
        self.subscription.as_ref().map_or(DEFAULT_INTERVAL, |subscription| subscription.interval)
    }

    fn subscribed(&mut self, now: Instant, answer: GetTelemetrySubscriptionsResponse, rng: &mut Rng) {
        if !answer.client_instance_id.is_nil() {
            self.instance = answer.client_instance_id;
        }
        let interval = Duration::from_millis(answer.push_interval_ms.try_into().unwrap_or(0));
        let interval = interval.clamp(INTERVAL_MIN, Duration::from_secs(24 * 3600));
        let was_delta = self.subscription.as_ref().is_some_and(|subscription| subscription.is_delta);
        if was_delta != answer.delta_temporality {
            self.told.clear();
        }
        let codecs = answer.accepted_compression_types.iter();
        let mut codecs = codecs.filter_map(|kind| Codec::from_attributes((*kind).into()));
        let is_built = |codec: &Codec| Compression::new(*codec, None).is_ok();
        let prefixes: Vec<String> = answer.requested_metrics.iter().map(ToString::to_string).collect();
        let is_empty = prefixes.is_empty();
        self.subscription = Some(Subscription {
            id: answer.subscription_id,
            interval,
            codec: codecs.find(is_built).unwrap_or(Codec::None),
            max_bytes: answer.telemetry_max_bytes.try_into().unwrap_or(0),
            is_delta: answer.delta_temporality,
            prefixes,
        });
        self.state = if is_empty {
            State::Ask { at: now + interval }
        } else {
            // Clients that were started together shall not all come at once: half to one and a half intervals.
            let permille = 500 + rng.below(1001) as u32;
            State::Push { at: now + interval.saturating_mul(permille) / 1000 }
        };
    }

    /// As Java's `ClientTelemetryUtils.maybeFetchErrorIntervalMs`.
    fn refused(&mut self, now: Instant, code: i16) {
        let code = ErrorCode::from_wire(code).unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR);
        tracing::debug!(%code, "the broker refuses figures");
        self.state = match code {
            ErrorCode::INVALID_REQUEST | ErrorCode::INVALID_RECORD | ErrorCode::UNSUPPORTED_VERSION => {
                tracing::warn!(%code, "the broker will have no figures of this client (enable.metrics.push)");
                State::Off
            }
            // Another subscription holds now, maybe with other codecs. Not in a loop, though.
            ErrorCode::UNKNOWN_SUBSCRIPTION_ID | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE => {
                State::Ask { at: now + INTERVAL_MIN }
            }
            ErrorCode::TELEMETRY_TOO_LARGE | ErrorCode::THROTTLING_QUOTA_EXCEEDED => {
                State::Ask { at: now + self.interval() }
            }
            _ => State::Ask { at: now + DEFAULT_INTERVAL },
        };
    }

    fn unheard(&mut self, now: Instant, error: &crate::error::Error) {
        tracing::debug!(%error, "no answer about figures");
        self.state = if error.is_retriable() { State::Ask { at: now + self.interval() } } else { State::Off };
    }
}

/// The figure, if it is subscribed to.
fn point(
    subscription: &Subscription,
    told: &mut Totals,
    told_at_ns: u64,
    metric: Metric<'_>,
) -> Option<Point> {
    let name = telemetry_name(metric.group, metric.name);
    if !subscription.prefixes.iter().any(|prefix| name.starts_with(prefix.as_str())) {
        return None;
    }
    let label = |(key, value): &(&str, &str)| (key.replace('-', "_"), (*value).to_owned());
    let labels: Vec<(String, String)> = metric.labels.iter().map(label).collect();
    Some(match metric.value {
        Value::Gauge(value) => Point { name, labels, kind: Kind::Gauge, value, start_ns: 0 },
        Value::Total(total) if subscription.is_delta => {
            let before = told.insert((name.clone(), labels.clone()), total).unwrap_or(0);
            let value = total.saturating_sub(before) as f64;
            Point { name, labels, kind: Kind::Delta, value, start_ns: told_at_ns }
        }
        Value::Total(total) => {
            Point { name, labels, kind: Kind::Cumulative, value: total as f64, start_ns: 0 }
        }
    })
}

/// `producer-metrics`, `record-send-total` are `org.apache.kafka.producer.record.send.total` to brokers.
fn telemetry_name(group: &str, name: &str) -> String {
    let group = group.strip_suffix("-metrics").unwrap_or(group);
    format!("org.apache.kafka.{}.{}", group.replace('-', "."), name.replace('-', "."))
}

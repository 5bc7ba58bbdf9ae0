use super::*;
use crate::error::{Error, ErrorKind};
use crate::protocol::messages::{self, ApiKey, Decodable as _, Encodable, StrBytes};
use crate::protocol::request::FrameBuilder;

const SECOND: Duration = Duration::from_secs(1);

fn response(api: ApiKey, answer: &impl Encodable) -> Result<Response> {
    let mut body = bytes::BytesMut::new();
    answer.encode(&mut body, 0).unwrap();
    Ok(Response { api, version: 0, body: body.freeze() })
}

fn subscription(prefixes: &[&'static str], is_delta: bool) -> GetTelemetrySubscriptionsResponse {
    GetTelemetrySubscriptionsResponse::default()
        .with_client_instance_id(uuid::Uuid::from_bytes([3; 16]))
        .with_subscription_id(7)
        .with_push_interval_ms(10_000)
        .with_telemetry_max_bytes(1_000_000)
        .with_delta_temporality(is_delta)
        .with_requested_metrics(prefixes.iter().map(|prefix| StrBytes::from_static_str(prefix)).collect())
}

fn read(request: &dyn Request) -> PushTelemetryRequest {
    let mut frame = FrameBuilder::new();
    request.encode(0, &mut frame).unwrap();
    PushTelemetryRequest::decode(&mut bytes::Bytes::from(frame.finish().concat()), 0).unwrap()
}

struct World {
    now: Instant,
    telemetry: Telemetry,
    rng: Rng,
    total: u64,
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn new() -> Self {
        let now = Instant::now();
        Self { now, telemetry: Telemetry::new(now), rng: Rng::new(1), total: 10 }
    }

    fn subscribed(answer: GetTelemetrySubscriptionsResponse) -> Self {
        let mut world = Self::new();
        assert!(world.telemetry.ask(world.now).is_some());
        world.hear(ApiKey::GetTelemetrySubscriptions, &answer);
        world
    }

    fn hear(&mut self, api: ApiKey, answer: &impl Encodable) {
        self.telemetry.answered(self.now, response(api, answer), &mut self.rng);
    }

    /// Goes to when something is due.
    fn wait(&mut self) -> Duration {
        let due = self.telemetry.poll_timeout(false).expect("something to do");
        let waited = due.saturating_duration_since(self.now);
        self.now = self.now.max(due);
        waited
    }

    fn push(&mut self, is_last: bool) -> Option<PushTelemetryRequest> {
        let total = self.total;
        let request = self.telemetry.push(self.now, 5_000, &[("client_rack", "r1")], is_last, |sink| {
            let labels = [("node-id", "4")];
            let group = "producer-node-metrics";
            sink(Metric { group, name: "request-total", labels: &labels, value: Value::Total(total) });
            sink(Metric {
                group: "consumer-metrics",
                name: "lag-max",
                labels: &[],
                value: Value::Gauge(2.5),
            });
        });
        request.map(|request| read(&*request))
    }

    fn refuse(&mut self, code: ErrorCode) {
        self.hear(
            ApiKey::PushTelemetry,
            &messages::PushTelemetryResponse::default().with_error_code(code.code()),
        );
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn it_asks_once_and_pushes_what_was_asked_for_at_intervals() {
    let mut world = World::subscribed(subscription(&["org.apache.kafka.producer."], true));
    let waited = world.wait();
    assert!((5 * SECOND..=15 * SECOND).contains(&waited), "{waited:?}");
    assert!(world.telemetry.wants_figures(world.now));
    let first = world.push(false).unwrap();
    assert_eq!((first.subscription_id, first.terminating, first.compression_type), (7, false, 0));
    assert_eq!(first.client_instance_id.into_bytes(), [3; 16]);
    assert!(contains(&first.metrics, b"org.apache.kafka.producer.node.request.total"));
    assert!(contains(&first.metrics, b"node_id") && contains(&first.metrics, b"client_rack"));
    assert!(!contains(&first.metrics, b"lag.max"), "nobody asked for it");
    assert!(contains(&first.metrics, &10f64.to_le_bytes()));
    world.hear(ApiKey::PushTelemetry, &messages::PushTelemetryResponse::default());
    assert_eq!(world.wait(), 10 * SECOND);
    world.total = 13;
    let second = world.push(false).unwrap();
    assert!(contains(&second.metrics, &3f64.to_le_bytes()), "what was added since");
}

#[test]
fn cumulative_figures_are_told_whole_and_an_empty_subscription_asks_again() {
    let mut world = World::subscribed(subscription(&[], false));
    assert_eq!(world.wait(), 10 * SECOND);
    assert!(world.telemetry.wants_to_ask(world.now) && world.push(true).is_some(), "only the engine decides");
    let mut world = World::subscribed(subscription(&[""], false));
    for _ in 0..2 {
        world.wait();
        let push = world.push(false).unwrap();
        assert!(contains(&push.metrics, &10f64.to_le_bytes()) && contains(&push.metrics, b"lag.max"));
        world.hear(ApiKey::PushTelemetry, &messages::PushTelemetryResponse::default());
    }
}

#[test]
fn refusals_are_followed_as_java_does() {
    for (code, asks_after) in [
        (ErrorCode::UNKNOWN_SUBSCRIPTION_ID, Some(INTERVAL_MIN)),
        (ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, Some(INTERVAL_MIN)),
        (ErrorCode::TELEMETRY_TOO_LARGE, Some(10 * SECOND)),
        (ErrorCode::THROTTLING_QUOTA_EXCEEDED, Some(10 * SECOND)),
        (ErrorCode::UNKNOWN_SERVER_ERROR, Some(DEFAULT_INTERVAL)),
        (ErrorCode::INVALID_RECORD, None),
        (ErrorCode::INVALID_REQUEST, None),
    ] {
        let mut world = World::subscribed(subscription(&[""], false));
        world.wait();
        world.push(false).unwrap();
        world.refuse(code);
        match asks_after {
            Some(time) => {
                assert_eq!(world.wait(), time, "{code}");
                assert!(world.telemetry.ask(world.now).is_some());
            }
            None => assert!(world.telemetry.poll_timeout(false).is_none(), "{code}"),
        }
    }
}

#[test]
fn too_many_figures_are_not_sent() {
    let mut world = World::subscribed(subscription(&[""], false).with_telemetry_max_bytes(20));
    world.wait();
    assert!(world.push(false).is_none());
    assert_eq!(world.wait(), 10 * SECOND);
}

#[cfg(feature = "gzip")]
#[test]
fn figures_are_compressed_as_the_broker_likes_best() {
    let answer = subscription(&[""], false).with_accepted_compression_types(vec![9, 1, 0]);
    let mut world = World::subscribed(answer);
    world.wait();
    let push = world.push(false).unwrap();
    assert_eq!((push.compression_type, &push.metrics[..2]), (1, &[0x1f, 0x8b][..]));
}

#[test]
fn the_last_figures_are_told_once_and_not_waited_for_long() {
    let mut world = World::subscribed(subscription(&[""], true));
    assert!(world.telemetry.end(world.now));
    assert!(world.push(true).unwrap().terminating);
    assert!(!world.telemetry.end(world.now) && !world.telemetry.has_ended());
    world.wait();
    assert!(!world.telemetry.end(world.now) && world.telemetry.has_ended());
    // Without a subscription there is nothing to tell.
    let mut world = World::new();
    assert!(!world.telemetry.end(world.now) && world.telemetry.has_ended());
}

#[test]
fn a_broker_that_does_not_answer_is_asked_again_later_and_one_that_cannot_never() {
    for (kind, asks) in [(ErrorKind::Network, true), (ErrorKind::Unsupported, false)] {
        let mut world = World::new();
        world.telemetry.ask(world.now).unwrap();
        world.telemetry.answered(world.now, Err(Error::new(kind, "no answer")), &mut world.rng);
        assert_eq!(world.telemetry.poll_timeout(false).is_some(), asks);
    }
    let world = World::new();
    assert!(world.telemetry.poll_timeout(true).is_none(), "a connection brings it on");
}

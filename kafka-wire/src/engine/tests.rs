//! The engine against scripted bytes and a clock that the test moves: no sockets, no waiting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::cluster::CoordinatorKind;
use crate::error::{ErrorCode, ErrorKind};
use crate::metrics::{Groups, Sink, ThrottleTime};
use crate::protocol::header::{ReceivedRequest, encode_response, read_request};
use crate::protocol::messages::api_versions_response::ApiVersion;
use crate::protocol::messages::find_coordinator_response::Coordinator;
use crate::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId as WireBrokerId, Encodable, EndTxnRequest, EndTxnResponse,
    FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse, MetadataResponse, ProduceRequest, StrBytes,
    TopicName,
};
use crate::protocol::request::{FrameBuilder, Plain, Request};
use crate::types::{BrokerId, TopicId};

mod nonsense;
mod recovery;
mod requests;
mod sasl;
mod throttle;

type Ask = Box<dyn FnOnce(Instant, &mut Core)>;

/// A role that does what it is told and writes down what it gets.
#[derive(Default)]
struct Probe {
    answers: VecDeque<(Token, Result<Response>)>,
}

impl Role for Probe {
    type Command = Ask;
    const METRIC_GROUPS: Groups = Groups { client: "test-metrics", node: "test-node-metrics" };
    const THROTTLE_TIME: Option<ThrottleTime> =
        Some(ThrottleTime { group: "test-throttle-metrics", average: "avg", max: "max" });

    fn handle_command(&mut self, now: Instant, ask: Ask, core: &mut Core) {
        ask(now, core);
    }

    fn handle_response(&mut self, _: Instant, token: Token, result: Result<Response>, _: &mut Core) {
        self.answers.push_back((token, result));
    }

    fn handle_progress(&mut self, _: Instant, _: &mut Core) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn is_closed(&self) -> bool {
        false
    }

    fn measure(&self, _now: Instant, _sink: &mut Sink<'_>) {}
}

/// A request that reached the other end of a connection.
struct Received {
    connection: ConnectionId,
    request: ReceivedRequest,
    confirm: Option<Token>,
}

struct Sim {
    start: Instant,
    now: Instant,
    engine: Engine<Probe>,
    dialled: VecDeque<(ConnectionId, u16)>,
    received: VecDeque<Received>,
    closed: Vec<ConnectionId>,
    logins: Vec<ConnectionId>,
    /// How long each dial may take.
    patience: Vec<Duration>,
}

impl Sim {
    fn new(bootstrap: &str) -> Self {
        Self::of(&ClientConfig::bootstrap(bootstrap).unwrap())
    }

    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn of(config: &ClientConfig) -> Self {
        let start = Instant::now();
        let engine = Engine::new(start, config, 1, Probe::default());
        let (dialled, received) = (VecDeque::new(), VecDeque::new());
        Self {
            start,
            now: start,
            engine,
            dialled,
            received,
            closed: Vec::new(),
            logins: Vec::new(),
            patience: Vec::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Dial { connection, address, timeout } => {
                    self.dialled.push_back((connection, address.port));
                    self.patience.push(timeout);
                }
                Output::Close { connection } => self.closed.push(connection),
                Output::Login { connection, .. } => self.logins.push(connection),
                Output::Transmit { connection, chunks, confirm } => {
                    let frame = Bytes::from(chunks.concat());
                    let request = read_request(&frame.slice(4..)).unwrap();
                    self.received.push_back(Received { connection, request, confirm });
                }
            }
        }
        // Otherwise whoever drives the engine would spin.
        let due = self.engine.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "{:?} is over", due.map(|due| self.now - due));
    }

    fn ask(&mut self, ask: impl FnOnce(Instant, &mut Core) + 'static) {
        self.engine.handle_command(self.now, Box::new(ask));
        self.drain();
    }

    /// Makes a call and gives its token.
    fn call(&mut self, target: Target, request: impl Request + 'static, timeout: Duration) -> Token {
        let token = Arc::new(std::sync::Mutex::new(None));
        let slot = Arc::clone(&token);
        self.ask(move |now, core| {
            *slot.lock().unwrap() = Some(core.call(now, target, Box::new(request), timeout));
        });
        token.lock().unwrap().unwrap()
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn connected(&mut self, connection: ConnectionId) {
        self.engine.handle_connected(self.now, connection);
        self.drain();
    }

    fn disconnected(&mut self, connection: ConnectionId, error: Error) {
        self.engine.handle_disconnected(self.now, connection, error);
        self.drain();
    }

    fn refused(&mut self, connection: ConnectionId) {
        self.disconnected(connection, Error::new(ErrorKind::Network, "connection refused"));
    }

    fn bytes(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let mut buffer = BytesMut::from(bytes);
        self.engine.handle_bytes(self.now, connection, &mut buffer);
        self.drain();
    }

    fn answer(&mut self, to: &Received, answer: &impl Encodable) {
        let request = &to.request;
        let chunks = encode_response(request.api, request.version, request.correlation_id, answer).unwrap();
        self.bytes(to.connection, &chunks.concat());
    }

    #[track_caller]
    fn next_request(&mut self, api: ApiKey) -> Received {
        let received = self.received.pop_front().expect("no request was sent");
        assert_eq!(received.request.api, api);
        received
    }

    #[track_caller]
    fn next_dial(&mut self, port: u16) -> ConnectionId {
        let (connection, dialled) = self.dialled.pop_front().expect("nothing was dialled");
        assert_eq!(dialled, port);
        connection
    }

    #[track_caller]
    fn next_answer(&mut self, token: Token) -> Result<Response> {
        let (answered, result) = self.engine.role.answers.pop_front().expect("no call was answered");
        assert_eq!(answered, token);
        result
    }

    /// Completes a dial: connected, versions negotiated.
    #[track_caller]
    fn serve(&mut self, port: u16) -> ConnectionId {
        let connection = self.next_dial(port);
        self.connected(connection);
        let question = self.next_request(ApiKey::ApiVersions);
        self.answer(&question, &versions());
        connection
    }

    /// Answers the metadata request that is due: brokers on ports 9001…, and the topic `t` with these
    /// leaders.
    #[track_caller]
    fn serve_metadata(&mut self, brokers: i32, leaders: &[i32]) {
        let question = self.next_request(ApiKey::Metadata);
        self.answer(&question, &metadata(brokers, leaders));
    }

    /// An engine that knows brokers 1 to `brokers`, asked through a bootstrap server on port 9000 that is
    /// none of them.
    fn knowing(brokers: i32) -> Self {
        let mut sim = Self::new("h:9000");
        sim.ask(|now, core| core.watch_topics(now, ["t".into()]));
        sim.serve(9000);
        sim.serve_metadata(brokers, &[1]);
        assert_eq!(sim.engine.core().cluster().brokers().len() as i32, brokers);
        sim
    }
}

fn versions() -> ApiVersionsResponse {
    let keys = [
        (ApiKey::Produce, 9),
        (ApiKey::Metadata, 13),
        (ApiKey::ApiVersions, 4),
        (ApiKey::FindCoordinator, 4),
        (ApiKey::Heartbeat, 4),
        (ApiKey::EndTxn, 3),
        (ApiKey::SaslHandshake, 1),
        (ApiKey::SaslAuthenticate, 2),
    ];
    let keys = keys.map(|(key, max)| ApiVersion::default().with_api_key(key as i16).with_max_version(max));
    ApiVersionsResponse::default().with_api_keys(keys.to_vec())
}

fn metadata(brokers: i32, leaders: &[i32]) -> MetadataResponse {
    let brokers = (1..=brokers).map(|id| {
        let host = StrBytes::from_static_str("h");
        MetadataResponseBroker::default().with_node_id(WireBrokerId(id)).with_host(host).with_port(9000 + id)
    });
    let partitions = leaders.iter().enumerate().map(|(index, leader)| {
        MetadataResponsePartition::default()
            .with_partition_index(index as i32)
            .with_leader_id(WireBrokerId(*leader))
            .with_leader_epoch(1)
    });
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_static_str("t"))))
        .with_partitions(partitions.collect());
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_controller_id(WireBrokerId(1))
        .with_topics(vec![topic])
}

fn heartbeat() -> Plain<HeartbeatRequest> {
    Plain::new(HeartbeatRequest::default())
}

fn broker(id: i32, lane: Lane) -> Target {
    Target::Broker { id: BrokerId(id), lane }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_call_dials_negotiates_and_gets_its_answer() {
    let mut sim = Sim::new("h:9000");
    let token = sim.call(Target::Any, heartbeat(), SECOND);
    assert!(sim.received.is_empty(), "nothing is sent before the dial");
    sim.serve(9000);
    let request = sim.next_request(ApiKey::Heartbeat);
    assert_eq!((request.request.version, request.request.client_id.as_deref()), (4, Some("tidewater")));
    sim.answer(&request, &HeartbeatResponse::default().with_error_code(25));
    let response = sim.next_answer(token).unwrap();
    assert_eq!(response.decode::<HeartbeatRequest>().unwrap().error_code, 25);
}

#[test]
fn an_older_broker_is_asked_in_its_version_and_that_is_remembered() {
    let mut sim = Sim::new("h:9000");
    let token = sim.call(Target::Any, heartbeat(), 60 * SECOND);
    let connection = sim.next_dial(9000);
    sim.connected(connection);
    let question = sim.next_request(ApiKey::ApiVersions);
    assert_eq!(question.request.version, 4);
    // UNSUPPORTED_VERSION, in version 0: ApiVersions 0 to 3.
    sim.bytes(connection, b"\0\0\0\x10\0\0\0\0\0\x23\0\0\0\x01\0\x12\0\0\0\x03");
    let question = sim.next_request(ApiKey::ApiVersions);
    assert_eq!(question.request.version, 3);
    let mut older = versions();
    older.api_keys[2].max_version = 3;
    sim.answer(&question, &older);
    sim.next_request(ApiKey::Heartbeat);
    sim.disconnected(connection, Error::new(ErrorKind::Network, "reset"));
    assert_eq!(sim.next_answer(token).unwrap_err().kind(), ErrorKind::Network);
    sim.call(Target::Any, heartbeat(), 60 * SECOND);
    sim.pass(SECOND);
    let again = sim.next_dial(9000);
    sim.connected(again);
    assert_eq!(sim.next_request(ApiKey::ApiVersions).request.version, 3);
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_connection() {
    let mut sim = Sim::new("h:9000");
    let token = sim.call(Target::Any, Plain::new(EndTxnRequest::default()), SECOND);
    let connection = sim.serve(9000);
    sim.next_request(ApiKey::EndTxn);
    sim.bytes(connection, b"\0\0\0\x06\0\0\0\x63\0\0");
    assert_eq!(sim.closed, [connection]);
    let error = sim.next_answer(token).unwrap_err();
    assert!(error.is_retriable() && error.possibly_written(), "{error}");
    assert!(error.to_string().contains("it answers request 99"), "{error}");
}

#[test]
fn answers_split_anywhere_are_put_together() {
    let mut sim = Sim::new("h:9000");
    let token = sim.call(Target::Any, heartbeat(), SECOND);
    let connection = sim.serve(9000);
    let request = sim.next_request(ApiKey::Heartbeat);
    let answer =
        encode_response(ApiKey::Heartbeat, 4, request.request.correlation_id, &HeartbeatResponse::default());
    let mut buffer = BytesMut::new();
    for byte in answer.unwrap().concat() {
        assert!(sim.engine.role().answers.is_empty());
        buffer.extend_from_slice(&[byte]);
        sim.engine.handle_bytes(sim.now, connection, &mut buffer);
    }
    assert!(sim.next_answer(token).is_ok() && buffer.is_empty());
}

#[test]
fn an_overdue_answer_ends_the_connection_and_all_in_flight_on_it() {
    let mut sim = Sim::new("h:9000");
    let slow = sim.call(Target::Any, Plain::new(EndTxnRequest::default()), 2 * SECOND);
    let connection = sim.serve(9000);
    let other = sim.call(Target::Any, heartbeat(), 30 * SECOND);
    sim.pass(3 * SECOND);
    assert_eq!(sim.closed, [connection]);
    let error = sim.next_answer(slow).unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && error.possibly_written(), "{error}");
    assert_eq!(sim.next_answer(other).unwrap_err().kind(), ErrorKind::Network);
}

#[test]
fn what_could_not_be_sent_in_its_time_was_not_written_and_says_why() {
    let mut sim = Sim::new("h:9000");
    let token = sim.call(Target::Any, Plain::new(EndTxnRequest::default()), 5 * SECOND);
    let mut dials = 0;
    while sim.engine.role().answers.is_empty() {
        while let Some((connection, _)) = sim.dialled.pop_front() {
            sim.refused(connection);
            dials += 1;
        }
        sim.pass(Duration::from_millis(10));
    }
    assert_eq!((sim.now - sim.start).as_secs(), 5);
    let error = sim.next_answer(token).unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && !error.possibly_written());
    assert!(error.to_string().contains("connect to h:9000: connection refused"), "{error}");
    // 50 ms, doubling to a second, each a fifth more or less.
    assert!((7..=13).contains(&dials), "{dials} dials");
}

#[test]
fn a_cancelled_call_is_not_answered() {
    let mut sim = Sim::new("h:9000");
    let token = sim.call(Target::Any, heartbeat(), SECOND);
    sim.serve(9000);
    let request = sim.next_request(ApiKey::Heartbeat);
    sim.ask(move |_, core| core.cancel(token));
    sim.answer(&request, &HeartbeatResponse::default());
    assert!(sim.engine.role().answers.is_empty());
}

#[test]
fn an_idle_connection_is_closed_and_dialled_again_when_needed() {
    let mut sim = Sim::new("h:9000");
    let token = sim.call(Target::Any, heartbeat(), SECOND);
    let connection = sim.serve(9000);
    let request = sim.next_request(ApiKey::Heartbeat);
    sim.answer(&request, &HeartbeatResponse::default());
    sim.next_answer(token).unwrap();
    sim.pass(539 * SECOND);
    assert!(sim.closed.is_empty());
    sim.pass(2 * SECOND);
    assert_eq!(sim.closed, [connection]);
    sim.call(Target::Any, heartbeat(), SECOND);
    sim.serve(9000);
    sim.next_request(ApiKey::Heartbeat);
}

/// Produce with `acks=0`.
struct Unanswered;

impl Request for Unanswered {
    fn api(&self) -> ApiKey {
        ApiKey::Produce
    }
    fn versions(&self) -> std::ops::RangeInclusive<i16> {
        9..=9
    }
    fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()> {
        Plain::new(ProduceRequest::default()).encode(version, frame)
    }
    fn expects_response(&self) -> bool {
        false
    }
}

#[test]
fn a_request_without_an_answer_is_done_when_it_is_written() {
    let mut sim = Sim::knowing(1);
    let written = sim.call(broker(1, Lane::Data), Unanswered, SECOND);
    let lost = sim.call(broker(1, Lane::Data), Unanswered, SECOND);
    let connection = sim.serve(9001);
    assert_eq!(sim.next_request(ApiKey::Produce).confirm, Some(written));
    assert!(sim.engine.role().answers.is_empty());
    sim.engine.handle_transmitted(sim.now, connection, written);
    assert!(sim.next_answer(written).unwrap().body.is_empty());
    sim.disconnected(connection, Error::new(ErrorKind::Network, "reset"));
    assert!(sim.next_answer(lost).unwrap_err().possibly_written());
}

#[test]
fn lanes_are_separate_connections_and_calls_on_one_keep_their_order() {
    let mut sim = Sim::knowing(2);
    let calls: Vec<Token> = (0..5).map(|_| sim.call(broker(2, Lane::Data), heartbeat(), SECOND)).collect();
    sim.call(broker(2, Lane::Fetch), heartbeat(), SECOND);
    let data = sim.serve(9002);
    let requests: Vec<Received> = (0..5).map(|_| sim.next_request(ApiKey::Heartbeat)).collect();
    let fetch = sim.serve(9002);
    assert_ne!(data, fetch);
    assert!(requests.iter().all(|request| request.connection == data));
    for (token, request) in calls.into_iter().zip(&requests) {
        sim.answer(request, &HeartbeatResponse::default());
        sim.next_answer(token).unwrap();
    }
}

#[test]
fn a_dial_that_fails_fails_calls_to_that_broker_at_once_and_asks_for_metadata() {
    let mut sim = Sim::knowing(2);
    sim.pass(SECOND);
    let token = sim.call(broker(2, Lane::Data), heartbeat(), 30 * SECOND);
    let connection = sim.next_dial(9002);
    sim.refused(connection);
    let error = sim.next_answer(token).unwrap_err();
    assert!(error.is_retriable() && !error.possibly_written(), "{error}");
    assert!(error.to_string().starts_with("connect to broker 2 (h:9002)"), "{error}");
    sim.pass(SECOND);
    sim.serve_metadata(2, &[1]);
}

/// As a broker that died: metadata does not name it, so there is nothing to dial.
#[test]
fn a_call_to_a_broker_that_metadata_does_not_name_fails_with_the_next_answer() {
    let mut sim = Sim::knowing(3);
    sim.pass(SECOND);
    sim.ask(|now, core| core.request_metadata(now));
    sim.serve_metadata(2, &[1]);
    let token = sim.call(broker(3, Lane::Data), heartbeat(), 30 * SECOND);
    sim.pass(SECOND);
    sim.serve_metadata(2, &[1]);
    let error = sim.next_answer(token).unwrap_err();
    assert!(error.is_retriable() && !error.possibly_written(), "{error}");
    assert!(error.to_string().contains("not in the cluster's metadata"), "{error}");
}

#[test]
fn with_one_server_down_another_is_asked() {
    let mut sim = Sim::new("h:9000,h:9500");
    let token = sim.call(Target::Any, heartbeat(), 30 * SECOND);
    let (connection, first) = sim.dialled.pop_front().unwrap();
    sim.refused(connection);
    let other = if first == 9000 { 9500 } else { 9000 };
    sim.serve(other);
    let request = sim.next_request(ApiKey::Heartbeat);
    sim.answer(&request, &HeartbeatResponse::default());
    sim.next_answer(token).unwrap();
}

#[test]
fn when_all_known_brokers_are_gone_the_bootstrap_servers_are_asked_again() {
    let mut sim = Sim::new("h:9000");
    sim.ask(|now, core| core.watch_topics(now, ["t".into()]));
    let bootstrap = sim.serve(9000);
    sim.serve_metadata(1, &[1]);
    sim.disconnected(bootstrap, Error::new(ErrorKind::Network, "reset"));
    sim.call(Target::Any, heartbeat(), 60 * SECOND);
    let mut dialled = std::collections::BTreeSet::new();
    for _ in 0..200 {
        while let Some((connection, port)) = sim.dialled.pop_front() {
            dialled.insert(port);
            sim.refused(connection);
        }
        sim.pass(Duration::from_millis(100));
    }
    assert_eq!(dialled.into_iter().collect::<Vec<_>>(), [9000, 9001]);
}

#[test]
fn a_certificate_that_is_not_believed_fails_every_call_at_once() {
    let mut sim = Sim::new("h:9000");
    let any = sim.call(Target::Any, heartbeat(), 30 * SECOND);
    let group = Target::Coordinator { kind: CoordinatorKind::Group, key: "g".into() };
    let coordinated = sim.call(group, heartbeat(), 30 * SECOND);
    let connection = sim.next_dial(9000);
    sim.disconnected(connection, Error::new(ErrorKind::Tls, "signed by nobody"));
    for token in [any, coordinated] {
        assert_eq!(sim.next_answer(token).unwrap_err().kind(), ErrorKind::Tls);
    }
    assert_eq!(sim.engine.core().connect_error().unwrap().kind(), ErrorKind::Tls);
}

#[test]
fn a_bootstrap_connection_serves_on_as_the_brokers_own() {
    let mut sim = Sim::new("h:9001");
    sim.ask(|now, core| core.watch_topics(now, ["t".into()]));
    let bootstrap = sim.serve(9001);
    sim.serve_metadata(1, &[1]);
    sim.call(broker(1, Lane::Control), heartbeat(), SECOND);
    assert_eq!(sim.next_request(ApiKey::Heartbeat).connection, bootstrap);
    assert!(sim.dialled.is_empty());
}

#[test]
fn metadata_is_refreshed_by_age_and_sooner_while_a_topic_is_missing() {
    let mut sim = Sim::knowing(1);
    sim.pass(299 * SECOND);
    assert!(sim.received.is_empty());
    sim.pass(2 * SECOND);
    let question = sim.next_request(ApiKey::Metadata);
    let mut missing = metadata(1, &[]);
    missing.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code();
    sim.answer(&question, &missing);
    assert!(sim.engine.core().cluster().topic("t").is_none());
    let mut asked = 0;
    for _ in 0..100 {
        sim.pass(Duration::from_millis(100));
        while let Some(question) = sim.received.pop_front() {
            asked += 1;
            sim.answer(&question, &missing);
        }
    }
    assert!((9..=16).contains(&asked), "asked {asked} times in 10 s");
}

#[test]
fn a_topic_created_anew_shows_by_its_id() {
    let mut sim = Sim::knowing(1);
    for id in [1, 2] {
        sim.ask(|now, core| core.request_metadata(now));
        sim.pass(SECOND);
        let question = sim.next_request(ApiKey::Metadata);
        let mut described = metadata(1, &[1]);
        described.topics[0].topic_id = uuid::Uuid::from_bytes([id; 16]);
        sim.answer(&question, &described);
        assert_eq!(sim.engine.core().cluster().topic("t").unwrap().id, TopicId([id; 16]));
    }
}

#[test]
fn metadata_is_not_asked_for_more_often_than_the_backoff_allows() {
    let mut sim = Sim::knowing(1);
    let mut asked = 0;
    for _ in 0..1000 {
        sim.ask(|now, core| core.request_metadata(now));
        sim.pass(Duration::from_millis(1));
        while let Some(question) = sim.received.pop_front() {
            asked += 1;
            sim.answer(&question, &metadata(1, &[1]));
        }
    }
    assert!((8..=13).contains(&asked), "asked {asked} times in a second");
}

fn coordinator(code: i16, id: i32) -> FindCoordinatorResponse {
    let found = Coordinator::default()
        .with_key(StrBytes::from_static_str("g"))
        .with_node_id(WireBrokerId(id))
        .with_host(StrBytes::from_static_str("h"))
        .with_port(9000 + id)
        .with_error_code(code);
    FindCoordinatorResponse::default().with_coordinators(vec![found])
}

#[test]
fn a_coordinator_is_looked_up_remembered_and_looked_up_again_when_it_moved() {
    let mut sim = Sim::knowing(2);
    let target = || Target::Coordinator { kind: CoordinatorKind::Group, key: "g".into() };
    let token = sim.call(target(), heartbeat(), 30 * SECOND);
    let question = sim.next_request(ApiKey::FindCoordinator);
    sim.answer(&question, &coordinator(ErrorCode::COORDINATOR_NOT_AVAILABLE.code(), -1));
    sim.pass(SECOND);
    let question = sim.next_request(ApiKey::FindCoordinator);
    sim.answer(&question, &coordinator(0, 2));
    sim.serve(9002);
    let request = sim.next_request(ApiKey::Heartbeat);
    sim.answer(&request, &HeartbeatResponse::default());
    sim.next_answer(token).unwrap();
    sim.call(target(), heartbeat(), SECOND);
    sim.next_request(ApiKey::Heartbeat);
    sim.ask(|_, core| core.forget_coordinator(CoordinatorKind::Group, &"g".into()));
    sim.call(target(), heartbeat(), SECOND);
    sim.next_request(ApiKey::FindCoordinator);
}

#[test]
fn waiting_for_a_coordinator_while_a_broker_is_down_does_not_spin() {
    let mut sim = Sim::knowing(2);
    sim.call(broker(2, Lane::Data), heartbeat(), 30 * SECOND);
    let connection = sim.next_dial(9002);
    sim.refused(connection);
    let target = Target::Coordinator { kind: CoordinatorKind::Group, key: "g".into() };
    sim.call(target, heartbeat(), 30 * SECOND);
    // Each `drain` checks that the next deadline lies ahead; broker 2's backoff passes meanwhile.
    for _ in 0..50 {
        sim.pass(Duration::from_millis(100));
        sim.ask(|_, _| ());
        while let Some(question) = sim.received.pop_front() {
            match question.request.api {
                ApiKey::FindCoordinator => sim.answer(&question, &coordinator(15, -1)),
                _ => sim.answer(&question, &metadata(2, &[1])),
            }
        }
    }
    assert!(sim.engine.role().answers.len() == 1, "only the call to broker 2 is over");
}

#[test]
fn a_refused_coordinator_fails_the_calls_to_it() {
    let mut sim = Sim::knowing(1);
    let target = Target::Coordinator { kind: CoordinatorKind::Group, key: "g".into() };
    let token = sim.call(target, heartbeat(), 30 * SECOND);
    let question = sim.next_request(ApiKey::FindCoordinator);
    sim.answer(&question, &coordinator(ErrorCode::GROUP_AUTHORIZATION_FAILED.code(), -1));
    let error = sim.next_answer(token).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GROUP_AUTHORIZATION_FAILED));
}

#[test]
fn what_the_broker_cannot_do_is_named() {
    let mut sim = Sim::new("h:9000");
    let token = sim.call(Target::Any, Plain::in_versions(EndTxnRequest::default(), 5..=5), SECOND);
    sim.serve(9000);
    let error = sim.next_answer(token).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("EndTxn versions 0 to 3, this request needs 5 to 5"), "{error}");
    let fine = sim.call(Target::Any, Plain::new(EndTxnRequest::default()), SECOND);
    let request = sim.next_request(ApiKey::EndTxn);
    sim.answer(&request, &EndTxnResponse::default());
    sim.next_answer(fine).unwrap();
}

#[test]
fn hostile_bytes_end_in_an_error_that_says_what_they_are() {
    for (bytes, says) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x50", "TLS"),
        (b"\x7f\xff\xff\xff\0\0\0\0", "2147483647"),
        (b"\0\0\0\0", "0 bytes"),
        (b"\xff\xff\xff\xff", "-1 bytes"),
        (b"\0\0\0\x04\0\0\0\0", "ApiVersions"),
    ] {
        let mut sim = Sim::new("h:9000");
        let token = sim.call(Target::Any, heartbeat(), SECOND);
        let connection = sim.next_dial(9000);
        sim.connected(connection);
        sim.bytes(connection, bytes);
        assert_eq!(sim.closed, [connection], "{says}");
        let error = sim.next_answer(token).unwrap_err();
        assert!(error.kind() == ErrorKind::Protocol && error.to_string().contains(says), "{error}");
    }
}

#[test]
fn an_engine_without_work_asks_for_nothing() {
    let mut sim = Sim::new("h:9000");
    sim.engine.handle_timeout(sim.now);
    sim.drain();
    assert!(sim.dialled.is_empty());
    assert_eq!(sim.engine.poll_timeout(), None);
}

/// One thing that may happen to an engine.
#[derive(Clone, Debug)]
enum Event {
    Call(u8),
    Cancel(usize),
    Connect,
    Refuse,
    Break(usize),
    /// The oldest request is answered as it should be.
    Answer,
    /// The oldest request is answered with these bytes.
    Garbage(Vec<u8>),
    Pass(u16),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => any::<u8>().prop_map(Event::Call),
        1 => any::<usize>().prop_map(Event::Cancel),
        3 => Just(Event::Connect),
        1 => Just(Event::Refuse),
        1 => any::<usize>().prop_map(Event::Break),
        6 => Just(Event::Answer),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Event::Garbage),
        2 => (0..5000u16).prop_map(Event::Pass),
    ]
}

impl Sim {
    fn happen(&mut self, event: Event, open: &mut Vec<Token>, cancelled: &mut Vec<Token>) {
        match event {
            Event::Call(kind) => {
                let target = match kind % 4 {
                    0 => Target::Any,
                    1 => Target::Controller,
                    2 => broker(i32::from(kind % 3), Lane::Data),
                    _ => Target::Coordinator { kind: CoordinatorKind::Group, key: "g".into() },
                };
                let timeout = Duration::from_millis(500 + 100 * u64::from(kind));
                open.push(self.call(target, heartbeat(), timeout));
            }
            Event::Cancel(index) if !open.is_empty() => {
                let token = open.swap_remove(index % open.len());
                cancelled.push(token);
                self.ask(move |_, core| core.cancel(token));
            }
            Event::Connect | Event::Refuse => {
                let Some((connection, _)) = self.dialled.pop_front() else { return };
                match event {
                    Event::Connect => self.connected(connection),
                    _ => self.refused(connection),
                }
            }
            Event::Break(index) if !self.received.is_empty() => {
                let connection = self.received[index % self.received.len()].connection;
                self.disconnected(connection, Error::new(ErrorKind::Network, "reset"));
            }
            Event::Answer => {
                let Some(received) = self.received.pop_front() else { return };
                match received.request.api {
                    ApiKey::ApiVersions => self.answer(&received, &versions()),
                    ApiKey::Metadata => self.answer(&received, &metadata(2, &[1])),
                    ApiKey::FindCoordinator => self.answer(&received, &coordinator(0, 2)),
                    _ => self.answer(&received, &HeartbeatResponse::default()),
                }
            }
            Event::Garbage(bytes) => {
                let Some(received) = self.received.pop_front() else { return };
                self.bytes(received.connection, &bytes);
            }
            Event::Pass(millis) => self.pass(Duration::from_millis(millis.into())),
            Event::Cancel(_) | Event::Break(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_call_is_answered_once(events in proptest::collection::vec(event(), 0..200)) {
        let mut sim = Sim::new("h:9001,h:9002");
        let (mut open, mut cancelled) = (Vec::new(), Vec::new());
        for event in events {
            sim.happen(event, &mut open, &mut cancelled);
        }
        // Longer than any timeout, with a network that is silent now: dials end, as the driver promises.
        for _ in 0..200 {
            while let Some((connection, _)) = sim.dialled.pop_front() {
                sim.refused(connection);
            }
            sim.pass(SECOND);
        }
        let mut answered: Vec<Token> = sim.engine.role.answers.iter().map(|(token, _)| *token).collect();
        answered.retain(|token| !cancelled.contains(token));
        answered.sort_unstable();
        open.sort_unstable();
        prop_assert_eq!(answered, open);
    }
}

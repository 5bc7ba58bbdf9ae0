//! The machine in an engine, against a scripted broker and a clock that the test moves.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::task::Waker;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::super::batch::ShareBatch;
use super::super::ledger::{AcknowledgeType, Ledger};
use super::*;
use crate::config::{AcknowledgementMode, ClientConfig};
use crate::engine::{ConnectionId, Engine};
use crate::protocol::header::{ReceivedRequest, encode_response};
use crate::protocol::limits::Limits;
use crate::protocol::messages::api_versions_response::ApiVersion;
use crate::protocol::messages::find_coordinator_response::Coordinator;
use crate::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::share_acknowledge_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionData as Acknowledged, ShareAcknowledgeTopicResponse,
};
use crate::protocol::messages::share_fetch_response::{
    AcquiredRecords, PartitionData, ShareFetchableTopicResponse,
};
use crate::protocol::messages::share_group_heartbeat_response::{Assignment, TopicPartitions};
use crate::protocol::messages::{
    self, ApiKey, ApiVersionsResponse, Encodable, FindCoordinatorResponse, MetadataResponse,
    ShareAcknowledgeResponse, ShareFetchResponse, ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse,
    StrBytes, TopicName,
};
use crate::record::{BatchBuilder, Compression};

const SECOND: Duration = Duration::from_secs(1);
const ID: [u8; 16] = [7; 16];

struct World {
    now: Instant,
    engine: Engine<ShareMachine>,
    deliveries: SharedDeliveries,
    ledger: Ledger,
    /// Requests that the test has not answered, heartbeats aside.
    requests: VecDeque<(ConnectionId, ReceivedRequest)>,
    heartbeats: Vec<ShareGroupHeartbeatRequest>,
    /// What the coordinator gives the member.
    assigned: Vec<i32>,
    /// How many partitions `t` has, all led by the broker 1.
    partitions: i32,
    metadata_requests: usize,
}

impl World {
    /// A member that reads partition 0 of `t`, and whose application waits for records.
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn new() -> Self {
        let now = Instant::now();
        let config = ShareConsumerConfig {
            client: ClientConfig::bootstrap("h:9001").unwrap(),
            group_id: Some("g".to_owned()),
            max_poll_interval: 100 * SECOND,
            ..ShareConsumerConfig::default()
        };
        let deliveries = SharedDeliveries::default();
        let machine = ShareMachine::new(config.clone(), deliveries.clone());
        let mut world = Self {
            now,
            engine: Engine::new(now, &config.client, 7, machine),
            deliveries,
            ledger: Ledger::new(AcknowledgementMode::Explicit),
            requests: VecDeque::new(),
            heartbeats: Vec::new(),
            assigned: vec![0],
            partitions: 2,
            metadata_requests: 0,
        };
        world.command(Command::Subscribe(["t".into()].into()));
        world.command(Command::Want(None));
        world
    }

    /// One that has been handed the records 0 to 4, locked for 30 s.
    fn with_records() -> Self {
        let mut world = Self::new();
        let request = world.fetch(fetched(&set(0, 5), &[(0, 4, 1)]));
        assert_eq!((request.share_session_epoch, request.max_wait_ms), (0, 500));
        assert_eq!(request.topics.len(), 1);
        assert_eq!(world.take(), Some(vec![0, 1, 2, 3, 4]));
        world
    }

    fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some((connection, request)) = self.engine.next_request(self.now) {
            self.serve(connection, request);
        }
        let due = self.engine.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "whoever drives it would spin");
    }

    fn serve(&mut self, connection: ConnectionId, request: ReceivedRequest) {
        match request.api {
            ApiKey::ApiVersions => self.respond(connection, &request, &versions()),
            ApiKey::FindCoordinator => self.respond(connection, &request, &coordinator()),
            ApiKey::Metadata => {
                self.metadata_requests += 1;
                self.respond(connection, &request, &metadata(self.partitions));
            }
            ApiKey::ShareGroupHeartbeat => {
                let heartbeat: ShareGroupHeartbeatRequest = request.clone().decode().unwrap();
                let answer = heartbeat_answer(heartbeat.member_epoch, &self.assigned);
                self.heartbeats.push(heartbeat);
                self.respond(connection, &request, &answer);
            }
            _ => self.requests.push_back((connection, request)),
        }
    }

    fn respond(&mut self, to: ConnectionId, request: &ReceivedRequest, answer: &impl Encodable) {
        let chunks = encode_response(request.api, request.version, request.correlation_id, answer).unwrap();
        let mut bytes = BytesMut::from(&chunks.concat()[..]);
        self.engine.handle_bytes(self.now, to, &mut bytes);
    }

    #[track_caller]
    fn fetch(&mut self, answer: ShareFetchResponse) -> messages::ShareFetchRequest {
        let (connection, request) = self.requests.pop_front().expect("a request");
        self.respond(connection, &request, &answer);
        self.drain();
        request.decode().unwrap()
    }

    #[track_caller]
    fn acknowledge(&mut self, answer: ShareAcknowledgeResponse) -> messages::ShareAcknowledgeRequest {
        let (connection, request) = self.requests.pop_front().expect("a request");
        self.respond(connection, &request, &answer);
        self.drain();
        request.decode().unwrap()
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

    /// As the handle does it: the offsets of the next delivery.
    fn take(&mut self) -> Option<Vec<i64>> {
        let (delivery, has_room) = self.deliveries.lock().take(self.now);
        let batch = delivery.map(|delivery| {
            ShareBatch::open(delivery, &mut self.ledger, &Limits::DEFAULT).expect("whole records")
        });
        if has_room {
            self.command(Command::Room);
        }
        batch.map(|batch| batch.iter().map(|shared| shared.record.offset).collect())
    }

    fn say(&mut self, offset: i64, kind: AcknowledgeType) {
        self.ledger.acknowledge(&TopicPartition::new("t", 0), offset, kind).unwrap();
    }

    /// Hands over what was said, and waits for what becomes of it.
    fn commit(&mut self) -> Arc<Mutex<Option<Result<Vec<AcknowledgementResult>>>>> {
        let said = self.ledger.take_said();
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        self.command(Command::Commit(said, Reply::new(move |result| *slot.lock().unwrap() = Some(result))));
        answer
    }
}

fn versions() -> ApiVersionsResponse {
    let keys = [
        (ApiKey::Metadata, 0, 13),
        (ApiKey::ApiVersions, 0, 4),
        (ApiKey::FindCoordinator, 0, 6),
        (ApiKey::ShareGroupHeartbeat, 1, 1),
        (ApiKey::ShareFetch, 1, 1),
        (ApiKey::ShareAcknowledge, 1, 1),
    ];
    let keys = keys.map(|(key, min, max)| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.to_vec())
}

fn coordinator() -> FindCoordinatorResponse {
    let found = Coordinator::default()
        .with_key("g".into())
        .with_node_id(messages::BrokerId(1))
        .with_host("h".into())
        .with_port(9001);
    FindCoordinatorResponse::default().with_coordinators(vec![found])
}

fn metadata(partitions: i32) -> MetadataResponse {
    let host = StrBytes::from_static_str("h");
    let node = messages::BrokerId(1);
    let broker = MetadataResponseBroker::default().with_node_id(node).with_host(host).with_port(9001);
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(1)
    };
    let topic = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_static_str("t"))))
        .with_topic_id(uuid::Uuid::from_bytes(ID))
        .with_partitions((0..partitions).map(partition).collect());
    MetadataResponse::default().with_topics(vec![topic]).with_brokers(vec![broker]).with_controller_id(node)
}

fn heartbeat_answer(epoch: i32, assigned: &[i32]) -> ShareGroupHeartbeatResponse {
    let topic = TopicPartitions::default()
        .with_topic_id(uuid::Uuid::from_bytes(ID))
        .with_partitions(assigned.to_vec());
    let assignment = Assignment::default().with_topic_partitions(vec![topic]);
    ShareGroupHeartbeatResponse::default()
        .with_member_epoch(if epoch < 0 { epoch } else { 1 })
        .with_heartbeat_interval_ms(5000)
        .with_assignment((epoch >= 0).then_some(assignment))
}

/// A batch of `count` records from `base` on.
fn set(base: i64, count: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::default(), 10_000);
    for index in 0..count {
        builder.append(index as i64, None, Some(b"value"), &[]).unwrap();
    }
    let mut bytes = builder.seal().to_bytes(None, -1, false).to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes
}

fn fetched(records: &[u8], acquired: &[(i64, i64, i16)]) -> ShareFetchResponse {
    let acquired = acquired.iter().map(|(first, last, count)| {
        AcquiredRecords::default()
            .with_first_offset(*first)
            .with_last_offset(*last)
            .with_delivery_count(*count)
    });
    let partition = PartitionData::default()
        .with_records(Some(Bytes::copy_from_slice(records)))
        .with_acquired_records(acquired.collect());
    let topic = ShareFetchableTopicResponse::default()
        .with_topic_id(uuid::Uuid::from_bytes(ID))
        .with_partitions(vec![partition]);
    ShareFetchResponse::default().with_acquisition_lock_timeout_ms(30_000).with_responses(vec![topic])
}

fn acknowledged(error: Option<ErrorCode>) -> ShareAcknowledgeResponse {
    let partition = Acknowledged::default().with_error_code(error.map_or(0, ErrorCode::code));
    let topic = ShareAcknowledgeTopicResponse::default()
        .with_topic_id(uuid::Uuid::from_bytes(ID))
        .with_partitions(vec![partition]);
    ShareAcknowledgeResponse::default().with_responses(vec![topic])
}

fn nothing() -> ShareFetchResponse {
    ShareFetchResponse::default().with_acquisition_lock_timeout_ms(30_000)
}

/// First and last offset and types of what a request acknowledges.
fn said(batches: &[messages::share_acknowledge_request::AcknowledgementBatch]) -> Vec<(i64, i64, Vec<i8>)> {
    let said = batches.iter().map(|b| (b.first_offset, b.last_offset, b.acknowledge_types.clone()));
    said.collect()
}

#[test]
fn the_next_fetch_goes_ahead_of_the_application_and_does_not_wait_in_the_broker() {
    let mut world = World::with_records();
    let ahead = world.fetch(nothing());
    assert_eq!((ahead.share_session_epoch, ahead.max_wait_ms, ahead.topics.len()), (1, 0, 0));
    world.pass(SECOND);
    assert!(world.requests.is_empty(), "there was nothing, and the application does not wait");
    world.command(Command::Want(None));
    let waiting = world.fetch(nothing());
    assert_eq!((waiting.share_session_epoch, waiting.max_wait_ms), (2, 500));
    assert_eq!(world.requests.len(), 1, "it still waits");
}

#[test]
fn acknowledgements_ride_along_or_go_by_themselves_when_nothing_is_fetched() {
    let mut world = World::with_records();
    world.fetch(fetched(&set(5, 2), &[(5, 6, 1)]));
    // More is here than the application has taken: nothing is fetched.
    (0..5).for_each(|offset| world.say(offset, AcknowledgeType::Accept));
    let said_now = world.ledger.take_said();
    world.command(Command::Acknowledge(said_now));
    assert!(world.requests.is_empty());
    world.pass(SECOND);
    let alone = world.acknowledge(acknowledged(None));
    assert_eq!(alone.share_session_epoch, 2);
    assert_eq!(said(&alone.topics[0].partitions[0].acknowledgement_batches), [(0, 4, vec![1])]);
    assert_eq!(world.take(), Some(vec![5, 6]));
    let fetch = world.fetch(nothing());
    assert_eq!(fetch.share_session_epoch, 3);
    world.say(5, AcknowledgeType::Release);
    world.say(6, AcknowledgeType::Reject);
    let said_now = world.ledger.take_said();
    world.command(Command::Want(None));
    world.fetch(nothing());
    world.command(Command::Acknowledge(said_now));
    world.fetch(nothing());
    let along = world.fetch(nothing());
    let batches = &along.topics[0].partitions[0].acknowledgement_batches;
    let batches: Vec<_> = batches.iter().map(|b| (b.first_offset, b.acknowledge_types.clone())).collect();
    assert_eq!(batches, [(5, vec![2]), (6, vec![3])]);
}

#[test]
fn a_commit_hears_what_becomes_of_each_partition() {
    let mut world = World::with_records();
    world.fetch(nothing());
    world.say(2, AcknowledgeType::Accept);
    let answer = world.commit();
    world.acknowledge(acknowledged(Some(ErrorCode::INVALID_RECORD_STATE)));
    let results = answer.lock().unwrap().take().unwrap().unwrap();
    assert_eq!((results.len(), results[0].offsets[0].clone()), (1, 2..=2));
    let error = results[0].result.as_ref().unwrap_err();
    assert!(error.to_string().contains("lock had ended"), "{error}");
    assert!(world.commit().lock().unwrap().take().unwrap().unwrap().is_empty(), "nothing was said since");
    let mut figures = Vec::new();
    world.engine.role().measure(world.now, &mut |metric| figures.push((metric.name, metric.value)));
    for (name, value) in [
        ("fetch-total", 2),
        ("records-consumed-total", 5),
        ("acknowledgements-send-total", 1),
        ("acknowledgements-error-total", 1),
    ] {
        assert!(figures.contains(&(name, crate::metrics::Value::Total(value))), "{figures:?}");
    }
}

#[test]
fn with_the_session_its_locks_are_gone() {
    let mut world = World::with_records();
    world.fetch(fetched(&set(5, 2), &[(5, 6, 1)]));
    world.say(0, AcknowledgeType::Accept);
    let answer = world.commit();
    let lost = ErrorCode::SHARE_SESSION_NOT_FOUND;
    world.acknowledge(ShareAcknowledgeResponse::default().with_error_code(lost.code()));
    let results = answer.lock().unwrap().take().unwrap().unwrap();
    assert_eq!(results[0].result.as_ref().unwrap_err().code(), Some(lost));
    assert_eq!(world.take(), None, "somebody else will get them");
    // What is said now has no session, either.
    world.say(1, AcknowledgeType::Accept);
    let answer = world.commit();
    let results = answer.lock().unwrap().take().unwrap().unwrap();
    assert_eq!(results[0].result.as_ref().unwrap_err().code(), Some(lost));
    world.command(Command::Want(None));
    world.pass(SECOND);
    let fresh = world.fetch(nothing());
    assert_eq!((fresh.share_session_epoch, fresh.topics[0].partitions.len()), (0, 1));
}

#[test]
fn a_lost_answer_leaves_the_fate_of_acknowledgements_open() {
    let mut world = World::with_records();
    world.fetch(nothing());
    world.say(0, AcknowledgeType::Accept);
    let answer = world.commit();
    let (connection, _) = world.requests.pop_front().unwrap();
    let now = world.now;
    world.engine.handle_disconnected(now, connection, Error::new(ErrorKind::Network, "reset"));
    world.drain();
    let results = answer.lock().unwrap().take().unwrap().unwrap();
    let error = results[0].result.as_ref().unwrap_err();
    assert!(error.possibly_written() && error.kind() == ErrorKind::Network, "{error}");
}

#[test]
fn records_whose_lock_has_ended_are_not_handed_out() {
    let mut world = World::new();
    world.fetch(fetched(&set(0, 5), &[(0, 4, 1)]));
    world.pass(31 * SECOND);
    assert_eq!(world.take(), None);
    assert_eq!(world.requests.len(), 1, "there is room for others");
}

#[test]
fn offsets_without_a_record_and_records_that_cannot_be_read_are_told_by_themselves() {
    let mut world = World::new();
    // Compaction has taken the end: 5 to 7 were acquired, and there is no batch for them.
    world.fetch(fetched(&set(0, 5), &[(0, 4, 1), (5, 7, 1)]));
    assert_eq!(world.take().map(|offsets| offsets.len()), Some(5));
    let fetch = world.fetch(nothing());
    let batches = &fetch.topics[0].partitions[0].acknowledgement_batches;
    assert_eq!((batches[0].first_offset, batches[0].last_offset, batches[0].acknowledge_types[0]), (5, 7, 0));
    // A set that begins with an impossible length.
    world.command(Command::Want(None));
    let mut broken = set(8, 1);
    broken[8..12].copy_from_slice(&[0xff; 4]);
    world.fetch(fetched(&broken, &[(8, 8, 1)]));
    assert_eq!(world.take(), None);
    let error = world.deliveries.lock().take_error().unwrap();
    assert_eq!(error.kind(), ErrorKind::CorruptRecords);
    let fetch = world.fetch(nothing());
    let batches = &fetch.topics[0].partitions[0].acknowledgement_batches;
    assert_eq!((batches[0].first_offset, batches[0].acknowledge_types[0]), (8, 2));
}

/// What no broker sends: entries for a partition that was not asked for, for no topic that is known, twice the same,
/// and offsets that cannot be.
#[test]
fn entries_of_an_answer_that_make_no_sense_are_passed_over() {
    let mut world = World::new();
    let good = fetched(&set(0, 5), &[(0, 4, 1)]).responses.remove(0);
    let of = |index| good.partitions[0].clone().with_partition_index(index);
    let nobody = uuid::Uuid::from_bytes([9; 16]);
    let topics = vec![
        good.clone().with_topic_id(nobody),
        good.clone().with_partitions(vec![of(1), of(-1), of(i32::MAX), of(0), of(0)]),
        good.clone(),
    ];
    world.fetch(fetched(&[], &[]).with_responses(topics));
    assert_eq!((world.take(), world.take()), (Some(vec![0, 1, 2, 3, 4]), None));
    (0..5).for_each(|offset| world.say(offset, AcknowledgeType::Accept));
    let answer = world.commit();
    let wrong = [(7, 6, 1), (-5, -1, 1), (6, 6, 2), (8, i64::MAX, 1), (9, 9, 1), (i64::MAX, i64::MAX, 1)];
    let told = fetched(&set(5, 2), &[&[(5, 6, 1)], &wrong[..]].concat()).responses.remove(0);
    let told = told.clone().with_partitions(vec![told.partitions[0].clone(), of(1)]);
    assert_eq!(said_in(&world.fetch(fetched(&[], &[]).with_responses(vec![told]))), []);
    assert_eq!(world.take(), Some(vec![5, 6]));
    let request = world.acknowledge(acknowledged(None));
    let told = said(&request.topics[0].partitions[0].acknowledgement_batches);
    assert_eq!(told, [(0, 4, vec![1]), (8, i64::MAX, vec![0])]);
    assert!(answer.lock().unwrap().take().is_some());
}

#[test]
fn an_answer_about_others_leaves_the_fate_of_acknowledgements_open() {
    let other = || acknowledged(None).responses.remove(0);
    let topics = [
        Vec::new(),
        vec![other().with_topic_id(uuid::Uuid::from_bytes([9; 16]))],
        vec![other().with_partitions(vec![Acknowledged::default().with_partition_index(1)])],
    ];
    for topics in topics {
        let mut world = World::with_records();
        world.fetch(nothing());
        world.say(0, AcknowledgeType::Accept);
        let answer = world.commit();
        world.acknowledge(ShareAcknowledgeResponse::default().with_responses(topics));
        let results = answer.lock().unwrap().take().unwrap().unwrap();
        let error = results[0].result.as_ref().unwrap_err();
        assert!(error.possibly_written() && error.kind() == ErrorKind::Protocol, "{error}");
        world.command(Command::Want(None));
        assert_eq!(world.fetch(nothing()).share_session_epoch, 3, "the session goes on");
    }
}

#[test]
fn renewals_need_a_broker_that_has_them() {
    let mut world = World::with_records();
    world.fetch(nothing());
    world.say(0, AcknowledgeType::Renew);
    let answer = world.commit();
    let results = answer.lock().unwrap().take().unwrap().unwrap();
    assert_eq!(results[0].result.as_ref().unwrap_err().kind(), ErrorKind::Unsupported);
    world.say(0, AcknowledgeType::Accept);
    world.commit();
    assert_eq!(world.acknowledge(acknowledged(None)).share_session_epoch, 2, "the session goes on");
}

#[test]
fn closing_tells_what_was_said_ends_the_session_and_leaves() {
    let mut world = World::with_records();
    world.fetch(nothing());
    world.say(3, AcknowledgeType::Accept);
    let said_now = world.ledger.take_said();
    world.command(Command::Acknowledge(said_now));
    let closed = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&closed);
    let deadline = world.now + 10 * SECOND;
    let reply = Reply::new(move |result| *slot.lock().unwrap() = Some(result));
    world.command(Command::Close(deadline, reply));
    let last = world.acknowledge(acknowledged(None));
    assert_eq!((last.share_session_epoch, last.topics.len()), (-1, 1));
    assert_eq!(world.heartbeats.last().unwrap().member_epoch, -1);
    assert!(closed.lock().unwrap().take().unwrap().is_ok() && world.engine.is_closed());
}

#[test]
fn closing_is_bounded_by_its_deadline() {
    let mut world = World::with_records();
    let closed = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&closed);
    let reply = Reply::new(move |result| *slot.lock().unwrap() = Some(result));
    let deadline = world.now + 3 * SECOND;
    world.command(Command::Close(deadline, reply));
    world.pass(2 * SECOND);
    assert!(closed.lock().unwrap().is_none(), "the fetch is not answered");
    world.pass(2 * SECOND);
    let error = closed.lock().unwrap().take().unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && world.engine.is_closed());
}

#[test]
fn a_waiting_application_is_woken_when_its_time_is_up() {
    #[derive(Default)]
    struct Count(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let mut world = World::with_records();
    world.fetch(nothing());
    let count = Arc::new(Count::default());
    world.deliveries.lock().register(&Waker::from(Arc::clone(&count)));
    let until = world.now + 2 * SECOND;
    world.command(Command::Want(Some(until)));
    world.pass(2 * SECOND);
    assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 1);
}

/// Partitions that a fetch names, and those that it has forgotten.
fn named(fetch: &messages::ShareFetchRequest) -> (Vec<i32>, Vec<i32>) {
    let named = fetch.topics.iter().flat_map(|topic| &topic.partitions).map(|it| it.partition_index);
    let forgotten = fetch.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone());
    (named.collect(), forgotten.collect())
}

#[test]
fn who_does_not_poll_leaves_and_joins_again_with_the_next_poll() {
    let mut world = World::with_records();
    world.fetch(nothing());
    world.pass(90 * SECOND);
    world.command(Command::Want(None));
    world.fetch(fetched(&set(5, 2), &[(5, 6, 1)]));
    assert!(world.heartbeats.iter().all(|heartbeat| heartbeat.member_epoch >= 0));
    world.pass(10 * SECOND);
    assert_eq!(world.heartbeats.last().unwrap().member_epoch, -1);
    // What it has not seen goes back at once, and it asks for no more.
    let last = world.fetch(nothing());
    assert_eq!(said_in(&last), [(5, 6, vec![2])]);
    assert_eq!((named(&last), world.take()), ((vec![0], vec![0]), None));
    // What it has seen is its own as long as the lock holds.
    world.say(0, AcknowledgeType::Accept);
    let answer = world.commit();
    assert_eq!(world.acknowledge(acknowledged(None)).share_session_epoch, 4);
    let results = answer.lock().unwrap().take().unwrap().unwrap();
    assert_eq!((results.len(), results[0].count()), (1, 1), "of what was not seen nothing is told");
    let heartbeats = world.heartbeats.len();
    world.pass(60 * SECOND);
    assert_eq!((world.heartbeats.len(), world.requests.len()), (heartbeats, 0), "it is silent");
    assert!(world.deliveries.lock().polled(true), "the machine wants to know");
    world.command(Command::Polled);
    let join = world.heartbeats.last().unwrap();
    assert_eq!((join.member_epoch, join.subscribed_topic_names.as_ref().unwrap().len()), (0, 1));
    assert_eq!(join.member_id, world.heartbeats[0].member_id);
    world.command(Command::Want(None));
    let fetch = world.fetch(nothing());
    assert_eq!((fetch.share_session_epoch, named(&fetch).0), (5, vec![0]));
    world.pass(150 * SECOND);
    assert!(world.heartbeats.last().unwrap().member_epoch > 0, "whoever waits in a poll is not stuck");
}

fn said_in(fetch: &messages::ShareFetchRequest) -> Vec<(i64, i64, Vec<i8>)> {
    let partitions = fetch.topics.iter().flat_map(|topic| &topic.partitions);
    let batches = partitions.flat_map(|partition| &partition.acknowledgement_batches);
    batches.map(|b| (b.first_offset, b.last_offset, b.acknowledge_types.clone())).collect()
}

#[test]
fn who_subscribes_to_nothing_leaves() {
    let mut world = World::with_records();
    world.fetch(fetched(&set(5, 2), &[(5, 6, 1)]));
    world.command(Command::Subscribe(BTreeSet::new()));
    assert_eq!(world.heartbeats.last().unwrap().member_epoch, -1);
    let last = world.fetch(nothing());
    assert_eq!((named(&last).1, said_in(&last)), (vec![0], vec![(5, 6, vec![2])]));
    world.command(Command::Subscribe(["t".into()].into()));
    assert_eq!(world.heartbeats.last().unwrap().member_epoch, 0);
}

#[test]
fn what_a_broker_cannot_take_now_is_told_again() {
    let mut world = World::with_records();
    world.fetch(nothing());
    world.say(0, AcknowledgeType::Accept);
    let answer = world.commit();
    for epoch in 2..5 {
        let request = world.acknowledge(acknowledged(Some(ErrorCode::COORDINATOR_NOT_AVAILABLE)));
        assert_eq!(request.share_session_epoch, epoch);
        assert_eq!(said(&request.topics[0].partitions[0].acknowledgement_batches), [(0, 0, vec![1])]);
        assert!(answer.lock().unwrap().is_none() && world.requests.is_empty(), "not at once");
        world.pass(2 * SECOND);
    }
    world.acknowledge(acknowledged(None));
    let results = answer.lock().unwrap().take().unwrap().unwrap();
    assert_eq!((results.len(), results[0].offsets.clone()), (1, vec![0..=0]));
    assert!(results[0].result.is_ok());
}

#[test]
fn what_a_broker_never_takes_is_given_up() {
    let mut world = World::with_records();
    world.fetch(nothing());
    world.deliveries.lock().want_results();
    world.say(0, AcknowledgeType::Accept);
    let said = world.ledger.take_said();
    world.command(Command::Acknowledge(said));
    let begin = world.now;
    loop {
        world.pass(SECOND);
        if !world.requests.is_empty() {
            world.acknowledge(acknowledged(Some(ErrorCode::COORDINATOR_NOT_AVAILABLE)));
        }
        let results = world.deliveries.lock().take_results();
        if let Some(result) = results.front() {
            let code = result.result.as_ref().unwrap_err().code();
            assert_eq!(code, Some(ErrorCode::COORDINATOR_NOT_AVAILABLE));
            break;
        }
        assert!(world.now < begin + 70 * SECOND, "default.api.timeout.ms is over");
    }
    assert!(world.now >= begin + 60 * SECOND);
}

#[test]
fn with_another_leader_what_waits_here_is_dropped_and_a_session_opened_there() {
    let mut world = World::with_records();
    world.fetch(fetched(&set(5, 2), &[(5, 6, 1)]));
    world.say(0, AcknowledgeType::Accept);
    let answer = world.commit();
    let moved = Acknowledged::default()
        .with_error_code(ErrorCode::NOT_LEADER_OR_FOLLOWER.code())
        .with_current_leader(LeaderIdAndEpoch::default().with_leader_id(2).with_leader_epoch(2));
    let topic = ShareAcknowledgeTopicResponse::default()
        .with_topic_id(uuid::Uuid::from_bytes(ID))
        .with_partitions(vec![moved]);
    let endpoint =
        NodeEndpoint::default().with_node_id(messages::BrokerId(2)).with_host("h2".into()).with_port(9002);
    let old = world.requests[0].0;
    world.acknowledge(
        ShareAcknowledgeResponse::default().with_responses(vec![topic]).with_node_endpoints(vec![endpoint]),
    );
    let results = answer.lock().unwrap().take().unwrap().unwrap();
    let code = results[0].result.as_ref().unwrap_err().code();
    assert_eq!(code, Some(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert_eq!(world.take(), None, "the new leader hands it out again");
    world.command(Command::Want(None));
    let mut seen = [(); 2].map(|()| {
        let is_old = world.requests[0].0 == old;
        let fetch = world.fetch(nothing());
        (is_old, fetch.share_session_epoch, named(&fetch))
    });
    seen.sort();
    assert_eq!(seen, [(false, 0, (vec![0], vec![])), (true, 3, (vec![], vec![0]))]);
}

#[test]
fn what_is_said_of_a_partition_that_is_read_no_more_does_not_bring_it_back() {
    let mut world = World::with_records();
    world.assigned = vec![1];
    world.fetch(nothing());
    world.pass(5 * SECOND);
    world.command(Command::Want(None));
    assert_eq!(named(&world.fetch(nothing())), (vec![1], vec![0]));
    world.say(0, AcknowledgeType::Accept);
    let said = world.ledger.take_said();
    world.command(Command::Acknowledge(said));
    world.command(Command::Want(None));
    // It still waits for records; the next one takes the word along.
    world.fetch(nothing());
    assert_eq!(named(&world.fetch(nothing())), (vec![0], vec![0]));
}

/// A topic that must not be read any more, say: the records of others come as fast as before.
#[test]
fn a_partition_that_is_refused_holds_up_no_other() {
    let mut world = World::new();
    // One that cannot be is no partition that is looked for.
    world.assigned = vec![-1, 0, 1];
    world.fetch(nothing());
    let asked = world.metadata_requests;
    world.pass(5 * SECOND);
    assert_eq!(world.metadata_requests, asked);
    world.command(Command::Want(None));
    for base in [0, 5, 10] {
        let mut answer = fetched(&set(base, 5), &[(base, base + 4, 1)]);
        let refused = PartitionData::default()
            .with_partition_index(1)
            .with_error_code(ErrorCode::UNKNOWN_SERVER_ERROR.code());
        answer.responses[0].partitions.push(refused);
        world.fetch(answer);
        assert_eq!(world.take().map(|offsets| offsets[0]), Some(base));
    }
    let mut answer = fetched(&[], &[]);
    answer.responses[0].partitions[0].error_code = ErrorCode::UNKNOWN_SERVER_ERROR.code();
    world.command(Command::Want(None));
    world.fetch(answer);
    assert!(world.requests.is_empty(), "where there is nothing else, time passes in between");
    world.pass(SECOND);
    assert_eq!(world.requests.len(), 1);
}

#[test]
fn commits_that_wait_are_bounded() {
    let mut world = World::with_records();
    world.fetch(nothing());
    world.say(0, AcknowledgeType::Accept);
    let answers: Vec<_> = (0..COMMITS_MAX).map(|_| world.commit()).collect();
    let error = world.commit().lock().unwrap().take().unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("10000"), "{error}");
    world.acknowledge(acknowledged(None));
    assert!(answers.iter().all(|answer| answer.lock().unwrap().as_ref().is_some_and(Result::is_ok)));
}

#[test]
fn a_partition_that_the_coordinator_knew_first_is_asked_for_until_it_is_known() {
    let mut world = World::with_records();
    world.fetch(nothing());
    let before = world.metadata_requests;
    world.assigned = vec![7];
    world.pass(7 * SECOND);
    assert!(world.metadata_requests > before + 1);
    assert_eq!(named(&world.fetch(nothing())), (vec![], vec![0]));
    world.partitions = 8;
    world.pass(2 * SECOND);
    let asked = world.metadata_requests;
    world.command(Command::Want(None));
    assert_eq!(named(&world.fetch(nothing())), (vec![7], vec![]));
    world.pass(20 * SECOND);
    assert_eq!(world.metadata_requests, asked, "all is known");
}

#[test]
fn a_session_that_the_broker_does_not_go_on_with_is_opened_anew() {
    for code in [
        ErrorCode::SHARE_SESSION_NOT_FOUND,
        ErrorCode::INVALID_SHARE_SESSION_EPOCH,
        ErrorCode::SHARE_SESSION_LIMIT_REACHED,
    ] {
        let mut world = World::with_records();
        world.command(Command::Want(None));
        world.fetch(ShareFetchResponse::default().with_error_code(code.code()));
        assert!(world.requests.is_empty(), "not at once");
        world.pass(2 * SECOND);
        let fresh = world.fetch(fetched(&set(0, 5), &[(0, 4, 2)]));
        assert_eq!((fresh.share_session_epoch, named(&fresh).0), (0, vec![0]), "{code:?}");
        assert!(world.deliveries.lock().take_error().is_none(), "{code:?} is between client and broker");
        assert_eq!(world.take(), Some(vec![0, 1, 2, 3, 4]));
    }
}

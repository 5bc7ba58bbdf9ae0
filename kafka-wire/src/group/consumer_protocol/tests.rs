//! The member in an engine, against a scripted coordinator and a clock that the test moves.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::*;
use crate::config::ClientConfig;
use crate::engine::{ConnectionId, Engine};
use crate::error::ErrorCode;
use crate::group::harness::{Harness, coordinator, next_event};
use crate::protocol::header::{ReceivedRequest, encode_response};
use crate::protocol::messages::api_versions_response::ApiVersion;
use crate::protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use crate::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, Encodable, MetadataRequest, MetadataResponse, StrBytes, TopicName,
};

const SECOND: Duration = Duration::from_secs(1);
/// Topics `a` and `b` have the ids 1 and 2; `b` is known to the brokers alone.
const TOPICS: [(&str, u8); 2] = [("a", 1), ("b", 2)];

struct World {
    now: Instant,
    engine: Engine<Harness<ConsumerMember>>,
    /// Heartbeats that the test has not answered.
    beats: VecDeque<(ConnectionId, ReceivedRequest)>,
    version: i16,
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn new(version: i16, change: impl FnOnce(&mut GroupConfig)) -> Self {
        let now = Instant::now();
        let mut config = GroupConfig::default();
        change(&mut config);
        let member = ConsumerMember::new(now, "g".into(), config, Some("r1".into()));
        let client = ClientConfig::bootstrap("h:9001").unwrap();
        let engine = Engine::new(now, &client, 7, Harness(member));
        let mut world = Self { now, engine, beats: VecDeque::new(), version };
        world.ask(|_, now, core| core.watch_topics(now, ["a".into()]));
        world
    }

    /// A member of epoch 1 that reads partitions 0 and 1 of `a`, and has said so.
    fn joined(change: impl FnOnce(&mut GroupConfig)) -> Self {
        let mut world = Self::new(1, change);
        world.subscribe(&["a"], None);
        world.beat(answer(1, Some(&[(1, &[0, 1])])));
        assert_eq!(world.event(), "assigned [a-0, a-1]");
        assert_eq!(world.beat(answer(1, None)).topic_partitions.unwrap()[0].partitions, [0, 1]);
        world
    }

    fn ask(&mut self, ask: impl FnOnce(&mut ConsumerMember, Instant, &mut Core) + 'static) {
        self.engine.handle_command(self.now, Box::new(ask));
        self.drain();
    }

    fn subscribe(&mut self, topics: &[&str], pattern: Option<&str>) {
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        let subscription = Subscription { topics, pattern: pattern.map(Arc::from) };
        self.ask(|member, now, core| member.subscribe(now, subscription, core));
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
            ApiKey::ApiVersions => self.respond(connection, &request, &versions(self.version)),
            ApiKey::FindCoordinator => self.respond(connection, &request, &coordinator()),
            ApiKey::Metadata => {
                let asked: MetadataRequest = request.clone().decode().unwrap();
                self.respond(connection, &request, &metadata(&asked));
            }
            _ => self.beats.push_back((connection, request)),
        }
    }

    fn respond(&mut self, to: ConnectionId, request: &ReceivedRequest, answer: &impl Encodable) {
        let chunks = encode_response(request.api, request.version, request.correlation_id, answer).unwrap();
        let mut bytes = BytesMut::from(&chunks.concat()[..]);
        self.engine.handle_bytes(self.now, to, &mut bytes);
    }

    /// The heartbeat that is waiting to be answered.
    #[track_caller]
    fn heard(&mut self) -> (ConnectionId, ReceivedRequest, ConsumerGroupHeartbeatRequest) {
        let (connection, request) = self.beats.pop_front().expect("no heartbeat");
        let heartbeat = request.clone().decode().unwrap();
        (connection, request, heartbeat)
    }

    /// Answers it, and gives it.
    #[track_caller]
    fn beat(&mut self, answer: ConsumerGroupHeartbeatResponse) -> ConsumerGroupHeartbeatRequest {
        let (connection, request, heartbeat) = self.heard();
        self.respond(connection, &request, &answer);
        self.drain();
        heartbeat
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

    fn event(&mut self) -> String {
        next_event(|ask| self.ask(ask))
    }

    fn member(&self) -> &ConsumerMember {
        &self.engine.role().0
    }

    fn owned(&self) -> String {
        format!("{:?}", self.member().owned())
    }

    fn poll(&mut self) {
        self.ask(|member, now, core| {
            member.polled(now);
            member.drive(now, core);
        });
    }
}

fn versions(heartbeat: i16) -> ApiVersionsResponse {
    let keys = [
        (ApiKey::Metadata, 13),
        (ApiKey::ApiVersions, 4),
        (ApiKey::FindCoordinator, 6),
        (ApiKey::ConsumerGroupHeartbeat, heartbeat),
    ];
    let keys = keys.into_iter().filter(|(_, max)| *max >= 0);
    let keys = keys.map(|(key, max)| ApiVersion::default().with_api_key(key as i16).with_max_version(max));
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

fn metadata(asked: &MetadataRequest) -> MetadataResponse {
    let host = StrBytes::from_static_str("h");
    let broker = MetadataResponseBroker::default().with_node_id(BrokerId(1)).with_host(host).with_port(9001);
    let wanted = asked.topics.iter().flatten();
    let topics = wanted.map(|topic| {
        let by_name = topic.name.as_ref().map(|name| name.as_str());
        let is_it = |(name, id): &&(&str, u8)| {
            by_name.map_or_else(|| topic.topic_id.into_bytes() == [*id; 16], |wanted| wanted == *name)
        };
        let (name, id) = TOPICS.iter().find(is_it).expect("a topic that there is");
        let partitions = (0..4).map(|index| {
            MetadataResponsePartition::default().with_partition_index(index).with_leader_id(BrokerId(1))
        });
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str(name))))
            .with_topic_id(uuid::Uuid::from_bytes([*id; 16]))
            .with_partitions(partitions.collect())
    });
    MetadataResponse::default()
        .with_topics(topics.collect())
        .with_brokers(vec![broker])
        .with_controller_id(BrokerId(1))
}

fn answer(epoch: i32, assignment: Option<&[(u8, &[i32])]>) -> ConsumerGroupHeartbeatResponse {
    let assignment = assignment.map(|topics| {
        let topics = topics.iter().map(|(id, partitions)| {
            TopicPartitions::default()
                .with_topic_id(uuid::Uuid::from_bytes([*id; 16]))
                .with_partitions(partitions.to_vec())
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_member_epoch(epoch)
        .with_heartbeat_interval_ms(5000)
        .with_assignment(assignment)
}

fn refusal(code: ErrorCode) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default().with_error_code(code.code())
}

#[test]
fn partitions_that_cannot_be_are_not_assigned() {
    let mut world = World::new(1, |_| {});
    world.subscribe(&["a"], None);
    world.beat(answer(1, Some(&[(1, &[-1, 0, 0, i32::MIN]), (1, &[1])])));
    assert_eq!(world.event(), "assigned [a-0, a-1]");
}

#[test]
fn it_joins_with_everything_and_then_tells_only_what_changes() {
    let mut world = World::new(1, |config| config.remote_assignor = Some("uniform".into()));
    assert!(world.beats.is_empty(), "nothing to join for");
    world.subscribe(&["a"], None);
    assert_eq!(world.member().identity(), None);
    let join = world.beat(answer(3, Some(&[(1, &[2])])));
    assert_eq!((join.group_id.as_str(), join.member_epoch, join.member_id.len()), ("g", 0, 36));
    assert_eq!((join.rack_id.as_deref(), join.server_assignor.as_deref()), (Some("r1"), Some("uniform")));
    assert_eq!((join.rebalance_timeout_ms, join.topic_partitions), (300_000, Some(Vec::new())));
    assert_eq!(join.subscribed_topic_names.unwrap().len(), 1);
    assert_eq!(world.event(), "assigned [a-2]");
    let identity = world.member().identity().unwrap();
    assert_eq!((&*identity.member_id, identity.generation), (join.member_id.as_str(), 3));
    let acknowledged = world.beat(answer(3, None));
    assert_eq!((acknowledged.member_epoch, acknowledged.rebalance_timeout_ms), (3, -1));
    assert_eq!((acknowledged.rack_id, acknowledged.subscribed_topic_names), (None, None));
    assert_eq!(acknowledged.topic_partitions.unwrap()[0].partitions, [2]);
    world.pass(4 * SECOND);
    assert!(world.beats.is_empty(), "the coordinator's interval is 5 s");
    world.pass(SECOND);
    let idle = world.beat(answer(3, None));
    assert_eq!((idle.topic_partitions, idle.subscribed_topic_names), (None, None));
    world.subscribe(&["a", "b"], None);
    let changed = world.beat(answer(4, None));
    assert_eq!(changed.subscribed_topic_names.unwrap().len(), 2);
    assert_eq!(world.member().identity().unwrap().generation, 4);
}

#[test]
fn what_goes_is_told_only_when_the_application_has_let_go_of_it() {
    let mut world = World::joined(|_| {});
    world.pass(5 * SECOND);
    world.beat(answer(2, Some(&[(1, &[1, 3])])));
    assert_eq!(world.event(), "revoke [a-0]");
    assert_eq!(world.owned(), "{a-0, a-1}", "it may still be committed");
    world.pass(5 * SECOND);
    assert_eq!(world.beat(answer(2, None)).topic_partitions, None, "it is still held");
    assert_eq!(world.event(), "none");
    world.ask(|member, now, core| member.revoked(now, core));
    assert_eq!(world.event(), "assigned [a-3]");
    assert_eq!(world.owned(), "{a-1, a-3}");
    assert_eq!(world.beat(answer(2, None)).topic_partitions.unwrap()[0].partitions, [1, 3]);
}

#[test]
fn fenced_it_has_lost_everything_and_joins_again_under_its_id() {
    for code in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID] {
        let mut world = World::joined(|_| {});
        let id = world.member().identity().unwrap().member_id;
        world.pass(5 * SECOND);
        // In the middle of a revocation, too.
        world.beat(answer(2, Some(&[])));
        assert_eq!(world.event(), "revoke [a-0, a-1]");
        world.pass(5 * SECOND);
        world.beat(refusal(code));
        assert_eq!(world.event(), "lost [a-0, a-1]");
        assert_eq!((world.member().identity(), world.owned().as_str()), (None, "{}"));
        world.ask(|member, now, core| member.revoked(now, core));
        world.pass(SECOND);
        let join = world.beat(answer(5, Some(&[(1, &[0])])));
        assert_eq!((join.member_epoch, join.member_id.as_str()), (0, &*id));
        assert_eq!((join.topic_partitions, join.rebalance_timeout_ms), (Some(Vec::new()), 300_000));
        assert_eq!(world.event(), "assigned [a-0]");
    }
}

#[test]
fn topics_of_a_pattern_are_found_by_their_ids() {
    let mut world = World::new(1, |_| {});
    world.subscribe(&[], Some("b.*"));
    let join = world.beat(answer(1, Some(&[(2, &[0, 1])])));
    assert_eq!(join.subscribed_topic_regex.as_deref(), Some("b.*"));
    assert_eq!(join.subscribed_topic_names, Some(Vec::new()));
    world.pass(Duration::from_millis(200));
    assert_eq!(world.event(), "assigned [b-0, b-1]");
    assert!(world.member().watches("b"));
    world.beat(answer(1, None));
    // Another subscription takes it back.
    world.subscribe(&["a"], None);
    assert_eq!(world.beat(answer(2, None)).subscribed_topic_regex.as_deref(), Some(""));
}

#[test]
fn an_older_broker_has_no_patterns_and_one_without_the_protocol_is_named() {
    let mut world = World::new(0, |_| {});
    world.subscribe(&["a"], None);
    world.beat(answer(1, None));
    assert!(world.member().identity().is_some());
    for (version, subscription) in [(0, Some("b.*")), (-1, None)] {
        let mut world = World::new(version, |_| {});
        world.subscribe(&["a"], subscription);
        let failed = world.event();
        assert!(failed.contains("KIP-848") && failed.contains("group.protocol=classic"), "{failed}");
        assert!(world.member().is_gone());
    }
}

#[test]
fn an_application_that_does_not_poll_leaves_and_joins_cleanly_when_it_does() {
    let mut world = World::joined(|config| config.max_poll_interval = 8 * SECOND);
    world.pass(5 * SECOND);
    world.beat(answer(1, None));
    world.pass(3 * SECOND);
    let (connection, request, leave) = world.heard();
    assert_eq!((leave.member_epoch, leave.topic_partitions), (-1, None));
    assert_eq!(world.event(), "lost [a-0, a-1]");
    assert!(world.member().awaits_poll());
    world.poll();
    assert!(world.beats.is_empty(), "the answer to the leave comes first");
    world.respond(connection, &request, &answer(-1, None));
    world.drain();
    let join = world.beat(answer(4, Some(&[(1, &[1])])));
    assert_eq!((join.member_epoch, join.topic_partitions), (0, Some(Vec::new())));
    assert_eq!(world.event(), "assigned [a-1]");
}

#[test]
fn refusals_are_for_the_application_and_the_next_poll_tries_again() {
    for (code, said) in [
        (ErrorCode::UNSUPPORTED_ASSIGNOR, "group.remote.assignor"),
        (ErrorCode::INVALID_REGULAR_EXPRESSION, "RE2/J"),
        (ErrorCode::UNRELEASED_INSTANCE_ID, "group.instance.id"),
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, "READ"),
    ] {
        let mut world = World::new(1, |config| config.instance_id = Some("i".into()));
        world.subscribe(&["a"], None);
        world.beat(refusal(code).with_error_message(Some("because".into())));
        let failed = world.event();
        assert!(failed.contains(said) && failed.contains("because"), "{failed}");
        world.pass(10 * SECOND);
        assert!(world.beats.is_empty() && !world.member().is_gone());
        world.poll();
        world.pass(SECOND);
        assert_eq!(world.beat(answer(1, None)).member_epoch, 0);
    }
}

#[test]
fn a_lost_answer_is_followed_by_everything_at_the_same_epoch() {
    let mut world = World::joined(|_| {});
    world.pass(5 * SECOND);
    world.beat(refusal(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    world.pass(SECOND);
    let full = world.beat(answer(2, None));
    assert_eq!((full.member_epoch, full.rebalance_timeout_ms), (1, 300_000));
    assert_eq!(full.topic_partitions.unwrap()[0].partitions, [0, 1]);
    assert!(full.subscribed_topic_names.is_some());
    assert_eq!(world.owned(), "{a-0, a-1}");
}

#[test]
fn it_leaves_as_it_is_told() {
    use GroupMembershipOperation::{Default, LeaveGroup, RemainInGroup};
    for (instance, operation, epoch) in [
        (None, Default, Some(-1)),
        (None, LeaveGroup, Some(-1)),
        (None, RemainInGroup, None),
        (Some("i"), Default, Some(-2)),
        (Some("i"), LeaveGroup, Some(-1)),
        (Some("i"), RemainInGroup, Some(-2)),
    ] {
        let mut world = World::joined(|config| config.instance_id = instance.map(str::to_owned));
        world.ask(move |member, now, core| member.leave(now, operation, core));
        assert_eq!(world.owned(), "{}");
        assert_eq!(world.member().is_gone(), epoch.is_none());
        if let Some(epoch) = epoch {
            let leave = world.beat(answer(epoch, None));
            assert_eq!((leave.member_epoch, leave.instance_id.as_deref()), (epoch, instance));
        }
        assert!(world.member().is_gone());
        world.pass(60 * SECOND);
        assert!(world.beats.is_empty());
    }
}

#[test]
fn unsubscribed_it_lets_go_of_everything_and_then_leaves() {
    let mut world = World::joined(|_| {});
    world.subscribe(&[], None);
    assert_eq!(world.event(), "revoke [a-0, a-1]");
    world.ask(|member, now, core| member.revoked(now, core));
    // News of the empty subscription may have been told in between.
    let mut epochs = Vec::new();
    while !world.beats.is_empty() {
        epochs.push(world.beat(answer(1, None)).member_epoch);
    }
    assert_eq!(epochs.last(), Some(&-1));
    assert!(world.member().identity().is_none() && !world.member().is_gone());
    world.subscribe(&["a"], None);
    assert_eq!(world.beat(answer(1, None)).member_epoch, 0);
}

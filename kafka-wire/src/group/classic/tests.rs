//! The member in an engine, against a scripted coordinator and a clock that the test moves.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::config::ClientConfig;
use crate::engine::{ConnectionId, Engine};
use crate::group::harness::{Harness, coordinator, next_event};
use crate::protocol::header::{ReceivedRequest, encode_response};
use crate::protocol::messages::api_versions_response::ApiVersion;
use crate::protocol::messages::join_group_response::JoinGroupResponseMember;
use crate::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, Encodable, HeartbeatResponse, JoinGroupResponse,
    LeaveGroupResponse, MetadataResponse, StrBytes, SyncGroupResponse, TopicName,
};

const SECOND: Duration = Duration::from_secs(1);
const OK: i16 = 0;

struct World {
    now: Instant,
    engine: Engine<Harness<ClassicMember>>,
    /// Requests about the group that the test has not answered.
    asked: VecDeque<(ConnectionId, ReceivedRequest)>,
    /// How many partitions topic `t` has, and who leads them.
    partitions: i32,
    leader: i32,
    searches: usize,
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    fn new(change: impl FnOnce(&mut GroupConfig)) -> Self {
        let now = Instant::now();
        let mut config = GroupConfig::default();
        change(&mut config);
        let member = ClassicMember::new(now, "g".into(), config, Some("r1".into()));
        let client =
            ClientConfig { metadata_max_age: 2 * SECOND, ..ClientConfig::bootstrap("h:9001").unwrap() };
        let engine = Engine::new(now, &client, 7, Harness(member));
        Self { now, engine, asked: VecDeque::new(), partitions: 4, leader: 1, searches: 0 }
    }

    /// A member of generation 1 that leads the group and has all of `t`.
    fn leading(change: impl FnOnce(&mut GroupConfig)) -> Self {
        let mut world = Self::new(change);
        world.subscribe(&["t"]);
        world.join(1, &["m"]);
        world.sync(&[0, 1, 2, 3]);
        assert_eq!(world.event(), "assigned [t-0, t-1, t-2, t-3]");
        world
    }

    fn ask(&mut self, ask: impl FnOnce(&mut ClassicMember, Instant, &mut Core) + 'static) {
        self.engine.handle_command(self.now, Box::new(ask));
        self.drain();
    }

    fn subscribe(&mut self, topics: &[&str]) {
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        self.ask(|member, now, core| member.subscribe(now, Subscription { topics, pattern: None }, core));
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
            ApiKey::FindCoordinator => {
                self.searches += 1;
                self.respond(connection, &request, &coordinator());
            }
            ApiKey::Metadata => {
                let metadata = self.metadata();
                self.respond(connection, &request, &metadata);
            }
            _ => self.asked.push_back((connection, request)),
        }
    }

    fn metadata(&self) -> MetadataResponse {
        let host = StrBytes::from_static_str("h");
        let broker =
            MetadataResponseBroker::default().with_node_id(BrokerId(1)).with_host(host).with_port(9001);
        let partitions = (0..self.partitions).map(|index| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(self.leader))
                .with_replica_nodes(vec![BrokerId(self.leader)])
        });
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str("t"))))
            .with_topic_id(uuid::Uuid::from_bytes([1; 16]))
            .with_partitions(partitions.collect());
        let topics = if self.partitions > 0 { vec![topic] } else { vec![topic.with_error_code(3)] };
        MetadataResponse::default()
            .with_topics(topics)
            .with_brokers(vec![broker])
            .with_controller_id(BrokerId(1))
    }

    fn respond(&mut self, to: ConnectionId, request: &ReceivedRequest, answer: &impl Encodable) {
        let chunks = encode_response(request.api, request.version, request.correlation_id, answer).unwrap();
        let mut bytes = BytesMut::from(&chunks.concat()[..]);
        self.engine.handle_bytes(self.now, to, &mut bytes);
        self.drain();
    }

    /// The one request that waits to be answered.
    #[track_caller]
    fn next(&mut self, api: ApiKey) -> (ConnectionId, ReceivedRequest) {
        let (connection, request) = self.asked.pop_front().expect("nothing is asked");
        assert_eq!(request.api, api);
        (connection, request)
    }

    /// Answers JoinGroup: the member is `m`, and leads if it is the first.
    #[track_caller]
    fn join(&mut self, generation: i32, members: &[&str]) -> JoinGroupRequest {
        let (connection, request) = self.next(ApiKey::JoinGroup);
        let join: JoinGroupRequest = request.clone().decode().unwrap();
        let chosen = join.protocols[0].clone();
        let named = members.iter().filter(|_| members[0] == "m").map(|member| {
            JoinGroupResponseMember::default()
                .with_member_id(StrBytes::from_string((*member).to_owned()))
                .with_metadata(chosen.metadata.clone())
        });
        let answer = JoinGroupResponse::default()
            .with_generation_id(generation)
            .with_protocol_type(Some("consumer".into()))
            .with_protocol_name(Some(chosen.name.clone()))
            .with_leader(StrBytes::from_string(members[0].to_owned()))
            .with_member_id("m".into())
            .with_members(named.collect());
        self.respond(connection, &request, &answer);
        join
    }

    #[track_caller]
    fn refuse_join(&mut self, code: ErrorCode, member_id: &'static str) -> JoinGroupRequest {
        let (connection, request) = self.next(ApiKey::JoinGroup);
        let answer =
            JoinGroupResponse::default().with_error_code(code.code()).with_member_id(member_id.into());
        // A generation and names are never null where they are not told.
        let answer = answer.with_generation_id(-1).with_protocol_name(Some("".into()));
        self.respond(connection, &request, &answer);
        request.decode().unwrap()
    }

    /// Answers SyncGroup with partitions of `t`.
    #[track_caller]
    fn sync(&mut self, partitions: &[i32]) -> SyncGroupRequest {
        let (connection, request) = self.next(ApiKey::SyncGroup);
        let partitions = partitions.iter().map(|number| TopicPartition::new("t", *number)).collect();
        let bytes = AssignmentData { partitions, user_data: None }.encode().unwrap();
        self.respond(connection, &request, &SyncGroupResponse::default().with_assignment(bytes));
        request.decode().unwrap()
    }

    #[track_caller]
    fn beat(&mut self, code: i16) -> HeartbeatRequest {
        let (connection, request) = self.next(ApiKey::Heartbeat);
        self.respond(connection, &request, &HeartbeatResponse::default().with_error_code(code));
        request.decode().unwrap()
    }

    /// Passes the time to the next heartbeat, and refuses that.
    #[track_caller]
    fn beat_refused(&mut self, code: ErrorCode) {
        self.pass(3 * SECOND);
        self.beat(code.code());
    }

    #[track_caller]
    fn left(&mut self) -> LeaveGroupRequest {
        let (connection, request) = self.next(ApiKey::LeaveGroup);
        self.respond(connection, &request, &LeaveGroupResponse::default());
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

    fn event(&mut self) -> String {
        next_event(|ask| self.ask(ask))
    }

    fn member(&self) -> &ClassicMember {
        &self.engine.role().0
    }

    fn revoked(&mut self) {
        self.ask(|member, now, core| member.revoked(now, core));
    }

    fn poll(&mut self) {
        self.ask(|member, now, core| {
            member.polled(now);
            member.drive(now, core);
        });
    }
}

fn versions() -> ApiVersionsResponse {
    let keys = [
        (ApiKey::Metadata, 13),
        (ApiKey::ApiVersions, 4),
        (ApiKey::FindCoordinator, 6),
        (ApiKey::JoinGroup, 9),
        (ApiKey::SyncGroup, 5),
        (ApiKey::Heartbeat, 4),
        (ApiKey::LeaveGroup, 5),
    ];
    let keys = keys.map(|(key, max)| ApiVersion::default().with_api_key(key as i16).with_max_version(max));
    ApiVersionsResponse::default().with_api_keys(keys.to_vec())
}

fn told(join: &JoinGroupRequest) -> SubscriptionData {
    SubscriptionData::decode(&join.protocols[0].metadata).unwrap()
}

fn cooperative(config: &mut GroupConfig) {
    config.strategies = vec![Strategy::CooperativeSticky];
}

#[test]
fn a_heartbeat_whose_answer_makes_no_sense_costs_nothing() {
    let mut world = World::leading(|_| {});
    world.pass(3 * SECOND);
    let (connection, request) = world.next(ApiKey::Heartbeat);
    // Length and header; of the throttle time one byte is there.
    let mut bytes = BytesMut::from(&[0, 0, 0, 6][..]);
    bytes.extend_from_slice(&request.correlation_id.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    world.engine.handle_bytes(world.now, connection, &mut bytes);
    world.drain();
    assert_eq!(world.event(), "none");
    world.pass(3 * SECOND);
    assert_eq!(world.beat(OK).generation_id, 1);
    assert_eq!((world.event(), world.member().owned().len()), ("none".to_owned(), 4));
}

#[test]
fn it_gets_an_id_joins_divides_and_is_heard_of() {
    let mut world = World::new(|_| {});
    assert!(world.asked.is_empty(), "nothing to join for");
    world.subscribe(&["t"]);
    let first = world.refuse_join(ErrorCode::MEMBER_ID_REQUIRED, "m");
    assert_eq!((first.member_id.as_str(), first.rebalance_timeout_ms), ("", 300_000));
    let join = world.join(1, &["m", "other"]);
    assert_eq!((join.member_id.as_str(), join.session_timeout_ms), ("m", 45_000));
    let names: Vec<&str> = join.protocols.iter().map(|protocol| protocol.name.as_str()).collect();
    assert_eq!(names, ["range", "cooperative-sticky"]);
    assert_eq!((told(&join).topics, told(&join).rack.as_deref()), (vec!["t".into()], Some("r1")));
    let sync = world.sync(&[0, 1]);
    let count = |bytes: &Bytes| AssignmentData::decode(bytes).unwrap().partitions.len();
    let shares: Vec<(&str, usize)> =
        sync.assignments.iter().map(|share| (share.member_id.as_str(), count(&share.assignment))).collect();
    assert_eq!(shares, [("m", 2), ("other", 2)]);
    assert_eq!((sync.protocol_name.as_deref(), sync.generation_id), (Some("range"), 1));
    assert_eq!(world.event(), "assigned [t-0, t-1]");
    let identity = world.member().identity().unwrap();
    assert_eq!((&*identity.member_id, identity.generation), ("m", 1));
    for _ in 0..3 {
        world.pass(3 * SECOND);
        assert_eq!(world.beat(OK).generation_id, 1);
    }
    assert!(world.asked.is_empty());
}

#[test]
fn an_eager_member_joins_again_only_when_the_application_has_let_go() {
    let mut world = World::leading(|_| {});
    world.beat_refused(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(world.event(), "revoke [t-0, t-1, t-2, t-3]");
    world.pass(3 * SECOND);
    world.beat(ErrorCode::REBALANCE_IN_PROGRESS.code());
    assert!(world.asked.is_empty() && world.event() == "none", "once is enough");
    assert_eq!(world.member().owned().len(), 4, "they may still be committed");
    world.revoked();
    assert!(world.member().owned().is_empty());
    let join = world.join(2, &["other"]);
    assert!(told(&join).owned.is_empty() && told(&join).generation == 1);
    assert!(world.sync(&[3]).assignments.is_empty(), "another leads");
    assert_eq!(world.event(), "assigned [t-3]");
}

#[test]
fn a_cooperative_member_gives_up_what_moves_and_joins_once_more() {
    let mut world = World::leading(cooperative);
    world.beat_refused(ErrorCode::REBALANCE_IN_PROGRESS);
    // At once, with all that it has: the application is not disturbed.
    assert_eq!(told(&world.join(2, &["other"])).owned.len(), 4);
    assert_eq!(world.event(), "none");
    world.sync(&[1, 2, 3]);
    assert_eq!((world.event().as_str(), world.event().as_str()), ("revoke [t-0]", "assigned []"));
    assert!(world.asked.is_empty());
    world.revoked();
    assert_eq!(told(&world.join(3, &["other"])).owned.len(), 3);
    world.sync(&[1, 2, 3]);
    assert_eq!((world.event().as_str(), world.event().as_str()), ("assigned []", "none"));
    assert_eq!(world.member().identity().unwrap().generation, 3);
}

#[test]
fn who_is_unknown_has_lost_everything_and_joins_as_somebody_new() {
    for (code, id) in [(ErrorCode::UNKNOWN_MEMBER_ID, ""), (ErrorCode::ILLEGAL_GENERATION, "m")] {
        let mut world = World::leading(|_| {});
        // In the middle of a revocation, too.
        world.beat_refused(ErrorCode::REBALANCE_IN_PROGRESS);
        assert!(world.event().starts_with("revoke"));
        world.beat_refused(code);
        assert_eq!(world.event(), "lost [t-0, t-1, t-2, t-3]");
        assert!(world.member().identity().is_none() && world.member().owned().is_empty());
        world.revoked();
        let join = world.join(7, &["m"]);
        assert_eq!((join.member_id.as_str(), told(&join).generation), (id, -1));
        world.sync(&[0]);
        assert_eq!(world.event(), "assigned [t-0]");
    }
}

#[test]
fn a_fenced_instance_is_gone_for_good() {
    let mut world = World::leading(|config| config.instance_id = Some("one".into()));
    world.pass(3 * SECOND);
    let heartbeat = world.beat(ErrorCode::FENCED_INSTANCE_ID.code());
    assert_eq!(heartbeat.group_instance_id.as_deref(), Some("one"));
    assert!(world.event().starts_with("lost"));
    let failed = world.event();
    assert!(failed.contains("another member with group.instance.id 'one' has taken over"), "{failed}");
    assert!(world.member().is_gone() && !world.member().awaits_poll());
    world.poll();
    world.pass(600 * SECOND);
    assert!(world.asked.is_empty());
}

#[test]
fn who_does_not_poll_leaves_until_it_does() {
    let mut world = World::leading(|config| config.max_poll_interval = 10 * SECOND);
    for _ in 0..3 {
        world.pass(3 * SECOND);
        world.beat(OK);
    }
    world.poll();
    for _ in 0..3 {
        world.pass(3 * SECOND);
        world.beat(OK);
    }
    assert_eq!(world.event(), "none");
    world.pass(SECOND);
    let left = world.left();
    assert_eq!((left.members[0].member_id.as_str(), left.members[0].reason.is_some()), ("m", true));
    assert!(world.event().starts_with("lost") && world.member().awaits_poll());
    world.pass(600 * SECOND);
    assert!(world.asked.is_empty() && world.member().identity().is_none());
    world.poll();
    assert_eq!(world.join(3, &["m"]).member_id.as_str(), "");
}

#[test]
fn a_coordinator_that_moves_is_found_again() {
    let mut world = World::leading(|_| {});
    let searches = world.searches;
    world.beat_refused(ErrorCode::NOT_COORDINATOR);
    world.pass(SECOND);
    assert_eq!(world.beat(OK).generation_id, 1);
    assert_eq!(world.searches, searches + 1);
    world.beat_refused(ErrorCode::REBALANCE_IN_PROGRESS);
    world.revoked();
    world.refuse_join(ErrorCode::COORDINATOR_NOT_AVAILABLE, "");
    world.pass(SECOND);
    world.refuse_join(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, "");
    world.pass(SECOND);
    assert_eq!(world.join(2, &["other"]).member_id.as_str(), "m");
    assert_eq!(world.searches, searches + 2);
    // A rebalance within the rebalance: SyncGroup is refused.
    let (connection, request) = world.next(ApiKey::SyncGroup);
    let refused = ErrorCode::REBALANCE_IN_PROGRESS.code();
    world.respond(connection, &request, &SyncGroupResponse::default().with_error_code(refused));
    world.pass(SECOND);
    assert_eq!(told(&world.join(3, &["other"])).generation, 2);
}

#[test]
fn a_join_waits_for_slow_members_and_no_heartbeat_comes_in_between() {
    let mut world = World::new(|_| {});
    world.subscribe(&["t"]);
    for _ in 0..9 {
        world.pass(29 * SECOND);
        world.poll();
    }
    assert_eq!(world.asked.len(), 1, "the first is still waited for");
    world.join(1, &["other"]);
    world.sync(&[]);
    assert_eq!(world.event(), "assigned []");
}

#[test]
fn the_leader_notices_more_partitions_but_no_moved_or_missing_ones() {
    let mut world = World::leading(|_| {});
    let beat_on = |world: &mut World| {
        world.pass(3 * SECOND);
        world.beat(OK);
        assert!(world.asked.is_empty());
    };
    world.leader = 2;
    beat_on(&mut world);
    // A broker that has just started knows no topic.
    world.partitions = 0;
    beat_on(&mut world);
    world.partitions = 4;
    (0..4).for_each(|_| beat_on(&mut world));
    assert_eq!(world.event(), "none");
    world.partitions = 6;
    beat_on(&mut world);
    assert!(world.event().starts_with("revoke"));
    world.revoked();
    world.join(2, &["m"]);
    let sync = world.sync(&[0, 1, 2, 3, 4, 5]);
    assert_eq!(AssignmentData::decode(&sync.assignments[0].assignment).unwrap().partitions.len(), 6);
}

#[test]
fn who_is_refused_tells_it_and_tries_again_when_polled() {
    let mut world = World::new(|_| {});
    world.subscribe(&["t"]);
    world.refuse_join(ErrorCode::GROUP_AUTHORIZATION_FAILED, "");
    let failed = world.event();
    assert!(failed.contains("group 'g'") && failed.contains("needs READ"), "{failed}");
    world.pass(60 * SECOND);
    assert!(world.asked.is_empty() && world.member().awaits_poll());
    world.poll();
    world.join(1, &["m"]);
    world.sync(&[0]);
    assert_eq!(world.event(), "assigned [t-0]");
}

#[test]
fn it_leaves_or_stays_as_it_is_told() {
    let (default, leave, stay) = (
        GroupMembershipOperation::Default,
        GroupMembershipOperation::LeaveGroup,
        GroupMembershipOperation::RemainInGroup,
    );
    for (instance, operation, leaves) in [
        (None, default, true),
        (None, stay, false),
        (Some("one"), default, false),
        (Some("one"), leave, true),
    ] {
        let mut world = World::leading(|config| config.instance_id = instance.map(str::to_owned));
        world.ask(move |member, now, core| member.leave(now, operation, core));
        if leaves {
            assert!(!world.member().is_gone());
            assert_eq!(world.left().members[0].group_instance_id.as_deref(), instance);
        }
        assert!(world.member().is_gone() && world.asked.is_empty(), "{instance:?} {operation:?}");
        assert_eq!(world.event(), "none", "it was the application's own will");
    }
}

#[test]
fn a_changed_subscription_is_told_and_an_empty_one_leaves() {
    let mut world = World::leading(cooperative);
    world.subscribe(&["t", "u"]);
    assert_eq!(told(&world.join(2, &["other"])).topics.len(), 2);
    world.sync(&[0, 1]);
    assert_eq!(world.event(), "revoke [t-2, t-3]");
    assert_eq!(world.event(), "assigned []");
    world.revoked();
    // While it joins, too: it joins once more afterwards, without what it wants no longer.
    world.subscribe(&["u"]);
    world.join(3, &["other"]);
    world.sync(&[0, 1]);
    assert_eq!((world.event().as_str(), world.event().as_str()), ("assigned []", "revoke [t-0, t-1]"));
    world.revoked();
    assert!(told(&world.join(4, &["other"])).owned.is_empty());
    world.sync(&[0]);
    assert_eq!(world.event(), "assigned []", "nobody asked for t");
    world.subscribe(&[]);
    assert_eq!(world.left().members[0].member_id.as_str(), "m");
    world.subscribe(&["t"]);
    assert_eq!(world.join(5, &["m"]).member_id.as_str(), "");
}

//! Classic groups: several members, rebalances, static members, expiry, administration.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::protocol::messages::leave_group_request::MemberIdentity;
use kafka_wire::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_wire::protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_wire::protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::protocol::messages::*;
use tidewater_broker::{Action, ConnectionId, Options, Rule};

use crate::harness::*;
use crate::restart::kill_and_restart;

pub(crate) const GROUP: &str = "billing";
pub(crate) const SESSION: Duration = Duration::from_secs(10);
pub(crate) const REBALANCE: Duration = Duration::from_secs(60);

pub(crate) fn group() -> GroupId {
    GroupId(text(GROUP))
}

/// A consumer's subscription to `orders`.
fn subscription() -> Bytes {
    Bytes::from([&[0, 0, 0, 0, 0, 1, 0, 6][..], TOPIC.as_bytes(), &[0xff; 4]].concat())
}

fn join_request(member: &str, instance: Option<&str>, protocols: &[&str]) -> JoinGroupRequest {
    let protocols = protocols
        .iter()
        .map(|name| JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(subscription()));
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(SESSION.as_millis() as i32)
        .with_rebalance_timeout_ms(REBALANCE.as_millis() as i32)
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text))
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.collect())
}

/// Answers of requests that were sent and may wait.
pub(crate) struct Group {
    pub(crate) it: Harness,
    asked: HashMap<String, ConnectionId>,
    answers: Answers,
}

impl Group {
    pub(crate) fn new(options: Options) -> Self {
        let mut it = Harness::new(options);
        it.cluster.move_group_coordinator(GROUP, 0);
        Self { it, asked: HashMap::new(), answers: Answers::default() }
    }

    /// A member id, as a client without one gets it.
    pub(crate) fn fresh_id(&mut self) -> String {
        let answer = self.it.call(9, join_request("", None, &["range"]));
        assert_eq!(answer.error_code, ErrorCode::MEMBER_ID_REQUIRED.code());
        answer.member_id.to_string()
    }

    pub(crate) fn send<M: Exchange + Send>(&mut self, as_: &str, version: i16, message: M) {
        let connection = self.it.post(0, version, message);
        self.asked.insert(as_.to_owned(), connection);
    }

    pub(crate) fn answer<M: Exchange + Send>(&mut self, as_: &str, version: i16) -> Option<M::Response> {
        self.it.collect(&mut self.answers);
        self.answers.take::<M>(self.asked[as_], version)
    }

    pub(crate) fn join(&mut self, member: &str) {
        self.send(member, 9, join_request(member, None, &["range"]));
    }

    pub(crate) fn joined(&mut self, member: &str) -> JoinGroupResponse {
        self.answer::<JoinGroupRequest>(member, 9).unwrap()
    }

    fn sync_request(
        member: &str,
        generation: i32,
        assignments: &[(&str, &'static [u8])],
    ) -> SyncGroupRequest {
        let assignments = assignments.iter().map(|(member, assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::from_static(assignment))
        });
        SyncGroupRequest::default()
            .with_group_id(group())
            .with_generation_id(generation)
            .with_member_id(text(member))
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(assignments.collect())
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &'static [u8])]) {
        self.send(member, 5, Self::sync_request(member, generation, assignments));
    }

    fn synced(&mut self, member: &str) -> SyncGroupResponse {
        self.answer::<SyncGroupRequest>(member, 5).unwrap()
    }

    pub(crate) fn heartbeat(&mut self, member: &str, generation: i32) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group())
            .with_generation_id(generation)
            .with_member_id(text(member));
        self.it.call(4, request).error_code
    }

    fn commit(&mut self, member: &str, generation: i32) -> i16 {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
        let topic =
            OffsetCommitRequestTopic::default().with_name(topic_name()).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group())
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(generation)
            .with_topics(vec![topic]);
        self.it.call(8, request).topics[0].partitions[0].error_code
    }

    pub(crate) fn leave(&mut self, member: &str, instance: Option<&str>) -> i16 {
        let member =
            MemberIdentity::default().with_member_id(text(member)).with_group_instance_id(instance.map(text));
        let request = LeaveGroupRequest::default().with_group_id(group()).with_members(vec![member]);
        self.it.call(5, request).members[0].error_code
    }

    /// Two members in a stable generation: the leader, which assigned, and the other.
    fn of_two(options: Options) -> (Self, String, String) {
        let mut group = Self::new(options);
        let leader = group.fresh_id();
        group.join(&leader);
        assert_eq!(group.joined(&leader).generation_id, 1);
        group.sync(&leader, 1, &[(&leader, b"all")]);
        assert_eq!(group.synced(&leader).assignment, &b"all"[..]);
        let other = group.fresh_id();
        group.join(&other);
        assert_eq!(group.heartbeat(&leader, 1), ErrorCode::REBALANCE_IN_PROGRESS.code());
        group.join(&leader);
        let told = group.joined(&leader);
        assert_eq!((told.generation_id, told.leader.as_str(), told.members.len()), (2, leader.as_str(), 2));
        assert_eq!(group.joined(&other).members.len(), 0, "only the leader assigns");
        group.sync(&other, 2, &[]);
        assert!(group.answer::<SyncGroupRequest>(&other, 5).is_none(), "waits for the leader");
        group.sync(&leader, 2, &[(&leader, b"first"), (&other, b"second")]);
        assert_eq!(group.synced(&other).assignment, &b"second"[..]);
        assert_eq!(group.synced(&leader).assignment, &b"first"[..]);
        (group, leader, other)
    }

    pub(crate) fn state(&mut self) -> (String, usize) {
        let request = DescribeGroupsRequest::default().with_groups(vec![group()]);
        let answer = self.it.call(6, request);
        (answer.groups[0].group_state.to_string(), answer.groups[0].members.len())
    }
}

#[test]
fn members_share_a_generation_and_the_rest_is_refused() {
    let (mut group, leader, other) = Group::of_two(Options::default());
    assert_eq!(group.heartbeat(&other, 2), 0);
    assert_eq!(group.heartbeat(&other, 1), ErrorCode::ILLEGAL_GENERATION.code());
    assert_eq!(group.heartbeat("stranger", 2), ErrorCode::UNKNOWN_MEMBER_ID.code());
    assert_eq!(group.commit(&leader, 2), 0);
    assert_eq!(group.commit(&leader, 1), ErrorCode::ILLEGAL_GENERATION.code());
    assert_eq!(group.commit("stranger", 2), ErrorCode::UNKNOWN_MEMBER_ID.code());
    assert_eq!(group.commit("", -1), ErrorCode::UNKNOWN_MEMBER_ID.code(), "the group is not empty");
    let wrong = join_request("", None, &["roundrobin"]);
    assert_eq!(group.it.call(9, wrong).error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL.code());
    let short = join_request("", None, &["range"]).with_session_timeout_ms(10);
    assert_eq!(group.it.call(9, short).error_code, ErrorCode::INVALID_SESSION_TIMEOUT.code());
    assert_eq!(group.state(), ("Stable".to_owned(), 2));
    // Who asks again, because an answer got lost, is told the same again.
    group.join(&other);
    assert_eq!(group.joined(&other).generation_id, 2);
    group.sync(&other, 2, &[]);
    assert_eq!(group.synced(&other).assignment, &b"second"[..]);
}

#[test]
fn a_member_that_leaves_or_falls_silent_makes_room() {
    let (mut group, leader, other) = Group::of_two(Options::default());
    assert_eq!(group.leave(&other, None), 0);
    assert_eq!(group.leave(&other, None), ErrorCode::UNKNOWN_MEMBER_ID.code());
    assert_eq!(group.heartbeat(&leader, 2), ErrorCode::REBALANCE_IN_PROGRESS.code());
    group.join(&leader);
    assert_eq!(group.joined(&leader).generation_id, 3);
    assert_eq!(group.commit(&leader, 3), ErrorCode::REBALANCE_IN_PROGRESS.code(), "nothing is assigned yet");
    group.sync(&leader, 3, &[(&leader, b"all")]);
    assert_eq!(group.synced(&leader).error_code, 0);
    for _ in 0..3 {
        group.it.advance(SESSION - Duration::from_secs(1));
        assert_eq!(group.heartbeat(&leader, 3), 0);
    }
    group.it.advance(SESSION);
    assert_eq!(group.heartbeat(&leader, 3), ErrorCode::UNKNOWN_MEMBER_ID.code());
    assert_eq!(group.state(), ("Empty".to_owned(), 0));
}

#[test]
fn who_does_not_join_in_time_is_left_behind() {
    let (mut group, leader, other) = Group::of_two(Options::default());
    group.join(&leader);
    let until = REBALANCE - Duration::from_secs(1);
    for _ in 0..until.as_secs() {
        group.it.advance(Duration::from_secs(1));
        assert_eq!(group.heartbeat(&other, 2), ErrorCode::REBALANCE_IN_PROGRESS.code());
    }
    assert!(group.answer::<JoinGroupRequest>(&leader, 9).is_none(), "the other may still come");
    group.it.advance(Duration::from_secs(1));
    let told = group.joined(&leader);
    assert_eq!((told.generation_id, told.members.len()), (3, 1));
    assert_eq!(group.heartbeat(&other, 2), ErrorCode::UNKNOWN_MEMBER_ID.code());
}

#[test]
fn who_does_not_ask_for_its_assignment_is_left_behind() {
    let mut group = Group::new(Options::default());
    let leader = group.fresh_id();
    group.join(&leader);
    assert_eq!(group.joined(&leader).generation_id, 1);
    for _ in 0..REBALANCE.as_secs() - 1 {
        group.it.advance(Duration::from_secs(1));
        assert_eq!(group.heartbeat(&leader, 1), 0);
    }
    group.it.advance(Duration::from_secs(1));
    assert_eq!(group.heartbeat(&leader, 1), ErrorCode::UNKNOWN_MEMBER_ID.code());
}

#[test]
fn the_first_members_of_an_empty_group_wait_for_others() {
    let delay = Duration::from_secs(3);
    let mut group = Group::new(Options { initial_rebalance_delay: delay, ..Options::default() });
    let (first, second) = (group.fresh_id(), group.fresh_id());
    group.join(&first);
    group.it.advance(Duration::from_secs(2));
    group.join(&second);
    group.it.advance(Duration::from_secs(1));
    assert!(group.answer::<JoinGroupRequest>(&first, 9).is_none(), "somebody came: the wait is longer");
    group.it.advance(delay);
    assert_eq!(group.joined(&first).members.len(), 2);
    assert_eq!(group.joined(&second).generation_id, 1);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut group = Group::new(Options::default());
    group.send("first", 9, join_request("", Some("one"), &["range"]));
    let first = group.joined("first").member_id.to_string();
    assert!(first.starts_with("one-"), "{first}");
    group.sync(&first, 1, &[(&first, b"all")]);
    assert_eq!(group.synced(&first).error_code, 0);
    // The same instance again: the same generation, and as leader it is not to assign.
    group.send("again", 9, join_request("", Some("one"), &["range"]));
    let told = group.joined("again");
    assert_eq!((told.generation_id, told.skip_assignment, told.members.len()), (1, true, 1));
    let second = told.member_id.to_string();
    assert_ne!(second, first);
    group.sync(&second, 1, &[]);
    assert_eq!(group.synced(&second).assignment, &b"all"[..]);
    // The former holder of the name is fenced.
    let request = HeartbeatRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_generation_id(1)
        .with_member_id(text(&first))
        .with_group_instance_id(Some(text("one")));
    assert_eq!(group.it.call(4, request).error_code, ErrorCode::FENCED_INSTANCE_ID.code());
    // Before KIP-814 it is kept from assigning by naming another leader.
    group.send("old", 8, join_request("", Some("one"), &["range"]));
    let told = group.answer::<JoinGroupRequest>("old", 8).unwrap();
    assert_eq!((told.leader.as_str(), told.members.len()), (second.as_str(), 0));
    assert_eq!(group.leave("", Some("nobody")), ErrorCode::UNKNOWN_MEMBER_ID.code());
    assert_eq!(group.leave("", Some("one")), 0);
    assert_eq!(group.state().0, "Empty");
}

#[test]
fn groups_are_listed_described_and_deleted() {
    let (mut group, leader, other) = Group::of_two(Options::default());
    let listed = group.it.call(5, ListGroupsRequest::default());
    let only = &listed.groups[0];
    assert_eq!((only.group_id.as_str(), only.protocol_type.as_str()), (GROUP, "consumer"));
    assert_eq!((only.group_state.as_str(), only.group_type.as_str()), ("Stable", "classic"));
    let empty = ListGroupsRequest::default().with_states_filter(vec![text("empty")]);
    assert_eq!(group.it.call(5, empty).groups.len(), 0);
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id("nobody")]);
    let unknown = group.it.call(6, request.clone());
    assert_eq!(unknown.groups[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND.code());
    assert_eq!(group.it.call(5, request).groups[0].error_code, 0);

    assert_eq!(group.commit(&leader, 2), 0);
    let delete = || DeleteGroupsRequest::default().with_groups_names(vec![group_id(GROUP)]);
    assert_eq!(group.it.call(2, delete()).results[0].error_code, ErrorCode::NON_EMPTY_GROUP.code());
    let partition = OffsetDeleteRequestPartition::default();
    let topic = OffsetDeleteRequestTopic::default().with_name(topic_name()).with_partitions(vec![partition]);
    let offsets = OffsetDeleteRequest::default().with_group_id(group_id(GROUP)).with_topics(vec![topic]);
    let refused = group.it.call(0, offsets.clone()).topics[0].partitions[0].error_code;
    assert_eq!(refused, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC.code());
    for member in [&leader, &other] {
        assert!(group.it.cluster.expire_member(group.it.now, GROUP, member));
    }
    assert_eq!(group.state(), ("Empty".to_owned(), 0));
    assert_eq!(group.it.call(0, offsets).topics[0].partitions[0].error_code, 0);
    assert_eq!(group.it.call(2, delete()).results[0].error_code, 0);
    assert_eq!(group.it.call(2, delete()).results[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND.code());
}

fn group_id(id: &str) -> GroupId {
    GroupId(text(id))
}

#[test]
fn a_coordinator_that_moves_in_a_rebalance_goes_back_to_what_is_in_the_log() {
    let (mut group, leader, other) = Group::of_two(Options { nodes: 2, ..Options::default() });
    let third = group.fresh_id();
    group.join(&third);
    group.join(&leader);
    group.it.cluster.move_group_coordinator(GROUP, 1);
    group.it.advance(Duration::ZERO);
    for waiting in [&third, &leader] {
        assert_eq!(group.joined(waiting).error_code, ErrorCode::NOT_COORDINATOR.code());
    }
    assert_eq!(group.heartbeat(&other, 2), ErrorCode::NOT_COORDINATOR.code());
    group.it.cluster.move_group_coordinator(GROUP, 0);
    group.it.advance(Duration::ZERO);
    assert_eq!(group.heartbeat(&other, 2), 0, "the last complete generation goes on");
    group.join(&third);
    assert_eq!(group.joined(&third).error_code, ErrorCode::UNKNOWN_MEMBER_ID.code());
}

#[test]
fn the_answer_of_a_join_can_be_lost_or_late() {
    let (mut group, leader, other) = Group::of_two(Options::default());
    let delay = Duration::from_secs(1);
    group.it.cluster.add_rule(Rule::new(Action::ApplyThenDisconnect).api(ApiKey::JoinGroup).times(1));
    group.it.cluster.add_rule(Rule::new(Action::ApplyThenDelay(delay)).api(ApiKey::JoinGroup).times(1));
    group.join(&leader);
    group.join(&other);
    assert!(group.answer::<JoinGroupRequest>(&leader, 9).is_none(), "its connection was closed");
    assert!(group.answer::<JoinGroupRequest>(&other, 9).is_none(), "not yet");
    group.it.advance(delay);
    assert_eq!(group.joined(&other).generation_id, 3);
    group.join(&leader);
    assert_eq!(group.joined(&leader).generation_id, 3, "asked again");
}

#[test]
fn a_fault_can_be_for_one_group() {
    let (mut group, leader, _) = Group::of_two(Options::default());
    let code = ErrorCode::NOT_COORDINATOR;
    let rule = |group: &str| Rule::new(Action::Error(code)).api(ApiKey::Heartbeat).group(group).times(1);
    let other = group.it.cluster.add_rule(rule("another"));
    assert_eq!(group.heartbeat(&leader, 2), 0);
    group.it.cluster.add_rule(rule(GROUP));
    assert_eq!(group.heartbeat(&leader, 2), code.code());
    assert_eq!(group.heartbeat(&leader, 2), 0);
    assert_eq!(group.it.cluster.rule_hits(other), 0);
}

#[test]
fn after_a_kill_the_generation_goes_on_that_was_complete_last() {
    let folder = tempfile::tempdir().unwrap();
    let (mut group, leader, other) =
        Group::of_two(Options { data: Some(folder.path().to_owned()), ..Options::default() });
    let third = group.fresh_id();
    group.join(&third);
    assert_eq!(group.heartbeat(&leader, 2), ErrorCode::REBALANCE_IN_PROGRESS.code());

    let left = kill_and_restart(&mut group.it, folder.path());
    assert_eq!(group.state(), ("Stable".to_owned(), 2), "of the rebalance nothing is known");
    assert_eq!((group.heartbeat(&leader, 2), group.heartbeat(&other, 2)), (0, 0));
    assert_eq!(group.commit(&leader, 2), 0);
    group.sync(&other, 2, &[]);
    assert_eq!(group.synced(&other).assignment, &b"second"[..]);
    assert_eq!(group.heartbeat(&third, 2), ErrorCode::UNKNOWN_MEMBER_ID.code());
    let fourth = group.fresh_id();
    assert!(![&leader, &other, &third].contains(&&fourth), "no id is given twice");

    // Both fall silent: the group is empty, and stays so.
    group.it.advance(SESSION + REBALANCE);
    assert_eq!(group.state(), ("Empty".to_owned(), 0));
    let _left = kill_and_restart(&mut group.it, left.path());
    assert_eq!(group.state(), ("Empty".to_owned(), 0));
    assert_eq!(group.heartbeat(&leader, 2), ErrorCode::UNKNOWN_MEMBER_ID.code());
}

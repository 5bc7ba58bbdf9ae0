//! Consumer groups of KIP-848: epochs, reconciliation, patterns, static members.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_wire::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_wire::protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_wire::protocol::messages::*;
use tidewater_broker::Options;
use uuid::Uuid;

use crate::harness::*;
use crate::restart::{kill_and_restart, persistent};

const GROUP: &str = "billing";
const SESSION: Duration = Duration::from_secs(45);

/// A member as its client would be: it owns what it was told, as soon as it was told.
struct Client {
    id: &'static str,
    instance: Option<&'static str>,
    epoch: i32,
    owned: BTreeSet<(Uuid, i32)>,
}

fn group_id() -> GroupId {
    GroupId(text(GROUP))
}

fn partitions(owned: &BTreeSet<(Uuid, i32)>) -> Vec<TopicPartitions> {
    owned
        .iter()
        .map(|&(topic, index)| TopicPartitions::default().with_topic_id(topic).with_partitions(vec![index]))
        .collect()
}

fn told(answer: &ConsumerGroupHeartbeatResponse) -> Option<BTreeSet<(Uuid, i32)>> {
    let assignment = answer.assignment.as_ref()?;
    let topics = assignment.topic_partitions.iter();
    Some(topics.flat_map(|topic| topic.partitions.iter().map(|&index| (topic.topic_id, index))).collect())
}

impl Client {
    fn new(id: &'static str) -> Self {
        Self { id, instance: None, epoch: 0, owned: BTreeSet::new() }
    }

    fn request(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group_id())
            .with_member_id(text(self.id))
            .with_instance_id(self.instance.map(text))
            .with_member_epoch(self.epoch)
            .with_rebalance_timeout_ms(-1)
    }

    /// The first heartbeat, which says everything.
    fn joining(&self, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
        let topics = topics.iter().map(|name| TopicName(text(name))).collect();
        self.request()
            .with_rebalance_timeout_ms(60_000)
            .with_subscribed_topic_names(Some(topics))
            .with_topic_partitions(Some(Vec::new()))
    }

    fn send(
        &mut self,
        it: &mut Harness,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Option<BTreeSet<(Uuid, i32)>> {
        let answer = it.call(1, request);
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        self.epoch = answer.member_epoch;
        told(&answer)
    }

    fn join(&mut self, it: &mut Harness) -> usize {
        let request = self.joining(&[TOPIC]);
        self.owned = self.send(it, request).unwrap();
        self.owned.len()
    }

    /// A heartbeat that says what is owned; takes over what is told, and says whether it was anything.
    fn beat(&mut self, it: &mut Harness) -> bool {
        let request = self.request().with_topic_partitions(Some(partitions(&self.owned)));
        let told = self.send(it, request);
        let is_new = told.is_some();
        self.owned = told.unwrap_or_else(|| std::mem::take(&mut self.owned));
        is_new
    }

    fn refused(&self, it: &mut Harness, request: ConsumerGroupHeartbeatRequest) -> Result<(), ErrorCode> {
        ErrorCode::check(it.call(1, request).error_code)
    }
}

fn describe(it: &mut Harness) -> consumer_group_describe_response::DescribedGroup {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group_id()]);
    it.call(1, request).groups[0].clone()
}

#[test]
fn a_second_member_gets_what_the_first_has_given_up() {
    let mut it = Harness::new(Options::default());
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    assert_eq!((a.join(&mut it), a.epoch), (2, 2));
    assert_eq!((b.join(&mut it), b.epoch), (0, 3), "nothing is free yet");
    assert_eq!(describe(&mut it).group_state.as_str(), "Reconciling");
    assert!(a.beat(&mut it), "told to give one up");
    assert_eq!((a.owned.len(), a.epoch), (1, 2), "in its old epoch until it has");
    assert!(!b.beat(&mut it), "still not free");
    assert!(!a.beat(&mut it));
    assert_eq!(a.epoch, 3);
    assert!(b.beat(&mut it));
    assert_eq!((b.owned.len(), b.epoch), (1, 3));
    assert!(a.owned.is_disjoint(&b.owned));
    let described = describe(&mut it);
    assert_eq!((described.group_state.as_str(), described.group_epoch), ("Stable", 3));
    assert_eq!((described.assignor_name.as_str(), described.members.len()), ("uniform", 2));
    let listed = it.call(5, ListGroupsRequest::default()).groups;
    assert_eq!((listed[0].group_type.as_str(), listed[0].protocol_type.as_str()), ("consumer", "consumer"));

    // New partitions are handed out at the next heartbeat.
    let grow = create_partitions_request::CreatePartitionsTopic::default()
        .with_name(topic_name())
        .with_count(4)
        .with_assignments(None);
    it.call(3, CreatePartitionsRequest::default().with_timeout_ms(1000).with_topics(vec![grow]));
    assert!(a.beat(&mut it) && b.beat(&mut it));
    assert_eq!((a.owned.len(), b.owned.len(), a.epoch, b.epoch), (2, 2, 4, 4));

    let request = b.request().with_member_epoch(-1);
    assert_eq!(b.send(&mut it, request), None);
    assert!(a.beat(&mut it));
    assert_eq!((a.owned.len(), a.epoch), (4, 5));
}

#[test]
fn who_is_late_is_fenced() {
    let mut it = Harness::new(Options::default());
    let (mut a, mut b) = (Client::new("a"), Client::new("b"));
    a.join(&mut it);
    b.join(&mut it);
    // It is told to give up a partition and does not: after the rebalance timeout it is out.
    let keeps = a.request().with_topic_partitions(Some(partitions(&a.owned)));
    a.send(&mut it, keeps.clone());
    for _ in 0..3 {
        it.advance(Duration::from_secs(19));
        assert_eq!(a.refused(&mut it, keeps.clone()), Ok(()));
        b.beat(&mut it);
    }
    it.advance(Duration::from_secs(3));
    assert_eq!(a.refused(&mut it, keeps), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert!(b.beat(&mut it));
    assert_eq!(b.owned.len(), 2);
    // And who is silent, after the session timeout.
    it.advance(SESSION);
    let silent = b.request();
    assert_eq!(b.refused(&mut it, silent), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(describe(&mut it).group_state.as_str(), "Empty");
}

#[test]
fn epochs_fence_members_and_their_offsets() {
    let mut it = Harness::new(Options::default());
    let mut a = Client::new("a");
    a.join(&mut it);
    assert_eq!(a.refused(&mut it, a.request().with_member_epoch(3)), Err(ErrorCode::FENCED_MEMBER_EPOCH));
    assert_eq!(a.refused(&mut it, a.request().with_member_epoch(-5)), Err(ErrorCode::INVALID_REQUEST));
    let assignor = a.request().with_server_assignor(Some(text("lucky")));
    assert_eq!(a.refused(&mut it, assignor), Err(ErrorCode::UNSUPPORTED_ASSIGNOR));
    let stranger = Client { epoch: 3, ..Client::new("stranger") };
    assert_eq!(stranger.refused(&mut it, stranger.request()), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    // The answer that raised the epoch may have been lost.
    let lost = a.request().with_member_epoch(0).with_topic_partitions(Some(Vec::new()));
    let again = a.joining(&[TOPIC]).with_member_epoch(0);
    assert_eq!(a.refused(&mut it, lost), Err(ErrorCode::INVALID_REQUEST));
    assert_eq!(a.refused(&mut it, again), Ok(()));

    let mut commit = |member: &str, epoch, version| {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
        let topic =
            OffsetCommitRequestTopic::default().with_name(topic_name()).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id())
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(epoch)
            .with_topics(vec![topic]);
        ErrorCode::check(it.call(version, request).topics[0].partitions[0].error_code)
    };
    assert_eq!(commit("a", 2, 9), Ok(()));
    assert_eq!(commit("a", 1, 9), Err(ErrorCode::STALE_MEMBER_EPOCH));
    assert_eq!(commit("b", 1, 9), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(commit("", -1, 9), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(commit("a", 2, 8), Err(ErrorCode::UNSUPPORTED_VERSION));
    let mut fetch = |member: Option<&str>, epoch| {
        let topic =
            OffsetFetchRequestTopics::default().with_name(topic_name()).with_partition_indexes(vec![0]);
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(group_id())
            .with_member_id(member.map(text))
            .with_member_epoch(epoch)
            .with_topics(Some(vec![topic]));
        ErrorCode::check(
            it.call(9, OffsetFetchRequest::default().with_groups(vec![group])).groups[0].error_code,
        )
    };
    assert_eq!(fetch(Some("a"), 2), Ok(()));
    assert_eq!(fetch(Some("a"), 1), Err(ErrorCode::STALE_MEMBER_EPOCH));
    assert_eq!(fetch(Some("b"), 1), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(fetch(None, -1), Ok(()));
}

#[test]
fn a_pattern_follows_the_topics() {
    let mut it = Harness::new(Options::default());
    let mut a = Client::new("a");
    let pattern = |client: &Client, pattern: &str| {
        client
            .request()
            .with_rebalance_timeout_ms(60_000)
            .with_subscribed_topic_regex(Some(text(pattern)))
            .with_topic_partitions(Some(Vec::new()))
    };
    let bad = pattern(&a, "(");
    assert_eq!(a.refused(&mut it, bad), Err(ErrorCode::INVALID_REGULAR_EXPRESSION));
    let request = pattern(&a, "ord.*|new-\\d");
    assert_eq!(a.send(&mut it, request).unwrap().len(), 2);
    it.cluster.create_topic(it.now, "new-1", 3).unwrap();
    it.cluster.create_topic(it.now, "not-new-1", 3).unwrap();
    assert!(a.beat(&mut it));
    assert_eq!((a.owned.len(), a.epoch), (5, 3));
    assert_eq!(
        describe(&mut it).members[0].subscribed_topic_regex.as_ref().unwrap().as_str(),
        "ord.*|new-\\d"
    );
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut it = Harness::new(Options::default());
    let mut first = Client { instance: Some("one"), ..Client::new("first") };
    assert_eq!(first.join(&mut it), 2);
    let second = Client { instance: Some("one"), ..Client::new("second") };
    assert_eq!(second.refused(&mut it, second.joining(&[TOPIC])), Err(ErrorCode::UNRELEASED_INSTANCE_ID));
    let goes = first.request().with_member_epoch(-2);
    first.send(&mut it, goes);
    let mut second = second;
    assert_eq!((second.join(&mut it), second.epoch), (2, 2), "no rebalance");
    let fenced = Client { instance: Some("one"), epoch: 2, ..Client::new("first") };
    assert_eq!(fenced.refused(&mut it, fenced.request()), Err(ErrorCode::FENCED_INSTANCE_ID));
    assert!(it.cluster.expire_member(it.now, GROUP, "one"));
    assert_eq!(second.refused(&mut it, second.request()), Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[test]
fn only_consumers_join_beside_members_of_this_protocol() {
    let mut it = Harness::new(Options::default());
    let mut a = Client::new("a");
    a.join(&mut it);
    let classic = JoinGroupRequest::default()
        .with_group_id(group_id())
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("connect"))
        .with_protocols(vec![
            join_group_request::JoinGroupRequestProtocol::default().with_name(text("range")),
        ]);
    let refused = it.call(9, classic.clone());
    assert_eq!(refused.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL.code());
    let leaves = a.request().with_member_epoch(-1);
    a.send(&mut it, leaves);
    assert_eq!(
        it.call(9, classic).error_code,
        ErrorCode::MEMBER_ID_REQUIRED.code(),
        "an empty group changes"
    );
    assert_eq!(describe(&mut it).error_code, ErrorCode::GROUP_ID_NOT_FOUND.code());
}

#[test]
fn members_go_on_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = persistent(folder.path(), Duration::ZERO);
    let mut a = Client { instance: Some("one"), ..Client::new("a") };
    let mut b = Client::new("b");
    a.join(&mut it);
    b.join(&mut it);
    assert!(a.beat(&mut it) && !a.beat(&mut it) && b.beat(&mut it));
    let before = describe(&mut it);
    assert_eq!((before.group_state.as_str(), before.members.len()), ("Stable", 2));
    it.advance(SESSION - Duration::from_secs(1));

    let left = kill_and_restart(&mut it, folder.path());
    assert_eq!(describe(&mut it), before);
    it.advance(SESSION - Duration::from_secs(1));
    assert!(!a.beat(&mut it) && !b.beat(&mut it), "both have what they had, and time began anew");
    assert_eq!((a.epoch, b.epoch), (3, 3));
    let other = Client { instance: Some("one"), ..Client::new("other") };
    assert_eq!(other.refused(&mut it, other.joining(&[TOPIC])), Err(ErrorCode::UNRELEASED_INSTANCE_ID));
    it.advance(SESSION - Duration::from_secs(1));
    assert!(!a.beat(&mut it));
    it.advance(Duration::from_secs(1));
    assert!(a.beat(&mut it), "the other one was silent");
    assert_eq!((a.owned.len(), a.epoch), (2, 4));

    // What is to be given up is known after the next one, too, and has its time.
    b = Client::new("b");
    b.join(&mut it);
    let keeps = a.request().with_topic_partitions(Some(partitions(&a.owned)));
    a.send(&mut it, keeps.clone());
    let _left = kill_and_restart(&mut it, left.path());
    for _ in 0..3 {
        assert_eq!(a.refused(&mut it, keeps.clone()), Ok(()));
        assert!(!b.beat(&mut it), "not given up yet");
        it.advance(Duration::from_secs(19));
    }
    it.advance(Duration::from_secs(3));
    assert_eq!(a.refused(&mut it, keeps), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    assert!(b.beat(&mut it));
    assert_eq!(b.owned.len(), 2);
    let leaves = b.request().with_member_epoch(-1);
    b.send(&mut it, leaves);
    assert_eq!(describe(&mut it).group_state.as_str(), "Empty");
}

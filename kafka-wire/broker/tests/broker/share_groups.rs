//! Share groups (KIP-932): records under locks, delivery counts, sessions, offsets.

use std::time::Duration;

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::alter_share_group_offsets_request as altering;
use kafka_wire::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_wire::protocol::messages::share_acknowledge_request as acknowledging;
use kafka_wire::protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::protocol::messages::share_fetch_response::PartitionData;
use kafka_wire::protocol::messages::*;
use kafka_wire::protocol::share_group_offsets::decode_offsets;
use tidewater_broker::{Cluster, Options};

use crate::harness::*;

const GROUP: &str = "workers";
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const LOCK: Duration = Duration::from_secs(30);
const SESSION: Duration = Duration::from_secs(45);

fn group_id() -> GroupId {
    GroupId(text(GROUP))
}

/// The broker with a topic of records, and a group that reads it from the beginning.
fn with_records(options: Options, values: &[&str]) -> Harness {
    let mut it = Harness::new(options);
    set(&mut it, "share.auto.offset.reset", "earliest");
    it.produce(9, 0, batch(values, None, false));
    it
}

fn set(it: &mut Harness, name: &str, value: &str) {
    let config = AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text(GROUP))
        .with_configs(vec![config]);
    let answer = it.call(1, IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(answer.responses[0].error_code, 0);
}

/// A member's session.
struct Session {
    member: &'static str,
    epoch: i32,
}

impl Session {
    const fn new(member: &'static str) -> Self {
        Self { member, epoch: 0 }
    }

    fn request(&self, it: &mut Harness) -> ShareFetchRequest {
        let topic = FetchTopic::default()
            .with_topic_id(it.topic_id())
            .with_partitions(vec![FetchPartition::default().with_partition_index(0)]);
        ShareFetchRequest::default()
            .with_group_id(Some(group_id()))
            .with_member_id(Some(text(self.member)))
            .with_share_session_epoch(self.epoch)
            .with_max_bytes(1 << 20)
            .with_max_records(500)
            .with_topics(vec![topic])
    }

    /// Fetches without waiting: what was acquired, with its delivery count.
    fn fetch(&mut self, it: &mut Harness) -> Vec<(i64, i64, i16)> {
        self.fetched(it).map_or_else(Vec::new, |told| {
            told.acquired_records
                .iter()
                .map(|it| (it.first_offset, it.last_offset, it.delivery_count))
                .collect()
        })
    }

    fn fetched(&mut self, it: &mut Harness) -> Option<PartitionData> {
        let request = self.request(it);
        let answer = it.call(1, request);
        assert_eq!((answer.error_code, answer.acquisition_lock_timeout_ms), (0, 30_000));
        self.epoch += 1;
        answer.responses.first().map(|topic| topic.partitions[0].clone())
    }

    fn acknowledge(
        &mut self,
        it: &mut Harness,
        first: i64,
        last: i64,
        types: &[i8],
    ) -> Result<(), ErrorCode> {
        let batch = acknowledging::AcknowledgementBatch::default()
            .with_first_offset(first)
            .with_last_offset(last)
            .with_acknowledge_types(types.to_vec());
        let partition =
            acknowledging::AcknowledgePartition::default().with_acknowledgement_batches(vec![batch]);
        let topic = acknowledging::AcknowledgeTopic::default()
            .with_topic_id(it.topic_id())
            .with_partitions(vec![partition]);
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(group_id()))
            .with_member_id(Some(text(self.member)))
            .with_share_session_epoch(self.epoch)
            .with_topics(vec![topic]);
        let answer = it.call(1, request);
        ErrorCode::check(answer.error_code)?;
        self.epoch += 1;
        ErrorCode::check(answer.responses[0].partitions[0].error_code)
    }
}

fn start_offset(it: &mut Harness) -> i64 {
    let group = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup::default()
        .with_group_id(group_id())
        .with_topics(None);
    let answer = it.call(0, DescribeShareGroupOffsetsRequest::default().with_groups(vec![group]));
    let group = &answer.groups[0];
    assert_eq!(group.error_code, 0, "{:?}", group.error_message);
    group.topics[0].partitions[0].start_offset
}

/// Where the group is in each partition, and how many records are left, as version 1 tells.
fn offsets(it: &mut Harness) -> Vec<(i32, Option<i64>, Option<i64>)> {
    let group = describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup::default()
        .with_group_id(group_id())
        .with_topics(None);
    let request = DescribeShareGroupOffsetsRequest::default().with_groups(vec![group]);
    let Outcome::Answered(response) = it.send(0, 1, request) else { panic!("no answer") };
    let groups = decode_offsets(&response).unwrap();
    assert_eq!(groups[0].error, None);
    let partitions = groups[0].topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|at| (at.index, at.start_offset, at.lag)).collect()
}

/// A member's heartbeat: code, epoch, how many partitions.
fn beat(it: &mut Harness, member: &str, epoch: i32) -> (i16, i32, Option<usize>) {
    let topics = (epoch == 0).then(|| vec![topic_name()]);
    let request = ShareGroupHeartbeatRequest::default()
        .with_group_id(group_id())
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_subscribed_topic_names(topics);
    let answer = it.call(1, request);
    let count = |it: &share_group_heartbeat_response::Assignment| {
        it.topic_partitions.iter().map(|topic| topic.partitions.len()).sum()
    };
    (answer.error_code, answer.member_epoch, answer.assignment.as_ref().map(count))
}

#[test]
fn members_share_a_partition_record_by_record() {
    let mut it = with_records(Options::default(), &["a", "b", "c"]);
    it.produce(9, 0, batch(&["d"], None, false));
    let (mut one, mut two) = (Session::new("one"), Session::new("two"));
    let request = one.request(&mut it).with_max_records(2);
    let told = it.call(1, request).responses[0].partitions[0].clone();
    one.epoch = 1;
    assert_eq!(told.acquired_records[0].last_offset, 2);
    assert_eq!(values(&told.records).len(), 3, "whole batches");
    assert_eq!(two.fetch(&mut it), [(3, 3, 1)]);
    assert_eq!(two.fetch(&mut it), []);
    assert_eq!(two.acknowledge(&mut it, 0, 0, &[ACCEPT]), Err(ErrorCode::INVALID_RECORD_STATE));
    assert_eq!(beat(&mut it, "one", 0).0, 0);
    let unread = (1, None, None);
    assert_eq!(offsets(&mut it), [(0, Some(0), Some(4)), unread], "nothing is done with");
    assert_eq!(one.acknowledge(&mut it, 0, 2, &[ACCEPT, RELEASE, REJECT]), Ok(()));
    assert_eq!(offsets(&mut it), [(0, Some(1), Some(2)), unread]);
    assert_eq!(two.fetch(&mut it), [(1, 1, 2)]);
    assert_eq!(two.acknowledge(&mut it, 1, 1, &[ACCEPT]), Ok(()));
    assert_eq!(start_offset(&mut it), 3);
    // What was not acknowledged in time is handed out again, until that was done often enough.
    for count in 2..=5 {
        it.advance(LOCK);
        assert_eq!(one.fetch(&mut it), [(3, 3, count)]);
    }
    it.advance(LOCK);
    assert_eq!(one.fetch(&mut it), []);
    assert_eq!(start_offset(&mut it), 4);
}

#[test]
fn who_waits_gets_what_comes_or_is_freed() {
    let mut it = with_records(Options::default(), &["a"]);
    let (mut one, mut two) = (Session::new("one"), Session::new("two"));
    assert_eq!(one.fetch(&mut it), [(0, 0, 1)]);
    let waiting = two.request(&mut it).with_max_wait_ms(60_000);
    assert!(matches!(it.send(0, 1, waiting), Outcome::Waiting));
    // The end of a session frees what its member has.
    one.epoch = -1;
    let end = one.request(&mut it).with_topics(Vec::new());
    let connection = it.post(0, 1, end);
    let mut answers = Answers::default();
    it.collect(&mut answers);
    assert_eq!(answers.take::<ShareFetchRequest>(connection, 1).unwrap().error_code, 0);
    it.advance(LOCK);
    two.epoch = 1;
    assert_eq!(two.fetch(&mut it), [(0, 0, 3)], "it had it already, and its time is up");
    let waiting = two.request(&mut it).with_max_wait_ms(60_000).with_share_session_epoch(2);
    assert!(matches!(it.send(0, 1, waiting), Outcome::Waiting));
    it.advance(Duration::from_secs(1));
    let connection =
        it.post(0, 9, produce_request(9, uuid::Uuid::nil(), 0, batch(&["b"], None, false), None));
    let mut answers = Answers::default();
    it.collect(&mut answers);
    assert!(answers.take::<ProduceRequest>(connection, 9).is_some());
    assert_eq!(answers.count(), 1, "and the fetch that waited");
}

#[test]
fn sessions_count_their_requests() {
    let mut it = with_records(Options::default(), &["a"]);
    let mut one = Session { member: "one", epoch: 3 };
    let stranger = one.request(&mut it);
    assert_eq!(it.call(1, stranger).error_code, ErrorCode::SHARE_SESSION_NOT_FOUND.code());
    one.epoch = 0;
    assert_eq!(one.acknowledge(&mut it, 0, 0, &[ACCEPT]), Err(ErrorCode::SHARE_SESSION_NOT_FOUND));
    assert_eq!(one.fetch(&mut it).len(), 1);
    one.epoch = 7;
    let wrong = one.request(&mut it);
    assert_eq!(it.call(1, wrong).error_code, ErrorCode::INVALID_SHARE_SESSION_EPOCH.code());
    one.epoch = 1;
    assert_eq!(one.acknowledge(&mut it, 0, 0, &[ACCEPT, ACCEPT]), Err(ErrorCode::INVALID_REQUEST));
    assert_eq!(one.acknowledge(&mut it, 0, 0, &[9]), Err(ErrorCode::INVALID_REQUEST));
    assert_eq!(one.acknowledge(&mut it, 0, 0, &[ACCEPT]), Ok(()));
}

#[test]
fn heartbeats_hand_out_partitions() {
    let mut it = Harness::new(Options::default());
    assert_eq!(beat(&mut it, "a", 3).0, ErrorCode::GROUP_ID_NOT_FOUND.code());
    assert_eq!(beat(&mut it, "a", 0), (0, 2, Some(2)));
    assert_eq!(beat(&mut it, "a", 2), (0, 2, None));
    assert_eq!(beat(&mut it, "b", 0), (0, 3, Some(1)));
    assert_eq!(beat(&mut it, "a", 2), (0, 3, Some(1)));
    assert_eq!(beat(&mut it, "a", 9).0, ErrorCode::FENCED_MEMBER_EPOCH.code());
    let describe = ShareGroupDescribeRequest::default().with_group_ids(vec![group_id()]);
    let described = it.call(1, describe.clone()).groups[0].clone();
    assert_eq!((described.group_state.as_str(), described.members.len()), ("Stable", 2));
    let listed = it.call(5, ListGroupsRequest::default().with_types_filter(vec![text("share")])).groups;
    assert_eq!(listed[0].group_type.as_str(), "share");
    assert_eq!(beat(&mut it, "b", -1), (0, -1, None));
    assert_eq!(beat(&mut it, "b", 3).0, ErrorCode::UNKNOWN_MEMBER_ID.code());
    it.advance(Duration::from_secs(46));
    assert_eq!(beat(&mut it, "a", 3).0, ErrorCode::UNKNOWN_MEMBER_ID.code());
    assert_eq!(it.call(1, describe).groups[0].group_state.as_str(), "Empty");
}

#[test]
fn offsets_are_set_where_nobody_reads() {
    let mut it = with_records(Options::default(), &["a", "b", "c"]);
    assert_eq!(offsets(&mut it), [], "as of a group that is not there");
    let alter = |it: &mut Harness| {
        let partition = altering::AlterShareGroupOffsetsRequestPartition::default().with_start_offset(2);
        let topic = altering::AlterShareGroupOffsetsRequestTopic::default()
            .with_topic_name(topic_name())
            .with_partitions(vec![partition]);
        let request =
            AlterShareGroupOffsetsRequest::default().with_group_id(group_id()).with_topics(vec![topic]);
        ErrorCode::check(it.call(0, request).error_code)
    };
    beat(&mut it, "one", 0);
    assert_eq!(alter(&mut it), Err(ErrorCode::NON_EMPTY_GROUP));
    beat(&mut it, "one", -1);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group_id()]);
    assert_eq!(it.call(2, delete).results[0].error_code, 0);
    assert_eq!(alter(&mut it), Ok(()), "the group begins to exist");
    assert_eq!(start_offset(&mut it), 2);
    assert_eq!(Session::new("one").fetch(&mut it), [(2, 2, 1)]);
    let topic = delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic::default()
        .with_topic_name(topic_name());
    let delete = DeleteShareGroupOffsetsRequest::default().with_group_id(group_id()).with_topics(vec![topic]);
    assert_eq!(it.call(0, delete).error_code, 0);
    assert_eq!(Session::new("two").fetch(&mut it), [(0, 2, 1)], "from the beginning again");
}

#[test]
fn what_was_done_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options { data: Some(folder.path().to_owned()), ..Options::default() };
    let mut it = with_records(options(), &["a", "b", "c"]);
    let mut one = Session::new("one");
    assert_eq!(one.fetch(&mut it), [(0, 2, 1)]);
    assert_eq!(one.acknowledge(&mut it, 0, 1, &[ACCEPT]), Ok(()));
    let (_, epoch, partitions) = beat(&mut it, "one", 0);
    assert_eq!(partitions, Some(2));
    it.cluster = Cluster::new(it.now, Options::default(), 9).unwrap(); // lets go of the folder
    it.cluster = Cluster::new(it.now, options(), 2).unwrap();
    assert_eq!(beat(&mut it, "one", epoch), (0, epoch, None), "a member as before");
    it.advance(SESSION);
    assert_eq!(
        beat(&mut it, "one", epoch).0,
        ErrorCode::UNKNOWN_MEMBER_ID.code(),
        "as long as it is heard of"
    );
    assert_eq!(start_offset(&mut it), 2);
    assert_eq!(Session::new("two").fetch(&mut it), [(2, 2, 2)], "free again, and counted");
}

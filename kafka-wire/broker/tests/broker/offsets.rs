//! Offsets in version 10 of OffsetCommit and OffsetFetch, where topics are named by id (Kafka 4.1).

use kafka_wire::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_wire::protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_wire::protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use kafka_wire::protocol::messages::*;
use kafka_wire::protocol::offsets_by_id::{OffsetCommitById, OffsetFetchById};
use kafka_wire::{ErrorCode, TopicId};
use tidewater_broker::{Action, Options, Rule};

use crate::harness::*;

const GROUP: &str = "billing";
const STRANGE: TopicId = TopicId([9; 16]);

fn commit(it: &mut Harness, ids: &[TopicId]) -> Vec<(TopicId, i16)> {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
    let topic = OffsetCommitRequestTopic::default().with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic; ids.len()]);
    let request = OffsetCommitById { request, topics: ids.to_vec() };
    let answer = it.ask(&request, 10).decode::<OffsetCommitRequest>().unwrap();
    let told = answer.topics.iter();
    told.map(|it| (TopicId(it.topic_id.into_bytes()), it.partitions[0].error_code)).collect()
}

fn fetch(it: &mut Harness, ids: Option<&[TopicId]>) -> OffsetFetchResponseGroup {
    let topic = OffsetFetchRequestTopics::default().with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_topics(ids.map(|ids| vec![topic; ids.len()]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]);
    let request = OffsetFetchById { request, topics: vec![ids.unwrap_or_default().to_vec()] };
    it.ask(&request, 10).decode::<OffsetFetchRequest>().unwrap().groups.remove(0)
}

fn told(group: &OffsetFetchResponseGroup) -> Vec<(TopicId, i64, i16)> {
    let topics = group.topics.iter().map(|topic| {
        let partition = &topic.partitions[0];
        (TopicId(topic.topic_id.into_bytes()), partition.committed_offset, partition.error_code)
    });
    topics.collect()
}

#[test]
fn topics_are_named_by_id_and_one_that_was_created_anew_is_another() {
    let mut it = Harness::new(Options::default());
    let id = TopicId(it.topic_id().into_bytes());
    let unknown = ErrorCode::UNKNOWN_TOPIC_ID.code();
    assert_eq!(commit(&mut it, &[STRANGE, id]), [(STRANGE, unknown), (id, 0)]);
    assert_eq!(it.cluster.committed_offset(GROUP, TOPIC, 0), Some(7));
    let mut both = told(&fetch(&mut it, Some(&[STRANGE, id])));
    both.sort();
    let mut expected = [(STRANGE, -1, unknown), (id, 7, 0)];
    expected.sort();
    assert_eq!(both, expected);
    assert_eq!(told(&fetch(&mut it, None)), [(id, 7, 0)]);

    let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic_name()]);
    assert_eq!(it.call(5, delete).responses[0].error_code, 0);
    it.cluster.create_topic(it.now, TOPIC, 1).unwrap();
    assert_eq!(commit(&mut it, &[id]), [(id, unknown)]);
    assert_eq!(it.cluster.committed_offset(GROUP, TOPIC, 0), None, "not taken for the old one");
}

#[test]
fn rules_find_the_topic_and_the_group() {
    let mut it = Harness::new(Options::default());
    let id = TopicId(it.topic_id().into_bytes());
    let rule = Rule::new(Action::Error(ErrorCode::REBALANCE_IN_PROGRESS)).api(ApiKey::OffsetCommit);
    let refused = ErrorCode::REBALANCE_IN_PROGRESS.code();
    for rule in [rule.clone().partition(TOPIC, 0), rule.group(GROUP)] {
        it.cluster.add_rule(rule.times(1));
        assert_eq!(commit(&mut it, &[id]), [(id, refused)]);
        assert_eq!(commit(&mut it, &[id]), [(id, 0)]);
    }
}

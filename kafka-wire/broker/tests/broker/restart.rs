//! What was acknowledged survives a kill: a copy of the folder, taken between two requests, is what a kill
//! would leave behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use kafka_wire::ErrorCode;
use kafka_wire::ProducerIdentity;
use kafka_wire::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_wire::protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_wire::protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_wire::protocol::messages::*;
use tempfile::TempDir;
use tidewater_broker::{Cluster, Options};

use crate::harness::*;
use crate::transactions::{commit_large_offset, commit_offset, committed_offset, end, init};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// The cluster that a start after a kill finds.
pub(crate) fn kill_and_restart(it: &mut Harness, folder: &Path) -> TempDir {
    let left = tempfile::tempdir().unwrap();
    copy(folder, left.path());
    let options = Options { data: Some(left.path().to_owned()), ..Options::default() };
    it.runs += 1;
    it.cluster = Cluster::new(it.now, options, it.runs).unwrap();
    left
}

pub(crate) fn persistent(folder: &Path, marker_delay: Duration) -> Harness {
    Harness::new(Options { data: Some(folder.to_owned()), marker_delay, fsync: true, ..Options::default() })
}

#[test]
fn records_producers_and_topics_survive() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = persistent(folder.path(), Duration::ZERO);
    let id = it.topic_id();
    let producer = ProducerIdentity { id: 5, epoch: 0 };
    let data = batch(&["a", "b"], Some((producer, 0)), false);
    assert_eq!(it.produce(13, 0, data.clone()).base_offset, 0);
    it.cluster.create_topic(it.now, "short-lived", 1).unwrap();
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("short-lived"))]);
    assert_eq!(it.call(5, delete).responses[0].error_code, 0);
    it.cluster.move_leader(it.now, TOPIC, 0, 0);

    let _left = kill_and_restart(&mut it, folder.path());
    assert_eq!(it.topic_id(), id);
    let metadata = it.call(12, MetadataRequest::default().with_topics(None));
    assert_eq!(metadata.topics.len(), 1);
    assert_eq!(metadata.topics[0].partitions[0].leader_epoch, 1);
    assert_eq!(it.produce(13, 0, data).base_offset, 0, "still known as a duplicate");
    let gap = it.produce(13, 0, batch(&["x"], Some((producer, 9)), false));
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER.code());
    assert_eq!(it.produce(13, 0, batch(&["c"], Some((producer, 2)), false)).base_offset, 2);
    assert_eq!(values(&it.fetch(0, 0, false).records), ["a", "b", "c"]);
    assert_eq!(values(&it.fetch(0, 2, false).records), ["c"]);
}

#[test]
fn an_open_transaction_goes_on_and_a_prepared_one_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = persistent(folder.path(), Duration::from_secs(1));
    let first = init(&mut it).unwrap();
    assert_eq!(it.produce_in_transaction(12, "job", 0, batch(&["a"], Some((first, 0)), true)), 0);
    let _left = kill_and_restart(&mut it, folder.path());
    assert_eq!(it.fetch(0, 0, true).last_stable_offset, 0, "open as before");
    assert_eq!(it.produce_in_transaction(12, "job", 0, batch(&["b"], Some((first, 1)), true)), 0);
    assert_eq!(commit_offset(&mut it, first, 42), 0);

    // The end of this one is prepared, its markers are not out.
    let folder = tempfile::tempdir().unwrap();
    let mut it = persistent(folder.path(), Duration::from_secs(1));
    let first = init(&mut it).unwrap();
    assert_eq!(it.produce_in_transaction(12, "job", 0, batch(&["a"], Some((first, 0)), true)), 0);
    assert_eq!(commit_offset(&mut it, first, 42), 0);
    let next = end(&mut it, 5, first, true);
    assert_eq!(it.fetch(0, 0, true).last_stable_offset, 0);
    let _left = kill_and_restart(&mut it, folder.path());
    it.advance(Duration::ZERO);
    assert_eq!(values(&it.fetch(0, 0, true).records), ["a"]);
    assert_eq!(committed_offset(&mut it, true), (42, 0));
    let again = end(&mut it, 5, first, true);
    assert_eq!((again.error_code, again.producer_epoch), (0, next.producer_epoch), "asked again");
    let late = it.produce_in_transaction(12, "job", 0, batch(&["late"], Some((first, 1)), true));
    assert_eq!(late, ErrorCode::INVALID_PRODUCER_EPOCH.code());
}

#[test]
fn a_folder_has_one_broker_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { data: Some(folder.path().to_owned()), ..Options::default() };
    let first = Cluster::new(start_of_time(), options.clone(), 1).unwrap();
    let refused = Cluster::new(start_of_time(), options.clone(), 2).unwrap_err();
    assert!(refused.to_string().contains("another broker uses this folder"), "{refused}");
    drop(first);
    Cluster::new(start_of_time(), options, 3).unwrap();
}

#[test]
fn producer_ids_are_never_given_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = persistent(folder.path(), Duration::ZERO);
    let request = || {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        request.with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
    };
    let first = it.call(4, request()).producer_id.0;
    let _left = kill_and_restart(&mut it, folder.path());
    assert_eq!(it.call(4, request()).producer_id.0, first + 1);
    assert_eq!(init(&mut it).unwrap().id, first + 2);
}

#[test]
fn the_journal_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { data: Some(folder.path().to_owned()), ..Options::default() };
    let mut it = Harness::new(options);
    let mut producer = init(&mut it).unwrap();
    // Each transaction carries 4,000 bytes, journalled some four times: 32 MB in all.
    for offset in 0..2_000 {
        assert_eq!(commit_large_offset(&mut it, producer, offset), 0);
        producer.epoch = end(&mut it, 5, producer, true).producer_epoch;
    }
    let bytes = fs::metadata(folder.path().join("journal")).unwrap().len();
    assert!(bytes < 17 << 20, "{bytes} bytes");
    let _left = kill_and_restart(&mut it, folder.path());
    assert_eq!(committed_offset(&mut it, true), (1_999, 0));
}

#[test]
fn offsets_of_groups_survive_and_what_was_deleted_stays_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut it = persistent(folder.path(), Duration::ZERO);
    for value in ["a", "b"] {
        it.produce(9, 0, batch(&[value], None, false));
    }
    for group in ["kept", "deleted"] {
        let partitions = [(0, 7), (1, 9)].map(|(index, offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_metadata(Some(text("from before")))
        });
        let topic =
            OffsetCommitRequestTopic::default().with_name(topic_name()).with_partitions(partitions.into());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        assert_eq!(it.call(8, request).topics[0].partitions[1].error_code, 0);
    }
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(1);
    let topic = OffsetDeleteRequestTopic::default().with_name(topic_name()).with_partitions(vec![partition]);
    let request =
        OffsetDeleteRequest::default().with_group_id(GroupId(text("kept"))).with_topics(vec![topic]);
    assert_eq!(it.call(0, request).topics[0].partitions[0].error_code, 0);
    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("deleted"))]);
    assert_eq!(it.call(2, request).results[0].error_code, 0);
    it.cluster.delete_records(it.now, TOPIC, 0, 1);

    let _left = kill_and_restart(&mut it, folder.path());
    let listed = it.call(5, ListGroupsRequest::default()).groups;
    assert_eq!(listed.iter().map(|it| it.group_id.as_str()).collect::<Vec<_>>(), ["kept"]);
    let topic = OffsetFetchRequestTopics::default().with_name(topic_name());
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("kept")))
        .with_topics(Some(vec![topic.with_partition_indexes(vec![0, 1])]));
    let answer = it.call(8, OffsetFetchRequest::default().with_groups(vec![group])).groups.remove(0);
    let known = answer.topics[0].partitions.iter().map(|it| {
        (it.committed_offset, it.metadata.as_ref().map(|metadata| metadata.to_string()).unwrap_or_default())
    });
    assert_eq!(known.collect::<Vec<_>>(), [(7, "from before".to_owned()), (-1, String::new())]);
    let fetched = it.fetch(0, 1, false);
    assert_eq!((fetched.log_start_offset, values(&fetched.records)), (1, vec!["b".to_owned()]));
}

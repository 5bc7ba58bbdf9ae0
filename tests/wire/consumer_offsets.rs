//! Where a consumer starts, goes on, and what it commits.

use std::time::Duration;

use kafka_wire::{CommittedOffset, ErrorKind, Isolation, OffsetSpec, Position, TopicPartition};
use tidewater_broker::{Action, ApiKey, ErrorCode, Options, Rule};

use super::consumer_reads::{consumer, partition, write};
use super::{block_on, broker};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn committed_positions_are_where_the_next_consumer_starts() {
    let broker = broker(Options::default().with_topic("t", 1));
    write(&broker, "t", 0..10);
    let with_group = || consumer(&broker, |config| config.group_id = Some("g".to_owned()));
    let mut first = with_group();
    assert_eq!(block_on(first.committed([partition("t")])).unwrap(), [(partition("t"), None)]);
    first.assign([(partition("t"), Position::Beginning)]).unwrap();
    let batch = first.poll_blocking(LONG).unwrap();
    // The answer is lost once, and the coordinator says that it has moved: neither is the caller's business.
    broker.add_rule(Rule::new(Action::ApplyThenDisconnect).api(ApiKey::OffsetCommit).times(1));
    broker.add_rule(Rule::new(Action::Error(ErrorCode::NOT_COORDINATOR)).api(ApiKey::OffsetCommit).times(1));
    block_on(first.commit()).unwrap();
    let mut second = with_group();
    let committed = block_on(second.committed([partition("t")])).unwrap();
    assert_eq!(committed[0].1.as_ref().unwrap().offset, batch.next_offset());
    second.assign([(partition("t"), Position::Committed)]).unwrap();
    assert_eq!(block_on(second.position(&partition("t"))).unwrap().offset, batch.next_offset());
    let with_metadata = CommittedOffset { offset: 7, leader_epoch: None, metadata: "why".to_owned() };
    block_on(second.commit_offsets([(partition("t"), with_metadata.clone())])).unwrap();
    let committed = block_on(first.committed([partition("t")])).unwrap();
    assert_eq!(committed, [(partition("t"), Some(with_metadata))]);
}

#[test]
fn without_a_group_committing_says_what_is_missing() {
    let broker = broker(Options::default().with_topic("t", 1));
    let mut consumer = consumer(&broker, |_| {});
    let error = consumer.assign([(partition("t"), Position::Committed)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let error = block_on(consumer.committed([partition("t")])).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("group.id"), "{error}");
}

#[test]
fn offsets_are_listed_in_the_order_asked() {
    let broker = broker(Options { nodes: 2, ..Options::default() }.with_topic("t", 3));
    write(&broker, "t", 0..10);
    broker.control(|cluster, now| cluster.delete_records(now, "t", 0, 4));
    let consumer = consumer(&broker, |_| {});
    broker.add_rule(Rule::new(Action::Disconnect).api(ApiKey::ListOffsets).times(1));
    let asked = [
        (TopicPartition::new("t", 2), OffsetSpec::Latest),
        (partition("t"), OffsetSpec::Latest),
        (partition("t"), OffsetSpec::Earliest),
        (partition("t"), OffsetSpec::Timestamp(i64::MAX)),
    ];
    let listed = block_on(consumer.list_offsets(asked, Isolation::ReadCommitted)).unwrap();
    let listed: Vec<_> = listed.into_iter().map(|(at, listed)| (at.partition, listed.offset)).collect();
    assert_eq!(listed, [(2, Some(0)), (0, Some(10)), (0, Some(4)), (0, None)]);
}

#[test]
fn seek_pause_and_resume_move_and_hold_a_partition() {
    let broker = broker(Options::default().with_topic("t", 1).with_topic("u", 1));
    write(&broker, "t", 0..5);
    write(&broker, "u", 0..5);
    let mut consumer = consumer(&broker, |_| {});
    let both = [(partition("t"), Position::Beginning), (partition("u"), Position::Beginning)];
    consumer.assign(both).unwrap();
    consumer.pause([&partition("t")]).unwrap();
    let mut read = 0;
    while read < 5 {
        let batch = consumer.poll_blocking(LONG).unwrap();
        assert_eq!(batch.topic_partition(), &partition("u"), "the other one is paused");
        read += batch.len();
    }
    assert!(consumer.poll_blocking(Duration::from_millis(200)).unwrap().is_empty());
    consumer.resume([&partition("t")]).unwrap();
    assert_eq!(consumer.poll_blocking(LONG).unwrap().topic_partition(), &partition("t"));
    consumer.seek(&partition("u"), 3).unwrap();
    loop {
        let batch = consumer.poll_blocking(LONG).unwrap();
        if batch.topic_partition() == &partition("u") {
            assert_eq!(batch.iter().next().unwrap().offset, 3);
            break;
        }
    }
    let error = consumer.seek(&partition("v"), 3).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(consumer.seek(&partition("u"), -3).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn topics_are_described_and_partitions_added_and_taken_away() {
    let broker = broker(Options::default().with_topic("t", 3).with_topic("u", 1));
    let mut consumer = consumer(&broker, |_| {});
    let topic = block_on(consumer.describe_topic("t")).unwrap();
    assert!(topic.partitions.len() == 3 && topic.id.is_some());
    consumer.assign([(partition("t"), Position::End)]).unwrap();
    consumer.incremental_assign([(partition("u"), Position::Beginning)]).unwrap();
    write(&broker, "u", 0..1);
    assert_eq!(consumer.poll_blocking(LONG).unwrap().topic_partition(), &partition("u"));
    consumer.incremental_unassign([partition("u")]).unwrap();
    assert_eq!(consumer.assignment(), [partition("t")]);
    write(&broker, "u", 1..2);
    assert!(consumer.poll_blocking(Duration::from_millis(200)).unwrap().is_empty());
}

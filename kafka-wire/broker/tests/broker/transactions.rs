//! Transactions of both protocols, from outside.

use std::time::Duration;

use kafka_wire::protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_wire::protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_wire::protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_wire::protocol::messages::*;
use kafka_wire::{ErrorCode, ProducerIdentity};
use tidewater_broker::Options;

use crate::harness::*;

const ID: &str = "job";

pub(crate) fn init(it: &mut Harness) -> Result<ProducerIdentity, i16> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text(ID))))
        .with_transaction_timeout_ms(10_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let answer = it.call(4, request);
    match answer.error_code {
        0 => Ok(ProducerIdentity { id: answer.producer_id.0, epoch: answer.producer_epoch }),
        code => Err(code),
    }
}

pub(crate) fn end(
    it: &mut Harness,
    version: i16,
    producer: ProducerIdentity,
    commit: bool,
) -> EndTxnResponse {
    let request = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(text(ID)))
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_committed(commit);
    it.call(version, request)
}

fn next(answer: &EndTxnResponse) -> ProducerIdentity {
    assert_eq!(answer.error_code, 0);
    ProducerIdentity { id: answer.producer_id.0, epoch: answer.producer_epoch }
}

fn add_partition(it: &mut Harness, producer: ProducerIdentity, partition: i32) -> i16 {
    let topic = AddPartitionsToTxnTopic::default().with_name(topic_name()).with_partitions(vec![partition]);
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(TransactionalId(text(ID)))
        .with_v3_and_below_producer_id(ProducerId(producer.id))
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(vec![topic]);
    it.call(3, request).results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
}

pub(crate) fn commit_offset(it: &mut Harness, producer: ProducerIdentity, offset: i64) -> i16 {
    commit_offset_with(it, producer, offset, "manifest")
}

/// With metadata of 4,000 bytes.
pub(crate) fn commit_large_offset(it: &mut Harness, producer: ProducerIdentity, offset: i64) -> i16 {
    commit_offset_with(it, producer, offset, &"x".repeat(4_000))
}

fn commit_offset_with(it: &mut Harness, producer: ProducerIdentity, offset: i64, metadata: &str) -> i16 {
    let partition = TxnOffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text(metadata)));
    let topic =
        TxnOffsetCommitRequestTopic::default().with_name(topic_name()).with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(TransactionalId(text(ID)))
        .with_group_id(GroupId(text("group")))
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(producer.epoch)
        .with_generation_id(-1)
        .with_topics(vec![topic]);
    it.call(5, request).topics[0].partitions[0].error_code
}

pub(crate) fn committed_offset(it: &mut Harness, require_stable: bool) -> (i64, i16) {
    let topic = OffsetFetchRequestTopics::default().with_name(topic_name()).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("group")))
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(require_stable);
    let partition = &it.call(8, request).groups[0].topics[0].partitions[0];
    (partition.committed_offset, partition.error_code)
}

#[test]
fn version_2_commits_and_aborts_across_partitions() {
    let mut it = Harness::new(Options::default());
    let first = init(&mut it).unwrap();
    for partition in 0..2 {
        let code = it.produce_in_transaction(12, ID, partition, batch(&["kept"], Some((first, 0)), true));
        assert_eq!(code, 0);
    }
    let open = it.fetch(0, 0, true);
    assert_eq!((open.high_watermark, open.last_stable_offset, values(&open.records).len()), (1, 0, 0));
    assert_eq!(values(&it.fetch(0, 0, false).records), ["kept"]);
    let second = next(&end(&mut it, 5, first, true));
    assert_eq!((second.id, second.epoch), (first.id, first.epoch + 1));
    for partition in 0..2 {
        assert_eq!(values(&it.fetch(partition, 0, true).records), ["kept"]);
    }

    assert_eq!(it.produce_in_transaction(12, ID, 0, batch(&["gone"], Some((second, 0)), true)), 0);
    let third = next(&end(&mut it, 5, second, false));
    let fetched = it.fetch(0, 1, true);
    let aborted = fetched.aborted_transactions.clone().unwrap();
    assert_eq!((aborted.len(), aborted[0].producer_id.0, aborted[0].first_offset), (1, first.id, 2));
    assert_eq!((fetched.last_stable_offset, fetched.high_watermark), (4, 4));
    // A batch of the transaction before, late: it would hang for ever.
    let late = it.produce_in_transaction(12, ID, 0, batch(&["late"], Some((second, 1)), true));
    assert_eq!(late, ErrorCode::INVALID_PRODUCER_EPOCH.code());
    assert_eq!(next(&end(&mut it, 5, second, false)), third, "asked again after a lost answer");
}

#[test]
fn version_1_adds_partitions_by_request_and_keeps_sequences() {
    let mut it = Harness::new(Options::default());
    let producer = init(&mut it).unwrap();
    let data = batch(&["a"], Some((producer, 0)), true);
    assert_eq!(
        it.produce_in_transaction(10, ID, 0, data.clone()),
        ErrorCode::INVALID_TXN_STATE.code(),
        "never added"
    );
    assert_eq!(it.produce_in_transaction(11, ID, 0, data.clone()), ErrorCode::TRANSACTION_ABORTABLE.code());
    assert_eq!(add_partition(&mut it, producer, 0), 0);
    assert_eq!(it.produce_in_transaction(11, ID, 0, data), 0);
    assert_eq!(end(&mut it, 4, producer, true).error_code, 0);
    assert_eq!(add_partition(&mut it, producer, 0), 0);
    assert_eq!(it.produce_in_transaction(11, ID, 0, batch(&["b"], Some((producer, 1)), true)), 0);
    assert_eq!(end(&mut it, 4, producer, true).error_code, 0);
    assert_eq!(values(&it.fetch(0, 0, true).records), ["a", "b"]);
}

#[test]
fn a_zombie_is_fenced() {
    let mut it = Harness::new(Options::default());
    let zombie = init(&mut it).unwrap();
    assert_eq!(it.produce_in_transaction(12, ID, 0, batch(&["lost"], Some((zombie, 0)), true)), 0);
    assert_eq!(init(&mut it), Err(ErrorCode::CONCURRENT_TRANSACTIONS.code()));
    let fresh = init(&mut it).unwrap();
    assert_eq!(fresh.epoch, zombie.epoch + 2);
    let code = it.produce_in_transaction(12, ID, 0, batch(&["late"], Some((zombie, 1)), true));
    assert_eq!(code, ErrorCode::INVALID_PRODUCER_EPOCH.code());
    let code = it.produce_in_transaction(12, ID, 1, batch(&["late"], Some((zombie, 0)), true));
    assert_eq!(code, ErrorCode::INVALID_PRODUCER_EPOCH.code(), "nor where it never wrote");
    assert_eq!(end(&mut it, 5, zombie, true).error_code, ErrorCode::PRODUCER_FENCED.code());
    let fetched = it.fetch(0, 0, true);
    assert_eq!(fetched.aborted_transactions.unwrap().len(), 1);
}

#[test]
fn offsets_come_with_their_transaction() {
    let mut it = Harness::new(Options::default());
    let first = init(&mut it).unwrap();
    assert_eq!(commit_offset(&mut it, first, 42), 0);
    assert_eq!(committed_offset(&mut it, false), (-1, 0));
    assert_eq!(committed_offset(&mut it, true), (-1, ErrorCode::UNSTABLE_OFFSET_COMMIT.code()));
    let second = next(&end(&mut it, 5, first, true));
    assert_eq!(committed_offset(&mut it, true), (42, 0));
    assert_eq!(commit_offset(&mut it, second, 43), 0);
    end(&mut it, 5, second, false);
    assert_eq!(committed_offset(&mut it, true), (42, 0));
}

#[test]
fn markers_can_take_their_time() {
    let delay = Duration::from_millis(30);
    let mut it = Harness::new(Options { marker_delay: delay, ..Options::default() });
    let first = init(&mut it).unwrap();
    assert_eq!(it.produce_in_transaction(12, ID, 0, batch(&["a"], Some((first, 0)), true)), 0);
    let second = next(&end(&mut it, 5, first, true));
    let concurrent = ErrorCode::CONCURRENT_TRANSACTIONS.code();
    assert_eq!(it.fetch(0, 0, true).last_stable_offset, 0);
    assert_eq!(init(&mut it), Err(concurrent));
    assert_eq!(end(&mut it, 5, first, true).error_code, concurrent);
    assert_eq!(it.produce_in_transaction(12, ID, 1, batch(&["b"], Some((second, 0)), true)), concurrent);
    it.advance(delay);
    assert_eq!(values(&it.fetch(0, 0, true).records), ["a"]);
    assert_eq!(it.produce_in_transaction(12, ID, 1, batch(&["b"], Some((second, 0)), true)), 0);
}

#[test]
fn an_abandoned_transaction_is_aborted_after_its_timeout() {
    let mut it = Harness::new(Options::default());
    let producer = init(&mut it).unwrap();
    assert_eq!(it.produce_in_transaction(12, ID, 0, batch(&["a"], Some((producer, 0)), true)), 0);
    it.advance(Duration::from_millis(9_999));
    assert_eq!(it.fetch(0, 0, true).last_stable_offset, 0);
    it.advance(Duration::from_millis(1));
    let fetched = it.fetch(0, 0, true);
    assert_eq!((fetched.last_stable_offset, fetched.aborted_transactions.unwrap().len()), (2, 1));
    let code = it.produce_in_transaction(12, ID, 0, batch(&["b"], Some((producer, 1)), true));
    assert_eq!(code, ErrorCode::INVALID_PRODUCER_EPOCH.code());
}

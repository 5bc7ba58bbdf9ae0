//! Produce, Fetch, ListOffsets, truncation, retention.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::protocol::messages::fetch_request::ForgottenTopic;
use kafka_wire::protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_wire::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::protocol::messages::*;
use kafka_wire::{ErrorCode, ProducerIdentity};
use tidewater_broker::Options;
use uuid::Uuid;

use crate::harness::*;

const PRODUCER: ProducerIdentity = ProducerIdentity { id: 77, epoch: 0 };

pub(crate) fn set_config(it: &mut Harness, name: &str, value: &str) {
    let config = AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(TOPIC))
        .with_configs(vec![config]);
    let answer = it.call(1, IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
}

fn list_offset(it: &mut Harness, timestamp: i64) -> (i64, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(topic_name()).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let answer = it.call(7, request);
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    (partition.offset, partition.timestamp)
}

#[test]
fn what_is_produced_is_fetched_in_every_version() {
    let mut it = Harness::new(Options::default());
    for (version, offset) in (3..=13).zip(0..) {
        let produced = it.produce(version, 0, batch(&[&format!("v{version}")], None, false));
        assert_eq!((produced.error_code, produced.base_offset), (0, offset));
    }
    let id = it.topic_id();
    for version in 4..=18 {
        let answer = it.call(version, fetch_request(version, id, 0, 4));
        let partition = &answer.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, 11), "version {version}");
        let expected: Vec<(i64, String)> =
            (4..11).map(|offset| (offset, format!("v{}", offset + 3))).collect();
        assert_eq!(records(&partition.records), expected, "version {version}");
    }
}

#[test]
fn a_repeated_batch_gets_its_first_offset_and_a_gap_is_refused() {
    let mut it = Harness::new(Options::default());
    it.produce(9, 0, batch(&["other"], None, false));
    let first = batch(&["a", "b"], Some((PRODUCER, 0)), false);
    assert_eq!(it.produce(9, 0, first.clone()).base_offset, 1);
    assert_eq!(it.produce(9, 0, first).base_offset, 1);
    let gap = it.produce(9, 0, batch(&["d"], Some((PRODUCER, 3)), false));
    assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER.code());
    assert_eq!(values(&it.fetch(0, 0, false).records), ["other", "a", "b"]);
}

#[test]
fn bad_batches_are_refused_by_name() {
    let mut it = Harness::new(Options::default());
    let good = batch(&["value"], None, false);
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let mut old_magic = good.to_vec();
    old_magic[16] = 1;
    let mut counted_wrong = good.to_vec();
    counted_wrong[60] = 9;
    let mut based = good.to_vec();
    based[7] = 5;
    let large = batch(&["x".repeat(1_100_000).as_str()], None, false);
    for (bytes, code) in [
        (Bytes::from(flipped), ErrorCode::CORRUPT_MESSAGE),
        (Bytes::from(old_magic), ErrorCode::INVALID_RECORD),
        (Bytes::from(counted_wrong), ErrorCode::CORRUPT_MESSAGE),
        (Bytes::from(based), ErrorCode::INVALID_RECORD),
        (good.slice(..70), ErrorCode::INVALID_RECORD),
        (good.slice(..20), ErrorCode::INVALID_RECORD),
        (Bytes::new(), ErrorCode::INVALID_RECORD),
        (Bytes::from([&good[..], &good[..]].concat()), ErrorCode::INVALID_RECORD),
        (large, ErrorCode::MESSAGE_TOO_LARGE),
    ] {
        assert_eq!(it.produce(9, 0, bytes).error_code, code.code(), "{code}");
    }
    assert_eq!(it.produce(9, 5, good).error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code());
    assert_eq!(it.fetch(0, 0, false).high_watermark, 0);
}

#[test]
fn a_fetch_waits_for_enough_bytes_or_its_deadline() {
    let mut it = Harness::new(Options::default());
    let one = batch(&["one"], None, false);
    let mut request = fetch_request(12, Uuid::nil(), 0, 0);
    request.min_bytes = 2 * one.len() as i32;
    assert!(matches!(it.send(0, 12, request.clone()), Outcome::Waiting));
    let connection = it.cluster.handle_connected(0);
    let produce = |it: &mut Harness, batch: &Bytes| {
        let request = produce_request(9, Uuid::nil(), 0, batch.clone(), None);
        let plain = kafka_wire::protocol::request::Plain::new(request);
        let frame = kafka_wire::protocol::header::encode_request(&plain, 9, 1, None).unwrap();
        it.cluster.handle_request(it.now, connection, Bytes::from(frame.concat()).slice(4..));
    };
    produce(&mut it, &one);
    assert!(matches!(it.outcome(), Outcome::Waiting), "one batch is not enough");
    produce(&mut it, &one);
    let Outcome::Answered(response) = it.outcome() else { panic!("two are") };
    let answer = response.decode::<FetchRequest>().unwrap();
    assert_eq!(values(&answer.responses[0].partitions[0].records), ["one", "one"]);

    request.min_bytes = i32::MAX;
    assert!(matches!(it.send(0, 12, request), Outcome::Waiting));
    it.advance(Duration::from_millis(999));
    assert!(matches!(it.outcome(), Outcome::Waiting));
    it.advance(Duration::from_millis(1));
    let Outcome::Answered(response) = it.outcome() else { panic!("its time is over") };
    let answer = response.decode::<FetchRequest>().unwrap();
    assert_eq!(values(&answer.responses[0].partitions[0].records), ["one", "one"]);
}

#[test]
fn a_session_tells_only_what_is_new() {
    let mut it = Harness::new(Options::default());
    it.produce(9, 0, batch(&["a"], None, false));
    let mut request = fetch_request(12, Uuid::nil(), 0, 0);
    request.session_epoch = 0;
    request.max_wait_ms = 0;
    let other = request.topics[0].partitions[0].clone().with_partition(1);
    request.topics[0].partitions.push(other);
    let opened = it.call(12, request.clone());
    assert!(opened.session_id > 0);
    assert_eq!(opened.responses.iter().map(|topic| topic.partitions.len()).sum::<usize>(), 2);

    let mut next = request.clone();
    next.session_id = opened.session_id;
    next.session_epoch = 1;
    next.topics = vec![request.topics[0].clone()];
    next.topics[0].partitions.truncate(1);
    next.topics[0].partitions[0].fetch_offset = 1;
    assert_eq!(it.call(12, next.clone()).responses, [], "nothing is new");
    it.produce(9, 1, batch(&["b"], None, false));
    next.session_epoch = 2;
    next.topics.clear();
    let answer = it.call(12, next.clone());
    assert_eq!(answer.responses[0].partitions[0].partition_index, 1);
    assert_eq!(values(&answer.responses[0].partitions[0].records), ["b"]);
    let stale = it.call(12, next.clone());
    assert_eq!(stale.error_code, ErrorCode::INVALID_FETCH_SESSION_EPOCH.code());
    next.session_epoch = 3;
    let forgotten = ForgottenTopic::default().with_topic(topic_name()).with_partitions(vec![0, 1]);
    next.forgotten_topics_data = vec![forgotten];
    let last = it.call(12, next);
    assert_eq!((last.error_code, last.session_id), (0, 0), "a session without partitions is over");
}

#[test]
fn offsets_are_found_by_time() {
    let mut it = Harness::new(Options::default());
    assert_eq!(list_offset(&mut it, -1), (0, -1));
    it.produce(9, 0, batch(&["1000", "1001", "1002"], None, false));
    it.produce(9, 0, batch(&["1000 again"], None, false));
    assert_eq!(list_offset(&mut it, -1), (4, -1));
    assert_eq!(list_offset(&mut it, -2), (0, -1));
    assert_eq!(list_offset(&mut it, 1001), (1, 1001));
    assert_eq!(list_offset(&mut it, 1003), (-1, -1));
    assert_eq!(list_offset(&mut it, -3), (2, 1002));
    set_config(&mut it, "message.timestamp.type", "LogAppendTime");
    it.advance(Duration::from_millis(500));
    let produced = it.produce(9, 0, batch(&["stamped"], None, false));
    assert_eq!(produced.log_append_time_ms, it.now.unix_ms);
    let now = it.now.unix_ms;
    assert_eq!(list_offset(&mut it, now), (4, now));
}

#[test]
fn truncation_is_told_to_who_has_read_what_is_gone() {
    let mut it = Harness::new(Options::default());
    for value in ["a", "b", "c"] {
        it.produce(9, 0, batch(&[value], None, false));
    }
    it.cluster.truncate(it.now, TOPIC, 0, 1).unwrap();
    it.produce(9, 0, batch(&["x"], None, false));
    let mut request = fetch_request(12, Uuid::nil(), 0, 3);
    let partition = &mut request.topics[0].partitions[0];
    partition.current_leader_epoch = 1;
    partition.last_fetched_epoch = 0;
    let answer = it.call(12, request.clone());
    let told = &answer.responses[0].partitions[0];
    assert_eq!((told.error_code, told.diverging_epoch.epoch, told.diverging_epoch.end_offset), (0, 0, 1));
    request.topics[0].partitions[0].current_leader_epoch = 0;
    let answer = it.call(12, request);
    assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::FENCED_LEADER_EPOCH.code());
    assert_eq!(values(&it.fetch(0, 0, false).records), ["a", "x"]);
}

#[test]
fn what_is_deleted_is_out_of_range() {
    let mut it = Harness::new(Options::default());
    for value in ["a", "b", "c"] {
        it.produce(9, 0, batch(&[value], None, false));
    }
    it.cluster.delete_records(it.now, TOPIC, 0, 2);
    assert_eq!(it.fetch(0, 1, false).error_code, ErrorCode::OFFSET_OUT_OF_RANGE.code());
    assert_eq!(it.fetch(0, 4, false).error_code, ErrorCode::OFFSET_OUT_OF_RANGE.code());
    assert_eq!(values(&it.fetch(0, 2, false).records), ["c"]);
    set_config(&mut it, "retention.bytes", "100");
    it.produce(9, 0, batch(&["d"], None, false));
    it.advance(Duration::from_secs(2));
    assert_eq!(it.fetch(0, 2, false).error_code, ErrorCode::OFFSET_OUT_OF_RANGE.code());
    assert_eq!(values(&it.fetch(0, 3, false).records), ["d"]);
}

#[test]
fn every_version_that_is_announced_is_answered() {
    let mut it = Harness::new(Options::default());
    let served = it.call(4, ApiVersionsRequest::default()).api_keys;
    let mut answered = 0;
    macro_rules! call_all {
        ($($request:ty),* $(,)?) => {$(
            let key = kafka_wire::protocol::request::api_of::<$request>() as i16;
            let api = served.iter().find(|api| api.api_key == key).unwrap();
            let first = if key == ApiKey::Produce as i16 { 3 } else { api.min_version };
            // Their last versions are written and read by hand: see their own tests.
            let by_hand = [
                ApiKey::DescribeShareGroupOffsets,
                ApiKey::OffsetCommit,
                ApiKey::OffsetFetch,
                ApiKey::ShareAcknowledge,
                ApiKey::ShareFetch,
            ];
            let is_by_hand = by_hand.into_iter().any(|api| api as i16 == key);
            for version in first..=api.max_version - i16::from(is_by_hand) {
                it.call(version, <$request>::default());
            }
            answered += 1;
        )*};
    }
    call_all!(
        AddOffsetsToTxnRequest,
        AddPartitionsToTxnRequest,
        AlterClientQuotasRequest,
        AlterConfigsRequest,
        AlterPartitionReassignmentsRequest,
        AlterReplicaLogDirsRequest,
        AlterShareGroupOffsetsRequest,
        AlterUserScramCredentialsRequest,
        ApiVersionsRequest,
        ConsumerGroupDescribeRequest,
        ConsumerGroupHeartbeatRequest,
        CreateAclsRequest,
        CreateDelegationTokenRequest,
        CreatePartitionsRequest,
        CreateTopicsRequest,
        DeleteAclsRequest,
        DeleteGroupsRequest,
        DeleteRecordsRequest,
        DeleteShareGroupOffsetsRequest,
        DeleteTopicsRequest,
        DescribeAclsRequest,
        DescribeClientQuotasRequest,
        DescribeClusterRequest,
        DescribeConfigsRequest,
        DescribeDelegationTokenRequest,
        DescribeGroupsRequest,
        DescribeLogDirsRequest,
        DescribeProducersRequest,
        DescribeQuorumRequest,
        DescribeShareGroupOffsetsRequest,
        DescribeTopicPartitionsRequest,
        DescribeTransactionsRequest,
        DescribeUserScramCredentialsRequest,
        ElectLeadersRequest,
        EndTxnRequest,
        ExpireDelegationTokenRequest,
        HeartbeatRequest,
        IncrementalAlterConfigsRequest,
        InitProducerIdRequest,
        JoinGroupRequest,
        LeaveGroupRequest,
        ListConfigResourcesRequest,
        ListGroupsRequest,
        ListOffsetsRequest,
        ListPartitionReassignmentsRequest,
        ListTransactionsRequest,
        MetadataRequest,
        OffsetCommitRequest,
        OffsetDeleteRequest,
        OffsetFetchRequest,
        OffsetForLeaderEpochRequest,
        ShareAcknowledgeRequest,
        ShareFetchRequest,
        ShareGroupDescribeRequest,
        ShareGroupHeartbeatRequest,
        RenewDelegationTokenRequest,
        SaslAuthenticateRequest,
        SaslHandshakeRequest,
        SyncGroupRequest,
        TxnOffsetCommitRequest,
        UnregisterBrokerRequest,
        UpdateFeaturesRequest,
        WriteTxnMarkersRequest,
    );
    for version in 0..=6 {
        let answer = it.call(version, FindCoordinatorRequest::default());
        assert_eq!((answer.error_code, answer.node_id.0), (0, 0));
        answered += i32::from(version == 0);
    }
    // Produce and Fetch have a test of their own.
    assert_eq!(answered as usize + 2, served.len());
}

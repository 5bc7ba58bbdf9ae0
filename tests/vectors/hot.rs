//! The hot path's own codecs and Kafka's generated classes read each other.

use std::fmt::Write as _;

use bytes::Bytes;
use kafka_wire::protocol::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_wire::protocol::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};
use kafka_wire::protocol::header::ReceivedRequest;
use kafka_wire::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::protocol::messages::{
    ApiKey, BrokerId, DescribeLogDirsRequest, ListOffsetsRequest, ResponseKind, StrBytes, TopicName,
};
use kafka_wire::protocol::metadata::{MetadataRequest, MetadataResponse};
use kafka_wire::protocol::offsets_by_id::{BY_ID_FROM, OffsetCommitById, OffsetFetchById};
use kafka_wire::protocol::produce::{PartitionRecords, ProduceRequest, ProduceResponse, TopicRecords};
use kafka_wire::protocol::request::{FrameBuilder, Plain, Request, Response};
use kafka_wire::protocol::share::{
    AcknowledgementBatch, ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareFetchRequest,
    ShareFetchResponse, ShareSession, ShareTopic,
};
use kafka_wire::protocol::share_group_offsets::DescribeShareGroupOffsetsRequest;
use kafka_wire::protocol::streams_group::StreamsGroupDescribeRequest;
use kafka_wire::{Acks, ErrorCode, Isolation, LeaderEpoch, TopicId};
use tidewater_tests::java;
use tidewater_tests::real_kafka::{self, Version};

use crate::messages::{Vector, all};
use crate::{assert_current, program};

const REQUESTS: &str = include_str!("requests.txt");

fn produce(transaction_v2: Option<bool>) -> ProduceRequest {
    ProduceRequest {
        transactional_id: transaction_v2.map(|_| "pay".into()),
        transaction_v2: transaction_v2 == Some(true),
        acks: Acks::All,
        timeout_ms: 30_000,
        topics: vec![TopicRecords {
            topic: "orders".into(),
            id: TopicId([7; 16]),
            partitions: vec![PartitionRecords {
                index: 3,
                records: vec![Bytes::from_static(b"head"), Bytes::from_static(b"body")],
            }],
        }],
    }
}

fn fetch(session_id: i32) -> FetchRequest {
    let partition = FetchPartition {
        index: 3,
        current_leader_epoch: Some(LeaderEpoch(5)),
        fetch_offset: 100,
        last_fetched_epoch: None,
        max_bytes: 1 << 20,
    };
    let forgotten = ForgottenTopic { topic: "bills".into(), id: TopicId([8; 16]), partitions: vec![1, 2] };
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        isolation: Isolation::ReadCommitted,
        session_id,
        session_epoch: if session_id == 0 { 0 } else { 9 },
        topics: vec![FetchTopic {
            topic: "orders".into(),
            id: TopicId([7; 16]),
            partitions: vec![partition],
        }],
        forgotten: if session_id == 0 { vec![] } else { vec![forgotten] },
        rack: "r1".into(),
    }
}

fn share_topics(types: &[i8]) -> Vec<ShareTopic> {
    let batch = |first_offset, types: &[i8]| AcknowledgementBatch {
        first_offset,
        last_offset: first_offset + 1,
        types: types.to_vec(),
    };
    let partitions = vec![(3, vec![batch(10, types), batch(20, &[1])]), (4, vec![])];
    vec![ShareTopic { id: TopicId([7; 16]), partitions }]
}

fn share_session(epoch: i32) -> ShareSession {
    ShareSession { group: "workers".into(), member_id: "m-1".into(), epoch }
}

fn share_fetch(epoch: i32, types: &[i8], is_strict: bool) -> ShareFetchRequest {
    ShareFetchRequest {
        session: share_session(epoch),
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        max_records: 500,
        batch_size: 400,
        is_strict,
        is_renewal: types.contains(&AcknowledgementBatch::RENEW),
        topics: share_topics(types),
        forgotten: vec![(TopicId([8; 16]), vec![1, 2])],
    }
}

fn share_acknowledge(epoch: i32, types: &[i8]) -> ShareAcknowledgeRequest {
    let is_renewal = types.contains(&AcknowledgementBatch::RENEW);
    ShareAcknowledgeRequest { session: share_session(epoch), is_renewal, topics: share_topics(types) }
}

fn list_offsets() -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_partition_index(3).with_timestamp(-6);
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(StrBytes::from_static_str("orders")))
        .with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

/// Each request in each version that it allows: API key, version, bytes.
fn requests() -> String {
    let metadata = |topics, allow_auto_topic_creation| MetadataRequest { topics, allow_auto_topic_creation };
    let requests: [Box<dyn Request>; 17] = [
        Box::new(ApiVersionsRequest { software_name: "tidewater-kafka", software_version: "1.2.3" }),
        Box::new(metadata(None, true)),
        Box::new(metadata(Some(vec![]), false)),
        Box::new(metadata(Some(vec!["orders".into(), "bills".into()]), false)),
        Box::new(produce(None)),
        Box::new(produce(Some(false))),
        Box::new(produce(Some(true))),
        Box::new(fetch(0)),
        Box::new(fetch(77)),
        Box::new(share_fetch(3, &[1, 2], false)),
        Box::new(share_fetch(3, &[1, 4], true)),
        Box::new(share_acknowledge(-1, &[0, 3])),
        Box::new(share_acknowledge(9, &[4, 1])),
        Box::new(StreamsGroupDescribeRequest {
            group_ids: vec!["counts".into(), "joins".into()],
            include_authorized_operations: true,
        }),
        Box::new(DescribeShareGroupOffsetsRequest { group_ids: vec!["workers".into(), "others".into()] }),
        Box::new(Plain::in_versions(list_offsets(), 10..=11)),
        Box::new(Plain::in_versions(DescribeLogDirsRequest::default().with_topics(None), 4..=5)),
    ];
    let mut lines = String::new();
    for request in requests {
        for version in request.versions() {
            let mut frame = FrameBuilder::new();
            request.encode(version, &mut frame).expect("encode");
            write!(lines, "{} {version} ", request.api() as i16).unwrap();
            for byte in frame.finish().concat() {
                write!(lines, "{byte:02x}").unwrap();
            }
            lines.push('\n');
        }
    }
    lines
}

#[test]
fn kafka_reads_our_requests_and_would_write_the_same() {
    if !real_kafka::available() {
        return;
    }
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::io::Write::write_all(&mut file, requests().as_bytes()).expect("write the requests");
    let path = file.path().to_str().expect("a path in UTF-8");
    let understood = java::run(&real_kafka::jars(Version::V4_3), &program("Requests.java"), &[path]);
    assert_current("tests/vectors/requests.txt", &understood);
}

#[test]
fn our_requests_are_those_that_kafka_has_read() {
    let ours = requests();
    assert_eq!(ours.lines().count(), REQUESTS.lines().count());
    for (ours, read) in ours.lines().zip(REQUESTS.lines()) {
        assert!(read.starts_with(ours), "ours: {ours}\nread: {read}");
    }
}

#[test]
fn requests_that_name_topics_by_id_are_read_and_written_as_kafka_does() {
    let by_id = |vector: &Vector| {
        let is_one = matches!(vector.api, ApiKey::OffsetCommit | ApiKey::OffsetFetch);
        is_one && vector.is_request && vector.version >= BY_ID_FROM
    };
    let vectors: Vec<Vector> = all().into_iter().filter(by_id).collect();
    assert_eq!(vectors.len(), 4, "each of both, full and bare");
    for Vector { api, version, body, line, .. } in vectors {
        let decode = |body: Bytes| -> kafka_wire::Result<Box<dyn Request>> {
            let request = ReceivedRequest { api, version, correlation_id: 0, client_id: None, body };
            Ok(match api {
                ApiKey::OffsetCommit => Box::new(OffsetCommitById::decode(&request)?),
                _ => Box::new(OffsetFetchById::decode(&request)?),
            })
        };
        let mut frame = FrameBuilder::new();
        decode(body.clone()).expect(&line).encode(version, &mut frame).expect(&line);
        assert_eq!(frame.finish().concat(), body, "{line}");
        assert!((0..body.len()).all(|end| decode(body.slice(..end)).is_err()), "{line}");
    }
}

#[test]
fn our_codecs_read_from_kafkas_answers_what_kafka_protocol_reads() {
    let mut compared = 0;
    for vector in all().into_iter().filter(|vector| !vector.is_request) {
        let response = Response { api: vector.api, version: vector.version, body: vector.body.clone() };
        let is_hot =
            matches!(vector.api, ApiKey::ApiVersions | ApiKey::Fetch | ApiKey::Metadata | ApiKey::Produce);
        if !is_hot || (vector.api == ApiKey::Metadata && vector.version == 0) {
            continue;
        }
        compared += 1;
        match response.clone().decode_any().expect(&vector.line) {
            ResponseKind::ApiVersions(theirs) => {
                let ours = ApiVersionsResponse::decode(&response).expect(&vector.line);
                let ranges: Vec<_> = ours.apis.iter().map(|api| (api.api_key, api.min, api.max)).collect();
                let expected =
                    theirs.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version));
                assert_eq!(ranges, expected.collect::<Vec<_>>(), "{}", vector.line);
                assert_eq!(ours.finalized_features.len(), theirs.finalized_features.len());
            }
            ResponseKind::Fetch(theirs) => {
                compare_fetch(&FetchResponse::decode(&response).expect(&vector.line), &theirs)
            }
            ResponseKind::Metadata(theirs) => {
                let ours = MetadataResponse::decode(&response).expect(&vector.line);
                assert_eq!(ours.brokers.len(), theirs.brokers.len(), "{}", vector.line);
                let names: Vec<_> = ours.topics.iter().map(|topic| (&*topic.name, topic.id.0)).collect();
                let expected = theirs.topics.iter().map(|topic| {
                    (topic.name.as_ref().map_or("", |name| name.as_str()), topic.topic_id.into_bytes())
                });
                assert_eq!(names, expected.collect::<Vec<_>>(), "{}", vector.line);
                for (ours, theirs) in ours.topics.iter().zip(&theirs.topics) {
                    let leaders: Vec<_> =
                        ours.partitions.iter().map(|partition| partition.leader.map(|id| id.0)).collect();
                    let expected = theirs.partitions.iter().map(|partition| Some(*partition.leader_id));
                    assert_eq!(leaders, expected.collect::<Vec<_>>(), "{}", vector.line);
                }
            }
            ResponseKind::Produce(theirs) => {
                compare_produce(&ProduceResponse::decode(&response).expect(&vector.line), &theirs);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(compared, 2 * (5 + 15 + 13 + 11), "each version, full and bare");
}

fn compare_fetch(ours: &FetchResponse, theirs: &kafka_wire::protocol::messages::FetchResponse) {
    assert_eq!(ours.session_id, theirs.session_id);
    assert_eq!(ours.endpoints.len(), theirs.node_endpoints.len());
    assert_eq!(ours.topics.len(), theirs.responses.len());
    let partitions = ours.topics.iter().flat_map(|topic| &topic.partitions);
    let expected = theirs.responses.iter().flat_map(|topic| &topic.partitions);
    for (ours, theirs) in partitions.zip(expected) {
        assert_eq!(ours.index, theirs.partition_index);
        assert_eq!(ours.error, ErrorCode::from_wire(theirs.error_code));
        assert_eq!(ours.high_watermark, theirs.high_watermark);
        assert_eq!(ours.last_stable_offset, theirs.last_stable_offset);
        assert_eq!(ours.log_start_offset, theirs.log_start_offset);
        assert_eq!(ours.records, theirs.records.clone().unwrap_or_default());
        let aborted: Vec<_> =
            ours.aborted.iter().map(|entry| (entry.producer_id, entry.first_offset)).collect();
        let expected = theirs.aborted_transactions.iter().flatten();
        assert_eq!(
            aborted,
            expected.map(|entry| (*entry.producer_id, entry.first_offset)).collect::<Vec<_>>()
        );
        assert_eq!(ours.leader.map_or(-1, |hint| hint.leader.0), *theirs.current_leader.leader_id);
        assert_eq!(ours.diverging.map_or(-1, |epoch| epoch.end_offset), theirs.diverging_epoch.end_offset);
    }
}

fn compare_produce(ours: &ProduceResponse, theirs: &kafka_wire::protocol::messages::ProduceResponse) {
    assert_eq!(ours.endpoints.len(), theirs.node_endpoints.len());
    assert_eq!(ours.topics.len(), theirs.responses.len());
    let partitions = ours.topics.iter().flat_map(|topic| &topic.partitions);
    let expected = theirs.responses.iter().flat_map(|topic| &topic.partition_responses);
    for (ours, theirs) in partitions.zip(expected) {
        assert_eq!((ours.index, ours.base_offset), (theirs.index, theirs.base_offset));
        assert_eq!(ours.error, ErrorCode::from_wire(theirs.error_code));
        assert_eq!(ours.log_append_time_ms.unwrap_or(-1), theirs.log_append_time_ms);
        assert_eq!(ours.log_start_offset, theirs.log_start_offset);
        assert_eq!(ours.record_errors.len(), theirs.record_errors.len());
        assert_eq!(ours.error_message, theirs.error_message);
        assert_eq!(ours.leader.map_or(-1, |hint| hint.leader.0), *theirs.current_leader.leader_id);
    }
}

#[test]
fn our_share_codecs_read_kafkas_answers() {
    let mut compared = 0;
    let is_shared = |api| matches!(api, ApiKey::ShareFetch | ApiKey::ShareAcknowledge);
    for vector in all().into_iter().filter(|vector| !vector.is_request && is_shared(vector.api)) {
        let response = Response { api: vector.api, version: vector.version, body: vector.body.clone() };
        // kafka-protocol ends at version 1; what Kafka wrote in version 2 is read the same here.
        let theirs = (vector.version == 1).then(|| response.clone().decode_any().expect(&vector.line));
        if vector.api == ApiKey::ShareFetch {
            compare_share_fetch(&ShareFetchResponse::decode(&response).expect(&vector.line), theirs);
        } else {
            let ours = ShareAcknowledgeResponse::decode(&response).expect(&vector.line);
            compare_share_acknowledge(&ours, theirs);
        }
        compared += 1;
    }
    assert_eq!(compared, 2 * 2 * 2, "both APIs in both versions, full and bare");
}

/// The bytes that our codecs make of what they read in Kafka's.
fn rewritten(vector: &Vector) -> Bytes {
    let (api, version, body) = (vector.api, vector.version, vector.body.clone());
    let request = ReceivedRequest { api, version, correlation_id: 0, client_id: None, body: body.clone() };
    let response = Response { api, version, body };
    let mut frame = FrameBuilder::new();
    match (api, vector.is_request) {
        (ApiKey::ShareFetch, true) => {
            ShareFetchRequest::decode(&request).unwrap().encode(version, &mut frame)
        }
        (ApiKey::ShareFetch, false) => ShareFetchResponse::decode(&response).unwrap().encode(&mut frame),
        (_, true) => ShareAcknowledgeRequest::decode(&request).unwrap().encode(version, &mut frame),
        (_, false) => ShareAcknowledgeResponse::decode(&response).unwrap().encode(version, &mut frame),
    }
    .expect("encode what was decoded");
    frame.finish().concat().into()
}

/// The embedded broker's side. Null for a name is read as an empty one, and a partition's error messages are passed
/// over: with those, what is written is only read and written again.
#[test]
fn our_share_codecs_read_kafkas_requests_and_write_its_answers() {
    let mut compared = 0;
    let is_shared = |api| matches!(api, ApiKey::ShareFetch | ApiKey::ShareAcknowledge);
    for vector in all().into_iter().filter(|vector| is_shared(vector.api)) {
        let ours = rewritten(&vector);
        vector.check(&ours).expect(&vector.line);
        if vector.is_request != vector.is_bare {
            let mut theirs = vector.body.to_vec();
            if (vector.api, vector.version, vector.is_request) == (ApiKey::ShareFetch, 2, true) {
                // An acquire mode that Kafka does not have; what is not the default is strict.
                assert_eq!(std::mem::replace(&mut theirs[30], 1), 9);
            }
            assert_eq!(ours, theirs, "{}", vector.line);
        } else {
            let again = Vector { body: ours.clone(), ..vector.clone() };
            assert_eq!(rewritten(&again), ours, "{}", vector.line);
        }
        compared += 1;
    }
    assert_eq!(compared, 2 * 2 * 2 * 2, "requests and answers of both APIs in both versions, full and bare");
}

fn compare_share_fetch(ours: &ShareFetchResponse, theirs: Option<ResponseKind>) {
    let Some(ResponseKind::ShareFetch(theirs)) = theirs else { return };
    assert_eq!(ours.error, ErrorCode::from_wire(theirs.error_code));
    assert_eq!(ours.lock_timeout.as_millis(), theirs.acquisition_lock_timeout_ms as u128);
    assert_eq!(
        (ours.topics.len(), ours.endpoints.len()),
        (theirs.responses.len(), theirs.node_endpoints.len())
    );
    let partitions = ours.topics.iter().flat_map(|(id, partitions)| partitions.iter().map(move |p| (id, p)));
    let expected = theirs.responses.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
    for ((id, ours), (topic, theirs)) in partitions.zip(expected) {
        assert_eq!((id.0, ours.index), (topic.topic_id.into_bytes(), theirs.partition_index));
        assert_eq!(ours.error, ErrorCode::from_wire(theirs.error_code));
        assert_eq!(ours.acknowledge_error, ErrorCode::from_wire(theirs.acknowledge_error_code));
        assert_eq!(ours.leader.map_or(-1, |hint| hint.leader.0), theirs.current_leader.leader_id);
        assert_eq!(ours.records, theirs.records.clone().unwrap_or_default());
        let acquired = ours.acquired.iter().map(|a| (a.first_offset, a.last_offset, a.delivery_count));
        let expected =
            theirs.acquired_records.iter().map(|a| (a.first_offset, a.last_offset, a.delivery_count));
        assert!(acquired.eq(expected));
    }
}

fn compare_share_acknowledge(ours: &ShareAcknowledgeResponse, theirs: Option<ResponseKind>) {
    let Some(ResponseKind::ShareAcknowledge(theirs)) = theirs else { return };
    assert_eq!(ours.error, ErrorCode::from_wire(theirs.error_code));
    assert_eq!(
        (ours.topics.len(), ours.endpoints.len()),
        (theirs.responses.len(), theirs.node_endpoints.len())
    );
    let partitions = ours.topics.iter().flat_map(|(_, partitions)| partitions);
    let expected = theirs.responses.iter().flat_map(|topic| &topic.partitions);
    for (ours, theirs) in partitions.zip(expected) {
        assert_eq!(ours.index, theirs.partition_index);
        assert_eq!(ours.error, ErrorCode::from_wire(theirs.error_code));
        assert_eq!(ours.leader.map_or(-1, |hint| hint.leader.0), theirs.current_leader.leader_id);
    }
}

//! Every version of the hot path's calls, over a plain socket to a real broker.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use kafka_wire::protocol::TopicRef;
use kafka_wire::protocol::api_versions::{self, ApiVersionsRequest, ApiVersionsResponse};
use kafka_wire::protocol::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};
use kafka_wire::protocol::frame::FrameReader;
use kafka_wire::protocol::header::{encode_request, read_response};
use kafka_wire::protocol::limits::Limits;
use kafka_wire::protocol::messages::ApiKey;
use kafka_wire::protocol::metadata::{MetadataRequest, MetadataResponse, TopicMetadata};
use kafka_wire::protocol::produce::{PartitionRecords, ProduceRequest, ProduceResponse, TopicRecords};
use kafka_wire::protocol::request::{FrameBuilder, Request, Response};
use kafka_wire::protocol::versions::VersionTable;
use kafka_wire::record::{BatchBuilder, batches};
use kafka_wire::{Acks, Compression, ErrorCode, Isolation, LeaderEpoch, TopicId};
use tidewater_tests::real_kafka::{self, Cluster, Version};

/// A connection that waits for each answer.
struct Connection {
    socket: TcpStream,
    reader: FrameReader,
    correlation_id: i32,
}

impl Connection {
    fn open(cluster: &Cluster) -> Self {
        let socket = TcpStream::connect(cluster.bootstrap()).expect("connect");
        Self { socket, reader: FrameReader::new(Limits::DEFAULT.frame_max_bytes), correlation_id: 0 }
    }

    fn call(&mut self, request: &dyn Request, version: i16) -> Response {
        self.correlation_id += 1;
        let frame = encode_request(request, version, self.correlation_id, Some("protocol")).expect("encode");
        self.socket.write_all(&frame.concat()).expect("send");
        let mut bytes = [0; 4096];
        loop {
            if let Some(frame) = self.reader.next_frame().expect("a frame") {
                return read_response(&frame, request.api(), version, self.correlation_id)
                    .expect("an answer");
            }
            let count = self.socket.read(&mut bytes).expect("receive");
            assert!(count > 0, "the broker hung up on {:?} version {version}", request.api());
            self.reader.push(&bytes[..count]);
        }
    }

    fn versions(&mut self) -> VersionTable {
        let answer = self.api_versions(api_versions::NEWEST);
        if answer.error.is_none() {
            return VersionTable::new(answer).expect("a table");
        }
        let version = answer.fallback(api_versions::NEWEST).expect("a version");
        VersionTable::new(self.api_versions(version)).expect("a table")
    }

    fn api_versions(&mut self, version: i16) -> ApiVersionsResponse {
        let answer = self.call(&ApiVersionsRequest::default(), version);
        ApiVersionsResponse::decode(&answer).expect("decode")
    }

    fn topic(&mut self, topic: &str, version: i16) -> TopicMetadata {
        let request =
            MetadataRequest { topics: Some(vec![topic.into()]), allow_auto_topic_creation: version < 4 };
        let answer = MetadataResponse::decode(&self.call(&request, version)).expect("decode");
        let mut topics = answer.topics;
        assert_eq!(topics.len(), 1);
        topics.remove(0)
    }
}

/// The versions that `request` and the broker have in common.
fn common(table: &VersionTable, request: &dyn Request) -> RangeInclusive<i16> {
    let theirs = table.range(request.api()).expect("the broker speaks it");
    *request.versions().start().max(theirs.start())
        ..=table.pick(request.api(), request.versions()).expect("a version")
}

fn produce(topic: &Arc<str>, id: TopicId, value: &str) -> ProduceRequest {
    let mut batch = BatchBuilder::new(Compression::default(), 1024);
    batch.append(1_700_000_000_000, None, Some(value.as_bytes()), &[]).expect("append");
    let mut records = FrameBuilder::new();
    batch.seal().write(None, 0, false, &mut records);
    ProduceRequest {
        transactional_id: None,
        transaction_v2: false,
        acks: Acks::All,
        timeout_ms: 10_000,
        topics: vec![TopicRecords {
            topic: Arc::clone(topic),
            id,
            partitions: vec![PartitionRecords { index: 0, records: records.finish() }],
        }],
    }
}

fn fetch(topic: &Arc<str>, id: TopicId, epoch: Option<LeaderEpoch>) -> FetchRequest {
    let partition = FetchPartition {
        index: 0,
        current_leader_epoch: epoch,
        fetch_offset: 0,
        last_fetched_epoch: None,
        max_bytes: 1 << 20,
    };
    FetchRequest {
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 50 << 20,
        isolation: Isolation::ReadCommitted,
        session_id: 0,
        session_epoch: 0,
        topics: vec![FetchTopic { topic: Arc::clone(topic), id, partitions: vec![partition] }],
        forgotten: Vec::new(),
        rack: "".into(),
    }
}

/// The values in the one partition of an answer.
fn values(answer: &FetchResponse) -> Vec<String> {
    let partition = &answer.topics[0].partitions[0];
    assert_eq!((answer.error, partition.error), (None, None));
    let mut values = Vec::new();
    for batch in batches(partition.records.clone()) {
        let records = batch.expect("a batch").open(&Limits::DEFAULT).expect("records");
        for record in records.iter() {
            let value = record.value.expect("a value").to_vec();
            values.push(String::from_utf8(value).expect("a text"));
        }
    }
    values
}

#[test]
fn each_version_of_the_hot_path_works_on_kafka_4_3() {
    each_version_works(Version::V4_3);
}

#[test]
fn each_version_of_the_hot_path_works_on_kafka_3_9() {
    each_version_works(Version::V3_9);
}

#[test]
fn each_version_of_the_hot_path_works_on_old_kafka() {
    for version in real_kafka::old_versions() {
        each_version_works(*version);
    }
}

fn each_version_works(version: Version) {
    if !real_kafka::available() {
        return;
    }
    let cluster = Cluster::shared(version);
    let topic: Arc<str> = "protocol-versions".into();
    cluster.create_topic(&topic, 1);
    let mut connection = Connection::open(cluster);
    let table = connection.versions();
    for version in common(&table, &ApiVersionsRequest::default()) {
        let answer = connection.api_versions(version);
        assert_eq!(answer.error, None, "ApiVersions version {version}");
        VersionTable::new(answer).expect("a table");
    }
    let metadata = MetadataRequest { topics: None, allow_auto_topic_creation: true };
    for version in common(&table, &metadata) {
        let found = connection.topic(&topic, version);
        assert_eq!((&*found.name, found.error, found.partitions.len()), (&*topic, None, 1));
        assert_eq!(found.id.is_some(), version >= 10);
        assert!(found.partitions[0].leader.is_some(), "Metadata version {version}");
    }
    let newest = *common(&table, &metadata).end();
    let found = connection.topic(&topic, newest);
    let epoch = found.partitions[0].leader_epoch;
    let mut written = Vec::new();
    for version in common(&table, &produce(&topic, found.id, "")) {
        let value = format!("version {version}");
        let answer = connection.call(&produce(&topic, found.id, &value), version);
        let answer = ProduceResponse::decode(&answer).expect("decode");
        let partition = &answer.topics[0].partitions[0];
        assert_eq!((partition.error, partition.base_offset), (None, written.len() as i64), "Produce {value}");
        written.push(value);
    }
    for version in common(&table, &fetch(&topic, found.id, epoch)) {
        let answer = FetchResponse::decode(&connection.call(&fetch(&topic, found.id, epoch), version))
            .expect("decode");
        assert_eq!(values(&answer), written, "Fetch version {version}");
        let named = TopicRef::Name((*topic).to_owned().into());
        assert_eq!(answer.topics[0].topic, if version >= 13 { TopicRef::Id(found.id) } else { named });
        assert_eq!(answer.topics[0].partitions[0].high_watermark, written.len() as i64);
        if version >= 7 {
            session_goes_on(&mut connection, fetch(&topic, found.id, epoch), answer.session_id, version);
        }
    }
}

/// An incremental answer has only what changed; a forgotten partition is not answered any more.
fn session_goes_on(connection: &mut Connection, full: FetchRequest, session_id: i32, version: i16) {
    assert_ne!(session_id, 0, "Fetch version {version} opened no session");
    let topic = &full.topics[0];
    let forgotten =
        vec![ForgottenTopic { topic: Arc::clone(&topic.topic), id: topic.id, partitions: vec![0] }];
    let again = FetchRequest { session_id, session_epoch: 1, topics: Vec::new(), ..full };
    let answer = FetchResponse::decode(&connection.call(&again, version)).expect("decode");
    assert_eq!((answer.error, answer.session_id), (None, session_id));
    assert!(!values(&answer).is_empty(), "the fetch offset has not moved");
    let stale = FetchRequest { session_epoch: 9, ..again.clone() };
    let answer = FetchResponse::decode(&connection.call(&stale, version)).expect("decode");
    assert_eq!(answer.error, Some(ErrorCode::INVALID_FETCH_SESSION_EPOCH));
    let forget = FetchRequest { session_epoch: 2, forgotten, ..again };
    let answer = FetchResponse::decode(&connection.call(&forget, version)).expect("decode");
    assert_eq!((answer.error, answer.topics.len()), (None, 0));
    assert_eq!(answer.session_id, 0, "the broker closes a session without partitions");
}

#[test]
fn a_version_that_the_broker_does_not_know_is_refused_once_and_then_agreed_on() {
    if !real_kafka::available() {
        return;
    }
    let mut connection = Connection::open(Cluster::shared(Version::V4_3));
    const FUTURE: i16 = 99;
    let refused = connection.api_versions(FUTURE);
    assert_eq!(refused.error, Some(ErrorCode::UNSUPPORTED_VERSION));
    let version = refused.fallback(FUTURE).expect("a version");
    assert_eq!(version, api_versions::NEWEST);
    // A broker that has just started learns of the cluster's features a moment after it listens.
    let table = (0..600).map(|_| VersionTable::new(connection.api_versions(version)).expect("a table"));
    let mut table = table.inspect(|_| std::thread::sleep(Duration::from_millis(100)));
    let table = table
        .find(|table| table.finalized_feature("transaction.version") >= 2)
        .expect("transaction.version 2");
    assert!(table.range(ApiKey::Fetch).is_some());
}

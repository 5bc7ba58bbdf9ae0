//! The embedded broker beside real Kafka: the same requests, the same codes; and Kafka's own tools on it.

mod groups;
mod offsets;
mod shares;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::protocol::header::{encode_request, read_response};
use kafka_wire::protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_wire::protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_wire::protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_wire::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_wire::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_wire::protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_wire::protocol::messages::*;
use kafka_wire::protocol::request::{Plain, Response, api_of};
use kafka_wire::record::BatchBuilder;
use kafka_wire::{Compression, ErrorCode, ProducerIdentity};
use tidewater_broker::{EmbeddedBroker, Options};
use tidewater_tests::real_kafka::{self, Cluster, Version};

const TOPIC: &str = "compared";
const ID: &str = "compared-id";
const GROUP: &str = "compared-group";
const UNKNOWN: &str = "compared-unknown";

/// Asks one node, and keeps what it answered.
struct Observer {
    stream: TcpStream,
    seen: Vec<String>,
    /// Whether something was acknowledged in a share group since its offsets were set.
    has_acknowledged: bool,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn at(producer: ProducerIdentity, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { epoch, ..producer }
}

fn batch(producer: Option<(ProducerIdentity, i32)>, transactional: bool) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::NONE, 64);
    builder.append(1000, None, Some(b"value"), &[]).expect("a small record");
    let (identity, sequence) = producer.unzip();
    builder.seal().to_bytes(identity, sequence.unwrap_or(0), transactional).freeze()
}

/// What passes by itself: the coordinator loads, or the markers of the transaction before are not out.
fn is_passing(code: i16) -> bool {
    [
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_COORDINATOR,
        ErrorCode::CONCURRENT_TRANSACTIONS,
        ErrorCode::LEADER_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ]
    .iter()
    .any(|passing| passing.code() == code)
}

impl Observer {
    fn call<M: Exchange + Send>(&mut self, version: i16, message: M) -> M::Response {
        let frame = encode_request(&Plain::new(message), version, 1, None).expect("a request");
        self.stream.write_all(&frame.concat()).expect("send");
        self.read::<M>(version)
    }

    fn read<M: Exchange + Send>(&mut self, version: i16) -> M::Response {
        self.response(api_of::<M>(), version).decode::<M>().expect("an answer")
    }

    fn response(&mut self, api: ApiKey, version: i16) -> Response {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("an answer");
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("an answer");
        read_response(&Bytes::from(frame), api, version, 1).expect("a header")
    }

    /// Asks until the code that `pick` finds in the answer is none that passes by itself.
    fn ask<M: Exchange + Send + Clone, T: std::fmt::Debug>(
        &mut self,
        what: &str,
        version: i16,
        message: &M,
        pick: impl Fn(&M::Response) -> (i16, T),
    ) -> T {
        for _ in 0..400 {
            let (code, rest) = pick(&self.call(version, message.clone()));
            if !is_passing(code) {
                self.seen.push(format!("{what} (v{version}): {code} {rest:?}"));
                return rest;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("{what}: still not settled");
    }

    fn create(&mut self, what: &str, topic: &str, partitions: i32, factor: i16, config: &[(&str, &str)]) {
        let configs = config.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        });
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(factor)
            .with_configs(configs.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        self.ask(what, 7, &request, |answer| {
            let topic = &answer.topics[0];
            (topic.error_code, (topic.num_partitions, topic.replication_factor))
        });
    }

    fn init(&mut self, what: &str, timeout_ms: i32, expected: Option<ProducerIdentity>) -> ProducerIdentity {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text(ID))))
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(expected.map_or(-1, |it| it.id)))
            .with_producer_epoch(expected.map_or(-1, |it| it.epoch));
        let mut producer = ProducerIdentity { id: -1, epoch: -1 };
        let cell = std::cell::Cell::new(producer);
        producer.epoch = self.ask(what, 4, &request, |answer| {
            cell.set(ProducerIdentity { id: answer.producer_id.0, epoch: -1 });
            (answer.error_code, answer.producer_epoch)
        });
        producer.id = cell.get().id;
        producer
    }

    fn end(&mut self, what: &str, version: i16, producer: ProducerIdentity, commit: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(ID)))
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_committed(commit);
        self.ask(what, version, &request, |answer| (answer.error_code, answer.producer_epoch));
    }

    fn add(&mut self, what: &str, version: i16, producer: ProducerIdentity, topics: &[&str]) {
        let topics = topics
            .iter()
            .map(|it| AddPartitionsToTxnTopic::default().with_name(name(it)).with_partitions(vec![0]));
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text(ID)))
            .with_v3_and_below_producer_id(ProducerId(producer.id))
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(topics.collect());
        self.ask(what, version, &request, |answer| {
            let mut codes: Vec<(String, i16)> = answer
                .results_by_topic_v3_and_below
                .iter()
                .map(|it| (it.name.to_string(), it.results_by_partition[0].partition_error_code))
                .collect();
            codes.sort();
            (codes[0].1, codes)
        });
    }

    fn produce(&mut self, what: &str, version: i16, partition: i32, batch: Bytes, id: Option<&str>) {
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
        let topic = TopicProduceData::default().with_name(name(TOPIC)).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_transactional_id(id.map(|id| TransactionalId(text(id))))
            .with_topic_data(vec![topic]);
        self.ask(what, version, &request, |answer| {
            let partition = &answer.responses[0].partition_responses[0];
            (partition.error_code, partition.base_offset)
        });
    }

    fn commit_in_transaction(
        &mut self,
        what: &str,
        version: i16,
        producer: ProducerIdentity,
        member: (i32, &str),
        topic: &str,
    ) {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(1)
            .with_committed_metadata(Some(text("metadata")));
        let topic =
            TxnOffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(TransactionalId(text(ID)))
            .with_group_id(GroupId(text(GROUP)))
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_generation_id(member.0)
            .with_member_id(text(member.1))
            .with_topics(vec![topic]);
        self.ask(what, version, &request, |answer| (answer.topics[0].partitions[0].error_code, ()));
    }

    fn commit(&mut self, what: &str, member: (i32, &str), topic: &str, partition: i32) {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(1)
            .with_committed_metadata(Some(text("metadata")));
        let topic =
            OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text("compared-plain-group")))
            .with_generation_id_or_member_epoch(member.0)
            .with_member_id(text(member.1))
            .with_topics(vec![topic]);
        self.ask(what, 8, &request, |answer| (answer.topics[0].partitions[0].error_code, ()));
    }

    fn fetch(&mut self, what: &str, offset: i64, epochs: (i32, i32), session: (i32, i32)) {
        let partition = FetchPartition::default()
            .with_fetch_offset(offset)
            .with_current_leader_epoch(epochs.0)
            .with_last_fetched_epoch(epochs.1)
            .with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(name(TOPIC)).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_isolation_level(1)
            .with_session_id(session.0)
            .with_session_epoch(session.1)
            .with_topics(vec![topic]);
        self.ask(what, 12, &request, |answer| {
            let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
            let told = partitions.map(|it| {
                let aborted = it.aborted_transactions.as_ref().map(Vec::len);
                let records = it.records.as_ref().map_or(0, Bytes::len);
                (
                    it.error_code,
                    it.high_watermark,
                    it.last_stable_offset,
                    it.log_start_offset,
                    aborted,
                    records,
                )
            });
            (answer.error_code, told.collect::<Vec<_>>())
        });
    }

    fn list_offset(&mut self, version: i16, timestamp: i64) {
        let partition =
            ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
        let topic = ListOffsetsTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        self.ask(&format!("offset at {timestamp}"), version, &request, |answer| {
            let partition = &answer.topics[0].partitions[0];
            (partition.error_code, (partition.offset, partition.timestamp, partition.leader_epoch))
        });
    }

    fn delete_records(&mut self, offset: i64) {
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic]);
        self.ask(&format!("delete before {offset}"), 2, &request, |answer| {
            let partition = &answer.topics[0].partitions[0];
            (partition.error_code, partition.low_watermark)
        });
    }
}

/// All answers, each as a line.
fn observe(address: &str) -> Vec<String> {
    let stream = TcpStream::connect(address).expect("connect");
    let mut it = Observer { stream, seen: Vec::new(), has_acknowledged: false };
    topics(&mut it);
    transactions_of_version_2(&mut it);
    transactions_of_version_1(&mut it);
    batches(&mut it);
    positions(&mut it);
    it.seen
}

fn topics(it: &mut Observer) {
    // Kafka's Fetch ends where a segment does, and a jump in time from these records to the markers rolls one.
    it.create("a topic", TOPIC, 2, 1, &[("segment.ms", "9223372036854775807")]);
    it.create("the same again", TOPIC, 2, 1, &[]);
    it.create("a bad name", "a b", 2, 1, &[]);
    it.create("no name", "", 2, 1, &[]);
    it.create("too many replicas", UNKNOWN, 2, 5, &[]);
    it.create("no replica", UNKNOWN, 2, 0, &[]);
    it.create("no partition", UNKNOWN, 0, 1, &[]);
    it.create("a bad value", UNKNOWN, 1, 1, &[("retention.ms", "x")]);
    it.create("an unknown entry", UNKNOWN, 1, 1, &[("retention.millis", "1")]);
    it.create("a bad policy", UNKNOWN, 1, 1, &[("cleanup.policy", "shred")]);
    let delete = DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topic_names(vec![name(UNKNOWN)]);
    it.ask("delete an unknown topic", 5, &delete, |answer| (answer.responses[0].error_code, ()));
    for count in [1, 2, 3] {
        let topic =
            CreatePartitionsTopic::default().with_name(name(TOPIC)).with_count(count).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic]);
        it.ask(&format!("{count} partitions"), 3, &request, |answer| (answer.results[0].error_code, ()));
    }
    for (topic, create) in [(UNKNOWN, false), ("a b", true)] {
        let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request =
            MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(create);
        it.ask("metadata", 12, &request, |answer| (answer.topics[0].error_code, ()));
    }
    for (kind, key) in [(1, ID), (0, GROUP), (0, "compared-plain-group")] {
        let request =
            FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![text(key)]);
        it.ask("coordinator", 4, &request, |answer| (answer.coordinators[0].error_code, ()));
    }
}

fn transactions_of_version_2(it: &mut Observer) {
    for timeout in [0, -1, 900_001] {
        it.init("a timeout out of range", timeout, None);
    }
    let first = it.init("init", 60_000, None);
    it.end("commit nothing", 5, first, true);
    it.end("commit nothing", 4, first, true);
    it.end("abort nothing", 4, first, false);
    it.end("abort nothing", 5, first, false);
    it.end("abort nothing again", 5, first, false);
    let second = at(first, 1);
    let stranger = ProducerIdentity { id: first.id + 100_000, epoch: 0 };
    it.end("a stranger's end", 5, stranger, true);
    it.add("a stranger's partition", 3, stranger, &[TOPIC]);
    it.add("an old epoch's partition", 3, first, &[TOPIC]);
    it.add("an old epoch's partition", 1, first, &[TOPIC]);
    it.add("a later epoch's partition", 3, at(first, 9), &[TOPIC]);
    it.add("one unknown partition of two", 3, second, &[TOPIC, UNKNOWN]);
    let data = |producer, sequence| batch(Some((producer, sequence)), true);
    it.produce("never added", 10, 0, data(second, 0), Some(ID));
    it.produce("never added", 11, 0, data(second, 0), Some(ID));
    it.produce("begins with sequence 5", 12, 1, data(second, 5), Some(ID));
    it.produce("in order", 12, 0, data(second, 0), Some(ID));
    it.produce("twice", 12, 0, data(second, 0), Some(ID));
    it.produce("a gap", 12, 0, data(second, 5), Some(ID));
    it.produce("outside of the transaction", 12, 0, batch(Some((second, 1)), false), None);
    it.produce("an old epoch", 12, 0, data(first, 0), Some(ID));
    it.produce("a later epoch", 12, 0, data(at(first, 7), 0), Some(ID));
    it.produce("a later epoch elsewhere", 12, 2, data(at(first, 7), 0), Some(ID));
    it.fetch("while it is open", 0, (-1, -1), (0, -1));
    it.commit_in_transaction("offsets", 5, second, (-1, ""), TOPIC);
    it.commit_in_transaction("offsets of an old epoch", 5, first, (-1, ""), TOPIC);
    it.commit_in_transaction("offsets of a generation", 5, second, (5, ""), TOPIC);
    it.commit_in_transaction("offsets of a member", 5, second, (5, "member"), TOPIC);
    it.commit_in_transaction("offsets of a member without generation", 5, second, (-1, "member"), TOPIC);
    it.commit_in_transaction("offsets of an unknown topic", 5, second, (-1, ""), UNKNOWN);
    it.end("commit", 5, second, true);
    it.end("commit again", 5, second, true);
    it.end("abort after the commit", 5, second, false);
    let third = at(first, 2);
    it.end("commit by the other protocol", 4, third, true);
    it.end("abort by the other protocol", 4, third, false);
    it.end("commit nothing new", 5, third, true);
    it.produce("late", 12, 0, data(second, 1), Some(ID));
    it.produce("late elsewhere", 12, 2, data(second, 0), Some(ID));
    it.commit_in_transaction("offsets of a group never added", 4, third, (-1, ""), TOPIC);
    it.produce("without transactional id", 12, 2, data(third, 0), None);
}

fn transactions_of_version_1(it: &mut Observer) {
    let producer = it.init("init", 60_000, None);
    it.add("a partition", 3, producer, &[TOPIC]);
    it.produce("in order", 11, 0, batch(Some((producer, 0)), true), Some(ID));
    it.end("abort", 4, producer, false);
    it.end("abort again", 4, producer, false);
    it.end("commit after the abort", 4, producer, true);
    it.fetch("after an abort", 0, (-1, -1), (0, -1));
    it.init("expecting a stranger", 60_000, Some(ProducerIdentity { id: producer.id + 5, epoch: 0 }));
    it.init("expecting an old epoch", 60_000, Some(at(producer, 0)));
    it.init("expecting the current epoch", 60_000, Some(producer));
    it.init("the same again", 60_000, Some(producer));
    let next = it.init("init", 60_000, None);
    it.produce("in order", 12, 0, batch(Some((next, 0)), true), Some(ID));
    it.init("while a transaction is open", 60_000, None);
    it.produce("a zombie", 12, 0, batch(Some((next, 1)), true), Some(ID));
    it.produce("a zombie elsewhere", 12, 1, batch(Some((next, 0)), true), Some(ID));
    it.end("a zombie's commit", 5, next, true);
    it.commit("offsets", (-1, ""), TOPIC, 0);
    it.commit("offsets of a generation", (3, ""), TOPIC, 0);
    it.commit("offsets of a member", (3, "member"), TOPIC, 0);
    it.commit("offsets of a member without generation", (-1, "member"), TOPIC, 0);
    it.commit("offsets of an unknown partition", (-1, ""), TOPIC, 99);
    it.commit("offsets of an unknown topic", (-1, ""), UNKNOWN, 0);
}

fn batches(it: &mut Observer) {
    let good = batch(None, false);
    let changed = |index: usize, value: u8| {
        let mut bytes = good.to_vec();
        bytes[index] ^= value;
        Bytes::from(bytes)
    };
    it.produce("a flipped bit", 9, 1, changed(good.len() - 1, 1), None);
    it.produce("an old magic", 9, 1, changed(16, 3), None);
    it.produce("a base offset", 9, 1, changed(7, 5), None);
    it.produce("cut in the records", 9, 1, good.slice(..good.len() - 2), None);
    it.produce("cut in the header", 9, 1, good.slice(..20), None);
    it.produce("empty", 9, 1, Bytes::new(), None);
    it.produce("two batches", 9, 1, Bytes::from([&good[..], &good[..]].concat()), None);
    it.produce("an unknown partition", 9, 77, good.clone(), None);
    it.produce("a good one", 9, 1, good, None);
}

fn positions(it: &mut Observer) {
    it.fetch("out of range", 10_000, (-1, -1), (0, -1));
    it.fetch("in a later leader epoch", 0, (5, -1), (0, -1));
    it.fetch("in an unknown session", 0, (-1, -1), (999, 1));
    it.fetch("after a later epoch", 0, (-1, 7), (0, -1));
    it.fetch("after this epoch", 1, (-1, 0), (0, -1));
    for timestamp in [-1, -2, -4, -5, -6, -7, 1000, 1 << 50] {
        it.list_offset(9, timestamp);
        it.list_offset(11, timestamp);
    }
    for (version, timestamp) in [(6, -3), (7, -4), (8, -5), (10, -6)] {
        it.list_offset(version, timestamp);
    }
    for offset in [10_000, -5, 1] {
        it.delete_records(offset);
    }
    it.list_offset(9, -2);
    it.fetch("what was deleted", 0, (-1, -1), (0, -1));
    it.delete_records(-1);
    it.list_offset(9, -2);
}

#[test]
fn it_answers_as_kafka_does() {
    if !real_kafka::available() {
        return;
    }
    let kafka = Cluster::shared(Version::V4_3);
    let embedded = EmbeddedBroker::start(Options::default()).expect("start the embedded broker");
    let (expected, seen) = (observe(&kafka.bootstrap()), observe(&embedded.bootstrap()));
    assert!(expected.len() > 100, "{} answers", expected.len());
    let other: Vec<(&String, &String)> =
        expected.iter().zip(&seen).filter(|(expected, seen)| expected != seen).collect();
    assert!(other.is_empty(), "Kafka's answer, then ours: {other:#?}");
}

/// Runs one of Kafka's tools to its end and returns what it printed.
fn tool(class: &str, arguments: &[&str]) -> String {
    let jars = real_kafka::jars(Version::V4_3);
    let output = Command::new("java")
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(format!("{}/*", jars.display()))
        .arg(format!("org.apache.kafka.tools.{class}"))
        .args(arguments)
        .output()
        .expect("run java");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{class} {arguments:?}: {stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

#[test]
fn kafkas_own_tools_work_on_it() {
    if !real_kafka::available() {
        return;
    }
    let embedded = EmbeddedBroker::start(Options { nodes: 3, ..Options::default() }).expect("start");
    let bootstrap = embedded.bootstrap();
    let on = |class: &str, arguments: &[&str]| {
        tool(class, &[&["--bootstrap-server", bootstrap.as_str()], arguments].concat())
    };
    on("TopicCommand", &["--create", "--topic", "in", "--partitions", "3", "--replication-factor", "3"]);
    let described = on("TopicCommand", &["--describe", "--topic", "in"]);
    assert!(described.contains("PartitionCount: 3") && described.contains("Isr: 1,2,0"), "{described}");

    let transactional = ["--transactional-id", "tool", "--transaction-duration-ms", "50"];
    let produce = ["--topic", "in", "--num-records", "20000", "--record-size", "100", "--throughput", "-1"];
    on("ProducerPerformance", &[&produce[..], &transactional].concat());
    let copied = tool(
        "TransactionalMessageCopier",
        &["--broker-list", &bootstrap, "--transactional-id", "copy", "--consumer-group", "copiers"]
            .into_iter()
            .chain(["--input-topic", "in", "--input-partition", "0", "--output-topic", "out"])
            .chain(["--max-messages", "1000", "--transaction-size", "100"])
            .collect::<Vec<_>>(),
    );
    assert!(copied.contains("ShutdownComplete"), "{copied}");
    let read = on(
        "consumer.ConsoleConsumer",
        &[
            "--topic",
            "out",
            "--partition",
            "0",
            "--offset",
            "earliest",
            "--isolation-level",
            "read_committed",
        ]
        .into_iter()
        .chain(["--max-messages", "1000", "--timeout-ms", "20000"])
        .collect::<Vec<_>>(),
    );
    assert_eq!(read.lines().filter(|line| line.len() == 100).count(), 1_000);
    let listed = on("TransactionsCommand", &["list"]);
    assert!(listed.contains("copy") && listed.contains("CompleteCommit"), "{listed}");
}

//! Records between Kafka's own client and ours, both ways, in each codec, transactional and not.

use std::path::Path;
use std::time::Duration;

use futures_executor::block_on;
use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use kafka_wire::{
    Admin, Codec, Consumer, Header, Isolation, NewTopic, Position, Producer, Record, RecordRef,
    TopicPartition, partition_for_key,
};
use tidewater_tests::java;
use tidewater_tests::real_kafka::{self, Cluster, Version};

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const PARTITIONS: i32 = 3;
const RECORDS: usize = 600;

fn java_client(cluster: &Cluster, arguments: &[&str]) -> String {
    java::run(
        cluster.jars(),
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/JavaClient.java"),
        arguments,
    )
}

fn client(cluster: &Cluster) -> ClientConfig {
    ClientConfig::bootstrap(&cluster.bootstrap()).expect("addresses")
}

fn topics(prefix: &str) -> Vec<String> {
    CODECS
        .iter()
        .flat_map(|codec| ["plain", "transactional"].map(|kind| format!("{prefix}-{}-{kind}", codec.name())))
        .collect()
}

async fn create(cluster: &Cluster, topics: &[String]) {
    let admin = Admin::new(client(cluster)).expect("an admin client");
    let new = topics.iter().map(|topic| NewTopic::new(topic.as_str(), PARTITIONS));
    for (topic, result) in admin.create_topics(new).await.expect("create topics") {
        result.unwrap_or_else(|error| panic!("create {topic}: {error}"));
    }
}

/// A record as both sides print it: topic, partition, timestamp, key, value, headers.
fn line(partition: &TopicPartition, record: &RecordRef<'_>) -> String {
    let headers: String = record
        .headers()
        .map(|header| format!("{}={};", text(Some(header.key)), text(header.value)))
        .collect();
    let (key, value) = (text(record.key), text(record.value));
    format!("{}|{}|{}|{key}|{value}|{headers}", partition.topic, partition.partition, record.timestamp_ms)
}

fn text(bytes: Option<&[u8]>) -> String {
    bytes.map_or_else(|| "(null)".into(), |bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Record number `i` as `JavaClient` writes it.
fn written(topic: &str, i: usize) -> String {
    let key = (!i.is_multiple_of(7)).then(|| format!("key-{i}"));
    let value = (!i.is_multiple_of(11)).then(|| format!("value-{i}-{}", "x".repeat(i % 100)));
    let partition = key.as_ref().map_or(0, |key| partition_for_key(key.as_bytes(), PARTITIONS as u32));
    let headers = if i.is_multiple_of(5) { "twice=a;null=(null);twice=b;" } else { "" };
    let show = |field: Option<String>| field.unwrap_or_else(|| "(null)".into());
    format!("{topic}|{partition}|{}|{}|{}|{headers}", 1_700_000_000_000 + i, show(key), show(value))
}

/// What a reader of committed records must find, in the order of each partition.
fn expected(topic: &str) -> Vec<String> {
    let aborted = |i: usize| topic.ends_with("-transactional") && i / 10 % 3 == 2;
    by_partition((0..RECORDS).filter(|i| !aborted(*i)).map(|i| written(topic, i)).collect())
}

/// Sorted by partition, the order within each kept.
fn by_partition(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_by_key(|line| line.split('|').nth(1).and_then(|partition| partition.parse::<i32>().ok()));
    lines
}

async fn read(cluster: &Cluster, topic: &str) -> Vec<String> {
    let config =
        ConsumerConfig { client: client(cluster), isolation: Isolation::ReadCommitted, ..Default::default() };
    let mut consumer = Consumer::new(config).expect("a consumer");
    let partitions = (0..PARTITIONS).map(|partition| TopicPartition::new(topic, partition));
    consumer.assign(partitions.map(|partition| (partition, Position::Beginning))).expect("assign");
    let want = expected(topic).len();
    let mut lines = Vec::new();
    // Two more polls than needed show records that should not be there.
    let mut empty = 0;
    while lines.len() < want || empty < 2 {
        let batch = consumer.poll(Duration::from_millis(500)).await.expect("poll");
        empty = if batch.is_empty() { empty + 1 } else { 0 };
        assert!(empty < 60, "{topic}: {} of {want} records came", lines.len());
        lines.extend(batch.iter().map(|record| line(batch.topic_partition(), &record)));
    }
    by_partition(lines)
}

fn what_java_wrote_is_read(version: Version) {
    if !real_kafka::available() {
        return;
    }
    let cluster = Cluster::shared(version);
    let topics = topics("java");
    block_on(create(cluster, &topics));
    java_client(cluster, &["write", &cluster.bootstrap(), "java", &RECORDS.to_string()]);
    for topic in &topics {
        assert_eq!(block_on(read(cluster, topic)), expected(topic), "{topic}");
    }
}

#[test]
fn what_java_wrote_is_read_on_4_3() {
    what_java_wrote_is_read(Version::V4_3);
}

#[test]
fn what_java_wrote_is_read_on_3_9() {
    what_java_wrote_is_read(Version::V3_9);
}

#[test]
fn what_java_wrote_is_read_on_old_kafka() {
    real_kafka::old_versions().iter().copied().for_each(what_java_wrote_is_read);
}

/// Writes as `JavaClient` does.
async fn write(cluster: &Cluster, topic: &str, codec: Codec) {
    let transactional = topic.ends_with("-transactional");
    let config = ProducerConfig {
        client: client(cluster),
        compression: codec,
        transactional_id: transactional.then(|| topic.to_owned()),
        ..Default::default()
    };
    let producer = Producer::new(config).expect("a producer");
    if transactional {
        producer.init_transactions().await.expect("init transactions");
    }
    for i in 0..RECORDS {
        if transactional && i.is_multiple_of(10) {
            producer.begin_transaction().await.expect("begin");
        }
        send(&producer, topic, i).await;
        if transactional && i % 10 == 9 {
            if i / 10 % 3 == 2 {
                producer.abort_transaction().await.expect("abort");
            } else {
                producer.commit_transaction().await.expect("commit");
            }
        }
    }
    producer.flush().await;
    producer.close(Duration::from_secs(10)).await.expect("close");
}

async fn send(producer: &Producer, topic: &str, i: usize) {
    let (key, value) = (format!("key-{i}"), format!("value-{i}-{}", "x".repeat(i % 100)));
    let headers = [
        Header { key: b"twice", value: Some(b"a") },
        Header { key: b"null", value: None },
        Header { key: b"twice", value: Some(b"b") },
    ];
    let mut record = Record::to(topic).timestamp_ms(1_700_000_000_000 + i as i64);
    record = if i.is_multiple_of(7) { record.partition(0) } else { record.key(&key) };
    if !i.is_multiple_of(11) {
        record = record.value(&value);
    }
    if i.is_multiple_of(5) {
        record = record.headers(&headers);
    }
    producer.enqueue(record).await.expect("enqueue");
}

fn java_reads_what_we_wrote(version: Version) {
    if !real_kafka::available() {
        return;
    }
    let cluster = Cluster::shared(version);
    let topics = topics("ours");
    block_on(create(cluster, &topics));
    for topic in &topics {
        let codec = CODECS.into_iter().find(|codec| topic.contains(codec.name())).expect("a codec's name");
        block_on(write(cluster, topic, codec));
    }
    let bootstrap = cluster.bootstrap();
    let arguments: Vec<&str> =
        ["read", &bootstrap].into_iter().chain(topics.iter().map(String::as_str)).collect();
    let printed = java_client(cluster, &arguments);
    for topic in &topics {
        let prefix = format!("{topic}|");
        let lines = printed.lines().filter(|line| line.starts_with(&prefix)).map(str::to_owned).collect();
        assert_eq!(by_partition(lines), expected(topic), "{topic}");
    }
}

#[test]
fn java_reads_what_we_wrote_on_4_3() {
    java_reads_what_we_wrote(Version::V4_3);
}

#[test]
fn java_reads_what_we_wrote_on_3_9() {
    java_reads_what_we_wrote(Version::V3_9);
}

#[test]
fn java_reads_what_we_wrote_on_old_kafka() {
    real_kafka::old_versions().iter().copied().for_each(java_reads_what_we_wrote);
}

/// Topics in the formats from before record batches, which Kafka 2.8 still writes: each codec, from the beginning and
/// from within a compressed set.
#[test]
fn what_old_kafka_keeps_in_old_formats_is_read() {
    if !real_kafka::available() || !real_kafka::old_versions().contains(&Version::V2_8) {
        return;
    }
    const COUNT: usize = 300;
    let cluster = Cluster::shared(Version::V2_8);
    let numbers = |from: usize| (from..COUNT).map(|number| number.to_string()).collect::<Vec<_>>();
    for format in ["0.9.0", "0.10.2"] {
        for codec in ["none", "gzip", "snappy", "lz4"] {
            let topic = format!("format-{format}-{codec}");
            let new = NewTopic::new(topic.as_str(), 1).config("message.format.version", format);
            block_on(crate::support::create(cluster, new));
            java_client(cluster, &["numbers", &cluster.bootstrap(), &topic, codec, &COUNT.to_string()]);
            for from in [0, 17] {
                let (batches, values, timestamps) = block_on(read_from(cluster, &topic, from, COUNT));
                assert_eq!(values, numbers(from), "{topic}");
                assert!(
                    timestamps.iter().all(|timestamp| (*timestamp == -1) == (format == "0.9.0")),
                    "{topic}"
                );
                // Old formats know no batches but compressed sets.
                assert_eq!(batches == values.len(), codec == "none", "{topic}: {batches} batches");
            }
        }
    }
}

/// Number of batches, values and timestamps of partition 0 from `offset` to `end`.
async fn read_from(
    cluster: &Cluster,
    topic: &str,
    offset: usize,
    end: usize,
) -> (usize, Vec<String>, Vec<i64>) {
    let config = ConsumerConfig { client: client(cluster), ..Default::default() };
    let mut consumer = Consumer::new(config).expect("a consumer");
    consumer.assign([(TopicPartition::new(topic, 0), Position::from(offset as i64))]).expect("assign");
    let (mut batches, mut values, mut timestamps) = (0, Vec::new(), Vec::new());
    while offset + values.len() < end {
        let batch = consumer.poll(Duration::from_secs(30)).await.expect("poll");
        assert!(!batch.is_empty(), "{topic}: {} of {end} records came", values.len());
        batches += 1;
        values.extend(batch.iter().map(|record| text(record.value)));
        timestamps.extend(batch.iter().map(|record| record.timestamp_ms));
    }
    (batches, values, timestamps)
}

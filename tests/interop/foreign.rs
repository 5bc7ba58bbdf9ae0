//! Foreign clients on the embedded broker and on real Kafka: records of each in the hands of each other, groups
//! of several members, transactions, administration.

mod groups;

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use kafka_wire::{
    Admin, Codec, Consumer, Header, Isolation, NewTopic, Position, Producer, Record, TopicPartition,
};
use serde_json::{Value, json};
use tidewater_broker::{EmbeddedBroker, Options};
use tidewater_tests::foreign::{self, Maker, Program, Running};
use tidewater_tests::real_kafka::{self, Cluster, Version};

use crate::support::run;

const PARTITIONS: usize = 4;
const RECORDS: usize = 120;

fn config(bootstrap: &str) -> ClientConfig {
    ClientConfig::bootstrap(bootstrap).expect("addresses")
}

async fn create(bootstrap: &str, topic: &str) {
    let admin = Admin::new(config(bootstrap)).expect("an admin client");
    let new = [NewTopic::new(topic, PARTITIONS as i32)];
    for (topic, result) in admin.create_topics(new).await.expect("create topics") {
        result.unwrap_or_else(|error| panic!("create {topic}: {error}"));
    }
}

/// Record number `i`, as all programs write it; where it lies is not part of it. kafkajs writes no null header.
fn expected(i: usize, writer: Option<Maker>) -> Value {
    let header = |key: &str, value: Option<&str>| json!([key, value]);
    let mut headers = Vec::new();
    if i.is_multiple_of(5) {
        headers = vec![header("twice", Some("a")), header("null", None), header("twice", Some("b"))];
        if writer == Some(Maker::Node) {
            headers.remove(1);
        }
    }
    json!({
        "partition": i % PARTITIONS,
        "timestamp": 1_700_000_000_000_u64 + i as u64,
        "key": (!i.is_multiple_of(7)).then(|| format!("key-{i}")),
        "value": (!i.is_multiple_of(11)).then(|| format!("value-{i}")),
        "headers": headers,
    })
}

/// Records as read, in the order of their timestamps, without their offsets.
fn in_order(mut records: Vec<Value>) -> Vec<Value> {
    records.retain(|record| record.get("offset").is_some());
    records.sort_by_key(|record| record["timestamp"].as_u64());
    for record in &mut records {
        record.as_object_mut().expect("a record").remove("offset");
    }
    records
}

/// A record as a reader shows it: kafkajs keeps headers of one key together, kcat shows no null.
fn as_shown(mut record: Value, reader: Maker) -> Value {
    if reader == Maker::Node {
        let headers = record["headers"].as_array_mut().expect("headers");
        headers.sort_by_key(|header| header[0] == "null");
    }
    record
}

async fn write_ours(bootstrap: &str, topic: &str, codec: Codec, count: usize) {
    let config = ProducerConfig { client: config(bootstrap), compression: codec, ..Default::default() };
    let producer = Producer::new(config).expect("a producer");
    let headers = [
        Header { key: b"twice", value: Some(b"a") },
        Header { key: b"null", value: None },
        Header { key: b"twice", value: Some(b"b") },
    ];
    for i in 0..count {
        let (key, value) = (format!("key-{i}"), format!("value-{i}"));
        let mut record = Record::to(topic).partition((i % PARTITIONS) as i32);
        record = record.timestamp_ms(1_700_000_000_000 + i as i64);
        if !i.is_multiple_of(7) {
            record = record.key(&key);
        }
        if !i.is_multiple_of(11) {
            record = record.value(&value);
        }
        if i.is_multiple_of(5) {
            record = record.headers(&headers);
        }
        producer.enqueue(record).await.expect("enqueue");
    }
    producer.close(Duration::from_secs(30)).await.expect("close");
}

async fn read_ours(bootstrap: &str, topic: &str, count: usize) -> Vec<Value> {
    let config = ConsumerConfig {
        client: config(bootstrap),
        isolation: Isolation::ReadCommitted,
        ..Default::default()
    };
    let mut consumer = Consumer::new(config).expect("a consumer");
    let all = (0..PARTITIONS).map(|index| (TopicPartition::new(topic, index as i32), Position::Beginning));
    consumer.assign(all).expect("assign");
    let mut found = Vec::new();
    while found.len() < count {
        let batch = consumer.poll(Duration::from_millis(100)).await.expect("poll");
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        for record in &batch {
            let headers: Vec<Value> =
                record.headers().map(|header| json!([text(Some(header.key)), text(header.value)])).collect();
            found.push(json!({
                "partition": batch.topic_partition().partition, "offset": record.offset,
                "timestamp": record.timestamp_ms, "key": text(record.key), "value": text(record.value),
                "headers": headers,
            }));
        }
    }
    found
}

/// What kcat is given to write, and how all read it.
fn lines() -> String {
    (0..RECORDS).map(|i| format!("key-{i}|value-{i}\n")).collect()
}

/// Everybody reads what everybody wrote, in each codec that the writer knows.
fn records_pass_between_all(bootstrap: &str) {
    let readers: Vec<&Program> = foreign::programs().iter().collect();
    for (codec, name) in [
        (Codec::None, "none"),
        (Codec::Gzip, "gzip"),
        (Codec::Snappy, "snappy"),
        (Codec::Lz4, "lz4"),
        (Codec::Zstd, "zstd"),
    ] {
        let writers = readers.iter().filter(|program| program.knows("produce"));
        // kafkajs brings gzip alone.
        let writers =
            writers.filter(|program| program.maker != Maker::Node || name == "none" || name == "gzip");
        for writer in [None].into_iter().chain(writers.map(Some)) {
            let maker = writer.map(|program| program.maker);
            let topic = format!("records-{}-{name}", maker.map_or("Ours".to_owned(), |it| format!("{it:?}")));
            run(create(bootstrap, &topic));
            match writer {
                None => run(write_ours(bootstrap, &topic, codec, RECORDS)),
                Some(writer) => {
                    writer.run(&["produce", bootstrap, &topic, &RECORDS.to_string(), name]);
                }
            }
            let expected: Vec<Value> = (0..RECORDS).map(|i| expected(i, maker)).collect();
            run(async {
                assert_eq!(in_order(read_ours(bootstrap, &topic, RECORDS).await), expected, "{topic}")
            });
            for reader in &readers {
                let can_read = reader.maker != Maker::Node || name == "none" || name == "gzip";
                // Each codec is read by everybody who can; who wrote it matters to the headers alone.
                if can_read && (maker.is_none() || name == "none") {
                    let read = reader.run(&["consume", bootstrap, &topic, &RECORDS.to_string()]);
                    let shown: Vec<Value> =
                        expected.iter().map(|record| as_shown(record.clone(), reader.maker)).collect();
                    assert_eq!(in_order(read), shown, "{:?} reads {topic}", reader.maker);
                }
            }
        }
    }
}

fn kcat_writes(bootstrap: &str) {
    let Some(kcat) = foreign::program(Maker::Kcat) else { return };
    for codec in ["none", "gzip", "snappy", "lz4"] {
        let topic = format!("kcat-{codec}");
        run(create(bootstrap, &topic));
        kcat.feed(bootstrap, &topic, codec, &lines());
        let read = run_value(read_ours(bootstrap, &topic, RECORDS));
        let field = |record: &Value, name: &str| record[name].as_str().expect("a text").to_owned();
        let read: BTreeSet<String> =
            read.iter().map(|it| format!("{}|{}", field(it, "key"), field(it, "value"))).collect();
        assert_eq!(read, lines().lines().map(str::to_owned).collect(), "{topic}");
    }
}

fn run_value<T>(future: impl Future<Output = T>) -> T {
    let mut result = None;
    run(async { result = Some(future.await) });
    result.expect("a result")
}

fn transactions_are_kept_apart(bootstrap: &str) {
    for program in foreign::programs().iter().filter(|program| program.knows("txn")) {
        let topic = format!("transactions-{:?}", program.maker);
        run(create(bootstrap, &topic));
        let said = program.run(&["txn", bootstrap, &topic, &RECORDS.to_string()]);
        let committed: Vec<bool> = said.iter().filter_map(|line| line["committed"].as_bool()).collect();
        assert_eq!(committed, (0..RECORDS / 10).map(|n| n % 3 != 2).collect::<Vec<_>>());
        let expected: Vec<Value> =
            (0..RECORDS).filter(|i| i / 10 % 3 != 2).map(|i| expected(i, Some(program.maker))).collect();
        let read = run_value(read_ours(bootstrap, &topic, expected.len()));
        assert_eq!(in_order(read), expected, "{topic}");
        for reader in foreign::programs() {
            let read = reader.run(&["consume", bootstrap, &topic, &expected.len().to_string()]);
            assert_eq!(in_order(read).len(), expected.len(), "{:?} reads {topic}", reader.maker);
        }
    }
}

fn administrators_work(bootstrap: &str) {
    for program in foreign::programs().iter().filter(|program| program.knows("admin")) {
        let said = program.run(&["admin", bootstrap, &format!("admin-{:?}", program.maker)]);
        let field = |name: &str| said.iter().find_map(|line| line.get(name)).cloned().unwrap_or_default();
        assert_eq!(field("created"), 3, "{said:?}");
        assert_eq!(field("partitions"), 5, "{said:?}");
        assert_eq!(field("committed"), 7, "{said:?}");
        assert_eq!(field("described"), "Empty", "{said:?}");
        assert_eq!(field("deleted"), true, "{said:?}");
    }
}

fn on_embedded(test: impl FnOnce(&str)) {
    if !real_kafka::available() {
        return;
    }
    let options = Options { consumer_heartbeat_interval: Duration::from_millis(100), ..Options::default() };
    let broker = EmbeddedBroker::start(options).expect("start");
    test(&broker.bootstrap());
}

fn on_kafka(test: impl FnOnce(&str)) {
    if real_kafka::available() {
        test(&Cluster::shared(Version::V4_3, 1).bootstrap());
    }
}

#[test]
fn records_pass_between_foreign_clients_on_the_embedded_broker() {
    on_embedded(|bootstrap| {
        records_pass_between_all(bootstrap);
        kcat_writes(bootstrap);
    });
}

#[test]
fn records_pass_between_foreign_clients_and_ours_on_kafka() {
    on_kafka(|bootstrap| {
        records_pass_between_all(bootstrap);
        kcat_writes(bootstrap);
    });
}

#[test]
fn transactions_of_foreign_clients_on_the_embedded_broker() {
    on_embedded(transactions_are_kept_apart);
}

#[test]
fn transactions_of_foreign_clients_on_kafka() {
    on_kafka(transactions_are_kept_apart);
}

#[test]
fn foreign_administrators_on_the_embedded_broker() {
    on_embedded(administrators_work);
}

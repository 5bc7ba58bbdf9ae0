//! Foreign clients and ours, on real Kafka 4.3 and on the embedded broker: each test runs on both.
//!
//! | | Java 4.3 | franz-go 1.22 | kafkajs 2.2 | librdkafka 2.16 | kcat |
//! |---|---|---|---|---|---|
//! | produce: none, gzip, snappy, lz4, zstd | yes | yes | yes ¹ | yes | not zstd ² |
//! | consume: the same | yes | yes | yes ¹ | yes | yes |
//! | null keys and values, headers twice and null | yes | yes | writes no null header | yes | yes |
//! | transactions: commit, abort, read committed | yes | yes | yes | yes | reads |
//! | transactions that commit a group's offsets | yes | yes | yes | yes | |
//! | classic group with ours: range | yes | | | yes | yes |
//! | classic group with ours: roundrobin | yes | yes | yes ³ | | |
//! | classic group with ours: cooperative-sticky | yes | yes | | yes | |
//! | consumer group (KIP-848) with ours | yes | yes | has none | yes | |
//! | share group (KIP-932) | yes | | | | |
//! | admin: topics, partitions, configs, groups, offsets | yes | yes | yes | yes | |
//! | admin: ACLs | yes | yes | yes | yes | |
//! | admin: SCRAM users | yes | yes | has none | yes | |
//!
//! 1. kafkajs brings gzip alone; the other codecs come by its hook (`foreign/node/main.js` says from where).
//! 2. Debian's kcat is built without it; it reads zstd where its librdkafka does.
//! 3. Its own assignor, under the name of Java's.
//!
//! TLS and SASL of Java's client are in `embedded_admin`.

mod groups;

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use kafka_wire::{
    Admin, Codec, Consumer, Header, Isolation, NewTopic, Position, Producer, Record, TopicPartition,
};
use serde_json::{Value, json};
use tidewater_broker::{AuthorizerOptions, EmbeddedBroker, Options};
use tidewater_tests::foreign::{self, Maker, Program, Running};
use tidewater_tests::real_kafka::{self, Cluster, Version};

use crate::secured::Secured;
use crate::support::{run, wait_until};

const PARTITIONS: usize = 4;
const RECORDS: usize = 120;
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn config(bootstrap: &str) -> ClientConfig {
    ClientConfig::bootstrap(bootstrap).expect("addresses")
}

/// Creates topics, and waits until the broker knows what its controller has done: not every client asks again.
async fn create<T: AsRef<str>>(bootstrap: &str, topics: &[T]) {
    let admin = Admin::new(config(bootstrap)).expect("an admin client");
    let new = topics.iter().map(|topic| NewTopic::new(topic.as_ref(), PARTITIONS as i32));
    for (topic, result) in admin.create_topics(new).await.expect("create topics") {
        result.unwrap_or_else(|error| panic!("create {topic}: {error}"));
    }
    wait_until("all topics are there", async || {
        let described = admin.describe_topics(topics.iter().map(T::as_ref)).await.expect("describe topics");
        described.iter().all(|(_, described)| described.is_ok())
    })
    .await;
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

/// A record as a reader shows it: kafkajs keeps headers of one key together.
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

/// Does the same with each program that knows `command`, all at once.
fn with_each(command: &str, work: impl Fn(&'static Program) + Sync) {
    std::thread::scope(|scope| {
        for program in foreign::programs().iter().filter(|program| program.knows(command)) {
            let work = &work;
            scope.spawn(move || work(program));
        }
    });
}

/// Everybody reads what everybody wrote, in each codec.
fn records_pass_between_all(bootstrap: &str) {
    let writers = foreign::programs().iter().filter(|program| program.knows("produce"));
    let writers: Vec<Option<&'static Program>> = [None].into_iter().chain(writers.map(Some)).collect();
    std::thread::scope(|scope| {
        for writer in writers {
            scope.spawn(move || records_of_one(bootstrap, writer));
        }
    });
}

/// One program's records, or ours, in each codec.
fn records_of_one(bootstrap: &str, writer: Option<&'static Program>) {
    let maker = writer.map(|program| program.maker);
    let name = maker.map_or("Ours".to_owned(), |maker| format!("{maker:?}"));
    let topics = CODECS.map(|codec| format!("records-{name}-{}", codec.name()));
    run(create(bootstrap, &topics));
    let expected: Vec<Value> = (0..RECORDS).map(|i| expected(i, maker)).collect();
    for (codec, topic) in CODECS.into_iter().zip(&topics) {
        match writer {
            None => run(write_ours(bootstrap, topic, codec, RECORDS)),
            Some(writer) => {
                writer.run(&["produce", bootstrap, topic, &RECORDS.to_string(), codec.name()]);
            }
        }
        let read = run_value(read_ours(bootstrap, topic, RECORDS));
        assert_eq!(in_order(read), expected, "{topic}");
    }
    with_each("consume", |reader| {
        for topic in &topics {
            let read = reader.run(&["consume", bootstrap, topic, &RECORDS.to_string()]);
            let shown: Vec<Value> =
                expected.iter().map(|record| as_shown(record.clone(), reader.maker)).collect();
            assert_eq!(in_order(read), shown, "{:?} reads {topic}", reader.maker);
        }
    });
}

/// What kcat is given to write, and how all read it.
fn lines() -> String {
    (0..RECORDS).map(|i| format!("key-{i}|value-{i}\n")).collect()
}

fn kcat_writes(bootstrap: &str) {
    let Some(kcat) = foreign::program(Maker::Kcat) else { return };
    let codecs = ["none", "gzip", "snappy", "lz4"];
    run(create(bootstrap, &codecs.map(|codec| format!("kcat-{codec}"))));
    for codec in codecs {
        let topic = format!("kcat-{codec}");
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
    with_each("txn", |program| {
        let topic = format!("transactions-{:?}", program.maker);
        run(create(bootstrap, &[&topic]));
        let said = program.run(&["txn", bootstrap, &topic, &RECORDS.to_string()]);
        let committed: Vec<bool> = said.iter().filter_map(|line| line["committed"].as_bool()).collect();
        assert_eq!(committed, (0..RECORDS / 10).map(|n| n % 3 != 2).collect::<Vec<_>>());
        let expected: Vec<Value> =
            (0..RECORDS).filter(|i| i / 10 % 3 != 2).map(|i| expected(i, Some(program.maker))).collect();
        let read = run_value(read_ours(bootstrap, &topic, expected.len()));
        assert_eq!(in_order(read), expected, "{topic}");
        with_each("consume", |reader| {
            let read = reader.run(&["consume", bootstrap, &topic, &expected.len().to_string()]);
            let shown: Vec<Value> =
                expected.iter().map(|record| as_shown(record.clone(), reader.maker)).collect();
            assert_eq!(in_order(read), shown, "{:?} reads {topic}", reader.maker);
        });
    });
}

/// Everything is copied once, though every third transaction was aborted, and the group is where its reader was.
fn copies_are_exact(bootstrap: &str) {
    with_each("copy", |program| {
        let [from, to, group] = ["from", "to", "group"].map(|it| format!("copy-{:?}-{it}", program.maker));
        run(create(bootstrap, &[&from, &to]));
        run(write_ours(bootstrap, &from, Codec::None, RECORDS));
        let said = program.run(&["copy", bootstrap, &group, &from, &to, &RECORDS.to_string()]);
        assert!(said.iter().any(|line| line["committed"] == false), "nothing was aborted: {said:?}");
        let read = run_value(read_ours(bootstrap, &to, RECORDS));
        let maker = Some(program.maker);
        assert_eq!(in_order(read), (0..RECORDS).map(|i| expected(i, maker)).collect::<Vec<_>>(), "{to}");
        let admin = Admin::new(config(bootstrap)).expect("an admin client");
        let committed = run_value(admin.list_committed_offsets(&group)).expect("committed offsets");
        let committed: Vec<(i32, i64)> =
            committed.into_iter().map(|(at, committed)| (at.partition, committed.offset)).collect();
        let each = (RECORDS / PARTITIONS) as i64;
        assert_eq!(committed, (0..PARTITIONS as i32).map(|at| (at, each)).collect::<Vec<_>>(), "{group}");
    });
}

fn administrators_work(bootstrap: &str) {
    with_each("admin", |program| {
        let said = program.run(&["admin", bootstrap, &format!("admin-{:?}", program.maker)]);
        let field = |name: &str| said.iter().find_map(|line| line.get(name)).cloned().unwrap_or_default();
        assert_eq!(field("created"), 3, "{said:?}");
        assert_eq!(field("partitions"), 5, "{said:?}");
        assert_eq!(field("retention.ms"), "70000", "{said:?}");
        assert_eq!(field("committed"), 7, "{said:?}");
        assert_eq!(field("described"), "Empty", "{said:?}");
        assert_eq!(field("end"), 0, "{said:?}");
        assert_eq!(field("deleted"), true, "{said:?}");
        let again = field("again").as_str().unwrap_or_default().to_lowercase();
        assert!(again.contains("exists"), "{said:?}");
    });
}

/// ACLs and users of each: on a broker that has an authorizer, and lets everybody grant.
fn rights_are_given(bootstrap: &str) {
    with_each("rights", |program| {
        let said = program.run(&["rights", bootstrap, &format!("rights-{:?}", program.maker)]);
        let mut expected = vec![
            json!({"acls": ["ALLOW READ LITERAL", "DENY WRITE PREFIXED"]}),
            json!({"revoked": 1}),
            json!({"acls": ["ALLOW READ LITERAL"]}),
        ];
        if program.maker != Maker::Node {
            expected.extend([json!({"users": ["SCRAM-SHA-256 4096"]}), json!({"users": []})]);
        }
        assert_eq!(said, expected, "{:?}", program.maker);
    });
}

fn on_embedded(test: impl FnOnce(&str)) {
    if !real_kafka::available() {
        return;
    }
    let authorizer =
        AuthorizerOptions { super_users: vec!["User:ANONYMOUS".to_owned()], ..AuthorizerOptions::default() };
    let options = Options {
        consumer_heartbeat_interval: Duration::from_millis(100),
        authorizer: Some(authorizer),
        ..Options::default()
    };
    let broker = EmbeddedBroker::start(options).expect("start");
    test(&broker.bootstrap());
}

fn on_kafka(test: impl FnOnce(&str)) {
    if real_kafka::available() {
        test(&Cluster::shared(Version::V4_3).bootstrap());
    }
}

#[test]
fn records_pass_between_foreign_clients_and_ours_on_the_embedded_broker() {
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
fn foreign_clients_copy_exactly_once_on_the_embedded_broker() {
    on_embedded(copies_are_exact);
}

#[test]
fn foreign_clients_copy_exactly_once_on_kafka() {
    on_kafka(copies_are_exact);
}

#[test]
fn foreign_administrators_on_the_embedded_broker() {
    on_embedded(administrators_work);
}

#[test]
fn foreign_administrators_on_kafka() {
    on_kafka(administrators_work);
}

#[test]
fn foreign_administrators_give_rights_on_the_embedded_broker() {
    on_embedded(rights_are_given);
}

#[test]
fn foreign_administrators_give_rights_on_kafka() {
    if real_kafka::available() {
        rights_are_given(&Secured::shared().cluster.bootstrap());
    }
}

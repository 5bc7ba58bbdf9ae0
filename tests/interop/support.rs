//! What the suites share: clients of a cluster, a log as it is, and what must hold of it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig};
use kafka_wire::{
    Admin, Consumer, Error, FetchedBatch, Isolation, NewTopic, OffsetSpec, Position, Producer, TopicPartition,
};
use tidewater_tests::java;
use tidewater_tests::real_kafka::{self, Cluster, Version};

/// No test takes longer; what hangs fails.
const DEADLINE: Duration = Duration::from_secs(300);

/// Runs a test on the shared node of `version`, where real Kafka can be run.
pub fn on_shared<F: Future<Output = ()>>(version: Version, test: impl FnOnce(&'static Cluster) -> F) {
    if real_kafka::available() {
        run(test(Cluster::shared(version)));
    }
}

pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(DEADLINE, test).await.expect("the test hangs") });
}

/// Waits until `is_so`, looking ten times a second.
pub async fn wait_until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let looked = tokio::time::timeout(Duration::from_secs(120), async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert!(looked.await.is_ok(), "waited in vain until {what}");
}

pub fn client(cluster: &Cluster, id: &str) -> ClientConfig {
    let mut config = ClientConfig::bootstrap(&cluster.bootstrap()).expect("addresses");
    config.client_id = id.to_owned();
    config
}

/// A producer's configuration that sends at once.
pub fn producer_config(cluster: &Cluster, id: &str) -> ProducerConfig {
    ProducerConfig { client: client(cluster, id), linger: Duration::ZERO, ..Default::default() }
}

pub fn producer(cluster: &Cluster, id: &str) -> Producer {
    Producer::new(producer_config(cluster, id)).expect("a producer")
}

pub fn consumer_config(cluster: &Cluster, id: &str) -> ConsumerConfig {
    ConsumerConfig { client: client(cluster, id), ..Default::default() }
}

pub fn admin(cluster: &Cluster) -> Admin {
    Admin::new(client(cluster, "administration")).expect("an admin client")
}

pub async fn create(cluster: &Cluster, topic: NewTopic) {
    let results = admin(cluster).create_topics([topic]).await.expect("create topics");
    for (topic, result) in results {
        result.unwrap_or_else(|error| panic!("create {topic}: {error}"));
    }
}

/// A record as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub value: String,
}

pub fn entries(batch: &FetchedBatch) -> Vec<Entry> {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let partition = batch.topic_partition().partition;
    let entry = |record: kafka_wire::RecordRef<'_>| Entry {
        partition,
        offset: record.offset,
        key: text(record.key),
        value: text(record.value),
    };
    batch.iter().map(entry).collect()
}

/// All that a reader of `isolation` finds in `topic` by now. Transactions that are open are waited for.
pub async fn read_all(cluster: &Cluster, topic: &str, isolation: Isolation) -> Vec<Entry> {
    let mut config = consumer_config(cluster, "reader");
    config.isolation = isolation;
    let mut consumer = Consumer::new(config).expect("a consumer");
    let count = consumer.describe_topic(topic).await.expect("describe the topic").partitions.len();
    let partitions: Vec<TopicPartition> =
        (0..count).map(|number| TopicPartition::new(topic, number as i32)).collect();
    let latest = partitions.iter().map(|partition| (partition.clone(), OffsetSpec::Latest));
    // Not the last stable offset: a transaction may be committed whose markers are still being written.
    let ends = consumer.list_offsets(latest, Isolation::ReadUncommitted).await.expect("list offsets");
    let ends: HashMap<_, _> = ends.into_iter().map(|(at, end)| (at, end.offset.expect("an end"))).collect();
    consumer.assign(partitions.iter().cloned().map(|at| (at, Position::Beginning))).expect("assign");
    let mut found = Vec::new();
    loop {
        let positions: HashMap<_, _> = consumer.positions().into_iter().collect();
        if ends.iter().all(|(at, end)| positions.get(at).is_some_and(|position| position.offset >= *end)) {
            return found;
        }
        found.extend(entries(&consumer.poll(Duration::from_millis(100)).await.expect("poll")));
    }
}

/// What readers of committed records find, in the order of each partition.
pub async fn committed_values(cluster: &Cluster, topic: &str) -> Vec<String> {
    let entries = read_all(cluster, topic, Isolation::ReadCommitted).await;
    entries.into_iter().map(|entry| entry.value).collect()
}

/// The values that Kafka's own client reads as committed, in the order of each partition.
pub async fn values_that_java_reads(cluster: &Cluster, topic: &str) -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/JavaClient.java");
    let (jars, bootstrap, topic) = (cluster.jars().to_owned(), cluster.bootstrap(), topic.to_owned());
    let read = move || java::run(&jars, &source, &["read", &bootstrap, &topic]);
    let printed = tokio::task::spawn_blocking(read).await.expect("run the Java client");
    let mut records: Vec<(i32, String)> = printed
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('|').collect();
            (fields[1].parse().expect("a partition"), fields[4].to_owned())
        })
        .collect();
    records.sort_by_key(|(partition, _)| *partition);
    records.into_iter().map(|(_, value)| value).collect()
}

/// What became of a record, as its sender was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Acknowledged, at this offset where the broker said it.
    Written(Option<i64>),
    /// It is not in the log.
    Failed,
    /// It may be.
    Unknown,
}

impl Fate {
    pub fn of_failure(error: &Error) -> Self {
        if error.possibly_written() { Self::Unknown } else { Self::Failed }
    }
}

/// A record that was sent: its key, a value of its own, and its fate.
#[derive(Clone, Debug)]
pub struct Sent {
    pub key: String,
    pub value: String,
    pub fate: Fate,
}

/// Everything that is wrong with `log`, if `sent` (in the order of the sends) is what went into it.
pub fn faults(sent: &[Sent], log: &[Entry]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut found: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in log {
        found.entry(&entry.value).or_default().push(entry);
    }
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    for (number, sent) in sent.iter().enumerate() {
        numbers.insert(&sent.value, number);
        let copies = found.get(sent.value.as_str()).map_or(&[][..], Vec::as_slice);
        if copies.len() > 1 {
            faults.push(format!("duplicate: {} lies at {copies:?}", sent.value));
        }
        match (sent.fate, copies.first()) {
            (Fate::Written(_), None) => faults.push(format!("lost: {} was acknowledged", sent.value)),
            (Fate::Written(Some(offset)), Some(entry)) if entry.offset != offset => {
                faults.push(format!("misplaced: {} was acknowledged at {offset}: {entry:?}", sent.value));
            }
            (Fate::Failed, Some(entry)) => {
                faults.push(format!("written: {} failed for sure: {entry:?}", sent.value));
            }
            _ => {}
        }
    }
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in log {
        let Some(number) = numbers.get(entry.value.as_str()) else {
            faults.push(format!("invented: nobody sent {entry:?}"));
            continue;
        };
        if sent[*number].key != entry.key {
            faults.push(format!("changed: {} had the key {}: {entry:?}", entry.value, sent[*number].key));
        }
        if last.insert(&entry.key, *number).is_some_and(|before| before > *number) {
            faults.push(format!("order: {entry:?} lies after one that was sent later"));
        }
    }
    faults
}

pub fn assert_no_faults(sent: &[Sent], log: &[Entry]) {
    let faults = faults(sent, log);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_checker_finds_what_is_planted() {
    let sent = |value: &str, fate| Sent { key: "k".into(), value: value.into(), fate };
    let entry = |offset, value: &str| Entry { partition: 0, offset, key: "k".into(), value: value.into() };
    let history = [
        sent("a", Fate::Written(Some(0))),
        sent("b", Fate::Failed),
        sent("c", Fate::Unknown),
        sent("d", Fate::Written(None)),
    ];
    assert_eq!(faults(&history, &[entry(0, "a"), entry(1, "d")]), [""; 0]);
    assert_eq!(faults(&history, &[entry(0, "a"), entry(1, "c"), entry(2, "d")]), [""; 0]);
    for (log, fault) in [
        (vec![entry(0, "a")], "lost: d"),
        (vec![entry(0, "a"), entry(1, "a"), entry(2, "d")], "duplicate: a"),
        (vec![entry(0, "a"), entry(1, "b"), entry(2, "d")], "written: b"),
        (vec![entry(0, "a"), entry(1, "d"), entry(2, "c")], "order: "),
        (vec![entry(5, "a"), entry(6, "d")], "misplaced: a"),
        (vec![entry(0, "a"), entry(1, "d"), entry(2, "x")], "invented: "),
    ] {
        let found = faults(&history, &log);
        assert!(found.len() == 1 && found[0].starts_with(fault), "{log:?}: {found:?}");
    }
}

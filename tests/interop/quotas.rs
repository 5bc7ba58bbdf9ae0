//! Quotas of a real broker: it says how long it will not read a connection (KIP-219), and the client leaves it alone
//! for so long, loses nothing, takes nothing for a timeout, and tells it in its figures.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use kafka_wire::admin::{QuotaEntity, QuotaFilter, QuotaMatch};
use kafka_wire::{Consumer, NewTopic, Position, Producer, Record, TopicPartition};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tidewater_tests::real_kafka::{Cluster, Version};

use crate::support::{admin, consumer_config, create, on_shared, producer_config, wait_until};

const PRODUCE: i16 = 0;
const VERSIONS: i16 = 18;
/// Less than what the broker asks for after the requests that are under way together.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const RECORDS: usize = 12;
const RECORD_BYTES: usize = 70_000;
/// The broker looks back over at least ten seconds: so much passes in these, and the rest is too much.
const BYTES_PER_SECOND: f64 = 50_000.0;

/// The recorder of this process, and the largest value that each gauge was seen to have: a snapshot empties them.
static RECORDED: OnceLock<(Snapshotter, Mutex<BTreeMap<String, f64>>)> = OnceLock::new();

fn recorded() -> &'static (Snapshotter, Mutex<BTreeMap<String, f64>>) {
    RECORDED.get_or_init(|| {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        recorder.install().expect("the only recorder");
        (snapshotter, Mutex::default())
    })
}

/// The largest value that a client's gauge had, in milliseconds.
fn largest(client_id: &str, name: &str) -> f64 {
    let (snapshotter, seen) = recorded();
    let mut seen = seen.lock().expect("what was seen");
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let client = key.key().labels().find(|label| label.key() == "client-id");
        if let (DebugValue::Gauge(value), Some(client)) = (value, client) {
            let largest = seen.entry(format!("{} {}", client.value(), key.key().name())).or_default();
            *largest = largest.max(value.into_inner());
        }
    }
    seen.get(&format!("{client_id} kafka.{name}")).copied().unwrap_or_default()
}

async fn set(cluster: &Cluster, client_id: &str, quota: &str, value: f64) {
    let change = BTreeMap::from([(quota.to_owned(), Some(value))]);
    let entity = QuotaEntity::client_id(client_id);
    for (_, changed) in admin(cluster).alter_client_quotas([(entity, change)]).await.expect("quotas") {
        changed.expect("set the quota");
    }
    let components = BTreeMap::from([("client-id".to_owned(), QuotaMatch::Exact(client_id.to_owned()))]);
    wait_until("the broker knows the quota", async || {
        let filter = QuotaFilter { components: components.clone(), strict: true };
        !admin(cluster).describe_client_quotas(filter).await.expect("quotas").is_empty()
    })
    .await;
}

/// Each record of its own in a batch and a request, several under way.
async fn write(cluster: &Cluster, client_id: &str, topic: &str) -> Producer {
    let mut config = producer_config(cluster, client_id);
    config.client.request_timeout = REQUEST_TIMEOUT;
    config.batch_size = 0;
    let producer = Producer::new(config).expect("a producer");
    let value = "x".repeat(RECORD_BYTES);
    let mut receipts = Vec::new();
    for _ in 0..RECORDS {
        receipts.push(producer.enqueue(Record::to(topic).partition(0).value(&value)).await.expect("enqueue"));
    }
    for (offset, receipt) in (0..).zip(receipts) {
        assert_eq!(receipt.await.expect("send").offset, Some(offset));
    }
    producer
}

#[test]
fn a_producer_over_its_byte_rate_waits_and_sends_nothing_twice() {
    recorded();
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "quota-of-bytes-in";
        create(cluster, NewTopic::new(NAME, 1)).await;
        set(cluster, NAME, "producer_byte_rate", BYTES_PER_SECOND).await;
        // It publishes its figures while it lives.
        let _producer = write(cluster, NAME, NAME).await;
        // The requests under way together have all been put off.
        wait_until("the pauses are told", async || {
            let figure = |which| largest(NAME, &format!("producer-metrics.produce-throttle-time-{which}"));
            figure("max") > REQUEST_TIMEOUT.as_millis() as f64 && figure("avg") > 0.0
        })
        .await;
        // No request was given up for late, and no connection.
        assert_eq!(cluster.requests(0, NAME, PRODUCE), RECORDS);
        assert!(cluster.requests(0, NAME, VERSIONS) <= 2, "{}", cluster.requests(0, NAME, VERSIONS));
    });
}

#[test]
fn a_consumer_over_its_byte_rate_waits_and_reads_all() {
    recorded();
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "quota-of-bytes-out";
        create(cluster, NewTopic::new(NAME, 1)).await;
        write(cluster, "writer-without-quota", NAME).await;
        set(cluster, NAME, "consumer_byte_rate", BYTES_PER_SECOND).await;
        let mut config = consumer_config(cluster, NAME);
        config.client.request_timeout = REQUEST_TIMEOUT;
        config.max_partition_fetch_bytes = RECORD_BYTES as i32;
        let mut consumer = Consumer::new(config).expect("a consumer");
        let partition = TopicPartition::new(NAME, 0);
        consumer.assign([(partition, Position::Beginning)]).expect("assign");
        let mut offsets = Vec::new();
        let max = "consumer-fetch-manager-metrics.fetch-throttle-time-max";
        wait_until("all is read", async || {
            let batch = consumer.poll(Duration::from_millis(500)).await.expect("poll");
            offsets.extend(batch.iter().map(|record| record.offset));
            offsets.len() >= RECORDS && largest(NAME, max) > 0.0
        })
        .await;
        assert_eq!(offsets, (0..RECORDS as i64).collect::<Vec<_>>());
        assert!(cluster.requests(0, NAME, VERSIONS) <= 2, "{}", cluster.requests(0, NAME, VERSIONS));
    });
}

/// A share of the broker's threads: each answer asks for up to a second.
#[test]
fn a_client_over_its_share_of_the_brokers_time_waits() {
    recorded();
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "quota-of-time";
        create(cluster, NewTopic::new(NAME, 1)).await;
        set(cluster, NAME, "request_percentage", 0.001).await;
        let mut config = producer_config(cluster, NAME);
        config.client.request_timeout = REQUEST_TIMEOUT;
        let producer = Producer::new(config).expect("a producer");
        let max = "producer-metrics.produce-throttle-time-max";
        let mut sent = 0;
        wait_until("the broker asks for a pause", async || {
            let written = producer.send(Record::to(NAME).value("value")).await.expect("send");
            assert_eq!(written.offset, Some(sent));
            sent += 1;
            largest(NAME, max) > 0.0
        })
        .await;
        assert!(cluster.requests(0, NAME, VERSIONS) <= 2, "{}", cluster.requests(0, NAME, VERSIONS));
        assert_eq!(cluster.requests(0, NAME, PRODUCE) as i64, sent);
    });
}

//! Whatever happens to brokers, connections and the log: each record is read once and in order, and what is
//! gone is said.

use std::sync::Arc;
use std::time::Duration;

use kafka_wire::config::OffsetReset;
use kafka_wire::{Consumer, ErrorKind, Isolation, NewTopic, Position, Producer, Record, TopicPartition};
use tidewater_tests::proxy::{Fault, Gate};
use tidewater_tests::real_kafka::{Cluster, Version};

use crate::support::{
    Entry, admin, consumer_config, create, entries, on_shared, producer, producer_config, read_all,
    wait_until,
};

const FETCH: i16 = 1;

/// Reads a topic from its beginning, at the heels of a producer.
pub struct Follower {
    consumer: Consumer,
    read: Vec<Entry>,
}

impl Follower {
    pub fn start(cluster: &Cluster, topic: &str, partitions: i32) -> Self {
        let mut consumer = Consumer::new(consumer_config(cluster, "follower")).expect("a consumer");
        consumer.assign(beginnings(topic, partitions)).expect("assign");
        Self { consumer, read: Vec::new() }
    }

    /// Takes what there is, until nothing comes for `time`.
    pub async fn read_on(&mut self, time: Duration) {
        loop {
            let batch = self.consumer.poll(time).await.expect("poll");
            if batch.is_empty() {
                return;
            }
            self.read.extend(entries(&batch));
        }
    }

    /// Each record of `log` was read once, those of a partition in order, and nothing else.
    pub async fn assert_read(mut self, log: Vec<Entry>) {
        wait_until("the follower has read as much as there is", async || {
            self.read_on(Duration::from_millis(500)).await;
            self.read.len() >= log.len()
        })
        .await;
        assert_eq!(by_partition(self.read), by_partition(log));
    }
}

/// Sorted by partition, the order within each kept.
fn by_partition(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| entry.partition);
    entries
}

fn beginnings(topic: &str, partitions: i32) -> impl Iterator<Item = (TopicPartition, Position)> {
    (0..partitions).map(move |number| (TopicPartition::new(topic, number), Position::Beginning))
}

/// A consumer of `topic`'s first partition, from `position` on.
fn reading(cluster: &Cluster, topic: &str, reset: OffsetReset, position: impl Into<Position>) -> Consumer {
    let mut config = consumer_config(cluster, topic);
    config.auto_offset_reset = reset;
    config.client.metadata_max_age = Duration::from_millis(500);
    let mut consumer = Consumer::new(config).expect("a consumer");
    consumer.assign([(TopicPartition::new(topic, 0), position.into())]).expect("assign");
    consumer
}

/// Writes `count` records, whose values go on counting from `first`.
async fn write(cluster: &Cluster, topic: &str, first: usize, count: usize) {
    let producer = producer(cluster, "writer");
    for number in first..first + count {
        let value = number.to_string();
        producer.send(Record::to(topic).partition(0).value(&value)).await.expect("send");
    }
}

/// The next `count` values.
async fn take(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    wait_until("enough records came", async || {
        let batch = consumer.poll(Duration::from_millis(500)).await.expect("poll");
        values.extend(entries(&batch).into_iter().map(|entry| entry.value));
        values.len() >= count
    })
    .await;
    values
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Answers to Fetch are lost, end in the middle or come damaged, requests never arrive, and each break ends a
/// fetch session.
#[test]
fn broken_connections_and_damaged_bytes_cost_no_record_and_double_none() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "broken-fetches";
        create(cluster, NewTopic::new(NAME, 3)).await;
        let proxy = cluster.proxy();
        let mut config = consumer_config(cluster, NAME);
        config.client.request_timeout = Duration::from_secs(2);
        let held = Arc::new(Gate::default());
        for (skip, fault) in [
            (1, Fault::LoseAnswer),
            (1, Fault::LoseRequest),
            (2, Fault::CutAnswer(0)),
            (0, Fault::CutAnswer(7)),
            (1, Fault::CutAnswer(40)),
            (0, Fault::CutAnswer(150)),
            (1, Fault::HoldUntil(Arc::clone(&held))),
        ] {
            proxy.rule_for(NAME, FETCH, skip, 1, fault);
        }
        // In answers with records, these hit a value, a length or the checksum.
        for from_the_end in [5, 20, 40, 60, 70] {
            proxy.rule_for(NAME, FETCH, 1, 1, Fault::DamageAnswer(from_the_end));
        }
        let mut consumer = Consumer::new(config).expect("a consumer");
        consumer.assign(beginnings(NAME, 3)).expect("assign");
        let producer = producer(cluster, "writer");
        let (mut sent, mut read) = (0, Vec::new());
        wait_until("all faults have happened and all is read", async || {
            if proxy.pending_for(NAME) > 0 {
                let value = format!("a value that is easy to know by its number {sent}");
                producer.send(Record::to(NAME).partition(sent % 3).value(&value)).await.expect("send");
                sent += 1;
            }
            read.extend(entries(&consumer.poll(Duration::from_millis(50)).await.expect("poll")));
            proxy.pending_for(NAME) == 0 && read.len() >= sent as usize
        })
        .await;
        tokio::task::spawn_blocking(move || held.open()).await.expect("the late request arrives");
        let log = read_all(cluster, NAME, Isolation::ReadUncommitted).await;
        assert_eq!(by_partition(read), by_partition(log));
    });
}

/// A batch that stays damaged however often it is fetched is not skipped: its partition stops there, by name.
#[test]
fn a_batch_that_stays_damaged_stops_its_partition() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "damaged-for-good";
        create(cluster, NewTopic::new(NAME, 1)).await;
        write(cluster, NAME, 0, 1).await;
        cluster.proxy().rule_for(NAME, FETCH, 0, 1000, Fault::DamageAnswer(6));
        let mut consumer = reading(cluster, NAME, OffsetReset::Earliest, Position::Beginning);
        let error = consumer.poll(Duration::from_secs(60)).await.expect_err("it is damaged");
        assert_eq!((error.kind(), error.offset()), (ErrorKind::CorruptRecords, Some(0)), "{error}");
        assert_eq!(error.partition(), Some(&TopicPartition::new(NAME, 0)));
        assert!(error.to_string().contains("seek past"), "{error}");
    });
}

/// What DeleteRecords took away from under the position is an error that names the gap; or, if so configured,
/// reading goes on after it.
#[test]
fn deleted_records_are_missed_aloud() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "deleted-records";
        create(cluster, NewTopic::new(NAME, 1)).await;
        write(cluster, NAME, 0, 20).await;
        let partition = TopicPartition::new(NAME, 0);
        let deleted = admin(cluster).delete_records([(partition.clone(), Some(12))]).await.expect("delete");
        assert_eq!(deleted[0].1.as_ref().expect("delete"), &12);

        let mut consumer = reading(cluster, NAME, OffsetReset::None, 5);
        let error = consumer.poll(Duration::from_secs(60)).await.expect_err("offset 5 is gone");
        assert_eq!((error.kind(), error.offset()), (ErrorKind::DataLoss, Some(5)), "{error}");
        assert!(error.to_string().contains("offsets 5 to 11 are gone"), "{error}");
        assert_eq!(error.partition(), Some(&partition));
        consumer.seek(&partition, 12).expect("seek");
        assert_eq!(take(&mut consumer, 8).await, numbers(12..20));

        let mut consumer = reading(cluster, NAME, OffsetReset::Earliest, 5);
        assert_eq!(take(&mut consumer, 8).await, numbers(12..20));
    });
}

/// Offsets of a deleted topic mean nothing in a new one of the same name, even when it has more records.
#[test]
fn a_topic_created_anew_is_not_taken_for_the_old_one() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "created-anew";
        create(cluster, NewTopic::new(NAME, 1)).await;
        write(cluster, NAME, 0, 5).await;
        let mut strict = reading(cluster, NAME, OffsetReset::None, Position::Beginning);
        let mut lenient = reading(cluster, NAME, OffsetReset::Earliest, Position::Beginning);
        assert_eq!(take(&mut strict, 5).await, numbers(0..5));
        assert_eq!(take(&mut lenient, 5).await, numbers(0..5));

        for (_, deleted) in admin(cluster).delete_topics([NAME]).await.expect("delete topics") {
            deleted.expect("delete the topic");
        }
        wait_until("the name is free", async || {
            let topic = NewTopic::new(NAME, 1);
            admin(cluster).create_topics([topic]).await.expect("create topics").remove(0).1.is_ok()
        })
        .await;
        write(cluster, NAME, 100, 9).await;
        let error = strict.poll(Duration::from_secs(60)).await.expect_err("the topic is another one");
        assert_eq!(error.kind(), ErrorKind::DataLoss, "{error}");
        assert!(error.to_string().contains("'created-anew' was deleted and created anew"), "{error}");
        assert_eq!(take(&mut lenient, 9).await, numbers(100..109));
    });
}

/// Added partitions are seen in the topic's description, and read like all others.
#[test]
fn added_partitions_are_read_from_their_beginning() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "added-partitions";
        create(cluster, NewTopic::new(NAME, 1)).await;
        write(cluster, NAME, 0, 3).await;
        let mut consumer = reading(cluster, NAME, OffsetReset::None, Position::Beginning);
        assert_eq!(take(&mut consumer, 3).await, numbers(0..3));
        for (_, grown) in admin(cluster).create_partitions([(NAME, 3)]).await.expect("create partitions") {
            grown.expect("grow the topic");
        }
        wait_until("the new partitions are seen", async || {
            consumer.describe_topic(NAME).await.expect("describe").partitions.len() == 3
        })
        .await;
        let producer = producer(cluster, "writer");
        for value in ["3", "4"] {
            producer.send(Record::to(NAME).partition(2).value(value)).await.expect("send");
        }
        consumer.incremental_assign(beginnings(NAME, 3).skip(1)).expect("assign");
        assert_eq!(take(&mut consumer, 2).await, numbers(3..5));
        write(cluster, NAME, 5, 1).await;
        assert_eq!(take(&mut consumer, 1).await, numbers(5..6));
    });
}

/// Compaction leaves holes, transactions markers, and aborted records: readers step over them all, and end
/// where the log does.
#[test]
fn gaps_are_stepped_over_and_positions_stay_right() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "gaps";
        let topic = NewTopic::new(NAME, 1)
            .config("cleanup.policy", "compact")
            .config("segment.ms", "100")
            .config("min.cleanable.dirty.ratio", "0.01")
            .config("delete.retention.ms", "0");
        create(cluster, topic).await;
        let mut config = producer_config(cluster, NAME);
        config.transactional_id = Some(NAME.to_owned());
        let producer = Producer::new(config).expect("a producer");
        producer.init_transactions().await.expect("init");
        for round in 0..10 {
            producer.begin_transaction().await.expect("begin");
            for key in ["a", "b", "c"] {
                let value = format!("{key} of round {round}");
                producer.send(Record::to(NAME).key(key).value(&value)).await.expect("send");
            }
            if round % 3 == 2 {
                producer.abort_transaction().await.expect("abort");
            } else {
                producer.commit_transaction().await.expect("commit");
            }
        }
        let newest = ["a", "b", "c"].map(|key| format!("{key} of round 9"));
        let mut rounds = 0;
        wait_until("the log is compacted", async || {
            // A segment is compacted once another one follows it.
            producer.begin_transaction().await.expect("begin");
            let value = format!("filler {rounds}");
            producer.send(Record::to(NAME).key("filler").value(&value)).await.expect("send");
            producer.commit_transaction().await.expect("commit");
            rounds += 1;
            read_all(cluster, NAME, Isolation::ReadCommitted)
                .await
                .iter()
                .filter(|entry| entry.key != "filler")
                .count()
                == 3
        })
        .await;
        let end = 10 * 4 + 2 * rounds;
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            let mut config = consumer_config(cluster, NAME);
            config.isolation = isolation;
            let mut consumer = Consumer::new(config).expect("a consumer");
            consumer.assign(beginnings(NAME, 1)).expect("assign");
            let (mut found, mut position) = (Vec::new(), 0);
            wait_until("the end is reached", async || {
                let batch = std::future::poll_fn(|context| consumer.poll_batch(context)).await.expect("poll");
                assert_eq!(batch.base_offset(), position, "steps follow each other");
                position = batch.next_offset();
                found.extend(entries(&batch));
                assert!(found.last().is_none_or(|last| last.offset < position));
                position >= end
            })
            .await;
            assert_eq!(position, end, "{isolation:?}");
            assert!(found.is_sorted_by_key(|entry| entry.offset));
            let values: Vec<String> =
                found.into_iter().filter(|entry| entry.key != "filler").map(|entry| entry.value).collect();
            assert_eq!(values, newest, "{isolation:?}");
        }
    });
}

/// A transaction that stays open holds back readers of committed records, visibly; when it ends, they go on.
#[test]
fn an_open_transaction_holds_readers_back_until_it_ends() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "open-transaction";
        create(cluster, NewTopic::new(NAME, 1)).await;
        write(cluster, NAME, 0, 1).await;
        let mut config = producer_config(cluster, NAME);
        config.transactional_id = Some(NAME.to_owned());
        let producer = Producer::new(config).expect("a producer");
        producer.init_transactions().await.expect("init");
        producer.begin_transaction().await.expect("begin");
        producer.send(Record::to(NAME).value("aborted")).await.expect("send");
        write(cluster, NAME, 1, 1).await;
        let mut consumer = reading(cluster, NAME, OffsetReset::None, Position::Beginning);
        let mut values = Vec::new();
        wait_until("the reader stands before the open transaction", async || {
            let batch = std::future::poll_fn(|context| consumer.poll_batch(context)).await.expect("poll");
            values.extend(entries(&batch).into_iter().map(|entry| entry.value));
            (batch.next_offset(), batch.last_stable_offset(), batch.high_watermark()) == (1, 1, 3)
        })
        .await;
        assert_eq!(values, ["0"]);
        producer.abort_transaction().await.expect("abort");
        assert_eq!(take(&mut consumer, 1).await, numbers(1..2));
    });
}

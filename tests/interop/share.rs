//! Share groups (KIP-932) on real Kafka, with Kafka's own share consumer as another member.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_wire::config::{AcknowledgementMode, ShareConsumerConfig};
use kafka_wire::{
    AcknowledgeType, ErrorCode, NewTopic, Producer, Record, ShareBatch, ShareConsumer, TopicPartition,
};
use tidewater_tests::real_kafka::{Cluster, Version};
use tidewater_tests::{java, programs};

use crate::support::{client, create, on_shared, producer_config};

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("interop/ShareClient.java")
}

/// Has the group start at the beginning of its topics.
fn from_the_beginning(cluster: &Cluster, group: &str) {
    let setting = "share.auto.offset.reset=earliest";
    java::run(cluster.jars(), &program(), &["configure", &cluster.bootstrap(), group, setting]);
}

fn config(cluster: &Cluster, group: &str) -> ShareConsumerConfig {
    ShareConsumerConfig {
        client: client(cluster, "share"),
        group_id: Some(group.to_owned()),
        ..Default::default()
    }
}

fn explicit(cluster: &Cluster, group: &str) -> ShareConsumer {
    let mode = AcknowledgementMode::Explicit;
    let config = ShareConsumerConfig { acknowledgement_mode: mode, ..config(cluster, group) };
    ShareConsumer::new(config).expect("a share consumer")
}

async fn send(producer: &Producer, topic: &str, partition: i32, numbers: std::ops::Range<usize>) {
    let mut receipts = Vec::new();
    for number in numbers {
        let value = format!("value {number}");
        let record = Record::to(topic).partition(partition).value(&value);
        receipts.push(producer.enqueue(record).await.expect("enqueue"));
    }
    producer.flush().await;
    for receipt in receipts {
        receipt.await.expect("send");
    }
}

/// A producer that makes one batch of what is sent at once, however slow the machine is.
fn producer(cluster: &Cluster, client_id: &str) -> Producer {
    let linger = Duration::from_secs(60);
    Producer::new(kafka_wire::config::ProducerConfig { linger, ..producer_config(cluster, client_id) })
        .expect("a producer")
}

/// The next batch with records.
async fn next(consumer: &mut ShareConsumer) -> ShareBatch {
    loop {
        let batch = consumer.poll(Duration::from_secs(1)).await.expect("poll");
        if !batch.is_empty() {
            return batch;
        }
    }
}

/// Offset and delivery count of so many records, all left without a word.
async fn take(consumer: &mut ShareConsumer, count: usize) -> Vec<(i64, i16)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let batch = next(consumer).await;
        seen.extend(batch.iter().map(|shared| (shared.record.offset, shared.delivery_count)));
    }
    seen
}

/// How often each record was delivered, by partition and offset.
type Seen = Arc<Mutex<BTreeMap<(i32, i64), usize>>>;

async fn work(mut consumer: ShareConsumer, total: usize, seen: Seen) {
    loop {
        let batch = consumer.poll(Duration::from_millis(200)).await.expect("poll");
        let partition = batch.topic_partition().partition;
        let mut all = seen.lock().unwrap();
        for shared in &batch {
            *all.entry((partition, shared.record.offset)).or_default() += 1;
        }
        if all.len() >= total {
            break;
        }
    }
    for result in consumer.commit().await.expect("commit") {
        result.result.expect("what was handed out is accepted");
    }
    consumer.close(Duration::from_secs(30)).await.expect("close");
}

#[test]
fn members_of_ours_and_javas_share_each_record_once() {
    const PER_PARTITION: usize = 1000;
    on_shared(Version::V4_3, async |cluster| {
        let (topic, group) = ("shared-by-three", "three");
        create(cluster, NewTopic::new(topic, 4)).await;
        from_the_beginning(cluster, group);
        let plain = producer(cluster, "share-plain");
        for partition in 0..3 {
            send(&plain, topic, partition, 0..PER_PARTITION).await;
        }
        // With the marker of a transaction at the end of the last partition: an offset without a record.
        let config_of_transaction = kafka_wire::config::ProducerConfig {
            transactional_id: Some("share-transaction".to_owned()),
            ..producer_config(cluster, "share-transactional")
        };
        let transactional = Producer::new(config_of_transaction).expect("a producer");
        transactional.init_transactions().await.expect("init");
        transactional.begin_transaction().await.expect("begin");
        send(&transactional, topic, 3, 0..PER_PARTITION).await;
        transactional.commit_transaction().await.expect("commit");

        let (bootstrap, jars) = (cluster.bootstrap(), cluster.jars().to_path_buf());
        let javas = std::thread::spawn(move || {
            java::run(&jars, &program(), &["consume", &bootstrap, group, topic, "200"])
        });
        let seen = Seen::default();
        let ours = ShareConsumer::new(config(cluster, group)).expect("a share consumer");
        let other = ShareConsumer::new(config(cluster, group)).expect("a share consumer");
        let consumers = [ours, other].map(|mut consumer| {
            consumer.subscribe([topic]).expect("subscribe");
            consumer
        });
        let [ours, other] = consumers;
        // It has a partition to itself at least; the rest is left for Java's member, whenever that has started.
        work(ours, PER_PARTITION / 2, Arc::clone(&seen)).await;
        let printed = tokio::task::spawn_blocking(move || javas.join()).await.expect("the thread");
        let printed = printed.expect("Java's member");
        assert!(printed.lines().count() > 200, "{printed}");
        {
            let mut all = seen.lock().unwrap();
            for line in printed.lines() {
                // "ready", and what Kafka's client logs.
                let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<i64>, _>>();
                let Ok(&[partition, offset, _]) = numbers.as_deref() else { continue };
                *all.entry((partition as i32, offset)).or_default() += 1;
            }
        }
        work(other, 4 * PER_PARTITION, Arc::clone(&seen)).await;
        let seen = seen.lock().unwrap();
        let partitions: BTreeSet<i32> = seen.keys().map(|(partition, _)| *partition).collect();
        assert_eq!((seen.len(), partitions.len()), (4 * PER_PARTITION, 4));
        let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
    });
}

#[test]
fn each_record_is_acknowledged_for_itself() {
    on_shared(Version::V4_3, async |cluster| {
        let (topic, group) = ("shared-explicitly", "explicit");
        let partition = TopicPartition::new(topic, 0);
        create(cluster, NewTopic::new(topic, 1)).await;
        from_the_beginning(cluster, group);
        send(&producer(cluster, "share-explicit"), topic, 0, 0..10).await;
        let mut consumer = explicit(cluster, group);
        let told = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&told);
        consumer.on_acknowledged(move |result| *counter.lock().unwrap() += result.count());
        consumer.subscribe([topic]).expect("subscribe");
        assert_eq!(take(&mut consumer, 10).await, (0..10).map(|offset| (offset, 1)).collect::<Vec<_>>());
        assert!(consumer.lock_timeout().is_some_and(|timeout| timeout >= Duration::from_secs(15)));
        let error = consumer.poll(Duration::ZERO).await.expect_err("nothing is acknowledged yet");
        assert_eq!(error.offset(), Some(0));
        for offset in 0..10 {
            let kind = match offset {
                1 | 5 => AcknowledgeType::Release,
                3 => AcknowledgeType::Reject,
                7 => AcknowledgeType::Renew,
                _ => AcknowledgeType::Accept,
            };
            consumer.acknowledge(&partition, offset, kind).expect("it was handed out");
        }
        let results = consumer.commit().await.expect("commit");
        assert_eq!((results.len(), results[0].count()), (1, 10));
        results[0].result.as_ref().expect("acknowledged");
        // What was released comes back, and nothing else; the renewed one is still held.
        assert_eq!(take(&mut consumer, 2).await, [(1, 2), (5, 2)]);
        for offset in [1, 5, 7] {
            consumer.acknowledge(&partition, offset, AcknowledgeType::Accept).expect("it is held");
        }
        for result in consumer.commit().await.expect("commit") {
            result.result.expect("acknowledged");
        }
        assert_eq!(*told.lock().unwrap(), 13);
        consumer.close(Duration::from_secs(30)).await.expect("close");
    });
}

#[test]
fn a_member_that_closes_gives_back_what_it_has_not_acknowledged() {
    on_shared(Version::V4_3, async |cluster| {
        let (topic, group) = ("shared-and-returned", "returned");
        let partition = TopicPartition::new(topic, 0);
        create(cluster, NewTopic::new(topic, 1)).await;
        from_the_beginning(cluster, group);
        send(&producer(cluster, "share-return"), topic, 0, 0..6).await;
        let mut first = explicit(cluster, group);
        first.subscribe([topic]).expect("subscribe");
        take(&mut first, 6).await;
        first.acknowledge(&partition, 2, AcknowledgeType::Accept).expect("it was handed out");
        first.close(Duration::from_secs(30)).await.expect("close");
        let mut second = explicit(cluster, group);
        second.subscribe([topic]).expect("subscribe");
        let again = take(&mut second, 5).await;
        assert_eq!(again, [0, 1, 3, 4, 5].map(|offset| (offset, 2)));
        // Dropped, a member leaves the rest to the broker, which notices that the connection is gone.
        drop(second);
        let mut third = explicit(cluster, group);
        third.subscribe([topic]).expect("subscribe");
        let again = take(&mut third, 5).await;
        assert_eq!(again, [0, 1, 3, 4, 5].map(|offset| (offset, 3)));
        third.close(Duration::from_secs(30)).await.expect("close");
    });
}

#[test]
fn the_verifiable_share_consumer_keeps_kafkas_contract() {
    on_shared(Version::V4_3, async |cluster| {
        let topic = "shared-verifiably";
        create(cluster, NewTopic::new(topic, 2)).await;
        send(&producer(cluster, "share-verifiable"), topic, 0, 0..3).await;
        send(&producer(cluster, "share-verifiable"), topic, 1, 3..5).await;
        for mode in ["auto", "sync", "async"] {
            let events = verifiable(cluster, topic, mode).await;
            let named = |name: &str| events.iter().filter(|event| event["name"] == name).collect::<Vec<_>>();
            let names: Vec<_> = events.iter().map(|event| event["name"].as_str().unwrap()).collect();
            assert_eq!(names[..2], ["startup_complete", "offset_reset_strategy_set"], "{events:?}");
            assert_eq!(*names.last().unwrap(), "shutdown_complete");
            assert_eq!(events[1]["offsetResetStrategy"], "earliest");
            let values: BTreeSet<&str> =
                named("record_data").iter().map(|event| event["value"].as_str().unwrap()).collect();
            assert_eq!(values.len(), 5, "{events:?}");
            for name in ["records_consumed", "offsets_acknowledged"] {
                let mut offsets = BTreeSet::new();
                for event in named(name) {
                    let partition = &event["partitions"][0];
                    assert_eq!((&partition["topic"], &partition["count"]), (&topic.into(), &event["count"]));
                    for offset in partition["offsets"].as_array().unwrap() {
                        assert!(offsets.insert((partition["partition"].as_i64(), offset.as_i64())));
                    }
                }
                assert_eq!(offsets.len(), 5, "{name}: {events:?}");
            }
            assert!(named("offsets_acknowledged").iter().all(|event| event["success"] == true));
        }
    });
}

async fn verifiable(cluster: &Cluster, topic: &str, mode: &str) -> Vec<serde_json::Value> {
    let group = format!("verifiable-{mode}");
    let bootstrap = cluster.bootstrap();
    let fixed = ["verifiable-share-consumer", "--verbose", "--max-messages", "5"];
    let named = ["--topic", topic, "--group-id", &group, "--bootstrap-server", &bootstrap];
    let modes = ["--acknowledgement-mode", mode, "--offset-reset-strategy", "earliest"];
    let mut command = std::process::Command::new(programs::tidewater());
    command.args([&fixed[..], &named, &modes].concat());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("the thread");
    let output = output.expect("run tidewater");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn brokers_without_share_groups_are_named() {
    on_shared(Version::V3_9, async |cluster| {
        let mut consumer = ShareConsumer::new(config(cluster, "none")).expect("a share consumer");
        consumer.subscribe(["any"]).expect("subscribe");
        let error = consumer.poll(Duration::from_secs(60)).await.expect_err("there are no share groups");
        assert!(error.is_fatal() && error.to_string().contains("from 4.1 on"), "{error}");
        assert_ne!(error.code(), Some(ErrorCode::INVALID_REQUEST));
        consumer.close(Duration::from_secs(30)).await.expect("close");
    });
}

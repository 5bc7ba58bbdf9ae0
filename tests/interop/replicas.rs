//! Replicas that differ: one that is closer to the client than the leader (KIP-392), and one that lacks records when
//! it becomes the leader (KIP-320).

use std::sync::Arc;
use std::time::Duration;

use kafka_wire::config::OffsetReset;
use kafka_wire::{BrokerId, Consumer, ErrorKind, NewTopic, Position, Producer, Record, TopicPartition};
use tidewater_tests::real_kafka::{self, Cluster, Options, Version};

use crate::support::{admin, consumer_config, create, entries, producer_config, run, wait_until};

const FETCH: i16 = 1;

#[test]
fn replicas_that_are_closer_are_read_and_those_that_lack_records_are_found_out() {
    if !real_kafka::available() {
        return;
    }
    let options = Options::new(Version::V4_3, 3)
        .proxied()
        .property("broker.rack", "rack-of-{port}")
        .property("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector")
        .property("broker.session.timeout.ms", "4000")
        .property("broker.heartbeat.interval.ms", "500");
    let cluster = Arc::new(Cluster::start(options));
    run(async {
        the_closest_replica_is_read(&cluster).await;
        truncation_is_told_or_followed_as_configured(&cluster).await;
    });
}

async fn write(cluster: &Cluster, topic: &str, range: std::ops::Range<usize>) {
    let mut config = producer_config(cluster, "writer");
    config.client.request_timeout = Duration::from_secs(5);
    let producer = Producer::new(config).expect("a producer");
    for number in range {
        producer.send(Record::to(topic).partition(0).value(&number.to_string())).await.expect("send");
    }
}

async fn read(consumer: &mut Consumer, count: usize) -> Vec<usize> {
    let mut values = Vec::new();
    while values.len() < count {
        let batch = consumer.poll(Duration::from_secs(60)).await.expect("poll");
        assert!(!batch.is_empty(), "{} of {count} records came", values.len());
        values
            .extend(entries(&batch).into_iter().map(|entry| entry.value.parse::<usize>().expect("a number")));
    }
    values
}

async fn partition_of(cluster: &Cluster, topic: &str) -> kafka_wire::Partition {
    let consumer = Consumer::new(consumer_config(cluster, "look")).expect("a consumer");
    consumer.describe_topic(topic).await.expect("describe").partitions[0].clone()
}

/// With `client.rack`, records come from the replica in that rack; when it dies, from the leader again.
async fn the_closest_replica_is_read(cluster: &Arc<Cluster>) {
    const NAME: &str = "closest";
    create(cluster, NewTopic::new(NAME, 1).config("min.insync.replicas", "1")).await;
    write(cluster, NAME, 0..10).await;
    let leader = partition_of(cluster, NAME).await.leader.expect("a leader");
    let near = (0..3).find(|node| BrokerId(*node) != leader).expect("a follower") as usize;
    let brokers = admin(cluster).describe_cluster().await.expect("describe the cluster").brokers;
    let rack = brokers
        .iter()
        .find(|broker| broker.id == BrokerId(near as i32))
        .and_then(|broker| broker.rack.clone());
    let mut config = consumer_config(cluster, NAME);
    config.client.client_rack = Some(rack.expect("a rack").to_string());
    config.client.request_timeout = Duration::from_secs(5);
    let mut consumer = Consumer::new(config).expect("a consumer");
    consumer.assign([(TopicPartition::new(NAME, 0), Position::Beginning)]).expect("assign");
    assert_eq!(read(&mut consumer, 10).await, (0..10).collect::<Vec<_>>());
    let fetches = |node: usize| cluster.requests(node, NAME, FETCH);
    assert!(fetches(near) > 0, "the follower was not asked");
    let from_leader = fetches(leader.0 as usize);
    write(cluster, NAME, 10..40).await;
    assert_eq!(read(&mut consumer, 30).await, (10..40).collect::<Vec<_>>());
    assert_eq!(fetches(leader.0 as usize), from_leader, "the leader was asked too");

    kill(cluster, near).await;
    write(cluster, NAME, 40..60).await;
    assert_eq!(read(&mut consumer, 20).await, (40..60).collect::<Vec<_>>());
    start(cluster, near).await;
    wait_until("all replicas are in sync", async || {
        partition_of(cluster, NAME).await.in_sync_replicas.len() == 3
    })
    .await;
}

/// Unclean election: the follower was down for the last records, the leader dies, and the follower leads.
async fn truncation_is_told_or_followed_as_configured(cluster: &Arc<Cluster>) {
    const NAME: &str = "truncated";
    let topic = NewTopic::new(NAME, 1)
        .replication_factor(2)
        .config("min.insync.replicas", "1")
        .config("unclean.leader.election.enable", "true");
    create(cluster, topic).await;
    write(cluster, NAME, 0..42).await;
    let partition = partition_of(cluster, NAME).await;
    let leader = partition.leader.expect("a leader").0 as usize;
    let follower =
        partition.replicas.iter().find(|id| id.0 as usize != leader).expect("a follower").0 as usize;
    kill(cluster, follower).await;
    write(cluster, NAME, 42..50).await;
    let reading = |id: &str, reset| {
        let mut config = consumer_config(cluster, id);
        config.auto_offset_reset = reset;
        config.client.request_timeout = Duration::from_secs(5);
        let mut consumer = Consumer::new(config).expect("a consumer");
        consumer.assign([(TopicPartition::new(NAME, 0), Position::Beginning)]).expect("assign");
        consumer
    };
    let mut strict = reading("strict", OffsetReset::None);
    let mut lenient = reading("lenient", OffsetReset::Latest);
    let all: Vec<usize> = (0..50).collect();
    assert_eq!((read(&mut strict, 50).await, read(&mut lenient, 50).await), (all.clone(), all));

    kill(cluster, leader).await;
    start(cluster, follower).await;
    // More than were lost: offset 50 is there again, of other records.
    write(cluster, NAME, 100..120).await;
    let error = strict.poll(Duration::from_secs(60)).await.expect_err("the log was truncated");
    assert_eq!((error.kind(), error.offset()), (ErrorKind::DataLoss, Some(50)), "{error}");
    assert!(error.to_string().contains("truncated to offset 42"), "{error}");
    assert_eq!(read(&mut lenient, 20).await, (100..120).collect::<Vec<_>>());
    start(cluster, leader).await;
}

async fn kill(cluster: &Arc<Cluster>, node: usize) {
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_blocking(move || cluster.kill(node)).await.expect("kill");
}

async fn start(cluster: &Arc<Cluster>, node: usize) {
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_blocking(move || cluster.start_node(node)).await.expect("start");
}

//! What operators do to a cluster on an ordinary day: partitions move to other nodes, and nodes are restarted one
//! after the other, under a producer, a copier in transactions and a group, with members in the nodes' racks beside them.

mod racks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kafka_wire::config::{OffsetReset, ProducerConfig, Strategy};
use kafka_wire::{
    Admin, BrokerId, CommittedOffset, Consumer, Error, Isolation, NewTopic, Producer, Record, TopicPartition,
};
use tidewater_tests::real_kafka::{self, Cluster, Options, Version};

use self::racks::Racked;
use crate::producer_faults::Writer;
use crate::support::{
    Entry, Sent, admin, assert_no_faults, consumer_config, create, producer_config, read_all, run,
    values_that_java_reads, wait_until,
};

const PARTITIONS: i32 = 6;
const NODES: i32 = 3;
const IN: &str = "rolling-in";
const OUT: &str = "rolling-out";
const INTERNAL: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

#[test]
fn moved_partitions_and_a_rolling_restart_cost_no_record_and_double_none() {
    if !real_kafka::available() {
        return;
    }
    let options = Options::new(Version::V4_3, NODES as usize).property("broker.rack", "rack-{node}");
    let cluster = Arc::new(Cluster::start(options));
    run(async {
        let admin = admin(&cluster);
        for topic in [IN, OUT] {
            // Two replicas each, so that there is a node to move to; one of them may be away.
            let new = NewTopic::new(topic, -1).config("min.insync.replicas", "1");
            let new = (0..PARTITIONS).fold(new, |new, number| new.assignment(number, nodes(number)));
            create(&cluster, new).await;
        }
        let load = Load::start(&cluster);
        load.wait_for(100).await;
        move_partitions(&admin).await;
        let mut racked = Racked::join(&cluster).await;
        for node in 0..NODES as usize {
            load.wait_for(100).await;
            in_background(&cluster, move |cluster| cluster.stop(node)).await;
            racked.see_it_gone(node as i32).await;
            load.wait_for(100).await;
            in_background(&cluster, move |cluster| cluster.start_node(node)).await;
            wait_until("all replicas are in sync", async || is_in_sync(&admin).await).await;
        }
        racked.assert_undisturbed();
        load.wait_for(100).await;
        load.finish(&cluster).await;
    });
}

/// Two of the three nodes, the leader first.
fn nodes(first: i32) -> Vec<BrokerId> {
    [first, first + 1].map(|node| BrokerId(node % NODES)).to_vec()
}

/// Each partition goes on to the next node: the old leader loses it.
async fn move_partitions(admin: &Admin) {
    let target = |topic, number| (TopicPartition::new(topic, number), Some(nodes(number + 1)));
    let all =
        [IN, OUT].into_iter().flat_map(|topic| (0..PARTITIONS).map(move |number| target(topic, number)));
    for (partition, moved) in admin.alter_partition_reassignments(all).await.expect("move partitions") {
        moved.unwrap_or_else(|error| panic!("move {partition}: {error}"));
    }
    wait_until("the partitions have moved", async || {
        let described = admin.describe_topics([IN, OUT]).await.expect("describe");
        described.into_iter().all(|(_, topic)| {
            let partitions = topic.expect("a topic").partitions;
            partitions.iter().zip(0..).all(|(partition, number)| partition.replicas == nodes(number + 1))
        })
    })
    .await;
}

async fn is_in_sync(admin: &Admin) -> bool {
    let described = admin.describe_topics([IN, OUT].into_iter().chain(INTERNAL)).await.expect("describe");
    described.into_iter().all(|(_, topic)| {
        // A broker that has just started may not know all topics yet.
        topic.is_ok_and(|topic| {
            topic.partitions.iter().all(|each| each.in_sync_replicas.len() == each.replicas.len())
        })
    })
}

/// Stopping and starting take a moment that the runtime should not lose.
async fn in_background(cluster: &Arc<Cluster>, act: impl FnOnce(&Cluster) + Send + 'static) {
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_blocking(move || act(&cluster)).await.expect("act on the cluster");
}

/// What the threads of the load have come to.
#[derive(Default)]
struct Counts {
    acknowledged: AtomicUsize,
    copied: AtomicUsize,
    /// By the group.
    read: AtomicUsize,
    is_written: AtomicBool,
    /// How many there are to copy and read; more than there can be until that is known.
    total: AtomicUsize,
}

/// What goes on all the while.
struct Load {
    counts: Arc<Counts>,
    writer: std::thread::JoinHandle<Vec<Sent>>,
    copier: std::thread::JoinHandle<usize>,
    group: Vec<std::thread::JoinHandle<Vec<(i32, i64)>>>,
}

impl Load {
    fn start(cluster: &Arc<Cluster>) -> Self {
        let counts = Arc::new(Counts { total: AtomicUsize::new(usize::MAX), ..Counts::default() });
        let spawn = |counts: &Arc<Counts>| (Arc::clone(cluster), Arc::clone(counts));
        let (at, of) = spawn(&counts);
        let writer = std::thread::spawn(move || write(&at, &of));
        let (at, of) = spawn(&counts);
        let copier = std::thread::spawn(move || copy(&at, &of));
        let group = (0..2).map(|_| {
            let (at, of) = spawn(&counts);
            std::thread::spawn(move || read(&at, &of))
        });
        let group = group.collect();
        Self { counts, writer, copier, group }
    }

    /// Waits until so many more records are written, copied and read.
    async fn wait_for(&self, more: usize) {
        let Counts { acknowledged, copied, read, .. } = &*self.counts;
        let counts = || [acknowledged, copied, read].map(|count| count.load(Ordering::Relaxed));
        let before = counts();
        wait_until("everything has got on", async || {
            counts().iter().zip(&before).all(|(now, before)| *now >= before + more)
        })
        .await;
    }

    async fn finish(self, cluster: &Cluster) {
        self.counts.is_written.store(true, Ordering::Relaxed);
        let (writer, copier, group) = (self.writer, self.copier, self.group);
        let ended = tokio::task::spawn_blocking(move || {
            let sent = writer.join().expect("the writer");
            let restarts = copier.join().expect("the copier");
            let read = group.into_iter().flat_map(|member| member.join().expect("a member"));
            (sent, restarts, read.collect::<Vec<_>>())
        });
        let (sent, restarts, mut read) = ended.await.expect("wait for the load");
        eprintln!("{} records; the copier began {restarts} times", sent.len());
        let log = read_all(cluster, IN, Isolation::ReadUncommitted).await;
        assert_no_faults(&sent, &log);
        assert_eq!(log.len(), sent.len());
        let mut all: Vec<(i32, i64)> = log.iter().map(|entry| (entry.partition, entry.offset)).collect();
        all.sort_unstable();
        read.sort_unstable();
        assert!(read == all, "the group read {} of {} records, or others", read.len(), all.len());
        let by_partition = |mut entries: Vec<Entry>| {
            entries.sort_by_key(|entry| entry.partition);
            entries.into_iter().map(|entry| entry.value).collect::<Vec<_>>()
        };
        let written = by_partition(log);
        let copied = by_partition(read_all(cluster, OUT, Isolation::ReadCommitted).await);
        assert!(copied == written, "{} of {} records are copied, or others", copied.len(), written.len());
        assert!(values_that_java_reads(cluster, OUT).await == written, "Kafka's client reads otherwise");
    }
}

/// Writes at a steady rate.
fn write(cluster: &Cluster, counts: &Counts) -> Vec<Sent> {
    let mut sent = Vec::new();
    run(async {
        let mut config = producer_config(cluster, "rolling-writer");
        config.client.request_timeout = Duration::from_secs(10);
        let mut writer = Writer::new(Producer::new(config).expect("a producer"), IN);
        while !counts.is_written.load(Ordering::Relaxed) {
            writer.send().await;
            counts.acknowledged.store(writer.acknowledged(), Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sent = writer.finish().await;
    });
    counts.total.store(sent.len(), Ordering::Relaxed);
    sent
}

fn group_member(cluster: &Cluster, group: &str) -> Consumer {
    let mut config = consumer_config(cluster, group);
    config.group_id = Some(group.to_owned());
    config.auto_offset_reset = OffsetReset::Earliest;
    config.isolation = Isolation::ReadCommitted;
    config.group.strategies = vec![Strategy::CooperativeSticky];
    let mut consumer = Consumer::new(config).expect("a consumer");
    consumer.subscribe([IN]).expect("subscribe");
    consumer
}

/// A member of a group, which commits what it has read.
fn read(cluster: &Cluster, counts: &Counts) -> Vec<(i32, i64)> {
    let mut records = Vec::new();
    run(async {
        let mut consumer = group_member(cluster, "rolling-group");
        while counts.read.load(Ordering::Relaxed) < counts.total.load(Ordering::Relaxed) {
            let batch = consumer.poll(Duration::from_millis(100)).await.expect("poll");
            let partition = batch.topic_partition().partition;
            records.extend(batch.iter().map(|record| (partition, record.offset)));
            if !batch.is_empty() {
                counts.read.fetch_add(batch.len(), Ordering::Relaxed);
                consumer.commit().await.expect("commit");
            }
        }
        consumer.close().await.expect("close");
    });
    records
}

/// Copies each record in a transaction with its offset; whatever fails, it begins anew where it had committed. How
/// often it began.
fn copy(cluster: &Cluster, counts: &Counts) -> usize {
    let mut begun = 0;
    run(async {
        let config = ProducerConfig {
            transactional_id: Some("rolling-copier".to_owned()),
            ..producer_config(cluster, "rolling-copier")
        };
        while counts.copied.load(Ordering::Relaxed) < counts.total.load(Ordering::Relaxed) {
            begun += 1;
            let producer = Producer::new(config.clone()).expect("a producer");
            if let Err(error) = copy_on(&producer, cluster, counts).await {
                eprintln!("the copier begins anew: {error}");
            }
        }
    });
    begun
}

async fn copy_on(producer: &Producer, cluster: &Cluster, counts: &Counts) -> Result<(), Error> {
    producer.init_transactions().await?;
    let mut consumer = group_member(cluster, "rolling-copies");
    // Of a transaction whose end was not heard only this says what has become of it.
    let partitions = (0..PARTITIONS).map(|number| TopicPartition::new(IN, number));
    let committed = consumer.committed(partitions).await?;
    let copied: i64 = committed.iter().filter_map(|(_, at)| Some(at.as_ref()?.offset)).sum();
    counts.copied.store(copied as usize, Ordering::Relaxed);
    while counts.copied.load(Ordering::Relaxed) < counts.total.load(Ordering::Relaxed) {
        counts.copied.fetch_add(copy_some(producer, &mut consumer).await?, Ordering::Relaxed);
    }
    consumer.close().await
}

/// More records than the writer writes while a transaction ends.
const COPIED_AT_ONCE_MAX: usize = 200;

/// Copies what is there in one transaction: each costs dozens of milliseconds, and the writer goes on meanwhile.
async fn copy_some(producer: &Producer, consumer: &mut Consumer) -> Result<usize, Error> {
    let mut batch = consumer.poll(Duration::from_millis(100)).await?;
    if batch.is_empty() {
        return Ok(0);
    }
    // As whom the first was read: who loses its place before the last may not commit.
    let member = consumer.group_metadata()?;
    producer.begin_transaction().await?;
    let (mut count, mut offsets) = (0, BTreeMap::new());
    while !batch.is_empty() {
        let at = batch.topic_partition().clone();
        for record in &batch {
            let mut copy = Record::to(OUT).partition(at.partition);
            (copy.key, copy.value) = (record.key, record.value);
            // What fails shows at the commit.
            drop(producer.enqueue(copy).await?);
        }
        let next =
            CommittedOffset { offset: batch.next_offset(), leader_epoch: None, metadata: String::new() };
        offsets.insert(at, next);
        count += batch.len();
        if count >= COPIED_AT_ONCE_MAX {
            break;
        }
        batch = consumer.poll(Duration::ZERO).await?;
    }
    producer.send_offsets_to_transaction(member, offsets.into_iter().collect()).await?;
    producer.commit_transaction().await?;
    Ok(count)
}

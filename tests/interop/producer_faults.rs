//! Whatever happens to brokers and connections: what is acknowledged is in the log once, in order per key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_wire::admin::PartitionDescription;
use kafka_wire::config::ProducerConfig;
use kafka_wire::{Acks, BrokerId, Codec, ErrorCode, Isolation, NewTopic, Producer, Receipt, Record};
use tidewater_tests::proxy::{Fault, Gate};
use tidewater_tests::real_kafka::{self, Cluster, Options, Version};

use crate::consumer_faults::Follower;
use crate::support::{
    Entry, Fate, Sent, admin, assert_no_faults, client, committed_values, create, on_shared, producer,
    producer_config, read_all, run, values_that_java_reads, wait_until,
};

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;

/// A record on its way.
struct Sending {
    key: String,
    value: String,
    receipt: Receipt,
}

/// Sends values of its own under seven keys.
pub struct Writer {
    producer: Producer,
    topic: &'static str,
    sending: Vec<Sending>,
}

impl Writer {
    pub fn new(producer: Producer, topic: &'static str) -> Self {
        Self { producer, topic, sending: Vec::new() }
    }

    pub async fn send(&mut self) {
        let number = self.sending.len();
        let (key, value) = (format!("key-{}", number % 7), format!("value-{number}"));
        let record = Record::to(self.topic).key(&key).value(&value);
        let receipt = self.producer.enqueue(record).await.expect("enqueue");
        self.sending.push(Sending { key, value, receipt });
    }

    /// How many of the records were acknowledged by now.
    pub fn acknowledged(&self) -> usize {
        self.sending.iter().filter(|sending| matches!(sending.receipt.try_wait(), Some(Ok(_)))).count()
    }

    /// What became of them all.
    pub async fn finish(self) -> Vec<Sent> {
        let mut sent = Vec::new();
        for Sending { key, value, receipt } in self.sending {
            let fate = match receipt.await {
                Ok(metadata) => Fate::Written(metadata.offset),
                Err(error) => Fate::of_failure(&error),
            };
            sent.push(Sent { key, value, fate });
        }
        sent
    }
}

fn written(sent: &[Sent]) -> usize {
    sent.iter().filter(|sent| matches!(sent.fate, Fate::Written(_))).count()
}

/// Batches that grow beyond what the topic takes are split, without and with compression, until they fit; the one
/// record that is too large by itself fails, and Kafka's own client reads the rest in order.
#[test]
fn batches_that_are_too_large_for_a_topic_are_split() {
    for version in [Version::V3_9, Version::V4_3] {
        on_shared(version, async |cluster| {
            const NAME: &str = "small-batches";
            create(cluster, NewTopic::new(NAME, 1).config("max.message.bytes", "2000")).await;
            let mut expected = Vec::new();
            for codec in [Codec::None, Codec::Zstd] {
                let mut config = producer_config(cluster, NAME);
                config.compression = codec;
                config.linger = Duration::from_millis(200);
                let producer = Producer::new(config).expect("a producer");
                let mut sent = Vec::new();
                for number in 0_u64..400 {
                    // Digits that compress badly.
                    let noise = |round: u64| (number * 1_000 + round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    let rounds = if number == 123 { 500 } else { 3 };
                    let value: String = (0..rounds).map(|round| format!("{:016x}", noise(round))).collect();
                    let receipt = producer.enqueue(Record::to(NAME).value(&value)).await.expect("enqueue");
                    sent.push((receipt, value));
                }
                for (number, (receipt, value)) in sent.into_iter().enumerate() {
                    match receipt.await {
                        Ok(report) => {
                            assert_eq!(report.offset, Some(expected.len() as i64));
                            expected.push(value);
                        }
                        Err(error) => {
                            assert_eq!(
                                (number, error.code()),
                                (123, Some(ErrorCode::MESSAGE_TOO_LARGE)),
                                "{error}"
                            );
                            assert!(!error.possibly_written(), "{error}");
                        }
                    }
                }
            }
            assert_eq!(expected.len(), 2 * 399);
            assert_eq!(values_that_java_reads(cluster, NAME).await, expected);
        });
    }
}

/// Three nodes are killed with `SIGKILL` and started again in turn, one is frozen and thawed, and at last all die at
/// once: under a producer at a steady rate, one with transactions, and a consumer at their heels. A topic that needs
/// all three replicas blocks meanwhile and goes on after.
#[test]
fn brokers_that_die_and_freeze_in_turn_cost_no_record_and_double_none() {
    if !real_kafka::available() {
        return;
    }
    let options = Options::new(Version::V4_3, 3)
        .property("broker.session.timeout.ms", "5000")
        .property("broker.heartbeat.interval.ms", "500");
    let cluster = Arc::new(Cluster::start(options));
    run(async {
        create(&cluster, NewTopic::new("steady", 6)).await;
        create(&cluster, NewTopic::new("atomic", 4)).await;
        create(&cluster, NewTopic::new("strict", 1).config("min.insync.replicas", "3")).await;
        let mut config = producer_config(&cluster, "steady");
        config.client.request_timeout = Duration::from_secs(5);
        let mut load = Load {
            writer: Writer::new(Producer::new(config).expect("a producer"), "steady"),
            transactions: Transactions::start(&cluster),
            follower: Follower::start(&cluster, "steady", 6),
        };
        let strict = producer(&cluster, "strict");
        let mut values = Vec::new();
        for (node, is_killed) in [(0, true), (1, false), (2, true), (0, true)] {
            load.go_on(100).await;
            in_background(
                &cluster,
                move |cluster| {
                    if is_killed { cluster.kill(node) } else { cluster.freeze(node, true) }
                },
            )
            .await;
            load.go_on_until(&cluster, "strict", |partition| {
                !partition.in_sync_replicas.contains(&BrokerId(node as i32))
            })
            .await;
            let value = format!("{} without node {node}", values.len());
            let blocked = strict.enqueue(Record::to("strict").value(&value)).await.expect("enqueue");
            load.go_on(300).await;
            assert!(blocked.try_wait().is_none(), "two replicas are not three: {:?}", blocked.try_wait());
            in_background(&cluster, move |cluster| {
                if is_killed { cluster.start_node(node) } else { cluster.freeze(node, false) }
            })
            .await;
            load.go_on_until(&cluster, "steady", |partition| partition.in_sync_replicas.len() == 3).await;
            blocked.await.expect("three replicas are back");
            values.push(value);
        }
        in_background(&cluster, |cluster| (0..3).for_each(|node| cluster.kill(node))).await;
        in_background(&cluster, |cluster| (0..3).for_each(|node| cluster.start_node(node))).await;
        load.go_on(300).await;
        load.finish(&cluster).await;
        assert_eq!(committed_values(&cluster, "strict").await, values);
    });
}

/// What goes on while brokers die.
struct Load {
    writer: Writer,
    transactions: Transactions,
    follower: Follower,
}

impl Load {
    /// Sends at a steady rate until `more` records are acknowledged, while the follower reads.
    async fn go_on(&mut self, more: usize) {
        let enough = self.writer.acknowledged() + more;
        wait_until("more records are acknowledged", async || {
            for _ in 0..10 {
                self.writer.send().await;
            }
            self.follower.read_on(Duration::from_millis(10)).await;
            self.writer.acknowledged() >= enough
        })
        .await;
    }

    /// Goes on until all partitions of `topic` are so.
    async fn go_on_until(
        &mut self,
        cluster: &Cluster,
        topic: &str,
        is_so: impl Fn(&PartitionDescription) -> bool,
    ) {
        let admin = admin(cluster);
        wait_until("replicas have left or come back", async || {
            self.go_on(1).await;
            let described = admin.describe_topics([topic]).await.expect("describe topics");
            // A broker that has just started may not know the topic yet.
            described[0].1.as_ref().is_ok_and(|topic| topic.partitions.iter().all(&is_so))
        })
        .await;
    }

    async fn finish(self, cluster: &Cluster) {
        let sent = self.writer.finish().await;
        assert_eq!(written(&sent), sent.len(), "the faults were all of the kind that passes");
        let log = read_all(cluster, "steady", Isolation::ReadUncommitted).await;
        assert_no_faults(&sent, &log);
        let mut by_partition = log.clone();
        by_partition.sort_by_key(|entry| entry.partition);
        let values: Vec<String> = by_partition.into_iter().map(|entry| entry.value).collect();
        assert!(values_that_java_reads(cluster, "steady").await == values, "Kafka's client reads otherwise");
        self.follower.assert_read(log).await;
        self.transactions.finish(cluster).await;
    }
}

/// Transactions of three records each, every fourth aborted, one after the other on a thread of their own.
struct Transactions {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<(usize, Outcome)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Committed,
    Aborted,
    Unknown,
}

impl Transactions {
    fn start(cluster: &Cluster) -> Self {
        let mut config = producer_config(cluster, "atomic");
        config.transactional_id = Some("atomic".to_owned());
        config.client.request_timeout = Duration::from_secs(5);
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut outcomes = Vec::new();
            run(async {
                let mut producer = begun(&config).await;
                while !until.load(Ordering::Relaxed) {
                    let number = outcomes.len();
                    let (outcome, goes_on) = transact(&producer, number).await;
                    outcomes.push((number, outcome));
                    if !goes_on {
                        producer = begun(&config).await;
                    }
                }
            });
            outcomes
        });
        Self { is_over, thread }
    }

    /// What was committed is there as a whole and once, what was aborted is not, and what is not known is there as a
    /// whole or not at all.
    async fn finish(self, cluster: &Cluster) {
        self.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread;
        let outcomes =
            tokio::task::spawn_blocking(|| thread.join()).await.expect("wait").expect("transactions");
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for value in committed_values(cluster, "atomic").await {
            *found.entry(value).or_default() += 1;
        }
        let committed = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Committed).count();
        assert!(committed > 20, "only {committed} of {} were committed", outcomes.len());
        for (number, outcome) in outcomes {
            let copies = atoms(number).map(|value| found.remove(&value).unwrap_or(0));
            let is_right = match outcome {
                Outcome::Committed => copies == [1; 3],
                Outcome::Aborted => copies == [0; 3],
                Outcome::Unknown => copies == [1; 3] || copies == [0; 3],
            };
            assert!(is_right, "transaction {number} is {outcome:?}, its values are there {copies:?} times");
        }
        assert!(found.is_empty(), "nobody sent {found:?}");
    }
}

fn atoms(number: usize) -> [String; 3] {
    ["a", "b", "c"].map(|part| format!("{number} {part}"))
}

/// A producer that has its id, which may take some time while the coordinator moves.
async fn begun(config: &ProducerConfig) -> Producer {
    let producer = Producer::new(config.clone()).expect("a producer");
    wait_until("there is a producer id", async || producer.init_transactions().await.is_ok()).await;
    producer
}

/// What became of a transaction, and whether its producer can go on.
async fn transact(producer: &Producer, number: usize) -> (Outcome, bool) {
    producer.begin_transaction().await.expect("begin");
    let values = atoms(number);
    for (partition, value) in (0..).zip(&values) {
        // What fails shows at the commit.
        drop(producer.enqueue(Record::to("atomic").partition(partition).value(value)).await);
    }
    if number % 4 == 3 {
        return (Outcome::Aborted, producer.abort_transaction().await.is_ok());
    }
    match producer.commit_transaction().await {
        Ok(()) => (Outcome::Committed, true),
        Err(error) if error.is_abortable() => (Outcome::Aborted, producer.abort_transaction().await.is_ok()),
        Err(error) if error.possibly_written() => (Outcome::Unknown, false),
        Err(_) => (Outcome::Aborted, false),
    }
}

/// Killing and starting take a moment that the runtime should not lose.
async fn in_background(cluster: &Arc<Cluster>, act: impl FnOnce(&Cluster) + Send + 'static) {
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_blocking(move || act(&cluster)).await.expect("act on the cluster");
}

/// Answers of Produce are lost, or end in the middle; requests are lost, or arrive long after they were given
/// up and repeated.
#[test]
fn broken_connections_cost_no_record_and_double_none() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "broken-connections";
        create(cluster, NewTopic::new(NAME, 3)).await;
        let mut config = producer_config(cluster, NAME);
        config.client.request_timeout = Duration::from_secs(2);
        let proxy = cluster.proxy();
        for api in [METADATA, API_VERSIONS, INIT_PRODUCER_ID] {
            proxy.rule_for(NAME, api, 0, 1, Fault::LoseAnswer);
            proxy.rule_for(NAME, api, 0, 1, Fault::CutAnswer(11));
        }
        proxy.rule_for(NAME, PRODUCE, 2, 1, Fault::LoseAnswer);
        proxy.rule_for(NAME, PRODUCE, 2, 2, Fault::LoseRequest);
        for bytes in (0..64).step_by(9) {
            proxy.rule_for(NAME, PRODUCE, 1, 1, Fault::CutAnswer(bytes));
        }
        let mut writer = Writer::new(Producer::new(config).expect("a producer"), NAME);
        wait_until("all faults have happened", async || {
            for _ in 0..5 {
                writer.send().await;
            }
            proxy.pending_for(NAME) == 0
        })
        .await;
        writer.producer.flush().await;
        let late = Arc::new(Gate::default());
        proxy.rule_for(NAME, PRODUCE, 0, 1, Fault::HoldUntil(Arc::clone(&late)));
        for _ in 0..20 {
            writer.send().await;
        }
        // All are acknowledged: the held one was given up, sent again, and is a duplicate when it arrives.
        writer.producer.flush().await;
        tokio::task::spawn_blocking(move || late.open()).await.expect("the late request arrives");
        let sent = writer.finish().await;
        assert_eq!(written(&sent), sent.len(), "the faults were all of the kind that passes");
        assert_no_faults(&sent, &read_all(cluster, NAME, Isolation::ReadUncommitted).await);
    });
}

/// A request that is held beyond `delivery.timeout.ms` has an unknown fate, and says so; when it arrives after
/// all, it neither disturbs what was sent later nor is it written twice or with other bytes.
#[test]
fn a_record_given_up_while_on_the_wire_is_reported_as_possibly_written() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "given-up";
        create(cluster, NewTopic::new(NAME, 1)).await;
        let mut config = producer_config(cluster, NAME);
        config.client.request_timeout = Duration::from_secs(1);
        config.delivery_timeout = Duration::from_secs(3);
        let producer = Producer::new(config).expect("a producer");
        producer.send(Record::to(NAME).key("k").value("before")).await.expect("send");
        let late = Arc::new(Gate::default());
        cluster.proxy().rule_for(NAME, PRODUCE, 0, 1000, Fault::HoldUntil(Arc::clone(&late)));
        let error = producer.send(Record::to(NAME).key("k").value("held")).await.expect_err("it is held");
        assert!(error.possibly_written() && error.to_string().contains("delivery.timeout.ms"), "{error}");
        tokio::task::spawn_blocking(move || late.open()).await.expect("the late requests arrive");
        producer.send(Record::to(NAME).key("k").value("after")).await.expect("send");
        let sent =
            [("before", Fate::Written(Some(0))), ("held", Fate::Unknown), ("after", Fate::Written(None))]
                .map(|(value, fate)| Sent { key: "k".into(), value: value.into(), fate });
        assert_no_faults(&sent, &read_all(cluster, NAME, Isolation::ReadUncommitted).await);
    });
}

/// `acks=1` and `acks=0` write what is sent; only the first says where.
#[test]
fn fewer_acknowledgements_write_all_the_same() {
    on_shared(Version::V4_3, async |cluster| {
        for (name, acks) in [("acks-1", Acks::Leader), ("acks-0", Acks::None)] {
            create(cluster, NewTopic::new(name, 1)).await;
            let mut config = producer_config(cluster, name);
            (config.acks, config.enable_idempotence) = (acks, false);
            let producer = Producer::new(config).expect("a producer");
            for number in 0..50 {
                let value = number.to_string();
                let metadata = producer.send(Record::to(name).value(&value)).await.expect("send");
                assert_eq!(metadata.offset, (acks == Acks::Leader).then_some(number), "{name}");
            }
            let mut log: Vec<Entry> = Vec::new();
            wait_until("all records are in the log", async || {
                log = read_all(cluster, name, Isolation::ReadUncommitted).await;
                log.len() >= 50
            })
            .await;
            let values: Vec<String> = log.into_iter().map(|entry| entry.value).collect();
            assert_eq!(values, (0..50).map(|number| number.to_string()).collect::<Vec<_>>(), "{name}");
        }
    });
}

/// The producer finds out by itself that a topic has more partitions.
#[test]
fn partitions_added_to_a_topic_are_written_to() {
    on_shared(Version::V4_3, async |cluster| {
        const NAME: &str = "grown-topic";
        create(cluster, NewTopic::new(NAME, 1)).await;
        let mut config = producer_config(cluster, NAME);
        config.client = client(cluster, NAME);
        config.client.metadata_max_age = Duration::from_millis(200);
        let producer = Producer::new(config).expect("a producer");
        producer.send(Record::to(NAME).value("before")).await.expect("send");
        for (_, grown) in admin(cluster).create_partitions([(NAME, 3)]).await.expect("create partitions") {
            grown.expect("grow the topic");
        }
        wait_until("the new partitions are known", async || {
            producer.send(Record::to(NAME).partition(2).value("after")).await.is_ok()
        })
        .await;
    });
}

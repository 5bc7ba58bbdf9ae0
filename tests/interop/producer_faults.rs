//! Whatever happens to brokers and connections: what is acknowledged is in the log once, in order per key.

use std::sync::Arc;
use std::time::Duration;

use kafka_wire::{Acks, BrokerId, Isolation, NewTopic, Producer, Receipt, Record, Topic};
use tidewater_tests::proxy::{Fault, Gate};
use tidewater_tests::real_kafka::{self, Cluster, Options, Version};

use crate::consumer_faults::Follower;
use crate::support::{
    Entry, Fate, Sent, admin, assert_no_faults, client, create, on_shared, producer, producer_config,
    read_all, run, wait_until,
};

const PRODUCE: i16 = 0;

/// A record on its way.
struct Sending {
    key: String,
    value: String,
    receipt: Receipt,
}

/// Sends values of its own under seven keys.
struct Writer {
    producer: Producer,
    topic: &'static str,
    sending: Vec<Sending>,
}

impl Writer {
    fn new(producer: Producer, topic: &'static str) -> Self {
        Self { producer, topic, sending: Vec::new() }
    }

    async fn send(&mut self) {
        let number = self.sending.len();
        let (key, value) = (format!("key-{}", number % 7), format!("value-{number}"));
        let record = Record::to(self.topic).key(&key).value(&value);
        let receipt = self.producer.enqueue(record).await.expect("enqueue");
        self.sending.push(Sending { key, value, receipt });
    }

    /// How many of the records were acknowledged by now.
    fn acknowledged(&self) -> usize {
        self.sending.iter().filter(|sending| matches!(sending.receipt.try_wait(), Some(Ok(_)))).count()
    }

    /// What became of them all.
    async fn finish(self) -> Vec<Sent> {
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

/// Three nodes are killed with `SIGKILL` and started again in turn, under a producer at a steady rate and a
/// consumer at its heels. A second topic, that needs all three replicas, blocks meanwhile and goes on after.
#[test]
fn brokers_that_die_in_turn_cost_no_record_and_double_none() {
    if !real_kafka::available() {
        return;
    }
    let options = Options::new(Version::V4_3, 3)
        .property("broker.session.timeout.ms", "5000")
        .property("broker.heartbeat.interval.ms", "500");
    let cluster = Arc::new(Cluster::start(options));
    run(async {
        create(&cluster, NewTopic::new("steady", 6)).await;
        create(&cluster, NewTopic::new("strict", 1).config("min.insync.replicas", "3")).await;
        let strict = producer(&cluster, "strict");
        let mut follower = Follower::start(&cluster, "steady", 6);
        let mut writer = Writer::new(producer(&cluster, "steady"), "steady");
        for node in [0, 1, 2, 0] {
            write_on(&mut writer, &mut follower, 100).await;
            in_background(&cluster, move |cluster| cluster.kill(node)).await;
            let node_id = BrokerId(node as i32);
            let topic = || describe(&cluster, "steady");
            while topic().await.partitions.iter().any(|partition| partition.leader == Some(node_id)) {
                write_on(&mut writer, &mut follower, 1).await;
            }
            while describe(&cluster, "strict").await.partitions[0].in_sync_replicas.contains(&node_id) {
                write_on(&mut writer, &mut follower, 1).await;
            }
            let value = format!("without node {node}");
            let blocked = strict.enqueue(Record::to("strict").value(&value)).await.expect("enqueue");
            write_on(&mut writer, &mut follower, 300).await;
            assert!(blocked.try_wait().is_none(), "two replicas are not three: {:?}", blocked.try_wait());
            in_background(&cluster, move |cluster| cluster.start_node(node)).await;
            while describe(&cluster, "steady")
                .await
                .partitions
                .iter()
                .any(|partition| partition.in_sync_replicas.len() < 3)
            {
                write_on(&mut writer, &mut follower, 1).await;
            }
            blocked.await.expect("three replicas are back");
        }
        let sent = writer.finish().await;
        assert_eq!(written(&sent), sent.len(), "the faults were all of the kind that passes");
        let log = read_all(&cluster, "steady", Isolation::ReadUncommitted).await;
        assert_no_faults(&sent, &log);
        follower.assert_read(log).await;
        let strict = read_all(&cluster, "strict", Isolation::ReadUncommitted).await;
        let values: Vec<String> = strict.into_iter().map(|entry| entry.value).collect();
        assert_eq!(values, [0, 1, 2, 0].map(|node| format!("without node {node}")));
    });
}

/// Killing and starting take a moment that the runtime should not lose.
async fn in_background(cluster: &Arc<Cluster>, act: impl FnOnce(&Cluster) + Send + 'static) {
    let cluster = Arc::clone(cluster);
    tokio::task::spawn_blocking(move || act(&cluster)).await.expect("act on the cluster");
}

async fn describe(cluster: &Cluster, topic: &str) -> Topic {
    let mut topics = admin(cluster).describe_topics([topic]).await.expect("describe topics");
    topics.remove(0).1.expect("the topic")
}

/// Sends at a steady rate until `more` records are acknowledged, while the follower reads.
async fn write_on(writer: &mut Writer, follower: &mut Follower, more: usize) {
    let enough = writer.acknowledged() + more;
    wait_until("more records are acknowledged", async || {
        for _ in 0..10 {
            writer.send().await;
        }
        follower.read_on(Duration::from_millis(10)).await;
        writer.acknowledged() >= enough
    })
    .await;
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

//! Groups under the protocol of KIP-848 on real Kafka, with Kafka's own consumer as another member.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_wire::config::{ConsumerConfig, GroupProtocol, OffsetReset, Strategy};
use kafka_wire::{Consumer, ErrorCode, NewTopic, Record, TopicPartition};
use tidewater_tests::real_kafka::{Cluster, Version};

use crate::support::{consumer_config, create, on_shared, producer};

/// Nothing that a test waits for takes so long.
const LONG: Duration = Duration::from_secs(120);

fn config(cluster: &Cluster, group: &str, protocol: GroupProtocol) -> ConsumerConfig {
    let mut config = consumer_config(cluster, "served");
    config.group_id = Some(group.to_owned());
    config.auto_offset_reset = OffsetReset::Earliest;
    config.group.protocol = protocol;
    config.group.heartbeat_interval = Duration::from_millis(300);
    config
}

fn member(cluster: &Cluster, group: &str, topic: &str) -> Consumer {
    let mut member = Consumer::new(config(cluster, group, GroupProtocol::Consumer)).expect("a consumer");
    member.subscribe([topic]).expect("subscribe");
    member
}

/// Kafka's own member; it leaves when its input ends.
struct Java(Child);

impl Java {
    fn start(cluster: &Cluster, group: &str, topic: &str, settings: &[&str]) -> Self {
        let child = Command::new("java")
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}/*", cluster.jars().display()))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/GroupClient.java"))
            .args([&cluster.bootstrap(), group, topic])
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("run java"))
    }

    /// Lets it leave; what it has read, by partition and offset.
    fn finish(mut self) -> Vec<(i32, i64)> {
        drop(self.0.stdin.take());
        let mut text = String::new();
        self.0.stdout.take().expect("its output").read_to_string(&mut text).expect("its output");
        assert!(self.0.wait().expect("its end").success());
        // Kafka's client logs errors to the same place.
        let pair = |line: &str| {
            let (partition, offset) = line.split_once(' ')?;
            Some((partition.parse().ok()?, offset.parse().ok()?))
        };
        text.lines().filter_map(pair).collect()
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        // It has ended, or its test has failed.
        let _ = self.0.kill();
    }
}

fn shares(members: &[&mut Consumer]) -> Vec<usize> {
    let mut seen: BTreeSet<TopicPartition> = BTreeSet::new();
    let share = |member: &&mut Consumer| {
        let assigned = member.assignment();
        assigned.iter().for_each(|at| assert!(seen.insert(at.clone()), "{at} is with two members"));
        assigned.len()
    };
    members.iter().map(share).collect()
}

type Seen = BTreeMap<(i32, i64), usize>;

/// Polls all in turn, committing what they read, until it is so.
#[allow(clippy::disallowed_methods, reason = "a test that hangs should say so")]
async fn poll_until(
    members: &mut [&mut Consumer],
    seen: &mut Seen,
    mut is_so: impl FnMut(&[&mut Consumer], &Seen) -> bool,
) {
    let deadline = Instant::now() + LONG;
    while !is_so(members, seen) {
        assert!(Instant::now() < deadline, "it does not come about: {:?}", shares(members));
        for member in members.iter_mut() {
            let batch = member.poll(Duration::from_millis(20)).await.expect("poll");
            let partition = batch.topic_partition().partition;
            for record in &batch {
                *seen.entry((partition, record.offset)).or_default() += 1;
            }
            if !batch.is_empty() {
                member.commit().await.expect("commit");
            }
        }
    }
}

async fn write(cluster: &Cluster, topic: &str, partitions: i32, per_partition: usize) {
    let producer = producer(cluster, "served-writer");
    let mut receipts = Vec::new();
    for partition in 0..partitions {
        for _ in 0..per_partition {
            let record = Record::to(topic).partition(partition).value("value");
            receipts.push(producer.enqueue(record).await.expect("enqueue"));
        }
    }
    for receipt in receipts {
        receipt.await.expect("send");
    }
}

#[test]
fn ours_and_javas_divide_what_the_coordinator_assigns_and_read_everything_once() {
    on_shared(Version::V4_3, async |cluster| {
        let (topic, group) = ("served-mixed", "served-mixed");
        create(cluster, NewTopic::new(topic, 6)).await;
        write(cluster, topic, 6, 50).await;
        let mut seen = Seen::new();
        let (mut a, mut b) = (member(cluster, group, topic), member(cluster, group, topic));
        poll_until(&mut [&mut a, &mut b], &mut seen, |all, _| shares(all) == [3, 3]).await;
        let java = Java::start(cluster, group, topic, &["group.protocol=consumer"]);
        poll_until(&mut [&mut a, &mut b], &mut seen, |all, _| shares(all) == [2, 2]).await;
        write(cluster, topic, 6, 50).await;
        let ours = 4 * 50;
        poll_until(&mut [&mut a, &mut b], &mut seen, |_, seen| {
            seen.keys().filter(|(_, offset)| *offset >= 50).count() == ours
        })
        .await;
        a.close().await.expect("close");
        poll_until(&mut [&mut b], &mut seen, |all, _| shares(all) == [3]).await;
        let javas = tokio::task::spawn_blocking(|| java.finish()).await.expect("Java's member");
        poll_until(&mut [&mut b], &mut seen, |all, _| shares(all) == [6]).await;
        for record in javas {
            *seen.entry(record).or_default() += 1;
        }
        poll_until(&mut [&mut b], &mut seen, |_, seen| seen.len() == 600).await;
        assert!(seen.values().all(|count| *count == 1), "{seen:?}");
        b.close().await.expect("close");
    });
}

#[test]
fn the_coordinator_matches_patterns_and_finds_new_topics() {
    on_shared(Version::V4_3, async |cluster| {
        create(cluster, NewTopic::new("served-pattern-a", 2)).await;
        let config = config(cluster, "served-pattern", GroupProtocol::Consumer);
        let mut member = Consumer::new(config).expect("a consumer");
        member.subscribe_pattern("served-pattern-[ab]").expect("subscribe");
        let mut seen = Seen::new();
        poll_until(&mut [&mut member], &mut seen, |all, _| shares(all) == [2]).await;
        create(cluster, NewTopic::new("served-pattern-b", 3)).await;
        create(cluster, NewTopic::new("served-pattern-c", 3)).await;
        poll_until(&mut [&mut member], &mut seen, |all, _| shares(all) == [5]).await;
        write(cluster, "served-pattern-b", 3, 1).await;
        poll_until(&mut [&mut member], &mut seen, |_, seen| seen.len() == 3).await;
        // This client's regular expressions have the flag, RE2/J's have not: the next poll says so.
        member.subscribe_pattern("(?x) served-pattern-a").expect("subscribe");
        let refused = tokio::time::timeout(LONG, async {
            loop {
                if let Err(error) = member.poll(Duration::from_millis(100)).await {
                    return error;
                }
            }
        });
        let refused = refused.await.expect("a refusal");
        assert_eq!(refused.code(), Some(ErrorCode::INVALID_REGULAR_EXPRESSION), "{refused}");
        member.subscribe_pattern("served-pattern-c").expect("subscribe");
        poll_until(&mut [&mut member], &mut seen, |all, _| shares(all) == [3]).await;
        member.close().await.expect("close");
    });
}

/// librdkafka's member of this protocol was refused for ever once it had been too slow (its issue 5541).
#[test]
fn a_member_that_was_too_slow_leaves_and_joins_again() {
    on_shared(Version::V4_3, async |cluster| {
        let (topic, group) = ("served-slow", "served-slow");
        create(cluster, NewTopic::new(topic, 4)).await;
        let mut slow = config(cluster, group, GroupProtocol::Consumer);
        slow.group.max_poll_interval = Duration::from_secs(2);
        let mut slow = Consumer::new(slow).expect("a consumer");
        slow.subscribe([topic]).expect("subscribe");
        let lost = Arc::new(Mutex::new(Vec::new()));
        slow.set_listener(Losses(Arc::clone(&lost)));
        let mut seen = Seen::new();
        poll_until(&mut [&mut slow], &mut seen, |all, _| shares(all) == [4]).await;
        let mut other = member(cluster, group, topic);
        // It polls no more, and the other gets everything.
        poll_until(&mut [&mut other], &mut seen, |all, _| shares(all) == [4]).await;
        // Only a poll tells it.
        assert_eq!(slow.assignment().len(), 4);
        slow.poll(Duration::ZERO).await.expect("poll");
        assert_eq!(lost.lock().unwrap().len(), 4);
        poll_until(&mut [&mut slow, &mut other], &mut seen, |all, _| shares(all) == [2, 2]).await;
        write(cluster, topic, 4, 1).await;
        poll_until(&mut [&mut slow, &mut other], &mut seen, |_, seen| seen.len() == 4).await;
        slow.close().await.expect("close");
        other.close().await.expect("close");
    });
}

struct Losses(Arc<Mutex<Vec<TopicPartition>>>);

impl kafka_wire::RebalanceListener for Losses {
    fn lost(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().extend_from_slice(partitions);
    }
}

#[test]
fn a_classic_group_moves_to_the_new_protocol_while_it_reads() {
    on_shared(Version::V4_3, async |cluster| {
        let (topic, group) = ("served-migration", "served-migration");
        create(cluster, NewTopic::new(topic, 4)).await;
        write(cluster, topic, 4, 25).await;
        let mut classic = config(cluster, group, GroupProtocol::Classic);
        classic.group.strategies = vec![Strategy::CooperativeSticky];
        let mut classic = Consumer::new(classic).expect("a consumer");
        classic.subscribe([topic]).expect("subscribe");
        let mut seen = Seen::new();
        poll_until(&mut [&mut classic], &mut seen, |all, seen| shares(all) == [4] && seen.len() == 100).await;
        let mut new = member(cluster, group, topic);
        poll_until(&mut [&mut classic, &mut new], &mut seen, |all, _| shares(all) == [2, 2]).await;
        write(cluster, topic, 4, 25).await;
        poll_until(&mut [&mut classic, &mut new], &mut seen, |_, seen| seen.len() == 200).await;
        classic.close().await.expect("close");
        poll_until(&mut [&mut new], &mut seen, |all, _| shares(all) == [4]).await;
        write(cluster, topic, 4, 25).await;
        poll_until(&mut [&mut new], &mut seen, |_, seen| seen.len() == 300).await;
        assert!(seen.values().all(|count| *count == 1), "{seen:?}");
        new.close().await.expect("close");
    });
}

#[test]
fn a_static_member_finds_its_partitions_again_and_nobody_else_moves() {
    on_shared(Version::V4_3, async |cluster| {
        let (topic, group) = ("served-static", "served-static");
        create(cluster, NewTopic::new(topic, 4)).await;
        let fixed = || {
            let mut config = config(cluster, group, GroupProtocol::Consumer);
            config.group.instance_id = Some("one".to_owned());
            let mut consumer = Consumer::new(config).expect("a consumer");
            consumer.subscribe([topic]).expect("subscribe");
            consumer
        };
        let (mut one, mut other) = (fixed(), member(cluster, group, topic));
        let mut seen = Seen::new();
        poll_until(&mut [&mut one, &mut other], &mut seen, |all, _| shares(all) == [2, 2]).await;
        let set = |consumer: &Consumer| consumer.assignment().into_iter().collect::<BTreeSet<_>>();
        let (its, others) = (set(&one), set(&other));
        one.close().await.expect("close");
        let mut again = fixed();
        poll_until(&mut [&mut again, &mut other], &mut seen, |all, _| {
            assert_eq!(all[1].assignment().len(), 2, "nobody else moves");
            shares(all)[0] == 2
        })
        .await;
        assert_eq!((set(&again), set(&other)), (its, others));
        again.close().await.expect("close");
        other.close().await.expect("close");
    });
}

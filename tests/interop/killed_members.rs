//! Members of groups that die by `SIGKILL`, as processes of their own: what they did not commit or acknowledge goes to
//! the others, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_wire::config::{AcknowledgementMode, ClientConfig, ShareConsumerConfig};
use kafka_wire::{
    AcknowledgeType, ConfigChange, ConfigResource, NewTopic, Producer, Record, ShareBatch, ShareConsumer,
    TopicPartition,
};
use serde_json::{Value, json};
use tidewater_tests::process::Server;
use tidewater_tests::programs::tidewater;
use tidewater_tests::real_kafka::{Cluster, Version};

use crate::support::{admin, create, on_shared, producer_config, run, wait_until};

/// Partition and offset.
type At = (i64, i64);

/// A program that tells in lines of JSON what it does, as those of Kafka's test contract do.
struct Member {
    process: Server,
    told: PathBuf,
}

impl Member {
    fn start(folder: &Path, name: &str, program: &str, arguments: &[&str]) -> Self {
        let process = Server::start(folder, name, program, arguments).expect("start a member");
        Self { process, told: folder.join(format!("{name}.log")) }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.told).unwrap_or_default()
    }

    fn events(&self) -> Vec<Value> {
        // The last line of one that was killed may be half a line.
        self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn named(&self, name: &str) -> impl Iterator<Item = Value> {
        self.events().into_iter().filter(move |event| event["name"] == name)
    }

    /// The partitions that it has now: under KIP-848 what it gives up is followed by an assignment of nothing.
    fn held(&self) -> BTreeSet<i64> {
        let mut held = BTreeSet::new();
        for event in self.events() {
            let partitions = event["partitions"].as_array().into_iter().flatten();
            let partitions = partitions.map(|at| number(&at["partition"]));
            match event["name"].as_str() {
                Some("partitions_assigned") => held.extend(partitions),
                Some("partitions_revoked") => partitions.for_each(|at| {
                    held.remove(&at);
                }),
                _ => {}
            }
        }
        held
    }

    /// What it was handed out as a member of a consumer group.
    fn read(&self) -> Vec<At> {
        let parts = self.named("records_consumed").map(|event| event["partitions"][0].clone());
        let records = parts.flat_map(|part| {
            let offsets = number(&part["minOffset"])..=number(&part["maxOffset"]);
            offsets.map(move |offset| (number(&part["partition"]), offset))
        });
        records.collect()
    }

    /// How far it has committed each partition.
    fn committed(&self) -> BTreeMap<i64, i64> {
        let events = self.named("offsets_committed").filter(|event| event["success"] == true);
        let offsets = events.flat_map(|event| event["offsets"].as_array().expect("offsets").clone());
        offsets.map(|at| (number(&at["partition"]), number(&at["offset"]))).collect()
    }

    /// Ends it as an operator would, by `SIGTERM`.
    fn stop(&mut self) {
        self.process.terminate().expect("ask it to end");
        let status = self.process.wait().expect("wait for it");
        assert!(status.success(), "{status}: {}", self.log());
    }
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no number"))
}

async fn write(cluster: &Cluster, topic: &str, partitions: i32, linger: Duration) {
    let config = producer_config(cluster, "killed-members");
    let producer =
        Producer::new(kafka_wire::config::ProducerConfig { linger, ..config }).expect("a producer");
    let mut receipts = Vec::new();
    for number in 0..EACH {
        for partition in 0..partitions {
            let value = number.to_string();
            let record = Record::to(topic).partition(partition).value(&value);
            receipts.push(producer.enqueue(record).await.expect("enqueue"));
        }
    }
    producer.flush().await;
    for receipt in receipts {
        receipt.await.expect("send");
    }
}

/// Until the broker knows it, which hears of it from the controller.
async fn configure(cluster: &Cluster, group: &str, name: &str, value: &str) {
    let admin = admin(cluster);
    let change = [(ConfigResource::group(group), vec![ConfigChange::set(name, value)])];
    for (_, changed) in admin.incremental_alter_configs(change).await.expect("configure") {
        changed.expect("configure the group");
    }
    wait_until("the broker knows the setting", async || {
        let mut described = admin.describe_configs([ConfigResource::group(group)]).await.expect("describe");
        let entries = described.remove(0).1.expect("the group's settings");
        entries.iter().any(|entry| entry.name == name && entry.value.as_deref() == Some(value))
    })
    .await;
}

const PARTITIONS: i32 = 6;
const EACH: usize = 100;

/// A group of three processes, one of which dies.
struct Group {
    name: String,
    members: Vec<Member>,
}

impl Group {
    async fn start(cluster: &Cluster, folder: &Path, protocol: &str) -> Self {
        let name = format!("killed-{protocol}");
        create(cluster, NewTopic::new(name.as_str(), PARTITIONS)).await;
        if protocol == "consumer" {
            configure(cluster, &name, "consumer.session.timeout.ms", "6000").await;
        }
        let bootstrap = cluster.bootstrap();
        let arguments = ["verifiable-consumer", "--bootstrap-server", &bootstrap, "--topic", &name];
        let of_group = ["--group-id", &name, "--group-protocol", protocol, "--session-timeout", "6000"];
        let all = [&arguments[..], &of_group].concat();
        let program = tidewater().to_string_lossy();
        let member = |number| Member::start(folder, &format!("{name}-{number}"), &program, &all);
        Self { members: (0..3).map(member).collect(), name }
    }

    fn is_divided(&self) -> bool {
        self.members.iter().all(|member| member.held().len() * self.members.len() == PARTITIONS as usize)
    }

    fn read(&self) -> BTreeSet<At> {
        self.members.iter().flat_map(Member::read).collect()
    }

    /// Whoever committed a record was the only one to do so, and what the dead one committed nobody else has read.
    fn assert_nothing_is_committed_twice(&self) {
        let mut by: BTreeMap<At, Vec<usize>> = BTreeMap::new();
        let mut committed_by: BTreeMap<At, Vec<usize>> = BTreeMap::new();
        for (index, member) in self.members.iter().enumerate() {
            let committed = member.committed();
            for at in member.read() {
                by.entry(at).or_default().push(index);
                if committed.get(&at.0).is_some_and(|end| at.1 < *end) {
                    committed_by.entry(at).or_default().push(index);
                }
            }
        }
        for (at, committers) in committed_by {
            assert_eq!(committers.len(), 1, "{}: {at:?} was committed by members {committers:?}", self.name);
            let readers = &by[&at];
            assert!(committers != [0] || *readers == [0], "{}: {at:?} was read by {readers:?}", self.name);
        }
    }
}

/// By the classic protocol and under KIP-848.
#[test]
fn what_a_killed_member_did_not_commit_goes_to_the_others_after_its_session() {
    on_shared(Version::V4_3, async |cluster| {
        let folder = tempfile::tempdir().expect("a folder");
        let mut groups = Vec::new();
        for protocol in ["classic", "consumer"] {
            groups.push(Group::start(cluster, folder.path(), protocol).await);
        }
        wait_until("the partitions are divided", async || groups.iter().all(Group::is_divided)).await;
        for group in &groups {
            write(cluster, &group.name, PARTITIONS, Duration::from_millis(5)).await;
        }
        wait_until("each member has read", async || {
            groups.iter().flat_map(|group| &group.members).all(|member| !member.read().is_empty())
        })
        .await;
        groups.iter_mut().for_each(|group| group.members[0].process.kill());
        for group in &groups {
            write(cluster, &group.name, PARTITIONS, Duration::from_millis(5)).await;
        }
        let all: BTreeSet<At> = (0..i64::from(PARTITIONS))
            .flat_map(|partition| (0..2 * EACH as i64).map(move |offset| (partition, offset)))
            .collect();
        wait_until("the others have read everything", async || {
            groups.iter().all(|group| group.read().is_superset(&all))
        })
        .await;
        wait_until("the coordinator has it all", async || is_all_committed(cluster, &groups).await).await;
        for group in &mut groups {
            group.members[1..].iter_mut().for_each(Member::stop);
            assert_eq!(group.read(), all, "{}", group.name);
            group.assert_nothing_is_committed_twice();
        }
    });
}

async fn is_all_committed(cluster: &Cluster, groups: &[Group]) -> bool {
    let admin = admin(cluster);
    for group in groups {
        let committed = admin.list_committed_offsets(group.name.as_str()).await.expect("committed offsets");
        let ends = committed.values().filter(|at| at.offset == 2 * EACH as i64).count();
        if ends != PARTITIONS as usize {
            return false;
        }
    }
    true
}

/// In the environment of the process that takes records and does not go on: the brokers and the group, whose topic has
/// its name. It is this program, run again for the one test.
const HOLDER: &str = "SHARE_HOLDER";

/// A process of a share group has taken records and acknowledged half of them. Killed, it is missed at once, since its
/// connection ends; frozen, as when its machine is gone, when its locks end (`share.record.lock.duration.ms`).
#[test]
fn what_a_dead_share_consumer_had_in_its_hands_comes_to_another() {
    if let Ok(role) = std::env::var(HOLDER) {
        run(hold(&role));
    }
    on_shared(Version::V4_3, async |cluster| {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, is_frozen) in [("share-killed", false), ("share-frozen", true)] {
            create(cluster, NewTopic::new(name, 1)).await;
            configure(cluster, name, "share.auto.offset.reset", "earliest").await;
            if is_frozen {
                configure(cluster, name, "share.record.lock.duration.ms", "5000").await;
            }
            // One batch, however slow the machine is.
            write(cluster, name, 1, Duration::from_secs(60)).await;
            let mut holder = start_holder(cluster, folder.path(), name);
            wait_until("it holds records", async || {
                assert!(holder.process.is_running(), "it has ended: {}", holder.log());
                holder.named("holds").next().is_some()
            })
            .await;
            if is_frozen {
                holder.process.signal("STOP").expect("freeze it");
            } else {
                holder.process.kill();
            }
            let told = holder.named("holds").next().expect("what it holds");
            let offsets = |of: &str| -> BTreeSet<i64> {
                told[of].as_array().expect("offsets").iter().map(number).collect()
            };
            let (acknowledged, held) = (offsets("acknowledged"), offsets("held"));
            let taken = take_the_rest(cluster, name, &acknowledged).await;
            assert_eq!((acknowledged.len(), held.len()), (EACH / 2, EACH / 2), "{name}");
            assert!(held.iter().all(|offset| taken[offset] > 1), "{name}: delivered before: {taken:?}");
            let again: Vec<_> = acknowledged.iter().filter(|offset| taken.contains_key(offset)).collect();
            assert!(again.is_empty(), "{name}: acknowledged, and delivered again: {again:?}");
            wait_until("nothing is left", async || lag(cluster, name).await == Some(0)).await;
        }
    });
}

fn start_holder(cluster: &Cluster, folder: &Path, group: &str) -> Member {
    let binary = std::env::current_exe().expect("this program");
    let role = format!("{HOLDER}={} {group}", cluster.bootstrap());
    let test = "killed_members::what_a_dead_share_consumer_had_in_its_hands_comes_to_another";
    let arguments = [&role, &*binary.to_string_lossy(), "--exact", test, "--nocapture"];
    Member::start(folder, group, "env", &arguments)
}

/// Takes a batch, acknowledges half of it, tells, and waits for its end.
async fn hold(role: &str) {
    let (bootstrap, group) = role.split_once(' ').expect("brokers and a group");
    let mut consumer = share_consumer(bootstrap, group);
    let batch = take(&mut consumer).await;
    let at = batch.topic_partition();
    let offsets: Vec<i64> = batch.iter().map(|shared| shared.record.offset).collect();
    let (acknowledged, held) = offsets.split_at(offsets.len() / 2);
    for offset in acknowledged {
        consumer.acknowledge(at, *offset, AcknowledgeType::Accept).expect("it was handed out");
    }
    for result in consumer.commit().await.expect("commit") {
        result.result.expect("acknowledged");
    }
    let told = json!({ "name": "holds", "acknowledged": acknowledged, "held": held });
    // The test's own line may have been begun.
    println!("\n{told}");
    std::future::pending::<()>().await;
}

fn share_consumer(bootstrap: &str, group: &str) -> ShareConsumer {
    let config = ShareConsumerConfig {
        client: ClientConfig::bootstrap(bootstrap).expect("addresses"),
        group_id: Some(group.to_owned()),
        acknowledgement_mode: AcknowledgementMode::Explicit,
        ..Default::default()
    };
    let mut consumer = ShareConsumer::new(config).expect("a share consumer");
    consumer.subscribe([group]).expect("subscribe");
    consumer
}

async fn take(consumer: &mut ShareConsumer) -> ShareBatch {
    loop {
        let batch = consumer.poll(Duration::from_secs(1)).await.expect("poll");
        if !batch.is_empty() {
            return batch;
        }
    }
}

/// Takes and accepts records until each is done with; how often it had been delivered when it first came.
async fn take_the_rest(cluster: &Cluster, group: &str, done: &BTreeSet<i64>) -> BTreeMap<i64, i16> {
    let mut consumer = share_consumer(&cluster.bootstrap(), group);
    let (mut taken, mut done) = (BTreeMap::new(), done.clone());
    while done.len() < EACH {
        let batch = take(&mut consumer).await;
        for shared in &batch {
            let offset = shared.record.offset;
            taken.entry(offset).or_insert(shared.delivery_count);
            let at = batch.topic_partition();
            consumer.acknowledge(at, offset, AcknowledgeType::Accept).expect("it was handed out");
        }
        // What a slow machine lets the lock run out of comes once more.
        let results = consumer.commit().await.expect("commit");
        let accepted = results.into_iter().filter(|result| result.result.is_ok());
        done.extend(accepted.flat_map(|result| result.offsets).flatten());
    }
    consumer.close(Duration::from_secs(30)).await.expect("close");
    taken
}

/// How many records the group is not done with, where the coordinator knows it: it moves on some time after.
async fn lag(cluster: &Cluster, group: &str) -> Option<i64> {
    let (_, offsets) = admin(cluster).list_share_group_offsets([group]).await.expect("ask").remove(0);
    offsets.expect("offsets")[&TopicPartition::new(group, 0)].lag
}

//! Members of groups that die by `SIGKILL`, as processes of their own: what they did not commit or acknowledge goes
//! to the others, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_wire::config::{AcknowledgementMode, ShareConsumerConfig};
use kafka_wire::{AcknowledgeType, ConfigChange, ConfigResource, NewTopic, Producer, Record, ShareConsumer};
use serde_json::Value;
use tidewater_tests::process::Server;
use tidewater_tests::programs::tidewater;
use tidewater_tests::real_kafka::{Cluster, Version};

use crate::support::{admin, client, create, on_shared, producer_config, wait_until};

/// Partition and offset.
type At = (i64, i64);

/// A program of Kafka's test contract, which tells in lines of JSON what it does.
struct Member {
    process: Server,
    told: PathBuf,
}

impl Member {
    fn start(folder: &Path, name: &str, arguments: &[&str]) -> Self {
        let process = Server::start(folder, name, &tidewater().to_string_lossy(), arguments);
        Self { process: process.expect("start a member"), told: folder.join(format!("{name}.log")) }
    }

    fn events(&self, name: &str) -> Vec<Value> {
        let told = std::fs::read_to_string(&self.told).unwrap_or_default();
        // The last line of one that was killed may be half a line.
        let events = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["name"] == name).collect()
    }

    /// The partitions that it has now: under KIP-848 what it gives up is followed by an assignment of nothing.
    fn held(&self) -> BTreeSet<i64> {
        let mut held = BTreeSet::new();
        let told = std::fs::read_to_string(&self.told).unwrap_or_default();
        for event in told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
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
        let parts = self.events("records_consumed").into_iter().map(|event| event["partitions"][0].clone());
        let records = parts.flat_map(|part| {
            let offsets = number(&part["minOffset"])..=number(&part["maxOffset"]);
            offsets.map(move |offset| (number(&part["partition"]), offset))
        });
        records.collect()
    }

    /// How far it has committed each partition.
    fn committed(&self) -> BTreeMap<i64, i64> {
        let events = self.events("offsets_committed").into_iter().filter(|event| event["success"] == true);
        let offsets = events.flat_map(|event| event["offsets"].as_array().expect("offsets").clone());
        offsets.map(|at| (number(&at["partition"]), number(&at["offset"]))).collect()
    }

    /// The records of events of a member of a share group.
    fn shared(&self, event: &str) -> BTreeSet<At> {
        let parts = self.events(event).into_iter().map(|event| event["partitions"][0].clone());
        let offsets = |part: Value| {
            let offsets = part["offsets"].as_array().expect("offsets").clone();
            offsets.into_iter().map(move |offset| (number(&part["partition"]), number(&offset)))
        };
        parts.flat_map(offsets).collect()
    }

    /// Ends it as an operator would, by `SIGTERM`.
    fn stop(&mut self) {
        self.process.terminate().expect("ask it to end");
        let status = self.process.wait().expect("wait for it");
        let told = std::fs::read_to_string(&self.told).unwrap_or_default();
        assert!(status.success(), "{status}: {told}");
    }
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no number"))
}

async fn write(cluster: &Cluster, topic: &str, partitions: i32, each: usize) {
    let config = producer_config(cluster, "killed-members");
    let producer =
        Producer::new(kafka_wire::config::ProducerConfig { linger: Duration::from_millis(5), ..config });
    let producer = producer.expect("a producer");
    let mut receipts = Vec::new();
    for number in 0..each {
        for partition in 0..partitions {
            let value = number.to_string();
            let record = Record::to(topic).partition(partition).value(&value);
            receipts.push(producer.enqueue(record).await.expect("enqueue"));
        }
    }
    for receipt in receipts {
        receipt.await.expect("send");
    }
}

async fn configure(cluster: &Cluster, group: &str, name: &str, value: &str) {
    let change = [(ConfigResource::group(group), vec![ConfigChange::set(name, value)])];
    for (_, changed) in admin(cluster).incremental_alter_configs(change).await.expect("configure") {
        changed.expect("configure the group");
    }
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
        let members = (0..3).map(|number| Member::start(folder, &format!("{name}-{number}"), &all)).collect();
        Self { name, members }
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
            write(cluster, &group.name, PARTITIONS, EACH).await;
        }
        wait_until("each member has read", async || {
            groups.iter().flat_map(|group| &group.members).all(|member| !member.read().is_empty())
        })
        .await;
        groups.iter_mut().for_each(|group| group.members[0].process.kill());
        for group in &groups {
            write(cluster, &group.name, PARTITIONS, EACH).await;
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

/// Three processes of a share group die one after the other, each with records in its hands: those come to the next,
/// told as delivered before, and in the end nothing is left to deliver.
#[test]
fn what_a_killed_share_consumer_did_not_acknowledge_is_delivered_again() {
    const PER_PARTITION: usize = 10_000;
    on_shared(Version::V4_3, async |cluster| {
        let name = "killed-share";
        create(cluster, NewTopic::new(name, 2)).await;
        configure(cluster, name, "share.auto.offset.reset", "earliest").await;
        write(cluster, name, 2, PER_PARTITION).await;
        let folder = tempfile::tempdir().expect("a folder");
        let bootstrap = cluster.bootstrap();
        let arguments = [
            "verifiable-share-consumer",
            "--bootstrap-server",
            &bootstrap,
            "--topic",
            name,
            "--group-id",
            name,
        ];
        let (mut delivered, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
        for round in 0..3 {
            let mut member = Member::start(folder.path(), &format!("{name}-{round}"), &arguments);
            wait_until("it has records", async || !member.events("records_consumed").is_empty()).await;
            member.process.kill();
            delivered.extend(member.shared("records_consumed"));
            let told = member.shared("offsets_acknowledged");
            assert!(told.is_disjoint(&acknowledged), "acknowledged twice");
            acknowledged.extend(told);
        }
        let last = take_the_rest(cluster, name).await;
        let again: BTreeSet<At> = last.iter().filter(|(_, count)| **count > 1).map(|(at, _)| *at).collect();
        assert!(!again.is_empty(), "the dead had nothing in their hands");
        let last: BTreeSet<At> = last.into_keys().collect();
        assert!(last.is_disjoint(&acknowledged), "what is done with came again");
        let all: BTreeSet<At> =
            (0..2).flat_map(|partition| (0..PER_PARTITION as i64).map(move |at| (partition, at))).collect();
        assert_eq!(delivered.union(&last).copied().collect::<BTreeSet<_>>(), all);
    });
}

/// Takes and accepts records until all are done with; their delivery counts.
async fn take_the_rest(cluster: &'static Cluster, name: &'static str) -> BTreeMap<At, i16> {
    let config = ShareConsumerConfig {
        client: client(cluster, name),
        group_id: Some(name.to_owned()),
        acknowledgement_mode: AcknowledgementMode::Explicit,
        ..Default::default()
    };
    let mut consumer = ShareConsumer::new(config).expect("a share consumer");
    consumer.subscribe([name]).expect("subscribe");
    let mut taken = BTreeMap::new();
    loop {
        let batch = consumer.poll(Duration::from_millis(500)).await.expect("poll");
        let at = batch.topic_partition().clone();
        for shared in &batch {
            let before = taken.insert((i64::from(at.partition), shared.record.offset), shared.delivery_count);
            assert_eq!(before, None, "offset {} of {at} came twice to one member", shared.record.offset);
            consumer
                .acknowledge(&at, shared.record.offset, AcknowledgeType::Accept)
                .expect("it was handed out");
        }
        for result in consumer.commit().await.expect("commit") {
            result.result.expect("acknowledged");
        }
        if batch.is_empty() && is_all_done(cluster, name).await {
            break;
        }
    }
    consumer.close(Duration::from_secs(30)).await.expect("close");
    taken
}

/// Whether Kafka's own tool finds nothing left to deliver. The group's offsets alone do not say it: the coordinator moves
/// them on some time after.
async fn is_all_done(cluster: &'static Cluster, name: &'static str) -> bool {
    let class = "org.apache.kafka.tools.consumer.group.ShareGroupCommand";
    let arguments = ["--describe", "--group", name];
    let told = tokio::task::spawn_blocking(move || cluster.tool(class, &arguments)).await.expect("the tool");
    let lags: Vec<&str> = told
        .lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(lags.len(), 2, "{told}");
    lags.iter().all(|lag| *lag == "0")
}

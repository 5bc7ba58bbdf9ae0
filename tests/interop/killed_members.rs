//! Members of groups that die by `SIGKILL`, as processes of their own: what they did not commit goes to the others, and
//! nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_wire::{ConfigChange, ConfigResource, NewTopic, Producer, Record};
use serde_json::Value;
use tidewater_tests::process::Server;
use tidewater_tests::programs::tidewater;
use tidewater_tests::real_kafka::{Cluster, Version};

use crate::support::{admin, create, on_shared, producer_config, wait_until};

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

//! Our members and Java's in one group: who reads what, and that each record is dealt with once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use kafka_wire::config::{ConsumerConfig, GroupProtocol, OffsetReset, Strategy};
use kafka_wire::{Consumer, ErrorCode, Record};
use tidewater_tests::java;
use tidewater_tests::patience::comes_about;
use tidewater_tests::real_kafka::{self, Cluster, Options, Version};

use super::support::{consumer_config, on_shared, producer, run};

const PARTITIONS: i32 = 8;
/// Records in each partition between two changes of the group.
const ROUND: i64 = 20;
/// Nothing that a test waits for takes so long.
const LONG: Duration = Duration::from_secs(180);

/// What one member has told: the partitions it has now, and every record it has dealt with.
#[derive(Debug, Default)]
struct Told {
    assigned: BTreeSet<i32>,
    records: Vec<(i32, i64)>,
}

type Shared = Arc<Mutex<Told>>;

/// One of our members, on a thread of its own: deals with what it polls, commits it, and polls again.
struct Ours {
    told: Shared,
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Ours {
    fn start(config: ConsumerConfig, topic: &str) -> Self {
        let (told, is_stopped) = (Shared::default(), Arc::new(AtomicBool::new(false)));
        let mut consumer = Consumer::new(config).expect("a consumer");
        consumer.subscribe([topic]).expect("subscribe");
        let (shared, stop) = (Arc::clone(&told), Arc::clone(&is_stopped));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let batch = consumer.poll_blocking(Duration::from_millis(50)).expect("poll");
                let partition = batch.topic_partition().partition;
                let records = batch.iter().map(|record| (partition, record.offset));
                shared.lock().expect("told").records.extend(records);
                if !batch.is_empty() {
                    consumer.commit_blocking().expect("commit");
                }
                let assigned = consumer.assignment().iter().map(|at| at.partition).collect();
                shared.lock().expect("told").assigned = assigned;
            }
            consumer.close_blocking(Default::default()).expect("close");
            shared.lock().expect("told").assigned.clear();
        });
        Self { told, is_stopped, thread }
    }

    fn stop(self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.thread.join().expect("a member panicked");
    }
}

/// A group as the test sees it.
struct Group {
    name: String,
    told: Vec<Shared>,
}

impl Group {
    fn is_divided(&self, members: usize) -> bool {
        let shares: Vec<BTreeSet<i32>> = self
            .told
            .iter()
            .map(|told| told.lock().expect("told").assigned.clone())
            .filter(|share| !share.is_empty())
            .collect();
        let all: BTreeSet<i32> = shares.iter().flatten().copied().collect();
        let sum: usize = shares.iter().map(BTreeSet::len).sum();
        shares.len() == members && all.len() == PARTITIONS as usize && sum == all.len()
    }

    fn records(&self) -> Vec<(i32, i64)> {
        self.told.iter().flat_map(|told| told.lock().expect("told").records.clone()).collect()
    }

    fn describe(&self) -> String {
        let shares: Vec<_> =
            self.told.iter().map(|told| told.lock().expect("told").assigned.clone()).collect();
        format!("{}: {shares:?}, {} records", self.name, self.records().len())
    }
}

fn wait_until(what: &str, groups: &[Group], is_so: impl Fn(&Group) -> bool) {
    let state = || groups.iter().map(Group::describe).collect::<Vec<_>>().join("\n");
    assert!(comes_about(|| groups.iter().all(&is_so)), "waited in vain until {what}:\n{}", state());
}

fn config(cluster: &Cluster, group: &str, setting: &str) -> ConsumerConfig {
    let mut config = consumer_config(cluster, group);
    config.group_id = Some(group.to_owned());
    config.auto_offset_reset = OffsetReset::Earliest;
    config.fetch_max_wait = Duration::from_millis(100);
    config.group.heartbeat_interval = Duration::from_millis(200);
    match Strategy::ALL.into_iter().find(|strategy| strategy.name() == setting) {
        Some(strategy) => config.group.strategies = vec![strategy],
        None => config.group.protocol = GroupProtocol::Consumer,
    }
    config
}

async fn write(cluster: &Cluster, topic: &str) {
    let producer = producer(cluster, "writer");
    for number in 0..ROUND {
        for partition in 0..PARTITIONS {
            let value = number.to_string();
            producer.enqueue(Record::to(topic).partition(partition).value(&value)).await.expect("enqueue");
        }
    }
    producer.flush().await;
}

/// Each record of `rounds` once, by whichever member.
fn assert_once(groups: &[Group], rounds: i64) {
    for group in groups {
        let mut count: BTreeMap<(i32, i64), usize> = BTreeMap::new();
        group.records().into_iter().for_each(|record| *count.entry(record).or_default() += 1);
        let twice: Vec<_> = count.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{}: dealt with more than once: {twice:?}", group.name);
        let all = (0..PARTITIONS).flat_map(|at| (0..rounds * ROUND).map(move |offset| (at, offset)));
        let missing: Vec<_> = all.filter(|record| !count.contains_key(record)).collect();
        assert!(missing.is_empty(), "{}: passed over: {missing:?}", group.name);
    }
}

/// Groups by `settings`, each of three members of ours and one of Java's: records come while members go.
async fn mixed_groups(cluster: &Cluster, topic: &str, settings: &[(&str, &str)]) {
    cluster.create_topic(topic, PARTITIONS as u32);
    let mut ours: Vec<Vec<Ours>> = Vec::new();
    let (mut groups, mut of_java) = (Vec::new(), BTreeMap::new());
    for (setting, _) in settings {
        let name = format!("{topic}-{setting}");
        let members = (0..3).map(|_| Ours::start(config(cluster, &name, setting), topic)).collect::<Vec<_>>();
        let java = Shared::default();
        of_java.insert(name.clone(), Arc::clone(&java));
        let told = members.iter().map(|member| Arc::clone(&member.told)).chain([java]).collect();
        groups.push(Group { name, told });
        ours.push(members);
    }
    wait_until("our members have divided the partitions", &groups, |group| group.is_divided(3));
    write(cluster, topic).await;
    let members: Vec<String> =
        settings.iter().map(|(setting, java)| format!("{topic}-{setting}={java}")).collect();
    let bootstrap = cluster.bootstrap();
    let arguments: Vec<&str> =
        [bootstrap.as_str(), topic].into_iter().chain(members.iter().map(String::as_str)).collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/JavaMember.java");
    let java = java::Running::start(cluster.jars(), &source, &arguments, move |line| hear(line, &of_java));
    wait_until("Java's member has its share", &groups, |group| group.is_divided(4));
    write(cluster, topic).await;
    let count = |rounds: i64| (rounds * ROUND) as usize * PARTITIONS as usize;
    wait_until("all is read", &groups, |group| group.records().len() >= count(2));
    // One of ours goes, maybe the leader: then Java's member may have to divide, and ours after it.
    ours.iter_mut().for_each(|members| members.remove(0).stop());
    wait_until("the others have taken over", &groups, |group| group.is_divided(3));
    write(cluster, topic).await;
    java.end();
    wait_until("ours are alone again", &groups, |group| group.is_divided(2));
    write(cluster, topic).await;
    wait_until("all is read", &groups, |group| group.records().len() >= count(4));
    ours.into_iter().flatten().for_each(Ours::stop);
    assert_once(&groups, 4);
}

fn hear(line: &str, members: &BTreeMap<String, Shared>) {
    let fields: Vec<&str> = line.split('|').collect();
    let Some(told) = fields.first().and_then(|group| members.get(*group)) else { return };
    let mut told = told.lock().expect("told");
    match fields[1..] {
        ["assigned", partitions] => {
            told.assigned = partitions.split(',').filter_map(|number| number.parse().ok()).collect();
        }
        ["record", partition, offset] => {
            told.records.push((partition.parse().expect("a number"), offset.parse().expect("a number")));
        }
        _ => panic!("the Java member printed {line}"),
    }
}

const CLASSIC: [(&str, &str); 4] = [
    ("range", "RangeAssignor"),
    ("roundrobin", "RoundRobinAssignor"),
    ("sticky", "StickyAssignor"),
    ("cooperative-sticky", "CooperativeStickyAssignor"),
];

#[test]
fn our_members_and_javas_share_a_group_by_each_strategy() {
    on_shared(Version::V4_3, async |cluster| {
        let settings = [&CLASSIC[..], &[("consumer", "consumer")]].concat();
        mixed_groups(cluster, "mixed", &settings).await;
    });
}

#[test]
fn our_members_and_javas_share_a_group_on_3_9() {
    on_shared(Version::V3_9, async |cluster| {
        mixed_groups(cluster, "mixed", &[CLASSIC[0], CLASSIC[3]]).await;
    });
}

#[test]
fn our_members_and_javas_share_a_group_on_old_kafka() {
    for version in real_kafka::old_versions() {
        on_shared(*version, async |cluster| {
            mixed_groups(cluster, "mixed", &[CLASSIC[0]]).await;
        });
    }
}

#[test]
fn a_group_outlives_its_coordinator() {
    if !real_kafka::available() {
        return;
    }
    let cluster = Cluster::start(Options::new(Version::V4_3, 3));
    run(async {
        cluster.create_topic("coordinated", PARTITIONS as u32);
        let (mut members, mut groups) = (Vec::new(), Vec::new());
        for setting in ["range", "cooperative-sticky"] {
            // One group's coordinator goes; the other's may be the same.
            let name = format!("outlives-{setting}");
            let ours: Vec<Ours> =
                (0..2).map(|_| Ours::start(config(&cluster, &name, setting), "coordinated")).collect();
            let told = ours.iter().map(|member| Arc::clone(&member.told)).collect();
            groups.push(Group { name, told });
            members.extend(ours);
        }
        wait_until("the partitions are divided", &groups, |group| group.is_divided(2));
        write(&cluster, "coordinated").await;
        let arguments = ["--describe", "--state", "--group", &groups[0].name];
        let state = cluster.tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &arguments);
        let node = (0..3).find(|node| state.contains(&format!("({node})")));
        cluster.kill(node.unwrap_or_else(|| panic!("no coordinator is told: {state}")));
        write(&cluster, "coordinated").await;
        let count = (2 * ROUND) as usize * PARTITIONS as usize;
        wait_until("all is read", &groups, |group| {
            group.records().into_iter().collect::<BTreeSet<_>>().len() >= count
        });
        wait_until("the partitions are divided", &groups, |group| group.is_divided(2));
        members.into_iter().for_each(Ours::stop);
        assert_once(&groups, 2);
    });
}

#[test]
fn topics_are_not_created_by_asking_for_them() {
    on_shared(Version::V4_3, async |cluster| {
        let mut consumer = Consumer::new(config(cluster, "early", "range")).expect("a consumer");
        consumer.subscribe(["not-there"]).expect("subscribe");
        let error = consumer.poll(LONG).await.expect_err("there is no such topic");
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
        let listed = cluster.tool("TopicCommand", &["--list"]);
        assert!(!listed.lines().any(|topic| topic == "not-there"), "{listed}");
    });
}

//! Membership on a real coordinator, under both protocols: who comes back, who is replaced, who is too slow, who dies.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_wire::config::{ConsumerConfig, GroupProtocol, OffsetReset, Strategy};
use kafka_wire::{
    CommittedOffset, Consumer, Error, ErrorCode, ErrorKind, NewTopic, RebalanceListener, Record,
    TopicPartition,
};
use tidewater_tests::real_kafka::{Cluster, Version};

use crate::support::{consumer_config, create, on_shared, producer};

/// Nothing that a test waits for takes so long.
const LONG: Duration = Duration::from_secs(120);

/// A way for a group to divide partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Eager,
    Cooperative,
    Served,
}

pub const WAYS: [Way; 3] = [Way::Eager, Way::Cooperative, Way::Served];

/// One group of a test: its topic is named like it.
pub struct Group<'a> {
    cluster: &'a Cluster,
    pub name: String,
    way: Way,
}

impl<'a> Group<'a> {
    pub async fn new(cluster: &'a Cluster, what: &str, way: Way, partitions: i32) -> Self {
        let name = format!("{what}-{way:?}");
        create(cluster, NewTopic::new(name.as_str(), partitions)).await;
        Self { cluster, name, way }
    }

    fn member(&self, change: impl FnOnce(&mut ConsumerConfig)) -> Consumer {
        let mut config = consumer_config(self.cluster, &self.name);
        config.group_id = Some(self.name.clone());
        config.auto_offset_reset = OffsetReset::Earliest;
        config.group.heartbeat_interval = Duration::from_millis(200);
        match self.way {
            Way::Eager => config.group.strategies = vec![Strategy::Range],
            Way::Cooperative => config.group.strategies = vec![Strategy::CooperativeSticky],
            Way::Served => config.group.protocol = GroupProtocol::Consumer,
        }
        change(&mut config);
        Consumer::new(config).expect("a consumer")
    }

    /// A member that wants the group's topic.
    pub fn subscribed(&self, change: impl FnOnce(&mut ConsumerConfig)) -> Consumer {
        let mut member = self.member(change);
        member.subscribe([self.name.as_str()]).expect("subscribe");
        member
    }

    /// One that keeps its name, `instance`, beyond its end.
    fn fixed(&self, instance: &str) -> Consumer {
        self.subscribed(|config| config.group.instance_id = Some(instance.to_owned()))
    }

    /// How far the group has come in the partition, by the coordinator.
    async fn committed(&self, partition: i32) -> Option<i64> {
        let at = TopicPartition::new(self.name.as_str(), partition);
        let committed = self.member(|_| ()).committed([at]).await.expect("the committed offset");
        committed[0].1.as_ref().map(|committed| committed.offset)
    }

    async fn write(&self, topic: &str, count: usize) {
        self.write_to(topic, 1, count).await;
    }

    /// So many records to each of the topic's first partitions.
    async fn write_to(&self, topic: &str, partitions: i32, each: usize) {
        let producer = producer(self.cluster, "membership");
        for number in 0..each {
            let value = number.to_string();
            for partition in 0..partitions {
                producer.send(Record::to(topic).partition(partition).value(&value)).await.expect("send");
            }
        }
    }
}

/// Polls all members in turn until it is so; gives topic, partition and offset of what they read meanwhile.
#[allow(clippy::disallowed_methods, reason = "a test that hangs should say so")]
async fn read_until(
    members: &mut [&mut Consumer],
    mut is_so: impl FnMut(&[&mut Consumer], &Seen) -> bool,
) -> Seen {
    let deadline = Instant::now() + LONG;
    let mut seen = Vec::new();
    while !is_so(members, &seen) {
        assert!(Instant::now() < deadline, "it does not come about: {:?} {seen:?}", shares(members));
        for member in members.iter_mut() {
            let batch = member.poll(Duration::from_millis(20)).await.expect("poll");
            let at = batch.topic_partition();
            seen.extend(batch.iter().map(|record| (at.topic.to_string(), at.partition, record.offset)));
        }
    }
    seen
}

/// The same where nothing is to be read.
pub async fn poll_until(members: &mut [&mut Consumer], mut is_so: impl FnMut(&[&mut Consumer]) -> bool) {
    let seen = read_until(members, |members, _| is_so(members)).await;
    assert_eq!(seen, []);
}

type Seen = Vec<(String, i32, i64)>;

fn shares(members: &[&mut Consumer]) -> Vec<BTreeSet<i32>> {
    members.iter().map(|member| numbers(&member.assignment()).into_iter().collect()).collect()
}

/// Whether the partitions are divided as evenly as can be, each to one.
pub fn is_divided(members: &[&mut Consumer], partitions: usize) -> bool {
    let shares = shares(members);
    let all: BTreeSet<i32> = shares.iter().flatten().copied().collect();
    let (least, most) = (partitions / members.len(), partitions.div_ceil(members.len()));
    all.len() == partitions
        && shares.iter().map(BTreeSet::len).sum::<usize>() == partitions
        && shares.iter().all(|share| (least..=most).contains(&share.len()))
}

pub fn numbers(partitions: &[TopicPartition]) -> Vec<i32> {
    let mut numbers: Vec<i32> = partitions.iter().map(|at| at.partition).collect();
    numbers.sort_unstable();
    numbers
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    Lost(Vec<i32>),
}

/// What a member's listener was told; nothing of rebalances that brought nothing.
#[derive(Clone, Default)]
pub struct Diary(Arc<Mutex<Vec<Told>>>);

impl Diary {
    pub fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn last(&self) -> Option<Told> {
        self.0.lock().unwrap().last().cloned()
    }

    fn tell(&self, told: fn(Vec<i32>) -> Told, partitions: &[TopicPartition]) {
        if !partitions.is_empty() {
            self.0.lock().unwrap().push(told(numbers(partitions)));
        }
    }
}

impl RebalanceListener for Diary {
    fn assigned(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) {
        self.tell(Told::Assigned, partitions);
    }

    fn revoked(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) {
        self.tell(Told::Revoked, partitions);
    }

    fn lost(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) {
        self.tell(Told::Lost, partitions);
    }
}

#[test]
fn an_eager_group_gives_up_all_and_others_only_what_moves() {
    on_shared(Version::V4_3, async |cluster| {
        for way in WAYS {
            let group = Group::new(cluster, "given-up", way, 4).await;
            let diary = Diary::default();
            let mut a = group.subscribed(|_| ());
            a.set_listener(diary.clone());
            poll_until(&mut [&mut a], |members| is_divided(members, 4)).await;
            assert_eq!(diary.take(), [Told::Assigned(vec![0, 1, 2, 3])], "{way:?}");
            let mut b = group.subscribed(|_| ());
            poll_until(&mut [&mut a, &mut b], |members| is_divided(members, 4)).await;
            let kept: BTreeSet<i32> = numbers(&a.assignment()).into_iter().collect();
            let mut revoked = BTreeSet::new();
            for told in diary.take() {
                match told {
                    Told::Revoked(partitions) => revoked.extend(partitions),
                    Told::Assigned(_) => {}
                    Told::Lost(lost) => panic!("{way:?}: lost {lost:?}"),
                }
            }
            if way == Way::Eager {
                assert_eq!(revoked.len(), 4);
            } else {
                assert_eq!((revoked.len(), revoked.is_disjoint(&kept)), (2, true), "{way:?}: {revoked:?}");
            }
            a.close().await.expect("close");
            b.close().await.expect("close");
        }
    });
}

/// Nobody hears of its restart: no rebalance, not even a generation or an epoch more for the other member.
#[test]
fn a_static_member_that_restarts_disturbs_nobody() {
    on_shared(Version::V4_3, async |cluster| {
        for way in WAYS {
            let group = Group::new(cluster, "restarted", way, 4).await;
            let (mut a, mut b) = (group.fixed("a"), group.fixed("b"));
            poll_until(&mut [&mut a, &mut b], |members| is_divided(members, 4)).await;
            let before = shares(&[&mut a, &mut b]);
            let generation = |member: &Consumer| member.group_metadata().expect("a member").generation;
            let generation_before = generation(&b);
            let diary = Diary::default();
            b.set_listener(diary.clone());
            a.close().await.expect("close");
            let mut a = group.fixed("a");
            poll_until(&mut [&mut a, &mut b], |members| shares(members) == before).await;
            group.write(&group.name, 1).await;
            read_until(&mut [&mut a, &mut b], |_, seen| seen.len() == 1).await;
            assert_eq!((diary.take(), generation(&b)), (vec![], generation_before), "{way:?}");
            a.close().await.expect("close");
            b.close().await.expect("close");
        }
    });
}

/// By the classic protocol whoever comes later is the member of that name, and the first one learns that it is not;
/// under KIP-848 the first one is, for as long as it is heard of.
#[test]
fn of_two_members_with_one_name_one_is_told() {
    on_shared(Version::V4_3, async |cluster| {
        for way in WAYS {
            let group = Group::new(cluster, "doubled", way, 1).await;
            let mut first = group.fixed("twin");
            poll_until(&mut [&mut first], |members| is_divided(members, 1)).await;
            let mut second = group.fixed("twin");
            let (mut stays, mut goes) = if way == Way::Served {
                let error = second.poll(LONG).await.expect_err("the name is taken");
                assert_eq!(error.code(), Some(ErrorCode::UNRELEASED_INSTANCE_ID), "{error}");
                assert!(error.to_string().contains("wait until its session is over"), "{error}");
                (first, second)
            } else {
                poll_until(&mut [&mut second], |members| is_divided(members, 1)).await;
                let error = first.poll(LONG).await.expect_err("it is replaced");
                assert!(error.kind() == ErrorKind::Fenced && error.to_string().contains("'twin'"), "{error}");
                (second, first)
            };
            assert!(goes.poll(LONG).await.is_err(), "{way:?}: it is over for good");
            group.write(&group.name, 1).await;
            read_until(&mut [&mut stays], |_, seen| seen.len() == 1).await;
            stays.commit().await.expect("commit");
            assert_eq!(group.committed(0).await, Some(1), "{way:?}");
            stays.close().await.expect("close");
        }
    });
}

/// Its partitions go to another; what it has in its hands it cannot commit any more; a poll tells it, and it is back.
#[test]
fn a_member_that_polls_too_seldom_commits_nothing_more_and_comes_back() {
    on_shared(Version::V4_3, async |cluster| {
        for way in WAYS {
            let group = Group::new(cluster, "too-slow", way, 1).await;
            group.write(&group.name, 10).await;
            let diary = Diary::default();
            let mut slow = group.subscribed(|config| {
                config.group.max_poll_interval = Duration::from_secs(3);
                // By the classic protocol the group also waits so long for members that are asked to join again.
                config.group.session_timeout = Duration::from_secs(6);
            });
            slow.set_listener(diary.clone());
            read_until(&mut [&mut slow], |_, seen| seen.len() == 10).await;
            let mut other = group.subscribed(|_| ());
            read_until(&mut [&mut other], |_, seen| seen.len() == 10).await;
            let error = slow.commit().await.expect_err("it is out of the group");
            assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID), "{way:?}: {error}");
            assert_eq!(group.committed(0).await, None, "{way:?}");
            other.commit().await.expect("commit");
            other.close().await.expect("close");
            poll_until(&mut [&mut slow], |_| diary.0.lock().unwrap().len() == 3).await;
            let told = [Told::Assigned(vec![0]), Told::Lost(vec![0]), Told::Assigned(vec![0])];
            assert_eq!(diary.take(), told, "{way:?}");
            group.write(&group.name, 1).await;
            let seen = read_until(&mut [&mut slow], |_, seen| !seen.is_empty()).await;
            assert_eq!(seen, [(group.name.clone(), 0, 10)], "{way:?}");
            slow.commit().await.expect("commit");
            assert_eq!(group.committed(0).await, Some(11), "{way:?}");
            slow.close().await.expect("close");
        }
    });
}

/// Told to let go of partitions, it commits what it has read when others have gone on, and not before.
struct TooLate {
    diary: Diary,
    others_have_gone_on: Receiver<()>,
    committed: Sender<Result<(), Error>>,
}

impl RebalanceListener for TooLate {
    fn revoked(&mut self, consumer: &mut Consumer, partitions: &[TopicPartition]) {
        self.diary.tell(Told::Revoked, partitions);
        self.others_have_gone_on.recv().expect("the test goes on");
        let positions: Vec<(TopicPartition, CommittedOffset)> =
            consumer.positions().into_iter().map(|(at, position)| (at, position.into())).collect();
        let committed = self.committed.clone();
        consumer.commit_async(positions, move |outcome| committed.send(outcome).unwrap_or_default()).unwrap();
    }

    fn lost(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) {
        self.diary.tell(Told::Lost, partitions);
    }
}

/// Its time is up in the middle of a rebalance, while it lets go: others have its partitions by then, and what it
/// commits would take them back.
#[test]
fn a_member_that_lets_go_for_too_long_commits_nothing_more() {
    on_shared(Version::V4_3, async |cluster| {
        for way in WAYS {
            let group = Group::new(cluster, "lets-go", way, 2).await;
            group.write_to(&group.name, 2, 10).await;
            let diary = Diary::default();
            let (go_on, others_have_gone_on) = channel();
            let (committed, outcome) = channel();
            let mut slow = group.subscribed(|config| {
                config.group.max_poll_interval = Duration::from_secs(3);
                config.group.session_timeout = Duration::from_secs(6);
            });
            read_until(&mut [&mut slow], |_, seen| seen.len() == 20).await;
            slow.set_listener(TooLate { diary: diary.clone(), others_have_gone_on, committed });
            let told = diary.clone();
            let slow = std::thread::spawn(move || {
                while !matches!(told.last(), Some(Told::Lost(_))) {
                    slow.poll_blocking(Duration::from_millis(20)).expect("poll");
                }
            });
            let mut other = group.subscribed(|_| ());
            read_until(&mut [&mut other], |_, seen| seen.len() == 20).await;
            let three = CommittedOffset { offset: 3, leader_epoch: None, metadata: String::new() };
            let offsets = other.assignment().into_iter().map(|at| (at, three.clone()));
            other.commit_offsets(offsets).await.expect("commit");
            go_on.send(()).expect("it waits");
            let error = outcome.recv().expect("an outcome").expect_err("it is out of the group");
            assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID), "{way:?}: {error}");
            slow.join().expect("the slow member");
            let told = diary.take();
            assert!(matches!(told[..], [Told::Revoked(_), Told::Lost(_)]), "{way:?}: {told:?}");
            assert_eq!([group.committed(0).await, group.committed(1).await], [Some(3); 2], "{way:?}");
            other.close().await.expect("close");
        }
    });
}

/// By the classic protocol each member matches names by itself, as it learns of them.
#[test]
fn a_pattern_finds_topics_that_come_later() {
    on_shared(Version::V4_3, async |cluster| {
        for way in WAYS {
            let group = Group::new(cluster, "matched", way, 1).await;
            let mut member =
                group.member(|config| config.client.metadata_max_age = Duration::from_millis(300));
            member.subscribe_pattern(&format!("matched-{way:?}(-later)?")).expect("subscribe");
            group.write(&group.name, 1).await;
            read_until(&mut [&mut member], |_, seen| seen.len() == 1).await;
            member.commit().await.expect("commit");
            let later = format!("{}-later", group.name);
            for topic in [&later, &format!("{}-other", group.name)] {
                create(cluster, NewTopic::new(topic.as_str(), 1)).await;
                group.write(topic, 2).await;
            }
            let seen = read_until(&mut [&mut member], |_, seen| seen.len() >= 2).await;
            assert_eq!(seen, [(later.clone(), 0, 0), (later, 0, 1)], "{way:?}");
            assert_eq!(member.assignment().len(), 2, "{way:?}");
            member.close().await.expect("close");
        }
    });
}

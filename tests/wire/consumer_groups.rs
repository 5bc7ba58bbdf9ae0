//! Members of one group, under both protocols: who reads what, when it changes hands, and what is committed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_wire::config::{ConsumerConfig, GroupProtocol, OffsetReset, Strategy};
use kafka_wire::{
    BrokerId, CloseOptions, CommittedOffset, Consumer, ErrorCode, ErrorKind, GroupMembershipOperation,
    Position, RebalanceListener, TopicPartition,
};
use tidewater_broker::{Action, ApiKey, EmbeddedBroker, Options, Rule};

use super::consumer_reads::{consumer, partition, write};
use super::{block_on, broker};

/// Nothing that a test waits for takes so long.
const LONG: Duration = Duration::from_secs(60);

/// A way for a group to divide partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Eager,
    Cooperative,
    Served,
}

const WAYS: [Way; 3] = [Way::Eager, Way::Cooperative, Way::Served];

fn quick_broker(options: Options) -> EmbeddedBroker {
    broker(Options { consumer_heartbeat_interval: Duration::from_millis(100), ..options })
}

fn set_way(config: &mut ConsumerConfig, way: Way) {
    config.group_id = Some("g".to_owned());
    config.auto_offset_reset = OffsetReset::Earliest;
    config.group.heartbeat_interval = Duration::from_millis(100);
    match way {
        Way::Eager => config.group.strategies = vec![Strategy::Range],
        Way::Cooperative => config.group.strategies = vec![Strategy::CooperativeSticky],
        Way::Served => config.group.protocol = GroupProtocol::Consumer,
    }
}

fn member(broker: &EmbeddedBroker, way: Way) -> Consumer {
    let mut member = consumer(broker, |config| set_way(config, way));
    member.subscribe(["t"]).unwrap();
    member
}

/// Polls all members in turn until it is so; gives the records that came, by member.
#[allow(clippy::disallowed_methods, reason = "a test that hangs should say so")]
fn poll_until(
    members: &mut [&mut Consumer],
    mut is_so: impl FnMut(&[&mut Consumer]) -> bool,
) -> Vec<Vec<i64>> {
    #[allow(clippy::disallowed_methods, reason = "the rim: what hangs fails")]
    let begun = Instant::now();
    let mut seen = vec![Vec::new(); members.len()];
    while !is_so(members) {
        assert!(
            begun.elapsed() < LONG,
            "it does not come about: {:?} {:?}",
            assignments(members),
            members[0].group_metadata()
        );
        for (index, member) in members.iter_mut().enumerate() {
            let batch = member.poll_blocking(Duration::from_millis(5)).unwrap();
            seen[index].extend(batch.iter().map(|record| record.offset));
        }
    }
    seen
}

fn assignments(members: &[&mut Consumer]) -> Vec<BTreeSet<i32>> {
    let numbers = |member: &&mut Consumer| member.assignment().iter().map(|at| at.partition).collect();
    members.iter().map(numbers).collect()
}

/// Whether the partitions are divided as evenly as can be, each to one.
fn is_divided(members: &[&mut Consumer], partitions: usize) -> bool {
    let shares = assignments(members);
    let all: BTreeSet<i32> = shares.iter().flatten().copied().collect();
    let (least, most) = (partitions / members.len(), partitions.div_ceil(members.len()));
    all.len() == partitions
        && shares.iter().map(BTreeSet::len).sum::<usize>() == partitions
        && shares.iter().all(|share| (least..=most).contains(&share.len()))
}

#[test]
fn members_divide_the_partitions_and_take_over_from_who_leaves() {
    for way in WAYS {
        let broker = quick_broker(Options::default().with_topic("t", 6));
        let mut a = member(&broker, way);
        poll_until(&mut [&mut a], |members| is_divided(members, 6));
        let mut b = member(&broker, way);
        poll_until(&mut [&mut a, &mut b], |members| is_divided(members, 6));
        let mut c = member(&broker, way);
        poll_until(&mut [&mut a, &mut b, &mut c], |members| is_divided(members, 6));
        block_on(a.close()).unwrap();
        poll_until(&mut [&mut b, &mut c], |members| is_divided(members, 6));
        // Who goes without a word is not waited for either.
        drop(b);
        poll_until(&mut [&mut c], |members| is_divided(members, 6));
    }
}

/// As in a rolling upgrade, and back again (KIP-848's online migration).
#[test]
fn a_group_moves_from_one_protocol_to_the_other_member_by_member() {
    for way in [Way::Eager, Way::Cooperative] {
        let broker = quick_broker(Options::default().with_topic("t", 6));
        let mut old = member(&broker, way);
        poll_until(&mut [&mut old], |members| is_divided(members, 6));
        let mut new = member(&broker, Way::Served);
        poll_until(&mut [&mut old, &mut new], |members| is_divided(members, 6));
        block_on(old.close()).unwrap();
        poll_until(&mut [&mut new], |members| is_divided(members, 6));

        let mut old = member(&broker, way);
        poll_until(&mut [&mut old, &mut new], |members| is_divided(members, 6));
        block_on(new.close()).unwrap();
        poll_until(&mut [&mut old], |members| is_divided(members, 6));
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    Lost(Vec<i32>),
}

#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<Told>>>);

impl Diary {
    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn numbers(partitions: &[TopicPartition]) -> Vec<i32> {
    partitions.iter().map(|at| at.partition).collect()
}

impl RebalanceListener for Diary {
    fn assigned(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(Told::Assigned(numbers(partitions)));
    }

    fn revoked(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(Told::Revoked(numbers(partitions)));
    }

    fn lost(&mut self, _: &mut Consumer, partitions: &[TopicPartition]) {
        self.0.lock().unwrap().push(Told::Lost(numbers(partitions)));
    }
}

#[test]
fn an_eager_group_gives_up_all_and_others_only_what_moves() {
    for way in WAYS {
        let broker = quick_broker(Options::default().with_topic("t", 4));
        let mut a = member(&broker, way);
        let diary = Diary::default();
        a.set_listener(diary.clone());
        poll_until(&mut [&mut a], |members| is_divided(members, 4));
        assert_eq!(diary.take(), [Told::Assigned(vec![0, 1, 2, 3])], "{way:?}");
        let mut b = member(&broker, way);
        poll_until(&mut [&mut a, &mut b], |members| is_divided(members, 4));
        let kept = numbers(&a.assignment()).into_iter().collect::<BTreeSet<i32>>();
        let revoked: BTreeSet<i32> = diary
            .take()
            .into_iter()
            .flat_map(|told| match told {
                Told::Revoked(partitions) => partitions,
                Told::Assigned(_) => Vec::new(),
                Told::Lost(lost) => panic!("{way:?}: lost {lost:?}"),
            })
            .collect();
        if way == Way::Eager {
            assert_eq!(revoked.len(), 4);
        } else {
            assert_eq!((revoked.len(), revoked.intersection(&kept).count()), (2, 0), "{way:?}: {revoked:?}");
        }
    }
}

#[test]
fn what_is_committed_when_partitions_are_revoked_is_where_the_next_goes_on() {
    for way in WAYS {
        let broker = quick_broker(Options::default().with_topic("t", 1));
        write(&broker, "t", 0..10);
        let mut a = member(&broker, way);
        struct Commit;
        impl RebalanceListener for Commit {
            fn revoked(&mut self, consumer: &mut Consumer, _: &[TopicPartition]) {
                let positions: Vec<_> =
                    consumer.positions().into_iter().map(|(at, position)| (at, position.into())).collect();
                consumer.commit_async(positions, |outcome| outcome.unwrap()).unwrap();
            }
        }
        a.set_listener(Commit);
        let mut seen = Vec::new();
        while seen.len() < 10 {
            seen.extend(a.poll_blocking(LONG).unwrap().iter().map(|record| record.offset));
        }
        // Nothing is committed until then, and the answer to the commit is slow and lost at first.
        assert_eq!(block_on(a.committed([partition("t")])).unwrap()[0].1, None);
        broker.add_rule(Rule::new(Action::Disconnect).api(ApiKey::OffsetCommit).times(1));
        block_on(a.close()).unwrap();
        write(&broker, "t", 10..12);
        let mut b = member(&broker, way);
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(b.poll_blocking(LONG).unwrap().iter().map(|record| record.offset));
        }
        assert_eq!(seen, [10, 11], "{way:?}");
    }
}

#[test]
fn automatic_commits_cover_what_was_polled_and_no_more() {
    for way in WAYS {
        let broker = quick_broker(Options::default().with_topic("t", 1));
        write(&broker, "t", 0..10);
        let mut member = consumer(&broker, |config| {
            set_way(config, way);
            config.enable_auto_commit = true;
            config.auto_commit_interval = Duration::from_millis(1);
            config.max_poll_records = Some(3);
        });
        member.subscribe(["t"]).unwrap();
        let committed = |member: &Consumer| {
            let committed = block_on(member.committed([partition("t")])).unwrap();
            committed[0].1.as_ref().map_or(0, |committed| committed.offset)
        };
        let mut polled = 0;
        while polled < 9 {
            let batch = member.poll_blocking(LONG).unwrap();
            // The application has this batch in its hands: only what came before it is done.
            assert!(committed(&member) <= polled, "{way:?}: {} of {polled}", committed(&member));
            polled = batch.next_offset();
        }
        block_on(member.close()).unwrap();
        let reader = consumer(&broker, |config| config.group_id = Some("g".to_owned()));
        assert_eq!(committed(&reader), polled);
    }
}

#[test]
fn a_member_that_polls_too_seldom_loses_its_partitions_and_comes_back() {
    for way in WAYS {
        let broker = quick_broker(Options::default().with_topic("t", 1));
        write(&broker, "t", 0..10);
        let mut slow = consumer(&broker, |config| {
            set_way(config, way);
            config.group.max_poll_interval = Duration::from_secs(1);
        });
        let diary = Diary::default();
        slow.set_listener(diary.clone());
        slow.subscribe(["t"]).unwrap();
        let batch = slow.poll_blocking(LONG).unwrap();
        assert!(!batch.is_empty());
        // Another takes over while the first is busy with its batch.
        let mut other = member(&broker, way);
        poll_until(&mut [&mut other], |members| is_divided(members, 1));
        let error = block_on(slow.commit()).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID), "{way:?}: {error}");
        drop(other);
        poll_until(&mut [&mut slow], |_| {
            diary
                .0
                .lock()
                .unwrap()
                .iter()
                .filter(|told| matches!(told, Told::Assigned(p) if !p.is_empty()))
                .count()
                == 2
        });
        let told: Vec<Told> =
            diary.take().into_iter().filter(|told| *told != Told::Assigned(vec![])).collect();
        assert_eq!(told, [Told::Assigned(vec![0]), Told::Lost(vec![0]), Told::Assigned(vec![0])], "{way:?}");
        block_on(slow.commit()).unwrap();
    }
}

#[test]
fn an_application_that_waits_in_a_poll_is_not_stuck() {
    for way in WAYS {
        let broker = quick_broker(Options::default().with_topic("t", 1));
        let mut idle = consumer(&broker, |config| {
            set_way(config, way);
            config.group.max_poll_interval = Duration::from_secs(1);
        });
        let diary = Diary::default();
        idle.set_listener(diary.clone());
        idle.subscribe(["t"]).unwrap();
        poll_until(&mut [&mut idle], |members| is_divided(members, 1));
        assert!(idle.poll_blocking(Duration::from_millis(2500)).unwrap().is_empty());
        assert!(!diary.take().iter().any(|told| matches!(told, Told::Lost(_))), "{way:?}");
    }
}

#[test]
fn a_static_member_finds_its_partitions_again_without_a_rebalance() {
    for way in WAYS {
        let broker = quick_broker(Options::default().with_topic("t", 4));
        let instance = |name: &str| {
            let mut member = consumer(&broker, |config| {
                set_way(config, way);
                config.group.instance_id = Some(name.to_owned());
            });
            member.subscribe(["t"]).unwrap();
            member
        };
        let (mut a, mut b) = (instance("a"), instance("b"));
        poll_until(&mut [&mut a, &mut b], |members| is_divided(members, 4));
        let before = assignments(&[&mut a, &mut b]);
        let diary = Diary::default();
        b.set_listener(diary.clone());
        block_on(a.close()).unwrap();
        let mut a = instance("a");
        poll_until(&mut [&mut a, &mut b], |members| assignments(members) == before);
        assert_eq!(diary.take(), [], "{way:?}");
    }
}

/// Assignors look at racks (KIP-881). Brokers in racks go away one after the other and come back, their partitions are
/// led by others meanwhile: the racks of partitions change, and nobody's partitions do.
#[test]
fn a_rolling_restart_of_brokers_in_racks_moves_nothing() {
    for way in WAYS {
        let broker = quick_broker(Options { nodes: 3, ..Options::default() }.with_topic("t", 6));
        for node in 0..3 {
            broker.control(|cluster, now| {
                cluster.set_rack(node, format!("rack-{node}"));
                cluster.move_leader(now, "t", node, node) && cluster.move_leader(now, "t", node + 3, node)
            });
        }
        let diary = Diary::default();
        let join = |rack: &str| {
            let mut member = consumer(&broker, |config| {
                set_way(config, way);
                config.client.client_rack = Some(rack.to_owned());
                config.client.metadata_max_age = Duration::from_millis(100);
            });
            member.set_listener(diary.clone());
            member.subscribe(["t"]).unwrap();
            member
        };
        let (mut a, mut b, mut c) = (join("rack-0"), join("rack-1"), join("rack-2"));
        let mut members = [&mut a, &mut b, &mut c];
        poll_until(&mut members, |members| is_divided(members, 6));
        let generations = |members: &[&mut Consumer]| -> Vec<i32> {
            members.iter().map(|member| member.group_metadata().unwrap().generation).collect()
        };
        let before = (assignments(&members), generations(&members));
        diary.take();
        for node in 0..3 {
            // Every member has seen that the node leads these of its partitions, or none.
            let leads = |members: &[&mut Consumer], expected: &[usize]| {
                members.iter().all(|member| {
                    let topic = block_on(member.describe_topic("t")).unwrap();
                    let led = |index: &usize| topic.partitions[*index].leader == Some(BrokerId(node));
                    (0..6).filter(led).collect::<Vec<_>>() == expected
                })
            };
            broker.control(|cluster, now| cluster.stop_node(now, node));
            poll_until(&mut members, |members| leads(members, &[]));
            broker.control(|cluster, now| {
                cluster.start_node(node);
                cluster.move_leader(now, "t", node, node) && cluster.move_leader(now, "t", node + 3, node)
            });
            poll_until(&mut members, |members| leads(members, &[node as usize, node as usize + 3]));
        }
        assert_eq!((assignments(&members), generations(&members)), before, "{way:?}");
        assert_eq!(diary.take(), [], "{way:?}");
    }
}

#[test]
fn a_second_instance_of_the_same_name_fences_the_first() {
    let broker = quick_broker(Options::default().with_topic("t", 1));
    let instance = || {
        let mut member = consumer(&broker, |config| {
            set_way(config, Way::Eager);
            config.group.instance_id = Some("a".to_owned());
        });
        member.subscribe(["t"]).unwrap();
        member
    };
    let mut first = instance();
    poll_until(&mut [&mut first], |members| is_divided(members, 1));
    let mut second = instance();
    poll_until(&mut [&mut second], |members| is_divided(members, 1));
    let error = first.poll_blocking(LONG).unwrap_err();
    assert!(error.kind() == ErrorKind::Fenced && error.to_string().contains("'a'"), "{error}");
    assert_eq!(first.poll_blocking(LONG).unwrap_err().kind(), ErrorKind::Fenced);
}

#[test]
fn who_stays_in_the_group_when_closed_keeps_its_partitions_for_its_session() {
    let broker = quick_broker(Options::default().with_topic("t", 2));
    let (mut a, mut b) = (member(&broker, Way::Cooperative), member(&broker, Way::Cooperative));
    poll_until(&mut [&mut a, &mut b], |members| is_divided(members, 2));
    let remain = GroupMembershipOperation::RemainInGroup;
    a.close_blocking(CloseOptions { group_membership: remain, ..CloseOptions::default() }).unwrap();
    let group = block_on(super::admin(&broker).describe_groups(["g"])).unwrap().remove(0).1.unwrap();
    assert_eq!(group.members.len(), 2);
    block_on(b.close()).unwrap();
}

#[test]
fn a_pattern_finds_topics_that_come_later() {
    for way in WAYS {
        let broker = quick_broker(Options::default().with_topic("ta", 1).with_topic("other", 1));
        let mut member = consumer(&broker, |config| {
            set_way(config, way);
            config.client.metadata_max_age = Duration::from_millis(200);
        });
        member.subscribe_pattern("t.*").unwrap();
        let topics = |member: &Consumer| -> BTreeSet<String> {
            member.assignment().iter().map(|at| at.topic.to_string()).collect()
        };
        let wanted =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        poll_until(&mut [&mut member], |members| topics(members[0]) == wanted(&["ta"]));
        let created = block_on(super::admin(&broker).create_topics([kafka_wire::NewTopic::new("tb", 1)]));
        created.unwrap().into_iter().for_each(|(_, result)| drop(result.unwrap()));
        poll_until(&mut [&mut member], |members| topics(members[0]) == wanted(&["ta", "tb"]));
    }
}

#[test]
fn partitions_that_are_added_are_read() {
    for way in WAYS {
        let broker = quick_broker(Options::default().with_topic("t", 1));
        let mut member = consumer(&broker, |config| {
            set_way(config, way);
            config.client.metadata_max_age = Duration::from_millis(200);
        });
        member.subscribe(["t"]).unwrap();
        poll_until(&mut [&mut member], |members| is_divided(members, 1));
        let added = block_on(super::admin(&broker).create_partitions([("t", 3)])).unwrap();
        added.into_iter().for_each(|(_, result)| result.unwrap());
        poll_until(&mut [&mut member], |members| is_divided(members, 3));
    }
}

#[test]
fn only_what_is_its_own_can_be_committed_by_a_member() {
    for way in WAYS {
        let broker = quick_broker(Options::default().with_topic("t", 2).with_topic("u", 1));
        let (mut a, mut b) = (member(&broker, way), member(&broker, way));
        poll_until(&mut [&mut a, &mut b], |members| is_divided(members, 2));
        let (mine, foreign) = (a.assignment().remove(0), b.assignment().remove(0));
        let offset = CommittedOffset { offset: 1, leader_epoch: None, metadata: String::new() };
        block_on(a.commit_offsets([(mine.clone(), offset.clone())])).unwrap();
        let error = block_on(a.commit_offsets([(foreign, offset)])).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID), "{way:?}: {error}");
        let metadata = a.group_metadata().unwrap();
        assert!(metadata.group_id == "g" && metadata.generation > 0 && !metadata.member_id.is_empty());
        // Partitions are the group's business until the subscription ends.
        let error = a.assign([(partition("u"), Position::Beginning)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        a.unsubscribe().unwrap();
        assert!(a.assignment().is_empty());
        poll_until(&mut [&mut b], |members| is_divided(members, 2));
        a.assign([(partition("u"), Position::Beginning)]).unwrap();
        assert_eq!(a.subscribe(["t"]).unwrap_err().kind(), ErrorKind::Usage);
        a.incremental_unassign([partition("u")]).unwrap();
        // And back at once.
        a.subscribe(["t"]).unwrap();
        poll_until(&mut [&mut a, &mut b], |members| is_divided(members, 2));
        a.unsubscribe().unwrap();
        a.subscribe(["t"]).unwrap();
        poll_until(&mut [&mut a, &mut b], |members| is_divided(members, 2));
    }
}

#[test]
fn what_cannot_be_is_told() {
    let broker = quick_broker(Options { auto_create_topics: true, ..Options::default() });
    let mut nobody = consumer(&broker, |_| {});
    let error = nobody.subscribe(["t"]).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("group.id"), "{error}");
    // A topic that is not there is told once; it is not created by asking for it.
    let mut early = member(&broker, Way::Eager);
    let error = early.poll_blocking(LONG).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
    assert!(block_on(super::admin(&broker).list_topics()).unwrap().is_empty());
    let created = block_on(super::admin(&broker).create_topics([kafka_wire::NewTopic::new("t", 1)]));
    created.unwrap().into_iter().for_each(|(_, result)| drop(result.unwrap()));
    poll_until(&mut [&mut early], |members| is_divided(members, 1));
}

#[test]
fn lost_answers_and_lost_coordinators_do_not_end_a_membership() {
    for way in [Way::Eager, Way::Cooperative] {
        let broker = quick_broker(Options { nodes: 2, ..Options::default() }.with_topic("t", 4));
        let join = || {
            let mut member = consumer(&broker, |config| {
                set_way(config, way);
                // A coordinator waits so long for the member whose answer was lost before it had an id.
                config.group.session_timeout = Duration::from_secs(6);
            });
            member.subscribe(["t"]).unwrap();
            member
        };
        for api in [ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::Heartbeat, ApiKey::FindCoordinator] {
            broker.add_rule(Rule::new(Action::Error(ErrorCode::NOT_COORDINATOR)).api(api).times(1));
            broker.add_rule(Rule::new(Action::ApplyThenDisconnect).api(api).times(1));
        }
        let (mut a, mut b) = (join(), join());
        poll_until(&mut [&mut a, &mut b], |members| is_divided(members, 4));
        block_on(a.close()).unwrap();
        poll_until(&mut [&mut b], |members| is_divided(members, 4));
    }
}

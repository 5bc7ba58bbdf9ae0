use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::*;

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn member(id: usize, topics: &[&str]) -> MemberSubscription {
    MemberSubscription {
        member_id: format!("m{id:03}").into(),
        instance_id: None,
        rack: None,
        topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
        owned: Vec::new(),
        generation: -1,
        user_data: None,
    }
}

fn racks(names: &[&str]) -> PartitionRacks {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn topics(counts: &[(&str, usize)]) -> BTreeMap<Arc<str>, Vec<PartitionRacks>> {
    counts.iter().map(|(topic, count)| (Arc::from(*topic), vec![racks(&[]); *count])).collect()
}

type Assignment = BTreeMap<Arc<str>, Vec<TopicPartition>>;

/// What each member says at the next rebalance.
fn hold(members: &mut [MemberSubscription], strategy: Strategy, assigned: &Assignment, generation: i32) {
    for member in members {
        let Some(partitions) = assigned.get(&member.member_id) else { continue };
        let held: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
        member.user_data = user_data(strategy, &held, generation);
        if strategy == Strategy::CooperativeSticky {
            (member.owned, member.generation) = (partitions.clone(), generation);
        }
    }
}

#[test]
fn range_is_co_partitioned_and_static_members_come_first() {
    let mut members = [member(0, &["a", "b"]), member(1, &["a", "b"])];
    members[1].instance_id = Some("i".into());
    let assigned = assign(Strategy::Range, &members, &topics(&[("a", 3), ("b", 3)]));
    assert_eq!(assigned["m001"], [tp("a", 0), tp("a", 1), tp("b", 0), tp("b", 1)]);
    assert_eq!(assigned["m000"], [tp("a", 2), tp("b", 2)]);
}

#[test]
fn range_prefers_racks_and_keeps_topics_co_partitioned() {
    let mut members = [member(0, &["a", "b"]), member(1, &["a", "b"])];
    members[0].rack = Some("r1".into());
    members[1].rack = Some("r2".into());
    let in_racks: Vec<PartitionRacks> = ["r2", "r1", "r2", "r1"].map(|rack| racks(&[rack])).into();
    let topics = BTreeMap::from([("a".into(), in_racks.clone()), ("b".into(), in_racks)]);
    let assigned = assign(Strategy::Range, &members, &topics);
    assert_eq!(assigned["m000"], [tp("a", 1), tp("a", 3), tp("b", 1), tp("b", 3)]);
    assert_eq!(assigned["m001"], [tp("a", 0), tp("a", 2), tp("b", 0), tp("b", 2)]);
}

#[test]
fn cooperative_withholds_what_moves_for_one_round() {
    let strategy = Strategy::CooperativeSticky;
    let topics = topics(&[("t", 4)]);
    let mut members = vec![member(0, &["t"])];
    let alone = assign(strategy, &members, &topics);
    hold(&mut members, strategy, &alone, 1);
    members.push(member(1, &["t"]));
    let first = assign(strategy, &members, &topics);
    assert_eq!((first["m000"].len(), first["m001"].len()), (2, 0), "{first:?}");
    hold(&mut members, strategy, &first, 2);
    let second = assign(strategy, &members, &topics);
    assert_eq!(second["m000"], first["m000"]);
    assert_eq!(second["m001"].len(), 2);
}

#[test]
fn of_two_claims_the_later_generation_wins_and_of_equal_ones_none() {
    let topics = topics(&[("t", 2)]);
    let mut members = [member(0, &["t"]), member(1, &["t"])];
    (members[0].owned, members[0].generation) = (vec![tp("t", 0), tp("t", 1)], 4);
    (members[1].owned, members[1].generation) = (vec![tp("t", 0)], 5);
    let assigned = assign(Strategy::CooperativeSticky, &members, &topics);
    assert_eq!((&assigned["m000"][..], &assigned["m001"][..]), (&[tp("t", 1)][..], &[tp("t", 0)][..]));
    // Both have to let go of it before anybody reads it.
    members[1].generation = 4;
    let assigned = assign(Strategy::CooperativeSticky, &members, &topics);
    assert!(assigned.values().flatten().all(|partition| *partition == tp("t", 1)), "{assigned:?}");
}

#[test]
fn sticky_moves_partitions_towards_racks_without_losing_balance_and_then_rests() {
    let mut members = vec![member(0, &["t"]), member(1, &["t"]), member(2, &["t"])];
    for (member, rack) in members.iter_mut().zip(["r0", "r1", "r2"]) {
        member.rack = Some(rack.into());
    }
    let replicas = (0..9).map(|p| racks(&[["r0", "r1", "r2"][p % 3]])).collect();
    let topics = BTreeMap::from([(Arc::from("t"), replicas)]);
    let held: BTreeSet<TopicPartition> = (0..9).map(|p| tp("t", p)).collect();
    members[0].user_data = user_data(Strategy::Sticky, &held, 3);
    let assigned = assign(Strategy::Sticky, &members, &topics);
    for (index, partitions) in assigned.values().enumerate() {
        let expected: Vec<TopicPartition> = (0..3).map(|p| tp("t", p * 3 + index as i32)).collect();
        assert_eq!(*partitions, expected);
    }
    hold(&mut members, Strategy::Sticky, &assigned, 4);
    assert_eq!(assign(Strategy::Sticky, &members, &topics), assigned);
}

/// A group: the topics' partition counts, and which topics each member reads.
fn groups() -> impl proptest::strategy::Strategy<Value = (Vec<usize>, Vec<Vec<bool>>, bool)> {
    let subscriptions = proptest::collection::vec(proptest::collection::vec(any::<bool>(), 5), 1..9);
    (proptest::collection::vec(0..9usize, 5), subscriptions, any::<bool>())
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn build(
    counts: &[usize],
    subscriptions: &[Vec<bool>],
    uniform: bool,
    with_racks: bool,
) -> (Vec<MemberSubscription>, BTreeMap<Arc<str>, Vec<PartitionRacks>>) {
    let members = subscriptions.iter().enumerate().map(|(id, reads)| {
        let topics: Vec<&str> = NAMES
            .into_iter()
            .zip(reads)
            .filter(|(_, reads)| uniform || **reads)
            .map(|(name, _)| name)
            .collect();
        let mut member = member(id, &topics);
        member.rack = with_racks.then(|| ["r0", "r1", "r2"][id % 3].into());
        member
    });
    let topics = NAMES.into_iter().zip(counts).enumerate().map(|(t, (name, count))| {
        let racks_of =
            |p: usize| if with_racks { racks(&[["r0", "r1", "r2"][(p + t) % 3]]) } else { racks(&[]) };
        (Arc::from(name), (0..*count).map(racks_of).collect())
    });
    (members.collect(), topics.collect())
}

/// Every partition that somebody reads is there once, with somebody who reads it.
fn check_complete(
    members: &[MemberSubscription],
    topics: &BTreeMap<Arc<str>, Vec<PartitionRacks>>,
    assigned: &Assignment,
) {
    let mut seen = BTreeSet::new();
    for member in members {
        for partition in &assigned[&member.member_id] {
            assert!(member.topics.contains(&partition.topic));
            assert!(seen.insert(partition.clone()), "{partition} twice");
        }
    }
    let read = topics.iter().filter(|(topic, _)| members.iter().any(|member| member.topics.contains(topic)));
    let expected: usize = read.map(|(_, partitions)| partitions.len()).sum();
    assert_eq!((assigned.len(), seen.len()), (members.len(), expected));
}

/// No chain of moves makes it more even: found the slow way, by trying.
fn check_even(members: &[MemberSubscription], assigned: &Assignment) {
    let reach = |from: &MemberSubscription| -> Vec<Arc<str>> {
        let held = &assigned[&from.member_id];
        let can = |to: &&MemberSubscription| held.iter().any(|p| to.topics.contains(&p.topic));
        members.iter().filter(can).map(|to| Arc::clone(&to.member_id)).collect()
    };
    for start in members {
        let mut seen = BTreeSet::from([Arc::clone(&start.member_id)]);
        let mut next = vec![start];
        while let Some(at) = next.pop() {
            for id in reach(at) {
                if seen.insert(Arc::clone(&id)) {
                    next.extend(members.iter().find(|member| member.member_id == id));
                }
            }
        }
        let count = assigned[&start.member_id].len();
        for id in seen {
            assert!(assigned[&id].len() + 1 >= count, "{} could give to {id}: {assigned:?}", start.member_id);
        }
    }
}

proptest! {
    #[test]
    fn every_partition_has_one_member_under_every_strategy(
        (counts, subscriptions, uniform) in groups(),
        with_racks: bool,
    ) {
        let (members, topics) = build(&counts, &subscriptions, uniform, with_racks);
        for strategy in Strategy::ALL {
            check_complete(&members, &topics, &assign(strategy, &members, &topics));
        }
    }

    #[test]
    fn sticky_is_even_and_rests_when_nothing_changes(
        (counts, subscriptions, uniform) in groups(),
        with_racks: bool,
    ) {
        let (mut members, topics) = build(&counts, &subscriptions, uniform, with_racks);
        for strategy in [Strategy::Sticky, Strategy::CooperativeSticky] {
            let assigned = assign(strategy, &members, &topics);
            check_even(&members, &assigned);
            hold(&mut members, strategy, &assigned, 1);
            prop_assert_eq!(assign(strategy, &members, &topics), assigned);
        }
    }

    /// With equal subscriptions a member that joins or leaves moves no more than balance takes.
    #[test]
    fn sticky_moves_no_more_than_it_must(count in 1..40usize, before in 1..8usize, leaves: bool) {
        let topics = topics(&[("t", count)]);
        let mut members: Vec<MemberSubscription> = (0..before).map(|id| member(id, &["t"])).collect();
        let first = assign(Strategy::Sticky, &members, &topics);
        hold(&mut members, Strategy::Sticky, &first, 1);
        if leaves && before > 1 {
            members.remove(before / 2);
        } else {
            members.push(member(before, &["t"]));
        }
        let second = assign(Strategy::Sticky, &members, &topics);
        check_complete(&members, &topics, &second);
        check_even(&members, &second);
        let stayed = |member: &MemberSubscription| {
            let held = first.get(&member.member_id).cloned().unwrap_or_default();
            second[&member.member_id].iter().filter(|p| held.contains(p)).count()
        };
        let moved = count - members.iter().map(stayed).sum::<usize>();
        let freed = first.iter().filter(|(id, _)| !members.iter().any(|m| m.member_id == **id));
        let must = if leaves && before > 1 { freed.map(|(_, held)| held.len()).sum() } else { count / (before + 1) };
        prop_assert_eq!(moved, must);
    }

    /// Members come and go; after each change the group is settled in two rounds, in a few more where
    /// partitions go after racks, and no partition is ever with two members.
    #[test]
    fn cooperative_groups_settle_in_two_rounds(
        (counts, subscriptions, uniform) in groups(),
        changes in proptest::collection::vec((any::<bool>(), 0..9usize), 1..12),
        with_racks: bool,
    ) {
        let strategy = Strategy::CooperativeSticky;
        let (all, topics) = build(&counts, &subscriptions, uniform, with_racks);
        let mut members: Vec<MemberSubscription> = all.clone();
        let mut generation = 0;
        for (leaves, which) in changes {
            let which = which % all.len();
            if leaves && members.len() > 1 {
                members.retain(|member| member.member_id != all[which].member_id);
            } else if !members.iter().any(|member| member.member_id == all[which].member_id) {
                members.push(all[which].clone());
            }
            if members.is_empty() {
                break;
            }
            let mut rounds = Vec::new();
            let settled = if with_racks { 5 } else { 2 };
            for _ in 0..=settled {
                generation += 1;
                let assigned = assign(strategy, &members, &topics);
                let mut seen = BTreeSet::new();
                prop_assert!(assigned.values().flatten().all(|partition| seen.insert(partition.clone())));
                // Nobody is given what another has not let go of.
                for member in &members {
                    let added = assigned[&member.member_id].iter().filter(|p| !member.owned.contains(p));
                    for partition in added {
                        prop_assert!(!members.iter().any(|other| other.owned.contains(partition)));
                    }
                }
                hold(&mut members, strategy, &assigned, generation);
                rounds.push(assigned);
            }
            check_complete(&members, &topics, &rounds[settled - 1]);
            check_even(&members, &rounds[settled - 1]);
            prop_assert_eq!(&rounds[settled - 1], &rounds[settled]);
        }
    }
}

//! What members of a classic group tell each other: whatever they say, it is refused or read, what was read comes
//! back the same, and the leader gives each partition to one member at most, and only to who wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::config::Strategy;
use kafka_wire::group::assignor::{self, MemberSubscription, PartitionRacks};
use kafka_wire::protocol::subscription::{AssignmentData, SubscriptionData};

/// Members of a group; more find nothing that these do not.
const MEMBERS_MAX: usize = 6;

/// The first byte of `data` says the strategy; then come members, each a byte of length and a subscription.
pub fn run(data: &[u8]) {
    let Some((&strategy, rest)) = data.split_first() else { return };
    let strategy = Strategy::ALL[usize::from(strategy) % Strategy::ALL.len()];
    let mut members = Vec::new();
    let mut rest = rest;
    while let Some((&length, after)) = rest.split_first()
        && members.len() < MEMBERS_MAX
    {
        let (bytes, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let bytes = Bytes::copy_from_slice(bytes);
        assignment(&bytes);
        members.extend(subscription(&bytes).map(|data| member(members.len(), data)));
    }
    divide(strategy, &members);
}

fn assignment(bytes: &Bytes) {
    let Ok(mut data) = AssignmentData::decode(bytes) else { return };
    let written = data.encode().expect("what was read can be written");
    let mut again = AssignmentData::decode(&written).expect("what was written can be read");
    // By topic, as the format groups them.
    data.partitions.sort_by(|a, b| a.topic.cmp(&b.topic));
    again.partitions.sort_by(|a, b| a.topic.cmp(&b.topic));
    assert_eq!(again, data);
}

fn subscription(bytes: &Bytes) -> Option<SubscriptionData> {
    let mut data = SubscriptionData::decode(bytes).ok()?;
    let written = data.encode().expect("what was read can be written");
    data.owned.sort_by(|a, b| a.topic.cmp(&b.topic));
    assert_eq!(SubscriptionData::decode(&written).expect("what was written can be read"), data);
    Some(data)
}

fn member(index: usize, data: SubscriptionData) -> MemberSubscription {
    MemberSubscription {
        member_id: Arc::from(format!("m{index}")),
        instance_id: None,
        rack: data.rack,
        topics: data.topics,
        owned: data.owned,
        generation: data.generation,
        user_data: data.user_data,
    }
}

fn divide(strategy: Strategy, members: &[MemberSubscription]) {
    // What is not known of is wanted, too.
    let named: BTreeSet<&Arc<str>> = members.iter().flat_map(|member| &member.topics).collect();
    let racks: PartitionRacks = BTreeSet::from([Arc::from("r")]);
    let topics: BTreeMap<Arc<str>, Vec<PartitionRacks>> = named
        .into_iter()
        .enumerate()
        .filter(|(index, _)| index % 4 != 3)
        .map(|(index, topic)| {
            let partitions =
                (0..index % 5).map(|at| if at % 2 == 0 { racks.clone() } else { BTreeSet::new() });
            (Arc::clone(topic), partitions.collect())
        })
        .collect();
    let assigned = assignor::assign(strategy, members, &topics);
    assert_eq!(assigned.len(), members.len());
    let mut given = BTreeSet::new();
    for member in members {
        for partition in &assigned[&member.member_id] {
            assert!(member.topics.contains(&partition.topic), "{partition} to who does not want it");
            let count = topics[&partition.topic].len();
            assert!((0..count).contains(&(partition.partition as usize)), "{partition} of {count}");
            assert!(given.insert(partition.clone()), "{partition} twice");
        }
    }
    // What a member is to give up first is given to nobody yet.
    if strategy != Strategy::CooperativeSticky {
        let wanted =
            topics.iter().filter(|(topic, _)| members.iter().any(|member| member.topics.contains(topic)));
        assert_eq!(given.len(), wanted.map(|(_, partitions)| partitions.len()).sum::<usize>());
    }
}

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{MemberSubscription, PartitionRacks, racks_matter, subscribers};
use crate::types::TopicPartition;

/// Java's `RangeAssignor`. Where racks make a difference (KIP-881), partitions go first to members in the
/// rack of a replica, as far as each topic stays balanced and topics stay co-partitioned.
pub(super) fn assign(
    members: &[&MemberSubscription],
    topics: &BTreeMap<Arc<str>, Vec<PartitionRacks>>,
) -> Vec<Vec<TopicPartition>> {
    let mut states: Vec<TopicState<'_>> = subscribers(members, topics)
        .into_iter()
        .map(|(topic, subscribers)| TopicState::new(topic, &topics[topic], subscribers, members))
        .collect();
    if states.iter().any(|state| state.racks_matter) {
        assign_in_racks(&mut states);
    }
    let mut assigned = vec![Vec::new(); members.len()];
    for mut state in states {
        state.assign_ranges(|_, _| true);
        for (partition, member) in state.owners.iter().enumerate() {
            if let Some(member) = member {
                let partition = TopicPartition::new(Arc::clone(state.topic), partition as i32);
                assigned[state.subscribers[*member].0].push(partition);
            }
        }
    }
    assigned
}

/// Topics with the same members and as many partitions are co-partitioned: a number goes to one member in
/// all of them, or in none.
fn assign_in_racks(states: &mut [TopicState<'_>]) {
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, state) in states.iter().enumerate() {
        let has_racks = state.subscribers.iter().any(|(_, rack)| rack.is_some());
        let key = (state.subscribers.clone(), if has_racks { state.racks.len() } else { 0 });
        groups.entry(key).or_default().push(index);
    }
    for ((_, partitions), group) in groups {
        match group[..] {
            [single] => {
                if states[single].racks_matter {
                    let (racks, subscribers) = (states[single].racks, states[single].subscribers.clone());
                    states[single]
                        .assign_ranges(|member, partition| is_near(subscribers[member].1, &racks[partition]));
                }
            }
            _ => assign_co_partitioned(states, &group, partitions),
        }
    }
}

fn assign_co_partitioned(states: &mut [TopicState<'_>], group: &[usize], partitions: usize) {
    let mut remaining: Vec<usize> = (0..states[group[0]].subscribers.len()).collect();
    for partition in 0..partitions {
        let fits = |member: usize| {
            group.iter().all(|index| {
                let state = &states[*index];
                is_near(state.subscribers[member].1, &state.racks[partition]) && state.room(member) > 0
            })
        };
        let Some(at) = remaining.iter().position(|member| fits(*member)) else { continue };
        let member = remaining[at];
        for index in group {
            states[*index].give(member, partition);
        }
        if group.iter().all(|index| states[*index].room(member) == 0) {
            remaining.remove(at);
        }
    }
}

/// A member without a rack is near to all.
fn is_near(rack: Option<&Arc<str>>, replicas: &PartitionRacks) -> bool {
    rack.is_none_or(|rack| replicas.contains(rack))
}

/// One topic while it is divided. Members are indices into `subscribers`.
struct TopicState<'a> {
    topic: &'a Arc<str>,
    racks: &'a [PartitionRacks],
    /// Index among all members, and rack.
    subscribers: Vec<(usize, Option<&'a Arc<str>>)>,
    racks_matter: bool,
    owners: Vec<Option<usize>>,
    counts: Vec<usize>,
    /// How many each member gets at least.
    quota: usize,
    /// How many members may still get one more.
    extra: usize,
}

impl<'a> TopicState<'a> {
    fn new(
        topic: &'a Arc<str>,
        racks: &'a [PartitionRacks],
        subscribers: Vec<usize>,
        members: &[&'a MemberSubscription],
    ) -> Self {
        let count = subscribers.len();
        Self {
            topic,
            racks,
            racks_matter: racks_matter(subscribers.iter().map(|index| members[*index]), racks.iter()),
            subscribers: subscribers.into_iter().map(|index| (index, members[index].rack())).collect(),
            owners: vec![None; racks.len()],
            counts: vec![0; count],
            quota: racks.len() / count,
            extra: racks.len() % count,
        }
    }

    fn room(&self, member: usize) -> usize {
        (self.quota + usize::from(self.extra > 0)).saturating_sub(self.counts[member])
    }

    fn give(&mut self, member: usize, partition: usize) {
        self.owners[partition] = Some(member);
        self.counts[member] += 1;
        if self.counts[member] == self.quota + 1 {
            self.extra -= 1;
        }
    }

    /// To each member in turn the first free partitions that it may have, as many as it has room for.
    fn assign_ranges(&mut self, may_have: impl Fn(usize, usize) -> bool) {
        for member in 0..self.subscribers.len() {
            let free = (0..self.owners.len()).filter(|partition| self.owners[*partition].is_none());
            let partitions: Vec<usize> =
                free.filter(|partition| may_have(member, *partition)).take(self.room(member)).collect();
            for partition in partitions {
                self.give(member, partition);
            }
        }
    }
}

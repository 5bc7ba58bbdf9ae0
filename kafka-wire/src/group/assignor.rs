//! Who of a group reads which partitions, as the leader of a classic group decides it. Layer 8.
//!
//! Pure functions of the members' subscriptions and the topics' partitions. Range and round-robin give what
//! Java's `RangeAssignor` and `RoundRobinAssignor` give, so that groups of mixed clients keep their
//! co-partitioning whoever leads them. Sticky is as balanced as Java's and moves no more than that takes; it
//! is an algorithm of its own.

#[cfg(test)]
mod against_java;
mod range;
mod round_robin;
mod sticky;
#[cfg(test)]
mod tests;
mod user_data;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::config::Strategy;
use crate::types::TopicPartition;

/// What a member adds to its subscription for the strategy: what it held, and in which generation (−1 for
/// none).
pub(crate) fn user_data(
    strategy: Strategy,
    held: &BTreeSet<TopicPartition>,
    generation: i32,
) -> Option<Bytes> {
    match strategy {
        Strategy::Range | Strategy::RoundRobin => None,
        Strategy::Sticky => (generation >= 0).then(|| user_data::encode_sticky(held, generation)),
        Strategy::CooperativeSticky => Some(user_data::encode_cooperative(generation)),
    }
}

/// The racks that hold a replica of a partition: of all replicas, also those that are offline or out of
/// sync, since a broker that restarts must not move partitions between members.
pub type PartitionRacks = BTreeSet<Arc<str>>;

/// One member, as its subscription describes it.
#[derive(Clone, Debug)]
pub struct MemberSubscription {
    /// Unique in the group.
    pub member_id: Arc<str>,
    /// `group.instance.id`: members that have one come first, so that they keep their place.
    pub instance_id: Option<Arc<str>>,
    /// `client.rack`.
    pub rack: Option<Arc<str>>,
    /// The topics that it is subscribed to.
    pub topics: Vec<Arc<str>>,
    /// What it owns, under a cooperative strategy.
    pub owned: Vec<TopicPartition>,
    /// Of the group, when it owned them; −1 when not known.
    pub generation: i32,
    /// What its strategy added.
    pub user_data: Option<Bytes>,
}

impl MemberSubscription {
    fn rack(&self) -> Option<&Arc<str>> {
        self.rack.as_ref().filter(|rack| !rack.is_empty())
    }

    /// Java's order of members: static ones by their instance, then the others by their id.
    fn order(&self, other: &Self) -> Ordering {
        match (&self.instance_id, &other.instance_id) {
            (Some(mine), Some(theirs)) => mine.cmp(theirs),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.member_id.cmp(&other.member_id),
        }
    }
}

/// Each member's partitions, sorted; a member that gets none is there too. A topic that `topics` does not
/// have is passed over.
pub fn assign(
    strategy: Strategy,
    members: &[MemberSubscription],
    topics: &BTreeMap<Arc<str>, Vec<PartitionRacks>>,
) -> BTreeMap<Arc<str>, Vec<TopicPartition>> {
    let mut members: Vec<&MemberSubscription> = members.iter().collect();
    members.sort_by(|a, b| a.order(b));
    let assigned = match strategy {
        Strategy::Range => range::assign(&members, topics),
        Strategy::RoundRobin => round_robin::assign(&members, topics),
        Strategy::Sticky => {
            let claims = members.iter().map(|member| user_data::sticky_claim(member)).collect();
            sticky::assign(&members, claims, topics)
        }
        Strategy::CooperativeSticky => {
            let claims = members.iter().map(|member| user_data::cooperative_claim(member)).collect();
            sticky::assign_cooperatively(&members, claims, topics)
        }
    };
    let mut by_member: BTreeMap<Arc<str>, Vec<TopicPartition>> = BTreeMap::new();
    for (member, mut partitions) in members.into_iter().zip(assigned) {
        partitions.sort_unstable();
        by_member.insert(Arc::clone(&member.member_id), partitions);
    }
    by_member
}

/// Indices into `members`, in their order, of who subscribes to each of `topics`; topics of nobody are left
/// out.
fn subscribers<'a>(
    members: &[&MemberSubscription],
    topics: &'a BTreeMap<Arc<str>, Vec<PartitionRacks>>,
) -> BTreeMap<&'a Arc<str>, Vec<usize>> {
    let mut subscribers: BTreeMap<&Arc<str>, Vec<usize>> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for topic in &member.topics {
            if let Some((topic, _)) = topics.get_key_value(topic) {
                let of_topic = subscribers.entry(topic).or_default();
                // A topic that a member names twice.
                if of_topic.last() != Some(&index) {
                    of_topic.push(index);
                }
            }
        }
    }
    subscribers
}

/// Whether racks can make a difference (Java's `useRackAwareAssignment`): members and replicas have racks in
/// common, and not every partition is in every rack.
fn racks_matter<'a>(
    members: impl IntoIterator<Item = &'a MemberSubscription>,
    partitions: impl Iterator<Item = &'a PartitionRacks> + Clone,
) -> bool {
    let of_members: BTreeSet<&Arc<str>> = members.into_iter().filter_map(MemberSubscription::rack).collect();
    if of_members.is_empty() {
        return false;
    }
    let all: BTreeSet<&Arc<str>> = partitions.clone().flatten().collect();
    let mut partitions = partitions;
    !of_members.is_disjoint(&all) && partitions.any(|racks| racks.len() < all.len())
}

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{MemberSubscription, PartitionRacks, subscribers};
use crate::types::TopicPartition;

/// Java's `RoundRobinAssignor`: the partitions of all topics in order go to the members in turn; a member
/// that does not subscribe to the topic is passed over and loses its turn.
pub(super) fn assign(
    members: &[&MemberSubscription],
    topics: &BTreeMap<Arc<str>, Vec<PartitionRacks>>,
) -> Vec<Vec<TopicPartition>> {
    let mut assigned = vec![Vec::new(); members.len()];
    let mut turn = 0;
    for (topic, subscribers) in subscribers(members, topics) {
        for partition in 0..topics[topic].len() {
            // The first subscriber whose turn has not passed, else the first of the next round.
            let at = subscribers.partition_point(|member| *member < turn);
            let member = subscribers.get(at).or_else(|| subscribers.first()).copied().unwrap_or(turn);
            assigned[member].push(TopicPartition::new(Arc::clone(topic), partition as i32));
            turn = (member + 1) % members.len();
        }
    }
    assigned
}

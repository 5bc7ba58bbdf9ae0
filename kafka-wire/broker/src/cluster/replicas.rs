//! Which nodes have a partition, and which of them leads it.

use super::Cluster;
use crate::journal::Entry;
use crate::setting::Setting;

impl Cluster {
    /// Makes `node` a partition's leader, in a new leader epoch. Says whether the partition is there.
    pub(crate) fn lead(&mut self, topic: &str, index: i32, node: i32) -> bool {
        let Some(partition) = self.topics.partition_mut(topic, index) else { return false };
        partition.leader = node;
        partition.leader_epoch += 1;
        let epoch = partition.leader_epoch;
        if !partition.replicas.contains(&node) {
            let mut replicas = partition.replicas.clone();
            replicas.push(node);
            self.set(Setting::Replicas { topic: topic.to_owned(), partition: index, replicas });
        }
        self.record(Entry::Leader { topic: topic.to_owned(), partition: index, leader: node, epoch });
        self.grow(topic, index);
        true
    }

    /// Puts a partition on these nodes, now or when reassignments are held no longer.
    pub(crate) fn reassign(&mut self, topic: &str, index: i32, replicas: Vec<i32>) {
        if self.holds_reassignments {
            let (topic, replicas) = (topic.to_owned(), Some(replicas));
            return self.set(Setting::Reassignment { topic, partition: index, replicas });
        }
        let Some(partition) = self.topics.partition(topic, index) else { return };
        let leader = partition.leader;
        self.set(Setting::Replicas { topic: topic.to_owned(), partition: index, replicas: replicas.clone() });
        if !replicas.contains(&leader) {
            let next = replicas.iter().copied().find(|&node| self.is_up(node));
            self.lead(topic, index, next.unwrap_or(replicas[0]));
        }
    }

    /// Gives up a reassignment that is held; says whether there was one.
    pub(crate) fn cancel_reassignment(&mut self, topic: &str, index: i32) -> bool {
        let is_there = self.reassignments.contains_key(&(topic.to_owned(), index));
        if is_there {
            self.set(Setting::Reassignment { topic: topic.to_owned(), partition: index, replicas: None });
        }
        is_there
    }

    /// Does what was held.
    pub(super) fn carry_out_reassignments(&mut self) {
        for ((topic, partition), replicas) in self.reassignments.clone() {
            self.cancel_reassignment(&topic, partition);
            self.reassign(&topic, partition, replicas);
        }
    }
}

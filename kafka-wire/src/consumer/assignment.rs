//! The partitions that are read, and which of them have to be looked at: the work is that of what changes,
//! not of what is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashMapExt as _};

use super::assigned::Assigned;
use crate::protocol::TopicRef;
use crate::types::{BrokerId, TopicId, TopicPartition};

/// See the module. Whoever takes a partition to change it marks it as touched; who has looked at all that
/// are touched takes the mark off.
#[derive(Debug)]
pub(super) struct Assignment {
    partitions: HashMap<TopicPartition, Assigned>,
    topics: HashMap<Arc<str>, TopicEntry>,
    names: HashMap<TopicId, Arc<str>>,
    /// Each once, and none that is gone.
    touched: BTreeSet<TopicPartition>,
    /// Those that wait for their topic to be found.
    unsettled: BTreeSet<TopicPartition>,
    /// When to look at whom, as [`rearm`](Self::rearm) last saw it.
    timers: BTreeSet<(Instant, TopicPartition)>,
    /// Taken away while a broker was asked for them.
    dropped: Vec<(BrokerId, TopicPartition)>,
}

#[derive(Debug, Default)]
struct TopicEntry {
    partitions: usize,
    id: Option<TopicId>,
}

impl Assignment {
    pub(super) fn new() -> Self {
        Self {
            partitions: HashMap::new(),
            topics: HashMap::new(),
            names: HashMap::new(),
            touched: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            timers: BTreeSet::new(),
            dropped: Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, partition: TopicPartition, assigned: Assigned) {
        self.remove(&partition);
        self.topics.entry(Arc::clone(&partition.topic)).or_default().partitions += 1;
        self.touched.insert(partition.clone());
        self.unsettled.insert(partition.clone());
        self.partitions.insert(partition, assigned);
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) -> Option<Assigned> {
        let removed = self.partitions.remove(partition)?;
        self.touched.remove(partition);
        self.unsettled.remove(partition);
        if let Some(at) = removed.timer {
            self.timers.remove(&(at, partition.clone()));
        }
        self.dropped.extend(removed.fetched_from.map(|broker| (broker, partition.clone())));
        if let Some(topic) = self.topics.get_mut(&partition.topic) {
            topic.partitions -= 1;
            if topic.partitions == 0
                && let Some(TopicEntry { id: Some(id), .. }) = self.topics.remove(&partition.topic)
            {
                self.names.remove(&id);
            }
        }
        Some(removed)
    }

    pub(super) fn get(&self, partition: &TopicPartition) -> Option<&Assigned> {
        self.partitions.get(partition)
    }

    /// To change it.
    pub(super) fn get_mut(&mut self, partition: &TopicPartition) -> Option<&mut Assigned> {
        let assigned = self.partitions.get_mut(partition)?;
        if !self.touched.contains(partition) {
            self.touched.insert(partition.clone());
        }
        Some(assigned)
    }

    /// All partitions, in order.
    pub(super) fn all(&self) -> Vec<TopicPartition> {
        let mut all: Vec<TopicPartition> = self.partitions.keys().cloned().collect();
        all.sort_unstable();
        all
    }

    /// Whether a partition of the topic is read.
    pub(super) fn has_topic(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    /// The topic that an answer names, if a partition of it is read.
    pub(super) fn topic_name(&self, topic: &TopicRef) -> Option<Arc<str>> {
        match topic {
            TopicRef::Name(name) => self.topics.get_key_value(&**name).map(|(name, _)| Arc::clone(name)),
            TopicRef::Id(id) => self.names.get(id).cloned(),
        }
    }

    /// The topic has this id now.
    pub(super) fn name_topic(&mut self, id: TopicId, topic: &Arc<str>) {
        let Some(entry) = self.topics.get_mut(topic).filter(|entry| entry.id != Some(id)) else { return };
        if let Some(old) = entry.id.replace(id) {
            self.names.remove(&old);
        }
        if id.is_some() {
            self.names.insert(id, Arc::clone(topic));
        }
    }

    /// Those that have changed, in order.
    pub(super) fn touched(&self) -> Vec<TopicPartition> {
        self.touched.iter().cloned().collect()
    }

    /// All that follows from the changes so far has been done.
    pub(super) fn untouch_all(&mut self) {
        self.touched.clear();
    }

    pub(super) fn take_dropped(&mut self) -> Vec<(BrokerId, TopicPartition)> {
        std::mem::take(&mut self.dropped)
    }

    /// Those that wait for their topic to be found, in order.
    pub(super) fn unsettled(&self) -> Vec<TopicPartition> {
        self.unsettled.iter().cloned().collect()
    }

    /// Whether the partition still waits for its topic is known anew.
    pub(super) fn settle(&mut self, partition: &TopicPartition) {
        let Some(assigned) = self.partitions.get(partition) else { return };
        if assigned.is_settled() {
            self.unsettled.remove(partition);
        } else if !self.unsettled.contains(partition) {
            self.unsettled.insert(partition.clone());
        }
    }

    /// Sets the clock of a partition anew, after a change.
    pub(super) fn rearm(&mut self, partition: &TopicPartition, patience: Duration) {
        let Some(assigned) = self.partitions.get_mut(partition) else { return };
        let next = assigned.poll_timeout(patience);
        if assigned.timer == next {
            return;
        }
        if let Some(at) = assigned.timer {
            self.timers.remove(&(at, partition.clone()));
        }
        assigned.timer = next;
        self.timers.extend(next.map(|at| (at, partition.clone())));
    }

    /// Touches those whose time has come.
    pub(super) fn fire(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, partition)) = self.timers.pop_first() else { return };
            if let Some(assigned) = self.get_mut(&partition) {
                assigned.timer = None;
            }
        }
    }

    /// When [`fire`](Self::fire) is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }
}

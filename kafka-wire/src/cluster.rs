//! What is known of the cluster: brokers, topics, leaders, coordinators. Layer 6.
//!
//! A cache and nothing else: it asks nobody. [`Core`](crate::engine::Core) asks and puts the answers in.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;

use crate::config::HostPort;
use crate::error::ErrorCode;
use crate::types::{BrokerId, LeaderEpoch, TopicId, TopicPartition};

/// A broker, as metadata names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its node id.
    pub id: BrokerId,
    /// Where its listener is, as it advertises it.
    pub address: HostPort,
    /// `broker.rack`.
    pub rack: Option<Arc<str>>,
}

/// A topic, as metadata last described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its identity; another one under the same name is another topic. [`TopicId::NONE`] before Kafka 2.8.
    pub id: TopicId,
    /// Whether it is one of Kafka's own (`__consumer_offsets` and the like).
    pub is_internal: bool,
    /// Its partitions, in order: number `i` at index `i`.
    pub partitions: Vec<Partition>,
}

/// A partition, as metadata last described it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    /// Who leads it; `None` during an election.
    pub leader: Option<BrokerId>,
    /// Which leadership this is; `None` where the broker does not say (before Kafka 2.1).
    pub leader_epoch: Option<LeaderEpoch>,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub in_sync_replicas: Vec<BrokerId>,
}

/// Which coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoordinatorKind {
    /// Of a group, by group id.
    Group,
    /// Of transactions, by transactional id.
    Transaction,
}

impl CoordinatorKind {
    /// `key_type` of FindCoordinator.
    pub(crate) fn to_wire(self) -> i8 {
        match self {
            Self::Group => 0,
            Self::Transaction => 1,
        }
    }
}

/// One topic of a metadata answer, before it is compared with what is known.
#[derive(Clone, Debug)]
pub(crate) struct TopicUpdate {
    pub(crate) name: Arc<str>,
    pub(crate) result: Result<Topic, ErrorCode>,
}

/// What is known of the cluster.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    id: Option<Arc<str>>,
    brokers: BTreeMap<BrokerId, Broker>,
    controller: Option<BrokerId>,
    topics: HashMap<Arc<str>, Topic>,
    /// Of the topics that have an id.
    names: HashMap<TopicId, Arc<str>>,
    errors: HashMap<Arc<str>, ErrorCode>,
    coordinators: HashMap<(CoordinatorKind, Arc<str>), BrokerId>,
    generation: u64,
}

impl Cluster {
    /// The cluster's id, once a broker has told it.
    pub fn id(&self) -> Option<&Arc<str>> {
        self.id.as_ref()
    }

    /// Rises with every change to what is known: who has seen a generation need not look again.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The brokers, by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Broker> {
        self.brokers.values()
    }

    /// The broker with this id.
    pub fn broker(&self, id: BrokerId) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// The broker that metadata names as the controller. With KRaft it is any broker that passes
    /// requests on.
    pub fn controller(&self) -> Option<BrokerId> {
        self.controller
    }

    /// The topic with this name, if it is watched and was found.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    /// The topics known, in no order.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Topic)> {
        self.topics.iter()
    }

    /// Why metadata last had no topic of this name: `UNKNOWN_TOPIC_OR_PARTITION`, or a refusal.
    pub fn topic_error(&self, name: &str) -> Option<ErrorCode> {
        self.errors.get(name).copied()
    }

    /// The name of the topic with this id.
    pub fn topic_name(&self, id: TopicId) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    /// The partition, if its topic is known and has it.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    /// Who leads the partition, and in which epoch.
    pub fn leader(&self, partition: &TopicPartition) -> Option<(BrokerId, Option<LeaderEpoch>)> {
        let known = self.partition(&partition.topic, partition.partition)?;
        Some((known.leader?, known.leader_epoch))
    }

    /// The coordinator, if it has been looked up.
    pub fn coordinator(&self, kind: CoordinatorKind, key: &Arc<str>) -> Option<BrokerId> {
        self.coordinators.get(&(kind, Arc::clone(key))).copied()
    }

    pub(crate) fn update_brokers(
        &mut self,
        id: Option<Arc<str>>,
        brokers: impl IntoIterator<Item = Broker>,
        controller: Option<BrokerId>,
    ) {
        let brokers: BTreeMap<BrokerId, Broker> =
            brokers.into_iter().map(|broker| (broker.id, broker)).collect();
        let controller = controller.filter(|id| brokers.contains_key(id));
        // An answer without brokers comes from one that has just started and knows nobody yet.
        if !brokers.is_empty() && (self.brokers != brokers || self.controller != controller) {
            self.brokers = brokers;
            self.controller = controller;
            self.generation += 1;
        }
        if id.is_some() && self.id != id {
            if let (Some(old), Some(new)) = (&self.id, &id) {
                tracing::warn!(%old, %new, "the bootstrap servers lead to another cluster now");
            }
            self.id = id;
            self.generation += 1;
        }
    }

    /// Puts in one broker of which something else than metadata told.
    pub(crate) fn add_broker(&mut self, broker: Broker) {
        if self.brokers.get(&broker.id) != Some(&broker) {
            self.brokers.insert(broker.id, broker);
            self.generation += 1;
        }
    }

    pub(crate) fn update_topic(&mut self, update: TopicUpdate) {
        let TopicUpdate { name, result } = update;
        match result {
            Ok(mut topic) => {
                self.errors.remove(&name);
                if let Some(known) = self.topics.get(&name) {
                    keep_newer_leaders(&mut topic, known);
                    if *known == topic {
                        return;
                    }
                }
                self.remove_topic(&name);
                if topic.id.is_some() {
                    self.names.insert(topic.id, Arc::clone(&name));
                }
                self.topics.insert(name, topic);
            }
            Err(code) => {
                // A retriable refusal says nothing about the topic, except that it does not exist.
                if !code.is_retriable() || code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                    self.remove_topic(&name);
                }
                if self.errors.insert(name, code) == Some(code) {
                    return;
                }
            }
        }
        self.generation += 1;
    }

    /// Whether it was there.
    fn remove_topic(&mut self, name: &str) -> bool {
        let removed = self.topics.remove(name);
        // A name whose id went over to another topic has lost it already.
        if let Some(topic) = &removed
            && self.names.get(&topic.id).is_some_and(|known| **known == *name)
        {
            self.names.remove(&topic.id);
        }
        removed.is_some()
    }

    /// What an answer of Produce or Fetch says about a leader (KIP-951). Older news is passed over.
    pub(crate) fn update_leader(
        &mut self,
        partition: &TopicPartition,
        leader: BrokerId,
        epoch: LeaderEpoch,
    ) -> bool {
        let Some(topic) = self.topics.get_mut(&partition.topic) else { return false };
        let index = usize::try_from(partition.partition).unwrap_or(usize::MAX);
        let Some(known) = topic.partitions.get_mut(index) else { return false };
        if known.leader_epoch.is_some_and(|known| known >= epoch) || !self.brokers.contains_key(&leader) {
            return false;
        }
        known.leader = Some(leader);
        known.leader_epoch = Some(epoch);
        self.generation += 1;
        true
    }

    pub(crate) fn forget_topic(&mut self, name: &str) {
        if self.remove_topic(name) | self.errors.remove(name).is_some() {
            self.generation += 1;
        }
    }

    pub(crate) fn set_coordinator(&mut self, kind: CoordinatorKind, key: Arc<str>, broker: BrokerId) {
        self.coordinators.insert((kind, key), broker);
        self.generation += 1;
    }

    pub(crate) fn forget_coordinator(&mut self, kind: CoordinatorKind, key: &Arc<str>) {
        self.coordinators.remove(&(kind, Arc::clone(key)));
    }

    /// The broker does not answer: whom it coordinates must be looked up again.
    pub(crate) fn forget_coordinators_on(&mut self, broker: BrokerId) {
        self.coordinators.retain(|_, coordinator| *coordinator != broker);
    }

    /// Forgets who the brokers are; the bootstrap servers are asked next (KIP-899).
    pub(crate) fn forget_brokers(&mut self) {
        self.brokers.clear();
        self.controller = None;
        self.coordinators.clear();
        self.generation += 1;
    }
}

/// Keeps what is known of a partition where the answer is from an earlier leadership: brokers learn of
/// elections at different times (KIP-320). Epochs of another topic id mean nothing.
fn keep_newer_leaders(topic: &mut Topic, known: &Topic) {
    if topic.id != known.id {
        return;
    }
    for (new, old) in topic.partitions.iter_mut().zip(&known.partitions) {
        if new.leader_epoch < old.leader_epoch && new.leader_epoch.is_some() {
            *new = old.clone();
        }
    }
    // Partitions are never taken away: a shorter list is older news.
    if let Some(missing) = known.partitions.get(topic.partitions.len()..) {
        topic.partitions.extend_from_slice(missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(id: i32) -> Broker {
        let address = HostPort { host: "h".to_owned(), port: 9000 + id as u16 };
        Broker { id: BrokerId(id), address, rack: None }
    }

    fn topic(id: u8, leaders: &[(i32, i32)]) -> TopicUpdate {
        let partitions = leaders.iter().map(|(leader, epoch)| Partition {
            leader: Some(BrokerId(*leader)),
            leader_epoch: LeaderEpoch::from_wire(*epoch),
            ..Partition::default()
        });
        let topic = Topic { id: TopicId([id; 16]), is_internal: false, partitions: partitions.collect() };
        TopicUpdate { name: "t".into(), result: Ok(topic) }
    }

    fn leader(cluster: &Cluster, partition: i32) -> Option<(i32, i32)> {
        let (leader, epoch) = cluster.leader(&TopicPartition::new("t", partition))?;
        Some((leader.0, LeaderEpoch::to_wire(epoch)))
    }

    #[test]
    fn an_older_leader_epoch_is_never_accepted() {
        let mut cluster = Cluster::default();
        cluster.update_topic(topic(1, &[(1, 5), (2, 5)]));
        let generation = cluster.generation();
        cluster.update_topic(topic(1, &[(3, 4), (3, 6)]));
        assert_eq!((leader(&cluster, 0), leader(&cluster, 1)), (Some((1, 5)), Some((3, 6))));
        assert!(cluster.generation() > generation);
    }

    #[test]
    fn another_topic_id_starts_afresh_whatever_its_epoch() {
        let mut cluster = Cluster::default();
        cluster.update_topic(topic(1, &[(1, 5), (2, 5)]));
        cluster.update_topic(topic(2, &[(3, 0)]));
        assert_eq!(leader(&cluster, 0), Some((3, 0)));
        let topic = cluster.topic("t").unwrap();
        assert_eq!((topic.id, topic.partitions.len()), (TopicId([2; 16]), 1));
        let name = |id| cluster.topic_name(TopicId([id; 16])).map(|name| &**name);
        assert_eq!((name(1), name(2)), (None, Some("t")));
    }

    #[test]
    fn an_answer_with_fewer_partitions_is_older_and_loses_none() {
        let mut cluster = Cluster::default();
        cluster.update_topic(topic(1, &[(1, 1), (2, 1), (3, 1)]));
        cluster.update_topic(topic(1, &[(1, 1)]));
        assert_eq!(leader(&cluster, 2), Some((3, 1)));
    }

    #[test]
    fn unknown_topics_disappear_and_unclear_ones_stay() {
        let mut cluster = Cluster::default();
        let refused = |code| TopicUpdate { name: "t".into(), result: Err(code) };
        cluster.update_topic(topic(1, &[(1, 1)]));
        cluster.update_topic(refused(ErrorCode::LEADER_NOT_AVAILABLE));
        assert!(cluster.topic("t").is_some());
        cluster.update_topic(refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        assert!(cluster.topic("t").is_none());
        assert_eq!(cluster.topic_error("t"), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        cluster.update_topic(topic(1, &[(1, 1)]));
        assert_eq!(cluster.topic_error("t"), None);
    }

    #[test]
    fn leader_hints_only_go_forward_and_only_to_known_brokers() {
        let mut cluster = Cluster::default();
        cluster.update_brokers(None, [broker(1), broker(2)], Some(BrokerId(9)));
        assert_eq!(cluster.controller(), None);
        cluster.update_topic(topic(1, &[(1, 5)]));
        let at = TopicPartition::new("t", 0);
        assert!(!cluster.update_leader(&at, BrokerId(2), LeaderEpoch(5)));
        assert!(!cluster.update_leader(&at, BrokerId(3), LeaderEpoch(6)));
        assert!(cluster.update_leader(&at, BrokerId(2), LeaderEpoch(6)));
        assert_eq!(leader(&cluster, 0), Some((2, 6)));
    }

    #[test]
    fn an_answer_without_brokers_is_passed_over() {
        let mut cluster = Cluster::default();
        cluster.update_brokers(Some("c".into()), [broker(1)], Some(BrokerId(1)));
        cluster.update_brokers(None, [], None);
        assert_eq!(cluster.brokers().len(), 1);
        assert_eq!((cluster.controller(), cluster.id().map(|id| &**id)), (Some(BrokerId(1)), Some("c")));
    }
}

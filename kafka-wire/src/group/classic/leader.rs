//! What the leader of a group does for it: divides the partitions, and notices when their number changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::cluster::Cluster;
use crate::config::Strategy;
use crate::engine::Core;
use crate::error::{ErrorCode, Result};
use crate::group::assignor::{self, MemberSubscription, PartitionRacks};
use crate::protocol::messages::join_group_response::JoinGroupResponseMember;
use crate::protocol::subscription::{AssignmentData, SubscriptionData};

/// How long the others are kept waiting for metadata of a topic. What is still not known then is divided when it
/// is.
const METADATA_PATIENCE: Duration = Duration::from_secs(5);
/// How long a topic must be gone until that is believed: a broker that has just started knows little.
const MISSING_TOPIC_PATIENCE: Duration = Duration::from_secs(10);

/// Each member's share, in bytes.
pub(super) type Assignments = Vec<(Arc<str>, Bytes)>;

#[derive(Debug)]
pub(super) struct Leader {
    strategy: Strategy,
    members: Vec<MemberSubscription>,
    topics: BTreeSet<Arc<str>>,
    give_up_at: Instant,
    /// How many partitions were divided, by topic.
    divided: BTreeMap<Arc<str>, usize>,
    /// Of the cluster, when it was last compared with that.
    seen_generation: u64,
    missing_since: Option<Instant>,
}

impl Leader {
    /// Of the members that the coordinator names.
    pub(super) fn new(
        now: Instant,
        strategy: Strategy,
        members: Vec<JoinGroupResponseMember>,
        core: &mut Core,
    ) -> Self {
        let members: Vec<MemberSubscription> = members.into_iter().map(subscription).collect();
        let topics: BTreeSet<Arc<str>> = members.iter().flat_map(|member| &member.topics).cloned().collect();
        core.watch_topics(now, topics.iter().cloned());
        Self {
            strategy,
            members,
            topics,
            give_up_at: now + METADATA_PATIENCE,
            divided: BTreeMap::new(),
            seen_generation: 0,
            missing_since: None,
        }
    }

    pub(super) fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// All that its members are subscribed to.
    pub(super) fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| &**topic)
    }

    pub(super) fn watches(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// Until when [`divide`](Self::divide) may have to wait.
    pub(super) fn give_up_at(&self) -> Instant {
        self.give_up_at
    }

    /// Everybody's share, once metadata of all topics is known.
    pub(super) fn divide(&mut self, now: Instant, core: &Core) -> Option<Result<Assignments>> {
        if now < self.give_up_at && !self.topics.iter().all(|topic| is_settled(core.cluster(), topic)) {
            return None;
        }
        self.note_partitions(core.cluster());
        let topics = partitions_with_racks(core.cluster(), &self.topics);
        let assignments = assignor::assign(self.strategy, &self.members, &topics);
        let encoded = assignments.into_iter().map(|(member, partitions)| {
            Ok((member, AssignmentData { partitions, user_data: None }.encode()?))
        });
        Some(encoded.collect())
    }

    /// As if it had divided what there is: the coordinator keeps the assignment (KIP-814).
    pub(super) fn note_partitions(&mut self, cluster: &Cluster) {
        self.divided = counts(cluster, &self.topics);
        self.seen_generation = cluster.generation();
        self.missing_since = None;
    }

    /// Whether there are other partitions now than were divided. Where they are does not matter: a broker that
    /// restarts must not make the group rebalance.
    pub(super) fn is_outdated(&mut self, now: Instant, cluster: &Cluster) -> bool {
        if self.seen_generation != cluster.generation() {
            self.seen_generation = cluster.generation();
            let current = counts(cluster, &self.topics);
            if current
                .iter()
                .any(|(topic, count)| self.divided.get(topic).is_none_or(|before| count > before))
            {
                return true;
            }
            let is_missing = self.divided.keys().any(|topic| !current.contains_key(topic));
            self.missing_since = is_missing.then(|| self.missing_since.unwrap_or(now));
        }
        self.missing_since.is_some_and(|since| now >= since + MISSING_TOPIC_PATIENCE)
    }

    /// When [`is_outdated`](Self::is_outdated) changes without anything else happening.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.missing_since.map(|since| since + MISSING_TOPIC_PATIENCE)
    }
}

/// One that cannot be read is a subscription to nothing: the others must not suffer from it.
fn subscription(member: JoinGroupResponseMember) -> MemberSubscription {
    let subscription = SubscriptionData::decode(&member.metadata).unwrap_or_else(|error| {
        tracing::warn!(member = %member.member_id, %error, "a member of the group gets no partitions");
        SubscriptionData::default()
    });
    MemberSubscription {
        member_id: Arc::from(member.member_id.as_str()),
        instance_id: member.group_instance_id.map(|id| Arc::from(id.as_str())),
        rack: subscription.rack,
        topics: subscription.topics,
        owned: subscription.owned,
        generation: subscription.generation,
        user_data: subscription.user_data,
    }
}

/// Whether asking again is not likely to tell more of the topic.
fn is_settled(cluster: &Cluster, topic: &str) -> bool {
    cluster.topic(topic).is_some()
        || cluster
            .topic_error(topic)
            .is_some_and(|code| !code.is_retriable() || code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

fn counts(cluster: &Cluster, topics: &BTreeSet<Arc<str>>) -> BTreeMap<Arc<str>, usize> {
    let known = |topic: &Arc<str>| Some((Arc::clone(topic), cluster.topic(topic)?.partitions.len()));
    topics.iter().filter_map(known).collect()
}

fn partitions_with_racks(
    cluster: &Cluster,
    topics: &BTreeSet<Arc<str>>,
) -> BTreeMap<Arc<str>, Vec<PartitionRacks>> {
    let rack = |broker| cluster.broker(broker).and_then(|broker| broker.rack.clone());
    let known = topics.iter().filter_map(|topic| {
        let partitions = &cluster.topic(topic)?.partitions;
        let racks =
            partitions.iter().map(|partition| partition.replicas.iter().copied().filter_map(rack).collect());
        Some((Arc::clone(topic), racks.collect()))
    });
    known.collect()
}

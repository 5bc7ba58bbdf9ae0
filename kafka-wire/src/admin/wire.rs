//! What the operations' requests and answers have in common.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Outcome, Outcomes, Refusal, Unknown};
use crate::cluster::{Cluster, CoordinatorKind};
use crate::engine::{Lane, Target};
use crate::error::ErrorCode;
use crate::protocol::messages::{self, StrBytes, TopicName};
use crate::types::{BrokerId, TopicPartition};

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

pub(super) fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

/// Numbers that are −1 on the wire where there is none.
pub(super) fn known(number: i64) -> Option<i64> {
    Some(number).filter(|number| *number >= 0)
}

pub(super) fn brokers(ids: Vec<messages::BrokerId>) -> Vec<BrokerId> {
    ids.into_iter().map(|id| BrokerId(id.0)).collect()
}

pub(super) fn broker_ids(brokers: &[BrokerId]) -> Vec<messages::BrokerId> {
    brokers.iter().map(|broker| messages::BrokerId(broker.0)).collect()
}

/// What a broker says about one thing: a code, and perhaps why.
pub(super) fn outcome<T>(code: i16, message: Option<StrBytes>, output: T) -> Outcome<T> {
    match refusal(code, message) {
        None => Ok(output),
        Some(refusal) => Err(refusal),
    }
}

/// The refusal in an answer's code and message; `None` where the code is 0.
pub(super) fn refusal(code: i16, message: Option<StrBytes>) -> Option<Refusal> {
    let code = ErrorCode::from_wire(code)?;
    Some(Refusal { code, message: message.map(|text| text.to_string()) })
}

/// One outcome for all that was asked about.
pub(super) fn all<K: Clone, I, T: Clone>(items: &[(K, I)], outcome: &Outcome<T>) -> Outcomes<K, T> {
    items.iter().map(|(key, _)| (key.clone(), outcome.clone())).collect()
}

/// The outcome of the one thing that was asked about.
pub(super) fn one<K: Clone, I, T>(items: &[(K, I)], outcome: Outcome<T>) -> Outcomes<K, T> {
    items.iter().map(|(key, _)| key.clone()).zip([outcome]).collect()
}

/// What is asked about partitions, by topic.
pub(super) fn by_topic<T>(items: &[(TopicPartition, T)]) -> BTreeMap<&str, Vec<(i32, &T)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, &T)>> = BTreeMap::new();
    for (key, item) in items {
        topics.entry(&key.topic).or_default().push((key.partition, item));
    }
    topics
}

/// Partition numbers by topic.
pub(super) fn numbers_by_topic<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> BTreeMap<&'a str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    topics
}

/// What an answer says about the partitions of topics, one after the other.
pub(super) fn flatten<P, T>(
    topics: impl IntoIterator<Item = (TopicName, Vec<P>)>,
    mut read: impl FnMut(P) -> (i32, T),
) -> Vec<(TopicPartition, T)> {
    let mut all = Vec::new();
    for (topic, partitions) in topics {
        let topic: Arc<str> = Arc::from(topic.as_str());
        all.extend(partitions.into_iter().map(|partition| {
            let (number, value) = read(partition);
            (TopicPartition::new(Arc::clone(&topic), number), value)
        }));
    }
    all
}

/// The leader of a partition as a target.
pub(super) fn leader(key: &TopicPartition, cluster: &Cluster) -> Result<Target, Unknown> {
    match (cluster.topic(&key.topic), cluster.leader(key)) {
        (_, Some((id, _))) => Ok(broker(id)),
        (Some(topic), None) if usize::try_from(key.partition).is_ok_and(|i| i < topic.partitions.len()) => {
            Err(Unknown::Yet)
        }
        (Some(_), None) => Err(Unknown::Partition),
        (None, None) => Err(cluster.topic_error(&key.topic).map_or(Unknown::Yet, Unknown::Topic)),
    }
}

pub(super) fn broker(id: BrokerId) -> Target {
    Target::Broker { id, lane: Lane::Control }
}

pub(super) fn group_coordinator(group_id: &str) -> Target {
    Target::Coordinator { kind: CoordinatorKind::Group, key: Arc::from(group_id) }
}

pub(super) fn transaction_coordinator(transactional_id: &str) -> Target {
    Target::Coordinator { kind: CoordinatorKind::Transaction, key: Arc::from(transactional_id) }
}

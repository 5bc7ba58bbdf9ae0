//! The folders that brokers keep partitions in (KIP-113).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::wire::{all, broker, flatten, numbers_by_topic, one, outcome, text, topic_name};
use super::{Key, Operation, Outcomes, Refusal, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::{ErrorCode, Result};
use crate::protocol::log_dirs::{DescribedLogDir, DescribedReplica, decode_log_dirs};
use crate::protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use crate::protocol::messages::describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest};
use crate::protocol::request::{Plain, Request, Response};
use crate::types::{BrokerId, TopicPartition};

/// One replica of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Replica {
    /// Of which partition.
    pub partition: TopicPartition,
    /// On which broker.
    pub broker: BrokerId,
}

impl Replica {
    /// The replica of `partition` on `broker`.
    pub fn new(partition: TopicPartition, broker: BrokerId) -> Self {
        Self { partition, broker }
    }
}

impl Key for Replica {}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on broker {}", self.partition, self.broker)
    }
}

/// A folder of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogDir {
    /// Why it cannot be used, such as `KAFKA_STORAGE_ERROR`.
    pub error: Option<ErrorCode>,
    /// The size of the volume that it is on, from Kafka 3.3.
    pub total_bytes: Option<i64>,
    /// What is free of it, from Kafka 3.3.
    pub usable_bytes: Option<i64>,
    /// Whether it gets no new partitions (`cordoned.log.dirs`, KIP-1066, from Kafka 4.3).
    pub is_cordoned: bool,
    /// What is in it. A replica that is being moved is in two folders.
    pub replicas: BTreeMap<TopicPartition, LogDirReplica>,
}

/// A replica in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogDirReplica {
    /// The size of its segments.
    pub size_bytes: i64,
    /// How far it is behind: the high watermark, or the replica that it will replace.
    pub offset_lag: i64,
    /// Whether it is being moved here, and not in use yet.
    pub is_future: bool,
}

impl LogDir {
    fn read(described: DescribedLogDir) -> (String, Self) {
        let mut replicas = BTreeMap::new();
        for (topic, partitions) in described.topics {
            let topic: Arc<str> = Arc::from(topic.as_str());
            replicas.extend(partitions.into_iter().map(|replica| {
                let DescribedReplica { partition, size_bytes, offset_lag, is_future } = replica;
                let at = TopicPartition::new(Arc::clone(&topic), partition);
                (at, LogDirReplica { size_bytes, offset_lag, is_future })
            }));
        }
        let log_dir = Self {
            error: described.error,
            total_bytes: described.total_bytes,
            usable_bytes: described.usable_bytes,
            is_cordoned: described.is_cordoned,
            replicas,
        };
        (described.path.to_string(), log_dir)
    }
}

/// The folders of brokers, with what is in them.
pub(crate) struct DescribeLogDirs {
    /// Only these partitions; all with `None`.
    pub(crate) partitions: Option<Vec<TopicPartition>>,
}

impl Operation for DescribeLogDirs {
    type Key = BrokerId;
    type Item = ();
    type Output = BTreeMap<String, LogDir>;
    const ATTEMPT: &'static str = "describe the log directories of broker";

    fn target(&self, key: &BrokerId, _: &Cluster) -> Result<Target, Unknown> {
        Ok(broker(*key))
    }

    fn request(&self, _: &[(BrokerId, ())], _: Duration) -> Box<dyn Request> {
        let topics = self.partitions.as_ref().map(|partitions| {
            let topics = numbers_by_topic(partitions).into_iter().map(|(topic, numbers)| {
                DescribableLogDirTopic::default().with_topic(topic_name(topic)).with_partitions(numbers)
            });
            topics.collect()
        });
        Box::new(Plain::in_versions(DescribeLogDirsRequest::default().with_topics(topics), 1..=5))
    }

    fn read(&self, items: &[(BrokerId, ())], response: Response) -> Result<Outcomes<BrokerId, Self::Output>> {
        let (error, folders) = decode_log_dirs(&response)?;
        let folders = folders.into_iter().map(LogDir::read).collect();
        let refused = error.map(|code| Err(Refusal { code, message: None }));
        Ok(one(items, refused.unwrap_or(Ok(folders))))
    }
}

/// Moves replicas into other folders of their brokers.
pub(crate) struct AlterReplicaLogDirs;

impl Operation for AlterReplicaLogDirs {
    type Key = Replica;
    /// Into which folder.
    type Item = String;
    type Output = ();
    const ATTEMPT: &'static str = "move the replica of";

    fn target(&self, key: &Replica, _: &Cluster) -> Result<Target, Unknown> {
        Ok(broker(key.broker))
    }

    fn request(&self, items: &[(Replica, String)], _: Duration) -> Box<dyn Request> {
        let mut folders: BTreeMap<&str, Vec<&TopicPartition>> = BTreeMap::new();
        for (replica, folder) in items {
            folders.entry(folder).or_default().push(&replica.partition);
        }
        let folders = folders.into_iter().map(|(folder, partitions)| {
            let topics = numbers_by_topic(partitions).into_iter().map(|(topic, numbers)| {
                AlterReplicaLogDirTopic::default().with_name(topic_name(topic)).with_partitions(numbers)
            });
            AlterReplicaLogDir::default().with_path(text(folder)).with_topics(topics.collect())
        });
        Box::new(Plain::new(AlterReplicaLogDirsRequest::default().with_dirs(folders.collect())))
    }

    fn read(&self, items: &[(Replica, String)], response: Response) -> Result<Outcomes<Replica, ()>> {
        let answer = response.decode::<AlterReplicaLogDirsRequest>()?;
        let Some((first, _)) = items.first() else { return Ok(all(items, &Ok(()))) };
        let topics = answer.results.into_iter().map(|topic| (topic.topic_name, topic.partitions));
        let moved =
            flatten(topics, |partition| (partition.partition_index, outcome(partition.error_code, None, ())));
        // All that is asked in one request is of one broker.
        Ok(moved.into_iter().map(|(at, outcome)| (Replica::new(at, first.broker), outcome)).collect())
    }
}

//! The handle for administration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::driver::{DriverHandle, now, spawn};
use super::signal::{Mailbox, Signal};
use crate::admin::cluster::{ClusterDescription, DescribeCluster, Whole, only};
use crate::admin::configs::{AlterConfigs, ConfigChange, ConfigEntry, DescribeConfigs};
use crate::admin::groups::{
    DescribeGroups, GroupDescription, GroupListing, ListCommittedOffsets, ListGroups,
};
use crate::admin::records::{DeleteRecords, ListOffsets};
use crate::admin::topics::{
    CreatePartitions, CreateTopics, DeleteTopics, DescribeTopics, ListTopics, NewTopic,
};
use crate::admin::{AdminRole, Batch, Command, Operation};
use crate::cluster::Topic;
use crate::config::{ClientConfig, Properties};
use crate::error::Result;
use crate::types::{CommittedOffset, Isolation, ListedOffset, OffsetSpec, TopicPartition};

/// Outcomes by what was asked about, in no order; each may fail on its own.
pub type Results<K, T> = Vec<(K, Result<T>)>;

/// Administration of a cluster.
///
/// Cheap to clone; the last clone's drop ends its thread and connections. Every call works from any
/// thread and under any async runtime, takes at most `default.api.timeout.ms`, and repeats by itself what
/// fails in passing.
///
/// # Cancel safety
/// Dropping a call's future does not take the operation back: it may or may not be carried out.
#[derive(Clone, Debug)]
pub struct Admin {
    mailbox: Mailbox<Command>,
    config: Arc<ClientConfig>,
    _driver: Arc<DriverHandle>,
}

impl Admin {
    /// An admin client; connects when it is first used.
    ///
    /// # Errors
    /// `Config`, or `Unsupported`, for settings that cannot work.
    pub fn new(config: ClientConfig) -> Result<Self> {
        let signal = Arc::new(Signal::default());
        let (mailbox, feed) = Mailbox::new(Arc::clone(&signal));
        let driver = spawn("kafka-admin", &config, AdminRole::new(), feed, signal)?;
        Ok(Self { mailbox, config: Arc::new(config), _driver: Arc::new(driver) })
    }

    /// An admin client by Java property names.
    ///
    /// # Errors
    /// As [`ClientConfig::from_properties`] and [`Admin::new`].
    pub fn from_properties(properties: &Properties) -> Result<Self> {
        Self::new(ClientConfig::from_properties(properties)?)
    }

    async fn run<O: Operation>(
        &self,
        operation: O,
        items: Vec<(O::Key, O::Item)>,
    ) -> Result<Results<O::Key, O::Output>> {
        let (now, timeout): (Instant, _) = (now(), self.config.default_api_timeout);
        self.mailbox
            .ask(|reply| Command::Run(Box::new(Batch::new(now, timeout, operation, items, reply))))
            .await
    }

    /// Creates topics.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own, such as `TOPIC_ALREADY_EXISTS`.
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Results<String, ()>> {
        let items = topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        self.run(CreateTopics, items).await
    }

    /// Deletes topics with all their records.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own.
    pub async fn delete_topics<T: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, ()>> {
        self.run(DeleteTopics, keys(topics)).await
    }

    /// Adds partitions, so that each topic has as many as is said.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own, such as `INVALID_PARTITIONS` when it
    /// has as many or more.
    pub async fn create_partitions<T: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = (T, i32)>,
    ) -> Result<Results<String, ()>> {
        let items = topics.into_iter().map(|(topic, count)| (topic.into(), count)).collect();
        self.run(CreatePartitions, items).await
    }

    /// All topics that this client may see, with their partitions; Kafka's own are among them.
    ///
    /// # Errors
    /// When no broker answers in time.
    pub async fn list_topics(&self) -> Result<BTreeMap<String, Topic>> {
        only(self.run(ListTopics, vec![(Whole, ())]).await?)
    }

    /// Topics by name, with their partitions.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own, such as `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn describe_topics<T: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, Topic>> {
        self.run(DescribeTopics, keys(topics)).await
    }

    /// The configurations of topics, defaults included.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own.
    pub async fn describe_configs<T: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, Vec<ConfigEntry>>> {
        self.run(DescribeConfigs, keys(topics)).await
    }

    /// Changes single configurations of topics, and leaves the others.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own, such as `INVALID_CONFIG`.
    pub async fn incremental_alter_configs<T: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = (T, Vec<ConfigChange>)>,
    ) -> Result<Results<String, ()>> {
        let items = topics.into_iter().map(|(topic, changes)| (topic.into(), changes)).collect();
        self.run(AlterConfigs, items).await
    }

    /// Deletes the records before an offset of each partition, or all with `None`; the answer is the first
    /// offset that is left.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each partition has its own, such as `OFFSET_OUT_OF_RANGE`.
    pub async fn delete_records(
        &self,
        partitions: impl IntoIterator<Item = (TopicPartition, Option<i64>)>,
    ) -> Result<Results<TopicPartition, i64>> {
        self.run(DeleteRecords, partitions.into_iter().collect()).await
    }

    /// Offsets of partitions by place or time. `isolation` decides what the latest is: the high watermark,
    /// or the last stable offset.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each partition has its own.
    pub async fn list_offsets(
        &self,
        partitions: impl IntoIterator<Item = (TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> Result<Results<TopicPartition, ListedOffset>> {
        self.run(ListOffsets { isolation }, partitions.into_iter().collect()).await
    }

    /// The cluster's id, controller and brokers.
    ///
    /// # Errors
    /// When no broker answers in time.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription> {
        only(self.run(DescribeCluster, vec![(Whole, ())]).await?)
    }

    /// The groups of all brokers, by id.
    ///
    /// # Errors
    /// When a broker does not answer in time: a list that may lack some would mislead.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>> {
        let cluster = self.describe_cluster().await?;
        let brokers = cluster.brokers.into_iter().map(|broker| (broker.id, ())).collect();
        let mut groups = Vec::new();
        for (_, listed) in self.run(ListGroups, brokers).await? {
            groups.extend(listed?);
        }
        groups.sort();
        groups.dedup();
        Ok(groups)
    }

    /// Groups of the classic protocol by id; one that does not exist has the state `Dead` (before Kafka
    /// 4.0) or is an error.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each group has its own, such as `GROUP_ID_NOT_FOUND`.
    pub async fn describe_groups<T: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, GroupDescription>> {
        self.run(DescribeGroups, keys(groups)).await
    }

    /// The offsets that a group has committed; none for a group that there is not. Offsets of a
    /// transaction that is being committed are waited for.
    ///
    /// # Errors
    /// When the coordinator does not answer in time, or refuses.
    pub async fn list_committed_offsets(
        &self,
        group_id: impl Into<String>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>> {
        only(self.run(ListCommittedOffsets, vec![(group_id.into(), ())]).await?)
    }
}

fn keys<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Vec<(String, ())> {
    names.into_iter().map(|name| (name.into(), ())).collect()
}

//! Topics, their records and offsets.

use std::collections::BTreeMap;

use super::{Admin, Results, keys, pairs};
use crate::admin::cluster::Whole;
use crate::admin::cluster::only;
use crate::admin::records::{DeleteRecords, ListOffsets};
use crate::admin::topics::describe::{
    DescribeTopicIds, DescribeTopicPartitions, DescribeTopics, ListTopics, TopicDescription, append,
    not_mentioned,
};
use crate::admin::topics::{
    CreatePartitions, CreateTopics, CreatedTopic, DeleteTopicIds, DeleteTopics, NewPartitions, NewTopic,
};
use crate::cluster::Topic;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{Isolation, ListedOffset, OffsetSpec, TopicId, TopicPartition};

impl Admin {
    /// Creates topics, and tells what they have become.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own, such as `TOPIC_ALREADY_EXISTS`.
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Results<String, CreatedTopic>> {
        self.run(CreateTopics { validate_only: false }, by_name(topics)).await
    }

    /// Asks whether topics could be created, and what they would be; creates none.
    ///
    /// # Errors
    /// As [`Admin::create_topics`].
    pub async fn validate_new_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Results<String, CreatedTopic>> {
        self.run(CreateTopics { validate_only: true }, by_name(topics)).await
    }

    /// Deletes topics with all their records.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own.
    pub async fn delete_topics<T: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, ()>> {
        self.run(DeleteTopics, names(topics)).await
    }

    /// Deletes topics by id: never one that was created anew under the same name (KIP-516, from Kafka 2.8).
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own, such as `UNKNOWN_TOPIC_ID`.
    pub async fn delete_topics_by_id(
        &self,
        topics: impl IntoIterator<Item = TopicId>,
    ) -> Result<Results<TopicId, ()>> {
        self.run(DeleteTopicIds, keys(topics)).await
    }

    /// Adds partitions, so that each topic has as many as is said: a number, or a [`NewPartitions`] that also
    /// says where they are to be.
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own, such as `INVALID_PARTITIONS` when it
    /// has as many or more.
    pub async fn create_partitions<T: Into<String>, P: Into<NewPartitions>>(
        &self,
        topics: impl IntoIterator<Item = (T, P)>,
    ) -> Result<Results<String, ()>> {
        self.run(CreatePartitions { validate_only: false }, named(topics)).await
    }

    /// Asks whether partitions could be added; adds none.
    ///
    /// # Errors
    /// As [`Admin::create_partitions`].
    pub async fn validate_new_partitions<T: Into<String>, P: Into<NewPartitions>>(
        &self,
        topics: impl IntoIterator<Item = (T, P)>,
    ) -> Result<Results<String, ()>> {
        self.run(CreatePartitions { validate_only: true }, named(topics)).await
    }

    /// All topics that this client may see, with their partitions; Kafka's own are among them.
    ///
    /// # Errors
    /// When no broker answers in time.
    pub async fn list_topics(&self) -> Result<BTreeMap<String, Topic>> {
        self.ask(ListTopics).await
    }

    /// Topics by name, with their partitions. Brokers from Kafka 4.0 are asked in pages, so that an answer
    /// stays small, and tell which replicas may lead (KIP-966).
    ///
    /// # Errors
    /// For the call as a whole `Closed`, or when no broker answers in time; each topic has its own, such as
    /// `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn describe_topics<T: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<Results<String, TopicDescription>> {
        let topics: Vec<String> = topics.into_iter().map(Into::into).collect();
        // To ask about none would be to ask about all.
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        match self.describe_by_page(topics.clone()).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let authorized_operations = self.authorized_operations;
                self.run(DescribeTopics { authorized_operations }, keys(topics)).await
            }
            described => described,
        }
    }

    async fn describe_by_page(&self, topics: Vec<String>) -> Result<Results<String, TopicDescription>> {
        let mut described = BTreeMap::new();
        let mut next = None;
        loop {
            let operation = DescribeTopicPartitions { topics: topics.clone() };
            let page = only(self.run(operation, vec![(Whole, next)]).await?)?;
            let is_more = append(&mut described, page.topics);
            next = page.next;
            if next.is_none() {
                break;
            }
            if !is_more {
                let text = "describe topics: the broker promises more partitions, and sends none";
                return Err(Error::new(ErrorKind::Protocol, text));
            }
        }
        let result = |name: String| {
            let refused = |refusal: crate::admin::Refusal| {
                Error::broker(refusal.code, format!("describe topic {name}"))
            };
            let outcome = described.remove(&name).unwrap_or_else(|| Err(not_mentioned()));
            let result = outcome.map_err(refused);
            (name, result)
        };
        Ok(topics.into_iter().map(result).collect())
    }

    /// Topics by id, with their partitions (from Kafka 3.1).
    ///
    /// # Errors
    /// For the call as a whole only `Closed`; each topic has its own, such as `UNKNOWN_TOPIC_ID`.
    pub async fn describe_topics_by_id(
        &self,
        topics: impl IntoIterator<Item = TopicId>,
    ) -> Result<Results<TopicId, TopicDescription>> {
        let authorized_operations = self.authorized_operations;
        self.run(DescribeTopicIds(DescribeTopics { authorized_operations }), keys(topics)).await
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
        self.run(DeleteRecords, pairs(partitions)).await
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
        self.run(ListOffsets { isolation }, pairs(partitions)).await
    }
}

fn names<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Vec<(String, ())> {
    names.into_iter().map(|name| (name.into(), ())).collect()
}

fn by_name(topics: impl IntoIterator<Item = NewTopic>) -> Vec<(String, NewTopic)> {
    topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect()
}

fn named<T: Into<String>, P: Into<NewPartitions>>(
    topics: impl IntoIterator<Item = (T, P)>,
) -> Vec<(String, NewPartitions)> {
    topics.into_iter().map(|(topic, new)| (topic.into(), new.into())).collect()
}

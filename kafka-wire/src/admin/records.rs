//! Offsets of partitions, and the deletion of the records before one.

use std::time::Duration;

use super::wire::{by_topic, flatten, leader, millis, outcome, topic_name};
use super::{Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::Result;
use crate::protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use crate::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::protocol::request::{ByVersion, Plain, Request, Response};
use crate::types::{Isolation, LeaderEpoch, ListedOffset, OffsetSpec, TopicPartition};

pub(crate) struct ListOffsets {
    pub(crate) isolation: Isolation,
}

impl Operation for ListOffsets {
    type Key = TopicPartition;
    type Item = OffsetSpec;
    type Output = ListedOffset;
    const ATTEMPT: &'static str = "list an offset";
    const BY_LEADER: bool = true;

    fn target(&self, key: &TopicPartition, cluster: &Cluster) -> Result<Target, Unknown> {
        leader(key, cluster)
    }

    fn request(&self, items: &[(TopicPartition, OffsetSpec)], timeout: Duration) -> Box<dyn Request> {
        let topics = by_topic(items).into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, spec)| {
                ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(spec.to_wire())
            });
            ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect())
        });
        let request = ListOffsetsRequest::default()
            .with_replica_id(crate::protocol::messages::BrokerId(-1))
            .with_isolation_level(i8::from(self.isolation == Isolation::ReadCommitted))
            .with_topics(topics.collect());
        let from = items.iter().map(|(_, spec)| spec.first_version()).max().unwrap_or(2);
        Box::new(ByVersion::new(from..=11, move |version| {
            // How long the leader may wait for remote storage.
            let timeout = if version >= 10 { millis(timeout) } else { 0 };
            request.clone().with_timeout_ms(timeout)
        }))
    }

    fn read(
        &self,
        _: &[(TopicPartition, OffsetSpec)],
        response: Response,
    ) -> Result<Outcomes<TopicPartition, ListedOffset>> {
        let answer = response.decode::<ListOffsetsRequest>()?;
        let topics = answer.topics.into_iter().map(|topic| (topic.name, topic.partitions));
        Ok(flatten(topics, |partition| {
            let listed = ListedOffset {
                offset: Some(partition.offset).filter(|offset| *offset >= 0),
                timestamp_ms: Some(partition.timestamp).filter(|timestamp| *timestamp >= 0),
                leader_epoch: LeaderEpoch::from_wire(partition.leader_epoch),
            };
            (partition.partition_index, outcome(partition.error_code, None, listed))
        }))
    }
}

pub(crate) struct DeleteRecords;

impl Operation for DeleteRecords {
    type Key = TopicPartition;
    /// The first offset to be kept; `None` for the high watermark, so that all go.
    type Item = Option<i64>;
    /// The first offset that is kept.
    type Output = i64;
    const ATTEMPT: &'static str = "delete records";
    const BY_LEADER: bool = true;

    fn target(&self, key: &TopicPartition, cluster: &Cluster) -> Result<Target, Unknown> {
        leader(key, cluster)
    }

    fn request(&self, items: &[(TopicPartition, Option<i64>)], timeout: Duration) -> Box<dyn Request> {
        let topics = by_topic(items).into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, before)| {
                DeleteRecordsPartition::default()
                    .with_partition_index(partition)
                    .with_offset(before.unwrap_or(-1))
            });
            DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect())
        });
        let request = DeleteRecordsRequest::default().with_topics(topics.collect());
        Box::new(Plain::new(request.with_timeout_ms(millis(timeout))))
    }

    fn read(
        &self,
        _: &[(TopicPartition, Option<i64>)],
        response: Response,
    ) -> Result<Outcomes<TopicPartition, i64>> {
        let answer = response.decode::<DeleteRecordsRequest>()?;
        let topics = answer.topics.into_iter().map(|topic| (topic.name, topic.partitions));
        Ok(flatten(topics, |partition| {
            (partition.partition_index, outcome(partition.error_code, None, partition.low_watermark))
        }))
    }
}

//! Offsets of partitions, and the deletion of the records before one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::topics::{millis, outcome, topic_name};
use super::{Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::{Lane, Target};
use crate::error::Result;
use crate::protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use crate::protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use crate::protocol::request::{Plain, Request, Response};
use crate::types::{Isolation, LeaderEpoch, ListedOffset, OffsetSpec, TopicPartition};

/// The leader of a partition as a target.
pub(super) fn leader(key: &TopicPartition, cluster: &Cluster) -> Result<Target, Unknown> {
    match (cluster.topic(&key.topic), cluster.leader(key)) {
        (_, Some((id, _))) => Ok(Target::Broker { id, lane: Lane::Control }),
        (Some(topic), None) if usize::try_from(key.partition).is_ok_and(|i| i < topic.partitions.len()) => {
            Err(Unknown::Yet)
        }
        (Some(_), None) => Err(Unknown::Partition),
        (None, None) => Err(cluster.topic_error(&key.topic).map_or(Unknown::Yet, Unknown::Topic)),
    }
}

fn by_topic<T>(items: &[(TopicPartition, T)]) -> BTreeMap<&str, Vec<(i32, &T)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, &T)>> = BTreeMap::new();
    for (key, item) in items {
        topics.entry(&key.topic).or_default().push((key.partition, item));
    }
    topics
}

pub(crate) struct ListOffsets {
    pub(crate) isolation: Isolation,
}

impl Operation for ListOffsets {
    type Key = TopicPartition;
    type Item = OffsetSpec;
    type Output = ListedOffset;
    const ATTEMPT: &'static str = "list an offset";

    fn target(&self, key: &TopicPartition, cluster: &Cluster) -> Result<Target, Unknown> {
        leader(key, cluster)
    }

    fn request(&self, items: &[(TopicPartition, OffsetSpec)], _: Duration) -> Box<dyn Request> {
        let topics = by_topic(items).into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, spec)| {
                let timestamp = match spec {
                    OffsetSpec::Latest => -1,
                    OffsetSpec::Earliest => -2,
                    OffsetSpec::MaxTimestamp => -3,
                    OffsetSpec::Timestamp(timestamp_ms) => *timestamp_ms,
                };
                ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(timestamp)
            });
            ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect())
        });
        let request = ListOffsetsRequest::default()
            .with_replica_id(crate::protocol::messages::BrokerId(-1))
            .with_isolation_level(i8::from(self.isolation == Isolation::ReadCommitted))
            .with_topics(topics.collect());
        // From 2 there is the isolation level, from 7 the maximum of the timestamps.
        let newest_record = items.iter().any(|(_, spec)| *spec == OffsetSpec::MaxTimestamp);
        Box::new(Plain::in_versions(request, if newest_record { 7..=9 } else { 2..=9 }))
    }

    fn read(
        &self,
        items: &[(TopicPartition, OffsetSpec)],
        response: Response,
    ) -> Result<Outcomes<TopicPartition, ListedOffset>> {
        let answer = response.decode::<ListOffsetsRequest>()?;
        let mut outcomes = Vec::with_capacity(items.len());
        for topic in answer.topics {
            let name: Arc<str> = Arc::from(topic.name.as_str());
            for partition in topic.partitions {
                let listed = ListedOffset {
                    offset: Some(partition.offset).filter(|offset| *offset >= 0),
                    timestamp_ms: Some(partition.timestamp).filter(|timestamp| *timestamp >= 0),
                    leader_epoch: LeaderEpoch::from_wire(partition.leader_epoch),
                };
                let key = TopicPartition::new(Arc::clone(&name), partition.partition_index);
                outcomes.push((key, outcome(partition.error_code, None, listed)));
            }
        }
        Ok(outcomes)
    }

    fn topic(key: &TopicPartition) -> Option<Arc<str>> {
        Some(Arc::clone(&key.topic))
    }

    fn partition(key: &TopicPartition) -> Option<TopicPartition> {
        Some(key.clone())
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
        items: &[(TopicPartition, Option<i64>)],
        response: Response,
    ) -> Result<Outcomes<TopicPartition, i64>> {
        let answer = response.decode::<DeleteRecordsRequest>()?;
        let mut outcomes = Vec::with_capacity(items.len());
        for topic in answer.topics {
            let name: Arc<str> = Arc::from(topic.name.as_str());
            for partition in topic.partitions {
                let key = TopicPartition::new(Arc::clone(&name), partition.partition_index);
                outcomes.push((key, outcome(partition.error_code, None, partition.low_watermark)));
            }
        }
        Ok(outcomes)
    }

    fn topic(key: &TopicPartition) -> Option<Arc<str>> {
        Some(Arc::clone(&key.topic))
    }

    fn partition(key: &TopicPartition) -> Option<TopicPartition> {
        Some(key.clone())
    }
}

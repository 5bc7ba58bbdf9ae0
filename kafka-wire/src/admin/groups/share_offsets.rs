//! Where share groups begin to read (KIP-932): list, set, delete.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::admin::wire::{
    all, by_topic, flatten, group_coordinator, known, outcome, refusal, text, topic_name,
};
use crate::admin::{Operation, Outcome, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::Result;
use crate::protocol::messages::GroupId;
use crate::protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use crate::protocol::messages::delete_share_group_offsets_request::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequestTopic,
};
use crate::protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
};
use crate::protocol::request::{Plain, Request, Response};
use crate::types::{LeaderEpoch, TopicPartition};

/// Where a share group begins to read a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShareGroupOffset {
    /// The first offset that is not done with.
    pub start_offset: i64,
    /// The leader epoch that it was written in, where known.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// Where share groups begin to read, of all their partitions.
pub(crate) struct ListShareGroupOffsets;

impl Operation for ListShareGroupOffsets {
    type Key = String;
    type Item = ();
    type Output = BTreeMap<TopicPartition, ShareGroupOffset>;
    const ATTEMPT: &'static str = "read the offsets of share group";

    fn target(&self, key: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(group_coordinator(key))
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        let groups = items.iter().map(|(group, ())| {
            DescribeShareGroupOffsetsRequestGroup::default()
                .with_group_id(GroupId(text(group)))
                .with_topics(None)
        });
        Box::new(Plain::new(DescribeShareGroupOffsetsRequest::default().with_groups(groups.collect())))
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, Self::Output>> {
        let answer = response.decode::<DescribeShareGroupOffsetsRequest>()?;
        let outcomes = answer.groups.into_iter().map(|group| {
            let topics = group.topics.into_iter().map(|topic| (topic.topic_name, topic.partitions));
            let found = flatten(topics, |at| {
                let offset = known(at.start_offset).map(|start_offset| ShareGroupOffset {
                    start_offset,
                    leader_epoch: LeaderEpoch::from_wire(at.leader_epoch),
                });
                (at.partition_index, outcome(at.error_code, at.error_message, offset))
            });
            let offsets: Outcome<Vec<_>> = found
                .into_iter()
                .filter_map(|(partition, outcome)| match outcome {
                    Ok(offset) => offset.map(|offset| Ok((partition, offset))),
                    Err(refusal) => Some(Err(refusal)),
                })
                .collect();
            let offsets = offsets.map(|offsets| offsets.into_iter().collect());
            let refused = refusal(group.error_code, group.error_message);
            (group.group_id.to_string(), refused.map_or(offsets, Err))
        });
        Ok(outcomes.collect())
    }
}

/// Sets where a share group without members begins to read.
pub(crate) struct AlterShareGroupOffsets {
    pub(crate) group_id: String,
}

impl Operation for AlterShareGroupOffsets {
    type Key = TopicPartition;
    type Item = i64;
    type Output = ();
    const ATTEMPT: &'static str = "set a share group's offset";

    fn target(&self, _: &TopicPartition, _: &Cluster) -> Result<Target, Unknown> {
        Ok(group_coordinator(&self.group_id))
    }

    fn request(&self, items: &[(TopicPartition, i64)], _: Duration) -> Box<dyn Request> {
        let topics = by_topic(items).into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, offset)| {
                AlterShareGroupOffsetsRequestPartition::default()
                    .with_partition_index(partition)
                    .with_start_offset(*offset)
            });
            AlterShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic_name(topic))
                .with_partitions(partitions.collect())
        });
        let request = AlterShareGroupOffsetsRequest::default().with_topics(topics.collect());
        Box::new(Plain::new(request.with_group_id(GroupId(text(&self.group_id)))))
    }

    fn read(
        &self,
        items: &[(TopicPartition, i64)],
        response: Response,
    ) -> Result<Outcomes<TopicPartition, ()>> {
        let answer = response.decode::<AlterShareGroupOffsetsRequest>()?;
        if let Some(refusal) = refusal(answer.error_code, answer.error_message) {
            return Ok(all(items, &Err(refusal)));
        }
        let topics = answer.responses.into_iter().map(|topic| (topic.topic_name, topic.partitions));
        Ok(flatten(topics, |partition| {
            (partition.partition_index, outcome(partition.error_code, partition.error_message, ()))
        }))
    }

    fn partition(key: &TopicPartition) -> Option<TopicPartition> {
        Some(key.clone())
    }
}

/// Makes a share group without members forget topics.
pub(crate) struct DeleteShareGroupOffsets {
    pub(crate) group_id: String,
}

impl Operation for DeleteShareGroupOffsets {
    type Key = String;
    type Item = ();
    type Output = ();
    const ATTEMPT: &'static str = "delete a share group's offsets of topic";

    fn target(&self, _: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(group_coordinator(&self.group_id))
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        let topics = items.iter().map(|(topic, ())| {
            DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(topic_name(topic))
        });
        let request = DeleteShareGroupOffsetsRequest::default().with_topics(topics.collect());
        Box::new(Plain::new(request.with_group_id(GroupId(text(&self.group_id)))))
    }

    fn read(&self, items: &[(String, ())], response: Response) -> Result<Outcomes<String, ()>> {
        let answer = response.decode::<DeleteShareGroupOffsetsRequest>()?;
        if let Some(refusal) = refusal(answer.error_code, answer.error_message) {
            return Ok(all(items, &Err(refusal)));
        }
        let outcomes = answer
            .responses
            .into_iter()
            .map(|topic| (topic.topic_name.to_string(), outcome(topic.error_code, topic.error_message, ())));
        Ok(outcomes.collect())
    }
}

//! Where share groups begin to read (KIP-932): list, set, delete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::wire::{all, by_topic, flatten, group_coordinator, outcome, refusal, text, topic_name};
use crate::admin::{Operation, Outcome, Outcomes, Refusal, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::Result;
use crate::protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use crate::protocol::messages::delete_share_group_offsets_request::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequestTopic,
};
use crate::protocol::messages::{GroupId, StrBytes};
use crate::protocol::request::{Plain, Request, Response};
use crate::protocol::share_group_offsets::{self, DescribeShareGroupOffsetsRequest, ShareGroupOffsets};
use crate::types::{LeaderEpoch, TopicPartition};

/// Where a share group begins to read a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShareGroupOffset {
    /// The first offset that is not done with.
    pub start_offset: i64,
    /// The leader epoch that it was written in, where known.
    pub leader_epoch: Option<LeaderEpoch>,
    /// How many records the group is not done with (from Kafka 4.2), where that is known.
    pub lag: Option<i64>,
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
        let group_ids = items.iter().map(|(group, ())| group.clone()).collect();
        Box::new(DescribeShareGroupOffsetsRequest { group_ids })
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, Self::Output>> {
        let groups = share_group_offsets::decode_offsets(&response)?.into_iter();
        Ok(groups.map(|group| (group.group_id.to_string(), collect(group))).collect())
    }
}

/// The offsets that there are, or the first refusal: a list that may lack some would mislead.
fn collect(group: ShareGroupOffsets) -> Outcome<BTreeMap<TopicPartition, ShareGroupOffset>> {
    let refused =
        |code, message: Option<StrBytes>| Refusal { code, message: message.map(|text| text.to_string()) };
    if let Some(code) = group.error {
        return Err(refused(code, group.error_message));
    }
    let mut offsets = BTreeMap::new();
    for topic in group.topics {
        let name: Arc<str> = Arc::from(topic.name.as_str());
        for partition in topic.partitions {
            if let Some(code) = partition.error {
                return Err(refused(code, partition.error_message));
            }
            let Some(start_offset) = partition.start_offset else { continue };
            let (leader_epoch, lag) = (partition.leader_epoch, partition.lag);
            let offset = ShareGroupOffset { start_offset, leader_epoch, lag };
            offsets.insert(TopicPartition::new(Arc::clone(&name), partition.index), offset);
        }
    }
    Ok(offsets)
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

//! The offsets that groups have committed: list, set, delete.
//!
//! The newest versions of OffsetFetch and OffsetCommit (10) name topics by id only. Up to 9 they are named by
//! name, which is what is known here; every broker from 2.4 to 4.3 speaks one of those.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::admin::wire::{
    all, by_topic, flatten, group_coordinator, numbers_by_topic, one, outcome, refusal, text, topic_name,
};
use crate::admin::{Operation, Outcome, Outcomes, Refusal, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::{ErrorCode, Result};
use crate::protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::protocol::messages::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::protocol::messages::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestGroup};
use crate::protocol::messages::{GroupId, StrBytes};
use crate::protocol::request::{ByVersion, Plain, Request, Response};
use crate::types::{CommittedOffset, LeaderEpoch, TopicPartition};

/// The offsets that groups have committed, of all partitions.
pub(crate) struct ListCommittedOffsets {
    /// Whether offsets of a transaction that is being committed are waited for (KIP-447, from Kafka 2.5).
    pub(crate) require_stable: bool,
}

impl Operation for ListCommittedOffsets {
    type Key = String;
    type Item = ();
    type Output = BTreeMap<TopicPartition, CommittedOffset>;
    const ATTEMPT: &'static str = "read the committed offsets of group";

    fn target(&self, key: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(group_coordinator(key))
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        // One group has a coordinator of its own as target: there is exactly one item.
        let group = GroupId(items.first().map(|(group, ())| text(group)).unwrap_or_default());
        let require_stable = self.require_stable;
        // From version 8 several groups are asked about, in another field.
        Box::new(ByVersion::new(2..=9, move |version| {
            let request = OffsetFetchRequest::default().with_require_stable(require_stable && version >= 7);
            if version >= 8 {
                let group = OffsetFetchRequestGroup::default().with_group_id(group.clone()).with_topics(None);
                request.with_groups(vec![group])
            } else {
                request.with_group_id(group.clone()).with_topics(None)
            }
        }))
    }

    fn read(&self, items: &[(String, ())], response: Response) -> Result<Outcomes<String, Self::Output>> {
        let answer = response.decode::<OffsetFetchRequest>()?;
        let mut code = answer.error_code;
        let mut found =
            flatten(answer.topics.into_iter().map(|topic| (topic.name, topic.partitions)), |at| {
                let offset = committed(at.committed_offset, at.committed_leader_epoch, at.metadata);
                (at.partition_index, outcome(at.error_code, None, offset))
            });
        for group in answer.groups {
            code = if code == 0 { group.error_code } else { code };
            let topics = group.topics.into_iter().map(|topic| (topic.name, topic.partitions));
            found.extend(flatten(topics, |at| {
                let offset = committed(at.committed_offset, at.committed_leader_epoch, at.metadata);
                (at.partition_index, outcome(at.error_code, None, offset))
            }));
        }
        Ok(one(items, refusal(code, None).map_or_else(|| collect(found), Err)))
    }
}

/// −1 stands for no offset.
fn committed(offset: i64, leader_epoch: i32, metadata: Option<StrBytes>) -> Option<CommittedOffset> {
    (offset >= 0).then(|| CommittedOffset {
        offset,
        leader_epoch: LeaderEpoch::from_wire(leader_epoch),
        metadata: metadata.map(|text| text.to_string()).unwrap_or_default(),
    })
}

/// The offsets that there are, or the first refusal: a list that may lack some would mislead.
fn collect<T>(
    found: Vec<(TopicPartition, Outcome<Option<T>>)>,
) -> std::result::Result<BTreeMap<TopicPartition, T>, Refusal> {
    let mut offsets = BTreeMap::new();
    for (partition, outcome) in found {
        if let Some(offset) = outcome? {
            offsets.insert(partition, offset);
        }
    }
    Ok(offsets)
}

/// Sets offsets of a group that has no members.
pub(crate) struct AlterCommittedOffsets {
    pub(crate) group_id: String,
}

impl Operation for AlterCommittedOffsets {
    type Key = TopicPartition;
    type Item = CommittedOffset;
    type Output = ();
    const ATTEMPT: &'static str = "set a group's offset";

    fn target(&self, _: &TopicPartition, _: &Cluster) -> Result<Target, Unknown> {
        Ok(group_coordinator(&self.group_id))
    }

    fn request(&self, items: &[(TopicPartition, CommittedOffset)], _: Duration) -> Box<dyn Request> {
        let topics = by_topic(items).into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, offset)| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(partition)
                    .with_committed_offset(offset.offset)
                    .with_committed_leader_epoch(LeaderEpoch::to_wire(offset.leader_epoch))
                    .with_committed_metadata(Some(text(&offset.metadata)))
            });
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(partitions.collect())
        });
        // The generation −1 of no member: the coordinator takes it only while there is none.
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&self.group_id)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics.collect());
        Box::new(ByVersion::new(2..=9, move |version| {
            // The epoch is not asked for before version 6, nor the default retention after 4.
            let mut request = request.clone();
            if version < 6 {
                let partitions = request.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                partitions.for_each(|partition| partition.committed_leader_epoch = -1);
            }
            request
        }))
    }

    fn read(
        &self,
        _: &[(TopicPartition, CommittedOffset)],
        response: Response,
    ) -> Result<Outcomes<TopicPartition, ()>> {
        let answer = response.decode::<OffsetCommitRequest>()?;
        let topics = answer.topics.into_iter().map(|topic| (topic.name, topic.partitions));
        Ok(flatten(topics, |partition| {
            (partition.partition_index, outcome(partition.error_code, members_hint(partition.error_code), ()))
        }))
    }
}

/// How a coordinator says that a group has members is far from obvious.
fn members_hint(code: i16) -> Option<StrBytes> {
    let code = ErrorCode::from_wire(code)?;
    let is_active = matches!(
        code,
        ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION | ErrorCode::STALE_MEMBER_EPOCH
    );
    is_active.then(|| StrBytes::from_static_str("the group has members; stop them first"))
}

/// Deletes offsets of a group that does not read those topics.
pub(crate) struct DeleteCommittedOffsets {
    pub(crate) group_id: String,
}

impl Operation for DeleteCommittedOffsets {
    type Key = TopicPartition;
    type Item = ();
    type Output = ();
    const ATTEMPT: &'static str = "delete a group's offset";

    fn target(&self, _: &TopicPartition, _: &Cluster) -> Result<Target, Unknown> {
        Ok(group_coordinator(&self.group_id))
    }

    fn request(&self, items: &[(TopicPartition, ())], _: Duration) -> Box<dyn Request> {
        let topics =
            numbers_by_topic(items.iter().map(|(key, ())| key)).into_iter().map(|(topic, numbers)| {
                let partitions = numbers
                    .into_iter()
                    .map(|number| OffsetDeleteRequestPartition::default().with_partition_index(number));
                OffsetDeleteRequestTopic::default()
                    .with_name(topic_name(topic))
                    .with_partitions(partitions.collect())
            });
        let request = OffsetDeleteRequest::default().with_topics(topics.collect());
        Box::new(Plain::new(request.with_group_id(GroupId(text(&self.group_id)))))
    }

    fn read(
        &self,
        items: &[(TopicPartition, ())],
        response: Response,
    ) -> Result<Outcomes<TopicPartition, ()>> {
        let answer = response.decode::<OffsetDeleteRequest>()?;
        if let Some(refusal) = refusal(answer.error_code, None) {
            return Ok(all(items, &Err(refusal)));
        }
        let topics = answer.topics.into_iter().map(|topic| (topic.name, topic.partitions));
        Ok(flatten(topics, |partition| (partition.partition_index, outcome(partition.error_code, None, ()))))
    }
}

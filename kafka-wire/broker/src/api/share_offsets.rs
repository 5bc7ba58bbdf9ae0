//! DescribeShareGroupOffsets 0–1, AlterShareGroupOffsets 0, DeleteShareGroupOffsets 0 (KIP-932): from where on a
//! share group has something left to do, which is told at once, where Kafka tells what it has written down last.

use std::collections::{BTreeMap, BTreeSet};

use kafka_wire::protocol::messages::alter_share_group_offsets_response as altered;
use kafka_wire::protocol::messages::delete_share_group_offsets_response as deleted;
use kafka_wire::protocol::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse, DescribeShareGroupOffsetsRequest,
};
use kafka_wire::protocol::share_group_offsets::{
    ShareGroupOffsets, SharePartitionOffset, ShareTopicOffsets, encode_offsets,
};
use kafka_wire::{ErrorCode, LeaderEpoch, TopicId};

use super::{Answer, Context, text, uuid_of};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::{Cluster, GROUP};
use crate::error::{Failure, fail};
use crate::groups::Members;
use crate::shares::Key;
use crate::shares::partition::{Limits, SharePartition};

/// Whether the principal may do this with the group, and here.
fn may(cluster: &Cluster, context: &Context, operation: Operation, id: &str) -> Result<(), Failure> {
    context.authorize(operation, ResourceType::Group, id)?;
    cluster.check_coordinator(context, GROUP, id)
}

/// As [`may`], and whether it is a share group without members.
fn check(cluster: &Cluster, context: &Context, operation: Operation, id: &str) -> Result<(), Failure> {
    may(cluster, context, operation, id)?;
    match cluster.groups.get(id).map(|group| &group.members) {
        Some(Members::Share(group)) if !group.is_empty() => {
            fail(ErrorCode::NON_EMPTY_GROUP, format!("share group {id} has members: stop them first"))
        }
        Some(Members::Share(_)) => Ok(()),
        _ => fail(ErrorCode::GROUP_ID_NOT_FOUND, format!("share group {id} not found")),
    }
}

/// As [`check`], where a group that there is not begins to exist.
fn check_or_create(cluster: &mut Cluster, context: &Context, id: &str) -> Result<(), Failure> {
    if cluster.groups.get(id).is_none() {
        may(cluster, context, Operation::Read, id)?;
        cluster.groups.share(id, true)?;
    }
    check(cluster, context, Operation::Read, id)
}

pub(super) fn describe(
    cluster: &mut Cluster,
    context: &Context,
    request: DescribeShareGroupOffsetsRequest,
) -> Answer {
    let groups = request.groups.into_iter().map(|group| {
        let id = group.group_id.as_str();
        let refused = may(cluster, context, Operation::Describe, id).err();
        let wanted: Vec<(String, Vec<i32>)> = match group.topics {
            _ if refused.is_some() => Vec::new(),
            Some(topics) => {
                topics.into_iter().map(|topic| (topic.topic_name.to_string(), topic.partitions)).collect()
            }
            None => all_of(cluster, id),
        };
        let topics = wanted
            .into_iter()
            .map(|(name, partitions)| describe_topic(cluster, context, id, &name, partitions))
            .collect();
        let (error, error_message) = refused.map(|failure| (failure.code, text(failure.text))).unzip();
        ShareGroupOffsets { group_id: group.group_id.0.clone(), topics, error, error_message }
    });
    let groups: Vec<ShareGroupOffsets> = groups.collect();
    context.answer_with(|frame| encode_offsets(&groups, context.version, frame))
}

/// The partitions that a group has read, or that its members wanted to.
fn all_of(cluster: &Cluster, group: &str) -> Vec<(String, Vec<i32>)> {
    let mut all: BTreeMap<TopicId, BTreeSet<i32>> = BTreeMap::new();
    if let Some(Members::Share(members)) = cluster.groups.get(group).map(|group| &group.members) {
        all.extend(members.wanted_ever().map(|(topic, count)| (topic, (0..count).collect())));
    }
    for ((_, topic, index), _) in cluster.shares.of_group(group) {
        all.entry(*topic).or_default().insert(*index);
    }
    let named = all.into_iter().filter_map(|(topic, partitions)| {
        Some((cluster.topics.name_of(topic)?.to_string(), partitions.into_iter().collect()))
    });
    named.collect()
}

fn describe_topic(
    cluster: &Cluster,
    context: &Context,
    group: &str,
    name: &str,
    partitions: Vec<i32>,
) -> ShareTopicOffsets {
    let refused = context.authorize(Operation::Describe, ResourceType::Topic, name).err();
    let id = cluster.topics.get(name).map_or(TopicId::NONE, |topic| topic.id);
    let partitions = partitions.into_iter().map(|index| {
        let found = cluster.topics.partition(name, index);
        let unknown = found.is_none().then_some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let error = refused.or(unknown);
        let shared = cluster.shares.get(&(group.to_owned(), id, index)).filter(|_| error.is_none());
        SharePartitionOffset {
            index,
            start_offset: shared.map(SharePartition::start),
            leader_epoch: shared.map(|_| LeaderEpoch(0)),
            lag: shared.zip(found).map(|(shared, found)| shared.lag(found.log.end_offset())),
            error,
            error_message: error.map(|code| text(code.message())),
        }
    });
    ShareTopicOffsets { name: text(name), id, partitions: partitions.collect() }
}

pub(super) fn alter(
    cluster: &mut Cluster,
    context: &Context,
    request: AlterShareGroupOffsetsRequest,
) -> Answer {
    let group = request.group_id.as_str();
    let mut answer = AlterShareGroupOffsetsResponse::default();
    if let Err(failure) = check_or_create(cluster, context, group) {
        answer.error_code = failure.code.code();
        answer.error_message = Some(text(failure.text));
        return context.answer(&answer);
    }
    let limits = Limits {
        deliveries_max: cluster.group_number(group, "share.delivery.count.limit") as i16,
        records_max: cluster.group_number(group, "share.partition.max.record.locks") as usize,
    };
    for topic in request.topics {
        let refused = context.authorize(Operation::Read, ResourceType::Topic, &topic.topic_name).err();
        let id = cluster.topics.get(&topic.topic_name).map_or(TopicId::NONE, |topic| topic.id);
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let unknown = cluster.topics.partition(&topic.topic_name, index).is_none();
            let code = refused.or_else(|| unknown.then_some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
            if code.is_none() {
                let key: Key = (group.to_owned(), id, index);
                cluster
                    .shares
                    .insert(key.clone(), SharePartition::new(partition.start_offset.max(0), limits));
                cluster.save_share(&key);
            }
            altered::AlterShareGroupOffsetsResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code.map_or(0, ErrorCode::code))
                .with_error_message(code.map(|code| text(code.message())))
        });
        let partitions = partitions.collect();
        answer.responses.push(
            altered::AlterShareGroupOffsetsResponseTopic::default()
                .with_topic_name(topic.topic_name)
                .with_topic_id(uuid_of(id))
                .with_partitions(partitions),
        );
    }
    context.answer(&answer)
}

pub(super) fn delete(
    cluster: &mut Cluster,
    context: &Context,
    request: DeleteShareGroupOffsetsRequest,
) -> Answer {
    let group = request.group_id.as_str();
    let mut answer = DeleteShareGroupOffsetsResponse::default();
    if let Err(failure) = check(cluster, context, Operation::Delete, group) {
        answer.error_code = failure.code.code();
        answer.error_message = Some(text(failure.text));
        return context.answer(&answer);
    }
    for topic in request.topics {
        let refused = context.authorize(Operation::Read, ResourceType::Topic, &topic.topic_name).err();
        let found = cluster.topics.get(&topic.topic_name).map(|topic| topic.id);
        let code = refused.or_else(|| found.is_none().then_some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        let id = found.unwrap_or(TopicId::NONE);
        if code.is_none() {
            cluster.delete_shares(group, id);
        }
        answer.responses.push(
            deleted::DeleteShareGroupOffsetsResponseTopic::default()
                .with_topic_name(topic.topic_name)
                .with_topic_id(uuid_of(id))
                .with_error_code(code.map_or(0, ErrorCode::code))
                .with_error_message(code.map(|code| text(code.message()))),
        );
    }
    context.answer(&answer)
}

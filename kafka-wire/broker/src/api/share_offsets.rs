//! DescribeShareGroupOffsets 0, AlterShareGroupOffsets 0, DeleteShareGroupOffsets 0 (KIP-932): from where on a
//! share group has something left to do.

use kafka_wire::protocol::messages::alter_share_group_offsets_response as altered;
use kafka_wire::protocol::messages::delete_share_group_offsets_response as deleted;
use kafka_wire::protocol::messages::describe_share_group_offsets_response as described;
use kafka_wire::protocol::messages::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse, DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse,
};
use kafka_wire::{ErrorCode, TopicId};

use super::{Answer, Context, text, topic_name, uuid_of};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::{Cluster, GROUP};
use crate::error::{Failure, fail};
use crate::groups::Members;
use crate::shares::Key;
use crate::shares::partition::{Limits, SharePartition};

/// Where nothing was read yet.
const NONE: i64 = -1;

/// Whether there is such a share group, and the principal may do this with it.
fn check(cluster: &Cluster, context: &Context, operation: Operation, id: &str) -> Result<(), Failure> {
    context.authorize(operation, ResourceType::Group, id)?;
    cluster.check_coordinator(context, GROUP, id)?;
    match cluster.groups.get(id).map(|group| &group.members) {
        Some(Members::Share(group)) if operation != Operation::Describe && !group.is_empty() => {
            fail(ErrorCode::NON_EMPTY_GROUP, format!("share group {id} has members: stop them first"))
        }
        Some(Members::Share(_)) => Ok(()),
        _ => fail(ErrorCode::GROUP_ID_NOT_FOUND, format!("share group {id} not found")),
    }
}

pub(super) fn describe(
    cluster: &mut Cluster,
    context: &Context,
    request: DescribeShareGroupOffsetsRequest,
) -> Answer {
    let groups = request.groups.into_iter().map(|group| {
        let id = group.group_id.clone();
        let told = described::DescribeShareGroupOffsetsResponseGroup::default().with_group_id(id.clone());
        if let Err(failure) = check(cluster, context, Operation::Describe, &id) {
            let told = told.with_error_code(failure.code.code());
            return told.with_error_message(Some(text(failure.text)));
        }
        let wanted: Vec<(String, Vec<i32>)> = match group.topics {
            Some(topics) => {
                topics.into_iter().map(|topic| (topic.topic_name.to_string(), topic.partitions)).collect()
            }
            None => all_of(cluster, &id),
        };
        let topics = wanted
            .into_iter()
            .map(|(name, partitions)| describe_topic(cluster, context, &id, &name, partitions));
        told.with_topics(topics.collect())
    });
    let groups = groups.collect();
    context.answer(&DescribeShareGroupOffsetsResponse::default().with_groups(groups))
}

/// The partitions that a group has read.
fn all_of(cluster: &Cluster, group: &str) -> Vec<(String, Vec<i32>)> {
    let mut all: Vec<(String, Vec<i32>)> = Vec::new();
    for ((_, topic, index), _) in cluster.shares.of_group(group) {
        let Some(name) = cluster.topics.name_of(*topic) else { continue };
        match all.last_mut().filter(|(last, _)| **last == **name) {
            Some((_, partitions)) => partitions.push(*index),
            None => all.push((name.to_string(), vec![*index])),
        }
    }
    all
}

fn describe_topic(
    cluster: &Cluster,
    context: &Context,
    group: &str,
    name: &str,
    partitions: Vec<i32>,
) -> described::DescribeShareGroupOffsetsResponseTopic {
    let refused = context.authorize(Operation::Describe, ResourceType::Topic, name).err();
    let id = cluster.topics.get(name).map_or(TopicId::NONE, |topic| topic.id);
    let partitions = partitions.into_iter().map(|index| {
        let unknown = cluster.topics.partition(name, index).is_none();
        let code = refused.or_else(|| unknown.then_some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        let shared = cluster.shares.get(&(group.to_owned(), id, index)).filter(|_| code.is_none());
        described::DescribeShareGroupOffsetsResponsePartition::default()
            .with_partition_index(index)
            .with_start_offset(shared.map_or(NONE, SharePartition::start))
            .with_leader_epoch(if shared.is_some() { 0 } else { -1 })
            .with_error_code(code.map_or(0, ErrorCode::code))
            .with_error_message(code.map(|code| text(code.message())))
    });
    described::DescribeShareGroupOffsetsResponseTopic::default()
        .with_topic_name(topic_name(name))
        .with_topic_id(uuid_of(id))
        .with_partitions(partitions.collect())
}

pub(super) fn alter(
    cluster: &mut Cluster,
    context: &Context,
    request: AlterShareGroupOffsetsRequest,
) -> Answer {
    let group = request.group_id.as_str();
    let mut answer = AlterShareGroupOffsetsResponse::default();
    if let Err(failure) = check(cluster, context, Operation::Read, group) {
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

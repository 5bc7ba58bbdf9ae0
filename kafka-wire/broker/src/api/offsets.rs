//! OffsetCommit 2–9 and OffsetFetch 1–9.
//!
//! Offsets do not expire.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_wire::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_wire::protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};

use super::{Answer, Context, text, topic_name};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::{Cluster, GROUP};
use crate::error::Failure;
use crate::groups::classic::Identity;
use crate::groups::{CommittedOffset, Members};

/// `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;
/// From here on members of consumer groups say their epoch.
const KNOWS_EPOCHS_FROM: i16 = 9;
/// From here on a request asks for several groups.
const BATCHED_FROM: i16 = 8;

/// Judges one offset to commit, and what it becomes.
pub(super) fn check_offset(
    cluster: &Cluster,
    context: &Context,
    topic: &str,
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<&str>,
) -> Result<CommittedOffset, ErrorCode> {
    context.authorize(Operation::Read, ResourceType::Topic, topic)?;
    let metadata = metadata.unwrap_or_default();
    if cluster.topics.partition(topic, partition).is_none() {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    if metadata.len() > METADATA_BYTES_MAX {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    let (topic, metadata) = (topic.to_owned(), metadata.to_owned());
    Ok(CommittedOffset { topic, partition, offset, leader_epoch, metadata })
}

pub(super) fn commit(cluster: &mut Cluster, context: &Context, request: OffsetCommitRequest) -> Answer {
    let group = request.group_id.to_string();
    let refused = check_member(cluster, context, &request).err().map(|failure| failure.code);
    let mut accepted = Vec::new();
    let mut answer = OffsetCommitResponse::default();
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            let index = asked.partition_index;
            let checked = match refused.or_else(|| context.injected_for_partition(&topic.name, index)) {
                Some(code) => Err(code),
                None => check_offset(
                    cluster,
                    context,
                    &topic.name,
                    index,
                    asked.committed_offset,
                    asked.committed_leader_epoch,
                    asked.committed_metadata.as_deref(),
                ),
            };
            let code = checked.as_ref().err().map_or(0, |code| code.code());
            accepted.extend(checked);
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code)
        });
        let partitions = partitions.collect();
        answer
            .topics
            .push(OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    if !accepted.is_empty() {
        cluster.commit_offsets(&group, accepted);
    }
    context.answer(&answer)
}

/// Whether the member may commit.
fn check_member(
    cluster: &mut Cluster,
    context: &Context,
    request: &OffsetCommitRequest,
) -> Result<(), Failure> {
    context.authorize(Operation::Read, ResourceType::Group, &request.group_id)?;
    cluster.check_coordinator(context, 0, &request.group_id)?;
    let who = Identity {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
    };
    let found = cluster.groups.get(&request.group_id);
    if let Some(Members::Consumer(members)) = found.map(|group| &group.members)
        && members.has_consumer_member(&request.member_id)
        && context.version < KNOWS_EPOCHS_FROM
    {
        return Err(ErrorCode::UNSUPPORTED_VERSION.into());
    }
    check_committer(cluster, &request.group_id, who, false)?;
    cluster.groups.hear(context.now.instant, &request.group_id, &request.member_id);
    Ok(())
}

/// Whether a member, or somebody who is none, may commit offsets for the group.
pub(super) fn check_committer(
    cluster: &Cluster,
    group: &str,
    who: Identity<'_>,
    in_transaction: bool,
) -> Result<(), ErrorCode> {
    if let Some(group) = cluster.groups.get(group) {
        return group.members.check_commit(who, in_transaction);
    }
    let is_pending =
        || cluster.transactions.iter().any(|transaction| transaction.offsets.contains_key(group));
    if who.generation < 0 {
        Ok(())
    } else if is_pending() {
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    } else {
        Err(ErrorCode::ILLEGAL_GENERATION)
    }
}

pub(super) fn fetch(cluster: &mut Cluster, context: &Context, request: OffsetFetchRequest) -> Answer {
    let mut answer = OffsetFetchResponse::default();
    if context.version >= BATCHED_FROM {
        for group in request.groups {
            let wanted = group.topics.map(|topics| {
                topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect()
            });
            let member = group.member_id.as_deref().map(|id| (id, group.member_epoch));
            let allowed = may_read(cluster, context, &group.group_id, member);
            let (code, topics) =
                offsets_of(cluster, context, &group.group_id, allowed, wanted, request.require_stable);
            let topics = topics.into_iter().map(|(name, partitions)| {
                OffsetFetchResponseTopics::default()
                    .with_name(topic_name(&name))
                    .with_partitions(partitions.into_iter().map(batched).collect())
            });
            answer.groups.push(
                OffsetFetchResponseGroup::default()
                    .with_group_id(group.group_id)
                    .with_topics(topics.collect())
                    .with_error_code(code),
            );
        }
        return context.answer(&answer);
    }
    let wanted = request.topics.map(|topics| {
        topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect()
    });
    let allowed = may_read(cluster, context, &request.group_id, None);
    let (code, topics) =
        offsets_of(cluster, context, &request.group_id, allowed, wanted, request.require_stable);
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetFetchResponseTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions.into_iter().map(|it| single(context.version, it)).collect())
    });
    answer.topics = topics.collect();
    if context.version >= 2 {
        answer.error_code = code;
    }
    context.answer(&answer)
}

/// Whether this node may tell the offsets; to a member of a consumer group, which says its epoch, only if it is
/// the current one.
fn may_read(
    cluster: &Cluster,
    context: &Context,
    group: &str,
    member: Option<(&str, i32)>,
) -> Result<(), Failure> {
    context.authorize(Operation::Describe, ResourceType::Group, group)?;
    cluster.check_coordinator(context, GROUP, group)?;
    match (cluster.groups.get(group).map(|group| &group.members), member) {
        (Some(Members::Consumer(members)), Some((id, epoch))) => Ok(members.check_member(id, epoch)?),
        _ => Ok(()),
    }
}

/// What is known of one partition's offset.
struct Known {
    index: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: String,
    error_code: i16,
}

fn batched(known: Known) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(known.index)
        .with_committed_offset(known.offset)
        .with_committed_leader_epoch(known.leader_epoch)
        .with_metadata(Some(text(known.metadata)))
        .with_error_code(known.error_code)
}

fn single(version: i16, known: Known) -> OffsetFetchResponsePartition {
    let epoch = if version >= 5 { known.leader_epoch } else { -1 };
    OffsetFetchResponsePartition::default()
        .with_partition_index(known.index)
        .with_committed_offset(known.offset)
        .with_committed_leader_epoch(epoch)
        .with_metadata(Some(text(known.metadata)))
        .with_error_code(known.error_code)
}

type Topics = Vec<(String, Vec<Known>)>;

/// The offsets of a group: for the partitions `wanted`, or for all that it has.
fn offsets_of(
    cluster: &Cluster,
    context: &Context,
    group: &str,
    allowed: Result<(), Failure>,
    wanted: Option<Vec<(String, Vec<i32>)>>,
    require_stable: bool,
) -> (i16, Topics) {
    let refused = allowed.err().map(|failure| failure.code.code());
    let may_describe = |topic: &str| {
        context.authorize(Operation::Describe, ResourceType::Topic, topic).map_err(ErrorCode::code)
    };
    let wanted = wanted.unwrap_or_else(|| {
        let mut all: Vec<(String, Vec<i32>)> = Vec::new();
        for offset in cluster.groups.get(group).into_iter().flat_map(|group| group.offsets()) {
            match all.last_mut().filter(|(topic, _)| *topic == offset.topic) {
                Some((_, partitions)) => partitions.push(offset.partition),
                None => all.push((offset.topic.clone(), vec![offset.partition])),
            }
        }
        all.retain(|(topic, _)| may_describe(topic).is_ok());
        all
    });
    let topics = wanted.into_iter().map(|(topic, partitions)| {
        let refused = refused.or_else(|| may_describe(&topic).err());
        let known = partitions.into_iter().map(|index| {
            let none = Known { index, offset: -1, leader_epoch: -1, metadata: String::new(), error_code: 0 };
            if let Some(error_code) = refused {
                return Known { error_code, ..none };
            }
            if require_stable && cluster.transactions.has_pending_offset(group, &topic, index) {
                return Known { error_code: ErrorCode::UNSTABLE_OFFSET_COMMIT.code(), ..none };
            }
            match cluster.groups.get(group).and_then(|group| group.offset(&topic, index)) {
                Some(committed) => Known {
                    offset: committed.offset,
                    leader_epoch: committed.leader_epoch,
                    metadata: committed.metadata.clone(),
                    ..none
                },
                None => none,
            }
        });
        let known = known.collect();
        (topic, known)
    });
    (refused.unwrap_or(0), topics.collect())
}

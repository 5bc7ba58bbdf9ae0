//! OffsetCommit 2–10 and OffsetFetch 1–10.
//!
//! Offsets do not expire.

use kafka_wire::protocol::header::ReceivedRequest;
use kafka_wire::protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_wire::protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_wire::protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_wire::protocol::messages::{
    ApiKey, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_wire::protocol::offsets_by_id::{BY_ID_FROM, OffsetCommitById, OffsetFetchById};
use kafka_wire::{ErrorCode, TopicId};

use super::{Answer, Context, malformed, text, topic_name, uuid_of};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::{Cluster, GROUP};
use crate::error::Failure;
use crate::groups::classic::Identity;
use crate::groups::{CommittedOffset, Members};

/// `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4096;
/// From here on members of consumer groups say their epoch.
const KNOWS_EPOCHS_FROM: i16 = 9;
/// From here on what is wrong with a group is said once.
const GROUP_ERROR_FROM: i16 = 2;
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

/// The request; with ids only where it names topics by id (from version 10).
///
/// # Errors
/// When it is malformed.
pub(super) fn read_commit(request: ReceivedRequest) -> kafka_wire::Result<OffsetCommitById> {
    if request.version >= BY_ID_FROM {
        return OffsetCommitById::decode(&request);
    }
    Ok(OffsetCommitById { request: request.decode()?, topics: Vec::new() })
}

fn read_fetch(request: ReceivedRequest) -> kafka_wire::Result<OffsetFetchById> {
    if request.version >= BY_ID_FROM {
        return OffsetFetchById::decode(&request);
    }
    Ok(OffsetFetchById { request: request.decode()?, topics: Vec::new() })
}

/// The name of a topic that a request names so, or by its id.
pub(super) fn named(cluster: &Cluster, name: &str, id: Option<TopicId>) -> Result<String, ErrorCode> {
    match id {
        None => Ok(name.to_owned()),
        Some(id) => cluster.topics.name_of(id).map(ToString::to_string).ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
    }
}

pub(super) fn commit(cluster: &mut Cluster, context: &Context, request: ReceivedRequest) -> Answer {
    let (request, ids) = match read_commit(request) {
        Ok(OffsetCommitById { request, topics }) => (request, topics),
        Err(error) => return malformed(context, &error),
    };
    let group = request.group_id.to_string();
    let refused = check_member(cluster, context, &request).err().map(|failure| failure.code);
    let mut accepted = Vec::new();
    let mut answer = OffsetCommitResponse::default();
    for (position, topic) in request.topics.into_iter().enumerate() {
        let id = ids.get(position).copied();
        let (name, unknown) = match named(cluster, &topic.name, id) {
            Ok(name) => (name, None),
            Err(code) => (String::new(), Some(code)),
        };
        let refused = unknown.or(refused);
        let partitions = topic.partitions.iter().map(|asked| {
            let index = asked.partition_index;
            let checked = match refused.or_else(|| context.injected_for_partition(&name, index)) {
                Some(code) => Err(code),
                None => check_offset(
                    cluster,
                    context,
                    &name,
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
        answer.topics.push(
            OffsetCommitResponseTopic::default()
                .with_name(topic.name)
                .with_topic_id(uuid_of(id.unwrap_or(TopicId::NONE)))
                .with_partitions(partitions),
        );
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
    check_committer(cluster, context, &request.group_id, who)?;
    cluster.groups.hear(context.now.instant, &request.group_id, &request.member_id);
    Ok(())
}

/// Whether a member, or somebody who is none, may commit offsets for the group, in a transaction or not.
pub(super) fn check_committer(
    cluster: &Cluster,
    context: &Context,
    group: &str,
    who: Identity<'_>,
) -> Result<(), ErrorCode> {
    let in_transaction = context.api == ApiKey::TxnOffsetCommit;
    if let Some(group) = cluster.groups.get(group) {
        return group.members.check_commit(who, in_transaction);
    }
    let is_pending =
        || cluster.transactions.iter().any(|transaction| transaction.offsets.contains_key(group));
    if who.generation < 0 {
        Ok(())
    } else if is_pending() {
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    } else if !in_transaction && context.version >= KNOWS_EPOCHS_FROM {
        Err(ErrorCode::GROUP_ID_NOT_FOUND)
    } else {
        Err(ErrorCode::ILLEGAL_GENERATION)
    }
}

pub(super) fn fetch(cluster: &Cluster, context: &Context, request: ReceivedRequest) -> Answer {
    let (request, mut ids) = match read_fetch(request) {
        Ok(OffsetFetchById { request, topics }) => (request, topics.into_iter()),
        Err(error) => return malformed(context, &error),
    };
    if context.version < BATCHED_FROM {
        return fetch_of_one_group(cluster, context, request);
    }
    let is_stable = request.require_stable;
    let groups = request.groups.into_iter().map(|group| {
        let ids = ids.next().unwrap_or_default();
        fetch_of_group(cluster, context, group, &ids, is_stable)
    });
    let groups = groups.collect();
    context.answer(&OffsetFetchResponse::default().with_groups(groups))
}

fn fetch_of_group(
    cluster: &Cluster,
    context: &Context,
    group: OffsetFetchRequestGroup,
    ids: &[TopicId],
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let mut unknown = Vec::new();
    let wanted = group.topics.map(|topics| {
        let mut wanted = Vec::new();
        for (position, topic) in topics.into_iter().enumerate() {
            let id = ids.get(position).copied();
            match named(cluster, &topic.name, id) {
                Ok(name) => wanted.push((name, topic.partition_indexes)),
                Err(code) => unknown.push(unknown_topic(id, topic.partition_indexes, code)),
            }
        }
        wanted
    });
    let member = group.member_id.as_deref().map(|id| (id, group.member_epoch));
    let allowed = may_read(cluster, context, &group.group_id, member);
    let (code, topics) = offsets_of(cluster, context, &group.group_id, allowed, wanted, require_stable);
    let topics = topics.into_iter().map(|(name, partitions)| {
        let id = cluster.topics.get(&name).filter(|_| context.version >= BY_ID_FROM).map(|topic| topic.id);
        OffsetFetchResponseTopics::default()
            .with_name(topic_name(&name))
            .with_topic_id(uuid_of(id.unwrap_or(TopicId::NONE)))
            .with_partitions(partitions.into_iter().map(batched).collect())
    });
    OffsetFetchResponseGroup::default()
        .with_group_id(group.group_id)
        .with_topics(topics.chain(unknown.into_iter().filter(|_| code == 0)).collect())
        .with_error_code(code)
}

fn fetch_of_one_group(cluster: &Cluster, context: &Context, request: OffsetFetchRequest) -> Answer {
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
    let mut answer = OffsetFetchResponse::default().with_topics(topics.collect());
    if context.version >= 2 {
        answer.error_code = code;
    }
    context.answer(&answer)
}

fn unknown_topic(id: Option<TopicId>, indexes: Vec<i32>, code: ErrorCode) -> OffsetFetchResponseTopics {
    let error_code = code.code();
    let partitions = indexes.into_iter().map(|index| Known { error_code, ..Known::none(index) });
    OffsetFetchResponseTopics::default()
        .with_topic_id(uuid_of(id.unwrap_or(TopicId::NONE)))
        .with_partitions(partitions.map(batched).collect())
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

impl Known {
    fn none(index: i32) -> Self {
        Self { index, offset: -1, leader_epoch: -1, metadata: String::new(), error_code: 0 }
    }
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
    if let Some(code) = refused.filter(|_| context.version >= GROUP_ERROR_FROM) {
        return (code, Vec::new());
    }
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
            let none = Known::none(index);
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

//! ShareFetch 1 and ShareAcknowledge 1 (KIP-932): records that are handed out under a lock, and what becomes of
//! them. Version 2 (strict limits, renewed locks) is not served: `kafka-protocol` does not have it.
//!
//! `min_bytes` is taken for one byte, and `max_records` for a limit that holds to the record.
//! `share.auto.offset.reset` knows `earliest` and takes all else for `latest`.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::protocol::messages::share_acknowledge_response as acknowledged;
use kafka_wire::protocol::messages::share_fetch_request::AcknowledgementBatch;
use kafka_wire::protocol::messages::share_fetch_response as fetched;
use kafka_wire::protocol::messages::{
    BrokerId, ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareFetchRequest, ShareFetchResponse,
};
use kafka_wire::record::batches;
use kafka_wire::{ErrorCode, TopicId};

use super::{Answer, Context, text, uuid_of};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::Cluster;
use crate::error::{Failure, fail};
use crate::shares::partition::{Acquired, Limits, SharePartition};
use crate::shares::{FINAL, Key, SessionId};
use crate::topics::Partition;

/// A share fetch that is not answered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) deadline: Instant,
    session: SessionId,
    records_max: usize,
    bytes_max: usize,
    acknowledged: Vec<Outcome>,
}

/// What became of acknowledgements for a partition.
type Outcome = (TopicId, i32, Result<(), ErrorCode>);

/// What a partition has for a member.
struct Found {
    topic: TopicId,
    index: i32,
    error: Option<ErrorCode>,
    records: Bytes,
    acquired: Vec<Acquired>,
}

/// Acknowledgements of one partition, as the request says them.
type Batches = Vec<(RangeInclusive<i64>, Vec<i8>)>;

fn read_batches(batches: &[AcknowledgementBatch]) -> Batches {
    batches.iter().map(|it| (it.first_offset..=it.last_offset, it.acknowledge_types.clone())).collect()
}

/// Whose session it is, where the principal may read for the group.
fn session_of(context: &Context, group: Option<&str>, member: Option<&str>) -> Result<SessionId, Failure> {
    let (Some(group), Some(member)) = (group, member) else {
        return fail(ErrorCode::INVALID_REQUEST, "group id and member id must be there");
    };
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    context.authorize(Operation::Read, ResourceType::Group, group)?;
    if group.is_empty() || member.is_empty() {
        return fail(ErrorCode::INVALID_REQUEST, "group id and member id must not be empty");
    }
    Ok(SessionId { group: group.to_owned(), member: Arc::from(member), node: context.node })
}

pub(super) fn fetch(cluster: &mut Cluster, context: &Context, request: ShareFetchRequest) -> Answer {
    let epoch = request.share_session_epoch;
    let entered =
        session_of(context, request.group_id.as_ref().map(|id| id.as_str()), request.member_id.as_deref())
            .and_then(|session| {
                cluster.shares.enter(&session, context.connection, epoch, true)?;
                Ok(session)
            });
    let session = match entered {
        Ok(session) => session,
        Err(failure) => {
            let refused = ShareFetchResponse::default().with_error_code(failure.code.code());
            return context.answer(&refused.with_error_message(Some(text(failure.text))));
        }
    };
    let mut acknowledged = Vec::new();
    let mut named = Vec::new();
    for topic in &request.topics {
        let id = TopicId(topic.topic_id.into_bytes());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            named.push((id, index));
            if !partition.acknowledgement_batches.is_empty() {
                let batches = read_batches(&partition.acknowledgement_batches);
                let outcome = acknowledge_one(cluster, context, &session, id, index, &batches);
                acknowledged.push((id, index, outcome));
            }
        }
    }
    if epoch == FINAL {
        cluster.close_share_session(&session);
        return answer(cluster, context, &session.group, acknowledged, Vec::new());
    }
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| {
        let id = TopicId(topic.topic_id.into_bytes());
        topic.partitions.iter().map(move |&index| (id, index))
    });
    cluster.shares.change(&session, named, forgotten);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let pending = Pending {
        deadline: context.now.instant + wait,
        session,
        records_max: usize::try_from(request.max_records).unwrap_or(0),
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0),
        acknowledged,
    };
    match attempt(cluster, context, &pending) {
        found if found.is_empty() && !wait.is_zero() => Answer::WaitShared(Box::new(pending)),
        found => answer(cluster, context, &pending.session.group, pending.acknowledged, found),
    }
}

/// Answers a fetch that waited, where there is something by now.
pub(crate) fn retry(cluster: &mut Cluster, context: &Context, pending: &Pending) -> Option<Answer> {
    let found = attempt(cluster, context, pending);
    let is_over = pending.deadline <= context.now.instant;
    (is_over || !found.is_empty()).then(|| complete(cluster, context, pending, found))
}

/// Answers a fetch that waited with nothing.
pub(crate) fn give_up(cluster: &Cluster, context: &Context, pending: &Pending) -> Answer {
    complete(cluster, context, pending, Vec::new())
}

fn complete(cluster: &Cluster, context: &Context, pending: &Pending, found: Vec<Found>) -> Answer {
    answer(cluster, context, &pending.session.group, pending.acknowledged.clone(), found)
}

/// Acquires what there is for the session's member.
fn attempt(cluster: &mut Cluster, context: &Context, pending: &Pending) -> Vec<Found> {
    let mut found = Vec::new();
    let (mut records_left, mut bytes_left) = (pending.records_max, pending.bytes_max);
    for (topic, index) in cluster.shares.partitions_of(&pending.session) {
        let result = acquire(cluster, context, &pending.session, (topic, index), records_left, bytes_left);
        let (error, records, acquired) = match result {
            Ok((records, acquired)) => (None, records, acquired),
            Err(code) => (Some(code), Bytes::new(), Vec::new()),
        };
        if error.is_none() && acquired.is_empty() {
            continue;
        }
        let count: i64 = acquired.iter().map(|run| run.last - run.first + 1).sum();
        records_left = records_left.saturating_sub(count as usize);
        bytes_left = bytes_left.saturating_sub(records.len());
        found.push(Found { topic, index, error, records, acquired });
    }
    found
}

/// The partition, where this node leads it and the principal may read it.
fn find<'a>(
    cluster: &'a Cluster,
    context: &Context,
    topic: TopicId,
    index: i32,
) -> Result<&'a Partition, ErrorCode> {
    let name = cluster.topics.name_of(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
    if let Some(code) = context.injected_for_partition(name, index) {
        return Err(code);
    }
    context.authorize(Operation::Read, ResourceType::Topic, name)?;
    let partition = cluster.topics.partition(name, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if partition.leader == context.node { Ok(partition) } else { Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) }
}

fn acquire(
    cluster: &mut Cluster,
    context: &Context,
    session: &SessionId,
    (topic, index): (TopicId, i32),
    records_max: usize,
    bytes_max: usize,
) -> Result<(Bytes, Vec<Acquired>), ErrorCode> {
    let log = &find(cluster, context, topic, index)?.log;
    let (start, end) = (log.start_offset(), log.end_offset());
    let key = (session.group.clone(), topic, index);
    let limits = Limits {
        deliveries_max: cluster.group_number(&session.group, "share.delivery.count.limit") as i16,
        records_max: cluster.group_number(&session.group, "share.partition.max.record.locks") as usize,
    };
    if cluster.shares.get(&key).is_none() {
        let is_earliest = cluster.group_setting(&session.group, "share.auto.offset.reset") == "earliest";
        let first = if is_earliest { start } else { end };
        cluster.shares.insert(key.clone(), SharePartition::new(first, limits));
        cluster.save_share(&key);
    }
    let lock = cluster.group_number(&session.group, "share.record.lock.duration.ms");
    let until = context.now.instant + Duration::from_millis(lock);
    let is_committed = cluster.group_setting(&session.group, "share.isolation.level") == "read_committed";
    let Cluster { topics, shares, .. } = cluster;
    let partition = topics.name_of(topic).and_then(|name| topics.partition(name, index));
    let (Some(partition), Some(shared)) = (partition, shares.get_mut(&key)) else {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    shared.set_limits(limits);
    shared.fit(start..=end);
    let bound = if is_committed { partition.log.last_stable_offset() } else { end };
    while let Some(offset) = shared.first_free().filter(|offset| *offset < bound && records_max > 0) {
        let slice = partition.log.read(offset, bound, bytes_max, true).map_err(|error| {
            tracing::error!(%error, partition = index, "a partition cannot be read");
            ErrorCode::KAFKA_STORAGE_ERROR
        })?;
        let aborted = partition.log.producers.aborted(offset, slice.next_offset);
        let mut acquired: Vec<Acquired> = Vec::new();
        let mut records = BytesMut::new();
        let mut left = records_max;
        let read = slice.chunks.into_iter().flat_map(batches).map_while(Result::ok);
        for batch in read {
            let header = &batch.header;
            let (first, last) =
                (header.base_offset, header.base_offset + i64::from(header.last_offset_delta));
            let is_aborted = is_committed
                && header.is_transactional()
                && aborted.iter().any(|it| {
                    it.producer_id == header.producer_id
                        && (it.first_offset..=it.last_offset).contains(&first)
                });
            let holds_records = !header.is_control() && !is_aborted;
            let fresh = shared.acquire(first..=last, holds_records, &session.member, until, left);
            if !fresh.is_empty() {
                left -= fresh.iter().map(|run| (run.last - run.first + 1) as usize).sum::<usize>();
                records.extend_from_slice(batch.bytes());
                acquired.extend(fresh);
            }
            if left == 0 {
                break;
            }
        }
        // Where there were only markers and the like, what lies behind them is looked at.
        if !acquired.is_empty() || shared.first_free() == Some(offset) {
            return Ok((records.freeze(), acquired));
        }
    }
    Ok((Bytes::new(), Vec::new()))
}

fn answer(
    cluster: &Cluster,
    context: &Context,
    group: &str,
    acknowledged: Vec<Outcome>,
    found: Vec<Found>,
) -> Answer {
    let lock = cluster.group_number(group, "share.record.lock.duration.ms");
    let mut topics: Vec<fetched::ShareFetchableTopicResponse> = Vec::new();
    let mut partition_of =
        |topic: TopicId, index: i32, change: &mut dyn FnMut(&mut fetched::PartitionData)| {
            let id = uuid_of(topic);
            let at = topics.iter().position(|it| it.topic_id == id).unwrap_or_else(|| {
                topics.push(fetched::ShareFetchableTopicResponse::default().with_topic_id(id));
                topics.len() - 1
            });
            let partitions = &mut topics[at].partitions;
            let at = partitions.iter().position(|it| it.partition_index == index).unwrap_or_else(|| {
                let fresh = fetched::PartitionData::default().with_partition_index(index);
                partitions.push(fresh.with_records(Some(Bytes::new())));
                partitions.len() - 1
            });
            change(&mut partitions[at]);
        };
    for (topic, index, outcome) in acknowledged {
        let code = outcome.err().map_or(0, ErrorCode::code);
        partition_of(topic, index, &mut |partition| partition.acknowledge_error_code = code);
    }
    let mut leaders = Vec::new();
    for found in found {
        let leader = leader_of(cluster, found.topic, found.index, found.error);
        leaders.extend(leader.map(|(id, _)| id));
        partition_of(found.topic, found.index, &mut |partition| {
            partition.error_code = found.error.map_or(0, ErrorCode::code);
            partition.records = Some(found.records.clone());
            partition.acquired_records = found
                .acquired
                .iter()
                .map(|run| {
                    fetched::AcquiredRecords::default()
                        .with_first_offset(run.first)
                        .with_last_offset(run.last)
                        .with_delivery_count(run.count)
                })
                .collect();
            if let Some((id, epoch)) = leader {
                partition.current_leader.leader_id = id;
                partition.current_leader.leader_epoch = epoch;
            }
        });
    }
    let endpoints = endpoints(cluster, leaders);
    let endpoints = endpoints.into_iter().map(|(id, host, port)| {
        fetched::NodeEndpoint::default().with_node_id(BrokerId(id)).with_host(text(host)).with_port(port)
    });
    let endpoints = endpoints.collect();
    let answer = ShareFetchResponse::default()
        .with_acquisition_lock_timeout_ms(i32::try_from(lock).unwrap_or(i32::MAX))
        .with_responses(topics)
        .with_node_endpoints(endpoints);
    context.answer(&answer)
}

/// Who leads a partition, for a client that asked somebody else.
fn leader_of(cluster: &Cluster, topic: TopicId, index: i32, error: Option<ErrorCode>) -> Option<(i32, i32)> {
    error.filter(|&code| code == ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    let partition = cluster.topics.partition(cluster.topics.name_of(topic)?, index)?;
    Some((partition.leader, partition.leader_epoch))
}

/// Where the nodes that were named listen.
fn endpoints(cluster: &Cluster, mut named: Vec<i32>) -> Vec<(i32, String, i32)> {
    named.sort_unstable();
    named.dedup();
    let nodes = named.into_iter().filter_map(|id| cluster.nodes.get(&id).map(|node| (id, node)));
    nodes.map(|(id, node)| (id, node.host.clone(), i32::from(node.port))).collect()
}

fn acknowledge_one(
    cluster: &mut Cluster,
    context: &Context,
    session: &SessionId,
    topic: TopicId,
    index: i32,
    batches: &Batches,
) -> Result<(), ErrorCode> {
    find(cluster, context, topic, index)?;
    let key: Key = (session.group.clone(), topic, index);
    let shared = cluster.shares.get_mut(&key).ok_or(ErrorCode::INVALID_RECORD_STATE)?;
    shared.acknowledge(&session.member, batches)?;
    cluster.shares.mark_freed();
    cluster.save_share(&key);
    Ok(())
}

pub(super) fn acknowledge(
    cluster: &mut Cluster,
    context: &Context,
    request: ShareAcknowledgeRequest,
) -> Answer {
    let epoch = request.share_session_epoch;
    let entered =
        session_of(context, request.group_id.as_ref().map(|id| id.as_str()), request.member_id.as_deref())
            .and_then(|session| {
                cluster.shares.enter(&session, context.connection, epoch, false)?;
                Ok(session)
            });
    let session = match entered {
        Ok(session) => session,
        Err(failure) => {
            let refused = ShareAcknowledgeResponse::default().with_error_code(failure.code.code());
            return context.answer(&refused.with_error_message(Some(text(failure.text))));
        }
    };
    let mut topics = Vec::new();
    for topic in &request.topics {
        let id = TopicId(topic.topic_id.into_bytes());
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let batches = partition.acknowledgement_batches.iter();
            let batches: Batches =
                batches.map(|it| (it.first_offset..=it.last_offset, it.acknowledge_types.clone())).collect();
            let error = acknowledge_one(cluster, context, &session, id, index, &batches).err();
            let mut told = acknowledged::PartitionData::default()
                .with_partition_index(index)
                .with_error_code(error.map_or(0, ErrorCode::code));
            if let Some((leader, epoch)) = leader_of(cluster, id, index, error) {
                told.current_leader.leader_id = leader;
                told.current_leader.leader_epoch = epoch;
            }
            told
        });
        let partitions = partitions.collect();
        topics.push(
            acknowledged::ShareAcknowledgeTopicResponse::default()
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions),
        );
    }
    if epoch == FINAL {
        cluster.close_share_session(&session);
    }
    context.answer(&ShareAcknowledgeResponse::default().with_responses(topics))
}

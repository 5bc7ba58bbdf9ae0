//! ShareFetch 1 to 2 and ShareAcknowledge 1 to 2 (KIP-932, KIP-1206, KIP-1222): records that are handed out under a
//! lock, and what becomes of them.
//!
//! `min_bytes` is taken for one byte. `share.auto.offset.reset` knows `earliest` and takes all else for `latest`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::protocol::header::ReceivedRequest;
use kafka_wire::protocol::messages::StrBytes;
use kafka_wire::protocol::share::{
    AcknowledgedPartition, AcknowledgementBatch, AcquiredRecords, ShareAcknowledgeRequest,
    ShareAcknowledgeResponse, ShareFetchRequest, ShareFetchResponse, ShareSession, ShareTopic,
    SharedPartition,
};
use kafka_wire::protocol::{LeaderHint, NodeEndpoint};
use kafka_wire::record::batches;
use kafka_wire::{BrokerId, ErrorCode, LeaderEpoch, TopicId};

use super::{Answer, Context, text};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::Cluster;
use crate::error::{Failure, fail};
use crate::shares::partition::{Acquired, Count, Limits, SharePartition};
use crate::shares::{FINAL, INITIAL, Key, SessionId};
use crate::topics::Partition;

/// A share fetch that is not answered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) deadline: Instant,
    session: SessionId,
    records_max: usize,
    is_strict: bool,
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

/// Whose session it is, where the principal may read for the group.
fn session_of(context: &Context, session: &ShareSession) -> Result<SessionId, Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    context.authorize(Operation::Read, ResourceType::Group, &session.group)?;
    if session.group.is_empty() || session.member_id.is_empty() {
        return fail(ErrorCode::INVALID_REQUEST, "group id and member id must not be empty");
    }
    let (group, member) = (session.group.to_string(), Arc::clone(&session.member_id));
    Ok(SessionId { group, member, node: context.node })
}

/// Takes a request to the session that it names.
fn enter(
    cluster: &mut Cluster,
    context: &Context,
    session: &ShareSession,
    may_open: bool,
) -> Result<SessionId, Failure> {
    let id = session_of(context, session)?;
    cluster.shares.enter(&id, context.connection, session.epoch, may_open)?;
    Ok(id)
}

pub(super) fn fetch(cluster: &mut Cluster, context: &Context, request: ReceivedRequest) -> Answer {
    let request = match ShareFetchRequest::decode(&request) {
        Ok(request) => request,
        Err(error) => return super::malformed(context, &error),
    };
    let epoch = request.session.epoch;
    let entered = check(&request).and_then(|()| enter(cluster, context, &request.session, true));
    let session = match entered {
        Ok(session) => session,
        Err(failure) => {
            let (error, error_message) = told(failure);
            return context
                .answer_with(|frame| ShareFetchResponse { error, error_message, ..nothing() }.encode(frame));
        }
    };
    let acknowledged = acknowledge_all(cluster, context, &session, &request.topics, request.is_renewal);
    if epoch == FINAL {
        cluster.close_share_session(&session);
        return answer(cluster, context, &session.group, acknowledged, Vec::new());
    }
    let named =
        request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|(index, _)| (topic.id, *index)));
    let forgotten =
        request.forgotten.iter().flat_map(|(id, indices)| indices.iter().map(|index| (*id, *index)));
    cluster.shares.change(&session, named, forgotten);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let pending = Pending {
        deadline: context.now.instant + wait,
        session,
        records_max: usize::try_from(request.max_records).unwrap_or(0),
        is_strict: request.is_strict,
        bytes_max: usize::try_from(request.max_bytes).unwrap_or(0),
        acknowledged,
    };
    let wants_nothing = request.is_renewal || pending.records_max == 0 || pending.bytes_max == 0;
    let found = if wants_nothing { Vec::new() } else { attempt(cluster, context, &pending) };
    if found.is_empty() && !wants_nothing && !wait.is_zero() {
        return Answer::WaitShared(Box::new(pending));
    }
    answer(cluster, context, &pending.session.group, pending.acknowledged, found)
}

/// Refuses what Kafka refuses before it looks for the session.
fn check(request: &ShareFetchRequest) -> Result<(), Failure> {
    let limits = [request.max_bytes, request.min_bytes, request.max_records, request.max_wait_ms];
    if request.is_renewal && limits != [0; 4] {
        return fail(
            ErrorCode::INVALID_REQUEST,
            "a request that renews locks must ask for no records (KIP-1222)",
        );
    }
    let mut named = request.topics.iter().flat_map(|topic| &topic.partitions);
    if request.session.epoch == INITIAL && named.any(|(_, batches)| !batches.is_empty()) {
        return fail(ErrorCode::INVALID_REQUEST, "the first request of a session cannot acknowledge");
    }
    Ok(())
}

fn acknowledge_all(
    cluster: &mut Cluster,
    context: &Context,
    session: &SessionId,
    topics: &[ShareTopic],
    may_renew: bool,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for topic in topics {
        for (index, batches) in topic.partitions.iter().filter(|(_, batches)| !batches.is_empty()) {
            let outcome = acknowledge_one(cluster, context, session, (topic.id, *index), batches, may_renew);
            outcomes.push((topic.id, *index, outcome));
        }
    }
    outcomes
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
    let count_of = |records_max| match pending.is_strict {
        true => Count::Records(records_max),
        false => Count::WholeBatches(records_max),
    };
    for (topic, index) in cluster.shares.partitions_of(&pending.session) {
        let result =
            acquire(cluster, context, &pending.session, (topic, index), count_of(records_left), bytes_left);
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
    mut left: Count,
    bytes_max: usize,
) -> Result<(Bytes, Vec<Acquired>), ErrorCode> {
    let found = find(cluster, context, topic, index)?;
    let (log, leader_epoch) = (&found.log, found.leader_epoch);
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
    let until = context.now.instant + cluster.lock_duration(&session.group);
    let is_committed = cluster.group_setting(&session.group, "share.isolation.level") == "read_committed";
    let Cluster { topics, shares, .. } = cluster;
    let partition = topics.name_of(topic).and_then(|name| topics.partition(name, index));
    let (Some(partition), Some(shared)) = (partition, shares.get_mut(&key)) else {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    shared.set_limits(limits);
    shared.led_in(leader_epoch);
    shared.fit(start..=end);
    let bound = if is_committed { partition.log.last_stable_offset() } else { end };
    while let Some(offset) = shared.first_free().filter(|offset| *offset < bound && !left.is_used_up()) {
        let slice = partition.log.read(offset, bound, bytes_max, true).map_err(|error| {
            tracing::error!(%error, partition = index, "a partition cannot be read");
            ErrorCode::KAFKA_STORAGE_ERROR
        })?;
        let aborted = partition.log.producers.aborted(offset, slice.next_offset);
        let mut acquired: Vec<Acquired> = Vec::new();
        let mut records = BytesMut::new();
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
            let fresh = shared.acquire(first..=last, holds_records, &session.member, until, &mut left);
            if !fresh.is_empty() {
                records.extend_from_slice(batch.bytes());
                acquired.extend(fresh);
            }
            if left.is_used_up() {
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
    let mut topics: Vec<(TopicId, Vec<SharedPartition>)> = Vec::new();
    for (topic, index, outcome) in acknowledged {
        entry(&mut topics, topic, index).acknowledge_error = outcome.err();
    }
    for Found { topic, index, error, records, acquired } in found {
        let partition = entry(&mut topics, topic, index);
        (partition.error, partition.records) = (error, records);
        partition.leader = leader_of(cluster, topic, index, error);
        partition.acquired = acquired
            .into_iter()
            .map(|Acquired { first, last, count }| AcquiredRecords {
                first_offset: first,
                last_offset: last,
                delivery_count: count,
            })
            .collect();
    }
    let hints = topics.iter().flat_map(|(_, partitions)| partitions).filter_map(|partition| partition.leader);
    let endpoints = endpoints(cluster, hints.collect());
    let lock_timeout = cluster.lock_duration(group);
    context.answer_with(|frame| {
        ShareFetchResponse { lock_timeout, topics, endpoints, ..nothing() }.encode(frame)
    })
}

/// The answer's entry for a partition.
fn entry(
    topics: &mut Vec<(TopicId, Vec<SharedPartition>)>,
    topic: TopicId,
    index: i32,
) -> &mut SharedPartition {
    let at = topics.iter().position(|(id, _)| *id == topic).unwrap_or_else(|| {
        topics.push((topic, Vec::new()));
        topics.len() - 1
    });
    let partitions = &mut topics[at].1;
    let at = partitions.iter().position(|it| it.index == index).unwrap_or_else(|| {
        let (error, acknowledge_error, leader) = (None, None, None);
        let (records, acquired) = (Bytes::new(), Vec::new());
        partitions.push(SharedPartition { index, error, acknowledge_error, leader, records, acquired });
        partitions.len() - 1
    });
    &mut partitions[at]
}

fn nothing() -> ShareFetchResponse {
    ShareFetchResponse {
        throttle: Duration::ZERO,
        error: None,
        error_message: None,
        lock_timeout: Duration::ZERO,
        topics: Vec::new(),
        endpoints: Vec::new(),
    }
}

fn told(failure: Failure) -> (Option<ErrorCode>, Option<StrBytes>) {
    (Some(failure.code), Some(text(failure.text)))
}

/// Who leads a partition, for a client that asked somebody else.
fn leader_of(cluster: &Cluster, topic: TopicId, index: i32, error: Option<ErrorCode>) -> Option<LeaderHint> {
    error.filter(|&code| code == ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    let partition = cluster.topics.partition(cluster.topics.name_of(topic)?, index)?;
    Some(LeaderHint {
        leader: BrokerId(partition.leader),
        epoch: LeaderEpoch::from_wire(partition.leader_epoch),
    })
}

/// Where the nodes that were named listen.
fn endpoints(cluster: &Cluster, hints: Vec<LeaderHint>) -> Vec<NodeEndpoint> {
    let mut named: Vec<BrokerId> = hints.into_iter().map(|hint| hint.leader).collect();
    named.sort_unstable();
    named.dedup();
    let nodes = named.into_iter().filter_map(|id| cluster.nodes.get(&id.0).map(|node| (id, node)));
    nodes
        .map(|(id, node)| NodeEndpoint { id, host: text(node.host.clone()), port: node.port, rack: None })
        .collect()
}

fn acknowledge_one(
    cluster: &mut Cluster,
    context: &Context,
    session: &SessionId,
    (topic, index): (TopicId, i32),
    batches: &[AcknowledgementBatch],
    may_renew: bool,
) -> Result<(), ErrorCode> {
    let leader_epoch = find(cluster, context, topic, index)?.leader_epoch;
    let renews = |batch: &AcknowledgementBatch| batch.types.contains(&AcknowledgementBatch::RENEW);
    if !may_renew && batches.iter().any(renews) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let until = context.now.instant + cluster.lock_duration(&session.group);
    let key: Key = (session.group.clone(), topic, index);
    let shared = cluster.shares.get_mut(&key).ok_or(ErrorCode::INVALID_RECORD_STATE)?;
    shared.led_in(leader_epoch);
    shared.acknowledge(&session.member, batches, until)?;
    cluster.shares.mark_freed();
    cluster.save_share(&key);
    Ok(())
}

pub(super) fn acknowledge(cluster: &mut Cluster, context: &Context, request: ReceivedRequest) -> Answer {
    let request = match ShareAcknowledgeRequest::decode(&request) {
        Ok(request) => request,
        Err(error) => return super::malformed(context, &error),
    };
    let mut answer = ShareAcknowledgeResponse {
        throttle: Duration::ZERO,
        error: None,
        error_message: None,
        lock_timeout: None,
        topics: Vec::new(),
        endpoints: Vec::new(),
    };
    match enter(cluster, context, &request.session, false) {
        Ok(session) => {
            let outcomes = acknowledge_all(cluster, context, &session, &request.topics, request.is_renewal);
            let mut hints = Vec::new();
            for (topic, index, outcome) in outcomes {
                let error = outcome.err();
                let leader = leader_of(cluster, topic, index, error);
                hints.extend(leader);
                let told = AcknowledgedPartition { index, error, leader };
                match answer.topics.last_mut().filter(|(id, _)| *id == topic) {
                    Some((_, partitions)) => partitions.push(told),
                    None => answer.topics.push((topic, vec![told])),
                }
            }
            if request.session.epoch == FINAL {
                cluster.close_share_session(&session);
            }
            answer.endpoints = endpoints(cluster, hints);
            answer.lock_timeout = Some(cluster.lock_duration(&session.group));
        }
        Err(failure) => (answer.error, answer.error_message) = told(failure),
    }
    context.answer_with(|frame| answer.encode(context.version, frame))
}

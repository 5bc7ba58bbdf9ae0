//! ListOffsets 1–11 and OffsetForLeaderEpoch 2–4.
//!
//! Timestamps are answered by record, opened where needed. There is no tiered storage: the local start (−4)
//! is the start, and the tiered offset (−5) and the first one not yet tiered (−6, KIP-1023) are unknown.

use bytes::Bytes;
use kafka_wire::ErrorCode;
use kafka_wire::protocol::limits::Limits;
use kafka_wire::protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_wire::protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_wire::protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_wire::protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use kafka_wire::record::batches;

use super::{Answer, Context};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::Cluster;
use crate::error::{Failure, fail};
use crate::log::Log;
use crate::topics::Partition;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// From which version on these may be asked.
const FIRST_VERSIONS: [(i64, i16); 4] =
    [(MAX_TIMESTAMP, 7), (EARLIEST_LOCAL, 8), (LATEST_TIERED, 9), (EARLIEST_PENDING_UPLOAD, 11)];

/// An offset with its record's timestamp, −1 where nobody asked for it.
type Found = Option<(i64, i64)>;

pub(super) fn list_offsets(cluster: &mut Cluster, context: &Context, request: ListOffsetsRequest) -> Answer {
    let read_committed = request.isolation_level == 1;
    let mut answer = ListOffsetsResponse::default();
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            let response =
                ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            match lookup(cluster, context, &topic.name, asked, read_committed) {
                Ok(Some((timestamp, offset, epoch))) => {
                    let response = response.with_timestamp(timestamp).with_offset(offset);
                    if context.version >= 4 { response.with_leader_epoch(epoch) } else { response }
                }
                Ok(None) => response.with_timestamp(-1).with_offset(-1),
                Err(failure) => {
                    response.with_error_code(failure.code.code()).with_timestamp(-1).with_offset(-1)
                }
            }
        });
        let partitions = partitions.collect();
        answer
            .topics
            .push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    context.answer(&answer)
}

/// Timestamp, offset and its leader epoch.
fn lookup(
    cluster: &Cluster,
    context: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
    read_committed: bool,
) -> Result<Option<(i64, i64, i32)>, Failure> {
    let partition = find(cluster, context, topic, asked.partition_index, asked.current_leader_epoch)?;
    let is_too_new = |(timestamp, first): (i64, i16)| asked.timestamp == timestamp && context.version < first;
    if FIRST_VERSIONS.into_iter().any(is_too_new) {
        return Err(ErrorCode::UNSUPPORTED_VERSION.into());
    }
    let log = &partition.log;
    let bound = if read_committed { log.last_stable_offset() } else { log.end_offset() };
    let found: Found = match asked.timestamp {
        LATEST => Some((-1, bound)),
        EARLIEST | EARLIEST_LOCAL => Some((-1, log.start_offset())),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => None,
        MAX_TIMESTAMP => with_max_timestamp(log)?,
        timestamp if timestamp >= 0 => at_timestamp(log, timestamp)?.filter(|&(_, offset)| offset < bound),
        other => return fail(ErrorCode::UNSUPPORTED_VERSION, format!("unknown timestamp {other}")),
    };
    let epoch = |offset| match asked.timestamp {
        LATEST => partition.leader_epoch,
        _ => log.epoch_at(offset).unwrap_or(partition.leader_epoch),
    };
    Ok(found.map(|(timestamp, offset)| (timestamp, offset, epoch(offset))))
}

fn at_timestamp(log: &Log, timestamp: i64) -> Result<Found, Failure> {
    match log.find_timestamp(timestamp).map_err(|error| storage(&error))? {
        Some(batch) => first_record(batch, log.start_offset(), |at| at >= timestamp),
        None => Ok(None),
    }
}

fn with_max_timestamp(log: &Log) -> Result<Found, Failure> {
    let Some(batch) = log.find_max_timestamp().map_err(|error| storage(&error))? else { return Ok(None) };
    let max = crate::batch::Header::parse(&batch)?.max_timestamp;
    first_record(batch, log.start_offset(), |at| at >= max)
}

/// The first record of a batch, from `start` on, whose timestamp is `wanted`.
fn first_record(batch: Bytes, start: i64, wanted: impl Fn(i64) -> bool) -> Result<Found, Failure> {
    let corrupt = |error: kafka_wire::Error| Failure {
        code: ErrorCode::CORRUPT_MESSAGE,
        text: error.to_string().into(),
    };
    for batch in batches(batch) {
        let records = batch.and_then(|batch| batch.open(&Limits::DEFAULT)).map_err(corrupt)?;
        for record in records.iter() {
            if record.offset >= start && wanted(record.timestamp_ms) {
                return Ok(Some((record.timestamp_ms, record.offset)));
            }
        }
    }
    Ok(None)
}

fn storage(error: &std::io::Error) -> Failure {
    tracing::error!(%error, "a partition cannot be read");
    Failure { code: ErrorCode::KAFKA_STORAGE_ERROR, text: error.to_string().into() }
}

fn find<'a>(
    cluster: &'a Cluster,
    context: &Context,
    topic: &str,
    index: i32,
    leader_epoch: i32,
) -> Result<&'a Partition, Failure> {
    if let Some(code) = context.injected_for_partition(topic, index) {
        return Err(code.into());
    }
    context.authorize(Operation::Describe, ResourceType::Topic, topic)?;
    let partition = cluster.topics.partition(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if leader_epoch >= 0 && leader_epoch < partition.leader_epoch {
        return Err(ErrorCode::FENCED_LEADER_EPOCH.into());
    }
    if leader_epoch > partition.leader_epoch {
        return Err(ErrorCode::UNKNOWN_LEADER_EPOCH.into());
    }
    if partition.leader != context.node {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER.into());
    }
    Ok(partition)
}

pub(super) fn offset_for_leader_epoch(
    cluster: &mut Cluster,
    context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> Answer {
    let mut answer = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            let response = EpochEndOffset::default().with_partition(asked.partition);
            match find(cluster, context, &topic.topic, asked.partition, asked.current_leader_epoch) {
                Ok(partition) => {
                    let (epoch, end) = end_of_epoch(partition, asked.leader_epoch);
                    response.with_leader_epoch(epoch).with_end_offset(end)
                }
                Err(failure) => {
                    response.with_error_code(failure.code.code()).with_leader_epoch(-1).with_end_offset(-1)
                }
            }
        });
        let partitions = partitions.collect();
        answer
            .topics
            .push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions));
    }
    context.answer(&answer)
}

fn end_of_epoch(partition: &Partition, epoch: i32) -> (i32, i64) {
    partition.log.end_of_epoch(epoch, partition.leader_epoch).unwrap_or((-1, -1))
}

//! Produce 3–13: KIP-98 idempotence and transactions, from 10 on with leader hints (KIP-951), from 12 on it
//! adds its partitions to the transaction (KIP-890), from 13 on by topic id (KIP-516).
//!
//! Checked: checksum, magic, one batch per partition, size, sequences, epochs, transaction, and in compacted
//! topics keys. Not checked, since it would need every record: timestamps too far away, inner offsets of
//! compressed batches. Batches keep the producer's compression (`compression.type` is not applied).

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::protocol::limits::Limits;
use kafka_wire::protocol::messages::produce_request::PartitionProduceData;
use kafka_wire::protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_wire::protocol::messages::{BrokerId, ProduceRequest, ProduceResponse};
use kafka_wire::record::batches;
use kafka_wire::{Codec, ErrorCode, ProducerIdentity, TopicId};

use super::{Answer, Context, text};
use crate::authorizer::{Operation, ResourceType};
use crate::batch::{Header, checksum_matches};
use crate::cluster::{Cluster, millis};
use crate::error::{Failure, fail};
use crate::producers::Verdict;
use crate::quotas::PRODUCER_BYTE_RATE;

/// From here on producing adds the partition to the transaction.
const ADDS_PARTITIONS_FROM: i16 = 12;
/// From here on clients know `TRANSACTION_ABORTABLE`.
const KNOWS_ABORTABLE_FROM: i16 = 11;

/// What the whole request says.
struct Request<'a> {
    context: &'a Context,
    acks: i16,
    transactional_id: Option<String>,
}

/// Where a batch went.
struct Appended {
    base_offset: i64,
    append_time: i64,
    start_offset: i64,
}

pub(super) fn handle(cluster: &mut Cluster, context: &Context, request: ProduceRequest) -> Answer {
    let acks = request.acks;
    let bytes: usize =
        request.topic_data.iter().flat_map(|topic| &topic.partition_data).map(size_of_data).sum();
    let transactional_id = request.transactional_id.as_ref().map(|id| id.to_string());
    let whole = Request { context, acks, transactional_id };
    let mut answer = ProduceResponse::default();
    let mut failed = false;
    for topic in request.topic_data {
        let name = if context.version >= 13 {
            cluster.topics.name_of(TopicId(topic.topic_id.into_bytes())).cloned()
        } else {
            Some(Arc::from(topic.name.as_str()))
        };
        let mut answered =
            TopicProduceResponse::default().with_topic_id(topic.topic_id).with_name(topic.name);
        for partition in topic.partition_data {
            let result = match &name {
                Some(name) => append(cluster, &whole, name, partition.index, partition.records),
                None => Err(ErrorCode::UNKNOWN_TOPIC_ID.into()),
            };
            failed |= result.is_err();
            let mut response = describe(partition.index, context.version, result);
            if response.error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER.code() && context.version >= 10 {
                hint(cluster, name.as_deref().unwrap_or_default(), &mut response, &mut answer);
            }
            answered.partition_responses.push(response);
        }
        answer.responses.push(answered);
    }
    cluster.charge(context, PRODUCER_BYTE_RATE, bytes as f64);
    answer.throttle_time_ms = millis(cluster.pause_of(context));
    match (acks, failed) {
        // As Kafka: without an answer to carry the error, closing is the only way to tell.
        (0, true) => Answer::Close,
        (0, false) => Answer::Nothing,
        _ => context.answer(&answer),
    }
}

fn size_of_data(partition: &PartitionProduceData) -> usize {
    partition.records.as_ref().map_or(0, Bytes::len)
}

fn describe(index: i32, version: i16, result: Result<Appended, Failure>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match result {
        Ok(appended) => {
            let response =
                response.with_base_offset(appended.base_offset).with_log_append_time_ms(appended.append_time);
            if version >= 5 { response.with_log_start_offset(appended.start_offset) } else { response }
        }
        Err(failure) => {
            let response = response.with_error_code(failure.code.code()).with_base_offset(-1);
            let response = response.with_log_append_time_ms(-1);
            let response = if version >= 5 { response.with_log_start_offset(-1) } else { response };
            if version >= 8 { response.with_error_message(Some(text(failure.text))) } else { response }
        }
    }
}

/// Tells the client where the leader is now (KIP-951).
fn hint(
    cluster: &Cluster,
    topic: &str,
    response: &mut PartitionProduceResponse,
    answer: &mut ProduceResponse,
) {
    let Some(partition) = cluster.topics.partition(topic, response.index) else { return };
    response.current_leader = LeaderIdAndEpoch::default()
        .with_leader_id(BrokerId(partition.leader))
        .with_leader_epoch(partition.leader_epoch);
    let is_told = answer.node_endpoints.iter().any(|node| node.node_id.0 == partition.leader);
    if let Some(node) = cluster.nodes.get(&partition.leader).filter(|_| !is_told) {
        answer.node_endpoints.push(
            NodeEndpoint::default()
                .with_node_id(BrokerId(partition.leader))
                .with_host(text(&*node.host))
                .with_port(i32::from(node.port))
                .with_rack(node.rack.clone().map(text)),
        );
    }
}

fn append(
    cluster: &mut Cluster,
    request: &Request<'_>,
    topic: &str,
    index: i32,
    records: Option<Bytes>,
) -> Result<Appended, Failure> {
    let context = request.context;
    if let Some(code) = context.injected_for_partition(topic, index) {
        return Err(code.into());
    }
    if let Some(id) = &request.transactional_id {
        context.authorize(Operation::Write, ResourceType::TransactionalId, id)?;
    }
    context.authorize(Operation::Write, ResourceType::Topic, topic)?;
    if !(-1..=1).contains(&request.acks) {
        return fail(ErrorCode::INVALID_REQUIRED_ACKS, format!("acks is {}, not 0, 1 or -1", request.acks));
    }
    let Some(found) = cluster.topics.get(topic) else {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into());
    };
    let append_time = found.config.is_log_append_time().then_some(context.now.unix_ms);
    let bytes_max = found.config.message_bytes_max();
    let needs_keys = found.config.is_compacted();
    let Some(partition) = cluster.topics.partition(topic, index) else {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into());
    };
    if partition.leader != context.node {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER.into());
    }
    let records = records.unwrap_or_default();
    let header = check_batch(&records, bytes_max, context.version)?;
    if needs_keys {
        check_keys(&records)?;
    }
    if header.has_producer() {
        if let Verdict::Duplicate { base_offset, timestamp } = partition.log.producers.check(&header)? {
            let start_offset = partition.log.start_offset();
            let append_time = append_time.map_or(-1, |_| timestamp);
            return Ok(Appended { base_offset, append_time, start_offset });
        }
        let producer = ProducerIdentity { id: header.producer_id, epoch: header.producer_epoch };
        if header.is_transactional() && !partition.log.producers.has_open_transaction(producer) {
            join_transaction(cluster, request, producer, topic, index)?;
            check_first_sequence(cluster, request, &header, topic, index)?;
        }
    }
    let Some(partition) = cluster.topics.partition_mut(topic, index) else {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into());
    };
    let base_offset = partition.log.append(&records, partition.leader_epoch, append_time)?;
    let start_offset = partition.log.start_offset();
    cluster.grow(topic, index);
    Ok(Appended { base_offset, append_time: append_time.unwrap_or(-1), start_offset })
}

/// Checks the one batch that a partition of a request carries.
fn check_batch(records: &[u8], bytes_max: usize, version: i16) -> Result<Header, Failure> {
    if records.is_empty() {
        return fail(
            ErrorCode::INVALID_RECORD,
            "a produce request has to have one record batch per partition",
        );
    }
    let header = Header::parse(records)?;
    if header.base_offset != 0 {
        return fail(
            ErrorCode::INVALID_RECORD,
            format!("the record batch begins at offset {}, not at 0", header.base_offset),
        );
    }
    if header.size != records.len() {
        return fail(
            ErrorCode::INVALID_RECORD,
            "a produce request may have only one record batch per partition",
        );
    }
    if header.size > bytes_max {
        return fail(
            ErrorCode::MESSAGE_TOO_LARGE,
            format!("the record batch has {} bytes, max.message.bytes is {bytes_max}", header.size),
        );
    }
    if !checksum_matches(records) {
        return fail(ErrorCode::CORRUPT_MESSAGE, "the record batch does not match its checksum");
    }
    if header.is_control() {
        return fail(ErrorCode::INVALID_RECORD, "clients are not allowed to write control records");
    }
    if header.count <= 0 || header.last_offset_delta != header.count - 1 {
        return fail(
            ErrorCode::INVALID_RECORD,
            format!("{} records, but the last has offset delta {}", header.count, header.last_offset_delta),
        );
    }
    if header.has_producer() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return fail(ErrorCode::INVALID_RECORD, "a batch of a producer needs an epoch and a sequence");
    }
    match Codec::from_attributes(header.attributes) {
        None => fail(ErrorCode::INVALID_RECORD, format!("unknown compression in {:#x}", header.attributes)),
        Some(Codec::Zstd) if version < 7 => {
            fail(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, "zstd needs Produce version 7 (KIP-110)")
        }
        Some(_) => Ok(header),
    }
}

/// Records of a compacted topic need a key: compaction would drop them.
fn check_keys(records: &Bytes) -> Result<(), Failure> {
    let malformed = |error: kafka_wire::Error| Failure {
        code: ErrorCode::INVALID_RECORD,
        text: error.to_string().into(),
    };
    for batch in batches(records.clone()) {
        let records = batch.and_then(|batch| batch.open(&Limits::DEFAULT)).map_err(malformed)?;
        if records.iter().any(|record| record.key.is_none()) {
            return fail(
                ErrorCode::INVALID_RECORD,
                "Compacted topic cannot accept message without key in topic partition",
            );
        }
    }
    Ok(())
}

/// A producer's first batch of a transaction in this partition: the coordinator adds the partition, or says
/// that a request has added it before, else the transaction could hang for ever (KIP-890).
fn join_transaction(
    cluster: &mut Cluster,
    request: &Request<'_>,
    producer: ProducerIdentity,
    topic: &str,
    index: i32,
) -> Result<(), Failure> {
    let Request { context, transactional_id, .. } = request;
    let version = context.version;
    let Some(id) = transactional_id else {
        return fail(
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "a transactional batch without transactional id",
        );
    };
    let result = if version >= ADDS_PARTITIONS_FROM {
        let now = context.now;
        cluster.transactions.add_partitions(now.instant, now.unix_ms, id, producer, [(topic, index)])
    } else {
        cluster.transactions.verify(id, producer, topic, index).map(|()| false)
    };
    let code = match result {
        Ok(changed) => {
            if changed {
                cluster.save_transaction(id);
            }
            return Ok(());
        }
        Err(ErrorCode::PRODUCER_FENCED) => ErrorCode::INVALID_PRODUCER_EPOCH,
        // Old clients do not retry it; this one they do, without asking for metadata.
        Err(ErrorCode::CONCURRENT_TRANSACTIONS) if version < ADDS_PARTITIONS_FROM => {
            ErrorCode::NOT_ENOUGH_REPLICAS
        }
        Err(ErrorCode::INVALID_TXN_STATE) if version >= KNOWS_ABORTABLE_FROM => {
            ErrorCode::TRANSACTION_ABORTABLE
        }
        Err(code) => code,
    };
    Err(code.into())
}

/// Under KIP-890 a producer that the partition does not know begins with sequence 0: its first batch cannot
/// have been overtaken.
fn check_first_sequence(
    cluster: &Cluster,
    request: &Request<'_>,
    header: &Header,
    topic: &str,
    index: i32,
) -> Result<(), Failure> {
    let is_known = cluster
        .topics
        .partition(topic, index)
        .is_some_and(|partition| partition.log.producers.is_known(header.producer_id));
    if is_known || header.base_sequence == 0 || request.context.version < ADDS_PARTITIONS_FROM {
        return Ok(());
    }
    fail(
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        format!(
            "producer {} is new here, but begins with sequence {}",
            header.producer_id, header.base_sequence
        ),
    )
}

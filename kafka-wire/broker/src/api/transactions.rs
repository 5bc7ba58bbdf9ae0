//! InitProducerId 0–5, AddPartitionsToTxn 0–5 (clients use up to 3), AddOffsetsToTxn 0–4, TxnOffsetCommit
//! 0–5, EndTxn 0–5, DescribeTransactions 0, ListTransactions 0–2 (patterns are those of the `regex`
//! crate, which are those of RE2 that Kafka takes).
//!
//! EndTxn from version 5 on raises the epoch (KIP-890); TxnOffsetCommit from 5 on adds its group. An open
//! transaction is aborted as soon as its timeout is over, where Kafka looks every ten seconds.

use kafka_wire::protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_wire::protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_wire::protocol::messages::describe_transactions_response::{self as described, TopicData};
use kafka_wire::protocol::messages::list_transactions_response as listed;
use kafka_wire::protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_wire::protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse,
    InitProducerIdRequest, InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse,
    ProducerId, StrBytes, TransactionalId, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use kafka_wire::{ErrorCode, ProducerIdentity};
use regex::{Regex, RegexBuilder};

use super::offsets::{check_committer, check_offset};
use super::{Answer, Context, text, topic_name};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::Cluster;
use crate::error::Failure;
use crate::groups::classic::Identity;
use crate::journal::Entry;
use crate::transactions::State;

/// From here on `EndTxn` raises the epoch and `TxnOffsetCommit` adds its group.
const VERSION_2_FROM: i16 = 5;
/// From here on `TxnOffsetCommit` knows `TRANSACTION_ABORTABLE`.
const KNOWS_ABORTABLE_FROM: i16 = 4;
const TRANSACTION: i8 = 1;
/// Memory that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(super) fn init_producer_id(
    cluster: &mut Cluster,
    context: &Context,
    request: InitProducerIdRequest,
) -> Answer {
    let mut answer = InitProducerIdResponse::default();
    match init(cluster, context, &request) {
        Ok(producer) => {
            answer.producer_id = ProducerId(producer.id);
            answer.producer_epoch = producer.epoch;
        }
        Err(failure) => {
            // Before version 4 clients know fencing by another code.
            answer.error_code = fenced_as(failure.code, context.version >= 4).code();
            answer.producer_id = ProducerId(-1);
            answer.producer_epoch = -1;
        }
    }
    context.answer(&answer)
}

fn fenced_as(code: ErrorCode, knows_fenced: bool) -> ErrorCode {
    match code {
        ErrorCode::PRODUCER_FENCED if !knows_fenced => ErrorCode::INVALID_PRODUCER_EPOCH,
        code => code,
    }
}

fn init(
    cluster: &mut Cluster,
    context: &Context,
    request: &InitProducerIdRequest,
) -> Result<ProducerIdentity, Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    let Some(id) = request.transactional_id.as_ref().map(|id| id.to_string()) else {
        may_write_idempotently(context)?;
        let id = cluster.transactions.assign_producer_id();
        cluster.record(Entry::ProducerIds { next: id + 1 });
        return Ok(ProducerIdentity { id, epoch: 0 });
    };
    if id.is_empty() {
        return Err(ErrorCode::INVALID_REQUEST.into());
    }
    context.authorize(Operation::Write, ResourceType::TransactionalId, &id)?;
    cluster.check_coordinator(context, TRANSACTION, &id)?;
    let timeout_max = cluster.options.transaction_max_timeout.as_millis();
    let in_range = u128::try_from(request.transaction_timeout_ms).is_ok_and(|ms| ms > 0 && ms <= timeout_max);
    if !in_range {
        return Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT.into());
    }
    let expected = (request.producer_id.0 >= 0)
        .then_some(ProducerIdentity { id: request.producer_id.0, epoch: request.producer_epoch });
    let now = context.now.instant;
    let result = cluster.transactions.init(now, &id, request.transaction_timeout_ms, expected);
    cluster.save_transaction(&id);
    Ok(result?)
}

/// Who may write to any topic may have a producer id.
fn may_write_idempotently(context: &Context) -> Result<(), ErrorCode> {
    if context.authorizer.allows_any(context.who(), Operation::Write, ResourceType::Topic) {
        return Ok(());
    }
    context.authorize_cluster(Operation::IdempotentWrite)
}

/// Whether this is the coordinator of a transactional id that the principal may write with.
fn check_owner(cluster: &Cluster, context: &Context, id: &str) -> Result<(), Failure> {
    context.authorize(Operation::Write, ResourceType::TransactionalId, id)?;
    cluster.check_coordinator(context, TRANSACTION, id)
}

pub(super) fn add_partitions(
    cluster: &mut Cluster,
    context: &Context,
    request: AddPartitionsToTxnRequest,
) -> Answer {
    let mut answer = AddPartitionsToTxnResponse::default();
    if context.version < 4 {
        let producer = ProducerIdentity {
            id: request.v3_and_below_producer_id.0,
            epoch: request.v3_and_below_producer_epoch,
        };
        let id = request.v3_and_below_transactional_id.to_string();
        let topics = request.v3_and_below_topics;
        answer.results_by_topic_v3_and_below = add(cluster, context, &id, producer, false, &topics);
        return context.answer(&answer);
    }
    for transaction in request.transactions {
        let producer = ProducerIdentity { id: transaction.producer_id.0, epoch: transaction.producer_epoch };
        let id = transaction.transactional_id.to_string();
        let results = add(cluster, context, &id, producer, transaction.verify_only, &transaction.topics);
        answer.results_by_transaction.push(
            AddPartitionsToTxnResult::default()
                .with_transactional_id(transaction.transactional_id)
                .with_topic_results(results),
        );
    }
    context.answer(&answer)
}

/// Adds, or verifies, the partitions of one transaction: all or none.
fn add(
    cluster: &mut Cluster,
    context: &Context,
    id: &str,
    producer: ProducerIdentity,
    verify_only: bool,
    topics: &[AddPartitionsToTxnTopic],
) -> Vec<AddPartitionsToTxnTopicResult> {
    let each = || topics.iter().flat_map(|it| it.partitions.iter().map(|&index| (it.name.as_str(), index)));
    let unknown = |cluster: &Cluster, topic: &str, index| cluster.topics.partition(topic, index).is_none();
    let refusal = |topic: &str| context.authorize(Operation::Write, ResourceType::Topic, topic).err();
    let any_unknown = each().any(|(topic, index)| unknown(cluster, topic, index) || refusal(topic).is_some());
    let outcome = match check_owner(cluster, context, id) {
        Err(failure) => Err(failure.code),
        Ok(()) if any_unknown => Ok(()),
        Ok(()) if verify_only => {
            each().try_for_each(|(topic, index)| cluster.transactions.verify(id, producer, topic, index))
        }
        Ok(()) => {
            let now = context.now;
            let added = cluster.transactions.add_partitions(now.instant, now.unix_ms, id, producer, each());
            if added == Ok(true) {
                cluster.save_transaction(id);
            }
            added.map(|_| ())
        }
    };
    let code_for = |topic: &str, index: i32| {
        let injected = context.injected_for_partition(topic, index);
        match injected.map_or(outcome, Err) {
            Err(code) => fenced_as(code, context.version >= 2).code(),
            Ok(()) if refusal(topic).is_some() => refusal(topic).map_or(0, ErrorCode::code),
            Ok(()) if unknown(cluster, topic, index) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code(),
            Ok(()) if any_unknown => ErrorCode::OPERATION_NOT_ATTEMPTED.code(),
            Ok(()) => 0,
        }
    };
    let results = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|&index| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(index)
                .with_partition_error_code(code_for(&topic.name, index))
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    results.collect()
}

pub(super) fn add_offsets(
    cluster: &mut Cluster,
    context: &Context,
    request: AddOffsetsToTxnRequest,
) -> Answer {
    let id = request.transactional_id.to_string();
    let producer = ProducerIdentity { id: request.producer_id.0, epoch: request.producer_epoch };
    let now = context.now;
    let readable = context.authorize(Operation::Read, ResourceType::Group, &request.group_id);
    let result = match check_owner(cluster, context, &id).and_then(|()| Ok(readable?)) {
        Err(failure) => Err(failure.code),
        Ok(()) => cluster.transactions.add_group(now.instant, now.unix_ms, &id, producer, &request.group_id),
    };
    let error_code = match result {
        Ok(()) => {
            cluster.save_transaction(&id);
            0
        }
        Err(code) => fenced_as(code, context.version >= 2).code(),
    };
    context.answer(&AddOffsetsToTxnResponse::default().with_error_code(error_code))
}

pub(super) fn commit_offsets(
    cluster: &mut Cluster,
    context: &Context,
    request: TxnOffsetCommitRequest,
) -> Answer {
    let mut accepted = Vec::new();
    let mut judged = Vec::new();
    for topic in &request.topics {
        for asked in &topic.partitions {
            let index = asked.partition_index;
            let checked = match context.injected_for_partition(&topic.name, index) {
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
            judged.push(checked.as_ref().err().map(|code| code.code()));
            accepted.extend(checked);
        }
    }
    let refused = put_offsets(cluster, context, &request, accepted).err().map(|failure| failure.code.code());
    let mut judged = judged.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let own = judged.next().flatten();
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(refused.or(own).unwrap_or(0))
        });
        let partitions = partitions.collect();
        TxnOffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    context.answer(&TxnOffsetCommitResponse::default().with_topics(topics))
}

fn put_offsets(
    cluster: &mut Cluster,
    context: &Context,
    request: &TxnOffsetCommitRequest,
    offsets: Vec<crate::groups::CommittedOffset>,
) -> Result<(), Failure> {
    let id = request.transactional_id.as_str();
    let group = request.group_id.as_str();
    context.authorize(Operation::Write, ResourceType::TransactionalId, id)?;
    context.authorize(Operation::Read, ResourceType::Group, group)?;
    cluster.check_coordinator(context, 0, group)?;
    let who = Identity {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    check_committer(cluster, context, group, who)?;
    let producer = ProducerIdentity { id: request.producer_id.0, epoch: request.producer_epoch };
    let now = context.now;
    let as_group_coordinator = |code| match code {
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::INVALID_TXN_STATE if context.version >= KNOWS_ABORTABLE_FROM => {
            ErrorCode::TRANSACTION_ABORTABLE
        }
        code => code,
    };
    if context.version >= VERSION_2_FROM {
        cluster
            .transactions
            .add_group(now.instant, now.unix_ms, id, producer, group)
            .map_err(as_group_coordinator)?;
    }
    cluster.transactions.put_offsets(id, producer, group, offsets).map_err(as_group_coordinator)?;
    cluster.save_transaction(id);
    Ok(())
}

pub(super) fn end(cluster: &mut Cluster, context: &Context, request: EndTxnRequest) -> Answer {
    let id = request.transactional_id.to_string();
    let producer = ProducerIdentity { id: request.producer_id.0, epoch: request.producer_epoch };
    let raises_epoch = context.version >= VERSION_2_FROM;
    let mut answer = EndTxnResponse::default().with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
    let result = match check_owner(cluster, context, &id) {
        Err(failure) => Err(failure.code),
        Ok(()) => {
            let now = context.now.instant;
            cluster.transactions.end(now, &id, producer, request.committed, raises_epoch)
        }
    };
    match result {
        Ok(next) => {
            cluster.save_transaction(&id);
            if raises_epoch {
                answer.producer_id = ProducerId(next.id);
                answer.producer_epoch = next.epoch;
            }
        }
        Err(code) => answer.error_code = fenced_as(code, context.version >= 2).code(),
    }
    context.answer(&answer)
}

fn may_describe(context: &Context, id: &str) -> Result<(), ErrorCode> {
    context.authorize(Operation::Describe, ResourceType::TransactionalId, id)
}

pub(super) fn describe(
    cluster: &mut Cluster,
    context: &Context,
    request: DescribeTransactionsRequest,
) -> Answer {
    let states = request.transactional_ids.into_iter().map(|id| {
        let state = described::TransactionState::default().with_transactional_id(id.clone());
        let error = may_describe(context, &id).map_err(Failure::from);
        let error = error.and_then(|()| cluster.check_coordinator(context, TRANSACTION, &id));
        let error = error.err().map(|failure| failure.code);
        let Some(transaction) = cluster.transactions.get(&id).filter(|_| error.is_none()) else {
            let code = error.unwrap_or(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
            return state.with_error_code(code.code());
        };
        let mut topics: Vec<TopicData> = Vec::new();
        for (topic, partition) in &transaction.partitions {
            match topics.last_mut().filter(|known| known.topic.as_str() == topic) {
                Some(known) => known.partitions.push(*partition),
                None => topics.push(
                    TopicData::default().with_topic(topic_name(topic)).with_partitions(vec![*partition]),
                ),
            }
        }
        state
            .with_transaction_state(text(transaction.state.name()))
            .with_transaction_timeout_ms(transaction.timeout_ms)
            .with_transaction_start_time_ms(transaction.started_unix_ms)
            .with_producer_id(ProducerId(transaction.producer_id))
            .with_producer_epoch(transaction.epoch)
            .with_topics(topics)
    });
    let states = states.collect();
    context.answer(&DescribeTransactionsResponse::default().with_transaction_states(states))
}

pub(super) fn list(cluster: &mut Cluster, context: &Context, request: ListTransactionsRequest) -> Answer {
    let mut answer = ListTransactionsResponse::default();
    let pattern = request.transactional_id_pattern.as_deref().filter(|pattern| !pattern.is_empty());
    let pattern = match pattern.map(whole_name).transpose() {
        Ok(pattern) => pattern,
        Err(code) => return context.answer(&answer.with_error_code(code.code())),
    };
    let is_known = |filter: &&StrBytes| State::ALL.iter().any(|state| state.name() == filter.as_str());
    answer.unknown_state_filters =
        request.state_filters.iter().filter(|filter| !is_known(filter)).cloned().collect();
    let states = cluster.transactions.iter().filter(|transaction| {
        let filters = &request.state_filters;
        let state_fits =
            filters.is_empty() || filters.iter().any(|it| it.as_str() == transaction.state.name());
        let producers = &request.producer_id_filters;
        let producer_fits =
            producers.is_empty() || producers.iter().any(|it| it.0 == transaction.producer_id);
        let age_ms = context.now.unix_ms.saturating_sub(transaction.started_unix_ms);
        let age_fits = request.duration_filter < 0 || age_ms > request.duration_filter;
        let name_fits = pattern.as_ref().is_none_or(|pattern| pattern.is_match(&transaction.id));
        let is_here = cluster.coordinator(TRANSACTION, &transaction.id) == context.node;
        let is_wanted = state_fits && producer_fits && age_fits && name_fits;
        is_wanted && is_here && may_describe(context, &transaction.id).is_ok()
    });
    let states = states.map(|transaction| {
        listed::TransactionState::default()
            .with_transactional_id(TransactionalId(text(transaction.id.as_str())))
            .with_producer_id(ProducerId(transaction.producer_id))
            .with_transaction_state(text(transaction.state.name()))
    });
    answer.transaction_states = states.collect();
    context.answer(&answer)
}

/// A pattern for whole transactional ids.
fn whole_name(pattern: &str) -> Result<Regex, ErrorCode> {
    let whole = RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(PATTERN_BYTES_MAX).build();
    whole.map_err(|_| ErrorCode::INVALID_REGULAR_EXPRESSION)
}

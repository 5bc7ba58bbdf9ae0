//! The five calls to coordinators: what is asked, and what the answers mean.

use std::ops::RangeInclusive;
use std::sync::Arc;

use foldhash::HashSet;

use super::{GroupMetadata, Protocol, Transactions};
use crate::cluster::CoordinatorKind;
use crate::engine::Target;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use crate::protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use crate::protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, GroupId, InitProducerIdRequest,
    ProducerId, StrBytes, TopicName, TransactionalId, TxnOffsetCommitRequest,
};
use crate::protocol::request::{Plain, Request, Response};
use crate::types::{CommittedOffset, LeaderEpoch, ProducerIdentity, TopicPartition};

#[derive(Clone, Debug)]
pub(super) enum Call {
    /// With `renew`, raises the epoch of that pair (KIP-360); without, starts afresh and fences others.
    InitProducerId {
        renew: Option<ProducerIdentity>,
    },
    AddPartitions {
        partitions: Vec<TopicPartition>,
    },
    /// Tells the transaction's coordinator of the group of the first pending offsets.
    AddOffsets,
    /// Tells that group's coordinator.
    CommitOffsets,
    End {
        commit: bool,
    },
}

impl Call {
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::InitProducerId { .. } => "get a producer id (InitProducerId)",
            Self::AddPartitions { .. } => "add partitions to the transaction (AddPartitionsToTxn)",
            Self::AddOffsets => "add a group to the transaction (AddOffsetsToTxn)",
            Self::CommitOffsets => "add offsets to the transaction (TxnOffsetCommit)",
            Self::End { commit: true } => "commit the transaction (EndTxn)",
            Self::End { commit: false } => "abort the transaction (EndTxn)",
        }
    }
}

/// What an answer means.
#[derive(Debug)]
pub(super) enum Answer {
    /// It was done; with the pair to write with from now on, where the answer tells one.
    Done {
        identity: Option<ProducerIdentity>,
    },
    /// There is none.
    Lost(Error),
    Retry(Error),
    /// The coordinator is elsewhere.
    Moved(Error),
    /// The transaction cannot be committed any more.
    Abortable(Error),
    /// The producer cannot go on.
    Fatal(Error),
}

impl Transactions {
    /// Whose answer is asked for.
    pub(super) fn coordinator(&self, call: &Call) -> Option<(CoordinatorKind, Arc<str>)> {
        if let Call::CommitOffsets = call {
            let group = &self.offsets.front()?.group.group_id;
            return Some((CoordinatorKind::Group, group.as_str().into()));
        }
        let id = self.config.transactional_id.as_ref()?;
        Some((CoordinatorKind::Transaction, Arc::clone(id)))
    }

    pub(super) fn target(&self, call: &Call) -> Target {
        self.coordinator(call).map_or(Target::Any, |(kind, key)| Target::Coordinator { kind, key })
    }

    pub(super) fn request(&self, call: &Call) -> Box<dyn Request> {
        let id = TransactionalId(text(self.config.transactional_id.as_deref().unwrap_or_default()));
        let identity = self.identity.unwrap_or(ProducerIdentity { id: -1, epoch: -1 });
        let producer = ProducerId(identity.id);
        let epoch = identity.epoch;
        match call {
            Call::InitProducerId { renew } => self.init_request(*renew),
            Call::AddPartitions { partitions } => Box::new(Plain::in_versions(
                // Newer versions are for brokers, which ask for several producers at a time.
                AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(id)
                    .with_v3_and_below_producer_id(producer)
                    .with_v3_and_below_producer_epoch(epoch)
                    .with_v3_and_below_topics(topics(partitions)),
                0..=3,
            )),
            Call::AddOffsets => {
                let group = self.offsets.front().map(|pending| pending.group.group_id.as_str());
                Box::new(Plain::in_versions(
                    AddOffsetsToTxnRequest::default()
                        .with_transactional_id(id)
                        .with_producer_id(producer)
                        .with_producer_epoch(epoch)
                        .with_group_id(GroupId(text(group.unwrap_or_default()))),
                    0..=3,
                ))
            }
            Call::CommitOffsets => {
                let request = TxnOffsetCommitRequest::default()
                    .with_transactional_id(id)
                    .with_producer_id(producer)
                    .with_producer_epoch(epoch);
                let request = match self.offsets.front() {
                    Some(pending) => with_offsets(request, &pending.group, &pending.offsets),
                    None => request,
                };
                // From version 5 on the broker adds the group to the transaction by itself. Version 3 is
                // the first that can say which member commits (KIP-447).
                let has_member =
                    self.offsets.front().is_some_and(|pending| !pending.group.member_id.is_empty());
                let oldest = if has_member { 3 } else { 0 };
                Box::new(Plain::in_versions(request, self.versions(oldest..=4, 5..=5)))
            }
            Call::End { commit } => Box::new(Plain::in_versions(
                EndTxnRequest::default()
                    .with_transactional_id(id)
                    .with_producer_id(producer)
                    .with_producer_epoch(epoch)
                    .with_committed(*commit),
                self.versions(0..=4, 5..=5),
            )),
        }
    }

    /// The version is what tells a broker which protocol the transaction follows.
    fn versions(&self, v1: RangeInclusive<i16>, v2: RangeInclusive<i16>) -> RangeInclusive<i16> {
        match self.protocol {
            Protocol::V1 => v1,
            Protocol::V2 => v2,
        }
    }

    fn init_request(&self, renew: Option<ProducerIdentity>) -> Box<dyn Request> {
        let identity = renew.unwrap_or(ProducerIdentity { id: -1, epoch: -1 });
        let timeout_ms = i32::try_from(self.config.timeout.as_millis()).unwrap_or(i32::MAX);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(
                self.config.transactional_id.as_deref().map(|id| TransactionalId(text(id))),
            )
            .with_transaction_timeout_ms(timeout_ms)
            .with_producer_id(ProducerId(identity.id))
            .with_producer_epoch(identity.epoch);
        // A coordinator that cannot be told the pair, before 2.5, would take the epoch from whoever has it now.
        // Version 6 is for two-phase commit (KIP-939).
        let oldest = if renew.is_some() { 3 } else { 0 };
        Box::new(Plain::in_versions(request, oldest..=5))
    }

    pub(super) fn read(&self, call: &Call, response: Response) -> Result<Answer> {
        Ok(match call {
            Call::InitProducerId { .. } => {
                let answer = response.decode::<InitProducerIdRequest>()?;
                let identity = ProducerIdentity { id: answer.producer_id.0, epoch: answer.producer_epoch };
                judge(call, answer.error_code, Some(identity))
            }
            Call::AddPartitions { partitions } => {
                let answer = response.decode::<AddPartitionsToTxnRequest>()?;
                let told = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| {
                    let partitions = topic.results_by_partition.iter();
                    partitions.map(|it| (topic.name.as_str(), it.partition_index, it.partition_error_code))
                });
                judge_all(call, partitions, told)?
            }
            Call::AddOffsets => judge(call, response.decode::<AddOffsetsToTxnRequest>()?.error_code, None),
            Call::CommitOffsets => {
                let answer = response.decode::<TxnOffsetCommitRequest>()?;
                let told = answer.topics.iter().flat_map(|topic| {
                    let partitions = topic.partitions.iter();
                    partitions.map(|it| (topic.name.as_str(), it.partition_index, it.error_code))
                });
                let pending = self.offsets.front().into_iter().flat_map(|pending| &pending.offsets);
                judge_all(call, pending.map(|(partition, _)| partition), told)?
            }
            Call::End { commit } => {
                let version = response.version;
                let answer = response.decode::<EndTxnRequest>()?;
                if version >= 5 && !commit && answer.error_code == ErrorCode::INVALID_TXN_STATE.code() {
                    // Nothing of this transaction has reached the coordinator, which is still completing the
                    // one before; when that is done, it takes the abort and raises the epoch.
                    return Ok(Answer::Retry(Error::broker(ErrorCode::INVALID_TXN_STATE, call.describe())));
                }
                let next = ProducerIdentity { id: answer.producer_id.0, epoch: answer.producer_epoch };
                judge(call, answer.error_code, (version >= 5 && next.id >= 0).then_some(next))
            }
        })
    }
}

/// Where each partition has an error of its own; of the `asked` ones none must be left out.
fn judge_all<'a>(
    call: &Call,
    asked: impl IntoIterator<Item = &'a TopicPartition>,
    told: impl Iterator<Item = (&'a str, i32, i16)> + Clone,
) -> Result<Answer> {
    let code = worst(told.clone().map(|(.., code)| code));
    let named: HashSet<(&str, i32)> = told.map(|(topic, partition, _)| (topic, partition)).collect();
    let is_missing = |at: &&TopicPartition| !named.contains(&(&*at.topic, at.partition));
    match asked.into_iter().find(is_missing).filter(|_| code == 0) {
        None => Ok(judge(call, code, None)),
        Some(partition) => {
            let text = format!("{}: the coordinator answered without this partition", call.describe());
            Err(Error::new(ErrorKind::Protocol, text).with_partition(partition.clone()))
        }
    }
}

/// Of several errors the one to act on: first those that say the most about the whole.
fn worst(codes: impl Iterator<Item = i16>) -> i16 {
    codes
        .filter(|code| *code != 0)
        .max_by_key(|code| match ErrorCode::from_wire(*code) {
            // The others were not looked at because of one that was refused.
            Some(ErrorCode::OPERATION_NOT_ATTEMPTED) => 0,
            Some(code) if code.is_retriable() => 1,
            _ => 2,
        })
        .unwrap_or(0)
}

/// As Java's `TransactionManager`, handler by handler.
fn judge(call: &Call, code: i16, identity: Option<ProducerIdentity>) -> Answer {
    let Some(code) = ErrorCode::from_wire(code) else { return Answer::Done { identity } };
    let error = Error::broker(code, call.describe());
    match code {
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => Answer::Moved(error),
        ErrorCode::CONCURRENT_TRANSACTIONS => Answer::Retry(error),
        _ if code.is_retriable() => Answer::Retry(error),
        ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_EPOCH => {
            let text = format!(
                "{}: a newer producer with the same transactional.id has taken over, or the transaction was \
                 open for longer than transaction.timeout.ms",
                call.describe()
            );
            Answer::Fatal(Error::new(ErrorKind::Fenced, text).with_cause(error))
        }
        ErrorCode::TRANSACTION_ABORTABLE if !matches!(call, Call::InitProducerId { .. }) => {
            Answer::Abortable(error)
        }
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::OPERATION_NOT_ATTEMPTED
        | ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::FENCED_INSTANCE_ID
        | ErrorCode::STALE_MEMBER_EPOCH
        | ErrorCode::FENCED_MEMBER_EPOCH
        | ErrorCode::OFFSET_METADATA_TOO_LARGE
        | ErrorCode::INVALID_COMMIT_OFFSET_SIZE => Answer::Abortable(error),
        ErrorCode::INVALID_TXN_STATE => Answer::Fatal(error.with_hint(
            "the coordinator has no such transaction open: it aborts one that is open for longer than \
             transaction.timeout.ms",
        )),
        // Authorization, unsupported; and INVALID_PRODUCER_ID_MAPPING, of which the caller knows more.
        _ => Answer::Fatal(error),
    }
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// `partitions` are sorted, so that those of a topic are neighbours.
fn topics(partitions: &[TopicPartition]) -> Vec<AddPartitionsToTxnTopic> {
    partitions
        .chunk_by(|a, b| a.topic == b.topic)
        .map(|of_topic| {
            AddPartitionsToTxnTopic::default()
                .with_name(TopicName(text(&of_topic[0].topic)))
                .with_partitions(of_topic.iter().map(|partition| partition.partition).collect())
        })
        .collect()
}

fn with_offsets(
    request: TxnOffsetCommitRequest,
    group: &GroupMetadata,
    offsets: &[(TopicPartition, CommittedOffset)],
) -> TxnOffsetCommitRequest {
    let mut sorted: Vec<_> = offsets.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let topics = sorted.chunk_by(|a, b| a.0.topic == b.0.topic).map(|of_topic| {
        let partitions = of_topic.iter().map(|(partition, offset)| {
            TxnOffsetCommitRequestPartition::default()
                .with_partition_index(partition.partition)
                .with_committed_offset(offset.offset)
                .with_committed_leader_epoch(LeaderEpoch::to_wire(offset.leader_epoch))
                .with_committed_metadata(Some(text(&offset.metadata)))
        });
        TxnOffsetCommitRequestTopic::default()
            .with_name(TopicName(text(&of_topic[0].0.topic)))
            .with_partitions(partitions.collect())
    });
    request
        .with_group_id(GroupId(text(&group.group_id)))
        .with_generation_id(group.generation)
        .with_member_id(text(&group.member_id))
        .with_group_instance_id(group.group_instance_id.as_deref().map(text))
        .with_topics(topics.collect())
}

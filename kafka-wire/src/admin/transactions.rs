//! Transactions (KIP-664): list, describe, fence their producers, and end those that hang.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::names::worded;
use super::wire::{
    broker, flatten, known, leader, millis, numbers_by_topic, one, outcome, text, topic_name,
    transaction_coordinator,
};
use super::{Operation, Outcomes, Unknown};
use crate::cluster::Cluster;
use crate::engine::Target;
use crate::error::Result;
use crate::protocol::messages::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use crate::protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};
use crate::protocol::messages::{
    DescribeTransactionsRequest, InitProducerIdRequest, ListTransactionsRequest, ProducerId, TransactionalId,
};
use crate::protocol::request::{ByVersion, Plain, Request, Response};
use crate::types::{BrokerId, ProducerIdentity, TopicPartition};

worded! {
    /// How a transaction stands.
    TransactionState, "a transaction state" {
        /// There has been none, or its end is done with.
        Empty = "Empty",
        /// It is open.
        Ongoing = "Ongoing",
        /// It is decided that it commits; the markers are being written.
        PrepareCommit = "PrepareCommit",
        /// It is decided that it aborts; the markers are being written.
        PrepareAbort = "PrepareAbort",
        /// It was committed.
        CompleteCommit = "CompleteCommit",
        /// It was aborted.
        CompleteAbort = "CompleteAbort",
        /// The transactional id has not been used for long, and goes.
        Dead = "Dead",
        /// A newer producer is taking over.
        PrepareEpochFence = "PrepareEpochFence",
    }
}

/// A transactional id in a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct TransactionListing {
    /// The transactional id.
    pub transactional_id: String,
    /// Its producer's id.
    pub producer_id: i64,
    /// How its transaction stands.
    pub state: TransactionState,
    /// Which broker coordinates it.
    pub coordinator: BrokerId,
}

/// Which transactional ids are listed; with nothing in it, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// In these states.
    pub states: Vec<TransactionState>,
    /// Of these producers.
    pub producer_ids: Vec<i64>,
    /// Open for longer than this (KIP-994, from Kafka 3.8).
    pub longer_than: Option<Duration>,
    /// Whose id matches this regular expression of RE2 (KIP-1152, from Kafka 4.1).
    pub id_pattern: Option<String>,
}

/// The transactional ids that a broker coordinates.
pub(crate) struct ListTransactions {
    pub(crate) filter: TransactionFilter,
}

impl Operation for ListTransactions {
    type Key = BrokerId;
    type Item = ();
    type Output = Vec<TransactionListing>;
    const ATTEMPT: &'static str = "list the transactions of broker";

    fn target(&self, key: &BrokerId, _: &Cluster) -> Result<Target, Unknown> {
        Ok(broker(*key))
    }

    fn request(&self, _: &[(BrokerId, ())], _: Duration) -> Box<dyn Request> {
        let filter = &self.filter;
        let from = match filter {
            TransactionFilter { id_pattern: Some(_), .. } => 2,
            TransactionFilter { longer_than: Some(_), .. } => 1,
            _ => 0,
        };
        let longer_than =
            filter.longer_than.map_or(-1, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        let request = ListTransactionsRequest::default()
            .with_state_filters(filter.states.iter().map(|state| text(&state.to_string())).collect())
            .with_producer_id_filters(filter.producer_ids.iter().map(|id| ProducerId(*id)).collect())
            .with_duration_filter(longer_than)
            .with_transactional_id_pattern(filter.id_pattern.as_deref().map(text));
        Box::new(Plain::in_versions(request, from..=2))
    }

    fn read(&self, items: &[(BrokerId, ())], response: Response) -> Result<Outcomes<BrokerId, Self::Output>> {
        let answer = response.decode::<ListTransactionsRequest>()?;
        let coordinator = items.first().map_or(BrokerId(-1), |(broker, ())| *broker);
        let listed = answer.transaction_states.into_iter().map(|listed| TransactionListing {
            transactional_id: listed.transactional_id.to_string(),
            producer_id: listed.producer_id.0,
            state: TransactionState::from_wire(&listed.transaction_state),
            coordinator,
        });
        Ok(one(items, outcome(answer.error_code, None, listed.collect())))
    }
}

/// A transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactionDescription {
    /// How its transaction stands.
    pub state: TransactionState,
    /// Its producer.
    pub producer: ProducerIdentity,
    /// `transaction.timeout.ms` of the producer.
    pub timeout: Duration,
    /// When the transaction began, in milliseconds since 1970; `None` when none is open.
    pub started_ms: Option<i64>,
    /// The partitions that take part in it.
    pub partitions: BTreeSet<TopicPartition>,
}

pub(crate) struct DescribeTransactions;

impl Operation for DescribeTransactions {
    type Key = String;
    type Item = ();
    type Output = TransactionDescription;
    const ATTEMPT: &'static str = "describe transactional id";

    fn target(&self, key: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(transaction_coordinator(key))
    }

    fn request(&self, items: &[(String, ())], _: Duration) -> Box<dyn Request> {
        let ids = items.iter().map(|(id, ())| TransactionalId(text(id))).collect();
        Box::new(Plain::new(DescribeTransactionsRequest::default().with_transactional_ids(ids)))
    }

    fn read(&self, _: &[(String, ())], response: Response) -> Result<Outcomes<String, Self::Output>> {
        let answer = response.decode::<DescribeTransactionsRequest>()?;
        let outcomes = answer.transaction_states.into_iter().map(|described| {
            let topics = described.topics.into_iter().flat_map(|topic| {
                let name: Arc<str> = Arc::from(topic.topic.as_str());
                topic.partitions.into_iter().map(move |number| TopicPartition::new(Arc::clone(&name), number))
            });
            let timeout_ms = u64::try_from(described.transaction_timeout_ms).unwrap_or_default();
            let description = TransactionDescription {
                state: TransactionState::from_wire(&described.transaction_state),
                producer: ProducerIdentity { id: described.producer_id.0, epoch: described.producer_epoch },
                timeout: Duration::from_millis(timeout_ms),
                started_ms: known(described.transaction_start_time_ms),
                partitions: topics.collect(),
            };
            (described.transactional_id.to_string(), outcome(described.error_code, None, description))
        });
        Ok(outcomes.collect())
    }
}

/// What a partition knows of a producer that has written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerState {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i32,
    /// The sequence number of its last batch; `None` when it has written only markers.
    pub last_sequence: Option<i64>,
    /// When it last wrote, in milliseconds since 1970.
    pub last_timestamp_ms: Option<i64>,
    /// The epoch of the coordinator that last wrote a marker for it.
    pub coordinator_epoch: Option<i64>,
    /// Where its open transaction begins; `None` when none is open here.
    pub transaction_start_offset: Option<i64>,
}

/// The producers that partitions know of.
pub(crate) struct DescribeProducers {
    /// Ask this replica, and not the leaders.
    pub(crate) replica: Option<BrokerId>,
}

impl Operation for DescribeProducers {
    type Key = TopicPartition;
    type Item = ();
    type Output = Vec<ProducerState>;
    const ATTEMPT: &'static str = "describe the producers";
    const BY_LEADER: bool = true;

    fn target(&self, key: &TopicPartition, cluster: &Cluster) -> Result<Target, Unknown> {
        self.replica.map_or_else(|| leader(key, cluster), |id| Ok(broker(id)))
    }

    fn request(&self, items: &[(TopicPartition, ())], _: Duration) -> Box<dyn Request> {
        let topics =
            numbers_by_topic(items.iter().map(|(key, ())| key)).into_iter().map(|(topic, numbers)| {
                TopicRequest::default().with_name(topic_name(topic)).with_partition_indexes(numbers)
            });
        Box::new(Plain::new(DescribeProducersRequest::default().with_topics(topics.collect())))
    }

    fn read(
        &self,
        _: &[(TopicPartition, ())],
        response: Response,
    ) -> Result<Outcomes<TopicPartition, Self::Output>> {
        let answer = response.decode::<DescribeProducersRequest>()?;
        let topics = answer.topics.into_iter().map(|topic| (topic.name, topic.partitions));
        Ok(flatten(topics, |partition| {
            let producers = partition.active_producers.into_iter().map(|producer| ProducerState {
                producer_id: producer.producer_id.0,
                producer_epoch: producer.producer_epoch,
                last_sequence: known(producer.last_sequence.into()),
                last_timestamp_ms: known(producer.last_timestamp),
                coordinator_epoch: known(producer.coordinator_epoch.into()),
                transaction_start_offset: known(producer.current_txn_start_offset),
            });
            let producers = producers.collect();
            (partition.partition_index, outcome(partition.error_code, partition.error_message, producers))
        }))
    }
}

/// An open transaction in one partition, which no coordinator will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HangingTransaction {
    /// Whose it is.
    pub producer: ProducerIdentity,
    /// [`ProducerState::coordinator_epoch`], or 0 where there is none.
    pub coordinator_epoch: i32,
}

/// Writes a marker into partitions that aborts what a producer has open there.
pub(crate) struct AbortTransactions;

impl Operation for AbortTransactions {
    type Key = TopicPartition;
    type Item = HangingTransaction;
    type Output = ();
    const ATTEMPT: &'static str = "abort a transaction";
    const BY_LEADER: bool = true;

    fn target(&self, key: &TopicPartition, cluster: &Cluster) -> Result<Target, Unknown> {
        leader(key, cluster)
    }

    fn request(&self, items: &[(TopicPartition, HangingTransaction)], _: Duration) -> Box<dyn Request> {
        let markers = items.iter().map(|(partition, hanging)| {
            let topic = WritableTxnMarkerTopic::default()
                .with_name(topic_name(&partition.topic))
                .with_partition_indexes(vec![partition.partition]);
            WritableTxnMarker::default()
                .with_producer_id(ProducerId(hanging.producer.id))
                .with_producer_epoch(hanging.producer.epoch)
                .with_transaction_result(false)
                .with_coordinator_epoch(hanging.coordinator_epoch)
                .with_topics(vec![topic])
        });
        Box::new(Plain::new(WriteTxnMarkersRequest::default().with_markers(markers.collect())))
    }

    fn read(
        &self,
        _: &[(TopicPartition, HangingTransaction)],
        response: Response,
    ) -> Result<Outcomes<TopicPartition, ()>> {
        let answer = response.decode::<WriteTxnMarkersRequest>()?;
        let topics = answer.markers.into_iter().flat_map(|marker| marker.topics);
        Ok(flatten(topics.map(|topic| (topic.name, topic.partitions)), |partition| {
            (partition.partition_index, outcome(partition.error_code, None, ()))
        }))
    }
}

/// Takes a transactional id over, so that who has it is fenced and its open transaction is aborted.
pub(crate) struct FenceProducers;

impl Operation for FenceProducers {
    type Key = String;
    type Item = ();
    /// The producer that would be next.
    type Output = ProducerIdentity;
    const ATTEMPT: &'static str = "fence the producer of transactional id";

    fn target(&self, key: &String, _: &Cluster) -> Result<Target, Unknown> {
        Ok(transaction_coordinator(key))
    }

    fn request(&self, items: &[(String, ())], timeout: Duration) -> Box<dyn Request> {
        // One transactional id has a coordinator of its own as target: there is exactly one item.
        let id = items.first().map(|(id, ())| TransactionalId(text(id)));
        Box::new(ByVersion::new(0..=5, move |_| {
            // From version 3 the id and epoch of a producer that goes on: −1 for one that begins anew.
            InitProducerIdRequest::default()
                .with_transactional_id(id.clone())
                .with_transaction_timeout_ms(millis(timeout))
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
        }))
    }

    fn read(&self, items: &[(String, ())], response: Response) -> Result<Outcomes<String, ProducerIdentity>> {
        let answer = response.decode::<InitProducerIdRequest>()?;
        let next = ProducerIdentity { id: answer.producer_id.0, epoch: answer.producer_epoch };
        Ok(one(items, outcome(answer.error_code, None, next)))
    }
}

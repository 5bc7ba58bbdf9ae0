//! DescribeProducers 0, WriteTxnMarkers 1: what `kafka-transactions.sh` finds hanging transactions with, and
//! how it aborts them.

use kafka_wire::protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_wire::protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_wire::protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, ProducerId, WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
};
use kafka_wire::{ErrorCode, ProducerIdentity};

use super::{Answer, Context, text};
use crate::authorizer::{Operation, ResourceType};
use crate::batch::end_marker;
use crate::cluster::Cluster;
use crate::error::{Failure, code_of};
use crate::topics::Partition;

/// The partition, where this node leads it.
fn find<'a>(
    cluster: &'a Cluster,
    context: &Context,
    topic: &str,
    index: i32,
) -> Result<&'a Partition, Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    let partition = cluster.topics.partition(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if partition.leader != context.node {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER.into());
    }
    Ok(partition)
}

pub(super) fn describe(
    cluster: &mut Cluster,
    context: &Context,
    request: DescribeProducersRequest,
) -> Answer {
    let mut answer = DescribeProducersResponse::default();
    for topic in request.topics {
        let partitions = topic.partition_indexes.iter().map(|&index| {
            let found = context
                .authorize(Operation::Read, ResourceType::Topic, &topic.name)
                .map_err(Failure::from)
                .and_then(|()| find(cluster, context, &topic.name, index));
            let response = PartitionResponse::default()
                .with_partition_index(index)
                .with_error_code(code_of(&found))
                .with_error_message(None);
            match found {
                Ok(partition) => response.with_active_producers(active(partition)),
                Err(failure) => response.with_error_message(Some(text(failure.text))),
            }
        });
        let partitions = partitions.collect();
        answer.topics.push(TopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    context.answer(&answer)
}

fn active(partition: &Partition) -> Vec<ProducerState> {
    let states = partition.log.producers.active().map(|active| {
        ProducerState::default()
            .with_producer_id(ProducerId(active.producer.id))
            .with_producer_epoch(i32::from(active.producer.epoch))
            .with_last_sequence(active.last_sequence)
            .with_last_timestamp(active.last_timestamp)
            // Markers are written by the one coordinator that there is, in epoch 0.
            .with_coordinator_epoch(if active.has_ended_one { 0 } else { -1 })
            .with_current_txn_start_offset(active.transaction_start.unwrap_or(-1))
    });
    states.collect()
}

pub(super) fn write_markers(
    cluster: &mut Cluster,
    context: &Context,
    request: WriteTxnMarkersRequest,
) -> Answer {
    let mut answer = WriteTxnMarkersResponse::default();
    for marker in request.markers {
        let producer = ProducerIdentity { id: marker.producer_id.0, epoch: marker.producer_epoch };
        let mut result = WritableTxnMarkerResult::default().with_producer_id(marker.producer_id);
        for topic in marker.topics {
            let partitions = topic.partition_indexes.iter().map(|&index| {
                let written =
                    write_one(cluster, context, producer, marker.transaction_result, &topic.name, index);
                WritableTxnMarkerPartitionResult::default()
                    .with_partition_index(index)
                    .with_error_code(code_of(&written))
            });
            let partitions = partitions.collect();
            let topic = WritableTxnMarkerTopicResult::default().with_name(topic.name);
            result.topics.push(topic.with_partitions(partitions));
        }
        answer.markers.push(result);
    }
    context.answer(&answer)
}

fn write_one(
    cluster: &mut Cluster,
    context: &Context,
    producer: ProducerIdentity,
    commit: bool,
    topic: &str,
    index: i32,
) -> Result<(), Failure> {
    // Administrators may since Kafka 3.0 (KIP-664).
    context
        .authorize_cluster(Operation::Alter)
        .or_else(|_| context.authorize_cluster(Operation::ClusterAction))?;
    let partition = find(cluster, context, topic, index)?;
    partition.log.producers.check_marker(producer)?;
    let marker = end_marker(producer, commit, context.now.unix_ms)?;
    if let Some(partition) = cluster.topics.partition_mut(topic, index) {
        partition.log.append(&marker, partition.leader_epoch, None)?;
    }
    cluster.grow(topic, index);
    Ok(())
}

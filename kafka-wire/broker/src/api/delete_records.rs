//! DeleteRecords 0–2.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_wire::protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Answer, Context};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::Cluster;
use crate::error::{Failure, fail};

pub(super) fn handle(cluster: &mut Cluster, context: &Context, request: DeleteRecordsRequest) -> Answer {
    let mut answer = DeleteRecordsResponse::default();
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            match delete(cluster, context, &topic.name, asked.partition_index, asked.offset) {
                Ok(start) => result.with_low_watermark(start),
                Err(failure) => result.with_low_watermark(-1).with_error_code(failure.code.code()),
            }
        });
        let partitions = partitions.collect();
        answer
            .topics
            .push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
    }
    context.answer(&answer)
}

fn delete(
    cluster: &mut Cluster,
    context: &Context,
    topic: &str,
    index: i32,
    offset: i64,
) -> Result<i64, Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    context.authorize(Operation::Delete, ResourceType::Topic, topic)?;
    let found = cluster.topics.get(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if !found.config.value("cleanup.policy").contains("delete") {
        return fail(ErrorCode::POLICY_VIOLATION, "records of a topic without cleanup.policy=delete");
    }
    let partition = cluster.topics.partition(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if partition.leader != context.node {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER.into());
    }
    // −1 asks for the high watermark.
    let end = partition.log.end_offset();
    let offset = if offset == -1 { end } else { offset };
    if !(0..=end).contains(&offset) {
        return fail(ErrorCode::OFFSET_OUT_OF_RANGE, format!("offset {offset} of a log that ends at {end}"));
    }
    Ok(cluster.delete_before(topic, index, offset))
}

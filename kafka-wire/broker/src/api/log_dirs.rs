//! DescribeLogDirs 1–4, AlterReplicaLogDirs 1–2.
//!
//! There is one folder, or the memory; a node lists the partitions that it has.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_wire::protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_wire::protocol::messages::{
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
};

use super::{Answer, Context, text, topic_name};
use crate::authorizer::Operation;
use crate::cluster::Cluster;
use crate::error::{Failure, code_of, fail};

/// Where records are when there is no folder.
const MEMORY: &str = "memory";

fn folder(cluster: &Cluster) -> String {
    cluster.options.data.as_ref().map_or_else(|| MEMORY.to_owned(), |folder| folder.display().to_string())
}

fn check(context: &Context, operation: Operation) -> Result<(), ErrorCode> {
    match context.injected_for_request() {
        Some(code) => Err(code),
        None => context.authorize_cluster(operation),
    }
}

pub(super) fn describe(cluster: &mut Cluster, context: &Context, request: DescribeLogDirsRequest) -> Answer {
    let mut answer = DescribeLogDirsResponse::default();
    if let Err(code) = check(context, Operation::Describe) {
        if context.version >= 3 {
            answer.error_code = code.code();
        }
        return context.answer(&answer);
    }
    let is_wanted = |topic: &str, index: i32| {
        request.topics.as_ref().is_none_or(|topics| {
            topics.iter().any(|it| it.topic.as_str() == topic && it.partitions.contains(&index))
        })
    };
    let mut found = Vec::new();
    let mut total = 0;
    for topic in cluster.topics.iter() {
        let here = (0..).zip(&topic.partitions).filter(|(_, it)| it.replicas.contains(&context.node));
        let mut partitions = Vec::new();
        for (index, partition) in here {
            let bytes = i64::try_from(partition.log.size_bytes()).unwrap_or(i64::MAX);
            total += bytes;
            if is_wanted(&topic.name, index) {
                partitions.push(
                    DescribeLogDirsPartition::default()
                        .with_partition_index(index)
                        .with_partition_size(bytes),
                );
            }
        }
        if !partitions.is_empty() {
            let topic = DescribeLogDirsTopic::default().with_name(topic_name(&topic.name));
            found.push(topic.with_partitions(partitions));
        }
    }
    let mut result = DescribeLogDirsResult::default().with_log_dir(text(folder(cluster))).with_topics(found);
    if context.version >= 4 {
        // How much room is left is the file system's secret.
        result = result.with_total_bytes(total).with_usable_bytes(-1);
    }
    answer.results.push(result);
    context.answer(&answer)
}

pub(super) fn alter(cluster: &mut Cluster, context: &Context, request: AlterReplicaLogDirsRequest) -> Answer {
    let mut answer = AlterReplicaLogDirsResponse::default();
    for folder in request.dirs {
        for topic in folder.topics {
            let partitions = topic.partitions.iter().map(|&index| {
                let result = alter_one(cluster, context, &folder.path, &topic.name, index);
                AlterReplicaLogDirPartitionResult::default()
                    .with_partition_index(index)
                    .with_error_code(code_of(&result))
            });
            let partitions = partitions.collect();
            let result = AlterReplicaLogDirTopicResult::default().with_topic_name(topic.name);
            answer.results.push(result.with_partitions(partitions));
        }
    }
    context.answer(&answer)
}

fn alter_one(
    cluster: &Cluster,
    context: &Context,
    path: &str,
    topic: &str,
    index: i32,
) -> Result<(), Failure> {
    check(context, Operation::Alter)?;
    if path != folder(cluster) {
        return fail(ErrorCode::LOG_DIR_NOT_FOUND, format!("there is no folder {path} here"));
    }
    let partition = cluster.topics.partition(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if !partition.replicas.contains(&context.node) {
        return Err(ErrorCode::REPLICA_NOT_AVAILABLE.into());
    }
    Ok(())
}

//! DescribeQuorum 0–2, UnregisterBroker 0.
//!
//! There is no quorum: what is told is what a KRaft cluster of these nodes would tell, with one offset for each
//! fact written down since the start.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_wire::protocol::messages::{
    BrokerId, DescribeQuorumRequest, DescribeQuorumResponse, UnregisterBrokerRequest,
    UnregisterBrokerResponse,
};
use uuid::Uuid;

use super::{Answer, Context, text};
use crate::authorizer::Operation;
use crate::cluster::Cluster;
use crate::error::{Failure, code_of};

const METADATA_TOPIC: &str = "__cluster_metadata";

fn check(context: &Context, operation: Operation) -> Result<(), Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    Ok(context.authorize_cluster(operation)?)
}

pub(super) fn describe_quorum(
    cluster: &mut Cluster,
    context: &Context,
    request: DescribeQuorumRequest,
) -> Answer {
    let mut answer = DescribeQuorumResponse::default().with_error_message(None);
    if let Err(failure) = check(context, Operation::Describe) {
        answer.error_code = failure.code.code();
        return context.answer(&answer);
    }
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            let is_it = topic.topic_name.as_str() == METADATA_TOPIC && asked.partition_index == 0;
            let partition = PartitionData::default().with_partition_index(asked.partition_index);
            if is_it {
                quorum(cluster, context, partition)
            } else {
                let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                let partition = partition.with_error_code(code.code()).with_leader_id(BrokerId(-1));
                if context.version >= 2 {
                    partition.with_error_message(Some(text(code.message())))
                } else {
                    partition
                }
            }
        });
        let partitions = partitions.collect();
        answer
            .topics
            .push(TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions));
    }
    if context.version >= 2 {
        let nodes = cluster.nodes.iter().map(|(&id, node)| {
            let listener = Listener::default()
                .with_name(text("CONTROLLER"))
                .with_host(text(&*node.host))
                .with_port(node.port);
            Node::default().with_node_id(BrokerId(id)).with_listeners(vec![listener])
        });
        answer.nodes = nodes.collect();
    }
    context.answer(&answer)
}

fn quorum(cluster: &Cluster, context: &Context, partition: PartitionData) -> PartitionData {
    let end = cluster.facts_recorded;
    let voters = cluster.nodes.iter().map(|(&id, node)| {
        let mut voter = ReplicaState::default().with_replica_id(BrokerId(id)).with_log_end_offset(end);
        if context.version >= 1 {
            let seen = if node.is_up { context.now.unix_ms } else { -1 };
            voter = voter.with_last_fetch_timestamp(seen).with_last_caught_up_timestamp(seen);
        }
        if context.version >= 2 {
            voter = voter.with_replica_directory_id(Uuid::from_u64_pair(cluster.identity(), id as u64));
        }
        voter
    });
    let partition = if context.version >= 2 { partition.with_error_message(None) } else { partition };
    partition
        .with_leader_id(BrokerId(cluster.controller))
        .with_leader_epoch(cluster.controller_epoch)
        .with_high_watermark(end)
        .with_current_voters(voters.collect())
}

pub(super) fn unregister(
    cluster: &mut Cluster,
    context: &Context,
    request: UnregisterBrokerRequest,
) -> Answer {
    let id = request.broker_id.0;
    let result = check(context, Operation::Alter).and_then(|()| {
        let registered = cluster.nodes.get(&id).filter(|node| node.is_registered);
        registered.map(|_| ()).ok_or_else(|| ErrorCode::BROKER_ID_NOT_REGISTERED.into())
    });
    if let Some(node) = cluster.nodes.get_mut(&id).filter(|_| result.is_ok()) {
        // One that runs would register again at once.
        node.is_registered = node.is_up;
    }
    let answer = UnregisterBrokerResponse::default()
        .with_error_code(code_of(&result))
        .with_error_message(result.err().map(|failure| text(failure.text)));
    context.answer(&answer)
}

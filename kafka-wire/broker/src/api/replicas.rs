//! ElectLeaders 0–2, AlterPartitionReassignments 0–1, ListPartitionReassignments 0.
//!
//! All nodes share one log: a reassignment only changes which nodes are told to have it, and is done at once
//! unless the cluster was told to hold them.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_wire::protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_wire::protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_wire::protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_wire::protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId, ElectLeadersRequest,
    ElectLeadersResponse, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::{Answer, Context, text, topic_name};
use crate::authorizer::Operation;
use crate::cluster::Cluster;
use crate::error::{Failure, code_of, fail};

const UNCLEAN: i8 = 1;

fn check(context: &Context, operation: Operation) -> Result<(), Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    Ok(context.authorize_cluster(operation)?)
}

pub(super) fn elect(cluster: &mut Cluster, context: &Context, request: ElectLeadersRequest) -> Answer {
    let mut answer = ElectLeadersResponse::default();
    let refused = check(context, Operation::Alter).err();
    let asks_all = request.topic_partitions.is_none();
    let wanted: Vec<(String, Vec<i32>)> = match request.topic_partitions {
        Some(topics) => topics.into_iter().map(|it| (it.topic.to_string(), it.partitions)).collect(),
        None => {
            let each = cluster.topics.iter();
            each.map(|topic| (topic.name.to_string(), (0..topic.partitions.len() as i32).collect())).collect()
        }
    };
    if let Some(failure) = &refused {
        // Version 0 has no place for it but the partitions.
        answer.error_code = if context.version >= 1 { failure.code.code() } else { 0 };
    }
    for (topic, partitions) in wanted {
        let mut results = Vec::new();
        for index in partitions {
            let result = match &refused {
                Some(failure) => Err(failure.clone()),
                None => elect_one(
                    cluster,
                    &topic,
                    index,
                    context.version >= 1 && request.election_type == UNCLEAN,
                ),
            };
            let is_needless =
                result.as_ref().is_err_and(|failure| failure.code == ErrorCode::ELECTION_NOT_NEEDED);
            if asks_all && is_needless {
                continue;
            }
            let described = PartitionResult::default()
                .with_partition_id(index)
                .with_error_code(code_of(&result))
                .with_error_message(result.err().map(|failure| text(failure.text)));
            results.push(described);
        }
        if !results.is_empty() {
            let result = ReplicaElectionResult::default().with_topic(topic_name(&topic));
            answer.replica_election_results.push(result.with_partition_result(results));
        }
    }
    context.answer(&answer)
}

fn elect_one(cluster: &mut Cluster, topic: &str, index: i32, unclean: bool) -> Result<(), Failure> {
    let partition = cluster.topics.partition(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let preferred = partition.replicas.first().copied().unwrap_or(partition.leader);
    let is_needed = if unclean { !cluster.is_up(partition.leader) } else { partition.leader != preferred };
    if !is_needed {
        return Err(ErrorCode::ELECTION_NOT_NEEDED.into());
    }
    let next = if unclean {
        let running = partition.replicas.iter().copied().find(|&node| cluster.is_up(node));
        running.ok_or(ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE)?
    } else {
        Some(preferred)
            .filter(|&node| cluster.is_up(node))
            .ok_or(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE)?
    };
    cluster.lead(topic, index, next);
    Ok(())
}

pub(super) fn reassign(
    cluster: &mut Cluster,
    context: &Context,
    request: AlterPartitionReassignmentsRequest,
) -> Answer {
    let mut answer = AlterPartitionReassignmentsResponse::default().with_error_message(None);
    let may_resize = context.version < 1 || request.allow_replication_factor_change;
    if context.version >= 1 {
        answer.allow_replication_factor_change = request.allow_replication_factor_change;
    }
    if let Err(failure) = check(context, Operation::Alter) {
        answer.error_code = failure.code.code();
        answer.error_message = Some(text(failure.text));
        return context.answer(&answer);
    }
    for topic in request.topics {
        let mut responses = Vec::new();
        for asked in &topic.partitions {
            let result = reassign_one(cluster, &topic.name, asked, may_resize);
            responses.push(
                ReassignablePartitionResponse::default()
                    .with_partition_index(asked.partition_index)
                    .with_error_code(code_of(&result))
                    .with_error_message(result.err().map(|failure| text(failure.text))),
            );
        }
        answer
            .responses
            .push(ReassignableTopicResponse::default().with_name(topic.name).with_partitions(responses));
    }
    context.answer(&answer)
}

fn reassign_one(
    cluster: &mut Cluster,
    topic: &str,
    asked: &ReassignablePartition,
    may_resize: bool,
) -> Result<(), Failure> {
    let index = asked.partition_index;
    let partition = cluster.topics.partition(topic, index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let Some(replicas) = &asked.replicas else {
        return if cluster.cancel_reassignment(topic, index) {
            Ok(())
        } else {
            Err(ErrorCode::NO_REASSIGNMENT_IN_PROGRESS.into())
        };
    };
    let replicas: Vec<i32> = replicas.iter().map(|id| id.0).collect();
    check_replicas(cluster, &replicas)?;
    if !may_resize && replicas.len() != partition.replicas.len() {
        return fail(
            ErrorCode::INVALID_REPLICATION_FACTOR,
            format!(
                "the partition has {} replicas, {} are asked for",
                partition.replicas.len(),
                replicas.len()
            ),
        );
    }
    cluster.reassign(topic, index, replicas);
    Ok(())
}

/// Whether a partition can be on these nodes.
pub(super) fn check_replicas(cluster: &Cluster, replicas: &[i32]) -> Result<(), Failure> {
    let refuse = |text: String| fail(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text);
    if replicas.is_empty() {
        return refuse("the manual partition assignment includes an empty replica list".to_owned());
    }
    for (place, id) in replicas.iter().enumerate() {
        if !cluster.nodes.contains_key(id) {
            return refuse(format!(
                "the manual partition assignment includes broker {id}, which is not there"
            ));
        }
        if replicas[..place].contains(id) {
            return refuse(format!("the manual partition assignment includes broker {id} twice"));
        }
    }
    Ok(())
}

pub(super) fn list_reassignments(
    cluster: &mut Cluster,
    context: &Context,
    request: ListPartitionReassignmentsRequest,
) -> Answer {
    let mut answer = ListPartitionReassignmentsResponse::default().with_error_message(None);
    if let Err(failure) = check(context, Operation::Describe) {
        answer.error_code = failure.code.code();
        answer.error_message = Some(text(failure.text));
        return context.answer(&answer);
    }
    let is_wanted = |topic: &str, index: i32| {
        request.topics.as_ref().is_none_or(|topics| {
            topics.iter().any(|it| it.name.as_str() == topic && it.partition_indexes.contains(&index))
        })
    };
    for ((topic, index), target) in &cluster.reassignments {
        let Some(partition) = cluster.topics.partition(topic, *index).filter(|_| is_wanted(topic, *index))
        else {
            continue;
        };
        let ids = |ids: &mut dyn Iterator<Item = i32>| ids.map(BrokerId).collect::<Vec<_>>();
        let now = &partition.replicas;
        let adding = ids(&mut target.iter().copied().filter(|id| !now.contains(id)));
        let removing = ids(&mut now.iter().copied().filter(|id| !target.contains(id)));
        let all = ids(&mut target.iter().copied().chain(removing.iter().map(|id| id.0)));
        let ongoing = OngoingPartitionReassignment::default()
            .with_partition_index(*index)
            .with_replicas(all)
            .with_adding_replicas(adding)
            .with_removing_replicas(removing);
        match answer.topics.last_mut().filter(|known| known.name.as_str() == topic) {
            Some(known) => known.partitions.push(ongoing),
            None => answer.topics.push(
                OngoingTopicReassignment::default()
                    .with_name(topic_name(topic))
                    .with_partitions(vec![ongoing]),
            ),
        }
    }
    context.answer(&answer)
}

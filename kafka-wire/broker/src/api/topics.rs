//! CreateTopics 2–7, DeleteTopics 1–6, CreatePartitions 0–3.
//!
//! Any node takes them, as in KRaft. A manual replica assignment sets partition count and leaders.

use std::collections::BTreeMap;

use kafka_wire::protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_wire::protocol::messages::create_topics_request::CreatableTopic;
use kafka_wire::protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_wire::protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_wire::protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse,
};
use kafka_wire::{ErrorCode, TopicId};

use super::replicas::check_replicas;
use super::{Answer, Context, configs, text, topic_name, uuid_of};
use crate::authorizer::{Operation, ResourceType};
use crate::cluster::{Cluster, PARTITIONS_MAX};
use crate::error::{Failure, code_of, fail};
use crate::journal::Entry;
use crate::setting::Setting;

/// From these versions on clients know `THROTTLING_QUOTA_EXCEEDED`.
const STRICT_CREATION_FROM: i16 = 6;
const STRICT_DELETION_FROM: i16 = 5;
const STRICT_GROWTH_FROM: i16 = 3;

pub(super) fn create(cluster: &mut Cluster, context: &Context, request: CreateTopicsRequest) -> Answer {
    let mut answer = CreateTopicsResponse::default();
    for topic in &request.topics {
        let result = CreatableTopicResult::default()
            .with_name(topic.name.clone())
            .with_error_message(None)
            .with_configs(None);
        answer.topics.push(match create_one(cluster, context, topic, request.validate_only) {
            Ok(id) => created(cluster, context, topic, id, result),
            Err(failure) => {
                let mut result =
                    result.with_error_code(failure.code.code()).with_error_message(Some(text(failure.text)));
                if context.version >= 5 {
                    result.num_partitions = -1;
                    result.replication_factor = -1;
                }
                result
            }
        });
    }
    context.answer(&answer)
}

fn create_one(
    cluster: &mut Cluster,
    context: &Context,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<TopicId, Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    may_create(context, &topic.name)?;
    let (partitions, factor) = size(cluster, topic)?;
    let mut entries = BTreeMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            return fail(ErrorCode::INVALID_CONFIG, format!("null value for {}", config.name.as_str()));
        };
        entries.insert(config.name.to_string(), value.to_string());
    }
    cluster.create(&topic.name, partitions, factor, entries.clone(), true)?;
    charge_mutation(cluster, context, STRICT_CREATION_FROM, partitions, validate_only)?;
    let id = cluster.create(&topic.name, partitions, factor, entries, validate_only)?;
    for assignment in topic.assignments.iter().filter(|_| !validate_only) {
        let replicas: Vec<i32> = assignment.broker_ids.iter().map(|id| id.0).collect();
        let leader = replicas[0];
        let (name, partition) = (topic.name.to_string(), assignment.partition_index);
        if let Some(partition) = cluster.topics.partition_mut(&name, partition) {
            partition.leader = leader;
        }
        cluster.set(Setting::Replicas { topic: name.clone(), partition, replicas });
        cluster.record(Entry::Leader { topic: name, partition, leader, epoch: 0 });
    }
    Ok(id)
}

/// Counts partitions that are created or deleted against the quota of who asks; refuses them beyond it where the
/// client knows that refusal, and else makes it pause (KIP-599).
fn charge_mutation(
    cluster: &mut Cluster,
    context: &Context,
    strict_from: i16,
    partitions: i32,
    validate_only: bool,
) -> Result<(), Failure> {
    if validate_only || partitions <= 0 {
        return Ok(());
    }
    let strict = context.version >= strict_from;
    let (user, client_id) = (context.user(), context.client_id.as_deref().unwrap_or_default());
    let now = context.now.instant;
    let charged = cluster.quotas.charge_partitions(now, user, client_id, f64::from(partitions), strict);
    let (Ok(pause) | Err(pause)) = charged;
    cluster.throttle(context, pause);
    charged.map(|_| ()).map_err(|_| ErrorCode::THROTTLING_QUOTA_EXCEEDED.into())
}

/// A topic may be created by who may create topics in the cluster, or this one.
pub(super) fn may_create(context: &Context, topic: &str) -> Result<(), ErrorCode> {
    context
        .authorize_cluster(Operation::Create)
        .or_else(|_| context.authorize(Operation::Create, ResourceType::Topic, topic))
}

/// Partitions and replication factor that a topic asks for; −1 means the broker's default.
fn size(cluster: &Cluster, topic: &CreatableTopic) -> Result<(i32, i16), Failure> {
    let count = topic.assignments.len() as i32;
    if count == 0 {
        let partitions = match topic.num_partitions {
            -1 => cluster.options.default_partitions,
            partitions => partitions,
        };
        return Ok((partitions, if topic.replication_factor == -1 { 1 } else { topic.replication_factor }));
    }
    let factor = topic.assignments[0].broker_ids.len();
    for assignment in &topic.assignments {
        let known = assignment.broker_ids.iter().all(|id| cluster.nodes.contains_key(&id.0));
        let in_range = (0..count).contains(&assignment.partition_index);
        if !known || !in_range || factor == 0 || assignment.broker_ids.len() != factor {
            return fail(
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                format!("the replica assignment of partition {} is not possible", assignment.partition_index),
            );
        }
    }
    Ok((count, factor as i16))
}

fn created(
    cluster: &Cluster,
    context: &Context,
    asked: &CreatableTopic,
    id: TopicId,
    mut result: CreatableTopicResult,
) -> CreatableTopicResult {
    if context.version >= 7 {
        result.topic_id = uuid_of(id);
    }
    if context.version < 5 {
        return result;
    }
    let Some(topic) = cluster.topics.get(&asked.name) else {
        // Only validated.
        let (partitions, factor) = size(cluster, asked).unwrap_or((-1, -1));
        result.num_partitions = partitions;
        result.replication_factor = factor;
        result.configs = Some(Vec::new());
        return result;
    };
    result.num_partitions = topic.partitions.len() as i32;
    result.replication_factor = topic.replication_factor;
    let configs = configs::all(&topic.config).map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(text(entry.known.name))
            .with_value(Some(text(entry.value)))
            .with_config_source(entry.source)
    });
    result.configs = Some(configs.collect());
    result
}

pub(super) fn delete(cluster: &mut Cluster, context: &Context, request: DeleteTopicsRequest) -> Answer {
    let mut answer = DeleteTopicsResponse::default();
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), TopicId::NONE));
    let by_either = request.topics.into_iter().map(|it| (it.name, TopicId(it.topic_id.into_bytes())));
    for (name, id) in by_name.chain(by_either) {
        let found = match &name {
            Some(name) => cluster.topics.get(name).map(|topic| (topic.name.to_string(), topic.id)),
            None => cluster.topics.name_of(id).map(|name| (name.to_string(), id)),
        };
        let result = match (context.injected_for_request(), &found) {
            (Some(code), _) => Err(code.into()),
            (None, Some((name, _))) => {
                match context.authorize(Operation::Delete, ResourceType::Topic, name) {
                    Ok(()) => {
                        let count = cluster.topics.get(name).map_or(0, |topic| topic.partitions.len() as i32);
                        charge_mutation(cluster, context, STRICT_DELETION_FROM, count, false)
                            .and_then(|()| cluster.remove_topic(name))
                    }
                    Err(code) => Err(code.into()),
                }
            }
            (None, None) if name.is_some() => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into()),
            (None, None) => Err(ErrorCode::UNKNOWN_TOPIC_ID.into()),
        };
        let (known_name, known_id) = found.map_or((name, id), |(name, id)| (Some(topic_name(&name)), id));
        let mut described =
            DeletableTopicResult::default().with_name(known_name).with_error_code(code_of(&result));
        if context.version >= 6 {
            described.topic_id = uuid_of(known_id);
        }
        if let (Err(failure), true) = (result, context.version >= 5) {
            described.error_message = Some(text(failure.text));
        }
        answer.responses.push(described);
    }
    context.answer(&answer)
}

pub(super) fn create_partitions(
    cluster: &mut Cluster,
    context: &Context,
    request: CreatePartitionsRequest,
) -> Answer {
    let mut answer = CreatePartitionsResponse::default();
    for topic in request.topics {
        let result = grow(cluster, context, &topic, request.validate_only);
        let described = CreatePartitionsTopicResult::default()
            .with_name(topic.name)
            .with_error_code(code_of(&result))
            .with_error_message(result.err().map(|failure| text(failure.text)));
        answer.results.push(described);
    }
    context.answer(&answer)
}

fn grow(
    cluster: &mut Cluster,
    context: &Context,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Failure> {
    if let Some(code) = context.injected_for_request() {
        return Err(code.into());
    }
    context.authorize(Operation::Alter, ResourceType::Topic, &topic.name)?;
    let found = cluster.topics.get(&topic.name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let current = found.partitions.len() as i32;
    if !(current + 1..=PARTITIONS_MAX).contains(&topic.count) {
        return fail(
            ErrorCode::INVALID_PARTITIONS,
            format!("the topic has {current} partitions, {} is not more", topic.count),
        );
    }
    let added = assigned(cluster, topic, topic.count - current)?;
    charge_mutation(cluster, context, STRICT_GROWTH_FROM, topic.count - current, validate_only)?;
    if validate_only {
        return Ok(());
    }
    let name = topic.name.to_string();
    cluster.topics.grow(&name, topic.count).map_err(|error| Failure {
        code: ErrorCode::KAFKA_STORAGE_ERROR,
        text: format!("create the logs of new partitions: {error}").into(),
    })?;
    cluster.record(Entry::Partitions { name: name.clone(), count: topic.count });
    for (partition, replicas) in (current..).zip(added) {
        let leader = replicas[0];
        if let Some(partition) = cluster.topics.partition_mut(&name, partition) {
            partition.leader = leader;
        }
        cluster.set(Setting::Replicas { topic: name.clone(), partition, replicas });
        cluster.record(Entry::Leader { topic: name.clone(), partition, leader, epoch: 0 });
    }
    Ok(())
}

/// The nodes that a request wants its new partitions on; empty where it leaves that to the cluster.
fn assigned(cluster: &Cluster, topic: &CreatePartitionsTopic, count: i32) -> Result<Vec<Vec<i32>>, Failure> {
    let Some(assignments) = &topic.assignments else { return Ok(Vec::new()) };
    if assignments.len() as i32 != count {
        return fail(
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            format!("{count} partitions are added, but {} are assigned", assignments.len()),
        );
    }
    let mut assigned = Vec::new();
    for assignment in assignments {
        let nodes: Vec<i32> = assignment.broker_ids.iter().map(|id| id.0).collect();
        check_replicas(cluster, &nodes)?;
        assigned.push(nodes);
    }
    Ok(assigned)
}

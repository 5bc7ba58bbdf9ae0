//! Metadata 0–13, DescribeCluster 0–2, DescribeTopicPartitions 0.
//!
//! There are no internal topics: offsets and transactions live beside the log.

use std::collections::BTreeMap;

use kafka_wire::protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_wire::protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_wire::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, MetadataRequest, MetadataResponse,
};
use kafka_wire::{ErrorCode, TopicId};

use super::{Answer, Context, NOT_ASKED, text, topic_name, topics, uuid_of};
use crate::authorizer::{CLUSTER_NAME, Operation, ResourceType};
use crate::cluster::Cluster;
use crate::topics::{Partition, Topic};

/// Partitions in one answer to `DescribeTopicPartitions` (`max.request.partition.size.limit`).
const PARTITIONS_MAX: usize = 2_000;

pub(super) fn metadata(cluster: &mut Cluster, context: &Context, request: MetadataRequest) -> Answer {
    let version = context.version;
    // Version 0 says "all" by an empty list; the others by none.
    let wanted = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    let operations = request.include_topic_authorized_operations;
    let topics = match wanted {
        None => cluster
            .topics
            .iter()
            .filter(|topic| may_see(context, &topic.name).is_ok())
            .map(|topic| describe(cluster, context, topic, operations))
            .collect(),
        Some(wanted) => {
            let create =
                cluster.options.auto_create_topics && (version < 4 || request.allow_auto_topic_creation);
            let mut topics = Vec::with_capacity(wanted.len());
            for topic in wanted {
                let id = TopicId(topic.topic_id.into_bytes());
                topics.push(match topic.name {
                    Some(name) if !id.is_some() => by_name(cluster, context, &name, create, operations),
                    _ => by_id(cluster, context, id, operations),
                });
            }
            topics
        }
    };
    let mut answer = MetadataResponse::default()
        .with_brokers(brokers(cluster))
        .with_controller_id(BrokerId(if version > 0 { cluster.controller } else { -1 }))
        .with_topics(topics)
        .with_cluster_authorized_operations(context.allowed_operations(
            request.include_cluster_authorized_operations,
            ResourceType::Cluster,
            CLUSTER_NAME,
        ));
    if version >= 2 {
        answer.cluster_id = Some(text(&*cluster.cluster_id));
    }
    if version >= 13 {
        answer.error_code = context.injected_for_request().map_or(0, ErrorCode::code);
    }
    context.answer(&answer)
}

fn brokers(cluster: &Cluster) -> Vec<MetadataResponseBroker> {
    cluster
        .nodes
        .iter()
        .filter(|(_, node)| node.is_up)
        .map(|(&id, node)| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(id))
                .with_host(text(&*node.host))
                .with_port(i32::from(node.port))
                .with_rack(node.rack.clone().map(text))
        })
        .collect()
}

fn may_see(context: &Context, topic: &str) -> Result<(), ErrorCode> {
    context.authorize(Operation::Describe, ResourceType::Topic, topic)
}

fn by_name(
    cluster: &mut Cluster,
    context: &Context,
    name: &str,
    create: bool,
    operations: bool,
) -> MetadataResponseTopic {
    let refused = context.injected_for_request().or_else(|| may_see(context, name).err());
    let mut error = refused;
    if refused.is_none() && cluster.topics.get(name).is_none() {
        let partitions = cluster.options.default_partitions;
        error = match create {
            true => match topics::may_create(context, name) {
                Ok(()) => cluster
                    .create(name, partitions, 1, BTreeMap::new(), false)
                    .err()
                    .map(|failure| failure.code),
                Err(_) => Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            },
            false => match crate::topics::check_name(name) {
                Err(failure) => Some(failure.code),
                Ok(()) => Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            },
        };
    }
    match (error, cluster.topics.get(name)) {
        (None, Some(topic)) => describe(cluster, context, topic, operations),
        (error, _) => MetadataResponseTopic::default()
            .with_error_code(error.unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).code())
            .with_name(Some(topic_name(name)))
            .with_topic_authorized_operations(NOT_ASKED),
    }
}

fn by_id(cluster: &Cluster, context: &Context, id: TopicId, operations: bool) -> MetadataResponseTopic {
    let found = cluster.topics.name_of(id).and_then(|name| cluster.topics.get(name));
    match found.filter(|topic| may_see(context, &topic.name).is_ok()) {
        Some(topic) => describe(cluster, context, topic, operations),
        None => MetadataResponseTopic::default()
            .with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.code())
            .with_name(if context.version < 12 { Some(topic_name("")) } else { None })
            .with_topic_id(uuid_of(id))
            .with_topic_authorized_operations(NOT_ASKED),
    }
}

fn describe(cluster: &Cluster, context: &Context, topic: &Topic, operations: bool) -> MetadataResponseTopic {
    let version = context.version;
    let partitions = (0..).zip(&topic.partitions).map(|(index, partition)| {
        let view = View::of(cluster, partition);
        let mut described = MetadataResponsePartition::default()
            .with_error_code(view.error_code)
            .with_partition_index(index)
            .with_leader_id(view.leader)
            .with_replica_nodes(view.replicas)
            .with_isr_nodes(view.in_sync)
            .with_leader_epoch(-1);
        if version >= 7 {
            described.leader_epoch = partition.leader_epoch;
        }
        if version >= 5 {
            described.offline_replicas = view.offline;
        }
        described
    });
    let mut described = MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(context.allowed_operations(
            operations,
            ResourceType::Topic,
            &topic.name,
        ));
    if version >= 10 {
        described.topic_id = uuid_of(topic.id);
    }
    described
}

/// A partition as its cluster's clients see it.
struct View {
    error_code: i16,
    leader: BrokerId,
    replicas: Vec<BrokerId>,
    in_sync: Vec<BrokerId>,
    offline: Vec<BrokerId>,
}

impl View {
    fn of(cluster: &Cluster, partition: &Partition) -> Self {
        let is_led = cluster.is_up(partition.leader);
        let (in_sync, offline) =
            partition.replicas.iter().map(|&node| BrokerId(node)).partition(|node| cluster.is_up(node.0));
        Self {
            error_code: if is_led { 0 } else { ErrorCode::LEADER_NOT_AVAILABLE.code() },
            leader: BrokerId(if is_led { partition.leader } else { -1 }),
            replicas: partition.replicas.iter().map(|&node| BrokerId(node)).collect(),
            in_sync,
            offline,
        }
    }
}

pub(super) fn describe_cluster(
    cluster: &mut Cluster,
    context: &Context,
    request: DescribeClusterRequest,
) -> Answer {
    let with_fenced = context.version >= 2 && request.include_fenced_brokers;
    let told = cluster.nodes.iter().filter(|(_, node)| node.is_up || (with_fenced && node.is_registered));
    let brokers = told.map(|(&id, node)| {
        let broker = DescribeClusterBroker::default()
            .with_broker_id(BrokerId(id))
            .with_host(text(&*node.host))
            .with_port(i32::from(node.port))
            .with_rack(node.rack.clone().map(text));
        // Version 1 has no such field.
        if with_fenced { broker.with_is_fenced(!node.is_up) } else { broker }
    });
    let answer = DescribeClusterResponse::default()
        .with_error_code(context.injected_for_request().map_or(0, ErrorCode::code))
        .with_cluster_id(text(&*cluster.cluster_id))
        .with_controller_id(BrokerId(cluster.controller))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(context.allowed_operations(
            request.include_cluster_authorized_operations,
            ResourceType::Cluster,
            CLUSTER_NAME,
        ));
    context.answer(&answer)
}

pub(super) fn describe_topic_partitions(
    cluster: &mut Cluster,
    context: &Context,
    request: DescribeTopicPartitionsRequest,
) -> Answer {
    let all = request.topics.is_empty();
    let mut names: Vec<String> = if all {
        cluster.topics.iter().map(|topic| topic.name.to_string()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.to_string()).collect()
    };
    names.sort();
    names.dedup();
    let from = request.cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
    if let Some((topic, _)) = &from {
        names.retain(|name| name >= topic);
    }
    let mut left = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let mut answer = DescribeTopicPartitionsResponse::default();
    for name in names {
        let described = DescribeTopicPartitionsResponseTopic::default().with_name(Some(topic_name(&name)));
        let refused = may_see(context, &name).err();
        let topic = match (refused, cluster.topics.get(&name)) {
            (Some(_), _) if all => continue,
            (None, Some(topic)) => topic,
            (refused, _) => {
                let code = refused.unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                let described = described.with_topic_authorized_operations(NOT_ASKED);
                answer.topics.push(described.with_error_code(code.code()));
                continue;
            }
        };
        if left == 0 {
            answer.next_cursor = Some(cursor(&name, 0));
            break;
        }
        let first = from.as_ref().filter(|(topic, _)| *topic == name).map_or(0, |&(_, first)| first.max(0));
        let wanted = (0..).zip(&topic.partitions).skip(first as usize);
        let partitions: Vec<_> =
            wanted.take(left).map(|(index, partition)| in_detail(cluster, index, partition)).collect();
        let next = first as usize + partitions.len();
        left -= partitions.len();
        answer.topics.push(
            described
                .with_topic_id(uuid_of(topic.id))
                .with_partitions(partitions)
                .with_topic_authorized_operations(context.allowed_operations(
                    true,
                    ResourceType::Topic,
                    &name,
                )),
        );
        if next < topic.partitions.len() {
            answer.next_cursor = Some(cursor(&name, next));
            break;
        }
    }
    context.answer(&answer)
}

fn cursor(topic: &str, partition: usize) -> Cursor {
    Cursor::default().with_topic_name(topic_name(topic)).with_partition_index(partition as i32)
}

fn in_detail(
    cluster: &Cluster,
    index: i32,
    partition: &Partition,
) -> DescribeTopicPartitionsResponsePartition {
    let view = View::of(cluster, partition);
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(view.error_code)
        .with_partition_index(index)
        .with_leader_id(view.leader)
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(view.replicas)
        .with_isr_nodes(view.in_sync)
        .with_offline_replicas(view.offline)
        // Java takes these lists for granted.
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}

//! Metadata 0–13, DescribeCluster 0–2, DescribeTopicPartitions 0.
//!
//! There are no internal topics: offsets and transactions live beside the log.

use kafka_wire::protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_wire::protocol::messages::describe_topic_partitions_response::{
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_wire::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_wire::protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse, MetadataRequest, MetadataResponse,
};
use kafka_wire::{ErrorCode, TopicId};

use super::{Answer, Context, text, topic_name, uuid_of};
use crate::cluster::Cluster;
use crate::topics::{Partition, Topic};

/// "Not asked", as the operations that a client is allowed.
const OPERATIONS_UNKNOWN: i32 = i32::MIN;

pub(super) fn metadata(cluster: &mut Cluster, context: &Context, request: MetadataRequest) -> Answer {
    let version = context.version;
    // Version 0 says "all" by an empty list; the others by none.
    let wanted = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    let topics = match wanted {
        None => cluster.topics.iter().map(|topic| describe(cluster, topic, version)).collect(),
        Some(wanted) => {
            let create =
                cluster.options.auto_create_topics && (version < 4 || request.allow_auto_topic_creation);
            let mut topics = Vec::with_capacity(wanted.len());
            for topic in wanted {
                let id = TopicId(topic.topic_id.into_bytes());
                topics.push(match topic.name {
                    Some(name) if !id.is_some() => by_name(cluster, context, &name, create),
                    _ => by_id(cluster, version, id),
                });
            }
            topics
        }
    };
    let mut answer = MetadataResponse::default()
        .with_brokers(brokers(cluster))
        .with_controller_id(BrokerId(if version > 0 { cluster.controller() } else { -1 }))
        .with_topics(topics)
        .with_cluster_authorized_operations(OPERATIONS_UNKNOWN);
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
        })
        .collect()
}

fn by_name(cluster: &mut Cluster, context: &Context, name: &str, create: bool) -> MetadataResponseTopic {
    let injected = context.injected_for_request();
    let mut error = injected;
    if injected.is_none() && cluster.topics.get(name).is_none() {
        let partitions = cluster.options.default_partitions;
        error = match create {
            true => cluster
                .create(name, partitions, 1, std::collections::BTreeMap::new(), false)
                .err()
                .map(|failure| failure.code),
            false => match crate::topics::check_name(name) {
                Err(failure) => Some(failure.code),
                Ok(()) => Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            },
        };
    }
    match (error, cluster.topics.get(name)) {
        (None, Some(topic)) => describe(cluster, topic, context.version),
        (error, _) => MetadataResponseTopic::default()
            .with_error_code(error.unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).code())
            .with_name(Some(topic_name(name)))
            .with_topic_authorized_operations(OPERATIONS_UNKNOWN),
    }
}

fn by_id(cluster: &Cluster, version: i16, id: TopicId) -> MetadataResponseTopic {
    match cluster.topics.name_of(id).and_then(|name| cluster.topics.get(name)) {
        Some(topic) => describe(cluster, topic, version),
        None => MetadataResponseTopic::default()
            .with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.code())
            .with_name(if version < 12 { Some(topic_name("")) } else { None })
            .with_topic_id(uuid_of(id))
            .with_topic_authorized_operations(OPERATIONS_UNKNOWN),
    }
}

fn describe(cluster: &Cluster, topic: &Topic, version: i16) -> MetadataResponseTopic {
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
        .with_topic_authorized_operations(OPERATIONS_UNKNOWN);
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
    _: DescribeClusterRequest,
) -> Answer {
    let brokers = cluster.nodes.iter().filter(|(_, node)| node.is_up).map(|(&id, node)| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(id))
            .with_host(text(&*node.host))
            .with_port(i32::from(node.port))
    });
    let answer = DescribeClusterResponse::default()
        .with_error_code(context.injected_for_request().map_or(0, ErrorCode::code))
        .with_cluster_id(text(&*cluster.cluster_id))
        .with_controller_id(BrokerId(cluster.controller()))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(OPERATIONS_UNKNOWN);
    context.answer(&answer)
}

pub(super) fn describe_topic_partitions(
    cluster: &mut Cluster,
    context: &Context,
    request: DescribeTopicPartitionsRequest,
) -> Answer {
    let names: Vec<String> = if request.topics.is_empty() {
        cluster.topics.iter().map(|topic| topic.name.to_string()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.to_string()).collect()
    };
    // All partitions are told at once: no cursor is ever handed out, so none is ever followed.
    let topics = names.iter().map(|name| {
        let described = DescribeTopicPartitionsResponseTopic::default()
            .with_name(Some(topic_name(name)))
            .with_topic_authorized_operations(OPERATIONS_UNKNOWN);
        let Some(topic) = cluster.topics.get(name) else {
            return described.with_error_code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code());
        };
        let partitions = (0..).zip(&topic.partitions).map(|(index, partition)| {
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
        });
        described.with_topic_id(uuid_of(topic.id)).with_partitions(partitions.collect())
    });
    context.answer(&DescribeTopicPartitionsResponse::default().with_topics(topics.collect()))
}

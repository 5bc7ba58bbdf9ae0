//! One module per API, or per few that belong together. Each says in its head which versions it serves and
//! where it differs from Kafka 4.3.

mod acls;
pub(crate) mod classic_group;
mod configs;
mod consumer_group;
mod coordinators;
mod delete_records;
mod features;
pub(crate) mod fetch;
mod group_admin;
mod list_offsets;
mod log_dirs;
mod metadata;
mod nodes;
mod offsets;
mod produce;
mod producers;
mod quotas;
mod replicas;
mod sasl;
pub(crate) mod share_fetch;
mod share_group;
mod share_offsets;
mod telemetry;
mod tokens;
mod topics;
mod transactions;
mod users;
mod versions;

use std::sync::Arc;

use bytes::Bytes;
use kafka_wire::protocol::header::{ReceivedRequest, encode_response, frame_response};
use kafka_wire::protocol::messages::{self as wire};
use kafka_wire::protocol::messages::{ApiKey, Decodable, Encodable, Exchange, StrBytes, TopicName};
use kafka_wire::protocol::request::FrameBuilder;
use kafka_wire::protocol::share::{ShareAcknowledgeRequest, ShareFetchRequest, ShareTopic};
use kafka_wire::{Error, ErrorCode, TopicId};
use uuid::Uuid;

use self::fetch::Pending;
use crate::authorizer::{Authorizer, CLUSTER_NAME, Operation, ResourceType, Who};
use crate::cluster::{Cluster, ConnectionId, Now};
use crate::faults::Injected;

/// What the field of allowed operations holds when nobody asked.
const NOT_ASKED: i32 = i32::MIN;

/// Who asks what, and when.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) now: Now,
    pub(crate) node: i32,
    pub(crate) connection: ConnectionId,
    /// The client's name for itself.
    pub(crate) client_id: Option<String>,
    /// Who asks: type and name, such as `User:ANONYMOUS`.
    pub(crate) principal: Arc<str>,
    /// The address that the request comes from.
    pub(crate) host: Arc<str>,
    /// Whether it authenticated by something else than a delegation token.
    pub(crate) may_ask_for_tokens: bool,
    /// The access control lists at the time of the request.
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    /// A fault rule wants the records of the answer damaged.
    pub(crate) corrupts_records: bool,
    /// An error that a fault rule asks for.
    pub(crate) injected: Option<Injected>,
}

impl Context {
    pub(crate) fn injected_for_request(&self) -> Option<ErrorCode> {
        self.injected.as_ref()?.for_request()
    }

    pub(crate) fn injected_for_partition(&self, topic: &str, partition: i32) -> Option<ErrorCode> {
        self.injected.as_ref()?.for_partition(topic, partition)
    }

    /// Who asks, without the type: what quotas name.
    pub(crate) fn user(&self) -> &str {
        self.principal.split_once(':').map_or(&*self.principal, |(_, name)| name)
    }

    pub(crate) fn who(&self) -> Who<'_> {
        Who { principal: &self.principal, host: &self.host }
    }

    /// Refuses what the asking principal may not do.
    ///
    /// # Errors
    /// The code of the resource's type, such as `GROUP_AUTHORIZATION_FAILED`.
    pub(crate) fn authorize(
        &self,
        operation: Operation,
        resource_type: ResourceType,
        name: &str,
    ) -> Result<(), ErrorCode> {
        self.authorizer.check(self.who(), operation, resource_type, name)
    }

    /// As [`Context::authorize`], on the cluster.
    pub(crate) fn authorize_cluster(&self, operation: Operation) -> Result<(), ErrorCode> {
        self.authorize(operation, ResourceType::Cluster, CLUSTER_NAME)
    }

    /// What the asking principal may do with a resource, as bits (KIP-430); "not asked" unless `wanted`.
    pub(crate) fn allowed_operations(&self, wanted: bool, resource_type: ResourceType, name: &str) -> i32 {
        if wanted { self.authorizer.allowed_operations(self.who(), resource_type, name) } else { NOT_ASKED }
    }

    /// The answer as a frame.
    pub(crate) fn answer(&self, answer: &impl Encodable) -> Answer {
        send_or_close(encode_response(self.api, self.version, self.correlation_id, answer))
    }

    /// As [`Context::answer`], of an answer that `kafka-protocol` does not have.
    pub(crate) fn answer_with(&self, encode: impl FnOnce(&mut FrameBuilder) -> Result<(), Error>) -> Answer {
        let mut body = FrameBuilder::new();
        let encoded = encode(&mut body);
        send_or_close(
            encoded.and_then(|()| frame_response(self.api, self.version, self.correlation_id, body)),
        )
    }
}

fn send_or_close(frame: Result<Vec<Bytes>, Error>) -> Answer {
    match frame {
        Ok(frame) => Answer::Send(frame),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be encoded, its connection is closed");
            Answer::Close
        }
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is answered now.
    Send(Vec<Bytes>),
    /// It is not answered.
    Nothing,
    /// A fetch that waits for records.
    Wait(Box<Pending>),
    /// A share fetch that waits for records.
    WaitShared(Box<share_fetch::Pending>),
    /// It is answered when its group comes to a decision, which may have been made already.
    Await,
    /// The connection is closed.
    Close,
}

/// Carries out a request.
pub(crate) fn handle(cluster: &mut Cluster, context: &Context, request: ReceivedRequest) -> Answer {
    if !versions::is_served(cluster, request.api, request.version) {
        return versions::refuse(cluster, context);
    }
    match request.api {
        ApiKey::Produce => with(cluster, context, request, produce::handle),
        ApiKey::Fetch => with(cluster, context, request, fetch::handle),
        ApiKey::ListOffsets => with(cluster, context, request, list_offsets::list_offsets),
        ApiKey::OffsetForLeaderEpoch => {
            with(cluster, context, request, list_offsets::offset_for_leader_epoch)
        }
        ApiKey::Metadata => with(cluster, context, request, metadata::metadata),
        ApiKey::DescribeCluster => with(cluster, context, request, metadata::describe_cluster),
        ApiKey::DescribeTopicPartitions => {
            with(cluster, context, request, metadata::describe_topic_partitions)
        }
        ApiKey::ApiVersions => with(cluster, context, request, versions::handle),
        ApiKey::CreateTopics => with(cluster, context, request, topics::create),
        ApiKey::DeleteTopics => with(cluster, context, request, topics::delete),
        ApiKey::CreatePartitions => with(cluster, context, request, topics::create_partitions),
        ApiKey::DeleteRecords => with(cluster, context, request, delete_records::handle),
        ApiKey::DescribeConfigs => with(cluster, context, request, configs::describe),
        ApiKey::IncrementalAlterConfigs => with(cluster, context, request, configs::incremental_alter),
        ApiKey::JoinGroup => with(cluster, context, request, classic_group::join),
        ApiKey::SyncGroup => with(cluster, context, request, classic_group::sync),
        ApiKey::Heartbeat => with(cluster, context, request, classic_group::heartbeat),
        ApiKey::LeaveGroup => with(cluster, context, request, classic_group::leave),
        ApiKey::ConsumerGroupHeartbeat => with(cluster, context, request, consumer_group::heartbeat),
        ApiKey::ConsumerGroupDescribe => with(cluster, context, request, consumer_group::describe),
        ApiKey::ShareGroupHeartbeat => with(cluster, context, request, share_group::heartbeat),
        ApiKey::ShareGroupDescribe => with(cluster, context, request, share_group::describe),
        ApiKey::ShareFetch => share_fetch::fetch(cluster, context, request),
        ApiKey::ShareAcknowledge => share_fetch::acknowledge(cluster, context, request),
        ApiKey::DescribeShareGroupOffsets => with(cluster, context, request, share_offsets::describe),
        ApiKey::AlterShareGroupOffsets => with(cluster, context, request, share_offsets::alter),
        ApiKey::DeleteShareGroupOffsets => with(cluster, context, request, share_offsets::delete),
        ApiKey::ListGroups => with(cluster, context, request, group_admin::list),
        ApiKey::DescribeGroups => with(cluster, context, request, group_admin::describe),
        ApiKey::DeleteGroups => with(cluster, context, request, group_admin::delete),
        ApiKey::OffsetDelete => with(cluster, context, request, group_admin::delete_offsets),
        ApiKey::AlterConfigs => with(cluster, context, request, configs::replace),
        ApiKey::ListConfigResources => with(cluster, context, request, configs::list),
        ApiKey::ElectLeaders => with(cluster, context, request, replicas::elect),
        ApiKey::AlterPartitionReassignments => with(cluster, context, request, replicas::reassign),
        ApiKey::ListPartitionReassignments => with(cluster, context, request, replicas::list_reassignments),
        ApiKey::DescribeLogDirs => with(cluster, context, request, log_dirs::describe),
        ApiKey::AlterReplicaLogDirs => with(cluster, context, request, log_dirs::alter),
        ApiKey::DescribeProducers => with(cluster, context, request, producers::describe),
        ApiKey::WriteTxnMarkers => with(cluster, context, request, producers::write_markers),
        ApiKey::DescribeClientQuotas => with(cluster, context, request, quotas::describe),
        ApiKey::AlterClientQuotas => with(cluster, context, request, quotas::alter),
        ApiKey::DescribeUserScramCredentials => with(cluster, context, request, users::describe),
        ApiKey::AlterUserScramCredentials => with(cluster, context, request, users::alter),
        ApiKey::CreateDelegationToken => with(cluster, context, request, tokens::create),
        ApiKey::RenewDelegationToken => with(cluster, context, request, tokens::renew),
        ApiKey::ExpireDelegationToken => with(cluster, context, request, tokens::expire),
        ApiKey::DescribeDelegationToken => with(cluster, context, request, tokens::describe),
        ApiKey::GetTelemetrySubscriptions => with(cluster, context, request, telemetry::subscriptions),
        ApiKey::PushTelemetry => with(cluster, context, request, telemetry::push),
        ApiKey::UpdateFeatures => with(cluster, context, request, features::update),
        ApiKey::DescribeQuorum => with(cluster, context, request, nodes::describe_quorum),
        ApiKey::UnregisterBroker => with(cluster, context, request, nodes::unregister),
        ApiKey::SaslHandshake => with(cluster, context, request, sasl::handshake),
        ApiKey::SaslAuthenticate => with(cluster, context, request, sasl::authenticate),
        ApiKey::DescribeAcls => with(cluster, context, request, acls::describe),
        ApiKey::CreateAcls => with(cluster, context, request, acls::create),
        ApiKey::DeleteAcls => with(cluster, context, request, acls::delete),
        ApiKey::FindCoordinator => with(cluster, context, request, coordinators::find),
        ApiKey::InitProducerId => with(cluster, context, request, transactions::init_producer_id),
        ApiKey::AddPartitionsToTxn => with(cluster, context, request, transactions::add_partitions),
        ApiKey::AddOffsetsToTxn => with(cluster, context, request, transactions::add_offsets),
        ApiKey::TxnOffsetCommit => with(cluster, context, request, transactions::commit_offsets),
        ApiKey::EndTxn => with(cluster, context, request, transactions::end),
        ApiKey::DescribeTransactions => with(cluster, context, request, transactions::describe),
        ApiKey::ListTransactions => with(cluster, context, request, transactions::list),
        ApiKey::OffsetCommit => offsets::commit(cluster, context, request),
        ApiKey::OffsetFetch => offsets::fetch(cluster, context, request),
        _ => versions::refuse(cluster, context),
    }
}

/// Decodes the request behind its guard and hands it on.
fn with<M: Exchange + Decodable>(
    cluster: &mut Cluster,
    context: &Context,
    request: ReceivedRequest,
    handle: impl FnOnce(&mut Cluster, &Context, M) -> Answer,
) -> Answer {
    match request.decode::<M>() {
        Ok(message) => handle(cluster, context, message),
        Err(error) => malformed(context, &error),
    }
}

fn malformed(context: &Context, error: &Error) -> Answer {
    tracing::warn!(%error, node = context.node, "a request is malformed, its connection is closed");
    Answer::Close
}

/// The group whose member asks, for the fault rules.
pub(crate) fn group_of(request: &ReceivedRequest) -> Option<String> {
    let request = request.clone();
    let group = match request.api {
        ApiKey::JoinGroup => request.decode::<wire::JoinGroupRequest>().map(|it| it.group_id),
        ApiKey::SyncGroup => request.decode::<wire::SyncGroupRequest>().map(|it| it.group_id),
        ApiKey::Heartbeat => request.decode::<wire::HeartbeatRequest>().map(|it| it.group_id),
        ApiKey::LeaveGroup => request.decode::<wire::LeaveGroupRequest>().map(|it| it.group_id),
        ApiKey::OffsetCommit => offsets::read_commit(request).map(|it| it.request.group_id),
        ApiKey::TxnOffsetCommit => request.decode::<wire::TxnOffsetCommitRequest>().map(|it| it.group_id),
        ApiKey::ConsumerGroupHeartbeat => {
            request.decode::<wire::ConsumerGroupHeartbeatRequest>().map(|it| it.group_id)
        }
        ApiKey::ShareGroupHeartbeat => {
            request.decode::<wire::ShareGroupHeartbeatRequest>().map(|it| it.group_id)
        }
        ApiKey::ShareFetch => {
            return ShareFetchRequest::decode(&request).ok().map(|it| it.session.group.to_string());
        }
        ApiKey::ShareAcknowledge => {
            return ShareAcknowledgeRequest::decode(&request).ok().map(|it| it.session.group.to_string());
        }
        _ => return None,
    };
    // A malformed request is of no group; its handler says what is wrong with it.
    group.ok().map(|id| id.to_string())
}

/// The partitions that a request names, for the fault rules.
pub(crate) fn named(cluster: &Cluster, request: &ReceivedRequest) -> Vec<(String, i32)> {
    let request = request.clone();
    let mut named = Vec::new();
    let mut add = |topic: &str, partition: i32| named.push((topic.to_owned(), partition));
    // A malformed request names nothing; its handler says what is wrong with it.
    let _ = match request.api {
        ApiKey::Produce => request.decode::<wire::ProduceRequest>().map(|message| {
            for topic in &message.topic_data {
                let name = name_of(cluster, &topic.name, topic.topic_id);
                topic.partition_data.iter().for_each(|partition| add(&name, partition.index));
            }
        }),
        ApiKey::Fetch => request.decode::<wire::FetchRequest>().map(|message| {
            for topic in &message.topics {
                let name = name_of(cluster, &topic.topic, topic.topic_id);
                topic.partitions.iter().for_each(|partition| add(&name, partition.partition));
            }
        }),
        ApiKey::ListOffsets => request.decode::<wire::ListOffsetsRequest>().map(|message| {
            for topic in &message.topics {
                topic.partitions.iter().for_each(|partition| add(&topic.name, partition.partition_index));
            }
        }),
        ApiKey::AddPartitionsToTxn => request.decode::<wire::AddPartitionsToTxnRequest>().map(|message| {
            for topic in &message.v3_and_below_topics {
                topic.partitions.iter().for_each(|&partition| add(&topic.name, partition));
            }
        }),
        ApiKey::ShareFetch | ApiKey::ShareAcknowledge => shared_topics(&request).map(|topics| {
            for topic in &topics {
                let name = cluster.topics.name_of(topic.id).map_or_else(String::new, |name| name.to_string());
                topic.partitions.iter().for_each(|(partition, _)| add(&name, *partition));
            }
        }),
        ApiKey::TxnOffsetCommit => request.decode::<wire::TxnOffsetCommitRequest>().map(|message| {
            for topic in &message.topics {
                topic.partitions.iter().for_each(|partition| add(&topic.name, partition.partition_index));
            }
        }),
        ApiKey::OffsetCommit => offsets::read_commit(request).map(|message| {
            for (position, topic) in message.request.topics.iter().enumerate() {
                let id = message.topics.get(position).copied();
                let name = offsets::named(cluster, &topic.name, id).unwrap_or_default();
                topic.partitions.iter().for_each(|partition| add(&name, partition.partition_index));
            }
        }),
        _ => Ok(()),
    };
    named
}

fn shared_topics(request: &ReceivedRequest) -> Result<Vec<ShareTopic>, Error> {
    match request.api {
        ApiKey::ShareFetch => ShareFetchRequest::decode(request).map(|message| message.topics),
        _ => ShareAcknowledgeRequest::decode(request).map(|message| message.topics),
    }
}

/// The name of a topic that a request names by one or the other; empty where the id is unknown.
fn name_of(cluster: &Cluster, name: &TopicName, id: Uuid) -> String {
    if id.is_nil() {
        return name.to_string();
    }
    cluster.topics.name_of(TopicId(id.into_bytes())).map_or_else(String::new, |name| name.to_string())
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn uuid_of(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

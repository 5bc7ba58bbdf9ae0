//! ApiVersions 0–4, and which versions of the other APIs are served: those of Kafka 4.3 as far as
//! `kafka-protocol` has them.
//!
//! Produce is announced from version 0, as Kafka does for old librdkafka, and served from 3.

use kafka_wire::ErrorCode;
use kafka_wire::protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_wire::protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, StrBytes};

use super::{Answer, Context};
use crate::cluster::{Cluster, millis};
use crate::features;

/// What is served: API, first and last version.
const SERVED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 3, 13),
    (ApiKey::Fetch, 4, 18),
    (ApiKey::ListOffsets, 1, 11),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 10),
    (ApiKey::OffsetFetch, 1, 10),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::SaslHandshake, 1, 1),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::AddPartitionsToTxn, 0, 5),
    (ApiKey::AddOffsetsToTxn, 0, 4),
    (ApiKey::EndTxn, 0, 5),
    (ApiKey::WriteTxnMarkers, 1, 1),
    (ApiKey::TxnOffsetCommit, 0, 5),
    (ApiKey::DescribeAcls, 1, 3),
    (ApiKey::CreateAcls, 1, 3),
    (ApiKey::DeleteAcls, 1, 3),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::AlterReplicaLogDirs, 1, 2),
    (ApiKey::DescribeLogDirs, 1, 4),
    (ApiKey::SaslAuthenticate, 0, 2),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::CreateDelegationToken, 1, 3),
    (ApiKey::RenewDelegationToken, 1, 2),
    (ApiKey::ExpireDelegationToken, 1, 2),
    (ApiKey::DescribeDelegationToken, 1, 3),
    (ApiKey::ElectLeaders, 0, 2),
    (ApiKey::AlterPartitionReassignments, 0, 1),
    (ApiKey::ListPartitionReassignments, 0, 0),
    (ApiKey::DescribeClientQuotas, 0, 1),
    (ApiKey::AlterClientQuotas, 0, 1),
    (ApiKey::DescribeUserScramCredentials, 0, 0),
    (ApiKey::AlterUserScramCredentials, 0, 0),
    (ApiKey::DescribeQuorum, 0, 2),
    (ApiKey::UpdateFeatures, 0, 2),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::DescribeProducers, 0, 0),
    (ApiKey::UnregisterBroker, 0, 0),
    (ApiKey::DescribeTransactions, 0, 0),
    (ApiKey::ListTransactions, 0, 2),
    (ApiKey::ConsumerGroupHeartbeat, 0, 1),
    (ApiKey::ConsumerGroupDescribe, 0, 1),
    (ApiKey::GetTelemetrySubscriptions, 0, 0),
    (ApiKey::PushTelemetry, 0, 0),
    (ApiKey::ListConfigResources, 0, 1),
    (ApiKey::DescribeTopicPartitions, 0, 0),
    (ApiKey::ShareGroupHeartbeat, 1, 1),
    (ApiKey::ShareGroupDescribe, 1, 1),
    (ApiKey::ShareFetch, 1, 2),
    (ApiKey::ShareAcknowledge, 1, 2),
    (ApiKey::DescribeShareGroupOffsets, 0, 1),
    (ApiKey::AlterShareGroupOffsets, 0, 0),
    (ApiKey::DeleteShareGroupOffsets, 0, 0),
];

/// The versions of an API that are served now.
fn versions_of(cluster: &Cluster, &(api, first, last): &(ApiKey, i16, i16)) -> Option<(i16, i16)> {
    let is_telemetry = matches!(api, ApiKey::GetTelemetrySubscriptions | ApiKey::PushTelemetry);
    if is_telemetry && !cluster.options.telemetry {
        return None;
    }
    match cluster.api_versions.get(&(api as i16)) {
        None => Some((first, last)),
        Some(None) => None,
        Some(&Some((lowest, highest))) => {
            let narrowed = (first.max(lowest), last.min(highest));
            (narrowed.0 <= narrowed.1).then_some(narrowed)
        }
    }
}

pub(super) fn is_served(cluster: &Cluster, api: ApiKey, version: i16) -> bool {
    let served = SERVED.iter().filter(|(served, _, _)| *served == api);
    served.filter_map(|it| versions_of(cluster, it)).any(|(first, last)| (first..=last).contains(&version))
}

/// Answers a request in a version that is not served: only ApiVersions has an answer for that, in version 0.
pub(super) fn refuse(cluster: &Cluster, context: &Context) -> Answer {
    if context.api != ApiKey::ApiVersions {
        tracing::warn!(
            api = ?context.api, version = context.version, "not served, the connection is closed"
        );
        return Answer::Close;
    }
    let answer = answer(cluster).with_error_code(ErrorCode::UNSUPPORTED_VERSION.code());
    Context { version: 0, ..context.clone() }.answer(&answer)
}

pub(super) fn handle(cluster: &mut Cluster, context: &Context, request: ApiVersionsRequest) -> Answer {
    let (name, version) = (&request.client_software_name, &request.client_software_version);
    cluster.note_software(context.connection, name, version);
    let mut answer = answer(cluster);
    if context.version < 3 {
        // What `kafka-protocol` cannot write into old versions.
        answer.supported_features.clear();
        answer.finalized_features.clear();
        answer.finalized_features_epoch = -1;
    }
    if context.version >= 1 {
        answer.throttle_time_ms = millis(cluster.pause_of(context));
    }
    if let Some(code) = context.injected_for_request() {
        answer.error_code = code.code();
    }
    context.answer(&answer)
}

fn answer(cluster: &Cluster) -> ApiVersionsResponse {
    let apis = SERVED.iter().filter_map(|served| {
        let (first, last) = versions_of(cluster, served)?;
        let is_old_produce = served.0 == ApiKey::Produce && first == served.1;
        let first = if is_old_produce { 0 } else { first };
        let api = ApiVersion::default().with_api_key(served.0 as i16);
        Some(api.with_min_version(first).with_max_version(last))
    });
    let features = features::SUPPORTED.iter().map(|feature| (feature, cluster.features.level(feature)));
    ApiVersionsResponse::default()
        .with_api_keys(apis.collect())
        .with_supported_features(
            features
                .clone()
                .map(|(feature, _)| {
                    SupportedFeatureKey::default()
                        .with_name(StrBytes::from_static_str(feature.name))
                        .with_min_version(feature.min)
                        .with_max_version(feature.max)
                })
                .collect(),
        )
        .with_finalized_features_epoch(cluster.features.epoch())
        .with_finalized_features(
            features
                // Off is told by not naming it.
                .filter(|&(_, level)| level > 0)
                .map(|(feature, level)| {
                    FinalizedFeatureKey::default()
                        .with_name(StrBytes::from_static_str(feature.name))
                        .with_max_version_level(level)
                        .with_min_version_level(level)
                })
                .collect(),
        )
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::CoordinatorKind;
use crate::protocol::messages::ApiKey;
use crate::protocol::request::Request;
use crate::types::BrokerId;

/// Who should answer a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any broker; a broker that cannot be reached is exchanged for another.
    Any,
    /// The controller, as metadata names it; found first when it is not known.
    Controller,
    /// This broker.
    Broker {
        /// Which.
        id: BrokerId,
        /// Over which of its connections.
        lane: Lane,
    },
    /// The coordinator of this group or transactional id; found first when it is not known.
    Coordinator {
        /// Of what.
        kind: CoordinatorKind,
        /// The group id or transactional id.
        key: Arc<str>,
    },
}

/// Which connection to a broker: one per lane.
///
/// A broker works on one request of a connection at a time, so one that waits in the broker (a fetch, a
/// join) holds up all behind it. Calls on one lane keep their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Produce.
    Data,
    /// Fetch, which waits in the broker for `fetch.max.wait.ms`.
    Fetch,
    /// Metadata, lookups, admin.
    Control,
    /// Calls to coordinators.
    Coordinator,
    /// JoinGroup and SyncGroup, which wait in the coordinator for other members: commits and heartbeats pass them.
    Membership,
}

impl Lane {
    /// Over which connection to a coordinator.
    pub(super) fn to_coordinator(api: ApiKey) -> Self {
        match api {
            ApiKey::JoinGroup | ApiKey::SyncGroup => Self::Membership,
            _ => Self::Coordinator,
        }
    }
}

/// A call until it is answered.
pub(super) struct Call {
    pub(super) target: Target,
    pub(super) api: ApiKey,
    /// How long it may wait to be sent, and again how long the answer may take.
    pub(super) timeout: Duration,
    /// Until when it may wait to be sent.
    pub(super) send_by: Instant,
    pub(super) request: Box<dyn Request>,
}

/// Whether a request changes nothing, so that it does not matter if a lost one was executed.
pub(super) fn is_read_only(api: ApiKey) -> bool {
    use ApiKey::*;
    matches!(
        api,
        ApiVersions
            | ConsumerGroupDescribe
            | DescribeAcls
            | DescribeClientQuotas
            | DescribeCluster
            | DescribeConfigs
            | DescribeDelegationToken
            | DescribeGroups
            | DescribeLogDirs
            | DescribeProducers
            | DescribeQuorum
            | DescribeShareGroupOffsets
            | DescribeTopicPartitions
            | DescribeTransactions
            | DescribeUserScramCredentials
            | Fetch
            | FetchSnapshot
            | FindCoordinator
            | GetTelemetrySubscriptions
            | ListConfigResources
            | ListGroups
            | ListOffsets
            | ListPartitionReassignments
            | ListTransactions
            | Metadata
            | OffsetFetch
            | OffsetForLeaderEpoch
            | ReadShareGroupState
            | ReadShareGroupStateSummary
            | ShareGroupDescribe
            | StreamsGroupDescribe
    )
}

//! Which API a message belongs to: Kafka's own table (`ApiKeys`), also of what `kafka-protocol` has no messages for.

use super::guard;

macro_rules! api_keys {
    ($($name:ident = $key:literal,)*) => {
        /// An API of brokers, by Kafka's name; as an `i16`, by its key.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ApiKey {
            $(#[doc = concat!("Key ", $key, ".")] $name = $key,)*
        }

        impl ApiKey {
            /// All that brokers up to Kafka 4.3 have, by key.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Kafka's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }

        impl TryFrom<i16> for ApiKey {
            type Error = ();

            fn try_from(key: i16) -> Result<Self, ()> {
                match key {
                    $($key => Ok(Self::$name),)*
                    _ => Err(()),
                }
            }
        }
    };
}

api_keys! {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    SaslHandshake = 17,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    WriteTxnMarkers = 27,
    TxnOffsetCommit = 28,
    DescribeAcls = 29,
    CreateAcls = 30,
    DeleteAcls = 31,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    AlterReplicaLogDirs = 34,
    DescribeLogDirs = 35,
    SaslAuthenticate = 36,
    CreatePartitions = 37,
    CreateDelegationToken = 38,
    RenewDelegationToken = 39,
    ExpireDelegationToken = 40,
    DescribeDelegationToken = 41,
    DeleteGroups = 42,
    ElectLeaders = 43,
    IncrementalAlterConfigs = 44,
    AlterPartitionReassignments = 45,
    ListPartitionReassignments = 46,
    OffsetDelete = 47,
    DescribeClientQuotas = 48,
    AlterClientQuotas = 49,
    DescribeUserScramCredentials = 50,
    AlterUserScramCredentials = 51,
    Vote = 52,
    BeginQuorumEpoch = 53,
    EndQuorumEpoch = 54,
    DescribeQuorum = 55,
    AlterPartition = 56,
    UpdateFeatures = 57,
    Envelope = 58,
    FetchSnapshot = 59,
    DescribeCluster = 60,
    DescribeProducers = 61,
    BrokerRegistration = 62,
    BrokerHeartbeat = 63,
    UnregisterBroker = 64,
    DescribeTransactions = 65,
    ListTransactions = 66,
    AllocateProducerIds = 67,
    ConsumerGroupHeartbeat = 68,
    ConsumerGroupDescribe = 69,
    ControllerRegistration = 70,
    GetTelemetrySubscriptions = 71,
    PushTelemetry = 72,
    AssignReplicasToDirs = 73,
    ListConfigResources = 74,
    DescribeTopicPartitions = 75,
    ShareGroupHeartbeat = 76,
    ShareGroupDescribe = 77,
    ShareFetch = 78,
    ShareAcknowledge = 79,
    AddRaftVoter = 80,
    RemoveRaftVoter = 81,
    UpdateRaftVoter = 82,
    InitializeShareGroupState = 83,
    ReadShareGroupState = 84,
    WriteShareGroupState = 85,
    DeleteShareGroupState = 86,
    ReadShareGroupStateSummary = 87,
    StreamsGroupHeartbeat = 88,
    StreamsGroupDescribe = 89,
    DescribeShareGroupOffsets = 90,
    AlterShareGroupOffsets = 91,
    DeleteShareGroupOffsets = 92,
}

impl ApiKey {
    /// The version of the header before a request in `version`: from 2 on it ends with tagged fields.
    pub fn request_header_version(self, version: i16) -> i16 {
        1 + i16::from(guard::is_flexible_request(self, version))
    }

    /// The version of the header before an answer in `version`: from 1 on it ends with tagged fields. 0 for
    /// ApiVersions in every version, since a client has to read it before it knows anything.
    pub fn response_header_version(self, version: i16) -> i16 {
        (self != Self::ApiVersions && guard::is_flexible_response(self, version)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::CrateApiKey;
    use super::*;

    #[test]
    fn keys_and_headers_are_those_of_kafka_protocol() {
        for theirs in CrateApiKey::iter() {
            let ours = ApiKey::try_from(theirs as i16).unwrap();
            assert_eq!((ours.name(), ours as i16), (&*format!("{theirs:?}"), theirs as i16));
            let versions = theirs.valid_versions();
            for version in versions.min..=versions.max {
                assert_eq!(ours.request_header_version(version), theirs.request_header_version(version));
                assert_eq!(ours.response_header_version(version), theirs.response_header_version(version));
            }
        }
        assert!(ApiKey::ALL.windows(2).all(|pair| (pair[0] as i16) < pair[1] as i16));
        assert_eq!(ApiKey::StreamsGroupDescribe.request_header_version(0), 2);
        assert_eq!(ApiKey::try_from(7), Err(()));
    }
}

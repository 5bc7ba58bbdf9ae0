//! Metadata: versions 1 to 13. Who the brokers are, which topics there are, and who leads their partitions.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{self, NodeEndpoint};
use super::messages::{ApiKey, StrBytes};
use super::reader::{Fault, Read, Reader};
use super::request::{FrameBuilder, Request, Response};
use super::writer::Writer;
use crate::error::{ErrorCode, Result};
use crate::types::{BrokerId, LeaderEpoch, TopicId};

/// Version 0 cannot ask for no topics, and does not name the controller.
const VERSIONS: RangeInclusive<i16> = 1..=13;
const FLEXIBLE_FROM: i16 = 9;
const TOPIC_IDS_FROM: i16 = 10;

/// Asks any broker about the cluster.
#[derive(Clone, Debug)]
pub struct MetadataRequest {
    /// Which topics; `None` for all, an empty list for the brokers alone.
    pub topics: Option<Vec<Arc<str>>>,
    /// Whether a topic that does not exist may be created by asking for it, if the broker is configured so.
    pub allow_auto_topic_creation: bool,
}

impl Request for MetadataRequest {
    fn api(&self) -> ApiKey {
        ApiKey::Metadata
    }

    fn versions(&self) -> RangeInclusive<i16> {
        // Before version 4, asking always allows it.
        let oldest = if self.allow_auto_topic_creation { *VERSIONS.start() } else { 4 };
        oldest..=*VERSIONS.end()
    }

    fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, version >= FLEXIBLE_FROM);
        match &self.topics {
            None => writer.null_length(),
            Some(topics) => {
                writer.length(topics.len())?;
                for topic in topics {
                    if version >= TOPIC_IDS_FROM {
                        writer.uuid(TopicId::NONE.0);
                    }
                    writer.string(topic)?;
                    writer.no_tags();
                }
            }
        }
        if version >= 4 {
            writer.bool(self.allow_auto_topic_creation);
        }
        if (8..=10).contains(&version) {
            writer.bool(false); // include the cluster's authorized operations
        }
        if version >= 8 {
            writer.bool(false); // include the topics' authorized operations
        }
        writer.no_tags();
        Ok(())
    }
}

/// The cluster as the broker asked sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataResponse {
    /// How long to pause before the next request (KIP-219); at most 5 minutes.
    pub throttle: Duration,
    /// An error of the whole answer (from version 13, KIP-1102).
    pub error: Option<ErrorCode>,
    /// The brokers that are up. Those without a usable host or port are left out.
    pub brokers: Vec<NodeEndpoint>,
    /// The cluster's id.
    pub cluster_id: Option<StrBytes>,
    /// The controller; with KRaft, some broker.
    pub controller: Option<BrokerId>,
    /// The topics.
    pub topics: Vec<TopicMetadata>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Why nothing else is said about it.
    pub error: Option<ErrorCode>,
    /// Its name.
    pub name: StrBytes,
    /// Its id; [`TopicId::NONE`] from a broker without topic ids.
    pub id: TopicId,
    /// Whether it is one of Kafka's own.
    pub is_internal: bool,
    /// Its partitions, in no order.
    pub partitions: Vec<PartitionMetadata>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// E.g. LEADER_NOT_AVAILABLE.
    pub error: Option<ErrorCode>,
    /// Its number.
    pub index: i32,
    /// Who leads it.
    pub leader: Option<BrokerId>,
    /// Since which epoch.
    pub leader_epoch: Option<LeaderEpoch>,
    /// All its replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub in_sync: Vec<BrokerId>,
    /// Those that are down.
    pub offline: Vec<BrokerId>,
}

impl MetadataResponse {
    /// Decodes the answer to a [`MetadataRequest`].
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not such an answer.
    pub fn decode(response: &Response) -> Result<Self> {
        answer::decode(response, ApiKey::Metadata, VERSIONS, FLEXIBLE_FROM, |reader| {
            Self::read(reader, response.version)
        })
    }

    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let throttle = answer::throttle(if version >= 3 { reader.i32()? } else { 0 });
        let brokers = NodeEndpoint::read_all(reader, true)?;
        let cluster_id = if version >= 2 { reader.nullable_string()? } else { None };
        let controller = broker(reader.i32()?);
        let topics = reader.array(9, |reader| TopicMetadata::read(reader, version))?;
        if (8..=10).contains(&version) {
            reader.i32()?; // the cluster's authorized operations
        }
        let error = if version >= 13 { ErrorCode::from_wire(reader.i16()?) } else { None };
        reader.skip_tags()?;
        Ok(Self { throttle, error, brokers, cluster_id, controller, topics })
    }
}

impl TopicMetadata {
    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let error = ErrorCode::from_wire(reader.i16()?);
        let name = match reader.nullable_string()? {
            Some(name) => name,
            // An id that the broker does not know has no name.
            None if version >= 12 => StrBytes::new(),
            None => return reader.fault(Fault::Null),
        };
        let topic = Self {
            error,
            name,
            id: if version >= TOPIC_IDS_FROM { TopicId(reader.uuid()?) } else { TopicId::NONE },
            is_internal: reader.bool()?,
            partitions: reader.array(18, |reader| PartitionMetadata::read(reader, version))?,
        };
        if version >= 8 {
            reader.i32()?; // the topic's authorized operations
        }
        reader.skip_tags()?;
        Ok(topic)
    }
}

impl PartitionMetadata {
    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let partition = Self {
            error: ErrorCode::from_wire(reader.i16()?),
            index: reader.i32()?,
            leader: broker(reader.i32()?),
            leader_epoch: if version >= 7 { LeaderEpoch::from_wire(reader.i32()?) } else { None },
            replicas: reader.array(4, broker_id)?,
            in_sync: reader.array(4, broker_id)?,
            offline: if version >= 5 { reader.array(4, broker_id)? } else { Vec::new() },
        };
        reader.skip_tags()?;
        Ok(partition)
    }
}

fn broker(id: i32) -> Option<BrokerId> {
    (id >= 0).then_some(BrokerId(id))
}

fn broker_id(reader: &mut Reader<'_>) -> Read<BrokerId> {
    Ok(BrokerId(reader.i32()?))
}

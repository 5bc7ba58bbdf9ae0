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

#[cfg(test)]
mod tests {
    use super::super::messages::{self, Decodable as _, Encodable as _, metadata_response as theirs};
    use super::*;
    use crate::error::ErrorKind;
    use bytes::{Bytes, BytesMut};

    #[test]
    fn kafka_protocol_reads_what_is_written_in_every_version() {
        let named: Vec<Arc<str>> = vec!["a".into(), "b".into()];
        for topics in [None, Some(vec![]), Some(named)] {
            for version in VERSIONS {
                let request =
                    MetadataRequest { topics: topics.clone(), allow_auto_topic_creation: version < 4 };
                assert!(request.versions().contains(&version));
                let mut frame = FrameBuilder::new();
                request.encode(version, &mut frame).unwrap();
                let mut bytes = Bytes::from(frame.finish().concat());
                let read = messages::MetadataRequest::decode(&mut bytes, version).unwrap();
                assert!(bytes.is_empty(), "version {version}");
                let names = read.topics.map(|topics| {
                    topics.iter().map(|topic| Arc::from(topic.name.as_ref().unwrap().as_str())).collect()
                });
                assert_eq!(names, topics);
                assert_eq!(read.allow_auto_topic_creation, version < 4);
            }
        }
    }

    fn their_answer(version: i16) -> messages::MetadataResponse {
        let ids = |ids: &[i32]| ids.iter().map(|id| messages::BrokerId(*id)).collect::<Vec<_>>();
        let mut partition = theirs::MetadataResponsePartition::default()
            .with_partition_index(1)
            .with_leader_id(2.into())
            .with_replica_nodes(ids(&[2, 1]))
            .with_isr_nodes(ids(&[2]));
        let mut topic = theirs::MetadataResponseTopic::default()
            .with_name(Some(messages::TopicName("a".into())))
            .with_is_internal(true);
        let broker = |id: i32, host: &'static str, port| {
            theirs::MetadataResponseBroker::default()
                .with_node_id(id.into())
                .with_host(host.into())
                .with_port(port)
                .with_rack(Some("r".into()))
        };
        let mut answer =
            messages::MetadataResponse::default().with_controller_id(1.into()).with_brokers(vec![
                broker(1, "h", 9092),
                broker(2, "h", 0),
                broker(3, "", 1),
                broker(4, "h", 70_000),
            ]);
        if version >= 2 {
            answer.cluster_id = Some("cluster".into());
        }
        if version >= 3 {
            answer.throttle_time_ms = i32::MAX;
        }
        if version >= 5 {
            partition.offline_replicas = ids(&[1]);
        }
        if version >= 7 {
            partition.leader_epoch = 6;
        }
        if version >= 10 {
            topic.topic_id = uuid::Uuid::from_bytes([7; 16]);
        }
        if version >= 13 {
            answer.error_code = 129;
        }
        let lost =
            theirs::MetadataResponsePartition::default().with_error_code(5).with_leader_id((-1).into());
        let missing = theirs::MetadataResponseTopic::default()
            .with_error_code(3)
            .with_name((version < 12).then(messages::TopicName::default));
        answer.with_topics(vec![topic.with_partitions(vec![partition, lost]), missing])
    }

    fn response(version: i16) -> Response {
        let mut body = BytesMut::new();
        their_answer(version).encode(&mut body, version).unwrap();
        Response { api: ApiKey::Metadata, version, body: body.freeze() }
    }

    #[test]
    fn what_kafka_protocol_writes_is_read_in_every_version() {
        for version in VERSIONS {
            let answer = MetadataResponse::decode(&response(version)).unwrap();
            let broker =
                NodeEndpoint { id: BrokerId(1), host: "h".into(), port: 9092, rack: Some("r".into()) };
            assert_eq!(answer.brokers, [broker], "those that cannot be reached are left out");
            assert_eq!(answer.throttle, Duration::from_secs(if version >= 3 { 300 } else { 0 }));
            assert_eq!(answer.cluster_id, (version >= 2).then(|| "cluster".into()));
            assert_eq!(answer.controller, Some(BrokerId(1)));
            assert_eq!(answer.error.is_some(), version >= 13);
            let [topic, missing] = &answer.topics[..] else { panic!("{:?}", answer.topics) };
            assert_eq!((&*topic.name, topic.is_internal, topic.error), ("a", true, None));
            assert_eq!(topic.id, if version >= 10 { TopicId([7; 16]) } else { TopicId::NONE });
            let partition = PartitionMetadata {
                error: None,
                index: 1,
                leader: Some(BrokerId(2)),
                leader_epoch: (version >= 7).then_some(LeaderEpoch(6)),
                replicas: vec![BrokerId(2), BrokerId(1)],
                in_sync: vec![BrokerId(2)],
                offline: if version >= 5 { vec![BrokerId(1)] } else { vec![] },
            };
            assert_eq!(topic.partitions[0], partition);
            assert_eq!(topic.partitions[1].leader, None);
            assert_eq!(topic.partitions[1].error, Some(ErrorCode::LEADER_NOT_AVAILABLE));
            assert_eq!(missing.error, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        }
    }

    #[test]
    fn an_answer_that_ends_anywhere_is_an_error() {
        for version in VERSIONS {
            let whole = response(version);
            for end in 0..whole.body.len() {
                let response = Response { body: whole.body.slice(..end), ..whole.clone() };
                let error = MetadataResponse::decode(&response).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Protocol, "version {version}, {end} bytes");
            }
        }
    }

    #[test]
    fn hostile_counts_and_names_are_errors() {
        for (version, body) in [
            (1, &b"\x7f\xff\xff\xff"[..]),
            (9, b"\x00\x00\x00\x00\xff\xff\xff\xff\x0f"),
            (1, b"\xff\xff\xff\xfe"),
            (1, b"\xff\xff\xff\xff"),
            (9, b"\x00\x00\x00\x00\x00"),
            (1, b"\x00\x00\x00\x01\x00\x00\x00\x01\x00\x02\xc3\x28\x00\x00\x23\x84\xff\xff\x00\x00\x00\x01\x00\x00\x00\x00"),
            (1, b"\x00\x00\x00\x01\x00\x00\x00\x01\xff\xfe\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
        ] {
            let response = Response { api: ApiKey::Metadata, version, body: Bytes::from_static(body) };
            let error = MetadataResponse::decode(&response).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{body:?}");
        }
    }
}

//! Produce: versions 3 (Kafka 0.11) to 13 (topic ids, Kafka 4.1). Record batches are referred to, never
//! copied.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::answer::{self, LeaderHint, NodeEndpoint, TopicRef};
use super::messages::{ApiKey, StrBytes};
use super::reader::{Read, Reader};
use super::request::{FrameBuilder, Request, Response};
use super::writer::Writer;
use crate::error::{ErrorCode, Result};
use crate::types::{Acks, TopicId};

const VERSIONS: RangeInclusive<i16> = 3..=13;
const FLEXIBLE_FROM: i16 = 9;
const TOPIC_IDS_FROM: i16 = 13;
/// From here on the broker adds partitions to the transaction by itself (KIP-890).
const TRANSACTION_V2_FROM: i16 = 12;

/// Appends batches to partitions that one broker leads.
#[derive(Clone, Debug)]
pub struct ProduceRequest {
    /// Set in a transaction.
    pub transactional_id: Option<Arc<str>>,
    /// Whether the transaction follows the protocol of KIP-890 (`transaction.version` 2): the broker adds
    /// the partitions itself, where it is told to by the request's version. Without a transaction: unused.
    pub transaction_v2: bool,
    /// How many replicas must have it. Without any, the broker does not answer.
    pub acks: Acks,
    /// How long the broker may wait for them, in milliseconds.
    pub timeout_ms: i32,
    /// What to append; each topic once.
    pub topics: Vec<TopicRecords>,
}

/// Batches for a topic.
#[derive(Clone, Debug)]
pub struct TopicRecords {
    /// Its name.
    pub topic: Arc<str>,
    /// Its id; with [`TopicId::NONE`] for one topic, the request goes out in a version that uses names.
    pub id: TopicId,
    /// Each partition once.
    pub partitions: Vec<PartitionRecords>,
}

/// Batches for a partition.
#[derive(Clone, Debug)]
pub struct PartitionRecords {
    /// The partition's number.
    pub index: i32,
    /// One stamped record batch (brokers refuse more per partition), in as many pieces as it comes in.
    pub records: Vec<Bytes>,
}

impl Request for ProduceRequest {
    fn api(&self) -> ApiKey {
        ApiKey::Produce
    }

    fn versions(&self) -> RangeInclusive<i16> {
        let has_ids = self.topics.iter().all(|topic| topic.id.is_some());
        let newest = if has_ids { *VERSIONS.end() } else { TOPIC_IDS_FROM - 1 };
        match (&self.transactional_id, self.transaction_v2) {
            (None, _) => *VERSIONS.start()..=newest,
            (Some(_), true) => TRANSACTION_V2_FROM..=newest,
            (Some(_), false) => *VERSIONS.start()..=TRANSACTION_V2_FROM - 1,
        }
    }

    fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, version >= FLEXIBLE_FROM);
        writer.nullable_string(self.transactional_id.as_deref())?;
        writer.i16(self.acks.to_wire());
        writer.i32(self.timeout_ms);
        writer.length(self.topics.len())?;
        for topic in &self.topics {
            if version >= TOPIC_IDS_FROM {
                writer.uuid(topic.id.0);
            } else {
                writer.string(&topic.topic)?;
            }
            writer.length(topic.partitions.len())?;
            for partition in &topic.partitions {
                writer.i32(partition.index);
                writer.chunks(&partition.records)?;
                writer.no_tags();
            }
            writer.no_tags();
        }
        writer.no_tags();
        Ok(())
    }

    fn expects_response(&self) -> bool {
        self.acks != Acks::None
    }
}

/// What became of each batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceResponse {
    /// In the request's order, as a rule.
    pub topics: Vec<TopicProduced>,
    /// How long to pause before the next request (KIP-219); at most 5 minutes.
    pub throttle: Duration,
    /// Where the leaders in the hints listen.
    pub endpoints: Vec<NodeEndpoint>,
}

/// What became of a topic's batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicProduced {
    /// The topic, as the request named it.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<PartitionProduced>,
}

/// What became of a partition's batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionProduced {
    /// The partition's number.
    pub index: i32,
    /// Why it was not appended.
    pub error: Option<ErrorCode>,
    /// The offset of the batch's first record; −1 with an error.
    pub base_offset: i64,
    /// The records' timestamp in milliseconds, where the topic uses LogAppendTime.
    pub log_append_time_ms: Option<i64>,
    /// The partition's first offset; −1 when not told.
    pub log_start_offset: i64,
    /// The records that are at fault (KIP-467).
    pub record_errors: Vec<RecordError>,
    /// The broker's own words.
    pub error_message: Option<StrBytes>,
    /// The leader, where the broker asked is not.
    pub leader: Option<LeaderHint>,
}

/// A record that made the broker refuse its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Its index in the batch.
    pub index: i32,
    /// The broker's own words.
    pub message: Option<StrBytes>,
}

impl ProduceResponse {
    /// Decodes the answer to a [`ProduceRequest`].
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not such an answer.
    pub fn decode(response: &Response) -> Result<Self> {
        answer::decode(response, ApiKey::Produce, VERSIONS, FLEXIBLE_FROM, |reader| {
            Self::read(reader, response.version)
        })
    }

    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let topics = reader.array(3, |reader| TopicProduced::read(reader, version))?;
        let throttle = answer::throttle(reader.i32()?);
        let mut endpoints = Vec::new();
        reader.tags(|reader, tag| {
            let known = tag == 0 && version >= 10;
            if known {
                endpoints = NodeEndpoint::read_all(reader, true)?;
            }
            Ok(known)
        })?;
        Ok(Self { topics, throttle, endpoints })
    }
}

impl TopicProduced {
    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let topic = TopicRef::read(reader, version >= TOPIC_IDS_FROM)?;
        let partitions = reader.array(22, |reader| PartitionProduced::read(reader, version))?;
        reader.skip_tags()?;
        Ok(Self { topic, partitions })
    }
}

impl PartitionProduced {
    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let mut partition = Self {
            index: reader.i32()?,
            error: ErrorCode::from_wire(reader.i16()?),
            base_offset: reader.i64()?,
            log_append_time_ms: Some(reader.i64()?).filter(|time| *time >= 0),
            log_start_offset: if version >= 5 { reader.i64()? } else { -1 },
            record_errors: Vec::new(),
            error_message: None,
            leader: None,
        };
        if version >= 8 {
            partition.record_errors = reader.array(6, RecordError::read)?;
            partition.error_message = reader.nullable_string()?;
        }
        reader.tags(|reader, tag| {
            let known = tag == 0 && version >= 10;
            if known {
                partition.leader = LeaderHint::read(reader)?;
            }
            Ok(known)
        })?;
        Ok(partition)
    }
}

impl RecordError {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let error = Self { index: reader.i32()?, message: reader.nullable_string()? };
        reader.skip_tags()?;
        Ok(error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::{self, Decodable as _, Encodable as _, produce_response as theirs};
    use super::*;
    use crate::error::ErrorKind;
    use crate::types::{BrokerId, LeaderEpoch};
    use bytes::BytesMut;

    fn request() -> ProduceRequest {
        let partition = |index, pieces: &[&'static str]| PartitionRecords {
            index,
            records: pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect(),
        };
        ProduceRequest {
            transactional_id: Some("pay".into()),
            transaction_v2: true,
            acks: Acks::All,
            timeout_ms: 30_000,
            topics: vec![
                TopicRecords {
                    topic: "orders".into(),
                    id: TopicId([7; 16]),
                    partitions: vec![partition(0, &["header", "body"]), partition(3, &["x"])],
                },
                TopicRecords {
                    topic: "bills".into(),
                    id: TopicId([8; 16]),
                    partitions: vec![partition(1, &[])],
                },
            ],
        }
    }

    #[test]
    fn kafka_protocol_reads_what_is_written_in_every_version() {
        for version in VERSIONS {
            let mut frame = FrameBuilder::new();
            request().encode(version, &mut frame).unwrap();
            let mut bytes = Bytes::from(frame.finish().concat());
            let read = messages::ProduceRequest::decode(&mut bytes, version).unwrap();
            assert!(bytes.is_empty(), "version {version}");
            assert_eq!(read.transactional_id.as_ref().map(|id| id.as_str()), Some("pay"));
            assert_eq!((read.acks, read.timeout_ms), (-1, 30_000));
            for (topic, read) in request().topics.iter().zip(&read.topic_data) {
                if version >= 13 {
                    assert_eq!(read.topic_id.into_bytes(), topic.id.0);
                } else {
                    assert_eq!(read.name.as_str(), &*topic.topic);
                }
                assert_eq!(topic.partitions.len(), read.partition_data.len());
                for (partition, read) in topic.partitions.iter().zip(&read.partition_data) {
                    assert_eq!(read.index, partition.index);
                    assert_eq!(read.records.as_ref().unwrap(), &partition.records.concat());
                }
            }
        }
    }

    #[test]
    fn records_are_referred_to() {
        let body = Bytes::from(vec![1; 100]);
        let mut request = request();
        request.topics[0].partitions[0].records = vec![body.clone()];
        let mut frame = FrameBuilder::new();
        request.encode(13, &mut frame).unwrap();
        assert!(frame.finish().iter().any(|chunk| chunk.as_ptr() == body.as_ptr()));
    }

    #[test]
    fn the_versions_follow_from_what_is_asked() {
        let mut request = request();
        assert_eq!(request.versions(), 12..=13);
        request.transaction_v2 = false;
        assert_eq!(request.versions(), 3..=11);
        request.transactional_id = None;
        assert_eq!(request.versions(), 3..=13);
        request.topics[1].id = TopicId::NONE;
        assert_eq!(request.versions(), 3..=12);
    }

    fn their_answer(version: i16) -> messages::ProduceResponse {
        let mut partition = theirs::PartitionProduceResponse::default()
            .with_index(3)
            .with_error_code(6)
            .with_base_offset(1000)
            .with_log_append_time_ms(77);
        let mut topic = theirs::TopicProduceResponse::default();
        let mut answer = messages::ProduceResponse::default().with_throttle_time_ms(5);
        if version >= 5 {
            partition.log_start_offset = 9;
        }
        if version >= 8 {
            partition.record_errors = vec![
                theirs::BatchIndexAndErrorMessage::default()
                    .with_batch_index(2)
                    .with_batch_index_error_message(Some("bad".into())),
            ];
            partition.error_message = Some("no".into());
        }
        if version >= 10 {
            partition.current_leader = theirs::LeaderIdAndEpoch::default()
                .with_leader_id(BrokerId(4).0.into())
                .with_leader_epoch(12);
            let endpoint = |id: i32, port| {
                theirs::NodeEndpoint::default().with_node_id(id.into()).with_host("h".into()).with_port(port)
            };
            answer.node_endpoints = vec![endpoint(4, 9092), endpoint(5, 70_000)];
        }
        if version >= 13 {
            topic.topic_id = uuid::Uuid::from_bytes([7; 16]);
        } else {
            topic.name = messages::TopicName(StrBytes::from_static_str("orders"));
        }
        answer.with_responses(vec![topic.with_partition_responses(vec![partition])])
    }

    #[test]
    fn what_kafka_protocol_writes_is_read_in_every_version() {
        for version in VERSIONS {
            let mut body = BytesMut::new();
            their_answer(version).encode(&mut body, version).unwrap();
            let response = Response { api: ApiKey::Produce, version, body: body.freeze() };
            let answer = ProduceResponse::decode(&response).unwrap();
            let named = TopicRef::Name("orders".into());
            let topic = if version >= 13 { TopicRef::Id(TopicId([7; 16])) } else { named };
            let hint = LeaderHint { leader: BrokerId(4), epoch: Some(LeaderEpoch(12)) };
            let partition = PartitionProduced {
                index: 3,
                error: Some(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                base_offset: 1000,
                log_append_time_ms: Some(77),
                log_start_offset: if version >= 5 { 9 } else { -1 },
                record_errors: (version >= 8)
                    .then(|| RecordError { index: 2, message: Some("bad".into()) })
                    .into_iter()
                    .collect(),
                error_message: (version >= 8).then(|| "no".into()),
                leader: (version >= 10).then_some(hint),
            };
            let endpoint = NodeEndpoint { id: BrokerId(4), host: "h".into(), port: 9092, rack: None };
            assert_eq!(answer.topics, [TopicProduced { topic, partitions: vec![partition] }]);
            assert_eq!(answer.throttle, Duration::from_millis(5));
            assert_eq!(answer.endpoints, (version >= 10).then_some(endpoint).into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_answer_that_ends_anywhere_is_an_error() {
        for version in VERSIONS {
            let mut body = BytesMut::new();
            their_answer(version).encode(&mut body, version).unwrap();
            let body = body.freeze();
            for end in 0..body.len() {
                let response = Response { api: ApiKey::Produce, version, body: body.slice(..end) };
                let error = ProduceResponse::decode(&response).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Protocol, "version {version}, {end} bytes");
            }
        }
    }
}

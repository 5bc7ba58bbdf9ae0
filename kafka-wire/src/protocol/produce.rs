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

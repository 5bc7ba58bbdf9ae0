//! ShareFetch and ShareAcknowledge (KIP-932): versions 1 (Kafka 4.1) and 2 (Kafka 4.2: limits to the record,
//! KIP-1206, and renewed locks, KIP-1222). Record sets are slices of the frame.
//!
//! `kafka-protocol` ends at version 1, so both sides are written here; the broker's is in `broker`.

mod broker;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::answer::{self, LeaderHint, NodeEndpoint};
use super::messages::{ApiKey, StrBytes};
use super::reader::{Read, Reader};
use super::request::{FrameBuilder, Request, Response};
use super::writer::Writer;
use crate::error::{ErrorCode, Result};
use crate::types::TopicId;

const VERSIONS: RangeInclusive<i16> = 1..=2;
const RENEW_FROM: i16 = 2;

/// The session of a share consumer with one broker, which counts the requests in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSession {
    /// The group.
    pub group: Arc<str>,
    /// The member, by its heartbeats' id.
    pub member_id: Arc<str>,
    /// 0 opens the session, −1 closes it; in between 1, 2, …
    pub epoch: i32,
}

/// Asks one broker for records of the partitions that it leads, and acknowledges others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareFetchRequest {
    /// In which session.
    pub session: ShareSession,
    /// How long the broker may wait until it has `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How much the broker gathers before it answers.
    pub min_bytes: i32,
    /// Most bytes of records in the answer; one batch may exceed it (KIP-74).
    pub max_bytes: i32,
    /// Most records in the answer; whole batches may exceed it, unless `is_strict`.
    pub max_records: i32,
    /// In batches of how many records they are best acquired.
    pub batch_size: i32,
    /// Whether `max_records` is not to be exceeded (from version 2).
    pub is_strict: bool,
    /// Whether a lock is renewed: then there are no records in the answer (from version 2).
    pub is_renewal: bool,
    /// Partitions to add to the session, and those with something to acknowledge.
    pub topics: Vec<ShareTopic>,
    /// Partitions to remove from the session.
    pub forgotten: Vec<(TopicId, Vec<i32>)>,
}

/// Acknowledges records, without asking for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareAcknowledgeRequest {
    /// In which session.
    pub session: ShareSession,
    /// Whether a lock is renewed (from version 2).
    pub is_renewal: bool,
    /// What is acknowledged.
    pub topics: Vec<ShareTopic>,
}

/// A topic of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareTopic {
    /// Its id.
    pub id: TopicId,
    /// Each partition once, with what is acknowledged of it, in the order of the offsets.
    pub partitions: Vec<(i32, Vec<AcknowledgementBatch>)>,
}

/// Records that are acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcknowledgementBatch {
    /// The first offset.
    pub first_offset: i64,
    /// The last offset.
    pub last_offset: i64,
    /// One for all offsets, or one for each: 0 gap, 1 accept, 2 release, 3 reject, 4 renew.
    pub types: Vec<i8>,
}

impl AcknowledgementBatch {
    /// The type that extends the lock.
    pub const RENEW: i8 = 4;
}

impl Request for ShareFetchRequest {
    fn api(&self) -> ApiKey {
        ApiKey::ShareFetch
    }

    fn versions(&self) -> RangeInclusive<i16> {
        let oldest = if self.is_strict || self.is_renewal { RENEW_FROM } else { *VERSIONS.start() };
        oldest..=*VERSIONS.end()
    }

    fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, true);
        self.session.write(&mut writer)?;
        writer.i32(self.max_wait_ms);
        writer.i32(self.min_bytes);
        writer.i32(self.max_bytes);
        writer.i32(self.max_records);
        writer.i32(self.batch_size);
        if version >= RENEW_FROM {
            writer.i8(self.is_strict.into());
            writer.bool(self.is_renewal);
        }
        write_topics(&self.topics, &mut writer)?;
        writer.length(self.forgotten.len())?;
        for (id, partitions) in &self.forgotten {
            writer.uuid(id.0);
            writer.length(partitions.len())?;
            partitions.iter().for_each(|partition| writer.i32(*partition));
            writer.no_tags();
        }
        writer.no_tags();
        Ok(())
    }
}

impl Request for ShareAcknowledgeRequest {
    fn api(&self) -> ApiKey {
        ApiKey::ShareAcknowledge
    }

    fn versions(&self) -> RangeInclusive<i16> {
        let oldest = if self.is_renewal { RENEW_FROM } else { *VERSIONS.start() };
        oldest..=*VERSIONS.end()
    }

    fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, true);
        self.session.write(&mut writer)?;
        if version >= RENEW_FROM {
            writer.bool(self.is_renewal);
        }
        write_topics(&self.topics, &mut writer)?;
        writer.no_tags();
        Ok(())
    }
}

impl ShareSession {
    fn write(&self, writer: &mut Writer<'_>) -> Result<()> {
        writer.string(&self.group)?;
        writer.string(&self.member_id)?;
        writer.i32(self.epoch);
        Ok(())
    }
}

fn write_topics(topics: &[ShareTopic], writer: &mut Writer<'_>) -> Result<()> {
    writer.length(topics.len())?;
    for topic in topics {
        writer.uuid(topic.id.0);
        writer.length(topic.partitions.len())?;
        for (index, batches) in &topic.partitions {
            writer.i32(*index);
            writer.length(batches.len())?;
            for batch in batches {
                writer.i64(batch.first_offset);
                writer.i64(batch.last_offset);
                writer.length(batch.types.len())?;
                batch.types.iter().for_each(|kind| writer.i8(*kind));
                writer.no_tags();
            }
            writer.no_tags();
        }
        writer.no_tags();
    }
    Ok(())
}

/// Records that were acquired for this consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareFetchResponse {
    /// How long to pause before the next request (KIP-219); at most 5 minutes.
    pub throttle: Duration,
    /// An error of the whole answer, e.g. of the session.
    pub error: Option<ErrorCode>,
    /// What the broker says about it.
    pub error_message: Option<StrBytes>,
    /// For how long the records are locked.
    pub lock_timeout: Duration,
    /// The records, by topic.
    pub topics: Vec<(TopicId, Vec<SharedPartition>)>,
    /// Where the leaders in the hints listen.
    pub endpoints: Vec<NodeEndpoint>,
}

/// Records of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPartition {
    /// Its number.
    pub index: i32,
    /// Why there are no records.
    pub error: Option<ErrorCode>,
    /// Why what was acknowledged in the request is not.
    pub acknowledge_error: Option<ErrorCode>,
    /// The leader, where the broker asked is not.
    pub leader: Option<LeaderHint>,
    /// Whole record batches, which may hold others than the acquired records. Shares the frame's memory.
    pub records: Bytes,
    /// Which records were acquired.
    pub acquired: Vec<AcquiredRecords>,
}

/// Records that are locked for this consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquiredRecords {
    /// The first offset.
    pub first_offset: i64,
    /// The last offset.
    pub last_offset: i64,
    /// How often they have been delivered, this time included.
    pub delivery_count: i16,
}

/// What became of what was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareAcknowledgeResponse {
    /// How long to pause before the next request (KIP-219); at most 5 minutes.
    pub throttle: Duration,
    /// An error of the whole answer, e.g. of the session.
    pub error: Option<ErrorCode>,
    /// What the broker says about it.
    pub error_message: Option<StrBytes>,
    /// For how long renewed records are locked (from version 2).
    pub lock_timeout: Option<Duration>,
    /// By topic and partition.
    pub topics: Vec<(TopicId, Vec<AcknowledgedPartition>)>,
    /// Where the leaders in the hints listen.
    pub endpoints: Vec<NodeEndpoint>,
}

/// What became of it in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcknowledgedPartition {
    /// Its number.
    pub index: i32,
    /// Why it is not acknowledged.
    pub error: Option<ErrorCode>,
    /// The leader, where the broker asked is not.
    pub leader: Option<LeaderHint>,
}

impl ShareFetchResponse {
    /// Decodes the answer to a [`ShareFetchRequest`].
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not such an answer.
    pub fn decode(response: &Response) -> Result<Self> {
        answer::decode(response, ApiKey::ShareFetch, VERSIONS, 0, |reader| {
            let answer = Self {
                throttle: answer::throttle(reader.i32()?),
                error: ErrorCode::from_wire(reader.i16()?),
                error_message: reader.nullable_string()?,
                lock_timeout: milliseconds(reader.i32()?),
                topics: reader.array(18, |reader| read_topic(reader, 22, SharedPartition::read))?,
                endpoints: NodeEndpoint::read_all(reader, true)?,
            };
            reader.skip_tags()?;
            Ok(answer)
        })
    }
}

impl ShareAcknowledgeResponse {
    /// Decodes the answer to a [`ShareAcknowledgeRequest`].
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not such an answer.
    pub fn decode(response: &Response) -> Result<Self> {
        answer::decode(response, ApiKey::ShareAcknowledge, VERSIONS, 0, |reader| {
            let answer = Self {
                throttle: answer::throttle(reader.i32()?),
                error: ErrorCode::from_wire(reader.i16()?),
                error_message: reader.nullable_string()?,
                lock_timeout: match response.version {
                    RENEW_FROM.. => Some(milliseconds(reader.i32()?)).filter(|time| !time.is_zero()),
                    _ => None,
                },
                topics: reader.array(18, |reader| read_topic(reader, 17, AcknowledgedPartition::read))?,
                endpoints: NodeEndpoint::read_all(reader, true)?,
            };
            reader.skip_tags()?;
            Ok(answer)
        })
    }
}

fn milliseconds(value: i32) -> Duration {
    Duration::from_millis(value.try_into().unwrap_or(0))
}

fn read_topic<T>(
    reader: &mut Reader<'_>,
    min_bytes: usize,
    partition: impl FnMut(&mut Reader<'_>) -> Read<T>,
) -> Read<(TopicId, Vec<T>)> {
    let topic = (TopicId(reader.uuid()?), reader.array(min_bytes, partition)?);
    reader.skip_tags()?;
    Ok(topic)
}

impl SharedPartition {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let index = reader.i32()?;
        let error = ErrorCode::from_wire(reader.i16()?);
        reader.nullable_str()?; // what the broker says about it
        let acknowledge_error = ErrorCode::from_wire(reader.i16()?);
        reader.nullable_str()?;
        let partition = Self {
            index,
            error,
            acknowledge_error,
            leader: LeaderHint::read(reader)?,
            records: reader.nullable_bytes()?.unwrap_or_default(),
            acquired: reader.array(19, AcquiredRecords::read)?,
        };
        reader.skip_tags()?;
        Ok(partition)
    }
}

impl AcquiredRecords {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let (first_offset, last_offset) = (reader.i64()?, reader.i64()?);
        let acquired = Self { first_offset, last_offset, delivery_count: reader.i16()? };
        reader.skip_tags()?;
        Ok(acquired)
    }
}

impl AcknowledgedPartition {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let index = reader.i32()?;
        let error = ErrorCode::from_wire(reader.i16()?);
        reader.nullable_str()?;
        let partition = Self { index, error, leader: LeaderHint::read(reader)? };
        reader.skip_tags()?;
        Ok(partition)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::super::messages::{self, Encodable, share_acknowledge_response, share_fetch_response};
    use super::*;

    /// Whether `body` can be read, and no beginning of it.
    fn is_whole<T>(api: ApiKey, body: &impl Encodable, read: impl Fn(&Response) -> Result<T>) -> bool {
        let mut bytes = BytesMut::new();
        body.encode(&mut bytes, 1).unwrap();
        let bytes = Bytes::from(bytes);
        let is_read = |end| read(&Response { api, version: 1, body: bytes.slice(..end) }).is_ok();
        is_read(bytes.len()) && !(0..bytes.len()).any(is_read)
    }

    #[test]
    fn an_answer_that_ends_anywhere_is_an_error() {
        let endpoint = share_fetch_response::NodeEndpoint::default().with_host("h".into()).with_port(1);
        let acquired = share_fetch_response::AcquiredRecords::default().with_last_offset(4);
        let partition = share_fetch_response::PartitionData::default()
            .with_error_message(Some("why".into()))
            .with_records(Some(Bytes::from_static(b"records")))
            .with_acquired_records(vec![acquired]);
        let topic =
            share_fetch_response::ShareFetchableTopicResponse::default().with_partitions(vec![partition]);
        let fetched = messages::ShareFetchResponse::default()
            .with_responses(vec![topic])
            .with_node_endpoints(vec![endpoint]);
        assert!(is_whole(ApiKey::ShareFetch, &fetched, ShareFetchResponse::decode));
        let partition = share_acknowledge_response::PartitionData::default();
        let topic = share_acknowledge_response::ShareAcknowledgeTopicResponse::default()
            .with_partitions(vec![partition]);
        let told = messages::ShareAcknowledgeResponse::default().with_responses(vec![topic]);
        assert!(is_whole(ApiKey::ShareAcknowledge, &told, ShareAcknowledgeResponse::decode));
    }
}

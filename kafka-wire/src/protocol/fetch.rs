//! Fetch: versions 4 (Kafka 0.11) to 18 (Kafka 4.1), with sessions (KIP-227) and topic ids (KIP-516).
//! Record sets are slices of the frame.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::answer::{self, LeaderHint, NodeEndpoint, TopicRef};
use super::messages::ApiKey;
use super::reader::{Read, Reader};
use super::request::{FrameBuilder, Request, Response};
use super::writer::Writer;
use crate::error::{ErrorCode, Result};
use crate::types::{BrokerId, Isolation, LeaderEpoch, TopicId};

const VERSIONS: RangeInclusive<i16> = 4..=18;
const FLEXIBLE_FROM: i16 = 12;
const TOPIC_IDS_FROM: i16 = 13;
const SESSIONS_FROM: i16 = 7;

/// Asks one broker for the records of the partitions that it leads.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// How long the broker may wait until it has `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How much the broker gathers before it answers.
    pub min_bytes: i32,
    /// Most bytes of records in the answer; one batch may exceed it, lest nobody could read it (KIP-74).
    pub max_bytes: i32,
    /// Which records to answer with.
    pub isolation: Isolation,
    /// The session, 0 for none or a new one. Brokers without sessions (before 1.1) take every request as a
    /// full one, so one that continues a session needs a version that has them.
    pub session_id: i32,
    /// 0 asks for a new session, −1 for none (and closes `session_id`); then 1, 2, …
    pub session_epoch: i32,
    /// In a full request all partitions, in an incremental one those that are new or have changed.
    pub topics: Vec<FetchTopic>,
    /// What to remove from the session.
    pub forgotten: Vec<ForgottenTopic>,
    /// This client's rack, for fetching from the closest replica (KIP-392); empty for none.
    pub rack: Arc<str>,
}

/// A topic to fetch.
#[derive(Clone, Debug)]
pub struct FetchTopic {
    /// Its name.
    pub topic: Arc<str>,
    /// Its id; with [`TopicId::NONE`] for one topic, the request goes out in a version that uses names.
    pub id: TopicId,
    /// Each partition once.
    pub partitions: Vec<FetchPartition>,
}

/// A partition to fetch.
#[derive(Clone, Debug)]
pub struct FetchPartition {
    /// Its number.
    pub index: i32,
    /// Lets the broker fence a client with stale metadata, or be fenced itself (KIP-320).
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// The first offset wanted.
    pub fetch_offset: i64,
    /// The epoch of the record before it: lets the broker notice a truncation (from version 12).
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// Most bytes of records of this partition; one batch may exceed it.
    pub max_bytes: i32,
}

/// Partitions to remove from a session.
#[derive(Clone, Debug)]
pub struct ForgottenTopic {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id.
    pub id: TopicId,
    /// The partitions' numbers.
    pub partitions: Vec<i32>,
}

impl Request for FetchRequest {
    fn api(&self) -> ApiKey {
        ApiKey::Fetch
    }

    fn versions(&self) -> RangeInclusive<i16> {
        let needs_session = self.session_id != 0 || !self.forgotten.is_empty();
        let has_ids = self.topics.iter().all(|topic| topic.id.is_some())
            && self.forgotten.iter().all(|topic| topic.id.is_some());
        let oldest = if needs_session { SESSIONS_FROM } else { *VERSIONS.start() };
        let newest = if has_ids { *VERSIONS.end() } else { TOPIC_IDS_FROM - 1 };
        oldest..=newest
    }

    fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, version >= FLEXIBLE_FROM);
        if version <= 14 {
            writer.i32(-1); // replica id: a consumer. Later versions have it in a tagged field of followers.
        }
        writer.i32(self.max_wait_ms);
        writer.i32(self.min_bytes);
        writer.i32(self.max_bytes);
        writer.i8(match self.isolation {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        });
        if version >= SESSIONS_FROM {
            writer.i32(self.session_id);
            writer.i32(self.session_epoch);
        }
        writer.length(self.topics.len())?;
        for topic in &self.topics {
            topic.write(version, &mut writer)?;
        }
        if version >= SESSIONS_FROM {
            writer.length(self.forgotten.len())?;
            for topic in &self.forgotten {
                topic.write(version, &mut writer)?;
            }
        }
        if version >= 11 {
            writer.string(&self.rack)?;
        }
        writer.no_tags();
        Ok(())
    }
}

impl FetchTopic {
    fn write(&self, version: i16, writer: &mut Writer<'_>) -> Result<()> {
        write_topic(&self.topic, self.id, version, writer)?;
        writer.length(self.partitions.len())?;
        for partition in &self.partitions {
            partition.write(version, writer);
        }
        writer.no_tags();
        Ok(())
    }
}

impl FetchPartition {
    fn write(&self, version: i16, writer: &mut Writer<'_>) {
        writer.i32(self.index);
        if version >= 9 {
            writer.i32(LeaderEpoch::to_wire(self.current_leader_epoch));
        }
        writer.i64(self.fetch_offset);
        if version >= 12 {
            writer.i32(LeaderEpoch::to_wire(self.last_fetched_epoch));
        }
        if version >= 5 {
            writer.i64(-1); // log start offset: followers only
        }
        writer.i32(self.max_bytes);
        writer.no_tags();
    }
}

impl ForgottenTopic {
    fn write(&self, version: i16, writer: &mut Writer<'_>) -> Result<()> {
        write_topic(&self.topic, self.id, version, writer)?;
        writer.length(self.partitions.len())?;
        for partition in &self.partitions {
            writer.i32(*partition);
        }
        writer.no_tags();
        Ok(())
    }
}

fn write_topic(topic: &str, id: TopicId, version: i16, writer: &mut Writer<'_>) -> Result<()> {
    if version >= TOPIC_IDS_FROM {
        writer.uuid(id.0);
        return Ok(());
    }
    writer.string(topic)
}

/// The records of some of the partitions asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse {
    /// How long to pause before the next request (KIP-219); at most 5 minutes.
    pub throttle: Duration,
    /// An error of the whole answer, e.g. of the session.
    pub error: Option<ErrorCode>,
    /// The session, 0 for none.
    pub session_id: i32,
    /// In an incremental answer only partitions with records, or with a change.
    pub topics: Vec<FetchedTopic>,
    /// Where the leaders in the hints listen.
    pub endpoints: Vec<NodeEndpoint>,
}

/// The records of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// The topic, as the request named it.
    pub topic: TopicRef,
    /// Its partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// The records of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    /// Its number.
    pub index: i32,
    /// Why there are none.
    pub error: Option<ErrorCode>,
    /// The offset after the last record that all in-sync replicas have.
    pub high_watermark: i64,
    /// The offset of the first record of the oldest open transaction, or the high watermark; −1 when not told.
    pub last_stable_offset: i64,
    /// The partition's first offset; −1 when not told.
    pub log_start_offset: i64,
    /// Set when the log was truncated below what this client has read.
    pub diverging: Option<DivergingEpoch>,
    /// The leader, where the broker asked is not.
    pub leader: Option<LeaderHint>,
    /// Transactions whose records a reader of committed ones has to drop; in no order.
    pub aborted: Vec<AbortedTransaction>,
    /// The replica to read from instead (KIP-392).
    pub preferred_read_replica: Option<BrokerId>,
    /// Whole record batches, the last one cut short maybe. Shares the frame's memory.
    pub records: Bytes,
}

/// Up to where this client's log and the leader's agree (KIP-595).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DivergingEpoch {
    /// The last epoch that both have.
    pub epoch: Option<LeaderEpoch>,
    /// The offset after that epoch's last record.
    pub end_offset: i64,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Its producer.
    pub producer_id: i64,
    /// Its first offset in the partition.
    pub first_offset: i64,
}

impl FetchResponse {
    /// Decodes the answer to a [`FetchRequest`].
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not such an answer.
    pub fn decode(response: &Response) -> Result<Self> {
        answer::decode(response, ApiKey::Fetch, VERSIONS, FLEXIBLE_FROM, |reader| {
            Self::read(reader, response.version)
        })
    }

    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let throttle = answer::throttle(reader.i32()?);
        let (mut error, mut session_id) = (None, 0);
        if version >= SESSIONS_FROM {
            error = ErrorCode::from_wire(reader.i16()?);
            session_id = reader.i32()?;
        }
        let topics = reader.array(3, |reader| FetchedTopic::read(reader, version))?;
        let mut endpoints = Vec::new();
        reader.tags(|reader, tag| {
            let known = tag == 0 && version >= 16;
            if known {
                endpoints = NodeEndpoint::read_all(reader, true)?;
            }
            Ok(known)
        })?;
        Ok(Self { throttle, error, session_id, topics, endpoints })
    }
}

impl FetchedTopic {
    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let topic = TopicRef::read(reader, version >= TOPIC_IDS_FROM)?;
        let partitions = reader.array(30, |reader| FetchedPartition::read(reader, version))?;
        reader.skip_tags()?;
        Ok(Self { topic, partitions })
    }
}

impl FetchedPartition {
    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let mut partition = Self {
            index: reader.i32()?,
            error: ErrorCode::from_wire(reader.i16()?),
            high_watermark: reader.i64()?,
            last_stable_offset: reader.i64()?,
            log_start_offset: if version >= 5 { reader.i64()? } else { -1 },
            diverging: None,
            leader: None,
            aborted: reader.nullable_array(16, AbortedTransaction::read)?.unwrap_or_default(),
            preferred_read_replica: None,
            records: Bytes::new(),
        };
        if version >= 11 {
            partition.preferred_read_replica = Some(reader.i32()?).filter(|id| *id >= 0).map(BrokerId);
        }
        partition.records = reader.nullable_bytes()?.unwrap_or_default();
        reader.tags(|reader, tag| {
            match tag {
                0 => partition.diverging = DivergingEpoch::read(reader)?,
                1 => partition.leader = LeaderHint::read(reader)?,
                _ => return Ok(false), // 2 is the snapshot id, for followers of the metadata log
            }
            Ok(true)
        })?;
        Ok(partition)
    }
}

impl DivergingEpoch {
    fn read(reader: &mut Reader<'_>) -> Read<Option<Self>> {
        let (epoch, end_offset) = (LeaderEpoch::from_wire(reader.i32()?), reader.i64()?);
        reader.skip_tags()?;
        Ok((end_offset >= 0).then_some(Self { epoch, end_offset }))
    }
}

impl AbortedTransaction {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let transaction = Self { producer_id: reader.i64()?, first_offset: reader.i64()? };
        reader.skip_tags()?;
        Ok(transaction)
    }
}

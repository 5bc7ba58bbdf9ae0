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

#[cfg(test)]
mod tests {
    use super::super::messages::{self, Decodable as _, Encodable as _, fetch_response as theirs};
    use super::*;
    use crate::error::ErrorKind;
    use bytes::BytesMut;

    fn request() -> FetchRequest {
        let partition = |index| FetchPartition {
            index,
            current_leader_epoch: Some(LeaderEpoch(5)),
            fetch_offset: 100 + i64::from(index),
            last_fetched_epoch: Some(LeaderEpoch(4)),
            max_bytes: 1 << 20,
        };
        let topic = |topic: &str, id, partitions: &[i32]| FetchTopic {
            topic: topic.into(),
            id: TopicId([id; 16]),
            partitions: partitions.iter().copied().map(partition).collect(),
        };
        FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 50 << 20,
            isolation: Isolation::ReadCommitted,
            session_id: 11,
            session_epoch: 3,
            topics: vec![topic("a", 7, &[0, 1]), topic("b", 8, &[2])],
            forgotten: vec![ForgottenTopic {
                topic: "c".into(),
                id: TopicId([9; 16]),
                partitions: vec![4, 5],
            }],
            rack: "r1".into(),
        }
    }

    #[test]
    fn kafka_protocol_reads_what_is_written_in_every_version() {
        for version in VERSIONS {
            let mut frame = FrameBuilder::new();
            request().encode(version, &mut frame).unwrap();
            let mut bytes = Bytes::from(frame.finish().concat());
            let read = messages::FetchRequest::decode(&mut bytes, version).unwrap();
            assert!(bytes.is_empty(), "version {version}");
            assert_eq!((read.max_wait_ms, read.min_bytes, read.max_bytes), (500, 1, 50 << 20));
            assert_eq!((read.isolation_level, *read.replica_id), (1, -1));
            let session = if version >= 7 { (11, 3) } else { (0, -1) };
            assert_eq!((read.session_id, read.session_epoch), session);
            assert_eq!(read.rack_id.as_str(), if version >= 11 { "r1" } else { "" });
            let names = |name: &str, id: u8| {
                if version >= 13 { (String::new(), [id; 16]) } else { (name.to_owned(), [0; 16]) }
            };
            let topics: Vec<_> = read
                .topics
                .iter()
                .map(|topic| (topic.topic.to_string(), topic.topic_id.into_bytes()))
                .collect();
            assert_eq!(topics, [names("a", 7), names("b", 8)]);
            assert_eq!(read.topics[0].partitions.len(), 2);
            let partition = &read.topics[1].partitions[0];
            assert_eq!((partition.partition, partition.fetch_offset), (2, 102));
            assert_eq!(partition.partition_max_bytes, 1 << 20);
            assert_eq!(partition.current_leader_epoch, if version >= 9 { 5 } else { -1 });
            assert_eq!(partition.last_fetched_epoch, if version >= 12 { 4 } else { -1 });
            if version >= 7 {
                let forgotten = &read.forgotten_topics_data[0];
                assert_eq!((forgotten.topic.to_string(), forgotten.topic_id.into_bytes()), names("c", 9));
                assert_eq!(forgotten.partitions, [4, 5]);
            }
        }
    }

    #[test]
    fn the_versions_follow_from_what_is_asked() {
        let mut request = request();
        assert_eq!(request.versions(), 7..=18);
        request.topics[0].id = TopicId::NONE;
        assert_eq!(request.versions(), 7..=12);
        request.session_id = 0;
        request.forgotten.clear();
        assert_eq!(request.versions(), 4..=12);
    }

    fn their_answer(version: i16) -> messages::FetchResponse {
        let mut partition = theirs::PartitionData::default()
            .with_partition_index(3)
            .with_error_code(0)
            .with_high_watermark(2000)
            .with_last_stable_offset(1990)
            .with_records(Some(Bytes::from_static(b"records")))
            .with_aborted_transactions(Some(vec![
                theirs::AbortedTransaction::default().with_producer_id(5.into()).with_first_offset(1500),
            ]));
        let mut answer = messages::FetchResponse::default().with_throttle_time_ms(-1);
        let mut topic = theirs::FetchableTopicResponse::default();
        if version >= 5 {
            partition.log_start_offset = 9;
        }
        if version >= 7 {
            answer = answer.with_error_code(71).with_session_id(42);
        }
        if version >= 11 {
            partition.preferred_read_replica = 2.into();
        }
        if version >= 12 {
            partition.diverging_epoch = theirs::EpochEndOffset::default().with_epoch(3).with_end_offset(1800);
            partition.current_leader =
                theirs::LeaderIdAndEpoch::default().with_leader_id(4.into()).with_leader_epoch(12);
            partition.snapshot_id = theirs::SnapshotId::default().with_end_offset(1).with_epoch(2);
        }
        if version >= 16 {
            answer.node_endpoints = vec![
                theirs::NodeEndpoint::default()
                    .with_node_id(4.into())
                    .with_host("h".into())
                    .with_port(9092)
                    .with_rack(Some("r".into())),
            ];
        }
        if version >= 13 {
            topic.topic_id = uuid::Uuid::from_bytes([7; 16]);
        } else {
            topic.topic = messages::TopicName(messages::StrBytes::from_static_str("a"));
        }
        let empty = theirs::PartitionData::default().with_partition_index(4).with_error_code(1);
        answer.with_responses(vec![topic.with_partitions(vec![partition, empty])])
    }

    fn response(version: i16) -> Response {
        let mut body = BytesMut::new();
        their_answer(version).encode(&mut body, version).unwrap();
        Response { api: ApiKey::Fetch, version, body: body.freeze() }
    }

    #[test]
    fn what_kafka_protocol_writes_is_read_in_every_version() {
        for version in VERSIONS {
            let response = response(version);
            let answer = FetchResponse::decode(&response).unwrap();
            assert_eq!(answer.throttle, Duration::ZERO);
            let session = if version >= 7 { (71, 42) } else { (0, 0) };
            assert_eq!((answer.error.map_or(0, ErrorCode::code), answer.session_id), session);
            assert_eq!(answer.endpoints.len(), usize::from(version >= 16));
            let topic = &answer.topics[0];
            let named = TopicRef::Name("a".into());
            assert_eq!(topic.topic, if version >= 13 { TopicRef::Id(TopicId([7; 16])) } else { named });
            let expected = FetchedPartition {
                index: 3,
                error: None,
                high_watermark: 2000,
                last_stable_offset: 1990,
                log_start_offset: if version >= 5 { 9 } else { -1 },
                diverging: (version >= 12)
                    .then_some(DivergingEpoch { epoch: Some(LeaderEpoch(3)), end_offset: 1800 }),
                leader: (version >= 12)
                    .then_some(LeaderHint { leader: BrokerId(4), epoch: Some(LeaderEpoch(12)) }),
                aborted: vec![AbortedTransaction { producer_id: 5, first_offset: 1500 }],
                preferred_read_replica: (version >= 11).then_some(BrokerId(2)),
                records: Bytes::from_static(b"records"),
            };
            assert_eq!(topic.partitions[0], expected, "version {version}");
            let empty = &topic.partitions[1];
            assert_eq!((empty.error, empty.records.len()), (Some(ErrorCode::OFFSET_OUT_OF_RANGE), 0));
            assert_eq!((empty.leader, empty.diverging, empty.preferred_read_replica), (None, None, None));
        }
    }

    #[test]
    fn record_sets_share_the_memory_of_the_frame() {
        let response = response(18);
        let answer = FetchResponse::decode(&response).unwrap();
        assert!(response.body.as_ptr_range().contains(&answer.topics[0].partitions[0].records.as_ptr()));
    }

    #[test]
    fn an_answer_that_ends_anywhere_is_an_error() {
        for version in VERSIONS {
            let whole = response(version);
            for end in 0..whole.body.len() {
                let response = Response { body: whole.body.slice(..end), ..whole.clone() };
                let error = FetchResponse::decode(&response).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Protocol, "version {version}, {end} bytes");
            }
        }
    }
}

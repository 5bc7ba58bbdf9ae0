//! Names for the numbers that Kafka's protocol passes around. Layer 0: nothing below.

use std::fmt;
use std::sync::Arc;

/// A broker's node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A topic's identity (KIP-516): a topic that was deleted and created again has the same name and another id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// What brokers without topic ids (before 2.8) answer.
    pub const NONE: Self = Self([0; 16]);

    /// Whether a broker assigned this id.
    pub fn is_some(self) -> bool {
        self != Self::NONE
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An id that Kafka gives to directories and clients; its text is 22 letters, as Kafka's tools print it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Whether it stands for no id.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 16]
    }
}

/// The letters of base64 for URLs (RFC 4648).
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits in groups of 6 from the left; the last group has 2, and 4 zeros behind them.
        let bits = u128::from_be_bytes(self.0);
        let letter = |index: u32| {
            let group = if index < 21 { bits >> (122 - 6 * index) } else { bits << 4 };
            char::from(BASE64_URL[(group & 63) as usize])
        };
        f.pad(&(0..22).map(letter).collect::<String>())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<TopicId> for Uuid {
    fn from(id: TopicId) -> Self {
        Self(id.0)
    }
}

impl std::str::FromStr for Uuid {
    type Err = NotAUuid;

    /// From 22 letters, as [`Display`](fmt::Display) writes them.
    fn from_str(text: &str) -> Result<Self, NotAUuid> {
        if text.len() != 22 {
            return Err(NotAUuid);
        }
        let mut bits = 0_u128;
        for (index, letter) in text.bytes().enumerate() {
            let group = BASE64_URL.iter().position(|known| *known == letter).ok_or(NotAUuid)? as u128;
            if index < 21 {
                bits = (bits << 6) | group;
            } else if group & 15 == 0 {
                bits = (bits << 2) | (group >> 4);
            } else {
                return Err(NotAUuid);
            }
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

/// A text that is not 22 letters of base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAUuid;

impl fmt::Display for NotAUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected 22 letters of base64, as Kafka's tools print an id")
    }
}

impl std::error::Error for NotAUuid {}

/// One partition of a topic. Cloning copies a pointer, not the name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How often a partition's leadership has changed (KIP-320); −1 on the wire is `None` here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// Reads the wire form, where −1 says "not known".
    pub const fn from_wire(epoch: i32) -> Option<Self> {
        if epoch < 0 { None } else { Some(Self(epoch)) }
    }

    /// The wire form, where −1 says "not known".
    pub const fn to_wire(epoch: Option<Self>) -> i32 {
        match epoch {
            Some(Self(epoch)) => epoch,
            None => -1,
        }
    }
}

/// A producer as the brokers know it: the pair that idempotence and fencing are built on (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerIdentity {
    /// Assigned by the transaction coordinator.
    pub id: i64,
    /// Raised by each fencing, and by each transaction under KIP-890.
    pub epoch: i16,
}

impl fmt::Display for ProducerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, self.epoch)
    }
}

/// Which records a reader sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// All, also those of open and aborted transactions.
    ReadUncommitted,
    /// Only committed ones, up to the last stable offset. Our default, unlike Java's: what an aborted
    /// transaction wrote was never meant to be seen.
    #[default]
    ReadCommitted,
}

/// How many replicas must have a record before the broker acknowledges it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Acks {
    /// None: the broker does not answer, and a lost record is never noticed.
    None,
    /// The leader alone.
    Leader,
    /// All in-sync replicas.
    #[default]
    All,
}

impl Acks {
    /// The wire form: 0, 1, −1.
    pub const fn to_wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// What a batch's records are compressed with, without the level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of snappy-java ("xerial").
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard frames (KIP-110).
    Zstd,
}

impl Codec {
    /// The codec in the lowest three bits of a batch's attributes.
    pub const fn from_attributes(attributes: i16) -> Option<Self> {
        match attributes & 7 {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Its number in the attributes.
    pub const fn to_attributes(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Kafka's name of it, as in `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Where a record's timestamp comes from (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer set it.
    CreateTime,
    /// The broker set it on append; every record of a batch has the same.
    LogAppendTime,
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// That of the first record that is still there.
    Earliest,
    /// The one after the last record that the isolation level shows.
    Latest,
    /// That of the first record with this timestamp or a later one, in milliseconds since 1970.
    Timestamp(i64),
    /// That of the record with the greatest timestamp (KIP-734, from Kafka 3.0).
    MaxTimestamp,
    /// That of the first record that is still on the leader's own disk (KIP-405, from Kafka 3.4).
    EarliestLocal,
    /// That of the last record that is in remote storage (KIP-1005, from Kafka 3.9).
    LatestTiered,
    /// That of the first record that is to go to remote storage and is not there (KIP-1023, from Kafka 4.2).
    EarliestPendingUpload,
}

impl OffsetSpec {
    /// The wire form: a timestamp, or one of the numbers that stand for a place.
    pub(crate) const fn to_wire(self) -> i64 {
        match self {
            Self::Timestamp(timestamp_ms) => timestamp_ms,
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::EarliestLocal => -4,
            Self::LatestTiered => -5,
            Self::EarliestPendingUpload => -6,
        }
    }

    /// The first version of ListOffsets that can ask for it; there is an isolation level from 2.
    pub(crate) const fn first_version(self) -> i16 {
        match self {
            Self::Timestamp(_) | Self::Latest | Self::Earliest => 2,
            Self::MaxTimestamp => 7,
            Self::EarliestLocal => 8,
            Self::LatestTiered => 9,
            Self::EarliestPendingUpload => 11,
        }
    }
}

/// An offset that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedOffset {
    /// The offset; `None` when no record matches.
    pub offset: Option<i64>,
    /// Its record's timestamp in milliseconds since 1970, where one was asked for.
    pub timestamp_ms: Option<i64>,
    /// In which leader epoch it was written.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// An offset that a group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to be read.
    pub offset: i64,
    /// The leader epoch of the last record read, where it was committed too.
    pub leader_epoch: Option<LeaderEpoch>,
    /// What the committer put with it; at most 4096 bytes (`offset.metadata.max.bytes`).
    pub metadata: String,
}

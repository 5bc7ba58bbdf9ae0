//! The answer to DescribeLogDirs: versions 1 to 5, of which `kafka-protocol` lacks the last (Kafka 4.3: cordoned
//! folders, KIP-1066).

use std::ops::RangeInclusive;

use super::answer;
use super::messages::{ApiKey, StrBytes};
use super::reader::{Read, Reader};
use super::request::Response;
use crate::error::{ErrorCode, Result};

const VERSIONS: RangeInclusive<i16> = 1..=5;
const FLEXIBLE_FROM: i16 = 2;

/// A folder of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedLogDir {
    /// Why it cannot be used.
    pub error: Option<ErrorCode>,
    /// Its path.
    pub path: StrBytes,
    /// What is in it, by topic.
    pub topics: Vec<(StrBytes, Vec<DescribedReplica>)>,
    /// The size of its volume (from version 4).
    pub total_bytes: Option<i64>,
    /// What is free of that (from version 4).
    pub usable_bytes: Option<i64>,
    /// Whether it gets no new partitions (from version 5).
    pub is_cordoned: bool,
}

/// A replica in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescribedReplica {
    /// The number of its partition.
    pub partition: i32,
    /// The size of its segments.
    pub size_bytes: i64,
    /// How far it is behind.
    pub offset_lag: i64,
    /// Whether it is being moved here.
    pub is_future: bool,
}

/// Decodes the answer: an error of the whole, and the folders.
///
/// # Errors
/// `Protocol`, when the bytes are not such an answer.
pub fn decode_log_dirs(response: &Response) -> Result<(Option<ErrorCode>, Vec<DescribedLogDir>)> {
    let version = response.version;
    answer::decode(response, ApiKey::DescribeLogDirs, VERSIONS, FLEXIBLE_FROM, |reader| {
        reader.i32()?; // the pause, which the connection has looked at
        let error = if version >= 3 { ErrorCode::from_wire(reader.i16()?) } else { None };
        let folders = reader.array(5, |reader| DescribedLogDir::read(reader, version))?;
        reader.skip_tags()?;
        Ok((error, folders))
    })
}

impl DescribedLogDir {
    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let error = ErrorCode::from_wire(reader.i16()?);
        let path = reader.string()?;
        let topics = reader.array(3, |reader| {
            let topic = (reader.string()?, reader.array(21, DescribedReplica::read)?);
            reader.skip_tags()?;
            Ok(topic)
        })?;
        let (mut total_bytes, mut usable_bytes) = (None, None);
        if version >= 4 {
            let known = |bytes: i64| Some(bytes).filter(|bytes| *bytes >= 0);
            (total_bytes, usable_bytes) = (known(reader.i64()?), known(reader.i64()?));
        }
        let is_cordoned = version >= 5 && reader.bool()?;
        reader.skip_tags()?;
        Ok(Self { error, path, topics, total_bytes, usable_bytes, is_cordoned })
    }
}

impl DescribedReplica {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let replica = Self {
            partition: reader.i32()?,
            size_bytes: reader.i64()?,
            offset_lag: reader.i64()?,
            is_future: reader.bool()?,
        };
        reader.skip_tags()?;
        Ok(replica)
    }
}

//! What the answers of several APIs have in common.

use std::fmt;
use std::time::Duration;

use super::limits::Limits;
use super::messages::{ApiKey, StrBytes};
use super::reader::{Read, Reader};
use super::request::Response;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{BrokerId, LeaderEpoch, TopicId};

/// How an answer names a topic: newer versions by id (KIP-516).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicRef {
    /// By name.
    Name(StrBytes),
    /// By id.
    Id(TopicId),
}

impl TopicRef {
    pub(super) fn read(reader: &mut Reader<'_>, by_id: bool) -> Read<Self> {
        if by_id { Ok(Self::Id(TopicId(reader.uuid()?))) } else { Ok(Self::Name(reader.string()?)) }
    }
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// Who leads a partition, told along with an error (KIP-951): saves a metadata request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The leader.
    pub leader: BrokerId,
    /// Since which epoch. A hint older than what is known is to be ignored.
    pub epoch: Option<LeaderEpoch>,
}

impl LeaderHint {
    /// A hint without a leader is none.
    pub(super) fn read(reader: &mut Reader<'_>) -> Read<Option<Self>> {
        let (leader, epoch) = (reader.i32()?, LeaderEpoch::from_wire(reader.i32()?));
        reader.skip_tags()?;
        Ok((leader >= 0).then_some(Self { leader: BrokerId(leader), epoch }))
    }
}

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    /// Its node id.
    pub id: BrokerId,
    /// Its host name or address, 1 to 255 bytes.
    pub host: StrBytes,
    /// Its port, never 0.
    pub port: u16,
    /// Its rack, where it has one.
    pub rack: Option<StrBytes>,
}

impl NodeEndpoint {
    /// Bytes of the shortest endpoint in any version.
    pub(super) const MIN_BYTES: usize = 11;

    /// `None` for an endpoint that nobody could connect to: it is ignored, the others count.
    pub(super) fn read(reader: &mut Reader<'_>, with_rack: bool) -> Read<Option<Self>> {
        let id = BrokerId(reader.i32()?);
        let host = reader.string()?;
        let port = reader.i32()?;
        let rack = if with_rack { reader.nullable_string()? } else { None };
        reader.skip_tags()?;
        match u16::try_from(port) {
            Ok(port) if port > 0 && (1..=255).contains(&host.len()) => {
                Ok(Some(Self { id, host, port, rack }))
            }
            _ => {
                tracing::warn!(broker = %id, port, host_bytes = host.len(), "ignored a broker's endpoint");
                Ok(None)
            }
        }
    }

    pub(super) fn read_all(reader: &mut Reader<'_>, with_rack: bool) -> Read<Vec<Self>> {
        let endpoints = reader.array(Self::MIN_BYTES, |reader| Self::read(reader, with_rack))?;
        Ok(endpoints.into_iter().flatten().collect())
    }
}

/// A pause that the broker asks for, within sane bounds.
pub(super) fn throttle(milliseconds: i32) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0)).min(Limits::DEFAULT.throttle_max)
}

/// Reads all of `response` with `read`, if it answers `api` in one of the `versions` that `read` knows.
pub(super) fn decode<T>(
    response: &Response,
    api: ApiKey,
    versions: std::ops::RangeInclusive<i16>,
    flexible_from: i16,
    read: impl FnOnce(&mut Reader<'_>) -> Read<T>,
) -> Result<T> {
    let version = response.version;
    let what = || format!("{:?} answer version {version}", response.api);
    if response.api != api || !versions.contains(&version) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("decode {} as {api:?} versions {} to {}", what(), versions.start(), versions.end()),
        ));
    }
    let mut reader = Reader::new(&response.body, version >= flexible_from);
    let value = read(&mut reader).map_err(|malformed| malformed.in_message(what()))?;
    reader.finish(what()).map_err(|malformed| malformed.in_message(what()))?;
    Ok(value)
}

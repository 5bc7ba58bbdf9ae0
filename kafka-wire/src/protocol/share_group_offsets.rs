//! DescribeShareGroupOffsets (KIP-932): versions 0 (Kafka 4.1) and 1 (Kafka 4.2: the lag, KIP-1226), which
//! `kafka-protocol` lacks.

use std::ops::RangeInclusive;

use super::answer;
use super::messages::{ApiKey, StrBytes};
use super::reader::{Read, Reader};
use super::request::{FrameBuilder, Request, Response};
use super::writer::Writer;
use crate::error::{ErrorCode, Result};
use crate::types::{LeaderEpoch, TopicId};

const VERSIONS: RangeInclusive<i16> = 0..=1;
const LAG_FROM: i16 = 1;

/// Asks the coordinator where share groups begin to read, of all their partitions.
#[derive(Clone, Debug)]
pub struct DescribeShareGroupOffsetsRequest {
    /// The groups.
    pub group_ids: Vec<String>,
}

impl Request for DescribeShareGroupOffsetsRequest {
    fn api(&self) -> ApiKey {
        ApiKey::DescribeShareGroupOffsets
    }

    fn versions(&self) -> RangeInclusive<i16> {
        VERSIONS
    }

    fn encode(&self, _: i16, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, true);
        writer.length(self.group_ids.len())?;
        for id in &self.group_ids {
            writer.string(id)?;
            writer.null_length(); // all topics
            writer.no_tags();
        }
        writer.no_tags();
        Ok(())
    }
}

/// The offsets of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareGroupOffsets {
    /// Its id.
    pub group_id: StrBytes,
    /// By topic.
    pub topics: Vec<ShareTopicOffsets>,
    /// Why there are none.
    pub error: Option<ErrorCode>,
    /// What the coordinator says about it.
    pub error_message: Option<StrBytes>,
}

/// The offsets of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareTopicOffsets {
    /// Its name.
    pub name: StrBytes,
    /// Its id.
    pub id: TopicId,
    /// By partition.
    pub partitions: Vec<SharePartitionOffset>,
}

/// The offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharePartitionOffset {
    /// Its number.
    pub index: i32,
    /// The first offset that the group is not done with; `None` where it has not begun.
    pub start_offset: Option<i64>,
    /// The leader epoch that it was written in.
    pub leader_epoch: Option<LeaderEpoch>,
    /// How many records the group is not done with (from version 1).
    pub lag: Option<i64>,
    /// Why there is no offset.
    pub error: Option<ErrorCode>,
    /// What the coordinator says about it.
    pub error_message: Option<StrBytes>,
}

/// Decodes the answer to a [`DescribeShareGroupOffsetsRequest`].
///
/// # Errors
/// `Protocol`, when the bytes are not such an answer.
pub fn decode_offsets(response: &Response) -> Result<Vec<ShareGroupOffsets>> {
    answer::decode(response, ApiKey::DescribeShareGroupOffsets, VERSIONS, 0, |reader| {
        reader.i32()?; // the pause, which the connection has looked at
        let groups = reader.array(6, |reader| ShareGroupOffsets::read(reader, response.version))?;
        reader.skip_tags()?;
        Ok(groups)
    })
}

/// Writes the answer, as a broker does.
///
/// # Errors
/// `Usage`, when a name or a list is too long for the protocol.
pub fn encode_offsets(groups: &[ShareGroupOffsets], version: i16, frame: &mut FrameBuilder) -> Result<()> {
    let mut writer = Writer::new(frame, true);
    writer.i32(0); // no pause
    writer.length(groups.len())?;
    for group in groups {
        group.write(&mut writer, version)?;
    }
    writer.no_tags();
    Ok(())
}

impl ShareGroupOffsets {
    fn write(&self, writer: &mut Writer<'_>, version: i16) -> Result<()> {
        writer.string(&self.group_id)?;
        writer.length(self.topics.len())?;
        for topic in &self.topics {
            writer.string(&topic.name)?;
            writer.uuid(topic.id.0);
            writer.length(topic.partitions.len())?;
            for partition in &topic.partitions {
                partition.write(writer, version)?;
            }
            writer.no_tags();
        }
        writer.i16(self.error.map_or(0, ErrorCode::code));
        writer.nullable_string(self.error_message.as_deref())?;
        writer.no_tags();
        Ok(())
    }

    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let group = Self {
            group_id: reader.string()?,
            topics: reader.array(19, |reader| {
                let (name, id) = (reader.string()?, TopicId(reader.uuid()?));
                let partitions = reader.array(20, |reader| SharePartitionOffset::read(reader, version))?;
                reader.skip_tags()?;
                Ok(ShareTopicOffsets { name, id, partitions })
            })?,
            error: ErrorCode::from_wire(reader.i16()?),
            error_message: reader.nullable_string()?,
        };
        reader.skip_tags()?;
        Ok(group)
    }
}

impl SharePartitionOffset {
    fn write(&self, writer: &mut Writer<'_>, version: i16) -> Result<()> {
        writer.i32(self.index);
        writer.i64(self.start_offset.unwrap_or(-1));
        writer.i32(LeaderEpoch::to_wire(self.leader_epoch));
        if version >= LAG_FROM {
            writer.i64(self.lag.unwrap_or(-1));
        }
        writer.i16(self.error.map_or(0, ErrorCode::code));
        writer.nullable_string(self.error_message.as_deref())?;
        writer.no_tags();
        Ok(())
    }

    fn read(reader: &mut Reader<'_>, version: i16) -> Read<Self> {
        let known = |number: i64| Some(number).filter(|number| *number >= 0);
        let partition = Self {
            index: reader.i32()?,
            start_offset: known(reader.i64()?),
            leader_epoch: LeaderEpoch::from_wire(reader.i32()?),
            lag: if version >= LAG_FROM { known(reader.i64()?) } else { None },
            error: ErrorCode::from_wire(reader.i16()?),
            error_message: reader.nullable_string()?,
        };
        reader.skip_tags()?;
        Ok(partition)
    }
}

//! OffsetCommit and OffsetFetch in version 10 (Kafka 4.1), which name topics by id: `kafka-protocol` has the answers of
//! that version, and requests up to version 9.

use std::ops::RangeInclusive;

use super::header::ReceivedRequest;
use super::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use super::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use super::messages::{ApiKey, GroupId, OffsetCommitRequest, OffsetFetchRequest};
use super::reader::{Read, Reader};
use super::request::{FrameBuilder, Request};
use super::writer::Writer;
use crate::error::{Error, ErrorKind, Result};
use crate::types::TopicId;

/// The first version that names topics by id.
pub const BY_ID_FROM: i16 = 10;
const VERSIONS: RangeInclusive<i16> = BY_ID_FROM..=BY_ID_FROM;

/// OffsetCommit as in version 9, with ids in the place of names.
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetCommitById {
    /// The request; the names of its topics say nothing.
    pub request: OffsetCommitRequest,
    /// The ids of its topics, in their order.
    pub topics: Vec<TopicId>,
}

/// OffsetFetch as in version 9, with ids in the place of names.
#[derive(Clone, Debug, PartialEq)]
pub struct OffsetFetchById {
    /// The request; the names of its topics say nothing.
    pub request: OffsetFetchRequest,
    /// By group, the ids of its topics, in their order; empty for a group of which all offsets are asked.
    pub topics: Vec<Vec<TopicId>>,
}

impl OffsetCommitById {
    /// Decodes what a client sent.
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not such a request.
    pub fn decode(request: &ReceivedRequest) -> Result<Self> {
        decode(request, ApiKey::OffsetCommit, |reader| {
            let mut topics = Vec::new();
            let message = OffsetCommitRequest::default()
                .with_group_id(GroupId(reader.string()?))
                .with_generation_id_or_member_epoch(reader.i32()?)
                .with_member_id(reader.string()?)
                .with_group_instance_id(reader.nullable_string()?)
                .with_topics(reader.array(18, |reader| {
                    topics.push(TopicId(reader.uuid()?));
                    let topic = OffsetCommitRequestTopic::default();
                    let topic = topic.with_partitions(reader.array(18, read_partition)?);
                    reader.skip_tags()?;
                    Ok(topic)
                })?);
            Ok(Self { request: message, topics })
        })
    }
}

fn read_partition(reader: &mut Reader<'_>) -> Read<OffsetCommitRequestPartition> {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(reader.i32()?)
        .with_committed_offset(reader.i64()?)
        .with_committed_leader_epoch(reader.i32()?)
        .with_committed_metadata(reader.nullable_string()?);
    reader.skip_tags()?;
    Ok(partition)
}

impl Request for OffsetCommitById {
    fn api(&self) -> ApiKey {
        ApiKey::OffsetCommit
    }

    fn versions(&self) -> RangeInclusive<i16> {
        VERSIONS
    }

    fn encode(&self, _: i16, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, true);
        writer.string(&self.request.group_id)?;
        writer.i32(self.request.generation_id_or_member_epoch);
        writer.string(&self.request.member_id)?;
        writer.nullable_string(self.request.group_instance_id.as_deref())?;
        writer.length(self.topics.len())?;
        for (id, topic) in self.topics.iter().zip(&self.request.topics) {
            writer.uuid(id.0);
            writer.length(topic.partitions.len())?;
            for partition in &topic.partitions {
                writer.i32(partition.partition_index);
                writer.i64(partition.committed_offset);
                writer.i32(partition.committed_leader_epoch);
                writer.nullable_string(partition.committed_metadata.as_deref())?;
                writer.no_tags();
            }
            writer.no_tags();
        }
        writer.no_tags();
        Ok(())
    }
}

impl OffsetFetchById {
    /// Decodes what a client sent.
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not such a request.
    pub fn decode(request: &ReceivedRequest) -> Result<Self> {
        decode(request, ApiKey::OffsetFetch, |reader| {
            let mut topics = Vec::new();
            let message = OffsetFetchRequest::default()
                .with_groups(reader.array(8, |reader| {
                    let mut ids = Vec::new();
                    let group = read_group(reader, &mut ids)?;
                    topics.push(ids);
                    Ok(group)
                })?)
                .with_require_stable(reader.bool()?);
            Ok(Self { request: message, topics })
        })
    }
}

fn read_group(reader: &mut Reader<'_>, ids: &mut Vec<TopicId>) -> Read<OffsetFetchRequestGroup> {
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(reader.string()?))
        .with_member_id(reader.nullable_string()?)
        .with_member_epoch(reader.i32()?)
        .with_topics(reader.nullable_array(18, |reader| {
            ids.push(TopicId(reader.uuid()?));
            let topic = OffsetFetchRequestTopics::default();
            let topic = topic.with_partition_indexes(reader.array(4, Reader::i32)?);
            reader.skip_tags()?;
            Ok(topic)
        })?);
    reader.skip_tags()?;
    Ok(group)
}

impl Request for OffsetFetchById {
    fn api(&self) -> ApiKey {
        ApiKey::OffsetFetch
    }

    fn versions(&self) -> RangeInclusive<i16> {
        VERSIONS
    }

    fn encode(&self, _: i16, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, true);
        writer.length(self.request.groups.len())?;
        for (ids, group) in self.topics.iter().zip(&self.request.groups) {
            writer.string(&group.group_id)?;
            writer.nullable_string(group.member_id.as_deref())?;
            writer.i32(group.member_epoch);
            match &group.topics {
                None => writer.null_length(),
                Some(topics) => {
                    writer.length(ids.len())?;
                    for (id, topic) in ids.iter().zip(topics) {
                        writer.uuid(id.0);
                        writer.length(topic.partition_indexes.len())?;
                        topic.partition_indexes.iter().for_each(|&index| writer.i32(index));
                        writer.no_tags();
                    }
                }
            }
            writer.no_tags();
        }
        writer.bool(self.request.require_stable);
        writer.no_tags();
        Ok(())
    }
}

fn decode<T>(
    request: &ReceivedRequest,
    api: ApiKey,
    read: impl FnOnce(&mut Reader<'_>) -> Read<T>,
) -> Result<T> {
    let what = || format!("{:?} request version {}", request.api, request.version);
    if request.api != api || !VERSIONS.contains(&request.version) {
        let text = format!("decode {} as {api:?} version {BY_ID_FROM}", what());
        return Err(Error::new(ErrorKind::Usage, text));
    }
    // Bytes after the end are left alone, as by Kafka.
    let mut reader = Reader::new(&request.body, true);
    let decoded = read(&mut reader).and_then(|message| {
        reader.skip_tags()?;
        Ok(message)
    });
    decoded.map_err(|malformed| malformed.in_message(what()))
}

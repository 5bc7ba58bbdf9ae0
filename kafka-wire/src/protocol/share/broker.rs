//! The broker's side: requests are read, answers are written.

use std::sync::Arc;
use std::time::Duration;

use super::{
    AcknowledgedPartition, AcknowledgementBatch, AcquiredRecords, RENEW_FROM, ShareAcknowledgeRequest,
    ShareAcknowledgeResponse, ShareFetchRequest, ShareFetchResponse, ShareSession, ShareTopic,
    SharedPartition, VERSIONS,
};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::protocol::answer::{LeaderHint, NodeEndpoint};
use crate::protocol::header::ReceivedRequest;
use crate::protocol::messages::ApiKey;
use crate::protocol::reader::{Read, Reader};
use crate::protocol::request::FrameBuilder;
use crate::protocol::writer::Writer;
use crate::types::{LeaderEpoch, TopicId};

impl ShareFetchRequest {
    /// Decodes what a client sent.
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not such a request.
    pub fn decode(request: &ReceivedRequest) -> Result<Self> {
        decode(request, ApiKey::ShareFetch, |reader, has_renewals| {
            Ok(Self {
                session: ShareSession::read(reader)?,
                max_wait_ms: reader.i32()?,
                min_bytes: reader.i32()?,
                max_bytes: reader.i32()?,
                max_records: reader.i32()?,
                batch_size: reader.i32()?,
                is_strict: has_renewals && reader.i8()? != 0,
                is_renewal: has_renewals && reader.bool()?,
                topics: reader.array(18, ShareTopic::read)?,
                forgotten: reader.array(18, |reader| {
                    let topic = (TopicId(reader.uuid()?), reader.array(4, Reader::i32)?);
                    reader.skip_tags()?;
                    Ok(topic)
                })?,
            })
        })
    }
}

impl ShareAcknowledgeRequest {
    /// Decodes what a client sent.
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not such a request.
    pub fn decode(request: &ReceivedRequest) -> Result<Self> {
        decode(request, ApiKey::ShareAcknowledge, |reader, has_renewals| {
            Ok(Self {
                session: ShareSession::read(reader)?,
                is_renewal: has_renewals && reader.bool()?,
                topics: reader.array(18, ShareTopic::read)?,
            })
        })
    }
}

fn decode<T>(
    request: &ReceivedRequest,
    api: ApiKey,
    read: impl FnOnce(&mut Reader<'_>, bool) -> Read<T>,
) -> Result<T> {
    let version = request.version;
    let what = || format!("{:?} request version {version}", request.api);
    if request.api != api || !VERSIONS.contains(&version) {
        let (first, last) = (VERSIONS.start(), VERSIONS.end());
        let text = format!("decode {} as {api:?} versions {first} to {last}", what());
        return Err(Error::new(ErrorKind::Usage, text));
    }
    // Bytes after the end are left alone, as by Kafka.
    let mut reader = Reader::new(&request.body, true);
    let decoded = read(&mut reader, version >= RENEW_FROM).and_then(|message| {
        reader.skip_tags()?;
        Ok(message)
    });
    decoded.map_err(|malformed| malformed.in_message(what()))
}

impl ShareSession {
    /// Null, which means nothing, is taken for an empty name, which names nobody.
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let group = Arc::from(reader.nullable_str()?.unwrap_or_default());
        let member_id = Arc::from(reader.nullable_str()?.unwrap_or_default());
        Ok(Self { group, member_id, epoch: reader.i32()? })
    }
}

impl ShareTopic {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let id = TopicId(reader.uuid()?);
        let partitions = reader.array(6, |reader| {
            let partition = (reader.i32()?, reader.array(18, AcknowledgementBatch::read)?);
            reader.skip_tags()?;
            Ok(partition)
        })?;
        reader.skip_tags()?;
        Ok(Self { id, partitions })
    }
}

impl AcknowledgementBatch {
    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        let (first_offset, last_offset) = (reader.i64()?, reader.i64()?);
        let batch = Self { first_offset, last_offset, types: reader.array(1, Reader::i8)? };
        reader.skip_tags()?;
        Ok(batch)
    }
}

impl ShareFetchResponse {
    /// Writes the answer, which is the same in all versions.
    ///
    /// # Errors
    /// `Usage` when something is too long for the protocol.
    pub fn encode(&self, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, true);
        writer.i32(milliseconds(self.throttle));
        writer.i16(code(self.error));
        writer.nullable_string(self.error_message.as_deref())?;
        writer.i32(milliseconds(self.lock_timeout));
        write_topics(&self.topics, &mut writer, SharedPartition::write)?;
        write_endpoints(&self.endpoints, &mut writer)
    }
}

impl ShareAcknowledgeResponse {
    /// Writes the answer.
    ///
    /// # Errors
    /// `Usage` when something is too long for the protocol.
    pub fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()> {
        let mut writer = Writer::new(frame, true);
        writer.i32(milliseconds(self.throttle));
        writer.i16(code(self.error));
        writer.nullable_string(self.error_message.as_deref())?;
        if version >= RENEW_FROM {
            writer.i32(self.lock_timeout.map_or(0, milliseconds));
        }
        write_topics(&self.topics, &mut writer, AcknowledgedPartition::write)?;
        write_endpoints(&self.endpoints, &mut writer)
    }
}

impl SharedPartition {
    fn write(&self, writer: &mut Writer<'_>) -> Result<()> {
        writer.i32(self.index);
        writer.i16(code(self.error));
        writer.nullable_string(None)?;
        writer.i16(code(self.acknowledge_error));
        writer.nullable_string(None)?;
        write_leader(self.leader, writer);
        writer.chunks(std::slice::from_ref(&self.records))?;
        writer.length(self.acquired.len())?;
        for AcquiredRecords { first_offset, last_offset, delivery_count } in &self.acquired {
            writer.i64(*first_offset);
            writer.i64(*last_offset);
            writer.i16(*delivery_count);
            writer.no_tags();
        }
        writer.no_tags();
        Ok(())
    }
}

impl AcknowledgedPartition {
    fn write(&self, writer: &mut Writer<'_>) -> Result<()> {
        writer.i32(self.index);
        writer.i16(code(self.error));
        writer.nullable_string(None)?;
        write_leader(self.leader, writer);
        writer.no_tags();
        Ok(())
    }
}

fn write_topics<T>(
    topics: &[(TopicId, Vec<T>)],
    writer: &mut Writer<'_>,
    write: impl Fn(&T, &mut Writer<'_>) -> Result<()>,
) -> Result<()> {
    writer.length(topics.len())?;
    for (id, partitions) in topics {
        writer.uuid(id.0);
        writer.length(partitions.len())?;
        for partition in partitions {
            write(partition, writer)?;
        }
        writer.no_tags();
    }
    Ok(())
}

fn write_leader(hint: Option<LeaderHint>, writer: &mut Writer<'_>) {
    writer.i32(hint.map_or(-1, |hint| hint.leader.0));
    writer.i32(LeaderEpoch::to_wire(hint.and_then(|hint| hint.epoch)));
    writer.no_tags();
}

/// With them an answer ends.
fn write_endpoints(endpoints: &[NodeEndpoint], writer: &mut Writer<'_>) -> Result<()> {
    writer.length(endpoints.len())?;
    for endpoint in endpoints {
        writer.i32(endpoint.id.0);
        writer.string(&endpoint.host)?;
        writer.i32(endpoint.port.into());
        writer.nullable_string(endpoint.rack.as_deref())?;
        writer.no_tags();
    }
    writer.no_tags();
    Ok(())
}

fn code(error: Option<ErrorCode>) -> i16 {
    error.map_or(0, ErrorCode::code)
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

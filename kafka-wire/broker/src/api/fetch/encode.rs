//! The Fetch answer, written by hand: records go out as they lie in the log, never copied.

use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_wire::protocol::request::FrameBuilder;

use super::super::{Answer, Context};
use super::{Fetched, TOPIC_IDS_FROM};
use crate::cluster::Node;
use crate::sessions::Wanted;

/// From here on lengths are varints and structs end in tagged fields.
const FLEXIBLE_FROM: i16 = 12;
/// Below, copying a chunk costs less than a piece of its own in the vectored write.
const COPIED_BYTES_MAX: usize = 4096;

pub(super) fn encode(
    context: &Context,
    error_code: i16,
    session_id: i32,
    fetched: &[Fetched<'_>],
    endpoints: &[(i32, &Node)],
) -> Answer {
    let mut writer = Writer { frame: FrameBuilder::new(), version: context.version };
    writer.i32(0); // throttle time
    if context.version >= 7 {
        writer.i16(error_code);
        writer.i32(session_id);
    }
    let topics: Vec<&[Fetched<'_>]> =
        fetched.chunk_by(|a, b| (&a.wanted.topic, a.wanted.id) == (&b.wanted.topic, b.wanted.id)).collect();
    writer.length(topics.len());
    for partitions in topics {
        writer.topic(partitions[0].wanted);
        writer.length(partitions.len());
        for partition in partitions {
            writer.partition(partition);
        }
        writer.no_tags();
    }
    writer.node_endpoints(endpoints);
    writer.finish(context)
}

struct Writer {
    frame: FrameBuilder,
    version: i16,
}

impl Writer {
    fn put(&mut self) -> &mut BytesMut {
        self.frame.buffer()
    }

    fn i16(&mut self, value: i16) {
        self.put().put_i16(value);
    }

    fn i32(&mut self, value: i32) {
        self.put().put_i32(value);
    }

    fn i64(&mut self, value: i64) {
        self.put().put_i64(value);
    }

    fn is_flexible(&self) -> bool {
        self.version >= FLEXIBLE_FROM
    }

    /// The length of an array or of bytes.
    fn length(&mut self, length: usize) {
        if self.is_flexible() {
            put_varint(self.put(), length as u32 + 1);
        } else {
            self.i32(length as i32);
        }
    }

    fn no_tags(&mut self) {
        if self.is_flexible() {
            self.put().put_u8(0);
        }
    }

    fn topic(&mut self, wanted: &Wanted) {
        if self.version >= TOPIC_IDS_FROM {
            self.put().put_slice(&wanted.id.0);
        } else if self.is_flexible() {
            put_compact_string(self.put(), &wanted.topic);
        } else {
            self.i16(wanted.topic.len() as i16);
            self.put().put_slice(wanted.topic.as_bytes());
        }
    }

    fn partition(&mut self, fetched: &Fetched<'_>) {
        self.i32(fetched.wanted.partition);
        self.i16(fetched.error_code);
        self.i64(fetched.high_watermark);
        self.i64(fetched.last_stable_offset);
        if self.version >= 5 {
            self.i64(fetched.start_offset);
        }
        match &fetched.aborted {
            Some(aborted) => {
                self.length(aborted.len());
                for transaction in aborted {
                    self.i64(transaction.producer_id);
                    self.i64(transaction.first_offset);
                    self.no_tags();
                }
            }
            None if self.is_flexible() => self.put().put_u8(0),
            None => self.i32(-1),
        }
        if self.version >= 11 {
            self.i32(-1); // preferred read replica
        }
        self.length(fetched.bytes);
        for chunk in &fetched.records {
            self.chunk(chunk);
        }
        self.partition_tags(fetched);
    }

    fn chunk(&mut self, chunk: &Bytes) {
        if chunk.len() <= COPIED_BYTES_MAX {
            self.put().put_slice(chunk);
        } else {
            self.frame.push(chunk.clone());
        }
    }

    fn partition_tags(&mut self, fetched: &Fetched<'_>) {
        if !self.is_flexible() {
            return;
        }
        let count = u8::from(fetched.diverging_epoch.is_some()) + u8::from(fetched.current_leader.is_some());
        let buffer = self.put();
        buffer.put_u8(count);
        if let Some((epoch, end_offset)) = fetched.diverging_epoch {
            buffer.put_slice(&[0, 13]); // tag 0 of 13 bytes
            buffer.put_i32(epoch);
            buffer.put_i64(end_offset);
            buffer.put_u8(0);
        }
        if let Some((leader, epoch)) = fetched.current_leader {
            buffer.put_slice(&[1, 9]); // tag 1 of 9 bytes
            buffer.put_i32(leader);
            buffer.put_i32(epoch);
            buffer.put_u8(0);
        }
    }

    fn node_endpoints(&mut self, endpoints: &[(i32, &Node)]) {
        if self.version < 16 || endpoints.is_empty() {
            return self.no_tags();
        }
        let mut nodes = BytesMut::new();
        put_varint(&mut nodes, endpoints.len() as u32 + 1);
        for (id, node) in endpoints {
            nodes.put_i32(*id);
            put_compact_string(&mut nodes, &node.host);
            nodes.put_i32(i32::from(node.port));
            match &node.rack {
                Some(rack) => put_compact_string(&mut nodes, rack),
                None => nodes.put_u8(0),
            }
            nodes.put_u8(0); // no tagged fields
        }
        let buffer = self.put();
        buffer.put_slice(&[1, 0]); // one tagged field: 0
        put_varint(buffer, nodes.len() as u32);
        buffer.put_slice(&nodes);
    }

    /// Puts length and header before the body.
    fn finish(self, context: &Context) -> Answer {
        let mut header = BytesMut::with_capacity(9);
        let header_bytes = if self.is_flexible() { 5 } else { 4 };
        header.put_u32((header_bytes + self.frame.len()) as u32);
        header.put_i32(context.correlation_id);
        if self.is_flexible() {
            header.put_u8(0);
        }
        let mut chunks = self.frame.finish();
        chunks.insert(0, header.freeze());
        Answer::Send(chunks)
    }
}

fn put_varint(buffer: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        buffer.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}

fn put_compact_string(buffer: &mut BytesMut, text: &str) {
    put_varint(buffer, text.len() as u32 + 1);
    buffer.put_slice(text.as_bytes());
}

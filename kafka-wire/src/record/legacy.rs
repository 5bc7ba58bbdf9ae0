//! Message formats v0 and v1, which logs hold from before Kafka 0.11 and from before topics were converted:
//! they are read, and never written (`org.apache.kafka.common.record.AbstractLegacyRecordBatch`).
//!
//! ```text
//! message:  offset i64, size i32 | crc32 u32, magic i8, attributes i8, (v1: timestamp i64), key, value
//! ```
//!
//! A message is a batch of its own here. With a codec in its attributes it wraps others: its value is a
//! compressed set of messages, and its offset is that of the last of them; in v1 theirs count from 0. Opening
//! it writes the records anew in the form of v2, so that nothing above knows of formats.

use bytes::{BufMut as _, BytesMut};

use super::builder::{body_size, length_of};
use super::compression;
use super::header::{BatchHeader, LENGTH_OVERHEAD_BYTES};
use super::varint::{Cursor, Head, Malformed};
use super::view::Records;
use crate::error::Result;
use crate::protocol::limits::Limits;
use crate::types::{Codec, TimestampType};

/// Offset, size and checksum: what the checksum does not cover.
const CRC_START: usize = 16;
/// Bytes of the smallest message, without a timestamp.
const MIN_BYTES_V0: usize = LENGTH_OVERHEAD_BYTES + 14;
const TIMESTAMP_BYTES: usize = 8;
/// What v0 has in place of a timestamp.
const NO_TIMESTAMP: i64 = -1;

/// The least that a message's size can be.
pub(super) const fn min_length(magic: u8) -> i32 {
    (MIN_BYTES_V0 - LENGTH_OVERHEAD_BYTES) as i32 + if magic == 0 { 0 } else { TIMESTAMP_BYTES as i32 }
}

/// One message, of which a whole set may have been compressed into its value.
#[derive(Clone, Copy)]
struct Message<'a> {
    offset: i64,
    crc: u32,
    magic: i8,
    /// Codec (bits 0–2); in v1, where its timestamp comes from (bit 3).
    attributes: i16,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Reads the message that `bytes` are.
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let offset = i64::from_be_bytes(cursor.array()?);
        cursor.array::<4>()?;
        let crc = u32::from_be_bytes(cursor.array()?);
        let magic = i8::from_be_bytes(cursor.array()?);
        let attributes = i16::from(cursor.byte()?);
        let (attributes, timestamp) = match magic {
            0 => (attributes & 0b0111, NO_TIMESTAMP),
            1 => (attributes & 0b1111, i64::from_be_bytes(cursor.array()?)),
            _ => return Err("a message wraps one of another format"),
        };
        let (key, value) = (nullable_bytes(&mut cursor)?, nullable_bytes(&mut cursor)?);
        if cursor.rest().is_empty() {
            Ok(Self { offset, crc, magic, attributes, timestamp, key, value })
        } else {
            Err("bytes are left after its value")
        }
    }
}

fn nullable_bytes<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    match i32::from_be_bytes(cursor.array()?) {
        len @ 0.. => cursor.take(len as usize).map(Some),
        -1 => Ok(None),
        _ => Err("a length below −1"),
    }
}

/// The messages of a set that was in a wrapper.
#[derive(Clone)]
struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let message = Cursor::new(self.rest.get(8..).unwrap_or_default()).array().and_then(|size| {
            let size = usize::try_from(i32::from_be_bytes(size)).map_err(|_| "its size is negative")?;
            let end = size.checked_add(LENGTH_OVERHEAD_BYTES).ok_or("its size is too large")?;
            let (message, rest) = self.rest.split_at_checked(end).ok_or("the set is cut off")?;
            self.rest = rest;
            Message::read(message)
        });
        if message.is_err() {
            self.rest = &[];
        }
        Some(message)
    }
}

/// The message at the front of `bytes` as a batch's header. How many records a wrapper holds, and the offset
/// of the first, is known when it has been [opened](open): until then it is taken for one.
pub(super) fn header(bytes: &[u8]) -> Result<BatchHeader> {
    let mut header = BatchHeader {
        base_offset: -1,
        length: (bytes.len() - LENGTH_OVERHEAD_BYTES) as i32,
        partition_leader_epoch: -1,
        magic: -1,
        crc: 0,
        attributes: 0,
        last_offset_delta: 0,
        base_timestamp: NO_TIMESTAMP,
        max_timestamp: NO_TIMESTAMP,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        count: 1,
    };
    header.base_offset = bytes.first_chunk().map_or(-1, |offset| i64::from_be_bytes(*offset));
    let message = Message::read(bytes).map_err(|malformed| header.corrupt(malformed))?;
    if !(0..i64::MAX).contains(&message.offset) {
        return Err(header.corrupt("its offset cannot be"));
    }
    header.magic = message.magic;
    header.crc = message.crc;
    header.attributes = message.attributes;
    header.base_timestamp = message.timestamp;
    header.max_timestamp = message.timestamp;
    Ok(header)
}

/// What the checksum of the message that `bytes` are should be.
pub(super) fn crc(bytes: &[u8]) -> u32 {
    !bytes[CRC_START..].iter().fold(!0, |crc, byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

/// CRC-32 as of zlib, a byte at a time: old formats are rare enough.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let (mut crc, mut bit) = (index as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xedb8_8320 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// The records of the message that `bytes` are, unwrapped.
pub(super) fn open(header: BatchHeader, bytes: &[u8], limits: &Limits) -> Result<Records> {
    let corrupt = |malformed| header.corrupt(malformed);
    let message = Message::read(bytes).map_err(corrupt)?;
    let mut rewritten = Rewritten { body: BytesMut::new(), header: BatchHeader { count: 0, ..header } };
    match header.codec()? {
        Codec::None => rewritten.put(message.offset, message).map_err(corrupt)?,
        Codec::Zstd => return Err(corrupt("old formats know no zstd")),
        codec => {
            let value = message.value.ok_or("a wrapper without a value").map_err(corrupt)?;
            let set = compression::decompress_legacy(codec, header.magic, value, limits)
                .map_err(|error| error.with_offset(header.base_offset))?;
            rewritten.put_all(&message, Messages { rest: &set }).map_err(corrupt)?;
        }
    }
    let Rewritten { body, header } = rewritten;
    Records::check(header, body.freeze(), limits)
}

/// Records in the form of v2.
struct Rewritten {
    body: BytesMut,
    header: BatchHeader,
}

impl Rewritten {
    /// The messages that `wrapper` wraps.
    fn put_all(&mut self, wrapper: &Message<'_>, set: Messages<'_>) -> Result<(), Malformed> {
        let last = set.clone().last().ok_or("a wrapper of nothing")??;
        // v0 has offsets, v1 their distance from the first. The wrapper has the last one's.
        let base = if wrapper.magic == 0 { 0 } else { wrapper.offset.checked_sub(last.offset).unwrap_or(-1) };
        if base < 0 || last.offset > wrapper.offset {
            return Err("the offsets in a wrapper pass its own");
        }
        let append_time = self.header.timestamp_type() == TimestampType::LogAppendTime;
        for message in set {
            let mut message = message?;
            if message.magic != wrapper.magic {
                return Err("a message wraps one of another format");
            }
            if message.attributes & 0b0111 != 0 {
                return Err("a wrapper in a wrapper");
            }
            if append_time {
                message.timestamp = wrapper.timestamp;
            }
            let offset = base.checked_add(message.offset).ok_or("its offset overflows")?;
            self.put(offset, message)?;
        }
        Ok(())
    }

    fn put(&mut self, offset: i64, message: Message<'_>) -> Result<(), Malformed> {
        let header = &mut self.header;
        if header.count == 0 {
            header.base_offset = offset;
            header.base_timestamp = message.timestamp;
            header.max_timestamp = message.timestamp;
        }
        let offset_delta = offset.checked_sub(header.base_offset).and_then(|delta| i32::try_from(delta).ok());
        let offset_delta = offset_delta.filter(|delta| *delta >= 0).ok_or("its offset is out of order")?;
        let timestamp_delta =
            message.timestamp.checked_sub(header.base_timestamp).ok_or("its timestamp overflows")?;
        header.last_offset_delta = offset_delta;
        header.max_timestamp = header.max_timestamp.max(message.timestamp);
        header.count += 1;
        let (key, value) = (message.key, message.value);
        let length = body_size(timestamp_delta, offset_delta as u32, key, value, &[]);
        let mut head = Head::new();
        head.varint(i32::try_from(length).map_err(|_| "it is too large")?);
        head.byte(0); // attributes: none are defined
        head.varlong(timestamp_delta);
        head.varint(offset_delta);
        head.varint(length_of(key));
        self.body.put_slice(head.as_slice());
        self.body.put_slice(key.unwrap_or_default());
        let mut head = Head::new();
        head.varint(length_of(value));
        self.body.put_slice(head.as_slice());
        self.body.put_slice(value.unwrap_or_default());
        self.body.put_u8(0); // no headers: old formats have none
        Ok(())
    }
}

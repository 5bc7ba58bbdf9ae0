//! The 61 bytes in front of a batch's records.

use bytes::{Buf as _, BufMut as _};

use crate::error::{Error, ErrorKind, Result};
use crate::types::{Codec, ProducerIdentity, TimestampType};

/// Bytes of a batch's header, from the base offset to the record count.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Base offset and length: what the length does not count.
pub(super) const LENGTH_OVERHEAD_BYTES: usize = 12;

/// The length with no records in it.
pub(super) const MIN_LENGTH: i32 = (BATCH_HEADER_BYTES - LENGTH_OVERHEAD_BYTES) as i32;

/// Where the bytes start that the checksum covers: the attributes.
pub(super) const CRC_START: usize = 21;

const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const LOG_APPEND_TIME: i16 = 1 << 3;

/// A batch's header, field by field (`org.apache.kafka.common.record.DefaultRecordBatch`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; records that compaction removed keep their offsets.
    pub base_offset: i64,
    /// Bytes after this field: the batch's size less 12.
    pub length: i32,
    /// The leader's epoch at append, −1 in a batch that no broker has stored.
    pub partition_leader_epoch: i32,
    /// The format: 2, or 0 and 1 of what was written before Kafka 0.11.
    pub magic: i8,
    /// CRC32C of everything from the attributes on; before format 2, CRC-32 from the magic on.
    pub crc: u32,
    /// Codec (bits 0–2), timestamp type (3), transactional (4), control (5), delete horizon (6).
    pub attributes: i16,
    /// Last offset less base offset; counts removed records too.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to, in milliseconds since 1970.
    pub base_timestamp: i64,
    /// The latest timestamp of a record, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// Id of the idempotent producer, −1 without one.
    pub producer_id: i64,
    /// Epoch of the idempotent producer, −1 without one.
    pub producer_epoch: i16,
    /// Sequence number of the first record, −1 without idempotence.
    pub base_sequence: i32,
    /// Number of records.
    pub count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which hold at least 61, and checks that its offsets are
    /// possible.
    pub(super) fn read(mut bytes: &[u8]) -> Result<Self> {
        let bytes = &mut bytes;
        let header = Self {
            base_offset: bytes.get_i64(),
            length: bytes.get_i32(),
            partition_leader_epoch: bytes.get_i32(),
            magic: bytes.get_i8(),
            crc: bytes.get_u32(),
            attributes: bytes.get_i16(),
            last_offset_delta: bytes.get_i32(),
            base_timestamp: bytes.get_i64(),
            max_timestamp: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            count: bytes.get_i32(),
        };
        let next = header.base_offset.checked_add(i64::from(header.last_offset_delta) + 1);
        if header.base_offset < 0 || header.last_offset_delta < 0 || next.is_none() {
            let delta = header.last_offset_delta;
            return Err(header.corrupt(format_args!("its last offset, {delta} after the first, cannot be")));
        }
        Ok(header)
    }

    /// The wire form.
    pub(super) fn write(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        let mut to = &mut bytes[..];
        to.put_i64(self.base_offset);
        to.put_i32(self.length);
        to.put_i32(self.partition_leader_epoch);
        to.put_i8(self.magic);
        to.put_u32(self.crc);
        to.put_i16(self.attributes);
        to.put_i32(self.last_offset_delta);
        to.put_i64(self.base_timestamp);
        to.put_i64(self.max_timestamp);
        to.put_i64(self.producer_id);
        to.put_i16(self.producer_epoch);
        to.put_i32(self.base_sequence);
        to.put_i32(self.count);
        bytes
    }

    /// Attributes of a new batch.
    pub(super) const fn attributes_of(codec: Codec, transactional: bool, control: bool) -> i16 {
        let mut attributes = codec.to_attributes();
        if transactional {
            attributes |= TRANSACTIONAL;
        }
        if control {
            attributes |= CONTROL;
        }
        attributes
    }

    /// What the records are compressed with.
    ///
    /// # Errors
    /// `Unsupported`, when the number is none of Kafka's codecs.
    pub fn codec(&self) -> Result<Codec> {
        Codec::from_attributes(self.attributes).ok_or_else(|| {
            let number = self.attributes & 7;
            Error::new(ErrorKind::Unsupported, format!("read a record batch compressed with codec {number}"))
                .with_offset(self.base_offset)
                .with_hint("Kafka knows the codecs 0 to 4; a newer broker or client wrote this batch")
        })
    }

    /// Whether the records belong to a transaction.
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether this is a marker for readers, with nothing in it for applications.
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Where the records' timestamps come from.
    pub const fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// The idempotent or transactional producer, where there is one.
    pub const fn producer(&self) -> Option<ProducerIdentity> {
        if self.producer_id < 0 {
            None
        } else {
            Some(ProducerIdentity { id: self.producer_id, epoch: self.producer_epoch })
        }
    }

    /// Offset of the last record, also when compaction has removed it.
    pub const fn last_offset(&self) -> i64 {
        self.base_offset + self.last_offset_delta as i64
    }

    /// Where the reader goes on after this batch, also when it is empty.
    pub const fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Bytes of the whole batch.
    pub const fn size_bytes(&self) -> usize {
        LENGTH_OVERHEAD_BYTES + self.length as usize
    }

    /// An error about this batch: `what` completes "read a record batch: …".
    pub(super) fn corrupt(&self, what: impl std::fmt::Display) -> Error {
        corrupt_batch(self.base_offset, what)
    }
}

/// An error about the batch at `base_offset`: `what` completes "read a record batch: …".
pub(super) fn corrupt_batch(base_offset: i64, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::CorruptRecords, format!("read a record batch: {what}")).with_offset(base_offset)
}

//! Batches on their way out: encoded at append, sealed once, stamped as often as they are sent.

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::compression::{self, Compression};
use super::header::{BATCH_HEADER_BYTES, BatchHeader, CRC_START, LENGTH_OVERHEAD_BYTES};
use super::varint::{Head, varint_size, varlong_size};
use super::view::Header;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::request::FrameBuilder;
use crate::types::{Codec, ProducerIdentity};

/// A batch's size is an `i32` on the wire, less what its header and a compressor may add.
pub(super) const MAX_BODY_BYTES: usize = 1 << 30;

/// A batch that grows: each record goes straight into wire form, into one buffer.
pub struct BatchBuilder {
    compression: Compression,
    body: BytesMut,
    records: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch with room for `capacity_bytes` of records; it grows beyond that when it must.
    pub fn new(compression: Compression, capacity_bytes: usize) -> Self {
        Self::with_buffer(compression, BytesMut::with_capacity(capacity_bytes))
    }

    /// An empty batch in the memory of `buffer`, whose content is dropped: see
    /// [`SealedBatch::into_buffer`].
    pub fn with_buffer(compression: Compression, mut buffer: BytesMut) -> Self {
        buffer.clear();
        Self { compression, body: buffer, records: 0, base_timestamp: -1, max_timestamp: -1 }
    }

    /// Appends a record and answers its index in the batch. `timestamp_ms` counts from 1970, −1 is none.
    ///
    /// # Errors
    /// `Usage`, when the timestamp is below −1 (Kafka's Java client refuses it too) or too far from the
    /// first; `RecordTooLarge`, when the batch would pass 1 GiB. The batch stays as it was.
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<u32> {
        let (base_timestamp, index) = self.next(timestamp_ms);
        let timestamp_delta = match timestamp_ms.checked_sub(base_timestamp) {
            Some(delta) if timestamp_ms >= -1 => delta,
            _ => return Err(wrong_timestamp(timestamp_ms)),
        };
        let length = body_size(timestamp_delta, index, key, value, headers);
        if length > MAX_BODY_BYTES.saturating_sub(self.body.len()) {
            return Err(too_large(length, self.body.len()));
        }
        let mut head = Head::new();
        head.varint(length as i32);
        head.byte(0); // attributes: none are defined
        head.varlong(timestamp_delta);
        head.varint(index as i32);
        head.varint(length_of(key));
        self.body.reserve(head.as_slice().len() + length);
        self.body.put_slice(head.as_slice());
        self.body.put_slice(key.unwrap_or_default());
        self.put_length(length_of(value));
        self.body.put_slice(value.unwrap_or_default());
        self.put_length(headers.len() as i32);
        for header in headers {
            self.put_length(header.key.len() as i32);
            self.body.put_slice(header.key);
            self.put_length(length_of(header.value));
            self.body.put_slice(header.value.unwrap_or_default());
        }
        self.base_timestamp = base_timestamp;
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        self.records = index + 1;
        Ok(index)
    }

    fn put_length(&mut self, length: i32) {
        let mut head = Head::new();
        head.varint(length);
        self.body.put_slice(head.as_slice());
    }

    /// Base timestamp and index that the next record will have.
    fn next(&self, timestamp_ms: i64) -> (i64, u32) {
        (if self.records == 0 { timestamp_ms } else { self.base_timestamp }, self.records)
    }

    /// Bytes that [`append`](Self::append) would add, exactly, before compression.
    pub fn record_size(
        &self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        let (base_timestamp, index) = self.next(timestamp_ms);
        let length = body_size(timestamp_ms.saturating_sub(base_timestamp), index, key, value, headers);
        varint_size(i32::try_from(length).unwrap_or(i32::MAX)) + length
    }

    /// Number of records so far.
    pub fn len(&self) -> u32 {
        self.records
    }

    /// Whether nothing was appended yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes of the batch so far, header included, before compression.
    pub fn size_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.body.len()
    }

    /// Compresses, and fixes everything but who sends it and with which sequence number.
    ///
    /// What compression does not shrink is sent compressed all the same, as Java does.
    pub fn seal(mut self) -> SealedBatch {
        let codec = compression::compress(self.compression, &mut self.body);
        SealedBatch {
            compression: self.compression,
            codec,
            control: false,
            records: self.records,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            body: self.body.freeze(),
        }
    }
}

impl fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("compression", &self.compression)
            .field("records", &self.records)
            .field("size_bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

/// Bytes of a record after its length.
#[inline]
pub(super) fn body_size(
    timestamp_delta: i64,
    index: u32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header<'_>],
) -> usize {
    let mut size = 1 + varlong_size(timestamp_delta) + varint_size(index as i32);
    size += nullable_size(key) + nullable_size(value) + varint_size(headers.len() as i32);
    for header in headers {
        size += nullable_size(Some(header.key)) + nullable_size(header.value);
    }
    size
}

fn nullable_size(bytes: Option<&[u8]>) -> usize {
    varint_size(length_of(bytes)) + bytes.map_or(0, <[u8]>::len)
}

/// −1 is null. Lengths above `i32::MAX` never get this far into a batch: see [`MAX_BODY_BYTES`].
pub(super) fn length_of(bytes: Option<&[u8]>) -> i32 {
    bytes.map_or(-1, |bytes| bytes.len() as i32)
}

#[cold]
fn wrong_timestamp(timestamp_ms: i64) -> Error {
    Error::new(ErrorKind::Usage, format!("append a record with timestamp {timestamp_ms} ms"))
        .with_hint("timestamps count milliseconds since 1970, from 0 up to 2^63 − 2; −1 stands for none")
}

#[cold]
fn too_large(record_bytes: usize, batch_bytes: usize) -> Error {
    Error::new(
        ErrorKind::RecordTooLarge,
        format!("append a record of {record_bytes} bytes to a batch of {batch_bytes}"),
    )
    .with_hint("a batch holds at most 1 GiB")
}

/// A batch that is complete: an immutable body and the facts of its header. It can be stamped again and
/// again, as a retry with a new producer epoch needs.
#[derive(Clone)]
pub struct SealedBatch {
    /// What was asked for; `codec` is what became of it.
    compression: Compression,
    codec: Codec,
    control: bool,
    records: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    body: Bytes,
}

impl SealedBatch {
    /// Number of records; the sequence number of the partition's next batch is this much higher.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Bytes of the batch on the wire.
    pub fn size_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.body.len()
    }

    /// The latest timestamp of a record, in milliseconds since 1970.
    pub fn max_timestamp_ms(&self) -> i64 {
        self.max_timestamp
    }

    /// What the records are compressed with.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// Appends the batch to `frame`: the header by value, the body by reference.
    ///
    /// Without a producer there is no idempotence, and `base_sequence` means nothing.
    pub fn write(
        &self,
        producer: Option<ProducerIdentity>,
        base_sequence: i32,
        transactional: bool,
        frame: &mut FrameBuilder,
    ) {
        let header = self.header(producer, base_sequence, transactional);
        frame.buffer().put_slice(&header);
        frame.push(self.body.clone());
    }

    /// The batch in one piece, as [`write`](Self::write) puts it into a frame.
    pub fn to_bytes(
        &self,
        producer: Option<ProducerIdentity>,
        base_sequence: i32,
        transactional: bool,
    ) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(self.size_bytes());
        bytes.put_slice(&self.header(producer, base_sequence, transactional));
        bytes.put_slice(&self.body);
        bytes
    }

    fn header(
        &self,
        producer: Option<ProducerIdentity>,
        base_sequence: i32,
        transactional: bool,
    ) -> [u8; BATCH_HEADER_BYTES] {
        let mut header = BatchHeader {
            base_offset: 0,
            length: (self.size_bytes() - LENGTH_OVERHEAD_BYTES) as i32,
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: BatchHeader::attributes_of(self.codec, transactional, self.control),
            last_offset_delta: self.records.saturating_sub(1) as i32,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: producer.map_or(-1, |producer| producer.id),
            producer_epoch: producer.map_or(-1, |producer| producer.epoch),
            base_sequence: if producer.is_some() { base_sequence } else { -1 },
            count: self.records as i32,
        };
        header.crc = crc32c::crc32c_append(crc32c::crc32c(&header.write()[CRC_START..]), &self.body);
        header.write()
    }

    /// The batch's memory for the next one, when nothing refers to it any more.
    pub fn into_buffer(self) -> Option<BytesMut> {
        self.body.try_into_mut().ok()
    }
}

impl fmt::Debug for SealedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedBatch")
            .field("codec", &self.codec)
            .field("records", &self.records)
            .field("size_bytes", &self.size_bytes())
            .finish_non_exhaustive()
    }
}

/// The control batch that a coordinator writes to each partition when it ends a transaction
/// (`org.apache.kafka.common.record.EndTransactionMarker`).
pub fn end_transaction_marker(
    producer: ProducerIdentity,
    commit: bool,
    coordinator_epoch: i32,
    timestamp_ms: i64,
) -> Result<BytesMut> {
    let key = [0, 0, 0, u8::from(commit)];
    let mut value = [0; 6];
    (&mut value[2..]).put_i32(coordinator_epoch);
    let mut builder = BatchBuilder::new(Compression::NONE, 32);
    builder.append(timestamp_ms, Some(&key), Some(&value), &[])?;
    let batch = SealedBatch { control: true, ..builder.seal() };
    Ok(batch.to_bytes(Some(producer), -1, true))
}

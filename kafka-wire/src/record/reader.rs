//! From the bytes of a fetch answer to batches, and from a batch to its records.

use std::iter::FusedIterator;

use bytes::Bytes;

use super::header::{
    BATCH_HEADER_BYTES, BatchHeader, CRC_START, LENGTH_OVERHEAD_BYTES, MIN_LENGTH, corrupt_batch,
};
use super::varint::Malformed;
use super::view::Records;
use super::{compression, legacy};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::limits::Limits;
use crate::types::Codec;

/// Bytes up to the magic byte, which all formats share.
const MAGIC_END: usize = 17;

/// No batch is larger than a log segment, and those are at most 1 GiB by default; a length above
/// that is damage, not a batch whose rest is still to come.
const MAX_LENGTH: i32 = 1 << 30;

/// The batches of a record set, as a fetch answer holds them.
///
/// A broker cuts its answer at a size, not at a batch: an incomplete batch at the end is no error, the
/// iterator ends before it and the next fetch brings it whole. After an error the iterator ends, since
/// nothing tells where the next batch starts.
pub fn batches(set: Bytes) -> Batches {
    Batches { bytes_total: set.len(), rest: set }
}

/// Iterator over the batches of a record set; see [`batches`].
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    bytes_total: usize,
}

impl Batches {
    /// Bytes of the batches returned so far; less than the set's length when it ends in a partial one.
    pub fn bytes_read(&self) -> usize {
        self.bytes_total - self.rest.len()
    }

    /// Size of the batch at the front, `None` when it is not there as a whole.
    fn next_size(&self) -> Result<Option<usize>> {
        let Some((prefix, _)) = self.rest.split_first_chunk::<MAGIC_END>() else {
            return Ok(None);
        };
        let [o0, o1, o2, o3, o4, o5, o6, o7, l0, l1, l2, l3, .., magic] = *prefix;
        let base_offset = i64::from_be_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        let length = i32::from_be_bytes([l0, l1, l2, l3]);
        // Nothing shorter has ever been valid.
        if !(legacy::min_length(0)..=MAX_LENGTH).contains(&length) {
            return Err(corrupt_batch(base_offset, format_args!("its length is {length}")));
        }
        let least = match magic {
            0 | 1 => legacy::min_length(magic),
            2 => MIN_LENGTH,
            _ => return Err(unsupported_format(magic, base_offset)),
        };
        if length < least {
            return Err(corrupt_batch(base_offset, format_args!("its length is {length}, below {least}")));
        }
        let size = LENGTH_OVERHEAD_BYTES + length as usize;
        Ok((size <= self.rest.len()).then_some(size))
    }

    fn read(&mut self, size: usize) -> Result<RawBatch> {
        let is_legacy = self.rest.get(MAGIC_END - 1).is_some_and(|magic| *magic < 2);
        let header =
            if is_legacy { legacy::header(&self.rest[..size])? } else { BatchHeader::read(&self.rest)? };
        Ok(RawBatch { header, bytes: self.rest.split_to(size) })
    }
}

impl Iterator for Batches {
    type Item = Result<RawBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let size = self.next_size().transpose()?;
        let batch = size.and_then(|size| self.read(size));
        if batch.is_err() {
            self.bytes_total -= self.rest.len();
            self.rest.clear();
        }
        Some(batch)
    }
}

impl FusedIterator for Batches {}

fn unsupported_format(magic: u8, base_offset: i64) -> Error {
    Error::new(ErrorKind::Unsupported, format!("read a record batch of message format v{magic}"))
        .with_offset(base_offset)
        .with_hint("a newer broker or client wrote it")
}

/// What a control batch says (`org.apache.kafka.common.record.ControlRecordType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlMarker {
    /// The producer's transaction was aborted.
    Abort,
    /// The producer's transaction was committed.
    Commit,
    /// Something for other readers than consumers, by its number.
    Other(i16),
}

/// One batch as the broker sent it: the header read, the records neither checked nor decompressed. Of formats
/// v0 and v1, which know no batches, it is a message; what its header cannot say before it is opened (the
/// offset of the first record of a compressed one, their number) is in that of its [`Records`].
#[derive(Clone, Debug)]
pub struct RawBatch {
    /// Its header.
    pub header: BatchHeader,
    bytes: Bytes,
}

impl RawBatch {
    /// The whole batch in wire form, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many records its header says are in it; a batch of an old format counts as one until it is opened.
    pub(crate) fn count(&self) -> u64 {
        u64::try_from(self.header.count).unwrap_or_default()
    }

    /// Copies the batch out of the memory that it shares with the answer that it came in.
    pub(crate) fn detach(&mut self) {
        self.bytes = Bytes::copy_from_slice(&self.bytes);
    }

    /// Compares the checksum with the bytes.
    ///
    /// # Errors
    /// `CorruptRecords`. The bytes may have been damaged on their way: fetching again can help.
    pub fn verify_crc(&self) -> Result<()> {
        let (algorithm, computed) = if self.is_legacy() {
            ("CRC32", legacy::crc(&self.bytes))
        } else {
            ("CRC32C", crc32c::crc32c(&self.bytes[CRC_START..]))
        };
        let stored = self.header.crc;
        if computed == stored {
            return Ok(());
        }
        Err(self
            .header
            .corrupt(format_args!("its {algorithm} is {stored:08x} but its bytes sum up to {computed:08x}"))
            .with_hint("the bytes were damaged in transit or on the broker's disk"))
    }

    /// What a control batch says; `None` for a batch of data, and for a control batch that compaction
    /// has emptied. Never decompresses: no broker compresses a control batch.
    ///
    /// Only the first record counts, as for Java's consumer.
    ///
    /// # Errors
    /// `CorruptRecords`, when the marker cannot be read.
    pub fn control(&self) -> Result<Option<ControlMarker>> {
        if !self.header.is_control() || self.header.count == 0 {
            return Ok(None);
        }
        if self.header.codec()? != Codec::None {
            return Err(self.header.corrupt("a control batch is compressed"));
        }
        let records = Records::check(self.header, self.body(), &Limits::default())?;
        let key = records.iter().next().and_then(|record| record.key);
        control_marker(key).map(Some).map_err(|malformed| self.header.corrupt(malformed))
    }

    /// Decompresses and checks the records. Independent of [`verify_crc`](Self::verify_crc).
    ///
    /// # Errors
    /// `CorruptRecords`, when the records are damaged or exceed `limits`; `Unsupported`, when this build
    /// or any cannot decompress them.
    pub fn open(self, limits: &Limits) -> Result<Records> {
        if self.is_legacy() {
            return legacy::open(self.header, &self.bytes, limits);
        }
        let body = match self.header.codec()? {
            Codec::None => self.body(),
            codec => compression::decompress(codec, &self.bytes[BATCH_HEADER_BYTES..], limits)
                .map_err(|error| error.with_offset(self.header.base_offset))?,
        };
        Records::check(self.header, body, limits)
    }

    /// Whether it is a message of format v0 or v1.
    fn is_legacy(&self) -> bool {
        self.header.magic < 2
    }

    fn body(&self) -> Bytes {
        self.bytes.slice(BATCH_HEADER_BYTES..)
    }
}

/// Version and type are the first four bytes of the key; later versions only add to them.
fn control_marker(key: Option<&[u8]>) -> Result<ControlMarker, Malformed> {
    let Some(&[v0, v1, t0, t1]) = key.and_then(|key| key.first_chunk()) else {
        return Err("the key of a control record is shorter than 4 bytes");
    };
    if i16::from_be_bytes([v0, v1]) < 0 {
        return Err("the version of a control record is negative");
    }
    Ok(match i16::from_be_bytes([t0, t1]) {
        0 => ControlMarker::Abort,
        1 => ControlMarker::Commit,
        other => ControlMarker::Other(other),
    })
}

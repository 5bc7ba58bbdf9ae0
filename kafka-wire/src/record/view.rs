//! The records of one opened batch, borrowed from its bytes.

use std::fmt;
use std::iter::FusedIterator;

use bytes::Bytes;

use super::header::BatchHeader;
use super::varint::{Cursor, Malformed};
use crate::error::Result;
use crate::protocol::limits::Limits;
use crate::types::TimestampType;

/// A record in its smallest form: length, attributes, timestamp, offset, key, value, header count.
const MIN_RECORD_BYTES: usize = 7;

/// One header of a record. Keys are bytes here: Kafka's Java clients want UTF-8, the log keeps anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its key; keys may repeat, and keep their order.
    pub key: &'a [u8],
    /// Its value, where there is one.
    pub value: Option<&'a [u8]>,
}

/// The records of a batch, decompressed and checked: reading them cannot fail any more.
///
/// It owns its bytes, which for an uncompressed batch are the broker's answer itself.
#[derive(Clone)]
pub struct Records {
    header: BatchHeader,
    body: Bytes,
}

impl Records {
    /// Walks `body` once, so that every iteration over it afterwards is free of errors. The walk costs
    /// a few nanoseconds a record; the checksum of the same bytes costs as much again.
    pub(super) fn check(header: BatchHeader, body: Bytes, limits: &Limits) -> Result<Self> {
        let records = Self { header, body };
        records.walk(limits).map_err(|(index, malformed)| {
            header.corrupt(format_args!("record {index} of {}: {malformed}", header.count))
        })?;
        Ok(records)
    }

    fn walk(&self, limits: &Limits) -> Result<(), (i32, Malformed)> {
        let count = self.header.count;
        if count < 0 || count as usize > self.body.len() / MIN_RECORD_BYTES {
            return Err((0, "there are not enough bytes for that many records"));
        }
        let mut records = self.iter();
        let mut previous = self.header.base_offset - 1;
        for index in 0..count {
            let at = |malformed| (index, malformed);
            let record = records.read().map_err(at)?;
            if record.offset <= previous || record.offset > self.header.last_offset() {
                return Err(at("its offset is out of order"));
            }
            previous = record.offset;
            record.headers().check(limits).map_err(at)?;
        }
        if records.cursor.rest().is_empty() {
            Ok(())
        } else {
            Err((count, "bytes are left after the last record"))
        }
    }

    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.header.count as usize
    }

    /// Whether there are none, as in a batch that compaction has emptied.
    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Bytes that the records take, decompressed.
    pub fn size_bytes(&self) -> usize {
        self.body.len()
    }

    /// The records, in the order of their offsets.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            cursor: Cursor::new(&self.body),
            base_offset: self.header.base_offset,
            base_timestamp: self.header.base_timestamp,
            append_timestamp: match self.header.timestamp_type() {
                TimestampType::CreateTime => None,
                TimestampType::LogAppendTime => Some(self.header.max_timestamp),
            },
            left: self.header.count as usize,
        }
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = RecordRef<'a>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Iterator over the records of a batch; see [`Records::iter`]. The default one has none.
#[derive(Clone, Debug, Default)]
pub struct RecordIter<'a> {
    cursor: Cursor<'a>,
    base_offset: i64,
    base_timestamp: i64,
    append_timestamp: Option<i64>,
    left: usize,
}

impl<'a> RecordIter<'a> {
    /// At most `count` of them.
    pub(crate) fn first(mut self, count: usize) -> Self {
        self.left = self.left.min(count);
        self
    }

    /// The next record, its headers unread.
    #[inline]
    fn read(&mut self) -> Result<RecordRef<'a>, Malformed> {
        let len = self.cursor.varint()?;
        let len = usize::try_from(len).map_err(|_| "its length is negative")?;
        let mut cursor = Cursor::new(self.cursor.take(len)?);
        cursor.byte()?; // attributes: none are defined
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        let key = cursor.nullable_bytes()?;
        let value = cursor.nullable_bytes()?;
        let timestamp_ms = match self.append_timestamp {
            Some(timestamp) => timestamp,
            None => self.base_timestamp.checked_add(timestamp_delta).ok_or("its timestamp overflows")?,
        };
        let offset = self.base_offset.checked_add(i64::from(offset_delta)).ok_or("its offset overflows")?;
        Ok(RecordRef { offset, timestamp_ms, key, value, headers: cursor.rest() })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = RecordRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // `Records::check` has read the same bytes without an error.
        self.read().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for RecordIter<'_> {}
impl FusedIterator for RecordIter<'_> {}

/// One record, borrowed from its batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, as the producer or the broker set it; −1 when it has none.
    pub timestamp_ms: i64,
    /// Its key, where there is one.
    pub key: Option<&'a [u8]>,
    /// Its value; none is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
}

impl<'a> RecordRef<'a> {
    /// Its headers, in order, repeated keys included.
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        let mut cursor = Cursor::new(self.headers);
        let left = cursor.varint();
        Headers { cursor, left: left.unwrap_or(-1) }
    }
}

impl fmt::Debug for RecordRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordRef")
            .field("offset", &self.offset)
            .field("timestamp_ms", &self.timestamp_ms)
            .field("key", &self.key.map(<[u8]>::escape_ascii).map(|key| key.to_string()))
            .field("value", &self.value.map(<[u8]>::escape_ascii).map(|value| value.to_string()))
            .finish_non_exhaustive()
    }
}

/// Iterator over the headers of a record; see [`RecordRef::headers`].
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    cursor: Cursor<'a>,
    left: i32,
}

impl<'a> Headers<'a> {
    fn read(&mut self) -> Result<Header<'a>, Malformed> {
        let key = self.cursor.nullable_bytes()?.ok_or("a header's key is null")?;
        let value = self.cursor.nullable_bytes()?;
        Ok(Header { key, value })
    }

    /// Reads them all, so that iterating cannot fail.
    #[inline]
    fn check(mut self, limits: &Limits) -> Result<(), Malformed> {
        if self.left != 0 {
            self.check_some(limits)?;
        }
        if self.cursor.rest().is_empty() { Ok(()) } else { Err("its length and its content differ") }
    }

    fn check_some(&mut self, limits: &Limits) -> Result<(), Malformed> {
        let count = usize::try_from(self.left).map_err(|_| "its header count is negative or missing")?;
        if count > self.cursor.rest().len() / 2 {
            return Err("there are not enough bytes for that many headers");
        }
        if count > limits.record_headers_max {
            return Err("it has more headers than `record_headers_max` allows");
        }
        for _ in 0..count {
            self.read()?;
        }
        Ok(())
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        // `Headers::check` has read the same bytes without an error.
        self.read().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.left.max(0) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Headers<'_> {}
impl FusedIterator for Headers<'_> {}

//! Reads the protocol's primitive types; every length is checked before it is used.

use std::fmt;

use bytes::Bytes;

use super::limits::Limits;
use super::messages::StrBytes;
use crate::error::{Error, ErrorKind};

/// What is wrong with a message, and at which of its bytes. Cheap: it becomes an [`Error`] once, at the
/// place that knows what was being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    at: usize,
    fault: Fault,
    field: Option<&'static str>,
}

/// Reading either works or the message is malformed.
pub(super) type Read<T> = Result<T, Malformed>;

/// How a message can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Short { wanted: usize, left: usize },
    Negative(i32),
    Null,
    Presence(i8),
    NotUtf8,
    LongString(usize),
    LongVarint,
    Count { count: usize, min_bytes: usize, left: usize },
    ManyItems { count: usize, limit: usize },
    ManyTags { count: usize, limit: usize },
    TagNumber(u32),
    TagOrder { tag: u32, after: u32 },
    TagLength { tag: u32, length: usize },
    Trailing(usize),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            Fault::Short { wanted, left } => write!(f, "{wanted} bytes wanted, {left} left"),
            Fault::Negative(length) => write!(f, "negative length {length}"),
            Fault::Null => f.write_str("null where a value is required"),
            Fault::Presence(byte) => write!(f, "{byte} where 1 or -1 says whether a struct is there"),
            Fault::NotUtf8 => f.write_str("string is not UTF-8"),
            Fault::LongString(length) => write!(f, "string of {length} bytes, limit {STRING_MAX_BYTES}"),
            Fault::LongVarint => f.write_str("varint too long"),
            Fault::Count { count, min_bytes, left } => {
                write!(f, "{count} items of at least {min_bytes} bytes in {left} bytes")
            }
            Fault::ManyItems { count, limit } => write!(f, "{count} items, limit {limit}"),
            Fault::ManyTags { count, limit } => write!(f, "{count} tagged fields, limit {limit}"),
            Fault::TagNumber(tag) => write!(f, "tagged field {tag}, limit {}", i32::MAX),
            Fault::TagOrder { tag, after } => write!(f, "tagged field {tag} after {after}"),
            Fault::TagLength { tag, length } => {
                write!(f, "tagged field {tag} does not fill its {length} bytes")
            }
            Fault::Trailing(bytes) => write!(f, "{bytes} bytes after its end"),
        }?;
        write!(f, " at byte {}", self.at)?;
        self.field.map_or(Ok(()), |field| write!(f, " in {field}"))
    }
}

impl std::error::Error for Malformed {}

impl Malformed {
    pub(super) fn new(at: usize, fault: Fault) -> Self {
        Self { at, fault, field: None }
    }

    /// Names the field, Kafka's way, unless a field inside it was named before.
    pub(super) fn in_field(self, name: &'static str) -> Self {
        Self { field: self.field.or(Some(name)), ..self }
    }

    /// The error of a peer that sent this in `what`, e.g. "Fetch answer version 12".
    pub(super) fn in_message(self, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Protocol, format!("decode {what}")).with_cause(self)
    }
}

/// A Java `String` on the wire is at most this long, compact or not.
const STRING_MAX_BYTES: usize = i16::MAX as usize;

/// A position in a message.
pub(super) struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
    end: usize,
    flexible: bool,
    items_left: usize,
    limits: Limits,
}

impl<'a> Reader<'a> {
    /// At the start of `bytes`; `flexible` versions have compact lengths and tagged fields (KIP-482).
    pub(super) fn new(bytes: &'a Bytes, flexible: bool) -> Self {
        let limits = Limits::DEFAULT;
        Self { bytes, at: 0, end: bytes.len(), flexible, items_left: limits.message_max_items, limits }
    }

    pub(super) fn is_flexible(&self) -> bool {
        self.flexible
    }

    /// Bytes left.
    pub(super) fn left(&self) -> usize {
        self.end - self.at
    }

    /// Bytes read.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn fault<T>(&self, fault: Fault) -> Read<T> {
        Err(Malformed::new(self.at, fault))
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        if count > self.left() {
            return self.fault(Fault::Short { wanted: count, left: self.left() });
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn array_of<const N: usize>(&mut self) -> Read<[u8; N]> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N)?);
        Ok(value)
    }

    pub(super) fn bool(&mut self) -> Read<bool> {
        Ok(self.i8()? != 0)
    }

    pub(super) fn i8(&mut self) -> Read<i8> {
        Ok(i8::from_be_bytes(self.array_of()?))
    }

    pub(super) fn i16(&mut self) -> Read<i16> {
        Ok(i16::from_be_bytes(self.array_of()?))
    }

    pub(super) fn i32(&mut self) -> Read<i32> {
        Ok(i32::from_be_bytes(self.array_of()?))
    }

    pub(super) fn i64(&mut self) -> Read<i64> {
        Ok(i64::from_be_bytes(self.array_of()?))
    }

    pub(super) fn uuid(&mut self) -> Read<[u8; 16]> {
        self.array_of()
    }

    /// An unsigned varint of at most 32 bits.
    pub(super) fn varint(&mut self) -> Read<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array_of()?;
            if shift == 28 && byte > 0x0f {
                return self.fault(Fault::LongVarint);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        self.fault(Fault::LongVarint)
    }

    /// The length of something that may be null: compact in flexible versions, else an i16.
    pub(super) fn string_length(&mut self) -> Read<Option<usize>> {
        let length = if self.flexible { self.compact_length()? } else { self.short_length()? };
        match length {
            Some(length) if length > STRING_MAX_BYTES => self.fault(Fault::LongString(length)),
            length => Ok(length),
        }
    }

    /// The length of bytes, records or an array: compact in flexible versions, else an i32.
    pub(super) fn length(&mut self) -> Read<Option<usize>> {
        if self.flexible {
            return self.compact_length();
        }
        match self.i32()? {
            -1 => Ok(None),
            length => usize::try_from(length).map_or_else(|_| self.fault(Fault::Negative(length)), to_some),
        }
    }

    fn compact_length(&mut self) -> Read<Option<usize>> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    fn short_length(&mut self) -> Read<Option<usize>> {
        match self.i16()? {
            -1 => Ok(None),
            length => {
                usize::try_from(length).map_or_else(|_| self.fault(Fault::Negative(length.into())), to_some)
            }
        }
    }

    /// A string that may be null; borrows.
    pub(super) fn nullable_str(&mut self) -> Read<Option<&'a str>> {
        let Some(length) = self.string_length()? else { return Ok(None) };
        match std::str::from_utf8(self.take(length)?) {
            Ok(text) => Ok(Some(text)),
            Err(_) => self.fault(Fault::NotUtf8),
        }
    }

    /// A string that may be null, sharing the frame's memory.
    pub(super) fn nullable_string(&mut self) -> Read<Option<StrBytes>> {
        let Some(length) = self.string_length()? else { return Ok(None) };
        let bytes = self.slice(length)?;
        match StrBytes::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => self.fault(Fault::NotUtf8),
        }
    }

    /// A string, sharing the frame's memory.
    pub(super) fn string(&mut self) -> Read<StrBytes> {
        self.nullable_string()?.map_or_else(|| self.fault(Fault::Null), Ok)
    }

    /// Bytes or records that may be null, sharing the frame's memory.
    pub(super) fn nullable_bytes(&mut self) -> Read<Option<Bytes>> {
        self.length()?.map(|length| self.slice(length)).transpose()
    }

    fn slice(&mut self, length: usize) -> Read<Bytes> {
        let start = self.at;
        self.take(length)?;
        Ok(self.bytes.slice(start..self.at))
    }

    /// The length of an array whose items take at least `min_bytes` each.
    pub(super) fn count(&mut self, min_bytes: usize) -> Read<Option<usize>> {
        let Some(count) = self.length()? else { return Ok(None) };
        let limit = self.limits.array_max_items.min(self.items_left);
        if count.saturating_mul(min_bytes) > self.left() {
            return self.fault(Fault::Count { count, min_bytes, left: self.left() });
        }
        if count > limit {
            return self.fault(Fault::ManyItems { count, limit });
        }
        self.items_left -= count;
        Ok(Some(count))
    }

    /// An array that may be null, of items that take at least `min_bytes` each.
    pub(super) fn nullable_array<T>(
        &mut self,
        min_bytes: usize,
        mut item: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Option<Vec<T>>> {
        let Some(count) = self.count(min_bytes)? else { return Ok(None) };
        // The count is the peer's word: memory follows what is there.
        let mut items = Vec::with_capacity(count.min(256));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(Some(items))
    }

    /// An array of items that take at least `min_bytes` each.
    pub(super) fn array<T>(
        &mut self,
        min_bytes: usize,
        item: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Vec<T>> {
        self.nullable_array(min_bytes, item)?.map_or_else(|| self.fault(Fault::Null), Ok)
    }

    /// The tagged fields at the end of a struct, none unless the version is flexible. `field` reads the
    /// ones that it knows and answers true for them; the others are skipped.
    pub(super) fn tags(&mut self, mut field: impl FnMut(&mut Self, u32) -> Read<bool>) -> Read<()> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint()? as usize;
        if count > self.limits.tags_max {
            return self.fault(Fault::ManyTags { count, limit: self.limits.tags_max });
        }
        let mut previous = None;
        for _ in 0..count {
            let tag = self.varint()?;
            // Java's and kafka-protocol's tags are i32.
            if tag > i32::MAX as u32 {
                return self.fault(Fault::TagNumber(tag));
            }
            if let Some(after) = previous.filter(|after| *after >= tag) {
                return self.fault(Fault::TagOrder { tag, after });
            }
            previous = Some(tag);
            self.tag(tag, &mut field)?;
        }
        Ok(())
    }

    fn tag(&mut self, tag: u32, field: &mut impl FnMut(&mut Self, u32) -> Read<bool>) -> Read<()> {
        let length = self.varint()? as usize;
        if length > self.left() {
            return self.fault(Fault::Short { wanted: length, left: self.left() });
        }
        let (end, outer) = (self.at + length, self.end);
        self.end = end;
        let known = field(self, tag)?;
        if known && self.at != end {
            return self.fault(Fault::TagLength { tag, length });
        }
        self.at = end;
        self.end = outer;
        Ok(())
    }

    /// Skips the tagged fields of a struct of which none matters here.
    pub(super) fn skip_tags(&mut self) -> Read<()> {
        self.tags(|_, _| Ok(false))
    }

    /// The end of the message. Bytes after it are a defect on one side or the other: an error where
    /// debug assertions are on; otherwise a warning, so that a newer broker does not stop a client.
    pub(super) fn finish(self, what: impl fmt::Display) -> Read<()> {
        let trailing = self.left();
        if trailing == 0 {
            return Ok(());
        }
        if cfg!(debug_assertions) {
            return self.fault(Fault::Trailing(trailing));
        }
        tracing::warn!(trailing_bytes = trailing, "bytes after the end of {what} were ignored");
        Ok(())
    }
}

fn to_some(length: usize) -> Read<Option<usize>> {
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of<T: fmt::Debug>(bytes: &'static [u8], read: impl Fn(&mut Reader<'_>) -> Read<T>) -> Fault {
        read(&mut Reader::new(&Bytes::from_static(bytes), true)).unwrap_err().fault
    }

    #[test]
    fn a_varint_is_at_most_32_bits() {
        let max = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(Reader::new(&max, true).varint(), Ok(u32::MAX));
        assert_eq!(
            fault_of(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01], |reader| reader.varint()),
            Fault::LongVarint
        );
        assert_eq!(fault_of(&[0xff, 0xff, 0xff, 0xff, 0x7f], |reader| reader.varint()), Fault::LongVarint);
        assert_eq!(fault_of(&[0x80], |reader| reader.varint()), Fault::Short { wanted: 1, left: 0 });
    }

    #[test]
    fn tagged_fields_are_sorted_unique_and_fill_their_length() {
        fn read(reader: &mut Reader<'_>) -> Read<()> {
            reader.tags(|reader, tag| if tag == 1 { reader.i8().map(|_| true) } else { Ok(false) })
        }
        let good = Bytes::from_static(&[2, 1, 1, 7, 9, 2, 7, 7]);
        let mut reader = Reader::new(&good, true);
        assert_eq!(read(&mut reader), Ok(()));
        assert_eq!(reader.left(), 0);
        assert_eq!(fault_of(&[2, 1, 1, 7, 1, 1, 7], read), Fault::TagOrder { tag: 1, after: 1 });
        assert_eq!(fault_of(&[2, 9, 0, 1, 1, 7], read), Fault::TagOrder { tag: 1, after: 9 });
        assert_eq!(fault_of(&[1, 0x80, 0x80, 0x80, 0x80, 8, 0], read), Fault::TagNumber(1 << 31));
        assert_eq!(fault_of(&[1, 1, 2, 7, 7], read), Fault::TagLength { tag: 1, length: 2 });
        assert_eq!(fault_of(&[1, 1, 9, 7], read), Fault::Short { wanted: 9, left: 1 });
        assert_eq!(fault_of(&[1, 1, 0], read), Fault::Short { wanted: 1, left: 0 });
        assert_eq!(fault_of(&[0x81, 0x20], read), Fault::ManyTags { count: 4097, limit: 4096 });
    }

    #[test]
    fn an_array_is_checked_against_the_bytes_left_before_anything_is_reserved() {
        let fault = fault_of(&[0xff, 0xff, 0xff, 0xff, 0x0f], |reader| reader.array(1, Reader::i8));
        assert_eq!(fault, Fault::Count { count: 0xffff_fffe, min_bytes: 1, left: 0 });
        assert_eq!(fault_of(&[0], |reader| reader.array(1, Reader::i8)), Fault::Null);
    }

    #[test]
    fn all_arrays_of_a_message_share_a_budget() {
        let mut bytes = vec![0xc1, 0x84, 0x3d]; // 1,000,000 items, plus one
        bytes.resize(1_000_003, 0);
        let bytes = Bytes::from(bytes.repeat(5));
        let mut reader = Reader::new(&bytes, true);
        for _ in 0..4 {
            assert_eq!(reader.array(1, Reader::i8).unwrap().len(), 1_000_000);
        }
        let fault = reader.array(1, Reader::i8).unwrap_err().fault;
        assert_eq!(fault, Fault::ManyItems { count: 1_000_000, limit: 0 });
    }
}

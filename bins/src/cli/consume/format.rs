//! How a record is printed: kcat's format strings, or JSON.

use std::io::{self, Write};

use kafka_wire::{FetchedBatch, LeaderEpoch, RecordRef, TimestampType, TopicPartition};
use serde::Serialize;
use serde_json::{Value, json};

use super::unpack::Pack;
use crate::cli::common::{Failure, Result};

/// How records are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) layout: Layout,
    /// What is printed for a null key or value.
    pub(super) null: String,
    /// What stands between headers.
    pub(super) headers_separator: String,
    /// What keys are made of, where they are not text.
    pub(super) key: Option<Pack>,
    /// What values are made of, where they are not text.
    pub(super) value: Option<Pack>,
}

/// What is printed of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// The pieces of a format string, in order.
    Pieces(Vec<Piece>),
    /// One object a line, with kcat's names.
    Json,
}

/// A piece of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Key,
    KeyLength,
    Value,
    ValueLength,
    /// As four bytes, big endian.
    ValueLengthBytes,
    Offset,
    Partition,
    Topic,
    Timestamp,
    Headers,
    /// `CreateTime` or `LogAppendTime`, and the timestamp, as Kafka's console consumer shows them.
    TypeAndTimestamp,
    /// The leader epoch, as Kafka's console consumer shows it.
    Epoch,
    /// As Kafka's console consumer shows them: `name:value,name:value`, or `NO_HEADERS`.
    HeadersOrNone,
}

/// What a record does not say of itself.
pub(super) struct Origin<'a> {
    partition: &'a TopicPartition,
    timestamp_type: TimestampType,
    leader_epoch: Option<LeaderEpoch>,
}

impl<'a> Origin<'a> {
    pub(super) fn of(batch: &'a FetchedBatch) -> Self {
        Self {
            partition: batch.topic_partition(),
            timestamp_type: batch.timestamp_type(),
            leader_epoch: batch.leader_epoch(),
        }
    }
}

impl Layout {
    /// Reads kcat's format string: %k %v (or %s) %o %p %t %T %h, the lengths %K and %V (or %S, or %R as four bytes),
    /// %% and the escapes of [`unescape`].
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = unescape(text)?;
        let (mut pieces, mut plain) = (Vec::new(), String::new());
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            if char != '%' {
                plain.push(char);
                continue;
            }
            let piece = match chars.next() {
                Some('k') => Piece::Key,
                Some('K') => Piece::KeyLength,
                Some('v' | 's') => Piece::Value,
                Some('V' | 'S') => Piece::ValueLength,
                Some('R') => Piece::ValueLengthBytes,
                Some('o') => Piece::Offset,
                Some('p') => Piece::Partition,
                Some('t') => Piece::Topic,
                Some('T') => Piece::Timestamp,
                Some('h') => Piece::Headers,
                Some('%') => {
                    plain.push('%');
                    continue;
                }
                other => {
                    let shown = other.map(String::from).unwrap_or_default();
                    return Err(format!("%{shown} is not one of %k %K %v %V %s %S %R %o %p %t %T %h %%"));
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self::Pieces(pieces))
    }

    /// The value, with what is asked for before it; `end` is behind each record.
    pub(super) fn plain(key_delimiter: Option<&str>, offset_delimiter: Option<&str>, end: &str) -> Self {
        let delimited =
            |piece, delimiter: Option<&str>| delimiter.map(|text| [piece, Piece::Text(text.to_owned())]);
        let before = [delimited(Piece::Key, key_delimiter), delimited(Piece::Offset, offset_delimiter)];
        let rest = [Piece::Value, Piece::Text(end.to_owned())];
        Self::Pieces(before.into_iter().flatten().flatten().chain(rest).collect())
    }
}

impl Style {
    /// Prints a record.
    pub(super) fn write(
        &self,
        out: &mut impl Write,
        origin: &Origin<'_>,
        record: &RecordRef<'_>,
    ) -> Result<()> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let shown = self.unpacked(origin, record, &mut key, &mut value)?;
        match &self.layout {
            Layout::Json => {
                serde_json::to_writer(&mut *out, &JsonRecord::new(origin, &shown))
                    .map_err(io::Error::from)?;
                out.write_all(b"\n")?;
            }
            Layout::Pieces(pieces) => {
                for piece in pieces {
                    self.write_piece(out, piece, origin, record, &shown)?;
                }
            }
        }
        Ok(())
    }

    /// The record with its key and value as text.
    fn unpacked<'a>(
        &self,
        origin: &Origin<'_>,
        record: &RecordRef<'a>,
        key: &'a mut Vec<u8>,
        value: &'a mut Vec<u8>,
    ) -> Result<RecordRef<'a>> {
        let mut shown = *record;
        let parts =
            [("key", &self.key, &mut shown.key, key), ("value", &self.value, &mut shown.value, value)];
        for (what, pack, bytes, text) in parts {
            if let (Some(pack), Some(packed)) = (pack, *bytes) {
                let (partition, offset) = (origin.partition, record.offset);
                pack.unpack(packed, text).map_err(|mismatch| {
                    Failure::failed(format_args!(
                        "unpack the {what} at offset {offset} of {partition}: {mismatch}"
                    ))
                })?;
                *bytes = Some(text);
            }
        }
        Ok(shown)
    }

    /// `shown` is the record with its key and value as text.
    fn write_piece(
        &self,
        out: &mut impl Write,
        piece: &Piece,
        origin: &Origin<'_>,
        record: &RecordRef<'_>,
        shown: &RecordRef<'_>,
    ) -> io::Result<()> {
        let length = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
        match piece {
            Piece::Text(text) => out.write_all(text.as_bytes()),
            Piece::Key => out.write_all(shown.key.unwrap_or(self.null.as_bytes())),
            Piece::KeyLength => write!(out, "{}", length(record.key)),
            Piece::Value => out.write_all(shown.value.unwrap_or(self.null.as_bytes())),
            Piece::ValueLength => write!(out, "{}", length(record.value)),
            Piece::ValueLengthBytes => out.write_all(&(length(record.value) as i32).to_be_bytes()),
            Piece::Offset => write!(out, "{}", record.offset),
            Piece::Partition => write!(out, "{}", origin.partition.partition),
            Piece::Topic => out.write_all(origin.partition.topic.as_bytes()),
            Piece::Timestamp => write!(out, "{}", record.timestamp_ms),
            Piece::TypeAndTimestamp if record.timestamp_ms < 0 => out.write_all(b"NO_TIMESTAMP"),
            Piece::TypeAndTimestamp => write!(out, "{:?}:{}", origin.timestamp_type, record.timestamp_ms),
            Piece::Epoch => match origin.leader_epoch {
                Some(epoch) => write!(out, "Epoch:{}", epoch.0),
                None => out.write_all(b"Epoch:NOT_PRESENT"),
            },
            Piece::Headers => write_headers(out, record, "=", &self.headers_separator, "NULL"),
            Piece::HeadersOrNone if record.headers().next().is_none() => out.write_all(b"NO_HEADERS"),
            Piece::HeadersOrNone => write_headers(out, record, ":", &self.headers_separator, &self.null),
        }
    }
}

fn write_headers(
    out: &mut impl Write,
    record: &RecordRef<'_>,
    is: &str,
    separator: &str,
    null: &str,
) -> io::Result<()> {
    for (index, header) in record.headers().enumerate() {
        if index > 0 {
            out.write_all(separator.as_bytes())?;
        }
        out.write_all(header.key)?;
        out.write_all(is.as_bytes())?;
        out.write_all(header.value.unwrap_or(null.as_bytes()))?;
    }
    Ok(())
}

/// A record as `kcat -J` shows it. A key or value that is not UTF-8 cannot be in JSON: it comes as hex digits
/// in a field of another name.
#[derive(Serialize)]
struct JsonRecord<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    tstype: &'static str,
    ts: i64,
    headers: Vec<Value>,
    key: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    payload: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_hex: Option<String>,
}

impl<'a> JsonRecord<'a> {
    fn new(origin: &Origin<'a>, record: &RecordRef<'_>) -> Self {
        let (key, key_hex) = text_or_hex(record.key);
        let (payload, payload_hex) = text_or_hex(record.value);
        let lossy = |bytes: &[u8]| json!(String::from_utf8_lossy(bytes));
        let header =
            |header: kafka_wire::Header<'_>| [lossy(header.key), header.value.map_or(Value::Null, lossy)];
        Self {
            topic: &origin.partition.topic,
            partition: origin.partition.partition,
            offset: record.offset,
            tstype: match origin.timestamp_type {
                _ if record.timestamp_ms < 0 => "unknown",
                TimestampType::CreateTime => "create",
                TimestampType::LogAppendTime => "logappend",
            },
            ts: record.timestamp_ms,
            headers: record.headers().flat_map(header).collect(),
            key,
            key_hex,
            payload,
            payload_hex,
        }
    }
}

fn text_or_hex(bytes: Option<&[u8]>) -> (Value, Option<String>) {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => (Value::Null, None),
        Some((Ok(text), _)) => (json!(text), None),
        Some((Err(_), bytes)) => {
            (Value::Null, Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
        }
    }
}

/// Replaces `\n`, `\r`, `\t`, `\\` and `\xHH`, as kcat does in formats and delimiters.
pub(in crate::cli) fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        out.push(match chars.next() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('\\') => '\\',
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                let byte = u8::from_str_radix(&digits, 16).ok();
                let byte = byte.filter(|byte| digits.len() == 2 && byte.is_ascii());
                char::from(
                    byte.ok_or_else(|| format!("\\x{digits} is not an ASCII character in two hex digits"))?,
                )
            }
            other => {
                return Err(format!("\\{} is not an escape", other.map(String::from).unwrap_or_default()));
            }
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_kcat() {
        let parsed = Layout::parse(r"%t[%p]\t100%%:%k=%s%R\n").unwrap();
        let text = |text: &str| Piece::Text(text.to_owned());
        let expected = [
            Piece::Topic,
            text("["),
            Piece::Partition,
            text("]\t100%:"),
            Piece::Key,
            text("="),
            Piece::Value,
            Piece::ValueLengthBytes,
            text("\n"),
        ];
        assert_eq!(parsed, Layout::Pieces(expected.to_vec()));
        let unknown = Layout::parse("%x").unwrap_err();
        assert_eq!(unknown, "%x is not one of %k %K %v %V %s %S %R %o %p %t %T %h %%");
        assert!(
            Layout::parse("%").is_err() && Layout::parse(r"\q").is_err() && Layout::parse(r"\x9").is_err()
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_hex() {
        assert_eq!(text_or_hex(Some(b"a")), (json!("a"), None));
        assert_eq!(text_or_hex(Some(b"\xff\x00")), (Value::Null, Some("ff00".to_owned())));
        assert_eq!(text_or_hex(None), (Value::Null, None));
    }
}

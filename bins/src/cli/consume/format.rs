//! How a record is printed: kcat's format strings, or JSON.

use std::io::{self, Write};

use kafka_wire::{RecordRef, TopicPartition};
use serde::Serialize;
use serde_json::{Value, json};

/// A parsed format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
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
    Offset,
    Partition,
    Topic,
    Timestamp,
    Headers,
}

impl Format {
    /// Reads kcat's format string: %k %v (or %s) %o %p %t %T %h, the lengths %K and %V (or %S), %% and the
    /// escapes of [`unescape`].
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
                    return Err(format!("%{shown} is not one of %k %K %v %V %s %S %o %p %t %T %h %%"));
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

    /// Prints a record.
    pub(super) fn write(
        &self,
        out: &mut impl Write,
        partition: &TopicPartition,
        record: &RecordRef<'_>,
        null: &str,
    ) -> io::Result<()> {
        let pieces = match self {
            Self::Json => {
                serde_json::to_writer(&mut *out, &JsonRecord::new(partition, record))?;
                return out.write_all(b"\n");
            }
            Self::Pieces(pieces) => pieces,
        };
        let length = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.write_all(text.as_bytes())?,
                Piece::Key => out.write_all(record.key.unwrap_or(null.as_bytes()))?,
                Piece::KeyLength => write!(out, "{}", length(record.key))?,
                Piece::Value => out.write_all(record.value.unwrap_or(null.as_bytes()))?,
                Piece::ValueLength => write!(out, "{}", length(record.value))?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Partition => write!(out, "{}", partition.partition)?,
                Piece::Topic => out.write_all(partition.topic.as_bytes())?,
                Piece::Timestamp => write!(out, "{}", record.timestamp_ms)?,
                Piece::Headers => write_headers(out, record)?,
            }
        }
        Ok(())
    }
}

fn write_headers(out: &mut impl Write, record: &RecordRef<'_>) -> io::Result<()> {
    for (index, header) in record.headers().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        out.write_all(header.key)?;
        out.write_all(b"=")?;
        out.write_all(header.value.unwrap_or(b"NULL"))?;
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
    fn new(partition: &'a TopicPartition, record: &RecordRef<'_>) -> Self {
        let (key, key_hex) = text_or_hex(record.key);
        let (payload, payload_hex) = text_or_hex(record.value);
        let lossy = |bytes: &[u8]| json!(String::from_utf8_lossy(bytes));
        let header =
            |header: kafka_wire::Header<'_>| [lossy(header.key), header.value.map_or(Value::Null, lossy)];
        Self {
            topic: &partition.topic,
            partition: partition.partition,
            offset: record.offset,
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
        let parsed = Format::parse(r"%t[%p]\t100%%:%k=%s\n").unwrap();
        let text = |text: &str| Piece::Text(text.to_owned());
        let expected = [
            Piece::Topic,
            text("["),
            Piece::Partition,
            text("]\t100%:"),
            Piece::Key,
            text("="),
            Piece::Value,
            text("\n"),
        ];
        assert_eq!(parsed, Format::Pieces(expected.to_vec()));
        assert_eq!(Format::parse("%x").unwrap_err(), "%x is not one of %k %K %v %V %s %S %o %p %t %T %h %%");
        assert!(
            Format::parse("%").is_err() && Format::parse(r"\q").is_err() && Format::parse(r"\x9").is_err()
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_hex() {
        assert_eq!(text_or_hex(Some(b"a")), (json!("a"), None));
        assert_eq!(text_or_hex(Some(b"\xff\x00")), (Value::Null, Some("ff00".to_owned())));
        assert_eq!(text_or_hex(None), (Value::Null, None));
    }
}

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
    /// As Kafka's console consumer shows them: `name:value,name:value`, or `NO_HEADERS`.
    HeadersOrNone,
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

    /// The value alone, or with the key before it; `end` is behind each record.
    pub(super) fn plain(key_delimiter: Option<&str>, end: &str) -> Self {
        let key = key_delimiter.map(|delimiter| [Piece::Key, Piece::Text(delimiter.to_owned())]);
        let rest = [Piece::Value, Piece::Text(end.to_owned())];
        Self::Pieces(key.into_iter().flatten().chain(rest).collect())
    }

    /// What the properties of Kafka's console consumer ask for: `print.key=true` and the like, `key.separator` and
    /// `line.separator`.
    pub(super) fn of_properties(properties: &[(String, String)]) -> Result<Self, String> {
        let (mut separator, mut end) = ("\t".to_owned(), "\n".to_owned());
        // In the order in which they are printed; only the value is there unless it is asked away.
        let mut parts = [
            ("print.timestamp", false, vec![Piece::Text("CreateTime:".to_owned()), Piece::Timestamp]),
            ("print.partition", false, vec![Piece::Text("Partition:".to_owned()), Piece::Partition]),
            ("print.offset", false, vec![Piece::Text("Offset:".to_owned()), Piece::Offset]),
            ("print.headers", false, vec![Piece::HeadersOrNone]),
            ("print.key", false, vec![Piece::Key]),
            ("print.value", true, vec![Piece::Value]),
        ];
        for (name, value) in properties {
            match (name.as_str(), parts.iter_mut().find(|(part, ..)| part == name)) {
                ("key.separator", _) => separator = unescape(value)?,
                ("line.separator", _) => end = unescape(value)?,
                ("null.literal", _) => {}
                (_, Some((_, is_shown, _))) => {
                    *is_shown =
                        value.parse().map_err(|_| format!("{name}={value}: expected true or false"))?;
                }
                _ => {
                    return Err(format!(
                        "{name} is not one of print.timestamp, print.partition, print.offset, print.headers, \
                         print.key, print.value, key.separator, line.separator, null.literal"
                    ));
                }
            }
        }
        let mut pieces: Vec<Piece> = Vec::new();
        for (.., part) in parts.into_iter().filter(|(_, is_shown, _)| *is_shown) {
            if !pieces.is_empty() {
                pieces.push(Piece::Text(separator.clone()));
            }
            pieces.extend(part);
        }
        pieces.push(Piece::Text(end));
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
                Piece::Headers => write_headers(out, record, "=")?,
                Piece::HeadersOrNone if record.headers().next().is_none() => out.write_all(b"NO_HEADERS")?,
                Piece::HeadersOrNone => write_headers(out, record, ":")?,
            }
        }
        Ok(())
    }
}

fn write_headers(out: &mut impl Write, record: &RecordRef<'_>, separator: &str) -> io::Result<()> {
    for (index, header) in record.headers().enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        out.write_all(header.key)?;
        out.write_all(separator.as_bytes())?;
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
    fn properties_are_those_of_kafkas_console_consumer() {
        let of = |entries: &[(&str, &str)]| {
            let owned: Vec<_> =
                entries.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            Format::of_properties(&owned)
        };
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(of(&[]), Ok(Format::Pieces(vec![Piece::Value, text("\n")])));
        let shown = of(&[("print.key", "true"), ("print.offset", "true"), ("key.separator", "|")]);
        let expected =
            vec![text("Offset:"), Piece::Offset, text("|"), Piece::Key, text("|"), Piece::Value, text("\n")];
        assert_eq!(shown, Ok(Format::Pieces(expected)));
        assert!(of(&[("print.key", "yes")]).is_err() && of(&[("print.colour", "true")]).is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_in_hex() {
        assert_eq!(text_or_hex(Some(b"a")), (json!("a"), None));
        assert_eq!(text_or_hex(Some(b"\xff\x00")), (Value::Null, Some("ff00".to_owned())));
        assert_eq!(text_or_hex(None), (Value::Null, None));
    }
}

//! Formats: bytes of a record to typed values and back. Layer 1; knows nothing of Kafka.

mod bytes;
mod csv;
mod json;
mod poison;
mod string;

use std::fmt;

pub use bytes::Bytes;
pub use csv::Csv;
pub use json::Json;
pub use poison::{OrPoison, Poison, PoisonPolicy};
pub use string::Text;

/// Reads values. Each worker has its own decoder (a clone), so it may keep buffers.
pub trait Decode: Clone + Send + 'static {
    /// What it reads.
    type Item;

    /// Reads one record's value; none is Kafka's null (a tombstone).
    ///
    /// # Errors
    /// When the value is not of this format or type: the record is poison. The source adds where it was.
    fn decode(&mut self, value: Option<&[u8]>) -> Result<Self::Item, FormatError>;
}

/// Writes values.
pub trait Encode: Clone + Send + 'static {
    /// What it writes.
    type Item;

    /// Appends the encoded item to `out`.
    ///
    /// # Errors
    /// When the item has no form in this format; `out` may then hold part of it.
    fn encode(&mut self, item: &Self::Item, out: &mut Vec<u8>) -> Result<(), FormatError>;
}

/// Why a value could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    attempted: &'static str,
    cause: String,
    excerpt: String,
}

impl FormatError {
    /// `attempted` as in `read JSON`; `value` is shown in part.
    pub fn new(attempted: &'static str, cause: impl fmt::Display, value: &[u8]) -> Self {
        Self { attempted, cause: cause.to_string(), excerpt: excerpt(value) }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.attempted, self.cause)?;
        if !self.excerpt.is_empty() {
            write!(f, "; the value is {}", self.excerpt)?;
        }
        Ok(())
    }
}

impl std::error::Error for FormatError {}

/// The beginning of a value, safe to print: control characters and bytes that are no UTF-8 are escaped.
fn excerpt(value: &[u8]) -> String {
    if value.is_empty() {
        return String::new();
    }
    let mut shown = String::from("`");
    for chunk in value[..value.len().min(EXCERPT_BYTES)].utf8_chunks() {
        shown.extend(chunk.valid().chars().flat_map(|char| {
            let escape = char.is_control().then(|| char.escape_default());
            let plain = (!char.is_control()).then_some(char);
            escape.into_iter().flatten().chain(plain)
        }));
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown.push('`');
    if value.len() > EXCERPT_BYTES {
        shown.push_str(&format!(" and so on, {} bytes", value.len()));
    }
    shown
}

/// Enough to recognise a record by, short enough for a log line.
const EXCERPT_BYTES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_shows_the_beginning() {
        let error = FormatError::new("read JSON", "expected value", b"a\n\xff\"b");
        assert_eq!(error.to_string(), "read JSON: expected value; the value is `a\\n\\xff\"b`");
        let long = FormatError::new("read CSV", "no", &[b'x'; 500]).to_string();
        assert!(long.ends_with("x` and so on, 500 bytes") && long.len() < 160, "{long}");
    }
}

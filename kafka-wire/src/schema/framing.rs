//! Confluent's wire format: a zero byte, the schema's id, for Protobuf the message's place in its file, the
//! value.

use super::model::SchemaId;
use crate::error::{Error, ErrorKind, Result};

const MAGIC: u8 = 0;
const PREFIX: usize = 5;
/// How deep a message may be nested; a hostile count must not allocate.
const NESTING_MAX: usize = 64;

/// A value in the wire format, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The schema that wrote it.
    pub id: SchemaId,
    /// What comes after the id.
    pub payload: &'a [u8],
}

/// Takes a value in the wire format apart.
///
/// # Errors
/// `Schema`, when it does not begin with a zero byte and an id: it was written without a registry.
pub fn read_frame(value: &[u8]) -> Result<Framed<'_>> {
    let refused = |what: String| {
        Error::new(ErrorKind::Schema, what).with_hint("was it written by a serializer of a schema registry?")
    };
    let Some((prefix, payload)) = value.split_first_chunk::<PREFIX>() else {
        return Err(refused(format!("read a schema's id from a value of {} bytes", value.len())));
    };
    let [magic, id @ ..] = *prefix;
    if magic != MAGIC {
        return Err(refused(format!(
            "read a schema's id from a value that begins with {magic:#04x}, not 0x00"
        )));
    }
    Ok(Framed { id: SchemaId(i32::from_be_bytes(id)), payload })
}

pub(super) fn prefix(id: SchemaId) -> [u8; PREFIX] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [MAGIC, a, b, c, d]
}

/// The place of a message in its file: index among the top messages, then within each enclosing one. The
/// first of a file is so common that it is written as a single zero.
pub(super) fn write_message_path(path: &[i32], into: &mut Vec<u8>) {
    if path == [0] {
        return into.push(0);
    }
    write_varint(path.len() as i64, into);
    for index in path {
        write_varint(i64::from(*index), into);
    }
}

/// The place of a message, and what follows it.
pub(super) fn read_message_path(mut bytes: &[u8]) -> Result<(Vec<i32>, &[u8])> {
    let refused =
        |what| Error::new(ErrorKind::Schema, format!("read the place of a Protobuf message: {what}"));
    let truncated = || refused("the value ends in it".to_owned());
    let count = read_varint(&mut bytes).ok_or_else(truncated)?;
    if count == 0 {
        return Ok((vec![0], bytes));
    }
    let count = usize::try_from(count).ok().filter(|count| *count <= NESTING_MAX);
    let count =
        count.ok_or_else(|| refused(format!("more than {NESTING_MAX} levels, or fewer than none")))?;
    let mut path = Vec::with_capacity(count);
    for _ in 0..count {
        let index = read_varint(&mut bytes).ok_or_else(truncated)?;
        path.push(i32::try_from(index).map_err(|_| refused(format!("{index} is no index")))?);
    }
    Ok((path, bytes))
}

/// Zigzag, as in Avro and as Confluent writes the place of a message.
fn write_varint(value: i64, into: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written_and_others_are_refused() {
        let mut value = prefix(SchemaId(0x0102_0304)).to_vec();
        assert_eq!(value, [0, 1, 2, 3, 4]);
        value.extend(b"rest");
        assert_eq!(read_frame(&value).unwrap(), Framed { id: SchemaId(0x0102_0304), payload: b"rest" });
        for wrong in [&b""[..], b"\0\0\0\0", b"{\"plain\": 1}"] {
            assert_eq!(read_frame(wrong).unwrap_err().kind(), ErrorKind::Schema);
        }
    }

    #[test]
    fn the_place_of_a_message_is_written_as_confluent_does() {
        for (path, bytes) in [
            (vec![0], vec![0]),
            (vec![1], vec![2, 2]),
            (vec![1, 0], vec![4, 2, 0]),
            (vec![0, 100], vec![4, 0, 200, 1]),
        ] {
            let mut written = Vec::new();
            write_message_path(&path, &mut written);
            assert_eq!(written, bytes);
            written.extend(b"rest");
            assert_eq!(read_message_path(&written).unwrap(), (path, &b"rest"[..]));
        }
    }

    #[test]
    fn a_hostile_place_is_refused_without_allocating_for_it() {
        let mut endless = Vec::new();
        write_varint(i64::MAX, &mut endless);
        for bytes in [&[][..], &[2], &[1], &[0xff; 11], &endless, &[2, 0xff, 0xff, 0xff, 0xff, 0xff, 1]] {
            assert_eq!(read_message_path(bytes).unwrap_err().kind(), ErrorKind::Schema, "{bytes:?}");
        }
    }
}

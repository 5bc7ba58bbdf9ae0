//! Walks a message against its shape before a decoder of `kafka-protocol` sees it: that crate reserves
//! what a length field says, and a lying one aborts the process.
//!
//! The shapes are Kafka's own message specifications as constants; nothing is allocated here.

use std::fmt;

use bytes::Bytes;

use super::messages::ApiKey;
use super::reader::{Fault, Read, Reader};
use crate::error::{Error, ErrorKind, Result};

// One line per field, made by a test: `tests/vectors/shapes.rs` says how.
#[rustfmt::skip]
mod shapes;

/// A request or an answer in all its versions.
struct Shape {
    api_key: i16,
    versions: (i16, i16),
    /// The first version with compact lengths and tagged fields.
    flexible_from: i16,
    fields: &'static [Field],
}

struct Field {
    name: &'static str,
    kind: Kind,
    versions: (i16, i16),
    nullable: (i16, i16),
    tag: u32,
    tagged: (i16, i16),
}

enum Kind {
    /// A number, a bool or a UUID: as many bytes.
    Fixed(usize),
    String,
    /// Bytes or records.
    Bytes,
    Struct(&'static [Field]),
    Array(&'static Self),
}

const ALL: (i16, i16) = (0, i16::MAX);
const NONE: (i16, i16) = (0, -1);

/// The words that `shapes` is written in.
const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, versions: ALL, nullable: NONE, tag: 0, tagged: NONE }
}

impl Field {
    const fn versions(self, from: i16, to: i16) -> Self {
        Self { versions: (from, to), ..self }
    }

    const fn nullable(self, from: i16, to: i16) -> Self {
        Self { nullable: (from, to), ..self }
    }

    const fn tagged(self, tag: u32, from: i16, to: i16) -> Self {
        Self { tag, tagged: (from, to), ..self }
    }
}

fn contains((from, to): (i16, i16), version: i16) -> bool {
    from <= version && version <= to
}

/// Checks the body of a request in `version`. Bytes after it are left alone, as by Kafka: librdkafka ends
/// AlterUserScramCredentials with one too many.
///
/// # Errors
/// `Unsupported` when there is no such version, `Protocol` when the body does not have that shape.
pub fn check_request(api: ApiKey, version: i16, body: &Bytes) -> Result<()> {
    walk_body(shapes::REQUESTS, body, &Subject { api, kind: "request", version }).map(drop)
}

/// Checks the body of an answer in `version`.
///
/// # Errors
/// `Unsupported` when there is no such version, `Protocol` when the body does not have that shape.
pub fn check_response(api: ApiKey, version: i16, body: &Bytes) -> Result<()> {
    let subject = Subject { api, kind: "answer", version };
    let reader = walk_body(shapes::RESPONSES, body, &subject)?;
    reader.finish(&subject).map_err(|malformed| malformed.in_message(&subject))
}

/// Whether the first field of an answer is `throttle_time_ms`, as in most APIs.
pub fn begins_with_throttle_time(api: ApiKey, version: i16) -> bool {
    let shape = find(shapes::RESPONSES, api, version);
    let first = shape.and_then(|shape| shape.fields.iter().find(|field| contains(field.versions, version)));
    first.is_some_and(|field| field.name == "ThrottleTimeMs")
}

/// Whether a request in `version` has compact lengths and tagged fields (KIP-482), its header too.
pub(super) fn is_flexible_request(api: ApiKey, version: i16) -> bool {
    is_flexible(shapes::REQUESTS, api, version)
}

/// The same of an answer.
pub(super) fn is_flexible_response(api: ApiKey, version: i16) -> bool {
    is_flexible(shapes::RESPONSES, api, version)
}

struct Subject {
    api: ApiKey,
    kind: &'static str,
    version: i16,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} version {}", self.api, self.kind, self.version)
    }
}

fn shape_of(shapes: &'static [Shape], api: ApiKey) -> Option<&'static Shape> {
    let index = shapes.binary_search_by_key(&(api as i16), |shape| shape.api_key).ok()?;
    Some(&shapes[index])
}

fn find(shapes: &'static [Shape], api: ApiKey, version: i16) -> Option<&'static Shape> {
    shape_of(shapes, api).filter(|shape| contains(shape.versions, version))
}

fn is_flexible(shapes: &'static [Shape], api: ApiKey, version: i16) -> bool {
    shape_of(shapes, api).is_some_and(|shape| version >= shape.flexible_from)
}

/// Walks a body to its end, which is where the reader is left.
fn walk_body<'a>(shapes: &'static [Shape], body: &'a Bytes, subject: &Subject) -> Result<Reader<'a>> {
    let Some(shape) = find(shapes, subject.api, subject.version) else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("decode {subject}: there is no such version"),
        ));
    };
    let mut reader = Reader::new(body, subject.version >= shape.flexible_from);
    walk_struct(&mut reader, shape.fields, subject.version)
        .map_err(|malformed| malformed.in_message(subject))?;
    Ok(reader)
}

fn walk_struct(reader: &mut Reader<'_>, fields: &[Field], version: i16) -> Read<()> {
    for field in fields {
        if contains(field.versions, version) && !contains(field.tagged, version) {
            walk_field(reader, field, version)?;
        }
    }
    reader.tags(|reader, tag| {
        let known = fields.iter().find(|field| field.tag == tag && contains(field.tagged, version));
        known.map_or(Ok(false), |field| walk_field(reader, field, version).map(|()| true))
    })
}

fn walk_field(reader: &mut Reader<'_>, field: &Field, version: i16) -> Read<()> {
    let nullable = contains(field.nullable, version);
    walk(reader, &field.kind, nullable, version).map_err(|malformed| malformed.in_field(field.name))
}

fn walk(reader: &mut Reader<'_>, kind: &Kind, nullable: bool, version: i16) -> Read<()> {
    let is_there = match kind {
        Kind::Fixed(bytes) => reader.take(*bytes).map(|_| true),
        Kind::String => reader.nullable_str().map(|text| text.is_some()),
        Kind::Bytes => match reader.length()? {
            Some(length) => reader.take(length).map(|_| true),
            None => Ok(false),
        },
        Kind::Array(item) => walk_array(reader, item, version),
        Kind::Struct(fields) => {
            // A struct that may be null says by a byte whether it is. Kafka takes any byte that is not
            // negative for a struct, kafka-protocol only a 1: with another they would read on apart.
            match if nullable { reader.i8()? } else { 1 } {
                -1 => return Ok(()),
                1 => walk_struct(reader, fields, version).map(|()| true),
                other => reader.fault(Fault::Presence(other)),
            }
        }
    }?;
    if is_there || nullable { Ok(()) } else { reader.fault(Fault::Null) }
}

fn walk_array(reader: &mut Reader<'_>, item: &Kind, version: i16) -> Read<bool> {
    let min_bytes = min_bytes(item, version, reader.is_flexible());
    let Some(count) = reader.count(min_bytes)? else { return Ok(false) };
    if let Kind::Fixed(bytes) = item {
        reader.take(count * bytes)?;
        return Ok(true);
    }
    for _ in 0..count {
        walk(reader, item, false, version)?;
    }
    Ok(true)
}

/// Bytes of the shortest value that is not null.
fn min_bytes(kind: &Kind, version: i16, flexible: bool) -> usize {
    match kind {
        Kind::Fixed(bytes) => *bytes,
        Kind::String | Kind::Bytes | Kind::Array(_) if flexible => 1,
        Kind::String => 2,
        Kind::Bytes | Kind::Array(_) => 4,
        Kind::Struct(fields) => {
            let inline = fields
                .iter()
                .filter(|field| contains(field.versions, version) && !contains(field.tagged, version));
            let field_bytes = |field: &Field| match field.kind {
                Kind::Struct(_) if contains(field.nullable, version) => 1,
                _ => min_bytes(&field.kind, version, flexible),
            };
            inline.map(field_bytes).sum::<usize>() + usize::from(flexible)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::FrameReader;
    use super::super::header::read_response;
    use super::super::messages::{
        ApiVersionsRequest, Encodable as _, MetadataRequest, MetadataResponse, known_versions,
    };
    use super::super::request::Response;
    use super::*;

    /// What a client makes of a frame that answers its first request.
    fn receive(api: ApiKey, version: i16, frame: &[u8]) -> Result<Response> {
        let mut reader = FrameReader::new(1 << 20);
        reader.push(frame);
        let frame = reader.next_frame()?.expect("a whole frame");
        read_response(&frame, api, version, 1)
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn hostile_answers_are_refused_before_they_are_decoded() {
        for (version, frame, cause) in [
            (0, "00000008 00000001 7fffffff", "2147483647 items of at least 10 bytes in 0 bytes"),
            (
                9,
                "0000000e 00000001 00 00000000 ffffffff0f",
                "4294967294 items of at least 11 bytes in 0 bytes",
            ),
            (0, "00000008 00000001 fffffffe", "negative length -2"),
            (0, "00000008 00000001 ffffffff", "null where a value is required at byte 4 in Brokers"),
            (9, "0000000a 00000001 00 00000000 00", "null where a value is required"),
            (0, "00000012 00000001 00000001 00000001 fffe 00002384", "negative length -2 at byte 10 in Host"),
            (0, "00000012 00000001 00000001 00000001 00ff 00002384", "255 bytes wanted, 4 left"),
            (0, "00000018 00000001 00000001 00000001 0002c328 00002384 00000000", "not UTF-8"),
            (9, "0000000f 00000001 00 00000000 808080808001", "varint too long"),
            (9, "0000000e 00000001 00 00000000 ffffffff7f", "varint too long"),
        ] {
            let error = receive(ApiKey::Metadata, version, &hex(frame))
                .and_then(Response::decode::<MetadataRequest>)
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(error.to_string().contains(cause), "{frame}: {error}");
        }
    }

    #[test]
    fn bytes_after_a_request_are_left_alone() {
        // AlterUserScramCredentials as librdkafka 2.16 writes it: delete SCRAM-SHA-256 of "zz"; the last byte is surplus.
        let body = Bytes::from(hex("02 03 7a7a 01 00 01 00 00"));
        check_request(ApiKey::AlterUserScramCredentials, 0, &body).unwrap();
        check_request(ApiKey::AlterUserScramCredentials, 0, &body.slice(..8)).unwrap();
        check_request(ApiKey::AlterUserScramCredentials, 0, &body.slice(..7)).unwrap_err();
    }

    #[test]
    fn hostile_tags_of_a_header_are_refused() {
        for frame in [
            "00000009 00000001 ffffffff0f",
            "0000000a 00000001 02 01 00 01 00 00",
            "0000000a 00000001 02 09 00 01 00 00",
            "00000008 00000001 01 01 7f 00",
        ] {
            assert!(receive(ApiKey::Metadata, 9, &hex(frame)).is_err(), "{frame}");
        }
        let skipped = receive(ApiKey::Metadata, 9, &hex("00000009 00000001 01 63 01 ff 2a")).unwrap();
        assert_eq!(skipped.body, &[0x2a][..]);
    }

    #[test]
    fn bytes_after_the_end_are_an_error_where_debug_assertions_are_on() {
        let mut body = bytes::BytesMut::new();
        MetadataResponse::default().encode(&mut body, 5).unwrap();
        body.extend_from_slice(&[1, 2]);
        let response = Response { api: ApiKey::Metadata, version: 5, body: body.freeze() };
        let outcome = response.decode::<MetadataRequest>();
        assert_eq!(outcome.is_err(), cfg!(debug_assertions));
    }

    #[test]
    fn an_answer_is_decoded_as_what_it_answers_and_in_versions_that_exist() {
        let response = |api, version| Response { api, version, body: Bytes::new() };
        let error = response(ApiKey::Metadata, 1).decode::<ApiVersionsRequest>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let error = response(ApiKey::Metadata, 99).decode::<MetadataRequest>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_struct_is_there_or_null_and_nothing_between() {
        // No topics, a limit, the cursor's presence (a name and a partition after it), no tagged fields.
        let body =
            |presence, cursor: &[u8]| Bytes::from([&[1, 0, 0, 0, 5, presence][..], cursor, &[0]].concat());
        let cursor = [2, b'a', 0, 0, 0, 1, 0];
        let check = |body| check_request(ApiKey::DescribeTopicPartitions, 0, &body);
        check(body(1, &cursor)).unwrap();
        check(body(0xff, &[])).unwrap();
        // Kafka would read a cursor here, and kafka-protocol none: it would take the cursor for what follows.
        for presence in [0, 2, 0x7f, 0xfe, 0x80] {
            let error = check(body(presence, &cursor)).unwrap_err();
            assert!(error.to_string().contains("says whether a struct is there"), "{error}");
        }
    }

    #[test]
    fn a_pause_is_looked_for_only_where_the_answer_begins_with_one() {
        for (api, first) in [
            (ApiKey::CreateTopics, 2),
            (ApiKey::DescribeGroups, 1),
            (ApiKey::Fetch, 4),
            (ApiKey::ListOffsets, 2),
            (ApiKey::Metadata, 3),
            (ApiKey::OffsetFetch, 3),
        ] {
            assert!(begins_with_throttle_time(api, first), "{api:?}");
            assert!(!begins_with_throttle_time(api, first - 1), "{api:?}");
        }
        for api in [ApiKey::DescribeQuorum, ApiKey::OffsetDelete, ApiKey::Produce, ApiKey::SaslHandshake] {
            let versions = known_versions(api).unwrap();
            assert!((versions.min..=versions.max).all(|version| !begins_with_throttle_time(api, version)));
        }
    }

    #[test]
    fn every_api_has_both_shapes_in_order() {
        for shapes in [shapes::REQUESTS, shapes::RESPONSES] {
            assert!(shapes.windows(2).all(|pair| pair[0].api_key < pair[1].api_key));
            for api in ApiKey::ALL {
                let shape = shape_of(shapes, *api).expect("a shape");
                let known = known_versions(*api);
                assert!(
                    known.is_none_or(|known| shape.versions.0 <= known.min && known.max <= shape.versions.1),
                    "{api:?}"
                );
            }
        }
    }
}

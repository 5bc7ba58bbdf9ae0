//! Every request and answer in every version, as Kafka's generated classes write it (`Messages.java`,
//! kafka-clients 4.3.0), against the guard, kafka-protocol and our own codecs.

use bytes::{Bytes, BytesMut};
use kafka_wire::ErrorKind;
use kafka_wire::protocol::guard;
use kafka_wire::protocol::header::ReceivedRequest;
use kafka_wire::protocol::messages::{ApiKey, known_versions};
use kafka_wire::protocol::request::Response;
use tidewater_tests::java;
use tidewater_tests::real_kafka::{self, Version};

use crate::{assert_current, program};

/// One message of the file.
#[derive(Clone)]
pub(crate) struct Vector {
    pub(crate) line: String,
    pub(crate) api: ApiKey,
    pub(crate) is_request: bool,
    pub(crate) version: i16,
    /// Whether what may be null is null, and lists are empty.
    pub(crate) is_bare: bool,
    pub(crate) body: Bytes,
}

impl Vector {
    fn parse(line: &str) -> Self {
        let [key, kind, version, filling, hex] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        Self {
            line: line.to_owned(),
            api: ApiKey::try_from(key.parse::<i16>().expect("a key")).expect("a key of ours"),
            is_request: kind == "request",
            is_bare: filling == "bare",
            version: version.parse().expect("a version"),
            body: bytes_of(hex),
        }
    }

    /// Whether kafka-protocol, made from Kafka 4.1, knows this version.
    fn is_known(&self) -> bool {
        let Some(known) = known_versions(self.api) else { return false };
        // The answer's range, where the request's ends one version earlier.
        let newest = match self.api {
            ApiKey::OffsetCommit | ApiKey::OffsetFetch if self.is_request => 9,
            ApiKey::InitProducerId if self.is_request => 5,
            _ => known.max,
        };
        (known.min..=newest).contains(&self.version)
    }

    pub(crate) fn check(&self, body: &Bytes) -> kafka_wire::Result<()> {
        let check = if self.is_request { guard::check_request } else { guard::check_response };
        check(self.api, self.version, body)
    }

    /// Decodes `body`, guarded, and encodes what came out.
    fn recode(&self, body: Bytes) -> kafka_wire::Result<Bytes> {
        let mut bytes = BytesMut::new();
        let (api, version) = (self.api, self.version);
        if self.is_request {
            let request = ReceivedRequest { api, version, correlation_id: 0, client_id: None, body };
            request.decode_any()?.encode(&mut bytes, version).expect("encode what was decoded");
        } else {
            let response = Response { api, version, body };
            response.decode_any()?.encode(&mut bytes, version).expect("encode what was decoded");
        }
        Ok(bytes.freeze())
    }
}

pub(crate) fn bytes_of(hex: &str) -> Bytes {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

pub(crate) fn all() -> Vec<Vector> {
    include_str!("messages.txt").lines().map(Vector::parse).collect()
}

#[test]
fn the_bytes_are_those_that_kafkas_classes_write() {
    if !real_kafka::available() {
        return;
    }
    let authored = java::run(&real_kafka::jars(Version::V4_3), &program("Messages.java"), &[]);
    assert_current("tests/vectors/messages.txt", &authored);
}

#[test]
fn what_kafka_writes_passes_the_guard_and_comes_back_the_same_from_kafka_protocol() {
    let mut known = 0;
    for vector in all() {
        vector.check(&vector.body).unwrap_or_else(|error| panic!("{}: {error}", vector.line));
        if vector.is_known() {
            known += 1;
            let recoded =
                vector.recode(vector.body.clone()).unwrap_or_else(|error| panic!("{}: {error}", vector.line));
            assert_eq!(recoded, vector.body, "{}", vector.line);
        }
    }
    assert!(known > 1000, "only {known} messages were compared");
}

#[test]
fn a_message_that_ends_anywhere_is_refused_before_it_is_decoded() {
    for vector in all() {
        for end in 0..vector.body.len() {
            let error = vector.check(&vector.body.slice(..end)).expect_err(&vector.line);
            assert_eq!(error.kind(), ErrorKind::Protocol, "{}, {end} bytes", vector.line);
        }
    }
}

#[test]
fn what_passes_the_guard_after_a_byte_has_changed_never_stops_the_process() {
    let (mut refused, mut decoded, mut undecodable) = (0, 0, 0);
    for vector in all().into_iter().filter(Vector::is_known) {
        let mut bytes = vector.body.to_vec();
        for at in 0..bytes.len() {
            let byte = bytes[at];
            for other in [0, 0x7f, 0x80, 0xff, byte ^ 1, byte.wrapping_add(1)] {
                bytes[at] = other;
                let changed = Bytes::copy_from_slice(&bytes);
                match (vector.check(&changed), vector.recode(changed)) {
                    (Err(_), Err(_)) => refused += 1,
                    (Ok(()), Ok(_)) => decoded += 1,
                    // A tagged field in a version that Kafka skips it in; kafka-protocol does not.
                    (Ok(()), Err(error)) => {
                        assert!(
                            error.to_string().contains("not valid for version"),
                            "{}: {error}",
                            vector.line
                        );
                        undecodable += 1;
                    }
                    (Err(error), Ok(_)) => panic!("decoded in spite of {error}: {}", vector.line),
                }
            }
            bytes[at] = byte;
        }
    }
    assert!(refused > decoded / 10 && decoded > 100 * undecodable, "{refused} {decoded} {undecodable}");
}

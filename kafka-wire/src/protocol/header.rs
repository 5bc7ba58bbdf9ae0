//! What precedes each request and each answer: which call it is.

use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::guard;
use super::messages::{ApiKey, Decodable, Encodable, Exchange, RequestKind, crate_key};
use super::reader::{Malformed, Reader};
use super::request::{FrameBuilder, Request, Response, expect_api, known_answer, known_request};
use crate::error::{Error, ErrorKind, Result};

/// `request` as a frame, in pieces for vectored writes: length, header, body.
///
/// # Errors
/// When the request does not fit into `version`, or a name or the whole is too long for the protocol.
pub fn encode_request(
    request: &dyn Request,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<Vec<Bytes>> {
    let api = request.api();
    let mut body = FrameBuilder::new();
    request.encode(version, &mut body)?;
    let client_id = client_id.unwrap_or_default();
    let Ok(client_id_length) = i16::try_from(client_id.len()) else {
        return Err(Error::new(ErrorKind::Config, format!("send a client.id of {} bytes", client_id.len())));
    };
    let mut header = BytesMut::with_capacity(15 + client_id.len());
    header.put_i32(0);
    header.put_i16(api as i16);
    header.put_i16(version);
    header.put_i32(correlation_id);
    // Never compact, in no version, so that a broker can read it before it knows the version.
    header.put_i16(client_id_length);
    header.put_slice(client_id.as_bytes());
    if api.request_header_version(version) >= 2 {
        header.put_u8(0); // no tagged fields
    }
    frame(header, body)
}

/// Puts the length into the first four bytes of `header`.
fn frame(mut header: BytesMut, body: FrameBuilder) -> Result<Vec<Bytes>> {
    let length = header.len() - 4 + body.len();
    let Ok(length) = i32::try_from(length) else {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("send a frame of {length} bytes, limit 2147483647"),
        ));
    };
    header[..4].copy_from_slice(&length.to_be_bytes());
    let mut chunks = body.finish();
    chunks.insert(0, header.freeze());
    Ok(chunks)
}

/// Takes the header off an answer. `api`, `version` and `correlation_id` are those of the oldest request
/// that is not answered yet: a broker answers in order.
///
/// # Errors
/// `Protocol`, when the answer is to another request, or its header is malformed.
pub fn read_response(frame: &Bytes, api: ApiKey, version: i16, correlation_id: i32) -> Result<Response> {
    let what = || format!("header of a {api:?} answer version {version}");
    // An answer to ApiVersions always has header 0: the client has to read it before it knows anything.
    let flexible = api.response_header_version(version) >= 1;
    let mut reader = Reader::new(frame, flexible);
    let answered = reader.i32().map_err(|malformed| malformed.in_message(what()))?;
    if answered != correlation_id {
        return Err(Error::new(
            ErrorKind::Protocol,
            format!("read {}: it answers request {answered}, expected {correlation_id}", what()),
        ));
    }
    reader.skip_tags().map_err(|malformed| malformed.in_message(what()))?;
    Ok(Response { api, version, body: frame.slice(reader.position()..) })
}

/// A request as a broker gets it: the header is read, the body is not decoded yet.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// Which API it calls.
    pub api: ApiKey,
    /// In which version; not checked yet, since ApiVersions must be answered in any.
    pub version: i16,
    /// What the answer has to repeat.
    pub correlation_id: i32,
    /// The client's name for itself.
    pub client_id: Option<String>,
    /// The bytes after the header; slices of it share the frame's memory.
    pub body: Bytes,
}

impl ReceivedRequest {
    /// Decodes the request as an `M`.
    ///
    /// # Errors
    /// `Unsupported` when there is no such version, `Protocol` when the bytes are not such a request.
    pub fn decode<M: Exchange + Decodable>(self) -> Result<M> {
        expect_api::<M>(self.api)?;
        guard::check_request(self.api, self.version, &self.body)?;
        let mut body = self.body;
        let version = known_request(self.api, self.version);
        M::decode(&mut body, version).map_err(|cause| undecodable(self.api, self.version, cause))
    }

    /// Decodes the request, whatever it is.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_any(self) -> Result<RequestKind> {
        guard::check_request(self.api, self.version, &self.body)?;
        let mut body = self.body;
        RequestKind::decode(crate_key(self.api)?, &mut body, self.version)
            .map_err(|cause| undecodable(self.api, self.version, cause))
    }
}

fn undecodable(api: ApiKey, version: i16, cause: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Protocol, format!("decode {api:?} request version {version}: {cause:#}"))
}

/// Takes the header off a request.
///
/// # Errors
/// `Protocol`, when the API is not known or the header is malformed.
pub fn read_request(frame: &Bytes) -> Result<ReceivedRequest> {
    let malformed = |malformed: Malformed| malformed.in_message("header of a request");
    let mut reader = Reader::new(frame, false);
    let key = reader.i16().map_err(malformed)?;
    let version = reader.i16().map_err(malformed)?;
    let correlation_id = reader.i32().map_err(malformed)?;
    let Ok(api) = ApiKey::try_from(key) else {
        let text = format!("read a request: no API has key {key} (version {version})");
        return Err(Error::new(ErrorKind::Protocol, text));
    };
    let client_id = reader.nullable_str().map_err(malformed)?.map(str::to_owned);
    let start = reader.position();
    let body = frame.slice(start..);
    if api.request_header_version(version) < 2 {
        return Ok(ReceivedRequest { api, version, correlation_id, client_id, body });
    }
    let mut reader = Reader::new(&body, true);
    reader.skip_tags().map_err(malformed)?;
    let body = body.slice(reader.position()..);
    Ok(ReceivedRequest { api, version, correlation_id, client_id, body })
}

/// `answer` to request `correlation_id` as a frame, in pieces.
///
/// # Errors
/// `Usage`, when the answer does not fit into `version`.
pub fn encode_response(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    answer: &impl Encodable,
) -> Result<Vec<Bytes>> {
    let mut body = FrameBuilder::new();
    answer.encode(body.buffer(), known_answer(api, version)).map_err(|cause| {
        Error::new(ErrorKind::Usage, format!("encode {api:?} answer version {version}: {cause}"))
    })?;
    frame_response(api, version, correlation_id, body)
}

/// The answer with that body to request `correlation_id` as a frame, in pieces.
///
/// # Errors
/// `Usage`, when it is too long for the protocol.
pub fn frame_response(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    body: FrameBuilder,
) -> Result<Vec<Bytes>> {
    let mut header = BytesMut::with_capacity(9);
    header.put_i32(0);
    header.put_i32(correlation_id);
    if api.response_header_version(version) >= 1 {
        header.put_u8(0); // no tagged fields
    }
    frame(header, body)
}

#[cfg(test)]
mod tests {
    use super::super::api_versions::ApiVersionsRequest;
    use super::super::messages;
    use super::super::request::Plain;
    use super::*;

    fn whole(chunks: &[Bytes]) -> Bytes {
        Bytes::from(chunks.concat())
    }

    #[test]
    fn a_request_starts_with_its_length_and_header() {
        let heartbeat = Plain::new(messages::HeartbeatRequest::default());
        for (version, tags) in [(0, &[][..]), (3, &[]), (4, &[0])] {
            let frame = whole(&encode_request(&heartbeat, version, 7, Some("app")).unwrap());
            assert_eq!(frame[..4], u32::to_be_bytes(frame.len() as u32 - 4));
            let header = [&[0, 12, 0, version as u8, 0, 0, 0, 7, 0, 3][..], b"app", tags].concat();
            assert_eq!(frame[4..4 + header.len()], header);
            let read = read_request(&frame.slice(4..)).unwrap();
            assert_eq!((read.api, read.version, read.correlation_id), (ApiKey::Heartbeat, version, 7));
            assert_eq!(read.client_id.as_deref(), Some("app"));
            assert_eq!(read.body, frame.slice(4 + header.len()..));
        }
    }

    #[test]
    fn the_answer_to_api_versions_has_no_tagged_fields_in_its_header() {
        let frame = Bytes::from_static(&[0, 0, 0, 1, 0, 35, 0, 0, 0, 0]);
        let response = read_response(&frame, ApiKey::ApiVersions, 4, 1).unwrap();
        assert_eq!(response.body.len(), 6);
        let frame = Bytes::from_static(&[0, 0, 0, 1, 1, 9, 1, 7, 42]);
        let response = read_response(&frame, ApiKey::Metadata, 9, 1).unwrap();
        assert_eq!(response.body, &[42][..]);
    }

    #[test]
    fn an_answer_to_another_request_is_refused() {
        let error = read_response(&Bytes::from_static(&[0, 0, 0, 0x63]), ApiKey::Metadata, 0, 1).unwrap_err();
        assert!(error.to_string().contains("answers request 99, expected 1"), "{error}");
    }

    #[test]
    fn malformed_headers_are_errors() {
        for bytes in [
            &[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f][..], // four billion tagged fields
            &[0, 0, 0, 1, 2, 1, 0, 1, 0],                    // tag 1 twice
            &[0, 0, 0, 1, 1, 1, 200, 1],                     // longer than the frame
            &[0, 0, 0],
            &[0, 0, 0, 1],
        ] {
            assert!(
                read_response(&Bytes::copy_from_slice(bytes), ApiKey::Metadata, 9, 1).is_err(),
                "{bytes:?}"
            );
        }
        let request =
            whole(&encode_request(&ApiVersionsRequest::default(), 3, 1, Some("x")).unwrap()).slice(4..);
        for end in 0..12 {
            assert!(read_request(&request.slice(..end)).is_err(), "{end} bytes");
        }
        assert!(read_request(&Bytes::from_static(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff])).is_err());
    }
}

//! Any body as any request or answer in any version: it is refused or decoded, and what was decoded is
//! written and read again without a change.

use bytes::{Bytes, BytesMut};
use kafka_wire::protocol::api_versions::ApiVersionsResponse;
use kafka_wire::protocol::fetch::FetchResponse;
use kafka_wire::protocol::guard;
use kafka_wire::protocol::header::{ReceivedRequest, read_request, read_response};
use kafka_wire::protocol::messages::ApiKey;
use kafka_wire::protocol::metadata::MetadataResponse;
use kafka_wire::protocol::produce::ProduceResponse;
use kafka_wire::protocol::request::{FrameBuilder, Request as _, Response};
use kafka_wire::protocol::share::{
    ShareAcknowledgeRequest, ShareAcknowledgeResponse, ShareFetchRequest, ShareFetchResponse,
};
use kafka_wire::protocol::versions::VersionTable;

/// The first three bytes of `data` say what the rest is: API key, version, request or answer.
pub fn run(data: &[u8]) {
    let &[key, version, kind, ref body @ ..] = data else { return };
    let Ok(api) = ApiKey::try_from(i16::from(key)) else { return };
    let (version, body) = (i16::from(version), Bytes::copy_from_slice(body));
    // Headers, which are read before anything is known of the body.
    let _ = read_request(&body);
    let _ = read_response(&body, api, version, 0);
    if kind % 2 == 0 {
        same_again(body.clone(), |body| share_request(api, version, body));
        same_again(body, |body| {
            let mut bytes = BytesMut::new();
            let request = ReceivedRequest { api, version, correlation_id: 0, client_id: None, body };
            request.decode_any().ok()?.encode(&mut bytes, version).expect("encode what was decoded");
            Some(bytes.freeze())
        });
        return;
    }
    decode_hot(&Response { api, version, body: body.clone() });
    same_again(body.clone(), |body| share_answer(&Response { api, version, body }));
    same_again(body, |body| {
        let mut bytes = BytesMut::new();
        let answer = Response { api, version, body }.decode_any().ok()?;
        answer.encode(&mut bytes, version).expect("encode what was decoded");
        Some(bytes.freeze())
    });
}

/// The first writing may differ from what came: defaults are left out, and varints have a shortest form.
fn same_again(body: Bytes, recode: impl Fn(Bytes) -> Option<Bytes>) {
    if let Some(once) = recode(body) {
        assert_eq!(recode(once.clone()), Some(once));
    }
}

/// The calls of share groups, of which our own codecs have both sides.
fn share_request(api: ApiKey, version: i16, body: Bytes) -> Option<Bytes> {
    let is_sound = guard::check_request(api, version, &body).is_ok();
    let request = ReceivedRequest { api, version, correlation_id: 0, client_id: None, body };
    let mut frame = FrameBuilder::new();
    match api {
        ApiKey::ShareFetch => {
            decoded(ShareFetchRequest::decode(&request), is_sound)?.encode(version, &mut frame)
        }
        ApiKey::ShareAcknowledge => {
            decoded(ShareAcknowledgeRequest::decode(&request), is_sound)?.encode(version, &mut frame)
        }
        _ => return None,
    }
    .expect("encode what was decoded");
    Some(frame.finish().concat().into())
}

/// As [`share_request`].
fn share_answer(response: &Response) -> Option<Bytes> {
    let is_sound = guard::check_response(response.api, response.version, &response.body).is_ok();
    let mut frame = FrameBuilder::new();
    match response.api {
        ApiKey::ShareFetch => decoded(ShareFetchResponse::decode(response), is_sound)?.encode(&mut frame),
        ApiKey::ShareAcknowledge => decoded(ShareAcknowledgeResponse::decode(response), is_sound)?
            .encode(response.version, &mut frame),
        _ => return None,
    }
    .expect("encode what was decoded");
    Some(frame.finish().concat().into())
}

/// What the guard takes is decoded.
fn decoded<T>(result: kafka_wire::Result<T>, is_sound: bool) -> Option<T> {
    if is_sound { Some(result.expect("decode what the guard accepts")) } else { result.ok() }
}

/// Our own codecs take what the guard takes.
fn decode_hot(response: &Response) {
    let decoded = match response.api {
        // A refused version is answered in version 0, whatever was asked.
        ApiKey::ApiVersions if response.body.starts_with(&[0, 35]) => return,
        ApiKey::ApiVersions => {
            ApiVersionsResponse::decode(response).map(|answer| drop(VersionTable::new(answer)))
        }
        ApiKey::Fetch => FetchResponse::decode(response).map(drop),
        ApiKey::Metadata if response.version > 0 => MetadataResponse::decode(response).map(drop),
        ApiKey::Produce => ProduceResponse::decode(response).map(drop),
        _ => return,
    };
    if response.clone().decode_any().is_ok() {
        decoded.expect("decode what the guard accepts");
    }
}

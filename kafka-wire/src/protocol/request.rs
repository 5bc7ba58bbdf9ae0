//! What machines send and get: a request, encoded once a version is known, and an answer, decoded by
//! whoever asked.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};

use super::guard;
use super::messages::{ApiKey, Decodable, Exchange, Message, ResponseKind, crate_key};
use crate::error::{Error, ErrorKind, Result};

/// A request that is encoded when a connection, and so a version, is known.
pub trait Request: Send {
    /// Which API it calls.
    fn api(&self) -> ApiKey;

    /// The versions that can say what this request says; the highest that the broker also knows is used.
    fn versions(&self) -> RangeInclusive<i16>;

    /// Appends the body in `version` to `frame`.
    ///
    /// # Errors
    /// When a value does not fit into that version.
    fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()>;

    /// Whether the broker answers. Only Produce with `acks=0` is not answered.
    fn expects_response(&self) -> bool {
        true
    }
}

/// A message of `kafka-protocol` as a request: in all the versions that the crate knows, or fewer.
#[derive(Debug)]
pub struct Plain<M> {
    message: M,
    versions: RangeInclusive<i16>,
}

impl<M: Message> Plain<M> {
    /// The message in any version.
    pub fn new(message: M) -> Self {
        Self { message, versions: M::VERSIONS.min..=M::VERSIONS.max }
    }

    /// The message where only `versions` can say what it says.
    pub fn in_versions(message: M, versions: RangeInclusive<i16>) -> Self {
        Self { message, versions }
    }
}

impl<M: Exchange + Send> Request for Plain<M> {
    fn api(&self) -> ApiKey {
        api_of::<M>()
    }

    fn versions(&self) -> RangeInclusive<i16> {
        self.versions.clone()
    }

    fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()> {
        self.message.encode(frame.buffer(), known_request(self.api(), version)).map_err(|cause| {
            Error::new(
                ErrorKind::Usage,
                format!("encode {:?} request version {version}: {cause:#}", self.api()),
            )
        })
    }
}

/// A message that has another shape in some versions: it is built when the version is known.
pub struct ByVersion<M> {
    versions: RangeInclusive<i16>,
    build: Box<dyn Fn(i16) -> M + Send>,
}

impl<M: Message> ByVersion<M> {
    /// What `build` makes for one of `versions`.
    pub fn new(versions: RangeInclusive<i16>, build: impl Fn(i16) -> M + Send + 'static) -> Self {
        Self { versions, build: Box::new(build) }
    }
}

impl<M: Exchange + Send> Request for ByVersion<M> {
    fn api(&self) -> ApiKey {
        api_of::<M>()
    }

    fn versions(&self) -> RangeInclusive<i16> {
        self.versions.clone()
    }

    fn encode(&self, version: i16, frame: &mut FrameBuilder) -> Result<()> {
        Plain::new((self.build)(version)).encode(version, frame)
    }
}

/// The key of the API that `M` calls.
#[allow(clippy::expect_used, reason = "the crate's own constant is in the crate's own table")]
pub fn api_of<M: Exchange>() -> ApiKey {
    ApiKey::try_from(M::KEY).expect("kafka-protocol lists every key it has a request for")
}

/// The version as which `kafka-protocol`, which lacks some of the newest, knows a request: the last one that looks the
/// same. ListOffsets 11 has a new number among its timestamps (KIP-1023), in the others only the answer has changed.
pub(super) fn known_request(api: ApiKey, version: i16) -> i16 {
    match (api, version) {
        (ApiKey::ListOffsets, 11) => 10,
        (ApiKey::DescribeLogDirs, 5) => 4,
        (ApiKey::DescribeShareGroupOffsets, 1) => 0,
        _ => version,
    }
}

/// As [`known_request`], of an answer.
pub(super) fn known_answer(api: ApiKey, version: i16) -> i16 {
    if api == ApiKey::ListOffsets { version.min(10) } else { version }
}

/// Whether what calls or answers `api` can be decoded as an `M`, or its answer.
pub(super) fn expect_api<M: Exchange>(api: ApiKey) -> Result<()> {
    if api as i16 == M::KEY {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, format!("decode {api:?} as {:?}", api_of::<M>())))
}

/// A request on its way to bytes: what is written into it, and large pieces that are only referred to.
#[derive(Debug, Default)]
pub struct FrameBuilder {
    chunks: Vec<Bytes>,
    tail: BytesMut,
    length: usize,
}

impl FrameBuilder {
    /// An empty frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where small values are written.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends `bytes` without copying them.
    pub fn push(&mut self, bytes: Bytes) {
        self.seal_tail();
        self.length += bytes.len();
        self.chunks.push(bytes);
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.length + self.tail.len()
    }

    /// Whether nothing was appended yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces, in order; to be sent by vectored writes.
    pub fn finish(mut self) -> Vec<Bytes> {
        self.seal_tail();
        self.chunks
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            self.length += self.tail.len();
            self.chunks.push(self.tail.split().freeze());
        }
    }
}

/// An answer whose header has been read and whose body is not decoded yet.
#[derive(Clone)]
pub struct Response {
    /// Which API was called.
    pub api: ApiKey,
    /// In which version.
    pub version: i16,
    /// The bytes after the response header; slices of it share the frame's memory.
    pub body: Bytes,
}

impl Response {
    /// Decodes the answer to a request of type `M`.
    ///
    /// # Errors
    /// `Protocol`, when the bytes are not such an answer.
    pub fn decode<M: Exchange>(self) -> Result<M::Response> {
        expect_api::<M>(self.api)?;
        guard::check_response(self.api, self.version, &self.body)?;
        let mut body = self.body;
        M::Response::decode(&mut body, known_answer(self.api, self.version)).map_err(|cause| {
            Error::new(
                ErrorKind::Protocol,
                format!("decode {:?} answer version {}: {cause:#}", self.api, self.version),
            )
        })
    }
}

impl Response {
    /// Decodes the answer, whatever it answers.
    ///
    /// # Errors
    /// `Unsupported` when there is no such version, `Protocol` when the bytes are not such an answer.
    pub fn decode_any(self) -> Result<ResponseKind> {
        guard::check_response(self.api, self.version, &self.body)?;
        let mut body = self.body;
        ResponseKind::decode(crate_key(self.api)?, &mut body, self.version).map_err(|cause| {
            let text = format!("decode {:?} answer version {}: {cause:#}", self.api, self.version);
            Error::new(ErrorKind::Protocol, text)
        })
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} v{} ({} bytes)", self.api, self.version, self.body.len())
    }
}

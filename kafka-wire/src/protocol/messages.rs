//! The only file that names `kafka_protocol`: its messages, and the traits that turn them into bytes.

pub use super::api_key::ApiKey;
use crate::error::{Error, ErrorKind, Result};
pub use kafka_protocol::messages::*;
pub use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Message, Request as Exchange, StrBytes, VersionRange,
};

/// Its own keys, which lack those of Streams groups (KIP-1071).
pub(super) use kafka_protocol::messages::ApiKey as CrateApiKey;

/// The versions of the answers of `api` that it knows; `None` where it has no messages for it.
pub fn known_versions(api: ApiKey) -> Option<VersionRange> {
    crate_key(api).ok().map(|key| key.valid_versions())
}

/// Its key of `api`.
pub(super) fn crate_key(api: ApiKey) -> Result<CrateApiKey> {
    let unknown =
        || Error::new(ErrorKind::Unsupported, format!("decode {}: no general codec has it", api.name()));
    CrateApiKey::try_from(api as i16).map_err(|()| unknown())
}

/// Its record codec: what ours is compared with in tests.
#[cfg(all(test, feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
pub(crate) use kafka_protocol::records as reference;

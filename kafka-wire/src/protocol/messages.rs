//! The only file that names `kafka_protocol`: its messages, and the traits that turn them into bytes.

pub use kafka_protocol::messages::*;
pub use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Message, Request as Exchange, StrBytes, VersionRange,
};

/// Its record codec: what ours is compared with in tests.
#[cfg(all(test, feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
pub(crate) use kafka_protocol::records as reference;

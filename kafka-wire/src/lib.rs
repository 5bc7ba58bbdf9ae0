//! A native Kafka client in pure Rust.

// Layers, lowest first; imports point only downwards (see ARCHITECTURE.md).
mod error;
mod error_code;
#[doc(hidden)] // for this workspace's broker, fuzz targets and benches; outside semver
pub mod protocol;
#[doc(hidden)] // likewise
pub mod record;
mod types;

pub use error::{Error, ErrorCode, ErrorKind, Result};
pub use record::{Compression, Header, Headers, RecordRef};
pub use types::{
    Acks, BrokerId, Codec, Isolation, LeaderEpoch, ProducerIdentity, TimestampType, TopicId, TopicPartition,
};

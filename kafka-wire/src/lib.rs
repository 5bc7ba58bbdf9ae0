//! A native Kafka client in pure Rust.

// Layers, lowest first; imports point only downwards (see ARCHITECTURE.md).
#[cfg_attr(
    not(feature = "net"),
    allow(dead_code, unused_imports, reason = "driven by the handle, or by tests")
)]
mod admin;
mod cluster;
pub mod config;
mod connection;
#[cfg_attr(
    not(feature = "net"),
    allow(dead_code, unused_imports, reason = "driven by the handle, or by tests")
)]
mod consumer;
#[doc(hidden)] // for tests and simulation; outside semver
pub mod engine;
mod error;
mod error_code;
#[cfg(feature = "net")]
mod net;
#[cfg_attr(not(feature = "net"), allow(dead_code, reason = "the handle fills the accumulator"))]
#[doc(hidden)] // the machine, for tests and simulation; outside semver
pub mod producer;
#[doc(hidden)] // for this workspace's broker, fuzz targets and benches; outside semver
pub mod protocol;
#[doc(hidden)] // likewise
pub mod record;
mod reply;
mod time;
mod txn;
mod types;

pub use admin::cluster::ClusterDescription;
pub use admin::configs::{ConfigChange, ConfigEntry};
pub use admin::groups::{GroupDescription, GroupListing, GroupMember};
pub use admin::topics::NewTopic;
pub use cluster::{Broker, Cluster, CoordinatorKind, Partition, Topic};
pub use consumer::{FetchedBatch, OffsetAndEpoch, Position};
pub use error::{Error, ErrorCode, ErrorKind, Result};
#[cfg(feature = "net")]
pub use net::admin::{Admin, Results};
#[cfg(feature = "net")]
pub use net::consumer::Consumer;
#[cfg(feature = "net")]
pub use net::{DeliveryCallback, Producer, TransactionalProducer};
pub use producer::{BatchMetadata, BatchReceipt, Receipt, Record, RecordMetadata, partition_for_key};
pub use record::{Compression, Header, Headers, RecordRef};
pub use txn::GroupMetadata;
pub use types::{
    Acks, BrokerId, Codec, CommittedOffset, Isolation, LeaderEpoch, ListedOffset, OffsetSpec,
    ProducerIdentity, TimestampType, TopicId, TopicPartition,
};

//! A Kafka client in pure Rust: producer, transactions, consumer with groups or without, and administration, for
//! Kafka 2.4 to 4.3.
//!
//! ```no_run
//! use std::time::Duration;
//! use kafka_wire::config::Properties;
//! use kafka_wire::{Consumer, Producer, Record};
//!
//! # async fn example() -> kafka_wire::Result<()> {
//! let mut properties = Properties::new();
//! properties.set("bootstrap.servers", "localhost:9092")?;
//! let producer = Producer::from_properties(&properties)?;
//! let written = producer.send(Record::to("orders").partition(0).key("42").value("7.50")).await?;
//! println!("written to {} at {:?}", written.partition, written.offset);
//! producer.close(Duration::from_secs(5)).await?;
//!
//! let mut consumer =
//!     Consumer::builder().bootstrap("localhost:9092").group("billing").subscribe(["orders"]).build()?;
//! let batch = consumer.poll(Duration::from_secs(1)).await?;
//! for record in &batch {
//!     println!("{}: {:?}", record.offset, record.value);
//! }
//! consumer.commit().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Settings have Java's names and meaning; [`config`] lists them, each default with its reason. The [`guide`] is for who
//! comes from another client, and for delivery, groups, security, figures, tuning and tests.
//!
//! # What is promised
//!
//! - **A record that is acknowledged is written once**, and records of one producer to one partition are in the order
//!   in which they were sent, whatever breaks on the way: the producer is idempotent with `acks=all` by default.
//! - **A record whose sending failed is not written**, unless [`Error::possibly_written`] says that nobody knows: the
//!   answer was lost, and the time (`delivery.timeout.ms`) ran out. The client never guesses.
//! - **A transaction is seen as a whole or not at all** by readers with `isolation.level=read_committed`; consumed
//!   offsets can be part of it ([`Producer::send_offsets_to_transaction`]), and a newer producer with the same
//!   `transactional.id` fences the older.
//! - **A consumer hands out every record of its partitions in order**, checks every batch's checksum, and never skips
//!   silently: where its position is gone, `auto.offset.reset` says what to do, and with `none` it is a `DataLoss`
//!   error. What was polled and not committed is read again after a restart: at least once, unless offsets are part
//!   of a transaction.
//! - **A member of a group commits only what is its own**: while it deals with a batch nothing of it goes to others
//!   without a word; what others have by now is refused, before it can undo their commits, and a rebalance that leaves
//!   the partitions where they are is waited for.
//!
//! # Errors
//!
//! An [`Error`] says what was attempted, with the numbers, the cause, and what to do. [`Error::kind`] tells who is at
//! fault. What may pass is retried by the client itself, until the call's time is up; so an error that arrives is news:
//! [`Error::is_fatal`] (make another client), [`Error::is_abortable`] (abort the transaction, go on),
//! [`Error::is_retriable`] (trying again later may help).
//!
//! # Cancel safety
//!
//! Any future may be dropped at any time, and the client stays whole. Each method says under "Cancel safety" whether
//! what it began goes on: a record that is enqueued is sent whether or not its receipt is awaited; a batch that a
//! dropped poll would have returned is returned by the next; a dropped commit may be carried out.
//!
//! # Security
//!
//! `security.protocol` takes all four values, with Java's settings: `ssl.*` with stores in PEM (files or inline) or
//! PKCS#12, and `sasl.mechanism` `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER` with `sasl.jaas.config` as
//! it is, or with `sasl.username` and `sasl.password`. Changed files of certificates and keys are read with the next
//! connection (KIP-1288), sessions are renewed without a break (KIP-368). Differences from Java: host names are always
//! checked; `PLAIN` and `OAUTHBEARER` without TLS need `sasl.allow.cleartext=true`; tokens can be read from a file with
//! `sasl.oauthbearer.token.file`. Kerberos and JKS stores are not supported, and errors say what to do instead.
//!
//! ```
//! use kafka_wire::config::{ClientConfig, Properties};
//!
//! let mut properties = Properties::new();
//! for (name, value) in [
//!     ("bootstrap.servers", "kafka.example.com:9093"),
//!     ("security.protocol", "SASL_SSL"),
//!     ("sasl.mechanism", "SCRAM-SHA-512"),
//!     ("sasl.username", "alice"),
//!     ("sasl.password", "hunter2"),
//! ] {
//!     properties.set(name, value)?;
//! }
//! let config = ClientConfig::from_properties(&properties)?;
//! assert!(!format!("{config:?}{properties:?}").contains("hunter2"));
//! # Ok::<(), kafka_wire::Error>(())
//! ```
//!
//! # Threads and runtimes
//!
//! Each client has one I/O thread of its own, which ends with its last handle. Handles need no async runtime: their
//! futures are woken by it and run under any executor, and `…_blocking` methods serve plain threads. [`Producer`] and
//! [`Admin`] are cheap to clone and work from many threads; a [`Consumer`] belongs to one at a time. Memory is bounded:
//! `buffer.memory` for what is not sent yet, `queued.max.bytes` for what is not read yet.
//!
//! # Features
//!
//! These are on by default. `net`: sockets and the handles; without it the crate is the protocol machines alone, without
//! tokio. `tls`: TLS 1.2 and 1.3 by rustls, with the system's certificates or a file's, client certificates, and tokens
//! from OpenID providers. `metrics`: figures through the facade of that name. `gzip`, `snappy`, `lz4`, `zstd`: the codecs.
//! There is no C in any of them.
//!
//! `schema` is not on by default: the client of schema registries, with Avro, JSON Schema and Protobuf.

// Layers, lowest first; imports point only downwards (see ARCHITECTURE.md).
#[cfg_attr(
    not(feature = "net"),
    allow(dead_code, unused_imports, reason = "driven by the handle, or by tests")
)]
pub mod admin;
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
#[cfg_attr(
    not(feature = "net"),
    allow(dead_code, unused_imports, reason = "driven by the handle, or by tests")
)]
#[doc(hidden)] // the assignors, for fuzz targets; outside semver
pub mod group;
pub mod guide;
pub mod metrics;
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
#[cfg(feature = "schema")]
pub mod schema;
#[doc(hidden)] // SASL, for this workspace's broker and tests; outside semver
pub mod security;
#[cfg_attr(
    not(feature = "net"),
    allow(dead_code, unused_imports, reason = "driven by the handle, or by tests")
)]
mod share;
mod time;
mod txn;
mod types;

pub use admin::{
    ClusterDescription, ConfigChange, ConfigEntry, ConfigResource, GroupDescription, GroupListing,
    GroupMember, NewTopic, TopicDescription,
};
pub use cluster::{Broker, Cluster, CoordinatorKind, Partition, Topic};
pub use consumer::{FetchedBatch, OffsetAndEpoch, Position};
pub use error::{Error, ErrorCode, ErrorKind, Result};
pub use group::GroupMembershipOperation;
#[cfg(feature = "net")]
pub use net::admin::{Admin, Results};
#[cfg(feature = "net")]
pub use net::consumer::{CloseOptions, Consumer, ConsumerBuilder, RebalanceListener};
#[cfg(feature = "net")]
pub use net::share::ShareConsumer;
#[cfg(feature = "net")]
pub use net::{DeliveryCallback, Producer, ProducerBuilder, TransactionalProducer};
pub use producer::{
    BatchMetadata, BatchReceipt, OwnedRecord, Partitioner, ProducerInterceptor, Purge, Receipt, Record,
    RecordMetadata, TopicPartitions, partition_for_key,
};
pub use record::{Compression, Header, Headers, RecordRef};
pub use share::{AcknowledgeType, AcknowledgementResult, ShareBatch, ShareRecord, ShareRecordIter};
pub use txn::GroupMetadata;
pub use types::{
    Acks, BrokerId, Codec, CommittedOffset, Isolation, LeaderEpoch, ListedOffset, NotAUuid, OffsetSpec,
    ProducerIdentity, TimestampType, TopicId, TopicPartition, Uuid,
};

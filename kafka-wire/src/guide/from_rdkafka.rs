//! Coming from rdkafka.
//!
//! | rdkafka | here |
//! |---|---|
//! | `ClientConfig::new().set(…)` | [`Properties`](crate::config::Properties), with Java's names; a name of librdkafka's is an error that says Java's |
//! | `FutureProducer::send(record, timeout).await` | `Producer::send(record).await`: how long it may take is `delivery.timeout.ms` |
//! | `send_result`, and the future awaited later | `Producer::try_enqueue` gives a [`Receipt`](crate::Receipt), which is a future |
//! | `ThreadedProducer`, `ProducerContext::delivery` | `Producer::with_delivery_callback`, or `Receipt::then` |
//! | `BaseProducer::poll` | nothing: a thread of the client's own does it |
//! | `FutureRecord::to(…).key(…).payload(…)` | `Record::to(…).key(…).value(…)` |
//! | `StreamConsumer::recv`, a record | `Consumer::poll`, a batch that lends out its records |
//! | `BorrowedMessage::detach` | keep the batch: it owns its bytes |
//! | `ConsumerContext::pre_rebalance`, `post_rebalance` | `RebalanceListener`, or `ConsumerBuilder::on_assigned`, `on_revoked`, `on_lost` |
//! | `store_offset` and `enable.auto.offset.store` | `Consumer::commit_offsets`, or `commit` for all that was polled |
//! | `TopicPartitionList` | an iterator of `(TopicPartition, …)` |
//! | `AdminClient` | `Admin`, with all that Java's has |
//! | `MockCluster` | the crate `tidewater-broker`: see [`testing`](super::testing) |
//! | `statistics.interval.ms`, JSON | the `metrics` facade: see [`observability`](super::observability) |
//! | features `ssl`, `gssapi`, `cmake-build` | TLS is in by default, without C; Kerberos is not there |
//!
//! # What is different
//!
//! - Idempotence with `acks=all` is the default, and records with a key go where Java sends them (murmur2; librdkafka's
//!   default is CRC32, so that its keys are in other partitions: write a topic with one of the two).
//! - `enable.auto.commit` is `false`: what was polled is committed when you say so.
//! - `cooperative-sticky` needs nothing but the setting: no call of `incremental_assign`.
//! - Dropping a consumer does not wait for anything; `close` does, up to a time.
//! - There is no end-of-partition event; compare `Consumer::position` with `FetchedBatch::high_watermark`.
//! - Transactions follow KIP-890, so that a late commit cannot end up in the next transaction.
//!
//! ```
//! use kafka_wire::config::Properties;
//!
//! let error = Properties::new().set("queue.buffering.max.ms", "5").unwrap_err();
//! assert!(error.to_string().contains("linger.ms"));
//! ```
//!
//! The consumer's loop:
//!
//! ```no_run
//! # use std::time::Duration;
//! # async fn example() -> kafka_wire::Result<()> {
//! let mut consumer =
//!     kafka_wire::Consumer::builder().bootstrap("localhost:9092").group("g").subscribe(["orders"]).build()?;
//! loop {
//!     let batch = consumer.poll(Duration::from_millis(100)).await?;
//!     for record in &batch {
//!         let text = record.value.map(String::from_utf8_lossy);
//!         println!("{} {}: {text:?}", batch.topic_partition(), record.offset);
//!     }
//!     consumer.commit().await?;
//! }
//! # }
//! ```

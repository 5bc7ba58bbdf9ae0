//! Groups: members, rebalances, commits; and share groups.
//!
//! | | who divides | needs | setting |
//! |---|---|---|---|
//! | classic | a member | any Kafka | `group.protocol=classic`, the default |
//! | KIP-848 | the coordinator | Kafka 4.0 | `group.protocol=consumer` |
//! | share group | nobody: any member gets any record | Kafka 4.1 | `ShareConsumer` |
//!
//! Classic groups divide by `partition.assignment.strategy` (range, roundrobin, sticky, cooperative-sticky) as Java's
//! members do, and may be mixed with them. With `cooperative-sticky` alone, or with KIP-848, partitions that stay are
//! read on during a rebalance. `group.instance.id` makes a member static: back within `session.timeout.ms` it finds its
//! partitions again without a rebalance.
//!
//! # The loop
//!
//! ```no_run
//! # use std::time::Duration;
//! # use kafka_wire::Consumer;
//! # async fn example() -> kafka_wire::Result<()> {
//! let mut consumer = Consumer::builder()
//!     .bootstrap("localhost:9092")
//!     .group("billing")
//!     .set("auto.offset.reset", "earliest")
//!     .set("group.protocol", "consumer")
//!     .on_assigned(|_, partitions| println!("mine: {partitions:?}"))
//!     .on_revoked(|_, partitions| println!("given up: {partitions:?}"))
//!     .subscribe(["orders", "payments"])
//!     .build()?;
//! loop {
//!     let batch = consumer.poll(Duration::from_millis(100)).await?;
//!     for record in &batch {
//!         // … work …
//! #       let _ = record;
//!     }
//!     consumer.commit().await?;
//! }
//! # }
//! ```
//!
//! - Partitions are taken away only inside `poll`, after `on_revoked`, where a last commit has its place; `on_lost` means
//!   that others have them already.
//! - Poll again within `max.poll.interval.ms` (5 min), or the group goes on without this member until it does.
//! - `subscribe_pattern("orders-.*")` reads all topics whose whole name matches, also those to come.
//!
//! # Commits
//!
//! `commit` waits for the group's offsets behind all that was polled; `commit_async` does not wait; `commit_offsets` and
//! `commit_record` say exactly what. With `enable.auto.commit=true` a poll commits, every `auto.commit.interval.ms`, what
//! earlier polls gave out. Commits keep their order, and one that comes after a loss is refused, not written over what
//! the new owner has committed. `close` commits (where that is automatic) and leaves, within a time.
//!
//! # Share groups
//!
//! A queue: more members than partitions are of use, each record is acknowledged for itself, and one that failed is
//! delivered again, to anybody, a limited number of times (the group's `group.share.delivery.count.limit`).
//!
//! ```no_run
//! # use std::time::Duration;
//! # use kafka_wire::config::{Properties, ShareConsumerConfig};
//! # use kafka_wire::{AcknowledgeType, ShareConsumer};
//! # fn work(_: Option<&[u8]>) -> bool { true }
//! # async fn example() -> kafka_wire::Result<()> {
//! let properties = Properties::parse(
//!     "bootstrap.servers=localhost:9092\ngroup.id=workers\nshare.acknowledgement.mode=explicit\n",
//! )?;
//! let mut consumer = ShareConsumer::from_properties(&properties)?;
//! consumer.subscribe(["jobs"])?;
//! loop {
//!     let batch = consumer.poll(Duration::from_millis(100)).await?;
//!     for shared in &batch {
//!         let done = work(shared.record.value);
//!         let verdict = if done { AcknowledgeType::Accept } else { AcknowledgeType::Release };
//!         consumer.acknowledge(batch.topic_partition(), shared.record.offset, verdict)?;
//!     }
//! }
//! # }
//! ```

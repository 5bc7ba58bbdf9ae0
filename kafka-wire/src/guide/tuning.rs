//! What bounds memory, what makes batches, what costs time.
//!
//! The defaults are for throughput at a few milliseconds and a few dozen MiB. Change one thing at a time, and look at
//! the figures ([`observability`](super::observability)).
//!
//! # A producer
//!
//! | property | default | |
//! |---|---|---|
//! | `buffer.memory` | 32 MiB | all records that are not acknowledged; `send` waits above it, up to `max.block.ms` |
//! | `batch.size` | 128 KiB | a batch that is full is sent at once |
//! | `linger.ms` | 5 | one that is not full is sent after this; 0 sends when the connection is free |
//! | `compression.type` | none | lz4 for speed, zstd for size; done on the thread that sends the record |
//! | `max.request.size` | 1 MiB | the largest record; `message.max.bytes` of the brokers must allow it |
//! | `max.in.flight.requests.per.connection` | 5 | order holds at any value up to 5 |
//!
//! For throughput do not await each record: `enqueue` many, then await receipts, or `flush`. For latency
//! set `linger.ms=0`. Records without a key stick to a partition until a batch is full, so that few batches are full
//! ones.
//!
//! # A consumer
//!
//! | property | default | |
//! |---|---|---|
//! | `queued.max.bytes` | 8 MiB | what was fetched and waits; when it is reached, fetching pauses |
//! | `fetch.max.bytes` | 2 MiB | one answer; about five are in memory at a time |
//! | `max.partition.fetch.bytes` | 1 MiB | of one partition in an answer |
//! | `fetch.min.bytes` | 1 | more, with `fetch.max.wait.ms`, makes fewer and fuller answers |
//! | `max.poll.records` | no limit | cuts batches; needed only where a batch is too much for `max.poll.interval.ms` |
//!
//! A batch owns its bytes: for an uncompressed one they are the broker's whole answer, so do not keep batches, but copy
//! what is to be kept. Batches are decompressed one at a time, when they are polled, on the thread that polls.
//! Ten thousand partitions cost a batch no more than four.
//!
//! # Time
//!
//! `request.timeout.ms` (30 s) is for one answer, `delivery.timeout.ms` (2 min) for a record with all repetitions,
//! `default.api.timeout.ms` (60 s) for a call of an admin client or a commit, `socket.connection.setup.timeout.ms` (10 s)
//! for a connection. Pauses between attempts grow from `retry.backoff.ms` and `reconnect.backoff.ms`.
//!
//! ```
//! use kafka_wire::config::{ProducerConfig, Properties};
//!
//! // Many small records, as soon as they come, through a thin line.
//! let properties = Properties::parse("bootstrap.servers=a:1\nlinger.ms=0\ncompression.type=zstd\n")?;
//! let config = ProducerConfig::from_properties(&properties)?;
//! assert!(config.linger.is_zero() && config.buffer_memory == 32 << 20);
//! # Ok::<(), kafka_wire::Error>(())
//! ```

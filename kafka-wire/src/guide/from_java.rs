//! Coming from Java's clients.
//!
//! A `kafka.properties` file is taken as it is. What means nothing here (`key.serializer`, `metric.reporters`, …) is
//! passed over with a warning that says why; what must not be passed over, and a name that nobody knows, are errors.
//!
//! | Java | here |
//! |---|---|
//! | `new KafkaProducer<>(properties)` | `Producer::from_properties` |
//! | `producer.send(record, callback)` | `Producer::enqueue`, then `Receipt::then` |
//! | `producer.send(record).get()` | `Producer::send(record).await`, or `enqueue_blocking(record)?.wait()` |
//! | `ProducerRecord`, `ConsumerRecord` | [`Record`](crate::Record), [`RecordRef`](crate::RecordRef): bytes, borrowed |
//! | `Serializer`, `Deserializer` | your own code; `kafka_wire::schema` for registries |
//! | `consumer.poll(Duration)` | `Consumer::poll`: one batch of one partition; `max.poll.records` cuts it |
//! | `consumer.commitSync()`, `commitAsync(…)` | `Consumer::commit`, `commit_async` |
//! | `consumer.wakeup()` | drop the future of `poll`: nothing is lost |
//! | `consumer.seekToBeginning`, `seekToEnd`, `offsetsForTimes` | `Consumer::seek` to a [`Position`](crate::Position), `list_offsets` |
//! | `ConsumerRebalanceListener` | `RebalanceListener` |
//! | `ProducerInterceptor`, `Partitioner` | the traits of these names, given to `Producer::builder` |
//! | `KafkaShareConsumer` | `ShareConsumer` |
//! | `Admin.create(…)` | `Admin::from_properties`; a call gives all results, each of which may be an error |
//! | `RetriableException`, `…FatalException` | [`Error::is_retriable`](crate::Error::is_retriable), [`Error::is_fatal`](crate::Error::is_fatal) |
//! | JMX | the `metrics` facade, under JMX's names |
//! | `MockProducer`, `MockConsumer` | the embedded broker: see [`testing`](super::testing) |
//! | `kafka-topics.sh`, `kafka-console-consumer.sh` … | `tidewater topic`, `tidewater consume` … |
//!
//! # Other defaults
//!
//! | property | Java | here | why |
//! |---|---|---|---|
//! | `isolation.level` | `read_uncommitted` | `read_committed` | what was aborted was never meant to be seen |
//! | `enable.auto.commit` | `true` | `false` | a timer commits what nobody has dealt with yet |
//! | `allow.auto.create.topics` | `true` | `false` | a mistyped name should be an error |
//! | `batch.size` | 16 KiB | 128 KiB | fewer requests; memory is bounded by `buffer.memory` all the same |
//! | `fetch.max.bytes` | 50 MiB | 2 MiB | no slower, and a consumer needs 24 MiB |
//! | `max.poll.records` | 500 | no limit | a batch costs nothing until it is looked at |
//! | `send.buffer.bytes`, `receive.buffer.bytes` | 128, 64 KiB | the system's | fixed ones hold back distant brokers |
//! | `client.id` | counted up | `tidewater` | a number names nobody |
//!
//! ```
//! use kafka_wire::config::{ProducerConfig, Properties};
//! use kafka_wire::Codec;
//!
//! let properties = Properties::parse(
//!     "bootstrap.servers = kafka:9092\n\
//!      key.serializer = org.apache.kafka.common.serialization.StringSerializer\n\
//!      compression.type = lz4\n",
//! )?;
//! assert_eq!(ProducerConfig::from_properties(&properties)?.compression, Codec::Lz4);
//! // Keys go to the partitions to which Java sends them.
//! assert_eq!(kafka_wire::partition_for_key(b"foobar", 10), 6);
//! # Ok::<(), kafka_wire::Error>(())
//! ```

//! What the producer's tests share: producers with little patience, and a reader.

use std::time::Duration;

use kafka_wire::config::{ClientConfig, ConsumerConfig, ProducerConfig, Properties};
use kafka_wire::{Consumer, Isolation, OffsetSpec, Position, TopicPartition};
use tidewater_broker::EmbeddedBroker;

/// A producer's configuration for `broker`, with `settings` on top.
pub(crate) fn config(broker: &EmbeddedBroker, settings: &[(&str, &str)]) -> ProducerConfig {
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", broker.bootstrap()).unwrap();
    properties.set("retry.backoff.ms", "5").unwrap();
    properties.set("reconnect.backoff.ms", "5").unwrap();
    for (name, value) in settings {
        properties.set(*name, *value).unwrap();
    }
    ProducerConfig::from_properties(&properties).unwrap()
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Everything committed that a partition holds, by its values.
pub(crate) fn values(broker: &EmbeddedBroker, partition: &TopicPartition) -> Vec<String> {
    let seen = read(broker, partition);
    seen.into_iter().map(|record| String::from_utf8(record.value).unwrap()).collect()
}

/// Everything committed that a partition holds, up to its very end: a commit is answered before its markers
/// are written.
pub(crate) fn read(broker: &EmbeddedBroker, partition: &TopicPartition) -> Vec<Seen> {
    let client = ClientConfig::bootstrap(&broker.bootstrap()).unwrap();
    let config = ConsumerConfig { client, isolation: Isolation::ReadCommitted, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(config).unwrap();
    consumer.assign([(partition.clone(), Position::Beginning)]).unwrap();
    let asked = consumer.list_offsets([(partition.clone(), OffsetSpec::Latest)], Isolation::ReadUncommitted);
    let end = crate::block_on(asked).unwrap()[0].1.offset.unwrap_or(0);
    let mut seen = Vec::new();
    while crate::block_on(consumer.position(partition)).unwrap().offset < end {
        // A commit marker at the end moves the position without giving a batch.
        let batch = consumer.poll_blocking(Duration::from_millis(20)).unwrap();
        seen.extend(batch.iter().map(|record| {
            Seen {
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.unwrap_or_default().to_vec(),
                headers: record
                    .headers()
                    .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                    .collect(),
            }
        }));
    }
    seen
}

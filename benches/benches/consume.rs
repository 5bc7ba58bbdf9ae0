//! The consumer against an embedded broker in another process, checksums on, each value looked at: CPU time of this
//! process, in µs a record of 100 bytes.
//!
//! `cargo bench -p tidewater-benches --bench consume [-- RECORDS]`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports to a person and may stop")]

use std::time::Duration;

use kafka_wire::config::{ConsumerConfig, Properties};
use kafka_wire::{Consumer, Position, TopicPartition};
use tidewater_benches::{Broker, PARTITIONS, cpu_s, produce};

fn main() {
    let records = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3_000_000);
    for codec in ["none", "lz4"] {
        let broker = Broker::start("consume");
        produce(&broker.bootstrap, "consume", codec, records);
        let before = cpu_s();
        consume(&broker.bootstrap, records);
        println!("consume {codec:5} {:8.3} µs a record", (cpu_s() - before) * 1e6 / records as f64);
    }
}

fn consume(bootstrap: &str, records: usize) {
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", bootstrap).unwrap();
    let mut consumer = Consumer::new(ConsumerConfig::from_properties(&properties).unwrap()).unwrap();
    let partitions =
        (0..PARTITIONS).map(|index| (TopicPartition::new("consume", index), Position::Beginning));
    consumer.assign(partitions).unwrap();
    let (mut seen, mut bytes) = (0, 0);
    while seen < records {
        let batch = consumer.poll_blocking(Duration::from_secs(30)).unwrap();
        assert!(!batch.is_empty(), "{seen} of {records} records came");
        for record in &batch {
            seen += 1;
            bytes += record.value.map_or(0, <[u8]>::len);
        }
    }
    assert_eq!((seen, bytes), (records, records * 100));
}

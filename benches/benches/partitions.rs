//! What many partitions cost: CPU time of this process per batch of 100 records of 100 bytes, written to and read from
//! 4 and 10,000 partitions, and what waiting at the end of all of them costs. The embedded broker has a process of its
//! own.
//!
//! `cargo bench -p tidewater-benches --bench partitions [-- BATCHES]`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports to a person and may stop")]

use std::time::{Duration, Instant};

use kafka_wire::config::{ConsumerConfig, Properties};
use kafka_wire::{Consumer, Position, Producer, Record, TopicPartition};
use tidewater_benches::{Broker, cpu_s, values};

const TOPIC: &str = "partitions";
const RECORDS_PER_BATCH: usize = 100;
/// Less than `buffer.memory` holds, lest batches are sent before they are full.
const UNACKNOWLEDGED_BATCHES: usize = 1000;
const IDLE: Duration = Duration::from_secs(10);

fn main() {
    let batches = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(40_000);
    let [few, many] = [4, 10_000].map(|partitions| measure(partitions, batches));
    println!(
        "ratio: produce {:.2}, consume {:.2}",
        many.produce_us / few.produce_us,
        many.read_us / few.read_us
    );
}

/// CPU time per batch.
struct Costs {
    produce_us: f64,
    read_us: f64,
}

fn measure(partitions: i32, batches: usize) -> Costs {
    let broker = Broker::with_partitions(TOPIC, partitions);
    let before = cpu_s();
    produce(&broker.bootstrap, partitions, batches);
    let produce_us = (cpu_s() - before) * 1e6 / batches as f64;
    let before = cpu_s();
    let mut consumer = assigned(&broker.bootstrap, partitions);
    // The first batch comes when all partitions have been looked up.
    let first = read(&mut consumer, 1);
    let started = cpu_s();
    let rest = read(&mut consumer, batches - first);
    let (start_s, read_us) = (started - before, (cpu_s() - started) * 1e6 / rest as f64);
    assert!(consumer.poll_blocking(Duration::from_secs(1)).unwrap().is_empty());
    let (before, since) = (cpu_s(), now());
    assert!(consumer.poll_blocking(IDLE).unwrap().is_empty());
    let idle = (cpu_s() - before) / since.elapsed().as_secs_f64();
    println!(
        "{partitions:6} partitions: produce {produce_us:6.2} µs a batch; start {start_s:.2} s, consume {read_us:6.2} µs \
         a batch, idle {:.1} % of a core",
        idle * 100.0
    );
    Costs { produce_us, read_us }
}

#[allow(clippy::disallowed_methods, reason = "a bench takes the time")]
fn now() -> Instant {
    Instant::now()
}

fn properties(bootstrap: &str, more: &[(&str, &str)]) -> Properties {
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", bootstrap).unwrap();
    for (name, value) in more {
        properties.set(*name, *value).unwrap();
    }
    properties
}

/// Writes `batches` batches, the partitions in turn.
fn produce(bootstrap: &str, partitions: i32, batches: usize) {
    // What 100 records take, and 101 do not.
    let properties = properties(bootstrap, &[("linger.ms", "100"), ("batch.size", "11100")]);
    let producer = Producer::from_properties(&properties).unwrap();
    let values = values();
    let mut values = values.iter().cycle();
    let mut last = Vec::new();
    for batch in 0..batches {
        let receipts: Vec<_> = (&mut values)
            .take(RECORDS_PER_BATCH)
            .map(|value| Record::to(TOPIC).partition(batch as i32 % partitions).value(value))
            .map(|record| producer.enqueue_blocking(record).unwrap())
            .collect();
        last.extend(receipts.into_iter().last());
        if last.len() == UNACKNOWLEDGED_BATCHES || batch + 1 == batches {
            for receipt in last.drain(..) {
                receipt.wait().unwrap();
            }
        }
    }
}

fn assigned(bootstrap: &str, partitions: i32) -> Consumer {
    let config = ConsumerConfig::from_properties(&properties(bootstrap, &[])).unwrap();
    let mut consumer = Consumer::new(config).unwrap();
    let all = (0..partitions).map(|index| (TopicPartition::new(TOPIC, index), Position::Beginning));
    consumer.assign(all).unwrap();
    consumer
}

/// Reads `batches` batches, each value looked at.
fn read(consumer: &mut Consumer, batches: usize) -> usize {
    let mut bytes = 0;
    for _ in 0..batches {
        let batch = consumer.poll_blocking(Duration::from_secs(30)).unwrap();
        assert_eq!(batch.len(), RECORDS_PER_BATCH);
        bytes += batch.iter().map(|record| record.value.map_or(0, <[u8]>::len)).sum::<usize>();
    }
    assert_eq!(bytes, batches * RECORDS_PER_BATCH * 100);
    batches
}

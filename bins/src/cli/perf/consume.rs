//! `perf consume`: reads the topic's partitions from their starts.

use std::time::Duration;

use kafka_wire::config::{ConsumerConfig, Properties};
use kafka_wire::{Consumer, Error, ErrorKind, Position, Result, TopicPartition};

use super::Options;
use super::usage::Work;

/// How long nothing may come before the records are given up.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Reads, counts, and reports.
pub(super) fn run(options: &Options) -> Result<()> {
    let config = configuration(options)?;
    let work = Work::begin();
    let mut consumer = Consumer::new(config)?;
    let partitions = (0..options.partitions)
        .map(|partition| (TopicPartition::new(options.topic.as_str(), partition), Position::Beginning));
    consumer.assign(partitions)?;
    let (mut seen, mut bytes, mut xor) = (0, 0, 0);
    while seen < options.records {
        let batch = consumer.poll_blocking(SILENCE_MAX)?;
        if batch.is_empty() {
            let attempted = format!("read {} records of topic '{}'", options.records, options.topic);
            let error = Error::new(ErrorKind::Timeout, attempted);
            return Err(error.with_hint(format!("it seems to hold {seen}")));
        }
        for record in &batch {
            let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
            seen += 1;
            bytes += (key.len() + value.len()) as u64;
            xor ^= key.first().unwrap_or(&0) ^ value.first().unwrap_or(&0);
        }
    }
    // Looked at, so that the compiler cannot leave the reading out.
    std::hint::black_box(xor);
    work.report("consume", seen, bytes);
    Ok(())
}

fn configuration(options: &Options) -> Result<ConsumerConfig> {
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", options.bootstrap.as_str())?;
    for entry in &options.set {
        properties.set_entry(entry)?;
    }
    ConsumerConfig::from_properties(&properties)
}

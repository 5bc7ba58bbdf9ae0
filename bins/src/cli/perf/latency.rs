//! `perf latency`: how old a record is when it is read, at a steady rate that loads nothing.

use std::thread;
use std::time::Duration;

use kafka_wire::config::{ConsumerConfig, ProducerConfig, Properties};
use kafka_wire::{Consumer, Error, ErrorKind, Position, Producer, Record, Result, TopicPartition};

use super::Options;
use super::payload::Payloads;
use super::usage::Work;
use crate::cli::verifiable::Clock;

/// How long nothing may come before the records are given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The time of the send is at the front of a value.
const STAMP_BYTES: usize = 8;

/// Sends on one thread, reads on this one, and reports.
pub(super) fn run(options: &Options) -> Result<()> {
    let mut consumer = consumer_at_the_end(options)?;
    let producer = Producer::new(ProducerConfig::from_properties(&properties(
        options,
        &[
            ("acks", options.acks.as_str()),
            ("linger.ms", &options.linger_ms.to_string()),
            ("compression.type", options.codec.name()),
        ],
    )?)?)?;
    let clock = Clock::start();
    let work = Work::begin();
    let mut ages_us = Vec::with_capacity(usize::try_from(options.records).unwrap_or(0));
    let mut bytes = 0;
    thread::scope(|scope| {
        let sender = scope.spawn(|| send(options, &producer, clock));
        while (ages_us.len() as u64) < options.records {
            let batch = consumer.poll_blocking(SILENCE_MAX)?;
            if batch.is_empty() {
                break;
            }
            for record in &batch {
                bytes += (record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)) as u64;
                let stamp = record.value.and_then(|value| value.first_chunk()).copied().unwrap_or_default();
                ages_us.push(
                    (clock.elapsed().as_nanos() as u64).saturating_sub(u64::from_le_bytes(stamp)) / 1000,
                );
            }
        }
        sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let ok = ages_us.len() as u64;
    ages_us.sort_unstable();
    let at = |share: f64| {
        let place = ((ages_us.len() as f64 * share) as usize).min(ages_us.len().saturating_sub(1));
        ages_us.get(place).copied().unwrap_or(0)
    };
    let of_latency = [("p50_us", at(0.5)), ("p99_us", at(0.99)), ("p999_us", at(0.999)), ("max_us", at(1.0))];
    work.report_with("latency", ok, bytes, &of_latency);
    if ok == options.records {
        return Ok(());
    }
    let attempted = format!("read back {} records of topic '{}': {ok} came", options.records, options.topic);
    Err(Error::new(ErrorKind::Timeout, attempted))
}

fn send(options: &Options, producer: &Producer, clock: Clock) -> Result<()> {
    let payloads = Payloads::new(options.size);
    let mut value = vec![b'x'; options.size.saturating_sub(8).max(STAMP_BYTES)];
    let mut last = None;
    for index in 0..options.records {
        clock.wait_for_turn(index, options.rate);
        value[..STAMP_BYTES].copy_from_slice(&(clock.elapsed().as_nanos() as u64).to_le_bytes());
        let (key, _) = payloads.record(index);
        last = Some(producer.enqueue_blocking(Record::to(&options.topic).key(key).value(&value))?);
    }
    last.map_or(Ok(()), |receipt| receipt.wait().map(drop))
}

/// A consumer that stands behind the last record of every partition.
fn consumer_at_the_end(options: &Options) -> Result<Consumer> {
    let mut consumer = Consumer::new(ConsumerConfig::from_properties(&properties(options, &[])?)?)?;
    let partitions: Vec<_> = (0..options.partitions)
        .map(|partition| TopicPartition::new(options.topic.as_str(), partition))
        .collect();
    consumer.assign(partitions.iter().map(|partition| (partition.clone(), Position::End)))?;
    super::block_on(async {
        for partition in &partitions {
            consumer.position(partition).await?;
        }
        Ok(())
    })?;
    Ok(consumer)
}

fn properties(options: &Options, own: &[(&str, &str)]) -> Result<Properties> {
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", options.bootstrap.as_str())?;
    for (name, value) in own {
        properties.set(*name, *value)?;
    }
    for entry in &options.set {
        properties.set_entry(entry)?;
    }
    Ok(properties)
}

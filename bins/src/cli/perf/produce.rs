//! `perf produce`: writes keyed records, and counts what is acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kafka_wire::config::{ProducerConfig, Properties};
use kafka_wire::{Error, ErrorKind, Producer, Record, Result};

use super::Options;
use super::payload::Payloads;
use super::usage::Work;

/// Sends, waits for the last acknowledgement, and reports.
pub(super) fn run(options: &Options) -> Result<()> {
    let config = configuration(options)?;
    let payloads = Payloads::new(options.size);
    let acknowledged = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&acknowledged);
    let work = Work::begin();
    let producer = Producer::with_delivery_callback(config, move |fate| {
        if let Ok(batch) = fate {
            counter.fetch_add(u64::from(batch.records), Ordering::Relaxed);
        }
    })?;
    let mut bytes = 0;
    let mut last = None;
    for index in 0..options.records {
        let (key, value) = payloads.record(index);
        bytes += (key.len() + value.len()) as u64;
        last = Some(producer.enqueue_blocking(Record::to(&options.topic).key(key).value(value))?);
    }
    super::block_on(async {
        producer.flush().await;
        Ok(())
    })?;
    let ok = acknowledged.load(Ordering::Relaxed);
    work.report("produce", ok, bytes);
    if ok == options.records {
        return Ok(());
    }
    let text =
        format!("write {} records to topic '{}': {ok} were acknowledged", options.records, options.topic);
    let error = Error::new(ErrorKind::Timeout, text);
    Err(match last.and_then(|receipt| receipt.wait().err()) {
        Some(cause) => error.with_cause(cause),
        None => error,
    })
}

fn configuration(options: &Options) -> Result<ProducerConfig> {
    let mut properties = Properties::new();
    properties.set("bootstrap.servers", options.bootstrap.as_str())?;
    properties.set("acks", options.acks.as_str())?;
    properties.set("linger.ms", options.linger_ms.to_string())?;
    properties.set("compression.type", options.codec.name())?;
    for entry in &options.set {
        properties.set_entry(entry)?;
    }
    ProducerConfig::from_properties(&properties)
}

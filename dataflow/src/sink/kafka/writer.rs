//! A worker's share of the output: encoded as it comes into one batch per partition and epoch.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kafka_wire::record::{BatchBuilder, SealedBatch};
use kafka_wire::{BatchReceipt, TopicPartition, partition_for_key};

use super::Key;
use crate::commit::kafka::{KafkaTransaction, failed};
use crate::engine::crash;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Encode;
use crate::sink::Writer;

pub(super) struct KafkaWriter<E: Encode> {
    topic: Arc<str>,
    format: E,
    key: Option<Key<E::Item>>,
    transaction: Arc<KafkaTransaction>,
    partitions: u32,
    /// Where records without a key go, until their batch is full.
    keyless: i32,
    epochs: BTreeMap<u64, Output>,
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
}

/// The output of one epoch.
#[derive(Default)]
struct Output {
    /// By partition.
    open: BTreeMap<i32, BatchBuilder>,
    full: Vec<(i32, SealedBatch)>,
    sent: VecDeque<BatchReceipt>,
}

impl<E: Encode> KafkaWriter<E> {
    pub(super) fn new(
        topic: Arc<str>,
        format: E,
        key: Option<Key<E::Item>>,
        transaction: Arc<KafkaTransaction>,
        partitions: u32,
        worker: usize,
    ) -> Self {
        let keyless = (worker % partitions.max(1) as usize) as i32;
        Self {
            topic,
            format,
            key,
            transaction,
            partitions,
            keyless,
            epochs: BTreeMap::new(),
            key_bytes: Vec::new(),
            value_bytes: Vec::new(),
        }
    }

    /// Encodes one item; true when that has filled a batch.
    fn append(&mut self, output: &mut Output, item: &E::Item, time_ms: i64) -> Result<bool> {
        self.value_bytes.clear();
        self.format.encode(item, &mut self.value_bytes).map_err(|error| {
            Error::new(ErrorKind::Format, format!("write topic \"{}\"", self.topic)).with_cause(error)
        })?;
        let key = self.key.as_ref().map(|key| {
            self.key_bytes.clear();
            key(item, &mut self.key_bytes);
            self.key_bytes.as_slice()
        });
        let partition = key.map_or(self.keyless, |key| partition_for_key(key, self.partitions));
        // Kafka has no times before 1970; −1 stands for none.
        let timestamp_ms = time_ms.max(-1);
        let value = Some(self.value_bytes.as_slice());
        let (limit, compression) = (self.transaction.batch_bytes, self.transaction.compression);
        let mut filled = false;
        if let Some(batch) = output.open.get(&partition)
            && batch.size_bytes() + batch.record_size(timestamp_ms, key, value, &[]) > limit
            && let Some(full) = output.open.remove(&partition)
        {
            output.full.push((partition, full.seal()));
            filled = true;
        }
        let batch =
            output.open.entry(partition).or_insert_with(|| BatchBuilder::new(compression, FIRST_BYTES));
        batch.append(timestamp_ms, key, value, &[]).map_err(|error| {
            failed(format!("write topic \"{}\" partition {partition}", self.topic), error)
        })?;
        if filled && key.is_none() {
            self.keyless = (self.keyless + 1) % self.partitions.max(1) as i32;
        }
        Ok(filled)
    }

    fn send(&self, output: &mut Output) -> Result<()> {
        for (partition, batch) in output.full.drain(..) {
            let partition = TopicPartition::new(Arc::clone(&self.topic), partition);
            output.sent.push_back(self.transaction.produce(partition, batch)?);
        }
        Ok(())
    }
}

impl<E: Encode> Writer for KafkaWriter<E> {
    type Item = E::Item;

    fn write(&mut self, epoch: u64, items: Vec<E::Item>, times_ms: &[i64]) -> Result<()> {
        let mut output = self.epochs.remove(&epoch).unwrap_or_default();
        let mut filled = false;
        for (item, time_ms) in items.iter().zip(times_ms) {
            filled |= self.append(&mut output, item, *time_ms)?;
        }
        if filled && self.transaction.is_turn(epoch) {
            self.send(&mut output)?;
        }
        self.epochs.insert(epoch, output);
        Ok(())
    }

    fn poll_send(&mut self, epoch: u64, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(mut output) = self.epochs.remove(&epoch) else { return Poll::Ready(Ok(())) };
        let open = std::mem::take(&mut output.open);
        output.full.extend(open.into_iter().map(|(partition, batch)| (partition, batch.seal())));
        self.send(&mut output)?;
        while let Some(receipt) = output.sent.front_mut() {
            match Pin::new(receipt).poll(cx) {
                Poll::Ready(Ok(_)) => drop(output.sent.pop_front()),
                Poll::Ready(Err(error)) => {
                    let attempted = format!("write topic \"{}\" in epoch {epoch}", self.topic);
                    return Poll::Ready(Err(self.transaction.failed(attempted, error)));
                }
                Poll::Pending => {
                    self.epochs.insert(epoch, output);
                    return Poll::Pending;
                }
            }
        }
        crash::at("outputs-sent");
        Poll::Ready(Ok(()))
    }
}

/// What a batch begins with; it grows as it fills, and most epochs fill little.
const FIRST_BYTES: usize = 16 * 1024;
